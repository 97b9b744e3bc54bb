//! What all logs in SARIF 2.1.0 (OASIS) share.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde_json::{Value, json};

/// The address of the schema, which logs state.
pub(super) const SCHEMA: &str =
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json";

/// What is encoded in the path of a URI (RFC 3986, section 3.3).
const PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'/').remove(b'-').remove(b'.').remove(b'_').remove(b'~').remove(b'@');

/// A path as the URI of an artifact, relative to the root.
fn encoded_path(path: &str) -> String {
    utf8_percent_encode(path.trim_start_matches('/'), PATH).to_string()
}

/// The physical location of a result, which is about this path as a whole. Code scanning of GitHub requires a line.
pub(super) fn physical_location(path: &str) -> Value {
    json!({
        "artifactLocation": {"uri": encoded_path(path)},
        "region": {"startLine": 1, "startColumn": 1, "endLine": 1, "endColumn": 1},
    })
}

/// A rule: what results with this identifier are about, and what to do. Code scanning of GitHub requires each of the
/// texts.
pub(super) fn rule(id: &str, text: &str, help: &str, level: &str) -> Value {
    json!({
        "id": id,
        "shortDescription": {"text": text},
        "fullDescription": {"text": text},
        "help": {"text": help},
        "defaultConfiguration": {"level": level},
    })
}
