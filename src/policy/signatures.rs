//! Authorities, whose signatures count, and the evidence of signatures and attestations.

pub(super) mod attestation;
pub(super) mod authority;
pub(super) mod evidence;
pub(super) mod same_signer;
