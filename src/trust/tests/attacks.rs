//! What somebody can try who may push to a repository, and what must not come of it.

use super::*;

/// Time and bytes are bounded. A good signature within the budgets is found, wherever it is; otherwise the outcome is
/// unknown, never "not signed".
#[tokio::test]
async fn ten_thousand_signatures_on_one_image() {
    let (digest, signer) = (image().digest, Signer::p256());
    let (payload_bytes, signature) = Signer::p256().classic(&payload(&digest));
    let begun = std::time::Instant::now();
    // In one manifest.
    let flood = |count| vec![(payload_bytes.clone(), signature.clone()); count];
    let registry = Registry::new(Api::Absent).with_classic(&digest, flood(10_000));
    assert_unknown(&registry.judge_by(&signer).await, "has more than 1,000 entries", false);
    let flood = flood(900);
    let registry = Registry::new(Api::Absent).with_classic(&digest, flood.clone());
    assert_unknown(&registry.judge_by(&signer).await, "only 200 of the signatures", false);
    let mut newest = flood.clone();
    newest.push(signer.classic(&payload(&digest)));
    let registry = Registry::new(Api::Absent).with_classic(&digest, newest);
    assert_verified(&registry.judge_by(&signer).await, "(classic");
    let mut oldest = flood;
    oldest.insert(0, signer.classic(&payload(&digest)));
    let mut registry = Registry::new(Api::Absent).with_classic(&digest, oldest);
    assert_unknown(&registry.judge_by(&signer).await, "only 200 of the signatures", false);
    // Another place has a budget of its own.
    let bundle = registry.bundle(&digest, &signer.bundle(&statement(&digest)));
    registry.manifests.insert(format!("sha256-{}", digest.hex()), index_json(&[bundle]));
    assert_verified(&registry.judge_by(&signer).await, "(bundle)");
    // In ten thousand referrers.
    let mut registry = Registry::new(Api::Absent);
    let mut listed = invented(10_000, 1, BUNDLE_V03);
    registry.api = Api::Pages(vec![listed.clone()]);
    let outcome = registry.judge_by(&signer).await;
    assert_unknown(&outcome, "only 200 of 10000 referrers in the referrers API were examined", false);
    assert!(outcome.found().len() <= 21, "what is kept is bounded: {}", outcome.found().len());
    listed.insert(150, registry.bundle(&digest, &signer.bundle(&statement(&digest))));
    listed[150]["artifactType"] = BUNDLE_V03.into();
    registry.api = Api::Pages(vec![listed]);
    assert_verified(&registry.judge_by(&signer).await, "(bundle)");
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
}

/// Two parsers may read a document with duplicate keys differently, so it is not a signature.
#[tokio::test]
async fn duplicate_keys_in_every_json() {
    let (digest, signer) = (image().digest, Signer::p256());
    let twice = |text: &str, member: &str| {
        let at = text.find(member).unwrap_or_else(|| panic!("{member} in {text}"));
        let end = at + member.len();
        format!("{}{member}:0,{}", &text[..at], &text[at..end]) + &text[end..]
    };
    let text = payload(&digest).to_string();
    for member in [r#""critical""#, r#""image""#, r#""docker-manifest-digest""#, r#""type""#] {
        let signed = signer.classic_text(twice(&text, member).into_bytes());
        let registry = Registry::new(Api::Absent).with_classic(&digest, vec![signed]);
        assert_refused(&registry.judge_by(&signer).await, "strict JSON");
    }
    let good = signer.bundle(&statement(&digest));
    for member in [r#""mediaType""#, r#""payload""#, r#""payloadType""#, r#""sig""#, r#""verificationMaterial""#] {
        let mut registry = Registry::new(Api::Absent);
        let layer = registry.push_blob(BUNDLE_V03, twice(&good.to_string(), member).into_bytes());
        let referrer = registry.push(&manifest_json(&json!([layer]), Some(&digest)));
        registry.api = Api::Pages(vec![vec![referrer]]);
        assert_refused(&registry.judge_by(&signer).await, "strict JSON");
    }
    // The manifests that hold signatures.
    for member in [r#""layers""#, r#""mediaType""#, r#""subject""#] {
        let mut registry = Registry::new(Api::Absent);
        let layer = registry.push_blob(BUNDLE_V03, good.to_string().into());
        let text = twice(&manifest_json(&json!([layer]), Some(&digest)).to_string(), member);
        let referrer = Digest::sha256(text.as_bytes());
        registry.manifests.insert(referrer.to_string(), text.clone().into());
        registry.api = Api::Pages(vec![vec![json!({"digest": referrer, "size": text.len()})]]);
        let outcome = registry.judge_by(&signer).await;
        assert!(!matches!(outcome, TrustOutcome::Verified { .. }), "{member}: {outcome:?}");
    }
}

/// An answer that breaks off in the middle of a search is no "not signed", whatever was read before.
#[tokio::test]
async fn a_registry_that_fails_in_the_middle() {
    let (digest, signer) = (image().digest, Signer::p256());
    let mut registry = Registry::new(Api::Absent);
    let strange = strange_bundles(&mut registry, &digest, 5);
    let good = registry.bundle(&digest, &signer.bundle(&statement(&digest)));
    registry.failing.push(good["digest"].as_str().unwrap().to_owned());
    registry.api = Api::Pages(vec![strange, vec![good]]);
    let outcome = registry.judge_by(&signer).await;
    assert_unknown(&outcome, "500 Internal Server Error", true);
    assert_eq!(outcome.found().len(), 5, "what was read is listed: {outcome:?}");
    registry.failing.clear();
    assert_verified(&registry.judge_by(&signer).await, "(bundle)");
}

/// The signature is genuine, and its digest is that of another image.
#[tokio::test]
async fn signature_moved_to_another_image() {
    let (digest, other, signer) = (image().digest, Digest::sha256(b"other"), Signer::p256());
    let classic = Registry::new(Api::Absent).with_classic(&digest, vec![signer.classic(&payload(&other))]);
    assert_refused(&classic.judge_by(&signer).await, "is for another image");
    // Attached to this image, about the other one, and the reverse.
    let moved = Registry::with_bundle(&signer.bundle(&statement(&other)));
    assert_refused(&moved.judge_by(&signer).await, "is for another image");
    let listed = Registry::with_bundle_of(&other, &signer.bundle(&statement(&digest)));
    assert_refused(&listed.judge_by(&signer).await, "its subject is another image");
    let message = Registry::with_bundle(&signer.message_bundle(b"another manifest"));
    assert_refused(&message.judge_by(&signer).await, "signs a different manifest");
}

/// Signatures of one kind of key under a policy with a key of another kind, whatever the bundle says about its key.
#[tokio::test]
async fn algorithm_confusion() {
    let digest = image().digest;
    for signer in Signer::all() {
        let forms = || {
            let mut bundle = signer.bundle(&statement(&digest));
            bundle["verificationMaterial"]["publicKey"]["hint"] = signer.pem().into();
            let classic = vec![signer.classic(&payload(&digest))];
            [Registry::with_bundle(&bundle), Registry::new(Api::Absent).with_classic(&digest, classic)]
        };
        // Other keys, among them one of the same kind.
        for wanted in Signer::all() {
            for registry in forms() {
                assert_refused(&registry.judge_by(&wanted).await, "was not made by");
            }
        }
        for registry in forms() {
            assert_verified(&registry.judge_by(&signer).await, signer.kind);
        }
        // No signature at all, or the message itself in its place.
        for signature in ["", "AA==", &STANDARD.encode(payload(&digest).to_string())] {
            let unsigned = vec![(payload(&digest).to_string().into(), Some(signature.to_owned()))];
            let registry = Registry::new(Api::Absent).with_classic(&digest, unsigned);
            assert_refused(&registry.judge_by(&signer).await, "was not made by");
        }
    }
}

/// What ends too early or is too large is refused, or leaves the outcome unknown, and hides nothing.
#[tokio::test]
async fn truncated_and_oversize_documents() {
    let (digest, signer) = (image().digest, Signer::p256());
    let bundle = signer.bundle(&statement(&digest)).to_string();
    let (text, signature) = signer.classic(&payload(&digest));
    let of_bundle = |bytes: &[u8]| {
        let mut registry = Registry::new(Api::Absent);
        let layer = registry.push_blob(BUNDLE_V03, bytes.to_vec());
        let referrer = registry.push(&manifest_json(&json!([layer]), Some(&digest)));
        registry.api = Api::Pages(vec![vec![referrer]]);
        registry
    };
    let of_classic =
        |bytes: &[u8]| Registry::new(Api::Absent).with_classic(&digest, vec![(bytes.to_vec(), signature.clone())]);
    for part in 0..20 {
        let cut = |bytes: &[u8]| bytes[..bytes.len() * part / 20].to_vec();
        let truncated = [of_bundle(&cut(bundle.as_bytes())), of_classic(&cut(&text))];
        for registry in truncated {
            let outcome = registry.judge_by(&signer).await;
            assert!(matches!(outcome, TrustOutcome::Unverified { .. }), "{part}: {outcome:?}");
        }
    }
    let padded = |text: &[u8], size: usize| [text, &vec![b' '; size - text.len()][..]].concat();
    assert_verified(&of_bundle(&padded(bundle.as_bytes(), 1 << 20)).judge_by(&signer).await, "(bundle)");
    for large in [of_bundle(&padded(bundle.as_bytes(), (1 << 20) + 1)), of_classic(&padded(&text, (1 << 20) + 1))] {
        assert_refused(&large.judge_by(&signer).await, "is larger than 1 MiB");
        let both = large.with_classic(&digest, vec![signer.classic(&payload(&digest))]);
        assert_verified(&both.judge_by(&signer).await, "(classic");
    }
}
