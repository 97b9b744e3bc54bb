//! Maps files into memory so that response bodies can be sent with `sendfile`, without copying the content through this
//! process.
//!
//! hyper cannot send files, but passes large slices by pointer. A window is a mapping of a file, used only for its
//! addresses: code that finds a slice inside a window knows which bytes of which file it refers to, and can send these
//! from the file. Other code simply reads the same bytes through the mapping, more slowly but with the same result.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::{Arc, PoisonError, RwLock, Weak};

use bytes::Bytes;
use memmap2::{Mmap, MmapOptions};

/// All windows by their first address. Process-wide, like addresses.
static WINDOWS: RwLock<BTreeMap<usize, Weak<FileWindow>>> = RwLock::new(BTreeMap::new());

/// A memory mapping of a file.
#[derive(Debug)]
pub struct FileWindow {
    file: Arc<File>,
    map: Mmap,
    windows: FileWindows,
}

impl FileWindow {
    /// Maps the first `size` bytes of a file, which may still be growing up to that size. The file must never be
    /// truncated, and bytes that have been handed out must not change: content files are written once, and afterwards
    /// only unlinked.
    ///
    /// # Errors
    /// The file cannot be mapped: there is no address space left, or the file system does not support mappings.
    pub fn new(file: Arc<File>, size: usize) -> io::Result<Arc<Self>> {
        let map = map(&file, size)?;
        let window = Arc::new(Self { file, map });
        let address = window.address();
        WINDOWS.write().unwrap_or_else(PoisonError::into_inner).insert(address, Arc::downgrade(&window));
        Ok(window)
    }

    /// All bytes of the window. Slices of it keep the mapping alive.
    pub fn bytes(self: &Arc<Self>) -> Bytes {
        Bytes::from_owner(Lent(self.clone()))
    }

    /// The window that contains a slice, and the offset of the slice in the file.
    pub fn find(slice: &[u8]) -> Option<(Arc<Self>, u64)> {
        let address = slice.as_ptr().addr();
        let windows = WINDOWS.read().unwrap_or_else(PoisonError::into_inner);
        let window = windows.range(..=address).next_back()?.1.upgrade()?;
        let offset = address - window.address();
        (offset + slice.len() <= window.map.len()).then_some((window, offset as u64))
    }

    /// The mapped file.
    pub fn file(&self) -> &File {
        &self.file
    }

    fn address(&self) -> usize {
        self.map.as_ptr().addr()
    }
}

impl Drop for FileWindow {
    /// Removes the entry before the mapping is released, because its addresses may be reused for another file.
    fn drop(&mut self) {
        self.windows.0.write().unwrap_or_else(PoisonError::into_inner).remove(&self.address());
    }
}

struct Lent(Arc<FileWindow>);

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.0.map
    }
}

#[expect(unsafe_code, reason = "another process could change mapped bytes; see the proof inside")]
fn map(file: &File, size: usize) -> io::Result<Mmap> {
    // SAFETY: all bytes that are read through the mapping must exist and must not change. They are below the mark that
    // the file's only writer published after writing them. That writer only appends, nothing truncates the file, and
    // unlinking a file keeps its pages for processes that have it open. Beyond that, only an administrator who
    // truncates the file by hand can make a read fail; that ends the process (SIGBUS) and serves no wrong content.
    unsafe { MmapOptions::new().len(size).map(file) }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::FileExt;

    use super::*;

    fn file(content: &[u8]) -> Arc<File> {
        let file = tempfile::tempfile().unwrap();
        file.write_all_at(content, 0).unwrap();
        Arc::new(file)
    }

    #[test]
    fn a_slice_is_found_in_its_own_file_and_nowhere_else() {
        let windows = FileWindows::default();
        let one = windows.open(file(b"one hundred"), 11).unwrap();
        let two = windows.open(file(b"two"), 3).unwrap();
        let (first, second) = (one.bytes(), two.bytes());
        assert_eq!((&first[4..], &second[..]), (&b"hundred"[..], &b"two"[..]), "the bytes are correct");
        let (window, offset) = FileWindow::find(&first.slice(4..8)).unwrap();
        assert!(Arc::ptr_eq(&window, &one) && offset == 4);
        assert!(Arc::ptr_eq(&windows.find(&second).unwrap().0, &two));
        assert!(windows.find(b"elsewhere").is_none());
        assert!(windows.find(&vec![0; 5000]).is_none());
        assert!(FileWindows::default().find(&first).is_none(), "another set does not know the window");
    }

    #[test]
    fn unmapped_windows_are_not_found() {
        let window = FileWindow::new(file(b"gone"), 4).unwrap();
        let address = window.address();
        let held = window.bytes();
        drop(window);
        assert!(windows.0.read().unwrap().contains_key(&address), "a slice keeps its window");
        drop(held);
        let windows = WINDOWS.read().unwrap();
        assert!(windows.get(&address).is_none_or(|other| other.upgrade().is_some()), "a stale entry remains");
    }
}
