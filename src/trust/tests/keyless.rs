//! Signatures by certificate, and signatures by key that must be logged, with an instance of Sigstore made in the test.

use rcgen::ExtendedKeyUsagePurpose;
use x509_cert::der::{Decode as _, Encode as _};

use super::sigstore::{
    Content as Signed, IDENTITY, ISSUER, Instance, Leaf, Logging, SIGNED_AT, Subject, Witnessed, pem, time,
};
use super::*;
use crate::oci::ImageReference;
use crate::policy::{AnchoredRegex, FulcioClaim, TransparencyLog, TrustedRoot};

mod fuzz;

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
    assert_refused(&of_bundle(&bundle, keyless(&root)).await, "is in no transparency log");
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
        (changed(&v1, "/verificationMaterial/tlogEntries", json!([])), "is in no transparency log"),
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
async fn signatures_by_key_can_be_required_to_be_logged() {
    let (instance, signer, stranger) = (Instance::new(), Signer::p256(), Signer::p256());
    let cosign = |signer: &Signer| CosignAuthority {
        log: TransparencyLog::Require,
        roots: vec![root_of(&instance.trusted_root())],
        ..CosignAuthority::of_keys(vec![signer.key()])
    };
    let statement = statement(&image().digest);
    let bundle =
        |witnessed, pem: &str| instance.bundle_by_key(&*signer.sign, pem, Signed::Statement(&statement), witnessed);
    for witnessed in [V1, V2] {
        let outcome = of_bundle(&bundle(witnessed, &signer.pem()), cosign(&signer)).await;
        assert_verified(&outcome, "ECDSA P-256");
        assert_refused(&of_bundle(&bundle(witnessed, &signer.pem()), cosign(&stranger)).await, "was not made by");
        // The entry of somebody else who has logged the same signature.
        assert_refused(&of_bundle(&bundle(witnessed, &stranger.pem()), cosign(&signer)).await, "does not match");
    }
    let unlogged = bundle(Witnessed { logging: Logging::None, ..V1 }, &signer.pem());
    assert_refused(&of_bundle(&unlogged, cosign(&signer)).await, "is in no transparency log");
    assert_verified(&of_bundle(&unlogged, CosignAuthority::of_keys(vec![signer.key()])).await, "ECDSA P-256");

    let payload = payload(&image().digest).to_string();
    let logged = instance.bundle_by_key(&*signer.sign, &signer.pem(), Signed::Message(payload.as_bytes()), V1);
    let entry = logged.pointer("/verificationMaterial/tlogEntries/0").unwrap();
    let annotations = json!({
        "dev.cosignproject.cosign/signature": logged.pointer("/messageSignature/signature").unwrap(),
        "dev.sigstore.cosign/bundle": instance.classic_log_entry(entry).to_string()
    });
    assert_verified(&of_classic(payload.as_bytes(), &annotations, cosign(&signer)).await, "classic");
}

/// `cosign sign --key KEY --certificate CERTIFICATE` adds a certificate. The key decides, and the entry in the log must
/// name the key, or that certificate if it holds the key.
#[tokio::test]
async fn a_logged_signature_by_a_key_may_carry_a_certificate() {
    let instance = Instance::new();
    let [leaf, other] = [instance.issue(&Subject::default()), instance.issue(&Subject::default())];
    let key = |leaf: &Leaf| {
        let certificate = x509_cert::Certificate::from_der(&leaf.der).unwrap();
        pem("PUBLIC KEY", &certificate.tbs_certificate.subject_public_key_info.to_der().unwrap())
    };
    let cosign = CosignAuthority {
        log: TransparencyLog::Require,
        roots: vec![root_of(&instance.trusted_root())],
        ..CosignAuthority::of_keys(vec![PublicKey::from_pem(&key(&leaf)).unwrap()])
    };
    let payload = payload(&image().digest).to_string();
    let [own, foreign] = [&leaf, &other].map(|leaf| pem("CERTIFICATE", &leaf.der));
    // Whom the entry in the log names, and the certificate that the signature carries.
    for (logged, certificate, refused) in [
        (&key(&leaf), &own, None),
        (&key(&leaf), &foreign, None),
        (&own, &own, None),
        (&key(&other), &own, Some("does not match")),
        (&own, &foreign, Some("is for a certificate, not for the key")),
        (&foreign, &own, Some("does not match")),
        (&foreign, &foreign, Some("is for a certificate, not for the key")),
    ] {
        let sign = |message: &[u8]| leaf.sign(message);
        let bundle = instance.bundle_by_key(&sign, logged, Signed::Message(payload.as_bytes()), V1);
        let entry = bundle.pointer("/verificationMaterial/tlogEntries/0").unwrap();
        let annotations = json!({
            "dev.cosignproject.cosign/signature": bundle.pointer("/messageSignature/signature").unwrap(),
            "dev.sigstore.cosign/bundle": instance.classic_log_entry(entry).to_string(),
            "dev.sigstore.cosign/certificate": certificate,
        });
        let outcome = of_classic(payload.as_bytes(), &annotations, cosign.clone()).await;
        match refused {
            None => assert_verified(&outcome, "classic"),
            Some(part) => assert_refused(&outcome, part),
        }
    }
}

/// The outcomes of a signature by `leaf` with the log entry of another signature: classic, and as a bundle.
///
/// The library compares an entry with its signature, certificate and content. These tests show that it is asked to, for both
/// forms, and that a signature without its answer does not count: each fails if `Witnesses::certified` verifies without the
/// log, or if the conversion of annotations leaves the entry out.
async fn with_the_log_entry_of(
    instance: &Instance,
    leaf: &Leaf,
    (signer, content): (&Leaf, [&[u8]; 2]),
) -> [TrustOutcome; 2] {
    let root = instance.trusted_root();
    let own = payload(&image().digest).to_string();
    let mut annotations = instance.classic_annotations(leaf, own.as_bytes(), V1);
    assert_verified(&of_classic(own.as_bytes(), &annotations, keyless(&root)).await, IDENTITY);
    let entry = "dev.sigstore.cosign/bundle";
    annotations[entry] = instance.classic_annotations(signer, content[0], V1)[entry].clone();
    let mut bundle = instance.bundle(leaf, Signed::Message(&image().bytes), V1);
    assert_verified(&of_bundle(&bundle, keyless(&root)).await, IDENTITY);
    let foreign = instance.bundle(signer, Signed::Message(content[1]), V1);
    bundle["verificationMaterial"]["tlogEntries"] = foreign["verificationMaterial"]["tlogEntries"].clone();
    [of_classic(own.as_bytes(), &annotations, keyless(&root)).await, of_bundle(&bundle, keyless(&root)).await]
}

/// The JSON in the annotations of a classic signature, the entry of the log in it, and a trusted root: two parsers may read
/// duplicate keys differently, so such a document proves nothing.
#[tokio::test]
async fn duplicate_keys_in_log_entries_time_stamps_and_roots() {
    let (instance, leaf, _) = signed(V1);
    let (own, root) = (payload(&image().digest).to_string(), instance.trusted_root());
    let twice = |text: &str, member: &str| {
        let changed = text.replacen(&format!("\"{member}\":"), &format!("\"{member}\":0,\"{member}\":"), 1);
        assert_ne!(text, changed, "{member}");
        changed
    };
    let annotations = instance.classic_annotations(&leaf, own.as_bytes(), Witnessed { is_stamped: true, ..V1 });
    assert_verified(&of_classic(own.as_bytes(), &annotations, keyless(&root)).await, IDENTITY);
    for (annotation, members) in [
        ("dev.sigstore.cosign/bundle", &["Payload", "SignedEntryTimestamp", "body", "integratedTime", "logID"][..]),
        ("dev.sigstore.cosign/rfc3161timestamp", &["SignedRFC3161Timestamp"]),
    ] {
        for member in members {
            let mut changed = annotations.clone();
            changed[annotation] = twice(annotations[annotation].as_str().unwrap(), member).into();
            let outcome = of_classic(own.as_bytes(), &changed, keyless(&root)).await;
            assert_refused(&outcome, "is not a strict JSON object");
        }
    }
    let mut changed = annotations.clone();
    let entry = annotations["dev.sigstore.cosign/bundle"].as_str().unwrap();
    let mut entry: Value = serde_json::from_str(entry).unwrap();
    let body = STANDARD.decode(entry["Payload"]["body"].as_str().unwrap()).unwrap();
    entry["Payload"]["body"] = STANDARD.encode(twice(std::str::from_utf8(&body).unwrap(), "kind")).into();
    changed["dev.sigstore.cosign/bundle"] = entry.to_string().into();
    assert_refused(&of_classic(own.as_bytes(), &changed, keyless(&root)).await, "its log entry is malformed");
    for member in ["mediaType", "tlogs", "certificateAuthorities", "validFor", "rawBytes"] {
        let error = TrustedRoot::from_json("root", twice(&root.to_string(), member).as_bytes()).unwrap_err();
        assert!(error.contains("duplicate key"), "{member}: {error}");
    }
}

/// cosign accepted an entry for other content, if its promise was valid.
#[tokio::test]
async fn cve_2022_23649_log_entry_for_other_content() {
    let (instance, leaf, _) = signed(V1);
    let other = payload(&image_of_another_digest()).to_string();
    for outcome in with_the_log_entry_of(&instance, &leaf, (&leaf, [other.as_bytes(), b"other"])).await {
        assert_refused(&outcome, "artifact hash mismatch for hashedrekord entry");
    }
}

/// cosign accepted an entry that another signer had logged for the same content.
#[tokio::test]
async fn cve_2022_36056_log_entry_of_another_signer() {
    let (instance, leaf, _) = signed(V1);
    let somebody = instance.issue(&Subject { identities: vec!["mallory@evil.com"], ..Subject::default() });
    let own = payload(&image().digest).to_string();
    for outcome in with_the_log_entry_of(&instance, &leaf, (&somebody, [own.as_bytes(), &image().bytes])).await {
        assert_refused(&outcome, "certificate in bundle does not match certificate in Rekor entry");
    }
}

/// cosign accepted an entry for another signature of the same signer and content.
#[tokio::test]
async fn cve_2026_22703_log_entry_of_another_signature() {
    let (instance, leaf, _) = signed(V1);
    let own = payload(&image().digest).to_string();
    for outcome in with_the_log_entry_of(&instance, &leaf, (&leaf, [own.as_bytes(), &image().bytes])).await {
        assert_refused(&outcome, "signature in bundle does not match signature in Rekor entry");
    }
}

/// cosign accepted a certificate whose issuer had expired when the signature was made.
#[tokio::test]
async fn cve_2026_24122_issuer_expired_at_the_time_of_signing() {
    for (until, is_valid) in [(SIGNED_AT + 600, true), (SIGNED_AT - 1, false)] {
        let instance = Instance::with_authority_until(until);
        let bundle = sign(&instance, &Subject::default(), V1);
        let outcome = of_bundle(&bundle, keyless(&instance.trusted_root())).await;
        match is_valid {
            true => assert_verified(&outcome, IDENTITY),
            false => assert_refused(&outcome, "authority"),
        }
    }
}

/// Clients trusted the time in a log entry without verifying the promise that covers it (sigstore-ruby, sigstore-java).
#[tokio::test]
async fn a_forged_time_of_integration_is_refused() {
    let instance = Instance::new();
    let mut bundle = sign(&instance, &Subject::default(), Witnessed { at: SIGNED_AT + 86_400, ..V1 });
    let time = bundle.pointer_mut("/verificationMaterial/tlogEntries/0/integratedTime").unwrap();
    *time = SIGNED_AT.to_string().into();
    assert_refused(&of_bundle(&bundle, keyless(&instance.trusted_root())).await, "SET verification failed");
}

/// sigstore-go verified any number of entries and time stamps.
#[tokio::test]
async fn cve_2024_45395_number_of_time_stamps_is_bounded() {
    let (instance, _, mut bundle) = signed(V2);
    let stamps = bundle.pointer_mut("/verificationMaterial/timestampVerificationData/rfc3161Timestamps").unwrap();
    *stamps = vec![stamps[0].clone(); 33].into();
    assert_refused(&of_bundle(&bundle, keyless(&instance.trusted_root())).await, "more than 32");
}

/// "Some attestation was verified" is not "the image is signed".
#[tokio::test]
async fn cve_2022_35929_another_predicate_is_no_signature() {
    let (instance, leaf, _) = signed(V1);
    let mut statement = statement(&image().digest);
    statement["predicateType"] = "https://cosign.sigstore.dev/attestation/vuln/v1".into();
    let bundle = instance.bundle(&leaf, Signed::Statement(&statement), V1);
    assert_refused(&of_bundle(&bundle, keyless(&instance.trusted_root())).await, "is an attestation of");
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

async fn verify_at(registry: &Registry, authorities: &[Arc<Authority>], now: Timestamp) -> TrustOutcome {
    let sought = authorities.iter().map(|one| Sought { authority: one.clone(), known: Vec::new() }).collect();
    let (image, reference) = (Arc::new(image()), Reference::Digest(image().digest));
    let (others, same, ahead) = (Vec::new(), SameSigner::default(), None);
    let request = GatherRequest { name: name(), reference, image, place: name(), sought, others, same, ahead, now };
    let results = gather(registry, &Tasks::new(), &schemes().await, request, &Config::default(), &|_, _| {}).await;
    results.into_iter().next().unwrap().result.outcome
}

#[tokio::test]
async fn annotations_must_be_signed() {
    let signer = Signer::p256();
    let (digest, mut payload, mut statement) = (image().digest, payload(&image().digest), statement(&image().digest));
    payload["optional"] = json!({"env": "prod", "number": 1});
    statement["subject"][0]["annotations"] = json!({"env": "prod", "number": 1});
    let classic = Registry::new(Api::Absent).with_classic(&digest, vec![signer.classic(&payload)]);
    let bundle = Registry::with_bundle(&signer.bundle(&statement));
    let message = Registry::with_bundle(&signer.message_bundle(&image().bytes));
    for (wanted, part) in [
        (&[("env", "prod")][..], None),
        (&[("env", "dev")], Some("its annotation \"env\" is \"prod\", not \"dev\"")),
        (&[("env", "prod"), ("team", "a")], Some("has no annotation \"team\"")),
        (&[("number", "1")], Some("has no annotation \"number\"")),
    ] {
        let annotations = wanted.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
        let cosign = CosignAuthority { annotations, ..CosignAuthority::of_keys(vec![signer.key()]) };
        let authorities = [authority(cosign)];
        for registry in [&classic, &bundle] {
            let outcome = registry.judge(&authorities).await.remove(0);
            part.map_or_else(|| assert_verified(&outcome, "ECDSA"), |part| assert_refused(&outcome, part));
        }
        assert_refused(&message.judge(&authorities).await[0], "has no annotation");
    }
}

#[tokio::test]
async fn the_signed_name_can_be_compared() {
    let (digest, signer) = (image().digest, Signer::p256());
    let named = |reference: &str| {
        let mut payload = payload(&digest);
        payload["critical"]["identity"]["docker-reference"] = reference.into();
        Registry::new(Api::Absent).with_classic(&digest, vec![signer.classic(&payload)])
    };
    let remap = SignedIdentity::Remap { prefix: "registry.acme.com".into(), signed_prefix: "ghcr.io/acme".into() };
    let of = |text: &str| text.parse::<ImageReference>().unwrap();
    for (wanted, signed, counts) in [
        (SignedIdentity::MatchRepository, "registry.acme.com/team/app", true),
        (SignedIdentity::MatchRepository, "registry.acme.com/team/app:1", true),
        (SignedIdentity::MatchRepository, "registry.acme.com/team/apps", false),
        (SignedIdentity::MatchRepository, "evil.com/team/app", false),
        (SignedIdentity::MatchRepository, "", false),
        (SignedIdentity::ExactRepository(of("ghcr.io/acme/app").name), "ghcr.io/acme/app", true),
        (SignedIdentity::ExactRepository(of("ghcr.io/acme/app").name), "registry.acme.com/team/app", false),
        (SignedIdentity::ExactReference(of("ghcr.io/acme/app:1")), "ghcr.io/acme/app:1", true),
        (SignedIdentity::ExactReference(of("ghcr.io/acme/app:1")), "ghcr.io/acme/app:2", false),
        (SignedIdentity::MatchRepoDigestOrExact, "registry.acme.com/team/app", true),
        (SignedIdentity::MatchRepoDigestOrExact, "registry.acme.com/team/other", false),
        (remap.clone(), "ghcr.io/acme/team/app", true),
        (remap.clone(), "registry.acme.com/team/app", false),
    ] {
        let cosign = CosignAuthority { identity: Some(wanted), ..CosignAuthority::of_keys(vec![signer.key()]) };
        let outcome = named(signed).judge(&[authority(cosign)]).await.remove(0);
        if counts { assert_verified(&outcome, "ECDSA") } else { assert_refused(&outcome, "was made for") }
    }
    let cosign = CosignAuthority {
        identity: Some(SignedIdentity::MatchRepository),
        ..CosignAuthority::of_keys(vec![signer.key()])
    };
    assert_refused(&of_bundle(&signer.bundle(&statement(&digest)), cosign).await, "names no image");
}

#[tokio::test]
async fn certificate_expired_at_signing_time() {
    let instance = Instance::new();
    let root = instance.trusted_root();
    for (logging, is_stamped) in [(Logging::V1, false), (Logging::V1, true), (Logging::V2, true)] {
        let at = |seconds| Witnessed { logging, is_stamped, at: SIGNED_AT + seconds };
        let valid = of_bundle(&sign(&instance, &Subject::default(), at(599)), keyless(&root)).await;
        assert_verified(&valid, IDENTITY);
        let expired = of_bundle(&sign(&instance, &Subject::default(), at(601)), keyless(&root)).await;
        assert_refused(&expired, "its certificate had expired when it was signed");
    }
}

/// A time stamp by somebody else, or for another signature, does not make an expired certificate valid.
#[tokio::test]
async fn forged_time_stamp() {
    let (instance, stranger) = (Instance::new(), Instance::new());
    let late = sign(
        &instance,
        &Subject::default(),
        Witnessed { is_stamped: true, logging: Logging::V2, at: SIGNED_AT + 3600 },
    );
    let signature = late.pointer("/dsseEnvelope/signatures/0/sig").unwrap().as_str().unwrap();
    let signature = STANDARD.decode(signature).unwrap();
    let (root, in_time) = (instance.trusted_root(), SIGNED_AT + 60);
    assert_refused(&of_bundle(&late, keyless(&root)).await, "had expired");
    for token in [
        stranger.timestamp(&signature, in_time),
        instance.timestamp(b"another signature", in_time),
        instance.timestamp_by_leaf(&instance.issue(&Subject::default()), &signature, in_time),
    ] {
        let stamps = "/verificationMaterial/timestampVerificationData/rfc3161Timestamps";
        let forged = json!({"signedTimestamp": STANDARD.encode(token)});
        // Instead of the genuine one, and next to it.
        for keep in [false, true] {
            let mut bundle = late.clone();
            let all = bundle.pointer_mut(stamps).unwrap().as_array_mut().unwrap();
            all.truncate(usize::from(keep));
            all.push(forged.clone());
            assert_refused(&of_bundle(&bundle, keyless(&root)).await, if keep { "had expired" } else { "RFC3161" });
        }
    }
}

/// Old versions allow a log entry that nothing proves. A bundle gains nothing by calling itself one.
#[tokio::test]
async fn downgraded_bundle_version() {
    let (instance, _, bundle) = signed(V1);
    let root = instance.trusted_root();
    for version in ["0.1", "0.2"] {
        let mut old = bundle.clone();
        let certificate = old["verificationMaterial"].as_object_mut().unwrap().remove("certificate").unwrap();
        old["verificationMaterial"]["x509CertificateChain"] = json!({"certificates": [certificate]});
        old["mediaType"] = format!("application/vnd.dev.sigstore.bundle+json;version={version}").into();
        assert_verified(&of_bundle(&old, keyless(&root)).await, IDENTITY);
        let entry = old.pointer_mut("/verificationMaterial/tlogEntries/0").unwrap();
        entry.as_object_mut().unwrap().remove("inclusionProof").unwrap();
        assert_refused(&of_bundle(&old, keyless(&root)).await, "without a proof of inclusion");
    }
}

#[tokio::test]
async fn certificate_for_another_use() {
    let instance = Instance::new();
    for purpose in [
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::TimeStamping,
        ExtendedKeyUsagePurpose::EmailProtection,
    ] {
        let subject = Subject { purpose, ..Subject::default() };
        let outcome = of_bundle(&sign(&instance, &subject, V1), keyless(&instance.trusted_root())).await;
        assert_refused(&outcome, "its certificate is not for signing code");
    }
}
