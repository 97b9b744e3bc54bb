//! The data plane: what is downloaded, kept and evicted, and what happens if the disk cannot be written.

use std::path::PathBuf;

use bytes::Bytes;
use http::Method;
use pullgate::oci::Digest;
use pullgate::sample::image::{Built, Image, Layer, noise};
use pullgate::sample::{Fault, On};

use crate::harness::{ALLOW_ALL, Gate, TestGate, metric, ready};
use crate::support::{Exchange, TestRegistry, request, soon, until};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

/// An image with these layers.
pub(crate) fn image(layers: &[&Bytes]) -> Built {
    layers.iter().fold(Image::linux_amd64(), |image, layer| image.layer(Layer::of(LAYER, (*layer).clone()))).build()
}

fn digest(content: &Bytes) -> Digest {
    Digest::sha256(content)
}

/// The path of cached content.
pub(crate) fn file(gate: &Gate, digest: Digest) -> PathBuf {
    let hex = digest.hex();
    gate.file("state/blobs/sha256").join(&hex[..2]).join(hex)
}

/// Pulls an image of `library/NAME` as a client would.
async fn pull(gate: &Gate, name: &str, image: &Built) {
    assert_eq!(gate.get(&format!("/library/{name}/manifests/1")).await.status, 200);
    for (digest, bytes) in &image.blobs {
        assert_eq!(gate.get(&format!("/library/{name}/blobs/{digest}")).await.body, bytes, "{name} {digest}");
    }
    let is_kept = || image.blobs.iter().all(|(digest, _)| file(gate, *digest).exists());
    until(is_kept).await;
}

#[tokio::test]
async fn head_requests_for_blobs_download_nothing() {
    let registry = TestRegistry::start().await;
    let content = noise(700_000, 1);
    registry.push("library/app", Some("1"), &image(&[&content]));
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    let path = format!("/library/app/blobs/{}", digest(&content));
    let head = gate.head(&path).await;
    assert_eq!((head.status, head.header("content-length")), (200, Some("700000")));
    assert_eq!(registry.count(|r| r.is("GET", "/blobs/")), 0);
    assert_eq!(gate.get(&path).await.body, content);
    registry.clear_log();
    assert_eq!(gate.head(&path).await.header("content-length"), Some("700000"));
    assert_eq!(registry.count(|_| true), 0, "cached content needs no upstream");
}

/// Without the host in the key of a fill, and without checking the disk first, one registry would delay readers of
/// another.
#[tokio::test]
async fn stalled_registries_do_not_delay_pulls_of_the_same_blob_from_others() {
    let (good, slow) = (TestRegistry::start().await, TestRegistry::start().await);
    let (content, kept) = (noise(700_000, 1), noise(600_000, 2));
    let shared = image(&[&content, &kept]);
    good.push("library/app", Some("1"), &shared);
    slow.push("library/app", Some("1"), &shared);
    let second = format!("[[upstream]]\nhost = \"slow.test\"\nurl = \"{}\"", slow.listening.url());
    let gate = TestGate::new(&good, ALLOW_ALL).with(&second).start().await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    assert_eq!(gate.get(&format!("/library/app/blobs/{}", digest(&kept))).await.body, kept);
    let at_slow = |path: &str| gate.any_url(&format!("/v2/slow.test/library/app{path}"));
    assert_eq!(request("GET", &at_slow("/manifests/1"), &[]).await.status, 200);
    let stall = slow.inject(On::blobs().method(Method::GET), Fault::Stall(1000));
    let mut waiting = Vec::new();
    for content in [&content, &kept] {
        let mut reader = Exchange::start("GET", &at_slow(&format!("/blobs/{}", digest(content))), &[]).await;
        assert_eq!(reader.read(1000).await, content.slice(..1000));
        waiting.push((content, reader));
    }
    for content in [&kept, &content] {
        assert_eq!(gate.get(&format!("/library/app/blobs/{}", digest(content))).await.body, *content);
    }
    stall.release();
    for (content, reader) in waiting {
        assert_eq!(reader.finish().await.body, content.slice(1000..));
    }
}

#[tokio::test]
async fn few_downloads_continue_without_readers() {
    for (limit, goes_on) in [(1, true), (0, false)] {
        let registry = TestRegistry::start().await;
        let content = noise(2_000_000, 1);
        registry.push("library/app", Some("1"), &image(&[&content]));
        let gate =
            TestGate::new(&registry, ALLOW_ALL).with(&format!("[cache]\norphan_fill_limit = {limit}")).start().await;
        assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
        let stall = registry.inject(On::blobs().method(Method::GET), Fault::Stall(1_000_000));
        let path = format!("/library/app/blobs/{}", digest(&content));
        let mut reader = Exchange::start("GET", &gate.url(&path), &[]).await;
        assert_eq!(reader.read(1000).await.len(), 1000);
        drop(reader);
        if goes_on {
            stall.release();
            until(|| file(&gate, digest(&content)).exists()).await;
            assert_eq!(registry.count(|r| r.is("GET", "/blobs/")), 1);
        } else {
            soon(async { while metric(&gate, "pullgate_cache_fills_in_flight").await > 0 {} }).await;
            stall.release();
            stall.remove();
            assert!(!file(&gate, digest(&content)).exists());
        }
        assert_eq!(gate.get(&path).await.body, content, "the next pull works");
    }
}

#[tokio::test]
async fn least_recently_used_images_are_evicted_except_shared_layers() {
    let registry = TestRegistry::start().await;
    let layers: Vec<Bytes> = (0..5).map(|seed| noise(1_000_000, seed)).collect();
    let base = &layers[4];
    let images: Vec<Built> = layers[..4].iter().map(|own| image(&[base, own])).collect();
    for (n, image) in images.iter().enumerate() {
        registry.push(&format!("library/{n}"), Some("1"), image);
    }
    // There is room for the base and three more layers; the fourth reaches the watermark.
    let gate = TestGate::new(&registry, ALLOW_ALL)
        .with("[cache]\nmax_size = \"4500KiB\"\nhigh_watermark = 95\nlow_watermark = 90")
        .start()
        .await;
    for n in [0, 1, 2] {
        pull(&gate, &n.to_string(), &images[n]).await;
    }
    // The first image is used again, so the second is evicted.
    assert_eq!(gate.get("/library/0/manifests/1").await.status, 200);
    pull(&gate, "3", &images[3]).await;
    until(|| !file(&gate, digest(&layers[1])).exists()).await;
    for (digest, _) in &images[1].blobs {
        assert_eq!(
            file(&gate, *digest).exists(),
            *digest == self::digest(base),
            "all parts of an image are evicted together"
        );
    }
    assert!(!file(&gate, images[1].root).exists());
    for n in [0, 2, 3] {
        assert!(images[n].blobs.iter().all(|(digest, _)| file(&gate, *digest).exists()), "{n} is kept completely");
    }
    pull(&gate, "1", &images[1]).await;
    assert!(metric(&gate, "pullgate_cache_stored_bytes").await <= 4500 * 1024);
}

#[tokio::test]
async fn content_being_read_stays_and_blobs_without_space_are_streamed_through() {
    let registry = TestRegistry::start().await;
    let (held, other) = (noise(24_000_000, 1), noise(24_000_000, 2));
    registry.push("library/held", Some("1"), &image(&[&held]));
    registry.push("library/other", Some("1"), &image(&[&other]));
    let gate = TestGate::new(&registry, ALLOW_ALL).with("[cache]\nmax_size = \"26MiB\"").start().await;
    pull(&gate, "held", &image(&[&held])).await;
    // The client reads the headers; more data is left than the socket buffers can hold.
    let mut reader = Exchange::start("GET", &gate.url(&format!("/library/held/blobs/{}", digest(&held))), &[]).await;
    assert_eq!(reader.read(1000).await, held.slice(..1000));
    assert_eq!(gate.get("/library/other/manifests/1").await.status, 200);
    let path = format!("/library/other/blobs/{}", digest(&other));
    assert_eq!(gate.get(&path).await.body, other);
    assert!(file(&gate, digest(&held)).exists() && !file(&gate, digest(&other)).exists());
    assert_eq!(metric(&gate, "pullgate_cache_relayed_total").await, 1);
    assert_eq!(reader.finish().await.body, held.slice(1000..));
    soon(async {
        while !file(&gate, digest(&other)).exists() {
            assert_eq!(gate.get(&path).await.body, other);
        }
    })
    .await;
    assert!(!file(&gate, digest(&held)).exists(), "it was evicted once nobody read it");
}

/// A client that reads slowly keeps the download of a blob that is not cached, and nothing else.
#[tokio::test]
async fn streamed_blobs_leave_the_downloads_to_others() {
    let registry = TestRegistry::start().await;
    let (large, small) = (noise(24_000_000, 1), noise(500_000, 2));
    registry.push("library/large", Some("1"), &image(&[&large]));
    registry.push("library/small", Some("1"), &image(&[&small]));
    let gate = TestGate::new(&registry, ALLOW_ALL).with("[cache]\nmax_size = \"4MiB\"\nmax_fills = 1").start().await;
    for repository in ["large", "small"] {
        assert_eq!(gate.get(&format!("/library/{repository}/manifests/1")).await.status, 200);
    }
    let mut reader = Exchange::start("GET", &gate.url(&format!("/library/large/blobs/{}", digest(&large))), &[]).await;
    assert_eq!(reader.read(1000).await, large.slice(..1000));
    assert_eq!(metric(&gate, "pullgate_cache_relayed_total").await, 1);
    assert_eq!(gate.get(&format!("/library/small/blobs/{}", digest(&small))).await.body, small);
    assert_eq!(reader.finish().await.body, large.slice(1000..));
}

/// Clients that ask at the same time share the question for the size, and nothing else.
#[tokio::test]
async fn each_blob_that_is_streamed_through_is_counted() {
    let registry = TestRegistry::start().await;
    let large = noise(5_000_000, 1);
    registry.push("library/large", Some("1"), &image(&[&large]));
    let gate = TestGate::new(&registry, ALLOW_ALL).with("[cache]\nmax_size = \"4MiB\"").start().await;
    assert_eq!(gate.get("/library/large/manifests/1").await.status, 200);
    let path = format!("/library/large/blobs/{}", digest(&large));
    let held = registry.inject(On::blobs(), Fault::Gate);
    let opened = async {
        held.wait_for_hits(1).await;
        soon(async { while metric(&gate, "pullgate_cache_misses_total").await < 2 {} }).await;
        held.remove();
        held.release();
    };
    let (first, second, ()) = tokio::join!(gate.get(&path), gate.get(&path), opened);
    assert!(first.body == large && second.body == large);
    assert_eq!(metric(&gate, "pullgate_cache_relayed_total").await, 2);
}

/// Clients that read slowly keep only half of a registry's connections.
#[tokio::test]
async fn streamed_blobs_leave_connections_to_others() {
    let registry = TestRegistry::start().await;
    let (large, small) = (noise(24_000_000, 1), noise(500_000, 2));
    registry.push("library/large", Some("1"), &image(&[&large]));
    registry.push("library/small", Some("1"), &image(&[&small]));
    let gate = TestGate::new(&registry, ALLOW_ALL).with("[cache]\nmax_size = \"4MiB\"");
    let gate = gate.upstream("max_connections = 4").start().await;
    for repository in ["large", "small"] {
        assert_eq!(gate.get(&format!("/library/{repository}/manifests/1")).await.status, 200);
    }
    let url = gate.url(&format!("/library/large/blobs/{}", digest(&large)));
    let mut readers = Vec::new();
    for _ in 0..2 {
        let mut reader = Exchange::start("GET", &url, &[]).await;
        assert_eq!(reader.read(1000).await, large.slice(..1000));
        readers.push(reader);
    }
    let third = request("GET", &url, &[]).await;
    assert_eq!((third.status, third.header("retry-after").is_some()), (503, true), "{}", third.text());
    assert_eq!(gate.get(&format!("/library/small/blobs/{}", digest(&small))).await.body, small);
    drop(readers.pop());
    soon(async { while request("GET", &url, &[]).await.status != 200 {} }).await;
    assert_eq!(readers.pop().unwrap().finish().await.body, large.slice(1000..));
}

/// Downloads that wait for a slow registry do not count as running.
#[tokio::test]
async fn a_slow_registry_leaves_downloads_to_others() {
    let (good, slow) = (TestRegistry::start().await, TestRegistry::start().await);
    let contents = [noise(600_000, 1), noise(600_000, 2), noise(600_000, 3)];
    let content = noise(500_000, 4);
    slow.push("library/app", Some("1"), &image(&contents.each_ref()));
    good.push("library/app", Some("1"), &image(&[&content]));
    let second = format!(
        "[[upstream]]\nhost = \"slow.test\"\nurl = \"{}\"\nmax_connections = 1\n[cache]\nmax_fills = 2",
        slow.listening.url()
    );
    let gate = TestGate::new(&good, ALLOW_ALL).with(&second).start().await;
    let at_slow = |path: &str| gate.any_url(&format!("/v2/slow.test/library/app{path}"));
    assert_eq!(request("GET", &at_slow("/manifests/1"), &[]).await.status, 200);
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    let stall = slow.inject(On::blobs().method(Method::GET), Fault::Stall(1000));
    let urls = contents.each_ref().map(|content| at_slow(&format!("/blobs/{}", digest(content))));
    let pulls = futures_util::future::join_all(urls.iter().map(|url| request("GET", url, &[])));
    let other = async {
        stall.wait_for_hits(1).await;
        let other = soon(gate.get(&format!("/library/app/blobs/{}", digest(&content)))).await;
        stall.release();
        other
    };
    let (pulled, other) = tokio::join!(pulls, other);
    assert_eq!(other.body, content);
    assert!(pulled.iter().zip(&contents).all(|(got, content)| got.body == *content));
}

#[tokio::test]
async fn pulls_continue_when_the_disk_fails_and_caching_recovers() {
    let registry = TestRegistry::start().await;
    let content = noise(900_000, 1);
    let image = image(&[&content]);
    registry.push("library/app", Some("1"), &image);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    // Nothing can be written: a file is in the place of the directory for partial files.
    std::fs::remove_dir_all(gate.file("state/blobs/partial")).unwrap();
    std::fs::write(gate.file("state/blobs/partial"), "").unwrap();
    assert_eq!(gate.get("/library/app/manifests/1").await.body, image.manifest().bytes);
    let path = format!("/library/app/blobs/{}", digest(&content));
    let got = gate.get(&path).await;
    assert_eq!((got.status, got.complete), (200, true));
    assert_eq!(got.body, content);
    let part = request("GET", &gate.url(&path), &[("range", "bytes=100-299")]).await;
    assert_eq!((part.status, part.body), (206, content.slice(100..300)));
    assert!(ready(&gate).await.contains("nothing is cached"), "{}", ready(&gate).await);
    let cut = registry.inject(On::blobs().method(Method::GET).times(2), Fault::Cut(300_000));
    assert_eq!(gate.get(&path).await.body, content, "downloads are resumed here too");
    cut.remove();
    let flip = registry.inject(On::blobs().method(Method::GET), Fault::Flip(5));
    let got = gate.get(&path).await;
    assert!(!got.complete || got.status != 200, "wrong content never completes here either");
    flip.remove();
    std::fs::remove_file(gate.file("state/blobs/partial")).unwrap();
    assert_eq!(gate.get(&path).await.body, content);
    until(|| file(&gate, digest(&content)).exists()).await;
    soon(async { while ready(&gate).await.contains("nothing is cached") {} }).await;
}

#[tokio::test]
async fn small_corrupt_content_is_fetched_again() {
    let registry = TestRegistry::start().await;
    let content = noise(10_000, 1);
    registry.push("library/app", Some("1"), &image(&[&content]));
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    pull(&gate, "app", &image(&[&content])).await;
    let path = file(&gate, digest(&content));
    let made = gate.stop().await;
    std::fs::write(&path, noise(10_000, 2)).unwrap();
    let gate = made.start().await;
    assert_eq!(gate.get(&format!("/library/app/blobs/{}", digest(&content))).await.body, content);
    until(|| std::fs::read(&path).is_ok_and(|bytes| bytes == content)).await;
}

#[tokio::test]
async fn content_is_counted_after_a_restart_and_found_after_a_crash() {
    let registry = TestRegistry::start().await;
    let contents: Vec<Bytes> = (0..3).map(|seed| noise(500_000, seed)).collect();
    let image = image(&contents.iter().collect::<Vec<_>>());
    registry.push("library/app", Some("1"), &image);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    pull(&gate, "app", &image).await;
    soon(async { while metric(&gate, "pullgate_cache_fills_in_flight").await > 0 {} }).await;
    let total = metric(&gate, "pullgate_cache_stored_bytes").await;
    let sizes: usize = image.blobs.iter().map(|(_, bytes)| bytes.len()).sum();
    assert_eq!(total, (sizes + image.manifest().bytes.len()) as u64);
    // A crash after the rename leaves a file without a row; an administrator removes another file by hand.
    let made = gate.stop().await;
    let (extra, gone) = (noise(300_000, 9), digest(&contents[0]));
    let place = |digest: Digest| {
        let hex = digest.hex();
        made.path().join("state/blobs/sha256").join(&hex[..2]).join(hex)
    };
    std::fs::create_dir_all(place(digest(&extra)).parent().unwrap()).unwrap();
    std::fs::write(place(digest(&extra)), &extra).unwrap();
    std::fs::remove_file(place(gone)).unwrap();
    let gate = made.start().await;
    let wanted = total + 300_000 - 500_000;
    soon(async { while metric(&gate, "pullgate_cache_stored_bytes").await != wanted {} }).await;
}
