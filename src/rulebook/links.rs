//! What symbolic links in and above a directory lead to. The system reports changes of a directory, and not that a link
//! to it is switched, or that a file changes to which a link in it leads.

use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use super::directory::MAX_DEPTH;

/// The maximum number of links and files behind them that are looked at.
const MAX_TARGETS: usize = 10_000;

/// What links lead to at one moment. Two of the same directory differ if a link was switched or its target has changed.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct LinkTargets {
    /// The directory itself, without links: the place, and which directory is there.
    directory: Option<(PathBuf, u64, u64)>,
    /// Each link in the directory, and each file behind a link to another directory.
    targets: Vec<(PathBuf, Option<TargetState>)>,
}

/// Identifies a file and its content: device, inode, size and time of the last change.
type TargetState = (u64, u64, u64, (i64, i64));

impl LinkTargets {
    /// What the links in and above a directory lead to now. Blocks.
    pub(super) fn of(directory: &Path) -> Self {
        let place = fs::canonicalize(directory).ok();
        let place = place.and_then(|place| Some((fs::metadata(&place).ok()?, place)));
        let mut found = Self {
            directory: place.map(|(metadata, place)| (place, metadata.dev(), metadata.ino())),
            targets: Vec::new(),
        };
        found.add(directory, 0, false);
        found.targets.sort_unstable();
        found
    }

    /// Adds the links of a directory; if it is itself behind a link, all of its files. Hidden names are not read as
    /// documents.
    fn add(&mut self, folder: &Path, depth: usize, is_behind: bool) {
        let Ok(entries) = fs::read_dir(folder) else { return };
        for entry in entries.flatten() {
            let Ok(kind) = entry.file_type() else { continue };
            let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            if is_hidden || self.targets.len() >= MAX_TARGETS {
                continue;
            }
            let (path, is_behind) = (entry.path(), is_behind || kind.is_symlink());
            if is_behind {
                self.targets.push((path.clone(), state(&path)));
            }
            if depth < MAX_DEPTH && (kind.is_dir() || kind.is_symlink() && path.is_dir()) {
                self.add(&path, depth + 1, is_behind);
            }
        }
    }
}

fn state(path: &Path) -> Option<TargetState> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino(), metadata.size(), (metadata.mtime(), metadata.mtime_nsec())))
}
