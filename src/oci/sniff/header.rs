//! Whether 512 bytes can be a tar header to some reader: more is taken for one here than any single reader takes.
//!
//! All readers find a header by its checksum, a number in the bytes 148 to 155 that equals the sum of all bytes (this field
//! taken as spaces), summed as unsigned or, as Sun's tar did, as signed bytes. They differ in how they read the number:
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
//! So a number here may have anything unprintable or a sign before it and must have something unprintable, or the end of
//! the field, after it. Blank is 0, which signed bytes can sum to.

use super::BLOCK;

/// Where the checksum is.
const FIELD: std::ops::Range<usize> = 148..156;

/// A tar header says so at offset 257 (POSIX, GNU), or, in the format of Unix v7, only by its checksum.
pub(super) fn may_be_header(block: &[u8; BLOCK]) -> bool {
    may_be_skipped_to(block) || is_blank(block) && sums(block).contains(&0)
}

/// The same for a reader that skips what is no header. Only GNU tar does, and to it a field of nothing but spaces is none;
/// without this difference more of what is random would pass for a header.
pub(super) fn may_be_skipped_to(block: &[u8; BLOCK]) -> bool {
    let says = |sum: &i64| says(&block[FIELD.start..], *sum) || says_binary(&block[FIELD], *sum);
    let sums = sums(block);
    block[257..].starts_with(b"ustar") || sums.iter().any(says) || is_zero_to_gnu(&block[FIELD]) && sums.contains(&0)
}

/// GNU tar passes over one NUL and over white space, and takes what ends there by a NUL for 0.
fn is_zero_to_gnu(field: &[u8]) -> bool {
    let field = field.strip_prefix(&[0]).unwrap_or(field);
    field.iter().find(|byte| !matches!(byte, b' ' | b'\t'..=b'\r')) == Some(&0)
}

/// Whether the field is a zero to those who read no number in it, or stop at a NUL.
fn is_blank(block: &[u8; BLOCK]) -> bool {
    let padding = block[FIELD].iter().take_while(|byte| is_padding(**byte));
    padding.clone().count() == FIELD.len() || padding.clone().any(|byte| *byte == 0)
}

/// The sum over unsigned bytes and over signed bytes.
fn sums(block: &[u8; BLOCK]) -> [i64; 2] {
    let outside = || block[..FIELD.start].iter().chain(&block[FIELD.end..]);
    let spaces = 8 * i64::from(b' ');
    let unsigned: i64 = outside().map(|byte| i64::from(*byte)).sum();
    let signed: i64 = outside().map(|byte| i64::from(byte.cast_signed())).sum();
    [unsigned + spaces, signed + spaces]
}

/// Whether the octal number at the start of `text`, the field and what follows it, is `sum` to some reader.
fn says(text: &[u8], sum: i64) -> bool {
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

/// What stands before a number: what is blank to anybody, and signs.
fn is_padding(byte: u8) -> bool {
    !byte.is_ascii_graphic() || matches!(byte, b'+' | b'-' | b'_')
}

fn octal(digits: &[u8]) -> Option<i64> {
    let mut digits = digits.iter().filter(|byte| **byte != b'_').map(|byte| i64::from(byte - b'0'));
    digits.try_fold(0_i64, |value, digit| value.checked_mul(8)?.checked_add(digit))
}

/// Whether the field is this number in base 256, which has the first bit set (GNU tar, Python, old versions of
/// libarchive). The last four bytes decide, in two's complement; a sum has no need of more.
fn says_binary(field: &[u8], sum: i64) -> bool {
    field[0] & 0x80 != 0 && field.last_chunk().is_some_and(|last| i64::from(i32::from_be_bytes(*last)) == sum)
}
