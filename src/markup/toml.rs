//! TOML, parsed by toml_edit, which keeps the position of every key and value.

use std::ops::Range;

use toml_edit::{Document, Item, TableLike, Value as TomlValue};

use super::MAX_FILE;
use super::problem::Problems;
use super::tree::{FileId, Member, Node, Place, Value};

/// Reads a TOML file. `None` after a problem was reported: toml_edit stops at the first error.
pub fn read_toml(text: &str, file: FileId, problems: &Problems) -> Option<Node> {
    if text.len() > MAX_FILE {
        problems.error(Place::whole(file), format!("larger than {MAX_FILE} bytes"));
        return None;
    }
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let places = Places { text, file, lines: text.match_indices('\n').map(|(at, _)| at + 1).collect() };
    match Document::parse(text) {
        Ok(document) => Some(Node { at: Place::at(file, 1, 1), value: places.table(document.as_table()) }),
        Err(error) => {
            let place = error.span().map_or(Place::whole(file), |span| places.place(&span));
            let message = error.message().replace('\n', ", ");
            // toml_edit gives only the place of such a key.
            let key =
                error.span().filter(|_| message == "duplicate key").and_then(|span| text.get(span)?.lines().next());
            let key = key.map(|key| format!(" {key}")).unwrap_or_default();
            problems.error(place, format!("not TOML: {message}{key}"));
            None
        }
    }
}

struct Places<'a> {
    text: &'a str,
    file: FileId,
    /// Where each line but the first begins, in bytes.
    lines: Vec<usize>,
}

impl Places<'_> {
    fn place(&self, span: &Range<usize>) -> Place {
        let offset = span.start.min(self.text.len());
        let line = self.lines.partition_point(|begin| *begin <= offset);
        let begin = line.checked_sub(1).map_or(0, |before| self.lines[before]);
        let column = self.text.get(begin..offset).map_or(0, |before| before.chars().count());
        Place::at(self.file, line + 1, column + 1)
    }

    fn table(&self, table: &dyn TableLike) -> Value {
        let member = |(key, item): (&str, &Item)| {
            let span = table.key(key).and_then(toml_edit::Key::span).or_else(|| item.span());
            let at = span.map_or(Place::whole(self.file), |span| self.place(&span));
            Some(Member { key: key.to_owned(), at, merge: None, node: self.item(item, at)? })
        };
        Value::Map(table.iter().filter_map(member).collect())
    }

    /// `key` is the place of the item's key.
    fn item(&self, item: &Item, key: Place) -> Option<Node> {
        match item {
            Item::None => None,
            Item::Table(table) => Some(Node { at: key, value: self.table(table) }),
            Item::ArrayOfTables(tables) => {
                let table = |table: &toml_edit::Table| {
                    let at = table.span().map_or(key, |span| self.place(&span));
                    Node { at, value: self.table(table) }
                };
                Some(Node { at: key, value: Value::List(tables.iter().map(table).collect()) })
            }
            Item::Value(value) => Some(self.value(value, key)),
        }
    }

    fn value(&self, value: &TomlValue, outer: Place) -> Node {
        let at = value.span().map_or(outer, |span| self.place(&span));
        let value = match value {
            TomlValue::Boolean(flag) => Value::Bool(*flag.value()),
            TomlValue::Integer(number) => Value::Int(*number.value()),
            TomlValue::Float(number) => Value::Float(*number.value()),
            TomlValue::String(text) => Value::Text(text.value().clone()),
            TomlValue::Datetime(time) => Value::Text(time.value().to_string()),
            TomlValue::Array(items) => Value::List(items.iter().map(|item| self.value(item, at)).collect()),
            TomlValue::InlineTable(table) => self.table(table),
        };
        Node { at, value }
    }
}

#[cfg(test)]
mod tests {
    use super::super::read_yaml;
    use super::*;

    fn read(text: &str) -> (Option<Node>, Vec<String>) {
        let problems = Problems::default();
        let node = read_toml(text, problems.file("t.toml"), &problems);
        (node, problems.into_sorted().iter().map(ToString::to_string).collect())
    }

    /// A value without its places.
    fn bare(node: &Node) -> String {
        match &node.value {
            Value::List(items) => format!("[{}]", items.iter().map(bare).collect::<Vec<_>>().join(", ")),
            Value::Map(members) => {
                let members: Vec<_> = members.iter().map(|m| format!("{}: {}", m.key, bare(&m.node))).collect();
                format!("{{{}}}", members.join(", "))
            }
            other => format!("{other:?}"),
        }
    }

    #[test]
    fn toml_and_yaml_give_the_same_tree() {
        let toml = "a = 1\nb = [true, \"x\"]\n[c]\nd.e = 1.5\n[[f]]\ng = {h = \"i\"}\n[[f]]\n";
        let yaml = "{a: 1, b: [true, x], c: {d: {e: 1.5}}, f: [{g: {h: i}}, {}]}";
        let problems = Problems::default();
        let yaml = read_yaml(yaml, problems.file("t.yaml"), &problems);
        assert_eq!(bare(&read(toml).0.unwrap()), bare(&yaml[0]));
    }

    #[test]
    fn places_of_keys_and_values() {
        let (node, _) = read("\"ä\" = 'ö'\n  [b]\nc = {d = 1}\n[[e]]\nf = [\n  2,\n]\n");
        let node = node.unwrap();
        let member = |node: &Node, key: &str| node.members().iter().find(|m| m.key == key).unwrap().clone();
        let at = |place: Place| (place.line, place.column);
        assert_eq!((at(member(&node, "ä").at), at(member(&node, "ä").node.at)), ((1, 1), (1, 7)));
        let b = member(&node, "b");
        assert_eq!((at(b.at), at(b.node.at)), ((2, 4), (2, 4)));
        assert_eq!(at(member(&member(&b.node, "c").node, "d").at), (3, 6));
        let Value::List(tables) = member(&node, "e").node.value else { panic!() };
        assert_eq!(at(tables[0].at), (4, 1));
        let Value::List(items) = member(&tables[0], "f").node.value else { panic!() };
        assert_eq!(at(items[0].at), (6, 3));
    }

    #[test]
    fn errors_have_their_place() {
        for (text, expected) in [
            ("abc = 1\nabc = 2\n", "t.toml:2:1: error: not TOML: duplicate key abc"),
            ("a = 1\n[b\n", "t.toml:2:3: error: not TOML: "),
            ("a = ", "t.toml:1:5: error: not TOML: "),
        ] {
            let (node, problems) = read(text);
            assert!(node.is_none() && problems.len() == 1 && problems[0].starts_with(expected), "{text}: {problems:?}");
        }
        assert!(read(&"#".repeat(MAX_FILE + 1)).1[0].contains("larger than"));
        assert!(read(&format!("a = {}", "[".repeat(10_000))).0.is_none(), "nested without a bound");
    }
}
