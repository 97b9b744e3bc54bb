//! Rows of exemptions. Several gates can share them: the newest row of an exemption wins.

use jiff::Timestamp;
use sqlx::sqlite::SqliteRow;
use sqlx::{Connection, Row};

use super::database::{DURABLE, Database, USUAL};
use super::{StoreError, time_of};
use crate::policy::{ExemptionRecord, MAX_EXEMPTIONS};

/// The exemptions that were added by commands. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ExemptionStore {
    database: Database,
}

impl ExemptionStore {
    pub(super) fn new(database: Database) -> Self {
        Self { database }
    }

    /// All exemptions, including those that have ended. A row that is not an exemption is logged and exempts nothing.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn all(&self) -> Result<Vec<ExemptionRecord>, StoreError> {
        let sql = "SELECT id, scope, issue_type, issue_id, package, expires_at, reason, added_by, created_at \
                   FROM exemptions ORDER BY created_at, id";
        let rows = sqlx::query(sql).fetch_all(&self.database.readers).await?;
        let mut records = Vec::with_capacity(rows.len());
        for row in &rows {
            match record(row)? {
                Ok(record) => records.push(record),
                Err(why) => {
                    tracing::error!(id = row.try_get::<String, _>(0)?, why, "a stored exemption cannot be read");
                }
            }
        }
        Ok(records)
    }

    /// Adds exemptions, each in place of an earlier one with the same identifier. They survive a power failure when
    /// this returns without an error. Returns false, and adds none, if there would be more than [`MAX_EXEMPTIONS`].
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn put(&self, records: &[ExemptionRecord], now: Timestamp) -> Result<bool, StoreError> {
        let mut connection = self.database.writer.acquire().await?;
        sqlx::query(DURABLE).execute(&mut *connection).await?;
        let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
        for record in records {
            sqlx::query(
                "INSERT INTO exemptions (id, scope, issue_type, issue_id, package, expires_at, reason, added_by, created_at) \
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9) ON CONFLICT (id) DO UPDATE SET issue_id = excluded.issue_id, \
                 expires_at = excluded.expires_at, reason = excluded.reason, added_by = excluded.added_by, \
                 created_at = excluded.created_at",
            )
            .bind(&*record.id)
            .bind(record.scope.to_string())
            .bind(record.issue_type.as_str())
            .bind(&record.issue_id)
            .bind(record.package.as_ref().map(ToString::to_string))
            .bind(record.expires.map(Timestamp::as_millisecond))
            .bind(&record.reason)
            .bind(&record.by)
            .bind(record.created.unwrap_or(now).as_millisecond())
            .execute(&mut *transaction)
            .await?;
        }
        let count: i64 =
            sqlx::query("SELECT COUNT(*) FROM exemptions").fetch_one(&mut *transaction).await?.try_get(0)?;
        let fits = usize::try_from(count).is_ok_and(|count| count <= MAX_EXEMPTIONS);
        if fits {
            transaction.commit().await?;
        } else {
            transaction.rollback().await?;
        }
        sqlx::query(USUAL).execute(&mut *connection).await?;
        Ok(fits)
    }

    /// Removes exemptions by their identifiers. They do not come back after a power failure when this returns without
    /// an error.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn remove(&self, ids: &[&str]) -> Result<(), StoreError> {
        let mut connection = self.database.writer.acquire().await?;
        sqlx::query(DURABLE).execute(&mut *connection).await?;
        let sql = "DELETE FROM exemptions WHERE id IN (SELECT value FROM json_each(?1))";
        sqlx::query(sql).bind(super::json(ids)).execute(&mut *connection).await?;
        sqlx::query(USUAL).execute(&mut *connection).await?;
        Ok(())
    }
}

/// The exemption in a row, or why there is none.
fn record(row: &SqliteRow) -> Result<Result<ExemptionRecord, String>, StoreError> {
    let (id, scope, kind): (String, String, String) = (row.try_get(0)?, row.try_get(1)?, row.try_get(2)?);
    let (issue, package): (Option<String>, Option<String>) = (row.try_get(3)?, row.try_get(4)?);
    let (expires, created): (Option<i64>, i64) = (row.try_get(5)?, row.try_get(8)?);
    let (reason, by): (Option<String>, Option<String>) = (row.try_get(6)?, row.try_get(7)?);
    let parse = || {
        let scope = scope.parse().map_err(|invalid: crate::policy::InvalidExemptionScope| invalid.to_string())?;
        let text = |invalid: crate::policy::InvalidExemption| invalid.to_string();
        let package = package.map(|package| package.parse()).transpose().map_err(text)?;
        let record = ExemptionRecord::new(scope, kind.parse().map_err(text)?, issue.as_deref(), package);
        let record = record.and_then(|record| record.explained(by.as_deref(), reason.as_deref())).map_err(text)?;
        if *record.id != *id {
            return Err("its identifier is that of another one".to_owned());
        }
        Ok(ExemptionRecord { expires: expires.map(time_of), created: Some(time_of(created)), ..record })
    };
    Ok(parse())
}
