//! Versions of Alpine packages (apk-tools, `src/version.c`): `1.2.3b_alpha4_p1-r5`.

use std::cmp::Ordering;

use super::number::{Decimal, split_digits, split_while};

/// A version of an Alpine package.
#[derive(Debug)]
pub(super) struct ApkVersion<'a>(&'a str);

/// A piece of a version.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum ApkToken<'a> {
    /// The number at the start.
    First(Decimal<'a>),
    /// The digits of another number.
    Digits(&'a str),
    Letter(char),
    /// Negative before the release, positive after it.
    Suffix(i8),
    SuffixNumber(Decimal<'a>),
    /// The start of a commit's identifier.
    Commit(&'a str),
    Revision(Decimal<'a>),
    End,
    /// What follows is not part of a version.
    Invalid,
}

/// The suffixes before the release and after it, in their order.
const BEFORE: [&str; 4] = ["alpha", "beta", "pre", "rc"];
const AFTER: [&str; 5] = ["cvs", "svn", "git", "hg", "p"];

impl<'a> ApkVersion<'a> {
    /// Every text has a place in the order: an invalid rest is before everything else in its place.
    pub(super) fn parse(text: &'a str) -> Self {
        Self(text)
    }

    /// Whether the whole text is a version.
    pub(super) fn is_valid(&self) -> bool {
        let mut tokens = ApkTokens::new(self.0);
        while !matches!(tokens.next_token(), ApkToken::End | ApkToken::Invalid) {}
        self.0.starts_with(|first: char| first.is_ascii_digit()) && tokens.last == Some(ApkToken::End)
    }

    pub(super) fn compare(&self, other: &Self) -> Ordering {
        let (mut a, mut b) = (ApkTokens::new(self.0), ApkTokens::new(other.0));
        loop {
            let (token_a, token_b) = (a.next_token(), b.next_token());
            let order = token_a.compare(token_b);
            if order.is_ne() || matches!(token_a, ApkToken::End | ApkToken::Invalid) {
                return order;
            }
        }
    }
}

impl ApkToken<'_> {
    fn compare(self, other: Self) -> Ordering {
        match (self, other) {
            (Self::First(a), Self::First(b))
            | (Self::SuffixNumber(a), Self::SuffixNumber(b))
            | (Self::Revision(a), Self::Revision(b)) => a.cmp(&b),
            // A leading zero makes it the digits after a decimal point.
            (Self::Digits(a), Self::Digits(b)) if a.starts_with('0') || b.starts_with('0') => a.cmp(b),
            (Self::Digits(a), Self::Digits(b)) => Decimal::new(a).cmp(&Decimal::new(b)),
            (Self::Letter(a), Self::Letter(b)) => a.cmp(&b),
            (Self::Suffix(a), Self::Suffix(b)) => a.cmp(&b),
            (Self::Commit(a), Self::Commit(b)) => a.cmp(b),
            (Self::Suffix(..0), _) => Ordering::Less,
            (_, Self::Suffix(..0)) => Ordering::Greater,
            (a, b) => b.position().cmp(&a.position()),
        }
    }

    /// Where the token may be in a version. If tokens differ, the version whose token is earlier is the greater one.
    fn position(self) -> u8 {
        match self {
            Self::First(_) => 0,
            Self::Digits(digits) if !digits.is_empty() => 1,
            Self::Letter(_) => 2,
            Self::Digits(_) => 3,
            Self::Suffix(_) => 4,
            Self::SuffixNumber(_) => 5,
            Self::Commit(_) => 6,
            Self::Revision(_) => 7,
            Self::End => 8,
            Self::Invalid => 9,
        }
    }
}

/// The tokens of a version, without end: the last one repeats.
struct ApkTokens<'a> {
    rest: &'a str,
    last: Option<ApkToken<'a>>,
}

impl<'a> ApkTokens<'a> {
    fn new(rest: &'a str) -> Self {
        Self { rest, last: None }
    }

    fn next_token(&mut self) -> ApkToken<'a> {
        let token = self.read();
        self.last = Some(token);
        token
    }

    fn read(&mut self) -> ApkToken<'a> {
        let Some(last) = self.last else { return ApkToken::First(self.number()) };
        let Some(first) = self.rest.chars().next() else { return ApkToken::End };
        let after_number = matches!(last, ApkToken::First(_) | ApkToken::Digits(_));
        match (first, last) {
            ('.', _) if after_number => {
                self.rest = &self.rest[1..];
                ApkToken::Digits(self.digits())
            }
            ('0'..='9', ApkToken::Letter(_)) => ApkToken::Digits(self.digits()),
            ('0'..='9', ApkToken::Suffix(_)) => ApkToken::SuffixNumber(self.number()),
            ('a'..='z', _) if after_number => {
                self.rest = &self.rest[1..];
                ApkToken::Letter(first)
            }
            ('_', _) if last.position() <= ApkToken::SuffixNumber(Decimal::ZERO).position() => self.suffix(),
            ('~', _) if last.position() < ApkToken::Commit("").position() => self.commit(),
            ('-', _) if last.position() < ApkToken::Revision(Decimal::ZERO).position() => self.revision(),
            _ => ApkToken::Invalid,
        }
    }

    fn digits(&mut self) -> &'a str {
        let (digits, rest) = split_digits(self.rest);
        self.rest = rest;
        digits
    }

    fn number(&mut self) -> Decimal<'a> {
        Decimal::new(self.digits())
    }

    fn suffix(&mut self) -> ApkToken<'a> {
        let (name, rest) = split_while(&self.rest[1..], |character| character.is_ascii_lowercase());
        self.rest = rest;
        let index =
            |names: &[&str]| names.iter().position(|known| *known == name).and_then(|index| i8::try_from(index).ok());
        match (index(&BEFORE), index(&AFTER)) {
            (Some(index), _) => ApkToken::Suffix(index - 4),
            (None, Some(index)) => ApkToken::Suffix(index + 1),
            (None, None) => ApkToken::Invalid,
        }
    }

    fn commit(&mut self) -> ApkToken<'a> {
        let (commit, rest) = split_while(&self.rest[1..], |character| character.is_ascii_hexdigit());
        self.rest = rest;
        if commit.is_empty() { ApkToken::Invalid } else { ApkToken::Commit(commit) }
    }

    fn revision(&mut self) -> ApkToken<'a> {
        let Some(rest) = self.rest.strip_prefix("-r") else { return ApkToken::Invalid };
        if !rest.is_empty() && !rest.starts_with(|next: char| next.is_ascii_digit() || next == '-') {
            return ApkToken::Invalid;
        }
        self.rest = rest;
        ApkToken::Revision(self.number())
    }
}
