//! The security rules of the design, each with an attack that succeeds if the rule is removed.

use http::Method;
use pullgate::oci::Digest;
use pullgate::sample::image::{self, Built, Image, Layer, Tree};
use serde_json::{Value, json};

use crate::harness::{ALLOW_ALL, HOST, TestGate, policy};
use crate::pull::{multi, simple};
use crate::support::{TestRegistry, request};

const SIGNED: &str = "  - {name: \"*\", policy: {trust: release}}\n";
const OCI: &str = "application/vnd.oci.image.manifest.v1+json";

/// A gate that requires signatures.
async fn strict(registry: &TestRegistry) -> crate::harness::Gate {
    TestGate::new(registry, &policy(SIGNED)).start().await
}

/// A manifest with changed JSON for the same blobs.
fn changed(built: &Built, change: impl FnOnce(&mut Value)) -> Built {
    let mut body = built.json();
    change(&mut body);
    image::raw(&built.manifest().media_type, &body).with_content_of(built)
}

#[tokio::test]
async fn folded_and_duplicate_keys_are_refused() {
    let registry = TestRegistry::start().await;
    let (good, bad) = (simple("good"), simple("bad"));
    let text = String::from_utf8(good.manifest().bytes.to_vec()).unwrap();
    let other = bad.json()["layers"].to_string();
    let folded = format!(
        "{},\"Layers\":{other}}}",
        text.trim_end_matches('}').to_owned() + &"}".repeat(text.len() - text.trim_end_matches('}').len() - 1)
    );
    let doubled = folded.replace("\"Layers\"", "\"layers\"");
    let long_s = folded.replace("\"Layers\"", "\"layer\u{17f}\"");
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    for (tag, body) in [("folded", folded), ("doubled", doubled), ("long-s", long_s)] {
        serde_json::from_str::<Value>(&body).expect("the attack is JSON");
        registry.put_manifest("library/app", Some(tag), OCI, body);
        let got = gate.get(&format!("/library/app/manifests/{tag}")).await;
        assert_eq!(got.status, 403, "{tag}: {}", got.text());
        assert!(got.text().contains("refused"), "{}", got.text());
    }
}

#[tokio::test]
async fn relabelled_configurations_do_not_turn_images_into_artifacts() {
    let registry = TestRegistry::start().await;
    let image = simple("relabelled");
    let vulnerable_rule = "  - {name: \"*\", policy: {va: {unscanned: deny, unsupported: allow}}}\n";
    let gate = TestGate::new(&registry, &policy(vulnerable_rule)).start().await;
    for (tag, media_type, layer_type) in [
        ("octets", "application/octet-stream", None),
        ("json", "application/json", None),
        ("own", "application/vnd.acme.thing.v1+json", None),
        ("own-layers", "application/vnd.acme.thing.v1+json", Some("application/vnd.acme.layer")),
        ("empty", "application/vnd.oci.empty.v1+json", Some("application/vnd.acme.layer")),
        // Archives of this type are never unpacked, so only the content of the configuration decides.
        (
            "chart",
            "application/vnd.cncf.helm.config.v1+json",
            Some("application/vnd.cncf.helm.chart.content.v1.tar+gzip"),
        ),
    ] {
        let relabelled = changed(&image, |body| {
            body["config"]["mediaType"] = media_type.into();
            body["artifactType"] = "application/vnd.acme.thing".into();
            if let Some(layer_type) = layer_type {
                body["layers"][0]["mediaType"] = layer_type.into();
            }
        });
        registry.push("library/app", Some(tag), &relabelled);
        let got = gate.get(&format!("/library/app/manifests/{tag}")).await;
        assert_eq!(got.status, 403, "{tag} was not recognised as an image");
        assert!(got.text().contains("UNSCANNED"), "{tag}: {}", got.text());
    }
    // Content that is proven not to be an image is not judged as one.
    let chart = image::artifact("application/vnd.acme.model", &[Layer::of("application/vnd.acme.weights", "weights")]);
    registry.push("library/app", Some("model"), &chart);
    let got = gate.get("/library/app/manifests/model").await;
    assert_eq!(got.status, 200, "{}", got.text());
}

#[tokio::test]
async fn attachments_that_contain_a_tar_are_images() {
    let registry = TestRegistry::start().await;
    let gate = strict(&registry).await;
    let tree = Tree::new().file("bin/sh", "evil");
    let tar = Layer::tar(&tree);
    for (tag, media_type) in [
        ("sig", "application/vnd.dev.cosign.simplesigning.v1+json"),
        ("att", "application/vnd.dsse.envelope.v1+json"),
        ("intoto", "application/vnd.in-toto+json"),
        ("sbom", "application/spdx+json"),
        ("bundle", "application/vnd.dev.sigstore.bundle.v0.3+json"),
        ("jws", "application/jose+json"),
        ("cose", "application/cose"),
    ] {
        let bytes = tree.to_tar();
        let layer = Layer::of(media_type, bytes);
        registry.push("library/app", Some(tag), &image::attachment(&[layer]));
        let got = gate.get(&format!("/library/app/manifests/{tag}")).await;
        assert_eq!(got.status, 403, "{tag}: a tar was served as an attachment");
    }
    drop(tar);
}

#[tokio::test]
async fn signatures_in_other_repositories_do_not_count() {
    let registry = TestRegistry::start().await;
    let image = simple("copied");
    registry.push("library/signed", Some("1"), &image);
    registry.push("library/unsigned", Some("1"), &image);
    let gate = strict(&registry).await;
    gate.key().sign(&registry, "library/signed", &format!("{HOST}/library/signed"), image.root).unwrap();
    assert_eq!(gate.get("/library/signed/manifests/1").await.status, 200);
    assert_eq!(gate.get("/library/unsigned/manifests/1").await.status, 403);
    assert_eq!(gate.get(&format!("/library/unsigned/manifests/{}", image.root)).await.status, 403);
}

#[tokio::test]
async fn images_do_not_pass_trust_to_manifests_in_their_layers() {
    let registry = TestRegistry::start().await;
    let evil = simple("evil");
    let carrier = Image::linux_amd64().layer(Layer::of(OCI, evil.manifest().bytes.clone())).build();
    registry.push("library/app", Some("carrier"), &carrier);
    registry.push("library/app", None, &evil);
    let gate = strict(&registry).await;
    gate.key().sign(&registry, "library/app", &format!("{HOST}/library/app"), carrier.root).unwrap();
    assert_eq!(gate.get("/library/app/manifests/carrier").await.status, 200);
    // It is not served as the layer that it claims to be either, neither before nor after the gate knows it as a
    // manifest.
    for path in ["blobs", "manifests", "blobs"] {
        let got = gate.get(&format!("/library/app/{path}/{}", evil.root)).await;
        assert_eq!(got.status, 403, "{path}: {}", got.text());
    }
    let layer = carrier.layers[0];
    assert_eq!(layer, evil.root);
}

#[tokio::test]
async fn signatures_of_other_digests_do_not_count() {
    let registry = TestRegistry::start().await;
    let (image, other) = (simple("one"), simple("other"));
    registry.push("library/app", Some("1"), &image);
    let gate = strict(&registry).await;
    let layer = gate.key().signature(&format!("{HOST}/library/app"), other.root).unwrap();
    registry.push("library/app", Some(&image::attachment_tag(&image.root, ".sig")), &image::attachment(&[layer]));
    let got = gate.get("/library/app/manifests/1").await;
    assert_eq!(got.status, 403, "{}", got.text());
}

#[tokio::test]
async fn children_admitted_for_one_scope_are_not_admitted_for_another() {
    let registry = TestRegistry::start().await;
    let image = multi("scoped");
    registry.push("library/app", Some("1"), &image);
    let document = |kind: &str, namespace: &str, rule: &str| {
        format!(
            "apiVersion: pullgate.io/v1\nkind: {kind}\nmetadata: {{name: p{namespace}, namespace: {namespace}}}\nspec:\n  \
             authorities: [{{name: release, cosign: {{key: {{file: release.pub}}}}}}]\n  repositories: [{{name: \"*\", policy: {rule}}}]\n"
        )
    };
    let open = document("ImagePolicy", "open", "{}");
    let closed = document("ImagePolicy", "closed", "{trust: release}");
    let both = format!("{open}---\n{closed}");
    let state = |made: TestGate| made;
    // One gate for both scopes, with two listeners.
    let made = state(TestGate::new(&registry, &both))
        .listener("scope = \"open\"")
        .with("[[listener]]\naddress = \"127.0.0.1:0\"\nscope = \"closed\"");
    let config = made.config();
    let bound = pullgate::app::build(config).await.unwrap();
    let urls: Vec<String> = bound.addresses().iter().map(|a| format!("http://{a}/v2/{HOST}/library/app")).collect();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = pullgate::runtime::Tasks::new().spawn(bound.run(async { drop(stopped.await) }));
    let get = async |n: usize, path: &str| request("GET", &format!("{}{path}", urls[n]), &[]).await.status;
    let child = image.manifests.iter().find(|d| d.digest != image.root).unwrap().digest;
    let (blob, _) = &image.blobs[0];
    assert_eq!(get(0, "/manifests/1").await, 200);
    for document in &image.manifests {
        assert_eq!(get(0, &format!("/manifests/{}", document.digest)).await, 200);
    }
    assert_eq!(get(0, &format!("/blobs/{blob}")).await, 200);
    assert_eq!(get(1, &format!("/manifests/{child}")).await, 403);
    assert_eq!(get(1, &format!("/blobs/{blob}")).await, 403, "content cached for one scope is not served to another");
    drop(stop);
    running.await.unwrap();
}

#[tokio::test]
async fn a_304_needs_a_permit() {
    let registry = TestRegistry::start().await;
    let image = simple("known");
    registry.push("library/app", Some("1"), &image);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let etag = format!("\"{}\"", image.root);
    let conditional = async |path: &str| request("GET", &gate.url(path), &[("if-none-match", &etag)]).await.status;
    assert_eq!(conditional("/library/app/manifests/1").await, 304);
    gate.set_policy(&policy(SIGNED));
    assert_eq!(conditional("/library/app/manifests/1").await, 403);
    assert_eq!(conditional(&format!("/library/app/manifests/{}", image.root)).await, 403);
}

#[tokio::test]
async fn urls_data_and_schema_1_are_refused() {
    let registry = TestRegistry::start().await;
    let image = multi("tricky");
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let cases: Vec<(&str, Built)> = vec![
        ("child-url", changed(&image, |body| body["manifests"][0]["urls"] = json!(["https://evil.example/x"]))),
        ("child-data", changed(&image, |body| body["manifests"][0]["data"] = "e30=".into())),
        ("layer-url", changed(&simple("u"), |body| body["layers"][0]["urls"] = json!(["http://169.254.169.254/"]))),
        ("config-url", changed(&simple("c"), |body| body["config"]["urls"] = json!(["https://evil.example/x"]))),
        ("both", changed(&image, |body| body["layers"] = json!([]))),
        (
            "schema1",
            image::raw(
                "application/vnd.docker.distribution.manifest.v1+prettyjws",
                &json!({"schemaVersion": 1, "fsLayers": []}),
            ),
        ),
        (
            "md5",
            changed(&simple("m"), |body| body["layers"][0]["digest"] = "md5:d41d8cd98f00b204e9800998ecf8427e".into()),
        ),
    ];
    for (tag, built) in cases {
        registry.push("library/app", Some(tag), &built);
        let got = gate.get(&format!("/library/app/manifests/{tag}")).await;
        assert_eq!(got.status, 403, "{tag}: {}", got.text());
    }
}

#[tokio::test]
async fn content_types_that_contradict_the_body_are_refused() {
    let registry = TestRegistry::start().await;
    let image = multi("typed");
    registry.push("library/app", None, &image);
    registry.put_manifest("library/app", Some("lie"), OCI, image.manifest().bytes.clone());
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    assert_eq!(gate.get("/library/app/manifests/lie").await.status, 403);
}

#[tokio::test]
async fn manifests_with_a_wrong_digest_are_never_served() {
    let registry = TestRegistry::start().await;
    let (real, other) = (simple("real"), simple("other"));
    registry.push("library/app", Some("1"), &real);
    registry.put_manifest_as("library/app", real.root, OCI, other.manifest().bytes.clone());
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let got = gate.get(&format!("/library/app/manifests/{}", real.root)).await;
    assert_ne!(got.status, 200, "the content does not match the requested digest");
}

#[tokio::test]
async fn sha512_digests_are_also_verified() {
    let registry = TestRegistry::start().await;
    let image = simple("long");
    registry.push("library/app", None, &image);
    let bytes = image.manifest().bytes.clone();
    let long = Digest::of(pullgate::oci::Algorithm::Sha512, &bytes);
    registry.put_manifest_as("library/app", long, OCI, bytes.clone());
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    assert_eq!(gate.get(&format!("/library/app/manifests/{long}")).await.body, bytes);
}

#[tokio::test]
async fn indexes_are_denied_on_head_if_every_relevant_platform_is() {
    let registry = TestRegistry::start().await;
    let image = multi("unscanned");
    registry.push("library/app", Some("1"), &image);
    let gate = TestGate::new(&registry, &policy("  - {name: \"*\", policy: {va: {unscanned: deny}}}\n")).start().await;
    let head = gate.head("/library/app/manifests/1").await;
    assert_eq!(head.status, 403);
    assert!(
        head.reason.contains("linux/amd64: UNSCANNED") || head.reason.contains("linux/arm64: UNSCANNED"),
        "{}",
        head.reason
    );
}

#[tokio::test]
async fn changes_through_the_admin_api_require_authorization() {
    let registry = TestRegistry::start().await;
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let reload = gate.admin_url("/api/v1/reload");
    assert_eq!(request("POST", &reload, &[("content-length", "0")]).await.status, 403);
    assert_eq!(request("GET", &gate.admin_url("/api/v1/images"), &[]).await.status, 200);
    let images = gate.admin_url("/api/v1/images");
    assert_eq!(request("GET", &images, &[("origin", "https://evil.example")]).await.status, 403);
    // The registry listener serves nothing of the admin API.
    assert_eq!(request("GET", &gate.any_url("/metrics"), &[]).await.status, 404);
    assert_eq!(request("POST", &gate.any_url("/api/v1/reload"), &[("content-length", "0")]).await.status, 405);
}

#[tokio::test]
async fn denied_images_have_open_lists_and_closed_blobs() {
    let registry = TestRegistry::start().await;
    let image = Image::linux_amd64().layer(Layer::gzip(&Tree::new().file("a", "b"))).build();
    registry.push("library/app", Some("1"), &image);
    let gate = strict(&registry).await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 403);
    assert_eq!(gate.get("/library/app/tags/list").await.status, 200);
    assert_eq!(gate.get(&format!("/library/app/referrers/{}", image.root)).await.status, 200);
    for (digest, _) in &image.blobs {
        assert_eq!(gate.get(&format!("/library/app/blobs/{digest}")).await.status, 403);
        assert_eq!(registry.count(|r| r.method == Method::GET && r.path.ends_with(&digest.to_string())), 0);
    }
}
