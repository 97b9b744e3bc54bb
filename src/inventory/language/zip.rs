//! Zip archives (PKWARE, APPNOTE.TXT 6.3), as Java, Python and Go read them: through the central directory at the end.
//!
//! The crate `zip` is not used: it keeps one entry of each name, while readers differ in which of two they take, and it
//! does not compare the central directory with the local headers. Where readers would see different archives, that is an
//! error here.

use std::io::{BufReader, Cursor, Read, SeekFrom, Write};

use flate2::read::DeflateDecoder;

use crate::inventory::ReadSeek;
use crate::inventory::spool::Spool;

use super::window::{Integers, Window, read_at, read_up_to};

/// The magic bytes of an entry's header; most archives start with one.
pub(super) const FIRST_ENTRY: &[u8] = b"PK\x03\x04";
/// The end record without its comment, and the longest comment.
pub(super) const END: usize = 22;
pub(super) const MAX_COMMENT: u64 = 0xffff;
/// The header of an entry in the central directory, without its name, and a local header.
const ENTRY: usize = 46;
const LOCAL: u64 = 30;
/// The length of all names that are kept, in bytes.
const MAX_NAMES: usize = 16 << 20;
/// Larger archives in archives are kept in a temporary file, in bytes.
const IN_MEMORY: u64 = 16 << 20;

/// Why an archive was not read to its end, if nothing is wrong with it.
pub(super) const ENDED: &str = "the archive was not read to its end";

/// The work that one file may cause, with all archives in it.
pub(super) struct ZipBudget<'a> {
    /// Keeps archives that are too large for memory while they are read, and the limits that all files of a layer
    /// share.
    pub(super) spool: &'a Spool<'a>,
    /// Archives that may still be opened.
    pub(super) archives: u32,
    /// Entries of central directories that may still be read.
    pub(super) entries: u64,
    /// Bytes that may still be decompressed.
    pub(super) bytes: u64,
}

/// An entry that was asked for.
pub(super) struct ZippedFile {
    /// The name. Bytes that are not UTF-8 are replaced.
    pub(super) name: String,
    raw_name: Vec<u8>,
    flags: u16,
    method: u16,
    checksum: u32,
    compressed: u64,
    /// The size of the content, in bytes, as stated.
    pub(super) size: u64,
    header_at: u64,
}

/// Where the central directory is.
struct ArchiveDirectory {
    start: u64,
    size: u64,
    /// The number of entries, as stated.
    entries: u64,
    /// The offset in the file at which the archive starts. Programs may come before it.
    base: u64,
}

/// Reads the central directory and returns the entries whose name is `wanted`. `None` if the file is not an archive.
pub(super) fn entries(
    content: &mut dyn ReadSeek,
    size: u64,
    budget: &mut ZipBudget<'_>,
    wanted: impl Fn(&str) -> bool,
) -> Result<Option<Vec<ZippedFile>>, String> {
    budget.archives = budget.archives.checked_sub(1).ok_or("there are too many archives in the archive")?;
    let Some(directory) = find_directory(content, size)? else { return Ok(None) };
    let damaged = || "the directory of the archive is damaged".to_owned();
    let window = Window::new(content, size, directory.start, directory.size).ok_or_else(damaged)?;
    let mut reader = BufReader::with_capacity(1 << 16, window);
    let (mut left, mut count, mut found, mut names) = (directory.size, 0u64, Vec::new(), 0);
    while left > 0 {
        budget.entries = budget.entries.checked_sub(1).ok_or("the archive has too many entries")?;
        if budget.spool.must_end() {
            return Err(ENDED.to_owned());
        }
        let mut header = [0; ENTRY];
        reader.read_exact(&mut header).map_err(|_| damaged())?;
        let (entry, rest) = read_entry(&header, &mut reader).ok_or_else(damaged)?;
        left = left.checked_sub(rest).ok_or_else(damaged)?;
        count += 1;
        if wanted(&entry.name) {
            names += entry.raw_name.len();
            if names > MAX_NAMES {
                return Err("the names in the archive are too long".to_owned());
            }
            let header_at = entry.header_at.checked_add(directory.base).ok_or_else(damaged)?;
            found.push(ZippedFile { header_at, ..entry });
        }
    }
    // Only the low bits are in the end record if the archive has more entries and no larger record.
    if count & 0xffff != directory.entries & 0xffff {
        return Err("the archive's number of entries is wrong".to_owned());
    }
    Ok(Some(found))
}

/// The names in a central directory. `None` if it is damaged.
pub(super) fn names(mut directory: &[u8]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    while let Some((header, rest)) = directory.split_first_chunk() {
        directory = rest;
        names.push(read_entry(header, &mut directory)?.0.name);
    }
    directory.is_empty().then_some(names)
}

/// Reads the rest of an entry of the central directory. Also returns the size of the whole entry, in bytes.
fn read_entry(header: &[u8; ENTRY], reader: &mut impl Read) -> Option<(ZippedFile, u64)> {
    let fields = Integers { bytes: header, big_endian: false };
    let lengths = [fields.u16(28)?, fields.u16(30)?, fields.u16(32)?].map(usize::from);
    let mut rest = vec![0; lengths.iter().sum()];
    if !header.starts_with(b"PK\x01\x02") || reader.read_exact(&mut rest).is_err() {
        return None;
    }
    let raw_name = rest[..lengths[0]].to_vec();
    let mut entry = ZippedFile {
        name: String::from_utf8_lossy(&raw_name).into_owned(),
        raw_name,
        flags: fields.u16(8)?,
        method: fields.u16(10)?,
        checksum: fields.u32(16)?,
        compressed: fields.u32(20)?.into(),
        size: fields.u32(24)?.into(),
        header_at: fields.u32(42)?.into(),
    };
    large_values(&mut entry, &rest[lengths[0]..lengths[0] + lengths[1]]);
    Some((entry, (ENTRY + rest.len()) as u64))
}

/// Takes values that need 64 bits from the extra field 1. It contains those that have all bits set in the header.
fn large_values(entry: &mut ZippedFile, mut extra: &[u8]) {
    while let (Some(kind), Some(length)) = {
        let fields = Integers { bytes: extra, big_endian: false };
        (fields.u16(0), fields.u16(2).map(usize::from))
    } {
        let Some(bytes) = extra.get(4..4 + length) else { return };
        if kind == 1 {
            let mut at = 0;
            for value in [&mut entry.size, &mut entry.compressed, &mut entry.header_at] {
                if *value == u64::from(u32::MAX) {
                    let Some(large) = (Integers { bytes, big_endian: false }).u64(at) else { return };
                    (*value, at) = (large, at + 8);
                }
            }
            return;
        }
        extra = &extra[4 + length..];
    }
}

/// Finds the end record, which only a comment may follow, and the directory in front of it.
fn find_directory(content: &mut dyn ReadSeek, size: u64) -> Result<Option<ArchiveDirectory>, String> {
    let tail_at = size.saturating_sub(END as u64 + MAX_COMMENT);
    let tail = read_up_to(content, tail_at, size - tail_at).ok_or("the archive cannot be read")?;
    let mut chosen: Option<(ArchiveDirectory, bool)> = None;
    for at in (0..tail.len().saturating_sub(END - 1)).rev() {
        if !tail[at..].starts_with(b"PK\x05\x06") {
            continue;
        }
        let fields = Integers { bytes: &tail[at..], big_endian: false };
        let Some(comment) = fields.u16(20) else { continue };
        let end = at + END + usize::from(comment);
        let is_exact = end == tail.len();
        // An end record in the content of an entry is not the last one, and no comment connects it with the end. Readers
        // differ in which of two possible ones they take.
        let fits = end <= tail.len() && (is_exact || chosen.is_none());
        let Some(directory) = fits.then(|| directory(content, fields, tail_at + at as u64)).flatten() else { continue };
        if chosen.is_some() {
            return Err("the archive has two directories".to_owned());
        }
        chosen = Some((directory, is_exact));
    }
    if chosen.is_none() && read_up_to(content, 0, 4).is_some_and(|start| start == FIRST_ENTRY) {
        return Err("the archive has no directory".to_owned());
    }
    Ok(chosen.map(|(directory, _)| directory))
}

/// The directory to which an end record at `end` points. `None` if there is none.
fn directory(content: &mut dyn ReadSeek, fields: Integers<'_>, end: u64) -> Option<ArchiveDirectory> {
    let (mut entries, mut size) = (u64::from(fields.u16(10)?), u64::from(fields.u32(12)?));
    let (mut offset, mut end) = (u64::from(fields.u32(16)?), end);
    let is_large = entries == 0xffff || size == u64::from(u32::MAX) || offset == u64::from(u32::MAX);
    if let Some((at, large)) = is_large.then(|| large_end(content, end)).flatten() {
        let fields = Integers { bytes: &large, big_endian: false };
        (entries, size, offset, end) = (fields.u64(32)?, fields.u64(40)?, fields.u64(48)?, at);
    }
    let start = end.checked_sub(size)?;
    let base = start.checked_sub(offset)?;
    let is_directory = size == 0 || read_at(content, start, 4)? == *b"PK\x01\x02";
    is_directory.then_some(ArchiveDirectory { start, size, entries, base })
}

/// The larger end record in front of the end record at `end`, and its offset: a locator points to it.
fn large_end(content: &mut dyn ReadSeek, end: u64) -> Option<(u64, Vec<u8>)> {
    let locator = read_at(content, end.checked_sub(20)?, 20).filter(|locator| locator.starts_with(b"PK\x06\x07"))?;
    let stated = Integers { bytes: &locator, big_endian: false }.u64(8)?;
    // The stated offset is relative to the start of the archive, in front of which there may be a program.
    [stated, end.checked_sub(20 + 56)?].into_iter().find_map(|at| {
        let record = read_at(content, at, 56).filter(|record| record.starts_with(b"PK\x06\x06"))?;
        Some((at, record))
    })
}

impl ZippedFile {
    /// The offset of the content in the file, in bytes.
    ///
    /// # Errors
    ///
    /// If the local header does not agree with the central directory, or the entry is encrypted.
    fn content_at(&self, content: &mut dyn ReadSeek) -> Result<u64, String> {
        let problem = |what: &str| format!("the entry {} {what}", self.name);
        if self.flags & 0x2041 != 0 {
            return Err(problem("is encrypted"));
        }
        let differs = || problem("has another local header");
        let header = read_at(content, self.header_at, LOCAL).filter(|header| header.starts_with(FIRST_ENTRY));
        let header = header.ok_or_else(differs)?;
        let fields = Integers { bytes: &header, big_endian: false };
        let field = |at: usize| fields.u16(at).ok_or_else(differs);
        let (name, extra) = (u64::from(field(26)?), u64::from(field(28)?));
        let local_name = read_at(content, self.header_at + LOCAL, name);
        // Sizes follow the content if flag 3 is set.
        let sizes = [(18, self.compressed), (22, self.size)];
        let mut agrees = field(8)? == self.method && local_name.as_deref() == Some(&self.raw_name);
        for (at, central) in sizes {
            let local = fields.u32(at).ok_or_else(differs)?;
            agrees &= u64::from(local) == central || local == u32::MAX || (field(6)? & 8 != 0 && local == 0);
        }
        if agrees { Ok(self.header_at + LOCAL + name + extra) } else { Err(differs()) }
    }

    /// Reads the content.
    ///
    /// # Errors
    ///
    /// If it is damaged or has more than `max` bytes.
    pub(super) fn read(
        &self,
        content: &mut dyn ReadSeek,
        budget: &mut ZipBudget<'_>,
        max: u64,
    ) -> Result<Vec<u8>, String> {
        let mut bytes = Vec::new();
        self.copy(content, budget, max, &mut bytes)?;
        Ok(bytes)
    }

    /// Writes the content into `to`.
    fn copy(
        &self,
        content: &mut dyn ReadSeek,
        budget: &mut ZipBudget<'_>,
        max: u64,
        to: &mut dyn Write,
    ) -> Result<(), String> {
        let problem = |what: &str| format!("the entry {} {what}", self.name);
        let start = self.content_at(content)?;
        content.seek(SeekFrom::Start(start)).map_err(|_| problem("cannot be read"))?;
        let raw = content.take(self.compressed);
        let mut reader: Box<dyn Read + '_> = match self.method {
            0 => Box::new(raw),
            8 => Box::new(DeflateDecoder::new(raw)),
            _ => return Err(problem("is compressed in an unknown way")),
        };
        // Decompressed bytes are counted, whatever size the entry states.
        let allowed = max.min(budget.bytes).min(budget.spool.unpacked_left());
        let (mut checksum, mut size, mut buffer) = (flate2::Crc::new(), 0u64, vec![0; 1 << 16]);
        loop {
            let read = reader.read(&mut buffer).map_err(|_| problem("is damaged"))?;
            if read == 0 {
                break;
            }
            size += read as u64;
            budget.bytes = budget.bytes.saturating_sub(read as u64);
            budget.spool.unpacked(read as u64);
            if size > allowed {
                return Err(problem("is too large"));
            }
            checksum.update(&buffer[..read]);
            to.write_all(&buffer[..read]).map_err(|_| problem("cannot be stored"))?;
            if budget.spool.must_end() {
                return Err(ENDED.to_owned());
            }
        }
        if size != self.size || checksum.sum() != self.checksum {
            return Err(problem("does not have the size or the checksum that the archive states"));
        }
        Ok(())
    }

    /// Opens the content for reading in any order: in place if it is not compressed, else decompressed into memory, or
    /// into a temporary file if it is large.
    ///
    /// # Errors
    ///
    /// As [`ZippedFile::read`].
    pub(super) fn open<'a, 's: 'a>(
        &self,
        content: &'a mut dyn ReadSeek,
        size: u64,
        budget: &mut ZipBudget<'s>,
    ) -> Result<(Box<dyn ReadSeek + 'a>, u64), String> {
        if self.method == 0 {
            let start = self.content_at(content)?;
            let window = Window::new(content, size, start, self.compressed);
            let window = window.ok_or_else(|| format!("the entry {} extends beyond the file", self.name))?;
            return Ok((Box::new(window), self.compressed));
        }
        if self.size <= IN_MEMORY {
            let bytes = self.read(content, budget, IN_MEMORY)?;
            return Ok((Box::new(Cursor::new(bytes)), self.size));
        }
        // An error here is one of the machine, which ends the reading of the layer.
        let local = |error: std::io::Error| error.to_string();
        let spool: &'s Spool<'s> = budget.spool;
        let mut file = spool.temporary().map_err(local)?;
        self.copy(content, budget, u64::MAX, &mut file)?;
        Ok((Box::new(file.into_reader().map_err(local)?), self.size))
    }
}
