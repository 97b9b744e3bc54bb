//! Attacks on the whole gate, each of which once succeeded.

use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use pullgate::oci::Digest;
use pullgate::sample::image::{self, Image, Layer, Tree, noise};
use pullgate::sample::{Fault, On};

use crate::harness::{ALLOW_ALL, HOST, TestGate, policy};
use crate::pull::{multi, simple};
use crate::support::{Exchange, TestRegistry, request};

/// Another registry may claim to have any digest. Its claim must say nothing about what a different registry delivered.
#[tokio::test]
async fn a_registry_that_claims_a_private_layer_does_not_expose_it() {
    let (private, evil) = (TestRegistry::start().await, TestRegistry::start().await);
    let content = noise(400_000, 3);
    let layer = Digest::sha256(&content);
    let image =
        Image::linux_amd64().layer(Layer::of("application/vnd.oci.image.layer.v1.tar", content.clone())).build();
    private.push("team/private", Some("1"), &image);
    evil.push("any/thing", Some("1"), &image);
    evil.put_blob_as("any/thing", layer, noise(400_000, 4));
    let second = format!("[[upstream]]\nhost = \"evil.test\"\nurl = \"{}\"\nattempts = 1", evil.listening.url());
    let gate = TestGate::new(&private, ALLOW_ALL).with(&second).start().await;
    assert_eq!(gate.get("/team/private/manifests/1").await.status, 200);
    assert_eq!(gate.get(&format!("/team/private/blobs/{layer}")).await.body, content);
    let at_evil = |path: &str| gate.any_url(&format!("/v2/evil.test/any/thing{path}"));
    assert_eq!(request("GET", &at_evil("/manifests/1"), &[]).await.status, 200);
    for attempt in ["first", "second"] {
        let got = request("GET", &at_evil(&format!("/blobs/{layer}")), &[]).await;
        assert!(!got.complete || got.status != 200, "{attempt}");
        assert_ne!(
            got.body.get(..1000),
            content.get(..1000),
            "{attempt}: private content was served because another registry claims to have it"
        );
    }
}

/// The same with two repositories: one fails to deliver what the other one claims to have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn claims_during_a_failed_download_create_no_link() {
    let (private, evil) = (TestRegistry::start().await, TestRegistry::start().await);
    let content = noise(400_000, 3);
    let layer = Digest::sha256(&content);
    let image =
        Image::linux_amd64().layer(Layer::of("application/vnd.oci.image.layer.v1.tar", content.clone())).build();
    private.push("team/private", Some("1"), &image);
    for repository in ["any/one", "any/two"] {
        evil.push(repository, Some("1"), &image);
        evil.put_blob_as(repository, layer, noise(400_000, 4));
    }
    let second = format!("[[upstream]]\nhost = \"evil.test\"\nurl = \"{}\"\nattempts = 1", evil.listening.url());
    let gate = TestGate::new(&private, ALLOW_ALL).with(&second).start().await;
    let at_evil = |path: &str| gate.any_url(&format!("/v2/evil.test/any/{path}"));
    for repository in ["one", "two"] {
        assert_eq!(request("GET", &at_evil(&format!("{repository}/manifests/1")), &[]).await.status, 200);
    }
    let blob = |repository: &str| at_evil(&format!("{repository}/blobs/{layer}"));
    let stalled = evil.inject(On::blobs().method(Method::GET), Fault::Stall(10));
    let one = Exchange::start("GET", &blob("one"), &[]).await;
    let two = Exchange::start("GET", &blob("two"), &[]).await;
    stalled.remove();
    assert!(!one.finish().await.complete && !two.finish().await.complete);
    assert_eq!(gate.get("/team/private/manifests/1").await.status, 200);
    assert_eq!(gate.get(&format!("/team/private/blobs/{layer}")).await.body, content);
    for repository in ["one", "two"] {
        let got = request("GET", &blob(repository), &[]).await;
        assert!(got.status != 200 || !got.complete, "{repository}: {}", got.status);
        assert!(got.body.is_empty() || !content.starts_with(&got.body), "{repository}: private content was served");
    }
}

#[tokio::test]
async fn failed_downloads_create_no_links() {
    let registry = TestRegistry::start().await;
    let content = noise(400_000, 3);
    let layer = Digest::sha256(&content);
    let image =
        Image::linux_amd64().layer(Layer::of("application/vnd.oci.image.layer.v1.tar", content.clone())).build();
    registry.push("team/private", Some("1"), &image);
    registry.push("attacker/public", Some("1"), &image);
    registry.put_blob_as("attacker/public", layer, noise(400_000, 4));
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    for repository in ["team/private", "attacker/public"] {
        assert_eq!(gate.get(&format!("/{repository}/manifests/1")).await.status, 200);
    }
    let got = gate.get(&format!("/attacker/public/blobs/{layer}")).await;
    assert!(!got.complete || got.status != 200, "the download may fail before the response begins");
    assert_eq!(gate.get(&format!("/team/private/blobs/{layer}")).await.body, content);
    registry.delete_blob("attacker/public", &layer);
    assert_eq!(gate.get(&format!("/attacker/public/blobs/{layer}")).await.status, 404);
}

#[tokio::test]
async fn blobs_are_not_reported_unknown_while_the_upstream_is_down() {
    let registry = TestRegistry::start().await;
    let image = multi("down");
    registry.push("library/app", Some("1"), &image);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    registry.inject(On::manifests(), Fault::status(StatusCode::BAD_GATEWAY));
    let (blob, _) = &image.blobs[0];
    let got = gate.get(&format!("/library/app/blobs/{blob}")).await;
    assert_eq!(got.status, 503, "{}", got.text());
}

/// One request must not use up the whole pull quota.
#[tokio::test]
async fn large_indexes_cause_a_bounded_number_of_requests() {
    let registry = TestRegistry::start().await;
    let children: Vec<_> = (0..300).map(|n| simple(&format!("child {n}"))).collect();
    registry.push("library/app", Some("1"), &image::index(&children));
    let rule = policy("  - {name: \"*\", policy: {va: {unscanned: deny}}}\n");
    let gate = TestGate::new(&registry, &rule).start().await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 403);
    let asked = registry.count(|r| r.method == Method::GET && r.path.contains("/manifests/"));
    assert!(asked < 100, "{asked} manifests were requested for one request");
}

/// CVE-2022-47633 (Kyverno): a tag was resolved once to be judged and again to be served. A registry that moves it between
/// the two serves nothing that was not judged.
#[tokio::test]
async fn cve_2022_47633_what_was_judged_is_served_although_its_tag_moved() {
    let registry = TestRegistry::start().await;
    let (signed, evil) = (simple("signed"), simple("evil"));
    registry.push("library/app", Some("1"), &signed);
    registry.push("library/app", None, &evil);
    let made = TestGate::new(&registry, &policy("  - {name: \"*\", policy: {trust: release}}\n"));
    made.key.sign(&registry, "library/app", &format!("{HOST}/library/app"), signed.root).unwrap();
    let held = registry.inject(On::path("/v2/*/manifests/sha256-*.sig"), Fault::Gate);
    let gate = made.start().await;
    let moved = async {
        held.wait_for_hits(1).await;
        registry.tag("library/app", "1", evil.root);
        held.release();
    };
    let (got, ()) = tokio::join!(gate.get("/library/app/manifests/1"), moved);
    assert_eq!((got.status, &got.body), (200, &signed.manifest().bytes), "{}", got.text());
    assert_eq!(gate.get(&format!("/library/app/manifests/{}", evil.root)).await.status, 403);
}

/// CVE-2024-29903 (cosign): the work for one image grew with the number of its signatures. Here it is bounded in requests
/// and in time. A good signature in another place is found; without one, it is unknown whether the image is signed.
#[tokio::test]
async fn cve_2024_29903_ten_thousand_signatures_take_bounded_work() {
    const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
    let registry = TestRegistry::start().await;
    registry.set_referrers_page(1000);
    let images = ["good", "flooded"].map(simple);
    let bundle = Layer::of(BUNDLE, "{}");
    let never = Layer::of("application/vnd.dev.cosign.simplesigning.v1+json", "{}");
    for (image, repository) in images.iter().zip(["library/good", "library/flooded"]) {
        registry.push(repository, Some("1"), image);
        for number in 0..10_000 {
            let flood = image::referrer(image, BUNDLE, std::slice::from_ref(&bundle), &[("n", &number.to_string())]);
            registry.push(repository, None, &flood);
        }
    }
    let made = TestGate::new(&registry, &policy("  - {name: \"*\", policy: {trust: release}}\n"));
    made.key.sign(&registry, "library/good", &format!("{HOST}/library/good"), images[0].root).unwrap();
    let tag = image::attachment_tag(&images[1].root, ".sig");
    registry.push("library/flooded", Some(&tag), &image::attachment(&vec![never; 10_000]));
    let gate = made.start().await;
    registry.clear_log();
    let begun = Instant::now();
    let good = gate.get("/library/good/manifests/1").await;
    assert_eq!(good.status, 200, "{}", good.text());
    let flooded = gate.get("/library/flooded/manifests/1").await;
    assert_eq!(flooded.status, 403, "{}", flooded.text());
    for reason in ["only 200 of 10000 referrers in the referrers API were examined", "more than 1,000 entries"] {
        assert!(flooded.text().contains(reason), "{}", flooded.text());
    }
    assert!(!flooded.text().contains("not signed"), "{}", flooded.text());
    let asked = registry.count(|_| true);
    assert!(asked < 1000, "{asked} requests");
    assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
}

/// Somebody who can push, and has no key, makes indexes that list a signed image next to another one. They are admitted,
/// because their image for this platform is signed. They do not hide the signed index that lists the other image.
#[tokio::test]
async fn indexes_of_others_do_not_hide_a_signed_index() {
    let registry = TestRegistry::start().await;
    let image = |platform: &str, name: &str| {
        let layer = Layer::gzip(&Tree::new().file("app", name.to_owned()));
        Image::new(platform.parse().expect("a platform")).layer(layer).build()
    };
    let (alone, inheriting) = (image("linux/amd64", "alone"), image("linux/arm64", "inheriting"));
    let signed = image::index(&[image("linux/amd64", "beside"), inheriting.clone()]);
    registry.push("library/app", Some("1"), &signed);
    registry.push("library/app", None, &alone);
    let made = TestGate::new(&registry, &policy("  - {name: \"*\", policy: {trust: release}}\n"));
    for digest in [signed.root, alone.root] {
        made.key.sign(&registry, "library/app", &format!("{HOST}/library/app"), digest).unwrap();
    }
    let gate = made.start().await;
    let pull = async |digest: Digest| gate.get(&format!("/library/app/manifests/{digest}")).await;
    assert_eq!(pull(signed.root).await.status, 200);
    for number in 0..120 {
        let filler = image("linux/s390x", &number.to_string());
        let flood = image::index(&[alone.clone(), inheriting.clone(), filler]);
        registry.push("library/app", None, &flood);
        let got = pull(flood.root).await;
        assert_eq!(got.status, 200, "{}", got.text());
    }
    let got = pull(inheriting.root).await;
    assert_eq!(got.status, 200, "{}", got.text());
    // Where no signed index is known, it is not said that none exists.
    let unsigned = image("linux/arm64", "unsigned");
    for number in 0..70 {
        let filler = image("linux/s390x", &number.to_string());
        let flood = image::index(&[alone.clone(), unsigned.clone(), filler]);
        registry.push("library/app", None, &flood);
        assert_eq!(pull(flood.root).await.status, 200);
    }
    let got = pull(unsigned.root).await;
    assert!(
        got.status == 403 && got.text().contains("only 64 of them were searched"),
        "{}: {}",
        got.status,
        got.text()
    );
}
