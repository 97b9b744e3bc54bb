//! Signatures: combined requirements, thresholds, indexes and their images.

use super::*;

#[test]
fn combined_requirements_with_unknown_evidence() {
    let parts = || vec![by("a"), by("b"), by("c")];
    let at_least = |count| Requirement::AtLeast { count, of: parts() };
    let yes = Verified(None);
    for (requirement, outcomes, expected) in [
        (by("a"), [yes, Unsigned, Unsigned], 'P'),
        (by("a"), [Unsigned, yes, yes], 'F'),
        (by("a"), [Down, yes, yes], 'u'),
        (by("a"), [NoScheme, yes, yes], 'U'),
        (Requirement::AnyOf(parts()), [Unsigned, Down, yes], 'P'),
        (Requirement::AnyOf(parts()), [Unsigned, Down, Unsigned], 'u'),
        (Requirement::AnyOf(parts()), [Unsigned, NoScheme, Unsigned], 'U'),
        (Requirement::AnyOf(parts()), [Unsigned; 3], 'F'),
        (Requirement::AllOf(parts()), [yes; 3], 'P'),
        (Requirement::AllOf(parts()), [yes, yes, Down], 'u'),
        (Requirement::AllOf(parts()), [yes, Unsigned, Down], 'F'),
        (at_least(2), [yes, Unsigned, yes], 'P'),
        (at_least(2), [yes, Unsigned, Down], 'u'),
        (at_least(2), [yes, Unsigned, Unsigned], 'F'),
        (at_least(2), [Unsigned, Unsigned, Down], 'F'),
        (at_least(0), [Unsigned; 3], 'F'),
        (at_least(4), [yes; 3], 'F'),
        (Requirement::AnyOf(Vec::new()), [yes; 3], 'F'),
        (Requirement::AllOf(Vec::new()), [yes; 3], 'F'),
        (Requirement::AllOf(vec![by("a"), Requirement::AnyOf(vec![by("b"), by("c")])]), [yes, Unsigned, yes], 'P'),
        (Requirement::Accept, [Unsigned; 3], 'P'),
        (Requirement::Reject, [yes; 3], 'F'),
        (by("nobody asked"), [yes; 3], 'u'),
    ] {
        let [a, b, c] = outcomes;
        let verdict = trust(requirement.clone(), Kind::Image, &own(&[("a", a), ("b", b), ("c", c)]));
        assert_eq!(letter(&verdict), expected, "{requirement:?}");
    }
}

/// An authority `name` with keys, some of which have signed. A `?` at the end means that others may also have signed.
fn keyed(evidence: &mut TrustEvidence, name: &str, keys: &str, signed: &str) -> Requirement {
    let keys = keys.split(' ').map(PublicKey::for_test).collect();
    let authority = Arc::new(Authority::new(name, Scheme::cosign_keys(keys)));
    let (signed, is_open) = signed.strip_suffix('?').map_or((signed, false), |signed| (signed, true));
    let unknown = || Unseen { why: "a flood".into(), temporary: false };
    let outcome = match (verified(&signed.split_whitespace().collect::<Vec<_>>()), is_open) {
        (TrustOutcome::Verified { by, .. }, false) if by.is_empty() => TrustOutcome::Unverified { found: Vec::new() },
        (TrustOutcome::Verified { by, .. }, true) if by.is_empty() => TrustOutcome::unknown(unknown().why, false),
        (TrustOutcome::Verified { by, found, .. }, true) => {
            TrustOutcome::Verified { by, found, unseen: Some(unknown()) }
        }
        (outcome, _) => outcome,
    };
    evidence.insert(authority.id().clone(), Observed { value: outcome, at: NOW, until: None });
    Requirement::Authority(authority)
}

/// A threshold requires different keys, regardless of their names and of how authorities share them.
#[test]
fn thresholds_count_keys_and_not_names() {
    for (count, authorities, expected) in [
        // The keys, then the keys that signed.
        (2, &[("k", "k"), ("k", "k")][..], 'F'),
        (1, &[("k", "k"), ("k", "k")], 'P'),
        (2, &[("k", "k"), ("l", "l")], 'P'),
        (2, &[("k l", "k"), ("l k", "k")], 'F'),
        (2, &[("k l", "k l"), ("l k", "k l")], 'P'),
        (2, &[("k l", "k l"), ("k", "k")], 'P'),
        (2, &[("k", "k"), ("k l", "k l")], 'P'),
        (3, &[("k l", "k l"), ("k", "k"), ("l", "l")], 'F'),
        (2, &[("k", "k"), ("k", "k"), ("l", "")], 'F'),
        (2, &[("k", "k"), ("k", "k"), ("l", "?")], 'U'),
        // Both authorities have the shared key, and one may have another key.
        (2, &[("k l", "k?"), ("k", "k")], 'U'),
        (2, &[("k l", "k"), ("k", "k")], 'F'),
        (2, &[("k", "k?"), ("k", "k?")], 'F'),
        (2, &[("k", "?"), ("k", "?")], 'F'),
    ] {
        let mut findings = TrustFindings::default();
        let names = ["a", "b", "c"].into_iter().zip(authorities);
        let of: Vec<_> = names.map(|(name, (keys, signed))| keyed(&mut findings.own, name, keys, signed)).collect();
        let verdict = trust(Requirement::AtLeast { count, of: of.clone() }, Kind::Image, &findings);
        assert_eq!(letter(&verdict), expected, "{count} of {authorities:?}: {verdict:?}");
        // In Portieris, each requirement is evaluated separately.
        let all_signed = authorities.iter().all(|(_, signed)| !signed.trim_end_matches('?').is_empty());
        assert_eq!(letter(&trust(Requirement::AllOf(of), Kind::Image, &findings)) == 'P', all_signed);
    }
}

#[test]
fn nested_parts_need_different_signers() {
    let mut findings = TrustFindings::default();
    let [a, copy, b, c, d] = [("a", "k", "k"), ("copy", "k", "k"), ("b", "l", "l"), ("c", "m", ""), ("d", "n", "n")]
        .map(|(name, keys, signed)| keyed(&mut findings.own, name, keys, signed));
    let any = |of: [&Requirement; 2]| Requirement::AnyOf(of.map(Clone::clone).into());
    let two =
        |of: &[&Requirement]| Requirement::AtLeast { count: 2, of: of.iter().map(|&part| part.clone()).collect() };
    for (requirement, expected) in [
        (two(&[&a, &any([&copy, &c])]), 'F'),
        (two(&[&a, &any([&copy, &b])]), 'P'),
        (two(&[&any([&a, &b]), &copy]), 'P'),
        (two(&[&any([&a, &c]), &any([&copy, &c])]), 'F'),
        // The inner combination needs both keys, so neither is left for the outer one.
        (two(&[&a, &two(&[&copy, &b])]), 'F'),
        (two(&[&a, &two(&[&a, &b, &c])]), 'F'),
        (two(&[&a, &two(&[&d, &b])]), 'P'),
        (two(&[&a, &two(&[&a, &b, &d])]), 'P'),
        (two(&[&a, &two(&[&a, &copy, &c])]), 'F'),
    ] {
        assert_eq!(letter(&trust(requirement.clone(), Kind::Image, &findings)), expected, "{requirement:?}");
    }
    let Verdict::Fail(reasons) = trust(two(&[&a, &copy]), Kind::Image, &findings) else { panic!() };
    assert_eq!(reasons, ["2 different keys or identities must sign, and only 1 did, under 2 names"]);
}

#[test]
fn another_key_with_the_same_name_is_another_authority() {
    let renewed = Arc::new(Authority::new("a", Scheme::cosign_keys(vec![PublicKey::for_test("new")])));
    let verdict = trust(Requirement::Authority(renewed), Kind::Image, &own(&[("a", Verified(None))]));
    assert_eq!(letter(&verdict), 'u');
}

#[test]
fn evidence_expires() {
    let any = || Requirement::AnyOf(vec![by("a"), by("b")]);
    let all = || Requirement::AllOf(vec![by("a"), by("b")]);
    for (requirement, ends, expected) in [
        (any(), [Some(10), Some(20)], Verdict::Pass(Some(at(20)))),
        (all(), [Some(10), Some(20)], Verdict::Pass(Some(at(10)))),
        (any(), [Some(10), None], Verdict::Pass(None)),
        (all(), [Some(10), None], Verdict::Pass(Some(at(10)))),
        (any(), [Some(-1), Some(5)], Verdict::Pass(Some(at(5)))),
    ] {
        let found = own(&[("a", Verified(ends[0])), ("b", Verified(ends[1]))]);
        assert_eq!(trust(requirement, Kind::Image, &found), expected);
    }
    for ended in [0, -1] {
        assert_eq!(letter(&trust(by("a"), Kind::Image, &own(&[("a", Verified(Some(ended)))]))), 'u');
    }
    let rule = Rule { trust: Some(by("a")), ..Rule::default() };
    let Ok(permit) = image(rule, &own(&[("a", Verified(Some(7)))]), None, Kind::Image) else { panic!() };
    assert_eq!(permit.until(), Some(at(7)));
}

#[test]
fn trust_comes_from_indexes_and_children() {
    let digest = Digest::sha256(b"other");
    let one = |outcome| (digest, evidence(&[("a", outcome)]));
    for (own_outcome, inherited, children, expected) in [
        (Unsigned, vec![Verified(None)], vec![], 'P'),
        (Unsigned, vec![Unsigned, Verified(None)], vec![], 'P'),
        (Unsigned, vec![Unsigned], vec![], 'F'),
        (Unsigned, vec![Down], vec![], 'u'),
        (Down, vec![Unsigned], vec![], 'u'),
        (Down, vec![Verified(None)], vec![], 'P'),
        (Unsigned, vec![Verified(Some(-1))], vec![], 'u'),
        (Unsigned, vec![], vec![Verified(None), Verified(None)], 'P'),
        (Unsigned, vec![], vec![Verified(None), Unsigned], 'F'),
        (Unsigned, vec![], vec![Verified(None), Down], 'u'),
        (Verified(None), vec![], vec![Unsigned], 'P'),
    ] {
        let findings = TrustFindings {
            own: evidence(&[("a", own_outcome)]),
            inherited: inherited.into_iter().map(one).collect(),
            children: children.into_iter().map(one).collect(),
        };
        assert_eq!(letter(&trust(by("a"), Kind::Index, &findings)), expected);
    }
}

/// Which signatures count is the rule's to say.
#[test]
fn signatures_of_indexes_and_images_count_as_the_rule_says() {
    let digest = Digest::sha256(b"other");
    let one = |outcome| (digest, evidence(&[("a", outcome)]));
    let (good, bad) = (Verified(None), Unsigned);
    for (kind, own_outcome, inherited, children, [child, either, index]) in [
        // An index.
        (Kind::Index, good, vec![], vec![], ['F', 'P', 'P']),
        (Kind::Index, good, vec![], vec![good, bad], ['F', 'P', 'P']),
        (Kind::Index, bad, vec![], vec![good, good], ['P', 'P', 'F']),
        (Kind::Index, bad, vec![], vec![good, Down], ['u', 'u', 'F']),
        (Kind::Index, bad, vec![good], vec![], ['F', 'P', 'P']),
        // An image that an index lists.
        (Kind::Image, good, vec![bad], vec![], ['P', 'P', 'P']),
        (Kind::Image, bad, vec![good], vec![], ['F', 'P', 'P']),
        (Kind::Image, bad, vec![Down], vec![], ['F', 'u', 'u']),
    ] {
        let findings = TrustFindings {
            own: evidence(&[("a", own_outcome)]),
            inherited: inherited.into_iter().map(one).collect(),
            children: children.into_iter().map(one).collect(),
        };
        for (signed, expected) in [(SignedPart::Child, child), (SignedPart::Either, either), (SignedPart::Index, index)]
        {
            let rule = Rule { trust: Some(by("a")), signed, ..Rule::default() };
            let [trust, _] = trust_verdict(&rule, kind, &findings, NOW);
            assert_eq!(letter(&trust), expected, "{signed:?} {kind:?} {findings:?}");
        }
    }
}
