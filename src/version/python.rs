//! Versions of Python distributions: PEP 440, with numbers of any length, as the library `packaging` compares them.

use std::cmp::Ordering;

use super::number::{Decimal, split_digits};
use super::range::Operator;

/// A version of a Python distribution.
#[derive(Debug)]
pub(super) enum PythonVersion<'a> {
    /// A text that PEP 440 does not allow: `4.2-SNAPSHOT`, `2004d`. `packaging` 22 and pip 24.1 refuse it. Older tools
    /// ordered it before every version, which would hide it from advisories that begin at one. It has no place in the
    /// order, and is equal to itself only.
    Other(&'a str),
    /// A version as PEP 440 defines it.
    Standard(Pep440Version<'a>),
}

/// The parts of a version (PEP 440, "Version scheme").
#[derive(Clone, Debug)]
pub(super) struct Pep440Version<'a> {
    epoch: Decimal<'a>,
    /// The numbers, as many as are written.
    release: Vec<Decimal<'a>>,
    pre: Option<(PreRelease, Decimal<'a>)>,
    post: Option<Decimal<'a>>,
    dev: Option<Decimal<'a>>,
    /// The parts after `+`.
    local: Vec<LocalPart<'a>>,
}

/// The kinds of pre-releases, in their order.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum PreRelease {
    Alpha,
    Beta,
    Candidate,
}

/// A part of a local version. Words are before numbers.
#[derive(Clone, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum LocalPart<'a> {
    /// In lower case.
    Word(String),
    Number(Decimal<'a>),
}

/// The words for pre-releases. A word comes before the words that it begins with.
const PRE_RELEASES: [(&str, PreRelease); 8] = [
    ("alpha", PreRelease::Alpha),
    ("a", PreRelease::Alpha),
    ("beta", PreRelease::Beta),
    ("b", PreRelease::Beta),
    ("preview", PreRelease::Candidate),
    ("pre", PreRelease::Candidate),
    ("c", PreRelease::Candidate),
    ("rc", PreRelease::Candidate),
];
const POST_RELEASES: [(&str, ()); 3] = [("post", ()), ("rev", ()), ("r", ())];
const DEVELOPMENT: [(&str, ()); 1] = [("dev", ())];
/// What may separate the parts.
const SEPARATORS: [char; 3] = ['-', '_', '.'];

impl<'a> PythonVersion<'a> {
    pub(super) fn parse(text: &'a str) -> Self {
        Pep440Version::parse(text).map_or(Self::Other(text), Self::Standard)
    }

    /// Compares two versions. If one is not by PEP 440, the result only says whether they are equal.
    pub(super) fn compare(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Standard(a), Self::Standard(b)) => a.compare(b),
            (Self::Other(a), Self::Other(b)) => a.to_lowercase().cmp(&b.to_lowercase()),
            (Self::Other(_), Self::Standard(_)) => Ordering::Less,
            (Self::Standard(_), Self::Other(_)) => Ordering::Greater,
        }
    }

    /// The version, if it is one by PEP 440.
    pub(super) fn standard(&self) -> Option<&Pep440Version<'a>> {
        match self {
            Self::Standard(version) => Some(version),
            Self::Other(_) => None,
        }
    }
}

impl<'a> Pep440Version<'a> {
    /// Parses what the regular expression in PEP 440, appendix B, matches.
    fn parse(text: &'a str) -> Option<Self> {
        let text = text.trim();
        let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
        let with_epoch = number(text).and_then(|(epoch, rest)| Some((epoch, rest.strip_prefix('!')?)));
        let (epoch, rest) = with_epoch.unwrap_or((Decimal::ZERO, text));
        let (first, mut rest) = number(rest)?;
        let mut release = vec![first];
        while let Some((next, after)) = rest.strip_prefix('.').and_then(number) {
            release.push(next);
            rest = after;
        }
        let (pre, rest) = match labelled(rest, &PRE_RELEASES) {
            Some((kind, number, after)) => (Some((kind, number)), after),
            None => (None, rest),
        };
        let implicit = rest.strip_prefix('-').and_then(number);
        let post = implicit.or_else(|| labelled(rest, &POST_RELEASES).map(|((), number, after)| (number, after)));
        let (post, rest) = post.map_or((None, rest), |(number, after)| (Some(number), after));
        let dev = labelled(rest, &DEVELOPMENT);
        let (dev, rest) = dev.map_or((None, rest), |((), number, after)| (Some(number), after));
        let local = if rest.is_empty() { Vec::new() } else { local(rest.strip_prefix('+')?)? };
        Some(Self { epoch, release, pre, post, dev, local })
    }

    fn compare(&self, other: &Self) -> Ordering {
        let order = self.epoch.cmp(&other.epoch).then_with(|| self.trimmed().cmp(other.trimmed()));
        let order = order.then_with(|| self.pre_key().cmp(&other.pre_key())).then_with(|| self.post.cmp(&other.post));
        // A development release is before what it leads to.
        let dev = |version: &Self| (version.dev.is_none(), version.dev);
        order.then_with(|| dev(self).cmp(&dev(other))).then_with(|| self.local.cmp(&other.local))
    }

    /// The release without zeros at its end.
    fn trimmed(&self) -> &[Decimal<'a>] {
        let end = self.release.iter().rposition(|number| !number.is_zero()).map_or(0, |last| last + 1);
        &self.release[..end]
    }

    /// Orders `1.0.dev1`, `1.0a1` and `1.0`, which has the place of `1.0.post1`.
    fn pre_key(&self) -> (u8, Option<(PreRelease, Decimal<'a>)>) {
        let is_development = self.dev.is_some() && self.post.is_none();
        let place = if self.pre.is_some() { 1 } else { 2 * u8::from(!is_development) };
        (place, self.pre)
    }

    fn has_release_of(&self, other: &Self) -> bool {
        self.epoch == other.epoch && self.trimmed() == other.trimmed()
    }
}

/// Splits after a number.
fn number(text: &str) -> Option<(Decimal<'_>, &str)> {
    let (digits, rest) = split_digits(text);
    (!digits.is_empty()).then(|| (Decimal::new(digits), rest))
}

/// Splits after one of these words and its number, which is 0 if it is not written.
fn labelled<'a, T: Copy>(text: &'a str, labels: &[(&str, T)]) -> Option<(T, Decimal<'a>, &'a str)> {
    let text = text.strip_prefix(SEPARATORS).unwrap_or(text);
    let (kind, rest) = labels.iter().find_map(|(label, kind)| {
        let (start, rest) = text.split_at_checked(label.len())?;
        start.eq_ignore_ascii_case(label).then_some((*kind, rest))
    })?;
    let rest = rest.strip_prefix(SEPARATORS).unwrap_or(rest);
    let (number, rest) = number(rest).unwrap_or((Decimal::ZERO, rest));
    Some((kind, number, rest))
}

/// The parts of a local version.
fn local(text: &str) -> Option<Vec<LocalPart<'_>>> {
    let parts = text.split(SEPARATORS).map(|part| match number(part) {
        Some((number, "")) => Some(LocalPart::Number(number)),
        _ => (!part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric()))
            .then(|| LocalPart::Word(part.to_ascii_lowercase())),
    });
    parts.collect()
}

/// A version in a range.
#[derive(Debug)]
pub(super) struct PythonBound<'a> {
    text: &'a str,
    version: Pep440Version<'a>,
    /// `.*`: versions whose release begins like this one are equal to it.
    is_prefix: bool,
}

impl<'a> PythonBound<'a> {
    /// Parses `1.2`, and `1.2.*` for `==` and `!=`.
    pub(super) fn parse(operator: Operator, text: &'a str) -> Option<Self> {
        let (base, is_prefix) = text.strip_suffix(".*").map_or((text, false), |base| (base, true));
        let version = Pep440Version::parse(base)?;
        let is_release = version.pre.is_none() && version.post.is_none() && version.dev.is_none();
        let prefix_allowed = matches!(operator, Operator::Equal | Operator::NotEqual) && is_release;
        let compatible_allowed = version.release.len() > 1;
        let allowed = (!is_prefix || prefix_allowed) && (operator != Operator::Compatible || compatible_allowed);
        allowed.then_some(Self { text, version, is_prefix })
    }

    /// `text` is what `version` was parsed from.
    pub(super) fn accepts(&self, operator: Operator, version: &PythonVersion<'_>, text: &str) -> bool {
        let Some(full) = version.standard() else { return false };
        let bound = &self.version;
        let public = Pep440Version { local: Vec::new(), ..full.clone() };
        let release = &bound.release;
        match operator {
            Operator::Identical => text.trim().eq_ignore_ascii_case(self.text),
            Operator::Equal | Operator::NotEqual if self.is_prefix => {
                (operator == Operator::Equal) == begins_with(&public, bound, release.len())
            }
            // PEP 440 allows a local bound only for equality. Suppliers of rebuilt packages number their builds with
            // it, even in ranges: `>= 2.14.2+sp1`.
            _ if !bound.local.is_empty() && operator != Operator::Compatible => operator.accepts(full.compare(bound)),
            Operator::Compatible => public.compare(bound).is_ge() && begins_with(&public, bound, release.len() - 1),
            Operator::Greater if public.has_release_of(bound) => {
                let is_unrequested_post = public.post.is_some() && bound.post.is_none();
                full.local.is_empty() && !is_unrequested_post && public.compare(bound).is_gt()
            }
            Operator::Less => full.compare(bound).is_lt(),
            _ => operator.accepts(public.compare(bound)),
        }
    }
}

/// Whether the first numbers of the releases are equal, and the epochs.
fn begins_with(version: &Pep440Version<'_>, bound: &Pep440Version<'_>, length: usize) -> bool {
    let numbers = version.release.iter().copied().chain(std::iter::repeat(Decimal::ZERO));
    version.epoch == bound.epoch && bound.release.iter().take(length).copied().eq(numbers.take(length))
}
