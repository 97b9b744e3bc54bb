//! The number of sets to which different members can be assigned.

use std::collections::{BTreeMap, BTreeSet};

/// The largest number of sets to which one of their own members can be assigned without using a member twice. This is
/// the size of the largest partial system of distinct representatives. Thresholds use this number to count signers,
/// because a signer with two names counts once.
///
/// An earlier choice may have to be undone: `{x, y}` and `{x}` can both get a member only if the first one gets `y`.
/// The function therefore searches for augmenting paths (Kuhn's algorithm for bipartite matching). Graph libraries
/// implement this too, but they need a graph, and here there are only a few small sets.
pub fn distinct<'a, T: Ord + 'a>(sets: impl IntoIterator<Item = &'a BTreeSet<T>>) -> usize {
    let mut matching = Matching { sets: sets.into_iter().collect(), holders: BTreeMap::new() };
    (0..matching.sets.len()).filter(|&set| matching.place(set, &mut BTreeSet::new())).count()
}

struct Matching<'a, T> {
    sets: Vec<&'a BTreeSet<T>>,
    /// The set to which each member is assigned.
    holders: BTreeMap<&'a T, usize>,
}

impl<'a, T: Ord> Matching<'a, T> {
    /// Assigns to a set a member that is free, or whose current set can take another member.
    fn place(&mut self, set: usize, tried: &mut BTreeSet<&'a T>) -> bool {
        let members: &'a BTreeSet<T> = self.sets[set];
        for member in members {
            if !tried.insert(member) {
                continue;
            }
            let holder = self.holders.get(member).copied();
            if holder.is_none_or(|holder| self.place(holder, tried)) {
                self.holders.insert(member, set);
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::*;

    fn count(sets: &[&[u8]]) -> usize {
        let sets: Vec<BTreeSet<u8>> = sets.iter().map(|set| set.iter().copied().collect()).collect();
        distinct(&sets)
    }

    #[test]
    fn one_member_counts_once() {
        for (sets, expected) in [
            (&[][..], 0),
            (&[&[][..]][..], 0),
            (&[&[1][..], &[1]], 1),
            (&[&[1, 2], &[1]], 2),
            (&[&[1, 2], &[1], &[2]], 2),
            (&[&[1, 2], &[2, 3], &[1]], 3),
            (&[&[1, 2, 3], &[1], &[1, 2]], 3),
        ] {
            assert_eq!(count(sets), expected, "{sets:?}");
        }
    }

    /// Tries every possible choice.
    fn by_force(sets: &[BTreeSet<u8>], taken: &mut BTreeSet<u8>) -> usize {
        let Some((first, rest)) = sets.split_first() else { return 0 };
        let mut best = by_force(rest, taken);
        for &member in first {
            if taken.insert(member) {
                best = best.max(1 + by_force(rest, taken));
                taken.remove(&member);
            }
        }
        best
    }

    proptest! {
        #[test]
        fn result_is_the_largest_possible(sets in vec(btree_set(0u8..5, 0..4), 0..5)) {
            prop_assert_eq!(distinct(&sets), by_force(&sets, &mut BTreeSet::new()));
        }
    }
}
