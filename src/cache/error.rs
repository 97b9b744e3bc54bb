//! Errors when opening content.

use crate::oci::Digest;
use crate::upstream;

/// Why content cannot be opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CacheError {
    /// The maximum number of downloads is reached.
    #[error("too many downloads are in progress; retry later")]
    Busy,
    /// The disk or the database cannot be read or written.
    #[error("the cache's disk failed: {0}; check the disk of `state_dir` for free space and errors")]
    Disk(String),
    /// The upstream repository does not have the blob.
    #[error("the upstream repository does not have this blob")]
    NotFound,
    /// The manifest and the upstream's content disagree on the size of a blob.
    #[error("the manifest gives {digest} a size of {manifest} bytes, but the upstream's content has {found} bytes")]
    Size {
        /// The blob.
        digest: Digest,
        /// The size in the manifest, in bytes.
        manifest: u64,
        /// The size that the upstream states, or of the content that it sent before, in bytes.
        found: u64,
    },
    /// The upstream failed.
    #[error(transparent)]
    Upstream(upstream::Error),
    /// A part of an image cannot be opened.
    #[error("{kind} {}: {error}", digest.short())]
    Part {
        /// What the part is: `layer`, `configuration`.
        kind: &'static str,
        /// The part.
        digest: Digest,
        /// The reason.
        error: Box<Self>,
    },
}

impl CacheError {
    /// Whether a retry may help.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Busy | Self::Disk(_) => true,
            Self::Upstream(error) => error.is_temporary(),
            Self::NotFound | Self::Size { .. } => false,
            Self::Part { error, .. } => error.is_temporary(),
        }
    }

    /// The error of this part of an image.
    #[must_use]
    pub fn of(self, kind: &'static str, digest: Digest) -> Self {
        Self::Part { kind, digest, error: Box::new(self) }
    }

    #[expect(clippy::needless_pass_by_value, reason = "for map_err")]
    pub(super) fn store(error: crate::store::StoreError) -> Self {
        Self::Disk(error.to_string())
    }
}

impl From<upstream::Error> for CacheError {
    fn from(error: upstream::Error) -> Self {
        match error {
            upstream::Error::NotFound { .. } => Self::NotFound,
            other => Self::Upstream(other),
        }
    }
}
