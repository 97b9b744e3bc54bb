//! Tag to digest to manifest, for judging: what was judged is what is served, byte for byte.
//!
//! A tag is looked up once per freshness window. While the upstream is down or overloaded, what it meant last is used
//! for a bounded time. Manifests are known per repository: one that another repository delivered opens nothing here.

mod facts;
mod memory;
mod recent;

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use crate::cache::Cache;
use crate::oci::{Digest, ImageName, MAX_MANIFEST, Manifest, Reference, Refused, Tag};
use crate::runtime::{Clock, Flights, Readiness, Tasks};
use crate::store::{KnownImage, Store, StoreError};
use crate::upstream::{self, Upstream};
use facts::Facts;

/// How long an upstream may be silent before a tag that is known is served stale.
const SILENCE: Duration = Duration::from_secs(3);
/// How much memory manifests may take, in bytes.
const MANIFEST_MEMORY: u64 = 64 * 1024 * 1024;
/// What one parsed descriptor takes in memory, in bytes, with its strings; measured on indexes of ten platforms.
const DESCRIPTOR_WEIGHT: usize = 400;

/// Resolves references. Cheap to clone.
#[derive(Clone)]
pub struct Resolver {
    inner: Arc<Inner>,
    flights: Arc<ResolverFlights>,
    tasks: Tasks,
}

/// Look-ups and fetches under way.
struct ResolverFlights {
    lookups: Flights<(ImageName, Tag), Result<Resolved, ResolveError>>,
    fetches: Flights<(ImageName, Digest), Result<Arc<Manifest>, ResolveError>>,
}

struct Inner {
    cache: Arc<Cache>,
    clock: Clock,
    facts: Arc<Facts>,
    manifests: moka::sync::Cache<(ImageName, Digest), Arc<Manifest>>,
}

/// A manifest, and whether its tag could be checked.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The manifest.
    pub manifest: Arc<Manifest>,
    /// Why the tag's meaning may be out of date, where it may be.
    pub stale: Option<String>,
}

impl Resolver {
    /// A resolver. `tag_memory` is how long a tag counts as a name of a digest after it was last seen to mean it.
    pub fn new(
        cache: Arc<Cache>,
        store: Store,
        clock: Clock,
        tasks: &Tasks,
        readiness: Readiness,
        tag_memory: SignedDuration,
    ) -> Self {
        let inner = Inner {
            cache,
            facts: Facts::new(store, clock.clone(), tasks.clone(), readiness, tag_memory),
            clock,
            manifests: moka::sync::Cache::builder()
                .weigher(|_, manifest: &Arc<Manifest>| weight(manifest))
                .max_capacity(MANIFEST_MEMORY)
                .build(),
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

    /// The manifest that a reference means now.
    pub async fn resolve(
        &self,
        upstream: &Arc<Upstream>,
        name: &ImageName,
        reference: &Reference,
    ) -> Result<Resolved, ResolveError> {
        match reference {
            Reference::Digest(digest) => {
                let manifest = self.manifest(upstream, name, *digest).await?;
                Ok(Resolved { manifest, stale: None })
            }
            Reference::Tag(tag) => Box::pin(self.tag(upstream, name, tag)).await,
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

    /// Moves on with everything that is learnt of tags and manifests.
    pub fn generation(&self) -> u64 {
        self.inner.facts.generation()
    }

    /// Whether this repository delivered a manifest of this digest.
    pub async fn is_known(&self, name: &ImageName, digest: Digest) -> Result<bool, ResolveError> {
        Ok(self.inner.facts.manifest(name, digest).await?.is_some())
    }

    /// The tags through which a digest is known, its own and those of indexes that list it.
    pub async fn known_tags(&self, name: &ImageName, digest: Digest) -> Result<Arc<[Tag]>, ResolveError> {
        Ok(self.inner.facts.known_tags(name, digest).await?)
    }

    /// The manifests of the repository that name a digest: indexes for a manifest, images for a blob.
    pub async fn naming(&self, name: &ImageName, member: Digest) -> Result<Arc<[Digest]>, ResolveError> {
        Ok(self.inner.facts.naming(name, member).await?)
    }

    /// Children that indexes of the repository list and that were never fetched, each after its index, newest index first,
    /// at most `limit`.
    pub async fn unseen_children(&self, name: &ImageName, limit: u32) -> Result<Arc<[(Digest, Digest)]>, ResolveError> {
        Ok(self.inner.facts.unseen_children(name, limit).await?)
    }

    /// Those children of an index that were served here.
    pub async fn pulled_children(&self, name: &ImageName, index: &Manifest) -> Result<Vec<Digest>, ResolveError> {
        Ok(self.inner.facts.pulled_children(name, index).await?)
    }

    /// Every tag that is known, with what it means, in the order of their names.
    pub async fn images(&self) -> Result<Vec<KnownImage>, ResolveError> {
        Ok(self.inner.facts.images().await?)
    }

    /// To be called when a request is admitted to a manifest, before what it names is served: what it names is written
    /// down then, and until then kept in bounded memory. Costs a look-up in memory where that was done before.
    pub async fn admitted(&self, name: &ImageName, manifest: &Arc<Manifest>) {
        self.inner.facts.admitted(name, manifest).await;
    }

    /// Remembers that somebody pulled a manifest, off the request's path.
    pub fn note_pull(&self, name: &ImageName, manifest: &Arc<Manifest>) {
        let facts = &self.inner.facts;
        if facts.is_first_pull(name, manifest.digest) {
            let (facts, name, manifest) = (facts.clone(), name.clone(), manifest.clone());
            self.tasks.spawn(async move { facts.note_pull(&name, &manifest).await });
        }
    }

    async fn tag(&self, upstream: &Arc<Upstream>, name: &ImageName, tag: &Tag) -> Result<Resolved, ResolveError> {
        let known = self.inner.facts.tag(name, tag).await?;
        if let Some((digest, checked_at)) = known
            && self.inner.is_within(checked_at, upstream.config().tag_ttl)
        {
            let manifest = self.manifest(upstream, name, digest).await?;
            return Ok(Resolved { manifest, stale: None });
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

    /// Asks the upstream what a tag means, by HEAD, which costs the least and never counts as a pull.
    async fn look_up(
        &self,
        upstream: &Arc<Upstream>,
        name: &ImageName,
        tag: &Tag,
        known: Option<(Digest, Timestamp)>,
    ) -> Result<Resolved, ResolveError> {
        let reference = Reference::Tag(tag.clone());
        let found = match upstream.head_manifest(&name.repository, &reference).await {
            Ok(head) => match head.digest {
                Some(digest) => self.manifest(upstream, name, digest).await,
                None => self.inner.fetch(upstream, name, &reference).await,
            },
            // Some registries answer HEAD with an error and GET with the manifest.
            Err(upstream::Error::Protocol(_)) => self.inner.fetch(upstream, name, &reference).await,
            Err(error) => Err(error.into()),
        };
        match found {
            Ok(manifest) => {
                self.inner.facts.learn_tag(name, tag, &manifest).await;
                Ok(Resolved { manifest, stale: None })
            }
            Err(ResolveError::NotFound) => {
                self.inner.facts.forget_tag(name, tag).await?;
                Err(ResolveError::NotFound)
            }
            Err(error) => self.stale(upstream, name, known, error).await,
        }
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
        Ok(Resolved { manifest, stale: Some(error.to_string()) })
    }
}

impl Inner {
    /// Whether something was less than so long ago. What lies in the future was seen before a clock was set back.
    fn is_within(&self, at: Timestamp, duration: Duration) -> bool {
        let age = self.clock.now().duration_since(at);
        !age.is_negative() && age < to_signed(duration)
    }

    async fn load(&self, upstream: &Upstream, name: &ImageName, digest: Digest) -> Result<Arc<Manifest>, ResolveError> {
        match self.load_known(name, digest).await? {
            Some(manifest) => Ok(manifest),
            None => self.fetch(upstream, name, &Reference::Digest(digest)).await,
        }
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
        let fetched = upstream.manifest(&name.repository, reference).await?;
        let mut manifest = Manifest::parse(fetched.bytes, fetched.content_type.as_deref())?;
        if let Reference::Digest(digest) = reference {
            manifest = manifest.named(*digest)?;
        }
        let manifest = Arc::new(manifest);
        // Content first, then the row that names it.
        self.cache.keep(manifest.digest, manifest.bytes.clone()).await;
        self.facts.learn_manifest(name, &manifest).await;
        self.manifests.insert((name.clone(), manifest.digest), manifest.clone());
        Ok(manifest)
    }
}

/// About what a manifest takes in memory: its bytes, and what was read of them.
fn weight(manifest: &Manifest) -> u32 {
    let parsed = manifest.descriptors().count() * DESCRIPTOR_WEIGHT;
    u32::try_from(manifest.bytes.len() + parsed).unwrap_or(u32::MAX)
}

fn to_signed(duration: Duration) -> SignedDuration {
    SignedDuration::try_from(duration).unwrap_or(SignedDuration::MAX)
}

/// Why a reference does not resolve.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ResolveError {
    /// The process is ending, or the work broke down.
    #[error("the request was interrupted; come again")]
    Interrupted,
    /// The upstream does not have it.
    #[error("the upstream does not have this manifest")]
    NotFound,
    /// The manifest is refused whatever the policy says.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The upstream did not answer for so long that what is known stands in.
    #[error("the upstream has not answered within 3 s")]
    Silent,
    /// The database failed.
    #[error("{0}")]
    Store(String),
    /// The upstream did not deliver.
    #[error(transparent)]
    Upstream(upstream::Error),
}

impl ResolveError {
    /// Whether asking again may help, so that an older answer may stand in.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Upstream(error) => error.is_temporary(),
            Self::Interrupted | Self::Silent | Self::Store(_) => true,
            Self::NotFound | Self::Refused(_) => false,
        }
    }
}

impl From<upstream::Error> for ResolveError {
    fn from(error: upstream::Error) -> Self {
        match error {
            upstream::Error::NotFound => Self::NotFound,
            other => Self::Upstream(other),
        }
    }
}

impl From<StoreError> for ResolveError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.to_string())
    }
}
