//! The gate as a process of its own, and what the system says about it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long it may take to start.
const PATIENCE: Duration = Duration::from_secs(60);

/// A rule that admits everything.
pub(crate) const ADMIT_ALL: &str = "- {name: \"*\", policy: {}}";

/// A gate with one upstream, `up.test`.
pub(crate) struct Gate {
    child: Child,
    /// `127.0.0.1:PORT` of its listener.
    pub(crate) address: String,
    /// `127.0.0.1:PORT` of its admin listener.
    pub(crate) admin: String,
}

impl Gate {
    /// Writes the configuration into a folder, with one document that has these entries.
    pub(crate) fn configure(dir: &Path, upstream: &str, entries: &str) {
        fs::create_dir_all(dir.join("policies")).unwrap();
        let policy = format!(
            "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {{name: default}}\nspec:\n  \
             repositories:\n  {entries}\n"
        );
        fs::write(dir.join("policies/default.yaml"), policy).unwrap();
        let config = format!(
            "state_dir = \"state\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
             [policy]\ndir = \"policies\"\n[[upstream]]\nhost = \"up.test\"\nurl = \"{upstream}\"\ntag_ttl = \"24h\"\n",
        );
        fs::write(dir.join("pullgate.toml"), config).unwrap();
    }

    /// Starts it in a folder that is configured, and returns when it listens.
    pub(crate) fn start(program: &Path, dir: &Path) -> Self {
        let (ready, log) = (dir.join("ready.json"), dir.join("log"));
        let _ = fs::remove_file(&ready);
        let log_file = fs::File::options().create(true).append(true).open(&log).unwrap();
        let child = Command::new(program)
            .arg("serve")
            .arg("--config")
            .arg(dir.join("pullgate.toml"))
            .arg("--ready-file")
            .arg(&ready)
            .stdin(Stdio::null())
            .stdout(log_file.try_clone().unwrap())
            .stderr(log_file)
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}", program.display()));
        let mut gate = Self { child, address: String::new(), admin: String::new() };
        let began = Instant::now();
        while gate.address.is_empty() {
            let bound = fs::read_to_string(&ready).ok().and_then(|text| serde_json::from_str(&text).ok());
            let bound: serde_json::Value = bound.unwrap_or_default();
            gate.address = bound["listeners"][0].as_str().unwrap_or_default().to_owned();
            gate.admin = bound["admin"].as_str().unwrap_or_default().to_owned();
            assert!(began.elapsed() < PATIENCE, "it does not start: {}", fs::read_to_string(&log).unwrap_or_default());
            std::thread::sleep(Duration::from_millis(2));
        }
        gate
    }

    /// Anonymous resident memory, in bytes: what the program itself takes, without mapped files.
    pub(crate) fn memory(&self) -> u64 {
        let status = fs::read_to_string(self.proc("status")).unwrap_or_default();
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap_or_default();
        line.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or_default() * 1024
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn stop(mut self) {
        self.end();
    }

    fn end(&mut self) {
        if let Some(pid) = rustix::process::Pid::from_raw(i32::try_from(self.child.id()).unwrap()) {
            let _ = rustix::process::kill_process(pid, rustix::process::Signal::TERM);
        }
        let _ = self.child.wait();
    }

    /// A file of the process in /proc.
    pub(crate) fn proc(&self, file: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{file}", self.child.id()))
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.end();
    }
}
