//! Lines on their way to the writer. Adding one takes a lock and no allocation; the writer is woken for many at once.

use std::io;
use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, oneshot};

/// How many bytes of lines may wait before requests do.
const ROOM: usize = 4 * 1024 * 1024;
/// How long the writer gathers lines that nobody waits for.
const GATHER: Duration = Duration::from_millis(10);
/// A buffer that grew beyond this, in bytes, is not kept for the next lines.
const KEPT: usize = 1024 * 1024;

#[derive(Default)]
pub(super) struct Queue {
    state: Mutex<State>,
    /// For the writer: something has come.
    filled: Condvar,
    /// For requests: there is room again.
    emptied: Notify,
}

#[derive(Default)]
struct State {
    batch: Batch,
    is_urgent: bool,
    has_ended: bool,
}

/// What the writer does next, in this order: open the file anew, write, tell those who wait, end.
#[derive(Default)]
pub(super) struct Batch {
    pub(super) reopen: bool,
    /// Whole lines.
    pub(super) lines: Vec<u8>,
    /// Who asked whether their line is in the file.
    pub(super) waiting: Vec<oneshot::Sender<bool>>,
    pub(super) close: Option<oneshot::Sender<()>>,
}

/// Writes one line without its end.
pub(super) trait WriteLine: FnOnce(&mut Vec<u8>) -> io::Result<()> {}

impl<F: FnOnce(&mut Vec<u8>) -> io::Result<()>> WriteLine for F {}

impl Batch {
    fn is_empty(&self) -> bool {
        self.lines.is_empty() && !self.reopen && self.close.is_none()
    }

    fn has_room(&self) -> bool {
        self.lines.len() < ROOM
    }

    fn add(&mut self, write: impl WriteLine, waiting: Option<oneshot::Sender<bool>>) -> bool {
        let before = self.lines.len();
        if write(&mut self.lines).is_err() {
            self.lines.truncate(before);
            return false;
        }
        self.lines.push(b'\n');
        self.waiting.extend(waiting);
        true
    }
}

impl Queue {
    /// Adds what `write` writes as one line, whose writer `waiting` is told of. False when the writer has ended, or when
    /// there is no line.
    pub(super) fn add(&self, write: impl WriteLine, waiting: Option<oneshot::Sender<bool>>) -> bool {
        self.change(waiting.is_some(), |batch| batch.add(write, waiting))
    }

    /// The same for a line that nobody waits for, and only where fewer bytes wait than may.
    pub(super) fn try_add(&self, write: impl WriteLine) -> bool {
        self.change(false, |batch| batch.has_room() && batch.add(write, None))
    }

    /// Has the file opened anew before what comes from now on is written.
    pub(super) fn reopen(&self) {
        self.change(true, |batch| {
            batch.reopen = true;
            true
        });
    }

    /// Has the writer end, once what came so far is written. False when it has ended.
    pub(super) fn close(&self, closed: oneshot::Sender<()>) -> bool {
        self.change(true, |batch| {
            batch.close = Some(closed);
            true
        })
    }

    fn change(&self, is_urgent: bool, change: impl FnOnce(&mut Batch) -> bool) -> bool {
        let mut state = self.lock();
        if state.has_ended {
            return false;
        }
        let is_first = state.batch.is_empty();
        let is_done = change(&mut state.batch);
        let becomes_urgent = is_urgent && !state.is_urgent;
        state.is_urgent |= is_urgent;
        drop(state);
        if is_first || becomes_urgent {
            self.filled.notify_one();
        }
        is_done
    }

    /// Resolves when fewer bytes wait than may.
    pub(super) async fn wait_for_room(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.lock().batch.has_room() {
                return;
            }
            emptied.await;
        }
    }

    /// Blocks until there is something, gathers for a moment, and takes all of it. `buffer` is for the next lines.
    pub(super) fn take(&self, mut buffer: Vec<u8>) -> Batch {
        let poisoned = PoisonError::into_inner;
        let state = self.filled.wait_while(self.lock(), |state| state.batch.is_empty()).unwrap_or_else(poisoned);
        let gathered = self.filled.wait_timeout_while(state, GATHER, |state| !state.is_urgent);
        let (mut state, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        state.is_urgent = false;
        buffer.clear();
        if buffer.capacity() > KEPT {
            buffer = Vec::new();
        }
        let batch = mem::replace(&mut state.batch, Batch { lines: buffer, ..Batch::default() });
        drop(state);
        self.emptied.notify_waiters();
        batch
    }

    /// Takes nothing from now on.
    pub(super) fn end(&self) {
        let mut state = self.lock();
        state.has_ended = true;
        // Whoever waits for one of these is told by its absence.
        state.batch = Batch::default();
        drop(state);
        self.emptied.notify_waiters();
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
