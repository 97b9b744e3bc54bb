//! Attacks on the whole gate, each of which once succeeded.

use http::{Method, StatusCode};
use pullgate::oci::Digest;
use pullgate::sample::image::{self, Image, Layer, noise};
use pullgate::sample::{Fault, On};

use crate::harness::{ALLOW_ALL, TestGate, policy};
use crate::pull::{multi, simple};
use crate::support::{TestRegistry, request};

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
