//! When this gate first saw an issue in any image of a repository. A new build of an image does not restart that time.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sqlx::{AssertSqlSafe, Row};

use super::history::add_as_old;
use super::{IssueTimes, NewIssueTimes, VerdictStore};
use crate::oci::ImageName;
use crate::store::{StoreError, json, time_of};

/// The maximum number of identifiers that are kept for one repository.
const MAX_OF_REPOSITORY: usize = 20_000;
/// The maximum number of identifiers that are kept for all repositories.
const MAX_OF_ALL: i64 = 1_000_000;
/// The maximum number of repositories that are kept.
const MAX_REPOSITORIES: i64 = 200_000;
/// How often it is noted that a repository is still in use, in milliseconds.
const NOTED_EVERY: i64 = 24 * 60 * 60 * 1000;
/// Since when an image of a repository was known before a time.
const KNOWN_BEFORE: &str =
    "SELECT MIN(known_since) FROM image_history WHERE host = ?1 AND repository = ?2 AND known_since < ?3";

/// Since when the issues of a repository's images are noted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RepositoryNoting {
    /// When noting began.
    pub noted_since: Timestamp,
    /// Since when an image of it was known before; `None` if none was.
    pub known_since: Option<Timestamp>,
}

impl VerdictStore {
    /// Whether the issues of any repository are noted.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn notes_issues(&self) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT EXISTS (SELECT 1 FROM judged_repositories)").fetch_one(self.readers()).await?;
        Ok(row.try_get(0)?)
    }

    /// Since when the issues of a repository are noted, if they are.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn noted_repository(&self, name: &ImageName) -> Result<Option<RepositoryNoting>, StoreError> {
        Ok(self.noting_and_use(name).await?.map(|(noting, _)| noting))
    }

    /// The same, and when it was last noted that the repository is in use, in milliseconds.
    async fn noting_and_use(&self, name: &ImageName) -> Result<Option<(RepositoryNoting, i64)>, StoreError> {
        let sql =
            "SELECT noted_since, known_since, used_at FROM judged_repositories WHERE host = ?1 AND repository = ?2";
        let query = sqlx::query(sql).bind(name.host.as_str()).bind(name.repository.as_str());
        let row = query.fetch_optional(self.readers()).await?;
        row.map(|row| {
            let known: Option<i64> = row.try_get(1)?;
            let noting = RepositoryNoting { noted_since: time_of(row.try_get(0)?), known_since: known.map(time_of) };
            Ok((noting, row.try_get(2)?))
        })
        .transpose()
    }

    /// What [`note_repository`](Self::note_repository) would state of a repository whose issues are not noted yet.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn supposed_noting(&self, name: &ImageName, now: Timestamp) -> Result<RepositoryNoting, StoreError> {
        let query = sqlx::query(KNOWN_BEFORE).bind(name.host.as_str()).bind(name.repository.as_str());
        let row = query.bind(now.as_millisecond()).fetch_one(self.readers()).await?;
        Ok(RepositoryNoting { noted_since: now, known_since: row.try_get::<Option<i64>, _>(0)?.map(time_of) })
    }

    /// The same. If they are not noted yet, they are from now on.
    ///
    /// # Errors
    /// The database cannot be read, or must be written and cannot.
    pub async fn note_repository(&self, name: &ImageName, now: Timestamp) -> Result<RepositoryNoting, StoreError> {
        if let Some((noting, used_at)) = self.noting_and_use(name).await?
            && now.as_millisecond().saturating_sub(used_at) < NOTED_EVERY
        {
            return Ok(noting);
        }
        let sql = format!(
            "INSERT INTO judged_repositories (host, repository, used_at, noted_since, known_since) \
             VALUES (?1, ?2, ?3, ?3, ({KNOWN_BEFORE})) \
             ON CONFLICT (host, repository) DO UPDATE SET used_at = MAX(used_at, excluded.used_at)"
        );
        sqlx::query(AssertSqlSafe(sql))
            .bind(name.host.as_str())
            .bind(name.repository.as_str())
            .bind(now.as_millisecond())
            .execute(&self.database.writer)
            .await?;
        // Another request may have written an earlier time.
        let noted = self.noted_repository(name).await?;
        Ok(noted.unwrap_or(RepositoryNoting { noted_since: now, known_since: None }))
    }

    /// When this gate first saw each of these identifiers of issues in a repository that is noted. Those that were not
    /// known are known from the given times on. Beyond the limit of a repository, issues count as seen long ago: they
    /// never look new.
    ///
    /// # Errors
    /// The database cannot be read, or an identifier is new and the database cannot be written.
    pub async fn repository_issue_times(
        &self,
        name: &ImageName,
        issues: &NewIssueTimes<'_>,
        now: Timestamp,
    ) -> Result<IssueTimes, StoreError> {
        let names: Vec<&str> = issues.keys().copied().collect();
        let known = self.known_in_repository(name, &names).await?;
        let new: Vec<(&str, i64)> = issues
            .iter()
            .filter(|(issue, _)| !known.contains_key(**issue))
            .map(|(issue, at)| (*issue, at.as_millisecond()))
            .collect();
        if new.is_empty() {
            return Ok(known);
        }
        self.add_to_repository(name, &new, now).await?;
        // Another request may have written an earlier time.
        let mut known = self.known_in_repository(name, &names).await?;
        add_as_old(&mut known, issues);
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
        let sql = "SELECT issue, first_seen FROM judged_repositories \
                   JOIN repository_issues ON repository_issues.repository = judged_repositories.id \
                   WHERE host = ?1 AND judged_repositories.repository = ?2 AND issue IN (SELECT value FROM json_each(?3))";
        let query = sqlx::query(sql).bind(name.host.as_str()).bind(name.repository.as_str()).bind(json(&issues));
        let mut known = IssueTimes::new();
        for row in query.fetch_all(self.readers()).await? {
            known.insert(row.try_get(0)?, time_of(row.try_get(1)?));
        }
        Ok(known)
    }

    async fn add_to_repository(&self, name: &ImageName, new: &[(&str, i64)], now: Timestamp) -> Result<(), StoreError> {
        let mut transaction = self.database.writer.begin_with("BEGIN IMMEDIATE").await?;
        let sql = "INSERT INTO judged_repositories (host, repository, used_at, noted_since) VALUES (?1, ?2, ?3, ?3) \
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
            "INSERT INTO repository_issues (repository, issue, first_seen) SELECT ?1, value->>0, value->>1 \
             FROM json_each(?2) WHERE true ON CONFLICT (repository, issue) DO NOTHING",
        )
        .bind(id)
        .bind(json(&new.iter().take(room).collect::<Vec<_>>()))
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Forgets the issues of the repositories that were not judged for the longest time.
    pub async fn trim_repositories(&self) -> Result<(), StoreError> {
        self.trim_repositories_to(MAX_OF_ALL, MAX_REPOSITORIES).await
    }

    pub(super) async fn trim_repositories_to(&self, most: i64, most_repositories: i64) -> Result<(), StoreError> {
        let count = "SELECT COUNT(*), (SELECT COUNT(*) FROM judged_repositories) FROM repository_issues";
        let count = sqlx::query(count).fetch_one(&self.readers().patient()).await?;
        let mut surplus = count.try_get::<i64, _>(0)? - most;
        let mut repositories = count.try_get::<i64, _>(1)? - most_repositories;
        while surplus > 0 || repositories > 0 {
            let mut transaction = self.database.writer.begin_with("BEGIN IMMEDIATE").await?;
            let oldest = "DELETE FROM judged_repositories WHERE id = \
                          (SELECT id FROM judged_repositories ORDER BY used_at, id LIMIT 1) RETURNING id";
            let Some(row) = sqlx::query(oldest).fetch_optional(&mut *transaction).await? else { return Ok(()) };
            let issues =
                sqlx::query("DELETE FROM repository_issues WHERE repository = ?1").bind(row.try_get::<i64, _>(0)?);
            let gone = issues.execute(&mut *transaction).await?.rows_affected();
            transaction.commit().await?;
            surplus -= i64::try_from(gone).unwrap_or(i64::MAX);
            repositories -= 1;
        }
        Ok(())
    }
}
