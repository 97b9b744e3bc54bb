//! Layers: file trees as tar archives, compressed or not, and any other content that a descriptor can name.

use std::collections::BTreeSet;
use std::io::Write;

use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};
use tar::{EntryType, Header};

use crate::oci::{Digest, media_type};

/// An uncompressed layer.
const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// A layer compressed with Zstandard.
const OCI_LAYER_ZSTD: &str = "application/vnd.oci.image.layer.v1.tar+zstd";
/// Docker's uncompressed layer.
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
/// Docker's layer compressed with gzip.
const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// A layer, or any other blob that a manifest lists as one.
#[derive(Clone, Debug)]
pub struct Layer {
    /// The media type in its descriptor.
    pub media_type: String,
    /// The bytes as stored.
    pub bytes: Bytes,
    /// The digest of the bytes as stored.
    pub digest: Digest,
    /// The digest of the uncompressed bytes.
    pub diff_id: Digest,
    /// The entry in the image's history.
    pub created_by: String,
    annotations: Vec<(String, String)>,
}

impl Layer {
    /// A blob with any media type.
    pub fn of(media_type: &str, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        let digest = Digest::sha256(&bytes);
        Self {
            media_type: media_type.into(),
            bytes,
            digest,
            diff_id: digest,
            created_by: "sample".into(),
            annotations: Vec::new(),
        }
    }

    /// An uncompressed tar.
    pub fn tar(tree: &Tree) -> Self {
        Self::of(OCI_LAYER, tree.to_tar())
    }

    /// A tar compressed with gzip, as in most images.
    pub fn gzip(tree: &Tree) -> Self {
        Self::gzip_of(&tree.to_tar())
    }

    /// A gzip-compressed layer from an existing tar, valid or not.
    pub fn gzip_of(tar: &[u8]) -> Self {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
        let packed = encoder.write_all(tar).and_then(|()| encoder.finish()).expect(IN_MEMORY);
        Self { diff_id: Digest::sha256(tar), ..Self::of(media_type::OCI_LAYER_GZIP, packed) }
    }

    /// A tar compressed with Zstandard.
    pub fn zstd(tree: &Tree) -> Self {
        let tar = tree.to_tar();
        let packed = ruzstd::encoding::compress_to_vec(&*tar, ruzstd::encoding::CompressionLevel::Fastest);
        Self { diff_id: Digest::sha256(&tar), ..Self::of(OCI_LAYER_ZSTD, packed) }
    }

    /// Adds an annotation to the descriptor.
    pub fn annotation(mut self, key: &str, value: &str) -> Self {
        self.annotations.push((key.into(), value.into()));
        self
    }

    /// Sets the entry in the image's history.
    pub fn created_by(self, command: &str) -> Self {
        Self { created_by: command.into(), ..self }
    }

    /// The same layer with Docker's media type (schema 2).
    pub(super) fn docker(self) -> Self {
        let media_type = match &*self.media_type {
            OCI_LAYER => DOCKER_LAYER.into(),
            media_type::OCI_LAYER_GZIP => DOCKER_LAYER_GZIP.into(),
            _ => self.media_type,
        };
        Self { media_type, ..self }
    }

    /// The descriptor for a manifest that lists this.
    pub fn descriptor(&self) -> Value {
        let mut descriptor = json!({"mediaType": self.media_type, "digest": self.digest, "size": self.bytes.len()});
        if !self.annotations.is_empty() {
            descriptor["annotations"] = super::annotations(&self.annotations);
        }
        descriptor
    }
}

/// A builder for a tar archive; files keep their order. The owner is root, the modification time 0; parent directories
/// are added automatically.
///
/// # Panics
/// The methods panic on a path or target that a tar cannot represent; use [`Layer::gzip_of`] for hostile archives.
#[derive(Clone, Debug, Default)]
pub struct Tree {
    entries: Vec<(Header, String, TarEntry)>,
    directories: BTreeSet<String>,
}

#[derive(Clone, Debug)]
enum TarEntry {
    Content(Bytes),
    Link(String),
}

impl Tree {
    /// Starts an empty tree.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a file with mode 0644. A name that starts with `.wh.` is a whiteout (image-spec, layer.md).
    pub fn file(self, path: &str, content: impl Into<Bytes>) -> Self {
        self.add(EntryType::Regular, 0o644, path, TarEntry::Content(content.into()))
    }

    /// Adds a file with mode 0755.
    pub fn executable(self, path: &str, content: impl Into<Bytes>) -> Self {
        self.add(EntryType::Regular, 0o755, path, TarEntry::Content(content.into()))
    }

    /// Adds a symbolic link.
    pub fn symlink(self, path: &str, target: &str) -> Self {
        self.add(EntryType::Symlink, 0o777, path, TarEntry::Link(target.into()))
    }

    /// Adds a hard link to a path in this archive.
    pub fn hard_link(self, path: &str, target: &str) -> Self {
        self.add(EntryType::Link, 0o644, path, TarEntry::Link(target.into()))
    }

    /// Adds a directory with mode 0755.
    pub fn directory(mut self, path: &str) -> Self {
        if !self.directories.insert(path.into()) {
            return self;
        }
        self.add(EntryType::Directory, 0o755, path, TarEntry::Content(Bytes::new()))
    }

    fn add(mut self, kind: EntryType, mode: u32, path: &str, entry: TarEntry) -> Self {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self = self.directory(parent);
        }
        let mut header = Header::new_gnu();
        header.set_entry_type(kind);
        header.set_mode(mode);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(0);
        self.entries.push((header, path.into(), entry));
        self
    }

    /// Builds the archive.
    pub fn to_tar(&self) -> Vec<u8> {
        let mut archive = tar::Builder::new(Vec::new());
        for (header, path, entry) in &self.entries {
            let mut header = header.clone();
            match entry {
                TarEntry::Content(bytes) => {
                    header.set_size(bytes.len() as u64);
                    archive.append_data(&mut header, path, &**bytes).expect(IN_MEMORY);
                }
                TarEntry::Link(target) => {
                    header.set_size(0);
                    archive.append_link(&mut header, path, target).expect(IN_MEMORY);
                }
            }
        }
        archive.into_inner().expect(IN_MEMORY)
    }
}

const IN_MEMORY: &str =
    "writing to memory cannot fail, and the caller must not pass a path that a tar cannot represent";

/// `len` incompressible bytes that depend only on `seed` (SplitMix64).
pub fn noise(len: usize, seed: u64) -> Bytes {
    let mut state = seed;
    let mut bytes = Vec::with_capacity(len + 8);
    while bytes.len() < len {
        state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = state;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bytes.extend_from_slice(&(word ^ (word >> 31)).to_le_bytes());
    }
    bytes.truncate(len);
    bytes.into()
}
