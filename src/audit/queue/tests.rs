//! Tests for the order of lines, their room, and the end.

use std::thread;

use super::*;

fn take(queue: &Queue) -> TakenLines {
    let mut taken = TakenLines::default();
    queue.take(&mut taken);
    taken
}

fn end(queue: &Queue) -> TakenLines {
    let mut taken = TakenLines::default();
    queue.end(&mut taken);
    taken
}

#[test]
fn lines_of_many_threads_are_written_in_order_of_addition() {
    let queue = Queue::default();
    for number in 0..100 {
        // Each line is added by a new thread, one after the other.
        thread::scope(|scope| {
            _ = scope.spawn(|| assert_eq!(queue.add(format!("{number}\n").as_bytes(), None), Added::Queued));
        });
    }
    let expected: String = (0..100).map(|number| format!("{number}\n")).collect();
    assert_eq!(String::from_utf8(take(&queue).lines).unwrap(), expected);
}

#[test]
fn full_batch_rejects_lines_without_a_waiting_request_until_it_is_taken() {
    let queue = Queue::default();
    let line = vec![b'x'; ROOM / 2];
    assert!(queue.try_add(&line) && queue.try_add(&line));
    assert!(!queue.try_add(b"x\n"));
    assert_eq!(queue.add(b"y\n", None), Added::Queued, "a line that must not be lost is accepted");
    assert_eq!(take(&queue).lines.len(), ROOM + 2);
    assert!(queue.try_add(b"x\n"));
    end(&queue);
    assert_eq!(queue.add(b"x\n", None), Added::Ended);
}

#[test]
fn lines_that_do_not_wait_for_room_are_bounded_and_more_so_while_the_disk_hangs() {
    let queue = Queue::default();
    let line = vec![b'x'; ROOM];
    (0..4).for_each(|_| assert_eq!(queue.add(&line, None), Added::Queued));
    let (done, _) = oneshot::channel();
    assert_eq!((queue.add(b"x\n", None), queue.add(b"x\n", Some(done))), (Added::Full, Added::Full));
    take(&queue);
    queue.set_hangs(true);
    assert_eq!((queue.add(&line, None), queue.add(b"x\n", None)), (Added::Queued, Added::Full));
    queue.set_hangs(false);
    assert_eq!(queue.add(b"x\n", None), Added::Queued);
}

#[test]
fn large_batch_is_written_without_waiting_for_more_lines() {
    let queue = Queue::default();
    assert!(queue.try_add(&vec![b'x'; ENOUGH]));
    assert!(!lock(&queue.signal).is_urgent);
    assert!(queue.try_add(b"\n"));
    assert!(lock(&queue.signal).is_urgent);
    take(&queue);
    assert!(queue.try_add(b"x\n"));
    assert!(!lock(&queue.signal).is_urgent, "a small batch waits for more");
}

/// The batch of the first line has had its turn when the second line arrives in another batch.
#[test]
fn line_that_is_added_during_a_take_is_left_and_signalled() {
    let queue = Queue::default();
    queue.add(b"first\n", None);
    let until = Instant::now();
    let (written, _) = oneshot::channel();
    queue.add(b"second\n", Some(written));
    queue.add(b"third\n", None);
    let mut taken = TakenLines::default();
    assert_eq!(queue.take_lines(&mut taken, Some(until)), Some(true), "a request waits for a line that is left");
    assert_eq!((&*taken.lines, taken.waiting.len()), (&b"first\n"[..], 0));
    assert_eq!(queue.take_lines(&mut taken, Some(Instant::now())), None);
    assert_eq!((&*taken.lines, taken.waiting.len()), (&b"second\nthird\n"[..], 1));
}

/// The writer takes the lines and ends in two separate steps. Requests can add lines in between.
#[test]
fn line_added_while_the_writer_ends_is_not_lost() {
    let queue = Queue::default();
    let (closed, _) = oneshot::channel();
    queue.add(b"first\n", None);
    assert!(queue.close(closed));
    let mut last = TakenLines::default();
    assert!(queue.take(&mut last).close.is_some() && last.lines == b"first\n");
    queue.add(b"second\n", None);
    assert_eq!(end(&queue).lines, b"second\n");
    assert_eq!(queue.add(b"third\n", None), Added::Ended);
    assert!(end(&queue).lines.is_empty());
}
