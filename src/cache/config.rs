//! The configuration of the cache.

use std::time::Duration;

use crate::runtime::budget;

/// The configuration of the cache.
#[derive(Clone, Debug)]
pub struct Config {
    /// Content up to this size, in bytes, is served from memory.
    pub small_object: usize,
    /// The maximum memory for small objects, in bytes.
    pub memory: u64,
    /// The maximum size of content on disk, in bytes.
    pub max_size: u64,
    /// The disk space to leave free, in bytes, but never more than a tenth of the disk.
    pub min_free: u64,
    /// Eviction starts at this percentage of `max_size`.
    pub high_watermark: u64,
    /// Eviction stops at this percentage of `max_size`.
    pub low_watermark: u64,
    /// Content that was not used for this long is evicted even if there is space; `None` disables this.
    pub max_age: Option<Duration>,
    /// The maximum size of database rows, in bytes: facts about images, and evidence.
    pub max_database: u64,
    /// Facts that were not used for this long are removed, unless cached content needs them.
    pub fact_memory: Duration,
    /// The maximum number of concurrent downloads. As many blobs again can be streamed through without caching.
    pub max_fills: usize,
    /// How many downloads may continue after all their readers have left.
    pub orphan_fill_limit: usize,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            small_object: 256 * 1024,
            memory: budget::SMALL_OBJECTS,
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
