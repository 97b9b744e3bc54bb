//! Reads zip archives one entry at a time (PKWARE APPNOTE 6.3, with ZIP64; stored and deflated entries).
//!
//! The crate `zip` keeps a description of all entries in memory, several gigabytes for the largest directory that fits
//! the limit on archives. This reader keeps one.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::os::unix::fs::FileExt as _;

use flate2::read::DeflateDecoder;

use super::super::section::FileSection;
use super::super::{DamagedDatabase, DatabaseError};

const END: u32 = 0x0605_4B50;
const END_64: u32 = 0x0606_4B50;
const LOCATOR_64: u32 = 0x0706_4B50;
const DIRECTORY: u32 = 0x0201_4B50;
const LOCAL: u32 = 0x0403_4B50;

/// An entry of an archive.
pub(super) struct ZipEntry {
    pub(super) name: String,
    /// The size of the content in bytes.
    pub(super) size: u64,
    /// The content, or why it cannot be read.
    pub(super) content: Result<Vec<u8>, DamagedDatabase>,
}

/// Calls `visit` with each file in the archive. The content of an entry larger than `limit` bytes is an error.
///
/// # Errors
/// The archive's structure is damaged, and what `visit` reports.
pub(super) fn for_each(
    file: &File,
    limit: u64,
    visit: &mut dyn FnMut(ZipEntry) -> Result<(), DatabaseError>,
) -> Result<(), DatabaseError> {
    let directory = find_directory(file)?;
    let mut input = BufReader::with_capacity(64 * 1024, FileSection { file, at: directory.offset, end: directory.end });
    for _ in 0..directory.entries {
        let header = ZipHeader::read(&mut input)?;
        if header.name.ends_with('/') {
            continue;
        }
        let content = header.content(file, limit);
        visit(ZipEntry { name: header.name, size: header.size, content })?;
    }
    let mut rest = [0; 4];
    if input.read_exact(&mut rest).is_ok() && u32_at(&rest, 0) == DIRECTORY {
        return Err(damaged("its directory has more entries than it states").into());
    }
    Ok(())
}

struct ZipDirectory {
    offset: u64,
    end: u64,
    entries: u64,
}

/// Finds the directory by the record at the end of the file.
fn find_directory(file: &File) -> Result<ZipDirectory, DamagedDatabase> {
    let size = file.metadata().map_err(io_error)?.len();
    // The record has 22 bytes and is followed by a comment of at most 65,535.
    let from = size.saturating_sub(22 + 65_535);
    let mut tail = Vec::new();
    FileSection { file, at: from, end: size }.read_to_end(&mut tail).map_err(io_error)?;
    let is_end = |at: &usize| {
        let rest = &tail[*at..];
        rest.len() >= 22 && u32_at(rest, 0) == END && usize::from(u16_at(rest, 20)) + 22 == rest.len()
    };
    let Some(at) = (0..tail.len()).rev().find(is_end) else {
        return Err(damaged("it is not a zip archive, or it is truncated: it has no end record"));
    };
    let end = &tail[at..];
    let mut found = ZipDirectory {
        entries: u64::from(u16_at(end, 10)),
        end: u64::from(u32_at(end, 12)),
        offset: u64::from(u32_at(end, 16)),
    };
    let locator = at.checked_sub(20).map(|at| &tail[at..]).filter(|locator| u32_at(locator, 0) == LOCATOR_64);
    if let Some(locator) = locator {
        let mut end = [0; 56];
        file.read_exact_at(&mut end, u64_at(locator, 8)).map_err(io_error)?;
        if u32_at(&end, 0) != END_64 {
            return Err(damaged("its ZIP64 end record is missing"));
        }
        found = ZipDirectory { entries: u64_at(&end, 32), end: u64_at(&end, 40), offset: u64_at(&end, 48) };
    }
    found.end = found.offset.checked_add(found.end).filter(|end| *end <= size).unwrap_or(0);
    if found.end < found.offset {
        return Err(damaged("its directory extends beyond the end of the file"));
    }
    Ok(found)
}

/// An entry of the directory.
struct ZipHeader {
    name: String,
    flags: u16,
    method: u16,
    crc: u32,
    compressed: u64,
    size: u64,
    offset: u64,
}

impl ZipHeader {
    fn read(input: &mut impl Read) -> Result<Self, DamagedDatabase> {
        let mut fixed = [0; 46];
        input.read_exact(&mut fixed).map_err(|_| damaged("its directory ends too early"))?;
        if u32_at(&fixed, 0) != DIRECTORY {
            return Err(damaged("its directory is damaged"));
        }
        let mut take = |length: u16| {
            let mut bytes = vec![0; usize::from(length)];
            input.read_exact(&mut bytes).map_err(|_| damaged("its directory ends too early")).map(|()| bytes)
        };
        let name = take(u16_at(&fixed, 28))?;
        let extra = take(u16_at(&fixed, 30))?;
        take(u16_at(&fixed, 32))?;
        let mut header = Self {
            name: String::from_utf8_lossy(&name).into_owned(),
            flags: u16_at(&fixed, 8),
            method: u16_at(&fixed, 10),
            crc: u32_at(&fixed, 16),
            compressed: u64::from(u32_at(&fixed, 20)),
            size: u64::from(u32_at(&fixed, 24)),
            offset: u64::from(u32_at(&fixed, 42)),
        };
        header.apply_zip64(&extra)?;
        Ok(header)
    }

    /// Fields that do not fit 32 bits are in an extra field, in this order.
    fn apply_zip64(&mut self, extra: &[u8]) -> Result<(), DamagedDatabase> {
        let mut values = zip64_values(extra);
        for field in [&mut self.size, &mut self.compressed, &mut self.offset] {
            if *field == u64::from(u32::MAX) {
                let (value, rest) = values.split_first_chunk().ok_or_else(|| damaged("a ZIP64 size is missing"))?;
                (*field, values) = (u64::from_le_bytes(*value), rest);
            }
        }
        Ok(())
    }

    fn content(&self, file: &File, limit: u64) -> Result<Vec<u8>, DamagedDatabase> {
        if self.flags & 1 != 0 {
            return Err(damaged("it is encrypted"));
        }
        if self.size > limit {
            return Err(damaged(&format!("it has more than {limit} bytes")));
        }
        let mut local = [0; 30];
        file.read_exact_at(&mut local, self.offset).map_err(io_error)?;
        if u32_at(&local, 0) != LOCAL {
            return Err(damaged("its header is damaged"));
        }
        let names = 30 + u64::from(u16_at(&local, 26)) + u64::from(u16_at(&local, 28));
        let start = self.offset.checked_add(names);
        let end = start.and_then(|start| start.checked_add(self.compressed));
        let (Some(start), Some(end)) = (start, end) else { return Err(damaged("its size is wrong")) };
        let input = BufReader::with_capacity(16 * 1024, FileSection { file, at: start, end });
        let mut content = Vec::new();
        let read = match self.method {
            0 => input.take(self.size + 1).read_to_end(&mut content),
            8 => DeflateDecoder::new(input).take(self.size + 1).read_to_end(&mut content),
            method => return Err(damaged(&format!("its compression method {method} is not supported"))),
        };
        read.map_err(io_error)?;
        if content.len() as u64 != self.size || crc32fast::hash(&content) != self.crc {
            return Err(damaged("its size or checksum is wrong"));
        }
        Ok(content)
    }
}

/// The content of the extra field with the identifier 1.
fn zip64_values(mut extra: &[u8]) -> &[u8] {
    while extra.len() >= 4 {
        let (id, length) = (u16_at(extra, 0), usize::from(u16_at(extra, 2)));
        let Some((field, rest)) = extra[4..].split_at_checked(length) else { break };
        if id == 1 {
            return field;
        }
        extra = rest;
    }
    &[]
}

#[expect(clippy::needless_pass_by_value, reason = "it is passed to `map_err`")]
fn io_error(error: io::Error) -> DamagedDatabase {
    DamagedDatabase(error.to_string())
}

fn damaged(problem: &str) -> DamagedDatabase {
    DamagedDatabase(problem.to_owned())
}

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    u32::from(u16_at(bytes, at)) | u32::from(u16_at(bytes, at + 2)) << 16
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at)) | u64::from(u32_at(bytes, at + 4)) << 32
}
