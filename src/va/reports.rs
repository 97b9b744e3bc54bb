//! Reports of other scanners in local directories: Trivy, Grype, CycloneDX and OpenVEX files, told apart by content.
//!
//! A report is bound to an image by the digest of its manifest or of its configuration and by nothing else: never by a
//! name or a tag. The digest of an index names no image of a platform, so it binds nothing. Of several reports of one
//! image the newest counts, whichever scanner made it; one without a time loses to one with; of equally old ones every
//! finding counts. VEX statements in these files come from whoever administers the gate, and exempt what they match.
//!
//! Most reports name an image by its configuration, and anyone can list other layers under that. What was scanned is then
//! what runs because a configuration lists the digests of its uncompressed layers (`rootfs.diff_ids`), and runtimes
//! refuse layers that have others: that much is left to them. A report by the manifest's digest leaves nothing to them,
//! so where there is one, those by the configuration alone add findings and take none away.
//!
//! A file that cannot be read is a [problem](Reports::problems) and never a clean report: an image of which nothing but a
//! broken report exists is unscanned, also where an earlier version of the file was whole.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use arc_swap::ArcSwap;
use moka::sync::Cache;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::watch;

use crate::oci::Digest;
use crate::policy::{Observed, VaEvidence};
use crate::runtime::{Clock, Metrics, Tasks};

mod cyclonedx;
mod document;
mod grype;
mod index;
mod openvex;
mod purl;
mod scan;
mod trivy;
mod watcher;

use index::Index;

/// How many images' reports are kept put together, so that judging an image again copies nothing.
const LOOKED_UP: u64 = 10_000;

/// The current reports. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reports(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    directories: Vec<PathBuf>,
    index: ArcSwap<Index>,
    /// What was looked up of one generation, by manifest and configuration.
    looked_up: Cache<(u64, Digest, Digest), Arc<Observed<VaEvidence>>>,
    clock: Clock,
    generation: watch::Sender<u64>,
    /// How many times the directories were looked through.
    scans: watch::Sender<u64>,
    gauges: Gauges,
}

impl Reports {
    /// Reads the directories, and from then on follows their changes: when the system tells of one, and every `rescan`
    /// in any case, since not every file system tells. A directory that is not there yet is a problem, not an error.
    pub async fn open(
        directories: Vec<PathBuf>,
        rescan: Duration,
        tasks: &Tasks,
        clock: Clock,
        metrics: &Metrics,
    ) -> Self {
        let reports = Self(Arc::new(Shared {
            directories,
            index: ArcSwap::default(),
            generation: watch::Sender::new(0),
            scans: watch::Sender::new(0),
            looked_up: Cache::new(LOOKED_UP),
            clock,
            gauges: Gauges::new(metrics),
        }));
        if !reports.0.directories.is_empty() {
            // The watch is set before the first look, so that nothing that changes between them is missed.
            let watcher = watcher::Watcher::new(&reports.0.directories);
            reports.scan(tasks).await;
            tasks.spawn(watcher.follow(reports.clone(), rescan, tasks.clone()));
        }
        reports
    }

    /// What the reports say of the image with this manifest and this configuration. `None` when no report speaks of it;
    /// [`VaEvidence::Unavailable`] when that may be because a directory cannot be read.
    pub fn lookup(&self, manifest: Digest, config: Digest) -> Option<Arc<Observed<VaEvidence>>> {
        let index = self.0.index.load();
        let key = (index.generation, manifest, config);
        if let Some(known) = self.0.looked_up.get(&key) {
            return Some(known);
        }
        let value = index.lookup(manifest, config)?;
        let found = Arc::new(Observed { value, at: self.0.clock.now(), until: None });
        self.0.looked_up.insert(key, found.clone());
        Some(found)
    }

    /// A number that grows whenever the reports change.
    pub fn generation(&self) -> u64 {
        *self.0.generation.borrow()
    }

    /// Waits until the generation is beyond `seen`, and gives it.
    pub async fn changed(&self, seen: u64) -> u64 {
        let mut generation = self.0.generation.subscribe();
        // The sender lives as long as this does.
        generation.wait_for(|now| *now > seen).await.map_or(seen, |now| *now)
    }

    /// One line for each file or directory that cannot be used, or that holds something without effect.
    pub fn problems(&self) -> Vec<String> {
        self.0.index.load().problems.clone()
    }

    /// Looks through the directories once, and swaps the index when anything is different.
    async fn scan(&self, tasks: &Tasks) {
        let reports = self.clone();
        let work = move || {
            let old = reports.0.index.load_full();
            let new = scan::scan(&reports.0.directories, &old);
            (new != *old).then_some(new)
        };
        match tasks.spawn_blocking(work).await {
            Ok(Some(new)) => self.swap(new),
            Ok(None) => {}
            Err(error) => {
                tracing::error!(%error, "reading vulnerability reports failed; the reports stay as they were");
            }
        }
        self.0.scans.send_modify(|scans| *scans += 1);
    }

    fn swap(&self, mut new: Index) {
        let old = self.0.index.load();
        new.generation = old.generation + 1;
        for problem in new.problems.iter().filter(|problem| !old.problems.contains(problem)) {
            tracing::warn!(%problem, "vulnerability reports");
        }
        let gauges = &self.0.gauges;
        gauges.files.set(i64::try_from(new.files.len()).unwrap_or(i64::MAX));
        gauges.problems.set(i64::try_from(new.problems.len()).unwrap_or(i64::MAX));
        gauges.reloads.inc();
        self.0.index.store(Arc::new(new));
        self.0.generation.send_modify(|generation| *generation += 1);
    }
}

#[derive(Debug)]
struct Gauges {
    files: Gauge,
    problems: Gauge,
    reloads: Counter<u64, AtomicU64>,
}

impl Gauges {
    fn new(metrics: &Metrics) -> Self {
        let gauge = |name, help| metrics.register(name, help, Gauge::default());
        Self {
            files: gauge("va_report_files", "Files in the vulnerability report directories"),
            problems: gauge("va_report_problems", "Vulnerability report files that cannot be used"),
            reloads: metrics.register(
                "va_report_reloads",
                "Times that the vulnerability reports changed",
                Counter::default(),
            ),
        }
    }
}

#[cfg(test)]
mod tests;
