//! What was verified of Docker Content Trust repositories. It protects against replays of older documents, so it is never
//! forgotten. Several gates can share it: a version never becomes smaller.

use sqlx::Row;

use super::{FactStore, StoreError};

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

    /// Records roles that were verified, unless a newer version is recorded.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn record_notary_roles(&self, repository: &str, roles: &[NotaryRole]) -> Result<(), StoreError> {
        let mut transaction = self.database.writer.begin().await?;
        for NotaryRole { role, version, document } in roles {
            let version = i64::try_from(*version).map_err(|_| StoreError::Row("a version that is too large"))?;
            sqlx::query(
                "INSERT INTO notary (repository, role, version, document) VALUES (?1, ?2, ?3, ?4) \
                 ON CONFLICT (repository, role) DO UPDATE SET version = excluded.version, document = excluded.document \
                 WHERE excluded.version > version OR (excluded.version = version AND excluded.document IS NOT document)",
            )
            .bind(repository)
            .bind(role)
            .bind(version)
            .bind(document)
            .execute(&mut *transaction)
            .await?;
        }
        transaction.commit().await?;
        Ok(())
    }
}
