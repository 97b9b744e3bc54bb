//! Whether enough is known about who signed.

use std::collections::BTreeSet;

use crate::policy::distinct;

/// What is known about the signers of one authority.
#[derive(Clone, Debug, Default)]
pub(super) struct Signers {
    /// Everyone who has signed.
    pub(super) signed: BTreeSet<String>,
    /// Everyone who may have signed, as far as is known; includes those who have.
    pub(super) possible: BTreeSet<String>,
}

/// Whether no other signature can change what any requirement over these authorities makes of the outcomes: as many
/// authorities as ever can have a signer to themselves, and whether a signer of one has signed for another is known.
///
/// Proof, by König's theorem: a vertex cover of that size consists of some authorities and some signers. In a largest
/// matching each of them has a partner of its own: the signers of the cover have signed, and its authorities have
/// signers outside of it. Every other authority can only have signers of the cover, and whether each of them signed for
/// it is known. So everything is known about it, and each authority of the cover has a signer that nobody else needs.
pub(super) fn is_settled(authorities: &[Signers]) -> bool {
    let signed: BTreeSet<&String> = authorities.iter().flat_map(|one| &one.signed).collect();
    let is_known = |one: &Signers| one.possible.difference(&one.signed).all(|signer| !signed.contains(signer));
    authorities.iter().all(is_known)
        && distinct(authorities.iter().map(|one| &one.signed)) >= distinct(authorities.iter().map(|one| &one.possible))
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use super::*;

    fn signers(signed: &str, possible: &str) -> Signers {
        let set = |text: &str| text.split_whitespace().map(str::to_owned).collect();
        Signers { signed: set(signed), possible: set(possible) }
    }

    #[test]
    fn other_signatures_are_waited_for_where_they_may_matter() {
        for (authorities, settled) in [
            (vec![], true),
            (vec![signers("", "")], true),
            (vec![signers("", "k")], false),
            (vec![signers("k", "k l")], true),
            (vec![signers("k", "k"), signers("k", "k")], true),
            (vec![signers("k", "k l"), signers("k", "k")], false),
            (vec![signers("k", "k"), signers("", "l")], false),
            (vec![signers("k", "k"), signers("", "")], true),
            // The shared key signed, but for the second authority that was not looked up yet.
            (vec![signers("k", "k"), signers("", "k")], false),
            (vec![signers("k", "k"), signers("m", "k m"), signers("m", "m")], false),
        ] {
            assert_eq!(is_settled(&authorities), settled, "{authorities:?}");
        }
    }

    proptest! {
        /// However signers turn out, a settled set meets every threshold over any of its authorities as it does now.
        #[test]
        fn nothing_that_comes_later_changes_a_threshold(
            now in vec(btree_set(0u8..4, 0..4), 0..5),
            later in vec(btree_set(0u8..4, 0..3), 5),
            chosen in vec(any::<bool>(), 5),
        ) {
            let text = |set: &BTreeSet<u8>| set.iter().map(u8::to_string).collect::<BTreeSet<_>>();
            let authorities: Vec<_> = now
                .iter()
                .zip(&later)
                .map(|(now, later)| Signers { signed: text(now), possible: text(&(now | later)) })
                .collect();
            if is_settled(&authorities) {
                let of = |pick: fn(&Signers) -> &BTreeSet<String>| {
                    distinct(authorities.iter().zip(&chosen).filter(|(_, chosen)| **chosen).map(|(one, _)| pick(one)))
                };
                prop_assert_eq!(of(|one| &one.signed), of(|one| &one.possible));
            }
        }
    }
}
