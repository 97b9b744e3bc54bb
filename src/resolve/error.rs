//! Why a reference does not resolve.

use crate::oci::Refused;
use crate::store::StoreError;
use crate::upstream;

/// Why a reference does not resolve.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ResolveError {
    /// The process is ending, or the work broke down.
    #[error("the request was interrupted; come again")]
    Interrupted,
    /// The upstream does not have it.
    #[error("the upstream does not have this manifest")]
    NotFound,
    /// The digest that is signed for the tag is not known, so the tag must not be resolved.
    #[error("the digest that is signed for this tag is not known: {why}")]
    Pin {
        /// Why not.
        why: String,
        /// Whether another attempt may succeed.
        temporary: bool,
    },
    /// The manifest is refused whatever the policy says.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// The upstream did not answer for so long that what is known stands in.
    #[error("the upstream has not answered within 3 s")]
    Silent,
    /// The database failed.
    #[error("{0}")]
    Store(String),
    /// The upstream did not deliver.
    #[error(transparent)]
    Upstream(upstream::Error),
}

impl ResolveError {
    /// Whether asking again may help, so that an older answer may stand in.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Upstream(error) => error.may_pass(),
            Self::Interrupted | Self::Silent | Self::Store(_) => true,
            Self::Pin { temporary, .. } => *temporary,
            Self::NotFound | Self::Refused(_) => false,
        }
    }

    /// Whether the upstream gave nothing by a digest and may all the same give it by the tag: it says that it has it not,
    /// will not give it so, or gives something else.
    pub(super) fn is_of_the_digest(&self) -> bool {
        use upstream::Error;
        match self {
            Self::NotFound => true,
            Self::Upstream(error) => matches!(
                error,
                Error::Digest(_)
                    | Error::Forbidden(_)
                    | Error::Protocol(_)
                    | Error::Rejected { .. }
                    | Error::Unauthorized(_)
            ),
            Self::Interrupted | Self::Pin { .. } | Self::Refused(_) | Self::Silent | Self::Store(_) => false,
        }
    }
}

impl From<upstream::Error> for ResolveError {
    fn from(error: upstream::Error) -> Self {
        match error {
            upstream::Error::NotFound => Self::NotFound,
            other => Self::Upstream(other),
        }
    }
}

impl From<StoreError> for ResolveError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.to_string())
    }
}
