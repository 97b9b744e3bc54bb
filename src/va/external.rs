//! Scanners that are not part of the gate: Trivy and Grype as programs, and services with the API of Harbor's scanners.
//!
//! A scanner is asked for one image at a time and by digest. Its answer counts only if it is a readable report that
//! names the digest of the image's manifest or of its configuration. Everything else (it cannot be run, it takes too
//! long, it prints something else, it reports on another image) leaves the image unknown, and the next source is asked.
//!
//! Scanners read layers by the image's configuration, or keep what they found under the digests that it states. So they
//! are asked only about images whose layers are proven to be those of the configuration (`va/binding.rs`).
//!
//! Reports are kept by scanner, image and version of the scanner's database, until `ttl` ends or the version changes:
//! they say what the content is, in whichever repository it was read. Failures are kept by repository, too, because
//! another one may have the layers, or other credentials.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Semaphore, watch};

use super::binding::Bindings;
use super::reports::{ReportTarget, scanned_report};
use super::{Scanner, SourceAnswer, VaSource, VaSubject};
use crate::oci::Digest;
use crate::policy::{Observed, Report, VaEvidence, known_time};
use crate::runtime::{Clock, Epoch, Readiness, Tasks, signed_duration};
use crate::store::Memo;
pub(super) use metrics::ScannerMetrics;
pub(super) use program::ScannerProgram;

mod config;
mod confine;
mod harbor;
mod layout;
mod limits;
mod metrics;
mod no_report;
mod process;
mod program;
mod status;

pub use config::{
    AdapterAuth, AdapterConfig, AdapterRegistry, Isolation, ProgramConfig, ScannerConfig, ScannerKind, ScannerTool,
};
pub use confine::Confinement;
pub(super) use harbor::HarborAdapter;
use limits::ReportLimits;
use no_report::NoReport;
pub use status::check_scanner;

/// The program that confines scanners: this one.
pub(super) const LAUNCHER: &str = confine::SELF;
/// How soon a scanner that failed for an image is asked about it again.
const FAILURE_TTL: SignedDuration = SignedDuration::from_secs(60);
/// How soon an unusable scanner is tried again.
const RETRY: Duration = Duration::from_secs(15);
/// Why no scanner is asked about an image.
const UNBOUND: &str = "the image's layers cannot be proven to be those of its configuration, on which scanners rely";
/// How many images may wait for a turn.
const QUEUE: usize = 1000;

/// The versions of a scanner and of its database.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct EngineVersion {
    /// `trivy 0.72.0`.
    pub(super) program: String,
    /// Changes whenever the database does. Empty if the scanner does not say.
    pub(super) database: String,
    /// When the database was built.
    pub(super) built: Option<Timestamp>,
    /// What people may want to know, one line for each fact.
    pub(super) facts: Vec<String>,
}

/// What scans.
pub(super) enum ScanEngine {
    Adapter(Box<HarborAdapter>),
    Program(Box<ScannerProgram>),
}

impl ScanEngine {
    async fn version(&self) -> Result<EngineVersion, String> {
        match self {
            Self::Adapter(adapter) => adapter.version().await,
            Self::Program(program) => program.version().await,
        }
    }
}

/// What all scanners use.
#[derive(Clone)]
pub(super) struct ScannerServices {
    pub(super) answers: Arc<Memo<VaEvidence>>,
    pub(super) bindings: Arc<Bindings>,
    /// The gate's own scanner, which lists what an image contains.
    pub(super) embedded: Scanner,
    pub(super) metrics: ScannerMetrics,
    pub(super) clock: Clock,
    pub(super) tasks: Tasks,
    pub(super) readiness: Readiness,
    pub(super) epoch: Epoch,
    /// The greatest age of a scanner's database.
    pub(super) max_age: Option<SignedDuration>,
    /// Whether issues that a scanner was told to ignore are exempt.
    pub(super) honour_ignores: bool,
}

/// One scanner as a source. Cheap to clone.
#[derive(Clone)]
pub(super) struct ExternalScanner(Arc<ScannerState>);

struct ScannerState {
    name: String,
    engine: ScanEngine,
    ttl: SignedDuration,
    refresh: Duration,
    /// Whether a report also counts where the gate itself could not read the image.
    trust_coverage: bool,
    /// Stands for the settings that change what a report says.
    settings: String,
    turns: Semaphore,
    queue: Semaphore,
    /// `None` until the scanner was asked for the first time.
    version: watch::Sender<Option<Result<Arc<EngineVersion>, String>>>,
    services: ScannerServices,
}

impl ExternalScanner {
    /// Follows the version of the scanner until shutdown.
    pub(super) fn new(config: &ScannerConfig, engine: ScanEngine, services: ScannerServices) -> Self {
        // The number changes whenever reports are read in another way, so that none is used that was read before.
        let settings = format!("2 {:?} {} {}", config.kind, services.honour_ignores, config.trust_coverage);
        let scanner = Self(Arc::new(ScannerState {
            name: config.name.clone(),
            engine,
            ttl: signed_duration(config.ttl),
            refresh: config.refresh,
            trust_coverage: config.trust_coverage,
            settings: Digest::sha256(settings.as_bytes()).short(),
            turns: Semaphore::new(config.concurrency.max(1)),
            queue: Semaphore::new(QUEUE),
            version: watch::Sender::new(None),
            services,
        }));
        scanner.0.services.tasks.spawn(scanner.clone().follow());
        scanner
    }

    async fn follow(self) {
        let state = &self.0;
        loop {
            let version = state.engine.version().await.map(Arc::new);
            let wait = if version.is_ok() { state.refresh } else { RETRY.min(state.refresh) };
            self.tell(&version);
            let is_new = state.version.send_replace(Some(version.clone())) != Some(version);
            if is_new {
                state.services.epoch.advance();
            }
            tokio::select! {
                () = state.services.tasks.stopping() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// Updates the log, readiness and metrics.
    fn tell(&self, version: &Result<Arc<EngineVersion>, String>) {
        let ScannerState { name, services: ScannerServices { readiness, metrics, .. }, .. } = &*self.0;
        let topic = format!("scanner {name}");
        let problem = match version {
            Ok(version) => self.too_old(version),
            Err(why) => Some(why.clone()),
        };
        if let Some(why) = &problem {
            tracing::warn!(scanner = name, %why, "a scanner cannot be used");
        }
        let known = version.as_ref().ok();
        metrics.probed(name, problem.is_none(), known.and_then(|known| known.built));
        readiness.inform(&topic, known.map(|known| known.facts.clone()).unwrap_or_default());
        readiness.degraded(&topic, problem);
    }

    /// Why the database must not be used: it is too old, or its age is not known and matters.
    fn too_old(&self, version: &EngineVersion) -> Option<String> {
        let (max_age, now) = (self.0.services.max_age?, self.0.services.clock.now());
        let Some(built) = version.built else {
            return Some("it does not say when its database was built, and va.max_db_age limits the age".to_owned());
        };
        if known_time(built, now).is_none() {
            return Some(format!(
                "its database was built at {built}, which is in the future, and va.max_db_age limits its age"
            ));
        }
        let is_over = built.saturating_add(max_age).is_ok_and(|end| end <= now);
        is_over.then(|| format!("its database is older than va.max_db_age: it was built at {built}"))
    }

    /// The version; waits for the first answer if the caller may wait.
    async fn version(&self, may_wait: bool) -> Option<Result<Arc<EngineVersion>, String>> {
        if may_wait {
            // The sender lives as long as `self`.
            let _ = self.0.version.subscribe().wait_for(Option::is_some).await;
        }
        self.0.version.borrow().clone()
    }

    async fn ask(&self, subject: &VaSubject) -> SourceAnswer {
        let version = match self.version(subject.blobs.is_some()).await {
            None => return SourceAnswer::Silent,
            Some(Err(why)) => return SourceAnswer::Doubts(self.unavailable(&why)),
            Some(Ok(version)) => version,
        };
        if let Some(why) = self.too_old(&version) {
            return SourceAnswer::Doubts(self.unavailable(&why));
        }
        let ScannerState { name, settings, services: ScannerServices { answers, .. }, .. } = &*self.0;
        let digest = subject.manifest().digest;
        let versions = format!("{} {}", version.program, version.database);
        let key: Arc<str> = format!("scanner {name} {digest} {settings} {versions}").into();
        let own_key: Arc<str> = format!("{key} {}", subject.image()).into();
        let failed = answers.recall(&own_key);
        if failed.is_some() || subject.blobs.is_none() {
            return answers.known(&key).await.or(failed).map_or(SourceAnswer::Silent, answer);
        }
        let (scanner, asked, own) = (self.clone(), subject.clone(), own_key.clone());
        let gather = || async move {
            let found = scanner.scan(&asked, &version).await;
            if is_shared(&found.value) {
                return found;
            }
            let kept = scanner.0.services.answers.remember(own, found, |_| false).await;
            // Under the shared key it ends at once, so that other repositories ask for themselves.
            Observed { value: kept.value.clone(), at: kept.at, until: Some(kept.at) }
        };
        let found = answers.obtain_from(subject.image(), key, is_shared, gather).await;
        // The result of another request is not a reason to drop the report that this one has.
        let report = found.clone().filter(|found| is_shared(&found.value));
        let known = report.or_else(|| answers.recall(&own_key)).or(found);
        answer(known.unwrap_or_else(|| self.unavailable("the scan was interrupted")))
    }

    /// Scans an image, and states how long the result is valid.
    async fn scan(&self, subject: &VaSubject, version: &EngineVersion) -> Observed<VaEvidence> {
        let ScannerState { name, ttl, services: ScannerServices { clock, metrics, max_age, .. }, .. } = &*self.0;
        let began = Instant::now();
        let (value, took, ttl) = match self.attempt(subject, version).await {
            Ok((value, took)) => (value, took, *ttl),
            Err(failure) => {
                tracing::warn!(scanner = name, image = ?subject, why = failure.why(), "no report from a scanner");
                (failure.evidence(name), began.elapsed(), FAILURE_TTL)
            }
        };
        let at = clock.now();
        let outcome = match &value {
            VaEvidence::Report(Report { incomplete: None, .. }) => "report",
            VaEvidence::Report(_) | VaEvidence::Incomplete { .. } | VaEvidence::Opaque { .. } => "incomplete",
            VaEvidence::Unscanned
            | VaEvidence::NoReport { .. }
            | VaEvidence::Unreadable { .. }
            | VaEvidence::Unsupported { .. }
            | VaEvidence::Unavailable { .. }
            | VaEvidence::Pending { .. }
            | VaEvidence::WithOrigin { .. } => "failed",
        };
        metrics.scanned(name, outcome, took);
        let end = at.saturating_add(ttl).unwrap_or(at);
        let database = version.built.and_then(|built| built.saturating_add((*max_age)?).ok());
        Observed { value, at, until: Some(database.map_or(end, |database| end.min(database))) }
    }

    async fn attempt(&self, subject: &VaSubject, version: &EngineVersion) -> Result<(VaEvidence, Duration), NoReport> {
        let ScannerState { engine, turns, queue, services, .. } = &*self.0;
        let _place = queue.try_acquire().map_err(|_| format!("{QUEUE} images are waiting for it"))?;
        let embedded = &services.embedded;
        let inventory = embedded.inventory(subject).await?.ok_or("the image may not be read now")?;
        match services.bindings.compare(subject).await {
            Ok(true) => {}
            compared => {
                // A layer that no reader understands, or that takes too long to read, is a gap.
                let gaps = embedded.gaps(inventory, false).await?;
                let why = gaps.as_ref().map_or_else(|| UNBOUND.to_owned(), |gaps| format!("{UNBOUND}: {gaps}"));
                return match compared {
                    Err(error) if gaps.is_none() => Err(error.into()),
                    // What cannot be read now may be read a minute later.
                    Err(_) => Err(NoReport::Unreadable(why)),
                    Ok(_) => Ok((NoReport::Unreadable(why).evidence(&self.0.name), Duration::ZERO)),
                };
            }
        }
        let is_service = matches!(engine, ScanEngine::Adapter(_));
        let coverage = ReportLimits::of(embedded, inventory, is_service, self.0.trust_coverage).await?;
        let _turn = turns.acquire().await.map_err(|_| "it has ended")?;
        let began = Instant::now();
        let image = ReportTarget {
            manifest: subject.manifest().digest,
            config: subject.config().digest,
            honour_ignores: services.honour_ignores,
            now: services.clock.now(),
            built: version.built,
        };
        let report = match engine {
            ScanEngine::Program(program) => {
                let reader = subject.blobs.as_ref().ok_or("the image may not be read now")?;
                let output = program.scan(reader, subject).await?;
                scanned_report(&output, &image)
                    .map_err(|why| format!("its output is not a report on this image: {why}"))?
            }
            ScanEngine::Adapter(adapter) => adapter.scan(subject, &image).await?,
        };
        Ok((VaEvidence::Report(self.named(coverage.limit(report))), began.elapsed()))
    }

    /// The report with the name of the scanner, if that says more than the name of the program.
    fn named(&self, report: Report) -> Report {
        let name = &self.0.name;
        let is_said = report.source.split(' ').next().is_some_and(|first| first == name);
        let source = if is_said { report.source } else { format!("{name} ({})", report.source) };
        Report { source, ..report }
    }

    fn unavailable(&self, why: &str) -> Arc<Observed<VaEvidence>> {
        let value = NoReport::from(why).evidence(&self.0.name);
        Arc::new(Observed { value, at: self.0.services.clock.now(), until: None })
    }
}

/// A report decides if it covers the whole image or finds something. Otherwise the next source is asked, and the report
/// counts only if no later source decides.
fn answer(evidence: Arc<Observed<VaEvidence>>) -> SourceAnswer {
    let decides = |report: &Report| report.incomplete.is_none() || !report.issues.is_empty();
    match evidence.value.report().is_some_and(decides) {
        true => SourceAnswer::Decides(evidence),
        false => SourceAnswer::Doubts(evidence),
    }
}

/// Whether a result says something about the content alone. Whether layers can be compared with their configuration may
/// depend on the repository that they are read from.
fn is_shared(evidence: &VaEvidence) -> bool {
    evidence.report().is_some()
}

impl VaSource for ExternalScanner {
    fn name(&self) -> &str {
        &self.0.name
    }

    fn evidence<'a>(&'a self, subject: &'a VaSubject) -> BoxFuture<'a, SourceAnswer> {
        async move {
            match self.ask(subject).await {
                // The scanner would be asked if the image were pulled. What another source says meanwhile would be
                // mistaken for a change.
                SourceAnswer::Silent if subject.is_background => {
                    SourceAnswer::Decides(self.unavailable("the image was not scanned again"))
                }
                SourceAnswer::Doubts(doubt)
                    if subject.is_background && matches!(doubt.value, VaEvidence::Unavailable { .. }) =>
                {
                    SourceAnswer::Decides(doubt)
                }
                answer => answer,
            }
        }
        .boxed()
    }
}

/// The directory in which images are written for scanners. Leftovers of an earlier process are removed.
pub(super) fn scratch(state: &Path) -> PathBuf {
    let scratch = scratch_of(state);
    if let Err(error) = std::fs::remove_dir_all(&scratch)
        && error.kind() != std::io::ErrorKind::NotFound
    {
        tracing::warn!(folder = %scratch.display(), %error, "files of earlier scans cannot be removed");
    }
    scratch
}

fn scratch_of(state: &Path) -> PathBuf {
    state.join("scans")
}

#[cfg(test)]
mod tests;
