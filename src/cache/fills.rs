//! Which downloads run, who may begin one, and where its bytes go.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::disk::Partial;
use super::download::Source;
use super::evict::NoRoom;
use super::fill::{Fill, FillError, FillKey, Follower, pump};
use super::relay::Relay;
use super::usage::Reservation;
use super::{CacheError, Inner, Opened};
use crate::oci::Digest;
use crate::store::StoredContent;
use crate::upstream::BlobStream;

/// How long a request waits for its turn when all downloads are taken.
const TURN_PATIENCE: Duration = Duration::from_secs(10);
/// After the disk failed in the middle of a blob, nothing is written for so long: each blob that is streamed through
/// from its beginning spares a reader the change in the middle.
const DISK_PAUSE: Duration = Duration::from_secs(5);

/// The downloads that run.
pub(super) struct Fills {
    running: Mutex<HashMap<FillKey, Arc<Fill>>>,
    turns: Arc<Semaphore>,
    orphans: Arc<Semaphore>,
    /// When the disk may be tried again.
    paused_until: Mutex<Option<Instant>>,
}

impl Fills {
    pub(super) fn new(max_fills: usize, orphan_limit: usize) -> Self {
        Self {
            running: Mutex::default(),
            turns: Arc::new(Semaphore::new(max_fills)),
            orphans: Arc::new(Semaphore::new(orphan_limit)),
            paused_until: Mutex::default(),
        }
    }

    /// Follows a download of this registry, where one runs and `is_wanted`.
    pub(super) fn follow(&self, key: &FillKey, is_wanted: impl FnOnce(&Fill) -> bool) -> Option<Follower> {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.get(key).filter(|fill| is_wanted(fill))?.follow()
    }

    /// Whether a download of this registry runs.
    pub(super) fn has(&self, key: &FillKey) -> bool {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).contains_key(key)
    }

    /// Whether content is on its way from any registry.
    pub(super) fn is_filled(&self, digest: Digest) -> bool {
        let running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        running.keys().any(|(_, known, _)| *known == digest)
    }

    fn begin(&self, fill: &Arc<Fill>) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).insert(fill.key(), fill.clone());
    }

    /// Takes a fill out; one that was given up may have a successor by then, which stays.
    fn end(&self, fill: &Arc<Fill>) {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.get(&fill.key()).is_some_and(|known| Arc::ptr_eq(known, fill)) {
            running.remove(&fill.key());
        }
    }

    async fn turn(&self) -> Result<OwnedSemaphorePermit, CacheError> {
        let turn = tokio::time::timeout(TURN_PATIENCE, self.turns.clone().acquire_owned()).await;
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

impl Inner {
    /// Asks the repository for the blob and begins to fill; where the disk takes nothing, streams it through.
    pub(super) async fn start(self: Arc<Self>, source: Source) -> Result<Opened, CacheError> {
        let turn = self.fills.turn().await?;
        let stream = source.open(0).await?;
        let (digest, size) = (source.digest, source.size);
        if stream.size != size {
            return Err(CacheError::Size { digest, manifest: size, upstream: stream.size });
        }
        if size == 0 && digest != Digest::of(digest.algorithm(), b"") {
            // There is no last byte to hold back, so the digest is checked before anything is said.
            return Err(CacheError::NotFound);
        }
        let relay = Relay::new(source.clone(), self.tasks.clone(), self.fills.turns.clone());
        match self.room(digest, size).await {
            Ok(room) => self.fill(source, relay, room, stream, turn),
            Err(why) => {
                self.metrics.relayed.inc();
                self.not_cached(&source, &why);
                Ok(Opened::Relayed(Arc::new(relay.begun(stream, turn))))
            }
        }
    }

    /// A file for so many bytes. What was used longest ago makes way for it.
    async fn room(self: &Arc<Self>, digest: Digest, size: u64) -> Result<Room, NoRoom> {
        if self.fills.is_paused() {
            return Err(NoRoom::Disk("it failed a moment ago".into()));
        }
        let reservation = self.reserve(size).await?;
        let mut made = self.disk.partial(digest, size).await;
        if made.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::StorageFull) {
            self.free(size).await;
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
        source: Source,
        relay: Relay,
        room: Room,
        stream: BlobStream,
        turn: OwnedSemaphorePermit,
    ) -> Result<Opened, CacheError> {
        let Room { partial, reservation } = room;
        let fill = Arc::new(Fill::new(source, partial.file.clone(), self.fills.orphans.clone(), Arc::new(relay)));
        let follower = fill.follow().ok_or(CacheError::Busy)?;
        self.fills.begin(&fill);
        self.metrics.fills.inc();
        let (inner, tasks) = (self.clone(), self.tasks.clone());
        tasks.spawn(async move {
            let outcome = pump(&inner.disk, &fill, partial, stream).await;
            inner.filled(&fill, outcome, reservation).await;
            inner.fills.end(&fill);
            inner.metrics.fills.dec();
            drop(turn);
            inner.evict_soon();
        });
        Ok(Opened::Filling(follower))
    }

    /// Writes down what is on disk now. Only bytes that were verified link a blob to the repository that sent them.
    async fn filled(&self, fill: &Fill, outcome: Result<(), FillError>, reservation: Reservation) {
        let Source { name, digest, size, .. } = fill.source();
        match outcome {
            Ok(()) => {
                self.disk_works();
                if let Ok(Some(reading)) = self.readings.open(&self.disk, *digest) {
                    fill.completed(reading);
                }
                let now = self.clock.now();
                let content = StoredContent { digest: *digest, size: *size, is_manifest: false, used_at: now };
                self.stored(content, Some(reservation)).await;
                if let Err(error) = self.store.record_link(name, *digest, *size, now).await {
                    tracing::warn!(%error, "a blob's repository could not be noted; it will be asked again");
                }
            }
            Err(error) => {
                if let FillError::Disk(error) = &error {
                    self.fills.pause();
                    self.disk_failed(error);
                }
                tracing::warn!(blob.digest = %digest, image.name = %name, %error, "fill failed; nothing of it is kept");
            }
        }
    }
}

impl Inner {
    fn not_cached(&self, source: &Source, why: &NoRoom) {
        let Source { name, digest, size, .. } = source;
        tracing::warn!(blob.digest = %digest, image.name = %name, size, %why, "streamed through without caching");
        if let NoRoom::Disk(error) = why {
            self.disk_failed(error);
        }
    }
}

/// A file with room for a blob, and the claim on the cache's size that goes with it.
struct Room {
    partial: Partial,
    reservation: Reservation,
}
