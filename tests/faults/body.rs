//! Bodies that end early, are wrong, or do not come.

use std::time::Duration;

use http::{StatusCode, header};
use pullgate::sample::Fault;
use pullgate::sample::image;

use crate::bed::{Bed, REPOSITORY, SIZE, image as image_of};
use crate::harness::TestGate;
use crate::support::{TestRegistry, soon};

/// How often a download is taken up again before the gate gives up, and more than that.
const MORE_THAN_IT_TRIES: u64 = 50;

/// A gate that waits for silent upstreams no longer than a test may.
fn impatient(gate: TestGate) -> TestGate {
    gate.upstream("idle_timeout = \"300ms\"")
}

async fn a_cut_at_every_tenth(ignores_range: bool) {
    for tenth in 0..10 {
        let bed = Bed::new().await;
        if ignores_range {
            bed.inject(Fault::IgnoreRange);
        }
        let at = SIZE * tenth / 10 + usize::from(tenth == 0);
        let cut = bed.registry.inject(bed.downloads().times(1), Fault::Cut(at as u64));
        assert!(bed.pull().await, "cut at {at}, it was not taken up again");
        assert_eq!((cut.hits(), bed.gets()), (1, 2), "cut at {at}");
        let ranges = bed.registry.count(|r| r.range.is_some());
        assert_eq!(ranges, 1, "the rest was asked for by Range");
        bed.recovers().await;
    }
}

#[tokio::test]
async fn a_download_that_is_cut_at_any_tenth_goes_on_by_range() {
    a_cut_at_every_tenth(false).await;
}

#[tokio::test]
async fn a_download_that_is_cut_at_any_tenth_goes_on_where_range_is_ignored() {
    a_cut_at_every_tenth(true).await;
}

#[tokio::test]
async fn a_download_that_is_cut_again_and_again_is_given_up_and_cut_for_the_client_too() {
    for ignores_range in [false, true] {
        let bed = Bed::new().await;
        if ignores_range {
            bed.inject(Fault::IgnoreRange);
        }
        bed.registry.inject(bed.downloads().times(MORE_THAN_IT_TRIES), Fault::Cut(10_000));
        let began = std::time::Instant::now();
        let answer = bed.gate.get(&bed.path()).await;
        assert!(!bed.judge(&answer), "ten thousand bytes at a time, it cannot have come whole");
        assert!(began.elapsed() < Duration::from_secs(20), "the gate gives up in bounded time");
        assert!(!bed.is_kept().await);
        bed.recovers().await;
    }
}

#[tokio::test]
async fn a_reset_in_the_middle_of_the_body_is_a_cut() {
    let bed = Bed::new().await;
    bed.registry.inject(bed.downloads().times(2), Fault::Reset(300_000));
    assert!(bed.pull().await);
    bed.recovers().await;
}

/// The manifest's size is what counts: an upstream that announces another is refused before a byte is served.
#[tokio::test]
async fn a_length_that_is_not_the_manifests_is_refused() {
    for length in [SIZE - 100, SIZE + 100, 0, 1] {
        let bed = Bed::new().await;
        bed.inject(Fault::header(header::CONTENT_LENGTH, &length.to_string()));
        let answer = bed.gate.get(&bed.path()).await;
        assert!([403, 404, 502, 503].contains(&answer.status), "{length}: {} {}", answer.status, answer.text());
        assert!(!bed.is_kept().await);
        bed.recovers().await;
    }
}

/// Manifest and upstream agree on a size, and the body is shorter or longer than that.
#[tokio::test]
async fn a_body_that_is_not_as_long_as_everybody_says_never_completes() {
    for length in [SIZE - 100, SIZE + 100] {
        let registry = TestRegistry::start().await;
        let content = image::noise(SIZE, 1);
        let built = image_of(&content);
        let manifest = String::from_utf8(built.manifest().bytes.to_vec()).unwrap();
        let lie = manifest.replace(&format!("\"size\":{SIZE}"), &format!("\"size\":{length}"));
        assert_ne!(lie, manifest);
        registry.push(REPOSITORY, None, &built);
        registry.put_manifest(REPOSITORY, Some("1"), &built.manifest().media_type, lie);
        let bed = Bed::behind(registry, content, |gate| gate).await;
        bed.inject(Fault::header(header::CONTENT_LENGTH, &length.to_string()));
        let answer = bed.gate.get(&bed.path()).await;
        assert!(!bed.judge(&answer), "{length}: it ended well");
        assert!(!bed.is_kept().await);
        // The manifest lies, so there is no next pull; the next image is right.
        bed.registry.clear_faults();
        bed.registry.push(REPOSITORY, Some("2"), &built);
        assert_eq!(bed.gate.get(&format!("/{REPOSITORY}/manifests/2")).await.status, 200);
        bed.gate.get(&bed.path()).await;
        bed.at_rest().await;
    }
}

#[tokio::test]
async fn a_wrong_byte_anywhere_never_completes() {
    for at in [0, SIZE / 2, SIZE - 2, SIZE - 1] {
        let bed = Bed::new().await;
        bed.inject(Fault::Flip(at as u64));
        assert!(!bed.pull().await, "byte {at} is wrong, and it came whole");
        assert!(!bed.is_kept().await);
        bed.recovers().await;
    }
}

/// The last byte is held back, and where it is the first one too, nothing at all is served.
#[tokio::test]
async fn a_wrong_byte_in_a_small_blob_never_completes() {
    for size in [1, 2, 100, 60_000] {
        let bed = Bed::with(size, |gate| gate).await;
        bed.inject(Fault::Flip(0));
        for _ in 0..5 {
            assert!(!bed.pull().await, "a blob of {size} bytes is wrong, and it came whole");
        }
        assert!(!bed.is_kept().await);
        bed.recovers().await;
    }
}

/// The half that came before the cut is right; what the upstream sends when it is taken up again is not.
#[tokio::test]
async fn a_wrong_byte_in_what_was_taken_up_again_never_completes() {
    // The last byte of the rest, and of the whole.
    for (ignores_range, last) in [(false, SIZE / 2 - 1), (true, SIZE - 1)] {
        let bed = Bed::new().await;
        if ignores_range {
            bed.inject(Fault::IgnoreRange);
        }
        let cut = bed.registry.inject(bed.downloads().times(1), Fault::Cut(SIZE as u64 / 2));
        let mut reader = bed.begin(&[]).await;
        assert_eq!(reader.read(1000).await, bed.content.slice(..1000));
        soon(cut.wait_for_hits(1)).await;
        bed.inject(Fault::Flip(last as u64));
        assert!(!reader.finish().await.complete, "half of it is wrong, and it came whole");
        assert!(!bed.is_kept().await);
        bed.recovers().await;
    }
}

#[tokio::test]
async fn a_stall_that_ends_in_time_is_no_fault() {
    let bed = Bed::new().await;
    let stall = bed.inject(Fault::Stall(SIZE as u64 / 2));
    let mut reader = bed.begin(&[]).await;
    // What has come before the stall is readable during it.
    assert_eq!(reader.read(SIZE / 2).await, bed.content.slice(..SIZE / 2));
    stall.release();
    assert_eq!(reader.finish().await.body, bed.content.slice(SIZE / 2..));
    assert_eq!(bed.gets(), 1);
    bed.recovers().await;
}

#[tokio::test]
async fn a_stall_that_does_not_end_is_a_cut() {
    let bed = Bed::with(SIZE, impatient).await;
    let stall = bed.registry.inject(bed.downloads().times(2), Fault::Stall(SIZE as u64 / 4));
    assert!(bed.pull().await, "the third download had no fault");
    assert_eq!((stall.hits(), bed.gets()), (2, 3));
    stall.release();
    bed.recovers().await;
}

#[tokio::test]
async fn an_upstream_that_stalls_every_time_is_given_up() {
    let bed = Bed::with(SIZE, impatient).await;
    // Nothing comes after the first bytes, however often it is taken up again.
    let stall = bed.inject(Fault::Stall(1000));
    assert!(!bed.pull().await);
    assert!(!bed.is_kept().await);
    stall.release();
    bed.recovers().await;
}

#[tokio::test]
async fn a_trickle_is_slow_and_whole() {
    let bed = Bed::with(SIZE, impatient).await;
    bed.inject(Fault::Trickle { piece: SIZE / 50, pause: Duration::from_millis(20) });
    assert!(bed.pull().await);
    assert_eq!(bed.gets(), 1, "a byte came in time, always");
    bed.recovers().await;
}

#[tokio::test]
async fn what_is_no_blob_is_not_served_as_one() {
    let bed = Bed::new().await;
    let page = Fault::status(StatusCode::OK);
    bed.inject(page);
    let answer = bed.gate.get(&bed.path()).await;
    assert_ne!(answer.status, 200, "an error page of another size passed for the blob");
    assert!(!bed.is_kept().await);
    bed.recovers().await;
}
