//! Livescan: images that were admitted are judged again when the advisories or the rules change, and receivers are told.

mod advisories;
mod other_causes;

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use pullgate::runtime::{Clock, Tasks};
use pullgate::sample::image::{Built, Image, Layer, Tree};
use serde_json::{Value, json};
use sqlx::Connection as _;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
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

/// Reads a number from the database of a gate, until it is this one.
async fn until_count(rows: &mut SqliteConnection, sql: &'static str, expected: i64) {
    let counted = async {
        while sqlx::query_scalar::<_, i64>(sql).fetch_one(&mut *rows).await.expect("a count") != expected {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    soon(counted).await;
}

/// The image that was pulled before all others is judged as soon as it is known what the new advisory is about. That is also
/// so if an earlier version of the gate read its layers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn images_that_a_new_advisory_is_about_are_judged_before_hotter_ones() {
    const HOTTER: i64 = 300;
    const NAMED: &str = "SELECT COUNT(*) FROM evidence WHERE topic = 'package-names-1'";
    let (registry, log) = (TestRegistry::start().await, EventLog::start().await);
    registry.push("team/app", Some("about"), &image([Layer::gzip(&python("2.2.0"))]));
    let layer = Layer::gzip(&distribution(Tree::new(), "six", "1.0"));
    for number in 0..HOTTER {
        let built = Image::linux_amd64().annotation("number", &number.to_string()).layer(layer.clone()).build();
        registry.push("team/app", Some(&format!("v{number}")), &built);
    }
    let gate = scanning(&registry, &log).await;
    for tag in std::iter::once("about".to_owned()).chain((0..HOTTER).map(|number| format!("v{number}"))) {
        assert_eq!(gate.get(&format!("/team/app/manifests/{tag}")).await.status, 200);
    }
    let options = SqliteConnectOptions::new().filename(gate.file("state/pullgate.db"));
    let mut rows = SqliteConnection::connect_with(&options).await.expect("a database");
    until_count(&mut rows, "SELECT COUNT(*) FROM verdicts", HOTTER + 1).await;
    until_count(&mut rows, NAMED, HOTTER + 1).await;
    sqlx::query("DELETE FROM evidence WHERE topic = 'package-names-1'").execute(&mut rows).await.expect("it is done");

    let folder = gate.file("");
    add_record(&folder, &record("PYSEC-2", "another", "2024-01-02T00:00:00Z"));
    imported(&folder).await;
    until_count(&mut rows, NAMED, HOTTER + 1).await;
    would_deny(&gate, 0).await;
    add_record(&folder, &record("PYSEC-3", "django", "2024-01-03T00:00:00Z"));
    imported(&folder).await;
    would_deny(&gate, 1).await;
    let earlier =
        "SELECT COUNT(*) FROM verdicts WHERE decided_at < (SELECT decided_at FROM verdicts WHERE decision = 'deny')";
    let earlier: i64 = sqlx::query_scalar(earlier).fetch_one(&mut rows).await.expect("a count");
    assert!(earlier <= HOTTER / 2, "{earlier} images were judged before the one that the advisory is about");
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
