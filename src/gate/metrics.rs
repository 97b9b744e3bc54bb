//! Metrics of the gate.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Unit;

use super::record::{RecordDraft, decision_name};
use super::{Answer, GateError};
use crate::policy::Permit;
use crate::runtime::{BusyCounter, Metrics};

pub(super) struct GateMetrics {
    decisions: Family<DecisionLabels, BusyCounter>,
    would_deny: Family<DocumentLabels, BusyCounter>,
    verdict: Histogram,
    evidence_age: Family<KindLabels, Histogram, fn() -> Histogram>,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct DecisionLabels {
    decision: &'static str,
    reason: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct DocumentLabels {
    document: String,
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
            would_deny: metrics.register(
                "would_deny",
                "Denials of audited documents that were not carried out, by document",
                Family::default(),
            ),
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

    /// Counts a decision and returns the counters for identical decisions.
    pub(super) fn observe(&self, record: &RecordDraft, answer: &Result<Answer, GateError>) -> Vec<BusyCounter> {
        let counters = self.counters(record, answer);
        counters.iter().for_each(|counter| _ = counter.inc());
        self.verdict.observe(record.elapsed_seconds());
        for (kind, age) in record.evidence_ages() {
            // The age in seconds is far below the largest integer that an f64 represents exactly.
            #[expect(clippy::cast_precision_loss, reason = "see above")]
            self.evidence_age.get_or_create(&KindLabels { kind }).observe(age as f64);
        }
        counters
    }

    fn counters(&self, record: &RecordDraft, answer: &Result<Answer, GateError>) -> Vec<BusyCounter> {
        let would_deny = answer.as_ref().ok().and_then(Answer::permit).map_or(&[][..], Permit::would_deny);
        let (decision, reason) = match answer {
            Ok(answer) => match would_deny.first() {
                Some(denial) if answer.permit().is_some_and(Permit::is_only_reported) => {
                    ("would-deny", denial.stage.as_str())
                }
                _ => ("admit", ""),
            },
            Err(error @ GateError::Denied(denial)) => (decision_name(error), denial.stage.as_str()),
            Err(error) => (decision_name(error), ""),
        };
        // Audited documents count for denials too, so they are taken from the record.
        let document =
            |document: &str| self.would_deny.get_or_create(&DocumentLabels { document: document.into() }).clone();
        let documents = record.would_deny().map(document);
        let decisions = self.decisions.get_or_create(&DecisionLabels { decision, reason }).clone();
        std::iter::once(decisions).chain(documents).collect()
    }
}
