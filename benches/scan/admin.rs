//! What people and services ask the gate about known images, and how long it takes.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::gate::Gate;

/// The answer to a call of the admin API.
fn get(gate: &Gate, path: &str) -> String {
    let mut stream = TcpStream::connect(&gate.admin).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", gate.admin);
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{path}: {head}");
    body.to_owned()
}

pub(crate) fn metrics(gate: &Gate) -> String {
    get(gate, "/metrics")
}

/// The value of a metric, with its labels.
pub(crate) fn number(gate: &Gate, name: &str) -> f64 {
    let text = metrics(gate);
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    value.and_then(|value| value.parse().ok()).unwrap_or(0.0)
}

/// Reads all pages of a report on the account. Returns the number of images, the time of all pages, and that of the
/// longest one.
pub(crate) fn account(gate: &Gate, call: &str, list: &str) -> (usize, Duration, Duration) {
    let (mut after, mut images, mut longest, began) = (None::<String>, 0, Duration::ZERO, Instant::now());
    loop {
        let asked = Instant::now();
        let query = after.map(|after| format!("?after={after}")).unwrap_or_default();
        let page: Value = serde_json::from_str(&get(gate, &format!("/va/api/v4/{call}{query}"))).unwrap();
        longest = longest.max(asked.elapsed());
        images += page[list].as_array().map_or_else(|| page[list].as_object().unwrap().len(), Vec::len);
        after = page["next"].as_str().map(str::to_owned);
        if after.is_none() {
            return (images, began.elapsed(), longest);
        }
    }
}

/// Runs `pullgate images` with these options. Returns the time, and the number of images that it lists.
pub(crate) fn list(program: &Path, dir: &Path, options: &[&str]) -> (Duration, usize) {
    let began = Instant::now();
    let mut command = Command::new(program);
    let output = command.args(["images", "--config"]).arg(dir.join("pullgate.toml")).args(options).output().unwrap();
    assert!(output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    let lines = output.stdout.iter().filter(|byte| **byte == b'\n').count();
    (began.elapsed(), lines - 1)
}

/// The counter of verdicts that became denials, followed from the moment at which new advisories were imported.
pub(crate) struct Changes {
    imported: Instant,
    count: f64,
    first: Option<Duration>,
    last: Duration,
}

impl Changes {
    pub(crate) fn new() -> Self {
        Self { imported: Instant::now(), count: 0.0, first: None, last: Duration::ZERO }
    }

    /// Reads the counter.
    pub(crate) fn look(&mut self, gate: &Gate) {
        let count = number(gate, "pullgate_verdict_changes_total{decision=\"deny\"}");
        if count > self.count {
            (self.count, self.last) = (count, self.imported.elapsed());
            self.first.get_or_insert(self.last);
        }
    }

    /// How many verdicts changed, and when the first and the last of them.
    pub(crate) fn found(&self) -> (f64, Duration, Duration) {
        (self.count, self.first.unwrap_or_default(), self.last)
    }
}
