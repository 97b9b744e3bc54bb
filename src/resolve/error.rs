//! Why a reference cannot be resolved.

use std::time::Duration;

use crate::oci::Refused;
use crate::runtime::format_duration;
use crate::store::StoreError;
use crate::upstream;

/// Why a reference cannot be resolved.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ResolveError {
    /// The process is shutting down, or the task ended abnormally.
    #[error("the request was interrupted; retry it")]
    Interrupted,
    /// The upstream does not have the manifest.
    #[error("the upstream does not have this manifest: {0}")]
    NotFound(
        /// The image, and the URL that was asked.
        String,
    ),
    /// The manifest is not in the cache, and no registry is asked for it.
    #[error("the manifest is no longer in the cache")]
    NotKnown,
    /// The digest that is signed for the tag is not known, so the tag must not be resolved.
    #[error("the digest that is signed for this tag is unknown: {why}")]
    Pin {
        /// Why the digest is not known.
        why: String,
        /// Whether a retry may succeed.
        temporary: bool,
    },
    /// The upstream did not answer as long as the request could wait.
    #[error("{upstream} has not answered within {}; retry later", format_duration(*waited))]
    Late {
        /// The upstream and its URL.
        upstream: String,
        /// How long the request waited.
        waited: Duration,
    },
    /// The manifest is rejected regardless of the policy.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The upstream did not answer in time, so known data is used instead.
    #[error("{upstream} has not answered within 3 s")]
    Silent {
        /// The upstream and its URL.
        upstream: String,
    },
    /// The database failed.
    #[error("{0}")]
    Store(String),
    /// The upstream did not deliver the manifest.
    #[error(transparent)]
    Upstream(#[from] upstream::Error),
}

impl ResolveError {
    /// Whether a retry may help, so that an older answer can be used instead.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Upstream(error) => error.may_pass(),
            Self::Interrupted | Self::Late { .. } | Self::NotKnown | Self::Silent { .. } | Self::Store(_) => true,
            Self::Pin { temporary, .. } => *temporary,
            Self::NotFound(_) | Self::Refused(_) => false,
        }
    }

    /// Whether the upstream returned nothing by digest but may still return the manifest by tag: it reported that the
    /// manifest does not exist, refused to return it by digest, or returned something else.
    pub(super) fn is_of_the_digest(&self) -> bool {
        use upstream::Error;
        match self {
            Self::NotFound(_) => true,
            Self::Upstream(error) => matches!(
                error,
                Error::Digest(_)
                    | Error::Forbidden(_)
                    | Error::Protocol(_)
                    | Error::Rejected { .. }
                    | Error::Unauthorized(_)
            ),
            Self::Interrupted
            | Self::Late { .. }
            | Self::NotKnown
            | Self::Pin { .. }
            | Self::Refused(_)
            | Self::Silent { .. }
            | Self::Store(_) => false,
        }
    }
}

impl From<StoreError> for ResolveError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.to_string())
    }
}
