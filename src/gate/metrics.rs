//! What the gate counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Unit;

use super::record::{Entry, decision_name};
use super::{Answer, GateError};
use crate::runtime::Metrics;

pub(super) struct GateMetrics {
    decisions: Family<DecisionLabels, Counter>,
    verdict: Histogram,
    evidence_age: Family<KindLabels, Histogram, fn() -> Histogram>,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct DecisionLabels {
    decision: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct KindLabels {
    kind: &'static str,
}

impl GateMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let buckets = exponential_buckets(0.000_05, 3.0, 14);
        Self {
            decisions: metrics.register("decisions", "Decisions by outcome and deciding stage", Family::default()),
            verdict: metrics.register_with_unit(
                "verdict",
                "From the request to the decision, of those that were not repeated",
                Unit::Seconds,
                Histogram::new(buckets),
            ),
            evidence_age: metrics.register_with_unit(
                "evidence_age",
                "How old the evidence of a decision was",
                Unit::Seconds,
                Family::new_with_constructor(|| Histogram::new(exponential_buckets(1.0, 6.0, 10))),
            ),
        }
    }

    pub(super) fn observe(&self, entry: &Entry, answer: &Result<Answer, GateError>) {
        let Some(decisions) = self.decisions(answer) else { return };
        decisions.inc();
        self.verdict.observe(entry.elapsed_seconds());
        for (kind, age) in entry.evidence_ages() {
            // Seconds of evidence stay far below what a double holds exactly.
            #[expect(clippy::cast_precision_loss, reason = "see above")]
            self.evidence_age.get_or_create(&KindLabels { kind }).observe(age as f64);
        }
    }

    /// What counts decisions like this one; `None` where nothing was decided.
    pub(super) fn decisions(&self, answer: &Result<Answer, GateError>) -> Option<Counter> {
        let (decision, reason) = match answer {
            Ok(Answer::Base) => return None,
            Ok(Answer::Manifest { permit, .. } | Answer::Blob { permit, .. } | Answer::BlobSize { permit, .. }) => {
                match permit.would_deny() {
                    Some(denial) => ("would-deny", denial.stage.as_str()),
                    None => ("admit", ""),
                }
            }
            Ok(Answer::List { .. }) => ("admit", ""),
            Err(error @ GateError::Denied(denial)) => (decision_name(error), denial.stage.as_str()),
            Err(error) => (decision_name(error), ""),
        };
        Some(self.decisions.get_or_create(&DecisionLabels { decision, reason }).clone())
    }
}
