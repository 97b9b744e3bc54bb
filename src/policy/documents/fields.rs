//! A mapping whose values have expected types. A value of another type is reported, and then counts as absent.

use super::super::problem::Reporter;
use super::super::yaml::{Entry, Node, Position, Value};
use super::spelling;

/// A mapping of a document.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fields<'a> {
    pub(super) at: Position,
    pub(super) report: Reporter<'a>,
    entries: &'a [Entry],
    what: &'a str,
}

impl<'a> Fields<'a> {
    /// The node as a mapping; `what` names it in messages.
    pub(super) fn of(node: &'a Node, what: &'a str, report: Reporter<'a>) -> Option<Self> {
        match &node.value {
            Value::Map(entries) => Some(Self { at: node.at, report, entries, what }),
            other => {
                report.error(node.at, format!("{what} must be a mapping, not {}", other.kind()));
                None
            }
        }
    }

    /// All keys with their values.
    pub(super) fn entries(&self) -> &'a [Entry] {
        self.entries
    }

    /// The value of a key; `null` is no value.
    pub(super) fn get(&self, key: &str) -> Option<&'a Node> {
        self.entries.iter().find(|entry| entry.key == key).map(|e| &e.node).filter(|node| node.value != Value::Null)
    }

    /// The value of a key as text.
    pub(super) fn text(&self, key: &str) -> Option<&'a str> {
        let node = self.get(key)?;
        text(node, &self.path(key), self.report)
    }

    /// The value of a key as text, which must be there and not be empty.
    pub(super) fn required(&self, key: &str) -> Option<&'a str> {
        let Some(node) = self.get(key) else {
            self.report.error(self.at, format!("{} is missing", self.path(key)));
            return None;
        };
        let text = text(node, &self.path(key), self.report)?;
        if text.is_empty() {
            self.report.error(node.at, format!("{} is empty", self.path(key)));
            return None;
        }
        Some(text)
    }

    /// The value of a key as true or false.
    pub(super) fn flag(&self, key: &str) -> Option<bool> {
        let node = self.get(key)?;
        match &node.value {
            Value::Bool(flag) => Some(*flag),
            other => {
                let message = format!("{} must be true or false, not {}", self.path(key), other.kind());
                self.report.error(node.at, message);
                None
            }
        }
    }

    /// The value of a key as a number from 1.
    pub(super) fn count(&self, key: &str) -> Option<usize> {
        let Some(node) = self.get(key) else {
            self.report.error(self.at, format!("{} is missing", self.path(key)));
            return None;
        };
        match &node.value {
            Value::Int(number) if *number > 0 => usize::try_from(*number).ok(),
            _ => {
                self.report.error(node.at, format!("{} must be a whole number from 1", self.path(key)));
                None
            }
        }
    }

    /// The value of a key as a list; empty where there is none.
    pub(super) fn list(&self, key: &str) -> &'a [Node] {
        match self.get(key).map(|node| (node, &node.value)) {
            None => &[],
            Some((_, Value::List(items))) => items,
            Some((node, other)) => {
                let message = format!("{} must be a list, not {}", self.path(key), other.kind());
                self.report.error(node.at, message);
                &[]
            }
        }
    }

    /// The value of a key as a list of texts.
    pub(super) fn texts(&self, key: &str) -> Vec<&'a str> {
        let path = self.path(key);
        self.list(key).iter().filter_map(|node| text(node, &path, self.report)).collect()
    }

    /// The value of a key as a mapping, called by its key.
    pub(super) fn map(&self, key: &'a str) -> Option<Self> {
        self.get(key).and_then(|node| Self::of(node, key, self.report))
    }

    /// Reports every key but these: an unknown key may be a check that somebody believes in.
    pub(super) fn only(&self, known: &[&str]) {
        self.entries.iter().for_each(|entry| self.known(entry, known));
    }

    /// Reports the key unless it is one of these.
    pub(super) fn known(&self, entry: &Entry, known: &[&str]) {
        if known.contains(&&*entry.key) {
            return;
        }
        let hint = match spelling::nearest(&entry.key, known) {
            Some(near) => format!("did you mean {near:?}?"),
            None => format!("known here: {}", known.join(", ")),
        };
        self.report.error_hint(entry.at, format!("unknown key {:?} in {}", entry.key, self.what), hint);
    }

    fn path(&self, key: &str) -> String {
        format!("{} of {}", key, self.what)
    }
}

/// A node as text.
pub(super) fn text<'a>(node: &'a Node, what: &str, report: Reporter<'_>) -> Option<&'a str> {
    match &node.value {
        Value::Text(text) => Some(text),
        Value::Bool(_) | Value::Int(_) | Value::Float => {
            let message = format!("{what} must be text, not {}", node.value.kind());
            report.error_hint(node.at, message, "put it in quotes");
            None
        }
        other => {
            report.error(node.at, format!("{what} must be text, not {}", other.kind()));
            None
        }
    }
}
