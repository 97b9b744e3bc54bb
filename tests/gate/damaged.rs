//! Content that something other than the gate changed or removed on disk.

use std::fs::{self, File};

use bytes::Bytes;
use pullgate::oci::Digest;
use pullgate::sample::image::noise;

use crate::content::{file, image};
use crate::harness::{ALLOW_ALL, TestGate, metric};
use crate::support::{TestRegistry, request, until};

const SIZE: usize = 600_000;

/// A file system that lost the end of a file.
#[tokio::test]
async fn a_cached_layer_that_is_too_short_is_fetched_again() {
    let registry = TestRegistry::start().await;
    let content = noise(SIZE, 5);
    let layer = Digest::sha256(&content);
    registry.push("library/app", Some("1"), &image(&[&content]));
    let mut gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let path = format!("/library/app/blobs/{layer}");
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    for (method, range, status, body) in [
        ("HEAD", None, 200, Bytes::new()),
        ("GET", Some("bytes=500000-500009"), 206, content.slice(500_000..500_010)),
        ("GET", None, 200, content.clone()),
    ] {
        assert_eq!(gate.get(&path).await.body, content);
        let short = file(&gate, layer);
        let made = gate.stop().await;
        File::options().write(true).open(&short).expect("it is cached").set_len(400_000).expect("a shorter file");
        gate = made.start().await;
        let headers: Vec<_> = range.iter().map(|range| ("range", *range)).collect();
        let got = request(method, &gate.url(&path), &headers).await;
        assert_eq!((got.status, &got.body), (status, &body), "{method} {range:?}");
        if method == "HEAD" {
            assert_eq!(got.header("content-length"), Some("600000"));
        }
        assert_eq!(metric(&gate, "pullgate_cache_damaged_total").await, 1, "{method} {range:?}");
    }
}

/// Otherwise whoever pushes a manifest could remove what others use.
#[tokio::test]
async fn a_manifest_with_a_wrong_size_removes_nothing() {
    let registry = TestRegistry::start().await;
    let content = noise(SIZE, 6);
    let (layer, image) = (Digest::sha256(&content), image(&[&content]));
    registry.push("library/app", Some("1"), &image);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let path = format!("/library/app/blobs/{layer}");
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    assert_eq!(gate.get(&path).await.body, content);
    let made = gate.stop().await;
    for size in ["600001", "599999"] {
        let text = String::from_utf8(image.manifest().bytes.to_vec()).expect("JSON");
        let text = text.replace("\"size\":600000", &format!("\"size\":{size}"));
        registry.put_manifest("library/app", Some(size), &image.manifest().media_type, text);
    }
    let gate = made.start().await;
    for tag in ["600001", "599999"] {
        assert_eq!(gate.get(&format!("/library/app/manifests/{tag}")).await.status, 200);
        for _ in 0..2 {
            let got = gate.get(&path).await;
            assert_eq!((got.status, &got.body), (200, &content), "{tag}: {}", got.text());
        }
    }
    assert_eq!(fs::read(file(&gate, layer)).expect("it is still cached"), content);
    assert_eq!(metric(&gate, "pullgate_cache_damaged_total").await, 0);
}

#[tokio::test]
async fn content_is_cached_again_after_its_directory_was_removed() {
    let registry = TestRegistry::start().await;
    let [first, second, third] = [7, 8, 9].map(|seed| noise(SIZE, seed));
    for (tag, content) in [("1", &first), ("2", &second), ("3", &third)] {
        registry.push("library/app", Some(tag), &image(&[content]));
    }
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    for (tag, content) in [("1", &first), ("2", &second)] {
        let layer = Digest::sha256(content);
        assert_eq!(gate.get(&format!("/library/app/manifests/{tag}")).await.status, 200);
        assert_eq!(gate.get(&format!("/library/app/blobs/{layer}")).await.body, content);
        // The file gets its name after the last byte was sent.
        until(|| file(&gate, layer).exists()).await;
        fs::remove_dir_all(gate.file("state/blobs")).expect("content was cached");
    }
    // Where that is impossible, the report names the place.
    fs::write(gate.file("state/blobs"), "").expect("a file");
    assert_eq!(gate.get("/library/app/manifests/3").await.status, 200);
    assert_eq!(gate.get(&format!("/library/app/blobs/{}", Digest::sha256(&third))).await.body, third);
    let ready = request("GET", &gate.admin_url("/readyz?verbose"), &[]).await.text();
    assert!(ready.contains("nothing is cached") && ready.contains("state/blobs/partial/"), "{ready}");
}
