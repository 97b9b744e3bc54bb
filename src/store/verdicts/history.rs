//! When this gate first saw an image, admitted it, and saw each of its issues. An image's author cannot change it: it
//! depends on digests and on this gate's clock alone.

use std::collections::BTreeMap;

use jiff::Timestamp;
use sqlx::Row;

use super::VerdictStore;
use crate::oci::{Digest, ImageName};
use crate::scope::Scope;
use crate::store::{StoreError, time_of};

/// The maximum number of images whose history is kept. A forgotten image counts as new.
pub(super) const MAX_IMAGES: i64 = 200_000;
/// The maximum number of issues per image whose times are kept.
const MAX_ISSUES: usize = 10_000;

/// Since when an image is known in a repository, and admitted to a scope.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct ImageTimes {
    /// When this gate first saw the image there.
    pub known_since: Timestamp,
    /// When this gate first admitted it to the scope after its vulnerabilities were checked.
    pub admitted_since: Option<Timestamp>,
    /// When all of its issues were first noted.
    pub noted_since: Option<Timestamp>,
}

impl From<Timestamp> for ImageTimes {
    /// Those of an image that is known since this time, and was never admitted.
    fn from(known_since: Timestamp) -> Self {
        Self { known_since, admitted_since: None, noted_since: None }
    }
}

/// When this gate first saw each issue of an image, by the issue's identifier.
pub type IssueTimes = BTreeMap<String, Timestamp>;
/// The same for issues that may be known: the times from which those are known that are not.
pub type NewIssueTimes<'a> = BTreeMap<&'a str, Timestamp>;

impl VerdictStore {
    /// Since when an image is known in a repository, and admitted to a scope. An image that was not known is known from
    /// now on.
    ///
    /// # Errors
    /// The database cannot be read, or the image is new and the database cannot be written.
    pub async fn image_times(
        &self,
        name: &ImageName,
        digest: Digest,
        scope: &Scope,
        now: Timestamp,
    ) -> Result<ImageTimes, StoreError> {
        if let Some(known) = self.known_image(name, digest, scope).await? {
            return Ok(known);
        }
        sqlx::query(
            "INSERT INTO image_history (host, repository, digest, known_since, used_at) VALUES (?1, ?2, ?3, ?4, ?4) \
             ON CONFLICT (host, repository, digest) DO NOTHING",
        )
        .bind(name.host.as_str())
        .bind(name.repository.as_str())
        .bind(digest.to_string())
        .bind(now.as_millisecond())
        .execute(&self.database.writer)
        .await?;
        // Another request may have written an earlier time.
        let known = self.known_image(name, digest, scope).await?;
        Ok(known.unwrap_or(ImageTimes::from(now)))
    }

    /// The same, if the image is known.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn known_image(
        &self,
        name: &ImageName,
        digest: Digest,
        scope: &Scope,
    ) -> Result<Option<ImageTimes>, StoreError> {
        let sql = "SELECT known_since, checked.admitted_since, noted_since FROM image_history AS image \
                   LEFT JOIN checked_admissions AS checked ON checked.host = image.host \
                   AND checked.repository = image.repository AND checked.digest = image.digest AND checked.scope = ?4 \
                   WHERE image.host = ?1 AND image.repository = ?2 AND image.digest = ?3";
        let row = sqlx::query(sql)
            .bind(name.host.as_str())
            .bind(name.repository.as_str())
            .bind(digest.to_string())
            .bind(scope.to_string())
            .fetch_optional(self.readers())
            .await?;
        row.map(|row| {
            let (admitted, noted): (Option<i64>, Option<i64>) = (row.try_get(1)?, row.try_get(2)?);
            Ok(ImageTimes {
                known_since: time_of(row.try_get(0)?),
                admitted_since: admitted.map(time_of),
                noted_since: noted.map(time_of),
            })
        })
        .transpose()
    }

    /// Notes that all issues of an image were noted now, for the first time since those of its repository are.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn image_noted(&self, name: &ImageName, digest: Digest, now: Timestamp) -> Result<(), StoreError> {
        let sql = "UPDATE image_history SET noted_since = ?4 WHERE host = ?1 AND repository = ?2 AND digest = ?3";
        sqlx::query(sql)
            .bind(name.host.as_str())
            .bind(name.repository.as_str())
            .bind(digest.to_string())
            .bind(now.as_millisecond())
            .execute(&self.database.writer)
            .await?;
        Ok(())
    }

    /// When this gate first saw each of these issues of an image. Those that were not known are known from the given
    /// times on. An image with more issues than are kept cannot make its issues look new: the rest count as seen long
    /// ago.
    ///
    /// # Errors
    /// The database cannot be read, or an issue is new and the database cannot be written.
    pub async fn issue_times(
        &self,
        digest: Digest,
        issues: &NewIssueTimes<'_>,
        now: Timestamp,
    ) -> Result<IssueTimes, StoreError> {
        let mut known = self.known_issues(digest).await?;
        // A full history cannot be added to.
        if known.len() >= MAX_ISSUES || issues.keys().all(|issue| known.contains_key(*issue)) {
            add_as_old(&mut known, issues);
            return Ok(known);
        }
        let mut transaction = self.database.writer.begin_with("BEGIN IMMEDIATE").await?;
        // Read again: another request may have written in between.
        let row = sqlx::query("SELECT seen FROM issue_history WHERE digest = ?1").bind(digest.to_string());
        let row = row.fetch_optional(&mut *transaction).await?;
        let mut known = row.map_or(Ok(IssueTimes::new()), |row| times(row.try_get(0)?))?;
        let new = issues.iter().filter(|(issue, _)| !known.contains_key(**issue));
        let new: Vec<(String, Timestamp)> = new.map(|(issue, at)| ((*issue).to_owned(), *at)).collect();
        let (kept, others) = new.split_at(new.len().min(MAX_ISSUES.saturating_sub(known.len())));
        known.extend(kept.iter().cloned());
        sqlx::query(
            "INSERT INTO issue_history (digest, seen, used_at) VALUES (?1, ?2, ?3) \
             ON CONFLICT (digest) DO UPDATE SET seen = excluded.seen, used_at = excluded.used_at",
        )
        .bind(digest.to_string())
        .bind(text(&known))
        .bind(now.as_millisecond())
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        known.extend(others.iter().map(|(issue, _)| (issue.clone(), Timestamp::UNIX_EPOCH)));
        Ok(known)
    }

    /// Notes that issues of an image were seen earlier, under other names. Those that are not known stay so.
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub async fn issues_seen_earlier(&self, digest: Digest, earlier: &IssueTimes) -> Result<(), StoreError> {
        let mut transaction = self.database.writer.begin_with("BEGIN IMMEDIATE").await?;
        let row = sqlx::query("SELECT seen FROM issue_history WHERE digest = ?1").bind(digest.to_string());
        let Some(row) = row.fetch_optional(&mut *transaction).await? else { return Ok(()) };
        let mut known = times(row.try_get(0)?)?;
        for (issue, at) in earlier {
            if let Some(noted) = known.get_mut(issue) {
                *noted = (*noted).min(*at);
            }
        }
        let update = sqlx::query("UPDATE issue_history SET seen = ?2 WHERE digest = ?1").bind(digest.to_string());
        update.bind(text(&known)).execute(&mut *transaction).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// When this gate first saw the issues of an image.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn known_issues(&self, digest: Digest) -> Result<IssueTimes, StoreError> {
        let row = sqlx::query("SELECT seen FROM issue_history WHERE digest = ?1").bind(digest.to_string());
        let row = row.fetch_optional(self.readers()).await?;
        row.map_or(Ok(IssueTimes::new()), |row| times(row.try_get(0)?))
    }
}

/// Issues that are not among the known ones count as seen long ago.
pub(super) fn add_as_old(known: &mut IssueTimes, issues: &NewIssueTimes<'_>) {
    let missing: Vec<&str> = issues.keys().copied().filter(|issue| !known.contains_key(*issue)).collect();
    known.extend(missing.into_iter().map(|issue| (issue.to_owned(), Timestamp::UNIX_EPOCH)));
}

/// Issues that were seen at the same time share its text: most were seen when the image was judged first.
fn text(known: &IssueTimes) -> String {
    let mut by_time: BTreeMap<i64, Vec<&str>> = BTreeMap::new();
    for (issue, at) in known {
        by_time.entry(at.as_millisecond()).or_default().push(issue);
    }
    crate::store::json(&by_time)
}

fn times(text: &str) -> Result<IssueTimes, StoreError> {
    let by_time: BTreeMap<i64, Vec<String>> =
        serde_json::from_str(text).map_err(|_| StoreError::Row("an invalid history of issues"))?;
    let each = |(at, issues): (i64, Vec<String>)| issues.into_iter().map(move |issue| (issue, time_of(at)));
    Ok(by_time.into_iter().flat_map(each).collect())
}
