//! YAML as the Kubernetes API reads it, with the place of every value.
//!
//! saphyr-parser gives the events; the tree, the limits and the meaning of plain scalars are here. Reading is strict:
//! no key may occur twice, an alias must be complete and small, and no explicit tag changes the meaning of a value.
//! Merge keys are expanded if all parsers agree on the result. JSON is YAML too.

mod characters;
mod merge;
mod scalar;

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use saphyr_parser::{Event, Marker, Parser, ScalarStyle, ScanError, Span, Tag};

use super::MAX_FILE;
use super::problem::Problems;
use super::tree::{FileId, Member, Node, Place, Value};
use characters::Characters;

/// The deepest nesting of lists and mappings.
const MAX_DEPTH: usize = 64;

/// How much the anchors and aliases of one file may copy, in bytes; each value counts as at least 64.
const MAX_EXPANSION: usize = 4 * 1024 * 1024;

/// What to do about a template, which is not YAML yet.
const RENDER_FIRST: &str = "; if this is a template ({{ }}), render it first (helm template)";

/// Reads the YAML documents of a file, empty ones left out. Every mistake is reported; after a syntax error only the
/// documents before it are returned.
pub fn read_yaml(text: &str, file: FileId, problems: &Problems) -> Vec<Node> {
    let (documents, faults) = parse(text, file);
    faults.into_iter().for_each(|fault| problems.error(fault.at, fault.message));
    documents
}

/// What is wrong with a file's YAML.
#[derive(Clone, Debug, PartialEq)]
struct YamlFault {
    at: Place,
    message: String,
}

impl YamlFault {
    fn new(at: Place, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }
}

fn parse(text: &str, file: FileId) -> (Vec<Node>, Vec<YamlFault>) {
    if text.len() > MAX_FILE {
        return (Vec::new(), vec![YamlFault::new(Place::whole(file), format!("larger than {MAX_FILE} bytes"))]);
    }
    let mut builder = Builder {
        file,
        text,
        parser: Parser::new(Characters::new(text.strip_prefix('\u{feff}').unwrap_or(text))),
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
    file: FileId,
    /// The whole file.
    text: &'a str,
    parser: Parser<'a, Characters<'a>>,
    /// Complete values by the parser's anchor number, which begins at 1.
    anchors: HashMap<usize, Node>,
    expanded: usize,
    /// Mistakes after which reading goes on.
    faults: Vec<YamlFault>,
}

impl<'a> Builder<'a> {
    fn documents(&mut self, documents: &mut Vec<Node>) -> Result<(), YamlFault> {
        let mut is_first = true;
        while let Some(next) = self.parser.next_event() {
            match next.map_err(|error| self.syntax(&error))? {
                (Event::StreamStart | Event::DocumentEnd | Event::Nothing, _) => {}
                (Event::StreamEnd, _) => break,
                (Event::DocumentStart(false), span) if !is_first => {
                    let why = "a document after `...` must begin with `---`: kubectl skips it otherwise";
                    return Err(YamlFault::new(self.place(span.start), why));
                }
                (Event::DocumentStart(_), _) => {
                    self.anchors.clear();
                    is_first = false;
                }
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

    fn next(&mut self) -> Result<(Event<'a>, Span), YamlFault> {
        match self.parser.next_event() {
            Some(next) => next.map_err(|error| self.syntax(&error)),
            None => Err(YamlFault::new(Place::whole(self.file), "not YAML: it ends within a value")),
        }
    }

    fn syntax(&self, error: &ScanError) -> YamlFault {
        // As lines of a template begin: `{{- if .Values.x }}`.
        let is_template = self.text.lines().any(|line| line.trim_start().starts_with("{{"));
        let hint = if is_template { RENDER_FIRST } else { "" };
        YamlFault::new(self.place(*error.marker()), format!("not YAML: {}{hint}", error.info()))
    }

    fn place(&self, marker: Marker) -> Place {
        Place::at(self.file, marker.line(), marker.col() + 1)
    }

    fn node(&mut self, event: Event<'a>, span: Span, depth: usize) -> Result<Node, YamlFault> {
        let at = self.place(span.start);
        if depth > MAX_DEPTH {
            return Err(YamlFault::new(at, format!("nested deeper than {MAX_DEPTH} levels")));
        }
        let (value, anchor) = match event {
            Event::Alias(anchor) => return self.alias(anchor, at),
            Event::Scalar(text, style, anchor, tag) => {
                (scalar::resolve(text, style, tag.as_deref()).map_err(|why| YamlFault::new(at, why))?, anchor)
            }
            Event::SequenceStart(anchor, tag) => {
                check_tag(tag.as_deref(), "seq", at)?;
                (self.list(depth)?, anchor)
            }
            Event::MappingStart(anchor, tag) => {
                check_tag(tag.as_deref(), "map", at)?;
                (self.map(depth)?, anchor)
            }
            _ => return Err(YamlFault::new(at, "not YAML: a value is missing")),
        };
        let node = Node { at, value };
        if anchor > 0 {
            self.charge(&node, at)?;
            self.anchors.insert(anchor, node.clone());
        }
        Ok(node)
    }

    fn list(&mut self, depth: usize) -> Result<Value, YamlFault> {
        let mut items = Vec::new();
        loop {
            match self.next()? {
                (Event::SequenceEnd, _) => return Ok(Value::List(items)),
                (event, span) => items.push(self.node(event, span, depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: usize) -> Result<Value, YamlFault> {
        let mut members: Vec<Member> = Vec::new();
        let mut seen = HashMap::new();
        let mut merge = None;
        loop {
            let (key, at) = match self.next()? {
                (Event::MappingEnd, _) => break,
                (Event::Scalar(text, style, 0, None), span) => {
                    if text == "<<" && style == ScalarStyle::Plain {
                        merge = merge.or(Some(members.len()));
                    }
                    (text.into_owned(), self.place(span.start))
                }
                (event, span) => {
                    // What a placeholder looks like to a reader of YAML: `{{ .Values.x }}`.
                    let hint = if matches!(event, Event::MappingStart(..)) { RENDER_FIRST } else { "" };
                    return Err(YamlFault::new(self.place(span.start), format!("a key must be plain text{hint}")));
                }
            };
            match seen.entry(key.clone()) {
                Entry::Vacant(entry) => {
                    entry.insert(at);
                }
                Entry::Occupied(first) => {
                    let Place { line, column, .. } = first.get();
                    self.faults.push(YamlFault::new(at, format!("duplicate key {key:?}: also at {line}:{column}")));
                }
            }
            let (event, span) = self.next()?;
            let node = self.node(event, span, depth + 1)?;
            members.push(Member { key, at, merge: None, node });
        }
        Ok(Value::Map(match merge {
            Some(index) => merge::expand(members, index),
            None => members,
        }))
    }

    /// A copy of what the anchor names, at the place of the alias.
    fn alias(&mut self, anchor: usize, at: Place) -> Result<Node, YamlFault> {
        let Some(node) = self.anchors.get(&anchor).cloned() else {
            return Err(YamlFault::new(at, "an alias to an unfinished value or to another document"));
        };
        self.charge(&node, at)?;
        Ok(Node { at, ..node })
    }

    fn charge(&mut self, node: &Node, at: Place) -> Result<(), YamlFault> {
        self.expanded += weight(node);
        if self.expanded > MAX_EXPANSION {
            return Err(YamlFault::new(at, "aliases expand to more than 4 MiB"));
        }
        Ok(())
    }
}

/// How much a copy of the value counts, in bytes.
fn weight(node: &Node) -> usize {
    64 + match &node.value {
        Value::Text(text) => text.len(),
        Value::List(items) => items.iter().map(weight).sum(),
        Value::Map(members) => members.iter().map(|member| member.key.len() + weight(&member.node)).sum(),
        _ => 0,
    }
}

/// Accepts either no tag or the tag of the value's kind.
fn check_tag(tag: Option<&Tag>, expected: &str, at: Place) -> Result<(), YamlFault> {
    match tag {
        Some(tag) if !(tag.is_yaml_core_schema() && tag.suffix == expected) => {
            Err(YamlFault::new(at, format!("tag {tag} is not supported")))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
