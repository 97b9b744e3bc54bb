//! External programs, run to completion or for the duration of a test. Every wait is bounded.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// The time limit for a program, in seconds; the longest one unpacks a Debian system on a busy machine.
const PROGRAM_SECONDS: &str = "180";

/// The time limit for the start of a daemon.
const START_TIMEOUT: Duration = Duration::from_secs(60);

/// How long a daemon may take to exit before it is killed.
const GRACE: Duration = Duration::from_secs(15);

/// The polling interval for daemons, which provide no event to wait for.
const PAUSE: Duration = Duration::from_millis(20);

/// The number of log lines shown when a test fails.
const LAST_LINES: usize = 20;

/// A program to run with a separate home directory and environment.
pub(crate) struct Program(Command);

impl Program {
    /// `name` from the path or from `tests/tools`, with `home` as home, configuration and runtime directory.
    pub(crate) fn new(name: &str, home: &Path) -> Self {
        Self::wrapped(&["timeout", "--kill-after=5", PROGRAM_SECONDS], name, home)
    }

    /// The same as [`Program::new`], for [`Daemon::start`]: it receives a signal when the test process ends.
    pub(crate) fn daemon(name: &str, home: &Path) -> Self {
        Self::wrapped(&["setpriv", "--pdeathsig", "TERM"], name, home)
    }

    fn wrapped(wrapper: &[&str], name: &str, home: &Path) -> Self {
        let mut command = Command::new(wrapper[0]);
        command.args(&wrapper[1..]).arg(located(name)).stdin(Stdio::null());
        for variable in
            ["HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy", "ALL_PROXY", "all_proxy", "DOCKER_CONFIG"]
        {
            command.env_remove(variable);
        }
        for variable in ["HOME", "XDG_CONFIG_HOME", "XDG_RUNTIME_DIR", "XDG_DATA_HOME", "TMPDIR"] {
            command.env(variable, home);
        }
        Self(command)
    }

    /// Adds arguments.
    pub(crate) fn args<S: AsRef<OsStr>>(mut self, arguments: impl IntoIterator<Item = S>) -> Self {
        self.0.args(arguments);
        self
    }

    /// Sets an environment variable.
    pub(crate) fn env(mut self, key: &str, value: impl AsRef<OsStr>) -> Self {
        self.0.env(key, value);
        self
    }

    /// Runs the program to completion.
    pub(crate) fn run(mut self) -> Finished {
        let command = format!("{:?}", self.0);
        let output = self.0.output().unwrap_or_else(|error| panic!("{command}: {error}"));
        Finished {
            command,
            success: output.status.success(),
            stdout: output.stdout,
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    }
}

/// A program that has exited.
pub(crate) struct Finished {
    command: String,
    success: bool,
    stdout: Vec<u8>,
    stderr: String,
}

impl Finished {
    /// Whether the program succeeded.
    pub(crate) fn succeeded(&self) -> bool {
        self.success
    }

    /// Its standard output, whether it succeeded or not.
    pub(crate) fn into_stdout(self) -> Vec<u8> {
        self.stdout
    }

    /// Its standard output; panics unless it succeeded.
    #[track_caller]
    pub(crate) fn bytes(self) -> Vec<u8> {
        assert!(self.success, "{}\nfailed:\n{}", self.command, self.output());
        self.stdout
    }

    /// The same as [`Finished::bytes`], as text without the final line break.
    #[track_caller]
    pub(crate) fn text(self) -> String {
        String::from_utf8(self.bytes()).expect("text on standard output").trim_end().to_owned()
    }

    /// Everything that a user would see on the terminal; panics unless the program failed.
    #[track_caller]
    pub(crate) fn refusal(self) -> String {
        assert!(!self.success, "{}\nsucceeded, but should have failed:\n{}", self.command, self.output());
        self.output()
    }

    /// Everything that a user would see on the terminal.
    pub(crate) fn output(&self) -> String {
        format!("{}{}", String::from_utf8_lossy(&self.stdout), self.stderr)
    }
}

/// A program that runs until the value is dropped.
pub(crate) struct Daemon {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Daemon {
    /// Starts it with output to `log`; standard output goes to `output` if that is given.
    pub(crate) fn start(name: &str, mut program: Program, log: &Path, output: Option<&Path>) -> Self {
        let stderr = File::create(log).expect("a log file");
        let stdout = match output {
            Some(path) => File::create(path).expect("an output file"),
            None => stderr.try_clone().expect("a second handle of the log file"),
        };
        let child = program.0.stdout(stdout).stderr(stderr).spawn();
        let child = child.unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self { name: name.to_owned(), child, log: log.to_owned() }
    }

    /// Polls `probe` until it returns a value; panics with the log if the daemon exits or time runs out.
    pub(crate) fn wait_for<T>(&mut self, mut probe: impl FnMut() -> Option<T>) -> T {
        let end = Instant::now() + START_TIMEOUT;
        loop {
            if let Some(found) = probe() {
                return found;
            }
            let ended = self.child.try_wait().expect("the state of a child");
            assert!(ended.is_none(), "{} ended ({ended:?}):\n{}", self.name, self.log());
            assert!(Instant::now() < end, "{} did not become ready in time:\n{}", self.name, self.log());
            thread::sleep(PAUSE);
        }
    }

    /// Everything written to the log so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    fn ends_within(&mut self, time: Duration) -> bool {
        let end = Instant::now() + time;
        while Instant::now() < end {
            if matches!(self.child.try_wait(), Ok(Some(_))) {
                return true;
            }
            thread::sleep(PAUSE);
        }
        false
    }
}

impl Drop for Daemon {
    /// Asks the daemon to exit, so that it stops its own children, and kills it otherwise.
    fn drop(&mut self) {
        // A daemon that has already exited is not an error, nor is one that can no longer be signalled.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        if !self.ends_within(GRACE) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().rev().take(LAST_LINES).collect();
            eprintln!("--- last lines of {}:", self.name);
            lines.iter().rev().for_each(|line| eprintln!("{line}"));
        }
    }
}

/// The program built by `tests/tools`, or else the name, to be found in the path.
fn located(name: &str) -> PathBuf {
    let built = Path::new(env!("CARGO_MANIFEST_DIR")).join(".tools/bin").join(name);
    if built.exists() { built } else { PathBuf::from(name) }
}
