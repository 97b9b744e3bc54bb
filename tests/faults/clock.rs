//! Clock jumps: forward past every expiry, and back to before facts were recorded.

use jiff::{SignedDuration, Timestamp};
use pullgate::runtime::Clock;

use crate::bed::{REPOSITORY, SIZE, TestBed, image};
use crate::harness::{HOST, TestGate, policy};
use crate::support::TestRegistry;
use pullgate::sample::image::noise;

const TAG: &str = "/library/app/manifests/1";

fn clock() -> Clock {
    Clock::manual("2026-05-01T12:00:00Z".parse::<Timestamp>().expect("a time"))
}

fn hours(hours: i64) -> SignedDuration {
    SignedDuration::from_hours(hours)
}

fn looked_up(bed: &TestBed) -> usize {
    bed.registry.count(|r| r.is("HEAD", "/manifests/1"))
}

#[tokio::test]
async fn tags_are_looked_up_again_after_a_jump_forward() {
    let clock = clock();
    let bed = TestBed::with(SIZE, |gate| gate.clock(&clock).upstream("tag_ttl = \"10m\"")).await;
    assert_eq!(bed.gate.get(TAG).await.status, 200);
    assert_eq!(looked_up(&bed), 0, "a new tag is fetched, and only known ones are looked up");
    for jump in [1, 24, 24 * 365] {
        let before = looked_up(&bed);
        clock.advance(hours(jump));
        assert_eq!(bed.gate.get(TAG).await.status, 200);
        assert_eq!(looked_up(&bed), before + 1, "{jump} hours later");
        assert!(bed.pull().await);
    }
    bed.recovers().await;
}

/// A wrong clock is corrected. Facts recorded in the future are not fresh until that time.
#[tokio::test]
async fn moved_tags_are_noticed_in_time_after_a_jump_back() {
    for back in [1, 5, 24 * 365] {
        let clock = clock();
        let bed = TestBed::with(SIZE, |gate| gate.clock(&clock).upstream("tag_ttl = \"10m\"")).await;
        clock.advance(-hours(back));
        assert_eq!(bed.gate.get(TAG).await.status, 200);
        assert!(bed.pull().await);
        let moved = image(&noise(100_000, 77));
        bed.registry.push(REPOSITORY, Some("1"), &moved);
        clock.advance(SignedDuration::from_mins(11));
        let got = bed.gate.get(TAG).await;
        assert_eq!(got.body, moved.manifest().bytes, "{back} hours back, the tag keeps its digest from the future");
    }
}

#[tokio::test]
async fn jumps_forward_and_back_break_nothing() {
    let clock = clock();
    let bed =
        TestBed::with(SIZE, |gate| gate.clock(&clock).upstream("tag_ttl = \"10m\"").with("[cache]\nmax_age = \"1h\""))
            .await;
    for jump in [3, -7, 24 * 365 * 50, -24 * 365 * 120, 24 * 365 * 70, 1, -1] {
        clock.advance(hours(jump));
        assert_eq!(bed.gate.get(TAG).await.status, 200, "after {jump} hours");
        assert!(bed.pull().await, "after {jump} hours");
        assert_eq!(bed.gate.get(&bed.path()).await.body, bed.content);
    }
    bed.recovers().await;
}

/// While the upstream is down, a tag is served stale for `stale_for`, and clock jumps count.
#[tokio::test]
async fn staleness_ends_after_a_jump_forward() {
    let clock = clock();
    let bed = TestBed::with(SIZE, |gate| gate.clock(&clock).upstream("tag_ttl = \"1m\"\nstale_for = \"2h\"")).await;
    bed.registry.inject(pullgate::sample::On::any(), pullgate::sample::Fault::Close);
    clock.advance(hours(1));
    assert_eq!(bed.gate.get(TAG).await.status, 200, "stale content may still be served");
    clock.advance(hours(2));
    let answer = bed.gate.get(TAG).await;
    assert!([502, 503].contains(&answer.status), "{}", answer.status);
    bed.recovers().await;
}

/// An image that is signed later is admitted once the negative finding expires, even if the clock jumps.
#[tokio::test]
async fn evidence_expires_after_clock_jumps() {
    // For each jump, the time after it by which the signature must have been checked again.
    for (jump, then) in [(hours(2), SignedDuration::ZERO), (-hours(5), SignedDuration::from_mins(11))] {
        let clock = clock();
        let registry = TestRegistry::start().await;
        let built = image(&noise(100_000, 5));
        registry.push(REPOSITORY, Some("1"), &built);
        let gate = TestGate::new(&registry, &policy("  - {name: \"*\", policy: {trust: release}}\n"))
            .clock(&clock)
            .upstream("tag_ttl = \"10m\"")
            .with("[trust]\nnegative_ttl = \"10m\"")
            .start()
            .await;
        assert_eq!(gate.get(TAG).await.status, 403);
        gate.key().sign(&registry, REPOSITORY, &format!("{HOST}/{REPOSITORY}"), built.root).unwrap();
        assert_eq!(gate.get(TAG).await.status, 403, "the finding has not expired yet");
        clock.advance(jump);
        clock.advance(then);
        let got = gate.get(TAG).await;
        assert_eq!(got.status, 200, "after {jump:#} the signature is not checked again: {}", got.text());
        // A gate whose clock was set back also restarts.
        let made = gate.stop().await;
        clock.advance(-hours(24));
        let gate = made.start().await;
        let got = gate.get(TAG).await;
        assert_eq!(got.status, 200, "{}", got.text());
        gate.stop().await;
    }
}
