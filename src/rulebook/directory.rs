//! A directory of policy documents: `*.yaml`, `*.yml` and `*.json`, including subdirectories, and directories
//! `secrets/NAMESPACE/NAME/` with one file per key. Every number and size is bounded. Nothing is skipped except files
//! of other kinds and hidden names, in which a mounted ConfigMap keeps its versions (`..data`).

use std::collections::{BTreeMap, HashSet};
use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use tokio::sync::Notify;

use super::links::LinkTargets;
use super::source::{DocumentSource, DocumentSourceError, Snapshot};
use crate::markup::{Problem, ProblemSeverity, decode_text};
use crate::policy::{Document, Materials, NoMaterials, RuleSet, Settings};
use crate::runtime::{DirectoryWatch, Tasks, folder_names, parent_folder, read_plain_file};

/// The largest file, in bytes.
const MAX_FILE: u64 = 1024 * 1024;
/// The maximum number of files, documents and secrets together.
const MAX_FILES: usize = 10_000;
/// The size of all files together, in bytes.
const MAX_TOTAL: u64 = 64 * 1024 * 1024;
/// The maximum number of failures that are gathered.
const MAX_FAILURES: usize = 100;
/// The deepest subfolder.
pub(super) const MAX_DEPTH: usize = 16;
/// The directory is read again at this interval even if no change was seen, because some file systems report none.
const RESCAN: Duration = Duration::from_secs(60);
/// How often links are followed, of which no file system reports a change.
const LOOK: Duration = Duration::from_secs(2);

/// A directory of documents, read in the order of their paths.
#[derive(Clone, Debug)]
pub struct Directory {
    path: PathBuf,
    /// The only document that is read.
    only: Option<PathBuf>,
}

impl Directory {
    /// The directory at this path.
    pub fn new(path: impl Into<PathBuf>) -> Self {
        Self { path: path.into(), only: None }
    }

    /// The directory at a path. If the path is a file, its directory, of which only this document is read; files and
    /// secrets that the document names are looked up there.
    pub fn or_file(path: &Path) -> Self {
        if !path.is_file() {
            return Self::new(path);
        }
        Self { path: parent_folder(path).to_owned(), only: Some(path.to_owned()) }
    }

    /// Everything that can be read and the problems with the rest, so that all mistakes can be reported at once. Rules
    /// are made from a
    /// [`snapshot`](DocumentSource::snapshot), which is complete.
    pub fn examine(&self) -> (Snapshot, Vec<DirectoryError>) {
        let mut walk = DirectoryWalk::default();
        let mut files = Vec::new();
        let secrets = self.path.join("secrets");
        match &self.only {
            None => walk.folder(&self.path, 0, &mut files),
            Some(only) => {
                files.push(only.clone());
                if secrets.is_dir() {
                    walk.folder(&secrets, 0, &mut files);
                }
            }
        }
        let mut documents = Vec::new();
        let is_read = |file: &Path| self.only.as_deref().map_or_else(|| is_document(file), |only| file == only);
        for file in files.iter().filter(|file| !file.starts_with(&secrets) && is_read(file)) {
            let Some(content) = walk.read(file) else { continue };
            let text = decode_text(content).map_err(|why| DirectoryError::NotText { path: file.clone(), why });
            documents.extend(walk.note(text).map(|text| Document { path: file.display().to_string(), text }));
        }
        let mut materials = DirectoryMaterials { root: self.path.clone(), secrets: BTreeMap::new() };
        let mut warnings = Vec::new();
        for (file, inner) in files.iter().filter_map(|file| Some((file, file.strip_prefix(&secrets).ok()?))) {
            let Some(content) = walk.read(file) else { continue };
            if is_document(file) && holds_policies(file, content.clone()) {
                warnings.push(misplaced(file));
            }
            materials.add(inner, content);
        }
        (Snapshot { documents, materials: Box::new(materials), warnings }, walk.failures)
    }
}

impl DocumentSource for Directory {
    fn name(&self) -> String {
        format!("directory {}", self.path.display())
    }

    fn snapshot(&self) -> Result<Snapshot, DocumentSourceError> {
        let (snapshot, failures) = self.examine();
        let failures: Vec<String> = failures.iter().map(ToString::to_string).collect();
        if failures.is_empty() { Ok(snapshot) } else { Err(DocumentSourceError::new(failures.join("\n"))) }
    }

    fn watch(&self, tasks: &Tasks, changed: Arc<Notify>) {
        let mut watch = DirectoryWatch::new(&[&self.path], "policies");
        let switched = Arc::new(Notify::new());
        follow_links(self.path.clone(), tasks, switched.clone());
        let stop = tasks.clone();
        tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = stop.stopping() => return,
                    () = watch.changed(RESCAN) => {}
                    // Other directories may be behind the path now.
                    () = switched.notified() => watch.watch(),
                }
                changed.notify_one();
            }
        });
    }
}

/// Reports when links in or above a directory lead elsewhere, or their targets have changed, until shutdown.
fn follow_links(directory: PathBuf, tasks: &Tasks, switched: Arc<Notify>) {
    let mut known = LinkTargets::of(&directory);
    let stop = tasks.clone();
    tasks.spawn(async move {
        loop {
            tokio::select! {
                () = stop.stopping() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
            let directory = directory.clone();
            let Ok(found) = stop.spawn_blocking(move || LinkTargets::of(&directory)).await else { continue };
            if found != known {
                known = found;
                switched.notify_one();
            }
        }
    });
}

/// Secrets of a directory, and the key files in it. It has no `Debug`, so that no secret is printed by accident.
struct DirectoryMaterials {
    root: PathBuf,
    secrets: BTreeMap<(String, String), BTreeMap<String, Vec<u8>>>,
}

impl DirectoryMaterials {
    /// Adds `NAMESPACE/NAME/KEY`; nothing else in the secrets directory is a secret.
    fn add(&mut self, path: &Path, content: Vec<u8>) {
        let parts: Vec<_> = path.iter().filter_map(|part| part.to_str()).collect();
        if let [namespace, name, key] = parts[..] {
            let secret = self.secrets.entry((namespace.to_owned(), name.to_owned())).or_default();
            secret.insert(key.to_owned(), content);
        }
    }
}

impl Materials for DirectoryMaterials {
    /// A path is relative to the directory of the documents.
    fn file(&self, _: &str, path: &str) -> Result<Vec<u8>, String> {
        read_bounded(&self.root.join(path)).map_err(|error| error.to_string())
    }

    fn modified(&self, _: &str, path: &str) -> Option<Timestamp> {
        Timestamp::try_from(fs::metadata(self.root.join(path)).ok()?.modified().ok()?).ok()
    }

    fn folder(&self, _: &str, path: &str) -> Result<Vec<OsString>, String> {
        folder_names(&self.root.join(path), MAX_FILES).map_err(|error| error.to_string())
    }

    fn secret(&self, namespace: &str, name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        self.secrets.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    fn secret_namespaces(&self) -> Vec<String> {
        let mut namespaces: Vec<_> = self.secrets.keys().map(|(namespace, _)| namespace.clone()).collect();
        namespaces.dedup();
        namespaces
    }
}

/// Why a directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// A file or directory cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// The reason.
        source: io::Error,
    },
    /// A document is not text.
    #[error("{path}: {why}", path = path.display())]
    NotText {
        /// The file.
        path: PathBuf,
        /// The reason.
        why: &'static str,
    },
    /// A limit is exceeded.
    #[error("{path}: {what}", path = path.display())]
    TooMuch {
        /// The file or directory.
        path: PathBuf,
        /// Which limit is exceeded.
        what: &'static str,
    },
}

impl DirectoryError {
    /// The file or directory.
    pub fn path(&self) -> &Path {
        match self {
            Self::Io { path, .. } | Self::NotText { path, .. } | Self::TooMuch { path, .. } => path,
        }
    }

    /// Converts it to a problem with the file or directory, with a hint.
    pub fn problem(&self) -> Problem {
        let (what, hint) = match self {
            Self::Io { source, .. } => (source.to_string(), "remove it, or make it readable for pullgate"),
            Self::NotText { why, .. } => ((*why).to_owned(), "save it as UTF-8"),
            Self::TooMuch { what, .. } => ((*what).to_owned(), "keep only policies there, in files of at most 1 MiB"),
        };
        Problem::of_file(ProblemSeverity::Error, self.path().display().to_string(), what, Some(hint))
    }
}

fn is_document(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    ["yaml", "yml", "json"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}

fn holds_policies(path: &Path, content: Vec<u8>) -> bool {
    let Ok(text) = decode_text(content) else { return false };
    let source = Document { path: path.display().to_string(), text };
    let parsed = RuleSet::parse(&[source], &NoMaterials, &Settings::default());
    parsed.files.iter().any(|file| file.policies > 0)
}

fn misplaced(path: &Path) -> Problem {
    let (file, hint) = (path.display().to_string(), "move the file out of it");
    Problem::of_file(
        ProblemSeverity::Warning,
        file,
        "policies in the directory of secrets are not in force",
        Some(hint),
    )
}

#[derive(Default)]
struct DirectoryWalk {
    /// Directories by device and inode, because links may form cycles.
    seen: HashSet<(u64, u64)>,
    files: usize,
    bytes: u64,
    /// What cannot be read.
    failures: Vec<DirectoryError>,
    /// Whether a limit of the whole directory is exceeded, so that no more is read.
    is_full: bool,
}

impl DirectoryWalk {
    /// All files below a directory, following links, without hidden names.
    fn folder(&mut self, folder: &Path, depth: usize, found: &mut Vec<PathBuf>) {
        if depth > MAX_DEPTH {
            let what = "folders are nested too deeply";
            return self.failures.push(DirectoryError::TooMuch { path: folder.to_owned(), what });
        }
        let Some(metadata) = self.note(status(folder)) else { return };
        if !self.seen.insert((metadata.dev(), metadata.ino())) {
            return;
        }
        for path in self.note(list(folder)).unwrap_or_default() {
            if self.is_over() {
                return;
            }
            let Some(metadata) = self.note(status(&path)) else { continue };
            if metadata.is_dir() {
                self.folder(&path, depth + 1, found);
            } else if self.files == MAX_FILES {
                self.fill(&path, "too many files");
            } else {
                self.files += 1;
                found.push(path);
            }
        }
    }

    /// A file whole; `None` if it cannot be read, or nothing is read any more.
    fn read(&mut self, path: &Path) -> Option<Vec<u8>> {
        if self.is_over() {
            return None;
        }
        let content = self.note(read_bounded(path))?;
        self.bytes += content.len() as u64;
        if self.bytes > MAX_TOTAL {
            self.fill(path, "all files together are larger than 64 MiB");
            return None;
        }
        Some(content)
    }

    fn note<T>(&mut self, read: Result<T, DirectoryError>) -> Option<T> {
        read.map_err(|error| self.failures.push(error)).ok()
    }

    fn fill(&mut self, path: &Path, what: &'static str) {
        self.is_full = true;
        self.failures.push(DirectoryError::TooMuch { path: path.to_owned(), what });
    }

    fn is_over(&self) -> bool {
        self.is_full || self.failures.len() >= MAX_FAILURES
    }
}

fn status(path: &Path) -> Result<fs::Metadata, DirectoryError> {
    fs::metadata(path).map_err(|source| match source.kind() {
        io::ErrorKind::NotFound if path.is_symlink() => {
            io_error(path, io::Error::other("it is a symbolic link to something that does not exist"))
        }
        _ => io_error(path, source),
    })
}

/// The content of a directory, sorted, without hidden names.
fn list(folder: &Path) -> Result<Vec<PathBuf>, DirectoryError> {
    let names = folder_names(folder, MAX_FILES).map_err(|source| io_error(folder, source))?;
    Ok(names.into_iter().map(|name| folder.join(name)).collect())
}

/// A regular file, whole. Anything else is refused: opening a pipe would wait for its writer.
fn read_bounded(path: &Path) -> Result<Vec<u8>, DirectoryError> {
    read_plain_file(path, MAX_FILE).map_err(|source| match source.kind() {
        io::ErrorKind::FileTooLarge => DirectoryError::TooMuch { path: path.to_owned(), what: "larger than 1 MiB" },
        _ => io_error(path, source),
    })
}

fn io_error(path: &Path, source: io::Error) -> DirectoryError {
    DirectoryError::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> Result<Snapshot, DirectoryError> {
        let (snapshot, failures) = Directory::new(path).examine();
        failures.into_iter().next().map_or(Ok(snapshot), Err)
    }

    fn put(root: &Path, path: &str, text: &str) {
        let file = root.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    #[test]
    fn documents_and_secrets_are_distinguished() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["b.yaml", "a.YML", "sub/c.json", ".hidden.yaml", "..data/d.yaml", "notes.txt"] {
            put(dir.path(), path, "x");
        }
        put(dir.path(), "secrets/prod/alice/name", "alice");
        put(dir.path(), "secrets/prod/alice/odd.yaml", "kind: Secret");
        std::os::unix::fs::symlink(dir.path().join("..data/d.yaml"), dir.path().join("linked.yaml")).unwrap();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("sub/circle")).unwrap();
        let Snapshot { documents, materials, warnings } = read(dir.path()).unwrap();
        let names: Vec<_> = documents.iter().map(|s| s.path.rsplit_once('/').unwrap().1).collect();
        assert_eq!(names, ["a.YML", "b.yaml", "linked.yaml", "c.json"]);
        assert_eq!(materials.secret("prod", "alice").unwrap()["name"], b"alice");
        assert_eq!(materials.secret("prod", "bob"), None);
        assert_eq!(materials.secret_namespaces(), ["prod"]);
        assert_eq!(materials.file("", "notes.txt").unwrap(), b"x");
        assert!(materials.file("", "absent").is_err());
        assert!(materials.modified("", "notes.txt").is_some() && materials.modified("", "absent").is_none());
        assert_eq!(warnings, []);
    }

    /// kubectl reads such files, so a policy saved by PowerShell must also be in force.
    #[test]
    fn documents_may_be_utf16_with_a_byte_order_mark() {
        let dir = tempfile::tempdir().unwrap();
        for (name, bytes) in [("a.yaml", u16::to_le_bytes as fn(u16) -> [u8; 2]), ("b.yaml", u16::to_be_bytes)] {
            let wide: Vec<_> = "\u{feff}kind: ü".encode_utf16().flat_map(bytes).collect();
            fs::write(dir.path().join(name), wide).unwrap();
        }
        let texts: Vec<_> = read(dir.path()).unwrap().documents.into_iter().map(|document| document.text).collect();
        assert_eq!(texts, ["kind: ü", "kind: ü"]);
        fs::write(dir.path().join("b.yaml"), b"k\0i\0").unwrap();
        let error = read(dir.path()).map(|_| ()).unwrap_err().to_string();
        assert!(error.ends_with("b.yaml: not text: it has zero bytes; UTF-16 needs a byte order mark"), "{error}");
    }

    #[test]
    fn policies_among_the_secrets_are_reported() {
        let dir = tempfile::tempdir().unwrap();
        let policy =
            "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {name: x}\nspec: {repositories: []}\n";
        put(dir.path(), "secrets/deny.yaml", policy);
        put(dir.path(), "secrets/prod/alice/key.yaml", policy);
        put(dir.path(), "secrets/prod/alice/key.pub", policy);
        put(dir.path(), "secrets/prod/bob/odd.yaml", "kind: [");
        let wide: Vec<_> = format!("\u{feff}{policy}").encode_utf16().flat_map(u16::to_le_bytes).collect();
        fs::write(dir.path().join("secrets/wide.yaml"), wide).unwrap();
        let Snapshot { documents, materials, warnings } = read(dir.path()).unwrap();
        assert!(documents.is_empty());
        let warned: Vec<_> = warnings.iter().map(ToString::to_string).collect();
        assert!(
            warned.len() == 3 && warned[0].contains("secrets/deny.yaml: warning: policies in the directory"),
            "{warned:?}"
        );
        assert!(materials.secret("prod", "alice").is_some(), "a secret may contain anything");
    }

    #[test]
    fn nothing_unreadable_is_skipped() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read(&dir.path().join("absent")), Err(DirectoryError::Io { .. })));
        put(dir.path(), "big.yaml", &"#".repeat(1024 * 1024 + 1));
        assert!(matches!(read(dir.path()), Err(DirectoryError::TooMuch { .. })));
        fs::write(dir.path().join("big.yaml"), [0xff]).unwrap();
        assert!(matches!(read(dir.path()), Err(DirectoryError::NotText { .. })));
        fs::remove_file(dir.path().join("big.yaml")).unwrap();
        std::os::unix::fs::symlink("/nowhere/at/all", dir.path().join("dangling.yaml")).unwrap();
        assert!(matches!(read(dir.path()), Err(DirectoryError::Io { .. })));
    }

    #[test]
    fn everything_that_cannot_be_read_is_named() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "big.yaml", &"#".repeat(1024 * 1024 + 1));
        put(dir.path(), "good.yaml", "kind: x");
        fs::write(dir.path().join("latin.yaml"), [0xff]).unwrap();
        std::os::unix::fs::symlink("/nowhere/at/all", dir.path().join("dangling.yaml")).unwrap();
        let directory = Directory::new(dir.path());
        let (snapshot, failures) = directory.examine();
        assert_eq!(snapshot.documents.len(), 1);
        let named: Vec<_> = failures.iter().map(|error| error.path().file_name().unwrap().to_str().unwrap()).collect();
        assert_eq!(named, ["dangling.yaml", "big.yaml", "latin.yaml"]);
        let problem = failures[0].problem();
        assert!(problem.file.ends_with("dangling.yaml") && problem.message.contains("a symbolic link"), "{problem}");
        let error = directory.snapshot().map(|_| ()).unwrap_err().to_string();
        assert!(["dangling", "big", "latin"].iter().all(|name| error.contains(name)), "{error}");
        assert!(matches!(read(&dir.path().join("dangling.yaml")), Err(DirectoryError::Io { .. })));
    }

    #[test]
    fn failures_are_bounded() {
        let dir = tempfile::tempdir().unwrap();
        let link = |name: usize| std::os::unix::fs::symlink("/nowhere/at/all", dir.path().join(format!("{name}.yaml")));
        (0..2 * MAX_FAILURES).for_each(|name| link(name).unwrap());
        assert_eq!(Directory::new(dir.path()).examine().1.len(), MAX_FAILURES);
    }
}
