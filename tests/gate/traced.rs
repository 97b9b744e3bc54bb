//! Traces of requests, as a collector receives them.

use std::collections::BTreeMap;

use pullgate::runtime::Tasks;
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;

use crate::harness::{ALLOW_ALL, TestGate, policy};
use crate::program::Program;
use crate::pull::simple;
use crate::support::{TestRegistry, request, soon};

const PARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

/// A collector that accepts every export. Returns its URL, and the head and the body of each request.
async fn collector() -> (String, mpsc::UnboundedReceiver<(String, Value)>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let (sender, exports) = mpsc::unbounded_channel();
    Tasks::new().spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut received = Vec::new();
            let (head, length) = loop {
                stream.read_buf(&mut received).await.unwrap();
                let Some(end) = received.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
                let head = String::from_utf8(received.drain(..end + 4).take(end).collect()).unwrap();
                let length =
                    head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
                break (head, length.unwrap_or(0_usize));
            };
            while received.len() < length {
                stream.read_buf(&mut received).await.unwrap();
            }
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\nconnection: close\r\n\r\n{}").await.unwrap();
            sender.send((head, serde_json::from_slice(&received).unwrap())).unwrap();
        }
    });
    (url, exports)
}

/// The attributes of a span, as text.
fn attributes(span: &Value) -> BTreeMap<&str, &str> {
    span["attributes"]
        .as_array()
        .into_iter()
        .flatten()
        .map(|one| {
            let value = &one["value"];
            (one["key"].as_str().unwrap(), value["stringValue"].as_str().or(value["intValue"].as_str()).unwrap())
        })
        .collect()
}

#[tokio::test]
async fn a_pull_is_a_trace_with_its_phases_and_upstream_requests() {
    let registry = TestRegistry::start().await;
    registry.push("library/app", Some("1"), &simple("traced"));
    let (url, mut exports) = collector().await;
    let gate = TestGate::new(&registry, &policy("  - {name: \"*\", policy: {trust: release}}\n"))
        .with(&format!("[tracing]\nendpoint = \"{url}\""))
        .start()
        .await;
    let denied = request("GET", &gate.url("/library/app/manifests/1"), &[("traceparent", PARENT)]).await;
    assert_eq!(denied.status, 403);
    let unsampled = PARENT.replace("-01", "-00");
    let other = request("GET", &gate.url("/library/app/manifests/2"), &[("traceparent", &unsampled)]).await;
    assert_eq!(other.status, 404);
    gate.stop().await;
    let (head, export) = soon(exports.recv()).await.unwrap();
    assert!(
        head.starts_with("POST /v1/traces HTTP/1.1\r\n") && head.contains("content-type: application/json"),
        "{head}"
    );
    let resource = &export["resourceSpans"][0];
    assert_eq!(resource["resource"]["attributes"][0]["value"]["stringValue"], "pullgate");
    let spans = resource["scopeSpans"][0]["spans"].as_array().unwrap();
    assert!(spans.iter().all(|span| span["traceId"] == "4bf92f3577b34da6a3ce929d0e0e4736"), "{spans:#?}");
    let (whole, parts) = spans.split_first().unwrap();
    assert_eq!((&whole["parentSpanId"], &whole["kind"]), (&"00f067aa0ba902b7".into(), &2.into()));
    assert_eq!(whole["name"], "GET /v2/{name}/manifests/{reference}");
    let known = attributes(whole);
    for (key, value) in [
        ("http.response.status_code", "403"),
        ("pullgate.image", "registry.test/library/app:1"),
        ("pullgate.decision", "deny"),
        ("pullgate.cache", "miss"),
        ("client.address", "127.0.0.1"),
    ] {
        assert_eq!(known.get(key), Some(&value), "{known:?}");
    }
    assert!(parts.iter().all(|span| span["parentSpanId"] == whole["spanId"]), "{parts:#?}");
    let named = |name: &str| parts.iter().filter(|span| span["name"] == name).count();
    for phase in ["select", "pin", "resolve", "classify", "evidence", "decide"] {
        assert!(named(phase) >= 1, "{phase}: {parts:#?}");
    }
    let calls: Vec<&Value> = parts.iter().filter(|span| span["kind"] == 3).collect();
    assert!(calls.iter().any(|call| attributes(call)["http.response.status_code"] == "200"), "{calls:#?}");
    let time = |span: &Value, end: &str| span[end].as_str().unwrap().parse::<u128>().unwrap();
    for span in spans {
        let (start, end) = (time(span, "startTimeUnixNano"), time(span, "endTimeUnixNano"));
        assert!(time(whole, "startTimeUnixNano") <= start && start <= end, "{span}");
    }
    // The registry was told which trace each request belongs to.
    let told: Vec<String> = registry.requests().iter().filter_map(|request| request.traceparent.clone()).collect();
    assert!(told.len() >= calls.len() && told.iter().any(|value| value.ends_with("-00")), "{told:?}");
    for call in calls {
        let expected = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-{}-01", call["spanId"].as_str().unwrap());
        assert!(told.contains(&expected), "{expected} {told:?}");
    }
    assert!(exports.try_recv().is_err(), "the other trace was not sampled");
}

/// The exporter of traces lives as long as the listeners. A stop does not wait for it as for a transfer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_gate_that_sends_traces_stops_in_order() {
    let registry = TestRegistry::start().await;
    registry.push("library/app", Some("1"), &simple("stopped"));
    let (url, mut exports) = collector().await;
    let made = TestGate::new(&registry, ALLOW_ALL).with(&format!("[tracing]\nendpoint = \"{url}\""));
    let program = Program::start(&made).await;
    assert_eq!(program.get("/library/app/manifests/1").await.status, 200);
    assert_eq!(program.stop().await.code(), Some(0), "nothing was cut");
    let (_, export) = soon(exports.recv()).await.expect("the trace is sent");
    assert!(export["resourceSpans"][0].is_object(), "{export}");
}

/// An invented path must not count as a route of the API.
#[tokio::test]
async fn a_path_outside_the_api_has_no_route() {
    let (registry, (url, mut exports)) = (TestRegistry::start().await, collector().await);
    let gate = TestGate::new(&registry, ALLOW_ALL).with(&format!("[tracing]\nendpoint = \"{url}\"")).start().await;
    assert_eq!(request("GET", &gate.any_url("/v3/x"), &[]).await.status, 404);
    assert_eq!(request("GET", &gate.any_url("/v2/"), &[]).await.status, 200);
    gate.stop().await;
    let (_, export) = soon(exports.recv()).await.unwrap();
    let spans = export["resourceSpans"][0]["scopeSpans"][0]["spans"].as_array().unwrap();
    let named = |name: &str| attributes(spans.iter().find(|span| span["name"] == name).expect("a span"));
    let (unknown, version) = (named("GET"), named("GET /v2/"));
    assert_eq!((unknown.get("http.route"), unknown["url.path"]), (None, "/v3/x"));
    assert_eq!(version["http.route"], "/v2/");
}
