//! A report that names a configuration counts for a manifest only if the layers are those of the configuration.

use http::Method;
use jiff::SignedDuration;
use pullgate::oci::{Digest, media_type};
use pullgate::runtime::Clock;
use pullgate::sample::image::{self, Built, Image, Layer, Tree};
use pullgate::sample::{Fault, On};
use serde_json::{Value, json};

use crate::harness::{Gate, TestGate, assert_proven_once, policy};
use crate::support::{TestRegistry, request};

const SCANNED: &str = "  - {name: \"*\", policy: {va: {severity: low}}}\n";

fn report(config: &Digest, issues: &Value) -> String {
    json!({
        "SchemaVersion": 2,
        "CreatedAt": "2026-03-01T12:00:00Z",
        "ArtifactName": "app",
        "ArtifactType": "container_image",
        "Metadata": {"OS": {"Family": "debian", "Name": "12"}, "ImageID": config},
        "Results": [{"Target": "app", "Class": "os-pkgs", "Type": "debian", "Vulnerabilities": issues}],
    })
    .to_string()
}

fn tree(content: &str) -> Tree {
    Tree::new().file("etc/os-release", content.to_owned())
}

fn image(layers: impl IntoIterator<Item = Layer>) -> Built {
    layers.into_iter().fold(Image::linux_amd64(), Image::layer).build()
}

/// The same configuration with different layers.
fn with_layers(built: &Built, layers: &[Layer]) -> Built {
    let mut body = built.json();
    body["layers"] = layers.iter().map(Layer::descriptor).collect();
    let mut other = image::raw(&built.manifest().media_type, &body).with_content_of(built);
    for layer in layers {
        other = other.with_blob(layer.bytes.clone());
    }
    other
}

async fn gate(registry: &TestRegistry, built: &Built, issues: &Value) -> Gate {
    let made = TestGate::new(registry, &policy(SCANNED));
    made.file("reports/app.json", &report(&built.configs[0], issues)).start().await
}

#[tokio::test]
async fn a_clean_report_does_not_admit_other_layers_with_its_configuration() {
    let registry = TestRegistry::start().await;
    let (scanned, evil) = (Layer::gzip(&tree("scanned")), Layer::gzip(&tree("evil")));
    let good = image([scanned.clone()]);
    let two = Layer::gzip_of(&[scanned_tar(), evil_tar()].concat());
    for (tag, layers, status) in [
        ("same", vec![scanned.clone()], 200),
        ("plain", vec![Layer::tar(&tree("scanned"))], 200),
        ("zstd", vec![Layer::zstd(&tree("scanned"))], 200),
        ("lazy", vec![scanned.clone().annotation("containerd.io/snapshot/stargz/toc.digest", "sha256:x")], 403),
        ("encrypted", vec![encrypted(&scanned)], 403),
        ("chunked", vec![after_a_skippable_frame(&Layer::zstd(&tree("scanned")))], 403),
        ("swapped", vec![evil.clone()], 403),
        ("on-top", vec![scanned.clone(), evil.clone()], 403),
        ("none", vec![], 403),
        ("twice", vec![scanned.clone(), scanned.clone()], 403),
        ("longer", vec![two], 403),
        ("garbage", vec![Layer::of("application/vnd.oci.image.layer.v1.tar+gzip", "\x1f\u{8b}")], 403),
    ] {
        registry.push("library/app", Some(tag), &with_layers(&good, &layers));
        let gate = gate(&registry, &good, &json!([])).await;
        let got = gate.get(&format!("/library/app/manifests/{tag}")).await;
        assert_eq!(got.status, status, "{tag}: {}", got.text());
        if status == 403 {
            let blob = gate.get(&format!("/library/app/blobs/{}", evil.digest)).await;
            assert_ne!(blob.status, 200, "{tag}");
        }
    }
}

/// Clients may read the files of such a layer by its table, if the manifest names the table.
#[tokio::test]
async fn a_layer_with_an_equal_table_is_that_of_its_configuration() {
    let registry = TestRegistry::start().await;
    let bytes = &include_bytes!("../data/lazy/estargz.tar.gz")[..];
    let table = "sha256:8627eb0ca1948f4ff13737925110cf18e3c65290b380c725909eb1f2c4ec45d6";
    let mut lazy = Layer::of("application/vnd.oci.image.layer.v1.tar+gzip", bytes);
    lazy.diff_id = "sha256:7ee335d08f506180e912901e4f10557436144d2b0cdcf5ed9333e82ff78f922f".parse().unwrap();
    let other = Digest::sha256(b"other").to_string();
    for (tag, named, status) in [("other", &*other, 403), ("equal", table, 200)] {
        let built = image([lazy.clone().annotation("containerd.io/snapshot/stargz/toc.digest", named)]);
        registry.push("library/app", Some(tag), &built);
        let gate = gate(&registry, &built, &json!([])).await;
        let got = gate.get(&format!("/library/app/manifests/{tag}")).await;
        assert_eq!(got.status, status, "{tag}: {}", got.text());
    }
}

/// soci-snapshotter reads files by an index that the manifest names.
#[tokio::test]
async fn a_manifest_that_names_an_index_of_soci_has_not_the_files_of_its_configuration() {
    let registry = TestRegistry::start().await;
    let good = image([Layer::gzip(&tree("scanned"))]);
    let mut body = good.json();
    body["annotations"] = json!({"com.amazon.soci.index-digest": good.root});
    let named = image::raw(&good.manifest().media_type, &body).with_content_of(&good);
    registry.push("library/app", Some("1"), &named);
    let gate = gate(&registry, &good, &json!([])).await;
    let got = gate.get("/library/app/manifests/1").await;
    assert_eq!(got.status, 403, "{}", got.text());
}

fn encrypted(layer: &Layer) -> Layer {
    Layer::of(&format!("{}+encrypted", layer.media_type), layer.bytes.clone())
}

/// As in zstd:chunked, and at the front also as a tar whose first name is the frame's magic.
fn after_a_skippable_frame(layer: &Layer) -> Layer {
    let frame = [&[0x50, 0x2a, 0x4d, 0x18, 3, 0, 0, 0][..], b"toc", &layer.bytes].concat();
    Layer::of(&layer.media_type, frame)
}

/// A document that is both: a report on the configuration would count for the manifest, and vice versa.
#[tokio::test]
async fn manifests_that_are_also_configurations_are_refused() {
    let registry = TestRegistry::start().await;
    let evil = image([Layer::gzip(&tree("evil"))]);
    let mut both = evil.json();
    both["architecture"] = "amd64".into();
    both["os"] = "linux".into();
    both["rootfs"] = json!({"type": "layers", "diff_ids": []});
    let both = image::raw(&evil.manifest().media_type, &both).with_content_of(&evil);
    registry.push("library/app", Some("1"), &both);
    let made = TestGate::new(&registry, &policy(SCANNED));
    let gate = made.file("reports/app.json", &report(&both.root, &json!([]))).start().await;
    let got = gate.get(&format!("/library/app/manifests/{}", both.root)).await;
    assert!(got.status == 403 && got.text().contains("image configuration too"), "{} {}", got.status, got.text());
}

fn scanned_tar() -> Vec<u8> {
    tree("scanned").to_tar()
}

fn evil_tar() -> Vec<u8> {
    tree("evil").to_tar()
}

/// A configuration that was not read is not proven.
#[tokio::test]
async fn oversized_configurations_are_never_proven() {
    let registry = TestRegistry::start().await;
    let layer = Layer::gzip(&tree("scanned"));
    let config = json!({
        "architecture": "amd64", "os": "linux", "author": "x".repeat(4 << 20),
        "rootfs": {"type": "layers", "diff_ids": [layer.diff_id]}
    });
    let large = image::disguised(media_type::OCI_MANIFEST, media_type::OCI_CONFIG, &config, &[layer]);
    registry.push("library/app", Some("1"), &large);
    let gate = gate(&registry, &large, &json!([])).await;
    let got = gate.get("/library/app/manifests/1").await;
    assert_eq!(got.status, 403, "{}", got.text());
}

/// The list of images shows the results of proofs, but creates none.
#[tokio::test]
async fn the_image_list_distinguishes_images_with_the_same_configuration() {
    let registry = TestRegistry::start().await;
    let good = image([Layer::gzip(&tree("scanned"))]);
    registry.push("library/app", Some("good"), &good);
    registry.push("library/app", Some("other"), &with_layers(&good, &[Layer::gzip(&tree("other"))]));
    let gate = gate(&registry, &good, &json!([])).await;
    for (tag, status) in [("good", 200), ("other", 403)] {
        assert_eq!(gate.get(&format!("/library/app/manifests/{tag}")).await.status, status, "{tag}");
    }
    let images = request("GET", &gate.admin_url("/api/v1/images"), &[]).await.json();
    let of = |n: usize| (images[n]["tag"].as_str(), images[n]["security_status"].as_str());
    assert_eq!([of(0), of(1)], [(Some("good"), Some("No Issues")), (Some("other"), Some("Not Scanned"))]);
}

/// The proof reads through the cache: each layer is downloaded once, for the proof, for another manifest, and for the
/// client.
#[tokio::test]
async fn proofs_download_nothing_twice() {
    let registry = TestRegistry::start().await;
    let layers = [Layer::gzip(&tree("one")), Layer::gzip(&tree("two"))];
    let good = image(layers.clone());
    registry.push("library/app", Some("1"), &good);
    registry.push(
        "library/app",
        Some("2"),
        &image::raw(&good.manifest().media_type, &good.json()).with_content_of(&good),
    );
    let gate = gate(&registry, &good, &json!([])).await;
    for path in ["manifests/1", "manifests/2"] {
        assert_eq!(gate.get(&format!("/library/app/{path}")).await.status, 200);
    }
    for layer in &layers {
        assert_eq!(gate.get(&format!("/library/app/blobs/{}", layer.digest)).await.body, layer.bytes);
        let of_layer = |path: &str| path.ends_with(&layer.digest.to_string());
        assert_eq!(registry.count(|request| request.method == Method::GET && of_layer(&request.path)), 1);
    }
}

/// A proof for a manifest stays valid without its content, and a layer's diff_id applies to every manifest.
#[tokio::test]
async fn proofs_are_made_once_per_manifest_and_layer() {
    let registry = TestRegistry::start().await;
    let one = image([Layer::gzip(&tree("scanned"))]);
    let made = TestGate::new(&registry, &policy(SCANNED));
    let made = made.file("reports/app.json", &report(&one.configs[0], &json!([])));
    assert_proven_once(&registry, made, &one).await;
}

/// If a proof could not change the decision, none is made.
#[tokio::test]
async fn layers_are_read_only_if_a_report_requires_it() {
    let registry = TestRegistry::start().await;
    let (scanned, other) = (image([Layer::gzip(&tree("scanned"))]), image([Layer::gzip(&tree("other"))]));
    registry.push("library/app", Some("1"), &other);
    let gate = gate(&registry, &scanned, &json!([])).await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 403);
    assert_eq!(registry.count(|request| request.path.contains("/blobs/")), 0, "{:?}", registry.requests());
}

/// A layer that is temporarily unreadable proves nothing either way: the client is asked to retry.
#[tokio::test]
async fn unreadable_layers_leave_the_decision_open() {
    let registry = TestRegistry::start().await;
    let good = image([Layer::gzip(&tree("scanned"))]);
    registry.push("library/app", Some("1"), &good);
    let gate = gate(&registry, &good, &json!([])).await;
    let down = registry.inject(On::blobs(), Fault::status(http::StatusCode::BAD_GATEWAY));
    let got = gate.get("/library/app/manifests/1").await;
    assert_eq!(got.status, 503, "{}", got.text());
    down.remove();
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
}

/// A rule may admit what cannot be assessed now. That holds for a moment, because the assessment may deny.
#[tokio::test]
async fn what_is_admitted_while_a_layer_cannot_be_read_is_soon_assessed_again() {
    let registry = TestRegistry::start().await;
    let bad = image([Layer::gzip(&tree("bad"))]);
    registry.push("library/app", Some("1"), &bad);
    let rule = "  - {name: \"*\", policy: {va: {severity: low, unavailable: allow}}}\n";
    let clock = Clock::manual("2026-03-02T00:00:00Z".parse().unwrap());
    let made = TestGate::new(&registry, &policy(rule)).clock(&clock);
    let issues =
        json!([{"VulnerabilityID": "CVE-2026-1", "PkgName": "openssl", "InstalledVersion": "1", "Severity": "HIGH"}]);
    let gate = made.file("reports/app.json", &report(&bad.configs[0], &issues)).start().await;
    let path = format!("/library/app/manifests/{}", bad.root);
    let down = registry.inject(On::blobs(), Fault::status(http::StatusCode::BAD_GATEWAY));
    for _ in 0..4 {
        let got = gate.get(&path).await;
        assert_eq!(got.status, 200, "{}", got.text());
    }
    down.remove();
    clock.advance(SignedDuration::from_secs(1));
    let got = gate.get(&path).await;
    assert!(got.status == 403 && got.text().contains("CVE-2026-1"), "{} {}", got.status, got.text());
}

/// A report that denies is not lost either.
#[tokio::test]
async fn reports_with_issues_deny_the_layers_they_cover() {
    let registry = TestRegistry::start().await;
    let bad = image([Layer::gzip(&tree("bad"))]);
    registry.push("library/app", Some("1"), &bad);
    let issues =
        json!([{"VulnerabilityID": "CVE-2026-1", "PkgName": "openssl", "InstalledVersion": "1", "Severity": "HIGH"}]);
    let gate = gate(&registry, &bad, &issues).await;
    let got = gate.get("/library/app/manifests/1").await;
    assert!(got.status == 403 && got.text().contains("CVE-2026-1"), "{} {}", got.status, got.text());
}
