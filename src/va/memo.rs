//! Vulnerability evidence: local reports as they stand, IBM's answers memoised.

use std::sync::Arc;

use super::{Config, InvalidConfig, NeedsProof, Sources, Subject, is_answer};
use crate::oci::ImageName;
use crate::policy::{Observed, VaEvidence};
use crate::runtime::{Clock, Metrics, Readiness, Tasks};
use crate::store::{Memo, Store};

/// All sources behind one question.
pub struct Va {
    sources: Sources,
    memo: Memo<VaEvidence>,
    clock: Clock,
}

impl Va {
    /// Opens the sources.
    ///
    /// # Errors
    /// When the configuration of IBM's service cannot be used.
    pub async fn new(
        config: Config,
        store: Store,
        tasks: &Tasks,
        clock: Clock,
        readiness: Readiness,
        metrics: &Metrics,
    ) -> Result<Self, InvalidConfig> {
        let sources = Sources::new(config, tasks, clock.clone(), readiness, metrics).await?;
        let memo = Memo::new("va", store, clock.clone(), tasks.clone());
        Ok(Self { sources, memo, clock })
    }

    /// What is known about an image.
    ///
    /// # Errors
    /// When it depends on whether the configuration is of the manifest's layers, which is not proven: ask again with a
    /// proof, or with its failure.
    pub async fn evidence(
        &self,
        image: &ImageName,
        subject: &Subject<'_>,
        account: Option<&str>,
    ) -> Result<Arc<Observed<VaEvidence>>, NeedsProof> {
        // Local reports are in memory and may change at any time, so they are never memoised here.
        let local = self.sources.local(subject)?;
        let Some(ibm) = self.sources.ibm_for(image) else {
            return Ok(local.unwrap_or_else(|| self.now(VaEvidence::Unscanned)));
        };
        match local {
            Some(local) if is_answer(&local.value) => Ok(local),
            _ => {
                let (manifest, account) = (subject.manifest, account.map(str::to_owned));
                let (ibm, name) = (ibm.clone(), image.clone());
                let key = format!("{image}@{manifest} {}", account.as_deref().unwrap_or_default());
                let gather = || async move { ibm.fetch(&name, manifest, account.as_deref()).await };
                let found = self.memo.obtain(key.into(), is_durable, gather).await;
                let interrupted = || VaEvidence::Unavailable { why: "the request was interrupted".into() };
                Ok(found.unwrap_or_else(|| self.now(interrupted())))
            }
        }
    }

    /// What is known where a proof is needed and cannot be had now: nothing, for the time being.
    pub fn unproven(&self) -> Arc<Observed<VaEvidence>> {
        let why = "the image's layers could not be compared with its configuration, which a report speaks of";
        self.now(VaEvidence::Unavailable { why: why.into() })
    }

    /// Moves on with every change of the local reports.
    pub fn generation(&self) -> u64 {
        self.sources.generation()
    }

    /// One line for each report that cannot be used.
    pub fn problems(&self) -> Vec<String> {
        self.sources.problems()
    }

    fn now(&self, value: VaEvidence) -> Arc<Observed<VaEvidence>> {
        Arc::new(Observed { value, at: self.clock.now(), until: None })
    }
}

fn is_durable(evidence: &VaEvidence) -> bool {
    !matches!(evidence, VaEvidence::Pending { .. } | VaEvidence::Unavailable { .. })
}
