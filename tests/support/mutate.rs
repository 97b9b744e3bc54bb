//! Changes of valid documents, as a fuzzer makes them.

use serde_json::{Value, json};

/// One change: of which kind, where, and how.
pub(crate) type Step = (u8, usize, usize);

/// The document with some bytes changed, removed, repeated or cut off.
pub(crate) fn mutated(valid: &[u8], steps: &[Step]) -> Vec<u8> {
    let mut bytes = valid.to_vec();
    for (kind, at, other) in steps {
        let Some(at) = at.checked_rem(bytes.len()) else { break };
        let end = (at + 1 + other % 64).min(bytes.len());
        match kind % 6 {
            0 => bytes[at] ^= 1 << (other % 8),
            1 => bytes[at] = other.to_le_bytes()[0],
            2 => drop(bytes.drain(at..end)),
            3 => {
                let copy = bytes[at..end].to_vec();
                let to = other % bytes.len();
                bytes.splice(to..to, copy);
            }
            4 => bytes.truncate(at),
            _ => bytes[at..end].reverse(),
        }
    }
    bytes
}

/// The JSON document with some of its values replaced by others, of another type or from another place.
pub(crate) fn mutated_json(valid: &Value, steps: &[Step]) -> Value {
    let mut document = valid.clone();
    for (kind, at, other) in steps {
        let copy = nth(&mut document.clone(), *other).cloned().unwrap_or_default();
        let replacement = match kind % 10 {
            0 => Value::Null,
            1 => json!([]),
            2 => json!({}),
            3 => json!(-1),
            4 => json!(u64::MAX),
            5 => json!(1.5),
            6 => json!("A".repeat(1 + other % 5000)),
            7 => json!([copy, copy]),
            8 => json!(""),
            _ => copy,
        };
        if let Some(value) = nth(&mut document, *at) {
            *value = replacement;
        }
    }
    document
}

/// Some value of the document, by a number of any size.
fn nth(document: &mut Value, number: usize) -> Option<&mut Value> {
    let mut left = number.checked_rem(count(document))?;
    find(document, &mut left)
}

fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(count).sum(),
        Value::Object(members) => members.values().map(count).sum(),
        _ => 0,
    }
}

fn find<'a>(value: &'a mut Value, left: &mut usize) -> Option<&'a mut Value> {
    if *left == 0 {
        return Some(value);
    }
    *left -= 1;
    match value {
        Value::Array(list) => list.iter_mut().find_map(|one| find(one, left)),
        Value::Object(members) => members.values_mut().find_map(|one| find(one, left)),
        _ => None,
    }
}
