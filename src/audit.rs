//! Audit records: one JSON line per decision, written even if the client has disconnected.
//!
//! The schema is versioned and stable: fields are added, never renamed. Records contain only names, digests and
//! reasons, so they never contain a secret.

mod file;
mod queue;
mod record;

use std::io;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use tokio::sync::oneshot;

use crate::runtime::{BlockReady, Metrics, Readiness};
use file::RotatingFile;
use queue::{Queue, Taken, Work};
pub use record::{Decided, DecisionParts, DecisionText, Record, UsedExemption, WouldDeny};

/// The topic of the audit file in `/readyz`.
const TOPIC: &str = "audit";

/// How often it is tried whether records can be written again.
const PROBE: Duration = Duration::from_secs(5);

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
    /// The file cannot be opened for appending.
    pub fn new(config: &Config, metrics: &Metrics, readiness: &Readiness) -> Result<Self, AuditError> {
        let open = RotatingFile::open(config.file.clone(), config.max_file_size, config.keep);
        let file = open.map_err(|error| AuditError { path: config.file.clone(), error: error.to_string() })?;
        let lost = metrics.register("audit_records_lost", "Decisions that could not be recorded", Counter::default());
        let queue = Arc::new(Queue::default());
        let sender = Arc::new(QueueHandle(queue.clone()));
        readiness.degraded(TOPIC, None);
        let (readiness, required) = (readiness.clone(), config.required);
        let outcome = WriteReporter { lost: lost.clone(), readiness, required, blocked: None };
        // Not a tracked task: it must outlive all of those to write their last records.
        tokio::task::spawn_blocking(move || write_all(file, &queue, outcome));
        Ok(Self { queue: sender, required: config.required, lost })
    }

    /// Writes a record. Returns false if the writer has stopped, or if the record could not be written and
    /// `audit.required` is set. If requests arrive faster than the disk can record them, they wait: load never causes a
    /// decision to go unrecorded.
    pub async fn write(&self, record: &Record<'_>) -> bool {
        if !self.required {
            self.queue.wait_for_room().await;
            return self.write_later(record);
        }
        let (done, written) = oneshot::channel();
        let is_added = record.line().is_some_and(|line| self.queue.add(&line, Some(done)));
        is_added && written.await.unwrap_or(false)
    }

    /// Queues a record if that requires no waiting, neither for space in the queue nor for confirmation.
    pub fn try_write(&self, record: &Record<'_>) -> bool {
        !self.required && record.line().is_some_and(|line| self.queue.try_add(&line))
    }

    /// Queues a record without waiting, for use in a destructor. Returns false if the writer has stopped.
    pub fn write_later(&self, record: &Record<'_>) -> bool {
        let is_queued = record.line().is_some_and(|line| self.queue.add(&line, None));
        if !is_queued {
            self.lost.inc();
            tracing::error!("cannot record a decision: the audit writer has stopped");
        }
        is_queued
    }

    /// Writes all queued records and stops the writer. Later records are lost, and counted.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.queue.close(done) {
            // No reply means that the writer has already stopped.
            let _ = closed.await;
        }
    }

    /// Reopens the file after it was renamed (SIGHUP).
    pub fn reopen(&self) {
        self.queue.reopen();
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

/// Runs on a dedicated thread until it is closed, and writes everything that was queued. Records that arrive during a
/// write are written together, so that under load a record costs neither a system call nor a wake-up.
///
/// While the gate is not ready because records cannot be written, it gets no requests whose records would show that they can
/// be written again. Then the file is probed.
fn write_all(mut file: RotatingFile, queue: &Queue, mut outcome: WriteReporter) {
    let mut taken = Taken::default();
    loop {
        let is_blocked = outcome.blocked.is_some();
        let limit = is_blocked.then_some(PROBE);
        let Some(Work { reopen, close }) = queue.take_within(limit, &mut taken) else {
            outcome.probed(file.probe());
            continue;
        };
        if reopen {
            match file.reopen() {
                Ok(()) if is_blocked => outcome.probed(file.probe()),
                Ok(()) => {}
                Err(error) => {
                    tracing::error!(%error, "cannot reopen the audit file; records still go to the old one");
                }
            }
        }
        write_lines(&mut file, &mut taken, &mut outcome);
        if let Some(closed) = close {
            // Lines may have come while the last ones were written.
            queue.end(&mut taken);
            write_lines(&mut file, &mut taken, &mut outcome);
            let _ = closed.send(());
            return;
        }
    }
}

fn write_lines(file: &mut RotatingFile, taken: &mut Taken, outcome: &mut WriteReporter) {
    let lines = &*taken.lines;
    let written = file.write(lines);
    match &written {
        Ok(()) if lines.is_empty() => {}
        Ok(()) => outcome.works(file.rotation_error()),
        Err((error, left)) => outcome.failed(error, left),
    }
    for done in taken.waiting.drain(..) {
        // The receiver is gone if the client has disconnected.
        let _ = done.send(written.is_ok());
    }
}

/// Reports whether records can be written.
struct WriteReporter {
    lost: Counter,
    readiness: Readiness,
    required: bool,
    /// Held while the last write failed, if records are required: then every pull is refused, and another gate can do better.
    blocked: Option<BlockReady>,
}

impl WriteReporter {
    /// Reports that lines are written, and why the file was not rotated before.
    fn works(&mut self, rotation_error: Option<&io::Error>) {
        self.blocked = None;
        let problem = rotation_error.map(|error| format!("the audit file cannot be rotated, so it grows: {error}"));
        self.readiness.degraded(TOPIC, problem);
    }

    fn probed(&mut self, outcome: io::Result<()>) {
        match outcome {
            Ok(()) => {
                tracing::info!("decisions can be recorded again");
                self.works(None);
            }
            Err(error) => self.readiness.degraded(TOPIC, Some(unrecorded(&error))),
        }
    }

    /// Reports an error and the lines that were not written.
    fn failed(&mut self, error: &io::Error, left: &[u8]) {
        let records = left.iter().filter(|&&byte| byte == b'\n').count() as u64;
        self.lost.inc_by(records);
        tracing::error!(%error, records, "cannot record decisions; check the disk that holds the audit file");
        self.readiness.degraded(TOPIC, Some(unrecorded(error)));
        if self.required && self.blocked.is_none() {
            self.blocked = Some(self.readiness.block(TOPIC));
        }
    }
}

fn unrecorded(error: &io::Error) -> String {
    format!("decisions cannot be recorded: {error}")
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
