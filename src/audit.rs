//! One JSON line per decision, written even when the client has gone.
//!
//! The schema is versioned and stable: fields are added, never renamed. No secret is ever part of a record, because a
//! record holds names, digests and reasons alone.

mod file;

use std::path::PathBuf;

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;
use tokio::sync::{mpsc, oneshot};

use crate::runtime::Metrics;
use file::RotatingFile;

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

/// One decision.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// [`SCHEMA`].
    pub schema: u32,
    /// When the request came.
    pub time: Timestamp,
    /// Identifies the request in all logs.
    pub request_id: String,
    /// The client's address.
    pub client: String,
    /// The common name of the client's certificate, where it has one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_name: Option<String>,
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
    /// From the request to the decision, in milliseconds.
    pub duration_ms: u64,
}

/// Takes records. Cheap to clone.
#[derive(Clone)]
pub struct Audit {
    queue: mpsc::Sender<Message>,
    required: bool,
    lost: Counter,
}

enum Message {
    Close(oneshot::Sender<()>),
    Record(Box<Record>, Option<oneshot::Sender<bool>>),
    Reopen,
}

impl Audit {
    /// Opens the file and starts its writer.
    ///
    /// # Errors
    /// When the file cannot be opened for appending.
    pub fn new(config: &Config, metrics: &Metrics) -> Result<Self, AuditError> {
        let open = RotatingFile::open(config.file.clone(), config.max_file_size, config.keep);
        let file = open.map_err(|error| AuditError { path: config.file.clone(), error: error.to_string() })?;
        let (queue, messages) = mpsc::channel(1024);
        let lost = metrics.register("audit_records_lost", "Decisions that could not be recorded", Counter::default());
        let counter = lost.clone();
        // Not a tracked task: it outlives all of those, so that their last records are written.
        tokio::task::spawn_blocking(move || write_all(file, messages, &counter));
        Ok(Self { queue, required: config.required, lost })
    }

    /// Writes a record. False when it could not be written and the configuration requires that it is.
    pub async fn write(&self, record: Record) -> bool {
        if !self.required {
            self.write_later(record);
            return true;
        }
        let (done, written) = oneshot::channel();
        let sent = self.queue.send(Message::Record(Box::new(record), Some(done))).await.is_ok();
        sent && written.await.unwrap_or(false)
    }

    /// Hands a record over without waiting, also from a destructor.
    pub fn write_later(&self, record: Record) {
        if self.queue.try_send(Message::Record(Box::new(record), None)).is_err() {
            self.lost.inc();
            tracing::error!("a decision could not be recorded: the audit file is too slow or has failed");
        }
    }

    /// Writes what was handed over so far and ends the writer. What comes later is lost, and counted.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.queue.send(Message::Close(done)).await.is_ok() {
            // The writer has ended when it does not answer.
            let _ = closed.await;
        }
    }

    /// Opens the file anew, after it was moved away (SIGHUP).
    pub fn reopen(&self) {
        // A full queue means that records are being written; the next signal comes again.
        let _ = self.queue.try_send(Message::Reopen);
    }
}

/// Runs on a thread of its own until it is closed or every [`Audit`] is gone, and leaves nothing unwritten.
fn write_all(mut file: RotatingFile, mut messages: mpsc::Receiver<Message>, lost: &Counter) {
    while let Some(message) = messages.blocking_recv() {
        match message {
            Message::Close(done) => {
                let _ = done.send(());
                return;
            }
            Message::Reopen => {
                if let Err(error) = file.reopen() {
                    tracing::error!(%error, "the audit file cannot be opened anew; records go on to the old one");
                }
            }
            Message::Record(record, done) => {
                let written = file.append(&record);
                if let Err(error) = &written {
                    lost.inc();
                    tracing::error!(%error, "a decision could not be recorded; free or mend the disk of the audit file");
                }
                if let Some(done) = done {
                    // Nobody waits when the client has gone.
                    let _ = done.send(written.is_ok());
                }
            }
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
