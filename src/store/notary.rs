//! The verified state of Docker Content Trust repositories. It protects against replays of older documents, so it is
//! never forgotten by age. Several gates can share it: a version becomes smaller only under a newer root.

use std::path::Path;

use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Row, Sqlite, Transaction};

use super::{DATABASE, FactStore, StoreError};

/// The newest version of a role that was verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NotaryRole {
    /// The name of the role: `targets/releases`.
    pub role: String,
    /// Its version.
    pub version: u64,
    /// The document, for the role `root`.
    pub document: Option<Vec<u8>>,
}

/// What one update of a repository verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NotaryRecord {
    /// The version of the root under which it was verified.
    pub root_version: u64,
    /// The roles, with the root.
    pub roles: Vec<NotaryRole>,
    /// Roles whose versions no longer count because this root has replaced keys.
    pub forgotten: Vec<String>,
}

/// The newest root of a repository that was verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct StoredRoot {
    /// The name of the repository in the store.
    pub repository: String,
    /// The version of the root.
    pub version: u64,
    /// The document.
    pub document: Vec<u8>,
}

/// The roots in the database of a state directory, by repository. A gate may be using it: nothing is written. Empty if
/// there is no database.
///
/// # Errors
/// The database cannot be read.
pub async fn stored_notary_roots(state: &Path) -> Result<Vec<StoredRoot>, StoreError> {
    let path = state.join(DATABASE);
    if !path.exists() {
        return Ok(Vec::new());
    }
    let options = SqliteConnectOptions::new().filename(&path).read_only(true);
    let mut connection = options.connect().await.map_err(|error| StoreError::Open { path, error })?;
    let sql =
        "SELECT repository, version, document FROM notary WHERE role = 'root' AND document IS NOT NULL ORDER BY 1";
    let rows = sqlx::query(sql).fetch_all(&mut connection).await?;
    let root = |row: &sqlx::sqlite::SqliteRow| {
        let version = u64::try_from(row.try_get::<i64, _>(1)?).map_err(|_| StoreError::Row("a negative version"))?;
        Ok(StoredRoot { repository: row.try_get(0)?, version, document: row.try_get(2)? })
    };
    rows.iter().map(root).collect()
}

impl FactStore {
    /// The roles of a repository that were verified.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn notary_roles(&self, repository: &str) -> Result<Vec<NotaryRole>, StoreError> {
        let rows = sqlx::query("SELECT role, version, document FROM notary WHERE repository = ?1")
            .bind(repository)
            .fetch_all(self.readers())
            .await?;
        let role = |row: &sqlx::sqlite::SqliteRow| {
            let version: i64 = row.try_get(1)?;
            let version = u64::try_from(version).map_err(|_| StoreError::Row("a negative version"))?;
            Ok(NotaryRole { role: row.try_get(0)?, version, document: row.try_get(2)? })
        };
        rows.iter().map(role).collect()
    }

    /// The names under which a place is in the store: its own name, followed by what its trust rests on.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn notary_repositories(&self, place: &str) -> Result<Vec<String>, StoreError> {
        let rows =
            sqlx::query("SELECT DISTINCT repository FROM notary WHERE substr(repository, 1, ?2) = ?1 ORDER BY 1")
                .bind(format!("{place} "))
                .bind(i64::try_from(place.chars().count() + 1).unwrap_or(i64::MAX))
                .fetch_all(self.readers())
                .await?;
        rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
    }

    /// Forgets all roles of a repository. Returns them, without documents.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn forget_notary_roles(&self, repository: &str) -> Result<Vec<NotaryRole>, StoreError> {
        let rows = sqlx::query("DELETE FROM notary WHERE repository = ?1 RETURNING role, version")
            .bind(repository)
            .fetch_all(&self.database.writer)
            .await?;
        let role = |row: &sqlx::sqlite::SqliteRow| {
            let version =
                u64::try_from(row.try_get::<i64, _>(1)?).map_err(|_| StoreError::Row("a negative version"))?;
            Ok(NotaryRole { role: row.try_get(0)?, version, document: None })
        };
        rows.iter().map(role).collect()
    }

    /// Records what was verified, unless a newer version is recorded. False if nothing was recorded because a newer
    /// root is known: then this was verified with keys that may have been replaced.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn record_notary_roles(&self, repository: &str, record: &NotaryRecord) -> Result<bool, StoreError> {
        let mut transaction = self.database.writer.begin().await?;
        let known = root_version(&mut transaction, repository).await?;
        let ours = stored(record.root_version)?;
        if known.is_some_and(|known| known > ours) {
            return Ok(false);
        }
        // If the root is already known, the process that recorded it has already removed these roles, and the existing
        // rows are newer.
        if known.is_some_and(|known| known < ours) {
            for role in &record.forgotten {
                let forget = sqlx::query("DELETE FROM notary WHERE repository = ?1 AND role = ?2");
                forget.bind(repository).bind(role).execute(&mut *transaction).await?;
            }
        }
        for NotaryRole { role, version, document } in &record.roles {
            sqlx::query(
                "INSERT INTO notary (repository, role, version, document) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT (repository, role) DO UPDATE SET version = excluded.version, document = excluded.document \
                 WHERE excluded.version > version OR (excluded.version = version AND excluded.document IS NOT document)",
            )
            .bind(repository)
            .bind(role)
            .bind(stored(*version)?)
            .bind(document)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(true)
    }
}

/// The version of the root that is recorded for a repository.
async fn root_version(transaction: &mut Transaction<'_, Sqlite>, repository: &str) -> Result<Option<i64>, StoreError> {
    let row = sqlx::query("SELECT version FROM notary WHERE repository = ?1 AND role = 'root'");
    let row = row.bind(repository).fetch_optional(&mut **transaction).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

fn stored(version: u64) -> Result<i64, StoreError> {
    i64::try_from(version).map_err(|_| StoreError::Row("a version that is too large"))
}
