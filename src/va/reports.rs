//! Reports of other scanners in local directories: Trivy, Grype, CycloneDX and OpenVEX files, recognised by content.
//!
//! A report is bound to an image only by digest, never by a name or a tag. The digest of an index does not identify the
//! image of a platform, so it binds no report; a VEX statement about an index applies to the images that it lists.
//!
//! A report belongs to an image if it names the manifest or the configuration as the scanned object. Anyone can list
//! other layers under a scanned configuration, so a report on a configuration counts for a manifest only if the
//! manifest's layers are proven to be those of the configuration. A report that only lists the manifest among the names
//! of its image (`RepoDigests`) never replaces a report that belongs to the image.
//!
//! If several reports of the same rank describe an image, the newest is used, regardless of the scanner. A report with
//! a time takes precedence over one without. If several are equally old, all their findings count. A time in the future
//! is treated as unknown. A report covers only what was assessed: each format states what was left out.
//!
//! VEX statements in these files come from the administrator of the gate, and exempt what they match, also in what
//! other sources find. Issues that a scanner was told to ignore count, unless the configuration accepts such
//! exclusions.
//!
//! A file that cannot be read is a problem, reported by `/readyz` and the log, and never a clean report: an image whose
//! only report is broken is unscanned, even if an earlier version of the file was complete.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use arc_swap::ArcSwap;
use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use tokio::sync::{Notify, watch};

use super::binding::ConfigBinding;
use crate::oci::Digest;
use crate::policy::{Issue, Observed, VaEvidence};
use crate::runtime::{
    ALLOCATION, Bounded, Clock, DirectoryWatch, Epoch, Metrics, Readiness, Tasks, budget, resolved_path,
};

mod added;
mod bound;
mod carried;
mod cyclonedx;
mod details;
mod document;
mod encoding;
mod grype;
mod harbor;
mod index;
mod letter_case;
mod openvex;
mod packages;
pub(super) mod ratings;
mod scan;
mod scanned;
mod statement;
mod trivy;

pub(super) use bound::BoundReports;
pub use carried::{MAX_REPORT, ReportSubjects, report_subjects, reports_about};
pub(super) use document::text_or_nothing;
use index::Index;
pub(super) use scan::have_files;
pub(super) use scanned::{ReportTarget, harbor_report, scanned_report};
use statement::ImageDigests;

/// The approximate memory for an issue of a report, with its texts and packages, in bytes.
const ISSUE_WEIGHT: usize = 1500;

/// How long reading the reports may take at the start before the log says so, and how often it does.
const PATIENCE: Duration = Duration::from_secs(2);

/// The health topic that is degraded while reports have problems.
const TOPIC: &str = "va";

/// The key of a lookup: the generation, then the image's digests.
type ReportKey = (u64, Digest, ConfigBinding, Box<[Digest]>);
type FoundEvidence = Result<Option<Arc<Observed<VaEvidence>>>, NeedsProof>;

/// The approximate memory for a lookup result, in bytes. Results are kept so that judging an image again copies
/// nothing.
fn weight((.., parents): &ReportKey, found: &FoundEvidence) -> usize {
    let issues = found.as_ref().ok().and_then(Option::as_ref).map_or(0, |found| found.value.issues().len());
    size_of_val(&**parents) + size_of::<Observed<VaEvidence>>() + 2 * ALLOCATION + issues * ISSUE_WEIGHT
}

/// An image, identified by its digests.
#[derive(Clone, Copy, Debug)]
struct ReportQuery<'a> {
    manifest: Digest,
    config: ConfigBinding,
    /// The known indexes of the repository that list the manifest.
    parents: &'a [Digest],
}

/// The answer depends on whether the layers of the manifest are those of the configuration, which is not proven.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
struct NeedsProof;

/// The files to read, and how to interpret them.
#[derive(Clone, Debug)]
pub(super) struct ReportSettings {
    /// The directories, read recursively.
    pub(super) directories: Vec<PathBuf>,
    /// The interval for reading them even if the system reports no change.
    pub(super) rescan: Duration,
    /// Whether issues that a scanner was told to ignore are exempt.
    pub(super) honour_ignores: bool,
}

/// The current reports. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Reports(Arc<ReportsState>);

#[derive(Debug)]
struct ReportsState {
    settings: ReportSettings,
    index: ArcSwap<Index>,
    looked_up: Bounded<ReportKey, FoundEvidence>,
    clock: Clock,
    readiness: Readiness,
    epoch: Epoch,
    /// Asks for the directories to be read now.
    asked: Notify,
    /// How many times the directories have been read.
    scans: watch::Sender<u64>,
    gauges: Gauges,
}

impl Reports {
    /// Reads the directories, then follows their changes. A directory that does not exist yet is a problem but not an
    /// error.
    pub(super) async fn open(
        settings: ReportSettings,
        tasks: &Tasks,
        clock: Clock,
        readiness: Readiness,
        epoch: Epoch,
        metrics: &Metrics,
    ) -> Self {
        let reports = Self(Arc::new(ReportsState {
            settings,
            index: ArcSwap::default(),
            asked: Notify::new(),
            scans: watch::Sender::new(0),
            looked_up: Bounded::new(budget::REPORTS, weight),
            clock,
            readiness,
            epoch,
            gauges: Gauges::new(metrics),
        }));
        let settings = &reports.0.settings;
        if !settings.directories.is_empty() {
            reports.0.readiness.degraded(TOPIC, None);
            let directories = settings.directories.clone();
            // Looks at every directory.
            let watch = tasks.spawn_blocking(move || DirectoryWatch::new(&directories, "vulnerability reports"));
            let first = async {
                let watch = watch.await;
                reports.scan(tasks).await;
                watch
            };
            match announced(first, &settings.directories).await {
                Ok(watch) => drop(tasks.spawn(reports.clone().follow(watch, tasks.clone()))),
                Err(error) => {
                    tracing::error!(%error, "changes of vulnerability reports will not be noticed until a restart");
                }
            }
        }
        reports
    }

    /// What the reports say about an image. `None` if no report is about it; [`VaEvidence::Unavailable`] if the reason
    /// may be an unreadable directory, and [`VaEvidence::Unreadable`] if it may be an unreadable file.
    ///
    /// # Errors
    /// If the answer depends on whether the layers are those of the configuration, and that is not proven.
    fn lookup(&self, subject: &ReportQuery<'_>) -> FoundEvidence {
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

    /// Whether there are directories of reports.
    fn has_directories(&self) -> bool {
        !self.0.settings.directories.is_empty()
    }

    /// Identifies the files that are in use: different files have different fingerprints, even across processes.
    pub(super) fn fingerprint(&self) -> String {
        self.0.index.load().fingerprint()
    }

    /// The generation of the files that are in use; `None` if they say nothing about what other sources report.
    fn generation_of_statements(&self) -> Option<u64> {
        let index = self.0.index.load();
        (index.has_statements() || !index.additions.is_empty()).then_some(index.generation)
    }

    /// The issues of another source's report, with the VEX statements about the image, and with those that documents
    /// add. `None` if they change nothing.
    fn with_statements(&self, issues: &[Issue], image: &ImageDigests<'_>) -> Option<Vec<Issue>> {
        self.0.index.load().with_statements_of(issues, image, self.0.settings.honour_ignores)
    }

    /// Scans after every change, whenever asked, and at intervals, until shutdown.
    async fn follow(self, mut watch: DirectoryWatch, tasks: Tasks) {
        loop {
            tokio::select! {
                () = tasks.stopping() => return,
                () = self.0.asked.notified() => watch.watch(),
                () = watch.changed(self.0.settings.rescan) => {}
            }
            self.scan(&tasks).await;
        }
    }

    /// Reads the directories once, and replaces the index if anything has changed.
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
                tracing::error!(%error, "reading vulnerability reports failed; the previous reports remain in use");
            }
        }
        self.0.scans.send_modify(|scans| *scans += 1);
    }

    fn swap(&self, mut new: Index) {
        let old = self.0.index.load();
        new.generation = old.generation + 1;
        for problem in new.problems.iter().filter(|problem| !old.problems.contains(problem)) {
            tracing::warn!(%problem, "problem with the vulnerability reports");
        }
        let (files, problems) = (new.files.len(), new.problems.len());
        tracing::info!(files, problems, "vulnerability reports changed; the new ones are in use");
        self.0.readiness.degraded(TOPIC, summary(&new.problems));
        let gauges = &self.0.gauges;
        gauges.files.set(i64::try_from(new.files.len()).unwrap_or(i64::MAX));
        gauges.problems.set(i64::try_from(new.problems.len()).unwrap_or(i64::MAX));
        gauges.reloads.inc();
        self.0.index.store(Arc::new(new));
        self.0.epoch.advance();
    }
}

/// Waits for the first reading of the directories, and says at intervals why the gate does not serve yet.
async fn announced<T>(reading: impl Future<Output = T>, directories: &[PathBuf]) -> T {
    let mut reading = std::pin::pin!(reading);
    let mut waited = Duration::ZERO;
    loop {
        match tokio::time::timeout(PATIENCE, reading.as_mut()).await {
            Ok(read) => return read,
            Err(_) => waited += PATIENCE,
        }
        let seconds = waited.as_secs();
        tracing::info!(?directories, seconds, "reading vulnerability reports; the gate will serve once they are read");
    }
}

/// What is wrong with the directories of reports, or with what is in them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum ReportProblem {
    /// This is a file where a directory is meant.
    NotDirectory(PathBuf),
    /// What cannot be read, and why.
    Content(String),
}

/// What is wrong with the reports in these directories: directories and files that cannot be read. Reads all of them.
pub fn check_reports(directories: &[PathBuf], now: Timestamp) -> Vec<ReportProblem> {
    let (files, directories): (Vec<_>, Vec<_>) = directories.iter().cloned().partition(|path| path.is_file());
    let content = scan::scan(&directories, &Index::default(), now).problems.into_iter().map(ReportProblem::Content);
    files.into_iter().map(ReportProblem::NotDirectory).chain(content).collect()
}

/// Directories that are also read as a part of another one, each with that one, which is earlier in the list if both
/// are the same.
pub fn read_twice(directories: &[PathBuf]) -> Vec<(&Path, &Path)> {
    let resolved: Vec<(usize, &Path, PathBuf)> = directories
        .iter()
        .enumerate()
        .map(|(number, directory)| (number, directory.as_path(), resolved_path(directory)))
        .collect();
    let is_read = |below: &Path| below.components().all(|part| !scan::is_hidden(part.as_os_str()));
    let outer = |number: usize, inner: &Path| {
        let mut others = resolved.iter().filter(|(other, ..)| *other != number);
        others.find(|(other, _, outer)| match inner.strip_prefix(outer) {
            Ok(below) if below.as_os_str().is_empty() => *other < number,
            Ok(below) => is_read(below),
            Err(_) => false,
        })
    };
    let twice = resolved.iter().filter_map(|(number, directory, inner)| {
        let (_, other, _) = outer(*number, inner.as_path())?;
        Some((*directory, *other))
    });
    twice.collect()
}

/// The first problems and the number of the others, as text.
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
            reloads: metrics.register("va_report_reloads", "Changes of the vulnerability reports", Counter::default()),
        }
    }
}

#[cfg(test)]
mod tests;
