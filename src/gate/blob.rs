//! Blobs: served because an admitted manifest of that repository names them.

use std::sync::Arc;

use super::{Admitted, Answer, Ask, Entry, Gate, GateError, Target};
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

    /// Opens what a permit is for, or for HEAD only tells its size.
    pub(super) async fn blob(&self, ask: &Ask, target: &Target, permit: Permit) -> Result<Answer, GateError> {
        // A manifest asked for as a blob is a manifest all the same; its bytes are known and were judged.
        if self.resolver.is_known(&target.name, permit.digest()).await? {
            let manifest = self.resolver.manifest(&target.upstream, &target.name, permit.digest()).await?;
            return Ok(Answer::Blob { content: Opened::Memory(manifest.bytes.clone()), permit });
        }
        if ask.method == "HEAD" {
            let size = self.cache.size(&permit, &target.upstream).await?;
            return Ok(Answer::BlobSize { size, permit });
        }
        Ok(Answer::Blob { content: self.cache.open(&permit, &target.upstream).await?, permit })
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
                        self.cache.touch(&admitted.manifest);
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
        let unseen = self.resolver.unseen_children(&target.name, self.config.max_unseen_children).await?;
        for (index, child) in unseen.iter().copied() {
            match self.admit(target, &Reference::Digest(index), entry).await {
                Ok(_) => {}
                // While the index cannot be judged, the blob may well be one of its images'.
                Err(error) if error.is_temporary() => return Err(error),
                Err(_) => continue,
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
