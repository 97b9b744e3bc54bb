//! The state of the cache, for operators.

use serde::{Deserialize, Serialize};

use super::evict::percent;
use super::{Cache, CacheError, CacheInner, TOPIC};
use crate::runtime::rounded_size;

/// The state of the cache.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Status {
    /// The maximum size of content on disk, in bytes.
    pub max_bytes: u64,
    /// The size of content on disk, in bytes.
    pub stored_bytes: u64,
    /// Space reserved for running downloads, in bytes.
    pub reserved_bytes: u64,
    /// The number of blobs on disk.
    pub blobs: u64,
    /// The size of blobs on disk, in bytes.
    pub blob_bytes: u64,
    /// The number of manifests on disk.
    pub manifests: u64,
    /// The size of manifests on disk, in bytes.
    pub manifest_bytes: u64,
    /// The number of pinned images.
    pub pins: u64,
    /// The size of the content on disk that pins keep, in bytes.
    pub pinned_bytes: u64,
    /// That pins leave too little room for other images, if they do.
    pub pins_warning: Option<String>,
    /// The size of small objects in memory, in bytes.
    pub memory_bytes: u64,
    /// The free disk space, in bytes.
    pub disk_free_bytes: u64,
    /// The size of the database rows, in bytes.
    pub database_bytes: u64,
    /// The maximum size of the database rows, in bytes.
    pub max_database_bytes: u64,
    /// The number of running downloads.
    pub fills: u64,
    /// Why nothing can be cached at the moment.
    pub trouble: Option<String>,
}

/// The result of a collection.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Collected {
    /// The size of the removed content, in bytes.
    pub freed_bytes: u64,
    /// The number of removed rows.
    pub forgotten_rows: u64,
    /// By how many bytes the database file shrank.
    pub database_bytes: u64,
}

impl Cache {
    /// The number of bytes on disk.
    pub fn stored_bytes(&self) -> u64 {
        self.inner.usage.stored()
    }

    /// The current state.
    ///
    /// # Errors
    /// The database failed.
    pub async fn status(&self) -> Result<Status, CacheError> {
        let inner = &self.inner;
        let totals = inner.store.node.content_totals().await.map_err(CacheError::store)?;
        let space = inner.disk.space().map_err(|error| CacheError::Disk(error.to_string()))?;
        let (pins, pinned_bytes) = inner.store.node.pin_totals().await.map_err(CacheError::store)?;
        Ok(Status {
            pins,
            pinned_bytes,
            pins_warning: inner.pins_warning(pinned_bytes),
            max_bytes: inner.config.max_size,
            stored_bytes: inner.usage.stored(),
            reserved_bytes: inner.usage.reserved(),
            blobs: totals.blobs,
            blob_bytes: totals.blob_bytes,
            manifests: totals.manifests,
            manifest_bytes: totals.manifest_bytes,
            memory_bytes: inner.memory.bytes(),
            disk_free_bytes: space.free,
            database_bytes: inner.store.live_bytes().await.map_err(CacheError::store)?,
            max_database_bytes: inner.config.max_database,
            fills: u64::try_from(inner.metrics.fills.get()).unwrap_or_default(),
            trouble: inner.readiness.report().degraded.get(TOPIC).cloned(),
        })
    }
}

impl CacheInner {
    /// Eviction cannot reach the low watermark if pins keep more than that.
    fn pins_warning(&self, pinned_bytes: u64) -> Option<String> {
        let low = percent(self.config.max_size, self.config.low_watermark);
        (pinned_bytes > low).then(|| {
            let (pinned, low) = (rounded_size(pinned_bytes), rounded_size(low));
            format!(
                "pins keep {pinned}, more than the {low} that eviction can leave (cache.max_size, cache.low_watermark); \
                 other images are hardly cached"
            )
        })
    }
}
