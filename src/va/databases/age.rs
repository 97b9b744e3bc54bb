//! The age of the databases as a metric, which a gate without databases does not have.

use std::fmt;
use std::sync::Weak;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;

use super::{DatabasesState, OpenState};

/// Measures the age of the oldest database at the moment at which metrics are rendered.
#[derive(Debug)]
pub(super) struct DatabaseAge(pub(super) Weak<DatabasesState>);

impl Collector for DatabaseAge {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(state) = self.0.upgrade() else { return Ok(()) };
        let help = "Age of the oldest advisory database since its source built it";
        let age = encoder.encode_descriptor("advisory_age_seconds", help, None, MetricType::Gauge)?;
        let oldest = match &**state.current.load() {
            OpenState::Open(databases) => databases.oldest(),
            OpenState::Opening | OpenState::Failed(_) => None,
        };
        let seconds = oldest.map(|oldest| state.clock.now().duration_since(oldest).as_secs());
        seconds.map_or(Ok(()), |seconds| ConstGauge::new(seconds).encode(age))
    }
}

#[cfg(test)]
mod tests {
    use crate::runtime::{Clock, Epoch, Metrics, Readiness, Tasks};
    use crate::va::AdvisoryDatabases;

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
}
