//! What is kept about one authority and one image.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::settled::Signers;
use crate::policy::{Authority, Observed, Signatory, SignatureFinding, TrustOutcome};
use crate::store::Evidence;

/// The outcome for one authority, and for how long the search behind it counts as complete. A stored row that an older
/// version wrote in another form cannot be read, so its evidence is gathered again.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AuthorityFinding {
    pub(super) outcome: TrustOutcome,
    /// How long the search counts as complete: until then, the authority is known to have no other signatures. A search
    /// that ended with the first signature knows nothing about others; after a complete one, another signature may come
    /// at any time.
    ///
    /// It matters where a threshold needs several signers: the signatures that were verified hold on their own, and one
    /// that came later is only looked for where it can change a decision.
    pub(super) searched_until: Timestamp,
}

impl Evidence for AuthorityFinding {
    fn is_negative(&self) -> bool {
        !matches!(self.outcome, TrustOutcome::Verified { .. })
    }
}

impl AuthorityFinding {
    /// Whether it is worth a row: not what a registry failed to answer.
    pub(super) fn is_durable(&self) -> bool {
        !matches!(self.outcome, TrustOutcome::Unknown { temporary: true, .. })
    }
}

impl Observed<AuthorityFinding> {
    /// Nothing is known about the authority at this time.
    pub(super) fn unknown(why: &str, at: Timestamp) -> Self {
        let outcome = TrustOutcome::unknown(why, true);
        Self { value: AuthorityFinding { outcome, searched_until: at }, at, until: None }
    }

    /// Who has signed for the authority, and who may have as far as is known at this time.
    pub(super) fn signers(&self, authority: &Authority, now: Timestamp) -> Signers {
        let TrustOutcome::Verified { by, .. } = &self.value.outcome else { return Signers::default() };
        let signed: BTreeSet<String> = by.iter().map(|signatory| signatory.id.clone()).collect();
        let is_complete = self.at <= now && now < self.value.searched_until;
        let possible = if is_complete { signed.clone() } else { &signed | &authority.signers() };
        Signers { signed, possible }
    }

    /// Signatories who need not be verified again: those of an outcome without an end.
    pub(super) fn lasting_signatories(&self) -> Vec<Signatory> {
        match &self.value.outcome {
            TrustOutcome::Verified { by, .. } if self.until.is_none() => by.clone(),
            _ => Vec::new(),
        }
    }
}

/// Adds the signatures that an earlier search verified: they are not verified again, so this one did not read them.
pub(super) fn with_earlier_signatures(mut outcome: TrustOutcome, before: Option<&TrustOutcome>) -> TrustOutcome {
    if let TrustOutcome::Verified { found, .. } | TrustOutcome::Unknown { found, .. } = &mut outcome
        && let Some(TrustOutcome::Verified { found: earlier, .. }) = before
    {
        let is_new = |one: &&SignatureFinding| one.signer().is_some() && !found.contains(one);
        let earlier: Vec<_> = earlier.iter().filter(is_new).cloned().collect();
        found.splice(..0, earlier);
    }
    outcome
}
