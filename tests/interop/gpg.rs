//! Simple signing: images signed by `gpg` and skopeo, judged by skopeo and by the gate under the same
//! containers-policy.json, which `pullgate policy import` turns into a document.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::thread;

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Finished, Gate, GateConfig, Image, Program, Registry, Variant, program};

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

/// Signatures that skopeo makes, in both of its ways.
fn signed_cases(world: &mut Signing, keys: &Keys) {
    for (name, key) in
        [("file/rsa", "rsa"), ("http/ed25519", "ed25519"), ("http/p256", "p256"), ("file/subkey", "primary")]
    {
        let image = world.push(name);
        let manifest = world.path("manifest.json");
        let crane = ["manifest", "--insecure", &format!("{}:v1", world.name(&image))];
        fs::write(&manifest, Program::new("crane", world.dir.path()).args(crane).run().bytes()).expect("the manifest");
        let signature = world.path("signature");
        let reference = format!("{}:v1", world.name(&image));
        let arguments = [
            "standalone-sign".as_ref(),
            manifest.as_os_str(),
            reference.as_ref(),
            keys.fingerprint(key).as_ref(),
            "--output".as_ref(),
            signature.as_os_str(),
        ]
        .map(|argument: &std::ffi::OsStr| argument.to_owned());
        Program::new("skopeo", world.dir.path()).env("GNUPGHOME", &keys.0).args(arguments).run().bytes();
        world.store(&image, &[fs::read(&signature).expect("a signature")]);
        let ring = keys.ring(&[key], &world.path(&format!("{key}.gpg")));
        // Until containers/image 5.36, the fingerprint of a subkey was compared with those of primary keys.
        let admitted = (key != "primary" || accepts_subkeys(), true);
        world.case(image, json!([signed_by(&ring)]), admitted, ":v1", "");
    }
    let from = world.push("unsigned/source");
    let to = Image { repository: "file/copied".into(), ..from.clone() };
    let staging = world.path("staging.d");
    fs::create_dir(&staging).expect("a directory");
    let section = format!("default-docker: {{lookaside-staging: \"file://{}\"}}\n", world.path("file").display());
    fs::write(staging.join("staging.yaml"), section).expect("registries.d");
    let reference = |image: &Image| format!("docker://{}:v1", world.name(image));
    let tls = ["--src-tls-verify=false", "--dest-tls-verify=false", "--sign-by", &keys.fingerprint("rsa")];
    let staging = staging.display().to_string();
    let copy = [&["--insecure-policy", "--registries.d", &staging, "copy"], &tls[..]].concat();
    let copied = Program::new("skopeo", world.dir.path()).env("GNUPGHOME", &keys.0).args(copy);
    copied.args([reference(&from), reference(&to)]).run().bytes();
    let ring = world.path("rsa.gpg");
    world.agree(to, json!([signed_by(&ring)]), true, "");
    world.agree(from, json!([signed_by(&ring)]), false, "not signed");
}

/// Keys that are expired, revoked, or of somebody else; lists of requirements.
fn key_cases(world: &mut Signing, keys: &Keys) {
    let rsa = world.path("rsa.gpg");
    let ed25519 = world.path("ed25519.gpg");
    let mut signed = Vec::new();
    for (name, key, options) in [
        ("file/stranger", "stranger", &[][..]),
        ("file/expired", "expired", &["--faked-system-time", "20200101T120000"]),
        ("file/revoked", "revoked", &[]),
        ("file/subkey-revoked", "half", &[]),
        ("file/future", "rsa", &["--faked-system-time", "20990101T000000", "--default-sig-expire", "1d"]),
        ("file/lapsed", "ed25519", &["--default-sig-expire", "seconds=1"]),
    ] {
        let image = world.push(name);
        let payload = world.payload(&image, &format!("{}:v1", world.name(&image)));
        world.store(&image, &[keys.sign(key, &payload, options)]);
        signed.push(image);
    }
    keys.revoke("revoked");
    keys.revoke_subkey("half");
    thread::sleep(std::time::Duration::from_secs(2));
    let own = |key: &str| keys.ring(&[key], &world.path(&format!("{key}.gpg")));
    let rings = [rsa.clone(), own("expired"), own("revoked"), own("half"), rsa.clone(), ed25519.clone()];
    let reasons = ["which is not in the key ring", "not valid now", "revoked", "revoked", "ot live until", "xpired"];
    for ((image, ring), reason) in signed.into_iter().zip(rings).zip(reasons) {
        // gpg takes a signature from the future for a good one; here the gate is stricter on purpose.
        let skopeo = image.repository == "file/future";
        world.case(image, json!([signed_by(&ring)]), (skopeo, false), ":v1", reason);
    }
    for (name, signers, admitted) in [
        ("file/both", &["rsa", "ed25519"][..], true),
        ("file/one", &["rsa"], false),
        ("file/good-last", &["stranger", "rsa", "ed25519"], true),
    ] {
        let image = world.push(name);
        let payload = world.payload(&image, &format!("{}:v1", world.name(&image)));
        let signatures: Vec<_> = signers.iter().map(|key| keys.sign(key, &payload, &[])).collect();
        world.store(&image, &signatures);
        world.agree(image, json!([signed_by(&rsa), signed_by(&ed25519)]), admitted, "not in the key ring");
    }
    let either = json!([{"type": "signedBy", "keyType": "GPGKeys", "keyPaths": [ed25519, rsa]}]);
    let ring = keys.ring(&["stranger", "rsa"], &world.path("several.gpg"));
    for (name, requirements, admitted) in [
        ("file/paths", either, true),
        ("file/several", json!([signed_by(&ring)]), true),
        ("file/rejected", json!([signed_by(&rsa), {"type": "reject"}]), false),
        ("file/accepted", json!([{"type": "insecureAcceptAnything"}]), true),
        ("file/accepted-too", json!([{"type": "insecureAcceptAnything"}, signed_by(&rsa)]), true),
    ] {
        let image = world.push(name);
        let payload = world.payload(&image, &format!("{}:v1", world.name(&image)));
        world.store(&image, &[keys.sign("rsa", &payload, &[])]);
        world.agree(image, requirements, admitted, "rejects every image");
    }
}

/// The name in the signature, and the one that is pulled.
fn identity_cases(world: &mut Signing, keys: &Keys) {
    let (rsa, address) = (world.path("rsa.gpg"), world.registry.address().to_owned());
    let exact = |kind: &str| json!({"type": kind});
    let named = |kind: &str, key: &str, value: &str| json!({"type": kind, key: value});
    let remap =
        json!({"type": "remapIdentity", "prefix": format!("{address}/id"), "signedPrefix": "origin.example.com/a"});
    for (name, signed, identity, suffix, admitted) in [
        ("id/default-tag", "OWN:v1", exact("matchRepoDigestOrExact"), ":v1", true),
        ("id/default-other-tag", "OWN:v2", exact("matchRepoDigestOrExact"), ":v1", false),
        ("id/default-digest", "OWN:v2", exact("matchRepoDigestOrExact"), "@DIGEST", true),
        ("id/default-other", "registry.example.com/x:v1", exact("matchRepoDigestOrExact"), "@DIGEST", false),
        ("id/default-bare", "OWN", exact("matchRepoDigestOrExact"), ":v1", false),
        ("id/exact-tag", "OWN:v1", exact("matchExact"), ":v1", true),
        ("id/exact-digest", "OWN:v1", exact("matchExact"), "@DIGEST", false),
        ("id/repository", "OWN:v9", exact("matchRepository"), ":v1", true),
        ("id/repository-bare", "OWN", exact("matchRepository"), ":v1", true),
        ("id/repository-other", "OWN/more:v1", exact("matchRepository"), ":v1", false),
        (
            "id/reference",
            "busybox:v1",
            named("exactReference", "dockerReference", "docker.io/library/busybox:v1"),
            ":v1",
            true,
        ),
        (
            "id/reference-tag",
            "busybox:v2",
            named("exactReference", "dockerReference", "docker.io/library/busybox:v1"),
            ":v1",
            false,
        ),
        (
            "id/one-repository",
            "busybox:v2",
            named("exactRepository", "dockerRepository", "docker.io/library/busybox"),
            ":v1",
            true,
        ),
        ("id/remap", "origin.example.com/a/remap:v1", remap.clone(), ":v1", true),
        ("id/remap-digest", "origin.example.com/a/remap-digest:v7", remap.clone(), "@DIGEST", true),
        ("id/remap-own", "OWN:v1", remap.clone(), ":v1", false),
    ] {
        let image = world.push(name);
        let own = world.name(&image);
        let payload = world.payload(&image, &signed.replace("OWN", &own));
        world.store(&image, &[keys.sign("rsa", &payload, &[])]);
        let reason = "does not match signedIdentity";
        world.case(image, json!([with_identity(&rsa, identity)]), (admitted, admitted), suffix, reason);
    }
}

/// What a signature file may contain instead of a signed message.
fn message_cases(world: &mut Signing, keys: &Keys) {
    let rsa = world.path("rsa.gpg");
    let other = world.push("file/elsewhere");
    let other_payload = world.payload(&other, &format!("{}:v1", world.name(&other)));
    for (name, options, change, admitted, reason) in [
        ("m/moved", &[][..], "other", (false, false), "is for another image"),
        ("m/zlib", &["--compress-algo", "zlib"], "", (true, true), ""),
        ("m/uncompressed", &["--compress-algo", "none"], "", (true, true), ""),
        ("m/sha512", &["--digest-algo", "SHA512"], "", (true, true), ""),
        ("m/twice", &["--local-user", "=ed25519"], "", (false, false), "more than one signature"),
        ("m/critical", &["--set-notation", "!only@example.com=x"], "", (false, false), "notation"),
        ("m/notation", &["--set-notation", "only@example.com=x"], "", (true, true), ""),
        ("m/type", &[], "type", (false, false), "its type is not"),
        ("m/member", &[], "member", (false, false), "unknown members"),
        ("m/duplicate", &[], "duplicate", (false, false), "strict JSON"),
        ("m/optional", &[], "optional", (false, false), "optional"),
        ("m/broken", &[], "broken", (false, false), ""),
        ("m/trailing", &["--compress-algo", "none"], "trailing", (false, false), "is more than one message"),
        // gpg does not write the length of compressed data, so what follows it is part of it, and is read by nobody.
        ("m/padded", &[], "trailing", (true, true), ""),
        ("m/armor", &["--armor"], "", (false, false), "ASCII armour"),
        // Here the gate is stricter on purpose.
        ("m/sha1", &["--digest-algo", "SHA1"], "", (true, false), "SHA1"),
    ] {
        let image = world.push(name);
        let mut payload = world.payload(&image, &format!("{}:v1", world.name(&image)));
        match change {
            "other" => payload.clone_from(&other_payload),
            "type" => payload = payload.replace("atomic container", "cosign container image"),
            "member" => payload = payload.replace("\"critical\":{", "\"critical\":{\"more\":1,"),
            "duplicate" => payload = payload.replace("\"optional\":{", "\"optional\":{},\"optional\":{"),
            "optional" => payload = payload.replace("\"timestamp\":1", "\"timestamp\":\"now\""),
            _ => {}
        }
        let mut signature = keys.sign("rsa", &payload, options);
        match change {
            "broken" => signature.truncate(signature.len() / 2),
            "trailing" => signature.extend(signature.clone()),
            _ => {}
        }
        world.store(&image, &[signature]);
        world.case(image, json!([signed_by(&rsa)]), admitted, ":v1", reason);
    }
    world.agree(other, json!([signed_by(&rsa)]), false, "not signed");
    let payload = |world: &Signing, image: &Image| world.payload(image, &format!("{}:v1", world.name(image)));
    for (name, arguments, reason) in [
        ("m/literal", &["--store"][..], "is not signed"),
        ("m/detached", &["--local-user", "=rsa", "--detach-sign"], "is a detached signature"),
        ("m/cleartext", &["--local-user", "=rsa", "--clear-sign"], "is a cleartext signature"),
        ("m/encrypted", &["--passphrase", "secret", "--symmetric"], "is encrypted"),
        ("m/text", &["--enarmor"], "ASCII armour"),
    ] {
        let image = world.push(name);
        let file = keys.0.join("payload");
        fs::write(&file, payload(world, &image)).expect("the payload");
        let output = ["--output", "-"];
        let signature = keys.gpg(&[&output, arguments, &[&file.display().to_string()]].concat()).bytes();
        world.store(&image, &[signature]);
        world.agree(image, json!([signed_by(&rsa)]), false, reason);
    }
}
