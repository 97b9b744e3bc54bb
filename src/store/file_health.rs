//! A database file that is damaged, or that has lost its content: only an operator can mend that.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use sqlx::migrate::MigrateError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions as _, Error};

use super::database::{migrations, pool};
use super::{DATABASE, StoreError};
use crate::runtime::Readiness;

/// The part that is degraded until the gate is restarted: a damaged file does not mend itself.
const TOPIC: &str = "database-file";
/// `SQLITE_CORRUPT` and `SQLITE_NOTADB`. The higher bits of an error code have details.
const DAMAGED: [i64; 2] = [11, 26];
/// `SQLITE_ERROR`: a statement does not fit the schema. The program's statements do, so the stored schema is damaged.
const NO_SUCH: i64 = 1;

/// Reports what is wrong with the file. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct FileHealth(Arc<FileHealthState>);

#[derive(Debug)]
struct FileHealthState {
    path: PathBuf,
    /// Why the file is damaged.
    damaged: OnceLock<String>,
    /// What an emptied file has lost.
    empty: OnceLock<String>,
    readiness: OnceLock<Readiness>,
}

impl FileHealth {
    pub(super) fn new(path: &Path) -> Self {
        Self(Arc::new(FileHealthState {
            path: path.to_owned(),
            damaged: OnceLock::new(),
            empty: OnceLock::new(),
            readiness: OnceLock::new(),
        }))
    }

    /// From now on, `/readyz` says what is wrong.
    pub(super) fn report_to(&self, readiness: Readiness) {
        // A second one would be the same.
        let _ = self.0.readiness.set(readiness);
        self.show();
    }

    /// Reports an error if it means that the file is damaged.
    pub(super) fn note(&self, error: &Error) {
        let Some(why) = damage(error) else { return };
        let why = StoreError::Damaged { path: self.0.path.clone(), why }.to_string();
        if self.0.damaged.set(why.clone()).is_ok() {
            tracing::error!("{why}");
            self.show();
        }
    }

    /// Reports that there are no tables in the file, which existed before this start or not.
    pub(super) fn note_empty(&self, existed: bool) {
        let Some(why) = self.0.path.parent().and_then(|state| lost(state, existed)) else { return };
        tracing::warn!("{why}");
        // A file that somebody moved away needs no further attention.
        if existed && self.0.empty.set(why).is_ok() {
            self.show();
        }
    }

    fn show(&self) {
        if let Some(readiness) = self.0.readiness.get() {
            readiness.degraded(TOPIC, self.0.damaged.get().or(self.0.empty.get()).cloned());
        }
    }
}

/// What an error says about damage, if the file is damaged.
fn damage(error: &Error) -> Option<String> {
    let Error::Database(error) = error else { return None };
    let code = error.code()?.parse::<i64>().ok()? & 0xff;
    let is_damage = DAMAGED.contains(&code) || (code == NO_SUCH && error.message().starts_with("no such "));
    is_damage.then(|| error.to_string())
}

/// Why a database file cannot be opened.
pub(super) fn opening(path: &Path, error: Error) -> StoreError {
    match damage(&error) {
        Some(why) => StoreError::Damaged { path: path.to_owned(), why },
        None => StoreError::Open { path: path.to_owned(), error },
    }
}

/// Why a database cannot be migrated.
pub(super) fn migrating(path: &Path, error: MigrateError) -> StoreError {
    let why = match &error {
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => damage(error),
        MigrateError::VersionMismatch(_) | MigrateError::Dirty(_) => Some(error.to_string()),
        _ => None,
    };
    match why {
        Some(why) => StoreError::Damaged { path: path.to_owned(), why },
        None => StoreError::Migrate { path: path.to_owned(), error },
    }
}

/// What is lost if a state directory that has been in use has a database without tables, or none.
fn lost(state: &Path, existed: bool) -> Option<String> {
    // The reserve is made when a database is first opened. A disk may have had no room for it.
    let has_reserve = state.join(format!("{DATABASE}-reserve")).exists();
    let blobs = || state.join("blobs/sha256").read_dir().is_ok_and(|mut entries| entries.next().is_some());
    (has_reserve || blobs()).then(|| {
        let path = state.join(DATABASE);
        let what = if existed { "the database is empty" } else { "there is no database" };
        format!(
            "{}: {what}, although this state directory has been in use: exemptions, pins, imported tags, the remembered \
             notary roots and the times at which issues were first seen are lost; to have them again, stop the gate, \
             put a copy in its place, and start it again",
            path.display()
        )
    })
}

/// Opens the database of a state directory for reading, if there is one. A gate may be using it.
pub(super) async fn open_to_read(state: &Path) -> Result<Option<SqliteConnection>, StoreError> {
    let path = state.join(DATABASE);
    if !path.is_file() {
        return Ok(None);
    }
    // A database that was closed needs no other file: on a full disk, none could be made.
    let is_closed = ["-wal", "-shm"].iter().all(|suffix| !state.join(format!("{DATABASE}{suffix}")).exists());
    let options = SqliteConnectOptions::new().filename(&path).read_only(true).immutable(is_closed);
    options.connect().await.map(Some).map_err(|error| opening(&path, error))
}

/// Reads the whole database of a state directory, if there is one. A gate may be using it.
///
/// # Errors
/// The file is damaged, or cannot be read.
pub async fn check_pages(state: &Path) -> Result<(), StoreError> {
    let path = state.join(DATABASE);
    let Some(mut connection) = open_to_read(state).await? else { return Ok(()) };
    let found: Result<String, Error> = sqlx::query_scalar("PRAGMA quick_check(1)").fetch_one(&mut connection).await;
    let why = found.map_err(|error| opening(&path, error))?;
    if why == "ok" { Ok(()) } else { Err(StoreError::Damaged { path, why }) }
}

/// What is lost if a state directory that has been in use has an empty database or none, and whether the file exists.
/// `None` if the database has content, cannot be read, or is new.
pub async fn lost_content(state: &Path) -> Option<(String, bool)> {
    let mut connection = open_to_read(state).await.ok()?;
    if let Some(connection) = &mut connection
        && has_tables(&mut *connection).await.ok()?
    {
        return None;
    }
    let existed = connection.is_some();
    Some((lost(state, existed)?, existed))
}

/// Whether there is any table.
pub(super) async fn has_tables(database: impl sqlx::SqliteExecutor<'_>) -> Result<bool, Error> {
    let tables: i64 = sqlx::query_scalar("SELECT count(*) FROM sqlite_master").fetch_one(database).await?;
    Ok(tables > 0)
}

/// Which step of the schema is not as this version applies it, or which column is missing from a schema of this version.
pub(super) async fn wrong_schema(connection: &mut SqliteConnection) -> Result<Option<String>, Error> {
    let sql = "SELECT version, checksum FROM _sqlx_migrations";
    let applied: Vec<(i64, Vec<u8>)> = sqlx::query_as(sql).fetch_all(&mut *connection).await?;
    let applied: HashMap<i64, Vec<u8>> = applied.into_iter().collect();
    let known = migrations();
    for migration in known.iter() {
        match applied.get(&migration.version) {
            // It is applied at the start.
            None => return Ok(None),
            Some(checksum) if checksum[..] == migration.checksum[..] => {}
            Some(_) => return Ok(Some(MigrateError::VersionMismatch(migration.version).to_string())),
        }
    }
    let fresh = pool(1).connect_with(SqliteConnectOptions::new().in_memory(true)).await?;
    known.run(&fresh).await?;
    let mut fresh = fresh.acquire().await?;
    let (wanted, there) = (columns(&mut fresh).await?, columns(connection).await?);
    let missing = wanted.into_iter().find(|column| !there.contains(column));
    Ok(missing.map(|column| format!("it has no column {column}")))
}

/// The columns of all tables, as `TABLE.COLUMN`.
async fn columns(connection: &mut SqliteConnection) -> Result<Vec<String>, Error> {
    let sql = "SELECT tables.name || '.' || parts.name FROM sqlite_master AS tables, \
               pragma_table_info(tables.name) AS parts \
               WHERE tables.type = 'table' AND tables.name NOT LIKE 'sqlite_%' ORDER BY 1";
    sqlx::query_scalar(sql).fetch_all(connection).await
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::store::{Store, check_schema};

    async fn closed(state: &Path) {
        Store::open(state).await.unwrap().close().await;
    }

    async fn change(state: &Path, sql: &'static str) {
        let options = SqliteConnectOptions::new().filename(state.join(DATABASE));
        let mut connection = options.connect().await.unwrap();
        sqlx::query(sql).execute(&mut connection).await.unwrap();
        sqlx::Connection::close(connection).await.unwrap();
    }

    #[tokio::test]
    async fn a_schema_that_is_not_as_this_version_made_it_is_damage() {
        for (sql, why) in [
            ("UPDATE _sqlx_migrations SET checksum = x'00' WHERE version = 13", "migration 13"),
            ("ALTER TABLE pins RENAME COLUMN image TO imago", "it has no column pins.image"),
            ("DROP TABLE pins", "it has no column pins."),
        ] {
            let dir = tempfile::tempdir().unwrap();
            closed(dir.path()).await;
            check_schema(dir.path()).await.unwrap();
            check_pages(dir.path()).await.unwrap();
            change(dir.path(), sql).await;
            let error = check_schema(dir.path()).await.unwrap_err();
            let text = error.to_string();
            assert!(matches!(error, StoreError::Damaged { .. }) && text.contains(why), "{text}");
            assert!(text.contains("pullgate.db: the database is damaged") && text.contains("put a copy"), "{text}");
        }
        let dir = tempfile::tempdir().unwrap();
        closed(dir.path()).await;
        change(dir.path(), "UPDATE _sqlx_migrations SET checksum = x'00' WHERE version = 13").await;
        let error = Store::open(dir.path()).await.unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
    }

    #[tokio::test]
    async fn damage_is_found_by_reading_and_reported_until_a_restart() {
        let dir = tempfile::tempdir().unwrap();
        closed(dir.path()).await;
        let path = dir.path().join(DATABASE);
        let mut bytes = fs::read(&path).unwrap();
        // Every page but the first, which has the schema.
        bytes[4096..].fill(0xff);
        fs::write(&path, &bytes).unwrap();
        let error = check_pages(dir.path()).await.unwrap_err();
        assert!(matches!(error, StoreError::Damaged { .. }), "{error}");
        let (health, readiness) = (FileHealth::new(&path), Readiness::new());
        health.report_to(readiness.clone());
        let options = SqliteConnectOptions::new().filename(&path).read_only(true).immutable(true);
        let mut connection = options.connect().await.unwrap();
        let failed = sqlx::query("SELECT * FROM pins").fetch_all(&mut connection).await.unwrap_err();
        assert!(readiness.report().degraded.is_empty());
        health.note(&Error::PoolTimedOut);
        assert!(readiness.report().degraded.is_empty(), "that is no damage");
        // Also if the content had been lost before.
        health.note_empty(true);
        let degraded = readiness.report().degraded;
        assert!(degraded["database-file"].contains("the database is empty"), "{degraded:?}");
        health.note(&failed);
        let degraded = readiness.report().degraded;
        assert!(degraded["database-file"].contains("the database is damaged"), "{degraded:?}");
    }

    #[tokio::test]
    async fn an_emptied_database_is_not_taken_for_a_new_one() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(DATABASE);
        let part = async |dir: &Path| {
            let (store, readiness) = (Store::open(dir).await.unwrap(), Readiness::new());
            store.limit_reads(&readiness);
            store.close().await;
            readiness.report().degraded.remove("database-file")
        };
        assert_eq!(lost_content(dir.path()).await, None, "there was nothing before");
        assert_eq!(part(dir.path()).await, None);
        assert_eq!(lost_content(dir.path()).await, None, "it has tables");
        fs::write(&path, "").unwrap();
        let (why, exists) = lost_content(dir.path()).await.unwrap();
        assert!(exists && why.contains("the database is empty") && why.contains("notary roots"), "{why}");
        assert_eq!(part(dir.path()).await, Some(why));
        assert_eq!(part(dir.path()).await, None, "a restart takes it as it is");
        fs::remove_file(&path).unwrap();
        let (why, exists) = lost_content(dir.path()).await.unwrap();
        assert!(!exists && why.contains("there is no database"), "{why}");
        assert_eq!(part(dir.path()).await, None, "whoever moved it away knows");
    }
}
