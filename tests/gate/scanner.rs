//! The gate's own scanner: an image is judged at its first pull, by its layers and the databases on this machine.

mod added;
mod configuration;
mod damaged_index;
mod feeds;

use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use pullgate::oci::Digest;
use pullgate::runtime::Clock;
use pullgate::sample::image::{Built, Image, Layer, Tree, index};
use serde_json::{Value, json};

use crate::commands::{pullgate, text};
use crate::harness::{ALLOW_ALL, Gate, HOST, TestGate, policy};
use crate::support::{TestRegistry, request, soon};
use damaged_index::files_named;

pub(crate) const SCANNED: &str = "  - {name: \"*\", policy: {va: {severity: low}}}\n";

/// An OSV record about versions of Django before 2.2.28.
fn record() -> Value {
    json!({
        "schema_version": "1.6.0", "id": "PYSEC-2022-190", "modified": "2024-01-02T03:04:05Z",
        "published": "2022-04-12T05:15:00Z", "aliases": ["CVE-2022-28346", "GHSA-2gwj-7jmv-h26r"],
        "summary": "SQL injection in QuerySet.annotate()",
        "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
        "affected": [{
            "package": {"ecosystem": "PyPI", "name": "django", "purl": "pkg:pypi/django"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "2.2"}, {"fixed": "2.2.28"}]}]
        }]
    })
}

pub(crate) fn records(folder: &Path) {
    let records = folder.join("records");
    fs::create_dir_all(&records).expect("a folder");
    fs::write(records.join("PYSEC-2022-190.json"), record().to_string()).expect("a file");
}

pub(crate) fn import(folder: &Path) -> Output {
    import_from(folder, "records")
}

/// Imports a file or a directory of the folder.
pub(crate) fn import_from(folder: &Path, source: &str) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_pullgate"));
    command.args(["db", "import", "--config"]).arg(folder.join("pullgate.toml")).arg(folder.join(source));
    command.output().expect("it runs")
}

pub(crate) fn distribution(tree: Tree, name: &str, version: &str) -> Tree {
    let path = format!("usr/lib/python3/site-packages/{name}-{version}.dist-info/METADATA");
    tree.file(&path, format!("Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n\n"))
}

pub(crate) fn python(version: &str) -> Tree {
    distribution(Tree::new(), "Django", version)
}

pub(crate) fn image(layers: impl IntoIterator<Item = Layer>) -> Built {
    layers.into_iter().fold(Image::linux_amd64(), Image::layer).build()
}

async fn scanning(registry: &TestRegistry) -> Gate {
    let made = TestGate::new(registry, &policy(SCANNED));
    // Writes the configuration file.
    made.config();
    records(made.path());
    let imported = import(made.path());
    assert!(imported.status.success(), "{}", text(&imported));
    let gate = made.start().await;
    until_open(&gate).await;
    gate
}

/// Waits until the gate has opened its databases.
pub(crate) async fn until_open(gate: &Gate) {
    until_sources(gate, 1).await;
}

/// Waits until the gate has opened this many databases.
async fn until_sources(gate: &Gate, sources: usize) {
    let line = format!("pullgate_advisory_sources {sources}\n");
    let is_open = async {
        while !request("GET", &gate.admin_url("/metrics"), &[]).await.text().contains(&line) {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(is_open).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_is_judged_by_its_layers_at_its_first_pull() {
    let registry = TestRegistry::start().await;
    let other = || Layer::gzip(&distribution(Tree::new(), "idna", "3.7"));
    let removed = Tree::new().file("usr/lib/python3/site-packages/.wh.Django-2.2.0.dist-info", "");
    for (tag, built, status, reason) in [
        ("old", image([Layer::gzip(&python("2.2.0"))]), 403, "CVE-2022-28346 critical Django fixed in 2.2.28"),
        ("plain", image([Layer::tar(&python("2.2.0"))]), 403, "CVE-2022-28346"),
        ("zstd", image([Layer::zstd(&python("2.2.0"))]), 403, "CVE-2022-28346"),
        ("fixed", image([Layer::gzip(&python("2.2.28"))]), 200, ""),
        ("added", image([other(), Layer::gzip(&python("2.2.1"))]), 403, "CVE-2022-28346"),
        ("removed", image([other(), Layer::gzip(&python("2.2.0")), Layer::gzip(&removed)]), 200, ""),
        ("restored", image([Layer::gzip(&removed), other(), Layer::gzip(&python("2.2.0"))]), 403, "CVE-2022-28346"),
        (
            "opaque",
            image([Layer::gzip(&Tree::new().file("a", "b"))]),
            403,
            "INCOMPLETE: no distribution and no package",
        ),
        (
            "uncovered",
            image([Layer::gzip(&Tree::new().file("app/package.json", r#"{"name": "left-pad", "version": "1.0.0"}"#))]),
            403,
            "INCOMPLETE",
        ),
        (
            "debian",
            image([Layer::gzip(&python("3.0").file("etc/os-release", "ID=debian\nVERSION_ID=\"12\"\n"))]),
            403,
            "INCOMPLETE",
        ),
    ] {
        registry.push(&format!("team/{tag}"), Some("1"), &built);
        let gate = scanning(&registry).await;
        let answer = gate.get(&format!("/team/{tag}/manifests/1")).await;
        assert_eq!(answer.status, status, "{tag}: {}", answer.text());
        assert!(answer.text().contains(reason), "{tag}: {}", answer.text());
        // The pull that follows finds the layers in the cache.
        for layer in built.json()["layers"].as_array().expect("layers") {
            let path = format!("/team/{tag}/blobs/{}", layer["digest"].as_str().expect("a digest"));
            assert_eq!(gate.get(&path).await.status, status, "{tag}");
            assert_eq!(registry.count(|r| r.is("GET", &path)), 1, "{tag}: nothing is downloaded twice");
        }
    }
}

/// Whoever has to replace a layer must know which one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_layer_that_cannot_be_read_is_named() {
    let registry = TestRegistry::start().await;
    let missing = image([Layer::gzip(&python("2.2.28")), Layer::gzip(&Tree::new().file("a", "missing"))]);
    let digest: Digest =
        missing.json()["layers"][1]["digest"].as_str().and_then(|text| text.parse().ok()).expect("a digest");
    registry.push("team/missing", Some("1"), &missing);
    registry.delete_blob("team/missing", &digest);
    let gate = scanning(&registry).await;
    let answer = gate.get("/team/missing/manifests/1").await.text();
    let expected = format!("INCOMPLETE: the image cannot be read: layer {}: ", digest.short());
    assert!(answer.contains(&expected) && answer.contains("; push it again"), "{answer}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_running_gate_uses_a_database_as_soon_as_it_is_imported() {
    let registry = TestRegistry::start().await;
    registry.push("team/app", Some("1"), &image([Layer::gzip(&python("2.2.0"))]));
    let gate = TestGate::new(&registry, &policy(SCANNED)).start().await;
    let before = gate.get("/team/app/manifests/1").await;
    assert!(before.text().contains("UNSCANNED"), "{}", before.text());
    let folder = gate.file("");
    records(&folder);
    let imported = soon(tokio::task::spawn_blocking(move || import(&folder))).await.expect("it ends");
    assert!(imported.status.success(), "{}", text(&imported));
    until_open(&gate).await;
    let after = gate.get("/team/app/manifests/1").await;
    assert!(after.text().contains("CVE-2022-28346"), "{}", after.text());
}

/// What a source would list is not known until it was fetched once, whatever the other databases say.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_clean_while_a_configured_source_was_never_fetched() {
    let registry = TestRegistry::start().await;
    registry.push("team/app", Some("1"), &image([Layer::gzip(&python("2.2.28"))]));
    for (ecosystem, status) in [("npm", 503), ("PyPI", 200)] {
        let source = format!("[va.database]\nosv = [\"http://127.0.0.1:1/{ecosystem}/all.zip\"]\n");
        let made = TestGate::new(&registry, &policy(SCANNED)).with(&source);
        made.config();
        records(made.path());
        assert!(import(made.path()).status.success());
        let gate = made.start().await;
        until_open(&gate).await;
        let answer = gate.get("/team/app/manifests/1").await;
        assert_eq!(answer.status, status, "{ecosystem}: {}", answer.text());
        assert_eq!(answer.text().contains("not been fetched yet"), status != 200, "{}", answer.text());
    }
}

/// A database that lists nothing of what is in an image says nothing about it, however old it is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_the_databases_count_in_which_packages_are_looked_up() {
    let registry = TestRegistry::start().await;
    let npm = || Tree::new().file("app/package.json", r#"{"name": "left-pad", "version": "1.0.0"}"#);
    let both = Layer::gzip(&distribution(npm(), "Django", "2.2.28"));
    for (tag, layer) in [("npm", Layer::gzip(&npm())), ("python", Layer::gzip(&python("2.2.28"))), ("both", both)] {
        registry.push("team/app", Some(tag), &image([layer]));
    }
    let by_rule = "  - {name: \"*\", policy: {va: {severity: low, maxReportAge: 30d}}}\n";
    for (rule, config, status, reason) in [
        (by_rule, "", 403, "maxReportAge of 30 days"),
        (SCANNED, "max_db_age = \"30d\"\n", 503, "osv-pypi is older than va.max_db_age"),
    ] {
        let made = TestGate::new(&registry, &policy(rule)).va(config);
        made.config();
        records(made.path());
        assert!(import(made.path()).status.success());
        let record = json!({
            "schema_version": "1.6.0", "id": "GHSA-1", "modified": Clock::system().now(), "affected": [{
                "package": {"ecosystem": "npm", "name": "event-stream"},
                "ranges": [{"type": "SEMVER", "events": [{"introduced": "0"}]}]
            }]
        });
        fs::create_dir_all(made.path().join("npm")).expect("a folder");
        fs::write(made.path().join("npm/GHSA-1.json"), record.to_string()).expect("a file");
        let imported = import_from(made.path(), "npm");
        assert!(imported.status.success(), "{}", text(&imported));
        let gate = made.start().await;
        until_sources(&gate, 2).await;
        assert_eq!(gate.get("/team/app/manifests/npm").await.status, 200, "{reason}");
        for tag in ["python", "both"] {
            let answer = gate.get(&format!("/team/app/manifests/{tag}")).await;
            assert_eq!(answer.status, status, "{tag}: {}", answer.text());
            assert!(answer.text().contains(reason), "{tag}: {}", answer.text());
        }
        let shown = pullgate(&gate, &["va", &format!("{HOST}/team/app:npm")]).await;
        assert!(
            text(&shown).contains("osv-npm of") && text(&shown).contains("(less than a day old)"),
            "{}",
            text(&shown)
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn va_lists_packages_and_vulnerabilities_whatever_the_policy_says() {
    let registry = TestRegistry::start().await;
    registry.push("team/app", Some("1"), &image([Layer::gzip(&python("2.2.0"))]));
    let made = TestGate::new(&registry, ALLOW_ALL);
    made.config();
    records(made.path());
    assert!(import(made.path()).status.success());
    let gate = made.start().await;
    until_open(&gate).await;
    let name = format!("{HOST}/team/app:1");
    let table = pullgate(&gate, &["va", &name, "--packages"]).await;
    assert_eq!(table.status.code(), Some(2), "{}", text(&table));
    for part in ["CVE-2022-28346 (critical)", "Upgrade Django to 2.2.28", "pkg:pypi/django@2.2.0", "osv-pypi"] {
        assert!(text(&table).contains(part), "{part}: {}", text(&table));
    }
    let as_json = pullgate(&gate, &["va", &name, "--output", "json"]).await;
    let scans: Value = serde_json::from_slice(&as_json.stdout).expect("JSON");
    assert_eq!(scans[0]["status"], "FAIL");
    assert_eq!(scans[0]["packages"][0]["name"], "Django");
    assert_eq!(scans[0]["issues"][0]["packages"][0]["fixed"], "2.2.28");
    assert_eq!(scans[0]["gaps"], json!([]));
    let trivy = pullgate(&gate, &["va", &name, "--output", "trivy"]).await;
    let report: Value = serde_json::from_slice(&trivy.stdout).expect("JSON");
    assert_eq!(report["Results"][0]["Vulnerabilities"][0]["VulnerabilityID"], "CVE-2022-28346");
    let sbom = pullgate(&gate, &["va", &name, "--output", "cyclonedx"]).await;
    let sbom: Value = serde_json::from_slice(&sbom.stdout).expect("JSON");
    assert!(sbom.to_string().contains("pkg:pypi/django@2.2.0"));
    let of_image = &sbom["dependencies"][0];
    assert_eq!(of_image["ref"], sbom["metadata"]["component"]["bom-ref"]);
    assert!(
        of_image["dependsOn"].as_array().is_some_and(|refs| refs.contains(&json!("pkg:pypi/django@2.2.0"))),
        "{sbom}"
    );
}

/// Whatever denies an image is shown and fails a job, also if it is no issue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn va_fails_for_an_image_that_another_condition_denies() {
    let registry = TestRegistry::start().await;
    registry.push("team/app", Some("1"), &image([Layer::gzip(&python("2.2.28"))]));
    let rule = "  - {name: \"*\", policy: {va: {severity: low, bannedPackages: [\"pkg:pypi/django\"]}}}\n";
    let made = TestGate::new(&registry, &policy(rule));
    made.config();
    records(made.path());
    assert!(import(made.path()).status.success());
    let gate = made.start().await;
    until_open(&gate).await;
    assert_eq!(gate.get("/team/app/manifests/1").await.status, 403);
    let name = format!("{HOST}/team/app:1");
    let table = pullgate(&gate, &["va", &name]).await;
    assert_eq!(table.status.code(), Some(2), "{}", text(&table));
    assert!(!text(&table).contains("NO ISSUES") && text(&table).contains("bannedPackages"), "{}", text(&table));
    for format in ["json", "ibm", "sarif", "trivy", "cyclonedx"] {
        let output = pullgate(&gate, &["va", &name, "-o", format]).await;
        assert_eq!(output.status.code(), Some(2), "{format}: {}", text(&output));
        let is_named = String::from_utf8_lossy(&output.stdout).contains("bannedPackages");
        assert_eq!(is_named, !matches!(format, "trivy" | "cyclonedx"), "{format}: {}", text(&output));
    }
}

/// Nothing was examined, so nothing says that the image is clean.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn va_fails_for_an_index_without_an_image_for_this_platform() {
    let registry = TestRegistry::start().await;
    let other = Image::new("plan9/386".parse().expect("a platform")).layer(Layer::gzip(&python("2.2.0"))).build();
    registry.push("team/app", Some("1"), &index(&[other]));
    registry.push("team/app", Some("2"), &image([Layer::gzip(&python("2.2.28"))]));
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let (none, some) = (format!("{HOST}/team/app:1"), format!("{HOST}/team/app:2"));
    for format in ["table", "json", "ibm", "trivy", "cyclonedx", "sarif"] {
        let found = pullgate(&gate, &["va", "--output", format, &none]).await;
        assert_eq!((found.status.code(), found.stdout.len()), (Some(1), 0), "{format}: {}", text(&found));
        assert!(text(&found).contains("no image for any platform"), "{format}: {}", text(&found));
    }
    let both = pullgate(&gate, &["va", "--output", "json", &none, &some]).await;
    assert_eq!(both.status.code(), Some(1), "{}", text(&both));
    let scans: Value = serde_json::from_slice(&both.stdout).expect("JSON");
    assert_eq!(scans.as_array().map(Vec::len), Some(1));
}

/// VEX statements are in a report folder, and apply to what the scanner finds.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vex_documents_of_the_operator_apply_to_the_scanner() {
    let registry = TestRegistry::start().await;
    let app = image([Layer::gzip(&python("2.2.0"))]);
    registry.push("team/app", Some("1"), &app);
    let config = app.json()["config"]["digest"].as_str().expect("a digest").to_owned();
    let gate = scanning(&registry).await;
    assert_eq!(gate.get("/team/app/manifests/1").await.status, 403);
    let vex = |product: &str, status: &str, at: &str| {
        json!({
            "@context": "https://openvex.dev/ns/v0.2.0", "@id": "https://acme.test/vex", "author": "acme", "version": 1,
            "timestamp": at,
            "statements": [{
                "vulnerability": {"name": "CVE-2022-28346"}, "products": [{"@id": product}], "status": status,
                "justification": "vulnerable_code_not_in_execute_path"
            }]
        })
    };
    let cyclonedx = |state: &str| {
        json!({
            "bomFormat": "CycloneDX", "specVersion": "1.6", "version": 1, "metadata": {"timestamp": "2024-03-01T00:00:00Z"},
            "vulnerabilities": [{
                "id": "CVE-2022-28346", "analysis": {"state": state}, "affects": [{"ref": "pkg:pypi/django@2.2.0"}]
            }]
        })
    };
    let of = |digest: &str| format!("pkg:oci/app@{digest}");
    let (early, late) = ("2024-01-01T00:00:00Z", "2024-02-01T00:00:00Z");
    // Admitted and denied in turn, so that each case changes the decision.
    for (documents, status) in [
        (vec![vex("pkg:pypi/django", "not_affected", early)], 200),
        (vec![vex("pkg:pypi/django", "affected", early)], 403),
        (vec![vex("pkg:pypi/django@2.2.0", "fixed", early)], 200),
        (vec![vex("pkg:pypi/django@3.0", "not_affected", early)], 403),
        (vec![vex(&of(&app.root.to_string()), "not_affected", early)], 200),
        (vec![vex("pkg:pypi/django", "not_affected", early), vex("pkg:pypi/django", "affected", late)], 403),
        (vec![vex(&of(&config), "not_affected", early)], 200),
        (vec![vex(&of(&format!("sha256:{}", "a".repeat(64))), "not_affected", early)], 403),
        (vec![cyclonedx("not_affected")], 200),
        (vec![cyclonedx("exploitable")], 403),
    ] {
        let _ = fs::remove_file(gate.file("reports/1.json"));
        for (n, document) in documents.iter().enumerate() {
            fs::write(gate.file(&format!("reports/{n}.json")), document.to_string()).expect("a file");
        }
        let decided = async {
            while gate.get("/team/app/manifests/1").await.status != status {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        soon(decided).await;
    }
}
