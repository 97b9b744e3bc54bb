//! What lies on the cache's disk, and in what order it may go.
//!
//! A manifest is kept while its bytes are here; a blob is kept for the manifests here that name it. An index goes after
//! the manifests that it lists, because their trust may come from it.

use jiff::Timestamp;
use sqlx::Row;
use sqlx::sqlite::SqliteRow;

use super::{Store, StoreError, digest_of, time_of};
use crate::oci::Digest;

/// One piece of content on disk.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct StoredContent {
    /// Its name.
    pub digest: Digest,
    /// In bytes.
    pub size: u64,
    /// Whether it is a manifest.
    pub is_manifest: bool,
    /// When it was last used, as far as that was written down.
    pub used_at: Timestamp,
}

/// How much lies on disk.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct ContentTotals {
    /// Blobs.
    pub blobs: u64,
    /// Their bytes.
    pub blob_bytes: u64,
    /// Manifests.
    pub manifests: u64,
    /// Their bytes.
    pub manifest_bytes: u64,
}

/// Whether a manifest whose bytes are here names the content of the outer row `contents`.
const IS_NAMED: &str = "EXISTS (SELECT 1 FROM members JOIN contents AS keeper ON keeper.digest = members.manifest \
                        WHERE members.member = contents.digest AND keeper.digest != ?1)";

impl Store {
    /// Notes content that is on disk now. False when it was noted before; then only its time of use is new.
    pub async fn record_content(&self, content: &StoredContent) -> Result<bool, StoreError> {
        let mut transaction = self.pool.begin().await?;
        let known = sqlx::query("UPDATE contents SET used_at = ?2 WHERE digest = ?1")
            .bind(content.digest.to_string())
            .bind(content.used_at.as_millisecond())
            .execute(&mut *transaction)
            .await?;
        if known.rows_affected() == 0 {
            sqlx::query("INSERT INTO contents (digest, size, is_manifest, used_at) VALUES (?1, ?2, ?3, ?4)")
                .bind(content.digest.to_string())
                .bind(i64::try_from(content.size).unwrap_or(i64::MAX))
                .bind(i64::from(content.is_manifest))
                .bind(content.used_at.as_millisecond())
                .execute(&mut *transaction)
                .await?;
        }
        transaction.commit().await?;
        Ok(known.rows_affected() == 0)
    }

    /// Notes when contents were used; gives those that are not on disk any more.
    pub async fn touch_contents(&self, used: &[(Digest, Timestamp)]) -> Result<Vec<Digest>, StoreError> {
        let mut absent = Vec::new();
        let mut transaction = self.pool.begin().await?;
        for (digest, at) in used {
            let known = sqlx::query("UPDATE contents SET used_at = ?2 WHERE digest = ?1")
                .bind(digest.to_string())
                .bind(at.as_millisecond())
                .execute(&mut *transaction)
                .await?;
            if known.rows_affected() == 0 {
                absent.push(*digest);
            }
        }
        transaction.commit().await?;
        Ok(absent)
    }

    /// Forgets contents whose files are about to go.
    pub async fn forget_contents(&self, digests: &[Digest]) -> Result<(), StoreError> {
        let mut transaction = self.pool.begin().await?;
        for digest in digests {
            sqlx::query("DELETE FROM contents WHERE digest = ?1")
                .bind(digest.to_string())
                .execute(&mut *transaction)
                .await?;
        }
        Ok(transaction.commit().await?)
    }

    /// How much lies on disk.
    pub async fn content_totals(&self) -> Result<ContentTotals, StoreError> {
        let rows = sqlx::query("SELECT is_manifest, COUNT(*), SUM(size) FROM contents GROUP BY is_manifest")
            .fetch_all(&self.pool)
            .await?;
        let mut totals = ContentTotals::default();
        for row in &rows {
            let (count, bytes) = (unsigned(row.try_get(1)?), unsigned(row.try_get(2)?));
            match row.try_get::<i64, _>(0)? {
                0 => (totals.blobs, totals.blob_bytes) = (count, bytes),
                _ => (totals.manifests, totals.manifest_bytes) = (count, bytes),
            }
        }
        Ok(totals)
    }

    /// Blobs that no manifest here names, least recently used first.
    pub async fn unnamed_blobs(&self, limit: u32) -> Result<Vec<StoredContent>, StoreError> {
        let sql = format!(
            "SELECT digest, size, is_manifest, used_at FROM contents WHERE is_manifest = 0 AND NOT {IS_NAMED} \
             ORDER BY used_at LIMIT ?2"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind("").bind(i64::from(limit));
        query.fetch_all(&self.pool).await?.iter().map(content_of).collect()
    }

    /// Manifests that list no manifest which is here, least recently used first: what may go, in the order in which it
    /// goes. With `unused_since` only those that were not used since then.
    pub async fn oldest_manifests(
        &self,
        unused_since: Option<Timestamp>,
        skip: u32,
        limit: u32,
    ) -> Result<Vec<StoredContent>, StoreError> {
        let rows = sqlx::query(
            "SELECT digest, size, is_manifest, used_at FROM contents WHERE is_manifest = 1 AND used_at < ?1 AND NOT EXISTS \
             (SELECT 1 FROM members JOIN contents AS child ON child.digest = members.member AND child.is_manifest = 1 \
             WHERE members.manifest = contents.digest AND members.is_manifest = 1) ORDER BY used_at LIMIT ?2 OFFSET ?3",
        )
        .bind(unused_since.map_or(i64::MAX, Timestamp::as_millisecond))
        .bind(i64::from(limit))
        .bind(i64::from(skip))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(content_of).collect()
    }

    /// What goes when a manifest goes: itself, and the blobs here that no other manifest here names.
    pub async fn parts_of(&self, manifest: Digest) -> Result<Vec<StoredContent>, StoreError> {
        let sql = format!(
            "SELECT digest, size, is_manifest, used_at FROM contents WHERE digest = ?1 OR (is_manifest = 0 AND digest IN \
             (SELECT member FROM members WHERE manifest = ?1) AND NOT {IS_NAMED})"
        );
        let query = sqlx::query(sqlx::AssertSqlSafe(sql)).bind(manifest.to_string());
        query.fetch_all(&self.pool).await?.iter().map(content_of).collect()
    }

    /// The contents after one of them, in the order of their names, for going through all of them.
    pub async fn contents_after(&self, after: Option<Digest>, limit: u32) -> Result<Vec<StoredContent>, StoreError> {
        let rows = sqlx::query(
            "SELECT digest, size, is_manifest, used_at FROM contents WHERE digest > ?1 ORDER BY digest LIMIT ?2",
        )
        .bind(after.map(|digest| digest.to_string()).unwrap_or_default())
        .bind(i64::from(limit))
        .fetch_all(&self.pool)
        .await?;
        rows.iter().map(content_of).collect()
    }

    /// Whether content is noted.
    pub async fn has_content(&self, digest: Digest) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT 1 FROM contents WHERE digest = ?1")
            .bind(digest.to_string())
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.is_some())
    }

    /// Whether any repository delivered a manifest of this digest.
    pub async fn is_manifest(&self, digest: Digest) -> Result<bool, StoreError> {
        let row = sqlx::query("SELECT 1 FROM manifests WHERE digest = ?1 LIMIT 1")
            .bind(digest.to_string())
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.is_some())
    }
}

fn content_of(row: &SqliteRow) -> Result<StoredContent, StoreError> {
    Ok(StoredContent {
        digest: digest_of(row.try_get(0)?)?,
        size: unsigned(row.try_get(1)?),
        is_manifest: row.try_get::<i64, _>(2)? != 0,
        used_at: time_of(row.try_get(3)?),
    })
}

/// Counts and sizes are never negative.
fn unsigned(value: i64) -> u64 {
    u64::try_from(value).unwrap_or_default()
}
