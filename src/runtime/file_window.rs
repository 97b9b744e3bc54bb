//! Files as bytes that nobody reads: what a body hands out as a slice of a file's mapping, the connection sends by
//! `sendfile`, and the bytes never pass through this process.
//!
//! hyper has no way to pass a file, but it passes large slices by pointer. A window is a mapping of the file that only
//! lends its addresses: whoever finds a slice inside of a window knows which bytes of which file it stands for. Whoever
//! does not look reads the same bytes through the mapping, more slowly, so nothing can go wrong by not looking.

use std::collections::BTreeMap;
use std::fs::File;
use std::io;
use std::sync::{Arc, PoisonError, RwLock, Weak};

use bytes::Bytes;
use memmap2::{Mmap, MmapOptions};

/// All windows by their first address. For the whole process, as addresses are.
static WINDOWS: RwLock<BTreeMap<usize, Weak<FileWindow>>> = RwLock::new(BTreeMap::new());

/// A file's bytes as addresses.
#[derive(Debug)]
pub struct FileWindow {
    file: Arc<File>,
    map: Mmap,
}

impl FileWindow {
    /// A window on the first `size` bytes of a file, which may still be growing up to that size. The file must never
    /// be truncated, nor bytes be changed that were lent: content files are written once, and only ever unlinked.
    ///
    /// # Errors
    /// When the file cannot be mapped: no address space, or a file system that maps nothing.
    pub fn new(file: Arc<File>, size: usize) -> io::Result<Arc<Self>> {
        let map = map(&file, size)?;
        let window = Arc::new(Self { file, map });
        let address = window.address();
        WINDOWS.write().unwrap_or_else(PoisonError::into_inner).insert(address, Arc::downgrade(&window));
        Ok(window)
    }

    /// All of the window. Slices of it keep the window.
    pub fn bytes(self: &Arc<Self>) -> Bytes {
        Bytes::from_owner(Lent(self.clone()))
    }

    /// The window that a slice lies in, and where in the file it begins.
    pub fn find(slice: &[u8]) -> Option<(Arc<Self>, u64)> {
        let address = slice.as_ptr().addr();
        let windows = WINDOWS.read().unwrap_or_else(PoisonError::into_inner);
        let window = windows.range(..=address).next_back()?.1.upgrade()?;
        let offset = address - window.address();
        (offset + slice.len() <= window.map.len()).then_some((window, offset as u64))
    }

    /// The file behind.
    pub fn file(&self) -> &File {
        &self.file
    }

    fn address(&self) -> usize {
        self.map.as_ptr().addr()
    }
}

impl Drop for FileWindow {
    /// Before the addresses are given back: the next mapping may be of another file.
    fn drop(&mut self) {
        WINDOWS.write().unwrap_or_else(PoisonError::into_inner).remove(&self.address());
    }
}

struct Lent(Arc<FileWindow>);

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.0.map
    }
}

#[expect(unsafe_code, reason = "a mapping is bytes that somebody else could change; see the proof inside")]
fn map(file: &File, size: usize) -> io::Result<Mmap> {
    // SAFETY: the bytes that anybody reads through the mapping must exist and must not change. They lie below the
    // mark that the file's only writer published after writing them; that writer only appends, nobody truncates, and
    // removing a file leaves its pages to those who have it open. Beyond that, only an administrator who truncates the
    // file by hand can make a read fail, which ends the process (SIGBUS) and serves nothing wrong.
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
        let one = FileWindow::new(file(b"one hundred"), 11).unwrap();
        let two = FileWindow::new(file(b"two"), 3).unwrap();
        let (first, second) = (one.bytes(), two.bytes());
        assert_eq!((&first[4..], &second[..]), (&b"hundred"[..], &b"two"[..]), "the bytes themselves are right");
        let (window, offset) = FileWindow::find(&first.slice(4..8)).unwrap();
        assert!(Arc::ptr_eq(&window, &one) && offset == 4);
        assert!(Arc::ptr_eq(&FileWindow::find(&second).unwrap().0, &two));
        assert!(FileWindow::find(b"elsewhere").is_none());
        assert!(FileWindow::find(&vec![0; 5000]).is_none());
    }

    #[test]
    fn what_is_unmapped_is_found_no_more() {
        let window = FileWindow::new(file(b"gone"), 4).unwrap();
        let address = window.address();
        let held = window.bytes();
        drop(window);
        assert!(WINDOWS.read().unwrap().contains_key(&address), "a slice keeps its window");
        drop(held);
        let windows = WINDOWS.read().unwrap();
        assert!(windows.get(&address).is_none_or(|other| other.upgrade().is_some()), "a stale entry was left");
    }
}
