//! What images were built on, and when they were created: proven by layers, and what their authors claim.

use pullgate::sample::image::{Built, Image, Layer, Tree, index};

use crate::commands::{pullgate, text};
use crate::harness::{Gate, HOST, TestGate, policy};
use crate::scanner::{distribution, image, import, python, records, until_open};
use crate::support::{TestRegistry, request};

/// A gate with a scanner and one rule for all images.
async fn gate(registry: &TestRegistry, va: &str) -> Gate {
    let made = TestGate::new(registry, &policy(&format!("  - {{name: \"*\", policy: {{va: {va}}}}}\n")));
    // Writes the configuration file.
    made.config();
    records(made.path());
    let imported = import(made.path());
    assert!(imported.status.success(), "{}", text(&imported));
    let gate = made.start().await;
    until_open(&gate).await;
    gate
}

fn system() -> Layer {
    Layer::gzip(&python("2.2.28"))
}

fn runtime() -> Layer {
    Layer::gzip(&distribution(Tree::new(), "idna", "3.7"))
}

fn application() -> Layer {
    Layer::gzip(&distribution(Tree::new(), "six", "1.17.0"))
}

fn labelled(base: &str, layers: impl IntoIterator<Item = Layer>) -> Built {
    let image = Image::linux_amd64().annotation("org.opencontainers.image.base.name", base);
    layers.into_iter().fold(image, Image::layer).build()
}

/// Pulls a tag; returns the status and the body.
async fn pull(gate: &Gate, image: &str) -> (u16, String) {
    let answer = gate.get(&format!("/{image}/manifests/1")).await;
    (answer.status, answer.text())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_base_image_is_proven_by_layers_and_not_by_labels() {
    let registry = TestRegistry::start().await;
    let allowed = format!("{HOST}/base/python:1");
    registry.push("base/python", Some("1"), &image([system(), runtime()]));
    registry.push("team/app", Some("1"), &image([system(), runtime(), application()]));
    registry.push("team/liar", Some("1"), &labelled(&allowed, [application(), system(), runtime()]));
    registry.push("team/part", Some("1"), &labelled(&allowed, [system(), application()]));
    let gate = gate(&registry, &format!("{{severity: critical, baseImages: {{allow: [\"{HOST}/base/*\"]}}}}")).await;

    let (status, why) = pull(&gate, "team/app").await;
    assert_eq!(status, 403, "{why}");
    assert!(why.contains("pull the base image through this gate (pullgate prefetch)"), "{why}");
    let done = pullgate(&gate, &["prefetch", &allowed]).await;
    assert!(done.status.success(), "{}", text(&done));
    let (status, why) = pull(&gate, "team/app").await;
    assert_eq!(status, 200, "{why}");
    for liar in ["team/liar", "team/part"] {
        let (status, why) = pull(&gate, liar).await;
        assert_eq!(status, 403, "{liar}: {why}");
        assert!(why.contains(&format!("its author says {allowed}, which its layers do not prove")), "{liar}: {why}");
    }

    // The proof outlives a restart, and the base image in the cache.
    let made = gate.stop().await;
    std::fs::remove_dir_all(made.path().join("state/blobs")).expect("a folder");
    let gate = made.start().await;
    until_open(&gate).await;
    assert_eq!(pull(&gate, "team/app").await.0, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_image_below_counts_and_claims_can_only_deny() {
    let registry = TestRegistry::start().await;
    let system_image = image([system()]);
    registry.push("base/python", Some("12"), &index(std::slice::from_ref(&system_image)));
    registry.push("java", Some("1"), &image([system(), runtime()]));
    registry.push("team/app", Some("1"), &image([system(), runtime(), application()]));
    registry.push("team/same", Some("1"), &labelled("nothing", [system()]));
    registry.push("team/claims", Some("1"), &labelled(&format!("{HOST}/old/python:1"), [system(), application()]));
    let rule =
        format!("{{severity: critical, baseImages: {{allow: [\"{HOST}/base/python:12\"], deny: [\"{HOST}/old/*\"]}}}}");
    let gate = gate(&registry, &rule).await;
    let base = gate.get("/base/python/manifests/12").await;
    assert_eq!(base.status, 200, "an allowed base image itself: {}", base.text());
    let child = gate.get(&format!("/base/python/manifests/{}", system_image.manifest().digest)).await;
    assert_eq!(child.status, 200, "by the tag of the index that lists it: {}", child.text());
    let layer = system_image.json()["layers"][0]["digest"].as_str().expect("a digest").to_owned();
    assert_eq!(gate.get(&format!("/base/python/blobs/{layer}")).await.status, 200);
    assert_eq!(pull(&gate, "java").await.0, 200, "built on it");
    assert_eq!(pull(&gate, "team/app").await.0, 200, "built on an image that was built on it");
    assert_eq!(pull(&gate, "team/same").await.0, 200, "another configuration on the same layers");
    let (status, why) = pull(&gate, "team/claims").await;
    assert_eq!(status, 403);
    assert!(why.contains("its author says that the image was built on"), "{why}");
}

/// A builder may compress the layers of its base image again: their content is the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_base_image_is_the_same_however_its_layers_are_compressed() {
    let registry = TestRegistry::start().await;
    let system = || python("2.2.28");
    let runtime = || distribution(Tree::new(), "idna", "3.7");
    registry.push("base/python", Some("1"), &image([Layer::gzip(&system()), Layer::gzip(&runtime())]));
    registry.push("team/app", Some("1"), &image([Layer::zstd(&system()), Layer::tar(&runtime()), application()]));
    registry.push("team/part", Some("1"), &image([Layer::zstd(&system()), application()]));
    registry.push("team/turned", Some("1"), &image([Layer::tar(&runtime()), Layer::zstd(&system()), application()]));
    let gate = gate(&registry, &format!("{{severity: critical, baseImages: {{allow: [\"{HOST}/base/*\"]}}}}")).await;
    assert_eq!(pull(&gate, "base/python").await.0, 200);
    let (status, why) = pull(&gate, "team/app").await;
    assert_eq!(status, 200, "{why}");
    for other in ["team/part", "team/turned"] {
        let (status, why) = pull(&gate, other).await;
        assert_eq!(status, 403, "{other}: {why}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_date_of_creation_only_makes_an_image_younger() {
    let registry = TestRegistry::start().await;
    let created = |at: &str| Image::linux_amd64().created(at).layer(system()).build();
    registry.push("team/old", Some("1"), &created("2001-01-01T00:00:00Z"));
    registry.push("team/future", Some("1"), &created("2999-01-01T00:00:00Z"));
    let gate = gate(&registry, "{severity: critical, coolDown: {image: 3d}}").await;
    let (status, why) = pull(&gate, "team/old").await;
    assert_eq!(status, 403, "this gate has not seen it for three days");
    assert!(why.contains("coolDown"), "{why}");
    let (_, why) = pull(&gate, "team/future").await;
    assert!(why.contains("not created yet") && why.contains("admitted from 2999-01-04"), "{why}");
    gate.set_policy(&policy("  - {name: \"*\", policy: {va: {severity: critical, when: 'image.created < timestamp(\"2010-01-01T00:00:00Z\")'}}}\n"));
    let (status, why) = pull(&gate, "team/old").await;
    assert_eq!(status, 403, "a condition can use the date");
    assert!(why.contains("when: "), "{why}");
    assert_eq!(pull(&gate, "team/future").await.0, 200);
}

/// Clients do not fetch a layer that they have, and the gate does not read it twice: the base image is one all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_base_image_counts_though_its_layers_came_from_elsewhere() {
    let registry = TestRegistry::start().await;
    registry.push("team/app", Some("1"), &image([system(), application()]));
    registry.push("other", Some("1"), &image([runtime()]));
    let base = image([system()]);
    registry.push("zz/base", Some("1"), &base);
    let layer = base.json()["layers"][0]["digest"].as_str().expect("a digest").to_owned();
    let gate = gate(&registry, "{severity: critical}").await;
    for path in ["team/app", "other", "zz/base"] {
        let (status, why) = pull(&gate, path).await;
        assert_eq!(status, 200, "{path}: {why}");
    }
    let of_base = format!("/zz/base/blobs/{layer}");
    assert_eq!(registry.count(|request| request.is("GET", &of_base)), 0, "the layer came from team/app");
    let rule =
        |va: &str| policy(&format!("  - {{name: \"*\", policy: {{va: {{severity: critical, baseImages: {va}}}}}}}\n"));
    gate.set_policy(&rule(&format!("{{deny: [\"{HOST}/zz/*\"]}}")));
    let (status, why) = pull(&gate, "team/app").await;
    assert!(status == 403 && why.contains("the image was built on"), "{status}: {why}");
    gate.set_policy(&rule(&format!("{{allow: [\"{HOST}/zz/*\"]}}")));
    let (status, why) = pull(&gate, "team/app").await;
    assert_eq!(status, 200, "{why}");
}

/// Base images need no report, so they count where images without one are admitted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn base_images_are_judged_without_a_report() {
    let registry = TestRegistry::start().await;
    registry.push("base/python", Some("1"), &image([system()]));
    registry.push("team/app", Some("1"), &image([system(), application()]));
    let rule = |more: &str| policy(&format!("  - {{name: \"*\", policy: {{va: {{unscanned: allow{more}}}}}}}\n"));
    // It has no source of reports.
    let gate = TestGate::new(&registry, &rule("")).start().await;
    for image in ["base/python", "team/app"] {
        assert_eq!(pull(&gate, image).await.0, 200, "{image}");
    }
    for (more, expected) in [
        (format!("deny: [\"{HOST}/base/*\"]"), Some("the image was built on")),
        (format!("deny: [\"{HOST}/team/*\"]"), Some("the image is")),
        (format!("deny: [\"{HOST}/other/*\"]"), None),
        (format!("allow: [\"{HOST}/other/*\"]"), Some("which is not among the base images")),
        (format!("allow: [\"{HOST}/base/*\"]"), None),
    ] {
        gate.set_policy(&rule(&format!(", baseImages: {{{more}}}")));
        let (status, why) = pull(&gate, "team/app").await;
        assert_eq!(status, if expected.is_some() { 403 } else { 200 }, "{more}: {why}");
        assert!(expected.is_none_or(|words| why.contains(words)), "{more}: {why}");
    }
    gate.set_policy(&rule(", when: '!report.complete'"));
    assert_eq!(pull(&gate, "team/app").await.0, 403);
}

/// What commands and IBM's API say of an image is what a pull of it gets.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_on_an_image_know_what_it_was_built_on() {
    let registry = TestRegistry::start().await;
    registry.push("base/python", Some("1"), &image([system()]));
    registry.push("team/app", Some("1"), &image([system(), application()]));
    let gate = gate(&registry, "{severity: low}").await;
    for image in ["base/python", "team/app"] {
        let (status, why) = pull(&gate, image).await;
        assert_eq!(status, 200, "{image}: {why}");
    }
    for (more, is_admitted) in [
        (format!("baseImages: {{deny: [\"{HOST}/base/*\"]}}"), false),
        (format!("baseImages: {{allow: [\"{HOST}/other/*\"]}}"), false),
        (format!("baseImages: {{allow: [\"{HOST}/base/*\"]}}"), true),
        (format!("when: 'has(image.base) && image.base.name.startsWith(\"{HOST}/base\")'"), false),
        ("coolDown: {image: 1d}".to_owned(), false),
    ] {
        gate.set_policy(&policy(&format!("  - {{name: \"*\", policy: {{va: {{severity: low, {more}}}}}}}\n")));
        let (status, why) = pull(&gate, "team/app").await;
        assert_eq!(status == 200, is_admitted, "{more}: {why}");
        let name = format!("{HOST}/team/app:1");
        for command in ["check", "va"] {
            let said = pullgate(&gate, &[command, &name]).await;
            assert_eq!(said.status.success(), is_admitted, "{more}: {command}: {}", text(&said));
        }
        let path = format!("/va/api/v4/report/image/status/{name}");
        let report = request("GET", &gate.admin_url(&path), &[]).await.json();
        assert_eq!(report["status"] == "OK", is_admitted, "{more}: {report}");
    }
}
