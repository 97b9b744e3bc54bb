//! The environment of every client: an upstream, a gate, and a registry that a client could fall back to.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{Finished, Gate, GateConfig, Image, Program, Registry, UPSTREAM, Variant};

/// The name under which path-style clients reach the fallback's images through the gate.
pub(crate) const FALLBACK_PATH: &str = "fallback";

/// The name of the upstream for clients that do not say which registry they mean.
pub(crate) const DOCKER_HUB: &str = "docker.io";

/// A client under test.
pub(crate) trait Client {
    /// Pulls the image through the gate.
    fn pull(&self, world: &World, image: &Image) -> Finished;

    /// The content of the file at [`super::PAYLOAD`] in a pulled image, and the digest that the client reports for the
    /// image, if it does.
    fn content(&self, world: &World, image: &Image) -> (Vec<u8>, Option<String>);
}

/// Registries, images and a gate, in a separate directory. Fields are dropped in order, the gate first.
pub(crate) struct World {
    /// The gate. It knows the upstream by three names: [`UPSTREAM`], [`DOCKER_HUB`], and the fallback's own
    /// `127.0.0.1:PORT`, whose path is [`FALLBACK_PATH`].
    pub(crate) gate: Gate,
    /// The registry that the gate pulls from. Its log contains only the gate's requests.
    pub(crate) upstream: Registry,
    /// A public registry with the same content, including the denied image.
    pub(crate) fallback: Registry,
    /// The registry that images are pushed to; it writes to the same storage.
    pub(crate) store: Registry,
    /// An image that policy admits without any check.
    pub(crate) admitted: Image,
    /// An image that policy denies, because it is not signed.
    pub(crate) denied: Image,
    dir: TempDir,
}

/// The differences from the simplest world.
#[derive(Default)]
pub(crate) struct Setup {
    /// Clients use TLS to the gate.
    pub(crate) tls: bool,
    /// The upstream for paths that name none.
    pub(crate) default_upstream: Option<&'static str>,
    /// How the upstream can be reached.
    pub(crate) upstream: Variant,
    /// The gate has neither the credentials nor the CA certificate that the upstream requires.
    pub(crate) stranger: bool,
    /// The public key of the release signers; by default, one that signed nothing.
    pub(crate) release: Option<PathBuf>,
}

impl World {
    /// The simplest world.
    pub(crate) fn new() -> Self {
        Self::with(&Setup::default())
    }

    /// A world with some differences.
    pub(crate) fn with(setup: &Setup) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let storage = dir.path().join("storage");
        let upstream = Registry::start("upstream", setup.upstream, dir.path(), &storage);
        let fallback = Registry::start("fallback", Variant::Plain, dir.path(), &storage);
        let store = Registry::start("store", Variant::Plain, dir.path(), &storage);
        let admitted = Image::push(&store, dir.path(), "admitted/app", "1");
        let denied = Image::push(&store, dir.path(), "denied/app", "1");
        release_key(dir.path(), setup.release.as_deref());
        let gate = gate(dir.path(), setup, &upstream, &fallback);
        Self { gate, upstream, fallback, store, admitted, denied, dir }
    }

    /// A directory that is removed with the world.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// Creates a directory below it, for a client's configuration or state.
    pub(crate) fn new_dir(&self, name: &str) -> PathBuf {
        let path = self.dir().join(name);
        std::fs::create_dir_all(&path).expect("a directory");
        path
    }

    /// The name of the image if the client names the registry itself and its configuration points to the gate.
    pub(crate) fn fallback_reference(&self, image: &Image) -> String {
        format!("{}/{}", self.fallback.address(), image.name())
    }

    /// Everything that the project promises for a client.
    #[track_caller]
    pub(crate) fn enforces(&mut self, client: &impl Client) {
        self.admits(client, &self.admitted.clone());
        self.denies(client, &self.denied.clone());
        self.assert_no_bypass();
    }

    /// An admitted image arrives complete.
    #[track_caller]
    pub(crate) fn admits(&self, client: &impl Client, image: &Image) {
        client.pull(self, image).bytes();
        let (payload, digest) = client.content(self, image);
        assert!(payload == image.payload(), "the payload of {} differs", image.name());
        if let Some(digest) = digest {
            assert_eq!(digest, image.digest, "the digest of {}", image.name());
        }
    }

    /// A denied image fails, and the client's output contains the reason.
    #[track_caller]
    pub(crate) fn denies(&self, client: &impl Client, image: &Image) {
        let output = client.pull(self, image).refusal();
        assert_reason(&output, &image.name());
    }

    /// The client did not use the fallback, although it would have responded, and no blob of the denied image left the
    /// upstream.
    #[track_caller]
    pub(crate) fn assert_no_bypass(&mut self) {
        assert_eq!(self.fallback.requests(), [], "the fallback received requests");
        let manifest = format!("{}/v2/{}/manifests/{}", self.fallback.url(), self.denied.repository, self.denied.tag);
        assert_eq!(status(self.dir(), &manifest), "200", "the fallback does not respond");
        assert_eq!(self.fallback.requests().len(), 1, "the fallback's log does not show its requests");
        let asked = self.upstream.requests();
        let blobs: Vec<_> = asked.iter().filter(|request| asks_for_content(&request.target, &self.denied)).collect();
        assert!(blobs.is_empty(), "the upstream received requests for {blobs:?}");
    }
}

fn gate(dir: &Path, setup: &Setup, upstream: &Registry, fallback: &Registry) -> Gate {
    let access = if setup.stranger { String::new() } else { upstream.gate_settings() };
    let own_name = format!("path = \"{FALLBACK_PATH}\"\n{access}");
    let default_upstream = setup.default_upstream.map(|host| format!("default_upstream = \"{host}\"\n"));
    GateConfig { tls: setup.tls, settings: default_upstream.unwrap_or_default(), ..GateConfig::default() }
        .upstream(UPSTREAM, upstream, &access)
        .upstream(DOCKER_HUB, upstream, &access)
        .upstream(fallback.address(), upstream, &own_name)
        .policy("interop", &rules(&[UPSTREAM, DOCKER_HUB, fallback.address()]))
        .start(dir)
}

/// The text that every client shows: what was denied, by which document and rule, and why.
#[track_caller]
pub(crate) fn assert_reason(output: &str, name: &str) {
    assert_reason_of("trust", output, name);
}

/// The same for another check.
#[track_caller]
pub(super) fn assert_reason_of(check: &str, output: &str, name: &str) {
    let said =
        output.contains("pullgate: ") && output.contains(&format!("/{name} denied by ClusterImagePolicy/interop"));
    assert!(said, "the reason is not in the client's output:\n{output}");
    assert!(output.contains(&format!("{check}: ")), "the failed check is not in the client's output:\n{output}");
}

fn asks_for_content(target: &str, image: &Image) -> bool {
    let blobs = format!("/v2/{}/blobs/", image.repository);
    target.strip_prefix(&blobs).is_some_and(|digest| !digest.starts_with("uploads/"))
}

/// The status of the response to a GET.
pub(super) fn status(home: &Path, url: &str) -> String {
    // Without it, docker-registry returns 404 for every OCI manifest.
    let accept = ["--header", "Accept: application/vnd.oci.image.manifest.v1+json"];
    let arguments = ["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", url];
    Program::new("curl", home).args(accept).args(arguments).run().text()
}

/// Puts the key of the release signers where policies expect it.
fn release_key(dir: &Path, given: Option<&Path>) {
    let keys = dir.join("policies/keys");
    std::fs::create_dir_all(&keys).expect("the directory of keys");
    let public = keys.join("release.pub");
    if let Some(given) = given {
        std::fs::copy(given, public).expect("the public key");
        return;
    }
    let private = dir.join("release.key");
    let generate = ["ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out"];
    Program::new("openssl", dir).args(generate).args([&private]).run().bytes();
    let (private, public) = (private.as_os_str(), public.as_os_str());
    let export = ["ec".as_ref(), "-in".as_ref(), private, "-pubout".as_ref(), "-out".as_ref(), public];
    Program::new("openssl", dir).args(export).run().bytes();
}

fn rules(hosts: &[&str]) -> String {
    let of_host = |host: &&str| {
        format!(
            "  - name: \"{host}/admitted/*\"
    policy: {{}}
  - name: \"{host}/unscanned/*\"
    policy: {{va: {{unscanned: deny, unsupported: allow}}}}
  - name: \"{host}/*\"
    policy: {{trust: {{anyOf: [release]}}}}
"
        )
    };
    let authority = "  authorities:
  - name: release
    cosign: {key: {file: keys/release.pub}}
  repositories:
";
    let repositories: String = hosts.iter().map(of_host).collect();
    format!("{authority}{repositories}")
}
