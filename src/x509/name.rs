//! Distinguished names as text (RFC 4514) and in certificates, reduced to what can be compared without doubt.

use std::collections::BTreeMap;
use std::fmt;

use der::asn1::{Ia5StringRef, PrintableStringRef, Utf8StringRef};
use der::oid::ObjectIdentifier;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::name::Name;

/// The attributes that can be compared, in the order in which they are written: the names of RFC 4514, section 3, and
/// those that Go's `crypto/x509/pkix` adds.
const ATTRIBUTES: [(&str, &str); 9] = [
    ("C", "2.5.4.6"),
    ("ST", "2.5.4.8"),
    ("L", "2.5.4.7"),
    ("STREET", "2.5.4.9"),
    ("POSTALCODE", "2.5.4.17"),
    ("O", "2.5.4.10"),
    ("OU", "2.5.4.11"),
    ("CN", "2.5.4.3"),
    ("SERIALNUMBER", "2.5.4.5"),
];

/// The characters that a value contains only after a backslash (RFC 4514, section 2.4).
const SPECIAL: &[char] = &['"', '+', ',', ';', '<', '>', '\\'];

/// A distinguished name in which every attribute occurs once. The order of its attributes has no meaning.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct DistinguishedName {
    /// The values, by the attribute's index in [`ATTRIBUTES`].
    values: BTreeMap<usize, String>,
}

/// Why a distinguished name cannot be compared.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum InvalidDistinguishedName {
    /// An attribute occurs twice.
    #[error("it has the attribute {0} more than once")]
    Duplicate(&'static str),
    /// An attribute has no value.
    #[error("its attribute {0} is empty")]
    Empty(&'static str),
    /// A backslash is not followed by a special character or two hexadecimal digits that make UTF-8.
    #[error("a backslash must be followed by a special character or by the hexadecimal digits of UTF-8")]
    Escape,
    /// Something that is not an attribute with a value.
    #[error("{0:?} is not ATTRIBUTE=VALUE")]
    Malformed(String),
    /// Several attributes in one part.
    #[error("it joins attributes with +, which is not supported")]
    MultiValued,
    /// A special character without a backslash.
    #[error("write a backslash before {0:?}")]
    Unescaped(char),
    /// An attribute that cannot be compared.
    #[error("its attribute {0} is not one of {names}", names = names())]
    Unknown(String),
    /// A value that is not text.
    #[error("the value of its attribute {0} is not text")]
    Value(&'static str),
}

fn names() -> String {
    ATTRIBUTES.map(|(name, _)| name).join(", ")
}

impl DistinguishedName {
    /// Reads a name as text: `C=US, ST=WA, O=Acme\, Inc.`. `S` is another name of `ST`.
    ///
    /// # Errors
    /// See [`InvalidDistinguishedName`].
    pub fn parse(text: &str) -> Result<Self, InvalidDistinguishedName> {
        let mut name = Self::default();
        for part in split(text) {
            let malformed = || InvalidDistinguishedName::Malformed(part.chars().take(60).collect());
            let (attribute, value) = part.split_once('=').ok_or_else(malformed)?;
            let attribute = match attribute.trim() {
                "" => return Err(malformed()),
                "S" => "ST",
                other => other,
            };
            let found = ATTRIBUTES.iter().position(|(known, _)| *known == attribute);
            let unknown = || InvalidDistinguishedName::Unknown(attribute.chars().take(60).collect());
            name.add(found.ok_or_else(unknown)?, unescape(value)?)?;
        }
        Ok(name)
    }

    /// Reads the name of a certificate.
    ///
    /// # Errors
    /// It has attributes that cannot be compared.
    pub fn of(name: &Name) -> Result<Self, InvalidDistinguishedName> {
        let mut read = Self::default();
        for part in &name.0 {
            let [attribute] = part.0.as_slice() else { return Err(InvalidDistinguishedName::MultiValued) };
            let is_attribute = |oid: &str| ObjectIdentifier::new(oid).is_ok_and(|oid| oid == attribute.oid);
            let found = ATTRIBUTES.iter().position(|(_, oid)| is_attribute(oid));
            let index = found.ok_or_else(|| InvalidDistinguishedName::Unknown(attribute.oid.to_string()))?;
            let value = text_of(attribute).ok_or(InvalidDistinguishedName::Value(ATTRIBUTES[index].0))?;
            read.add(index, value)?;
        }
        Ok(read)
    }

    fn add(&mut self, index: usize, value: String) -> Result<(), InvalidDistinguishedName> {
        let name = ATTRIBUTES[index].0;
        if value.is_empty() {
            return Err(InvalidDistinguishedName::Empty(name));
        }
        match self.values.insert(index, value) {
            None => Ok(()),
            Some(_) => Err(InvalidDistinguishedName::Duplicate(name)),
        }
    }

    /// Whether it has an attribute.
    pub fn has(&self, attribute: &str) -> bool {
        self.values.keys().any(|index| ATTRIBUTES[*index].0 == attribute)
    }

    /// Whether every attribute of the other name is in this one, with the same value.
    pub fn includes(&self, other: &Self) -> bool {
        other.values.iter().all(|(index, value)| self.values.get(index) == Some(value))
    }
}

/// Writes the name as [`DistinguishedName::parse`] reads it: `C=US,ST=WA,O=Acme\, Inc.`.
impl fmt::Display for DistinguishedName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, (index, value)) in self.values.iter().enumerate() {
            let comma = if place > 0 { "," } else { "" };
            write!(f, "{comma}{}={}", ATTRIBUTES[*index].0, escape(value))?;
        }
        Ok(())
    }
}

/// The parts between commas that have no backslash before them.
fn split(text: &str) -> Vec<&str> {
    let (mut parts, mut begin, mut escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        if c == ',' && !escaped {
            parts.push(&text[begin..at]);
            begin = at + 1;
        }
        escaped = c == '\\' && !escaped;
    }
    parts.push(&text[begin..]);
    parts
}

/// A value without its backslashes, and without the spaces around it that have none.
fn unescape(text: &str) -> Result<String, InvalidDistinguishedName> {
    let text = text.trim_start_matches(' ');
    // A value in hexadecimal form is not text.
    if text.starts_with('#') {
        return Err(InvalidDistinguishedName::Unescaped('#'));
    }
    let (mut bytes, mut kept) = (Vec::new(), 0);
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => {
                unescape_one(&mut chars, &mut bytes)?;
                kept = bytes.len();
            }
            '+' => return Err(InvalidDistinguishedName::MultiValued),
            c if SPECIAL.contains(&c) => return Err(InvalidDistinguishedName::Unescaped(c)),
            c => {
                bytes.extend(c.encode_utf8(&mut [0; 4]).as_bytes());
                kept = if c == ' ' { kept } else { bytes.len() };
            }
        }
    }
    bytes.truncate(kept);
    String::from_utf8(bytes).map_err(|_| InvalidDistinguishedName::Escape)
}

fn unescape_one(chars: &mut std::str::Chars<'_>, bytes: &mut Vec<u8>) -> Result<(), InvalidDistinguishedName> {
    let escape = || InvalidDistinguishedName::Escape;
    let first = chars.next().ok_or_else(escape)?;
    if SPECIAL.contains(&first) || matches!(first, ' ' | '#' | '=') {
        bytes.push(u8::try_from(first).map_err(|_| escape())?);
        return Ok(());
    }
    let digit = |c: char| c.to_digit(16).and_then(|digit| u8::try_from(digit).ok()).ok_or_else(escape);
    let second = chars.next().ok_or_else(escape)?;
    bytes.push(digit(first)? << 4 | digit(second)?);
    Ok(())
}

fn escape(value: &str) -> String {
    let last = value.chars().count().saturating_sub(1);
    let mut text = String::with_capacity(value.len());
    for (place, c) in value.chars().enumerate() {
        let at_end = c == ' ' && (place == 0 || place == last);
        if at_end || SPECIAL.contains(&c) || (place == 0 && c == '#') {
            text.push('\\');
        }
        text.push(c);
    }
    text
}

fn text_of(attribute: &AttributeTypeAndValue) -> Option<String> {
    let value = &attribute.value;
    let utf8 = || value.decode_as::<Utf8StringRef<'_>>().ok().map(|text| text.as_str().to_owned());
    let printable = || value.decode_as::<PrintableStringRef<'_>>().ok().map(|text| text.as_str().to_owned());
    let ia5 = || value.decode_as::<Ia5StringRef<'_>>().ok().map(|text| text.as_str().to_owned());
    utf8().or_else(printable).or_else(ia5)
}

#[cfg(test)]
mod tests;
