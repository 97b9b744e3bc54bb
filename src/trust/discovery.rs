//! Finds what is attached to an image: what the referrers API lists, what the referrers tag lists that replaces it, and
//! the tags that schemes of signatures ask for. It does not know any scheme: each scheme says which layers it reads.
//!
//! Anybody who can push to a repository can attach things to an image, so no place may hide what is in another: each has
//! a budget of its own, charged by what is received and never by what a descriptor claims. A failure in one place does
//! not end the search. Results are handed out in batches, and what was not looked at is noted.

mod layer;
mod listing;
mod place;

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use futures_util::{StreamExt, stream};

use super::large::{LargeLayers, ReservedMemory};
use super::notes::{SearchNotes, Trouble, clip};
use super::scheme::{Attached, LARGEST_SIGNATURE, Origin, SignatureScheme};
use super::source::{SignatureSource, SourceError, UnparsedManifest};
use crate::oci::{Content, Digest, Manifest, Page, Reference, Refused, Repository};
use crate::policy::SignatureFinding;
use listing::{ListedReferrer, MAX_LISTED, ReferrersList};
use place::{Pointer, SearchPlace};

/// The most pages of a referrers list that are requested.
const MAX_PAGES: usize = 10;
/// How many requests of one place run at once.
const CONCURRENCY: usize = 6;

/// A search in progress. Nothing makes it fail: what went wrong is in its notes.
pub(super) struct Search<'a, S> {
    source: &'a S,
    repository: &'a Repository,
    digest: Digest,
    schemes: SearchSchemes,
    large: LargeLayers,
    /// The places that still have something, in turn.
    places: VecDeque<SearchPlace>,
    next: Step,
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

/// Which places are asked next.
enum Step {
    First,
    Fallback,
    Done,
}

impl<'a, S: SignatureSource> Search<'a, S> {
    pub(super) fn new(
        source: &'a S,
        (repository, digest): (&'a Repository, Digest),
        schemes: SearchSchemes,
        large: LargeLayers,
    ) -> Self {
        let (places, seen, notes) = Default::default();
        Self { source, repository, digest, schemes, large, places, next: Step::First, seen, notes }
    }

    /// The next batch of layers that may hold signatures, whole; `None` at the end. The places take turns.
    pub(super) async fn next(&mut self) -> Option<FoundLayers> {
        loop {
            let Some(mut place) = self.places.pop_front() else {
                self.open_more().await?;
                continue;
            };
            let found = match place.take_large() {
                Some(pointer) => self.advance_by_large(&mut place, pointer).await,
                None => FoundLayers { layers: self.advance(&mut place).await, memory: None },
            };
            place.check(&mut self.notes);
            if !place.is_empty() {
                self.places.push_back(place);
            }
            if !found.layers.is_empty() {
                return Some(found);
            }
        }
    }

    /// First the schemes' tags and the API. The referrers tag after them, whatever they answered: registries that gained
    /// the API later do not list what was pushed before.
    async fn open_more(&mut self) -> Option<()> {
        match self.next {
            Step::First => {
                let suffixes: Vec<_> = self.tag_suffixes();
                let tags = join_all(suffixes.iter().map(|suffix| self.tagged_layers(suffix)));
                let (tags, listed) = tokio::join!(tags, self.listed_by_api());
                self.add_listed("the referrers API", listed);
                for (suffix, found) in suffixes.iter().zip(tags) {
                    let pointers = match found {
                        Ok(Some((place, manifest))) => self.select(&manifest, Origin::Tag(suffix), &place),
                        Ok(None) => continue,
                        Err(trouble) => {
                            self.notes.add(trouble);
                            continue;
                        }
                    };
                    self.places.extend(SearchPlace::of_pointers(
                        format!("the {suffix} tag"),
                        pointers,
                        &mut self.notes,
                    ));
                }
                self.next = Step::Fallback;
            }
            Step::Fallback => {
                let listed = self.listed_by_tag().await;
                self.add_listed("the referrers tag", listed);
                self.next = Step::Done;
            }
            Step::Done => return None,
        }
        Some(())
    }

    fn tag_suffixes(&self) -> Vec<&'static str> {
        let mut suffixes: Vec<_> =
            self.schemes.reading.iter().flat_map(|scheme| scheme.tag_suffixes()).copied().collect();
        suffixes.sort_unstable();
        suffixes.dedup();
        suffixes
    }

    fn add_listed(&mut self, place: &'static str, (mut listed, trouble): (Vec<ListedReferrer>, Vec<Trouble>)) {
        trouble.into_iter().for_each(|trouble| self.notes.add(trouble));
        listed.retain(|referrer| self.seen.insert(referrer.digest));
        let is_expected = |artifact_type: &str| self.schemes.reading.iter().any(|scheme| scheme.expects(artifact_type));
        listed.sort_by_cached_key(|referrer| referrer.priority(is_expected));
        self.places.extend(SearchPlace::of_referrers(place, listed, &mut self.notes));
    }

    /// Opens some referrers, or fetches some layers.
    async fn advance(&mut self, place: &mut SearchPlace) -> Vec<Attached> {
        let this = &*self;
        let referrers = place.take_referrers(CONCURRENCY);
        let opened: Vec<_> =
            stream::iter(referrers).map(|digest| this.referrer(digest)).buffered(CONCURRENCY).collect().await;
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
        let (this, pointers) = (&*self, place.take_pointers(CONCURRENCY));
        let attached = |pointer: Pointer| this.attached(pointer, LARGEST_SIGNATURE);
        let fetched: Vec<_> = stream::iter(pointers).map(attached).buffered(CONCURRENCY).collect().await;
        let mut found = Vec::new();
        for fetched in fetched {
            found.extend(self.take_in(place, fetched));
        }
        found
    }

    /// The manifest that a tag with this suffix names, and its place for messages.
    async fn tagged_layers(&self, suffix: &str) -> Result<Option<(Arc<str>, Manifest)>, Trouble> {
        let tag = format!("{}-{}{suffix}", self.digest.algorithm().name(), self.digest.hex());
        let Some(fetched) = self.tagged(&tag).await? else { return Ok(None) };
        let place: Arc<str> = format!("tag {tag}").into();
        match parse(fetched) {
            Ok(manifest) => Ok(Some((place, manifest))),
            Err(invalid) => Err(trouble(&invalid, &place, place.to_string())),
        }
    }

    /// The layers of a referrer that some scheme reads. A referrer of another image has none.
    fn referrer_layers(&mut self, manifest: &Manifest) -> Vec<Pointer> {
        let place = referrer_place(manifest.digest);
        let pointers = self.select(manifest, Origin::Referrer, &place);
        let is_ours = manifest.subject.as_ref().is_some_and(|subject| subject.digest == self.digest);
        if pointers.is_empty() || is_ours {
            return pointers;
        }
        let form = manifest_form(Origin::Referrer, &place, manifest.digest);
        let finding = refused(&place, form, "its subject is another image");
        self.notes.add(Trouble::Broken(finding.with_hint("sign this image itself: a signature cannot be copied")));
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

    /// What the pages of the API list, including those after a page that cannot be read.
    async fn listed_by_api(&self) -> (Vec<ListedReferrer>, Vec<Trouble>) {
        let (mut listed, mut trouble, mut seen) = (Vec::new(), Vec::new(), vec![Page::default()]);
        while let Some(page) = seen.last() {
            let (bytes, next) = match self.source.referrers(self.repository, &self.digest, page).await {
                Ok(Some(answer)) => answer,
                Ok(None) => break,
                Err(error) => {
                    trouble.push(unanswered("the referrers", &error));
                    break;
                }
            };
            self.read_list("the registry's list of referrers", &bytes, &mut listed, &mut trouble);
            let Some(next) = next else { break };
            if seen.contains(&next) || seen.len() == MAX_PAGES || listed.len() > MAX_LISTED {
                trouble.push(Trouble::Limit("the list of referrers does not end".into()));
                break;
            }
            seen.push(next);
        }
        (listed, trouble)
    }

    /// Distribution-spec, "Referrers Tag Schema": the algorithm, a dash, and at most 64 digits.
    async fn listed_by_tag(&self) -> (Vec<ListedReferrer>, Vec<Trouble>) {
        let tag = format!("{}-{}", self.digest.algorithm().name(), &self.digest.hex()[..64]);
        let (mut listed, mut trouble) = (Vec::new(), Vec::new());
        match self.tagged(&tag).await {
            Ok(None) => {}
            Ok(Some(fetched)) => self.read_list(&format!("tag {tag}"), &fetched.bytes, &mut listed, &mut trouble),
            Err(error) => trouble.push(error),
        }
        (listed, trouble)
    }

    /// Reads a list. GitLab takes the referrers tag for the digest and answers with the image itself, which is no list.
    fn read_list(&self, name: &str, bytes: &Bytes, listed: &mut Vec<ListedReferrer>, trouble: &mut Vec<Trouble>) {
        if Digest::of(self.digest.algorithm(), bytes) == self.digest {
            return;
        }
        match ReferrersList::read(bytes) {
            Ok(list) => {
                listed.extend(list.entries);
                if list.unreadable > 0 {
                    let why = format!("{name}: {} entries cannot be read", list.unreadable);
                    trouble.push(Trouble::Unanswered(SourceError::new(why, false)));
                }
            }
            // An answer that is not a list says nothing about signatures.
            Err(why) => {
                trouble.push(Trouble::Unanswered(SourceError::new(clip(format!("{name} is unusable: {why}")), false)));
            }
        }
    }

    /// What a tag names. An answer that is not a manifest, such as a maintenance page of a proxy, does not tell what the
    /// tag names: the question stays open, as in the resolver.
    async fn tagged(&self, tag: &str) -> Result<Option<UnparsedManifest>, Trouble> {
        // A sha512 digest with a suffix is too long for a tag: nothing can be there.
        let Ok(tag) = tag.parse() else { return Ok(None) };
        let reference = Reference::Tag(tag);
        let answer = self.source.manifest(self.repository, &reference).await.and_then(|answer| match answer {
            Some(fetched) => manifest_of(fetched).map(Some),
            None => Ok(None),
        });
        answer.map_err(|error| unanswered(&format!("tag {reference}"), &error))
    }

    /// A referrer; and how many bytes were received.
    async fn referrer(&self, digest: Digest) -> (usize, Result<Manifest, Trouble>) {
        let place = referrer_place(digest);
        let form = manifest_form(Origin::Referrer, &place, digest);
        match self.source.manifest(self.repository, &Reference::Digest(digest)).await {
            Ok(Some(fetched)) => {
                let bytes = fetched.bytes.len();
                let manifest = parse(fetched).and_then(|manifest| manifest.named(digest));
                (bytes, manifest.map_err(|invalid| trouble(&invalid, &place, form)))
            }
            Ok(None) => {
                let why = "is listed as a referrer but is not in the repository";
                (0, Err(Trouble::Broken(refused(&place, form, why))))
            }
            Err(error) => (error.received, Err(unanswered(&format!("referrer {}", digest.short()), &error))),
        }
    }
}

/// Where a referrer is, for messages.
fn referrer_place(digest: Digest) -> Arc<str> {
    format!("referrer {digest}").into()
}

/// A manifest in which no signature can count, and why.
fn refused(place: &str, form: String, why: impl Into<String>) -> SignatureFinding {
    SignatureFinding::refused(place, form, clip(why.into()))
}

/// What it means that a manifest cannot be used. In one that is too long to be read, a signature may be.
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
