//! Zip archives (PKWARE, APPNOTE.TXT 6.3), as Java, Python and Go read them: through the central directory at the end.
//!
//! The crate `zip` is not used: it keeps one entry of each name, while readers differ in which of two they take, and it
//! does not compare the central directory with the local headers. Where readers would see different archives, that is
//! an error here; where they see different names of one entry, it has all of them:
//!
//! | name | readers |
//! |---|---|
//! | in the central directory | Java; Python, up to the first NUL byte |
//! | in the extra field 0x7075 (Unicode Path) with the checksum of the former | Python 3.13 (`_decodeExtra`), Info-ZIP |
//! | in the local header | Java where it reads an archive as a stream (`ZipInputStream.java`) |
//!
//! Flag 11 (UTF-8) only matters for bytes outside of ASCII, which no name has that is looked for. No reader on Linux
//! takes a backslash for a separator when it loads a file.

use std::collections::BTreeSet;
use std::io::{BufReader, Cursor, Read, SeekFrom, Write};

use flate2::read::DeflateDecoder;

use crate::inventory::ReadSeek;
use crate::inventory::spool::Spool;

use super::window::{Integers, Window, read_at};

use end::{ArchiveDirectory, find_directory};

pub(super) mod end;

/// The magic bytes of an entry's header; most archives start with one.
pub(super) const FIRST_ENTRY: &[u8] = b"PK\x03\x04";
/// How an entry of the central directory starts.
pub(super) const ENTRY_SIGNATURE: &[u8] = b"PK\x01\x02";
/// The header of an entry in the central directory, without its name, and a local header.
const ENTRY: usize = 46;
const LOCAL: u64 = 30;
/// The kinds of extra fields: values of 64 bits, and Info-ZIP's Unicode Path.
const LARGE_VALUES: u16 = 1;
const UNICODE_PATH: u16 = 0x7075;
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
#[derive(Clone, Default)]
pub(super) struct ZippedFile {
    /// The name by which it was asked for. Bytes that are not UTF-8 are replaced.
    pub(super) name: String,
    /// The other names that readers see.
    other_names: Vec<String>,
    /// The name in the central directory.
    raw_name: Vec<u8>,
    flags: u16,
    method: u16,
    checksum: u32,
    compressed: u64,
    /// The size of the content, in bytes, as stated.
    pub(super) size: u64,
    header_at: u64,
}

/// Reads the central directory and returns the entries whose name is `wanted`. `None` if the file is not an archive.
pub(super) fn entries(
    content: &mut dyn ReadSeek,
    size: u64,
    budget: &mut ZipBudget<'_>,
    wanted: impl Fn(&str) -> bool,
) -> Result<Option<Vec<ZippedFile>>, String> {
    budget.archives = budget.archives.checked_sub(1).ok_or("there are too many archives in the archive")?;
    let Some(directory) = find_directory(content, size, budget)? else { return Ok(None) };
    let mut found = FoundEntries::default();
    read_directory(content, size, &directory, budget, &wanted, &mut found)?;
    for header_at in std::mem::take(&mut found.headers) {
        if budget.spool.must_end() {
            return Err(ENDED.to_owned());
        }
        if let Some(name) = local_name(content, header_at).filter(|name| wanted(name)) {
            // It has another name in the directory, which reading it reports.
            found.add(ZippedFile { name, header_at, ..ZippedFile::default() })?;
        }
    }
    Ok(Some(found.entries))
}

/// Entries that were asked for.
#[derive(Default)]
struct FoundEntries {
    entries: Vec<ZippedFile>,
    /// The length of their names, in bytes.
    names: usize,
    /// Where the local headers of the other entries are.
    headers: Vec<u64>,
}

impl FoundEntries {
    fn add(&mut self, entry: ZippedFile) -> Result<(), String> {
        self.names += entry.name.len() + entry.raw_name.len();
        if self.names > MAX_NAMES {
            return Err("the names in the archive are too long".to_owned());
        }
        self.entries.push(entry);
        Ok(())
    }
}

/// Reads the entries of the central directory.
fn read_directory(
    content: &mut dyn ReadSeek,
    size: u64,
    directory: &ArchiveDirectory,
    budget: &mut ZipBudget<'_>,
    wanted: &impl Fn(&str) -> bool,
    found: &mut FoundEntries,
) -> Result<(), String> {
    let damaged = || "the directory of the archive is damaged".to_owned();
    let window = Window::new(content, size, directory.start, directory.size).ok_or_else(damaged)?;
    let mut reader = BufReader::with_capacity(1 << 16, window);
    let (mut left, mut count) = (directory.size, 0u64);
    while left > 0 {
        budget.entries = budget.entries.checked_sub(1).ok_or("the archive has too many entries")?;
        if budget.spool.must_end() {
            return Err(ENDED.to_owned());
        }
        let mut header = [0; ENTRY];
        reader.read_exact(&mut header).map_err(|_| damaged())?;
        let (mut entry, rest) = read_entry(&header, &mut reader).ok_or_else(damaged)?;
        left = left.checked_sub(rest).ok_or_else(damaged)?;
        count += 1;
        entry.header_at = entry.header_at.wrapping_add(directory.base);
        let names = std::iter::once(entry.name.clone()).chain(std::mem::take(&mut entry.other_names));
        let names: Vec<String> = names.filter(|name| wanted(name)).collect();
        if names.is_empty() {
            found.headers.push(entry.header_at);
        }
        for name in names {
            found.add(ZippedFile { name, ..entry.clone() })?;
        }
    }
    // Only the low bits are in the end record if the archive has more entries and no larger record.
    if count & 0xffff != directory.entries & 0xffff {
        return Err("the archive's number of entries is wrong".to_owned());
    }
    Ok(())
}

/// The name in a local header.
fn local_name(content: &mut dyn ReadSeek, header_at: u64) -> Option<String> {
    let header = read_at(content, header_at, LOCAL).filter(|header| header.starts_with(FIRST_ENTRY))?;
    let length = Integers { bytes: &header, big_endian: false }.u16(26)?;
    let name = read_at(content, header_at.checked_add(LOCAL)?, length.into())?;
    Some(String::from_utf8_lossy(&name).into_owned())
}

/// The names in a central directory. `None` if it is damaged.
pub(super) fn names(mut directory: &[u8]) -> Option<Vec<String>> {
    let mut names = Vec::new();
    while let Some((header, rest)) = directory.split_first_chunk() {
        directory = rest;
        let (entry, _) = read_entry(header, &mut directory)?;
        names.push(entry.name);
        names.extend(entry.other_names);
    }
    directory.is_empty().then_some(names)
}

/// Reads the rest of an entry of the central directory. Also returns the size of the whole entry, in bytes.
fn read_entry(header: &[u8; ENTRY], reader: &mut impl Read) -> Option<(ZippedFile, u64)> {
    let fields = Integers { bytes: header, big_endian: false };
    let lengths = [fields.u16(28)?, fields.u16(30)?, fields.u16(32)?].map(usize::from);
    let mut rest = vec![0; lengths.iter().sum()];
    if !header.starts_with(ENTRY_SIGNATURE) || reader.read_exact(&mut rest).is_err() {
        return None;
    }
    let (raw_name, extra) = (&rest[..lengths[0]], &rest[lengths[0]..lengths[0] + lengths[1]]);
    let mut entry = ZippedFile {
        name: String::from_utf8_lossy(raw_name).into_owned(),
        other_names: other_names(raw_name, extra),
        raw_name: raw_name.to_vec(),
        flags: fields.u16(8)?,
        method: fields.u16(10)?,
        checksum: fields.u32(16)?,
        compressed: fields.u32(20)?.into(),
        size: fields.u32(24)?.into(),
        header_at: fields.u32(42)?.into(),
    };
    large_values(&mut entry, extra);
    Some((entry, (ENTRY + rest.len()) as u64))
}

/// The names of an entry besides the one in its header.
fn other_names(raw_name: &[u8], extra: &[u8]) -> Vec<String> {
    let checksum = crc32fast::hash(raw_name);
    let mut names: BTreeSet<&[u8]> = BTreeSet::new();
    for (_, bytes) in extra_fields(extra).filter(|(kind, _)| *kind == UNICODE_PATH) {
        let fields = Integers { bytes, big_endian: false };
        let is_current = bytes.first() == Some(&1) && fields.u32(1) == Some(checksum);
        names.extend(bytes.get(5..).filter(|name| is_current && *name != raw_name));
    }
    let all = std::iter::once(raw_name).chain(names.iter().copied());
    let cut = all.filter_map(|name| name.split(|byte| *byte == 0).next());
    let cut: Vec<&[u8]> = cut.filter(|name| *name != raw_name).collect();
    names.extend(cut);
    names.into_iter().map(|name| String::from_utf8_lossy(name).into_owned()).collect()
}

/// The extra fields of an entry, with their kinds.
fn extra_fields(mut extra: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let fields = Integers { bytes: extra, big_endian: false };
        let (kind, length) = (fields.u16(0)?, usize::from(fields.u16(2)?));
        let (field, rest) = extra.get(4..)?.split_at_checked(length)?;
        extra = rest;
        Some((kind, field))
    })
}

/// Takes values that need 64 bits from the extra field 1. It contains those that have all bits set in the header.
fn large_values(entry: &mut ZippedFile, extra: &[u8]) {
    let Some((_, bytes)) = extra_fields(extra).find(|(kind, _)| *kind == LARGE_VALUES) else { return };
    let mut at = 0;
    for value in [&mut entry.size, &mut entry.compressed, &mut entry.header_at] {
        if *value == u64::from(u32::MAX) {
            let Some(large) = (Integers { bytes, big_endian: false }).u64(at) else { return };
            (*value, at) = (large, at + 8);
        }
    }
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
        let name_at = self.header_at.checked_add(LOCAL).ok_or_else(differs)?;
        let local_name = read_at(content, name_at, name);
        // Sizes follow the content if flag 3 is set.
        let sizes = [(18, self.compressed), (22, self.size)];
        let mut agrees = field(8)? == self.method && local_name.as_deref() == Some(&self.raw_name);
        for (at, central) in sizes {
            let local = fields.u32(at).ok_or_else(differs)?;
            agrees &= u64::from(local) == central || local == u32::MAX || (field(6)? & 8 != 0 && local == 0);
        }
        if agrees { Ok(name_at + name + extra) } else { Err(differs()) }
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
