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

/// Who asked for a change and why, as reasons of a record.
pub(super) fn by_whom(by: Option<&str>, reason: Option<&str>) -> Vec<String> {
    let texts = [("by", by), ("reason", reason)].into_iter();
    texts.filter_map(|(key, text)| Some(format!("{key}: {}", text?))).collect()
}

impl OperatorAct {
    /// Writes the record, before the change is made. `false` if it cannot be written and the configuration requires it: then
    /// the change must not be made.
    pub(super) async fn record(self, audit: &Audit, caller: &str, time: Timestamp) -> bool {
        let about = Decided::new(self.endpoint, self.image, self.decision);
        let decided = Decided { reasons: self.reasons, ..about };
        let what = DecisionText::from(&decided);
        let (method, request_id, client) = (self.method, "", caller);
        audit
            .write(&Record { what: what.parts(), method, time, request_id, client, client_name: None, duration_ms: 0 })
            .await
    }
}
