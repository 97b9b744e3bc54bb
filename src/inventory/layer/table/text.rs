//! The text of a table while it is parsed: hashed, and limited so that no part of it takes much memory.

use std::cell::Cell;
use std::io::{self, BufReader, Read};

use crate::oci::{Algorithm, Digest, Hasher};

/// The maximum length of one entry of a table, in bytes. Linux allows 64 KiB of extended attributes.
const MAX_ENTRY: usize = 1 << 20;

/// How many bytes the current entry may still take.
pub(super) struct EntryRoom(Cell<usize>);

impl EntryRoom {
    pub(super) fn new() -> Self {
        Self(Cell::new(MAX_ENTRY))
    }

    /// Begins an entry.
    pub(super) fn renew(&self) {
        self.0.set(MAX_ENTRY);
    }
}

/// The text of a table.
pub(super) struct TableText<'a> {
    // The parser reads single bytes, so bytes are hashed as they enter the buffer.
    source: BufReader<HashedText<'a>>,
    room: &'a EntryRoom,
}

impl<'a> TableText<'a> {
    pub(super) fn new(source: &'a mut dyn Read, room: &'a EntryRoom) -> Self {
        let hashed = HashedText { source, hasher: Hasher::new(Algorithm::Sha256) };
        Self { source: BufReader::new(hashed), room }
    }

    /// The digest of a text that was read to its end.
    pub(super) fn digest(self) -> Digest {
        self.source.into_inner().hasher.finish()
    }
}

impl Read for TableText<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(out)?;
        let left = self.room.0.get().checked_sub(read);
        self.room.0.set(left.ok_or_else(|| io::Error::other("an entry is too long"))?);
        Ok(read)
    }
}

struct HashedText<'a> {
    source: &'a mut dyn Read,
    hasher: Hasher,
}

impl Read for HashedText<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(out)?;
        self.hasher.update(&out[..read]);
        Ok(read)
    }
}
