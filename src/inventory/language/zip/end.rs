//! Where the central directory of an archive is.
//!
//! Readers search for it in different ways, so that one file can be several archives. Whatever one of them takes for the
//! directory is a candidate here, and two candidates that can be read are an error.
//!
//! | reader | end record |
//! |---|---|
//! | Java (OpenJDK, `ZipFile.java`, `Source.findEND`; Java 8: `zip_util.c`, `findEND`) | the last one whose comment ends with the file, or that has a directory in front of it and a local header where the archive begins; up to 106 bytes in front of the longest comment |
//! | Python (CPython, `Lib/zipfile/__init__.py`, `_EndRecData`; `Lib/zipimport.py`, `_read_directory`) | the last one, whatever the length of its comment |
//! | Go (`archive/zip/reader.go`, `readDirectoryEnd`) | the last one whose comment ends in the file, in 65 KiB |
//!
//! | reader | ZIP64 record |
//! |---|---|
//! | Java | where the locator says, if each value of the end record is the same or at its maximum |
//! | Java 8, Go | where the locator says, if one value of the end record is at its maximum |
//! | Python, `zipfile` | in front of the locator; since 3.14 also where the locator says |
//! | Python, `zipimport` | none; since 3.13 directly in front of 20 bytes, which need not be a locator, and the end record |
//!
//! | reader | directory |
//! |---|---|
//! | Java | as many bytes in front of the record as that says |
//! | Python | the same; the archive may begin before the file (`zipfile`), and more entries may follow (`zipimport`) |
//! | Go | the same, or, if there is an entry, where the record says in the file |
//! | Info-ZIP (`process.c`), .NET (`ZipArchive.cs`) | where the record says in the file |

use std::cmp::Ordering;

use memchr::memmem;

use crate::inventory::ReadSeek;

use super::super::window::{Integers, read_at, read_up_to};
use super::{ENDED, ENTRY, ENTRY_SIGNATURE, FIRST_ENTRY, ZipBudget, read_entry};

/// The end record without its comment, in bytes.
pub(in super::super) const END: usize = 22;
/// How much of the end of a file any reader searches for the end record, in bytes.
pub(in super::super) const MAX_END: u64 = 65 << 10;
/// How an end record, a locator of a ZIP64 record, and a ZIP64 record start.
pub(in super::super) const END_SIGNATURE: &[u8] = b"PK\x05\x06";
pub(in super::super) const LOCATOR_SIGNATURE: &[u8] = b"PK\x06\x07";
pub(in super::super) const LARGE_END_SIGNATURE: &[u8] = b"PK\x06\x06";
/// The length of a locator and of a ZIP64 record, in bytes.
pub(in super::super) const LOCATOR: usize = 20;
pub(in super::super) const LARGE_END: usize = 56;
/// How many end records are examined, and how many directories are compared.
const MAX_RECORDS: usize = 1024;
const MAX_PLACES: usize = 16;

/// A central directory.
#[derive(Clone, Debug)]
pub(super) struct ArchiveDirectory {
    pub(super) start: u64,
    pub(super) size: u64,
    /// The number of entries, as stated.
    pub(super) entries: u64,
    /// The offset in the file at which the archive begins. Programs may come before it. It is added with overflow: for
    /// Python, the archive may begin before the file.
    pub(super) base: u64,
}

/// The values of an end record.
struct EndRecord {
    at: u64,
    entries: u64,
    size: u64,
    offset: u64,
    /// Whether the comment is shorter than the rest of the file, as long, or longer.
    comment: Ordering,
}

/// Finds the directory that all readers find. `None` if the file is not an archive.
pub(super) fn find_directory(
    content: &mut dyn ReadSeek,
    size: u64,
    budget: &mut ZipBudget<'_>,
) -> Result<Option<ArchiveDirectory>, String> {
    let tail_at = size.saturating_sub(MAX_END);
    let tail = read_up_to(content, tail_at, size - tail_at).ok_or("the archive cannot be read")?;
    let (mut places, mut is_empty) = (Vec::new(), false);
    let (mut is_last, mut has_complete, mut is_found_by_java) = (true, false, false);
    let records = memmem::rfind_iter(&tail, END_SIGNATURE);
    let records = records.filter_map(|at| EndRecord::read(&tail[at..], tail_at + at as u64));
    for (count, record) in records.enumerate() {
        if count > MAX_RECORDS && !(is_found_by_java && has_complete) {
            return Err("the archive has too many end records".to_owned());
        }
        let is_exact = record.comment.is_eq();
        let is_complete = !has_complete && record.comment.is_le();
        let is_for_java = !is_found_by_java && (is_exact || record.is_verified(content));
        let is_candidate = is_last || is_exact || is_complete || is_for_java;
        is_last = false;
        has_complete |= is_complete;
        is_found_by_java |= is_for_java;
        // An end record in the content of an entry is not the last one, and no comment connects it with the end.
        if !is_candidate {
            continue;
        }
        let has_place = record.add_places(content, &mut places);
        if is_exact && !has_place {
            if !record.is_empty() {
                return Err("the directory of the archive is damaged".to_owned());
            }
            is_empty = true;
        }
        if places.len() > MAX_PLACES {
            return Err("the archive has too many directories".to_owned());
        }
    }
    let directory = only(content, places, budget)?;
    if directory.is_none() && read_up_to(content, 0, 4).is_some_and(|start| start == FIRST_ENTRY) {
        return Err("the archive has no directory".to_owned());
    }
    let empty = || ArchiveDirectory { start: size, size: 0, entries: 0, base: 0 };
    Ok(directory.or_else(|| is_empty.then(empty)))
}

/// The only directory with entries that can be read. The others exist by chance: without ZIP64, a reader takes the
/// second entry for the first one if that has the length of the ZIP64 record and its locator.
fn only(
    content: &mut dyn ReadSeek,
    mut places: Vec<ArchiveDirectory>,
    budget: &mut ZipBudget<'_>,
) -> Result<Option<ArchiveDirectory>, String> {
    if places.len() < 2 {
        return Ok(places.pop());
    }
    let mut readable = Vec::new();
    for place in &places {
        if has_content(content, place, budget)? {
            readable.push(place.clone());
        }
    }
    match readable.len() {
        0 => Ok(places.into_iter().next()),
        1 => Ok(readable.pop()),
        _ => Err("the archive has two directories".to_owned()),
    }
}

/// Whether there is a local header for at least one entry. No reader opens an entry without one.
fn has_content(
    content: &mut dyn ReadSeek,
    place: &ArchiveDirectory,
    budget: &mut ZipBudget<'_>,
) -> Result<bool, String> {
    let (mut at, end) = (place.start, place.start.saturating_add(place.size));
    while at < end {
        budget.entries = budget.entries.checked_sub(1).ok_or("the archive has too many entries")?;
        if budget.spool.must_end() {
            return Err(ENDED.to_owned());
        }
        let Some(header) = read_at(content, at, ENTRY as u64) else { return Ok(false) };
        let fields = Integers { bytes: &header, big_endian: false };
        let mut is_readable = |offset: u64| starts_with(content, offset.wrapping_add(place.base), FIRST_ENTRY);
        // Python cuts the name of an entry that extends beyond the directory.
        if header.starts_with(ENTRY_SIGNATURE) && fields.u32(42).is_some_and(|offset| is_readable(offset.into())) {
            return Ok(true);
        }
        let lengths = [28, 30, 32].map(|at| u64::from(fields.u16(at).unwrap_or_default()));
        let rest = read_at(content, at + ENTRY as u64, lengths.iter().sum());
        let entry = header.first_chunk().zip(rest.as_deref());
        let Some((entry, length)) = entry.and_then(|(header, mut rest)| read_entry(header, &mut rest)) else {
            return Ok(false);
        };
        if starts_with(content, entry.header_at.wrapping_add(place.base), FIRST_ENTRY) {
            return Ok(true);
        }
        at += length;
    }
    Ok(false)
}

impl EndRecord {
    /// Reads the record with which these last bytes of a file begin. `None` if the file ends before the record.
    fn read(bytes: &[u8], at: u64) -> Option<Self> {
        let fields = Integers { bytes, big_endian: false };
        let comment = usize::from(fields.u16(20)?).cmp(&(bytes.len() - END));
        let (entries, size, offset) = (fields.u16(10)?.into(), fields.u32(12)?.into(), fields.u32(16)?.into());
        Some(Self { at, entries, size, offset, comment })
    }

    fn is_empty(&self) -> bool {
        self.entries == 0 && self.size == 0
    }

    /// What Java demands of a record that does not end with the file.
    fn is_verified(&self, content: &mut dyn ReadSeek) -> bool {
        let Some(directory) = self.at.checked_sub(self.size) else { return false };
        let Some(first) = directory.checked_sub(self.offset) else { return false };
        starts_with(content, directory, ENTRY_SIGNATURE) && starts_with(content, first, FIRST_ENTRY)
    }

    /// Adds the directories that a reader may find by this record. Returns whether there is one.
    fn add_places(&self, content: &mut dyn ReadSeek, places: &mut Vec<ArchiveDirectory>) -> bool {
        let ends = self.ends(content);
        let in_front = ends.iter().filter_map(|(end, entries, size, offset)| {
            let start = end.checked_sub(*size)?;
            let base = start.wrapping_sub(*offset);
            Some((ArchiveDirectory { start, size: *size, entries: *entries, base }, false))
        });
        let stated = ends.iter().filter_map(|(end, entries, _, offset)| {
            let size = end.checked_sub(*offset)?;
            Some((ArchiveDirectory { start: *offset, size, entries: *entries, base: 0 }, true))
        });
        let mut has_place = false;
        for (place, is_stated) in in_front.chain(stated) {
            if place.size == 0 || !starts_with(content, place.start, ENTRY_SIGNATURE) {
                continue;
            }
            has_place = true;
            match places.iter_mut().find(|known| (known.start, known.base) == (place.start, place.base)) {
                // The same entries, and more of them.
                Some(known) if !is_stated && place.size > known.size => *known = place,
                Some(_) => {}
                None => places.push(place),
            }
        }
        has_place
    }

    /// The end of the directory, the number of its entries, its size and its offset: by this record, and by ZIP64
    /// records.
    fn ends(&self, content: &mut dyn ReadSeek) -> Vec<(u64, u64, u64, u64)> {
        let mut ends = vec![(self.at, self.entries, self.size, self.offset)];
        let locator = self.at.checked_sub(LOCATOR as u64).and_then(|at| read_at(content, at, LOCATOR as u64));
        let locator = locator.filter(|locator| locator.starts_with(LOCATOR_SIGNATURE));
        let stated = locator.and_then(|locator| Integers { bytes: &locator, big_endian: false }.u64(8));
        let adjacent = self.at.checked_sub((LOCATOR + LARGE_END) as u64);
        for at in stated.into_iter().chain(adjacent) {
            let record = read_at(content, at, LARGE_END as u64);
            let Some(record) = record.filter(|record| record.starts_with(LARGE_END_SIGNATURE)) else { continue };
            let fields = Integers { bytes: &record, big_endian: false };
            if let (Some(entries), Some(size), Some(offset)) = (fields.u64(32), fields.u64(40), fields.u64(48)) {
                ends.push((at, entries, size, offset));
            }
        }
        ends
    }
}

fn starts_with(content: &mut dyn ReadSeek, at: u64, signature: &[u8]) -> bool {
    read_at(content, at, signature.len() as u64).is_some_and(|start| start == signature)
}
