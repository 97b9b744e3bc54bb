//! Lists of referrers (distribution-spec, "Listing Referrers"): parsed strictly, and rewritten.

use bytes::Bytes;
use serde_json::{Value, json};

use super::digest::Digest;
use super::json;
use super::manifest::{Descriptor, KNOWN_KEYS, Refused, descriptor};
use super::media_type;

/// Parses a list of referrers: the body of the referrers API or the manifest of a referrers tag. It is recognised by
/// its `manifests`, not by media types. An entry that is malformed or has an unsupported digest is removed: no client
/// could request it here, and it must not hide the others.
///
/// # Errors
/// The body is not strict JSON or has no `manifests`.
pub fn parse_referrers(bytes: &[u8]) -> Result<Vec<Descriptor>, Refused> {
    Ok(items(bytes)?.iter().filter_map(|item| descriptor(item).ok()).collect())
}

/// The same for a list that must be complete, because others conclude from it what is not there.
///
/// # Errors
/// The same, or an entry is malformed.
pub fn parse_whole_referrers(bytes: &[u8]) -> Result<Vec<Descriptor>, Refused> {
    items(bytes)?.iter().map(descriptor).collect()
}

fn items(bytes: &[u8]) -> Result<Vec<Value>, Refused> {
    let Value::Object(mut body) = json::parse(bytes, KNOWN_KEYS, &["annotations"])? else {
        return Err(Refused::Shape("a list of referrers must be a JSON object"));
    };
    match body.remove("manifests") {
        Some(Value::Array(items)) => Ok(items),
        // Go writes an empty list as null.
        Some(Value::Null) => Ok(Vec::new()),
        _ => Err(Refused::Shape("manifests is missing or not a list")),
    }
}

/// Writes an image index with these descriptors. It contains only the members that the specification defines.
pub fn write_referrers(entries: &[Descriptor]) -> Bytes {
    let manifests: Vec<Value> = entries.iter().map(entry).collect();
    json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests}).to_string().into()
}

fn entry(descriptor: &Descriptor) -> Value {
    let Descriptor { media_type, digest, size, artifact_type, annotations, .. } = descriptor;
    let mut entry = json!({"mediaType": media_type, "digest": digest, "size": size});
    if let Some(artifact_type) = artifact_type {
        entry["artifactType"] = json!(artifact_type);
    }
    if !annotations.is_empty() {
        entry["annotations"] = annotations.iter().map(|(key, value)| (key.clone(), json!(value))).collect();
    }
    entry
}

/// The tag that lists a manifest's referrers if there is no referrers API (distribution-spec, "Referrers Tag Schema"):
/// the algorithm, a dash, and at most 64 digits.
pub fn referrers_tag(digest: &Digest) -> String {
    format!("{}-{:.64}", digest.algorithm().name(), digest.hex())
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEX: &str = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

    fn list(entry: &str) -> String {
        format!("{{\"manifests\":[{entry}]}}")
    }

    #[test]
    fn only_known_members_are_written() {
        let text = format!(
            r#"{{"mediaType":"text/html","x":"<script>","manifests":[{{"mediaType":"application/vnd.oci.image.manifest.v1+json",
            "digest":"sha256:{HEX}","size":7,"artifactType":"a/b","annotations":{{"k":"<v>\"\r\n"}},"data":"e30=",
            "urls":["https://evil.test"],"platform":{{"os":"linux"}},"y":1}}]}}"#
        );
        let written = write_referrers(&parse_referrers(text.as_bytes()).unwrap());
        let wanted = json!({
            "schemaVersion": 2,
            "mediaType": media_type::OCI_INDEX,
            "manifests": [{
                "mediaType": media_type::OCI_MANIFEST,
                "digest": format!("sha256:{HEX}"),
                "size": 7,
                "artifactType": "a/b",
                "annotations": {"k": "<v>\"\r\n"},
            }],
        });
        assert_eq!(serde_json::from_slice::<Value>(&written).unwrap(), wanted);
        assert_eq!(parse_referrers(&written).unwrap().len(), 1);
        assert_eq!(parse_whole_referrers(&written).unwrap().len(), 1);
        assert_eq!(write_referrers(&[]), write_referrers(&parse_referrers(br#"{"manifests":null}"#).unwrap()));
    }

    #[test]
    fn entries_that_cannot_be_requested_are_removed() {
        let known = format!(r#"{{"mediaType":"a/b","digest":"sha256:{HEX}","size":7}}"#);
        let with = |more: &str| format!(r#"{{"mediaType":"a/b","digest":"sha256:{HEX}"{more}}}"#);
        for bad in [
            r#"{"mediaType":"a/b","digest":"blake3:00","size":3}"#,
            "null",
            "1",
            "\"text\"",
            "{}",
            &with(""),
            &with(r#","size":-1"#),
            &with(r#","size":1,"artifactType":"a\r\n""#),
            &with(r#","size":1,"annotations":{"k":1}"#),
            &with(r#","size":1,"platform":"linux""#),
        ] {
            let listed = list(&format!("{bad},{known}"));
            assert_eq!(parse_referrers(listed.as_bytes()).unwrap().len(), 1, "{bad}");
            assert!(parse_whole_referrers(listed.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn other_documents_are_not_lists_of_referrers() {
        for bad in [
            "",
            "<html>",
            "[]",
            "{}",
            r#"{"errors":[]}"#,
            r#"{"manifests":{}}"#,
            r#"{"manifests":[],"manifests":[]}"#,
            r#"{"Manifests":[]}"#,
        ] {
            assert!(parse_referrers(bad.as_bytes()).is_err(), "{bad}");
        }
    }

    #[test]
    fn referrers_tags() {
        let digest: Digest = format!("sha256:{HEX}").parse().unwrap();
        assert_eq!(referrers_tag(&digest), format!("sha256-{HEX}"));
        let digest: Digest = format!("sha512:{HEX}{HEX}").parse().unwrap();
        assert_eq!(referrers_tag(&digest), format!("sha512-{HEX}"));
    }
}
