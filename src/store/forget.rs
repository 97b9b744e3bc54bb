//! Forgetting: facts are rows that upstreams and clients cause, so they are bounded like everything else of theirs.
//!
//! What content on this node's disk needs stays: the facts of its manifests, the links of its blobs, and the evidence
//! about it. All other rows can be obtained again, so the ones that were unused for longest go first. Facts are listed a
//! page at a time, the node says which of them it needs, and the rest goes unless somebody renewed it meanwhile.

use std::sync::atomic::{AtomicU64, Ordering};

use jiff::{SignedDuration, Timestamp};
use sqlx::{AssertSqlSafe, Row};
use tokio::sync::Notify;

use super::{FactStore, Store, StoreError, json, time_of};
use crate::oci::Digest;

/// How many facts are looked at together, and deleted in one transaction at most, so that other writers get their turn.
const PAGE: u32 = 500;
/// After so many new rows the size is looked at: about six megabytes.
const LOOK_AFTER: u64 = 10_000;

/// A table of facts that are forgotten by their age.
#[derive(Clone, Copy, Debug)]
struct AgedTable {
    name: &'static str,
    /// When a fact was last seen or used: a column, or the expression of an index.
    age: &'static str,
    /// The column that names the content which needs the fact.
    content: &'static str,
}

const TABLES: [AgedTable; 5] = [
    AgedTable { name: "manifests", age: "MAX(seen_at, COALESCE(pulled_at, 0))", content: "digest" },
    AgedTable { name: "tags", age: "checked_at", content: "digest" },
    AgedTable { name: "tag_history", age: "seen_at", content: "digest" },
    AgedTable { name: "links", age: "seen_at", content: "digest" },
    AgedTable { name: "evidence", age: "observed_at", content: "subject" },
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

/// A fact that may go.
struct OldFact {
    row: i64,
    /// In milliseconds since the epoch.
    age: i64,
    /// The content that needs it.
    content: Option<Digest>,
}

/// How far each table was looked through: the age and the row of the last fact.
type ForgetProgress = [(i64, i64); TABLES.len()];

impl FactStore {
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

    /// Drops rows that say nothing any more: evidence that has ended, and tags that were last seen before `memory`.
    /// Returns how many rows went.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn drop_stale(&self, now: Timestamp, memory: Timestamp) -> Result<u64, StoreError> {
        let ended = self.drop_stale_evidence(now).await?;
        let done = sqlx::query("DELETE FROM tag_history WHERE seen_at < ?1")
            .bind(memory.as_millisecond())
            .execute(&self.database.writer)
            .await?;
        Ok(ended + done.rows_affected())
    }

    /// The oldest facts of a table after those that were looked at, a page of them.
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
        let rows = query.bind(i64::from(PAGE)).fetch_all(self.readers()).await?;
        let fact = |row: &sqlx::sqlite::SqliteRow| {
            let content: &str = row.try_get(2)?;
            Ok(OldFact { row: row.try_get(0)?, age: row.try_get(1)?, content: digest_in(content) })
        };
        rows.iter().map(fact).collect()
    }

    /// Forgets these facts of a table, unless they were renewed since. Returns how many rows went.
    async fn forget(&self, table: AgedTable, facts: &[OldFact], before: Timestamp) -> Result<u64, StoreError> {
        if facts.is_empty() {
            return Ok(0);
        }
        let AgedTable { name, age, .. } = table;
        let rows = json(&facts.iter().map(|fact| fact.row).collect::<Vec<_>>());
        let old = format!("FROM {name} WHERE rowid IN (SELECT value FROM json_each(?1)) AND {age} < ?2");
        let members = format!(
            "DELETE FROM members WHERE (host, repository, manifest) IN (SELECT host, repository, digest {old})"
        );
        let mut statements = vec![format!("DELETE {old}")];
        if name == "manifests" {
            statements.insert(0, members);
        }
        let (mut transaction, mut gone) = (self.database.writer.begin_with("BEGIN IMMEDIATE").await?, 0);
        for sql in statements {
            let delete = sqlx::query(AssertSqlSafe(sql)).bind(&rows).bind(before.as_millisecond());
            gone += delete.execute(&mut *transaction).await?.rows_affected();
        }
        transaction.commit().await?;
        Ok(gone)
    }

    async fn oldest_fact(&self) -> Result<Option<Timestamp>, StoreError> {
        let of = |table: &AgedTable| format!("SELECT MIN({}) AS age FROM {}", table.age, table.name);
        let all = TABLES.iter().map(of).collect::<Vec<_>>().join(" UNION ALL ");
        let sql = format!("SELECT MIN(age) FROM ({all})");
        let oldest: Option<i64> = sqlx::query(AssertSqlSafe(sql)).fetch_one(self.readers()).await?.try_get(0)?;
        Ok(oldest.map(time_of))
    }
}

impl Store {
    /// Forgets what was not used since `before` and what no content on disk needs. Returns how many rows went.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget_before(&self, before: Timestamp) -> Result<u64, StoreError> {
        self.forget_onwards(&mut BEGINNING.to_owned(), before).await
    }

    /// The same for what was not looked at yet.
    async fn forget_onwards(&self, progress: &mut ForgetProgress, before: Timestamp) -> Result<u64, StoreError> {
        let mut gone = 0;
        let done = self.forget_rows(progress, before, &mut gone).await;
        // Rows may be gone although the database failed after that.
        if gone > 0 {
            self.facts.growth.forgettings.fetch_add(1, Ordering::AcqRel);
            self.facts.epoch.advance();
        }
        done.map(|()| gone)
    }

    /// Adds to `gone` as rows go.
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

    /// Forgets what was unused for longest until rows take at most so many bytes, or until nothing more can go. Returns
    /// how many rows went.
    ///
    /// # Errors
    /// When the database fails.
    pub async fn forget_least_used(&self, bytes: u64, now: Timestamp) -> Result<u64, StoreError> {
        let Some(mut before) = self.facts.oldest_fact().await? else { return Ok(0) };
        let (mut progress, mut gone) = (BEGINNING, 0);
        // What a clock that was set back dated into the future goes with the rest at the end.
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
}

/// Nothing was looked at.
const BEGINNING: ForgetProgress = [(i64::MIN, i64::MIN); TABLES.len()];

/// The content that a fact is about: a digest, or the one that the subject of some evidence names, as in
/// `HOST/REPOSITORY@DIGEST KEY`.
fn digest_in(text: &str) -> Option<Digest> {
    text.split([' ', '@']).find_map(|word| word.parse().ok())
}
