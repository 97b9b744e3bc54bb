//! Clients that leave, that do not read, that read ranges, and that arrive all at once.

use pullgate::runtime::Tasks;
use pullgate::sample::Fault;

use crate::bed::{SIZE, TestBed};
use crate::kept;
use crate::support::{Exchange, request, soon, until};

/// More than the socket buffers between gate and client can hold.
const LARGE: usize = 16_000_000;

#[tokio::test]
async fn downloads_continue_when_their_client_leaves() {
    for bytes in [0, 1, SIZE / 3] {
        let bed = TestBed::new().await;
        let stall = bed.inject(Fault::Stall(SIZE as u64 / 2));
        let mut reader = bed.begin(&[]).await;
        assert_eq!(reader.read(bytes).await.len(), bytes);
        drop(reader);
        stall.release();
        let state = bed.state();
        until(|| kept::verified(&state).contains(&bed.layer)).await;
        assert!(bed.pull().await);
        assert_eq!(bed.gets(), 1, "the next client receives it from disk");
        bed.recovers().await;
    }
}

#[tokio::test]
async fn clients_that_never_read_delay_nobody() {
    let bed = TestBed::with(LARGE, |gate| gate).await;
    let deaf = bed.begin(&[]).await;
    let readers = readers(&bed, 8);
    for reader in readers {
        assert!(bed.judge(&soon(reader).await.unwrap()), "a reader was delayed");
    }
    assert_eq!(bed.gets(), 1);
    assert!(bed.is_kept().await, "the fill does not wait for a client");
    // It finally reads, and has missed nothing.
    assert!(bed.judge(&deaf.finish().await));
    bed.recovers().await;
}

#[tokio::test]
async fn two_ranges_of_an_uncached_blob_cause_one_download() {
    let bed = TestBed::new().await;
    let stall = bed.inject(Fault::Stall(SIZE as u64 / 4));
    let from_middle = format!("bytes={}-", SIZE / 2);
    let first = bed.begin(&[("range", "bytes=100-299")]).await;
    let second = bed.begin(&[("range", &from_middle)]).await;
    let last = bed.begin(&[("range", "bytes=-1")]).await;
    // A range that has arrived is served before the rest arrives.
    let got = first.finish().await;
    assert_eq!((got.status, got.body), (206, bed.content.slice(100..300)));
    stall.release();
    let got = second.finish().await;
    assert_eq!((got.status, got.complete, got.body), (206, true, bed.content.slice(SIZE / 2..)));
    assert_eq!(last.finish().await.body, bed.content.slice(SIZE - 1..));
    assert_eq!(bed.gets(), 1);
    bed.recovers().await;
}

/// A range of wrong content may be served before the digest is known; its last byte never is.
#[tokio::test]
async fn ranges_to_the_end_of_wrong_content_never_complete() {
    let bed = TestBed::new().await;
    bed.inject(Fault::Flip(5));
    let from_middle = format!("bytes={}-", SIZE / 2);
    for range in [from_middle.as_str(), "bytes=-1", "bytes=0-"] {
        let got = bed.begin(&[("range", range)]).await.finish().await;
        assert!(!got.complete || got.status >= 400, "{range}: {} bytes of wrong content", got.status);
    }
    bed.recovers().await;
}

/// containerd fetches a large layer in parts: each request asks for everything to the end, and is closed once it has
/// its part.
#[tokio::test]
async fn open_ranges_that_close_early_cause_one_download() {
    const PARTS: usize = 8;
    let bed = TestBed::with(LARGE / 2, |gate| gate).await;
    let share = LARGE / 2 / PARTS;
    let parts = (0..PARTS).map(|part| {
        let (url, range) = (bed.gate.url(&bed.path()), format!("bytes={}-", part * share));
        Tasks::new().spawn(async move {
            let mut reader = Exchange::start("GET", &url, &[("range", &range)]).await;
            assert_eq!(reader.head().status, 206);
            reader.read(share).await
        })
    });
    let mut whole = Vec::new();
    for part in parts.collect::<Vec<_>>() {
        whole.extend_from_slice(&soon(part).await.unwrap());
    }
    assert!(whole == bed.content, "the parts do not add up to the content");
    assert_eq!(bed.gets(), 1);
    bed.recovers().await;
}

#[tokio::test]
async fn fifty_clients_of_an_uncached_blob_cause_one_download() {
    let bed = TestBed::new().await;
    // Held, so that all fifty requests arrive before the download starts.
    let held = bed.inject(Fault::Gate);
    let readers = readers(&bed, 50);
    soon(held.wait_for_hits(1)).await;
    held.release();
    for reader in readers {
        assert!(bed.judge(&soon(reader).await.unwrap()));
    }
    assert_eq!(bed.gets(), 1);
    bed.recovers().await;
}

/// All clients see the failure, and the next request starts a new download.
#[tokio::test]
async fn all_clients_of_a_failed_download_are_cut() {
    let bed = TestBed::new().await;
    let flip = bed.inject(Fault::Flip(0));
    let stall = bed.inject(Fault::Stall(SIZE as u64 / 2));
    let readers = readers(&bed, 20);
    soon(stall.wait_for_hits(1)).await;
    stall.release();
    for reader in readers {
        assert!(!bed.judge(&soon(reader).await.unwrap()), "wrong content completed");
    }
    flip.remove();
    bed.recovers().await;
}

/// Complete pulls, each in a separate task.
fn readers(bed: &TestBed, count: usize) -> Vec<tokio::task::JoinHandle<crate::support::Answer>> {
    let reader = |_| {
        let url = bed.gate.url(&bed.path());
        Tasks::new().spawn(async move { request("GET", &url, &[]).await })
    };
    (0..count).map(reader).collect()
}
