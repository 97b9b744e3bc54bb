//! Forgetting: facts are rows that upstreams and clients cause, so they are bounded like everything else of theirs.
//!
//! What content on disk needs stays: the facts of its manifests, the links of its blobs, and the evidence about it. All
//! other rows can be obtained again, so the ones that were unused for longest go first.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use jiff::{SignedDuration, Timestamp};
use sqlx::{AssertSqlSafe, Row};
use tokio::sync::Notify;

use super::{Store, StoreError};

/// How many rows one transaction deletes at most, so that other writers get their turn.
const BATCH: u32 = 500;
/// After so many new rows the size is looked at: about six megabytes.
const LOOK_AFTER: u64 = 10_000;

/// When a manifest was last seen or pulled: the expression of the index `manifests_by_age`.
const MANIFEST_AGE: &str = "MAX(seen_at, COALESCE(pulled_at, 0))";

/// Tables whose rows go by their age alone, with the column of their age and what keeps a row.
const BY_AGE: [(&str, &str, &str); 4] = [
    ("tags", "checked_at", "EXISTS (SELECT 1 FROM contents WHERE contents.digest = tags.digest)"),
    ("tag_history", "seen_at", "EXISTS (SELECT 1 FROM contents WHERE contents.digest = tag_history.digest)"),
    ("links", "seen_at", "EXISTS (SELECT 1 FROM contents WHERE contents.digest = links.digest)"),
    // Subjects begin with NAME@DIGEST; a digest is 71 characters long, or 135 (sha512).
    (
        "evidence",
        "observed_at",
        "EXISTS (SELECT 1 FROM contents WHERE contents.digest IN \
         (substr(subject, instr(subject, '@') + 1, 71), substr(subject, instr(subject, '@') + 1, 135)))",
    ),
];

/// How much was written and forgotten in this process.
#[derive(Debug, Default)]
pub(super) struct Growth {
    /// Rows since the size was looked at last.
    rows: AtomicU64,
    /// Told when that are many.
    many: Notify,
    /// Moved on whenever rows are forgotten.
    forgettings: AtomicU64,
}

impl Store {
    /// Counts rows that were written.
    pub(super) fn wrote(&self, rows: u64) {
        if self.growth.rows.fetch_add(rows, Ordering::Relaxed).saturating_add(rows) >= LOOK_AFTER {
            self.growth.rows.store(0, Ordering::Relaxed);
            self.growth.many.notify_one();
        }
    }

    /// Resolves when so many rows were written that the size should be looked at.
    pub async fn grown(&self) {
        self.growth.many.notified().await;
    }

    /// Moves on whenever facts are forgotten, so that those who keep copies of them drop them.
    pub fn forgettings(&self) -> u64 {
        self.growth.forgettings.load(Ordering::Acquire)
    }

    /// What all rows take of the database file, in bytes. Reads its header only.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn live_bytes(&self) -> Result<u64, StoreError> {
        let (pages, free, size) = self.pages().await?;
        Ok(pages.saturating_sub(free).saturating_mul(size))
    }

    /// Drops rows that say nothing any more: evidence that has ended, and tags that were last seen before `memory`.
    /// Returns how many rows went.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn drop_stale(&self, now: Timestamp, memory: Timestamp) -> Result<u64, StoreError> {
        let ended = self.drop_stale_evidence(now).await?;
        let done = sqlx::query("DELETE FROM tag_history WHERE seen_at < ?1")
            .bind(memory.as_millisecond())
            .execute(&self.pool)
            .await?;
        Ok(ended + done.rows_affected())
    }

    /// Forgets what was not used since `before` and what no content on disk needs. Returns how many rows went.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget_before(&self, before: Timestamp) -> Result<u64, StoreError> {
        let before = before.as_millisecond();
        let mut gone = self.forget_manifests(before).await?;
        for (table, age, keeps) in BY_AGE {
            let sql = format!(
                "DELETE FROM {table} WHERE rowid IN \
                 (SELECT rowid FROM {table} WHERE {age} < ?1 AND NOT {keeps} ORDER BY {age} LIMIT ?2)"
            );
            loop {
                let delete = sqlx::query(AssertSqlSafe(sql.clone())).bind(before).bind(i64::from(BATCH));
                let done = delete.execute(&self.pool).await?.rows_affected();
                gone += done;
                if done < u64::from(BATCH) {
                    break;
                }
            }
        }
        if gone > 0 {
            self.growth.forgettings.fetch_add(1, Ordering::AcqRel);
            self.epoch.advance();
        }
        Ok(gone)
    }

    async fn forget_manifests(&self, before: i64) -> Result<u64, StoreError> {
        let oldest = format!(
            "SELECT host, repository, digest FROM manifests WHERE {MANIFEST_AGE} < ?1 \
             AND NOT EXISTS (SELECT 1 FROM contents WHERE contents.digest = manifests.digest) \
             ORDER BY {MANIFEST_AGE}, rowid LIMIT ?2"
        );
        let members = format!("DELETE FROM members WHERE (host, repository, manifest) IN ({oldest})");
        let manifests = format!("DELETE FROM manifests WHERE (host, repository, digest) IN ({oldest})");
        let mut gone = 0;
        loop {
            let mut transaction = self.pool.begin().await?;
            let mut done = 0;
            for sql in [&members, &manifests] {
                let delete = sqlx::query(AssertSqlSafe(sql.clone())).bind(before).bind(i64::from(BATCH));
                done = delete.execute(&mut *transaction).await?.rows_affected();
                gone += done;
            }
            transaction.commit().await?;
            if done < u64::from(BATCH) {
                return Ok(gone);
            }
        }
    }

    /// Forgets what was unused for longest until rows take at most so many bytes, or until nothing more can go. Returns
    /// how many rows went.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget_least_used(&self, bytes: u64, now: Timestamp) -> Result<u64, StoreError> {
        let Some(mut before) = self.oldest_fact().await? else { return Ok(0) };
        let mut gone = 0;
        // What a clock that was set back dated into the future goes with the rest at the end.
        loop {
            let left = now.duration_since(before);
            let is_last = left <= SignedDuration::from_secs(1);
            let step = left.checked_div(8).unwrap_or_default().max(SignedDuration::from_secs(1));
            before = if is_last { Timestamp::MAX } else { before.saturating_add(step).unwrap_or(Timestamp::MAX) };
            gone += self.forget_before(before).await?;
            if is_last || self.live_bytes().await? <= bytes {
                return Ok(gone);
            }
        }
    }

    async fn oldest_fact(&self) -> Result<Option<Timestamp>, StoreError> {
        let sql = format!(
            "SELECT MIN(age) FROM (SELECT MIN({MANIFEST_AGE}) AS age FROM manifests UNION ALL \
             SELECT MIN(checked_at) FROM tags UNION ALL SELECT MIN(seen_at) FROM tag_history UNION ALL \
             SELECT MIN(seen_at) FROM links UNION ALL SELECT MIN(observed_at) FROM evidence)"
        );
        let oldest: Option<i64> = sqlx::query(AssertSqlSafe(sql)).fetch_one(&self.pool).await?.try_get(0)?;
        Ok(oldest.map(super::time_of))
    }

    /// Gives free pages back to the file system. Returns by how many bytes the file became smaller.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn shrink(&self) -> Result<u64, StoreError> {
        let (before, _, size) = self.pages().await?;
        loop {
            let (_, free, _) = self.pages().await?;
            if free == 0 {
                break;
            }
            // In steps, so that other writers get their turn. The statement works only while its rows are read.
            sqlx::query("PRAGMA incremental_vacuum(1000)").fetch_all(&self.pool).await?;
            if self.pages().await?.1 >= free {
                break;
            }
        }
        // Until then the file has its old length. Readers may be in the way; the next one gets there.
        sqlx::query("PRAGMA wal_checkpoint(TRUNCATE)").fetch_all(&self.pool).await?;
        let (after, _, _) = self.pages().await?;
        Ok(before.saturating_sub(after).saturating_mul(size))
    }

    /// Pages of the database, how many of them are free, and the size of one in bytes.
    async fn pages(&self) -> Result<(u64, u64, u64), StoreError> {
        let sql = "SELECT page_count, freelist_count, page_size FROM \
                   pragma_page_count(), pragma_freelist_count(), pragma_page_size()";
        let row = sqlx::query(sql).fetch_one(&self.pool).await?;
        let number = |column: usize| -> Result<u64, StoreError> {
            Ok(u64::try_from(row.try_get::<i64, _>(column)?).unwrap_or_default())
        };
        Ok((number(0)?, number(1)?, number(2)?))
    }
}

/// A database gives pages back only after it was rewritten once with that setting. Not set by every connection: SQLite
/// writes the setting down each time, which a full disk would refuse.
pub(super) async fn let_shrink(pool: &sqlx::SqlitePool) -> Result<(), sqlx::Error> {
    // The same connection for both: the setting waits in it for the rewriting.
    let mut connection = pool.acquire().await?;
    let mode: i64 = sqlx::query("PRAGMA auto_vacuum").fetch_one(&mut *connection).await?.try_get(0)?;
    if mode == 0 {
        sqlx::query("PRAGMA auto_vacuum = INCREMENTAL").execute(&mut *connection).await?;
        sqlx::query("VACUUM").execute(&mut *connection).await?;
    }
    Ok(())
}

/// A fresh count.
pub(super) fn growth() -> Arc<Growth> {
    Arc::default()
}
