use std::sync::Arc;

use super::*;
use crate::policy::{Scheme, Signatory};

fn authority(name: &str) -> Arc<Authority> {
    Arc::new(Authority::new(name, Scheme::Unusable { why: name.into() }))
}

/// Evidence by the beginning of an authority's name: `skip`, `yes`, `no` or `open`.
fn evidence(names: &[&str]) -> TrustEvidence {
    let mut evidence = TrustEvidence::default();
    for name in names {
        let authority = authority(name);
        let value = match name.split('-').next().unwrap() {
            "skip" => TrustOutcome::NotRequired { why: "level skip".into() },
            "yes" => TrustOutcome::Verified {
                by: vec![Signatory::assumed((*name).into(), &authority)],
                found: vec![],
                unseen: None,
            },
            "no" => TrustOutcome::Unverified { found: vec![] },
            _ => TrustOutcome::unknown("no answer", true),
        };
        evidence.insert(authority.id().clone(), Observed { value, at: Timestamp::UNIX_EPOCH, until: None });
    }
    evidence
}

fn parts(names: &[&str]) -> Vec<Requirement> {
    names.iter().map(|name| Requirement::Authority(authority(name))).collect()
}

/// An authority that requires no signature is left out: it never takes the place of another one's signature.
#[test]
fn authorities_that_require_no_signature_are_left_out_of_combinations() {
    let at_least = |count, names: &[&str]| Requirement::AtLeast { count, of: parts(names) };
    for (requirement, names, passes) in [
        (parts(&["skip"]).remove(0), vec!["skip"], Some(true)),
        (Requirement::AllOf(parts(&["skip", "yes"])), vec!["skip", "yes"], Some(true)),
        (Requirement::AllOf(parts(&["skip", "no"])), vec!["skip", "no"], Some(false)),
        (Requirement::AllOf(parts(&["skip", "open"])), vec!["skip", "open"], None),
        (Requirement::AllOf(parts(&["skip-1", "skip-2"])), vec!["skip-1", "skip-2"], Some(true)),
        (Requirement::AnyOf(parts(&["skip", "yes"])), vec!["skip", "yes"], Some(true)),
        (Requirement::AnyOf(parts(&["skip", "no"])), vec!["skip", "no"], Some(false)),
        (Requirement::AnyOf(parts(&["skip"])), vec!["skip"], Some(true)),
        // All of them, as `allOf` of documents is read.
        (at_least(2, &["skip", "yes"]), vec!["skip", "yes"], Some(true)),
        (at_least(2, &["skip", "no"]), vec!["skip", "no"], Some(false)),
        (at_least(2, &["skip-1", "skip-2"]), vec!["skip-1", "skip-2"], Some(true)),
        (at_least(2, &["skip", "yes-1", "yes-2"]), vec!["skip", "yes-1", "yes-2"], Some(true)),
        (at_least(2, &["skip", "yes-1", "no"]), vec!["skip", "yes-1", "no"], Some(false)),
        (at_least(2, &["skip-1", "skip-2", "yes"]), vec!["skip-1", "skip-2", "yes"], Some(false)),
        (
            Requirement::AnyOf(vec![at_least(2, &["skip-1", "skip-2"]), parts(&["no"]).remove(0)]),
            vec!["skip-1", "skip-2", "no"],
            Some(false),
        ),
    ] {
        let verdict = verdict(&requirement, &evidence(&names), Timestamp::UNIX_EPOCH);
        let expected = match passes {
            Some(true) => matches!(verdict, Verdict::Pass(None)),
            Some(false) => matches!(&verdict, Verdict::Fail(reasons) if !reasons.is_empty()),
            None => matches!(verdict, Verdict::Unknown { temporary: true, .. }),
        };
        assert!(expected, "{requirement:?}: {verdict:?}");
    }
}
