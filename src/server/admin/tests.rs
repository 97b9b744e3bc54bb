//! The admin server over real sockets.

use serde_json::json;

use super::*;
use std::path::Path;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};

const TOKEN: &str = "0123456789abcdef0123";

/// Returns the request in the response.
struct Echo;

impl Api for Echo {
    async fn call(&self, request: ApiRequest) -> ApiResponse {
        let ApiRequest { family, method, path, query, body, caller } = request;
        let caller = match caller {
            Caller::Network(_) => "network",
            Caller::Socket { .. } => "socket",
            Caller::Token(_) => "token",
        };
        let mut echo = json!({
            "call": format!("{method} {path} {} {}", query.unwrap_or_default(), body.len()), "caller": caller,
        });
        if family == ApiFamily::Ibm {
            echo["family"] = json!("ibm");
        }
        ApiResponse::new(StatusCode::OK, &echo)
    }

    async fn transfer(&self, call: TransferCall) -> Response<Body> {
        let query = json!({"transfer": format!("{} {}", call.method, call.query)});
        json_response(ApiResponse::new(StatusCode::OK, &query))
    }
}

struct Fixture {
    address: SocketAddr,
    dir: TempDir,
    readiness: Readiness,
    tasks: Tasks,
}

impl Fixture {
    async fn start(with_token: bool) -> Self {
        Self::start_at("127.0.0.1:0", with_token).await.unwrap()
    }

    async fn start_at(address: &str, with_token: bool) -> Result<Self, AdminError> {
        let dir = tempfile::tempdir().unwrap();
        let token_file = dir.path().join("token");
        std::fs::write(&token_file, format!("{TOKEN}\n")).unwrap();
        let config = Config {
            address: address.to_owned(),
            hosts: vec!["gate.example".to_owned()],
            token_file: with_token.then_some(token_file),
            socket: dir.path().join("admin.sock"),
        };
        let (metrics, readiness, tasks) = (Metrics::default(), Readiness::new(), Tasks::new());
        let bound = bind(config, &metrics, &readiness, &mut InheritedSockets::default()).await?;
        let address = bound.address();
        bound.run(&Arc::new(Echo), &tasks);
        Ok(Self { address, dir, readiness, tasks })
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("admin.sock")
    }

    /// The status and everything after the headers. `headers` are complete lines; a `Host` is added if there is none.
    async fn ask(&self, line: &str, headers: &[&str], body: &str) -> (u16, String) {
        let stream = TcpStream::connect(("127.0.0.1", self.address.port())).await.unwrap();
        let own = format!("Host: {}", self.address);
        let has_host = headers.iter().any(|header| header.starts_with("Host"));
        let mut headers = headers.to_vec();
        if !has_host {
            headers.push(&own);
        }
        exchange(stream, line, &headers, body).await
    }

    async fn ask_socket(&self, line: &str, body: &str) -> (u16, String) {
        exchange(UnixStream::connect(self.socket()).await.unwrap(), line, &["Host: pullgate"], body).await
    }
}

async fn exchange<IO>(mut stream: IO, line: &str, headers: &[&str], body: &str) -> (u16, String)
where
    IO: AsyncRead + AsyncWrite + Unpin,
{
    let headers: String = headers.iter().filter(|header| !header.is_empty()).map(|h| format!("{h}\r\n")).collect();
    let length = body.len();
    let request = format!("{line} HTTP/1.1\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}");
    // The server may answer and close before it has read everything.
    let _ = stream.write_all(request.as_bytes()).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

#[tokio::test]
async fn health_and_metrics() {
    let fixture = Fixture::start(false).await;
    assert_eq!(fixture.ask("GET /livez", &[], "").await, (200, "ok\n".to_owned()));
    let (status, text) = fixture.ask("GET /metrics", &[], "").await;
    assert!(status == 200 && text.ends_with("# EOF\n"));
    assert_eq!(fixture.ask("POST /livez", &[], "").await.0, 405);
    assert_eq!(fixture.ask("GET /nothing", &[], "").await.0, 404);
}

/// Prometheus asks for OpenMetrics; other tools know only the older format.
#[tokio::test]
async fn metrics_have_the_format_that_the_client_asks_for() {
    let fixture = Fixture::start(false).await;
    let of_prometheus = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.1";
    for (accept, is_plain) in [
        ("text/plain;version=0.0.4", true),
        ("Text/Plain, */*;q=0.1", true),
        (of_prometheus, false),
        ("*/*", false),
        ("application/json", false),
    ] {
        let (status, text) = fixture.ask("GET /metrics", &[&format!("Accept: {accept}")], "").await;
        assert_eq!((status, text.contains("# TYPE pullgate_build_info gauge")), (200, is_plain), "{accept}: {text}");
        assert_eq!(text.ends_with("# EOF\n"), !is_plain, "{accept}");
    }
}

#[tokio::test]
async fn readiness_waits_for_guards_and_ignores_degraded_components() {
    let fixture = Fixture::start(false).await;
    let guard = fixture.readiness.block("store");
    let (status, text) = fixture.ask("GET /readyz", &[], "").await;
    assert_eq!((status, text.as_str()), (503, r#"{"ready":false,"awaited":["store"],"degraded":{}}"#));
    drop(guard);
    fixture.readiness.degraded("policy", Some("b.yaml is broken".into()));
    let (status, text) = fixture.ask("GET /readyz", &[], "").await;
    assert_eq!(status, 200);
    assert!(text.contains(r#""degraded":{"policy":"b.yaml is broken"}"#), "{text}");
}

#[tokio::test]
async fn readiness_gives_details_to_those_who_ask() {
    let fixture = Fixture::start(false).await;
    fixture.readiness.inform("trusted roots", vec!["root.json: has no end".into()]);
    let details = r#""details":{"trusted roots":["root.json: has no end"]}"#;
    for (path, is_verbose) in
        [("/readyz", false), ("/readyz?a=b", false), ("/readyz?a=b&verbose=json", true), ("/readyz?verbose=json", true)]
    {
        let (status, text) = fixture.ask(&format!("GET {path}"), &[], "").await;
        assert!(status == 200 && text.contains(details) == is_verbose, "{path}: {text}");
    }
    fixture.readiness.degraded("cache", None);
    let _guard = fixture.readiness.block("store");
    for path in ["/readyz?verbose", "/readyz?a=b&verbose=1"] {
        let (status, text) = fixture.ask(&format!("GET {path}"), &[], "").await;
        let expected = "[+]cache ok\n[-]store: not ready\ntrusted roots: root.json: has no end\nreadyz: not ready\n";
        assert_eq!((status, text.as_str()), (503, expected), "{path}");
    }
}

#[tokio::test]
async fn reads_are_open_on_loopback_and_changes_are_not() {
    let fixture = Fixture::start(false).await;
    let (status, text) = fixture.ask("GET /api/v1/images?scope=a%20b", &[], "").await;
    assert_eq!((status, text.as_str()), (200, r#"{"call":"GET images scope=a%20b 0","caller":"network"}"#));
    for method in ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"] {
        assert_eq!(fixture.ask(&format!("{method} /api/v1/exemptions"), &[], "{}").await.0, 403, "{method}");
    }
}

#[tokio::test]
async fn only_the_right_token_grants_access() {
    let fixture = Fixture::start(true).await;
    let good = format!("Authorization: Bearer {TOKEN}");
    let (status, text) = fixture.ask("POST /api/v1/exemptions", &[&good], "{}").await;
    assert_eq!((status, text.as_str()), (200, r#"{"call":"POST exemptions  2","caller":"token"}"#));
    assert_eq!(fixture.ask("POST /api/v1/exemptions", &[], "{}").await.0, 401);
    for wrong in ["Bearer 0123456789abcdef0124", "Bearer ", "Bearer", "", &format!("Digest {TOKEN}")] {
        let header = format!("Authorization: {wrong}");
        assert_eq!(fixture.ask("POST /api/v1/exemptions", &[&header], "{}").await.0, 401, "{wrong:?}");
        assert_eq!(fixture.ask("GET /api/v1/images", &[&header], "").await.0, 401, "{wrong:?}");
    }
    std::fs::write(fixture.dir.path().join("token"), "a-quite-different-token").unwrap();
    assert_eq!(fixture.ask("POST /api/v1/exemptions", &[&good], "{}").await.0, 401, "the file is read each time");
    // A start refuses these files.
    for content in [String::new(), "short".to_owned(), format!("\u{feff}{TOKEN}"), format!("{TOKEN}\u{1}")] {
        std::fs::write(fixture.dir.path().join("token"), &content).unwrap();
        let header = format!("Authorization: Bearer {content}");
        let status = fixture.ask("POST /api/v1/exemptions", &[&header], "{}").await.0;
        assert!(matches!(status, 400 | 401), "{content:?}: {status}");
    }
}

/// Any user of the machine could otherwise have private images fetched and read what is in them.
#[tokio::test]
async fn calls_that_make_the_gate_fetch_an_image_need_the_token_if_there_is_one() {
    let (with, without) = (Fixture::start(true).await, Fixture::start(false).await);
    let good = format!("Authorization: Bearer {TOKEN}");
    for (path, fetches) in [
        ("/api/v1/check?image=icr.io/acme/app:1", true),
        ("/va/api/v3/report/image/icr.io%2Facme%2Fapp%3A1", true),
        ("/va/api/v4/report/image/status/icr.io/acme/app:1", true),
        ("/va/api/v4/report/account", false),
        ("/va/api/v4/exempt/types", false),
        ("/api/v1/images", false),
    ] {
        let line = format!("GET {path}");
        assert_eq!(with.ask(&line, &[], "").await.0, if fetches { 401 } else { 200 }, "{path}");
        assert_eq!(with.ask(&line, &[&good], "").await.0, 200, "{path}");
        assert_eq!(with.ask_socket(&line, "").await.0, 200, "{path}");
        assert_eq!(without.ask(&line, &[], "").await.0, 200, "{path}");
    }
}

#[tokio::test]
async fn the_socket_may_change_things() {
    let fixture = Fixture::start(false).await;
    let (status, text) = fixture.ask_socket("DELETE /api/v1/exemptions/7", "").await;
    assert_eq!((status, text.as_str()), (200, r#"{"call":"DELETE exemptions/7  0","caller":"socket"}"#));
}

#[tokio::test]
async fn cross_origin_and_rebound_requests_are_rejected() {
    let fixture = Fixture::start(true).await;
    let port = fixture.address.port();
    let good = format!("Authorization: Bearer {TOKEN}");
    for host in [
        "evil.example",
        "localhost.evil.example",
        "gate.example.evil.example",
        "192.0.2.1",
        "",
        "a b",
        "@localhost",
        "evil@localhost",
    ] {
        let host = format!("Host: {host}");
        assert_eq!(fixture.ask("GET /livez", &[&host], "").await.0, 403, "{host}");
        assert_eq!(fixture.ask("POST /api/v1/x", &[&host, &good], "").await.0, 403, "{host}");
    }
    for host in ["localhost", &format!("localhost:{port}"), "[::1]:80", "127.0.0.1", "GATE.example:5001"] {
        assert_eq!(fixture.ask("GET /livez", &[&format!("Host: {host}")], "").await.0, 200, "{host}");
    }
    assert_eq!(fixture.ask("GET /livez", &["Host: localhost", "Host: localhost"], "").await.0, 403);
    assert_eq!(fixture.ask("GET http://evil.example/livez", &["Host: localhost"], "").await.0, 403);
    for origin in ["http://evil.example", "null", "http://127.0.0.1:1", &format!("ftp://127.0.0.1:{port}")] {
        let origin = format!("Origin: {origin}");
        assert_eq!(fixture.ask("POST /api/v1/x", &[&origin, &good], "").await.0, 403, "{origin}");
    }
    // What an image or a link of another site makes a browser send.
    for (site, is_refused) in [("cross-site", true), ("same-site", true), ("none", false), ("same-origin", false)] {
        let site = format!("Sec-Fetch-Site: {site}");
        assert_eq!(fixture.ask("GET /api/v1/x", &[&site], "").await.0 == 403, is_refused, "{site}");
    }
    let same = format!("Origin: http://127.0.0.1:{port}");
    assert_eq!(fixture.ask("POST /api/v1/x", &[&same, &good], "").await.0, 200);
}

#[tokio::test]
async fn beyond_loopback_even_reading_requires_a_token() {
    assert!(matches!(Fixture::start_at("0.0.0.0:0", false).await, Err(AdminError::Exposed { .. })));
    let fixture = Fixture::start_at("0.0.0.0:0", true).await.unwrap();
    assert_eq!(fixture.ask("GET /api/v1/images", &["Host: localhost"], "").await.0, 401);
    assert_eq!(fixture.ask("GET /readyz", &["Host: 192.0.2.1:5001"], "").await.0, 200);
    let good = format!("Authorization: Bearer {TOKEN}");
    assert_eq!(fixture.ask("GET /api/v1/images", &["Host: localhost", &good], "").await.0, 200);
}

#[tokio::test]
async fn short_or_missing_tokens_prevent_startup() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("token");
    let config = |token: &Path| Config {
        address: "127.0.0.1:0".to_owned(),
        hosts: Vec::new(),
        token_file: Some(token.to_owned()),
        socket: dir.path().join("admin.sock"),
    };
    let start =
        async || bind(config(&path), &Metrics::default(), &Readiness::new(), &mut InheritedSockets::default()).await;
    assert!(matches!(start().await, Err(AdminError::Token { .. })));
    for content in ["   short   ".to_owned(), format!("{TOKEN}\n{TOKEN}\n")] {
        std::fs::write(&path, content).unwrap();
        assert!(matches!(start().await, Err(AdminError::Token { .. })));
    }
}

#[tokio::test]
async fn oversized_bodies_are_rejected() {
    let fixture = Fixture::start(false).await;
    assert_eq!(fixture.ask_socket("PUT /api/v1/x", &"x".repeat(MAX_BODY)).await.0, 200);
    assert_eq!(fixture.ask_socket("PUT /api/v1/x", &"x".repeat(MAX_BODY + 1)).await.0, 413);
}

#[tokio::test]
async fn shutdown_removes_the_socket() {
    let fixture = Fixture::start(false).await;
    assert!(fixture.socket().exists());
    assert!(fixture.tasks.drain(Duration::from_secs(5)).await);
    assert!(!fixture.socket().exists());
}

/// Portieris sends its pull secrets by basic authentication, and IBM's SDKs a bearer token.
#[tokio::test]
async fn ibms_api_has_the_same_rules_and_its_own_errors() {
    let basic = |credentials: &str| format!("Authorization: Basic {}", BASE64_STANDARD.encode(credentials));
    let bearer = format!("Authorization: Bearer {TOKEN}");
    let path = "/va/api/v3/report/image/status/icr.io/sam/ida:may";
    let fixture = Fixture::start_at("0.0.0.0:0", true).await.unwrap();
    for (headers, status) in [
        (vec![bearer.clone()], 200),
        (vec![basic(&format!("iamapikey:{TOKEN}"))], 200),
        (vec![basic(&format!(":{TOKEN}"))], 200),
        (vec![basic("user:0123456789abcdef0124")], 401),
        (vec![basic(TOKEN)], 401),
        (vec!["Authorization: Basic !".into()], 401),
        (vec![], 401),
    ] {
        let headers: Vec<&str> = headers.iter().map(String::as_str).chain(["Host: localhost"]).collect();
        let (found, text) = fixture.ask(&format!("GET {path}"), &headers, "").await;
        assert_eq!(found, status, "{headers:?}");
        let answer: serde_json::Value = serde_json::from_str(&text).unwrap();
        let wanted = if status == 200 { json!("ibm") } else { json!(null) };
        assert_eq!(answer["family"], wanted, "{text}");
        assert_eq!(answer["errors"][0]["code"].is_string(), status != 200, "{text}");
    }
    let native = basic(&format!("user:{TOKEN}"));
    assert_eq!(fixture.ask("GET /api/v1/images", &["Host: localhost", &native], "").await.0, 401, "only for IBM");
    let local = Fixture::start(false).await;
    assert_eq!(local.ask(&format!("GET {path}"), &[], "").await.0, 200);
    let (status, text) = local.ask("POST /va/api/v4/exemptions/deleteAll", &[], "").await;
    assert_eq!(status, 403);
    assert!(text.contains(r#"{"errors":[{"code":"forbidden""#) && text.contains(r#""status_code":403"#), "{text}");
    assert_eq!(local.ask(&format!("GET {path}"), &["Host: evil.example"], "").await.0, 403);
}
