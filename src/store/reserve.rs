//! Disk space that is kept in reserve, and given up when a gate starts on a full disk.
//!
//! SQLite makes the index of its journal (`-shm`) when a database is opened, and removes it when it is closed. Without
//! room for that file, a gate that serves on a full disk could not be restarted.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::runtime::open_private;

use super::DATABASE;

/// The size of the file in bytes: the index takes 32 KiB, and the rest is for the journal and for the next start.
const SIZE: u64 = 4 * PIECE as u64;
/// The file has whole pieces of this many bytes. The part that is left after a start on a full disk is kept, so that
/// the gate can be restarted again.
const PIECE: usize = 64 * 1024;
/// The free bytes needed to open a database, and to create one.
const OPENED_WITH: u64 = PIECE as u64;
const MADE_WITH: u64 = 1024 * 1024;

fn beside(state: &Path, suffix: &str) -> PathBuf {
    state.join(format!("{DATABASE}-{suffix}"))
}

/// Whether the database of a state directory can be opened or made while this many bytes of its disk are free.
pub fn has_room(state: &Path, free: u64) -> bool {
    match state.join(DATABASE).exists() {
        true => free >= OPENED_WITH || beside(state, "shm").exists() || has_reserve(state),
        false => free >= MADE_WITH,
    }
}

fn has_reserve(state: &Path) -> bool {
    beside(state, "reserve").metadata().is_ok_and(|metadata| metadata.len() >= OPENED_WITH)
}

/// Frees the space, if so little is free that this may be why a database cannot be opened. Returns whether there was
/// any.
pub(super) fn give_up(state: &Path) -> bool {
    let free = rustix::fs::statvfs(state).map_or(0, |disk| disk.f_bavail.saturating_mul(disk.f_frsize));
    give_up_below(state, free)
}

fn give_up_below(state: &Path, free: u64) -> bool {
    free < MADE_WITH && fs::remove_file(beside(state, "reserve")).is_ok()
}

/// Takes the space, if it is there.
pub(super) fn keep(state: &Path) {
    let path = beside(state, "reserve");
    if let Err(error) = grow(&path) {
        tracing::debug!(%error, path = %path.display(), "only part of the space for a start on a full disk could be reserved");
    }
}

/// Adds pieces until the file is whole or the disk is full. They are random, so that a file system that compresses or
/// leaves out zeros reserves the space, too.
fn grow(path: &Path) -> io::Result<()> {
    let mut file = open_private(File::options().create(true).append(true), path)?;
    let mut size = file.metadata()?.len();
    if size == SIZE {
        return Ok(());
    }
    size -= size % PIECE as u64;
    let mut piece = vec![0; PIECE];
    aws_lc_rs::rand::fill(&mut piece).map_err(|_| io::Error::other("no random bytes"))?;
    while size < SIZE {
        file.set_len(size)?;
        if let Err(error) = file.write_all(&piece) {
            // A part of a piece is space that something else needs.
            return file.set_len(size).and(Err(error));
        }
        size += PIECE as u64;
    }
    file.set_len(SIZE)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn space_is_kept_and_given_up() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("pullgate.db-reserve");
        assert!(!give_up_below(dir.path(), 0), "there is none");
        for written in [0, 3, PIECE, PIECE + 1, 4 * PIECE, 4 * PIECE + 1] {
            fs::write(&file, vec![1; written]).unwrap();
            keep(dir.path());
            assert_eq!(file.metadata().unwrap().len(), SIZE, "{written}");
        }
        assert!(!has_room(dir.path(), MADE_WITH - 1) && has_room(dir.path(), MADE_WITH));
        fs::write(dir.path().join("pullgate.db"), "").unwrap();
        assert!(has_room(dir.path(), 0), "there is a reserve");
        fs::write(&file, "cut").unwrap();
        assert!(!has_room(dir.path(), 0), "nothing is left of it");
        assert!(!give_up_below(dir.path(), MADE_WITH) && file.exists(), "the disk is not full");
        assert!(give_up_below(dir.path(), MADE_WITH - 1) && !file.exists());
        assert!(!has_room(dir.path(), OPENED_WITH - 1) && has_room(dir.path(), OPENED_WITH));
        fs::write(dir.path().join("pullgate.db-shm"), "").unwrap();
        assert!(has_room(dir.path(), 0), "the gate was killed, or is running");
    }
}
