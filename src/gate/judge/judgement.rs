//! The result of judging, from which records, metrics, `pullgate check` output and answers are derived.

use std::sync::Arc;

use jiff::Timestamp;

use super::evidence::GatheredEvidence;
use super::kind::Classification;
use crate::audit::{UsedExemption, WouldDeny};
use crate::oci::{Digest, Manifest};
use crate::policy::{self, Denial, DenialKind, Kind, Observed, Opinion, Permit, Stage, VaEvidence, VaFindings};

/// The maximum number of exemptions that a record names.
const MAX_EXEMPTIONS_IN_RECORD: usize = 50;

/// What is known about a manifest, and the resulting decision.
#[derive(Debug)]
pub(in crate::gate) struct Judgement {
    /// The judged manifest; `None` if no entry selects the subject, in which case nothing was looked up.
    pub(in crate::gate) judged: Option<Judged>,
    /// The findings of the enforced entries, up to the first that admits.
    pub(in crate::gate) enforced: Vec<EntryFinding>,
    /// The findings of the audited entries.
    pub(in crate::gate) audited: Vec<EntryFinding>,
    /// The decision.
    pub(in crate::gate) decision: Result<Permit, Denial>,
    /// When the decision was made.
    pub(in crate::gate) at: Timestamp,
}

/// What a judgement means for the answer and for the record, without the evidence, so it is small enough to be kept.
#[derive(Debug)]
pub(in crate::gate) struct JudgementOutcome {
    /// The judged manifest; `None` if no entry selects the subject.
    pub(in crate::gate) judged: Option<Judged>,
    pub(in crate::gate) decision: Result<Permit, Denial>,
    pub(in crate::gate) kind: Option<Kind>,
    /// The checks that were skipped because of the kind of the manifest.
    pub(in crate::gate) skipped: Vec<Stage>,
    /// The denials that were not enforced.
    pub(in crate::gate) would_deny: Vec<WouldDeny>,
    /// The exemptions that the check of vulnerabilities relied on, as the record names them.
    pub(in crate::gate) exemptions: Vec<UsedExemption>,
    /// The age of the oldest signature evidence, in seconds.
    pub(in crate::gate) trust_age_seconds: Option<i64>,
    /// The age of the oldest vulnerability evidence, in seconds.
    pub(in crate::gate) va_age_seconds: Option<i64>,
    /// Whether the deciding entry checked the vulnerabilities of an image that is assessed.
    pub(in crate::gate) has_checked_va: bool,
    pub(in crate::gate) validity: Validity,
}

/// How long a decision remains valid according to its evidence.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::gate) struct Validity {
    /// The earliest expiry of the evidence and of the tag resolution; `None` if neither expires by itself.
    pub(in crate::gate) until: Option<Timestamp>,
    /// Whether an image was admitted with nothing to report.
    pub(in crate::gate) is_clean: bool,
}

impl JudgementOutcome {
    /// Whether a manifest is admitted that names the blob.
    pub(in crate::gate) fn admits_blob(&self, blob: Digest) -> bool {
        let names = |judged: &Judged| judged.manifest.names_blob(&blob);
        self.decision.is_ok() && self.judged.as_ref().is_some_and(names)
    }
}

/// The manifest that was judged.
#[derive(Clone, Debug)]
pub(in crate::gate) struct Judged {
    pub(in crate::gate) manifest: Arc<Manifest>,
    pub(in crate::gate) kind: Classification,
    /// Why the tag resolution may be out of date.
    pub(in crate::gate) stale: Option<String>,
    /// Until when the tag is not resolved again at the upstream; `None` for a digest.
    pub(super) fresh_until: Option<Timestamp>,
}

/// The outcome of one entry and the evidence for it.
#[derive(Debug)]
pub(in crate::gate) struct EntryFinding {
    pub(in crate::gate) opinion: Opinion,
    pub(in crate::gate) evidence: GatheredEvidence,
}

impl EntryFinding {
    /// When the finding expires: when its evidence expires, or when the entry no longer admits on that evidence, for
    /// example because a report becomes too old. `None` if it does not expire by itself.
    fn until(&self) -> Option<Timestamp> {
        let admits_until = self.opinion.outcome.as_ref().ok().and_then(|admission| admission.until);
        self.evidence.until().into_iter().chain(admits_until).min()
    }
}

impl Judgement {
    /// The denials that were not enforced, and those of audited entries in addition to an enforced denial.
    pub(in crate::gate) fn would_deny(&self) -> Vec<&Denial> {
        match &self.decision {
            Ok(permit) => permit.would_deny().iter().collect(),
            Err(_) => policy::denial(&opinions(&self.audited)).into_iter().collect(),
        }
    }

    /// Why the decision is not final, if it is not: something is not known now.
    pub(in crate::gate) fn doubt(&self) -> Option<String> {
        let denial = match &self.decision {
            Ok(permit) => permit.only_reported()?,
            Err(denial) => denial,
        };
        let all = if self.enforced.is_empty() { &self.audited } else { &self.enforced };
        let others = all.iter().filter_map(|finding| finding.opinion.outcome.as_ref().err());
        let open = others.chain([denial]).find(|denial| denial.kind != DenialKind::Policy)?;
        Some(open.reasons.join("; "))
    }

    /// What the judgement means for the answer and for the record.
    pub(in crate::gate) fn outcome(self) -> JudgementOutcome {
        let age = |at: Timestamp| self.at.duration_since(at).as_secs();
        let evidence = self.deciding().map(|finding| &finding.evidence);
        let exemptions = evidence.map(|found| found.used_exemptions(self.at, MAX_EXEMPTIONS_IN_RECORD));
        JudgementOutcome {
            kind: self.judged.as_ref().map(|judged| judged.kind.kind),
            skipped: self.skipped(),
            would_deny: self.would_deny().into_iter().map(WouldDeny::from).collect(),
            exemptions: exemptions.iter().flatten().map(|record| (&**record).into()).collect(),
            trust_age_seconds: evidence
                .and_then(|found| found.trust.own.iter().map(|(_, observed)| age(observed.at)).max()),
            va_age_seconds: evidence.and_then(|found| found.va.as_ref()).and_then(oldest).map(age),
            has_checked_va: evidence.and_then(|found| found.va.as_ref()).is_some_and(VaFindings::is_assessed),
            validity: self.validity(),
            judged: self.judged,
            decision: self.decision,
        }
    }

    /// The deciding finding.
    fn deciding(&self) -> Option<&EntryFinding> {
        policy::deciding(&self.enforced, &self.audited, |finding| &finding.opinion)
    }

    /// How long the decision remains valid according to its evidence and the tag.
    fn validity(&self) -> Validity {
        let findings = || self.enforced.iter().chain(&self.audited);
        let tag = self.judged.as_ref().and_then(|judged| judged.fresh_until);
        let until = findings().filter_map(EntryFinding::until).chain(tag).min();
        let is_clean = self.would_deny().is_empty()
            && self.decision.as_ref().is_ok_and(|permit| permit.warnings().is_empty())
            && findings().all(|finding| finding.opinion.outcome.is_ok() && !finding.evidence.is_temporary())
            && self.judged.as_ref().is_some_and(|judged| judged.kind.unproven.is_none());
        Validity { until, is_clean }
    }

    /// The checks that the deciding entry requires but that were skipped because of the kind of the manifest: all of
    /// them for an attachment, vulnerabilities for an artifact.
    pub(in crate::gate) fn skipped(&self) -> Vec<Stage> {
        let skips: &[Stage] = match self.judged.as_ref().map(|judged| judged.kind.kind) {
            Some(Kind::Attachment) => &[Stage::Trust, Stage::Simple, Stage::Va],
            Some(Kind::Artifact) => &[Stage::Va],
            Some(Kind::Image | Kind::Index) | None => &[],
        };
        let Some(rule) = self.deciding().and_then(|finding| finding.opinion.selected.rule.as_ref()) else {
            return Vec::new();
        };
        let checks = [
            (Stage::Trust, rule.trust.is_some()),
            (Stage::Simple, rule.simple.is_some()),
            (Stage::Va, rule.va.is_some()),
        ];
        checks.into_iter().filter(|(stage, asked)| *asked && skips.contains(stage)).map(|(stage, _)| stage).collect()
    }
}

/// The opinions of the entries, without the evidence.
pub(super) fn opinions(findings: &[EntryFinding]) -> Vec<&Opinion> {
    findings.iter().map(|finding| &finding.opinion).collect()
}

/// When the oldest vulnerability evidence was gathered.
fn oldest(va: &VaFindings) -> Option<Timestamp> {
    let made = |observed: &Observed<VaEvidence>| observed.value.report().and_then(|report| report.generated_at);
    let at = |observed: &Observed<VaEvidence>| made(observed).unwrap_or(observed.at);
    match va {
        VaFindings::Image(observed) => Some(at(observed)),
        VaFindings::Children(children) => children.iter().map(|child| at(&child.evidence)).min(),
    }
}
