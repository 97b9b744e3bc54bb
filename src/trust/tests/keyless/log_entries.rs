//! Log entries: duplicate keys, and entries for something else.

use super::*;

/// The outcomes of a signature by `leaf` with the log entry of another signature: classic, and as a bundle.
///
/// The library compares an entry with its signature, certificate and content. These tests show that it is asked to, for
/// both forms, and that a signature without its answer does not count: each fails if `Witnesses::certified` verifies
/// without the log, or if the conversion of annotations leaves the entry out.
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

/// The JSON in the annotations of a classic signature, the entry of the log in it, and a trusted root: two parsers may
/// read duplicate keys differently, so such a document proves nothing.
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
async fn cve_2022_35929_another_predicate_is_not_a_signature() {
    let (instance, leaf, _) = signed(V1);
    let mut statement = statement(&image().digest);
    statement["predicateType"] = "https://cosign.sigstore.dev/attestation/vuln/v1".into();
    let bundle = instance.bundle(&leaf, Signed::Statement(&statement), V1);
    assert_refused(&of_bundle(&bundle, keyless(&instance.trusted_root())).await, "is an attestation of");
}
