//! The elements of lists and the keys of maps. A value of another type, or another word, is never among them, so a
//! condition that asks for it denies nothing.

use std::collections::HashMap;

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, MapExpr, operators};

use super::{ValueType, words};
use ValueType::{Any, Bool, Bytes, Double, Duration, Int, ListOf, Null, Record, Text, Time, Uint, Word};

/// What is wrong with the lists and maps in a call, and where. `arguments` are the types of its operands, `types` those
/// of their parts.
pub(super) fn mistakes<'a>(
    call: &'a CallExpr,
    arguments: &[ValueType],
    types: &HashMap<u64, ValueType>,
) -> Vec<(&'a IdedExpr, String)> {
    let ([one, other], [of_one, of_other]) = (&*call.args, arguments) else { return Vec::new() };
    match (&*call.func_name, &one.expr) {
        (operators::IN, _) => strangers((one, of_one), (other, of_other), types),
        (operators::EQUALS | operators::NOT_EQUALS, _) if of_one.is_list() && of_other.is_list() => {
            let pairs = [(one, of_other), (other, of_one)];
            pairs.into_iter().filter_map(|(value, of)| unequal(value, of, types)).collect()
        }
        // A key that is not found is an error, which denies. So a table may have keys of other scanners: `none`.
        (operators::INDEX, Expr::Map(map)) => match of_other {
            Word(set) => {
                let wrong: Vec<_> = keys(map).filter_map(|key| words::unequal(set, key)).collect();
                if wrong.len() < map.entries.len() { Vec::new() } else { wrong }
            }
            _ => Vec::new(),
        },
        _ => Vec::new(),
    }
}

/// What is wrong with the test whether a value is in a list or among the keys of a map.
fn strangers<'a>(
    (value, of): (&'a IdedExpr, &ValueType),
    (list, of_list): (&'a IdedExpr, &ValueType),
    types: &HashMap<u64, ValueType>,
) -> Vec<(&'a IdedExpr, String)> {
    let written: Vec<&'a IdedExpr> = match &list.expr {
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => keys(map).collect(),
        _ => Vec::new(),
    };
    let wrong: Vec<_> = written.iter().filter_map(|other| unequal(other, of, types)).collect();
    if !wrong.is_empty() {
        return wrong;
    }
    let of_written = written.iter().filter_map(|other| types.get(&other.id)).cloned();
    let element = of_list.element().cloned().or_else(|| of_written.reduce(|one, other| one.or(&other)));
    let Some((at, wrong)) = element.as_ref().and_then(|element| unequal(value, element, types)) else {
        return Vec::new();
    };
    let place = if let Some(Record(_)) = element { ", in exists(…)" } else { "" };
    vec![(at, wrong + place)]
}

/// The variable of a macro, with the texts over which it ranges if all of them are written out.
pub(super) type TextRange = (String, Option<Vec<String>>);

/// The texts of a list, or the keys of a map, if it consists of texts that are written out.
pub(super) fn written_texts(range: &IdedExpr) -> Option<Vec<String>> {
    let all: Vec<&IdedExpr> = match &range.expr {
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => keys(map).collect(),
        _ => return None,
    };
    let texts: Option<Vec<String>> = all.into_iter().map(|text| words::literal(text).map(str::to_owned)).collect();
    texts.filter(|texts| !texts.is_empty())
}

/// What is wrong with the comparison of a word with a variable that ranges over texts: none of them is such a word, as
/// in `["CRITICAL", "HIGH"].exists(s, i.severity == s)`.
pub(super) fn never_a_word<'a>(
    call: &'a CallExpr,
    arguments: &[ValueType],
    ranges: &[TextRange],
) -> Option<(&'a IdedExpr, String)> {
    let (operators::EQUALS | operators::NOT_EQUALS, [one, other], [of_one, of_other]) =
        (&*call.func_name, &*call.args, arguments)
    else {
        return None;
    };
    [(one, of_other), (other, of_one)].into_iter().find_map(|(variable, of)| {
        let (Expr::Ident(name), Word(set)) = (&variable.expr, of) else { return None };
        let (_, texts) = ranges.iter().rev().find(|(known, _)| known == name)?;
        Some((variable, words::none_equal(set, texts.as_ref()?)?))
    })
}

/// The keys of a map that is written out.
fn keys(map: &MapExpr) -> impl Iterator<Item = &IdedExpr> {
    map.entries.iter().filter_map(|entry| match &entry.expr {
        EntryExpr::MapEntry(entry) => Some(&entry.key),
        EntryExpr::StructField(_) => None,
    })
}

/// Whether this is a map that is written out, of plain values: `{"critical": duration("168h")}`. It holds no issue.
pub(super) fn is_table(map: &IdedExpr, types: &HashMap<u64, ValueType>) -> bool {
    let Expr::Map(map) = &map.expr else { return false };
    let is_plain = |value: &IdedExpr| {
        matches!(types.get(&value.id), Some(Bool | Bytes | Double | Duration | Int | Text | Time | Uint | Word(_)))
    };
    map.entries.iter().all(|entry| matches!(&entry.expr, EntryExpr::MapEntry(entry) if is_plain(&entry.value)))
}

/// Why a value is never equal to one of this type, and where. Of a list that is written out, that may be an element:
/// other lists may be empty.
fn unequal<'a>(
    value: &'a IdedExpr,
    other: &ValueType,
    types: &HashMap<u64, ValueType>,
) -> Option<(&'a IdedExpr, String)> {
    let of = types.get(&value.id)?;
    if !may_equal(of, other) {
        return Some((value, never(of, other)));
    }
    match (&value.expr, other) {
        (_, Word(set)) => words::unequal(set, value),
        (Expr::List(list), ListOf(element)) => list.elements.iter().find_map(|one| unequal(one, element, types)),
        _ => None,
    }
}

/// Whether values of two types can be equal. Two lists can, if both are empty.
pub(super) fn may_equal(one: &ValueType, other: &ValueType) -> bool {
    let (one, other) = (one.general(), other.general());
    let are_numbers = one.is_number() && other.is_number();
    one == other || are_numbers || [one, other].iter().any(|of| matches!(of, Any | Null))
}

fn never(one: &ValueType, other: &ValueType) -> String {
    let record =
        [one, other].into_iter().find_map(|of| if let Record(record) = of { record.fields.first() } else { None });
    let hint = record.map(|(field, _)| format!("; ask for a field of it, such as {field}"));
    let (one, other) = (with_article(one), with_article(other));
    format!("{one} is never equal to {other}{}", hint.unwrap_or_default())
}

fn with_article(of: &ValueType) -> String {
    let article = if *of == Int { "an" } else { "a" };
    format!("{article} {of}")
}
