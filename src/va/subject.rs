//! Which image evidence is asked about.

use crate::oci::Digest;

/// An image by its digests.
#[derive(Clone, Copy, Debug)]
pub struct Subject<'a> {
    /// Its manifest.
    pub manifest: Digest,
    /// Its configuration, and whether that is of the layers that the manifest lists.
    pub config: ConfigBinding,
    /// The indexes that are known to list the manifest, in the repository that is asked for.
    pub parents: &'a [Digest],
}

/// The digest of a configuration, and what is known of its bond to a manifest's layers. Anyone can list other layers under
/// a scanned configuration: the two belong together when the layers, uncompressed, have the digests that the
/// configuration lists (`rootfs.diff_ids`, OCI image specification, "Image Configuration").
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ConfigBinding {
    /// The layers are the configuration's.
    Proven(Digest),
    /// The layers were not looked at.
    Unproven(Digest),
    /// The layers are others, or it cannot be found out: what speaks of the configuration says nothing of the manifest.
    Refuted(Digest),
}

impl ConfigBinding {
    /// The configuration's digest.
    pub fn digest(self) -> Digest {
        match self {
            Self::Proven(digest) | Self::Unproven(digest) | Self::Refuted(digest) => digest,
        }
    }
}

/// What is known depends on whether the configuration is of the manifest's layers: prove it, or not, and ask again.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct NeedsProof;
