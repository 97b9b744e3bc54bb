//! Signatures by certificate, and signatures by key that must be logged, with an instance of Sigstore made in the test.

use rcgen::ExtendedKeyUsagePurpose;
use x509_cert::der::{Decode as _, Encode as _};

use super::sigstore::{
    Content as Signed, IDENTITY, ISSUER, Instance, Leaf, Logging, SIGNED_AT, Subject, Witnessed, pem, time,
};
use super::*;
use crate::oci::ImageReference;
use crate::policy::{AnchoredRegex, FulcioClaim, TransparencyLog, TrustedRoot};
use claims::verify_at;

mod claims;
mod fuzz;
mod log_entries;
mod logged_keys;

pub(super) const V1: Witnessed = Witnessed { logging: Logging::V1, is_stamped: false, at: SIGNED_AT };
const V2: Witnessed = Witnessed { logging: Logging::V2, is_stamped: true, at: SIGNED_AT };

fn exact(text: &str) -> TextPattern {
    TextPattern::Exact(text.to_owned())
}

pub(super) fn root_of(root: &Value) -> TrustedRoot {
    TrustedRoot::from_json("trusted_root.json", root.to_string().as_bytes()).unwrap()
}

pub(super) fn keyless(root: &Value) -> CosignAuthority {
    let signers = Keyless { issuer: exact(ISSUER), identity: exact(IDENTITY), claims: BTreeMap::new() };
    CosignAuthority {
        signers: CosignSigners::Keyless(signers),
        log: TransparencyLog::Require,
        roots: vec![root_of(root)],
        ..CosignAuthority::of_keys(vec![])
    }
}

fn authority(cosign: CosignAuthority) -> Arc<Authority> {
    Arc::new(Authority::new("ci", Scheme::Cosign(cosign.into())))
}

/// The authority with some of its conditions changed.
fn wanting(root: &Value, change: impl FnOnce(&mut Keyless)) -> CosignAuthority {
    let mut cosign = keyless(root);
    let CosignSigners::Keyless(signers) = &mut cosign.signers else { panic!() };
    change(signers);
    cosign
}

pub(super) async fn of_bundle(bundle: &Value, cosign: CosignAuthority) -> TrustOutcome {
    Registry::with_bundle(bundle).judge(&[authority(cosign)]).await.remove(0)
}

pub(super) async fn of_classic(payload: &[u8], annotations: &Value, cosign: CosignAuthority) -> TrustOutcome {
    let mut registry = Registry::new(Api::Absent);
    let mut layer = registry.push_blob(SIMPLE_SIGNING, payload.to_vec());
    layer["annotations"] = annotations.clone();
    let manifest = manifest_json(&json!([layer]), None);
    registry.manifests.insert(format!("sha256-{}.sig", image().digest.hex()), manifest.to_string().into());
    registry.judge(&[authority(cosign)]).await.remove(0)
}

/// An instance, a signer, and a bundle of the image that counts.
fn signed(witnessed: Witnessed) -> (Instance, Leaf, Value) {
    let instance = Instance::new();
    let leaf = instance.issue(&Subject::default());
    let bundle = instance.bundle(&leaf, Signed::Statement(&statement(&image().digest)), witnessed);
    (instance, leaf, bundle)
}

pub(super) fn sign(instance: &Instance, subject: &Subject, witnessed: Witnessed) -> Value {
    instance.bundle(&instance.issue(subject), Signed::Statement(&statement(&image().digest)), witnessed)
}

#[tokio::test]
async fn keyless_signatures_in_every_form() {
    let (instance, leaf, _) = signed(V1);
    let root = instance.trusted_root();
    let (statement, bytes) = (statement(&image().digest), image().bytes);
    for witnessed in [V1, V2, Witnessed { is_stamped: true, ..V1 }] {
        for content in [Signed::Statement(&statement), Signed::Message(&bytes)] {
            let outcome = of_bundle(&instance.bundle(&leaf, content, witnessed), keyless(&root)).await;
            assert_verified(&outcome, &format!("{IDENTITY:?} (issuer {ISSUER:?}, bundle)"));
            let TrustOutcome::Verified { by, .. } = &outcome else { panic!() };
            assert_eq!(by[0].signed_at.unwrap().as_second(), SIGNED_AT);
        }
    }
    let payload = payload(&image().digest).to_string();
    for witnessed in [V1, Witnessed { is_stamped: true, ..V1 }] {
        let annotations = instance.classic_annotations(&leaf, payload.as_bytes(), witnessed);
        assert_verified(&of_classic(payload.as_bytes(), &annotations, keyless(&root)).await, "classic");
    }
    let stamped = Witnessed { logging: Logging::None, ..V2 };
    let cosign = || CosignAuthority { log: TransparencyLog::Ignore, ..keyless(&root) };
    let annotations = instance.classic_annotations(&leaf, payload.as_bytes(), stamped);
    assert_verified(&of_classic(payload.as_bytes(), &annotations, cosign()).await, "classic");
    let bundle = instance.bundle(&leaf, Signed::Statement(&statement), stamped);
    assert_verified(&of_bundle(&bundle, cosign()).await, "bundle");
    assert_refused(&of_bundle(&bundle, keyless(&root)).await, "is not in a transparency log");
}

#[tokio::test]
async fn who_signed_must_match() {
    let (instance, _, bundle) = signed(V1);
    let root = instance.trusted_root();
    let regex = |text: &str| TextPattern::Regex(AnchoredRegex::new(text).unwrap());
    let claim = |name: &str, wanted: &str| (FulcioClaim::named(name).unwrap(), exact(wanted));
    for (cosign, refused) in [
        (wanting(&root, |k| k.identity = regex("https://github\\.com/acme/.+")), None),
        (wanting(&root, |k| k.identity = TextPattern::Glob("https://github.com/acme/*@refs/heads/*".into())), None),
        (wanting(&root, |k| k.claims.extend([claim("sourceRepository", "https://github.com/acme/app")])), None),
        (wanting(&root, |k| k.claims.extend([claim("ref", "refs/heads/main"), claim("workflow", "Release")])), None),
        (wanting(&root, |k| k.identity = exact("someone@acme.com")), Some("was made by")),
        (wanting(&root, |k| k.identity = regex("https://github\\.com/acme/")), Some("was made by")),
        (wanting(&root, |k| k.issuer = exact("https://accounts.google.com")), Some("was made by")),
        (wanting(&root, |k| k.claims.extend([claim("ref", "refs/heads/dev")])), Some("says ref \"refs/heads/main\"")),
        (
            wanting(&root, |k| k.claims.extend([claim("runnerEnvironment", "github-hosted")])),
            Some("does not say runnerEnvironment"),
        ),
    ] {
        let outcome = of_bundle(&bundle, cosign).await;
        refused.map_or_else(|| assert_verified(&outcome, IDENTITY), |part| assert_refused(&outcome, part));
    }
    for (subject, part) in [
        (Subject { identities: vec![IDENTITY, "other@acme.com"], ..Subject::default() }, "names 2 identities"),
        (Subject { identities: vec![], ..Subject::default() }, "names 0 identities"),
        (Subject { claims: vec![(8, "https://evil.com")], ..Subject::default() }, "twice"),
    ] {
        assert_refused(&of_bundle(&sign(&instance, &subject, V1), keyless(&root)).await, part);
    }
}

/// Each change of a bundle that counts, and why it does not count then.
#[tokio::test]
#[expect(clippy::too_many_lines, reason = "a table")]
async fn keyless_bundles_that_do_not_count() {
    let (instance, leaf, v1) = signed(V1);
    let v2 = instance.bundle(&leaf, Signed::Statement(&statement(&image().digest)), V2);
    let root = instance.trusted_root();
    let other = image_of_another_digest();
    let changed = |bundle: &Value, pointer: &str, value: Value| {
        let mut bundle = bundle.clone();
        *bundle.pointer_mut(pointer).unwrap_or_else(|| panic!("{pointer}")) = value;
        bundle
    };
    let without = |bundle: &Value, parent: &str, key: &str| {
        let mut bundle = bundle.clone();
        bundle.pointer_mut(parent).unwrap().as_object_mut().unwrap().remove(key).unwrap();
        bundle
    };
    let entry = "/verificationMaterial/tlogEntries/0";
    let in_entry = |bundle: &Value, key: &str, value: Value| changed(bundle, &format!("{entry}/{key}"), value);
    let mut unlogged = Subject { is_logged: false, ..Subject::default() };
    let without_sct = sign(&instance, &unlogged, V1);
    unlogged.is_logged = true;
    let provenance = {
        let mut statement = statement(&image().digest);
        statement["predicateType"] = "https://slsa.dev/provenance/v1".into();
        instance.bundle(&leaf, Signed::Statement(&statement), V1)
    };
    let of_other = instance.bundle(&leaf, Signed::Statement(&statement(&other)), V1);
    let foreign_entry = of_other.pointer(entry).unwrap().clone();
    let server = Subject { purpose: ExtendedKeyUsagePurpose::ServerAuth, ..Subject::default() };
    let late = Witnessed { at: SIGNED_AT + 601, ..V1 };
    let early = Witnessed { at: SIGNED_AT - 61, ..V1 };
    let labelled = |version: &str| format!("application/vnd.dev.sigstore.bundle+json;version={version}");
    let relabelled = |version: &str| {
        let mut bundle = changed(&v1, "/mediaType", labelled(version).into());
        bundle["verificationMaterial"].as_object_mut().unwrap().remove("certificate");
        let certificate = v1.pointer("/verificationMaterial/certificate").unwrap();
        bundle["verificationMaterial"]["x509CertificateChain"] = json!({"certificates": [certificate]});
        bundle
    };
    assert_verified(&of_bundle(&relabelled("0.1"), keyless(&root)).await, IDENTITY);
    assert_verified(&of_bundle(&relabelled("0.2"), keyless(&root)).await, IDENTITY);
    let mut wrong = Vec::new();
    let zeros = |bytes: usize| Value::from(STANDARD.encode(vec![0; bytes]));
    let stamp = "/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp";
    let mut chain_of_11 = relabelled("0.1");
    let certificates = chain_of_11.pointer_mut("/verificationMaterial/x509CertificateChain/certificates").unwrap();
    *certificates = vec![certificates[0].clone(); 11].into();
    let many: Vec<_> = vec![v1.pointer(entry).unwrap().clone(); 33];
    for (bundle, part) in [
        // Downgrades: an older version allows an entry without a proof.
        (without(&relabelled("0.1"), entry, "inclusionProof"), "without a proof of inclusion"),
        (without(&relabelled("0.2"), entry, "inclusionProof"), "without a proof of inclusion"),
        (without(&v1, entry, "inclusionProof"), "without a proof of inclusion"),
        (without(&v1, &format!("{entry}/inclusionProof"), "checkpoint"), "without a proof of inclusion"),
        (without(&v2, entry, "inclusionProof"), "without a proof of inclusion"),
        (changed(&v1, "/verificationMaterial/tlogEntries", json!([])), "is not in a transparency log"),
        (changed(&v1, "/verificationMaterial/tlogEntries", many.into()), "more than 32 log entries"),
        (changed(&v1, "/mediaType", "application/vnd.dev.sigstore.bundle.v0.4+json".into()), "not a Sigstore bundle"),
        // Times.
        (sign(&instance, &Subject::default(), late), "had expired"),
        (sign(&instance, &Subject::default(), early), "was not yet valid"),
        (without(&v2, "/verificationMaterial", "timestampVerificationData"), "requires RFC3161 timestamp"),
        (without(&v1, entry, "inclusionPromise"), "No verified timestamp"),
        // Another log entry.
        (changed(&v1, entry, foreign_entry), "does not match"),
        (in_entry(&v1, "logIndex", "2".into()), "SET verification failed"),
        (in_entry(&v1, "canonicalizedBody", STANDARD.encode("{}").into()), "SET verification failed"),
        (in_entry(&v2, "canonicalizedBody", STANDARD.encode("{}").into()), "inclusion proof"),
        (in_entry(&v1, "kindVersion", json!({"kind": "rekord", "version": "0.0.1"})), "unsupported Rekor entry format"),
        (in_entry(&v1, "kindVersion", json!({"kind": "intoto", "version": "0.0.1"})), "unsupported Rekor entry format"),
        // Certificates.
        (without_sct, "missing SCT"),
        (chain_of_11, "more than 10 certificates"),
        (changed(&v1, "/verificationMaterial/certificate/rawBytes", zeros(9000)), "certificate of more than 8 KiB"),
        (changed(&v2, stamp, zeros(17_000)), "time stamp of more than 16 KiB"),
        (sign(&instance, &server, V1), "is not for signing code"),
        (sign(&Instance::new(), &unlogged, V1), "its log is not one of the trusted root"),
        // Content.
        (provenance, "is an attestation of"),
        (of_other, "is for another image"),
        (changed(&v1, "/dsseEnvelope/signatures/0/sig", "AAAA".into()), "signature verification failed"),
    ] {
        let outcome = of_bundle(&bundle, keyless(&root)).await;
        if !matches!(&outcome, TrustOutcome::Unverified { found } if found.len() == 1 && found[0].to_string().contains(part))
        {
            wrong.push(format!("{part}: {outcome:?}"));
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let text = v1.to_string();
    let twice = text.replacen("\"certificate\":", "\"certificate\":{\"rawBytes\":\"\"},\"certificate\":", 1);
    assert_ne!(text, twice);
    for text in [twice, text.replacen("\"tlogEntries\"", "\"tlogentries\"", 1), text[..text.len() / 2].to_owned()] {
        let mut registry = Registry::new(Api::Absent);
        let layer = registry.push_blob(BUNDLE_V03, text.into());
        let descriptor = registry.push(&manifest_json(&json!([layer]), Some(&image().digest)));
        registry.api = Api::Pages(vec![vec![descriptor]]);
        assert_refused(&registry.judge(&[authority(keyless(&root))]).await[0], "strict JSON");
    }
}

fn image_of_another_digest() -> Digest {
    Digest::sha256(b"another image")
}

/// sigstore-go drops time stamps that it cannot verify, and so do we: what proves nothing is not counted.
#[tokio::test]
async fn unknown_time_stamps_prove_nothing_and_harm_nothing() {
    let (instance, _, v1) = signed(Witnessed { is_stamped: true, ..V1 });
    let (stranger, root) = (Instance::new(), instance.trusted_root());
    let stamp = "/verificationMaterial/timestampVerificationData/rfc3161Timestamps/0/signedTimestamp";
    let signature = v1.pointer("/dsseEnvelope/signatures/0/sig").unwrap().as_str().unwrap();
    let signature = STANDARD.decode(signature).unwrap();
    let server = instance.issue(&Subject::default());
    for token in [
        stranger.timestamp(&signature, SIGNED_AT),
        instance.timestamp(b"another signature", SIGNED_AT),
        // By a certificate for signing code, which is not for time stamps.
        instance.timestamp_by_leaf(&server, &signature, SIGNED_AT),
        b"no time stamp".to_vec(),
    ] {
        let with = |bundle: &Value| {
            let mut bundle = bundle.clone();
            *bundle.pointer_mut(stamp).unwrap() = STANDARD.encode(&token).into();
            bundle
        };
        assert_verified(&of_bundle(&with(&v1), keyless(&root)).await, IDENTITY);
        let (other, _, v2) = signed(V2);
        assert_refused(&of_bundle(&with(&v2), keyless(&other.trusted_root())).await, "requires RFC3161 timestamp");
    }
    // One that is verified and contradicts the certificate counts against the signature.
    let mut late = v1.clone();
    *late.pointer_mut(stamp).unwrap() = STANDARD.encode(instance.timestamp(&signature, SIGNED_AT + 3600)).into();
    assert_refused(&of_bundle(&late, keyless(&root)).await, "had expired");
}

/// One root must vouch for everything: a log of one and a certificate authority of another prove nothing together.
#[tokio::test]
async fn a_mix_of_two_roots_proves_nothing() {
    let (instance, _, bundle) = signed(V1);
    let (one, two) = (instance.trusted_root(), Instance::new().trusted_root());
    let with = |roots: Vec<TrustedRoot>| CosignAuthority { roots, ..keyless(&one) };
    assert_verified(&of_bundle(&bundle, with(vec![root_of(&two), root_of(&one)])).await, IDENTITY);
    assert_refused(&of_bundle(&bundle, with(vec![root_of(&two)])).await, "its log is not one of the trusted root");
    for part in ["tlogs", "certificateAuthorities", "ctlogs"] {
        let (mut first, mut second) = (one.clone(), two.clone());
        (first[part], second[part]) = (two[part].clone(), one[part].clone());
        let roots = vec![root_of(&first), root_of(&second)];
        let outcome = of_bundle(&bundle, with(roots)).await;
        assert!(matches!(outcome, TrustOutcome::Unverified { .. }), "{part}: {outcome:?}");
    }
}

#[tokio::test]
async fn a_key_and_a_certificate_are_not_confused() {
    let (instance, leaf, bundle) = signed(V1);
    let (root, signer) = (instance.trusted_root(), Signer::p256());
    assert_refused(&of_bundle(&signer.bundle(&statement(&image().digest)), keyless(&root)).await, "made with a key");
    assert_refused(&Registry::with_bundle(&bundle).judge_by(&signer).await, "keyless");
    // The key of the certificate, as a key of the authority: the certificate has to be looked at nevertheless.
    let certificate = x509_cert::Certificate::from_der(&leaf.der).unwrap();
    let spki = certificate.tbs_certificate.subject_public_key_info.to_der();
    let key = PublicKey::from_pem(&pem("PUBLIC KEY", &spki.unwrap())).unwrap();
    assert_refused(&of_bundle(&bundle, CosignAuthority::of_keys(vec![key])).await, "keyless");
}

#[tokio::test]
async fn one_broken_signature_beside_a_good_one_is_harmless() {
    let (instance, leaf, good) = signed(V1);
    let root = instance.trusted_root();
    let mut broken = good.clone();
    broken["dsseEnvelope"]["signatures"][0]["sig"] = "AAAA".into();
    let other = instance.bundle(&leaf, Signed::Statement(&statement(&image_of_another_digest())), V1);
    let mut registry = Registry::new(Api::Absent);
    let listed = [&broken, &other, &good].map(|bundle| registry.bundle(&image().digest, bundle));
    registry.api = Api::Pages(vec![listed.to_vec()]);
    let outcome = registry.judge(&[authority(keyless(&root))]).await.remove(0);
    assert_verified(&outcome, IDENTITY);
}

#[tokio::test]
async fn an_expired_root_is_named_and_not_used() {
    let (instance, _, bundle) = signed(V1);
    let mut root = instance.trusted_root();
    let ended = json!({"start": time(SIGNED_AT - 86_400), "end": time(SIGNED_AT + 86_400)});
    for (list, key) in [
        ("tlogs", "/publicKey"),
        ("ctlogs", "/publicKey"),
        ("certificateAuthorities", ""),
        ("timestampAuthorities", ""),
    ] {
        root[list][0].pointer_mut(key).unwrap()["validFor"] = ended.clone();
    }
    let registry = Registry::with_bundle(&bundle);
    let at = |seconds| Timestamp::from_second(seconds).unwrap();
    let authorities = [authority(keyless(&root))];
    let outcome = verify_at(&registry, &authorities, at(SIGNED_AT + 3600)).await;
    assert_verified(&outcome, IDENTITY);
    let outcome = verify_at(&registry, &authorities, at(SIGNED_AT + 86_401)).await;
    assert_unknown(&outcome, "the trusted root has expired (trusted_root.json at 2024-01-02T00:00:00Z)", false);
}
