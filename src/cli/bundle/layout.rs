//! The documents of a bundle: an OCI image layout (image-spec 1.1, image-layout.md) in one tar archive.
//!
//! `index.json` names each image by its full name, so that skopeo, crane and oras can read the archive. It also has one
//! artifact with the document of the bundle, which contains what a gate needs to know. A gate uses only that document,
//! and judges or verifies its statements.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::api::BundledImage;
use crate::oci::{Digest, ImageReference, Tag};
use crate::runtime::Clock;

/// The largest trusted root, in bytes.
pub(super) const MAX_ROOT: u64 = 4 * 1024 * 1024;
/// The maximum number of report files: a manifest has at most 1,000 descriptors.
pub(super) const MAX_REPORTS: usize = 900;
/// The maximum total size of the files of reports, in bytes.
pub(super) const MAX_REPORT_BYTES: u64 = 1 << 30;
/// The content of `oci-layout`.
pub(super) const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;
/// The beginning of the types of everything that only pullgate writes.
pub(super) const OWN_TYPES: &str = "application/vnd.pullgate.";
/// The beginning of the artifact types of the bundle's own manifest, before the version of the format.
pub(super) const BUNDLE_TYPES: &str = "application/vnd.pullgate.bundle.";
/// The artifact type of the bundle's own manifest.
pub(super) const BUNDLE_TYPE: &str = "application/vnd.pullgate.bundle.v1";
/// The media type of the document.
pub(super) const DOCUMENT_TYPE: &str = "application/vnd.pullgate.bundle.v1+json";
/// The media type of an archive of advisory databases, as `db export` writes it.
pub(super) const ADVISORIES_TYPE: &str = "application/vnd.pullgate.advisories.v1.tar";
/// The media type of a trusted root of Sigstore.
pub(super) const ROOT_TYPE: &str = "application/vnd.dev.sigstore.trustedroot+json";
/// The media type of a file of reports or VEX statements, whatever its format.
pub(super) const REPORT_TYPE: &str = "application/vnd.pullgate.report.v1+json";
const MANIFEST_TYPE: &str = "application/vnd.oci.image.manifest.v1+json";
const EMPTY_TYPE: &str = "application/vnd.oci.empty.v1+json";
/// The configuration of the bundle's own manifest.
pub(super) const EMPTY: &str = "{}";
const SCHEMA: u32 = 1;
/// What to do about a bundle that another version of this program has written.
pub(super) const OTHER_VERSION: &str =
    "use the version of pullgate that wrote it or a newer one, or export it again with this version";

/// What a bundle says about its content.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BundleDocument {
    /// Always 1.
    pub(super) schema: u32,
    /// When it was begun.
    pub(super) created: Timestamp,
    /// What was asked for, to tell whether an export can go on.
    pub(super) asked: Vec<String>,
    /// The images.
    pub(super) images: Vec<BundledImage>,
}

impl BundleDocument {
    pub(super) fn new(asked: Vec<String>, images: Vec<BundledImage>) -> Self {
        Self { schema: SCHEMA, created: Clock::system().now(), asked, images }
    }

    pub(super) fn parse(bytes: &[u8]) -> Result<Self, String> {
        #[derive(Deserialize)]
        struct Version {
            schema: u32,
        }
        let wrong = |error: serde_json::Error| format!("the document of the bundle cannot be read: {error}");
        match serde_json::from_slice::<Version>(bytes).map_err(wrong)?.schema {
            SCHEMA => serde_json::from_slice(bytes).map_err(wrong),
            newer => Err(format!(
                "the bundle has schema {newer}, but this version of pullgate reads {SCHEMA}; {OTHER_VERSION}"
            )),
        }
    }
}

/// A file that the bundle's own manifest lists.
#[derive(Clone, Debug)]
pub(super) struct BundleLayer {
    pub(super) media_type: &'static str,
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) title: String,
}

/// The bundle's own manifest.
pub(super) fn bundle_manifest(layers: &[BundleLayer]) -> Vec<u8> {
    let layer = |layer: &BundleLayer| {
        let BundleLayer { media_type, digest, size, title } = layer;
        json!({"mediaType": media_type, "digest": digest, "size": size,
               "annotations": {"org.opencontainers.image.title": title}})
    };
    let empty = json!({"mediaType": EMPTY_TYPE, "digest": Digest::sha256(EMPTY.as_bytes()), "size": EMPTY.len()});
    let layers: Vec<Value> = layers.iter().map(layer).collect();
    let manifest = json!({"schemaVersion": 2, "mediaType": MANIFEST_TYPE, "artifactType": BUNDLE_TYPE,
                          "config": empty, "layers": layers});
    manifest.to_string().into_bytes()
}

/// `index.json`: the bundle's own manifest first, then every image and what is attached to it.
pub(super) fn index(bundle: &[u8], images: &[BundledImage]) -> Vec<u8> {
    let mut entries = vec![json!({"mediaType": MANIFEST_TYPE, "artifactType": BUNDLE_TYPE,
                                  "digest": Digest::sha256(bundle), "size": bundle.len()})];
    images.iter().for_each(|image| entries.extend(entries_of(image)));
    json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json", "manifests": entries})
        .to_string()
        .into_bytes()
}

fn entries_of(image: &BundledImage) -> Vec<Value> {
    let names = |digest: Digest| {
        let tags = image.attached.iter().flat_map(|one| {
            one.list
                .tags
                .iter()
                .filter(move |(_, named)| **named == Some(digest))
                .map(|(suffix, _)| format!("{}-{}{suffix}", one.subject.algorithm().name(), one.subject.hex()))
        });
        tags.filter_map(|tag| tag.parse::<Tag>().ok()).next()
    };
    let mut entries = Vec::new();
    for manifest in image.manifests.iter().filter(|one| one.is_attached || one.digest == image.digest) {
        let reference = match names(manifest.digest).filter(|_| manifest.is_attached) {
            Some(tag) => ImageReference { name: image.name.clone(), tag: Some(tag), digest: None },
            None if manifest.is_attached => {
                ImageReference { name: image.name.clone(), tag: None, digest: Some(manifest.digest) }
            }
            None => image.reference(),
        };
        let mut annotations = json!({
            "org.opencontainers.image.ref.name": reference.to_string(),
            "io.containerd.image.name": reference.to_string(),
            "io.pullgate.bundle.registry": image.name.host,
        });
        if !manifest.is_attached {
            annotations["io.pullgate.bundle.seen"] = json!(image.seen);
        }
        entries.push(json!({"mediaType": manifest.media_type, "digest": manifest.digest, "size": manifest.size,
                            "annotations": annotations}));
    }
    entries
}
