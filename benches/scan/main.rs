//! What judging images by their layers costs: reading layers, matching again, memory, opening databases, the first pull
//! of a large image, and pulls that are repeated.
//!
//! `cargo bench --bench scan -- [--images N] [--packages N] [--program FILE] [--dir DIR]`; benches/README.md says what each row shows.
//! Everything runs on loopback, and the load is bounded by the number of images.

#![allow(missing_docs, clippy::unwrap_used, clippy::cast_precision_loss, reason = "a benchmark is not a library")]

mod admin;
#[path = "../support/client.rs"]
mod client;
#[path = "../support/cpu.rs"]
mod cpu;
#[path = "../support/gate.rs"]
mod gate;
#[path = "../support/table.rs"]
mod table;
mod upstream;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::time::{Duration, Instant};

use admin::{Changes, account, list, metrics, number};
use client::{Connection, pull};
use cpu::Usage;
use gate::{ADMIT_ALL, Gate};
use table::{Limit, Table};
use upstream::{LAYER_PACKAGES, Pushed, Upstream, advisories, large, packages};

/// The entry of the gate that scans: images are judged, and no advisory of the benchmark denies them.
const SCANNED: &str = "- {name: \"*\", policy: {va: {severity: critical}}}";
/// The layers of a large image, and the size of each in bytes.
const LAYERS: u64 = 4;
const LAYER: usize = 50 << 20;
/// The number of large images, each pulled once through each gate.
const ROUNDS: u64 = 3;
/// The speed of a registry, in bytes a second for each layer.
const PACE: usize = 100_000_000;
/// How many times one known image is pulled for a rate.
const REPEATED: usize = 40_000;
/// How many images new advisories deny: half of them were pulled before all others, and half after them.
const MARKED: usize = 100;

struct Options {
    images: usize,
    /// The packages of each layer.
    packages: usize,
    program: PathBuf,
    dir: PathBuf,
}

fn options() -> Result<Options, String> {
    let mut options = Options {
        images: 10_000,
        packages: LAYER_PACKAGES,
        program: env!("CARGO_BIN_EXE_pullgate").into(),
        dir: env!("CARGO_TARGET_TMPDIR").into(),
    };
    let mut words = std::env::args().skip(1);
    while let Some(word) = words.next() {
        match &*word {
            "--images" => {
                let images = words.next().and_then(|n| n.parse().ok()).filter(|n| *n >= 100);
                options.images = images.ok_or("--images takes a number of at least 100")?;
            }
            "--packages" => {
                let packages = words.next().and_then(|n| n.parse().ok()).filter(|n| (1..=3000).contains(n));
                options.packages = packages.ok_or("--packages takes a number from 1 to 3000")?;
            }
            "--program" => options.program = words.next().ok_or("--program takes a file")?.into(),
            "--dir" => options.dir = words.next().ok_or("--dir takes a directory")?.into(),
            // cargo's own.
            "--bench" => {}
            other => return Err(format!("unknown option {other}; benches/README.md lists the options")),
        }
    }
    Ok(options)
}

fn main() -> ExitCode {
    let options = match options() {
        Ok(options) => options,
        Err(error) => {
            eprintln!("scan: {error}");
            return ExitCode::from(64);
        }
    };
    let mut table = Table::default();
    let dir = tempfile::tempdir_in(&options.dir).unwrap();
    let upstream = Upstream::start();
    let (plain_dir, scan_dir) = (dir.path().join("plain"), dir.path().join("scan"));
    fs::create_dir_all(&plain_dir).unwrap();
    fs::create_dir_all(&scan_dir).unwrap();
    Gate::configure(&plain_dir, &upstream.url, ADMIT_ALL);
    Gate::configure(&scan_dir, &upstream.url, SCANNED);
    let records = scan_dir.join("records");
    advisories(&records, 1);
    let took = import(&options.program, &scan_dir, &records);
    table.add("importing 30,000 OSV records", took.as_secs_f64(), "s", None);

    let plain = Gate::start(&options.program, &plain_dir);
    let (scanning, opened) = start_scanning(&options.program, &scan_dir);
    table.add("from the start until the databases are open", opened.as_secs_f64(), "s", Some(Limit::AtMost(2.0)));
    first_pulls(&upstream, &plain, &scanning, &mut table);
    repeated_pulls(&upstream, &plain, &scanning, &mut table);
    plain.stop();
    many(&options, &upstream, &scanning, &scan_dir, &mut table);
    table.add("memory of the scanning gate", scanning.memory() as f64 / 1e6, "MB", Some(Limit::AtMost(250.0)));
    scanning.stop();
    table.print();
    ExitCode::SUCCESS
}

fn import(program: &Path, dir: &Path, records: &Path) -> Duration {
    let began = Instant::now();
    let mut command = Command::new(program);
    let output =
        command.args(["db", "import", "--config"]).arg(dir.join("pullgate.toml")).arg(records).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    began.elapsed()
}

/// Starts a gate, and waits until its databases are open.
fn start_scanning(program: &Path, dir: &Path) -> (Gate, Duration) {
    let began = Instant::now();
    let gate = Gate::start(program, dir);
    while !metrics(&gate).contains("pullgate_advisory_sources 1") {
        assert!(began.elapsed() < Duration::from_secs(60), "the databases are not opened");
        std::thread::sleep(Duration::from_millis(2));
    }
    (gate, began.elapsed())
}

/// Large images, each pulled for the first time through both gates as a node does it.
fn first_pulls(upstream: &Upstream, plain: &Gate, scanning: &Gate, table: &mut Table) {
    for (paced, seed) in [(false, 0), (true, ROUNDS)] {
        let (mut without, mut with, mut ratios, mut extra, mut size) =
            (Vec::new(), Vec::new(), Vec::new(), Usage::NONE, 0);
        for round in 0..ROUNDS {
            let layers = (0..LAYERS).map(|layer| large((seed + round) * LAYERS + layer, LAYER));
            let image = upstream.push("large/app", &format!("v{}", seed + round), layers);
            size += image.size;
            if paced {
                upstream.pace(PACE);
            }
            let (first, first_cpu) = pull_image(plain, &image);
            let (second, second_cpu) = pull_image(scanning, &image);
            upstream.clear();
            eprintln!("  {:.0} MB: {first:?} without, {second:?} with the scanner", image.size as f64 / 1e6);
            extra += second_cpu - first_cpu;
            without.push(first.as_secs_f64());
            with.push(second.as_secs_f64());
            ratios.push(second.as_secs_f64() / first.as_secs_f64());
        }
        let speed = if paced { "100 MB/s a layer" } else { "no limit" };
        table.add(format!("first pull of 200 MB, {speed}"), median(&mut without), "s", None);
        table.add("the same with its verdict", median(&mut with), "s", None);
        table.add("of the time without", median(&mut ratios), "", Some(Limit::AtMost(1.5)));
        if !paced {
            let rate = size as f64 / 1e6 / extra.gate;
            table.add("reading layers, on one core", rate, "MB/s", Some(Limit::AtLeast(100.0)));
        }
    }
}

/// Pulls the manifest, however long the verdict takes, and then the layers, three at a time as containerd does. Returns the
/// time, and the CPU time.
fn pull_image(gate: &Gate, image: &Pushed) -> (Duration, Usage) {
    let (used, began) = (Usage::now(gate), Instant::now());
    let mut connection = Connection::open(&gate.address).unwrap();
    while let Err(error) = connection.get(&image.path) {
        assert!(error.to_string().contains("429"), "{}: {error}", image.path);
        assert!(began.elapsed() < Duration::from_secs(120), "{}: {error}", image.path);
        std::thread::sleep(Duration::from_millis(100));
        connection = Connection::open(&gate.address).unwrap();
    }
    std::thread::scope(|scope| {
        for first in 0..3 {
            scope.spawn(move || {
                let mut connection = Connection::open(&gate.address).unwrap();
                for layer in image.layers.iter().skip(first).step_by(3) {
                    connection.get(layer).unwrap();
                }
            });
        }
    });
    (began.elapsed(), Usage::now(gate) - used)
}

/// One known image again and again, with and without the scanner.
fn repeated_pulls(upstream: &Upstream, plain: &Gate, scanning: &Gate, table: &mut Table) {
    let image = upstream.push("small/app", "v1", [packages(1, LAYER_PACKAGES)]);
    for (what, path) in [("manifest", &image.path), ("blob", &image.layers[0])] {
        let (mut rates, mut costs) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            let [without, with] = [plain, scanning].map(|gate| {
                pull_once(gate, &image.path);
                let used = Usage::now(gate);
                let round = pull(&gate.address, REPEATED, |_| path.clone());
                (round.rate, (Usage::now(gate) - used).gate)
            });
            rates.push(with.0 / without.0);
            costs.push(with.1 / without.1);
        }
        table.add(format!("repeated {what}: rate, of that without"), median(&mut rates), "", Some(Limit::AtLeast(0.9)));
        table.add(format!("repeated {what}: CPU, of that without"), median(&mut costs), "", Some(Limit::AtMost(1.1)));
    }
}

fn pull_once(gate: &Gate, path: &str) {
    Connection::open(&gate.address).unwrap().get(path).unwrap();
}

/// Many images: the first pull of each, the next one, and what a new generation of advisories costs: the gate judges all of
/// them again without a pull.
fn many(options: &Options, upstream: &Upstream, gate: &Gate, dir: &Path, table: &mut Table) {
    let base = packages(2, options.packages);
    let marker = upstream.push("many/marker", "v1", [upstream::marker()]);
    let marked: Vec<Pushed> = (0..MARKED)
        .map(|image| {
            upstream.push("many/marked", &format!("v{image}"), [packages(image, options.packages), upstream::marker()])
        })
        .collect();
    let (coldest, hottest) = marked.split_at(MARKED / 2);
    coldest.iter().for_each(|image| pull_once(gate, &image.path));
    for image in 0..options.images {
        let own = packages(3 + image, options.packages);
        upstream.push(&format!("many/app-{}", image / 100), &format!("v{}", image % 100), [base.clone(), own]);
    }
    let path = |image: usize| format!("many/app-{}/manifests/v{}", image / 100, image % 100);
    let count = options.images as f64;
    let round = |what: &str, table: &mut Table| {
        let used = Usage::now(gate);
        let round = pull(&gate.address, options.images, path);
        let each = (Usage::now(gate) - used).gate * 1e3 / count;
        table.add(format!("{what}, {} packages each", 2 * options.packages), round.rate, "images/s", None);
        table.add(format!("{what}: 99 of 100 take less than"), round.p99.as_secs_f64() * 1e3, "ms", None);
        table.add(format!("{what}: CPU time of the gate"), each, "ms", None);
    };
    round("first pulls of small images", table);
    // What is in an image is known now, and its verdict no longer in memory.
    round("the same again", table);
    hottest.iter().for_each(|image| pull_once(gate, &image.path));
    table.add("memory of the scanning gate with all images known", gate.memory() as f64 / 1e6, "MB", None);
    listed(options, gate, dir, table);
    let records = dir.join("newer");
    advisories(&records, 2);
    let rejudged = || number(gate, "pullgate_verdicts_rejudged_total");
    let (before, used, began) = (rejudged(), Usage::now(gate), Instant::now());
    import(&options.program, dir, &records);
    let mut changes = Changes::new();
    wait_until_denied(gate, &marker.path);
    // Of pulls in quick succession, some are not recorded, and so have no verdict to judge again.
    while rejudged() - before < count / 2.0 || number(gate, "pullgate_verdicts_outdated") > 0.0 {
        changes.look(gate);
        assert!(began.elapsed() < Duration::from_secs(600), "{} verdicts were judged again", rejudged() - before);
        std::thread::sleep(Duration::from_millis(50));
    }
    changes.look(gate);
    let (took, judged) = (began.elapsed().as_secs_f64(), rejudged() - before);
    let (changed, first, last) = changes.found();
    assert!(changed > 0.0, "no verdict has changed");
    table.add("from the import to the first changed verdict", first.as_secs_f64(), "s", None);
    table.add("from the import to the last changed verdict", last.as_secs_f64(), "s", Some(Limit::AtMost(5.0)));
    let each = (Usage::now(gate) - used).gate * 1e3 / judged;
    table.add("judging all images again after new advisories", judged / took, "images/s", None);
    table.add("judging an image again: CPU time of the gate", each, "ms", Some(Limit::AtMost(1.0)));
    let (took, shown) = list(&options.program, dir, &["--changed"]);
    table.add(format!("`images --changed`, {shown} images"), took.as_secs_f64(), "s", Some(Limit::AtMost(1.0)));
    round("pulls after new advisories", table);
}

/// What it takes to list all known images with what is known about them.
fn listed(options: &Options, gate: &Gate, dir: &Path, table: &mut Table) {
    let (took, images) = list(&options.program, dir, &[]);
    table.add("`images`", images as f64 / took.as_secs_f64(), "images/s", None);
    for (call, key) in [("report/account/status", "images"), ("report/account", "assessments")] {
        let (images, took, longest) = account(gate, call, key);
        table.add(format!("`{call}`"), images as f64 / took.as_secs_f64(), "images/s", None);
        table.add(format!("`{call}`: the longest page"), longest.as_secs_f64(), "s", Some(Limit::AtMost(6.0)));
    }
}

/// Waits until the gate uses the second generation of advisories, which denies one image.
fn wait_until_denied(gate: &Gate, path: &str) {
    let began = Instant::now();
    loop {
        let answer = Connection::open(&gate.address).unwrap().get(path);
        match answer {
            Err(error) if error.to_string().contains("403") => return,
            _ => assert!(began.elapsed() < Duration::from_secs(60), "the new advisories are not used: {answer:?}"),
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
