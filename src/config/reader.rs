//! Reads a configuration's tree once, and collects every mistake with its place.

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::runtime::{parse_duration, parse_size};

/// One mistake.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Problem {
    /// The key: `upstream[1].tag_ttl`. Empty when the file as a whole is at fault.
    pub path: String,
    /// The file, with line and column where they are known, or the environment variable.
    pub place: String,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: error: ", self.place)?;
        if !self.path.is_empty() {
            write!(f, "{}: ", self.path)?;
        }
        f.write_str(&self.message)?;
        self.hint.iter().try_for_each(|hint| write!(f, " (hint: {hint})"))
    }
}

/// What all tables of one reading share.
pub(super) struct Reader {
    pub(super) file: PathBuf,
    /// Line and column of each key.
    pub(super) places: BTreeMap<String, (usize, usize)>,
    /// The variable that set a key, where one did.
    pub(super) variables: BTreeMap<String, String>,
    problems: RefCell<Vec<Problem>>,
    keys: RefCell<BTreeSet<String>>,
}

impl Reader {
    pub(super) fn new(
        file: PathBuf,
        places: BTreeMap<String, (usize, usize)>,
        variables: BTreeMap<String, String>,
    ) -> Self {
        Self { file, places, variables, problems: RefCell::default(), keys: RefCell::default() }
    }

    pub(super) fn problem(&self, path: &str, message: impl Into<String>, hint: Option<&str>) {
        let place = self.place(path);
        let problem = Problem { path: path.to_owned(), place, message: message.into(), hint: hint.map(str::to_owned) };
        self.problems.borrow_mut().push(problem);
    }

    pub(super) fn has_problems(&self) -> bool {
        !self.problems.borrow().is_empty()
    }

    pub(super) fn into_problems(self) -> Vec<Problem> {
        self.problems.into_inner()
    }

    /// Every key that was asked for, list positions left out: what a configuration may say.
    #[cfg(test)]
    pub(super) fn keys(&self) -> BTreeSet<String> {
        self.keys.borrow().clone()
    }

    pub(super) fn table<'r>(&'r self, path: &str, map: Map<String, Value>) -> Table<'r> {
        let given = map.keys().cloned().collect();
        Table { reader: self, path: path.to_owned(), map, known: BTreeSet::new(), given }
    }

    /// A path as the file means it: relative ones begin at the file's own folder.
    fn resolve(&self, path: &str) -> PathBuf {
        self.file.parent().unwrap_or(Path::new("")).join(path)
    }

    /// The key's own place, else that of the nearest table around it.
    fn place(&self, path: &str) -> String {
        if let Some(variable) = self.variables.get(path) {
            return format!("environment variable {variable}");
        }
        let file = self.file.display();
        let mut path = path;
        loop {
            if let Some((line, column)) = self.places.get(path) {
                return format!("{file}:{line}:{column}");
            }
            match path.rfind(['.', '[']) {
                Some(end) => path = &path[..end],
                None => return file.to_string(),
            }
        }
    }
}

/// One table of the tree. What is not asked for until [`Table::finish`] is unknown.
pub(super) struct Table<'r> {
    pub(super) reader: &'r Reader,
    pub(super) path: String,
    map: Map<String, Value>,
    known: BTreeSet<&'static str>,
    given: BTreeSet<String>,
}

impl<'r> Table<'r> {
    pub(super) fn path_of(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }

    pub(super) fn problem(&self, key: &str, message: impl Into<String>, hint: Option<&str>) {
        self.reader.problem(&self.path_of(key), message, hint);
    }

    pub(super) fn has(&self, key: &str) -> bool {
        self.map.contains_key(key)
    }

    /// Whether the file said it, also when it was read since.
    pub(super) fn was_given(&self, key: &str) -> bool {
        self.given.contains(key)
    }

    pub(super) fn is_text(&self, key: &str) -> bool {
        self.map.get(key).is_some_and(Value::is_string)
    }

    pub(super) fn text(&mut self, key: &'static str) -> Option<String> {
        match self.take(key)? {
            Value::String(text) => Some(text),
            other => self.wrong(key, "a text", &other),
        }
    }

    /// A text that means a value of this type.
    pub(super) fn value<T>(&mut self, key: &'static str) -> Option<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        let text = self.text(key)?;
        text.parse().map_err(|error: T::Err| self.problem(key, format!("{text:?}: {error}"), None)).ok()
    }

    pub(super) fn choice<T: Copy>(&mut self, key: &'static str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        let found = choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            self.problem(key, format!("{text:?} is none of {}", names.join(", ")), None);
        }
        found
    }

    pub(super) fn flag(&mut self, key: &'static str) -> Option<bool> {
        match self.take(key)? {
            Value::Bool(flag) => Some(flag),
            other => self.wrong(key, "true or false", &other),
        }
    }

    pub(super) fn number(&mut self, key: &'static str, least: u64, most: u64) -> Option<u64> {
        match self.take(key)? {
            Value::Number(number) if number.as_u64().is_some_and(|n| (least..=most).contains(&n)) => number.as_u64(),
            other => self.wrong(key, &format!("a whole number from {least} to {most}"), &other),
        }
    }

    pub(super) fn duration(&mut self, key: &'static str) -> Option<Duration> {
        let text = self.text(key)?;
        parse_duration(&text).map_err(|error| self.problem(key, format!("{text:?}: {error}"), None)).ok()
    }

    pub(super) fn size(&mut self, key: &'static str) -> Option<u64> {
        match self.take(key)? {
            Value::Number(number) if number.as_u64().is_some() => number.as_u64(),
            Value::String(text) => {
                parse_size(&text).map_err(|error| self.problem(key, format!("{text:?}: {error}"), None)).ok()
            }
            other => self.wrong(key, "a size such as \"256KiB\"", &other),
        }
    }

    /// A path; a relative one begins at the folder of the configuration file.
    pub(super) fn file(&mut self, key: &'static str) -> Option<PathBuf> {
        let text = self.text(key)?;
        if text.is_empty() {
            self.problem(key, "the path is empty", None);
            return None;
        }
        Some(self.reader.resolve(&text))
    }

    pub(super) fn files(&mut self, key: &'static str) -> Option<Vec<PathBuf>> {
        Some(self.texts(key)?.iter().map(|text| self.reader.resolve(text)).collect())
    }

    /// A list of texts; from the environment, one text with commas.
    pub(super) fn texts(&mut self, key: &'static str) -> Option<Vec<String>> {
        let is_variable = self.reader.variables.contains_key(&self.path_of(key));
        match self.take(key)? {
            Value::Array(items) if items.iter().all(Value::is_string) => {
                Some(items.iter().filter_map(Value::as_str).map(str::to_owned).collect())
            }
            Value::String(text) if is_variable => {
                Some(text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(str::to_owned).collect())
            }
            other => self.wrong(key, "a list of texts", &other),
        }
    }

    /// A list of texts that each mean a value of this type.
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

    /// A table within this one; an empty one where there is none, so that its defaults are read the same way.
    pub(super) fn table(&mut self, key: &'static str) -> Self {
        self.optional_table(key).unwrap_or_else(|| self.reader.table(&self.path_of(key), Map::new()))
    }

    pub(super) fn optional_table(&mut self, key: &'static str) -> Option<Self> {
        match self.take(key)? {
            Value::Object(map) => Some(self.reader.table(&self.path_of(key), map)),
            other => self.wrong(key, "a table", &other),
        }
    }

    /// The tables of a `[[list]]`.
    pub(super) fn tables(&mut self, key: &'static str) -> Vec<Self> {
        let path = self.path_of(key);
        match self.take(key) {
            None => Vec::new(),
            Some(Value::Array(items)) if items.iter().all(Value::is_object) => {
                let table = |(index, item)| match item {
                    Value::Object(map) => Some(self.reader.table(&format!("{path}[{index}]"), map)),
                    _ => None,
                };
                items.into_iter().enumerate().filter_map(table).collect()
            }
            Some(other) => {
                self.wrong::<()>(key, &format!("a list of tables, each written [[{key}]]"), &other);
                Vec::new()
            }
        }
    }

    /// The tables of a table whose keys are names.
    pub(super) fn named_tables(&mut self, key: &'static str) -> Vec<(String, Self)> {
        let Some(table) = self.optional_table(key) else { return Vec::new() };
        let (reader, path) = (table.reader, table.path.clone());
        let named = |(name, value): (String, Value)| match value {
            Value::Object(map) => {
                let table = reader.table(&format!("{path}.{name}"), map);
                Some((name, table))
            }
            other => {
                reader.problem(&format!("{path}.{name}"), format!("must be a table, not {}", kind(&other)), None);
                None
            }
        };
        table.map.into_iter().filter_map(named).collect()
    }

    /// Says what was not asked for.
    pub(super) fn finish(self) {
        for key in self.map.keys() {
            let close =
                self.known.iter().filter(|known| distance(known, key) <= 2).min_by_key(|known| distance(known, key));
            let hint = match close {
                Some(known) => format!("did you mean {known:?}?"),
                None => format!("known here: {}", self.known.iter().copied().collect::<Vec<_>>().join(", ")),
            };
            self.problem(key, "unknown key", Some(&hint));
        }
    }

    fn take(&mut self, key: &'static str) -> Option<Value> {
        self.known.insert(key);
        let path = self.path_of(key);
        self.reader.keys.borrow_mut().insert(without_positions(&path));
        self.map.remove(key).filter(|value| !value.is_null())
    }

    fn wrong<T>(&self, key: &str, wanted: &str, found: &Value) -> Option<T> {
        self.problem(key, format!("must be {wanted}, not {}", kind(found)), None);
        None
    }
}

fn without_positions(path: &str) -> String {
    let mut text = String::new();
    for part in path.split('[') {
        text.push_str(part.split_once(']').map_or(part, |(_, rest)| rest));
    }
    text
}

/// What a value is, never what it says: it might be a secret in the wrong place.
fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "this number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "a table",
    }
}

/// How many letters apart two words are (Levenshtein).
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = diagonal + usize::from(x != *y);
            diagonal = row[j + 1];
            row[j + 1] = change.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
