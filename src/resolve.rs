//! Resolves tags to digests and digests to manifests for judging. The judged bytes are exactly the served bytes.
//!
//! A tag is looked up once per freshness window. While the upstream is down or overloaded, the last known digest is
//! used for a limited time (indefinitely if the upstream is configured as offline). Manifests are tracked per
//! repository: a manifest that only another repository delivered is not available here.

mod error;
mod facts;
mod import;
mod known;
mod memory;
mod offline;
mod platform;
mod recent;
mod refusals;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use jiff::Timestamp;

use crate::cache::Cache;
use crate::oci::{Digest, ImageName, MAX_MANIFEST, Manifest, Platform, Reference, Refused, Tag};
use crate::runtime::{
    ALLOCATION, Bounded, Clock, Epoch, FlightReporter, Flights, Readiness, RequestTrace, Tasks, budget, shown_url,
    signed_duration,
};
use crate::store::FactStore;
use crate::upstream::{self, Upstream};
pub use error::ResolveError;
use facts::Facts;
pub use import::TagImport;
pub(crate) use memory::{manifest_weight, name_weight};
use refusals::Refusals;

/// The time without an answer from the upstream after which a known tag is served stale.
const SILENCE: Duration = Duration::from_secs(3);
/// The maximum number of tags that are tried for a manifest that the upstream does not return by digest.
const MAX_TAGS: usize = 4;

/// Resolves references. Cheap to clone.
#[derive(Clone)]
pub struct Resolver {
    inner: Arc<ResolverInner>,
    flights: Arc<ResolverFlights>,
}

/// Lookups and fetches in progress.
struct ResolverFlights {
    lookups: Flights<(ImageName, Tag), Result<Resolved, ResolveError>>,
    fetches: Flights<(ImageName, Digest), Result<Arc<Manifest>, ResolveError>>,
}

struct ResolverInner {
    cache: Arc<Cache>,
    clock: Clock,
    facts: Arc<Facts>,
    refusals: Refusals,
    manifests: Bounded<(ImageName, Digest), Arc<Manifest>>,
    /// The platforms that configurations state, by the digest of the configuration.
    platforms: Bounded<Digest, Option<Platform>>,
}

/// A manifest, and whether its tag could be checked.
#[derive(Clone, Debug)]
pub struct Resolved {
    /// The manifest.
    pub manifest: Arc<Manifest>,
    /// Why the digest of the tag may be out of date; `None` if it is up to date.
    pub stale: Option<String>,
    /// The time until which the upstream is not asked about the tag again; `None` for a digest.
    pub fresh_until: Option<Timestamp>,
}

impl Resolver {
    /// Creates a resolver. `tag_memory` is the time for which a tag counts as a name of a digest after it was last seen
    /// to refer to it.
    pub fn new(
        cache: Arc<Cache>,
        store: FactStore,
        clock: Clock,
        tasks: &Tasks,
        readiness: Readiness,
        epoch: Epoch,
        tag_memory: Duration,
    ) -> Self {
        let inner = ResolverInner {
            cache,
            facts: Facts::new(store, clock.clone(), tasks.clone(), readiness, epoch, tag_memory),
            refusals: Refusals::new(clock.clone()),
            clock,
            manifests: Bounded::new(budget::MANIFESTS, |_, manifest| manifest_weight(manifest)),
            platforms: Bounded::new(budget::PLATFORMS, |_, platform| {
                platform.as_ref().map_or(0, |platform| platform.to_string().len() + 4 * ALLOCATION)
            }),
        };
        Self {
            inner: Arc::new(inner),
            flights: Arc::new(ResolverFlights {
                lookups: Flights::new(tasks.clone()),
                fetches: Flights::new(tasks.clone()),
            }),
        }
    }

    /// The manifest that a reference refers to now. A tag with a `pin` refers to that digest, regardless of what the
    /// registry reports. The registry is then not asked about the tag.
    ///
    /// # Errors
    /// The manifest does not exist now, or a reference by digest is pinned to another digest.
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
            // The validity of the pin is not known here, so the answer is not reused without asking for the pin again.
            (Reference::Tag(tag), Some(pin)) => {
                let manifest = self.manifest(upstream, name, pin).await?;
                Box::pin(self.inner.facts.learn_signed_tag(name, tag, &manifest)).await;
                Ok(Resolved { manifest, stale: None, fresh_until: Some(self.inner.clock.now()) })
            }
            (Reference::Tag(tag), None) => Box::pin(self.tag(upstream, name, tag)).await,
        }
    }

    /// A manifest by digest: from memory, otherwise from disk if this repository delivered it, otherwise from the
    /// upstream.
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

    /// What a tag's last lookup found, while that is fresh.
    async fn fresh(
        &self,
        upstream: &Arc<Upstream>,
        name: &ImageName,
        known: Option<(Digest, Timestamp)>,
    ) -> Option<Result<Resolved, ResolveError>> {
        let (digest, at) =
            known.filter(|(_, at)| self.inner.clock.is_within(*at, signed_duration(upstream.config().tag_ttl)))?;
        match self.manifest(upstream, name, digest).await {
            // The manifest is no longer available, and the tag may also have moved.
            Err(error) if error.is_of_the_digest() => None,
            found => {
                Some(found.map(|manifest| Resolved { manifest, stale: None, fresh_until: fresh_until(upstream, at) }))
            }
        }
    }

    async fn tag(&self, upstream: &Arc<Upstream>, name: &ImageName, tag: &Tag) -> Result<Resolved, ResolveError> {
        let known = self.inner.facts.tag(name, tag).await?;
        if let Some((digest, _)) = known.filter(|_| upstream.config().offline) {
            return self.offline_tag(upstream, name, tag, digest).await;
        }
        if let Some(found) = self.fresh(upstream, name, known).await {
            return found;
        }
        let (resolver, asked, image, wanted) = (self.clone(), upstream.clone(), name.clone(), tag.clone());
        let work =
            |answer: FlightReporter<_>| async move { resolver.look_up(&asked, &image, &wanted, known, &answer).await };
        let answered = OnceLock::new();
        let looked_up = self.flights.lookups.join_until((name.clone(), tag.clone()), work, |found| {
            answered.get_or_init(|| found.clone());
            false
        });
        if known.is_none() {
            return looked_up.await.unwrap_or(Err(ResolveError::Interrupted));
        }
        // A silent upstream is treated as down. The lookup continues, and the next request can use its result.
        match tokio::time::timeout(SILENCE, looked_up).await {
            Ok(found) => found.unwrap_or(Err(ResolveError::Interrupted)),
            Err(_) => match answered.into_inner() {
                // What the upstream has answered is being written.
                Some(found) => found,
                None => {
                    let silent = ResolveError::Silent { upstream: upstream.config().shown() };
                    self.stale(upstream, (name, tag), known, silent).await
                }
            },
        }
    }

    /// Asks the upstream about a tag: learns the digest, forgets the tag, or falls back to the last known digest.
    /// Reports what the upstream has answered before that is written.
    async fn look_up(
        &self,
        upstream: &Arc<Upstream>,
        name: &ImageName,
        tag: &Tag,
        known: Option<(Digest, Timestamp)>,
        answer: &FlightReporter<Result<Resolved, ResolveError>>,
    ) -> Result<Resolved, ResolveError> {
        // Another lookup may have ended since the tag was read. What it learned is in memory.
        let newer = self.inner.facts.tag_in_memory(name, tag).filter(|newer| known != Some(*newer));
        if let Some(found) = self.fresh(upstream, name, newer).await {
            return found;
        }
        let found = match known {
            // Almost always names a manifest that must be fetched anyway: one request instead of two.
            None => self.inner.fetch(upstream, name, &Reference::Tag(tag.clone())).await,
            Some(_) => self.ask(upstream, name, tag).await,
        };
        match found {
            Ok(manifest) => {
                let fresh_until = fresh_until(upstream, self.inner.clock.now());
                let resolved = Resolved { manifest, stale: None, fresh_until };
                answer.report(Ok(resolved.clone()));
                self.inner.facts.learn_tag(name, tag, &resolved.manifest, known.is_some()).await;
                Ok(resolved)
            }
            Err(error @ ResolveError::NotFound(_)) => {
                answer.report(Err(error.clone()));
                if let Err(failure) = self.inner.facts.forget_tag(name, tag).await {
                    tracing::warn!(image = format!("{name}:{tag}"), error = %failure, "cannot forget a tag that is gone; the registry is asked again");
                }
                Err(error)
            }
            Err(error) => self.stale(upstream, (name, tag), known, error).await,
        }
    }

    /// Asks about a known tag with HEAD first, because HEAD is the cheapest request and never counts as a pull. Only
    /// success is accepted from HEAD. After any other result, GET is tried, and its result is final.
    async fn ask(&self, upstream: &Arc<Upstream>, name: &ImageName, tag: &Tag) -> Result<Arc<Manifest>, ResolveError> {
        let reference = Reference::Tag(tag.clone());
        match upstream.head_manifest(&name.repository, &reference).await {
            // The request has already waited for its turn, so GET is not tried.
            Err(error @ upstream::Error::Busy(_)) => return Err(error.into()),
            Ok(Some(digest)) => match self.manifest(upstream, name, digest).await {
                // Some registries return a manifest only by its tag.
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
        (name, tag): (&ImageName, &Tag),
        known: Option<(Digest, Timestamp)>,
        error: ResolveError,
    ) -> Result<Resolved, ResolveError> {
        let Some((digest, checked_at)) = known.filter(|_| error.is_temporary()) else { return Err(error) };
        if !self.inner.clock.is_within(checked_at, signed_duration(upstream.config().stale_for)) {
            return Err(error);
        }
        let manifest = self.manifest(upstream, name, digest).await.map_err(|_| error.clone())?;
        tracing::warn!(image = format!("{name}:{tag}"), %error, "serving the last known digest of the tag");
        Ok(Resolved { manifest, stale: Some(error.to_string()), fresh_until: None })
    }
}

impl ResolverInner {
    async fn load(&self, upstream: &Upstream, name: &ImageName, digest: Digest) -> Result<Arc<Manifest>, ResolveError> {
        if let Some(manifest) = self.load_known(name, digest).await? {
            return Ok(manifest);
        }
        match self.fetch(upstream, name, &Reference::Digest(digest)).await {
            Err(error) if error.is_of_the_digest() => self.fetch_by_tags(upstream, name, digest).await.ok_or(error),
            fetched => fetched,
        }
    }

    /// Fetches a manifest that the upstream does not return by digest, by a tag that last referred to it. The hash is
    /// verified.
    async fn fetch_by_tags(&self, upstream: &Upstream, name: &ImageName, digest: Digest) -> Option<Arc<Manifest>> {
        let mut tries = 0;
        for tag in self.facts.known_tags(name, digest).await.ok()?.iter() {
            // The tag may be known only as a tag of an index that lists the manifest. Fetching it would return the
            // index.
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

    /// Reads a cached manifest and parses it as when it was received. Bytes that were changed on disk count as absent.
    async fn load_known(&self, name: &ImageName, digest: Digest) -> Result<Option<Arc<Manifest>>, ResolveError> {
        // The file is looked for first: that takes less than a question to the database.
        let Some(bytes) = self.cache.peek(digest, MAX_MANIFEST).await else { return Ok(None) };
        let Some(known) = self.facts.manifest(name, digest).await? else { return Ok(None) };
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
        let expected = if let Reference::Digest(digest) = reference { Some(*digest) } else { None };
        self.fetch_expecting(upstream, name, reference, expected).await
    }

    /// Fetches a manifest, checks it against the expected digest, and learns it.
    async fn fetch_expecting(
        &self,
        upstream: &Upstream,
        name: &ImageName,
        reference: &Reference,
        expected: Option<Digest>,
    ) -> Result<Arc<Manifest>, ResolveError> {
        self.refusals.check(name, reference)?;
        RequestTrace::note(|learned| learned.has_fetched = true);
        let fetched = upstream.manifest(&name.repository, reference).await;
        let fetched = fetched.map_err(|error| not_fetched(error, upstream, name, reference))?;
        let parsed = Manifest::parse(fetched.bytes, fetched.content_type.as_deref());
        let manifest = match (parsed, reference) {
            // Nothing shows that these bytes are the requested manifest. They may be a maintenance page or a login
            // page.
            (Err(Refused::NoManifest(why)), Reference::Tag(_)) => return Err(no_manifest(upstream, why)),
            (parsed, _) => parsed.inspect_err(|refused| self.refusals.keep(upstream, name, reference, refused))?,
        };
        let manifest = Arc::new(match expected {
            Some(digest) => manifest.named(digest)?,
            None => manifest,
        });
        // The content is stored before the row that references it.
        self.cache.keep(&manifest).await;
        self.facts.learn_manifest(name, &manifest);
        self.manifests.insert((name.clone(), manifest.digest), manifest.clone());
        Ok(manifest)
    }
}

/// The time when a tag must be looked up again, from the time of the last lookup.
fn fresh_until(upstream: &Upstream, checked_at: Timestamp) -> Option<Timestamp> {
    Some(checked_at.saturating_add(signed_duration(upstream.config().tag_ttl)).unwrap_or(Timestamp::MAX))
}

/// A wrong `url` of the upstream also gives 404, so the message names it.
fn not_fetched(error: upstream::Error, upstream: &Upstream, name: &ImageName, reference: &Reference) -> ResolveError {
    let upstream::Error::NotFound { is_page } = error else { return error.into() };
    let (image, page) = (name.with_reference(reference), if is_page { upstream::WEB_PAGE } else { "" });
    ResolveError::NotFound(format!("{image} at {}{page}", shown_url(&upstream.config().url)))
}

fn no_manifest(upstream: &Upstream, why: &str) -> ResolveError {
    let upstream = upstream.config().shown();
    upstream::Error::Unavailable(format!("{upstream} answered with something that is not a manifest: {why}")).into()
}

#[cfg(test)]
mod tests;
