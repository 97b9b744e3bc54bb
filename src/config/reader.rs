//! One table of the configuration, read key by key. Keys that have not been read by [`Table::finish`] are unknown keys.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::places::{KeyPlace, KeyPlaces};
use crate::markup::{Fields, Node, Place, ProblemSeverity, Problems, Value};
use crate::oci::Digest;

/// Whether the files of trusted roots are read with the configuration.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum RootFiles {
    /// They must be usable.
    Needed,
    /// They are not read, and may be missing.
    Unread,
}

/// What all tables of one reading share.
pub(super) struct Reader {
    /// The directory of the configuration file, where relative paths begin.
    pub(super) folder: PathBuf,
    pub(super) problems: Problems,
    pub(super) roots: RootFiles,
    places: RefCell<KeyPlaces>,
    /// What the gate reads, with what it is.
    read: RefCell<Vec<(String, PathBuf)>>,
}

impl Reader {
    pub(super) fn new(file: &Path, problems: Problems, roots: RootFiles) -> Self {
        let folder = file.parent().unwrap_or(Path::new("")).to_owned();
        let places = RefCell::new(KeyPlaces::new(&file.display().to_string()));
        Self { folder, problems, roots, places, read: RefCell::default() }
    }

    /// The outermost table.
    pub(super) fn root<'r>(&'r self, tree: &'r Node) -> Option<Table<'r>> {
        Fields::root(tree, &self.problems).map(|fields| self.table(fields))
    }

    /// The problems, the places of all keys, and the files and directories that the gate reads.
    pub(super) fn finish(self) -> (Problems, KeyPlaces, Vec<(String, PathBuf)>) {
        (self.problems, self.places.into_inner(), self.read.into_inner())
    }

    /// Notes a file or directory that the gate reads, with a description: `audit.file` must not be there.
    pub(super) fn reads(&self, what: String, path: PathBuf) {
        self.read.borrow_mut().push((what, path));
    }

    /// Notes a file or directory whose content is a part of the configuration, before it is read.
    pub(super) fn add_part(&self, path: &Path) {
        self.places.borrow_mut().add_part(path);
    }

    /// The content that such a file had. `None` if it could not be read.
    pub(super) fn content_of(&self, path: &Path) -> Option<Digest> {
        self.places.borrow().content_of(path)
    }

    /// Notes that a value was made of the table at this position of a list.
    pub(super) fn keep(&self, list: &'static str, position: usize) {
        self.places.borrow_mut().keep(list, position);
    }

    fn table<'r>(&'r self, fields: Fields<'r>) -> Table<'r> {
        self.places.borrow_mut().add_table(fields.own_path(), self.place(fields.at));
        Table { reader: self, fields, known: BTreeSet::new() }
    }

    fn place(&self, at: Place) -> KeyPlace {
        KeyPlace { file: self.problems.name(at.file), line: at.line, column: at.column }
    }
}

/// The keys that belong to no table. Keys after a table header in the file are part of that table.
pub(super) const OUTSIDE: [&str; 4] = ["default_upstream", "shutdown_delay", "shutdown_grace", "state_dir"];
/// Keys that are often written in a wrong table, each with the one that is usually meant.
const ELSEWHERE: [(&str, &str); 9] = [
    ("default_authorities", "[trust]"),
    ("max_requests_in_flight", "[limits]"),
    ("max_size", "[cache]"),
    ("mode", "[gate]"),
    ("pull_limit", "an [[upstream]]"),
    ("reports", "[va]"),
    ("serve_to", "an [[upstream]]"),
    ("tag_ttl", "an [[upstream]]"),
    ("verdict_wait", "[gate]"),
];

/// A table that is being read.
pub(super) struct Table<'r> {
    pub(super) reader: &'r Reader,
    fields: Fields<'r>,
    known: BTreeSet<&'static str>,
}

impl<'r> Table<'r> {
    /// Reports an error of a key.
    pub(super) fn problem(&self, key: &str, message: impl AsRef<str>, hint: Option<&str>) {
        self.fields.report_key(ProblemSeverity::Error, key, message.as_ref(), hint);
    }

    /// The path of a key from the root: `listener[0].address`.
    pub(super) fn path(&self, key: &str) -> String {
        self.fields.path(key)
    }

    /// Reports a value that may not mean what was meant.
    pub(super) fn warn(&self, key: &str, message: &str, hint: &str) {
        self.fields.report_key(ProblemSeverity::Warning, key, message, Some(hint));
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.fields.get(key).is_some()
    }

    /// Whether a list of tables is not written, or has none.
    pub(super) fn has_none(&self, key: &str) -> bool {
        self.fields.get(key).is_none_or(|node| matches!(&node.value, Value::List(tables) if tables.is_empty()))
    }

    pub(super) fn is_text(&self, key: &str) -> bool {
        self.fields.get(key).is_some_and(|node| node.as_text().is_some())
    }

    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        self.note(key, || "text".into());
        self.read(key).text(key).map(str::to_owned)
    }

    pub(super) fn value<T>(&mut self, key: &'static str) -> Option<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        self.note(key, || "text".into());
        self.read(key).value(key)
    }

    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        self.note(key, || words(choices));
        self.read(key).choice(key, choices)
    }

    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        self.note(key, || "true or false".into());
        self.read(key).flag(key)
    }

    pub(super) fn number(&mut self, key: &'static str, least: u64, most: u64) -> Option<u64> {
        self.note(key, || format!("number, {least} to {most}"));
        self.read(key).number(key, least, most)
    }

    pub(super) fn duration(&mut self, key: &'static str) -> Option<Duration> {
        self.note(key, || "duration".into());
        self.read(key).duration(key)
    }

    /// A duration within which something must happen, so it cannot be `0s`.
    pub(super) fn timeout(&mut self, key: &'static str) -> Option<Duration> {
        self.note(key, || "duration, more than 0s".into());
        let timeout = self.read(key).duration(key)?;
        if timeout.is_zero() {
            self.problem(key, "must be more than 0s", Some("leave the key out for the default"));
            return None;
        }
        Some(timeout)
    }

    pub(super) fn size(&mut self, key: &'static str) -> Option<u64> {
        self.note(key, || "size".into());
        self.read(key).size(key)
    }

    /// The path of a file or directory that the gate reads.
    pub(super) fn file(&mut self, key: &'static str) -> Option<PathBuf> {
        let path = self.path_of(key)?;
        self.reader.reads(self.path(key), path.clone());
        Some(path)
    }

    /// The path of a file of certificate authorities, whose content is a part of the configuration.
    pub(super) fn authorities(&mut self, key: &'static str) -> Option<PathBuf> {
        let path = self.file(key)?;
        self.reader.places.borrow_mut().add_authorities(self.path(key), &path);
        Some(path)
    }

    /// The path of a file or directory that the gate writes; a relative one begins at the directory of the
    /// configuration file.
    pub(super) fn output(&mut self, key: &'static str) -> Option<PathBuf> {
        let path = self.path_of(key)?;
        self.warn_of_home(key);
        Some(path)
    }

    /// Warns of a path that begins with `~`, which only a shell expands: the gate would create a directory with this
    /// name.
    pub(super) fn warn_of_home(&self, key: &str) {
        let text = self.fields.get(key).and_then(Node::as_text);
        if text.is_some_and(|text| text.starts_with('~')) {
            self.warn(
                key,
                "~ is not replaced by the home directory",
                "write the full path, or ./~ if the name really begins with ~",
            );
        }
    }

    fn path_of(&mut self, key: &'static str) -> Option<PathBuf> {
        self.note(key, || "path".into());
        let folder: &Path = &self.reader.folder;
        let text = self.read(key).text(key)?;
        if text.is_empty() {
            self.problem(key, "the path is empty", None);
            return None;
        }
        Some(folder.join(text))
    }

    /// The paths of files or directories that the gate reads.
    pub(super) fn files(&mut self, key: &'static str) -> Option<Vec<PathBuf>> {
        self.note(key, || "list of paths".into());
        let paths: Vec<PathBuf> = self.list(key)?.iter().map(|text| self.reader.folder.join(text)).collect();
        paths.iter().for_each(|path| self.reader.reads(format!("one of {}", self.path(key)), path.clone()));
        Some(paths)
    }

    /// A list of texts without blanks.
    pub(super) fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        self.note(key, || "list of texts".into());
        let texts = self.list(key)?;
        let is_variable = self.fields.get(key).is_some_and(|node| node.at.line == 0);
        if let Some(text) = texts.iter().find(|text| is_variable && text.contains(char::is_whitespace)) {
            self.problem(key, format!("{text:?} contains a blank"), Some("separate values with commas: a,b"));
        }
        Some(texts)
    }

    /// A list of texts; an environment variable holds them with commas between.
    fn list(&mut self, key: &'static str) -> Option<Vec<String>> {
        let node = self.read(key).get(key)?;
        match &node.value {
            Value::Text(text) if node.at.line == 0 && text.trim_start().starts_with(['[', '{', '"']) => {
                let hint = "write the values with commas between, without brackets and quotes: a,b";
                self.problem(key, "this variable is a list, and not JSON", Some(hint));
                None
            }
            Value::Text(text) if node.at.line == 0 => {
                Some(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect())
            }
            _ => Some(self.fields.texts(key).into_iter().map(str::to_owned).collect()),
        }
    }

    /// A list of texts that are parsed.
    pub(super) fn values<T>(&mut self, key: &'static str) -> Option<Vec<T>>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        let texts = self.texts(key)?;
        let parse = |text: String| {
            text.parse().map_err(|error: T::Err| self.problem(key, format!("{text:?}: {error}"), None)).ok()
        };
        Some(texts.into_iter().filter_map(parse).collect())
    }

    /// A table within this one; an empty one if there is none, so that its defaults are read in the same way.
    pub(super) fn table(&mut self, key: &'static str) -> Self {
        self.reader.table(self.read(key).section(key))
    }

    pub(super) fn optional_table(&mut self, key: &'static str) -> Option<Self> {
        self.note(key, || "table".into());
        self.read(key).map(key).map(|fields| self.reader.table(fields))
    }

    /// The tables of a `[[list]]`.
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<Self> {
        self.note(key, || "list of tables".into());
        let fields = self.read(key);
        if fields.get(key).is_some_and(|node| !matches!(node.value, Value::List(_))) {
            let is_variable = self.fields.member(key).is_some_and(|member| member.at.line == 0);
            let hint = is_variable.then_some("variables cannot set it: write the tables in the file");
            self.problem(key, format!("must be a list of tables, each written [[{key}]]"), hint);
            return Vec::new();
        }
        fields.maps(key, key).into_iter().map(|fields| self.reader.table(fields)).collect()
    }

    /// The tables of a table whose keys are names.
    pub(super) fn named_tables(&mut self, key: &'static str) -> Vec<(&'r str, Self)> {
        let named = self.named_fields(key).into_iter();
        named.map(|(name, fields)| (name, self.reader.table(fields))).collect()
    }

    /// As [`Self::named_tables`], for mappings that are read elsewhere.
    pub(super) fn named_fields(&mut self, key: &'static str) -> Vec<(&'r str, Fields<'r>)> {
        self.note(key, || "tables by name".into());
        self.read(key).named_maps(key)
    }

    /// The tree of a key.
    pub(super) fn tree(&self, key: &str) -> Option<&'r Node> {
        self.fields.get(key)
    }

    /// Reports every key that was not read.
    pub(super) fn finish(self) {
        let known: Vec<&str> = self.known.iter().copied().collect();
        let mut reported = Vec::new();
        let is_inside = !self.fields.own_path().is_empty();
        let outside = OUTSIDE.into_iter().filter(|_| is_inside);
        let outside = outside.map(|key| (key, "it belongs above the first [table] of the file".to_owned()));
        let elsewhere = ELSEWHERE.into_iter().map(|(key, table)| (key, format!("it belongs in {table}")));
        let is_misplaced = |key: &str| self.has(key) && !self.known.contains(key);
        for (key, hint) in outside.chain(elsewhere).filter(|(key, _)| is_misplaced(key)) {
            self.fields.report_unknown(key, &hint);
            reported.push(key);
        }
        self.fields.only_besides(&known, &reported);
    }

    /// Notes what the value of a key must be, for the reference of all settings (`reference.rs`).
    #[cfg(test)]
    fn note(&self, key: &str, kind: impl FnOnce() -> String) {
        self.reader.places.borrow_mut().describe(self.fields.path(key), kind());
    }

    #[cfg(not(test))]
    fn note(&self, _key: &str, _kind: impl FnOnce() -> String) {}

    fn read(&mut self, key: &'static str) -> &Fields<'r> {
        self.known.insert(key);
        let place = self.fields.member(key).map(|member| self.reader.place(member.at));
        self.reader.places.borrow_mut().add(self.fields.path(key), place);
        &self.fields
    }
}

/// The words of a choice: `"a", "b"`.
fn words<T>(choices: &[(&str, T)]) -> String {
    choices.iter().map(|(word, _)| format!("\"{word}\"")).collect::<Vec<_>>().join(", ")
}
