//! Bundles: images carried from a connected gate to one whose upstream is offline.

mod buildkit;
mod imported;
mod lies;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::Output;

use http::StatusCode;
use pullgate::oci::Digest;
use pullgate::sample::image::{Built, Image, Layer, Tree, noise};
use pullgate::sample::{Fault, On};
use serde_json::{Value, json};

use crate::commands::{pullgate, text};
use crate::harness::{ALLOW_ALL, Gate, HOST, TestGate, policy};
use crate::livescan::would_deny;
use crate::platforms::{ISSUE, RULE, image_of, index, report};
use crate::pull::{multi, simple};
use crate::scanner;
use crate::sigstore::Instance;
use crate::support::{TestRegistry, temp_dir};

const SIGNED: &str = "  - {name: \"*\", policy: {trust: release}}\n";

/// A gate without a route to the registry, which trusts the same key as `other`.
pub(crate) async fn offline(registry: &TestRegistry, other: &Gate, policy: &str) -> Gate {
    let made = TestGate::new(registry, policy).file("policies/release.pub", &other.key().public_pem());
    made.upstream("offline = true").start().await
}

pub(crate) async fn export(gate: &Gate, file: &Path, words: &[&str]) -> Output {
    let file = file.display().to_string();
    pullgate(gate, &[&["bundle", "export", "-f", &file][..], words].concat()).await
}

pub(crate) async fn import(gate: &Gate, file: &Path, words: &[&str]) -> Output {
    let file = file.display().to_string();
    pullgate(gate, &[&["bundle", "import", &file][..], words].concat()).await
}

pub(crate) fn name(repository: &str, tag: &str) -> String {
    format!("{HOST}/{repository}:{tag}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_are_judged_and_served_where_there_is_no_route_to_their_registry() {
    let (registry, nowhere, folder) = (TestRegistry::start().await, TestRegistry::start().await, temp_dir());
    let (app, bad) = (multi("app"), simple("bad"));
    registry.push("library/app", Some("1"), &app);
    registry.push("library/bad", Some("1"), &bad);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    gate.key().sign(&registry, "library/app", &format!("{HOST}/library/app"), app.root).unwrap();
    let file = folder.path().join("shop.tar");
    let images = [&*name("library/app", "1"), &name("library/bad", "1")];
    let done = export(&gate, &file, &[&images[..], &["--platform", "linux/amd64"]].concat()).await;
    assert!(done.status.success(), "{}", text(&done));
    assert!(text(&done).contains("2 manifests, 1 attached"), "{}", text(&done));

    let gate = offline(&nowhere, &gate, &policy(SIGNED)).await;
    let done = import(&gate, &file, &[]).await;
    assert_eq!(done.status.code(), Some(2), "{}", text(&done));
    assert!(text(&done).contains(&format!("{}: imported", images[0])), "{}", text(&done));
    assert!(text(&done).contains(&format!("{}: denied", images[1])), "{}", text(&done));
    assert!(text(&done).contains("trust: release: not signed"), "the bundle lists what is attached: {}", text(&done));
    let check = async |gate: &Gate| {
        let got = gate.get("/library/app/manifests/1").await;
        assert_eq!((got.status, got.header("warning")), (200, None), "{}", got.text());
        assert_eq!(gate.get(&format!("/library/app/manifests/{}", app.manifests[1].digest)).await.status, 200);
        let (digest, bytes) = app.blobs.iter().find(|(digest, _)| *digest == app.layers[0]).expect("a layer");
        assert_eq!(gate.get(&format!("/library/app/blobs/{digest}")).await.body, *bytes);
        let signature = gate.get(&format!("/library/app/manifests/sha256-{}.sig", app.root.hex())).await;
        assert_eq!(signature.status, 200, "{}", signature.text());
        assert_eq!(gate.get(&format!("/library/app/referrers/{}", app.root)).await.status, 200);
        let got = gate.get("/library/bad/manifests/1").await;
        assert_eq!(got.status, 404, "{}", got.text());
        let got = gate.get(&format!("/library/bad/manifests/{}", bad.root)).await;
        assert!([403, 404].contains(&got.status), "{}", got.text());
        let got = gate.get(&format!("/library/bad/blobs/{}", bad.layers[0])).await;
        assert!([403, 404].contains(&got.status), "{}", got.text());
    };
    check(&gate).await;
    let (made, records) = gate.stop_and_read_audit().await;
    let acts: Vec<_> = records.iter().filter(|record| record["endpoint"] == "bundle/import").collect();
    let decided = |decision: &str, image: &str| {
        acts.iter().any(|act| act["decision"] == decision && act["image"] == image && act["client"] != "")
    };
    assert!(decided("import", images[0]) && decided("import-denied", images[1]), "{acts:?}");
    assert!(acts.iter().any(|act| act["decision"] == "import-attached"), "{acts:?}");
    let gate = made.start().await;
    check(&gate).await;
    // Again: everything is there already.
    let done = import(&gate, &file, &["--output", "json"]).await;
    assert_eq!(done.status.code(), Some(2), "{}", text(&done));
    let results: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    assert_eq!((&results[0]["outcome"], &results[1]["outcome"]), (&json!("imported"), &json!("denied")));
    assert_eq!(nowhere.requests().len(), 0, "the registry is never contacted");
}

/// What leads to the chosen platforms is carried, and what is missing of others does not keep the index from being judged.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nested_indexes_are_carried_for_the_chosen_platforms() {
    let (registry, nowhere, folder) = (TestRegistry::start().await, TestRegistry::start().await, temp_dir());
    let (ours, other) = (image_of("linux/s390x"), image_of("linux/mips64le"));
    let [nested, unrelated] = [&ours, &other].map(|image| index(&[image.descriptor()], &[image]));
    let root = index(&[unrelated.plain_descriptor(), nested.plain_descriptor()], &[&nested, &unrelated]);
    registry.push("library/app", Some("1"), &root);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let file = folder.path().join("app.tar");
    let done = export(&gate, &file, &[&name("library/app", "1"), "--platform", "linux/s390x"]).await;
    assert!(done.status.success() && text(&done).contains("3 manifests, 0 attached"), "{}", text(&done));
    let with_report = |issues: &str| report(&ours.configs[0].to_string(), issues);
    let made = TestGate::new(&nowhere, &policy(RULE)).with("[gate]\nplatforms = [\"linux/s390x\"]");
    let gate = made.file("reports/0.json", &with_report("")).upstream("offline = true").start().await;
    let done = import(&gate, &file, &[]).await;
    assert!(done.status.success(), "{}", text(&done));
    assert_eq!(gate.get("/library/app/manifests/1").await.body, root.manifest().bytes);
    for image in [&nested, &ours] {
        let got = gate.get(&format!("/library/app/manifests/{}", image.root)).await;
        assert_eq!((got.status, &got.body), (200, &image.manifest().bytes), "{}", got.text());
    }
    assert_eq!(gate.get(&format!("/library/app/blobs/{}", ours.layers[0])).await.status, 200);
    assert!([403, 404].contains(&gate.get(&format!("/library/app/blobs/{}", other.layers[0])).await.status));
    // Nor does it keep what was pulled from being judged again.
    let unfinished = gate.file("reports/.0.json");
    std::fs::write(&unfinished, with_report(ISSUE)).expect("a file");
    std::fs::rename(unfinished, gate.file("reports/0.json")).expect("a file");
    would_deny(&gate, 3).await;
    assert_eq!(nowhere.requests().len(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dry_run_makes_nothing_available() {
    let (registry, nowhere, folder) = (TestRegistry::start().await, TestRegistry::start().await, temp_dir());
    registry.push("library/app", Some("1"), &simple("app"));
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let file = folder.path().join("app.tar");
    let done = export(&gate, &file, &[&name("library/app", "1"), "-o", "json"]).await;
    assert!(done.status.success(), "{}", text(&done));
    let exported: Value = serde_json::from_slice(&done.stdout).expect("JSON");
    let image = json!({
        "image": name("library/app", "1"), "digest": simple("app").root, "manifests": 1, "attached": 0, "notes": []
    });
    let bytes = std::fs::metadata(&file).expect("a file").len();
    let file_name = file.display().to_string();
    assert_eq!(exported, json!({"file": file_name, "bytes": bytes, "reports": 0, "images": [image]}));
    let again = export(&gate, &file, &[&name("library/app", "1")]).await;
    assert!(text(&again).contains("exists already") && !again.status.success(), "{}", text(&again));
    let gate = offline(&nowhere, &gate, ALLOW_ALL).await;
    let done = import(&gate, &file, &["--dry-run"]).await;
    assert!(done.status.success() && text(&done).contains("would be imported"), "{}", text(&done));
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 404);
    let (made, records) = gate.stop_and_read_audit().await;
    assert!(records.iter().any(|record| record["decision"] == "import-dry-run"), "{records:?}");
    assert!(!records.iter().any(|record| record["decision"] == "import"), "{records:?}");
    let gate = made.start().await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 404);
    assert!(import(&gate, &file, &[]).await.status.success());
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_bundle_does_not_turn_back_a_tag() {
    let (registry, nowhere, folder) = (TestRegistry::start().await, TestRegistry::start().await, temp_dir());
    let images = [simple("old"), simple("new")];
    let gate = TestGate::new(&registry, ALLOW_ALL).upstream("tag_ttl = \"0s\"").start().await;
    let files = [folder.path().join("old.tar"), folder.path().join("new.tar")];
    for (image, file) in images.iter().zip(&files) {
        registry.push("library/app", Some("1"), image);
        let done = export(&gate, file, &[&name("library/app", "1")]).await;
        assert!(done.status.success(), "{}", text(&done));
    }
    let gate = offline(&nowhere, &gate, ALLOW_ALL).await;
    let body = async || gate.get("/library/app/manifests/1").await.body;
    assert!(import(&gate, &files[1], &[]).await.status.success());
    let kept = import(&gate, &files[0], &[]).await;
    assert!(kept.status.success() && text(&kept).contains("imported by digest only"), "{}", text(&kept));
    assert!(text(&kept).contains("1 tag was not moved, because it was seen later"), "{}", text(&kept));
    assert_eq!(body().await, images[1].manifest().bytes);
    assert_eq!(gate.get(&format!("/library/app/manifests/{}", images[0].root)).await.status, 200);
    let forced = import(&gate, &files[0], &["--force"]).await;
    assert!(forced.status.success() && text(&forced).contains(": imported ("), "{}", text(&forced));
    assert_eq!(body().await, images[0].manifest().bytes);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_export_is_continued_and_a_denied_image_is_not_exported() {
    let (registry, folder) = (TestRegistry::start().await, temp_dir());
    let layer = |number: u8| Layer::gzip(&Tree::new().file("file", vec![number; 1000]));
    let image = Image::linux_amd64().layer(layer(1)).layer(layer(2)).build();
    registry.push("library/app", Some("1"), &image);
    registry.push("library/bad", Some("1"), &simple("bad"));
    let rules = policy("  - {name: \"*/library/app\", policy: {}}\n  - {name: \"*\", policy: {trust: release}}\n");
    let gate = TestGate::new(&registry, &rules).start().await;
    let file = folder.path().join("app.tar");
    let denied = export(&gate, &file, &[&name("library/bad", "1")]).await;
    assert!(!denied.status.success() && text(&denied).contains("not signed"), "{}", text(&denied));
    let last = *image.blobs.iter().map(|(digest, _)| digest).max().expect("a blob");
    let broken = registry.inject(On::path(&format!("*/blobs/{last}")), Fault::status(StatusCode::BAD_GATEWAY));
    let failed = export(&gate, &file, &[&name("library/app", "1")]).await;
    assert!(!failed.status.success() && text(&failed).contains("repeat the command"), "{}", text(&failed));
    broken.remove();
    let partial = PathBuf::from(format!("{}.partial", file.display()));
    assert!(partial.exists() && !file.exists());
    let other = export(&gate, &file, &[&name("library/app", "1"), "--platform", "linux/arm64"]).await;
    assert!(text(&other).contains("was started for other images"), "{}", text(&other));
    registry.clear_log();
    let done = export(&gate, &file, &[&name("library/app", "1")]).await;
    assert!(done.status.success(), "{}", text(&done));
    assert!(file.exists() && !partial.exists());
    assert!(registry.count(|request| request.path.contains("/manifests/")) == 0, "the plan is not made again");
}

/// The files of an archive, by their names.
pub(crate) type Files = BTreeMap<String, Vec<u8>>;

pub(crate) fn files(path: &Path) -> Files {
    let mut archive = tar::Archive::new(std::fs::File::open(path).expect("an archive"));
    let mut files = BTreeMap::new();
    for entry in archive.entries().expect("entries") {
        let mut entry = entry.expect("an entry");
        let name = entry.path().expect("a name").display().to_string();
        let mut bytes = Vec::new();
        entry.read_to_end(&mut bytes).expect("its content");
        files.insert(name, bytes);
    }
    files
}

pub(crate) fn write(path: &Path, files: &Files) {
    let mut archive = tar::Builder::new(std::fs::File::create(path).expect("a file"));
    for (name, bytes) in files {
        let mut header = tar::Header::new_ustar();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, &bytes[..]).expect("it is written");
    }
    archive.finish().expect("it is written");
}

pub(crate) fn blob(digest: &Value) -> String {
    format!("blobs/{}", digest.as_str().expect("a digest").replace(':', "/"))
}

/// Changes the document of a bundle, with all digests that follow from it.
fn with_document(files: &Files, change: impl FnOnce(&mut Value)) -> Files {
    let mut files = files.clone();
    let mut index: Value = serde_json::from_slice(&files["index.json"]).expect("JSON");
    let mut manifest: Value =
        serde_json::from_slice(&files[&blob(&index["manifests"][0]["digest"])]).expect("a manifest");
    let mut document: Value =
        serde_json::from_slice(&files[&blob(&manifest["layers"][0]["digest"])]).expect("a document");
    change(&mut document);
    let mut put = |value: &Value| {
        let bytes = value.to_string().into_bytes();
        let (digest, size) = (json!(Digest::sha256(&bytes)), bytes.len());
        files.insert(blob(&digest), bytes);
        (digest, json!(size))
    };
    let (digest, size) = put(&document);
    (manifest["layers"][0]["digest"], manifest["layers"][0]["size"]) = (digest, size);
    let (digest, size) = put(&manifest);
    (index["manifests"][0]["digest"], index["manifests"][0]["size"]) = (digest, size);
    files.insert("index.json".into(), index.to_string().into_bytes());
    files
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn advisory_databases_travel_with_the_images() {
    let (registry, nowhere, folder) = (TestRegistry::start().await, TestRegistry::start().await, temp_dir());
    let image = |version: &str| -> Built { scanner::image([Layer::gzip(&scanner::python(version))]) };
    registry.push("library/good", Some("1"), &image("4.0.0"));
    registry.push("library/bad", Some("1"), &image("2.2.1"));
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let folder_of_gate = gate.file("");
    scanner::records(&folder_of_gate);
    let imported = scanner::import(&folder_of_gate);
    assert!(imported.status.success(), "{}", text(&imported));
    let file = folder.path().join("bundle.tar");
    let config = |gate: &Gate| gate.file("pullgate.toml").display().to_string();
    let images = [name("library/good", "1"), name("library/bad", "1")];
    let words = ["--with-advisories", "--config", &config(&gate), &images[0], &images[1]];
    let done = export(&gate, &file, &words).await;
    assert!(done.status.success(), "{}", text(&done));
    let gate = offline(&nowhere, &gate, &policy(scanner::SCANNED)).await;
    // A bundle's databases decide for the whole gate: nothing of them is used unless the operator asks for it.
    let done = import(&gate, &file, &["--config", &config(&gate), "--dry-run", "--with-advisories"]).await;
    assert!(text(&done).contains("not used in a dry run"), "{}", text(&done));
    let done = import(&gate, &file, &["--config", &config(&gate)]).await;
    assert!(text(&done).contains("--with-advisories puts them into use"), "{}", text(&done));
    assert!(!done.status.success() && !text(&done).contains(": imported"), "{}", text(&done));
    assert_eq!(sources(&gate), Vec::<String>::new());
    let done = import(&gate, &file, &["--config", &config(&gate), "--with-advisories"]).await;
    assert_eq!(done.status.code(), Some(2), "{}", text(&done));
    let used = sources(&gate);
    assert_eq!(used.len(), 1, "{used:?}");
    assert!(text(&done).contains(&format!("{}: imported", images[0])), "{}", text(&done));
    assert!(text(&done).contains("CVE-2022-28346"), "{}", text(&done));
    assert_eq!(gate.get("/library/good/manifests/1").await.status, 200);
    assert_eq!(gate.get("/library/bad/manifests/1").await.status, 404);
    let (_, records) = gate.stop_and_read_audit().await;
    let recorded: Vec<_> = records.iter().filter(|record| record["decision"] == "import-advisories").collect();
    let [record] = recorded[..] else { panic!("one record: {recorded:?}") };
    let reasons = record["reasons"].to_string();
    assert!(reasons.contains(&used[0]) && reasons.contains("sha256:") && reasons.contains("built 20"), "{record}");
    assert!(record["client"] != "", "{record}");
}

/// The sources of advisory databases that a gate has.
fn sources(gate: &Gate) -> Vec<String> {
    let folder = std::fs::read_dir(gate.file("state/advisories")).into_iter().flatten().flatten();
    folder.filter(|entry| entry.path().is_dir()).map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// Adds a file to the bundle's own manifest.
pub(crate) fn with_layer(files: &Files, media_type: &str, title: &str, bytes: &[u8]) -> Files {
    let mut files = files.clone();
    let mut index: Value = serde_json::from_slice(&files["index.json"]).expect("JSON");
    let own = blob(&index["manifests"][0]["digest"]);
    let mut manifest: Value = serde_json::from_slice(&files[&own]).expect("a manifest");
    let digest = json!(Digest::sha256(bytes));
    files.insert(blob(&digest), bytes.to_vec());
    manifest["layers"].as_array_mut().expect("layers").push(json!({
        "mediaType": media_type, "digest": digest, "size": bytes.len(),
        "annotations": {"org.opencontainers.image.title": title}
    }));
    let bytes = manifest.to_string().into_bytes();
    index["manifests"][0]["digest"] = json!(Digest::sha256(&bytes));
    index["manifests"][0]["size"] = json!(bytes.len());
    files.insert(blob(&index["manifests"][0]["digest"]), bytes);
    files.insert("index.json".into(), index.to_string().into_bytes());
    files
}

const ROOT: &str = "application/vnd.dev.sigstore.trustedroot+json";

/// The sender of a bundle chooses neither the names of the files nor content that is not a trusted root, and replaces nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn trusted_roots_of_a_bundle_replace_no_file() {
    let (registry, nowhere, folder) = (TestRegistry::start().await, TestRegistry::start().await, temp_dir());
    registry.push("library/app", Some("1"), &simple("app"));
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let (file, changed) = (folder.path().join("app.tar"), folder.path().join("changed.tar"));
    let done = export(&gate, &file, &[&name("library/app", "1")]).await;
    assert!(done.status.success(), "{}", text(&done));
    let good = files(&file);
    let deny = policy("  - {name: \"*/nothing\", policy: {}}\n");
    let gate = offline(&nowhere, &gate, &deny).await;
    let policies = gate.file("policies").display().to_string();
    let before = std::fs::read(gate.file("policies/default.yaml")).expect("a policy");
    // A policy as a trusted root: nothing at all happens.
    write(&changed, &with_layer(&good, ROOT, "default.yaml", ALLOW_ALL.as_bytes()));
    let done = import(&gate, &changed, &["--trusted-roots", &policies]).await;
    assert_eq!(done.status.code(), Some(1), "{}", text(&done));
    assert!(text(&done).contains("nothing is imported"), "{}", text(&done));
    // A real root under the name of the policy, and of a root that is in use.
    let root = Instance::new().trusted_root().to_string();
    let in_use = gate.file("policies/trusted_root-1.json");
    std::fs::write(&in_use, "mine").expect("a file");
    let one = with_layer(&good, ROOT, "default.yaml", root.as_bytes());
    let other = Instance::new().trusted_root().to_string();
    write(&changed, &with_layer(&one, ROOT, "trusted_root-1.json", other.as_bytes()));
    let done = import(&gate, &changed, &["--trusted-roots", &policies]).await;
    assert_eq!(done.status.code(), Some(2), "the policy denies the image: {}", text(&done));
    assert_eq!(std::fs::read(gate.file("policies/default.yaml")).expect("a policy"), before);
    assert_eq!(std::fs::read(&in_use).expect("a file"), b"mine");
    for root in [&root, &other] {
        let digest = Digest::sha256(root.as_bytes());
        assert!(text(&done).contains(&digest.to_string()), "the digest to compare: {}", text(&done));
        let written = std::fs::read(gate.file(&format!("policies/trusted_root-{}.json", digest.hex())));
        assert_eq!(written.expect("a root"), root.as_bytes());
    }
    let got = gate.get("/library/app/manifests/1").await;
    assert!([403, 404].contains(&got.status), "{}", got.text());
}
