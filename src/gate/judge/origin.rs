//! Where an image comes from: when it was created, and which images it was built on.
//!
//! An image was built on another one if the layers of that one are its own lowest layers, digest by digest, or unpack
//! to the same content. That is proven by the two manifests, and by this gate if it has unpacked the layers; what an
//! image's author writes into it proves nothing. Only images that this gate has admitted count, by the names under
//! which their registries delivered them. A proof is kept, with the tags that the base image had then.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use oci_spec::image::ImageConfiguration;
use serde::{Deserialize, Serialize};

use super::layers::Layers;
use crate::cache::Cache;
use crate::gate::Target;
use crate::oci::{Content, Descriptor, Digest, ImageName, Manifest, Tag};
use crate::policy::{BaseImage, ImageFacts, Observed, VaEvidence, VaRule, is_denied_until_answered};
use crate::resolve::{ResolveError, Resolver};
use crate::runtime::Clock;
use crate::store::{FactStore, StoreError};
use crate::va::DerivedEvidence;

/// The largest configuration that is read, in bytes.
const MAX_CONFIG: u64 = 4 * 1024 * 1024;
/// The maximum number of images that are compared with an image. If there are more, its base images are unknown,
/// because none of the candidates can be left out.
const MAX_COMPARED: usize = 1024;
/// The maximum number of base images that are kept for an image; those found in one search are always kept.
const MAX_BASES: usize = MAX_COMPARED;
/// The maximum number of tags that are kept of a base image.
const MAX_TAGS: usize = 32;
/// After how long base images are looked up again if the lookup failed.
const RETRY: SignedDuration = SignedDuration::from_secs(10);
/// The same if there are too many candidates, which changes rarely.
const RETRY_TOO_MANY: SignedDuration = SignedDuration::from_mins(10);
/// The topic of stored proofs.
const TOPIC: &str = "base-1";
/// The annotations and labels with which an author names the base image (image-spec, annotations.md).
const BASE_NAME: &str = "org.opencontainers.image.base.name";
const BASE_DIGEST: &str = "org.opencontainers.image.base.digest";

/// An image whose layers are the lowest layers of another one, or unpack to the same.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
struct ProvenBase {
    name: ImageName,
    digest: Digest,
    /// The number of its layers.
    layers: usize,
    /// The tags that it had, also as a part of an index.
    tags: Vec<Tag>,
    /// The indexes that list it.
    indexes: Vec<Digest>,
}

/// The names of the images that an image was built on, and its own.
#[derive(Default)]
struct ImageOrigin {
    bases: Vec<BaseImage>,
    names: Vec<BaseImage>,
    /// Why there may be others.
    unknown: Option<UnknownOrigin>,
}

/// Why it is not known which images an image was built on.
#[derive(Debug, thiserror::Error)]
enum UnknownOrigin {
    #[error(transparent)]
    Failed(#[from] ResolveError),
    #[error("more than {MAX_COMPARED} known images consist only of layers of this one")]
    TooMany,
}

impl From<StoreError> for UnknownOrigin {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.into())
    }
}

impl UnknownOrigin {
    fn retry(&self) -> SignedDuration {
        match self {
            Self::Failed(_) => RETRY,
            Self::TooMany => RETRY_TOO_MANY,
        }
    }
}

/// Finds out where images come from.
pub(in crate::gate) struct Origins {
    resolver: Resolver,
    layers: Layers,
    cache: Arc<Cache>,
    store: FactStore,
    derived: DerivedEvidence,
    clock: Clock,
}

impl Origins {
    pub(in crate::gate) fn new(
        resolver: &Resolver,
        layers: &Layers,
        cache: &Arc<Cache>,
        store: &FactStore,
        derived: &DerivedEvidence,
        clock: &Clock,
    ) -> Self {
        let (resolver, layers, cache) = (resolver.clone(), layers.clone(), cache.clone());
        Self { resolver, layers, cache, store: store.clone(), derived: derived.clone(), clock: clock.clone() }
    }

    /// A report, or other evidence, with what is known about the origin of the image, and with the images that it was
    /// built on if the rule needs them.
    pub(in crate::gate) async fn add(
        &self,
        target: &Target,
        manifest: &Manifest,
        rule: &VaRule,
        evidence: Arc<Observed<VaEvidence>>,
    ) -> Arc<Observed<VaEvidence>> {
        // Such evidence is another at each request, so nothing that is made from it is found again.
        if is_denied_until_answered(rule, &evidence.value) {
            return evidence;
        }
        let known = evidence.value.image();
        let Content::Image { config, layers } = &manifest.content else { return evidence };
        let origin = match rule.needs_bases() {
            true => self.origin(&target.name, manifest.digest, layers).await,
            false => ImageOrigin::default(),
        };
        // What the configuration says never changes, so it need not be read again.
        let basis = basis(manifest.digest, &origin);
        if origin.unknown.is_none()
            && let Some(made) = self.derived.get(&evidence, &basis)
        {
            return made;
        }
        let settings = self.configuration(target, config).await;
        let image = ImageFacts {
            created: settings.as_ref().and_then(|settings| settings.created().as_ref()?.parse().ok()),
            claimed_base: claim(manifest, settings.as_ref()),
            bases: origin.bases,
            bases_unknown: origin.unknown.as_ref().map(|why| format!("its base images cannot be looked up: {why}")),
            names: origin.names,
            ..known.cloned().unwrap_or_default()
        };
        let retry = origin.unknown.as_ref().map(UnknownOrigin::retry);
        let retried = retry.map(|retry| self.clock.now().saturating_add(retry).unwrap_or(Timestamp::MAX));
        let value = evidence.value.clone().with_image(image);
        match settings {
            Some(_) if retried.is_none() => self.derived.keep(&evidence, &basis, value),
            _ => {
                let until = evidence.until.into_iter().chain(retried).min();
                Arc::new(Observed { value, at: evidence.at, until })
            }
        }
    }

    async fn configuration(&self, target: &Target, config: &Descriptor) -> Option<ImageConfiguration> {
        if config.size > MAX_CONFIG {
            return None;
        }
        let bytes = match target.known_only {
            true => self.cache.peek(config.digest, usize::try_from(MAX_CONFIG).ok()?).await?,
            false => self.layers.reader(target).whole(config).await.ok()?,
        };
        ImageConfiguration::from_reader(&*bytes).ok()
    }

    /// The names of the images that an image was built on, and its own.
    async fn origin(&self, name: &ImageName, digest: Digest, layers: &[Descriptor]) -> ImageOrigin {
        let (bases, names) = (self.bases(name, digest, layers).await, self.names(name, digest).await);
        let mut unknown = None;
        let mut known = |found: Result<Vec<BaseImage>, UnknownOrigin>| {
            found.unwrap_or_else(|why| {
                unknown.get_or_insert(why);
                Vec::new()
            })
        };
        // The names come first: if they are unknown, a retry may soon help.
        let (names, bases) = (known(names.map_err(UnknownOrigin::from)), known(bases));
        ImageOrigin { bases, names, unknown }
    }

    /// The names of the images that an image was built on, those of the nearest first.
    ///
    /// # Errors
    /// The database cannot be read, or there are too many: there may be more.
    async fn bases(
        &self,
        name: &ImageName,
        digest: Digest,
        layers: &[Descriptor],
    ) -> Result<Vec<BaseImage>, UnknownOrigin> {
        let subject = format!("{name}@{digest}");
        let stored = self.store.evidence(TOPIC, &subject, self.clock.now()).await?;
        let before: Vec<ProvenBase> =
            stored.and_then(|stored| serde_json::from_str(&stored.value).ok()).unwrap_or_default();
        let mut proven = self.search(name, digest, layers).await?;
        before.iter().cloned().for_each(|base| merge(&mut proven, base));
        proven.truncate(MAX_BASES);
        proven.sort_by_key(|base| std::cmp::Reverse(base.layers));
        if proven != before {
            let value = serde_json::to_string(&proven).unwrap_or_default();
            let row = Observed { value, at: self.clock.now(), until: None };
            if let Err(error) = self.store.record_evidence(TOPIC, &subject, row).await {
                tracing::warn!(%error, image = subject, "the images below an image cannot be stored");
            }
        }
        Ok(proven.iter().flat_map(names_of).collect())
    }

    /// The known images whose layers are the lowest of these. Another image in the same repository must have fewer.
    ///
    /// # Errors
    /// The database cannot be read, or there are too many.
    async fn search(
        &self,
        name: &ImageName,
        digest: Digest,
        layers: &[Descriptor],
    ) -> Result<Vec<ProvenBase>, UnknownOrigin> {
        let digests: Vec<Digest> = layers.iter().map(|layer| layer.digest).collect();
        if digests.is_empty() {
            return Ok(Vec::new());
        }
        let unpacked = self.store.unpacked_alike(&digests).await?;
        let content = |layer: &Digest| *unpacked.get(layer).unwrap_or(layer);
        let all: Vec<Digest> = digests.iter().chain(unpacked.keys()).copied().collect();
        let within = self.store.images_within(name, &digests, &all, MAX_COMPARED as u32 + 1).await?;
        if within.len() > MAX_COMPARED {
            return Err(UnknownOrigin::TooMany);
        }
        let mut found = Vec::new();
        for (base, base_digest) in within {
            let Some(manifest) = self.resolver.known_manifest(&base, base_digest).await else { continue };
            let Content::Image { layers: lowest, .. } = &manifest.content else { continue };
            let is_below = !lowest.is_empty()
                && lowest.len() <= layers.len()
                && lowest.iter().zip(&digests).all(|(layer, digest)| content(&layer.digest) == content(digest));
            let is_itself = base == *name && (base_digest == digest || lowest.len() == layers.len());
            if is_below && !is_itself {
                let (tags, indexes) = self.tags_and_indexes(&base, base_digest).await?;
                found.push(ProvenBase { name: base, digest: base_digest, layers: lowest.len(), tags, indexes });
            }
        }
        Ok(found)
    }

    async fn tags_and_indexes(
        &self,
        name: &ImageName,
        digest: Digest,
    ) -> Result<(Vec<Tag>, Vec<Digest>), ResolveError> {
        let tags = self.resolver.known_tags(name, digest).await?.iter().take(MAX_TAGS).cloned().collect();
        let indexes = self.resolver.naming(name, digest).await?.iter().take(MAX_TAGS).copied().collect();
        Ok((tags, indexes))
    }

    async fn names(&self, name: &ImageName, digest: Digest) -> Result<Vec<BaseImage>, ResolveError> {
        let (tags, indexes) = self.tags_and_indexes(name, digest).await?;
        Ok(names_of(&ProvenBase { name: name.clone(), digest, layers: 0, tags, indexes }))
    }
}

/// What the facts about an image follow from, besides its configuration: the image, and the names that it and others
/// have.
fn basis(image: Digest, origin: &ImageOrigin) -> Arc<str> {
    serde_json::to_string(&(image, &origin.bases, &origin.names)).unwrap_or_default().into()
}

/// Adds a base image that was proven before, or the names that it had then. What was found now comes first, so that the
/// limits never leave it out.
fn merge(found: &mut Vec<ProvenBase>, mut before: ProvenBase) {
    let known = found.iter_mut().find(|known| (&known.name, known.digest) == (&before.name, before.digest));
    let Some(known) = known else { return found.push(before) };
    put_first(&mut before.tags, std::mem::take(&mut known.tags));
    put_first(&mut before.indexes, std::mem::take(&mut known.indexes));
    *known = before;
}

fn put_first<T: PartialEq>(known: &mut Vec<T>, mut found: Vec<T>) {
    known.retain(|one| !found.contains(one));
    found.append(known);
    found.truncate(MAX_TAGS);
    *known = found;
}

/// Every name of a base image: by tag, and by the digest of its manifest and of each index that lists it.
fn names_of(base: &ProvenBase) -> Vec<BaseImage> {
    let ProvenBase { name, digest, tags, indexes, .. } = base;
    let by_tag = tags.iter().map(|tag| BaseImage { name: format!("{name}:{tag}"), digest: Some(*digest) });
    let digests = std::iter::once(digest).chain(indexes);
    let by_digest = digests.map(|digest| BaseImage { name: format!("{name}@{digest}"), digest: Some(*digest) });
    by_tag.chain(by_digest).collect()
}

/// The base image that the author names: by annotations of the manifest, or else by labels of the configuration.
fn claim(manifest: &Manifest, settings: Option<&ImageConfiguration>) -> Option<BaseImage> {
    #[derive(Deserialize)]
    struct Annotated {
        #[serde(default)]
        annotations: Option<std::collections::HashMap<String, String>>,
    }
    let annotated = serde_json::from_slice::<Annotated>(&manifest.bytes).ok().and_then(|read| read.annotations);
    let labels = settings.and_then(|settings| settings.config().as_ref()?.labels().clone());
    let texts = [annotated, labels].into_iter().flatten().find(|texts| texts.contains_key(BASE_NAME))?;
    let digest = texts.get(BASE_DIGEST).and_then(|digest| digest.parse().ok());
    Some(BaseImage { name: texts.get(BASE_NAME)?.clone(), digest })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An image with too many candidates must not be judged again every few seconds.
    #[test]
    fn only_a_failed_lookup_is_retried_soon() {
        let failed = UnknownOrigin::from(ResolveError::Store("busy".into()));
        assert!(failed.retry() <= SignedDuration::from_secs(10), "{failed}");
        assert!(UnknownOrigin::TooMany.retry() >= SignedDuration::from_mins(10), "{}", UnknownOrigin::TooMany);
    }

    /// Its current names always count, however many names an image has had.
    #[test]
    fn names_that_were_found_now_come_first() {
        let mut known: Vec<usize> = (0..MAX_TAGS).collect();
        put_first(&mut known, vec![MAX_TAGS, 3]);
        assert_eq!((known.len(), &known[..4]), (MAX_TAGS, &[MAX_TAGS, 3, 0, 1][..]));
    }
}
