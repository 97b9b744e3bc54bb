//! A minimal CBOR reader (RFC 8949), to check that some bytes are exactly one COSE_Sign1 (RFC 9052, section 4.2).
//!
//! coset and ciborium were considered. They build a value for every item, accept indefinite lengths and tags that COSE
//! does not need, and would add two dependencies to inspect the heads of four items.

/// Major type of byte strings: the three upper bits of an item's first byte.
const BYTES: u8 = 2;
/// Major type of maps.
const MAP: u8 = 5;
/// The maximum nesting depth of items.
const MAX_DEPTH: u32 = 16;

/// Whether this is a COSE_Sign1: tag 18 on an array of protected header, unprotected header, payload and signature.
pub(crate) fn is_sign1(bytes: &[u8]) -> bool {
    let items = || {
        let (protected, rest) = byte_string(bytes.strip_prefix(&[0xd2, 0x84])?)?;
        let rest = map(rest)?;
        let rest = rest.strip_prefix(&[0xf6]).or_else(|| Some(byte_string(rest)?.1))?;
        let (signature, rest) = byte_string(rest)?;
        Some(names_algorithm(protected) && !signature.is_empty() && rest.is_empty())
    };
    items().unwrap_or(false)
}

/// Whether the protected header is one map in which label 1, the algorithm, is a number (RFC 9052, section 3.1).
fn names_algorithm(protected: &[u8]) -> bool {
    let algorithm = || {
        let (kind, pairs, mut rest) = head(protected)?;
        let mut found = false;
        for _ in 0..(kind == MAP).then_some(pairs)? {
            let label = rest;
            let value = skip(label, 1)?;
            found |= label.starts_with(&[1]) && matches!(head(value)?.0, 0 | 1);
            rest = skip(value, 1)?;
        }
        Some(found && rest.is_empty())
    };
    algorithm().unwrap_or(false)
}

/// Splits off a byte string; returns it and the rest.
fn byte_string(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    match head(bytes)? {
        (BYTES, length, rest) => rest.split_at_checked(usize::try_from(length).ok()?),
        _ => None,
    }
}

/// Skips a map; returns the rest.
fn map(bytes: &[u8]) -> Option<&[u8]> {
    if head(bytes)?.0 == MAP { skip(bytes, 0) } else { None }
}

/// Skips the first item; returns the rest, or `None` if the item is malformed or of indefinite length, which COSE does
/// not need.
fn skip(bytes: &[u8], depth: u32) -> Option<&[u8]> {
    let (kind, argument, rest) = head(bytes)?;
    let items = match kind {
        0 | 1 | 7 => 0,
        BYTES | 3 => return rest.get(usize::try_from(argument).ok()?..),
        4 => argument,
        MAP => argument.checked_mul(2)?,
        _ => 1,
    };
    // Each item takes at least one byte, so the loop ends with the input.
    (0..items).try_fold(rest, |rest, _| if depth < MAX_DEPTH { skip(rest, depth + 1) } else { None })
}

/// The major type of the first item, its argument, and the rest.
fn head(bytes: &[u8]) -> Option<(u8, u64, &[u8])> {
    let (first, rest) = bytes.split_first()?;
    let length = match first & 31 {
        info @ 0..=23 => return Some((first >> 5, info.into(), rest)),
        info @ 24..=27 => 1 << (info - 24),
        _ => return None,
    };
    let (argument, rest) = rest.split_at_checked(length)?;
    Some((first >> 5, argument.iter().fold(0, |value, byte| value << 8 | u64::from(*byte)), rest))
}
