//! The state of a TUF repository, in a hidden directory next to the trusted root that comes from it.
//!
//! The directory holds the trusted root, all roots that led to it, and the newest verified documents. They expose a
//! replay of older documents even years later, so nothing in it is removed, and a file that cannot be read or written
//! fails the update.

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use sigstore_tuf::{Error, MetadataStore};

use super::install;
use super::mirror::check_json;

/// The largest file, in bytes.
const MAX_FILE: u64 = 5_000_000;
/// The root that is trusted.
const ROOT: &str = "root.json";
/// Where it comes from, and when that was last checked.
const RECORD: &str = "source.json";

/// Where the library keeps the trusted root itself. It is installed elsewhere.
const TARGETS: &str = "targets/";

/// The directory of one trusted root, locked against other updates.
pub(super) struct TufState {
    files: StateFiles,
    _lock: File,
}

/// The files of the directory. The library ignores files that cannot be read or written, because it treats them as a
/// cache.
/// Here they protect against replays, so the first failure is kept.
#[derive(Clone)]
pub(super) struct StateFiles {
    folder: PathBuf,
    failure: Arc<Mutex<Option<String>>>,
}

/// Where a trusted root comes from. All versions are those of TUF documents.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub(super) struct SourceRecord {
    /// The URL of the repository.
    pub(super) mirror: String,
    /// When the repository was last asked, with success.
    pub(super) checked: Timestamp,
    /// The version of the repository's root.
    pub(super) root_version: u64,
    /// When that root expires.
    pub(super) root_expires: Timestamp,
    /// The version of the newest timestamp document.
    pub(super) timestamp_version: u64,
}

/// The directory for a trusted root: `.trusted_root.json.tuf` next to it. The name is hidden, so that its files are not
/// mistaken for policies.
pub(super) fn folder_of(trusted_root: &Path) -> PathBuf {
    let name = trusted_root.file_name().unwrap_or_default().to_string_lossy();
    trusted_root.with_file_name(format!(".{name}.tuf"))
}

/// The record of a directory; `None` if the trusted root was not fetched.
///
/// # Errors
/// The record cannot be read.
pub(super) fn record(folder: &Path) -> Result<Option<SourceRecord>, String> {
    let path = folder.join(RECORD);
    let Some(bytes) = read(&path).map_err(|error| format!("{}: {error}", path.display()))? else { return Ok(None) };
    serde_json::from_slice(&bytes).map(Some).map_err(|error| format!("{}: {error}", path.display()))
}

impl TufState {
    /// Creates or opens a directory.
    ///
    /// # Errors
    /// It cannot be written, or another update uses it.
    pub(super) fn open(folder: PathBuf) -> Result<Self, String> {
        let error = |error: io::Error| format!("{}: {error}", folder.display());
        fs::create_dir_all(&folder).map_err(error)?;
        let lock = File::create(folder.join("lock")).map_err(error)?;
        match flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self { files: StateFiles { folder, failure: Arc::default() }, _lock: lock }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(format!("{}: another update is running", folder.display())),
            Err(failed) => Err(error(failed.into())),
        }
    }

    /// The files, for the library.
    pub(super) fn files(&self) -> StateFiles {
        self.files.clone()
    }

    /// The directory.
    pub(super) fn folder(&self) -> &Path {
        &self.files.folder
    }

    /// The root that is trusted; `None` if there was no update yet.
    pub(super) fn root(&self) -> Result<Option<Vec<u8>>, String> {
        let root = self.files.load(ROOT).map_err(|error| error.to_string());
        self.check()?;
        root
    }

    /// Whether this is one of the roots that led to the trusted one, with this version.
    pub(super) fn has_had(&self, root: &[u8], version: u64) -> bool {
        let name = format!("root_history/{version}.root.json");
        self.files.load(&name).is_ok_and(|known| known.as_deref() == Some(root))
    }

    /// Keeps where the trusted root comes from.
    ///
    /// # Errors
    /// It cannot be written.
    pub(super) fn keep(&self, record: &SourceRecord) -> Result<(), String> {
        let path = self.files.folder.join(RECORD);
        let bytes = serde_json::to_vec_pretty(record).map_err(|error| error.to_string())?;
        install::write(&path, &bytes).map_err(|error| format!("{}: {error}", path.display()))
    }

    /// # Errors
    /// A file could not be read or written.
    pub(super) fn check(&self) -> Result<(), String> {
        let failure = self.files.failure.lock().unwrap_or_else(PoisonError::into_inner);
        failure.clone().map_or(Ok(()), Err)
    }
}

impl StateFiles {
    fn path(&self, name: &str) -> Result<PathBuf, Error> {
        let is_plain = |part: Component<'_>| matches!(part, Component::Normal(_));
        if !Path::new(name).components().all(is_plain) {
            return Err(Error::Malformed(format!("{name:?} is not the name of a document")));
        }
        Ok(self.folder.join(name))
    }

    /// Remembers the first failure.
    fn kept<T>(&self, path: &Path, result: Result<T, String>) -> Result<T, Error> {
        result.map_err(|why| {
            let why = format!("{}: {why}", path.display());
            self.failure.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert_with(|| why.clone());
            Error::Malformed(why)
        })
    }
}

impl MetadataStore for StateFiles {
    fn load(&self, name: &str) -> sigstore_tuf::Result<Option<Vec<u8>>> {
        if name.starts_with(TARGETS) {
            return Ok(None);
        }
        let path = self.path(name)?;
        let bytes = self.kept(&path, read(&path).map_err(|error| error.to_string()))?;
        if let Some(bytes) = &bytes {
            // A damaged document would count as absent, and so would the versions that it protects.
            self.kept(&path, check_json(bytes))?;
        }
        Ok(bytes)
    }

    fn store(&self, name: &str, bytes: &[u8]) -> sigstore_tuf::Result<()> {
        if name.starts_with(TARGETS) {
            return Ok(());
        }
        let path = self.path(name)?;
        let folder = path.parent().map_or(Ok(()), fs::create_dir_all);
        let written = folder.and_then(|()| install::write(&path, bytes));
        self.kept(&path, written.map_err(|error| error.to_string()))
    }
}

/// A file; `None` if there is none.
fn read(path: &Path) -> io::Result<Option<Vec<u8>>> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut content = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut content)?;
    if content.len() as u64 > MAX_FILE {
        return Err(io::Error::other(format!("larger than {MAX_FILE} bytes")));
    }
    Ok(Some(content))
}
