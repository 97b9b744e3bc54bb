//! Detects content that some client could interpret as a manifest, however it is served.

use serde_json::{Map, Value};

use super::json::folds_to;
use super::media_type;

/// Keys that make a document a manifest for some client: the lists of OCI and Docker, and those of schema 1.
const PARTS: &[&str] = &["blobs", "config", "fsLayers", "layers", "manifests"];

/// Whether some client would interpret these bytes as a manifest or an index: a JSON object with a `schemaVersion` and
/// a list, or with the media type of a manifest, in any spelling that Go accepts. A client that has these bytes has the
/// manifest, however it obtained them.
///
/// Content that looks like an object but does not parse strictly is judged by its text, because other parsers are more
/// lenient.
pub fn looks_like_manifest(bytes: &[u8]) -> bool {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    if !text.starts_with(b"{") {
        return false;
    }
    // Go's decoder reads one document and ignores what follows. Parsers disagree on which of two duplicate keys counts,
    // so only the presence of a key matters.
    let first = serde_json::Deserializer::from_slice(text).into_iter::<Map<String, Value>>().next();
    match first {
        Some(Ok(body)) => is_manifest(&body),
        _ => mentions_manifest(text),
    }
}

fn is_manifest(body: &Map<String, Value>) -> bool {
    let has = |known: &str| body.keys().any(|key| folds_to(key, known));
    let says_manifest = |(key, value): (&String, &Value)| {
        let named = value.as_str().is_some_and(|value| media_type::is_manifest(&media_type::essence(value)));
        folds_to(key, "mediaType") && named
    };
    has("schemaVersion") && PARTS.iter().any(|part| has(part)) || body.iter().any(says_manifest)
}

fn mentions_manifest(text: &[u8]) -> bool {
    let text = String::from_utf8_lossy(text).to_lowercase();
    let has = |part: &str| text.contains(&format!("\"{}\"", part.to_lowercase()));
    has("schemaVersion") && PARTS.iter().any(|part| has(part))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_that_clients_would_follow_looks_like_a_manifest() {
        for text in [
            r#"{"schemaVersion":2,"config":{},"layers":[]}"#,
            r#"{"schemaVersion":2,"manifests":[]}"#,
            r#"{"schemaVersion":1,"fsLayers":[],"history":[]}"#,
            r#"{"SchemaVersion":2,"Layers":[]}"#,
            r#"{"schemaVer\u017fion":2,"layers":[]}"#,
            r#"{"mediaType":"application/vnd.oci.image.index.v1+json"}"#,
            r#"{"mediatype":"application/vnd.oci.image.manifest.v1+JSON; charset=utf-8"}"#,
            " \n{\"schemaVersion\":2,\"layers\":[]} trailing",
            "\u{feff}{\"schemaVersion\":2,\"layers\":[]}",
            r#"{"schemaVersion":2,"layers":[],}"#,
        ] {
            assert!(looks_like_manifest(text.as_bytes()), "{text}");
        }
        let latin = [&br#"{"schemaVersion":2,"layers":[],"x":""#[..], b"\xff\"}"].concat();
        assert!(looks_like_manifest(&latin), "Go replaces invalid UTF-8");
        for text in [
            "",
            "{}",
            "[1]",
            "\0\0",
            r#"{"schemaVersion":2}"#,
            r#"{"architecture":"amd64","config":{},"rootfs":{"type":"layers"}}"#,
            r#"{"bomFormat":"CycloneDX","schemaversions":1}"#,
            r#"{"mediaType":"application/vnd.dev.sigstore.bundle.v0.3+json"}"#,
            r#"{"a":{"schemaVersion":2,"layers":[]}}"#,
        ] {
            assert!(!looks_like_manifest(text.as_bytes()), "{text}");
        }
    }
}
