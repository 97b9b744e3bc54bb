//! The image that evidence is asked for.

use std::fmt;
use std::sync::Arc;

use crate::cache::BlobReader;
use crate::oci::{Content, Descriptor, Digest, ImageName, Manifest};

/// An image of one platform, as one repository has it.
///
/// Evidence about it must be bound to its digests: the same name means other content tomorrow.
#[derive(Clone)]
pub struct VaSubject {
    image: ImageName,
    manifest: Arc<Manifest>,
    config: Descriptor,
    /// The indexes of the repository that are known to list the manifest: a statement about an index is about its images.
    pub parents: Vec<Digest>,
    /// The account whose exemptions apply at a service that keeps exemptions for accounts.
    pub account: Option<String>,
    /// Reads the image's layers, following fills that are under way. `None` if nothing may be read now: then only what is
    /// known already counts.
    pub blobs: Option<BlobReader>,
}

impl VaSubject {
    /// A subject of which nothing may be read. `None` for an index.
    pub fn new(image: ImageName, manifest: Arc<Manifest>) -> Option<Self> {
        let Content::Image { config, .. } = &manifest.content else { return None };
        let config = config.clone();
        Some(Self { image, manifest, config, parents: Vec::new(), account: None, blobs: None })
    }

    /// Registry and repository, by the registry's own name.
    pub fn image(&self) -> &ImageName {
        &self.image
    }

    /// The manifest.
    pub fn manifest(&self) -> &Arc<Manifest> {
        &self.manifest
    }

    /// The configuration that the manifest names.
    pub fn config(&self) -> &Descriptor {
        &self.config
    }

    /// The layers that the manifest names, the lowest first.
    pub fn layers(&self) -> &[Descriptor] {
        match &self.manifest.content {
            Content::Image { layers, .. } => layers,
            Content::Index(_) => &[],
        }
    }
}

impl fmt::Debug for VaSubject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VaSubject({}@{})", self.image, self.manifest.digest)
    }
}
