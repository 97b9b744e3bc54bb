//! Reads the directories, and all new and changed files in them.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::{self, Metadata};
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;

use super::document;
use super::index::{File, Index};

/// The largest file that is read, in bytes.
pub(super) const MAX_FILE: u64 = 64 << 20;
/// The maximum number of files that are read. The most recently changed files are preferred.
const MAX_FILES: usize = 20_000;
/// The maximum number of directory entries that are read.
const MAX_ENTRIES: usize = 200_000;
/// The maximum nesting depth of directories; links can create endless nesting.
const MAX_DEPTH: usize = 16;

/// Reads all directories, and all files except unchanged ones.
pub(super) fn scan(directories: &[PathBuf], old: &Index, now: Timestamp) -> Index {
    let mut walk = Walk::default();
    for directory in directories {
        walk.directory(directory, 0);
    }
    let mut limits = Vec::new();
    if walk.found.len() > MAX_FILES {
        limits.push(format!("more than {MAX_FILES} files: the oldest {} are not read", walk.found.len() - MAX_FILES));
        walk.found.sort_by_key(|(_, file)| std::cmp::Reverse(file.mtime));
        walk.found.truncate(MAX_FILES);
    }
    let mut files = BTreeMap::new();
    for (path, fingerprint) in walk.found {
        let same = old.files.get(&path).filter(|file| file.fingerprint == fingerprint && !file.unread);
        let file = same.cloned().unwrap_or_else(|| read(&path, fingerprint));
        files.insert(path, file);
    }
    Index::new(files, walk.broken, limits, now)
}

fn read(path: &Path, seen: Fingerprint) -> File {
    match content(path) {
        Ok((fingerprint, content)) => {
            let content = document::parse(&content).map(Arc::new).map_err(|e| e.to_string());
            File { fingerprint, unread: false, content }
        }
        Err(error) => File { fingerprint: seen, unread: true, content: Err(error.to_string()) },
    }
}

fn content(path: &Path) -> std::io::Result<(Fingerprint, Vec<u8>)> {
    let file = crate::runtime::open_plain_file(path)?;
    let metadata = file.metadata()?;
    if metadata.len() > MAX_FILE {
        return Err(std::io::Error::other(format!("larger than {} MiB", MAX_FILE >> 20)));
    }
    let mut content = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut content)?;
    if content.len() as u64 != metadata.len() {
        return Err(std::io::Error::other("it changed while it was being read"));
    }
    Ok((Fingerprint::new(&metadata), content))
}

/// Whether there is a file in these directories, or there may be one because they cannot be read to the end.
pub(in crate::va) fn have_files(directories: &[PathBuf]) -> bool {
    let mut left = MAX_ENTRIES;
    directories.iter().any(|directory| has_file(directory, 0, &mut left))
}

fn has_file(directory: &Path, depth: usize, left: &mut usize) -> bool {
    let entries = match fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) => return !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory),
    };
    for entry in entries {
        let (Ok(entry), true, true) = (entry, *left > 0, depth < MAX_DEPTH) else { return true };
        *left -= 1;
        if is_hidden(&entry.file_name()) {
            continue;
        }
        let path = entry.path();
        let is_one = |metadata: Metadata| metadata.is_file() || metadata.is_dir() && has_file(&path, depth + 1, left);
        if fs::metadata(&path).is_ok_and(is_one) {
            return true;
        }
    }
    false
}

/// Hidden names are unfinished copies, or the internal links of a mounted ConfigMap.
pub(super) fn is_hidden(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".")
}

#[derive(Default)]
struct Walk {
    found: Vec<(PathBuf, Fingerprint)>,
    entries: usize,
    /// Directories that could not be read completely.
    broken: Vec<String>,
}

impl Walk {
    fn directory(&mut self, path: &Path, depth: usize) {
        if let Err(why) = self.entries(path, depth) {
            self.broken.push(format!("{}: {why}", path.display()));
        }
    }

    fn entries(&mut self, path: &Path, depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err("nested too deeply".into());
        }
        for entry in fs::read_dir(path).map_err(|e| e.to_string())? {
            let entry = entry.map_err(|e| e.to_string())?;
            self.entries += 1;
            if self.entries > MAX_ENTRIES {
                return Err(format!("more than {MAX_ENTRIES} directory entries"));
            }
            if !is_hidden(&entry.file_name()) {
                self.entry(&entry.path(), depth);
            }
        }
        Ok(())
    }

    /// Follows links, because mounted ConfigMaps consist of them.
    fn entry(&mut self, path: &Path, depth: usize) {
        match fs::metadata(path) {
            Ok(metadata) if metadata.is_dir() => self.directory(path, depth + 1),
            Ok(metadata) if metadata.is_file() => self.found.push((path.to_owned(), Fingerprint::new(&metadata))),
            Ok(_) => {}
            // The file was removed after the directory was read, which causes another event, or the entry is a dangling
            // link.
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => self.broken.push(format!("{}: {error}", path.display())),
        }
    }
}

/// Used to detect whether a file has changed.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Fingerprint {
    place: (u64, u64),
    size: u64,
    mtime: (i64, i64),
    ctime: (i64, i64),
}

impl Fingerprint {
    fn new(metadata: &Metadata) -> Self {
        Self {
            place: (metadata.dev(), metadata.ino()),
            size: metadata.len(),
            mtime: (metadata.mtime(), metadata.mtime_nsec()),
            ctime: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }
}
