//! Why an upstream did not deliver.

use http::StatusCode;

/// Why an upstream did not deliver. The text names it, and says what to do where something can be done.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Error {
    /// As many requests to it are under way as may be, and have been for as long as one waits.
    #[error("{0}")]
    Busy(String),
    /// Bytes that do not have their digest.
    #[error("{0}")]
    Digest(String),
    /// 403.
    #[error("{0}")]
    Forbidden(String),
    /// 404.
    #[error("not found")]
    NotFound,
    /// An answer that a registry does not give.
    #[error("{0}")]
    Protocol(String),
    /// 429, for longer than a request may wait.
    #[error("the registry's rate limit is reached")]
    RateLimited {
        /// After how many seconds it may be asked again, where it says so.
        retry_after: Option<u64>,
    },
    /// Another 4xx about the request itself: asking again the same way gets the same answer.
    #[error("{message}")]
    Rejected {
        /// The registry's status.
        status: StatusCode,
        /// Which registry it was and, quoted, what it said.
        message: String,
    },
    /// What this client refuses to do: a private address, a token service of another site, a downgrade.
    #[error("{0}")]
    Refused(String),
    /// More bytes than are read.
    #[error("{0}")]
    TooLarge(String),
    /// 401, with the credentials that are configured or without any.
    #[error("{0}")]
    Unauthorized(String),
    /// No connection, no answer, 5xx.
    #[error("{0}")]
    Unavailable(String),
}

impl Error {
    /// Whether asking again later may help.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::Busy(_) | Self::RateLimited { .. } | Self::Unavailable(_))
    }

    /// Whether the answer was none that a registry gives. It says nothing of what was asked for, so an older answer may
    /// stand in for it.
    pub fn is_malfunction(&self) -> bool {
        matches!(self, Self::Digest(_) | Self::Protocol(_))
    }

    /// Whether another answer may come of the same question. It leaves open what was asked.
    pub fn may_pass(&self) -> bool {
        self.is_temporary() || self.is_malfunction()
    }
}
