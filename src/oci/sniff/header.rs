//! Decides whether 512 bytes can be a tar header to some reader. It accepts more than any single reader does.
//!
//! All readers recognise a header by its checksum, a number in bytes 148 to 155 that equals the sum of all bytes (with
//! this field counted as spaces), summed as unsigned or, as in Sun's tar, as signed bytes. They differ in how they
//! parse the number:
//!
//! | reader | number |
//! |---|---|
//! | Go `archive/tar` (strconv.go, `parseOctal`), vbatts/tar-split | spaces and NULs around octal digits, junk after a NUL; blank is 0 |
//! | Python `tarfile` (`nti`) | up to a NUL, any white space around, sign, `0o`, `_` between digits; blank is 0; base-256 |
//! | GNU tar (list.c, `from_header`) | white space or a NUL before, white space or a NUL after; a NUL after white space is 0, spaces alone are refused |
//! | libarchive (`checksum`, `tar_atol8`) | only digits, spaces, NULs; stops at the first NUL; blank is 0; before 3.4 base-256 too |
//! | busybox (get_header_tar.c) | `strtoul`: white space, sign; reads on past the field |
//! | Rust `tar` (`octal_from`) | up to a NUL, Unicode white space around, `+` |
//!
//! The parser here therefore accepts whatever any of them takes as white space, or a sign, before the number, and
//! requires such a character or the end of the field after it. A blank field is 0, which a sum of signed bytes can be.
//! Compressed and other random content must not look like a header by chance, so blocks that only GNU tar reads as
//! headers are parsed as it does.

use super::BLOCK;

/// The position of the checksum field.
const FIELD: std::ops::Range<usize> = 148..156;

/// A tar header is recognised by the magic at offset 257 (POSIX, GNU) or, in the Unix v7 format, by its checksum alone.
pub(super) fn may_be_header(block: &[u8; BLOCK]) -> bool {
    let equals = |sum: &i64| equals_octal(&block[FIELD.start..], *sum) || equals_base256(&block[FIELD], *sum);
    let sums = sums(block);
    may_be_skipped_to(block) || sums.iter().any(equals) || is_blank(block) && sums.contains(&0)
}

/// As above, for a reader that skips blocks that are not headers, which only GNU tar does. Of a million blocks of
/// random data, fewer than one counts.
pub(super) fn may_be_skipped_to(block: &[u8; BLOCK]) -> bool {
    block[257..].starts_with(b"ustar") || gnu_checksum(&block[FIELD]).is_some_and(|sum| sums(block).contains(&sum))
}

/// The number in the field to GNU tar, which is never negative: one NUL and white space, then octal digits up to white
/// space, a NUL or the end of the field. No digits before a NUL are 0.
fn gnu_checksum(field: &[u8]) -> Option<i64> {
    // Some locales have more white space than C.
    let is_space = |byte: &u8| matches!(byte, b' ' | b'\t'..=b'\r' | 0x85 | 0xa0);
    let field = field.strip_prefix(&[0]).unwrap_or(field);
    let number = &field[field.iter().position(|byte| !is_space(byte))?..];
    let digits = number.iter().take_while(|byte| matches!(byte, b'0'..=b'7')).count();
    match number.get(digits) {
        Some(end) if *end != 0 && !is_space(end) => None,
        _ => octal(&number[..digits]),
    }
}

/// Whether the field is zero to readers that find no number in it, or stop at a NUL.
fn is_blank(block: &[u8; BLOCK]) -> bool {
    let padding = block[FIELD].iter().take_while(|byte| is_padding(**byte));
    padding.clone().count() == FIELD.len() || padding.clone().any(|byte| *byte == 0)
}

/// The sum of unsigned bytes and the sum of signed bytes.
fn sums(block: &[u8; BLOCK]) -> [i64; 2] {
    let outside = || block[..FIELD.start].iter().chain(&block[FIELD.end..]);
    let spaces = 8 * i64::from(b' ');
    let unsigned: i64 = outside().map(|byte| i64::from(*byte)).sum();
    let signed: i64 = outside().map(|byte| i64::from(byte.cast_signed())).sum();
    [unsigned + spaces, signed + spaces]
}

/// Whether the octal number at the start of `text` (the field and the bytes after it) equals `sum` to some reader.
fn equals_octal(text: &[u8], sum: i64) -> bool {
    let start = text.iter().position(|byte| !is_padding(*byte)).unwrap_or(text.len());
    // Python's prefix.
    let start = if matches!(text[start..], [b'0', b'o' | b'O', ..]) { start + 2 } else { start };
    let is_digit = |byte: &&u8| matches!(byte, b'0'..=b'7' | b'_');
    let end = start + text[start..].iter().take_while(is_digit).count();
    let is_sum = |digits: &[u8]| octal(digits) == Some(sum.abs());
    let ends_well = text.get(end).is_none_or(|byte| is_white_space(*byte));
    // Most readers stop at the end of the field, busybox does not.
    let field = (start < FIELD.len() && end >= FIELD.len()).then(|| &text[start..FIELD.len()]);
    ends_well && end > start && is_sum(&text[start..end]) || field.is_some_and(is_sum)
}

/// Characters that may precede a number: white space and signs.
fn is_padding(byte: u8) -> bool {
    is_white_space(byte) || matches!(byte, b'+' | b'-' | b'_')
}

/// Characters that some reader treats as blank: NULs, white space of C and the separators of Python, and the bytes of
/// white space in UTF-8 (U+0085, U+00A0, U+1680, U+2000 to U+200A, U+2028, U+2029, U+202F, U+205F, U+3000), which Rust
/// removes.
fn is_white_space(byte: u8) -> bool {
    matches!(byte, 0 | b'\t'..=b'\r' | 0x1c..=0x1f | b' ')
        || matches!(byte, 0x80..=0x8a | 0x9a | 0x9f | 0xa0 | 0xa8 | 0xa9 | 0xaf | 0xc2 | 0xe1..=0xe3)
}

fn octal(digits: &[u8]) -> Option<i64> {
    let mut digits = digits.iter().filter(|byte| **byte != b'_').map(|byte| i64::from(byte - b'0'));
    digits.try_fold(0_i64, |value, digit| value.checked_mul(8)?.checked_add(digit))
}

/// Whether the field is this number in base 256, marked by the first bit (GNU tar, Python, old versions of libarchive).
/// Only the last four bytes are compared, in two's complement; a checksum never needs more.
fn equals_base256(field: &[u8], sum: i64) -> bool {
    field[0] & 0x80 != 0 && field.last_chunk().is_some_and(|last| i64::from(i32::from_be_bytes(*last)) == sum)
}
