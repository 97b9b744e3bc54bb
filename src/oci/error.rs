//! Errors as the distribution specification puts them on the wire ("Error Codes").

use http::StatusCode;
use serde_json::json;

/// An error code of the distribution specification. Clients know few others: containerd prints `unknown` for the rest.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ErrorCode {
    /// Blob unknown to the registry.
    BlobUnknown,
    /// Access denied: by policy, or by the upstream.
    Denied,
    /// The digest is malformed or of an unknown algorithm.
    DigestInvalid,
    /// The manifest is refused.
    ManifestInvalid,
    /// Manifest unknown to the registry.
    ManifestUnknown,
    /// The repository name or the path is malformed.
    NameInvalid,
    /// Repository unknown to the registry.
    NameUnknown,
    /// The range lies outside of the content.
    RangeInvalid,
    /// Come again later.
    TooManyRequests,
    /// Authentication required.
    Unauthorized,
    /// The gate cannot judge now.
    Unavailable,
    /// Not done by this registry.
    Unsupported,
}

impl ErrorCode {
    /// The code as it stands on the wire.
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

/// What a client is told when it does not get what it asked for.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WireError {
    /// HTTP status.
    pub status: StatusCode,
    /// Code of the distribution specification.
    pub code: ErrorCode,
    /// One line for the person who asked: all of the reason.
    pub message: String,
    /// `Retry-After` in seconds, where coming again helps.
    pub retry_after: Option<u64>,
}

impl WireError {
    /// An error after which nothing but another request helps.
    pub fn new(status: StatusCode, code: ErrorCode, message: impl Into<String>) -> Self {
        Self { status, code, message: one_line(&message.into()), retry_after: None }
    }

    /// The same error, asking the client to come again after so many seconds.
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

/// Whatever a message quotes, it stays one line: no control characters.
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
    fn the_reason_phrase_is_one_short_printable_line() {
        let error = WireError::new(StatusCode::FORBIDDEN, ErrorCode::Denied, format!("a\r\nX: ü{}", "b".repeat(300)));
        let phrase = error.reason_phrase();
        assert!(phrase.starts_with("a  X: ?bbb") && phrase.len() == 200 && phrase.ends_with("..."));
        assert!(!error.body().contains("\\n"));
    }
}
