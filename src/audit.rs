//! Audit records: one JSON line per decision, written even if the client has disconnected.
//!
//! The schema is versioned and stable: fields are added, never renamed. Records contain only names, digests and
//! reasons, so they never contain a secret.

mod file;
mod names;
mod queue;
mod record;
mod writer;

use std::io;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::sync::oneshot;

use crate::runtime::{Metrics, Readiness, Untracked};
use file::RotatingFile;
pub use names::{RecordedDecision, RecordedEndpoint, RecordedMethod};
use queue::{Added, Queue};
pub use record::{Decided, DecisionParts, DecisionText, Record, UsedExemption, WouldDeny};
use writer::{WriteReporter, notice_hangs, write_all};

/// The topic of the audit file in `/readyz`.
const TOPIC: &str = "audit";
/// How long a caller waits until the file is reopened. A disk that hangs must not hold up a reload.
const REOPEN_TIMEOUT: Duration = Duration::from_secs(5);
/// How long the file may take to be opened.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the last records may take to be written. A disk that hangs must not hold up the end of the process.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(10);

/// Where records go.
#[derive(Clone, Debug)]
pub struct Config {
    /// The path of the audit file.
    pub file: PathBuf,
    /// Whether a request is refused if its decision cannot be recorded.
    pub required: bool,
    /// The size, in bytes, at which the file is rotated.
    pub max_file_size: u64,
    /// The number of rotated files to keep.
    pub keep: u32,
}

impl Config {
    /// Checks whether the disk answers a write. What it answers does not matter: a full disk is no reason not to start.
    ///
    /// # Errors
    /// The file cannot be opened for appending, or its disk hangs.
    pub async fn check_disk(&self) -> Result<(), AuditError> {
        let answered = |config: &Self| open(config).map(RotatingFile::try_disk);
        in_time(self, answered).await.map_err(|error| self.failed(&error))
    }

    fn failed(&self, error: &io::Error) -> AuditError {
        AuditError { path: self.file.clone(), error: error.to_string() }
    }
}

fn open(config: &Config) -> io::Result<RotatingFile> {
    RotatingFile::open(config.file.clone(), config.max_file_size, config.keep)
}

/// Does something with the file, for a limited time. Nothing waits for the thread if the disk hangs, not even the end
/// of the process.
async fn in_time<T: Send + 'static>(
    config: &Config,
    work: impl FnOnce(&Config) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let (done, answer) = oneshot::channel();
    let config = config.clone();
    thread::Builder::new().name("audit-open".into()).spawn(move || _ = done.send(work(&config)))?;
    let answer = tokio::time::timeout(OPEN_TIMEOUT, answer).await;
    let silent = || io::Error::new(io::ErrorKind::TimedOut, "its disk does not answer");
    answer.map_err(|_| silent())?.unwrap_or_else(|_| Err(io::Error::other("opening it failed")))
}

/// Writes audit records. Cheap to clone.
#[derive(Clone)]
pub struct Audit {
    queue: Arc<QueueHandle>,
    required: bool,
    lost: Counter,
}

impl Audit {
    /// Opens the file and starts the writer.
    ///
    /// # Errors
    /// The file cannot be opened for appending, its disk hangs, or the writer cannot be started.
    pub async fn new(config: &Config, metrics: &Metrics, readiness: &Readiness) -> Result<Self, AuditError> {
        let opened = in_time(config, open).await;
        let started = opened.and_then(|file| Self::start(file, config.required, metrics, readiness));
        started.map_err(|error| config.failed(&error))
    }

    fn start(file: RotatingFile, required: bool, metrics: &Metrics, readiness: &Readiness) -> io::Result<Self> {
        let lost = metrics.register("audit_records_lost", "Decisions that could not be recorded", Counter::default());
        let queue = Arc::new(Queue::default());
        let sender = Arc::new(QueueHandle(queue.clone()));
        readiness.degraded(TOPIC, None);
        let outcome = Arc::new(WriteReporter::new(queue, lost.clone(), readiness.clone(), required));
        let noticed = notice_hangs(outcome.clone());
        // Not a task: it must outlive all tasks to write their last records, and nothing may wait for it if its disk
        // hangs.
        thread::Builder::new().name("audit".into()).spawn(move || write_all(file, &outcome))?;
        // Ends with the writer, after all tasks.
        Untracked::new().spawn(noticed);
        Ok(Self { queue: sender, required, lost })
    }

    /// Waits until there is room for a record, if requests arrive faster than the disk can record them: load never
    /// causes a decision to go unrecorded. Does not wait for a disk that hangs. A record that is
    /// [required](Config::required) is confirmed, so it does not wait here.
    pub async fn wait_for_room(&self) {
        if !self.required {
            self.queue.wait_for_room().await;
        }
    }

    /// Writes a record. It is queued before the returned future waits for anything. Returns false if the writer has
    /// stopped, or if `audit.required` is set and the record could not be written, or its disk hangs. It may still be
    /// written when the disk answers again.
    pub async fn write(&self, record: &Record<'_>) -> bool {
        if !self.required {
            return self.write_later(record);
        }
        let (done, written) = oneshot::channel();
        // A request that is refused anyway takes no room.
        let is_added =
            !self.queue.hangs() && record.line().is_some_and(|line| self.queue.add(&line, Some(done)) == Added::Queued);
        if !is_added {
            self.lost.inc();
            return false;
        }
        tokio::select! {
            biased;
            written = written => written.unwrap_or(false),
            () = self.queue.hung() => false,
        }
    }

    /// Queues a record if that requires no waiting, neither for space in the queue nor for confirmation.
    pub fn try_write(&self, record: &Record<'_>) -> bool {
        !self.required && record.line().is_some_and(|line| self.queue.try_add(&line))
    }

    /// Queues a record without waiting, for use in a destructor. A record for which there is no room, because the disk
    /// hangs, is counted as lost. Returns false if the writer has stopped.
    pub fn write_later(&self, record: &Record<'_>) -> bool {
        let added = record.line().map_or(Added::Ended, |line| self.queue.add(&line, None));
        if added != Added::Queued {
            self.lost.inc();
        }
        if added == Added::Ended {
            tracing::error!("cannot record a decision: the audit writer has stopped");
        }
        added != Added::Ended
    }

    /// Writes all queued records and stops the writer. Later records are lost, and counted. Gives up if the disk hangs.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if !self.queue.close(done) {
            return;
        }
        let is_closed = tokio::select! {
            biased;
            // No reply means that the writer has already stopped.
            _ = closed => true,
            () = self.queue.hung() => false,
            () = tokio::time::sleep(CLOSE_TIMEOUT) => false,
        };
        if !is_closed {
            tracing::error!("the disk that holds the audit file does not answer; the last records may be lost");
        }
    }

    /// Reopens the file after it was renamed (SIGHUP). Blocks until the writer has done that, for a limited time.
    ///
    /// # Errors
    /// Why records still go to the old file.
    pub fn reopen(&self) -> Result<(), String> {
        let (done, reopened) = mpsc::channel();
        if !self.queue.reopen(done) {
            return Ok(());
        }
        let silent = || "the audit file has not been reopened yet: its disk does not answer".to_owned();
        reopened.recv_timeout(REOPEN_TIMEOUT).unwrap_or_else(|_| Err(silent()))
    }
}

#[cfg(test)]
impl Audit {
    /// Records are queued and never written.
    pub(crate) fn without_writer() -> Self {
        Self { queue: Arc::new(QueueHandle(Arc::default())), required: false, lost: Counter::default() }
    }

    /// Takes the queued lines.
    pub(crate) fn queued(&self) -> String {
        let mut taken = queue::TakenLines::default();
        self.queue.take(&mut taken);
        String::from_utf8(taken.lines).unwrap()
    }
}

/// The sending side of the queue. The writer stops when the last [`Audit`] is dropped.
struct QueueHandle(Arc<Queue>);

impl Deref for QueueHandle {
    type Target = Queue;

    fn deref(&self) -> &Queue {
        &self.0
    }
}

impl Drop for QueueHandle {
    fn drop(&mut self) {
        self.0.close(oneshot::channel().0);
    }
}

/// The audit file cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("{path}: cannot open the audit file (`audit.file`): {error}")]
pub struct AuditError {
    path: PathBuf,
    error: String,
}

#[cfg(test)]
mod tests;
