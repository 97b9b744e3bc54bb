//! One round of questions about an image, for all authorities that need it: a search for attached signatures and, in
//! parallel, questions to the places where other evidence is.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{FutureExt, join_all};
use jiff::Timestamp;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout_at};

use super::Config;
use super::consultations::{Consultations, ReportResult};
use super::discovery::{AheadAnswers, AttachmentReader, FoundLayers, Search, SearchSchemes};
use super::notes::{SearchNotes, Trouble};
use super::scheme::{Attached, AuthorityResult, ImageSubject, SignatureScheme, Sought, Verification};
use super::schemes::Schemes;
use super::settled::{Signers, is_settled};
use super::source::{SignatureSource, SourceError};
use crate::oci::{ImageName, Manifest, Reference};
use crate::policy::{SameSigner, TrustOutcome};
use crate::runtime::Tasks;

/// The longest time for one round, and for finding out what is signed for a tag.
pub(super) const MAX_TIME: Duration = Duration::from_secs(60);

/// How long the search waits for confirmations, such as answers of OCSP responders, before it goes on while they are
/// pending: with them it may be over.
const CONFIRMATION_WAIT: Duration = Duration::from_millis(500);

/// The result of a round for one authority.
pub(super) struct GatheredResult {
    pub(super) result: AuthorityResult,
    /// Whether everyone who has signed for it is known as far as the outcome says.
    pub(super) is_complete: bool,
}

/// The question that a round is to answer.
pub(super) struct GatherRequest {
    pub(super) name: ImageName,
    /// The reference as it was pulled. A digest is always that of the image.
    pub(super) reference: Reference,
    pub(super) image: Arc<Manifest>,
    /// The registry and the repository in which attached signatures are searched for.
    pub(super) place: ImageName,
    /// The authorities for which it is found out.
    pub(super) sought: Vec<Sought>,
    /// The known signers of the other authorities of the same question.
    pub(super) others: Vec<Signers>,
    /// Which keys of all authorities of the question belong to one signer.
    pub(super) same: SameSigner,
    /// The answers of the place from before the image was there.
    pub(super) ahead: Option<AheadAnswers>,
    /// When it is found out.
    pub(super) now: Timestamp,
}

/// Asks until no other signature can matter to the authorities together, or until everything was looked at. Everything
/// that is attached is fetched once, whatever the number of authorities and schemes. The results are in the order of
/// the authorities. `report` is told what is known meanwhile.
pub(super) async fn gather(
    source: &impl SignatureSource,
    tasks: &Tasks,
    schemes: &Schemes,
    mut request: GatherRequest,
    config: &Config,
    report: ReportResult<'_>,
) -> Vec<GatheredResult> {
    let ahead = request.ahead.take();
    let end = Instant::now() + MAX_TIME;
    let mut consulted = Consultations::begin(source, schemes, &request, end, report);
    let (indices, attached) = consulted.others(&request.sought);
    let subject = ImageSubject { name: request.name.clone(), manifest: request.image.clone(), now: request.now };
    let parts = Verifications::begin(schemes, &subject, &attached);
    let readers = SearchSchemes { reading: parts.schemes(), all: schemes.all() };
    let reader = AttachmentReader { source, repository: &request.place.repository, digest: request.image.digest };
    let search = Search::new(reader, readers, schemes.large_layers.of(&request.place.host), ahead);
    let (indices, is_confirmed) = (&indices[..], true);
    let attached =
        AttachedSearch { tasks, request: &request, config, end, parts, search, indices, report, is_confirmed };
    let (results, is_complete) = attached.run(&mut consulted).await;
    consulted.finish().await;
    let mut all = consulted.into_results();
    for (index, result) in indices.iter().copied().zip(results) {
        all[index] = Some(GatheredResult { result, is_complete });
    }
    let unknown = || GatheredResult { result: interrupted(), is_complete: false };
    all.into_iter().map(|one| one.unwrap_or_else(unknown)).collect()
}

/// A search for attached signatures that verifies what it finds, while consultations run.
struct AttachedSearch<'a, S> {
    tasks: &'a Tasks,
    request: &'a GatherRequest,
    config: &'a Config,
    end: Instant,
    parts: Verifications,
    search: Search<'a, S>,
    /// The authorities whose signatures are attached.
    indices: &'a [usize],
    report: ReportResult<'a>,
    /// Whether everything is known about the signatures that were read.
    is_confirmed: bool,
}

impl<S: SignatureSource> AttachedSearch<'_, S> {
    /// The results of these authorities, and whether the search went on to its end.
    async fn run(mut self, consulted: &mut Consultations<'_>) -> (Vec<AuthorityResult>, bool) {
        let mut latest: Vec<_> = self.indices.iter().map(|_| interrupted()).collect();
        loop {
            if self.is_settled(&consulted.signers()) {
                self.search.notes.clear_gaps();
                return (self.results(), false);
            }
            // Only a consultation can matter that has not ended.
            if self.is_settled(&[]) && consulted.next().await {
                continue;
            }
            let found = match self.next(consulted).await {
                Ok(Some(found)) => found,
                Ok(None) => {
                    // What is not confirmed by then stays unknown.
                    self.confirm(consulted, self.end).await;
                    return (self.results(), true);
                }
                Err(Elapsed { .. }) => {
                    let why = format!("the search stopped after {} s", MAX_TIME.as_secs());
                    self.search.notes.add(Trouble::Unanswered(SourceError::new(why, true)));
                    return (self.results(), true);
                }
            };
            let mut parts = self.parts;
            let read = move || {
                parts.read(&found.layers);
                drop(found.memory);
                parts
            };
            // What was verified before still counts.
            let Ok(Ok(parts)) = timeout_at(self.end, self.tasks.spawn_blocking(read)).await else {
                return (latest, false);
            };
            self.parts = parts;
            self.is_confirmed = self.parts.confirm().now_or_never().is_some();
            latest = self.report_so_far();
            if !self.is_confirmed {
                self.confirm(consulted, Instant::now() + CONFIRMATION_WAIT).await;
                latest = self.report_so_far();
            }
        }
    }

    /// Whether enough is known, together with what is known about other authorities and `consulted` ones.
    fn is_settled(&self, consulted: &[Signers]) -> bool {
        let others = self.request.others.iter().chain(consulted).cloned();
        is_settled(others.chain(self.parts.signers()), &self.request.same)
    }

    /// Completes the evidence for the signatures that were read, until `end` at the latest, while consultations
    /// continue.
    async fn confirm(&mut self, consulted: &mut Consultations<'_>, end: Instant) {
        let mut confirmed = pin!(timeout_at(end.min(self.end), self.parts.confirm()));
        self.is_confirmed = loop {
            tokio::select! {
                result = &mut confirmed => break result.is_ok(),
                true = consulted.next() => {}
            }
        };
    }

    /// The next layers that are found, while confirmations and consultations go on. A confirmation that has not ended
    /// when something is found begins again with that; requests that it has begun are not lost.
    async fn next(&mut self, consulted: &mut Consultations<'_>) -> Result<Option<FoundLayers>, Elapsed> {
        let notes = self.notes_so_far();
        let mut next = pin!(timeout_at(self.end, self.search.next()));
        if !self.is_confirmed {
            {
                let mut confirmed = pin!(self.parts.confirm());
                loop {
                    tokio::select! {
                        found = &mut next => return found,
                        () = &mut confirmed => break,
                        true = consulted.next() => {}
                    }
                }
            }
            self.is_confirmed = true;
            let results = self.parts.results(&notes, self.config, self.request.now);
            self.indices.iter().zip(&results).for_each(|(index, result)| (self.report)(*index, result));
        }
        loop {
            tokio::select! {
                found = &mut next => return found,
                true = consulted.next() => {}
            }
        }
    }

    fn results(&self) -> Vec<AuthorityResult> {
        self.parts.results(&self.search.notes, self.config, self.request.now)
    }

    /// Reports the results if nothing else is read.
    fn report_so_far(&self) -> Vec<AuthorityResult> {
        let results = self.parts.results(&self.notes_so_far(), self.config, self.request.now);
        self.indices.iter().zip(&results).for_each(|(index, result)| (self.report)(*index, result));
        results
    }

    fn notes_so_far(&self) -> SearchNotes {
        let mut notes = self.search.notes.clone();
        notes.add(Trouble::Unanswered(SourceError::new("the search has not ended", true)));
        notes
    }
}

pub(super) fn interrupted() -> AuthorityResult {
    let outcome = TrustOutcome::unknown("the verification was interrupted", true);
    AuthorityResult { outcome, until: None }
}

/// The verifications of all schemes.
struct Verifications {
    groups: Vec<SchemeVerification>,
    /// For each authority: its group, and its index there.
    places: Vec<(usize, usize)>,
}

struct SchemeVerification {
    scheme: Arc<dyn SignatureScheme>,
    verification: Box<dyn Verification>,
}

impl Verifications {
    fn begin(schemes: &Schemes, image: &ImageSubject, sought: &[Sought]) -> Self {
        let mut members: Vec<(Arc<dyn SignatureScheme>, Vec<Sought>)> = Vec::new();
        let mut places = Vec::with_capacity(sought.len());
        for one in sought {
            let scheme = schemes.of(one.authority.scheme());
            let group = members.iter().position(|(known, _)| known.name() == scheme.name()).unwrap_or_else(|| {
                members.push((scheme.clone(), Vec::new()));
                members.len() - 1
            });
            let of_group = &mut members[group].1;
            places.push((group, of_group.len()));
            of_group.push(one.clone());
        }
        let begin = |(scheme, sought): (Arc<dyn SignatureScheme>, Vec<Sought>)| {
            let verification = scheme.verification(image, &sought);
            SchemeVerification { scheme, verification }
        };
        Self { groups: members.into_iter().map(begin).collect(), places }
    }

    fn schemes(&self) -> Vec<Arc<dyn SignatureScheme>> {
        self.groups.iter().map(|group| group.scheme.clone()).collect()
    }

    fn read(&mut self, found: &[Attached]) {
        self.groups.iter_mut().for_each(|group| group.verification.read(found));
    }

    async fn confirm(&mut self) {
        join_all(self.groups.iter_mut().map(|group| group.verification.confirm())).await;
    }

    /// The known signers of each authority.
    fn signers(&self) -> impl Iterator<Item = Signers> + '_ {
        self.places.iter().map(|(group, index)| {
            let verification = &self.groups[*group].verification;
            let signed = verification.signed(*index).into_iter().map(|signatory| signatory.id).collect();
            Signers { possible: &signed | &verification.possible(*index), signed }
        })
    }

    fn results(&self, notes: &SearchNotes, config: &Config, now: Timestamp) -> Vec<AuthorityResult> {
        let notes: Vec<_> = self.groups.iter().map(|group| notes.of_scheme(group.scheme.name())).collect();
        let one = |(group, index): &(usize, usize)| {
            let verification = &self.groups[*group].verification;
            let outcome = verification.outcome(*index, &notes[*group]);
            let is_verified = matches!(outcome, TrustOutcome::Verified { .. });
            let until = is_verified.then(|| verification.verified_until(*index, config, now)).flatten();
            AuthorityResult { outcome, until }
        };
        self.places.iter().map(one).collect()
    }
}
