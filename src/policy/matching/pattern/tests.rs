use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;

fn matches(pattern: &str, text: &str) -> bool {
    Pattern::new(pattern).matches(&Spelling::new(text.into()))
}

#[test]
fn matches_the_table_of_portieris() {
    for (pattern, text, expected) in [
        ("*", "icr.io/a/b:v1", true),
        ("*", "nginx", true),
        ("icr.io/*", "icr.io/a/b:v1", true),
        ("icr.io/*", "icr.io.evil.io/a", false),
        ("icr.io/*", "evil.io/icr.io/a", false),
        ("icr.io/a", "icr.io/a", true),
        ("icr.io/a", "icr.io/a:v1", true),
        ("icr.io/a", "icr.io/a@sha256:00", false),
        ("icr.io/a*", "icr.io/a@sha256:00", true),
        ("icr.io/a:v1", "icr.io/a:v1", true),
        ("icr.io/a:v1", "icr.io/a:v2", false),
        ("icr.io/a:v*", "icr.io/a:v2", true),
        ("icr.io/a", "icr.io/ab:v1", false),
        ("*.trusted.io/x/*", "evil.io/a.trusted.io/x/y", false),
        ("*.trusted.io/x/*", "a.trusted.io/x/y", true),
        ("*/a", "nginx", false),
        ("test.com*", "test.com.evil.io/a", true),
        ("nginx", "nginx:1.27", true),
        ("nginx", "icr.io/nginx", false),
        ("registry*.bluemix.net/armada/*", "registry.ng.bluemix.net/armada/x:1", true),
        ("ICR.io/*", "icr.io/a", true),
        ("Test.Com*", "test.com/a", true),
        ("icr.io/A", "icr.io/a", false),
        ("icr.io/a:V1", "icr.io/a:v1", false),
        ("icr.io:443/a", "icr.io/a", true),
        ("icr.io/a**b", "icr.io/axxb", true),
        ("a*b*c", "a", false),
        ("*ab*ab*", "ab", false),
        ("*ab*ab*", "abab", true),
        ("", "a", false),
    ] {
        assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
    }
}

#[test]
fn a_tag_is_left_out_only_beside_a_digest() {
    let digest = format!("sha256:{}", "0".repeat(64));
    for (pattern, text, expected) in [
        (format!("icr.io/a:v1@{digest}"), format!("icr.io/a@{digest}"), true),
        (format!("a:v1@{digest}"), format!("a@{digest}"), true),
        (format!("icr.io:5000/a:v1@{digest}"), format!("icr.io:5000/a@{digest}"), true),
        (format!("icr.io/*:v1@{digest}"), format!("icr.io/a@{digest}"), false),
        ("icr.io/a:v1@sha256:00".into(), "icr.io/a@sha256:00".into(), false),
        (":@".into(), "@:".into(), false),
    ] {
        assert_eq!(matches(&pattern, &text), expected, "{pattern} {text}");
    }
}

#[test]
fn specificity_counts_literal_bytes() {
    assert_eq!(Pattern::new("*a*b*").literals(), 2);
    assert_eq!(Pattern::new("icr.io/a").exact(), Some("icr.io/a"));
    assert_eq!(Pattern::new("icr.io/*").exact(), None);
}

/// A backtracking matcher would not finish these patterns in any practical time.
#[test]
fn adversarial_patterns_match_quickly() {
    let text = Spelling::new(format!("h/{}", "a".repeat(500)));
    let pattern = Pattern::new(&format!("h/{}b", "a*".repeat(250)));
    let nested = Pattern::new(&"*a".repeat(500));
    let begin = Instant::now();
    for _ in 0..100 {
        assert!(!pattern.matches(&text));
        nested.matches(&text);
    }
    assert!(begin.elapsed() < Duration::from_secs(5));
}

/// The matching rule of Portieris, implemented by exhaustive search.
fn naive(pattern: &str, text: &str) -> bool {
    let tries = |pattern: &str, text: &str| glob(pattern.as_bytes(), text.as_bytes());
    let either = |pattern: &str, text: &str| tries(pattern, text) || tries(&format!("{pattern}:*"), text);
    match (pattern.split_once('/'), text.split_once('/')) {
        (None, _) => either(pattern, text),
        (Some((host, rest)), Some((first, other))) => tries(host, first) && either(rest, other),
        (Some(_), None) => false,
    }
}

fn glob(pattern: &[u8], text: &[u8]) -> bool {
    match pattern.split_first() {
        None => text.is_empty(),
        Some((b'*', rest)) => (0..=text.len()).any(|skip| glob(rest, &text[skip..])),
        Some((c, rest)) => text.split_first().is_some_and(|(t, others)| c == t && glob(rest, others)),
    }
}

proptest! {
    #[test]
    fn agrees_with_the_naive_matcher(pattern in "[ab/:@*]{0,8}", text in "[ab/:@]{0,10}") {
        prop_assert_eq!(matches(&pattern, &text), naive(&pattern, &text));
    }
}

#[test]
fn a_pattern_covers_what_it_matches_whatever_the_stars_of_the_other_stand_for() {
    for (pattern, other, expected) in [
        ("a.io/*", "a.io/*", true),
        ("a.io/*", "A.io/team/*", true),
        ("*", "a.io/*", true),
        ("*", "*", true),
        ("*/*", "*", true),
        ("a.io/team/*", "a.io/*", false),
        ("a.io/*", "*", false),
        ("a.io/x", "a.io/x", true),
        ("a.io/x:*", "a.io/x", true),
        ("a.io/x:v1", "a.io/x", false),
        ("a.io/*-base", "a.io/team/*-base", true),
        ("a.io/*-base", "a.io/*", false),
        ("a.io/*", "a.io*", false),
    ] {
        assert_eq!(Pattern::new(pattern).covers(&Pattern::new(other)), expected, "{pattern} {other}");
    }
}

#[test]
fn registries_that_a_pattern_can_match() {
    for (pattern, host, wanted) in [
        ("*", "reg.test", true),
        ("reg*", "reg.test", true),
        ("reg.test*", "reg.test", true),
        ("nginx", "reg.test", false),
        ("nginx", "docker.io", true),
        ("other*", "reg.test", false),
        ("REG.test/*", "reg.test", true),
        ("*.test/app", "reg.test", true),
        ("*.test/app", "reg.io", false),
        ("reg.test/*", "docker.io", false),
        ("bitnami/*", "docker.io", true),
        ("bitnami/*", "reg.test", false),
        ("index.docker.io/*", "docker.io", true),
        ("docker.io/library/*", "docker.io", true),
        ("reg.test/*", "reg.test:5000", false),
    ] {
        assert_eq!(Pattern::new(pattern).may_match(&host.parse().unwrap()), wanted, "{pattern} {host}");
    }
}
