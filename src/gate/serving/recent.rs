//! Recent admissions of manifests, reused for the blobs that they name.
//!
//! Weighing an image with many vulnerabilities takes milliseconds, and its layers are requested one after another.

use std::sync::Arc;

use super::warm::{Basis, ReusePeriod};
use crate::gate::Target;
use crate::gate::judge::judgement::JudgementOutcome;
use crate::oci::{Digest, ImageName};
use crate::resolve::manifest_weight;
use crate::runtime::{ALLOCATION, Bounded, Clock, Epoch, budget};
use crate::scope::Scope;

/// What an admission of a manifest depends on, apart from what an [`Epoch`] tracks.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(super) struct AdmissionKey {
    name: ImageName,
    scope: Scope,
    manifest: Digest,
}

impl AdmissionKey {
    pub(super) fn new(target: &Target, manifest: Digest) -> Self {
        Self { name: target.name.clone(), scope: target.scope.clone(), manifest }
    }
}

/// An admission, and how long it may be reused.
#[derive(Clone)]
struct RecentAdmission {
    outcome: Arc<JudgementOutcome>,
    period: ReusePeriod,
}

/// Recent admissions without reservations.
pub(in crate::gate) struct RecentAdmissions {
    admissions: Bounded<AdmissionKey, RecentAdmission>,
    epoch: Epoch,
    clock: Clock,
}

impl RecentAdmissions {
    pub(in crate::gate) fn new(epoch: Epoch, clock: Clock) -> Self {
        Self { admissions: Bounded::new(budget::ADMITTED, weight), epoch, clock }
    }

    /// The outcome of an earlier judgement, if it is still valid.
    pub(super) fn recall(&self, key: &AdmissionKey) -> Option<Arc<JudgementOutcome>> {
        let known = self.admissions.get(key)?;
        known.period.holds(&self.epoch, &self.clock).then_some(known.outcome)
    }

    /// Keeps an admission that has nothing to report. Everything else is judged again for each request.
    pub(super) fn keep(&self, key: AdmissionKey, outcome: &Arc<JudgementOutcome>, basis: Basis) {
        if outcome.decision.is_ok() && outcome.validity.is_clean {
            let period = ReusePeriod::new(basis, outcome.validity);
            self.admissions.insert(key, RecentAdmission { outcome: outcome.clone(), period });
        }
    }
}

/// The memory of an admission, in bytes.
fn weight(key: &AdmissionKey, admission: &RecentAdmission) -> usize {
    /// The texts of an exemption in a record.
    const EXEMPTION: usize = 512;
    let JudgementOutcome { judged, exemptions, .. } = &*admission.outcome;
    let manifest = judged.as_ref().map_or(0, |judged| manifest_weight(&judged.manifest));
    let name = key.name.repository.as_str().len() + ALLOCATION;
    name + size_of::<JudgementOutcome>() + ALLOCATION + manifest + exemptions.len() * EXEMPTION
}
