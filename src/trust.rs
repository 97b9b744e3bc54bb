//! Trust: who signed an image. Signatures are searched for in the image's own repository and verified offline.
//!
//! [`Trust::evidence`] finds out and reports; it does not judge, and it does not see rules. It never asks a transparency
//! log or a certificate authority. A claim made in one repository never counts in another. A registry that does not
//! answer is [`TrustOutcome::Unknown`], never "unsigned".
//!
//! A scheme of signatures is a folder here that implements `SignatureScheme` (`scheme.rs`), and an entry in [`Schemes`].
//! Files use each other in one direction: `trust` -> `gather` -> `consultations`, `discovery` -> `schemes` -> the schemes
//! -> `scheme`, `notes`, `large` -> `source`.

mod consultations;
mod cosign;
mod discovery;
mod finding;
mod gather;
#[cfg(feature = "gpg")]
mod gpg;
mod large;
mod notary;
mod notation;
mod notes;
mod pin;
mod registry;
mod scheme;
mod schemes;
mod settled;
mod source;
mod unverified;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{SignedDuration, Timestamp};

use crate::oci::{Digest, Host, ImageName, Manifest, Reference};
use crate::policy::{Authority, AuthorityId, Observed, TrustEvidence, TrustOutcome, Unseen};
use crate::runtime::{Clock, FlightReporter, Flights, Tasks};
use crate::store::{FactStore, Memo};
use crate::upstream::Upstream;
use consultations::ReportResult;
use finding::{AuthorityFinding, with_earlier_signatures};
use gather::{GatherRequest, GatheredResult, gather};
pub use notary::{RememberedRoot, remembered_roots};
pub use notation::{InvalidRevocationConfig, RevocationChecker, RevocationConfig};
pub use pin::{PinError, TagPins};
use scheme::{AuthorityResult, Sought};
use schemes::Schemes;
use settled::{Signers, is_settled};
pub use source::SignatureSource;

/// How long evidence holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Config {
    /// For how long "no signature was found" holds: a new signature is seen after that.
    pub negative_ttl: SignedDuration,
    /// For how long a verified signature holds whose validity does not follow from bytes and keys alone.
    pub ttl: SignedDuration,
    /// For how long what a notary server said holds before it is asked again.
    pub notary_refresh: SignedDuration,
    /// The largest attestation, in bytes, at least 1 MiB; also the memory for all that are larger than 1 MiB.
    pub max_attestation: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            negative_ttl: SignedDuration::from_secs(60),
            ttl: SignedDuration::from_hours(24),
            notary_refresh: SignedDuration::from_secs(60),
            max_attestation: 16 * 1024 * 1024,
        }
    }
}

/// For how long a registry that did not answer is not asked again.
const TROUBLE_TTL: SignedDuration = SignedDuration::from_secs(2);

/// What is known about each authority of a question, in its order.
type Findings = Vec<Arc<Observed<AuthorityFinding>>>;

/// The same, by authority.
type Answers = BTreeMap<AuthorityId, Arc<Observed<AuthorityFinding>>>;

/// Is told what is known about each authority of a question before everything is.
type ReportKnown<'a> = &'a (dyn Fn(&[Option<Arc<Observed<AuthorityFinding>>>]) + Send + Sync);

/// Finds out for which authorities images are signed, and remembers it for each of them.
pub struct Trust {
    inner: Arc<Inner>,
    /// Questions that are being answered, by image and authorities.
    flights: Flights<Arc<str>, Answers>,
}

struct Inner {
    config: Config,
    schemes: Schemes,
    memo: Memo<AuthorityFinding>,
    clock: Clock,
    tasks: Tasks,
    upstreams: UpstreamByHost,
}

/// What trust and its schemes use of the rest of the program.
#[derive(Clone)]
pub struct TrustServices {
    /// Where evidence is kept.
    pub store: FactStore,
    /// The clock.
    pub clock: Clock,
    /// The tracker of background tasks.
    pub tasks: Tasks,
    /// The configured upstreams, for signatures that are in a repository of another registry.
    pub upstreams: UpstreamByHost,
    /// Finds out whether certificates are revoked.
    pub revocation: RevocationChecker,
}

/// Finds the configured upstream of a host.
pub type UpstreamByHost = Arc<dyn Fn(&Host) -> Option<Arc<Upstream>> + Send + Sync>;

/// One question: which of these authorities have signed this image?
#[derive(Clone)]
struct SignatureQuestion {
    name: ImageName,
    /// The reference as it was pulled. A digest is always that of the image.
    reference: Reference,
    image: Arc<Manifest>,
    authorities: Vec<Arc<Authority>>,
}

impl Trust {
    /// Trust with every scheme.
    pub fn new(config: Config, services: TrustServices) -> Self {
        Self::with_schemes(Schemes::new(&config, &services), config, services)
    }

    fn with_schemes(schemes: Schemes, config: Config, services: TrustServices) -> Self {
        let TrustServices { store, clock, tasks, upstreams, .. } = services;
        let memo = Memo::new("trust", store, clock.clone(), tasks.clone());
        let flights = Flights::new(tasks.clone());
        Self { inner: Arc::new(Inner { config, schemes, memo, clock, tasks, upstreams }), flights }
    }

    /// What is known for each authority about the signatures of a manifest in this repository, which was asked for by
    /// this reference. What is not known yet is found out in one round, which concurrent callers with the same question
    /// share and which goes on when they leave.
    /// A caller leaves as soon as what is known `is_enough`: a place that does not answer does not delay an image that
    /// somebody else's signature admits. An authority that was not waited for is [`TrustOutcome::Unknown`].
    pub async fn evidence<S: SignatureSource + 'static>(
        &self,
        source: &Arc<S>,
        name: &ImageName,
        reference: &Reference,
        image: &Arc<Manifest>,
        authorities: &[Arc<Authority>],
        is_enough: impl Fn(&TrustEvidence) -> bool + Send + Sync,
    ) -> TrustEvidence {
        let recall = |one: &Arc<Authority>| self.inner.memo.recall(&self.inner.key(name, reference, image.digest, one));
        let recalled: Vec<_> = authorities.iter().map(recall).collect();
        if let Some(findings) = self.inner.sufficient(authorities, &recalled) {
            return self.inner.evidence(authorities, &findings);
        }
        let reference = match reference {
            Reference::Tag(tag) => Reference::Tag(tag.clone()),
            Reference::Digest(_) => Reference::Digest(image.digest),
        };
        let (name, image, authorities_asked) = (name.clone(), image.clone(), authorities.to_vec());
        let question = SignatureQuestion { name, reference, image, authorities: authorities_asked };
        let evidence = |answers: &Answers| {
            let found = |authority: &Arc<Authority>| answers.get(authority.id()).cloned();
            let findings = authorities.iter().map(|one| found(one).unwrap_or_else(|| self.inner.interrupted()));
            self.inner.evidence(authorities, &findings.collect::<Vec<_>>())
        };
        let is_enough = |answers: &Answers| is_enough(&evidence(answers));
        // Boxed, as everything that is rare, so that a request that finds everything in memory is a small future.
        let answers = Box::pin(self.answer(source.clone(), question, is_enough)).await.unwrap_or_default();
        evidence(&answers)
    }

    async fn answer<S: SignatureSource + 'static>(
        &self,
        source: Arc<S>,
        question: SignatureQuestion,
        is_enough: impl Fn(&Answers) -> bool,
    ) -> Option<Answers> {
        let inner = self.inner.clone();
        let flight = self.inner.flight(&question);
        let work = |reporter: FlightReporter<Answers>| async move {
            let ids = || question.authorities.iter().map(|authority| authority.id().clone());
            let report = |known: &[Option<Arc<Observed<AuthorityFinding>>>]| {
                let why = "its signatures were not waited for, as others suffice";
                let pending = || Arc::new(Observed::unknown(why, inner.clock.now()));
                let findings = known.iter().map(|one| one.clone().unwrap_or_else(pending));
                reporter.report(ids().zip(findings).collect());
            };
            let findings = inner.find_out(&*source, &question, &report).await;
            ids().zip(findings).collect()
        };
        self.flights.join_until(flight, work, is_enough).await
    }
}

impl Inner {
    /// The findings, if there is one that holds for each authority and no other signature could matter.
    fn sufficient(
        &self,
        authorities: &[Arc<Authority>],
        known: &[Option<Arc<Observed<AuthorityFinding>>>],
    ) -> Option<Findings> {
        let now = self.clock.now();
        let findings: Findings = known.iter().cloned().collect::<Option<_>>()?;
        let signers: Vec<_> = findings.iter().zip(authorities).map(|(one, whose)| one.signers(whose, now)).collect();
        is_settled(&signers).then_some(findings)
    }

    /// The findings from memory or from the store where they suffice; else from a search for what is missing.
    async fn find_out(
        &self,
        source: &impl SignatureSource,
        question: &SignatureQuestion,
        report: ReportKnown<'_>,
    ) -> Findings {
        let SignatureQuestion { name, reference, image, authorities } = question;
        let mut known = Vec::with_capacity(authorities.len());
        for authority in authorities {
            known.push(self.memo.known(&self.key(name, reference, image.digest, authority)).await);
        }
        match self.sufficient(authorities, &known) {
            Some(findings) => findings,
            None => {
                report(&known);
                self.search(source, question, known, report).await
            }
        }
    }

    /// Searches for the authorities about which not everything is known. A finding about another authority is neither
    /// verified again nor changed.
    async fn search(
        &self,
        source: &impl SignatureSource,
        question: &SignatureQuestion,
        mut known: Vec<Option<Arc<Observed<AuthorityFinding>>>>,
        report: ReportKnown<'_>,
    ) -> Findings {
        let SignatureQuestion { name, reference, image, authorities } = question;
        let now = self.clock.now();
        let mut others = Vec::new();
        // By the repository that holds the signatures; `None` is the image's own.
        let mut places: BTreeMap<Option<String>, Vec<usize>> = BTreeMap::new();
        for (index, (authority, known)) in authorities.iter().zip(&known).enumerate() {
            match known.as_ref().map(|known| known.signers(authority, now)) {
                Some(signers) if signers.signed == signers.possible => others.push(signers),
                _ => {
                    let place = authority.signature_repository().map(ToString::to_string);
                    places.entry(place).or_default().push(index);
                }
            }
        }
        while let Some((_, open)) = places.pop_first() {
            let sought = |index: &usize| {
                let known = known[*index].as_ref().map(|known| known.lasting_signatories()).unwrap_or_default();
                Sought { authority: authorities[*index].clone(), known }
            };
            let waiting = places.values().flatten().map(|index| authorities[*index].signers());
            let waiting = waiting.map(|possible| Signers { possible, ..Signers::default() });
            let request = GatherRequest {
                name: name.clone(),
                reference: reference.clone(),
                image: image.clone(),
                repository: name.repository.clone(),
                sought: open.iter().map(sought).collect(),
                others: others.iter().cloned().chain(waiting).collect(),
                now,
            };
            let so_far = Mutex::new(known.clone());
            let report = |place: usize, result: &AuthorityResult| {
                let gathered = GatheredResult { result: result.clone(), is_complete: false };
                let mut so_far = so_far.lock().unwrap_or_else(PoisonError::into_inner);
                so_far[open[place]] = Some(Arc::new(self.finding(gathered, known[open[place]].as_deref())));
                report(&so_far);
            };
            let results = self.gather(source, request, &report).await;
            for (index, gathered) in open.into_iter().zip(results) {
                let found = self.finding(gathered, known[index].as_deref());
                let key = self.key(name, reference, image.digest, &authorities[index]);
                let found = self.memo.remember(key, found, AuthorityFinding::is_durable).await;
                others.push(found.signers(&authorities[index], now));
                known[index] = Some(found);
            }
        }
        known.into_iter().map(|known| known.unwrap_or_else(|| self.interrupted())).collect()
    }

    /// Gathers for authorities whose signatures are in the same repository.
    async fn gather(
        &self,
        source: &impl SignatureSource,
        mut request: GatherRequest,
        report: ReportResult<'_>,
    ) -> Vec<GatheredResult> {
        let place = request.sought.first().and_then(|sought| sought.authority.signature_repository()).cloned();
        let Some(ImageName { host, repository }) = place else {
            return gather(source, &self.tasks, &self.schemes, request, &self.config, report).await;
        };
        request.repository = repository;
        if host == request.name.host {
            return gather(source, &self.tasks, &self.schemes, request, &self.config, report).await;
        }
        let Some(upstream) = (self.upstreams)(&host) else {
            let why = format!("its signatures are in {host}, which is not a configured upstream");
            let unknown = |_: &Sought| GatheredResult {
                result: AuthorityResult { outcome: TrustOutcome::unknown(why.clone(), false), until: None },
                is_complete: true,
            };
            return request.sought.iter().map(unknown).collect();
        };
        gather(&*upstream, &self.tasks, &self.schemes, request, &self.config, report).await
    }

    /// What is kept for one authority. What was verified before and still holds is not lost to a registry that does not
    /// answer now.
    fn finding(
        &self,
        gathered: GatheredResult,
        before: Option<&Observed<AuthorityFinding>>,
    ) -> Observed<AuthorityFinding> {
        let at = self.clock.now();
        let after = |ttl| at.saturating_add(ttl).unwrap_or(Timestamp::MAX);
        let GatheredResult { result: AuthorityResult { outcome, until }, is_complete } = gathered;
        let outcome = with_earlier_signatures(outcome, before.map(|before| &before.value.outcome));
        if let (TrustOutcome::Unknown { why, temporary, found }, Some(before)) = (&outcome, before)
            && let TrustOutcome::Verified { by, .. } = &before.value.outcome
        {
            // Who else has signed is as unknown as the search left it.
            let unseen = Some(Unseen { why: why.clone(), temporary: *temporary });
            let outcome = TrustOutcome::Verified { by: by.clone(), found: found.clone(), unseen };
            return Observed { value: AuthorityFinding { outcome, searched_until: after(TROUBLE_TTL) }, ..*before };
        }
        let latest = match &outcome {
            TrustOutcome::Unknown { temporary: true, .. } => Some(after(TROUBLE_TTL)),
            TrustOutcome::Unknown { .. } | TrustOutcome::Unverified { .. } => Some(after(self.config.negative_ttl)),
            TrustOutcome::Verified { .. } | TrustOutcome::NotRequired { .. } => None,
        };
        let until = until.into_iter().chain(latest).min();
        let searched_until = match &outcome {
            _ if !is_complete => at,
            TrustOutcome::Verified { unseen: Some(unseen), .. } if unseen.temporary => after(TROUBLE_TTL),
            _ => after(self.config.negative_ttl),
        };
        Observed { value: AuthorityFinding { outcome, searched_until }, at, until }
    }

    /// Findings as evidence. Where the evidence relies on a complete search ("nobody else has signed"), it ends with that
    /// search; what was verified is then looked up again, not verified again.
    fn evidence(&self, authorities: &[Arc<Authority>], findings: &[Arc<Observed<AuthorityFinding>>]) -> TrustEvidence {
        let now = self.clock.now();
        let at_time = |time| findings.iter().zip(authorities).map(move |(one, whose)| one.signers(whose, time));
        let later: Vec<_> = at_time(Timestamp::MAX).collect();
        let relies_on_search = !is_settled(&later);
        let mut evidence = TrustEvidence::default();
        for (index, (signers, later)) in at_time(now).zip(&later).enumerate() {
            let (authority, Observed { value, at, until }) = (&authorities[index], &*findings[index]);
            let is_complete = signers.possible != later.possible;
            let search = (relies_on_search && is_complete).then_some(value.searched_until);
            let until = until.iter().copied().chain(search).min();
            evidence.insert(authority.id().clone(), Observed { value: value.outcome.clone(), at: *at, until });
        }
        evidence
    }

    /// The key of a finding: registry, repository, digest and the authority with its keys; with the tag as it was pulled
    /// only where the outcome depends on it. A claim made in one repository never counts in another, and evidence for an
    /// old key never counts for a new one.
    fn key(&self, name: &ImageName, reference: &Reference, digest: Digest, authority: &Authority) -> Arc<str> {
        let id = authority.id();
        match reference {
            Reference::Tag(tag) if self.schemes.of(authority.scheme()).depends_on_reference(authority) => {
                format!("{name}:{tag}@{digest} {id}").into()
            }
            Reference::Tag(_) | Reference::Digest(_) => format!("{name}@{digest} {id}").into(),
        }
    }

    /// The same for questions with the same answer: the same image and the same authorities in any order.
    fn flight(&self, question: &SignatureQuestion) -> Arc<str> {
        let SignatureQuestion { name, reference, image, authorities } = question;
        let keys: BTreeSet<_> = authorities.iter().map(|one| self.key(name, reference, image.digest, one)).collect();
        keys.into_iter().collect::<Vec<_>>().join("\n").into()
    }

    /// The finding of a search that did not end. It is not kept.
    fn interrupted(&self) -> Arc<Observed<AuthorityFinding>> {
        Arc::new(Observed::unknown("the verification was interrupted", self.clock.now()))
    }
}

#[cfg(test)]
mod tests;
