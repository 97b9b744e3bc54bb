//! Complete pulls: admitted images arrive, denied ones do not, and the reason is reported.

use pullgate::sample::image::{self, Image, Layer, Tree};
use pullgate::sample::{Fault, On};

use crate::harness::{ALLOW_ALL, HOST, TestGate, policy};
use crate::support::{TestRegistry, request, soon};

/// An image with one layer.
pub(crate) fn simple(name: &str) -> image::Built {
    Image::linux_amd64().layer(Layer::gzip(&Tree::new().file("app", name.to_owned()))).build()
}

/// An index with two platforms.
pub(crate) fn multi(name: &str) -> image::Built {
    let platform = |text: &str| {
        let layer = Layer::gzip(&Tree::new().file("app", format!("{name} {text}")));
        Image::new(text.parse().expect("a platform")).layer(layer).build()
    };
    image::index(&[platform("linux/amd64"), platform("linux/arm64")])
}

#[tokio::test]
async fn admitted_images_arrive_complete() {
    let registry = TestRegistry::start().await;
    let image = multi("whole");
    registry.push("library/app", Some("1"), &image);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;

    let head = gate.head("/library/app/manifests/1").await;
    assert_eq!(head.status, 200);
    assert_eq!(head.header("docker-content-digest"), Some(&*image.root.to_string()));
    assert!(head.body.is_empty());
    let index = gate.get("/library/app/manifests/1").await;
    assert_eq!(index.body, image.manifest().bytes);
    assert_eq!(index.header("content-type"), Some("application/vnd.oci.image.index.v1+json"));
    assert_eq!(index.header("content-length"), head.header("content-length"));
    for document in &image.manifests {
        let got = gate.get(&format!("/library/app/manifests/{}", document.digest)).await;
        assert_eq!((got.status, &got.body), (200, &document.bytes));
    }
    for (digest, bytes) in &image.blobs {
        let got = gate.get(&format!("/library/app/blobs/{digest}")).await;
        assert_eq!((got.status, &got.body, got.complete), (200, bytes, true));
        let head = gate.head(&format!("/library/app/blobs/{digest}")).await;
        assert_eq!(head.header("content-length"), Some(&*bytes.len().to_string()));
    }
}

#[tokio::test]
async fn unsigned_images_are_denied_with_a_reason_before_any_blob_request() {
    let registry = TestRegistry::start().await;
    let image = simple("unsigned");
    registry.push("library/app", Some("1"), &image);
    let gate = TestGate::new(&registry, &policy("  - {name: \"*\", policy: {trust: release}}\n")).start().await;

    let head = gate.head("/library/app/manifests/1").await;
    assert_eq!(head.status, 403);
    assert!(
        head.reason.contains("denied by ClusterImagePolicy/default \"*\": trust: release: not signed"),
        "{}",
        head.reason
    );
    let by_tag = gate.get("/library/app/manifests/1").await;
    let by_digest = gate.get(&format!("/library/app/manifests/{}", image.root)).await;
    for denied in [&by_tag, &by_digest] {
        assert_eq!(denied.status, 403);
        assert_eq!(denied.json()["errors"][0]["code"], "DENIED");
        assert!(denied.json()["errors"][0]["detail"].is_string());
    }
    let message = by_tag.json()["errors"][0]["message"].as_str().unwrap().to_owned();
    assert!(message.starts_with(&format!("pullgate: {HOST}/library/app:1 denied by")), "{message}");
    for (digest, _) in &image.blobs {
        let denied = gate.get(&format!("/library/app/blobs/{digest}")).await;
        assert_eq!(denied.status, 403, "{}", denied.text());
        assert_eq!(
            registry.count(|r| r.is("GET", &digest.to_string())),
            0,
            "the upstream received a request for a denied blob"
        );
    }
}

#[tokio::test]
async fn signed_images_are_admitted_and_their_signatures_stay_available() {
    let registry = TestRegistry::start().await;
    let image = multi("signed");
    registry.push("library/app", Some("1"), &image);
    let made = TestGate::new(&registry, &policy("  - {name: \"*\", policy: {trust: release}}\n"));
    made.key.sign(&registry, "library/app", &format!("{HOST}/library/app"), image.root).unwrap();
    let gate = made.start().await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    // The children inherit the signature of the index.
    for document in &image.manifests {
        let got = gate.get(&format!("/library/app/manifests/{}", document.digest)).await;
        assert_eq!(got.status, 200, "{}", got.text());
    }
    let tag = image::attachment_tag(&image.root, ".sig");
    let signature = gate.get(&format!("/library/app/manifests/{tag}")).await;
    assert_eq!(signature.status, 200, "{}", signature.text());
    let layer = signature.json()["layers"][0]["digest"].as_str().unwrap().to_owned();
    assert_eq!(gate.get(&format!("/library/app/blobs/{layer}")).await.status, 200);
}

/// An authority that only the configuration defines, with a path that is relative to its file. A changed key judges
/// images again after a restart.
#[tokio::test]
async fn authorities_of_the_configuration_are_enforced() {
    let registry = TestRegistry::start().await;
    let (signed, unsigned) = (simple("signed"), simple("unsigned"));
    registry.push("library/app", Some("signed"), &signed);
    registry.push("library/app", Some("unsigned"), &unsigned);
    let document = "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {name: default}\nspec:\n  \
                    repositories:\n  - {name: \"*\", policy: {trust: site}}\n";
    let made = TestGate::new(&registry, document)
        .with("[trust.authority.site.cosign]\nkey = { file = \"policies/release.pub\" }\n");
    made.key.sign(&registry, "library/app", "any", signed.root).unwrap();
    let gate = made.start().await;
    assert_eq!(gate.get("/library/app/manifests/signed").await.status, 200);
    assert_eq!(gate.get("/library/app/manifests/unsigned").await.status, 403);
    let made = gate.stop().await;
    let blobs = registry.count(|request| request.is("GET", "/blobs/"));
    let gate = made.start().await;
    assert_eq!(gate.get("/library/app/manifests/signed").await.status, 200);
    assert_eq!(registry.count(|request| request.is("GET", "/blobs/")), blobs, "nothing is verified again");
    let made = gate.stop().await;
    let other = pullgate::sample::SigningKey::generate().unwrap();
    let made = made.file("policies/release.pub", &other.public_pem());
    let gate = made.start().await;
    assert_eq!(gate.get("/library/app/manifests/signed").await.status, 403);
}

/// With `signed: child`, the signature of an index is not enough; with `signed: index`, those of its images are not.
#[tokio::test]
async fn the_rule_determines_which_manifests_must_be_signed() {
    for (rule, sign_index, admitted) in
        [("child", true, false), ("child", false, true), ("index", true, true), ("index", false, false)]
    {
        let registry = TestRegistry::start().await;
        let image = multi("signed");
        registry.push("library/app", Some("1"), &image);
        let entry = format!("  - {{name: \"*\", policy: {{trust: release, signed: {rule}}}}}\n");
        let made = TestGate::new(&registry, &policy(&entry));
        let all = image.manifests.iter().map(|document| document.digest);
        let children: Vec<_> = all.filter(|digest| *digest != image.root).collect();
        let signed = if sign_index { vec![image.root] } else { children.clone() };
        for digest in signed {
            made.key.sign(&registry, "library/app", &format!("{HOST}/library/app"), digest).unwrap();
        }
        let gate = made.start().await;
        let got = gate.get("/library/app/manifests/1").await;
        assert_eq!(got.status == 200, admitted, "{rule} {sign_index}: {}", got.text());
        // A child counts by its own signature, and by that of the index unless the rule says `child`.
        let child = gate.get(&format!("/library/app/manifests/{}", children[0])).await;
        assert_eq!(child.status == 200, !sign_index || rule != "child", "{rule} {sign_index}: {}", child.text());
    }
}

/// A maintenance page does not mean that the image is unsigned, and the client is asked to retry soon.
#[tokio::test]
async fn corrupt_signatures_leave_the_decision_open() {
    let registry = TestRegistry::start().await;
    let image = simple("signed");
    registry.push("library/app", Some("1"), &image);
    let tag = image::attachment_tag(&image.root, ".sig");
    let answer = |body: &'static str| Fault::Answer {
        status: http::StatusCode::OK,
        headers: http::HeaderMap::new(),
        body: body.into(),
    };
    let faults = [answer("<html>"), answer(""), answer("{}"), Fault::redirect("{path}")];
    for fault in faults {
        let made = TestGate::new(&registry, &policy("  - {name: \"*\", policy: {trust: release}}\n"));
        let gate = made.start().await;
        let injected = registry.inject(On::path(&format!("*/manifests/{tag}")), fault);
        let got = gate.get("/library/app/manifests/1").await;
        assert_eq!(got.status, 503, "{}", got.text());
        injected.remove();
    }
}

/// Some proxies do not support HEAD, and ask to wait an hour.
#[tokio::test]
async fn refused_heads_are_retried_with_get() {
    let registry = TestRegistry::start().await;
    let (one, other) = (simple("one"), simple("other"));
    registry.push("library/one", Some("1"), &one);
    registry.push("library/other", Some("1"), &other);
    let unavailable = Fault::status(http::StatusCode::SERVICE_UNAVAILABLE).with(http::header::RETRY_AFTER, "3600");
    for fault in [Fault::too_many_requests(3600), unavailable] {
        let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
        let injected = registry.inject(On::any().method(http::Method::HEAD), fault);
        for (name, image) in [("one", &one), ("other", &other)] {
            let got = gate.get(&format!("/library/{name}/manifests/1")).await;
            assert_eq!(got.status, 200, "{}", got.text());
            let head = gate.head(&format!("/library/{name}/blobs/{}", image.blobs[0].0)).await;
            assert_eq!(head.status, 200);
        }
        injected.remove();
    }
}

#[tokio::test]
async fn reports_match_configuration_digests_and_never_index_digests() {
    let registry = TestRegistry::start().await;
    let (bad, good) = (multi("bad"), multi("good"));
    registry.push("library/bad", Some("1"), &bad);
    registry.push("library/good", Some("1"), &good);
    let rule = "  - {name: \"*\", policy: {va: {severity: high, unscanned: deny}}}\n";
    let made = TestGate::new(&registry, &policy(rule));
    let mut n = 0;
    let mut report = |config: &str, repo_digest: &str, issues: &str| {
        let text = format!(
            r#"{{"SchemaVersion":2,"CreatedAt":"2026-01-01T00:00:00Z","ArtifactName":"x","ArtifactType":"container_image",
            "Metadata":{{"ImageID":"{config}","RepoDigests":["{repo_digest}"]}},
            "Results":[{{"Target":"x","Class":"os-pkgs","Type":"debian","Vulnerabilities":[{issues}]}}]}}"#
        );
        n += 1;
        std::fs::write(made.path().join(format!("reports/{n}.json")), text).unwrap();
    };
    let issue = r#"{"VulnerabilityID":"CVE-2024-1","PkgName":"openssl","InstalledVersion":"1","FixedVersion":"2","Severity":"CRITICAL"}"#;
    for config in &bad.configs {
        report(&config.to_string(), "x@sha256:0000000000000000000000000000000000000000000000000000000000000000", issue);
    }
    for config in &good.configs {
        report(&config.to_string(), "x@sha256:0000000000000000000000000000000000000000000000000000000000000000", "");
    }
    let third = multi("third");
    registry.push("library/third", Some("1"), &third);
    report("sha256:1111111111111111111111111111111111111111111111111111111111111111", &format!("x@{}", third.root), "");
    let gate = made.start().await;
    let denied = gate.get("/library/bad/manifests/1").await;
    assert_eq!(denied.status, 403);
    assert!(denied.text().contains("1 issue not exempt (CVE-2024-1 critical openssl fixed in 2)"), "{}", denied.text());
    assert_eq!(gate.get("/library/good/manifests/1").await.status, 200);
    let unscanned = gate.get("/library/third/manifests/1").await;
    assert_eq!(unscanned.status, 403, "an index digest names no platform, so the report does not count");
    assert!(unscanned.text().contains("UNSCANNED"), "{}", unscanned.text());
}

#[tokio::test]
async fn audit_mode_admits_and_warns() {
    let registry = TestRegistry::start().await;
    registry.push("library/app", Some("1"), &simple("audited"));
    let text = policy("  - {name: \"*\", policy: {trust: release}}\n").replace("spec:\n", "spec:\n  mode: audit\n");
    let gate = TestGate::new(&registry, &text).start().await;
    let got = gate.get("/library/app/manifests/1").await;
    assert_eq!(got.status, 200, "{}", got.text());
    let warning = got.header("warning").unwrap();
    assert!(
        warning.starts_with("299 - \"audit mode, would be denied: pullgate: registry.test/library/app:1"),
        "{warning}"
    );
    let (_, records) = gate.stop_and_read_audit().await;
    assert_eq!(records[0]["decision"], "would-deny");
}

#[tokio::test]
async fn a_gate_in_audit_mode_admits_images_without_a_rule() {
    let registry = TestRegistry::start().await;
    registry.push("library/app", Some("1"), &simple("audited"));
    let gate = TestGate::new(&registry, &policy("  - {name: \"elsewhere/*\", policy: {}}\n"))
        .with("[gate]\nmode = \"audit\"")
        .start()
        .await;
    let got = gate.get("/library/app/manifests/1").await;
    assert_eq!(got.status, 200, "{}", got.text());
    assert!(got.header("warning").is_some());
}

#[tokio::test]
async fn policy_changes_take_effect_immediately_unless_invalid() {
    let registry = TestRegistry::start().await;
    registry.push("library/app", Some("1"), &simple("changing"));
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    gate.set_policy(&policy("  - {name: \"*\", policy: {trust: release}}\n"));
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 403);
    gate.set_policy("apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nnonsense: true\n");
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 403, "the last good rules stay");
    let ready = request("GET", &gate.admin_url("/readyz"), &[]).await;
    assert_eq!(ready.status, 200);
    assert!(ready.text().contains("policy"), "{}", ready.text());
}

#[tokio::test]
async fn later_signatures_are_noticed_once_negative_evidence_expires() {
    let registry = TestRegistry::start().await;
    let image = simple("late");
    registry.push("library/app", Some("1"), &image);
    let gate = TestGate::new(&registry, &policy("  - {name: \"*\", policy: {trust: release}}\n"))
        .with("[trust]\nnegative_ttl = \"300ms\"")
        .start()
        .await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 403);
    gate.key().sign(&registry, "library/app", &format!("{HOST}/library/app"), image.root).unwrap();
    // Evidence expires by the clock, without notice.
    soon(async { while gate.get("/library/app/manifests/1").await.status != 200 {} }).await;
}

#[tokio::test]
async fn silent_registries_do_not_mean_unsigned() {
    let registry = TestRegistry::start().await;
    let image = simple("unknown");
    registry.push("library/app", Some("1"), &image);
    registry.inject(On::path("*/referrers/*"), Fault::status(http::StatusCode::INTERNAL_SERVER_ERROR));
    registry.inject(On::path("*sha256-*"), Fault::status(http::StatusCode::INTERNAL_SERVER_ERROR));
    let gate = TestGate::new(&registry, &policy("  - {name: \"*\", policy: {trust: release}}\n")).start().await;
    let got = gate.get("/library/app/manifests/1").await;
    assert_eq!(got.status, 503, "{}", got.text());
    assert!(got.header("retry-after").is_some());
    assert!(!got.text().contains("not signed"), "{}", got.text());
}
