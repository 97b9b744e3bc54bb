//! Content: verified, named by digest, on disk, with small objects in memory.
//!
//! Content reaches clients only by [`Cache::open`], which takes a [`Permit`]. A blob that is not here is filled once and
//! followed by everyone who asks: see `fill`. Bytes become visible under their digest only when they have it. While the
//! disk takes nothing, blobs are streamed through: see `relay`. What goes when room is needed: see `evict`.

mod body;
mod buffers;
mod disk;
mod download;
mod error;
mod evict;
mod facts;
mod fill;
mod fills;
mod judging;
mod links;
mod metrics;
mod opened;
mod reading;
mod relay;
mod status;
mod usage;
mod verify;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{Mutex, Notify};

pub use body::{ContentBody, Transfer};
use disk::Disk;
use download::{Source, SourceKey, said_size};
pub use error::CacheError;
pub use fill::Follower;
use fills::Fills;
pub use judging::{BlobFinding, BlobPieces, BlobRead, BlobReader, BlobReaders};
use metrics::CacheMetrics;
pub use opened::Opened;
pub use reading::Reading;
use reading::Readings;
pub use relay::Relay;
pub use status::{Collected, Status};
use usage::{Reservation, Touched, Usage};
pub use verify::Verified;

use crate::oci::{Digest, ImageName, Manifest};
use crate::policy::Permit;
use crate::runtime::{Clock, Flights, Metrics, Readiness, Tasks};
use crate::store::{Store, StoredContent};
use crate::upstream::Upstream;

/// How the cache behaves.
#[derive(Clone, Debug)]
pub struct Config {
    /// Content up to this size, in bytes, is served from memory.
    pub small_object: usize,
    /// How much memory small objects may take, in bytes.
    pub memory: u64,
    /// How much of the disk content may take, in bytes.
    pub max_size: u64,
    /// How much of the disk is left free, in bytes, but never more than a tenth of it.
    pub min_free: u64,
    /// At this share of `max_size`, in percent, eviction begins.
    pub high_watermark: u64,
    /// At this share of `max_size`, in percent, it ends.
    pub low_watermark: u64,
    /// What was not used for so long goes whatever room there is; `None` keeps it.
    pub max_age: Option<Duration>,
    /// How much the rows of the database may take, in bytes: what is known of images, and evidence.
    pub max_database: u64,
    /// Facts that were not used for so long go, unless content that is here needs them.
    pub fact_memory: Duration,
    /// How many blobs are downloaded at the same time.
    pub max_fills: usize,
    /// How many downloads go on whose readers have all left.
    pub orphan_fill_limit: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            small_object: 256 * 1024,
            memory: 64 * 1024 * 1024,
            max_size: 200 * 1024 * 1024 * 1024,
            min_free: 1024 * 1024 * 1024,
            high_watermark: 95,
            low_watermark: 85,
            max_age: None,
            max_database: 512 * 1024 * 1024,
            fact_memory: Duration::from_secs(30 * 24 * 3600),
            max_fills: 64,
            orphan_fill_limit: 16,
        }
    }
}

/// The name under which `/readyz` speaks of the disk.
const TOPIC: &str = "cache";

/// The cache. Shared by all requests.
pub struct Cache {
    inner: Arc<Inner>,
    starts: Flights<SourceKey, Result<Opened, CacheError>>,
    confirmations: Flights<SourceKey, Result<u64, CacheError>>,
    /// Links that were looked up: which repository delivered which blob.
    links: moka::sync::Cache<(ImageName, Digest), ()>,
}

struct Inner {
    config: Config,
    disk: Arc<Disk>,
    memory: moka::sync::Cache<Digest, Bytes>,
    readings: Readings,
    fills: Fills,
    usage: Arc<Usage>,
    touched: Touched,
    /// One eviction at a time.
    evicting: Mutex<()>,
    /// Told when room becomes scarce.
    scarce: Notify,
    store: Store,
    tasks: Tasks,
    clock: Clock,
    readiness: Readiness,
    metrics: CacheMetrics,
}

impl Cache {
    /// Opens the cache in the state directory, and sweeps what an earlier process left half-written. What lies there is
    /// looked through beside serving.
    ///
    /// # Errors
    /// When the directory or the database cannot be read or written.
    pub async fn new(
        config: Config,
        state: &Path,
        store: Store,
        tasks: Tasks,
        clock: Clock,
        readiness: Readiness,
        metrics: &Metrics,
    ) -> Result<Self, CacheError> {
        let disk = Disk::open(&state.join("blobs")).map_err(|error| CacheError::Disk(error.to_string()))?;
        let totals = store.content_totals().await.map_err(CacheError::store)?;
        let usage = Arc::new(Usage::default());
        usage.added(totals.blob_bytes + totals.manifest_bytes);
        let weigher = |_: &Digest, bytes: &Bytes| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let inner = Arc::new(Inner {
            memory: moka::sync::Cache::builder().weigher(weigher).max_capacity(config.memory).build(),
            fills: Fills::new(config.max_fills, config.orphan_fill_limit),
            readings: Readings::default(),
            usage,
            touched: Touched::default(),
            evicting: Mutex::default(),
            scarce: Notify::new(),
            metrics: CacheMetrics::new(metrics),
            config,
            disk: Arc::new(disk),
            store,
            tasks: tasks.clone(),
            clock,
            readiness,
        });
        tasks.spawn(inner.clone().reconcile());
        tasks.spawn(inner.clone().evict_until_stop());
        Ok(Self {
            inner,
            starts: Flights::new(tasks.clone()),
            confirmations: Flights::new(tasks),
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
        if let Some(opened) = self.at_hand(permit, upstream).await? {
            self.inner.metrics.hits.inc();
            return Ok(opened);
        }
        self.inner.metrics.misses.inc();
        self.begin(Source::of(permit, upstream)?).await
    }

    /// Content for judging: never for clients. It does not matter which repository delivered it, because a proof is about
    /// the digest alone. What is not here is filled for the repository that is asked about, so that the pull finds it.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_for_judging(
        &self,
        name: &ImageName,
        upstream: &Arc<Upstream>,
        digest: Digest,
        size: u64,
    ) -> Result<Opened, CacheError> {
        let opened = match self.inner.opened(digest).await {
            Some(opened) => opened,
            None => match self.inner.fills.follow(&(name.host.clone(), digest, size), |_| true) {
                Some(follower) => Opened::Filling(follower),
                None => self.begin(Source { upstream: upstream.clone(), name: name.clone(), digest, size }).await?,
            },
        };
        if opened.size() == size {
            return Ok(opened);
        }
        Err(CacheError::Size { digest, manifest: size, upstream: opened.size() })
    }

    async fn begin(&self, source: Source) -> Result<Opened, CacheError> {
        let (inner, key) = (self.inner.clone(), source.key());
        let work = || async move { inner.start(source).await };
        self.starts.join(key, work).await.unwrap_or(Err(CacheError::Busy))
    }

    /// The size in bytes of the content that a permit is for, where the same rules would open it. Downloads nothing.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn size(&self, permit: &Permit, upstream: &Arc<Upstream>) -> Result<u64, CacheError> {
        if let Some(opened) = self.at_hand(permit, upstream).await? {
            return Ok(opened.size());
        }
        self.confirm(permit, upstream).await
    }

    /// Content that is here or on its way, where the permit's repository may have it.
    async fn at_hand(&self, permit: &Permit, upstream: &Arc<Upstream>) -> Result<Option<Opened>, CacheError> {
        let (name, digest) = (permit.name(), permit.digest());
        let (inner, key) = (&self.inner, (name.host.clone(), digest, said_size(permit)?));
        // Before the links are looked at: a fill that ends meanwhile has left its link by then.
        let own_fill = inner.fills.follow(&key, |fill| fill.name() == name);
        if self.is_linked(name, digest).await? {
            if let Some(opened) = inner.opened(digest).await {
                return Ok(Some(opened));
            }
            return Ok(own_fill.or_else(|| inner.fills.follow(&key, |_| true)).map(Opened::Filling));
        }
        if let Some(follower) = own_fill {
            return Ok(Some(Opened::Filling(follower)));
        }
        // A registry's HEAD speaks for its own repositories: what another registry delivered, it opens nothing of.
        if !inner.fills.has(&key) && !self.is_of_registry(name, digest).await? {
            return Ok(None);
        }
        let size = self.confirm(permit, upstream).await?;
        if let Some(follower) = inner.fills.follow(&key, |_| true) {
            return Ok(Some(Opened::Filling(follower)));
        }
        if !self.is_of_registry(name, digest).await? {
            return Ok(None);
        }
        self.link(name, digest, size).await;
        Ok(inner.opened(digest).await)
    }

    /// Content for judging, at most `limit` bytes: manifests. Never for clients. What cannot be read counts as absent.
    pub async fn peek(&self, digest: Digest, limit: usize) -> Option<Bytes> {
        if let Some(bytes) = self.inner.memory.get(&digest) {
            return Some(bytes);
        }
        let read = self.inner.disk.read(digest, limit).await;
        read.inspect_err(|error| self.inner.disk_failed(error)).ok().flatten()
    }

    /// Keeps content that was read and verified whole: manifests. On a disk that takes nothing they stay in memory.
    pub async fn keep(&self, digest: Digest, bytes: Bytes) {
        let inner = &self.inner;
        inner.remember(digest, &bytes);
        let reserved = inner.reserve(bytes.len() as u64).await;
        match inner.disk.write(digest, bytes.clone()).await {
            Ok(()) => {
                inner.disk_works();
                let (size, used_at) = (bytes.len() as u64, inner.clock.now());
                inner.stored(StoredContent { digest, size, is_manifest: true, used_at }, reserved.ok()).await;
            }
            Err(error) => {
                inner.disk_failed(&error);
                tracing::warn!(manifest.digest = %digest, %error, "a manifest is kept in memory alone");
            }
        }
    }

    /// Notes that an image is in use: its manifest, or a blob that it was asked for by.
    pub fn touch(&self, manifest: &Manifest) {
        if self.inner.touched.touch(manifest.digest, self.inner.clock.now(), &manifest.bytes) {
            self.inner.scarce.notify_one();
        }
    }

    /// Drops what is too old, what no manifest names, and what is above the low watermark; forgets facts of what is gone,
    /// and makes the database's file smaller.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn collect(&self) -> Result<Collected, CacheError> {
        let freed = self.inner.collect().await?;
        let (forgotten_rows, database_bytes) = self.inner.forget().await.map_err(CacheError::store)?;
        Ok(Collected { freed_bytes: freed.bytes, forgotten_rows, database_bytes })
    }
}

impl Inner {
    /// Says so where operators look, until something can be written again.
    fn disk_failed(&self, error: &impl ToString) {
        let why = format!("nothing is cached: {}; free or mend the disk of `state_dir`", error.to_string());
        self.readiness.degraded(TOPIC, Some(why));
    }

    fn disk_works(&self) {
        self.readiness.degraded(TOPIC, None);
    }

    fn is_here(&self, digest: Digest) -> bool {
        self.memory.contains_key(&digest) || self.disk.has(digest)
    }

    /// What is complete. What the disk cannot open counts as absent: it is fetched again.
    async fn opened(&self, digest: Digest) -> Option<Opened> {
        if let Some(bytes) = self.memory.get(&digest) {
            return Some(Opened::Memory(bytes));
        }
        let opened = self.readings.open(&self.disk, digest).inspect_err(|error| self.disk_failed(error));
        let reading = opened.ok().flatten()?;
        if reading.size() > self.config.small_object as u64 {
            return Some(Opened::File(reading));
        }
        let read = self.disk.read(digest, self.config.small_object).await;
        let bytes = read.inspect_err(|error| reading.discard(error)).ok().flatten()?;
        // Small enough to hash on the way into memory, from where it is served from now on.
        if Digest::of(digest.algorithm(), &bytes) != digest {
            reading.discard(&std::io::Error::other("its bytes have another digest"));
            self.metrics.damaged.inc();
            return None;
        }
        self.remember(digest, &bytes);
        Some(Opened::Memory(bytes))
    }

    fn remember(&self, digest: Digest, bytes: &Bytes) {
        if bytes.len() <= self.config.small_object {
            self.memory.insert(digest, bytes.clone());
        }
    }

    /// Counts what is on disk now, and writes it down. What was reserved for it is given back in the same moment:
    /// counted twice, it could drive others out of a cache that is nearly full.
    async fn stored(&self, content: StoredContent, reserved: Option<Reservation>) {
        let is_new = self.store.record_content(&content).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "cached content could not be noted; it is found at the next start");
            true
        });
        drop(reserved);
        if is_new {
            self.usage.added(content.size);
        }
        self.show_stored();
    }

    fn show_stored(&self) {
        self.metrics.stored.set(i64::try_from(self.usage.stored()).unwrap_or(i64::MAX));
    }
}
