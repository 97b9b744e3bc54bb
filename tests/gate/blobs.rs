//! Blobs: ranges, conditional requests, shared downloads, and who may not have them.

mod sizes;

use http::Method;
use http::header::{CONTENT_ENCODING, CONTENT_LENGTH};
use pullgate::oci::Digest;
use pullgate::runtime::Clock;
use pullgate::sample::image::{Image, Layer, Tree, noise};
use pullgate::sample::{Access, Credentials, Fault, On};

use crate::harness::{ALLOW_ALL, TestGate};
use crate::pull::{multi, simple};
use crate::support::{Exchange, TestRegistry, request, soon};

/// An image with one layer of this size.
fn large(bytes: usize) -> (pullgate::sample::image::Built, Digest, bytes::Bytes) {
    let content = noise(bytes, 7);
    let image =
        Image::linux_amd64().layer(Layer::of("application/vnd.oci.image.layer.v1.tar", content.clone())).build();
    (image, Digest::sha256(&content), content)
}

#[tokio::test]
async fn ranges_and_conditional_requests_on_cached_blobs() {
    let registry = TestRegistry::start().await;
    let (image, layer, content) = large(600_000);
    registry.push("library/app", Some("1"), &image);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    let path = format!("/library/app/blobs/{layer}");
    assert_eq!(gate.get(&path).await.body, content);
    for (range, start, end) in
        [("0-", 0, 600_000), ("500-1499", 500, 1500), ("-500", 599_500, 600_000), ("599000-700000", 599_000, 600_000)]
    {
        let got = request("GET", &gate.url(&path), &[("range", &format!("bytes={range}"))]).await;
        assert_eq!(got.status, 206);
        assert_eq!(got.body, content.slice(start..end), "{range}");
        assert_eq!(got.header("content-range"), Some(&*format!("bytes {start}-{}/600000", end - 1)));
    }
    let got = request("GET", &gate.url(&path), &[("range", "bytes=600000-")]).await;
    assert_eq!((got.status, got.header("content-range")), (416, Some("bytes */600000")));
    assert_eq!(got.header("content-type"), Some("application/json"), "{}", got.text());
    let etag = format!("\"{layer}\"");
    assert_eq!(request("GET", &gate.url(&path), &[("if-none-match", &etag)]).await.status, 304);
    // HEAD has no parts (RFC 9110 §14.2).
    for path in [&*path, "/library/app/manifests/1"] {
        for range in ["bytes=0-0", "bytes=9999999-"] {
            let got = request("HEAD", &gate.url(path), &[("range", range)]).await;
            assert_eq!((got.status, got.header("content-range")), (200, None), "{path} {range}");
        }
    }
    let head = request("HEAD", &gate.url(&path), &[("range", "bytes=0-0")]).await;
    assert_eq!(head.header("content-length"), Some("600000"));
    assert_eq!(registry.count(|r| r.is("GET", &layer.to_string())), 1);
}

#[tokio::test]
async fn one_download_serves_everyone_including_ranges() {
    let registry = TestRegistry::start().await;
    let (image, layer, content) = large(3_000_000);
    registry.push("library/app", Some("1"), &image);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    let stall = registry.inject(On::path(&format!("*/blobs/{layer}")).method(Method::GET), Fault::Stall(1_500_000));
    let url = gate.url(&format!("/library/app/blobs/{layer}"));
    let mut readers = Vec::new();
    for n in 0..5 {
        let start = n * 200_000;
        let mut reader = Exchange::start("GET", &url, &[("range", &format!("bytes={start}-"))]).await;
        assert_eq!(reader.head().status, 206);
        // Data that has arrived is readable before the rest arrives.
        assert_eq!(reader.read(100_000).await, content.slice(start..start + 100_000));
        readers.push((start, reader));
    }
    // A reader that leaves changes nothing.
    readers.pop();
    stall.release();
    for (start, reader) in readers {
        let got = reader.finish().await;
        assert_eq!(got.body, content.slice(start + 100_000..));
    }
    assert_eq!(registry.count(|r| r.is("GET", &layer.to_string())), 1);
}

/// Lazy snapshotters read the end of a layer first.
#[tokio::test]
async fn a_small_part_far_ahead_of_the_download_is_requested_separately() {
    let registry = TestRegistry::start().await;
    let (image, layer, content) = large(3_000_000);
    registry.push("library/app", Some("1"), &image);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    let stall =
        registry.inject(On::path(&format!("*/blobs/{layer}")).method(Method::GET).times(1), Fault::Stall(1_500_000));
    let url = gate.url(&format!("/library/app/blobs/{layer}"));
    for (range, start, end) in [
        ("-47", 2_999_953, 3_000_000),
        ("2500000-2500999", 2_500_000, 2_501_000),
        ("2800000-2949999", 2_800_000, 2_950_000),
    ] {
        let part = request("GET", &url, &[("range", &format!("bytes={range}"))]).await;
        assert_eq!((part.status, part.body), (206, content.slice(start..end)));
    }
    let ranges = || registry.count(|r| r.is("GET", &layer.to_string()) && r.range.is_some());
    assert_eq!(ranges(), 3);
    // What is large, or is about to be reached, waits for the download.
    let large = Exchange::start("GET", &url, &[("range", "bytes=2000000-")]).await;
    let mut near = Exchange::start("GET", &url, &[("range", "bytes=1400000-1600000")]).await;
    assert_eq!(near.read(100_000).await, content.slice(1_400_000..1_500_000));
    stall.release();
    assert_eq!(near.finish().await.body, content.slice(1_500_000..1_600_001));
    assert_eq!((large.head().status, large.finish().await.body), (206, content.slice(2_000_000..)));
    assert_eq!(ranges(), 3);
}

#[tokio::test]
async fn a_part_that_the_registry_does_not_send_separately_waits_for_the_download() {
    let registry = TestRegistry::start().await;
    let (image, layer, content) = large(3_000_000);
    registry.push("library/app", Some("1"), &image);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    let blobs = || On::path(&format!("*/blobs/{layer}")).method(Method::GET);
    let stall = registry.inject(blobs().times(1), Fault::Stall(1_500_000));
    registry.inject(blobs(), Fault::IgnoreRange);
    let url = gate.url(&format!("/library/app/blobs/{layer}"));
    let part = Exchange::start("GET", &url, &[("range", "bytes=-47")]).await;
    soon(registry.wait_for(|log| log.iter().any(|r| r.is("GET", &layer.to_string()) && r.range.is_some()))).await;
    stall.release();
    assert_eq!(part.finish().await.body, content.slice(2_999_953..));
}

#[tokio::test]
async fn interrupted_downloads_are_resumed() {
    let registry = TestRegistry::start().await;
    let (image, layer, content) = large(1_000_000);
    registry.push("library/app", Some("1"), &image);
    let blobs = || On::path(&format!("*/blobs/{layer}")).method(Method::GET);
    registry.inject(blobs().times(2), Fault::Cut(400_000));
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    let got = gate.get(&format!("/library/app/blobs/{layer}")).await;
    assert!(got.complete);
    assert_eq!(got.body, content);
}

#[tokio::test]
async fn wrong_content_never_completes_and_is_not_kept() {
    let registry = TestRegistry::start().await;
    let (image, layer, content) = large(1_000_000);
    registry.push("library/app", Some("1"), &image);
    let flip = registry.inject(On::path(&format!("*/blobs/{layer}")).method(Method::GET), Fault::Flip(999_999));
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    let path = format!("/library/app/blobs/{layer}");
    let got = gate.get(&path).await;
    assert!(!got.complete, "a reader completed content whose digest is wrong");
    assert_eq!(got.body.len().max(999_999), 999_999, "the last byte is held back");
    flip.remove();
    let got = gate.get(&path).await;
    assert!(got.complete);
    assert_eq!(got.body, content);
}

#[tokio::test]
async fn unnamed_blobs_are_unknown_and_manifests_are_also_judged_as_blobs() {
    let registry = TestRegistry::start().await;
    let (image, loose) = (simple("named"), registry.put_blob("library/app", "loose"));
    registry.push("library/app", Some("1"), &image);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    let unknown = gate.get(&format!("/library/app/blobs/{loose}")).await;
    assert_eq!(unknown.status, 404);
    assert_eq!(unknown.json()["errors"][0]["code"], "BLOB_UNKNOWN");
    let manifest = gate.get(&format!("/library/app/blobs/{}", image.root)).await;
    assert_eq!((manifest.status, manifest.body), (200, image.manifest().bytes.clone()));
    gate.set_policy(&crate::harness::policy("  - {name: \"*\", policy: {trust: release}}\n"));
    assert_eq!(gate.get(&format!("/library/app/blobs/{}", image.root)).await.status, 403);
}

#[tokio::test]
async fn blobs_can_be_requested_before_their_platform_manifest() {
    let registry = TestRegistry::start().await;
    let image = multi("index first");
    registry.push("library/app", Some("1"), &image);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    for (digest, bytes) in &image.blobs {
        assert_eq!(gate.get(&format!("/library/app/blobs/{digest}")).await.body, bytes);
    }
}

/// Otherwise each request for an unknown blob would ask for every child again.
#[tokio::test]
async fn children_that_do_not_exist_are_not_asked_for_again_and_again() {
    let registry = TestRegistry::start().await;
    let (image, loose) = (multi("absent"), registry.put_blob("library/app", "loose"));
    registry.push("library/app", Some("1"), &image);
    let children: Vec<_> = image.manifests.iter().map(|one| one.digest).filter(|one| *one != image.root).collect();
    for child in &children {
        registry.delete_manifest("library/app", child);
    }
    let clock = Clock::manual("2026-11-27T10:00:00Z".parse().expect("a time"));
    let gate = TestGate::new(&registry, ALLOW_ALL).clock(&clock).start().await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    let unknown = async || gate.get(&format!("/library/app/blobs/{loose}")).await.status;
    let asked = || registry.count(|r| children.iter().any(|child| r.is("GET", &child.to_string())));
    // A failure is not an absence.
    let down = registry.inject(On::manifests(), Fault::status(http::StatusCode::SERVICE_UNAVAILABLE));
    assert_eq!(unknown().await, 503);
    down.remove();
    // Nor is a refusal of the gate's credentials.
    let refused = registry.inject(On::manifests(), Fault::status(http::StatusCode::FORBIDDEN));
    assert_eq!(unknown().await, 404);
    refused.remove();
    registry.clear_log();
    assert_eq!(unknown().await, 404);
    let once = asked();
    assert!(once >= children.len(), "{once}");
    for _ in 0..3 {
        assert_eq!(unknown().await, 404);
    }
    assert_eq!(asked(), once);
    clock.advance(jiff::SignedDuration::from_secs(61));
    // It was pushed in the meantime.
    registry.push("library/app", Some("1"), &image);
    for (digest, bytes) in &image.blobs {
        assert_eq!(gate.get(&format!("/library/app/blobs/{digest}")).await.body, bytes);
    }
}

/// A public manifest that names a private layer does not expose it, whether it is cached or being downloaded.
#[tokio::test]
async fn public_manifests_do_not_expose_private_layers() {
    let registry = TestRegistry::start().await;
    let (private, layer, content) = large(800_000);
    registry.push("team/private", Some("1"), &private);
    // The attacker's repository has a manifest that names the private layer, but does not have the layer.
    registry.push("attacker/public", Some("1"), &private);
    registry.delete_blob("attacker/public", &layer);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    for repository in ["team/private", "attacker/public"] {
        assert_eq!(gate.get(&format!("/{repository}/manifests/1")).await.status, 200);
    }
    let stall = registry
        .inject(On::path(&format!("/v2/team/private/blobs/{layer}")).method(Method::GET), Fault::Stall(400_000));
    let mut filling = Exchange::start("GET", &gate.url(&format!("/team/private/blobs/{layer}")), &[]).await;
    assert_eq!(filling.read(1000).await, content.slice(..1000));
    let steal = format!("/attacker/public/blobs/{layer}");
    assert_eq!(gate.get(&steal).await.status, 404, "while it is being downloaded");
    stall.release();
    assert_eq!(filling.finish().await.body, content.slice(1000..));
    assert_eq!(gate.get(&steal).await.status, 404, "when it is cached");
    // A repository that really has it needs no second download.
    registry.put_blob("attacker/public", content.clone());
    assert_eq!(gate.get(&steal).await.body, content);
    assert_eq!(
        registry.count(|r| r.status.is_some_and(|status| status.is_success())
            && r.method == Method::GET
            && r.path == format!("/v2/attacker/public/blobs/{layer}")),
        0
    );
}

#[tokio::test]
async fn blobs_are_refused_if_manifest_and_upstream_disagree_on_size() {
    let registry = TestRegistry::start().await;
    let (image, layer, _) = large(100_000);
    let text = String::from_utf8(image.manifest().bytes.to_vec()).unwrap().replace("\"size\":100000", "\"size\":99999");
    registry.push("library/app", None, &image);
    registry.put_manifest("library/app", Some("1"), &image.manifest().media_type, text);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    let path = format!("/library/app/blobs/{layer}");
    for method in ["GET", "HEAD"] {
        assert_eq!(request(method, &gate.url(&path), &[]).await.status, 502, "{method}");
    }
    let got = gate.get(&path).await;
    assert!(got.text().contains("upstream: the manifest gives"), "{}", got.text());
}

#[tokio::test]
async fn credentials_are_used_only_for_their_scopes() {
    let registry = TestRegistry::start().await;
    let image = simple("private");
    registry.push("team/private", Some("1"), &image);
    registry.set_access("team/private", Access::Basic(Credentials::new("robot", "secret")));
    let auth = "auth = { type = \"basic\", username = \"robot\", password_file = \"password\" }";
    let everyone = TestGate::new(&registry, ALLOW_ALL)
        .file("password", "secret")
        .upstream(auth)
        .upstream("serve_to = \"everyone\"");
    let gate = everyone.start().await;
    assert_eq!(gate.get("/team/private/manifests/1").await.status, 200);
    gate.stop().await;
    let some =
        TestGate::new(&registry, ALLOW_ALL).file("password", "secret").upstream(auth).upstream("serve_to = [\"ci\"]");
    let gate = some.start().await;
    registry.clear_log();
    let refused = gate.get("/team/private/manifests/1").await;
    assert_eq!(refused.status, 403, "{}", refused.text());
    assert_eq!(
        registry.requests().len(),
        0,
        "a credentialed upstream was asked from a listener that it does not serve"
    );
    gate.stop().await;
    let ci = TestGate::new(&registry, ALLOW_ALL)
        .file("password", "secret")
        .upstream(auth)
        .upstream("serve_to = [\"ci\"]")
        .listener("scope = \"ci\"");
    assert_eq!(ci.start().await.get("/team/private/manifests/1").await.status, 200);
}

/// Content that may be a manifest is read completely before it is served, a few at a time. Other blobs do not wait for
/// that, whether they may be manifests or not.
#[tokio::test]
async fn small_blobs_do_not_wait_for_slow_json() {
    let registry = TestRegistry::start().await;
    let layer = |content: String| Layer::of("application/vnd.oci.image.layer.v1.tar", content);
    let slow: Vec<Layer> = (0..4).map(|n| layer(format!("{{\"number\": {n}, \"text\": \"slow\"}}"))).collect();
    let (quick, json) = (layer("no object".into()), layer("{\"text\": \"quick\"}".into()));
    let image = slow.iter().chain([&quick, &json]).cloned().fold(Image::linux_amd64(), Image::layer).build();
    registry.push("library/app", Some("1"), &image);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    let path = |layer: &Layer| format!("/library/app/blobs/{}", layer.digest);
    let stall = |layer: &Layer| registry.inject(On::path(&format!("*/blobs/{}", layer.digest)), Fault::Stall(10));
    let stalled: Vec<_> = slow.iter().map(stall).collect();
    let paths: Vec<String> = slow.iter().map(path).collect();
    let pulls = futures_util::future::join_all(paths.iter().map(|path| gate.get(path)));
    let other = async {
        for stalled in &stalled {
            stalled.wait_for_hits(1).await;
        }
        let got = soon(async { [gate.get(&path(&quick)).await, gate.get(&path(&json)).await] }).await;
        stalled.iter().for_each(pullgate::sample::Injected::release);
        got
    };
    let (pulled, others) = tokio::join!(pulls, other);
    assert_eq!(others.map(|other| (other.status, other.body)), [&quick, &json].map(|layer| (200, layer.bytes.clone())));
    assert!(pulled.iter().all(|got| got.status == 200), "{pulled:?}");
}
