//! Tracks whether the process is ready to serve, and which parts of it are degraded.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use serde::Serialize;

use super::Metrics;

/// The conditions for readiness, and the state of each part of the process. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    state: Arc<Mutex<ReadinessState>>,
    degraded: Family<PartLabel, Gauge>,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct PartLabel {
    part: String,
}

impl Readiness {
    /// Creates a state that is ready, with nothing degraded. It has no metric.
    pub fn new() -> Self {
        Self::default()
    }

    /// As above, with the metric `pullgate_degraded`, which has a series for each part that has ever been reported.
    pub fn measured(metrics: &Metrics) -> Self {
        let help = "Whether a part of the gate is degraded (1) or healthy (0); /readyz gives the reason";
        Self { degraded: metrics.register("degraded", help, Family::default()), ..Self::default() }
    }

    /// Blocks readiness until the guard is dropped. Several guards may have the same name.
    pub fn block(&self, name: &str) -> BlockReady {
        *self.state().awaited.entry(name.to_owned()).or_default() += 1;
        BlockReady { readiness: self.clone(), name: name.to_owned() }
    }

    /// Blocks readiness until the end of the process: it stops.
    pub fn end(&self, name: &str) {
        *self.state().awaited.entry(name.to_owned()).or_default() += 1;
    }

    /// Marks the part `name` as degraded for the given reason; `None` marks it as healthy. A part is listed from its
    /// first report on, so each part reports `None` when it starts.
    pub fn degraded(&self, name: &str, why: Option<String>) {
        self.degraded.get_or_create(&PartLabel { part: name.to_owned() }).set(why.is_some().into());
        self.state().parts.insert(name.to_owned(), why);
    }

    /// Stops listing a part that the gate no longer has.
    pub fn forget(&self, name: &str) {
        self.degraded.remove(&PartLabel { part: name.to_owned() });
        self.state().parts.remove(name);
    }

    /// Replaces what is known about a part, for people who ask for details. One line for each fact.
    pub fn inform(&self, name: &str, facts: Vec<String>) {
        let mut state = self.state();
        match facts.is_empty() {
            true => state.details.remove(name),
            false => state.details.insert(name.to_owned(), facts),
        };
    }

    /// The current state.
    pub fn report(&self) -> ReadinessReport {
        let state = self.state();
        let awaited: Vec<String> = state.awaited.keys().cloned().collect();
        let is_healthy = |part: &(&String, &Option<String>)| part.1.is_none();
        let healthy = state.parts.iter().filter(is_healthy).map(|(name, _)| name.clone()).collect();
        let degraded = state.parts.iter().filter_map(|(name, why)| Some((name.clone(), why.clone()?))).collect();
        ReadinessReport { ready: awaited.is_empty(), awaited, degraded, details: state.details.clone(), healthy }
    }

    fn release(&self, name: &str) {
        let mut state = self.state();
        let Some(count) = state.awaited.get_mut(name) else { return };
        *count -= 1;
        if *count == 0 {
            state.awaited.remove(name);
            let awaited: Vec<&String> = state.awaited.keys().collect();
            tracing::info!(part = name, ?awaited, "ready");
        }
    }

    fn state(&self) -> MutexGuard<'_, ReadinessState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Blocks readiness while it exists.
#[derive(Debug)]
pub struct BlockReady {
    readiness: Readiness,
    name: String,
}

impl Drop for BlockReady {
    fn drop(&mut self) {
        self.readiness.release(&self.name);
    }
}

/// The state at one moment.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct ReadinessReport {
    /// Whether this process should receive requests. Degraded parts do not make it false.
    pub ready: bool,
    /// The conditions that are not met yet.
    pub awaited: Vec<String>,
    /// The degraded parts, each with the reason.
    pub degraded: BTreeMap<String, String>,
    /// Notes on parts of the process, such as the age of trusted roots.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, Vec<String>>,
    /// The parts that work.
    #[serde(skip)]
    pub healthy: Vec<String>,
}

impl ReadinessReport {
    /// The report as lines, in the form that Kubernetes uses for `/readyz?verbose`:
    ///
    /// ```text
    /// [+]certificates ok
    /// [-]policy: policies/acme.yaml:3:1: unknown key
    /// mode: enforce
    /// readyz: ready, but degraded
    /// ```
    pub fn text(&self) -> String {
        let mut states: BTreeMap<&str, Option<&str>> = self.healthy.iter().map(|name| (&**name, None)).collect();
        states.extend(self.awaited.iter().map(|name| (&**name, Some("not ready"))));
        states.extend(self.degraded.iter().map(|(name, why)| (&**name, Some(&**why))));
        let mut text = String::new();
        // Writing to a string cannot fail.
        for (name, why) in states {
            let _ = match why {
                None => writeln!(text, "[+]{name} ok"),
                Some(why) => writeln!(text, "[-]{name}: {}", why.trim_end().replace('\n', "\n   ")),
            };
        }
        for (name, facts) in &self.details {
            let _ = match &facts[..] {
                [fact] => writeln!(text, "{name}: {fact}"),
                facts => writeln!(text, "{name}:\n  {}", facts.join("\n  ")),
            };
        }
        let outcome = match (self.ready, self.degraded.is_empty()) {
            (true, true) => "ready",
            (true, false) => "ready, but degraded",
            (false, _) => "not ready",
        };
        let _ = writeln!(text, "readyz: {outcome}");
        text
    }
}

#[derive(Debug, Default)]
struct ReadinessState {
    awaited: BTreeMap<String, usize>,
    /// Every part, with the reason why it is degraded.
    parts: BTreeMap<String, Option<String>>,
    details: BTreeMap<String, Vec<String>>,
}

#[cfg(test)]
mod tests {
    use super::{Metrics, Readiness};

    #[test]
    fn is_ready_when_the_last_guard_of_each_name_is_gone() {
        let readiness = Readiness::new();
        assert!(readiness.report().ready);
        let (first, second) = (readiness.block("listener"), readiness.block("listener"));
        let third = readiness.block("store");
        assert_eq!(readiness.report().awaited, ["listener", "store"]);
        drop((first, third));
        assert_eq!(readiness.report().awaited, ["listener"]);
        drop(second);
        assert!(readiness.report().ready);
        readiness.end("draining");
        assert_eq!(readiness.report().awaited, ["draining"]);
    }

    #[test]
    fn degraded_components_are_reported_and_do_not_block_readiness() {
        let readiness = Readiness::new();
        readiness.degraded("policy", Some("b.yaml:3: unknown key".into()));
        let report = readiness.report();
        assert!(report.ready);
        assert_eq!(report.degraded["policy"], "b.yaml:3: unknown key");
        readiness.degraded("policy", None);
        assert!(readiness.report().degraded.is_empty());
    }

    #[test]
    fn text_has_a_line_for_each_part() {
        let readiness = Readiness::new();
        readiness.degraded("cache", None);
        assert_eq!(readiness.report().text(), "[+]cache ok\nreadyz: ready\n");
        readiness.degraded("policy", Some("a.yaml:3: unknown key\nb.yaml:1: no kind\n".into()));
        readiness.inform("mode", vec!["enforce".into()]);
        readiness.inform("trusted roots", vec!["one".into(), "two".into()]);
        let rest = "mode: enforce\ntrusted roots:\n  one\n  two\n";
        let parts = "[+]cache ok\n[-]policy: a.yaml:3: unknown key\n   b.yaml:1: no kind\n";
        assert_eq!(readiness.report().text(), format!("{parts}{rest}readyz: ready, but degraded\n"));
        let (_store, _policy) = (readiness.block("store"), readiness.block("policy"));
        assert_eq!(readiness.report().text(), format!("{parts}[-]store: not ready\n{rest}readyz: not ready\n"));
    }

    #[test]
    fn every_part_has_a_series() {
        let metrics = Metrics::default();
        let readiness = Readiness::measured(&metrics);
        readiness.degraded("cache", None);
        readiness.degraded("policy", Some("broken".into()));
        let text = metrics.render();
        for line in ["pullgate_degraded{part=\"cache\"} 0\n", "pullgate_degraded{part=\"policy\"} 1\n"] {
            assert!(text.contains(line), "{text}");
        }
        readiness.degraded("policy", None);
        assert!(metrics.render().contains("pullgate_degraded{part=\"policy\"} 0\n"));
    }
}
