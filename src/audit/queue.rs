//! The queue of audit lines for the writer.
//!
//! Each processor core adds lines to a separate batch, so adding a line does not wait for another core, and the writer
//! is woken once for many lines. The writer restores the order in which the lines of all batches were added.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use crate::runtime::Sharded;

/// The number of bytes that can wait in one batch. When it is reached, requests wait.
const ROOM: usize = 2 * 1024 * 1024;
/// The number of bytes at which a batch takes no more lines at all. Lines of clients that have left, and those that are
/// confirmed, do not wait for room; while a disk hangs, they must not take all memory.
const MOST: usize = 4 * ROOM;
/// A batch of this size, in bytes, is written at once. Writing more at a time would keep the writer's processor core
/// from its requests for longer; the rest of the room is for what arrives meanwhile.
const ENOUGH: usize = 128 * 1024;
/// How long the writer collects lines that no request waits for.
const GATHER: Duration = Duration::from_millis(10);

#[derive(Default)]
pub(super) struct Queue {
    batches: Sharded<Mutex<Batch>>,
    signal: Mutex<Signal>,
    /// Wakes the writer when there is work.
    filled: Condvar,
    /// Notifies waiting requests that there is room again, or that there will be none soon.
    emptied: Notify,
    /// Whether the disk does not answer the writer.
    hangs: AtomicBool,
    /// Notifies requests that wait for their line that it will not be written soon.
    hung: Notify,
}

/// What became of a line.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Added {
    /// It will be written.
    Queued,
    /// There is no room.
    Full,
    /// The writer has ended.
    Ended,
}

/// Lines of one processor core.
#[derive(Default)]
struct Batch {
    /// Complete lines, concatenated.
    lines: Vec<u8>,
    marks: Vec<Mark>,
    has_ended: bool,
}

/// The end of a line in its batch, and the time when it was added.
struct Mark {
    at: Instant,
    end: usize,
    /// Is told whether the line is in the file.
    waiting: Option<oneshot::Sender<bool>>,
}

/// The reasons for waking the writer.
#[derive(Default)]
struct Signal {
    has_lines: bool,
    is_urgent: bool,
    reopen: Vec<ReopenSender>,
    close: Option<oneshot::Sender<()>>,
}

/// Is told whether the file was reopened, or why not.
pub(super) type ReopenSender = Sender<Result<(), String>>;

/// The next steps of the writer, in this order: reopen the file, write the lines, end.
pub(super) struct Work {
    pub(super) reopen: Vec<ReopenSender>,
    pub(super) close: Option<oneshot::Sender<()>>,
}

/// The lines that the writer has taken. Its buffers are used again, because new ones would have to be mapped.
#[derive(Default)]
pub(super) struct TakenLines {
    /// Complete lines, in the order in which they were added.
    pub(super) lines: Vec<u8>,
    /// Senders that are told whether their line is in the file.
    pub(super) waiting: Vec<oneshot::Sender<bool>>,
    /// One for each batch of the queue, to exchange it with. Empty after [`merge`](Self::merge).
    batches: Vec<Batch>,
}

impl Queue {
    /// Adds a line, which must end in a newline. The writer tells `waiting` whether the line is in the file. While the
    /// disk hangs, there is only the room that requests otherwise wait for.
    pub(super) fn add(&self, line: &[u8], waiting: Option<oneshot::Sender<bool>>) -> Added {
        self.add_within(if self.hangs() { ROOM } else { MOST }, line, waiting)
    }

    /// Adds a line that no request waits for. Returns false if there is no room or the writer has ended.
    pub(super) fn try_add(&self, line: &[u8]) -> bool {
        self.add_within(ROOM, line, None) == Added::Queued
    }

    fn add_within(&self, most: usize, line: &[u8], waiting: Option<oneshot::Sender<bool>>) -> Added {
        let is_awaited = waiting.is_some();
        let mut batch = lock(self.batches.mine());
        if batch.has_ended {
            return Added::Ended;
        }
        if batch.lines.len() >= most {
            return Added::Full;
        }
        let (is_first, before) = (batch.marks.is_empty(), batch.lines.len());
        batch.lines.extend_from_slice(line);
        let mark = Mark { at: Instant::now(), end: batch.lines.len(), waiting };
        let is_urgent = is_awaited || (before..mark.end).contains(&ENOUGH);
        batch.marks.push(mark);
        drop(batch);
        if is_first || is_urgent {
            self.signal(|signal| {
                signal.has_lines = true;
                signal.is_urgent |= is_urgent;
            });
        }
        Added::Queued
    }

    /// Makes the writer reopen the file before it writes later lines. Returns false if it has already ended.
    pub(super) fn reopen(&self, reopened: ReopenSender) -> bool {
        if lock(self.batches.mine()).has_ended {
            return false;
        }
        self.signal(|signal| {
            signal.reopen.push(reopened);
            signal.is_urgent = true;
        });
        true
    }

    /// Makes the writer end after it has written all earlier lines. Returns false if it has already ended.
    pub(super) fn close(&self, closed: oneshot::Sender<()>) -> bool {
        if lock(self.batches.mine()).has_ended {
            return false;
        }
        self.signal(|signal| (signal.close, signal.is_urgent) = (Some(closed), true));
        true
    }

    fn signal(&self, change: impl FnOnce(&mut Signal)) {
        change(&mut lock(&self.signal));
        self.filled.notify_one();
    }

    /// Resolves when there is room for another line, or the disk hangs, so that there will be none soon.
    pub(super) async fn wait_for_room(&self) {
        loop {
            let emptied = self.emptied.notified();
            if self.hangs() || lock(self.batches.mine()).has_room() {
                return;
            }
            emptied.await;
        }
    }

    /// Whether the disk does not answer the writer.
    pub(super) fn hangs(&self) -> bool {
        self.hangs.load(Ordering::Acquire)
    }

    /// Resolves when the disk hangs.
    pub(super) async fn hung(&self) {
        loop {
            let hung = self.hung.notified();
            if self.hangs() {
                return;
            }
            hung.await;
        }
    }

    /// Says whether the disk hangs.
    pub(super) fn set_hangs(&self, hangs: bool) {
        self.hangs.store(hangs, Ordering::Release);
        if hangs {
            self.emptied.notify_waiters();
            self.hung.notify_waiters();
        }
    }

    /// Blocks until there is work, waits briefly for more unless the work is urgent, and takes all of it.
    pub(super) fn take(&self, taken: &mut TakenLines) -> Work {
        let signal = self.filled.wait_while(lock(&self.signal), is_idle);
        self.gather(signal.unwrap_or_else(PoisonError::into_inner), taken)
    }

    /// As above; `None` if there is a limit and no work arrives within it.
    pub(super) fn take_within(&self, limit: Option<Duration>, taken: &mut TakenLines) -> Option<Work> {
        let Some(limit) = limit else { return Some(self.take(taken)) };
        let waited = self.filled.wait_timeout_while(lock(&self.signal), limit, is_idle);
        let (mut signal, _) = waited.unwrap_or_else(PoisonError::into_inner);
        if is_idle(&mut signal) { None } else { Some(self.gather(signal, taken)) }
    }

    fn gather(&self, signal: MutexGuard<'_, Signal>, taken: &mut TakenLines) -> Work {
        let gathered = self.filled.wait_timeout_while(signal, GATHER, |signal| !signal.is_urgent);
        let (mut signal, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        // The signal is taken before the batches: a line that is added in between signals again.
        let Signal { reopen, close, .. } = mem::take(&mut *signal);
        drop(signal);
        if let Some(is_urgent) = self.take_lines(taken, Some(Instant::now())) {
            self.signal(|signal| {
                signal.has_lines = true;
                signal.is_urgent |= is_urgent;
            });
        }
        Work { reopen, close }
    }

    /// Accepts no more lines, and takes those that were added after the last [`take`](Self::take).
    pub(super) fn end(&self, taken: &mut TakenLines) {
        self.take_lines(taken, None);
    }

    /// Takes the lines that were added until a time, or ends the queue and takes all. Returns whether a request waits
    /// for one of the lines that are left, if there are any.
    ///
    /// The batches are locked one after the other, each for a moment: if the writer loses its processor core while it
    /// has a lock, the requests of one core wait, not those of all. A line that is added to a batch after its turn is
    /// later than `until`, so leaving later lines in all batches keeps the order.
    fn take_lines(&self, taken: &mut TakenLines, until: Option<Instant>) -> Option<bool> {
        taken.batches.resize_with(self.batches.iter().len(), Batch::default);
        let mut left = None;
        for (batch, mine) in self.batches.iter().zip(&mut taken.batches) {
            let mut batch = lock(batch);
            batch.has_ended |= until.is_none();
            mem::swap(&mut *batch, mine);
            batch.has_ended = mine.has_ended;
            if let Some(until) = until {
                mine.move_later(until, &mut batch);
            }
            if !batch.marks.is_empty() {
                let is_awaited = batch.marks.iter().any(|mark| mark.waiting.is_some());
                left = Some(left.unwrap_or(false) || is_awaited);
            }
        }
        self.emptied.notify_waiters();
        taken.merge();
        left
    }
}

impl Batch {
    fn has_room(&self) -> bool {
        self.lines.len() < ROOM || self.has_ended
    }

    /// The lines, each with the time when it was added.
    fn marked_lines(&self) -> impl Iterator<Item = (Instant, &[u8])> {
        let starts = std::iter::once(0).chain(self.marks.iter().map(|mark| mark.end));
        self.marks.iter().zip(starts).map(|(mark, start)| (mark.at, &self.lines[start..mark.end]))
    }

    /// Moves the lines that were added after `until` to an empty batch.
    fn move_later(&mut self, until: Instant, later: &mut Self) {
        let first = self.marks.partition_point(|mark| mark.at <= until);
        let start = first.checked_sub(1).map_or(0, |last| self.marks[last].end);
        later.lines.extend_from_slice(&self.lines[start..]);
        later.marks.extend(self.marks.drain(first..).map(|mark| Mark { end: mark.end - start, ..mark }));
        self.lines.truncate(start);
    }

    /// Removes the lines. A buffer that was needed once for a burst is given back.
    fn clear(&mut self) {
        self.lines.clear();
        self.lines.shrink_to(2 * ENOUGH);
        self.marks.clear();
        self.marks.shrink_to(2 * ENOUGH / size_of::<Mark>());
    }
}

impl TakenLines {
    /// Restores the order in which the lines of all batches were added.
    fn merge(&mut self) {
        self.lines.clear();
        let mut filled = self.batches.iter_mut().filter(|batch| !batch.marks.is_empty());
        if let (Some(only), None) = (filled.next(), filled.next()) {
            mem::swap(&mut self.lines, &mut only.lines);
        } else {
            let mut all: Vec<(Instant, &[u8])> = self.batches.iter().flat_map(Batch::marked_lines).collect();
            all.sort_by_key(|(at, _)| *at);
            all.iter().for_each(|(_, line)| self.lines.extend_from_slice(line));
        }
        let marks = self.batches.iter_mut().flat_map(|batch| &mut batch.marks);
        self.waiting = marks.filter_map(|mark| mark.waiting.take()).collect();
        self.batches.iter_mut().for_each(Batch::clear);
    }
}

fn is_idle(signal: &mut Signal) -> bool {
    !signal.has_lines && signal.reopen.is_empty() && signal.close.is_none()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
