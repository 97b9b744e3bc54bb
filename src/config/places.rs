//! Where the keys of a configuration are written, for problems of what they name.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::markup::{Problem, ProblemSeverity};
use crate::oci::Digest;

/// The places of all keys and tables that were read, by their path: `listener[0].tls.certificate`.
#[derive(Clone, Debug, Default)]
pub struct KeyPlaces {
    /// The configuration file.
    file: Arc<str>,
    /// The digest of its text; `None` if it was not read.
    text: Option<Digest>,
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

    /// The digest of the text that was read from the file, which may contain something else by now.
    pub fn text(&self) -> Option<Digest> {
        self.text
    }

    /// The path of a table of a list, by the index of the value that was made of it. Tables with mistakes may have no value.
    pub fn item(&self, list: &str, index: usize) -> String {
        let position = self.items.get(list).and_then(|items| items.get(index)).copied().unwrap_or(index);
        format!("{list}[{position}]")
    }

    /// A problem at the place of a key, or of its table if the key is not written.
    pub fn problem(&self, severity: ProblemSeverity, key: &str, message: &str, hint: Option<&str>) -> Problem {
        let mut problem = Problem::of_file(severity, &*self.file, format!("{key}: {message}"), hint);
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
