//! A builder for gates under test.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use pullgate::app::{self, BoundGate, BuildError};
use pullgate::config::Config;
use pullgate::runtime::{Clock, Tasks};
use pullgate::sample::SigningKey;
use pullgate::sample::image::{self, Built};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::support::{Answer, TestRegistry, metric_at, request, soon, temp_dir};

/// The name of the upstream in tests.
pub(crate) const HOST: &str = "registry.test";

/// Admits everything.
pub(crate) const ALLOW_ALL: &str = "\
apiVersion: pullgate.io/v1
kind: ClusterImagePolicy
metadata: {name: default}
spec:
  repositories:
  - name: \"*\"
    policy: {}
";

/// A `pullgate.io/v1` document with these entries.
pub(crate) fn policy(entries: &str) -> String {
    format!(
        "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {{name: default}}\nspec:\n  authorities:\n  \
         - name: release\n    cosign: {{key: {{file: release.pub}}}}\n  repositories:\n{entries}"
    )
}

/// The configuration and files of a gate.
pub(crate) struct TestGate {
    folder: tempfile::TempDir,
    upstream_url: String,
    upstream: String,
    address: String,
    listener: String,
    admin: String,
    rest: String,
    va: String,
    clock: Clock,
    /// The key of the authority `release`.
    pub(crate) key: SigningKey,
}

impl TestGate {
    /// A gate in front of a registry, with a policy.
    pub(crate) fn new(registry: &TestRegistry, policy: &str) -> Self {
        let folder = temp_dir();
        let key = SigningKey::generate().expect("a key");
        fs::create_dir(folder.path().join("policies")).expect("a folder");
        fs::create_dir(folder.path().join("reports")).expect("a folder");
        let pem = key.public_pem();
        fs::write(folder.path().join("policies/release.pub"), pem).expect("a file");
        fs::write(folder.path().join("policies/default.yaml"), policy).expect("a file");
        let upstream = "attempts = 2\n".to_owned();
        let upstream_url = registry.listening.url();
        Self {
            folder,
            upstream_url,
            upstream,
            address: "127.0.0.1:0".to_owned(),
            listener: String::new(),
            admin: String::new(),
            rest: String::new(),
            va: String::new(),
            clock: Clock::system(),
            key,
        }
    }

    /// Adds lines to `[[upstream]]`.
    pub(crate) fn upstream(mut self, lines: &str) -> Self {
        self.upstream.push_str(lines);
        self.upstream.push('\n');
        self
    }

    /// Listens there.
    pub(crate) fn address(self, address: &str) -> Self {
        Self { address: address.to_owned(), ..self }
    }

    /// Adds lines to `[[listener]]`.
    pub(crate) fn listener(mut self, lines: &str) -> Self {
        self.listener.push_str(lines);
        self.listener.push('\n');
        self
    }

    /// Adds lines to `[va]`.
    pub(crate) fn va(mut self, lines: &str) -> Self {
        self.va.push_str(lines);
        self.va.push('\n');
        self
    }

    /// Lets callers with this token make changes by the admin API over TCP.
    pub(crate) fn admin_token(mut self, token: &str) -> Self {
        fs::write(self.path().join("token"), token).expect("a file");
        self.admin.push_str("token_file = \"token\"\n");
        self
    }

    /// Adds keys of the section `admin`.
    pub(crate) fn admin(mut self, lines: &str) -> Self {
        self.admin.push_str(lines);
        self.admin.push('\n');
        self
    }

    /// Adds sections.
    pub(crate) fn with(mut self, lines: &str) -> Self {
        self.rest.push_str(lines);
        self.rest.push('\n');
        self
    }

    /// Uses a clock that the test controls.
    pub(crate) fn clock(mut self, clock: &Clock) -> Self {
        self.clock = clock.clone();
        self
    }

    /// The directory with the configuration, the policies and the state.
    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Writes a file next to the configuration.
    pub(crate) fn file(self, name: &str, text: &str) -> Self {
        fs::write(self.path().join(name), text).expect("a file");
        self
    }

    /// The configuration, loaded as by the program.
    pub(crate) fn config(&self) -> Config {
        let Self { upstream_url, upstream, address, listener, admin, rest, va, .. } = self;
        let text = format!(
            "state_dir = \"state\"\nshutdown_grace = \"10s\"\n\
             [[listener]]\naddress = \"{address}\"\n{listener}\
             [admin]\naddress = \"127.0.0.1:0\"\n{admin}\
             [policy]\ndir = \"policies\"\n\
             [va]\nreports = [\"reports\"]\n{va}\
             [[upstream]]\nhost = \"{HOST}\"\nurl = \"{upstream_url}\"\n{upstream}\n{rest}"
        );
        let path = self.path().join("pullgate.toml");
        fs::write(&path, text).expect("a file");
        Config::load(Some(&path), std::iter::empty()).unwrap_or_else(|problems| panic!("{problems:?}"))
    }

    /// Starts the gate. A child process that another test is starting may have the lock of a state directory for a moment longer
    /// than the gate before.
    pub(crate) async fn start(self) -> Gate {
        let mut made = self;
        let is_locked = |error: &BuildError| error.to_string().contains("another pullgate is running");
        let started = async {
            loop {
                match made.try_start().await {
                    Err((same, error)) if is_locked(&error) => made = same,
                    started => return started,
                }
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        soon(started).await.unwrap_or_else(|(_, error)| panic!("{error}"))
    }

    /// Starts the gate, or returns the error.
    pub(crate) async fn try_start(self) -> Result<Gate, (Self, BuildError)> {
        match app::build_with_clock(self.config(), self.clock.clone()).await {
            Ok(bound) => Ok(Gate::run(self, bound)),
            Err(error) => Err((self, error)),
        }
    }
}

/// A running gate.
pub(crate) struct Gate {
    made_of: TestGate,
    url: String,
    /// The URLs of all listeners except the first.
    more_urls: Vec<String>,
    admin: String,
    reload: app::Reload,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

impl Gate {
    fn run(made_of: TestGate, bound: BoundGate) -> Self {
        let mut more_urls: Vec<_> = bound.addresses().iter().map(|address| format!("http://{address}")).collect();
        let url = more_urls.remove(0);
        let admin = format!("http://{}", bound.admin_address());
        let reload = bound.reloader();
        let (stop, stopped) = oneshot::channel();
        let running = Tasks::new().spawn(async move {
            bound.run(async { drop(stopped.await) }).await;
        });
        Self { made_of, url, more_urls, admin, reload, stop, running }
    }

    /// The key of the authority `release`.
    pub(crate) fn key(&self) -> &SigningKey {
        &self.made_of.key
    }

    /// The URL for a path on the upstream, such as `/library/x/manifests/1`.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}/v2/{HOST}{path}", self.url)
    }

    /// The same on the second listener.
    pub(crate) fn second_url(&self, path: &str) -> String {
        format!("{}/v2/{HOST}{path}", self.more_urls[0])
    }

    /// The URL for any path.
    pub(crate) fn any_url(&self, path: &str) -> String {
        format!("{}{path}", self.url)
    }

    /// A URL on the admin listener.
    pub(crate) fn admin_url(&self, path: &str) -> String {
        format!("{}{path}", self.admin)
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        request("GET", &self.url(path), &[]).await
    }

    pub(crate) async fn head(&self, path: &str) -> Answer {
        request("HEAD", &self.url(path), &[]).await
    }

    /// Replaces the policy and reloads it.
    pub(crate) fn set_policy(&self, text: &str) {
        fs::write(self.made_of.path().join("policies/default.yaml"), text).expect("a file");
        self.reload.files();
    }

    /// A file in the directory of the configuration.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.made_of.path().join(name)
    }

    /// Stops the gate and waits for it.
    pub(crate) async fn stop(self) -> TestGate {
        let _ = self.stop.send(());
        soon(self.running).await.expect("it ends well");
        self.made_of
    }

    /// Stops the gate, so that all records are written, and returns its audit records.
    pub(crate) async fn stop_and_read_audit(self) -> (TestGate, Vec<serde_json::Value>) {
        let made_of = self.stop().await;
        let text = fs::read_to_string(made_of.path().join("state/audit.jsonl")).expect("an audit file");
        let records = text.lines().map(|line| serde_json::from_str(line).expect("a record")).collect();
        (made_of, records)
    }
}

/// The value of a metric without labels.
pub(crate) async fn metric(gate: &Gate, name: &str) -> u64 {
    metric_at(&gate.admin_url("/metrics"), name).await
}

/// The body of `/readyz`.
pub(crate) async fn ready(gate: &Gate) -> String {
    request("GET", &gate.admin_url("/readyz"), &[]).await.text()
}

/// Pulls two manifests with the same content, and again after a blob was removed from the cache and the registry: an
/// existing proof is not repeated, neither for the manifest nor for the layer.
pub(crate) async fn assert_proven_once(registry: &TestRegistry, made: TestGate, one: &Built) {
    let mut body = one.json();
    body["annotations"] = serde_json::json!({"n": "2"});
    let two = image::raw(&one.manifest().media_type, &body).with_content_of(one);
    registry.push("library/app", Some("1"), one);
    registry.push("library/app", Some("2"), &two);
    let gate = made.start().await;
    assert_eq!(gate.get("/library/app/manifests/1").await.status, 200);
    let mut made = gate.stop().await;
    for (gone, tag) in [(one.layers[0], "2"), (one.configs[0], "1")] {
        let file = made.path().join("state/blobs/sha256").join(&gone.hex()[..2]).join(gone.hex());
        fs::remove_file(file).expect("a file");
        registry.delete_blob("library/app", &gone);
        let gate = made.start().await;
        let got = gate.get(&format!("/library/app/manifests/{tag}")).await;
        assert_eq!(got.status, 200, "{tag}: {}", got.text());
        made = gate.stop().await;
    }
}
