//! What the gate counts.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Unit;

use super::record::{Entry, decision_name};
use super::{Answer, GateError};
use crate::oci::{Digest, ImageName};
use crate::policy::{Denial, Permit};
use crate::runtime::Metrics;

pub(super) struct GateMetrics {
    decisions: Family<DecisionLabels, Counter>,
    would_deny: Family<DocumentLabels, Counter>,
    verdict: Histogram,
    evidence_age: Family<KindLabels, Histogram, fn() -> Histogram>,
    /// Manifests whose pull was noted lately, so that each is written once and not on every request.
    noted: moka::sync::Cache<(ImageName, Digest), ()>,
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
            noted: moka::sync::Cache::builder()
                .max_capacity(10_000)
                .time_to_live(std::time::Duration::from_secs(3600))
                .build(),
        }
    }

    pub(super) fn observe(&self, entry: &Entry, answer: &Result<Answer, GateError>) {
        let counters = self.counters(answer);
        if counters.is_empty() {
            return;
        }
        counters.iter().for_each(|counter| _ = counter.inc());
        self.verdict.observe(entry.elapsed_seconds());
        for (kind, age) in entry.evidence_ages() {
            // Seconds of evidence stay far below what a double holds exactly.
            #[expect(clippy::cast_precision_loss, reason = "see above")]
            self.evidence_age.get_or_create(&KindLabels { kind }).observe(age as f64);
        }
    }

    /// What counts decisions like this one; nothing where nothing was decided.
    pub(super) fn counters(&self, answer: &Result<Answer, GateError>) -> Vec<Counter> {
        let would_deny = answer.as_ref().ok().and_then(Answer::permit).map_or(&[][..], Permit::would_deny);
        let (decision, reason) = match answer {
            Ok(Answer::Base) => return Vec::new(),
            Ok(answer) => match would_deny.first() {
                Some(denial) if answer.permit().is_some_and(Permit::is_only_reported) => {
                    ("would-deny", denial.stage.as_str())
                }
                _ => ("admit", ""),
            },
            Err(error @ GateError::Denied(denial)) => (decision_name(error), denial.stage.as_str()),
            Err(error) => (decision_name(error), ""),
        };
        let document =
            |denial: &Denial| DocumentLabels { document: denial.document.as_deref().unwrap_or("none").into() };
        let documents = would_deny.iter().map(|denial| self.would_deny.get_or_create(&document(denial)).clone());
        let decisions = self.decisions.get_or_create(&DecisionLabels { decision, reason }).clone();
        std::iter::once(decisions).chain(documents).collect()
    }

    /// Whether this manifest's pull is to be noted now.
    pub(super) fn first_pull(&self, name: &ImageName, digest: Digest) -> bool {
        let key = (name.clone(), digest);
        let is_new = !self.noted.contains_key(&key);
        if is_new {
            self.noted.insert(key, ());
        }
        is_new
    }
}
