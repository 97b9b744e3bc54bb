//! What tags mean and meant.

use jiff::Timestamp;
use sqlx::query::Query;
use sqlx::sqlite::SqliteArguments;
use sqlx::{Row, Sqlite};

use super::{Store, StoreError, digest_of, tag_of, time_of};
use crate::oci::{Digest, ImageName, Tag};

/// A tag that is known.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KnownImage {
    /// Upstream and repository.
    pub name: ImageName,
    /// The tag.
    pub tag: Tag,
    /// What it means.
    pub digest: Digest,
}

impl Store {
    /// Records what a tag means now.
    pub async fn record_tag(
        &self,
        name: &ImageName,
        tag: &Tag,
        digest: Digest,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let digest = digest.to_string();
        let mut transaction = self.pool.begin().await?;
        for sql in [
            "INSERT INTO tags (host, repository, tag, digest, checked_at) VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT (host, repository, tag) DO UPDATE SET digest = excluded.digest, checked_at = excluded.checked_at",
            "INSERT INTO tag_history (host, repository, tag, digest, seen_at) VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT (host, repository, digest, tag) DO UPDATE SET seen_at = excluded.seen_at",
        ] {
            of_tag(sql, name, tag).bind(&digest).bind(now.as_millisecond()).execute(&mut *transaction).await?;
        }
        self.wrote(2);
        Ok(transaction.commit().await?)
    }

    /// Records what a tag meant for a time, and means no longer.
    pub async fn record_old_tag(
        &self,
        name: &ImageName,
        tag: &Tag,
        digest: Digest,
        seen: Timestamp,
    ) -> Result<(), StoreError> {
        self.wrote(1);
        of_tag(
            "INSERT INTO tag_history (host, repository, tag, digest, seen_at) VALUES (?1, ?2, ?3, ?4, ?5) \
             ON CONFLICT (host, repository, digest, tag) DO UPDATE SET seen_at = excluded.seen_at",
            name,
            tag,
        )
        .bind(digest.to_string())
        .bind(seen.as_millisecond())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// Records what a tag means now where its earlier meaning is recorded; adds no row.
    pub async fn move_tag(
        &self,
        name: &ImageName,
        tag: &Tag,
        digest: Digest,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        of_tag(
            "UPDATE tags SET digest = ?4, checked_at = ?5 WHERE host = ?1 AND repository = ?2 AND tag = ?3",
            name,
            tag,
        )
        .bind(digest.to_string())
        .bind(now.as_millisecond())
        .execute(&self.pool)
        .await?;
        Ok(())
    }

    /// What a tag meant when it was last looked up, and when that was.
    pub async fn tag(&self, name: &ImageName, tag: &Tag) -> Result<Option<(Digest, Timestamp)>, StoreError> {
        let row =
            of_tag("SELECT digest, checked_at FROM tags WHERE host = ?1 AND repository = ?2 AND tag = ?3", name, tag)
                .fetch_optional(&self.pool)
                .await?;
        row.map(|row| Ok((digest_of(row.try_get(0)?)?, time_of(row.try_get(1)?)))).transpose()
    }

    /// Forgets what a tag means: the upstream says that it is gone.
    pub async fn forget_tag(&self, name: &ImageName, tag: &Tag) -> Result<(), StoreError> {
        of_tag("DELETE FROM tags WHERE host = ?1 AND repository = ?2 AND tag = ?3", name, tag)
            .execute(&self.pool)
            .await?;
        Ok(())
    }

    /// The tags through which a digest is known since `since`: its own, and those of indexes that list it.
    pub async fn tags_of(&self, name: &ImageName, digest: Digest, since: Timestamp) -> Result<Vec<Tag>, StoreError> {
        let rows = sqlx::query(
            "SELECT tag FROM tag_history WHERE host = ?1 AND repository = ?2 AND seen_at >= ?4 AND (digest = ?3 OR digest IN \
             (SELECT manifest FROM members WHERE host = ?1 AND repository = ?2 AND member = ?3 AND is_manifest = 1)) \
             GROUP BY tag ORDER BY MAX(seen_at) DESC LIMIT 100",
        )
        .bind(name.host.as_str())
        .bind(name.repository.as_str())
        .bind(digest.to_string())
        .bind(since.as_millisecond())
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(|row| tag_of(row.try_get(0)?)).collect()
    }

    /// Every tag that is known, with what it means.
    pub async fn images(&self) -> Result<Vec<KnownImage>, StoreError> {
        let rows = sqlx::query("SELECT host, repository, tag, digest FROM tags ORDER BY host, repository, tag")
            .fetch_all(&self.pool)
            .await?;
        let known = |row: &sqlx::sqlite::SqliteRow| {
            let invalid = |_| StoreError::Row("an invalid name");
            Ok(KnownImage {
                name: ImageName {
                    host: row.try_get::<String, _>(0)?.parse().map_err(invalid)?,
                    repository: row.try_get::<String, _>(1)?.parse().map_err(invalid)?,
                },
                tag: tag_of(row.try_get(2)?)?,
                digest: digest_of(row.try_get(3)?)?,
            })
        };
        rows.iter().map(known).collect()
    }
}

/// A statement whose first three parameters are the host, the repository and the tag.
fn of_tag<'q>(sql: &'static str, name: &'q ImageName, tag: &'q Tag) -> Query<'q, Sqlite, SqliteArguments> {
    sqlx::query(sql).bind(name.host.as_str()).bind(name.repository.as_str()).bind(tag.as_str())
}
