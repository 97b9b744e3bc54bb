//! Bundles: reports of other scanners, which decide on the other side only if the operator asks for that.

use std::collections::BTreeSet;

use http::StatusCode;
use pullgate::oci::Digest;
use pullgate::sample::image::Built;
use pullgate::sample::{Fault, On};
use serde_json::{Value, json};

use crate::bundle::{Files, blob, export, files, import, name, offline, with_layer, write};
use crate::commands::text;
use crate::harness::{ALLOW_ALL, Gate, TestGate, policy};
use crate::platforms::{ISSUE, RULE, report};
use crate::pull::simple;
use crate::support::{TestRegistry, temp_dir};

const REPORT: &str = "application/vnd.pullgate.report.v1+json";

fn report_on(image: &Built, issues: &str) -> String {
    report(&image.configs[0].to_string(), issues)
}

/// A VEX document: the issue of the reports does not concern this product.
fn not_affected(product: &str) -> String {
    json!({
        "@context": "https://openvex.dev/ns/v0.2.0", "@id": "https://acme.test/vex", "author": "A",
        "timestamp": "2026-01-02T00:00:00Z", "version": 1, "statements": [{
            "vulnerability": {"name": "CVE-2024-1"}, "products": [{"@id": product}], "status": "not_affected",
            "justification": "vulnerable_code_not_present"
        }]
    })
    .to_string()
}

fn config(gate: &Gate) -> String {
    gate.file("pullgate.toml").display().to_string()
}

/// The files in the directory of reports of a gate.
fn reports(gate: &Gate) -> BTreeSet<String> {
    let entries = std::fs::read_dir(gate.file("reports")).expect("a directory");
    entries.map(|entry| entry.expect("an entry").file_name().to_string_lossy().into_owned()).collect()
}

/// The name that an import gives to a report.
fn imported_name(content: &str) -> String {
    format!("report-{}.json", Digest::sha256(content.as_bytes()).hex())
}

/// The two imports have a record each, which names the five reports.
fn each_import_is_recorded(records: &[Value]) {
    let recorded: Vec<_> = records.iter().filter(|record| record["decision"] == "import-reports").collect();
    let [first, second] = recorded[..] else { panic!("one record for each import: {recorded:?}") };
    assert_eq!(first["reasons"], second["reasons"]);
    assert_eq!(first["reasons"].as_array().map(Vec::len), Some(5));
    assert!(first["endpoint"] == "bundle/reports" && first["client"] != "", "{first}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_travel_with_the_images_and_are_used_if_the_operator_asks() {
    let (registry, nowhere, folder) = (TestRegistry::start().await, TestRegistry::start().await, temp_dir());
    let (clean, bad, exempt, unknown) = (simple("clean"), simple("bad"), simple("exempt"), simple("unknown"));
    let images = [("clean", &clean), ("bad", &bad), ("exempt", &exempt), ("unknown", &unknown)];
    for (repository, image) in images {
        registry.push(&format!("library/{repository}"), Some("1"), image);
    }
    let carried = [
        report_on(&clean, ""),
        report_on(&bad, ISSUE),
        report_on(&exempt, ISSUE),
        not_affected(&format!("pkg:oci/exempt@{}", exempt.root)),
        not_affected("pkg:deb/debian/elsewhere@1"),
    ];
    let left = report_on(&simple("other"), "");
    let all = carried.iter().chain([&left]).enumerate();
    let made = all.fold(TestGate::new(&registry, ALLOW_ALL), |made, (number, content)| {
        made.file(&format!("reports/{number}.json"), content)
    });
    let gate = made.start().await;
    let names: Vec<String> = images.iter().map(|(repository, _)| name(&format!("library/{repository}"), "1")).collect();
    let words: Vec<&str> = names.iter().map(String::as_str).collect();
    let (without, file) = (folder.path().join("without.tar"), folder.path().join("shop.tar"));
    let done = export(&gate, &without, &words).await;
    let said = "3 files of reports are about it and not in the bundle";
    assert!(done.status.success() && text(&done).contains(said), "{}", text(&done));
    let own = config(&gate);
    let done = export(&gate, &file, &[&words[..], &["--with-reports", "--config", &own, "-o", "json"]].concat()).await;
    let exported: Value = serde_json::from_slice(&done.stdout).unwrap_or_else(|_| panic!("{}", text(&done)));
    assert_eq!((&exported["reports"], &exported["images"][0]["notes"]), (&json!(5), &json!([])), "{exported}");

    let gate = offline(&nowhere, &gate, &policy(RULE)).await;
    let own = config(&gate);
    let done = import(&gate, &without, &[]).await;
    assert!(done.status.code() == Some(2) && text(&done).contains(said), "{}", text(&done));
    for (words, said) in [
        (vec![], "--with-reports puts them into use"),
        (vec!["--dry-run", "--with-reports", "--config", &own], "are not used in a dry run"),
    ] {
        let done = import(&gate, &file, &words).await;
        assert!(done.status.code() == Some(2) && text(&done).contains(said), "{}", text(&done));
        assert!(!text(&done).contains(": imported"), "{}", text(&done));
        assert!(reports(&gate).is_empty());
    }
    let done = import(&gate, &file, &["--with-reports", "--config", &own]).await;
    assert_eq!(done.status.code(), Some(2), "{}", text(&done));
    let expected = ["imported", "denied", "imported", "denied"];
    for (name, outcome) in names.iter().zip(expected) {
        assert!(text(&done).contains(&format!("{name}: {outcome} (")), "{name}: {}", text(&done));
    }
    assert!(text(&done).contains("CVE-2024-1"), "{}", text(&done));
    let said = "1 VEX statement names no image and applies to ALL images of this gate";
    assert!(text(&done).contains(said), "{}", text(&done));
    let written: BTreeSet<String> = carried.iter().map(|content| imported_name(content)).collect();
    assert_eq!(reports(&gate), written);
    assert_eq!(gate.get("/library/exempt/manifests/1").await.status, 200);
    assert!([403, 404].contains(&gate.get("/library/bad/manifests/1").await.status));
    // Again: the files are there already.
    let done = import(&gate, &file, &["--with-reports", "--config", &own]).await;
    assert_eq!((done.status.code(), reports(&gate).len()), (Some(2), 5), "{}", text(&done));
    let (_, records) = gate.stop_and_read_audit().await;
    each_import_is_recorded(&records);
}

/// A bundle whose own manifest lists its last file 901 times.
fn repeated(files: &Files) -> Files {
    let mut files = files.clone();
    let mut index: Value = serde_json::from_slice(&files["index.json"]).expect("JSON");
    let own = &files[&blob(&index["manifests"][0]["digest"])];
    let mut manifest: Value = serde_json::from_slice(own).expect("a manifest");
    let layers = manifest["layers"].as_array_mut().expect("layers");
    let last = layers.last().expect("a layer").clone();
    layers.extend(std::iter::repeat_n(last, 900));
    let bytes = manifest.to_string().into_bytes();
    index["manifests"][0]["digest"] = json!(Digest::sha256(&bytes));
    index["manifests"][0]["size"] = json!(bytes.len());
    files.insert(blob(&index["manifests"][0]["digest"]), bytes);
    files.insert("index.json".into(), index.to_string().into_bytes());
    files
}

/// What is not a report on an image of the bundle is not written, and nothing is imported.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_that_are_not_about_the_images_of_the_bundle_bring_nothing() {
    let (registry, nowhere, folder) = (TestRegistry::start().await, TestRegistry::start().await, temp_dir());
    let (app, other) = (simple("app"), simple("other"));
    registry.push("library/app", Some("1"), &app);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let (file, changed) = (folder.path().join("app.tar"), folder.path().join("changed.tar"));
    let done = export(&gate, &file, &[&name("library/app", "1")]).await;
    assert!(done.status.success(), "{}", text(&done));
    let good = with_layer(&files(&file), REPORT, "0.json", report_on(&app, "").as_bytes());
    let with = |title: &str, content: &str| with_layer(&good, REPORT, title, content.as_bytes());
    let digest = Digest::sha256(report_on(&app, "").as_bytes());
    let mut damaged = good.clone();
    damaged.insert(format!("blobs/sha256/{}", digest.hex()), report_on(&other, "").into_bytes());
    let gate = offline(&nowhere, &gate, &policy(RULE)).await;
    let words = ["--with-reports", "--config", &config(&gate)];
    for (what, files, why) in [
        ("a report on another image", with("1.json", &report_on(&other, "")), "is not about any image of the bundle"),
        (
            "a statement on another image",
            with("1.json", &not_affected(&format!("pkg:oci/x@{}", other.root))),
            "not about any image",
        ),
        ("a policy", with("../policies/default.yaml", ALLOW_ALL), "cannot be read"),
        ("nothing", with("1.json", ""), "cannot be read"),
        ("a truncated report", with("1.json", report_on(&app, "").split_at(60).0), "cannot be read"),
        ("other bytes", damaged, "does not match the digest in its name"),
        ("too many", repeated(&good), "more reports than are read"),
    ] {
        write(&changed, &files);
        let done = import(&gate, &changed, &words).await;
        assert!(done.status.code() == Some(1) && text(&done).contains(why), "{what}: {}", text(&done));
        assert!(reports(&gate).is_empty(), "{what}");
        assert_eq!(gate.get("/library/app/manifests/1").await.status, 404, "{what}");
    }
    // The sender chooses no name.
    write(&changed, &with("../policies/default.yaml", &not_affected(&format!("pkg:oci/app@{}", app.root))));
    let done = import(&gate, &changed, &words).await;
    assert!(done.status.success(), "{}", text(&done));
    assert_eq!(reports(&gate).len(), 2);
    assert!(reports(&gate).iter().all(|name| name.starts_with("report-")), "{:?}", reports(&gate));
}

/// Whether the gate reads reports is found out before anything is imported: here before the databases are looked for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reports_without_a_directory_are_not_imported() {
    let (registry, nowhere, folder) = (TestRegistry::start().await, TestRegistry::start().await, temp_dir());
    let app = simple("app");
    registry.push("library/app", Some("1"), &app);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let file = folder.path().join("app.tar");
    let done = export(&gate, &file, &[&name("library/app", "1")]).await;
    assert!(done.status.success(), "{}", text(&done));
    write(&file, &with_layer(&files(&file), REPORT, "0.json", report_on(&app, "").as_bytes()));
    let gate = offline(&nowhere, &gate, &policy(RULE)).await;
    let without = folder.path().join("without.toml");
    std::fs::write(&without, "[policy]\ndir = \"p\"\n[[upstream]]\nhost = \"docker.io\"\n").expect("a file");
    let words = ["--with-reports", "--with-advisories", "--config", &without.display().to_string()];
    let done = import(&gate, &file, &words).await;
    let said = "va.reports names no directory";
    assert!(done.status.code() == Some(1) && text(&done).contains(said), "{}", text(&done));
    let (_, records) = gate.stop_and_read_audit().await;
    assert!(records.iter().all(|record| record["endpoint"] != "bundle/reports"), "{records:?}");
}

/// An export that goes on has the reports that there were when it began.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_export_keeps_its_reports() {
    let (registry, folder) = (TestRegistry::start().await, temp_dir());
    let image = simple("app");
    registry.push("library/app", Some("1"), &image);
    let first = report_on(&image, "");
    let gate = TestGate::new(&registry, ALLOW_ALL).file("reports/0.json", &first).start().await;
    let (file, own) = (folder.path().join("app.tar"), config(&gate));
    let words = [&*name("library/app", "1"), "--with-reports", "--config", &own];
    let broken =
        registry.inject(On::path(&format!("*/blobs/{}", image.layers[0])), Fault::status(StatusCode::BAD_GATEWAY));
    let failed = export(&gate, &file, &words).await;
    assert!(!failed.status.success() && text(&failed).contains("repeat the command"), "{}", text(&failed));
    broken.remove();
    std::fs::write(gate.file("reports/0.json"), report_on(&image, ISSUE)).expect("a file");
    let other = export(&gate, &file, &words[..1]).await;
    assert!(text(&other).contains("was started for other images, options"), "{}", text(&other));
    let done = export(&gate, &file, &words).await;
    assert!(done.status.success() && text(&done).contains("1 file of reports"), "{}", text(&done));
    let digest = Digest::sha256(first.as_bytes());
    assert_eq!(files(&file)[&format!("blobs/sha256/{}", digest.hex())], first.as_bytes());
}
