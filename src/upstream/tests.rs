//! The upstream client against the sample registry on loopback.

mod authorization;
mod bodies;
mod credentials;
mod failures;
mod health;
mod limits;
mod lists;
mod services;
mod tls;
mod tokens;

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
use tls::tls_registry;

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
    assert_eq!(none.unwrap_err(), Error::NOT_FOUND);
    let missing = upstream.manifest(&repository(), &"2".parse().unwrap()).await;
    assert_eq!(missing.unwrap_err(), Error::NOT_FOUND);
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
