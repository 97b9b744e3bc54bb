//! What all logs in SARIF 2.1.0 (OASIS) share.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// The address of the schema, which logs state.
pub(super) const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// What is encoded in the path of a URI (RFC 3986, section 3.3).
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'@');

/// A path as the URI of an artifact, relative to the root.
pub(super) fn encoded_path(path: &str) -> String {
    utf8_percent_encode(path.trim_start_matches('/'), PATH).to_string()
}
