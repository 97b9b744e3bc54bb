//! The audit record of a request, written even when the client has gone.

use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;

use super::judge::Judgement;
use super::{Answer, Ask, GateError, Target};
use crate::audit::{Audit, Decided, Record, SCHEMA, Told, WouldDeny};
use crate::oci::Endpoint;
use crate::policy::{Denial, DenialKind, VaEvidence, VaFindings};

/// The record in the making. Dropped unfinished, it says that the request was abandoned.
pub struct Entry {
    decided: Option<Decided>,
    /// Set once it is finished.
    recorded: Option<Told>,
    who: Who,
    audit: Audit,
    time: Timestamp,
    started: Instant,
}

/// Whom a decision is made for.
#[derive(Clone, Debug)]
pub struct Who {
    /// Identifies the request in all logs.
    pub request_id: String,
    /// The client's address.
    pub client: Arc<str>,
    /// The common name of the client's certificate.
    pub client_name: Option<Arc<str>>,
}

impl Who {
    /// The record of a decision that was made for them.
    pub(super) fn record<'a>(&'a self, what: &'a Told, time: Timestamp, duration_ms: u64) -> Record<'a> {
        let Self { request_id, client, client_name } = self;
        Record { what, time, request_id, client, client_name: client_name.as_deref(), duration_ms }
    }
}

impl Entry {
    /// Begins the record of a request.
    pub fn new(ask: &Ask, audit: &Audit, now: Timestamp) -> Self {
        let decided = Decided {
            schema: SCHEMA,
            scope: ask.scope.to_string(),
            method: ask.method.clone(),
            endpoint: endpoint_name(&ask.route.endpoint),
            image: asked_name(&ask.route.endpoint),
            digest: None,
            kind: None,
            skipped: Vec::new(),
            decision: "abandoned",
            document: None,
            rule: None,
            stage: None,
            reasons: Vec::new(),
            would_deny: Vec::new(),
            trust_age_seconds: None,
            va_age_seconds: None,
        };
        Self {
            decided: Some(decided),
            recorded: None,
            who: ask.who.clone(),
            audit: audit.clone(),
            time: now,
            started: Instant::now(),
        }
    }

    /// Nothing was decided, so nothing is recorded.
    pub fn discard(&mut self) {
        self.decided = None;
    }

    /// Whole seconds and parts of them since the request came.
    pub(super) fn elapsed_seconds(&self) -> f64 {
        self.started.elapsed().as_secs_f64()
    }

    /// How old the evidence was, in seconds, by what it is about.
    pub(super) fn evidence_ages(&self) -> impl Iterator<Item = (&'static str, i64)> {
        let ages =
            self.decided.as_ref().map(|record| [("trust", record.trust_age_seconds), ("va", record.va_age_seconds)]);
        ages.into_iter().flatten().filter_map(|(kind, age)| Some((kind, age?)))
    }

    /// The documents whose denials were not carried out.
    pub(super) fn would_deny(&self) -> impl Iterator<Item = &str> {
        let denials = self.decided.iter().flat_map(|record| &record.would_deny);
        denials.map(|denial| denial.document.as_deref().unwrap_or("none"))
    }

    pub(super) fn about(&mut self, target: &Target, endpoint: &Endpoint) {
        self.with(|record| {
            record.image = match endpoint {
                Endpoint::Manifest { reference, .. } => target.describe(reference),
                Endpoint::Blob { digest, .. } | Endpoint::Referrers { digest, .. } => {
                    format!("{}@{digest}", target.name)
                }
                Endpoint::Base | Endpoint::Tags { .. } => target.name.to_string(),
            };
        });
    }

    /// What was judged, and what each entry said.
    pub(super) fn judged(&mut self, judgement: &Judgement) {
        let age = |at: Timestamp| judgement.at.duration_since(at).as_secs();
        let finding = judgement.deciding();
        let evidence = finding.map(|finding| &finding.evidence);
        self.with(|record| {
            if let Some(judged) = &judgement.judged {
                record.digest = Some(judged.manifest.digest.to_string());
                record.kind = Some(judged.kind.kind.as_str());
            }
            if let Ok(permit) = &judgement.decision {
                record.document = Some(permit.document().to_owned());
                record.rule = Some(permit.rule().to_owned());
            }
            record.skipped = judgement.skipped();
            record.would_deny = judgement.would_deny().into_iter().map(WouldDeny::from).collect();
            record.trust_age_seconds =
                evidence.and_then(|found| found.trust.own.iter().map(|(_, observed)| age(observed.at)).max());
            record.va_age_seconds = evidence.and_then(|found| found.va.as_ref()).and_then(oldest).map(age);
        });
    }

    /// Writes the record. False when it could not be written and must be.
    pub(super) async fn finish(&mut self, answer: &Result<Answer, GateError>) -> bool {
        let Some(mut decided) = self.decided.take() else { return true };
        match answer {
            Ok(answer) => conclude(&mut decided, answer),
            Err(error) => explain(&mut decided, error),
        }
        let what = self.recorded.insert(Told::from(&decided)).clone();
        self.audit.write(&self.who.record(&what, self.time, self.duration_ms())).await
    }

    /// What was recorded, once it was.
    pub(super) fn recorded(&self) -> Option<&Told> {
        self.recorded.as_ref()
    }

    fn duration_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn with(&mut self, change: impl FnOnce(&mut Decided)) {
        if let Some(decided) = &mut self.decided {
            change(decided);
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(decided) = self.decided.take() {
            self.audit.write_later(&self.who.record(&Told::from(&decided), self.time, self.duration_ms()));
        }
    }
}

fn oldest(va: &VaFindings) -> Option<Timestamp> {
    let at = |observed: &crate::policy::Observed<VaEvidence>| match &observed.value {
        VaEvidence::Report(report) => report.generated_at.unwrap_or(observed.at),
        _ => observed.at,
    };
    match va {
        VaFindings::Image(observed) => Some(at(observed)),
        VaFindings::Children(children) => children.iter().map(|child| at(&child.evidence)).min(),
    }
}

/// Where an enforced entry admitted, the decision is to admit, whatever audited entries say beside it.
fn conclude(record: &mut Decided, answer: &Answer) {
    record.decision = "admit";
    let Some(permit) = answer.permit().filter(|permit| permit.is_only_reported()) else { return };
    if let Some(denial) = permit.would_deny().first() {
        record.decision = "would-deny";
        record.stage = Some(denial.stage.as_str());
        record.reasons.clone_from(&denial.reasons);
    }
}

fn explain(record: &mut Decided, error: &GateError) {
    let GateError::Denied(denial) = error else {
        record.decision = decision_name(error);
        record.reasons = vec![error.to_string()];
        return;
    };
    let Denial { stage, document, rule, reasons, .. } = denial;
    record.decision = decision_name(error);
    record.stage = Some(stage.as_str());
    record.document = document.as_deref().map(str::to_owned);
    record.rule = rule.as_deref().map(str::to_owned);
    record.reasons.clone_from(reasons);
}

/// The word for an outcome that is not an admission, in records and metrics.
pub(super) fn decision_name(error: &GateError) -> &'static str {
    match error {
        GateError::Denied(denial) => match denial.kind {
            DenialKind::Pending => "pending",
            DenialKind::Policy => "deny",
            DenialKind::Unavailable => "unavailable",
        },
        GateError::Pending { .. } => "pending",
        GateError::ForeignUrl { .. }
        | GateError::NotServed { .. }
        | GateError::NoUpstream { .. }
        | GateError::UnknownUpstream { .. }
        | GateError::Resolve(crate::resolve::ResolveError::Refused(_)) => "refused",
        _ => "error",
    }
}

fn endpoint_name(endpoint: &Endpoint) -> &'static str {
    match endpoint {
        Endpoint::Base => "base",
        Endpoint::Blob { .. } => "blob",
        Endpoint::Manifest { .. } => "manifest",
        Endpoint::Referrers { .. } => "referrers",
        Endpoint::Tags { .. } => "tags",
    }
}

fn asked_name(endpoint: &Endpoint) -> String {
    match endpoint {
        Endpoint::Base => String::new(),
        Endpoint::Blob { name, digest } | Endpoint::Referrers { name, digest, .. } => format!("{name}@{digest}"),
        Endpoint::Manifest { name, reference } => format!("{name}:{reference}"),
        Endpoint::Tags { name, .. } => name.to_string(),
    }
}
