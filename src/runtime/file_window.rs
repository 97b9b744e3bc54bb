//! Files as mapped bytes that the program does not read: a body hands out slices of a file's mapping, the connection
//! sends them with `sendfile`, and the bytes never pass through this process.
//!
//! hyper cannot pass a file to a connection, but it passes large slices by pointer. A window is a mapping of a file
//! that serves only for its addresses: a slice inside a window identifies certain bytes of a certain file. Code that
//! does not look the slice up reads the same bytes through the mapping, more slowly, so a missed look-up is harmless.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::{Arc, PoisonError, RwLock, Weak};

use bytes::Bytes;
use memmap2::{Mmap, MmapOptions};

/// The open windows of a cache, by their first address. Clones share them; the cache opens windows, and its listeners
/// find them. Addresses are unique within a process, so a slice of another set's window is simply not found.
#[derive(Clone, Debug, Default)]
pub struct FileWindows(Arc<RwLock<BTreeMap<usize, Weak<FileWindow>>>>);

impl FileWindows {
    /// Opens a window on the first `size` bytes of a file, which may still be growing up to that size. The file must
    /// never be truncated, and bytes that were lent must never change: content files are written once and then only
    /// unlinked.
    ///
    /// # Errors
    /// The file cannot be mapped: no address space is left, or the file system does not support it.
    pub fn open(&self, file: Arc<File>, size: usize) -> io::Result<Arc<FileWindow>> {
        let map = map(&file, size)?;
        let window = Arc::new(FileWindow { file, map, windows: self.clone() });
        let address = window.address();
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(address, Arc::downgrade(&window));
        Ok(window)
    }

    /// The window that contains a slice, and the slice's offset in the file in bytes.
    pub fn find(&self, slice: &[u8]) -> Option<(Arc<FileWindow>, u64)> {
        let address = slice.as_ptr().addr();
        let window = self.at_or_below(address)?;
        let offset = address - window.address();
        (offset + slice.len() <= window.map.len()).then_some((window, offset as u64))
    }

    /// The last window that begins at or below an address. The lock is released before the window is returned: its
    /// other owners may have left in the meantime, and dropping the last one takes the lock for writing.
    fn at_or_below(&self, address: usize) -> Option<Arc<FileWindow>> {
        let windows = self.0.read().unwrap_or_else(PoisonError::into_inner);
        windows.range(..=address).next_back()?.1.upgrade()
    }
}

/// A file's bytes as addresses.
#[derive(Debug)]
pub struct FileWindow {
    file: Arc<File>,
    map: Mmap,
    windows: FileWindows,
}

impl FileWindow {
    /// All bytes of the window. Slices of them keep the window open.
    pub fn bytes(self: &Arc<Self>) -> Bytes {
        Bytes::from_owner(Lent(self.clone()))
    }

    /// The file that is mapped.
    pub fn file(&self) -> &File {
        &self.file
    }

    fn address(&self) -> usize {
        self.map.as_ptr().addr()
    }
}

impl Drop for FileWindow {
    /// Removes the entry before the addresses are unmapped: the next mapping there may be of another file.
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
    // SAFETY: bytes that are read through the mapping must exist and must not change. They are below the mark that the
    // file's only writer published after writing them; that writer only appends, nothing truncates the file, and a
    // removed file keeps its pages while it is open. Only an administrator who truncates the file by hand can make a
    // read fail, which ends the process (SIGBUS) and serves nothing wrong.
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
        assert_eq!((&first[4..], &second[..]), (&b"hundred"[..], &b"two"[..]), "the bytes themselves are right");
        let (window, offset) = windows.find(&first.slice(4..8)).unwrap();
        assert!(Arc::ptr_eq(&window, &one) && offset == 4);
        assert!(Arc::ptr_eq(&windows.find(&second).unwrap().0, &two));
        assert!(windows.find(b"elsewhere").is_none());
        assert!(windows.find(&vec![0; 5000]).is_none());
        assert!(FileWindows::default().find(&first).is_none(), "another set does not know the window");
    }

    /// A look-up may be the last owner of a window that it does not return.
    #[test]
    fn a_look_up_can_drop_the_last_owner_of_a_window() {
        let windows = FileWindows::default();
        let window = windows.open(file(b"gone"), 4).unwrap();
        let found = windows.at_or_below(window.address() + 4).unwrap();
        drop(window);
        assert!(windows.0.try_write().is_ok(), "the lock is held while a window may be dropped");
        drop(found);
        assert!(windows.0.read().unwrap().is_empty());
    }

    #[test]
    fn an_unmapped_window_is_no_longer_found() {
        let windows = FileWindows::default();
        let window = windows.open(file(b"gone"), 4).unwrap();
        let address = window.address();
        let held = window.bytes();
        drop(window);
        assert!(windows.0.read().unwrap().contains_key(&address), "a slice keeps its window");
        drop(held);
        assert!(windows.0.read().unwrap().is_empty(), "a stale entry was left");
    }
}
