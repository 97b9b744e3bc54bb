//! Java archives that only the database of Java archives can name, also where it came in a bundle.

use std::fs;
use std::path::Path;

use pullgate::sample::image::{Built, Layer, Tree};
use serde_json::json;
use sqlx::ConnectOptions as _;
use sqlx::sqlite::SqliteConnectOptions;

use crate::commands::{pullgate, text};
use crate::harness::{ALLOW_ALL, HOST, TestGate, policy};
use crate::hostile::zip;
use crate::scanner::{self, SCANNED};
use crate::support::{TestRegistry, temp_dir};

/// A zip archive with one class, and nothing that states an artifact.
fn jar(class: &str) -> Vec<u8> {
    zip("org/acme/A.class", class.as_bytes(), class.len())
}

/// Writes a database that names these archives, each a version of `org.acme:lib`.
async fn java_db(folder: &Path, archives: &[(&str, &[u8])]) {
    fs::create_dir_all(folder).expect("a folder");
    let metadata = json!({"Version": 1, "NextUpdate": "2024-05-02T00:00:00Z", "UpdatedAt": "2024-05-01T00:00:00Z"});
    fs::write(folder.join("metadata.json"), metadata.to_string()).expect("a file");
    let options = SqliteConnectOptions::new().filename(folder.join("trivy-java.db")).create_if_missing(true);
    let mut connection = options.connect().await.expect("a database");
    let tables = "
        CREATE TABLE artifacts(id INTEGER PRIMARY KEY, group_id TEXT, artifact_id TEXT);
        CREATE TABLE indices(artifact_id INTEGER, version TEXT, sha1 BLOB, archive_type TEXT, foreign key (artifact_id) references artifacts(id));
        CREATE UNIQUE INDEX artifacts_idx ON artifacts(artifact_id, group_id);
        CREATE INDEX indices_artifact_idx ON indices(artifact_id);
        CREATE UNIQUE INDEX indices_sha1_idx ON indices(sha1);
        INSERT INTO artifacts(group_id, artifact_id) VALUES ('org.acme', 'lib');";
    sqlx::raw_sql(tables).execute(&mut connection).await.expect("tables");
    for (version, bytes) in archives {
        let sha1 = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, bytes);
        let row = sqlx::query("INSERT INTO indices VALUES (1, ?, ?, 'jar')").bind(*version).bind(sha1.as_ref());
        row.execute(&mut connection).await.expect("a row");
    }
}

/// A record about versions of `org.acme:lib` before 2.0.
fn records(folder: &Path) {
    fs::create_dir_all(folder).expect("a folder");
    let record = json!({
        "schema_version": "1.6.0", "id": "GHSA-java-0000-0001", "modified": "2024-01-02T03:04:05Z",
        "aliases": ["CVE-2024-7001"], "affected": [{
            "package": {"ecosystem": "Maven", "name": "org.acme:lib"},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.0"}]}]
        }]
    });
    fs::write(folder.join("GHSA-java-0000-0001.json"), record.to_string()).expect("a file");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn archives_are_named_by_a_database_from_a_bundle() {
    let (registry, nowhere, folder) = (TestRegistry::start().await, TestRegistry::start().await, temp_dir());
    let image = |class: &str| -> Built { scanner::image([Layer::gzip(&Tree::new().file("app/x.jar", jar(class)))]) };
    for (tag, class) in [("old", "old"), ("new", "new"), ("unknown", "unknown")] {
        registry.push("library/app", Some(tag), &image(class));
    }
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let of_gate = gate.file("");
    records(&of_gate.join("maven"));
    java_db(&of_gate.join("java-db"), &[("1.0", &jar("old")), ("2.0", &jar("new"))]).await;
    for source in ["maven", "java-db"] {
        let imported = scanner::import_from(&of_gate, source);
        assert!(imported.status.success(), "{}", text(&imported));
    }
    let file = folder.path().join("bundle.tar").display().to_string();
    let config = of_gate.join("pullgate.toml").display().to_string();
    let images = ["old", "new", "unknown"].map(|tag| format!("{HOST}/library/app:{tag}"));
    let export = ["bundle", "export", "-f", &file, "--with-advisories", "--config", &config];
    let words: Vec<&str> = export.into_iter().chain(images.iter().map(String::as_str)).collect();
    let done = pullgate(&gate, &words).await;
    assert!(done.status.success(), "{}", text(&done));

    let gate = TestGate::new(&nowhere, &policy(SCANNED)).upstream("offline = true").start().await;
    let config = gate.file("pullgate.toml").display().to_string();
    let done = pullgate(&gate, &["bundle", "import", &file, "--config", &config, "--with-advisories"]).await;
    let said = text(&done);
    assert_eq!(done.status.code(), Some(2), "{said}");
    assert!(said.contains(&format!("{}: imported", images[1])), "{said}");
    assert!(said.contains(&format!("{}: denied", images[0])) && said.contains("CVE-2024-7001"), "{said}");
    assert!(said.contains(&format!("{}: denied", images[2])) && said.contains("INCOMPLETE"), "{said}");
    assert_eq!(gate.get("/library/app/manifests/new").await.status, 200);
    assert_eq!(nowhere.requests().len(), 0);
}
