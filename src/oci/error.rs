//! Errors in the wire format of the distribution specification ("Error Codes").

use http::StatusCode;
use serde_json::json;

/// An error code of the distribution specification. Clients know few others: containerd prints `unknown` for the rest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErrorCode {
    /// The registry does not have the blob.
    BlobUnknown,
    /// Access denied, by policy or by the upstream.
    Denied,
    /// The digest is malformed or uses an unknown algorithm.
    DigestInvalid,
    /// The manifest is not acceptable.
    ManifestInvalid,
    /// The registry does not have the manifest.
    ManifestUnknown,
    /// The repository name or the path is malformed.
    NameInvalid,
    /// The registry does not have the repository.
    NameUnknown,
    /// The requested range is outside the content.
    RangeInvalid,
    /// Too many requests; the client should retry later.
    TooManyRequests,
    /// Authentication is required.
    Unauthorized,
    /// The gate cannot decide at the moment.
    Unavailable,
    /// This registry does not support the operation.
    Unsupported,
}

impl ErrorCode {
    /// The code in wire format.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::BlobUnknown => "BLOB_UNKNOWN",
            Self::Denied => "DENIED",
            Self::DigestInvalid => "DIGEST_INVALID",
            Self::ManifestInvalid => "MANIFEST_INVALID",
            Self::ManifestUnknown => "MANIFEST_UNKNOWN",
            Self::NameInvalid => "NAME_INVALID",
            Self::NameUnknown => "NAME_UNKNOWN",
            Self::RangeInvalid => "RANGE_INVALID",
            Self::TooManyRequests => "TOOMANYREQUESTS",
            Self::Unauthorized => "UNAUTHORIZED",
            Self::Unavailable => "UNAVAILABLE",
            Self::Unsupported => "UNSUPPORTED",
        }
    }
}

/// The error response to a client.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WireError {
    /// The HTTP status.
    pub status: StatusCode,
    /// The code of the distribution specification.
    pub code: ErrorCode,
    /// The complete reason in one line, for people.
    pub message: String,
    /// `Retry-After` in seconds, if a retry may help.
    pub retry_after: Option<u64>,
}

impl WireError {
    /// Creates an error without `Retry-After`.
    pub fn new(status: StatusCode, code: ErrorCode, message: impl Into<String>) -> Self {
        Self { status, code, message: one_line(&message.into()), retry_after: None }
    }

    /// Adds a `Retry-After` of this many seconds.
    pub fn retry_after(self, seconds: u64) -> Self {
        Self { retry_after: Some(seconds), ..self }
    }

    /// The JSON body. `detail` is a string, because Docker prints it only then.
    pub fn body(&self) -> String {
        json!({"errors": [{"code": self.code.as_str(), "message": self.message, "detail": ""}]}).to_string()
    }

    /// The message as an HTTP/1.1 reason phrase (RFC 9112 §4): printable ASCII, at most 200 characters.
    pub fn reason_phrase(&self) -> String {
        let ascii = |c: char| if c.is_ascii_graphic() || c == ' ' { c } else { '?' };
        let phrase: String = self.message.chars().map(ascii).collect();
        if phrase.len() <= 200 { phrase } else { format!("{}...", &phrase[..197]) }
    }
}

/// Removes control characters, so that a message stays on one line, whatever it quotes.
fn one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    for c in text.chars() {
        line.push(if c.is_control() { ' ' } else { c });
    }
    line.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reason_phrases_are_short_printable_lines() {
        let error = WireError::new(StatusCode::FORBIDDEN, ErrorCode::Denied, format!("a\r\nX: ü{}", "b".repeat(300)));
        let phrase = error.reason_phrase();
        assert!(phrase.starts_with("a  X: ?bbb") && phrase.len() == 200 && phrase.ends_with("..."));
        assert!(!error.body().contains("\\n"));
    }
}
