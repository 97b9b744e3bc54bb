//! Vulnerability evidence: local reports as they stand, IBM's answers memoised.

use std::sync::Arc;

use super::{Config, InvalidConfig, Sources};
use crate::oci::{Digest, ImageName};
use crate::policy::{Observed, VaEvidence};
use crate::runtime::{Clock, Metrics, Tasks};
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
        metrics: &Metrics,
    ) -> Result<Self, InvalidConfig> {
        let sources = Sources::new(config, tasks, clock.clone(), metrics).await?;
        let memo = Memo::new("va", store, clock.clone(), tasks.clone());
        Ok(Self { sources, memo, clock })
    }

    /// What is known about the image with this manifest and this configuration.
    pub async fn evidence(
        &self,
        image: &ImageName,
        manifest: Digest,
        config: Digest,
        account: Option<&str>,
    ) -> Arc<Observed<VaEvidence>> {
        // Local reports are in memory and may change at any time, so they are never memoised here.
        let local = self.sources.local(manifest, config);
        let Some(ibm) = self.sources.ibm_for(image) else {
            return local.unwrap_or_else(|| self.now(VaEvidence::Unscanned));
        };
        match local {
            Some(local) if !matches!(local.value, VaEvidence::Unavailable { .. }) => local,
            _ => {
                let (ibm, name, account) = (ibm.clone(), image.clone(), account.map(str::to_owned));
                let subject = format!("{image}@{manifest} {}", account.as_deref().unwrap_or_default());
                let gather = || async move { ibm.fetch(&name, manifest, account.as_deref()).await };
                let found = self.memo.obtain(subject.into(), is_durable, gather).await;
                found.unwrap_or_else(|| self.now(VaEvidence::Unavailable { why: "the request was interrupted".into() }))
            }
        }
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
