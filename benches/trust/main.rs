//! What verifying signatures costs: signatures a second, and the first verdict on an image, as a multiple of the registry's
//! round trip. Run with `cargo bench --bench trust`.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark is no library")]

use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pullgate::app;
use pullgate::config::Config;
use pullgate::oci::Digest;
use pullgate::oci::payload::{IN_TOTO, pae};
use pullgate::policy::PublicKey;
use pullgate::runtime::Tasks;
use pullgate::sample::image::{Image, Layer, attachment, attachment_tag, referrer};
use pullgate::sample::{Fault, On, Registry};
use rcgen::{KeyPair, SigningKey as _};
use serde_json::{Value, json};

/// How many images are judged for each scheme.
const IMAGES: usize = 100;
/// How long the registry takes for each response: as long as one in the same region.
const DELAY: Duration = Duration::from_millis(20);

const BUNDLE: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

fn main() {
    // `cargo test --benches` only checks that it can be built.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
    verifications(&key);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(verdicts(&key));
}

/// P-256 verifications a second on one core, of a payload as large as a signature's.
fn verifications(key: &KeyPair) {
    const COUNT: u32 = 5_000;
    let public = PublicKey::from_pem(&key.public_key_pem()).unwrap();
    let payload = simple_signing(&Digest::sha256(b"image")).to_string();
    let signature = key.sign(payload.as_bytes()).unwrap();
    let begun = Instant::now();
    for _ in 0..COUNT {
        assert!(black_box(&public).verify(black_box(payload.as_bytes()), black_box(&signature)));
    }
    let rate = f64::from(COUNT) / begun.elapsed().as_secs_f64();
    println!("ECDSA P-256 verifications a second on one core: {rate:.0} (goal: 2000)");
}

/// The time to the first verdict on signed images, for each form of signature.
async fn verdicts(key: &KeyPair) {
    let registry = Registry::new();
    let listening = registry.bind(SocketAddr::from(([127, 0, 0, 1], 0)), &Tasks::new()).await.unwrap();
    for repository in ["unsigned", "classic", "bundle"] {
        for number in 0..IMAGES {
            push(&registry, key, repository, number);
        }
    }
    let folder = tempfile::tempdir().unwrap();
    let config = configure(folder.path(), &listening.url(), &key.public_key_pem());
    let gate = app::build(config).await.unwrap();
    let address = gate.addresses()[0];
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = Tasks::new().spawn(async move {
        gate.run(async { drop(stopped.await) }).await;
    });
    registry.inject(On::any(), Fault::Delay(DELAY));
    let measure = move || {
        let direct = median(listening.address(), |number| format!("/v2/classic/manifests/v{number}"));
        println!("the registry's own round trip: {:.1} ms", milliseconds(direct));
        for (repository, goal) in
            [("unsigned", ""), ("classic", " (goal: below 3.0)"), ("bundle", " (goal: below 3.0)")]
        {
            let path = |number| format!("/v2/up.test/{repository}/manifests/v{number}");
            let (cold, warm) = (median(address, path), median(address, path));
            let multiple = (cold.as_secs_f64() - direct.as_secs_f64()) / direct.as_secs_f64();
            println!(
                "{repository:>9}: first response {:.1} ms, of which the verdict takes {multiple:.1} round trips{goal}; \
                 repeated {:.2} ms",
                milliseconds(cold),
                milliseconds(warm),
            );
        }
    };
    tokio::task::spawn_blocking(measure).await.unwrap();
    let _ = stop.send(());
    running.await.unwrap();
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// An image of its own, with a signature of the form that the repository is named after.
fn push(registry: &Registry, key: &KeyPair, repository: &str, number: usize) {
    let layer = Layer::of("application/vnd.oci.image.layer.v1.tar", format!("{repository} {number}"));
    let image = Image::linux_amd64().layer(layer).build();
    registry.push(repository, Some(&format!("v{number}")), &image);
    let sign = |message: &[u8]| STANDARD.encode(key.sign(message).unwrap());
    match repository {
        "classic" => {
            let payload = simple_signing(&image.root).to_string();
            let signature = sign(payload.as_bytes());
            let layer = Layer::of(SIMPLE_SIGNING, payload).annotation("dev.cosignproject.cosign/signature", &signature);
            registry.push(repository, Some(&attachment_tag(&image.root, ".sig")), &attachment(&[layer]));
        }
        "bundle" => {
            let statement = json!({
                "_type": "https://in-toto.io/Statement/v1", "predicateType": "https://sigstore.dev/cosign/sign/v1",
                "subject": [{"digest": {"sha256": image.root.hex()}}], "predicate": {}
            });
            let statement = statement.to_string();
            let signature = sign(&pae(IN_TOTO, statement.as_bytes()));
            let bundle = json!({
                "mediaType": BUNDLE, "verificationMaterial": {"publicKey": {"hint": ""}},
                "dsseEnvelope": {
                    "payload": STANDARD.encode(&statement), "payloadType": IN_TOTO, "signatures": [{"sig": signature}]
                }
            });
            let layer = Layer::of(BUNDLE, bundle.to_string());
            registry.push(repository, None, &referrer(&image, BUNDLE, &[layer], &[]));
        }
        _ => {}
    }
}

fn simple_signing(image: &Digest) -> Value {
    json!({
        "critical": {
            "identity": {"docker-reference": "up.test/classic"},
            "image": {"docker-manifest-digest": image.to_string()},
            "type": "cosign container image signature",
        },
        "optional": null,
    })
}

/// A gate that requires a signature in two of the repositories.
fn configure(folder: &Path, upstream: &str, key: &str) -> Config {
    std::fs::create_dir(folder.join("policies")).unwrap();
    std::fs::write(folder.join("policies/release.pub"), key).unwrap();
    let policy = "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {name: default}\nspec:\n  authorities:\n  \
                  - {name: release, cosign: {key: {file: release.pub}}}\n  repositories:\n  \
                  - {name: \"up.test/unsigned\", policy: {}}\n  - {name: \"up.test/*\", policy: {trust: release}}\n";
    std::fs::write(folder.join("policies/default.yaml"), policy).unwrap();
    let text = format!(
        "state_dir = \"state\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
         [policy]\ndir = \"policies\"\n[[upstream]]\nhost = \"up.test\"\nurl = \"{upstream}\"\ntag_ttl = \"24h\"\n",
    );
    let path = folder.join("pullgate.toml");
    std::fs::write(&path, text).unwrap();
    Config::load(Some(&path), std::iter::empty()).unwrap_or_else(|problems| panic!("{problems:?}"))
}

/// The median time of one request for each image.
fn median(address: SocketAddr, path: impl Fn(usize) -> String) -> Duration {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let mut times: Vec<_> = (0..IMAGES).map(|number| get(&mut stream, address, &path(number))).collect();
    times.sort_unstable();
    times[IMAGES / 2]
}

/// The time of one request, which must succeed.
fn get(stream: &mut TcpStream, address: SocketAddr, path: &str) -> Duration {
    let begun = Instant::now();
    let accept = "application/vnd.oci.image.manifest.v1+json";
    stream.write_all(format!("GET {path} HTTP/1.1\r\nhost: {address}\r\naccept: {accept}\r\n\r\n").as_bytes()).unwrap();
    let (mut answer, mut buffer) = (Vec::new(), [0; 16 * 1024]);
    loop {
        let read = stream.read(&mut buffer).unwrap();
        assert!(read > 0, "{path}: the connection was closed");
        answer.extend_from_slice(&buffer[..read]);
        let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&answer[..end]).to_lowercase();
        assert!(head.starts_with("http/1.1 200"), "{path}: {head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
        if answer.len() >= end + 4 + length.unwrap_or_default() {
            return begun.elapsed();
        }
    }
}
