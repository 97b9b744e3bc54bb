//! Whether enough is known about who signed.

use std::collections::BTreeSet;

use crate::policy::{SameSigner, distinct};

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
/// Keys of one signer are the same signer here, as they are when the requirement is judged. An authority of which a
/// requirement may need several signers is listed once for each.
///
/// Proof, by König's theorem: a vertex cover of that size consists of some authorities and some signers. In a largest
/// matching each of them has a partner of its own: the signers of the cover have signed, and its authorities have
/// signers outside of it. Every other authority can only have signers of the cover, and whether each of them signed for
/// it is known. So everything is known about it, and each authority of the cover has a signer that nobody else needs.
pub(super) fn is_settled(authorities: impl IntoIterator<Item = Signers>, same: &SameSigner) -> bool {
    let of_signers = |Signers { signed, possible }: Signers| Signers {
        signed: same.signers(signed),
        possible: same.signers(possible),
    };
    let authorities: Vec<_> = authorities.into_iter().map(of_signers).collect();
    let signed: BTreeSet<&String> = authorities.iter().flat_map(|one| &one.signed).collect();
    let is_known = |one: &Signers| one.possible.difference(&one.signed).all(|signer| !signed.contains(signer));
    authorities.iter().all(is_known)
        && distinct(authorities.iter().map(|one| &one.signed)) >= distinct(authorities.iter().map(|one| &one.possible))
}

#[cfg(test)]
mod tests {
    use proptest::collection::{btree_set, vec};
    use proptest::prelude::*;

    use std::sync::Arc;

    use jiff::Timestamp;

    use super::*;
    use crate::policy::{
        Authority, Kind, Observed, Requirement, Rule, Scheme, Signatory, TrustEvidence, TrustFindings, TrustOutcome,
        Verdict, trust_verdict,
    };

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
            assert_eq!(is_settled(authorities.clone(), &SameSigner::default()), settled, "{authorities:?}");
        }
    }

    /// Keys of one signer are one signer. Otherwise the search would end before the signature that matters.
    #[test]
    fn joined_keys_are_one_signer() {
        let same = SameSigner::of([["primary", "subkey"].map(str::to_owned).into()]);
        let authorities = || [signers("primary", "primary"), signers("subkey", "subkey other")];
        assert!(is_settled(authorities(), &SameSigner::default()));
        assert!(!is_settled(authorities(), &same));
    }

    fn authority(number: usize) -> Arc<Authority> {
        Arc::new(Authority::new(number.to_string(), Scheme::Unusable { why: String::new() }))
    }

    fn requirement() -> impl Strategy<Value = Requirement> {
        let leaf = (0..3usize).prop_map(|number| Requirement::Authority(authority(number)));
        leaf.prop_recursive(3, 12, 3, |inner| {
            let parts = || vec(inner.clone(), 1..4);
            prop_oneof![
                parts().prop_map(Requirement::AllOf),
                parts().prop_map(Requirement::AnyOf),
                (1..4usize, parts()).prop_map(|(count, of)| Requirement::AtLeast { count, of }),
            ]
        })
    }

    fn passes(rule: &Rule, signed: &[BTreeSet<String>]) -> bool {
        let mut evidence = TrustEvidence::default();
        for (number, signed) in signed.iter().enumerate() {
            let authority = authority(number);
            let by: Vec<_> = signed.iter().map(|id| Signatory::assumed(id.clone(), &authority)).collect();
            let value = match by.is_empty() {
                true => TrustOutcome::Unverified { found: vec![] },
                false => TrustOutcome::Verified { by, found: vec![], unseen: None },
            };
            evidence.insert(authority.id().clone(), Observed { value, at: Timestamp::UNIX_EPOCH, until: None });
        }
        let findings = TrustFindings { own: evidence, ..TrustFindings::default() };
        matches!(trust_verdict(rule, Kind::Image, &findings, Timestamp::UNIX_EPOCH)[0], Verdict::Pass(_))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        /// Whatever combines the authorities, however deep: what comes later does not change a settled verdict.
        #[test]
        fn nothing_that_comes_later_changes_a_verdict(
            requirement in requirement(),
            now in vec(btree_set(0u8..4, 0..3), 3),
            later in vec(btree_set(0u8..4, 0..3), 3),
        ) {
            let text = |set: &BTreeSet<u8>| set.iter().map(u8::to_string).collect::<BTreeSet<_>>();
            let signed: Vec<_> = now.iter().map(text).collect();
            let possible: Vec<_> = now.iter().zip(&later).map(|(now, later)| text(&(now | later))).collect();
            let rule = Rule { trust: Some(requirement), ..Rule::default() };
            let by_need = rule.authorities_by_need().into_iter().map(|one| {
                let number: usize = one.name().parse().unwrap();
                Signers { signed: signed[number].clone(), possible: possible[number].clone() }
            });
            if is_settled(by_need, &SameSigner::default()) {
                prop_assert_eq!(passes(&rule, &signed), passes(&rule, &possible));
            }
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
            if is_settled(authorities.clone(), &SameSigner::default()) {
                let of = |pick: fn(&Signers) -> &BTreeSet<String>| {
                    distinct(authorities.iter().zip(&chosen).filter(|(_, chosen)| **chosen).map(|(one, _)| pick(one)))
                };
                prop_assert_eq!(of(|one| &one.signed), of(|one| &one.possible));
            }
        }
    }
}
