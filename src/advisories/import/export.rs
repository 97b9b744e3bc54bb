//! Archives of all databases in use, to be imported elsewhere.
//!
//! A tar archive: first the listing, with the manifest of each generation, then `<source>/<file>` for each of their
//! files, in the order of the listing. It is compressed if its name ends with `.gz` or `.tgz`.

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::Path;

use flate2::Compression;
use flate2::write::GzEncoder;
use rustix::fs::FlockOperation;
use serde::{Deserialize, Serialize};
use tar::{Builder, Entries, Entry, EntryType, Header};

use super::super::cve_table::CveTable;
use super::super::generations::{
    AdvisoryStore, DatabaseKind, GenerationManifest, Staged, are_files_of, check_digest, is_source,
};
use super::super::java_db::JavaDb;
use super::super::meter::{DatabaseLimits, Meter, OnProgress};
use super::super::osv::{INDEX, OsvIndex};
use super::super::trivy_db::TrivyDb;
use super::super::{DamagedDatabase, DatabaseError};
use super::ImportJob;
use super::layout::name_of;
use crate::oci::{Algorithm, Hasher};
use crate::runtime::parent_folder;

/// The name of the listing, the first file of an archive.
pub(super) const LISTING: &str = "pullgate-advisories.json";
const VERSION: u32 = 1;
/// The maximum size of the listing in bytes.
const MAX_LISTING: u64 = 1 << 20;

#[derive(Deserialize, Serialize)]
struct Listing {
    version: u32,
    generations: Vec<GenerationManifest>,
}

/// Writes the databases in use to one archive, for [`import`](super::import). Each file is compared with its digest
/// while it is written. The archive appears under its name only when it is complete.
///
/// # Errors
/// There is no database, one is damaged, or the archive cannot be written.
pub fn export(
    store: &AdvisoryStore,
    path: &Path,
    progress: &mut OnProgress<'_>,
) -> Result<Vec<GenerationManifest>, DatabaseError> {
    let failed = |error| DatabaseError::io(path, error);
    let _lock = store.lock(FlockOperation::LockShared)?;
    let generations: Vec<_> = store.status()?.into_iter().filter_map(|source| source.generation).collect();
    if generations.is_empty() {
        return Err(DatabaseError::unrecognised("there is no advisory database", "fetch or import one first"));
    }
    let limits = DatabaseLimits { compressed: u64::MAX, unpacked: u64::MAX };
    let mut meter = Meter::new(limits, progress);
    meter.expect(generations.iter().map(GenerationManifest::size).sum())?;
    let file = tempfile::NamedTempFile::with_prefix_in(".pullgate-export-", parent_folder(path)).map_err(failed)?;
    let is_compressed = path.extension().is_some_and(|extension| extension == "gz" || extension == "tgz");
    let output = BufWriter::with_capacity(256 * 1024, file.as_file());
    if is_compressed {
        let mut encoder = GzEncoder::new(output, Compression::default());
        write(store, path, &generations, &mut encoder, &mut meter)?;
        encoder.finish().and_then(|mut output| output.flush()).map_err(failed)?;
    } else {
        let mut output = output;
        write(store, path, &generations, &mut output, &mut meter)?;
        output.flush().map_err(failed)?;
    }
    file.as_file().sync_all().map_err(failed)?;
    file.persist(path).map_err(|error| failed(error.error))?;
    Ok(generations)
}

fn write(
    store: &AdvisoryStore,
    path: &Path,
    generations: &[GenerationManifest],
    output: &mut dyn Write,
    meter: &mut Meter<'_>,
) -> Result<(), DatabaseError> {
    let failed = |error| DatabaseError::io(path, error);
    let mut archive = Builder::new(output);
    let listing = Listing { version: VERSION, generations: generations.to_vec() };
    let listing = serde_json::to_vec_pretty(&listing).map_err(|error| failed(error.into()))?;
    archive.append_data(&mut header(listing.len() as u64), LISTING, &listing[..]).map_err(failed)?;
    for generation in generations {
        let folder = store.folder(&generation.source, &generation.id());
        for described in &generation.files {
            let file = File::open(folder.join(&described.name)).map_err(failed)?;
            let mut file = Hashed { input: file.take(described.size), hasher: Hasher::new(Algorithm::Sha256) };
            let name = format!("{}/{}", generation.source, described.name);
            archive.append_data(&mut header(described.size), &name, &mut file).map_err(failed)?;
            check_digest(&name, described.digest, file.hasher.finish())?;
            meter.read(described.size)?;
        }
    }
    archive.finish().map_err(failed)
}

fn header(size: u64) -> Header {
    let mut header = Header::new_ustar();
    header.set_entry_type(EntryType::Regular);
    header.set_mode(0o644);
    header.set_size(size);
    header
}

struct Hashed<R> {
    input: R,
    hasher: Hasher,
}

impl<R: Read> Read for Hashed<R> {
    fn read(&mut self, into: &mut [u8]) -> std::io::Result<usize> {
        let read = self.input.read(into)?;
        self.hasher.update(&into[..read]);
        Ok(read)
    }
}

impl ImportJob<'_> {
    /// Reads what [`export`] wrote. The listing was already taken from the archive.
    pub(super) fn exported<'a, R: Read + 'a>(
        &self,
        listing: Entry<'a, R>,
        mut rest: Entries<'a, R>,
        meter: &mut Meter<'_>,
    ) -> Result<Vec<Staged>, DatabaseError> {
        let mut text = Vec::new();
        listing.take(MAX_LISTING).read_to_end(&mut text).map_err(|error| self.wrong(&error.to_string()))?;
        let listing: Listing =
            serde_json::from_slice(&text).map_err(|error| self.wrong(&format!("{LISTING}: {error}")))?;
        if listing.version != VERSION {
            let why = format!(
                "it has version {}, but this version of pullgate reads {VERSION}; use the version that wrote it or a \
                 newer one, or export it again with this version",
                listing.version
            );
            return Err(self.wrong(&why));
        }
        let mut names = std::collections::BTreeSet::new();
        let mut staged = Vec::new();
        for mut manifest in listing.generations {
            let is_known = manifest.kind.is_name(&manifest.source);
            let is_whole = are_files_of(manifest.kind, &manifest.files);
            if !is_source(&manifest.source) || !is_known || !is_whole || !names.insert(manifest.source.clone()) {
                return Err(self.wrong(&format!("{LISTING} describes {:?} wrongly", manifest.source)));
            }
            let staging = self.store.stage()?;
            for expected in &manifest.files {
                let name = format!("{}/{}", manifest.source, expected.name);
                let mut entry = rest
                    .next()
                    .and_then(Result::ok)
                    .filter(|entry| name_of(entry) == name)
                    .ok_or_else(|| self.wrong(&format!("{name} is missing: it is truncated or damaged")))?;
                let found = staging.write(&expected.name, &mut entry, &mut |bytes| meter.unpacked(bytes))?;
                check_digest(&name, expected.digest, found.digest)?;
            }
            manifest.rows = match manifest.kind {
                DatabaseKind::Epss | DatabaseKind::Kev => CveTable::open(staging.path())?.len() as u64,
                DatabaseKind::JavaDb => JavaDb::open(staging.path())?.check()?,
                DatabaseKind::TrivyDb => TrivyDb::open(staging.path())?.check()?.rows,
                DatabaseKind::Osv => OsvIndex::open(&staging.path().join(INDEX))?.check()?,
            };
            if manifest.rows == 0 {
                return Err(DamagedDatabase(format!("{} is empty", manifest.source)).into());
            }
            manifest.fetched = self.options.now;
            staged.push(staging.complete(manifest)?);
        }
        if staged.is_empty() { Err(self.wrong("it has no database")) } else { Ok(staged) }
    }
}
