//! What is in the cache, and what commands remove from it.

use std::collections::HashSet;
use std::sync::Arc;

use http::Method;
use jiff::SignedDuration;
use pullgate::oci::Digest;
use pullgate::runtime::Clock;
use pullgate::sample::image::{Built, Image, Layer, noise};
use pullgate::sample::{Fault, On};
use serde_json::Value;

use crate::commands::{pullgate, text};
use crate::content::file;
use crate::harness::{ALLOW_ALL, Gate, HOST, TestGate};
use crate::pull::multi;
use crate::support::{Exchange, TestRegistry, request, soon};

/// An image with one layer of its own and one that all of them share.
fn sharing(seed: u64) -> (Built, Digest, Digest) {
    let layer = |seed| Layer::of("application/vnd.oci.image.layer.v1.tar", noise(100_000, seed));
    let built = Image::linux_amd64().layer(layer(1000)).layer(layer(seed)).build();
    let (shared, own) = (built.layers[0], built.layers[1]);
    (built, shared, own)
}

async fn json(gate: &Gate, words: &[&str]) -> Value {
    let output = pullgate(gate, &[words, &["-o", "json"]].concat()).await;
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", text(&output)))
}

/// Fetches images until all of their content is listed.
async fn fetched(gate: &Gate, names: &[&str], contents: usize) -> Vec<Value> {
    let done = pullgate(gate, &[&["prefetch"][..], names].concat()).await;
    assert!(done.status.success(), "{}", text(&done));
    // A blob counts once its file is renamed, a moment after its last byte can be read.
    soon(async {
        loop {
            let listed = json(gate, &["cache", "list"]).await;
            let listed = listed.as_array().expect("a list").clone();
            if listed.len() == contents {
                return listed;
            }
        }
    })
    .await
}

/// What a list says about a content.
fn entry(listed: &[Value], digest: Digest) -> &Value {
    listed.iter().find(|one| one["digest"] == digest.to_string()).expect("it is listed")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn contents_are_listed_and_removed() {
    let registry = TestRegistry::start().await;
    let ((one, shared, own), (two, _, other)) = (sharing(1), sharing(2));
    registry.push("library/one", Some("1"), &one);
    registry.push("library/two", Some("1"), &two);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let (first, second) = (format!("{HOST}/library/one:1"), format!("{HOST}/library/two:1"));
    // Two manifests, two configurations, two layers, and one that both have.
    fetched(&gate, &[&first], 4).await;
    let mut listed = fetched(&gate, &[&second], 7).await;
    let of_both = serde_json::json!([format!("{HOST}/library/one"), format!("{HOST}/library/two")]);
    // What a repository delivered is written a moment after it was delivered.
    soon(async {
        while entry(&listed, shared)["repositories"] != of_both {
            listed = json(&gate, &["cache", "list"]).await.as_array().expect("a list").clone();
        }
    })
    .await;
    let about = |digest: Digest| entry(&listed, digest);
    assert_eq!(about(one.root)["kind"], "manifest");
    assert_eq!((&about(own)["kind"], &about(own)["bytes"]), (&"blob".into(), &100_000.into()));
    assert_eq!(about(own)["repositories"], serde_json::json!([of_both[0]]));
    assert_eq!(about(own)["pinned"], false);
    let used = |digest| about(digest)["used"].as_str().expect("a time").to_owned();
    assert!(used(own) >= used(one.root), "a layer is used when its image is");
    let short = pullgate(&gate, &["cache", "list", "--sort", "size", "--limit", "2"]).await;
    let shown = text(&short);
    assert!(shown.lines().next().is_some_and(|line| line.starts_with("DIGEST")), "{shown}");
    assert!(shown.contains("97.7KiB") && shown.contains("2 of 7 shown"), "{shown}");
    let page = request("GET", &gate.admin_url("/api/v1/cache/contents?limit=3"), &[]).await.json();
    assert_eq!(page.as_array().map(Vec::len), Some(3));
    assert_eq!(request("GET", &gate.admin_url("/api/v1/cache/contents?after=x"), &[]).await.status, 400);

    assert!(pullgate(&gate, &["cache", "pin", &second]).await.status.success());
    let listed = json(&gate, &["cache", "list"]).await;
    let pinned = listed.as_array().expect("a list").iter().filter(|one| one["pinned"] == true);
    let pinned: HashSet<&str> = pinned.filter_map(|one| one["digest"].as_str()).collect();
    let of_two: HashSet<String> =
        [two.root].iter().chain(two.blobs.iter().map(|(digest, _)| digest)).map(Digest::to_string).collect();
    assert_eq!(pinned, of_two.iter().map(String::as_str).collect());
    let kept = pullgate(&gate, &["cache", "rm", &second, &shared.to_string()]).await;
    assert_eq!(kept.status.code(), Some(1));
    assert_eq!(text(&kept).matches(&format!("it is pinned as {second}")).count(), 2, "{}", text(&kept));
    let absent = pullgate(&gate, &["cache", "rm", &format!("{HOST}/library/one:none")]).await;
    assert!(absent.status.code() == Some(1) && text(&absent).contains("it is not in the cache"), "{}", text(&absent));

    let removed = json(&gate, &["cache", "rm", &first]).await;
    assert_eq!((&removed[0]["files"], &removed[0]["digest"]), (&3.into(), &one.root.to_string().into()));
    assert!(!file(&gate, own).exists() && !file(&gate, one.root).exists(), "it is removed");
    assert!(file(&gate, shared).exists() && file(&gate, other).exists(), "another image needs it");
    assert_eq!(gate.get("/library/one/manifests/1").await.body, one.manifest().bytes, "it is fetched again");
    assert_eq!(gate.get(&format!("/library/one/blobs/{own}")).await.status, 200);

    let forced = pullgate(&gate, &["cache", "rm", "--force", &second]).await;
    assert!(forced.status.success() && text(&forced).contains(&format!("unpinned {second}")), "{}", text(&forced));
    assert!(!file(&gate, other).exists());
    assert_eq!(json(&gate, &["cache", "pins"]).await, serde_json::json!([]));
    let (_, records) = gate.stop_and_read_audit().await;
    let acts: Vec<_> = records.iter().filter(|record| record["endpoint"] == "cache/contents").collect();
    assert!(acts.iter().all(|act| act["decision"] == "remove-content") && acts.len() >= 4, "{acts:?}");
    assert!(acts.iter().any(|act| act["image"] == first && act["client"].to_string().contains("admin socket")));
}

/// One of them delivers it, and the other one confirms that it has it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn repositories_that_fetch_a_layer_together_are_both_listed() {
    let registry = TestRegistry::start().await;
    let ((one, shared, _), (two, ..)) = (sharing(1), sharing(2));
    registry.push("library/one", Some("1"), &one);
    registry.push("library/two", Some("1"), &two);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    for repository in ["one", "two"] {
        assert_eq!(gate.get(&format!("/library/{repository}/manifests/1")).await.status, 200);
    }
    let url = |repository: &str| gate.url(&format!("/library/{repository}/blobs/{shared}"));
    let stalled = registry.inject(On::blobs().method(Method::GET), Fault::Stall(10));
    let first = Exchange::start("GET", &url("one"), &[]).await;
    let second = Exchange::start("GET", &url("two"), &[]).await;
    stalled.release();
    let (first, second) = (first.finish().await, second.finish().await);
    assert_eq!((first.status, second.status, first.body == second.body), (200, 200, true));
    assert_eq!(registry.count(|request| request.is("GET", "/blobs/")), 1, "it is fetched once");
    let of_both = serde_json::json!([format!("{HOST}/library/one"), format!("{HOST}/library/two")]);
    soon(async {
        loop {
            let listed = json(&gate, &["cache", "list"]).await;
            let layer = listed.as_array().expect("a list").iter().find(|one| one["digest"] == shared.to_string());
            if layer.is_some_and(|layer| layer["repositories"] == of_both) {
                return;
            }
        }
    })
    .await;
}

/// What could not be removed is still kept by its pin.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pin_is_dropped_only_with_its_content() {
    let registry = TestRegistry::start().await;
    let (image, _, layer) = sharing(1);
    registry.push("library/app", Some("1"), &image);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let name = format!("{HOST}/library/app:1");
    fetched(&gate, &[&name], 4).await;
    assert!(pullgate(&gate, &["cache", "pin", &name]).await.status.success());
    // A folder of this name cannot be removed like a file.
    let content = std::fs::read(file(&gate, layer)).expect("a file");
    std::fs::remove_file(file(&gate, layer)).expect("a file");
    std::fs::create_dir(file(&gate, layer)).expect("a folder");
    let kept = pullgate(&gate, &["cache", "rm", "--force", &layer.to_string()]).await;
    assert_eq!(kept.status.code(), Some(1), "{}", text(&kept));
    assert!(text(&kept).contains("1 file could not be removed"), "{}", text(&kept));
    assert_eq!(json(&gate, &["cache", "pins"]).await[0]["image"], name);
    std::fs::remove_dir(file(&gate, layer)).expect("a folder");
    std::fs::write(file(&gate, layer), content).expect("a file");
    assert!(pullgate(&gate, &["cache", "rm", "--force", &name]).await.status.success());
    assert_eq!(json(&gate, &["cache", "pins"]).await, serde_json::json!([]));
    // The manifest goes, so there is nothing left to pin, but not all of the image does.
    fetched(&gate, &[&name], 4).await;
    assert!(pullgate(&gate, &["cache", "pin", &name]).await.status.success());
    std::fs::remove_file(file(&gate, layer)).expect("a file");
    std::fs::create_dir(file(&gate, layer)).expect("a folder");
    let partly = soon(async {
        loop {
            let partly = pullgate(&gate, &["cache", "rm", "--force", &name]).await;
            if !text(&partly).contains("it is in use") {
                return partly;
            }
        }
    })
    .await;
    assert_eq!(partly.status.code(), Some(1), "{}", text(&partly));
    assert!(text(&partly).contains("1 file could not be removed"), "{}", text(&partly));
    assert!(!file(&gate, image.root).exists());
    assert_eq!(json(&gate, &["cache", "pins"]).await, serde_json::json!([]));
    gate.stop().await;
}

/// A transfer that runs is not cut, and an image goes as a whole or not at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_index_is_removed_with_its_platforms() {
    let registry = TestRegistry::start().await;
    let image = multi("index");
    registry.push("library/app", Some("1"), &image);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let name = format!("{HOST}/library/app:1");
    let fetch = ["prefetch", &name, "--platform", "linux/arm64", "--platform", "linux/amd64"];
    let done = pullgate(&gate, &fetch).await;
    assert!(done.status.success(), "{}", text(&done));
    let digests: HashSet<Digest> =
        image.manifests.iter().map(|one| one.digest).chain(image.blobs.iter().map(|(digest, _)| *digest)).collect();
    soon(async { while !digests.iter().all(|digest| file(&gate, *digest).exists()) {} }).await;
    let removed = soon(async {
        loop {
            let removed = json(&gate, &["cache", "rm", &name]).await;
            if removed[0].is_object() {
                return removed;
            }
        }
    })
    .await;
    assert_eq!(removed[0]["files"], digests.len(), "{removed}");
    assert!(digests.iter().all(|digest| !file(&gate, *digest).exists()));
    assert_eq!(json(&gate, &["cache", "list"]).await, serde_json::json!([]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn content_of_an_offline_upstream_is_removed_only_by_force() {
    let registry = Arc::new(TestRegistry::start().await);
    let (image, ..) = sharing(1);
    registry.push("library/app", Some("1"), &image);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let name = format!("{HOST}/library/app:1");
    fetched(&gate, &[&name], 4).await;
    let gate = gate.stop().await.upstream("offline = true").start().await;
    for what in [name.clone(), image.layers[0].to_string()] {
        let refused = pullgate(&gate, &["cache", "rm", &what]).await;
        assert!(
            refused.status.code() == Some(1) && text(&refused).contains("upstream is offline"),
            "{}",
            text(&refused)
        );
    }
    assert!(pullgate(&gate, &["cache", "rm", "--force", &name]).await.status.success());
    assert!(!file(&gate, image.root).exists());
}

/// What the forecast says goes is what goes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_lists_the_same_content_that_a_collection_removes() {
    let registry = Arc::new(TestRegistry::start().await);
    let images: Vec<_> = std::iter::once(multi("many")).chain((0..4).map(|seed| sharing(seed).0)).collect();
    for (number, image) in images.iter().enumerate() {
        registry.push(&format!("library/app{number}"), Some("1"), image);
    }
    let clock = Clock::manual(Clock::system().now());
    // All but the first have a layer of 100 kB that they share, and one of their own.
    let cache = "[cache]\nmax_size = \"1MB\"\nlow_watermark = 45\nmax_age = \"4h30m\"";
    let gate = TestGate::new(&registry, ALLOW_ALL).clock(&clock).with(cache).start().await;
    let mut contents = 0;
    for (number, image) in images.iter().enumerate() {
        let name = format!("{HOST}/library/app{number}:1");
        let platforms = ["--platform", "linux/amd64", "--platform", "linux/arm64"];
        let platforms = if number == 0 { &platforms[..] } else { &[] };
        assert!(pullgate(&gate, &[&["prefetch", &name][..], platforms].concat()).await.status.success());
        contents += image.manifests.len() + image.blobs.len() - usize::from(number > 1);
        soon(async { while json(&gate, &["cache", "list"]).await.as_array().map(Vec::len) != Some(contents) {} }).await;
        clock.advance(SignedDuration::from_hours(if number == 4 { 0 } else { 1 }));
    }
    // A gate looks for what has expired when it starts and half a minute later: nothing goes in between.
    let gate = gate.stop().await.start().await;
    json(&gate, &["cache", "list"]).await;
    clock.advance(SignedDuration::from_hours(1));
    let before = json(&gate, &["cache", "list", "--limit", "0"]).await;
    let forecast = json(&gate, &["cache", "gc", "--dry-run"]).await;
    assert_eq!(json(&gate, &["cache", "list", "--limit", "0"]).await, before, "nothing is removed");
    let listed = forecast["contents"].as_array().expect("a list");
    let of = |cause: &str| {
        let caused = listed.iter().filter(|one| one["cause"] == cause).filter_map(|one| one["digest"].as_str());
        caused.map(str::to_owned).collect::<HashSet<_>>()
    };
    assert_eq!(of("expired"), images[0].manifests.iter().map(|one| one.digest.to_string()).collect(), "{forecast}");
    assert_eq!(of("space"), HashSet::from([images[1].root.to_string()]), "{forecast}");
    let shown = text(&pullgate(&gate, &["cache", "gc", "--dry-run"]).await);
    assert!(shown.starts_with("would free ") && shown.contains(&format!("{HOST}/library/app0")), "{shown}");

    let collected = json(&gate, &["cache", "gc"]).await;
    assert_eq!(collected["freed_bytes"], forecast["freed_bytes"]);
    let after = json(&gate, &["cache", "list", "--limit", "0"]).await;
    let count = |list: &Value| list.as_array().expect("a list").len();
    assert_eq!(
        count(&before) - count(&after),
        usize::try_from(forecast["files"].as_u64().expect("a number")).expect("few")
    );
    assert_eq!(json(&gate, &["cache", "gc", "--dry-run"]).await["files"], 0);
}
