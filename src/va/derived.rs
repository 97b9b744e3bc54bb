//! Evidence that was made from other evidence, so that a large report is not copied and extended for each decision.

use std::sync::Arc;

use super::scanner::evidence_weight;
use crate::policy::{Observed, VaEvidence};
use crate::runtime::{Bounded, budget};

/// Evidence that was made from other evidence and something else, its basis. Cheap to clone.
#[derive(Clone)]
pub struct DerivedEvidence(Arc<Bounded<DerivationKey, Derivation>>);

/// The address of the evidence that the other was made from, and the basis.
type DerivationKey = (usize, Arc<str>);

/// The source evidence and the evidence derived from it. The source is kept so that its address is not reused.
type Derivation = (Arc<Observed<VaEvidence>>, Arc<Observed<VaEvidence>>);

impl DerivedEvidence {
    pub(super) fn new() -> Self {
        let weigh = |(_, basis): &DerivationKey, (from, made): &Derivation| {
            basis.len() + evidence_weight(&from.value) + evidence_weight(&made.value)
        };
        Self(Arc::new(Bounded::new(budget::DERIVED, weigh)))
    }

    /// What was made from this evidence with this basis.
    pub fn get(&self, from: &Arc<Observed<VaEvidence>>, basis: &Arc<str>) -> Option<Arc<Observed<VaEvidence>>> {
        Some(self.0.get(&key(from, basis))?.1)
    }

    /// Keeps what was made, and returns it.
    pub fn keep(
        &self,
        from: &Arc<Observed<VaEvidence>>,
        basis: &Arc<str>,
        value: VaEvidence,
    ) -> Arc<Observed<VaEvidence>> {
        let made = Arc::new(Observed { value, at: from.at, until: from.until });
        self.0.insert(key(from, basis), (from.clone(), made.clone()));
        made
    }
}

fn key(from: &Arc<Observed<VaEvidence>>, basis: &Arc<str>) -> DerivationKey {
    (Arc::as_ptr(from).addr(), basis.clone())
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::policy::Report;

    #[test]
    fn evidence_is_made_once_for_each_basis() {
        let observed = || Arc::new(Observed { value: VaEvidence::Unscanned, at: Timestamp::UNIX_EPOCH, until: None });
        let (derived, from, same, basis) = (DerivedEvidence::new(), observed(), observed(), "g1".into());
        assert!(derived.get(&from, &basis).is_none());
        let made = derived.keep(&from, &basis, VaEvidence::Report(Report::default()));
        assert!(Arc::ptr_eq(&derived.get(&from, &basis).unwrap(), &made));
        assert!(derived.get(&same, &basis).is_none() && derived.get(&from, &"g2".into()).is_none());
    }
}
