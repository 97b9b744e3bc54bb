//! Listeners over real sockets.

mod encrypted;
mod shares;

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
use shares::until;

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
