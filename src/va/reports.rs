//! Reports of other scanners in local directories: Trivy, Grype, CycloneDX and OpenVEX files, told apart by content.
//!
//! A report is bound to an image by digest and by nothing else: never by a name or a tag. The digest of an index names no
//! image of a platform, so it binds no report; a VEX statement about an index is about the images that it lists.
//!
//! A report is an image's own when it names the manifest or the configuration as what was scanned. Anyone can list other
//! layers under a scanned configuration, so what speaks of that counts for a manifest only when its layers are
//! proven to be the configuration's. A report that merely lists the manifest among the names of
//! its image (`RepoDigests`) never displaces an image's own.
//!
//! Of several reports of one rank the newest counts, whichever scanner made it; one without a time loses to one with; of
//! equally old ones every finding counts. A time that is still to come is not known. A report says what was found in
//! what was assessed, and of the rest nothing: each format tells what it left out.
//!
//! VEX statements in these files come from whoever administers the gate, and exempt what they match. What whoever ran a
//! scanner told it to ignore counts, unless the configuration honours that.
//!
//! A file that cannot be read is a problem, which `/readyz` and the log report, and never a clean report: an image of which nothing but a
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

use super::binding::ConfigBinding;
use crate::oci::Digest;
use crate::policy::{Observed, VaEvidence};
use crate::runtime::{Clock, DirectoryWatch, Epoch, Metrics, Readiness, Tasks};

mod bound;
mod cyclonedx;
mod document;
mod encoding;
mod grype;
mod index;
mod openvex;
mod purl;
mod scan;
mod trivy;

pub(super) use bound::BoundReports;
use index::Index;

/// How many images' reports are kept put together, so that judging an image again copies nothing.
const LOOKED_UP: u64 = 10_000;

/// What is degraded where reports have problems.
const TOPIC: &str = "va";

/// What was looked up: the generation, and the subject.
type Key = (u64, Digest, ConfigBinding, Box<[Digest]>);
type Found = Result<Option<Arc<Observed<VaEvidence>>>, NeedsProof>;

/// An image by its digests.
#[derive(Clone, Copy, Debug)]
struct ReportQuery<'a> {
    manifest: Digest,
    config: ConfigBinding,
    /// The indexes that are known to list the manifest, in the repository that is asked for.
    parents: &'a [Digest],
}

/// The answer depends on whether the configuration is that of the manifest's layers, which is not proven.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct NeedsProof;

/// Which files are read, and how.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    /// Directories, looked through with all that is beneath them.
    pub(super) directories: Vec<PathBuf>,
    /// How often they are looked through even when the system tells of no change.
    pub(super) rescan: Duration,
    /// Whether what a scanner was told to ignore is exempt.
    pub(super) honour_ignores: bool,
}

/// The current reports. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Reports(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    settings: Settings,
    index: ArcSwap<Index>,
    looked_up: Cache<Key, Found>,
    clock: Clock,
    readiness: Readiness,
    epoch: Epoch,
    generation: watch::Sender<u64>,
    /// How many times the directories were looked through.
    scans: watch::Sender<u64>,
    gauges: Gauges,
}

impl Reports {
    /// Reads the directories, and from then on follows their changes: when the system tells of one, and at intervals in
    /// any case, since not every file system tells. A directory that is not there yet is a problem, not an error.
    pub(super) async fn open(
        settings: Settings,
        tasks: &Tasks,
        clock: Clock,
        readiness: Readiness,
        epoch: Epoch,
        metrics: &Metrics,
    ) -> Self {
        let reports = Self(Arc::new(Shared {
            settings,
            index: ArcSwap::default(),
            generation: watch::Sender::new(0),
            scans: watch::Sender::new(0),
            looked_up: Cache::new(LOOKED_UP),
            clock,
            readiness,
            epoch,
            gauges: Gauges::new(metrics),
        }));
        let settings = &reports.0.settings;
        if !settings.directories.is_empty() {
            let watch = DirectoryWatch::new(&settings.directories, "vulnerability reports");
            reports.scan(tasks).await;
            tasks.spawn(reports.clone().follow(watch, tasks.clone()));
        }
        reports
    }

    /// What the reports say of an image. `None` when no report speaks of it; [`VaEvidence::Unavailable`] when that may be
    /// because a directory cannot be read, [`VaEvidence::Unreadable`] when because of a file.
    ///
    /// # Errors
    /// When it depends on whether the configuration is of the manifest's layers, which is not proven.
    fn lookup(&self, subject: &ReportQuery<'_>) -> Found {
        let index = self.0.index.load();
        let key = (index.generation, subject.manifest, subject.config, subject.parents.into());
        if let Some(known) = self.0.looked_up.get(&key) {
            return known;
        }
        let value = index.lookup(subject, self.0.settings.honour_ignores);
        let at = self.0.clock.now();
        let found = value.map(|value| value.map(|value| Arc::new(Observed { value, at, until: None })));
        self.0.looked_up.insert(key, found.clone());
        found
    }

    /// A number that grows whenever the reports change.
    fn generation(&self) -> u64 {
        *self.0.generation.borrow()
    }

    /// Scans after every change, and at intervals, until shutdown.
    async fn follow(self, mut watch: DirectoryWatch, tasks: Tasks) {
        loop {
            tokio::select! {
                () = tasks.stopping() => return,
                () = watch.changed(self.0.settings.rescan) => self.scan(&tasks).await,
            }
        }
    }

    /// Looks through the directories once, and swaps the index when anything is different.
    async fn scan(&self, tasks: &Tasks) {
        let reports = self.clone();
        let work = move || {
            let old = reports.0.index.load_full();
            let new = scan::scan(&reports.0.settings.directories, &old, reports.0.clock.now());
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
        self.0.readiness.degraded(TOPIC, summary(&new.problems));
        let gauges = &self.0.gauges;
        gauges.files.set(i64::try_from(new.files.len()).unwrap_or(i64::MAX));
        gauges.problems.set(i64::try_from(new.problems.len()).unwrap_or(i64::MAX));
        gauges.reloads.inc();
        self.0.index.store(Arc::new(new));
        self.0.epoch.advance();
        self.0.generation.send_modify(|generation| *generation += 1);
    }
}

/// Each problem as far as few are listed, for people.
fn summary(problems: &[String]) -> Option<String> {
    const LISTED: usize = 10;
    let mut text = problems.iter().take(LISTED).map(String::as_str).collect::<Vec<_>>().join("; ");
    if problems.len() > LISTED {
        text.push_str(&format!("; and {} more", problems.len() - LISTED));
    }
    (!problems.is_empty()).then_some(text)
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
