//! Signatures of the indexes that list an image: they count for the image.
//!
//! Anyone who can push to a repository can create indexes that list an image, and get some of them admitted. So indexes
//! with a previously verified signature come first; they are picked from many more indexes than are searched for
//! signatures. If not all are searched, it is unknown whether one of the others is signed.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};

use super::evidence::EvidenceGatherer;
use super::platforms::manifest_if_there;
use crate::gate::{GateError, Target};
use crate::oci::{Content, Digest, Reference};
use crate::policy::{Authority, Observed, TrustEvidence, TrustFindings, TrustOutcome};

/// The maximum number of indexes whose signatures are searched for to admit an image that they list.
const MAX_SEARCHED: usize = 64;
/// The maximum number of indexes among which those known to be signed are looked for.
const MAX_LISTED: usize = 1000;
/// For how long it holds that not all indexes were looked at.
const INCOMPLETE_TTL: SignedDuration = SignedDuration::from_secs(60);

/// An image, and the authorities whose signatures of an index may count for it.
#[derive(Clone, Copy)]
pub(super) struct InheritingImage<'a> {
    pub(super) target: &'a Target,
    /// The reference as it was pulled.
    pub(super) reference: &'a Reference,
    pub(super) digest: Digest,
    pub(super) authorities: &'a [Arc<Authority>],
}

impl EvidenceGatherer {
    /// Adds the evidence about indexes that list the image to the findings, until these are enough.
    pub(super) async fn inherit(
        &self,
        image: InheritingImage<'_>,
        findings: &mut TrustFindings,
        is_enough: impl Fn(&TrustFindings) -> bool + Send + Sync,
    ) -> Result<(), GateError> {
        let name = &image.target.name;
        let mut indexes = self.resolver.naming(name, image.digest).await?;
        let is_flooded = indexes.len() > MAX_SEARCHED;
        if is_flooded {
            indexes = self.signed_first(image).await?;
        }
        for index in indexes.iter().take(MAX_SEARCHED) {
            self.inherit_from(image, *index, findings, &is_enough).await?;
            if is_enough(findings) {
                return Ok(());
            }
        }
        if is_flooded {
            findings.inherited.push((image.digest, not_looked_at(image.authorities, self.clock.now())));
        }
        Ok(())
    }

    /// The indexes that list an image: first those for which a signature is known, the newest first.
    async fn signed_first(&self, image: InheritingImage<'_>) -> Result<Arc<[Digest]>, GateError> {
        let name = &image.target.name;
        let (mut signed, mut others) = (Vec::new(), Vec::new());
        for index in self.resolver.naming_up_to(name, image.digest, MAX_LISTED).await? {
            match self.trust.remembers_signature(name, image.reference, index, image.authorities).await {
                true => signed.push(index),
                false => others.push(index),
            }
        }
        signed.append(&mut others);
        Ok(signed.into())
    }

    /// Adds the evidence about one index.
    async fn inherit_from(
        &self,
        image: InheritingImage<'_>,
        index: Digest,
        findings: &mut TrustFindings,
        is_enough: impl Fn(&TrustFindings) -> bool + Send + Sync,
    ) -> Result<(), GateError> {
        let InheritingImage { target, reference, authorities, .. } = image;
        let Some(manifest) = manifest_if_there(&self.resolver, target, index).await? else { return Ok(()) };
        // An image may list the same digest as a layer. Its signature does not cover running those bytes as an image.
        if !matches!(manifest.content, Content::Index(_)) {
            return Ok(());
        }
        let with = |inherited: &TrustEvidence| {
            let mut findings = findings.clone();
            findings.inherited.push((index, inherited.clone()));
            findings
        };
        let is_enough = |inherited: &TrustEvidence| is_enough(&with(inherited));
        let inherited = self.ask_trust(target, reference, &manifest, authorities, is_enough).await;
        findings.inherited.push((index, inherited));
        Ok(())
    }
}

/// The facts about the indexes that were not searched.
fn not_looked_at(authorities: &[Arc<Authority>], now: Timestamp) -> TrustEvidence {
    let why = format!("too many indexes list the image, and only {MAX_SEARCHED} of them were searched for signatures");
    let until = now.saturating_add(INCOMPLETE_TTL).ok();
    let mut evidence = TrustEvidence::default();
    for authority in authorities {
        let value = TrustOutcome::unknown(why.clone(), false);
        evidence.insert(authority.id().clone(), Observed { value, at: now, until });
    }
    evidence
}
