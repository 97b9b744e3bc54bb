//! Trusted keys, certificates and roots, parsed once when a document is loaded.

pub(super) mod fulcio;
pub(super) mod key;
pub(super) mod keyring;
pub(super) mod material;
pub(super) mod pem;
pub(super) mod trusted_root;
