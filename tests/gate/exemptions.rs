//! Exemptions by command, by API and as documents: all scopes, the end, restarts, several writers.

mod changes;

use std::fs;

use jiff::{SignedDuration, Timestamp};
use pullgate::oci::Digest;
use pullgate::runtime::Clock;
use pullgate::sample::image::{self, Built};
use serde_json::{Value, json};

use crate::commands::{pullgate, text};
use crate::harness::{Gate, HOST, TestGate, policy};
use crate::pull::simple;
use crate::support::{Answer, TestRegistry, request, soon};

/// What callers of the admin API over TCP present.
const TOKEN: &str = "0123456789abcdef";
const SCANNED: &str = "  - {name: \"*\", policy: {va: {severity: low}}}\n";

/// A report of Trivy with one vulnerability of an image, in the package openssl.
fn report(made: &TestGate, image: Digest, id: &str, notices: &[&str]) {
    let name = format!("x@{image}");
    let report = json!({
        "SchemaVersion": 2, "CreatedAt": "2026-01-01T00:00:00Z", "ArtifactName": "x", "ArtifactType": "container_image",
        "Metadata": {"RepoDigests": [name]},
        "Results": [{"Target": "x", "Class": "os-pkgs", "Type": "debian", "Vulnerabilities": [{
            "VulnerabilityID": id, "VendorIDs": notices, "PkgName": "openssl", "InstalledVersion": "1",
            "FixedVersion": "2", "Severity": "HIGH"
        }]}]
    });
    fs::write(made.path().join(format!("reports/{}.json", image.hex())), report.to_string()).expect("a file");
}

/// A gate with an image `birds/bluebird:v1`, in which CVE-2024-1 is known.
async fn with_image(registry: &TestRegistry, name: &str) -> (TestGate, Built) {
    let image = simple(name);
    registry.push("birds/bluebird", Some("v1"), &image);
    let made = TestGate::new(registry, &policy(SCANNED));
    report(&made, image.root, "CVE-2024-1", &[]);
    (made, image)
}

async fn status(gate: &Gate) -> u16 {
    gate.get("/birds/bluebird/manifests/v1").await.status
}

/// Runs `exemption add` and returns the answer.
async fn add(gate: &Gate, words: &[&str]) -> Value {
    let output = pullgate(gate, &[&["exemption", "add", "-o", "json"], words].concat()).await;
    assert!(output.status.success(), "{words:?}: {}", text(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

async fn list(gate: &Gate, words: &[&str]) -> Vec<Value> {
    let output = pullgate(gate, &[&["exemption", "list", "-o", "json"], words].concat()).await;
    assert!(output.status.success(), "{words:?}: {}", text(&output));
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exemption_applies_to_the_next_pull_until_it_is_removed() {
    let registry = TestRegistry::start().await;
    let (made, image) = with_image(&registry, "scopes").await;
    let gate = made.start().await;
    assert_eq!(status(&gate).await, 403);
    for (scope, applies) in [
        ("*".to_owned(), true),
        (format!("{HOST}/*"), true),
        ("birds".into(), true),
        (format!("{HOST}/birds"), true),
        ("birds/bluebird".into(), true),
        ("birds/bluebird:v1".into(), true),
        (format!("{HOST}/birds/bluebird:v1"), true),
        (format!("birds/bluebird@{}", image.root), true),
        (format!("{HOST}/birds/bluebird@{}", image.root), true),
        ("docker.io/*".into(), false),
        ("docker.io/birds/bluebird".into(), false),
        ("bluebird".into(), false),
        ("birds/bluebird:v2".into(), false),
        (format!("birds/bluebird@{}", Digest::sha256(b"other")), false),
    ] {
        let issue = ["--scope", &scope, "--issue-type", "cve", "--issue-id", "CVE-2024-1"];
        add(&gate, &issue).await;
        assert_eq!(status(&gate).await == 200, applies, "{scope}");
        let removed = pullgate(&gate, &[&["exemption", "rm"], &issue[..]].concat()).await;
        assert!(removed.status.success() && text(&removed).contains("removed "), "{}", text(&removed));
        assert_eq!(status(&gate).await, 403, "{scope}");
    }
    assert_eq!(list(&gate, &[]).await, Vec::<Value>::new());
}

/// Such an exemption would apply to nothing, without a word.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scope_names_a_registry_as_policies_do() {
    let registry = TestRegistry::start().await;
    let (made, _) = with_image(&registry, "names").await;
    let gate = made.upstream("aliases = [\"other.test\"]\npath = \"short\"").start().await;
    assert_eq!(status(&gate).await, 403);
    for (scope, why) in [
        ("other.test/birds/bluebird", format!("other.test is another name of {HOST}")),
        ("other.test/*", format!("write {HOST}/*")),
    ] {
        let issue = ["--issue-type", "cve", "--issue-id", "CVE-2024-1"];
        for words in [
            &[&["exemption", "add", "--scope", scope], &issue[..]].concat()[..],
            &["exemption", "list", "--scope", scope],
        ] {
            let refused = pullgate(&gate, words).await;
            assert!(refused.status.code() == Some(1) && text(&refused).contains(&why), "{scope}: {}", text(&refused));
        }
    }
    assert_eq!(status(&gate).await, 403);
    add(&gate, &["--scope", "*", "--issue-type", "cve", "--issue-id", "CVE-2024-1"]).await;
    assert_eq!(status(&gate).await, 200);
    for restrict in [HOST, "other.test", "other.test/birds"] {
        let listed = pullgate(&gate, &["images", "--quiet", "--restrict", restrict]).await;
        assert_eq!(
            text(&listed),
            format!("{HOST}/birds/bluebird:v1\n"),
            "images --restrict takes any name: {restrict}"
        );
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_type_of_issue_can_be_exempt() {
    let registry = TestRegistry::start().await;
    let image = simple("types");
    registry.push("birds/bluebird", Some("v1"), &image);
    let made = TestGate::new(&registry, &policy(SCANNED));
    report(&made, image.root, "CVE-2024-1", &["DSA-1-1", "DSA-2-1"]);
    let gate = made.start().await;
    for (words, applies) in [
        (vec!["--issue-type", "cve", "--issue-id", "cve-2024-1"], true),
        (vec!["--issue-type", "cve", "--issue-id", "CVE-2024-1", "--package", "openssl"], true),
        (vec!["--issue-type", "cve", "--issue-id", "CVE-2024-1", "--package", "curl"], false),
        (vec!["--issue-type", "package", "--package", "openssl"], true),
        (vec!["--issue-type", "package", "--package", "curl"], false),
        (vec!["--issue-type", "configuration", "--issue-id", "DS002"], false),
        (vec!["--issue-type", "sn", "--issue-id", "DSA-1-1"], false),
    ] {
        let added = add(&gate, &[&["--scope", "birds"], &words[..]].concat()).await;
        assert_eq!(status(&gate).await == 200, applies, "{words:?}");
        let id = added["id"].as_str().expect("an identifier");
        assert!(pullgate(&gate, &["exemption", "rm", id]).await.status.success());
        assert_eq!(status(&gate).await, 403, "{words:?}");
    }
    // A CVE is partially exempt with one of its notices, and exempt with all of them.
    let url = gate.admin_url(&format!("/api/v1/check?image={HOST}/birds/bluebird:v1"));
    for (notice, expected) in [("DSA-1-1", "partial"), ("DSA-2-1", "exempt")] {
        add(&gate, &["--scope", "birds", "--issue-type", "sn", "--issue-id", notice]).await;
        let checked: Value = serde_json::from_str(&request("GET", &url, &[]).await.text()).expect("JSON");
        assert_eq!(checked["rules"][0]["assessments"][0]["issues"][0]["exempt_status"], expected, "{checked:#}");
    }
    assert_eq!(status(&gate).await, 200);
    let types = pullgate(&gate, &["exemption", "list", "--scope", "birds/x"]).await;
    assert!(text(&types).contains("DSA-1-1") && text(&types).contains("birds (wider)"), "{}", text(&types));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn types_are_listed_as_by_ibm() {
    let run =
        std::process::Command::new(env!("CARGO_BIN_EXE_pullgate")).args(["exemption", "types", "-o", "json"]).output();
    let types: Value = serde_json::from_slice(&run.expect("it runs").stdout).expect("JSON");
    let expected = json!([
        {"identifier": "cve", "displayName": "CVE"},
        {"identifier": "sn", "displayName": "Security Notice"},
        {"identifier": "configuration", "displayName": "Configuration Issue"},
        {"identifier": "package", "displayName": "Package"},
    ]);
    assert_eq!(types, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exemption_ends_at_its_instant() {
    let registry = TestRegistry::start().await;
    let start: Timestamp = "2026-06-01T00:00:00Z".parse().expect("a time");
    let clock = Clock::manual(start);
    let (made, _) = with_image(&registry, "ends").await;
    let gate = made.clock(&clock).start().await;
    let metric = async |line: &str| {
        let metrics = request("GET", &gate.admin_url("/metrics"), &[]).await.text();
        assert!(metrics.contains(line), "{line}\n{metrics}");
        metrics.contains("\npullgate_exemptions_next_end_timestamp_seconds ")
    };
    assert!(!metric("pullgate_exemptions 0\n").await, "none has an end");
    let issue = ["--scope", "birds", "--issue-type", "cve", "--issue-id", "CVE-2024-1"];
    for (expires, end) in [
        ("30d", "2026-07-01T00:00:00Z"),
        ("2026-08-01", "2026-08-01T00:00:00Z"),
        ("2026-09-01T12:00:00+02:00", "2026-09-01T10:00:00Z"),
    ] {
        let added = add(&gate, &[&issue[..], &["--expires", expires]].concat()).await;
        assert_eq!(added["expires"], end);
        let left = end.parse::<Timestamp>().expect("a time").duration_since(clock.now());
        clock.advance(left - SignedDuration::from_millis(1));
        assert_eq!(status(&gate).await, 200, "{expires}: just before the end");
        let seconds = end.parse::<Timestamp>().expect("a time").as_second();
        assert!(metric(&format!("pullgate_exemptions_next_end_timestamp_seconds {seconds}\n")).await);
        clock.advance(SignedDuration::from_millis(1));
        assert_eq!(status(&gate).await, 403, "{expires}: at the end");
        assert!(!metric("pullgate_exemptions 0\n").await, "it is no longer in force");
        let checked = pullgate(&gate, &["check", &format!("{HOST}/birds/bluebird:v1")]).await;
        let ended = format!("ended exemption {}, scope birds, until {end}", added["id"].as_str().expect("an id"));
        let said = text(&checked).split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(said.contains(&ended), "{ended}: {said}");
        let listed = list(&gate, &[]).await;
        assert_eq!((listed.len(), &listed[0]["ended"]), (1, &true.into()), "it replaces the earlier one");
    }
    for (expires, why) in [("2026-08-01", "no effect"), ("soon", "duration such as 30d"), ("0s", "no effect")] {
        let refused = pullgate(&gate, &[&["exemption", "add"], &issue[..], &["--expires", expires]].concat()).await;
        assert_eq!(refused.status.code(), Some(1), "{expires}");
        assert!(text(&refused).contains(why), "{expires}: {}", text(&refused));
    }
    // Records say until when an admission stands.
    let (_, records) = gate.stop_and_read_audit().await;
    let of = |decision: &str| records.iter().filter(|record| record["decision"] == decision).collect::<Vec<_>>();
    let ends: Vec<&Value> = of("admit").into_iter().map(|record| &record["until"]).collect();
    assert_eq!(ends, ["2026-07-01T00:00:00Z", "2026-08-01T00:00:00Z", "2026-09-01T10:00:00Z"]);
    let denied = of("deny");
    assert!(!denied.is_empty() && denied.iter().all(|record| record.get("until").is_none()), "{denied:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn exemptions_survive_a_restart_and_are_named_in_records() {
    let registry = TestRegistry::start().await;
    let (made, _) = with_image(&registry, "kept").await;
    let gate = made.start().await;
    let issue = ["--scope", "birds", "--issue-type", "cve", "--issue-id", "CVE-2024-1"];
    let added = add(&gate, &[&issue[..], &["--reason", "not reachable", "--by", "ann"]].concat()).await;
    let gate = gate.stop().await.start().await;
    assert_eq!(status(&gate).await, 200);
    let listed = list(&gate, &["--scope", "birds/bluebird"]).await;
    assert_eq!((listed.len(), &listed[0]["id"], &listed[0]["wider"]), (1, &added["id"], &true.into()));
    assert_eq!(list(&gate, &["--scope", "cats"]).await.len(), 0);
    let checked = text(&pullgate(&gate, &["check", &format!("{HOST}/birds/bluebird:v1")]).await);
    let id = added["id"].as_str().expect("an identifier");
    assert!(checked.contains(&format!("exemption {id}, scope birds, by ann: not reachable")), "{checked}");
    let scanned = pullgate(&gate, &["va", &format!("{HOST}/birds/bluebird:v1"), "--output", "json"]).await;
    let scanned: Value = serde_json::from_slice(&scanned.stdout).expect("JSON");
    assert_eq!(scanned[0]["issues"][0]["exemptions"][0]["id"], id, "{scanned:#}");
    let (_, records) = gate.stop_and_read_audit().await;
    let record = records.last().expect("a record");
    let expected =
        json!([{"id": id, "exempts": "cve CVE-2024-1, scope birds", "reason": "not reachable", "by": "ann"}]);
    assert_eq!(record["exemptions"], expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_writers_lose_nothing() {
    let registry = TestRegistry::start().await;
    let (made, _) = with_image(&registry, "writers").await;
    let gate = made.start().await;
    let add_five = async |first: usize| {
        for n in first..first + 5 {
            let id = format!("CVE-2025-{n}");
            add(&gate, &["--scope", "*", "--issue-type", "cve", "--issue-id", &id, "--by", "ann"]).await;
        }
    };
    let same = ["--scope", "birds", "--issue-type", "cve", "--issue-id", "CVE-2024-1"];
    tokio::join!(add_five(0), add_five(5), async { add(&gate, &same).await }, async { add(&gate, &same).await });
    assert_eq!(list(&gate, &[]).await.len(), 11);
    let gate = gate.stop().await.start().await;
    assert_eq!(list(&gate, &[]).await.len(), 11, "all of them are stored");
    let id =
        list(&gate, &["--scope", "birds"]).await.iter().find(|one| one["wider"] == false).expect("one")["id"].clone();
    let id = id.as_str().expect("an identifier");
    let remove = async || pullgate(&gate, &["exemption", "rm", id]).await.status.success();
    let (one, other) = tokio::join!(remove(), remove());
    assert!(one != other, "one of them removed it");
    assert_eq!(status(&gate).await, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_exempt_and_cannot_be_changed_by_commands() {
    let registry = TestRegistry::start().await;
    let (made, _) = with_image(&registry, "documents").await;
    let gate = made.start().await;
    assert_eq!(status(&gate).await, 403);
    let exemption = "apiVersion: pullgate.io/v1\nkind: Exemption\nmetadata: {name: bluebird}\nspec:\n  scope: birds\n  \
                     issueType: cve\n  issueId: CVE-2024-1\n  reason: not reachable\n  by: ann\n";
    gate.set_policy(&format!("{}---\n{exemption}", policy(SCANNED)));
    assert_eq!(status(&gate).await, 200);
    let listed = list(&gate, &[]).await;
    assert_eq!(listed[0]["document"], "Exemption/bluebird");
    let id = listed[0]["id"].as_str().expect("an identifier");
    let refused = pullgate(&gate, &["exemption", "rm", id]).await;
    assert!(!refused.status.success() && text(&refused).contains("is in Exemption/bluebird"), "{}", text(&refused));
    gate.set_policy(&policy(SCANNED));
    assert_eq!(status(&gate).await, 403);
    let unknown = pullgate(&gate, &["exemption", "rm", "0123456789ab"]).await;
    assert!(text(&unknown).contains("there is no exemption 0123456789ab"), "{}", text(&unknown));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_exemption_of_an_index_or_of_a_child_applies_to_that_child() {
    let registry = TestRegistry::start().await;
    let (one, two) = (simple("one"), simple("two"));
    let index = image::index(&[one.clone(), two.clone()]);
    registry.push("birds/bluebird", Some("v1"), &index);
    let made = TestGate::new(&registry, &policy(SCANNED));
    report(&made, one.root, "CVE-2024-1", &[]);
    report(&made, two.root, "CVE-2024-1", &[]);
    let gate = made.start().await;
    let get = async |digest: Digest| gate.get(&format!("/birds/bluebird/manifests/{digest}")).await.status;
    assert_eq!(status(&gate).await, 403);
    for (scope, root, first, second) in [
        (format!("birds/bluebird@{}", index.root), 200, 200, 200),
        (format!("birds/bluebird@{}", one.root), 200, 200, 403),
        ("birds/bluebird:v1".to_owned(), 200, 200, 200),
    ] {
        let added = add(&gate, &["--scope", &scope, "--issue-type", "cve", "--issue-id", "CVE-2024-1"]).await;
        let found = (status(&gate).await, get(one.root).await, get(two.root).await);
        assert_eq!(found, (root, first, second), "{scope}");
        assert!(pullgate(&gate, &["exemption", "rm", added["id"].as_str().expect("text")]).await.status.success());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ignore_files_of_the_configuration_exempt_and_are_read_again() {
    let registry = TestRegistry::start().await;
    let (made, _) = with_image(&registry, "ignored").await;
    let made = made.file(".trivyignore", "CVE-2024-1 # not reachable\n");
    let gate = made.va("ignore_files = [\".trivyignore\"]").start().await;
    assert_eq!(status(&gate).await, 200);
    let listed = list(&gate, &[]).await;
    assert!(listed[0]["document"].as_str().is_some_and(|path| path.ends_with(".trivyignore")), "{listed:?}");
    let write = |text: &str| {
        fs::write(gate.file(".trivyignore"), text).expect("a file");
        gate.set_policy(&policy(SCANNED));
    };
    write("CVE-2024-1 exp:soon\n");
    assert_eq!(status(&gate).await, 200, "a broken file keeps the last good version, as with policies");
    write("CVE-2024-2\n");
    assert_eq!(status(&gate).await, 403);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrong_requests_are_explained() {
    let registry = TestRegistry::start().await;
    let (made, _) = with_image(&registry, "wrong").await;
    let gate = made.start().await;
    for (words, why) in [
        (vec!["--scope", "birds:v1", "--issue-type", "cve", "--issue-id", "CVE-1-1"], "NAMESPACE/REPOSITORY:TAG"),
        (vec!["--scope", "birds", "--issue-type", "rpm", "--issue-id", "CVE-1-1"], "the type is cve, sn"),
        (vec!["--scope", "birds", "--issue-type", "cve", "--issue-id", "DSA-1"], "not a CVE"),
        (vec!["--scope", "birds", "--issue-type", "package"], "needs a package"),
        (vec!["--scope", "birds", "--issue-type", "package", "--package", "pkg:x"], "not a package URL"),
        (vec!["--issue-type", "cve", "--issue-id", "CVE-1-1"], "--scope is missing"),
    ] {
        let refused = pullgate(&gate, &[&["exemption", "add"], &words[..]].concat()).await;
        assert_eq!(refused.status.code(), Some(1), "{words:?}");
        assert!(text(&refused).contains(why), "{words:?}: {}", text(&refused));
    }
    let url = |rest: &str| gate.admin_url(&format!("/api/v1/exemptions{rest}"));
    for (method, rest, status) in [
        ("GET", "", 200),
        ("GET", "?scope=birds%3Av1", 422),
        ("PUT", "", 403),
        ("POST", "", 403),
        ("DELETE", "/x", 403),
    ] {
        // Changes over the network need a token.
        assert_eq!(soon(request(method, &url(rest), &[])).await.status, status, "{method} {rest}");
    }
}
