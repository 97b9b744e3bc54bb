//! Versions of Python distributions: PEP 440, and before them all other texts in the order that setuptools gave them.

use std::cmp::Ordering;
use std::str::FromStr;

use pep440_rs::Version;

use super::range::Operator;

/// A version of a Python distribution.
#[derive(Debug)]
pub(super) enum PythonVersion {
    /// A version that is invalid under PEP 440: the key by which `packaging.version.LegacyVersion` was ordered.
    Legacy(Vec<String>),
    /// A version as PEP 440 defines it.
    Standard(Version),
}

impl PythonVersion {
    /// Every text has a place in the order.
    pub(super) fn parse(text: &str) -> Self {
        Version::from_str(text).map_or_else(|_| Self::Legacy(legacy_key(text)), Self::Standard)
    }

    pub(super) fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Standard(a), Self::Standard(b)) => a.cmp(b),
            (Self::Legacy(a), Self::Legacy(b)) => a.cmp(b),
            (Self::Legacy(_), Self::Standard(_)) => Ordering::Less,
            (Self::Standard(_), Self::Legacy(_)) => Ordering::Greater,
        }
    }

    /// The version, if it is one by PEP 440.
    pub(super) fn standard(&self) -> Option<&Version> {
        match self {
            Self::Standard(version) => Some(version),
            Self::Legacy(_) => None,
        }
    }
}

/// A version in a range.
#[derive(Debug)]
pub(super) struct PythonBound<'a> {
    text: &'a str,
    version: Version,
    /// `.*`: versions whose release begins like this one are equal to it.
    is_prefix: bool,
}

impl<'a> PythonBound<'a> {
    /// Parses `1.2`, and `1.2.*` for `==` and `!=`.
    pub(super) fn parse(operator: Operator, text: &'a str) -> Option<Self> {
        let (base, is_prefix) = text.strip_suffix(".*").map_or((text, false), |base| (base, true));
        let version = Version::from_str(base).ok()?;
        let is_release = version.pre().is_none() && version.post().is_none() && version.dev().is_none();
        let prefix_allowed = matches!(operator, Operator::Equal | Operator::NotEqual) && is_release;
        let compatible_allowed = version.release().len() > 1;
        let allowed = (!is_prefix || prefix_allowed) && (operator != Operator::Compatible || compatible_allowed);
        allowed.then_some(Self { text, version, is_prefix })
    }

    /// `text` is what `version` was parsed from.
    pub(super) fn accepts(&self, operator: Operator, version: &PythonVersion, text: &str) -> bool {
        let Some(full) = version.standard() else { return false };
        let public = full.clone().without_local();
        let same_release = || public.only_release() == self.version.only_release();
        let release = self.version.release();
        match operator {
            Operator::Identical => text.trim().eq_ignore_ascii_case(self.text),
            Operator::Equal | Operator::NotEqual if self.is_prefix => {
                (operator == Operator::Equal) == begins_with(&public, &self.version, release.len())
            }
            // PEP 440 allows a local bound only for equality. Suppliers of rebuilt packages number their builds with
            // it, even in ranges: `>= 2.14.2+sp1`.
            _ if self.version.is_local() && operator != Operator::Compatible => {
                operator.accepts(full.cmp(&self.version))
            }
            Operator::Compatible => public >= self.version && begins_with(&public, &self.version, release.len() - 1),
            Operator::Greater if same_release() => {
                let is_unrequested_post = public.is_post() && !self.version.is_post();
                !full.is_local() && !is_unrequested_post && public > self.version
            }
            Operator::Less => *full < self.version,
            _ => operator.accepts(public.cmp(&self.version)),
        }
    }
}

/// Whether the first numbers of the releases are equal, and the epochs.
fn begins_with(version: &Version, bound: &Version, length: usize) -> bool {
    let number = |version: &Version, index: usize| version.release().get(index).copied().unwrap_or(0);
    version.epoch() == bound.epoch() && (0..length).all(|index| number(version, index) == number(bound, index))
}

/// What `_legacy_cmpkey` of `packaging` 21 returns.
fn legacy_key(text: &str) -> Vec<String> {
    let mut key: Vec<String> = Vec::new();
    for part in legacy_parts(&text.to_lowercase()).into_iter().chain(["*final".to_owned()]) {
        if part.starts_with('*') {
            if *part < *"*final" {
                while key.last().is_some_and(|last| last == "*final-") {
                    key.pop();
                }
            }
            while key.last().is_some_and(|last| last == "00000000") {
                key.pop();
            }
        }
        key.push(part);
    }
    key
}

/// Numbers with eight digits, and words that begin with `*`.
fn legacy_parts(mut text: &str) -> Vec<String> {
    let mut parts = Vec::new();
    while let Some(first) = text.chars().next() {
        let kind =
            |character: char| (character.is_ascii_digit(), character.is_ascii_lowercase(), ".-".contains(character));
        let is_single = ".-".contains(first);
        let end = text.find(|next| kind(next) != kind(first)).unwrap_or(text.len());
        let (part, rest) = text.split_at(if is_single { 1 } else { end });
        text = rest;
        match part {
            "." => {}
            "pre" | "preview" | "rc" => parts.push("*c".to_owned()),
            "-" => parts.push("*final-".to_owned()),
            "dev" => parts.push("*@".to_owned()),
            number if first.is_ascii_digit() => parts.push(format!("{number:0>8}")),
            word => parts.push(format!("*{word}")),
        }
    }
    parts
}
