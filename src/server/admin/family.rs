//! The APIs of the admin server, and how each reports that a call failed.

use http::StatusCode;

use super::access::AccessRefusal;
use super::{ApiResponse, ibm};
use crate::api::path;

/// The APIs of the admin server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ApiFamily {
    /// pullgate's own, below `/api/v1/`.
    Native,
    /// That of IBM's Vulnerability Advisor, below `/va/api/`.
    Ibm,
}

impl ApiFamily {
    /// The API that a path belongs to, and the rest of the path.
    pub(super) fn of(path: &str) -> Option<(Self, &str)> {
        let of = |prefix, family| Some((family, path.strip_prefix(prefix)?));
        of(path::PREFIX, Self::Native).or_else(|| of(path::IBM_PREFIX, Self::Ibm))
    }

    /// Whether a reading call can make the gate fetch an image with its own credentials: a check, and a report on one
    /// image.
    pub(super) fn may_fetch(self, path: &str) -> bool {
        let Some((_, rest)) = Self::of(path) else { return false };
        match self {
            Self::Native => rest == path::CHECK,
            Self::Ibm => rest.split_once('/').is_some_and(|(_, call)| call.starts_with("report/image/")),
        }
    }

    /// The response to a call that failed, in the shape of the API.
    pub(super) fn error(self, status: StatusCode, message: &str) -> ApiResponse {
        match self {
            Self::Native => ApiResponse::error(status, message),
            Self::Ibm => {
                let code = status.canonical_reason().unwrap_or("error").to_ascii_lowercase().replace(' ', "_");
                ibm::error(status, &code, message)
            }
        }
    }

    pub(super) fn refusal(self, refusal: AccessRefusal) -> ApiResponse {
        self.error(refusal.status, refusal.why)
    }
}
