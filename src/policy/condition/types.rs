//! The types of values in conditions.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use super::words::WordSet;
use ValueType::{
    Any, Bool, Bytes, Double, Duration, Int, List, ListOf, Map, Null, Record, Text, Time, Type, Uint, Word,
};

/// The type of a value in a condition.
#[derive(Clone, Debug, Eq, PartialEq)]
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
    /// A list whose elements have types that are not known.
    List,
    /// A list whose elements have this type.
    ListOf(ElementType),
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
}

/// The type of the elements of a list.
#[derive(Clone, Debug)]
pub enum ElementType {
    /// That of a variable or a field.
    Declared(&'static ValueType),
    /// That of a list which a condition makes: `issues.map(i, i.severity)`.
    Made(Arc<ValueType>),
}

impl Deref for ElementType {
    type Target = ValueType;

    fn deref(&self) -> &ValueType {
        match self {
            Self::Declared(element) => element,
            Self::Made(element) => element,
        }
    }
}

impl PartialEq for ElementType {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for ElementType {}

/// The fields of a record.
#[derive(Debug, Eq, PartialEq)]
pub struct RecordType {
    /// What a record is, for messages: `issue`.
    pub name: &'static str,
    /// The names and types of the fields.
    pub fields: &'static [(&'static str, ValueType)],
}

impl ValueType {
    /// The type of a variable or a field that is a list of such values.
    pub const fn list_of(element: &'static Self) -> Self {
        ListOf(ElementType::Declared(element))
    }

    /// The type of a list of such values. When a condition is evaluated, times and durations are numbers, which can be
    /// compared with other numbers, so nothing is known of them.
    pub(super) fn listed(self) -> Self {
        match self {
            Any | Duration | Time => List,
            element => ListOf(ElementType::Made(Arc::new(element))),
        }
    }

    /// The type of values of which some have one type, and some the other.
    pub(super) fn or(&self, other: &Self) -> Self {
        match (self, other) {
            (one, other) if one == other => one.clone(),
            (Text | Word(_), Text | Word(_)) => Text,
            (List | ListOf(_), List | ListOf(_)) => match (self.element(), other.element()) {
                (Some(one), Some(other)) => one.or(other).listed(),
                _ => List,
            },
            _ => Any,
        }
    }

    /// The type of the elements of a list, if it is known.
    pub(super) fn element(&self) -> Option<&Self> {
        if let ListOf(element) = self { Some(element) } else { None }
    }

    /// The words of which a text is one, or each text of a list.
    pub(super) fn words(&self) -> Option<&'static WordSet> {
        match self.element().unwrap_or(self) {
            Word(set) => Some(set),
            _ => None,
        }
    }

    /// The type without what is known about its elements or fields.
    pub(super) fn general(&self) -> Self {
        match self {
            ListOf(_) => List,
            Record(_) => Map,
            Word(_) => Text,
            other => other.clone(),
        }
    }

    /// Whether it is a number, or may be one.
    pub(super) fn is_number(&self) -> bool {
        matches!(self, Int | Uint | Double | Any)
    }

    /// Whether it is a list.
    pub(super) fn is_list(&self) -> bool {
        matches!(self, List | ListOf(_))
    }

    /// The type without what is known about its words.
    pub(super) fn plain(self) -> Self {
        if let Word(_) = self { Text } else { self }
    }
}

impl fmt::Display for ValueType {
    /// The name in CEL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Any => "dyn",
            Bool => "bool",
            Bytes => "bytes",
            Double => "double",
            Duration => "duration",
            Int => "int",
            List | ListOf(_) => "list",
            Map | Record(_) => "map",
            Null => "null",
            Text | Word(_) => "string",
            Time => "timestamp",
            Type => "type",
            Uint => "uint",
        })
    }
}
