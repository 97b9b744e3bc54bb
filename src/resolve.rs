//! Tag to digest to manifest, for judging: what was judged is what is served, byte for byte.
//!
//! A tag is looked up once per freshness window. While the upstream is down or overloaded, what it meant last is used
//! for a bounded time. Manifests are known per repository: one that another repository delivered opens nothing here.

mod error;
mod facts;
mod known;
mod memory;
mod recent;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::cache::Cache;
use crate::oci::{Content, Digest, ImageName, MAX_MANIFEST, Manifest, Platform, Reference, Refused, Tag};
use crate::runtime::{ALLOCATION, Bounded, Clock, Epoch, Flights, Readiness, Tasks, budget};
use crate::store::FactStore;
use crate::upstream::{self, Upstream};
pub use error::ResolveError;
use facts::Facts;

/// How long an upstream may be silent before a tag that is known is served stale.
const SILENCE: Duration = Duration::from_secs(3);
/// The most tags that are tried for a manifest which the upstream does not give by its digest.
const MAX_TAGS: usize = 4;
/// The largest configuration that is read for its platform, in bytes.
const MAX_CONFIG: usize = 1024 * 1024;
/// What one parsed descriptor takes in memory, in bytes, with its strings; measured on indexes of ten platforms.
const DESCRIPTOR_WEIGHT: usize = 400;

/// Resolves references. Cheap to clone.
#[derive(Clone)]
pub struct Resolver {
    inner: Arc<ResolverInner>,
    flights: Arc<ResolverFlights>,
    tasks: Tasks,
}

/// Look-ups and fetches under way.
struct ResolverFlights {
    lookups: Flights<(ImageName, Tag), Result<Resolved, ResolveError>>,
    fetches: Flights<(ImageName, Digest), Result<Arc<Manifest>, ResolveError>>,
}

struct ResolverInner {
    cache: Arc<Cache>,
    clock: Clock,
    facts: Arc<Facts>,
    manifests: Bounded<(ImageName, Digest), Arc<Manifest>>,
    /// The platforms that configurations say, by the configuration's digest.
    platforms: Bounded<Digest, Option<Platform>>,
}

/// A manifest, and whether its tag could be checked.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The manifest.
    pub manifest: Arc<Manifest>,
    /// Why the tag's meaning may be out of date, where it may be.
    pub stale: Option<String>,
    /// Until when the upstream is not asked again what the tag means; `None` for a digest.
    pub fresh_until: Option<Timestamp>,
}

impl Resolver {
    /// A resolver. `tag_memory` is how long a tag counts as a name of a digest after it was last seen to mean it.
    pub fn new(
        cache: Arc<Cache>,
        store: FactStore,
        clock: Clock,
        tasks: &Tasks,
        readiness: Readiness,
        epoch: Epoch,
        tag_memory: SignedDuration,
    ) -> Self {
        let inner = ResolverInner {
            cache,
            facts: Facts::new(store, clock.clone(), tasks.clone(), readiness, epoch, tag_memory),
            clock,
            manifests: Bounded::new(budget::MANIFESTS, |_, manifest| weight(manifest)),
            platforms: Bounded::new(budget::PLATFORMS, |_, platform| {
                platform.as_ref().map_or(0, |platform| platform.to_string().len() + 4 * ALLOCATION)
            }),
        };
        Self {
            inner: Arc::new(inner),
            tasks: tasks.clone(),
            flights: Arc::new(ResolverFlights {
                lookups: Flights::new(tasks.clone()),
                fetches: Flights::new(tasks.clone()),
            }),
        }
    }

    /// The manifest that a reference means now. A tag with a `pin` means that digest, whatever the registry says about
    /// the tag; the registry is not asked what the tag means, and nothing is learnt about it.
    ///
    /// # Errors
    /// There is no such manifest now, or a reference by digest is pinned to another one.
    pub async fn resolve(
        &self,
        upstream: &Arc<Upstream>,
        name: &ImageName,
        reference: &Reference,
        pin: Option<Digest>,
    ) -> Result<Resolved, ResolveError> {
        match (reference, pin) {
            (Reference::Digest(digest), Some(pin)) if *digest != pin => {
                let why = format!("{pin} is signed, and {digest} was asked for");
                Err(ResolveError::Pin { why, temporary: false })
            }
            (Reference::Digest(digest), _) => {
                let manifest = self.manifest(upstream, name, *digest).await?;
                Ok(Resolved { manifest, stale: None, fresh_until: None })
            }
            // For how long the pin holds is not known here, so the answer is not repeated without asking for it again.
            (Reference::Tag(_), Some(pin)) => {
                let manifest = self.manifest(upstream, name, pin).await?;
                Ok(Resolved { manifest, stale: None, fresh_until: Some(self.inner.clock.now()) })
            }
            (Reference::Tag(tag), None) => Box::pin(self.tag(upstream, name, tag)).await,
        }
    }

    /// A manifest by digest: from memory, from disk where this repository delivered it, else from the upstream.
    pub async fn manifest(
        &self,
        upstream: &Arc<Upstream>,
        name: &ImageName,
        digest: Digest,
    ) -> Result<Arc<Manifest>, ResolveError> {
        if let Some(manifest) = self.inner.manifests.get(&(name.clone(), digest)) {
            return Ok(manifest);
        }
        Box::pin(self.load(upstream, name, digest)).await
    }

    async fn load(
        &self,
        upstream: &Arc<Upstream>,
        name: &ImageName,
        digest: Digest,
    ) -> Result<Arc<Manifest>, ResolveError> {
        let (inner, upstream, image) = (self.inner.clone(), upstream.clone(), name.clone());
        let work = || async move { inner.load(&upstream, &image, digest).await };
        self.flights.fetches.join((name.clone(), digest), work).await.unwrap_or(Err(ResolveError::Interrupted))
    }

    /// A manifest that this repository delivered earlier; asks no upstream.
    pub async fn known_manifest(&self, name: &ImageName, digest: Digest) -> Option<Arc<Manifest>> {
        match self.inner.manifests.get(&(name.clone(), digest)) {
            Some(manifest) => Some(manifest),
            None => self.inner.load_known(name, digest).await.ok().flatten(),
        }
    }

    /// The platform that an image's own configuration says; `None` for what says none, such as an artifact or an index.
    ///
    /// # Errors
    /// When the configuration cannot be read now. One that the upstream does not have says nothing.
    pub async fn platform(
        &self,
        upstream: &Upstream,
        name: &ImageName,
        manifest: &Manifest,
    ) -> Result<Option<Platform>, ResolveError> {
        let Content::Image { config, .. } = &manifest.content else { return Ok(None) };
        if config.size > MAX_CONFIG as u64 {
            return Ok(None);
        }
        if let Some(known) = self.inner.platforms.get(&config.digest) {
            return Ok(known);
        }
        let bytes = match self.inner.cache.peek(config.digest, MAX_CONFIG).await {
            Some(bytes) => bytes,
            None => match upstream.blob_bytes(&name.repository, &config.digest, MAX_CONFIG).await {
                Ok(bytes) => bytes,
                Err(upstream::Error::NotFound | upstream::Error::TooLarge(_)) => return Ok(None),
                Err(error) => return Err(error.into()),
            },
        };
        let platform = Platform::of_configuration(&bytes);
        self.inner.platforms.insert(config.digest, platform.clone());
        Ok(platform)
    }

    async fn tag(&self, upstream: &Arc<Upstream>, name: &ImageName, tag: &Tag) -> Result<Resolved, ResolveError> {
        let known = self.inner.facts.tag(name, tag).await?;
        if let Some((digest, checked_at)) = known
            && self.inner.is_within(checked_at, upstream.config().tag_ttl)
        {
            match self.manifest(upstream, name, digest).await {
                // It is here no more, and the tag may have moved on with it.
                Err(error) if error.is_of_the_digest() => {}
                found => {
                    let fresh_until = fresh_until(upstream, checked_at);
                    return found.map(|manifest| Resolved { manifest, stale: None, fresh_until });
                }
            }
        }
        let (resolver, asked, image, wanted) = (self.clone(), upstream.clone(), name.clone(), tag.clone());
        let work = || async move { resolver.look_up(&asked, &image, &wanted, known).await };
        let looked_up = self.flights.lookups.join((name.clone(), tag.clone()), work);
        if known.is_none() {
            return looked_up.await.unwrap_or(Err(ResolveError::Interrupted));
        }
        // An upstream that is silent is as good as down; the look-up goes on, and the next request profits.
        match tokio::time::timeout(SILENCE, looked_up).await {
            Ok(found) => found.unwrap_or(Err(ResolveError::Interrupted)),
            Err(_) => self.stale(upstream, name, known, ResolveError::Silent).await,
        }
    }

    /// Asks the upstream what a tag means, and settles what that is worth: learns it, forgets the tag, or lets what it
    /// meant last stand in.
    async fn look_up(
        &self,
        upstream: &Arc<Upstream>,
        name: &ImageName,
        tag: &Tag,
        known: Option<(Digest, Timestamp)>,
    ) -> Result<Resolved, ResolveError> {
        match self.ask(upstream, name, tag).await {
            Ok(manifest) => {
                self.inner.facts.learn_tag(name, tag, &manifest, known.is_some()).await;
                let fresh_until = fresh_until(upstream, self.inner.clock.now());
                Ok(Resolved { manifest, stale: None, fresh_until })
            }
            Err(ResolveError::NotFound) => {
                self.inner.facts.forget_tag(name, tag).await?;
                Err(ResolveError::NotFound)
            }
            Err(error) => self.stale(upstream, name, known, error).await,
        }
    }

    /// By HEAD first, which costs the least and never counts as a pull. HEAD may only say yes: whatever else it says is
    /// asked again by GET, which has the last word.
    async fn ask(&self, upstream: &Arc<Upstream>, name: &ImageName, tag: &Tag) -> Result<Arc<Manifest>, ResolveError> {
        let reference = Reference::Tag(tag.clone());
        match upstream.head_manifest(&name.repository, &reference).await {
            // It has waited for a turn already.
            Err(error @ upstream::Error::Busy(_)) => return Err(error.into()),
            Ok(Some(digest)) => match self.manifest(upstream, name, digest).await {
                // Some registries give a manifest by its tag alone.
                Err(error) if error.is_of_the_digest() => {}
                found => return found,
            },
            Ok(None) | Err(_) => {}
        }
        self.inner.fetch(upstream, name, &reference).await
    }

    async fn stale(
        &self,
        upstream: &Arc<Upstream>,
        name: &ImageName,
        known: Option<(Digest, Timestamp)>,
        error: ResolveError,
    ) -> Result<Resolved, ResolveError> {
        let Some((digest, checked_at)) = known.filter(|_| error.is_temporary()) else { return Err(error) };
        if !self.inner.is_within(checked_at, upstream.config().stale_for) {
            return Err(error);
        }
        let manifest = self.manifest(upstream, name, digest).await.map_err(|_| error.clone())?;
        tracing::warn!(image.name = %name, %error, "serving what the tag meant last");
        Ok(Resolved { manifest, stale: Some(error.to_string()), fresh_until: None })
    }
}

impl ResolverInner {
    /// Whether something was less than so long ago. What lies in the future was seen before a clock was set back.
    fn is_within(&self, at: Timestamp, duration: Duration) -> bool {
        let age = self.clock.now().duration_since(at);
        !age.is_negative() && age < to_signed(duration)
    }

    async fn load(&self, upstream: &Upstream, name: &ImageName, digest: Digest) -> Result<Arc<Manifest>, ResolveError> {
        if let Some(manifest) = self.load_known(name, digest).await? {
            return Ok(manifest);
        }
        match self.fetch(upstream, name, &Reference::Digest(digest)).await {
            Err(error) if error.is_of_the_digest() => self.fetch_by_tags(upstream, name, digest).await.ok_or(error),
            fetched => fetched,
        }
    }

    /// A manifest that the upstream does not give by its digest, by a tag that meant it last. The hash decides.
    async fn fetch_by_tags(&self, upstream: &Upstream, name: &ImageName, digest: Digest) -> Option<Arc<Manifest>> {
        let mut tries = 0;
        for tag in self.facts.known_tags(name, digest).await.ok()?.iter() {
            // It may be known as the tag of an index that lists it, which gives the index.
            let means_it = self.facts.tag(name, tag).await.ok()?.is_some_and(|(meant, _)| meant == digest);
            if !means_it {
                continue;
            }
            if let Ok(found) = self.fetch_expecting(upstream, name, &Reference::Tag(tag.clone()), Some(digest)).await {
                return Some(found);
            }
            tries += 1;
            if tries == MAX_TAGS {
                break;
            }
        }
        None
    }

    /// Reads a manifest again as it was read when it came; bytes that the disk changed count as absent.
    async fn load_known(&self, name: &ImageName, digest: Digest) -> Result<Option<Arc<Manifest>>, ResolveError> {
        let Some(known) = self.facts.manifest(name, digest).await? else { return Ok(None) };
        let Some(bytes) = self.cache.peek(digest, MAX_MANIFEST).await else { return Ok(None) };
        match Manifest::parse(bytes, Some(&known.media_type)).and_then(|manifest| manifest.named(digest)) {
            Ok(manifest) => {
                let manifest = Arc::new(manifest);
                self.manifests.insert((name.clone(), digest), manifest.clone());
                Ok(Some(manifest))
            }
            Err(error) => {
                tracing::error!(manifest.digest = %digest, %error, "the cached manifest is damaged; it is fetched again");
                Ok(None)
            }
        }
    }

    async fn fetch(
        &self,
        upstream: &Upstream,
        name: &ImageName,
        reference: &Reference,
    ) -> Result<Arc<Manifest>, ResolveError> {
        let expected = match reference {
            Reference::Digest(digest) => Some(*digest),
            Reference::Tag(_) => None,
        };
        self.fetch_expecting(upstream, name, reference, expected).await
    }

    /// Fetches a manifest, which must have the digest that is expected, and learns it.
    async fn fetch_expecting(
        &self,
        upstream: &Upstream,
        name: &ImageName,
        reference: &Reference,
        expected: Option<Digest>,
    ) -> Result<Arc<Manifest>, ResolveError> {
        let fetched = upstream.manifest(&name.repository, reference).await?;
        let parsed = Manifest::parse(fetched.bytes, fetched.content_type.as_deref());
        let manifest = match (parsed, reference) {
            // Nothing says that these bytes are what was asked for: a front that is under maintenance, a login page.
            (Err(Refused::NoManifest(why)), Reference::Tag(_)) => return Err(no_manifest(upstream, why)),
            (parsed, _) => parsed?,
        };
        let manifest = Arc::new(match expected {
            Some(digest) => manifest.named(digest)?,
            None => manifest,
        });
        // Content first, then the row that names it.
        self.cache.keep(&manifest).await;
        self.facts.learn_manifest(name, &manifest).await;
        self.manifests.insert((name.clone(), manifest.digest), manifest.clone());
        Ok(manifest)
    }
}

/// When a tag that was looked up at a time must be looked up again.
fn fresh_until(upstream: &Upstream, checked_at: Timestamp) -> Option<Timestamp> {
    Some(checked_at.saturating_add(to_signed(upstream.config().tag_ttl)).unwrap_or(Timestamp::MAX))
}

fn no_manifest(upstream: &Upstream, why: &str) -> ResolveError {
    let host = upstream.host();
    upstream::Error::Unavailable(format!("{host} answered with something that is no manifest: {why}")).into()
}

/// About what a manifest takes in memory: its bytes, and what was read of them.
fn weight(manifest: &Manifest) -> usize {
    size_of::<Manifest>() + manifest.bytes.len() + manifest.descriptors().count() * DESCRIPTOR_WEIGHT
}

fn to_signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

#[cfg(test)]
mod tests;
