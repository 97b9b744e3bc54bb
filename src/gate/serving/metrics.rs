//! Metrics of the gate.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Unit;

use super::record::{RecordDraft, outcome_of};
use crate::audit::RecordedDecision;
use crate::gate::{Answer, GateError};
use crate::policy::{DenialKind, Stage};
use crate::runtime::{BusyCounter, Metrics};

/// The bounds of the histogram of times to a decision, in seconds.
const VERDICT: [f64; 14] = [0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 20.0, 30.0];
/// The bounds of the histogram of ages of evidence, in seconds: a minute, 5 minutes, an hour, 6 hours, a day, 3, 7 and
/// 30 days.
const AGE: [f64; 8] = [60.0, 300.0, 3600.0, 21_600.0, 86_400.0, 259_200.0, 604_800.0, 2_592_000.0];

pub(in crate::gate) struct GateMetrics {
    decisions: Family<DecisionLabels, BusyCounter>,
    denied: Family<DocumentLabels, BusyCounter>,
    would_deny: Family<DocumentLabels, BusyCounter>,
    verdict: Histogram,
    evidence_age: Family<KindLabels, Histogram, fn() -> Histogram>,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct DecisionLabels {
    decision: &'static str,
    reason: &'static str,
}

impl DecisionLabels {
    fn new(decision: RecordedDecision, stage: Option<Stage>) -> Self {
        Self { decision: decision.as_str(), reason: stage.map_or("", Stage::as_str) }
    }
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct DocumentLabels {
    document: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct KindLabels {
    kind: &'static str,
}

/// What alerts and boards ask about. The increase of a series that begins with its first event does not count that
/// event.
const FROM_ZERO: [RecordedDecision; 3] =
    [RecordedDecision::Deny, RecordedDecision::Unavailable, RecordedDecision::WouldDeny];

impl GateMetrics {
    pub(in crate::gate) fn new(metrics: &Metrics) -> Self {
        let decisions: Family<DecisionLabels, BusyCounter> = Family::default();
        for decision in FROM_ZERO {
            for stage in Stage::ALL {
                drop(decisions.get_or_create(&DecisionLabels::new(decision, Some(stage))));
            }
        }
        drop(decisions.get_or_create(&DecisionLabels::new(RecordedDecision::Error, None)));
        Self {
            decisions: metrics.register("decisions", "Decisions by outcome and deciding stage", decisions),
            denied: metrics.register("denied", "Enforced denials by the document that decided", Family::default()),
            would_deny: metrics.register(
                "would_deny",
                "Denials of audited documents that were not carried out, by document",
                Family::default(),
            ),
            verdict: metrics.register_with_unit(
                "verdict",
                "From the request to the decision, of those that were not repeated",
                Unit::Seconds,
                Histogram::new(VERDICT),
            ),
            evidence_age: metrics.register_with_unit(
                "evidence_age",
                "How old the evidence of a decision was",
                Unit::Seconds,
                Family::new_with_constructor(|| Histogram::new(AGE)),
            ),
        }
    }

    /// Counts a decision that took this many seconds, and returns the counters for identical decisions.
    pub(in crate::gate) fn observe(
        &self,
        record: &RecordDraft,
        answer: &Result<Answer, GateError>,
        took: f64,
    ) -> Vec<BusyCounter> {
        let counters = self.counters(record, answer);
        counters.iter().for_each(|counter| _ = counter.inc());
        self.verdict.observe(took);
        for (kind, age) in record.evidence_ages() {
            // The age in seconds is far below the largest integer that an f64 represents exactly.
            #[expect(clippy::cast_precision_loss, reason = "see above")]
            self.evidence_age.get_or_create(&KindLabels { kind }).observe(age as f64);
        }
        counters
    }

    fn counters(&self, record: &RecordDraft, answer: &Result<Answer, GateError>) -> Vec<BusyCounter> {
        let (decision, stage) = outcome_of(answer);
        // Policies bound the number of documents.
        let of = |family: &Family<DocumentLabels, BusyCounter>, document: &str| {
            family.get_or_create(&DocumentLabels { document: document.into() }).clone()
        };
        let denied = match answer {
            Err(GateError::Denied(denial)) if denial.kind == DenialKind::Policy => denial.document.as_deref(),
            _ => None,
        };
        // Audited documents count for denials too, so they are taken from the record.
        let would_deny = record.would_deny().map(|document| of(&self.would_deny, document));
        let decisions = self.decisions.get_or_create(&DecisionLabels::new(decision, stage)).clone();
        std::iter::once(decisions).chain(denied.map(|document| of(&self.denied, document))).chain(would_deny).collect()
    }
}
