//! Versions of Composer (github.com/composer/semver, `VersionParser::normalize`), in the order of PHP's
//! `version_compare`.

use std::cmp::Ordering;

use super::number::{Decimal, split_while};
use super::range::Operator;

/// The value of `x` in the name of a branch, `1.2.x-dev`.
const ANY: &str = "9999999";

/// A version of Composer: `v1.2.3`, `1.2.3-beta1`, `1.2.3-p1`, `1.2.x-dev`.
#[derive(Debug)]
pub(super) struct ComposerVersion<'a> {
    numbers: Vec<Decimal<'a>>,
    stage: Stability,
    /// The numbers after the stage: of `beta1.2` 1 and 2.
    stage_numbers: Vec<Decimal<'a>>,
    is_dev: bool,
}

#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Stability {
    Dev,
    Alpha,
    Beta,
    Candidate,
    Stable,
    Patch,
}

impl<'a> ComposerVersion<'a> {
    /// Parses a version. Branches with a name (`dev-main`) have no place in the order.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let text = text.strip_prefix(['v', 'V']).unwrap_or(text);
        let text = text.split_once('+').map_or(text, |(version, _)| version);
        let is_numbers = |character: char| character.is_ascii_digit() || matches!(character, '.' | 'x' | 'X' | '*');
        let (numbers, rest) = split_while(text, is_numbers);
        // The dot before a stage, `1.0.beta1`.
        let numbers = numbers.strip_suffix('.').filter(|_| !rest.is_empty()).unwrap_or(numbers);
        let mut parts = Vec::new();
        for part in numbers.split('.') {
            let is_any = matches!(part, "x" | "X" | "*");
            let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
            parts.push(Decimal::new(if is_any { ANY } else { Some(part).filter(|_| is_number)? }));
        }
        let is_branch = numbers.contains(['x', 'X', '*']);
        let (rest, is_dev) = without_dev(rest.strip_prefix(['.', '-', '_']).unwrap_or(rest));
        if rest.is_empty() && is_dev {
            // All numbers that a branch does not name are the greatest.
            parts.resize(parts.len().max(4), Decimal::new(if is_branch { ANY } else { "0" }));
            return Some(Self { numbers: parts, stage: Stability::Dev, stage_numbers: Vec::new(), is_dev });
        }
        let (word, numbers) = split_while(rest, |character| character.is_ascii_alphabetic());
        let stage = stage(word)?;
        let numbers = split_while(numbers, |character| character.is_ascii_digit() || ".-".contains(character));
        let is_list = numbers.1.is_empty() && !is_branch;
        let stage_numbers = numbers.0.split(['.', '-']).filter(|part| !part.is_empty()).map(Decimal::new);
        is_list.then(|| Self { numbers: parts, stage, stage_numbers: stage_numbers.collect(), is_dev })
    }

    pub(super) fn compare(&self, other: &Self) -> Ordering {
        let number = |version: &Self, index: usize| version.numbers.get(index).copied().unwrap_or(Decimal::ZERO);
        let count = self.numbers.len().max(other.numbers.len());
        let orders = (0..count).map(|index| number(self, index).cmp(&number(other, index)));
        orders
            .fold(Ordering::Equal, Ordering::then)
            .then(self.stage.cmp(&other.stage))
            .then_with(|| self.stage_numbers.cmp(&other.stage_numbers))
            .then(other.is_dev.cmp(&self.is_dev))
    }

    /// Whether the version is in the range that an operator and a bound make. Composer's `~1.2`, which is `>=1.2 <2`,
    /// is pessimistic. Trivy reads it as `>=1.2 <1.3`, which is a part of that. As in Trivy, prereleases of the limit
    /// are in the range.
    pub(super) fn satisfies(&self, operator: Operator, bound: &Self) -> bool {
        let limit = operator.limit(&bound.numbers);
        operator.accepts(self.compare(bound)) && limit.is_none_or(|limit| self.is_before(&limit))
    }

    /// Whether the version is before the one with these numbers and no stage.
    fn is_before(&self, numbers: &str) -> bool {
        ComposerVersion::parse(numbers).is_none_or(|limit| self.compare(&limit).is_lt())
    }
}

/// The text without a final `dev`, and whether it ended with `dev`.
fn without_dev(text: &str) -> (&str, bool) {
    match text.split_at_checked(text.len().wrapping_sub(3)) {
        Some((rest, end)) if end.eq_ignore_ascii_case("dev") => {
            (rest.strip_suffix(['.', '-', '_']).unwrap_or(rest), true)
        }
        _ => (text, false),
    }
}

fn stage(word: &str) -> Option<Stability> {
    Some(match word.to_ascii_lowercase().as_str() {
        "" | "stable" => Stability::Stable,
        "a" | "alpha" => Stability::Alpha,
        "b" | "beta" => Stability::Beta,
        "rc" => Stability::Candidate,
        "p" | "pl" | "patch" => Stability::Patch,
        _ => return None,
    })
}
