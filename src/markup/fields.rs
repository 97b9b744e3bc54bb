//! A mapping whose values have expected types. A value of another type is reported, and then counts as absent.

mod reporting;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use super::problem::{ProblemKey, ProblemSeverity, Problems};
use super::tree::{Member, Node, Place, Value};
use crate::runtime::{parse_duration, parse_size};

/// Smaller sizes must have a unit, in bytes.
const SMALLEST_MEANT: u64 = 1024;

/// A mapping that is being read, and where its mistakes are reported.
#[derive(Clone, Debug)]
pub struct Fields<'a> {
    /// Where the mapping begins.
    pub at: Place,
    /// Where mistakes are reported.
    pub problems: &'a Problems,
    members: &'a [Member],
    name: Name<'a>,
}

/// How messages refer to a mapping and its keys.
#[derive(Clone, Debug)]
enum Name<'a> {
    /// Messages name the mapping: `enabled of trust must be …`. For documents, whose place the file shows.
    Kind(Cow<'a, str>),
    /// By its path from the root: `gate.mode: must be …`. For the configuration, where a variable may set the value.
    Path(String),
}

impl Name<'_> {
    /// The beginning of a message about a key.
    fn of_key(&self, key: &str) -> String {
        match self {
            Self::Kind(what) => format!("{key} of {what} "),
            Self::Path(_) => format!("{}: ", self.path(key)),
        }
    }

    /// The key of a problem, if messages name paths.
    fn problem_key(&self, key: &str) -> Option<ProblemKey> {
        match self {
            Self::Kind(_) => None,
            Self::Path(_) => Some(ProblemKey::known(self.path(key))),
        }
    }

    fn path(&self, key: &str) -> String {
        match self {
            Self::Path(path) if !path.is_empty() => format!("{path}.{key}"),
            Self::Path(_) | Self::Kind(_) => key.to_owned(),
        }
    }
}

impl<'a> Fields<'a> {
    /// A mapping of a document; `what` refers to it in messages: "an authority".
    pub fn of(node: &'a Node, what: &'a str, problems: &'a Problems) -> Option<Self> {
        let Value::Map(members) = &node.value else {
            problems.error(node.at, format!("{what} must be a mapping, not {}", node.value.kind()));
            return None;
        };
        Some(Self { at: node.at, problems, members, name: Name::Kind(what.into()) })
    }

    /// The outermost mapping of a file whose messages name paths: `gate.mode: must be …`.
    pub fn root(node: &'a Node, problems: &'a Problems) -> Option<Self> {
        let fields = Self::of(node, "the file", problems)?;
        Some(Self { name: Name::Path(String::new()), ..fields })
    }

    /// The path of a key from the root: `gate.mode`. Without a known path the key alone.
    pub fn path(&self, key: &str) -> String {
        self.name.path(key)
    }

    /// The path of the mapping from the root; empty for the outermost one, and if it is not known.
    pub fn own_path(&self) -> &str {
        match &self.name {
            Name::Path(path) => path,
            Name::Kind(_) => "",
        }
    }

    /// All keys with their values.
    pub fn members(&self) -> &'a [Member] {
        self.members
    }

    /// A key with its value; `null` counts as absent.
    pub fn member(&self, key: &str) -> Option<&'a Member> {
        self.members.iter().find(|member| member.key == key && member.node.value != Value::Null)
    }

    /// The value of a key; `null` counts as absent.
    pub fn get(&self, key: &str) -> Option<&'a Node> {
        self.member(key).map(|member| &member.node)
    }

    /// The value of a key, reported if it is absent.
    pub fn needs(&self, key: &str) -> Option<&'a Node> {
        let node = self.get(key);
        if node.is_none() {
            self.wrong_key(key, "is missing");
        }
        node
    }

    /// The value of a key as text.
    pub fn text(&self, key: &str) -> Option<&'a str> {
        let member = self.member(key)?;
        text(&member.node, member.at, &self.name.of_key(key), self.name.problem_key(key), self.problems)
    }

    /// The value of a key as text, which must be present and not empty.
    pub fn required(&self, key: &str) -> Option<&'a str> {
        self.needs(key)?;
        let text = self.text(key)?;
        if text.is_empty() {
            self.wrong_key(key, "is empty");
            return None;
        }
        Some(text)
    }

    /// The value of a key as text that is parsed.
    pub fn value<T>(&self, key: &str) -> Option<T>
    where
        T: FromStr,
        T::Err: fmt::Display,
    {
        self.parsed(key, str::parse)
    }

    /// The value of a key as one of these words.
    pub fn choice<T: Copy>(&self, key: &str, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(key)?;
        let found = choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        if found.is_none() {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            self.wrong_key(key, &format!("must be one of {}, not {text:?}", names.join(", ")));
        }
        found
    }

    /// The value of a key as true or false.
    pub fn flag(&self, key: &str) -> Option<bool> {
        match &self.get(key)?.value {
            Value::Bool(flag) => Some(*flag),
            other => self.wrong(key, "true or false", other),
        }
    }

    /// The value of a key as a whole number within these bounds.
    pub fn number(&self, key: &str, least: u64, most: u64) -> Option<u64> {
        match &self.get(key)?.value {
            Value::Int(number) if u64::try_from(*number).is_ok_and(|n| (least..=most).contains(&n)) => {
                u64::try_from(*number).ok()
            }
            Value::Int(number) => {
                self.wrong_key(key, &format!("must be a whole number from {least} to {most}, not {number}"));
                None
            }
            other => self.wrong(key, &format!("a whole number from {least} to {most}"), other),
        }
    }

    /// The value of a key as a number within these bounds, with or without a fraction.
    pub fn decimal(&self, key: &str, least: f64, most: f64) -> Option<f64> {
        let number = match &self.get(key)?.value {
            Value::Float(number) => *number,
            Value::Int(number) => i32::try_from(*number).map_or(f64::INFINITY, f64::from),
            other => return self.wrong(key, &format!("a number from {least} to {most}"), other),
        };
        if !(least..=most).contains(&number) {
            self.wrong_key(key, &format!("must be a number from {least} to {most}, not {number}"));
            return None;
        }
        Some(number)
    }

    /// The value of a key as a duration: `500ms`, `1h30m`, `2w`.
    pub fn duration(&self, key: &str) -> Option<Duration> {
        if let Value::Int(number) = &self.get(key)?.value {
            self.unexpected(key, &format!("expected a string such as \"60s\", found the number {number}"));
            return None;
        }
        self.parsed(key, parse_duration)
    }

    /// The value of a key as a size in bytes: `256KiB`, or a number. A small number without a unit is a mistake: 5 is
    /// not meant as 5 bytes.
    pub fn size(&self, key: &str) -> Option<u64> {
        let value = &self.get(key)?.value;
        let size = match value {
            Value::Int(number) if *number >= 0 => u64::try_from(*number).ok(),
            Value::Text(_) => self.parsed(key, parse_size),
            other => self.wrong(key, "a size such as \"256KiB\"", other),
        }?;
        let has_unit = matches!(value, Value::Text(text) if text.ends_with(|c: char| !c.is_ascii_digit()));
        if has_unit || size == 0 || size >= SMALLEST_MEANT {
            return Some(size);
        }
        let message =
            format!("{size} without a unit is {size} bytes; write \"{size}KiB\", \"{size}MiB\" or \"{size}GiB\"");
        self.unexpected(key, &message);
        None
    }

    /// The value of a key as a list; empty if there is none.
    pub fn list(&self, key: &str) -> &'a [Node] {
        match self.get(key).map(|node| &node.value) {
            None => &[],
            Some(Value::List(items)) => items,
            Some(other) => self.wrong(key, "a list", other).unwrap_or_default(),
        }
    }

    /// The value of a key as a list of texts.
    pub fn texts(&self, key: &str) -> Vec<&'a str> {
        let subject = self.name.of_key(key);
        let read = |node| text(node, node.at, &subject, self.name.problem_key(key), self.problems);
        self.list(key).iter().filter_map(read).collect()
    }

    /// The value of a key as a mapping.
    pub fn map(&self, key: &'a str) -> Option<Self> {
        let node = self.get(key)?;
        let Value::Map(members) = &node.value else { return self.wrong(key, "a mapping", &node.value) };
        let name = match &self.name {
            Name::Kind(_) => Name::Kind(key.into()),
            Name::Path(_) => Name::Path(self.name.path(key)),
        };
        Some(Self { at: node.at, problems: self.problems, members, name })
    }

    /// The value of a key as a mapping; an empty one if there is none, so that its defaults are read in the same way.
    pub fn section(&self, key: &'a str) -> Self {
        let empty = || Self { members: &[], name: Name::Path(self.name.path(key)), ..self.clone() };
        self.map(key).unwrap_or_else(empty)
    }

    /// The value of a key as a list of mappings; `what` refers to each of them in messages.
    pub fn maps(&self, key: &str, what: &'a str) -> Vec<Self> {
        let map = |(index, node): (usize, &'a Node)| match (&self.name, &node.value) {
            (Name::Path(_), Value::Map(members)) => {
                let name = Name::Path(format!("{}[{index}]", self.name.path(key)));
                Some(Self { at: node.at, problems: self.problems, members, name })
            }
            _ => Self::of(node, what, self.problems),
        };
        self.list(key).iter().enumerate().filter_map(map).collect()
    }

    /// The mappings of a mapping whose keys are names.
    pub fn named_maps(&self, key: &'a str) -> Vec<(&'a str, Self)> {
        let Some(all) = self.map(key) else { return Vec::new() };
        all.members.iter().filter_map(|member| Some((&*member.key, all.map(&member.key)?))).collect()
    }

    fn parsed<T, E: fmt::Display>(&self, key: &str, parse: impl FnOnce(&str) -> Result<T, E>) -> Option<T> {
        let text = self.text(key)?;
        let explain = |error: E| self.report_key(ProblemSeverity::Error, key, &format!("{text:?}: {error}"), None);
        parse(text).map_err(explain).ok()
    }
}

/// Reports a merge key anywhere in a value that could not be expanded.
pub fn refuse_merge_keys(root: &Node, problems: &Problems) {
    if let Some((at, why)) = root.merge_key() {
        refuse_merge_key(at, why, problems);
    }
}

fn refuse_merge_key(at: Place, why: &str, problems: &Problems) {
    problems.error_hint(at, format!("merge key (<<): {why}"), "write it first in its mapping, or write the keys out");
}

/// A value that has no key of its own, as text; `what` refers to it in messages.
pub fn text_of<'a>(node: &'a Node, what: &str, problems: &Problems) -> Option<&'a str> {
    text(node, node.at, &format!("{what} "), None, problems)
}

/// A value as text; `subject` begins the message about a key.
fn text<'a>(node: &'a Node, at: Place, subject: &str, key: Option<ProblemKey>, problems: &Problems) -> Option<&'a str> {
    let hint = match &node.value {
        Value::Text(text) => return Some(text),
        Value::Bool(_) | Value::Int(_) | Value::Float(_) => Some("put it in quotes".to_owned()),
        Value::Null | Value::List(_) | Value::Map(_) => None,
    };
    let message = format!("{subject}must be text, not {}", node.value.kind());
    problems.report_about(key, ProblemSeverity::Error, at, message, hint);
    None
}
