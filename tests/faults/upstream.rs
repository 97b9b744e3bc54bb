//! Upstreams that refuse, vanish, or send their clients elsewhere.

use http::{StatusCode, header};
use pullgate::runtime::Tasks;
use pullgate::sample::{Fault, On};

use crate::bed::{Bed, REPOSITORY, SIZE};
use crate::support::{TestRegistry, soon};

#[tokio::test]
async fn a_busy_upstream_is_asked_again_when_it_says() {
    for seconds in [0, 1] {
        let bed = Bed::new().await;
        let busy = bed.registry.inject(bed.downloads().times(1), Fault::too_many_requests(seconds));
        let began = std::time::Instant::now();
        assert!(bed.pull().await);
        assert!(began.elapsed().as_secs() >= seconds, "not before the upstream wanted");
        assert_eq!((busy.hits(), bed.gets()), (1, 2));
        bed.recovers().await;
    }
}

#[tokio::test]
async fn a_busy_upstream_in_the_middle_of_a_download_is_asked_again() {
    let bed = Bed::new().await;
    bed.registry.inject(bed.downloads().times(1), Fault::Cut(SIZE as u64 / 2));
    let mut reader = bed.begin(&[]).await;
    reader.read(1000).await;
    bed.registry.inject(bed.downloads().times(1), Fault::too_many_requests(0));
    assert_eq!(reader.finish().await.body, bed.content.slice(1000..));
    bed.recovers().await;
}

/// Ranges are an offer, and some registries and proxies answer them as they like.
#[tokio::test]
async fn a_cut_download_goes_on_whatever_the_range_is_answered() {
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
        let bed = Bed::new().await;
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

/// Each break comes after some progress, more often than a download that gets nowhere is taken up again.
#[tokio::test]
async fn a_large_blob_over_a_bad_line_comes_in_the_end() {
    const PIECE: usize = 1024 * 1024;
    let bed = Bed::with(7 * PIECE, |gate| gate).await;
    bed.registry.inject(bed.downloads().times(6), Fault::Cut(PIECE as u64));
    assert!(bed.pull().await);
    assert_eq!(bed.gets(), 7);
    bed.recovers().await;
}

/// All bytes are here when the connection breaks before it says that this is the end.
#[tokio::test]
async fn a_break_after_the_last_byte_is_none() {
    let bed = Bed::new().await;
    bed.inject(Fault::Header(header::CONTENT_LENGTH, None));
    bed.inject(Fault::Cut(SIZE as u64));
    assert!(bed.pull().await);
    assert_eq!(bed.gets(), 1);
    bed.recovers().await;
}

#[tokio::test]
async fn an_unavailable_upstream_is_asked_again() {
    for status in [StatusCode::SERVICE_UNAVAILABLE, StatusCode::BAD_GATEWAY, StatusCode::INTERNAL_SERVER_ERROR] {
        let bed = Bed::new().await;
        bed.registry.inject(bed.downloads().times(1), Fault::status(status));
        assert!(bed.pull().await, "{status}");
        bed.recovers().await;
    }
}

#[tokio::test]
async fn an_upstream_that_stays_unavailable_is_named_and_nothing_is_kept() {
    for (fault, wanted) in
        [(Fault::status(StatusCode::SERVICE_UNAVAILABLE), 503), (Fault::too_many_requests(3600), 429)]
    {
        let bed = Bed::new().await;
        bed.inject(fault);
        let answer = bed.gate.get(&bed.path()).await;
        assert!(!bed.judge(&answer));
        assert!([wanted, 502, 503].contains(&answer.status), "{} {}", answer.status, answer.text());
        assert!(!bed.is_kept().await);
        if wanted == 503 {
            bed.recovers().await;
            continue;
        }
        // It asked to be left alone for an hour, and is.
        bed.registry.clear_faults();
        let gets = bed.gets();
        let answer = bed.gate.get(&bed.path()).await;
        assert_eq!((answer.status, bed.gets()), (429, gets), "{}", answer.text());
        assert!(answer.header("retry-after").is_some());
    }
}

#[tokio::test]
async fn a_reset_anywhere_in_the_head_is_tried_again() {
    for at in [0, 1, 9, 17, 60] {
        let bed = Bed::new().await;
        let reset = bed.registry.inject(bed.downloads().times(1), Fault::Reset(at));
        assert!(bed.pull().await, "reset after {at} bytes of the head");
        assert_eq!(reset.hits(), 1);
        bed.recovers().await;
    }
}

#[tokio::test]
async fn a_reset_of_every_head_is_an_unavailable_upstream() {
    let bed = Bed::new().await;
    bed.inject(Fault::Reset(40));
    let answer = bed.gate.get(&bed.path()).await;
    assert!([502, 503].contains(&answer.status), "{} {}", answer.status, answer.text());
    bed.recovers().await;
}

#[tokio::test]
async fn an_upstream_that_vanishes_and_comes_back_is_used_again() {
    let bed = Bed::new().await;
    let address = bed.registry.listening.address();
    let stall = bed.inject(Fault::Stall(SIZE as u64 / 2));
    let mut reader = bed.begin(&[]).await;
    assert_eq!(reader.read(SIZE / 2).await, bed.content.slice(..SIZE / 2));
    soon(bed.registry.listening.stop()).await;
    stall.remove();
    let got = reader.finish().await;
    assert!(!got.complete, "nobody can have sent the second half");
    // Gone entirely: an answer that says so.
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
async fn an_upstream_that_is_back_before_the_gate_gives_up_costs_the_client_nothing() {
    let bed = Bed::new().await;
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

/// A registry that keeps blobs elsewhere, as the large ones do, and the elsewhere dies in the middle of one.
#[tokio::test]
async fn a_redirect_whose_target_dies_is_asked_for_again_at_the_registry() {
    let bed = Bed::new().await;
    let storage = TestRegistry::start().await;
    storage.put_blob(REPOSITORY, bed.content.clone());
    let redirect = bed.inject(Fault::redirect(&storage.url("{path}")));
    let stall = storage.inject(On::blobs(), Fault::Stall(SIZE as u64 / 2));
    let mut reader = bed.begin(&[]).await;
    assert_eq!(reader.read(SIZE / 2).await, bed.content.slice(..SIZE / 2));
    // The registry has another place by the time it is asked again.
    redirect.remove();
    soon(storage.listening.stop()).await;
    stall.remove();
    assert_eq!(reader.finish().await.body, bed.content.slice(SIZE / 2..));
    assert_eq!(bed.gets(), 2);
    bed.recovers().await;
}

#[tokio::test]
async fn a_redirect_whose_target_stays_dead_ends_in_a_cut() {
    let bed = Bed::new().await;
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
