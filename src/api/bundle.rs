//! Bundles: the calls that carry images from one gate to another.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::parameter;
use super::query::encode;
pub use crate::gate::{BundledDatabase, BundledImage, ImportOutcome, ImportedImage, report_file_name, report_names};
use crate::oci::{Digest, ImageName};

/// The result for one image of a [`PrefetchRequest`](super::PrefetchRequest) that asks for a bundle.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct PlannedImage {
    /// The image as the request named it.
    pub image: String,
    /// What the bundle has of it.
    pub bundled: Option<BundledImage>,
    /// The digests by which reports name it: of its manifests, their configurations, and its index.
    #[serde(default)]
    pub names: BTreeSet<Digest>,
    /// How many files of reports and VEX statements are about it.
    #[serde(default)]
    pub reports: usize,
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
    /// Reports that must be in use when it is judged, by the digests of their files.
    #[serde(default)]
    pub reports: Vec<Digest>,
    /// The import to which it belongs.
    pub hold: u64,
}

/// Content that a gate may have already.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct MissingRequest {
    /// The digests, at most 5,000.
    pub digests: Vec<Digest>,
    /// The import that needs them: they are not evicted until it ends.
    #[serde(default)]
    pub hold: Option<u64>,
}

/// The beginning of an import.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HoldRequest {
    /// Whether images of offline upstreams may be evicted to make room.
    #[serde(default)]
    pub evict: bool,
}

/// The number of an import that has begun.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct HoldAnswer {
    /// The number.
    pub hold: u64,
}

/// The end of an import.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRequest {
    /// Its number.
    pub hold: u64,
}

/// What an import that has ended left behind.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ReleaseAnswer {
    /// The contents of the import that are not in the cache.
    pub lost: Vec<Digest>,
}

/// Advisory databases of a bundle that are about to be put into use, for the audit record.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AdvisoriesRequest {
    /// The databases.
    pub databases: Vec<BundledDatabase>,
}

/// Reports of a bundle that are about to be put into use, for the audit record.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ReportsRequest {
    /// The digests of their files.
    pub reports: Vec<Digest>,
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
    /// The import to which content that is sent belongs.
    pub hold: Option<u64>,
}

impl ContentQuery {
    /// As a query.
    pub fn to_query(&self) -> String {
        let Self { name, digest, size, media_type, namespace, hold } = self;
        let kind = media_type.as_ref().map(|kind| format!("&media_type={}", encode(kind))).unwrap_or_default();
        let (host, repository) = (encode(name.host.as_str()), encode(name.repository.as_str()));
        let namespace = encode(namespace);
        let hold = hold.map(|hold| format!("&hold={hold}")).unwrap_or_default();
        format!("host={host}&repository={repository}&digest={digest}&size={size}&namespace={namespace}{kind}{hold}")
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
            hold: parameter(query, "hold").map(|hold| hold.parse().ok()).unwrap_or_default(),
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
            hold: Some(7),
        };
        assert_eq!(ContentQuery::from_query(&query.to_query()), Some(query.clone()));
        let blob = ContentQuery { media_type: None, hold: None, ..query };
        assert_eq!(ContentQuery::from_query(&blob.to_query()), Some(blob));
        for wrong in ["", "host=a.test&repository=b&digest=sha256:1&size=1", "repository=b&size=1"] {
            assert_eq!(ContentQuery::from_query(wrong), None, "{wrong}");
        }
    }
}
