//! Detects content that some client could interpret as a manifest, however it is served.

use super::json::{each_member_of_first, folds_to};
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
    let (mut has_version, mut has_part, mut says_manifest) = (false, false, false);
    let read = each_member_of_first(text, |key, value| {
        has_version |= folds_to(key, "schemaVersion");
        has_part |= PARTS.iter().any(|part| folds_to(key, part));
        says_manifest |= folds_to(key, "mediaType") && names_manifest(value.get());
    });
    match read {
        Ok(()) => has_version && has_part || says_manifest,
        Err(_) => mentions_manifest(text),
    }
}

/// Whether a JSON value is the media type of a manifest.
fn names_manifest(value: &str) -> bool {
    serde_json::from_str::<String>(value).is_ok_and(|value| media_type::is_manifest(&media_type::essence(&value)))
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
