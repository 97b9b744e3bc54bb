//! Random upstream failures.

use std::sync::Arc;
use std::time::{Duration, Instant};

use fastrand::Rng;
use http::{Method, StatusCode};
use pullgate::sample::{Fault, On};

use crate::world::{World, count};

/// Injects faults, with pauses in between, and leaves none behind.
pub(crate) async fn make(world: Arc<World>, until: Instant, mut rng: Rng) {
    while Instant::now() < until {
        if rng.u8(..20) == 0 {
            world.restart_upstream().await;
        } else {
            let (on, fault) = trouble(&mut rng);
            world.registry.inject(on.times(rng.u64(1..30)), fault);
        }
        count(&world.counts.troubles);
        tokio::time::sleep(Duration::from_millis(rng.u64(20..300))).await;
        // Stalled requests continue, and unused faults are removed.
        world.registry.clear_faults();
        world.registry.clear_log();
        tokio::time::sleep(Duration::from_millis(rng.u64(0..200))).await;
    }
    world.registry.clear_faults();
}

fn trouble(rng: &mut Rng) -> (On, Fault) {
    let blobs = || On::blobs().method(Method::GET);
    // A position within most layers.
    let at = rng.u64(..400_000);
    match rng.u8(..10) {
        0 => (blobs(), Fault::Cut(at)),
        1 => (blobs(), Fault::Flip(at)),
        2 => (blobs(), Fault::Stall(at)),
        3 => (blobs(), Fault::Reset(at)),
        4 => (blobs(), Fault::IgnoreRange),
        5 => (blobs(), Fault::Trickle { piece: 20_000, pause: Duration::from_millis(3) }),
        6 => (On::any(), Fault::too_many_requests(rng.u64(..2))),
        7 => (On::any(), Fault::status(StatusCode::SERVICE_UNAVAILABLE)),
        8 => (On::any(), Fault::Close),
        _ => (On::any(), Fault::Delay(Duration::from_millis(rng.u64(..400)))),
    }
}
