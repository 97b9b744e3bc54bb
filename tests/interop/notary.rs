//! Docker Content Trust with the notary server and client of Debian: what they publish is verified as they mean it.

use std::collections::BTreeMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::Duration;

use bytes::Bytes;
use pullgate::runtime::Tasks;

use crate::harness::{Daemon, Gate, GateConfig, Image, Program, Registry, UPSTREAM, Variant};

const REPOSITORY: &str = "team/app";
/// Longer than the gate believes what it has learned from the server.
const REFRESH: Duration = Duration::from_millis(1500);

/// A notary server with its client, a registry, and a gate that trusts the root of one repository.
struct Notary {
    server: Option<Daemon>,
    address: SocketAddr,
    registry: Registry,
    dir: tempfile::TempDir,
}

impl Notary {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let registry = Registry::start("registry", Variant::Plain, dir.path(), &dir.path().join("storage"));
        let free = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = free.local_addr().expect("an address");
        drop(free);
        let mut notary = Self { server: None, address, registry, dir };
        notary.serve();
        notary
    }

    fn serve(&mut self) {
        let config = self.path().join("server.json");
        let text = format!(
            "{{\"server\": {{\"http_addr\": \"{}\"}}, \"trust_service\": {{\"type\": \"local\", \"key_algorithm\": \
             \"ed25519\"}}, \"logging\": {{\"level\": \"error\"}}, \"storage\": {{\"backend\": \"memory\"}}}}",
            self.address
        );
        fs::write(&config, text).expect("the configuration");
        let program = Program::daemon("notary-server", self.path()).args(["-config".as_ref(), config.as_os_str()]);
        let mut server = Daemon::start("notary-server", program, &self.path().join("server.log"), None);
        server.wait_for(|| std::net::TcpStream::connect(self.address).ok());
        self.server = Some(server);
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn gun() -> String {
        format!("{UPSTREAM}/{REPOSITORY}")
    }

    /// Runs the client, which asks nothing: every question is answered with yes.
    fn run(&self, words: &[&str]) {
        let client =
            format!("yes yes | notary -s {} -d {}/client {}", self.url(), self.path().display(), words.join(" "));
        let mut program = Program::new("sh", self.path()).args(["-c", &client]);
        for role in ["ROOT", "TARGETS", "SNAPSHOT", "DELEGATION"] {
            program = program.env(&format!("NOTARY_{role}_PASSPHRASE"), "a passphrase");
        }
        program.run().bytes();
    }

    fn init(&self) {
        self.run(&["init", "-p", &Self::gun()]);
    }

    /// Adds a role with a new key, which the client has; returns the certificate.
    fn delegate(&self, name: &str, options: &[&str]) -> PathBuf {
        let key = self.path().join(format!("{}.key", name.replace('/', "-")));
        let certificate = key.with_extension("crt");
        let create = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30", "-subj", "/CN=signer"];
        let files = ["-keyout".as_ref(), key.as_os_str(), "-out".as_ref(), certificate.as_os_str()];
        Program::new("openssl", self.path()).args(create).args(files).run().bytes();
        let file = certificate.display().to_string();
        self.run(&[&["delegation", "add", "-p", &Self::gun(), name, &file], options].concat());
        self.run(&["key", "import", &key.display().to_string(), "--role", "user"]);
        certificate
    }

    /// Pushes an image with this content under a tag.
    fn push(&self, tag: &str, content: &str) -> Image {
        let dir = self.path().join(content);
        let image = Image::push(&self.registry, &dir, &format!("{REPOSITORY}-{content}"), tag);
        let [from, to] =
            [image.repository.as_str(), REPOSITORY].map(|name| format!("{}/{name}:{tag}", self.registry.address()));
        Program::new("crane", self.path()).args(["copy", "--insecure", &from, &to]).run().bytes();
        Image { repository: REPOSITORY.into(), ..image }
    }

    fn sign(&self, image: &Image, tag: &str, roles: &[&str]) {
        let reference = format!("{}/{REPOSITORY}@{}", self.registry.address(), image.digest);
        let manifest = Program::new("crane", self.path()).args(["manifest", "--insecure", &reference]).run().bytes();
        let (size, hash) = (manifest.len().to_string(), image.digest.replace("sha256:", ""));
        let roles: Vec<&str> = roles.iter().flat_map(|role| ["--roles", role]).collect();
        self.run(&[&["addhash", "-p", &Self::gun(), tag, &size, "--sha256", &hash], &roles[..]].concat());
    }

    /// The newest root that the client has.
    fn root(&self) -> PathBuf {
        self.path().join("client/tuf").join(Self::gun()).join("metadata/root.json")
    }

    /// A gate with an IBM policy for content trust.
    fn gate(&self, name: &str, trust: &str, policy: &str) -> Gate {
        let dir = self.path().join(name);
        fs::create_dir_all(dir.join("policies")).expect("a directory");
        fs::copy(self.root(), dir.join("root.json")).expect("the root");
        let more = format!("notary = \"{}\"", self.url());
        let mut config = GateConfig { policies: policy.to_owned(), ..GateConfig::default() };
        config = config.upstream(UPSTREAM, &self.registry, &more);
        let more = format!("\n[trust]\nnegative_ttl = \"1s\"\nnotary_refresh = \"1s\"\n{trust}\n");
        config.upstreams.push_str(&more);
        config.start(&dir)
    }

    fn pinned_gate(&self) -> Gate {
        self.gate("gate", "notary_root = \"root.json\"", CISE)
    }

    /// The status and the body of a request for a manifest.
    fn pull(&self, gate: &Gate, reference: &str) -> (String, String) {
        let url = format!("{}/v2/{UPSTREAM}/{REPOSITORY}/manifests/{reference}", gate.url());
        let accept = "Accept: application/vnd.oci.image.manifest.v1+json";
        let arguments =
            ["--silent", "--write-out", "\n%{http_code}\n%header{docker-content-digest}", "-H", accept, &url];
        let text = Program::new("curl", self.path()).args(arguments).run().text();
        let mut lines: Vec<&str> = text.lines().collect();
        let digest = lines.pop().unwrap_or_default().to_owned();
        if digest.starts_with("sha256:") {
            return (lines.pop().unwrap_or_default().to_owned(), digest);
        }
        (digest, lines.join(" "))
    }

    #[track_caller]
    fn serves(&self, gate: &Gate, tag: &str, image: &Image) {
        assert_eq!(self.pull(gate, tag), ("200".to_owned(), image.digest.clone()), "{tag}");
    }

    #[track_caller]
    fn denies(&self, gate: &Gate, reference: &str, part: &str) {
        let (status, body) = self.pull(gate, reference);
        assert!(status == "403" && body.contains(part), "{reference}: {status} {body}");
    }

    /// The documents that the server has now.
    fn documents(&self) -> BTreeMap<String, Bytes> {
        let names = ["root", "timestamp", "snapshot", "targets", "targets/releases"];
        let path = |name: &str| format!("/v2/{}/_trust/tuf/{name}.json", Self::gun());
        let fetch = |path: String| {
            let bytes =
                Program::new("curl", self.path()).args(["--silent", "--fail", &format!("{}{path}", self.url())]);
            (path, bytes.run().into_stdout().into())
        };
        names.iter().map(|name| fetch(path(name))).filter(|(_, bytes): &(String, Bytes)| !bytes.is_empty()).collect()
    }
}

const CISE: &str = "\
apiVersion: securityenforcement.admission.cloud.ibm.com/v1beta1
kind: ClusterImagePolicy
metadata: {name: default}
spec:
  repositories:
  - name: \"*\"
    policy: {trust: {enabled: true}}
";

#[test]
fn signed_tags_are_served_and_others_are_denied() {
    let notary = Notary::start();
    notary.init();
    let (one, two) = (notary.push("v1", "one"), notary.push("v2", "two"));
    notary.sign(&one, "v1", &[]);
    let gate = notary.pinned_gate();
    notary.serves(&gate, "v1", &one);
    notary.serves(&gate, &one.digest, &one);
    notary.denies(&gate, "v2", "No valid trust data for v2");
    notary.denies(&gate, &two.digest, "No signed targets found");
    // The tag moves at the registry: the signed digest is served.
    let moved = notary.push("v1", "moved");
    assert_ne!(moved.digest, one.digest);
    sleep(REFRESH);
    notary.serves(&gate, "v1", &one);
    // And then it is signed again.
    notary.sign(&moved, "v1", &[]);
    sleep(REFRESH);
    notary.serves(&gate, "v1", &moved);
}

#[test]
fn delegations_release_and_named_signers_must_sign() {
    let notary = Notary::start();
    notary.init();
    notary.delegate("targets/releases", &["--all-paths"]);
    let alice = notary.delegate("targets/alice", &["--all-paths"]);
    let limited = notary.delegate("targets/limited", &["--paths", "rc-"]);
    let image = notary.push("v1", "one");
    notary.sign(&image, "v1", &["targets/releases", "targets/alice"]);
    let reference = format!("{}/{REPOSITORY}:v1", notary.registry.address());
    Program::new("crane", notary.path()).args(["tag", "--insecure", &reference, "v2"]).run().bytes();
    notary.sign(&image, "v2", &["targets/releases"]);
    notary.sign(&image, "rc-1", &["targets/releases", "targets/limited"]);
    notary.push("only-alice", "one");
    notary.sign(&image, "only-alice", &["targets/alice"]);
    let gate = notary.pinned_gate();
    for tag in ["v1", "v2", "rc-1"] {
        notary.serves(&gate, tag, &image);
    }
    notary.denies(&gate, "only-alice", "No valid trust data for only-alice");
    let cluster = |name: &str, certificate: &Path| {
        let text = fs::read_to_string(certificate).expect("a certificate").replace('\n', "\\n");
        format!(
            "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {{name: p}}\nspec:\n  authorities:\n  \
             - name: signer\n    notary: {{signers: [{{name: {name}, key: {{data: \"{text}\"}}}}]}}\n  repositories:\n  \
             - {{name: \"*\", policy: {{trust: signer}}}}\n"
        )
    };
    let trust = "notary_root = \"root.json\"";
    let gate = notary.gate("alice", trust, &cluster("alice", &alice));
    notary.serves(&gate, "v1", &image);
    notary.denies(&gate, "v2", "signer alice has not signed tag v2");
    let gate = notary.gate("forged", trust, &cluster("alice", &limited));
    notary.denies(&gate, "v1", "targets/alice is not signed with the policy's key for signer alice");
    let gate = notary.gate("limited", trust, &cluster("limited", &limited));
    notary.serves(&gate, "rc-1", &image);
    notary.denies(&gate, "v1", "signer limited has not signed tag v1");
}

#[test]
fn keys_of_every_role_are_rotated() {
    let notary = Notary::start();
    notary.init();
    let image = notary.push("v1", "one");
    notary.sign(&image, "v1", &[]);
    let (pinned, remembering) = (notary.pinned_gate(), notary.gate("remembering", "first_use = \"remember\"", CISE));
    let gates = [&pinned, &remembering];
    gates.iter().for_each(|gate| notary.serves(gate, "v1", &image));
    let gun = Notary::gun();
    for words in [&["timestamp", "-r"][..], &["snapshot", "-r"], &["targets"], &["root"], &["root"]] {
        notary.run(&[&["key", "rotate", &gun], words].concat());
        sleep(REFRESH);
        gates.iter().for_each(|gate| notary.serves(gate, "v1", &image));
    }
}

/// Somebody answers in place of the server with what was valid before.
#[test]
fn old_documents_are_not_accepted_again() {
    let mut notary = Notary::start();
    notary.init();
    let (old, new) = (notary.push("v1", "old"), notary.push("v1", "new"));
    notary.sign(&old, "v1", &[]);
    let before = notary.documents();
    let gate = notary.pinned_gate();
    notary.serves(&gate, "v1", &old);
    notary.sign(&new, "v1", &[]);
    sleep(REFRESH);
    notary.serves(&gate, "v1", &new);
    notary.server = None;
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mirror = pullgate::sample::Registry::new();
    before.into_iter().for_each(|(path, bytes)| mirror.put_document(&path, bytes));
    let tasks = Tasks::new();
    let _listening = runtime.block_on(mirror.bind(notary.address, &tasks)).expect("the port of the server");
    sleep(REFRESH);
    notary.denies(&gate, "v1", "replay of an old document");
}
