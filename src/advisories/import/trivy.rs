//! Trivy's databases (trivy-db, trivy-java-db) from a directory or from the archive that registries keep.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use tar::{Entries, Entry};

use super::super::DatabaseError;
use super::super::generations::{DatabaseKind, GenerationFile, GenerationManifest, JAVA_DB, Staged, Staging, TRIVY_DB};
use super::super::java_db::{self, JavaDb};
use super::super::meter::Meter;
use super::super::trivy_db::{self, METADATA, TrivyDb, TrivyMetadata};
use super::ImportJob;
use super::layout::name_of;

/// The kinds of databases that Trivy's registries keep.
pub(super) const KINDS: [DatabaseKind; 2] = [DatabaseKind::TrivyDb, DatabaseKind::JavaDb];

/// The kind of database that this file is.
pub(super) fn kind_of(file: &str) -> Option<DatabaseKind> {
    KINDS.into_iter().find(|kind| kind.files()[0] == file)
}

/// The name of the source of such a database.
pub(super) fn source_of(kind: DatabaseKind) -> &'static str {
    if kind == DatabaseKind::JavaDb { JAVA_DB } else { TRIVY_DB }
}

impl ImportJob<'_> {
    /// Copies a database from a directory.
    pub(super) fn trivy_folder(
        &self,
        kind: DatabaseKind,
        folder: &Path,
        meter: &mut Meter<'_>,
    ) -> Result<Staged, DatabaseError> {
        let staging = self.store.stage()?;
        let mut files = Vec::new();
        for name in kind.files() {
            let path = folder.join(name);
            let mut file = File::open(&path).map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => DatabaseError::unrecognised(
                    path.display().to_string(),
                    format!("it is missing; {} and {METADATA} belong together, as in ~/.cache/trivy", kind.files()[0]),
                ),
                _ => DatabaseError::io(&path, error),
            })?;
            files.push(staging.write(name, &mut file, &mut |bytes| meter.unpacked(bytes))?);
        }
        self.trivy(kind, staging, files)
    }

    /// Unpacks a database from the files of a tar archive, of which the first one was already taken.
    pub(super) fn trivy_entries<'a, R: Read + 'a>(
        &self,
        first: Entry<'a, R>,
        rest: Entries<'a, R>,
        meter: &mut Meter<'_>,
    ) -> Result<Staged, DatabaseError> {
        let damaged = |error: std::io::Error| DatabaseError::unrecognised(self.from.clone(), error.to_string());
        let staging = self.store.stage()?;
        let (mut files, mut kind): (Vec<GenerationFile>, _) = (Vec::new(), DatabaseKind::TrivyDb);
        for entry in std::iter::once(Ok(first)).chain(rest) {
            let mut entry = entry.map_err(damaged)?;
            let name = name_of(&entry);
            let found = kind_of(&name);
            if !entry.header().entry_type().is_file() || (found.is_none() && name != METADATA) {
                continue;
            }
            kind = found.unwrap_or(kind);
            let size = entry.header().entry_size().map_err(damaged)?;
            let file = staging.write(&name, &mut entry, &mut |bytes| meter.unpacked(bytes))?;
            if file.size != size {
                return Err(DatabaseError::unrecognised(self.from.clone(), format!("it is truncated within {name}")));
            }
            files.push(file);
        }
        self.trivy(kind, staging, files)
    }

    /// Checks a database that was written to the staging directory, and completes it.
    fn trivy(
        &self,
        kind: DatabaseKind,
        staging: Staging,
        mut files: Vec<GenerationFile>,
    ) -> Result<Staged, DatabaseError> {
        let database = kind.files()[0];
        files.sort_by_key(|file| file.name != database);
        if !super::super::generations::are_files_of(kind, &files) {
            return Err(DatabaseError::unrecognised(self.from.clone(), format!("{database} or {METADATA} is missing")));
        }
        let (built, rows) = if kind == DatabaseKind::JavaDb {
            let built = TrivyMetadata::read(staging.path(), java_db::SCHEMA)?.updated_at;
            (built, JavaDb::open(staging.path())?.check()?)
        } else {
            let built = TrivyMetadata::read(staging.path(), trivy_db::SCHEMA)?.updated_at;
            let contents = TrivyDb::open(staging.path())?.check()?;
            tracing::info!(rows = contents.rows, details = contents.details, "checked a trivy-db");
            (built, contents.rows)
        };
        if rows == 0 {
            let problem = format!("the database has no {}", kind.rows());
            return Err(DatabaseError::unrecognised(self.from.clone(), problem));
        }
        let (source, fetched, from) = (source_of(kind).to_owned(), self.options.now, self.from.clone());
        staging.complete(GenerationManifest { source, kind, built, fetched, from, etag: None, rows, files })
    }
}
