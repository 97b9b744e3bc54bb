//! Archives after other bytes, in files that neither are named like archives nor start like them. Java and Python load
//! them.

use memchr::memmem;

use super::super::window::Integers;
use super::super::zip::end::{END, END_SIGNATURE, LARGE_END, LARGE_END_SIGNATURE, LOCATOR, LOCATOR_SIGNATURE};
use super::super::zip::{self, ENTRY_SIGNATURE};
use super::ArchiveKind;

/// The maximum number of bytes at the end of a file that [`ends_as_archive`] needs: as many as readers search for the
/// end record.
pub(in super::super) const MAX_END: u64 = zip::end::MAX_END;

/// Whether a file with these first and last bytes, and `size` bytes in all, ends as an archive from which libraries may
/// be loaded. One that only has other files, such as the labels of a model or an extension of a browser, is data.
pub(in super::super) fn ends_as_archive(first_bytes: &[u8], last_bytes: &[u8], size: u64) -> bool {
    let end = &last_bytes[last_bytes.len().saturating_sub(usize::try_from(MAX_END).unwrap_or(usize::MAX))..];
    memmem::find_iter(end, END_SIGNATURE).any(|at| may_be_loaded(first_bytes, end, at, size).unwrap_or(false))
}

/// Whether libraries may be loaded from an archive with its end record at this offset of the last bytes. `None` if no
/// reader takes it for one.
fn may_be_loaded(first_bytes: &[u8], end: &[u8], at: usize, file_size: u64) -> Option<bool> {
    let record = Integers { bytes: &end[at..], big_endian: false };
    let (entries, size, offset) = (record.u16(10)?, record.u32(12)?, record.u32(16)?);
    let is_exact = at + END + usize::from(record.u16(20)?) == end.len();
    let before = &end[..at];
    let starts_before = |length: usize, signature: &[u8]| {
        at.checked_sub(length).is_some_and(|start| before[start..].starts_with(signature))
    };
    if starts_before(LOCATOR, LOCATOR_SIGNATURE) || starts_before(LOCATOR + LARGE_END, LARGE_END_SIGNATURE) {
        return Some(true);
    }
    // Java counts the entries itself.
    if (entries, size) == (0, 0) {
        return None;
    }
    let is_large = (is_exact && entries == u16::MAX) || size == u32::MAX || offset == u32::MAX;
    let start = usize::try_from(size).ok().and_then(|size| at.checked_sub(size)).filter(|_| !is_large);
    let Some(directory) = start.map(|start| &before[start..]) else {
        if !is_exact {
            // These four bytes are also in other files, and the numbers behind them are no places in the file.
            let position = file_size.saturating_sub((end.len() - at) as u64);
            return Some(u64::from(size) + u64::from(offset) <= position);
        }
        // Mozilla puts the directory in front (`omni.ja`), where only Firefox looks for it, and writes no comment.
        let is_in_front = offset == 4
            && at + END == end.len()
            && first_bytes.get(4..).is_some_and(|bytes| bytes.starts_with(ENTRY_SIGNATURE));
        return Some(!is_in_front || memmem::find(before, ENTRY_SIGNATURE).is_some());
    };
    // No reader continues without a directory in front of the record.
    let is_loaded =
        |name: &String| ArchiveKind::of(name).is_some() || name.ends_with(".class") || name.starts_with("META-INF/");
    let is_directory = directory.starts_with(ENTRY_SIGNATURE);
    Some(is_directory && zip::names(directory).is_none_or(|names| names.iter().any(is_loaded)))
}
