//! Audit records: one JSON line per decision, written even if the client has disconnected.
//!
//! The schema is versioned and stable: fields are added, never renamed. Records contain only names, digests and
//! reasons, so they never contain a secret.

mod file;
mod queue;

use std::io::{self, Write};
use std::ops::Deref;
use std::path::PathBuf;
use std::sync::Arc;

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use serde::Serialize;
use tokio::sync::oneshot;

use crate::oci::Digest;
use crate::policy::{Denial, ExemptionRecord};
use crate::runtime::{Metrics, Readiness};
use file::RotatingFile;
use queue::{Queue, Taken, Work};

/// The topic of the audit file in `/readyz`.
const TOPIC: &str = "audit";

/// The version of the record schema.
const SCHEMA: u32 = 1;

/// About how many bytes a record has besides its decision.
const REQUEST_LENGTH: usize = 256;
/// How many bytes the digest of an image takes in a record, with its name.
const DIGEST_LENGTH: usize = 96;

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

/// A decision and the request that it was made for.
#[derive(Clone, Copy, Debug)]
pub struct Record<'a> {
    /// The decision.
    pub what: DecisionParts<'a>,
    /// `GET` or `HEAD`.
    pub method: &'a str,
    /// The time of the request.
    pub time: Timestamp,
    /// Identifies the request in all logs.
    pub request_id: &'a str,
    /// The address of the client.
    pub client: &'a str,
    /// The common name in the client's certificate, if there is one.
    pub client_name: Option<&'a str>,
    /// The time from the request to the decision, in milliseconds.
    pub duration_ms: u64,
}

impl Record<'_> {
    /// One line: a JSON object of what was decided, and for which request. `None` when it cannot be written as JSON.
    fn line(&self) -> Option<Vec<u8>> {
        let Self { what, method, time, request_id, client, client_name, duration_ms } = *self;
        let mut line = Vec::with_capacity(what.image.len() + what.shape.len() + DIGEST_LENGTH + REQUEST_LENGTH);
        line.extend_from_slice(b"{\"image\":");
        line.extend_from_slice(what.image.as_bytes());
        if let Some(digest) = what.digest {
            write!(line, ",\"digest\":\"{digest}\"").ok()?;
        }
        line.push(b',');
        line.extend_from_slice(what.shape.as_bytes());
        let start = line.len();
        serde_json::to_writer(&mut line, &Request { method, time, request_id, client, client_name, duration_ms })
            .ok()?;
        // The second object goes on where the first one has no end.
        line[start] = b',';
        line.push(b'\n');
        Some(line)
    }
}

/// The part of a record that differs for each request.
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

/// The decision part of a record, serialized once for all requests with the same response.
#[derive(Clone, Debug, Default)]
pub struct DecisionText {
    /// The requested image, as a JSON string.
    pub image: Box<str>,
    /// The digest that was judged.
    pub digest: Option<Digest>,
    /// Everything else, as members of a JSON object. Many decisions have the same ones.
    pub shape: Arc<str>,
}

impl DecisionText {
    /// The text as a record contains it.
    pub fn parts(&self) -> DecisionParts<'_> {
        DecisionParts { image: &self.image, digest: self.digest, shape: &self.shape }
    }
}

/// A [`DecisionText`] that is stored in parts.
#[derive(Clone, Copy, Debug)]
pub struct DecisionParts<'a> {
    /// The requested image, as a JSON string.
    pub image: &'a str,
    /// The digest that was judged.
    pub digest: Option<Digest>,
    /// Everything else, as members of a JSON object.
    pub shape: &'a str,
}

impl From<&Decided> for DecisionText {
    fn from(decided: &Decided) -> Self {
        // A struct of strings and numbers can always be serialized.
        let text = |value: serde_json::Result<String>| value.unwrap_or_default();
        let object = text(serde_json::to_string(decided));
        Self {
            image: text(serde_json::to_string(&decided.image)).into(),
            digest: decided.digest,
            shape: object.strip_prefix('{').and_then(|object| object.strip_suffix('}')).unwrap_or_default().into(),
        }
    }
}

/// A decision and its reasons.
#[derive(Clone, Debug, Serialize)]
pub struct Decided {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The scope whose rules applied; empty means cluster-wide.
    pub scope: String,
    /// The requested endpoint: `manifest`, `blob`, `tags`, `referrers`; `trust/forget` and `exemptions` of the admin API.
    pub endpoint: &'static str,
    /// The requested upstream, repository and reference, by the upstream's own name; for `trust/forget`, the server and the
    /// repository.
    #[serde(skip)]
    pub image: String,
    /// The digest that was judged.
    #[serde(skip)]
    pub digest: Option<Digest>,
    /// What the digest is: `image`, `index`, `artifact` or `attachment`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<&'static str>,
    /// Checks that the rule requires but that do not apply to this kind: `trust`, `simple`, `va`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub skipped: Vec<&'static str>,
    /// `admit`, `deny`, `would-deny` (admitted only because of audit mode), `pending`, `unavailable`, `refused`,
    /// `error` or `abandoned`; `forget` for `trust/forget`, `add-exemption` or
    /// `remove-exemption` for `exemptions`.
    pub decision: &'static str,
    /// The document that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
    /// The entry that decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The part of the rule that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<&'static str>,
    /// The reasons for the decision.
    pub reasons: Vec<String>,
    /// The exemptions that the vulnerability check relied on, at most 50.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub exemptions: Vec<UsedExemption>,
    /// Denials that were not enforced: by audited documents, or because the whole gate is in audit mode.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub would_deny: Vec<WouldDeny>,
    /// Why the image is admitted only for now: an issue that the policy denies was found after it was admitted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
    /// The age of the signature evidence, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trust_age_seconds: Option<i64>,
    /// The age of the vulnerability evidence, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub va_age_seconds: Option<i64>,
}

impl Decided {
    /// A decision about an image, cluster-wide and without anything else yet.
    pub fn new(endpoint: &'static str, image: String, decision: &'static str) -> Self {
        Self {
            schema: SCHEMA,
            scope: String::new(),
            endpoint,
            image,
            digest: None,
            kind: None,
            skipped: Vec::new(),
            decision,
            document: None,
            rule: None,
            stage: None,
            reasons: Vec::new(),
            exemptions: Vec::new(),
            would_deny: Vec::new(),
            warnings: Vec::new(),
            trust_age_seconds: None,
            va_age_seconds: None,
        }
    }
}

/// An exemption that a decision relied on.
#[derive(Clone, Debug, Serialize)]
pub struct UsedExemption {
    /// The identifier.
    pub id: Arc<str>,
    /// The issue and the images that it exempts: `cve CVE-2024-1, scope birds/bluebird`.
    pub exempts: String,
    /// Why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Who decided it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The document that contains it; absent for one that was added by a command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<Arc<str>>,
}

impl From<&ExemptionRecord> for UsedExemption {
    fn from(record: &ExemptionRecord) -> Self {
        let ExemptionRecord { id, reason, by, document, .. } = record;
        let (id, exempts) = (id.clone(), record.to_string());
        Self { id, exempts, reason: reason.clone(), by: by.clone(), document: document.clone() }
    }
}

/// A denial that was not enforced.
#[derive(Clone, Debug, Serialize)]
pub struct WouldDeny {
    /// The document; absent if none matches the subject.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub document: Option<String>,
    /// The entry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<String>,
    /// The part of the rule that would have denied.
    pub stage: &'static str,
    /// The reasons.
    pub reasons: Vec<String>,
}

impl From<&Denial> for WouldDeny {
    fn from(denial: &Denial) -> Self {
        let Denial { stage, document, rule, reasons, .. } = denial;
        let text = |text: &Option<Arc<str>>| text.as_deref().map(str::to_owned);
        Self { document: text(document), rule: text(rule), stage: stage.as_str(), reasons: reasons.clone() }
    }
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
        let outcome = WriteReporter { lost: lost.clone(), readiness: readiness.clone() };
        // Not a tracked task: it must outlive all of those to write their last records.
        tokio::task::spawn_blocking(move || write_all(file, &queue, &outcome));
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
fn write_all(mut file: RotatingFile, queue: &Queue, outcome: &WriteReporter) {
    let mut taken = Taken::default();
    loop {
        let Work { reopen, close } = queue.take(&mut taken);
        if reopen && let Err(error) = file.reopen() {
            tracing::error!(%error, "cannot reopen the audit file; records still go to the old one");
        }
        write_lines(&mut file, &mut taken, outcome);
        if let Some(closed) = close {
            // Lines may have come while the last ones were written.
            queue.end(&mut taken);
            write_lines(&mut file, &mut taken, outcome);
            let _ = closed.send(());
            return;
        }
    }
}

fn write_lines(file: &mut RotatingFile, taken: &mut Taken, outcome: &WriteReporter) {
    let lines = &*taken.lines;
    let written = file.write(lines);
    match &written {
        Ok(()) if lines.is_empty() => {}
        Ok(()) => outcome.written(file.rotation_error()),
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
}

impl WriteReporter {
    /// Reports that lines were written, and why the file was not rotated before.
    fn written(&self, rotation_error: Option<&io::Error>) {
        let problem = rotation_error.map(|error| format!("the audit file cannot be rotated, so it grows: {error}"));
        self.readiness.degraded(TOPIC, problem);
    }

    /// Reports an error and the lines that were not written.
    fn failed(&self, error: &io::Error, left: &[u8]) {
        let records = left.iter().filter(|&&byte| byte == b'\n').count() as u64;
        self.lost.inc_by(records);
        tracing::error!(%error, records, "cannot record decisions; check the disk that holds the audit file");
        self.readiness.degraded(TOPIC, Some(format!("decisions cannot be recorded: {error}")));
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
