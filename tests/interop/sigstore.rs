//! A whole instance of Sigstore on this machine: Fulcio, a certificate log (TesseraCT), Rekor version 2, a time-stamping
//! authority, and an OpenID provider made here. cosign signs with them, and the gate verifies offline what cosign wrote.

mod witnesses;

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{KeyPair as _, RSA_PKCS1_SHA256, RsaPublicKeyComponents};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::harness::{Daemon, Gate, GateConfig, Image, Program, Registry, UPSTREAM, Variant};

const ALICE: &str = "alice@acme.com";
/// Before every key of an instance.
const START: &str = "start-time=2020-01-01T00:00:00Z";
const PROVENANCE: &str = "https://slsa.dev/provenance/v1";

/// An OpenID provider, which has one key and believes everybody.
struct Provider {
    address: SocketAddr,
    key: RsaKeyPair,
}

/// An instance of Sigstore, and what cosign and the gate know about it.
struct Instance {
    provider: Provider,
    servers: Vec<Daemon>,
    dir: TempDir,
    /// Dropped last.
    _turn: MutexGuard<'static, ()>,
}

/// One instance at a time, because every timestamp-server serves its metrics on the same port.
static TURN: Mutex<()> = Mutex::new(());

/// A registry with images, and a gate in front of it that trusts an instance.
struct Signed {
    gate: Gate,
    registry: Registry,
    dir: TempDir,
}

impl Provider {
    /// Starts to serve its two documents. The thread ends with the process.
    fn start() -> Self {
        let key = RsaKeyPair::generate(KeySize::Rsa2048).expect("a key");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let RsaPublicKeyComponents { n, e } = RsaPublicKeyComponents::<Vec<u8>>::from(key.public_key());
        let jwk = json!({"kty": "RSA", "alg": "RS256", "use": "sig", "kid": "k", "n": encode(n), "e": encode(e)});
        let url = format!("http://{address}");
        let configuration = json!({
            "issuer": url, "jwks_uri": format!("{url}/keys"), "authorization_endpoint": format!("{url}/authorize"),
            "token_endpoint": format!("{url}/token"), "response_types_supported": ["code"],
            "subject_types_supported": ["public"], "id_token_signing_alg_values_supported": ["RS256"]
        });
        let keys = json!({"keys": [jwk]});
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let _ = answer(stream, &configuration, &keys);
            }
        });
        Self { address, key }
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// A token for an email address, for an hour from `now`.
    fn token(&self, email: &str, now: u64) -> String {
        let claims = json!({
            "iss": self.url(), "aud": "sigstore", "sub": email, "email": email, "email_verified": true, "iat": now,
            "exp": now + 3600
        });
        let header = json!({"alg": "RS256", "kid": "k", "typ": "JWT"});
        let signed = format!("{}.{}", encode(header.to_string()), encode(claims.to_string()));
        let mut signature = vec![0; self.key.public_modulus_len()];
        let random = SystemRandom::new();
        self.key.sign(&RSA_PKCS1_SHA256, &random, signed.as_bytes(), &mut signature).expect("a signature");
        format!("{signed}.{}", encode(signature))
    }
}

fn encode(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Answers one request.
fn answer(stream: TcpStream, configuration: &Value, keys: &Value) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().transpose()?.unwrap_or_default();
    for line in lines.by_ref() {
        if line?.is_empty() {
            break;
        }
    }
    let body = if request.contains(" /keys ") { keys } else { configuration }.to_string();
    let head = format!("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: {}\r\n", body.len());
    write!(&stream, "{head}Connection: close\r\n\r\n{body}")
}

impl Instance {
    fn start() -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (provider, ports) = (Provider::start(), free_ports());
        let [fulcio, certificate_log, rekor, timestamps, ..] = ports.map(|port| format!("http://127.0.0.1:{port}"));
        let turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
        let mut instance = Self { provider, servers: Vec::new(), dir, _turn: turn };
        instance.make_keys();
        instance.servers = instance.start_servers(ports);
        let home = instance.path().to_owned();
        let option = |name: &str, rest: &[&str]| format!("--{name}={}", rest.join(","));
        let file = |name: &str, path: &str| format!("{name}={}", home.join(path).display());
        let url = |url: &str| format!("url={url}");
        let root = [
            option("fulcio", &[&url(&fulcio), &file("certificate-chain", "fulcio.pem")]),
            option("ctfe", &[&url(&format!("{certificate_log}/ct")), &file("public-key", "ct.pub"), START]),
            option("rekor", &["url=http://rekor.test", &file("public-key", "rekor.pub"), START, "origin=rekor.test"]),
            option("tsa", &[&url(&timestamps), &file("certificate-chain", "tsa.pem")]),
            option("out", &[&instance.file("trusted_root.json")]),
        ];
        Program::new("cosign", &home).args(["trusted-root", "create"]).args(root).run().bytes();
        let service = |version: u8| format!("api-version={version},{START},operator=test");
        let config = [
            option("fulcio", &[&url(&fulcio), &service(1)]),
            option("rekor", &[&url(&rekor), &service(2)]),
            option("tsa", &[&url(&format!("{timestamps}/api/v1/timestamp")), &service(1)]),
            option("oidc-provider", &[&url(&instance.provider.url()), &service(1)]),
            "--rekor-config=ANY".into(),
            "--tsa-config=ANY".into(),
            option("out", &[&instance.file("signing_config.json")]),
        ];
        Program::new("cosign", &home).args(["signing-config", "create"]).args(config).run().bytes();
        instance
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn file(&self, name: &str) -> String {
        self.path().join(name).display().to_string()
    }

    /// The keys of both logs. Fulcio and the time-stamping authority make their own.
    fn make_keys(&self) {
        let ssl = |arguments: &[&str]| drop(Program::new("openssl", self.path()).args(arguments).run().bytes());
        for (name, options) in [
            ("rekor", &["genpkey", "-algorithm", "ed25519"][..]),
            // TesseraCT reads no other form of keys.
            ("ct", &["ecparam", "-name", "prime256v1", "-genkey", "-noout"]),
        ] {
            let (key, public) = (self.file(&format!("{name}.key")), self.file(&format!("{name}.pub")));
            ssl(&[options, &["-out", &key]].concat());
            ssl(&["pkey", "-in", &key, "-pubout", "-out", &public]);
        }
    }

    /// Starts the servers. The certificate log starts after Fulcio, whose certificate it must know.
    fn start_servers(&self, ports: [u16; 8]) -> Vec<Daemon> {
        let [fulcio, certificate_log, rekor, timestamps, grpc, metrics, rekor_grpc, rekor_metrics] = ports;
        let issuer = self.provider.url();
        let config =
            format!("oidc-issuers:\n  {issuer}:\n    issuer-url: {issuer}\n    client-id: sigstore\n    type: email\n");
        fs::write(self.path().join("fulcio.yaml"), config).expect("the configuration of Fulcio");
        let fulcio_arguments = [
            "serve".to_owned(),
            "--ca=ephemeralca".into(),
            "--host=127.0.0.1".into(),
            "--grpc-host=127.0.0.1".into(),
            format!("--port={fulcio}"),
            format!("--grpc-port={grpc}"),
            format!("--metrics-port={metrics}"),
            format!("--ct-log-url=http://127.0.0.1:{certificate_log}/ct"),
            format!("--config-path={}", self.file("fulcio.yaml")),
            format!("--legacy-unix-domain-socket={}", self.file("fulcio.sock")),
        ];
        let rekor_arguments = [
            "serve".to_owned(),
            "--hostname=rekor.test".into(),
            "--checkpoint-interval=1s".into(),
            format!("--http-port={rekor}"),
            format!("--grpc-port={rekor_grpc}"),
            format!("--http-metrics-port={rekor_metrics}"),
            format!("--storage-dir={}", self.file("rekor")),
            format!("--signer-filepath={}", self.file("rekor.key")),
        ];
        let timestamp_arguments =
            ["serve", "--host=127.0.0.1", "--disable-ntp-monitoring", &format!("--port={timestamps}")];
        let mut servers = vec![
            self.server("fulcio", &fulcio_arguments, fulcio),
            self.server("rekor-server", &rekor_arguments, rekor),
            self.server("timestamp-server", &timestamp_arguments.map(str::to_owned), timestamps),
        ];
        let bundle: Value = serde_json::from_str(&self.get(fulcio, "/api/v2/trustBundle")).expect("the trust bundle");
        let chain = bundle["chains"][0]["certificates"].as_array().expect("a chain");
        let chain: String = chain.iter().map(|pem| pem.as_str().expect("PEM")).collect();
        fs::write(self.path().join("fulcio.pem"), chain).expect("the chain of Fulcio");
        fs::write(self.path().join("tsa.pem"), self.get(timestamps, "/api/v1/timestamp/certchain")).expect("the chain");
        let log_arguments = [
            format!("--http_endpoint=127.0.0.1:{certificate_log}"),
            "--origin=ct.test".into(),
            "--path_prefix=ct".into(),
            "--checkpoint_interval=200ms".into(),
            format!("--roots_pem_file={}", self.file("fulcio.pem")),
            format!("--storage_dir={}", self.file("ct")),
            format!("--private_key={}", self.file("ct.key")),
        ];
        servers.push(self.server("tesseract", &log_arguments, certificate_log));
        servers
    }

    fn server(&self, name: &str, arguments: &[String], port: u16) -> Daemon {
        let program = Program::daemon(name, self.path()).args(arguments);
        let mut server = Daemon::start(name, program, &self.path().join(format!("{name}.log")), None);
        server.wait_for(|| TcpStream::connect(("127.0.0.1", port)).ok());
        server
    }

    fn get(&self, port: u16, path: &str) -> String {
        let url = format!("http://127.0.0.1:{port}{path}");
        Program::new("curl", self.path()).args(["--silent", "--fail", "--retry", "5", &url]).run().text()
    }

    /// cosign with the services of this instance.
    fn cosign(&self, command: &str) -> Program {
        let services =
            ["--signing-config", &self.file("signing_config.json"), "--trusted-root", &self.file("trusted_root.json")];
        Program::new("cosign", self.path()).env("COSIGN_PASSWORD", "").args([command, "--yes"]).args(services)
    }

    /// cosign with the identity of somebody.
    fn cosign_as(&self, command: &str, email: &str) -> Program {
        let now = Program::new("date", self.path()).args(["+%s"]).run().text().parse().expect("a number");
        // A path, because cosign looks for a file of this name first, and a token is too long for one.
        let token = self.file("token");
        fs::write(&token, self.provider.token(email, now)).expect("a token");
        self.cosign(command).args(["--identity-token", &token])
    }
}

/// Different free ports.
fn free_ports() -> [u16; 8] {
    let listeners: [TcpListener; 8] = std::array::from_fn(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"));
    listeners.each_ref().map(|listener| listener.local_addr().expect("an address").port())
}

impl Signed {
    /// A gate with these authorities and repositories, that trusts this root. `files` are in its folder of policies.
    fn with(root: &str, spec: &str, files: &[PathBuf]) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let registry = Registry::start("registry", Variant::Plain, dir.path(), &dir.path().join("storage"));
        let policies = dir.path().join("policies");
        fs::create_dir_all(&policies).expect("the folder of policies");
        for file in files.iter().chain([&PathBuf::from(root)]) {
            fs::copy(file, policies.join(file.file_name().expect("a name"))).expect("a copy");
        }
        let gate = GateConfig::default().upstream(UPSTREAM, &registry, "").policy("interop", spec);
        let roots = format!("\n[trust]\ntrusted_roots = [\"{}\"]\n", policies.join("trusted_root.json").display());
        let gate = GateConfig { upstreams: gate.upstreams + &roots, ..gate };
        Self { gate: gate.start(dir.path()), registry, dir }
    }

    fn push(&self, repository: &str) -> Image {
        Image::push(&self.registry, self.dir.path(), repository, "1")
    }

    fn reference(&self, image: &Image) -> String {
        format!("{}/{}@{}", self.registry.address(), image.repository, image.digest)
    }

    #[track_caller]
    fn admits(&self, image: &Image) {
        let (status, body) = crate::cosign::manifest(&self.gate, self.dir.path(), image);
        assert_eq!(status, "200", "{}: {body}", image.name());
    }

    #[track_caller]
    fn denies(&self, image: &Image, part: &str) {
        let (status, body) = crate::cosign::manifest(&self.gate, self.dir.path(), image);
        assert!(status == "403" && body.contains(part), "{}: {part}: {status} {body}", image.name());
    }
}

fn keyless(issuer: &str, identity: &str) -> String {
    format!("keyless: {{issuer: \"{issuer}\", identity: {identity}}}")
}

#[test]
fn keyless_signatures_count_for_their_identity() {
    let instance = Instance::start();
    let issuer = instance.provider.url();
    let spec = format!(
        "  authorities:\n  - name: alice\n    cosign: {{{}}}\n  - name: acme\n    cosign: {{{}}}\n  - name: elsewhere\n    cosign: {{{}}}\n  \
         repositories:\n  - {{name: \"{UPSTREAM}/alice/*\", policy: {{trust: alice}}}}\n  \
         - {{name: \"{UPSTREAM}/acme/*\", policy: {{trust: acme}}}}\n  \
         - {{name: \"{UPSTREAM}/elsewhere/*\", policy: {{trust: elsewhere}}}}\n",
        keyless(&issuer, ALICE),
        keyless(&issuer, "{regex: '[a-z]+@acme\\.com'}"),
        keyless("https://accounts.google.com", ALICE),
    );
    let world = Signed::with(&instance.file("trusted_root.json"), &spec, &[]);
    for (repository, signer, refused) in [
        ("alice/app", ALICE, None),
        ("acme/app", "bob@acme.com", None),
        ("alice/bob", "bob@acme.com", Some("was made by \\\"bob@acme.com\\\"")),
        ("acme/other", "alice@acme.com.evil.io", Some("was made by \\\"alice@acme.com.evil.io\\\"")),
        ("elsewhere/app", ALICE, Some("was made by \\\"alice@acme.com\\\"")),
    ] {
        let image = world.push(repository);
        instance.cosign_as("sign", signer).args([world.reference(&image)]).run().bytes();
        match refused {
            None => world.admits(&image),
            Some(part) => world.denies(&image, part),
        }
    }
    world.denies(&world.push("alice/unsigned"), "not signed");
}

/// The issuer and the identity are those of the policy, but nobody pinned the certificates and the logs.
#[test]
fn signatures_of_another_instance_do_not_count() {
    let other = tempfile::tempdir().expect("a temporary directory");
    let root = other.path().join("trusted_root.json");
    fs::copy(Instance::start().path().join("trusted_root.json"), &root).expect("the root of another instance");
    let instance = Instance::start();
    let spec = format!(
        "  authorities:\n  - name: alice\n    cosign: {{{}}}\n  repositories:\n  - {{name: \"*\", policy: {{trust: alice}}}}\n",
        keyless(&instance.provider.url(), ALICE)
    );
    for (root, refused) in
        [(instance.file("trusted_root.json"), None), (root.display().to_string(), Some("no verified timestamp"))]
    {
        let world = Signed::with(&root, &spec, &[]);
        let image = world.push("team/app");
        instance.cosign_as("sign", ALICE).args([world.reference(&image)]).run().bytes();
        match refused {
            None => world.admits(&image),
            Some(part) => world.denies(&image, part),
        }
    }
}

#[test]
fn keyless_attestations_are_judged_by_type_age_and_content() {
    let instance = Instance::start();
    let authority = |name: &str, condition: &str| {
        let rule = format!("attestation: {{predicateType: \"{PROVENANCE}\", maxAge: 1d, condition: \"{condition}\"}}");
        let keyless = keyless(&instance.provider.url(), ALICE);
        format!("  - name: {name}\n    cosign: {{{keyless}, {rule}}}\n")
    };
    let spec = format!(
        "  authorities:\n{}{}  repositories:\n  - {{name: \"{UPSTREAM}/good/*\", policy: {{trust: good}}}}\n  \
         - {{name: \"{UPSTREAM}/bad/*\", policy: {{trust: bad}}}}\n",
        authority("good", "signer.identity == 'alice@acme.com' && predicate.runDetails.builder.id == 'https://b'"),
        authority("bad", "predicate.runDetails.builder.id == 'https://c'"),
    );
    let world = Signed::with(&instance.file("trusted_root.json"), &spec, &[]);
    let finished = Program::new("date", instance.path()).args(["--utc", "+%Y-%m-%dT%H:%M:%SZ"]).run().text();
    let predicate = json!({
        "buildDefinition": {"buildType": "https://t", "externalParameters": {}, "resolvedDependencies": []},
        "runDetails": {"builder": {"id": "https://b"}, "metadata": {"finishedOn": finished}}
    });
    let file = instance.file("predicate.json");
    fs::write(&file, predicate.to_string()).expect("the predicate");
    for (repository, refused) in [("good/app", None), ("bad/app", Some("does not meet the condition"))] {
        let image = world.push(repository);
        let what = ["--type", "slsaprovenance1", "--predicate", &file, &world.reference(&image)];
        instance.cosign_as("attest", ALICE).args(what).run().bytes();
        match refused {
            None => world.admits(&image),
            Some(part) => world.denies(&image, part),
        }
    }
}
