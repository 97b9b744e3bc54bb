//! Response bodies that end early, are wrong, or do not arrive.

use std::time::Duration;

use http::{StatusCode, header};
use pullgate::sample::Fault;
use pullgate::sample::image;

use crate::bed::{REPOSITORY, SIZE, TestBed, image as image_of};
use crate::harness::TestGate;
use crate::support::{TestRegistry, soon};

/// More than the number of times that the gate resumes a download.
const MORE_THAN_ALL_ATTEMPTS: u64 = 50;

/// A gate with short timeouts for silent upstreams.
fn impatient(gate: TestGate) -> TestGate {
    gate.upstream("idle_timeout = \"300ms\"")
}

async fn a_cut_at_every_tenth(ignores_range: bool) {
    for tenth in 0..10 {
        let bed = TestBed::new().await;
        if ignores_range {
            bed.inject(Fault::IgnoreRange);
        }
        let at = SIZE * tenth / 10 + usize::from(tenth == 0);
        let cut = bed.registry.inject(bed.downloads().times(1), Fault::Cut(at as u64));
        assert!(bed.pull().await, "cut at {at}, the download was not resumed");
        assert_eq!((cut.hits(), bed.gets()), (1, 2), "cut at {at}");
        let ranges = bed.registry.count(|r| r.range.is_some());
        assert_eq!(ranges, 1, "the rest was requested with Range");
        bed.recovers().await;
    }
}

#[tokio::test]
async fn cut_downloads_are_resumed_with_range() {
    a_cut_at_every_tenth(false).await;
}

#[tokio::test]
async fn cut_downloads_are_resumed_if_range_is_ignored() {
    a_cut_at_every_tenth(true).await;
}

#[tokio::test]
async fn repeatedly_cut_downloads_are_aborted() {
    for ignores_range in [false, true] {
        let bed = TestBed::new().await;
        if ignores_range {
            bed.inject(Fault::IgnoreRange);
        }
        bed.registry.inject(bed.downloads().times(MORE_THAN_ALL_ATTEMPTS), Fault::Cut(10_000));
        let began = std::time::Instant::now();
        let answer = bed.gate.get(&bed.path()).await;
        assert!(!bed.judge(&answer), "with ten thousand bytes at a time, it cannot be complete");
        assert!(began.elapsed() < Duration::from_secs(20), "the gate does not give up in time");
        assert!(!bed.is_kept().await);
        bed.recovers().await;
    }
}

#[tokio::test]
async fn resets_within_the_body_count_as_cuts() {
    let bed = TestBed::new().await;
    bed.registry.inject(bed.downloads().times(2), Fault::Reset(300_000));
    assert!(bed.pull().await);
    bed.recovers().await;
}

/// The size in the manifest counts: if an upstream states another, no byte is served.
#[tokio::test]
async fn lengths_that_differ_from_the_manifest_are_refused() {
    for length in [SIZE - 100, SIZE + 100, 0, 1] {
        let bed = TestBed::new().await;
        bed.inject(Fault::header(header::CONTENT_LENGTH, &length.to_string()));
        let answer = bed.gate.get(&bed.path()).await;
        assert!([403, 404, 502, 503].contains(&answer.status), "{length}: {} {}", answer.status, answer.text());
        assert!(!bed.is_kept().await);
        bed.recovers().await;
    }
}

/// Manifest and upstream agree on a size, but the body is shorter or longer.
#[tokio::test]
async fn bodies_with_a_wrong_length_never_complete() {
    for length in [SIZE - 100, SIZE + 100] {
        let registry = TestRegistry::start().await;
        let content = image::noise(SIZE, 1);
        let built = image_of(&content);
        let manifest = String::from_utf8(built.manifest().bytes.to_vec()).unwrap();
        let lie = manifest.replace(&format!("\"size\":{SIZE}"), &format!("\"size\":{length}"));
        assert_ne!(lie, manifest);
        registry.push(REPOSITORY, None, &built);
        registry.put_manifest(REPOSITORY, Some("1"), &built.manifest().media_type, lie);
        let bed = TestBed::behind(registry, content, |gate| gate).await;
        bed.inject(Fault::header(header::CONTENT_LENGTH, &length.to_string()));
        let answer = bed.gate.get(&bed.path()).await;
        assert!(!bed.judge(&answer), "{length}: the response completed");
        assert!(!bed.is_kept().await);
        // The manifest itself is wrong, so there is no next pull; the next image is correct.
        bed.registry.clear_faults();
        bed.registry.push(REPOSITORY, Some("2"), &built);
        assert_eq!(bed.gate.get(&format!("/{REPOSITORY}/manifests/2")).await.status, 200);
        bed.gate.get(&bed.path()).await;
        bed.at_rest().await;
    }
}

#[tokio::test]
async fn corrupt_bodies_never_complete() {
    for at in [0, SIZE / 2, SIZE - 2, SIZE - 1] {
        let bed = TestBed::new().await;
        bed.inject(Fault::Flip(at as u64));
        assert!(!bed.pull().await, "byte {at} is wrong, but the response completed");
        assert!(!bed.is_kept().await);
        bed.recovers().await;
    }
}

/// The last byte is held back; if it is also the first, nothing at all is served.
#[tokio::test]
async fn corrupt_small_blobs_never_complete() {
    for size in [1, 2, 100, 60_000] {
        let bed = TestBed::with(size, |gate| gate).await;
        bed.inject(Fault::Flip(0));
        for _ in 0..5 {
            assert!(!bed.pull().await, "a blob of {size} bytes is wrong, but the response completed");
        }
        assert!(!bed.is_kept().await);
        bed.recovers().await;
    }
}

/// The first half is correct; the data after the download is resumed is not.
#[tokio::test]
async fn corrupt_resumed_downloads_never_complete() {
    // The last byte of the rest, and of the whole.
    for (ignores_range, last) in [(false, SIZE / 2 - 1), (true, SIZE - 1)] {
        let bed = TestBed::new().await;
        if ignores_range {
            bed.inject(Fault::IgnoreRange);
        }
        let cut = bed.registry.inject(bed.downloads().times(1), Fault::Cut(SIZE as u64 / 2));
        let mut reader = bed.begin(&[]).await;
        assert_eq!(reader.read(1000).await, bed.content.slice(..1000));
        soon(cut.wait_for_hits(1)).await;
        bed.inject(Fault::Flip(last as u64));
        assert!(!reader.finish().await.complete, "half of it is wrong, but the response completed");
        assert!(!bed.is_kept().await);
        bed.recovers().await;
    }
}

#[tokio::test]
async fn short_stalls_are_tolerated() {
    let bed = TestBed::new().await;
    let stall = bed.inject(Fault::Stall(SIZE as u64 / 2));
    let mut reader = bed.begin(&[]).await;
    // Data that arrived before the stall can be read during the stall.
    assert_eq!(reader.read(SIZE / 2).await, bed.content.slice(..SIZE / 2));
    stall.release();
    assert_eq!(reader.finish().await.body, bed.content.slice(SIZE / 2..));
    assert_eq!(bed.gets(), 1);
    bed.recovers().await;
}

#[tokio::test]
async fn endless_stalls_count_as_cuts() {
    let bed = TestBed::with(SIZE, impatient).await;
    let stall = bed.registry.inject(bed.downloads().times(2), Fault::Stall(SIZE as u64 / 4));
    assert!(bed.pull().await, "the third download has no fault");
    assert_eq!((stall.hits(), bed.gets()), (2, 3));
    stall.release();
    bed.recovers().await;
}

#[tokio::test]
async fn upstreams_that_always_stall_are_abandoned() {
    let bed = TestBed::with(SIZE, impatient).await;
    // Nothing arrives after the first bytes, however often the download is resumed.
    let stall = bed.inject(Fault::Stall(1000));
    assert!(!bed.pull().await);
    assert!(!bed.is_kept().await);
    stall.release();
    bed.recovers().await;
}

#[tokio::test]
async fn trickling_downloads_complete() {
    let bed = TestBed::with(SIZE, impatient).await;
    bed.inject(Fault::Trickle { piece: SIZE / 50, pause: Duration::from_millis(20) });
    assert!(bed.pull().await);
    assert_eq!(bed.gets(), 1, "data always arrived in time");
    bed.recovers().await;
}

#[tokio::test]
async fn error_pages_are_not_served_as_blobs() {
    let bed = TestBed::new().await;
    let page = Fault::status(StatusCode::OK);
    bed.inject(page);
    let answer = bed.gate.get(&bed.path()).await;
    assert_ne!(answer.status, 200, "an error page of another size was served as the blob");
    assert!(!bed.is_kept().await);
    bed.recovers().await;
}
