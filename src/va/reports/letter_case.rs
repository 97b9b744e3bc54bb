//! Keys that differ from a known one only in case. The tools that write these formats are written in Go, whose reader
//! takes such keys for the known ones. So what they say must not be left out here, at any depth.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::document::InvalidReport;
use crate::oci::json::folds_to;

/// The keys of an object that are read, and those of what is in it. A list of objects is like each of them.
#[derive(Debug)]
pub(super) struct KnownKeys {
    /// The keys of values in which nothing has a known key.
    pub(super) plain: &'static [&'static str],
    /// The keys of objects, and those in them.
    pub(super) objects: &'static [(&'static str, &'static Self)],
    /// The keys of maps from names to objects, and the keys of these objects. Names may have any letters.
    pub(super) maps: &'static [(&'static str, &'static Self)],
}

impl KnownKeys {
    /// An object without inner objects.
    pub(super) const fn flat(plain: &'static [&'static str]) -> Self {
        Self { plain, objects: &[], maps: &[] }
    }

    /// Checks the keys of a JSON document.
    ///
    /// # Errors
    /// If one differs from a known key only in case, or the text is not JSON.
    pub(super) fn check(&'static self, bytes: &[u8]) -> Result<(), InvalidReport> {
        let mut reader = serde_json::Deserializer::from_slice(bytes);
        let check = KeyCheck { known: self, has_names: false };
        check.deserialize(&mut reader).map_err(|error| InvalidReport::new(error.to_string()))
    }

    /// The known key for which Go's reader takes this one, if they differ.
    fn taken_for(&self, key: &str) -> Option<&'static str> {
        let nested = self.objects.iter().chain(self.maps).map(|(known, _)| *known);
        self.plain.iter().copied().chain(nested).find(|known| *known != key && folds_to(key, known))
    }
}

/// The check of one value.
#[derive(Clone, Copy)]
struct KeyCheck {
    known: &'static KnownKeys,
    /// Whether the value is a map from names to objects with the known keys, and not such an object.
    has_names: bool,
}

impl KeyCheck {
    /// The check of what this key has; `None` if nothing in it has a known key.
    fn below(self, key: &str) -> Option<Self> {
        if self.has_names {
            return Some(Self { has_names: false, ..self });
        }
        let of = |list: &'static [(&'static str, &'static KnownKeys)]| {
            list.iter().find(|(name, _)| *name == key).map(|(_, known)| *known)
        };
        let object = of(self.known.objects).map(|known| Self { known, has_names: false });
        object.or_else(|| of(self.known.maps).map(|known| Self { known, has_names: true }))
    }
}

impl<'de> DeserializeSeed<'de> for KeyCheck {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

/// An object, a map, or a list of them. Anything else has no keys.
impl<'de> Visitor<'de> for KeyCheck {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        while let Some(key) = map.next_key::<String>()? {
            if let Some(known) = self.known.taken_for(&key).filter(|_| !self.has_names) {
                return Err(A::Error::custom(format!("the key {key:?} differs from {known:?} in case")));
            }
            match self.below(&key) {
                Some(below) => map.next_value_seed(below)?,
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
