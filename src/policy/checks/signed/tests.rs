use std::sync::Arc;

use super::*;
use crate::policy::AuthorityId;
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

#[test]
fn a_threshold_that_too_few_parts_are_left_for_says_so() {
    let requirement = Requirement::AtLeast { count: 2, of: parts(&["skip-1", "skip-2", "yes"]) };
    let verdict = verdict(&requirement, &evidence(&["skip-1", "skip-2", "yes"]), Timestamp::UNIX_EPOCH);
    let wanted = "2 signatures are required, and only 1 part can have one here";
    assert!(matches!(&verdict, Verdict::Fail(reasons) if reasons.iter().any(|why| why == wanted)), "{verdict:?}");
}

fn verdict(requirement: &Requirement, evidence: &TrustEvidence, now: Timestamp) -> Verdict {
    let same = SameSigner::among(&requirement.authorities());
    super::verdict(requirement, SignerEvidence { evidence, same: &same }, now)
}

/// The outcome of an authority for which the keys with these identifiers have signed.
fn signed_by(authority: &Authority, ids: &[String]) -> (AuthorityId, Observed<TrustOutcome>) {
    let by = ids.iter().map(|id| Signatory::assumed(id.clone(), authority)).collect();
    let value = TrustOutcome::Verified { by, found: vec![], unseen: None };
    (authority.id().clone(), Observed { value, at: Timestamp::UNIX_EPOCH, until: None })
}

#[track_caller]
fn assert_one_signer(authorities: &[Authority], keys: &[String]) {
    let mut evidence = TrustEvidence::default();
    for (authority, key) in authorities.iter().zip(keys) {
        let (id, outcome) = signed_by(authority, std::slice::from_ref(key));
        evidence.insert(id, outcome);
    }
    let of = authorities.iter().map(|one| Requirement::Authority(Arc::new(one.clone()))).collect();
    match verdict(&Requirement::AtLeast { count: 2, of }, &evidence, Timestamp::UNIX_EPOCH) {
        Verdict::Fail(reasons) => assert!(reasons[0].contains("and only 1 did"), "{reasons:?}"),
        other => panic!("{other:?}"),
    }
}

/// A threshold that one key meets twice is met by one person. It does not matter how the key is written, and which
/// scheme it signs in.
#[cfg(feature = "gpg")]
#[test]
fn threshold_met_by_one_key_twice_in_different_schemes() {
    use crate::policy::{KeyRing, NotaryTrust, PublicKey, SignedIdentity, Signer, SignerKey, SimpleSigner};
    use aws_lc_rs::encoding::AsDer as _;
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    use sequoia_openpgp::packet::key::{Key4, PrimaryRole, SecretParts, SubordinateRole};
    use sequoia_openpgp::serialize::SerializeInto;
    use sequoia_openpgp::{Cert, Packet};

    let seed = [7; 32];
    let spki = Ed25519KeyPair::from_seed_unchecked(&seed).unwrap().public_key().as_der().unwrap().as_ref().to_vec();
    let key = PublicKey::from_spki(&spki).unwrap();
    let notary = |key| {
        let signers = vec![Signer { name: "alice".into(), key, validity: Default::default() }];
        Authority::new("notary", Scheme::Notary(NotaryTrust { signers, ..NotaryTrust::default() }))
    };
    let gpg = |cert: Cert| {
        let ring = KeyRing::from_bytes(&cert.strip_secret_key_material().to_vec().unwrap()).unwrap();
        let (identity, store) = (SignedIdentity::MatchExact, None);
        Authority::new("gpg", Scheme::Gpg(Box::new(SimpleSigner { keyrings: vec![ring.into()], identity, store })))
    };
    let made = |name: &str| {
        let other = Key4::<SecretParts, PrimaryRole>::import_secret_ed25519(&[name.len() as u8; 32], None).unwrap();
        Packet::SecretKey(other.into())
    };
    let primary: Key4<SecretParts, PrimaryRole> = Key4::import_secret_ed25519(&seed, None).unwrap();
    let bare = gpg(Cert::from_packets(std::iter::once(Packet::SecretKey(primary.into()))).unwrap());
    let (cosign, pinned) =
        (Authority::new("cosign", Scheme::cosign_keys(vec![key.clone()])), notary(SignerKey::Key(key)));
    let id = cosign.signers().first().unwrap().clone();
    for authority in [&pinned, &bare] {
        assert_eq!(authority.signers(), cosign.signers(), "{}", authority.name());
    }
    assert_one_signer(&[cosign.clone(), pinned.clone(), bare], &[id.clone(), id.clone(), id.clone()]);
    // As a subkey, it belongs to the signer who has the primary key.
    let subkey: Key4<SecretParts, SubordinateRole> = Key4::import_secret_ed25519(&seed, None).unwrap();
    let with_subkey =
        gpg(Cert::from_packets([made("other"), Packet::SecretSubkey(subkey.into())].into_iter()).unwrap());
    let primary_id = with_subkey.signers().first().unwrap().clone();
    assert_ne!(primary_id, id);
    assert_one_signer(&[cosign, with_subkey], &[id, primary_id]);
}

/// Both parts of the inner combination need their key, so neither counts for the outer one as well.
#[test]
fn nested_thresholds_count_a_key_once() {
    let keys = ["dev", "qa", "security"].map(authority);
    let of = |authority: &Arc<Authority>| Requirement::Authority(authority.clone());
    let two = |of: Vec<Requirement>| Requirement::AtLeast { count: 2, of };
    let nested = two(vec![two(vec![of(&keys[0]), of(&keys[1])]), of(&keys[2])]);
    for (signed, passes) in [(["a", "b", "b"], false), (["a", "b", "a"], false), (["a", "b", "c"], true)] {
        let mut evidence = TrustEvidence::default();
        for (authority, key) in keys.iter().zip(signed) {
            let (id, outcome) = signed_by(authority, &[key.to_owned()]);
            evidence.insert(id, outcome);
        }
        match verdict(&nested, &evidence, Timestamp::UNIX_EPOCH) {
            Verdict::Pass(None) => assert!(passes, "{signed:?}"),
            Verdict::Fail(reasons) => {
                assert!(!passes && reasons[0].contains("counts toward only one part"), "{signed:?}: {reasons:?}");
            }
            other => panic!("{signed:?}: {other:?}"),
        }
    }
}
