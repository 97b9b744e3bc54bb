//! Vulnerabilities that are exploited, as a feed says.

use super::*;

/// A gate with a report of another scanner that lists CVE-2024-1234 as low, and CISA's catalogue ready for import.
fn reported(registry: &TestRegistry, exploited: &str, rule: &str) -> TestGate {
    let built = image([Layer::gzip(&python("2.2.0"))]);
    registry.push("team/app", Some("1"), &built);
    let report = json!({
        "SchemaVersion": 2, "CreatedAt": "2026-05-02T00:00:00Z", "ArtifactName": "x", "ArtifactType": "container_image",
        "Metadata": {"OS": {"Family": "debian", "Name": "12"}, "ImageID": built.configs[0]},
        "Results": [{"Target": "x", "Class": "os-pkgs", "Type": "debian", "Vulnerabilities": [{
            "VulnerabilityID": "CVE-2024-1234", "PkgName": "a", "InstalledVersion": "1", "Severity": "LOW"
        }]}],
    });
    let catalogue = json!({
        "catalogVersion": "2026.05.01", "dateReleased": "2026-05-01T14:00:00Z", "count": 1,
        "vulnerabilities": [{"cveID": exploited, "dateAdded": "2024-05-01"}],
    });
    let rules = policy(&format!("  - {{name: \"*\", policy: {{va: {{{rule}}}}}}}\n"));
    let made = TestGate::new(registry, &rules)
        .file("reports/app.json", &report.to_string())
        .file("records", &catalogue.to_string());
    // Writes the configuration file.
    made.config();
    made
}

/// Feeds say more about the issues in reports of other scanners, too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exploited_vulnerability_in_a_report_counts() {
    let registry = TestRegistry::start().await;
    let made = reported(&registry, "CVE-2024-1234", "severity: critical");
    let folder = made.path().to_owned();
    let gate = made.start().await;
    assert_eq!(gate.get("/team/app/manifests/1").await.status, 200);
    let imported = soon(tokio::task::spawn_blocking(move || import(&folder))).await.expect("it ends");
    assert!(imported.status.success(), "{}", text(&imported));
    let reason = denied_as_exploited(&gate).await;
    assert!(reason.contains("CVE-2024-1234"), "{reason}");
}

/// Waits until the image is denied because of what CISA's catalogue says, or because it says nothing. Returns the reason.
async fn denied_as_exploited(gate: &Gate) -> String {
    let denied = async {
        loop {
            let answer = gate.get("/team/app/manifests/1").await;
            if answer.status == 403 && answer.text().contains("exploited") {
                return answer.text();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(denied).await
}

/// A feed that cannot be read says nothing, also under a rule that admits incomplete reports.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_feed_counts_as_missing() {
    let registry = TestRegistry::start().await;
    let made = reported(&registry, "CVE-2024-1000", "severity: critical, exploited: deny, incomplete: allow");
    let imported = import(made.path());
    assert!(imported.status.success(), "{}", text(&imported));
    let tables = files_named(&made.path().join("state"), "cves.table");
    let gate = made.start().await;
    let admitted = async { while gate.get("/team/app/manifests/1").await.status != 200 {} };
    soon(admitted).await;
    for table in tables {
        let mut bytes = fs::read(&table).expect("a table");
        bytes.iter_mut().skip(16).for_each(|byte| *byte ^= 0xff);
        // The same file, because the gate has it open.
        let file = fs::File::options().write(true).open(&table).expect("a table");
        file.write_all_at(&bytes, 0).expect("it is written");
    }
    // A newer report, so that the catalogue is asked again.
    let report = fs::read_to_string(gate.file("reports/app.json")).expect("a report");
    fs::write(gate.file("reports/app.json"), report.replace("2026-05-02", "2026-05-03")).expect("a report");
    denied_as_exploited(&gate).await;
}
