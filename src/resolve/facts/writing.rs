//! Writes facts to the store. If the store cannot be written, the facts wait and the write is retried.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use jiff::Timestamp;

use super::{Facts, Known};
use crate::oci::{Digest, ImageName, Manifest, Tag};
use crate::resolve::recent::RecentManifest;
use crate::store::{NewFacts, StoreError};

/// The name of the database in `/readyz`.
pub(super) const TOPIC: &str = "database";
/// The interval between attempts to write waiting facts.
const RETRY: Duration = Duration::from_secs(5);
/// How long a request waits until a fact is written.
const WRITE_TIMEOUT: Duration = Duration::from_secs(5);

/// A write that is no longer waited for.
pub(super) fn late() -> StoreError {
    StoreError::Late(WRITE_TIMEOUT.as_secs())
}

impl Facts {
    /// Records a fact that must be written, and writes it. If the write fails or takes too long, the fact waits.
    pub(super) async fn keep(
        self: &Arc<Self>,
        name: &ImageName,
        manifest: &Arc<Manifest>,
        is_stored: bool,
        change: impl FnOnce(&mut RecentManifest),
    ) {
        let entry = self.recent().note(name, manifest, self.clock.now(), |entry| {
            (entry.is_due, entry.is_stored) = (true, entry.is_stored || is_stored);
            change(entry);
        });
        if self.in_time(self.clone().write_noted(entry)).await.is_none() {
            self.learnt(name, manifest);
            self.put_off(&late());
        }
    }

    async fn write_noted(self: Arc<Self>, entry: RecentManifest) {
        let written = self.write(&entry).await;
        let RecentManifest { name, manifest, .. } = entry;
        self.learnt(&name, &manifest);
        match written {
            Ok(()) => {
                let known = Some(Known { media_type: manifest.media_type.as_str().into(), is_stored: true });
                let now = self.now(&name);
                self.insert(&self.memory.manifests, &(name, manifest.digest), known, &now);
            }
            Err(error) => self.put_off(&error),
        }
    }

    /// Writes the current digest of a known tag whose manifest is not written.
    pub(super) async fn move_tag(
        self: &Arc<Self>,
        name: &ImageName,
        tag: &Tag,
        digest: Digest,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        let (store, name, tag) = (self.store.clone(), name.clone(), tag.clone());
        let moved = self.in_time(async move { store.move_tag(&name, &tag, digest, at).await }).await;
        moved.unwrap_or(Err(late()))
    }

    /// Waits for a write, at most for [`WRITE_TIMEOUT`], and not at all while an earlier one has not been answered:
    /// `None`. A write that has begun continues even if the client leaves.
    pub(super) async fn in_time<T: Send + 'static>(
        self: &Arc<Self>,
        write: impl Future<Output = T> + Send + 'static,
    ) -> Option<T> {
        if self.hangs.load(Ordering::Acquire) {
            return None;
        }
        let (facts, answered) = (self.clone(), Arc::new(AtomicBool::new(false)));
        let has_answered = answered.clone();
        let mut written = self.tasks.spawn(async move {
            let written = write.await;
            answered.store(true, Ordering::SeqCst);
            facts.hangs.store(false, Ordering::SeqCst);
            written
        });
        if let Ok(written) = tokio::time::timeout(WRITE_TIMEOUT, &mut written).await {
            return written.ok();
        }
        // The task sets them in the opposite order, so at least one side sees the other's change.
        self.hangs.store(true, Ordering::SeqCst);
        if has_answered.load(Ordering::SeqCst) {
            self.hangs.store(false, Ordering::SeqCst);
        }
        None
    }

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
        let recorded = self.store.record(facts).await;
        self.hangs.store(false, Ordering::Release);
        recorded?;
        self.recent().written(entry);
        Ok(())
    }

    pub(super) fn put_off(self: &Arc<Self>, error: &StoreError) {
        if let Some(omitted) = self.failures.admit() {
            let text = "cannot write facts from a registry; they stay in memory and the write is retried";
            tracing::error!(%error, omitted, "{text}");
        }
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

#[cfg(test)]
impl Facts {
    /// Whether a fact waits to be written.
    pub(in crate::resolve) fn has_due(&self) -> bool {
        self.recent().due().is_some()
    }
}
