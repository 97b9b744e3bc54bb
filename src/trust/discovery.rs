//! Finds what is attached to an image: the entries of the referrers API, those of the referrers tag that replaces it,
//! and the tags that signature schemes request. It does not know any scheme: each scheme selects the layers that it
//! reads.
//!
//! Anyone who can push to a repository can attach things to an image, so no place may hide the content of another: each
//! has its own budget, charged for received bytes and never for the size that a descriptor claims. A failure in one
//! place does not end the search. Results are handed out in batches, and what was not looked at is noted.

mod layer;
mod listing;
mod place;
mod places;

use std::collections::{HashSet, VecDeque};
use std::pin::pin;
use std::sync::Arc;

use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt};
use tokio::sync::mpsc;

use super::large::{LargeLayers, ReservedMemory};
use super::notes::{SearchNotes, Trouble, clip};
use super::scheme::{Attached, LARGEST_SIGNATURE, Origin, SignatureScheme};
use super::source::{SignatureSource, SourceError, UnparsedManifest};
use crate::oci::{Content, Digest, Manifest, Refused};
use crate::policy::SignatureFinding;
use place::{Pointer, SearchPlace};
use places::ListAnswer;
pub(super) use places::{AttachmentReader, PlaceAnswer, place_count};

/// How many requests of one place run at once.
const CONCURRENCY: usize = 6;

/// A search in progress. Nothing makes it fail: what went wrong is in its notes.
pub(super) struct Search<'a, S> {
    reader: AttachmentReader<'a, S>,
    schemes: SearchSchemes,
    large: LargeLayers,
    /// The answers of the places that were asked.
    answers: BoxStream<'a, PlaceAnswer>,
    /// How many places have not answered yet.
    unanswered: usize,
    /// The entries of the referrers tag, until the API has answered.
    referrers_tag: Option<ListAnswer>,
    is_api_listed: bool,
    /// The places that still have something, in turn.
    places: VecDeque<SearchPlace>,
    /// Referrers that some place listed: each is opened once.
    seen: HashSet<Digest>,
    pub(super) notes: SearchNotes,
}

/// The schemes that a search serves.
#[derive(Clone)]
pub(super) struct SearchSchemes {
    /// Those that read what is found.
    pub(super) reading: Vec<Arc<dyn SignatureScheme>>,
    /// All that exist, to name what none of the former reads.
    pub(super) all: Vec<Arc<dyn SignatureScheme>>,
}

/// Layers that were found, whole.
pub(super) struct FoundLayers {
    pub(super) layers: Vec<Attached>,
    /// The memory of a large layer, to be given back once the layer was read.
    pub(super) memory: Option<ReservedMemory>,
}

/// The answers to questions about one image that were asked before its manifest was there.
pub(super) struct AheadAnswers {
    /// The suffixes of the tags that were asked about.
    pub(super) suffixes: Vec<&'static str>,
    /// The answers.
    pub(super) answers: mpsc::Receiver<PlaceAnswer>,
}

impl<'a, S: SignatureSource> Search<'a, S> {
    /// Asks every place, unless that was done before: `ahead`.
    pub(super) fn new(
        reader: AttachmentReader<'a, S>,
        schemes: SearchSchemes,
        large: LargeLayers,
        ahead: Option<AheadAnswers>,
    ) -> Self {
        let suffixes = tag_suffixes(&schemes.reading);
        let answers = match ahead.filter(|ahead| ahead.suffixes == suffixes) {
            Some(AheadAnswers { mut answers, .. }) => {
                stream::poll_fn(move |context| answers.poll_recv(context)).boxed()
            }
            None => reader.ask(&suffixes).boxed(),
        };
        let (places, seen, notes) = Default::default();
        let (unanswered, referrers_tag, is_api_listed) = (place_count(&suffixes), None, false);
        Self { reader, schemes, large, answers, unanswered, referrers_tag, is_api_listed, places, seen, notes }
    }

    /// The next batch of layers that may hold signatures, whole; `None` at the end. The places take turns, and those
    /// that have answered do not wait for the others.
    pub(super) async fn next(&mut self) -> Option<FoundLayers> {
        loop {
            while let Some(Some(answer)) = self.answers.next().now_or_never() {
                self.add(answer);
            }
            let Some(place) = self.places.pop_front() else {
                match self.answers.next().await {
                    Some(answer) => self.add(answer),
                    None => return self.end(),
                }
                continue;
            };
            let found = self.advance_place(place).await;
            if !found.layers.is_empty() {
                return Some(found);
            }
        }
    }

    /// Looks at some of what a place has, while other places answer.
    async fn advance_place(&mut self, mut place: SearchPlace) -> FoundLayers {
        let mut answers = std::mem::replace(&mut self.answers, stream::empty().boxed());
        let mut arrived = Vec::new();
        let found = {
            let mut advancing = pin!(async {
                match place.take_large() {
                    Some(pointer) => self.advance_by_large(&mut place, pointer).await,
                    None => FoundLayers { layers: self.advance(&mut place).await, memory: None },
                }
            });
            loop {
                tokio::select! {
                    found = &mut advancing => break found,
                    Some(answer) = answers.next() => arrived.push(answer),
                }
            }
        };
        self.answers = answers;
        place.check(&mut self.notes);
        arrived.into_iter().for_each(|answer| self.add(answer));
        if !place.is_empty() {
            self.places.push_back(place);
        }
        found
    }

    /// Adds what a place has. A referrer that several places list counts for the API: anyone who can push can write the
    /// referrers tag, which must not use up the budget with which the referrer is opened.
    fn add(&mut self, answer: PlaceAnswer) {
        self.unanswered = self.unanswered.saturating_sub(1);
        match answer {
            PlaceAnswer::Api(listed) => {
                self.add_listed("the referrers API", listed);
                self.is_api_listed = true;
            }
            PlaceAnswer::ReferrersTag(listed) => self.referrers_tag = Some(listed),
            PlaceAnswer::Tagged(suffix, tagged) => match *tagged {
                Ok(Some((place, manifest))) => {
                    let pointers = self.select(&manifest, Origin::Tag(suffix), &place);
                    let name = format!("the {suffix} tag");
                    self.places.extend(SearchPlace::of_pointers(name, pointers, &mut self.notes));
                }
                Ok(None) => {}
                Err(trouble) => self.notes.add(trouble),
            },
        }
        if self.is_api_listed
            && let Some(listed) = self.referrers_tag.take()
        {
            self.add_listed("the referrers tag", listed);
        }
    }

    /// The end of the search. A question without an answer, such as one that a stop interrupted, is noted.
    fn end(&mut self) -> Option<FoundLayers> {
        if std::mem::take(&mut self.unanswered) > 0 {
            let why = "the registry requests were interrupted";
            self.notes.add(Trouble::Unanswered(SourceError::new(why, true)));
        }
        None
    }

    fn add_listed(&mut self, place: &'static str, (mut listed, trouble): ListAnswer) {
        trouble.into_iter().for_each(|trouble| self.notes.add(trouble));
        listed.retain(|referrer| self.seen.insert(referrer.digest));
        let is_expected = |artifact_type: &str| self.schemes.reading.iter().any(|scheme| scheme.expects(artifact_type));
        listed.sort_by_cached_key(|referrer| referrer.priority(is_expected));
        self.places.extend(SearchPlace::of_referrers(place, listed, &mut self.notes));
    }

    /// Opens some referrers, or fetches some layers.
    async fn advance(&mut self, place: &mut SearchPlace) -> Vec<Attached> {
        let reader = self.reader;
        let referrers = place.take_referrers(CONCURRENCY);
        let opened: Vec<_> =
            stream::iter(referrers).map(|digest| reader.referrer(digest)).buffered(CONCURRENCY).collect().await;
        for (bytes, outcome) in opened {
            place.charge(bytes);
            match outcome {
                Ok(manifest) => {
                    let pointers = self.referrer_layers(&manifest);
                    place.add_pointers(pointers, &mut self.notes);
                }
                Err(trouble) => self.notes.add(trouble),
            }
        }
        let attached = |pointer: Pointer| reader.attached(pointer, LARGEST_SIGNATURE);
        let fetched: Vec<_> =
            stream::iter(place.take_pointers(CONCURRENCY)).map(attached).buffered(CONCURRENCY).collect().await;
        let mut found = Vec::new();
        for fetched in fetched {
            found.extend(self.take_in(place, fetched));
        }
        found
    }

    /// The layers of a referrer that some scheme reads. A referrer of another image has none.
    fn referrer_layers(&mut self, manifest: &Manifest) -> Vec<Pointer> {
        let place = referrer_place(manifest.digest);
        let pointers = self.select(manifest, Origin::Referrer, &place);
        let is_ours = manifest.subject.as_ref().is_some_and(|subject| subject.digest == self.reader.digest);
        if pointers.is_empty() || is_ours {
            return pointers;
        }
        let form = manifest_form(Origin::Referrer, &place, manifest.digest);
        let finding = refused(&place, form, "its subject is another image");
        self.notes.add(Trouble::Broken(finding.with_hint("sign this image itself: signatures cannot be copied")));
        Vec::new()
    }

    /// The layers that some scheme reads, each once.
    fn select(&mut self, manifest: &Manifest, origin: Origin, place: &Arc<str>) -> Vec<Pointer> {
        let (mut chosen, mut limit) = (Vec::new(), LARGEST_SIGNATURE);
        let form = || manifest_form(origin, place, manifest.digest);
        for scheme in &self.schemes.reading {
            match scheme.select(manifest, origin) {
                Ok(layers) if layers.is_empty() => {
                    let mut others = self.schemes.all.iter().filter(|other| other.name() != scheme.name());
                    if let Some(what) = others.find_map(|other| other.recognises(manifest)) {
                        let why = format!("{what}, which this authority does not read");
                        let finding = SignatureFinding::not_judged(&**place, form(), why);
                        self.notes.add_broken(scheme.name(), finding);
                    }
                }
                Ok(layers) => {
                    limit = limit.max(scheme.largest_layer());
                    let is_new = |layer: &usize| !chosen.contains(layer);
                    let new: Vec<_> = layers.into_iter().filter(is_new).collect();
                    chosen.extend(new);
                }
                Err(why) => self.notes.add_broken(scheme.name(), refused(place, form(), why)),
            }
        }
        let Content::Image { layers, .. } = &manifest.content else { return Vec::new() };
        Pointer::to(chosen.into_iter().filter_map(|layer| layers.get(layer)), place, limit)
    }
}

/// The suffixes of the tags in which these schemes have signatures, each once, in order.
pub(super) fn tag_suffixes(schemes: &[Arc<dyn SignatureScheme>]) -> Vec<&'static str> {
    let mut suffixes: Vec<_> = schemes.iter().flat_map(|scheme| scheme.tag_suffixes()).copied().collect();
    suffixes.sort_unstable();
    suffixes.dedup();
    suffixes
}

/// Where a referrer is, for messages.
fn referrer_place(digest: Digest) -> Arc<str> {
    format!("referrer {digest}").into()
}

/// A manifest in which no signature can count, and why.
fn refused(place: &str, form: String, why: impl Into<String>) -> SignatureFinding {
    SignatureFinding::refused(place, form, clip(why.into()))
}

/// The note for a manifest that cannot be used. One that is too long to be read may contain a signature.
fn trouble(invalid: &Refused, place: &str, form: String) -> Trouble {
    match invalid {
        Refused::Entries(_) => Trouble::Limit(clip(format!("{form}: {invalid}"))),
        _ => Trouble::Broken(refused(place, form, invalid.to_string())),
    }
}

/// How messages refer to an attached manifest: by its tag, or by the beginning of its digest.
fn manifest_form(origin: Origin, place: &str, digest: Digest) -> String {
    match origin {
        Origin::Tag(_) => place.to_owned(),
        Origin::Referrer => format!("referrer {}", digest.short()),
    }
}

fn parse(fetched: UnparsedManifest) -> Result<Manifest, Refused> {
    Manifest::parse(fetched.bytes, fetched.content_type.as_deref())
}

fn manifest_of(fetched: UnparsedManifest) -> Result<UnparsedManifest, SourceError> {
    match parse(fetched.clone()) {
        Err(refused @ Refused::NoManifest(_)) => Err(SourceError::new(refused.to_string(), true)),
        Ok(_) | Err(_) => Ok(fetched),
    }
}

fn unanswered(what: &str, error: &SourceError) -> Trouble {
    let why = clip(format!("{what} cannot be read: {error}"));
    Trouble::Unanswered(SourceError::new(why, error.temporary))
}
