//! The real program as a separate process, with the configuration of the harness.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::harness::{HOST, TestGate};
use crate::support::{Answer, metric_at, request, soon};

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
        Self::start_after(made_of, &format!("umask {umask}"), "log", &[]).await
    }

    /// Starts a process that takes over from the one that runs.
    pub(crate) async fn take_over(made_of: &TestGate, number: u64) -> Self {
        Self::start_after(made_of, "umask 022", &format!("log-{number}"), &["--take-over"]).await
    }

    /// Starts the program, which must refuse to serve. Returns what it printed.
    pub(crate) async fn refused(made_of: &TestGate, commands: &str, args: &[&str]) -> String {
        Self::refused_with(&made_of.path().join("pullgate.toml"), commands, args).await
    }

    /// The same with another configuration.
    pub(crate) async fn refused_with(config: &Path, commands: &str, args: &[&str]) -> String {
        let mut command = Command::new("bash");
        command.args(["-c", &format!("{commands} && exec \"$@\""), "bash", env!("CARGO_BIN_EXE_pullgate"), "serve"]);
        command.arg("--config").arg(config).args(args).kill_on_drop(true);
        let output = soon(command.output()).await.expect("the program starts");
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    /// Starts the program after these commands of the shell, with more arguments, and waits until it is ready.
    pub(crate) async fn start_after(made_of: &TestGate, commands: &str, log: &str, args: &[&str]) -> Self {
        let mut program = Self::spawn_after(made_of, commands, log, args);
        program.wait_until_ready(made_of).await;
        program
    }

    /// Starts the program in the same way, and does not wait.
    pub(crate) fn spawn_after(made_of: &TestGate, commands: &str, log: &str, args: &[&str]) -> Self {
        made_of.config();
        let folder = made_of.path();
        let (ready, log) = (folder.join("ready.json"), folder.join(log));
        // A file of an earlier process would contain old ports.
        let _ = fs::remove_file(&ready);
        let child = Command::new("bash")
            .args(["-c", &format!("{commands} && exec \"$@\""), "bash"])
            .arg(env!("CARGO_BIN_EXE_pullgate"))
            .arg("serve")
            .arg("--config")
            .arg(folder.join("pullgate.toml"))
            .arg("--ready-file")
            .arg(&ready)
            .args(args)
            .stdin(Stdio::null())
            .stdout(fs::File::create(&log).expect("a log file"))
            .stderr(fs::File::options().append(true).open(&log).expect("a log file"))
            .kill_on_drop(true)
            .spawn()
            .expect("the program starts");
        Self { child, log, url: String::new(), admin: String::new() }
    }

    /// Waits until the program is ready.
    pub(crate) async fn wait_until_ready(&mut self, made_of: &TestGate) {
        let text = soon(self.written(&made_of.path().join("ready.json"))).await;
        let places: serde_json::Value = serde_json::from_str(&text).expect("JSON");
        let place = |value: &serde_json::Value| format!("http://{}", value.as_str().expect("an address"));
        self.url = place(&places["listeners"][0]);
        self.admin = place(&places["admin"]);
        soon(async { while request("GET", &self.admin_url("/readyz"), &[]).await.status != 200 {} }).await;
    }

    /// Waits until the program catches a signal that ends a process by default.
    pub(crate) async fn wait_until_it_catches(&mut self, signal: Signal) {
        let status = format!("/proc/{}/status", self.id());
        let catches = || {
            let text = fs::read_to_string(&status).unwrap_or_default();
            let mask = text.lines().find_map(|line| line.strip_prefix("SigCgt:")).unwrap_or_default();
            let is_it =
                fs::read_to_string(status.replace("/status", "/comm")).is_ok_and(|name| name.starts_with("pullgate"));
            let bit = signal.as_raw() - 1;
            is_it && u64::from_str_radix(mask.trim(), 16).is_ok_and(|mask| (mask >> bit) & 1 == 1)
        };
        soon(async {
            while !catches() {
                assert!(self.child.try_wait().expect("the child can be asked").is_none(), "{}", self.log());
                tokio::task::yield_now().await;
            }
        })
        .await;
    }

    /// Waits for the file and returns its content.
    async fn written(&mut self, file: &Path) -> String {
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

    /// The URL of the first listener.
    pub(crate) fn registry_url(&self) -> &str {
        &self.url
    }

    /// Asks the program to reload.
    pub(crate) fn hang_up(&self) {
        self.signal(Signal::HUP);
    }

    fn signal(&self, signal: Signal) {
        let id = Pid::from_raw(i32::try_from(self.id()).expect("a process id")).expect("a process id");
        kill_process(id, signal).expect("it runs");
    }

    /// Waits for the end of the program.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        soon(self.child.wait()).await.expect("it can be waited for")
    }

    /// Checks that programs that this one starts inherit neither its sockets nor the files of its state directory. Descriptors
    /// from 100 on are those of the test.
    pub(crate) fn assert_children_inherit_nothing(&self) {
        let state = self.log.with_file_name("state");
        let folder = PathBuf::from(format!("/proc/{}", self.id()));
        for entry in fs::read_dir(folder.join("fd")).expect("a process") {
            let name = entry.expect("an entry").file_name().into_string().expect("a number");
            let number: u32 = name.parse().expect("a number");
            // Closed meanwhile.
            let Ok(info) = fs::read_to_string(folder.join("fdinfo").join(&name)) else { continue };
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:")).expect("flags");
            let flags = u32::from_str_radix(flags.trim(), 8).expect("an octal number");
            let target = fs::read_link(folder.join("fd").join(&name)).unwrap_or_default();
            // The parent of the test may have left other files open.
            let is_own = target.to_string_lossy().starts_with("socket:") || target.starts_with(&state);
            let is_closed = flags & 0o2_000_000 != 0;
            assert!(is_closed || !is_own || !(3..100).contains(&number), "{number}: {}", target.display());
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
        metric_at(&self.admin_url("/metrics"), name).await
    }

    /// Kills the program with SIGKILL, and waits until it is gone.
    pub(crate) async fn kill(mut self) {
        self.child.start_kill().expect("it runs");
        soon(self.child.wait()).await.expect("it can be waited for");
    }

    /// Asks the program to exit, and waits until it has.
    pub(crate) async fn stop(mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.ended().await
    }
}
