//! The queue of audit lines for the writer.
//!
//! Each processor core adds lines to a separate batch, so adding a line does not wait for another core, and the writer
//! is woken once for many lines. The writer restores the order in which the lines of all batches were added.

use std::mem;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::{Notify, oneshot};

use crate::runtime::Sharded;

/// The number of bytes that can wait in one batch. When it is reached, requests wait.
const ROOM: usize = 2 * 1024 * 1024;
/// A batch of this size, in bytes, is written at once. Writing more at a time would keep the writer's processor core from
/// its requests for longer; the rest of the room is for what arrives meanwhile.
const ENOUGH: usize = 128 * 1024;
/// How long the writer collects lines that no request waits for.
const GATHER: Duration = Duration::from_millis(10);

#[derive(Default)]
pub(super) struct Queue {
    batches: Sharded<Mutex<Batch>>,
    signal: Mutex<Signal>,
    /// Wakes the writer when there is work.
    filled: Condvar,
    /// Notifies waiting requests that there is room again.
    emptied: Notify,
}

/// Lines of one processor core.
#[derive(Default)]
struct Batch {
    /// Complete lines, concatenated.
    lines: Vec<u8>,
    marks: Vec<Mark>,
    /// Senders that are told whether their line is in the file.
    waiting: Vec<oneshot::Sender<bool>>,
    has_ended: bool,
}

/// The end of a line in its batch, and the time when it was added.
struct Mark {
    at: Instant,
    end: usize,
}

/// The reasons for waking the writer.
#[derive(Default)]
struct Signal {
    has_lines: bool,
    is_urgent: bool,
    reopen: bool,
    close: Option<oneshot::Sender<()>>,
}

/// The next steps of the writer, in this order: reopen the file, write the lines, notify the waiting senders, end.
#[derive(Default)]
pub(super) struct Work {
    pub(super) reopen: bool,
    /// Complete lines, in the order in which they were added.
    pub(super) lines: Vec<u8>,
    /// Senders that are told whether their line is in the file.
    pub(super) waiting: Vec<oneshot::Sender<bool>>,
    pub(super) close: Option<oneshot::Sender<()>>,
}

impl Queue {
    /// Adds a line, which must end in a newline. The writer tells `waiting` whether the line is in the file. Returns
    /// false if the writer has ended.
    pub(super) fn add(&self, line: &[u8], waiting: Option<oneshot::Sender<bool>>) -> bool {
        self.add_where(|_| true, line, waiting)
    }

    /// Adds a line that no request waits for. Returns false if there is no room or the writer has ended.
    pub(super) fn try_add(&self, line: &[u8]) -> bool {
        self.add_where(Batch::has_room, line, None)
    }

    fn add_where(&self, may: fn(&Batch) -> bool, line: &[u8], waiting: Option<oneshot::Sender<bool>>) -> bool {
        let is_awaited = waiting.is_some();
        let mut batch = lock(self.batches.mine());
        if batch.has_ended || !may(&batch) {
            return false;
        }
        let (is_first, before) = (batch.marks.is_empty(), batch.lines.len());
        batch.lines.extend_from_slice(line);
        let mark = Mark { at: Instant::now(), end: batch.lines.len() };
        let is_urgent = is_awaited || (before..mark.end).contains(&ENOUGH);
        batch.marks.push(mark);
        batch.waiting.extend(waiting);
        drop(batch);
        if is_first || is_urgent {
            self.signal(|signal| {
                signal.has_lines = true;
                signal.is_urgent |= is_urgent;
            });
        }
        true
    }

    /// Makes the writer reopen the file before it writes later lines.
    pub(super) fn reopen(&self) {
        self.signal(|signal| (signal.reopen, signal.is_urgent) = (true, true));
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

    /// Resolves when there is room for another line.
    pub(super) async fn wait_for_room(&self) {
        loop {
            let emptied = self.emptied.notified();
            if lock(self.batches.mine()).has_room() {
                return;
            }
            emptied.await;
        }
    }

    /// Blocks until there is work, waits briefly for more unless the work is urgent, and takes all of it.
    pub(super) fn take(&self) -> Work {
        let is_idle = |signal: &mut Signal| !signal.has_lines && !signal.reopen && signal.close.is_none();
        let signal = self.filled.wait_while(lock(&self.signal), is_idle).unwrap_or_else(PoisonError::into_inner);
        let gathered = self.filled.wait_timeout_while(signal, GATHER, |signal| !signal.is_urgent);
        let (mut signal, _) = gathered.unwrap_or_else(PoisonError::into_inner);
        // The signal is taken before the batches: a line that is added in between signals again.
        let Signal { reopen, close, .. } = mem::take(&mut *signal);
        drop(signal);
        Work { reopen, close, ..self.take_lines(false) }
    }

    /// Accepts no more lines. Returns those that were added after the last [`take`](Self::take).
    pub(super) fn end(&self) -> Work {
        self.take_lines(true)
    }

    fn take_lines(&self, has_ended: bool) -> Work {
        // All batches are locked together, so that no line is taken before one that was added earlier.
        let mut locked: Vec<_> = self.batches.iter().map(lock).collect();
        locked.iter_mut().for_each(|batch| batch.has_ended |= has_ended);
        let mut batches: Vec<Batch> = locked.iter_mut().map(|batch| batch.take()).collect();
        drop(locked);
        self.emptied.notify_waiters();
        let waiting = batches.iter_mut().flat_map(|batch| mem::take(&mut batch.waiting)).collect();
        Work { lines: merged(batches), waiting, ..Work::default() }
    }
}

impl Batch {
    fn has_room(&self) -> bool {
        self.lines.len() < ROOM || self.has_ended
    }

    fn take(&mut self) -> Self {
        // The next batch is expected to have about the same size.
        let lines = Vec::with_capacity(self.lines.len().min(ROOM));
        mem::replace(self, Self { lines, has_ended: self.has_ended, ..Self::default() })
    }
}

/// The lines of all batches in the order in which they were added.
fn merged(mut batches: Vec<Batch>) -> Vec<u8> {
    batches.retain(|batch| !batch.marks.is_empty());
    if batches.len() < 2 {
        return batches.pop().map_or_else(Vec::new, |batch| batch.lines);
    }
    let lines = |batch: &Batch| {
        let starts: Vec<usize> = std::iter::once(0).chain(batch.marks.iter().map(|mark| mark.end)).collect();
        batch.marks.iter().zip(starts).map(|(mark, start)| (mark.at, start..mark.end)).collect::<Vec<_>>()
    };
    let mut all: Vec<(Instant, &[u8])> = Vec::new();
    for batch in &batches {
        all.extend(lines(batch).into_iter().map(|(at, range)| (at, &batch.lines[range])));
    }
    all.sort_by_key(|(at, _)| *at);
    let mut merged = Vec::with_capacity(batches.iter().map(|batch| batch.lines.len()).sum());
    all.iter().for_each(|(_, line)| merged.extend_from_slice(line));
    merged
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn lines_of_many_threads_are_written_in_order_of_addition() {
        let queue = Queue::default();
        for number in 0..100 {
            // Each line is added by a new thread, one after the other.
            thread::scope(|scope| _ = scope.spawn(|| assert!(queue.add(format!("{number}\n").as_bytes(), None))));
        }
        let expected: String = (0..100).map(|number| format!("{number}\n")).collect();
        assert_eq!(String::from_utf8(queue.take().lines).unwrap(), expected);
    }

    #[test]
    fn full_batch_rejects_lines_without_a_waiting_request_until_it_is_taken() {
        let queue = Queue::default();
        let line = vec![b'x'; ROOM / 2];
        assert!(queue.try_add(&line) && queue.try_add(&line));
        assert!(!queue.try_add(b"x\n"));
        assert!(queue.add(b"y\n", None), "a line that must not be lost is accepted");
        assert_eq!(queue.take().lines.len(), ROOM + 2);
        assert!(queue.try_add(b"x\n"));
        queue.end();
        assert!(!queue.add(b"x\n", None));
    }

    #[test]
    fn large_batch_is_written_without_waiting_for_more_lines() {
        let queue = Queue::default();
        assert!(queue.try_add(&vec![b'x'; ENOUGH]));
        assert!(!lock(&queue.signal).is_urgent);
        assert!(queue.try_add(b"\n"));
        assert!(lock(&queue.signal).is_urgent);
        queue.take();
        assert!(queue.try_add(b"x\n"));
        assert!(!lock(&queue.signal).is_urgent, "a small batch waits for more");
    }

    /// The writer takes the lines and ends in two separate steps. Requests can add lines in between.
    #[test]
    fn line_added_while_the_writer_ends_is_not_lost() {
        let queue = Queue::default();
        let (closed, _) = oneshot::channel();
        assert!(queue.add(b"first\n", None) && queue.close(closed));
        let last = queue.take();
        assert!(last.lines == b"first\n" && last.close.is_some());
        assert!(queue.add(b"second\n", None));
        assert_eq!(queue.end().lines, b"second\n");
        assert!(!queue.add(b"third\n", None) && queue.end().lines.is_empty());
    }
}
