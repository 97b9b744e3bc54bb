//! The roots that are remembered, for people.

use std::path::Path;

use jiff::Timestamp;

use super::anchor::VerifiedRoot;
use crate::store::{StoreError, StoredRoot, stored_notary_roots};

/// The newest root of a repository that was verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RememberedRoot {
    /// The server and the repository: `https://notary.acme.com/v2/registry.acme.com/app`.
    pub repository: String,
    /// Whether it was trusted because it was the first one that was seen. Otherwise a root or keys are configured.
    pub first_use: bool,
    /// Its version.
    pub version: u64,
    /// The SHA-256 fingerprints of its keys, shortened.
    pub keys: Vec<String>,
    /// When it expires; `None` if it cannot be read.
    pub expires: Option<Timestamp>,
}

/// The roots that a gate with this state directory remembers. The gate may be running.
///
/// # Errors
/// The database cannot be read.
pub async fn remembered_roots(state: &Path) -> Result<Vec<RememberedRoot>, StoreError> {
    Ok(stored_notary_roots(state).await?.into_iter().map(RememberedRoot::new).collect())
}

impl RememberedRoot {
    fn new(StoredRoot { repository, version, document }: StoredRoot) -> Self {
        // The name in the store ends with the trust anchor.
        let (place, anchor) = repository.split_once(' ').unwrap_or((&repository, ""));
        let root = VerifiedRoot::read(document.into(), "the remembered root").ok();
        let keys = root.iter().flat_map(|root| root.root.root_keys()).map(|key| key.fingerprint().short()).collect();
        let expires = root.as_ref().map(|root| root.root.expires);
        Self { repository: place.to_owned(), first_use: anchor == "first use", version, keys, expires }
    }
}
