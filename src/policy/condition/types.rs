//! The types of values in conditions.

use std::fmt;

use super::words::WordSet;
use ValueType::{
    Any, Bool, Bytes, Double, Duration, Int, List, ListOf, Map, Null, Record, Text, Time, Type, Uint, Word, Words,
};

/// The type of a value in a condition.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ValueType {
    /// Not known until the condition is evaluated.
    Any,
    /// True or false.
    Bool,
    /// Bytes.
    Bytes,
    /// A floating-point number.
    Double,
    /// The time between two points in time.
    Duration,
    /// A signed whole number.
    Int,
    /// A list.
    List,
    /// A list whose elements have this type.
    ListOf(&'static Self),
    /// A map.
    Map,
    /// Nothing.
    Null,
    /// A map with these fields. A field may be missing when the condition is evaluated.
    Record(&'static RecordType),
    /// Text.
    Text,
    /// A point in time.
    Time,
    /// A type.
    Type,
    /// An unsigned whole number.
    Uint,
    /// One of a few texts.
    Word(&'static WordSet),
    /// A list of them, which a macro makes: `issues.map(i, i.severity)`.
    Words(&'static WordSet),
}

/// The fields of a record.
#[derive(Debug, Eq, PartialEq)]
pub struct RecordType {
    /// What a record is, for messages: `issue`.
    pub name: &'static str,
    /// The names and types of the fields.
    pub fields: &'static [(&'static str, ValueType)],
}

impl ValueType {
    /// The type without what is known about its elements or fields.
    pub(super) fn general(self) -> Self {
        match self {
            ListOf(_) | Words(_) => List,
            Record(_) => Map,
            Word(_) => Text,
            other => other,
        }
    }

    /// Whether it is a number, or may be one.
    pub(super) fn is_number(self) -> bool {
        matches!(self, Int | Uint | Double | Any)
    }

    /// The type without what is known about its words.
    pub(super) fn plain(self) -> Self {
        if let Word(_) = self { Text } else { self }
    }
}

impl fmt::Display for ValueType {
    /// The name in CEL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.general() {
            Any => "dyn",
            Bool => "bool",
            Bytes => "bytes",
            Double => "double",
            Duration => "duration",
            Int => "int",
            List => "list",
            Map => "map",
            Null => "null",
            Text => "string",
            Time => "timestamp",
            Type => "type",
            Uint => "uint",
            ListOf(_) | Record(_) | Word(_) | Words(_) => unreachable!("general types are none of these"),
        })
    }
}
