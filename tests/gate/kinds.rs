//! How the gate decides what a manifest is.

use std::time::Duration;

use http::{Method, StatusCode};
use pullgate::oci::Digest;
use pullgate::sample::image::{self, Built, Image, Layer, Tree, noise};
use pullgate::sample::{Fault, On};
use serde_json::json;

use crate::content::file;
use crate::harness::{ALLOW_ALL, HOST, TestGate, assert_proven_once, policy};
use crate::pull::{multi, simple};
use crate::support::TestRegistry;

const SIGNED: &str = "  - {name: \"*\", policy: {trust: release}}\n";
const SCANNED: &str = "  - {name: \"*\", policy: {va: {unscanned: deny, unsupported: allow}}}\n";

fn model(content: impl Into<bytes::Bytes>) -> Built {
    image::artifact("application/vnd.acme.model", &[Layer::of("application/vnd.acme.weights", content)])
}

/// An attachment as created by cosign, and the tag where cosign looks for it.
async fn signature(registry: &TestRegistry, gate: &crate::harness::Gate) -> (Built, String) {
    let image = simple("signed");
    registry.push("library/app", Some("1"), &image);
    let layer = gate.key().signature(&format!("{HOST}/library/app"), image.root).expect("a signature");
    let (signature, tag) = (image::attachment(&[layer]), image::attachment_tag(&image.root, ".sig"));
    registry.push("library/app", Some(&tag), &signature);
    (signature, tag)
}

/// A registry that sends different content during the proof, and the tar to the client.
#[tokio::test]
async fn content_that_differs_from_the_layer_proves_nothing() {
    let registry = TestRegistry::start().await;
    // Larger than the inspected prefix, so that the first bytes alone would be sufficient.
    let tar = Tree::new().file("bin/sh", noise(200_000, 5)).to_tar();
    let (layer, size) = (Digest::sha256(&tar), tar.len());
    registry.push("library/app", Some("1"), &model(tar.clone()));
    registry.put_blob_as("library/app", layer, noise(size, 6));
    let gate = TestGate::new(&registry, &policy(SCANNED)).start().await;
    for attempt in ["while the registry lies", "again"] {
        let got = gate.get("/library/app/manifests/1").await;
        assert_eq!(got.status, 403, "{attempt}: {}", got.text());
    }
    // Data beyond the size in the manifest does not belong to the layer either, and is not read.
    registry.put_blob_as("library/app", layer, noise(size + 1, 6));
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 403);
    registry.put_blob_as("library/app", layer, tar);
    assert_eq!(
        gate.get("/library/app/manifests/1").await.status,
        403,
        "the kind is detected once the registry is honest"
    );
}

/// Cached content is judged as it is now on disk, not as it was when it was downloaded.
#[tokio::test]
async fn corrupt_files_prove_nothing() {
    let registry = TestRegistry::start().await;
    let tar = Tree::new().file("bin/sh", noise(700_000, 5)).to_tar();
    let (layer, size) = (Digest::sha256(&tar), tar.len());
    registry.push("library/app", Some("1"), &model(tar));
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    for path in ["manifests/1".to_owned(), format!("blobs/{layer}")] {
        assert_eq!(gate.get(&format!("/library/app/{path}")).await.status, 200);
    }
    let file = file(&gate, layer);
    crate::support::until(|| file.exists()).await;
    // No longer in memory, where it may be cached too.
    let made = gate.stop().await;
    std::fs::write(&file, noise(size, 6)).expect("a file");
    let gate = made.start().await;
    gate.set_policy(&policy(SCANNED));
    let got = gate.get("/library/app/manifests/1").await;
    assert_eq!(got.status, 403, "{}", got.text());
}

#[tokio::test]
async fn large_artifacts_are_recognised_by_their_whole_content() {
    let registry = TestRegistry::start().await;
    registry.push("library/app", Some("1"), &model(noise(3_000_000, 5)));
    let gate = TestGate::new(&registry, &policy(SCANNED)).start().await;
    let got = gate.get("/library/app/manifests/1").await;
    assert_eq!(got.status, 200, "{}", got.text());
}

/// The sizes come from the manifest, so nothing is read to find that it would be too much.
#[tokio::test]
async fn proofs_read_a_bounded_amount_over_all_layers() {
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
async fn few_proofs_run_concurrently() {
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
        // All are in progress before one may continue, so any further read would have started by now.
        registry.wait_for(|log| log.iter().filter(|request| request.is("GET", "/manifests/")).count() >= 8).await;
        held.wait_for_hits(4).await;
        let more = tokio::time::timeout(Duration::from_millis(300), held.wait_for_hits(5)).await;
        held.release();
        more.is_ok()
    };
    let (answers, more) = tokio::join!(pulls, watch);
    assert!(!more, "more than four at a time");
    assert!(answers.iter().all(|answer| answer.status == 403), "{answers:?}");
}

#[tokio::test]
async fn temporarily_unreadable_content_is_not_denied() {
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
    // A blob that does not exist will not appear, so there is no reason to wait.
    let layer = Layer::of("application/vnd.dsse.envelope.v1+json", "{}");
    let gone = image::attachment(&[layer]);
    registry.push("library/app", Some("gone"), &gone);
    gone.blobs.iter().for_each(|(digest, _)| registry.delete_blob("library/app", digest));
    assert_eq!(gate.get("/library/app/manifests/gone").await.status, 403);
}

#[tokio::test]
async fn rules_without_checks_do_not_wait_for_proofs() {
    let registry = TestRegistry::start().await;
    registry.push("library/app", Some("1"), &model("weights"));
    registry.inject(On::blobs(), Fault::status(StatusCode::BAD_GATEWAY));
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    let audit = policy(SIGNED).replace("spec:\n", "spec:\n  mode: audit\n");
    gate.set_policy(&audit);
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200, "audit mode reports but does not deny");
    // An unsigned image is unsigned whatever its kind; the gate waits for a proof only if the kind decides.
    gate.set_policy(&policy(SIGNED));
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 403);
    gate.set_policy(&policy(SCANNED));
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 503);
}

/// No proof is made unless a check needs one, and none delays a response if a denial is only reported.
#[tokio::test]
async fn no_proof_delays_a_response_that_denies_nothing() {
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

/// A proof for a manifest stays valid without its content, and facts about a layer apply to every manifest.
#[tokio::test]
async fn proofs_are_made_once_per_manifest_and_layer() {
    let registry = TestRegistry::start().await;
    let made = TestGate::new(&registry, &policy(SCANNED));
    assert_proven_once(&registry, made, &model(noise(700_000, 5))).await;
}

/// Limits on proofs apply per upstream.
#[tokio::test]
async fn slow_registries_do_not_delay_proofs_for_others() {
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

/// A mirror may have an index without all of its platforms.
#[tokio::test]
async fn platforms_missing_from_a_mirror_do_not_affect_others() {
    let registry = TestRegistry::start().await;
    let image = multi("partial");
    registry.push("library/app", Some("1"), &image);
    let both = "[gate]\nplatforms = [\"linux/amd64\", \"linux/arm64\"]\n";
    let children: Vec<Digest> =
        image.manifests.iter().map(|document| document.digest).filter(|digest| *digest != image.root).collect();
    registry.delete_manifest("library/app", &children[1]);
    let gate = TestGate::new(&registry, &policy(SIGNED)).with(both).start().await;
    let got = gate.get("/library/app/manifests/1").await;
    assert_eq!(got.status, 403, "the platform that exists is not signed: {}", got.text());
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
async fn indexes_without_any_available_platform_are_denied() {
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
    // The same image with one existing platform passes, so nothing else caused the denial.
    let whole = image::index(&[Image::linux_amd64().layer(Layer::of("application/vnd.acme", "x")).build()]);
    registry.push("library/app", Some("2"), &whole);
    let both = "[gate]\nplatforms = [\"linux/amd64\"]\n";
    let rule = policy("  - {name: \"*\", policy: {va: {unscanned: allow}}}\n");
    let gate = TestGate::new(&registry, &rule).with(both).start().await;
    assert_eq!(gate.get("/library/app/manifests/2").await.status, 200);
}
