//! Errors of the gate itself, as clients of the registry see them.

use std::fmt::Display;

use http::StatusCode;

use crate::oci::{ErrorCode, WireError};

/// An error for a client. Its message begins with the gate's name, because people see it among those of the client and
/// of registries.
pub(super) fn own_error(status: StatusCode, code: ErrorCode, reason: impl Display) -> WireError {
    WireError::new(status, code, own_message(reason))
}

/// A message of the gate for a client.
pub(super) fn own_message(text: impl Display) -> String {
    format!("pullgate: {text}")
}
