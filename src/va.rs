//! What is known about vulnerabilities: other scanners' reports in local directories, and IBM's Vulnerability Advisor.
//!
//! Local reports come first, because whoever administers the gate put them there. What no source knows is unscanned, and
//! a source that does not answer leaves the image unknown: neither is ever taken for clean.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::oci::ImageName;
use crate::policy::{Observed, VaEvidence};
use crate::runtime::{Clock, Metrics, Readiness, Tasks};

mod http;
/// IBM's Vulnerability Advisor.
pub mod ibm;
mod memo;
/// Assessments as text for people.
pub mod report_text;
/// Reports of other scanners in local directories.
pub mod reports;
mod subject;

pub use ibm::Client as Ibm;
pub use memo::Va;
pub use reports::Reports;
pub use subject::{ConfigBinding, NeedsProof, Subject};

/// Where to look.
#[derive(Clone, Debug)]
pub struct Config {
    /// Directories with reports, looked through with all that is beneath them.
    pub reports: Vec<PathBuf>,
    /// How often the directories are looked through even when the system tells of no change.
    pub rescan: Duration,
    /// Whether what a scanner was told to ignore (`.trivyignore`, Grype's rules) is exempt.
    pub honour_ignores: bool,
    /// IBM's Vulnerability Advisor; `None` asks it nothing.
    pub ibm: Option<ibm::Config>,
}

impl Default for Config {
    fn default() -> Self {
        Self { reports: Vec::new(), rescan: Duration::from_secs(60), honour_ignores: false, ibm: None }
    }
}

/// All sources. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Sources {
    reports: Reports,
    ibm: Option<Ibm>,
    clock: Clock,
}

impl Sources {
    /// Reads the reports once, and follows their changes until shutdown.
    ///
    /// # Errors
    /// When the configuration of IBM's service cannot be used. A directory that cannot be read is a problem, which
    /// [`Self::problems`] tells, since it may be mounted later.
    pub async fn new(
        config: Config,
        tasks: &Tasks,
        clock: Clock,
        readiness: Readiness,
        metrics: &Metrics,
    ) -> Result<Self, InvalidConfig> {
        let ibm = config.ibm.map(|config| Ibm::new(config, clock.clone(), metrics)).transpose()?;
        let settings = reports::Settings {
            directories: config.reports,
            rescan: config.rescan,
            honour_ignores: config.honour_ignores,
        };
        let reports = Reports::open(settings, tasks, clock.clone(), readiness, metrics).await;
        Ok(Self { reports, ibm, clock })
    }

    /// What is known about an image. `account` is whose exemptions apply at IBM. Not kept here: local answers are cheap,
    /// and IBM's say how long they hold.
    ///
    /// # Errors
    /// When it depends on a proof of the image's configuration.
    pub async fn evidence(
        &self,
        image: &ImageName,
        subject: &Subject<'_>,
        account: Option<&str>,
    ) -> Result<Arc<Observed<VaEvidence>>, NeedsProof> {
        match (self.local(subject)?, self.ibm_for(image)) {
            (Some(local), None) => Ok(local),
            (Some(local), _) if is_answer(&local.value) => Ok(local),
            (_, Some(ibm)) => Ok(Arc::new(ibm.fetch(image, subject.manifest, account).await)),
            (None, None) => Ok(self.now(VaEvidence::Unscanned)),
        }
    }

    /// What the local reports say, which no I/O is needed for.
    ///
    /// # Errors
    /// When it depends on a proof of the image's configuration.
    pub fn local(&self, subject: &Subject<'_>) -> Result<Option<Arc<Observed<VaEvidence>>>, NeedsProof> {
        self.reports.lookup(subject)
    }

    /// IBM's service, where it is asked about images of this registry.
    pub fn ibm_for(&self, image: &ImageName) -> Option<&Ibm> {
        self.ibm.as_ref().filter(|ibm| ibm.serves(&image.host))
    }

    /// The local reports.
    pub fn reports(&self) -> &Reports {
        &self.reports
    }

    /// A number that grows whenever the local reports change.
    pub fn generation(&self) -> u64 {
        self.reports.generation()
    }

    /// Waits until the generation is beyond `seen`, and gives it.
    pub async fn changed(&self, seen: u64) -> u64 {
        self.reports.changed(seen).await
    }

    /// One line for each report that cannot be used.
    pub fn problems(&self) -> Vec<String> {
        self.reports.problems()
    }

    fn now(&self, value: VaEvidence) -> Arc<Observed<VaEvidence>> {
        Arc::new(Observed { value, at: self.clock.now(), until: None })
    }
}

/// Whether local reports speak of the image, as opposed to not being readable.
fn is_answer(local: &VaEvidence) -> bool {
    !matches!(local, VaEvidence::Unavailable { .. } | VaEvidence::Unreadable { .. })
}

/// The first line of others' text, of bounded length.
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
