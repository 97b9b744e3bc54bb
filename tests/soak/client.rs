//! The behaviour of clients, and what they must observe.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use fastrand::Rng;
use pullgate::oci::Digest;

use crate::kept;
use crate::support::{Answer, Exchange, request, soon};
use crate::world::{Pullable, World, count};

/// How long a client waits before it retries after a temporary error.
const RETRY: Duration = Duration::from_millis(200);

/// Pulls one image after another.
pub(crate) async fn run(world: Arc<World>, until: Instant, mut rng: Rng) {
    while Instant::now() < until {
        let image = &world.images[rng.usize(..world.images.len())];
        if image.denied {
            is_denied(&world, image, &mut rng).await;
        } else {
            pull(&world, image, until, &mut rng).await;
        }
    }
}

/// Without faults, everything is complete and correct, and denied images are denied.
pub(crate) async fn pull_everything(world: &World) {
    for image in &world.images {
        let manifest = settled(world, &manifest_path(image)).await;
        assert_eq!(manifest.status, if image.denied { 403 } else { 200 }, "{}: {}", image.repository, manifest.text());
        for (digest, _) in &image.built.blobs {
            let blob = settled(world, &blob_path(image, digest)).await;
            if image.denied {
                assert_eq!(blob.status, 403, "{}: {}", image.repository, blob.text());
            } else {
                assert!(kept::judge(&blob, digest), "{}: {} {}", image.repository, blob.status, blob.body.len());
            }
        }
    }
}

/// The response to a client that retries as advised: the gate remembers upstream failures for a moment.
async fn settled(world: &World, path: &str) -> Answer {
    soon(async {
        loop {
            let answer = world.program.get(path).await;
            if !is_for_now(&answer) {
                return answer;
            }
            tokio::time::sleep(RETRY).await;
        }
    })
    .await
}

fn manifest_path(image: &Pullable) -> String {
    format!("/{}/manifests/1", image.repository)
}

fn blob_path(image: &Pullable, digest: &Digest) -> String {
    format!("/{}/blobs/{digest}", image.repository)
}

/// Whether a response is a temporary error: only trouble with the upstream excuses a refusal.
fn is_for_now(answer: &Answer) -> bool {
    matches!(answer.status, 429 | 502..=504)
}

async fn is_denied(world: &World, image: &Pullable, rng: &mut Rng) {
    let (digest, _) = &image.built.blobs[rng.usize(..image.built.blobs.len())];
    for path in [manifest_path(image), blob_path(image, digest)] {
        let answer = world.program.get(&path).await;
        // A blob is unknown if its image's manifest could not be judged yet.
        let is_unknown = answer.status == 404 && path.contains("/blobs/");
        assert!(answer.status == 403 || is_unknown || is_for_now(&answer), "{path}: {}", answer.status);
        count(if answer.status == 403 { &world.counts.denied } else { &world.counts.refused });
    }
}

async fn pull(world: &World, image: &Pullable, until: Instant, rng: &mut Rng) {
    let path = manifest_path(image);
    let manifest = world.program.get(&path).await;
    if manifest.status != 200 {
        assert!(is_for_now(&manifest), "{path}: {} {}", manifest.status, manifest.text());
        return count(&world.counts.refused);
    }
    assert_eq!(manifest.body, image.built.manifest().bytes);
    for (digest, bytes) in &image.built.blobs {
        if Instant::now() >= until {
            return;
        }
        let url = world.program.url(&blob_path(image, digest));
        match rng.u8(..10) {
            0 => leave(world, &url, bytes, rng).await,
            1 => part(world, &url, bytes, rng).await,
            _ => whole(world, &url, digest).await,
        }
    }
}

async fn whole(world: &World, url: &str, digest: &Digest) {
    let answer = request("GET", url, &[]).await;
    let counts = &world.counts;
    count(match kept::judge(&answer, digest) {
        true => &counts.whole,
        false if matches!(answer.status, 0 | 200) => &counts.cut,
        false => &counts.refused,
    });
}

/// Reads part of the body, and disconnects.
async fn leave(world: &World, url: &str, bytes: &Bytes, rng: &mut Rng) {
    let mut reader = Exchange::start("GET", url, &[]).await;
    if reader.head().status == 200 {
        // Data before the digest is verified may be wrong, so it is not checked.
        reader.read(rng.usize(..=bytes.len())).await;
    }
    count(&world.counts.left);
}

/// Reads from a random position to the end. If the response completes, it must be correct.
async fn part(world: &World, url: &str, bytes: &Bytes, rng: &mut Rng) {
    let start = rng.usize(..bytes.len());
    let answer = request("GET", url, &[("range", &format!("bytes={start}-"))]).await;
    match answer.status {
        206 if answer.complete => {
            assert!(answer.body == bytes.slice(start..), "{url}: from {start}, wrong content was served as complete");
            count(&world.counts.parts);
        }
        0 | 206 => count(&world.counts.cut),
        status => {
            assert!(is_for_now(&answer), "{url}: {status} {}", answer.text());
            count(&world.counts.refused);
        }
    }
}
