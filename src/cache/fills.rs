//! Tracks running downloads, limits their number, and decides where their data goes.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::ahead::{MAX_REQUESTS, PartsAhead};
use super::content_file::ContentFile;
use super::disk::Partial;
use super::download::BlobSource;
use super::evict::NoRoom;
use super::fill::{Fill, FillError, FillKey, Follower, pump};
use super::relay::Relay;
use super::usage::Reservation;
use super::{CacheError, CacheInner, Opened};
use crate::oci::Digest;
use crate::store::{NewContent, NewFacts};
use crate::upstream::BlobStream;

/// How long a download waits for its turn.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);
/// After the disk failed in the middle of a blob, nothing is written for this long. Blobs that are streamed through
/// from the start do not have to switch in the middle.
const DISK_PAUSE: Duration = Duration::from_secs(5);

/// The running downloads.
pub(super) struct Fills {
    running: Mutex<HashMap<FillKey, Arc<Fill>>>,
    turns: Arc<Semaphore>,
    orphans: Arc<Semaphore>,
    /// Limits the parts that are requested before a download reaches them.
    parts_ahead: Arc<Semaphore>,
    /// When the disk may be used again.
    paused_until: Mutex<Option<Instant>>,
}

impl Fills {
    pub(super) fn new(max_fills: usize, orphan_limit: usize) -> Self {
        Self {
            running: Mutex::default(),
            turns: Arc::new(Semaphore::new(max_fills)),
            orphans: Arc::new(Semaphore::new(orphan_limit)),
            parts_ahead: Arc::new(Semaphore::new(MAX_REQUESTS)),
            paused_until: Mutex::default(),
        }
    }

    /// Joins a running download from this registry, if there is one and `is_wanted` accepts it.
    pub(super) fn follow(&self, key: &FillKey, is_wanted: impl FnOnce(&Fill) -> bool) -> Option<Follower> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.get(key).filter(|fill| is_wanted(fill))?.follow()
    }

    /// Whether a download from this registry is running.
    pub(super) fn has(&self, key: &FillKey) -> bool {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).contains_key(key)
    }

    /// Whether the content is being downloaded from any registry.
    pub(super) fn is_filled(&self, digest: Digest) -> bool {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.keys().any(|(_, known, _)| *known == digest)
    }

    fn begin(&self, fill: &Arc<Fill>) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(fill.key(), fill.clone());
    }

    /// Removes a fill, but not a successor that may have started after this one was cancelled.
    fn end(&self, fill: &Arc<Fill>) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.get(&fill.key()).is_some_and(|known| Arc::ptr_eq(known, fill)) {
            running.remove(&fill.key());
        }
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, CacheError> {
        let turn = tokio::time::timeout(TURN_TIMEOUT, self.turns.clone().acquire_owned()).await;
        turn.ok().and_then(Result::ok).ok_or(CacheError::Busy)
    }

    fn pause(&self) {
        let until = Instant::now() + DISK_PAUSE;
        *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner) = Some(until);
    }

    fn is_paused(&self) -> bool {
        let until = *self.paused_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }
}

impl CacheInner {
    /// Requests the blob from the repository and starts to fill; streams it through if the disk cannot be written.
    pub(super) async fn start(self: Arc<Self>, source: BlobSource) -> Result<Opened, CacheError> {
        // The registry's turn comes first: a request that waits for a slow registry holds no turn that others could
        // use.
        let stream = source.open(0).await?;
        let (digest, size) = (source.digest, source.size);
        if stream.size != size {
            return Err(CacheError::Size { digest, manifest: size, found: stream.size });
        }
        if size == 0 && digest != Digest::of(digest.algorithm(), b"") {
            // An empty blob has no last byte to hold back, so its digest is checked first.
            return Err(CacheError::NotFound);
        }
        let turn = self.fills.turn().await?;
        let relay = Relay::new(source.clone(), self.tasks.clone(), self.metrics.relayed.clone());
        match self.room(digest, size).await {
            Ok(room) => self.fill(source, relay, room, stream, turn),
            Err(why) => {
                // Does not wait: the request already has an answer of the upstream, and a turn.
                let turn = source.relay_turns().try_acquire_owned();
                let turn = turn.map_err(|_| CacheError::Busy)?;
                self.not_cached(&source, &why);
                Ok(Opened::Relayed(Arc::new(relay.begun(stream, turn))))
            }
        }
    }

    /// Creates a file for the blob, evicting the least recently used content if necessary.
    async fn room(self: &Arc<Self>, digest: Digest, size: u64) -> Result<Room, NoRoom> {
        if self.fills.is_paused() {
            return Err(NoRoom::Disk("it failed recently".into()));
        }
        let reservation = self.reserve(size).await?;
        let mut made = self.disk.partial(digest, size).await;
        if made.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::StorageFull) {
            self.free(size, &[]).await;
            made = self.disk.partial(digest, size).await;
        }
        match made {
            Ok(partial) => Ok(Room { partial, reservation }),
            Err(error) => {
                if error.kind() == std::io::ErrorKind::TimedOut {
                    self.fills.pause();
                }
                Err(NoRoom::Disk(error.to_string()))
            }
        }
    }

    fn fill(
        self: Arc<Self>,
        source: BlobSource,
        relay: Relay,
        room: Room,
        stream: BlobStream,
        turn: OwnedSemaphorePermit,
    ) -> Result<Opened, CacheError> {
        let Room { partial, reservation } = room;
        let file = ContentFile::new(partial.file.clone(), source.size, self.file_memory.clone());
        let parts_ahead = PartsAhead::new(self.fills.parts_ahead.clone());
        let fill = Arc::new(Fill::new(source, file, self.fills.orphans.clone(), Arc::new(relay), parts_ahead));
        let follower = fill.follow().ok_or(CacheError::Busy)?;
        self.fills.begin(&fill);
        self.metrics.fills.inc();
        let (inner, tasks) = (self.clone(), self.tasks.clone());
        tasks.spawn_transfer(async move {
            let outcome = pump(&inner.disk, &fill, partial, stream).await;
            inner.filled(&fill, outcome, reservation).await;
            inner.fills.end(&fill);
            inner.metrics.fills.dec();
            drop(turn);
            inner.evict_soon();
        });
        Ok(Opened::Filling(follower))
    }

    /// Records what is now on disk. Only verified content links a blob to the repository that sent it, and to those
    /// that confirmed meanwhile that they have it.
    async fn filled(&self, fill: &Fill, outcome: Result<(), FillError>, reservation: Reservation) {
        let BlobSource { name, digest, size, .. } = fill.source();
        match outcome {
            Ok(()) => {
                self.disk_works();
                if let Ok(Some(reading)) = self.readings.open(&self.disk, *digest) {
                    fill.completed(reading);
                }
                let now = self.clock.now();
                self.stored(NewContent::blob(*digest, *size, now), Some(reservation)).await;
                let link = |facts: NewFacts, name: &_| facts.link(name, *digest, *size, now);
                let links = fill.repositories().iter().fold(NewFacts::new(now), link);
                if let Err(error) = self.store.facts.record(links).await {
                    tracing::warn!(%error, "cannot record the repository of a blob; it will be asked again");
                }
            }
            Err(error) => {
                if let FillError::Disk(error) = &error {
                    self.fills.pause();
                    self.disk_failed(error);
                }
                tracing::warn!(blob.digest = %digest, image.name = %name, %error, "fill failed; nothing was kept");
            }
        }
    }
}

impl CacheInner {
    fn not_cached(&self, source: &BlobSource, why: &NoRoom) {
        let BlobSource { name, digest, size, .. } = source;
        tracing::warn!(blob.digest = %digest, image.name = %name, size, %why, "streamed through without caching");
        if let NoRoom::Disk(error) = why {
            self.disk_failed(error);
        }
    }
}

/// A file for a blob, and its reservation of cache space.
struct Room {
    partial: Partial,
    reservation: Reservation,
}
