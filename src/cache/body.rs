//! Serves content as an HTTP body: complete or growing files and memory, in chunks, without delaying other responses.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::watch;

use super::Opened;
use super::buffers::PIECE;
use super::disk::blocking;
use super::fill::{Follower, Progress};
use super::reading::Reading;
use super::relay::RelayStream;

/// The size of a read, in bytes. The buffer is held until the client has taken the data.
pub(super) const PIECE: usize = 256 * 1024;
/// The maximum size of a slice of a file window, in bytes. It uses no memory, and sending it takes a fifth of a
/// millisecond on another thread.
const WINDOW_PIECE: usize = 1024 * 1024;
/// The number of chunks after which the task yields: a body that is always ready would starve other tasks.
const CHUNKS_BEFORE_YIELD: u32 = 1;

/// How file content reaches the connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Transfer {
    /// Copied into memory, for connections that transform it: TLS.
    Copied,
    /// As slices of a [`FileWindow`](crate::runtime::FileWindow), for connections that use `sendfile`.
    Lent,
}

/// A range of some content. Its length is known in advance, and it ends with an error rather than early.
pub struct ContentBody {
    source: Source,
    /// The file window, if slices of it are sent.
    window: Option<Bytes>,
    position: u64,
    end: u64,
    in_a_row: u32,
    waiting: Option<Waiting>,
}

enum Source {
    File(Arc<Reading>),
    Growing { follower: Follower, progress: watch::Receiver<Progress> },
    Memory(Bytes),
    Relayed(Box<RelayStream>),
}

enum Waiting {
    Event(Pin<Box<dyn Future<Output = ()> + Send>>),
    Read(Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send>>),
}

impl ContentBody {
    pub(super) fn new(opened: &Opened, start: u64, end: u64, transfer: Transfer) -> Self {
        let end = end.min(opened.size());
        let start = start.min(end);
        let (source, window) = match opened {
            Opened::File(reading) => (Source::File(reading.clone()), reading.file().window()),
            Opened::Filling(follower) => {
                let progress = follower.progress();
                (Source::Growing { follower: follower.clone(), progress }, follower.file().window())
            }
            Opened::Memory(bytes) => (Source::Memory(bytes.clone()), None),
            Opened::Relayed(relay) => (Source::Relayed(Box::new(relay.stream(start, end))), None),
        };
        let window = window.filter(|_| transfer == Transfer::Lent);
        Self { source, window, position: start, end, in_a_row: 0, waiting: None }
    }

    /// Returns the next chunk if it is available; otherwise starts to read or wait.
    fn advance(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        let readable = match &mut self.source {
            Source::File(_) | Source::Memory(_) => self.end,
            Source::Relayed(stream) => return stream.poll_piece(cx).map(|piece| piece.map(Some)),
            Source::Growing { follower, progress } => {
                let now = progress.borrow().clone();
                match now {
                    Progress::Complete => self.end,
                    Progress::Readable(mark) => mark.min(self.end),
                    // The bytes so far are correct; the rest is streamed through.
                    Progress::DiskFailed => {
                        let rest = follower.relay().stream(self.position, self.end);
                        self.source = Source::Relayed(Box::new(rest));
                        return Poll::Ready(Ok(None));
                    }
                    Progress::Failed(kind, why) => return Poll::Ready(Err(io::Error::new(kind, why))),
                }
            }
        };
        Poll::Ready(self.read(readable))
    }

    fn read(&mut self, readable: u64) -> io::Result<Option<Bytes>> {
        if readable <= self.position {
            self.waiting = Some(Waiting::Event(self.progress_beyond(self.position)));
            return Ok(None);
        }
        let available = usize::try_from(readable - self.position).unwrap_or(usize::MAX);
        let file = match &self.source {
            Source::Memory(bytes) => {
                let start = usize::try_from(self.position).unwrap_or(usize::MAX);
                return Ok(Some(bytes.slice(start..start + available)));
            }
            Source::File(reading) => reading.file(),
            Source::Growing { follower, .. } => follower.file(),
            Source::Relayed(_) => return Ok(None),
        };
        if let Some(window) = &self.window {
            let (start, length) = (usize::try_from(self.position).unwrap_or(usize::MAX), available.min(WINDOW_PIECE));
            // sendfile would read from disk on this thread; data that is not in the page cache is read on another
            // thread.
            if is_cached(&file, self.position, length) {
                return Ok(Some(window.slice(start..start + length)));
            }
        }
        let length = available.min(PIECE);
        if let Some(piece) = file.read_cached(self.position, length)? {
            return Ok(Some(piece));
        }
        let (file, position) = (file.clone(), self.position);
        self.waiting = Some(Waiting::Read(Box::pin(blocking(move || file.read(position, length)))));
        Ok(None)
    }

    fn progress_beyond(&self, position: u64) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let Source::Growing { progress, .. } = &self.source else { return Box::pin(std::future::ready(())) };
        let mut progress = progress.clone();
        Box::pin(async move {
            let moved = |now: &Progress| !matches!(now, Progress::Readable(mark) if *mark <= position);
            // The fill publishes its outcome before it is dropped, so an error here is handled like that outcome.
            let _ = progress.wait_for(moved).await;
        })
    }

    /// Ends this response, and removes the content so that later requests do not use it.
    fn unreadable(&self, error: &io::Error) {
        if let Source::File(reading) = &self.source {
            reading.discard(error);
        }
    }

    fn give(&mut self, piece: Bytes) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.position += piece.len() as u64;
        self.in_a_row += 1;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

impl Body for ContentBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            match &mut self.waiting {
                Some(Waiting::Event(event)) => std::task::ready!(event.as_mut().poll(cx)),
                Some(Waiting::Read(read)) => {
                    let piece = std::task::ready!(read.as_mut().poll(cx));
                    let piece = piece.inspect_err(|error| self.unreadable(error))?;
                    self.waiting = None;
                    return self.give(piece);
                }
                None => {}
            }
            self.waiting = None;
            if self.position >= self.end {
                return Poll::Ready(None);
            }
            if self.in_a_row >= CHUNKS_BEFORE_YIELD {
                self.in_a_row = 0;
                // Not by waking itself: tokio would then wake another worker to take over the task, away from its data.
                self.waiting = Some(Waiting::Event(Box::pin(tokio::task::yield_now())));
                continue;
            }
            let piece = std::task::ready!(self.advance(cx));
            if let Some(piece) = piece.inspect_err(|error| self.unreadable(error))? {
                return self.give(piece);
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.position >= self.end
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(self.end - self.position)
    }
}

/// Whether a range of a file is in the page cache, judged by its first and last byte, because data read in order is
/// evicted in order.
fn is_cached(file: &File, position: u64, length: usize) -> bool {
    let has = |at| {
        let mut byte = [0];
        matches!(preadv2(file, &mut [IoSliceMut::new(&mut byte)], at, ReadWriteFlags::NOWAIT), Ok(1))
    };
    has(position) && has(position + length as u64 - 1)
}

/// Reads from the page cache, on this thread. `None` if the data is not there, or the file system cannot tell.
fn read_cached(file: &File, position: u64, length: usize) -> io::Result<Option<Bytes>> {
    let mut piece = Buffer::take(length);
    match preadv2(file, &mut [IoSliceMut::new(piece.bytes_mut())], position, ReadWriteFlags::NOWAIT) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(read) => Ok(Some(piece.filled(read))),
        Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn read(file: &File, position: u64, length: usize) -> io::Result<Bytes> {
    let mut piece = Buffer::take(length);
    file.read_exact_at(piece.bytes_mut(), position)?;
    Ok(piece.filled(length))
}
