//! The Unix socket, for the same user and root only.

use std::fs::{self, Permissions};
use std::io;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

/// A bound socket, whose file is removed when it is dropped.
#[derive(Debug)]
pub(super) struct Socket {
    listener: UnixListener,
    path: PathBuf,
    owner: u32,
}

impl Socket {
    /// Binds the socket, replacing one that a dead process left behind.
    pub(super) fn bind(path: &Path) -> io::Result<Self> {
        remove_stale(path)?;
        let listener = UnixListener::bind(path)?;
        let socket = Self { listener, path: path.to_owned(), owner: rustix::process::geteuid().as_raw() };
        // Until this is done, checking the peer's user keeps others out.
        fs::set_permissions(path, Permissions::from_mode(0o600))?;
        Ok(socket)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The next connection from a permitted user, and that user. Cancel safe.
    pub(super) async fn accept(&self) -> io::Result<(UnixStream, u32)> {
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

impl Drop for Socket {
    fn drop(&mut self) {
        // A remaining file is removed at the next start.
        let _ = fs::remove_file(&self.path);
    }
}

fn is_permitted(uid: u32, owner: u32) -> bool {
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
        Ok(_) => Err(io::Error::new(io::ErrorKind::AddrInUse, "another pullgate is using this state directory")),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => fs::remove_file(path),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn sockets_of_dead_processes_are_replaced() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).unwrap());
        assert!(path.exists());
        let socket = Socket::bind(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(Socket::bind(&path).unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert!(path.exists(), "the refused process must not remove the file");
        drop(socket);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn files_that_are_not_sockets_are_kept() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        fs::write(&path, "precious").unwrap();
        assert_eq!(Socket::bind(&path).unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"precious");
    }

    #[test]
    fn only_the_same_user_and_root_are_permitted() {
        assert!(is_permitted(1000, 1000) && is_permitted(0, 1000));
        assert!(!is_permitted(1001, 1000) && !is_permitted(1000, 0));
    }
}
