//! The elements of lists. A value of another type is never among them, so a condition that asks for it denies nothing.

use std::collections::HashMap;

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, ListExpr, operators};

use super::ValueType;
use ValueType::{Any, Bool, Bytes, Double, Duration, Int, ListOf, Null, Record, Text, Time, Uint, Word, Words};

/// What is wrong with the lists in a call, and where. `arguments` are the types of its operands, `types` those of their parts.
pub(super) fn mistakes<'a>(
    call: &'a CallExpr,
    arguments: &[ValueType],
    types: &HashMap<u64, ValueType>,
) -> Vec<(&'a IdedExpr, String)> {
    let ([one, other], [of_one, of_other]) = (&*call.args, arguments) else { return Vec::new() };
    match (&*call.func_name, &other.expr, element(*of_other)) {
        (operators::IN, Expr::List(list), _) => written(list, *of_one, types),
        (operators::IN, _, Some(element)) if !may_equal(*of_one, element) => {
            let place = if let Record(_) = element { ", in exists(…)" } else { "" };
            vec![(one, never(*of_one, element) + place)]
        }
        (operators::EQUALS | operators::NOT_EQUALS, ..) => {
            let pairs = [(of_one, other), (of_other, one)];
            let wrong = |(of, list): (&ValueType, &'a IdedExpr)| match (element(*of), &list.expr) {
                (Some(element), Expr::List(list)) => written(list, element, types),
                _ => Vec::new(),
            };
            pairs.into_iter().flat_map(wrong).collect()
        }
        _ => Vec::new(),
    }
}

/// The type of the elements of a list, if it is known.
fn element(list: ValueType) -> Option<ValueType> {
    match list {
        ListOf(element) => Some(*element),
        Words(_) => Some(Text),
        _ => None,
    }
}

/// Whether this is a map that is written out, of plain values: `{"critical": duration("168h")}`. It holds no issue.
pub(super) fn is_table(map: &IdedExpr, types: &HashMap<u64, ValueType>) -> bool {
    let Expr::Map(map) = &map.expr else { return false };
    let is_plain = |value: &IdedExpr| {
        matches!(types.get(&value.id), Some(Bool | Bytes | Double | Duration | Int | Text | Time | Uint | Word(_)))
    };
    map.entries.iter().all(|entry| matches!(&entry.expr, EntryExpr::MapEntry(entry) if is_plain(&entry.value)))
}

/// The elements of a list that is written out and that a value of this type is never equal to.
fn written<'a>(list: &'a ListExpr, value: ValueType, types: &HashMap<u64, ValueType>) -> Vec<(&'a IdedExpr, String)> {
    let type_of = |element: &IdedExpr| types.get(&element.id).copied().unwrap_or(Any);
    let wrong = |element: &'a IdedExpr| {
        (!may_equal(value, type_of(element))).then(|| (element, never(type_of(element), value)))
    };
    list.elements.iter().filter_map(wrong).collect()
}

/// Whether values of two types can be equal.
pub(super) fn may_equal(one: ValueType, other: ValueType) -> bool {
    let (one, other) = (one.general(), other.general());
    let are_numbers = one.is_number() && other.is_number();
    one == other || are_numbers || [one, other].iter().any(|of| matches!(of, Any | Null))
}

fn never(one: ValueType, other: ValueType) -> String {
    let record =
        [one, other].into_iter().find_map(|of| if let Record(record) = of { record.fields.first() } else { None });
    let hint = record.map(|(field, _)| format!("; ask for a field of it, such as {field}"));
    let (one, other) = (with_article(one), with_article(other));
    format!("{one} is never equal to {other}{}", hint.unwrap_or_default())
}

fn with_article(of: ValueType) -> String {
    let article = if of == Int { "an" } else { "a" };
    format!("{article} {of}")
}
