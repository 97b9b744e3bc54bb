//! Tests the client against servers and a proxy on loopback.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use http::HeaderMap;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use url::Url;

use super::redirect::UnsafeUrl;
use super::*;
use crate::runtime::Tasks;

/// An egress proxy on loopback that records the head of every CONNECT request.
pub(crate) struct ConnectProxy {
    pub(crate) address: SocketAddr,
    heads: Arc<Mutex<Vec<String>>>,
}

impl ConnectProxy {
    pub(crate) async fn start(tasks: &Tasks) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, heads) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let (connections, recorded) = (tasks.clone(), heads.clone());
        tasks.spawn(async move {
            while let Ok((mut client, _)) = listener.accept().await {
                let heads = recorded.clone();
                connections.spawn(async move {
                    let head = read_head(&mut client).await;
                    let target = head.split(' ').nth(1).unwrap().to_owned();
                    heads.lock().unwrap().push(head);
                    let mut server = TcpStream::connect(target).await.unwrap();
                    client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Self { address, heads }
    }

    pub(crate) fn heads(&self) -> Vec<String> {
        self.heads.lock().unwrap().clone()
    }
}

async fn read_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(head).unwrap()
}

/// A server that sends the same response on every connection and counts the requests.
struct CannedServer {
    address: SocketAddr,
    requests: Arc<Mutex<Vec<String>>>,
}

impl CannedServer {
    async fn start(tasks: &Tasks, answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (address, requests) = (listener.local_addr().unwrap(), Arc::new(Mutex::new(Vec::new())));
        let recorded = requests.clone();
        tasks.spawn(async move {
            let mut open = Vec::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                let head = read_head(&mut stream).await;
                recorded.lock().unwrap().push(head);
                stream.write_all(answer.as_bytes()).await.unwrap();
                open.push(stream);
            }
        });
        Self { address, requests }
    }

    fn count(&self) -> usize {
        self.requests.lock().unwrap().len()
    }
}

fn settings() -> HttpSettings {
    HttpSettings { proxy: Some(String::new()), ..HttpSettings::within(Duration::from_secs(5), Duration::from_secs(5)) }
}

fn client() -> HttpClient {
    HttpClient::new(&settings(), &Network::default()).unwrap()
}

fn get(url: &str) -> Request<Full<Bytes>> {
    Request::get(url).body(Full::default()).unwrap()
}

async fn fetch(client: &HttpClient, reach: Reach<'_>, url: &str) -> Result<(StatusCode, Bytes), HttpError> {
    client.fetch(reach, get(url), 4, Duration::from_secs(5)).await
}

#[tokio::test]
async fn bodies_are_read_up_to_the_limit() {
    let tasks = Tasks::new();
    for (answer, wanted) in [
        ("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfour", Ok("four")),
        ("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", Err(HttpError::TooLarge(4))),
        ("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nfives\r\n", Err(HttpError::TooLarge(4))),
    ] {
        let server = CannedServer::start(&tasks, answer).await;
        let fetched = fetch(&client(), Reach::Configured, &format!("http://{}/", server.address)).await;
        assert_eq!(fetched, wanted.map(|body| (StatusCode::OK, Bytes::from(body))), "{answer}");
    }
}

#[tokio::test]
async fn an_incomplete_response_ends_at_the_time_limit() {
    let tasks = Tasks::new();
    for answer in ["", "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfo"] {
        let server = CannedServer::start(&tasks, answer).await;
        let request = get(&format!("http://{}/", server.address));
        let error = client().fetch(Reach::Configured, request, 4, Duration::from_millis(200)).await.unwrap_err();
        assert_eq!(error, HttpError::NoAnswer(Duration::from_millis(200)), "{answer}");
    }
}

#[tokio::test]
async fn redirects_are_not_followed() {
    let tasks = Tasks::new();
    let target = CannedServer::start(&tasks, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let location = format!("HTTP/1.1 302 Found\r\nLocation: http://{}/\r\nContent-Length: 0\r\n\r\n", target.address);
    let server = CannedServer::start(&tasks, location.leak()).await;
    let fetched = fetch(&client(), Reach::Configured, &format!("http://{}/", server.address)).await;
    assert_eq!(fetched, Ok((StatusCode::FOUND, Bytes::new())));
    assert_eq!((server.count(), target.count()), (1, 0));
    let head = server.requests.lock().unwrap()[0].to_lowercase();
    assert!(head.contains("accept-encoding: identity") && head.contains("user-agent: pullgate/"), "{head}");
}

#[tokio::test]
async fn named_hosts_with_private_addresses_are_refused() {
    let tasks = Tasks::new();
    let server = CannedServer::start(&tasks, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let port = server.address.port();
    let network = Network::fixed(&[("public.test", "93.184.216.34"), ("inner.test", "10.0.0.7")]);
    let client = HttpClient::new(&settings(), &network).unwrap();
    for host in ["inner.test", "127.0.0.1", "[::1]"] {
        let fetched = fetch(&client, Reach::Named, &format!("http://{host}:{port}/")).await;
        assert_eq!(fetched, Err(HttpError::PrivateAddress), "{host}");
    }
    assert_eq!(server.count(), 0);
    for (reach, host) in [(Reach::Named, "public.test"), (Reach::Configured, "inner.test")] {
        fetch(&client, reach, &format!("http://{host}:{port}/")).await.unwrap();
    }
    assert_eq!(server.count(), 2);
}

/// Also a name that no DNS server is asked for, because a part of it is longer than 63 characters.
#[tokio::test]
async fn names_without_an_address_are_named_as_such() {
    let nowhere = HttpClient::new(&settings(), &Network::fixed(&[])).unwrap();
    let too_long = format!("http://{}.invalid/", "a".repeat(64));
    for (client, url) in [(nowhere, "http://public.test/"), (client(), &*too_long)] {
        let error = fetch(&client, Reach::Configured, url).await.unwrap_err();
        assert!(matches!(&error, HttpError::UnknownName(_)), "{error:?}");
        assert!(error.to_string().contains("; is the host spelled correctly"), "{error}");
    }
}

/// What is known about one service does not open the private network to hosts that another one names.
#[tokio::test]
async fn a_private_service_does_not_open_its_network_to_the_configured_host() {
    let tasks = Tasks::new();
    let server = CannedServer::start(&tasks, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let port = server.address.port();
    let network = Network::fixed(&[("public.test", "93.184.216.34"), ("inner.test", "10.0.0.7")]);
    let named_by_inner = Reach::NamedByAuxiliary("inner.test");
    for (private, opened, closed) in
        [(Reach::Auxiliary, named_by_inner, Reach::Named), (Reach::Configured, Reach::Named, named_by_inner)]
    {
        let client = HttpClient::new(&settings(), &network).unwrap();
        let inner = format!("http://inner.test:{port}/");
        fetch(&client, private, &inner).await.unwrap();
        fetch(&client, opened, &inner).await.unwrap();
        assert_eq!(fetch(&client, closed, &inner).await, Err(HttpError::PrivateAddress), "{closed:?}");
    }
}

/// A connection that one service's answer opened is not used for the answer of another one either.
#[tokio::test]
async fn a_private_service_does_not_open_its_network_to_other_services() {
    let tasks = Tasks::new();
    let server = CannedServer::start(&tasks, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n").await;
    let port = server.address.port();
    let network =
        Network::fixed(&[("public.test", "93.184.216.34"), ("inner.test", "10.0.0.7"), ("target.test", "10.0.0.8")]);
    let client = HttpClient::new(&settings(), &network).unwrap();
    for service in ["public.test", "inner.test"] {
        fetch(&client, Reach::Auxiliary, &format!("http://{service}:{port}/")).await.unwrap();
    }
    let target = format!("http://target.test:{port}/");
    fetch(&client, Reach::NamedByAuxiliary("inner.test"), &target).await.unwrap();
    let led = fetch(&client, Reach::NamedByAuxiliary("public.test"), &target).await;
    assert_eq!(led, Err(HttpError::PrivateAddress));
    assert_eq!(server.count(), 3);
}

#[test]
fn redirects_never_leave_tls() {
    let target = |from: &str, location: Option<&str>, allow_http| {
        let mut headers = HeaderMap::new();
        location.map(|location| headers.insert(header::LOCATION, location.parse().unwrap()));
        redirect_target(&from.parse().unwrap(), &headers, allow_http)
    };
    let url = |text: &str| text.parse::<Url>().unwrap();
    for (from, location, wanted) in [
        ("https://a.test/x", "/y", "https://a.test/y"),
        ("https://a.test/x", "https://b.test/", "https://b.test/"),
        ("https://a.test/x", "http://a.test/y", "https://a.test/y"),
        ("http://a.test/x", "http://b.test/", "http://b.test/"),
    ] {
        assert_eq!(target(from, Some(location), true), Ok(url(wanted)), "{from} {location}");
    }
    let leaves = target("https://a.test/", Some("http://b.test/"), true);
    assert_eq!(leaves, Err(RedirectError::LeavesHttps { to: url("http://b.test/") }));
    assert_eq!(target("http://a.test/", None, true), Err(RedirectError::NoLocation));
    assert_eq!(target("http://a.test/", Some("http://"), true), Err(RedirectError::NoUrl));
    for (location, problem) in [
        ("http://b.test/", UnsafeUrl::NotHttps),
        ("ftp://b.test/", UnsafeUrl::NotHttps),
        ("https://u:p@b.test/", UnsafeUrl::Credentials),
        ("data:x", UnsafeUrl::NoHost),
    ] {
        let refused = target("http://a.test/", Some(location), false);
        assert_eq!(refused, Err(RedirectError::Unsafe { to: url(location), problem }), "{location}");
    }
}

#[test]
fn credentials_are_sent_over_tls_or_within_this_machine() {
    for (uri, wanted) in [
        ("https://a.test/", true),
        ("http://localhost:8080/", true),
        ("http://127.0.0.1/", true),
        ("http://[::1]:80/", true),
        ("http://a.test/", false),
        ("http://10.0.0.1/", false),
        ("/path", false),
    ] {
        assert_eq!(is_confidential(&uri.parse().unwrap()), wanted, "{uri}");
    }
}

#[test]
fn unusable_settings_are_errors_without_secrets() {
    for proxy in ["https://u:hunter2@proxy:1", "socks5://u:hunter2@proxy:1", "http://"] {
        let error = HttpClient::new(&HttpSettings { proxy: Some(proxy.into()), ..settings() }, &Network::default());
        let error = error.unwrap_err();
        assert!(error == InvalidSettings::Proxy && !error.to_string().contains("hunter2"), "{error}");
    }
    let ca = Some("/does/not/exist.pem".into());
    let error = HttpClient::new(&HttpSettings { ca, ..settings() }, &Network::default()).unwrap_err();
    assert!(matches!(error, InvalidSettings::Ca { .. }), "{error}");
}
