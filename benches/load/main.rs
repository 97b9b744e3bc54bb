//! Compares pullgate with other servers in one run: throughput, CPU and memory, as ratios.
//!
//! `cargo bench --bench load -- [--quick] [--rounds N] [--only NAME,...] [--write]`; benches/README.md describes the
//! scenarios. Everything runs on loopback; the load is bounded in bytes, clients and time.

#![allow(missing_docs, clippy::unwrap_used, clippy::cast_precision_loss, reason = "a benchmark is not a library")]

mod client;
mod measure;
mod report;
mod scenarios;
mod servers;
mod upstream;
mod wrk;

use std::process::ExitCode;

use report::Report;
use scenarios::{Bench, SCENARIOS};

/// The command-line options.
#[derive(Clone, Debug)]
struct Options {
    rounds: usize,
    quick: bool,
    write: bool,
    only: Vec<String>,
    /// The size of the blob for the `herd` scenario, in bytes.
    herd: usize,
}

fn options() -> Result<Options, String> {
    let mut options = Options { rounds: 7, quick: false, write: false, only: Vec::new(), herd: 256 << 20 };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match &*word {
            "--quick" => (options.quick, options.rounds, options.herd) = (true, 3, 64 << 20),
            "--full" => options.herd = 1 << 30,
            "--write" => options.write = true,
            "--rounds" => {
                let rounds = words.next().and_then(|n| n.parse().ok()).filter(|n| *n > 0);
                options.rounds = rounds.ok_or("--rounds takes a number")?;
            }
            "--only" => {
                let names = words.next().ok_or("--only takes names, separated by commas")?;
                options.only = names.split(',').map(str::to_owned).collect();
            }
            // Passed by cargo.
            "--bench" => {}
            other => {
                return Err(format!(
                    "unknown option {other}; options: --quick, --full, --rounds N, --only A,B, --write"
                ));
            }
        }
    }
    let known = |name: &String| SCENARIOS.iter().any(|(known, _)| known == name);
    match options.only.iter().find(|name| !known(name)) {
        Some(name) => {
            let names: Vec<_> = SCENARIOS.iter().map(|(name, _)| *name).collect();
            Err(format!("unknown scenario {name}; scenarios: {}", names.join(", ")))
        }
        None => Ok(options),
    }
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("load: {error}");
            return ExitCode::from(64);
        }
    };
    measure::raise_open_files();
    let mut bench = Bench::start(&options);
    let mut report = Report::default();
    for (name, run) in SCENARIOS {
        if options.only.is_empty() || options.only.iter().any(|only| only == name) {
            eprintln!("== {name}");
            let scenario = run(&mut bench, &options);
            print!("{}", scenario.to_markdown());
            report.add(scenario);
        }
    }
    if options.write {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/RESULTS.md");
        report.write(path, &bench.versions(), options.rounds).unwrap();
        eprintln!("written to {path}");
    }
    ExitCode::SUCCESS
}
