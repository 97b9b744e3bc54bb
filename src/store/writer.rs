//! Writes the rows of many requests in one transaction.
//!
//! Each request adds its rows to the waiting rows. The first request that acquires the lock writes all of them, and
//! then all waiting requests are notified together. A request waits at most for the current transaction and the next
//! one. A successful answer means that the rows are committed.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::oneshot::{self, error::TryRecvError};

use super::database::Database;
use super::{NewContent, NewFacts, StoreError};

/// The maximum number of requests whose rows are written in one transaction.
const MAX_GATHERED: usize = 1000;
/// How long rows are gathered for a transaction while several requests write at the same time. A transaction costs as
/// much as the rows of several requests, and each of these has waited for an upstream.
const GATHER: Duration = Duration::from_millis(5);

/// The rows of one request. Both stores share the transactions, because a pull writes rows of both.
#[derive(Debug)]
pub(super) enum NewRows {
    Content(NewContent),
    Facts(NewFacts),
}

impl NewRows {
    /// The number of rows.
    fn count(&self) -> u64 {
        match self {
            Self::Content(content) => content.rows(),
            Self::Facts(facts) => facts.rows(),
        }
    }
}

/// Collects rows and writes them. Cheap to clone.
#[derive(Clone)]
pub(super) struct Writer {
    database: Database,
    waiting: Waiting,
    /// The number of requests in the last transaction. The holder of the lock writes.
    turn: Arc<tokio::sync::Mutex<usize>>,
}

type Waiting = Arc<Mutex<Vec<WriteRequest>>>;

/// Rows that wait to be written, and the sender that notifies their request.
struct WriteRequest {
    rows: NewRows,
    done: oneshot::Sender<Result<bool, StoreError>>,
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("waiting", &lock(&self.waiting).len()).finish()
    }
}

impl Writer {
    pub(super) fn new(database: Database) -> Self {
        Self { database, waiting: Arc::default(), turn: Arc::default() }
    }

    /// Writes rows, together with those of others. When this returns without an error, they are committed. If the
    /// caller is dropped, its rows are written with the next ones, or when the database is closed. Returns false for
    /// content that was recorded before.
    pub(super) async fn write(&self, rows: NewRows) -> Result<bool, StoreError> {
        let (done, mut answer) = oneshot::channel();
        lock(&self.waiting).push(WriteRequest { rows, done });
        let answered = tokio::select! {
            biased;
            answered = &mut answer => answered,
            mut last = self.turn.lock() => loop {
                match answer.try_recv() {
                    Ok(answer) => break Ok(answer),
                    Err(TryRecvError::Empty) => {
                        if *last > 1 {
                            tokio::time::sleep(GATHER).await;
                        }
                        *last = self.write_waiting().await;
                    }
                    Err(TryRecvError::Closed) => return Err(StoreError::Unanswered),
                }
            },
        };
        answered.unwrap_or(Err(StoreError::Unanswered))
    }

    /// Writes the rows of requests that ended before they were written, if no other request has done it.
    pub(super) async fn flush(&self) {
        let mut last = self.turn.lock().await;
        while !lock(&self.waiting).is_empty() {
            *last = self.write_waiting().await;
        }
    }

    /// Returns the number of requests whose rows were written.
    async fn write_waiting(&self) -> usize {
        let mut taken = Taken::new(&self.waiting);
        let written = self.commit(&taken.requests).await;
        let requests = std::mem::take(&mut taken.requests).into_iter();
        let count = requests.len();
        // A request that has ended in the meantime does not receive the answer.
        match written {
            Ok(answers) => requests.zip(answers).for_each(|(request, answer)| _ = request.done.send(Ok(answer))),
            Err(error) => {
                self.database.health.note(&error);
                let error = Arc::new(error);
                let answers = requests.map(|request| request.done.send(Err(StoreError::Write(error.clone()))));
                let lost = answers.filter(Result::is_err).count();
                if lost > 0 {
                    tracing::warn!(%error, requests = lost, "facts of requests that have ended cannot be written");
                }
            }
        }
        count
    }

    async fn commit(&self, requests: &[WriteRequest]) -> Result<Vec<bool>, sqlx::Error> {
        let (mut contents, mut facts) = (Vec::new(), Vec::new());
        for request in requests {
            match &request.rows {
                NewRows::Content(content) => contents.push(content),
                NewRows::Facts(new) => facts.push(new),
            }
        }
        let mut transaction = self.database.writer.begin_with("BEGIN IMMEDIATE").await?;
        let mut are_new = NewContent::write(&contents, &mut transaction).await?.into_iter();
        NewFacts::write(&facts, &mut transaction).await?;
        transaction.commit().await?;
        self.database.journal.wrote(requests.iter().map(|request| request.rows.count()).sum());
        let answer = |request: &WriteRequest| match request.rows {
            NewRows::Content(_) => are_new.next().unwrap_or(true),
            NewRows::Facts(_) => true,
        };
        Ok(requests.iter().map(answer).collect())
    }
}

/// The requests that are being written. If the writing task is dropped, they are returned to the queue.
struct Taken {
    requests: Vec<WriteRequest>,
    waiting: Waiting,
}

impl Taken {
    fn new(waiting: &Waiting) -> Self {
        let mut all = lock(waiting);
        let count = all.len().min(MAX_GATHERED);
        Self { requests: all.drain(..count).collect(), waiting: waiting.clone() }
    }
}

impl Drop for Taken {
    fn drop(&mut self) {
        lock(&self.waiting).splice(..0, self.requests.drain(..));
    }
}

fn lock(waiting: &Waiting) -> MutexGuard<'_, Vec<WriteRequest>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
