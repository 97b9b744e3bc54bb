//! Content as an HTTP body: complete or growing files and memory, in pieces, without holding up anybody else.

use std::fs::File;
use std::future::Future;
use std::io::{self, IoSliceMut};
use std::os::unix::fs::FileExt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use rustix::io::{Errno, ReadWriteFlags, preadv2};
use tokio::sync::watch;

use super::Opened;
use super::disk::blocking;
use super::fill::Progress;

/// How much is read at once, in bytes.
const PIECE: u64 = 256 * 1024;
/// After so many pieces in a row the task lets others run: a body that is always ready starves its neighbours.
const PIECES_IN_A_ROW: u32 = 2;

/// A part of some content. Its length is known, and it ends with an error rather than short.
pub struct ContentBody {
    source: Source,
    position: u64,
    end: u64,
    in_a_row: u32,
    waiting: Option<Waiting>,
}

enum Source {
    File(Arc<File>),
    Growing { file: Arc<File>, progress: watch::Receiver<Progress> },
    Memory(Bytes),
}

enum Waiting {
    Progress(Pin<Box<dyn Future<Output = ()> + Send>>),
    Read(Pin<Box<dyn Future<Output = io::Result<Bytes>> + Send>>),
}

impl ContentBody {
    pub(super) fn new(opened: &Opened, start: u64, end: u64) -> Self {
        let end = end.min(opened.size());
        let source = match opened {
            Opened::File { file, .. } => Source::File(file.clone()),
            Opened::Filling(fill) => Source::Growing { file: fill.file(), progress: fill.follow() },
            Opened::Memory(bytes) => Source::Memory(bytes.clone()),
        };
        Self { source, position: start.min(end), end, in_a_row: 0, waiting: None }
    }

    /// How far the source may be read now.
    fn readable(&self) -> io::Result<u64> {
        let Source::Growing { progress, .. } = &self.source else { return Ok(self.end) };
        match &*progress.borrow() {
            Progress::Complete => Ok(self.end),
            Progress::Readable(mark) => Ok((*mark).min(self.end)),
            Progress::Failed(why) => Err(io::Error::other(why.clone())),
        }
    }

    /// The next piece, where it is in the page cache; else begins to read or to wait.
    fn advance(&mut self) -> io::Result<Option<Bytes>> {
        let readable = self.readable()?;
        if readable <= self.position {
            self.waiting = Some(Waiting::Progress(self.progress_beyond(self.position)));
            return Ok(None);
        }
        let length = usize::try_from((readable - self.position).min(PIECE)).unwrap_or(usize::MAX);
        let file = match &self.source {
            Source::Memory(bytes) => {
                let start = usize::try_from(self.position).unwrap_or(usize::MAX);
                return Ok(Some(bytes.slice(start..start + length)));
            }
            Source::File(file) | Source::Growing { file, .. } => file.clone(),
        };
        if let Some(piece) = read_cached(&file, self.position, length)? {
            return Ok(Some(piece));
        }
        let position = self.position;
        self.waiting = Some(Waiting::Read(Box::pin(blocking(move || read(&file, position, length)))));
        Ok(None)
    }

    fn progress_beyond(&self, position: u64) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let Source::Growing { progress, .. } = &self.source else { return Box::pin(std::future::ready(())) };
        let mut progress = progress.clone();
        Box::pin(async move {
            let moved = |now: &Progress| !matches!(now, Progress::Readable(mark) if *mark <= position);
            // The fill tells how it ended before it goes, so an error here is seen as that end.
            let _ = progress.wait_for(moved).await;
        })
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
                Some(Waiting::Progress(progress)) => std::task::ready!(progress.as_mut().poll(cx)),
                Some(Waiting::Read(read)) => {
                    let piece = std::task::ready!(read.as_mut().poll(cx))?;
                    self.waiting = None;
                    return self.give(piece);
                }
                None => {}
            }
            self.waiting = None;
            if self.position >= self.end {
                return Poll::Ready(None);
            }
            if self.in_a_row >= PIECES_IN_A_ROW {
                self.in_a_row = 0;
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if let Some(piece) = self.advance()? {
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

/// Reads what is in the page cache, on this thread. `None` when it is not, or the file system cannot say.
fn read_cached(file: &File, position: u64, length: usize) -> io::Result<Option<Bytes>> {
    let mut piece = vec![0; length];
    match preadv2(file, &mut [IoSliceMut::new(&mut piece)], position, ReadWriteFlags::NOWAIT) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(read) => {
            piece.truncate(read);
            Ok(Some(piece.into()))
        }
        Err(Errno::AGAIN | Errno::OPNOTSUPP | Errno::NOSYS | Errno::INTR) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn read(file: &File, position: u64, length: usize) -> io::Result<Bytes> {
    let mut piece = vec![0; length];
    file.read_exact_at(&mut piece, position)?;
    Ok(piece.into())
}
