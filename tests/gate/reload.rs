//! Reloading the configuration: what a running gate takes into use, what needs a restart, and what is rejected.

mod authorities;
mod command;

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use pullgate::runtime::Tasks;
use pullgate::sample::image::{Image, Layer, noise};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::commands::pullgate;
use crate::harness::{ALLOW_ALL, Gate, TestGate, policy};
use crate::support::{Answer, TestRegistry, raw, request};

const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// Must be long enough for an admin token.
const TOKEN: &str = "0123456789abcdef0123";

struct Reloading {
    registry: TestRegistry,
    gate: Gate,
    text: String,
}

impl Reloading {
    async fn start() -> Self {
        Self::start_with(|made| made).await
    }

    async fn start_with(change: impl FnOnce(TestGate) -> TestGate) -> Self {
        let registry = TestRegistry::start().await;
        registry.push("library/app", Some("1"), &Image::linux_amd64().layer(Layer::of(LAYER, noise(1000, 1))).build());
        let gate = change(TestGate::new(&registry, ALLOW_ALL).admin_token(TOKEN)).start().await;
        let text = std::fs::read_to_string(gate.file("pullgate.toml")).expect("a configuration");
        Self { registry, gate, text }
    }

    /// Writes the configuration and asks the gate to reload it.
    async fn reload(&self, text: &str) -> Answer {
        std::fs::write(self.gate.file("pullgate.toml"), text).expect("a file");
        let bearer = format!("Bearer {TOKEN}");
        request("POST", &self.gate.admin_url("/api/v1/reload"), &[("authorization", &bearer)]).await
    }

    async fn readyz(&self) -> serde_json::Value {
        request("GET", &self.gate.admin_url("/readyz?verbose=json"), &[]).await.json()
    }

    /// The exit code of `config check` for the file as it is.
    fn checked(&self) -> Option<i32> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_pullgate"));
        command.args(["config", "check", "--config"]).arg(self.gate.file("pullgate.toml"));
        command.output().expect("it starts").status.code()
    }

    fn address(&self) -> SocketAddr {
        self.gate.any_url("").strip_prefix("http://").expect("a URL").parse().expect("an address")
    }

    async fn pull(&self, upstream: &str) -> u16 {
        request("GET", &self.gate.any_url(&format!("/v2/{upstream}/library/app/manifests/1")), &[]).await.status
    }
}

#[tokio::test]
async fn upstreams_are_added_and_removed_and_no_old_decision_is_repeated() {
    let on = Reloading::start().await;
    assert_eq!((on.pull("registry.test").await, on.pull("other.test").await), (200, 403));
    let url = on.registry.listening.url();
    let answer = on.reload(&format!("{}[[upstream]]\nhost = \"other.test\"\nurl = \"{url}\"\n", on.text)).await;
    let changed = serde_json::json!({"reloaded": true, "changed": ["upstream other.test"]});
    assert_eq!((answer.status, answer.json()), (200, changed));
    assert_eq!((on.pull("registry.test").await, on.pull("other.test").await), (200, 200));
    let answer = on.reload(&on.text.replace("host = \"registry.test\"", "host = \"other.test\"")).await;
    assert_eq!(answer.status, 200, "{}", answer.text());
    let told = answer.json();
    assert!(!told["changed"].to_string().contains("registry.test"), "{told}");
    assert_eq!(told["removed"], serde_json::json!(["upstream registry.test"]));
    assert_eq!((on.pull("registry.test").await, on.pull("other.test").await), (403, 200));
    on.gate.stop().await;
}

#[tokio::test]
async fn mode_policies_and_limits_change_at_once() {
    let on = Reloading::start().await;
    let strict = on.gate.file("strict");
    std::fs::create_dir(&strict).unwrap();
    std::fs::copy(on.gate.file("policies/release.pub"), strict.join("release.pub")).unwrap();
    let document = policy("  - {name: \"*\", policy: {trust: release}}\n");
    std::fs::write(strict.join("default.yaml"), document).unwrap();
    assert_eq!(on.pull("registry.test").await, 200);
    let strict = on.text.replace("dir = \"policies\"", "dir = \"strict\"");
    assert_eq!(on.reload(&strict).await.status, 200);
    assert_eq!(on.pull("registry.test").await, 403);
    assert_eq!(on.reload(&format!("{strict}[gate]\nmode = \"audit\"\n")).await.status, 200);
    assert_eq!(on.pull("registry.test").await, 200);
    assert_eq!(on.reload(&format!("{strict}[limits]\nmax_header_size = \"8KiB\"\n")).await.status, 200);
    let long = format!("GET /v2/ HTTP/1.1\r\nhost: gate\r\nconnection: close\r\nx: {}\r\n\r\n", "y".repeat(9000));
    let answer = raw(on.address(), long.as_bytes()).await;
    assert!(answer.starts_with(b"HTTP/1.1 431"), "{answer:?}");
    on.gate.stop().await;
}

#[tokio::test]
async fn a_broken_configuration_changes_nothing_and_is_reported() {
    let on = Reloading::start().await;
    let missing = on.text.replace("dir = \"policies\"", "dir = \"missing\"");
    for (broken, why) in [
        (format!("{}[limits]\nmax_conections = 1\n", on.text), "max_conections"),
        (format!("{}ca = \"missing.pem\"\n", on.text), "missing.pem"),
        (missing.replace("registry.test", "other.test"), "missing"),
        (format!("{}[tracing]\nendpoint = \"http://127.0.0.1:1\"\nca = \"absent.pem\"\n", on.text), "absent.pem"),
    ] {
        let answer = on.reload(&broken).await;
        assert_eq!(answer.status, 422, "{}", answer.text());
        assert!(answer.text().contains(why), "{}", answer.text());
        assert_eq!(on.checked(), Some(78), "config check says the same: {broken}");
        let degraded = on.readyz().await["degraded"]["configuration"].to_string();
        assert!(degraded.contains(why), "{degraded}");
        assert_eq!((on.pull("registry.test").await, on.pull("other.test").await), (200, 403));
    }
    let metrics = request("GET", &on.gate.admin_url("/metrics"), &[]).await.text();
    assert!(metrics.contains("pullgate_config_reload_failures_total 4"), "{metrics}");
    assert_eq!((on.reload(&on.text).await.status, on.checked()), (200, Some(0)));
    assert_eq!(on.readyz().await["degraded"].get("configuration"), None);
    on.gate.stop().await;
}

#[tokio::test]
async fn settings_that_need_a_restart_are_named_until_reverted() {
    let on = Reloading::start().await;
    let text = format!("{}[cache]\nmax_size = \"1GiB\"\n", on.text);
    let answer = on.reload(&text.replace("address = \"127.0.0.1:0\"", "address = \"127.0.0.2:0\"")).await;
    let keys = serde_json::json!(["admin.address", "cache.max_size", "listener.address"]);
    assert_eq!((answer.status, &answer.json()["needs_restart"]), (200, &keys));
    let facts = on.readyz().await["details"]["configuration"].to_string();
    assert!(facts.contains("cache.max_size") && facts.contains("restart"), "{facts}");
    assert_eq!(on.reload(&on.text).await.json(), serde_json::json!({"reloaded": true}));
    assert_eq!(on.readyz().await.pointer("/details/configuration"), None);
    on.gate.stop().await;
}

/// A password of a proxy is not shown, and is a change like any other.
#[tokio::test]
async fn another_password_of_a_proxy_is_taken_into_use() {
    let on = Reloading::start().await;
    let with = |password: &str| {
        let upstream = format!("host = \"registry.test\"\nproxy = \"http://gate:{password}@127.0.0.1:1\"");
        on.text.replace("host = \"registry.test\"", &upstream)
    };
    let changed = serde_json::json!({"reloaded": true, "changed": ["upstream registry.test"]});
    for password in ["one", "two"] {
        assert_eq!(on.reload(&with(password)).await.json(), changed, "{password}");
    }
    assert_eq!(on.reload(&with("two")).await.json(), serde_json::json!({"reloaded": true}));
    let metrics = request("GET", &on.gate.admin_url("/metrics"), &[]).await.text();
    assert!(metrics.contains("pullgate_config_reloads_total 2"), "{metrics}");
    on.gate.stop().await;
}

/// A script that rolls out policies or certificates looks at the status alone.
#[tokio::test]
async fn a_refused_part_fails_the_reload_and_the_others_are_reloaded() {
    let on = Reloading::start().await;
    std::fs::write(on.gate.file("policies/default.yaml"), "kind: Nonsense").expect("a file");
    let answer = on.reload(&format!("{}\n", on.text)).await;
    let json = answer.json();
    let why = json["refused"]["policy"].as_str().expect("a reason");
    assert!(answer.status == 422 && why.contains("default.yaml"), "{json}");
    assert_eq!((&json["reloaded"], &json["error"]), (&false.into(), &format!("policy: {why}").into()));
    assert_eq!(json["in_use"], serde_json::json!(["audit", "certificates", "configuration"]));
    assert_eq!(on.pull("registry.test").await, 200, "the previous policy is in use");
    let broken = on.reload(&format!("{}[limits]\nmax_conections = 1\n", on.text)).await.json();
    let refused: Vec<&str> = broken["refused"].as_object().expect("parts").keys().map(String::as_str).collect();
    assert_eq!(refused, ["configuration", "policy"]);
    assert_eq!(broken["in_use"], serde_json::json!(["audit", "certificates"]));
    std::fs::write(on.gate.file("policies/default.yaml"), ALLOW_ALL).expect("a file");
    let again = on.reload(&on.text).await;
    assert_eq!((again.status, again.json()), (200, serde_json::json!({"reloaded": true})));
    on.gate.stop().await;
}

/// What is in use is said as it is: a registry without its password is degraded, and no policy denies everything.
#[tokio::test]
async fn a_reload_warns_of_what_is_in_use() {
    let on = Reloading::start().await;
    let auth = "[[upstream]]\nhost = \"other.test\"\nserve_to = \"everyone\"\n\
        auth = { type = \"basic\", username = \"u\", password_file = \"absent\" }\n";
    let text = format!("{}\n{auth}", on.text);
    let answer = on.reload(&text).await;
    let warned = answer.json()["warnings"].to_string();
    assert!(answer.status == 200 && warned.contains("auth.password_file: "), "{}", answer.text());
    let again = on.reload(&text).await.json();
    assert!(again["warnings"][0].as_str().is_some_and(|why| why.contains("other.test: ")), "{again}");
    std::fs::write(on.gate.file("absent"), "secret").expect("a file");
    assert_eq!(on.reload(&text).await.json(), serde_json::json!({"reloaded": true}));
    std::fs::write(on.gate.file("absent"), "").expect("a file");
    let emptied = on.reload(&text).await.json();
    assert!(emptied["warnings"].to_string().contains("absent"), "{emptied}");
    let degraded = on.readyz().await["degraded"]["credentials other.test"].to_string();
    assert!(degraded.contains("absent"), "{degraded}");
    on.gate.stop().await;

    let without = |made: TestGate| {
        std::fs::remove_file(made.path().join("policies/default.yaml")).expect("it was there");
        made
    };
    let on = Reloading::start_with(without).await;
    let answer = on.reload(&on.text).await;
    let json = answer.json();
    assert_eq!((answer.status, json.get("refused")), (200, None), "{json}");
    assert!(json["warnings"].to_string().contains("every image is denied"), "{json}");
    assert_eq!(on.pull("registry.test").await, 403);
    std::fs::write(on.gate.file("policies/default.yaml"), ALLOW_ALL).expect("a file");
    let again = on.reload(&on.text).await.json();
    assert_eq!((again.get("warnings"), on.pull("registry.test").await), (None, 200), "{again}");
    on.gate.stop().await;
}

/// What the command says must be what clients see: the previous policies stay in use.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_directory_without_policies_is_refused_and_pulls_continue() {
    let on = Reloading::start().await;
    std::fs::create_dir(on.gate.file("empty")).expect("a folder");
    let moved = on.text.replace("dir = \"policies\"", "dir = \"empty\"");
    let (code, shown) = reload_command(&on, &moved, &[]).await;
    assert!(code == Some(78) && shown.contains("stays in use: configuration: "), "{shown}");
    assert!(shown.contains("empty: no policy is left") && !shown.contains("in use: changed policies"), "{shown}");
    assert_eq!(on.pull("registry.test").await, 200);
    std::fs::remove_file(on.gate.file("policies/default.yaml")).expect("a file");
    let (code, shown) = reload_command(&on, &on.text, &[]).await;
    assert!(code == Some(78) && shown.contains("stays in use: policy: "), "{shown}");
    assert!(shown.contains("no policy is left") && !shown.contains("in use: changed policies"), "{shown}");
    assert_eq!(on.pull("registry.test").await, 200);
    assert_eq!(request("GET", &on.gate.admin_url("/readyz"), &[]).await.status, 200);
    assert!(on.readyz().await["degraded"]["policy"].to_string().contains("no policy is left"));
    on.gate.stop().await;
}

/// Whoever renamed the file must learn that records still go to it.
#[tokio::test]
async fn an_audit_file_that_cannot_be_reopened_is_refused() {
    let on = Reloading::start().await;
    let (file, moved) = (on.gate.file("state/audit.jsonl"), on.gate.file("state/moved"));
    std::fs::rename(&file, &moved).expect("a file");
    std::fs::create_dir(&file).expect("a folder");
    let answer = on.reload(&on.text).await;
    let json = answer.json();
    let why = json["refused"]["audit"].as_str().expect("a reason").to_owned();
    assert!(answer.status == 422 && why.contains("records still go to the old one"), "{json}");
    assert_eq!(json["in_use"], serde_json::json!(["certificates", "configuration", "policy"]));
    assert_eq!(on.pull("registry.test").await, 200);
    assert_eq!(on.readyz().await["degraded"]["audit"], why);
    let text = request("GET", &on.gate.admin_url("/readyz?verbose"), &[]).await.text();
    assert!(text.contains(&format!("[-]audit: {why}\n")), "{text}");
    let degraded = async || {
        let metrics = request("GET", &on.gate.admin_url("/metrics"), &[]).await.text();
        metrics.contains("pullgate_degraded{part=\"audit\"} 1\n")
    };
    assert!(degraded().await);
    let is_recorded = || std::fs::read_to_string(&moved).is_ok_and(|text| text.contains("library/app"));
    crate::support::until(is_recorded).await;
    std::fs::remove_dir(&file).expect("a folder");
    assert_eq!(on.reload(&on.text).await.json(), serde_json::json!({"reloaded": true}));
    assert!(!degraded().await && file.is_file());
    on.gate.stop().await;
}

/// The exit code and the output of `pullgate reload`.
async fn reload_command(on: &Reloading, text: &str, more: &[&str]) -> (Option<i32>, String) {
    std::fs::write(on.gate.file("pullgate.toml"), text).expect("a file");
    let output = pullgate(&on.gate, &[&["reload"][..], more].concat()).await;
    (output.status.code(), crate::commands::text(&output))
}

/// Writes a new certificate for `localhost`, and its key, next to the configuration.
fn write_certificate(folder: &std::path::Path, name: &str) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    std::fs::write(folder.join(format!("{name}.crt")), made.cert.pem()).expect("a file");
    let key = folder.join(format!("{name}.key"));
    std::fs::write(&key, made.signing_key.serialize_pem()).expect("a file");
    std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o600)).expect("a mode");
}

/// Connects as a client that trusts only this certificate.
async fn connect(on: &Reloading, name: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let pem = std::fs::read(on.gate.file(&format!("{name}.crt"))).expect("a file");
    connect_with(&pem, on.address()).await
}

/// The same with the certificate in PEM.
pub(crate) async fn connect_with(pem: &[u8], address: SocketAddr) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(pem).expect("PEM")).expect("a certificate");
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let config = builder.expect("the default versions").with_root_certificates(roots).with_no_client_auth();
    let stream = TcpStream::connect(address).await?;
    TlsConnector::from(Arc::new(config)).connect(ServerName::try_from("localhost").expect("a name"), stream).await
}

#[tokio::test]
async fn new_certificates_are_used_for_new_connections_and_open_ones_continue() {
    let tls = |name: &str| format!("tls = {{ certificate = \"{name}.crt\", key = \"{name}.key\" }}\n");
    let on = Reloading::start_with(|made| {
        write_certificate(made.path(), "first");
        write_certificate(made.path(), "second");
        made.listener(&tls("first"))
    });
    let on = on.await;
    let mut old = connect(&on, "first").await.expect("the first certificate is served");
    let mixed = "tls = { certificate = \"second.crt\", key = \"first.key\" }\n";
    let answer = on.reload(&on.text.replace(&tls("first"), mixed)).await;
    assert!(answer.status == 422 && answer.text().contains("is not the key"), "{}", answer.text());
    assert!(connect(&on, "first").await.is_ok() && connect(&on, "second").await.is_err());
    let answer = on.reload(&on.text.replace(&tls("first"), &tls("second"))).await;
    let changed = serde_json::json!(["listener.tls.certificate", "listener.tls.key"]);
    let told = answer.json();
    assert_eq!((answer.status, &told["changed"]), (200, &changed));
    assert_eq!(told["certificates"].as_array().map(Vec::len), Some(1), "{told}");
    assert!(told["certificates"][0].as_str().is_some_and(|used| used.contains(", until 4096-01-01")), "{told}");
    assert!(connect(&on, "first").await.is_err() && connect(&on, "second").await.is_ok());
    old.write_all(b"GET /v2/ HTTP/1.1\r\nhost: gate\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut answer = Vec::new();
    old.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200"), "{answer:?}");
    let answer = on.reload(&on.text.replace(&tls("first"), "")).await;
    let keys = serde_json::json!(["listener.tls.certificate", "listener.tls.key"]);
    assert_eq!(answer.json()["needs_restart"], keys, "a listener cannot lose its TLS");
    assert!(connect(&on, "second").await.is_ok());
    on.gate.stop().await;
}

#[tokio::test]
async fn no_pull_fails_while_the_configuration_is_reloaded() {
    let on = Reloading::start().await;
    let (stop, url) = (Arc::new(AtomicBool::new(false)), on.gate.url("/library/app/manifests/1"));
    let (stopped, pulled) = (stop.clone(), url.clone());
    let pulls = Tasks::new().spawn(async move {
        let mut statuses = Vec::new();
        while !stopped.load(Ordering::Relaxed) || statuses.len() < 10 {
            statuses.push(request("GET", &pulled, &[]).await.status);
        }
        statuses
    });
    let url = on.registry.listening.url();
    for round in 0..10 {
        let limits = format!("[limits]\nmax_connections = {}\n", 100 + round);
        let upstream = format!("[[upstream]]\nhost = \"other-{round}.test\"\nurl = \"{url}\"\n");
        let same = on.text.replace("attempts = 2", &format!("attempts = {}", 2 + round % 2));
        assert_eq!(on.reload(&format!("{same}{upstream}{limits}")).await.status, 200);
    }
    stop.store(true, Ordering::Relaxed);
    let statuses = pulls.await.expect("it does not panic");
    assert!(statuses.iter().all(|status| *status == 200), "{statuses:?}");
    on.gate.stop().await;
}
