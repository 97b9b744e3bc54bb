//! Clocks that jump: forward past everything that expires, and back to before it was noted.

use jiff::{SignedDuration, Timestamp};
use pullgate::runtime::Clock;

use crate::bed::{Bed, REPOSITORY, SIZE, image};
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

fn looked_up(bed: &Bed) -> usize {
    bed.registry.count(|r| r.is("HEAD", "/manifests/1"))
}

#[tokio::test]
async fn after_a_jump_forward_a_tag_is_looked_up_again() {
    let clock = clock();
    let bed = Bed::with(SIZE, |gate| gate.clock(&clock).upstream("tag_ttl = \"10m\"")).await;
    assert_eq!(bed.gate.get(TAG).await.status, 200);
    assert_eq!(looked_up(&bed), 1);
    for jump in [1, 24, 24 * 365] {
        let before = looked_up(&bed);
        clock.advance(hours(jump));
        assert_eq!(bed.gate.get(TAG).await.status, 200);
        assert_eq!(looked_up(&bed), before + 1, "{jump} hours later");
        assert!(bed.pull().await);
    }
    bed.recovers().await;
}

/// A clock that was wrong is set right. What was noted in the future is not fresh until that future comes.
#[tokio::test]
async fn after_a_jump_back_a_moved_tag_is_seen_within_its_time() {
    for back in [1, 5, 24 * 365] {
        let clock = clock();
        let bed = Bed::with(SIZE, |gate| gate.clock(&clock).upstream("tag_ttl = \"10m\"")).await;
        clock.advance(-hours(back));
        assert_eq!(bed.gate.get(TAG).await.status, 200);
        assert!(bed.pull().await);
        let moved = image(&noise(100_000, 77));
        bed.registry.push(REPOSITORY, Some("1"), &moved);
        clock.advance(SignedDuration::from_mins(11));
        let got = bed.gate.get(TAG).await;
        assert_eq!(got.body, moved.manifest().bytes, "{back} hours back, the tag stays what it was in the future");
    }
}

#[tokio::test]
async fn there_and_back_nothing_breaks() {
    let clock = clock();
    let bed =
        Bed::with(SIZE, |gate| gate.clock(&clock).upstream("tag_ttl = \"10m\"").with("[cache]\nmax_age = \"1h\""))
            .await;
    for jump in [3, -7, 24 * 365 * 50, -24 * 365 * 120, 24 * 365 * 70, 1, -1] {
        clock.advance(hours(jump));
        assert_eq!(bed.gate.get(TAG).await.status, 200, "after {jump} hours");
        assert!(bed.pull().await, "after {jump} hours");
        assert_eq!(bed.gate.get(&bed.path()).await.body, bed.content);
    }
    bed.recovers().await;
}

/// While the upstream is down, a tag is served stale for `stale_for`, and a jump counts.
#[tokio::test]
async fn a_jump_forward_ends_staleness() {
    let clock = clock();
    let bed = Bed::with(SIZE, |gate| gate.clock(&clock).upstream("tag_ttl = \"1m\"\nstale_for = \"2h\"")).await;
    bed.registry.inject(pullgate::sample::On::any(), pullgate::sample::Fault::Close);
    clock.advance(hours(1));
    assert_eq!(bed.gate.get(TAG).await.status, 200, "stale, and it may be");
    clock.advance(hours(2));
    let answer = bed.gate.get(TAG).await;
    assert!([502, 503].contains(&answer.status), "{}", answer.status);
    bed.recovers().await;
}

/// An image that is signed later is admitted when the finding that it was not has expired, also by a clock that jumps.
#[tokio::test]
async fn evidence_expires_by_a_clock_that_jumps() {
    // With each jump, the time after it by which a new look must have been taken.
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
        assert_eq!(gate.get(TAG).await.status, 403, "the finding holds for its time");
        clock.advance(jump);
        clock.advance(then);
        let got = gate.get(TAG).await;
        assert_eq!(got.status, 200, "after {jump:#} it is never looked at again: {}", got.text());
        // And the restart of a gate whose clock was set back starts well.
        let made = gate.stop().await;
        clock.advance(-hours(24));
        let gate = made.start().await;
        let got = gate.get(TAG).await;
        assert_eq!(got.status, 200, "{}", got.text());
        gate.stop().await;
    }
}
