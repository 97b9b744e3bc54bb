//! Writes content piece by piece and verifies it.

use std::io;
use std::path::Path;

use super::Partial;
use crate::oci::{Digest, Hasher};

/// Writes a file whose digest and size are known, and hashes what it writes.
pub(in crate::cache) struct VerifyingWriter {
    partial: Partial,
    hasher: Hasher,
    digest: Digest,
    size: u64,
    written: u64,
}

/// Why content is not what it should be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(in crate::cache) enum WrongContent {
    /// The bytes have another digest.
    Digest(Digest),
    /// There are more or fewer bytes.
    Size(u64),
}

/// A file with the right content, which has no name yet.
pub(in crate::cache) struct VerifiedFile {
    partial: Partial,
    size: u64,
}

impl VerifyingWriter {
    pub(in crate::cache) fn new(partial: Partial, digest: Digest, size: u64) -> Self {
        Self { partial, hasher: Hasher::new(digest.algorithm()), digest, size, written: 0 }
    }

    /// Appends a piece. Returns how many bytes are written so far.
    ///
    /// # Errors
    /// The disk fails.
    pub(in crate::cache) fn append(&mut self, piece: &[u8]) -> io::Result<u64> {
        self.partial.write_at(piece, self.written)?;
        self.hasher.update(piece);
        self.written += piece.len() as u64;
        Ok(self.written)
    }

    /// Compares what was written with the digest and the size.
    ///
    /// # Errors
    /// It is something else. The file is removed.
    pub(in crate::cache) fn verify(self) -> Result<VerifiedFile, WrongContent> {
        let Self { partial, hasher, digest, size, written } = self;
        if written != size {
            return Err(WrongContent::Size(written));
        }
        let found = hasher.finish();
        if found == digest { Ok(VerifiedFile { partial, size }) } else { Err(WrongContent::Digest(found)) }
    }
}

impl VerifiedFile {
    /// Gives the file its final name. See [`Partial::publish`].
    ///
    /// # Errors
    /// The disk fails.
    pub(in crate::cache) fn publish(self, path: &Path) -> io::Result<()> {
        self.partial.publish(path, self.size)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::cache::disk::Disk;

    #[tokio::test]
    async fn only_the_stated_content_gets_its_name() {
        let dir = tempfile::tempdir().unwrap();
        let disk = Arc::new(Disk::open(dir.path()).unwrap());
        let digest = Digest::sha256(b"content");
        let write = async |pieces: &[&str], size: u64| {
            let partial = disk.partial(digest, size).await.unwrap();
            let mut writer = VerifyingWriter::new(partial, digest, size);
            pieces.iter().for_each(|piece| _ = writer.append(piece.as_bytes()).unwrap());
            writer.verify()
        };
        assert_eq!(write(&["con"], 7).await.err(), Some(WrongContent::Size(3)));
        assert_eq!(write(&["con", "tents"], 7).await.err(), Some(WrongContent::Size(8)));
        assert_eq!(write(&["con", "text"], 7).await.err(), Some(WrongContent::Digest(Digest::sha256(b"context"))));
        assert!(!disk.has(digest));
        write(&["con", "tent"], 7).await.unwrap().publish(&disk.path(digest)).unwrap();
        assert_eq!(std::fs::read(disk.path(digest)).unwrap(), b"content");
    }
}
