//! Writes the rows of many requests in one transaction.
//!
//! Each request adds its rows to the waiting rows. The first request that acquires the lock writes all of them, and
//! then all waiting requests are notified together. A request waits at most for the current transaction and the next
//! one. A successful answer means that the rows are committed.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sqlx::sqlite::SqliteConnection;
use tokio::sync::oneshot::{self, error::TryRecvError};

use super::StoreError;
use super::database::Database;

/// The maximum number of requests whose rows are written in one transaction.
const MAX_GATHERED: usize = 1000;

/// The rows of one request, which can be written together with those of others.
pub(super) trait Rows: Send + Sync + 'static {
    /// The answer to the request.
    type Answer: Send + 'static;

    /// Writes the rows of several requests in order and returns an answer for each.
    fn write(
        gathered: &[&Self],
        connection: &mut SqliteConnection,
    ) -> impl Future<Output = Result<Vec<Self::Answer>, sqlx::Error>> + Send;
}

/// Collects rows and writes them. Cheap to clone.
pub(super) struct Writer<R: Rows> {
    database: Database,
    waiting: Waiting<R>,
    turn: Arc<tokio::sync::Mutex<()>>,
}

type Waiting<R> = Arc<Mutex<Vec<WriteRequest<R>>>>;

/// Rows that wait to be written, and the sender that notifies their request.
struct WriteRequest<R: Rows> {
    rows: R,
    done: oneshot::Sender<Result<R::Answer, StoreError>>,
}

impl<R: Rows> Clone for Writer<R> {
    fn clone(&self) -> Self {
        Self { database: self.database.clone(), waiting: self.waiting.clone(), turn: self.turn.clone() }
    }
}

impl<R: Rows> fmt::Debug for Writer<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("waiting", &lock(&self.waiting).len()).finish()
    }
}

impl<R: Rows> Writer<R> {
    pub(super) fn new(database: Database) -> Self {
        Self { database, waiting: Arc::default(), turn: Arc::default() }
    }

    /// Writes rows, together with those of others. When this returns without an error, they are committed. If the
    /// caller is dropped, its rows are written with the next ones.
    pub(super) async fn write(&self, rows: R) -> Result<R::Answer, StoreError> {
        let (done, mut answer) = oneshot::channel();
        lock(&self.waiting).push(WriteRequest { rows, done });
        let answered = tokio::select! {
            biased;
            answered = &mut answer => answered,
            _turn = self.turn.lock() => loop {
                match answer.try_recv() {
                    Ok(answer) => break Ok(answer),
                    Err(TryRecvError::Empty) => self.write_waiting().await,
                    Err(TryRecvError::Closed) => return Err(StoreError::Unanswered),
                }
            },
        };
        answered.unwrap_or(Err(StoreError::Unanswered))
    }

    async fn write_waiting(&self) {
        let mut taken = Taken::new(&self.waiting);
        let written = self.commit(&taken.requests).await;
        let requests = std::mem::take(&mut taken.requests).into_iter();
        // A request that has ended in the meantime does not receive the answer.
        match written {
            Ok(answers) => requests.zip(answers).for_each(|(request, answer)| _ = request.done.send(Ok(answer))),
            Err(error) => {
                let error = Arc::new(error);
                requests.for_each(|request| _ = request.done.send(Err(StoreError::Write(error.clone()))));
            }
        }
    }

    async fn commit(&self, requests: &[WriteRequest<R>]) -> Result<Vec<R::Answer>, sqlx::Error> {
        let mut transaction = self.database.writer.begin_with("BEGIN IMMEDIATE").await?;
        let rows: Vec<&R> = requests.iter().map(|request| &request.rows).collect();
        let answers = R::write(&rows, &mut transaction).await?;
        transaction.commit().await?;
        Ok(answers)
    }
}

/// The requests that are being written. If the writing task is dropped, they are returned to the queue.
struct Taken<R: Rows> {
    requests: Vec<WriteRequest<R>>,
    waiting: Waiting<R>,
}

impl<R: Rows> Taken<R> {
    fn new(waiting: &Waiting<R>) -> Self {
        let mut all = lock(waiting);
        let count = all.len().min(MAX_GATHERED);
        Self { requests: all.drain(..count).collect(), waiting: waiting.clone() }
    }
}

impl<R: Rows> Drop for Taken<R> {
    fn drop(&mut self) {
        lock(&self.waiting).splice(..0, self.requests.drain(..));
    }
}

fn lock<R: Rows>(waiting: &Waiting<R>) -> MutexGuard<'_, Vec<WriteRequest<R>>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
