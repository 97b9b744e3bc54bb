//! Imports databases from files, for machines without access to their sources.

mod export;
mod feeds;
mod fetch;
mod layout;
#[cfg(test)]
mod tests;
mod trivy;

use std::fs::File;
use std::io::{BufReader, Read, Seek as _, SeekFrom};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use flate2::bufread::MultiGzDecoder;
use jiff::Timestamp;

pub use self::export::export;
use self::fetch::WebOrigin;
pub use self::fetch::{DatabaseTransport, FetchedFile, WebAnswer, WebSource, fetch_file, fetch_image};
use super::feed::EPSS_START;
use super::generations::{DatabaseKind, GenerationManifest, Staged, Staging};
use super::meter::{DatabaseLimits, Meter, OnProgress};
use super::{AdvisoryStore, DatabaseError, InstalledGeneration, java_db, osv, trivy_db};

/// The maximum size of headers and unused files in an archive, in bytes.
const SLACK: u64 = 64 << 20;

/// How databases are fetched and imported.
#[derive(Clone, Debug)]
pub struct ImportOptions {
    /// Use the database even if it is older than the one in use.
    pub force: bool,
    /// Limits for its size.
    pub limits: DatabaseLimits,
    /// The time.
    pub now: Timestamp,
    /// The ecosystems of which OSV records are complete: `PyPI`, `Debian`. Empty for those that every record names.
    pub ecosystems: Vec<String>,
}

impl ImportOptions {
    /// The defaults at a time.
    pub fn at(now: Timestamp) -> Self {
        Self { force: false, limits: DatabaseLimits::default(), now, ecosystems: Vec::new() }
    }
}

/// Imports databases from a file or directory, and puts them into use. These are recognised by their content:
/// - a directory with `trivy.db` and `metadata.json` (`~/.cache/trivy/db`), or its path with `trivy.db` at the end; the
///   same with `trivy-java.db` (`~/.cache/trivy/java-db`);
/// - an archive of these two files (`db.tar.gz` and `javadb.tar.gz`, as in the registry);
/// - an OCI image layout of trivy-db or trivy-java-db, as a directory or a tar archive (`oras copy --to-oci-layout`,
///   `skopeo copy`);
/// - a zip archive or a directory of OSV records (`all.zip` of an ecosystem);
/// - the catalog of known exploited vulnerabilities (KEV), as JSON;
/// - EPSS scores, as CSV, compressed with gzip or not;
/// - an archive that [`export()`] wrote.
///
/// This reads and verifies everything, so call it on a thread that may block.
///
/// # Errors
/// The path is none of these, is damaged, exceeds a limit, or is older than what is in use. Then nothing is changed.
pub fn import(
    store: &AdvisoryStore,
    path: &Path,
    options: &ImportOptions,
    progress: &mut OnProgress<'_>,
) -> Result<Vec<InstalledGeneration>, DatabaseError> {
    import_if(store, path, options, progress, &mut |_| Ok(()))
}

/// Decides whether databases that were read and verified are put into use, or returns the reason why not.
pub type ApproveDatabases<'a> = dyn FnMut(&[&GenerationManifest]) -> Result<(), String> + 'a;

/// The same as [`import`], if `approve` allows it. It is called once, with all databases, before any of them is in use.
///
/// # Errors
/// The same, or [`DatabaseError::NotApproved`].
pub fn import_if(
    store: &AdvisoryStore,
    path: &Path,
    options: &ImportOptions,
    progress: &mut OnProgress<'_>,
    approve: &mut ApproveDatabases<'_>,
) -> Result<Vec<InstalledGeneration>, DatabaseError> {
    let mut meter = Meter::new(options.limits, progress);
    let job = ImportJob { store, options, from: path.display().to_string() };
    let staged = if path.is_dir() { job.directory(path, &mut meter)? } else { job.file(path, &mut meter)? };
    job.install(staged, approve)
}

/// One import or fetch.
struct ImportJob<'a> {
    store: &'a AdvisoryStore,
    options: &'a ImportOptions,
    /// Where the database is from.
    from: String,
}

impl ImportJob<'_> {
    /// Puts complete databases into use, after all of them have been found to be new enough.
    fn install(
        &self,
        staged: Vec<Staged>,
        approve: &mut ApproveDatabases<'_>,
    ) -> Result<Vec<InstalledGeneration>, DatabaseError> {
        let (force, now) = (self.options.force, self.options.now);
        for Staged { manifest, .. } in &staged {
            let current = self.store.current(&manifest.source).unwrap_or_default();
            self.store.check_age(manifest, current.as_ref(), force, now)?;
        }
        let offered: Vec<_> = staged.iter().map(|staged| &staged.manifest).collect();
        approve(&offered).map_err(DatabaseError::NotApproved)?;
        staged.into_iter().map(|staged| self.store.install(staged, force, now)).collect()
    }

    fn directory(&self, path: &Path, meter: &mut Meter<'_>) -> Result<Vec<Staged>, DatabaseError> {
        if let Some(kind) = trivy::KINDS.into_iter().find(|kind| path.join(kind.files()[0]).exists()) {
            return Ok(vec![self.trivy_folder(kind, path, meter)?]);
        }
        if path.join("index.json").exists() && path.join("blobs").is_dir() {
            return Ok(vec![self.layout(&layout::Folder(path), meter)?]);
        }
        Ok(vec![self.osv(path, meter)?])
    }

    fn file(&self, path: &Path, meter: &mut Meter<'_>) -> Result<Vec<Staged>, DatabaseError> {
        let failed = |error| DatabaseError::io(path, error);
        let mut file = File::open(path).map_err(failed)?;
        let mut start = [0; 512];
        let length = read_start(&file, &mut start).map_err(failed)?;
        let start = &start[..length];
        let parent = path.parent().unwrap_or(Path::new("."));
        match start {
            [0x1F, 0x8B, ..] => {
                meter.expect(file.metadata().map_err(failed)?.len())?;
                if feeds::is_packed_epss(&file) {
                    return self.feed(DatabaseKind::Epss, path, meter);
                }
                self.archive(&mut MultiGzDecoder::new(BufReader::new(file)), None, meter)
            }
            [b'P', b'K', ..] => {
                meter.expect(file.metadata().map_err(failed)?.len())?;
                Ok(vec![self.osv(path, meter)?])
            }
            [b'{', ..] => self.feed(DatabaseKind::Kev, path, meter),
            _ if start.starts_with(EPSS_START) => self.feed(DatabaseKind::Epss, path, meter),
            _ if start.get(257..262) == Some(b"ustar") => {
                file.seek(SeekFrom::Start(0)).map_err(failed)?;
                let random = file.try_clone().map_err(failed)?;
                self.archive(&mut BufReader::new(file), Some(random), meter)
            }
            _ if start.get(16..20) == Some(&0xED0C_DAEDu32.to_le_bytes()) => {
                Ok(vec![self.trivy_folder(DatabaseKind::TrivyDb, parent, meter)?])
            }
            _ if start.starts_with(b"SQLite format 3\0") => {
                Ok(vec![self.trivy_folder(DatabaseKind::JavaDb, parent, meter)?])
            }
            _ => Err(DatabaseError::unrecognised(
                path.display().to_string(),
                "it is not an advisory database; expected are trivy.db or trivy-java.db with metadata.json next to it, \
                 db.tar.gz, an OCI layout of trivy-db or trivy-java-db, a zip archive of OSV records, the KEV catalog, EPSS scores, or what \
                 `pullgate db export` wrote",
            )),
        }
    }

    /// Reads a tar archive, which its first file identifies. `random` is the file, if it is not compressed.
    fn archive(
        &self,
        input: &mut dyn Read,
        random: Option<File>,
        meter: &mut Meter<'_>,
    ) -> Result<Vec<Staged>, DatabaseError> {
        let damaged = |error: std::io::Error| DatabaseError::unrecognised(self.from.clone(), error.to_string());
        // Files that are not used count, too: the archive may be small and unpack to anything.
        let mut archive = tar::Archive::new(input.take(meter.most_unpacked().saturating_add(SLACK)));
        let mut entries = archive.entries().map_err(damaged)?.raw(true);
        while let Some(entry) = entries.next() {
            let entry = entry.map_err(damaged)?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            return match &*layout::name_of(&entry) {
                trivy_db::DATABASE | java_db::DATABASE | trivy_db::METADATA => {
                    Ok(vec![self.trivy_entries(entry, entries, meter)?])
                }
                export::LISTING => self.exported(entry, entries, meter),
                _ => match random {
                    Some(file) => Ok(vec![self.layout(&layout::LayoutArchive::open(file, &self.from)?, meter)?]),
                    None => Err(DatabaseError::unrecognised(
                        self.from.clone(),
                        "a compressed archive must contain trivy.db or trivy-java.db with metadata.json, or be what `pullgate db export` \
                         wrote; decompress an OCI layout first",
                    )),
                },
            };
        }
        Err(DatabaseError::unrecognised(self.from.clone(), "the archive has no files"))
    }

    /// Compiles OSV records of a file or directory.
    fn osv(&self, path: &Path, meter: &mut Meter<'_>) -> Result<Staged, DatabaseError> {
        self.osv_in(self.store.stage()?, path, WebOrigin::default(), meter)
    }

    fn osv_in(
        &self,
        staging: Staging,
        path: &Path,
        origin: WebOrigin,
        meter: &mut Meter<'_>,
    ) -> Result<Staged, DatabaseError> {
        let ImportOptions { now, ecosystems, .. } = self.options;
        let contents = osv::compile(path, &staging.path().join(osv::INDEX), ecosystems, *now, meter)?;
        let Some(built) = origin.built.or(contents.newest) else {
            let problem = match contents.future.map(|time| time.strftime("%Y-%m-%d").to_string()) {
                Some(day) => format!("all records were changed in the future ({day}): check the clock"),
                None => "no record says when it was changed".to_owned(),
            };
            return Err(DatabaseError::unrecognised(self.from.clone(), problem));
        };
        let manifest = GenerationManifest {
            source: source_of(&contents.covered),
            kind: DatabaseKind::Osv,
            built,
            fetched: *now,
            from: self.from.clone(),
            etag: origin.etag,
            rows: contents.rows,
            files: vec![staging.describe(osv::INDEX)?],
        };
        tracing::info!(
            source = manifest.source,
            records = contents.records,
            rows = contents.rows,
            withdrawn = contents.withdrawn,
            without_package = contents.without_package,
            other_files = contents.ignored,
            other_rows = contents.other_rows,
            "compiled OSV records"
        );
        staging.complete(manifest)
    }
}

/// The name of the source with OSV records of these ecosystems: `osv-pypi`; `osv` for more than three.
pub(super) fn source_of(ecosystems: &[String]) -> String {
    let mut name = "osv".to_owned();
    for ecosystem in ecosystems.iter().take(if ecosystems.len() > 3 { 0 } else { 3 }) {
        name.push('-');
        let is_word = |character: char| character.is_ascii_alphanumeric();
        name.extend(
            ecosystem.chars().filter(|character| is_word(*character)).map(|letter| letter.to_ascii_lowercase()),
        );
    }
    name.truncate(64);
    name
}

fn read_start(file: &File, start: &mut [u8]) -> std::io::Result<usize> {
    let mut length = 0;
    while length < start.len() {
        match file.read_at(&mut start[length..], length as u64)? {
            0 => break,
            read => length += read,
        }
    }
    Ok(length)
}
