//! The pages of the documentation, followed as a reader follows them: their blocks are run in order, on an empty machine.
//!
//! The word after a fence says what happens with the block:
//!
//! | block | what happens |
//! |---|---|
//! | `sh` | it is run; each of its commands must succeed |
//! | `console` | what follows `$ ` or `# ` is run, and its output is compared with the lines below it |
//! | `sh elsewhere: WHY` | it cannot be run here; the page's test takes it and checks it in another way |
//! | `text` | it is only shown |
//! | any other, such as `toml` | a file or a part of one; the page's test takes it and uses it |
//!
//! In expected output, `…` is any text, all digests and all durations are equal, and a line break counts as a space.

use std::collections::VecDeque;
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use regex::Regex;
use socket2::{Domain, Socket, Type};
use tempfile::TempDir;

use super::{Daemon, Finished, Program, program};

/// A directory with nothing but the program, in which pages are followed.
pub(crate) struct Machine {
    gates: Vec<RunningGate>,
    /// What is different from the page, such as addresses, in the order in which it is replaced.
    replacements: Vec<(String, String)>,
    environment: Vec<(String, String)>,
    /// Sockets that keep their ports for the gates of the pages.
    ports: Vec<Socket>,
    dir: TempDir,
}

struct RunningGate {
    daemon: Daemon,
    configuration: PathBuf,
    socket: PathBuf,
}

impl Machine {
    /// A new one.
    pub(crate) fn new() -> Self {
        let dir = tempfile::tempdir().expect("a directory");
        fs::create_dir(dir.path().join("bin")).expect("a directory");
        std::os::unix::fs::symlink(program(), dir.path().join("bin/pullgate")).expect("a link");
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/bin");
        let path = std::env::var("PATH").expect("a path");
        let path = format!("{}:{}:{path}", dir.path().join("bin").display(), tools.display());
        let environment = vec![("PATH".to_owned(), path)];
        Self { gates: Vec::new(), replacements: Vec::new(), environment, ports: Vec::new(), dir }
    }

    /// The directory in which commands run.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Replaces a text of the pages in all that follows: commands, files and expected output.
    pub(crate) fn replace(&mut self, text: &str, by: impl Into<String>) {
        self.replacements.push((text.to_owned(), by.into()));
    }

    /// Sets an environment variable for all that follows.
    pub(crate) fn set(&mut self, variable: &str, value: &str) {
        self.unset(variable);
        self.environment.push((variable.to_owned(), value.to_owned()));
    }

    /// Removes an environment variable for all that follows.
    pub(crate) fn unset(&mut self, variable: &str) {
        self.environment.retain(|(known, _)| known != variable);
    }

    /// `127.0.0.1:PORT` with a port that the system chooses and gives to nobody else while the machine exists: the socket
    /// that is bound here never listens, so a listener with `SO_REUSEADDR`, as any server's, may bind the port too.
    pub(crate) fn reserve(&mut self) -> String {
        loop {
            let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
            socket.set_reuse_address(true).expect("an option of a socket");
            socket.bind(&SocketAddr::from(([127, 0, 0, 1], 0)).into()).expect("a free port");
            let address = socket.local_addr().expect("an address").as_socket().expect("an address").to_string();
            self.ports.push(socket);
            // Ports of the pages are replaced, and so would be one that begins like them.
            if !address.contains(":500") {
                return address;
            }
        }
    }

    /// The text with the machine's own addresses.
    pub(crate) fn localised(&self, text: &str) -> String {
        self.replacements.iter().fold(text.to_owned(), |text, (from, to)| text.replace(from, to))
    }

    /// Runs commands of a page or of its test.
    pub(crate) fn sh(&self, commands: &str) -> Finished {
        let script = format!("cd '{}'\n{}", self.dir().display(), self.localised(commands));
        self.prepared(Program::new("sh", self.dir())).args(["-ec", &script]).run()
    }

    /// A program with the machine's environment.
    pub(crate) fn prepared(&self, program: Program) -> Program {
        self.environment.iter().fold(program, |program, (variable, value)| program.env(variable, value))
    }

    /// Writes a file, and its directories.
    pub(crate) fn write(&self, file: &str, text: &str) {
        let path = self.dir().join(file);
        fs::create_dir_all(path.parent().expect("a directory")).expect("directories");
        fs::write(path, self.localised(text)).expect("a file");
    }

    /// Adds lines to the end of a file.
    pub(crate) fn append(&self, file: &str, text: &str) {
        let before = fs::read_to_string(self.dir().join(file)).expect("a file");
        fs::write(self.dir().join(file), format!("{before}\n{}\n", self.localised(text))).expect("a file");
    }

    /// Starts a gate with this configuration, and waits until its listeners are open.
    pub(crate) fn serve(&mut self, configuration: &str) {
        let file = self.dir().join(configuration);
        let folder = file.parent().expect("a directory").to_owned();
        let ready = folder.join("ready.json");
        // A file of an earlier process would be taken for the answer of this one.
        let _ = fs::remove_file(&ready);
        let (dir, shown) = (self.dir().display(), ready.display());
        let command = format!("cd '{dir}' && exec bin/pullgate serve --config {configuration} --ready-file '{shown}'");
        let program = self.prepared(Program::daemon("sh", self.dir())).args(["-c", &command]);
        let mut daemon = Daemon::start("pullgate", program, &folder.join("log"), None);
        daemon.wait_for(|| fs::read_to_string(&ready).ok().filter(|text| !text.is_empty()));
        self.gates.push(RunningGate { daemon, configuration: file, socket: folder.join("state/admin.sock") });
    }

    /// Names a gate that the test itself has started, by its configuration.
    pub(crate) fn adopt(&mut self, daemon: Daemon, configuration: &Path) {
        let socket = configuration.parent().expect("a directory").join("state/admin.sock");
        self.gates.push(RunningGate { daemon, configuration: configuration.to_owned(), socket });
    }

    /// The gate with this configuration.
    pub(crate) fn gate(&mut self, configuration: &str) -> &mut Daemon {
        let configuration = self.dir().join(configuration);
        let gate = self.gates.iter_mut().find(|gate| gate.configuration == configuration);
        &mut gate.expect("a running gate").daemon
    }

    /// Polls until the probe has a value; panics with the gate's log if that ends or time runs out.
    pub(crate) fn wait_for<T>(&mut self, configuration: &str, probe: impl Fn(&Self) -> Option<T>) -> T {
        let configuration = self.dir().join(configuration);
        let place = self.gates.iter().position(|gate| gate.configuration == configuration).expect("a running gate");
        let mut gate = self.gates.remove(place);
        let found = gate.daemon.wait_for(|| probe(self));
        self.gates.push(gate);
        found
    }

    /// Stops a gate, and waits until it has ended.
    pub(crate) fn stop(&mut self, configuration: &str) {
        let configuration = self.dir().join(configuration);
        self.gates.retain(|gate| gate.configuration != configuration);
    }

    /// Stops a gate and starts it again.
    pub(crate) fn restart(&mut self, configuration: &str) {
        self.stop(configuration);
        self.serve(configuration);
    }

    /// Has every gate load its files again. They notice changes by themselves, a second or two later. A gate without policies
    /// yet answers that a part is refused.
    pub(crate) fn reload(&self) {
        for gate in &self.gates {
            let curl = ["--silent", "--show-error", "--output", "/dev/null", "--write-out", "%{http_code}"];
            let target = [gate.socket.as_os_str(), "http://gate/api/v1/reload".as_ref()];
            let post =
                Program::new("curl", self.dir()).args(curl).args(["--request", "POST", "--unix-socket"]).args(target);
            let status = post.run().text();
            assert!(matches!(&*status, "200" | "422"), "{status}");
        }
    }

    /// Begins with a page, whose path is relative to the checkout.
    pub(crate) fn walk(&mut self, page: &str) -> Walk<'_> {
        Walk { blocks: blocks(page).into(), page: page.to_owned(), machine: self }
    }
}

/// A fenced block of a page.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(crate) struct Block {
    /// What it is: `sh`, `console`, `elsewhere`, `text`, or the language of a file.
    pub(crate) kind: String,
    /// Its lines, without the indentation of the fence.
    pub(crate) text: String,
    /// The line of the fence.
    pub(crate) line: usize,
}

/// The fenced blocks of a page. Panics if one has no language, or is not run and does not say why.
pub(crate) fn blocks(page: &str) -> Vec<Block> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(page);
    let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{page}: {error}"));
    let mut found = Vec::new();
    let mut lines = text.lines().enumerate();
    while let Some((number, line)) = lines.next() {
        let Some(fence) = line.trim_start().strip_prefix("```") else { continue };
        let indentation = line.len() - line.trim_start().len();
        let body = lines.by_ref().map(|(_, line)| line).take_while(|line| line.trim() != "```");
        let body: Vec<&str> = body.map(|line| line.get(indentation..).unwrap_or_default()).collect();
        let kind = match fence.split_once(' ') {
            None if fence.is_empty() => panic!("{page}:{}: a block without a language", number + 1),
            None => fence,
            Some(("sh", why)) if why.strip_prefix("elsewhere: ").is_some_and(|why| !why.is_empty()) => "elsewhere",
            Some(_) => panic!("{page}:{}: unknown words after a fence: {fence}", number + 1),
        };
        found.push(Block { kind: kind.to_owned(), text: body.join("\n"), line: number + 1 });
    }
    found
}

/// A page that is being followed.
pub(crate) struct Walk<'m> {
    /// Where it is followed.
    pub(crate) machine: &'m mut Machine,
    page: String,
    blocks: VecDeque<Block>,
}

impl Walk<'_> {
    /// Leaves out the blocks of this kind: files that other tests read.
    pub(crate) fn without(mut self, kind: &str) -> Self {
        self.blocks.retain(|block| block.kind != kind);
        self
    }

    /// Runs the blocks before the next one of this kind, and returns that one without running it.
    #[track_caller]
    pub(crate) fn take(&mut self, kind: &str) -> Block {
        loop {
            let block = self.blocks.pop_front();
            let block = block.unwrap_or_else(|| panic!("{}: no further block `{kind}`", self.page));
            if block.kind == kind {
                return block;
            }
            self.run(&block);
        }
    }

    /// The same, for a block that contains this text.
    #[track_caller]
    pub(crate) fn take_with(&mut self, kind: &str, text: &str) -> Block {
        let block = self.take(kind);
        assert!(block.text.contains(text), "{}:{}: expected {text:?} in\n{}", self.page, block.line, block.text);
        block
    }

    /// Runs all blocks that are left.
    #[track_caller]
    pub(crate) fn finish(mut self) {
        while let Some(block) = self.blocks.pop_front() {
            self.run(&block);
        }
    }

    /// Runs a block.
    #[track_caller]
    pub(crate) fn run(&mut self, block: &Block) {
        match &*block.kind {
            "sh" if block.text.starts_with("pullgate serve --config ") => {
                let configuration = block.text.rsplit(' ').next().expect("a file");
                self.machine.serve(configuration);
            }
            "sh" => {
                let finished = self.machine.sh(&block.text);
                assert!(finished.succeeded(), "{}:{} failed:\n{}", self.page, block.line, finished.output());
                self.machine.reload();
            }
            "console" => self.compare(block),
            "text" => (),
            kind => panic!("{}:{}: no test uses this block of `{kind}`", self.page, block.line),
        }
    }

    /// Runs the commands of a `console` block, and compares what they print.
    #[track_caller]
    fn compare(&mut self, block: &Block) {
        for (command, expected) in sessions(&block.text) {
            // Some commands of pages show a refusal: their exit code is not 0.
            let output = self.machine.sh(&format!("({command}\n) || true")).output();
            let expected = self.machine.localised(&expected);
            assert!(
                agree(&expected, &output),
                "{}:{}: `{command}` printed\n{output}\nand not\n{expected}",
                self.page,
                block.line
            );
            self.machine.reload();
        }
    }
}

/// The commands of a `console` block, each with the output below it.
fn sessions(text: &str) -> Vec<(String, String)> {
    let mut sessions: Vec<(String, String)> = Vec::new();
    let mut continues = false;
    for line in text.lines() {
        let command = line.strip_prefix("$ ").or_else(|| line.strip_prefix("# "));
        match (command, sessions.last_mut()) {
            (Some(command), _) => sessions.push((command.to_owned(), String::new())),
            (None, Some((command, _))) if continues => command.push_str(&format!("\n{line}")),
            (None, Some((_, output))) => output.push_str(&format!("{line}\n")),
            (None, None) => panic!("a `console` block begins with a command, not with {line:?}"),
        }
        continues = (command.is_some() || continues) && line.ends_with('\\');
    }
    sessions
}

/// Whether an output is the expected one.
fn agree(expected: &str, output: &str) -> bool {
    let digest = Regex::new("sha256:[0-9a-f]{64}").expect("a pattern");
    let duration = Regex::new(r"dur=[0-9]+\.[0-9]").expect("a pattern");
    let normal = |text: &str| {
        let words: Vec<&str> = text.split_whitespace().collect();
        let text = digest.replace_all(&words.join(" "), "sha256:DIGEST").into_owned();
        duration.replace_all(&text, "dur=N").into_owned()
    };
    // The spaces around it belong to what it stands for.
    let pattern = regex::escape(&normal(expected)).replace("… ", "…").replace(" …", "…").replace('…', ".*");
    Regex::new(&format!("(?s)^{pattern}$")).expect("a pattern").is_match(&normal(output))
}

#[test]
fn console_blocks_are_commands_with_their_output() {
    let text = "$ echo a \\\n    b\na b\n$ true\n# id -u\n0";
    let expected = [("echo a \\\n    b", "a b\n"), ("true", ""), ("id -u", "0\n")];
    assert_eq!(sessions(text), expected.map(|(command, output)| (command.to_owned(), output.to_owned())));
    assert!(agree("a … d", "a\n  b c\n d\n") && agree("…\na", "a") && agree("", "\n"));
    assert!(!agree("a … d", "a b c") && !agree("a", "a b") && !agree("a.c", "abc"));
    let digest = |end: char| format!("at sha256:{}{end}", "0".repeat(63));
    assert!(agree(&digest('a'), &digest('b')) && !agree(&digest('a'), &digest('x')));
    assert!(agree("total;dur=9.3", "total;dur=10.0") && !agree("total;dur=9.3", "pin;dur=9.3"));
}
