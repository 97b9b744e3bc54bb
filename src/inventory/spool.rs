//! Gives analysers a file of a layer from its start: from memory, or from a temporary file. Keeps what all files of a
//! layer share: the time for reading it, and the bytes that archives in it may unpack to.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, Cursor, Read, Seek, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::ReadSeek;

/// Larger files are written to a temporary file, in bytes.
const IN_MEMORY: u64 = 1024 * 1024;
/// The size of the copy buffer, in bytes.
const PIECE: usize = 64 * 1024;

/// The time that reading a layer may take, without the time that its bytes take to arrive.
#[derive(Debug)]
pub(super) struct ReadingTime {
    began: Instant,
    waited: Cell<Duration>,
    limit: Duration,
    was_over: Cell<bool>,
}

impl ReadingTime {
    pub(super) fn new(limit: Duration) -> Self {
        Self { began: Instant::now(), waited: Cell::default(), limit, was_over: Cell::default() }
    }

    /// Whether the time is over, so that the reading must end.
    pub(super) fn is_over(&self) -> bool {
        let is_over = self.began.elapsed().saturating_sub(self.waited.get()) >= self.limit;
        self.was_over.set(self.was_over.get() || is_over);
        is_over
    }

    /// Whether something was not read because the time was over.
    pub(super) fn was_over(&self) -> bool {
        self.was_over.get()
    }

    /// Runs what waits for bytes of the layer.
    pub(super) fn waiting<T>(&self, wait: impl FnOnce() -> T) -> T {
        let began = Instant::now();
        let result = wait();
        self.waited.set(self.waited.get() + began.elapsed());
        result
    }
}

/// A place for temporary files. They have no name, so nothing is left behind.
pub(super) struct Spool<'a> {
    folder: &'a Path,
    time: &'a ReadingTime,
    /// How many bytes the archives among the files of the layer may still unpack to.
    unpacked_left: Cell<u64>,
    /// The first error of a temporary file. It is unrelated to the layer.
    failure: Cell<Option<io::Error>>,
    has_failed: Cell<bool>,
}

impl<'a> Spool<'a> {
    /// `unpacked` is the number of bytes that all archives among the files of the layer may unpack to.
    pub(super) fn new(folder: &'a Path, time: &'a ReadingTime, unpacked: u64) -> Self {
        let (unpacked_left, failure, has_failed) = (Cell::new(unpacked), Cell::default(), Cell::default());
        Self { folder, time, unpacked_left, failure, has_failed }
    }

    pub(super) fn take_failure(&self) -> Option<io::Error> {
        self.failure.take()
    }

    /// Whether the reading must end: the time is over, or a temporary file cannot be used.
    pub(super) fn must_end(&self) -> bool {
        self.has_failed.get() || self.time.is_over()
    }

    /// How many bytes archives may still unpack to.
    pub(super) fn unpacked_left(&self) -> u64 {
        self.unpacked_left.get()
    }

    /// Counts bytes that an archive was unpacked to.
    pub(super) fn unpacked(&self, bytes: u64) {
        self.unpacked_left.set(self.unpacked_left.get().saturating_sub(bytes));
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
        let mut file = self.temporary()?;
        let mut piece = first;
        while !piece.is_empty() {
            file.write_all(&piece)?;
            piece.resize(PIECE, 0);
            let read = content.read(&mut piece)?;
            piece.truncate(read);
        }
        Ok(then(&mut file.into_reader()?))
    }

    /// A new temporary file.
    ///
    /// # Errors
    /// It cannot be created. That ends the reading of the layer, as do all later errors of the file.
    pub(super) fn temporary(&self) -> io::Result<TemporaryFile<'_>> {
        let file = self.local(tempfile::tempfile_in(self.folder))?;
        Ok(TemporaryFile { file: io::BufReader::with_capacity(PIECE, file), spool: self })
    }

    fn local<T>(&self, result: io::Result<T>) -> io::Result<T> {
        result.map_err(|error| {
            let kind = error.kind();
            self.failure.set(Some(error));
            self.has_failed.set(true);
            io::Error::from(kind)
        })
    }
}

/// A temporary file whose errors are noted, because an analyser takes them for damage of the content. It is written
/// from front to back, and then read.
pub(super) struct TemporaryFile<'a> {
    file: io::BufReader<File>,
    spool: &'a Spool<'a>,
}

impl TemporaryFile<'_> {
    /// Ends the writing.
    ///
    /// # Errors
    /// The file cannot be used.
    pub(super) fn into_reader(mut self) -> io::Result<Self> {
        self.spool.local(self.file.rewind())?;
        Ok(self)
    }
}

impl Write for TemporaryFile<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.spool.local(self.file.get_mut().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        self.spool.local(self.file.get_mut().flush())
    }
}

impl Read for TemporaryFile<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let result = self.file.read(out);
        self.spool.local(result)
    }
}

impl Seek for TemporaryFile<'_> {
    fn seek(&mut self, to: io::SeekFrom) -> io::Result<u64> {
        // A position before the start is a mistake of the content.
        self.file.seek(to)
    }
}
