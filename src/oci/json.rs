//! Strict JSON: every accepted document means the same to every client.
//!
//! Go's `encoding/json`, which most clients use, takes the last of duplicate keys and matches keys after Unicode case
//! folding. There, `"Layers"` after `"layers"` overrides it; elsewhere it is a different key. A document that two
//! parsers could interpret differently is refused.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::value::RawValue;
use serde_json::{Map, Number, Value};

/// The maximum number of values in one document, whether they are kept or only checked.
const MAX_VALUES: usize = 500_000;
/// The memory in bytes that the values of any document may take, in addition to the memory for each byte of its text.
const BASE_MEMORY: usize = 1024 * 1024;
/// The memory in bytes that values may take for each byte of text. An index of short descriptors with platforms takes
/// 8.
const USUAL: usize = 8;
/// The same for documents that consist of many small objects, such as lists of packages or of tags. They take up to 18.
const DENSE: usize = 24;

/// Parses one JSON document. Rejects duplicate keys at any depth, and keys that fold to one of `known` but are not
/// equal to it. Within the objects named in `free_form` (annotations, labels) keys are data, and only duplicates are
/// rejected.
///
/// A hostile document can take 130 times the memory of its text once it is parsed: `{"":{"":0}}` takes a tree node of
/// 632 bytes for each five bytes. The values may therefore take at most eight times the size of the text, plus 1 MiB.
///
/// # Errors
/// The offending key, the position of the syntax error, or the limit that is exceeded.
pub fn parse(bytes: &[u8], known: &[&str], free_form: &[&str]) -> Result<Value, InvalidJson> {
    Strict { known, free_form, ..Strict::new(&ValueBudget::new(bytes, USUAL)) }.parse(bytes)
}

/// Parses a document that may consist of many small objects: its values may take 24 times the size of the text, plus
/// 1 MiB, but at most `most` bytes. Not for documents that anyone can write.
///
/// # Errors
/// The same as [`parse`].
pub fn parse_dense(bytes: &[u8], known: &[&str], free_form: &[&str], most: usize) -> Result<Value, InvalidJson> {
    let budget = ValueBudget::new(bytes, DENSE);
    let budget = ValueBudget { limit: budget.limit.min(most), ..budget };
    Strict { known, free_form, ..Strict::new(&budget) }.parse(bytes)
}

/// Parses a document as strictly as [`parse`], but keeps only the members of the outermost object that are named in
/// `wanted`. The others are checked and take no memory.
///
/// # Errors
/// The same as [`parse`].
pub fn parse_members(bytes: &[u8], known: &[&str], free_form: &[&str], wanted: &[&str]) -> Result<Value, InvalidJson> {
    let budget = ValueBudget::new(bytes, USUAL);
    Strict { known, free_form, wanted: Some(wanted), ..Strict::new(&budget) }.parse(bytes)
}

/// Calls `see` with each member of a JSON object, duplicates included. It is as lenient as other parsers, and takes no
/// memory for values.
///
/// # Errors
/// The bytes are not exactly one JSON object.
pub fn each_member<'a>(bytes: &'a [u8], see: impl FnMut(&str, &'a RawValue)) -> Result<(), InvalidJson> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    deserializer.deserialize_map(Members(see))?;
    Ok(deserializer.end()?)
}

/// The same as [`each_member`] for bytes that begin with a JSON object. Bytes after the object are ignored.
///
/// # Errors
/// The bytes do not begin with a JSON object.
pub fn each_member_of_first<'a>(bytes: &'a [u8], see: impl FnMut(&str, &'a RawValue)) -> Result<(), InvalidJson> {
    Ok(serde_json::Deserializer::from_slice(bytes).deserialize_map(Members(see))?)
}

struct Members<F>(F);

impl<'de, F: FnMut(&str, &'de RawValue)> Visitor<'de> for Members<F> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(mut self, mut access: A) -> Result<(), A::Error> {
        while let Some((key, value)) = access.next_entry::<String, &'de RawValue>()? {
            (self.0)(&key, value);
        }
        Ok(())
    }
}

/// Why a document is not acceptable JSON.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidJson(String);

impl From<serde_json::Error> for InvalidJson {
    fn from(error: serde_json::Error) -> Self {
        Self(error.to_string())
    }
}

/// The remaining memory budget of one document. It is charged before memory is allocated.
struct ValueBudget {
    /// The number of values so far.
    values: Cell<usize>,
    /// The estimated memory of the values so far, in bytes.
    memory: Cell<usize>,
    /// The memory that they may take, in bytes.
    limit: usize,
}

impl ValueBudget {
    /// The memory of a node of the tree in which a map keeps up to 11 members, in bytes.
    const NODE: usize = 11 * (size_of::<String>() + size_of::<Value>()) + 16;
    /// The members that a node has at least, once a map has more than one node.
    const PER_NODE: usize = 5;
    /// An item of a list, in bytes. Half of the room of a list may be unused.
    const ITEM: usize = 2 * size_of::<Value>();
    /// The room of the shortest list, in bytes.
    const LIST: usize = 4 * size_of::<Value>();
    /// What the allocator adds to a text, in bytes.
    const TEXT: usize = 16;

    fn new(text: &[u8], per_byte: usize) -> Self {
        let limit = text.len().saturating_mul(per_byte).saturating_add(BASE_MEMORY);
        Self { values: Cell::new(0), memory: Cell::new(0), limit }
    }

    fn value<E: Error>(&self) -> Result<(), E> {
        self.values.set(self.values.get() + 1);
        if self.values.get() > MAX_VALUES {
            return Err(E::custom(format!("the document has too many values, more than {MAX_VALUES}")));
        }
        Ok(())
    }

    fn memory<E: Error>(&self, bytes: usize) -> Result<(), E> {
        let sum = self.memory.get().saturating_add(bytes);
        if sum > self.limit {
            let limit = self.limit >> 10;
            return Err(E::custom(format!(
                "the document has too many values for its size: they take over {limit} KiB"
            )));
        }
        self.memory.set(sum);
        Ok(())
    }

    fn text<E: Error>(&self, text: &str) -> Result<(), E> {
        self.memory(if text.is_empty() { 0 } else { text.len() + Self::TEXT })
    }

    /// One more item of a list that has this many.
    fn item<E: Error>(&self, items: usize) -> Result<(), E> {
        self.memory(if items == 0 { Self::LIST } else { Self::ITEM })
    }

    /// One more member of an object that has this many.
    fn member<E: Error>(&self, members: usize, key: &str) -> Result<(), E> {
        let is_new_node = members.is_multiple_of(Self::PER_NODE);
        self.memory(if is_new_node { Self::NODE } else { 0 })?;
        self.text(key)
    }
}

#[derive(Clone, Copy)]
struct Strict<'a> {
    known: &'a [&'a str],
    free_form: &'a [&'a str],
    /// Whether the keys of this object are field names, which Go folds, or data.
    fold: bool,
    /// The members of this object that are kept; `None` for all of them.
    wanted: Option<&'a [&'a str]>,
    /// Whether the value is kept. Otherwise it is checked, and null takes its place.
    keep: bool,
    budget: &'a ValueBudget,
}

impl<'a> Strict<'a> {
    fn new(budget: &'a ValueBudget) -> Self {
        Self { known: &[], free_form: &[], fold: true, wanted: None, keep: true, budget }
    }

    fn parse(self, bytes: &[u8]) -> Result<Value, InvalidJson> {
        let mut deserializer = serde_json::Deserializer::from_slice(bytes);
        let value = self.deserialize(&mut deserializer)?;
        deserializer.end()?;
        Ok(value)
    }

    fn check_key(&self, key: &str) -> Result<(), String> {
        match self.known.iter().find(|known| self.fold && **known != key && folds_to(key, known)) {
            Some(known) => Err(format!("some clients read the key {key:?} as {known:?}, and others do not")),
            None => Ok(()),
        }
    }

    /// How the value of a member is read.
    fn of_member(self, key: &str) -> Self {
        Strict {
            fold: self.fold && !self.free_form.contains(&key),
            wanted: None,
            keep: self.keep && self.wanted.is_none_or(|wanted| wanted.contains(&key)),
            ..self
        }
    }
}

/// Whether Go's simple case folding makes `key` equal to `known`, which is ASCII. Only two characters outside ASCII
/// fold into it: U+017F (ſ) to s and U+212A (K) to k.
pub(crate) fn folds_to(key: &str, known: &str) -> bool {
    let fold = |c: char| match c {
        '\u{17f}' => 's',
        '\u{212a}' => 'k',
        c => c.to_ascii_lowercase(),
    };
    key.chars().map(fold).eq(known.chars().map(fold))
}

impl<'de> DeserializeSeed<'de> for Strict<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        self.budget.value()?;
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        if !self.keep {
            return Ok(Value::Null);
        }
        self.budget.text(value)?;
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        let of_items = Strict { wanted: None, ..self };
        while let Some(item) = seq.next_element_seed(of_items)? {
            if self.keep {
                self.budget.item(items.len())?;
                items.push(item);
            }
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let before = self.budget.memory.get();
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            self.check_key(&key).map_err(Error::custom)?;
            if map.contains_key(&key) {
                return Err(Error::custom(format!("duplicate key {key:?}")));
            }
            self.budget.member(map.len(), &key)?;
            let value = access.next_value_seed(self.of_member(&key))?;
            map.insert(key, value);
        }
        if !self.keep {
            // Only the keys of objects that are still open are needed.
            self.budget.memory.set(before);
            return Ok(Value::Null);
        }
        if let Some(wanted) = self.wanted {
            map.retain(|key, _| wanted.contains(&&**key));
        }
        Ok(Value::Object(map))
    }
}

#[cfg(test)]
mod tests;
