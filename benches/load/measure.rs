//! CPU time and memory of processes, and medians.

use std::fs;
use std::path::PathBuf;

use rustix::process::{Resource, getrlimit, setrlimit};

/// The CPU seconds used by these processes, user and system.
pub(crate) fn cpu_seconds(pids: &[u32]) -> f64 {
    pids.iter().map(|pid| ticks(*pid)).sum::<u64>() as f64 / 100.0
}

fn ticks(pid: u32) -> u64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name in parentheses may contain anything.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field = |at: usize| fields.get(at).and_then(|text| text.parse::<u64>().ok()).unwrap_or_default();
    field(11) + field(12)
}

/// A process and its children.
pub(crate) fn family(pid: u32) -> Vec<u32> {
    let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    [pid].into_iter().chain(children.split_whitespace().filter_map(|pid| pid.parse().ok())).collect()
}

/// The total peak resident memory since [`reset_peak`], in bytes.
pub(crate) fn peak(pids: &[u32]) -> u64 {
    pids.iter().map(|pid| memory(*pid, "VmHWM:")).sum()
}

/// The current resident memory, in bytes.
pub(crate) fn resident(pids: &[u32]) -> u64 {
    pids.iter().map(|pid| memory(*pid, "VmRSS:")).sum()
}

fn memory(pid: u32, field: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap_or_default();
    line.split_whitespace().next().and_then(|n| n.parse::<u64>().ok()).unwrap_or_default() * 1024
}

/// Resets the peak (proc(5), `clear_refs`).
pub(crate) fn reset_peak(pids: &[u32]) {
    for pid in pids {
        // If this fails, the peak covers the whole run, which can only be higher.
        let _ = fs::write(PathBuf::from(format!("/proc/{pid}/clear_refs")), "5");
    }
}

/// Raises the limit on open files to the maximum.
pub(crate) fn raise_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    let _ = setrlimit(Resource::Nofile, limit);
}

pub(crate) fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => f64::NAN,
        n if n % 2 == 1 => sorted[n / 2],
        n => f64::midpoint(sorted[n / 2 - 1], sorted[n / 2]),
    }
}
