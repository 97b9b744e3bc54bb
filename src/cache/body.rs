//! Serves content as an HTTP body: complete files, growing files and memory, in chunks, without delaying other
//! responses.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use tokio::sync::watch;

use super::Opened;
use super::ahead::PartsAhead;
use super::buffers::PIECE;
use super::content_file::ContentFile;
use super::disk::blocking;
use super::fill::{FillProgress, Follower};
use super::reading::Reading;
use super::relay::RelayStream;

/// The number of bytes of a window in one chunk. A chunk takes no memory, and sending it occupies the thread that
/// serves the connection for 0.2 ms at most. With smaller chunks, the processor time for each byte grows.
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

/// A range of some content. Its length is known in advance, and a body that cannot deliver all of it ends with an
/// error.
pub struct ContentBody {
    source: BodySource,
    /// The window of the file, if its bytes are sent with `sendfile`.
    window: Option<Bytes>,
    position: u64,
    end: u64,
    in_a_row: u32,
    /// Whether a part that is far ahead of its download was requested separately.
    has_asked_ahead: bool,
    waiting: Option<BodyWaiting>,
}

enum BodySource {
    File(Arc<Reading>),
    Growing { follower: Follower, progress: watch::Receiver<FillProgress> },
    Memory(Bytes),
    Relayed(Box<RelayStream>),
}

enum BodyWaiting {
    Event(Pin<Box<dyn Future<Output = ()> + Send>>),
    /// All that is left of the range, or nothing if the download has to be followed.
    Part(Pin<Box<dyn Future<Output = Option<Bytes>> + Send>>),
    Read(Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send>>),
}

impl ContentBody {
    pub(super) fn new(opened: &Opened, start: u64, end: u64, transfer: Transfer) -> Self {
        let end = end.min(opened.size());
        let start = start.min(end);
        let (source, window) = match opened {
            Opened::File(reading) => (BodySource::File(reading.clone()), window_of(reading.file(), transfer)),
            Opened::Filling(follower) => {
                let progress = follower.progress();
                (BodySource::Growing { follower: follower.clone(), progress }, window_of(follower.file(), transfer))
            }
            Opened::Memory(bytes) => (BodySource::Memory(bytes.clone()), None),
            Opened::Relayed(relay) => (BodySource::Relayed(Box::new(relay.stream(start, end))), None),
        };
        Self { source, window, position: start, end, in_a_row: 0, has_asked_ahead: false, waiting: None }
    }

    /// Returns the next chunk if it is available; otherwise starts to read or wait.
    fn advance(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Option<Bytes>>> {
        let readable = match &mut self.source {
            BodySource::File(_) | BodySource::Memory(_) => self.end,
            BodySource::Relayed(stream) => return stream.poll_piece(cx).map(|piece| piece.map(Some)),
            BodySource::Growing { follower, progress } => {
                let now = progress.borrow().clone();
                match now {
                    FillProgress::Complete => self.end,
                    FillProgress::Readable(mark) => mark.min(self.end),
                    // The bytes read so far are correct; the rest bypasses the disk.
                    FillProgress::DiskFailed => {
                        let rest = follower.relay().stream(self.position, self.end);
                        self.source = BodySource::Relayed(Box::new(rest));
                        return Poll::Ready(Ok(None));
                    }
                    FillProgress::Failed(kind, why) => return Poll::Ready(Err(io::Error::new(kind, why))),
                }
            }
        };
        Poll::Ready(self.read(readable))
    }

    fn read(&mut self, readable: u64) -> io::Result<Option<Bytes>> {
        if readable <= self.position {
            self.waiting = Some(self.wait(readable));
            return Ok(None);
        }
        let available = usize::try_from(readable - self.position).unwrap_or(usize::MAX);
        let file = match &self.source {
            BodySource::Memory(bytes) => {
                let start = usize::try_from(self.position).unwrap_or(usize::MAX);
                return Ok(Some(bytes.slice(start..start + available)));
            }
            BodySource::File(reading) => reading.file(),
            BodySource::Growing { follower, .. } => follower.file(),
            BodySource::Relayed(_) => return Ok(None),
        };
        if let Some(window) = &self.window {
            let (start, length) = (usize::try_from(self.position).unwrap_or(usize::MAX), available.min(WINDOW_PIECE));
            // `sendfile` would read from the disk on this thread, so bytes that are not in memory are read on another
            // thread.
            if file.is_cached(self.position, length) {
                return Ok(Some(window.slice(start..start + length)));
            }
        }
        let length = available.min(PIECE);
        if let Some(piece) = file.read_cached(self.position, length)? {
            return Ok(Some(piece));
        }
        let (file, position) = (file.clone(), self.position);
        self.waiting = Some(BodyWaiting::Read(Box::pin(blocking(move || file.read(position, length)))));
        Ok(None)
    }

    /// Waits for the download, which has written this many bytes, or for the part if that is requested separately.
    fn wait(&mut self, written: u64) -> BodyWaiting {
        let moved = self.progress_beyond(self.position);
        let part = self.position..self.end;
        match &self.source {
            BodySource::Growing { follower, .. }
                if !self.has_asked_ahead && PartsAhead::is_worthwhile(&part, written) =>
            {
                self.has_asked_ahead = true;
                let follower = follower.clone();
                BodyWaiting::Part(Box::pin(async move {
                    tokio::select! {
                        biased;
                        () = moved => None,
                        part = follower.part_ahead(part) => part,
                    }
                }))
            }
            _ => BodyWaiting::Event(moved),
        }
    }

    fn progress_beyond(&self, position: u64) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let BodySource::Growing { progress, .. } = &self.source else { return Box::pin(std::future::ready(())) };
        let mut progress = progress.clone();
        Box::pin(async move {
            let moved = |now: &FillProgress| !matches!(now, FillProgress::Readable(mark) if *mark <= position);
            // The fill reports how it ended before it is dropped, so an error here is handled as that end.
            let _ = progress.wait_for(moved).await;
        })
    }

    /// Fails this response, and removes the content so that later requests do not use it.
    fn unreadable(&self, error: &io::Error) {
        if let BodySource::File(reading) = &self.source {
            reading.discard(error);
        }
    }

    fn give(&mut self, piece: Bytes) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        self.position += piece.len() as u64;
        self.in_a_row += 1;
        Poll::Ready(Some(Ok(Frame::data(piece))))
    }
}

/// The window of a file, which is not mapped for a connection that copies.
fn window_of(file: &ContentFile, transfer: Transfer) -> Option<Bytes> {
    match transfer {
        Transfer::Copied => None,
        Transfer::Lent => file.window(),
    }
}

impl Body for ContentBody {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        loop {
            match &mut self.waiting {
                Some(BodyWaiting::Event(event)) => std::task::ready!(event.as_mut().poll(cx)),
                Some(BodyWaiting::Part(part)) => {
                    let part = std::task::ready!(part.as_mut().poll(cx));
                    self.waiting = None;
                    if let Some(mut part) = part {
                        let rest = part.split_off(part.len().min(PIECE));
                        if !rest.is_empty() {
                            self.waiting = Some(BodyWaiting::Part(Box::pin(std::future::ready(Some(rest)))));
                        }
                        return self.give(part);
                    }
                }
                Some(BodyWaiting::Read(read)) => {
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
                // The task does not wake itself: tokio would then wake another worker to steal the task, away from its
                // cached data.
                self.waiting = Some(BodyWaiting::Event(Box::pin(tokio::task::yield_now())));
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

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::super::content_file::FileMemory;
    use super::*;

    #[test]
    fn a_file_is_not_mapped_to_be_copied() {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(b"content", 0).unwrap();
        let file = ContentFile::new(Arc::new(file), 7, FileMemory::default());
        assert!(window_of(&file, Transfer::Copied).is_none() && !file.is_mapped());
        assert!(window_of(&file, Transfer::Lent).is_some() && file.is_mapped());
    }
}
