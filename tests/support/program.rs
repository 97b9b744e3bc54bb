//! The real program as a separate process, with the configuration of the harness.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::harness::{HOST, TestGate};
use crate::support::{Answer, request, soon};

/// A running `pullgate serve`, killed when dropped.
pub(crate) struct Program {
    child: Child,
    log: PathBuf,
    url: String,
    admin: String,
}

impl Program {
    /// Starts the program and waits until it is ready.
    pub(crate) async fn start(made_of: &TestGate) -> Self {
        Self::start_with_umask(made_of, "022").await
    }

    /// The same with a given umask.
    pub(crate) async fn start_with_umask(made_of: &TestGate, umask: &str) -> Self {
        made_of.config();
        let folder = made_of.path();
        let (ready, log) = (folder.join("ready.json"), folder.join("log"));
        // A file of an earlier process would contain old ports.
        let _ = fs::remove_file(&ready);
        let child = Command::new("/bin/sh")
            .args(["-c", "umask $0 && exec \"$@\"", umask])
            .arg(env!("CARGO_BIN_EXE_pullgate"))
            .arg("serve")
            .arg("--config")
            .arg(folder.join("pullgate.toml"))
            .arg("--ready-file")
            .arg(&ready)
            .stdin(Stdio::null())
            .stdout(fs::File::create(&log).expect("a log file"))
            .stderr(fs::File::options().append(true).open(&log).expect("a log file"))
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        let mut program = Self { child, log, url: String::new(), admin: String::new() };
        let text = soon(program.written(&ready)).await;
        let places: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let place = |value: &serde_json::Value| format!("http://{}", value.as_str().expect("an address"));
        program.url = place(&places["listeners"][0]);
        program.admin = place(&places["admin"]);
        soon(async { while request("GET", &program.admin_url("/readyz"), &[]).await.status != 200 {} }).await;
        program
    }

    /// Waits for the file and returns its content.
    async fn written(&mut self, file: &std::path::Path) -> String {
        loop {
            if let Ok(text) = fs::read_to_string(file) {
                return text;
            }
            if let Some(status) = self.child.try_wait().expect("the child can be asked") {
                panic!("the program ended ({status}) before it was ready:\n{}", self.log());
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// The process id.
    pub(crate) fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// The log output.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The URL for a path on the upstream, such as `/library/x/manifests/1`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/v2/{HOST}{path}", self.url)
    }

    /// A URL on the admin listener.
    pub(crate) fn admin_url(&self, path: &str) -> String {
        format!("{}{path}", self.admin)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        request("GET", &self.url(path), &[]).await
    }

    /// The value of a metric without labels.
    pub(crate) async fn metric(&self, name: &str) -> u64 {
        let text = request("GET", &self.admin_url("/metrics"), &[]).await.text();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("{name} is not in {text}")).parse().expect("a number")
    }

    /// Kills the program with SIGKILL, and waits until it is gone.
    pub(crate) async fn kill(mut self) {
        self.child.start_kill().expect("it runs");
        soon(self.child.wait()).await.expect("it can be waited for");
    }

    /// Asks the program to exit, and waits until it has.
    pub(crate) async fn stop(mut self) -> ExitStatus {
        let id = Pid::from_raw(i32::try_from(self.id()).expect("a process id")).expect("a process id");
        kill_process(id, Signal::TERM).expect("it runs");
        soon(self.child.wait()).await.expect("it can be waited for")
    }
}
