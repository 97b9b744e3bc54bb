//! The scenarios. Each alternates between the servers, so that a slow phase of the machine affects all of them.

use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use super::Options;
use super::client::{self, Place, Reading, crowd};
use super::measure::{self, median};
use super::report::{Goal, Row, Scenario};
use super::servers::{self, Certificate, Server, find};
use super::upstream::{Content, REPOSITORY, Upstream};
use super::wrk;

mod cold;

/// The size of the cached blob, in bytes.
const BLOB: usize = 200 << 20;
/// The minimum number of bytes transferred in one round of a blob scenario.
const ROUND: u64 = 3 << 30;
/// How many bytes the eight streams transfer while small responses are timed.
const FAIRNESS_BYTES: u64 = 10 << 30;
/// The limit on pullgate's memory in every scenario, in bytes.
const MEMORY: f64 = 150e6;

type Scenarios = [(&'static str, fn(&mut Bench, &Options) -> Scenario)];

/// All scenarios, in the order in which they run.
pub(crate) const SCENARIOS: &Scenarios = &[
    ("manifest", manifest),
    ("denial", denial),
    ("blob", blob),
    ("tls", tls),
    ("fairness", fairness),
    ("cold-limited", cold::cold_limited),
    ("cold", cold::cold),
    ("herd", cold::herd),
    ("slow", slow),
];

/// The servers and their content.
pub(crate) struct Bench {
    upstream: Upstream,
    gate: Server,
    nginx: Server,
    nginx_cache: Server,
    /// Other registries, which may be missing.
    registries: Vec<Server>,
    image: Content,
    denied: Content,
    www: PathBuf,
    _dir: tempfile::TempDir,
}

impl Bench {
    pub(crate) fn start(options: &Options) -> Self {
        // In the build directory, because the system's temporary directory may be in memory.
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let mut upstream = Upstream::start();
        let size = if options.quick { BLOB / 4 } else { BLOB };
        let (image, denied) = (upstream.push(size, REPOSITORY), upstream.push(1000, "denied/app"));
        let certificate = Certificate::new(dir.path());
        let gate = servers::pullgate(dir.path(), &upstream, &certificate);
        let nginx = servers::nginx(dir.path(), &certificate);
        let nginx_cache = servers::nginx_cache(dir.path(), &upstream);
        let mut registries = Vec::new();
        for (name, program) in [("docker-registry 2.8", "docker-registry"), ("distribution 3", "distribution")] {
            match find(program) {
                Some(path) => registries.push(servers::distribution(dir.path(), &upstream, name, &path)),
                None => eprintln!("note: skipped {name}: {program} is not installed (tests/tools --bench)"),
            }
        }
        let www = dir.path().join("nginx/www");
        let bench = Self { upstream, gate, nginx, nginx_cache, registries, image, denied, www, _dir: dir };
        bench.warm();
        bench
    }

    /// Fills every cache.
    fn warm(&self) {
        self.put_file(&self.image);
        for server in [&self.gate].into_iter().chain(&self.registries) {
            for path in [self.image.manifest_path(), self.image.blob_path()] {
                for _ in 0..2 {
                    client::get(&server.plain(), &server.path(&path))
                        .unwrap_or_else(|e| panic!("{}: {e}", server.name));
                }
            }
        }
        for path in [self.image.manifest_path(), self.image.blob_path()] {
            client::get(&self.nginx.plain(), &self.nginx.path(&path)).unwrap();
        }
    }

    /// Writes the same content as files, for nginx.
    fn put_file(&self, content: &Content) {
        let put = |path: String, bytes: &[u8]| {
            let path = self.www.join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        put(content.manifest_path(), &content.manifest_bytes);
        // Downloaded through the gate, which verifies it.
        let body = self.download(content);
        put(content.blob_path(), &body);
    }

    fn download(&self, content: &Content) -> Vec<u8> {
        let url = self.gate.url(&content.manifest_path());
        let output = Command::new("curl").args(["-sSf", "-o", "/dev/null", &url]).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let url = self.gate.url(&content.blob_path());
        Command::new("curl").args(["-sSf", &url]).output().unwrap().stdout
    }

    pub(crate) fn versions(&self) -> String {
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        let field = |text: &str, key: &str| {
            let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
            line.split_once(':').map(|(_, value)| value.trim().to_owned()).unwrap_or_default()
        };
        let output = |program: &str, words: &[&str]| {
            let output = Command::new(program).args(words).output();
            output.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()).unwrap_or_default()
        };
        let cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get);
        format!(
            "- machine: {} cores of {}, {} of memory, Linux {}; client and servers share the cores\n\
             - pullgate {} at commit {} of {}\n- {}\n- docker-registry: {}\n- distribution 3: {}\n- {}\n",
            cores,
            field(&read("/proc/cpuinfo"), "model name"),
            field(&read("/proc/meminfo"), "MemTotal"),
            output("uname", &["-r"]),
            env!("CARGO_PKG_VERSION"),
            output("git", &["rev-parse", "--short", "HEAD"]),
            output("date", &["-u", "+%Y-%m-%d"]),
            servers::version("nginx", "-v"),
            servers::version("docker-registry", "--version"),
            servers::version("distribution", "--version"),
            servers::version("wrk", "-v"),
        )
    }
}

/// Measures `contestants` in turn, `rounds` times; each returns a value and CPU seconds per unit of work.
fn alternate(
    rounds: usize,
    contestants: &[(&str, Vec<u32>)],
    mut run: impl FnMut(usize, usize) -> (f64, f64),
) -> Vec<Row> {
    let mut rows: Vec<Row> = Vec::new();
    for (name, pids) in contestants {
        measure::reset_peak(pids);
        rows.push(Row { name: (*name).to_owned(), ..Row::default() });
    }
    for round in 0..rounds {
        for (at, (name, _)) in contestants.iter().enumerate() {
            let (value, cpu) = run(at, round);
            eprintln!("  {}/{rounds} {name}: {value:.1}, CPU {cpu:.2}", round + 1);
            rows[at].values.push(value);
            rows[at].cpu.push(cpu);
        }
    }
    for (row, (_, pids)) in rows.iter_mut().zip(contestants) {
        row.peak = measure::peak(pids);
    }
    rows
}

/// Adds the memory goal that applies to every scenario.
fn with_memory(mut scenario: Scenario) -> Scenario {
    let peak = scenario.rows.iter().filter(|row| row.name.starts_with("pullgate")).map(|row| row.peak).max();
    scenario.goals.push(Goal::at_most("pullgate's peak memory, bytes", peak.unwrap_or_default() as f64, MEMORY));
    scenario
}

fn manifest(bench: &mut Bench, options: &Options) -> Scenario {
    let path = bench.image.manifest_path();
    let servers: Vec<&Server> = [&bench.gate, &bench.nginx].into_iter().chain(&bench.registries).collect();
    let contestants: Vec<_> = servers.iter().map(|server| (server.name, server.pids())).collect();
    let rows = alternate(options.rounds, &contestants, |at, _| {
        wrk::requests(&servers[at].url(&path), &contestants[at].1, false)
    });
    let mut scenario = Scenario {
        title: "Cached manifest by digest, 64 connections".into(),
        unit: "requests/s",
        rows,
        ..Scenario::default()
    };
    let gate = scenario.value("pullgate");
    for (peer, wanted) in [("nginx", 1.1), ("docker-registry 2.8", 50.0), ("distribution 3", 15.0)] {
        let value = gate / scenario.value(peer);
        if value.is_finite() {
            scenario.goals.push(Goal::at_least(&format!("pullgate / {peer}"), value, wanted));
        }
    }
    with_memory(scenario)
}

fn denial(bench: &mut Bench, options: &Options) -> Scenario {
    let pids = bench.gate.pids();
    let urls = [bench.gate.url(&bench.image.manifest_path()), bench.gate.url(&bench.denied.manifest_path())];
    let contestants = [("pullgate, admitted", pids.clone()), ("pullgate, denied", pids)];
    let rows = alternate(options.rounds, &contestants, |at, _| wrk::requests(&urls[at], &contestants[at].1, at == 1));
    let mut scenario =
        Scenario { title: "Denial of an unsigned image".into(), unit: "requests/s", rows, ..Scenario::default() };
    let ratio = scenario.value("pullgate, denied") / scenario.value("pullgate, admitted");
    scenario.goals.push(Goal::at_least("denied / admitted", ratio, 1.0));
    with_memory(scenario)
}

/// GB per second, and CPU seconds per GB.
fn transfer(place: &Place, path: &str, pids: &[u32], clients: usize, size: u64, bytes: u64) -> (f64, f64) {
    let times = usize::try_from((bytes / size / clients as u64).max(1)).unwrap();
    let before = measure::cpu_seconds(pids);
    let (downloads, took) = crowd(place, path, clients, times, Reading::Discarded).unwrap();
    let moved = downloads.iter().map(|download| download.bytes).sum::<u64>() as f64 * times as f64 / 1e9;
    (moved / took.as_secs_f64(), (measure::cpu_seconds(pids) - before) / moved)
}

fn blob(bench: &mut Bench, options: &Options) -> Scenario {
    let (path, size) = (bench.image.blob_path(), bench.image.size);
    let servers: Vec<&Server> = [&bench.gate, &bench.nginx].into_iter().chain(&bench.registries).collect();
    let mut all = Scenario { title: "Cached blob, plain HTTP".into(), unit: "GB/s", ..Scenario::default() };
    for clients in [1, 16, 64] {
        let contestants: Vec<_> = servers.iter().map(|server| (server.name, server.pids())).collect();
        let rows = alternate(options.rounds, &contestants, |at, _| {
            let server = servers[at];
            transfer(&server.plain(), &server.path(&path), &contestants[at].1, clients, size, ROUND)
        });
        let part = Scenario { rows, ..Scenario::default() };
        let ratio = part.value("pullgate") / part.value("nginx");
        all.goals.push(Goal::at_least(&format!("throughput to nginx's, {clients} clients"), ratio, 0.95));
        let cpu = part.cpu("pullgate") / part.cpu("nginx");
        all.goals.push(Goal::at_most(&format!("CPU a GB to nginx's, {clients} clients"), cpu, 1.1));
        all.rows
            .extend(part.rows.into_iter().map(|row| Row { name: format!("{}, {clients} clients", row.name), ..row }));
    }
    all.notes.push(
        "Clients throw the bytes away in the kernel (MSG_TRUNC), so that the servers are what is measured.".into(),
    );
    with_memory(all)
}

fn tls(bench: &mut Bench, options: &Options) -> Scenario {
    let (path, size) = (bench.image.blob_path(), bench.image.size);
    let servers = [&bench.gate, &bench.nginx];
    let mut all = Scenario { title: "Cached blob, TLS 1.3".into(), unit: "GB/s", ..Scenario::default() };
    for clients in [1, 16, 64] {
        let contestants: Vec<_> = servers.iter().map(|server| (server.name, server.pids())).collect();
        let rows = alternate(options.rounds, &contestants, |at, _| {
            let (server, place) = (servers[at], servers[at].tls().unwrap());
            transfer(&place, &server.path(&path), &contestants[at].1, clients, size, ROUND / 3)
        });
        let part = Scenario { rows, ..Scenario::default() };
        let cpu = part.cpu("pullgate") / part.cpu("nginx");
        all.goals.push(Goal::at_most(&format!("CPU a GB to nginx's, {clients} clients"), cpu, 0.7));
        all.rows
            .extend(part.rows.into_iter().map(|row| Row { name: format!("{}, {clients} clients", row.name), ..row }));
    }
    all.notes.push("The clients decrypt on the same cores: read the CPU column.".into());
    with_memory(all)
}

/// Small responses while eight large ones are sent. The values are milliseconds; the 99th percentile is shown next to
/// them.
fn fairness(bench: &mut Bench, options: &Options) -> Scenario {
    let (manifest, blob) = (bench.image.manifest_path(), bench.image.blob_path());
    let servers = [&bench.gate, &bench.nginx];
    let contestants: Vec<_> = servers.iter().map(|server| (server.name, server.pids())).collect();
    let mut tails = vec![Vec::new(); servers.len()];
    let rows = alternate(options.rounds, &contestants, |at, _| {
        let server = servers[at];
        let (place, path) = (server.plain(), server.path(&blob));
        let size = bench.image.size;
        let before = measure::cpu_seconds(&contestants[at].1);
        let times = usize::try_from(FAIRNESS_BYTES / size / 8).unwrap();
        let readers = std::thread::spawn(move || crowd(&place, &path, 8, times, Reading::Copied));
        std::thread::sleep(Duration::from_millis(200));
        let text = wrk::run(&["-t1", "-c8", "-d2s", "--latency", &server.url(&manifest)]);
        let (downloads, took) = readers.join().unwrap().unwrap();
        assert!(took > Duration::from_millis(2200), "the blobs finished before the manifests: more bytes are needed");
        let moved = downloads.iter().map(|download| download.bytes).sum::<u64>() as f64 * times as f64 / 1e9;
        assert!(wrk::milliseconds(&text, "50%").is_finite(), "no latency: {text}");
        tails[at].push(wrk::milliseconds(&text, "99%"));
        (wrk::milliseconds(&text, "50%"), (measure::cpu_seconds(&contestants[at].1) - before) / moved)
    });
    let mut scenario = Scenario {
        title: "Manifests while eight blobs are sent: latency".into(),
        unit: "ms, half of the requests",
        rows,
        ..Scenario::default()
    };
    let tail = |at: usize| median(&tails[at]);
    let ratio = scenario.value("pullgate") / scenario.value("nginx");
    scenario.goals.push(Goal::at_most("p50 to nginx's", ratio, 1.0));
    scenario.goals.push(Goal::at_most("p99 to nginx's", tail(0) / tail(1), 1.0));
    scenario.notes.push(format!("p99: pullgate {:.2} ms, nginx {:.2} ms", tail(0), tail(1)));
    with_memory(scenario)
}

/// Clients that request a large blob and read nothing. The values are kilobytes of memory per client.
fn slow(bench: &mut Bench, options: &Options) -> Scenario {
    let clients = if options.quick { 500 } else { 2000 };
    let path = bench.image.blob_path();
    let servers = [&bench.gate, &bench.nginx];
    let mut rows = Vec::new();
    for server in servers {
        let pids = server.pids();
        measure::reset_peak(&pids);
        let before = measure::resident(&pids);
        let held = client::stalled(&server.plain(), &server.path(&path), clients).unwrap();
        let after = settled(&pids);
        drop(held);
        let each = after.saturating_sub(before) as f64 / clients as f64 / 1000.0;
        rows.push(Row { name: server.name.into(), values: vec![each], cpu: Vec::new(), peak: measure::peak(&pids) });
    }
    let mut scenario = Scenario {
        title: format!("{clients} clients that ask for a large blob and read nothing"),
        unit: "KB a client",
        rows,
        ..Scenario::default()
    };
    let each = scenario.value("pullgate");
    scenario.goals.push(Goal::at_most("KB a stalled client", each, 90.0));
    with_memory(scenario)
}

/// The resident memory once it no longer grows.
fn settled(pids: &[u32]) -> u64 {
    let (began, mut last) = (Instant::now(), 0);
    loop {
        std::thread::sleep(Duration::from_millis(500));
        let now = measure::resident(pids);
        if now <= last || began.elapsed() > Duration::from_secs(20) {
            return now.max(last);
        }
        last = now;
    }
}
