//! One search for the signatures of an image, for all authorities that need it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::time::{Instant, timeout_at};

use super::discovery::{Search, SearchSchemes};
use super::notes::SearchNotes;
use super::scheme::{Attached, SignatureScheme, Sought, Verification};
use super::settled::{Signers, is_settled};
use super::source::{SignatureSource, SourceError};
use super::{Config, Schemes};
use crate::oci::{Manifest, Repository};
use crate::policy::TrustOutcome;
use crate::runtime::Tasks;

/// The longest time for which signatures of one image are searched for.
const MAX_TIME: Duration = Duration::from_secs(60);

/// What a search found out for one authority.
#[derive(Debug)]
pub(super) struct AuthorityResult {
    pub(super) outcome: TrustOutcome,
    /// The end of a verified outcome; `None` where it depends on nothing but bytes and keys.
    pub(super) verified_until: Option<Timestamp>,
}

/// The outcomes of a search, in the order of the authorities.
pub(super) struct SearchResults {
    pub(super) authorities: Vec<AuthorityResult>,
    /// Whether the search went on to its end, so that everyone who has signed is known as far as the outcomes say.
    pub(super) is_complete: bool,
}

/// What to search for.
pub(super) struct SearchRequest {
    pub(super) repository: Repository,
    pub(super) image: Arc<Manifest>,
    /// The authorities for which it is searched.
    pub(super) sought: Vec<Sought>,
    /// What is known about the signers of the other authorities of the same question.
    pub(super) others: Vec<Signers>,
}

/// Searches until no other signature can matter to the authorities together, or to the end. Everything is fetched once,
/// whatever the number of authorities and schemes.
pub(super) async fn gather(
    source: &impl SignatureSource,
    tasks: &Tasks,
    schemes: Schemes,
    request: SearchRequest,
    config: &Config,
    now: Timestamp,
) -> SearchResults {
    let SearchRequest { repository, image, sought, others } = request;
    let mut parts = Verifications::begin(schemes, &image, &sought);
    let readers = SearchSchemes { reading: parts.schemes(), all: schemes.all };
    let mut search = Search::new(source, &repository, image.digest, readers);
    let end = Instant::now() + MAX_TIME;
    let mut is_complete = false;
    while !parts.is_settled(&others) {
        let found = match timeout_at(end, search.next()).await {
            Ok(Some(found)) => found,
            Ok(None) => {
                is_complete = true;
                break;
            }
            Err(_) => {
                let why = format!("after {} s the rest was not looked at", MAX_TIME.as_secs());
                search.notes.gaps.push(SourceError::new(why, true));
                is_complete = true;
                break;
            }
        };
        let read = move || {
            parts.read(&found);
            parts
        };
        parts = match tasks.spawn_blocking(read).await {
            Ok(parts) => parts,
            Err(_) => return interrupted(sought.len()),
        };
    }
    let mut notes = search.notes;
    if parts.is_settled(&others) {
        notes.gaps.clear();
    }
    SearchResults { authorities: parts.results(&notes, config, now), is_complete }
}

fn interrupted(authorities: usize) -> SearchResults {
    let unknown = || TrustOutcome::unknown("the verification was interrupted", true);
    let one = |_| AuthorityResult { outcome: unknown(), verified_until: None };
    SearchResults { authorities: (0..authorities).map(one).collect(), is_complete: false }
}

/// The verifications of all schemes.
struct Verifications {
    groups: Vec<SchemeVerification>,
    /// For each authority: its group, and its index there.
    places: Vec<(usize, usize)>,
}

struct SchemeVerification {
    scheme: &'static dyn SignatureScheme,
    verification: Box<dyn Verification>,
}

impl Verifications {
    fn begin(schemes: Schemes, image: &Arc<Manifest>, sought: &[Sought]) -> Self {
        let mut members: Vec<(&'static dyn SignatureScheme, Vec<Sought>)> = Vec::new();
        let mut places = Vec::with_capacity(sought.len());
        for one in sought {
            let scheme = (schemes.of)(one.authority.scheme());
            let group = members.iter().position(|(known, _)| known.name() == scheme.name()).unwrap_or_else(|| {
                members.push((scheme, Vec::new()));
                members.len() - 1
            });
            let of_group = &mut members[group].1;
            places.push((group, of_group.len()));
            of_group.push(one.clone());
        }
        let begin = |(scheme, sought): (&'static dyn SignatureScheme, Vec<Sought>)| SchemeVerification {
            scheme,
            verification: scheme.verification(image, &sought),
        };
        Self { groups: members.into_iter().map(begin).collect(), places }
    }

    fn schemes(&self) -> Vec<&'static dyn SignatureScheme> {
        self.groups.iter().map(|group| group.scheme).collect()
    }

    fn read(&mut self, found: &[Attached]) {
        self.groups.iter_mut().for_each(|group| group.verification.read(found));
    }

    fn is_settled(&self, others: &[Signers]) -> bool {
        let mut all: Vec<_> = self.places.iter().map(|place| self.signers(*place)).collect();
        all.extend_from_slice(others);
        is_settled(&all)
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
            let verified_until = verification.verified_until(*index, config, now);
            AuthorityResult { outcome: verification.outcome(*index, &notes[*group]), verified_until }
        };
        self.places.iter().map(one).collect()
    }
}
