//! Trivy's database of published Java archives, schema 1 (github.com/aquasecurity/trivy-java-db): an SQLite file with
//! its `metadata.json`. It maps the SHA-1 of an archive's bytes to the artifact.
//!
//! It lists no advisories, so nothing is clean because of it: an archive that it does not name stays unknown.

use std::fmt;
use std::fs::File;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::DamagedDatabase;
use super::trivy_db::TrivyMetadata;
use crate::inventory::ArchiveChecksum;
use crate::sqlite::{SqliteFile, SqliteValue};

/// The name of the database file.
pub(super) const DATABASE: &str = "trivy-java.db";
/// The schema that is understood.
pub(super) const SCHEMA: u64 = 1;

/// Reads a number of bytes of the file at an offset.
type ReadBytes = Box<dyn Fn(u64, usize) -> Result<Vec<u8>, String> + Send + Sync>;

/// An open database.
pub struct JavaDb {
    file: SqliteFile<ReadBytes>,
    /// The root page of the table `artifacts`: `group_id`, `artifact_id`.
    artifacts: u32,
    /// The root page of the table `indices`: the artifact's row, `version`, `sha1`, `archive_type`.
    archives: u32,
    /// The root page of the index of `indices` by `sha1`.
    by_sha1: u32,
}

/// A published artifact.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct JavaArtifact {
    /// `org.springframework:spring-core`.
    pub(super) name: String,
    /// The version.
    pub(super) version: String,
}

impl JavaDb {
    /// Opens the database in a directory.
    ///
    /// # Errors
    /// A file is missing or damaged, or it is of another schema.
    pub(super) fn open(directory: &Path) -> Result<Self, DamagedDatabase> {
        TrivyMetadata::read(directory, SCHEMA)?;
        let file = File::open(directory.join(DATABASE));
        let file = file.and_then(|file| Ok((file.metadata()?.len(), file)));
        let (size, file) = file.map_err(|error| damaged(error.to_string()))?;
        let read: ReadBytes = Box::new(move |at, length| {
            let mut bytes = vec![0; length];
            file.read_exact_at(&mut bytes, at).map_err(|error| error.to_string())?;
            Ok(bytes)
        });
        let open = || {
            let file = SqliteFile::open(size, read)?;
            let (artifacts, archives) = (file.root("table", "artifacts")?, file.root("table", "indices")?);
            let by_sha1 = file.root("index", "indices_sha1_idx")?;
            Ok(Self { file, artifacts, archives, by_sha1 })
        };
        open().map_err(damaged)
    }

    /// Reads the whole database, checks that each row is what the schema defines, and returns the number of archives.
    ///
    /// # Errors
    /// A part is damaged.
    pub(super) fn check(&self) -> Result<u64, DamagedDatabase> {
        let wrong = |table: &str| Err(format!("a row of the table {table} is malformed"));
        self.file
            .rows(self.artifacts, &mut |row| match row {
                [_, SqliteValue::Text(group), SqliteValue::Text(name)] => {
                    text(group).and_then(|_| text(name)).map(|_| ())
                }
                _ => wrong("artifacts"),
            })
            .map_err(damaged)?;
        let (mut archives, mut indexed) = (0, 0);
        self.file
            .rows(self.archives, &mut |row| match row {
                // Some repositories publish other texts as checksums, or none: no archive has them.
                [
                    SqliteValue::Integer(_),
                    SqliteValue::Text(version),
                    SqliteValue::Blob(_) | SqliteValue::Other,
                    ..,
                ] => {
                    archives += 1;
                    text(version).map(|_| ())
                }
                _ => wrong("indices"),
            })
            .map_err(damaged)?;
        let mut count = |_: &[SqliteValue<'_>]| {
            indexed += 1;
            Ok(())
        };
        self.file.entries(self.by_sha1, &mut count).map_err(damaged)?;
        if archives == indexed {
            Ok(archives)
        } else {
            Err(damaged(format!("it has {archives} archives, and its index has {indexed}")))
        }
    }

    /// The artifact that an archive with this checksum is. `None` if the database does not list it.
    pub(super) fn artifact(&self, sha1: &ArchiveChecksum) -> Result<Option<JavaArtifact>, DamagedDatabase> {
        let key = sha1.as_bytes();
        let find = || {
            let Some(row) = self.file.find(self.by_sha1, key)? else { return Ok(None) };
            let archive = self.file.row(self.archives, row, |row| match row {
                [SqliteValue::Integer(artifact), SqliteValue::Text(version), SqliteValue::Blob(sha1), ..]
                    if *sha1 == key =>
                {
                    Ok((*artifact, text(version)?.to_owned()))
                }
                _ => Err("the index leads to another row".to_owned()),
            })?;
            let (artifact, version) = archive.ok_or("the index leads to no row")?;
            let name = self.file.row(self.artifacts, artifact, |row| match row {
                [_, SqliteValue::Text(group), SqliteValue::Text(name)] => {
                    Ok(format!("{}:{}", text(group)?, text(name)?))
                }
                _ => Err("an artifact has another form".to_owned()),
            })?;
            Ok(Some(JavaArtifact { name: name.ok_or("an archive has no artifact")?, version }))
        };
        find().map_err(damaged)
    }
}

impl fmt::Debug for JavaDb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JavaDb")
    }
}

fn text(bytes: &[u8]) -> Result<&str, String> {
    std::str::from_utf8(bytes).map_err(|_| "a text is not UTF-8".to_owned())
}

fn damaged(mut problem: String) -> DamagedDatabase {
    problem.insert_str(0, &format!("{DATABASE}: "));
    DamagedDatabase(problem)
}

#[cfg(test)]
pub(super) mod sample;
#[cfg(test)]
mod tests;
