//! One JSON line per decision, written even when the client has gone.
//!
//! The schema is versioned and stable: fields are added, never renamed. No secret is ever part of a record, because a
//! record holds names, digests and reasons alone.

mod file;
mod queue;

use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;
use tokio::sync::oneshot;

use crate::policy::Denial;
use crate::runtime::Metrics;
use file::RotatingFile;
use queue::{Queue, Work};

/// The version of the record's schema.
pub const SCHEMA: u32 = 1;

/// About how many bytes a record has besides its decision.
const REQUEST_LENGTH: usize = 256;

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
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// What was decided.
    pub what: &'a DecisionText,
    /// `GET` or `HEAD`.
    pub method: &'a str,
    /// When the request came.
    pub time: Timestamp,
    /// Identifies the request in all logs.
    pub request_id: &'a str,
    /// The client's address.
    pub client: &'a str,
    /// The common name of the client's certificate, where it has one.
    pub client_name: Option<&'a str>,
    /// From the request to the decision, in milliseconds.
    pub duration_ms: u64,
}

impl Record<'_> {
    /// One line: a JSON object of what was decided, and for which request. `None` when it cannot be written as JSON.
    fn line(&self) -> Option<Vec<u8>> {
        let Self { what, method, time, request_id, client, client_name, duration_ms } = *self;
        let mut line = Vec::with_capacity(what.0.len() + REQUEST_LENGTH);
        line.extend_from_slice(what.0.as_bytes());
        let start = line.len();
        serde_json::to_writer(&mut line, &Request { method, time, request_id, client, client_name, duration_ms })
            .ok()?;
        // The second object goes on where the first one has no end.
        line[start] = b',';
        line.push(b'\n');
        Some(line)
    }
}

/// The part of a record that is another for each request.
#[derive(Serialize)]
struct Request<'a> {
    method: &'a str,
    time: Timestamp,
    request_id: &'a str,
    client: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    client_name: Option<&'a str>,
    duration_ms: u64,
}

/// A decision as its records begin: written out once, for all requests that are answered alike. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct DecisionText(Arc<str>);

impl DecisionText {
    /// How many bytes it takes.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was decided.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<&Decided> for DecisionText {
    fn from(decided: &Decided) -> Self {
        // A struct of text and numbers always has its JSON.
        let object = serde_json::to_string(decided).unwrap_or_default();
        Self(object.strip_suffix('}').unwrap_or_default().into())
    }
}

/// What was decided, and why.
#[derive(Clone, Debug, Serialize)]
pub struct Decided {
    /// [`SCHEMA`].
    pub schema: u32,
    /// Whose rules applied; empty is cluster-wide.
    pub scope: String,
    /// What was asked for: `manifest`, `blob`, `tags`, `referrers`.
    pub endpoint: &'static str,
    /// Upstream, repository and reference as asked, by the upstream's own name.
    pub image: String,
    /// The digest that was judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// What the digest is: `image`, `index`, `artifact` or `attachment`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    /// The checks that the rule asks for and that were skipped because of the kind: `trust`, `simple`, `va`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<&'static str>,
    /// `admit`, `deny`, `would-deny` (admitted in audit mode alone), `pending`, `unavailable`, `refused`, `error` or `abandoned`.
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
    /// Denials that were not carried out: of a gate in audit mode, and of audited documents beside enforced ones.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub would_deny: Vec<WouldDeny>,
    /// How old the signature evidence was, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust_age_seconds: Option<i64>,
    /// How old the vulnerability evidence was, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub va_age_seconds: Option<i64>,
}

/// A denial that was not carried out.
#[derive(Clone, Debug, Serialize)]
pub struct WouldDeny {
    /// The document; absent where none selects the subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
    /// The entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The part of the rule that would have denied.
    pub stage: &'static str,
    /// Why.
    pub reasons: Vec<String>,
}

impl From<&Denial> for WouldDeny {
    fn from(denial: &Denial) -> Self {
        let Denial { stage, document, rule, reasons, .. } = denial;
        let text = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
        Self { document: text(document), rule: text(rule), stage: stage.as_str(), reasons: reasons.clone() }
    }
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
    pub async fn write(&self, record: &Record<'_>) -> bool {
        if !self.required {
            self.queue.wait_for_room().await;
            self.write_later(record);
            return true;
        }
        let (done, written) = oneshot::channel();
        let is_added = record.line().is_some_and(|line| self.queue.add(&line, Some(done)));
        is_added && written.await.unwrap_or(false)
    }

    /// Hands a record over where that needs no waiting: neither for a full queue, nor to know that it is in the file.
    pub fn try_write(&self, record: &Record<'_>) -> bool {
        !self.required && record.line().is_some_and(|line| self.queue.try_add(&line))
    }

    /// Hands a record over without waiting, from a destructor.
    pub fn write_later(&self, record: &Record<'_>) {
        if !record.line().is_some_and(|line| self.queue.add(&line, None)) {
            self.lost.inc();
            tracing::error!("a decision could not be recorded: the audit file's writer has ended");
        }
    }

    /// Writes what was handed over so far and ends the writer. What comes later is lost, and counted.
    pub async fn close(&self) {
        let (done, closed) = oneshot::channel();
        if self.queue.close(done) {
            // The writer has ended when it does not answer.
            let _ = closed.await;
        }
    }

    /// Opens the file anew, after it was moved away (SIGHUP).
    pub fn reopen(&self) {
        self.queue.reopen();
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
        self.0.close(oneshot::channel().0);
    }
}

/// Runs on a thread of its own until it is closed, and leaves nothing unwritten. What has come meanwhile is written
/// together: under load a record costs neither a system call nor a wake-up of its own.
fn write_all(mut file: RotatingFile, queue: &Queue, lost: &Counter) {
    loop {
        let Work { reopen, lines, waiting, close } = queue.take();
        if reopen && let Err(error) = file.reopen() {
            tracing::error!(%error, "the audit file cannot be opened anew; records go on to the old one");
        }
        let written = file.write(&lines);
        if let Err((error, left)) = &written {
            let records = left.iter().filter(|&&byte| byte == b'\n').count() as u64;
            lost.inc_by(records);
            tracing::error!(%error, records, "decisions could not be recorded; free or mend the disk of the audit file");
        }
        for done in waiting {
            // Nobody waits when the client has gone.
            let _ = done.send(written.is_ok());
        }
        if let Some(closed) = close {
            queue.end();
            let _ = closed.send(());
            return;
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
