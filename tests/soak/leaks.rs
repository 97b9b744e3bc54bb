//! The resources that the process holds when it is idle.

use std::fmt;
use std::fs;
use std::time::Duration;

use crate::support::soon;
use crate::world::World;

/// An increase of open files up to this is not a leak: the database and the runtime open some as needed.
const FILES: u64 = 16;
/// An increase in memory up to this, in KiB, is not a leak: allocators keep fragmented memory.
const MEMORY: u64 = 48 * 1024;

/// Open files and memory of the idle process.
pub(crate) struct Footprint {
    files: u64,
    /// Private memory in KiB; the kernel can reclaim mapped files.
    memory: u64,
}

impl Footprint {
    /// Waits until no connection is open and nothing is in progress.
    pub(crate) async fn at_rest(world: &World) -> Self {
        // Pooled connections are not a leak; restarting the upstream closes them.
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

    /// Checks that the footprint has not grown.
    pub(crate) fn assert_near(&self, before: &Self) {
        let files = before.files + FILES;
        assert!(self.files <= files, "{} files are open, up from {}: files leak", self.files, before.files);
        let memory = before.memory + before.memory / 4 + MEMORY;
        assert!(self.memory <= memory, "{} KiB are in use, up from {}: memory leaks", self.memory, before.memory);
    }
}

impl fmt::Display for Footprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} open files, {} KiB", self.files, self.memory)
    }
}

/// The number of open files once it is stable: files that were evicted while being read are closed a moment later.
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
