//! The index file, which is written once and read with positioned reads.
//!
//! It consists of a header, data, a table and a fan. The table has an entry for each key (an ecosystem and a package),
//! sorted by the key's hash: the hash, and where the key's rows are. The fan has an entry for each value of the first
//! bits of a hash: where its part of the table begins, and the checksum of that part. A look-up reads one part of the
//! table and the rows. A row says where the rest of its record is: matching reads that of many records, so it is not
//! compressed. Only the references are, many in one deflated block. Everything that is read has a checksum.
//!
//! All numbers are little-endian. Rows and records are encoded as [`super::encoding`] describes.

use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::Arc;

use super::super::{DamagedDatabase, IndexPart, KnownRows, OsvDetail, OsvRow, OsvRows, ReferenceList};
use super::block::StoredTexts;
use super::encoding::Decoder;
use super::record::normalised;
use crate::oci::{Algorithm, Hasher};

const MAGIC: [u8; 8] = *b"pgosvidx";
/// Version 1 had the names of NuGet and Composer as records write them, so that packages could be missed. Version 2 had
/// records compressed, by their identifiers.
const VERSION: u32 = 3;
/// The maximum size of the fan in bytes, which is kept in memory: 16 bits of eight bytes.
const MAX_FAN: u64 = 8 * ((1 << 16) + 1);
/// The maximum size of what one look-up reads at a time, in bytes.
pub(super) const MAX_READ: u64 = 256 << 20;

/// The first bytes of the file: where the parts are, by offset, length and checksum.
pub(super) struct IndexHeader {
    pub(super) ecosystems: (u64, u64, u32),
    pub(super) table: (u64, u64),
    pub(super) fan: (u64, u64, u32),
}

impl IndexHeader {
    /// The size of the header in bytes.
    pub(super) const SIZE: usize = 8 + 2 * 4 + 6 * 8 + 2 * 4;

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut rest = Vec::new();
        let offsets = [self.ecosystems.0, self.ecosystems.1, self.table.0, self.table.1, self.fan.0, self.fan.1];
        rest.extend(offsets.iter().flat_map(|number| number.to_le_bytes()));
        rest.extend([self.ecosystems.2, self.fan.2].iter().flat_map(|number| number.to_le_bytes()));
        let crc = crc32fast::hash(&rest).to_le_bytes();
        [&MAGIC[..], &VERSION.to_le_bytes(), &crc, &rest].concat()
    }

    fn parse(bytes: &[u8; Self::SIZE]) -> Result<Self, DamagedDatabase> {
        let mut from = Numbers(bytes);
        if from.take() != MAGIC {
            return damaged("it is not an index of OSV records");
        }
        let version = u32::from_le_bytes(from.take());
        if version != VERSION {
            return Err(DamagedDatabase(format!(
                "its format is version {version}, but this version of pullgate reads version {VERSION}: import the records again, or \
                 run `pullgate db update`"
            )));
        }
        if u32::from_le_bytes(from.take()) != crc32fast::hash(from.0) {
            return damaged("the checksum of its header is wrong");
        }
        let [a, b, c, d, e, f] = std::array::from_fn(|_| u64::from_le_bytes(from.take()));
        let [ecosystems, fan] = std::array::from_fn(|_| u32::from_le_bytes(from.take()));
        Ok(Self { ecosystems: (a, b, ecosystems), table: (c, d), fan: (e, f, fan) })
    }
}

/// Takes numbers off the front of bytes, whose length was checked before.
struct Numbers<'a>(&'a [u8]);

impl Numbers<'_> {
    fn take<const N: usize>(&mut self) -> [u8; N] {
        let (number, rest) = self.0.split_first_chunk().map_or(([0; N], &[][..]), |(number, rest)| (*number, rest));
        self.0 = rest;
        number
    }
}

/// An entry of the table.
#[derive(Clone, Copy)]
pub(super) struct TableEntry {
    pub(super) hash: u64,
    pub(super) offset: u64,
    pub(super) length: u32,
    pub(super) crc: u32,
}

impl TableEntry {
    const SIZE: usize = 24;

    /// Where the rows are.
    pub(super) fn rows(&self) -> IndexPart {
        IndexPart { offset: self.offset, length: self.length.into(), crc: self.crc }
    }

    fn encode(&self) -> Vec<u8> {
        let (length, crc) = (self.length.to_le_bytes(), self.crc.to_le_bytes());
        [&self.hash.to_le_bytes()[..], &self.offset.to_le_bytes(), &length, &crc].concat()
    }

    fn parse(bytes: &[u8]) -> Self {
        let mut from = Numbers(bytes);
        Self {
            hash: u64::from_le_bytes(from.take()),
            offset: u64::from_le_bytes(from.take()),
            length: u32::from_le_bytes(from.take()),
            crc: u32::from_le_bytes(from.take()),
        }
    }
}

/// Where the parts of the table begin, as numbers of entries, with their checksums.
#[derive(Debug)]
pub(super) struct Fan {
    /// The number of bits of a hash that select a part.
    bits: u32,
    parts: Vec<(u32, u32)>,
}

impl Fan {
    /// Encodes a table that is sorted by hash. Returns the fan and the table.
    pub(super) fn write(entries: &[TableEntry]) -> (Vec<u8>, Vec<u8>) {
        // About eight entries a part.
        let bits = (entries.len() / 8).checked_ilog2().map_or(0, |bits| bits + 1).min(16);
        let (mut fan, mut table) = (Vec::new(), Vec::new());
        let mut rest = entries;
        for part in 0..1 << bits {
            let start = (table.len() / TableEntry::SIZE) as u32;
            let (these, others) = rest.split_at(rest.partition_point(|entry| part_of(entry.hash, bits) <= part));
            let bytes: Vec<u8> = these.iter().flat_map(TableEntry::encode).collect();
            fan.extend(start.to_le_bytes());
            fan.extend(crc32fast::hash(&bytes).to_le_bytes());
            table.extend(bytes);
            rest = others;
        }
        fan.extend((entries.len() as u32).to_le_bytes());
        fan.extend([0; 4]);
        (fan, table)
    }

    fn parse(bytes: &[u8], table: u64) -> Result<Self, DamagedDatabase> {
        let parts: Vec<(u32, u32)> = bytes
            .chunks_exact(8)
            .map(|entry| {
                let mut from = Numbers(entry);
                (u32::from_le_bytes(from.take()), u32::from_le_bytes(from.take()))
            })
            .collect();
        let count = parts.len().wrapping_sub(1);
        let covers = parts.last().is_some_and(|last| u64::from(last.0) * TableEntry::SIZE as u64 == table);
        if !count.is_power_of_two() || !parts.is_sorted_by_key(|part| part.0) || parts[0].0 != 0 || !covers {
            return damaged("its fan is inconsistent");
        }
        Ok(Self { bits: count.ilog2(), parts })
    }
}

/// The first bits of a hash.
fn part_of(hash: u64, bits: u32) -> u64 {
    hash.checked_shr(64 - bits).unwrap_or(0)
}

/// The hash of a key.
pub(super) fn hash_of(ecosystem: &str, package: &str) -> u64 {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    for part in [ecosystem.as_bytes(), &[0], package.as_bytes()] {
        hasher.update(part);
    }
    hasher.finish().as_bytes().iter().take(8).fold(0, |hash, byte| hash << 8 | u64::from(*byte))
}

/// An open index of OSV records.
#[derive(Debug)]
pub struct OsvIndex {
    pub(super) file: Arc<File>,
    ecosystems: Vec<String>,
    table: u64,
    fan: Fan,
}

impl OsvIndex {
    /// Opens an index file.
    ///
    /// # Errors
    /// The file cannot be read, is of another version, or is damaged.
    pub(in super::super) fn open(path: &Path) -> Result<Self, DamagedDatabase> {
        let file = File::open(path).map_err(|error| DamagedDatabase(error.to_string()))?;
        let mut header = [0; IndexHeader::SIZE];
        file.read_exact_at(&mut header, 0).map_err(|error| DamagedDatabase(error.to_string()))?;
        let header = IndexHeader::parse(&header)?;
        if header.fan.1 > MAX_FAN {
            return damaged("its fan is too large");
        }
        let (offset, length, crc) = header.ecosystems;
        let ecosystems = Decoder(&read(&file, IndexPart { offset, length, crc })?).texts()?;
        let (offset, length, crc) = header.fan;
        let fan = Fan::parse(&read(&file, IndexPart { offset, length, crc })?, header.table.1)?;
        Ok(Self { file: Arc::new(file), ecosystems, table: header.table.0, fan })
    }

    /// Reads all rows and what they are about, and returns their number. An index of unknown origin is checked as a
    /// whole before it is used.
    ///
    /// # Errors
    /// A part is damaged.
    pub(in super::super) fn check(&self) -> Result<u64, DamagedDatabase> {
        let mut count = 0;
        for entry in self.entries() {
            let (hash, entry) = entry?;
            let bytes = read(&self.file, entry.rows())?;
            let mut from = Decoder(&bytes);
            while !from.0.is_empty() {
                let (ecosystem, package) = (from.text()?, from.text()?);
                if hash != hash_of(ecosystem, package) {
                    return damaged("a key is in the wrong place");
                }
                let mut row = OsvRow::default();
                for encoded in from.list(Decoder::bytes)? {
                    Decoder(encoded).row(&mut row)?;
                    self.detail(&row)?;
                    count += 1;
                }
            }
        }
        Ok(count)
    }

    /// All entries of the table with their hashes, in order.
    pub(super) fn entries(&self) -> impl Iterator<Item = Result<(u64, TableEntry), DamagedDatabase>> {
        let parts = 0..self.fan.parts.len().saturating_sub(1);
        parts.flat_map(move |part| {
            let (entries, error) = match self.part(part) {
                Ok(entries) => (Some(entries), None),
                Err(error) => (None, Some(Err(error))),
            };
            entries.into_iter().flatten().map(|entry| Ok((entry.hash, entry))).chain(error)
        })
    }

    /// The rows of all keys with this hash; empty if there are none.
    fn encoded_rows(&self, hash: u64) -> Result<Arc<[u8]>, DamagedDatabase> {
        match self.entry(hash)? {
            Some(entry) => read(&self.file, entry.rows()).map(Into::into),
            None => Ok(Arc::default()),
        }
    }

    fn entry(&self, hash: u64) -> Result<Option<TableEntry>, DamagedDatabase> {
        let part = usize::try_from(part_of(hash, self.fan.bits)).unwrap_or(usize::MAX);
        Ok(self.part(part)?.find(|entry| entry.hash == hash))
    }

    /// The entries of a part of the table.
    fn part(&self, part: usize) -> Result<impl Iterator<Item = TableEntry> + use<>, DamagedDatabase> {
        let (Some((start, crc)), Some((end, _))) = (self.fan.parts.get(part), self.fan.parts.get(part + 1)) else {
            return damaged("its fan is inconsistent");
        };
        let size = TableEntry::SIZE as u64;
        let offset = self.table.checked_add(u64::from(*start) * size);
        let offset =
            offset.ok_or_else(|| DamagedDatabase("its table extends beyond the end of the file".to_owned()))?;
        let table = read(&self.file, IndexPart { offset, length: u64::from(end - start) * size, crc: *crc })?;
        let count = table.len() / TableEntry::SIZE;
        Ok((0..count).map(move |index| TableEntry::parse(&table[index * TableEntry::SIZE..])))
    }
}

impl OsvRows for OsvIndex {
    fn covers(&self, ecosystem: &str) -> Result<bool, DamagedDatabase> {
        Ok(self.ecosystems.binary_search_by(|name| (**name).cmp(ecosystem)).is_ok())
    }

    fn ecosystems(&self, prefix: &str) -> Vec<String> {
        self.ecosystems.iter().filter(|name| name.starts_with(prefix)).cloned().collect()
    }

    fn each_row(
        &self,
        ecosystem: &str,
        package: &str,
        known: Option<KnownRows<'_>>,
        visit: &mut dyn FnMut(&OsvRow<&str>),
    ) -> Result<(), DamagedDatabase> {
        let package = normalised(ecosystem, package);
        let hash = hash_of(ecosystem, &package);
        let bytes = match known {
            Some(known) => known.get_or_read(hash, || self.encoded_rows(hash))?,
            None => self.encoded_rows(hash)?,
        };
        let (mut from, mut row) = (Decoder(&bytes), OsvRow::default());
        // Several keys may have the same hash.
        while !from.0.is_empty() {
            let key = (from.text()?, from.text()?);
            for _ in 0..from.number()? {
                let encoded = from.bytes()?;
                if key == (ecosystem, &*package) {
                    Decoder(encoded).row(&mut row)?;
                    visit(&row);
                }
            }
        }
        Ok(())
    }

    fn detail(&self, row: &OsvRow<&str>) -> Result<Arc<OsvDetail>, DamagedDatabase> {
        let (mut detail, references) = Decoder(&read(&self.file, row.detail)?).detail()?;
        if let Some(place) = references {
            detail.references = ReferenceList::stored(StoredTexts { file: self.file.clone(), place });
        }
        Ok(Arc::new(detail))
    }
}

/// Reads a part of the file and verifies its checksum.
pub(super) fn read(file: &File, part: IndexPart) -> Result<Vec<u8>, DamagedDatabase> {
    let IndexPart { offset, length, crc } = part;
    // A wrong length must not use memory: it is read in pieces that exist.
    let mut bytes = Vec::new();
    let mut left = length;
    while left > 0 {
        let piece = left.min(4 << 20);
        let start = bytes.len();
        if start as u64 > MAX_READ {
            return damaged("a part of it is too large");
        }
        bytes.resize(start + usize::try_from(piece).unwrap_or_default(), 0);
        let at =
            offset.checked_add(start as u64).ok_or_else(|| DamagedDatabase("an offset is too large".to_owned()))?;
        file.read_exact_at(&mut bytes[start..], at).map_err(|error| DamagedDatabase(error.to_string()))?;
        left -= piece;
    }
    if crc32fast::hash(&bytes) == crc { Ok(bytes) } else { damaged("a checksum is wrong: the file is damaged") }
}

fn damaged<T>(problem: &str) -> Result<T, DamagedDatabase> {
    Err(DamagedDatabase(problem.to_owned()))
}
