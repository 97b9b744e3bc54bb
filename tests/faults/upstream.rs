//! Upstreams that refuse requests, disappear, or redirect.

use http::{StatusCode, header};
use pullgate::runtime::Tasks;
use pullgate::sample::{Fault, On};

use crate::bed::{REPOSITORY, SIZE, TestBed};
use crate::support::{TestRegistry, soon};

#[tokio::test]
async fn busy_upstreams_are_retried_when_they_allow_it() {
    for seconds in [0, 1] {
        let bed = TestBed::new().await;
        let busy = bed.registry.inject(bed.downloads().times(1), Fault::too_many_requests(seconds));
        let began = std::time::Instant::now();
        assert!(bed.pull().await);
        assert!(began.elapsed().as_secs() >= seconds, "retried before the upstream allowed");
        assert_eq!((busy.hits(), bed.gets()), (1, 2));
        bed.recovers().await;
    }
}

#[tokio::test]
async fn busy_upstreams_are_retried_during_a_download() {
    let bed = TestBed::new().await;
    bed.registry.inject(bed.downloads().times(1), Fault::Cut(SIZE as u64 / 2));
    let mut reader = bed.begin(&[]).await;
    reader.read(1000).await;
    bed.registry.inject(bed.downloads().times(1), Fault::too_many_requests(0));
    assert_eq!(reader.finish().await.body, bed.content.slice(1000..));
    bed.recovers().await;
}

/// Ranges are optional, and some registries and proxies answer them in unusual ways.
#[tokio::test]
async fn cut_downloads_continue_whatever_the_range_response() {
    let half = SIZE / 2;
    let part = |range: String| Fault::header(header::CONTENT_RANGE, &range);
    for (fault, gets) in [
        (part(format!("bytes {half}-{}/*", SIZE - 1)), 2),
        (part(format!("bytes {}-{}/{SIZE}", half + 1, SIZE - 1)), 3),
        (Fault::Header(header::CONTENT_RANGE, None), 3),
        (Fault::status(StatusCode::RANGE_NOT_SATISFIABLE), 3),
        (Fault::status(StatusCode::FORBIDDEN), 3),
        (Fault::IgnoreRange, 2),
    ] {
        let bed = TestBed::new().await;
        bed.registry.inject(bed.downloads().times(1), Fault::Cut(half as u64));
        let mut reader = bed.begin(&[]).await;
        assert_eq!(reader.read(1000).await.len(), 1000);
        bed.registry.inject(bed.downloads().times(1), fault.clone());
        let rest = reader.finish().await;
        assert!(rest.complete && rest.body == bed.content.slice(1000..), "{fault:?}");
        assert_eq!(bed.gets(), gets, "{fault:?}");
        bed.recovers().await;
    }
}

/// Each interruption comes after some progress, and there are more of them than a download without progress is resumed.
#[tokio::test]
async fn large_blobs_arrive_over_unreliable_connections() {
    const PIECE: usize = 1024 * 1024;
    let bed = TestBed::with(7 * PIECE, |gate| gate).await;
    bed.registry.inject(bed.downloads().times(6), Fault::Cut(PIECE as u64));
    assert!(bed.pull().await);
    assert_eq!(bed.gets(), 7);
    bed.recovers().await;
}

/// All data has arrived when the connection breaks, but not the end marker.
#[tokio::test]
async fn interruptions_after_the_last_byte_are_harmless() {
    let bed = TestBed::new().await;
    bed.inject(Fault::Header(header::CONTENT_LENGTH, None));
    bed.inject(Fault::Cut(SIZE as u64));
    assert!(bed.pull().await);
    assert_eq!(bed.gets(), 1);
    bed.recovers().await;
}

#[tokio::test]
async fn unavailable_upstreams_are_retried() {
    for status in [StatusCode::SERVICE_UNAVAILABLE, StatusCode::BAD_GATEWAY, StatusCode::INTERNAL_SERVER_ERROR] {
        let bed = TestBed::new().await;
        bed.registry.inject(bed.downloads().times(1), Fault::status(status));
        assert!(bed.pull().await, "{status}");
        bed.recovers().await;
    }
}

#[tokio::test]
async fn unavailable_upstreams_are_named_and_nothing_is_cached() {
    for (fault, wanted) in
        [(Fault::status(StatusCode::SERVICE_UNAVAILABLE), 503), (Fault::too_many_requests(3600), 429)]
    {
        let bed = TestBed::new().await;
        bed.inject(fault);
        let answer = bed.gate.get(&bed.path()).await;
        assert!(!bed.judge(&answer));
        assert!([wanted, 502, 503].contains(&answer.status), "{} {}", answer.status, answer.text());
        assert!(!bed.is_kept().await);
        if wanted == 503 {
            bed.recovers().await;
            continue;
        }
        // It asked not to be contacted for an hour, and is not.
        bed.registry.clear_faults();
        let gets = bed.gets();
        let answer = bed.gate.get(&bed.path()).await;
        assert_eq!((answer.status, bed.gets()), (429, gets), "{}", answer.text());
        assert!(answer.header("retry-after").is_some());
    }
}

#[tokio::test]
async fn resets_within_the_headers_are_retried() {
    for at in [0, 1, 9, 17, 60] {
        let bed = TestBed::new().await;
        let reset = bed.registry.inject(bed.downloads().times(1), Fault::Reset(at));
        assert!(bed.pull().await, "reset after {at} bytes of the head");
        assert_eq!(reset.hits(), 1);
        bed.recovers().await;
    }
}

#[tokio::test]
async fn repeated_resets_mean_an_unavailable_upstream() {
    let bed = TestBed::new().await;
    bed.inject(Fault::Reset(40));
    let answer = bed.gate.get(&bed.path()).await;
    assert!([502, 503].contains(&answer.status), "{} {}", answer.status, answer.text());
    bed.recovers().await;
}

#[tokio::test]
async fn upstreams_are_used_again_when_they_come_back() {
    let bed = TestBed::new().await;
    let address = bed.registry.listening.address();
    let stall = bed.inject(Fault::Stall(SIZE as u64 / 2));
    let mut reader = bed.begin(&[]).await;
    assert_eq!(reader.read(SIZE / 2).await, bed.content.slice(..SIZE / 2));
    soon(bed.registry.listening.stop()).await;
    stall.remove();
    let got = reader.finish().await;
    assert!(!got.complete, "the second half cannot have been sent");
    // Completely gone: the response says so.
    let answer = bed.gate.get(&bed.path()).await;
    assert!([502, 503].contains(&answer.status), "{} {}", answer.status, answer.text());
    assert!(!bed.is_kept().await);
    let back = soon(async {
        loop {
            if let Ok(listening) = bed.registry.bind(address, &Tasks::new()).await {
                break listening;
            }
            tokio::task::yield_now().await;
        }
    });
    assert_eq!(back.await.address(), address);
    bed.recovers().await;
}

#[tokio::test]
async fn short_upstream_outages_do_not_affect_clients() {
    let bed = TestBed::new().await;
    let address = bed.registry.listening.address();
    let stall = bed.inject(Fault::Stall(SIZE as u64 / 2));
    let mut reader = bed.begin(&[]).await;
    assert_eq!(reader.read(1000).await.len(), 1000);
    soon(bed.registry.listening.stop()).await;
    stall.remove();
    bed.registry.bind(address, &Tasks::new()).await.expect("the port is still free");
    assert_eq!(reader.finish().await.body, bed.content.slice(1000..));
    bed.recovers().await;
}

/// A registry that stores blobs elsewhere, as the large ones do, and the storage fails in the middle of one.
#[tokio::test]
async fn failed_redirect_targets_are_requested_again_from_the_registry() {
    let bed = TestBed::new().await;
    let storage = TestRegistry::start().await;
    storage.put_blob(REPOSITORY, bed.content.clone());
    let redirect = bed.inject(Fault::redirect(&storage.url("{path}")));
    let stall = storage.inject(On::blobs(), Fault::Stall(SIZE as u64 / 2));
    let mut reader = bed.begin(&[]).await;
    assert_eq!(reader.read(SIZE / 2).await, bed.content.slice(..SIZE / 2));
    // The registry redirects to another location when asked again.
    redirect.remove();
    soon(storage.listening.stop()).await;
    stall.remove();
    assert_eq!(reader.finish().await.body, bed.content.slice(SIZE / 2..));
    assert_eq!(bed.gets(), 2);
    bed.recovers().await;
}

#[tokio::test]
async fn dead_redirect_targets_end_the_download() {
    let bed = TestBed::new().await;
    let storage = TestRegistry::start().await;
    storage.put_blob(REPOSITORY, bed.content.clone());
    bed.inject(Fault::redirect(&storage.url("{path}")));
    let stall = storage.inject(On::blobs(), Fault::Stall(SIZE as u64 / 2));
    let mut reader = bed.begin(&[]).await;
    assert_eq!(reader.read(1000).await.len(), 1000);
    soon(storage.listening.stop()).await;
    stall.remove();
    assert!(!reader.finish().await.complete);
    let answer = bed.gate.get(&bed.path()).await;
    assert!([502, 503].contains(&answer.status), "{} {}", answer.status, answer.text());
    assert!(!bed.is_kept().await);
    bed.recovers().await;
}
