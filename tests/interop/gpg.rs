//! Simple signing: images signed by `gpg` and skopeo, judged by skopeo and by the gate under the same
//! containers-policy.json, which `pullgate policy import` turns into a document.

mod cases;

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Finished, Gate, GateConfig, Image, Program, Registry, Variant, program};
use cases::{identity_cases, key_cases, message_cases, signed_cases};

/// Keys, a registry, two stores of signatures, and one image for each case.
struct Signing {
    registry: Registry,
    cases: Vec<Case>,
    dir: TempDir,
}

/// One image, and what is required for its repository.
struct Case {
    image: Image,
    requirements: Value,
    /// Whether skopeo admits it, and whether the gate does.
    admitted: (bool, bool),
    /// The reference that is pulled: `:TAG` or `@DIGEST`.
    suffix: String,
    /// A part of the gate's reason.
    reason: &'static str,
}

/// A GnuPG home directory. Its agent ends with it.
struct Keys(PathBuf);

impl Drop for Keys {
    fn drop(&mut self) {
        Program::new("gpgconf", &self.0).env("GNUPGHOME", &self.0).args(["--kill", "all"]).run();
    }
}

impl Keys {
    /// The keys of the cases. `expired` was valid for one day in 2020.
    fn generate(dir: &Path) -> Self {
        let home = dir.join("keys");
        fs::create_dir(&home).expect("a directory");
        let keys = Self(home);
        let owner_only = std::os::unix::fs::PermissionsExt::from_mode(0o700);
        fs::set_permissions(&keys.0, owner_only).expect("permissions");
        for (name, algorithm, usage, expires) in [
            ("rsa", "rsa2048", "sign", "never"),
            ("ed25519", "ed25519", "sign", "never"),
            ("p256", "nistp256", "sign", "never"),
            ("primary", "ed25519", "cert", "never"),
            ("revoked", "ed25519", "sign", "never"),
            ("half", "ed25519", "cert", "never"),
            ("stranger", "ed25519", "sign", "never"),
        ] {
            keys.gpg(&["--quick-generate-key", name, algorithm, usage, expires]).bytes();
        }
        keys.gpg(&[
            "--faked-system-time",
            "20200101T000000",
            "--quick-generate-key",
            "expired",
            "ed25519",
            "sign",
            "1d",
        ])
        .bytes();
        for name in ["primary", "half"] {
            keys.gpg(&["--quick-add-key", &keys.fingerprint(name), "ed25519", "sign", "never"]).bytes();
        }
        keys
    }

    fn gpg(&self, arguments: &[&str]) -> Finished {
        let options = ["--batch", "--yes", "--quiet", "--pinentry-mode", "loopback", "--passphrase", ""];
        Program::new("gpg", &self.0).env("GNUPGHOME", &self.0).args(options).args(arguments).run()
    }

    /// The fingerprint of the primary key.
    fn fingerprint(&self, name: &str) -> String {
        let listed = self.gpg(&["--with-colons", "--list-keys", &format!("={name}")]).text();
        let line = listed.lines().find(|line| line.starts_with("fpr:")).expect("a fingerprint");
        line.split(':').nth(9).expect("a fingerprint").to_owned()
    }

    /// Exports public keys into one ring.
    fn ring(&self, names: &[&str], file: &Path) -> PathBuf {
        let mut ring = Vec::new();
        for name in names {
            ring.extend(self.gpg(&["--export", &format!("={name}")]).bytes());
        }
        fs::write(file, ring).expect("a key ring");
        file.to_owned()
    }

    /// Signs as containers/image does, with more options.
    fn sign(&self, name: &str, payload: &str, options: &[&str]) -> Vec<u8> {
        let file = self.0.join("payload");
        fs::write(&file, payload).expect("the payload");
        let (file, name) = (file.display().to_string(), format!("={name}"));
        self.gpg(&[options, &["--local-user", &name, "--output", "-", "--sign", &file]].concat()).bytes()
    }

    /// Revokes a key, after its signatures were made.
    fn revoke(&self, name: &str) {
        let file = self.0.join(format!("openpgp-revocs.d/{}.rev", self.fingerprint(name)));
        let text = fs::read_to_string(&file).expect("the revocation certificate").replace(":-----BEGIN", "-----BEGIN");
        fs::write(&file, text).expect("the revocation certificate");
        self.gpg(&["--import", &file.display().to_string()]).bytes();
    }

    /// Revokes the only subkey of a key.
    fn revoke_subkey(&self, name: &str) {
        let script = self.0.join("commands");
        fs::write(&script, "key 1\nrevkey\ny\n0\n\ny\nsave\n").expect("a file");
        let edit = ["--command-file", &script.display().to_string(), "--edit-key", &self.fingerprint(name)];
        let options = ["--yes", "--quiet", "--pinentry-mode", "loopback", "--passphrase", "", "--no-tty"];
        Program::new("gpg", &self.0).env("GNUPGHOME", &self.0).args(options).args(edit).run().bytes();
    }
}

impl Signing {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let registry = Registry::start("registry", Variant::Plain, dir.path(), &dir.path().join("storage"));
        for folder in ["file", "http", "registries.d"] {
            fs::create_dir(dir.path().join(folder)).expect("a directory");
        }
        Self { registry, cases: Vec::new(), dir }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn push(&self, name: &str) -> Image {
        Image::push(&self.registry, self.dir.path(), name, "v1")
    }

    fn name(&self, image: &Image) -> String {
        format!("{}/{}", self.registry.address(), image.repository)
    }

    /// The payload of a signature.
    fn payload(&self, image: &Image, reference: &str) -> String {
        json!({
            "critical": {
                "identity": {"docker-reference": reference},
                "image": {"docker-manifest-digest": image.digest},
                "type": "atomic container signature"
            },
            "optional": {"creator": "interop", "timestamp": 1}
        })
        .to_string()
    }

    /// Stores signatures: those of `http/…` on the web server, all others in the folder.
    fn store(&self, image: &Image, signatures: &[Vec<u8>]) {
        let store = if image.repository.starts_with("http/") { "http" } else { "file" };
        let folder = format!("{store}/{}@{}", image.repository, image.digest.replace(':', "="));
        let folder = self.path(&folder);
        fs::create_dir_all(&folder).expect("a directory");
        for (index, bytes) in signatures.iter().enumerate() {
            fs::write(folder.join(format!("signature-{}", index + 1)), bytes).expect("a signature");
        }
    }

    /// A case in which both admit, or both deny.
    fn agree(&mut self, image: Image, requirements: Value, admitted: bool, reason: &'static str) {
        self.case(image, requirements, (admitted, admitted), ":v1", reason);
    }

    fn case(&mut self, image: Image, requirements: Value, admitted: (bool, bool), suffix: &str, reason: &'static str) {
        let suffix = suffix.replace("@DIGEST", &format!("@{}", image.digest));
        self.cases.push(Case { image, requirements, admitted, suffix, reason });
    }

    /// Writes the policy with its registries.d, and imports it for a gate.
    fn policies(&self, server: &str) -> (PathBuf, PathBuf) {
        let address = self.registry.address();
        let scopes: serde_json::Map<String, Value> =
            self.cases.iter().map(|case| (self.name(&case.image), case.requirements.clone())).collect();
        let policy = json!({"default": [{"type": "reject"}], "transports": {"docker": scopes}});
        fs::write(self.path("policy.json"), policy.to_string()).expect("the policy");
        let registries = format!(
            "docker:\n  {address}: {{lookaside: \"file://{}\"}}\n  {address}/http: {{lookaside: \"{server}\"}}\n",
            self.path("file").display()
        );
        fs::write(self.path("registries.d/interop.yaml"), registries).expect("registries.d");
        (self.path("policy.json"), self.path("registries.d"))
    }

    fn gate(&self, policy: &Path, registries: &Path) -> Gate {
        let arguments = ["policy".as_ref(), "import".as_ref(), policy.as_os_str()];
        let registries = ["--registries-d".as_ref(), registries.as_os_str()];
        let imported = Program::new(&program(), self.dir.path()).args(arguments).args(registries).run().text();
        GateConfig { policies: imported, ..GateConfig::default() }
            .upstream(self.registry.address(), &self.registry, "path = \"r\"\n")
            .start(self.dir.path())
    }

    /// skopeo's verdict.
    fn skopeo(&self, case: &Case, policy: &Path, registries: &Path) -> Finished {
        let source = format!("docker://{}{}", self.name(&case.image), case.suffix);
        let target = format!("dir:{}", self.path("copied").display());
        let global = ["--policy".as_ref(), policy.as_os_str(), "--registries.d".as_ref(), registries.as_os_str()];
        let copy = ["copy", "--remove-signatures", "--src-tls-verify=false", &source, &target];
        Program::new("skopeo", self.dir.path()).args(global).args(copy).run()
    }
}

/// The status and the body of the gate's answer.
fn ask(gate: &Gate, case: &Case, home: &Path) -> (String, String) {
    let reference = &case.suffix[1..];
    let url = format!("{}/v2/r/{}/manifests/{reference}", gate.url(), case.image.repository);
    let text = Program::new("curl", home).args(["--silent", "--write-out", "\n%{http_code}", &url]).run().text();
    let (body, status) = text.rsplit_once('\n').expect("a status");
    (status.to_owned(), body.to_owned())
}

/// A web server for the files of a folder.
fn serve(folder: PathBuf) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { continue };
            let mut head = [0; 4096];
            let Ok(length) = stream.read(&mut head) else { continue };
            let head = String::from_utf8_lossy(&head[..length]).into_owned();
            let path = head.split(' ').nth(1).unwrap_or_default().trim_start_matches('/').to_owned();
            let answer = match fs::read(folder.join(path)) {
                Ok(body) => {
                    let head =
                        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                    [head.into_bytes(), body].concat()
                }
                Err(_) => b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".to_vec(),
            };
            let _ = stream.write_all(&answer);
        }
    });
    format!("http://{address}")
}

fn signed_by(ring: &Path) -> Value {
    json!({"type": "signedBy", "keyType": "GPGKeys", "keyPath": ring})
}

fn with_identity(ring: &Path, identity: Value) -> Value {
    let mut requirement = signed_by(ring);
    requirement["signedIdentity"] = identity;
    requirement
}

/// Every verdict of the gate is that of skopeo, except where the gate is stricter on purpose.
#[test]
fn skopeo_and_the_gate_agree() {
    let mut world = Signing::new();
    let keys = Keys::generate(world.dir.path());
    signed_cases(&mut world, &keys);
    key_cases(&mut world, &keys);
    identity_cases(&mut world, &keys);
    message_cases(&mut world, &keys);
    let server = serve(world.path("http"));
    let (policy, registries) = world.policies(&server);
    let gate = world.gate(&policy, &registries);
    let mut wrong = Vec::new();
    for case in &world.cases {
        let skopeo = world.skopeo(case, &policy, &registries);
        let (status, body) = ask(&gate, case, world.dir.path());
        let name = format!("{}{}", case.image.repository, case.suffix);
        if skopeo.succeeded() != case.admitted.0 {
            wrong.push(format!("{name}: skopeo: {}", String::from_utf8_lossy(&skopeo.into_stdout())));
        }
        let expected = if case.admitted.1 { "200" } else { "403" };
        if status != expected || !case.admitted.1 && !body.contains(case.reason) {
            wrong.push(format!("{name}: the gate answered {status}: {body}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), world.cases.len(), wrong.join("\n"));
}

/// Whether this skopeo accepts signatures by subkeys.
fn accepts_subkeys() -> bool {
    let version = Program::new("skopeo", Path::new("/tmp")).args(["--version"]).run().text();
    let number = version.split(['.', ' ']).filter_map(|part| part.parse::<u32>().ok()).take(2).collect::<Vec<_>>();
    number >= vec![1, 21]
}
