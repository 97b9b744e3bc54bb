//! A directory of policy documents: `*.yaml`, `*.yml` and `*.json`, in subfolders too, and `secrets/NAMESPACE/NAME/`
//! folders with one file for each key. Every number and size is bounded, and nothing is skipped but hidden names, which
//! are how a mounted ConfigMap keeps its generations (`..data`), and files of other kinds.

use std::collections::{BTreeMap, HashSet};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::markup::{Problem, ProblemSeverity};
use crate::policy::{Document, Materials, NoMaterials, RuleSet, Settings};

/// The largest file, in bytes.
const MAX_FILE: u64 = 1024 * 1024;
/// The most files, documents and secrets together.
const MAX_FILES: usize = 10_000;
/// All files together, in bytes.
const MAX_TOTAL: u64 = 64 * 1024 * 1024;
/// The deepest subfolder.
const MAX_DEPTH: usize = 16;

/// The documents of a directory, in the order of their paths, and what they may refer to.
///
/// # Errors
/// When anything in it cannot be read or is larger than the limits: a policy that is passed over would be a hole.
pub fn read_dir(path: &Path) -> Result<(Vec<Document>, DirMaterials), Error> {
    let mut reader = Reader::default();
    let mut files = Vec::new();
    reader.walk(path, 0, &mut files)?;
    let secrets = path.join("secrets");
    let mut sources = Vec::new();
    for file in files.iter().filter(|file| !file.starts_with(&secrets) && is_document(file)) {
        let text = String::from_utf8(reader.read(file)?).map_err(|_| Error::NotText(file.clone()))?;
        sources.push(Document { path: file.display().to_string(), text });
    }
    let mut materials = DirMaterials { root: path.to_owned(), secrets: BTreeMap::new(), misplaced: Vec::new() };
    for (file, inner) in files.iter().filter_map(|file| Some((file, file.strip_prefix(&secrets).ok()?))) {
        let content = reader.read(file)?;
        if is_document(file) && holds_policies(file, &content) {
            materials.misplaced.push(misplaced(file));
        }
        materials.add(inner, content);
    }
    Ok((sources, materials))
}

/// Secrets of a directory, and the key files in it. Has no `Debug`, so that no secret is printed by accident.
pub struct DirMaterials {
    root: PathBuf,
    secrets: BTreeMap<(String, String), BTreeMap<String, Vec<u8>>>,
    /// Policies where nobody reads them as such.
    misplaced: Vec<Problem>,
}

impl DirMaterials {
    /// A warning for each file among the secrets that holds policies: they are not in force.
    pub fn problems(&self) -> impl Iterator<Item = &Problem> {
        self.misplaced.iter()
    }

    /// `NAMESPACE/NAME/KEY`; anything else in the secrets folder is no secret.
    fn add(&mut self, path: &Path, content: Vec<u8>) {
        let parts: Vec<_> = path.iter().filter_map(|part| part.to_str()).collect();
        if let [namespace, name, key] = parts[..] {
            let secret = self.secrets.entry((namespace.to_owned(), name.to_owned())).or_default();
            secret.insert(key.to_owned(), content);
        }
    }
}

impl Materials for DirMaterials {
    /// A path is relative to the directory of the documents.
    fn file(&self, _: &str, path: &str) -> Result<Vec<u8>, String> {
        read_bounded(&self.root.join(path)).map_err(|error| error.to_string())
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
pub enum Error {
    /// Something cannot be read.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// What.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A document is not UTF-8.
    #[error("{}: not UTF-8 text", .0.display())]
    NotText(PathBuf),
    /// More, larger or deeper than is read.
    #[error("{path}: {what}", path = path.display())]
    TooMuch {
        /// Where.
        path: PathBuf,
        /// What there is too much of.
        what: &'static str,
    },
}

fn is_document(path: &Path) -> bool {
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
    ["yaml", "yml", "json"].iter().any(|known| extension.eq_ignore_ascii_case(known))
}

fn holds_policies(path: &Path, content: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(content) else { return false };
    let source = Document { path: path.display().to_string(), text: text.to_owned() };
    let parsed = RuleSet::parse(&[source], &NoMaterials, &Settings::default());
    parsed.files.iter().any(|file| file.policies > 0)
}

fn misplaced(path: &Path) -> Problem {
    let (file, hint) = (path.display().to_string(), "move the file out of it");
    Problem::of_file(ProblemSeverity::Warning, file, "policies in the folder of secrets are not in force", Some(hint))
}

#[derive(Default)]
struct Reader {
    /// Folders by device and inode: links may lead in circles.
    seen: HashSet<(u64, u64)>,
    files: usize,
    bytes: u64,
}

impl Reader {
    /// All regular files below, links followed, hidden names left out.
    fn walk(&mut self, folder: &Path, depth: usize, found: &mut Vec<PathBuf>) -> Result<(), Error> {
        if depth > MAX_DEPTH {
            return Err(Error::TooMuch { path: folder.to_owned(), what: "folders nested too deeply" });
        }
        let status = fs::metadata(folder).map_err(|source| io_error(folder, source))?;
        if !self.seen.insert((status.dev(), status.ino())) {
            return Ok(());
        }
        for path in list(folder)? {
            let status = fs::metadata(&path).map_err(|source| io_error(&path, source))?;
            if status.is_dir() {
                self.walk(&path, depth + 1, found)?;
            } else {
                self.files += 1;
                if self.files > MAX_FILES {
                    return Err(Error::TooMuch { path, what: "too many files" });
                }
                found.push(path);
            }
        }
        Ok(())
    }

    fn read(&mut self, path: &Path) -> Result<Vec<u8>, Error> {
        let content = read_bounded(path)?;
        self.bytes += content.len() as u64;
        if self.bytes > MAX_TOTAL {
            return Err(Error::TooMuch { path: path.to_owned(), what: "too much text in all files together" });
        }
        Ok(content)
    }
}

/// What a folder holds, sorted, hidden names left out.
fn list(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).map_err(|source| io_error(folder, source))? {
        let entry = entry.map_err(|source| io_error(folder, source))?;
        if !entry.file_name().as_encoded_bytes().starts_with(b".") {
            paths.push(entry.path());
        }
        if paths.len() > MAX_FILES {
            return Err(Error::TooMuch { path: folder.to_owned(), what: "too many files" });
        }
    }
    paths.sort();
    Ok(paths)
}

/// A regular file, whole: opening a pipe would wait for its writer.
fn read_bounded(path: &Path) -> Result<Vec<u8>, Error> {
    let status = fs::metadata(path).map_err(|source| io_error(path, source))?;
    if !status.is_file() {
        return Err(io_error(path, io::Error::other("not a regular file")));
    }
    let mut content = Vec::new();
    let file = File::open(path).map_err(|source| io_error(path, source))?;
    file.take(MAX_FILE + 1).read_to_end(&mut content).map_err(|source| io_error(path, source))?;
    if content.len() as u64 > MAX_FILE {
        return Err(Error::TooMuch { path: path.to_owned(), what: "larger than 1 MiB" });
    }
    Ok(content)
}

fn io_error(path: &Path, source: io::Error) -> Error {
    Error::Io { path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn put(root: &Path, path: &str, text: &str) {
        let file = root.join(path);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }

    #[test]
    fn documents_and_secrets_are_told_apart() {
        let dir = tempfile::tempdir().unwrap();
        for path in ["b.yaml", "a.YML", "sub/c.json", ".hidden.yaml", "..data/d.yaml", "notes.txt"] {
            put(dir.path(), path, "x");
        }
        put(dir.path(), "secrets/prod/alice/name", "alice");
        put(dir.path(), "secrets/prod/alice/odd.yaml", "kind: Secret");
        std::os::unix::fs::symlink(dir.path().join("..data/d.yaml"), dir.path().join("linked.yaml")).unwrap();
        std::os::unix::fs::symlink(dir.path(), dir.path().join("sub/circle")).unwrap();
        let (sources, materials) = read_dir(dir.path()).unwrap();
        let names: Vec<_> = sources.iter().map(|s| s.path.rsplit_once('/').unwrap().1).collect();
        assert_eq!(names, ["a.YML", "b.yaml", "linked.yaml", "c.json"]);
        assert_eq!(materials.secret("prod", "alice").unwrap()["name"], b"alice");
        assert_eq!(materials.secret("prod", "bob"), None);
        assert_eq!(materials.secret_namespaces(), ["prod"]);
        assert_eq!(materials.file("", "notes.txt").unwrap(), b"x");
        assert!(materials.file("", "absent").is_err());
        assert_eq!(materials.problems().count(), 0);
    }

    #[test]
    fn policies_among_the_secrets_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let policy =
            "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {name: x}\nspec: {repositories: []}\n";
        put(dir.path(), "secrets/deny.yaml", policy);
        put(dir.path(), "secrets/prod/alice/key.yaml", policy);
        put(dir.path(), "secrets/prod/alice/key.pub", policy);
        put(dir.path(), "secrets/prod/bob/odd.yaml", "kind: [");
        let (sources, materials) = read_dir(dir.path()).unwrap();
        assert!(sources.is_empty());
        let told: Vec<_> = materials.problems().map(ToString::to_string).collect();
        assert!(told.len() == 2 && told[0].contains("secrets/deny.yaml: warning: policies in the folder"), "{told:?}");
        assert!(materials.secret("prod", "alice").is_some(), "a secret may hold what it likes");
    }

    #[test]
    fn what_cannot_be_read_is_no_policy_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(read_dir(&dir.path().join("absent")), Err(Error::Io { .. })));
        put(dir.path(), "big.yaml", &"#".repeat(1024 * 1024 + 1));
        assert!(matches!(read_dir(dir.path()), Err(Error::TooMuch { .. })));
        fs::write(dir.path().join("big.yaml"), [0xff]).unwrap();
        assert!(matches!(read_dir(dir.path()), Err(Error::NotText(_))));
        fs::remove_file(dir.path().join("big.yaml")).unwrap();
        std::os::unix::fs::symlink("/nowhere/at/all", dir.path().join("dangling.yaml")).unwrap();
        assert!(matches!(read_dir(dir.path()), Err(Error::Io { .. })));
    }
}
