//! Ranges of versions, as advisories write them.
//!
//! - `>= 1.2, < 1.4.5 || = 2.0`: alternatives, separated by `||`, of comparisons that all hold. Space and commas
//!   separate them.
//! - npm: also `^1.2`, `~1.2.3`, `1.x`, `1.0.0 - 2.0.0` (node-semver), with prereleases in their place in the order.
//! - Ruby: also `~> 1.2`. Go and Rust: also `~>`, `~` and `^`. PHP: the same, but `~` means `~>`, as in Composer.
//! - Python: also `~= 1.2`, `== 1.2.*` and `===` (PEP 440), with prereleases in their place in the order.
//! - Maven: also `[1.0,2.0)`, `(,1.0]`, `[1.0]`, several separated by commas.

use std::cmp::Ordering;

use super::npm::NpmBound;
use super::number::{Decimal, limit, split_while};
use super::python::PythonBound;
use super::{PackageVersion, ParsedVersion, UnreadableVersion, VersionScheme};

/// The maximum length of a range, in bytes. Some advisories list hundreds of versions.
const MAX_RANGE: usize = 64 << 10;

/// A set of versions.
///
/// ```text
/// VersionRange::parse(VersionScheme::Npm, "^1.2.3 || >=3.0.0 <3.1.4")  contains 1.9.0 and 3.1.3, and not 2.0.0
/// ```
#[derive(Debug)]
pub struct VersionRange<'a> {
    scheme: VersionScheme,
    alternatives: Vec<Vec<Comparison<'a>>>,
}

/// A condition for a version.
#[derive(Debug)]
struct Comparison<'a> {
    operator: Operator,
    bound: Bound<'a>,
    /// Whether the bound is written with a release, as versions of distributions have it.
    has_release: bool,
}

#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Operator {
    Caret,
    /// `~=` of Python.
    Compatible,
    Equal,
    Greater,
    GreaterOrEqual,
    /// `===` of Python.
    Identical,
    Less,
    LessOrEqual,
    NotEqual,
    /// `~>` of Ruby.
    Pessimistic,
    Tilde,
}

#[derive(Debug)]
enum Bound<'a> {
    Npm(NpmBound<'a>),
    Python(PythonBound<'a>),
    Version(PackageVersion<'a>),
}

impl<'a> VersionRange<'a> {
    /// Parses a range.
    ///
    /// # Errors
    ///
    /// The text is longer than 64 KiB, does not follow the grammar, or contains a version that cannot be read.
    pub fn parse(scheme: VersionScheme, text: &'a str) -> Result<Self, UnreadableVersion> {
        if text.len() > MAX_RANGE {
            return Err(UnreadableVersion::range(text));
        }
        let alternatives = if scheme == VersionScheme::Maven && text.contains(['[', '(']) {
            intervals(text)?
        } else {
            text.split("||").map(|alternative| comparisons(scheme, alternative)).collect::<Result<_, _>>()?
        };
        Ok(Self { scheme, alternatives })
    }

    /// Whether the range contains the version.
    ///
    /// # Errors
    ///
    /// The version cannot be read.
    pub fn contains(&self, version: &str) -> Result<bool, UnreadableVersion> {
        let parsed = PackageVersion::parse(self.scheme, version)?;
        if !parsed.is_ordered() {
            return Err(UnreadableVersion::version(version));
        }
        Ok(self.any(|comparison| comparison.holds(&parsed, version)))
    }

    /// The same for a version of a distribution, where a bound without a release (`<= 5.6.1`, `= 5.6.1`) includes each
    /// release of its version (`5.6.1-1.fc40`).
    ///
    /// # Errors
    ///
    /// The version cannot be read.
    pub fn contains_release(&self, version: &str) -> Result<bool, UnreadableVersion> {
        let Some((bare, _)) = version.rsplit_once('-') else { return self.contains(version) };
        let (whole, without) =
            (PackageVersion::parse(self.scheme, version)?, PackageVersion::parse(self.scheme, bare)?);
        Ok(self.any(|one| one.holds(&whole, version) || (!one.has_release && one.holds(&without, bare))))
    }

    fn any(&self, holds: impl Fn(&Comparison<'a>) -> bool) -> bool {
        self.alternatives.iter().any(|all| all.iter().all(&holds))
    }
}

/// Parses comparisons that must all hold. None, and `*`, hold for every version.
fn comparisons(scheme: VersionScheme, text: &str) -> Result<Vec<Comparison<'_>>, UnreadableVersion> {
    let error = || UnreadableVersion::range(text);
    let mut rest = text.trim();
    if rest == "*" || (rest.is_empty() && scheme == VersionScheme::Npm) {
        return Ok(Vec::new());
    }
    if let (VersionScheme::Npm, Some((low, high))) = (scheme, rest.split_once(" - ")) {
        return Ok(vec![
            Comparison::new(scheme, Operator::GreaterOrEqual, low.trim())?,
            Comparison::new(scheme, Operator::LessOrEqual, high.trim())?,
        ]);
    }
    let mut all = Vec::new();
    while !rest.is_empty() {
        let (operator, after) = split_while(rest, |character| "<>=!~^".contains(character));
        let operator = Operator::parse(scheme, operator).ok_or_else(error)?;
        let after = after.trim_start();
        let end = after.find(|next: char| next.is_whitespace() || ",<>=".contains(next)).unwrap_or(after.len());
        let end = after[..end].find("!=").unwrap_or_else(|| end - usize::from(after[..end].ends_with('!')));
        let (bound, next) = after.split_at(end);
        all.push(Comparison::new(scheme, operator, bound)?);
        rest = next.trim_start_matches(|next: char| next.is_whitespace() || next == ',');
    }
    if all.is_empty() { Err(error()) } else { Ok(all) }
}

/// Parses intervals of Maven: `[1.0,2.0),[3.0]`.
fn intervals(text: &str) -> Result<Vec<Vec<Comparison<'_>>>, UnreadableVersion> {
    let error = || UnreadableVersion::range(text);
    let scheme = VersionScheme::Maven;
    let mut alternatives = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let start = rest.starts_with(['[', '(']).then_some(rest).ok_or_else(error)?;
        let end = start.find([']', ')']).ok_or_else(error)?;
        let (inner, includes_low, includes_high) =
            (&start[1..end], start.starts_with('['), start[end..].starts_with(']'));
        let mut all = Vec::new();
        if let Some((low, high)) = inner.split_once(',') {
            let low_operator = if includes_low { Operator::GreaterOrEqual } else { Operator::Greater };
            let high_operator = if includes_high { Operator::LessOrEqual } else { Operator::Less };
            for (operator, bound) in [(low_operator, low.trim()), (high_operator, high.trim())] {
                if !bound.is_empty() {
                    all.push(Comparison::new(scheme, operator, bound)?);
                }
            }
        } else {
            all.push(Comparison::new(scheme, Operator::Equal, inner.trim())?);
        }
        alternatives.push(all);
        rest = start[end + 1..].trim_start_matches(|next: char| next.is_whitespace() || ",|".contains(next));
    }
    Ok(alternatives)
}

impl Operator {
    fn parse(scheme: VersionScheme, text: &str) -> Option<Self> {
        use VersionScheme::{Composer, Gem, Npm, NuGet, Python, Semver};
        match (text, scheme) {
            ("" | "=" | "==", _) => Some(Self::Equal),
            ("!=", _) => Some(Self::NotEqual),
            (">", _) => Some(Self::Greater),
            (">=" | "=>", _) => Some(Self::GreaterOrEqual),
            ("<", _) => Some(Self::Less),
            ("<=" | "=<", _) => Some(Self::LessOrEqual),
            ("~>", Composer | Gem | NuGet | Semver) | ("~", Composer) => Some(Self::Pessimistic),
            ("~", Npm | NuGet | Semver) | ("~>", Npm) => Some(Self::Tilde),
            ("^", Composer | Npm | NuGet | Semver) => Some(Self::Caret),
            ("~=", Python) => Some(Self::Compatible),
            ("===", Python) => Some(Self::Identical),
            _ => None,
        }
    }

    /// Whether the operator holds for a version with this order to the bound. The others need more than an order.
    pub(super) fn accepts(self, order: Ordering) -> bool {
        match self {
            Self::Equal | Self::Identical => order.is_eq(),
            Self::NotEqual => order.is_ne(),
            Self::Greater => order.is_gt(),
            Self::GreaterOrEqual | Self::Caret | Self::Compatible | Self::Pessimistic | Self::Tilde => order.is_ge(),
            Self::Less => order.is_lt(),
            Self::LessOrEqual => order.is_le(),
        }
    }

    /// The first version that is no longer compatible with one of these numbers, for `~`, `~>` and `^`. `None` for other
    /// operators, and if there are no numbers.
    pub(super) fn limit(self, numbers: &[Decimal<'_>]) -> Option<String> {
        let all_but_last = numbers.len().saturating_sub(1);
        // How many leading numbers compatible versions share.
        let shared = match self {
            Self::Pessimistic => all_but_last.max(1),
            Self::Tilde => all_but_last.max(numbers.len().min(2)),
            Self::Caret => {
                let first = numbers.iter().position(|number| !number.is_zero());
                first.map_or(numbers.len(), |index| index + 1)
            }
            _ => return None,
        };
        numbers.get(..shared).filter(|numbers| !numbers.is_empty()).map(limit)
    }
}

impl<'a> Comparison<'a> {
    fn new(scheme: VersionScheme, operator: Operator, bound: &'a str) -> Result<Self, UnreadableVersion> {
        let error = || UnreadableVersion::version(bound);
        let has_release = bound.contains('-');
        let bound = match scheme {
            VersionScheme::Npm => Bound::Npm(NpmBound::parse(bound).ok_or_else(error)?),
            VersionScheme::Python => Bound::Python(PythonBound::parse(operator, bound).ok_or_else(error)?),
            _ => Bound::Version(PackageVersion::parse(scheme, bound)?),
        };
        Ok(Self { operator, bound, has_release })
    }

    /// `text` is what `version` was parsed from.
    fn holds(&self, version: &PackageVersion<'_>, text: &str) -> bool {
        let operator = self.operator;
        match (&self.bound, &version.0) {
            (Bound::Npm(bound), ParsedVersion::Npm(version)) => bound.accepts(operator, version),
            (Bound::Python(bound), ParsedVersion::Python(version)) => bound.accepts(operator, version, text),
            (Bound::Version(bound), _) => match (&version.0, &bound.0) {
                (ParsedVersion::Gem(version), ParsedVersion::Gem(bound)) if operator == Operator::Pessimistic => {
                    version.is_compatible_with(bound)
                }
                (ParsedVersion::Semver(version), ParsedVersion::Semver(bound)) => version.satisfies(operator, bound),
                (ParsedVersion::Composer(version), ParsedVersion::Composer(bound)) => {
                    version.satisfies(operator, bound)
                }
                _ => operator.accepts(version.compare(bound)),
            },
            _ => unreachable!("a range parses versions by its own scheme"),
        }
    }
}
