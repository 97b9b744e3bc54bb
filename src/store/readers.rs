//! The connections for reading, and the limits on waiting for them.
//!
//! Each connection has a thread that waits for the disk, as long as that takes. A caller waits at most for
//! [`READ_TIMEOUT`]. The connection stays with its thread until that is done, so that a disk that hangs takes no more
//! than these connections. Statements that go through whole tables have no time limit ([`ReadConnections::patient`]):
//! they would never succeed on a slow disk.

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
use super::file_health::FileHealth;
use crate::runtime::{Readiness, Untracked};

/// The number of connections. Each one caches up to two megabytes of pages (the default of SQLite).
const CONNECTIONS: u32 = 3;
/// How long a read, and the wait for a connection, may take. Disks stall for seconds while they are synced.
pub(super) const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a read waits for a connection while none of them answers.
const PATIENCE: Duration = Duration::from_millis(500);
/// The part that is degraded while a connection does not answer.
const TOPIC: &str = "database-reads";

/// Runs statements that only read, on separate connections: in WAL mode, readers never wait for a writer. Cheap to
/// clone.
#[derive(Clone)]
pub(super) struct ReadConnections {
    state: Arc<ReadConnectionsState>,
    /// Whether reads take as long as they take.
    is_patient: bool,
}

struct ReadConnectionsState {
    pool: SqlitePool,
    /// Where connections that do not answer are reported. Without it, reads take as long as they take.
    readiness: OnceLock<Readiness>,
    /// How many connections have not answered in time.
    late: Mutex<u32>,
    background: Untracked,
    health: FileHealth,
}

impl fmt::Debug for ReadConnections {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadConnections").field("late", &self.state.late()).finish_non_exhaustive()
    }
}

impl ReadConnections {
    /// Opens all connections. They are never replaced, so none has to be opened while the disk hangs.
    pub(super) async fn open(options: SqliteConnectOptions, health: FileHealth) -> Result<Self, Error> {
        let pool = pool(CONNECTIONS).idle_timeout(None).max_lifetime(None).connect_with(options).await?;
        let mut connections = Vec::new();
        for _ in 0..CONNECTIONS {
            connections.push(pool.acquire().await?);
        }
        drop(connections);
        let background = Untracked::new();
        let (readiness, late) = (OnceLock::new(), Mutex::default());
        let state = ReadConnectionsState { pool, readiness, late, background, health };
        Ok(Self { state: Arc::new(state), is_patient: false })
    }

    /// The same connections without a time limit, for statements that go through whole tables.
    pub(super) fn patient(&self) -> Self {
        Self { is_patient: true, ..self.clone() }
    }

    /// From now on, limits the time of all reads that are not patient, and reports connections that do not answer.
    pub(super) fn limit(&self, readiness: Readiness) {
        readiness.degraded(TOPIC, None);
        // A second limit would be the same one.
        let _ = self.state.readiness.set(readiness);
    }

    pub(super) async fn close(&self) {
        self.state.pool.close().await;
    }

    async fn rows<'q>(&self, query: impl Execute<'q, Sqlite> + 'q) -> Result<Vec<SqliteRow>, Error> {
        self.read(query).await.inspect_err(|error| self.state.health.note(error))
    }

    async fn read<'q>(&self, query: impl Execute<'q, Sqlite> + 'q) -> Result<Vec<SqliteRow>, Error> {
        if self.is_patient || self.state.readiness.get().is_none() {
            return self.state.pool.fetch_all(query).await;
        }
        let mut connection = self.connection().await?;
        let read = timeout(READ_TIMEOUT, connection.fetch_all(query)).await;
        read.unwrap_or_else(|_| {
            self.state.clone().watch(1, async move { connection.ping().await });
            Err(late())
        })
    }

    async fn connection(&self) -> Result<PoolConnection<Sqlite>, Error> {
        let state = &self.state;
        // One slow statement leaves the others: a burst of requests may wait for these.
        let patience = if *state.late() < CONNECTIONS { READ_TIMEOUT } else { PATIENCE };
        let Ok(connection) = timeout(patience, state.pool.acquire()).await else {
            // Requests that have left, and tasks in the background, may have such connections.
            if *state.late() < CONNECTIONS {
                let pool = state.pool.clone();
                let until_one_is_free = async move { while let Err(Error::PoolTimedOut) = pool.acquire().await {} };
                state.clone().watch(CONNECTIONS, until_one_is_free);
            }
            return Err(late());
        };
        connection
    }
}

impl ReadConnectionsState {
    fn late(&self) -> std::sync::MutexGuard<'_, u32> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts connections that have not answered, until there is this answer.
    fn watch(self: Arc<Self>, count: u32, answer: impl Future<Output: Send> + Send + 'static) {
        self.change(|late| *late += count);
        let state = self.clone();
        self.background.spawn(async move {
            answer.await;
            state.change(|late| *late -= count);
        });
    }

    fn change(&self, change: impl FnOnce(&mut u32)) {
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
impl<'p> Executor<'p> for &ReadConnections {
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

    async fn all(readers: &ReadConnections) -> Vec<PoolConnection<Sqlite>> {
        let mut all = Vec::new();
        for _ in 0..CONNECTIONS {
            all.push(readers.state.pool.acquire().await.unwrap());
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

    /// A burst of requests waits for the other connections, which do answer.
    #[tokio::test]
    async fn one_slow_statement_does_not_shorten_the_wait_for_a_connection() {
        let readiness = Readiness::new();
        let (_dir, store) = store(&readiness).await;
        let readers = &store.database.readers;
        let (answer, answered) = tokio::sync::oneshot::channel::<()>();
        readers.state.clone().watch(1, answered);
        let held = all(readers).await;
        tokio::time::pause();
        let began = tokio::time::Instant::now();
        assert!(sqlx::query("SELECT 1").fetch_optional(readers).await.is_err());
        assert!(began.elapsed() >= READ_TIMEOUT, "{:?}", began.elapsed());
        tokio::time::resume();
        drop(held);
        answer.send(()).unwrap();
        until_healthy(&readiness).await;
    }

    #[tokio::test]
    async fn maintenance_is_not_given_up() {
        let readiness = Readiness::new();
        let (_dir, store) = store(&readiness).await;
        let readers = store.database.readers.patient();
        for mut connection in all(&readers).await {
            connection.return_to_pool().await;
        }
        tokio::time::pause();
        assert_eq!(sqlx::query(SLOW).fetch_all(&readers).await.unwrap().len(), 1);
        assert!(!is_degraded(&readiness));
    }

    #[tokio::test]
    async fn reads_fail_fast_while_no_connection_answers() {
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
