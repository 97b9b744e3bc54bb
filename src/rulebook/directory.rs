//! A directory of policy documents, key files and secrets.
//!
//! `*.yaml`, `*.yml` and `*.json` anywhere below are documents; `secrets/NAMESPACE/NAME/` holds secrets, a file for each
//! key. Hidden names are passed over, which leaves out the `..data` folders of a ConfigMap; links are followed.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use crate::policy::{Materials, Source};

/// The most documents that are read.
const MAX_FILES: usize = 10_000;
/// The largest file that is read, in bytes.
const MAX_FILE: u64 = 1024 * 1024;
/// The deepest folder.
const MAX_DEPTH: usize = 8;

/// Reads every document of a directory, in the order of their paths.
///
/// # Errors
/// What cannot be read: a document that is there and cannot be read must not count as absent.
pub fn read_dir(dir: &Path) -> Result<(Vec<Source>, DirMaterials), DirectoryError> {
    let mut paths = Vec::new();
    find(dir, 0, &mut paths)?;
    paths.sort();
    if paths.len() > MAX_FILES {
        return Err(DirectoryError { path: dir.to_owned(), why: format!("more than {MAX_FILES} documents") });
    }
    let source = |path: PathBuf| {
        let text = String::from_utf8(read(&path)?).map_err(|_| at(&path)("not UTF-8"))?;
        Ok(Source { path: path.display().to_string(), text })
    };
    let sources = paths.into_iter().map(source).collect::<Result<_, _>>()?;
    Ok((sources, DirMaterials { dir: dir.to_owned() }))
}

fn find(dir: &Path, depth: usize, paths: &mut Vec<PathBuf>) -> Result<(), DirectoryError> {
    if depth > MAX_DEPTH {
        return Err(at(dir)("folders are nested too deep"));
    }
    for entry in fs::read_dir(dir).map_err(|error| at(dir)(error))? {
        let entry = entry.map_err(|error| at(dir)(error))?;
        let (path, name) = (entry.path(), entry.file_name());
        if name.to_string_lossy().starts_with('.') || (depth == 0 && name == "secrets") {
            continue;
        }
        let metadata = fs::metadata(&path).map_err(|error| at(&path)(error))?;
        let is_document = path.extension().is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|e| extension == *e));
        if metadata.is_dir() {
            find(&path, depth + 1, paths)?;
        } else if is_document {
            paths.push(path);
        }
    }
    Ok(())
}

fn read(path: &Path) -> Result<Vec<u8>, DirectoryError> {
    let file = fs::File::open(path).map_err(|error| at(path)(error))?;
    let mut bytes = Vec::new();
    file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(|error| at(path)(error))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(at(path)("larger than 1 MiB"));
    }
    Ok(bytes)
}

fn at<E: ToString>(path: &Path) -> impl Fn(E) -> DirectoryError {
    let path = path.to_owned();
    move |why| DirectoryError { path: path.clone(), why: why.to_string() }
}

/// Key files and secrets of a policy directory.
#[derive(Clone, Debug)]
pub struct DirMaterials {
    dir: PathBuf,
}

impl Materials for DirMaterials {
    fn file(&self, path: &str) -> Result<Vec<u8>, String> {
        read(&self.dir.join(path)).map_err(|error| error.to_string())
    }

    fn secret(&self, namespace: &str, name: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        let plain = |text: &str| !text.is_empty() && !text.starts_with('.') && !text.contains('/');
        if !plain(namespace) || !plain(name) {
            return None;
        }
        let mut data = BTreeMap::new();
        for entry in fs::read_dir(self.dir.join("secrets").join(namespace).join(name)).ok()? {
            let path = entry.ok()?.path();
            let key = path.file_name()?.to_str()?.to_owned();
            if !key.starts_with('.') && path.is_file() {
                data.insert(key, read(&path).ok()?);
            }
        }
        Some(data)
    }

    fn secret_namespaces(&self) -> Vec<String> {
        let names = |dir: fs::ReadDir| dir.filter_map(io::Result::ok).map(|entry| entry.file_name());
        let folders = fs::read_dir(self.dir.join("secrets")).map(names);
        let mut found: Vec<String> = folders.into_iter().flatten().filter_map(|name| name.into_string().ok()).collect();
        found.retain(|name| !name.starts_with('.'));
        found.sort();
        found
    }
}

/// The directory, or a file in it, cannot be read.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{path}: {why}; every document in the policy directory must be readable")]
pub struct DirectoryError {
    path: PathBuf,
    why: String,
}
