//! Parsing and verification, which take time of a processor core: they run on blocking threads.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::NotaryError;
use super::anchor::invalid;
use crate::oci::Digest;
use crate::runtime::Tasks;
use crate::trust::source::SourceError;
use crate::tuf::{FileMeta, InvalidDocument, RoleKeys, SignedDocument, TufKey};

/// Runs work on blocking threads.
#[derive(Clone, Debug)]
pub(super) struct BlockingWork(pub(super) Tasks);

impl BlockingWork {
    /// # Errors
    /// Those of the work; unknown if it was interrupted.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce() -> Result<T, NotaryError> + Send + 'static,
    ) -> Result<T, NotaryError> {
        let interrupted = || SourceError::new("the verification was interrupted", true);
        self.0.spawn_blocking(work).await.unwrap_or_else(|_| Err(NotaryError::Unavailable(interrupted())))
    }
}

/// The keys of the document that delegates to a role, by their IDs, and which of them the role needs.
pub(super) type RoleSigners<'a> = (&'a BTreeMap<String, TufKey>, &'a RoleKeys);

/// A document of a role, not verified yet, with what decides whether it is one. A document does not name its role or
/// its repository: the keys that the parent of the role lists are what binds it.
pub(super) struct UnverifiedDocument {
    /// The name of the role.
    pub(super) role: String,
    bytes: Bytes,
    /// The size and the hashes that the document above names; none for the timestamp.
    meta: Option<FileMeta>,
    keys: BTreeMap<String, TufKey>,
    needed: RoleKeys,
}

impl UnverifiedDocument {
    pub(super) fn new(role: &str, bytes: Bytes, meta: Option<FileMeta>, (known, needed): RoleSigners<'_>) -> Self {
        let key = |id: &String| Some((id.clone(), known.get(id)?.clone()));
        let keys = needed.key_ids.iter().filter_map(key).collect();
        Self { role: role.to_owned(), bytes, meta, keys, needed: needed.clone() }
    }

    /// Verifies it and reads it. Returns the fingerprints of the keys that signed it too.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn verify<T>(
        &self,
        read: fn(&SignedDocument, &str) -> Result<T, InvalidDocument>,
    ) -> Result<(T, BTreeSet<Digest>), NotaryError> {
        let verify = || {
            self.meta.iter().try_for_each(|meta| meta.check(&self.bytes))?;
            let envelope = SignedDocument::parse(&self.bytes)?;
            let keys = envelope.verify(&self.keys, &self.needed)?;
            Ok((read(&envelope, &self.role)?, keys))
        };
        verify().map_err(|error| invalid(&self.role, &error))
    }
}
