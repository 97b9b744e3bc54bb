//! Listening sockets that another process has opened: the service manager (socket activation), or the gate that this process
//! takes over from.
//!
//! Both keep a socket open while this process starts, so that clients wait in its queue and none is refused. With
//! `SO_REUSEPORT` each process would have a queue, and closing a listener would reset the connections that wait in it.

use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::path::Path;

use listenfd::ListenFd;
use socket2::{Domain, SockRef, Type};

/// The name of the socket of the admin listener, and of the admin socket.
pub(super) const ADMIN: &str = "admin";

/// The sockets that were passed to this process and are not used yet.
#[derive(Debug, Default)]
pub struct InheritedSockets(Vec<InheritedSocket>);

#[derive(Debug)]
struct InheritedSocket {
    /// The name in the unit of the socket (`FileDescriptorName`), or what the other gate had in its configuration.
    name: String,
    origin: SocketOrigin,
    listener: AnyListener,
}

/// Who opened a socket.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum SocketOrigin {
    /// The gate that this process takes over from. It closes its copy.
    Gate,
    /// The service manager, which keeps it open also when this process has ended.
    ServiceManager,
}

/// A socket that can be passed to another process.
#[derive(Debug)]
pub struct PassedSocket {
    /// As configured: `127.0.0.1:0`, `admin 127.0.0.1:0`, or the path of a Unix socket.
    pub label: String,
    /// The socket itself.
    pub socket: OwnedFd,
}

/// The label of the admin listener, which may have the same address as another one if the system chooses the ports.
pub(super) fn admin_label(address: &str) -> String {
    format!("{ADMIN} {address}")
}

impl PassedSocket {
    /// A copy of a socket.
    pub(super) fn copy(label: &str, socket: impl AsFd) -> io::Result<Self> {
        Ok(Self { label: label.to_owned(), socket: socket.as_fd().try_clone_to_owned()? })
    }
}

#[derive(Debug)]
enum AnyListener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

/// Why sockets that were passed to this process cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// A file descriptor is not a listening stream socket of the internet or of Unix.
    #[error("socket activation: file descriptor {descriptor}: {error}")]
    Unusable {
        /// Its number.
        descriptor: usize,
        /// The cause.
        error: io::Error,
    },
    /// No listener has the address of a socket, so its clients would wait forever.
    #[error(
        "socket activation: no listener has the address of {0}; let ListenStream and `address` agree, or set \
         FileDescriptorName to listener[0], listener[1], … or admin"
    )]
    Unused(String),
}

impl InheritedSockets {
    /// The sockets of systemd's protocol
    /// ([sd_listen_fds(3)](https://www.freedesktop.org/software/systemd/man/latest/sd_listen_fds.html)).
    /// It changes the environment, so it must be called before there are threads.
    ///
    /// # Errors
    /// [`SocketError::Unusable`].
    pub fn of_service_manager() -> Result<Self, SocketError> {
        // The library accepts sockets without this variable, which an unrelated parent may have left.
        if std::env::var_os("LISTEN_PID").is_none() {
            return Ok(Self::default());
        }
        let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
        let mut names = names.split(':');
        let mut passed = ListenFd::from_env();
        let mut sockets = Vec::new();
        for index in 0..passed.len() {
            let name = names.next().unwrap_or_default().to_owned();
            let unusable = |error| SocketError::Unusable { descriptor: index + 3, error };
            if let Some(listener) = take(&mut passed, index).map_err(unusable)? {
                listener.prepare().map_err(unusable)?;
                sockets.push(InheritedSocket { name, origin: SocketOrigin::ServiceManager, listener });
            }
        }
        Ok(Self(sockets))
    }

    /// Sockets of the gate that this process takes over from.
    ///
    /// # Errors
    /// A socket is of another kind, or does not listen.
    pub fn of_gate(passed: Vec<PassedSocket>) -> io::Result<Self> {
        let adopt = |PassedSocket { label, socket }: PassedSocket| {
            let listener = match SockRef::from(&socket).domain()? {
                Domain::UNIX => AnyListener::Unix(socket.into()),
                _ => AnyListener::Tcp(socket.into()),
            };
            listener.prepare()?;
            Ok(InheritedSocket { name: label, origin: SocketOrigin::Gate, listener })
        };
        passed.into_iter().map(adopt).collect::<io::Result<_>>().map(Self)
    }

    /// Takes the TCP socket with this name or for this configured address, if there is one.
    pub(super) fn take_tcp(&mut self, name: &str, address: &str) -> Option<(TcpListener, SocketOrigin)> {
        // A name that cannot be resolved is reported when it is bound.
        let wanted: Vec<SocketAddr> = address.to_socket_addrs().map(Iterator::collect).unwrap_or_default();
        let is_tcp = |socket: &InheritedSocket| matches!(socket.listener, AnyListener::Tcp(_));
        let has_address = |socket: &InheritedSocket| match &socket.listener {
            AnyListener::Tcp(listener) => listener.local_addr().is_ok_and(|bound| wanted.contains(&bound)),
            AnyListener::Unix(_) => false,
        };
        let label = if name == ADMIN { admin_label(address) } else { address.to_owned() };
        let named = |socket: &InheritedSocket| match socket.origin {
            // Not by the bound address: the system may have chosen the port.
            SocketOrigin::Gate => socket.name == label,
            SocketOrigin::ServiceManager => socket.name == name,
        };
        let named = self.take(|socket| is_tcp(socket) && named(socket));
        let InheritedSocket { origin, listener, .. } = named.or_else(|| self.take(has_address))?;
        match listener {
            AnyListener::Tcp(listener) => Some((listener, origin)),
            AnyListener::Unix(_) => None,
        }
    }

    /// Takes the Unix socket with this name or for this path, if there is one.
    pub(super) fn take_unix(&mut self, name: &str, path: &Path) -> Option<(UnixListener, SocketOrigin)> {
        let absolute = std::path::absolute(path).unwrap_or_default();
        let is_wanted = |socket: &InheritedSocket| match (&socket.listener, socket.origin) {
            (AnyListener::Unix(_), SocketOrigin::Gate) => Path::new(&socket.name) == absolute,
            (AnyListener::Unix(listener), SocketOrigin::ServiceManager) => {
                socket.name == name || listener.local_addr().is_ok_and(|bound| bound.as_pathname() == Some(&absolute))
            }
            (AnyListener::Tcp(_), _) => false,
        };
        let InheritedSocket { origin, listener, .. } = self.take(is_wanted)?;
        match listener {
            AnyListener::Unix(listener) => Some((listener, origin)),
            AnyListener::Tcp(_) => None,
        }
    }

    /// Adds sockets of another origin.
    pub fn add(&mut self, more: Self) {
        self.0.extend(more.0);
    }

    /// Checks that every socket of the service manager is used. Those of another gate are closed if the configuration has
    /// other addresses now.
    ///
    /// # Errors
    /// [`SocketError::Unused`].
    pub fn finish(self) -> Result<(), SocketError> {
        let is_kept = |socket: &&InheritedSocket| socket.origin == SocketOrigin::ServiceManager;
        self.0.iter().find(is_kept).map_or(Ok(()), |socket| Err(SocketError::Unused(socket.describe())))
    }

    fn take(&mut self, is_wanted: impl Fn(&InheritedSocket) -> bool) -> Option<InheritedSocket> {
        let index = self.0.iter().position(is_wanted)?;
        Some(self.0.remove(index))
    }
}

impl InheritedSocket {
    fn describe(&self) -> String {
        let address = match &self.listener {
            AnyListener::Tcp(listener) => listener.local_addr().map(|address| address.to_string()),
            AnyListener::Unix(listener) => listener.local_addr().map(|address| format!("{address:?}")),
        };
        address.unwrap_or_else(|error| error.to_string())
    }
}

impl AnyListener {
    /// Refuses sockets that do not listen.
    fn prepare(&self) -> io::Result<()> {
        let socket = match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Unix(listener) => listener.as_fd(),
        };
        let socket = SockRef::from(&socket);
        if !socket.is_listener()? {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, "the socket does not listen"));
        }
        socket.set_nonblocking(true)
    }
}

/// The library makes sure that child processes do not inherit it.
fn take(passed: &mut ListenFd, index: usize) -> io::Result<Option<AnyListener>> {
    if let Ok(listener) = passed.take_tcp_listener(index) {
        return Ok(listener.map(AnyListener::Tcp));
    }
    if let Ok(listener) = passed.take_custom(index, Domain::IPV6.into(), Type::STREAM.into(), "TCP socket") {
        return Ok(listener.map(AnyListener::Tcp));
    }
    passed.take_unix_listener(index).map(|listener| listener.map(AnyListener::Unix))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sockets_of_a_gate_are_found_by_what_was_configured() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("admin.sock");
        let (tcp, unix) = (TcpListener::bind("127.0.0.1:0").unwrap(), UnixListener::bind(&path).unwrap());
        let admin = TcpListener::bind("127.0.0.1:0").unwrap();
        let passed = |label: &str, socket: &dyn AsFd| PassedSocket::copy(label, socket.as_fd()).unwrap();
        let all = vec![
            passed("admin 127.0.0.1:0", &admin),
            passed("127.0.0.1:0", &tcp),
            passed(&path.display().to_string(), &unix),
        ];
        let mut sockets = InheritedSockets::of_gate(all).unwrap();
        assert!(sockets.take_tcp("listener[0]", "127.0.0.1:1").is_none());
        let (taken, origin) = sockets.take_tcp("listener[0]", "127.0.0.1:0").unwrap();
        assert_eq!((taken.local_addr().unwrap(), origin), (tcp.local_addr().unwrap(), SocketOrigin::Gate));
        assert!(sockets.take_tcp("listener[1]", "127.0.0.1:0").is_none(), "it is taken once");
        let (taken, _) = sockets.take_tcp(ADMIN, "127.0.0.1:0").unwrap();
        assert_eq!(taken.local_addr().unwrap(), admin.local_addr().unwrap());
        assert!(sockets.take_unix("admin", &folder.path().join("other")).is_none());
        assert!(sockets.take_unix("admin", &path).is_some());
        sockets.finish().unwrap();
    }

    #[test]
    fn sockets_that_do_not_listen_are_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let passed = PassedSocket::copy("127.0.0.1:0", &stream).unwrap();
        assert!(InheritedSockets::of_gate(vec![passed]).is_err());
    }
}
