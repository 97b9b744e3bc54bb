//! Limits of a search, and what strangers attach.

use super::*;

/// Signatures by a stranger, each over a payload of its own.
pub(super) fn strangers(digest: &Digest, count: usize) -> Vec<(Vec<u8>, Option<String>)> {
    let stranger = Signer::p256();
    let one = |number| {
        let mut payload = payload(digest);
        payload["optional"] = json!({"number": number});
        stranger.classic(&payload)
    };
    (0..count).map(one).collect()
}

/// Bundles by a stranger, as the list shows them.
pub(super) fn strange_bundles(registry: &mut Registry, digest: &Digest, count: usize) -> Vec<Value> {
    let mut bundle = Signer::p256().bundle(&statement(digest));
    let mut one = |number: usize| {
        bundle["number"] = number.into();
        registry.bundle(digest, &bundle)
    };
    (0..count).map(&mut one).collect()
}

/// Referrers that do not exist, with what their descriptors claim.
pub(super) fn invented(count: usize, size: u64, artifact_type: &str) -> Vec<Value> {
    let one = |number: usize| {
        let digest = Digest::sha256(&number.to_be_bytes());
        json!({"mediaType": media_type::OCI_MANIFEST, "digest": digest, "size": size, "artifactType": artifact_type})
    };
    (0..count).map(one).collect()
}

#[tokio::test]
async fn attachments_of_others_hide_nothing() {
    let (digest, signer) = (image().digest, Signer::p256());
    let good = |registry: &mut Registry| registry.bundle(&digest, &signer.bundle(&statement(&digest)));
    let classic = || signer.classic(&payload(&digest));
    for size in [4 << 20, 9 << 30, 1] {
        for artifact_type in [BUNDLE_V03, media_type::OCI_EMPTY, "application/spdx+json"] {
            let listed = Registry::new(Api::Pages(vec![invented(16, size, artifact_type)]));
            assert_verified(&listed.with_classic(&digest, vec![classic()]).judge_by(&signer).await, "(classic");
            let mut tagged = Registry::new(Api::Pages(vec![invented(199, size, artifact_type)]));
            let bundle = good(&mut tagged);
            tagged.manifests.insert(format!("sha256-{}", digest.hex()), index_json(&[bundle]));
            assert_verified(&tagged.judge_by(&signer).await, "(bundle)");
        }
    }
    for (before, after) in [(50, 0), (0, 51), (199, 0), (0, 300)] {
        let mut registry = Registry::new(Api::Absent);
        let mut listed = strange_bundles(&mut registry, &digest, before);
        listed.push(good(&mut registry));
        listed.extend(strange_bundles(&mut registry, &digest, after));
        registry.api = Api::Pages(vec![listed]);
        assert_verified(&registry.judge_by(&signer).await, "(bundle)");
    }
    let flooded = Registry::with_bundle(&signer.bundle(&statement(&digest)));
    let flooded = flooded.with_classic(&digest, strangers(&digest, 300));
    assert_verified(&flooded.judge_by(&signer).await, "(bundle)");
    for at in [0, 60] {
        let mut layers = strangers(&digest, 60);
        layers.insert(at, classic());
        let registry = Registry::new(Api::Absent).with_classic(&digest, layers);
        assert_verified(&registry.judge_by(&signer).await, "(classic");
    }
}

#[tokio::test]
async fn the_search_ends_with_the_first_that_satisfies() {
    let (digest, signer) = (image().digest, Signer::p256());
    let mut registry = Registry::new(Api::Absent);
    let mut listed = vec![registry.bundle(&digest, &signer.bundle(&statement(&digest)))];
    listed.extend(strange_bundles(&mut registry, &digest, 100));
    registry.api = Api::Pages(vec![listed]);
    assert_verified(&registry.judge_by(&signer).await, "(bundle)");
    assert!(registry.asked.lock().unwrap().len() < 20, "{:?}", registry.asked);
    // The places take turns, so that a long list keeps nobody from a short one.
    let mut registry = Registry::new(Api::Absent);
    let listed = strange_bundles(&mut registry, &digest, 150);
    registry.api = Api::Pages(vec![listed]);
    let signed = registry.with_classic(&digest, vec![signer.classic(&payload(&digest))]);
    assert_verified(&signed.judge_by(&signer).await, "(classic");
    assert!(signed.asked.lock().unwrap().len() < 40, "{:?}", signed.asked);
}

#[tokio::test]
async fn the_search_continues_while_a_signer_is_missing() {
    let (digest, signer) = (image().digest, Signer::p256());
    let mut registry = Registry::new(Api::Absent);
    let mut listed = vec![registry.bundle(&digest, &signer.bundle(&statement(&digest)))];
    listed.extend(strange_bundles(&mut registry, &digest, 100));
    registry.api = Api::Pages(vec![listed]);
    // Another authority that nobody satisfies makes it go on to the end.
    registry.judge(&[signer.authority(), Signer::p256().authority()]).await;
    assert!(registry.asked.lock().unwrap().len() > 200);
}

#[tokio::test]
async fn reached_limits_are_reported_and_do_not_mean_unsigned() {
    let (digest, signer) = (image().digest, Signer::p256());
    let mut many = strangers(&digest, 200);
    many.insert(0, signer.classic(&payload(&digest)));
    let oldest = Registry::new(Api::Absent).with_classic(&digest, many);
    assert_unknown(&oldest.judge_by(&signer).await, "only 200 of the signatures in the .sig tag were examined", false);
    for api in [Api::Endless, Api::Circular] {
        let registry = Registry::new(api);
        assert_unknown(&registry.judge_by(&signer).await, "does not end", false);
        let signed = registry.with_classic(&digest, vec![signer.classic(&payload(&digest))]);
        assert_verified(&signed.judge_by(&signer).await, "(classic");
    }
    let mut referrers = invented(300, 1, "application/x");
    let mut registry = Registry::new(Api::Pages(vec![referrers.clone()]));
    assert_unknown(&registry.judge_by(&signer).await, "only 200 of 300 referrers in the referrers API", false);
    assert_eq!(registry.asked.lock().unwrap().len(), 202);
    referrers.push(registry.bundle(&digest, &signer.bundle(&statement(&digest))));
    registry.api = Api::Pages(vec![referrers]);
    assert_verified(&registry.judge_by(&signer).await, "(bundle)");
}

/// A place is given up for what it sent, and not for what a descriptor claims.
#[tokio::test]
async fn bytes_that_arrive_are_counted() {
    let (digest, signer) = (image().digest, Signer::p256());
    let mut registry = Registry::new(Api::Absent);
    let mut referrers = Vec::new();
    for number in 0..100 {
        // Larger than any signature: as much as may be read arrives.
        let layer = registry.push_blob(BUNDLE_V03, vec![number; (1 << 20) + 1]);
        referrers.push(registry.push(&manifest_json(&json!([layer]), Some(&digest))));
    }
    registry.api = Api::Pages(vec![referrers.split_off(99)]);
    assert_refused(&registry.judge_by(&signer).await, "is larger than 1 MiB");
    registry.api = Api::Pages(vec![referrers]);
    assert_unknown(&registry.judge_by(&signer).await, "after 64 MiB from the referrers API", false);
    let asked = registry.asked.lock().unwrap().len();
    assert!(asked < 160, "{asked}");
    let mut signed = registry.with_classic(&digest, vec![signer.classic(&payload(&digest))]);
    assert_verified(&signed.judge_by(&signer).await, "(classic");
    // What one place sent is no reason to give up one that is asked later.
    signed.manifests.remove(&format!("sha256-{}.sig", digest.hex()));
    let bundle = signed.bundle(&digest, &signer.bundle(&statement(&digest)));
    signed.manifests.insert(format!("sha256-{}", digest.hex()), index_json(&[bundle]));
    assert_verified(&signed.judge_by(&signer).await, "(bundle)");
    // A descriptor that claims too much or too little keeps nobody from reading what is there.
    for size in [0, 1, 9 << 30] {
        let mut registry = Registry::new(Api::Absent);
        let mut layer = registry.push_blob(BUNDLE_V03, signer.bundle(&statement(&digest)).to_string().into());
        layer["size"] = size.into();
        let mut referrer = registry.push(&manifest_json(&json!([layer]), Some(&digest)));
        referrer["size"] = size.into();
        registry.api = Api::Pages(vec![vec![referrer.clone(), referrer]]);
        assert_verified(&registry.judge_by(&signer).await, "(bundle)");
    }
}

/// Nor is a place free that breaks off before the end.
#[tokio::test]
async fn bytes_of_answers_that_break_off_are_counted() {
    let (digest, signer) = (image().digest, Signer::p256());
    for (fails, most) in [("referrers", 100), ("blobs", 200)] {
        let mut registry = Registry::new(Api::Absent);
        let listed = strange_bundles(&mut registry, &digest, 150);
        registry.failing = match fails {
            "blobs" => registry.blobs.keys().map(ToString::to_string).collect(),
            _ => listed.iter().map(|referrer| referrer["digest"].as_str().unwrap().to_owned()).collect(),
        };
        registry.received = (1 << 20) - 1;
        registry.api = Api::Pages(vec![listed]);
        assert_unknown(&registry.judge_by(&signer).await, "500", true);
        let asked = registry.asked.lock().unwrap().len();
        assert!(asked < most, "{fails}: {asked}");
    }
}
