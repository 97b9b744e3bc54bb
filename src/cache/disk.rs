//! Files named by digest. A file gets its name only after its content was verified.
//!
//! Larger content is also synced before it gets its name. Smaller content is not, because syncing takes longer than
//! everything else in the pull of a small image; a power failure may therefore leave it empty or incomplete. It is
//! verified whenever it is read, so such a file counts as missing.

mod verifying;

use std::fs::{self, File, Permissions};
use std::io::{self, IoSliceMut, Read};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rustix::fs::{FallocateFlags, fallocate, ioctl_ficlone, statvfs};
use rustix::io::{Errno, ReadWriteFlags, pread, preadv2};

use crate::oci::{Algorithm, Digest, Hasher};
use crate::runtime::{create_private_dir, open_private};
pub(super) use verifying::{VerifyingWriter, WrongContent};

/// How long the creation of a file, or of a small file with its content, may take before the file system counts as
/// failing.
const TIMEOUT: Duration = Duration::from_secs(5);
/// Content up to this size, in bytes, gets its name without being synced, and is verified whenever it is read.
pub(super) const UNSYNCED: usize = 64 * 1024;
/// The size of a read while hashing, in bytes.
const PIECE: usize = 256 * 1024;

/// The directory of files in progress.
const PARTIAL: &str = "partial";

/// The directory that contains all content.
pub(super) struct Disk {
    root: PathBuf,
    /// Begins the names of the files in `partial`: the process that this one took over from may still write there.
    process: u64,
    next: AtomicU64,
}

impl Disk {
    /// Opens the directory, and removes files in `partial` that an earlier process left behind.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let partial = root.join(PARTIAL);
        create_private_dir(root)?;
        fs::set_permissions(root, Permissions::from_mode(0o700))?;
        create_private_dir(&partial)?;
        for entry in fs::read_dir(&partial)? {
            match fs::remove_file(entry?.path()) {
                // The earlier process may be ending while this one starts.
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(Self { root: root.to_owned(), process: fastrand::u64(..), next: AtomicU64::new(0) })
    }

    /// Whether the content is complete on disk.
    pub(super) fn has(&self, digest: Digest) -> bool {
        self.path(digest).exists()
    }

    /// The size of content, in bytes; `None` if there is none.
    pub(super) fn size(&self, digest: Digest) -> Option<u64> {
        fs::metadata(self.path(digest)).ok().map(|metadata| metadata.len())
    }

    /// Opens a file; returns it with its size in bytes. This runs on the current thread: opening a file in the cache
    /// takes microseconds, moving to another thread ten times as long.
    pub(super) fn file(&self, digest: Digest) -> io::Result<Option<(File, u64)>> {
        match File::open(self.path(digest)) {
            Ok(file) => {
                let size = file.metadata()?.len();
                Ok(Some((file, size)))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads small content completely and verifies it. Content larger than `limit` bytes is an error, and so is content
    /// that does not match its digest ([`io::ErrorKind::InvalidData`]).
    pub(super) async fn read(&self, digest: Digest, limit: usize) -> io::Result<Option<Bytes>> {
        match self.begin_read(digest, limit)? {
            None => Ok(None),
            Some((_, Some(bytes))) => verified(digest, bytes),
            Some((mut file, None)) => {
                let bytes = blocking(move || {
                    let mut bytes = Vec::new();
                    file.read_to_end(&mut bytes)?;
                    Ok(bytes)
                });
                verified(digest, bytes.await?)
            }
        }
    }

    /// Like [`read`](Self::read), but only if it takes no waiting: from the system's memory.
    pub(super) fn read_at_once(&self, digest: Digest, limit: usize) -> io::Result<Option<Bytes>> {
        match self.begin_read(digest, limit)? {
            Some((_, Some(bytes))) => verified(digest, bytes),
            _ => Ok(None),
        }
    }

    /// Opens a file, and reads it if it is in the system's memory: that takes microseconds, and moving to another
    /// thread ten times as long.
    fn begin_read(&self, digest: Digest, limit: usize) -> io::Result<Option<(File, Option<Vec<u8>>)>> {
        let Some((file, size)) = self.file(digest)? else { return Ok(None) };
        if size > limit as u64 {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "too large to be read at once"));
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or_default()];
        let is_complete = read_without_waiting(&file, &mut bytes, 0);
        Ok(Some((file, is_complete.then_some(bytes))))
    }

    /// Writes content whose digest was computed from these bytes; replaces a file that may be damaged.
    pub(super) async fn write(self: &Arc<Self>, digest: Digest, bytes: Bytes) -> io::Result<()> {
        let disk = self.clone();
        in_time(blocking(move || {
            if disk.is_intact(digest).is_ok_and(|intact| intact == Some(true)) {
                return Ok(());
            }
            let partial = disk.make_partial(digest)?;
            partial.write_at(&bytes, 0)?;
            partial.publish(&disk.path(digest), bytes.len() as u64)
        }))
        .await
    }

    /// Creates a file in `partial`, on the same file system as the content, and reserves `size` bytes for it, so that a
    /// full disk is detected before the first byte is sent rather than in the middle of a response.
    pub(super) async fn partial(self: &Arc<Self>, digest: Digest, size: u64) -> io::Result<Partial> {
        let disk = self.clone();
        in_time(blocking(move || {
            let partial = disk.make_partial(digest)?;
            match fallocate(&*partial.file, FallocateFlags::KEEP_SIZE, 0, size.max(1)) {
                // Some file systems cannot reserve space; then the write itself reports a full disk.
                Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(partial),
                Err(error) => Err(error.into()),
            }
        }))
        .await
    }

    fn make_partial(&self, digest: Digest) -> io::Result<Partial> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let folder = self.root.join(PARTIAL);
        let path = folder.join(format!("{:016x}-{number}.{}", self.process, digest.hex()));
        let open = || open_private(File::options().read(true).write(true).create_new(true), &path);
        let opened = match open() {
            // Somebody removed the directory.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                create_private_dir(&self.root).and_then(|()| create_private_dir(&folder)).and_then(|()| open())
            }
            opened => opened,
        };
        let file = opened.map_err(|error| io::Error::new(error.kind(), format!("{}: {error}", path.display())))?;
        Ok(Partial { file: Arc::new(file), path: Some(path) })
    }

    /// Gives content a second place, which must not exist yet: as a copy that shares the blocks on disk where the file
    /// system can do that, else as a second name of the same file, else as a copy. Blocks while copying.
    pub(super) fn share(&self, digest: Digest, target: &Path) -> io::Result<()> {
        let path = self.path(digest);
        let source = File::open(&path)?;
        let copy = open_private(File::options().write(true).create_new(true), target)?;
        if ioctl_ficlone(&copy, &source).is_ok() {
            return Ok(());
        }
        fs::remove_file(target)?;
        fs::hard_link(&path, target).or_else(|_| fs::copy(&path, target).map(|_| ()))
    }

    /// Removes content. Succeeds if it is already gone.
    pub(super) fn remove(&self, digest: Digest) -> io::Result<()> {
        match fs::remove_file(self.path(digest)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// The free space available to this process and the total size of the file system, in bytes.
    pub(super) fn space(&self) -> io::Result<Space> {
        let stat = statvfs(&self.root)?;
        Ok(Space { free: stat.f_bavail * stat.f_frsize, total: stat.f_blocks * stat.f_frsize })
    }

    /// The directories that contain content, for scanning one directory at a time.
    pub(super) fn folders(&self) -> io::Result<Vec<PathBuf>> {
        let mut folders = Vec::new();
        for algorithm in Algorithm::ALL {
            match fs::read_dir(self.root.join(algorithm.name())) {
                Ok(entries) => {
                    for entry in entries {
                        folders.push(entry?.path());
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(folders)
    }

    /// The content in one of these directories. Other files, whose names are not digests, are ignored.
    pub(super) fn contents(&self, folder: &Path) -> io::Result<Vec<FoundFile>> {
        let algorithm = folder.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
        let mut found = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = format!("{algorithm}:{}", entry.file_name().to_string_lossy());
            let Ok(digest) = name.parse::<Digest>() else { continue };
            // Removed in the meantime.
            let Ok(metadata) = entry.metadata() else { continue };
            let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            found.push(FoundFile { digest, size: metadata.len(), modified });
        }
        Ok(found)
    }

    /// Whether the content matches its digest; `None` if there is none. Blocks while reading.
    pub(super) fn is_intact(&self, digest: Digest) -> io::Result<Option<bool>> {
        let Some((mut file, _)) = self.file(digest)? else { return Ok(None) };
        let (mut hasher, mut piece) = (Hasher::new(digest.algorithm()), vec![0; PIECE]);
        loop {
            match file.read(&mut piece)? {
                0 => return Ok(Some(hasher.finish() == digest)),
                read => hasher.update(&piece[..read]),
            }
        }
    }

    /// The path of content: `ALGORITHM/ab/abcdef…`.
    pub(super) fn path(&self, digest: Digest) -> PathBuf {
        let hex = digest.hex();
        self.root.join(digest.algorithm().name()).join(&hex[..2]).join(hex)
    }
}

/// The space on a file system, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Space {
    pub(super) free: u64,
    pub(super) total: u64,
}

/// A content file found on disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct FoundFile {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) modified: SystemTime,
}

/// A file in progress, which is removed if it is dropped before it is published.
pub(super) struct Partial {
    /// Open for reading and writing.
    pub(super) file: Arc<File>,
    path: Option<PathBuf>,
}

impl Partial {
    /// Writes at an offset.
    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    /// Gives the file, of `size` bytes, its final name. Content larger than [`UNSYNCED`] is synced before and its name
    /// after that, so that no crash can undo or change it once this returns.
    pub(super) fn publish(mut self, path: &Path, size: u64) -> io::Result<()> {
        let is_synced = size > UNSYNCED as u64;
        if is_synced {
            self.file.sync_data()?;
        }
        let folder = path.parent().unwrap_or(path);
        if let Some(partial) = &self.path {
            match fs::rename(partial, path) {
                // The first content in this directory.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    create_folder(folder)?;
                    fs::rename(partial, path)?;
                }
                renamed => renamed?,
            }
        }
        self.path = None;
        if is_synced { File::open(folder)?.sync_all() } else { Ok(()) }
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // Remaining files are removed at the next start.
            let _ = fs::remove_file(path);
        }
    }
}

/// Fills a buffer from an offset in a file, if the system has all of these bytes in memory. Returns false otherwise.
pub(super) fn read_without_waiting(file: &File, bytes: &mut [u8], offset: u64) -> bool {
    let read = match preadv2(file, &mut [IoSliceMut::new(bytes)], offset, ReadWriteFlags::NOWAIT) {
        // Some file systems cannot say whether it waits, such as tmpfs. Small content is read all the same.
        Err(Errno::OPNOTSUPP) if bytes.len() <= UNSYNCED => pread(file, &mut *bytes, offset),
        read => read,
    };
    read.is_ok_and(|read| read == bytes.len())
}

/// The content, if it matches its digest.
fn verified(digest: Digest, bytes: Vec<u8>) -> io::Result<Option<Bytes>> {
    if Digest::of(digest.algorithm(), &bytes) != digest {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "the content does not match its digest"));
    }
    Ok(Some(bytes.into()))
}

/// Limits how long an operation may take.
async fn in_time<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    let late = |_| io::Error::new(io::ErrorKind::TimedOut, "the file system does not respond");
    tokio::time::timeout(TIMEOUT, work).await.map_err(late)?
}

/// Creates `ALGORITHM/ab`, both private to this user.
fn create_folder(folder: &Path) -> io::Result<()> {
    if let Some(algorithm) = folder.parent() {
        create_private_dir(algorithm)?;
    }
    create_private_dir(folder)
}

/// Runs file operations off the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
