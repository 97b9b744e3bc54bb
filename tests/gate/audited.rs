//! Audited documents: judged and recorded in addition to enforced ones, never instead of them.

use jiff::SignedDuration;
use pullgate::runtime::Clock;
use pullgate::sample::image::{self, Built, Layer};
use pullgate::sample::{Fault, On};

use crate::harness::{HOST, TestGate};
use crate::pull::simple;
use crate::support::{TestRegistry, request};

fn document(name: &str, mode: &str, entry: &str, rule: &str) -> String {
    format!(
        "---\napiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {{name: {name}}}\nspec:\n  mode: {mode}\n  \
         authorities:\n  - name: release\n    cosign: {{key: {{file: release.pub}}}}\n  \
         repositories: [{{name: \"{entry}\", policy: {rule}}}]\n"
    )
}

/// An attachment: an in-toto statement.
fn statement() -> Built {
    let text = r#"{"_type":"https://in-toto.io/Statement/v1","subject":[],"predicateType":"x","predicate":{}}"#;
    image::attachment(&[Layer::of("application/vnd.in-toto+json", text)])
}

/// The audited entry is more specific, so it would win if it were enforced.
#[tokio::test]
async fn audited_documents_do_not_disable_enforced_ones() {
    let registry = TestRegistry::start().await;
    registry.push("library/app", Some("1"), &simple("unsigned"));
    let enforced = document("all", "enforce", "*", "{trust: release}");
    for (entry, rule) in [(format!("{HOST}/library/*"), "{}"), (format!("{HOST}/library/app:1"), "{va: {}}")] {
        let both = enforced.clone() + &document("preview", "audit", &entry, rule);
        let gate = TestGate::new(&registry, &both).start().await;
        for method in ["GET", "HEAD"] {
            let got = request(method, &gate.url("/library/app/manifests/1"), &[]).await;
            assert_eq!(got.status, 403, "{entry} {method}: {}", got.text());
        }
        let checked = request("GET", &gate.admin_url(&format!("/api/v1/check?image={HOST}/library/app:1")), &[]).await;
        assert!(checked.text().contains("\"decision\":\"deny\""), "{}", checked.text());
        let (_, records) = gate.stop_and_read_audit().await;
        let said = &records[0]["would_deny"][0]["document"];
        assert_eq!(*said == "ClusterImagePolicy/preview", rule != "{}", "{records:#?}");
    }
}

/// The preview is complete: it is counted alongside a denial, every time, even if the response is reused.
#[tokio::test]
async fn would_be_denials_are_counted_alongside_denials() {
    let registry = TestRegistry::start().await;
    let image = simple("unsigned");
    registry.push("library/app", Some("1"), &image);
    let both =
        document("all", "enforce", "*", "{trust: release}") + &document("preview", "audit", "*", "{trust: release}");
    let gate = TestGate::new(&registry, &both).start().await;
    for _ in 0..3 {
        assert_eq!(gate.get(&format!("/library/app/manifests/{}", image.root)).await.status, 403);
    }
    let metrics = request("GET", &gate.admin_url("/metrics"), &[]).await;
    let counted = "pullgate_would_deny_total{document=\"ClusterImagePolicy/preview\"} 3";
    assert!(metrics.text().contains(counted), "{}", metrics.text());
    let (_, records) = gate.stop_and_read_audit().await;
    assert!(records.iter().all(|record| record["would_deny"][0]["document"] == "ClusterImagePolicy/preview"));
}

/// A preview that cannot be judged at the moment delays no response.
#[tokio::test]
async fn audited_documents_do_not_delay_responses() {
    let registry = TestRegistry::start().await;
    registry.push("library/app", Some("1"), &statement());
    let held = registry.inject(On::blobs(), Fault::Gate);
    let both = document("all", "enforce", "*", "{}") + &document("preview", "audit", "*", "{va: {}}");
    let gate = TestGate::new(&registry, &both).start().await;
    let got = gate.get("/library/app/manifests/1").await;
    held.release();
    assert_eq!(got.status, 200, "{}", got.text());
}

/// A scanner's text is sent in a header, which does not allow every character.
#[tokio::test]
async fn warnings_are_single_printable_lines() {
    let registry = TestRegistry::start().await;
    let image = simple("scanned");
    registry.push("library/app", Some("1"), &image);
    let report = serde_json::json!({
        "SchemaVersion": 2, "ArtifactName": "app", "ArtifactType": "container_image",
        "Metadata": {"OS": {"Family": "debian", "Name": "12"}, "ImageID": image.root},
        "Results": [{"Target": "app", "Class": "os-pkgs", "Type": "debian", "Vulnerabilities": [
            {"VulnerabilityID": "CVE-\u{1b}\"ü\r\n1", "PkgName": "openssl", "InstalledVersion": "1", "Severity": "HIGH"}
        ]}],
    });
    let made = TestGate::new(&registry, &document("preview", "audit", "*", "{va: {}}"));
    let gate = made.file("reports/app.json", &report.to_string()).start().await;
    let got = gate.get("/library/app/manifests/1").await;
    let warning = got.header("warning").expect("a warning");
    assert!(got.status == 200 && warning.contains("CVE-?'???1"), "{warning}");
}

/// A preview delays a response by a few seconds at most.
#[tokio::test]
async fn endless_audited_checks_delay_responses_only_briefly() {
    let registry = TestRegistry::start().await;
    registry.push("library/app", Some("1"), &simple("unsigned"));
    let both = document("all", "enforce", "*", "{}") + &document("preview", "audit", "*", "{trust: release}");
    let gate = TestGate::new(&registry, &both).start().await;
    let held = registry.inject(On::path("/v2/*/manifests/sha256-*"), Fault::Gate);
    let pull = tokio::time::timeout(std::time::Duration::from_secs(15), gate.get("/library/app/manifests/1"));
    let got = pull.await.expect("an answer in time");
    held.release();
    let warning = got.header("warning").expect("a warning");
    assert!(got.status == 200 && warning.contains("could not be judged within 2 s"), "{} {warning}", got.status);
}

#[tokio::test]
async fn would_be_denials_are_recorded_counted_and_reported() {
    let registry = TestRegistry::start().await;
    registry.push("library/app", Some("1"), &simple("unsigned"));
    let both = document("all", "enforce", "*", "{}")
        + &document("preview", "audit", &format!("{HOST}/library/*"), "{trust: release}");
    let gate = TestGate::new(&registry, &both).start().await;
    let got = gate.get("/library/app/manifests/1").await;
    assert_eq!(got.status, 200, "{}", got.text());
    let warning = got.header("warning").expect("a warning");
    assert!(warning.contains("ClusterImagePolicy/preview") && warning.contains("not signed"), "{warning}");
    let metrics = request("GET", &gate.admin_url("/metrics"), &[]).await;
    let counted = "pullgate_would_deny_total{document=\"ClusterImagePolicy/preview\"} 1";
    assert!(metrics.text().contains(counted), "{}", metrics.text());
    let checked = request("GET", &gate.admin_url(&format!("/api/v1/check?image={HOST}/library/app:1")), &[]).await;
    assert!(checked.text().contains("\"decision\":\"admit\""), "{}", checked.text());
    assert!(checked.text().contains("preview"), "{}", checked.text());
    let (_, records) = gate.stop_and_read_audit().await;
    assert_eq!(records[0]["decision"], "admit", "{records:#?}");
    assert_eq!(records[0]["document"], "ClusterImagePolicy/all");
    assert_eq!(records[0]["kind"], "image");
    assert_eq!(records[0]["would_deny"][0]["document"], "ClusterImagePolicy/preview");
    assert_eq!(records[0]["would_deny"][0]["stage"], "trust");
}

#[tokio::test]
async fn images_matched_only_by_audited_entries_are_admitted() {
    let registry = TestRegistry::start().await;
    registry.push("library/app", Some("1"), &simple("unsigned"));
    let gate = TestGate::new(&registry, &document("preview", "audit", "*", "{trust: release}")).start().await;
    let got = gate.get("/library/app/manifests/1").await;
    assert_eq!(got.status, 200, "{}", got.text());
    let (_, records) = gate.stop_and_read_audit().await;
    assert_eq!(records[0]["decision"], "would-deny", "{records:#?}");
    assert_eq!(records[0]["would_deny"][0]["document"], "ClusterImagePolicy/preview");
}

/// A gate in audit mode serves what it would deny, and `check` reports the same.
#[tokio::test]
async fn check_agrees_with_a_gate_in_audit_mode() {
    let registry = TestRegistry::start().await;
    registry.push("library/app", Some("1"), &simple("unsigned"));
    let enforced = document("all", "enforce", &format!("{HOST}/library/*"), "{trust: release}");
    let gate = TestGate::new(&registry, &enforced).with("[gate]\nmode = \"audit\"").start().await;
    registry.push("other/app", Some("1"), &simple("unmatched"));
    for image in ["library/app", "other/app"] {
        assert_eq!(gate.get(&format!("/{image}/manifests/1")).await.status, 200, "{image}");
        let checked = request("GET", &gate.admin_url(&format!("/api/v1/check?image={HOST}/{image}:1")), &[]).await;
        assert!(checked.text().contains("\"decision\":\"would-deny\""), "{image}: {}", checked.text());
    }
}

/// Without a proof, the kind follows from the structure, even for an empty index.
#[tokio::test]
async fn empty_indexes_are_recorded_as_indexes() {
    let registry = TestRegistry::start().await;
    registry.push("library/app", Some("1"), &image::index(&[]));
    let elsewhere = document("all", "enforce", "elsewhere.test/*", "{}");
    let gate = TestGate::new(&registry, &elsewhere).with("[gate]\nmode = \"audit\"").start().await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    let (_, records) = gate.stop_and_read_audit().await;
    assert_eq!(records[0]["kind"], "index", "{records:#?}");
}

/// Artifacts need signatures, but cannot be scanned.
#[tokio::test]
async fn records_of_artifacts_name_skipped_checks() {
    let registry = TestRegistry::start().await;
    let model = image::artifact("application/vnd.acme.model", &[Layer::of("application/vnd.acme.weights", "weights")]);
    registry.push("library/app", Some("1"), &model);
    let rule = document("all", "enforce", "*", "{va: {unsupported: allow}}");
    let gate = TestGate::new(&registry, &rule).start().await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    let (_, records) = gate.stop_and_read_audit().await;
    assert_eq!((&records[0]["kind"], &records[0]["skipped"]), (&"artifact".into(), &serde_json::json!(["va"])));
}

/// Content that is served without checks because of its kind is recorded as such.
#[tokio::test]
async fn records_of_attachments_name_skipped_checks() {
    let registry = TestRegistry::start().await;
    registry.push("library/app", Some("1"), &statement());
    let rule = document("all", "enforce", "*", "{trust: release, va: {}}");
    let gate = TestGate::new(&registry, &rule).start().await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    registry.push("library/app", Some("2"), &simple("unsigned"));
    assert_eq!(gate.get("/library/app/manifests/2").await.status, 403);
    let checked = request("GET", &gate.admin_url(&format!("/api/v1/check?image={HOST}/library/app:1")), &[]).await;
    assert!(checked.text().contains(r#""skipped":["trust","va"]"#), "{}", checked.text());
    let (_, records) = gate.stop_and_read_audit().await;
    assert_eq!(records[1]["skipped"], serde_json::Value::Null, "an image is checked: {records:#?}");
    assert_eq!(records[0]["kind"], "attachment");
    assert_eq!(records[0]["skipped"], serde_json::json!(["trust", "va"]));
}

/// A preview is repeated no longer than it holds: here until the report is too old for it.
#[tokio::test]
async fn audited_admissions_are_repeated_until_they_end() {
    let registry = TestRegistry::start().await;
    let image = simple("scanned");
    registry.push("library/app", Some("1"), &image);
    let report = serde_json::json!({
        "SchemaVersion": 2, "CreatedAt": "2026-03-01T12:00:00Z", "ArtifactName": "app",
        "ArtifactType": "container_image", "Results": [{"Target": "app", "Class": "os-pkgs", "Type": "debian"}],
        "Metadata": {"OS": {"Family": "debian", "Name": "12"}, "ImageID": image.root},
    });
    let both = document("all", "enforce", "*", "{}") + &document("preview", "audit", "*", "{va: {maxReportAge: 1h}}");
    let clock = Clock::manual("2026-03-01T12:59:50Z".parse().unwrap());
    let made = TestGate::new(&registry, &both).clock(&clock);
    let gate = made.file("reports/app.json", &report.to_string()).start().await;
    let path = format!("/library/app/manifests/{}", image.root);
    for _ in 0..4 {
        let got = gate.get(&path).await;
        assert_eq!((got.status, got.header("warning")), (200, None));
    }
    clock.advance(SignedDuration::from_secs(10));
    let got = gate.get(&path).await;
    let warning = got.header("warning").expect("a warning");
    assert!(got.status == 200 && warning.contains("older than the policy allows"), "{warning}");
}
