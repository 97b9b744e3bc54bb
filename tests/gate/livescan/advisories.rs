//! Advisory databases that cannot be used, and advisories that are refused.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_database_that_cannot_be_used_is_reported_and_changes_no_verdict() {
    let (registry, log) = (TestRegistry::start().await, EventLog::start().await);
    registry.push("team/app", Some("1"), &image([Layer::gzip(&python("2.2.0"))]));
    let gate = scanning(&registry, &log).await;
    assert_eq!(gate.get("/team/app/manifests/1").await.status, 200);
    let current = gate.file("state/advisories/osv-pypi/current");
    let intact = fs::read(&current).expect("a file");
    fs::write(&current, "{\"current\": \"20240101T000000Z-000000000000\", \"previous\": null}").expect("a file");
    let failed = log.until("database.failed", 1).await.remove(0);
    assert_eq!(failed["data"]["part"], "use");
    assert!(failed["data"]["problem"].as_str().expect("a text").contains("osv-pypi"), "{failed}");
    tokio::time::sleep(Duration::from_millis(500)).await;
    would_deny(&gate, 0).await;
    assert!(log.of("verdict.changed").is_empty());
    fs::write(&current, intact).expect("a file");
    let is_usable = async {
        while gate.get("/team/app/manifests/1").await.status != 200 {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    soon(is_usable).await;
    would_deny(&gate, 0).await;
    assert!(log.of("verdict.changed").is_empty() && log.of("database.updated").is_empty(), "nothing is new");
}

/// Advisories that are older, cut or of another schema are refused: the ones in use stay, and so do all verdicts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn advisories_that_are_refused_change_nothing() {
    let (registry, log) = (TestRegistry::start().await, EventLog::start().await);
    registry.push("team/app", Some("1"), &image([Layer::gzip(&python("2.2.0"))]));
    registry.push("team/old", Some("1"), &image([Layer::gzip(&distribution(Tree::new(), "other", "1.0"))]));
    let gate = scanning(&registry, &log).await;
    assert_eq!(gate.get("/team/app/manifests/1").await.status, 200);
    assert_eq!(gate.get("/team/old/manifests/1").await.status, 403, "PYSEC-1");
    let refused = async |source: &'static str, hint: &str| {
        let folder = gate.file("");
        let output = soon(tokio::task::spawn_blocking(move || import_from(&folder, source))).await.expect("it ends");
        assert!(!output.status.success() && text(&output).contains(hint), "{source}: {}", text(&output));
    };
    // Rolled back: without the record that is in use, and with one about the image that is served.
    let older = gate.file("older");
    add_record(&older, &record("PYSEC-0", "django", "2023-01-01T00:00:00Z"));
    refused("older/records", "before the one in use").await;
    // Half: the second record ends in the middle.
    let half = gate.file("half");
    add_record(&half, &record("PYSEC-3", "django", "2024-01-03T00:00:00Z"));
    let whole = record("PYSEC-4", "django", "2024-01-03T00:00:00Z").to_string();
    fs::write(half.join("records/PYSEC-4.json"), &whole[..whole.len() / 2]).expect("a file");
    refused("half/records", "PYSEC-4").await;
    // Another schema of trivy-db.
    fs::create_dir(gate.file("schema")).expect("a folder");
    let metadata = json!({"Version": 3, "UpdatedAt": "2024-01-03T00:00:00Z", "NextUpdate": "2024-01-04T00:00:00Z"});
    fs::write(gate.file("schema/metadata.json"), metadata.to_string()).expect("a file");
    fs::write(gate.file("schema/trivy.db"), [0; 8192]).expect("a file");
    refused("schema", "schema").await;
    would_deny(&gate, 0).await;
    assert_eq!(gate.get("/team/app/manifests/1").await.status, 200);
    assert_eq!(gate.get("/team/old/manifests/1").await.status, 403, "the old ones are in force");
    assert!(log.of("verdict.changed").is_empty() && log.of("database.updated").is_empty());
}
