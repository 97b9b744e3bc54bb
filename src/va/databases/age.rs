//! The age of the databases as a metric, which a gate without databases does not have.

use std::fmt;
use std::sync::Weak;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::{AdvisoryDatabases, DatabasesState};

/// Measures the age of the oldest database at the moment at which metrics are rendered.
#[derive(Debug)]
pub(super) struct DatabaseAge(pub(super) Weak<DatabasesState>);

impl Collector for DatabaseAge {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(databases) = self.0.upgrade().map(AdvisoryDatabases) else { return Ok(()) };
        let help = "Age of the oldest advisory database since its source built it";
        let age = encoder.encode_descriptor("advisory_age_seconds", help, None, MetricType::Gauge)?;
        let oldest = databases.open_ones().and_then(|open| open.oldest());
        let seconds = oldest.map(|oldest| databases.0.clock.now().duration_since(oldest).as_secs());
        seconds.map_or(Ok(()), |seconds| ConstGauge::new(seconds).encode(age))
    }
}

#[cfg(test)]
mod tests {
    use std::ops::ControlFlow;

    use jiff::SignedDuration;

    use super::super::{AdvisoryDatabases, DatabaseConfig, DatabaseSources};
    use crate::advisories::{AdvisoryStore, ImportOptions, import};
    use crate::runtime::{Clock, Epoch, Metrics, Readiness, Tasks};

    /// An age of 0 would look like the newest database.
    #[tokio::test]
    async fn a_gate_without_databases_has_no_age() {
        let (tasks, metrics) = (Tasks::new(), Metrics::default());
        let _databases =
            AdvisoryDatabases::open(None, &tasks, Clock::system(), Readiness::new(), Epoch::new(), &metrics);
        let rendered = metrics.render();
        assert!(rendered.contains("# TYPE pullgate_advisory_age_seconds gauge\n"), "{rendered}");
        assert!(!rendered.contains("\npullgate_advisory_age_seconds "), "{rendered}");
    }

    /// It grows while nothing happens to the databases.
    #[tokio::test]
    async fn the_age_is_measured_when_metrics_are_rendered() {
        let folder = tempfile::tempdir().unwrap();
        let (state, records) = (folder.path().join("state"), folder.path().join("records"));
        std::fs::create_dir(&records).unwrap();
        let record = r#"{"id": "A-1", "modified": "2026-01-01T00:00:00Z", "affected": [{
            "package": {"ecosystem": "PyPI", "name": "x"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}]}]}]}"#;
        std::fs::write(records.join("A-1.json"), record).unwrap();
        let clock = Clock::manual("2026-01-01T00:01:00Z".parse().unwrap());
        let store = AdvisoryStore::open(&state).unwrap();
        import(&store, &records, &ImportOptions::at(clock.now()), &mut |_| ControlFlow::Continue(())).unwrap();
        let config = DatabaseConfig { state_dir: state, max_age: None, sources: DatabaseSources::default() };
        let (tasks, metrics, readiness) = (Tasks::new(), Metrics::default(), Readiness::new());
        let databases = AdvisoryDatabases::open(Some(config), &tasks, clock.clone(), readiness, Epoch::new(), &metrics);
        databases.opened().await;
        for expected in [60, 90] {
            let rendered = metrics.render();
            assert!(rendered.contains(&format!("\npullgate_advisory_age_seconds {expected}\n")), "{rendered}");
            clock.advance(SignedDuration::from_secs(30));
        }
        tasks.stop();
    }
}
