//! The real program under many clients and images, with a cache that is too small and an upstream that fails at random:
//! every response is correct, denied images stay denied, and nothing leaks.
//!
//! `PULLGATE_SOAK_SECONDS` sets the duration; `PULLGATE_SOAK_SEED` repeats the choices of a run, though not its timing.

#[path = "../gate/harness.rs"]
mod harness;
#[path = "../support/kept.rs"]
mod kept;
#[path = "../support/program.rs"]
mod program;
#[path = "../support/mod.rs"]
mod support;

mod client;
mod leaks;
mod trouble;
mod world;

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use pullgate::runtime::Tasks;

use leaks::Footprint;
use world::World;

/// The default duration, in seconds.
const SECONDS: u64 = 20;
/// The number of clients.
const CLIENTS: usize = 32;
/// How often progress is printed.
const PROGRESS: Duration = Duration::from_secs(5);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_clients_with_a_small_cache_and_a_failing_upstream() {
    let seconds = number("PULLGATE_SOAK_SECONDS").unwrap_or(SECONDS);
    let seed = number("PULLGATE_SOAK_SEED").unwrap_or_else(|| fastrand::u64(..));
    say(&format!("{seconds} s with {CLIENTS} clients; repeat the choices with PULLGATE_SOAK_SEED={seed}"));
    // In addition to the clients' time: two idle phases, and one pull of everything.
    let limit = Duration::from_secs(seconds + 240);
    tokio::time::timeout(limit, soak(seconds, Rng::with_seed(seed))).await.expect("the soak finishes in time");
}

async fn soak(seconds: u64, mut rng: Rng) {
    let world = Arc::new(World::new(&mut rng).await);
    // The first third fills memory and pools; growth after that counts.
    let warm_up = Duration::from_secs((seconds / 3).max(1));
    run_for(&world, warm_up, &mut rng).await;
    let before = Footprint::at_rest(&world).await;
    say(&format!("warm: {before}"));
    run_for(&world, Duration::from_secs(seconds).saturating_sub(warm_up), &mut rng).await;
    let after = Footprint::at_rest(&world).await;
    say(&format!("done: {after}; {}", world.counts));
    after.assert_near(&before);
    client::pull_everything(&world).await;
    let kept = kept::verified(&world.state()).len();
    let (pulls, evicted) = (world.counts.whole(), world.program.metric("pullgate_cache_evictions_total").await);
    say(&format!("{kept} cached files are correct; {evicted} were evicted"));
    assert!(pulls > 0 && evicted > 0, "nothing happened: {pulls} pulls, {evicted} evictions");
    let world = Arc::into_inner(world).expect("all clients have ended");
    world.end().await;
}

/// Runs clients and faults for some time.
async fn run_for(world: &Arc<World>, time: Duration, rng: &mut Rng) {
    let (tasks, until) = (Tasks::new(), Instant::now() + time);
    let mut running = vec![tasks.spawn(trouble::make(world.clone(), until, rng.fork()))];
    running.extend((0..CLIENTS).map(|_| tasks.spawn(client::run(world.clone(), until, rng.fork()))));
    running.push(tasks.spawn(progress(world.clone(), until)));
    for task in running {
        task.await.expect("a client found an error");
    }
}

async fn progress(world: Arc<World>, until: Instant) {
    while Instant::now() < until {
        tokio::time::sleep(PROGRESS.min(until.saturating_duration_since(Instant::now()))).await;
        say(&world.counts.to_string());
    }
}

/// Bypasses the output capture of the test runner, so that a long run shows progress.
fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "soak: {line}");
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is not a number: {text}")))
}
