//! A table of CVEs with a number for each: known exploited vulnerabilities, and probabilities of exploitation.
//!
//! The file has a header, and entries of twelve bytes sorted by the CVE. It is checked as a whole when it is opened.
//! Memory then holds where each block of entries begins, and its checksum; a look-up reads one block.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, BufWriter, Read as _, Write as _};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::{DamagedDatabase, DatabaseError};
use crate::runtime::open_private;

/// The name of the file.
pub(super) const TABLE: &str = "cves.table";
const MAGIC: [u8; 12] = *b"pgcvetable\0\x01";
/// The magic, and the number of entries.
const HEADER: usize = 16;
const ENTRY: usize = 12;
/// The entries of a block.
const BLOCK: usize = 256;
/// The maximum number of entries. There are about 300,000 CVEs.
pub(super) const MAX_ENTRIES: usize = 5_000_000;

/// A CVE as a number, in the order of years and numbers.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(super) struct CveKey(u64);

impl CveKey {
    /// Parses `CVE-2024-1234`.
    pub(super) fn parse(id: &str) -> Option<Self> {
        let (prefix, rest) = id.split_at_checked(4)?;
        let (year, number) = rest.split_once('-')?;
        let is_digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        let is_cve = prefix.eq_ignore_ascii_case("CVE-") && year.len() == 4 && (4..=14).contains(&number.len());
        if !is_cve || !is_digits(year) || !is_digits(number) {
            return None;
        }
        let (year, number): (u64, u64) = (year.parse().ok()?, number.parse().ok()?);
        Some(Self(year << 48 | number))
    }
}

/// Writes a table to a new file.
///
/// # Errors
/// The file cannot be written, or there are too many entries.
pub(super) fn write(path: &Path, entries: &BTreeMap<CveKey, u32>) -> Result<(), DatabaseError> {
    let failed = |error| DatabaseError::io(path, error);
    let count = u32::try_from(entries.len()).ok().filter(|count| *count as usize <= MAX_ENTRIES);
    let count = count.ok_or_else(|| DamagedDatabase(format!("it has more than {MAX_ENTRIES} entries")))?;
    let file = open_private(File::options().write(true).create_new(true), path).map_err(failed)?;
    let mut out = BufWriter::new(file);
    let mut write = || {
        out.write_all(&MAGIC)?;
        out.write_all(&count.to_le_bytes())?;
        for (key, value) in entries {
            out.write_all(&key.0.to_le_bytes())?;
            out.write_all(&value.to_le_bytes())?;
        }
        out.flush()?;
        out.get_ref().sync_all()
    };
    write().map_err(failed)
}

/// An open table.
#[derive(Debug)]
pub struct CveTable {
    file: File,
    count: usize,
    /// The first CVE of each block, and the block's checksum.
    blocks: Vec<(CveKey, u32)>,
}

impl CveTable {
    /// Opens the table in a directory.
    ///
    /// # Errors
    /// The file cannot be read or is damaged.
    pub(super) fn open(directory: &Path) -> Result<Self, DamagedDatabase> {
        let unreadable = |error: std::io::Error| DamagedDatabase(format!("{TABLE}: {error}"));
        let file = File::open(directory.join(TABLE)).map_err(unreadable)?;
        let size = file.metadata().map_err(unreadable)?.len();
        let mut input = BufReader::with_capacity(128 * 1024, &file);
        let mut header = [0; HEADER];
        input.read_exact(&mut header).map_err(unreadable)?;
        let (magic, count) = header.split_at(MAGIC.len());
        let count = number(count, 0) as usize;
        if magic != MAGIC || count > MAX_ENTRIES || size != (HEADER + count * ENTRY) as u64 {
            return Err(damaged("it is not a table of CVEs"));
        }
        let (mut blocks, mut last, mut left) = (Vec::with_capacity(count.div_ceil(BLOCK)), None, count);
        while left > 0 {
            let mut block = vec![0; left.min(BLOCK) * ENTRY];
            input.read_exact(&mut block).map_err(unreadable)?;
            blocks.push((key(&block), crc32fast::hash(&block)));
            for entry in block.chunks_exact(ENTRY) {
                if last.replace(key(entry)).is_some_and(|last| last >= key(entry)) {
                    return Err(damaged("its entries are not in order"));
                }
            }
            left -= left.min(BLOCK);
        }
        Ok(Self { file, count, blocks })
    }

    /// The number of entries.
    pub(super) fn len(&self) -> usize {
        self.count
    }

    /// The number for a CVE.
    ///
    /// # Errors
    /// The file was changed after it was opened.
    pub(super) fn get(&self, cve: CveKey) -> Result<Option<u32>, DamagedDatabase> {
        let Some(at) = self.blocks.partition_point(|(first, _)| *first <= cve).checked_sub(1) else { return Ok(None) };
        let length = (self.count - at * BLOCK).min(BLOCK);
        let mut bytes = [0; BLOCK * ENTRY];
        let block = &mut bytes[..length * ENTRY];
        let offset = (HEADER + at * BLOCK * ENTRY) as u64;
        self.file.read_exact_at(block, offset).map_err(|error| DamagedDatabase(error.to_string()))?;
        if crc32fast::hash(block) != self.blocks[at].1 {
            return Err(damaged("a checksum is wrong: the file was changed"));
        }
        let entry = block.chunks_exact(ENTRY).find(|entry| key(entry) == cve);
        Ok(entry.map(|entry| number(entry, 8)))
    }
}

fn key(entry: &[u8]) -> CveKey {
    CveKey(u64::from(number(entry, 0)) | u64::from(number(entry, 4)) << 32)
}

fn number(bytes: &[u8], at: usize) -> u32 {
    bytes[at..].first_chunk().map_or(0, |four| u32::from_le_bytes(*four))
}

fn damaged(problem: &str) -> DamagedDatabase {
    DamagedDatabase(format!("{TABLE}: {problem}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifiers_are_parsed_strictly() {
        let order = ["CVE-1999-0001", "CVE-2023-99999", "CVE-2024-0001", "CVE-2024-1234", "cve-2024-12345678"];
        let keys: Vec<_> = order.iter().map(|id| CveKey::parse(id).unwrap()).collect();
        assert!(keys.is_sorted());
        for id in ["CVE-2024-123", "CVE-24-1234", "CVE-2024-12a4", "GHSA-2024-1234", "CVE-2024", "", "CVE-2024-1234 "] {
            assert_eq!(CveKey::parse(id), None, "{id}");
        }
    }

    #[test]
    fn entries_are_found_and_damage_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(TABLE);
        let of = |number: u32| CveKey::parse(&format!("CVE-2024-{number:05}")).unwrap();
        let entries: BTreeMap<_, _> = (0..1000).map(|number| (of(number * 2), number)).collect();
        write(&path, &entries).unwrap();
        let table = CveTable::open(folder.path()).unwrap();
        assert_eq!(table.len(), 1000);
        for number in 0..1000 {
            assert_eq!(table.get(of(number * 2)), Ok(Some(number)));
            assert_eq!(table.get(of(number * 2 + 1)), Ok(None));
        }
        assert_eq!(table.get(CveKey::parse("CVE-2023-0001").unwrap()), Ok(None));
        let bytes = std::fs::read(&path).unwrap();
        for (what, changed) in [
            ("cut", bytes[..bytes.len() - 1].to_vec()),
            ("another magic", [b"x", &bytes[1..]].concat()),
            ("not in order", [&bytes[..HEADER], &bytes[HEADER + ENTRY..], &bytes[HEADER..HEADER + ENTRY]].concat()),
        ] {
            std::fs::write(&path, changed).unwrap();
            assert!(CveTable::open(folder.path()).is_err(), "{what}");
        }
        std::fs::write(&path, &bytes).unwrap();
        let table = CveTable::open(folder.path()).unwrap();
        let mut changed = bytes;
        changed[HEADER + 8] ^= 1;
        std::fs::write(&path, changed).unwrap();
        assert!(table.get(of(0)).is_err());
    }
}
