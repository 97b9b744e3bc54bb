//! What many images cost: memory, pulls a second, the time to start, and rule sets of many entries.
//!
//! `cargo bench --bench growth -- [--images N] [--program FILE] [--dir DIR] [--keep]`; benches/README.md says what each
//! row shows. Everything runs on loopback, and the load is bounded by the number of images.

#![allow(missing_docs, clippy::unwrap_used, clippy::cast_precision_loss, reason = "a benchmark is no library")]

#[path = "../support/client.rs"]
mod client;
#[path = "../support/cpu.rs"]
mod cpu;
#[path = "../support/gate.rs"]
mod gate;
mod rules;
#[path = "../support/table.rs"]
mod table;
mod upstream;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use client::{Connection, pull};
use cpu::Usage;
use gate::{ADMIT_ALL, Gate};
use table::{Limit, Table};
use upstream::{Upstream, path};

/// The fraction of the images after which memory must not grow anymore, because everything bounded is full.
const FLAT_AFTER: f64 = 0.5;
/// The number of rounds of hot pulls.
const ROUNDS: u64 = 3;
/// The number of entries of a large rule set.
const ENTRIES: usize = 10_000;

struct Options {
    images: usize,
    /// The program to measure.
    program: PathBuf,
    /// Where the gate's state directory is created.
    dir: PathBuf,
    /// Whether the gate's state directory is left for inspection.
    keep: bool,
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        images: 100_000,
        program: env!("CARGO_BIN_EXE_pullgate").into(),
        // Next to the build, because the system's directory for temporary files may be in memory.
        dir: env!("CARGO_TARGET_TMPDIR").into(),
        keep: false,
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match &*word {
            "--images" => {
                let images = words.next().and_then(|n| n.parse().ok()).filter(|n| *n >= 1000);
                options.images = images.ok_or("--images takes a number of at least 1000")?;
            }
            "--program" => options.program = words.next().ok_or("--program takes a file")?.into(),
            "--dir" => options.dir = words.next().ok_or("--dir takes a directory")?.into(),
            "--keep" => options.keep = true,
            // cargo's own.
            "--bench" => {}
            other => return Err(format!("unknown option {other}; benches/README.md lists the options")),
        }
    }
    Ok(options)
}

/// Adds the CPU time of one pull, for the gate and, for comparison, for the rest of the benchmark.
fn add_usage(table: &mut Table, what: &str, used: Usage, pulls: f64) {
    let each = |seconds: f64| seconds * 1e6 / pulls;
    table.add(format!("CPU time of {what}"), each(used.gate), "us", None);
    let others = format!("client {:.1}, upstream {:.1}", each(used.clients), each(used.upstream));
    eprintln!("  beside the gate: {others} us");
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
    let dir = tempfile::tempdir_in(&options.dir).unwrap();
    let upstream = Upstream::start();
    Gate::configure(dir.path(), &upstream.url, ADMIT_ALL);
    let gate = Gate::start(&options.program, dir.path());
    cold(&gate, options.images, &mut table);
    warm_up(&gate, options.images, &mut table);
    hot(&gate, options.images, &mut table);
    gate.stop();
    start(&options, dir.path(), &mut table);
    let (reload, matched, unmatched) = rules::measure(ENTRIES);
    table.add(format!("reading {ENTRIES} rules"), reload, "ms", Some(Limit::AtMost(1000.0)));
    table.add("selecting one of them", matched, "us", Some(Limit::AtMost(20.0)));
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
    let (used, began) = (Usage::now(gate), Instant::now());
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
    add_usage(table, "a cold pull", Usage::now(gate) - used, pulled);
    let half = memory[(10.0 * FLAT_AFTER) as usize - 1];
    table.add("memory after the cold pulls", memory[9], "MB", Some(Limit::AtMost(150.0)));
    table.add("growth in the second half", memory[9] - half, "MB", Some(Limit::AtMost(15.0)));
}

/// Each image once more. The decisions from the cold pulls cannot be repeated: the facts about their repositories have
/// changed since, and most are too old.
fn warm_up(gate: &Gate, images: usize, table: &mut Table) {
    let known = images / 10 * 10;
    let used = Usage::now(gate);
    let round = pull(&gate.address, known, path);
    table.add("second pulls by tag", round.rate, "pulls/s", None);
    add_usage(table, "a second pull", Usage::now(gate) - used, known as f64);
}

/// One image again and again, and all of them in random order, in turn.
fn hot(gate: &Gate, images: usize, table: &mut Table) {
    let known = images / 10 * 10;
    let random = |seed: u64, number: usize| {
        let mut random = fastrand::Rng::with_seed(seed << 32 | number as u64);
        path(random.usize(..known))
    };
    let (mut one, mut all, mut used_by_one, mut used_by_all) = (Vec::new(), Vec::new(), Usage::NONE, Usage::NONE);
    let count = images.max(20_000) / 2;
    for round in 1..=ROUNDS {
        let start = Usage::now(gate);
        one.push(pull(&gate.address, count, |_| path(7)).rate);
        let between = Usage::now(gate);
        all.push(pull(&gate.address, count, |number| random(round, number)).rate);
        used_by_one += between - start;
        used_by_all += Usage::now(gate) - between;
        eprintln!("hot: one {:.0}/s, all {:.0}/s", one[one.len() - 1], all[all.len() - 1]);
    }
    let (one, all, pulled) = (median(&mut one), median(&mut all), ROUNDS as f64 * count as f64);
    table.add("hot pulls of one tag", one, "pulls/s", None);
    add_usage(table, "a hot pull of one tag", used_by_one, pulled);
    table.add("hot pulls over all images", all, "pulls/s", None);
    add_usage(table, "a hot pull over all images", used_by_all, pulled);
    table.add("all images, of one tag's rate", all / one, "", Some(Limit::AtLeast(0.8)));
    table.add("memory after the hot pulls", gate.memory() as f64 / 1e6, "MB", Some(Limit::AtMost(150.0)));
}

/// From the start of the process to the first answer, on the state of all images.
fn start(options: &Options, dir: &Path, table: &mut Table) {
    let mut times = Vec::new();
    for number in 0..3 {
        let began = Instant::now();
        let gate = Gate::start(&options.program, dir);
        Connection::open(&gate.address).unwrap().get(&path(options.images / 2 + number)).unwrap();
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
