//! How things stand, for operators.

use serde::{Deserialize, Serialize};

use super::{Cache, CacheError, TOPIC};

/// How things stand in the cache.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Status {
    /// What content may take of the disk, in bytes.
    pub max_bytes: u64,
    /// What it takes.
    pub stored_bytes: u64,
    /// What running downloads will take.
    pub reserved_bytes: u64,
    /// Blobs on disk.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Manifests on disk.
    pub manifests: u64,
    /// Their bytes.
    pub manifest_bytes: u64,
    /// Bytes of small objects in memory.
    pub memory_bytes: u64,
    /// What the disk has free, in bytes.
    pub disk_free_bytes: u64,
    /// What the rows of the database take, in bytes.
    pub database_bytes: u64,
    /// What they may take.
    pub max_database_bytes: u64,
    /// Downloads under way.
    pub fills: u64,
    /// Why nothing is cached just now.
    pub trouble: Option<String>,
}

/// What a collection brought.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Collected {
    /// Bytes of content that went.
    pub freed_bytes: u64,
    /// Rows that were forgotten.
    pub forgotten_rows: u64,
    /// By how many bytes the database's file became smaller.
    pub database_bytes: u64,
}

impl Cache {
    /// How things stand.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn status(&self) -> Result<Status, CacheError> {
        let inner = &self.inner;
        let totals = inner.store.content_totals().await.map_err(CacheError::store)?;
        let space = inner.disk.space().map_err(|error| CacheError::Disk(error.to_string()))?;
        Ok(Status {
            max_bytes: inner.config.max_size,
            stored_bytes: inner.usage.stored(),
            reserved_bytes: inner.usage.reserved(),
            blobs: totals.blobs,
            blob_bytes: totals.blob_bytes,
            manifests: totals.manifests,
            manifest_bytes: totals.manifest_bytes,
            memory_bytes: inner.memory.weighted_size(),
            disk_free_bytes: space.free,
            database_bytes: inner.store.live_bytes().await.map_err(CacheError::store)?,
            max_database_bytes: inner.config.max_database,
            fills: u64::try_from(inner.metrics.fills.get()).unwrap_or_default(),
            trouble: inner.readiness.report().degraded.get(TOPIC).cloned(),
        })
    }
}
