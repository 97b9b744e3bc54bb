//! What many images cost: memory, pulls a second, the time to start, and rule sets of many entries.
//!
//! `cargo bench --bench growth -- [--images N] [--keep]`; benches/README.md says what each row shows. Everything runs on
//! loopback, and the load is bounded by the number of images.

#![allow(missing_docs, clippy::unwrap_used, clippy::cast_precision_loss, reason = "a benchmark is no library")]

mod client;
mod gate;
mod rules;
mod upstream;

use std::process::ExitCode;
use std::time::Instant;

use client::{Connection, pull};
use gate::Gate;
use upstream::{Upstream, path};

/// After so many images memory should grow no more: all that is bounded is full.
const FLAT_AFTER: f64 = 0.5;
/// How many entries a large rule set has.
const ENTRIES: usize = 10_000;

struct Options {
    images: usize,
    /// Leaves the folder of the gate's state for a look at it.
    keep: bool,
}

fn options() -> Result<Options, String> {
    let mut options = Options { images: 100_000, keep: false };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match &*word {
            "--images" => {
                let images = words.next().and_then(|n| n.parse().ok()).filter(|n| *n >= 1000);
                options.images = images.ok_or("--images takes a number of at least 1000")?;
            }
            "--keep" => options.keep = true,
            // cargo's own.
            "--bench" => {}
            other => return Err(format!("unknown option {other}; the options are --images N and --keep")),
        }
    }
    Ok(options)
}

/// A row of the table: what was measured, and the limit that it should keep.
struct Row {
    what: String,
    value: f64,
    unit: &'static str,
    limit: Option<Limit>,
}

enum Limit {
    AtLeast(f64),
    AtMost(f64),
}

#[derive(Default)]
struct Table(Vec<Row>);

impl Table {
    fn add(&mut self, what: impl Into<String>, value: f64, unit: &'static str, limit: Option<Limit>) {
        let row = Row { what: what.into(), value, unit, limit };
        eprintln!("{}: {:.2} {}", row.what, row.value, row.unit);
        self.0.push(row);
    }

    fn print(&self) {
        println!("\n| | measured | limit | |\n|---|---|---|---|");
        for Row { what, value, unit, limit } in &self.0 {
            let (limit, verdict) = match limit {
                None => (String::new(), ""),
                Some(Limit::AtLeast(least)) => (format!(">= {least}"), verdict(value >= least)),
                Some(Limit::AtMost(most)) => (format!("<= {most}"), verdict(value <= most)),
            };
            println!("| {what} | {value:.2} {unit} | {limit} | {verdict} |");
        }
    }
}

fn verdict(is_met: bool) -> &'static str {
    if is_met { "met" } else { "**missed**" }
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("growth: {error}");
            return ExitCode::from(64);
        }
    };
    let mut table = Table::default();
    // Beside the build, because the system's folder for such things may be in memory.
    let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
    let upstream = Upstream::start();
    Gate::configure(dir.path(), &upstream.url);
    let gate = Gate::start(dir.path());
    cold(&gate, options.images, &mut table);
    hot(&gate, options.images, &mut table);
    gate.stop();
    start(dir.path(), options.images, &mut table);
    let (reload, matched, unmatched) = rules::measure(ENTRIES);
    table.add(format!("reading {ENTRIES} rules"), reload, "ms", Some(Limit::AtMost(1000.0)));
    table.add("choosing one of them", matched, "us", Some(Limit::AtMost(20.0)));
    table.add("finding that none applies", unmatched, "us", Some(Limit::AtMost(20.0)));
    table.print();
    if options.keep {
        println!("\nstate: {}", dir.keep().display());
    }
    ExitCode::SUCCESS
}

/// Each image for the first time, in ten parts.
fn cold(gate: &Gate, images: usize, table: &mut Table) {
    let part = images / 10;
    let (cpu, began) = (gate.cpu_seconds(), Instant::now());
    let mut memory = Vec::new();
    for at in 0..10 {
        let round = pull(&gate.address, part, |number| path(at * part + number));
        memory.push(gate.memory() as f64 / 1e6);
        let (done, p99) = ((at + 1) * part, round.p99.as_secs_f64() * 1e3);
        eprintln!("{done} images: {:.0} pulls/s, p99 {p99:.0} ms, {:.0} MB", round.rate, memory[at]);
    }
    let pulled = (10 * part) as f64;
    let rate = pulled / began.elapsed().as_secs_f64();
    table.add("cold pulls by tag", rate, "pulls/s", Some(Limit::AtLeast(2000.0)));
    table.add("CPU time of a cold pull", (gate.cpu_seconds() - cpu) * 1e6 / pulled, "us", None);
    let half = memory[(10.0 * FLAT_AFTER) as usize - 1];
    table.add("memory after the cold pulls", memory[9], "MB", Some(Limit::AtMost(150.0)));
    table.add("of it, since half of the images", memory[9] - half, "MB", Some(Limit::AtMost(15.0)));
}

/// One image again and again, and all of them in random order, in turn.
fn hot(gate: &Gate, images: usize, table: &mut Table) {
    let known = images / 10 * 10;
    let random = |seed: u64, number: usize| {
        let mut random = fastrand::Rng::with_seed(seed << 32 | number as u64);
        path(random.usize(..known))
    };
    let (mut one, mut all, mut used) = (Vec::new(), Vec::new(), 0.0);
    let count = images.max(20_000) / 2;
    for round in 1..=3 {
        one.push(pull(&gate.address, count, |_| path(7)).rate);
        let cpu = gate.cpu_seconds();
        all.push(pull(&gate.address, count, |number| random(round, number)).rate);
        used += gate.cpu_seconds() - cpu;
        eprintln!("hot: one {:.0}/s, all {:.0}/s", one[one.len() - 1], all[all.len() - 1]);
    }
    let (one, all) = (median(&mut one), median(&mut all));
    table.add("hot pulls of one tag", one, "pulls/s", None);
    table.add("hot pulls over all images", all, "pulls/s", None);
    table.add("CPU time of such a pull", used * 1e6 / (3 * count) as f64, "us", None);
    table.add("all images, of one tag's rate", all / one, "", Some(Limit::AtLeast(0.8)));
    table.add("memory after the hot pulls", gate.memory() as f64 / 1e6, "MB", Some(Limit::AtMost(150.0)));
}

/// From the start of the process to the first answer, on the state of all images.
fn start(dir: &std::path::Path, images: usize, table: &mut Table) {
    let mut times = Vec::new();
    for number in 0..3 {
        let began = Instant::now();
        let gate = Gate::start(dir);
        Connection::open(&gate.address).unwrap().get(&path(images / 2 + number)).unwrap();
        times.push(began.elapsed().as_secs_f64());
        gate.stop();
    }
    table.add("start to the first answer", median(&mut times), "s", Some(Limit::AtMost(0.5)));
}

/// The middle of three.
fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
