//! Which certificates of a trusted root count, and when.

use serde_json::{Value, json};

use super::keyless::{V1, keyless, of_bundle, of_classic, root_of, sign};
use super::sigstore::{Instance, SIGNED_AT, Subject, time};
use super::*;
use crate::policy::TrustedRoot;

/// 99991231235959Z: no well-defined expiration (RFC 5280, section 4.1.2.5).
const NO_END: i64 = 253_402_300_799;
const YEAR: i64 = 365 * 86_400;

fn read(root: &Value) -> Result<TrustedRoot, String> {
    TrustedRoot::from_json("root", root.to_string().as_bytes())
}

#[tokio::test]
async fn a_certificate_may_have_no_end() {
    let instance = Instance::with_authority_until(NO_END).with_intermediate(NO_END, |_| {});
    let root = root_of(&instance.trusted_root());
    assert_eq!(root.parts()[0].until, None);
    let bundle = sign(&instance, &Subject::default(), V1);
    assert_verified(&of_bundle(&bundle, keyless(&instance.trusted_root())).await, "bundle");
}

#[tokio::test]
async fn an_authority_ends_with_its_certificates() {
    let instance = Instance::new().with_intermediate(SIGNED_AT + YEAR, |_| {});
    let root = root_of(&instance.trusted_root());
    assert_eq!(root.parts()[0].until.unwrap().as_second(), SIGNED_AT + YEAR);
}

/// A signature may bring the certificates between its own and the root. They count only if the root lists them, and for
/// as long as it says, although the anchor above them is valid for longer.
#[tokio::test]
async fn a_retired_intermediate_does_not_come_back_in_a_signature() {
    let instance = Instance::new().with_intermediate(SIGNED_AT + YEAR, |_| {});
    let leaf = instance.issue(&Subject::default());
    let payload = payload(&image().digest).to_string();
    let annotations = instance.classic_annotations(&leaf, payload.as_bytes(), V1);
    let bundle = sign(&instance, &Subject::default(), V1);
    let whole = instance.trusted_root();
    // The intermediate was retired, and the anchor goes on with another one.
    let mut retired = whole.clone();
    let authorities = retired["certificateAuthorities"].as_array_mut().unwrap();
    let mut anchor = authorities[0].clone();
    anchor["certChain"]["certificates"].as_array_mut().unwrap().remove(0);
    authorities[0]["validFor"]["end"] = time(SIGNED_AT - 1).into();
    authorities.push(anchor.clone());
    // The root lists the anchor alone.
    let mut unlisted = whole.clone();
    unlisted["certificateAuthorities"] = json!([anchor]);
    for (root, is_valid) in [(&whole, true), (&retired, false), (&unlisted, false)] {
        let outcome = of_classic(payload.as_bytes(), &annotations, keyless(root)).await;
        match is_valid {
            true => assert_verified(&outcome, "classic"),
            false => assert_refused(&outcome, "was not issued by an authority of the trusted root"),
        }
    }
    assert_verified(&of_bundle(&bundle, keyless(&whole)).await, "bundle");
    assert_refused(&of_bundle(&bundle, keyless(&retired)).await, "authority of the trusted root");
}

/// The certificate of an intermediate had expired when the signature was made, and the anchor was valid.
#[tokio::test]
async fn an_expired_intermediate_vouches_for_nothing() {
    for (until, is_valid) in [(SIGNED_AT + 60, true), (SIGNED_AT - 1, false)] {
        let instance = Instance::new().with_intermediate(until, |_| {});
        let payload = payload(&image().digest).to_string();
        let annotations = instance.classic_annotations(&instance.issue(&Subject::default()), payload.as_bytes(), V1);
        let outcome = of_classic(payload.as_bytes(), &annotations, keyless(&instance.trusted_root())).await;
        assert_eq!(matches!(outcome, TrustOutcome::Verified { .. }), is_valid, "{outcome:?}");
    }
}

/// An intermediate counts because the anchor vouches for it, and never by itself.
#[test]
fn every_certificate_of_a_chain_must_be_vouched_for() {
    let changed = |change: fn(&mut rcgen::CertificateParams)| {
        Instance::new().with_intermediate(SIGNED_AT + YEAR, change).trusted_root()
    };
    let mut stranger = Instance::new().with_intermediate(SIGNED_AT + YEAR, |_| {}).trusted_root();
    let anchor = Instance::new().trusted_root()["certificateAuthorities"][0]["certChain"]["certificates"][0].clone();
    stranger["certificateAuthorities"][0]["certChain"]["certificates"][1] = anchor;
    let deep = Instance::new().with_intermediate(SIGNED_AT + YEAR, |_| {}).with_intermediate(SIGNED_AT + YEAR, |_| {});
    let mut empty = Instance::new().trusted_root();
    empty["certificateAuthorities"][0]["certChain"]["certificates"] = json!([]);
    for (root, part) in [
        (stranger, "was not issued by the next certificate"),
        (changed(|params| params.is_ca = rcgen::IsCa::ExplicitNoCa), "may not issue the certificates below it"),
        (deep.trusted_root(), "may not issue the certificates below it"),
        (
            changed(|params| params.extended_key_usages = vec![rcgen::ExtendedKeyUsagePurpose::ServerAuth]),
            "is not for signing code",
        ),
        (empty, "has no certificate"),
    ] {
        let why = read(&root).unwrap_err();
        assert!(why.contains("certificate authority 1") && why.contains(part), "{part}: {why}");
    }
}
