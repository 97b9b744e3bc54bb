//! Errors of upstreams.

use http::StatusCode;

use crate::http_client::HttpError;
use crate::oci::Host;

/// What to look at if the answer to a request is a web page, which a registry itself hardly sends.
pub(crate) const WEB_PAGE: &str =
    "; the answer is a web page: is `url` that of the registry, or does a proxy or filter on the way answer instead?";

/// Why a request to an upstream failed. The message names the upstream and, if possible, the remedy.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Error {
    /// The maximum number of requests was in flight for as long as a request may wait.
    #[error("{0}")]
    Busy(String),
    /// The content does not match its digest.
    #[error("{0}")]
    Digest(String),
    /// 403.
    #[error("{0}")]
    Forbidden(String),
    /// 404.
    #[error("not found{}", if *is_page { WEB_PAGE } else { "" })]
    NotFound {
        /// Whether the answer is a web page.
        is_page: bool,
    },
    /// The upstream is configured to be offline, so nothing was requested.
    #[error("{host} is offline, and {why}")]
    Offline {
        /// The registry.
        host: Host,
        /// What is not here, and what to do.
        why: String,
    },
    /// Not a valid registry response.
    #[error("{0}")]
    Protocol(String),
    /// 429, with a wait longer than a request may spend.
    #[error("the rate limit is reached: {host}")]
    RateLimited {
        /// The registry, its token service, or the service beside it, and what it said.
        host: String,
        /// The number of seconds to wait, if stated.
        retry_after: Option<u64>,
    },
    /// Another 4xx that concerns the request itself: a retry would get the same response.
    #[error("{message}")]
    Rejected {
        /// The registry's status.
        status: StatusCode,
        /// The registry's name, and its message as a quotation.
        message: String,
    },
    /// This client refuses the operation: a private address, a token service of another site, a downgrade.
    #[error("{0}")]
    Refused(String),
    /// The response exceeds a size limit.
    #[error("{0}")]
    TooLarge(String),
    /// 401, with the configured credentials or without any.
    #[error("{0}")]
    Unauthorized(String),
    /// No connection, no response, or 5xx.
    #[error("{0}")]
    Unavailable(String),
}

impl Error {
    /// 404, and nothing else is known about it.
    pub const NOT_FOUND: Self = Self::NotFound { is_page: false };

    /// A body that was not read to its end.
    pub(super) fn unread(host: &Host, error: &HttpError) -> Self {
        let text = format!("{host}: {error}");
        if matches!(error, HttpError::TooLarge(_)) { Self::TooLarge(text) } else { Self::Unavailable(text) }
    }

    /// Whether a retry may help.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::RateLimited { .. } | Self::Unavailable(_))
    }

    /// Whether the response was not that of a working registry. It says nothing about the requested content, so a
    /// cached answer may be used instead.
    pub fn is_malfunction(&self) -> bool {
        matches!(self, Self::Digest(_) | Self::Protocol(_))
    }

    /// Whether the same question may get another answer later, so that it remains open. An import may bring what an
    /// offline upstream does not have.
    pub fn may_pass(&self) -> bool {
        self.is_temporary() || self.is_malfunction() || matches!(self, Self::Offline { .. })
    }
}
