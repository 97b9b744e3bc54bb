//! The tree that every syntax is read into.

/// A file, or another origin of text, by its number in [`Problems`](super::Problems).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct FileId(pub(super) u32);

/// A place in a file.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Place {
    /// The file.
    pub file: FileId,
    /// The line, from 1; 0 for the file as a whole.
    pub line: u32,
    /// The column in characters, from 1; 0 for the file as a whole.
    pub column: u32,
}

impl Place {
    /// The file as a whole.
    pub fn whole(file: FileId) -> Self {
        Self { file, line: 0, column: 0 }
    }

    /// A line and a column of a file; numbers beyond 32 bits are cut.
    pub(super) fn at(file: FileId, line: usize, column: usize) -> Self {
        let number = |number| u32::try_from(number).unwrap_or(u32::MAX);
        Self { file, line: number(line), column: number(column) }
    }
}

/// A value and its place.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where the value begins; for a TOML table with a header, its name.
    pub at: Place,
    /// The value.
    pub value: Value,
}

impl Node {
    /// The tree as JSON, without places.
    pub fn to_json(&self) -> serde_json::Value {
        match &self.value {
            Value::Null => serde_json::Value::Null,
            Value::Bool(flag) => (*flag).into(),
            Value::Int(number) => (*number).into(),
            Value::Float(number) => (*number).into(),
            Value::Text(text) => text.as_str().into(),
            Value::List(items) => items.iter().map(Self::to_json).collect(),
            Value::Map(members) => members.iter().map(|member| (member.key.clone(), member.node.to_json())).collect(),
        }
    }
}

/// A value.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Nothing. TOML has none.
    Null,
    /// True or false.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A number that is not a 64-bit integer.
    Float(f64),
    /// Text.
    Text(String),
    /// A list.
    List(Vec<Node>),
    /// A mapping: what TOML calls a table and JSON an object. No two members have the same key.
    Map(Vec<Member>),
}

impl Value {
    /// What the value is, for messages. Never the value itself: it may be a secret in the wrong place.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Null => "nothing",
            Self::Bool(_) => "true or false",
            Self::Int(_) | Self::Float(_) => "a number",
            Self::Text(_) => "text",
            Self::List(_) => "a list",
            Self::Map(_) => "a mapping",
        }
    }
}

/// A key of a mapping with its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Member {
    /// The key.
    pub key: String,
    /// The place of the key.
    pub at: Place,
    /// Why the key is a merge key of YAML (`<<`) that could not be expanded; `None` for every other key.
    pub merge: Option<String>,
    /// The value.
    pub node: Node,
}

impl Node {
    /// The value of a key, if this is a mapping that has it.
    pub fn find(&self, key: &str) -> Option<&Self> {
        self.members().iter().find(|member| member.key == key).map(|member| &member.node)
    }

    /// The text, if this is text.
    pub fn as_text(&self) -> Option<&str> {
        match &self.value {
            Value::Text(text) => Some(text),
            _ => None,
        }
    }

    /// The members; none unless this is a mapping.
    pub fn members(&self) -> &[Member] {
        match &self.value {
            Value::Map(members) => members,
            _ => &[],
        }
    }

    /// The first merge key anywhere inside that could not be expanded.
    pub fn merge_key(&self) -> Option<(Place, &str)> {
        match &self.value {
            Value::List(items) => items.iter().find_map(Self::merge_key),
            Value::Map(members) => members.iter().find_map(|member| match &member.merge {
                Some(why) => Some((member.at, &**why)),
                None => member.node.merge_key(),
            }),
            _ => None,
        }
    }
}
