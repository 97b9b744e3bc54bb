//! The content cache: verified content on disk, named by digest, with small objects in memory.
//!
//! Clients receive content only through [`Cache::open`], which requires a [`Permit`]. A missing blob is downloaded
//! once, for all requests: see `fill`. Bytes become visible under their digest only once it is verified. If the disk
//! cannot be written, blobs are streamed through: see `relay`. For eviction, see `evict`.

mod ahead;
mod body;
mod buffers;
mod config;
mod content_file;
mod contents;
mod copies;
mod disk;
mod download;
mod error;
mod evict;
mod facts;
mod fill;
mod fills;
mod forecast;
mod holds;
mod judging;
mod links;
mod metrics;
mod no_space;
mod opened;
mod pins;
mod reading;
mod receive;
mod relay;
mod status;
mod usage;
mod verify;

use std::io::ErrorKind;
use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{Mutex, Notify};

pub use body::{ContentBody, Transfer};
pub use config::Config;
use content_file::FileMemory;
pub use contents::{CachedContent, ContentKind, NotRemoved, RemovedContent};
pub use copies::{CopyPlace, ManifestCopies};
use disk::{Disk, UNSYNCED};
use download::{BlobSource, BlobSourceKey};
pub use error::CacheError;
pub use fill::Follower;
use fills::Fills;
pub use forecast::{Forecast, ForecastContent, RemovalCause};
use holds::Holds;
pub use holds::ImportHold;
pub use judging::{BlobFinding, BlobReader, BlobReaders};
use metrics::CacheMetrics;
use opened::IntactFiles;
pub use opened::Opened;
pub use pins::NotPinned;
pub use reading::Reading;
use reading::Readings;
pub use receive::NotReceived;
pub use relay::Relay;
pub use status::{Collected, Status};
use usage::{Reservation, Touched, Usage};
pub use verify::Verified;

use crate::oci::{Digest, ImageName, MAX_MANIFEST, Manifest};
use crate::policy::Permit;
use crate::runtime::{
    ALLOCATION, Bounded, Clock, ContentSource, FileWindows, Flights, Metrics, Readiness, RequestTrace, Tasks, budget,
};
use crate::store::{NewContent, Store};
use crate::upstream::Upstream;

/// The name of the disk in `/readyz`.
const TOPIC: &str = "cache";

/// The cache, shared by all requests.
pub struct Cache {
    inner: Arc<CacheInner>,
    starts: Flights<BlobSourceKey, Result<Opened, CacheError>>,
    confirmations: Flights<BlobSourceKey, Result<u64, CacheError>>,
    /// Links known to exist: which repository delivered which blob.
    links: Bounded<(ImageName, Digest), ()>,
    copies: Arc<ManifestCopies>,
}

struct CacheInner {
    config: Config,
    disk: Arc<Disk>,
    memory: Bounded<Digest, Bytes>,
    file_memory: FileMemory,
    readings: Readings,
    intact: IntactFiles,
    fills: Fills,
    holds: Holds,
    usage: Arc<Usage>,
    touched: Touched,
    /// Ensures that only one eviction runs at a time.
    evicting: Mutex<()>,
    /// Held while it is found out what an eviction would remove.
    forecasting: Mutex<()>,
    /// Notified when space becomes scarce.
    scarce: Notify,
    store: Store,
    tasks: Tasks,
    clock: Clock,
    readiness: Readiness,
    metrics: CacheMetrics,
}

impl Cache {
    /// Opens the cache in the state directory, and removes incomplete files of an earlier process. Existing content is
    /// scanned in the background.
    ///
    /// # Errors
    /// The directory or the database cannot be read or written.
    pub async fn new(
        config: Config,
        state: &Path,
        store: Store,
        tasks: Tasks,
        clock: Clock,
        readiness: Readiness,
        metrics: &Metrics,
    ) -> Result<Self, CacheError> {
        readiness.degraded(TOPIC, None);
        let disk = Disk::open(&state.join("blobs")).map_err(|error| CacheError::Disk(error.to_string()))?;
        // Not next to the content: while a file is open for writing, the disk of the content could not be made
        // read-only.
        let copies = ManifestCopies::create(state, config.max_size);
        let totals = store.node.content_totals().await.map_err(CacheError::store)?;
        let usage = Arc::new(Usage::default());
        usage.added(totals.blob_bytes + totals.manifest_bytes);
        let file_memory = FileMemory::default();
        let inner = Arc::new(CacheInner {
            memory: Bounded::new(config.memory, |_, bytes| bytes.len() + ALLOCATION),
            fills: Fills::new(config.max_fills, config.orphan_fill_limit),
            holds: Holds::default(),
            readings: Readings::new(file_memory.clone()),
            intact: IntactFiles::new(tasks.clone()),
            file_memory,
            usage,
            touched: Touched::default(),
            evicting: Mutex::default(),
            forecasting: Mutex::default(),
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
            copies: Arc::new(copies),
            starts: Flights::new(tasks.clone()),
            confirmations: Flights::new(tasks),
            links: Bounded::new(budget::LINKS, |(name, _), ()| {
                2 * ALLOCATION + name.host.as_str().len() + name.repository.as_str().len()
            }),
        })
    }

    /// The windows through which content is lent, for connections that send files.
    pub fn windows(&self) -> FileWindows {
        self.inner.file_memory.windows.clone()
    }

    /// Copies of manifests, for decisions that are repeated.
    pub fn copies(&self) -> &Arc<ManifestCopies> {
        &self.copies
    }

    /// Opens the content that a permit allows: from memory, from disk, or from a running or new fill.
    ///
    /// A blob is opened for a repository only if that repository itself has delivered it or confirms it now. A blob
    /// that another repository has delivered, or is delivering, is not opened.
    ///
    /// # Errors
    /// [`CacheError::NotFound`] if the repository does not have it; other errors are temporary.
    pub async fn open(&self, permit: &Permit, upstream: &Arc<Upstream>) -> Result<Opened, CacheError> {
        if let Some(opened) = self.at_hand(permit, upstream).await? {
            self.inner.metrics.hits.inc();
            RequestTrace::note_source(opened.source());
            return Ok(opened);
        }
        self.inner.metrics.misses.inc();
        RequestTrace::note_source(ContentSource::Miss);
        self.begin(BlobSource::of(permit, upstream)?).await
    }

    /// Opens content for judging, never for clients. It may come from any repository, because proofs depend only on the
    /// digest. Missing content is downloaded from the requested repository, so that a later pull finds it in the cache.
    ///
    /// # Errors
    /// The same as [`open`](Self::open).
    pub async fn open_for_judging(
        &self,
        name: &ImageName,
        upstream: &Arc<Upstream>,
        digest: Digest,
        size: u64,
    ) -> Result<Opened, CacheError> {
        if let Some(opened) = self.inner.opened_whole(digest, size).await? {
            // A judge reads as much as the manifest states.
            let found = opened.size();
            return if found == size { Ok(opened) } else { Err(CacheError::Size { digest, manifest: size, found }) };
        }
        match self.inner.fills.follow(&(name.host.clone(), digest, size), |_| true) {
            Some(follower) => Ok(Opened::Filling(follower)),
            None => self.begin(BlobSource { upstream: upstream.clone(), name: name.clone(), digest, size }).await,
        }
    }

    async fn begin(&self, source: BlobSource) -> Result<Opened, CacheError> {
        let (inner, key) = (self.inner.clone(), source.key());
        let work = || async move { inner.start(source).await };
        self.starts.join(key, work).await.unwrap_or(Err(CacheError::Busy))
    }

    /// The size, in bytes, of the content that a permit allows, if [`open`](Self::open) would open it. Downloads
    /// nothing.
    ///
    /// # Errors
    /// The same as [`open`](Self::open).
    pub async fn size(&self, permit: &Permit, upstream: &Arc<Upstream>) -> Result<u64, CacheError> {
        if let Some(opened) = self.at_hand(permit, upstream).await? {
            RequestTrace::note_source(opened.source());
            return Ok(opened.size());
        }
        RequestTrace::note_source(ContentSource::Miss);
        self.confirm(permit, upstream).await
    }

    /// Reads and verifies cached content of at most `limit` bytes for judging, such as manifests; never for clients.
    /// Unreadable and damaged content counts as missing.
    pub async fn peek(&self, digest: Digest, limit: usize) -> Option<Bytes> {
        if let Some(bytes) = self.inner.memory.get(&digest) {
            return Some(bytes);
        }
        match self.inner.disk.read(digest, limit).await {
            Ok(read) => read,
            Err(error) if error.kind() == ErrorKind::InvalidData => {
                tracing::error!(content.digest = %digest, %error, "cached content is damaged; it is fetched again");
                None
            }
            Err(error) => {
                self.inner.disk_failed(&error);
                None
            }
        }
    }

    /// The manifest that a permit allows, if it is available without waiting: from memory, or from a file that the
    /// system has in memory, which is then verified.
    pub fn manifest_at_once(&self, permit: &Permit) -> Option<Bytes> {
        let (inner, digest) = (&self.inner, permit.digest());
        inner.memory.get(&digest).or_else(|| inner.disk.read_at_once(digest, MAX_MANIFEST).ok().flatten())
    }

    /// Stores a manifest that was read and verified completely. If the disk cannot be written, it is kept in memory.
    pub async fn keep(&self, manifest: &Manifest) {
        let (inner, Manifest { digest, bytes, .. }) = (&self.inner, manifest);
        let reserved = inner.reserve(bytes.len() as u64).await;
        match inner.disk.write(*digest, bytes.clone()).await {
            Ok(()) => {
                inner.disk_works();
                inner.touched.stored(*digest);
                // Not waited for: a crash leaves a file without a row, which the next start finds. The row then shares
                // a transaction with the facts about the manifest, which follow.
                let (inner, content) = (inner.clone(), NewContent::manifest(manifest, inner.clock.now()));
                self.inner.tasks.spawn(async move { inner.stored(content, reserved.ok()).await });
            }
            Err(error) => {
                inner.remember(*digest, bytes);
                inner.disk_failed(&error);
                tracing::warn!(manifest.digest = %digest, %error, "cannot write a manifest to disk; it is kept only in memory");
            }
        }
    }

    /// Records that an image is in use: its manifest, or a blob that was requested through it.
    pub fn touch(&self, manifest: &Manifest) {
        if self.inner.touched.touch(manifest.digest, self.inner.clock.now(), &manifest.bytes) {
            self.inner.scarce.notify_one();
        }
    }

    /// Removes content that is too old, that no manifest names, or that exceeds the low watermark; removes facts about
    /// missing content; and shrinks the database file.
    ///
    /// # Errors
    /// The database failed.
    pub async fn collect(&self) -> Result<Collected, CacheError> {
        let freed = self.inner.collect().await?;
        let (forgotten_rows, database_bytes) = self.inner.forget().await.map_err(CacheError::store)?;
        Ok(Collected { freed_bytes: freed.bytes, forgotten_rows, database_bytes })
    }
}

impl CacheInner {
    /// Reports the failure in the log and in `/readyz`, until the disk can be written again.
    fn disk_failed(&self, error: &impl ToString) {
        let why = format!(
            "nothing is cached: {}; check the disk of `state_dir` for free space and errors",
            error.to_string()
        );
        self.readiness.degraded(TOPIC, Some(why));
    }

    fn disk_works(&self) {
        self.readiness.degraded(TOPIC, None);
    }

    fn is_here(&self, digest: Digest) -> bool {
        self.memory.get(&digest).is_some() || self.disk.has(digest)
    }

    /// Opens complete content. Content that the disk cannot open counts as missing, and is fetched again.
    async fn opened(&self, digest: Digest) -> Option<Opened> {
        if let Some(bytes) = self.memory.get(&digest) {
            return Some(Opened::Memory(bytes));
        }
        let opened = self.readings.open(&self.disk, digest).inspect_err(|error| self.disk_failed(error));
        let reading = opened.ok().flatten()?;
        // Content that was not synced must be verified; content served from memory can be.
        let limit = self.config.small_object.max(UNSYNCED);
        if reading.file().size() > limit as u64 {
            return Some(Opened::File(reading));
        }
        let read = self.disk.read(digest, limit).await.inspect_err(|error| {
            reading.discard(error);
            self.metrics.damaged.inc_by(u64::from(error.kind() == ErrorKind::InvalidData));
        });
        let bytes = read.ok().flatten()?;
        self.remember(digest, &bytes);
        Some(Opened::Memory(bytes))
    }

    fn remember(&self, digest: Digest, bytes: &Bytes) {
        if bytes.len() <= self.config.small_object {
            self.memory.insert(digest, bytes.clone());
        }
    }

    /// Records new content on disk. Its reservation is released at the same moment: counting both could evict other
    /// content from a nearly full cache.
    async fn stored(&self, content: NewContent, reserved: Option<Reservation>) {
        let size = content.size();
        let is_new = self.store.node.record(content).await.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot record cached content; it will be found at the next start");
            true
        });
        drop(reserved);
        if is_new {
            self.usage.added(size);
        }
        self.show_stored();
    }

    fn show_stored(&self) {
        self.metrics.stored.set(i64::try_from(self.usage.stored()).unwrap_or(i64::MAX));
    }
}
