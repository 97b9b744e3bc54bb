//! Copies the journal of the database into its file while requests continue.
//!
//! SQLite copies the journal at the end of a transaction that finds it long, and syncs both files. Nothing else can be
//! written until that is done, which takes tens of milliseconds. Therefore a connection that writes nothing copies most
//! of the journal before that, and what is left for the writer is little.

use std::sync::atomic::{AtomicU64, Ordering};

use sqlx::Row;
use sqlx::sqlite::SqlitePool;
use tokio::sync::Notify;

use super::database::Database;
use super::{Store, StoreError};
use crate::runtime::Tasks;

/// The number of new rows after which the journal is copied: a few megabytes.
const COPY_AFTER: u64 = 1000;
/// The number of pages of a journal of which the writer copies the rest, so that it starts over: 16 MB.
const LONG: i64 = 4000;

/// How much was written since the journal was copied.
#[derive(Debug, Default)]
pub(super) struct JournalGrowth {
    rows: AtomicU64,
    /// Notified when the journal should be copied.
    many: Notify,
}

impl JournalGrowth {
    /// Counts rows that were written.
    pub(super) fn wrote(&self, rows: u64) {
        if self.rows.fetch_add(rows, Ordering::Relaxed).saturating_add(rows) >= COPY_AFTER {
            self.rows.store(0, Ordering::Relaxed);
            self.many.notify_one();
        }
    }
}

impl Store {
    /// Copies the journal whenever it has grown, until shutdown.
    pub async fn copy_journal_until_stop(self, tasks: Tasks) {
        loop {
            tokio::select! {
                () = self.database.journal.many.notified() => {}
                () = tasks.stopping() => return,
            }
            if let Err(error) = self.database.copy_journal().await {
                tracing::warn!(%error, "cannot copy the journal of the database; will retry");
            }
        }
    }
}

impl Database {
    /// Copies the journal into the file. If it is long, the next transaction starts it over.
    async fn copy_journal(&self) -> Result<(), StoreError> {
        if copy(&self.copier).await? >= LONG {
            copy(&self.writer).await?;
        }
        Ok(())
    }
}

/// Copies what can be copied without waiting for other connections. Returns the number of pages in the journal.
async fn copy(connections: &SqlitePool) -> Result<i64, StoreError> {
    let row = sqlx::query("PRAGMA wal_checkpoint(PASSIVE)").fetch_one(connections).await?;
    Ok(row.try_get(1)?)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// The journal's length in bytes.
    fn length(dir: &std::path::Path) -> u64 {
        std::fs::metadata(dir.join("pullgate.db-wal")).unwrap().len()
    }

    #[tokio::test]
    async fn a_long_journal_begins_anew() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        let write = async |megabytes: u64| {
            sqlx::query("INSERT INTO evidence VALUES ('test', hex(randomblob(8)), zeroblob(?1), 0, NULL)")
                .bind(i64::try_from(megabytes * 1024 * 1024).unwrap())
                .execute(&store.database.writer)
                .await
                .unwrap();
        };
        write(1).await;
        store.database.copy_journal().await.unwrap();
        write(20).await;
        let long = length(dir.path());
        assert!(long > 20 * 1024 * 1024, "{long}");
        store.database.copy_journal().await.unwrap();
        write(10).await;
        assert_eq!(length(dir.path()), long, "it was written from the beginning");
    }

    #[tokio::test]
    async fn the_journal_is_copied_after_many_rows() {
        let dir = tempfile::tempdir().unwrap();
        let (store, tasks) = (Store::open(dir.path()).await.unwrap(), Tasks::new());
        let size = || std::fs::metadata(dir.path().join("pullgate.db")).unwrap().len();
        sqlx::query("INSERT INTO evidence VALUES ('test', 'x', zeroblob(2000000), 0, NULL)")
            .execute(&store.database.writer)
            .await
            .unwrap();
        assert!(size() < 2_000_000, "only the journal has the row");
        let copying = tasks.spawn(store.clone().copy_journal_until_stop(tasks.clone()));
        let journal = &store.database.journal;
        journal.wrote(COPY_AFTER - 1);
        assert_eq!(journal.rows.load(Ordering::Relaxed), COPY_AFTER - 1);
        journal.wrote(1);
        assert_eq!(journal.rows.load(Ordering::Relaxed), 0);
        let copied = async {
            while size() < 2_000_000 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), copied).await.expect("the journal is copied");
        tasks.stop();
        tokio::time::timeout(Duration::from_secs(20), copying).await.unwrap().unwrap();
    }
}
