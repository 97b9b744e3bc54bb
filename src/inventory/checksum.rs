//! Checksums by which package managers tell whether a file is still the one that a package installed.

use std::io::SeekFrom;

use aws_lc_rs::digest::{Context, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use md5::{Digest as _, Md5};

use super::ReadSeek;

/// The size of the read buffer, in bytes.
const PIECE: usize = 64 * 1024;

/// A file in the list of a package.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct PackagedFile {
    /// The path, without leading `/`.
    pub(super) path: String,
    /// The checksum that the list states, if it is of a known kind.
    pub(super) checksum: Option<FileChecksum>,
}

/// The first 16 bytes of a checksum: enough to tell that a file was replaced. A malicious author writes the list, too.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum FileChecksum {
    Md5(u128),
    Sha1(u128),
    Sha256(u128),
    /// The SHA-256 of the target of a symbolic link.
    Target(u128),
}

impl FileChecksum {
    /// A checksum in hex, as in `*.md5sums` of dpkg and in `FILEDIGESTS` of RPM. Its length tells the algorithm.
    pub(super) fn from_hex(text: &str) -> Option<Self> {
        let start = text.get(..32).filter(|_| text.bytes().all(|byte| byte.is_ascii_hexdigit()))?;
        let start = u128::from_str_radix(start, 16).ok()?;
        match text.len() {
            32 => Some(Self::Md5(start)),
            40 => Some(Self::Sha1(start)),
            64 => Some(Self::Sha256(start)),
            _ => None,
        }
    }

    /// The value of `Z` in a database of apk: `Q1` and a SHA-1, or `Q2` and a SHA-256 that may be truncated, in base
    /// 64. That of a symbolic link is the checksum of its target.
    pub(super) fn from_apk(text: &str) -> Option<Self> {
        let (is_sha1, encoded) = match text.split_at_checked(2)? {
            ("Q1", encoded) => (true, encoded),
            ("Q2", encoded) => (false, encoded),
            _ => return Self::from_hex(text),
        };
        let start = start(&BASE64_STANDARD.decode(encoded).ok()?)?;
        Some(if is_sha1 { Self::Sha1(start) } else { Self::Sha256(start) })
    }

    /// That of a file in a header of RPM, by its value in `FILEDIGESTS` and in `FILELINKTOS`.
    pub(super) fn from_rpm(file_digest: &[u8], target: &[u8]) -> Option<Self> {
        match target {
            [] => Self::from_hex(std::str::from_utf8(file_digest).ok()?),
            target => start(digest(&SHA256, target).as_ref()).map(Self::Target),
        }
    }

    /// The checksums of a file of each kind. None if it cannot be read to its end, or `must_end` says that there is no
    /// time left.
    pub(super) fn of_content(content: &mut dyn ReadSeek, must_end: impl Fn() -> bool) -> Vec<Self> {
        let (mut md5, mut sha1, mut sha256) =
            (Md5::new(), Context::new(&SHA1_FOR_LEGACY_USE_ONLY), Context::new(&SHA256));
        let read = read_whole(content, must_end, |bytes| {
            md5.update(bytes);
            sha1.update(bytes);
            sha256.update(bytes);
        });
        if read.is_none() {
            return Vec::new();
        }
        let md5: [u8; 16] = md5.finalize().into();
        let sha1 = start(sha1.finish().as_ref()).map(Self::Sha1);
        let sha256 = start(sha256.finish().as_ref()).map(Self::Sha256);
        [start(&md5).map(Self::Md5), sha1, sha256].into_iter().flatten().collect()
    }

    /// The checksums of a symbolic link of each kind.
    pub(super) fn of_link(target: &str) -> Vec<Self> {
        let target = target.as_bytes();
        let sha1 = start(digest(&SHA1_FOR_LEGACY_USE_ONLY, target).as_ref());
        let sha256 = start(digest(&SHA256, target).as_ref());
        // apk 3 states the SHA-256.
        [sha1.map(Self::Sha1), sha256.map(Self::Sha256), sha256.map(Self::Target)].into_iter().flatten().collect()
    }

    /// The path and the checksum in one text, which cannot be the text of a path.
    pub(super) fn at(self, path: &str) -> String {
        let (kind, start) = match self {
            Self::Md5(start) => ("md5", start),
            Self::Sha1(start) => ("sha1", start),
            Self::Sha256(start) => ("sha256", start),
            Self::Target(start) => ("target", start),
        };
        format!("{path}\0{kind}:{start:x}")
    }
}

/// Reads all of `content` and passes each piece to `see`, unless `must_end` says that there is no time left. `None` if
/// it cannot be read to its end.
pub(super) fn read_whole(
    content: &mut dyn ReadSeek,
    must_end: impl Fn() -> bool,
    mut see: impl FnMut(&[u8]),
) -> Option<()> {
    content.seek(SeekFrom::Start(0)).ok()?;
    let mut buffer = vec![0; PIECE];
    loop {
        let read = content.read(&mut buffer).ok().filter(|_| !must_end())?;
        if read == 0 {
            return Some(());
        }
        see(&buffer[..read]);
    }
}

fn start(checksum: &[u8]) -> Option<u128> {
    checksum.first_chunk().map(|start| u128::from_be_bytes(*start))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::*;

    /// The checksums of `abc`, as `md5sum`, `sha1sum` and `sha256sum` print them.
    const MD5: &str = "900150983cd24fb0d6963f7d28e17f72";
    const SHA1: &str = "a9993e364706816aba3e25717850c26c9cd0d89d";
    const SHA256: &str = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";

    #[test]
    fn checksums_of_lists_are_those_of_the_content() {
        let content = FileChecksum::of_content(&mut Cursor::new(b"abc"), || false);
        let rpm = |digest: &str| FileChecksum::from_rpm(digest.as_bytes(), b"");
        for (what, stated, is_same) in [
            ("dpkg", FileChecksum::from_hex(MD5), true),
            ("RPM", rpm(SHA256), true),
            ("RPM, old", rpm(MD5), true),
            ("upper case", rpm(&SHA256.to_uppercase()), true),
            ("another content", rpm(&SHA256.replace('b', "c")), false),
            ("apk", FileChecksum::from_apk("Q1qZk+NkcGgWq6PiVxeFDCbJzQ2J0="), true),
            ("apk, SHA-256 that is cut", FileChecksum::from_apk("Q2ungWv48Bz+pBQUDeXa4iI7ADYaM="), true),
            ("apk, old", FileChecksum::from_apk(MD5), true),
            ("apk, another content", FileChecksum::from_apk("Q1AAAAAAAAAAAAAAAAAAAAAAAAAAA="), false),
        ] {
            let stated = stated.unwrap_or_else(|| panic!("{what}"));
            assert_eq!(content.contains(&stated), is_same, "{what}");
        }
        assert!(content.contains(&FileChecksum::from_hex(SHA1).unwrap()));
        for text in ["", "0", "00", &MD5[1..], "g00150983cd24fb0d6963f7d28e17f72", "+00150983cd24fb0d6963f7d28e17f72"] {
            assert_eq!(FileChecksum::from_hex(text), None, "{text}");
        }
        for text in ["", "Q", "Q1", "Q1x=", "Q1AAAA", "Q3qZk+NkcGgWq6PiVxeFDCbJzQ2J0=", "Qé"] {
            assert_eq!(FileChecksum::from_apk(text), None, "{text}");
        }
        assert!(FileChecksum::of_content(&mut Cursor::new(b"abc"), || true).is_empty());
    }

    #[test]
    fn links_have_the_checksums_of_their_targets() {
        let link = FileChecksum::of_link("abc");
        for stated in ["Q1qZk+NkcGgWq6PiVxeFDCbJzQ2J0=", "Q2ungWv48Bz+pBQUDeXa4iI7ADYaM="] {
            assert!(link.contains(&FileChecksum::from_apk(stated).unwrap()), "{stated}");
        }
        assert!(link.contains(&FileChecksum::from_rpm(b"", b"abc").unwrap()));
        assert!(!link.contains(&FileChecksum::from_rpm(b"", b"abd").unwrap()));
        let file = FileChecksum::of_content(&mut Cursor::new(b"abc"), || false);
        assert!(!file.contains(&FileChecksum::from_rpm(b"", b"abc").unwrap()), "a file is not a link");
        assert_ne!(file[0].at("a"), file[0].at("b"));
        assert_ne!(file[0].at("a"), file[1].at("a"));
    }
}
