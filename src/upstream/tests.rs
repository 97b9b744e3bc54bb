//! The client against the sample registry on loopback.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use http::header::CONTENT_ENCODING;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::connect::{Resolver, is_private};
use super::exchange::ExchangeMetrics;
use super::*;
use crate::sample::image::{Built, Image, Layer, Tree, noise};
use crate::sample::{Access, Credentials, Fault, Listening, On, Registry};

struct World {
    registry: Registry,
    listening: Listening,
    image: Built,
    tasks: Tasks,
}

impl World {
    async fn new() -> Self {
        let (registry, tasks) = (Registry::new(), Tasks::new());
        let listening = registry.bind(SocketAddr::from(([127, 0, 0, 1], 0)), &tasks).await.unwrap();
        let image = Image::linux_amd64().layer(Layer::gzip(&Tree::new().file("a", "b"))).build();
        registry.push("team/app", Some("1"), &image);
        Self { registry, listening, image, tasks }
    }

    fn config(&self) -> Config {
        let mut config = Config::new("registry.test".parse().unwrap(), self.listening.url());
        config.attempts = 3;
        config.proxy = Some(String::new());
        config.header_timeout = Duration::from_secs(5);
        config
    }

    fn upstream(&self, config: Config) -> Arc<Upstream> {
        Arc::new(Upstream::new(config, &self.tasks, ExchangeMetrics::new(&Metrics::default())).unwrap())
    }

    fn with_credentials(&self, auth: Auth) -> Arc<Upstream> {
        self.upstream(Config { auth, ..self.config() })
    }
}

fn repository() -> Repository {
    "team/app".parse().unwrap()
}

fn tag() -> Reference {
    "1".parse().unwrap()
}

fn password(folder: &tempfile::TempDir, text: &str) -> Auth {
    let file = folder.path().join("password");
    std::fs::write(&file, format!("{text}\n")).unwrap();
    Auth::Basic { username: "robot".into(), password: Secret::File(file) }
}

#[tokio::test]
async fn manifests_blobs_and_lists() {
    let world = World::new().await;
    let upstream = world.upstream(world.config());
    let fetched = upstream.manifest(&repository(), &tag()).await.unwrap();
    assert_eq!(fetched.bytes, world.image.manifest().bytes);
    let head = upstream.head_manifest(&repository(), &tag()).await.unwrap();
    assert_eq!(head.digest, Some(world.image.root));
    let (digest, bytes) = &world.image.blobs[0];
    assert_eq!(upstream.head_blob(&repository(), digest).await.unwrap(), bytes.len() as u64);
    assert_eq!(upstream.blob_bytes(&repository(), digest, 1 << 20).await.unwrap(), bytes);
    assert!(matches!(upstream.blob_bytes(&repository(), digest, 3).await, Err(Error::TooLarge(_))));
    let tags = upstream.tags(&repository(), &Page { n: Some(1), ..Page::default() }).await.unwrap();
    assert!(tags.next.is_none() && tags.bytes.starts_with(b"{"));
    assert!(upstream.referrers(&repository(), &world.image.root, &Page::default()).await.is_ok());
    world.registry.set_referrers_api(false);
    let none = upstream.referrers(&repository(), &world.image.root, &Page::default()).await;
    assert_eq!(none.unwrap_err(), Error::NotFound);
    let missing = upstream.manifest(&repository(), &"2".parse().unwrap()).await;
    assert_eq!(missing.unwrap_err(), Error::NotFound);
}

#[tokio::test]
async fn a_blob_is_taken_up_where_it_stopped() {
    let world = World::new().await;
    let content = noise(50_000, 3);
    let digest = world.registry.put_blob("team/app", content.clone());
    let upstream = world.upstream(world.config());
    let read = async |from| {
        let mut stream = upstream.blob(&repository(), &digest, from).await.unwrap();
        let (mut bytes, start, size) = (Vec::new(), stream.from, stream.size);
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk.unwrap());
        }
        (start, size, bytes)
    };
    assert_eq!(read(0).await, (0, 50_000, content.to_vec()));
    assert_eq!(read(40_000).await, (40_000, 50_000, content[40_000..].to_vec()));
    world.registry.inject(On::blobs(), Fault::IgnoreRange);
    assert_eq!(read(40_000).await, (0, 50_000, content.to_vec()), "a 200 says that it begins anew");
}

#[tokio::test]
async fn basic_credentials_and_the_lack_of_them() {
    let world = World::new().await;
    world.registry.set_access("team/app", Access::Basic(Credentials::new("robot", "secret")));
    let error = world.upstream(world.config()).manifest(&repository(), &tag()).await.unwrap_err();
    assert!(matches!(&error, Error::Unauthorized(text) if text.contains("without credentials")), "{error}");
    let folder = tempfile::tempdir().unwrap();
    let upstream = world.with_credentials(password(&folder, "secret"));
    upstream.manifest(&repository(), &tag()).await.unwrap();
    upstream.manifest(&repository(), &tag()).await.unwrap();
    let refused = world.registry.count(|request| request.status.is_some_and(|status| status.as_u16() == 401));
    assert_eq!(refused, 2, "the second request needs no challenge");
    let error = world.with_credentials(password(&folder, "wrong")).manifest(&repository(), &tag()).await.unwrap_err();
    assert!(matches!(&error, Error::Unauthorized(text) if text.contains("that are configured")), "{error}");
    assert!(!format!("{error:?} {:?}", password(&folder, "wrong")).contains("wrong"), "a secret is never printed");
}

#[tokio::test]
async fn one_token_request_for_everyone_and_a_new_one_when_it_has_ended() {
    let world = World::new().await;
    world.registry.set_access("*", Access::Token(Credentials::new("robot", "secret")));
    let folder = tempfile::tempdir().unwrap();
    let upstream = world.with_credentials(password(&folder, "secret"));
    let held = world.registry.inject(On::path("*/token*"), Fault::Gate);
    let pulls: Vec<_> = (0..10)
        .map(|_| {
            let upstream = upstream.clone();
            world.tasks.spawn(async move { upstream.manifest(&repository(), &tag()).await.map(|_| ()) })
        })
        .collect();
    world
        .registry
        .wait_for(|requests| requests.iter().filter(|r| r.status.is_some_and(|s| s.as_u16() == 401)).count() == 10)
        .await;
    held.wait_for_hits(1).await;
    held.release();
    for pull in pulls {
        pull.await.unwrap().unwrap();
    }
    assert_eq!(world.registry.count(|request| request.path == "/token"), 1);
    world.registry.revoke_tokens();
    upstream.manifest(&repository(), &tag()).await.unwrap();
    assert_eq!(world.registry.count(|request| request.path == "/token"), 2);
}

#[tokio::test]
async fn a_token_service_elsewhere_gets_no_credentials() {
    let world = World::new().await;
    let other = World::new().await;
    world.registry.set_access("*", Access::Token(Credentials::new("robot", "secret")));
    let realm = format!("http://localhost:{}/token", other.listening.address().port());
    world.registry.set_token_realm(&realm);
    let folder = tempfile::tempdir().unwrap();
    let error = world.with_credentials(password(&folder, "secret")).manifest(&repository(), &tag()).await.unwrap_err();
    assert!(
        matches!(&error, Error::Refused(text) if text.contains("\"localhost\"") && text.contains("realms")),
        "{error}"
    );
    assert_eq!(other.registry.requests().len(), 0, "nobody even asked there");
    // Listed by the operator, it gets them.
    let listed = Config { auth: password(&folder, "secret"), realms: vec!["localhost".into()], ..world.config() };
    let _ = world.upstream(listed).manifest(&repository(), &tag()).await;
    assert!(other.registry.count(|request| request.path == "/token") > 0);
}

#[tokio::test]
async fn a_redirect_loses_the_authorization_at_another_host_and_never_leaves_tls() {
    let world = World::new().await;
    let storage = World::new().await;
    let content = noise(1000, 1);
    let digest = world.registry.put_blob("team/app", content.clone());
    storage.registry.put_blob("team/app", content.clone());
    world.registry.set_access("*", Access::Basic(Credentials::new("robot", "secret")));
    let folder = tempfile::tempdir().unwrap();
    let upstream = world.with_credentials(password(&folder, "secret"));
    upstream.manifest(&repository(), &tag()).await.unwrap();
    world.registry.inject(On::blobs(), Fault::redirect(&format!("{}{{path}}", storage.listening.url())));
    assert_eq!(upstream.blob_bytes(&repository(), &digest, 1 << 20).await.unwrap(), content);
    assert_eq!(storage.registry.count(|request| request.authorization.is_some()), 0);
    let endless = world.registry.inject(On::manifests(), Fault::redirect("{path}"));
    let error = upstream.manifest(&repository(), &tag()).await.unwrap_err();
    assert!(error.to_string().contains("redirects"), "{error}");
    endless.remove();
}

#[tokio::test]
async fn a_public_registry_cannot_send_pullgate_into_private_networks() {
    let world = World::new().await;
    let inner = World::new().await;
    let port = world.listening.address().port();
    // The registry's name resolves to something public for the check, and the connection to its own host is allowed.
    let names = vec![
        ("public.test".to_owned(), SocketAddr::from(([93, 184, 216, 34], port))),
        ("rebound.test".to_owned(), inner.listening.address()),
    ];
    let config = Config { url: format!("http://public.test:{port}"), ..world.config() };
    let sender = Exchange::with_resolver(
        config,
        &world.tasks,
        ExchangeMetrics::new(&Metrics::default()),
        Resolver::fixed(names),
    )
    .unwrap()
    .sender();
    for target in [
        inner.listening.url(),
        format!("http://rebound.test:{}", inner.listening.address().port()),
        "http://[::ffff:127.0.0.1]:1".into(),
    ] {
        let request = http::Request::get(format!("{target}/v2/")).body(http_body_util::Full::default()).unwrap();
        let error = sender.request(request).await.unwrap_err();
        assert!(matches!(&error, Error::Refused(text) if text.contains("private address")), "{target}: {error}");
    }
    assert_eq!(inner.registry.requests().len(), 0);
}

#[test]
fn private_addresses() {
    for private in [
        "127.0.0.1",
        "10.1.2.3",
        "172.16.0.1",
        "192.168.1.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "255.255.255.255",
        "224.0.0.1",
        "198.18.0.1",
        "::1",
        "::",
        "fc00::1",
        "fe80::1",
        "::ffff:10.0.0.1",
        "64:ff9b::a00:1",
        "ff02::1",
        "240.0.0.1",
    ] {
        assert!(is_private(private.parse().unwrap()), "{private}");
    }
    for public in ["93.184.216.34", "8.8.8.8", "2606:4700::1", "100.128.0.1", "172.32.0.1", "::ffff:8.8.8.8"] {
        assert!(!is_private(public.parse().unwrap()), "{public}");
    }
}

#[tokio::test]
async fn trouble_is_tried_again_and_told() {
    let world = World::new().await;
    let upstream = world.upstream(world.config());
    let get = async || upstream.manifest(&repository(), &tag()).await.map(|_| ());
    for fault in [Fault::status(StatusCode::SERVICE_UNAVAILABLE), Fault::too_many_requests(0), Fault::Close] {
        let injected = world.registry.inject(On::manifests().times(2), fault);
        assert_eq!(get().await, Ok(()));
        assert_eq!(injected.hits(), 2);
    }
    let long = world.registry.inject(On::manifests(), Fault::too_many_requests(600));
    assert_eq!(get().await, Err(Error::RateLimited { retry_after: Some(600) }));
    assert_eq!(long.hits(), 1, "a long wait is the client's");
    long.remove();
    let down = world.registry.inject(On::manifests(), Fault::status(StatusCode::BAD_GATEWAY));
    let error = get().await.unwrap_err();
    assert!(error.is_temporary() && error.to_string().contains("502"), "{error}");
    assert_eq!(down.hits(), 3, "three attempts");
    down.remove();
    let forbidden = world.registry.inject(On::manifests(), Fault::status(StatusCode::FORBIDDEN));
    assert!(matches!(get().await, Err(Error::Forbidden(_))));
    assert_eq!(forbidden.hits(), 1);
}

#[tokio::test]
async fn answers_that_are_none_are_refused() {
    let world = World::new().await;
    let upstream = world.upstream(Config {
        attempts: 1,
        header_timeout: Duration::from_millis(300),
        idle_timeout: Duration::from_millis(300),
        ..world.config()
    });
    let by_digest = Reference::Digest(world.image.root);
    let flipped = world.registry.inject(On::manifests(), Fault::Flip(5));
    assert!(matches!(upstream.manifest(&repository(), &by_digest).await, Err(Error::Digest(_))));
    flipped.remove();
    let encoded = world.registry.inject(On::manifests(), Fault::header(CONTENT_ENCODING, "gzip"));
    assert!(matches!(upstream.manifest(&repository(), &by_digest).await, Err(Error::Protocol(_))));
    encoded.remove();
    let cut = world.registry.inject(On::manifests(), Fault::Cut(10));
    assert!(matches!(upstream.manifest(&repository(), &by_digest).await, Err(Error::Unavailable(_))));
    cut.remove();
    let slow = world.registry.inject(On::manifests(), Fault::Gate);
    let error = upstream.manifest(&repository(), &by_digest).await.unwrap_err();
    assert!(error.to_string().contains("no answer within"), "{error}");
    slow.release();
    slow.remove();
    let stalled = world.registry.inject(On::manifests(), Fault::Stall(10));
    let error = upstream.manifest(&repository(), &by_digest).await.unwrap_err();
    assert!(error.to_string().contains("no byte came"), "{error}");
    stalled.release();
    stalled.remove();
    world.registry.put_manifest("team/app", Some("huge"), "application/json", vec![b' '; MAX_MANIFEST + 1]);
    assert!(matches!(upstream.manifest(&repository(), &"huge".parse().unwrap()).await, Err(Error::TooLarge(_))));
    let nowhere = world.registry.inject(On::manifests(), Fault::status(StatusCode::FOUND));
    assert!(matches!(upstream.manifest(&repository(), &by_digest).await, Err(Error::Protocol(_))));
    nowhere.remove();
}

#[tokio::test]
async fn dockers_configuration_and_credential_helpers() {
    let world = World::new().await;
    world.registry.set_access("*", Access::Basic(Credentials::new("robot", "secret")));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    // base64 of robot:secret
    std::fs::write(&file, r#"{"auths": {"registry.test": {"auth": "cm9ib3Q6c2VjcmV0"}}}"#).unwrap();
    world.with_credentials(Auth::DockerConfig { file: file.clone() }).manifest(&repository(), &tag()).await.unwrap();
    let program = folder.path().join("helper");
    let script = "#!/bin/sh\nread server\n[ \"$1 $server\" = \"get registry.test\" ] || exit 1\n\
         echo '{\"ServerURL\":\"x\",\"Username\":\"robot\",\"Secret\":\"secret\"}'\n";
    std::fs::write(&program, script).unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    let helper = Auth::Helper { program: program.display().to_string() };
    world.with_credentials(helper).manifest(&repository(), &tag()).await.unwrap();
    std::fs::write(&file, r#"{"auths": {"other.test": {}}}"#).unwrap();
    let error = world.with_credentials(Auth::DockerConfig { file }).manifest(&repository(), &tag()).await.unwrap_err();
    assert!(error.to_string().contains("has no entry for registry.test"), "{error}");
    let error =
        world.with_credentials(Auth::Helper { program: "/nowhere".into() }).manifest(&repository(), &tag()).await;
    assert!(matches!(error, Err(Error::Unauthorized(_))));
}

/// A CONNECT proxy for one connection.
async fn proxy() -> (SocketAddr, tokio::task::JoinHandle<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let served = Tasks::new().spawn(async move {
        let (mut client, _) = listener.accept().await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(client.read_u8().await.unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        let target = head.split(' ').nth(1).unwrap();
        let mut server = TcpStream::connect(target).await.unwrap();
        client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
        let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
        head
    });
    (address, served)
}

#[tokio::test]
async fn an_egress_proxy_carries_the_connection() {
    let world = World::new().await;
    let (address, served) = proxy().await;
    let config = Config { proxy: Some(format!("http://user:pw@{address}")), ..world.config() };
    {
        let upstream = world.upstream(config);
        upstream.manifest(&repository(), &tag()).await.unwrap();
    }
    let head = served.await.unwrap();
    assert!(head.starts_with(&format!("CONNECT {}", world.listening.address())), "{head}");
    assert!(head.to_lowercase().contains("proxy-authorization: basic"), "{head}");
}

#[test]
fn upstreams_are_found_by_their_names_and_names_are_theirs_alone() {
    let config = |host: &str, path: Option<&str>, alias: Option<&str>| {
        let mut config = Config::new(host.parse().unwrap(), "http://127.0.0.1:1");
        config.path = path.map(str::to_owned);
        config.aliases = alias.map(|alias| alias.parse().unwrap()).into_iter().collect();
        config
    };
    let new = |configs, default: Option<&str>| {
        let default = default.map(|host| host.parse().unwrap());
        Upstreams::new(configs, default.as_ref(), &Tasks::new(), &Metrics::default())
    };
    let all = new(
        vec![config("a.test", Some("short"), Some("alias.test")), config("b.test:5000", Some("b"), None)],
        Some("a.test"),
    )
    .unwrap();
    assert_eq!(all.by_host(&"alias.test".parse().unwrap()).unwrap().host().as_str(), "a.test");
    assert_eq!(all.by_path("short").unwrap().host().as_str(), "a.test");
    assert_eq!(all.by_path("b").unwrap().host().as_str(), "b.test:5000");
    assert!(all.by_path("c").is_none() && all.default_upstream().is_some());
    assert!(matches!(
        new(vec![config("a.test", None, None), config("a.test", None, None)], None),
        Err(ConfigError::Twice(_))
    ));
    assert!(matches!(
        new(vec![config("a.test", Some("x"), None), config("b.test", Some("x"), None)], None),
        Err(ConfigError::Twice(_))
    ));
    assert!(matches!(new(vec![config("a.test", None, None)], Some("b.test")), Err(ConfigError::Default(_))));
    let mut bad = config("a.test", None, None);
    bad.url = "ftp://x".into();
    assert!(matches!(new(vec![bad], None), Err(ConfigError::Url(_))));
}

#[test]
fn links_to_the_next_page_keep_nothing_but_the_query() {
    let page = next_page("<https://evil.example/v2/x/tags/list?n=2&last=b%2Bc>; rel=\"next\"").unwrap();
    assert_eq!((page.n, page.last.as_deref()), (Some(2), Some("b+c")));
    assert!(next_page("<https://x/?n=2>; rel=\"prev\"").is_none());
    assert!(next_page("nonsense").is_none());
}
