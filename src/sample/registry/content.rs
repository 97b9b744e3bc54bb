//! The content of the registry, by repository.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use serde_json::{Value, json};

use crate::oci::{Digest, Reference};

/// All repositories. They share nothing: a blob of one is unknown in another.
#[derive(Debug, Default)]
pub(super) struct HeldContent {
    repositories: Mutex<HashMap<String, HeldRepository>>,
    /// Documents that are not content, by path.
    documents: Mutex<HashMap<String, Bytes>>,
}

/// One repository.
#[derive(Debug, Default)]
pub(super) struct HeldRepository {
    /// Media type and bytes, ordered by digest so that lists of referrers are reproducible.
    pub(super) manifests: BTreeMap<Digest, (String, Bytes)>,
    pub(super) tags: BTreeMap<String, Digest>,
    pub(super) blobs: HashMap<Digest, Bytes>,
    /// OpenPGP signatures of manifests.
    pub(super) signatures: HashMap<Digest, Vec<Bytes>>,
}

impl HeldContent {
    /// Adds a document.
    pub(super) fn put_document(&self, path: &str, bytes: Bytes) {
        self.documents.lock().unwrap_or_else(PoisonError::into_inner).insert(path.into(), bytes);
    }

    /// A document.
    pub(super) fn document(&self, path: &str) -> Option<Bytes> {
        self.documents.lock().unwrap_or_else(PoisonError::into_inner).get(path).cloned()
    }

    /// Changes a repository, creating it if necessary.
    pub(super) fn edit<T>(&self, repository: &str, change: impl FnOnce(&mut HeldRepository) -> T) {
        change(self.lock().entry(repository.into()).or_default());
    }

    /// The tags after `last`, in order; `None` if the repository is unknown.
    pub(super) fn tags(&self, repository: &str, last: Option<&str>) -> Option<Vec<String>> {
        let repositories = self.lock();
        let tags = repositories.get(repository)?.tags.keys();
        Some(tags.filter(|tag| last.is_none_or(|last| tag.as_str() > last)).cloned().collect())
    }

    /// Digest, media type and bytes of a manifest.
    pub(super) fn manifest(&self, repository: &str, reference: &Reference) -> Option<(Digest, String, Bytes)> {
        let repositories = self.lock();
        let repository = repositories.get(repository)?;
        let digest = match reference {
            Reference::Digest(digest) => digest,
            Reference::Tag(tag) => repository.tags.get(tag.as_str())?,
        };
        let (media_type, bytes) = repository.manifests.get(digest)?;
        Some((*digest, media_type.clone(), bytes.clone()))
    }

    /// The OpenPGP signatures of a manifest.
    pub(super) fn signatures(&self, repository: &str, digest: &Digest) -> Vec<Bytes> {
        self.lock().get(repository).and_then(|found| found.signatures.get(digest).cloned()).unwrap_or_default()
    }

    /// Whether any repository has OpenPGP signatures.
    pub(super) fn has_signatures(&self) -> bool {
        self.lock().values().any(|repository| !repository.signatures.is_empty())
    }

    /// The bytes of a blob, shared rather than copied.
    pub(super) fn blob(&self, repository: &str, digest: &Digest) -> Option<Bytes> {
        self.lock().get(repository)?.blobs.get(digest).cloned()
    }

    /// The descriptors of manifests whose subject is `subject` (distribution-spec, "Listing Referrers").
    pub(super) fn referrers(&self, repository: &str, subject: &Digest) -> Vec<Value> {
        let repositories = self.lock();
        let Some(repository) = repositories.get(repository) else { return Vec::new() };
        let subject = subject.to_string();
        let manifests = repository.manifests.iter();
        manifests.filter_map(|(digest, (media_type, bytes))| referrer(&subject, digest, media_type, bytes)).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, HeldRepository>> {
        self.repositories.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn referrer(subject: &str, digest: &Digest, media_type: &str, bytes: &[u8]) -> Option<Value> {
    // Malformed manifests are never referrers, but are still served unchanged.
    let body: Value = serde_json::from_slice(bytes).ok()?;
    if body["subject"]["digest"] != subject {
        return None;
    }
    let artifact_type = body.get("artifactType").unwrap_or(&body["config"]["mediaType"]);
    let mut descriptor =
        json!({"mediaType": media_type, "digest": digest, "size": bytes.len(), "artifactType": artifact_type});
    if let Some(annotations) = body.get("annotations") {
        descriptor["annotations"] = annotations.clone();
    }
    Some(descriptor)
}
