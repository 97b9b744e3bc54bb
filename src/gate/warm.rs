//! Decisions made a moment ago, for requests that ask the same again: a whole fleet pulls one image at once.
//!
//! A decision is a pure function of rules, facts, evidence and time. It may be repeated until one of them changes: the
//! [`Epoch`] counts the changes of the first three, and `until` is the end of what holds for a limited time.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use quick_cache::Weighter;
use quick_cache::sync::Cache;

use super::{Answer, GateError};
use crate::audit::DecisionText;
use crate::oci::Manifest;
use crate::policy::Permit;
use crate::runtime::{BusyCounter, Clock, Epoch, Moment};

/// How long an admission without reservations is repeated at most.
const ADMITTED_FOR: SignedDuration = SignedDuration::from_secs(30);
/// How long everything else is repeated at most.
const OTHERS_FOR: SignedDuration = SignedDuration::from_secs(1);
/// How much memory the decisions may take, in bytes.
const MAX_BYTES: usize = 48 * 1024 * 1024;
/// What a decision takes besides its key, its manifest and its record, in bytes.
const DECISION_WEIGHT: usize = 1024;

/// Decisions that may be repeated, by the text of everything in a request that they depend on.
pub(super) struct WarmAnswers {
    answers: Cache<Arc<str>, Arc<WarmAnswer>, Bytewise>,
    epoch: Epoch,
    clock: Clock,
}

/// Weighs answers by the memory that they take.
#[derive(Clone)]
struct Bytewise;

impl Weighter<Arc<str>, Arc<WarmAnswer>> for Bytewise {
    fn weight(&self, key: &Arc<str>, warm: &Arc<WarmAnswer>) -> u64 {
        (key.len() + warm.weight()) as u64
    }
}

/// A decision that may be repeated.
pub struct WarmAnswer {
    outcome: WarmOutcome,
    pub(super) record: DecisionText,
    pub(super) counters: Vec<BusyCounter>,
    basis: Basis,
    until: Timestamp,
}

/// What was decided.
pub enum WarmOutcome {
    /// A manifest was admitted.
    Admitted {
        /// The manifest.
        manifest: Arc<Manifest>,
        /// What admitted it.
        permit: Permit,
    },
    /// The request was refused.
    Refused(GateError),
}

/// When a decision was begun, before anything was read that may change.
#[derive(Clone, Copy, Debug)]
pub(super) struct Basis {
    pub(super) moment: Moment,
    pub(super) time: Timestamp,
}

/// How long a decision holds as far as its evidence says.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Validity {
    /// The end of the evidence and of what the tag means; `None` where neither ends by itself.
    pub(super) until: Option<Timestamp>,
    /// Whether an image was admitted with nothing to report.
    pub(super) is_clean: bool,
}

impl WarmOutcome {
    /// The outcome as far as it may be repeated: what depends on an upstream's state of the moment is not.
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

    /// What was decided.
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

    /// The decision on the same request, where it still holds.
    pub(super) fn recall(&self, key: &str) -> Option<Arc<WarmAnswer>> {
        self.answers.get(key).filter(|warm| self.holds(warm))
    }

    /// Keeps a decision for requests of the same key.
    pub(super) fn keep(&self, key: &str, answer: WarmAnswer) {
        self.answers.insert(key.into(), Arc::new(answer));
    }

    /// Whether nothing has changed since the decision was made.
    pub(super) fn holds(&self, warm: &WarmAnswer) -> bool {
        let now = self.clock.now();
        // A clock that was set back says nothing about how old a decision is.
        warm.basis.time <= now && now < warm.until && self.epoch.is_now(&warm.basis.moment)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decision_holds_until_something_changes_or_its_time_is_over() {
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
