//! Listeners over real sockets.

use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::StatusCode;
use http_body::Frame;
use http_body_util::{BodyExt as _, Empty};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, SanType, date_time_ymd};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinHandle;
use tokio_rustls::{TlsConnector, client};

use super::*;
use crate::server::TlsError;
use crate::server::transport::identity::ClientCertificate;

/// More bytes than a socket holds.
const LARGE: usize = 32 * 1024 * 1024;
/// Longer than anything that should not time out.
const LONG: Duration = Duration::from_secs(20);
/// For limits that a test waits for.
const SHORT: Duration = Duration::from_millis(150);

/// Reports the client; `/stream` sends what the test provides, `/large` sends [`LARGE`] bytes, `/endless` never
/// ends, `/wait` waits, `/panic` panics.
#[derive(Default)]
struct Echo {
    started: Notify,
    release: Notify,
    pieces: tokio::sync::Mutex<Option<mpsc::Receiver<Bytes>>>,
}

impl Service for Echo {
    async fn call(&self, request: Request<Incoming>, client: Arc<ClientIdentity>) -> Response<Body> {
        match request.uri().path() {
            "/large" => return Response::new(Body::from("x".repeat(LARGE))),
            "/endless" => return Response::new(Body::stream(Endless)),
            "/panic" => panic!("as the test asked"),
            "/stream" => {
                let pieces = self.pieces.lock().await.take().unwrap();
                return Response::new(Body::stream(Pieces(pieces)));
            }
            "/wait" => {
                self.started.notify_one();
                self.release.notified().await;
            }
            _ => {}
        }
        let certificate = client.certificate.as_ref().and_then(|certificate| certificate.common_name.clone());
        let who = format!("{} scope={} certificate={certificate:?} tls={}", client.address, client.scope, client.tls);
        Response::new(Body::from(who))
    }
}

struct Endless;

impl http_body::Body for Endless {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(&[0; 64 * 1024])))))
    }
}

struct Pieces(mpsc::Receiver<Bytes>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = Box<dyn std::error::Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| Ok(Frame::data(piece))))
    }
}

struct Fixture {
    address: SocketAddr,
    service: Arc<Echo>,
    certificates: Certificates,
    metrics: Metrics,
    readiness: Readiness,
    tasks: Tasks,
    front: Tasks,
}

impl Fixture {
    async fn start(config: Config, limits: Limits) -> Self {
        let (metrics, readiness, tasks, front) = (Metrics::default(), Readiness::new(), Tasks::new(), Tasks::new());
        let config = Config { address: "127.0.0.1:0".to_owned(), ..config };
        let bound =
            bind(vec![config], limits, &clock(), &metrics, &readiness, &mut InheritedSockets::default()).await.unwrap();
        let (address, certificates) = (bound.addresses()[0], bound.certificates());
        let service = Arc::new(Echo::default());
        let served = ServerTasks { requests: tasks.clone(), accepting: front.clone(), front: front.clone() };
        bound.run(&service, &FileWindows::default(), &served);
        Self { address, service, certificates, metrics, readiness, tasks, front }
    }

    async fn plain(limits: Limits) -> Self {
        Self::start(Config::default(), limits).await
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// The response to a request that closes the connection, with a preamble before it and headers in it.
    async fn ask(&self, preamble: &[u8], headers: &str) -> String {
        let mut stream = self.connect().await;
        stream.write_all(preamble).await.unwrap();
        ask_and_close(stream, "/", headers).await
    }
}

fn clock() -> Clock {
    Clock::manual("2026-11-23T12:00:00Z".parse().unwrap())
}

async fn ask_and_close<IO: AsyncRead + AsyncWrite + Unpin>(mut stream: IO, path: &str, headers: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: gate\r\nConnection: close\r\n{headers}\r\n");
    let _ = stream.write_all(request.as_bytes()).await;
    rest(stream).await
}

/// Everything that still arrives; a reset also counts as the end.
async fn rest<IO: AsyncRead + Unpin>(mut stream: IO) -> String {
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(LONG, stream.read_to_end(&mut answer)).await.expect("the connection is closed");
    String::from_utf8_lossy(&answer).into_owned()
}

/// One response on a connection that stays open.
async fn ask_once(stream: &mut TcpStream, path: &str) -> String {
    stream.write_all(format!("GET {path} HTTP/1.1\r\nHost: gate\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = vec![0; 4096];
    let length = tokio::time::timeout(LONG, stream.read(&mut answer)).await.unwrap().unwrap();
    String::from_utf8_lossy(&answer[..length]).into_owned()
}

// Identity.

fn behind(proxies: &[&str], proxy_header: ProxyHeader) -> Config {
    let trusted_proxies = proxies.iter().map(|net| net.parse().unwrap()).collect();
    Config { trusted_proxies, proxy_header, ..Config::default() }
}

#[tokio::test]
async fn forwarded_addresses_are_accepted_only_from_trusted_proxies() {
    let header = "X-Forwarded-For: 192.0.2.66, 192.0.2.1, 10.1.1.1\r\nForwarded: for=192.0.2.99\r\n";
    let cases = [
        (behind(&[], ProxyHeader::XForwardedFor), "127.0.0.1 "),
        (behind(&["192.0.2.0/24"], ProxyHeader::XForwardedFor), "127.0.0.1 "),
        (behind(&["127.0.0.0/8"], ProxyHeader::XForwardedFor), "10.1.1.1 "),
        (behind(&["127.0.0.0/8", "10.0.0.0/8"], ProxyHeader::XForwardedFor), "192.0.2.1 "),
        (behind(&["127.0.0.0/8"], ProxyHeader::Forwarded), "192.0.2.99 "),
    ];
    for (config, expected) in cases {
        let shown = format!("{config:?}");
        let fixture = Fixture::start(config, Limits::default()).await;
        let answer = fixture.ask(b"", header).await;
        assert!(answer.contains(&format!("\r\n\r\n{expected}")), "{shown}: {answer}");
    }
}

#[tokio::test]
async fn the_listener_has_a_scope() {
    let config = Config { scope: Some("ci".parse().unwrap()), ..Config::default() };
    let fixture = Fixture::start(config, Limits::default()).await;
    assert!(fixture.ask(b"", "").await.contains("scope=ci"));
}

#[tokio::test]
async fn the_proxy_protocol_is_required_of_trusted_proxies() {
    let trusting = Fixture::start(behind(&["127.0.0.1/32"], ProxyHeader::ProxyProtocol), Limits::default()).await;
    let v2 = [
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x10".as_slice(),
        &[192, 0, 2, 5, 127, 0, 0, 1, 0x10, 0, 0x20, 0],
        &[0x04, 0, 1, 0],
    ]
    .concat();
    let local = b"\r\n\r\n\0\r\nQUIT\n\x20\x00\x00\x00";
    let cases: [(&[u8], &str); 5] = [
        (b"PROXY TCP4 192.0.2.4 127.0.0.1 4096 5000\r\n", "192.0.2.4 "),
        (b"PROXY TCP6 2001:db8::4 ::1 4096 5000\r\n", "2001:db8::4 "),
        (b"PROXY UNKNOWN\r\n", "127.0.0.1 "),
        (&v2, "192.0.2.5 "),
        (local, "127.0.0.1 "),
    ];
    for (preamble, expected) in cases {
        let answer = trusting.ask(preamble, "X-Forwarded-For: 192.0.2.66\r\n").await;
        assert!(answer.contains(&format!("\r\n\r\n{expected}")), "{preamble:?}: {answer}");
    }
    let long = [b"PROXY TCP4 ".as_slice(), &[b'1'; 200]].concat();
    for bad in [b"".as_slice(), b"PROXY TCP4 nonsense\r\n", &long, b"\r\n\r\n\0\r\nQUIT\n\x21\x11\xff\xff"] {
        assert_eq!(trusting.ask(bad, "").await, "", "{bad:?}");
    }
    let other = Fixture::start(behind(&["192.0.2.0/24"], ProxyHeader::ProxyProtocol), Limits::default()).await;
    let answer = other.ask(b"PROXY TCP4 192.0.2.4 127.0.0.1 4096 5000\r\n", "").await;
    assert!(answer.starts_with("HTTP/1.1 400"), "a client cannot claim to be a proxy: {answer}");
}

// Limits.

#[tokio::test]
async fn incomplete_headers_time_out() {
    let fixture = Fixture::plain(Limits { header_timeout: SHORT, ..Limits::default() }).await;
    assert_eq!(rest(fixture.connect().await).await, "", "no bytes are sent");
    let (reading, mut writing) = fixture.connect().await.into_split();
    writing.write_all(b"GET / HTTP/1.1\r\n").await.unwrap();
    let dripping = async {
        while writing.write_all(b"A: b\r\n").await.is_ok() {
            tokio::time::sleep(SHORT / 10).await;
        }
    };
    tokio::select! {
        answer = rest(reading) => assert_eq!(answer, ""),
        () = dripping => {}
    }
}

#[tokio::test]
async fn idle_connections_are_closed_and_busy_ones_are_not() {
    let limits = Limits { idle_timeout: SHORT, header_timeout: SHORT, ..Limits::default() };
    let fixture = Fixture::plain(limits).await;
    let mut stream = fixture.connect().await;
    assert!(ask_once(&mut stream, "/").await.starts_with("HTTP/1.1 200"));
    assert_eq!(rest(stream).await, "");
    let mut stream = fixture.connect().await;
    let answer = ask_once(&mut stream, "/wait");
    let release = async {
        fixture.service.started.notified().await;
        tokio::time::sleep(SHORT * 3).await;
        fixture.service.release.notify_one();
    };
    assert!(tokio::join!(answer, release).0.starts_with("HTTP/1.1 200"));
}

/// The body has been read when its end waits for the client.
#[tokio::test]
async fn clients_that_read_slowly_are_not_idle() {
    let fixture = Fixture::plain(Limits { idle_timeout: SHORT, ..Limits::default() }).await;
    let mut stream = fixture.connect().await;
    stream.write_all(b"GET /large HTTP/1.1\r\nHost: gate\r\n\r\n").await.unwrap();
    tokio::time::sleep(SHORT * 3).await;
    let answer = rest(stream).await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.len() > LARGE, "{} bytes of {LARGE}", answer.len());
}

#[tokio::test]
async fn the_idle_timeout_applies_between_requests() {
    let fixture = Fixture::plain(Limits { header_timeout: SHORT, ..Limits::default() }).await;
    let mut stream = fixture.connect().await;
    ask_once(&mut stream, "/").await;
    tokio::time::sleep(SHORT * 2).await;
    assert!(ask_once(&mut stream, "/").await.starts_with("HTTP/1.1 200"));
    stream.write_all(b"GET / HT").await.unwrap();
    assert_eq!(rest(stream).await, "", "partial headers have the shorter timeout");
}

#[tokio::test]
async fn headers_are_bounded_in_bytes_and_fields() {
    let limits = Limits { max_header_bytes: 1000, max_headers: 20, ..Limits::default() };
    let fixture = Fixture::plain(limits).await;
    let long = format!("A: {}\r\n", "b".repeat(2000));
    assert!(fixture.ask(b"", &long).await.starts_with("HTTP/1.1 431"));
    assert!(fixture.ask(b"", &"A: b\r\n".repeat(30)).await.starts_with("HTTP/1.1 431"));
    assert!(fixture.ask(b"", &"A: b\r\n".repeat(10)).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn clients_wait_beyond_the_connection_limit() {
    let fixture = Fixture::plain(Limits { max_connections: 1, ..Limits::default() }).await;
    let mut first = fixture.connect().await;
    assert!(ask_once(&mut first, "/").await.contains("connection: close"), "a crowded gate asks clients to close");
    let mut first = fixture.connect().await;
    let held = ask_once(&mut first, "/endless").await;
    assert!(held.starts_with("HTTP/1.1 200"));
    let second = ask_and_close(fixture.connect().await, "/", "");
    let mut second = std::pin::pin!(second);
    assert!(tokio::time::timeout(SHORT, second.as_mut()).await.is_err(), "no response beyond the limit");
    drop(first);
    assert!(second.await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn requests_beyond_the_limit_get_503() {
    let fixture = Fixture::plain(Limits { max_requests_in_flight: Some(1), ..Limits::default() }).await;
    let mut first = fixture.connect().await;
    let waiting = ask_once(&mut first, "/wait");
    let refused = async {
        fixture.service.started.notified().await;
        let refused = fixture.ask(b"", "").await;
        fixture.service.release.notify_one();
        refused
    };
    let (waited, refused) = tokio::join!(waiting, refused);
    assert!(waited.starts_with("HTTP/1.1 200"));
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after: 1"), "{refused}");
    assert!(fixture.ask(b"", "").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_client_beyond_its_share_of_connections_gets_503() {
    let fixture = Fixture::plain(Limits { max_connections_per_address: Some(1), ..Limits::default() }).await;
    let mut first = fixture.connect().await;
    assert!(ask_once(&mut first, "/endless").await.starts_with("HTTP/1.1 200"));
    let refused = fixture.ask(b"", "").await;
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("retry-after: 1"), "{refused}");
    assert!(refused.contains("max_connections_per_address") && refused.contains("connection: close"), "{refused}");
    drop(first);
    until(async || fixture.ask(b"", "").await.starts_with("HTTP/1.1 200")).await;
}

#[tokio::test]
async fn a_gate_that_shuts_down_says_so_to_a_client_beyond_its_share() {
    let fixture = Fixture::plain(Limits { max_connections_per_address: Some(1), ..Limits::default() }).await;
    let mut first = fixture.connect().await;
    assert!(ask_once(&mut first, "/endless").await.starts_with("HTTP/1.1 200"));
    fixture.tasks.stop();
    let refused = fixture.ask(b"", "").await;
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("shutting down"), "{refused}");
}

/// Repeats a step until it succeeds: the gate may notice the end of a connection a moment after the client. It gets that
/// moment, because a connection that follows at once counts in addition to the one before.
async fn until(step: impl AsyncFn() -> bool) {
    let repeated = async {
        while !step().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(LONG, repeated).await.expect("it succeeds in time");
}

#[tokio::test]
async fn behind_a_proxy_each_client_has_its_own_share_of_connections() {
    let limits = || Limits { max_connections_per_address: Some(1), ..Limits::default() };
    let fixture = Fixture::start(behind(&["127.0.0.1/32"], ProxyHeader::ProxyProtocol), limits()).await;
    let open = async |fixture: &Fixture, preamble: &str| {
        let mut stream = fixture.connect().await;
        stream.write_all(preamble.as_bytes()).await.unwrap();
        assert!(ask_once(&mut stream, "/endless").await.starts_with("HTTP/1.1 200"), "{preamble}");
        stream
    };
    let of = |last: u8| format!("PROXY TCP4 192.0.2.{last} 127.0.0.1 4096 5000\r\n");
    let first = open(&fixture, &of(1)).await;
    let refused = fixture.ask(of(1).as_bytes(), "").await;
    assert!(refused.starts_with("HTTP/1.1 503") && refused.contains("max_connections_per_address"), "{refused}");
    assert!(fixture.ask(of(2).as_bytes(), "").await.starts_with("HTTP/1.1 200"), "another client");
    drop(first);
    until(async || fixture.ask(of(1).as_bytes(), "").await.starts_with("HTTP/1.1 200")).await;
    // The connections of the proxy itself are those of many clients, also where it names them in a header.
    let _own = [open(&fixture, "PROXY UNKNOWN\r\n").await, open(&fixture, "PROXY UNKNOWN\r\n").await];
    let fixture = Fixture::start(behind(&["127.0.0.0/8"], ProxyHeader::XForwardedFor), limits()).await;
    let _all = [open(&fixture, "").await, open(&fixture, "").await, open(&fixture, "").await];
    let fixture = Fixture::start(behind(&["192.0.2.0/24"], ProxyHeader::XForwardedFor), limits()).await;
    let _one = open(&fixture, "").await;
    let refused = fixture.ask(b"", "X-Forwarded-For: 192.0.2.7\r\n").await;
    assert!(refused.starts_with("HTTP/1.1 503"), "a client cannot claim to be a proxy: {refused}");
}

#[tokio::test]
async fn clients_that_read_nothing_are_disconnected() {
    let fixture = Fixture::plain(Limits { write_stall_timeout: SHORT, ..Limits::default() }).await;
    let mut stream = fixture.connect().await;
    ask_once(&mut stream, "/endless").await;
    let open = || fixture.metrics.render().contains("pullgate_connections_open 0");
    tokio::time::timeout(LONG, async {
        while !open() {
            tokio::time::sleep(SHORT / 10).await;
        }
    })
    .await
    .expect("the connection is cut");
}

#[tokio::test]
async fn panics_affect_only_one_request() {
    let fixture = Fixture::plain(Limits::default()).await;
    let mut stream = fixture.connect().await;
    assert!(ask_once(&mut stream, "/panic").await.starts_with("HTTP/1.1 500"));
    assert!(ask_once(&mut stream, "/").await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn clients_are_asked_to_close_before_shutdown_and_may_send_a_last_request_after_it() {
    let fixture = Fixture::plain(Limits::default()).await;
    let mut kept = fixture.connect().await;
    assert!(!ask_once(&mut kept, "/").await.contains("connection: close"));
    fixture.tasks.announce_stop();
    let answer = ask_once(&mut kept, "/").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"), "{answer}");
    // Accepted before shutdown, but its request arrives after that.
    let mut late = fixture.connect().await;
    let accepted = || fixture.metrics.render().contains("pullgate_connections_accepted_total 2");
    tokio::time::timeout(LONG, async {
        while !accepted() {
            tokio::task::yield_now().await;
        }
    })
    .await
    .expect("it is accepted");
    fixture.tasks.stop();
    let answer = ask_once(&mut late, "/").await;
    assert!(answer.starts_with("HTTP/1.1 200") && answer.contains("connection: close"), "{answer}");
    assert!(fixture.tasks.drain(LONG).await);
}

#[tokio::test]
async fn shutdown_lets_streams_finish_and_accepts_no_more() {
    let fixture = Fixture::plain(Limits::default()).await;
    let (pieces, receiver) = mpsc::channel(1);
    *fixture.service.pieces.lock().await = Some(receiver);
    let mut stream = fixture.connect().await;
    let idle = fixture.connect().await;
    assert!(ask_once(&mut stream, "/stream").await.starts_with("HTTP/1.1 200"));
    fixture.tasks.stop();
    assert_eq!(rest(idle).await, "", "idle connections are closed immediately");
    pieces.send(Bytes::from_static(b"the last of it")).await.unwrap();
    drop(pieces);
    assert!(rest(stream).await.contains("the last of it\r\n0\r\n"), "the stream ends normally");
    assert!(fixture.tasks.drain(LONG).await);
    let mut refused = fixture.connect().await;
    let answer = ask_once(&mut refused, "/").await;
    assert!(answer.starts_with("HTTP/1.1 503") && answer.contains("retry-after: 1"), "{answer}");
    assert!(answer.contains("connection: close"), "{answer}");
    assert!(fixture.front.drain(LONG).await);
    assert!(TcpStream::connect(fixture.address).await.is_err());
}

// TLS.

struct Pki {
    dir: TempDir,
    ca: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Pki {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let ca = params.self_signed(&key).unwrap().pem();
        let pki = Self { dir: tempfile::tempdir().unwrap(), ca, issuer: Issuer::new(params, key) };
        std::fs::write(pki.path("ca.crt"), &pki.ca).unwrap();
        pki.write_server("first", 2030);
        pki
    }

    fn path(&self, file: &str) -> PathBuf {
        self.dir.path().join(file)
    }

    fn issue(&self, name: &str, names: &[&str], until: i32) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.subject_alt_names.extend(names.iter().map(|name| SanType::DnsName((*name).try_into().unwrap())));
        params.distinguished_name.push(DnType::CommonName, name);
        params.not_after = date_time_ymd(until, 1, 1);
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }

    fn write_server(&self, name: &str, until: i32) {
        let (certificate, key) = self.issue(name, &[], until);
        std::fs::write(self.path("server.crt"), certificate).unwrap();
        std::fs::write(self.path("server.key"), key).unwrap();
    }

    fn config(&self) -> Config {
        let (certificate, key) = (self.path("server.crt"), self.path("server.key"));
        Config { tls: Some(TlsConfig { certificate, key, ..TlsConfig::default() }), ..Config::default() }
    }

    fn config_with_clients(&self, names: &[(&str, &str)]) -> Config {
        let mut config = self.config();
        let tls = config.tls.as_mut().unwrap();
        tls.client_ca = Some(self.path("ca.crt"));
        tls.client_names = names.iter().map(|(name, scope)| ((*name).to_owned(), scope.parse().unwrap())).collect();
        config
    }

    async fn connect(
        &self,
        fixture: &Fixture,
        alpn: &[&str],
        identity: Option<(String, String)>,
    ) -> io::Result<client::TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(self.ca.as_bytes()).unwrap()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let builder = builder.with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = vec![CertificateDer::from_pem_slice(certificate.as_bytes()).unwrap()];
                builder.with_client_auth_cert(chain, PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap()).unwrap()
            }
        };
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let name = ServerName::try_from("localhost").unwrap();
        TlsConnector::from(Arc::new(config)).connect(name, fixture.connect().await).await
    }
}

fn server_name(stream: &client::TlsStream<TcpStream>) -> String {
    let der = &stream.get_ref().1.peer_certificates().unwrap()[0];
    ClientCertificate::parse(der).unwrap().common_name.unwrap().to_string()
}

async fn bind_error(config: Config) -> String {
    let config = Config { address: "127.0.0.1:0".to_owned(), ..config };
    let (metrics, readiness) = (Metrics::default(), Readiness::new());
    bind(vec![config], Limits::default(), &clock(), &metrics, &readiness, &mut InheritedSockets::default())
        .await
        .unwrap_err()
        .to_string()
}

#[tokio::test]
async fn renewed_certificates_are_used_from_the_next_handshake_on() {
    let pki = Pki::new();
    let fixture = Fixture::start(pki.config(), Limits::default()).await;
    let old = pki.connect(&fixture, &[], None).await.unwrap();
    assert_eq!(server_name(&old), "first");
    assert!(
        fixture.metrics.render().contains("certificate_expiry_timestamp_seconds{listener=\"127.0.0.1:0\"} 189345600")
    );
    pki.write_server("second", 2031);
    let (intermediate, _) = pki.issue("intermediate", &[], 2029);
    let chain = std::fs::read_to_string(pki.path("server.crt")).unwrap() + &intermediate;
    std::fs::write(pki.path("server.crt"), chain).unwrap();
    fixture.certificates.reload().unwrap();
    let expiry = "certificate_expiry_timestamp_seconds{listener=\"127.0.0.1:0\"} 1861920000";
    assert!(fixture.metrics.render().contains(expiry), "the first certificate of the chain to end: {expiry}");
    let new = pki.connect(&fixture, &[], None).await.unwrap();
    assert_eq!(server_name(&new), "second");
    for stream in [old, new] {
        assert!(ask_and_close(stream, "/", "").await.contains("tls=true"));
    }
}

#[tokio::test]
async fn invalid_new_certificates_keep_the_old_one_in_use() {
    let pki = Pki::new();
    let fixture = Fixture::start(pki.config(), Limits::default()).await;
    let good = std::fs::read(pki.path("server.crt")).unwrap();
    let (other, _) = pki.issue("other", &[], 2030);
    for (bad, says) in [(other.as_str(), "not the key"), ("nonsense", "no certificate"), ("", "no certificate")] {
        std::fs::write(pki.path("server.crt"), bad).unwrap();
        let errors = fixture.certificates.reload().unwrap_err();
        assert!(errors[0].to_string().contains(says), "{}", errors[0]);
        assert!(fixture.readiness.report().degraded.contains_key("certificates"));
        assert!(fixture.certificates.reload().is_err(), "the error is reported until it is fixed");
        assert_eq!(server_name(&pki.connect(&fixture, &[], None).await.unwrap()), "first");
    }
    std::fs::write(pki.path("server.crt"), good).unwrap();
    fixture.certificates.reload().unwrap();
    assert!(fixture.readiness.report().degraded.is_empty());
}

#[tokio::test]
async fn expired_certificates_prevent_startup_and_are_not_reloaded() {
    let pki = Pki::new();
    let fixture = Fixture::start(pki.config(), Limits::default()).await;
    pki.write_server("late", 2025);
    assert!(matches!(fixture.certificates.reload().unwrap_err()[0], TlsError::Expired { .. }));
    assert_eq!(server_name(&pki.connect(&fixture, &[], None).await.unwrap()), "first");
    let error = bind_error(pki.config()).await;
    assert!(error.contains("server.crt: the certificate expired on 2025-01-01T00:00:00Z"), "{error}");
}

#[tokio::test]
async fn unusable_tls_files_are_named() {
    let pki = Pki::new();
    let missing = |path: &Path| std::fs::remove_file(path).unwrap();
    missing(&pki.path("server.key"));
    assert!(bind_error(pki.config()).await.contains("server.key: No such file"));
    std::fs::write(pki.path("server.key"), "nonsense").unwrap();
    assert!(bind_error(pki.config()).await.contains("server.key: no usable private key"));
}

#[tokio::test]
async fn client_certificates_are_required_and_determine_the_scope() {
    let pki = Pki::new();
    let config = pki.config_with_clients(&[("ci.example", "ci"), ("prod.example", "prod"), ("by-name", "named")]);
    let fixture = Fixture::start(Config { scope: Some("other".parse().unwrap()), ..config }, Limits::default()).await;
    let cases = [
        ("anyone", vec!["ci.example"], "scope=ci certificate=Some(\"anyone\")"),
        ("by-name", vec![], "scope=named"),
        ("anyone", vec!["CI.example"], "scope=other"),
        ("anyone", vec!["ci.example", "prod.example"], ""),
    ];
    for (name, names, expected) in cases {
        let identity = pki.issue(name, &names, 2030);
        let stream = pki.connect(&fixture, &[], Some(identity)).await.unwrap();
        let answer = ask_and_close(stream, "/", "").await;
        assert!(answer.contains(expected) && answer.is_empty() == expected.is_empty(), "{names:?}: {answer}");
    }
    for identity in [None, Some(Pki::new().issue("stranger", &["ci.example"], 2030))] {
        // With TLS 1.3 the client learns of the refusal when it reads.
        if let Ok(stream) = pki.connect(&fixture, &[], identity).await {
            assert_eq!(ask_and_close(stream, "/", "").await, "");
        }
    }
}

#[tokio::test]
async fn http2_is_optional_and_has_lower_priority() {
    let pki = Pki::new();
    let protocol = |stream: client::TlsStream<TcpStream>| stream.get_ref().1.alpn_protocol().map(<[u8]>::to_vec);
    let off = Fixture::start(pki.config(), Limits::default()).await;
    assert_eq!(protocol(pki.connect(&off, &["h2", "http/1.1"], None).await.unwrap()), Some(b"http/1.1".to_vec()));
    assert!(pki.connect(&off, &["h2"], None).await.is_err());
    let on = Fixture::start(Config { http2: true, ..pki.config() }, Limits::default()).await;
    assert_eq!(protocol(pki.connect(&on, &["h2", "http/1.1"], None).await.unwrap()), Some(b"http/1.1".to_vec()));
    let (mut client, _) = http2_client(&pki, &on).await;
    assert_eq!(client.send_request(get("/")).await.unwrap().status(), StatusCode::OK);
}

type Http2Client = hyper::client::conn::http2::SendRequest<Empty<Bytes>>;

/// A client that uses HTTP/2, and its connection. It lets 16 KiB of a response arrive before it has read them.
async fn http2_client(pki: &Pki, fixture: &Fixture) -> (Http2Client, JoinHandle<hyper::Result<()>>) {
    let stream = pki.connect(fixture, &["h2"], None).await.unwrap();
    let mut builder = hyper::client::conn::http2::Builder::new(TokioExecutor::new());
    builder.initial_stream_window_size(16 * 1024).initial_connection_window_size(64 * 1024);
    let (client, connection) = builder.handshake(TokioIo::new(stream)).await.unwrap();
    (client, fixture.tasks.spawn(connection))
}

fn get(path: &str) -> Request<Empty<Bytes>> {
    Request::get(format!("https://localhost{path}")).body(Empty::new()).unwrap()
}

/// All requests of a connection count as one, and a connection counts before its handshake has ended.
#[tokio::test]
async fn a_client_has_a_share_of_connections_over_tls_and_http2() {
    let pki = Pki::new();
    let limits = Limits { max_connections_per_address: Some(1), ..Limits::default() };
    let fixture = Fixture::start(Config { http2: true, ..pki.config() }, limits).await;
    let (mut client, connection) = http2_client(&pki, &fixture).await;
    let endless = client.send_request(get("/endless")).await.unwrap();
    assert_eq!(client.send_request(get("/")).await.unwrap().status(), StatusCode::OK);
    let (mut second, refused) = http2_client(&pki, &fixture).await;
    let answer = second.send_request(get("/")).await.unwrap();
    assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert!(answer.headers().get("connection").is_none(), "HTTP/2 has no such header");
    let status = async |wanted: &str| match pki.connect(&fixture, &[], None).await {
        Ok(stream) => ask_and_close(stream, "/", "").await.starts_with(&format!("HTTP/1.1 {wanted}")),
        // Beyond twice its share, a client is not even answered.
        Err(_) => false,
    };
    // A connection ends when nobody uses it any more.
    drop((endless, client, second));
    connection.abort();
    refused.abort();
    until(async || status("200").await).await;
    let silent = fixture.connect().await;
    until(async || status("503").await).await;
    drop(silent);
    until(async || status("200").await).await;
}

#[tokio::test]
async fn http2_clients_that_read_nothing_time_out_but_slow_ones_do_not() {
    let timeout = Duration::from_millis(500);
    let pki = Pki::new();
    // The gate sends pings after the idle timeout. Both clients answer them.
    let limits = Limits { write_stall_timeout: timeout, idle_timeout: timeout / 5, ..Limits::default() };
    let fixture = Fixture::start(Config { http2: true, ..pki.config() }, limits).await;
    let (chunks, chunk) = mpsc::channel(1);
    chunks.send(Bytes::from(vec![0; 64 << 20])).await.unwrap();
    *fixture.service.pieces.lock().await = Some(chunk);
    let (mut slow, _connection) = http2_client(&pki, &fixture).await;
    let mut read_slowly = slow.send_request(get("/stream")).await.unwrap().into_body();
    let (mut stalled, closed) = http2_client(&pki, &fixture).await;
    let _unread =
        [stalled.send_request(get("/endless")).await.unwrap(), stalled.send_request(get("/endless")).await.unwrap()];
    let mut closed = std::pin::pin!(tokio::time::timeout(LONG, closed));
    loop {
        let frame = async {
            // A whole connection of another client between two frames is what makes this one slow.
            let other = pki.connect(&fixture, &[], None).await.unwrap();
            assert!(ask_and_close(other, "/", "").await.contains("tls=true"));
            read_slowly.frame().await.expect("the response goes on")
        };
        tokio::select! {
            ended = &mut closed => break drop(ended.expect("the client that reads nothing is disconnected")),
            frame = frame => assert!(frame.unwrap().is_data()),
        }
    }
    for _ in 0..16 {
        let frame = read_slowly.frame().await.expect("the response goes on");
        assert!(frame.unwrap().is_data(), "more arrives than was under way");
    }
}

#[tokio::test]
async fn missing_tls_handshakes_time_out() {
    let limits = Limits { tls_handshake_timeout: SHORT, ..Limits::default() };
    let fixture = Fixture::start(Pki::new().config(), limits).await;
    assert_eq!(rest(fixture.connect().await).await, "");
}
