//! The ways in which signers can meet a combination of parts without counting twice.

use std::collections::BTreeSet;

use super::distinct::distinct;

/// The maximum number of steps in one search. Real policies need fewer than a hundred.
const MAX_STEPS: usize = 20_000;

/// Which signers can meet a requirement.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Ways {
    /// Any one of these signers. Nobody, if there are none.
    One(BTreeSet<String>),
    /// Every part. One signer may meet several parts.
    Every(Vec<Self>),
    /// At least this many of the parts, and at least one. No signer counts for two parts, or for two parts within them.
    AtLeast(usize, Vec<Self>),
}

impl Ways {
    /// No way.
    pub(super) fn none() -> Self {
        Self::One(BTreeSet::new())
    }

    /// At least `count` of the parts. Simplifies what has an equal form without nesting.
    pub(super) fn at_least(count: usize, parts: Vec<Self>) -> Self {
        let is_one = |part: &Self| matches!(part, Self::One(_));
        if count > parts.len() {
            return Self::none();
        }
        if count == 1 && parts.iter().all(is_one) {
            return Self::One(parts.iter().flat_map(Self::signers).collect());
        }
        if count < parts.len() {
            return Self::AtLeast(count, parts);
        }
        // All parts of a part of which all are needed are needed here.
        let inner = |part| match part {
            Self::AtLeast(count, parts) if count == parts.len() => parts,
            part => vec![part],
        };
        let parts: Vec<_> = parts.into_iter().flat_map(inner).collect();
        Self::AtLeast(parts.len(), parts)
    }

    /// All signers that some way uses.
    pub(super) fn signers(&self) -> BTreeSet<String> {
        match self {
            Self::One(signers) => signers.clone(),
            Self::Every(parts) | Self::AtLeast(_, parts) => parts.iter().flat_map(Self::signers).collect(),
        }
    }

    /// Whether there is a way. `None` if finding out takes too long.
    pub(super) fn exist(&self) -> Option<bool> {
        if let Self::AtLeast(count, parts) = self {
            let signers: Vec<_> = parts.iter().map(Self::signers).collect();
            let enough = distinct(&signers) >= *count;
            if !enough || parts.iter().all(|part| matches!(part, Self::One(_))) {
                return Some(enough);
            }
        }
        let mut steps = 0;
        let found = self.search(&BTreeSet::new(), &mut steps, &mut |_, _| true);
        if found || steps <= MAX_STEPS { Some(found) } else { None }
    }

    /// Calls `then` with the signers of each way that uses none of the `taken` signers, until it returns true.
    fn search(&self, taken: &BTreeSet<&str>, steps: &mut usize, then: &mut Visitor<'_>) -> bool {
        *steps += 1;
        if *steps > MAX_STEPS {
            return false;
        }
        match self {
            Self::One(signers) => {
                let mut free = signers.iter().filter(|signer| !taken.contains(signer.as_str()));
                free.any(|signer| then(&[signer.as_str()].into(), steps))
            }
            Self::Every(parts) => every(parts, taken, &BTreeSet::new(), steps, then),
            Self::AtLeast(count, parts) => at_least(*count, parts, taken, &BTreeSet::new(), steps, then),
        }
    }
}

/// Called with the signers of each way. Returns whether the search is over.
type Visitor<'a> = dyn FnMut(&BTreeSet<&str>, &mut usize) -> bool + 'a;

fn every(
    parts: &[Ways],
    taken: &BTreeSet<&str>,
    used: &BTreeSet<&str>,
    steps: &mut usize,
    then: &mut Visitor<'_>,
) -> bool {
    let Some((first, rest)) = parts.split_first() else { return then(used, steps) };
    first.search(taken, steps, &mut |way, steps| every(rest, taken, &(used | way), steps, then))
}

fn at_least(
    count: usize,
    parts: &[Ways],
    taken: &BTreeSet<&str>,
    used: &BTreeSet<&str>,
    steps: &mut usize,
    then: &mut Visitor<'_>,
) -> bool {
    if count == 0 {
        return then(used, steps);
    }
    let Some((first, rest)) = parts.split_first().filter(|_| count <= parts.len()) else { return false };
    let mut with_first = |way: &BTreeSet<&str>, steps: &mut usize| {
        // A part that needs no signer does not replace a signature.
        !way.is_empty() && at_least(count - 1, rest, taken, &(used | way), steps, then)
    };
    first.search(&(taken | used), steps, &mut with_first) || at_least(count, rest, taken, used, steps, then)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(keys: &str) -> Ways {
        Ways::One(keys.split_whitespace().map(str::to_owned).collect())
    }

    fn all(parts: &[Ways]) -> Ways {
        Ways::at_least(parts.len(), parts.to_vec())
    }

    fn some(count: usize, parts: &[Ways]) -> Ways {
        Ways::at_least(count, parts.to_vec())
    }

    #[test]
    fn a_signer_counts_once_at_every_depth() {
        for (ways, expected) in [
            (one(""), false),
            (all(&[all(&[one("a"), one("b")]), one("b")]), false),
            (all(&[all(&[one("a"), one("b")]), one("b c")]), true),
            (all(&[all(&[one("a"), one("b c")]), one("b")]), true),
            (all(&[some(2, &[one("a"), one("b"), one("c")]), one("a")]), true),
            (all(&[some(2, &[one("a"), one("b"), one("c")]), one("a"), one("b")]), false),
            (all(&[some(2, &[one("a"), one("b"), one("c"), one("d")]), one("a"), one("b")]), true),
            (some(2, &[all(&[one("a"), one("b")]), all(&[one("b"), one("c")]), one("c")]), true),
            (some(2, &[all(&[one("a"), one("b")]), all(&[one("b"), one("c")]), one("b")]), false),
            (some(1, &[all(&[one("a"), one("a")]), all(&[one("a"), one("b")])]), true),
            (all(&[some(1, &[all(&[one("a"), one("b")]), one("c")]), one("a")]), true),
            (all(&[some(1, &[all(&[one("a"), one("b")]), one("a")]), one("a")]), false),
            // Within `every`, one signer may meet several parts, but none outside of it.
            (all(&[Ways::Every(vec![one("a"), one("a")]), one("b")]), true),
            (all(&[Ways::Every(vec![one("a"), one("b")]), one("a")]), false),
            (all(&[Ways::Every(vec![one("a b"), one("b")]), one("a")]), true),
            (all(&[Ways::Every(vec![]), one("a")]), false),
        ] {
            assert_eq!(ways.exist(), Some(expected), "{ways:?}");
        }
    }

    #[test]
    fn a_search_ends() {
        let keys: Vec<_> = (0..14).map(|i| format!("k{i}")).collect();
        let part = || some(2, &[one(&keys.join(" ")), one(&keys.join(" ")), one(&keys.join(" "))]);
        assert_eq!(all(&vec![part(); 8]).exist(), None, "eight parts need sixteen keys");
        assert_eq!(all(&vec![part(); 7]).exist(), Some(true));
    }
}
