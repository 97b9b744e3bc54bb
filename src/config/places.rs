//! Where the keys of a configuration are written, for problems of what they name.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::markup::{Problem, ProblemKey, ProblemSeverity};
use crate::oci::{Algorithm, Digest, Hasher};
use crate::runtime::{folder_names, read_plain_file};

/// The maximum number of files in a directory that a key names.
pub(super) const MAX_FOLDER: usize = 1000;
/// The largest file whose content is compared, in bytes: a bundle of certificate authorities.
const MAX_PART: u64 = 16 * 1024 * 1024;

/// The places of all keys and tables that were read, by their path: `listener[0].tls.certificate`.
#[derive(Clone, Debug, Default)]
pub struct KeyPlaces {
    /// The configuration file.
    file: Arc<str>,
    /// The digest of its text; `None` if it was not read.
    text: Option<Digest>,
    /// The files and directories whose content is a part of the configuration, as they were when they were read.
    parts: BTreeMap<PathBuf, Option<Digest>>,
    /// The content of each file of certificate authorities, by the key that names it.
    authorities: BTreeMap<String, Option<Digest>>,
    /// Every key that was read; without a place if it is not written.
    keys: BTreeMap<String, Option<KeyPlace>>,
    tables: BTreeMap<String, KeyPlace>,
    /// The positions of the tables of a list that could be read, in the order of the values that were made of them.
    items: BTreeMap<&'static str, Vec<usize>>,
    #[cfg(test)]
    kinds: BTreeMap<String, String>,
}

/// A file or an environment variable, and the place in it.
#[derive(Clone, Debug)]
pub(super) struct KeyPlace {
    pub(super) file: Arc<str>,
    pub(super) line: u32,
    pub(super) column: u32,
}

impl KeyPlaces {
    pub(super) fn new(file: &str) -> Self {
        Self { file: file.into(), ..Self::default() }
    }

    pub(super) fn add(&mut self, key: String, place: Option<KeyPlace>) {
        self.keys.insert(key, place);
    }

    pub(super) fn add_table(&mut self, path: &str, place: KeyPlace) {
        self.tables.insert(path.to_owned(), place);
    }

    /// Notes that the next value of a list was made of its table at this position.
    pub(super) fn keep(&mut self, list: &'static str, position: usize) {
        self.items.entry(list).or_default().push(position);
    }

    /// Notes the text of the file.
    pub(super) fn read_from(&mut self, text: &str) {
        self.text = Some(Digest::sha256(text.as_bytes()));
    }

    /// The configuration file.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// Notes a file or directory whose content is a part of the configuration, before it is read.
    pub(super) fn add_part(&mut self, path: &Path) {
        self.parts.insert(path.to_owned(), state_of(path));
    }

    /// Notes a file of certificate authorities, before it is read. Operators renew it under the same name.
    pub(super) fn add_authorities(&mut self, key: String, path: &Path) {
        self.add_part(path);
        self.authorities.insert(key, self.content_of(path));
    }

    /// The content that such a file or directory had. `None` if it could not be read.
    pub(super) fn content_of(&self, path: &Path) -> Option<Digest> {
        self.parts.get(path).copied().flatten()
    }

    /// The content of each file of certificate authorities, by the key that names it.
    pub(super) fn authorities(&self) -> &BTreeMap<String, Option<Digest>> {
        &self.authorities
    }

    /// The files and directories whose content is a part of the configuration.
    pub(crate) fn parts(&self) -> Vec<PathBuf> {
        self.parts.keys().cloned().collect()
    }

    /// Identifies what was read: the text of the file and those parts. They may be different by now.
    pub(crate) fn content(&self) -> Option<Digest> {
        Some(identify(self.text?, self.parts.iter().map(|(path, state)| (path, *state))))
    }

    /// Whether a key is written, in the file or in a variable.
    pub fn is_written(&self, key: &str) -> bool {
        self.keys.get(key).is_some_and(Option::is_some)
    }

    /// The path of a table of a list, by the index of the value that was made of it. Tables with mistakes may have no
    /// value.
    pub fn item(&self, list: &str, index: usize) -> String {
        let position = self.items.get(list).and_then(|items| items.get(index)).copied().unwrap_or(index);
        format!("{list}[{position}]")
    }

    /// A problem at the place of a key, or of its table if the key is not written.
    pub fn problem(&self, severity: ProblemSeverity, key: &str, message: &str, hint: Option<&str>) -> Problem {
        let mut problem = Problem::of_file(severity, &*self.file, format!("{key}: {message}"), hint);
        problem.key = Some(Box::new(ProblemKey::known(key)));
        let tables = std::iter::successors(Some(key), |path| path.rsplit_once('.').map(|(table, _)| table));
        let written = self.keys.get(key).and_then(Option::as_ref);
        let place = written.or_else(|| tables.skip(1).find_map(|table| self.tables.get(table)));
        if let Some(place) = place {
            problem.file = place.file.as_ref().to_owned();
            (problem.line, problem.column) = (place.line, place.column);
        }
        problem
    }

    /// The last component of every key that a configuration may have.
    #[cfg(test)]
    pub(super) fn names(&self) -> impl Iterator<Item = &str> {
        self.keys.keys().filter_map(|path| path.rsplit('.').next())
    }

    /// Notes what the value of a key must be, for the reference of all settings.
    #[cfg(test)]
    pub(super) fn describe(&mut self, key: String, kind: String) {
        self.kinds.insert(key, kind);
    }

    /// Every key that a configuration may have, with what its value must be.
    #[cfg(test)]
    pub(super) fn kinds(&self) -> &BTreeMap<String, String> {
        &self.kinds
    }
}

/// Identifies what a configuration is made of now, from the text of its file: see [`KeyPlaces::content`]. Blocks.
pub(crate) fn content_now(text: &[u8], parts: &[PathBuf]) -> Digest {
    identify(Digest::sha256(text), parts.iter().map(|path| (path, state_of(path))))
}

fn identify<'a>(text: Digest, parts: impl Iterator<Item = (&'a PathBuf, Option<Digest>)>) -> Digest {
    let mut hasher = Hasher::new(Algorithm::Sha256);
    hasher.update(text.to_string().as_bytes());
    for (path, state) in parts {
        let state = state.map(|state| state.to_string()).unwrap_or_default();
        hasher.update(format!("\n{} {state}", path.display()).as_bytes());
    }
    hasher.finish()
}

/// The content of a file, or the names in a directory. `None` if it cannot be read.
fn state_of(path: &Path) -> Option<Digest> {
    if !path.is_dir() {
        return read_plain_file(path, MAX_PART).ok().map(|content| Digest::sha256(&content));
    }
    let names = folder_names(path, MAX_FOLDER).ok()?;
    let names: Vec<String> = names.iter().map(|name| name.to_string_lossy().into_owned()).collect();
    Some(Digest::sha256(names.join("/").as_bytes()))
}
