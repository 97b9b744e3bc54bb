//! The audit record of a request, written even if the client disconnects.

use std::time::Instant;

use jiff::Timestamp;

use crate::audit::{Audit, Decided, DecisionText, RecordedDecision, RecordedEndpoint, RecordedMethod};
use crate::gate::judge::judgement::{JudgementOutcome, Validity};
use crate::gate::{Answer, GateError, GateRequest, Requester, Target};
use crate::oci::{Endpoint, Reference};
use crate::policy::{Denial, DenialKind, Kind, Permit, Stage};
use crate::runtime::RequestTrace;

/// An unfinished audit record. If it is dropped, it is written with what is known: abandoned, if nothing was decided
/// yet.
pub(in crate::gate) struct RecordDraft {
    decided: Decided,
    /// Whether the decision was handed to the audit log.
    is_finished: bool,
    method: RecordedMethod,
    kind: Option<Kind>,
    has_checked_va: bool,
    validity: Validity,
    requester: Requester,
    audit: Audit,
    time: Timestamp,
    started: Instant,
}

impl RecordDraft {
    /// Starts the record of a request.
    pub(in crate::gate) fn new(request: &GateRequest, audit: &Audit, now: Timestamp) -> Self {
        let about = Decided::new(recorded(&request.endpoint), asked_name(request), RecordedDecision::Abandoned);
        let decided = Decided { scope: request.scope.to_string(), ..about };
        Self {
            decided,
            is_finished: false,
            method: request.method.into(),
            kind: None,
            has_checked_va: false,
            validity: Validity::default(),
            requester: request.requester.clone(),
            audit: audit.clone(),
            time: now,
            started: Instant::now(),
        }
    }

    /// The time since the request arrived, in seconds.
    pub(in crate::gate) fn elapsed_seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// The age of the evidence in seconds, by the kind of evidence.
    pub(super) fn evidence_ages(&self) -> impl Iterator<Item = (&'static str, i64)> {
        let ages = [("trust", self.decided.trust_age_seconds), ("va", self.decided.va_age_seconds)];
        ages.into_iter().filter_map(|(kind, age)| Some((kind, age?)))
    }

    /// The documents whose denials were not enforced.
    pub(super) fn would_deny(&self) -> impl Iterator<Item = &str> {
        self.decided.would_deny.iter().map(|denial| denial.document.as_deref().unwrap_or("none"))
    }

    pub(in crate::gate) fn about(&mut self, target: &Target, endpoint: &Endpoint) {
        RequestTrace::note(|learned| learned.upstream = target.name.host.to_string());
        self.decided.image = match endpoint {
            Endpoint::Manifest { reference, .. } => target.describe(reference),
            Endpoint::Blob { digest, .. } | Endpoint::Referrers { digest, .. } => format!("{}@{digest}", target.name),
            Endpoint::Tags { .. } => target.name.to_string(),
        };
    }

    /// Forgets an earlier judgement: something else is judged for the same request.
    pub(super) fn not_judged(&mut self) {
        (self.validity, self.kind, self.has_checked_va) = (Validity::default(), None, false);
        let record = &mut self.decided;
        (record.digest, record.kind, record.document, record.rule) = (None, None, None, None);
        (record.warnings, record.skipped) = (Vec::new(), Vec::new());
        (record.would_deny, record.exemptions) = (Vec::new(), Vec::new());
        (record.trust_age_seconds, record.va_age_seconds) = (None, None);
    }

    /// Records the judged manifest and what the entries say.
    pub(in crate::gate) fn judged(&mut self, outcome: &JudgementOutcome) {
        (self.validity, self.kind) = (outcome.validity, outcome.kind);
        self.has_checked_va = outcome.has_checked_va;
        let (judged, permit) = (outcome.judged.as_ref(), outcome.decision.as_ref().ok());
        let record = &mut self.decided;
        record.digest = judged.map(|judged| judged.manifest.digest);
        record.kind = judged.map(|judged| judged.kind.kind);
        record.document = permit.map(|permit| permit.document().to_owned());
        record.rule = permit.map(|permit| permit.rule().to_owned());
        record.warnings = permit.map(|permit| permit.warnings().to_vec()).unwrap_or_default();
        record.skipped.clone_from(&outcome.skipped);
        record.would_deny.clone_from(&outcome.would_deny);
        record.exemptions.clone_from(&outcome.exemptions);
        (record.trust_age_seconds, record.va_age_seconds) = (outcome.trust_age_seconds, outcome.va_age_seconds);
    }

    /// Writes the record and returns the text of the decision; `None` if a required record could not be written.
    pub(in crate::gate) async fn finish(&mut self, answer: &Result<Answer, GateError>) -> Option<DecisionText> {
        conclude(&mut self.decided, answer);
        let decided = &self.decided;
        RequestTrace::note(|learned| {
            learned.image.clone_from(&decided.image);
            learned.decision = decided.decision.as_str();
            learned.reason = decided.reasons.join("; ");
        });
        for warning in decided.warnings.iter().filter(|_| answer.is_ok()) {
            tracing::warn!(image = decided.image, "admitted temporarily: {warning}");
        }
        let text = DecisionText::from(decided);
        // A client may leave meanwhile; the record is then written when this is dropped.
        self.audit.wait_for_room().await;
        self.is_finished = true;
        let record = self.requester.record(text.parts(), self.method, self.time, self.duration_ms());
        let is_recorded = self.audit.write(&record).await;
        is_recorded.then_some(text)
    }

    /// What the judged manifest is.
    pub(in crate::gate) fn kind(&self) -> Option<Kind> {
        self.kind
    }

    /// Whether the entry that decided checked the vulnerabilities of an image that is assessed.
    pub(in crate::gate) fn has_checked_va(&self) -> bool {
        self.has_checked_va
    }

    /// How long the decision remains valid according to its evidence.
    pub(in crate::gate) fn validity(&self) -> Validity {
        self.validity
    }

    fn duration_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

impl Drop for RecordDraft {
    fn drop(&mut self) {
        if !self.is_finished {
            let text = DecisionText::from(&self.decided);
            self.audit.write_later(&self.requester.record(text.parts(), self.method, self.time, self.duration_ms()));
        }
    }
}

/// What an answer says besides what was judged.
fn conclude(record: &mut Decided, answer: &Result<Answer, GateError>) {
    (record.decision, record.stage) = outcome_of(answer);
    match answer {
        Ok(answer) => {
            record.until = answer.permit().and_then(Permit::until);
            let denial = answer.permit().and_then(Permit::only_reported);
            record.reasons = denial.map(|denial| denial.reasons.clone()).unwrap_or_default();
        }
        Err(GateError::Denied(Denial { document, rule, reasons, .. })) => {
            record.document = document.as_deref().map(str::to_owned);
            record.rule = rule.as_deref().map(str::to_owned);
            record.reasons.clone_from(reasons);
        }
        Err(error) => record.reasons = vec![error.to_string()],
    }
}

/// The decision, and the stage that denies, for records and metrics. If an enforced entry admitted, the decision is to
/// admit, regardless of audited entries.
pub(super) fn outcome_of(answer: &Result<Answer, GateError>) -> (RecordedDecision, Option<Stage>) {
    match answer {
        Ok(answer) => match answer.permit().and_then(Permit::only_reported) {
            Some(denial) => (RecordedDecision::WouldDeny, Some(denial.stage)),
            None => (RecordedDecision::Admit, None),
        },
        Err(error @ GateError::Denied(denial)) => (decision_of(error), Some(denial.stage)),
        Err(error) => (decision_of(error), None),
    }
}

/// An outcome that is not an admission.
fn decision_of(error: &GateError) -> RecordedDecision {
    match error {
        GateError::Denied(denial) => match denial.kind {
            DenialKind::Pending => RecordedDecision::Pending,
            DenialKind::Policy => RecordedDecision::Deny,
            DenialKind::Unavailable => RecordedDecision::Unavailable,
        },
        GateError::Pending { .. } => RecordedDecision::Pending,
        GateError::ForeignUrl { .. }
        | GateError::Name(_)
        | GateError::NotServed { .. }
        | GateError::NoUpstream { .. }
        | GateError::UnclearName { .. }
        | GateError::UnknownUpstream { .. }
        | GateError::Resolve(crate::resolve::ResolveError::Refused(_)) => RecordedDecision::Refused,
        GateError::BlobUnknown { .. }
        | GateError::Cache(_)
        | GateError::Resolve(_)
        | GateError::Store(_)
        | GateError::Unrecorded
        | GateError::Upstream(_) => match error.is_missing() {
            true => RecordedDecision::Missing,
            false => RecordedDecision::Error,
        },
    }
}

fn recorded(endpoint: &Endpoint) -> RecordedEndpoint {
    match endpoint {
        Endpoint::Blob { .. } => RecordedEndpoint::Blob,
        Endpoint::Manifest { .. } => RecordedEndpoint::Manifest,
        Endpoint::Referrers { .. } => RecordedEndpoint::Referrers,
        Endpoint::Tags { .. } => RecordedEndpoint::Tags,
    }
}

/// The image before its upstream is known.
fn asked_name(request: &GateRequest) -> String {
    let image = match &request.endpoint {
        Endpoint::Blob { name, digest } | Endpoint::Referrers { name, digest, .. } => format!("{name}@{digest}"),
        Endpoint::Manifest { name, reference: Reference::Digest(digest) } => format!("{name}@{digest}"),
        Endpoint::Manifest { name, reference } => format!("{name}:{reference}"),
        Endpoint::Tags { name, .. } => name.to_string(),
    };
    match &request.ns {
        Some(ns) => format!("{ns}/{image}"),
        None => image,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gate::ReadMethod;
    use crate::scope::Scope;

    fn request(repository: &str) -> GateRequest {
        let endpoint =
            Endpoint::Manifest { name: repository.parse().unwrap(), reference: "1".parse::<Reference>().unwrap() };
        let requester = Requester { request_id: "1".into(), client: "127.0.0.1".into(), client_name: None };
        GateRequest { ns: None, endpoint, method: ReadMethod::Get, scope: Scope::CLUSTER, requester, key: None }
    }

    #[tokio::test]
    async fn the_record_of_a_client_that_leaves_while_the_queue_is_full_is_written() {
        let audit = Audit::without_writer();
        let draft = |repository: &str| RecordDraft::new(&request(repository), &audit, Timestamp::UNIX_EPOCH);
        let failed = Err(GateError::Cache(crate::cache::CacheError::NotFound));
        while futures_util::poll!(std::pin::pin!(audit.wait_for_room())).is_ready() {
            (0..1000).for_each(|_| drop(draft("library/filler")));
        }
        let mut waiting = draft("library/waiting");
        assert!(futures_util::poll!(std::pin::pin!(waiting.finish(&failed))).is_pending());
        drop(waiting);
        let lines = audit.queued();
        let record = lines.lines().rfind(|line| line.contains("library/waiting")).expect("it is written");
        assert!(record.contains("\"decision\":\"missing\""), "{record}");
        assert_eq!(lines.matches("library/waiting").count(), 1);
        let mut finished = draft("library/finished");
        assert!(finished.finish(&failed).await.is_some());
        drop(finished);
        assert_eq!(audit.queued().matches("library/finished").count(), 1);
    }
}
