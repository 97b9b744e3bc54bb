//! Line and column of every key, from a second reading that keeps positions.

use std::collections::BTreeMap;

use saphyr_parser::{Event, Parser};
use toml_edit::{Document, Item, TableLike, Value};

/// The keys of a TOML file. A file that does not parse has none; its error says the place itself.
pub(super) fn toml(text: &str) -> BTreeMap<String, (usize, usize)> {
    let mut places = BTreeMap::new();
    if let Ok(document) = Document::parse(text) {
        toml_table(document.as_table(), "", text, &mut places);
    }
    places
}

fn toml_table(table: &dyn TableLike, path: &str, text: &str, places: &mut BTreeMap<String, (usize, usize)>) {
    for (name, item) in table.iter() {
        let path = join(path, name);
        let span = table.key(name).and_then(toml_edit::Key::span).or_else(|| item.span());
        if let Some(span) = span {
            places.insert(path.clone(), position(text, span.start));
        }
        match item {
            Item::Table(inner) => toml_table(inner, &path, text, places),
            Item::Value(Value::InlineTable(inner)) => toml_table(inner, &path, text, places),
            Item::ArrayOfTables(items) => {
                for (index, inner) in items.iter().enumerate() {
                    let path = format!("{path}[{index}]");
                    if let Some(span) = inner.span() {
                        places.insert(path.clone(), position(text, span.start));
                    }
                    toml_table(inner, &path, text, places);
                }
            }
            _ => {}
        }
    }
}

/// The keys of a YAML file.
pub(super) fn yaml(text: &str) -> BTreeMap<String, (usize, usize)> {
    let mut places = BTreeMap::new();
    // For each open collection: its path, and for a mapping the key that waits for its value, for a list its length.
    let mut open: Vec<Collection> = Vec::new();
    for parsed in Parser::new_from_str(text) {
        let Ok((event, span)) = parsed else { break };
        match event {
            Event::Scalar(value, ..) => match open.last_mut() {
                Some(Collection::Mapping { path, key: key @ None }) => {
                    places.insert(join(path, &value), (span.start.line(), span.start.col() + 1));
                    *key = Some(value.into_owned());
                }
                Some(collection) => collection.next(),
                None => {}
            },
            Event::MappingStart(..) => {
                let path = open.last().map(Collection::path_of_value).unwrap_or_default();
                open.push(Collection::Mapping { path, key: None });
            }
            Event::SequenceStart(..) => {
                let path = open.last().map(Collection::path_of_value).unwrap_or_default();
                open.push(Collection::List { path, index: 0 });
            }
            Event::MappingEnd | Event::SequenceEnd => {
                open.pop();
                if let Some(collection) = open.last_mut() {
                    collection.next();
                }
            }
            Event::Alias(_) => {
                if let Some(collection) = open.last_mut() {
                    collection.next();
                }
            }
            _ => {}
        }
    }
    places
}

enum Collection {
    List { path: String, index: usize },
    Mapping { path: String, key: Option<String> },
}

impl Collection {
    fn path_of_value(&self) -> String {
        match self {
            Self::List { path, index } => format!("{path}[{index}]"),
            Self::Mapping { path, key } => join(path, key.as_deref().unwrap_or_default()),
        }
    }

    /// The value is read.
    fn next(&mut self) {
        match self {
            Self::List { index, .. } => *index += 1,
            Self::Mapping { key, .. } => *key = None,
        }
    }
}

fn join(path: &str, name: &str) -> String {
    if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") }
}

fn position(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..offset.min(text.len())];
    let line = before.matches('\n').count() + 1;
    (line, before.len() - before.rfind('\n').map_or(0, |at| at + 1) + 1)
}
