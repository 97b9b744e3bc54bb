//! Copies of manifests for repeated decisions: opening a file costs ten times as much as reading a part of an open one.
//!
//! All copies are in one file without a name, which ends with the process. It is a ring: new copies overwrite the
//! oldest. The system keeps what is read often in its memory. A copy is verified whenever it is read, so one that was
//! overwritten, or that the disk has changed, counts as missing.

use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::disk::read_without_waiting;
use crate::oci::Digest;

/// The largest size of the file, in bytes.
const MAX_SIZE: u64 = 256 * 1024 * 1024;
/// The maximum size of the file is the size of the cache divided by this.
const PART_OF_CACHE: u64 = 100;
/// The largest content that is copied, in bytes.
const MAX_COPY: usize = 16 * 1024;

/// The copies. Without a file, nothing is copied.
#[derive(Debug, Default)]
pub struct ManifestCopies {
    file: Option<File>,
    /// The size of the file, in bytes.
    size: u64,
    /// The number of bytes that were assigned to copies. A copy is at its number, modulo the size.
    assigned: AtomicU64,
}

/// The place of a copy, which another copy may have taken since.
#[derive(Clone, Copy, Debug)]
pub struct CopyPlace {
    position: u64,
    length: u32,
}

impl ManifestCopies {
    /// Creates the file in a directory, for a cache of this size in bytes. If the disk cannot store it, nothing is
    /// copied.
    pub(crate) fn create(dir: &Path, cache: u64) -> Self {
        let file = tempfile::tempfile_in(dir).inspect_err(|error| {
            tracing::warn!(%error, "cannot create a file for copies of manifests; they are read from the cache");
        });
        Self { file: file.ok(), size: MAX_SIZE.min(cache / PART_OF_CACHE), assigned: AtomicU64::default() }
    }

    /// Whether content may be copied: it is not too large, and the file exists.
    pub fn takes(&self, content: &[u8]) -> bool {
        self.file.is_some() && content.len() <= MAX_COPY && (content.len() as u64) < self.size
    }

    /// Copies content. `None` if it is too large, or the disk cannot be written. May wait for the disk.
    pub fn add(&self, content: &[u8]) -> Option<CopyPlace> {
        let (file, length) = (self.file.as_ref().filter(|_| self.takes(content))?, content.len() as u64);
        // No copy continues at the beginning of the file.
        let start = |assigned: u64| match self.size - assigned % self.size {
            rest if rest < length => assigned + rest,
            _ => assigned,
        };
        let end = |assigned| Some(start(assigned) + length);
        let assigned = self.assigned.fetch_update(Ordering::Relaxed, Ordering::Relaxed, end).ok()?;
        let position = start(assigned);
        file.write_all_at(content, position % self.size).ok()?;
        Some(CopyPlace { position, length: u32::try_from(length).ok()? })
    }

    /// Whether a copy will not be overwritten soon.
    pub fn is_recent(&self, place: CopyPlace) -> bool {
        self.assigned.load(Ordering::Relaxed).saturating_sub(place.position) < self.size / 2
    }

    /// Reads a copy, if its bytes have this digest and are available without waiting.
    pub fn read(&self, place: CopyPlace, digest: Digest) -> Option<Bytes> {
        let mut bytes = vec![0; place.length as usize];
        let is_read = read_without_waiting(self.file.as_ref()?, &mut bytes, place.position % self.size);
        (is_read && Digest::of(digest.algorithm(), &bytes) == digest).then(|| bytes.into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_read_until_others_overwrite_them() {
        const CACHE: u64 = 64 * 1024 * PART_OF_CACHE;
        let dir = tempfile::tempdir().unwrap();
        let copies = ManifestCopies::create(dir.path(), CACHE);
        let content = |number: u8| vec![number; 10_000];
        let add = |number: u8| copies.add(&content(number)).unwrap();
        let read = |place, number| copies.read(place, Digest::sha256(&content(number)));
        let places: Vec<_> = (0..6).map(add).collect();
        for (place, number) in places.iter().zip(0..) {
            assert_eq!(read(*place, number).unwrap(), content(number));
        }
        assert!(!copies.is_recent(places[0]) && copies.is_recent(places[5]));
        // The seventh does not fit between the sixth and the end of the file.
        let seventh = add(6);
        assert_eq!(read(seventh, 6).unwrap(), content(6));
        assert!(read(places[0], 0).is_none(), "it was overwritten");
        assert_eq!(read(places[1], 1).unwrap(), content(1));
        assert!(read(places[1], 2).is_none(), "the digest is another one");
        assert!(copies.add(&vec![0; MAX_COPY + 1]).is_none(), "it is too large");
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 0, "the file has no name");
    }

    #[test]
    fn nothing_is_copied_without_a_file_or_with_a_small_cache() {
        assert!(ManifestCopies::default().add(b"x").is_none());
        let dir = tempfile::tempdir().unwrap();
        let copies = ManifestCopies::create(dir.path(), 1000);
        assert!(copies.add(&[0; 100]).is_none() && copies.add(&[0; 5]).is_some());
    }
}
