//! Durable state that is not content: what tags meant, what manifests name, which repository delivered what, evidence.
//!
//! SQLite in WAL mode. Rows are written after the content that they name, so a crash leaves content without rows and
//! never rows without content. Nothing here is asked on the hot path: callers keep moka caches in front.

mod contents;
mod evidence;
mod forget;
mod memo;
mod state_dir;
mod tags;

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous};
use sqlx::{Connection, Row, SqlSafeStr};

pub use contents::{ContentTotals, StoredContent};
pub use memo::Memo;
pub use state_dir::{StateDir, StateDirError};
pub use tags::KnownImage;

use crate::oci::{Content, Digest, Host, ImageName, Manifest, Tag};
use crate::runtime::{Epoch, open_private};

/// SQLite has one writer; the others read.
const MAX_CONNECTIONS: u32 = 4;

/// The rows. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pool: SqlitePool,
    growth: Arc<forget::Growth>,
    epoch: Epoch,
}

impl Store {
    /// Opens the database `pullgate.db` in the state directory and brings it to this version's schema.
    ///
    /// # Errors
    /// When the file is damaged, cannot be written, or was written by a newer version.
    pub async fn open(state: &Path) -> Result<Self, StoreError> {
        let path = state.join("pullgate.db");
        let options = SqliteConnectOptions::new()
            .filename(&path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Normal)
            .busy_timeout(Duration::from_secs(10));
        let at = |error| StoreError::Open { path: path.clone(), error };
        close_to_others(&path).map_err(|error| at(sqlx::Error::Io(error)))?;
        let pool = SqlitePoolOptions::new()
            .max_connections(MAX_CONNECTIONS)
            // A full disk ends a transaction behind sqlx's back, which then keeps the write lock: such a connection goes.
            .after_release(|connection, _| {
                Box::pin(async move {
                    connection.ping().await?;
                    Ok(!connection.is_in_transaction())
                })
            })
            .connect_with(options)
            .await
            .map_err(at)?;
        match migrations().run(&pool).await {
            Ok(()) => {}
            Err(MigrateError::VersionMissing(version)) => return Err(StoreError::Newer { path, version }),
            Err(error) => return Err(StoreError::Migrate { path, error }),
        }
        if let Err(error) = forget::let_shrink(&pool).await {
            tracing::warn!(%error, "the database file will not become smaller when rows are forgotten");
        }
        Ok(Self { pool, growth: forget::growth(), epoch: Epoch::new() })
    }

    /// The same store, which moves this epoch on whenever it forgets facts.
    #[must_use]
    pub fn with_epoch(self, epoch: Epoch) -> Self {
        Self { epoch, ..self }
    }

    /// Records a manifest that the repository delivered, and what it names.
    pub async fn record_manifest(
        &self,
        name: &ImageName,
        manifest: &Manifest,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let digest = manifest.digest.to_string();
        let size = i64::try_from(manifest.bytes.len()).unwrap_or(i64::MAX);
        let is_manifest = i64::from(matches!(manifest.content, Content::Index(_)));
        self.wrote(1 + manifest.descriptors().count() as u64);
        let mut transaction = self.pool.begin().await?;
        sqlx::query(
            "INSERT INTO manifests (host, repository, digest, media_type, size, seen_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
             ON CONFLICT (host, repository, digest) DO UPDATE SET seen_at = excluded.seen_at",
        )
        .bind(name.host.as_str())
        .bind(name.repository.as_str())
        .bind(&digest)
        .bind(&manifest.media_type)
        .bind(size)
        .bind(now.as_millisecond())
        .execute(&mut *transaction)
        .await?;
        for member in manifest.descriptors() {
            sqlx::query(
                "INSERT INTO members (host, repository, manifest, member, is_manifest) VALUES (?1, ?2, ?3, ?4, ?5) \
                 ON CONFLICT (host, repository, manifest, member) DO NOTHING",
            )
            .bind(name.host.as_str())
            .bind(name.repository.as_str())
            .bind(&digest)
            .bind(member.digest.to_string())
            .bind(is_manifest)
            .execute(&mut *transaction)
            .await?;
        }
        Ok(transaction.commit().await?)
    }

    /// The media type of a manifest that the repository delivered; `None` when it never did.
    pub async fn manifest(&self, name: &ImageName, digest: Digest) -> Result<Option<String>, StoreError> {
        let row = sqlx::query("SELECT media_type FROM manifests WHERE host = ?1 AND repository = ?2 AND digest = ?3")
            .bind(name.host.as_str())
            .bind(name.repository.as_str())
            .bind(digest.to_string())
            .fetch_optional(&self.pool)
            .await?;
        row.map(|row| Ok(row.try_get(0)?)).transpose()
    }

    /// Notes that a manifest was served.
    pub async fn record_pull(&self, name: &ImageName, digest: Digest, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query("UPDATE manifests SET pulled_at = ?4 WHERE host = ?1 AND repository = ?2 AND digest = ?3")
            .bind(name.host.as_str())
            .bind(name.repository.as_str())
            .bind(digest.to_string())
            .bind(now.as_millisecond())
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// Those of these digests that are manifests of the repository, each with whether it was served here.
    pub async fn manifests_among(
        &self,
        name: &ImageName,
        digests: &[Digest],
    ) -> Result<Vec<(Digest, bool)>, StoreError> {
        let asked = serde_json::Value::from_iter(digests.iter().map(ToString::to_string));
        let rows = sqlx::query(
            "SELECT digest, pulled_at IS NOT NULL FROM manifests WHERE host = ?1 AND repository = ?2 \
             AND digest IN (SELECT value FROM json_each(?3))",
        )
        .bind(name.host.as_str())
        .bind(name.repository.as_str())
        .bind(asked.to_string())
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(|row| Ok((digest_of(row.try_get(0)?)?, row.try_get(1)?))).collect()
    }

    /// The manifests of the repository that name this digest, newest first: indexes for a manifest, images for a blob.
    pub async fn naming(&self, name: &ImageName, member: Digest) -> Result<Vec<Digest>, StoreError> {
        let rows = sqlx::query(
            "SELECT members.manifest FROM members JOIN manifests ON manifests.host = members.host \
             AND manifests.repository = members.repository AND manifests.digest = members.manifest \
             WHERE members.host = ?1 AND members.repository = ?2 AND members.member = ?3 \
             ORDER BY manifests.seen_at DESC LIMIT 100",
        )
        .bind(name.host.as_str())
        .bind(name.repository.as_str())
        .bind(member.to_string())
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(|row| digest_of(row.try_get(0)?)).collect()
    }

    /// Children that indexes of the repository list and that were never fetched, newest index first, at most `limit`.
    pub async fn unseen_children(&self, name: &ImageName, limit: u32) -> Result<Vec<(Digest, Digest)>, StoreError> {
        let rows = sqlx::query(
            "SELECT members.manifest, members.member FROM members JOIN manifests AS parents ON parents.host = members.host \
             AND parents.repository = members.repository AND parents.digest = members.manifest \
             WHERE members.host = ?1 AND members.repository = ?2 AND members.is_manifest = 1 AND NOT EXISTS \
             (SELECT 1 FROM manifests WHERE host = ?1 AND repository = ?2 AND digest = members.member) \
             ORDER BY parents.seen_at DESC LIMIT ?3",
        )
        .bind(name.host.as_str())
        .bind(name.repository.as_str())
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(|row| Ok((digest_of(row.try_get(0)?)?, digest_of(row.try_get(1)?)?))).collect()
    }

    /// Records that the repository itself delivered or confirmed a blob.
    pub async fn record_link(
        &self,
        name: &ImageName,
        digest: Digest,
        size: u64,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        self.wrote(1);
        sqlx::query(
            "INSERT INTO links (host, repository, digest, size, seen_at) VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT (host, repository, digest) DO UPDATE SET seen_at = excluded.seen_at",
        )
        .bind(name.host.as_str())
        .bind(name.repository.as_str())
        .bind(digest.to_string())
        .bind(i64::try_from(size).unwrap_or(i64::MAX))
        .bind(now.as_millisecond())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Whether the repository itself delivered or confirmed a blob.
    pub async fn has_link(&self, name: &ImageName, digest: Digest) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT 1 FROM links WHERE host = ?1 AND repository = ?2 AND digest = ?3")
            .bind(name.host.as_str())
            .bind(name.repository.as_str())
            .bind(digest.to_string())
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.is_some())
    }

    /// Whether any repository of this registry delivered or confirmed a blob.
    pub async fn has_link_at(&self, host: &Host, digest: Digest) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT 1 FROM links WHERE digest = ?1 AND host = ?2 LIMIT 1")
            .bind(digest.to_string())
            .bind(host.as_str())
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.is_some())
    }

    /// Refuses every write, as a full or read-only disk does. For tests: it acts on the one connection that they use.
    #[cfg(test)]
    pub(crate) async fn forbid_writing(&self, forbid: bool) {
        let sql = if forbid { "PRAGMA query_only = ON" } else { "PRAGMA query_only = OFF" };
        let mut connections = Vec::new();
        for _ in 0..MAX_CONNECTIONS {
            let mut connection = self.pool.acquire().await.expect("a connection");
            sqlx::query(sql).execute(&mut *connection).await.expect("a pragma");
            connections.push(connection);
        }
    }

    /// Closes the database, so that its journal is folded in.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// SQLite gives the files beside the database the database's mode.
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

fn migrations() -> Migrator {
    let steps = [
        (1, "first", include_str!("store/migrations/0001_first.sql")),
        (2, "contents", include_str!("store/migrations/0002_contents.sql")),
        (3, "age", include_str!("store/migrations/0003_age.sql")),
    ];
    let migration = |(version, name, sql): (i64, &'static str, &'static str)| {
        Migration::new(version, name.into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    Migrator::with_migrations(steps.into_iter().map(migration).collect())
}

fn digest_of(text: &str) -> Result<Digest, StoreError> {
    text.parse().map_err(|_| StoreError::Row("an invalid digest"))
}

fn tag_of(text: &str) -> Result<Tag, StoreError> {
    text.parse().map_err(|_| StoreError::Row("an invalid tag"))
}

fn time_of(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or(Timestamp::MIN)
}

/// Why durable state cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Migration failed.
    #[error("{path}: the database cannot be brought to this version's schema: {error}")]
    Migrate {
        /// The database file.
        path: PathBuf,
        /// What failed.
        error: MigrateError,
    },
    /// A newer pullgate wrote it.
    #[error(
        "{path}: the database was written by a newer pullgate (schema {version}); run that version, or give this one its own `state_dir`"
    )]
    Newer {
        /// The database file.
        path: PathBuf,
        /// The schema step that this version does not know.
        version: i64,
    },
    /// It cannot be opened.
    #[error(
        "{path}: the database cannot be opened: {error}; is its disk full or read-only? If the file is damaged, move it away: everything in it can be fetched again"
    )]
    Open {
        /// The database file.
        path: PathBuf,
        /// What failed.
        error: sqlx::Error,
    },
    /// A row holds what this program never wrote.
    #[error("the database holds {0}")]
    Row(&'static str),
    /// A statement failed: disk full, read-only, damaged.
    #[error("the database failed: {0}")]
    Sql(#[from] sqlx::Error),
}

#[cfg(test)]
mod tests;
