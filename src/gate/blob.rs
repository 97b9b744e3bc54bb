//! Blobs: a blob is served if an admitted manifest of the repository names it.

use super::judgement::Judgement;
use super::record::RecordDraft;
use super::{Answer, Gate, GateError, GateRequest, Target};
use crate::oci::{Digest, Reference};
use crate::policy::DenialKind;

impl Gate {
    /// Answers a request for a blob that an admitted manifest names, or for a manifest requested through the blob
    /// endpoint.
    pub(super) async fn answer_blob(
        &self,
        request: &GateRequest,
        target: &Target,
        blob: Digest,
        record: &mut RecordDraft,
    ) -> Result<Answer, GateError> {
        let reference = Reference::Digest(blob);
        // A manifest is always judged as a manifest, whichever endpoint is used, and is served with its own media type.
        if self.resolver.is_known(&target.name, blob).await? {
            return self.answer_manifest(target, &reference, record).await;
        }
        let judgement = self.in_time(target, &reference, self.judge_blob(target, blob)).await?;
        record.judged(&judgement);
        let admitted = self.admitted(target, judgement, false).await?;
        let unknown = || GateError::BlobUnknown { name: target.name.to_string(), digest: blob };
        let permit = admitted.permit.for_blob(&admitted.manifest, blob).ok_or_else(unknown)?;
        if request.method == "HEAD" {
            let size = self.cache.size(&permit, &target.upstream).await?;
            return Ok(Answer::BlobSize { size, permit });
        }
        let content = self.cache.open(&permit, &target.upstream).await?;
        match self.layers.unless_manifest(target, blob, content).await? {
            Some(content) => Ok(Answer::Blob { content, permit }),
            None => self.answer_manifest(target, &reference, record).await,
        }
    }

    /// The judgement of the first admitted manifest of the repository that names the blob; otherwise that of the first
    /// denied one.
    async fn judge_blob(&self, target: &Target, blob: Digest) -> Result<Judgement, GateError> {
        let mut first = None;
        for manifest in self.resolver.naming(&target.name, blob).await?.iter() {
            match self.judge.judge(target, &Reference::Digest(*manifest)).await {
                Ok(judgement) if judgement.admits_blob(blob) => return Ok(judgement),
                // An index names manifests and does not admit blobs.
                Ok(judgement) if judgement.decision.is_ok() => {}
                other => first = first.or(Some(other)),
            }
        }
        if let Some(judgement) = self.judge_unseen_children(target, blob).await? {
            return Ok(judgement);
        }
        first.unwrap_or_else(|| Err(GateError::BlobUnknown { name: target.name.to_string(), digest: blob }))
    }

    /// A client may have obtained the index elsewhere and request a layer first. Before the blob counts as unknown, a
    /// limited number of unfetched children of admitted indexes is loaded.
    async fn judge_unseen_children(&self, target: &Target, blob: Digest) -> Result<Option<Judgement>, GateError> {
        let unseen = self.resolver.unseen_children(&target.name, self.max_unseen_children).await?;
        for (index, child) in unseen.iter().copied() {
            match self.judge.judge(target, &Reference::Digest(index)).await {
                Ok(judgement) => match &judgement.decision {
                    Ok(_) => {}
                    Err(denial) if denial.kind == DenialKind::Policy => continue,
                    // While the index cannot be judged, the blob may belong to one of its images.
                    Err(_) => return Ok(Some(judgement)),
                },
                Err(error) if error.is_temporary() => return Err(error),
                Err(_) => continue,
            }
            let manifest = match self.resolver.manifest(&target.upstream, &target.name, child).await {
                Ok(manifest) => manifest,
                // While the upstream does not respond, it may know a manifest that names the blob.
                Err(error) if error.is_temporary() => return Err(error.into()),
                Err(_) => continue,
            };
            if manifest.names_blob(&blob) {
                return self.judge.judge(target, &Reference::Digest(child)).await.map(Some);
            }
        }
        Ok(None)
    }
}
