//! Events that were not delivered yet. A row is removed when its receiver has accepted it.

use jiff::Timestamp;
use sqlx::Row;
use sqlx::sqlite::{SqliteConnection, SqliteRow};

use super::VerdictStore;
use crate::store::{StoreError, json, time_of};

/// The maximum number of waiting events, for all receivers together. The oldest are lost first.
pub(super) const MAX_QUEUED: i64 = 50_000;

/// An event for one receiver.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct NewEvent {
    /// Identifies the event: receivers recognise by it what they got before.
    pub id: String,
    /// Identifies the receiver.
    pub receiver: String,
    /// The JSON to send.
    pub body: String,
    /// The time of the event.
    pub at: Timestamp,
}

/// An event in the queue.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct QueuedEvent {
    /// The number of the row.
    pub number: i64,
    /// Identifies the event.
    pub id: String,
    /// The JSON to send.
    pub body: String,
    /// How often it was sent without success.
    pub attempts: u32,
    /// When it is sent next.
    pub next_at: Timestamp,
}

/// The events are numbered in the order in which they are given.
const INSERT: &str = "INSERT INTO events (id, receiver, body, attempts, next_at) \
    SELECT value->>0, value->>1, value->>2, 0, value->>3 FROM json_each(?1) WHERE true ORDER BY key \
    ON CONFLICT (id, receiver) DO NOTHING";

/// Queues events in a transaction.
pub(super) async fn insert(events: &[NewEvent], connection: &mut SqliteConnection) -> Result<(), StoreError> {
    if events.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> =
        events.iter().map(|event| (&event.id, &event.receiver, &event.body, event.at.as_millisecond())).collect();
    let rows = json(&rows);
    sqlx::query(INSERT).bind(rows).execute(connection).await?;
    Ok(())
}

impl VerdictStore {
    /// Queues events.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn queue_events(&self, events: &[NewEvent]) -> Result<(), StoreError> {
        let mut transaction = self.database.writer.begin_with("BEGIN IMMEDIATE").await?;
        insert(events, &mut transaction).await?;
        transaction.commit().await?;
        Ok(())
    }

    /// The oldest event of a receiver.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn first_event(&self, receiver: &str) -> Result<Option<QueuedEvent>, StoreError> {
        let sql = "SELECT number, id, body, attempts, next_at FROM events WHERE receiver = ?1 ORDER BY number LIMIT 1";
        let row = sqlx::query(sql).bind(receiver).fetch_optional(self.readers()).await?;
        let event = |row: SqliteRow| {
            let attempts: i64 = row.try_get(3)?;
            Ok(QueuedEvent {
                number: row.try_get(0)?,
                id: row.try_get(1)?,
                body: row.try_get(2)?,
                attempts: u32::try_from(attempts).unwrap_or(u32::MAX),
                next_at: time_of(row.try_get(4)?),
            })
        };
        row.map(event).transpose()
    }

    /// Removes an event that was delivered or given up.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn remove_event(&self, number: i64) -> Result<(), StoreError> {
        let remove = sqlx::query("DELETE FROM events WHERE number = ?1").bind(number);
        remove.execute(&self.database.writer).await?;
        Ok(())
    }

    /// Records that an event was sent without success, and when it is sent next.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn postpone_event(&self, number: i64, attempts: u32, next_at: Timestamp) -> Result<(), StoreError> {
        sqlx::query("UPDATE events SET attempts = ?2, next_at = ?3 WHERE number = ?1")
            .bind(number)
            .bind(i64::from(attempts))
            .bind(next_at.as_millisecond())
            .execute(&self.database.writer)
            .await?;
        Ok(())
    }

    /// Forgets events for receivers that are not among these.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn keep_receivers(&self, receivers: &[String]) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM events WHERE receiver NOT IN (SELECT value FROM json_each(?1))")
            .bind(json(receivers))
            .execute(&self.database.writer)
            .await?;
        Ok(())
    }

    /// How many events wait.
    ///
    /// # Errors
    /// The database cannot be read.
    pub async fn count_events(&self) -> Result<u64, StoreError> {
        let count: i64 = sqlx::query("SELECT COUNT(*) FROM events").fetch_one(self.readers()).await?.try_get(0)?;
        Ok(u64::try_from(count).unwrap_or_default())
    }
}
