//! The decision: a pure function of rule, subject, evidence and time, and the only maker of a [`Permit`].

use std::sync::Arc;

use jiff::Timestamp;

use super::assess::{assess, assessed, earliest, index_verdict, observed_verdict};
use super::denial::{Denial, DenialKind, Stage};
use super::evidence::{Observed, TrustFindings};
use super::exemption::VaExemptions;
use super::rule::{Mode, Rule, VaRule};
use super::signed::trust_verdict;
use super::subject::{Kind, Subject};
use super::verdict::Verdict;
use super::vulnerability::{VaEvidence, VaFindings};
use crate::oci::{Digest, ImageName, Manifest};

/// Weighs a manifest under one entry: until when the entry admits it, or why it does not.
///
/// Order: trust, then simple signing, then vulnerabilities, and the first that fails decides (CISE's order).
///
/// # Errors
/// The denial.
pub fn weigh(question: &Question<'_>) -> Result<Option<Timestamp>, Denial> {
    question.selected.rule.as_ref().map_or(Ok(None), |rule| judge(rule, question))
}

/// What one entry says about a manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Opinion {
    /// The entry.
    pub selected: Selected,
    /// What [`weigh`] said.
    pub outcome: Result<Option<Timestamp>, Denial>,
}

/// Everything that the entries which speak for a subject say about a manifest.
#[derive(Clone, Copy, Debug)]
pub struct Opinions<'a> {
    /// What was asked for.
    pub subject: &'a Subject,
    /// The digest of the bytes that would be served.
    pub digest: Digest,
    /// Whether a denial is carried out: the mode of the gate.
    pub mode: Mode,
    /// Of the entries that are enforced, the most specific first. They decide.
    pub enforced: &'a [&'a Opinion],
    /// Of the entries in audit mode. They are recorded, and decide only where no other entry speaks.
    pub audited: &'a [&'a Opinion],
}

/// Decides whether a manifest may be served.
///
/// A subject may have several names (a digest with several tags) and so several entries: one that admits suffices, and
/// a denial gives the reason of the first, the most specific. What the audited entries would deny goes with the permit.
///
/// # Errors
/// The denial.
pub fn decide(opinions: &Opinions<'_>) -> Result<Permit, Denial> {
    let Opinions { subject, digest, mode, enforced, audited } = *opinions;
    let permit = |by: &Opinion, until: Option<Timestamp>, own: Option<&Denial>| Permit {
        name: subject.name.clone(),
        digest,
        size: None,
        document: by.selected.document.clone(),
        rule: by.selected.entry.clone(),
        would_deny: own.into_iter().chain(denial(audited)).cloned().collect(),
        is_only_reported: own.is_some() || enforced.is_empty(),
        until,
    };
    let admits = |opinion: &&&Opinion| opinion.outcome.is_ok();
    match (enforced.iter().find(admits), denial(enforced), audited.first()) {
        (Some(by), _, _) => Ok(permit(by, by.outcome.clone().ok().flatten(), None)),
        (None, Some(denial), _) if mode == Mode::Audit => Ok(permit(enforced[0], None, Some(denial))),
        (None, Some(denial), _) => Err(denial.clone()),
        (None, None, Some(first)) => Ok(permit(audited.iter().find(admits).unwrap_or(first), None, None)),
        (None, None, None) => Err(no_match(subject, "no rule selects it".into())),
    }
}

/// The entry that decides: of the enforced ones, or of the audited ones where nothing is enforced, the first that admits,
/// else the first.
pub fn deciding<'a, T>(enforced: &'a [T], audited: &'a [T], opinion: impl Fn(&T) -> &Opinion) -> Option<&'a T> {
    let all = if enforced.is_empty() { audited } else { enforced };
    all.iter().find(|one| opinion(one).outcome.is_ok()).or(all.first())
}

/// The denial of entries of which none admits.
pub fn denial<'a>(opinions: &[&'a Opinion]) -> Option<&'a Denial> {
    let first = opinions.first()?.outcome.as_ref().err()?;
    opinions.iter().all(|opinion| opinion.outcome.is_err()).then_some(first)
}

/// Decides whether the tags and referrers of a repository may be listed: where any rule selects it.
pub fn admit_listing(name: &ImageName, selected: &[Selected]) -> Option<ListingPermit> {
    (!selected.is_empty()).then(|| ListingPermit { name: name.clone() })
}

/// The listing permit of a gate in audit mode for a repository that no document selects.
pub fn admit_listing_unmatched(name: &ImageName) -> ListingPermit {
    ListingPermit { name: name.clone() }
}

/// The permit of a gate in audit mode for a subject that no document selects: it carries the denial.
pub fn admit_unmatched(subject: &Subject, digest: Digest, message: String) -> Permit {
    Permit {
        name: subject.name.clone(),
        digest,
        size: None,
        document: "none".into(),
        rule: "".into(),
        would_deny: vec![no_match(subject, message)],
        is_only_reported: true,
        until: None,
    }
}

/// The denial of a subject that no document selects.
pub fn no_match(subject: &Subject, message: String) -> Denial {
    unmatched(subject.to_string(), message)
}

/// The denial of a repository that no document selects.
pub fn no_match_in(name: &ImageName, message: String) -> Denial {
    unmatched(name.to_string(), message)
}

fn unmatched(subject: String, message: String) -> Denial {
    Denial {
        subject,
        kind: DenialKind::Policy,
        stage: Stage::Policy,
        document: None,
        rule: None,
        reasons: vec![message],
    }
}

/// Everything that a decision depends on.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// What was asked for.
    pub subject: &'a Subject,
    /// The digest of the bytes that would be served.
    pub digest: Digest,
    /// What those bytes are.
    pub kind: Kind,
    /// The document and entry that speak for the subject.
    pub selected: &'a Selected,
    /// What is known about signatures.
    pub trust: &'a TrustFindings,
    /// What is known about vulnerabilities; `None` when nobody was asked, because the rule or a failed trust check
    /// made it needless.
    pub va: Option<&'a VaFindings>,
    /// The exemptions that apply, beside those that sources have in their reports.
    pub exemptions: &'a VaExemptions,
    /// The time of the decision.
    pub now: Timestamp,
}

impl Question<'_> {
    fn deny(&self, stage: Stage, kind: DenialKind, reasons: Vec<String>) -> Denial {
        Denial {
            subject: self.subject.to_string(),
            kind,
            stage,
            document: Some(self.selected.document.clone()),
            rule: Some(self.selected.entry.clone()),
            reasons,
        }
    }
}

/// The document and the entry that speak for a subject.
#[derive(Clone, Debug, PartialEq)]
pub struct Selected {
    /// Kind and name: `ClusterImagePolicy/default`.
    pub document: Arc<str>,
    /// The entry's `name`, which is its pattern.
    pub entry: Arc<str>,
    /// What it asks for; `None` where it has no `policy`, which admits.
    pub rule: Option<Arc<Rule>>,
}

impl Selected {
    /// Whether the entry asks for any check.
    pub fn asks(&self) -> bool {
        self.rule.as_ref().is_some_and(|rule| !rule.admits_all())
    }
}

/// The whole judgement of one rule: until when it admits, or the denial.
fn judge(rule: &Rule, question: &Question<'_>) -> Result<Option<Timestamp>, Denial> {
    let mut until = None;
    let stages = [Stage::Trust, Stage::Simple];
    for (stage, verdict) in stages.into_iter().zip(trust_verdict(rule, question.kind, question.trust, question.now)) {
        until = earliest(until, accept(question, stage, verdict)?);
    }
    let Some(va) = rule.va.as_ref().filter(|_| question.kind != Kind::Attachment) else { return Ok(until) };
    let verdict = va_verdict(va, question);
    Ok(earliest(until, accept(question, Stage::Va, verdict)?))
}

fn accept(question: &Question<'_>, stage: Stage, verdict: Verdict) -> Result<Option<Timestamp>, Denial> {
    match verdict {
        Verdict::Pass(until) => Ok(until),
        Verdict::Skipped => Ok(None),
        Verdict::Fail(reasons) => Err(question.deny(stage, DenialKind::Policy, reasons)),
        Verdict::Unknown { reasons, temporary: true } => Err(question.deny(
            stage,
            if stage == Stage::Va && question.is_pending() { DenialKind::Pending } else { DenialKind::Unavailable },
            reasons,
        )),
        Verdict::Unknown { reasons, temporary: false } => Err(question.deny(stage, DenialKind::Policy, reasons)),
    }
}

impl Question<'_> {
    fn is_pending(&self) -> bool {
        let pending = |evidence: &Observed<VaEvidence>| matches!(evidence.value, VaEvidence::Pending { .. });
        match self.va {
            None => false,
            Some(VaFindings::Image(evidence)) => pending(evidence),
            Some(VaFindings::Children(children)) => children.iter().any(|child| pending(&child.evidence)),
        }
    }
}

fn va_verdict(rule: &VaRule, question: &Question<'_>) -> Verdict {
    if question.kind == Kind::Artifact {
        let evidence = VaEvidence::Unsupported { why: "not a container image".into() };
        return assessed(rule, &assess(rule, &evidence, question.exemptions, question.now));
    }
    let verdict = |evidence: &Observed<VaEvidence>| observed_verdict(rule, evidence, question.exemptions, question.now);
    match question.va {
        None => Verdict::Unknown { reasons: vec!["no source was asked".into()], temporary: true },
        Some(VaFindings::Image(evidence)) => verdict(evidence),
        Some(VaFindings::Children(children)) => {
            let verdicts: Vec<_> = children.iter().map(|child| (child, verdict(&child.evidence))).collect();
            index_verdict(verdicts.iter().map(|(child, verdict)| (&*child.platform, verdict)))
        }
    }
}

/// Proof that a manifest was admitted. Made nowhere but in this file.
#[derive(Clone, Debug, PartialEq)]
pub struct Permit {
    name: ImageName,
    digest: Digest,
    size: Option<u64>,
    document: Arc<str>,
    rule: Arc<str>,
    would_deny: Vec<Denial>,
    is_only_reported: bool,
    until: Option<Timestamp>,
}

impl Permit {
    /// Upstream and repository that it is for.
    pub fn name(&self) -> &ImageName {
        &self.name
    }

    /// The content that it is for.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The size in bytes that the admitted manifest says this content has.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// The document that admitted.
    pub fn document(&self) -> &str {
        &self.document
    }

    /// The entry that admitted.
    pub fn rule(&self) -> &str {
        &self.rule
    }

    /// Denials that were not carried out: of the whole gate in audit mode, and of audited entries.
    pub fn would_deny(&self) -> &[Denial] {
        &self.would_deny
    }

    /// Whether no enforced entry admits: the gate, or every entry that speaks, is in audit mode.
    pub fn is_only_reported(&self) -> bool {
        self.is_only_reported
    }

    /// Until when the decision holds, where evidence ends.
    pub fn until(&self) -> Option<Timestamp> {
        self.until
    }

    /// The permit for a blob that the admitted manifest names. `None` when this is not that manifest, or when the
    /// manifest does not name the blob.
    pub fn for_blob(&self, manifest: &Manifest, blob: Digest) -> Option<Self> {
        let named = manifest.descriptors().find(|descriptor| descriptor.digest == blob)?;
        let is_ours = manifest.digest == self.digest && manifest.names_blob(&blob);
        is_ours.then(|| Self { digest: blob, size: Some(named.size), ..self.clone() })
    }
}

/// Proof that a repository is one that a rule selects: opens its lists, and no content.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListingPermit {
    name: ImageName,
}

impl ListingPermit {
    /// Upstream and repository that it is for.
    pub fn name(&self) -> &ImageName {
        &self.name
    }
}

#[cfg(test)]
mod tests;
