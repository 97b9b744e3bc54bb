//! Content: verified, named by digest, on disk, with small objects in memory.
//!
//! Content reaches clients only by [`Cache::open`], which takes a [`Permit`]. A blob that is not here is filled once and
//! followed by everyone who asks: see [`Fill`]. Bytes become visible under their digest only when they have it.

mod body;
mod disk;
mod fill;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::Semaphore;

pub use body::ContentBody;
use disk::Disk;
pub use fill::Fill;
use fill::FillError;

use crate::oci::{Digest, ImageName};
use crate::policy::Permit;
use crate::runtime::{Clock, Flights, Metrics, Readiness, Tasks};
use crate::store::Store;
use crate::upstream::{self, Upstream};

/// How the cache behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// Content up to this size, in bytes, is served from memory.
    pub small_object: usize,
    /// How much memory small objects may take, in bytes.
    pub memory: u64,
    /// How many blobs are filled at the same time.
    pub max_fills: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self { small_object: 256 * 1024, memory: 64 * 1024 * 1024, max_fills: 64 }
    }
}

/// The name under which `/readyz` speaks of the disk.
const TOPIC: &str = "cache";
/// How long a request waits for its turn when all fills are taken.
const FILL_WAIT: Duration = Duration::from_secs(10);

/// The cache. Shared by all requests.
pub struct Cache {
    inner: Arc<Inner>,
    starts: Flights<(ImageName, Digest), Result<Arc<Fill>, CacheError>>,
    /// Links that were looked up: which repository delivered which blob.
    links: moka::sync::Cache<(ImageName, Digest), ()>,
}

struct Inner {
    config: Config,
    disk: Disk,
    memory: moka::sync::Cache<Digest, Bytes>,
    running: Mutex<HashMap<Digest, Arc<Fill>>>,
    turns: Arc<Semaphore>,
    store: Store,
    tasks: Tasks,
    clock: Clock,
    readiness: Readiness,
    metrics: CacheMetrics,
}

impl Cache {
    /// Opens the cache in the state directory, and sweeps what an earlier process left half-written.
    ///
    /// # Errors
    /// When the directory cannot be read or written.
    pub fn new(
        config: Config,
        state: &Path,
        store: Store,
        tasks: Tasks,
        clock: Clock,
        readiness: Readiness,
        metrics: &Metrics,
    ) -> Result<Self, CacheError> {
        let disk = Disk::open(&state.join("blobs")).map_err(|error| CacheError::Disk(error.to_string()))?;
        let weigher = |_: &Digest, bytes: &Bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let inner = Inner {
            memory: moka::sync::Cache::builder().weigher(weigher).max_capacity(config.memory).build(),
            turns: Arc::new(Semaphore::new(config.max_fills)),
            running: Mutex::default(),
            metrics: CacheMetrics::new(metrics),
            config,
            disk,
            store,
            tasks: tasks.clone(),
            clock,
            readiness,
        };
        Ok(Self {
            inner: Arc::new(inner),
            starts: Flights::new(tasks),
            links: moka::sync::Cache::builder().max_capacity(100_000).build(),
        })
    }

    /// Opens the content that a permit is for: from memory, from disk, or from a fill that is under way or begun here.
    ///
    /// A blob is opened for a repository only if that repository itself delivered it or confirms it now; that another
    /// repository brought it, or is bringing it, opens nothing.
    ///
    /// # Errors
    /// [`CacheError::NotFound`] when the repository does not have it; the others are temporary.
    pub async fn open(&self, permit: &Permit, upstream: &Arc<Upstream>) -> Result<Opened, CacheError> {
        let (name, digest) = (permit.name(), permit.digest());
        if self.is_linked(name, digest).await? {
            if let Some(opened) = self.inner.opened(digest).await? {
                self.inner.metrics.hits.inc();
                return Ok(opened);
            }
        } else if let Some(fill) = self.inner.running(digest).filter(|fill| fill.name() == name) {
            self.inner.metrics.hits.inc();
            return Ok(Opened::Filling(fill));
        } else if self.inner.is_here(digest)
            // A registry's HEAD speaks for its own repositories: what another registry delivered, it opens nothing of.
            && self.inner.store.has_link_at(&name.host, digest).await.map_err(CacheError::store)?
        {
            let size = upstream.head_blob(&name.repository, &digest).await?;
            self.link(name, digest, size).await?;
            if let Some(opened) = self.inner.opened(digest).await? {
                self.inner.metrics.hits.inc();
                return Ok(opened);
            }
        }
        self.inner.metrics.misses.inc();
        Ok(Opened::Filling(self.start(permit, upstream).await?))
    }

    /// Content for judging, at most `limit` bytes: manifests. Never for clients.
    pub async fn peek(&self, digest: Digest, limit: usize) -> Result<Option<Bytes>, CacheError> {
        if let Some(bytes) = self.inner.memory.get(&digest) {
            return Ok(Some(bytes));
        }
        self.inner.disk.read(digest, limit).await.map_err(|error| self.inner.disk_failed(&error))
    }

    /// Keeps content that was read and verified whole: manifests.
    pub async fn keep(&self, digest: Digest, bytes: Bytes) -> Result<(), CacheError> {
        self.inner.disk.write(digest, bytes.clone()).await.map_err(|error| self.inner.disk_failed(&error))?;
        self.inner.readiness.degraded(TOPIC, None);
        self.inner.remember(digest, &bytes);
        Ok(())
    }

    async fn is_linked(&self, name: &ImageName, digest: Digest) -> Result<bool, CacheError> {
        let key = (name.clone(), digest);
        if self.links.contains_key(&key) {
            return Ok(true);
        }
        let linked = self.inner.store.has_link(name, digest).await.map_err(CacheError::store)?;
        if linked {
            self.links.insert(key, ());
        }
        Ok(linked)
    }

    async fn link(&self, name: &ImageName, digest: Digest, size: u64) -> Result<(), CacheError> {
        let key = (name.clone(), digest);
        if !self.links.contains_key(&key) {
            let now = self.inner.clock.now();
            self.inner.store.record_link(name, digest, size, now).await.map_err(CacheError::store)?;
            self.links.insert(key, ());
        }
        Ok(())
    }

    async fn start(&self, permit: &Permit, upstream: &Arc<Upstream>) -> Result<Arc<Fill>, CacheError> {
        let (name, digest) = (permit.name().clone(), permit.digest());
        let (inner, upstream, size) = (self.inner.clone(), upstream.clone(), permit.size());
        let work = || async move { Inner::start(inner, upstream, name, digest, size).await };
        self.starts.join((permit.name().clone(), digest), work).await.unwrap_or(Err(CacheError::Busy))
    }
}

impl Inner {
    /// Says so where operators look, until something can be written again.
    fn disk_failed(&self, error: &std::io::Error) -> CacheError {
        self.readiness.degraded(TOPIC, Some(error.to_string()));
        CacheError::Disk(error.to_string())
    }

    fn is_here(&self, digest: Digest) -> bool {
        self.memory.contains_key(&digest) || self.disk.has(digest)
    }

    fn running(&self, digest: Digest) -> Option<Arc<Fill>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).get(&digest).cloned()
    }

    async fn opened(&self, digest: Digest) -> Result<Option<Opened>, CacheError> {
        if let Some(bytes) = self.memory.get(&digest) {
            return Ok(Some(Opened::Memory(bytes)));
        }
        if let Some(fill) = self.running(digest) {
            return Ok(Some(Opened::Filling(fill)));
        }
        let disk = |error: std::io::Error| self.disk_failed(&error);
        let Some((file, size)) = self.disk.file(digest).map_err(disk)? else { return Ok(None) };
        if size > self.config.small_object as u64 {
            return Ok(Some(Opened::File { file: Arc::new(file), size }));
        }
        let bytes = self.disk.read(digest, self.config.small_object).await.map_err(disk)?;
        Ok(bytes.map(|bytes| {
            self.remember(digest, &bytes);
            Opened::Memory(bytes)
        }))
    }

    fn remember(&self, digest: Digest, bytes: &Bytes) {
        if bytes.len() <= self.config.small_object {
            self.memory.insert(digest, bytes.clone());
        }
    }

    /// Asks the repository for the blob and begins to fill. When another repository's fill of the same blob is under
    /// way by then, this repository has just shown that it has the blob, so its readers follow that fill.
    async fn start(
        inner: Arc<Self>,
        upstream: Arc<Upstream>,
        name: ImageName,
        digest: Digest,
        expected: Option<u64>,
    ) -> Result<Arc<Fill>, CacheError> {
        let turn = tokio::time::timeout(FILL_WAIT, inner.turns.clone().acquire_owned()).await;
        let turn = turn.ok().and_then(Result::ok).ok_or(CacheError::Busy)?;
        let stream = upstream.blob(&name.repository, &digest, 0).await?;
        if expected.is_some_and(|size| size != stream.size) {
            return Err(CacheError::Size { digest, manifest: expected.unwrap_or_default(), upstream: stream.size });
        }
        if stream.size == 0 && digest != Digest::of(digest.algorithm(), b"") {
            // There is no last byte to hold back, so the digest is checked before anything is said.
            return Err(CacheError::NotFound);
        }
        let partial = inner.disk.partial(digest, stream.size).map_err(|error| inner.disk_failed(&error))?;
        let fill = Arc::new(Fill::new(name.clone(), digest, stream.size, partial.file.clone()));
        {
            let mut running = inner.running.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(other) = running.get(&digest) {
                // Another registry's download is not followed on this one's word; it is over soon.
                let is_same = other.name().host == name.host;
                return if is_same { Ok(other.clone()) } else { Err(CacheError::Busy) };
            }
            running.insert(digest, fill.clone());
        }
        inner.metrics.fills.inc();
        let (state, pumped) = (inner.clone(), fill.clone());
        inner.tasks.spawn(async move {
            let outcome = fill::pump(&state.disk, &pumped, partial, stream, &upstream, &name.repository).await;
            match &outcome {
                Ok(()) => {
                    state.readiness.degraded(TOPIC, None);
                    // Only bytes that were verified link the blob to the repository that sent them.
                    let linked = state.store.record_link(&name, digest, pumped.size(), state.clock.now()).await;
                    if let Err(error) = linked {
                        tracing::warn!(%error, "a blob's repository could not be noted; it will be asked again");
                    }
                }
                Err(FillError::Disk(error)) => drop(state.disk_failed(error)),
                Err(_) => {}
            }
            if let Err(error) = &outcome {
                tracing::warn!(blob.digest = %digest, image.name = %name, %error, "fill failed; nothing of it is kept");
            }
            state.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&digest);
            state.metrics.fills.dec();
            // The file is visible under its digest before this, so nobody who finds no fill finds no file.
            pumped.finish(outcome);
            drop(turn);
        });
        Ok(fill)
    }
}

/// Content that is opened.
#[derive(Clone)]
pub enum Opened {
    /// Complete, on disk.
    File {
        /// The file.
        file: Arc<std::fs::File>,
        /// Its size in bytes.
        size: u64,
    },
    /// On its way.
    Filling(Arc<Fill>),
    /// Complete, in memory.
    Memory(Bytes),
}

impl Opened {
    /// The size of the whole content in bytes.
    pub fn size(&self) -> u64 {
        match self {
            Self::File { size, .. } => *size,
            Self::Filling(fill) => fill.size(),
            Self::Memory(bytes) => bytes.len() as u64,
        }
    }

    /// Reads a part, from `start` to before `end`, both within the size.
    pub fn read(&self, start: u64, end: u64) -> ContentBody {
        ContentBody::new(self, start, end)
    }
}

#[derive(Clone)]
struct CacheMetrics {
    hits: Counter,
    misses: Counter,
    fills: Gauge,
}

impl CacheMetrics {
    fn new(metrics: &Metrics) -> Self {
        Self {
            hits: metrics.register("cache_hits", "Content opened that was here or on its way", Counter::default()),
            misses: metrics.register("cache_misses", "Content opened that had to be fetched", Counter::default()),
            fills: metrics.register("cache_fills_in_flight", "Blobs being fetched", Gauge::default()),
        }
    }
}

/// Why content cannot be opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CacheError {
    /// All fills are taken.
    #[error("too many downloads are under way; come again")]
    Busy,
    /// The disk or the database cannot be read or written.
    #[error("the cache's disk failed: {0}; free space or mend the disk that holds `state_dir`")]
    Disk(String),
    /// The upstream repository does not have it.
    #[error("the upstream repository does not have this blob")]
    NotFound,
    /// The manifest and the upstream disagree on a blob's size.
    #[error("the manifest says that {digest} has {manifest} bytes, the upstream sends {upstream}")]
    Size {
        /// The blob.
        digest: Digest,
        /// The manifest's figure, in bytes.
        manifest: u64,
        /// The upstream's figure, in bytes.
        upstream: u64,
    },
    /// The upstream did not deliver.
    #[error(transparent)]
    Upstream(upstream::Error),
}

impl CacheError {
    #[expect(clippy::needless_pass_by_value, reason = "for map_err")]
    fn store(error: crate::store::StoreError) -> Self {
        Self::Disk(error.to_string())
    }
}

impl From<upstream::Error> for CacheError {
    fn from(error: upstream::Error) -> Self {
        match error {
            upstream::Error::NotFound => Self::NotFound,
            other => Self::Upstream(other),
        }
    }
}
