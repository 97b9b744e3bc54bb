//! What the bytes of layers say. Each layer is read once, for all images and repositories that contain it, and what was
//! read is kept for ever.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};
use std::io;
use std::path::PathBuf;
use std::sync::Arc;

use crate::cache::{BlobFinding, BlobReader, CacheError};
use crate::inventory::{self, LayerInventory, LayerLimits, LayerReading};
use crate::oci::{Algorithm, Descriptor, Digest};
use crate::policy::Observed;
use crate::runtime::{Clock, Tasks};
use crate::store::{FactStore, Memo};

/// How long the reading of a layer that took too long is kept. After that, it is read again.
const RETRY: SignedDuration = SignedDuration::from_hours(24);

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
}

impl KnownLayer {
    /// What was found in layers, with its expiry: for ever, if all were read to their end.
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
    store: FactStore,
    clock: Clock,
    /// The directory for temporary files.
    scratch: PathBuf,
}

impl LayerReadings {
    /// `scratch` is the directory in which large files of a layer are kept while they are examined.
    pub(super) fn new(scratch: PathBuf, store: &FactStore, clock: &Clock, tasks: &Tasks) -> Self {
        let readings = Memo::new("layer-6", store.clone(), clock.clone(), tasks.clone());
        Self { readings: Arc::new(readings), store: store.clone(), clock: clock.clone(), scratch }
    }

    /// What a layer says. It is read through the cache, following a download that is under way, so that the pull finds
    /// it there. `algorithm` is that of the `diff_id`.
    ///
    /// # Errors
    /// If the layer cannot be read completely.
    pub(super) async fn of(
        &self,
        reader: &BlobReader,
        layer: &Descriptor,
        algorithm: Algorithm,
    ) -> Result<KnownLayer, CacheError> {
        let (reader, blob, clock, scratch) = (reader.clone(), layer.clone(), self.clock.clone(), self.scratch.clone());
        let store = self.store.clone();
        let gather = || async move {
            let (digest, limits) = (blob.digest, LayerLimits::of(blob.size));
            let again = scratch.clone();
            let work = move |bytes| inventory::read_layer(bytes, algorithm, &limits, &scratch);
            let mut read = reader.read_with("layer", &blob, work).await;
            if let Ok(Some(Ok(first))) = &mut read
                && !first.unread.is_empty()
                && !first.ended_early
            {
                let linked = std::mem::take(&mut first.unread);
                let work = move |bytes| inventory::read_layer_again(bytes, algorithm, &limits, &again, &linked);
                read = reader.read_with("layer", &blob, work).await;
            }
            let known = |read: Option<io::Result<LayerReading>>| match read {
                Some(Ok(LayerReading { diff_id, contents, ended_early, .. })) => {
                    Ok(KnownLayer { digest, diff_id: diff_id.ok(), inventory: Arc::new(contents), ended_early })
                }
                Some(Err(error)) => Err(CacheError::Disk(error.to_string())),
                None => Err(CacheError::Busy),
            };
            let layer = read.and_then(known);
            let ended_early = layer.as_ref().is_ok_and(|layer| layer.ended_early);
            // The author of an image chooses the algorithm of its own `diff_ids`; layers are compared by one.
            if algorithm == Algorithm::Sha256
                && let Ok(KnownLayer { diff_id: Some(diff_id), ended_early: false, .. }) = &layer
                && let Err(error) = store.record_unpacked(digest, *diff_id, clock.now()).await
            {
                tracing::warn!(%error, layer = %digest, "what a layer is unpacked to cannot be stored");
            }
            KnownLayer::observed(layer, ended_early, &clock)
        };
        BlobFinding::known(self.readings.obtain(key(layer, algorithm), BlobFinding::is_known, gather).await)
    }
}

fn key(layer: &Descriptor, algorithm: Algorithm) -> Arc<str> {
    format!("{} {}", layer.digest, algorithm.name()).into()
}
