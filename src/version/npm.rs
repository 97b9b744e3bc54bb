//! Bounds in the ranges of npm (<https://github.com/npm/node-semver#ranges>).

use std::cmp::Ordering;

use super::number::{Decimal, is_number};
use super::range::Operator;
use super::semver::{SemverVersion, compare_prereleases};

/// A version in a range: the first numbers, and any value for the others.
#[derive(Debug)]
pub(super) struct NpmBound<'a> {
    /// At most three. What follows the last one may have any value.
    numbers: Vec<Decimal<'a>>,
    prerelease: &'a str,
}

impl<'a> NpmBound<'a> {
    /// Parses `1.2.3-rc.1`, `1.2`, `1.x`, `*`.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let is_wildcard = |part: &str| matches!(part, "x" | "X" | "*");
        let text = text.trim_start_matches(['v', '=']);
        let (release, build) = text.split_once('+').map_or((text, None), |(release, build)| (release, Some(build)));
        let (core, prerelease) = release.split_once('-').unwrap_or((release, ""));
        let parts: Vec<_> = core.split('.').collect();
        let has_rest = release.len() > core.len() || build.is_some();
        if parts.len() > 3 || !parts.iter().all(|part| is_wildcard(part) || is_number(part)) {
            return None;
        }
        let numbers: Vec<_> =
            parts.iter().take_while(|part| !is_wildcard(part)).map(|part| Decimal::new(part)).collect();
        // The rules of versions apply to what follows the numbers.
        let readable = !has_rest || SemverVersion::parse(&text.replace(['x', 'X', '*'], "0")).is_some();
        readable.then_some(Self { numbers, prerelease })
    }

    pub(super) fn accepts(&self, operator: Operator, version: &SemverVersion<'_>) -> bool {
        let limit = operator.limit(&self.numbers);
        operator.accepts(self.order_of(version)) && limit.is_none_or(|limit| version.is_before(&limit))
    }

    /// The order of a version to this bound. Versions that differ only where any value will do are equal to it.
    fn order_of(&self, version: &SemverVersion<'_>) -> Ordering {
        let mut numbers = version.numbers();
        for bound in &self.numbers {
            let order = numbers.next().unwrap_or_default().cmp(bound);
            if order.is_ne() {
                return order;
            }
        }
        if self.numbers.len() < 3 {
            return Ordering::Equal;
        }
        let more = numbers.any(|number| !number.is_zero());
        more.cmp(&false).then_with(|| compare_prereleases(version.prerelease(), self.prerelease))
    }
}
