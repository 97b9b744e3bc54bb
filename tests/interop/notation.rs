//! The libraries of the Notary Project: the gate verifies what they sign, by notation's own trust policy.

use std::fs;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Gate, GateConfig, Image, Program, Registry, UPSTREAM, Variant};

/// A registry with signed images, and notation's configuration folder.
struct Signing {
    store: Registry,
    dir: TempDir,
}

/// A gate in front of it, whose only authority is the trust policy.
struct SignedWorld {
    gate: Gate,
    signing: Signing,
}

impl Signing {
    /// A registry, and a trust policy with these statements.
    fn with(statements: &[Value]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let store = Registry::start("store", Variant::Plain, dir.path(), &dir.path().join("storage"));
        let notation = dir.path().join("policies/notation");
        fs::create_dir_all(&notation).expect("the folder of notation");
        let policy = json!({"version": "1.0", "trustPolicies": statements});
        fs::write(notation.join("trustpolicy.json"), policy.to_string()).expect("the trust policy");
        for kind in ["ca", "signingAuthority", "tsa"] {
            trust_store(&notation, kind);
        }
        Self { store, dir }
    }

    fn folder(&self, path: &str) -> PathBuf {
        self.dir.path().join("policies/notation").join(path)
    }

    /// Pushes an image that nobody has signed.
    fn unsigned(&self, name: &str) -> Image {
        Image::push(&self.store, self.dir.path(), name, "1")
    }

    /// Pushes an image and signs it with these arguments.
    fn signed(&self, name: &str, arguments: &[&str]) -> Image {
        let image = self.unsigned(name);
        self.sign(&image, arguments);
        image
    }

    fn sign(&self, image: &Image, arguments: &[&str]) {
        let reference = format!("{}/{}@{}", self.store.address(), image.repository, image.digest);
        let store = self.folder("truststore").display().to_string();
        let sign = ["-ref", &reference, "-store", &store];
        Program::new("notation-sign", self.dir.path()).args(sign).args(arguments).run().bytes();
    }

    /// Starts the gate with the trust stores as they are now.
    fn serve(self, spec: &str) -> SignedWorld {
        let gate = GateConfig::default().upstream(UPSTREAM, &self.store, "").policy("interop", spec);
        SignedWorld { gate: gate.start(self.dir.path()), signing: self }
    }
}

impl SignedWorld {
    /// The status and the body of the manifest through the gate.
    fn pull(&self, image: &Image) -> (String, String) {
        let url = format!("{}/v2/{UPSTREAM}/{}/manifests/{}", self.gate.url(), image.repository, image.tag);
        let accept = "Accept: application/vnd.oci.image.manifest.v1+json";
        let curl = ["--silent", "--header", accept, "--write-out", "\n%{http_code}", &url];
        let output = Program::new("curl", self.signing.dir.path()).args(curl).run().text();
        let (body, status) = output.rsplit_once('\n').expect("a status after the body");
        (status.to_owned(), body.to_owned())
    }

    #[track_caller]
    fn admits(&self, image: &Image) {
        let (status, body) = self.pull(image);
        assert_eq!(status, "200", "{}: {body}", image.name());
    }

    #[track_caller]
    fn denies(&self, image: &Image, part: &str) {
        let (status, body) = self.pull(image);
        assert!(status == "403" && body.contains(part), "{}: {status} {body}", image.name());
    }
}

const SPEC: &str = "  authorities:
  - name: notary-project
    notation: {trustPolicy: {file: notation/trustpolicy.json}, trustStore: notation/truststore}
  repositories:
  - name: \"*\"
    policy: {trust: notary-project}
";

/// A trust store with one root that signs nothing, because an empty one is a mistake.
fn trust_store(notation: &Path, kind: &str) {
    let folder = notation.join(format!("truststore/x509/{kind}/acme"));
    fs::create_dir_all(&folder).expect("a trust store");
    let (key, certificate) = (notation.join("unused.key"), folder.join("unused.crt"));
    let request = ["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/O=unused", "-keyout"];
    let (key, certificate) = (key.as_os_str(), certificate.as_os_str());
    Program::new("openssl", notation).args(request).args([key, "-out".as_ref(), certificate]).run().bytes();
}

fn statement(name: &str, scopes: &[&str], level: &Value, stores: &[&str]) -> Value {
    json!({
        "name": name, "registryScopes": scopes, "signatureVerification": level, "trustStores": stores,
        "trustedIdentities": ["x509.subject: C=US, ST=WA, O=Acme\\, Inc."]
    })
}

fn strict() -> Value {
    statement("all", &["*"], &json!({"level": "strict"}), &["ca:acme", "signingAuthority:acme"])
}

#[test]
fn every_key_in_both_forms_is_admitted() {
    let signing = Signing::with(&[strict()]);
    let mut images = Vec::new();
    for format in ["jws", "cose"] {
        for key in ["rsa-2048", "rsa-3072", "rsa-4096", "ec-256", "ec-384", "ec-521"] {
            images.push(signing.signed(&format!("signed/{format}-{key}"), &["-format", format, "-key", key]));
        }
        for (name, argument) in [
            ("self-signed", &["-self-signed"][..]),
            ("authority", &["-authority"]),
            ("referrers-tag", &["-fallback"]),
            ("expiring", &["-expiry", "1h"]),
        ] {
            let arguments = [&["-format", format][..], argument].concat();
            images.push(signing.signed(&format!("signed/{format}-{name}"), &arguments));
        }
    }
    let unsigned = signing.unsigned("signed/nobody");
    let world = signing.serve(SPEC);
    images.iter().for_each(|image| world.admits(image));
    world.denies(&unsigned, "notary-project: not signed");
}

#[test]
fn signatures_that_do_not_count_say_why() {
    let signing = Signing::with(&[strict()]);
    let refused = [
        ("expired", &["-expiry", "-1h"][..], "expired at"),
        ("stranger", &["-name", "other"], "is in a ca trust store"),
        ("plugin", &["-plugin"], "can only be verified by a plugin of notation"),
    ];
    let sign = |(name, arguments, part): &(&str, &[&str], &'static str)| {
        (signing.signed(&format!("bad/{name}"), arguments), *part)
    };
    let images: Vec<_> = refused.iter().map(sign).collect();
    let both = signing.signed("bad/and-good", &["-expiry", "-1h"]);
    signing.sign(&both, &[]);
    let world = signing.serve(SPEC);
    images.iter().for_each(|(image, part)| world.denies(image, part));
    world.admits(&both);
}

/// `openssl ts` is the timestamping authority, with RSA and with a curve.
#[test]
fn timestamps_outlive_certificates() {
    for key in [["-newkey", "rsa:2048"], ["-newkey", "ec:p256.pem"]] {
        let stores = ["ca:acme", "tsa:acme"];
        let signing = Signing::with(&[statement("all", &["*"], &json!({"level": "strict"}), &stores)]);
        let tsa = timestamping_authority(signing.dir.path(), key);
        fs::copy(tsa.join("root.pem"), signing.folder("truststore/x509/tsa/acme/root.pem")).expect("the root");
        let folder = tsa.display().to_string();
        let stamped = ["jws", "cose"].map(|format| {
            let arguments = ["-format", format, "-tsa", &folder, "-lifetime", "3s"];
            signing.signed(&format!("signed/{format}"), &arguments)
        });
        let bare = signing.signed("signed/bare", &[]);
        std::thread::sleep(std::time::Duration::from_secs(4));
        let world = signing.serve(SPEC);
        stamped.iter().for_each(|image| world.admits(image));
        world.denies(&bare, "has no timestamp, which the trust policy requires");
    }
}

/// The lists in files decide without any request.
#[test]
fn revocation_lists_in_files() {
    let signing = Signing::with(&[strict()]);
    let lists = signing.folder("crls");
    fs::create_dir_all(&lists).expect("the folder of lists");
    let list = |name: &str| lists.join(name).display().to_string();
    let url = ["-crl", "http://crl.invalid/a.crl", "-list"];
    let good = signing.signed("signed/good", &[&url[..], &[&list("good.crl")]].concat());
    let revoked = signing.signed("signed/revoked", &[&url[..], &[&list("revoked.crl"), "-revoked"]].concat());
    let world = signing.serve(&SPEC.replace("truststore}", "truststore, revocationLists: notation/crls}"));
    world.admits(&good);
    world.denies(&revoked, "is revoked (KeyCompromise)");
}

/// A folder with `tsa.cnf`, keys and certificates for `openssl ts`.
fn timestamping_authority(dir: &Path, key: [&str; 2]) -> PathBuf {
    let tsa = dir.join("tsa");
    fs::create_dir_all(&tsa).expect("a folder");
    let configuration = "[tsa]
default_tsa = authority
[authority]
serial = serial
signer_cert = tsa.pem
certs = root.pem
signer_key = tsa.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256, sha384, sha512
accuracy = secs:1
ess_cert_id_alg = sha256
crypto_device = builtin
[root]
basicConstraints = critical, CA:TRUE
keyUsage = critical, keyCertSign, cRLSign
[signer]
basicConstraints = critical, CA:FALSE
keyUsage = critical, digitalSignature
extendedKeyUsage = critical, timeStamping
[req]
distinguished_name = name
[name]
";
    fs::write(tsa.join("tsa.cnf"), configuration).expect("the configuration");
    fs::write(tsa.join("serial"), "01\n").expect("the serial number");
    let openssl = |arguments: &[&str]| {
        let text = arguments.join(" ");
        // A shell, because the relative paths are those of the folder.
        let script = format!("cd {} && openssl {text}", tsa.display());
        Program::new("sh", dir).args(["-c", &script]).run().bytes();
    };
    openssl(&["ecparam", "-name", "prime256v1", "-out", "p256.pem"]);
    let root =
        ["-x509", "-nodes", "-config", "tsa.cnf", "-extensions", "root", "-days", "2", "-subj", "/O=tsa/CN=root"];
    openssl(&[&["req"][..], &key, &root, &["-keyout", "root.key", "-out", "root.pem"]].concat());
    let request =
        ["-nodes", "-config", "tsa.cnf", "-subj", "/O=tsa/CN=signer", "-keyout", "tsa.key", "-out", "tsa.csr"];
    openssl(&[&["req"][..], &key, &request].concat());
    let sign =
        ["x509", "-req", "-in", "tsa.csr", "-CA", "root.pem", "-CAkey", "root.key", "-CAcreateserial", "-days", "2"];
    openssl(&[&sign[..], &["-extfile", "tsa.cnf", "-extensions", "signer", "-out", "tsa.pem"]].concat());
    tsa
}

/// Statements choose by repository, and levels decide what is enforced.
#[test]
fn levels_and_scopes() {
    let scope = |name: &str| format!("{UPSTREAM}/level/{name}");
    let (skip, permissive, audit) = (scope("skip"), scope("permissive"), scope("audit"));
    let signing = Signing::with(&[
        strict(),
        json!({"name": "skip", "registryScopes": [skip], "signatureVerification": {"level": "skip"}}),
        statement("permissive", &[&permissive], &json!({"level": "permissive"}), &["ca:acme"]),
        statement("audit", &[&audit], &json!({"level": "audit"}), &["ca:acme"]),
    ]);
    let unsigned = signing.unsigned("level/skip");
    let expired = signing.signed("level/permissive", &["-expiry", "-1h"]);
    let stranger = signing.signed("level/audit", &["-name", "other"]);
    let world = signing.serve(SPEC);
    for image in [&unsigned, &expired, &stranger] {
        world.admits(image);
    }
}
