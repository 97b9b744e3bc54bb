//! JSON as Go reads it.

use super::*;

/// JSON as seen by Go: all members of an object, in order, including duplicates.
#[derive(Clone, Debug)]
pub(super) enum Go {
    Array(Vec<Self>),
    Null,
    /// A number that fits an `int64`, if it does.
    Number(Option<i64>),
    Object(Vec<(String, Self)>),
    Other,
    Text(String),
}

impl<'de> Deserialize<'de> for Go {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(GoVisitor)
    }
}

struct GoVisitor;

impl<'de> Visitor<'de> for GoVisitor {
    type Value = Go;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Go, E> {
        Ok(Go::Null)
    }

    fn visit_bool<E>(self, _: bool) -> Result<Go, E> {
        Ok(Go::Other)
    }

    fn visit_i64<E>(self, n: i64) -> Result<Go, E> {
        Ok(Go::Number(Some(n)))
    }

    fn visit_u64<E>(self, n: u64) -> Result<Go, E> {
        Ok(Go::Number(i64::try_from(n).ok()))
    }

    fn visit_f64<E>(self, _: f64) -> Result<Go, E> {
        Ok(Go::Number(None))
    }

    fn visit_str<E>(self, text: &str) -> Result<Go, E> {
        Ok(Go::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Go, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Go::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Go, A::Error> {
        let mut pairs = Vec::new();
        while let Some(pair) = map.next_entry()? {
            pairs.push(pair);
        }
        Ok(Go::Object(pairs))
    }
}

impl Go {
    /// The field as encoding/json fills it: keys fold, and the last value that is not null wins.
    pub(super) fn field(&self, name: &str) -> Option<&Self> {
        let Self::Object(pairs) = self else { return None };
        let fold = |text: &str| text.replace('\u{17f}', "s").replace('\u{212a}', "k").to_lowercase();
        pairs
            .iter()
            .rev()
            .find(|(key, value)| fold(key) == fold(name) && !matches!(value, Self::Null))
            .map(|(_, value)| value)
    }

    pub(super) fn digest(&self) -> Option<&str> {
        match self.field("digest") {
            Some(Self::Text(text)) => Some(text),
            _ => None,
        }
    }

    pub(super) fn size(&self) -> Option<i64> {
        match self.field("size") {
            Some(Self::Number(n)) => *n,
            _ => None,
        }
    }

    pub(super) fn list(&self, name: &str) -> Vec<(Option<&str>, Option<i64>)> {
        match self.field(name) {
            Some(Self::Array(items)) => items.iter().map(|item| (item.digest(), item.size())).collect(),
            _ => Vec::new(),
        }
    }
}
