//! A stream wrapper for faults: it reports when all written data has reached the socket, and can reset the connection.

use std::io::{self, IoSlice};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::sync::Notify;
use tokio_rustls::server::TlsStream;

/// State shared between a connection and the faults of its requests.
#[derive(Debug)]
pub(super) struct ConnectionFaults {
    /// Notified of each completed flush.
    pub(super) flushed: Notify,
    /// How many bytes may still be written before the connection is reset; `u64::MAX` for no limit.
    left: AtomicU64,
}

impl ConnectionFaults {
    pub(super) fn new() -> Self {
        Self { flushed: Notify::new(), left: AtomicU64::new(u64::MAX) }
    }

    /// Resets the connection after this many more bytes.
    pub(super) fn reset_after(&self, bytes: u64) {
        self.left.store(bytes, Ordering::Relaxed);
    }
}

/// A stream over TCP.
pub(super) trait OverTcp: AsyncRead + AsyncWrite + Unpin {
    fn tcp(&self) -> &TcpStream;
}

impl OverTcp for TcpStream {
    fn tcp(&self) -> &TcpStream {
        self
    }
}

impl OverTcp for TlsStream<TcpStream> {
    fn tcp(&self) -> &TcpStream {
        self.get_ref().0
    }
}

/// A connection that reports each completed flush, and that a fault can reset. A body that ends its connection early
/// waits for a flush, because hyper discards its buffers when a body fails.
pub(super) struct Flushing<S> {
    stream: S,
    wire: Arc<ConnectionFaults>,
}

impl<S> Flushing<S> {
    pub(super) fn new(stream: S, wire: Arc<ConnectionFaults>) -> Self {
        Self { stream, wire }
    }
}

impl<S: OverTcp> AsyncRead for Flushing<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: OverTcp> AsyncWrite for Flushing<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let left = self.wire.left.load(Ordering::Relaxed);
        if left == u64::MAX {
            return Pin::new(&mut self.stream).poll_write(cx, buf);
        }
        if left == 0 {
            // Closing with a linger time of zero resets the connection.
            SockRef::from(self.stream.tcp()).set_linger(Some(Duration::ZERO))?;
            return Poll::Ready(Err(io::ErrorKind::ConnectionReset.into()));
        }
        let len = buf.len().min(usize::try_from(left).unwrap_or(usize::MAX));
        let written = ready!(Pin::new(&mut self.stream).poll_write(cx, &buf[..len]))?;
        self.wire.left.store(left - written as u64, Ordering::Relaxed);
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = ready!(Pin::new(&mut self.stream).poll_flush(cx));
        self.wire.flushed.notify_waiters();
        Poll::Ready(flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        if self.wire.left.load(Ordering::Relaxed) == u64::MAX {
            return Pin::new(&mut self.stream).poll_write_vectored(cx, bufs);
        }
        let first = bufs.iter().find(|buf| !buf.is_empty()).map_or(&[][..], |buf| &**buf);
        self.poll_write(cx, first)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}
