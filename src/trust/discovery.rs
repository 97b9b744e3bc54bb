//! Finds what may be cosign signatures of a digest: the `.sig` tag, the referrers API, and the referrers tag that
//! stands in for it. Everything is bounded, and what was not looked at is said.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use futures_util::{StreamExt, stream};

use super::{FetchedManifest, SignatureSource, SourceError, clip};
use crate::oci::{
    Content, Descriptor, Digest, MAX_MANIFEST, Manifest, Page, Reference, Refused, Repository, media_type,
};

/// The layer type of a classic cosign signature (cosign, SIGNATURE_SPEC.md).
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// How the media types of all Sigstore bundles begin.
const BUNDLE: &str = "application/vnd.dev.sigstore.bundle";
/// The artifact type of Notary Project signatures.
const NOTATION: &str = "application/vnd.cncf.notary.signature";
/// Where cosign writes the signature of a classic payload; the specification's text says otherwise.
const SIGNATURE: &str = "dev.cosignproject.cosign/signature";

/// The most signatures of one image that are read.
pub(super) const MAX_SIGNATURES: usize = 50;
/// The most entries of referrers lists that are kept.
const MAX_DESCRIPTORS: usize = 1000;
/// The most referrers whose manifests are fetched.
const MAX_REFERRERS: usize = 200;
/// The most pages of a referrers list that are asked for.
const MAX_PAGES: usize = 10;
/// The largest signature, in bytes.
const MAX_BLOB: u64 = 8 * 1024 * 1024;
/// The most bytes of signatures and their manifests together.
const MAX_TOTAL: u64 = 64 * 1024 * 1024;
/// How many requests are under way at once.
const CONCURRENCY: usize = 6;

/// What was found for one digest.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// What may be signatures, whole.
    pub(super) signatures: Vec<Attached>,
    /// What is there but can be no signature that counts, and why.
    pub(super) broken: Vec<String>,
    /// Questions that the registry did not answer.
    pub(super) gaps: Vec<SourceError>,
    /// Bounds that were reached, so that not everything was looked at.
    pub(super) limits: Vec<String>,
}

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

impl Found {
    fn note(&mut self, trouble: Trouble) {
        match trouble {
            Trouble::Broken(what) => self.broken.push(clip(what)),
            Trouble::Limit(what) => self.limits.push(what),
            Trouble::Unanswered(error) => self.gaps.push(error),
        }
    }

    /// Keeps the good, notes the rest.
    fn keep<T>(&mut self, results: impl IntoIterator<Item = Result<T, Trouble>>) -> Vec<T> {
        results.into_iter().filter_map(|result| result.map_err(|trouble| self.note(trouble)).ok()).collect()
    }
}

/// Why something that was asked for is not there.
enum Trouble {
    /// It is there, and cannot be a signature that counts.
    Broken(String),
    /// A bound of this module was reached.
    Limit(String),
    /// The registry did not answer, or not sensibly.
    Unanswered(SourceError),
}

/// A blob that may be a signature.
struct Pointer {
    descriptor: Descriptor,
    form: Form,
}

impl Pointer {
    fn attached(self, blobs: &HashMap<Digest, Bytes>) -> Option<Attached> {
        let bytes = blobs.get(&self.descriptor.digest)?.clone();
        let kind = if matches!(self.form, Form::Bundle) { "bundle" } else { "classic signature" };
        Some(Attached { name: format!("{kind} {}", self.descriptor.digest.short()), bytes, form: self.form })
    }
}

/// Looks everywhere and fetches what may be a signature. Never fails: what went wrong is in [`Found`].
pub(super) async fn run(source: &impl SignatureSource, repository: &Repository, digest: Digest) -> Found {
    let search = Search { source, repository, digest };
    let (mut found, mut budget) = (Found::default(), MAX_TOTAL);
    let (classic, (listed, trouble)) = tokio::join!(search.classic(), search.listed());
    trouble.into_iter().for_each(|trouble| found.note(trouble));
    let listed = select_referrers(listed, &mut budget, &mut found);
    let referrers: Vec<_> =
        stream::iter(listed).map(|referrer| search.referrer(referrer)).buffered(CONCURRENCY).collect().await;
    let mut pointers: Vec<_> = found.keep(referrers.into_iter().chain([classic])).into_iter().flatten().collect();
    if pointers.len() > MAX_SIGNATURES {
        found.limits.push(format!("of {} signatures only {MAX_SIGNATURES} were looked at", pointers.len()));
        pointers.truncate(MAX_SIGNATURES);
    }
    let mut blobs = unique(pointers.iter().map(|pointer| pointer.descriptor.clone()));
    blobs.retain(|blob| is_affordable(blob, MAX_BLOB, &mut budget, &mut found));
    let blobs: Vec<_> = stream::iter(blobs).map(|blob| search.blob(blob)).buffered(CONCURRENCY).collect().await;
    let blobs: HashMap<_, _> = found.keep(blobs).into_iter().collect();
    found.signatures = pointers.into_iter().filter_map(|pointer| pointer.attached(&blobs)).collect();
    found
}

/// Each content once: the classic signatures of several keys often share one payload.
fn unique(descriptors: impl IntoIterator<Item = Descriptor>) -> Vec<Descriptor> {
    let mut seen = HashSet::new();
    descriptors.into_iter().filter(|descriptor| seen.insert(descriptor.digest)).collect()
}

/// Which referrers are opened: those first whose type says or does not deny that they are cosign's. The type is a hint;
/// GHCR's referrers tags and some registries list bundles as `application/vnd.oci.empty.v1+json`, so none is left out.
fn select_referrers(listed: Vec<Descriptor>, budget: &mut u64, found: &mut Found) -> Vec<Descriptor> {
    let mut listed = unique(listed);
    let is_likely = |d: &Descriptor| match d.artifact_type.as_deref() {
        None | Some(media_type::OCI_EMPTY) => true,
        Some(other) => other.starts_with("application/vnd.dev."),
    };
    listed.sort_by_key(|descriptor| !is_likely(descriptor));
    if listed.len() > MAX_REFERRERS {
        found.limits.push(format!("of {} referrers only {MAX_REFERRERS} were looked at", listed.len()));
        listed.truncate(MAX_REFERRERS);
    }
    listed.retain(|descriptor| is_affordable(descriptor, MAX_MANIFEST as u64, budget, found));
    listed
}

/// Whether something of the size that its descriptor says may be fetched; takes it off the budget. The size is checked
/// against the bytes later.
fn is_affordable(descriptor: &Descriptor, largest: u64, budget: &mut u64, found: &mut Found) -> bool {
    let short = descriptor.digest.short();
    if descriptor.size > largest {
        found.broken.push(format!("{short}: is larger than {} MiB", largest >> 20));
        return false;
    }
    match budget.checked_sub(descriptor.size) {
        Some(rest) => *budget = rest,
        None => {
            found.limits.push(format!("{short}: would exceed {} MiB of signatures for one image", MAX_TOTAL >> 20));
            return false;
        }
    }
    true
}

struct Search<'a, S> {
    source: &'a S,
    repository: &'a Repository,
    digest: Digest,
}

impl<S: SignatureSource> Search<'_, S> {
    /// The `.sig` tag of classic cosign, newest signature first: cosign appends.
    async fn classic(&self) -> Result<Vec<Pointer>, Trouble> {
        let tag = format!("{}-{}.sig", self.digest.algorithm().name(), self.digest.hex());
        let Some(manifest) = self.tagged(&tag).await? else { return Ok(Vec::new()) };
        let mut pointers = classic_layers(&manifest);
        pointers.reverse();
        if pointers.is_empty() {
            return Err(Trouble::Broken(format!("tag {tag}: holds no cosign signature")));
        }
        Ok(pointers)
    }

    /// What the referrers API lists; where it is absent or lists nothing, what the referrers tag lists (registries that
    /// gained the API later do not list what was pushed before).
    async fn listed(&self) -> (Vec<Descriptor>, Option<Trouble>) {
        let (listed, trouble) = self.listed_by_api().await;
        if !listed.is_empty() || trouble.is_some() {
            return (listed, trouble);
        }
        match self.listed_by_tag().await {
            Ok(listed) => (listed, None),
            Err(trouble) => (Vec::new(), Some(trouble)),
        }
    }

    async fn listed_by_api(&self) -> (Vec<Descriptor>, Option<Trouble>) {
        let (mut listed, mut seen) = (Vec::new(), vec![Page::default()]);
        while let Some(page) = seen.last() {
            let (bytes, next) = match self.source.referrers(self.repository, &self.digest, page).await {
                Ok(Some(answer)) => answer,
                Ok(None) => return (listed, None),
                Err(error) => return (listed, Some(unanswered("the referrers", &error))),
            };
            match Manifest::parse(bytes, Some(media_type::OCI_INDEX)) {
                Ok(index) => listed.extend_from_slice(index.children()),
                Err(refused) => return (listed, Some(senseless(&refused))),
            }
            let Some(next) = next else { break };
            if seen.contains(&next) || seen.len() == MAX_PAGES || listed.len() > MAX_DESCRIPTORS {
                listed.truncate(MAX_DESCRIPTORS);
                return (listed, Some(Trouble::Limit("the list of referrers does not end".into())));
            }
            seen.push(next);
        }
        (listed, None)
    }

    /// Distribution-spec, "Referrers Tag Schema": the algorithm, a dash, and at most 64 digits.
    async fn listed_by_tag(&self) -> Result<Vec<Descriptor>, Trouble> {
        let tag = format!("{}-{}", self.digest.algorithm().name(), &self.digest.hex()[..64]);
        let Some(manifest) = self.tagged(&tag).await? else { return Ok(Vec::new()) };
        match manifest.content {
            Content::Index(children) => Ok(children),
            Content::Image { .. } => Err(Trouble::Broken(format!("tag {tag}: is no list of referrers"))),
        }
    }

    async fn tagged(&self, tag: &str) -> Result<Option<Manifest>, Trouble> {
        // A sha512 digest with a suffix is no tag: nothing can be there.
        let Ok(tag) = tag.parse() else { return Ok(None) };
        let reference = Reference::Tag(tag);
        match self.source.manifest(self.repository, &reference).await {
            Ok(None) => Ok(None),
            Ok(Some(fetched)) => match parse(fetched) {
                Ok(manifest) => Ok(Some(manifest)),
                Err(refused) => Err(Trouble::Broken(format!("tag {reference}: {refused}"))),
            },
            Err(error) => Err(unanswered(&format!("tag {reference}"), &error)),
        }
    }

    /// What a referrer holds that may be signatures; nothing for other artifacts.
    async fn referrer(&self, referrer: Descriptor) -> Result<Vec<Pointer>, Trouble> {
        let (reference, name) = (Reference::Digest(referrer.digest), referrer.digest.short());
        let broken = |what: &str| Err(Trouble::Broken(format!("{name}: {what}")));
        let fetched = match self.source.manifest(self.repository, &reference).await {
            Ok(Some(fetched)) => fetched,
            Ok(None) => return broken("is listed as a referrer but is not in the repository"),
            Err(error) => return Err(unanswered(&format!("referrer {name}"), &error)),
        };
        let manifest = match parse(fetched).and_then(|manifest| manifest.named(referrer.digest)) {
            Ok(manifest) => manifest,
            Err(refused) => return broken(&refused.to_string()),
        };
        match contents(&manifest) {
            Err(what) => broken(what),
            Ok(pointers) if pointers.is_empty() => Ok(pointers),
            Ok(pointers) if manifest.subject.as_ref().is_some_and(|s| s.digest == self.digest) => Ok(pointers),
            Ok(_) => broken("its subject is another image"),
        }
    }

    async fn blob(&self, descriptor: Descriptor) -> Result<(Digest, Bytes), Trouble> {
        let (digest, name) = (descriptor.digest, descriptor.digest.short());
        // is_affordable has bounded the size
        let limit = usize::try_from(descriptor.size).unwrap_or(usize::MAX);
        match self.source.blob(self.repository, &digest, limit).await {
            Ok(Some(bytes)) if Digest::of(digest.algorithm(), &bytes) == digest => Ok((digest, bytes)),
            Ok(Some(_)) => Err(Trouble::Broken(format!("signature {name}: the bytes do not have its digest"))),
            Ok(None) => Err(Trouble::Broken(format!("signature {name}: is not in the repository"))),
            Err(error) => Err(unanswered(&format!("signature {name}"), &error)),
        }
    }
}

fn parse(fetched: FetchedManifest) -> Result<Manifest, Refused> {
    Manifest::parse(fetched.bytes, fetched.content_type.as_deref())
}

fn contents(manifest: &Manifest) -> Result<Vec<Pointer>, &'static str> {
    let Content::Image { config, layers } = &manifest.content else { return Ok(Vec::new()) };
    if manifest.artifact_type.as_deref() == Some(NOTATION) || config.media_type == NOTATION {
        return Err("a Notary Project signature, which this authority does not read");
    }
    match &**layers {
        [only] if only.media_type.starts_with(BUNDLE) => {
            Ok(vec![Pointer { descriptor: only.clone(), form: Form::Bundle }])
        }
        layers if layers.iter().any(|layer| layer.media_type.starts_with(BUNDLE)) => {
            Err("a bundle must be the only layer of its manifest")
        }
        _ => Ok(classic_layers(manifest)),
    }
}

fn classic_layers(manifest: &Manifest) -> Vec<Pointer> {
    let Content::Image { layers, .. } = &manifest.content else { return Vec::new() };
    let pointer = |layer: &Descriptor| Pointer {
        form: Form::Classic { signature: layer.annotation(SIGNATURE).map(str::to_owned) },
        descriptor: layer.clone(),
    };
    layers.iter().filter(|layer| layer.media_type == SIMPLE_SIGNING).map(pointer).collect()
}

fn unanswered(what: &str, error: &SourceError) -> Trouble {
    let why = clip(format!("{what} cannot be read: {error}"));
    Trouble::Unanswered(SourceError { why, temporary: error.temporary })
}

/// An answer that is no list says nothing about signatures.
fn senseless(refused: &Refused) -> Trouble {
    let why = clip(format!("the registry's list of referrers is unusable: {refused}"));
    Trouble::Unanswered(SourceError { why, temporary: false })
}
