//! Semantic versions with any count of numbers: `v1.2.3-rc.1+build`.

use std::cmp::Ordering;

use super::number::{Decimal, is_number, split_while};
use super::range::Operator;

/// A semantic version. Missing numbers are zero; what follows `+` does not count.
#[derive(Clone, Debug)]
pub(super) struct SemverVersion<'a> {
    numbers: &'a str,
    prerelease: &'a str,
    /// Whether the letters of prereleases are compared without regard to case.
    ignores_case: bool,
}

impl<'a> SemverVersion<'a> {
    /// Parses `1`, `v1.2.3.4`, `1.2-rc1`, `1.2rc1`.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let text = text.strip_prefix(['v', '=']).unwrap_or(text);
        let (text, build) = text.split_once('+').unwrap_or((text, "0"));
        let (numbers, rest) = split_while(text, |character| character.is_ascii_digit() || character == '.');
        let prerelease = rest.strip_prefix('-').unwrap_or(rest);
        let is_word = |word: &str| !word.is_empty() && word.bytes().all(is_prerelease_byte);
        let is_list = |list: &str| list.split('.').all(is_word);
        let readable = numbers.split('.').all(is_number) && (rest.is_empty() || is_list(prerelease)) && is_list(build);
        readable.then_some(Self { numbers, prerelease, ignores_case: false })
    }

    /// The same version, whose prerelease is compared without regard to case (NuGet).
    pub(super) fn ignoring_case(self) -> Self {
        Self { ignores_case: true, ..self }
    }

    pub(super) fn compare(&self, other: &Self) -> Ordering {
        compare_numbers(self.numbers, other.numbers).then_with(|| {
            if self.ignores_case {
                let [own, other] = [self.prerelease, other.prerelease].map(str::to_ascii_lowercase);
                compare_prereleases(&own, &other)
            } else {
                compare_prereleases(self.prerelease, other.prerelease)
            }
        })
    }

    /// The numbers, of which there is at least one.
    pub(super) fn numbers(&self) -> impl Iterator<Item = Decimal<'a>> + use<'a> {
        self.numbers.split('.').map(Decimal::new)
    }

    /// The text after the numbers: `rc.1`, or nothing.
    pub(super) fn prerelease(&self) -> &'a str {
        self.prerelease
    }

    /// Whether the version is in the range that an operator and a bound make.
    pub(super) fn satisfies(&self, operator: Operator, bound: &Self) -> bool {
        let limit = operator.limit(&bound.numbers().collect::<Vec<_>>());
        operator.accepts(self.compare(bound)) && limit.is_none_or(|limit| self.is_before(&limit))
    }

    /// Whether the version is before the one with these numbers and no prerelease.
    pub(super) fn is_before(&self, numbers: &str) -> bool {
        self.compare(&SemverVersion { numbers, prerelease: "", ignores_case: false }).is_lt()
    }
}

fn is_prerelease_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'~')
}

fn compare_numbers(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        let (next_a, next_b) = (a.next(), b.next());
        if next_a.is_none() && next_b.is_none() {
            return Ordering::Equal;
        }
        let order = Decimal::new(next_a.unwrap_or_default()).cmp(&Decimal::new(next_b.unwrap_or_default()));
        if order.is_ne() {
            return order;
        }
    }
}

/// Section 11.4 of Semantic Versioning 2.0.0.
pub(super) fn compare_prereleases(a: &str, b: &str) -> Ordering {
    if a.is_empty() || b.is_empty() {
        return a.is_empty().cmp(&b.is_empty());
    }
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        let order = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (Some(a), Some(b)) => compare_words(a, b),
            (a, b) => a.is_some().cmp(&b.is_some()),
        };
        if order.is_ne() {
            return order;
        }
    }
}

/// Numbers are before words.
fn compare_words(a: &str, b: &str) -> Ordering {
    match (is_number(a), is_number(b)) {
        (true, true) => Decimal::new(a).cmp(&Decimal::new(b)),
        (false, false) => a.cmp(b),
        (a_is_number, b_is_number) => b_is_number.cmp(&a_is_number),
    }
}
