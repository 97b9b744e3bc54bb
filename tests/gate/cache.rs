//! Tags: freshness, staleness, and restarts.

use http::{Method, StatusCode};
use pullgate::oci::Digest;
use pullgate::runtime::Clock;
use pullgate::sample::image::{Layer, attachment};
use pullgate::sample::{Fault, On};

use crate::harness::{ALLOW_ALL, HOST, TestGate, policy};
use crate::pull::{multi, simple};
use crate::support::{TestRegistry, request};

#[tokio::test]
async fn fresh_tags_are_reused_and_old_ones_revalidated_with_head() {
    let registry = TestRegistry::start().await;
    let image = simple("fresh");
    registry.push("library/app", Some("1"), &image);
    let gate = TestGate::new(&registry, ALLOW_ALL).upstream("tag_ttl = \"1h\"").start().await;
    for _ in 0..3 {
        assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    }
    assert_eq!(registry.count(|r| r.path.contains("/manifests/")), 1);
    gate.stop().await;
    let gate = TestGate::new(&registry, ALLOW_ALL).upstream("tag_ttl = \"0s\"").start().await;
    registry.clear_log();
    for _ in 0..3 {
        assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    }
    assert_eq!(registry.count(|r| r.is("HEAD", "/manifests/1")), 2, "the first pull of a tag is a GET");
    assert_eq!(
        registry.count(|r| r.method == Method::GET && r.path.contains("/manifests/")),
        1,
        "the manifest is cached"
    );
}

#[tokio::test]
async fn moved_tags_are_noticed_and_old_digests_stay_available() {
    let registry = TestRegistry::start().await;
    let (old, new) = (simple("old"), simple("new"));
    registry.push("library/app", Some("1"), &old);
    let gate = TestGate::new(&registry, ALLOW_ALL).upstream("tag_ttl = \"0s\"").start().await;
    assert_eq!(gate.get("/library/app/manifests/1").await.body, old.manifest().bytes);
    registry.push("library/app", Some("1"), &new);
    assert_eq!(gate.get("/library/app/manifests/1").await.body, new.manifest().bytes);
    assert_eq!(gate.get(&format!("/library/app/manifests/{}", old.root)).await.body, old.manifest().bytes);
}

#[tokio::test]
async fn known_tags_are_served_stale_with_a_warning_while_the_upstream_is_down() {
    let registry = TestRegistry::start().await;
    let image = simple("stale");
    registry.push("library/app", Some("1"), &image);
    // A new gate each time: a registry that states how long it refuses requests is not asked again before that.
    let start = async || {
        let gate = TestGate::new(&registry, ALLOW_ALL).upstream("tag_ttl = \"0s\"").start().await;
        assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
        gate
    };
    for fault in [Fault::status(StatusCode::SERVICE_UNAVAILABLE), Fault::too_many_requests(600), Fault::Close] {
        let gate = start().await;
        let down = registry.inject(On::any(), fault);
        let got = gate.get("/library/app/manifests/1").await;
        assert_eq!(got.status, 200, "{}", got.text());
        assert!(got.header("warning").is_some_and(|text| text.contains("could not be checked")));
        let unknown = gate.get("/library/app/manifests/2").await;
        assert!([429, 503].contains(&unknown.status), "must not be 404: {}", unknown.status);
        assert!(unknown.header("retry-after").is_some());
        down.remove();
    }
    // A 404 from the upstream is a response, not an outage.
    let gate = start().await;
    registry.delete_tag("library/app", "1");
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 404);
}

#[tokio::test]
async fn silent_upstreams_count_as_down() {
    let registry = TestRegistry::start().await;
    registry.push("library/app", Some("1"), &simple("silent"));
    let gate = TestGate::new(&registry, ALLOW_ALL).upstream("tag_ttl = \"0s\"").start().await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    let held = registry.inject(On::any(), Fault::Gate);
    let got = gate.get("/library/app/manifests/1").await;
    assert_eq!(got.status, 200, "{}", got.text());
    assert!(got.header("warning").is_some_and(|text| text.contains("has not answered")));
    held.release();
}

#[tokio::test]
async fn staleness_is_bounded() {
    let registry = TestRegistry::start().await;
    registry.push("library/app", Some("1"), &simple("bounded"));
    let gate = TestGate::new(&registry, ALLOW_ALL).upstream("tag_ttl = \"0s\"\nstale_for = \"0s\"").start().await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    registry.inject(On::any(), Fault::status(StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 503);
}

#[tokio::test]
async fn known_facts_survive_a_restart_without_the_upstream() {
    let registry = TestRegistry::start().await;
    let image = multi("survivor");
    registry.push("library/app", Some("1"), &image);
    let made = TestGate::new(&registry, &policy("  - {name: \"*\", policy: {trust: release}}\n"));
    made.key.sign(&registry, "library/app", &format!("{HOST}/library/app"), image.root).unwrap();
    let gate = made.start().await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    for document in &image.manifests {
        assert_eq!(gate.get(&format!("/library/app/manifests/{}", document.digest)).await.status, 200);
    }
    for (digest, _) in &image.blobs {
        assert_eq!(gate.get(&format!("/library/app/blobs/{digest}")).await.status, 200);
    }
    let made = gate.stop().await;
    registry.inject(On::any(), Fault::status(StatusCode::SERVICE_UNAVAILABLE));
    let gate = made.start().await;
    assert_eq!(gate.get("/library/app/manifests/1").await.body, image.manifest().bytes);
    for (digest, bytes) in &image.blobs {
        assert_eq!(gate.get(&format!("/library/app/blobs/{digest}")).await.body, bytes);
    }
}

#[tokio::test]
async fn corrupt_manifests_on_disk_are_fetched_again() {
    let registry = TestRegistry::start().await;
    let image = simple("damaged");
    registry.push("library/app", Some("1"), &image);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    let made = gate.stop().await;
    let hex = image.root.hex();
    let file = made.path().join(format!("state/blobs/sha256/{}/{hex}", &hex[..2]));
    std::fs::write(&file, "{}").unwrap();
    let gate = made.start().await;
    assert_eq!(gate.get(&format!("/library/app/manifests/{}", image.root)).await.body, image.manifest().bytes);
    assert_eq!(std::fs::read(&file).unwrap(), image.manifest().bytes);
}

/// Small content is not synced, so a power failure can leave its file empty or incomplete.
#[tokio::test]
async fn files_that_a_power_failure_left_incomplete_are_fetched_again() {
    let registry = TestRegistry::start().await;
    let image = simple("power");
    registry.push("library/app", Some("1"), &image);
    let contents =
        || std::iter::once((image.root, &image.manifest().bytes)).chain(image.blobs.iter().map(|(d, b)| (*d, b)));
    let mut made = TestGate::new(&registry, ALLOW_ALL);
    let blobs = made.path().join("state/blobs/sha256");
    let file = |digest: Digest| {
        let hex = digest.hex();
        blobs.join(&hex[..2]).join(hex)
    };
    for left in [None, Some(0), Some(1)] {
        if let Some(left) = left {
            for (digest, bytes) in contents() {
                std::fs::write(file(digest), &bytes[..left]).unwrap();
            }
        }
        let gate = made.start().await;
        assert_eq!(gate.get("/library/app/manifests/1").await.body, image.manifest().bytes, "{left:?}");
        for (digest, bytes) in contents() {
            let kind = if digest == image.root { "manifests" } else { "blobs" };
            assert_eq!(gate.get(&format!("/library/app/{kind}/{digest}")).await.body, bytes, "{left:?}");
        }
        made = gate.stop().await;
        for (digest, bytes) in contents() {
            assert_eq!(std::fs::read(file(digest)).unwrap(), *bytes, "{left:?}");
        }
    }
}

#[tokio::test]
async fn concurrent_requests_for_a_tag_cause_one_lookup() {
    let registry = TestRegistry::start().await;
    registry.push("library/app", Some("1"), &simple("crowd"));
    let held = registry.inject(On::manifests(), Fault::Gate);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let url = gate.url("/library/app/manifests/1");
    let asks: Vec<_> = (0..20)
        .map(|_| {
            let url = url.clone();
            pullgate::runtime::Tasks::new().spawn(async move { request("GET", &url, &[]).await.status })
        })
        .collect();
    held.wait_for_hits(1).await;
    held.release();
    held.remove();
    for ask in asks {
        assert_eq!(ask.await.unwrap(), 200);
    }
    assert_eq!(registry.count(|r| r.path.ends_with("/manifests/1")), 1, "a new tag costs one request");
}

#[tokio::test]
async fn slow_evidence_is_pending_and_ready_for_the_retry() {
    let registry = TestRegistry::start().await;
    let image = simple("slow");
    registry.push("library/app", Some("1"), &image);
    let made = TestGate::new(&registry, &policy("  - {name: \"*\", policy: {trust: release}}\n"))
        .with("[gate]\nverdict_wait = \"300ms\"");
    made.key.sign(&registry, "library/app", &format!("{HOST}/library/app"), image.root).unwrap();
    let held = registry.inject(On::path("*sha256-*"), Fault::Gate);
    let gate = made.start().await;
    let pending = gate.get("/library/app/manifests/1").await;
    assert_eq!(pending.status, 429, "{}", pending.text());
    assert_eq!(pending.json()["errors"][0]["code"], "TOOMANYREQUESTS");
    assert!(pending.header("retry-after").is_some());
    held.release();
    held.remove();
    crate::support::soon(async { while gate.get("/library/app/manifests/1").await.status != 200 {} }).await;
}

/// A registry that accepts connections and says nothing is not a long verification: clients and operators hear which it is.
#[tokio::test]
async fn a_registry_that_does_not_answer_is_named_when_the_time_is_over() {
    let registry = TestRegistry::start().await;
    registry.push("library/app", Some("1"), &simple("silent"));
    let held = registry.inject(On::manifests(), Fault::Gate);
    let gate = TestGate::new(&registry, ALLOW_ALL).with("[gate]\nverdict_wait = \"300ms\"").start().await;
    let late = gate.get("/library/app/manifests/1").await;
    assert_eq!(late.status, 503, "{}", late.text());
    let message = late.json()["errors"][0]["message"].as_str().expect("a message").to_owned();
    let url = registry.listening.url();
    assert!(message.contains(&format!("upstream: {HOST} at {url} has not answered within 300ms")), "{message}");
    assert!(late.header("retry-after").is_some());
    held.release();
    held.remove();
    crate::support::soon(async { while gate.get("/library/app/manifests/1").await.status != 200 {} }).await;
}

/// A large one costs as much each time, and is refused each time.
#[tokio::test]
async fn refused_manifests_are_not_fetched_for_each_request() {
    let registry = TestRegistry::start().await;
    let refused = attachment(&vec![Layer::of("application/vnd.oci.image.layer.v1.tar", "x"); 1001]);
    registry.push("library/app", Some("1"), &refused);
    let clock = Clock::manual("2026-11-27T10:00:00Z".parse().expect("a time"));
    let gate = TestGate::new(&registry, ALLOW_ALL).clock(&clock).start().await;
    let root = refused.root.to_string();
    let ask = async || {
        for reference in ["1", &root, "1", &root] {
            let got = gate.get(&format!("/library/app/manifests/{reference}")).await;
            assert!(got.status == 403 && got.text().contains("more than 1,000 entries"), "{}", got.text());
        }
        registry.count(|r| r.path.contains("/manifests/"))
    };
    assert_eq!(ask().await, 2, "once by tag and once by digest");
    clock.advance(jiff::SignedDuration::from_secs(61));
    assert_eq!(ask().await, 4, "it is not remembered forever");
    // What the tag refers to now is noticed as with any other tag.
    registry.push("library/app", Some("1"), &simple("good"));
    clock.advance(jiff::SignedDuration::from_secs(61));
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
}
