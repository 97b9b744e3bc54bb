//! The databases on disk: for each source the generation in use and the one before it.
//!
//! ```text
//! STATE/advisories/lock
//! STATE/advisories/<source>/current                 which generation is in use, and which was before
//! STATE/advisories/<source>/<generation>/manifest.json
//! STATE/advisories/<source>/<generation>/trivy.db
//! ```
//!
//! A generation is complete, verified and synced before it gets its name, and then `current` is replaced by a renamed
//! file. So a crash at any point leaves the old generation in use, or the new one. Several processes may update and
//! read at the same time: the lock is held exclusively for the change of names, and shared while generations are
//! opened.

mod manifest;
mod staging;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, lchown};
use std::path::{Path, PathBuf};

use jiff::{SignedDuration, Timestamp};
use rustix::fs::{FlockOperation, flock};
use rustix::process::geteuid;
use serde::{Deserialize, Serialize};

pub use self::manifest::{DatabaseKind, GenerationFile, GenerationManifest};
pub(super) use self::manifest::{JAVA_DB, TRIVY_DB};
pub(super) use self::staging::{Staged, Staging, are_files_of};
use super::DatabaseError;
use super::meter::copy;
use crate::oci::{Algorithm, Digest, Hasher};
use crate::runtime::{create_private_dir, open_private};

const CURRENT: &str = "current";
/// The maximum size of `current` and of a manifest, in bytes.
const MAX_TEXT: u64 = 1 << 20;
/// The maximum tolerated difference between the clocks of two machines.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_hours(24);

/// The directory with all generations of all sources.
#[derive(Clone, Debug)]
pub struct AdvisoryStore {
    root: PathBuf,
}

/// What [`AdvisoryStore::install`] did.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct InstalledGeneration {
    /// The generation that is in use now.
    pub manifest: GenerationManifest,
    /// Whether it was in use before.
    pub was_current: bool,
}

/// Which generations of a source are kept.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct Current {
    pub(super) current: String,
    pub(super) previous: Option<String>,
}

impl AdvisoryStore {
    /// Opens `STATE/advisories`, which is created if it does not exist.
    ///
    /// # Errors
    /// The directory cannot be created.
    pub fn open(state: &Path) -> Result<Self, DatabaseError> {
        let store = Self { root: Self::folder_in(state) };
        store.create(&store.root)?;
        Ok(store)
    }

    /// Opens `STATE/advisories` if it exists.
    ///
    /// # Errors
    /// This user cannot see whether it exists.
    pub fn open_existing(state: &Path) -> Result<Option<Self>, DatabaseError> {
        let root = Self::folder_in(state);
        match root.metadata() {
            Ok(metadata) => Ok(metadata.is_dir().then_some(Self { root })),
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
            Err(error) => Err(DatabaseError::io(&root, error)),
        }
    }

    fn folder_in(state: &Path) -> PathBuf {
        state.join("advisories")
    }

    /// Creates a directory if it does not exist.
    fn create(&self, folder: &Path) -> Result<(), DatabaseError> {
        let failed = |error| DatabaseError::io(folder, error);
        match folder.metadata() {
            Ok(metadata) if metadata.is_dir() => return Ok(()),
            Ok(_) => return Err(failed(io::ErrorKind::NotADirectory.into())),
            // It will be created, or that says why not.
            Err(_) => {}
        }
        create_private_dir(folder).map_err(failed)?;
        self.give_to_owner(folder).map_err(failed)
    }

    /// Gives what was created to the owner of the state directory, because the gate runs as that user, and an
    /// administrator may import databases as root.
    pub(super) fn give_to_owner(&self, created: &Path) -> io::Result<()> {
        let Some((user, group)) = self.new_owner()? else { return Ok(()) };
        lchown(created, Some(user), Some(group))
    }

    /// The user and the group to whom root gives what it creates.
    fn new_owner(&self) -> io::Result<Option<(u32, u32)>> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        let state = fs::metadata(self.root.parent().unwrap_or(&self.root))?;
        Ok(Some((state.uid(), state.gid())))
    }

    /// The names of all sources, in order.
    pub(super) fn sources(&self) -> Result<Vec<String>, DatabaseError> {
        let failed = |error| DatabaseError::io(&self.root, error);
        let mut names = Vec::new();
        for entry in fs::read_dir(&self.root).map_err(failed)? {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_string_lossy().into_owned();
            if is_source(&name) && entry.path().is_dir() {
                names.push(name);
            }
        }
        names.sort();
        Ok(names)
    }

    /// Which generations of a source are kept. `None` if there are none.
    pub(super) fn current(&self, source: &str) -> Result<Option<Current>, DatabaseError> {
        let path = self.root.join(source).join(CURRENT);
        match read_small(&path) {
            Ok(text) => parse(&path, &text).map(Some),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(DatabaseError::io(&path, error)),
        }
    }

    /// The directory of a generation.
    pub(super) fn folder(&self, source: &str, generation: &str) -> PathBuf {
        self.root.join(source).join(generation)
    }

    /// The manifest of a generation.
    pub(super) fn manifest(&self, source: &str, generation: &str) -> Result<GenerationManifest, DatabaseError> {
        let path = self.folder(source, generation).join(manifest::NAME);
        let text = read_small(&path).map_err(|error| DatabaseError::io(&path, error))?;
        let manifest: GenerationManifest = parse(&path, &text)?;
        if manifest.source != source || manifest.id() != generation {
            return Err(DatabaseError::unrecognised(path.display().to_string(), "it describes another generation"));
        }
        Ok(manifest)
    }

    /// The manifest of a generation, after its files have been compared with their digests.
    pub(super) fn verify(&self, source: &str, generation: &str) -> Result<GenerationManifest, DatabaseError> {
        let manifest = self.manifest(source, generation)?;
        for file in &manifest.files {
            let path = self.folder(source, generation).join(&file.name);
            let mut hasher = Hasher::new(Algorithm::Sha256);
            let mut content = File::open(&path).map_err(|error| DatabaseError::io(&path, error))?;
            let failed = |error| DatabaseError::io(&path, error);
            let mut update = |piece: &[u8]| {
                hasher.update(piece);
                Ok(())
            };
            copy(&mut content, &mut update, &failed)?;
            check_digest(&path.display().to_string(), file.digest, hasher.finish())?;
        }
        Ok(manifest)
    }

    /// Puts a complete database into use. The generation that was in use becomes the previous one, and older ones are
    /// removed.
    ///
    /// # Errors
    /// It is older than the one in use and `force` is not set, it states that it was built in the future, or the files
    /// cannot be written. The generation in use does not change.
    pub(super) fn install(
        &self,
        staged: Staged,
        force: bool,
        now: Timestamp,
    ) -> Result<InstalledGeneration, DatabaseError> {
        let Staged { staging, manifest } = staged;
        let verified = self.verified(&manifest);
        let _lock = self.lock(FlockOperation::LockExclusive)?;
        let source = self.root.join(&manifest.source);
        let failed = |error| DatabaseError::io(&source, error);
        self.create(&source)?;
        // A damaged `current` is replaced.
        let current = self.current(&manifest.source).unwrap_or_default();
        self.check_age(&manifest, current.as_ref(), force, now)?;
        let id = manifest.id();
        let was_current = current.as_ref().is_some_and(|kept| kept.current == id);
        let target = source.join(&id);
        let owner = self.new_owner().map_err(failed)?;
        owner.map_or(Ok(()), |owner| staging.give_files(&manifest, owner)).map_err(failed)?;
        if self.is_whole(&manifest.source, &id, &verified) {
            // The same database, perhaps from somewhere else.
            staging.replace_manifest(&target)?;
        } else {
            if target.exists() {
                fs::remove_dir_all(&target).map_err(failed)?;
            }
            owner.map_or(Ok(()), |owner| staging.give_folder(owner)).map_err(failed)?;
            staging.rename(&target)?;
            sync(&source)?;
        }
        let kept = self.kept(&manifest.source, &id, current, &verified);
        self.write_current(&source, &kept)?;
        self.remove_others(&source, &kept);
        Ok(InstalledGeneration { manifest, was_current })
    }

    /// Refuses a database from the future, and one that is older than the one in use.
    pub(super) fn check_age(
        &self,
        manifest: &GenerationManifest,
        current: Option<&Current>,
        force: bool,
        now: Timestamp,
    ) -> Result<(), DatabaseError> {
        let offered = manifest.built;
        if offered > now.saturating_add(CLOCK_SKEW).unwrap_or(Timestamp::MAX) {
            return Err(DatabaseError::Future { built: offered, now });
        }
        let in_use = current.and_then(|kept| self.manifest(&manifest.source, &kept.current).ok());
        match in_use {
            Some(in_use) if in_use.built > offered && !force => {
                Err(DatabaseError::Older { offered, current: in_use.built })
            }
            _ => Ok(()),
        }
    }

    /// The generations on disk, among those that matter when this one is installed, whose files have been compared with
    /// their digests. That takes about a second for each gigabyte, so it is done before the lock is taken: those who
    /// only look wait for the lock.
    fn verified(&self, installed: &GenerationManifest) -> BTreeSet<String> {
        let Current { current, previous } = self.current(&installed.source).unwrap_or_default().unwrap_or_default();
        let known = [Some(installed.id()), Some(current), previous];
        let is_whole = |generation: &String| self.verify(&installed.source, generation).is_ok();
        known.into_iter().flatten().collect::<BTreeSet<_>>().into_iter().filter(is_whole).collect()
    }

    /// Whether a generation is complete and undamaged. One that was verified may have been removed since, but not
    /// changed.
    fn is_whole(&self, source: &str, generation: &str, verified: &BTreeSet<String>) -> bool {
        match verified.contains(generation) {
            true => self.manifest(source, generation).is_ok(),
            // It was damaged, or another process has just installed it.
            false => self.verify(source, generation).is_ok(),
        }
    }

    /// The generations to keep when one comes into use: that one, and the newest other one that is complete.
    fn kept(&self, source: &str, id: &str, before: Option<Current>, verified: &BTreeSet<String>) -> Current {
        let before = before.unwrap_or_default();
        let mut others = [Some(before.current), before.previous].into_iter().flatten().filter(|other| other != id);
        let previous = others.find(|other| self.is_whole(source, other, verified));
        Current { current: id.to_owned(), previous }
    }

    fn write_current(&self, source: &Path, kept: &Current) -> Result<(), DatabaseError> {
        let failed = |error| DatabaseError::io(source, error);
        let text = serde_json::to_vec_pretty(kept).map_err(|error| failed(error.into()))?;
        let mut file = tempfile::NamedTempFile::with_prefix_in(".current", source).map_err(failed)?;
        file.write_all(&text).and_then(|()| file.as_file().sync_all()).map_err(failed)?;
        self.give_to_owner(file.path()).map_err(failed)?;
        file.persist(source.join(CURRENT)).map_err(|error| failed(error.error))?;
        sync(source)
    }

    /// Removes generations that are not kept. What remains after a failure is removed the next time.
    fn remove_others(&self, source: &Path, kept: &Current) {
        for entry in fs::read_dir(source).into_iter().flatten().flatten() {
            let name = entry.file_name();
            let is_kept = name == *kept.current || kept.previous.as_ref().is_some_and(|previous| name == **previous);
            if entry.path().is_dir()
                && !is_kept
                && let Err(error) = fs::remove_dir_all(entry.path())
            {
                tracing::warn!(path = %entry.path().display(), %error, "cannot remove an old advisory database");
            }
        }
    }

    /// Creates a directory for a database that is not complete yet, and removes those that crashed processes left
    /// behind.
    pub(super) fn stage(&self) -> Result<Staging, DatabaseError> {
        // Without the lock, another process could remove the directory before it is marked as in use.
        let _lock = self.lock(FlockOperation::LockExclusive)?;
        Staging::new(&self.root)
    }

    /// Takes the lock, which ends with the returned file.
    pub(super) fn lock(&self, operation: FlockOperation) -> Result<File, DatabaseError> {
        let path = self.root.join("lock");
        let file = self.open_lock(&path).map_err(|error| DatabaseError::io(&path, error))?;
        flock(&file, operation).map_err(|error| DatabaseError::io(&path, error.into()))?;
        Ok(file)
    }

    fn open_lock(&self, path: &Path) -> io::Result<File> {
        match open_private(File::options().write(true).create_new(true), path) {
            Ok(created) => self.give_to_owner(path).map(|()| created),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                open_private(File::options().write(true), path)
            }
            Err(error) => Err(error),
        }
    }
}

/// Compares a digest that was computed with the expected one.
pub(super) fn check_digest(what: &str, expected: Digest, found: Digest) -> Result<(), DatabaseError> {
    if expected == found {
        return Ok(());
    }
    Err(DatabaseError::WrongDigest { what: what.into(), expected: expected.to_string(), found: found.to_string() })
}

/// Whether a name is that of a source: lower-case letters, digits and `-`.
pub(super) fn is_source(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    (1..=64).contains(&name.len()) && name.bytes().all(allowed) && name != "lock"
}

fn read_small(path: &Path) -> io::Result<Vec<u8>> {
    let mut text = Vec::new();
    File::open(path)?.take(MAX_TEXT).read_to_end(&mut text)?;
    Ok(text)
}

fn parse<T: serde::de::DeserializeOwned>(path: &Path, text: &[u8]) -> Result<T, DatabaseError> {
    serde_json::from_slice(text).map_err(|error| DatabaseError::io(path, error.into()))
}

/// Makes the names in a directory survive a power failure.
fn sync(folder: &Path) -> Result<(), DatabaseError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|error| DatabaseError::io(folder, error))
}
