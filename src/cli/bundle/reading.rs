//! Reads what a bundle says about itself.

use serde::Deserialize;

use super::archive::BundleArchive;
use super::layout::{ADVISORIES_TYPE, BUNDLE_TYPE, BundleDocument, DOCUMENT_TYPE, REPORT_TYPE, ROOT_TYPE};
use crate::oci::{Content, Descriptor, Digest, MAX_MANIFEST, Manifest};

/// The largest `index.json`, in bytes.
const MAX_INDEX: u64 = 16 * 1024 * 1024;
/// The largest document, in bytes.
const MAX_DOCUMENT: u64 = 64 * 1024 * 1024;

/// What a bundle says about itself.
#[derive(Debug)]
pub(super) struct OpenedBundle {
    pub(super) document: BundleDocument,
    /// The archive of advisory databases.
    pub(super) advisories: Option<Descriptor>,
    /// Trusted roots of Sigstore. Their names are the sender's choice and are not used.
    pub(super) roots: Vec<Descriptor>,
    /// Files of reports and VEX statements. Their names are not used either.
    pub(super) reports: Vec<Descriptor>,
}

/// The content of `oci-layout` (image-spec, image-layout.md).
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayoutVersion {
    image_layout_version: String,
}

#[derive(Deserialize)]
struct LayoutIndex {
    manifests: Vec<LayoutEntry>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct LayoutEntry {
    digest: Digest,
    artifact_type: Option<String>,
}

impl OpenedBundle {
    /// Reads the bundle's own manifest and its document. Errors begin with the path of the archive.
    pub(super) fn read(archive: &BundleArchive) -> Result<Self, String> {
        let layout = archive.small("oci-layout", 4096)?;
        let layout: LayoutVersion = serde_json::from_slice(&layout)
            .map_err(|error| archive.wrong(format!("oci-layout cannot be read: {error}")))?;
        if !layout.image_layout_version.starts_with("1.") {
            let version = layout.image_layout_version;
            return Err(
                archive.wrong(format!("it has image layout {version:?}, but this version of pullgate reads 1.0.0"))
            );
        }
        let index = archive.small("index.json", MAX_INDEX)?;
        let index: LayoutIndex = serde_json::from_slice(&index)
            .map_err(|error| archive.wrong(format!("index.json cannot be read: {error}")))?;
        let is_bundle = |entry: &&LayoutEntry| entry.artifact_type.as_deref() == Some(BUNDLE_TYPE);
        let found: Vec<_> = index.manifests.iter().filter(is_bundle).collect();
        let [own] = found[..] else {
            return Err(archive.wrong("it is not a bundle of pullgate: `pullgate bundle export` writes them"));
        };
        let bytes = archive.small_blob(own.digest, MAX_MANIFEST as u64)?;
        let manifest = Manifest::parse(bytes.into(), None);
        let manifest = manifest.map_err(|error| archive.wrong(format!("its own manifest: {error}")))?;
        let Content::Image { layers, .. } = manifest.content else {
            return Err(archive.wrong("its own manifest is an index"));
        };
        let of_type = |wanted: &'static str| layers.iter().filter(move |layer| layer.media_type == wanted);
        let document = of_type(DOCUMENT_TYPE).next().ok_or_else(|| archive.wrong("it has no document"))?;
        let document = archive.small_blob(document.digest, MAX_DOCUMENT)?;
        let document = BundleDocument::parse(&document).map_err(|error| archive.wrong(error))?;
        let advisories = of_type(ADVISORIES_TYPE).next().cloned();
        let all = |wanted| of_type(wanted).cloned().collect();
        Ok(Self { document, advisories, roots: all(ROOT_TYPE), reports: all(REPORT_TYPE) })
    }
}
