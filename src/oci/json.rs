//! Strict JSON: every accepted document means the same to every client.
//!
//! Go's `encoding/json`, which most clients use, takes the last of duplicate keys and matches keys after Unicode case
//! folding. There, `"Layers"` after `"layers"` overrides it; elsewhere it is a different key. A document that two
//! parsers could interpret differently is refused.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

/// The maximum number of values in one document. A value can take a hundred times as much memory as its text.
const MAX_VALUES: usize = 500_000;

/// Parses one JSON document. Rejects duplicate keys at any depth, and keys that fold to one of `known` but are not
/// equal to it. Within the objects named in `free_form` (annotations, labels) keys are data, and only duplicates are
/// rejected.
///
/// # Errors
/// The offending key, or the position of the syntax error.
pub fn parse(bytes: &[u8], known: &[&str], free_form: &[&str]) -> Result<Value, InvalidJson> {
    let mut deserializer = serde_json::Deserializer::from_slice(bytes);
    let strict = Strict { known, free_form, fold: true, values: &Cell::new(0) };
    let value = strict.deserialize(&mut deserializer).map_err(|e| InvalidJson(e.to_string()))?;
    deserializer.end().map_err(|e| InvalidJson(e.to_string()))?;
    Ok(value)
}

/// Why a document is not acceptable JSON.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidJson(String);

#[derive(Clone, Copy)]
struct Strict<'a> {
    known: &'a [&'a str],
    free_form: &'a [&'a str],
    /// Whether the keys of this object are field names, which Go folds, or data.
    fold: bool,
    /// The number of values parsed so far.
    values: &'a Cell<usize>,
}

impl Strict<'_> {
    fn check_key(&self, key: &str) -> Result<(), String> {
        match self.known.iter().find(|known| self.fold && **known != key && folds_to(key, known)) {
            Some(known) => Err(format!("key {key:?} is read as {known:?} by some clients but not by others")),
            None => Ok(()),
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
        self.values.set(self.values.get() + 1);
        if self.values.get() > MAX_VALUES {
            return Err(serde::de::Error::custom("the document has too many values"));
        }
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

    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("not a finite number"))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut access: A) -> Result<Value, A::Error> {
        let mut map = Map::new();
        while let Some(key) = access.next_key::<String>()? {
            self.check_key(&key).map_err(serde::de::Error::custom)?;
            if map.contains_key(&key) {
                return Err(serde::de::Error::custom(format!("duplicate key {key:?}")));
            }
            let fold = self.fold && !self.free_form.contains(&&*key);
            let value = access.next_value_seed(Strict { fold, ..self })?;
            map.insert(key, value);
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
        assert!(read(&format!("[{}1]", "1,".repeat(MAX_VALUES - 2))).is_ok());
        assert!(read(&format!("[{}1]", "1,".repeat(MAX_VALUES - 1))).unwrap_err().contains("too many values"));
    }
}
