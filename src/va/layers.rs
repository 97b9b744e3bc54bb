//! The contents of layers. Each layer is read once, for all images and repositories that contain it, and the result is
//! kept forever.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::cache::{BlobFinding, BlobReader, CacheError};
use crate::inventory::{self, LayerInventory, LayerLimits, LayerReading, LayerTable, LinkedNames};
use crate::oci::layer_types::is_read_lazily;
use crate::oci::unpack::LARGE_WINDOW;
use crate::oci::{Algorithm, Descriptor, Digest};
use crate::policy::Observed;
use crate::runtime::{Clock, Tasks};
use crate::store::{FactStore, Memo};

/// How long the reading of a layer that took too long is kept. After that, it is read again.
const RETRY: SignedDuration = SignedDuration::from_hours(24);
/// For how many layers a `diff_id` may wait to be stored.
const MAX_PENDING: usize = 4096;
/// How many layers are read with a large zstd window at the same time.
const LARGE_WINDOWS: usize = 1;

/// What one layer says.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct KnownLayer {
    /// The digest of the layer itself.
    pub(super) digest: Digest,
    /// The digest of the uncompressed content; `None` if the layer cannot be unpacked, or readers interpret it
    /// differently.
    pub(super) diff_id: Option<Digest>,
    /// What the layer contributes to an image.
    pub(super) inventory: Arc<LayerInventory>,
    /// Whether the time for reading it was over. Another reading may get further.
    #[serde(default)]
    pub(super) ended_early: bool,
    /// The table of contents of a layer that some clients read by it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) table: Option<LayerTable>,
}

impl KnownLayer {
    /// What was found in layers, with its expiry: forever, if all were read to their end.
    pub(super) fn observed<T: Clone>(
        read: Result<T, CacheError>,
        ended_early: bool,
        clock: &Clock,
    ) -> Observed<BlobFinding<T>> {
        let found = BlobFinding::observed(read, clock);
        match ended_early {
            true => Observed { until: found.until.or(found.at.checked_add(RETRY).ok()), ..found },
            false => found,
        }
    }
}

/// The readings of all layers, by digest. Cheap to clone.
#[derive(Clone)]
pub(super) struct LayerReadings {
    readings: Arc<Memo<BlobFinding<KnownLayer>>>,
    unpacked: UnpackedLayers,
    clock: Clock,
    /// The directory for temporary files.
    scratch: PathBuf,
    large_windows: Arc<Semaphore>,
}

/// Stores the `diff_id` of layers. Results that cannot be stored are kept and stored later, because the layer is not
/// read again. Cheap to clone.
#[derive(Clone)]
struct UnpackedLayers {
    store: FactStore,
    pending: Arc<Mutex<HashMap<Digest, Digest>>>,
}

impl UnpackedLayers {
    async fn record(&self, layer: Digest, diff_id: Digest, now: Timestamp) {
        self.store_all(Some((layer, diff_id)), now).await;
    }

    /// Stores the waiting results. Those that still cannot be stored keep waiting.
    async fn record_pending(&self, now: Timestamp) {
        self.store_all(None, now).await;
    }

    async fn store_all(&self, new: Option<(Digest, Digest)>, now: Timestamp) {
        let waiting: Vec<(Digest, Digest)> = {
            let mut pending = self.pending();
            let waiting = pending.iter().map(|(layer, diff_id)| (*layer, *diff_id)).chain(new).collect();
            let has_room = pending.len() < MAX_PENDING;
            pending.extend(new.filter(|_| has_room));
            waiting
        };
        // Each is kept until it is stored, even if the request ends earlier.
        for (layer, diff_id) in waiting {
            if let Err(error) = self.store.record_unpacked(layer, diff_id, now).await {
                tracing::warn!(%error, %layer, "the diff_id of a layer cannot be stored; will retry");
                return;
            }
            self.pending().remove(&layer);
        }
    }

    fn pending(&self) -> MutexGuard<'_, HashMap<Digest, Digest>> {
        self.pending.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LayerReadings {
    /// `scratch` is the directory in which large files of a layer are kept while they are examined.
    pub(super) fn new(scratch: PathBuf, store: &FactStore, clock: &Clock, tasks: &Tasks) -> Self {
        let readings = Memo::new("layer-11", store.clone(), clock.clone(), tasks.clone());
        let unpacked = UnpackedLayers { store: store.clone(), pending: Arc::default() };
        let large_windows = Arc::new(Semaphore::new(LARGE_WINDOWS));
        Self { readings: Arc::new(readings), unpacked, clock: clock.clone(), scratch, large_windows }
    }

    /// The contents of a layer. It is read through the cache, following a download that is under way, so that the pull
    /// finds it there. `algorithm` is that of the `diff_id`.
    ///
    /// # Errors
    /// If the layer cannot be read completely.
    pub(super) async fn of(
        &self,
        reader: &BlobReader,
        layer: &Descriptor,
        algorithm: Algorithm,
    ) -> Result<KnownLayer, CacheError> {
        let (digest, clock, unpacked) = (layer.digest, self.clock.clone(), self.unpacked.clone());
        let work = LayerWork {
            bytes: reader.clone(),
            blob: layer.clone(),
            algorithm,
            scratch: self.scratch.clone(),
            large_windows: self.large_windows.clone(),
        };
        unpacked.record_pending(clock.now()).await;
        let gather = || async move {
            let read = work.read().await;
            let known = |read: Option<io::Result<LayerReading>>| match read {
                Some(Ok(LayerReading { diff_id, contents, ended_early, table, .. })) => {
                    let (diff_id, inventory) = (diff_id.ok(), Arc::new(contents));
                    Ok(KnownLayer { digest, diff_id, inventory, ended_early, table })
                }
                Some(Err(error)) => Err(CacheError::Disk(error.to_string())),
                None => Err(CacheError::Busy),
            };
            let layer = read.and_then(known);
            let ended_early = layer.as_ref().is_ok_and(|layer| layer.ended_early);
            // The author of an image chooses the algorithm of its own `diff_ids`; layers are compared by one.
            if algorithm == Algorithm::Sha256
                && let Ok(KnownLayer { diff_id: Some(diff_id), ended_early: false, .. }) = &layer
            {
                unpacked.record(digest, *diff_id, clock.now()).await;
            }
            KnownLayer::observed(layer, ended_early, &clock)
        };
        BlobFinding::known(
            self.readings.obtain_from(reader.name(), key(layer, algorithm), BlobFinding::is_known, gather).await,
        )
    }
}

/// What is needed to read a layer.
struct LayerWork {
    bytes: BlobReader,
    blob: Descriptor,
    algorithm: Algorithm,
    scratch: PathBuf,
    large_windows: Arc<Semaphore>,
}

impl LayerWork {
    /// Reads the layer. It is read again if it needs a large zstd window, of which there are few, and if hard links
    /// give its files other names.
    async fn read(&self) -> Result<Option<io::Result<LayerReading>>, CacheError> {
        let compares_table = is_read_lazily(&self.blob);
        let mut limits = LayerLimits { compares_table, ..LayerLimits::of(self.blob.size) };
        let mut window = None;
        let mut read = self.pass(limits, LinkedNames::new()).await;
        if let Ok(Some(Ok(first))) = &read
            && first.needs_window
        {
            window = self.large_windows.clone().acquire_owned().await.ok();
            limits.window = LARGE_WINDOW;
            read = self.pass(limits, LinkedNames::new()).await;
        }
        if let Ok(Some(Ok(first))) = &mut read
            && !first.unread.is_empty()
            && !first.ended_early
        {
            let linked = std::mem::take(&mut first.unread);
            read = self.pass(limits, linked).await;
        }
        drop(window);
        read
    }

    async fn pass(
        &self,
        limits: LayerLimits,
        linked: LinkedNames,
    ) -> Result<Option<io::Result<LayerReading>>, CacheError> {
        let (algorithm, scratch) = (self.algorithm, self.scratch.clone());
        let work = move |bytes| match linked.is_empty() {
            true => inventory::read_layer(bytes, algorithm, &limits, &scratch),
            false => inventory::read_layer_again(bytes, algorithm, &limits, &scratch, &linked),
        };
        self.bytes.read_with("layer", &self.blob, work).await
    }
}

/// A layer that some clients read by its table is read for that, too.
fn key(layer: &Descriptor, algorithm: Algorithm) -> Arc<str> {
    let table = if is_read_lazily(layer) { " table" } else { "" };
    format!("{} {}{table}", layer.digest, algorithm.name()).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    #[tokio::test]
    async fn unstored_results_are_stored_later() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        let unpacked = UnpackedLayers { store: store.facts.clone(), pending: Arc::default() };
        let now = Timestamp::UNIX_EPOCH;
        let digests = [b"a", b"b"].map(|layer| Digest::sha256(layer));
        let diff_id = Digest::sha256(b"unpacked");
        store.forbid_writing(true).await;
        for layer in digests {
            unpacked.record(layer, diff_id, now).await;
        }
        assert!(store.facts.unpacked_alike(&digests).await.unwrap().is_empty());
        store.forbid_writing(false).await;
        unpacked.record_pending(now).await;
        assert_eq!(store.facts.unpacked_alike(&digests).await.unwrap(), digests.map(|layer| (layer, diff_id)).into());
        assert!(unpacked.pending().is_empty());
    }
}
