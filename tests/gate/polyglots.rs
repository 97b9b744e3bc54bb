//! Images labelled as something else: content that some client would unpack is judged as an image.

use pullgate::oci::media_type;
use pullgate::sample::image::{self, Built, Layer, Tree, polyglot};
use serde_json::{Value, json};

use crate::harness::{Gate, TestGate, policy};
use crate::support::TestRegistry;

const DENIES: &str = "  - {name: \"*\", policy: {trust: release}}\n";
const UNSUPPORTED: &str = "  - {name: \"*\", policy: {va: {unscanned: deny, unsupported: allow}}}\n";
const MANIFEST_V1: &str = "application/vnd.docker.distribution.manifest.v1+json";
const HELM: &str = "application/vnd.cncf.helm.chart.content.v1.tar+gzip";
const HELM_CONFIG: &str = "application/vnd.cncf.helm.config.v1+json";

fn image_config(layer: &Layer) -> Value {
    json!({
        "architecture": "amd64", "os": "linux", "config": {"Entrypoint": ["/hello"]},
        "rootfs": {"type": "layers", "diff_ids": [layer.digest]}
    })
}

fn gzip(content: &[u8]) -> Vec<u8> {
    Layer::gzip_of(content).bytes.to_vec()
}

/// Checks the tag, the digest and the layer.
async fn assert_denied(registry: &TestRegistry, gate: &Gate, tag: &str, built: &Built) {
    registry.push("library/app", Some(tag), built);
    let mut paths = vec![format!("manifests/{tag}"), format!("manifests/{}", built.root)];
    paths.extend(built.layers.iter().map(|layer| format!("blobs/{layer}")));
    for path in paths {
        let got = gate.get(&format!("/library/app/{path}")).await;
        let is_refused = got.status == 403 || path.starts_with("blobs") && got.status == 404;
        assert!(is_refused, "{tag}, {path}: {} {}", got.status, got.text());
    }
}

#[tokio::test]
async fn signatures_that_are_also_tars_are_images() {
    let registry = TestRegistry::start().await;
    let gate = TestGate::new(&registry, &policy(DENIES)).start().await;
    let cose = Layer::of("application/cose", polyglot::cose_and_tar("hello", b"#!/bin/sh\n"));
    let text = Layer::of("application/vnd.in-toto+json", polyglot::statement_and_tar("hello", "echo ran"));
    for (tag, layer) in [("cose", cose), ("json", text)] {
        for (lock, config) in [("both", image_config(&layer)), ("the-first-alone", json!({}))] {
            let built = image::disguised(
                media_type::OCI_MANIFEST,
                media_type::OCI_CONFIG,
                &config,
                std::slice::from_ref(&layer),
            );
            assert_denied(&registry, &gate, &format!("{tag}-{lock}"), &built).await;
        }
    }
}

/// The second proof: no tar at all, but a configuration that a client could run.
#[tokio::test]
async fn signatures_with_an_executable_configuration_are_images() {
    let registry = TestRegistry::start().await;
    let gate = TestGate::new(&registry, &policy(DENIES)).start().await;
    let statement = r#"{"_type":"https://in-toto.io/Statement/v1","subject":[],"predicateType":"x","predicate":{}}"#;
    let layer = Layer::of("application/vnd.in-toto+json", statement);
    let built = |config: &Value| {
        image::disguised(media_type::OCI_MANIFEST, media_type::OCI_CONFIG, config, std::slice::from_ref(&layer))
    };
    assert_denied(&registry, &gate, "runs", &built(&image_config(&layer))).await;
    assert_denied(&registry, &gate, "command", &built(&json!({"config": {"Cmd": ["/hello"]}}))).await;
    registry.push("library/app", Some("control"), &built(&json!({})));
    let got = gate.get("/library/app/manifests/control").await;
    assert_eq!(got.status, 200, "a real attachment is still recognised: {}", got.text());
}

/// podman accepts these types in a schema 2 manifest, for the configuration and for layers.
#[tokio::test]
async fn schema_2_manifests_are_never_artifacts() {
    let registry = TestRegistry::start().await;
    let gate = TestGate::new(&registry, &policy(UNSUPPORTED)).start().await;
    let tree = Tree::new().executable("hello", "#!/bin/sh\n");
    let packed = gzip(&polyglot::behind_a_blank_header(&tree));
    let config = json!({"architecture": "amd64", "config": {"Entrypoint": ["/hello"]}});
    for (i, config_type) in [MANIFEST_V1, media_type::DOCKER_MANIFEST, HELM_CONFIG].iter().enumerate() {
        for (j, layer_type) in
            [media_type::DOCKER_CONFIG, MANIFEST_V1, media_type::DOCKER_MANIFEST, HELM].iter().enumerate()
        {
            let layers = [Layer::of(layer_type, packed.clone())];
            let built = image::disguised(media_type::DOCKER_MANIFEST, config_type, &config, &layers);
            assert_denied(&registry, &gate, &format!("t{i}{j}"), &built).await;
        }
    }
}

/// zstd:chunked and eStargz keep a table of contents where no other reader looks, and name it in annotations.
#[tokio::test]
async fn lazily_read_layers_prove_nothing() {
    let registry = TestRegistry::start().await;
    let gate = TestGate::new(&registry, &policy(DENIES)).start().await;
    let statement = r#"{"_type":"https://in-toto.io/Statement/v1","subject":[],"predicateType":"x","predicate":{}}"#;
    for (tag, key, status) in [
        ("chunked", "io.containers.zstd-chunked.manifest-position", 403),
        ("stargz", "containerd.io/snapshot/stargz/toc.digest", 403),
        ("control", "in-toto.io/predicate-type", 200),
    ] {
        let layers = [Layer::of("application/vnd.in-toto+json", statement).annotation(key, "1:2:3:4")];
        let built = image::disguised(media_type::OCI_MANIFEST, media_type::OCI_CONFIG, &json!({}), &layers);
        registry.push("library/app", Some(tag), &built);
        let got = gate.get(&format!("/library/app/manifests/{tag}")).await;
        assert_eq!(got.status, status, "{tag}: {}", got.text());
    }
}

/// First bytes that indicate a zip, a skippable frame or gzip may be the name of the first file in a tar.
#[tokio::test]
async fn tars_whose_first_name_is_another_magic_are_images() {
    let registry = TestRegistry::start().await;
    let gate = TestGate::new(&registry, &policy(UNSUPPORTED)).start().await;
    for (tag, name) in [("zip", "PK\u{3}\u{4}x"), ("skippable", "P*M\u{18}x")] {
        let tar = Tree::new().file(name, "x").executable("hello", "#!/bin/sh\n").to_tar();
        let built = image::artifact("application/vnd.acme.model", &[Layer::of("application/vnd.acme.weights", tar)]);
        assert_denied(&registry, &gate, tag, &built).await;
    }
}

/// Labels and content that make an artifact and an attachment in an OCI manifest, but not in a schema 2 manifest.
#[tokio::test]
async fn schema_2_alone_makes_a_manifest_an_image() {
    let registry = TestRegistry::start().await;
    let gate = TestGate::new(&registry, &policy(UNSUPPORTED)).start().await;
    let statement = r#"{"_type":"https://in-toto.io/Statement/v1","subject":[],"predicateType":"x","predicate":{}}"#;
    for (tag, config_type, layer) in [
        ("artifact", "application/vnd.acme.config", Layer::of("application/vnd.acme.weights", "weights")),
        ("attachment", media_type::OCI_CONFIG, Layer::of("application/vnd.in-toto+json", statement)),
    ] {
        let built = |manifest_type: &str| {
            image::disguised(manifest_type, config_type, &json!({}), std::slice::from_ref(&layer))
        };
        assert_denied(&registry, &gate, tag, &built(media_type::DOCKER_MANIFEST)).await;
        registry.push("library/app", Some("control"), &built(media_type::OCI_MANIFEST));
        let got = gate.get("/library/app/manifests/control").await;
        assert_eq!(got.status, 200, "{tag} is still recognised: {}", got.text());
    }
}

/// A tar is a chart only with the configuration of a chart.
#[tokio::test]
async fn layers_labelled_as_charts_need_a_chart_configuration() {
    let registry = TestRegistry::start().await;
    let gate = TestGate::new(&registry, &policy(UNSUPPORTED)).start().await;
    let layers = [Layer::of(HELM, gzip(&Tree::new().executable("hello", "#!/bin/sh\n").to_tar()))];
    let chart = json!({"name": "c", "version": "1.0.0", "apiVersion": "v2"});
    let built = image::disguised(media_type::OCI_MANIFEST, "application/vnd.acme.config", &chart, &layers);
    assert_denied(&registry, &gate, "chart", &built).await;
}

/// One executable key in the configuration is enough, whatever the labels.
#[tokio::test]
async fn charts_with_an_executable_configuration_are_images() {
    let registry = TestRegistry::start().await;
    let gate = TestGate::new(&registry, &policy(UNSUPPORTED)).start().await;
    let packed = |tree: Tree| [Layer::of(HELM, gzip(&tree.to_tar()))];
    let layers = packed(Tree::new().file("c/Chart.yaml", "name: c\n").file("c/templates/web.yaml", "kind: Service\n"));
    let chart = json!({"name": "c", "version": "1.0.0", "apiVersion": "v2"});
    registry.push(
        "library/app",
        Some("chart"),
        &image::disguised(media_type::OCI_MANIFEST, HELM_CONFIG, &chart, &layers),
    );
    assert_eq!(gate.get("/library/app/manifests/chart").await.status, 200, "a real chart is still recognised");
    // The layer of a denied image, labelled as a chart and as its configuration.
    let rootfs = packed(Tree::new().executable("hello", "#!/bin/sh\n"));
    let built = image::disguised(media_type::OCI_MANIFEST, HELM_CONFIG, &chart, &rootfs);
    assert_denied(&registry, &gate, "rootfs", &built).await;
    for (tag, config) in [
        ("without-os", json!({"architecture": "amd64", "config": {"Entrypoint": ["/hello"]}})),
        ("without-architecture", json!({"os": "linux", "config": {"Entrypoint": ["/hello"]}})),
        ("entrypoint-alone", json!({"config": {"Entrypoint": ["/hello"]}})),
        ("folded", json!({"Config": {"entrypoint": ["/hello"]}})),
    ] {
        let layers = [Layer::of(HELM, gzip(tag.as_bytes()))];
        let built = image::disguised(media_type::OCI_MANIFEST, HELM_CONFIG, &config, &layers);
        assert_denied(&registry, &gate, tag, &built).await;
    }
}
