//! Open content files. Their bytes are slices of a mapping, or are read into buffers.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::buffers::Buffers;
use crate::runtime::FileWindows;

/// How the files of one cache are read: through windows for connections that use `sendfile`, into buffers for all
/// others.
#[derive(Clone, Default)]
pub(super) struct FileMemory {
    /// The windows that are in use.
    pub(super) windows: FileWindows,
    buffers: Buffers,
}

/// A content file, complete or still growing.
pub(super) struct ContentFile {
    file: Arc<File>,
    size: u64,
    memory: FileMemory,
    window: OnceLock<Option<Bytes>>,
}

impl ContentFile {
    /// Creates a file of `size` bytes, or one that is still growing to that size.
    pub(super) fn new(file: Arc<File>, size: u64, memory: FileMemory) -> Self {
        Self { file, size, memory, window: OnceLock::new() }
    }

    /// The size of the complete file in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    /// The file as a slice of its mapping; `None` if it cannot be mapped.
    pub(super) fn window(&self) -> Option<Bytes> {
        self.window.get_or_init(|| self.open_window()).clone()
    }

    #[cfg(test)]
    pub(super) fn is_mapped(&self) -> bool {
        matches!(self.window.get(), Some(Some(_)))
    }

    fn open_window(&self) -> Option<Bytes> {
        let size = usize::try_from(self.size).ok().filter(|size| *size > 0)?;
        match self.memory.windows.open(self.file.clone(), size) {
            Ok(window) => Some(window.bytes()),
            Err(error) => {
                tracing::debug!(%error, "content cannot be mapped; it is copied");
                None
            }
        }
    }

    /// Whether a range is in the page cache. Only its first and last bytes are checked, because files are read and
    /// evicted in order.
    pub(super) fn is_cached(&self, position: u64, length: usize) -> bool {
        let has = |at| {
            let mut byte = [0];
            matches!(preadv2(&self.file, &mut [IoSliceMut::new(&mut byte)], at, ReadWriteFlags::NOWAIT), Ok(1))
        };
        has(position) && has(position + length as u64 - 1)
    }

    /// Reads from the page cache without blocking. `None` if the bytes are not cached, or the file system cannot tell.
    pub(super) fn read_cached(&self, position: u64, length: usize) -> io::Result<Option<Bytes>> {
        let mut piece = self.memory.buffers.take(length);
        match preadv2(&self.file, &mut [IoSliceMut::new(piece.bytes_mut())], position, ReadWriteFlags::NOWAIT) {
            Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(read) => Ok(Some(piece.filled(read))),
            Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Reads a range and waits for the disk. Must not be called on threads that serve connections.
    pub(super) fn read(&self, position: u64, length: usize) -> io::Result<Bytes> {
        let mut piece = self.memory.buffers.take(length);
        self.file.read_exact_at(piece.bytes_mut(), position)?;
        Ok(piece.filled(length))
    }
}
