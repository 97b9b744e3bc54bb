//! YAML as the Kubernetes API reads it, with the position of every value.
//!
//! The events come from saphyr-parser; the tree, the limits and the meaning of plain scalars are here. Nothing is read
//! loosely: a key may stand once, an alias must be finished and small, and no explicit tag changes what is meant. JSON
//! is YAML too.

mod scalar;

use std::collections::{HashMap, HashSet};

use saphyr_parser::{Event, Marker, Parser, ScanError, Span, StrInput, Tag};

/// The largest document file, in bytes.
pub(super) const MAX_FILE: usize = 1024 * 1024;

/// The deepest nesting of lists and mappings.
const MAX_DEPTH: usize = 64;

/// How much the anchors and aliases of one file may copy, in bytes; each value counts for at least 64.
const MAX_EXPANSION: usize = 4 * 1024 * 1024;

/// A place in a file.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Position {
    /// From 1; 0 where there is no place.
    pub(super) line: usize,
    /// In characters, from 1.
    pub(super) column: usize,
}

impl From<Marker> for Position {
    fn from(marker: Marker) -> Self {
        Self { line: marker.line(), column: marker.col() + 1 }
    }
}

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Node {
    pub(super) at: Position,
    pub(super) value: Value,
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Value {
    Null,
    Bool(bool),
    Int(i64),
    /// A number that is no 64-bit integer.
    Float,
    Text(String),
    List(Vec<Node>),
    Map(Vec<Entry>),
}

impl Value {
    /// For messages.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Int(_) | Self::Float => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

/// A key of a mapping with its value.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Entry {
    pub(super) key: String,
    pub(super) at: Position,
    /// Whether the key is the plain `<<`, which parsers read differently.
    pub(super) merge: bool,
    pub(super) node: Node,
}

impl Node {
    /// The value of a key, where this is a mapping that has it.
    pub(super) fn find(&self, key: &str) -> Option<&Self> {
        self.entries().iter().find(|entry| entry.key == key).map(|entry| &entry.node)
    }

    /// The text, where it is one.
    pub(super) fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The entries; none where this is no mapping.
    pub(super) fn entries(&self) -> &[Entry] {
        match &self.value {
            Value::Map(entries) => entries,
            _ => &[],
        }
    }

    /// The first merge key anywhere inside.
    pub(super) fn merge_key(&self) -> Option<Position> {
        match &self.value {
            Value::List(items) => items.iter().find_map(Self::merge_key),
            Value::Map(entries) => entries.iter().find_map(|e| if e.merge { Some(e.at) } else { e.node.merge_key() }),
            _ => None,
        }
    }

    fn weight(&self) -> usize {
        64 + match &self.value {
            Value::Text(text) => text.len(),
            Value::List(items) => items.iter().map(Self::weight).sum(),
            Value::Map(entries) => entries.iter().map(|entry| entry.key.len() + entry.node.weight()).sum(),
            _ => 0,
        }
    }
}

/// What is wrong with a file's YAML.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fault {
    pub(super) at: Position,
    pub(super) message: String,
}

impl Fault {
    fn new(at: impl Into<Position>, message: impl Into<String>) -> Self {
        Self { at: at.into(), message: message.into() }
    }
}

impl From<ScanError> for Fault {
    fn from(error: ScanError) -> Self {
        Self::new(*error.marker(), format!("not YAML: {}", error.info()))
    }
}

/// The documents of a file, empty ones left out, and all that is wrong. After a syntax error, what stands before it.
pub(super) fn parse(text: &str) -> (Vec<Node>, Vec<Fault>) {
    if text.len() > MAX_FILE {
        return (Vec::new(), vec![Fault::new(Position::default(), format!("larger than {MAX_FILE} bytes"))]);
    }
    let mut builder = Builder {
        parser: Parser::new_from_str(text.strip_prefix('\u{feff}').unwrap_or(text)),
        anchors: HashMap::new(),
        expanded: 0,
        faults: Vec::new(),
    };
    let mut documents = Vec::new();
    if let Err(fault) = builder.documents(&mut documents) {
        builder.faults.push(fault);
    }
    (documents, builder.faults)
}

struct Builder<'a> {
    parser: Parser<'a, StrInput<'a>>,
    /// Finished values by the parser's anchor number, which begins at 1.
    anchors: HashMap<usize, Node>,
    expanded: usize,
    /// What does not end the reading.
    faults: Vec<Fault>,
}

impl<'a> Builder<'a> {
    fn documents(&mut self, documents: &mut Vec<Node>) -> Result<(), Fault> {
        while let Some(next) = self.parser.next_event() {
            match next? {
                (Event::StreamStart | Event::DocumentEnd | Event::Nothing, _) => {}
                (Event::StreamEnd, _) => break,
                (Event::DocumentStart(_), _) => self.anchors.clear(),
                (event, span) => {
                    let root = self.node(event, span, 0)?;
                    if root.value != Value::Null {
                        documents.push(root);
                    }
                }
            }
        }
        Ok(())
    }

    fn next(&mut self) -> Result<(Event<'a>, Span), Fault> {
        match self.parser.next_event() {
            Some(next) => Ok(next?),
            None => Err(Fault::new(Position::default(), "not YAML: it ends within a value")),
        }
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, Fault> {
        let at = Position::from(span.start);
        if depth > MAX_DEPTH {
            return Err(Fault::new(at, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let (value, anchor) = match event {
            Event::Alias(anchor) => return self.alias(anchor, at),
            Event::Scalar(text, style, anchor, tag) => {
                (scalar::resolve(text, style, tag.as_deref()).map_err(|why| Fault::new(at, why))?, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                check_tag(tag.as_deref(), "seq", at)?;
                (self.list(depth)?, anchor)
            }
            Event::MappingStart(anchor, tag) => {
                check_tag(tag.as_deref(), "map", at)?;
                (self.map(depth)?, anchor)
            }
            _ => return Err(Fault::new(at, "not YAML: a value is missing")),
        };
        let node = Node { at, value };
        if anchor > 0 {
            self.charge(&node, at)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Value, Fault> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, Fault> {
        let mut entries: Vec<Entry> = Vec::new();
        let mut seen = HashSet::new();
        loop {
            let (key, at, merge) = match self.next()? {
                (Event::MappingEnd, _) => return Ok(Value::Map(entries)),
                (Event::Scalar(text, style, 0, None), span) => {
                    let merge = text == "<<" && style == saphyr_parser::ScalarStyle::Plain;
                    (text.into_owned(), Position::from(span.start), merge)
                }
                (_, span) => return Err(Fault::new(span.start, "a key must be plain text")),
            };
            if !seen.insert(key.clone()) {
                self.faults.push(Fault::new(at, format!("key {key:?} stands twice")));
            }
            let (event, span) = self.next()?;
            let node = self.node(event, span, depth + 1)?;
            entries.push(Entry { key, at, merge, node });
        }
    }

    /// A copy of what the anchor names, at the place of the alias.
    fn alias(&mut self, anchor: usize, at: Position) -> Result<Node, Fault> {
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            return Err(Fault::new(at, "an alias to something that is not finished, or of another document"));
        };
        self.charge(&node, at)?;
        Ok(Node { at, ..node })
    }

    fn charge(&mut self, node: &Node, at: Position) -> Result<(), Fault> {
        self.expanded += node.weight();
        if self.expanded > MAX_EXPANSION {
            return Err(Fault::new(at, "aliases expand to too much"));
        }
        Ok(())
    }
}

/// No tag, or the one that says what is there anyway.
fn check_tag(tag: Option<&Tag>, expected: &str, at: Position) -> Result<(), Fault> {
    match tag {
        Some(tag) if !(tag.is_yaml_core_schema() && tag.suffix == expected) => {
            Err(Fault::new(at, format!("tag {tag} is not supported")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
