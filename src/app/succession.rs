//! Passing the listening sockets and the state directory from a running gate to a new process.
//!
//! 1. The new process connects to `STATE/next.sock` and receives the listening sockets. It opens everything that it can
//!    without the state directory, and then says [`READY`].
//! 2. The old process accepts no more connections, answers its requests, writes what is pending, releases the state
//!    directory, and says [`RELEASED`]. Clients that connect meanwhile wait in the queues of the sockets, which both
//!    processes have.
//! 3. The new process opens the state directory, serves, and says [`SERVING`]. Then the old one ends with its last
//!    transfer.
//!
//! Until step 2, the old process serves as if nothing had happened. If the new one ends in step 3 before it serves, or
//! does not open the state directory within a few seconds, the old one serves again, and says [`AGAIN`]: a new process
//! that continues late must not take the directory as soon as it becomes free.

use std::io::{self, IoSlice, IoSliceMut, Read as _, Write as _};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream as BlockingUnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage, SendFlags,
    recvmsg, sendmsg, sockopt::socket_peercred,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, Interest};
use tokio::net::UnixStream;

use crate::server::admin::{BoundAdmin, OwnerSocket, SocketFile, is_permitted};
use crate::server::{BoundListeners, InheritedSockets, PassedSocket};

/// The name of the socket in the state directory.
const SOCKET: &str = "next.sock";
/// From the new process: it can take over.
const READY: u8 = b'!';
/// From the old process: the state directory is free.
const RELEASED: u8 = b'.';
/// From the new process: it serves.
const SERVING: u8 = b'+';
/// From the old process: it serves again, because the new one did not continue.
const AGAIN: u8 = b'-';
/// How long the new process may take to open everything else.
const PREPARATION: Duration = Duration::from_secs(120);
/// The time limit for receiving the sockets.
const ANSWER: Duration = Duration::from_secs(10);
/// The delay after a failed accept, which would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);
/// The maximum number of sockets that are passed: the kernel passes at most 253 at once.
const MAX_SOCKETS: usize = 250;
/// The largest list of addresses, in bytes.
const MAX_LABELS: usize = 64 * 1024;

/// The side of the running gate: all its listening sockets. They stay open while this value exists.
pub(super) struct Succession {
    socket: OwnerSocket,
    /// The admin socket and this one.
    files: [SocketFile; 2],
    sockets: Vec<PassedSocket>,
}

impl Succession {
    /// Offers all sockets of a gate to another process. `None` if that is not possible, which the log explains.
    pub(super) fn new(
        state: &Path,
        registry: &BoundListeners,
        admin: &BoundAdmin,
        inherited: &mut InheritedSockets,
    ) -> Option<Self> {
        let offered = Self::offer_all(state, registry, admin, inherited);
        offered.inspect_err(|error| tracing::warn!(%error, "take-over is unavailable")).ok()
    }

    fn offer_all(
        state: &Path,
        registry: &BoundListeners,
        admin: &BoundAdmin,
        inherited: &mut InheritedSockets,
    ) -> io::Result<Self> {
        let socket = OwnerSocket::bind(&state.join(SOCKET), SOCKET, inherited)?;
        let mut sockets = registry.sockets()?;
        sockets.extend(admin.sockets()?);
        sockets.push(socket.passed()?);
        let files = [admin.socket_file(), socket.file()];
        Ok(Self { socket, files, sockets })
    }

    /// Makes the files of the sockets those of this process: it serves.
    pub(super) fn own_files(&self) {
        self.files.iter().for_each(SocketFile::own);
    }

    /// Waits until another process can take over.
    pub(super) async fn requested(&self) -> Successor {
        loop {
            match self.socket.accept().await {
                Ok((mut stream, _)) => {
                    // From now on, the other process may serve with them, even if this one is told to stop before it
                    // learns of it. If neither does, the next start removes the files.
                    self.files.iter().for_each(SocketFile::keep);
                    match self.offer(&mut stream).await {
                        Ok(true) => return Successor(stream),
                        Ok(false) => {
                            tracing::warn!("the process that was to take over has exited; this one keeps serving");
                        }
                        Err(error) => {
                            tracing::warn!(%error, "another process failed to take over; this one keeps serving");
                        }
                    }
                    self.own_files();
                }
                Err(error) => {
                    tracing::warn!(%error, "take-over: cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn offer(&self, stream: &mut UnixStream) -> io::Result<bool> {
        let labels: Vec<&str> = self.sockets.iter().map(|passed| passed.label.as_str()).collect();
        let mut text = serde_json::to_vec(&labels)?;
        text.push(b'\n');
        let descriptors: Vec<BorrowedFd<'_>> = self.sockets.iter().map(|passed| passed.socket.as_fd()).collect();
        let sent = stream.async_io(Interest::WRITABLE, || send(&*stream, &text, &descriptors)).await?;
        if sent < text.len() {
            return Err(io::Error::other("the addresses of the listeners are too long"));
        }
        tracing::info!("another process prepares to take over");
        Ok(tokio::time::timeout(PREPARATION, says(stream, READY)).await.unwrap_or_default())
    }

    /// The sockets, for serving again.
    pub(super) fn into_sockets(self) -> io::Result<InheritedSockets> {
        let Self { socket, sockets, .. } = self;
        drop(socket);
        InheritedSockets::of_gate(sockets)
    }
}

/// A process that takes over.
pub(super) struct Successor(UnixStream);

impl Successor {
    /// Its process ID, if the kernel tells it.
    pub(super) fn process(&self) -> Option<i32> {
        self.0.peer_cred().ok()?.pid()
    }

    /// Says that the state directory is free.
    pub(super) async fn released(&mut self) {
        // If it has ended, `serves` finds out.
        let _ = self.0.write_all(&[RELEASED]).await;
    }

    /// Waits until the process serves. False if it has ended before that.
    pub(super) async fn serves(&mut self) -> bool {
        says(&mut self.0, SERVING).await
    }

    /// Says that this process serves again.
    pub(super) async fn serves_again(&mut self) {
        // If it has ended, nobody hears it.
        let _ = self.0.write_all(&[AGAIN]).await;
    }
}

/// Waits for a message. False if the other process ends, or says something else.
async fn says(stream: &mut UnixStream, message: u8) -> bool {
    let mut said = [0];
    matches!(stream.read(&mut said).await, Ok(1)) && said[0] == message
}

fn send(stream: impl AsFd, text: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !control.push(SendAncillaryMessage::ScmRights(descriptors)) {
        return Err(io::Error::other("more listeners than can be passed"));
    }
    Ok(sendmsg(stream, &[IoSlice::new(text)], &mut control, SendFlags::NOSIGNAL)?)
}

/// The side of the new process: a gate that still serves.
pub(super) struct Predecessor(BlockingUnixStream);

impl Predecessor {
    /// Connects to the gate that runs on this state directory, and receives its sockets. `None` if none runs, or it
    /// ends before it has passed them. Blocks.
    ///
    /// # Errors
    /// The running gate does not answer as expected.
    pub(super) fn find(state: &Path) -> io::Result<Option<(Self, InheritedSockets)>> {
        let stream = match BlockingUnixStream::connect(state.join(SOCKET)) {
            Ok(stream) => stream,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) => {
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        check_user(socket_peercred(&stream)?.uid.as_raw())?;
        stream.set_read_timeout(Some(ANSWER))?;
        let received = match receive(&stream) {
            Ok(received) => received,
            Err(error) if is_gone(&error) => {
                tracing::warn!(%error, "the running gate exited without passing its sockets");
                return Ok(None);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let why = "it does not answer; is another process taking over?";
                return Err(io::Error::new(io::ErrorKind::TimedOut, why));
            }
            Err(error) => return Err(error),
        };
        let passed = InheritedSockets::of_gate(received)?;
        Ok(Some((Self(stream), passed)))
    }

    /// Asks the running gate to end, and waits at most `limit` until that gate has released the state directory or this
    /// process is told to stop. Returns whether it has released the directory. Blocks.
    ///
    /// # Errors
    /// It does not release the directory in time.
    pub(super) fn take_over(mut self, limit: Duration) -> io::Result<(Self, bool)> {
        self.0.set_read_timeout(Some(limit))?;
        let mut said = [0];
        match self.0.write_all(&[READY]).and_then(|()| self.0.read(&mut said)) {
            Ok(1) if said[0] != RELEASED => Err(io::Error::other("it answered something else")),
            // Without an answer, it was told to stop meanwhile.
            Ok(read) => Ok((self, read == 1)),
            Err(error) if is_gone(&error) => Ok((self, false)),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                Err(io::Error::new(io::ErrorKind::TimedOut, "it did not release the state directory in time"))
            }
            Err(error) => Err(error),
        }
    }

    /// Checks that the running gate has not given this process up. Waits for nothing.
    ///
    /// # Errors
    /// It serves again.
    pub(super) fn check_waits(&mut self) -> io::Result<()> {
        self.0.set_nonblocking(true)?;
        let mut said = [0];
        match self.0.read(&mut said) {
            Ok(1) if said[0] == AGAIN => {
                Err(io::Error::other("the old process resumed because this one did not continue in time"))
            }
            // It waits, or has ended.
            _ => Ok(()),
        }
    }

    /// Says that this process serves.
    pub(super) fn serving(mut self) {
        // If the other process has ended, nobody waits for this.
        let _ = self.0.write_all(&[SERVING]);
    }
}

/// Whether the other process has closed its end.
fn is_gone(error: &io::Error) -> bool {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, UnexpectedEof};
    matches!(error.kind(), BrokenPipe | ConnectionReset | UnexpectedEof)
}

/// Refuses the sockets of a gate that runs as another user, which could not share its state.
fn check_user(peer: u32) -> io::Result<()> {
    let own = rustix::process::geteuid().as_raw();
    if is_permitted(peer, own) {
        return Ok(());
    }
    let why = format!("it runs as user {peer}, and this process as user {own}; run both as the same user");
    Err(io::Error::new(io::ErrorKind::PermissionDenied, why))
}

fn receive(stream: &BlockingUnixStream) -> io::Result<Vec<PassedSocket>> {
    let mut space = vec![MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_SOCKETS))];
    let (mut text, mut sockets) = (Vec::new(), Vec::<OwnedFd>::new());
    let mut piece = vec![0; MAX_LABELS];
    while text.last() != Some(&b'\n') {
        let mut control = RecvAncillaryBuffer::new(&mut space);
        // Child processes must not inherit them.
        let flags = RecvFlags::CMSG_CLOEXEC;
        let read = recvmsg(stream, &mut [IoSliceMut::new(&mut piece)], &mut control, flags)?.bytes;
        for message in control.drain() {
            if let RecvAncillaryMessage::ScmRights(rights) = message {
                sockets.extend(rights);
            }
        }
        text.extend_from_slice(&piece[..read]);
        if read == 0 || text.len() > MAX_LABELS {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it did not pass its sockets"));
        }
    }
    let labels: Vec<String> = serde_json::from_slice(&text)?;
    if labels.len() != sockets.len() {
        return Err(io::Error::other("it passed fewer sockets than it named"));
    }
    Ok(labels.into_iter().zip(sockets).map(|(label, socket)| PassedSocket { label, socket }).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    #[test]
    fn a_gate_that_exits_before_passing_its_sockets_counts_as_absent() {
        let state = tempfile::tempdir().unwrap();
        assert!(Predecessor::find(state.path()).unwrap().is_none(), "there is no socket");
        let listener = UnixListener::bind(state.path().join(SOCKET)).unwrap();
        let dying = std::thread::spawn(move || drop(listener.accept().unwrap()));
        assert!(Predecessor::find(state.path()).unwrap().is_none());
        dying.join().unwrap();
        assert!(Predecessor::find(state.path()).unwrap().is_none(), "nobody listens");
    }

    #[test]
    fn a_process_that_continues_late_learns_that_the_old_one_serves_again() {
        for (said, is_released, may_go_on) in [(".", true, true), (".-", true, false), ("", false, true)] {
            let (mut old, new) = BlockingUnixStream::pair().unwrap();
            old.write_all(said.as_bytes()).unwrap();
            let _waiting = (!said.is_empty()).then_some(old);
            let (mut running, was_released) = Predecessor(new).take_over(ANSWER).unwrap();
            assert_eq!((was_released, running.check_waits().is_ok()), (is_released, may_go_on), "{said:?}");
        }
    }
}
