//! Errors for requests that are not served. Only the server maps them to HTTP responses.

use crate::cache::CacheError;
use crate::oci::{Digest, InvalidName};
use crate::policy::{Denial, DenialKind};
use crate::resolve::ResolveError;
use crate::store::StoreError;
use crate::upstream;

/// Why a request is not served.
#[derive(Clone, Debug, thiserror::Error)]
pub enum GateError {
    /// No manifest of the repository names the blob.
    #[error("{name} has no manifest here that names {digest}; pull the image's manifest first")]
    BlobUnknown {
        /// Upstream and repository.
        name: String,
        /// The blob.
        digest: Digest,
    },
    /// The cache cannot open the content.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The policy does not admit the content, or it cannot be judged now.
    #[error("{0}")]
    Denied(Denial),
    /// A descriptor would send the client to another host.
    #[error(
        "{subject} refused: it sends clients to {url} for content; \
         add the host to gate.url_hosts to allow it"
    )]
    ForeignUrl {
        /// The requested reference.
        subject: String,
        /// The URL.
        url: String,
    },
    /// The path has no repository after the upstream prefix is removed.
    #[error(transparent)]
    Name(#[from] InvalidName),
    /// The path names no upstream, and no default upstream is configured.
    #[error(
        "the request names no upstream of this gate; the first component of its path must be the host or the \
         `path` of one{}",
        did_you_mean(near)
    )]
    NoUpstream {
        /// Names that may be meant.
        near: Vec<String>,
    },
    /// The upstream's credentials may not be used for this scope.
    #[error("{upstream} is not served to {}; see serve_to of that upstream", for_whom(scope))]
    NotServed {
        /// The upstream.
        upstream: String,
        /// The requesting scope.
        scope: String,
    },
    /// The evidence is still being gathered.
    #[error("{subject} is being verified; retry later")]
    Pending {
        /// The requested reference.
        subject: String,
    },
    /// The reference does not resolve.
    #[error(transparent)]
    Resolve(#[from] ResolveError),
    /// The database failed.
    #[error("{0}")]
    Store(String),
    /// `ns` names no upstream.
    #[error("{asked} is not an upstream of this gate{}", did_you_mean(near))]
    UnknownUpstream {
        /// The host that was requested.
        asked: String,
        /// Names that may be meant.
        near: Vec<String>,
    },
    /// The name of an image means another image to clients than to Docker.
    #[error(
        "{asked} names two images: clients of this gate pull {clients} by this name, and as a short name of Docker it means \
         {short}; write one of these"
    )]
    UnclearName {
        /// The name as it was written.
        asked: String,
        /// The image that clients pull by this name.
        clients: String,
        /// The image for which it is short.
        short: String,
    },
    /// The decision could not be recorded, and the configuration requires a record.
    #[error("the decision could not be recorded, and audit.required is set")]
    Unrecorded,
    /// The upstream request failed.
    #[error(transparent)]
    Upstream(#[from] upstream::Error),
}

impl GateError {
    /// Whether the same request gets the same answer until an input of the decision changes.
    pub(super) fn is_settled(&self) -> bool {
        match self {
            Self::Denied(denial) => denial.kind == DenialKind::Policy,
            Self::ForeignUrl { .. }
            | Self::NoUpstream { .. }
            | Self::NotServed { .. }
            | Self::UnknownUpstream { .. } => true,
            Self::BlobUnknown { .. }
            | Self::Cache(_)
            | Self::Name(_)
            | Self::Pending { .. }
            | Self::Resolve(_)
            | Self::Store(_)
            | Self::UnclearName { .. }
            | Self::Unrecorded
            | Self::Upstream(_) => false,
        }
    }

    /// Whether the content does not exist, or no registry is asked for it because the upstream is offline. This is not
    /// a failure: clients often request content that may not exist.
    pub(super) fn is_missing(&self) -> bool {
        match self {
            Self::BlobUnknown { .. } | Self::Resolve(ResolveError::NotFound(_)) | Self::Cache(CacheError::NotFound) => {
                true
            }
            Self::Resolve(ResolveError::Upstream(error))
            | Self::Cache(CacheError::Upstream(error))
            | Self::Upstream(error) => {
                matches!(error, upstream::Error::NotFound { .. } | upstream::Error::Offline { .. })
            }
            Self::Cache(CacheError::Busy | CacheError::Disk(_) | CacheError::Part { .. } | CacheError::Size { .. })
            | Self::Resolve(
                ResolveError::Interrupted
                | ResolveError::Late { .. }
                | ResolveError::NotKnown
                | ResolveError::Pin { .. }
                | ResolveError::Refused(_)
                | ResolveError::Silent { .. }
                | ResolveError::Store(_),
            )
            | Self::Denied(_)
            | Self::ForeignUrl { .. }
            | Self::Name(_)
            | Self::NoUpstream { .. }
            | Self::NotServed { .. }
            | Self::Pending { .. }
            | Self::Store(_)
            | Self::UnclearName { .. }
            | Self::UnknownUpstream { .. }
            | Self::Unrecorded => false,
        }
    }

    /// Whether a retry may help because the request could not be decided.
    pub fn is_temporary(&self) -> bool {
        match self {
            Self::Denied(denial) => denial.kind != DenialKind::Policy,
            Self::Resolve(error) => error.is_temporary(),
            Self::Upstream(error) => error.is_temporary(),
            Self::Cache(error) => error.is_temporary(),
            Self::Pending { .. } | Self::Store(_) | Self::Unrecorded => true,
            Self::BlobUnknown { .. }
            | Self::ForeignUrl { .. }
            | Self::Name(_)
            | Self::NoUpstream { .. }
            | Self::NotServed { .. }
            | Self::UnclearName { .. }
            | Self::UnknownUpstream { .. } => false,
        }
    }
}

fn for_whom(scope: &str) -> String {
    if scope.is_empty() { "clients without a scope".into() } else { format!("scope {scope:?}") }
}

/// Only similar names: which registries a gate serves is not everybody's business, and there may be hundreds.
fn did_you_mean(near: &[String]) -> String {
    if near.is_empty() { String::new() } else { format!("; did you mean {}?", near.join(" or ")) }
}

impl From<StoreError> for GateError {
    fn from(error: StoreError) -> Self {
        Self::Store(error.to_string())
    }
}
