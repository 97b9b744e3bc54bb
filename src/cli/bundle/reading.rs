//! Reads what a bundle says about itself.

use serde::Deserialize;

use super::archive::BundleArchive;
use super::layout::{
    ADVISORIES_TYPE, BUNDLE_TYPE, BUNDLE_TYPES, BundleDocument, DOCUMENT_TYPE, OTHER_VERSION, OWN_TYPES, REPORT_TYPE,
    ROOT_TYPE,
};
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

impl LayoutIndex {
    /// The entry of the bundle's own manifest.
    fn own(&self) -> Result<&LayoutEntry, String> {
        let formats = self.manifests.iter().filter_map(|entry| {
            let format = entry.artifact_type.as_deref()?.strip_prefix(BUNDLE_TYPES)?;
            Some((entry, format))
        });
        match formats.collect::<Vec<_>>()[..] {
            [(own, _)] if own.artifact_type.as_deref() == Some(BUNDLE_TYPE) => Ok(own),
            [(_, format)] => Err(format!(
                "it is a bundle of the format {format:?}, but this version of pullgate reads {:?}; {OTHER_VERSION}",
                BUNDLE_TYPE.trim_start_matches(BUNDLE_TYPES)
            )),
            [] => Err("it is not a bundle of pullgate: `pullgate bundle export` writes them".to_owned()),
            _ => Err("it has more than one bundle of pullgate: import the files that were exported".to_owned()),
        }
    }
}

/// Whether only pullgate writes this, and no version that is known here.
fn is_unknown(media_type: &str) -> bool {
    media_type.starts_with(OWN_TYPES) && ![DOCUMENT_TYPE, ADVISORIES_TYPE, REPORT_TYPE].contains(&media_type)
}

impl OpenedBundle {
    /// Reads the bundle's own manifest and its document. Errors begin with the path of the archive.
    pub(super) fn read(archive: &BundleArchive) -> Result<Self, String> {
        let layout = archive.small("oci-layout", 4096)?;
        let layout: LayoutVersion = serde_json::from_slice(&layout)
            .map_err(|error| archive.wrong(format!("oci-layout cannot be read: {error}")))?;
        if !layout.image_layout_version.starts_with("1.") {
            let version = layout.image_layout_version;
            return Err(archive.wrong(format!(
                "it has image layout {version:?}, but this version of pullgate reads 1.0.0; {OTHER_VERSION}"
            )));
        }
        let index = archive.small("index.json", MAX_INDEX)?;
        let index: LayoutIndex = serde_json::from_slice(&index)
            .map_err(|error| archive.wrong(format!("index.json cannot be read: {error}")))?;
        let own = index.own().map_err(|why| archive.wrong(why))?;
        let bytes = archive.small_blob(own.digest, MAX_MANIFEST as u64)?;
        let manifest = Manifest::parse(bytes.into(), None);
        let manifest = manifest.map_err(|error| archive.wrong(format!("its own manifest: {error}")))?;
        let Content::Image { layers, .. } = manifest.content else {
            return Err(archive.wrong("its own manifest is an index"));
        };
        if let Some(other) = layers.iter().find(|layer| is_unknown(&layer.media_type)) {
            let kind = &other.media_type;
            return Err(archive.wrong(format!(
                "it has a part of the type {kind:?}, which this version of pullgate does not read; {OTHER_VERSION}"
            )));
        }
        let of_type = |wanted: &'static str| layers.iter().filter(move |layer| layer.media_type == wanted);
        let document = of_type(DOCUMENT_TYPE).next().ok_or_else(|| archive.wrong("it has no document"))?;
        let document = archive.small_blob(document.digest, MAX_DOCUMENT)?;
        let document = BundleDocument::parse(&document).map_err(|error| archive.wrong(error))?;
        let advisories = of_type(ADVISORIES_TYPE).next().cloned();
        let all = |wanted| of_type(wanted).cloned().collect();
        Ok(Self { document, advisories, roots: all(ROOT_TYPE), reports: all(REPORT_TYPE) })
    }
}
