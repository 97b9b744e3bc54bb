//! Limits the size of databases, and reports progress.

use std::cell::Cell;
use std::io::{self, Read};
use std::ops::ControlFlow;
use std::rc::Rc;

use super::DatabaseError;

/// How often progress is reported, in bytes.
const REPORT: u64 = 1 << 20;

/// Limits for the databases that are fetched or imported.
#[derive(Clone, Copy, Debug)]
pub struct DatabaseLimits {
    /// The maximum size of what is fetched, or of a file that is imported, in bytes.
    pub compressed: u64,
    /// The maximum size of what is unpacked from it, in bytes.
    pub unpacked: u64,
}

impl Default for DatabaseLimits {
    /// 2 GiB, and 8 GiB unpacked. trivy-db has about 70 MiB and 1 GiB, and trivy-java-db about 1 GiB and 2 GiB.
    fn default() -> Self {
        Self { compressed: 2 << 30, unpacked: 8 << 30 }
    }
}

/// How far the work is.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct DatabaseProgress {
    /// The bytes that were fetched or read.
    pub read: u64,
    /// The bytes that are to be fetched or read, if known.
    pub total: Option<u64>,
    /// The bytes that were unpacked.
    pub unpacked: u64,
}

/// Receives progress, at least once for each MiB, and may cancel the work with [`ControlFlow::Break`].
pub type OnProgress<'a> = dyn FnMut(DatabaseProgress) -> ControlFlow<()> + 'a;

/// Counts the bytes of one piece of work.
pub(super) struct Meter<'a> {
    limits: DatabaseLimits,
    done: DatabaseProgress,
    /// The bytes that were read, which a reader may count as well.
    read: Rc<Cell<u64>>,
    reported: u64,
    report: &'a mut OnProgress<'a>,
}

impl<'a> Meter<'a> {
    pub(super) fn new(limits: DatabaseLimits, report: &'a mut OnProgress<'a>) -> Self {
        Self { limits, done: DatabaseProgress::default(), read: Rc::default(), reported: 0, report }
    }

    /// States how many more bytes will be read.
    pub(super) fn expect(&mut self, more: u64) -> Result<(), DatabaseError> {
        let total = self.done.total.unwrap_or(0).saturating_add(more);
        self.done.total = Some(total);
        check("the download or file", total, self.limits.compressed)
    }

    /// Counts bytes that were fetched or read.
    pub(super) fn read(&mut self, bytes: u64) -> Result<(), DatabaseError> {
        self.read.set(self.read.get().saturating_add(bytes));
        check("the download or file", self.read.get(), self.limits.compressed)?;
        self.tell()
    }

    /// The count of bytes that were read, for a reader that is itself limited.
    pub(super) fn counter(&self) -> Rc<Cell<u64>> {
        self.read.clone()
    }

    /// The maximum number of bytes that may be unpacked.
    pub(super) fn most_unpacked(&self) -> u64 {
        self.limits.unpacked
    }

    /// Counts bytes that were unpacked.
    pub(super) fn unpacked(&mut self, bytes: u64) -> Result<(), DatabaseError> {
        self.done.unpacked = self.done.unpacked.saturating_add(bytes);
        check("the unpacked database", self.done.unpacked, self.limits.unpacked)?;
        self.tell()
    }

    fn tell(&mut self) -> Result<(), DatabaseError> {
        self.done.read = self.read.get();
        let done = self.done.read.saturating_add(self.done.unpacked);
        if done - self.reported < REPORT {
            return Ok(());
        }
        self.reported = done;
        if (self.report)(self.done).is_break() { Err(DatabaseError::Cancelled) } else { Ok(()) }
    }
}

fn check(what: &'static str, size: u64, limit: u64) -> Result<(), DatabaseError> {
    if size > limit { Err(DatabaseError::TooLarge { what, limit }) } else { Ok(()) }
}

/// Copies from `from` to `to` and calls `count` with the size of each piece, which may end the copying.
pub(super) fn copy(
    from: &mut dyn Read,
    to: &mut dyn FnMut(&[u8]) -> Result<(), DatabaseError>,
    failed: &dyn Fn(io::Error) -> DatabaseError,
) -> Result<(), DatabaseError> {
    let mut piece = vec![0; 128 * 1024];
    loop {
        match from.read(&mut piece) {
            Ok(0) => return Ok(()),
            Ok(length) => to(&piece[..length])?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(failed(error)),
        }
    }
}
