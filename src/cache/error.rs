//! Why content cannot be opened.

use crate::oci::Digest;
use crate::upstream;

/// Why content cannot be opened.
#[derive(Clone, Debug, thiserror::Error)]
pub enum CacheError {
    /// All fills are taken.
    #[error("too many downloads are under way; come again")]
    Busy,
    /// The disk or the database cannot be read or written.
    #[error("the cache's disk failed: {0}; free space or mend the disk that holds `state_dir`")]
    Disk(String),
    /// The upstream repository does not have it.
    #[error("the upstream repository does not have this blob")]
    NotFound,
    /// The manifest and the upstream disagree on a blob's size.
    #[error("the manifest says that {digest} has {manifest} bytes, the upstream sends {upstream}")]
    Size {
        /// The blob.
        digest: Digest,
        /// The manifest's figure, in bytes.
        manifest: u64,
        /// The upstream's figure, in bytes.
        upstream: u64,
    },
    /// The upstream did not deliver.
    #[error(transparent)]
    Upstream(upstream::Error),
}

impl CacheError {
    /// Whether asking again later may help.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Busy | Self::Disk(_) => true,
            Self::Upstream(error) => error.is_temporary(),
            Self::NotFound | Self::Size { .. } => false,
        }
    }

    #[expect(clippy::needless_pass_by_value, reason = "for map_err")]
    pub(super) fn store(error: crate::store::StoreError) -> Self {
        Self::Disk(error.to_string())
    }
}

impl From<upstream::Error> for CacheError {
    fn from(error: upstream::Error) -> Self {
        match error {
            upstream::Error::NotFound => Self::NotFound,
            other => Self::Upstream(other),
        }
    }
}
