//! Space on the disk that is given up when a gate starts without any other.
//!
//! SQLite makes the index of its journal (`-shm`) when a database is opened, and removes it when it is closed. Without room for
//! that file, a gate that serves on a full disk could not be restarted.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::runtime::open_private;

use super::DATABASE;

/// The size of the file in bytes: the index takes 32 KiB, and the rest is for the journal.
const SIZE: usize = 256 * 1024;
/// The free space in bytes with which a database can be opened, and made.
const OPENED_WITH: u64 = 64 * 1024;
const MADE_WITH: u64 = 1024 * 1024;

fn beside(state: &Path, suffix: &str) -> PathBuf {
    state.join(format!("{DATABASE}-{suffix}"))
}

/// Whether the database of a state directory can be opened or made while this many bytes of its disk are free.
pub fn has_room(state: &Path, free: u64) -> bool {
    match state.join(DATABASE).exists() {
        true => free >= OPENED_WITH || beside(state, "shm").exists() || beside(state, "reserve").exists(),
        false => free >= MADE_WITH,
    }
}

/// Frees the space. Returns whether there was any.
pub(super) fn give_up(state: &Path) -> bool {
    fs::remove_file(beside(state, "reserve")).is_ok()
}

/// Takes the space, if it is there.
pub(super) fn keep(state: &Path) {
    let path = beside(state, "reserve");
    if path.metadata().is_ok_and(|metadata| metadata.len() == SIZE as u64) {
        return;
    }
    if let Err(error) = write(&path) {
        tracing::debug!(%error, path = %path.display(), "no space is reserved for a start on a full disk");
        // A part of it is space that something else needs.
        let _ = fs::remove_file(&path);
    }
}

/// Writes random bytes, so that a file system that compresses or leaves out zeros reserves the space, too.
fn write(path: &Path) -> io::Result<()> {
    let mut bytes = vec![0; SIZE];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| io::Error::other("no random bytes"))?;
    open_private(File::options().create(true).write(true).truncate(true), path)?.write_all(&bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_kept_and_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pullgate.db-reserve");
        assert!(!give_up(dir.path()));
        fs::write(&file, "cut").unwrap();
        keep(dir.path());
        assert_eq!(file.metadata().unwrap().len(), SIZE as u64);
        assert!(!has_room(dir.path(), MADE_WITH - 1) && has_room(dir.path(), MADE_WITH));
        fs::write(dir.path().join("pullgate.db"), "").unwrap();
        assert!(has_room(dir.path(), 0), "there is a reserve");
        assert!(give_up(dir.path()) && !file.exists());
        assert!(!has_room(dir.path(), OPENED_WITH - 1) && has_room(dir.path(), OPENED_WITH));
        fs::write(dir.path().join("pullgate.db-shm"), "").unwrap();
        assert!(has_room(dir.path(), 0), "the gate was killed, or is running");
    }
}
