//! Files that are being read. All readers of a blob share its file descriptor and its mapping. Files that are being
//! read are not evicted.

use std::collections::HashMap;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::content_file::{ContentFile, FileMemory};
use super::disk::Disk;
use crate::oci::Digest;

/// An open, complete file.
pub struct Reading {
    path: PathBuf,
    file: Arc<ContentFile>,
    is_broken: AtomicBool,
}

impl Reading {
    fn new(path: PathBuf, file: ContentFile) -> Self {
        Self { path, file: Arc::new(file), is_broken: AtomicBool::new(false) }
    }

    /// Removes a file that cannot be read, so that the next request fetches it again. Returns whether it is the first
    /// to do so.
    pub(super) fn discard(&self, error: &io::Error) -> bool {
        let is_first = !self.is_broken.swap(true, Ordering::Relaxed);
        if is_first {
            tracing::error!(file = %self.path.display(), %error, "cannot read cached content; it is fetched again");
            // If the disk cannot remove it either, `cache verify` will find it.
            let _ = std::fs::remove_file(&self.path);
        }
        is_first
    }

    fn is_sound(&self) -> bool {
        !self.is_broken.load(Ordering::Relaxed)
    }

    /// The file itself.
    pub(super) fn file(&self) -> &Arc<ContentFile> {
        &self.file
    }
}

/// All files that are being read.
pub(super) struct Readings {
    open: Mutex<HashMap<Digest, Weak<Reading>>>,
    memory: FileMemory,
}

impl Readings {
    /// Creates an empty set. Files are read through `memory`.
    pub(super) fn new(memory: FileMemory) -> Self {
        Self { open: Mutex::default(), memory }
    }

    /// Opens content, or joins its existing readers. The lock is held throughout, so that the content cannot be removed
    /// between being found and being opened.
    pub(super) fn open(&self, disk: &Disk, digest: Digest) -> io::Result<Option<Arc<Reading>>> {
        let mut readings = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(reading) = readings.get(&digest).and_then(Weak::upgrade).filter(|reading| reading.is_sound()) {
            return Ok(Some(reading));
        }
        let Some((file, size)) = disk.file(digest)? else { return Ok(None) };
        let file = ContentFile::new(Arc::new(file), size, self.memory.clone());
        let reading = Arc::new(Reading::new(disk.path(digest), file));
        if readings.len() == readings.capacity() {
            readings.retain(|_, reading| reading.strong_count() > 0);
        }
        readings.insert(digest, Arc::downgrade(&reading));
        Ok(Some(reading))
    }

    /// Whether the content is being read.
    pub(super) fn is_read(&self, digest: Digest) -> bool {
        let readings = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        readings.get(&digest).is_some_and(|reading| reading.strong_count() > 0)
    }

    /// Removes content unless it is being read. Returns false if it was not removed.
    pub(super) fn remove_unread(&self, disk: &Disk, digest: Digest) -> io::Result<bool> {
        let mut readings = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if readings.get(&digest).is_some_and(|reading| reading.strong_count() > 0) {
            return Ok(false);
        }
        readings.remove(&digest);
        disk.remove(digest).map(|()| true)
    }

    /// Removes corrupt content even if it is being read.
    pub(super) fn remove_wrong(&self, disk: &Disk, digest: Digest) -> io::Result<()> {
        let mut readings = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        readings.remove(&digest);
        disk.remove(digest)
    }
}
