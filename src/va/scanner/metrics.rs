//! Metrics of the gate's own scanner.

use std::time::Instant;

use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use super::{INVENTORIES, Scanner};
use crate::runtime::Metrics;

/// The bounds of the histogram of durations, in seconds. A usual image takes about a millisecond.
const SECONDS: [f64; 12] = [0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0];

/// How many images are known, and how long they take to be matched with the advisory databases. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct MatchMetrics {
    images: Gauge,
    seconds: Histogram,
}

impl MatchMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let help = "Duration of matching what is installed in an image with the advisory databases";
        Self {
            images: metrics.register("va_images", "Images whose installed packages are known", Gauge::default()),
            seconds: metrics.register("va_match_seconds", help, Histogram::new(SECONDS)),
        }
    }

    /// Does the work, and counts how long it takes.
    pub(super) fn of<T>(&self, work: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let done = work();
        self.seconds.observe(began.elapsed().as_secs_f64());
        done
    }
}

impl Scanner {
    /// Updates the number of images that are known. If the database does not answer, it stays.
    pub async fn count_images(&self) {
        if let Ok(count) = self.store.count_evidence(INVENTORIES).await {
            self.metrics.images.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_match_is_counted() {
        let metrics = Metrics::default();
        let seconds = MatchMetrics::new(&metrics);
        assert_eq!([1, 2].map(|value| seconds.of(|| value)), [1, 2]);
        let rendered = metrics.render();
        assert!(rendered.contains("pullgate_va_match_seconds_count 2"), "{rendered}");
    }
}
