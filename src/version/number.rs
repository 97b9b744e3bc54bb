//! Decimal numbers of any length.

use std::cmp::Ordering;
use std::fmt;

/// A decimal number: its digits without leading zeros. Zero has no digits.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Decimal<'a>(&'a str);

impl<'a> Decimal<'a> {
    pub(super) const ZERO: Decimal<'static> = Decimal("");

    /// The number that the digits write. The caller passes digits only; none are zero.
    pub(super) fn new(digits: &'a str) -> Self {
        Self(digits.trim_start_matches('0'))
    }

    pub(super) fn is_zero(self) -> bool {
        self.0.is_empty()
    }

    /// The next number.
    pub(super) fn next(self) -> String {
        let mut digits = self.0.as_bytes().to_vec();
        for digit in digits.iter_mut().rev() {
            if *digit < b'9' {
                *digit += 1;
                return digits.into_iter().map(char::from).collect();
            }
            *digit = b'0';
        }
        std::iter::once('1').chain(digits.into_iter().map(char::from)).collect()
    }
}

impl Ord for Decimal<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.0.len().cmp(&other.0.len()).then_with(|| self.0.cmp(other.0))
    }
}

impl PartialOrd for Decimal<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl fmt::Display for Decimal<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_zero() { "0" } else { self.0 })
    }
}

/// The numbers, separated by dots, with the last one increased: the first version that is no longer compatible.
pub(super) fn limit(numbers: &[Decimal<'_>]) -> String {
    let Some((last, before)) = numbers.split_last() else { return String::new() };
    let before: String = before.iter().map(|number| format!("{number}.")).collect();
    before + &last.next()
}

/// Splits after the leading characters that satisfy the condition.
pub(super) fn split_while(text: &str, condition: impl Fn(char) -> bool) -> (&str, &str) {
    text.split_at(text.find(|character| !condition(character)).unwrap_or(text.len()))
}

/// Splits after the leading digits.
pub(super) fn split_digits(text: &str) -> (&str, &str) {
    split_while(text, |character| character.is_ascii_digit())
}

/// Whether the text is digits only, and at least one.
pub(super) fn is_number(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}
