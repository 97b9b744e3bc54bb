//! The pages about vulnerabilities, reports and scanners, and about checks in CI.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use pullgate::sample::image::{Layer, Tree, artifact};
use serde_json::{Value, json};

use super::{OTHER_CONFIGURATION, Shop, debian, status};
use crate::harness::Machine;

/// A pull of the image that the pages about reports name.
const NGINX: &str = "http://127.0.0.1:5000/v2/docker.io/library/nginx/manifests/1.27";

/// A program with the options and the output of Trivy, which finds nothing.
const TRIVY: &str = r#"#!/bin/sh
for word; do case $word in
  version) echo '{"Version":"0.72.0","VulnerabilityDB":{"UpdatedAt":"2026-01-02T03:04:05Z"}}'; exit ;;
  /*/image) image=$word ;;
esac; done
digest=$(grep -o 'sha256:[0-9a-f]*' "$image/index.json" | head -n 1)
config=$(grep -o '"config":{[^}]*}' "$image/blobs/sha256/${digest#sha256:}" | grep -o 'sha256:[0-9a-f]*')
echo '{"SchemaVersion":2,"Trivy":{"Version":"0.72.0"},"CreatedAt":"2026-01-03T00:00:00Z","ArtifactName":"'"$image"'",
  "ArtifactType":"container_image","Metadata":{"OS":{"Family":"debian","Name":"12.5"},"ImageID":"'"$config"'"},
  "Results":[{"Class":"os-pkgs","Type":"debian","Packages":[{"ID":"openssl@3.0.11-1"}],"Vulnerabilities":[]}]}'
"#;

/// Writes a database of Trivy's where Trivy keeps it. It knows one vulnerability of the package in the images.
fn write_trivy_database(machine: &Machine) {
    let advisory = json!({"FixedVersion": "3.0.12-1", "Severity": 3});
    let advisory = json!({"path": ["debian 12", "openssl"], "key": "CVE-2024-0001", "value": advisory});
    let details = json!({"Title": "a title", "Severity": "HIGH"});
    let details = json!({"path": ["vulnerability"], "key": "CVE-2024-0001", "value": details});
    machine.write("rows", &format!("{advisory}\n{details}\n"));
    let (now, later) = ("2026-01-01T00:00:00Z", "2100-01-01T00:00:00Z");
    let metadata = json!({"Version": 2, "UpdatedAt": now, "DownloadedAt": now, "NextUpdate": later});
    machine.write(".cache/trivy/db/metadata.json", &metadata.to_string());
    machine.sh("bolt-write .cache/trivy/db/trivy.db < rows").bytes();
}

#[test]
fn check_images_without_a_gate_and_with_one() {
    let mut shop = Shop::admitting();
    let (url, dir) = (shop.elsewhere.url(), shop.machine.dir().to_owned());
    shop.elsewhere.registry.push("shop/app", Some("v1"), &debian());
    write_trivy_database(&shop.machine);
    let file = |name: &str| fs::read(dir.join(".cache/trivy/db").join(name)).expect("a file");
    let files = ["trivy.db", "metadata.json"];
    let mut layer = Layer::gzip(&files.into_iter().fold(Tree::new(), |tree, name| tree.file(name, file(name))));
    layer.media_type = "application/vnd.aquasec.trivy.db.layer.v1.tar+gzip".to_owned();
    let database = artifact("application/vnd.aquasec.trivy.config.v1+json", &[layer]);
    shop.elsewhere.registry.push("aquasecurity/trivy-db", Some("2"), &database);
    let host = "host = \"ghcr.io\"";
    shop.machine.replace(host, format!("{host}\nurl = \"{url}\""));
    shop.machine.replace("/root/.docker/config.json", dir.join("docker.json").display().to_string());
    shop.machine.write("docker.json", r#"{"auths": {"registry.acme.com": {"auth": "cm9ib3Q6cGFzc3dvcmQ="}}}"#);
    shop.machine.write("policies/scanned.yaml", super::SCANNED);
    shop.machine.write("images.txt", "registry.acme.com/shop/app:v1\n");

    let mut walk = shop.machine.walk("docs/ci.md");
    let configuration = walk.take_with("toml", "state_dir = \".pullgate\"");
    walk.machine.write(OTHER_CONFIGURATION, &configuration.text);
    walk.finish();
    let written = |name: &str| fs::read_to_string(dir.join(name)).expect("a file");
    assert!(written("pullgate.xml").contains("registry.acme.com/shop/app:v1"), "{}", written("pullgate.xml"));
    let json = |name: &str| serde_json::from_str::<Value>(&written(name)).expect("JSON");
    assert_eq!(json("pullgate.sarif")["version"], "2.1.0");
    let packages = json("sbom.json")["components"].clone();
    let is_openssl = |package: &Value| package["name"] == "openssl";
    assert!(packages.as_array().is_some_and(|packages| packages.iter().any(is_openssl)), "{packages}");
}

#[test]
fn list_images_and_report_on_them() {
    let mut shop = Shop::with_configuration();
    write_trivy_database(&shop.machine);
    shop.machine.sh("pullgate db import --config pullgate.toml ~/.cache/trivy/db").bytes();
    shop.machine.serve(OTHER_CONFIGURATION);
    assert_eq!(status(&shop.machine, NGINX), "200");
    shop.machine.walk("docs/reports.md").finish();
    let listed = shop.machine.sh("pullgate images --config pullgate.toml").text();
    assert!(listed.contains("docker.io/library/nginx"), "{listed}");
    let report = shop.machine.sh("pullgate va --config pullgate.toml nginx:1.27").text();
    assert!(report.contains("CVE-2024-0001 (high)"), "{report}");
}

#[test]
fn scan_with_the_scanner_of_the_gate() {
    let mut shop = Shop::with_configuration();
    write_trivy_database(&shop.machine);
    let mut walk = shop.machine.walk("docs/va.md").without("toml");
    let scan = walk.take_with("sh", "pullgate db import");
    walk.run(&scan);
    walk.machine.serve(OTHER_CONFIGURATION);
    assert_eq!(status(walk.machine, NGINX), "200");
    walk.finish();
}

#[test]
fn scan_with_other_scanners() {
    let mut shop = Shop::with_configuration();
    let dir = shop.machine.dir().to_owned();
    let nobody = shop.machine.reserve();
    // Only the usual folders of the system are searched for the program.
    let kind = "kind = \"trivy\"";
    shop.machine.replace(kind, format!("{kind}\ncommand = \"{}\"", dir.join("trivy").display()));
    shop.machine.replace("/var/cache/trivy", dir.join("cache").display().to_string());
    shop.machine.replace("https://clair-adapter.acme.com", format!("http://{nobody}"));
    shop.machine.write("trivy", TRIVY);
    fs::set_permissions(dir.join("trivy"), fs::Permissions::from_mode(0o755)).expect("permissions");
    fs::create_dir(dir.join("cache")).expect("a directory");
    shop.machine.write("secrets/adapter.token", "0123456789abcdef\n");

    let mut walk = shop.machine.walk("docs/scanners.md");
    let scanners = walk.take_with("toml", "[[va.scanner]]");
    walk.machine.append(OTHER_CONFIGURATION, &scanners.text);
    walk.machine.serve(OTHER_CONFIGURATION);
    let commands = walk.take_with("sh", "config check");
    walk.run(&commands);
    let report = walk.machine.sh("pullgate va --config pullgate.toml docker.io/library/nginx:1.27").text();
    assert!(report.contains("trivy 0.72.0"), "{report}");
    walk.take_with("text", "trivy image ARGS --input DIR");
    for settings in ["iamapikey", "[[listener]]", "prefix"] {
        walk.take_with("toml", settings);
    }
    walk.finish();
}
