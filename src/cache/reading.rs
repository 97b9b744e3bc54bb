//! Files that are being read. Readers of one blob share its descriptor and its window, and what is read is not evicted.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, Weak};

use bytes::Bytes;

use super::disk::Disk;
use crate::oci::Digest;
use crate::runtime::FileWindow;

/// A complete file, open.
pub struct Reading {
    path: PathBuf,
    file: Arc<File>,
    size: u64,
    window: OnceLock<Option<Bytes>>,
    is_broken: AtomicBool,
}

impl Reading {
    fn new(path: PathBuf, file: File, size: u64) -> Self {
        Self { path, file: Arc::new(file), size, window: OnceLock::new(), is_broken: AtomicBool::new(false) }
    }

    /// Takes away what the disk cannot read, so that whoever asks next has it fetched again.
    pub(super) fn discard(&self, error: &io::Error) {
        if !self.is_broken.swap(true, Ordering::Relaxed) {
            tracing::error!(file = %self.path.display(), %error, "content cannot be read; it will be fetched again");
            // A disk that cannot remove it either leaves it to `cache verify`.
            let _ = std::fs::remove_file(&self.path);
        }
    }

    fn is_sound(&self) -> bool {
        !self.is_broken.load(Ordering::Relaxed)
    }

    /// The size in bytes.
    pub(super) fn size(&self) -> u64 {
        self.size
    }

    pub(super) fn file(&self) -> Arc<File> {
        self.file.clone()
    }

    /// The file as lent bytes; `None` where it cannot be mapped.
    pub(super) fn window(&self) -> Option<Bytes> {
        self.window.get_or_init(|| window(&self.file, self.size)).clone()
    }
}

/// A file's first bytes as lent bytes.
pub(super) fn window(file: &Arc<File>, size: u64) -> Option<Bytes> {
    let size = usize::try_from(size).ok().filter(|size| *size > 0)?;
    let window = FileWindow::new(file.clone(), size);
    window
        .inspect_err(|error| tracing::debug!(%error, "content cannot be mapped; it is copied"))
        .ok()
        .map(|w| w.bytes())
}

/// All files that are being read.
#[derive(Default)]
pub(super) struct Readings(Mutex<HashMap<Digest, Weak<Reading>>>);

impl Readings {
    /// Opens content, or joins those who have it open. The lock is held meanwhile, so that nothing is removed between
    /// being found and being opened.
    pub(super) fn open(&self, disk: &Disk, digest: Digest) -> io::Result<Option<Arc<Reading>>> {
        let mut readings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reading) = readings.get(&digest).and_then(Weak::upgrade).filter(|reading| reading.is_sound()) {
            return Ok(Some(reading));
        }
        let Some((file, size)) = disk.file(digest)? else { return Ok(None) };
        let reading = Arc::new(Reading::new(disk.path(digest), file, size));
        if readings.len() == readings.capacity() {
            readings.retain(|_, reading| reading.strong_count() > 0);
        }
        readings.insert(digest, Arc::downgrade(&reading));
        Ok(Some(reading))
    }

    /// Whether somebody reads it.
    pub(super) fn is_read(&self, digest: Digest) -> bool {
        let readings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        readings.get(&digest).is_some_and(|reading| reading.strong_count() > 0)
    }

    /// Removes content unless somebody reads it. False when it stays.
    pub(super) fn remove_unread(&self, disk: &Disk, digest: Digest) -> io::Result<bool> {
        let mut readings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if readings.get(&digest).is_some_and(|reading| reading.strong_count() > 0) {
            return Ok(false);
        }
        readings.remove(&digest);
        disk.remove(digest).map(|()| true)
    }

    /// Removes content although it may be read, because it is wrong.
    pub(super) fn remove_wrong(&self, disk: &Disk, digest: Digest) -> io::Result<()> {
        let mut readings = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        readings.remove(&digest);
        disk.remove(digest)
    }
}
