//! Blobs: served because an admitted manifest of that repository names them.

use std::sync::Arc;

use super::{Admitted, Entry, Gate, GateError, Target};
use crate::cache::Opened;
use crate::oci::{Digest, Manifest, Reference};
use crate::policy::Permit;

impl Gate {
    pub(super) async fn admit_blob_in_time(
        &self,
        target: &Target,
        blob: Digest,
        entry: &mut Entry,
    ) -> Result<Permit, GateError> {
        let judged = tokio::time::timeout(self.config.verdict_wait, self.admit_blob(target, blob, entry)).await;
        judged.unwrap_or_else(|_| Err(GateError::Pending { subject: target.describe(&Reference::Digest(blob)) }))
    }

    /// Opens what a permit is for.
    pub(super) async fn open(&self, target: &Target, permit: &Permit) -> Result<Opened, GateError> {
        // A manifest asked for as a blob is a manifest all the same; its bytes are known and were judged.
        if self.resolver.is_known(&target.name, permit.digest()).await? {
            let manifest = self.resolver.manifest(&target.upstream, &target.name, permit.digest()).await?;
            return Ok(Opened::Memory(manifest.bytes.clone()));
        }
        Ok(self.cache.open(permit, &target.upstream).await?)
    }

    async fn admit_blob(&self, target: &Target, blob: Digest, entry: &mut Entry) -> Result<Permit, GateError> {
        if self.resolver.is_known(&target.name, blob).await? {
            return Ok(self.admit(target, &Reference::Digest(blob), entry).await?.permit);
        }
        let naming = self.resolver.naming(&target.name, blob).await?;
        let mut denied = None;
        for manifest in naming.iter() {
            match self.admit(target, &Reference::Digest(*manifest), entry).await {
                Ok(admitted) => {
                    if let Some(permit) = permit_for(&admitted, blob) {
                        return Ok(permit);
                    }
                }
                Err(error) => denied = denied.or(Some(error)),
            }
        }
        if let Some(permit) = self.admit_by_unseen_children(target, blob, entry).await? {
            return Ok(permit);
        }
        Err(denied.unwrap_or(GateError::BlobUnknown { name: target.name.to_string(), digest: blob }))
    }

    /// A client may have the index from elsewhere and ask for a layer first. Children of admitted indexes that were
    /// never fetched are loaded, a bounded number, before the blob counts as unknown.
    async fn admit_by_unseen_children(
        &self,
        target: &Target,
        blob: Digest,
        entry: &mut Entry,
    ) -> Result<Option<Permit>, GateError> {
        let unseen = self.store.unseen_children(&target.name, self.config.max_unseen_children).await?;
        for (index, child) in unseen {
            if self.admit(target, &Reference::Digest(index), entry).await.is_err() {
                continue;
            }
            let manifest = match self.resolver.manifest(&target.upstream, &target.name, child).await {
                Ok(manifest) => manifest,
                // While the upstream does not answer, the blob may well be known to it.
                Err(error) if error.is_temporary() => return Err(error.into()),
                Err(_) => continue,
            };
            if names(&manifest, blob) {
                let admitted = self.admit(target, &Reference::Digest(child), entry).await?;
                return Ok(permit_for(&admitted, blob));
            }
        }
        Ok(None)
    }
}

fn permit_for(admitted: &Admitted, blob: Digest) -> Option<Permit> {
    admitted.permit.for_blob(&admitted.manifest, blob)
}

fn names(manifest: &Arc<Manifest>, blob: Digest) -> bool {
    manifest.names_blob(&blob)
}
