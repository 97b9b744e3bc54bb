//! Livescan: images that were admitted are judged again when the advisories or the rules change, and receivers are told.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use pullgate::runtime::{Clock, Tasks};
use pullgate::sample::image::{Built, Image, Layer, Tree};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::commands::{pullgate, text};
use crate::harness::{ALLOW_ALL, Gate, HOST, TestGate, policy};
use crate::scanner::{SCANNED, distribution, image, import, import_from, python, until_open};
use crate::support::{TestRegistry, request, soon};

/// An OSV record: versions of a package of PyPI before 2.2.28 are vulnerable.
fn record(id: &str, package: &str, modified: &str) -> Value {
    json!({
        "schema_version": "1.6.0", "id": id, "modified": modified, "published": "2022-04-12T05:15:00Z",
        "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
        "affected": [{
            "package": {"ecosystem": "PyPI", "name": package, "purl": format!("pkg:pypi/{package}")},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": "2.2.28"}]}]
        }]
    })
}

fn add_record(folder: &Path, record: &Value) {
    let records = folder.join("records");
    fs::create_dir_all(&records).expect("a folder");
    let name = format!("{}.json", record["id"].as_str().expect("an id"));
    fs::write(records.join(name), record.to_string()).expect("a file");
}

async fn imported(folder: &Path) {
    let folder = folder.to_owned();
    let output = soon(tokio::task::spawn_blocking(move || import(&folder))).await.expect("it ends");
    assert!(output.status.success(), "{}", text(&output));
}

/// A receiver of events.
#[derive(Clone)]
struct EventLog {
    url: String,
    events: Arc<Mutex<Vec<Value>>>,
    /// The answer; anything but 2xx makes the gate send the event again.
    status: Arc<Mutex<u16>>,
}

impl EventLog {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let url = format!("http://{}/", listener.local_addr().expect("an address"));
        let log = Self { url, events: Arc::default(), status: Arc::new(204.into()) };
        let receiving = log.clone();
        Tasks::new().spawn(async move { receiving.receive(listener).await });
        log
    }

    async fn receive(&self, listener: TcpListener) {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut bytes = Vec::new();
            while !self.take(&bytes) {
                if stream.read_buf(&mut bytes).await.unwrap_or_default() == 0 {
                    break;
                }
            }
            let status = *self.status.lock().expect("no panic");
            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    }

    /// Whether the request is complete; then it is added.
    fn take(&self, bytes: &[u8]) -> bool {
        let text = String::from_utf8_lossy(bytes);
        let Some((_, body)) = text.split_once("\r\n\r\n") else { return false };
        let Ok(event) = serde_json::from_str::<Value>(body) else { return false };
        self.events.lock().expect("no panic").push(event);
        true
    }

    fn of(&self, kind: &str) -> Vec<Value> {
        let kind = format!("io.pullgate.{kind}");
        self.events.lock().expect("no panic").iter().filter(|event| event["type"] == *kind).cloned().collect()
    }

    /// Waits for this number of events of a kind.
    async fn until(&self, kind: &str, count: usize) -> Vec<Value> {
        let arrived = async {
            while self.of(kind).len() < count {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            self.of(kind)
        };
        soon(arrived).await
    }

    fn config(&self) -> String {
        format!(
            "[events]\nurls = [\"{}\"]\ntypes = [\"verdict.changed\", \"pull.denied\", \"database.updated\", \"database.failed\"]\n",
            self.url
        )
    }
}

/// A gate with advisories about a package that no image has.
async fn scanning(registry: &TestRegistry, log: &EventLog) -> Gate {
    let made = TestGate::new(registry, &policy(SCANNED)).with(&log.config());
    // Writes the configuration file.
    made.config();
    add_record(made.path(), &record("PYSEC-1", "other", "2024-01-01T00:00:00Z"));
    imported(made.path()).await;
    let gate = made.start().await;
    until_open(&gate).await;
    gate
}

/// Waits until the gate has recorded this number of pulls that would be denied now.
pub(crate) async fn would_deny(gate: &Gate, count: usize) -> Value {
    let listed = async {
        loop {
            let url = gate.admin_url("/api/v1/verdicts?which=would-deny&since=3600");
            let answer = request("GET", &url, &[]).await.json();
            if answer["verdicts"].as_array().is_some_and(|verdicts| verdicts.len() == count) && answer["outdated"] == 0
            {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(listed).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_advisory_changes_verdicts_and_is_reported_once_without_a_download() {
    let (registry, log) = (TestRegistry::start().await, EventLog::start().await);
    let vulnerable = image([Layer::gzip(&python("2.2.0"))]);
    registry.push("team/app", Some("1"), &vulnerable);
    registry.push("team/safe", Some("1"), &image([Layer::gzip(&python("3.0"))]));
    let gate = scanning(&registry, &log).await;
    for path in ["/team/app/manifests/1", "/team/safe/manifests/1"] {
        let answer = gate.get(path).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let by_digest = format!("/team/app/manifests/{}", vulnerable.manifest().digest);
    assert_eq!(gate.get(&by_digest).await.status, 200);
    let requests = registry.requests().len();

    let folder = gate.file("");
    add_record(&folder, &record("PYSEC-2", "django", "2024-01-02T00:00:00Z"));
    imported(&folder).await;
    let event = log.until("verdict.changed", 1).await.remove(0);
    assert_eq!(registry.requests().len(), requests, "nothing is downloaded");
    assert_eq!(event["subject"], format!("{HOST}/team/app@{}", vulnerable.manifest().digest));
    let data = &event["data"];
    assert_eq!((&data["tag"], &data["cause"], &data["kind"]), (&json!("1"), &json!("databases"), &json!("image")));
    assert_eq!((&data["from"]["decision"], &data["to"]["decision"]), (&json!("admit"), &json!("deny")));
    assert!(data["to"]["reason"].as_str().expect("a reason").contains("PYSEC-2"), "{data}");
    let updated = log.until("database.updated", 1).await.remove(0);
    for (end, generation) in [("from", &updated["data"]["from"]), ("to", &updated["data"]["to"])] {
        assert_eq!(&data[end]["databases"], generation, "{data}");
    }
    let denied = gate.get("/team/app/manifests/1").await;
    assert!(denied.status == 403 && denied.text().contains("PYSEC-2"), "{}", denied.text());
    assert_eq!(gate.get("/team/safe/manifests/1").await.status, 200);
    let denial = log.until("pull.denied", 1).await.remove(0);
    assert_eq!((&denial["data"]["stage"], &denial["data"]["client"]), (&json!("va"), &json!("127.0.0.1")));

    let listed = would_deny(&gate, 1).await;
    assert_eq!(listed["verdicts"][0]["clients"][0]["address"], "127.0.0.1");
    let denials = pullgate(&gate, &["images", "--would-deny", "--since", "7d"]).await;
    assert_eq!(denials.status.code(), Some(2), "{}", text(&denials));
    assert!(text(&denials).contains("127.0.0.1") && text(&denials).contains("PYSEC-2"), "{}", text(&denials));
    let changed = pullgate(&gate, &["images", "--changed"]).await;
    assert!(changed.status.success() && text(&changed).contains("admit   deny"), "{}", text(&changed));
    let metrics = request("GET", &gate.admin_url("/metrics"), &[]).await.text();
    assert!(metrics.contains("pullgate_verdict_changes_total{decision=\"deny\"} 1"), "{metrics}");

    // Other rules release the image, and that is reported too.
    gate.set_policy(ALLOW_ALL);
    let released = log.until("verdict.changed", 2).await.remove(1);
    assert_eq!((&released["data"]["cause"], &released["data"]["to"]["decision"]), (&json!("rules"), &json!("admit")));
    would_deny(&gate, 0).await;

    // A restart reports nothing again.
    let gate = gate.stop().await.start().await;
    until_open(&gate).await;
    would_deny(&gate, 0).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(log.of("verdict.changed").len(), 2, "{:#?}", log.of("verdict.changed"));
    assert_eq!(log.of("database.updated").len(), 1);
    assert_eq!(log.of("database.failed").len(), 0);
}

/// More images than are judged and stored together.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_verdicts_that_change_are_each_reported_once_and_the_hottest_first() {
    const IMAGES: usize = 200;
    let (registry, log) = (TestRegistry::start().await, EventLog::start().await);
    let layer = Layer::gzip(&python("2.2.0"));
    for number in 0..IMAGES {
        let built = Image::linux_amd64().annotation("number", &number.to_string()).layer(layer.clone()).build();
        registry.push("team/app", Some(&format!("v{number}")), &built);
    }
    let gate = scanning(&registry, &log).await;
    for number in 0..IMAGES {
        let answer = gate.get(&format!("/team/app/manifests/v{number}")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    }
    let requests = registry.requests().len();
    let folder = gate.file("");
    add_record(&folder, &record("PYSEC-2", "django", "2024-01-02T00:00:00Z"));
    imported(&folder).await;
    let events = log.until("verdict.changed", IMAGES).await;
    assert_eq!(registry.requests().len(), requests, "nothing is downloaded");
    let tags: Vec<_> = events.iter().map(|event| event["data"]["tag"].as_str().expect("a tag")).collect();
    let hottest = format!("v{}", IMAGES - 1);
    assert!(tags[..10].contains(&&*hottest) && !tags[..IMAGES / 2].contains(&"v0"), "{tags:?}");
    let listed = would_deny(&gate, IMAGES).await;
    assert_eq!(listed["more"], false);
    let ids: std::collections::BTreeSet<_> =
        log.of("verdict.changed").iter().map(|event| event["id"].to_string()).collect();
    assert_eq!((ids.len(), log.of("verdict.changed").len()), (IMAGES, IMAGES), "each is reported once");
    for tag in ["v0", &*hottest] {
        assert_eq!(gate.get(&format!("/team/app/manifests/{tag}")).await.status, 403);
    }
    let changed = pullgate(&gate, &["images", "--changed"]).await;
    assert_eq!(text(&changed).lines().count(), IMAGES + 1, "{}", text(&changed));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn events_wait_for_their_receiver_across_a_restart_and_an_evicted_image_is_judged_too() {
    let (registry, log) = (TestRegistry::start().await, EventLog::start().await);
    let vulnerable = image([Layer::gzip(&python("2.2.0"))]);
    registry.push("team/app", Some("1"), &vulnerable);
    let gate = scanning(&registry, &log).await;
    assert_eq!(gate.get("/team/app/manifests/1").await.status, 200);
    let made = gate.stop().await;
    // The content is gone, and an advisory arrives while the gate does not run.
    fs::remove_dir_all(made.path().join("state/blobs")).expect("a folder");
    add_record(made.path(), &record("PYSEC-2", "django", "2024-01-02T00:00:00Z"));
    imported(made.path()).await;
    *log.status.lock().expect("no panic") = 503;
    registry.clear_log();
    let gate = made.start().await;
    let first = log.until("verdict.changed", 1).await.remove(0);
    assert_eq!(registry.requests().len(), 0, "nothing is downloaded");
    let started = Instant::now();
    assert_eq!(gate.get("/team/app/manifests/1").await.status, 403);
    assert!(started.elapsed() < Duration::from_secs(5), "a receiver that fails delays no pull");
    let made = gate.stop().await;
    *log.status.lock().expect("no panic") = 204;
    let gate = made.start().await;
    let again = log.until("verdict.changed", 2).await;
    let ids: Vec<_> = again.iter().map(|event| &event["id"]).collect();
    assert!(ids.iter().all(|id| **id == first["id"]), "receivers recognise it: {ids:?}");
    drop(gate);
}

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

/// What an image's author states does not matter: it is this gate that must know the image for so long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_image_cools_down_from_when_this_gate_saw_it_first_also_across_a_restart() {
    let registry = TestRegistry::start().await;
    let clock = Clock::manual("2026-01-10T00:00:00Z".parse().expect("a time"));
    registry.push("team/app", Some("1"), &Image::linux_amd64().created("2020-01-01T00:00:00Z").build());
    let cooling = "  - {name: \"*\", policy: {va: {severity: high, unscanned: allow, coolDown: 3d}}}\n";
    let made = TestGate::new(&registry, &policy(cooling)).upstream("tag_ttl = \"30d\"").clock(&clock);
    let gate = made.start().await;
    let denied = gate.get("/team/app/manifests/1").await;
    assert_eq!(denied.status, 403, "{}", denied.text());
    assert!(denied.text().contains("admitted from 2026-01-13T00:00:00Z"), "{}", denied.text());
    clock.advance(SignedDuration::from_hours(71));
    let gate = gate.stop().await.start().await;
    let denied = gate.get("/team/app/manifests/1").await;
    assert!(denied.text().contains("admitted from 2026-01-13T00:00:00Z"), "{}", denied.text());
    clock.advance(SignedDuration::from_hours(1));
    let admitted = gate.get("/team/app/manifests/1").await;
    assert_eq!(admitted.status, 200, "{}", admitted.text());
}

/// A report that arrives says what is wrong with images that were admitted before.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_new_report_file_changes_verdicts() {
    let (registry, log) = (TestRegistry::start().await, EventLog::start().await);
    let built = image([Layer::gzip(&python("2.2.28"))]);
    registry.push("team/app", Some("1"), &built);
    let gate = scanning(&registry, &log).await;
    let answer = gate.get("/team/app/manifests/1").await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    // The verdict is recorded in the background.
    let recorded = async {
        while request("GET", &gate.admin_url("/metrics"), &[]).await.text().contains("pullgate_verdicts_outdated 1") {}
        gate.get("/team/app/manifests/1").await
    };
    soon(recorded).await;
    let report = json!({
        "SchemaVersion": 2, "CreatedAt": "2026-01-01T00:00:00Z", "ArtifactName": "x", "ArtifactType": "container_image",
        "Metadata": {"OS": {"Family": "debian", "Name": "12"}, "ImageID": built.manifest().digest},
        "Results": [{"Target": "x", "Class": "os-pkgs", "Type": "debian", "Vulnerabilities": [{
            "VulnerabilityID": "CVE-2024-1", "PkgName": "openssl", "Severity": "HIGH"
        }]}]
    });
    let unfinished = gate.file("reports/.app.json");
    fs::write(&unfinished, report.to_string()).expect("a file");
    fs::rename(unfinished, gate.file("reports/app.json")).expect("a file");
    let event = log.until("verdict.changed", 1).await.remove(0);
    let data = &event["data"];
    assert_eq!((&data["cause"], &data["to"]["decision"]), (&json!("rules"), &json!("deny")), "{data}");
    assert!(data["to"]["reason"].as_str().expect("a reason").contains("CVE-2024-1"), "{data}");
    fs::remove_file(gate.file("reports/app.json")).expect("it was there");
    let released = log.until("verdict.changed", 2).await.remove(1);
    assert_eq!(released["data"]["to"]["decision"], "admit", "the gate's own scanner decides again");
}

/// The time from new advisories to the events about the images that they concern, among many that they do not concern.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "pulls 10,000 images"]
async fn measure_new_advisories_with_many_images() {
    let images: usize =
        std::env::var("PULLGATE_LIVESCAN_IMAGES").map_or(10_000, |text| text.parse().expect("a number"));
    let concerned = images / 100;
    let (registry, log) = (TestRegistry::start().await, EventLog::start().await);
    let packages = |tree: Tree| (0..60).fold(tree, |tree, n| distribution(tree, &format!("package-{n}"), "1.0"));
    let (safe, old) = (Layer::gzip(&packages(Tree::new())), Layer::gzip(&python("2.2.0")));
    let build = |number: usize| -> Built {
        let image = Image::linux_amd64().annotation("number", &number.to_string()).layer(safe.clone());
        if number.is_multiple_of(100) { image.layer(old.clone()).build() } else { image.build() }
    };
    for number in 0..images {
        registry.push("team/app", Some(&number.to_string()), &build(number));
    }
    let gate = Arc::new(scanning(&registry, &log).await);
    let began = Instant::now();
    let pulls = (0..8).map(|part| {
        let gate = gate.clone();
        async move {
            for number in (0..images).filter(|number| number % 8 == part) {
                let answer = gate.get(&format!("/team/app/manifests/{number}")).await;
                assert_eq!(answer.status, 200, "{}", answer.text());
            }
        }
    });
    futures_util::future::join_all(pulls).await;
    println!("{images} images pulled in {:?}", began.elapsed());
    let requests = registry.requests().len();
    let folder = gate.file("");
    add_record(&folder, &record("PYSEC-2", "django", "2024-01-02T00:00:00Z"));
    imported(&folder).await;
    let wait = |kind: &'static str, count: usize| {
        let log = log.clone();
        async move {
            while log.of(kind).len() < count {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    wait("database.updated", 1).await;
    let swapped = Instant::now();
    wait("verdict.changed", 1).await;
    println!("the first of {concerned} changes was reported {:?} after the swap", swapped.elapsed());
    wait("verdict.changed", concerned).await;
    println!("the last one {:?} after the swap", swapped.elapsed());
    assert_eq!(registry.requests().len(), requests, "nothing is downloaded");
    assert_eq!(log.of("verdict.changed").len(), concerned);
}

/// Whoever put them into use: they decide which images are admitted.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_databases_are_recorded_for_the_audit() {
    let (registry, log) = (TestRegistry::start().await, EventLog::start().await);
    let gate = scanning(&registry, &log).await;
    let folder = gate.file("");
    add_record(&folder, &record("PYSEC-2", "django", "2024-01-02T00:00:00Z"));
    imported(&folder).await;
    log.until("database.updated", 1).await;
    let (_, records) = gate.stop_and_read_audit().await;
    let used: Vec<_> = records.iter().filter(|record| record["decision"] == "use-advisories").collect();
    assert_eq!(used.len(), 1, "{records:?}");
    let reasons = used[0]["reasons"].to_string();
    assert!(reasons.contains("osv-pypi of 2024-01-02T00:00:00Z"), "{reasons}");
}
