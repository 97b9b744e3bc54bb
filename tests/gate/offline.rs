//! Offline upstreams, and images that are pinned in the cache.

use std::sync::Arc;

use jiff::SignedDuration;
use pullgate::oci::Digest;
use pullgate::runtime::Clock;
use pullgate::sample::image::{Image, Layer, noise};

use crate::commands::{pullgate, text};
use crate::content::file;
use crate::harness::{ALLOW_ALL, Gate, HOST, TestGate, policy};
use crate::pull::{multi, simple};
use crate::support::{TestRegistry, soon};

const SIGNED: &str = "  - {name: \"*\", policy: {trust: release}}\n";

/// Restarts a gate whose upstream is offline then. Its clock goes on by more than a year.
async fn restarted_offline(gate: Gate, registry: &TestRegistry, clock: &Clock) -> Gate {
    let made = gate.stop().await;
    clock.advance(SignedDuration::from_hours(24 * 400));
    registry.clear_log();
    made.upstream("offline = true\ntag_ttl = \"0s\"\nstale_for = \"0s\"").start().await
}

#[tokio::test]
async fn an_offline_upstream_is_never_contacted_and_its_tags_have_no_end() {
    let registry = TestRegistry::start().await;
    let (image, other) = (multi("offline"), simple("other"));
    registry.push("library/app", Some("1"), &image);
    registry.push("library/other", Some("1"), &other);
    let clock = Clock::manual(Clock::system().now());
    let gate = TestGate::new(&registry, ALLOW_ALL).clock(&clock).start().await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    let child = image.manifests[1].digest;
    assert_eq!(gate.get(&format!("/library/app/manifests/{child}")).await.status, 200);
    let gate = restarted_offline(gate, &registry, &clock).await;
    for _ in 0..2 {
        let got = gate.get("/library/app/manifests/1").await;
        assert_eq!((got.status, got.header("warning")), (200, None), "{}", got.text());
        clock.advance(SignedDuration::from_hours(24 * 400));
    }
    assert_eq!(gate.head("/library/app/manifests/1").await.status, 200);
    assert_eq!(gate.get(&format!("/library/app/manifests/{child}")).await.status, 200);
    for (path, code, what) in [
        ("/library/app/manifests/2", "MANIFEST_UNKNOWN", "registry.test/library/app:2 is not in the cache"),
        ("/library/other/manifests/1", "MANIFEST_UNKNOWN", "registry.test/library/other:1 is not in the cache"),
        ("/library/app/tags/list", "NAME_UNKNOWN", "the tags of registry.test/library/app cannot be listed"),
        (&format!("/library/other/manifests/{}", other.root), "MANIFEST_UNKNOWN", "is not in the cache"),
        (&format!("/library/app/manifests/{}", image.manifests[2].digest), "MANIFEST_UNKNOWN", "offline"),
        (&format!("/library/app/referrers/{}", image.root), "MANIFEST_UNKNOWN", "what is attached to"),
    ] {
        let got = gate.get(path).await;
        assert_eq!(got.status, 404, "{path}: {}", got.text());
        assert!(got.text().contains(code), "{path}: {}", got.text());
        assert!(got.text().contains("registry.test is offline") && got.text().contains(what), "{path}: {}", got.text());
    }
    assert_eq!(registry.requests().len(), 0, "the registry is never contacted");
}

#[tokio::test]
async fn offline_signatures_that_were_verified_count_and_others_are_unknown() {
    let registry = TestRegistry::start().await;
    let (signed, unsigned) = (simple("signed"), simple("unsigned"));
    registry.push("library/signed", Some("1"), &signed);
    registry.push("library/unsigned", Some("1"), &unsigned);
    let clock = Clock::manual(Clock::system().now());
    let made = TestGate::new(&registry, &policy(SIGNED)).clock(&clock);
    made.key.sign(&registry, "library/signed", &format!("{HOST}/library/signed"), signed.root).unwrap();
    let gate = made.start().await;
    assert_eq!(gate.get("/library/signed/manifests/1").await.status, 200);
    gate.set_policy(ALLOW_ALL);
    assert_eq!(gate.get("/library/unsigned/manifests/1").await.status, 200);
    gate.set_policy(&policy(SIGNED));
    let gate = restarted_offline(gate, &registry, &clock).await;
    assert_eq!(gate.get("/library/signed/manifests/1").await.status, 200);
    let got = gate.get("/library/unsigned/manifests/1").await;
    assert_eq!(got.status, 503, "{}", got.text());
    assert!(got.text().contains("is offline") && !got.text().contains("not signed"), "{}", got.text());
    assert_eq!(registry.requests().len(), 0);
}

/// An image with one large layer.
fn large(seed: u64) -> (pullgate::sample::image::Built, Digest) {
    let content = noise(300_000, seed);
    let layer = Layer::of("application/vnd.oci.image.layer.v1.tar", content.clone());
    (Image::linux_amd64().layer(layer).build(), Digest::sha256(&content))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pinned_images_are_never_evicted() {
    let registry = Arc::new(TestRegistry::start().await);
    let (images, layers): (Vec<_>, Vec<_>) = (0..3).map(large).unzip();
    for (number, image) in images.iter().enumerate() {
        registry.push("library/app", Some(&number.to_string()), image);
    }
    let cache = "[cache]\nmax_size = \"1MiB\"\nlow_watermark = 0\nmax_age = \"1h\"";
    let clock = Clock::manual(Clock::system().now());
    let gate = TestGate::new(&registry, ALLOW_ALL).clock(&clock).with(cache).start().await;
    let name = |number: usize| format!("{HOST}/library/app:{number}");
    let refused = pullgate(&gate, &["cache", "pin", &name(0)]).await;
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused).contains("registry.test/library/app:0 is not in the cache"), "{}", text(&refused));
    assert_eq!(gate.get("/library/app/manifests/0").await.status, 200);
    let refused = pullgate(&gate, &["cache", "pin", &name(0)]).await;
    assert!(text(&refused).contains("of its blobs are not in the cache"), "{}", text(&refused));
    let pinned = pullgate(&gate, &["cache", "pin", &name(0), "--fetch", "--reason", "needed", "--by", "ann"]).await;
    assert!(pinned.status.success(), "{}", text(&pinned));
    assert!(pullgate(&gate, &["prefetch", &name(1)]).await.status.success());
    let file = |digest: Digest| file(&gate, digest);
    clock.advance(SignedDuration::from_hours(48));
    soon(async {
        while file(layers[1]).exists() {
            assert!(pullgate(&gate, &["cache", "gc"]).await.status.success());
        }
    })
    .await;
    assert!(file(layers[0]).exists(), "it is pinned");
    let listed = text(&pullgate(&gate, &["cache", "pins"]).await);
    assert!(listed.contains(&name(0)) && listed.contains("needed") && listed.contains("ann"), "{listed}");
    let status = text(&pullgate(&gate, &["cache", "status"]).await);
    assert!(status.contains("pinned       1 image (29") && status.contains("pins keep"), "{status}");
    let unpinned = pullgate(&gate, &["cache", "unpin", &name(0)]).await;
    assert!(unpinned.status.success(), "{}", text(&unpinned));
    assert_eq!(pullgate(&gate, &["cache", "unpin", &name(0)]).await.status.code(), Some(1));
    soon(async {
        while file(layers[0]).exists() {
            assert!(pullgate(&gate, &["cache", "gc"]).await.status.success());
        }
    })
    .await;
    let (_, records) = gate.stop_and_read_audit().await;
    let acts: Vec<_> = records.iter().filter(|record| record["endpoint"] == "cache/pins").collect();
    assert!(acts.iter().any(|act| act["decision"] == "pin" && act["reasons"].to_string().contains("reason: needed")));
    assert!(acts.iter().any(|act| act["decision"] == "unpin" && act["client"].to_string().contains("admin socket")));
}

/// A pin keeps an index with the platform that is in the cache, and what tags attach to it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pins_keep_platforms_and_signatures() {
    let registry = TestRegistry::start().await;
    let image = multi("pinned");
    registry.push("library/app", Some("1"), &image);
    let cache = "[cache]\nmax_age = \"1h\"";
    let clock = Clock::manual(Clock::system().now());
    let made = TestGate::new(&registry, ALLOW_ALL).clock(&clock).with(cache);
    made.key.sign(&registry, "library/app", &format!("{HOST}/library/app"), image.root).unwrap();
    let gate = made.start().await;
    let signature = format!("sha256-{}.sig", image.root.hex());
    let signature = gate.get(&format!("/library/app/manifests/{signature}")).await;
    assert_eq!(signature.status, 200);
    let name = format!("{HOST}/library/app:1");
    let pinned = pullgate(&gate, &["cache", "pin", "--fetch", "--platform", "linux/arm64", &name]).await;
    assert!(pinned.status.success(), "{}", text(&pinned));
    clock.advance(SignedDuration::from_hours(48));
    assert!(pullgate(&gate, &["cache", "gc"]).await.status.success());
    let status = text(&pullgate(&gate, &["cache", "status"]).await);
    assert!(status.contains("manifests    3 ("), "the index, the platform and the signature: {status}");
}
