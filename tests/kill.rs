//! Kills the real program during its work, repeatedly. Whatever it was doing, its cached content is correct, it starts
//! again, and everything can be pulled.
//!
//! `PULLGATE_KILL_ROUNDS` sets the number of rounds; `PULLGATE_KILL_SEED` repeats a failed run.

#[path = "gate/harness.rs"]
mod harness;
#[path = "support/kept.rs"]
mod kept;
#[path = "support/program.rs"]
mod program;
#[path = "support/mod.rs"]
mod support;

use std::path::Path;
use std::time::Duration;

use fastrand::Rng;
use pullgate::oci::Digest;
use pullgate::runtime::Tasks;
use pullgate::sample::image::{Built, Image, Layer, noise};
use pullgate::sample::{Fault, On};
use tokio::task::JoinHandle;

use harness::{ALLOW_ALL, TestGate};
use program::Program;
use support::{Answer, Exchange, TestRegistry, request, soon};

const ROUNDS: u64 = 20;
/// The maximum duration of a round on a busy machine.
const ROUND: Duration = Duration::from_secs(20);
const LAYER: &str = "application/vnd.oci.image.layer.v1.tar";

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_gates_keep_only_correct_content_and_serve_everything_again() {
    let rounds = number("PULLGATE_KILL_ROUNDS").unwrap_or(ROUNDS);
    let seed = number("PULLGATE_KILL_SEED").unwrap_or_else(|| fastrand::u64(..));
    println!("{rounds} rounds; repeat with PULLGATE_KILL_SEED={seed}");
    let limit = ROUND * u32::try_from(rounds).expect("fewer rounds than that");
    tokio::time::timeout(limit, kill_often(rounds, Rng::with_seed(seed))).await.expect("the rounds finish in time");
}

async fn kill_often(rounds: u64, mut rng: Rng) {
    let registry = TestRegistry::start().await;
    let made = TestGate::new(&registry, ALLOW_ALL);
    let state = made.path().join("state");
    let mut program = Program::start(&made).await;
    let mut images: Vec<Built> = Vec::new();
    for round in 0..rounds {
        images.push(push(&registry, round, &mut rng));
        let image = &images[images.len() - 1];
        let (point, served) = disturb(program, &registry, round, image, &mut rng).await;
        println!("round {round}: {point}");
        for (digest, answer) in served {
            // A status of 0 means that the connection ended before there was a response.
            assert!(answer.status == 0 || kept::judge(&answer, &digest) || !answer.complete, "{}", answer.text());
        }
        kept::verified(&state);
        registry.clear_faults();
        registry.clear_log();
        program = Program::start(&made).await;
        assert_eq!(kept::partial(&state), Vec::<String>::new(), "incomplete files are removed at startup");
        let earlier = rng.usize(..images.len());
        for round in [images.len() - 1, earlier] {
            pull(&program, round, &images[round]).await;
        }
        at_rest(&program, &state, image).await;
    }
    for (round, image) in images.iter().enumerate() {
        pull(&program, round, image).await;
    }
    let log = program.log();
    let status = program.stop().await;
    assert!(status.success(), "{status}:\n{log}");
    kept::verified(&state);
}

/// A new image with a few layers, from one byte to some megabytes each.
fn push(registry: &TestRegistry, round: u64, rng: &mut Rng) -> Built {
    let layers = (0..rng.usize(2..6)).map(|_| {
        let size = if rng.bool() { rng.usize(1..300_000) } else { rng.usize(300_000..3_000_000) };
        Layer::of(LAYER, noise(size, rng.u64(..)))
    });
    let image = layers.fold(Image::linux_amd64(), Image::layer).build();
    registry.push(&repository(round), Some("1"), &image);
    image
}

fn repository(round: u64) -> String {
    format!("library/round-{round}")
}

/// Starts to pull and kills the gate at a random point: after a number of bytes at a client, or at a request to the
/// upstream. Returns a description of that point, and what the clients had received.
async fn disturb(
    program: Program,
    registry: &TestRegistry,
    round: u64,
    image: &Built,
    rng: &mut Rng,
) -> (String, Vec<(Digest, Answer)>) {
    if rng.bool() {
        let piece = rng.usize(4_000..64_000);
        registry.inject(On::blobs(), Fault::Trickle { piece, pause: Duration::from_millis(1) });
    }
    let manifest = format!("/{}/manifests/1", repository(round));
    if rng.u8(..8) == 0 {
        let url = program.url(&manifest);
        let asked = Tasks::new().spawn(async move { request("GET", &url, &[]).await });
        soon(registry.wait_for(|log| log.iter().any(|request| request.is("GET", "/manifests/1")))).await;
        program.kill().await;
        let answer = asked.await.expect("a client may be cut off, but must not fail otherwise");
        return ("at the upstream's GET of the manifest".to_owned(), vec![(image.root, answer)]);
    }
    assert_eq!(program.get(&manifest).await.status, 200);
    let blob = |digest: &Digest| program.url(&format!("/{}/blobs/{digest}", repository(round)));
    // In half of the cases the largest, which takes the longest.
    let largest = (0..image.blobs.len()).max_by_key(|at| image.blobs[*at].1.len()).expect("it has blobs");
    let watched = if rng.bool() { largest } else { rng.usize(..image.blobs.len()) };
    let (digest, bytes) = &image.blobs[watched];
    let others = image.blobs.iter().filter(|(other, _)| other != digest);
    let mut beside: Vec<(Digest, JoinHandle<Answer>)> = Vec::new();
    for (digest, _) in others {
        let other = Exchange::start("GET", &blob(digest), &[]).await;
        beside.push((*digest, Tasks::new().spawn(other.finish())));
    }
    let mut reader = Exchange::start("GET", &blob(digest), &[]).await;
    // The file is renamed just after the last byte was sent.
    let at = if rng.u8(..4) == 0 { bytes.len() } else { rng.usize(..=bytes.len()) };
    let got = reader.read(at).await;
    program.kill().await;
    assert!(got == bytes.slice(..got.len()), "wrong content was served");
    let mut served = Vec::new();
    for (digest, other) in beside {
        served.push((digest, other.await.expect("a client may be cut off, but must not fail otherwise")));
    }
    (format!("after {at} of {} bytes, with {} other blobs served", bytes.len(), served.len()), served)
}

/// Pulls a complete image.
async fn pull(program: &Program, round: usize, image: &Built) {
    let repository = repository(round as u64);
    let manifest = program.get(&format!("/{repository}/manifests/1")).await;
    assert_eq!(manifest.status, 200, "{}\n{}", manifest.text(), program.log());
    assert_eq!(manifest.body, image.manifest().bytes);
    for (digest, _) in &image.blobs {
        let answer = program.get(&format!("/{repository}/blobs/{digest}")).await;
        assert!(kept::judge(&answer, digest), "{} {}\n{}", answer.status, answer.body.len(), program.log());
    }
}

/// No incomplete files remain, and cached content is correct and includes the whole image.
async fn at_rest(program: &Program, state: &Path, image: &Built) {
    soon(async { while program.metric("pullgate_cache_fills_in_flight").await > 0 {} }).await;
    assert_eq!(kept::partial(state), Vec::<String>::new());
    let kept = kept::verified(state);
    assert!(image.blobs.iter().all(|(digest, _)| kept.contains(digest)), "the pulled image is not cached");
}
