//! When this gate first saw an issue in any image of a repository. A new build of an image does not restart that time.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sqlx::Row;

use super::{IssueTimes, VerdictStore};
use crate::oci::ImageName;
use crate::store::{StoreError, json, time_of};

/// The most identifiers of one repository that are kept.
const MAX_OF_REPOSITORY: usize = 20_000;
/// The most identifiers of all repositories that are kept.
const MAX_OF_ALL: i64 = 1_000_000;
/// How often it is noted that a repository is still in use, in milliseconds.
const NOTED_EVERY: i64 = 24 * 60 * 60 * 1000;

/// The times of issues, and whether the use of their repository must be noted.
type KnownIssues = (IssueTimes, bool);

impl VerdictStore {
    /// When this gate first saw each of these identifiers of issues in a repository. Those that were not known are known
    /// from now on. Beyond the limit of a repository, issues count as seen long ago: they never look new.
    ///
    /// # Errors
    /// The database cannot be read, or an identifier is new and the database cannot be written.
    pub async fn repository_issue_times(
        &self,
        name: &ImageName,
        issues: &[&str],
        now: Timestamp,
    ) -> Result<IssueTimes, StoreError> {
        let (known, is_noted) = self.in_repository(name, issues, now).await?;
        let new: Vec<&str> = issues.iter().copied().filter(|issue| !known.contains_key(*issue)).collect();
        if new.is_empty() && is_noted {
            return Ok(known);
        }
        self.add_to_repository(name, &new, now).await?;
        // Another request may have written an earlier time.
        let mut known = self.known_in_repository(name, issues).await?;
        for issue in issues {
            known.entry((*issue).to_owned()).or_insert(Timestamp::UNIX_EPOCH);
        }
        Ok(known)
    }

    /// Notes that issues were seen earlier in a repository, under other names. Those that are not known stay so.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn repository_issues_seen_earlier(
        &self,
        name: &ImageName,
        earlier: &IssueTimes,
    ) -> Result<(), StoreError> {
        let times: BTreeMap<&str, i64> = earlier.iter().map(|(issue, at)| (&**issue, at.as_millisecond())).collect();
        let sql = "UPDATE repository_issues SET first_seen = MIN(first_seen, given.value) \
             FROM json_each(?3) AS given WHERE given.key = issue AND repository = \
             (SELECT id FROM judged_repositories WHERE host = ?1 AND judged_repositories.repository = ?2)";
        let update = sqlx::query(sql).bind(name.host.as_str()).bind(name.repository.as_str()).bind(json(&times));
        update.execute(&self.database.writer).await?;
        Ok(())
    }

    /// When this gate first saw those of these identifiers that it knows in a repository.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn known_in_repository(&self, name: &ImageName, issues: &[&str]) -> Result<IssueTimes, StoreError> {
        Ok(self.in_repository(name, issues, Timestamp::MIN).await?.0)
    }

    async fn in_repository(
        &self,
        name: &ImageName,
        issues: &[&str],
        now: Timestamp,
    ) -> Result<KnownIssues, StoreError> {
        let sql = "SELECT issue, first_seen, used_at FROM judged_repositories \
                   JOIN repository_issues ON repository_issues.repository = judged_repositories.id \
                   WHERE host = ?1 AND judged_repositories.repository = ?2 AND issue IN (SELECT value FROM json_each(?3))";
        let query = sqlx::query(sql).bind(name.host.as_str()).bind(name.repository.as_str()).bind(json(&issues));
        let (mut known, mut is_noted) = (IssueTimes::new(), true);
        for row in query.fetch_all(self.readers()).await? {
            known.insert(row.try_get(0)?, time_of(row.try_get(1)?));
            is_noted = now.as_millisecond().saturating_sub(row.try_get(2)?) < NOTED_EVERY;
        }
        Ok((known, is_noted))
    }

    async fn add_to_repository(&self, name: &ImageName, new: &[&str], now: Timestamp) -> Result<(), StoreError> {
        let mut transaction = self.database.writer.begin_with("BEGIN IMMEDIATE").await?;
        let sql = "INSERT INTO judged_repositories (host, repository, used_at) VALUES (?1, ?2, ?3) \
                   ON CONFLICT (host, repository) DO UPDATE SET used_at = MAX(used_at, excluded.used_at) RETURNING id";
        let row = sqlx::query(sql)
            .bind(name.host.as_str())
            .bind(name.repository.as_str())
            .bind(now.as_millisecond())
            .fetch_one(&mut *transaction)
            .await?;
        let id: i64 = row.try_get(0)?;
        let count = sqlx::query("SELECT COUNT(*) FROM repository_issues WHERE repository = ?1").bind(id);
        let count: i64 = count.fetch_one(&mut *transaction).await?.try_get(0)?;
        let room = MAX_OF_REPOSITORY.saturating_sub(usize::try_from(count).unwrap_or(usize::MAX));
        sqlx::query(
            "INSERT INTO repository_issues (repository, issue, first_seen) SELECT ?1, value, ?2 FROM json_each(?3) \
             WHERE true ON CONFLICT (repository, issue) DO NOTHING",
        )
        .bind(id)
        .bind(now.as_millisecond())
        .bind(json(&new.iter().take(room).collect::<Vec<_>>()))
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Forgets the issues of the repositories that were not judged for the longest time.
    pub async fn trim_repositories(&self) -> Result<(), StoreError> {
        self.trim_repositories_to(MAX_OF_ALL).await
    }

    pub(super) async fn trim_repositories_to(&self, most: i64) -> Result<(), StoreError> {
        let count = sqlx::query("SELECT COUNT(*) FROM repository_issues").fetch_one(self.readers()).await?;
        let mut surplus = count.try_get::<i64, _>(0)? - most;
        while surplus > 0 {
            let mut transaction = self.database.writer.begin_with("BEGIN IMMEDIATE").await?;
            let oldest = "DELETE FROM judged_repositories WHERE id = \
                          (SELECT id FROM judged_repositories ORDER BY used_at, id LIMIT 1) RETURNING id";
            let Some(row) = sqlx::query(oldest).fetch_optional(&mut *transaction).await? else { return Ok(()) };
            let issues =
                sqlx::query("DELETE FROM repository_issues WHERE repository = ?1").bind(row.try_get::<i64, _>(0)?);
            let gone = issues.execute(&mut *transaction).await?.rows_affected();
            transaction.commit().await?;
            surplus -= i64::try_from(gone).unwrap_or(i64::MAX);
        }
        Ok(())
    }
}
