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

    /// Renders the metrics in the older text format of Prometheus, version 0.0.4, for clients that do not know
    /// OpenMetrics.
    pub fn render_plain(&self) -> String {
        plain(&self.render())
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

/// Rewrites the OpenMetrics format as the text format 0.0.4, with the same samples. Here, HELP and TYPE have the name
/// of the samples, which in OpenMetrics has a suffix for some types; UNIT and EOF do not exist.
fn plain(open_metrics: &str) -> String {
    let (mut text, mut help) = (String::with_capacity(open_metrics.len()), None);
    for line in open_metrics.lines() {
        let mut words = line.splitn(4, ' ');
        match [words.next(), words.next(), words.next(), words.next()] {
            [Some("#"), Some("HELP"), _, about] => help = about,
            [Some("#"), Some("TYPE"), Some(name), Some(kind)] => {
                let (suffix, kind) = match kind {
                    "counter" => ("_total", "counter"),
                    "info" => ("_info", "gauge"),
                    "unknown" => ("", "untyped"),
                    kind => ("", kind),
                };
                if let Some(about) = help.take() {
                    text.push_str(&format!("# HELP {name}{suffix} {about}\n"));
                }
                text.push_str(&format!("# TYPE {name}{suffix} {kind}\n"));
            }
            [Some("#"), ..] => {}
            _ => {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use prometheus_client::metrics::counter::Counter;
    use prometheus_client::metrics::gauge::Gauge;
    use prometheus_client::metrics::histogram::Histogram;

    use super::*;

    #[test]
    fn the_plain_format_names_types_as_prometheus_does() {
        let metrics = Metrics::default();
        let counter: Counter = metrics.register_with_unit("sent", "Bytes", Unit::Bytes, Counter::default());
        counter.inc_by(7);
        let _: Gauge = metrics.register("open", "Connections", Gauge::default());
        metrics.register_with_unit("wait", "Waits", Unit::Seconds, Histogram::new([1.0])).observe(0.5);
        let text = metrics.render_plain();
        for wanted in [
            "# HELP pullgate_build_info The version of pullgate; the value is always 1.\n# TYPE pullgate_build_info gauge\n\
             pullgate_build_info{",
            "# HELP pullgate_sent_bytes_total Bytes.\n# TYPE pullgate_sent_bytes_total counter\npullgate_sent_bytes_total 7\n",
            "# TYPE pullgate_open gauge\npullgate_open 0\n",
            "# TYPE pullgate_wait_seconds histogram\npullgate_wait_seconds_sum 0.5\n",
            "# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total ",
        ] {
            assert!(text.contains(wanted), "{wanted}\n{text}");
        }
        assert!(!text.contains("# UNIT") && !text.contains("# EOF"), "{text}");
        let samples = |text: &str| text.lines().filter(|line| !line.starts_with('#')).count();
        assert_eq!(samples(&text), samples(&metrics.render()));
    }
}
