//! What verifying signatures costs, for each scheme: the first verdict on an image, pulled by tag and by digest, as a
//! multiple of the registry's round trip, and the CPU time of a verdict; and P-256 verifications a second. Run with
//! `cargo bench --bench trust`. How many rounds of requests there are is a test: `tests/gate/rounds.rs`.

#![allow(missing_docs, clippy::unwrap_used, reason = "a benchmark is not a library")]

use std::fs;
use std::hint::black_box;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::{Duration, Instant};

use pullgate::app;
use pullgate::config::Config;
use pullgate::oci::Digest;
use pullgate::policy::PublicKey;
use pullgate::runtime::Tasks;
use pullgate::sample::image::{Image, Layer};
use pullgate::sample::{Fault, On, Registry};
use rcgen::{KeyPair, SigningKey as _};

mod signers;
#[path = "../../tests/support/sigstore.rs"]
mod sigstore;

use signers::{SCHEMES, Signers, repository, simple_signing};

/// How many images are judged for each scheme to measure times by tag, and as many others by digest.
const TIMED: usize = 100;
/// How many more are judged to measure CPU time, which the system counts in hundredths of a second.
const COUNTED: usize = 400;
/// How long the registry takes for each response: as long as one in the same region.
const DELAY: Duration = Duration::from_millis(20);

fn main() {
    // `cargo test --benches` only checks that it can be built.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let signers = Signers::new();
    verifications(&signers.key);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    runtime.block_on(verdicts(&signers));
}

/// P-256 verifications a second on one core, of a payload as large as a signature's.
fn verifications(key: &KeyPair) {
    const COUNT: u32 = 5_000;
    let public = PublicKey::from_pem(&key.public_key_pem()).unwrap();
    let payload = simple_signing(&Digest::sha256(b"image"), "cosign container image signature", "up.test/classic");
    let signature = key.sign(payload.as_bytes()).unwrap();
    let begun = Instant::now();
    for _ in 0..COUNT {
        assert!(black_box(&public).verify(black_box(payload.as_bytes()), black_box(&signature)));
    }
    let rate = f64::from(COUNT) / begun.elapsed().as_secs_f64();
    println!("ECDSA P-256 verifications a second on one core: {rate:.0} (goal: 2000)");
}

/// The time to the first verdict on images, and its CPU time, for each scheme.
async fn verdicts(signers: &Signers) {
    let registry = Registry::new();
    let listening = registry.bind(SocketAddr::from(([127, 0, 0, 1], 0)), &Tasks::new()).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let store = folder.path().join("store");
    fs::create_dir(&store).unwrap();
    let mut digests = Vec::new();
    for scheme in SCHEMES {
        for number in 0..2 * TIMED + COUNTED {
            let layer = Layer::of("application/vnd.oci.image.layer.v1.tar", format!("{scheme} {number}"));
            let image = Image::linux_amd64().layer(layer).build();
            signers.push(&registry, scheme, number, &image, &store);
            digests.push(image.root);
        }
    }
    let gate = app::build(configure(folder.path(), &listening.url(), signers, &store)).await.unwrap();
    let address = gate.addresses()[0];
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let running = Tasks::new().spawn(async move {
        gate.run(async { drop(stopped.await) }).await;
    });
    tokio::task::spawn_blocking(move || measure(&registry, listening.address(), address, &digests)).await.unwrap();
    let _ = stop.send(());
    running.await.unwrap();
}

fn measure(registry: &Registry, upstream: SocketAddr, gate: SocketAddr, digests: &[Digest]) {
    registry.inject(On::any(), Fault::Delay(DELAY));
    let direct = median(upstream, 0, |number| format!("/v2/classic/manifests/v{number}"));
    println!("the registry's own round trip: {:.1} ms", milliseconds(direct));
    let path = |scheme: &str, number, reference: &str| {
        format!("/v2/up.test/{}/manifests/{reference}", repository(scheme, number))
    };
    let by_tag = |scheme: &str, number| path(scheme, number, &format!("v{number}"));
    let by_digest = |scheme: &str, number| {
        let before = SCHEMES.iter().take_while(|other| **other != scheme).count() * (2 * TIMED + COUNTED);
        path(scheme, number, &digests[before + number].to_string())
    };
    let schemes: Vec<_> = SCHEMES.into_iter().filter(|scheme| cfg!(feature = "gpg") || *scheme != "gpg").collect();
    let times = schemes.iter().map(|scheme| {
        let [cold, warm] = [(); 2].map(|()| median(gate, 0, |number| by_tag(scheme, number)));
        [cold, median(gate, TIMED, |number| by_digest(scheme, number)), warm]
    });
    let times: Vec<_> = times.collect();
    registry.clear_faults();
    let multiple = |time: Duration| (time.as_secs_f64() - direct.as_secs_f64()) / direct.as_secs_f64();
    for (scheme, [cold, cold_by_digest, warm]) in schemes.iter().zip(times) {
        let before = cpu_time();
        let mut stream = connect(gate);
        for number in 2 * TIMED..2 * TIMED + COUNTED {
            get(&mut stream, gate, &by_tag(scheme, number));
        }
        let used = (cpu_time() - before) / COUNTED as f64;
        println!(
            "{scheme:>13}: first response {:.1} ms, of which the verdict takes {:.1} round trips, by digest {:.1} (goal: \
             below 3.0); repeated {:.2} ms; {:.2} ms of CPU, {:.0} a second on one core, client and registry included",
            milliseconds(cold),
            multiple(cold),
            multiple(cold_by_digest),
            milliseconds(warm),
            used * 1000.0,
            1.0 / used,
        );
    }
}

fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The CPU time of this process so far, in seconds. The system counts in hundredths (proc_pid_stat(5), utime and stime).
fn cpu_time() -> f64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap();
    let (_, fields) = stat.rsplit_once(')').unwrap();
    let ticks = fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap());
    ticks.sum::<f64>() / 100.0
}

/// A gate with an entry for each scheme.
fn configure(folder: &Path, upstream: &str, signers: &Signers, store: &Path) -> Config {
    let policies = folder.join("policies");
    fs::create_dir(&policies).unwrap();
    fs::write(policies.join("default.yaml"), signers.document(&policies, store)).unwrap();
    let text = format!(
        "state_dir = \"state\"\n[[listener]]\naddress = \"127.0.0.1:0\"\n[admin]\naddress = \"127.0.0.1:0\"\n\
         [policy]\ndir = \"policies\"\n[[upstream]]\nhost = \"up.test\"\nurl = \"{upstream}\"\nnotary = \"{upstream}\"\n\
         tag_ttl = \"24h\"\n",
    );
    let path = folder.join("pullgate.toml");
    fs::write(&path, text).unwrap();
    Config::load(Some(&path), std::iter::empty()).unwrap_or_else(|problems| panic!("{problems:?}"))
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// The median time of one request for each image, from this number on.
fn median(address: SocketAddr, first: usize, path: impl Fn(usize) -> String) -> Duration {
    let mut stream = connect(address);
    let mut times: Vec<_> = (first..first + TIMED).map(|number| get(&mut stream, address, &path(number))).collect();
    times.sort_unstable();
    times[TIMED / 2]
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
