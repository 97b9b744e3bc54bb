//! Rows of evidence, stored as JSON.

use std::collections::HashMap;

use jiff::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::new_facts::NewFacts;
use super::{FactStore, StoreError, json, time_of};
use crate::policy::Observed;

impl FactStore {
    /// Stores evidence under a topic and a subject, unless newer evidence is stored.
    pub async fn record_evidence(
        &self,
        topic: &'static str,
        subject: &str,
        evidence: Observed<String>,
    ) -> Result<(), StoreError> {
        self.record(NewFacts::new(evidence.at).evidence(topic, subject, evidence)).await
    }

    /// Returns stored evidence that is still valid.
    pub async fn evidence(
        &self,
        topic: &str,
        subject: &str,
        now: Timestamp,
    ) -> Result<Option<Observed<String>>, StoreError> {
        let row = sqlx::query(
            "SELECT value, observed_at, valid_until FROM evidence WHERE topic = ?1 AND subject = ?2 \
             AND (valid_until IS NULL OR (valid_until > ?3 AND observed_at <= ?3))",
        )
        .bind(topic)
        .bind(subject)
        .bind(now.as_millisecond())
        .fetch_optional(self.readers())
        .await?;
        row.as_ref().map(observed).transpose()
    }

    /// The same, and whether anything of another topic is stored about the subject, in one read.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn evidence_and(
        &self,
        (topic, other): (&str, &str),
        subject: &str,
        now: Timestamp,
    ) -> Result<Option<(Observed<String>, bool)>, StoreError> {
        let row = sqlx::query(
            "SELECT value, observed_at, valid_until, \
             EXISTS (SELECT 1 FROM evidence AS other WHERE other.topic = ?4 AND other.subject = ?2) \
             FROM evidence WHERE topic = ?1 AND subject = ?2 \
             AND (valid_until IS NULL OR (valid_until > ?3 AND observed_at <= ?3))",
        )
        .bind(topic)
        .bind(subject)
        .bind(now.as_millisecond())
        .bind(other)
        .fetch_optional(self.readers())
        .await?;
        row.map(|row| Ok((observed(&row)?, row.try_get(3)?))).transpose()
    }

    /// Returns the stored evidence of a topic about several subjects, by subject. Evidence with an end is left out.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn evidence_about(
        &self,
        topic: &str,
        subjects: &[String],
    ) -> Result<HashMap<String, String>, StoreError> {
        let rows = sqlx::query(
            // With a bare `?1`, SQLite compares it with the topic of a partial index (`evidence_by_unpacked`), and
            // parses the statement again whenever it is bound.
            "SELECT subject, value FROM evidence WHERE topic = +?1 AND subject IN (SELECT value FROM json_each(?2)) \
             AND valid_until IS NULL",
        )
        .bind(topic)
        .bind(json(subjects))
        .fetch_all(self.readers())
        .await?;
        rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
    }

    /// The number of stored pieces of evidence of a topic.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn count_evidence(&self, topic: &str) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT COUNT(*) FROM evidence WHERE topic = +?1").bind(topic);
        let count: i64 = row.fetch_one(&self.readers().patient()).await?.try_get(0)?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    /// Deletes evidence that is no longer valid. Returns the number of deleted rows.
    pub async fn drop_stale_evidence(&self, now: Timestamp) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "DELETE FROM evidence WHERE valid_until IS NOT NULL AND (valid_until <= ?1 OR observed_at > ?1)",
        )
        .bind(now.as_millisecond())
        .execute(&self.database.writer)
        .await?;
        Ok(done.rows_affected())
    }
}

/// A row that begins with the value, and when it was observed and ends.
fn observed(row: &SqliteRow) -> Result<Observed<String>, StoreError> {
    let until: Option<i64> = row.try_get(2)?;
    Ok(Observed { value: row.try_get(0)?, at: time_of(row.try_get(1)?), until: until.map(time_of) })
}
