//! trivy-db from a directory or from the archive that registries keep.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use tar::{Entries, Entry};

use super::super::DatabaseError;
use super::super::generations::{DatabaseKind as Kind, GenerationFile, GenerationManifest, Staged, Staging};
use super::super::meter::Meter;
use super::super::trivy_db::{DATABASE, MAX_METADATA, METADATA, TrivyDb, TrivyMetadata};
use super::layout::name_of;
use super::{Job, TRIVY};

impl Job<'_> {
    /// Copies a database from a directory.
    pub(super) fn trivy_folder(&self, folder: &Path, meter: &mut Meter<'_>) -> Result<Staged, DatabaseError> {
        let staging = self.store.stage()?;
        let mut files = Vec::new();
        for name in Kind::TrivyDb.files() {
            let path = folder.join(name);
            let mut file = File::open(&path).map_err(|error| match error.kind() {
                std::io::ErrorKind::NotFound => DatabaseError::unrecognised(
                    path.display().to_string(),
                    "it is missing; trivy.db and metadata.json belong together, as in ~/.cache/trivy/db",
                ),
                _ => DatabaseError::io(&path, error),
            })?;
            files.push(staging.write(name, &mut file, &mut |bytes| meter.unpacked(bytes))?);
        }
        self.trivy(staging, files)
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
        let mut files: Vec<GenerationFile> = Vec::new();
        for entry in std::iter::once(Ok(first)).chain(rest) {
            let mut entry = entry.map_err(damaged)?;
            let name = name_of(&entry);
            let known = Kind::TrivyDb.files().iter().find(|known| **known == name);
            let Some(name) = known.filter(|_| entry.header().entry_type().is_file()) else { continue };
            let size = entry.header().entry_size().map_err(damaged)?;
            let file = staging.write(name, &mut entry, &mut |bytes| meter.unpacked(bytes))?;
            if file.size != size {
                return Err(DatabaseError::unrecognised(self.from.clone(), format!("it is truncated within {name}")));
            }
            files.push(file);
        }
        self.trivy(staging, files)
    }

    /// Checks a database that was written to the staging directory, and completes it.
    fn trivy(&self, staging: Staging, mut files: Vec<GenerationFile>) -> Result<Staged, DatabaseError> {
        files.sort_by_key(|file| file.name != DATABASE);
        if !super::super::generations::are_files_of(Kind::TrivyDb, &files) {
            return Err(DatabaseError::unrecognised(self.from.clone(), format!("{DATABASE} or {METADATA} is missing")));
        }
        let path = staging.path().join(METADATA);
        let mut text = Vec::new();
        let read = File::open(&path).and_then(|file| file.take(MAX_METADATA).read_to_end(&mut text));
        read.map_err(|error| DatabaseError::io(&path, error))?;
        let built = TrivyMetadata::parse(&text)?.updated_at;
        let contents = TrivyDb::open(staging.path())?.check()?;
        if contents.rows == 0 {
            return Err(DatabaseError::unrecognised(self.from.clone(), "the database has no advisories"));
        }
        tracing::info!(rows = contents.rows, details = contents.details, "checked a trivy-db");
        let (source, fetched, from) = (TRIVY.to_owned(), self.options.now, self.from.clone());
        let (rows, etag) = (contents.rows, None);
        staging.complete(GenerationManifest { source, kind: Kind::TrivyDb, built, fetched, from, etag, rows, files })
    }
}
