//! Finds what may be cosign signatures of a digest: in the `.sig` tag, in what the referrers API lists, and in what the
//! referrers tag lists that stands in for it.
//!
//! Anybody who can push to a repository can attach things to an image, so none of these places may hide what is in
//! another: each has room of its own, charged by what arrives and never by what a descriptor claims. The search goes on
//! whatever a place answers, hands out what it finds piece by piece, and says what was not looked at.

mod lane;

use std::collections::{HashSet, VecDeque};

use bytes::Bytes;
use futures_util::{StreamExt, stream};

use super::{FetchedManifest, SignatureSource, SourceError, clip};
use crate::oci::{Content, Digest, Manifest, Page, Reference, Refused, Repository};
use lane::{Lane, Listed, Listing, Pointer};

/// The layer type of a classic cosign signature (cosign, SIGNATURE_SPEC.md).
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// How the media types of all Sigstore bundles begin.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
/// The artifact type of Notary Project signatures.
const NOTATION: &str = "application/vnd.cncf.notary.signature";
/// Where cosign writes the signature of a classic payload; the specification's text says otherwise.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

/// The most pages of a referrers list that are asked for.
const MAX_PAGES: usize = 10;
/// The largest signature, in bytes. Real ones have a few thousand; what is larger is an attestation.
const MAX_BLOB: usize = 1024 * 1024;
/// How many requests are under way at once.
const CONCURRENCY: usize = 6;

/// Something attached to the image that may be a signature.
#[derive(Debug)]
pub(super) struct Attached {
    /// What to call it in messages.
    pub(super) name: String,
    /// The payload or the bundle.
    pub(super) bytes: Bytes,
    /// How to read it.
    pub(super) form: Form,
}

/// The two forms in which cosign stores signatures.
#[derive(Clone, Debug)]
pub(super) enum Form {
    /// A simple-signing payload, with the signature in an annotation, in base64.
    Classic {
        /// The annotation; `None` when it is missing.
        signature: Option<String>,
    },
    /// A Sigstore bundle.
    Bundle,
}

/// What a search left open.
#[derive(Debug, Default)]
pub(super) struct Rest {
    /// What is there but can be no signature that counts, and why.
    pub(super) broken: Vec<String>,
    /// Questions that the registry did not answer, and what was not looked at because a bound was reached.
    pub(super) gaps: Vec<SourceError>,
}

impl Rest {
    fn note(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Broken(what) => self.broken.push(clip(what)),
            Trouble::Limit(what) => self.gaps.push(SourceError::new(what, false)),
            Trouble::Unanswered(error) => self.gaps.push(error),
        }
    }
}

/// Why something that was asked for is not there.
#[derive(Debug)]
enum Trouble {
    /// It is there, and cannot be a signature that counts.
    Broken(String),
    /// A bound of this module was reached.
    Limit(String),
    /// The registry did not answer, or not sensibly.
    Unanswered(SourceError),
}

/// A search under way. Nothing fails it: what went wrong is in its [`Rest`].
pub(super) struct Search<'a, S> {
    source: &'a S,
    repository: &'a Repository,
    digest: Digest,
    /// The places that still have something, in turn.
    lanes: VecDeque<Lane>,
    next: Step,
    /// Referrers that some place listed: each is opened once.
    seen: HashSet<Digest>,
    pub(super) rest: Rest,
}

/// Which places are asked next.
enum Step {
    First,
    Fallback,
    Done,
}

impl<'a, S: SignatureSource> Search<'a, S> {
    pub(super) fn new(source: &'a S, repository: &'a Repository, digest: Digest) -> Self {
        let (lanes, seen, rest) = Default::default();
        Self { source, repository, digest, lanes, next: Step::First, seen, rest }
    }

    /// More of what may be signatures, whole; `None` at the end. The places take turns.
    pub(super) async fn next(&mut self) -> Option<Vec<Attached>> {
        loop {
            let Some(mut lane) = self.lanes.pop_front() else {
                self.open_more().await?;
                continue;
            };
            let found = self.advance(&mut lane).await;
            if !lane.is_empty() {
                self.lanes.push_back(lane);
            }
            if !found.is_empty() {
                return Some(found);
            }
        }
    }

    /// First the `.sig` tag and the API. The referrers tag after them, whatever they said: registries that gained the
    /// API later do not list what was pushed before.
    async fn open_more(&mut self) -> Option<()> {
        match self.next {
            Step::First => {
                let (classic, listed) = tokio::join!(self.classic(), self.listed_by_api());
                self.add_listed("the referrers API", listed);
                match classic {
                    Ok(pointers) => self.lanes.extend(Lane::of_pointers("the .sig tag", pointers, &mut self.rest)),
                    Err(trouble) => self.rest.note(trouble),
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

    fn add_listed(&mut self, place: &'static str, (mut listed, trouble): (Vec<Listed>, Vec<Trouble>)) {
        trouble.into_iter().for_each(|trouble| self.rest.note(trouble));
        listed.retain(|referrer| self.seen.insert(referrer.digest));
        self.lanes.extend(Lane::of_referrers(place, listed, &mut self.rest));
    }

    /// Opens some referrers, or fetches some signatures.
    async fn advance(&mut self, lane: &mut Lane) -> Vec<Attached> {
        let this = &*self;
        let referrers = lane.take_referrers(CONCURRENCY);
        let opened: Vec<_> =
            stream::iter(referrers).map(|digest| this.referrer(digest)).buffered(CONCURRENCY).collect().await;
        for (bytes, outcome) in opened {
            lane.charge(bytes);
            match outcome {
                Ok(pointers) => lane.add_pointers(pointers, &mut self.rest),
                Err(trouble) => self.rest.note(trouble),
            }
        }
        let (this, pointers) = (&*self, lane.take_pointers(CONCURRENCY));
        let fetched: Vec<_> =
            stream::iter(pointers).map(|pointer| this.attached(pointer)).buffered(CONCURRENCY).collect().await;
        let mut found = Vec::new();
        for (bytes, outcome) in fetched {
            lane.charge(bytes);
            match outcome {
                Ok(attached) => found.extend(attached),
                Err(trouble) => self.rest.note(trouble),
            }
        }
        lane.check(&mut self.rest);
        found
    }

    /// The `.sig` tag of classic cosign, newest signature first: cosign appends.
    async fn classic(&self) -> Result<Vec<Pointer>, Trouble> {
        let tag = format!("{}-{}.sig", self.digest.algorithm().name(), self.digest.hex());
        let Some(fetched) = self.tagged(&tag).await? else { return Ok(Vec::new()) };
        let manifest = parse(fetched).map_err(|refused| Trouble::Broken(format!("tag {tag}: {refused}")))?;
        let pointers = classic_layers(&manifest);
        if pointers.is_empty() {
            return Err(Trouble::Broken(format!("tag {tag}: holds no cosign signature")));
        }
        Ok(pointers)
    }

    /// What the pages of the API list, those after one that cannot be read included.
    async fn listed_by_api(&self) -> (Vec<Listed>, Vec<Trouble>) {
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
            if seen.contains(&next) || seen.len() == MAX_PAGES || listed.len() > lane::MAX_LISTED {
                trouble.push(Trouble::Limit("the list of referrers does not end".into()));
                break;
            }
            seen.push(next);
        }
        (listed, trouble)
    }

    /// Distribution-spec, "Referrers Tag Schema": the algorithm, a dash, and at most 64 digits.
    async fn listed_by_tag(&self) -> (Vec<Listed>, Vec<Trouble>) {
        let tag = format!("{}-{}", self.digest.algorithm().name(), &self.digest.hex()[..64]);
        let (mut listed, mut trouble) = (Vec::new(), Vec::new());
        match self.tagged(&tag).await {
            Ok(None) => {}
            Ok(Some(fetched)) => self.read_list(&format!("tag {tag}"), &fetched.bytes, &mut listed, &mut trouble),
            Err(error) => trouble.push(error),
        }
        (listed, trouble)
    }

    /// Reads a list. GitLab takes the referrers tag for the digest and answers with the image itself: no list is there.
    fn read_list(&self, name: &str, bytes: &Bytes, listed: &mut Vec<Listed>, trouble: &mut Vec<Trouble>) {
        if Digest::of(self.digest.algorithm(), bytes) == self.digest {
            return;
        }
        match Listing::read(bytes) {
            Ok(list) => {
                listed.extend(list.entries);
                if list.unreadable > 0 {
                    let why = format!("{name}: {} entries cannot be read", list.unreadable);
                    trouble.push(Trouble::Unanswered(SourceError::new(why, false)));
                }
            }
            // An answer that is no list says nothing about signatures.
            Err(why) => {
                trouble.push(Trouble::Unanswered(SourceError::new(clip(format!("{name} is unusable: {why}")), false)));
            }
        }
    }

    /// What a tag holds. Nothing says of an answer that is no manifest, such as a page of a front that is under
    /// maintenance, that the tag holds it: the question stays open, as it does for the resolver.
    async fn tagged(&self, tag: &str) -> Result<Option<FetchedManifest>, Trouble> {
        // A sha512 digest with a suffix is no tag: nothing can be there.
        let Ok(tag) = tag.parse() else { return Ok(None) };
        let reference = Reference::Tag(tag);
        let answer = self.source.manifest(self.repository, &reference).await.and_then(|answer| match answer {
            Some(fetched) => manifest_of(fetched).map(Some),
            None => Ok(None),
        });
        answer.map_err(|error| unanswered(&format!("tag {reference}"), &error))
    }

    /// What a referrer holds that may be signatures, nothing for other artifacts; and how many bytes came.
    async fn referrer(&self, digest: Digest) -> (usize, Result<Vec<Pointer>, Trouble>) {
        let name = digest.short();
        match self.source.manifest(self.repository, &Reference::Digest(digest)).await {
            Ok(Some(fetched)) => {
                let (bytes, pointers) = (fetched.bytes.len(), self.pointers(fetched, digest));
                (bytes, pointers.map_err(|what| Trouble::Broken(format!("{name}: {what}"))))
            }
            Ok(None) => {
                let what = format!("{name}: is listed as a referrer but is not in the repository");
                (0, Err(Trouble::Broken(what)))
            }
            Err(error) => (error.received, Err(unanswered(&format!("referrer {name}"), &error))),
        }
    }

    fn pointers(&self, fetched: FetchedManifest, digest: Digest) -> Result<Vec<Pointer>, String> {
        let manifest = parse(fetched).and_then(|manifest| manifest.named(digest)).map_err(|r| r.to_string())?;
        let pointers = contents(&manifest)?;
        let is_ours = manifest.subject.as_ref().is_some_and(|subject| subject.digest == self.digest);
        if pointers.is_empty() || is_ours { Ok(pointers) } else { Err("its subject is another image".into()) }
    }

    /// Fetches what may be signatures; and how many bytes came.
    async fn attached(&self, pointer: Pointer) -> (usize, Result<Vec<Attached>, Trouble>) {
        let (digest, name) = (pointer.digest, pointer.digest.short());
        let broken = |what: &str| Err(Trouble::Broken(format!("signature {name}: {what}")));
        match self.source.blob(self.repository, &digest, MAX_BLOB).await {
            Ok(Some(bytes)) if Digest::of(digest.algorithm(), &bytes) == digest => {
                (bytes.len(), Ok(pointer.hold(&bytes)))
            }
            Ok(Some(bytes)) => (bytes.len(), broken("the bytes do not have its digest")),
            Ok(None) => (0, broken("is not in the repository")),
            Err(error) if error.received >= MAX_BLOB => {
                (error.received, broken("is larger than 1 MiB, as no signature is"))
            }
            Err(error) => (error.received, Err(unanswered(&format!("signature {name}"), &error))),
        }
    }
}

fn parse(fetched: FetchedManifest) -> Result<Manifest, Refused> {
    Manifest::parse(fetched.bytes, fetched.content_type.as_deref())
}

fn manifest_of(fetched: FetchedManifest) -> Result<FetchedManifest, SourceError> {
    match parse(fetched.clone()) {
        Err(refused @ Refused::NoManifest(_)) => Err(SourceError::new(refused.to_string(), true)),
        Ok(_) | Err(_) => Ok(fetched),
    }
}

fn contents(manifest: &Manifest) -> Result<Vec<Pointer>, &'static str> {
    let Content::Image { config, layers } = &manifest.content else { return Ok(Vec::new()) };
    if manifest.artifact_type.as_deref() == Some(NOTATION) || config.media_type == NOTATION {
        return Err("a Notary Project signature, which this authority does not read");
    }
    match &**layers {
        [only] if only.media_type.starts_with(BUNDLE) => {
            Ok(vec![Pointer { digest: only.digest, forms: vec![Form::Bundle] }])
        }
        layers if layers.iter().any(|layer| layer.media_type.starts_with(BUNDLE)) => {
            Err("a bundle must be the only layer of its manifest")
        }
        _ => Ok(classic_layers(manifest)),
    }
}

/// Each payload once, with all its signatures: those of several keys often share one.
fn classic_layers(manifest: &Manifest) -> Vec<Pointer> {
    let Content::Image { layers, .. } = &manifest.content else { return Vec::new() };
    let mut pointers: Vec<Pointer> = Vec::new();
    for layer in layers.iter().rev().filter(|layer| layer.media_type == SIMPLE_SIGNING) {
        let form = Form::Classic { signature: layer.annotation(SIGNATURE).map(str::to_owned) };
        match pointers.iter_mut().find(|pointer| pointer.digest == layer.digest) {
            Some(pointer) => pointer.forms.push(form),
            None => pointers.push(Pointer { digest: layer.digest, forms: vec![form] }),
        }
    }
    pointers
}

fn unanswered(what: &str, error: &SourceError) -> Trouble {
    let why = clip(format!("{what} cannot be read: {error}"));
    Trouble::Unanswered(SourceError::new(why, error.temporary))
}
