//! Recent decisions, reused for identical requests: many nodes often pull one image at the same time.
//!
//! A decision is a pure function of rules, facts, evidence and time. It may be reused until one of them changes: the
//! [`Epoch`] tracks changes of the first three, and `until` is the earliest expiry of time-limited inputs.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::{Answer, GateError};
use crate::audit::DecisionText;
use crate::oci::Manifest;
use crate::policy::Permit;
use crate::runtime::{BusyCounter, Clock, Epoch, Moment, budget};

/// The maximum time for which an admission without reservations is reused.
const ADMITTED_FOR: SignedDuration = SignedDuration::from_secs(30);
/// The maximum time for which all other decisions are reused.
const OTHERS_FOR: SignedDuration = SignedDuration::from_secs(1);
/// The maximum memory for decisions, in bytes.
const MAX_BYTES: usize = budget::REPEATED as usize;
/// The memory of a decision without its key, manifest and record, in bytes.
const DECISION_WEIGHT: usize = 1024;

/// Reusable decisions, keyed by the text of everything in a request that they depend on.
pub(super) struct WarmAnswers {
    answers: Cache<Arc<str>, Arc<WarmAnswer>, Bytewise>,
    epoch: Epoch,
    clock: Clock,
}

/// Weighs answers by their memory use.
#[derive(Clone)]
struct Bytewise;

impl Weighter<Arc<str>, Arc<WarmAnswer>> for Bytewise {
    fn weight(&self, key: &Arc<str>, warm: &Arc<WarmAnswer>) -> u64 {
        (key.len() + warm.weight()) as u64
    }
}

/// A reusable decision.
pub struct WarmAnswer {
    outcome: WarmOutcome,
    pub(super) record: DecisionText,
    pub(super) counters: Vec<BusyCounter>,
    basis: Basis,
    until: Timestamp,
}

/// The outcome of a reusable decision.
pub enum WarmOutcome {
    /// A manifest was admitted.
    Admitted {
        /// The manifest.
        manifest: Arc<Manifest>,
        /// The permit that admitted it.
        permit: Permit,
    },
    /// The request was refused.
    Refused(GateError),
}

/// The state when the decision started, taken before anything that may change was read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Basis {
    pub(super) moment: Moment,
    pub(super) time: Timestamp,
}

/// How long a decision remains valid according to its evidence.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Validity {
    /// The earliest expiry of the evidence and of the tag resolution; `None` if neither expires by itself.
    pub(super) until: Option<Timestamp>,
    /// Whether an image was admitted with nothing to report.
    pub(super) is_clean: bool,
}

impl WarmOutcome {
    /// The outcome, if it may be reused: outcomes that depend on the current state of an upstream may not.
    pub(super) fn of(answer: &Result<Answer, GateError>) -> Option<Self> {
        match answer {
            Ok(Answer::Manifest { manifest, permit, stale: None }) => {
                Some(Self::Admitted { manifest: manifest.clone(), permit: permit.clone() })
            }
            Err(error) if error.is_settled() => Some(Self::Refused(error.clone())),
            _ => None,
        }
    }
}

impl WarmAnswer {
    pub(super) fn new(
        outcome: WarmOutcome,
        record: DecisionText,
        counters: Vec<BusyCounter>,
        basis: Basis,
        validity: Validity,
    ) -> Self {
        let longest = if validity.is_clean { ADMITTED_FOR } else { OTHERS_FOR };
        let most = basis.time.saturating_add(longest).unwrap_or(basis.time);
        let until = validity.until.map_or(most, |until| until.min(most));
        Self { outcome, record, counters, basis, until }
    }

    /// The outcome of the decision.
    pub fn outcome(&self) -> &WarmOutcome {
        &self.outcome
    }

    fn weight(&self) -> usize {
        let manifest = match &self.outcome {
            WarmOutcome::Admitted { manifest, .. } => manifest.bytes.len(),
            WarmOutcome::Refused(_) => 0,
        };
        manifest + self.record.len() + DECISION_WEIGHT
    }
}

impl WarmAnswers {
    pub(super) fn new(epoch: Epoch, clock: Clock) -> Self {
        Self { answers: Cache::with_weighter(MAX_BYTES / DECISION_WEIGHT, MAX_BYTES as u64, Bytewise), epoch, clock }
    }

    /// The decision on an identical request, if it is still valid.
    pub(super) fn recall(&self, key: &str) -> Option<Arc<WarmAnswer>> {
        self.answers.get(key).filter(|warm| self.holds(warm))
    }

    /// Stores a decision for requests with the same key.
    pub(super) fn keep(&self, key: &str, answer: WarmAnswer) {
        self.answers.insert(key.into(), Arc::new(answer));
    }

    /// Whether nothing has changed since the decision was made.
    pub(super) fn holds(&self, warm: &WarmAnswer) -> bool {
        let now = self.clock.now();
        // If the clock was set back, the age of a decision is unknown.
        warm.basis.time <= now && now < warm.until && self.epoch.is_now(&warm.basis.moment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_is_valid_until_something_changes_or_it_expires() {
        let (epoch, clock) = (Epoch::new(), Clock::manual(Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1000)));
        let answers = WarmAnswers::new(epoch.clone(), clock.clone());
        let keep = |name: &str, validity| {
            let outcome = WarmOutcome::Refused(GateError::NoUpstream { served: Vec::new() });
            let basis = Basis { moment: epoch.moment("a"), time: clock.now() };
            answers.keep(name, WarmAnswer::new(outcome, DecisionText::default(), Vec::new(), basis, validity));
        };
        let milliseconds = SignedDuration::from_millis;
        let ends = |seconds| Some(clock.now() + SignedDuration::from_secs(seconds));
        let clean = |until| Validity { until, is_clean: true };
        for (name, validity, held_for) in [
            ("clean", clean(None), ADMITTED_FOR),
            ("short evidence", clean(ends(5)), SignedDuration::from_secs(5)),
            ("long evidence", clean(ends(1_000_000)), ADMITTED_FOR),
            ("reservations", Validity::default(), OTHERS_FOR),
        ] {
            keep(name, validity);
            assert!(answers.recall(name).is_some(), "{name}");
            clock.advance(milliseconds(-1));
            assert!(answers.recall(name).is_none(), "{name}: the clock was set back");
            clock.advance(held_for);
            assert!(answers.recall(name).is_some(), "{name}: one millisecond before its end");
            clock.advance(milliseconds(1));
            assert!(answers.recall(name).is_none(), "{name}: at its end");
            clock.advance(-held_for);
            assert!(answers.recall(name).is_some(), "{name}");
            epoch.advance_part("b");
            assert!(answers.recall(name).is_some(), "{name}: another repository changed");
            epoch.advance_part("a");
            assert!(answers.recall(name).is_none(), "{name}: a fact changed");
        }
        keep("all", clean(None));
        epoch.advance();
        assert!(answers.recall("all").is_none(), "the rules changed");
    }
}
