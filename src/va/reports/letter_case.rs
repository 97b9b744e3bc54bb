//! Keys that differ from a known one only in case. The tools that write these formats are written in Go, whose reader takes such
//! keys for the known ones. So what they say must not be left out here.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::document::InvalidReport;

/// The keys of an object, and those of each element of a list in it.
#[derive(Clone, Copy)]
pub(super) struct KnownKeys {
    /// The keys of the object.
    pub(super) keys: &'static [&'static str],
    /// The key of a list of objects, and their keys.
    pub(super) list: Option<(&'static str, &'static [&'static str])>,
}

impl KnownKeys {
    /// Checks the keys of a JSON document.
    ///
    /// # Errors
    /// If one differs from a known key only in case, or the text is not JSON.
    pub(super) fn check(self, bytes: &[u8]) -> Result<(), InvalidReport> {
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        self.deserialize(&mut reader).map_err(|error| InvalidReport::new(error.to_string()))
    }
}

impl<'de> DeserializeSeed<'de> for KnownKeys {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// An object, or a list of objects. Anything else has no keys.
impl<'de> Visitor<'de> for KnownKeys {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            let same = self.keys.iter().find(|known| known.eq_ignore_ascii_case(&key) && **known != key);
            if let Some(known) = same {
                return Err(A::Error::custom(format!("the key {key:?} differs from {known:?} in case")));
            }
            match self.list.filter(|(list, _)| *list == key) {
                Some((_, keys)) => map.next_value_seed(Self { keys, list: None })?,
                None => _ = map.next_value::<IgnoredAny>()?,
            }
        }
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        while list.next_element_seed(self)?.is_some() {}
        Ok(())
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }
}
