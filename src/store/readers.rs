//! The connections that read, and how long anybody waits for them.
//!
//! Each connection has a thread that waits for the disk, as long as that takes. Whoever asks waits for [`READ_TIMEOUT`]. The
//! connection stays with its thread until that is done, so that a disk that hangs takes no more than these connections.

use std::fmt;
use std::io;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use futures_util::future::BoxFuture;
use futures_util::stream::{self, BoxStream};
use futures_util::{FutureExt, StreamExt, TryFutureExt};
use sqlx::pool::PoolConnection;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqliteQueryResult, SqliteRow, SqliteTypeInfo};
use sqlx::{Connection as _, Database, Either, Error, Execute, Executor, SqlStr, Sqlite};
use tokio::time::timeout;

use super::StoreError;
use super::database::pool;
use crate::runtime::{Readiness, Untracked};

/// The number of connections. Each one caches up to two megabytes of pages (the default of SQLite).
const CONNECTIONS: u32 = 3;
/// How long a read, and the wait for a connection, may take. Disks stall for seconds while they are synced.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// The time for a connection while another one does not answer.
const PATIENCE: Duration = Duration::from_millis(500);
/// The part that is degraded while a connection does not answer.
const TOPIC: &str = "database-reads";

/// Runs statements that only read, on connections of its own: in WAL mode, readers never wait for a writer. Cheap to clone.
#[derive(Clone)]
pub(super) struct Readers(Arc<ReadersState>);

struct ReadersState {
    pool: SqlitePool,
    /// Where connections that do not answer are reported. Without it, reads take as long as they take.
    readiness: OnceLock<Readiness>,
    /// How many connections have not answered in time.
    late: Mutex<usize>,
    background: Untracked,
}

impl fmt::Debug for Readers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Readers").field("late", &self.0.late()).finish_non_exhaustive()
    }
}

impl Readers {
    /// Opens all connections. They are never replaced, so none has to be opened while the disk hangs.
    pub(super) async fn open(options: SqliteConnectOptions) -> Result<Self, Error> {
        let pool = pool(CONNECTIONS).idle_timeout(None).max_lifetime(None).connect_with(options).await?;
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(pool.acquire().await?);
        }
        drop(connections);
        let background = Untracked::new();
        let state = ReadersState { pool, readiness: OnceLock::new(), late: Mutex::default(), background };
        Ok(Self(Arc::new(state)))
    }

    /// Limits the time of all reads from now on, and reports connections that do not answer.
    pub(super) fn limit(&self, readiness: Readiness) {
        readiness.degraded(TOPIC, None);
        // A second limit would be the same one.
        let _ = self.0.readiness.set(readiness);
    }

    pub(super) async fn close(&self) {
        self.0.pool.close().await;
    }

    async fn rows<'q>(&self, query: impl Execute<'q, Sqlite> + 'q) -> Result<Vec<SqliteRow>, Error> {
        if self.0.readiness.get().is_none() {
            return self.0.pool.fetch_all(query).await;
        }
        let mut connection = self.connection().await?;
        let read = timeout(READ_TIMEOUT, connection.fetch_all(query)).await;
        read.unwrap_or_else(|_| {
            self.0.clone().watch(async move { connection.ping().await });
            Err(late())
        })
    }

    async fn connection(&self) -> Result<PoolConnection<Sqlite>, Error> {
        let state = &self.0;
        let patience = if *state.late() == 0 { READ_TIMEOUT } else { PATIENCE };
        let Ok(connection) = timeout(patience, state.pool.acquire()).await else {
            // Requests that have left may have left such connections behind.
            if *state.late() == 0 {
                let pool = state.pool.clone();
                let until_one_is_free = async move { while let Err(Error::PoolTimedOut) = pool.acquire().await {} };
                state.clone().watch(until_one_is_free);
            }
            return Err(late());
        };
        connection
    }
}

impl ReadersState {
    fn late(&self) -> std::sync::MutexGuard<'_, usize> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a connection that has not answered, until it does.
    fn watch(self: Arc<Self>, answer: impl Future<Output: Send> + Send + 'static) {
        self.change(|late| *late += 1);
        let state = self.clone();
        self.background.spawn(async move {
            answer.await;
            state.change(|late| *late -= 1);
        });
    }

    fn change(&self, change: impl FnOnce(&mut usize)) {
        let mut late = self.late();
        let before = *late;
        change(&mut late);
        let why = (*late > 0).then(|| StoreError::from(self::late()).to_string());
        if let (None, true) | (Some(_), false) = (&why, before > 0) {
            match &why {
                Some(why) => tracing::warn!(%why, "the database cannot be read; is the disk of state_dir working?"),
                None => tracing::info!("the database can be read again"),
            }
            if let Some(readiness) = self.readiness.get() {
                readiness.degraded(TOPIC, why);
            }
        }
    }
}

/// Becomes [`StoreError::Late`].
fn late() -> Error {
    Error::Io(io::ErrorKind::TimedOut.into())
}

/// Rows are collected before the first one is returned, so that the limit is one of the whole statement.
impl<'p> Executor<'p> for &Readers {
    type Database = Sqlite;

    fn fetch_many<'e, 'q: 'e, E>(self, query: E) -> BoxStream<'e, Result<Either<SqliteQueryResult, SqliteRow>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Sqlite>,
    {
        let readers = self.clone();
        let rows = async move { readers.rows(query).await };
        rows.map_ok(|rows| stream::iter(rows.into_iter().map(|row| Ok(Either::Right(row)))))
            .try_flatten_stream()
            .boxed()
    }

    fn fetch_optional<'e, 'q: 'e, E>(self, query: E) -> BoxFuture<'e, Result<Option<SqliteRow>, Error>>
    where
        'p: 'e,
        E: 'q + Execute<'q, Sqlite>,
    {
        let readers = self.clone();
        async move { Ok(readers.rows(query).await?.into_iter().next()) }.boxed()
    }

    fn prepare_with<'e>(
        self,
        sql: SqlStr,
        parameters: &'e [SqliteTypeInfo],
    ) -> BoxFuture<'e, Result<<Sqlite as Database>::Statement, Error>>
    where
        'p: 'e,
    {
        let readers = self.clone();
        async move { readers.connection().await?.prepare_with(sql, parameters).await }.boxed()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Store;

    /// It takes a moment, but ends.
    const SLOW: &str =
        "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 300000) SELECT count(*) FROM n";

    async fn store(readiness: &Readiness) -> (tempfile::TempDir, Store) {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path()).await.unwrap();
        store.limit_reads(readiness);
        (dir, store)
    }

    async fn all(readers: &Readers) -> Vec<PoolConnection<Sqlite>> {
        let mut all = Vec::new();
        for _ in 0..CONNECTIONS {
            all.push(readers.0.pool.acquire().await.unwrap());
        }
        all
    }

    fn is_degraded(readiness: &Readiness) -> bool {
        readiness.report().degraded.contains_key(TOPIC)
    }

    async fn until_healthy(readiness: &Readiness) {
        while is_degraded(readiness) {
            tokio::task::yield_now().await;
        }
    }

    /// The test owns the time once the connections are idle.
    #[tokio::test]
    async fn a_read_that_takes_too_long_is_given_up_and_its_connection_comes_back() {
        let readiness = Readiness::new();
        let (_dir, store) = store(&readiness).await;
        let readers = &store.database.readers;
        for mut connection in all(readers).await {
            connection.return_to_pool().await;
        }
        tokio::time::pause();
        let began = tokio::time::Instant::now();
        let slow: StoreError = sqlx::query(SLOW).fetch_all(readers).await.unwrap_err().into();
        assert_eq!(slow.to_string(), "the database has not answered within 10 s");
        assert!(began.elapsed() >= READ_TIMEOUT && began.elapsed() < READ_TIMEOUT + PATIENCE, "{:?}", began.elapsed());
        assert!(is_degraded(&readiness));
        tokio::time::resume();
        until_healthy(&readiness).await;
        assert_eq!(all(readers).await.len(), 3, "none is lost");
    }

    #[tokio::test]
    async fn nobody_waits_long_while_no_connection_answers() {
        let readiness = Readiness::new();
        let (_dir, store) = store(&readiness).await;
        let readers = &store.database.readers;
        let held = all(readers).await;
        tokio::time::pause();
        let began = tokio::time::Instant::now();
        let ask = async || sqlx::query("SELECT 1").fetch_optional(readers).await;
        assert!(ask().await.is_err());
        assert!(began.elapsed() >= READ_TIMEOUT && is_degraded(&readiness), "{:?}", began.elapsed());
        assert!(ask().await.is_err());
        assert!(began.elapsed() < READ_TIMEOUT + 2 * PATIENCE, "{:?}", began.elapsed());
        tokio::time::resume();
        drop(held);
        until_healthy(&readiness).await;
        assert!(ask().await.unwrap().is_some());
    }
}
