//! Deliveries to a receiver on loopback that answers as a test says.

use std::sync::Mutex;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::runtime::{Clock, Metrics, Readiness, Tasks};
use crate::store::Store;

/// What a receiver got: the head and the body of each request.
type Received = Arc<Mutex<Vec<(String, String)>>>;

/// A receiver that gives these answers in turn, and then 204.
async fn receiver(answers: &[u16], tasks: &Tasks) -> (String, Received) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/hook?secret=1", listener.local_addr().unwrap());
    let received = Received::default();
    let (log, mut answers) = (received.clone(), Vec::from(answers).into_iter());
    tasks.spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut bytes = Vec::new();
            let (head, length) = loop {
                stream.read_buf(&mut bytes).await.unwrap();
                let text = String::from_utf8_lossy(&bytes).into_owned();
                let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
                let length: usize = length.unwrap();
                if body.len() >= length {
                    break (head.to_owned(), length);
                }
            };
            let body = String::from_utf8(bytes[bytes.len() - length..].to_vec()).unwrap();
            log.lock().unwrap().push((head, body));
            let status = answers.next().unwrap_or(204);
            let answer = format!("HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
            stream.write_all(answer.as_bytes()).await.unwrap();
        }
    });
    (url, received)
}

async fn until(received: &Received, count: usize) -> Vec<(String, String)> {
    for _ in 0..1000 {
        let got = received.lock().unwrap().clone();
        if got.len() >= count {
            return got;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{count} deliveries: {:?}", received.lock().unwrap());
}

/// Delivers what is queued in this state directory, until the tasks stop.
async fn deliver(config: &Config, dir: &std::path::Path, tasks: &Tasks) -> (Events, Store) {
    let (events, store) = (Events::new(config), Store::open(dir).await.unwrap());
    let queue = store.verdicts.clone();
    let courier =
        EventCourier::new(config, events.clone(), queue, Clock::system(), (&Metrics::default(), &Readiness::new()))
            .unwrap();
    courier.start(tasks).await;
    (events, store)
}

fn id(body: &str) -> String {
    serde_json::from_str::<Value>(body).unwrap()["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn events_are_delivered_in_order_and_sent_again_after_a_failure_and_a_restart() {
    let (dir, tasks) = (tempfile::tempdir().unwrap(), Tasks::new());
    let (url, received) = receiver(&[500], &tasks).await;
    std::fs::write(dir.path().join("secret"), "a secret of many letters").unwrap();
    std::fs::write(dir.path().join("token"), "token\n").unwrap();
    let config = Config {
        urls: vec![url],
        source: "gate-1".into(),
        secret_file: Some(dir.path().join("secret")),
        token_file: Some(dir.path().join("token")),
        ..Config::default()
    };
    let first = Tasks::new();
    let (events, store) = deliver(&config, dir.path(), &first).await;
    let now = Clock::system().now();
    let queued = ["one", "two"].map(|subject| events.of(EventKind::VerdictChanged, subject, now, &json!({"n": 1})));
    assert_eq!(events.of(EventKind::VerdictChanged, "one", now, &json!({"n": 1})), queued[0], "the same identifier");
    assert_ne!(queued[0][0].id, queued[1][0].id);
    assert!(events.of(EventKind::PullDenied, "one", now, &()).is_empty(), "nobody wants it");
    store.verdicts.queue_events(&queued.concat()).await.unwrap();
    store.verdicts.queue_events(&queued.concat()).await.unwrap();
    events.wake();
    until(&received, 1).await;
    assert!(first.drain(Duration::from_secs(5)).await);
    store.close().await;
    // Another process goes on.
    let (_, store) = deliver(&config, dir.path(), &tasks).await;
    let got = until(&received, 3).await;
    let subject = |body: &str| serde_json::from_str::<Value>(body).unwrap()["subject"].clone();
    assert_eq!(got.iter().map(|(_, body)| subject(body)).collect::<Vec<_>>(), ["one", "one", "two"]);
    assert_eq!(got[0].1, got[1].1, "the event itself does not change");
    for (head, body) in &got {
        assert!(head.starts_with("POST /hook?secret=1 HTTP/1.1\r\n"), "{head}");
        let header = |name: &str| {
            let line = head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "));
            line.unwrap_or_else(|| panic!("{name}: {head}")).to_owned()
        };
        assert_eq!(header("webhook-id"), id(body));
        assert_eq!(header("authorization"), "Bearer token");
        assert!(header("content-type").starts_with("application/cloudevents+json"));
        let secret = signature::EventSecret::parse("a secret of many letters").unwrap();
        let time = header("webhook-timestamp").parse().unwrap();
        assert_eq!(header("webhook-signature"), secret.sign(&id(body), time, body));
    }
    let event: Value = serde_json::from_str(&got[2].1).unwrap();
    let wanted = json!({
        "specversion": "1.0", "id": event["id"], "source": "gate-1", "type": "io.pullgate.verdict.changed",
        "subject": "two", "time": now.to_string(), "datacontenttype": "application/json", "data": {"n": 1}
    });
    assert_eq!(event, wanted);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(received.lock().unwrap().len(), 3, "each event is delivered once");
    assert_eq!(store.verdicts.count_events().await.unwrap(), 0);
    tasks.stop();
}

#[tokio::test]
async fn one_receiver_does_not_delay_another_and_a_removed_one_is_forgotten() {
    let (dir, tasks) = (tempfile::tempdir().unwrap(), Tasks::new());
    let (url, received) = receiver(&[], &tasks).await;
    // Accepts connections and answers nothing.
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let dead = format!("http://{}/", silent.local_addr().unwrap());
    let config = Config { urls: vec![dead, url.clone()], ..Config::default() };
    let (events, store) = deliver(&config, dir.path(), &tasks).await;
    let now = Clock::system().now();
    for subject in ["one", "two"] {
        let event = events.of(EventKind::DatabaseFailed, subject, now, &());
        assert_eq!(event.len(), 2);
        store.verdicts.queue_events(&event).await.unwrap();
        events.wake();
    }
    until(&received, 2).await;
    let config = Config { urls: vec![url], ..Config::default() };
    store.close().await;
    let (_, store) = deliver(&config, dir.path(), &tasks).await;
    assert_eq!(store.verdicts.count_events().await.unwrap(), 0, "nobody gets them now");
    tasks.stop();
}

#[tokio::test]
async fn receivers_that_cannot_be_used_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    for (url, proxy, is_usable) in [
        ("http://a.test/hook", "", true),
        ("", "", false),
        ("events", "", false),
        ("ftp://a.test/", "", false),
        ("http://a.test/", "https://proxy.test", false),
    ] {
        let config = Config { urls: vec![url.into()], proxy: Some(proxy.into()), ..Config::default() };
        let (queue, metrics) = (store.verdicts.clone(), Metrics::default());
        let courier =
            EventCourier::new(&config, Events::new(&config), queue, Clock::system(), (&metrics, &Readiness::new()));
        assert_eq!(courier.is_ok(), is_usable, "{url} {proxy}");
    }
    let shown = format!("{:?}", Config { urls: vec!["https://a.test/secret".into()], ..Config::default() });
    assert!(!shown.contains("secret"), "{shown}");
}

#[test]
fn names_of_events_are_read_back() {
    for kind in ["verdict.changed", "pull.denied", "database.updated", "database.failed"] {
        assert_eq!(kind.parse::<EventKind>().unwrap().to_string(), kind);
    }
    assert!("verdict".parse::<EventKind>().is_err());
}

/// Delivers with a secret or token that cannot be used, until the gate reports this. Returns the report.
async fn reported(config: Config, why: &str) -> String {
    let dir = tempfile::tempdir().unwrap();
    let config = Config { urls: vec!["http://127.0.0.1:9/".to_owned()], ..config };
    let (readiness, tasks, store) = (Readiness::new(), Tasks::new(), Store::open(dir.path()).await.unwrap());
    let (queue, metrics) = (store.verdicts.clone(), Metrics::default());
    let courier =
        EventCourier::new(&config, Events::new(&config), queue, Clock::system(), (&metrics, &readiness)).unwrap();
    courier.start(&tasks).await;
    let report = || serde_json::to_string(&readiness.report()).unwrap();
    let degraded = async {
        while !report().contains(why) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), degraded).await.unwrap();
    tasks.stop();
    report()
}

/// A secret that cannot sign is reported at the start, not when events are given up after a week.
#[tokio::test]
async fn a_secret_that_cannot_sign_makes_the_gate_degraded() {
    let dir = tempfile::tempdir().unwrap();
    let secret_file = dir.path().join("secret");
    std::fs::write(&secret_file, "short").unwrap();
    let config = Config { secret_file: Some(secret_file.clone()), ..Config::default() };
    let report = reported(config, "fewer than 16 bytes").await;
    assert!(report.contains("events") && report.contains("fewer than 16 bytes"), "{report}");
    assert_eq!(
        check_secret(&secret_file).unwrap_err(),
        format!("{}: the secret has fewer than 16 bytes", secret_file.display())
    );
}

/// What `config check` refuses is not sent.
#[tokio::test]
async fn a_token_of_several_lines_is_not_sent() {
    let dir = tempfile::tempdir().unwrap();
    let token_file = dir.path().join("token");
    std::fs::write(&token_file, "token\nmore\n").unwrap();
    let report = reported(Config { token_file: Some(token_file), ..Config::default() }, "more than one line").await;
    assert!(report.contains("events"), "{report}");
}
