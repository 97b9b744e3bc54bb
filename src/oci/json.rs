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
/// The memory in bytes that values may take for each byte of text. An index of short descriptors with platforms takes 8.
const USUAL: usize = 8;
/// The same for documents that consist of many small objects, such as lists of packages or of tags. They take up to 18.
const DENSE: usize = 24;

/// Parses one JSON document. Rejects duplicate keys at any depth, and keys that fold to one of `known` but are not
/// equal to it. Within the objects named in `free_form` (annotations, labels) keys are data, and only duplicates are
/// rejected.
///
/// A hostile document can take 130 times the memory of its text once it is parsed: `{"":{"":0}}` takes a tree node of 632
/// bytes for each five bytes. The values may therefore take at most eight times the size of the text, plus 1 MiB.
///
/// # Errors
/// The offending key, the position of the syntax error, or the limit that is exceeded.
pub fn parse(bytes: &[u8], known: &[&str], free_form: &[&str]) -> Result<Value, InvalidJson> {
    Strict { known, free_form, ..Strict::new(&Budget::new(bytes, USUAL)) }.parse(bytes)
}

/// Parses a document that may consist of many small objects: its values may take 24 times the size of the text, plus
/// 1 MiB, but at most `most` bytes. Not for documents that anybody can write.
///
/// # Errors
/// The same as [`parse`].
pub fn parse_dense(bytes: &[u8], known: &[&str], free_form: &[&str], most: usize) -> Result<Value, InvalidJson> {
    let budget = Budget::new(bytes, DENSE);
    let budget = Budget { limit: budget.limit.min(most), ..budget };
    Strict { known, free_form, ..Strict::new(&budget) }.parse(bytes)
}

/// Parses a document as strictly as [`parse`], but keeps only the members of the outermost object that are named in
/// `wanted`. The others are checked and take no memory.
///
/// # Errors
/// The same as [`parse`].
pub fn parse_members(bytes: &[u8], known: &[&str], free_form: &[&str], wanted: &[&str]) -> Result<Value, InvalidJson> {
    let budget = Budget::new(bytes, USUAL);
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

/// The same as [`each_member`] for bytes that begin with a JSON object. What follows the object is ignored.
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

/// What one document may still take. It is charged before memory is allocated.
struct Budget {
    /// The number of values so far.
    values: Cell<usize>,
    /// The estimated memory of the values so far, in bytes.
    memory: Cell<usize>,
    /// The memory that they may take, in bytes.
    limit: usize,
}

impl Budget {
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
    budget: &'a Budget,
}

impl<'a> Strict<'a> {
    fn new(budget: &'a Budget) -> Self {
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
            Some(known) => Err(format!("key {key:?} is read as {known:?} by some clients but not by others")),
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
pub(super) fn folds_to(key: &str, known: &str) -> bool {
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
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Value, String> {
        parse(text.as_bytes(), &["layers", "mediaType", "size"], &["annotations"]).map_err(|e| e.to_string())
    }

    #[test]
    fn ordinary_documents_are_accepted() {
        let text = r#"{"layers":[{"size":1}],"annotations":{"Layers":"x","layers":"y"},"other":null,"f":1.5,"t":true}"#;
        assert_eq!(read(text).unwrap(), serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn ambiguous_documents_are_rejected() {
        for (text, part) in [
            (r#"{"layers":[],"layers":[]}"#, "duplicate key"),
            (r#"{"a":{"b":1,"b":1}}"#, "duplicate key"),
            (r#"{"annotations":{"x":"1","x":"2"}}"#, "duplicate key"),
            (r#"{"lay\u0065rs":[],"layers":[]}"#, "duplicate key"),
            (r#"{"Layers":[]}"#, "read as \"layers\""),
            (r#"{"x":[{"\u017fize":1}]}"#, "read as \"size\""),
            (r#"{"mediatype":""}"#, "read as \"mediaType\""),
            (r#"{} {}"#, "trailing"),
            (r#"{"a":"\ud800"}"#, "hex escape"),
            ("\u{feff}{}", "expected value"),
        ] {
            let error = read(text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        assert!(read(&"[".repeat(100_000)).is_err());
        let dense =
            |values: usize| parse_dense(format!("[{}123]", "123,".repeat(values - 2)).as_bytes(), &[], &[], usize::MAX);
        assert!(dense(MAX_VALUES).is_ok());
        assert!(dense(MAX_VALUES + 1).unwrap_err().to_string().contains("too many values"));
    }

    /// Objects in objects, which take the most memory for their text.
    fn chains(bytes: usize) -> String {
        let chain = format!("{}0{}", "{\"\":".repeat(100), "}".repeat(100));
        vec![&*chain; bytes / (chain.len() + 1)].join(",")
    }

    /// The values that were parsed before the document was refused.
    fn values_before_refusal(text: &str, per_byte: usize) -> usize {
        let budget = Budget::new(text.as_bytes(), per_byte);
        let error = Strict::new(&budget).parse(text.as_bytes()).unwrap_err().to_string();
        assert!(error.contains("too many values for its size"), "{error}");
        assert!(budget.memory.get() <= budget.limit);
        budget.values.get()
    }

    #[test]
    fn few_values_of_a_document_that_would_take_much_memory_are_parsed() {
        let four_mib = 4 << 20;
        for (junk, most) in [
            (chains(four_mib), 60_000),
            (vec![r#"{"":0}"#; four_mib / 7].join(","), 100_000),
            (vec![r#"[0]"#; four_mib / 4].join(","), 400_000),
        ] {
            let text = format!(r#"{{"schemaVersion":2,"manifests":[],"x":[{junk}]}}"#);
            let values = values_before_refusal(&text, USUAL);
            assert!(values < most, "{values}");
        }
        let values = values_before_refusal(&format!("[{}]", chains(1 << 20)), DENSE);
        assert!(values < 45_000, "{values}");
    }

    #[test]
    fn what_is_not_wanted_is_checked_and_not_kept() {
        let members = |text: &str| parse_members(text.as_bytes(), &["layers"], &["free"], &["a", "b"]);
        let text = format!(r#"{{"a":{{"c":[1]}},"x":[{}],"y":{{"a":1}}}}"#, chains(1 << 20));
        assert_eq!(members(&text).unwrap(), serde_json::json!({"a": {"c": [1]}}));
        assert_eq!(
            members(r#"{"x":{"free":{"Layers":1}},"b":[{"x":"y"}]}"#).unwrap(),
            serde_json::json!({"b": [{"x": "y"}]})
        );
        for (text, part) in [
            (r#"{"x":[{"k":1,"k":2}]}"#, "duplicate key"),
            (r#"{"x":1,"x":2}"#, "duplicate key"),
            (r#"{"x":[{"Layers":1}]}"#, "read as \"layers\""),
            (r#"{"x":1} 2"#, "trailing"),
        ] {
            let error = members(text).unwrap_err().to_string();
            assert!(error.contains(part), "{text}: {error}");
        }
        let many = format!(r#"{{"x":[{}1]}}"#, "1,".repeat(MAX_VALUES));
        assert!(members(&many).unwrap_err().to_string().contains("too many values"));
    }

    #[test]
    fn ordinary_large_documents_are_parsed() {
        let layer = format!(
            r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"sha256:{}","size":7143,"platform":{{"architecture":"ppc64le","os":"linux"}}}}"#,
            "0".repeat(64)
        );
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, vec![&*layer; 16_000].join(","));
        assert!(index.len() > 3 << 20 && index.len() <= 4 << 20, "{}", index.len());
        parse(index.as_bytes(), &["layers"], &[]).unwrap();
        let property = r#"{"name":"syft:location:0:path","value":"/var/lib/dpkg/status"}"#;
        let properties = vec![property; 33_400].join(",");
        let list = format!(r#"{{"bomFormat":"CycloneDX","components":[{properties}]}}"#);
        let dense = |most: usize| parse_dense(list.as_bytes(), &[], &[], most);
        assert!(dense(256 << 20).is_ok(), "a signed list of packages with 100,000 values");
        assert!(dense(8 << 20).unwrap_err().to_string().contains("they take over 8192 KiB"));
        assert!(parse_members(list.as_bytes(), &[], &[], &["bomFormat"]).is_ok());
    }

    #[test]
    fn members_of_lenient_json_are_seen() {
        let keys = |text: &str| {
            let mut keys = Vec::new();
            each_member(text.as_bytes(), |key, value| keys.push(format!("{key}={}", value.get()))).map(|()| keys)
        };
        assert_eq!(keys(r#" {"a":[1,{"b":2}],"a":null} "#).unwrap(), [r#"a=[1,{"b":2}]"#, "a=null"]);
        assert_eq!(keys("{}").unwrap(), [""; 0]);
        for text in ["[1]", "1", "", "{", "{} {}", r#"{"a":}"#] {
            assert!(keys(text).is_err(), "{text}");
        }
        let mut first = Vec::new();
        each_member_of_first(br#"{"a":1} trailing"#, |key, _| first.push(key.to_owned())).unwrap();
        assert_eq!(first, ["a"]);
    }
}
