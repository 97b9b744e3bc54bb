//! Gathers evidence about vulnerabilities: reports of other scanners in local directories, IBM's Vulnerability Advisor,
//! other scanners that are asked for each image, and the gate's own scanner with its advisory databases.
//!
//! Each is a [`VaSource`]; [`Va`] asks them in order. An image that no source knows is unscanned, and a source that
//! does not answer leaves the image unknown: neither is ever clean.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crate::oci::{Digest, Host};
use crate::policy::{Observed, Report, VaEvidence};
use crate::runtime::{Clock, Epoch, Metrics, Readiness, Tasks};
use crate::store::{FactStore, Memo};
use crate::upstream::Upstreams;
use binding::Bindings;
use external::{ExternalScanner, HarborAdapter, ScanEngine, ScannerMetrics, ScannerProgram, ScannerServices};
use fetch::keep_updated;
use ibm::{IbmClient as Ibm, IbmSource};
use layers::LayerReadings;
use reports::{BoundReports, Reports};

mod binding;
mod configuration;
mod databases;
mod derived;
mod end_of_support;
/// Trivy, Grype and services with the API of Harbor's scanners.
mod external;
mod feeds;
mod fetch;
/// IBM's Vulnerability Advisor.
pub mod ibm;
mod layers;
mod lazy;
/// Reports of other scanners in local directories.
mod reports;
mod scanner;
mod source;
mod subject;

pub use crate::advisories::ChangedNames;
pub use databases::{
    AdvisoryDatabases, DatabaseConfig, DatabaseLack, DatabaseNews, ExpectedDatabases, check_databases,
    describe_databases,
};
pub use derived::DerivedEvidence;
pub use external::{
    AdapterAuth, AdapterConfig, AdapterRegistry, Confinement, Isolation, ProgramConfig, ScannerConfig, ScannerKind,
    ScannerTool, check_scanner,
};
pub use fetch::{DatabaseSources, FetchedDatabase, fetch_databases};
pub use reports::{
    MAX_REPORT, ReportProblem, ReportSubjects, check_reports, read_twice, report_subjects, reports_about,
};
pub use scanner::{DatabaseSnapshot, Scanner};
pub use source::{SourceAnswer, VaSource};
pub use subject::VaSubject;

/// The name of an issue or a package to which a source gives none.
const UNNAMED: &str = "unnamed";

/// Which sources there are.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directories with reports, read with all their subdirectories.
    pub reports: Vec<PathBuf>,
    /// How often the directories are read even if the system reports no change.
    pub rescan: Duration,
    /// Whether issues that a scanner was told to ignore (`.trivyignore`, Grype's rules) are exempt.
    pub honour_ignores: bool,
    /// IBM's Vulnerability Advisor, if it is used.
    pub ibm: Option<ibm::Config>,
    /// Where the scanner's advisory databases are. `None` if there are none.
    pub databases: Option<DatabaseConfig>,
    /// Other scanners, in the order in which they are asked.
    pub scanners: Vec<ScannerConfig>,
    /// The directory for large files of a layer while they are examined, and for images while other scanners read them.
    pub scratch: PathBuf,
    /// The socket by which the gate is administered, which other scanners must not use.
    pub admin_socket: Option<PathBuf>,
    /// The program that confines other scanners: pullgate itself.
    pub launcher: PathBuf,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            reports: Vec::new(),
            rescan: Duration::from_secs(60),
            honour_ignores: false,
            ibm: None,
            databases: None,
            scanners: Vec::new(),
            scratch: std::env::temp_dir(),
            admin_socket: None,
            launcher: external::LAUNCHER.into(),
        }
    }
}

impl Config {
    /// Whether a source other than the gate's own scanner can know images of this registry.
    pub fn is_known_elsewhere(&self, host: &Host) -> bool {
        let has_scanner = self.scanners.iter().any(|scanner| !matches!(scanner.kind, ScannerKind::Embedded));
        has_scanner || !self.reports.is_empty() || self.ibm.as_ref().is_some_and(|ibm| ibm.serves(host))
    }

    /// Whether the directories of reports contain no report yet. Looks for files.
    pub fn awaits_reports(&self) -> bool {
        !self.reports.is_empty() && !reports::have_files(&self.reports)
    }
}

/// What the sources use.
pub struct VaServices {
    /// What was learned is kept here.
    pub store: FactStore,
    /// For fetching advisory databases; `None` if they are never fetched here.
    pub upstreams: Option<Arc<Upstreams>>,
    /// Runs what outlives a request.
    pub tasks: Tasks,
    /// The time.
    pub clock: Clock,
    /// Where problems are reported.
    pub readiness: Readiness,
    /// Advanced when evidence changes.
    pub epoch: Epoch,
    /// The registry of metrics.
    pub metrics: Metrics,
}

/// All sources behind one question, in their order: the first that decides is believed.
pub struct Va {
    sources: Vec<Box<dyn VaSource>>,
    /// The first source, whose VEX statements also apply to what the others find.
    reports: BoundReports,
    scanner: Scanner,
    derived: DerivedEvidence,
    clock: Clock,
}

impl Va {
    /// Opens the configured sources: local reports first, because the administrator of the gate put them there.
    ///
    /// # Errors
    /// When the configuration of a service cannot be used. A directory that cannot be read is not an error, since it
    /// may be mounted later: it makes `/readyz` degraded.
    pub async fn new(config: Config, services: VaServices) -> Result<Self, InvalidConfig> {
        let VaServices { store, upstreams, tasks, clock, readiness, epoch, metrics } = services;
        let (tasks, metrics) = (&tasks, &metrics);
        let ibm = config.ibm.map(|config| Ibm::new(config, clock.clone(), metrics)).transpose()?;
        let settings = reports::ReportSettings {
            directories: config.reports,
            rescan: config.rescan,
            honour_ignores: config.honour_ignores,
        };
        let layers = LayerReadings::new(config.scratch.clone(), &store, &clock, tasks);
        let answers = Arc::new(Memo::new("va", store.clone(), clock.clone(), tasks.clone()));
        let database_config = config.databases.clone();
        let max_age = config.databases.as_ref().and_then(|databases| databases.max_age);
        let databases =
            AdvisoryDatabases::open(config.databases, tasks, clock.clone(), readiness.clone(), epoch.clone(), metrics);
        if let Some(upstreams) = upstreams {
            tasks.spawn(keep_updated(database_config, upstreams, clock.clone(), databases.clone(), tasks.clone()));
        }
        let scanner = Scanner::new(layers.clone(), databases, &store, &clock, tasks, metrics);
        let reports = Reports::open(settings, tasks, clock.clone(), readiness.clone(), epoch.clone(), metrics).await;
        let bindings = Arc::new(Bindings::new(layers, &store, &clock, tasks));
        let reports = BoundReports::new(reports, bindings.clone(), clock.clone());
        let mut sources: Vec<Box<dyn VaSource>> = vec![Box::new(reports.clone())];
        if let Some(ibm) = ibm {
            sources.push(Box::new(IbmSource::new(ibm, answers.clone(), clock.clone())));
        }
        let services = ScannerServices {
            answers,
            bindings,
            embedded: scanner.clone(),
            metrics: ScannerMetrics::new(metrics),
            clock: clock.clone(),
            tasks: tasks.clone(),
            readiness,
            epoch,
            max_age,
            honour_ignores: config.honour_ignores,
        };
        sources.extend(scanners(
            config.scanners,
            (&config.scratch, config.admin_socket.as_deref()),
            &config.launcher,
            &services,
        )?);
        Ok(Self { sources, reports, scanner, derived: DerivedEvidence::new(), clock })
    }

    /// The gate's own scanner.
    pub fn scanner(&self) -> &Scanner {
        &self.scanner
    }

    /// What was made from evidence.
    pub fn derived(&self) -> &DerivedEvidence {
        &self.derived
    }

    /// Identifies the report files in use: different files have different fingerprints, even across processes.
    pub fn report_files(&self) -> String {
        self.reports.fingerprint()
    }

    /// How many files of reports and VEX statements are about images with these digests: of manifests, configurations
    /// and indexes.
    pub fn count_reports_about(&self, images: &BTreeSet<Digest>) -> usize {
        self.reports.count_about(images)
    }

    /// Waits for a limited time until files with these names are in use, in one of the directories of reports.
    ///
    /// # Errors
    /// Why they are not.
    pub async fn await_reports(&self, names: &[String]) -> Result<(), String> {
        self.reports.await_files(names).await
    }

    /// That no source knows an image and why, with what documents state about it that are not the report of a scanner.
    async fn unscanned(&self, subject: &VaSubject) -> VaEvidence {
        let issues = self.reports.added_alone(subject).await;
        let has_document = !issues.is_empty();
        // With a document, it is not true that there is no file.
        let lacking = self.sources.iter().filter(|source| !(has_document && source.includes_statements()));
        let document = has_document.then_some("the document about it does not show what was scanned");
        let said: Vec<&str> = document.into_iter().chain(lacking.filter_map(|source| source.silence())).collect();
        if said.is_empty() {
            return VaEvidence::Unscanned;
        }
        let report = VaEvidence::Report(Report { issues, ..Report::default() });
        let observed = Arc::new(Observed { value: report, at: self.clock.now(), until: None });
        let rated = match has_document {
            true => self.scanner.with_feeds(subject, (observed, true), &self.derived).await,
            false => observed,
        };
        match &rated.value {
            VaEvidence::Report(report) => VaEvidence::NoReport { why: said.join("; "), issues: report.issues.clone() },
            unrated => unrated.clone(),
        }
    }

    /// What is known about an image. If no source knows it, it is unscanned.
    pub async fn evidence(&self, subject: &VaSubject) -> Arc<Observed<VaEvidence>> {
        let mut doubtful = None;
        for source in &self.sources {
            match source.evidence(subject).await {
                SourceAnswer::Decides(evidence) => {
                    return self.completed(subject, evidence, source.includes_statements()).await;
                }
                SourceAnswer::Doubts(evidence) => {
                    tracing::debug!(
                        source = source.name(),
                        ?subject,
                        "a source cannot tell whether it knows the image"
                    );
                    doubtful.get_or_insert((evidence, source.includes_statements()));
                }
                SourceAnswer::Silent => {}
            }
        }
        let unknown = match doubtful {
            Some((evidence, _)) if matches!(evidence.value, VaEvidence::Unreadable { .. }) => Some(evidence),
            Some((evidence, includes_statements)) => {
                return self.completed(subject, evidence, includes_statements).await;
            }
            None => None,
        };
        let value = self.unscanned(subject).await;
        match unknown {
            Some(unreadable) if value.issues().is_empty() => unreadable,
            _ => Arc::new(Observed { value, at: self.clock.now(), until: None }),
        }
    }

    /// The evidence of a source with what documents state about the image, and with what the feeds say about all of it.
    async fn completed(
        &self,
        subject: &VaSubject,
        evidence: Arc<Observed<VaEvidence>>,
        includes_statements: bool,
    ) -> Arc<Observed<VaEvidence>> {
        let with = match includes_statements {
            true => evidence.clone(),
            false => self.reports.with_statements(subject, evidence.clone(), &self.derived).await,
        };
        let is_changed = !Arc::ptr_eq(&with, &evidence);
        self.scanner.with_feeds(subject, (with, is_changed), &self.derived).await
    }
}

/// The scanners in the configured order. The gate's own comes last unless it has a place there.
fn scanners(
    configured: Vec<ScannerConfig>,
    (state, admin_socket): (&Path, Option<&Path>),
    launcher: &Path,
    services: &ScannerServices,
) -> Result<Vec<Box<dyn VaSource>>, InvalidConfig> {
    let embedded = || Box::new(services.embedded.clone()) as Box<dyn VaSource>;
    let has_place = configured.iter().any(|scanner| matches!(scanner.kind, ScannerKind::Embedded));
    let scratch = if configured.is_empty() { state.to_owned() } else { external::scratch(state) };
    let mut sources = Vec::new();
    for config in configured {
        let timeout = config.timeout;
        let engine = match config.kind.clone() {
            ScannerKind::Embedded => {
                sources.push(embedded());
                continue;
            }
            ScannerKind::Adapter(adapter) => ScanEngine::Adapter(Box::new(HarborAdapter::new(*adapter, timeout)?)),
            ScannerKind::Program(program) => {
                let (launcher, tasks) = (launcher.to_owned(), services.tasks.clone());
                let places = (state, admin_socket);
                let program = ScannerProgram::new(program, timeout, launcher, places, &scratch, tasks);
                ScanEngine::Program(Box::new(program))
            }
        };
        sources.push(Box::new(ExternalScanner::new(&config, engine, services.clone())));
    }
    if !has_place {
        sources.push(embedded());
    }
    Ok(sources)
}

/// The first non-empty line of a text, with at most 200 characters.
fn one_line(text: Option<String>) -> Option<String> {
    const LONGEST: usize = 200;
    let text = text?;
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    if line.chars().count() <= LONGEST {
        return Some(line.to_owned());
    }
    Some(line.chars().take(LONGEST - 1).chain(['…']).collect())
}

/// All non-empty lines of a text, of at most 4,000 characters together.
fn all_lines(text: Option<String>) -> Option<String> {
    const LONGEST: usize = 4000;
    let text = text?;
    let text = text.trim();
    let mut shown: String = text.chars().take(LONGEST).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    let lines: Vec<&str> = shown.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    (!lines.is_empty()).then(|| lines.join("\n"))
}

/// A configuration that cannot be used.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidConfig(String);

impl InvalidConfig {
    fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

#[cfg(test)]
mod tests;
