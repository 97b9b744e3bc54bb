//! Reused responses: identical to the first, recorded like the first, and only while nothing has changed.

use jiff::SignedDuration;
use pullgate::runtime::Clock;
use pullgate::sample::image::{Built, Image, Layer, Tree};

use crate::harness::{ALLOW_ALL, TestGate, policy};
use crate::pull::simple;
use crate::support::{TestRegistry, request};

#[tokio::test]
async fn reused_responses_are_identical_and_have_their_own_record() {
    let registry = TestRegistry::start().await;
    let (open, closed) = (simple("open"), simple("closed"));
    registry.push("open/app", Some("1"), &open);
    registry.push("closed/app", Some("1"), &closed);
    let rules =
        policy("  - {name: \"registry.test/open/*\", policy: {}}\n  - {name: \"*\", policy: {trust: release}}\n");
    let gate = TestGate::new(&registry, &rules).start().await;
    let paths = [format!("/open/app/manifests/{}", open.root), format!("/closed/app/manifests/{}", closed.root)];
    let mut ids = Vec::new();
    for path in &paths {
        let (first, again) = (gate.get(path).await, gate.get(path).await);
        assert_eq!((first.status, &first.reason, &first.body), (again.status, &again.reason, &again.body));
        let without_id = |answer: &crate::support::Answer| {
            let mut headers = answer.headers.clone();
            headers.retain(|(name, _)| name != "x-request-id" && name != "date");
            headers
        };
        assert_eq!(without_id(&first), without_id(&again));
        assert_eq!(again.header("content-length"), Some(&*again.body.len().to_string()));
        ids.extend([first, again].map(|answer| answer.header("x-request-id").map(str::to_owned)));
        let head = gate.head(path).await;
        let same = gate.head(path).await;
        assert_eq!((head.status, head.header("content-length")), (same.status, same.header("content-length")));
    }
    ids.dedup();
    assert_eq!(ids.len(), 4, "each request has its own id");
    // Conditional requests are evaluated even if a response is reused.
    let part = request("GET", &gate.url(&paths[0]), &[("range", "bytes=1-3")]).await;
    assert_eq!((part.status, part.body), (206, open.manifest().bytes.slice(1..4)));
    let etag = format!("\"{}\"", open.root);
    assert_eq!(request("GET", &gate.url(&paths[0]), &[("if-none-match", &etag)]).await.status, 304);
    let (_, records) = gate.stop_and_read_audit().await;
    assert_eq!(records.len(), 10);
    let admitted = records.iter().filter(|record| record["decision"] == "admit").count();
    assert_eq!((admitted, records[1]["image"].as_str()), (6, records[0]["image"].as_str()));
}

#[tokio::test]
async fn policy_changes_apply_to_the_next_request() {
    let registry = TestRegistry::start().await;
    let image = simple("changed");
    registry.push("library/app", Some("1"), &image);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let path = format!("/library/app/manifests/{}", image.root);
    for _ in 0..3 {
        gate.set_policy(ALLOW_ALL);
        assert_eq!([gate.get(&path).await.status, gate.get(&path).await.status], [200, 200]);
        gate.set_policy(&policy("  - {name: \"*\", policy: {trust: release}}\n"));
        assert_eq!([gate.get(&path).await.status, gate.get(&path).await.status], [403, 403]);
    }
}

/// A newly learnt tag gives a digest another name, and that name may match another rule.
#[tokio::test]
async fn newly_learnt_tags_apply_to_the_next_request() {
    let registry = TestRegistry::start().await;
    let image = Image::linux_amd64().layer(Layer::gzip(&Tree::new().file("app", "named".to_owned()))).build();
    registry.push("library/app", Some("good"), &image);
    let rules = policy(
        "  - {name: \"registry.test/library/app:good\", policy: {}}\n  - {name: \"*\", policy: {trust: release}}\n",
    );
    let gate = TestGate::new(&registry, &rules).start().await;
    let path = format!("/library/app/manifests/{}", image.root);
    assert_eq!([gate.get(&path).await.status, gate.get(&path).await.status], [403, 403]);
    assert_eq!(gate.get("/library/app/manifests/good").await.status, 200);
    assert_eq!(gate.get(&path).await.status, 200);
}

/// GET and HEAD of a tag share one decision, which ends when the tag must be looked up again.
#[tokio::test]
async fn a_tag_is_answered_without_the_upstream_until_it_must_be_looked_up_again() {
    let registry = TestRegistry::start().await;
    let (old, new) = (simple("old"), simple("new"));
    registry.push("library/app", Some("1"), &old);
    let clock = Clock::manual("2026-01-02T03:04:05Z".parse().unwrap());
    let made = TestGate::new(&registry, ALLOW_ALL).upstream("tag_ttl = \"10s\"").clock(&clock);
    let gate = made.start().await;
    let path = "/library/app/manifests/1";
    assert_eq!(gate.get(path).await.body, old.manifest().bytes);
    registry.push("library/app", Some("1"), &new);
    registry.clear_log();
    for _ in 0..3 {
        assert_eq!(gate.get(path).await.body, old.manifest().bytes);
        assert_eq!(gate.head(path).await.header("docker-content-digest"), Some(&*old.root.to_string()));
    }
    clock.advance(SignedDuration::from_millis(9_999));
    assert_eq!(gate.get(path).await.body, old.manifest().bytes);
    assert_eq!(registry.count(|_| true), 0, "nothing was asked upstream");
    clock.advance(SignedDuration::from_millis(1));
    assert_eq!(gate.get(path).await.body, new.manifest().bytes);
    assert_eq!(gate.head(path).await.header("docker-content-digest"), Some(&*new.root.to_string()));
    let (_, records) = gate.stop_and_read_audit().await;
    let methods: Vec<_> = records.iter().map(|record| record["method"].as_str().unwrap()).collect();
    assert_eq!(methods, ["GET", "GET", "HEAD", "GET", "HEAD", "GET", "HEAD", "GET", "GET", "HEAD"]);
    assert!(records.iter().all(|record| record["image"] == "registry.test/library/app:1"));
}

#[tokio::test]
async fn a_change_of_policy_holds_for_the_next_request_by_tag() {
    let registry = TestRegistry::start().await;
    registry.push("library/app", Some("1"), &simple("tagged"));
    let gate = TestGate::new(&registry, ALLOW_ALL).upstream("tag_ttl = \"1h\"").start().await;
    let path = "/library/app/manifests/1";
    for _ in 0..3 {
        gate.set_policy(ALLOW_ALL);
        assert_eq!([gate.get(path).await.status, gate.head(path).await.status], [200, 200]);
        gate.set_policy(&policy("  - {name: \"*\", policy: {trust: release}}\n"));
        assert_eq!([gate.get(path).await.status, gate.head(path).await.status], [403, 403]);
    }
}

/// Refusals that follow from the configuration are repeated too, and each has its record.
#[tokio::test]
async fn a_refusal_of_an_unknown_upstream_is_recorded_each_time() {
    let registry = TestRegistry::start().await;
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let answers = [
        request("GET", &gate.any_url("/v2/other.test/app/manifests/1"), &[]).await,
        request("GET", &gate.any_url("/v2/other.test/app/manifests/1"), &[]).await,
        request("HEAD", &gate.any_url("/v2/other.test/app/manifests/1"), &[]).await,
    ];
    assert_eq!(answers.each_ref().map(|answer| answer.status), [403; 3]);
    assert_eq!((&answers[0].body, answers[2].body.len()), (&answers[1].body, 0));
    let (_, records) = gate.stop_and_read_audit().await;
    assert_eq!(records.len(), 3);
    assert!(records.iter().all(|record| record["decision"] == "refused"), "{records:?}");
}

/// The layers of an image are requested one after another: its evidence is weighed once for them, but never beyond the time
/// for which a repeated request for its manifest would be answered without weighing it.
#[tokio::test]
async fn layers_reuse_the_admission_of_their_image() {
    let registry = TestRegistry::start().await;
    let image = simple("layers");
    registry.push("library/app", Some("1"), &image);
    let clock = Clock::manual("2026-01-02T00:00:00Z".parse().unwrap());
    let rules = policy("  - {name: \"*\", policy: {va: {severity: high}}}\n");
    let made = TestGate::new(&registry, &rules).clock(&clock);
    clean_report(&made, &image);
    let gate = made.start().await;
    let path = format!("/library/app/blobs/{}", image.blobs[0].0);
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    let seconds = SignedDuration::from_secs;
    for step in [seconds(0), seconds(59), seconds(1)] {
        clock.advance(step);
        assert_eq!(gate.get(&path).await.status, 200);
    }
    gate.set_policy(&policy("  - {name: \"*\", policy: {trust: release}}\n"));
    assert_eq!(gate.get(&path).await.status, 403, "the rules changed");
    let (_, records) = gate.stop_and_read_audit().await;
    let blobs = records.iter().filter(|record| record["endpoint"] == "blob");
    let ages: Vec<_> = blobs.map(|record| record["va_age_seconds"].as_i64()).collect();
    assert_eq!(ages, [Some(86_400), Some(86_400), Some(86_460), None], "weighed at the first and after a minute");
}

#[tokio::test]
async fn layers_do_not_reuse_admissions_of_another_scope() {
    let registry = TestRegistry::start().await;
    let image = simple("scopes");
    registry.push("library/app", Some("1"), &image);
    let of_ci = "---\napiVersion: pullgate.io/v1\nkind: ImagePolicy\nmetadata: {name: ci, namespace: ci}\n\
                 spec: {repositories: [{name: \"*\", policy: {va: {severity: high}}}]}\n";
    let gate = TestGate::new(&registry, &format!("{ALLOW_ALL}{of_ci}"))
        .with("[[listener]]\naddress = \"127.0.0.1:0\"\nscope = \"ci\"")
        .start()
        .await;
    let path = format!("/library/app/blobs/{}", image.blobs[0].0);
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    for _ in 0..2 {
        assert_eq!(gate.get(&path).await.status, 200);
        assert_eq!(request("GET", &gate.second_url(&path), &[]).await.status, 403);
    }
}

/// A report of the day before about an image without vulnerabilities.
fn clean_report(made: &TestGate, image: &Built) {
    let digest = image.json()["config"]["digest"].clone();
    let report = serde_json::json!({
        "SchemaVersion": 2, "CreatedAt": "2026-01-01T00:00:00Z", "ArtifactName": "app", "ArtifactType": "container_image",
        "Metadata": {"ImageID": digest, "OS": {"Family": "alpine", "Name": "3.20.0"}},
        "Results": [{"Target": "app", "Class": "os-pkgs", "Type": "alpine", "Vulnerabilities": []}],
    });
    let folder = made.path().join("reports");
    std::fs::create_dir_all(&folder).expect("a folder");
    std::fs::write(folder.join("app.json"), report.to_string()).expect("a file");
}
