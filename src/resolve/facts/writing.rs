//! Writes facts to the store. If the store cannot be written, the facts wait and the write is retried.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::Facts;
use crate::resolve::recent::RecentManifest;
use crate::store::{NewFacts, StoreError};

/// The name of the database in `/readyz`.
pub(super) const TOPIC: &str = "database";
/// The interval between attempts to write waiting facts.
const RETRY: Duration = Duration::from_secs(5);

impl Facts {
    /// Writes all known facts about a manifest.
    pub(super) async fn write(&self, entry: &RecentManifest) -> Result<(), StoreError> {
        let RecentManifest { name, manifest, seen, tags, pulled, .. } = entry;
        let mut facts = NewFacts::new(self.clock.now());
        if !entry.is_stored {
            facts = facts.manifest(name, manifest, *seen);
        }
        for seen in tags {
            if seen.is_current {
                self.memory.tag_filter.add(name.host.as_str(), name.repository.as_str(), seen.tag.as_str());
            }
            facts = match seen.is_current {
                true => facts.tag(name, &seen.tag, manifest.digest, seen.at),
                false => facts.old_tag(name, &seen.tag, manifest.digest, seen.at),
            };
        }
        if let Some(at) = pulled {
            facts = facts.pull(name, manifest.digest, *at);
        }
        self.store.record(facts).await?;
        self.recent().written(entry);
        Ok(())
    }

    pub(super) fn put_off(self: &Arc<Self>, error: &StoreError) {
        tracing::error!(%error, "cannot write facts from a registry; they stay in memory and the write is retried");
        self.readiness.degraded(TOPIC, Some(error.to_string()));
        let mut is_retrying = self.is_retrying.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut *is_retrying, true) {
            self.tasks.spawn(self.clone().retry());
        }
    }

    async fn retry(self: Arc<Self>) {
        loop {
            tokio::select! {
                () = tokio::time::sleep(RETRY) => {}
                () = self.tasks.stopping() => return,
            }
            // The failure is already reported.
            let is_written = self.write_waiting().await.is_ok();
            let mut is_retrying = self.is_retrying.lock().unwrap_or_else(PoisonError::into_inner);
            if is_written && self.recent().due().is_none() {
                *is_retrying = false;
                return;
            }
        }
    }

    /// Writes the waiting facts, the oldest first.
    pub(super) async fn write_waiting(&self) -> Result<(), StoreError> {
        loop {
            let Some(entry) = self.recent().due() else { break };
            self.write(&entry).await?;
            self.learnt(&entry.name, &entry.manifest);
        }
        self.readiness.degraded(TOPIC, None);
        let lost = self.recent().take_lost();
        match lost {
            0 => tracing::info!("the database can be written again; nothing was lost"),
            manifests => tracing::warn!(
                manifests,
                "the database can be written again; there was no room for the facts about some manifests: blobs of these are \
                 unknown until the manifest is pulled again"
            ),
        }
        Ok(())
    }
}
