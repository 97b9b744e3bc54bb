//! A histogram metric for events that occur in every request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::{MetricType, TypedMetric};

use super::Sharded;

/// The bounds of the buckets, in seconds, and one bucket for everything longer.
const SECONDS: [f64; 7] = [0.001, 0.01, 0.1, 0.5, 2.5, 10.0, 30.0];

/// Durations, in few buckets. Each processor core counts separately, so observing one needs no lock and writes to no
/// memory that other cores write to. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct BusyHistogram(Arc<Sharded<Durations>>);

/// The durations that one processor core has seen.
#[derive(Debug, Default)]
struct Durations {
    counts: [AtomicU64; SECONDS.len() + 1],
    /// The sum. It overflows after 584 years.
    nanoseconds: AtomicU64,
}

impl BusyHistogram {
    /// Counts a duration.
    pub fn observe(&self, duration: Duration) {
        let seconds = duration.as_secs_f64();
        let bucket = SECONDS.partition_point(|bound| *bound < seconds);
        let mine = self.0.mine();
        mine.counts[bucket].fetch_add(1, Ordering::Relaxed);
        let nanoseconds = u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX);
        mine.nanoseconds.fetch_add(nanoseconds, Ordering::Relaxed);
    }
}

impl TypedMetric for BusyHistogram {
    const TYPE: MetricType = MetricType::Histogram;
}

impl EncodeMetric for BusyHistogram {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let total = |bucket: usize| self.0.iter().map(|one| one.counts[bucket].load(Ordering::Relaxed)).sum();
        let bounds = SECONDS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<(f64, u64)> = bounds.enumerate().map(|(bucket, bound)| (bound, total(bucket))).collect();
        let sum: Duration =
            self.0.iter().map(|one| Duration::from_nanos(one.nanoseconds.load(Ordering::Relaxed))).sum();
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(sum.as_secs_f64(), count, &buckets, None)
    }

    fn metric_type(&self) -> MetricType {
        Self::TYPE
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Metrics;

    #[test]
    fn buckets_are_cumulative_and_include_their_bound() {
        let metrics = Metrics::default();
        let histogram = metrics.register("took_seconds", "A test", BusyHistogram::default());
        for milliseconds in [0, 1, 2, 10, 45_000] {
            histogram.observe(Duration::from_millis(milliseconds));
        }
        std::thread::scope(|scope| scope.spawn(|| histogram.observe(Duration::from_millis(100))).join().unwrap());
        let text = metrics.render();
        for line in [
            "bucket{le=\"0.001\"} 2",
            "bucket{le=\"0.01\"} 4",
            "bucket{le=\"0.1\"} 5",
            "bucket{le=\"30.0\"} 5",
            "bucket{le=\"+Inf\"} 6",
            "sum 45.113",
            "count 6",
        ] {
            assert!(text.contains(&format!("pullgate_took_seconds_{line}\n")), "{line}\n{text}");
        }
    }
}
