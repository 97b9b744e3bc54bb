//! `pullgate demo` needs nothing of its surroundings, and leaves nothing behind.

#![allow(clippy::unwrap_used, reason = "a test fails there")]

use std::fs;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::time::timeout;

use crate::support::temp_dir;

/// How long the demo may take on a slow machine.
const LIMIT: Duration = Duration::from_secs(120);

#[tokio::test]
async fn the_demo_ignores_proxies_of_the_environment() {
    let folder = temp_dir();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pullgate"));
    for name in ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY"] {
        command.env(name, "http://127.0.0.1:1");
    }
    command.env("TMPDIR", folder.path()).args(["demo", "--once"]).kill_on_drop(true);
    let output = timeout(LIMIT, command.output()).await.expect("in time").unwrap();
    assert!(output.status.success(), "{}", crate::commands::text(&output));
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
}

/// A demo that runs, its process, and the rest of its output.
async fn running(mut command: Command) -> (Child, Pid, Lines<BufReader<ChildStdout>>) {
    let mut child = command.stdout(Stdio::piped()).kill_on_drop(true).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let is_running = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("Ctrl-C stops the demo") {
                return true;
            }
        }
        false
    };
    assert!(timeout(LIMIT, is_running).await.expect("in time"));
    let process = Pid::from_raw(i32::try_from(child.id().unwrap()).unwrap()).unwrap();
    (child, process, lines)
}

/// A terminal sends SIGHUP when it is closed.
#[tokio::test]
async fn the_demo_ends_with_its_terminal() {
    let folder = temp_dir();
    let mut command = Command::new(env!("CARGO_BIN_EXE_pullgate"));
    command.env("TMPDIR", folder.path()).args(["demo", "--listen", "127.0.0.1:0"]);
    let (mut child, process, lines) = running(command).await;
    drop(lines);
    kill_process(process, Signal::HUP).unwrap();
    let ended = timeout(LIMIT, child.wait()).await.expect("in time").unwrap();
    assert!(ended.success(), "{ended}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
}

/// As nohup(1) starts it.
#[tokio::test]
async fn the_demo_outlives_its_terminal_if_it_is_to_ignore_the_signal() {
    let folder = temp_dir();
    let mut command = Command::new("sh");
    let script = "trap '' HUP; exec \"$0\" demo --listen 127.0.0.1:0";
    command.env("TMPDIR", folder.path()).args(["-c", script, env!("CARGO_BIN_EXE_pullgate")]);
    let (mut child, process, _lines) = running(command).await;
    kill_process(process, Signal::HUP).unwrap();
    assert!(timeout(Duration::from_secs(1), child.wait()).await.is_err(), "it has ended");
    kill_process(process, Signal::TERM).unwrap();
    let ended = timeout(LIMIT, child.wait()).await.expect("in time").unwrap();
    assert!(ended.success(), "{ended}");
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0, "nothing is left");
}
