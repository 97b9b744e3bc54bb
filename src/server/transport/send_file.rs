//! A connection that sends files with `sendfile`, without reading them into the process.
//!
//! `sendfile` copies nothing through this process. The thread that serves the connection calls it, one chunk at a time
//! ([`ContentBody`](crate::cache::ContentBody) limits a chunk's size), and looks at its other connections between two
//! chunks. Separate threads for it cost two thread switches for each chunk, which was more than `sendfile` itself.

use std::io::{self, IoSlice};
use std::os::fd::AsFd;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use rustix::fs::sendfile;
use rustix::net::{Shutdown, shutdown};
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::net::TcpStream;

use crate::runtime::{FileWindow, FileWindows};

/// Smaller slices are written normally, because looking up their window would cost as much.
const MIN_SENT_SLICE: usize = 16 * 1024;

/// A connection that sends slices of [`FileWindow`]s directly from their files, and writes everything else. It wraps
/// the socket below TLS, where encrypted bytes are never slices of a file.
pub(super) struct SendFile {
    socket: TcpStream,
    windows: FileWindows,
}

impl SendFile {
    /// Slices of these windows are sent from their files.
    pub(super) fn new(socket: TcpStream, windows: FileWindows) -> Self {
        Self { socket, windows }
    }

    /// Reads bytes that stay in the socket. No bytes are an error: the client has closed.
    pub(super) async fn peek(&self, bytes: &mut [u8]) -> io::Result<usize> {
        match self.socket.peek(bytes).await? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            count => Ok(count),
        }
    }

    /// The window that contains a slice; `None` if the slice is too small to be worth it.
    fn window(&self, slice: &[u8]) -> Option<(Arc<FileWindow>, u64)> {
        if slice.len() < MIN_SENT_SLICE { None } else { self.windows.find(slice) }
    }

    /// Sends as many bytes of a file as the socket accepts.
    fn poll_send(
        &self,
        cx: &mut Context<'_>,
        len: usize,
        (window, offset): (Arc<FileWindow>, u64),
    ) -> Poll<io::Result<usize>> {
        ready!(self.socket.poll_write_ready(cx))?;
        // The file may be shorter than its mapping, and other data must not replace the missing bytes.
        let present = window.file().metadata()?.len().saturating_sub(offset);
        let len = usize::try_from(present).unwrap_or(usize::MAX).min(len);
        if len == 0 {
            return Poll::Ready(Err(io::ErrorKind::UnexpectedEof.into()));
        }
        self.poll_transfer_out(cx, len, |socket| {
            Ok(sendfile(socket.as_fd(), window.file(), Some(&mut { offset }), len)?)
        })
    }

    /// Reads or writes at most `len` bytes. A smaller result means that the socket has no more data or no more space.
    /// This saves the system call that would otherwise be needed to find out.
    fn transfer(
        &self,
        interest: Interest,
        len: usize,
        mut transfer: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let mut moved = None;
        let outcome = self.socket.try_io(interest, || {
            let count = transfer(&self.socket)?;
            moved = Some(count);
            if 0 < count && count < len { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(count) }
        });
        moved.map_or(outcome, Ok)
    }

    fn poll_transfer_out(
        &self,
        cx: &mut Context<'_>,
        len: usize,
        mut write: impl FnMut(&TcpStream) -> io::Result<usize>,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.socket.poll_write_ready(cx))?;
            match self.transfer(Interest::WRITABLE, len, &mut write) {
                Err(error) if is_not_now(&error) => {}
                written => return Poll::Ready(written),
            }
        }
    }
}

/// Whether the call is to be made again, once the socket is ready.
fn is_not_now(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted)
}

impl AsyncRead for SendFile {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        loop {
            ready!(self.socket.poll_read_ready(cx))?;
            let room = buf.remaining();
            match self.transfer(Interest::READABLE, room, |socket| socket.try_read_buf(buf)) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                read => return Poll::Ready(read.map(drop)),
            }
        }
    }
}

impl AsyncWrite for SendFile {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.window(buf) {
            Some(found) => self.poll_send(cx, buf.len(), found),
            None => self.poll_transfer_out(cx, buf.len(), |socket| socket.try_write(buf)),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let mut lent = bufs.iter().enumerate().filter_map(|(at, slice)| Some((at, self.window(slice)?)));
        let bufs = match lent.next() {
            Some((0, found)) => return self.poll_send(cx, bufs[0].len(), found),
            // Data before the slice is written first, separately; hyper offers the rest again.
            Some((at, _)) => &bufs[..at],
            None => bufs,
        };
        let len = bufs.iter().map(|slice| slice.len()).sum();
        self.poll_transfer_out(cx, len, |socket| socket.try_write_vectored(bufs))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(shutdown(self.socket.as_fd(), Shutdown::Write).map_err(Into::into))
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::os::unix::fs::FileExt;

    use bytes::Bytes;
    use socket2::SockRef;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpListener;

    use super::*;

    const SIZE: usize = 3 << 20;

    fn content() -> Vec<u8> {
        let mut random = fastrand::Rng::with_seed(7);
        std::iter::repeat_with(|| random.u8(..)).take(SIZE).collect()
    }

    fn lend(windows: &FileWindows, content: &[u8], size: usize) -> (Arc<File>, Bytes) {
        let file = Arc::new(tempfile::tempfile().unwrap());
        file.write_all_at(content, 0).unwrap();
        let window = windows.open(file.clone(), size).unwrap();
        (file, window.bytes())
    }

    /// A connection with buffers far smaller than the content, its peer, and the windows that it sends.
    async fn connection() -> (SendFile, TcpStream, FileWindows) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (server, _) = listener.accept().await.unwrap();
        SockRef::from(&server).set_send_buffer_size(64 * 1024).unwrap();
        SockRef::from(&client).set_recv_buffer_size(64 * 1024).unwrap();
        let windows = FileWindows::default();
        (SendFile::new(server, windows.clone()), client, windows)
    }

    /// Writes everything like hyper does: data that was not accepted is offered again.
    async fn write_all(stream: &mut SendFile, mut pieces: Vec<Bytes>) -> io::Result<()> {
        while !pieces.is_empty() {
            let slices: Vec<IoSlice<'_>> = pieces.iter().map(|piece| IoSlice::new(piece)).collect();
            let mut written = stream.write_vectored(&slices).await?;
            while let Some(first) = pieces.first_mut().filter(|first| written > 0 || first.is_empty()) {
                let taken = written.min(first.len());
                let _ = first.split_to(taken);
                written -= taken;
                if first.is_empty() {
                    pieces.remove(0);
                }
            }
        }
        Ok(())
    }

    #[tokio::test]
    async fn headers_and_file_slices_arrive_in_order_at_a_slow_client() {
        let content = content();
        let (mut stream, mut client, windows) = connection().await;
        let (_file, lent) = lend(&windows, &content, SIZE);
        let pieces =
            vec![Bytes::from_static(b"head"), lent.slice(1..2_000_000), lent.slice(2_000_000..), "tail".into()];
        let expected: Vec<u8> = pieces.iter().flatten().copied().collect();
        let reader = async {
            let mut all = Vec::new();
            client.read_to_end(&mut all).await.unwrap();
            all
        };
        let writer = async {
            write_all(&mut stream, pieces).await.unwrap();
            stream.shutdown().await.unwrap();
        };
        let (all, ()) = tokio::join!(reader, writer);
        assert!(all == expected, "{} bytes of {}", all.len(), expected.len());
    }

    #[tokio::test]
    async fn client_data_is_read_to_its_end() {
        let (mut stream, mut client, _) = connection().await;
        client.write_all(b"one").await.unwrap();
        let mut buffer = [0; 16];
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 3);
        client.write_all(b"two").await.unwrap();
        client.shutdown().await.unwrap();
        assert_eq!((stream.read(&mut buffer).await.unwrap(), &buffer[..3]), (3, &b"two"[..]));
        assert_eq!(stream.read(&mut buffer).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn a_file_shorter_than_its_window_aborts_the_connection() {
        let (mut stream, mut client, windows) = connection().await;
        let (_file, lent) = lend(&windows, &content()[..SIZE / 2], SIZE);
        let reader = async {
            let mut all = Vec::new();
            let _ = client.read_to_end(&mut all).await;
            all.len()
        };
        let writer = async {
            let error = write_all(&mut stream, vec![lent]).await.unwrap_err();
            drop(stream);
            error.kind()
        };
        assert_eq!(tokio::join!(reader, writer), (SIZE / 2, io::ErrorKind::UnexpectedEof));
    }
}
