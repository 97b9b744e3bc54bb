//! The state directory, which only one process can use at a time.

use std::fs::File;
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use crate::runtime::{create_private_dir, open_private};

/// How often it is tried to lock the directory. The operating system has no lock with a time limit.
const RETRY: Duration = Duration::from_millis(5);

/// The state directory, locked for this process while the value exists.
#[derive(Debug)]
pub struct StateDir {
    path: PathBuf,
    /// Only kept open, never read. Closing it releases the lock.
    _lock: File,
}

impl StateDir {
    /// Creates the directory if it does not exist, removes the access of other users, and locks it.
    ///
    /// # Errors
    /// The directory cannot be written, belongs to another user and is writable by everybody, or is locked by another
    /// process.
    pub fn open(path: &Path) -> Result<Self, StateDirError> {
        let unusable = |error| StateDirError::Unusable { path: path.to_owned(), error };
        create_private_dir(path).map_err(unusable)?;
        close_to_others(path)?;
        let mut options = File::options();
        let options = options.create(true).truncate(false).write(true);
        let lock = open_private(options, &path.join("lock")).map_err(unusable)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { path: path.to_owned(), _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(StateDirError::Locked(path.to_owned())),
            Err(error) => Err(unusable(error.into())),
        }
    }

    /// The same, but waits until another process has released the directory, at most for `limit`.
    ///
    /// # Errors
    /// The same as [`open`](Self::open).
    pub async fn open_within(path: &Path, limit: Duration) -> Result<Self, StateDirError> {
        let end = Instant::now() + limit;
        loop {
            match Self::open(path) {
                Err(StateDirError::Locked(_)) if Instant::now() < end => tokio::time::sleep(RETRY).await,
                opened => return opened,
            }
        }
    }

    /// Checks a directory without changing it: whether it can be closed to other users.
    ///
    /// # Errors
    /// [`StateDirError::Open`].
    pub fn check(path: &Path) -> Result<(), StateDirError> {
        match std::fs::metadata(path) {
            Ok(metadata) if is_open(&metadata) => Err(StateDirError::Open(path.to_owned())),
            // Whether it can be created is another question.
            Ok(_) | Err(_) => Ok(()),
        }
    }

    /// The path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// Restricts a directory that belongs to this user to this user. A directory of another user, such as a mounted volume,
/// is used as it is, unless anybody could replace the files in it.
fn close_to_others(path: &Path) -> Result<(), StateDirError> {
    let unusable = |error| StateDirError::Unusable { path: path.to_owned(), error };
    let metadata = std::fs::metadata(path).map_err(unusable)?;
    let mode = metadata.permissions().mode() & 0o777;
    if metadata.uid() == rustix::process::geteuid().as_raw() {
        if mode != 0o700 {
            tracing::warn!(
                path = %path.display(),
                mode = format!("{mode:o}"),
                "other users could access the state directory; its mode is now 0700"
            );
            std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o700)).map_err(unusable)?;
        }
        return Ok(());
    }
    if is_open(&metadata) { Err(StateDirError::Open(path.to_owned())) } else { Ok(()) }
}

/// Whether anybody could replace files in a directory of another user.
fn is_open(metadata: &std::fs::Metadata) -> bool {
    metadata.uid() != rustix::process::geteuid().as_raw() && metadata.permissions().mode() & 0o002 != 0
}

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// Another process uses the directory.
    #[error("{0}: another pullgate is running on this state directory; stop it, or give this one its own `state_dir`")]
    Locked(PathBuf),
    /// Anybody could create files in the directory.
    #[error(
        "{0}: the state directory belongs to another user, and everybody can write there; let `state_dir` name a folder inside of it, which pullgate creates for itself"
    )]
    Open(PathBuf),
    /// The directory is missing or not writable, or the disk is full.
    #[error(
        "{path}: the state directory cannot be used: {error}; `state_dir` names it, and pullgate must be able to write there"
    )]
    Unusable {
        /// The directory.
        path: PathBuf,
        /// The error of the operating system.
        error: io::Error,
    },
}
