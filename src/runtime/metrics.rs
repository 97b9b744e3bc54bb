//! The Prometheus registry. Each component registers its metrics and keeps the handles.

use std::env::consts::{ARCH, OS};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::{encode, encode_registry};
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry, Unit};

use super::process::ProcessCollector;

/// All metrics of the process: `pullgate_…`, and `process_…` for the process itself. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Mutex<Registries>>);

#[derive(Debug)]
struct Registries {
    pullgate: Registry,
    process: Registry,
    /// The names and types of all metrics of `pullgate`, as in `# TYPE` lines.
    #[cfg(test)]
    names: Vec<(String, String)>,
}

impl Default for Metrics {
    fn default() -> Self {
        let (mut pullgate, mut process) = (Registry::with_prefix("pullgate"), Registry::default());
        process.register_collector(Box::new(ProcessCollector));
        let build = Info::new([("version", env!("CARGO_PKG_VERSION")), ("arch", ARCH), ("os", OS)]);
        pullgate.register("build", "The version of pullgate; the value is always 1", build);
        let registries = Registries {
            pullgate,
            process,
            #[cfg(test)]
            names: vec![("pullgate_build".into(), "info".into())],
        };
        Self(Arc::new(Mutex::new(registries)))
    }
}

impl Metrics {
    /// Registers a metric and returns it. The encoder appends `_total` to counters.
    pub fn register<M: Metric + Clone>(&self, name: &str, help: &str, metric: M) -> M {
        let mut registries = self.registries();
        registries.pullgate.register(name, help, metric.clone());
        #[cfg(test)]
        registries.names.push((format!("pullgate_{name}"), metric.metric_type().as_str().to_owned()));
        metric
    }

    /// Registers a metric with a unit. The encoder appends the unit to the name: `_seconds`, `_bytes`.
    pub fn register_with_unit<M: Metric + Clone>(&self, name: &str, help: &str, unit: Unit, metric: M) -> M {
        let mut registries = self.registries();
        #[cfg(test)]
        registries.names.push((format!("pullgate_{name}_{}", unit.as_str()), metric.metric_type().as_str().to_owned()));
        registries.pullgate.register_with_unit(name, help, unit, metric.clone());
        metric
    }

    /// Registers metrics that are computed whenever metrics are rendered.
    pub fn register_collector(&self, collector: Box<dyn Collector>) {
        self.registries().pullgate.register_collector(collector);
    }

    /// Renders the metrics in the OpenMetrics text format.
    pub fn render(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let registries = self.registries();
        let _ = encode_registry(&mut text, &registries.process).and_then(|()| encode(&mut text, &registries.pullgate));
        text
    }

    /// The names and types of all registered metrics as in `# TYPE` lines, including those that have no value yet.
    #[cfg(test)]
    pub(crate) fn names(&self) -> Vec<(String, String)> {
        self.registries().names.clone()
    }

    fn registries(&self) -> MutexGuard<'_, Registries> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
