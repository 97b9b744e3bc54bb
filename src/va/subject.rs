//! The image for which evidence is requested.

use std::fmt;
use std::sync::Arc;

use crate::cache::BlobReader;
use crate::oci::{Content, Descriptor, Digest, ImageName, Manifest};

/// An image of one platform, in one repository.
///
/// Evidence must be bound to the digests of the image, because a name may refer to other content later.
#[derive(Clone)]
pub struct VaSubject {
    image: ImageName,
    manifest: Arc<Manifest>,
    config: Descriptor,
    /// The known indexes of the repository that list the manifest: a statement about an index applies to its images.
    pub parents: Vec<Digest>,
    /// The account whose exemptions apply, for services that manage exemptions by account.
    pub account: Option<String>,
    /// Reads the image's layers, following running downloads. `None` if nothing may be read now; then only what is
    /// already known counts.
    pub blobs: Option<BlobReader>,
    /// Whether services may be asked over the network. Not for lists of what is known.
    pub may_ask: bool,
    /// Whether this is one of many images that are judged again in the background: no source is asked over the network,
    /// work is done at the lowest priority, and what requests need is not displaced from memory.
    pub is_background: bool,
}

impl VaSubject {
    /// A subject whose blobs may not be read. `None` for an index.
    pub fn new(image: ImageName, manifest: Arc<Manifest>) -> Option<Self> {
        let Content::Image { config, .. } = &manifest.content else { return None };
        let config = config.clone();
        let (parents, account, blobs) = (Vec::new(), None, None);
        Some(Self { image, manifest, config, parents, account, blobs, may_ask: true, is_background: false })
    }

    /// Registry and repository, with the registry's own host name.
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

    /// The layers that the manifest names, lowest first.
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
