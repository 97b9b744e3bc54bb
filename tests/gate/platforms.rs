//! Which images of an index decide about it.

use pullgate::oci::media_type;
use pullgate::sample::image::{self, Built, Image, Layer, Tree};
use serde_json::{Value, json};

use crate::harness::{Gate, TestGate, policy};
use crate::support::{Answer, TestRegistry};

const TAG: &str = "/library/app/manifests/1";
pub(crate) const RULE: &str = "  - {name: \"*\", policy: {va: {severity: high, unscanned: deny}}}\n";

pub(crate) fn image_of(platform: &str) -> Built {
    let layer = Layer::gzip(&Tree::new().file("app", platform.to_owned()));
    Image::new(platform.parse().expect("a platform")).layer(layer).build()
}

/// An index with exactly these entries, and all content of `images`.
pub(crate) fn index(entries: &[Value], images: &[&Built]) -> Built {
    let body = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": entries});
    images.iter().fold(image::raw(media_type::OCI_INDEX, &body), |index, image| index.with_content_of(image))
}

fn entry(image: &Built, platform: Option<(&str, &str, &str)>) -> Value {
    let mut entry = image.plain_descriptor();
    if let Some((os, architecture, variant)) = platform {
        entry["platform"] = json!({"os": os, "architecture": architecture, "variant": variant});
    }
    entry
}

pub(crate) fn report(config: &str, issues: &str) -> String {
    format!(
        r#"{{"SchemaVersion":2,"CreatedAt":"2026-01-01T00:00:00Z","ArtifactName":"x","ArtifactType":"container_image",
        "Metadata":{{"OS":{{"Family":"debian","Name":"12"}},"ImageID":"{config}"}},
        "Results":[{{"Target":"x","Class":"os-pkgs","Type":"debian","Vulnerabilities":[{issues}]}}]}}"#
    )
}

pub(crate) const ISSUE: &str =
    r#"{"VulnerabilityID":"CVE-2024-1","PkgName":"a","InstalledVersion":"1","FixedVersion":"2","Severity":"CRITICAL"}"#;

/// A gate that judges indexes by `platform`, with a report for each image.
async fn gate(registry: &TestRegistry, platform: &str, reports: &[(&Built, &str)]) -> Gate {
    let made = TestGate::new(registry, &policy(RULE)).with(&format!("[gate]\nplatforms = [\"{platform}\"]"));
    let files = reports.iter().enumerate();
    let made = files.fold(made, |made, (n, (image, issues))| {
        made.file(&format!("reports/{n}.json"), &report(&image.configs[0].to_string(), issues))
    });
    made.start().await
}

async fn judged(index: &Built, image: &Built, configured: &str) -> Answer {
    let registry = TestRegistry::start().await;
    registry.push("library/app", Some("1"), index);
    gate(&registry, configured, &[(image, "")]).await.get(TAG).await
}

#[tokio::test]
async fn equivalent_platforms_match() {
    for (platform, configured) in [
        (("linux", "arm64", "v8"), "linux/arm64"),
        (("linux", "arm64", ""), "linux/arm64/v8"),
        (("linux", "aarch64", ""), "linux/arm64"),
        (("linux", "x86_64", ""), "linux/amd64"),
        (("linux", "arm", ""), "linux/arm/v7"),
        (("linux", "s390x", ""), "linux/s390x"),
    ] {
        let image = image_of("linux/s390x");
        let index = index(&[entry(&image, Some(platform))], &[&image]);
        let got = judged(&index, &image, configured).await;
        assert_eq!(got.status, 200, "{platform:?} for {configured}: {}", got.text());
    }
}

#[tokio::test]
async fn entries_without_a_platform_use_their_configuration() {
    let (ours, other) = (image_of("linux/s390x"), image_of("linux/mips64le"));
    let index = index(&[entry(&other, None), entry(&ours, None)], &[&ours, &other]);
    let got = judged(&index, &ours, "linux/s390x").await;
    assert_eq!(got.status, 200, "{}", got.text());
    let got = judged(&index, &other, "linux/s390x").await;
    assert_eq!(got.status, 403, "the report on the other image does not count for it: {}", got.text());
}

#[tokio::test]
async fn nested_indexes_are_resolved() {
    let image = image_of("linux/s390x");
    let mut nested = index(&[entry(&image, Some(("linux", "s390x", "")))], &[&image]);
    for depth in 1..4 {
        nested = index(&[entry(&nested, None)], &[&nested]);
        let got = judged(&nested, &image, "linux/s390x").await;
        assert_eq!(got.status, 200, "{depth}: {}", got.text());
    }
    nested = index(&[entry(&nested, None)], &[&nested]);
    assert_eq!(judged(&nested, &image, "linux/s390x").await.status, 403, "nesting is limited");
    let itself = index(&[entry(&nested, None), entry(&image, Some(("linux", "s390x", "")))], &[&nested]);
    assert_eq!(judged(&itself, &image, "linux/s390x").await.status, 200);
}

#[tokio::test]
async fn pulling_another_platform_does_not_affect_the_index() {
    let registry = TestRegistry::start().await;
    let (bad, good) = (image_of("linux/amd64"), image_of("linux/s390x"));
    let index = image::index(&[bad.clone(), good.clone()]);
    registry.push("library/app", Some("1"), &index);
    let gate = gate(&registry, "linux/amd64", &[(&bad, ISSUE), (&good, "")]).await;
    assert_eq!(gate.head(TAG).await.status, 403);
    let child = |image: &Built| format!("/library/app/manifests/{}", image.root);
    let pulled = gate.get(&child(&good)).await;
    assert_eq!(pulled.status, 200, "{}", pulled.text());
    // Pulls are recorded in the background; all are recorded once the gate has stopped.
    let gate = gate.stop().await.start().await;
    for path in [TAG, &child(&index), &child(&bad)] {
        assert_eq!(gate.head(path).await.status, 403, "{path}");
    }
    assert_eq!(gate.get(&child(&good)).await.status, 200, "it is judged by its own report");
}

#[tokio::test]
async fn pulled_children_decide_only_for_indexes_without_a_relevant_platform() {
    let registry = TestRegistry::start().await;
    let image = image_of("plan9/mips64le");
    registry.push("library/app", Some("1"), &image::index(std::slice::from_ref(&image)));
    let gate = gate(&registry, "linux/amd64", &[(&image, "")]).await;
    assert_eq!(gate.head(TAG).await.status, 403);
    assert_eq!(gate.get(&format!("/library/app/manifests/{}", image.root)).await.status, 200);
    let gate = gate.stop().await.start().await;
    assert_eq!(gate.head(TAG).await.status, 200);
}
