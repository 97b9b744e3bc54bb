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
//! The parser here therefore accepts any unprintable characters or a sign before the number, and requires an
//! unprintable character or the end of the field after it. A blank field is 0, which a sum of signed bytes can be.

use super::BLOCK;

/// The position of the checksum field.
const FIELD: std::ops::Range<usize> = 148..156;

/// A tar header is recognised by the magic at offset 257 (POSIX, GNU) or, in the Unix v7 format, by its checksum alone.
pub(super) fn may_be_header(block: &[u8; BLOCK]) -> bool {
    may_be_skipped_to(block) || is_blank(block) && sums(block).contains(&0)
}

/// The same for a reader that skips blocks that are not headers. Only GNU tar does, and it does not accept a field of
/// only spaces as a checksum. Without this difference, more random data would count as a header.
pub(super) fn may_be_skipped_to(block: &[u8; BLOCK]) -> bool {
    let equals_octal = |sum: &i64| equals_octal(&block[FIELD.start..], *sum) || equals_base256(&block[FIELD], *sum);
    let sums = sums(block);
    block[257..].starts_with(b"ustar")
        || sums.iter().any(equals_octal)
        || is_zero_to_gnu(&block[FIELD]) && sums.contains(&0)
}

/// GNU tar skips one NUL and white space, and treats a field that a NUL ends there as 0.
fn is_zero_to_gnu(field: &[u8]) -> bool {
    let field = field.strip_prefix(&[0]).unwrap_or(field);
    field.iter().find(|byte| !matches!(byte, b' ' | b'\t'..=b'\r')) == Some(&0)
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
    let ends_well = text.get(end).is_none_or(|byte| !byte.is_ascii_graphic());
    // Most readers stop at the end of the field, busybox does not.
    let field = (start < FIELD.len() && end >= FIELD.len()).then(|| &text[start..FIELD.len()]);
    ends_well && end > start && is_sum(&text[start..end]) || field.is_some_and(is_sum)
}

/// Characters that may precede a number: whatever any reader treats as blank, and signs.
fn is_padding(byte: u8) -> bool {
    !byte.is_ascii_graphic() || matches!(byte, b'+' | b'-' | b'_')
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
