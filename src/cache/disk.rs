//! Files named by digest. A name exists only when the bytes under it were verified and synced.

use std::fs::{self, File, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use rustix::fs::{FallocateFlags, fallocate, statvfs};
use rustix::io::Errno;

use crate::oci::{Algorithm, Digest, Hasher};
use crate::runtime::{create_private_dir, open_private};

/// How long the file system may take to make a file before it counts as failing.
const PATIENCE: Duration = Duration::from_secs(5);
/// How much is hashed at once, in bytes.
const PIECE: usize = 256 * 1024;

/// The folder of all content.
pub(super) struct Disk {
    root: PathBuf,
    next: AtomicU64,
}

impl Disk {
    /// Opens the folder and removes what a process that died left in `partial`.
    pub(super) fn open(root: &Path) -> io::Result<Self> {
        let partial = root.join("partial");
        create_private_dir(root)?;
        fs::set_permissions(root, Permissions::from_mode(0o700))?;
        create_private_dir(&partial)?;
        for entry in fs::read_dir(&partial)? {
            fs::remove_file(entry?.path())?;
        }
        Ok(Self { root: root.to_owned(), next: AtomicU64::new(0) })
    }

    /// Whether content is here, whole.
    pub(super) fn has(&self, digest: Digest) -> bool {
        self.path(digest).exists()
    }

    /// The file and its size in bytes. Opening is inline: a name in the page cache costs microseconds, a hop to
    /// another thread ten times that.
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

    /// All bytes of small content; content larger than `limit` bytes is an error.
    pub(super) async fn read(&self, digest: Digest, limit: usize) -> io::Result<Option<Bytes>> {
        let Some((mut file, size)) = self.file(digest)? else { return Ok(None) };
        if size > limit as u64 {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than what may be read whole"));
        }
        blocking(move || {
            let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or_default());
            file.read_to_end(&mut bytes)?;
            Ok(Some(Bytes::from(bytes)))
        })
        .await
    }

    /// Writes content whose digest was computed over these very bytes; replaces what the disk may have damaged.
    pub(super) async fn write(self: &Arc<Self>, digest: Digest, bytes: Bytes) -> io::Result<()> {
        if self.read(digest, bytes.len()).await.is_ok_and(|known| known.is_some_and(|known| known == bytes)) {
            return Ok(());
        }
        let partial = self.partial(digest, bytes.len() as u64).await?;
        let path = self.path(digest);
        blocking(move || {
            (&*partial.file).write_all(&bytes)?;
            partial.publish(&path)
        })
        .await
    }

    /// A new file in `partial`, on the same file system as the content, with room for so many bytes: a full disk is
    /// known before the first byte is sent, and not in the middle of an answer.
    pub(super) async fn partial(self: &Arc<Self>, digest: Digest, size: u64) -> io::Result<Partial> {
        let disk = self.clone();
        let made = tokio::time::timeout(PATIENCE, blocking(move || disk.make_partial(digest, size))).await;
        made.unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "the file system does not answer")))
    }

    fn make_partial(&self, digest: Digest, size: u64) -> io::Result<Partial> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let path = self.root.join("partial").join(format!("{}.{number}", digest.hex()));
        let file = open_private(File::options().read(true).write(true).create_new(true), &path)?;
        let partial = Partial { file: Arc::new(file), path: Some(path) };
        match fallocate(&*partial.file, FallocateFlags::KEEP_SIZE, 0, size.max(1)) {
            // Some file systems cannot promise room; then the write itself will say.
            Ok(()) | Err(Errno::OPNOTSUPP | Errno::NOSYS) => Ok(partial),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes content. That it is gone already is as good.
    pub(super) fn remove(&self, digest: Digest) -> io::Result<()> {
        match fs::remove_file(self.path(digest)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// What the file system has: free for us and in all, in bytes.
    pub(super) fn space(&self) -> io::Result<Space> {
        let stat = statvfs(&self.root)?;
        Ok(Space { free: stat.f_bavail * stat.f_frsize, total: stat.f_blocks * stat.f_frsize })
    }

    /// The folders that content lies in, so that all of it can be gone through a folder at a time.
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

    /// The content of one of those folders. Files whose names are no digests are not ours and are left alone.
    pub(super) fn contents(&self, folder: &Path) -> io::Result<Vec<FoundFile>> {
        let algorithm = folder.parent().and_then(Path::file_name).unwrap_or_default().to_string_lossy().into_owned();
        let mut found = Vec::new();
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            let name = format!("{algorithm}:{}", entry.file_name().to_string_lossy());
            let Ok(digest) = name.parse::<Digest>() else { continue };
            // What was removed in the meantime is not here.
            let Ok(metadata) = entry.metadata() else { continue };
            let modified = metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH);
            found.push(FoundFile { digest, size: metadata.len(), modified });
        }
        Ok(found)
    }

    /// Whether the bytes under a name have that digest; `None` when there are none. Blocks for as long as it reads.
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

    /// Where content lies: `ALGORITHM/ab/abcdef…`.
    pub(super) fn path(&self, digest: Digest) -> PathBuf {
        let hex = digest.hex();
        self.root.join(digest.algorithm().name()).join(&hex[..2]).join(hex)
    }
}

/// What a file system has, in bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Space {
    pub(super) free: u64,
    pub(super) total: u64,
}

/// A file of content, as found on disk.
#[derive(Clone, Copy, Debug)]
pub(super) struct FoundFile {
    pub(super) digest: Digest,
    pub(super) size: u64,
    pub(super) modified: SystemTime,
}

/// A file in progress; removed when it is dropped unpublished.
pub(super) struct Partial {
    /// Open for reading and writing.
    pub(super) file: Arc<File>,
    path: Option<PathBuf>,
}

impl Partial {
    /// Appends at an offset.
    pub(super) fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    /// Syncs the bytes and gives them their name. After this returns, no crash can take them back or change them.
    pub(super) fn publish(mut self, path: &Path) -> io::Result<()> {
        self.file.sync_data()?;
        let folder = path.parent().unwrap_or(path);
        create_folder(folder)?;
        if let Some(partial) = &self.path {
            fs::rename(partial, path)?;
        }
        self.path = None;
        File::open(folder)?.sync_all()
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        if let Some(path) = &self.path {
            // What remains here is swept at the next start.
            let _ = fs::remove_file(path);
        }
    }
}

/// `ALGORITHM/ab`, both for us alone.
fn create_folder(folder: &Path) -> io::Result<()> {
    if let Some(algorithm) = folder.parent() {
        create_private_dir(algorithm)?;
    }
    create_private_dir(folder)
}

/// Runs file work off the async threads.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|error| Err(io::Error::other(error)))
}
