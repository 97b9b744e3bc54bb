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
    assert_unknown(&registry.judge_by(&signer).await, "only 200 were looked at", false);
    let mut newest = flood.clone();
    newest.push(signer.classic(&payload(&digest)));
    let registry = Registry::new(Api::Absent).with_classic(&digest, newest);
    assert_verified(&registry.judge_by(&signer).await, "(classic");
    let mut oldest = flood;
    oldest.insert(0, signer.classic(&payload(&digest)));
    let mut registry = Registry::new(Api::Absent).with_classic(&digest, oldest);
    assert_unknown(&registry.judge_by(&signer).await, "only 200 were looked at", false);
    // Another place has a budget of its own.
    let bundle = registry.bundle(&digest, &signer.bundle(&statement(&digest)));
    registry.manifests.insert(format!("sha256-{}", digest.hex()), index_json(&[bundle]));
    assert_verified(&registry.judge_by(&signer).await, "(bundle)");
    // In ten thousand referrers.
    let mut registry = Registry::new(Api::Absent);
    let mut listed = invented(10_000, 1, BUNDLE_V03);
    registry.api = Api::Pages(vec![listed.clone()]);
    let outcome = registry.judge_by(&signer).await;
    assert_unknown(&outcome, "of 10000 referrers in the referrers API only 200 were looked at", false);
    assert!(outcome.found().len() <= 21, "what is kept is bounded: {}", outcome.found().len());
    listed.insert(150, registry.bundle(&digest, &signer.bundle(&statement(&digest))));
    listed[150]["artifactType"] = BUNDLE_V03.into();
    registry.api = Api::Pages(vec![listed]);
    assert_verified(&registry.judge_by(&signer).await, "(bundle)");
    assert!(begun.elapsed().as_secs() < 60, "{:?}", begun.elapsed());
}

/// Two parsers may read a document with duplicate keys differently, so it is no signature.
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
