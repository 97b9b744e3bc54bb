//! Versions of Ruby gems (`Gem::Version`).

use std::cmp::Ordering;

use super::number::{Decimal, limit, split_digits, split_while};

/// A version of a Ruby gem: its segments without trailing zeros before the first word and at the end.
#[derive(Debug)]
pub(super) struct GemVersion<'a> {
    /// The numbers before the first word, with trailing zeros.
    release: Vec<Decimal<'a>>,
    segments: Vec<GemSegment<'a>>,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum GemSegment<'a> {
    Number(Decimal<'a>),
    Word(&'a str),
}

impl<'a> GemVersion<'a> {
    /// Parses `1.2.3`, `1.2.0.rc1`, `1.0-java`.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let starts_with_digit = text.starts_with(|character: char| character.is_ascii_digit());
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-');
        if !starts_with_digit || !text.bytes().all(allowed) {
            return None;
        }
        let all = split(text);
        let first_word = all.iter().position(|segment| matches!(segment, GemSegment::Word(_))).unwrap_or(all.len());
        let (numbers, rest) = all.split_at(first_word);
        let release = numbers.iter().map(GemSegment::number).collect();
        let segments = [without_trailing_zeros(numbers), without_trailing_zeros(rest)].concat();
        Some(Self { release, segments })
    }

    pub(super) fn compare(&self, other: &Self) -> Ordering {
        compare_segments(&self.segments, &other.segments)
    }

    /// `~> 1.2.3`: at least this version, and its release before the next value of the last number but one.
    pub(super) fn is_compatible_with(&self, bound: &Self) -> bool {
        let kept = bound.release.len().saturating_sub(1).max(1);
        let limit = limit(&bound.release[..kept]);
        let release: Vec<_> = self.release.iter().copied().map(GemSegment::Number).collect();
        self.compare(bound).is_ge() && compare_segments(&release, &split(&limit)).is_lt()
    }
}

impl<'a> GemSegment<'a> {
    const ZERO: Self = Self::Number(Decimal::ZERO);

    fn number(&self) -> Decimal<'a> {
        match self {
            Self::Number(number) => *number,
            Self::Word(_) => Decimal::ZERO,
        }
    }
}

/// Splits into numbers and words. `-` is `.pre.`.
fn split(mut text: &str) -> Vec<GemSegment<'_>> {
    let mut segments = Vec::new();
    while let Some(first) = text.chars().next() {
        let (segment, rest) = match first {
            '.' => (None, &text[1..]),
            '-' => (Some(GemSegment::Word("pre")), &text[1..]),
            '0'..='9' => {
                let (digits, rest) = split_digits(text);
                (Some(GemSegment::Number(Decimal::new(digits))), rest)
            }
            _ => {
                let (word, rest) =
                    split_while(text, |character| !character.is_ascii_digit() && !".-".contains(character));
                (Some(GemSegment::Word(word)), rest)
            }
        };
        segments.extend(segment);
        text = rest;
    }
    segments
}

fn without_trailing_zeros<'s, 'a>(segments: &'s [GemSegment<'a>]) -> &'s [GemSegment<'a>] {
    let end = segments.iter().rposition(|segment| *segment != GemSegment::ZERO).map_or(0, |last| last + 1);
    &segments[..end]
}

fn segment<'a>(segments: &[GemSegment<'a>], index: usize) -> GemSegment<'a> {
    segments.get(index).copied().unwrap_or(GemSegment::ZERO)
}

/// Missing segments are zero; words are before numbers.
fn compare_segments(a: &[GemSegment<'_>], b: &[GemSegment<'_>]) -> Ordering {
    for index in 0..a.len().max(b.len()) {
        let order = match (segment(a, index), segment(b, index)) {
            (GemSegment::Number(a), GemSegment::Number(b)) => a.cmp(&b),
            (GemSegment::Word(a), GemSegment::Word(b)) => a.cmp(b),
            (GemSegment::Word(_), GemSegment::Number(_)) => Ordering::Less,
            (GemSegment::Number(_), GemSegment::Word(_)) => Ordering::Greater,
        };
        if order.is_ne() {
            return order;
        }
    }
    Ordering::Equal
}
