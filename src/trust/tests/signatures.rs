//! Signatures that count, and those that do not.

use super::*;

#[tokio::test]
async fn every_kind_of_key_in_both_forms() {
    let (digest, stranger) = (image().digest, Signer::p256());
    for signer in Signer::all() {
        let classic = Registry::new(Api::Absent).with_classic(&digest, vec![signer.classic(&payload(&digest))]);
        assert_verified(&classic.judge_by(&signer).await, signer.kind);
        assert_verified(&classic.judge_by(&signer).await, "(classic, signed as \"registry.acme.com/app\")");
        assert_refused(&classic.judge_by(&stranger).await, "was not made by ECDSA P-256 key");
        for bundle in [signer.bundle(&statement(&digest)), signer.message_bundle(&image().bytes)] {
            let bundle = Registry::with_bundle(&bundle);
            assert_verified(&bundle.judge_by(&signer).await, signer.kind);
            assert_refused(&bundle.judge_by(&stranger).await, "was not made by ECDSA P-256 key");
        }
    }
}

#[tokio::test]
async fn bundles_are_found_by_the_api_and_by_the_tag() {
    let (digest, signer) = (image().digest, Signer::p256());
    let bundle = signer.bundle(&statement(&digest));
    for api in [Api::Absent, Api::Pages(vec![vec![]])] {
        let mut registry = Registry::new(api);
        let descriptor = registry.bundle(&digest, &bundle);
        registry.manifests.insert(format!("sha256-{}", digest.hex()), index_json(&[descriptor]));
        assert_verified(&registry.judge_by(&signer).await, "(bundle)");
    }
    let mut paged = Registry::new(Api::Absent);
    let descriptor = paged.bundle(&digest, &bundle);
    paged.api = Api::Pages(vec![vec![], vec![descriptor]]);
    assert_verified(&paged.judge_by(&signer).await, "(bundle)");
    let mut experimental = Registry::new(Api::Absent);
    let manifest = experimental.classic_manifest(vec![signer.classic(&payload(&digest))], Some(&digest));
    let descriptor = experimental.push(&manifest);
    experimental.api = Api::Pages(vec![vec![descriptor]]);
    assert_verified(&experimental.judge_by(&signer).await, "(classic");
}

#[tokio::test]
async fn both_forms_are_looked_at_for_all_authorities() {
    let (digest, old, new, stranger) = (image().digest, Signer::p256(), Signer::p256(), Signer::p256());
    let both = Registry::with_bundle(&new.bundle(&statement(&digest)))
        .with_classic(&digest, vec![(b"{}".to_vec(), Some("AA==".into())), old.classic(&payload(&digest))]);
    let outcomes = both.judge(&[old.authority(), new.authority(), stranger.authority()]).await;
    assert_verified(&outcomes[0], "(classic");
    assert_verified(&outcomes[1], "(bundle)");
    assert!(matches!(&outcomes[2], TrustOutcome::Unverified { found } if found.len() == 3), "{outcomes:?}");
    let asked = both.asked.lock().unwrap();
    let mut once = asked.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), asked.len(), "everything is fetched once");
}

#[tokio::test]
async fn nothing_found_is_unverified() {
    let signer = Signer::p256();
    for api in [Api::Absent, Api::Pages(vec![vec![]])] {
        assert_eq!(Registry::new(api).judge_by(&signer).await, TrustOutcome::Unverified { found: vec![] });
    }
}

#[tokio::test]
async fn right_digest_in_the_wrong_repository() {
    let (digest, signer) = (image().digest, Signer::p256());
    let mut registry = Registry::with_bundle(&signer.bundle(&statement(&digest)))
        .with_classic(&digest, vec![signer.classic(&payload(&digest))]);
    registry.repository = "team/other".parse().unwrap();
    assert_eq!(registry.judge_by(&signer).await, TrustOutcome::Unverified { found: vec![] });
}

#[tokio::test]
async fn classic_signatures_that_do_not_count() {
    let (digest, signer) = (image().digest, Signer::p256());
    let (good, other) = (payload(&digest), Digest::sha256(b"other"));
    let changed = |pointer: &str, value: Value| {
        let mut payload = good.clone();
        *payload.pointer_mut(pointer).unwrap() = value;
        signer.classic(&payload)
    };
    let mut unknown = good.clone();
    unknown["critical"]["expires"] = "2020-01-01".into();
    let text = good.to_string();
    let duplicate = text.replacen("\"image\"", "\"image\":{\"docker-manifest-digest\":\"\"},\"image\"", 1);
    let folded = text.replacen("\"image\"", "\"Image\":{},\"image\"", 1);
    let (valid, signature) = signer.classic(&good);
    for (signed, part) in [
        (signer.classic(&payload(&other)), "is for another image"),
        (changed("/critical/type", "atomic container signature".into()), "its type is not"),
        (changed("/critical/image", json!({})), "missing or unknown members"),
        (changed("/critical/image/docker-manifest-digest", "sha1:00".into()), "is not a digest"),
        (changed("/critical/identity", json!([])), "is not an object"),
        (changed("/optional", json!("x")), "optional is neither"),
        (signer.classic(&unknown), "missing or unknown members"),
        (signer.classic_text((text.clone() + &" ".repeat(300_000)).into()), "larger than 256 KiB"),
        (signer.classic_text(duplicate.into()), "not a strict JSON object"),
        (signer.classic_text(folded.into()), "not a strict JSON object"),
        ((text.replace("acme", "evil").into(), signature.clone()), "was not made by"),
        ((valid.clone(), None), "annotation with the signature is missing"),
        ((valid.clone(), Some("?".into())), "not base64"),
        ((valid, Some(String::new())), "was not made by"),
    ] {
        let registry = Registry::new(Api::Absent).with_classic(&digest, vec![signed]);
        assert_refused(&registry.judge_by(&signer).await, part);
    }
}

#[tokio::test]
async fn bundles_that_do_not_count() {
    let (digest, signer) = (image().digest, Signer::p256());
    let (good, other) = (statement(&digest), Digest::sha256(b"other"));
    let stated = |key: &str, value: &str| {
        let mut statement = good.clone();
        statement[key] = value.into();
        signer.bundle(&statement)
    };
    let changed = |key: &str, value: Value| {
        let mut bundle = signer.bundle(&good);
        bundle[key] = value;
        bundle
    };
    let mut retyped = signer.bundle(&good);
    retyped["dsseEnvelope"]["payloadType"] = "text/plain".into();
    let mut tampered = signer.bundle(&good);
    tampered["dsseEnvelope"]["payload"] = STANDARD.encode(statement(&digest).to_string() + " ").into();
    let mut two = signer.bundle(&good);
    two["dsseEnvelope"]["signatures"] = json!([{"sig": ""}, two["dsseEnvelope"]["signatures"][0]]);
    let mut lying = signer.message_bundle(&image().bytes);
    lying["messageSignature"]["messageDigest"] =
        signer.message_bundle(b"x")["messageSignature"]["messageDigest"].clone();
    let mut without_type = signer.bundle(&good);
    without_type.as_object_mut().unwrap().remove("mediaType");
    let certificate = json!({"certificate": {"rawBytes": "AAAA"}});
    for (bundle, part) in [
        (signer.bundle(&statement(&other)), "is for another image"),
        (
            stated("predicateType", "https://slsa.dev/provenance/v1"),
            "attestation of \"https://slsa.dev/provenance/v1\"",
        ),
        (stated("predicateType", &"x".repeat(1000)), "x…"),
        (stated("predicateType", &"x".repeat(300_000)), "larger than 256 KiB"),
        (stated("_type", "https://in-toto.io/Statement/v2"), "not an in-toto statement"),
        (changed("mediaType", "application/vnd.dev.sigstore.bundle+json;version=0.1".into()), "of an old version"),
        (changed("mediaType", "application/vnd.dev.sigstore.bundle+json;version=0.2".into()), "of an old version"),
        (changed("mediaType", "application/vnd.dev.sigstore.bundle.v9+json".into()), "not a Sigstore bundle"),
        (without_type, "of an old version"),
        (changed("verificationMaterial", certificate), "keyless"),
        (changed("messageSignature", signer.message_bundle(b"x")["messageSignature"].clone()), "two signatures"),
        (retyped, "not an in-toto statement"),
        (tampered, "was not made by"),
        (two, "exactly one signature"),
        (signer.message_bundle(b"x"), "signs a different manifest"),
        (lying, "signs a different manifest"),
    ] {
        assert_refused(&Registry::with_bundle(&bundle).judge_by(&signer).await, part);
    }
    let elsewhere = Registry::with_bundle_of(&other, &signer.bundle(&good));
    assert_refused(&elsewhere.judge_by(&signer).await, "its subject is another image");
}

#[tokio::test]
async fn other_referrers_are_not_signatures() {
    let (digest, signer) = (image().digest, Signer::p256());
    let mut registry = Registry::new(Api::Absent);
    let sbom = registry.push_blob("application/spdx+json", b"{}".to_vec());
    let sbom = registry.push(&manifest_json(&json!([sbom]), Some(&digest)));
    registry.api = Api::Pages(vec![vec![sbom]]);
    assert_eq!(registry.judge_by(&signer).await, TrustOutcome::Unverified { found: vec![] });
    let mut notation = manifest_json(&json!([]), Some(&digest));
    notation["artifactType"] = "application/vnd.cncf.notary.signature".into();
    let notation = registry.push(&notation);
    registry.api = Api::Pages(vec![vec![notation]]);
    assert_refused(&registry.judge_by(&signer).await, "a Notary Project signature");
}

#[tokio::test]
async fn a_registry_that_does_not_answer_is_not_unsigned() {
    let (digest, signer) = (image().digest, Signer::p256());
    for temporary in [true, false] {
        let silent = Registry::new(Api::Fails(temporary));
        assert_unknown(&silent.judge_by(&signer).await, "the referrers cannot be read: 403 Forbidden", temporary);
        let signed = silent.with_classic(&digest, vec![signer.classic(&payload(&digest))]);
        assert_verified(&signed.judge_by(&signer).await, "(classic");
    }
    for body in ["<html>", "{}", "[]", ""] {
        assert_unknown(
            &Registry::new(Api::Answers(body)).judge_by(&signer).await,
            "list of referrers is unusable",
            false,
        );
    }
    for tag in [format!("sha256-{}.sig", digest.hex()), format!("sha256-{}", digest.hex())] {
        let mut registry = Registry::new(Api::Absent);
        registry.failing.push(tag.clone());
        assert_unknown(&registry.judge_by(&signer).await, "500 Internal Server Error", true);
        // What a front says while it is under maintenance.
        for rubbish in ["<html>", "", "{}", r#"{"errors":[]}"#, "[]"] {
            let mut registry = Registry::new(Api::Absent);
            registry.manifests.insert(tag.clone(), Bytes::from_static(rubbish.as_bytes()));
            assert_unknown(&registry.judge_by(&signer).await, "the response is not a manifest", true);
        }
    }
    let registry = Registry::with_bundle(&signer.bundle(&statement(&digest)));
    for failing in registry.manifests.keys().cloned().chain(registry.blobs.keys().map(ToString::to_string)) {
        let mut registry = Registry::with_bundle(&signer.bundle(&statement(&digest)));
        let known = registry.manifests.contains_key(&failing);
        registry.failing.push(failing);
        // The bundle's own digest differs with every signature; the manifest's too.
        registry.failing.extend(registry.manifests.keys().filter(|_| known).cloned().collect::<Vec<_>>());
        registry.failing.extend(registry.blobs.keys().filter(|_| !known).map(ToString::to_string).collect::<Vec<_>>());
        assert_unknown(&registry.judge_by(&signer).await, "500 Internal Server Error", true);
    }
}

pub(super) fn image_text() -> String {
    String::from_utf8(image().bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn wrong_bytes_and_missing_content_are_said() {
    let (digest, signer) = (image().digest, Signer::p256());
    let bundle = signer.bundle(&statement(&digest));
    let mut swapped = Registry::with_bundle(&bundle);
    swapped.blobs.values_mut().for_each(|blob| *blob = Bytes::from_static(b"{}"));
    assert_refused(&swapped.judge_by(&signer).await, "do not have its digest");
    let mut missing = Registry::with_bundle(&bundle);
    missing.blobs.clear();
    assert_refused(&missing.judge_by(&signer).await, "is not in the repository");
    let mut unlisted = Registry::with_bundle(&bundle);
    unlisted.manifests.clear();
    assert_refused(&unlisted.judge_by(&signer).await, "listed as a referrer but is not in the repository");
    let mut replaced = Registry::with_bundle(&bundle);
    replaced.manifests.values_mut().for_each(|manifest| *manifest = image().bytes);
    assert_refused(&replaced.judge_by(&signer).await, "does not match the requested digest");
}
