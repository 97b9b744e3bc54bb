//! Bundles: the calls that carry images from one gate to another.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::parameter;
use super::query::encode;
pub use crate::gate::{BundledImage, ImportOutcome, ImportedImage};
use crate::oci::{Digest, ImageName};

/// The result for one image of a [`PrefetchRequest`](super::PrefetchRequest) that asks for a bundle.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PlannedImage {
    /// The image as the request named it.
    pub image: String,
    /// What the bundle has of it.
    pub bundled: Option<BundledImage>,
    /// Why it cannot be exported.
    pub error: Option<String>,
}

/// An image whose content was sent before.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ImportRequest {
    /// The image.
    pub image: BundledImage,
    /// Only judge it.
    #[serde(default)]
    pub dry_run: bool,
    /// Set the tag even if it was seen later to refer to another digest.
    #[serde(default)]
    pub force: bool,
    /// The namespace whose rules apply; empty for the cluster-wide rules.
    #[serde(default)]
    pub namespace: String,
    /// Advisory databases that must be in use when it is judged, with the times when they were built.
    #[serde(default)]
    pub advisories: Vec<(String, Timestamp)>,
}

/// Content that a gate may have already.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MissingRequest {
    /// The digests, at most 5,000.
    pub digests: Vec<Digest>,
}

/// One manifest or blob, as the query of a transfer.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ContentQuery {
    /// The repository. Content is judged for it when it is read.
    pub name: ImageName,
    /// The digest.
    pub digest: Digest,
    /// The size in bytes.
    pub size: u64,
    /// The media type of a manifest; `None` for a blob.
    pub media_type: Option<String>,
    /// The namespace whose rules apply.
    pub namespace: String,
}

impl ContentQuery {
    /// As a query.
    pub fn to_query(&self) -> String {
        let Self { name, digest, size, media_type, namespace } = self;
        let kind = media_type.as_ref().map(|kind| format!("&media_type={}", encode(kind))).unwrap_or_default();
        let (host, repository) = (encode(name.host.as_str()), encode(name.repository.as_str()));
        let namespace = encode(namespace);
        format!("host={host}&repository={repository}&digest={digest}&size={size}&namespace={namespace}{kind}")
    }

    /// From a query; `None` if a part is missing or invalid.
    pub fn from_query(query: &str) -> Option<Self> {
        let name = ImageName {
            host: parameter(query, "host")?.parse().ok()?,
            repository: parameter(query, "repository")?.parse().ok()?,
        };
        Some(Self {
            name,
            digest: parameter(query, "digest")?.parse().ok()?,
            size: parameter(query, "size")?.parse().ok()?,
            media_type: parameter(query, "media_type"),
            namespace: parameter(query, "namespace").unwrap_or_default(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn content_is_named_by_a_query() {
        let query = ContentQuery {
            name: ImageName { host: "a.test:5000".parse().unwrap(), repository: "b/c".parse().unwrap() },
            digest: Digest::sha256(b"x"),
            size: 1,
            media_type: Some("application/vnd.oci.image.manifest.v1+json".into()),
            namespace: "team".into(),
        };
        assert_eq!(ContentQuery::from_query(&query.to_query()), Some(query.clone()));
        let blob = ContentQuery { media_type: None, ..query };
        assert_eq!(ContentQuery::from_query(&blob.to_query()), Some(blob));
        for wrong in ["", "host=a.test&repository=b&digest=sha256:1&size=1", "repository=b&size=1"] {
            assert_eq!(ContentQuery::from_query(wrong), None, "{wrong}");
        }
    }
}
