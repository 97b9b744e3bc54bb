//! Facts on their way into the store; where it takes nothing, they wait and are tried again.

use std::sync::{Arc, PoisonError};
use std::time::Duration;

use super::Facts;
use crate::resolve::recent::Entry;
use crate::store::StoreError;

/// The name under which `/readyz` speaks of the database.
pub(super) const TOPIC: &str = "database";
/// How often facts that wait are tried again.
const RETRY: Duration = Duration::from_secs(5);

impl Facts {
    /// Writes all that is known of a manifest.
    pub(super) async fn write(&self, entry: &Entry) -> Result<(), StoreError> {
        let Entry { name, manifest, seen, tags, pulled, .. } = entry;
        if !entry.is_stored {
            self.store.record_manifest(name, manifest, *seen).await?;
        }
        for seen in tags {
            if seen.is_current {
                self.store.record_tag(name, &seen.tag, manifest.digest, seen.at).await?;
            } else {
                self.store.record_old_tag(name, &seen.tag, manifest.digest, seen.at).await?;
            }
        }
        if let Some(at) = pulled {
            self.store.record_pull(name, manifest.digest, *at).await?;
        }
        self.recent().written(entry);
        Ok(())
    }

    pub(super) fn put_off(self: &Arc<Self>, error: &StoreError) {
        tracing::error!(%error, "what a registry said cannot be written down; it is kept in memory and tried again");
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
            // It is said already that it fails.
            let is_written = self.write_waiting().await.is_ok();
            let mut is_retrying = self.is_retrying.lock().unwrap_or_else(PoisonError::into_inner);
            if is_written && self.recent().due().is_none() {
                *is_retrying = false;
                return;
            }
        }
    }

    /// Writes what waits, the oldest first.
    pub(super) async fn write_waiting(&self) -> Result<(), StoreError> {
        loop {
            let Some(entry) = self.recent().due() else { break };
            self.write(&entry).await?;
            self.learnt(&entry.name, &entry.manifest);
        }
        self.readiness.degraded(TOPIC, None);
        tracing::info!("the database can be written again; nothing was lost");
        Ok(())
    }
}
