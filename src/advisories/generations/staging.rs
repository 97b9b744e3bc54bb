//! Databases that are not complete yet.

use std::fs::{self, File};
use std::io::{self, Read, Write as _};
use std::path::{Path, PathBuf};

use rustix::fs::{AtFlags, FlockOperation, Mode, OFlags, chownat, fchown, flock, open};
use rustix::process::{Gid, Uid};
use tempfile::TempDir;

use super::manifest::{self, DatabaseKind, GenerationFile, GenerationManifest};
use super::{CURRENT, sync};
use crate::advisories::DatabaseError;
use crate::advisories::meter::copy;
use crate::oci::{Algorithm, Hasher};
use crate::runtime::open_private;

/// The beginning of the names of staging directories.
const PREFIX: &str = ".staging-";

/// A directory for a database that is not complete yet. It is removed when the value is dropped.
#[derive(Debug)]
pub(in super::super) struct Staging {
    folder: TempDir,
    /// Locked while the directory is in use: one without a lock was left behind by a crash.
    lock: File,
}

/// A complete database that can be put into use.
#[derive(Debug)]
pub(in super::super) struct Staged {
    pub(in super::super) staging: Staging,
    pub(in super::super) manifest: GenerationManifest,
}

impl Staging {
    pub(super) fn new(root: &Path) -> Result<Self, DatabaseError> {
        let failed = |error| DatabaseError::io(root, error);
        remove_abandoned(root);
        let folder = TempDir::with_prefix_in(PREFIX, root).map_err(failed)?;
        // The directory above may be another user's, who could put a link in its place.
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let lock = open(folder.path(), flags, Mode::empty()).map_err(|error| failed(error.into()))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| failed(error.into()))?;
        Ok(Self { folder, lock: lock.into() })
    }

    /// Changes the owner of a database's files. Acts on the directory that was created, whatever is at the path now.
    pub(super) fn give_files(&self, of: &GenerationManifest, (user, group): (u32, u32)) -> io::Result<()> {
        let (user, group) = (Some(Uid::from_raw(user)), Some(Gid::from_raw(group)));
        for name in of.files.iter().map(|file| &*file.name).chain([manifest::NAME]) {
            chownat(&self.lock, name, user, group, AtFlags::SYMLINK_NOFOLLOW)?;
        }
        Ok(())
    }

    /// Gives the directory to a user.
    pub(super) fn give_folder(&self, (user, group): (u32, u32)) -> io::Result<()> {
        Ok(fchown(&self.lock, Some(Uid::from_raw(user)), Some(Gid::from_raw(group)))?)
    }

    pub(in super::super) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes and syncs a file. `count` is called with the size of each piece, and may end the copying.
    pub(in super::super) fn write(
        &self,
        name: &str,
        content: &mut dyn Read,
        count: &mut dyn FnMut(u64) -> Result<(), DatabaseError>,
    ) -> Result<GenerationFile, DatabaseError> {
        let path = self.path().join(name);
        let failed = |error| DatabaseError::io(&path, error);
        let mut file = open_private(File::options().write(true).create_new(true), &path).map_err(failed)?;
        let (mut hasher, mut size) = (Hasher::new(Algorithm::Sha256), 0);
        let mut write = |piece: &[u8]| {
            count(piece.len() as u64)?;
            size += piece.len() as u64;
            hasher.update(piece);
            file.write_all(piece).map_err(failed)
        };
        copy(content, &mut write, &|error| DatabaseError::unrecognised(name, error.to_string()))?;
        file.sync_all().map_err(failed)?;
        Ok(GenerationFile { name: name.to_owned(), size, digest: hasher.finish() })
    }

    /// Describes a file that was written in another way.
    pub(in super::super) fn describe(&self, name: &str) -> Result<GenerationFile, DatabaseError> {
        let path = self.path().join(name);
        let failed = |error| DatabaseError::io(&path, error);
        let mut file = File::open(&path).map_err(failed)?;
        let (mut hasher, mut size) = (Hasher::new(Algorithm::Sha256), 0);
        let mut count = |piece: &[u8]| {
            hasher.update(piece);
            size += piece.len() as u64;
            Ok(())
        };
        copy(&mut file, &mut count, &failed)?;
        Ok(GenerationFile { name: name.to_owned(), size, digest: hasher.finish() })
    }

    /// Completes the directory with its manifest. Files that are not part of the database are removed.
    pub(in super::super) fn complete(self, manifest: GenerationManifest) -> Result<Staged, DatabaseError> {
        let failed = |error| DatabaseError::io(self.path(), error);
        for entry in fs::read_dir(self.path()).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            if !manifest.files.iter().any(|file| entry.file_name() == *file.name) {
                fs::remove_file(entry.path()).map_err(failed)?;
            }
        }
        let text = serde_json::to_vec_pretty(&manifest).map_err(|error| failed(error.into()))?;
        self.write(manifest::NAME, &mut &text[..], &mut |_| Ok(()))?;
        sync(self.path())?;
        Ok(Staged { staging: self, manifest })
    }

    /// Replaces the manifest of a generation with the same files.
    pub(super) fn replace_manifest(&self, target: &Path) -> Result<(), DatabaseError> {
        let renamed = fs::rename(self.path().join(manifest::NAME), target.join(manifest::NAME));
        renamed.map_err(|error| DatabaseError::io(target, error))?;
        sync(target)
    }

    /// Gives the directory its final name.
    pub(super) fn rename(self, target: &Path) -> Result<(), DatabaseError> {
        fs::rename(self.folder.path(), target).map_err(|error| DatabaseError::io(target, error))?;
        // The directory is kept under its new name.
        let _: PathBuf = self.folder.keep();
        Ok(())
    }
}

/// Whether all files of a kind are among these, and no others.
pub(in super::super) fn are_files_of(kind: DatabaseKind, files: &[GenerationFile]) -> bool {
    let is_known = |name: &str| kind.files().contains(&name) && name != CURRENT;
    files.len() == kind.files().len() && files.iter().all(|file| is_known(&file.name))
}

/// Removes staging directories that no process uses.
fn remove_abandoned(root: &Path) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let Ok(folder) = File::open(entry.path()) else { continue };
        if flock(&folder, FlockOperation::NonBlockingLockExclusive).is_ok()
            && let Err(error) = fs::remove_dir_all(entry.path())
        {
            tracing::warn!(path = %entry.path().display(), %error, "cannot remove an unfinished advisory database");
        }
    }
}
