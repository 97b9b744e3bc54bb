//! One round of questions about an image, for all authorities that need it: a search for attached signatures and, beside
//! it, questions to the places where other evidence is.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

use super::Config;
use super::consultations::Consultations;
use super::discovery::{Search, SearchSchemes};
use super::notes::{SearchNotes, Trouble};
use super::scheme::{Attached, AuthorityResult, ImageSubject, SignatureScheme, Sought, Verification};
use super::schemes::Schemes;
use super::settled::{Signers, is_settled};
use super::source::{SignatureSource, SourceError};
use crate::oci::{ImageName, Manifest, Reference, Repository};
use crate::policy::TrustOutcome;
use crate::runtime::Tasks;

/// The longest time for one round, and for finding out what is signed for a tag.
pub(super) const MAX_TIME: Duration = Duration::from_secs(60);

/// What a round found out for one authority.
pub(super) struct GatheredResult {
    pub(super) result: AuthorityResult,
    /// Whether everyone who has signed for it is known as far as the outcome says.
    pub(super) is_complete: bool,
}

/// What to find out.
pub(super) struct GatherRequest {
    pub(super) name: ImageName,
    /// The reference as it was pulled. A digest is always that of the image.
    pub(super) reference: Reference,
    pub(super) image: Arc<Manifest>,
    /// The repository in which attached signatures are searched for.
    pub(super) repository: Repository,
    /// The authorities for which it is found out.
    pub(super) sought: Vec<Sought>,
    /// What is known about the signers of the other authorities of the same question.
    pub(super) others: Vec<Signers>,
    /// When it is found out.
    pub(super) now: Timestamp,
}

/// Asks until no other signature can matter to the authorities together, or until everything was looked at. Everything
/// that is attached is fetched once, whatever the number of authorities and schemes. The results are in the order of the
/// authorities.
pub(super) async fn gather(
    source: &impl SignatureSource,
    tasks: &Tasks,
    schemes: &Schemes,
    request: GatherRequest,
    config: &Config,
) -> Vec<GatheredResult> {
    let end = Instant::now() + MAX_TIME;
    let mut consulted = Consultations::begin(source, schemes, &request, end);
    let (indices, attached) = consulted.others(&request.sought);
    let mut searched = search(source, tasks, schemes, &request, (attached, end), &mut consulted).await;
    consulted.finish().await;
    let (results, is_complete) = match &mut searched {
        Some(searched) => (searched.parts.results(&searched.notes, config, request.now), searched.is_complete),
        None => (indices.iter().map(|_| interrupted()).collect(), false),
    };
    let mut all = consulted.into_results();
    for (index, result) in indices.into_iter().zip(results) {
        all[index] = Some(GatheredResult { result, is_complete });
    }
    let unknown = || GatheredResult { result: interrupted(), is_complete: false };
    all.into_iter().map(|one| one.unwrap_or_else(unknown)).collect()
}

/// A search for attached signatures that has ended.
struct Searched {
    parts: Verifications,
    notes: SearchNotes,
    /// Whether it went on to its end.
    is_complete: bool,
}

/// Searches for attached signatures while consultations run. `None` if the verification was interrupted.
async fn search(
    source: &impl SignatureSource,
    tasks: &Tasks,
    schemes: &Schemes,
    request: &GatherRequest,
    (attached, end): (Vec<Sought>, Instant),
    consulted: &mut Consultations<'_>,
) -> Option<Searched> {
    let subject = ImageSubject { name: request.name.clone(), manifest: request.image.clone(), now: request.now };
    let mut parts = Verifications::begin(schemes, &subject, &attached);
    let readers = SearchSchemes { reading: parts.schemes(), all: schemes.all() };
    let subject = (&request.repository, request.image.digest);
    let mut search = Search::new(source, subject, readers, &schemes.large_layers);
    let mut is_complete = false;
    loop {
        if parts.is_settled([&request.others[..], &consulted.signers()].concat()) {
            search.notes.clear_gaps();
            break;
        }
        // Only a consultation can matter that has not ended.
        if parts.is_settled(request.others.clone()) && consulted.next().await {
            continue;
        }
        let next = {
            let mut next = pin!(timeout_at(end, search.next()));
            loop {
                tokio::select! {
                    found = &mut next => break found,
                    true = consulted.next() => {}
                }
            }
        };
        let found = match next {
            Ok(Some(found)) => found,
            Ok(None) => {
                is_complete = true;
                break;
            }
            Err(_) => {
                let why = format!("after {} s the rest was not looked at", MAX_TIME.as_secs());
                search.notes.add(Trouble::Unanswered(SourceError::new(why, true)));
                is_complete = true;
                break;
            }
        };
        let read = move || {
            parts.read(&found.layers);
            drop(found.memory);
            parts
        };
        parts = tasks.spawn_blocking(read).await.ok()?;
        // What is not confirmed by then stays unknown, and the search ends with its next step.
        let _ = timeout_at(end, parts.confirm()).await;
    }
    Some(Searched { parts, notes: search.notes, is_complete })
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

    /// Whether enough is known, together with what is known about other authorities.
    fn is_settled(&self, mut others: Vec<Signers>) -> bool {
        others.extend(self.places.iter().map(|place| self.signers(*place)));
        is_settled(&others)
    }

    fn signers(&self, (group, index): (usize, usize)) -> Signers {
        let verification = &self.groups[group].verification;
        let signed = verification.signed(index).into_iter().map(|signatory| signatory.id).collect();
        Signers { possible: &signed | &verification.possible(index), signed }
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
