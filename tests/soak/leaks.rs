//! What the process holds when nobody wants anything of it.

use std::fmt;
use std::fs;
use std::time::Duration;

use crate::support::soon;
use crate::world::World;

/// How many open files more are no leak: what the database and the runtime open as they please.
const FILES: u64 = 16;
/// How much memory more is no leak, in KiB: allocators keep what was freed in pieces.
const MEMORY: u64 = 48 * 1024;

/// Open files and memory of the process, at rest.
pub(crate) struct Footprint {
    files: u64,
    /// Private memory in KiB; mapped files are the kernel's to take back.
    memory: u64,
}

impl Footprint {
    /// Waits until no connection is open and nothing is on its way.
    pub(crate) async fn at_rest(world: &World) -> Self {
        // Connections that wait in the pool are no leak; with the upstream restarted there are none.
        world.restart_upstream().await;
        for gauge in ["pullgate_connections_open", "pullgate_cache_fills_in_flight"] {
            soon(async {
                while world.program.metric(gauge).await > 0 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            })
            .await;
        }
        Self { files: settled(world).await, memory: memory(world) }
    }

    /// That what is held has not grown.
    pub(crate) fn assert_near(&self, before: &Self) {
        let files = before.files + FILES;
        assert!(self.files <= files, "{} files are open, {} were: they leak", self.files, before.files);
        let memory = before.memory + before.memory / 4 + MEMORY;
        assert!(self.memory <= memory, "{} KiB are taken, {} were: memory leaks", self.memory, before.memory);
    }
}

impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} open files, {} KiB", self.files, self.memory)
    }
}

/// How many files are open, as soon as that number stays: files that were evicted while read close a moment later.
async fn settled(world: &World) -> u64 {
    soon(async {
        let mut known = (files(world), 0);
        while known.1 < 10 {
            tokio::time::sleep(Duration::from_millis(50)).await;
            let now = files(world);
            known = if now == known.0 { (now, known.1 + 1) } else { (now, 0) };
        }
        known.0
    })
    .await
}

fn files(world: &World) -> u64 {
    let folder = format!("/proc/{}/fd", world.program.id());
    fs::read_dir(folder).expect("the process runs").count() as u64
}

fn memory(world: &World) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", world.program.id())).expect("the process runs");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("Linux says so");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}
