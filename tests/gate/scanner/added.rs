//! Findings of documents that do not show that anything was scanned.

use super::*;

/// A document of an analyst about an image, with one vulnerability in this state of analysis.
fn analysed(image: &Built, state: &str) -> Value {
    let subject = format!("pkg:oci/app@{}", image.manifest().digest);
    json!({
        "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1,
        "metadata": {
            "timestamp": "2024-03-01T00:00:00Z",
            "component": {"type": "container", "bom-ref": "image", "name": "app", "purl": subject},
        },
        "components": [{"type": "library", "bom-ref": "p", "name": "left-pad", "purl": "pkg:npm/left-pad@1.0.0"}],
        "vulnerabilities": [{
            "id": "CVE-2099-1", "ratings": [{"severity": "critical"}], "analysis": {"state": state},
            "affects": [{"ref": "p"}],
        }],
    })
}

/// They are added to what the gate's own scanner finds, and do not keep it from being asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_analysis_that_does_not_exempt_is_added_to_what_the_scanner_finds() {
    let registry = TestRegistry::start().await;
    let app = image([Layer::gzip(&python("2.2.28"))]);
    registry.push("team/app", Some("1"), &app);
    let gate = scanning(&registry).await;
    assert_eq!(gate.get("/team/app/manifests/1").await.status, 200);
    for (state, status) in [("exploitable", 403), ("not_affected", 200), ("in_triage", 403), ("resolved", 200)] {
        fs::write(gate.file("reports/1.json"), analysed(&app, state).to_string()).expect("a file");
        let decided = async {
            while gate.get("/team/app/manifests/1").await.status != status {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        soon(decided).await;
    }
}
