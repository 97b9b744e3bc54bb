//! The world around every client: an upstream, a gate, and a registry that a client could turn to instead.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

use super::{Finished, Gate, GateConfig, Image, Program, Registry, UPSTREAM, Variant};

/// The name under which path-style clients reach the fallback's images through the gate.
pub(crate) const FALLBACK_PATH: &str = "fallback";

/// The name under which clients know the upstream that do not say which registry they mean.
pub(crate) const DOCKER_HUB: &str = "docker.io";

/// A client under test.
pub(crate) trait Client {
    /// Pulls the image through the gate.
    fn pull(&self, world: &World, image: &Image) -> Finished;

    /// What the file at [`super::PAYLOAD`] of a pulled image holds, and the digest under which the client has the image,
    /// where it says so.
    fn content(&self, world: &World, image: &Image) -> (Vec<u8>, Option<String>);
}

/// Registries, images and a gate, in a directory of their own. Fields are dropped in order: the gate goes first.
pub(crate) struct World {
    /// The gate. It knows the upstream by three names: [`UPSTREAM`], [`DOCKER_HUB`], and the fallback's own
    /// `127.0.0.1:PORT`, whose path is [`FALLBACK_PATH`].
    pub(crate) gate: Gate,
    /// What the gate pulls from. Its log holds what the gate asked, and nothing else.
    pub(crate) upstream: Registry,
    /// Open to everyone, with the same content: whoever asks it gets the denied image as well.
    pub(crate) fallback: Registry,
    /// Where images come from: it writes to the same storage.
    pub(crate) store: Registry,
    /// An image that policy admits without any check.
    pub(crate) admitted: Image,
    /// An image that policy denies, because nobody signed it.
    pub(crate) denied: Image,
    dir: TempDir,
}

/// What is unlike the plainest world.
#[derive(Default)]
pub(crate) struct Setup {
    /// Clients speak TLS to the gate.
    pub(crate) tls: bool,
    /// What a path without an upstream's name means.
    pub(crate) default_upstream: Option<&'static str>,
    /// How the upstream is to be reached.
    pub(crate) upstream: Variant,
    /// The gate has neither the credentials nor the certificate authority that the upstream asks for.
    pub(crate) stranger: bool,
    /// The public key of those who sign releases; one that signed nothing where none is given.
    pub(crate) release: Option<PathBuf>,
}

impl World {
    /// Everything plain.
    pub(crate) fn new() -> Self {
        Self::with(&Setup::default())
    }

    /// With something unlike that.
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

    /// A directory that goes with the world.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// A new directory below it, for a client's configuration or state.
    pub(crate) fn new_dir(&self, name: &str) -> PathBuf {
        let path = self.dir().join(name);
        std::fs::create_dir_all(&path).expect("a directory");
        path
    }

    /// The image's name where a client names the registry itself and its configuration points to the gate.
    pub(crate) fn fallback_reference(&self, image: &Image) -> String {
        format!("{}/{}", self.fallback.address(), image.name())
    }

    /// Everything that this project promises about a client.
    #[track_caller]
    pub(crate) fn enforces(&mut self, client: &impl Client) {
        self.admits(client, &self.admitted.clone());
        self.denies(client, &self.denied.clone());
        self.assert_no_way_round();
    }

    /// An admitted image arrives whole.
    #[track_caller]
    pub(crate) fn admits(&self, client: &impl Client, image: &Image) {
        client.pull(self, image).bytes();
        let (payload, digest) = client.content(self, image);
        assert!(payload == image.payload(), "the payload of {} differs", image.name());
        if let Some(digest) = digest {
            assert_eq!(digest, image.digest, "the digest of {}", image.name());
        }
    }

    /// A denied image fails, and the reason is in what the person at the client reads.
    #[track_caller]
    pub(crate) fn denies(&self, client: &impl Client, image: &Image) {
        let output = client.pull(self, image).refusal();
        assert_reason(&output, &image.name());
    }

    /// Nobody turned to the fallback, although it would have answered; and no blob of the denied image left the upstream.
    #[track_caller]
    pub(crate) fn assert_no_way_round(&mut self) {
        assert_eq!(self.fallback.requests(), [], "the fallback was asked");
        let manifest = format!("{}/v2/{}/manifests/{}", self.fallback.url(), self.denied.repository, self.denied.tag);
        assert_eq!(status(self.dir(), &manifest), "200", "the fallback is no way round");
        assert_eq!(self.fallback.requests().len(), 1, "the fallback's log does not show what it was asked");
        let asked = self.upstream.requests();
        let blobs: Vec<_> = asked.iter().filter(|request| asks_for_content(&request.target, &self.denied)).collect();
        assert!(blobs.is_empty(), "the upstream was asked for {blobs:?}");
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

/// The words that every client shows: who denied what, by which document and rule, and why.
#[track_caller]
pub(crate) fn assert_reason(output: &str, name: &str) {
    assert_reason_of("trust", output, name);
}

/// The same, where another check may have failed.
#[track_caller]
pub(super) fn assert_reason_of(check: &str, output: &str, name: &str) {
    let said =
        output.contains("pullgate: ") && output.contains(&format!("/{name} denied by ClusterImagePolicy/interop"));
    assert!(said, "the reason is not in the client's output:\n{output}");
    assert!(output.contains(&format!("{check}: ")), "what failed is not in the client's output:\n{output}");
}

fn asks_for_content(target: &str, image: &Image) -> bool {
    let blobs = format!("/v2/{}/blobs/", image.repository);
    target.strip_prefix(&blobs).is_some_and(|digest| !digest.starts_with("uploads/"))
}

/// The status that is answered to a GET.
pub(super) fn status(home: &Path, url: &str) -> String {
    // Without it docker-registry says 404 of every OCI manifest.
    let accept = ["--header", "Accept: application/vnd.oci.image.manifest.v1+json"];
    let arguments = ["--silent", "--output", "/dev/null", "--write-out", "%{http_code}", url];
    Program::new("curl", home).args(accept).args(arguments).run().text()
}

/// Puts the key of releases where policies look for it.
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
