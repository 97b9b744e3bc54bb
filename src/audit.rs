//! One JSON line per decision, written even when the client has gone.
//!
//! The schema is versioned and stable: fields are added, never renamed. No secret is ever part of a record, because a
//! record holds names, digests and reasons alone.

mod file;
mod queue;

use std::io;
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;
use tokio::sync::oneshot;

use crate::runtime::Metrics;
use file::RotatingFile;
use queue::{Message, Queue, Urgency};

/// The version of the record's schema.
pub const SCHEMA: u32 = 1;

/// Where records go.
#[derive(Clone, Debug)]
pub struct Config {
    /// The file.
    pub file: PathBuf,
    /// Whether what cannot be recorded is not served.
    pub required: bool,
    /// The size in bytes at which a new file is begun.
    pub max_file_size: u64,
    /// How many full files are kept beside the current one.
    pub keep: u32,
}

/// One decision, and whom it was made for.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// What was decided. Shared by the records of requests that were answered alike.
    #[serde(flatten)]
    pub what: Arc<Decided>,
    /// When the request came.
    pub time: Timestamp,
    /// Identifies the request in all logs.
    pub request_id: String,
    /// The client's address.
    pub client: Arc<str>,
    /// The common name of the client's certificate, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_name: Option<String>,
    /// From the request to the decision, in milliseconds.
    pub duration_ms: u64,
}

/// What was decided, and why.
#[derive(Clone, Debug, Serialize)]
pub struct Decided {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Whose rules applied; empty is cluster-wide.
    pub scope: String,
    /// `GET` or `HEAD`.
    pub method: String,
    /// What was asked for: `manifest`, `blob`, `tags`, `referrers`.
    pub endpoint: &'static str,
    /// Upstream, repository and reference as asked, by the upstream's own name.
    pub image: String,
    /// The digest that was judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// `admit`, `deny`, `would-deny` (audit mode), `pending`, `unavailable`, `refused`, `error` or `abandoned`.
    pub decision: &'static str,
    /// The document that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
    /// The entry that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The part of the rule that decided against.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<&'static str>,
    /// Why.
    pub reasons: Vec<String>,
    /// How old the signature evidence was, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust_age_seconds: Option<i64>,
    /// How old the vulnerability evidence was, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub va_age_seconds: Option<i64>,
}

/// Takes records. Cheap to clone.
#[derive(Clone)]
pub struct Audit {
    queue: Arc<Sender>,
    required: bool,
    lost: Counter,
}

impl Audit {
    /// Opens the file and starts its writer.
    ///
    /// # Errors
    /// When the file cannot be opened for appending.
    pub fn new(config: &Config, metrics: &Metrics) -> Result<Self, AuditError> {
        let open = RotatingFile::open(config.file.clone(), config.max_file_size, config.keep);
        let file = open.map_err(|error| AuditError { path: config.file.clone(), error: error.to_string() })?;
        let lost = metrics.register("audit_records_lost", "Decisions that could not be recorded", Counter::default());
        let (queue, counter) = (Arc::new(Queue::default()), lost.clone());
        let sender = Arc::new(Sender(queue.clone()));
        // Not a tracked task: it outlives all of those, so that their last records are written.
        tokio::task::spawn_blocking(move || write_all(file, &queue, &counter));
        Ok(Self { queue: sender, required: config.required, lost })
    }

    /// Writes a record. False when it could not be written and the configuration requires that it is. While the disk is
    /// slower than the requests, they wait for it: no decision goes unrecorded because many are made.
    pub async fn write(&self, record: Record) -> bool {
        if !self.required {
            self.queue.wait_for_room().await;
            self.hand_over(record);
            return true;
        }
        let (done, written) = oneshot::channel();
        self.queue.push(Message::Record(Box::new(record), Some(done)), Urgency::Now) && written.await.unwrap_or(false)
    }

    /// Hands a record over without waiting, from a destructor.
    pub fn write_later(&self, record: Record) {
        self.hand_over(record);
    }

    fn hand_over(&self, record: Record) {
        if !self.queue.push(Message::Record(Box::new(record), None), Urgency::Soon) {
            self.lost.inc();
            tracing::error!("a decision could not be recorded: the audit file's writer has ended");
        }
    }

    /// Writes what was handed over so far and ends the writer. What comes later is lost, and counted.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.queue.push(Message::Close(done), Urgency::Now) {
            // The writer has ended when it does not answer.
            let _ = closed.await;
        }
    }

    /// Opens the file anew, after it was moved away (SIGHUP).
    pub fn reopen(&self) {
        self.queue.push(Message::Reopen, Urgency::Now);
    }
}

/// The end of the queue that takes records. When the last [`Audit`] is gone, the writer ends too.
struct Sender(Arc<Queue>);

impl Deref for Sender {
    type Target = Queue;

    fn deref(&self) -> &Queue {
        &self.0
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        self.0.push(Message::Close(oneshot::channel().0), Urgency::Now);
    }
}

/// Runs on a thread of its own until it is closed, and leaves nothing unwritten. What has come meanwhile is written
/// together: under load a record costs neither a system call nor a wake-up of its own.
fn write_all(mut file: RotatingFile, queue: &Queue, lost: &Counter) {
    let mut waiting = Vec::new();
    loop {
        for message in queue.take() {
            match message {
                Message::Record(record, done) => waiting.push((file.add(&record), done)),
                Message::Close(done) => {
                    finish(&mut file, &mut waiting, lost);
                    queue.end();
                    let _ = done.send(());
                    return;
                }
                Message::Reopen => {
                    finish(&mut file, &mut waiting, lost);
                    if let Err(error) = file.reopen() {
                        tracing::error!(%error, "the audit file cannot be opened anew; records go on to the old one");
                    }
                }
            }
        }
        finish(&mut file, &mut waiting, lost);
    }
}

/// Writes what was added, and tells those who wait whether their record is in the file.
fn finish(file: &mut RotatingFile, waiting: &mut Vec<(io::Result<()>, Option<oneshot::Sender<bool>>)>, lost: &Counter) {
    let flushed = file.flush();
    for (added, done) in waiting.drain(..) {
        let error = added.as_ref().err().or(flushed.as_ref().err());
        if let Some(error) = error {
            lost.inc();
            tracing::error!(%error, "a decision could not be recorded; free or mend the disk of the audit file");
        }
        if let Some(done) = done {
            // Nobody waits when the client has gone.
            let _ = done.send(error.is_none());
        }
    }
}

/// The audit file cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("{path}: the audit file cannot be opened: {error}; `audit.file` names it")]
pub struct AuditError {
    path: PathBuf,
    error: String,
}

#[cfg(test)]
mod tests;
