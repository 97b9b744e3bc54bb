//! The upstream client against the sample registry on loopback.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt;
use std::sync::Arc;

use std::time::Duration;

use http::header::{self, CONTENT_ENCODING};
use tokio::net::TcpListener;

use super::*;
use crate::http_client::tests::ConnectProxy;
use crate::runtime::{Metrics, Readiness, Secret};
use crate::sample::image::{Built, Image, Layer, Tree, noise};
use crate::sample::{Access, Credentials, Fault, Listening, On, Registry};
use http::HeaderMap;

struct World {
    registry: Registry,
    listening: Listening,
    image: Built,
    tasks: Tasks,
    clock: Clock,
    readiness: Readiness,
}

impl World {
    async fn new() -> Self {
        let (registry, tasks) = (Registry::new(), Tasks::new());
        let listening = registry.bind(SocketAddr::from(([127, 0, 0, 1], 0)), &tasks).await.unwrap();
        let image = Image::linux_amd64().layer(Layer::gzip(&Tree::new().file("a", "b"))).build();
        registry.push("team/app", Some("1"), &image);
        Self { registry, listening, image, tasks, clock: Clock::system(), readiness: Readiness::new() }
    }

    fn config(&self) -> Config {
        let mut config = Config::new("registry.test".parse().unwrap(), self.listening.url());
        config.attempts = 3;
        config.proxy = Some(String::new());
        config.header_timeout = Duration::from_secs(5);
        config
    }

    fn upstream(&self, config: Config) -> Arc<Upstream> {
        self.upstream_in(config, &Network::default())
    }

    fn upstream_in(&self, config: Config, network: &Network) -> Arc<Upstream> {
        let metrics =
            (UpstreamMetrics::new(&Metrics::default(), &self.readiness), LimitMetrics::new(&Metrics::default()));
        let upstream = Upstream::new(config, (&self.tasks, &self.clock), metrics, network).unwrap();
        upstream.begin();
        Arc::new(upstream)
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
    assert_eq!(head, Some(world.image.root));
    let (digest, bytes) = &world.image.blobs[0];
    assert_eq!(upstream.head_blob(&repository(), digest, bytes.len() as u64).await.unwrap(), bytes.len() as u64);
    assert_eq!(upstream.blob_bytes(&repository(), digest, 1 << 20).await.unwrap(), bytes);
    assert!(matches!(upstream.blob_bytes(&repository(), digest, 3).await, Err(Error::TooLarge(_))));
    let mut tags = upstream.tags(&repository(), &Page { n: Some(1), ..Page::default() }).await.unwrap();
    assert!(tags.next.is_none());
    assert_eq!(tags.next().await.unwrap().unwrap(), ["1".parse().unwrap()]);
    assert!(tags.next().await.is_none());
    assert!(upstream.referrers(&repository(), &world.image.root, &Page::default()).await.is_ok());
    world.registry.set_referrers_api(false);
    let none = upstream.referrers(&repository(), &world.image.root, &Page::default()).await;
    assert_eq!(none.unwrap_err(), Error::NotFound);
    let missing = upstream.manifest(&repository(), &"2".parse().unwrap()).await;
    assert_eq!(missing.unwrap_err(), Error::NotFound);
}

#[tokio::test]
async fn interrupted_blobs_are_resumed() {
    let world = World::new().await;
    let content = noise(50_000, 3);
    let digest = world.registry.put_blob("team/app", content.clone());
    let upstream = world.upstream(world.config());
    let read = async |from| {
        let mut stream = upstream.blob(&repository(), &digest, 50_000, from).await.unwrap();
        let (mut bytes, start, size) = (Vec::new(), stream.from, stream.size);
        while let Some(chunk) = stream.next().await {
            bytes.extend_from_slice(&chunk.unwrap());
        }
        (start, size, bytes)
    };
    assert_eq!(read(0).await, (0, 50_000, content.to_vec()));
    assert_eq!(read(40_000).await, (40_000, 50_000, content[40_000..].to_vec()));
    world.registry.inject(On::blobs(), Fault::IgnoreRange);
    assert_eq!(read(40_000).await, (0, 50_000, content.to_vec()), "a 200 starts from the beginning");
}

#[tokio::test]
async fn basic_credentials_and_missing_credentials() {
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
async fn tokens_are_shared_and_renewed_after_expiry() {
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
async fn foreign_token_services_receive_no_credentials() {
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
    assert_eq!(other.registry.requests().len(), 0, "it received no request");
    // A host listed by the operator receives them.
    let listed = Config { auth: password(&folder, "secret"), realms: vec!["localhost".into()], ..world.config() };
    let _ = world.upstream(listed).manifest(&repository(), &tag()).await;
    assert!(other.registry.count(|request| request.path == "/token") > 0);
}

#[tokio::test]
async fn redirects_drop_the_authorization_and_never_leave_tls() {
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
async fn public_registries_cannot_redirect_into_private_networks() {
    let world = World::new().await;
    let inner = World::new().await;
    let (port, inner_port) = (world.listening.address().port(), inner.listening.address().port());
    let network = Network::fixed(&[
        ("public.test", "93.184.216.34"),
        ("storage.test", "93.184.216.35"),
        ("rebound.test", "10.0.0.7"),
        ("mapped.test", "::ffff:169.254.169.254"),
    ]);
    let config = Config { url: format!("http://public.test:{port}"), ..world.config() };
    let upstream = world.upstream_in(config, &network);
    for target in ["rebound.test", "mapped.test", "127.0.0.1", "[::1]", "2130706433", "0x7f.1"] {
        let away = format!("http://{target}:{inner_port}/");
        let realm = format!("Bearer realm=\"{away}token\"");
        for fault in [Fault::redirect(&away), Fault::unauthorized(&realm)] {
            let injected = world.registry.inject(On::manifests(), fault);
            let error = upstream.manifest(&repository(), &tag()).await.unwrap_err();
            assert!(matches!(&error, Error::Refused(text) if text.contains("private address")), "{target}: {error}");
            injected.remove();
        }
    }
    assert_eq!(inner.registry.requests().len(), 0);
    // Nor can a registry that it redirects to.
    let lead = format!("http://storage.test:{inner_port}{{path}}");
    let redirect = world.registry.inject(On::manifests(), Fault::redirect(&lead));
    for target in ["rebound.test", "127.0.0.1"] {
        let realm = format!("Bearer realm=\"http://{target}:{inner_port}/token\"");
        let asked = inner.registry.inject(On::manifests(), Fault::unauthorized(&realm));
        let error = upstream.manifest(&repository(), &tag()).await.unwrap_err();
        assert!(matches!(&error, Error::Refused(text) if text.contains("private address")), "{target}: {error}");
        asked.remove();
    }
    redirect.remove();
    assert_eq!(inner.registry.count(|request| request.path == "/token"), 0);
    inner.registry.clear_log();
    // Redirects to another public host are followed, and a private registry may refer to private hosts.
    world
        .registry
        .inject(On::manifests().times(1), Fault::redirect(&format!("http://storage.test:{inner_port}{{path}}")));
    upstream.manifest(&repository(), &tag()).await.unwrap();
    let private = Config { url: format!("http://rebound.test:{port}"), ..world.config() };
    world
        .registry
        .inject(On::manifests().times(1), Fault::redirect(&format!("http://mapped.test:{inner_port}{{path}}")));
    world.upstream_in(private, &network).manifest(&repository(), &tag()).await.unwrap();
    assert_eq!(inner.registry.requests().len(), 2);
}

#[tokio::test]
async fn challenges_from_storage_do_not_get_the_registrys_credentials() {
    let (world, storage) = (World::new().await, World::new().await);
    let folder = tempfile::tempdir().unwrap();
    let upstream = world.with_credentials(password(&folder, "secret"));
    let realm = format!("Bearer realm=\"{}/token\"", storage.listening.url());
    let at_home = format!("Bearer realm=\"{}/token\"", world.listening.url());
    world.registry.inject(On::manifests(), Fault::redirect(&format!("{}{{path}}", storage.listening.url())));
    for (challenge, tokens) in [("Basic", 0), (&*realm, 1), (&*at_home, 2)] {
        let asked = storage.registry.inject(On::manifests(), Fault::unauthorized(challenge));
        let error = upstream.manifest(&repository(), &tag()).await.unwrap_err();
        assert!(matches!(error, Error::Unauthorized(_)), "{error}");
        asked.remove();
        let all = [world.registry.requests(), storage.registry.requests()].concat();
        assert_eq!(all.iter().filter(|request| request.path == "/token").count(), tokens, "{all:?}");
        let sent = all.iter().filter_map(|request| request.authorization.as_deref());
        assert!(sent.clone().all(|value| value == "Bearer"), "{all:?}");
        assert!(world.registry.count(|request| request.authorization.is_some()) == 0, "{all:?}");
    }
}

#[tokio::test]
async fn failures_are_retried_and_reported() {
    let world = World::new().await;
    // A new upstream each time: after a long refusal the registry is not contacted again.
    let get = async || world.upstream(world.config()).manifest(&repository(), &tag()).await.map(|_| ());
    for fault in [Fault::status(StatusCode::SERVICE_UNAVAILABLE), Fault::too_many_requests(0), Fault::Close] {
        let injected = world.registry.inject(On::manifests().times(2), fault);
        assert_eq!(get().await, Ok(()));
        assert_eq!(injected.hits(), 2);
    }
    let long = world.registry.inject(On::manifests(), Fault::too_many_requests(600));
    assert_eq!(get().await, Err(Error::RateLimited { retry_after: Some(600) }));
    assert_eq!(long.hits(), 1, "a long wait is left to the client");
    long.remove();
    let far = Fault::status(StatusCode::SERVICE_UNAVAILABLE).with(header::RETRY_AFTER, "86400");
    let long = world.registry.inject(On::manifests(), far);
    assert!(matches!(get().await, Err(Error::Unavailable(_))));
    assert_eq!(long.hits(), 1, "nobody waits for a day");
    long.remove();
    let dated = Fault::status(StatusCode::TOO_MANY_REQUESTS)
        .with(header::DATE, "Sun, 06 Nov 1994 08:49:37 GMT")
        .with(header::RETRY_AFTER, "Sun, 06 Nov 1994 08:59:37 GMT");
    let long = world.registry.inject(On::manifests(), dated);
    assert_eq!(get().await, Err(Error::RateLimited { retry_after: Some(600) }));
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
async fn a_head_of_a_manifest_is_tried_once() {
    let world = World::new().await;
    let head = async || world.upstream(world.config()).head_manifest(&repository(), &tag()).await.map(|_| ());
    for fault in [Fault::status(StatusCode::BAD_GATEWAY), Fault::Close, Fault::status(StatusCode::NOT_FOUND)] {
        let failing = world.registry.inject(On::manifests(), fault);
        assert!(head().await.is_err());
        assert_eq!(failing.hits(), 1);
        failing.remove();
    }
    let busy = world.registry.inject(On::manifests(), Fault::too_many_requests(0));
    assert!(head().await.is_err(), "GET decides");
    assert_eq!(busy.hits(), 1);
}

/// A proxy that does not support HEAD may answer anything, with any back-off.
#[tokio::test]
async fn refused_heads_do_not_affect_gets() {
    let world = World::new().await;
    let upstream = world.upstream(world.config());
    let unavailable = Fault::status(StatusCode::SERVICE_UNAVAILABLE).with(header::RETRY_AFTER, "3600");
    let (digest, bytes) = &world.image.blobs[0];
    let size = bytes.len() as u64;
    let refused = world.registry.inject(On::any().method(Method::HEAD), unavailable);
    assert_eq!(upstream.head_blob(&repository(), digest, size).await, Ok(size));
    refused.remove();
    assert!(upstream.head_manifest(&repository(), &tag()).await.is_ok(), "nothing is on hold");
    let refused = world.registry.inject(On::any().method(Method::HEAD), Fault::too_many_requests(3600));
    for _ in 0..2 {
        assert_eq!(upstream.head_blob(&repository(), digest, size).await, Ok(size));
    }
    assert_eq!(refused.hits(), 1, "HEAD backs off for the requested time");
    upstream.manifest(&repository(), &tag()).await.unwrap();
}

#[tokio::test]
async fn client_errors_keep_their_status_unless_about_the_connection() {
    let world = World::new().await;
    let upstream = world.upstream(world.config());
    for (status, temporary, wanted) in [
        (400, false, Some(StatusCode::BAD_REQUEST)),
        (402, false, Some(StatusCode::PAYMENT_REQUIRED)),
        (406, false, Some(StatusCode::NOT_ACCEPTABLE)),
        (451, false, Some(StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS)),
        (407, false, None),
        (408, true, None),
        (421, false, None),
        (425, true, None),
    ] {
        let injected = world.registry.inject(On::manifests(), Fault::status(StatusCode::from_u16(status).unwrap()));
        let error = upstream.manifest(&repository(), &tag()).await.unwrap_err();
        let told = match &error {
            Error::Rejected { status, .. } => Some(*status),
            _ => None,
        };
        assert_eq!((told, error.is_temporary()), (wanted, temporary), "{error}");
        assert!(error.to_string().contains("(UNAVAILABLE: \"injected\")"), "{error}");
        injected.remove();
    }
}

#[tokio::test]
async fn invalid_responses_are_rejected() {
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
    assert!(error.to_string().contains("no data received"), "{error}");
    stalled.release();
    stalled.remove();
    world.registry.put_manifest("team/app", Some("huge"), "application/json", vec![b' '; MAX_MANIFEST + 1]);
    assert!(matches!(upstream.manifest(&repository(), &"huge".parse().unwrap()).await, Err(Error::TooLarge(_))));
    let nowhere = world.registry.inject(On::manifests(), Fault::status(StatusCode::FOUND));
    assert!(matches!(upstream.manifest(&repository(), &by_digest).await, Err(Error::Protocol(_))));
    nowhere.remove();
    let part = Fault::Answer { status: StatusCode::PARTIAL_CONTENT, headers: HeaderMap::new(), body: "{}".into() };
    let part = world.registry.inject(On::manifests(), part);
    assert!(
        matches!(upstream.manifest(&repository(), &tag()).await, Err(Error::Protocol(_))),
        "no range was requested"
    );
    part.remove();
}

/// The content and its digest decide; proxies change headers.
#[tokio::test]
async fn content_outweighs_labels() {
    let world = World::new().await;
    let upstream = world.upstream(world.config());
    let bytes = world.image.manifest().bytes.clone();
    let whole = format!("bytes 0-{}/{}", bytes.len() - 1, bytes.len());
    let answer = |status: u16| Fault::Answer {
        status: StatusCode::from_u16(status).unwrap(),
        headers: HeaderMap::new(),
        body: bytes.clone(),
    };
    let digests = format!("{0}, {0}", world.image.root);
    for fault in [
        Fault::header(CONTENT_DIGEST, &format!("sha256:{}", "0".repeat(64))),
        Fault::header(CONTENT_DIGEST, &digests),
        answer(203),
        answer(206).with(header::CONTENT_RANGE, &whole),
    ] {
        let injected = world.registry.inject(On::manifests(), fault);
        for reference in [tag(), Reference::Digest(world.image.root)] {
            assert_eq!(upstream.manifest(&repository(), &reference).await.unwrap().bytes, bytes);
        }
        injected.remove();
    }
    for range in ["bytes 0-4/10", "bytes 0-4/*", "bytes 5-9/10"] {
        let part = world.registry.inject(On::manifests(), answer(206).with(header::CONTENT_RANGE, range));
        assert!(matches!(upstream.manifest(&repository(), &tag()).await, Err(Error::Protocol(_))), "{range}");
        part.remove();
    }
}

#[tokio::test]
async fn registries_without_ranges_send_the_whole_blob() {
    let world = World::new().await;
    let content = noise(5000, 3);
    let digest = world.registry.put_blob("team/app", content.clone());
    for (status, asked) in [(501, 1), (500, 3), (503, 3), (429, 3)] {
        let upstream = world.upstream(world.config());
        world.registry.clear_log();
        let fault = Fault::status(StatusCode::from_u16(status).unwrap()).with(header::RETRY_AFTER, "0");
        let refused = world.registry.inject(On::blobs().times(asked), fault);
        let stream = upstream.blob(&repository(), &digest, 5000, 4000).await.unwrap();
        assert_eq!((stream.from, stream.size, refused.hits()), (0, 5000, asked), "{status}");
        refused.remove();
    }
    // However long a back-off it requests for ranges.
    let upstream = world.upstream(world.config());
    world.registry.inject(On::blobs().times(1), Fault::too_many_requests(3600));
    assert_eq!(upstream.blob(&repository(), &digest, 5000, 4000).await.unwrap().from, 0);
}

#[tokio::test]
async fn permanent_server_errors_are_reported_immediately() {
    let world = World::new().await;
    let upstream = world.upstream(world.config());
    for status in [501, 505, 506, 508, 510, 511] {
        let injected = world.registry.inject(On::manifests(), Fault::status(StatusCode::from_u16(status).unwrap()));
        let error = upstream.manifest(&repository(), &tag()).await.unwrap_err();
        let is_told = matches!(&error, Error::Rejected { status, .. } if status.as_u16() == 501);
        assert_eq!((is_told, error.is_temporary(), injected.hits()), (status == 501, false, 1), "{error}");
        assert!(error.to_string().contains("(UNAVAILABLE: \"injected\")"), "{error}");
        injected.remove();
    }
}

#[tokio::test]
async fn messages_of_token_services_are_passed_on_without_secrets() {
    let world = World::new().await;
    world.registry.set_access("*", Access::Token(Credentials::new("robot", "secret")));
    let folder = tempfile::tempdir().unwrap();
    let upstream = world.with_credentials(password(&folder, "secret"));
    for (status, body, wanted) in [
        (401, r#"{"details":"incorrect username or password"}"#, " (\"incorrect username or password\")"),
        (403, r#"{"error":"denied","error_description":"locked"}"#, " (denied: \"locked\")"),
        (400, "unknown scope", " (\"unknown scope\")"),
        (401, "secret is wrong", "that are configured"),
    ] {
        let status = StatusCode::from_u16(status).unwrap();
        let answer = Fault::Answer { status, headers: HeaderMap::new(), body: body.into() };
        let refused = world.registry.inject(On::path("*/token*"), answer);
        let error = upstream.manifest(&repository(), &tag()).await.unwrap_err();
        assert!(error.to_string().ends_with(wanted), "{error}");
        refused.remove();
    }
}

#[tokio::test]
async fn trickling_bodies_time_out() {
    let world = World::new().await;
    let upstream = world.upstream(Config { attempts: 1, body_timeout: Duration::from_millis(300), ..world.config() });
    let drip = Fault::Trickle { piece: 1, pause: Duration::from_millis(50) };
    world.registry.inject(On::manifests(), drip);
    let error = upstream.manifest(&repository(), &tag()).await.unwrap_err();
    assert!(error.to_string().contains("not complete within"), "{error}");
}

#[tokio::test]
async fn streams_have_the_announced_length() {
    let world = World::new().await;
    let digest = world.registry.put_blob("team/app", noise(1000, 7));
    let upstream = world.upstream(world.config());
    let cut = world.registry.inject(On::blobs(), Fault::Cut(600));
    let mut stream = upstream.blob(&repository(), &digest, 1000, 0).await.unwrap();
    let mut received = 0;
    let error = loop {
        match stream.next().await.expect("the end comes as an error") {
            Ok(bytes) => received += bytes.len(),
            Err(error) => break error,
        }
    };
    assert!(error.is_temporary() && received <= 600, "{error}");
    assert!(stream.next().await.is_none(), "nothing follows an error");
    cut.remove();
    assert_eq!(upstream.blob(&repository(), &digest, 999, 0).await.unwrap().size, 1000, "the response states it");
    let unstated = world.registry.inject(On::blobs().method(Method::GET), Fault::Header(header::CONTENT_LENGTH, None));
    let mut stream = upstream.blob(&repository(), &digest, 999, 0).await.unwrap();
    assert_eq!(stream.size, 999, "the manifest's size, if none is stated");
    assert!(matches!(stream.next().await, Some(Err(Error::Protocol(_)))), "more bytes than that");
    unstated.remove();
    world.registry.inject(On::blobs(), Fault::header(CONTENT_ENCODING, "gzip"));
    assert!(upstream.blob(&repository(), &digest, 1000, 0).await.is_ok(), "a label is harmless");
    let error = upstream.blob(&repository(), &digest, 999, 0).await.err().expect("an error");
    assert!(matches!(&error, Error::Protocol(text) if text.contains("gzip")), "{error}");
    assert_eq!(world.registry.count(|request| request.is("HEAD", "/blobs/")), 0, "a HEAD is not needed");
}

#[tokio::test]
async fn only_successful_heads_of_blobs_count() {
    let (world, storage) = (World::new().await, World::new().await);
    let digest = world.registry.put_blob("team/app", noise(1000, 7));
    let upstream = world.upstream(world.config());
    let (head, get) = (|| On::blobs().method(Method::HEAD), || On::blobs().method(Method::GET));
    let gets = || world.registry.count(|request| request.is("GET", "/blobs/"));
    let ask = async || upstream.head_blob(&repository(), &digest, 1000).await;
    assert_eq!((ask().await, gets()), (Ok(1000), 0));
    let statuses = [400, 401, 403, 404, 405, 500, 501, 502, 503];
    let mut faults: Vec<_> = statuses.map(|status| Fault::status(StatusCode::from_u16(status).unwrap())).into();
    faults.extend(["0", "5", "x"].map(|length| Fault::header(header::CONTENT_LENGTH, length)));
    faults.push(Fault::Header(header::CONTENT_LENGTH, None));
    faults.push(Fault::Close);
    // Signed for GET, so HEAD is refused there.
    faults.push(Fault::redirect(&format!("{}/signed", storage.listening.url())));
    storage.registry.inject(On::path("/signed"), Fault::status(StatusCode::FORBIDDEN));
    for fault in faults {
        world.registry.clear_log();
        let injected = world.registry.inject(head(), fault.clone());
        assert_eq!((ask().await, gets()), (Ok(1000), 1), "{fault:?}");
        assert_eq!(injected.hits(), 1, "{fault:?}: one HEAD, because the GET decides");
        let unsaid = world.registry.inject(get(), Fault::Header(header::CONTENT_LENGTH, None));
        assert_eq!(ask().await, Ok(1000), "the manifest says the size");
        unsaid.remove();
        let absent = world.registry.inject(get(), Fault::status(StatusCode::NOT_FOUND));
        assert_eq!(ask().await, Err(Error::NotFound), "{fault:?}");
        absent.remove();
        injected.remove();
    }
    assert_eq!(upstream.head_blob(&repository(), &digest, 999).await, Ok(1000), "it is for the caller to compare");
    world.registry.clear_log();
    let limited = world.registry.inject(head(), Fault::too_many_requests(600));
    assert_eq!((ask().await, gets(), limited.hits()), (Ok(1000), 1, 1), "a limit on HEAD does not affect GET");
    let refused = world.registry.inject(get(), Fault::too_many_requests(600));
    assert_eq!((ask().await, limited.hits()), (Err(Error::RateLimited { retry_after: Some(600) }), 1));
    assert_eq!(refused.hits(), 1, "one more request, which decides");
}

#[tokio::test]
async fn range_responses_of_registries() {
    let world = World::new().await;
    let content = noise(1000, 7);
    let digest = world.registry.put_blob("team/app", content.clone());
    let upstream = world.upstream(world.config());
    let part = |range: &str, body: &[u8]| {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_RANGE, range.parse().unwrap());
        Fault::Answer { status: StatusCode::PARTIAL_CONTENT, headers, body: Bytes::copy_from_slice(body) }
    };
    let multipart = Fault::Answer { status: StatusCode::PARTIAL_CONTENT, headers: HeaderMap::new(), body: "--".into() };
    for (fault, from, end) in [
        (part("bytes 400-999/1000", &content[400..]), 400, 1000),
        (part("bytes 400-999/*", &content[400..]), 400, 1000),
        (part("bytes 300-999/1000", &content[300..]), 300, 1000),
        // Part of the requested range: the rest is requested next.
        (part("bytes 400-499/1000", &content[400..500]), 400, 500),
        (part("bytes 500-999/1000", &content[500..]), 0, 1000),
        (part("bytes 400-999/2000", &content[400..]), 0, 1000),
        (part("bytes 400-1999/*", &content[400..]), 0, 1000),
        (part("bytes 0-99/1000", &content[..100]), 0, 1000),
        (multipart, 0, 1000),
        (Fault::status(StatusCode::RANGE_NOT_SATISFIABLE), 0, 1000),
        (Fault::status(StatusCode::BAD_REQUEST), 0, 1000),
        (Fault::status(StatusCode::FORBIDDEN), 0, 1000),
        (Fault::IgnoreRange, 0, 1000),
    ] {
        let injected = world.registry.inject(On::blobs().times(1), fault.clone());
        let mut stream = upstream.blob(&repository(), &digest, 1000, 400).await.unwrap();
        assert_eq!((stream.from, stream.size), (from, 1000), "{fault:?}");
        let mut bytes = Vec::new();
        while let Some(piece) = stream.next().await {
            bytes.extend_from_slice(&piece.unwrap());
        }
        assert_eq!(bytes, &content[from as usize..end], "{fault:?}");
        injected.remove();
    }
    let refused = world.registry.inject(On::blobs(), Fault::status(StatusCode::RANGE_NOT_SATISFIABLE));
    assert!(upstream.blob(&repository(), &digest, 1000, 0).await.is_err(), "no range was requested");
    refused.remove();
    world.registry.inject(On::blobs(), Fault::status(StatusCode::BAD_GATEWAY));
    let error = upstream.blob(&repository(), &digest, 1000, 400).await.err().expect("an error");
    assert!(error.is_temporary(), "{error}");
}

fn gzip(bytes: &[u8]) -> Bytes {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    std::io::Write::write_all(&mut encoder, bytes).unwrap();
    encoder.finish().unwrap().into()
}

#[tokio::test]
async fn content_decides_not_its_label() {
    let world = World::new().await;
    let upstream = world.upstream(world.config());
    let (digest, blob) = &world.image.blobs[0];
    let get = async || {
        let manifest = upstream.manifest(&repository(), &tag()).await.map(|fetched| fetched.bytes);
        assert_eq!(manifest.unwrap(), world.image.manifest().bytes);
        assert_eq!(upstream.blob_bytes(&repository(), digest, 1 << 20).await.unwrap(), blob);
        assert!(upstream.tags(&repository(), &Page::default()).await.is_ok());
    };
    get().await;
    for label in ["gzip", "x-gzip", "aws-chunked", "br", "identity", "nonsense, gzip", ""] {
        let labelled = world.registry.inject(On::any(), Fault::header(CONTENT_ENCODING, label));
        get().await;
        labelled.remove();
    }
    for (path, plain) in [("*/manifests/*", &world.image.manifest().bytes), (&*format!("*/blobs/{digest}"), blob)] {
        let packed = Fault::Answer { status: StatusCode::OK, headers: HeaderMap::new(), body: gzip(plain) };
        world.registry.inject(On::path(path), packed.with(CONTENT_ENCODING, "gzip"));
    }
    get().await;
    let packed =
        Fault::Answer { status: StatusCode::OK, headers: HeaderMap::new(), body: gzip(br#"{"tags":["a","b"]}"#) };
    world.registry.inject(On::path("*/tags/list"), packed);
    let mut list = upstream.tags(&repository(), &Page::default()).await.unwrap();
    assert_eq!(list.next().await.unwrap().unwrap(), ["a", "b"].map(|tag| tag.parse().unwrap()));
    assert!(list.next().await.is_none());
    let bomb =
        Fault::Answer { status: StatusCode::OK, headers: HeaderMap::new(), body: gzip(&vec![b' '; MAX_MANIFEST + 1]) };
    world.registry.clear_faults();
    world.registry.inject(On::manifests(), bomb);
    assert!(matches!(upstream.manifest(&repository(), &tag()).await, Err(Error::Protocol(_))));
}

#[tokio::test]
async fn rejected_tokens_are_renewed_once() {
    let world = World::new().await;
    world.registry.set_access("*", Access::AnonymousToken);
    let tokens = || world.registry.count(|request| request.path == "/token");
    let bare = || Fault::status(StatusCode::UNAUTHORIZED);
    let others = [StatusCode::BAD_REQUEST, StatusCode::FORBIDDEN].map(Fault::status);
    for (fault, again) in [bare()].into_iter().zip([1]).chain(others.into_iter().zip([0, 0])) {
        let upstream = world.upstream(world.config());
        let get = async || upstream.manifest(&repository(), &tag()).await.map(|_| ());
        get().await.unwrap();
        get().await.unwrap();
        world.registry.clear_log();
        let dead = world.registry.inject(On::manifests().times(1), fault.clone());
        assert_eq!((get().await, tokens()), (Ok(()), 1), "{fault:?}");
        assert_eq!((get().await, tokens()), (Ok(()), 1), "the new token is kept");
        dead.remove();
        let refused = world.registry.inject(On::manifests(), fault.clone());
        let error = get().await.unwrap_err();
        assert_eq!(refused.hits(), 2, "{fault:?}: then the rejection counts");
        assert!(!error.is_temporary(), "{error}");
        refused.remove();
        let before = tokens();
        assert_eq!((get().await, tokens() - before), (Ok(()), again), "{fault:?}: a 401 says that the token is dead");
    }
    // Without a token there is nothing to renew.
    let upstream = world.upstream(world.config());
    world.registry.clear_log();
    let refused = world.registry.inject(On::manifests(), Fault::status(StatusCode::FORBIDDEN));
    assert!(matches!(upstream.manifest(&repository(), &tag()).await, Err(Error::Forbidden(_))));
    assert_eq!((refused.hits(), tokens()), (1, 0));
}

/// A registry whose token service is at `/login` and redirects from there.
async fn with_login(access: Access) -> World {
    let world = World::new().await;
    world.registry.set_access("*", access);
    world.registry.set_token_realm(&format!("{}/login", world.listening.url()));
    world
}

const TOKEN_QUERY: &str = "/token?service=sample&scope=repository%3Ateam%2Fapp%3Apull";

fn moved(status: u16, location: &str) -> Fault {
    Fault::status(StatusCode::from_u16(status).unwrap()).with(header::LOCATION, location)
}

#[tokio::test]
async fn token_services_may_redirect_to_themselves() {
    let folder = tempfile::tempdir().unwrap();
    for status in [301, 302, 303, 307, 308] {
        let world = with_login(Access::Token(Credentials::new("robot", "secret"))).await;
        world.registry.inject(On::path("/login"), moved(status, TOKEN_QUERY));
        let upstream = world.with_credentials(password(&folder, "secret"));
        upstream.manifest(&repository(), &tag()).await.unwrap();
    }
    let world = with_login(Access::AnonymousToken).await;
    world.registry.inject(On::path("/login"), moved(307, "/login"));
    let error = world.upstream(world.config()).manifest(&repository(), &tag()).await.unwrap_err();
    assert!(error.to_string().contains("five times"), "{error}");
    world.registry.clear_faults();
    world.registry.inject(On::path("/login"), Fault::status(StatusCode::FOUND));
    let error = world.upstream(world.config()).manifest(&repository(), &tag()).await.unwrap_err();
    assert!(matches!(error, Error::Protocol(_)), "{error}");
}

#[tokio::test]
async fn redirects_of_token_services_drop_credentials() {
    let other = World::new().await;
    other.registry.set_access("*", Access::AnonymousToken);
    let away = format!("http://localhost:{}{TOKEN_QUERY}", other.listening.address().port());
    let folder = tempfile::tempdir().unwrap();
    let world = with_login(Access::Token(Credentials::new("robot", "secret"))).await;
    world.registry.inject(On::path("/login"), moved(307, &away));
    let error = world.with_credentials(password(&folder, "secret")).manifest(&repository(), &tag()).await.unwrap_err();
    assert!(matches!(&error, Error::Refused(text) if text.contains("realms")), "{error}");
    assert_eq!(other.registry.requests().len(), 0, "it received no request");
    // Without credentials the redirect is harmless.
    let _ = world.upstream(world.config()).manifest(&repository(), &tag()).await;
    assert_eq!(other.registry.count(|request| request.path == "/token" && request.authorization.is_none()), 1);
}

#[tokio::test]
async fn refresh_tokens_are_posted_after_a_redirect_or_not_at_all() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("config.json");
    std::fs::write(&file, r#"{"auths": {"http://registry.test/": {"auth": null, "identitytoken": "r"}}}"#).unwrap();
    for (status, posted) in [(301, 1), (302, 1), (303, 0), (307, 1), (308, 1)] {
        let world = with_login(Access::Token(Credentials::new("robot", "secret"))).await;
        world.registry.inject(On::path("/login"), moved(status, "/token"));
        let upstream = world.with_credentials(Auth::DockerConfig { file: file.clone() });
        assert!(upstream.manifest(&repository(), &tag()).await.is_err(), "the sample registry knows no POST");
        let methods = |path: &str| {
            let all = world.registry.requests();
            all.iter().filter(|request| request.path == path).map(|request| request.method.clone()).collect::<Vec<_>>()
        };
        assert_eq!(
            (methods("/login"), methods("/token")),
            (vec![Method::POST], vec![Method::POST; posted]),
            "{status}"
        );
    }
}

#[tokio::test]
async fn token_services_named_with_http_are_contacted_with_https() {
    let world = World::new().await;
    let (own, pem) = tls_registry(&world).await;
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, pem).unwrap();
    world.registry.set_access("*", Access::Token(Credentials::new("robot", "secret")));
    let auth = password(&folder, "secret");
    let config = Config { url: format!("https://{}", own.address()), ca: Some(ca), auth, ..world.config() };
    for realm in ["token", "login"] {
        world.registry.set_token_realm(&format!("http://{}/{realm}", own.address()));
        let by_http = format!("http://{}{TOKEN_QUERY}", own.address());
        world.registry.inject(On::path("/login"), moved(301, &by_http));
        // A plain HTTP request to this port gets no response.
        world.upstream(config.clone()).manifest(&repository(), &tag()).await.unwrap();
    }
    let plain = format!("http://localhost:{}{TOKEN_QUERY}", world.listening.address().port());
    world.registry.clear_faults();
    world.registry.clear_log();
    world.registry.inject(On::path("/login"), moved(301, &plain));
    let error = world.upstream(config).manifest(&repository(), &tag()).await.unwrap_err();
    assert!(matches!(error, Error::Refused(_)), "{error}");
    assert_eq!(world.registry.count(|request| request.path == "/token"), 0);
}

#[tokio::test]
async fn redirects_to_other_registries_use_separate_tokens() {
    let (world, other) = (World::new().await, World::new().await);
    other.registry.push("team/app", Some("1"), &world.image);
    other.registry.set_access("*", Access::AnonymousToken);
    world.registry.set_access("*", Access::Token(Credentials::new("robot", "secret")));
    let folder = tempfile::tempdir().unwrap();
    let upstream = world.with_credentials(password(&folder, "secret"));
    world.registry.inject(On::path("/v2/*"), Fault::redirect(&format!("{}{{path}}", other.listening.url())));
    let (digest, bytes) = &world.image.blobs[0];
    let get = async || {
        upstream.manifest(&repository(), &tag()).await?;
        upstream.head_manifest(&repository(), &tag()).await?;
        upstream.head_blob(&repository(), digest, bytes.len() as u64).await?;
        upstream.blob_bytes(&repository(), digest, 1 << 20).await?;
        upstream.tags(&repository(), &Page::default()).await.map(|_| ())
    };
    get().await.unwrap();
    assert_eq!(other.registry.count(|request| request.path == "/token"), 1, "one token for all requests");
    other.registry.revoke_tokens();
    get().await.unwrap();
    let sent = |registry: &Registry| -> Vec<_> {
        registry.requests().into_iter().filter_map(|request| request.authorization).collect()
    };
    assert!(sent(&world.registry).is_empty(), "another registry's token is not for this one");
    assert!(
        sent(&other.registry).iter().all(|value| value == "Bearer"),
        "credentials are not sent to the other registry"
    );
    for access in [Access::Token(Credentials::new("x", "y")), Access::Basic(Credentials::new("x", "y"))] {
        other.registry.set_access("*", access);
        other.registry.revoke_tokens();
        let error = get().await.unwrap_err();
        assert!(matches!(&error, Error::Unauthorized(text) if text.contains("leads to 127.0.0.1")), "{error}");
    }
    assert!(
        sent(&other.registry).iter().all(|value| value == "Bearer"),
        "credentials are not sent to the other registry"
    );
}

#[tokio::test]
async fn podman_repository_entries_apply_to_their_repository() {
    let world = World::new().await;
    world.registry.push("team/other", Some("1"), &world.image);
    for (name, user) in [("team/app", "robot"), ("team/other", "all")] {
        world.registry.set_access(name, Access::Basic(Credentials::new(user, "secret")));
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("auth.json");
    let entry = |user: &str| serde_json::json!({"auth": "", "username": user, "password": "secret"});
    let auths = serde_json::json!({"auths": {"registry.test": entry("all"), "registry.test/team/app": entry("robot")}});
    std::fs::write(&file, auths.to_string()).unwrap();
    let upstream = world.with_credentials(Auth::DockerConfig { file });
    for name in ["team/app", "team/other"] {
        upstream.manifest(&name.parse().unwrap(), &tag()).await.unwrap();
    }
}

#[tokio::test]
async fn missing_referrers_apis_are_recognised() {
    let world = World::new().await;
    let upstream = world.upstream(Config { attempts: 1, ..world.config() });
    let get = async || upstream.referrers(&repository(), &world.image.root, &Page::default()).await.map(|_| ());
    let on = || On::path("*/referrers/*");
    for status in [404, 400, 405, 406, 410, 501].map(|status| StatusCode::from_u16(status).unwrap()) {
        let absent = world.registry.inject(on(), Fault::status(status));
        assert_eq!(get().await, Err(Error::NotFound), "{status}");
        absent.remove();
    }
    let page = Fault::Answer { status: StatusCode::OK, headers: HeaderMap::new(), body: "<html>".into() };
    let page = world.registry.inject(on(), page);
    assert_eq!(get().await, Err(Error::NotFound), "a page for people");
    page.remove();
    let answer = |label: &str, body: &'static str| {
        let answer = Fault::Answer { status: StatusCode::OK, headers: HeaderMap::new(), body: body.into() };
        answer.with(header::CONTENT_TYPE, label)
    };
    for fault in [
        Fault::status(StatusCode::UNAUTHORIZED),
        Fault::status(StatusCode::FORBIDDEN),
        Fault::status(StatusCode::CONFLICT),
        Fault::status(StatusCode::TOO_MANY_REQUESTS),
        Fault::status(StatusCode::BAD_GATEWAY),
        Fault::header(header::LINK, "<?n=1>; rel=\"next\""),
        Fault::header(header::LINK, "<?n=x>; rel=\"next\""),
        Fault::header(header::LINK, "nonsense"),
        answer(media_type::OCI_INDEX, "<html>"),
        answer("text/html", "{}"),
    ] {
        let unclear = world.registry.inject(on(), fault.clone());
        let page = Page { n: Some(1), ..Page::default() };
        let list = upstream.referrers(&repository(), &world.image.root, &page).await;
        assert!(list.as_ref().is_err_and(|error| *error != Error::NotFound), "{fault:?}: {list:?}");
        unclear.remove();
    }
    for label in ["text/plain", "application/json", "text/html"] {
        let labelled = world.registry.inject(on(), Fault::header(header::CONTENT_TYPE, label));
        assert_eq!(get().await, Ok(()), "lists are recognised with any label: {label}");
        labelled.remove();
    }
}

#[tokio::test]
async fn tag_lists_are_complete_or_errors() {
    let world = World::new().await;
    let upstream = world.upstream(Config { attempts: 1, ..world.config() });
    let all = async || {
        let mut list = upstream.tags(&repository(), &Page::default()).await?;
        let mut count = 0;
        while let Some(tags) = list.next().await {
            count += tags?.len();
        }
        Ok(count)
    };
    assert_eq!(all().await, Ok(1));
    let tags = || On::path("*/tags/list");
    for (link, body) in [
        ("<?n=x>; rel=\"next\"", r#"{"tags":["a"]}"#),
        ("</v2/other>; rel=\"next\"", r#"{"tags":["a"]}"#),
        ("", "<html>"),
        ("", "{}"),
        ("", r#"{"tags":["a","#),
    ] {
        let answer = Fault::Answer { status: StatusCode::OK, headers: HeaderMap::new(), body: body.into() };
        let wrong = world.registry.inject(tags(), answer.with(header::LINK, link));
        assert!(matches!(all().await, Err(Error::Protocol(_))), "{link} {body}");
        wrong.remove();
    }
    let cut = world.registry.inject(tags(), Fault::Cut(10));
    assert!(matches!(all().await, Err(Error::Unavailable(_))));
    cut.remove();
    // The turn is released, whatever happened to the lists.
    for _ in 0..100 {
        assert_eq!(all().await, Ok(1));
    }
}

#[tokio::test]
async fn stalled_tag_lists_time_out() {
    let world = World::new().await;
    let limits = Config { attempts: 1, body_timeout: Duration::from_millis(100), ..world.config() };
    let upstream = world.upstream(limits);
    let stalled = world.registry.inject(On::path("*/tags/list"), Fault::Stall(10));
    let mut list = upstream.tags(&repository(), &Page::default()).await.unwrap();
    assert!(matches!(list.next().await, Some(Err(Error::Unavailable(_)))));
    assert!(list.next().await.is_none(), "nothing follows an error");
    stalled.release();
}

/// A certificate for 127.0.0.1 and localhost, and a server that uses it.
async fn tls_registry(world: &World) -> (Listening, String) {
    let made = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned(), "localhost".to_owned()]).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let key = rustls::pki_types::PrivatePkcs8KeyDer::from(made.signing_key.serialize_der());
    let server = rustls::ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key.into())
        .unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let listening = world.registry.serve(listener, Some(Arc::new(server)), &world.tasks).unwrap();
    (listening, made.cert.pem())
}

#[tokio::test]
async fn certificates_are_verified_except_for_insecure_hosts() {
    let (world, storage) = (World::new().await, World::new().await);
    let ((own, pem), (other, _)) = (tls_registry(&world).await, tls_registry(&storage).await);
    let folder = tempfile::tempdir().unwrap();
    let ca = folder.path().join("ca.pem");
    std::fs::write(&ca, pem).unwrap();
    let config = Config { url: format!("https://{}", own.address()), attempts: 1, ..world.config() };
    let get = async |config: Config| world.upstream(config).manifest(&repository(), &tag()).await.map(|_| ());
    get(Config { ca: Some(ca), ..config.clone() }).await.unwrap();
    let error = get(config.clone()).await.unwrap_err();
    assert!(matches!(&error, Error::Unavailable(text) if text.contains("certificate")), "{error}");
    assert!(error.to_string().contains("name its file as `ca`"), "{error}");
    let insecure = Config { insecure: true, ..config.clone() };
    get(insecure.clone()).await.unwrap();
    let to = |scheme: &str, port: u16| Fault::redirect(&format!("{scheme}://localhost:{port}{{path}}"));
    world.registry.inject(On::manifests().times(1), to("https", other.address().port()));
    let error = get(insecure).await.unwrap_err();
    assert!(matches!(&error, Error::Unavailable(text) if text.contains("certificate")), "{error}");
    let insecure = Config { insecure: true, ..config };
    world.registry.inject(On::manifests().times(1), to("http", storage.listening.address().port()));
    assert!(matches!(get(insecure).await, Err(Error::Refused(_))), "never from https to http");
    assert_eq!(storage.registry.requests().len(), 0);
}

/// A portal or a log-in page has an answer for every path.
#[tokio::test]
async fn a_web_page_is_no_registry() {
    let world = World::new().await;
    let upstream = world.upstream(world.config());
    assert!(!upstream.ping().await.unwrap(), "it asks for no credentials");
    let page = Fault::header(header::CONTENT_TYPE, "Text/HTML; charset=utf-8");
    world.registry.inject(On::path("/v2/"), page);
    let error = upstream.ping().await.unwrap_err().to_string();
    assert!(error.contains("answers /v2/ with a web page"), "{error}");
}

/// As `openssl s_server` and many load balancers do. Others answer in their own way: `tests/gate/hints.rs`.
#[tokio::test]
async fn a_server_that_hangs_up_may_expect_tls() {
    use tokio::io::AsyncReadExt as _;
    let (world, listener) = (World::new().await, TcpListener::bind("127.0.0.1:0").await.unwrap());
    let address = listener.local_addr().unwrap();
    let upstream = world.upstream(Config { url: format!("http://{address}"), attempts: 1, ..world.config() });
    let (repository, tag) = (repository(), tag());
    let hang_up = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        assert!(stream.read(&mut [0; 4096]).await.unwrap() > 0);
    };
    let (answer, ()) = tokio::join!(upstream.manifest(&repository, &tag), hang_up);
    let error = answer.unwrap_err().to_string();
    assert!(error.ends_with(&format!("; if it expects TLS, set `url` to https://{address}")), "{error}");
}

#[tokio::test]
async fn missing_tls_handshakes_time_out() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let world = World::new().await;
    let upstream = world.upstream(Config {
        url: format!("https://{}", listener.local_addr().unwrap()),
        attempts: 1,
        insecure: true,
        connect_timeout: Duration::from_millis(100),
        tls_timeout: Duration::from_millis(100),
        ..world.config()
    });
    let error = upstream.manifest(&repository(), &tag()).await.unwrap_err();
    assert!(error.to_string().contains("no TLS connection within"), "{error}");
}

#[tokio::test]
async fn helpers_run_once_and_output_of_failed_ones_is_ignored() {
    let world = World::new().await;
    world.registry.set_access("*", Access::Basic(Credentials::new("robot", "secret")));
    let folder = tempfile::tempdir().unwrap();
    let (program, runs) = (folder.path().join("helper"), folder.path().join("runs"));
    let write = |end: &str| {
        let answer = r#"{"Username":"robot","Secret":"secret"}"#;
        let script = format!("#!/bin/sh\ncat >/dev/null\necho x >>{}\necho '{answer}'\n{end}\n", runs.display());
        std::fs::write(&program, script).unwrap();
        std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o700)).unwrap();
    };
    write("exit 1");
    let upstream = world.with_credentials(Auth::Helper { program: program.display().to_string() });
    assert!(matches!(upstream.manifest(&repository(), &tag()).await, Err(Error::Unauthorized(_))));
    std::fs::remove_file(&runs).unwrap();
    write("");
    let gate = world.registry.inject(On::manifests(), Fault::Gate);
    let pulls: Vec<_> = (0..8)
        .map(|_| {
            let upstream = upstream.clone();
            world.tasks.spawn(async move { upstream.manifest(&repository(), &tag()).await.map(|_| ()) })
        })
        .collect();
    gate.wait_for_hits(8).await;
    gate.release();
    for pull in pulls {
        pull.await.unwrap().unwrap();
    }
    assert_eq!(std::fs::read_to_string(&runs).unwrap(), "x\n");
}

#[tokio::test]
async fn changed_passwords_are_reloaded() {
    let world = World::new().await;
    let folder = tempfile::tempdir().unwrap();
    let upstream = world.with_credentials(password(&folder, "old"));
    for secret in ["old", "new"] {
        world.registry.set_access("*", Access::Basic(Credentials::new("robot", secret)));
        password(&folder, secret);
        upstream.manifest(&repository(), &tag()).await.unwrap();
    }
}

#[test]
fn passwords_are_never_printed() {
    let host: Host = "a.test".parse().unwrap();
    let new = |config: Config| {
        Upstreams::new(vec![config], None, (&Tasks::new(), &Clock::system()), &Metrics::default(), &Readiness::new())
            .err()
            .unwrap()
    };
    for proxy in ["https://u:hunter2@proxy:1", "socks5://u:hunter2@proxy:1", "http://"] {
        let config = Config { proxy: Some(proxy.into()), ..Config::new(host.clone(), "http://a.test") };
        assert!(!format!("{config:?}").contains("hunter2"));
        let error = new(config);
        assert!(matches!(error, ConfigError::Proxy(_)) && !error.to_string().contains("hunter2"), "{error}");
    }
    for url in ["https://u:hunter2@a.test", "https://a.test/?x", "https://a.test/#x", "ftp://a.test", "a.test", ""] {
        let error = new(Config::new(host.clone(), url));
        assert!(matches!(error, ConfigError::Url(_)) && !error.to_string().contains("hunter2"), "{error}");
    }
}

#[tokio::test]
async fn requests_are_counted_by_status() {
    let (world, metrics) = (World::new().await, Metrics::default());
    let config = world.config();
    let upstreams =
        Upstreams::new(vec![config], None, (&world.tasks, &world.clock), &metrics, &world.readiness).unwrap();
    let upstream = upstreams.by_path("registry.test").unwrap();
    world.registry.inject(On::manifests().times(1), Fault::status(StatusCode::from_u16(599).unwrap()));
    upstream.manifest(&repository(), &tag()).await.unwrap();
    let text = metrics.render();
    for status in ["200", "other"] {
        let line =
            format!("upstream_requests_total{{upstream=\"registry.test\",method=\"GET\",status=\"{status}\"}} 1");
        assert!(text.contains(&line), "{text}");
    }
    assert!(text.contains("pullgate_upstream_request_seconds_count{upstream=\"registry.test\"} 2"), "{text}");
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
    for text in [
        r#"{"auths": {"registry.test": {"auth": "cm9ib3Q6\nc2VjcmV0\n"}, "other.test": {"auth": 7}}}"#,
        r#"{"registry.test": {"auth": "cm9ib3Q6c2VjcmV0AA"}}"#,
    ] {
        std::fs::write(&file, text).unwrap();
        let upstream = world.with_credentials(Auth::DockerConfig { file: file.clone() });
        upstream.manifest(&repository(), &tag()).await.unwrap();
    }
    std::fs::write(&file, r#"{"auths": {"registry.test": {"auth": 7}}}"#).unwrap();
    let upstream = world.with_credentials(Auth::DockerConfig { file: file.clone() });
    let error = upstream.manifest(&repository(), &tag()).await.unwrap_err();
    assert!(error.to_string().contains("is malformed"), "{error}");
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

#[tokio::test]
async fn egress_proxies_carry_connections() {
    let world = World::new().await;
    let proxy = ConnectProxy::start(&world.tasks).await;
    let config = Config { proxy: Some(format!("http://user:pw@{}", proxy.address)), ..world.config() };
    world.upstream(config).manifest(&repository(), &tag()).await.unwrap();
    let head = proxy.heads().remove(0);
    assert!(head.starts_with(&format!("CONNECT {}", world.listening.address())), "{head}");
    assert!(head.to_lowercase().contains("proxy-authorization: basic"), "{head}");
}

#[test]
fn replaced_upstreams_keep_the_clients_that_did_not_change() {
    let config = |host: &str| Config::new(host.parse().unwrap(), "http://127.0.0.1:1");
    let (metrics, readiness) = (Metrics::default(), Readiness::new());
    let down = Config { offline: true, ..config("offline.test") };
    let first = vec![config("a.test"), config("b.test"), down.clone()];
    let all = Upstreams::new(first.clone(), None, (&Tasks::new(), &Clock::system()), &metrics, &readiness).unwrap();
    let client = |host: &str| all.by_host(&host.parse().unwrap());
    let (a, b) = (client("a.test").unwrap(), client("b.test").unwrap());
    let up = |host: &str| metrics.render().contains(&format!("pullgate_upstream_up{{upstream=\"{host}\"}} 1"));
    assert!(up("a.test") && up("b.test") && !up("offline.test"), "nothing is known of an upstream that is offline");
    let same = all.prepare(first, None).unwrap();
    assert!(!all.replace(same), "nothing has changed");
    let slower = Config { attempts: 1, ..config("b.test") };
    assert!(all.prepare(vec![config("a.test"), config("a.test")], None).is_err());
    let table = all.prepare(vec![config("a.test"), slower, config("c.test")], None).unwrap();
    assert!(!up("c.test"), "it is not in use yet");
    assert!(all.replace(table));
    assert!(up("c.test") && client("offline.test").is_none());
    assert!(all.replace(all.prepare(vec![config("a.test")], None).unwrap()));
    assert!(up("a.test") && !up("b.test") && !readiness.report().healthy.contains(&"upstream b.test".to_owned()));
    let table = all.prepare(vec![config("a.test"), config("b.test"), config("c.test")], None).unwrap();
    assert!(all.replace(table));
    assert!(Arc::ptr_eq(&a, &client("a.test").unwrap()), "its tokens and limits are kept");
    assert!(!Arc::ptr_eq(&b, &client("b.test").unwrap()) && client("c.test").is_some());
}

#[test]
fn upstreams_are_found_by_their_unique_names() {
    let config = |host: &str, path: Option<&str>, alias: Option<&str>| {
        let mut config = Config::new(host.parse().unwrap(), "http://127.0.0.1:1");
        config.path = path.map(str::to_owned);
        config.aliases = alias.map(|alias| alias.parse().unwrap()).into_iter().collect();
        config
    };
    let new = |configs, default: Option<&str>| {
        let default = default.map(|host| host.parse().unwrap());
        Upstreams::new(
            configs,
            default.as_ref(),
            (&Tasks::new(), &Clock::system()),
            &Metrics::default(),
            &Readiness::new(),
        )
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

#[tokio::test]
async fn concurrent_requests_are_limited_until_their_last_byte() {
    let world = World::new().await;
    let upstream = world.upstream(Config {
        max_connections: 2,
        attempts: 1,
        header_timeout: Duration::from_millis(200),
        ..world.config()
    });
    let digest = world.registry.put_blob("team/app", noise(1000, 7));
    let get = async || upstream.manifest(&repository(), &tag()).await.map(|_| ());
    let mut streams = Vec::new();
    for _ in 0..2 {
        streams.push(upstream.blob(&repository(), &digest, 1000, 0).await.unwrap());
    }
    let error = get().await.unwrap_err();
    assert!(matches!(&error, Error::Busy(why) if why.contains("max_connections")), "{error}");
    assert_eq!(world.registry.count(|request| request.is("GET", "/manifests/")), 0);
    while let Some(piece) = streams[0].next().await {
        piece.unwrap();
    }
    get().await.unwrap();
    drop(streams);
    world.registry.inject(On::manifests().times(1), Fault::status(StatusCode::BAD_GATEWAY));
    assert!(get().await.is_err());
    let _streams =
        [upstream.blob(&repository(), &digest, 1000, 0).await, upstream.blob(&repository(), &digest, 1000, 0).await]
            .map(|stream| stream.expect("a failure releases its turn"));
}

/// However many attempts are configured: its clients do not wait for all of them.
#[tokio::test]
async fn silent_registries_are_not_tried_as_often_as_others() {
    let world = World::new().await;
    let upstream =
        world.upstream(Config { attempts: 10, header_timeout: Duration::from_millis(100), ..world.config() });
    let held = world.registry.inject(On::any(), Fault::Gate);
    let digest = Digest::sha256(b"x");
    assert!(matches!(upstream.manifest(&repository(), &tag()).await, Err(Error::Unavailable(_))));
    assert!(matches!(upstream.head_blob(&repository(), &digest, 1).await, Err(Error::Unavailable(_))));
    let asked = world.registry.count(|request| request.path.contains("/team/app/"));
    assert!(asked <= 6, "{asked}");
    held.release();
}

#[tokio::test]
async fn token_requests_need_no_turn() {
    let world = World::new().await;
    world.registry.set_access("*", Access::Token(Credentials::new("robot", "secret")));
    let folder = tempfile::tempdir().unwrap();
    let auth = password(&folder, "secret");
    let upstream = world.upstream(Config { max_connections: 1, attempts: 1, auth, ..world.config() });
    upstream.manifest(&repository(), &tag()).await.unwrap();
    let digest = world.registry.put_blob("team/app", noise(1000, 7));
    world.registry.inject(On::blobs().method(Method::HEAD), Fault::status(StatusCode::NOT_FOUND));
    assert_eq!(upstream.head_blob(&repository(), &digest, 1000).await, Ok(1000), "one after the other");
}

#[tokio::test]
async fn bodies_respect_the_bandwidth_limit() {
    let world = World::new().await;
    let slow = Config { max_bandwidth: Some(1), body_timeout: Duration::from_millis(100), ..world.config() };
    let upstream = world.upstream(Config { attempts: 1, ..slow });
    let error = upstream.manifest(&repository(), &tag()).await.unwrap_err();
    assert!(error.to_string().contains("not complete within"), "{error}");
    let digest = world.registry.put_blob("team/app", noise(1000, 7));
    let mut stream = upstream.blob(&repository(), &digest, 1000, 0).await.unwrap();
    assert!(tokio::time::timeout(Duration::from_millis(100), stream.next()).await.is_err());
}

/// Without a `Date`, only the clock of the gate says how long that is.
#[tokio::test]
async fn a_date_to_retry_at_is_compared_with_the_clock_of_the_gate() {
    let clock = Clock::manual("1994-11-06T08:49:37Z".parse().unwrap());
    let world = World { clock, ..World::new().await };
    let dated = Fault::status(StatusCode::TOO_MANY_REQUESTS)
        .with(header::DATE, "unknown")
        .with(header::RETRY_AFTER, "Sun, 06 Nov 1994 08:59:37 GMT");
    world.registry.inject(On::manifests(), dated);
    let got = world.upstream(world.config()).manifest(&repository(), &tag()).await.map(|_| ());
    assert_eq!(got, Err(Error::RateLimited { retry_after: Some(600) }));
}

#[tokio::test]
async fn only_pulls_use_the_pull_budget() {
    let world = World::new().await;
    let upstream = world.upstream(Config { pull_limit: Some(2), ..world.config() });
    let get = async || upstream.manifest(&repository(), &tag()).await.map(|_| ());
    world.registry.inject(On::manifests().times(1), Fault::status(StatusCode::BAD_GATEWAY));
    assert_eq!(get().await, Ok(()));
    let refused = get().await.unwrap_err();
    assert!(matches!(refused, Error::RateLimited { retry_after: Some(seconds) } if seconds > 21_000), "{refused:?}");
    assert_eq!(world.registry.count(|request| request.is("GET", "/manifests/")), 2, "each attempt counts");
    upstream.head_manifest(&repository(), &tag()).await.unwrap();
    upstream.blob_bytes(&repository(), &world.image.blobs[0].0, 1 << 20).await.unwrap();
    upstream.tags(&repository(), &Page::default()).await.unwrap();
}

#[tokio::test]
async fn refused_registries_are_not_contacted_during_the_back_off() {
    let world = World::new().await;
    let digest = world.image.blobs[0].0;
    for (on, fault) in [
        (On::manifests().method(Method::GET), Fault::too_many_requests(600)),
        (
            On::manifests().method(Method::GET),
            Fault::status(StatusCode::SERVICE_UNAVAILABLE).with(header::RETRY_AFTER, "600"),
        ),
        (On::manifests().method(Method::HEAD), Fault::too_many_requests(600)),
        (On::blobs().method(Method::GET), Fault::too_many_requests(600)),
    ] {
        let upstream = world.upstream(world.config());
        let ask = async || {
            [
                upstream.manifest(&repository(), &tag()).await.map(|_| ()),
                upstream.head_manifest(&repository(), &tag()).await.map(|_| ()),
                upstream.blob_bytes(&repository(), &digest, 1 << 20).await.map(|_| ()),
            ]
        };
        let refusal = world.registry.inject(on.clone(), fault);
        let first = ask().await;
        assert_eq!(first.iter().filter(|outcome| outcome.is_err()).count(), 1, "{on:?} {first:?}");
        for outcome in first.iter().zip(ask().await) {
            match outcome {
                (Ok(()), second) => assert_eq!(second, Ok(()), "{on:?}"),
                (Err(_), second) => {
                    assert!(matches!(second, Err(Error::RateLimited { retry_after: Some(590..=600) })), "{second:?}");
                }
            }
        }
        assert_eq!(refusal.hits(), 1, "{on:?}: no further request");
        refusal.remove();
    }
}

#[tokio::test]
async fn refusals_by_storage_are_not_the_registrys() {
    let (world, storage) = (World::new().await, World::new().await);
    let upstream = world.upstream(Config { attempts: 1, ..world.config() });
    world.registry.inject(On::blobs(), Fault::redirect(&format!("{}{{path}}", storage.listening.url())));
    let refusal = storage.registry.inject(On::blobs().times(1), Fault::too_many_requests(600));
    let digest = world.image.blobs[0].0;
    storage.registry.push("team/app", None, &world.image);
    assert!(upstream.blob_bytes(&repository(), &digest, 1 << 20).await.is_err());
    assert_eq!(refusal.hits(), 1);
    upstream.blob_bytes(&repository(), &digest, 1 << 20).await.unwrap();
}

#[tokio::test]
async fn the_first_success_ends_the_back_off() {
    let world = World::new().await;
    let upstream = world.upstream(world.config());
    let (slow, refused) = (world.image.blobs[0].0, world.registry.put_blob("team/app", noise(1000, 7)));
    let get = async |digest| upstream.blob_bytes(&repository(), &digest, 1 << 20).await.map(|_| ());
    let held = world.registry.inject(On::path(&format!("*{slow}")), Fault::Gate);
    let refusal = world.registry.inject(On::path(&format!("*{refused}")).times(1), Fault::too_many_requests(600));
    let ((), slow) = tokio::join!(
        async {
            held.wait_for_hits(1).await;
            for _ in 0..2 {
                assert!(matches!(get(refused).await, Err(Error::RateLimited { .. })));
            }
            held.release();
        },
        get(slow)
    );
    slow.unwrap();
    assert_eq!((refusal.hits(), get(refused).await), (1, Ok(())));
}

#[tokio::test]
async fn quota_and_requests_in_flight_are_measured() {
    let (world, metrics) = (World::new().await, Metrics::default());
    let upstreams =
        Upstreams::new(vec![world.config()], None, (&world.tasks, &world.clock), &metrics, &world.readiness).unwrap();
    let upstream = upstreams.by_path("registry.test").unwrap();
    let has = |line: &str| metrics.render().contains(&line.replacen("{}", "{upstream=\"registry.test\"}", 1));
    upstream.head_manifest(&repository(), &tag()).await.unwrap();
    assert!(!metrics.render().contains("upstream_pulls_remaining{"), "it says nothing");
    let name = |name: &'static str| HeaderName::from_static(name);
    world.registry.inject(On::manifests(), Fault::header(name("ratelimit-remaining"), "76;w=21600"));
    world.registry.inject(On::manifests(), Fault::header(name("ratelimit-limit"), "100;w=21600"));
    upstream.head_manifest(&repository(), &tag()).await.unwrap();
    assert!(has("upstream_pulls_remaining{} 76\n") && has("upstream_pulls_limit{} 100\n"), "{}", metrics.render());
    let (digest, bytes) = &world.image.blobs[0];
    let stream = upstream.blob(&repository(), digest, bytes.len() as u64, 0).await.unwrap();
    assert!(has("upstream_requests_in_flight{} 1\n"), "{}", metrics.render());
    drop(stream);
    assert!(has("upstream_requests_in_flight{} 0\n"), "{}", metrics.render());
    assert!(has("upstream_received_bytes_total{} 0\n"), "{}", metrics.render());
    upstream.blob_bytes(&repository(), digest, 1 << 20).await.unwrap();
    assert!(has(&format!("upstream_received_bytes_total{{}} {}\n", bytes.len())), "{}", metrics.render());
}

#[tokio::test]
async fn an_upstream_is_down_after_failures_until_it_answers() {
    let (world, metrics) = (World::new().await, Metrics::default());
    let upstreams =
        Upstreams::new(vec![world.config()], None, (&world.tasks, &world.clock), &metrics, &world.readiness).unwrap();
    let upstream = upstreams.by_path("registry.test").unwrap();
    let is_up = |up: u8| metrics.render().contains(&format!("upstream_up{{upstream=\"registry.test\"}} {up}\n"));
    let why = || world.readiness.report().degraded.get("upstream registry.test").cloned();
    assert!(is_up(1) && world.readiness.report().healthy.contains(&"upstream registry.test".to_owned()));
    let broken = world.registry.inject(On::manifests(), Fault::status(StatusCode::BAD_GATEWAY));
    upstream.head_manifest(&repository(), &tag()).await.unwrap_err();
    assert_eq!((is_up(1), why()), (true, None), "one failure is not enough");
    upstream.manifest(&repository(), &tag()).await.unwrap_err();
    assert!(is_up(0) && why().unwrap().contains("it answered 502"), "{:?}", why());
    // A refusal is an answer. So is that to the check, which needs no pull.
    drop(broken);
    world.registry.clear_faults();
    upstream.check().await;
    assert_eq!((is_up(1), why()), (true, None));
    world.listening.stop().await;
    upstream.manifest(&repository(), &tag()).await.unwrap_err();
    upstream.check().await;
    assert!(is_up(0) && why().is_some());
}

#[tokio::test]
async fn credentials_that_cannot_be_read_are_reported() {
    let (world, folder) = (World::new().await, tempfile::tempdir().unwrap());
    let upstream = world.with_credentials(password(&folder, "secret"));
    let reported = async || {
        upstream.check().await;
        world.readiness.report().degraded.get("credentials registry.test").cloned()
    };
    assert_eq!(reported().await, None);
    let file = std::fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    std::fs::rename(&file, folder.path().join("moved")).unwrap();
    let why = reported().await.unwrap();
    assert!(why.contains(&*file.to_string_lossy()) && why.contains("No such file"), "{why}");
    std::fs::rename(folder.path().join("moved"), &file).unwrap();
    assert_eq!(reported().await, None);
}

/// As `config check` finds them: what a pull would find out only when it fails.
#[tokio::test]
async fn credentials_that_are_not_there_are_reported() {
    let (world, folder) = (World::new().await, tempfile::tempdir().unwrap());
    let file = folder.path().join("config.json");
    let reported = async |auth| {
        world.with_credentials(auth).check().await;
        world.readiness.report().degraded.get("credentials registry.test").cloned().unwrap_or_default()
    };
    let helper = |program: &str| Auth::Helper { program: program.to_owned() };
    assert_eq!(reported(helper("/bin/sh")).await, "");
    let why = reported(helper("not-installed")).await;
    assert!(why.contains("docker-credential-not-installed: there is no such program"), "{why}");
    let good = r#""registry.test": {"auth": "cm9ib3Q6c2VjcmV0"}"#;
    for (text, wanted) in [
        (format!(r#"{{"auths": {{{good}}}}}"#), ""),
        (r#"{"auths": {"other.test": {"auth": "cm9ib3Q6c2VjcmV0"}}}"#.to_owned(), "has no entry for registry.test"),
        (r#"{"auths": {"registry.test": {}}}"#.to_owned(), "has no entry for registry.test"),
        (r#"{"auths": {"registry.test/team": {"auth": "cm9ib3Q6c2VjcmV0"}}}"#.to_owned(), ""),
        (r#"{"auths": {"registry.test": {"auth": "!!!"}}}"#.to_owned(), "is not base64 of user:password"),
        (format!(r#"{{"auths": {{{good}, "registry.test/team": {{"auth": 7}}}}}}"#), "is malformed"),
        (format!(r#"{{"auths": {{{good}, "other.test": {{"auth": 7}}}}}}"#), ""),
        // Another spelling, which is never used.
        (format!(r#"{{"auths": {{{good}, "registry.test/": {{"auth": 7}}}}}}"#), ""),
        (r#"{"credsStore": "not-installed"}"#.to_owned(), "docker-credential-not-installed: there is no such program"),
        (r#"{"credHelpers": {"registry.test": 7}}"#.to_owned(), "must be a string"),
    ] {
        std::fs::write(&file, &text).unwrap();
        let why = reported(Auth::DockerConfig { file: file.clone() }).await;
        assert!(if wanted.is_empty() { why.is_empty() } else { why.contains(wanted) }, "{text}: {why}");
    }
}

#[tokio::test]
async fn documents_of_the_registry_and_of_services_beside_it() {
    let world = World::new().await;
    world.registry.set_access("*", Access::Token(Credentials::new("robot", "secret")));
    let folder = tempfile::tempdir().unwrap();
    let upstream = world.with_credentials(password(&folder, "secret"));
    let path = "/v2/team/app/manifests/1";
    let own = upstream.document(&repository(), ServiceAddress::Registry(path), 1 << 20).await.unwrap();
    assert!(own.bytes.starts_with(b"{") && own.headers.contains_key("docker-content-digest"));
    let error = upstream.document(&repository(), ServiceAddress::Registry(path), 10).await.unwrap_err();
    assert!(matches!(error, Error::TooLarge(_)), "{error}");
    let absent = ServiceAddress::Registry("/v2/team/app/manifests/2");
    assert!(matches!(upstream.document(&repository(), absent, 10).await, Err(Error::NotFound)));

    // A service on the same host gets a token of the registry's token service, for its own name of the repository.
    let service = World::new().await;
    service.registry.set_access("*", Access::Token(Credentials::new("robot", "secret")));
    service.registry.push("gun/app", Some("1"), &service.image);
    let url: Url = format!("{}/v2/gun/app/manifests/1", service.listening.url()).parse().unwrap();
    let beside = ServiceAddress::Beside { url: &url, resource: "gun/app" };
    upstream.document(&repository(), beside, 1 << 20).await.unwrap();
    let token = |request: &crate::sample::LoggedRequest| {
        request.path == "/token" && request.query.as_deref().is_some_and(|query| query.contains("gun%2Fapp"))
    };
    assert_eq!(service.registry.count(token), 1);
    // It does not choose the scope, so it cannot obtain a token for the registry's own repository.
    let beside = ServiceAddress::Beside { url: &url, resource: "other/app" };
    assert!(matches!(upstream.document(&repository(), beside, 1 << 20).await, Err(Error::Unauthorized(_))));
    // A service elsewhere gets an anonymous token at most, unless the operator lists its host.
    let mut named = url.clone();
    named.set_host(Some("localhost")).unwrap();
    let passwords = || service.registry.count(|request| request.authorization.as_deref() == Some("Basic"));
    let before = passwords();
    let beside = ServiceAddress::Beside { url: &named, resource: "gun/app" };
    let error = upstream.document(&repository(), beside, 1 << 20).await.unwrap_err();
    assert!(matches!(&error, Error::Unauthorized(_)), "{error}");
    assert_eq!(passwords(), before);
    let listed = Config { auth: password(&folder, "secret"), realms: vec!["localhost".into()], ..world.config() };
    service.registry.set_token_realm(&format!("http://localhost:{}/token", service.listening.address().port()));
    world.upstream(listed).document(&repository(), beside, 1 << 20).await.unwrap();
}

/// A policy may name any notary server. One next to the registry, under the same domain, is not the registry's own.
#[tokio::test]
async fn credentials_go_to_the_notary_server_that_the_operator_names() {
    let (world, service) = (World::new().await, World::new().await);
    let folder = tempfile::tempdir().unwrap();
    let (port, service_port) = (world.listening.address().port(), service.listening.address().port());
    let network = Network::fixed(&[("registry.acme.test", "127.0.0.1"), ("notary.acme.test", "127.0.0.1")]);
    let config = || Config {
        url: format!("http://registry.acme.test:{port}"),
        auth: password(&folder, "secret"),
        ..world.config()
    };
    service.registry.push("gun/app", Some("1"), &service.image);
    let url: Url = format!("http://notary.acme.test:{service_port}/v2/gun/app/manifests/1").parse().unwrap();
    let beside = ServiceAddress::Beside { url: &url, resource: "gun/app" };
    let sent = || service.registry.count(|request| request.authorization.as_deref() == Some("Basic"));
    for access in [Access::Basic as fn(Credentials) -> Access, Access::Token] {
        service.registry.set_access("*", access(Credentials::new("robot", "secret")));
        service.registry.set_token_realm(&format!("http://notary.acme.test:{service_port}/token"));
        let before = sent();
        let error = world.upstream_in(config(), &network).document(&repository(), beside, 1 << 20).await.unwrap_err();
        assert!(matches!(&error, Error::Unauthorized(_)), "{error}");
        assert_eq!(sent(), before, "no password was sent");
        let server = Some(format!("http://notary.acme.test:{service_port}"));
        let named =
            [Config { notary: server, ..config() }, Config { realms: vec!["notary.acme.test".into()], ..config() }];
        for config in named {
            world.upstream_in(config, &network).document(&repository(), beside, 1 << 20).await.unwrap();
        }
        assert_eq!(sent(), before + 2);
    }
}

/// A notary server that no credentials are for must not have the gate send a request of its choice with them.
#[tokio::test]
async fn redirected_requests_of_services_carry_no_credentials() {
    let (world, service) = (World::new().await, World::new().await);
    let folder = tempfile::tempdir().unwrap();
    let network = Network::fixed(&[("notary.acme.test", "127.0.0.1")]);
    let url = format!("http://notary.acme.test:{}/v2/gun/app/manifests/1", service.listening.address().port());
    let url: Url = url.parse().unwrap();
    let beside = ServiceAddress::Beside { url: &url, resource: "gun/app" };
    service.registry.inject(On::any(), Fault::redirect(&format!("{}/v2/team/app/manifests/1", world.listening.url())));
    for access in [Access::Basic as fn(Credentials) -> Access, Access::Token] {
        world.registry.set_access("*", access(Credentials::new("robot", "secret")));
        let config = Config { auth: password(&folder, "secret"), ..world.config() };
        let upstream = world.upstream_in(config, &network);
        // The registry itself has answered with these credentials before.
        upstream.manifest(&repository(), &tag()).await.unwrap();
        let sent = || world.registry.count(|request| request.authorization.is_some());
        let before = sent();
        let error = upstream.document(&repository(), beside, 1 << 20).await.unwrap_err();
        assert!(matches!(&error, Error::Unauthorized(why) if why.contains("notary.acme.test leads to")), "{error}");
        assert_eq!(sent(), before);
    }
}

/// Requests that an auxiliary service keeps waiting take no turn of the registry.
#[tokio::test]
async fn a_service_that_hangs_does_not_stop_the_registry() {
    let (world, service) = (World::new().await, World::new().await);
    let upstream = world.upstream(Config {
        max_connections: 1,
        attempts: 1,
        header_timeout: Duration::from_secs(1),
        ..world.config()
    });
    let held = service.registry.inject(On::any(), Fault::Gate);
    let url: Url = format!("{}/v2/gun/app/manifests/1", service.listening.url()).parse().unwrap();
    let ask = || {
        let (upstream, url) = (upstream.clone(), url.clone());
        async move {
            let beside = ServiceAddress::Beside { url: &url, resource: "gun/app" };
            upstream.document(&repository(), beside, 1 << 20).await.map(|_| ())
        }
    };
    let pull = async {
        held.wait_for_hits(8).await;
        upstream.manifest(&repository(), &tag()).await.expect("the registry answers");
    };
    let (asked, ()) = tokio::join!(futures_util::future::join_all((0..8).map(|_| ask())), pull);
    assert!(asked.iter().all(Result::is_err), "no answer within the time limit");
}
