//! The decision: a pure function of rule, subject, evidence and time. Only this module creates a [`Permit`].

use std::sync::Arc;

use jiff::Timestamp;

use super::checks::assess::{
    AssessmentContext, VaVerdict, assess, assessed, earliest, index_verdict, observed_verdict,
};
use super::checks::signed::trust_verdict;
use super::checks::verdict::Verdict;
use super::denial::{Denial, DenialKind, Stage};
use super::matching::subject::{Kind, Subject};
use super::rules::exemption::VaExemptions;
use super::rules::rule::{Mode, Rule, Selected};
use super::rules::va_rule::VaRule;
use super::signatures::evidence::TrustFindings;
use super::vulnerability::history::ImageHistory;
use super::vulnerability::{ChildFinding, VaEvidence, VaFindings};
use crate::oci::{Digest, ImageName, Manifest};

/// An admission by one entry.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Admission {
    /// When the entry may no longer admit. `None` if nothing that it depends on expires.
    pub until: Option<Timestamp>,
    /// Why the manifest is admitted only for now, for example because an issue was found that it had not when it was
    /// admitted first.
    pub warnings: Vec<String>,
}

/// Evaluates a manifest under one entry. Returns the admission, or the denial.
///
/// The order is trust, then simple signing, then vulnerabilities. The first failed check decides, as in CISE.
///
/// # Errors
/// The denial.
pub fn weigh(question: &Question<'_>) -> Result<Admission, Denial> {
    question.selected.rule.as_ref().map_or(Ok(Admission::default()), |rule| judge(rule, question))
}

/// The result of one entry for a manifest.
#[derive(Clone, Debug, PartialEq)]
pub struct Opinion {
    /// The entry.
    pub selected: Selected,
    /// The result of [`weigh`].
    pub outcome: Result<Admission, Denial>,
}

/// The results of all entries that apply to a subject, for one manifest.
#[derive(Clone, Copy, Debug)]
pub struct Opinions<'a> {
    /// The requested subject.
    pub subject: &'a Subject,
    /// The digest of the bytes that would be served.
    pub digest: Digest,
    /// The mode of the gate: whether denials are enforced.
    pub mode: Mode,
    /// The results of the enforced entries, the most specific first. They decide.
    pub enforced: &'a [&'a Opinion],
    /// The results of the entries in audit mode. They are recorded, and decide only if no enforced entry applies.
    pub audited: &'a [&'a Opinion],
}

/// Decides whether a manifest may be served.
///
/// A subject can have several names (a digest with several tags) and therefore several entries. One entry that admits
/// is sufficient. A denial gives the reason of the first entry, which is the most specific one. The permit carries the
/// denials of the audited entries.
///
/// # Errors
/// The denial.
pub fn decide(opinions: &Opinions<'_>) -> Result<Permit, Denial> {
    let Opinions { subject, digest, mode, enforced, audited } = *opinions;
    let permit = |by: &Opinion, admission: Admission, own: Option<&Denial>| Permit {
        name: subject.name.clone(),
        digest,
        size: None,
        terms: Arc::new(Terms {
            document: by.selected.document.clone(),
            rule: by.selected.entry.clone(),
            would_deny: own.into_iter().chain(denial(audited)).cloned().collect(),
            is_only_reported: own.is_some() || enforced.is_empty(),
            until: admission.until,
            warnings: admission.warnings,
        }),
    };
    let admits = |opinion: &&&Opinion| opinion.outcome.is_ok();
    match (enforced.iter().find(admits), denial(enforced), audited.first()) {
        (Some(by), _, _) => Ok(permit(by, by.outcome.clone().unwrap_or_default(), None)),
        (None, Some(denial), _) if mode == Mode::Audit => Ok(permit(enforced[0], Admission::default(), Some(denial))),
        (None, Some(denial), _) => Err(denial.clone()),
        (None, None, Some(first)) => {
            Ok(permit(audited.iter().find(admits).unwrap_or(first), Admission::default(), None))
        }
        (None, None, None) => Err(no_match(subject, "no rule selects it".into())),
    }
}

/// The entry that decides: the first enforced entry that admits, or else the first enforced entry. If no entry is
/// enforced, the same applies to the audited entries.
pub fn deciding<'a, T>(enforced: &'a [T], audited: &'a [T], opinion: impl Fn(&T) -> &Opinion) -> Option<&'a T> {
    let all = if enforced.is_empty() { audited } else { enforced };
    all.iter().find(|one| opinion(one).outcome.is_ok()).or(all.first())
}

/// The denial if none of the entries admits.
pub fn denial<'a>(opinions: &[&'a Opinion]) -> Option<&'a Denial> {
    let first = opinions.first()?.outcome.as_ref().err()?;
    opinions.iter().all(|opinion| opinion.outcome.is_err()).then_some(first)
}

/// Decides whether the tags and referrers of a repository may be listed. They may be listed if any rule selects the
/// repository.
pub fn admit_listing(name: &ImageName, selected: &[Selected]) -> Option<ListingPermit> {
    (!selected.is_empty()).then(|| ListingPermit { name: name.clone() })
}

/// The listing permit of a gate in audit mode for a repository that no document selects.
pub fn admit_listing_unmatched(name: &ImageName) -> ListingPermit {
    ListingPermit { name: name.clone() }
}

/// The permit of a gate in audit mode for a subject that no document selects. It carries the denial.
pub fn admit_unmatched(subject: &Subject, digest: Digest, message: String) -> Permit {
    let terms = Terms {
        document: "none".into(),
        rule: "".into(),
        would_deny: vec![no_match(subject, message)],
        is_only_reported: true,
        until: None,
        warnings: Vec::new(),
    };
    Permit { name: subject.name.clone(), digest, size: None, terms: Arc::new(terms) }
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

/// All inputs of a decision.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// The requested subject.
    pub subject: &'a Subject,
    /// The digest of the bytes that would be served.
    pub digest: Digest,
    /// The kind of content of these bytes.
    pub kind: Kind,
    /// The document and entry that apply to the subject.
    pub selected: &'a Selected,
    /// The signature evidence.
    pub trust: &'a TrustFindings,
    /// The vulnerability evidence. `None` if no source was queried because the rule does not need it or a trust check
    /// failed.
    pub va: Option<&'a VaFindings>,
    /// The exemptions that apply in addition to those that the sources include in their reports.
    pub exemptions: &'a VaExemptions,
    /// What the gate remembers about the image.
    pub history: &'a ImageHistory,
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

/// Evaluates all checks of one rule. Returns the admission, or the denial.
fn judge(rule: &Rule, question: &Question<'_>) -> Result<Admission, Denial> {
    let mut until = None;
    let stages = [Stage::Trust, Stage::Simple];
    for (stage, verdict) in stages.into_iter().zip(trust_verdict(rule, question.kind, question.trust, question.now)) {
        until = earliest(until, accept(question, stage, verdict, false)?);
    }
    let Some(va) = rule.va.as_ref().filter(|_| question.kind != Kind::Attachment) else {
        return Ok(Admission { until, warnings: Vec::new() });
    };
    let VaVerdict { verdict, is_pending, warnings } = va_verdict(va, question);
    Ok(Admission { until: earliest(until, accept(question, Stage::Va, verdict, is_pending)?), warnings })
}

fn accept(
    question: &Question<'_>,
    stage: Stage,
    verdict: Verdict,
    is_pending: bool,
) -> Result<Option<Timestamp>, Denial> {
    match verdict {
        Verdict::Pass(until) => Ok(until),
        Verdict::Skipped => Ok(None),
        Verdict::Fail(reasons) => Err(question.deny(stage, DenialKind::Policy, reasons)),
        Verdict::Unknown { reasons, temporary: true } => {
            Err(question.deny(stage, if is_pending { DenialKind::Pending } else { DenialKind::Unavailable }, reasons))
        }
        Verdict::Unknown { reasons, temporary: false } => Err(question.deny(stage, DenialKind::Policy, reasons)),
    }
}

fn va_verdict(rule: &VaRule, question: &Question<'_>) -> VaVerdict {
    let Question { exemptions, history, now, .. } = *question;
    let context = AssessmentContext { exemptions, history, now };
    if question.kind == Kind::Artifact {
        let evidence = VaEvidence::Unsupported { why: "not a container image".into(), issues: Vec::new() };
        // Conditions are about images.
        let unconditional = rule.when.is_some().then(|| VaRule { when: None, ..rule.clone() });
        let rule = unconditional.as_ref().unwrap_or(rule);
        return assessed(rule, assess(rule, &evidence, &context));
    }
    match question.va {
        None => {
            let reasons = vec!["no source was asked".into()];
            VaVerdict::settled(Verdict::Unknown { reasons, temporary: true })
        }
        Some(VaFindings::Image(evidence)) => observed_verdict(rule, evidence, &context),
        Some(VaFindings::Children(children)) => {
            let verdict = |child: &ChildFinding| {
                let exemptions = exemptions.for_child(child.digest);
                observed_verdict(rule, &child.evidence, &AssessmentContext { exemptions: &exemptions, ..context })
            };
            index_verdict(children.iter().map(|child| (&*child.platform, verdict(child))))
        }
    }
}

/// Proof that a manifest was admitted. Only this file creates it.
#[derive(Clone, Debug, PartialEq)]
pub struct Permit {
    name: ImageName,
    digest: Digest,
    size: Option<u64>,
    terms: Arc<Terms>,
}

/// The terms of a permit, without the content that it is for. Most images that an entry admits have the same terms.
#[derive(Debug, PartialEq)]
struct Terms {
    document: Arc<str>,
    rule: Arc<str>,
    would_deny: Vec<Denial>,
    is_only_reported: bool,
    until: Option<Timestamp>,
    warnings: Vec<String>,
}

impl Permit {
    /// The upstream and repository that the permit is for.
    pub fn name(&self) -> &ImageName {
        &self.name
    }

    /// The digest of the content that the permit is for.
    pub fn digest(&self) -> Digest {
        self.digest
    }

    /// The size of this content in bytes, as stated in the admitted manifest.
    pub fn size(&self) -> Option<u64> {
        self.size
    }

    /// The document that admitted the manifest.
    pub fn document(&self) -> &str {
        &self.terms.document
    }

    /// The entry that admitted the manifest.
    pub fn rule(&self) -> &str {
        &self.terms.rule
    }

    /// Denials that were not enforced: those of a gate in audit mode and those of audited entries.
    pub fn would_deny(&self) -> &[Denial] {
        &self.terms.would_deny
    }

    /// The denial that is only reported: no enforced entry admits the manifest, because the gate or every applicable
    /// entry is in audit mode.
    pub fn only_reported(&self) -> Option<&Denial> {
        self.terms.would_deny.first().filter(|_| self.terms.is_only_reported)
    }

    /// The time until which the decision is valid. `None` if no evidence expires.
    pub fn until(&self) -> Option<Timestamp> {
        self.terms.until
    }

    /// Why the manifest is admitted only temporarily. Users of the image should know.
    pub fn warnings(&self) -> &[String] {
        &self.terms.warnings
    }

    /// Shares the memory of the terms with another permit. Returns false if the terms differ.
    pub fn share_terms(&mut self, other: &Self) -> bool {
        let are_alike = self.terms == other.terms;
        if are_alike {
            self.terms = other.terms.clone();
        }
        are_alike
    }

    /// The permit for a blob of the admitted manifest. `None` if `manifest` is not the admitted manifest or does not
    /// reference the blob.
    pub fn for_blob(&self, manifest: &Manifest, blob: Digest) -> Option<Self> {
        let named = manifest.descriptors().find(|descriptor| descriptor.digest == blob)?;
        let is_ours = manifest.digest == self.digest && manifest.names_blob(&blob);
        is_ours.then(|| Self { digest: blob, size: Some(named.size), ..self.clone() })
    }
}

/// Proof that a rule selects a repository. It permits access to the repository's lists, but not to content.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ListingPermit {
    name: ImageName,
}

impl ListingPermit {
    /// The upstream and repository that the permit is for.
    pub fn name(&self) -> &ImageName {
        &self.name
    }
}

#[cfg(test)]
mod tests;
