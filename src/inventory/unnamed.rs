//! Java archives that do not prove which artifact they are. Their checksum can tell: published archives are known by
//! it.

use std::fmt;

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::ReadSeek;
use super::checksum::read_whole;
use crate::oci::Digest;

/// An archive that does not prove which artifact it is: it contains classes and states none, or states others, which
/// may have been merged into it. Its manifest or its file name may suggest one, which is a package with the same path.
#[derive(Clone, Debug, Deserialize, Eq, Ord, PartialEq, PartialOrd, Serialize)]
pub struct UnnamedArchive {
    /// The path in the image, without a leading `/`; within the path of the file for an archive in an archive:
    /// `srv/app.war/WEB-INF/lib/x.jar`.
    pub path: String,
    /// The path of the file that is or contains the archive.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub file: String,
    /// The layer that contains the file, by the digest of its uncompressed content (`diff_id`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layer: Option<Digest>,
    /// The SHA-1 of the bytes of the archive.
    pub sha1: ArchiveChecksum,
    /// Whether nothing is missing if no published archive has this checksum: the archive states an artifact, or has no
    /// classes.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_optional: bool,
}

impl UnnamedArchive {
    /// The length of all texts, in bytes.
    pub(super) fn text_bytes(&self) -> usize {
        self.path.len() + self.file.len() + 2 * ArchiveChecksum::SIZE
    }
}

/// The SHA-1 of an archive, by which repositories of Maven list it.
#[derive(Clone, Copy, Eq, Ord, PartialEq, PartialOrd)]
pub struct ArchiveChecksum([u8; Self::SIZE]);

impl ArchiveChecksum {
    /// The number of bytes.
    pub const SIZE: usize = 20;

    /// The checksum as bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Reads all of `content`, unless `must_end` says that there is no time left. `None` if it cannot be read to its
    /// end.
    pub(super) fn of(content: &mut dyn ReadSeek, must_end: impl Fn() -> bool) -> Option<Self> {
        let mut hash = Context::new(&SHA1_FOR_LEGACY_USE_ONLY);
        read_whole(content, must_end, |bytes| hash.update(bytes))?;
        hash.finish().as_ref().try_into().ok().map(Self)
    }
}

/// In lower-case hex.
impl fmt::Display for ArchiveChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for ArchiveChecksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Serialize for ArchiveChecksum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ArchiveChecksum {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let invalid = || serde::de::Error::custom("a checksum has 40 hex digits");
        if text.len() != 2 * Self::SIZE {
            return Err(invalid());
        }
        let mut bytes = [0; Self::SIZE];
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| invalid())?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| invalid())?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    #[test]
    fn checksums_are_those_of_sha1_and_survive_serialisation() {
        let checksum = ArchiveChecksum::of(&mut Cursor::new(b"abc"), || false).unwrap();
        assert_eq!(checksum.to_string(), "a9993e364706816aba3e25717850c26c9cd0d89d");
        let text = serde_json::to_string(&checksum).unwrap();
        assert_eq!(serde_json::from_str::<ArchiveChecksum>(&text).unwrap(), checksum);
        assert!(serde_json::from_str::<ArchiveChecksum>("\"a9\"").is_err());
        assert_eq!(ArchiveChecksum::of(&mut Cursor::new(b"abc"), || true), None);
    }
}
