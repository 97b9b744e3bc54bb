//! Forgetting of facts. Upstreams and clients cause these rows, so their number is limited like that of all other data
//! they cause.
//!
//! Facts that the content on this node's disk needs are kept: the facts about its manifests, the links of its blobs,
//! and the evidence about it, unless it is large. All other rows can be obtained again, so the least recently used ones
//! are deleted first. Facts are listed one page at a time, the node selects those that it needs, and the others are
//! deleted unless they were renewed in the meantime.

use std::sync::atomic::{AtomicU64, Ordering};

use jiff::{SignedDuration, Timestamp};
use sqlx::{AssertSqlSafe, Row};
use tokio::sync::Notify;

use super::{FactStore, Store, StoreError, json, time_of};
use crate::oci::Digest;

/// The number of facts that are examined together, and the maximum that one transaction deletes, so that other writers
/// can run in between.
const PAGE: u32 = 500;
/// The number of new rows after which the size is checked: about six megabytes.
const LOOK_AFTER: u64 = 10_000;

/// Evidence of at least this size, in bytes, is large: the packages of a layer with more than a thousand.
const LARGE: i64 = 1 << 20;
/// How many large rows are deleted at a time, so that not many more are deleted than needed.
const LARGE_AT_ONCE: i64 = 4;

/// A table of facts that are forgotten by age.
#[derive(Clone, Copy, Debug)]
struct AgedTable {
    name: &'static str,
    /// The time when a fact was last seen or used: a column, or the expression of an index.
    age: &'static str,
    /// The column that names the content that needs the fact.
    content: &'static str,
}

const TABLES: [AgedTable; 5] = [
    AgedTable { name: "manifests", age: "MAX(seen_at, COALESCE(pulled_at, 0))", content: "digest" },
    AgedTable { name: "tags", age: "checked_at", content: "digest" },
    AgedTable { name: "tag_history", age: "seen_at", content: "digest" },
    AgedTable { name: "links", age: "seen_at", content: "digest" },
    AgedTable { name: "evidence", age: "observed_at", content: "subject" },
];

/// The number of rows that this process has written, and its deletions.
#[derive(Debug, Default)]
pub(super) struct Growth {
    /// Rows since the last check of the size.
    rows: AtomicU64,
    /// Notified when there are many such rows.
    many: Notify,
    /// Incremented whenever rows are forgotten.
    forgettings: AtomicU64,
}

/// A fact that can be deleted.
struct OldFact {
    row: i64,
    /// In milliseconds since the epoch.
    age: i64,
    /// The content that needs it.
    content: Option<Digest>,
}

/// The progress in each table: the age and the row ID of the last examined fact.
type ForgetProgress = [(i64, i64); TABLES.len()];

impl FactStore {
    /// Counts rows that were written.
    pub(super) fn wrote(&self, rows: u64) {
        if self.growth.rows.fetch_add(rows, Ordering::Relaxed).saturating_add(rows) >= LOOK_AFTER {
            self.growth.rows.store(0, Ordering::Relaxed);
            self.growth.many.notify_one();
        }
    }

    /// Resolves when the number of new rows requires a check of the size.
    pub async fn grown(&self) {
        self.growth.many.notified().await;
    }

    /// A counter that is incremented whenever facts are forgotten, so that the owners of cached copies drop them.
    pub fn forgettings(&self) -> u64 {
        self.growth.forgettings.load(Ordering::Acquire)
    }

    /// Deletes rows that are no longer meaningful: expired evidence, and tags that were last seen before `memory`.
    /// Returns the number of deleted rows.
    ///
    /// # Errors
    /// The database fails.
    pub async fn drop_stale(&self, now: Timestamp, memory: Timestamp) -> Result<u64, StoreError> {
        let ended = self.drop_stale_evidence(now).await?;
        let done = sqlx::query("DELETE FROM tag_history WHERE seen_at < ?1")
            .bind(memory.as_millisecond())
            .execute(&self.database.writer)
            .await?;
        Ok(ended + done.rows_affected())
    }

    /// The next page of the oldest facts of a table, after those that were already examined.
    async fn oldest(
        &self,
        table: AgedTable,
        (age, row): (i64, i64),
        before: Timestamp,
    ) -> Result<Vec<OldFact>, StoreError> {
        let AgedTable { name, age: expression, content } = table;
        let sql = format!(
            "SELECT rowid, {expression}, {content} FROM {name} WHERE {expression} >= ?1 AND {expression} < ?2 \
             AND ({expression} > ?1 OR rowid > ?3) ORDER BY {expression}, rowid LIMIT ?4"
        );
        let query = sqlx::query(AssertSqlSafe(sql)).bind(age).bind(before.as_millisecond()).bind(row);
        let rows = query.bind(i64::from(PAGE)).fetch_all(&self.readers().patient()).await?;
        let fact = |row: &sqlx::sqlite::SqliteRow| {
            let content: &str = row.try_get(2)?;
            Ok(OldFact { row: row.try_get(0)?, age: row.try_get(1)?, content: digest_in(content) })
        };
        rows.iter().map(fact).collect()
    }

    /// Forgets these facts of a table, unless they were renewed in the meantime. Returns the number of deleted rows.
    async fn forget(&self, table: AgedTable, facts: &[OldFact], before: Timestamp) -> Result<u64, StoreError> {
        if facts.is_empty() {
            return Ok(0);
        }
        let AgedTable { name, age, .. } = table;
        let rows = json(&facts.iter().map(|fact| fact.row).collect::<Vec<_>>());
        let old = format!("FROM {name} WHERE rowid IN (SELECT value FROM json_each(?1)) AND {age} < ?2");
        let members = format!(
            "FROM members WHERE (host, repository, manifest) IN (SELECT host, repository, unhex(substr(digest, 8)) {old})"
        );
        let tops = format!(
            "DELETE FROM image_tops WHERE (layer, host, repository, manifest) IN \
             (SELECT member, host, repository, manifest {members})"
        );
        let mut statements = vec![format!("DELETE {old}")];
        if name == "manifests" {
            statements.splice(0..0, [tops, format!("DELETE {members}")]);
        }
        let (mut transaction, mut gone) = (self.database.writer.begin_with("BEGIN IMMEDIATE").await?, 0);
        for sql in statements {
            let delete = sqlx::query(AssertSqlSafe(sql)).bind(&rows).bind(before.as_millisecond());
            gone += delete.execute(&mut *transaction).await?.rows_affected();
        }
        transaction.commit().await?;
        Ok(gone)
    }

    /// Forgets the largest evidence, and of the same size the newest. Returns the number of deleted rows.
    async fn forget_large(&self) -> Result<u64, StoreError> {
        let done = sqlx::query(
            "DELETE FROM evidence WHERE rowid IN (SELECT rowid FROM evidence WHERE octet_length(value) >= ?1 \
             ORDER BY octet_length(value) DESC, observed_at DESC LIMIT ?2)",
        )
        .bind(LARGE)
        .bind(LARGE_AT_ONCE)
        .execute(&self.database.writer)
        .await?;
        Ok(done.rows_affected())
    }

    async fn oldest_fact(&self) -> Result<Option<Timestamp>, StoreError> {
        let of = |table: &AgedTable| format!("SELECT MIN({}) AS age FROM {}", table.age, table.name);
        let all = TABLES.iter().map(of).collect::<Vec<_>>().join(" UNION ALL ");
        let sql = format!("SELECT MIN(age) FROM ({all})");
        let row = sqlx::query(AssertSqlSafe(sql)).fetch_one(&self.readers().patient()).await?;
        Ok(row.try_get::<Option<i64>, _>(0)?.map(time_of))
    }
}

impl Store {
    /// Forgets facts that were not used since `before` and that no content on disk needs. Returns the number of deleted
    /// rows.
    ///
    /// # Errors
    /// The database fails.
    pub async fn forget_before(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.forget_onwards(&mut BEGINNING.to_owned(), before).await
    }

    /// Like `forget_before`, but only for facts that were not examined yet.
    async fn forget_onwards(&self, progress: &mut ForgetProgress, before: Timestamp) -> Result<u64, StoreError> {
        let mut gone = 0;
        let done = self.forget_rows(progress, before, &mut gone).await;
        // Rows may have been deleted before the database failed.
        if gone > 0 {
            self.facts.growth.forgettings.fetch_add(1, Ordering::AcqRel);
            self.facts.epoch.advance();
        }
        done.map(|()| gone)
    }

    /// Adds the number of deleted rows to `gone`, even if an error follows.
    async fn forget_rows(
        &self,
        progress: &mut ForgetProgress,
        before: Timestamp,
        gone: &mut u64,
    ) -> Result<(), StoreError> {
        for (table, looked_at) in TABLES.into_iter().zip(progress) {
            loop {
                let page = self.facts.oldest(table, *looked_at, before).await?;
                let Some(last) = page.last() else { break };
                *looked_at = (last.age, last.row);
                let contents: Vec<Digest> = page.iter().filter_map(|fact| fact.content).collect();
                let needed = self.node.present(&contents).await?;
                let is_needed = |fact: &OldFact| fact.content.is_some_and(|content| needed.contains(&content));
                let old: Vec<OldFact> = page.into_iter().filter(|fact| !is_needed(fact)).collect();
                *gone += self.facts.forget(table, &old, before).await?;
            }
        }
        Ok(())
    }

    /// Forgets the least recently used facts until the rows take at most `bytes`, or until nothing more can be deleted.
    /// Returns the number of deleted rows.
    ///
    /// # Errors
    /// The database fails.
    pub async fn forget_least_used(&self, bytes: u64, now: Timestamp) -> Result<u64, StoreError> {
        let Some(mut before) = self.facts.oldest_fact().await? else { return Ok(0) };
        let (mut progress, mut gone) = (BEGINNING, 0);
        // Rows that are dated in the future because the clock was set back are deleted in the last step.
        loop {
            let left = now.duration_since(before);
            let is_last = left <= SignedDuration::from_secs(1);
            let step = left.checked_div(8).unwrap_or_default().max(SignedDuration::from_secs(1));
            before = if is_last { Timestamp::MAX } else { before.saturating_add(step).unwrap_or(Timestamp::MAX) };
            gone += self.forget_onwards(&mut progress, before).await?;
            if is_last || self.live_bytes().await? <= bytes {
                return Ok(gone);
            }
        }
    }

    /// Forgets the largest evidence until the rows take at most `bytes`, or until none is large. It is forgotten even
    /// if content on disk needs it: it can be obtained again from that content, and few images have so much. Returns
    /// the number of deleted rows.
    ///
    /// # Errors
    /// The database fails.
    pub async fn forget_largest(&self, bytes: u64) -> Result<u64, StoreError> {
        let mut gone = 0;
        while self.live_bytes().await? > bytes {
            let deleted = self.facts.forget_large().await?;
            if deleted == 0 {
                break;
            }
            gone += deleted;
            self.facts.growth.forgettings.fetch_add(1, Ordering::AcqRel);
            self.facts.epoch.advance();
        }
        Ok(gone)
    }
}

/// No facts were examined yet.
const BEGINNING: ForgetProgress = [(i64::MIN, i64::MIN); TABLES.len()];

/// The digest of the content that a fact is about. The text is a digest, or the subject of evidence in the form
/// `HOST/REPOSITORY@DIGEST KEY`.
fn digest_in(text: &str) -> Option<Digest> {
    text.split([' ', '@']).find_map(|word| word.parse().ok())
}
