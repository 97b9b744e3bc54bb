//! What the real program logs, and what it says about the time that requests take.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use crate::harness::{ALLOW_ALL, TestGate, policy};
use crate::program::Program;
use crate::pull::simple;
use crate::reload::connect_with;
use crate::support::{TestRegistry, raw, request, soon};

/// The lines of a JSON log with this message, once there are `count`.
async fn lines(program: &Program, message: &str, count: usize) -> Vec<Value> {
    soon(async {
        loop {
            let log = program.log();
            let parsed = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let found: Vec<Value> = parsed.filter(|line| line["message"] == message).collect();
            if found.len() >= count {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await
}

#[tokio::test]
async fn request_lines_state_the_decision_and_the_reason() {
    let registry = TestRegistry::start().await;
    registry.push("library/app", Some("1"), &simple("logged"));
    let rules = "  - {name: \"registry.test/library/*\", policy: {}}\n  - {name: \"registry.test/signed/*\", policy: {trust: release}}\n";
    registry.push("signed/app", Some("1"), &simple("unsigned"));
    let made = TestGate::new(&registry, &policy(rules)).upstream("tag_ttl = \"0s\"").with("[log]\nformat = \"json\"");
    let program = Program::start(&made).await;
    assert_eq!(program.get("/library/app/manifests/1").await.status, 200);
    assert_eq!(program.get("/library/app/manifests/1").await.status, 200);
    assert_eq!(program.get("/signed/app/manifests/1").await.status, 403);
    assert_eq!(request("PUT", &program.url("/library/app/manifests/1"), &[]).await.status, 405);
    let elsewhere = program.url("").replace("/v2/registry.test", "/v2/acme/app/manifests/v1?ns=other.test");
    assert_eq!(request("GET", &elsewhere, &[]).await.status, 403);
    registry.listening.stop().await;
    assert_eq!(program.get("/library/app/manifests/1").await.status, 200);
    assert_eq!(program.get("/library/app/manifests/2").await.status, 503);
    let lines = lines(&program, "request", 7).await;
    let seen = |line: &Value| -> Vec<String> {
        let keys = ["level", "http.method", "image", "upstream", "decision", "cache"];
        keys.iter().map(|key| line[*key].as_str().unwrap_or("-").to_owned()).collect()
    };
    let image = "registry.test/library/app:1";
    for (line, expected) in lines.iter().zip([
        ["INFO", "GET", image, "registry.test", "admit", "miss"],
        ["INFO", "GET", image, "registry.test", "admit", "hit"],
        ["INFO", "GET", "registry.test/signed/app:1", "registry.test", "deny", "miss"],
        ["INFO", "PUT", "-", "-", "-", "-"],
        ["INFO", "GET", "other.test/acme/app:v1", "-", "refused", "-"],
        ["INFO", "GET", image, "registry.test", "admit", "stale"],
        ["WARN", "GET", "registry.test/library/app:2", "registry.test", "error", "-"],
    ]) {
        assert_eq!(seen(line), expected, "{line}");
    }
    let reason = |line: usize| lines[line]["reason"].as_str().unwrap_or_default().to_owned();
    assert_eq!(reason(0), "");
    assert!(reason(2).contains("release: not signed"), "{}", reason(2));
    assert!(reason(4).contains("other.test is not an upstream"), "{}", reason(4));
    assert!(reason(6).contains("Connect"), "{}", reason(6));
    let metrics = request("GET", &program.admin_url("/metrics"), &[]).await.text();
    for (source, count) in [("miss", 2), ("hit", 1), ("stale", 1)] {
        let line = format!("pullgate_manifests_total{{source=\"{source}\"}} {count}\n");
        assert!(metrics.contains(&line), "{line}\n{metrics}");
    }
    assert!(metrics.contains("pullgate_request_seconds_count{endpoint=\"manifest\"} 6\n"), "{metrics}");
    assert!(metrics.contains("pullgate_denied_total{document=\"ClusterImagePolicy/default\"} 1\n"), "{metrics}");
}

/// A gate with a self-signed certificate, and a log in JSON.
fn with_tls(registry: &TestRegistry) -> TestGate {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    TestGate::new(registry, ALLOW_ALL)
        .file("tls.crt", &made.cert.pem())
        .file("tls.key", &made.signing_key.serialize_pem())
        .listener("tls = { certificate = \"tls.crt\", key = \"tls.key\" }")
        .with("[log]\nformat = \"json\"")
}

#[tokio::test]
async fn failed_tls_handshakes_are_logged_with_their_cause() {
    let registry = TestRegistry::start().await;
    let gate = with_tls(&registry);
    let program = Program::start(&gate).await;
    for _ in 0..7 {
        // A request in plain HTTP gets an answer in plain HTTP.
        assert_eq!(program.get("/library/app/manifests/1").await.status, 400);
    }
    let found = lines(&program, "TLS handshake failed", 5).await;
    assert_eq!(found[0]["client.address"], "127.0.0.1");
    assert_eq!(found.len(), 5, "the others are not logged");
    // It is counted after the answer.
    soon(async { while program.metric("pullgate_tls_handshake_failures_total").await != 7 {} }).await;
}

/// The header of a record, and the beginning of a ClientHello.
const HELLO: [u8; 10] = [0x16, 3, 1, 0, 5, 1, 0, 0, 1, 3];

/// The other way round. A client such as containerd says only that the version is wrong.
#[tokio::test]
async fn tls_that_is_spoken_to_a_listener_without_it_is_logged_with_a_hint() {
    let registry = TestRegistry::start().await;
    let gate = TestGate::new(&registry, ALLOW_ALL).with("[log]\nformat = \"json\"");
    let program = Program::start(&gate).await;
    let address = |url: String| url.split('/').nth(2).expect("an authority").parse().expect("an address");
    let (listener, admin) = (address(program.url("")), address(program.admin_url("/")));
    // Garbage is not TLS.
    raw(listener, b"\x16\x04 GET / HTTP/1.1\r\n\r\n").await;
    for to in [admin, listener, listener] {
        raw(to, &HELLO).await;
    }
    let found = lines(&program, "the client speaks TLS to a listener without TLS", 3).await;
    assert_eq!(found.len(), 3, "{found:?}");
    assert!(found.iter().all(|line| line["client.address"] == "127.0.0.1"), "{found:?}");
    assert!(found.iter().any(|line| line["listener"] == "admin"), "{found:?}");
    assert!(found[0]["hint"].as_str().is_some_and(|hint| hint.contains("http://")), "{found:?}");
    let of_admin = found.iter().find(|line| line["listener"] == "admin").and_then(|line| line["hint"].as_str());
    assert!(of_admin.is_some_and(|hint| hint.contains("has no TLS")), "{found:?}");
}

/// As by a proxy that is configured wrongly: the listener has TLS.
#[tokio::test]
async fn tls_within_tls_is_not_called_tls_to_a_listener_without_it() {
    let registry = TestRegistry::start().await;
    let gate = with_tls(&registry);
    let pem = std::fs::read(gate.path().join("tls.crt")).expect("a file");
    let program = Program::start(&gate).await;
    let address = program.url("").split('/').nth(2).unwrap().parse().unwrap();
    let mut stream = soon(connect_with(&pem, address)).await.expect("TLS");
    stream.write_all(&HELLO).await.expect("the gate reads");
    let _ = soon(stream.read_to_end(&mut Vec::new())).await;
    // What is logged later.
    raw(address, b"GET / HTTP/1.1\r\n\r\n").await;
    lines(&program, "TLS handshake failed", 1).await;
    assert!(!program.log().contains("to a listener without TLS"), "{}", program.log());
}

/// Whoever reaches the admin listener decides how often the file is read.
#[tokio::test]
async fn a_token_file_that_cannot_be_used_is_logged_with_its_cause_at_a_limited_rate() {
    let registry = TestRegistry::start().await;
    let token = "0123456789abcdef";
    let gate = TestGate::new(&registry, ALLOW_ALL).admin_token(token).with("[log]\nformat = \"json\"");
    let program = Program::start(&gate).await;
    std::fs::write(gate.path().join("token"), format!("{token}\n{token}\n")).expect("a file");
    for _ in 0..3 {
        let bearer = format!("Bearer {token}");
        let answer = request("GET", &program.admin_url("/api/v1/images"), &[("Authorization", &*bearer)]).await;
        assert_eq!(answer.status, 401);
    }
    // What is logged later.
    program.get("/library/app/manifests/1").await;
    lines(&program, "request", 1).await;
    let found = lines(&program, "admin: cannot use the token file; calls with a token are rejected", 1).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0]["why"].as_str().is_some_and(|why| why.contains("more than one line")), "{found:?}");
    assert!(found[0]["path"].as_str().is_some_and(|path| path.ends_with("/token")), "{found:?}");
}

#[tokio::test]
async fn a_failed_tls_handshake_names_the_client_behind_a_proxy() {
    let registry = TestRegistry::start().await;
    let proxied = "proxy_header = \"proxy-protocol\"\ntrusted_proxies = [\"127.0.0.1/32\"]";
    let gate = with_tls(&registry).listener(proxied);
    let program = Program::start(&gate).await;
    let address = program.url("").split('/').nth(2).unwrap().parse().unwrap();
    raw(address, b"PROXY TCP4 192.0.2.7 127.0.0.1 4711 443\r\nGET /v2/ HTTP/1.1\r\nhost: gate\r\n\r\n").await;
    let found = lines(&program, "TLS handshake failed", 1).await;
    assert_eq!(found[0]["client.address"], "192.0.2.7");
}

#[tokio::test]
async fn clients_that_ask_are_told_how_long_each_phase_took() {
    let registry = TestRegistry::start().await;
    let image = simple("timed");
    registry.push("library/app", Some("1"), &image);
    let gate = TestGate::new(&registry, ALLOW_ALL).start().await;
    let timing = async |path: &str| {
        let answer = request("GET", &gate.url(path), &[("X-Pullgate-Timing", "1")]).await;
        answer.header("server-timing").map(str::to_owned)
    };
    let first = timing("/library/app/manifests/1").await.unwrap();
    let names: Vec<&str> = first.split(", ").map(|entry| entry.split(';').next().unwrap()).collect();
    assert_eq!(names, ["select", "pin", "resolve", "evidence", "decide", "record", "total"], "{first}");
    assert!(first.split(", ").all(|entry| entry.split_once(";dur=").unwrap().1.parse::<f64>().is_ok()), "{first}");
    // A decision is repeated once what it learned is written.
    let is_repeated = async || timing("/library/app/manifests/1").await.unwrap().starts_with("total;dur=");
    soon(async { while !is_repeated().await {} }).await;
    let blob = timing(&format!("/library/app/blobs/{}", image.layers[0])).await.unwrap();
    assert!(blob.contains("open;dur="), "{blob}");
    assert_eq!(gate.get("/library/app/manifests/1").await.header("server-timing"), None);
}

/// Clients that get no answer cannot say why, so the log and the metrics do.
#[tokio::test]
async fn a_gate_without_a_free_connection_says_so() {
    let registry = TestRegistry::start().await;
    let made = TestGate::new(&registry, ALLOW_ALL).with("[limits]\nmax_connections = 1\n[log]\nformat = \"json\"");
    let program = Program::start(&made).await;
    let url = program.url("");
    let address = url.split('/').nth(2).expect("an address");
    let held = tokio::net::TcpStream::connect(address).await.expect("it listens");
    soon(async {
        let open = || async { request("GET", &program.admin_url("/metrics"), &[]).await.text() };
        while !open().await.contains("pullgate_connections_open 1\n") {}
    })
    .await;
    let waiting = tokio::net::TcpStream::connect(address).await.expect("it listens");
    let message =
        "all connections are in use, and new clients wait for one; client.address, if it is known, has the most";
    let line = lines(&program, message, 1).await.remove(0);
    assert_eq!((&line["level"], &line["client.address"]), (&"WARN".into(), &"127.0.0.1".into()), "{line}");
    assert_eq!((&line["client.connections"], &line["limits.max_connections"]), (&1.into(), &1.into()), "{line}");
    let metrics = request("GET", &program.admin_url("/metrics"), &[]).await.text();
    assert!(metrics.contains("pullgate_connections_max 1\n"), "{metrics}");
    drop((held, waiting));
}
