//! Blobs that are not in the cache.

use super::super::client::{self, Place, Reading, crowd};
use super::super::report::{Goal, Row, Scenario};
use super::super::servers::Server;
use super::super::upstream::REPOSITORY;
use super::super::{Options, measure};
use super::{Bench, alternate, with_memory};

/// An uncached blob from an upstream limited to 200 MB per second. The values are seconds.
pub(super) fn cold_limited(bench: &mut Bench, options: &Options) -> Scenario {
    let size = if options.quick { 50 << 20 } else { 200 << 20 };
    let paced = bench.upstream.pace(200_000_000);
    let direct = Place { address: bench.upstream.url.trim_start_matches("http://").to_owned(), tls: None };
    let contestants =
        [("direct", Vec::new()), ("pullgate", bench.gate.pids()), ("pullgate, 8 waiters", bench.gate.pids())];
    let mut first_bytes = Vec::new();
    let rows = alternate(options.rounds, &contestants, |at, _| {
        let content = bench.upstream.push(size, REPOSITORY);
        let (place, path, clients) = match at {
            0 => (direct.clone(), format!("/v2/{}", content.blob_path()), 1),
            _ => (bench.gate.plain(), bench.gate.path(&content.blob_path()), if at == 1 { 1 } else { 8 }),
        };
        if at > 0 {
            client::get(&bench.gate.plain(), &bench.gate.path(&content.manifest_path())).unwrap();
        }
        let (downloads, took) = crowd(&place, &path, clients, 1, Reading::Discarded).unwrap();
        if at == 2 {
            first_bytes.extend(downloads.iter().map(|download| download.first_byte.as_secs_f64() * 1000.0));
        }
        bench.upstream.drop_layer(&content);
        (took.as_secs_f64(), f64::NAN)
    });
    drop(paced);
    let mut scenario = Scenario {
        title: format!("Cold blob of {} MB from an upstream of 200 MB/s", size >> 20),
        unit: "s",
        rows: rows.into_iter().map(|row| Row { cpu: Vec::new(), ..row }).collect(),
        ..Scenario::default()
    };
    let ratio = scenario.value("direct") / scenario.value("pullgate");
    scenario.goals.push(Goal::at_least("speed to that of a direct download", ratio, 0.95));
    let slowest = first_bytes.iter().copied().fold(0.0, f64::max);
    scenario.goals.push(Goal::at_most("slowest first byte of 8 waiters, ms", slowest, 20.0));
    with_memory(scenario)
}

/// An uncached blob from an unlimited upstream. The values are seconds.
pub(super) fn cold(bench: &mut Bench, options: &Options) -> Scenario {
    let size = if options.quick { 50 << 20 } else { 200 << 20 };
    let mut all = Scenario {
        title: format!("Cold blob of {} MB from an unlimited upstream", size >> 20),
        unit: "s",
        ..Scenario::default()
    };
    for clients in [1, 8] {
        let servers: Vec<&Server> = [&bench.gate, &bench.nginx_cache].into_iter().chain(&bench.registries).collect();
        let contestants: Vec<_> = servers.iter().map(|server| (server.name, server.pids())).collect();
        let mut gets = vec![0; servers.len()];
        let upstream = &mut bench.upstream;
        let rows = alternate(options.rounds, &contestants, |at, _| {
            let (server, content) = (servers[at], upstream.push(size, REPOSITORY));
            client::get(&server.plain(), &server.path(&content.manifest_path())).unwrap();
            let before = measure::cpu_seconds(&contestants[at].1);
            let crowd = crowd(&server.plain(), &server.path(&content.blob_path()), clients, 1, Reading::Discarded);
            let took = crowd.unwrap().1.as_secs_f64();
            let cpu = measure::cpu_seconds(&contestants[at].1) - before;
            gets[at] = gets[at].max(upstream.gets(&content));
            upstream.drop_layer(&content);
            (took, cpu / (size as f64 / 1e9))
        });
        let part = Scenario { rows, ..Scenario::default() };
        let ratio = part.value("pullgate") / part.value("nginx proxy_cache");
        all.goals.push(Goal::at_most(&format!("time to that of nginx proxy_cache, {clients} clients"), ratio, 1.0));
        let counts: Vec<String> = contestants.iter().zip(&gets).map(|((name, _), n)| format!("{name} {n}")).collect();
        all.notes.push(format!("upstream GETs of the blob, {clients} clients: {}", counts.join(", ")));
        all.rows
            .extend(part.rows.into_iter().map(|row| Row { name: format!("{}, {clients} clients", row.name), ..row }));
    }
    with_memory(all)
}

/// 200 clients pull one uncached blob, while nginx serves the same from cached files. The values are seconds.
pub(super) fn herd(bench: &mut Bench, options: &Options) -> Scenario {
    let rounds = options.rounds.min(3);
    let contestants = [("pullgate, cold", bench.gate.pids()), ("nginx, warm", bench.nginx.pids())];
    let mut gets = 0;
    let size = options.herd;
    let shared = bench.upstream.push(size, REPOSITORY);
    bench.put_file(&shared);
    let rows = alternate(rounds, &contestants, |at, _| {
        let pids = &contestants[at].1;
        let before = measure::cpu_seconds(pids);
        let took = if at == 0 {
            let content = bench.upstream.push(size, REPOSITORY);
            client::get(&bench.gate.plain(), &bench.gate.path(&content.manifest_path())).unwrap();
            let crowd = crowd(&bench.gate.plain(), &bench.gate.path(&content.blob_path()), 200, 1, Reading::Discarded);
            let took = crowd.unwrap().1;
            gets = gets.max(bench.upstream.gets(&content));
            bench.upstream.drop_layer(&content);
            took
        } else {
            let path = bench.nginx.path(&shared.blob_path());
            crowd(&bench.nginx.plain(), &path, 200, 1, Reading::Discarded).unwrap().1
        };
        (took.as_secs_f64(), (measure::cpu_seconds(pids) - before) / (200.0 * size as f64 / 1e9))
    });
    let mut scenario = Scenario {
        title: format!("200 clients on one cold blob of {} MB", size >> 20),
        unit: "s",
        rows,
        ..Scenario::default()
    };
    let ratio = scenario.value("pullgate, cold") / scenario.value("nginx, warm");
    scenario.goals.push(Goal::at_most("time to that of nginx from its warm files", ratio, 1.3));
    scenario.goals.push(Goal::at_most("upstream GETs", gets as f64, 1.0));
    with_memory(scenario)
}
