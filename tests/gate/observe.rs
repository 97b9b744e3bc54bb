//! Audit records, metrics and the admin API.

use crate::commands::pullgate;
use crate::harness::{ALLOW_ALL, TestGate, policy};
use crate::pull::simple;
use crate::support::{Exchange, TestRegistry, request, soon};
use pullgate::sample::{Fault, On, image};

#[tokio::test]
async fn each_decision_has_one_complete_record() {
    let registry = TestRegistry::start().await;
    let image = simple("recorded");
    registry.push("library/app", Some("1"), &image);
    let rules = "  - {name: \"registry.test/library/app\", policy: {trust: release}}\n  - {name: \"registry.test/open/*\", policy: {}}\n";
    registry.push("open/app", Some("1"), &image);
    let gate = TestGate::new(&registry, &policy(rules)).listener("scope = \"ci\"").start().await;
    let denied = gate.get("/library/app/manifests/1").await;
    assert_eq!(gate.head("/open/app/manifests/1").await.status, 200);
    assert_eq!(gate.get("/elsewhere/app/manifests/1").await.status, 403);
    assert_eq!(gate.get("/open/app/manifests/none").await.status, 404);
    let request_id = denied.header("x-request-id").unwrap().to_owned();
    let (_, records) = gate.stop_and_read_audit().await;
    assert_eq!(records.len(), 4, "{records:#?}");
    let first = &records[0];
    assert_eq!(first["schema"], 1);
    assert_eq!(first["request_id"], request_id);
    assert_eq!(first["client"], "127.0.0.1");
    assert_eq!(first["scope"], "ci");
    assert_eq!(first["image"], "registry.test/library/app:1");
    assert_eq!(first["digest"], image.root.to_string());
    assert_eq!(first["decision"], "deny");
    assert_eq!(first["document"], "ClusterImagePolicy/default");
    assert_eq!(first["rule"], "registry.test/library/app");
    assert_eq!(first["stage"], "trust");
    assert_eq!(first["reasons"][0], "release: not signed");
    assert!(first["duration_ms"].is_u64() && first["trust_age_seconds"].is_i64() && first["time"].is_string());
    assert_eq!((&records[1]["decision"], &records[1]["method"]), (&"admit".into(), &"HEAD".into()));
    assert_eq!((&records[2]["decision"], &records[2]["stage"]), (&"deny".into(), &"policy".into()));
    assert_eq!(records[3]["decision"], "missing", "nothing failed");
}

/// What was decided about the image that names the blob is not what was decided about the manifest in it.
#[tokio::test]
async fn a_manifest_behind_a_blob_is_recorded_alone() {
    let registry = TestRegistry::start().await;
    let (outer, inner) = (simple("outer"), simple("inner"));
    let mut body = outer.json();
    body["layers"][0]["digest"] = inner.root.to_string().into();
    body["layers"][0]["size"] = inner.manifest().bytes.len().into();
    let naming = image::raw(&outer.manifest().media_type, &body).with_content_of(&outer);
    registry.push("library/app", Some("1"), &naming);
    registry.put_blob("library/app", inner.manifest().bytes.clone());
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    let got = gate.get(&format!("/library/app/blobs/{}", inner.root)).await;
    assert_eq!(got.status, 404, "the registry has no manifest of this digest: {}", got.text());
    let (_, records) = gate.stop_and_read_audit().await;
    let (image, blob) = (&records[0], &records[1]);
    assert_eq!((&image["decision"], &blob["decision"]), (&"admit".into(), &"missing".into()));
    for field in ["digest", "kind", "document", "rule"] {
        assert!(image[field].is_string() && blob[field].is_null(), "{field}: {blob}");
    }
}

#[tokio::test]
async fn disconnected_clients_are_also_recorded() {
    let registry = TestRegistry::start().await;
    registry.push("library/app", Some("1"), &simple("left"));
    let held = registry.inject(On::manifests(), Fault::Gate);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let url = gate.url("/library/app/manifests/1");
    let leaving =
        pullgate::runtime::Tasks::new().spawn(async move { Exchange::start("GET", &url, &[]).await.head().status });
    held.wait_for_hits(1).await;
    leaving.abort();
    let file = gate.file("state/audit.jsonl");
    soon(async {
        while !std::fs::read_to_string(&file).is_ok_and(|text| text.contains("\"abandoned\"")) {
            tokio::task::yield_now().await;
        }
    })
    .await;
    held.release();
}

#[tokio::test]
async fn required_records_that_cannot_be_written_prevent_serving() {
    let registry = TestRegistry::start().await;
    registry.push("library/app", Some("1"), &simple("full"));
    let gate = TestGate::new(&registry, ALLOW_ALL).with("[audit]\nfile = \"/dev/full\"\nrequired = true").start().await;
    let got = gate.get("/library/app/manifests/1").await;
    assert_eq!(got.status, 503, "{}", got.text());
    assert!(got.text().contains("audit.required"), "{}", got.text());
    let metrics = request("GET", &gate.admin_url("/metrics"), &[]).await.text();
    assert!(metrics.contains("pullgate_decisions_total{decision=\"error\",reason=\"\"} 1"), "{metrics}");
    assert!(!metrics.contains("decision=\"admit\""), "nothing was served\n{metrics}");
}

/// Anyone on the machine can name the namespace that may pull.
#[tokio::test]
async fn users_of_the_machine_cannot_check_images_of_other_scopes() {
    let registry = TestRegistry::start().await;
    registry.push("library/app", Some("1"), &simple("private"));
    let gate = TestGate::new(&registry, ALLOW_ALL).upstream("serve_to = [\"ci\"]").start().await;
    for image in ["app:1", "app:none"] {
        let path = format!("/api/v1/check?image=registry.test/library/{image}&namespace=ci");
        let asked = request("GET", &gate.admin_url(&path), &[]).await;
        assert_eq!(asked.status, 403, "{}", asked.text());
        assert!(asked.text().contains("serve_to") && asked.text().contains("admin.token_file"), "{}", asked.text());
    }
    assert!(registry.requests().is_empty(), "nothing was asked");
}

#[tokio::test]
async fn metrics_health_and_api_endpoints() {
    let registry = TestRegistry::start().await;
    let image = simple("measured");
    registry.push("library/app", Some("1"), &image);
    let gate = TestGate::new(&registry, &policy("  - {name: \"*\", policy: {trust: release}}\n")).start().await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 403);
    let metrics = request("GET", &gate.admin_url("/metrics"), &[]).await.text();
    for wanted in [
        "pullgate_decisions_total{decision=\"deny\",reason=\"trust\"} 1",
        // The first event counts as an increase.
        "pullgate_decisions_total{decision=\"deny\",reason=\"va\"} 0",
        "pullgate_decisions_total{decision=\"unavailable\",reason=\"trust\"} 0",
        "pullgate_events_total{outcome=\"failed\"} 0",
        "pullgate_upstream_requests_held_total{upstream=\"registry.test\"} 0",
        "pullgate_requests_total{method=\"GET\",status=\"403\"} 1",
        "pullgate_verdict_seconds_count 1",
        "pullgate_upstream_requests_total{upstream=\"registry.test\",method=\"GET\",status=\"200\"} 2",
        "pullgate_cache_fills_in_flight 0",
        "pullgate_evidence_age_seconds_count{kind=\"trust\"} 1",
    ] {
        assert!(metrics.contains(wanted), "{wanted}\n{metrics}");
    }
    for path in ["/livez", "/metrics", "/api/v1/images", "/none"] {
        let got = request("GET", &gate.admin_url(path), &[]).await;
        assert_eq!(got.header("x-content-type-options"), Some("nosniff"), "{path}");
    }
    assert_eq!(request("GET", &gate.admin_url("/livez"), &[]).await.status, 200);
    assert_eq!(request("GET", &gate.admin_url("/readyz"), &[]).await.status, 200);
    let check = request("GET", &gate.admin_url("/api/v1/check?image=registry.test%2Flibrary%2Fapp%3A1"), &[]).await;
    assert_eq!(check.json()["decision"], "deny");
    assert_eq!(check.json()["rules"][0]["authorities"][0]["outcome"], "not verified");
    let images = request("GET", &gate.admin_url("/api/v1/images"), &[]).await.json();
    assert_eq!(images[0]["repository"], "registry.test/library/app");
    assert_eq!(images[0]["digest"], image.root.to_string());
    assert_eq!(images[0]["security_status"], "Not Scanned", "nothing goes on that would end");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_part_has_a_state_and_a_gate_without_policy_is_not_ready() {
    let registry = TestRegistry::start().await;
    let auth = "auth = { type = \"basic\", username = \"robot\", password_file = \"absent\" }\nserve_to = \"everyone\"";
    let made = TestGate::new(&registry, ALLOW_ALL).upstream(auth);
    std::fs::remove_file(made.path().join("policies/default.yaml")).unwrap();
    std::fs::remove_dir(made.path().join("reports")).unwrap();
    let gate = made.start().await;
    let verbose = async || {
        let answer = request("GET", &gate.admin_url("/readyz?verbose"), &[]).await;
        (answer.status, answer.text())
    };
    // Credentials are checked in the background.
    soon(async { while !verbose().await.1.contains("[-]credentials registry.test: ") {} }).await;
    let (status, text) = verbose().await;
    assert_eq!(status, 503, "{text}");
    for line in [
        "[+]advisories ok\n",
        "[+]audit ok\n",
        "[+]cache ok\n",
        "[+]database ok\n",
        "[-]policy: no policy is loaded: every image is denied; add policy documents to ",
        "[+]trusted roots ok\n",
        "[+]upstream registry.test ok\n",
        "[-]va: ",
        "\nmode: enforce\n",
        "\nreadyz: not ready\n",
    ] {
        assert!(text.contains(line), "{line:?} is not in\n{text}");
    }
    let health = async |words: &[&str]| {
        let asked = pullgate(&gate, &[&["ready"], words].concat()).await;
        (asked.status.code(), crate::commands::text(&asked))
    };
    let (code, said) = health(&[]).await;
    assert!(code == Some(1) && said.contains("[-]policy: ") && said.contains("readyz: not ready"), "{said}");
    let (code, said) = health(&["-o", "json"]).await;
    assert!(code == Some(1) && said.contains("\"ready\": false"), "{said}");
    gate.set_policy(ALLOW_ALL);
    assert_eq!(health(&[]).await.0, Some(0), "a degraded gate is ready");
    let (status, text) = verbose().await;
    assert!(status == 200 && text.contains("[+]policy ok\n") && text.ends_with("ready, but degraded\n"), "{text}");
    let metrics = request("GET", &gate.admin_url("/metrics"), &[]).await.text();
    for (part, value) in [("policy", 0), ("va", 1), ("credentials registry.test", 1), ("audit", 0)] {
        let line = format!("pullgate_degraded{{part=\"{part}\"}} {value}\n");
        assert!(metrics.contains(&line), "{line}\n{metrics}");
    }
}

#[tokio::test]
async fn secrets_are_never_disclosed() {
    let registry = TestRegistry::start().await;
    registry.push("library/app", Some("1"), &simple("secret"));
    let auth =
        "auth = { type = \"basic\", username = \"robot\", password_file = \"password\" }\nserve_to = \"everyone\"";
    let made = TestGate::new(&registry, ALLOW_ALL).file("password", "hunter2").upstream(auth);
    let config = made.config();
    assert!(!format!("{config:?}").contains("hunter2") && !config.show().contains("hunter2"));
    registry.set_access("*", pullgate::sample::Access::Basic(pullgate::sample::Credentials::new("robot", "other")));
    let gate = made.start().await;
    let got = gate.get("/library/app/manifests/1").await;
    // Not 401, which would need a challenge, and which clients take for a failure of their own credentials.
    assert_eq!((got.status, got.header("www-authenticate")), (403, None));
    assert!(got.text().contains("credentials") && !got.text().contains("hunter2"), "{}", got.text());
    let (_, records) = gate.stop_and_read_audit().await;
    assert!(!format!("{records:?}").contains("hunter2"));
}
