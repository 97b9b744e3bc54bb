//! The signed payload: which artifact is signed (signature-specification.md, "OCI Signatures", "Payload").

use serde_json::Value;

use crate::oci::{Digest, Manifest, json};

/// The largest payload, in bytes; real ones have a few hundred.
const MAX_PAYLOAD: usize = 256 * 1024;
/// The names in a payload that have a meaning. No other spelling of them is accepted.
const MEMBERS: &[&str] = &["targetArtifact", "mediaType", "digest", "size", "annotations"];

/// Checks that a payload names exactly this manifest: by digest, size and media type.
///
/// # Errors
/// Why it does not.
pub(super) fn check(payload: &[u8], image: &Manifest) -> Result<(), String> {
    if payload.len() > MAX_PAYLOAD {
        return Err("its payload is larger than 256 KiB".into());
    }
    let payload = json::parse(payload, MEMBERS, &["annotations"]);
    let payload = payload.map_err(|error| format!("its payload is not strict JSON: {error}"))?;
    let target = payload.get("targetArtifact").ok_or("its payload names no artifact")?;
    let text = |name: &str| {
        let value = target.get(name).and_then(Value::as_str);
        value.ok_or_else(|| format!("its payload names no {name}"))
    };
    let digest: Digest = text("digest")?.parse().map_err(|_| "its payload names no valid digest")?;
    if Digest::of(digest.algorithm(), &image.bytes) != digest {
        return Err(format!("is for another image, {digest}"));
    }
    let size = target.get("size").and_then(Value::as_u64).ok_or("its payload names no size")?;
    if usize::try_from(size) != Ok(image.bytes.len()) {
        return Err(format!("is for a manifest of {size} bytes, but this one has {}", image.bytes.len()));
    }
    let media_type = text("mediaType")?;
    if media_type != image.media_type {
        return Err(format!("is for the media type {media_type:?}, but this manifest is {:?}", image.media_type));
    }
    Ok(())
}
