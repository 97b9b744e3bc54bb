//! Verdicts that must be judged again, the most recently pulled first, and the results.

use std::collections::HashMap;

use jiff::Timestamp;
use sqlx::sqlite::SqliteConnection;
use sqlx::{AssertSqlSafe, Row};

use super::events::{self, NewEvent};
use super::{COLUMNS, StoredVerdict, VerdictBasis, VerdictOutcome, VerdictStore};
use crate::store::{StoreError, json, time_of};

/// The place in the list of verdicts after which the next page begins. The list starts with the most recent pull.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct VerdictPage(Option<(i64, i64)>);

/// The result of judging a verdict again.
#[derive(Clone, Debug)]
pub struct Rejudged {
    /// The verdict as it was read.
    pub before: StoredVerdict,
    /// The decision now, or why the image cannot be judged.
    pub now: Result<VerdictOutcome, String>,
    /// When the decision ends by itself.
    pub until: Option<Timestamp>,
    /// The basis that it was judged from. If it is no longer the current one, the verdict is judged again.
    pub basis: VerdictBasis,
}

impl VerdictStore {
    /// The verdicts that must be judged again and follow in the list, at most `limit`: those with another basis, and
    /// those that have ended by themselves. Empty at the end of the list.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn outdated(
        &self,
        basis: &VerdictBasis,
        now: Timestamp,
        after: &mut VerdictPage,
        limit: u32,
    ) -> Result<Vec<StoredVerdict>, StoreError> {
        let (pulled, id) = after.0.unwrap_or((i64::MAX, i64::MAX));
        let sql = AssertSqlSafe(format!(
            "SELECT {COLUMNS} FROM verdicts WHERE (pulled_at, id) < (?1, ?2) AND (basis <> ?3 OR valid_until <= ?5) \
             ORDER BY pulled_at DESC, id DESC LIMIT ?4"
        ));
        let query = sqlx::query(sql).bind(pulled).bind(id).bind(basis.to_text());
        let query = query.bind(i64::from(limit)).bind(now.as_millisecond());
        let rows = query.fetch_all(&self.readers().patient()).await?;
        let verdicts: Vec<StoredVerdict> = rows.iter().map(StoredVerdict::of_row).collect::<Result<_, _>>()?;
        if let Some(last) = verdicts.last() {
            after.0 = Some((last.pulled_at.as_millisecond(), last.id));
        }
        Ok(verdicts)
    }

    /// How many verdicts must be judged again.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn count_outdated(&self, basis: &VerdictBasis) -> Result<u64, StoreError> {
        let row = sqlx::query("SELECT COUNT(*) FROM verdicts WHERE basis <> ?1").bind(basis.to_text());
        let count: i64 = row.fetch_one(&self.readers().patient()).await?.try_get(0)?;
        Ok(u64::try_from(count).unwrap_or_default())
    }

    /// When the first verdict ends by itself.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn next_end(&self) -> Result<Option<Timestamp>, StoreError> {
        let row = sqlx::query("SELECT MIN(valid_until) FROM verdicts WHERE valid_until IS NOT NULL");
        let end: Option<i64> = row.fetch_one(&self.readers().patient()).await?.try_get(0)?;
        Ok(end.map(time_of))
    }

    /// Stores the results. A verdict that was recorded again since it was read is not changed. `event` makes the events
    /// of a verdict that changed; they are queued in the same transaction, in the order of the verdicts. Returns the
    /// verdicts that changed.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn store_rejudged(
        &self,
        rejudged: &[Rejudged],
        at: Timestamp,
        event: &(dyn Fn(&StoredVerdict) -> Vec<NewEvent> + Send + Sync),
    ) -> Result<Vec<StoredVerdict>, StoreError> {
        let (changed, same): (Vec<&Rejudged>, Vec<&Rejudged>) = rejudged.iter().partition(|one| one.is_change());
        let mut transaction = self.database.writer.begin_with("BEGIN IMMEDIATE").await?;
        sqlx::query(SAME)
            .bind(json(&same.iter().map(|one| one.row()).collect::<Vec<_>>()))
            .bind(at.as_millisecond())
            .execute(&mut *transaction)
            .await?;
        let stored = store_changed(&changed, at, &mut transaction).await?;
        let events: Vec<NewEvent> = stored.iter().flat_map(event).collect();
        events::insert(&events, &mut transaction).await?;
        transaction.commit().await?;
        Ok(stored)
    }
}

const SAME: &str = "UPDATE verdicts SET basis = new.value->>3, valid_until = new.value->>4, doubt = new.value->>5, \
    reason = COALESCE(new.value->>6, reason), decided_at = IIF(new.value->>5 IS NULL, ?2, decided_at) \
    FROM json_each(?1) AS new \
    WHERE verdicts.id = new.value->>0 AND verdicts.decided_at = new.value->>1 AND verdicts.basis = new.value->>2";

/// One statement for all: an advisory may change the verdicts on thousands of images.
const CHANGED: &str = "UPDATE verdicts SET old_decision = decision, old_reason = reason, old_basis = basis, changed_at = ?2, \
    decision = new.value->>7, reason = new.value->>6, basis = new.value->>3, decided_at = ?2, valid_until = new.value->>4, \
    doubt = NULL FROM json_each(?1) AS new \
    WHERE verdicts.id = new.value->>0 AND verdicts.decided_at = new.value->>1 AND verdicts.basis = new.value->>2 RETURNING ";

/// Stores changed verdicts, and returns them in their order.
async fn store_changed(
    changed: &[&Rejudged],
    at: Timestamp,
    connection: &mut SqliteConnection,
) -> Result<Vec<StoredVerdict>, StoreError> {
    if changed.is_empty() {
        return Ok(Vec::new());
    }
    let sql = AssertSqlSafe(format!("{CHANGED}{COLUMNS}"));
    let rows = json(&changed.iter().map(|one| one.row()).collect::<Vec<_>>());
    let rows = sqlx::query(sql).bind(rows).bind(at.as_millisecond()).fetch_all(connection).await?;
    let stored = rows.iter().map(|row| StoredVerdict::of_row(row).map(|verdict| (verdict.id, verdict)));
    let mut stored: HashMap<i64, StoredVerdict> = stored.collect::<Result<_, _>>()?;
    Ok(changed.iter().filter_map(|one| stored.remove(&one.before.id)).collect())
}

/// The row of a verdict as both statements take it, as JSON.
type RejudgedRow<'a> = (i64, i64, String, String, Option<i64>, Option<&'a str>, Option<&'a str>, Option<&'static str>);

impl Rejudged {
    /// Whether the decision is another one. An image that cannot be judged keeps its decision.
    pub fn is_change(&self) -> bool {
        self.now.as_ref().is_ok_and(|now| now.decision != self.before.outcome.decision)
    }

    fn row(&self) -> RejudgedRow<'_> {
        let StoredVerdict { id, decided_at, outcome, .. } = &self.before;
        (
            *id,
            decided_at.as_millisecond(),
            outcome.basis.to_text(),
            self.basis.to_text(),
            self.until.map(Timestamp::as_millisecond),
            self.now.as_ref().err().map(String::as_str),
            self.now.as_ref().ok().map(|outcome| &*outcome.reason),
            self.now.as_ref().ok().map(|outcome| outcome.decision.as_str()),
        )
    }
}
