//! Writes an index file: see [`super::index`] for its format.
//!
//! Rows are first written to a temporary file, in the order of the records. Memory holds 24 bytes for each row, so that
//! all existing records can be compiled on a small machine.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{BufWriter, Seek as _, SeekFrom, Write};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use jiff::Timestamp;

use super::super::{DamagedDatabase, DatabaseError, IndexPart, OsvDetail};
use super::block::{TextsBlock, TextsPlace};
use super::encoding::{Decoder, Encoder};
use super::index::{Fan, IndexHeader, TableEntry, hash_of};
use super::record::OsvRecord;
use crate::runtime::open_private;

/// The size of rows that wait for the place of their record at which they are written, in bytes.
const MAX_WAITING: usize = 1 << 20;
/// The maximum number of damaged records that an error names.
const MAX_NAMED: usize = 10;
/// The maximum number of rows in one index, which bounds memory. All records of osv.dev have about six million.
const MAX_ROWS: usize = 40_000_000;

/// What was compiled.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct OsvContents {
    /// Records in the index.
    pub records: u64,
    /// Records that were left out because they are withdrawn.
    pub withdrawn: u64,
    /// Records that name no package of an ecosystem.
    pub without_package: u64,
    /// Files that are not JSON.
    pub ignored: u64,
    /// Pairs of a record and a package, in ecosystems that are covered.
    pub rows: u64,
    /// Pairs in other ecosystems, which were left out.
    pub other_rows: u64,
    /// The ecosystems that are covered, without the release of a distribution: `PyPI`, `Debian`.
    pub covered: Vec<String>,
    /// The ecosystems of the rows, in the order of their names: `PyPI`, `Debian:12`.
    pub ecosystems: Vec<String>,
    /// The latest time at which a record was published or changed, and that is not in the future.
    pub newest: Option<Timestamp>,
    /// The latest of those times that is in the future.
    pub future: Option<Timestamp>,
}

/// Compiles records to an index file.
pub(in super::super) struct OsvCompiler {
    path: PathBuf,
    now: Timestamp,
    out: Counted,
    /// Encoded rows, each with its key, in the order in which they were added.
    rows: Counted,
    places: Vec<RowPlace>,
    /// The references of the records that wait.
    references: TextsBlock,
    /// Records that are written when the place of their references is known.
    waiting: Vec<WaitingRecord>,
    /// The size of their rows in bytes.
    waiting_bytes: usize,
    /// The ecosystems that every record so far names.
    common: Option<BTreeSet<String>>,
    contents: OsvContents,
    damaged: Vec<String>,
    damaged_count: u64,
}

/// Where an encoded row is in the temporary file.
#[derive(Clone, Copy)]
struct RowPlace {
    hash: u64,
    offset: u64,
    length: u32,
}

/// A record that waits to be written.
struct WaitingRecord {
    detail: OsvDetail,
    /// Where its references begin in their block, if it has any.
    references: Option<u64>,
    rows: Vec<WaitingRow>,
}

struct WaitingRow {
    ecosystem: String,
    package: String,
    /// What the record says about the package, encoded.
    affected: Vec<u8>,
}

/// A file that is written from front to back.
struct Counted {
    file: BufWriter<File>,
    offset: u64,
}

impl Counted {
    fn new(file: File) -> Self {
        Self { file: BufWriter::with_capacity(256 * 1024, file), offset: 0 }
    }

    /// Appends bytes; returns their offset.
    fn append(&mut self, bytes: &[u8]) -> std::io::Result<u64> {
        let offset = self.offset;
        self.file.write_all(bytes)?;
        self.offset += bytes.len() as u64;
        Ok(offset)
    }
}

impl OsvCompiler {
    /// Creates the index file, which must not exist.
    pub(in super::super) fn new(path: &Path, now: Timestamp) -> Result<Self, DatabaseError> {
        let failed = |error| DatabaseError::io(path, error);
        let file = open_private(File::options().read(true).write(true).create_new(true), path).map_err(failed)?;
        let folder = path.parent().unwrap_or(Path::new("."));
        let mut compiler = Self {
            path: path.to_owned(),
            now,
            out: Counted::new(file),
            rows: Counted::new(tempfile::tempfile_in(folder).map_err(failed)?),
            places: Vec::new(),
            references: TextsBlock::default(),
            waiting: Vec::new(),
            waiting_bytes: 0,
            common: None,
            contents: OsvContents::default(),
            damaged: Vec::new(),
            damaged_count: 0,
        };
        compiler.append(&[0; IndexHeader::SIZE])?;
        Ok(compiler)
    }

    /// Counts a file that is not a record.
    pub(in super::super) fn ignore(&mut self) {
        self.contents.ignored += 1;
    }

    /// Adds a record, or notes that it is damaged. `name` is its place, for errors.
    pub(in super::super) fn add(
        &mut self,
        name: &str,
        json: Result<Vec<u8>, DamagedDatabase>,
    ) -> Result<(), DatabaseError> {
        let record = match json.and_then(|json| OsvRecord::parse(&json)) {
            Ok(record) => record,
            Err(DamagedDatabase(problem)) => {
                self.damaged_count += 1;
                if self.damaged.len() < MAX_NAMED {
                    self.damaged.push(format!("{name} ({problem})"));
                }
                return Ok(());
            }
        };
        for time in [record.detail.published, record.detail.modified, record.withdrawn].into_iter().flatten() {
            let OsvContents { newest, future, .. } = &mut self.contents;
            let latest = if time <= self.now { newest } else { future };
            *latest = (*latest).max(Some(time));
        }
        if record.withdrawn.is_some_and(|withdrawn| withdrawn <= self.now) {
            self.contents.withdrawn += 1;
        } else if record.packages.is_empty() {
            self.contents.without_package += 1;
        } else {
            self.contents.records += 1;
            self.add_record(record)?;
        }
        Ok(())
    }

    fn add_record(&mut self, record: OsvRecord) -> Result<(), DatabaseError> {
        let OsvRecord { detail, references, packages, .. } = record;
        let named: BTreeSet<_> = packages.keys().map(|(ecosystem, _)| family(ecosystem).to_owned()).collect();
        self.common = Some(self.common.take().map_or(named.clone(), |common| &common & &named));
        let mut rows = Vec::with_capacity(packages.len());
        for ((ecosystem, package), affected) in packages {
            let mut encoded = Encoder::default();
            encoded.affected(&affected);
            self.waiting_bytes += ecosystem.len() + package.len() + encoded.0.len();
            rows.push(WaitingRow { ecosystem, package, affected: encoded.0 });
        }
        let references = (!references.is_empty()).then(|| self.references.add(&references));
        self.waiting.push(WaitingRecord { detail, references, rows });
        if self.references.is_full() || self.waiting_bytes >= MAX_WAITING { self.write_waiting() } else { Ok(()) }
    }

    /// Writes the records that wait, and their rows.
    fn write_waiting(&mut self) -> Result<(), DatabaseError> {
        let block = std::mem::take(&mut self.references).finish();
        let (size, block) = block.map_err(|error| DatabaseError::io(&self.path, error))?;
        let block = self.append_part(&block)?;
        self.waiting_bytes = 0;
        for WaitingRecord { detail, references, rows } in std::mem::take(&mut self.waiting) {
            let mut encoded = Encoder::default();
            encoded.detail(&detail, references.map(|start| TextsPlace { block, size, start }));
            let part = self.append_part(&encoded.0)?;
            for row in rows {
                self.add_row(&detail.id, part, &row)?;
            }
        }
        Ok(())
    }

    fn add_row(&mut self, id: &str, detail: IndexPart, row: &WaitingRow) -> Result<(), DatabaseError> {
        if self.places.len() == MAX_ROWS {
            return Err(DamagedDatabase(format!("it has more than {MAX_ROWS} rows")).into());
        }
        let WaitingRow { ecosystem, package, affected } = row;
        let mut head = Encoder::default();
        head.text(id);
        head.part(detail);
        let mut encoded = Encoder::default();
        encoded.text(ecosystem);
        encoded.text(package);
        encoded.text(id);
        encoded.bytes(&[&head.0[..], affected].concat());
        let offset = self.rows.append(&encoded.0).map_err(|error| DatabaseError::io(&self.path, error))?;
        let length = u32::try_from(encoded.0.len()).map_err(|_| DamagedDatabase("a row is too large".to_owned()))?;
        self.places.push(RowPlace { hash: hash_of(ecosystem, package), offset, length });
        Ok(())
    }

    fn append_part(&mut self, bytes: &[u8]) -> Result<IndexPart, DatabaseError> {
        Ok(IndexPart { offset: self.append(bytes)?, length: bytes.len() as u64, crc: crc32fast::hash(bytes) })
    }

    /// Completes and syncs the file. `covered` names the ecosystems whose records were added completely; if it is
    /// empty, these are the ecosystems that every record names. Rows of others are left out: the records of one
    /// ecosystem name packages of others too, and an index must not seem to know those.
    pub(in super::super) fn finish(mut self, covered: &[String]) -> Result<OsvContents, DatabaseError> {
        if self.damaged_count > 0 {
            let more = if self.damaged_count > self.damaged.len() as u64 { ", …" } else { "" };
            let names = self.damaged.join(", ");
            return Err(DatabaseError::unrecognised(
                format!("{} of the records cannot be read", self.damaged_count),
                format!("{names}{more}; an index without them would call their packages clean"),
            ));
        }
        if self.contents.records == 0 {
            return Err(DatabaseError::unrecognised(
                "there are no OSV records",
                format!("JSON files with `id` and `affected` are expected; other files: {}", self.contents.ignored),
            ));
        }
        self.contents.covered = match covered {
            [] => self.common.take().into_iter().flatten().collect(),
            // An archive covers a distribution with all its releases.
            named => named.iter().map(|name| family(name).to_owned()).collect(),
        };
        if self.contents.covered.is_empty() {
            return Err(DatabaseError::unrecognised(
                "the records belong to several ecosystems",
                "name those that are complete, or import the archive of each ecosystem separately",
            ));
        }
        self.write_waiting()?;
        self.write_tables()?;
        let has_rows = |covered: &String| self.contents.ecosystems.iter().any(|found| family(found) == covered);
        if let Some(missing) = self.contents.covered.iter().find(|covered| !has_rows(covered)) {
            return Err(DatabaseError::unrecognised(
                format!("no record is about a package of {missing}"),
                "check the name of the ecosystem: otherwise all of its packages would be clean",
            ));
        }
        Ok(self.contents)
    }

    fn write_tables(&mut self) -> Result<(), DatabaseError> {
        let mut places = std::mem::take(&mut self.places);
        places.sort_unstable_by_key(|place| (place.hash, place.offset));
        self.rows.file.flush().map_err(|error| DatabaseError::io(&self.path, error))?;
        let mut table = Vec::new();
        for group in places.chunk_by(|a, b| a.hash == b.hash) {
            let rows = self.rows_of(group)?;
            if rows.is_empty() {
                continue;
            }
            let length =
                u32::try_from(rows.len()).map_err(|_| DamagedDatabase("a package has too many rows".into()))?;
            let offset = self.append(&rows)?;
            table.push(TableEntry { hash: group[0].hash, offset, length, crc: crc32fast::hash(&rows) });
        }
        let mut ecosystems = Encoder::default();
        ecosystems.list(&self.contents.ecosystems, |out, name| out.text(name));
        let ecosystems_offset = self.append(&ecosystems.0)?;
        let (fan, table) = Fan::write(&table);
        let table_offset = self.append(&table)?;
        let fan_offset = self.append(&fan)?;
        let header = IndexHeader {
            ecosystems: (ecosystems_offset, ecosystems.0.len() as u64, crc32fast::hash(&ecosystems.0)),
            table: (table_offset, table.len() as u64),
            fan: (fan_offset, fan.len() as u64, crc32fast::hash(&fan)),
        };
        let write = |out: &mut BufWriter<File>| {
            out.seek(SeekFrom::Start(0))?;
            out.write_all(&header.encode())?;
            out.flush()?;
            out.get_ref().sync_all()
        };
        write(&mut self.out.file).map_err(|error| DatabaseError::io(&self.path, error))
    }

    /// The rows with the same hash: for each key, its ecosystem, its package, and its rows in the order of the records'
    /// identifiers.
    fn rows_of(&mut self, places: &[RowPlace]) -> Result<Vec<u8>, DatabaseError> {
        let mut rows = Vec::new();
        for place in places {
            let mut bytes = vec![0; place.length as usize];
            let read = self.rows.file.get_ref().read_exact_at(&mut bytes, place.offset);
            read.map_err(|error| DatabaseError::io(&self.path, error))?;
            let mut from = Decoder(&bytes);
            let key = (from.text()?.to_owned(), from.text()?.to_owned());
            if self.counts(&key.0) {
                rows.push((key, from.text()?.to_owned(), from.bytes()?.to_vec()));
            }
        }
        rows.sort_unstable();
        let mut out = Encoder::default();
        for group in rows.chunk_by(|a, b| a.0 == b.0) {
            out.text(&group[0].0.0);
            out.text(&group[0].0.1);
            out.list(group, |out, (_, _, row)| out.bytes(row));
        }
        Ok(out.0)
    }

    /// Counts a row, and returns whether it belongs in the index.
    fn counts(&mut self, ecosystem: &str) -> bool {
        let contents = &mut self.contents;
        if !contents.covered.iter().any(|covered| covered == family(ecosystem)) {
            contents.other_rows += 1;
            return false;
        }
        contents.rows += 1;
        if let Err(index) = contents.ecosystems.binary_search_by(|name| (**name).cmp(ecosystem)) {
            contents.ecosystems.insert(index, ecosystem.to_owned());
        }
        true
    }

    fn append(&mut self, bytes: &[u8]) -> Result<u64, DatabaseError> {
        self.out.append(bytes).map_err(|error| DatabaseError::io(&self.path, error))
    }
}

/// An ecosystem without the release: `Debian` of `Debian:12`.
fn family(ecosystem: &str) -> &str {
    ecosystem.split(':').next().unwrap_or(ecosystem)
}
