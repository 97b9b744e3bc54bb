//! Trust: who signed an image. Signatures are searched for in the image's own repository and verified offline.
//!
//! [`Trust::evidence`] finds out and reports; it does not judge, and it does not see rules. It never asks a
//! transparency log or a certificate authority. A claim made in one repository never counts in another. A registry that
//! does not answer is [`TrustOutcome::Unknown`], never "unsigned".
//!
//! A scheme of signatures is a file or directory here that implements `SignatureScheme` (`scheme.rs`), and an entry in
//! [`Schemes`]. Files use each other in one direction: `trust` -> `ahead`, `question` -> `gather` -> `consultations`,
//! `discovery` -> `schemes` -> the schemes -> `scheme`, `notes`, `large` -> `source`.

mod ahead;
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
mod question;
mod registry;
mod scheme;
mod schemes;
mod settled;
mod source;
mod unverified;

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use crate::oci::{Digest, Host, ImageName, Manifest, Reference};
use crate::policy::{Authority, AuthorityId, Observed, SameSigner, TrustEvidence, TrustOutcome};
use crate::runtime::{Clock, FlightReporter, Flights, Tasks};
use crate::store::{FactStore, Memo, StoreError};
use crate::upstream::Upstream;
use ahead::AheadQuestions;
pub use ahead::AskedAhead;
use finding::AuthorityFinding;
pub use notary::{RememberedRoot, remembered_roots};
pub use notation::{InvalidRevocationConfig, RevocationChecker, RevocationConfig};
pub use pin::{PinError, TagPins};
use question::SignatureQuestion;
pub use scheme::ForgottenVersion;
use schemes::Schemes;
use settled::is_settled;
pub use source::SignatureSource;

/// How long evidence holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Config {
    /// For how long "no signature was found" holds: a new signature is seen after that.
    pub negative_ttl: SignedDuration,
    /// For how long a verified signature holds whose validity does not follow from bytes and keys alone.
    pub ttl: SignedDuration,
    /// How long the answer of a notary server is used before it is asked again.
    pub notary_refresh: SignedDuration,
    /// The largest attestation, in bytes, at least 1 MiB; also the memory for those of one registry that
    /// are larger than 1 MiB. All registries together have four times as much.
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
type ObservedFindings = Vec<Arc<Observed<AuthorityFinding>>>;

/// The same, by authority.
type Answers = BTreeMap<AuthorityId, Arc<Observed<AuthorityFinding>>>;

/// Receives intermediate results for the authorities of a question.
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
    ahead: AheadQuestions,
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

impl Trust {
    /// Trust with every scheme.
    pub fn new(config: Config, services: TrustServices) -> Self {
        Self::with_schemes(Schemes::new(&config, &services), config, services)
    }

    fn with_schemes(schemes: Schemes, config: Config, services: TrustServices) -> Self {
        let TrustServices { store, clock, tasks, upstreams, .. } = services;
        let memo = Memo::new("trust", store, clock.clone(), tasks.clone());
        let flights = Flights::new(tasks.clone());
        let ahead = AheadQuestions::default();
        Self { inner: Arc::new(Inner { config, schemes, memo, ahead, clock, tasks, upstreams }), flights }
    }

    /// What is known for each authority about the signatures of a manifest in this repository, which was asked for by
    /// this reference. Missing evidence is gathered in one round, which concurrent callers with the same question share
    /// and which continues when they leave. A caller leaves as soon as the known evidence `is_enough`: a place that
    /// does not answer does not delay an image that another signature admits. An authority that was not waited for is
    /// unknown. An authority of which several signers may be needed is listed several times.
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
        let question = SignatureQuestion {
            name: name.clone(),
            reference,
            image: image.clone(),
            authorities: authorities.to_vec(),
        };
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

    /// Whether a signature of this manifest that was verified for one of the authorities is remembered.
    pub async fn remembers_signature(
        &self,
        name: &ImageName,
        reference: &Reference,
        digest: Digest,
        authorities: &[Arc<Authority>],
    ) -> bool {
        for authority in authorities {
            let found = self.inner.memo.known(&self.inner.key(name, reference, digest, authority)).await;
            if found.is_some_and(|found| matches!(found.value.outcome, TrustOutcome::Verified { .. })) {
                return true;
            }
        }
        false
    }

    /// Forgets which versions and roots of Docker Content Trust were verified for a repository of a server, named as in
    /// [`RememberedRoot::repository`]. Returns them.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn forget(&self, place: &str) -> Result<Vec<ForgottenVersion>, StoreError> {
        let mut forgotten = Vec::new();
        for scheme in self.inner.schemes.all() {
            forgotten.extend(scheme.forget(place).await?);
        }
        Ok(forgotten)
    }

    /// The known evidence for each authority about the signatures of a manifest, without sending requests. An authority
    /// about which not enough is known is [`TrustOutcome::Unknown`].
    pub async fn known(
        &self,
        name: &ImageName,
        reference: &Reference,
        digest: Digest,
        authorities: &[Arc<Authority>],
    ) -> TrustEvidence {
        let mut known = Vec::with_capacity(authorities.len());
        for authority in authorities {
            known.push(self.inner.memo.known(&self.inner.key(name, reference, digest, authority)).await);
        }
        let unknown =
            || Arc::new(Observed::unknown("its signatures were not searched for again", self.inner.clock.now()));
        let findings = self.inner.sufficient(authorities, &known);
        let findings = findings.unwrap_or_else(|| known.into_iter().map(|one| one.unwrap_or_else(unknown)).collect());
        self.inner.evidence(authorities, &findings)
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
                let why = "its signatures were not awaited, because others suffice";
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
    ) -> Option<ObservedFindings> {
        let now = self.clock.now();
        let findings: ObservedFindings = known.iter().cloned().collect::<Option<_>>()?;
        let signers = findings.iter().zip(authorities).map(|(one, whose)| one.signers(whose, now));
        is_settled(signers, &SameSigner::among(authorities)).then_some(findings)
    }

    /// Findings as evidence. Where the evidence relies on a complete search ("nobody else has signed"), it ends with
    /// that search; what was verified is then looked up again, not verified again.
    fn evidence(&self, authorities: &[Arc<Authority>], findings: &[Arc<Observed<AuthorityFinding>>]) -> TrustEvidence {
        let now = self.clock.now();
        let at_time = |time| findings.iter().zip(authorities).map(move |(one, whose)| one.signers(whose, time));
        let later: Vec<_> = at_time(Timestamp::MAX).collect();
        let relies_on_search = !is_settled(later.iter().cloned(), &SameSigner::among(authorities));
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

    /// The key of a finding: registry, repository, digest and the authority with its keys; with the tag as it was
    /// pulled only where the outcome depends on it. A claim made in one repository never counts in another, and
    /// evidence for an old key never counts for a new one.
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
        let mut keys: Vec<_> = authorities.iter().map(|one| self.key(name, reference, image.digest, one)).collect();
        keys.sort_unstable();
        keys.join("\n").into()
    }

    /// The finding of a search that did not end. It is not kept.
    fn interrupted(&self) -> Arc<Observed<AuthorityFinding>> {
        Arc::new(Observed::unknown("the verification was interrupted", self.clock.now()))
    }
}

#[cfg(test)]
mod tests;
