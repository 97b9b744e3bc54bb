//! What a manifest is taken for, and what that rests on.

use std::time::Duration;

use http::{Method, StatusCode};
use pullgate::oci::Digest;
use pullgate::sample::image::{self, Built, Image, Layer, Tree, noise};
use pullgate::sample::{Fault, On};
use serde_json::json;

use crate::harness::{ALLOW_ALL, HOST, TestGate, assert_proven_once, policy};
use crate::pull::{multi, simple};
use crate::support::TestRegistry;

const SIGNED: &str = "  - {name: \"*\", policy: {trust: release}}\n";
const SCANNED: &str = "  - {name: \"*\", policy: {va: {unscanned: deny, unsupported: allow}}}\n";

fn model(content: impl Into<bytes::Bytes>) -> Built {
    image::artifact("application/vnd.acme.model", &[Layer::of("application/vnd.acme.weights", content)])
}

/// An attachment as cosign makes it, and the tag under which it looks for it.
async fn signature(registry: &TestRegistry, gate: &crate::harness::Gate) -> (Built, String) {
    let image = simple("signed");
    registry.push("library/app", Some("1"), &image);
    let layer = gate.key().signature(&format!("{HOST}/library/app"), image.root).expect("a signature");
    let (signature, tag) = (image::attachment(&[layer]), image::attachment_tag(&image.root, ".sig"));
    registry.push("library/app", Some(&tag), &signature);
    (signature, tag)
}

/// A registry shows other first bytes while the proof is made, and sends the tar to the client.
#[tokio::test]
async fn bytes_that_are_not_the_layers_prove_nothing() {
    let registry = TestRegistry::start().await;
    // Larger than what is looked at, so that the first bytes alone would do.
    let tar = Tree::new().file("bin/sh", noise(200_000, 5)).to_tar();
    let (layer, size) = (Digest::sha256(&tar), tar.len());
    registry.push("library/app", Some("1"), &model(tar.clone()));
    registry.put_blob_as("library/app", layer, noise(size, 6));
    let gate = TestGate::new(&registry, &policy(SCANNED)).start().await;
    for attempt in ["while it lies", "again"] {
        let got = gate.get("/library/app/manifests/1").await;
        assert_eq!(got.status, 403, "{attempt}: {}", got.text());
    }
    // More bytes than the manifest says are none of its layer either, and are not read.
    registry.put_blob_as("library/app", layer, noise(size + 1, 6));
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 403);
    registry.put_blob_as("library/app", layer, tar);
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 403, "and what it is shows when it does not lie");
}

/// What lies on this disk is read as it is, whatever it was when it came.
#[tokio::test]
async fn a_file_that_the_disk_changed_proves_nothing() {
    let registry = TestRegistry::start().await;
    let tar = Tree::new().file("bin/sh", noise(700_000, 5)).to_tar();
    let (layer, size) = (Digest::sha256(&tar), tar.len());
    registry.push("library/app", Some("1"), &model(tar));
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    for path in ["manifests/1".to_owned(), format!("blobs/{layer}")] {
        assert_eq!(gate.get(&format!("/library/app/{path}")).await.status, 200);
    }
    let file = gate.file("state/blobs/sha256").join(&layer.hex()[..2]).join(layer.hex());
    crate::support::soon(async {
        while !file.exists() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    // Not in memory any more, where it may be kept too.
    let made = gate.stop().await;
    std::fs::write(&file, noise(size, 6)).expect("a file");
    let gate = made.start().await;
    gate.set_policy(&policy(SCANNED));
    let got = gate.get("/library/app/manifests/1").await;
    assert_eq!(got.status, 403, "{}", got.text());
}

#[tokio::test]
async fn a_large_artifact_is_one_by_all_of_its_bytes() {
    let registry = TestRegistry::start().await;
    registry.push("library/app", Some("1"), &model(noise(3_000_000, 5)));
    let gate = TestGate::new(&registry, &policy(SCANNED)).start().await;
    let got = gate.get("/library/app/manifests/1").await;
    assert_eq!(got.status, 200, "{}", got.text());
}

/// The sizes are the manifest's own, so nothing is read to see that it would be too much.
#[tokio::test]
async fn no_proof_reads_more_than_a_bound_over_all_layers() {
    let registry = TestRegistry::start().await;
    let gate = TestGate::new(&registry, &policy(SCANNED)).start().await;
    let layers = |media_type: &str, size: u64| {
        let layer = |n| json!({"mediaType": media_type, "digest": Digest::sha256(&[n]), "size": size});
        (0..3).map(layer).collect::<Vec<_>>()
    };
    let dsse = "application/vnd.dsse.envelope.v1+json";
    for (tag, built, layers) in [
        ("model", model("x"), layers("application/vnd.acme.weights", 400 << 20)),
        ("attachment", image::attachment(&[Layer::of(dsse, "x")]), layers(dsse, 6 << 20)),
    ] {
        let mut body = built.json();
        body["layers"] = layers.into();
        let built = image::raw(&built.manifest().media_type, &body).with_content_of(&built);
        registry.push("library/app", Some(tag), &built);
        let got = gate.get(&format!("/library/app/manifests/{tag}")).await;
        assert_eq!(got.status, 403, "{tag}: {}", got.text());
        assert!(got.text().contains("UNSCANNED"), "{tag}: {}", got.text());
    }
    assert_eq!(registry.count(|request| request.path.contains("/blobs/")), 0, "{:?}", registry.requests());
}

#[tokio::test]
async fn few_proofs_run_at_one_time() {
    let registry = TestRegistry::start().await;
    let gate = TestGate::new(&registry, &policy(SIGNED)).start().await;
    let dsse = "application/vnd.dsse.envelope.v1+json";
    for n in 0..8 {
        let built = image::attachment(&[Layer::of(dsse, format!("{{\"n\": {n}}}"))]);
        registry.push("library/app", Some(&n.to_string()), &built);
    }
    let held = registry.inject(On::blobs().method(Method::GET), Fault::Gate);
    let paths: Vec<_> = (0..8).map(|n| format!("/library/app/manifests/{n}")).collect();
    let pulls = futures_util::future::join_all(paths.iter().map(|path| gate.get(path)));
    let watch = async {
        // All are known before one may go on, so that whoever reads would read by now.
        registry.wait_for(|log| log.iter().filter(|request| request.is("GET", "/manifests/")).count() >= 8).await;
        held.wait_for_hits(4).await;
        let more = tokio::time::timeout(Duration::from_millis(300), held.wait_for_hits(5)).await;
        held.release();
        more.is_ok()
    };
    let (answers, more) = tokio::join!(pulls, watch);
    assert!(!more, "more than four at one time");
    assert!(answers.iter().all(|answer| answer.status == 403), "{answers:?}");
}

#[tokio::test]
async fn what_cannot_be_read_just_now_is_not_denied_but_put_off() {
    let registry = TestRegistry::start().await;
    let gate = TestGate::new(&registry, &policy(SIGNED)).start().await;
    let (signature, tag) = signature(&registry, &gate).await;
    let path = format!("/library/app/manifests/{tag}");
    let down = registry.inject(On::blobs(), Fault::status(StatusCode::BAD_GATEWAY));
    let got = gate.get(&path).await;
    assert_eq!(got.status, 503, "{}", got.text());
    assert!(got.header("retry-after").is_some() && got.text().contains("upstream"), "{}", got.text());
    down.remove();
    assert_eq!(gate.get(&path).await.body, signature.manifest().bytes);
    // What is not there will not come: that is no reason to wait.
    let layer = Layer::of("application/vnd.dsse.envelope.v1+json", "{}");
    let gone = image::attachment(&[layer]);
    registry.push("library/app", Some("gone"), &gone);
    gone.blobs.iter().for_each(|(digest, _)| registry.delete_blob("library/app", digest));
    assert_eq!(gate.get("/library/app/manifests/gone").await.status, 403);
}

#[tokio::test]
async fn who_asks_for_nothing_does_not_wait_for_a_proof() {
    let registry = TestRegistry::start().await;
    registry.push("library/app", Some("1"), &model("weights"));
    registry.inject(On::blobs(), Fault::status(StatusCode::BAD_GATEWAY));
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    let audit = policy(SIGNED).replace("spec:\n", "spec:\n  mode: audit\n");
    gate.set_policy(&audit);
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200, "audit says and does not deny");
    // Unsigned is unsigned, whatever it is; only where the kind decides is it waited for.
    gate.set_policy(&policy(SIGNED));
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 403);
    gate.set_policy(&policy(SCANNED));
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 503);
}

/// No proof where nothing asks for one, and none that holds up an answer where a denial is only reported.
#[tokio::test]
async fn where_nothing_is_denied_no_proof_is_waited_for() {
    let registry = TestRegistry::start().await;
    registry.push("library/app", Some("artifact"), &model("weights"));
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let (_, signature) = signature(&registry, &gate).await;
    registry.inject(On::blobs(), Fault::status(StatusCode::BAD_GATEWAY));
    let paths = ["artifact", &*signature].map(|tag| format!("/library/app/manifests/{tag}"));
    for path in &paths {
        assert_eq!(gate.get(path).await.status, 200, "{path}");
    }
    assert_eq!(registry.count(|request| request.path.contains("/blobs/")), 0, "{:?}", registry.requests());
    gate.set_policy(&policy(SCANNED).replace("spec:\n", "spec:\n  mode: audit\n"));
    for path in &paths {
        let got = gate.get(path).await;
        assert_eq!(got.status, 200, "{path}: {}", got.text());
    }
    let by_gate = TestGate::new(&registry, &policy(SCANNED)).with("[gate]\nmode = \"audit\"").start().await;
    for path in &paths {
        let got = by_gate.get(path).await;
        assert_eq!(got.status, 200, "{path}: {}", got.text());
    }
}

/// What is proven of a manifest holds without its content, and what is known of a layer for every manifest.
#[tokio::test]
async fn a_proof_is_made_once_for_a_manifest_and_once_for_a_layer() {
    let registry = TestRegistry::start().await;
    let made = TestGate::new(&registry, &policy(SCANNED));
    assert_proven_once(&registry, made, &model(noise(700_000, 5))).await;
}

/// Turns are taken by upstream.
#[tokio::test]
async fn a_slow_registry_holds_up_no_proof_of_another() {
    let (slow, other) = (TestRegistry::start().await, TestRegistry::start().await);
    let upstream = format!("[[upstream]]\nhost = \"other.test\"\nurl = \"{}\"\n", other.listening.url());
    let gate = TestGate::new(&slow, &policy(SIGNED)).with(&upstream).start().await;
    let attachment =
        |n| image::attachment(&[Layer::of("application/vnd.dsse.envelope.v1+json", format!("{{\"n\": {n}}}"))]);
    for n in 0..4 {
        slow.push("library/app", Some(&n.to_string()), &attachment(n));
    }
    other.push("library/app", Some("1"), &attachment(9));
    let held = slow.inject(On::blobs().method(Method::GET), Fault::Gate);
    let paths: Vec<_> = (0..4).map(|n| format!("/library/app/manifests/{n}")).collect();
    let pulls = futures_util::future::join_all(paths.iter().map(|path| gate.get(path)));
    let url = gate.any_url("/v2/other.test/library/app/manifests/1");
    let quick = async {
        held.wait_for_hits(4).await;
        let got = tokio::time::timeout(Duration::from_secs(5), crate::support::request("GET", &url, &[])).await;
        held.release();
        got.map(|got| got.status)
    };
    let (answers, quick) = tokio::join!(pulls, quick);
    assert_eq!(quick, Ok(403));
    assert!(answers.iter().all(|answer| answer.status == 403), "{answers:?}");
}

/// A mirror keeps an index and not every platform of it.
#[tokio::test]
async fn a_platform_that_the_mirror_has_not_says_nothing_about_the_rest() {
    let registry = TestRegistry::start().await;
    let image = multi("partial");
    registry.push("library/app", Some("1"), &image);
    let both = "[gate]\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\n";
    let children: Vec<Digest> =
        image.manifests.iter().map(|document| document.digest).filter(|digest| *digest != image.root).collect();
    registry.delete_manifest("library/app", &children[1]);
    let gate = TestGate::new(&registry, &policy(SIGNED)).with(both).start().await;
    let got = gate.get("/library/app/manifests/1").await;
    assert_eq!(got.status, 403, "the one that is there is not signed: {}", got.text());
    gate.key().sign(&registry, "library/app", &format!("{HOST}/library/app"), children[0]).unwrap();
    let short = "[trust]\nnegative_ttl = \"0s\"\nttl = \"1h\"\n";
    let again = TestGate::new(&registry, &policy(SIGNED)).with(both).with(short);
    let key = gate.key().public_pem();
    let again = again.file("policies/release.pub", &key).start().await;
    let got = again.get("/library/app/manifests/1").await;
    assert_eq!(got.status, 200, "{}", got.text());
    assert_eq!(again.get(&format!("/library/app/manifests/{}", children[1])).await.status, 404);
}

#[tokio::test]
async fn an_index_of_which_nothing_can_be_read_is_denied() {
    let registry = TestRegistry::start().await;
    let image = multi("hollow");
    registry.push("library/app", Some("1"), &image);
    for document in image.manifests.iter().filter(|document| document.digest != image.root) {
        registry.delete_manifest("library/app", &document.digest);
    }
    for rule in [SIGNED, "  - {name: \"*\", policy: {va: {unscanned: allow}}}\n"] {
        let gate = TestGate::new(&registry, &policy(rule)).start().await;
        let got = gate.get("/library/app/manifests/1").await;
        assert_eq!(got.status, 403, "{rule}: {}", got.text());
    }
    // The same image with one platform that it has passes, so it was not something else that denied.
    let whole = image::index(&[Image::linux_amd64().layer(Layer::of("application/vnd.acme", "x")).build()]);
    registry.push("library/app", Some("2"), &whole);
    let both = "[gate]\nplatforms = [\"linux/amd64\"]\n";
    let rule = policy("  - {name: \"*\", policy: {va: {unscanned: allow}}}\n");
    let gate = TestGate::new(&registry, &rule).with(both).start().await;
    assert_eq!(gate.get("/library/app/manifests/2").await.status, 200);
}
