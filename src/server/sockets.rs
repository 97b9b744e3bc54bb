//! Listening sockets that another process has opened: the service manager (socket activation), or the gate that this
//! process takes over from.
//!
//! Both keep a socket open while this process starts, so that clients wait in its queue and none is refused. With
//! `SO_REUSEPORT` each process would have a queue, and closing a listener would reset the connections that wait in it.

use std::io;
use std::net::{TcpListener, ToSocketAddrs as _};
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

/// The name of the socket of a registry listener.
pub(super) fn listener_name(index: usize) -> String {
    format!("listener[{index}]")
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
    /// The gate that this process takes over from has sockets, too.
    #[error(
        "socket activation: this process has sockets, and --take-over brings those of the gate that runs; leave one of them out"
    )]
    TakeOver,
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
        let named = self.take(|socket| socket.is_tcp_of(name, address));
        let InheritedSocket { origin, listener, .. } =
            named.or_else(|| self.take(|socket| socket.is_bound_to(address)))?;
        match listener {
            AnyListener::Tcp(listener) => Some((listener, origin)),
            AnyListener::Unix(_) => None,
        }
    }

    /// Takes the Unix socket with this name or for this path, if there is one.
    pub(super) fn take_unix(&mut self, name: &str, path: &Path) -> Option<(UnixListener, SocketOrigin)> {
        let InheritedSocket { origin, listener, .. } = self.take(|socket| socket.is_unix_of(name, path))?;
        match listener {
            AnyListener::Unix(listener) => Some((listener, origin)),
            AnyListener::Tcp(_) => None,
        }
    }

    /// Adds the sockets of the gate that this process takes over from.
    ///
    /// # Errors
    /// [`SocketError::TakeOver`], if there are others.
    pub fn take_over(&mut self, passed: Self) -> Result<(), SocketError> {
        if !self.0.is_empty() {
            return Err(SocketError::TakeOver);
        }
        *self = passed;
        Ok(())
    }

    /// Checks that each socket of the service manager is for one of these listeners, or for the admin listener or its
    /// socket. This is asked before any of them is bound: it would find its port in use, by a socket that was meant for
    /// it.
    ///
    /// # Errors
    /// [`SocketError::Unused`].
    pub fn check(&self, listeners: &[&str], admin: (&str, &Path)) -> Result<(), SocketError> {
        let (admin_address, admin_socket) = admin;
        let is_of = |socket: &InheritedSocket, name: &str, address: &str| {
            socket.is_tcp_of(name, address) || socket.is_bound_to(address)
        };
        let is_used = |socket: &InheritedSocket| {
            let mut listeners = listeners.iter().enumerate();
            socket.is_unix_of(ADMIN, admin_socket)
                || is_of(socket, ADMIN, admin_address)
                || listeners.any(|(index, address)| is_of(socket, &listener_name(index), address))
        };
        let is_unused = |socket: &&InheritedSocket| socket.origin == SocketOrigin::ServiceManager && !is_used(socket);
        self.0.iter().find(is_unused).map_or(Ok(()), |socket| Err(SocketError::Unused(socket.describe())))
    }

    /// Checks that every socket of the service manager is used. Those of another gate are closed if the configuration
    /// has other addresses now.
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
    /// Whether it is a TCP socket with this name, or of the gate's listener that was configured with this address.
    fn is_tcp_of(&self, name: &str, address: &str) -> bool {
        let is_named = match self.origin {
            // Not by the bound address: the system may have chosen the port.
            SocketOrigin::Gate if name == ADMIN => self.name == admin_label(address),
            SocketOrigin::Gate => self.name == address,
            SocketOrigin::ServiceManager => self.name == name,
        };
        is_named && matches!(self.listener, AnyListener::Tcp(_))
    }

    /// Whether it is a TCP socket with a configured address. A name that cannot be resolved is reported when it is
    /// bound.
    fn is_bound_to(&self, address: &str) -> bool {
        let AnyListener::Tcp(listener) = &self.listener else { return false };
        let wanted = address.to_socket_addrs();
        listener.local_addr().is_ok_and(|bound| wanted.is_ok_and(|mut wanted| wanted.any(|one| one == bound)))
    }

    /// Whether it is a Unix socket with this name or path.
    fn is_unix_of(&self, name: &str, path: &Path) -> bool {
        let absolute = std::path::absolute(path).unwrap_or_default();
        match (&self.listener, self.origin) {
            (AnyListener::Unix(_), SocketOrigin::Gate) => Path::new(&self.name) == absolute,
            (AnyListener::Unix(listener), SocketOrigin::ServiceManager) => {
                self.name == name || listener.local_addr().is_ok_and(|bound| bound.as_pathname() == Some(&absolute))
            }
            (AnyListener::Tcp(_), _) => false,
        }
    }

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
    fn sockets_of_a_gate_do_not_replace_those_of_the_service_manager() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let of = |origin| {
            let listener = AnyListener::Tcp(listener.try_clone().unwrap());
            InheritedSockets(vec![InheritedSocket { name: String::new(), origin, listener }])
        };
        let mut sockets = of(SocketOrigin::ServiceManager);
        assert!(matches!(sockets.take_over(of(SocketOrigin::Gate)), Err(SocketError::TakeOver)));
        assert!(matches!(sockets.finish(), Err(SocketError::Unused(_))), "it still has its own");
        let mut sockets = InheritedSockets::default();
        sockets.take_over(of(SocketOrigin::Gate)).unwrap();
        assert_eq!(sockets.0.len(), 1);
    }

    #[test]
    fn sockets_that_do_not_listen_are_refused() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let passed = PassedSocket::copy("127.0.0.1:0", &stream).unwrap();
        assert!(InheritedSockets::of_gate(vec![passed]).is_err());
    }
}
