//! Shared by the integration tests: a sample registry on a free port, and a plain HTTP/1.1 client that exposes what
//! libraries hide (the reason phrase, malformed requests, bodies that end early). Every wait is bounded.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::future::Future;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes, BytesMut};
use pullgate::runtime::Tasks;
use pullgate::sample::{Listening, Registry};
use rustls::ServerConfig;
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// The time limit for any step of a test.
pub(crate) const TIME_LIMIT: Duration = Duration::from_secs(30);

/// The maximum size of a response, in bytes.
const MAX_ANSWER: usize = 256 * 1024 * 1024;

/// Awaits the future; fails the test after [`TIME_LIMIT`].
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(TIME_LIMIT, future).await.expect("the step finishes within the time limit")
}

/// Waits for a condition that no connection reports.
pub(crate) async fn until(is_true: impl Fn() -> bool) {
    soon(async {
        while !is_true() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
}

/// A temporary directory, removed when dropped.
pub(crate) fn temp_dir() -> tempfile::TempDir {
    tempfile::tempdir().expect("a temporary directory")
}

/// A sample registry that listens on loopback for as long as the test's runtime exists. Dereferences to [`Registry`].
pub(crate) struct TestRegistry {
    registry: Registry,
    /// Its listener; [`Listening::stop`] closes it.
    pub(crate) listening: Listening,
}

impl TestRegistry {
    /// An empty registry over plain HTTP.
    pub(crate) async fn start() -> Self {
        let registry = Registry::new();
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let listening = registry.bind(address, &Tasks::new()).await.expect("a free port");
        Self { registry, listening }
    }

    /// An empty registry over TLS, with a certificate from `ca`.
    pub(crate) async fn start_tls(ca: &TestCa) -> Self {
        let registry = Registry::new();
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a free port");
        let listening = registry.serve(listener, Some(ca.server_config()), &Tasks::new()).expect("an address");
        Self { registry, listening }
    }

    /// `http://127.0.0.1:PORT` followed by `path`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.listening.url())
    }
}

impl Deref for TestRegistry {
    type Target = Registry;

    fn deref(&self) -> &Registry {
        &self.registry
    }
}

/// A certificate authority for one test.
pub(crate) struct TestCa {
    /// The root certificate in PEM.
    pub(crate) pem: String,
    issuer: rcgen::Issuer<'static, rcgen::KeyPair>,
}

impl TestCa {
    /// Creates a root certificate.
    pub(crate) fn new() -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::default();
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let root = params.self_signed(&key).expect("a certificate");
        Self { pem: root.pem(), issuer: rcgen::Issuer::new(params, key) }
    }

    /// A server configuration with a new certificate for `127.0.0.1` and `localhost`.
    pub(crate) fn server_config(&self) -> Arc<ServerConfig> {
        let key = rcgen::KeyPair::generate().expect("a key");
        let names = ["127.0.0.1".to_owned(), "localhost".to_owned()];
        let params = rcgen::CertificateParams::new(names).expect("good names");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("the provider knows the default versions")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key);
        Arc::new(config.expect("the key matches the certificate"))
    }
}

/// Sends a GET over plain HTTP.
pub(crate) async fn get(url: &str) -> Answer {
    request("GET", url, &[]).await
}

/// Sends a HEAD over plain HTTP.
pub(crate) async fn head(url: &str) -> Answer {
    request("HEAD", url, &[]).await
}

/// Sends a request with headers and without a body over plain HTTP.
pub(crate) async fn request(method: &str, url: &str, headers: &[(&str, &str)]) -> Answer {
    Exchange::start(method, url, headers).await.finish().await
}

/// The value of a metric without labels, at the URL of the metrics.
pub(crate) async fn metric_at(url: &str, name: &str) -> u64 {
    let text = request("GET", url, &[]).await.text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is not in {text}")).parse().expect("a number")
}

/// Sends these bytes, and returns everything that the peer sends until it closes.
pub(crate) async fn raw(address: SocketAddr, bytes: &[u8]) -> Bytes {
    let mut stream = soon(TcpStream::connect(address)).await.expect("the peer listens");
    // A peer may refuse the request and close before it has read everything.
    let _ = soon(stream.write_all(bytes)).await;
    let mut answer = Vec::new();
    let _ = soon(stream.take(MAX_ANSWER as u64).read_to_end(&mut answer)).await;
    answer.into()
}

/// A complete response.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    /// The status; 0 if the connection ended before there was one.
    pub(crate) status: u16,
    /// The reason phrase.
    pub(crate) reason: String,
    /// The headers as received, with lower-case names.
    pub(crate) headers: Vec<(String, String)>,
    /// The body.
    pub(crate) body: Bytes,
    /// Whether everything promised by `Content-Length` or the chunks has arrived.
    pub(crate) complete: bool,
}

impl Answer {
    /// The first header with this name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| &**value)
    }

    /// The body as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; fails the test if it is not JSON.
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.text()))
    }
}

/// A response whose headers have arrived and whose body the test reads.
pub(crate) struct Exchange {
    stream: TcpStream,
    buffer: BytesMut,
    answer: Answer,
    /// How many bytes of the body have been read.
    taken: usize,
    head_only: bool,
}

impl Exchange {
    /// Sends the request and reads the response headers.
    pub(crate) async fn start(method: &str, url: &str, headers: &[(&str, &str)]) -> Self {
        let rest = url.strip_prefix("http://").expect("a plain HTTP URL");
        let at = rest.find('/').unwrap_or(rest.len());
        let (authority, target) = (&rest[..at], if at == rest.len() { "/" } else { &rest[at..] });
        let mut text = format!("{method} {target} HTTP/1.1\r\nhost: {authority}\r\nconnection: close\r\n");
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str("\r\n");
        let mut stream = soon(TcpStream::connect(authority)).await.expect("the peer listens");
        soon(stream.write_all(text.as_bytes())).await.expect("the peer reads");
        let mut exchange =
            Self { stream, buffer: BytesMut::new(), answer: no_answer(), taken: 0, head_only: method == "HEAD" };
        exchange.read_head().await;
        exchange
    }

    /// The response without its body.
    pub(crate) fn head(&self) -> &Answer {
        &self.answer
    }

    /// Reads the next `len` bytes of a body with `Content-Length`, or fewer at its end.
    pub(crate) async fn read(&mut self, len: usize) -> Bytes {
        while self.buffer.len() < len && self.fill().await {}
        let len = len.min(self.buffer.len());
        self.taken += len;
        self.buffer.split_to(len).freeze()
    }

    /// Reads the rest of the body. The response contains only that, and is complete if all of it arrived.
    pub(crate) async fn finish(mut self) -> Answer {
        let length: Option<usize> =
            self.answer.header("content-length").map(|length| length.parse().expect("a length"));
        let chunked = self.answer.header("transfer-encoding") == Some("chunked");
        let bodiless = self.head_only || matches!(self.answer.status, 0 | 100..200 | 204 | 304);
        match length {
            _ if bodiless => self.answer.complete = self.answer.status != 0,
            _ if chunked => while self.read_chunk().await {},
            Some(length) => {
                self.answer.body = self.read(length.saturating_sub(self.taken)).await;
                self.answer.complete = self.taken == length;
            }
            None => {
                self.answer.body = self.read(MAX_ANSWER).await;
                self.answer.complete = true;
            }
        }
        self.answer
    }

    async fn read_head(&mut self) {
        let end = loop {
            if let Some(at) = self.buffer.windows(4).position(|window| window == b"\r\n\r\n") {
                break at;
            }
            if !self.fill().await {
                return;
            }
        };
        let head = String::from_utf8_lossy(&self.buffer.split_to(end)).into_owned();
        self.buffer.advance(4);
        let mut lines = head.split("\r\n");
        let mut status = lines.next().unwrap_or_default().splitn(3, ' ').skip(1);
        self.answer.status = status.next().and_then(|code| code.parse().ok()).expect("a status line");
        self.answer.reason = status.next().unwrap_or_default().into();
        let pairs = lines.filter_map(|line| line.split_once(':'));
        self.answer.headers = pairs.map(|(name, value)| (name.to_lowercase(), value.trim().to_owned())).collect();
    }

    /// Reads one chunk (RFC 9112 §7.1). Returns false after the last, or if the connection ended.
    async fn read_chunk(&mut self) -> bool {
        let end = loop {
            if let Some(at) = self.buffer.windows(2).position(|window| window == b"\r\n") {
                break at;
            }
            if !self.fill().await {
                return false;
            }
        };
        let line = String::from_utf8_lossy(&self.buffer.split_to(end)).into_owned();
        self.buffer.advance(2);
        let len = usize::from_str_radix(line.split(';').next().unwrap_or_default(), 16).expect("a chunk's length");
        let chunk = self.read(len + 2).await;
        self.answer.complete = len == 0;
        self.answer.body = [&self.answer.body[..], &chunk[..len.min(chunk.len())]].concat().into();
        len > 0 && chunk.len() == len + 2
    }

    /// Reads more data. Returns false at the end of the connection.
    async fn fill(&mut self) -> bool {
        assert!(self.buffer.len() < MAX_ANSWER, "the response is larger than any test expects");
        matches!(soon(self.stream.read_buf(&mut self.buffer)).await, Ok(1..))
    }
}

fn no_answer() -> Answer {
    Answer { status: 0, reason: String::new(), headers: Vec::new(), body: Bytes::new(), complete: false }
}
