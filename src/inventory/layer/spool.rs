//! Gives analysers a file of a layer from its start: from memory, or from a temporary file.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek as _, Write as _};
use std::path::Path;

use crate::inventory::ReadSeek;

/// Larger files are written to a temporary file, in bytes.
const IN_MEMORY: u64 = 1024 * 1024;
/// The size of the copy buffer, in bytes.
const PIECE: usize = 64 * 1024;

/// A place for temporary files. They have no name, so nothing is left behind.
pub(super) struct Spool<'a> {
    folder: &'a Path,
    /// The first error of a temporary file. It says nothing about the layer.
    failure: Cell<Option<io::Error>>,
}

impl<'a> Spool<'a> {
    pub(super) fn new(folder: &'a Path) -> Self {
        Self { folder, failure: Cell::new(None) }
    }

    pub(super) fn folder(&self) -> &Path {
        self.folder
    }

    pub(super) fn take_failure(&self) -> Option<io::Error> {
        self.failure.take()
    }

    /// Reads all of `content`, of which `first` has been read already, and passes it on, seekable.
    ///
    /// # Errors
    /// `content` fails, or the temporary file does.
    pub(super) fn with<T>(
        &self,
        first: Vec<u8>,
        content: &mut impl Read,
        size: u64,
        then: impl FnOnce(&mut dyn ReadSeek) -> T,
    ) -> io::Result<T> {
        if size <= IN_MEMORY {
            let mut bytes = first;
            content.read_to_end(&mut bytes)?;
            return Ok(then(&mut Cursor::new(bytes)));
        }
        let mut file = self.local(tempfile::tempfile_in(self.folder))?;
        let mut piece = first;
        while !piece.is_empty() {
            self.local(file.write_all(&piece))?;
            piece.resize(PIECE, 0);
            let read = content.read(&mut piece)?;
            piece.truncate(read);
        }
        self.local(file.rewind())?;
        let mut watched = WatchedFile { file: io::BufReader::with_capacity(PIECE, file), spool: self };
        let result = then(&mut watched);
        Ok(result)
    }

    fn local<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| {
            let kind = error.kind();
            self.failure.set(Some(error));
            io::Error::from(kind)
        })
    }
}

/// A temporary file whose errors are noted, because an analyser takes them for damage of the content.
struct WatchedFile<'a> {
    file: io::BufReader<File>,
    spool: &'a Spool<'a>,
}

impl Read for WatchedFile<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let result = self.file.read(out);
        self.spool.local(result)
    }
}

impl io::Seek for WatchedFile<'_> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        // A position before the start is a mistake of the content.
        self.file.seek(to)
    }
}
