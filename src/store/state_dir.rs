//! The state directory, which only one process can use at a time.

use std::fs::{File, Metadata};
use std::io;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

use super::DATABASE;
use crate::runtime::{create_private_dir, open_plain_file, open_private};

/// The pause between attempts to lock the directory: the operating system has no lock with a time limit.
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
    /// The directory cannot be written, has files of something else, belongs to another user and is writable by
    /// everybody, or is locked by another process.
    pub fn open(path: &Path) -> Result<Self, StateDirError> {
        let unusable = |error| StateDirError::Unusable { path: path.to_owned(), error };
        create_private_dir(path).map_err(unusable)?;
        // Before its mode is changed: that would take it away from its other users.
        check_content(path)?;
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

    /// Checks a directory without changing it: whether it is a state directory, and can be closed to other users.
    /// Returns whether its mode will be changed.
    ///
    /// # Errors
    /// [`StateDirError::Open`] and [`StateDirError::Foreign`].
    pub fn check(path: &Path) -> Result<bool, StateDirError> {
        match std::fs::metadata(path) {
            Ok(metadata) if is_open(&metadata) => Err(StateDirError::Open(path.to_owned())),
            Ok(metadata) if metadata.is_dir() => {
                check_content(path)?;
                Ok(is_own(&metadata) && mode(&metadata) != 0o700)
            }
            // Whether it can be created is another question.
            Ok(_) | Err(_) => Ok(false),
        }
    }

    /// Whether a process uses a state directory. Also false if this user cannot open the lock.
    ///
    /// If none does, this has the lock for a moment, so a process that starts must wait that long before it gives up.
    pub fn is_in_use(path: &Path) -> bool {
        let Ok(lock) = open_plain_file(&path.join("lock")) else { return false };
        // Several may ask at the same time.
        flock(&lock, FlockOperation::NonBlockingLockShared) == Err(rustix::io::Errno::WOULDBLOCK)
    }

    /// The path of the directory.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// The names that pullgate writes at the top of a state directory, and those on a new file system.
const OWN: [&str; 7] = ["admin.sock", "advisories", "blobs", "lock", "lost+found", "next.sock", "scans"];
/// The prefixes of other names: of the audit file, the database and temporary directories.
const OWN_PREFIXES: [&str; 3] = ["audit.jsonl", DATABASE, ".tmp"];

/// Refuses a directory that has files of something else, unless it has been a state directory before: then the audit
/// file and the socket may have names of their own. The database may have been moved away because it was damaged.
fn check_content(path: &Path) -> Result<(), StateDirError> {
    let is = |name: &str, kind: fn(&Metadata) -> bool| {
        std::fs::symlink_metadata(path.join(name)).is_ok_and(|metadata| kind(&metadata))
    };
    if is(DATABASE, Metadata::is_file) || (is("lock", Metadata::is_file) && is("blobs/sha256", Metadata::is_dir)) {
        return Ok(());
    }
    let unusable = |error| StateDirError::Unusable { path: path.to_owned(), error };
    for entry in std::fs::read_dir(path).map_err(unusable)? {
        let name = entry.map_err(unusable)?.file_name().to_string_lossy().into_owned();
        if !OWN.contains(&&*name) && !OWN_PREFIXES.iter().any(|prefix| name.starts_with(prefix)) {
            return Err(StateDirError::Foreign { path: path.to_owned(), name });
        }
    }
    Ok(())
}

fn is_own(metadata: &Metadata) -> bool {
    metadata.uid() == rustix::process::geteuid().as_raw()
}

fn mode(metadata: &Metadata) -> u32 {
    metadata.permissions().mode() & 0o777
}

/// Restricts a directory that belongs to this user to this user. A directory of another user, such as a mounted volume,
/// is used unchanged, unless anyone could replace the files in it.
fn close_to_others(path: &Path) -> Result<(), StateDirError> {
    let unusable = |error| StateDirError::Unusable { path: path.to_owned(), error };
    let metadata = std::fs::metadata(path).map_err(unusable)?;
    let mode = mode(&metadata);
    if is_own(&metadata) {
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
    if is_open(&metadata) {
        return Err(StateDirError::Open(path.to_owned()));
    }
    if rustix::process::geteuid().is_root() {
        tracing::warn!(
            path = %path.display(),
            owner = metadata.uid(),
            "the gate runs as root on a state directory of another user, who cannot use what it writes there; run it as that user"
        );
    }
    Ok(())
}

/// Whether anyone could replace files in a directory of another user.
fn is_open(metadata: &Metadata) -> bool {
    !is_own(metadata) && mode(metadata) & 0o002 != 0
}

/// Why the state directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StateDirError {
    /// The directory has files of something else.
    #[error(
        "{}: this is not a state directory: it has {name:?}; set `state_dir` to an empty or new directory, such as {}, because pullgate removes the access of other users", path.display(), path.join("pullgate").display()
    )]
    Foreign {
        /// The directory.
        path: PathBuf,
        /// One of the files.
        name: String,
    },
    /// Another process uses the directory.
    #[error("{0}: another pullgate is running on this state directory; stop it, or give this one its own `state_dir`")]
    Locked(PathBuf),
    /// Anybody could create files in the directory.
    #[error(
        "{0}: the state directory belongs to another user and is writable for everyone; set `state_dir` to a subdirectory, which pullgate creates for itself"
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

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};

    use super::*;

    fn folder(mode: u32, files: &[&str]) -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        files.iter().for_each(|name| fs::write(dir.path().join(name), "").unwrap());
        fs::set_permissions(dir.path(), Permissions::from_mode(mode)).unwrap();
        dir
    }

    #[test]
    fn a_directory_with_files_of_something_else_is_left_as_it_is() {
        for (files, is_good) in [
            (&[][..], true),
            (&["lost+found"], true),
            (&["lock", "next.sock", "blobs", "audit.jsonl.1", "pullgate.db-wal", ".tmpAbC"], true),
            (&["pullgate.db", "anything"], true),
            (&["passwd"], false),
            (&["lock", "dpkg"], false),
            (&["pullgate.toml"], false),
        ] {
            let dir = folder(0o755, files);
            let checked = StateDir::check(dir.path());
            let opened = StateDir::open(dir.path());
            assert_eq!((checked.is_ok(), opened.is_ok()), (is_good, is_good), "{files:?}: {checked:?} {opened:?}");
            let expected = if is_good { 0o700 } else { 0o755 };
            assert_eq!(mode(&fs::metadata(dir.path()).unwrap()), expected, "{files:?}");
            match checked {
                Ok(changes) => assert!(changes, "{files:?}: the change is announced"),
                Err(error) => {
                    assert!(error.to_string().contains("set `state_dir` to an empty or new directory"), "{error}");
                }
            }
        }
        assert!(!StateDir::check(folder(0o700, &[]).path()).unwrap(), "nothing will be changed");
        assert!(!StateDir::is_in_use(folder(0o700, &[]).path()), "there is no lock");
        let without_database = folder(0o700, &["lock", "decisions.jsonl"]);
        StateDir::check(without_database.path()).unwrap_err();
        fs::create_dir_all(without_database.path().join("blobs/sha256")).unwrap();
        StateDir::check(without_database.path()).unwrap();
    }
}
