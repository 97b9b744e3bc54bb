//! Facts that an operator imports.

use std::sync::Arc;

use jiff::Timestamp;

use super::Facts;
use crate::oci::{Digest, ImageName, Manifest, Tag};
use crate::store::{AttachedList, StoreError};

impl Facts {
    /// Learns the digest of a tag as of an earlier time. It is written with its manifest.
    pub(in crate::resolve) async fn import_tag(
        self: &Arc<Self>,
        name: &ImageName,
        tag: &Tag,
        manifest: &Arc<Manifest>,
        at: Timestamp,
    ) {
        self.recent().forget_tag(name, tag);
        let is_stored = self.is_stored(name, manifest.digest).await;
        self.keep(name, manifest, is_stored, |entry| entry.tag(tag, at)).await;
        self.memory().tags.insert((name.clone(), tag.clone()), (manifest.digest, at));
        self.epoch.advance_part(name);
    }

    /// Forgets a manifest of which only memory knows.
    pub(in crate::resolve) fn withdraw(&self, name: &ImageName, digest: Digest) {
        let gone = self.recent().withdraw(name, digest);
        if let Some(manifest) = gone {
            self.learnt(name, &manifest);
        }
    }

    pub(in crate::resolve) async fn import_attached(
        &self,
        name: &ImageName,
        subject: Digest,
        list: &AttachedList,
        at: Timestamp,
    ) -> Result<(), StoreError> {
        self.store.record_attached(name, subject, list, at).await?;
        self.epoch.advance_part(name);
        Ok(())
    }

    pub(in crate::resolve) async fn attached_list(
        &self,
        name: &ImageName,
        subject: Digest,
    ) -> Result<Option<AttachedList>, StoreError> {
        self.store.attached_list(name, subject).await
    }

    /// Whether the repository itself delivered or confirmed a blob.
    pub(in crate::resolve) async fn has_blob(&self, name: &ImageName, digest: Digest) -> Result<bool, StoreError> {
        self.store.has_link(name, digest).await
    }
}
