//! The database file: its connections, schema and size.

use std::fs::File;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, Row, SqlSafeStr};

use super::file_health::{FileHealth, has_tables, migrating, open_to_read, opening, wrong_schema};
use super::journal::JournalGrowth;
use super::readers::ReadConnections;
use super::{DATABASE, StoreError};
use crate::runtime::open_private;

/// The page cache of the writer in KiB, in the notation of SQLite. It must hold the pages that a transaction with many
/// rows changes. With a smaller cache, pages are written and read again within the transaction.
const WRITER_CACHE: &str = "-8000";
/// The number of pages of a journal that the writer copies into the file by itself: 64 MB. It is only reached where
/// nothing copies the journal before (`journal`), or not fast enough.
const CHECKPOINT_PAGES: &str = "16000";
/// The page cache of the connection that copies the journal in KiB. It reads no pages through the cache.
const COPIER_CACHE: &str = "-64";

/// Makes SQLite sync its journal after each transaction of the connection, for rows that nothing can replace.
pub(super) const DURABLE: &str = "PRAGMA synchronous = FULL";
/// The setting of all other transactions. They write what can be fetched again.
pub(super) const USUAL: &str = "PRAGMA synchronous = NORMAL";

/// The connections to the file. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Database {
    pub(super) readers: ReadConnections,
    /// The only connection that writes. SQLite allows one writer, and tasks wait for this connection in order.
    pub(super) writer: SqlitePool,
    /// A connection that copies the journal.
    pub(super) copier: SqlitePool,
    pub(super) journal: Arc<JournalGrowth>,
    pub(super) health: FileHealth,
}

impl Database {
    pub(super) async fn open(path: &Path) -> Result<Self, StoreError> {
        let at = |error| opening(path, error);
        let existed = path.exists();
        close_to_others(path).map_err(|error| at(sqlx::Error::Io(error)))?;
        // A full disk can end a transaction without the knowledge of sqlx, which then keeps the write lock. Such a
        // connection is closed.
        let writer = pool(1).after_release(|connection, _| {
            Box::pin(async move {
                if !connection.is_in_transaction() {
                    return Ok(true);
                }
                // A rollback may be under way.
                connection.ping().await?;
                Ok(!connection.is_in_transaction())
            })
        });
        // Statements that write many rows keep the earlier pages until they succeed, which would be in a file.
        let options_of_writer = options(path)
            .pragma("cache_size", WRITER_CACHE)
            .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
            .pragma("temp_store", "MEMORY");
        let writer = writer.connect_with(options_of_writer).await.map_err(at)?;
        let health = FileHealth::new(path);
        let was_empty = !has_tables(&writer).await.map_err(at)?;
        match migrations().run(&writer).await {
            Ok(()) => {}
            Err(MigrateError::VersionMissing(first)) => {
                let version = newest_schema(&writer).await.map_err(at)?.unwrap_or(first);
                return Err(StoreError::Newer { path: path.to_owned(), version });
            }
            Err(error) => return Err(migrating(path, error)),
        }
        if was_empty {
            health.note_empty(existed);
        }
        if let Err(error) = let_shrink(&writer).await {
            tracing::warn!(%error, "the database file will not shrink when rows are deleted");
        }
        let readers = ReadConnections::open(options(path), health.clone()).await.map_err(at)?;
        let copier = pool(1).connect_lazy_with(options(path).pragma("cache_size", COPIER_CACHE));
        Ok(Self { readers, writer, copier, journal: Arc::default(), health })
    }

    /// The size of all rows in the file, in bytes. Reads only the header of the file.
    pub(super) async fn live_bytes(&self) -> Result<u64, StoreError> {
        let (pages, free, size) = self.pages().await?;
        Ok(pages.saturating_sub(free).saturating_mul(size))
    }

    /// Returns free pages to the file system. Returns the number of bytes by which the file became smaller.
    pub(super) async fn shrink(&self) -> Result<u64, StoreError> {
        let (before, _, size) = self.pages().await?;
        loop {
            let (_, free, _) = self.pages().await?;
            if free == 0 {
                break;
            }
            // Vacuums in steps, so that other writers can run in between. The statement makes progress only while its
            // rows are read.
            sqlx::query("PRAGMA incremental_vacuum(1000)").fetch_all(&self.writer).await?;
            if self.pages().await?.1 >= free {
                break;
            }
        }
        // The file keeps its old length until the checkpoint. If readers prevent it, the next call shortens the file.
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_all(&self.writer).await?;
        let (after, _, _) = self.pages().await?;
        Ok(before.saturating_sub(after).saturating_mul(size))
    }

    /// The number of pages of the database, the number of free pages, and the page size in bytes.
    async fn pages(&self) -> Result<(u64, u64, u64), StoreError> {
        let sql = "SELECT page_count, freelist_count, page_size FROM \
                   pragma_page_count(), pragma_freelist_count(), pragma_page_size()";
        let row = sqlx::query(sql).fetch_one(&self.writer).await?;
        let number = |column: usize| -> Result<u64, StoreError> {
            Ok(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or_default())
        };
        Ok((number(0)?, number(1)?, number(2)?))
    }

    /// Closes all connections. The last one copies the journal into the file.
    pub(super) async fn close(&self) {
        self.readers.close().await;
        self.copier.close().await;
        self.writer.close().await;
    }
}

/// Checks that the database of a state directory, if there is one, was not written by a newer version, and has a schema
/// of this program. It is only read, and a gate may be using it.
///
/// # Errors
/// The file is not a database, [`StoreError::Damaged`] or [`StoreError::Newer`].
pub async fn check_schema(state: &Path) -> Result<(), StoreError> {
    let path = state.join(DATABASE);
    let Some(mut connection) = open_to_read(state).await? else { return Ok(()) };
    let at = |error| opening(&path, error);
    let tables = "SELECT count(*) FROM sqlite_master WHERE name = '_sqlx_migrations'";
    let tables: i64 = sqlx::query_scalar(tables).fetch_one(&mut connection).await.map_err(at)?;
    if tables == 0 {
        return Ok(());
    }
    let newest = newest_schema(&mut connection).await.map_err(at)?;
    let known = migrations().iter().map(|migration| migration.version).max();
    match newest {
        Some(version) if newest > known => Err(StoreError::Newer { path: path.clone(), version }),
        _ => match wrong_schema(&mut connection).await.map_err(at)? {
            Some(why) => Err(StoreError::Damaged { path: path.clone(), why }),
            None => Ok(()),
        },
    }
}

async fn newest_schema(database: impl sqlx::SqliteExecutor<'_>) -> Result<Option<i64>, sqlx::Error> {
    sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations").fetch_one(database).await
}

fn options(path: &Path) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Normal)
        .busy_timeout(Duration::from_secs(10))
}

/// A connection to a file is not tested before each use, because an error is reported by the statement itself.
pub(super) fn pool(connections: u32) -> SqlitePoolOptions {
    SqlitePoolOptions::new().max_connections(connections).test_before_acquire(false)
}

/// SQLite creates its additional files with the mode of the database file.
fn close_to_others(database: &Path) -> std::io::Result<()> {
    open_private(File::options().create(true).append(true), database)?;
    for beside in ["-wal", "-shm"] {
        let mut path = database.as_os_str().to_owned();
        path.push(beside);
        match open_private(File::options().append(true), Path::new(&path)) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// All files of the directory `migrations`: a file that is not listed here is never applied.
pub(super) fn migrations() -> Migrator {
    let steps = [
        (1, "first", include_str!("migrations/0001_first.sql")),
        (2, "contents", include_str!("migrations/0002_contents.sql")),
        (3, "age", include_str!("migrations/0003_age.sql")),
        (4, "parts", include_str!("migrations/0004_parts.sql")),
        (5, "fewer trees", include_str!("migrations/0005_fewer_trees.sql")),
        (6, "notary", include_str!("migrations/0006_notary.sql")),
        (7, "exemptions", include_str!("migrations/0007_exemptions.sql")),
        (8, "verdicts", include_str!("migrations/0008_verdicts.sql")),
        (9, "pins", include_str!("migrations/0009_pins.sql")),
        (10, "admissions", include_str!("migrations/0010_admissions.sql")),
        (11, "issues of repositories", include_str!("migrations/0011_repository_issues.sql")),
        (12, "small rows", include_str!("migrations/0012_small_rows.sql")),
        (13, "unpacked layers", include_str!("migrations/0013_unpacked_layers.sql")),
        (14, "manifests by repository", include_str!("migrations/0014_manifests_by_repository.sql")),
        (15, "basis of changes", include_str!("migrations/0015_changed_basis.sql")),
        (16, "noting", include_str!("migrations/0016_noting.sql")),
        (17, "topmost layers", include_str!("migrations/0017_image_tops.sql")),
    ];
    let migration = |(version, name, sql): (i64, &'static str, &'static str)| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(steps.into_iter().map(migration).collect())
}

/// A database can return pages only after it was rewritten once with this setting. Connections do not set it routinely,
/// because SQLite writes the setting to the file each time, which fails on a full disk.
async fn let_shrink(pool: &SqlitePool) -> Result<(), sqlx::Error> {
    // Both statements use the same connection, because it keeps the setting in memory until the rewrite.
    let mut connection = pool.acquire().await?;
    let mode: i64 = sqlx::query("PRAGMA auto_vacuum").fetch_one(&mut *connection).await?.try_get(0)?;
    if mode == 0 {
        sqlx::query("PRAGMA auto_vacuum = INCREMENTAL").execute(&mut *connection).await?;
        sqlx::query("VACUUM").execute(&mut *connection).await?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_migration_in_the_directory_is_listed_in_order() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store/migrations");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        let numbered = |file: &Path| file.file_name().unwrap().to_str().unwrap()[..4].parse::<i64>().unwrap();
        let mut files: Vec<_> = files.map(|file| (numbered(&file), std::fs::read_to_string(&file).unwrap())).collect();
        files.sort_unstable();
        let listed = migrations();
        let listed: Vec<_> =
            listed.iter().map(|migration| (migration.version, migration.sql.as_str().to_owned())).collect();
        assert!(!files.is_empty());
        assert_eq!(listed, files);
    }
}
