//! Metrics of scanners that are not part of the gate.

use std::time::Duration;

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;

use crate::runtime::Metrics;

/// The bounds of the histogram of durations, in seconds.
const SECONDS: [f64; 12] = [0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1200.0, 1800.0];

type ScannerLabels = [(&'static str, String); 1];

/// The metrics of all scanners. Cheap to clone.
#[derive(Clone, Debug)]
pub(in crate::va) struct ScannerMetrics {
    scans: Family<[(&'static str, String); 2], Counter>,
    seconds: Family<ScannerLabels, Histogram, fn() -> Histogram>,
    usable: Family<ScannerLabels, Gauge>,
    database: Family<ScannerLabels, Gauge>,
}

impl ScannerMetrics {
    pub(in crate::va) fn new(metrics: &Metrics) -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(SECONDS);
        Self {
            scans: metrics.register("va_scans", "Scans by other scanners, by outcome", Family::default()),
            seconds: metrics.register(
                "va_scan_seconds",
                "Duration of scans by other scanners, without the wait for a turn",
                Family::new_with_constructor(histogram),
            ),
            usable: metrics.register("va_scanner_usable", "Whether a scanner can be asked", Family::default()),
            database: metrics.register(
                "va_scanner_database_seconds",
                "When the database of a scanner was built, in seconds since 1970",
                Family::default(),
            ),
        }
    }

    /// Counts a scan: `report`, `incomplete` or `failed`.
    pub(super) fn scanned(&self, scanner: &str, outcome: &str, took: Duration) {
        self.scans.get_or_create(&[("scanner", scanner.to_owned()), ("outcome", outcome.to_owned())]).inc();
        self.seconds.get_or_create(&[("scanner", scanner.to_owned())]).observe(took.as_secs_f64());
    }

    /// Says whether a scanner can be asked, and when its database was built, if that is known.
    pub(super) fn probed(&self, scanner: &str, is_usable: bool, built: Option<jiff::Timestamp>) {
        let labels = [("scanner", scanner.to_owned())];
        self.usable.get_or_create(&labels).set(is_usable.into());
        if let Some(built) = built {
            self.database.get_or_create(&labels).set(built.as_second());
        }
    }
}
