//! The CPU time of the gate, of the clients and of the upstream, each for itself.

use std::fs;
use std::ops::{AddAssign, Sub};
use std::path::Path;

use crate::gate::Gate;
use crate::upstream;

/// CPU seconds, user and system.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Usage {
    pub(crate) gate: f64,
    /// The client threads of this process.
    pub(crate) clients: f64,
    /// The upstream's threads in this process.
    pub(crate) upstream: f64,
}

impl Usage {
    pub(crate) const NONE: Self = Self { gate: 0.0, clients: 0.0, upstream: 0.0 };

    /// What has been used until now.
    pub(crate) fn now(gate: &Gate) -> Self {
        let mut upstream = 0.0;
        for task in fs::read_dir("/proc/self/task").into_iter().flatten().flatten() {
            let name = fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            if name.trim_end() == upstream::THREAD {
                upstream += seconds(&task.path().join("stat"));
            }
        }
        let own = seconds(Path::new("/proc/self/stat"));
        Self { gate: seconds(&gate.proc("stat")), clients: own - upstream, upstream }
    }
}

impl Sub for Usage {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        Self {
            gate: self.gate - other.gate,
            clients: self.clients - other.clients,
            upstream: self.upstream - other.upstream,
        }
    }
}

impl AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.gate += other.gate;
        self.clients += other.clients;
        self.upstream += other.upstream;
    }
}

/// The CPU seconds in a `stat` file of /proc (proc_pid_stat(5)), which counts in hundredths of a second.
fn seconds(stat: &Path) -> f64 {
    let stat = fs::read_to_string(stat).unwrap_or_default();
    // The name in parentheses may contain anything.
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    let field = |at: usize| fields.get(at).and_then(|text| text.parse::<u32>().ok()).unwrap_or_default();
    f64::from(field(11) + field(12)) / 100.0
}
