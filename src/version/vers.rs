//! Ranges in the notation of the VERS specification (github.com/package-url/vers-spec):
//! `vers:npm/1.2.3|>=2.0.0|<5.0.0`.

use std::cmp::Ordering;

use percent_encoding::percent_decode_str;

use super::range::Operator;
use super::{PackageVersion, UnreadableVersion, VersionScheme, compare, is_equal};

/// The maximum length of a range, in bytes.
const MAX_RANGE: usize = 64 << 10;

/// A set of versions, written as a range of the VERS specification.
///
/// ```text
/// VersRange::parse(VersionScheme::Npm, "vers:npm/1.2.3|>=2.0.0|<5.0.0")  contains 1.2.3 and 4.9.9, and not 5.0.0
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct VersRange {
    scheme: VersionScheme,
    /// Versions that are contained.
    equal: Vec<String>,
    /// Versions that are not contained.
    unequal: Vec<String>,
    intervals: Vec<Interval>,
}

/// The versions between two bounds; `None` if there is no bound.
#[derive(Clone, Debug, PartialEq)]
struct Interval {
    low: Option<(Operator, String)>,
    high: Option<(Operator, String)>,
}

impl VersRange {
    /// Parses a range. Its versioning scheme must be this one.
    ///
    /// # Errors
    /// The text is longer than 64 KiB, does not follow the specification, or contains a version that cannot be read.
    pub fn parse(scheme: VersionScheme, text: &str) -> Result<Self, UnreadableVersion> {
        let error = || UnreadableVersion::range(text);
        let rest = text.strip_prefix("vers:").filter(|_| text.len() <= MAX_RANGE).ok_or_else(error)?;
        let (named, constraints) = rest.split_once('/').ok_or_else(error)?;
        if scheme_of(named) != Some(scheme) {
            return Err(error());
        }
        let mut range = Self { scheme, equal: Vec::new(), unequal: Vec::new(), intervals: Vec::new() };
        if constraints.trim() == "*" {
            range.intervals.push(Interval { low: None, high: None });
            return Ok(range);
        }
        let mut bounds: Vec<(Operator, String)> = Vec::new();
        for constraint in constraints.split('|') {
            let (operator, version) = constraint_of(constraint.trim()).ok_or_else(error)?;
            PackageVersion::parse(scheme, &version)?;
            match operator {
                Operator::Equal => range.equal.push(version),
                Operator::NotEqual => range.unequal.push(version),
                bound => {
                    // Every version was parsed. Maven's order has cycles, with which `sort_by` may panic.
                    let order = |known: &str| compare(scheme, known, &version).unwrap_or(Ordering::Equal);
                    let at = bounds.partition_point(|(_, known)| order(known).is_le());
                    bounds.insert(at, (bound, version));
                }
            }
        }
        range.intervals = intervals(bounds).ok_or_else(error)?;
        if range.intervals.is_empty() && range.equal.is_empty() {
            range.intervals.push(Interval { low: None, high: None });
        }
        Ok(range)
    }

    /// Whether the range contains the version.
    ///
    /// # Errors
    /// The version cannot be read.
    pub fn contains(&self, version: &str) -> Result<bool, UnreadableVersion> {
        PackageVersion::parse(self.scheme, version)?;
        self.contains_where(|operator, bound| self.holds(operator, version, bound))
    }

    /// The same for a version of a distribution, where a bound without a release (`<=5.6.1`, `5.6.1`) includes each
    /// release of its version (`5.6.1-1.fc40`).
    ///
    /// # Errors
    /// The version cannot be read.
    pub fn contains_release(&self, version: &str) -> Result<bool, UnreadableVersion> {
        let Some((bare, _)) = version.rsplit_once('-') else { return self.contains(version) };
        PackageVersion::parse(self.scheme, version)?;
        self.contains_where(|operator, bound| {
            Ok(self.holds(operator, version, bound)? || (!bound.contains('-') && self.holds(operator, bare, bound)?))
        })
    }

    fn holds(&self, operator: Operator, version: &str, bound: &str) -> Result<bool, UnreadableVersion> {
        if matches!(operator, Operator::Equal | Operator::NotEqual) {
            return is_equal(self.scheme, version, bound).map(|equal| equal == (operator == Operator::Equal));
        }
        compare(self.scheme, version, bound).map(|order| operator.accepts(order))
    }

    fn contains_where(
        &self,
        holds: impl Fn(Operator, &str) -> Result<bool, UnreadableVersion>,
    ) -> Result<bool, UnreadableVersion> {
        for other in &self.unequal {
            if !holds(Operator::NotEqual, other)? {
                return Ok(false);
            }
        }
        let within = |bound: &Option<(Operator, String)>| match bound {
            None => Ok(true),
            Some((operator, bound)) => holds(*operator, bound),
        };
        for interval in &self.intervals {
            if within(&interval.low)? && within(&interval.high)? {
                return Ok(true);
            }
        }
        for other in &self.equal {
            if holds(Operator::Equal, other)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}

/// The versioning schemes of the specification, which are also the types of package URLs.
pub fn scheme_of(name: &str) -> Option<VersionScheme> {
    Some(match name {
        "alpine" | "apk" => VersionScheme::Apk,
        "cargo" | "golang" | "semver" => VersionScheme::Semver,
        "nuget" => VersionScheme::NuGet,
        "composer" => VersionScheme::Composer,
        "deb" => VersionScheme::Deb,
        "gem" => VersionScheme::Gem,
        "maven" => VersionScheme::Maven,
        "npm" => VersionScheme::Npm,
        "pypi" => VersionScheme::Python,
        "rpm" => VersionScheme::Rpm,
        _ => return None,
    })
}

fn constraint_of(text: &str) -> Option<(Operator, String)> {
    let operators = [
        (">=", Operator::GreaterOrEqual),
        ("<=", Operator::LessOrEqual),
        ("!=", Operator::NotEqual),
        (">", Operator::Greater),
        ("<", Operator::Less),
        ("=", Operator::Equal),
    ];
    let found = operators.iter().find_map(|(sign, operator)| Some((*operator, text.strip_prefix(sign)?)));
    let (operator, version) = found.unwrap_or((Operator::Equal, text));
    let version = percent_decode_str(version.trim()).decode_utf8().ok()?;
    (!version.is_empty()).then(|| (operator, version.into_owned()))
}

/// The intervals between bounds in ascending order: lower and upper bounds take turns.
fn intervals(bounds: Vec<(Operator, String)>) -> Option<Vec<Interval>> {
    let mut found = Vec::new();
    let mut open: Option<(Operator, String)> = None;
    for (index, bound) in bounds.into_iter().enumerate() {
        match (bound.0, open.take()) {
            (Operator::Greater | Operator::GreaterOrEqual, None) => open = Some(bound),
            (Operator::Less | Operator::LessOrEqual, low) if low.is_some() || index == 0 => {
                found.push(Interval { low, high: Some(bound) });
            }
            _ => return None,
        }
    }
    found.extend(open.map(|low| Interval { low: Some(low), high: None }));
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_of_the_specification() {
        for (range, contained, others) in [
            ("vers:npm/1.2.3|>=2.0.0|<5.0.0", &["1.2.3", "2.0.0", "4.9.9"][..], &["1.2.4", "5.0.0"][..]),
            ("vers:pypi/0.0.0|0.0.1|0.0.2|0.0.3|1.0|2.0pre1", &["0.0.2", "2.0rc1"], &["0.9", "2004d"]),
            ("vers:pypi/2004d|!=2004e|1.0", &["2004d", "1.0"], &["2004e", "2004f", "1.1"]),
            ("vers:npm/<1.0.0|>=2.0.0|<3.0.0|>4.0.0", &["0.1.0", "2.5.0", "4.0.1"], &["1.0.0", "3.0.0", "4.0.0"]),
            ("vers:npm/>=1.0.0|!=1.5.0|<2.0.0", &["1.4.0"], &["1.5.0", "2.0.0"]),
            ("vers:npm/!=1.5.0", &["1.4.0"], &["1.5.0"]),
            ("vers:npm/*", &["0.0.1"], &[]),
            ("vers:deb/>=1%3A2.0|<1%3A3.0", &["1:2.5-1"], &["2.5-1"]),
            ("vers:npm/<=2.0.0", &["2.0.0"], &["2.0.1"]),
        ] {
            let kind = range.strip_prefix("vers:").and_then(|rest| rest.split_once('/')).unwrap().0;
            let parsed = VersRange::parse(scheme_of(kind).unwrap(), range).unwrap();
            for version in contained {
                assert_eq!(parsed.contains(version), Ok(true), "{range} {version}");
            }
            for version in others {
                assert_eq!(parsed.contains(version), Ok(false), "{range} {version}");
            }
        }
    }

    /// `1.sp` is before `1-alpha`, that before `1`, and that before `1.sp`: `sort_by` panics with such lists.
    #[test]
    fn bounds_of_an_order_with_cycles_do_not_panic() {
        for count in [48, 64] {
            let cycle = (0..count).map(|n: usize| [">1.sp", ">1-alpha", ">1"][n * n / 2 % 3]);
            let text = format!("vers:maven/{}", cycle.collect::<Vec<_>>().join("|"));
            assert!(VersRange::parse(VersionScheme::Maven, &text).is_err(), "several lower bounds");
        }
        let text = "vers:maven/<3|>=2|<1|>4";
        let range = VersRange::parse(VersionScheme::Maven, text).unwrap();
        let contained = ["0.9", "1", "2", "2.9", "3", "4", "5"].map(|version| range.contains(version).unwrap());
        assert_eq!(contained, [true, false, true, true, false, false, true], "in any order");
    }

    #[test]
    fn other_texts_are_errors() {
        for text in [
            "npm/1.0.0",
            "vers:npm",
            "vers:npm/",
            "vers:npm/>=",
            "vers:npm/1.0.0||2.0.0",
            "vers:npm/>1.0.0|>2.0.0",
            "vers:npm/<1.0.0|<2.0.0",
            "vers:npm/>1.0.0|<2.0.0|<3.0.0",
            "vers:npm/>=x.y",
            "vers:pypi/>=1",
            "vers:nuget/>=1",
        ] {
            assert!(VersRange::parse(VersionScheme::Npm, text).is_err(), "{text}");
        }
        let range = VersRange::parse(VersionScheme::Npm, "vers:npm/>=1.0.0").unwrap();
        assert!(range.contains("one").is_err());
        for (range, version) in [("vers:pypi/>=1.0", "2004d"), ("vers:pypi/<2004d", "1.0")] {
            let range = VersRange::parse(VersionScheme::Python, range).unwrap();
            assert!(range.contains(version).is_err(), "{version} has no place in the order");
        }
    }
}
