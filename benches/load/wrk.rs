//! Runs wrk, which sends many small requests, and reads its report.

use std::process::Command;

use super::{client, measure};

/// Requests per second, and CPU microseconds per request.
pub(crate) fn requests(url: &str, pids: &[u32], is_denied: bool) -> (f64, f64) {
    let before = measure::cpu_seconds(pids);
    let text = run(&["-t2", "-c64", "-d2s", url]);
    let used = measure::cpu_seconds(pids) - before;
    let total = text.lines().find_map(|line| line.trim().split_once(" requests in")?.0.parse::<f64>().ok());
    let refused = number_after(&text, "Non-2xx or 3xx responses:");
    // Errors must not count as throughput, nor successes as denials.
    let is_as_expected = if is_denied { Some(refused) == total } else { refused.is_nan() };
    assert!(is_as_expected && !text.contains("Socket errors"), "{url}: {text}");
    (number_after(&text, "Requests/sec:"), used * 1e6 / total.unwrap_or(f64::NAN))
}

pub(crate) fn run(words: &[&str]) -> String {
    let accept = format!("Accept: {}", client::ACCEPT);
    let output = Command::new("wrk").args(["-H", &accept]).args(words).output();
    let output = output.expect("wrk is installed (tests/tools --bench)");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn number_after(text: &str, key: &str) -> f64 {
    let rest = text.split_once(key).map(|(_, rest)| rest.trim_start()).unwrap_or_default();
    rest.split_whitespace().next().and_then(|number| number.parse().ok()).unwrap_or(f64::NAN)
}

/// Parses wrk's `1.23ms`, `123.00us` or `1.2s`.
pub(crate) fn milliseconds(text: &str, key: &str) -> f64 {
    let rest = text.split_once(key).map(|(_, rest)| rest.trim_start()).unwrap_or_default();
    let word = rest.split_whitespace().next().unwrap_or_default();
    let at = word.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(word.len());
    let number: f64 = word[..at].parse().unwrap_or(f64::NAN);
    match &word[at..] {
        "us" => number / 1000.0,
        "s" => number * 1000.0,
        _ => number,
    }
}
