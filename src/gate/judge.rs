//! Judges one manifest: gathers what is known about it, applies each entry and makes the decision.
//!
//! The gate, `pullgate check` and prefetch all use this code, so their results cannot differ. Records and metrics are
//! derived from the same judgement.

pub(super) mod evidence;
pub(super) mod exemptions;
pub(super) mod history;
mod inherited;
pub(super) mod judgement;
pub(super) mod kind;
pub(super) mod layers;
pub(super) mod origin;
pub(super) mod platforms;
pub(super) mod weighing;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::{Instant, timeout_at};

use super::{GateError, Target};
use crate::oci::{Digest, Manifest, Reference};
use crate::policy::{
    self, Admission, Denial, DenialKind, Kind, Mode, Opinion, Permit, RuleSet, Selected, Selection, Stage, Subject,
};
use crate::resolve::{Resolved, Resolver};
use crate::rulebook::Rulebook;
use crate::runtime::{Clock, ContentSource, Phase, RequestTrace};
use crate::trust::{PinError, TagPins};
use evidence::{EvidenceGatherer, GatheredEvidence};
use judgement::{EntryFinding, Judged, Judgement, opinions};
use kind::{Classification, Interest, KindClaim, Kinds, Proof};
use weighing::{OpinionWeigher, until_admitted};

/// How long a request waits for checks that are only reported: audited entries must not delay enforced ones.
const AUDIT_WAIT: Duration = Duration::from_secs(2);

/// The manifest to judge, and the target that it is judged for.
#[derive(Clone, Copy)]
struct JudgedImage<'a> {
    target: &'a Target,
    subject: &'a Subject,
    manifest: &'a Arc<Manifest>,
}

impl JudgedImage<'_> {
    /// Decides by what the entries say.
    fn decide(self, mode: Mode, enforced: &[EntryFinding], audited: &[EntryFinding]) -> Result<Permit, Denial> {
        policy::decide(&policy::Opinions {
            subject: self.subject,
            digest: self.manifest.digest,
            mode,
            enforced: &opinions(enforced),
            audited: &opinions(audited),
        })
    }
}

/// Judges manifests.
pub(super) struct ManifestJudge {
    rulebook: Arc<Rulebook>,
    resolver: Resolver,
    kinds: Kinds,
    evidence: Arc<EvidenceGatherer>,
    /// Hosts that the `urls` of descriptors may name.
    url_hosts: Vec<String>,
    weigher: OpinionWeigher,
    clock: Clock,
}

impl ManifestJudge {
    pub(super) fn new(
        rulebook: Arc<Rulebook>,
        resolver: Resolver,
        kinds: Kinds,
        evidence: Arc<EvidenceGatherer>,
        url_hosts: Vec<String>,
        weigher: OpinionWeigher,
        clock: Clock,
    ) -> Self {
        Self { rulebook, resolver, kinds, evidence, url_hosts, weigher, clock }
    }

    /// The steps: select -> pin -> resolve -> evidence -> decide.
    ///
    /// # Errors
    /// If there is nothing to judge. A denial is a decision, not an error.
    pub(super) async fn judge(&self, target: &Target, reference: &Reference) -> Result<Judgement, GateError> {
        self.judge_as(target, reference, None).await
    }

    /// The same, for a tag that refers to the digest `given`, unless content trust has signed another one for it.
    pub(super) async fn judge_as(
        &self,
        target: &Target,
        reference: &Reference,
        given: Option<Digest>,
    ) -> Result<Judgement, GateError> {
        let select = self.select(target, reference);
        let (subject, rules, selection) = RequestTrace::phase(Phase::Select, select).await?;
        let (enforced, audited) = match selection {
            Selection::Entries { enforced, audited } => (enforced, audited),
            Selection::Deny(message) if rules.mode() == Mode::Enforce => {
                return Ok(self.unmatched(None, Err(policy::no_match(&subject, message))));
            }
            Selection::Deny(message) => {
                let Resolved { manifest, stale, fresh_until } = self.resolve(target, reference, given).await?;
                let permit = policy::admit_unmatched(&subject, manifest.digest, message);
                let kind = Classification::by_shape(&manifest);
                return Ok(self.unmatched(Some(Judged { manifest, kind, stale, fresh_until }), Ok(permit)));
            }
        };
        let pins = self.evidence.pin(target, reference, rules.mode(), &enforced);
        let TagPins { pin, again_at, .. } = match RequestTrace::phase(Phase::Pin, pins).await {
            Ok(pins) => pins,
            Err(error) => return Ok(self.unmatched(None, Err(unpinned(&subject, &enforced, &error)))),
        };
        let pinned = pin.map(|pin| pin.digest).or(given);
        // Its answers are used for as long as this lives.
        let _asked = self.evidence.ask_ahead(target, reference, pinned, rules.mode(), &enforced).await;
        let resolved = self.resolve(target, reference, pinned).await?;
        let Resolved { manifest, stale, fresh_until } = resolved;
        let fresh_until = pin.map_or(fresh_until, |pin| Some(pin.until)).into_iter().chain(again_at).min();
        let case = JudgedImage { target, subject: &subject, manifest: &manifest };
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
        let decide = async { case.decide(rules.mode(), &enforced, &audited) };
        let decision = RequestTrace::phase(Phase::Decide, decide).await;
        let judged = Some(Judged { manifest, kind, stale, fresh_until });
        Ok(Judgement { judged, enforced, audited, decision, at: self.clock.now() })
    }

    /// Whether the media types of a manifest say that it is not an image. Nothing is proven.
    pub(super) fn claims_no_image(&self, manifest: &Manifest) -> bool {
        self.kinds.claim(manifest).is_some()
    }

    /// Judges a manifest again from known facts, as if it were pulled by this reference: no registry or service is
    /// asked, and no layers are read. If its signatures are no longer known, vulnerabilities alone may still deny it.
    ///
    /// # Errors
    /// If something is not known that the decision needs.
    pub(super) async fn judge_known(
        &self,
        target: &Target,
        reference: &Reference,
        manifest: &Arc<Manifest>,
        kind: Kind,
    ) -> Result<Judgement, GateError> {
        let (subject, rules, selection) = self.select(target, reference).await?;
        let (enforced, audited) = match selection {
            Selection::Entries { enforced, audited } => (enforced, audited),
            Selection::Deny(message) if rules.mode() == Mode::Enforce => {
                return Ok(self.unmatched(None, Err(policy::no_match(&subject, message))));
            }
            Selection::Deny(message) => {
                return Ok(self.unmatched(None, Ok(policy::admit_unmatched(&subject, manifest.digest, message))));
            }
        };
        let case = JudgedImage { target, subject: &subject, manifest };
        let weigh = |selected| self.weigh_one_known(case, kind, selected);
        let (enforced, audited) = (until_admitted(enforced, weigh).await?, until_admitted(audited, weigh).await?);
        let decision = case.decide(rules.mode(), &enforced, &audited);
        Ok(Judgement { judged: None, enforced, audited, decision, at: self.clock.now() })
    }

    /// Weighs an entry with what is known. If signatures are not known, the entry without them may still deny.
    async fn weigh_one_known(
        &self,
        case: JudgedImage<'_>,
        kind: Kind,
        selected: Selected,
    ) -> Result<EntryFinding, GateError> {
        let by_all = self.weigh_one(case, kind, selected.clone()).await;
        let is_unsigned =
            |denial: &Denial| denial.kind != DenialKind::Policy && matches!(denial.stage, Stage::Trust | Stage::Simple);
        let is_open = |found: &EntryFinding| found.opinion.outcome.as_ref().err().is_some_and(is_unsigned);
        if by_all.as_ref().is_ok_and(|found| !is_open(found)) {
            return by_all;
        }
        let by_va = self.weigh_one(case, kind, selected.without_signatures()).await?;
        if by_va.opinion.outcome.is_err() { Ok(by_va) } else { by_all }
    }

    /// The entries that apply to a reference.
    async fn select(
        &self,
        target: &Target,
        reference: &Reference,
    ) -> Result<(Subject, Arc<RuleSet>, Selection), GateError> {
        let subject = self.subject(target, reference).await?;
        let rules = self.rulebook.rules().clone();
        let selection = rules.select(&subject);
        Ok((subject, rules, selection))
    }

    async fn subject(&self, target: &Target, reference: &Reference) -> Result<Subject, GateError> {
        let mut subject = Subject::new(target.name.clone(), reference.clone(), target.scope.clone());
        if let Reference::Digest(digest) = reference {
            subject.known_tags = self.resolver.known_tags(&target.name, *digest).await?.to_vec();
        }
        Ok(subject)
    }

    async fn resolve(
        &self,
        target: &Target,
        reference: &Reference,
        pin: Option<Digest>,
    ) -> Result<Resolved, GateError> {
        let resolve = self.resolver.resolve(&target.upstream, &target.name, reference, pin);
        RequestTrace::note(|learned| learned.has_fetched = false);
        let resolved = RequestTrace::phase(Phase::Resolve, resolve).await?;
        RequestTrace::note(|learned| {
            learned.source = Some(match (&resolved.stale, learned.has_fetched) {
                (Some(_), _) => ContentSource::Stale,
                (None, true) => ContentSource::Miss,
                (None, false) => ContentSource::Hit,
            });
        });
        let allowed = |url: &str| self.url_hosts.iter().any(|host| is_on_host(url, host));
        match resolved.manifest.foreign_url(allowed) {
            Some(url) => Err(GateError::ForeignUrl { subject: target.describe(reference), url: url.to_owned() }),
            None => Ok(resolved),
        }
    }

    fn unmatched(&self, judged: Option<Judged>, decision: Result<Permit, Denial>) -> Judgement {
        Judgement { judged, enforced: Vec::new(), audited: Vec::new(), decision, at: self.clock.now() }
    }

    /// The kind of the manifest if denials are not enforced. If no entry requires a check, no proof is attempted.
    async fn reported_kind(&self, case: JudgedImage<'_>, interest: Interest, deadline: Instant) -> Classification {
        let by_shape = || Classification::by_shape(case.manifest);
        if interest == Interest::None {
            return by_shape();
        }
        let found = timeout_at(deadline, self.kinds.first_kind(case.target, case.manifest)).await;
        found.ok().and_then(Result::ok).unwrap_or_else(by_shape)
    }

    /// The enforced entries and the kind of the manifest. An expensive proof is attempted only if it can change the
    /// outcome.
    async fn weigh_enforced(
        &self,
        case: JudgedImage<'_>,
        selected: Vec<Selected>,
    ) -> Result<(Classification, Vec<EntryFinding>), GateError> {
        let JudgedImage { target, manifest, .. } = case;
        let mut kind = RequestTrace::phase(Phase::Classify, self.kinds.first_kind(target, manifest)).await?;
        let mut findings = until_admitted(selected, |selected| self.weigh_one(case, kind.kind, selected)).await?;
        if self.kinds.claim(manifest) == Some(KindClaim::Artifact) && self.depends_on_artifact(case, &findings) {
            let prove = self.kinds.prove(target, manifest, KindClaim::Artifact);
            match RequestTrace::phase(Phase::Classify, prove).await? {
                Proof::Proven => {
                    kind = Kind::Artifact.into();
                    for finding in &mut findings {
                        finding.opinion.outcome = self.weigh(case, kind.kind, finding);
                    }
                }
                Proof::Refuted(why) => kind.unproven = Some(format!("it is not an artifact: {why}")),
            }
        }
        explain_kind(&kind, &mut findings);
        Ok((kind, findings))
    }

    async fn weigh_one(
        &self,
        case: JudgedImage<'_>,
        kind: Kind,
        selected: Selected,
    ) -> Result<EntryFinding, GateError> {
        let JudgedImage { target, subject, manifest } = case;
        let gather = self.evidence.evidence(target, subject, &selected, kind, manifest);
        let evidence = RequestTrace::phase(Phase::Evidence, gather).await?;
        let name = selected.clone();
        let finding = EntryFinding { opinion: Opinion { selected, outcome: Ok(Admission::default()) }, evidence };
        let weighed = self.weigher.weighed(subject, manifest.digest, kind, finding).await;
        Ok(weighed.unwrap_or_else(|| unjudged(case, name, "the evaluation of the policy ended abnormally")))
    }

    fn weigh(&self, case: JudgedImage<'_>, kind: Kind, finding: &EntryFinding) -> Result<Admission, Denial> {
        self.weigher.weigh(case.subject, case.manifest.digest, kind, finding)
    }

    /// Whether the outcome would change if the manifest were an artifact.
    fn depends_on_artifact(&self, case: JudgedImage<'_>, findings: &[EntryFinding]) -> bool {
        let as_artifact = findings.iter().any(|finding| self.weigh(case, Kind::Artifact, finding).is_ok());
        as_artifact != findings.iter().any(|finding| finding.opinion.outcome.is_ok())
    }

    /// Evaluates entries whose denials are not enforced. A check that exceeds the deadline is reported as such.
    async fn weigh_reported(
        &self,
        case: JudgedImage<'_>,
        kind: &Classification,
        selected: Vec<Selected>,
        deadline: Instant,
    ) -> Vec<EntryFinding> {
        if selected.is_empty() {
            return Vec::new();
        }
        let names = selected.clone();
        let weigh = |selected| self.weigh_one(case, kind.kind, selected);
        let weighed = timeout_at(deadline, until_admitted(selected, weigh)).await;
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

fn interest(mode: Mode, enforced: &[Selected], audited: &[Selected]) -> Interest {
    let ask = |entries: &[Selected]| entries.iter().any(Selected::asks);
    match (mode, ask(enforced)) {
        (Mode::Enforce, true) => Interest::MayDeny,
        (Mode::Enforce, false) if !ask(audited) => Interest::None,
        (Mode::Audit, false) if !ask(audited) => Interest::None,
        _ => Interest::Reports,
    }
}

/// Adds to a denial why a manifest that claims not to be an image is judged as one.
fn explain_kind(kind: &Classification, findings: &mut [EntryFinding]) {
    let denials = findings.iter_mut().filter_map(|finding| finding.opinion.outcome.as_mut().err());
    for denial in denials {
        denial.reasons.extend(kind.unproven.clone());
    }
}

/// The denial for a tag whose signed digest is not known.
fn unpinned(subject: &Subject, enforced: &[Selected], error: &PinError) -> Denial {
    let first = enforced.first();
    Denial {
        subject: subject.to_string(),
        kind: match error {
            PinError::Unknown(error) if error.temporary => DenialKind::Unavailable,
            PinError::Unknown(_) | PinError::Disagreement { .. } => DenialKind::Policy,
        },
        stage: Stage::Trust,
        document: first.map(|selected| selected.document.clone()),
        rule: first.map(|selected| selected.entry.clone()),
        reasons: vec![error.to_string()],
    }
}

fn unjudged(case: JudgedImage<'_>, selected: Selected, why: &str) -> EntryFinding {
    let denial = Denial {
        subject: case.subject.to_string(),
        kind: DenialKind::Unavailable,
        stage: Stage::Policy,
        document: Some(selected.document.clone()),
        rule: Some(selected.entry.clone()),
        reasons: vec![why.to_owned()],
    };
    EntryFinding { opinion: Opinion { selected, outcome: Err(denial) }, evidence: GatheredEvidence::default() }
}

/// Whether an absolute HTTP(S) URL is on exactly this host.
fn is_on_host(url: &str, host: &str) -> bool {
    url.parse::<http::Uri>().is_ok_and(|uri| {
        uri.scheme_str().is_some_and(|scheme| scheme == "https" || scheme == "http")
            && uri.authority().is_some_and(|authority| authority.as_str().eq_ignore_ascii_case(host))
    })
}
