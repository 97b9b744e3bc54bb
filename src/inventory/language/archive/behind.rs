//! Archives after other bytes, in files that neither are named like archives nor start like them. Java and Python load
//! them.

use memchr::memmem;

use super::super::window::Integers;
use super::super::zip;
use super::ArchiveKind;

/// The maximum number of bytes at the end of a file that [`ends_as_archive`] needs: the end record with a comment.
pub(in super::super) const MAX_END: u64 = zip::END as u64 + zip::MAX_COMMENT;

/// How an entry of the directory starts.
const ENTRY: &[u8] = b"PK\x01\x02";

/// Whether a file with these first and last bytes ends as an archive from which libraries may be loaded. One that only has
/// other files, such as the labels of a model or an extension of a browser, is data.
pub(in super::super) fn ends_as_archive(first_bytes: &[u8], last_bytes: &[u8]) -> bool {
    let end = &last_bytes[last_bytes.len().saturating_sub(usize::try_from(MAX_END).unwrap_or(usize::MAX))..];
    memmem::find_iter(end, b"PK\x05\x06").any(|at| may_be_loaded(first_bytes, end, at).unwrap_or(false))
}

/// Whether libraries may be loaded from an archive with its end record at this offset of the last bytes. `None` if the file
/// does not end with the record and its comment.
fn may_be_loaded(first_bytes: &[u8], end: &[u8], at: usize) -> Option<bool> {
    let record = Integers { bytes: &end[at..], big_endian: false };
    let (entries, size, offset) = (record.u16(10)?, record.u32(12)?, record.u32(16)?);
    // Java counts the entries itself.
    if (entries, size) == (0, 0) || at + zip::END + usize::from(record.u16(20)?) != end.len() {
        return None;
    }
    let before = &end[..at];
    let is_large = entries == u16::MAX || size == u32::MAX || offset == u32::MAX;
    let start = usize::try_from(size).ok().and_then(|size| at.checked_sub(size)).filter(|_| !is_large);
    let Some(directory) = start.map(|start| &before[start..]) else {
        // Mozilla puts the directory in front (`omni.ja`), where only Firefox looks for it, and writes no comment.
        let is_in_front = offset == 4
            && at + zip::END == end.len()
            && first_bytes.get(4..).is_some_and(|bytes| bytes.starts_with(ENTRY));
        return Some(!is_in_front || memmem::find(before, ENTRY).is_some());
    };
    // No reader continues without a directory in front of the record.
    let is_loaded =
        |name: &String| ArchiveKind::of(name).is_some() || name.ends_with(".class") || name.starts_with("META-INF/");
    Some(directory.starts_with(ENTRY) && zip::names(directory).is_none_or(|names| names.iter().any(is_loaded)))
}
