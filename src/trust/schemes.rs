//! The signature schemes: the only place where a scheme is registered.

use std::sync::Arc;

use super::cosign::Cosign;
use super::large::LargeLayersMemory;
use super::notary::Notary;
use super::notation::Notation;
use super::scheme::SignatureScheme;
use super::unverified::Unverified;
use super::{Config, TrustServices};
use crate::policy::Scheme;

/// One scheme for every kind of authority. Cheap to clone.
#[derive(Clone)]
pub(super) struct Schemes {
    pub(super) cosign: Arc<dyn SignatureScheme>,
    pub(super) cosign_attestations: Arc<dyn SignatureScheme>,
    pub(super) gpg: Arc<dyn SignatureScheme>,
    pub(super) notation: Arc<dyn SignatureScheme>,
    pub(super) notary: Arc<dyn SignatureScheme>,
    /// For what cannot be verified.
    pub(super) unverified: Arc<dyn SignatureScheme>,
    /// The memory for large attestations.
    pub(super) large_layers: LargeLayersMemory,
}

impl Schemes {
    /// Every scheme that this version has.
    pub(super) fn new(config: &Config, services: &TrustServices) -> Self {
        let unverified: Arc<dyn SignatureScheme> = Arc::new(Unverified);
        #[cfg(feature = "gpg")]
        let gpg = Arc::new(super::gpg::Gpg::new(&services.clock, &services.tasks));
        #[cfg(not(feature = "gpg"))]
        let gpg = unverified.clone();
        let notary = Arc::new(Notary::new(config, services));
        let notation = Arc::new(Notation::new(&services.revocation));
        Self {
            cosign: Arc::new(Cosign::signatures()),
            cosign_attestations: Arc::new(Cosign::attestations(config.max_attestation)),
            gpg,
            notation,
            notary,
            unverified,
            large_layers: LargeLayersMemory::new(config.max_attestation),
        }
    }

    /// The scheme of authorities of this kind.
    pub(super) fn of(&self, scheme: &Scheme) -> &Arc<dyn SignatureScheme> {
        match scheme {
            Scheme::Cosign(cosign) if cosign.attestation.is_some() => &self.cosign_attestations,
            Scheme::Cosign(_) => &self.cosign,
            Scheme::Unusable { .. } => &self.unverified,
            Scheme::Gpg(_) => &self.gpg,
            Scheme::Notation { .. } => &self.notation,
            Scheme::Notary(_) => &self.notary,
        }
    }

    /// Every scheme once.
    pub(super) fn all(&self) -> Vec<Arc<dyn SignatureScheme>> {
        let Self { cosign, cosign_attestations, gpg, notation, notary, unverified, large_layers: _ } = self;
        let mut all: Vec<Arc<dyn SignatureScheme>> = Vec::new();
        for scheme in [cosign, cosign_attestations, gpg, notation, notary, unverified] {
            if !all.iter().any(|known| known.name() == scheme.name()) {
                all.push(scheme.clone());
            }
        }
        all
    }
}
