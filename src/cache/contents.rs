//! What is on disk, for operators, and what they remove.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::evict::Freed;
use super::{Cache, CacheError};
use crate::oci::{Digest, Host};
use crate::store::{ListedContent, StoreError, StoredContent};

/// The maximum number of repositories that are named for one content.
const MAX_REPOSITORIES: u32 = 10;

/// What content on disk is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ContentKind {
    /// A manifest that lists other manifests.
    Index,
    /// Any other manifest.
    Manifest,
    /// A layer, a configuration, or anything else that manifests name.
    Blob,
}

impl ContentKind {
    /// The name as in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Index => "index",
            Self::Manifest => "manifest",
            Self::Blob => "blob",
        }
    }

    pub(super) fn of(content: &StoredContent, is_index: bool) -> Self {
        match (content.is_manifest, is_index) {
            (false, _) => Self::Blob,
            (true, true) => Self::Index,
            (true, false) => Self::Manifest,
        }
    }
}

/// One piece of content on disk.
///
/// ```json
/// {"digest": "sha256:…", "kind": "blob", "bytes": 71234567, "repositories": ["docker.io/library/nginx"],
///  "used": "2026-11-26T10:00:00Z", "pinned": true}
/// ```
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct CachedContent {
    /// Its digest.
    pub digest: Digest,
    /// What it is.
    pub kind: ContentKind,
    /// Its size in bytes.
    pub bytes: u64,
    /// Repositories that delivered it, with their registries: at most ten.
    pub repositories: Vec<String>,
    /// When it was last used. A blob is used when a manifest that names it is used.
    pub used: Timestamp,
    /// Whether a pin keeps it.
    pub pinned: bool,
}

/// What was removed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct RemovedContent {
    /// The digest that was asked for.
    pub digest: Digest,
    /// How many files were removed: manifests, and the blobs that no other manifest needs.
    pub files: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// The pins that were also removed, by the names of their images.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unpinned: Vec<String>,
}

/// Why content was not removed.
#[derive(Debug, thiserror::Error)]
pub enum NotRemoved {
    /// It is not on disk.
    #[error("it is not in the cache")]
    Absent,
    /// It is being read, fetched or imported.
    #[error("it is in use; retry when the transfers have ended")]
    InUse,
    /// It cannot be fetched again.
    #[error("its upstream is offline, so it cannot be fetched again; `--force` removes it anyway")]
    Offline,
    /// Pins keep it.
    #[error("it is pinned as {}; unpin it, or use `--force`, which also removes the pin", .0.join(", "))]
    Pinned(Vec<String>),
    /// The disk or the database failed.
    #[error(transparent)]
    Cache(#[from] CacheError),
}

impl From<StoreError> for NotRemoved {
    fn from(error: StoreError) -> Self {
        Self::Cache(CacheError::store(error))
    }
}

impl Freed {
    /// Fails if something could not be removed. What was removed stays removed; a repetition removes the rest.
    fn require_all(&self) -> Result<(), NotRemoved> {
        match (self.failed, self.in_use) {
            (0, 0) => Ok(()),
            (0, _) => Err(NotRemoved::InUse),
            (1, _) => Err(CacheError::Disk("1 file could not be removed".to_owned()).into()),
            (failed, _) => Err(CacheError::Disk(format!("{failed} files could not be removed")).into()),
        }
    }
}

impl Cache {
    /// The contents on disk after this one, in the order of their digests, at most `limit`.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn contents(&self, after: Option<Digest>, limit: u32) -> Result<Vec<CachedContent>, CacheError> {
        let store = &self.inner.store;
        let listed = store.node.listed_contents(after, limit).await.map_err(CacheError::store)?;
        let digests: Vec<Digest> = listed.iter().map(|one| one.content.digest).collect();
        let repositories = store.facts.repositories_of(&digests, MAX_REPOSITORIES).await.map_err(CacheError::store)?;
        let answer = |(one, repositories): (&ListedContent, Vec<String>)| {
            let ListedContent { content, is_index, is_pinned } = one;
            // The use of the last half minute is not in the database yet.
            let used = self.inner.touched.pending(content.digest).map_or(content.used_at, |at| at.max(content.used_at));
            let kind = ContentKind::of(content, *is_index);
            let StoredContent { digest, size, .. } = *content;
            CachedContent { digest, kind, bytes: size, repositories, used, pinned: *is_pinned }
        };
        Ok(listed.iter().zip(repositories).map(answer).collect())
    }

    /// Removes content from disk as eviction does; with a manifest, also everything that only it references. `forced`
    /// includes pinned content (and removes the pins) and content of an `offline` registry.
    ///
    /// # Errors
    /// See [`NotRemoved`].
    pub async fn remove(&self, digest: Digest, forced: bool, offline: &[Host]) -> Result<RemovedContent, NotRemoved> {
        let inner = &self.inner;
        // Nothing is evicted or pinned meanwhile.
        let _turn = inner.evicting.lock().await;
        // What was used since would be written again.
        inner.write_down_use().await?;
        let parts = inner.store.node.whole(digest).await?;
        if parts.is_empty() {
            return Err(NotRemoved::Absent);
        }
        let digests: Vec<Digest> = parts.iter().map(|part| part.digest).collect();
        let pins = inner.store.node.pins_keeping(&digests).await?;
        if !forced && !pins.is_empty() {
            return Err(NotRemoved::Pinned(pins));
        }
        if !forced && self.is_of_offline(&digests, offline).await? {
            return Err(NotRemoved::Offline);
        }
        let mut freed = Freed::default();
        inner.remove_together(&parts, &mut freed).await?;
        inner.report(&freed);
        // Content that stays, stays pinned.
        let stayed: Vec<Digest> = inner.store.node.present(&digests).await?.into_iter().collect();
        let kept = inner.store.node.pins_keeping(&stayed).await?;
        let unpinned: Vec<String> = pins.into_iter().filter(|pin| !kept.contains(pin)).collect();
        for pin in &unpinned {
            inner.store.node.unpin(pin).await?;
        }
        freed.require_all()?;
        Ok(RemovedContent { digest, files: freed.files, bytes: freed.bytes, unpinned })
    }

    /// Whether one of these registries delivered any of the contents.
    async fn is_of_offline(&self, digests: &[Digest], offline: &[Host]) -> Result<bool, StoreError> {
        if offline.is_empty() {
            return Ok(false);
        }
        let facts = &self.inner.store.facts;
        if !facts.of_registries(digests, offline).await?.is_empty() {
            return Ok(true);
        }
        for digest in digests {
            for host in offline {
                if facts.has_link_at(host, *digest).await? {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}
