//! Tracks whether the process is ready to serve, and which parts of it are degraded.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// The conditions for readiness, and the degraded components. Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Readiness(Arc<Mutex<ReadinessState>>);

impl Readiness {
    /// Creates a state that is ready, with nothing degraded.
    pub fn new() -> Self {
        Self::default()
    }

    /// Blocks readiness until the guard is dropped. Several guards may have the same name.
    pub fn block(&self, name: &str) -> BlockReady {
        *self.state().awaited.entry(name.to_owned()).or_default() += 1;
        BlockReady { readiness: self.clone(), name: name.to_owned() }
    }

    /// Marks the component `name` as degraded for the given reason; `None` marks it as healthy again.
    pub fn degraded(&self, name: &str, why: Option<String>) {
        let mut state = self.state();
        match why {
            Some(why) => state.degraded.insert(name.to_owned(), why),
            None => state.degraded.remove(name),
        };
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
        let (degraded, details) = (state.degraded.clone(), state.details.clone());
        ReadinessReport { ready: awaited.is_empty(), awaited, degraded, details }
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
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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
    /// Whether this process should receive requests. Degraded components do not make it false.
    pub ready: bool,
    /// The conditions that are not met yet.
    pub awaited: Vec<String>,
    /// The degraded components, each with the reason.
    pub degraded: BTreeMap<String, String>,
    /// What is known about parts of the process, such as the age of trusted roots.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub details: BTreeMap<String, Vec<String>>,
}

#[derive(Debug, Default)]
struct ReadinessState {
    awaited: BTreeMap<String, usize>,
    degraded: BTreeMap<String, String>,
    details: BTreeMap<String, Vec<String>>,
}

#[cfg(test)]
mod tests {
    use super::Readiness;

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
}
