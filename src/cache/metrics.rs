//! Metrics of the cache.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Unit;

use crate::runtime::Metrics;

#[derive(Clone)]
pub(super) struct CacheMetrics {
    pub(super) hits: Counter,
    pub(super) misses: Counter,
    pub(super) relayed: Counter,
    pub(super) damaged: Counter,
    pub(super) evicted_files: Counter,
    pub(super) evicted: Counter,
    pub(super) fills: Gauge,
    pub(super) stored: Gauge,
}

impl CacheMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let counter = |name, help| metrics.register(name, help, Counter::default());
        let evicted = "Bytes evicted";
        let stored = "Bytes of content on disk";
        Self {
            hits: counter("cache_hits", "Requests for content that was cached or being downloaded"),
            misses: counter("cache_misses", "Requests for content that had to be downloaded"),
            relayed: counter("cache_relayed", "Blobs streamed through without caching"),
            damaged: counter("cache_damaged", "Content removed because it was corrupt"),
            evicted_files: counter("cache_evictions", "Files evicted"),
            evicted: metrics.register_with_unit("cache_evicted", evicted, Unit::Bytes, Counter::default()),
            fills: metrics.register("cache_fills_in_flight", "Blobs being downloaded", Gauge::default()),
            stored: metrics.register_with_unit("cache_stored", stored, Unit::Bytes, Gauge::default()),
        }
    }
}
