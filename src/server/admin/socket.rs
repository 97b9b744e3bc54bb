//! The Unix socket, for the same user and root only.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::{UnixListener, UnixStream};

use crate::server::sockets::{InheritedSockets, PassedSocket, SocketOrigin};

/// A bound Unix socket that only the same user and root can use. Its file is removed when it is dropped, unless another
/// process uses it.
#[derive(Debug)]
pub struct OwnerSocket {
    listener: UnixListener,
    path: PathBuf,
    owner: u32,
    file: SocketFile,
}

/// Whether the file of a socket stays when this process ends, because another one uses it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SocketFile {
    is_kept: Arc<AtomicBool>,
    /// Whether it always stays.
    is_foreign: bool,
}

impl SocketFile {
    fn new(origin: Option<SocketOrigin>) -> Self {
        let is_foreign = origin == Some(SocketOrigin::ServiceManager);
        Self { is_kept: Arc::new(AtomicBool::new(origin.is_some())), is_foreign }
    }

    /// Keeps the file, because another process uses it.
    pub fn keep(&self) {
        self.is_kept.store(true, Ordering::Release);
    }

    /// Removes the file with the socket, because no other gate uses it now. That of the service manager stays.
    pub fn own(&self) {
        self.is_kept.store(self.is_foreign, Ordering::Release);
    }
}

impl OwnerSocket {
    /// Binds the socket, replacing one that a dead process left behind, or takes the one that was passed to this
    /// process under this name or for this path.
    ///
    /// # Errors
    /// Another process uses the socket, or the file cannot be created.
    pub fn bind(path: &Path, name: &str, inherited: &mut InheritedSockets) -> io::Result<Self> {
        let owner = rustix::process::geteuid().as_raw();
        if let Some((listener, origin)) = inherited.take_unix(name, path) {
            let file = SocketFile::new(Some(origin));
            return Ok(Self { listener: UnixListener::from_std(listener)?, path: path.to_owned(), owner, file });
        }
        remove_stale(path)?;
        let file = SocketFile::new(None);
        let socket = Self { listener: UnixListener::bind(path)?, path: path.to_owned(), owner, file };
        // Until this is done, checking the peer's user keeps others out.
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        Ok(socket)
    }

    /// A copy of the socket, for the process that takes over from this one.
    ///
    /// # Errors
    /// There is no free file descriptor.
    pub fn passed(&self) -> io::Result<PassedSocket> {
        let path = std::path::absolute(&self.path)?;
        PassedSocket::copy(&path.display().to_string(), &self.listener)
    }

    /// Decides whether the file is kept.
    pub fn file(&self) -> SocketFile {
        self.file.clone()
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The next connection from a permitted user, and that user. Cancel safe.
    ///
    /// # Errors
    /// There are no free file descriptors.
    pub async fn accept(&self) -> io::Result<(UnixStream, u32)> {
        loop {
            let (stream, _) = self.listener.accept().await?;
            match stream.peer_cred().map(|peer| peer.uid()) {
                Ok(uid) if is_permitted(uid, self.owner) => return Ok((stream, uid)),
                Ok(uid) => tracing::warn!(uid, "admin: rejected a connection from another user"),
                Err(error) => tracing::warn!(%error, "admin: rejected a connection from an unknown user"),
            }
        }
    }
}

impl Drop for OwnerSocket {
    fn drop(&mut self) {
        if !self.file.is_kept.load(Ordering::Acquire) {
            // A remaining file is removed at the next start.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether a process of this user may use a socket of the owner: the same user and root.
pub fn is_permitted(uid: u32, owner: u32) -> bool {
    uid == owner || uid == 0
}

fn remove_stale(path: &Path) -> io::Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata.file_type(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    if !kind.is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "a file that is not a socket exists here"));
    }
    match StdUnixStream::connect(path) {
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another process listens on this socket")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bind(path: &Path) -> io::Result<OwnerSocket> {
        OwnerSocket::bind(path, "admin", &mut InheritedSockets::default())
    }

    #[tokio::test]
    async fn sockets_of_dead_processes_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let socket = bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert!(path.exists(), "the refused process must not remove the file");
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn files_that_are_not_sockets_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        fs::write(&path, "precious").unwrap();
        assert_eq!(bind(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn only_the_same_user_and_root_are_permitted() {
        assert!(is_permitted(1000, 1000) && is_permitted(0, 1000));
        assert!(!is_permitted(1001, 1000) && !is_permitted(1000, 0));
    }
}
