//! What is known about vulnerabilities: other scanners' reports in local directories, and IBM's Vulnerability Advisor.
//!
//! Each is a [`VaSource`]; [`Va`] asks them in order. An image that no source knows is unscanned, and a source that does not
//! answer leaves the image unknown: neither is ever clean.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::policy::{Observed, VaEvidence};
use crate::runtime::{Clock, Epoch, Metrics, Readiness, Tasks};
use crate::store::FactStore;
use binding::Bindings;
use ibm::{IbmClient as Ibm, IbmSource};
use reports::{BoundReports, Reports};

mod binding;
/// IBM's Vulnerability Advisor.
pub mod ibm;
/// Reports of other scanners in local directories.
mod reports;
mod source;
mod subject;

pub use source::{SourceAnswer, VaSource};
pub use subject::VaSubject;

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
}

impl Default for Config {
    fn default() -> Self {
        Self { reports: Vec::new(), rescan: Duration::from_secs(60), honour_ignores: false, ibm: None }
    }
}

/// All sources behind one question, in their order: the first that decides is believed.
pub struct Va {
    sources: Vec<Box<dyn VaSource>>,
    clock: Clock,
}

impl Va {
    /// Opens the configured sources: local reports first, because the administrator of the gate put them there.
    ///
    /// # Errors
    /// When the configuration of IBM's service cannot be used. A directory that cannot be read is no error, since it may be
    /// mounted later: it makes `/readyz` degraded.
    pub async fn new(
        config: Config,
        store: FactStore,
        tasks: &Tasks,
        clock: Clock,
        readiness: Readiness,
        epoch: Epoch,
        metrics: &Metrics,
    ) -> Result<Self, InvalidConfig> {
        let ibm = config.ibm.map(|config| Ibm::new(config, clock.clone(), metrics)).transpose()?;
        let settings = reports::ReportSettings {
            directories: config.reports,
            rescan: config.rescan,
            honour_ignores: config.honour_ignores,
        };
        let reports = Reports::open(settings, tasks, clock.clone(), readiness, epoch, metrics).await;
        let bindings = Bindings::new(&store, &clock, tasks);
        let mut sources: Vec<Box<dyn VaSource>> = vec![Box::new(BoundReports::new(reports, bindings, clock.clone()))];
        if let Some(ibm) = ibm {
            sources.push(Box::new(IbmSource::new(ibm, store, clock.clone(), tasks)));
        }
        Ok(Self { sources, clock })
    }

    /// What is known about an image. If no source knows it, it is unscanned.
    pub async fn evidence(&self, subject: &VaSubject) -> Arc<Observed<VaEvidence>> {
        let mut doubtful = None;
        for source in &self.sources {
            match source.evidence(subject).await {
                SourceAnswer::Decides(evidence) => return evidence,
                SourceAnswer::Doubts(evidence) => {
                    tracing::debug!(
                        source = source.name(),
                        ?subject,
                        "a source cannot tell whether it knows the image"
                    );
                    doubtful.get_or_insert(evidence);
                }
                SourceAnswer::Silent => {}
            }
        }
        let unscanned = || Arc::new(Observed { value: VaEvidence::Unscanned, at: self.clock.now(), until: None });
        doubtful.unwrap_or_else(unscanned)
    }
}

/// The first line of a text that says something, with at most 200 characters.
fn one_line(text: Option<String>) -> Option<String> {
    const LONGEST: usize = 200;
    let text = text?;
    let line = text.lines().map(str::trim).find(|line| !line.is_empty())?;
    if line.chars().count() <= LONGEST {
        return Some(line.to_owned());
    }
    Some(line.chars().take(LONGEST - 1).chain(['…']).collect())
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
