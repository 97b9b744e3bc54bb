//! Streams that time out if the client does not read or send.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Instant, Sleep};

/// Fails a write if the peer accepts no data for too long. Must be beneath TLS, to see the bytes on the wire.
pub(in crate::server) struct WriteStall<IO> {
    io: IO,
    timeout: Duration,
    stalled: bool,
    deadline: Pin<Box<Sleep>>,
}

impl<IO> WriteStall<IO> {
    pub(in crate::server) fn new(io: IO, timeout: Duration) -> Self {
        Self { io, timeout, stalled: false, deadline: Box::pin(tokio::time::sleep(timeout)) }
    }

    /// The stream beneath.
    pub(super) fn get_ref(&self) -> &IO {
        &self.io
    }

    fn watch<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.stalled = false;
            return written;
        }
        if !self.stalled {
            self.stalled = true;
            self.deadline.as_mut().reset(Instant::now() + self.timeout);
        }
        ready!(self.deadline.as_mut().poll(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "the client reads no data")))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for WriteStall<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_read(cx, buf)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for WriteStall<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.watch(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.watch(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let closed = Pin::new(&mut self.io).poll_shutdown(cx);
        self.watch(cx, closed)
    }
}

/// How TLS begins: a record of a handshake, version 3.x (RFC 8446, section 5.1).
const TLS_RECORD: [u8; 2] = [0x16, 0x03];

/// Fails a read if a request's headers, or the next request, take too long. hyper has one timeout for both, so this
/// distinguishes them. Must be above TLS, to see the bytes of the request.
pub(super) struct HeadDeadline<IO> {
    io: IO,
    in_flight: Arc<AtomicUsize>,
    /// Whether nothing has been read yet.
    is_new: bool,
    /// Set if the first bytes are those of TLS.
    is_tls: Arc<AtomicBool>,
    /// `None` with HTTP/2, whose frames need not belong to a request.
    head: Option<Duration>,
    idle: Duration,
    awaited: Awaited,
    /// Whether the client has not accepted all of an answer yet: it is still in flight.
    is_writing: bool,
    /// The deadline.
    due: Instant,
    /// Fires at the deadline or earlier: resetting it for each request would cost more than checking again.
    alarm: Pin<Box<Sleep>>,
}

#[derive(Clone, Copy, Eq, PartialEq)]
enum Awaited {
    /// Nothing: a request is being answered.
    Answer,
    /// The rest of a request's headers, or the first request of the connection.
    Head,
    /// The first byte of a request.
    Request,
}

impl<IO> HeadDeadline<IO> {
    /// `in_flight` counts the requests of the connection that are being answered. `is_tls` is set if the client speaks
    /// TLS.
    pub(super) fn new(
        io: IO,
        in_flight: Arc<AtomicUsize>,
        is_tls: Arc<AtomicBool>,
        http2: bool,
        head: Duration,
        idle: Duration,
    ) -> Self {
        let alarm = Box::pin(tokio::time::sleep(head));
        let due = alarm.deadline();
        Self {
            io,
            in_flight,
            is_new: true,
            is_tls,
            head: (!http2).then_some(head),
            idle,
            awaited: Awaited::Head,
            is_writing: false,
            due,
            alarm,
        }
    }

    fn await_until(&mut self, awaited: Awaited, timeout: Duration) {
        self.awaited = awaited;
        self.due = Instant::now() + timeout;
        if self.due < self.alarm.deadline() {
            self.alarm.as_mut().reset(self.due);
        }
    }

    fn poll_due(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        loop {
            ready!(self.alarm.as_mut().poll(cx));
            if self.alarm.deadline() >= self.due {
                return Poll::Ready(());
            }
            self.alarm.as_mut().reset(self.due);
        }
    }

    /// Notes whether a write is pending. When the last one of an answer ends, the time for the next request begins,
    /// even if nothing polls a read.
    fn wrote<T>(&mut self, cx: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        let was_writing = std::mem::replace(&mut self.is_writing, written.is_pending());
        if was_writing && !self.is_writing && self.in_flight.load(Ordering::Acquire) == 0 {
            self.await_until(Awaited::Request, self.idle);
            // Wakes the task at the deadline, which then reads.
            let _ = self.poll_due(cx);
        }
        written
    }

    fn watch(&mut self, cx: &mut Context<'_>, read: Poll<io::Result<()>>) -> Poll<io::Result<()>> {
        if self.is_writing || self.in_flight.load(Ordering::Acquire) > 0 {
            self.awaited = Awaited::Answer;
            return read;
        }
        if read.is_ready() {
            if let (Some(head), Awaited::Answer | Awaited::Request) = (self.head, self.awaited) {
                self.await_until(Awaited::Head, head);
            }
            return read;
        }
        if self.awaited == Awaited::Answer {
            self.await_until(Awaited::Request, self.idle);
        }
        ready!(self.poll_due(cx));
        Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, "no complete request arrived in time")))
    }
}

impl<IO: AsyncRead + Unpin> AsyncRead for HeadDeadline<IO> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let read = Pin::new(&mut self.io).poll_read(cx, buf);
        if self.is_new && buf.filled().len() > before {
            self.is_new = false;
            self.is_tls.store(buf.filled()[before..].starts_with(&TLS_RECORD), Ordering::Release);
        }
        self.watch(cx, read)
    }
}

impl<IO: AsyncWrite + Unpin> AsyncWrite for HeadDeadline<IO> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write(cx, buf);
        self.wrote(cx, written)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.io).poll_write_vectored(cx, bufs);
        self.wrote(cx, written)
    }

    fn is_write_vectored(&self) -> bool {
        self.io.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.io).poll_flush(cx);
        self.wrote(cx, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.io).poll_shutdown(cx)
    }
}
