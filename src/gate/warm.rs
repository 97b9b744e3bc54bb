//! Recent decisions, reused for identical requests: many nodes often pull one image at the same time.
//!
//! A decision is a pure function of rules, facts, evidence and time. It may be reused until one of them changes: the
//! [`Epoch`] tracks changes of the first three, and `until` is the earliest expiry of time-limited inputs.

use std::borrow::Cow;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::{Answer, GateError};
use crate::audit::DecisionText;
use crate::oci::media_type;
use crate::policy::Permit;
use crate::runtime::{ALLOCATION, Bounded, BusyCounter, Clock, Epoch, Moment, budget};

/// The maximum time for which an admission without reservations is reused.
const ADMITTED_FOR: SignedDuration = SignedDuration::from_secs(30);
/// The maximum time for which all other decisions are reused.
const OTHERS_FOR: SignedDuration = SignedDuration::from_secs(1);
/// The part of the memory for decisions that holds the texts that they share, in bytes.
const SHARED: u64 = 1024 * 1024;
/// The memory of a refusal in addition to its record, in bytes.
const REFUSAL_WEIGHT: usize = 1024;

/// Reusable decisions, keyed by the text of everything in a request that they depend on. They are small, so that many
/// images fit: a decision has no manifest, only the permit for it, and shares with others what is not about its image.
pub(super) struct WarmAnswers {
    answers: Bounded<Arc<str>, Arc<WarmAnswer>>,
    shapes: Bounded<Arc<str>, Arc<str>>,
    epoch: Epoch,
    clock: Clock,
}

/// A reusable decision.
pub struct WarmAnswer {
    outcome: WarmOutcome,
    pub(super) record: DecisionText,
    /// Whether no other decision had the same text when this one was made.
    has_own_shape: bool,
    pub(super) counters: Vec<BusyCounter>,
    period: ReusePeriod,
}

/// The outcome of a reusable decision.
#[expect(clippy::large_enum_variant, reason = "most decisions that are reused are admissions")]
pub enum WarmOutcome {
    /// A manifest was admitted.
    Admitted {
        /// The media type of the manifest.
        media_type: Cow<'static, str>,
        /// Whether the manifest lists others.
        is_index: bool,
        /// The permit that admitted it.
        permit: Permit,
    },
    /// The request was refused.
    Refused(Box<GateError>),
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

/// How long a decision may be reused.
#[derive(Clone, Copy, Debug)]
pub(super) struct ReusePeriod {
    basis: Basis,
    until: Timestamp,
}

impl ReusePeriod {
    pub(super) fn new(basis: Basis, validity: Validity) -> Self {
        let longest = if validity.is_clean { ADMITTED_FOR } else { OTHERS_FOR };
        let most = basis.time.saturating_add(longest).unwrap_or(basis.time);
        Self { basis, until: validity.until.map_or(most, |until| until.min(most)) }
    }

    /// Whether nothing has changed since the decision was made.
    pub(super) fn holds(&self, epoch: &Epoch, clock: &Clock) -> bool {
        let now = clock.now();
        // If the clock was set back, the age of a decision is unknown.
        self.basis.time <= now && now < self.until && epoch.is_now(&self.basis.moment)
    }
}

impl WarmOutcome {
    /// The outcome, if it may be reused: outcomes that depend on the current state of an upstream may not.
    pub(super) fn of(answer: &Result<Answer, GateError>) -> Option<Self> {
        match answer {
            Ok(Answer::Manifest { manifest, permit, stale: None }) => {
                let media_type = media_type::constant(&manifest.media_type);
                let is_index = !manifest.children().is_empty();
                Some(Self::Admitted { media_type, is_index, permit: permit.clone() })
            }
            Err(error) if error.is_settled() => Some(Self::Refused(error.clone().into())),
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
        Self { outcome, record, has_own_shape: true, counters, period: ReusePeriod::new(basis, validity) }
    }

    /// The outcome of the decision.
    pub fn outcome(&self) -> &WarmOutcome {
        &self.outcome
    }

    /// The memory of the decision, in bytes.
    fn weight(&self) -> usize {
        let outcome = match &self.outcome {
            WarmOutcome::Admitted { permit, .. } => {
                // Denials that were not enforced, and warnings, are in the record too.
                let notes = (permit.would_deny().len() + permit.warnings().len()) * REFUSAL_WEIGHT;
                notes + permit.name().repository.as_str().len() + ALLOCATION
            }
            WarmOutcome::Refused(_) => REFUSAL_WEIGHT,
        };
        let shape = if self.has_own_shape { self.record.shape().len() + ALLOCATION } else { 0 };
        let counters = self.counters.len() * size_of::<BusyCounter>() + ALLOCATION;
        size_of::<Self>() + ALLOCATION + self.record.own_len() + ALLOCATION + outcome + shape + counters
    }
}

impl WarmAnswers {
    pub(super) fn new(epoch: Epoch, clock: Clock) -> Self {
        Self {
            answers: Bounded::new(budget::REPEATED - SHARED, |key, warm| key.len() + ALLOCATION + warm.weight()),
            shapes: Bounded::new(SHARED, |shape, _| shape.len() + ALLOCATION),
            epoch,
            clock,
        }
    }

    /// The decision on an identical request, if it is still valid.
    pub(super) fn recall(&self, key: &str) -> Option<Arc<WarmAnswer>> {
        self.answers.get(key).filter(|warm| self.holds(warm))
    }

    /// Stores a decision for requests with the same key.
    pub(super) fn keep(&self, key: &str, mut answer: WarmAnswer) {
        match self.shapes.get(&**answer.record.shape()) {
            Some(shape) => {
                answer.record = answer.record.with_shape(shape);
                answer.has_own_shape = false;
            }
            None => self.shapes.insert(answer.record.shape().clone(), answer.record.shape().clone()),
        }
        self.answers.insert(key.into(), Arc::new(answer));
    }

    /// Whether nothing has changed since the decision was made.
    pub(super) fn holds(&self, warm: &WarmAnswer) -> bool {
        warm.period.holds(&self.epoch, &self.clock)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Decided, SCHEMA};

    #[test]
    fn a_decision_is_valid_until_something_changes_or_it_expires() {
        let (epoch, clock) = (Epoch::new(), Clock::manual(Timestamp::UNIX_EPOCH + SignedDuration::from_secs(1000)));
        let answers = WarmAnswers::new(epoch.clone(), clock.clone());
        let keep = |name: &str, validity| {
            let outcome = WarmOutcome::Refused(GateError::NoUpstream { near: Vec::new() }.into());
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
    #[test]
    fn decisions_share_what_is_not_about_their_image() {
        let answers = WarmAnswers::new(Epoch::new(), Clock::system());
        let keep = |image: &str, decision| {
            let decided = Decided {
                schema: SCHEMA,
                scope: String::new(),
                endpoint: "manifest",
                image: image.into(),
                digest: None,
                kind: None,
                skipped: Vec::new(),
                decision,
                document: None,
                rule: None,
                stage: None,
                reasons: Vec::new(),
                exemptions: Vec::new(),
                would_deny: Vec::new(),
                warnings: Vec::new(),
                trust_age_seconds: None,
                va_age_seconds: None,
            };
            let basis = Basis { moment: answers.epoch.moment("a"), time: answers.clock.now() };
            let outcome = WarmOutcome::Refused(GateError::NoUpstream { near: Vec::new() }.into());
            let record = DecisionText::from(&decided);
            answers.keep(image, WarmAnswer::new(outcome, record, Vec::new(), basis, Validity::default()));
            answers.recall(image).unwrap()
        };
        let (one, two, other) = (keep("one", "deny"), keep("two", "deny"), keep("other", "refused"));
        assert!(Arc::ptr_eq(one.record.shape(), two.record.shape()));
        assert!(!Arc::ptr_eq(one.record.shape(), other.record.shape()));
        assert!(one.weight() > two.weight() + one.record.shape().len(), "it is counted once");
    }
}
