//! One judgement: what is known about a manifest, what each entry says of it, and the decision.
//!
//! The gate, `pullgate check` and prefetch all get their answer here, so they cannot differ; records and metrics are made
//! from the judgement that decided.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

use super::evidence::Evidence;
use super::kind::{Claim, Interest, Kinded, Proof};
use super::{Gate, GateError, Target};
use crate::oci::{Digest, Manifest, Reference};
use crate::policy::{self, Denial, DenialKind, Kind, Mode, Opinion, Permit, Selected, Selection, Stage, Subject};
use crate::resolve::Resolved;

/// How long a request waits for what is only reported: a preview must not hold up what is enforced.
const AUDIT_WAIT: Duration = Duration::from_secs(2);

/// What is known about a manifest, and what follows.
#[derive(Debug)]
pub(super) struct Judgement {
    /// What was judged; `None` where no entry selects the subject, so that nothing was asked.
    pub(super) judged: Option<Judged>,
    /// Of the entries that are enforced, up to the first that admits.
    pub(super) enforced: Vec<Finding>,
    /// Of the audited entries.
    pub(super) audited: Vec<Finding>,
    /// The decision.
    pub(super) decision: Result<Permit, Denial>,
    /// When it was made.
    pub(super) at: Timestamp,
}

/// The manifest that was judged.
#[derive(Clone, Debug)]
pub(super) struct Judged {
    pub(super) manifest: Arc<Manifest>,
    pub(super) kind: Kinded,
    /// Why the tag's meaning may be out of date.
    pub(super) stale: Option<String>,
}

/// What one entry says, and the evidence for it.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) opinion: Opinion,
    pub(super) evidence: Evidence,
}

impl Judgement {
    /// What would have been denied: denials that were not carried out, and those of audited entries beside a denial.
    pub(super) fn would_deny(&self) -> Vec<&Denial> {
        match &self.decision {
            Ok(permit) => permit.would_deny().iter().collect(),
            Err(_) => policy::denial(&opinions(&self.audited)).into_iter().collect(),
        }
    }

    /// Whether this admits a manifest that names the blob.
    pub(super) fn admits_blob(&self, blob: Digest) -> bool {
        let names = |judged: &Judged| judged.manifest.names_blob(&blob);
        self.decision.is_ok() && self.judged.as_ref().is_some_and(names)
    }

    /// The finding that decided.
    pub(super) fn deciding(&self) -> Option<&Finding> {
        policy::deciding(&self.enforced, &self.audited, |finding| &finding.opinion)
    }

    /// The checks that the deciding entry asks for and that were skipped because of what the manifest is: all of them for
    /// an attachment, vulnerabilities for an artifact.
    pub(super) fn skipped(&self) -> Vec<&'static str> {
        let skips: &[&str] = match self.judged.as_ref().map(|judged| judged.kind.kind) {
            Some(Kind::Attachment) => &["trust", "simple", "va"],
            Some(Kind::Artifact) => &["va"],
            Some(Kind::Image | Kind::Index) | None => &[],
        };
        let Some(rule) = self.deciding().and_then(|finding| finding.opinion.selected.rule.as_ref()) else {
            return Vec::new();
        };
        let checks = [("trust", rule.trust.is_some()), ("simple", rule.simple.is_some()), ("va", rule.va.is_some())];
        checks.into_iter().filter(|(name, asked)| *asked && skips.contains(name)).map(|(name, _)| name).collect()
    }
}

/// What is judged, for whom.
#[derive(Clone, Copy)]
struct Case<'a> {
    target: &'a Target,
    subject: &'a Subject,
    manifest: &'a Arc<Manifest>,
}

impl Gate {
    /// select -> resolve -> evidence -> decide.
    ///
    /// # Errors
    /// When there is nothing that could be judged. A denial is a decision, and no error.
    pub(super) async fn judge(&self, target: &Target, reference: &Reference) -> Result<Judgement, GateError> {
        let subject = self.subject(target, reference).await?;
        let rules = self.rulebook.rules().clone();
        let (enforced, audited) = match rules.select(&subject) {
            Selection::Entries { enforced, audited } => (enforced, audited),
            Selection::Deny(message) if rules.mode() == Mode::Enforce => {
                return Ok(self.unmatched(None, Err(policy::no_match(&subject, message))));
            }
            Selection::Deny(message) => {
                let Resolved { manifest, stale } = self.resolve(target, reference).await?;
                let permit = policy::admit_unmatched(&subject, manifest.digest, message);
                let kind = Kinded::by_shape(&manifest);
                return Ok(self.unmatched(Some(Judged { manifest, kind, stale }), Ok(permit)));
            }
        };
        let Resolved { manifest, stale } = self.resolve(target, reference).await?;
        let case = Case { target, subject: &subject, manifest: &manifest };
        let interest = interest(rules.mode(), &enforced, &audited);
        let (kind, enforced, deadline) = match interest {
            Interest::MayDeny => {
                let (kind, enforced) = Box::pin(self.weigh_enforced(case, enforced)).await?;
                (kind, enforced, Instant::now() + AUDIT_WAIT)
            }
            Interest::None | Interest::Reports => {
                let deadline = Instant::now() + AUDIT_WAIT;
                let kind = self.reported_kind(case, interest, deadline).await;
                let enforced = Box::pin(self.weigh_reported(case, &kind, enforced, deadline)).await;
                (kind, enforced, deadline)
            }
        };
        let audited = Box::pin(self.weigh_reported(case, &kind, audited, deadline)).await;
        let decision = policy::decide(&policy::Opinions {
            subject: &subject,
            digest: manifest.digest,
            mode: rules.mode(),
            enforced: &opinions(&enforced),
            audited: &opinions(&audited),
        });
        let judged = Some(Judged { manifest, kind, stale });
        Ok(Judgement { judged, enforced, audited, decision, at: self.clock.now() })
    }

    fn unmatched(&self, judged: Option<Judged>, decision: Result<Permit, Denial>) -> Judgement {
        Judgement { judged, enforced: Vec::new(), audited: Vec::new(), decision, at: self.clock.now() }
    }

    /// What the manifest is where no denial is carried out. Without an entry that asks, no proof is made.
    async fn reported_kind(&self, case: Case<'_>, interest: Interest, deadline: Instant) -> Kinded {
        let by_shape = || Kinded::by_shape(case.manifest);
        if interest == Interest::None {
            return by_shape();
        }
        let found = timeout_at(deadline, self.first_kind(case.target, case.manifest)).await;
        found.ok().and_then(Result::ok).unwrap_or_else(by_shape)
    }

    /// The enforced entries, and what the manifest is. A proof that reads much is made only where it changes the outcome.
    async fn weigh_enforced(
        &self,
        case: Case<'_>,
        selected: Vec<Selected>,
    ) -> Result<(Kinded, Vec<Finding>), GateError> {
        let Case { target, manifest, .. } = case;
        let mut kind = self.first_kind(target, manifest).await?;
        let mut findings = self.weigh_until_admitted(case, kind.kind, selected).await?;
        if self.kinds.claim(manifest) == Some(Claim::Artifact) && self.depends_on_artifact(case, &findings) {
            match self.kinds.prove(target, manifest, Claim::Artifact).await? {
                Proof::Proven => {
                    kind = Kind::Artifact.into();
                    for finding in &mut findings {
                        finding.opinion.outcome = self.weigh(case, kind.kind, finding);
                    }
                }
                Proof::Refuted(why) => kind.unproven = Some(format!("it is no artifact: {why}")),
            }
        }
        explain_kind(&kind, &mut findings);
        Ok((kind, findings))
    }

    /// Each entry, until one admits.
    async fn weigh_until_admitted(
        &self,
        case: Case<'_>,
        kind: Kind,
        selected: Vec<Selected>,
    ) -> Result<Vec<Finding>, GateError> {
        let mut findings = Vec::with_capacity(selected.len());
        for selected in selected {
            let finding = self.weigh_one(case, kind, selected).await?;
            let admits = finding.opinion.outcome.is_ok();
            findings.push(finding);
            if admits {
                break;
            }
        }
        Ok(findings)
    }

    async fn weigh_one(&self, case: Case<'_>, kind: Kind, selected: Selected) -> Result<Finding, GateError> {
        let evidence = self.evidence(case.target, &selected, kind, case.manifest).await?;
        let mut finding = Finding { opinion: Opinion { selected, outcome: Ok(None) }, evidence };
        finding.opinion.outcome = self.weigh(case, kind, &finding);
        Ok(finding)
    }

    fn weigh(&self, case: Case<'_>, kind: Kind, finding: &Finding) -> Result<Option<Timestamp>, Denial> {
        policy::weigh(&policy::Question {
            subject: case.subject,
            digest: case.manifest.digest,
            kind,
            selected: &finding.opinion.selected,
            trust: &finding.evidence.trust,
            va: finding.evidence.va.as_ref(),
            now: self.clock.now(),
        })
    }

    /// Whether the outcome would be another if the manifest were an artifact.
    fn depends_on_artifact(&self, case: Case<'_>, findings: &[Finding]) -> bool {
        let as_artifact = findings.iter().any(|finding| self.weigh(case, Kind::Artifact, finding).is_ok());
        as_artifact != findings.iter().any(|finding| finding.opinion.outcome.is_ok())
    }

    /// Entries whose denials are not carried out. A check that does not end before the deadline is reported as such.
    async fn weigh_reported(
        &self,
        case: Case<'_>,
        kind: &Kinded,
        selected: Vec<Selected>,
        deadline: Instant,
    ) -> Vec<Finding> {
        if selected.is_empty() {
            return Vec::new();
        }
        let names = selected.clone();
        let weighed = timeout_at(deadline, self.weigh_until_admitted(case, kind.kind, selected)).await;
        let why = match weighed {
            Ok(Ok(mut findings)) => {
                explain_kind(kind, &mut findings);
                return findings;
            }
            Ok(Err(error)) => error.to_string(),
            Err(_) => format!("could not be judged within {} s", AUDIT_WAIT.as_secs()),
        };
        names.into_iter().map(|selected| unjudged(case, selected, &why)).collect()
    }
}

fn opinions(findings: &[Finding]) -> Vec<&Opinion> {
    findings.iter().map(|finding| &finding.opinion).collect()
}

fn interest(mode: Mode, enforced: &[Selected], audited: &[Selected]) -> Interest {
    let ask = |entries: &[Selected]| entries.iter().any(Selected::asks);
    match (mode, ask(enforced)) {
        (Mode::Enforce, true) => Interest::MayDeny,
        (Mode::Enforce, false) if !ask(audited) => Interest::None,
        (Mode::Audit, false) if !ask(audited) => Interest::None,
        _ => Interest::Reports,
    }
}

/// A denial of something that claims to be no image says why it is judged as one.
fn explain_kind(kind: &Kinded, findings: &mut [Finding]) {
    let denials = findings.iter_mut().filter_map(|finding| finding.opinion.outcome.as_mut().err());
    for denial in denials {
        denial.reasons.extend(kind.unproven.clone());
    }
}

fn unjudged(case: Case<'_>, selected: Selected, why: &str) -> Finding {
    let denial = Denial {
        subject: case.subject.to_string(),
        kind: DenialKind::Unavailable,
        stage: Stage::Policy,
        document: Some(selected.document.clone()),
        rule: Some(selected.entry.clone()),
        reasons: vec![why.to_owned()],
    };
    Finding { opinion: Opinion { selected, outcome: Err(denial) }, evidence: Evidence::default() }
}
