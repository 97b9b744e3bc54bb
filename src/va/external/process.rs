//! Runs a program with a limit for its time and its output.

use std::io;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt};
use tokio::process::{Child, Command};

use super::confine::NOT_STARTED;
use crate::runtime::{Tasks, printable};

/// The largest output that is read, in bytes; the same as for a report in a file.
pub(super) const MAX_OUTPUT: usize = 64 << 20;
/// How much of the end of the error output is kept, in bytes.
const TAIL: usize = 2048;
/// The longest part of it in an error message, in characters.
const SHOWN: usize = 300;
/// How long the output may stay open after the program has ended and its remaining child processes were killed.
const CLOSING: Duration = Duration::from_secs(2);

/// A program with everything that it gets: no shell is involved, and the environment has nothing else.
#[derive(Clone, Debug)]
pub(super) struct BoundedCommand {
    /// The program that confines and starts the other one.
    pub(super) launcher: PathBuf,
    /// All arguments of the launcher.
    pub(super) arguments: Vec<String>,
    pub(super) environment: Vec<(String, String)>,
    /// The working directory.
    pub(super) folder: PathBuf,
    /// The time limit.
    pub(super) timeout: Duration,
}

/// Why a program has no output that can be used.
#[derive(Debug, thiserror::Error)]
pub(super) enum ProgramError {
    #[error("it cannot be started: {0}")]
    Start(io::Error),
    #[error("it cannot be started: {0}")]
    Confined(String),
    #[error("it failed ({status}){}", said(tail))]
    Failed { status: String, tail: String },
    #[error("it took longer than {0} s")]
    Late(u64),
    #[error("its output is larger than {} MiB", MAX_OUTPUT >> 20)]
    Flood,
    #[error("its output cannot be read: {0}")]
    Output(io::Error),
    #[error("pullgate is stopping")]
    Stopping,
}

fn said(tail: &str) -> String {
    if tail.is_empty() { String::new() } else { format!(": {tail}") }
}

impl BoundedCommand {
    /// The whole standard output of a program that succeeded. In any other case the program and all processes of its
    /// group are killed.
    pub(super) async fn output(&self, tasks: &Tasks) -> Result<Vec<u8>, ProgramError> {
        let mut command = Command::new(&self.launcher);
        command
            .args(&self.arguments)
            .env_clear()
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .current_dir(&self.folder)
            // Held open: the guard ends when it closes.
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true);
        let mut child = command.spawn().map_err(ProgramError::Start)?;
        let group = ProcessGroup::of(&child);
        tokio::select! {
            ended = tokio::time::timeout(self.timeout, finish(&mut child, &group)) => {
                ended.unwrap_or(Err(ProgramError::Late(self.timeout.as_secs())))
            }
            () = tasks.stopping() => Err(ProgramError::Stopping),
        }
    }
}

async fn finish(child: &mut Child, group: &ProcessGroup) -> Result<Vec<u8>, ProgramError> {
    let _stdin = child.stdin.take();
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let mut reading = Box::pin(async { tokio::join!(whole(stdout, group), tail(stderr)) });
    let (status, read) = tokio::select! {
        status = child.wait() => (status, None),
        read = &mut reading => (child.wait().await, Some(read)),
    };
    // Child processes of the program may hold its output open.
    group.kill();
    let (output, tail) = match read {
        Some(read) => read,
        None => tokio::time::timeout(CLOSING, reading)
            .await
            .map_err(|_| ProgramError::Output(io::Error::other("a process that it left behind holds it open")))?,
    };
    let status = status.map_err(ProgramError::Start)?;
    let output = output?;
    if status.code() == Some(NOT_STARTED.into()) {
        return Err(ProgramError::Confined(tail));
    }
    if !status.success() {
        return Err(ProgramError::Failed { status: exit(status), tail });
    }
    Ok(output)
}

fn exit(status: ExitStatus) -> String {
    match status.code() {
        Some(code) if code > 128 => format!("killed by signal {}", code - 128),
        Some(code) => format!("exit code {code}"),
        None => status.to_string(),
    }
}

/// Reads everything up to the limit. A program that writes more is killed.
async fn whole(from: Option<impl AsyncRead + Unpin>, group: &ProcessGroup) -> Result<Vec<u8>, ProgramError> {
    let mut bytes = Vec::new();
    let Some(from) = from else { return Ok(bytes) };
    from.take(MAX_OUTPUT as u64 + 1).read_to_end(&mut bytes).await.map_err(ProgramError::Output)?;
    if bytes.len() > MAX_OUTPUT {
        group.kill();
        return Err(ProgramError::Flood);
    }
    Ok(bytes)
}

/// Reads everything and keeps the end, as one line.
async fn tail(from: Option<impl AsyncRead + Unpin>) -> String {
    let mut kept = Vec::new();
    let mut piece = vec![0; 16 * 1024];
    let Some(mut from) = from else { return String::new() };
    while let Ok(read @ 1..) = from.read(&mut piece).await {
        kept.extend_from_slice(&piece[..read]);
        kept.drain(..kept.len().saturating_sub(TAIL));
    }
    let text = String::from_utf8_lossy(&kept);
    let line = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect::<Vec<_>>().join(" | ");
    let length = line.chars().count();
    let end: String = line.chars().skip(length.saturating_sub(SHOWN)).collect();
    printable(&end).into_owned()
}

/// The processes of a program, which are killed at the latest when this is dropped.
struct ProcessGroup(Option<Pid>);

impl ProcessGroup {
    /// The group that a child leads.
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }

    fn kill(&self) {
        if let Some(group) = self.0 {
            // It fails if none of them is left.
            let _ = kill_process_group(group, Signal::KILL);
        }
    }
}

impl Drop for ProcessGroup {
    fn drop(&mut self) {
        self.kill();
    }
}
