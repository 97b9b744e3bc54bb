//! Audit records of what operators change by commands and by the admin API.

use jiff::Timestamp;

use crate::audit::{Audit, Decided, DecisionText, Record, RecordedDecision, RecordedEndpoint, RecordedMethod};

/// A change that an operator requests.
pub(super) struct OperatorAct {
    /// The call.
    pub(super) endpoint: RecordedEndpoint,
    /// The method of the call.
    pub(super) method: RecordedMethod,
    /// What the call does.
    pub(super) decision: RecordedDecision,
    /// The images or the repository that the change affects.
    pub(super) image: String,
    /// What is changed.
    pub(super) reasons: Vec<String>,
}

/// The audit record of a request cannot be written, and the configuration requires it: nothing is changed.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
#[error("the request cannot be recorded in the audit file")]
pub struct NotRecorded;

/// Who asked for a change and why, as reasons of a record.
pub(super) fn by_whom(by: Option<&str>, reason: Option<&str>) -> Vec<String> {
    let texts = [("by", by), ("reason", reason)].into_iter();
    texts.filter_map(|(key, text)| Some(format!("{key}: {}", text?))).collect()
}

impl OperatorAct {
    /// Writes the record, before the change is made.
    ///
    /// # Errors
    /// It cannot be written, and the configuration requires it: the change must not be made.
    pub(super) async fn record(self, audit: &Audit, caller: &str, time: Timestamp) -> Result<(), NotRecorded> {
        let about = Decided::new(self.endpoint, self.image, self.decision);
        let decided = Decided { reasons: self.reasons, ..about };
        let what = DecisionText::from(&decided);
        let (method, request_id, client) = (self.method, "", caller);
        let record = Record { what: what.parts(), method, time, request_id, client, client_name: None, duration_ms: 0 };
        if audit.write(&record).await { Ok(()) } else { Err(NotRecorded) }
    }
}
