//! Resolves scalars according to YAML 1.1, as go-yaml v2 does (resolve.go), which the Kubernetes API uses.

use std::borrow::Cow;

use saphyr_parser::{ScalarStyle, Tag};

use super::super::tree::Value;

/// The value of a scalar: quoted and block scalars are text, plain ones are resolved.
pub(super) fn resolve(text: Cow<'_, str>, style: ScalarStyle, tag: Option<&Tag>) -> Result<Value, String> {
    let plain = style == ScalarStyle::Plain;
    let Some(tag) = tag else {
        return Ok(if plain { plain_value(text) } else { Value::Text(text.into_owned()) });
    };
    let not = || format!("{text:?} is not {tag}");
    match (tag.is_yaml_core_schema(), &*tag.suffix) {
        (true, "str") => Ok(Value::Text(text.into_owned())),
        (true, "bool") => boolean(&text).map(Value::Bool).ok_or_else(not),
        (true, "int") => integer(&text).map(Value::Int).ok_or_else(not),
        (true, "null") if is_null(&text) => Ok(Value::Null),
        (true, "float") => {
            let whole = || Some(f64::from(i32::try_from(integer(&text)?).ok()?));
            float(&text).or_else(whole).map(Value::Float).ok_or_else(not)
        }
        (true, "null") => Err(not()),
        _ => Err(format!("tag {tag} is not supported")),
    }
}

fn plain_value(text: Cow<'_, str>) -> Value {
    if is_null(&text) {
        Value::Null
    } else if let Some(flag) = boolean(&text) {
        Value::Bool(flag)
    } else if let Some(number) = integer(&text) {
        Value::Int(number)
    } else if let Some(number) = float(&text) {
        Value::Float(number)
    } else {
        Value::Text(text.into_owned())
    }
}

fn is_null(text: &str) -> bool {
    matches!(text, "" | "~" | "null" | "Null" | "NULL")
}

fn boolean(text: &str) -> Option<bool> {
    match text {
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => Some(true),
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

/// Go's `strconv.ParseInt(text, 0, 64)` with all underscores taken out first.
fn integer(text: &str) -> Option<i64> {
    if !text.starts_with(|c: char| c.is_ascii_digit() || c == '+' || c == '-') {
        return None;
    }
    let text = text.replace('_', "");
    let (negative, digits) = match text.as_bytes().first()? {
        b'-' => (true, &text[1..]),
        b'+' => (false, &text[1..]),
        _ => (false, &*text),
    };
    let lower = digits.to_ascii_lowercase();
    let (radix, digits) = match lower.get(..2) {
        Some("0x") => (16, &lower[2..]),
        Some("0b") => (2, &lower[2..]),
        Some("0o") => (8, &lower[2..]),
        Some(start) if start.starts_with('0') => (8, &lower[1..]),
        _ => (10, &*lower),
    };
    if digits.starts_with(['+', '-']) {
        return None;
    }
    let sign = if negative { "-" } else { "" };
    i64::from_str_radix(&format!("{sign}{digits}"), radix).ok()
}

/// go-yaml's `^[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?$`, and its spellings of infinity and NaN.
fn float(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    if matches!(unsigned, ".inf" | ".Inf" | ".INF") {
        return Some(if text.starts_with('-') { f64::NEG_INFINITY } else { f64::INFINITY });
    }
    if matches!(text, ".nan" | ".NaN" | ".NAN") {
        return Some(f64::NAN);
    }
    let digits = |part: &str| part.bytes().all(|c| c.is_ascii_digit());
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent.strip_prefix(['+', '-']).unwrap_or(exponent))),
        None => (unsigned, None),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_float = digits(whole)
        && digits(fraction)
        && !(whole.is_empty() && fraction.is_empty())
        && exponent.is_none_or(|exponent| !exponent.is_empty() && digits(exponent));
    is_float.then(|| text.parse().ok()).flatten()
}
