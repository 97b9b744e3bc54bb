//! Blobs: a blob is served if an admitted manifest of the repository names it.

use std::sync::Arc;

use jiff::SignedDuration;

use super::recent::{AdmissionKey, RecentAdmissions};
use super::record::RecordDraft;
use super::warm::Basis;
use crate::gate::judge::ManifestJudge;
use crate::gate::judge::judgement::JudgementOutcome;
use crate::gate::judge::layers::Layers;
use crate::gate::{Answer, Gate, GateError, GateRequest, ReadMethod, Target};
use crate::oci::{Digest, ImageName, Reference};
use crate::policy::DenialKind;
use crate::resolve::{ResolveError, Resolver, name_weight};
use crate::runtime::{Clock, Epoch, Expiring, Moment, Phase, RequestTrace, budget};

/// How long a child that is missing at the registry is not requested again because of an unknown blob.
const ABSENCE: SignedDuration = SignedDuration::from_secs(60);

impl Gate {
    /// Answers a request for a blob that an admitted manifest names, or for a manifest requested through the blob
    /// endpoint.
    pub(in crate::gate) async fn answer_blob(
        &self,
        request: &GateRequest,
        target: &Target,
        blob: Digest,
        routed: &Moment,
        record: &mut RecordDraft,
    ) -> Result<Answer, GateError> {
        let reference = Reference::Digest(blob);
        // A manifest is always judged as a manifest, whichever endpoint is used, and is served with its own media type.
        if self.resolver.is_known(&target.name, blob).await? {
            return self.answer_manifest(target, &reference, record).await;
        }
        let outcome = self.in_time(target, &reference, self.blobs.judge_blob(target, routed, blob)).await?;
        record.judged(&outcome);
        let admitted = self.admitted(target, &outcome, false).await?;
        let unknown = || GateError::BlobUnknown { name: target.name.to_string(), digest: blob };
        let permit = admitted.permit.for_blob(&admitted.manifest, blob).ok_or_else(unknown)?;
        if request.method == ReadMethod::Head {
            let size = self.cache.size(&permit, &target.upstream).await?;
            return Ok(Answer::BlobSize { size, permit });
        }
        let content = RequestTrace::phase(Phase::Open, self.cache.open(&permit, &target.upstream)).await?;
        match self.blobs.layers.unless_manifest(target, blob, content).await? {
            Some(content) => Ok(Answer::Blob { content, permit }),
            None => {
                record.not_judged();
                self.answer_manifest(target, &reference, record).await
            }
        }
    }
}

/// Children of indexes that a repository does not have, or not as manifests. Without it, each request for an unknown
/// blob would ask for all of them.
pub(super) type AbsentChildren = Expiring<(ImageName, Digest), ()>;

pub(in crate::gate) fn absent_children(clock: Clock) -> AbsentChildren {
    Expiring::new(budget::ABSENT, clock, |(name, _), _| name_weight(name))
}

/// Finds out whether a blob may be served: by the manifests that name it, and by its content.
pub(in crate::gate) struct BlobJudge {
    pub(in crate::gate) judge: Arc<ManifestJudge>,
    pub(in crate::gate) resolver: Resolver,
    pub(in crate::gate) layers: Layers,
    pub(in crate::gate) recent: RecentAdmissions,
    /// How many child manifests not seen before are loaded from indexes to find the manifest that names a blob.
    pub(in crate::gate) max_unseen_children: u32,
    pub(in crate::gate) absent: AbsentChildren,
    pub(in crate::gate) epoch: Epoch,
    pub(in crate::gate) clock: Clock,
}

impl BlobJudge {
    /// The outcome for the first admitted manifest of the repository that names the blob; otherwise that for the first
    /// denied one.
    async fn judge_blob(
        &self,
        target: &Target,
        routed: &Moment,
        blob: Digest,
    ) -> Result<Arc<JudgementOutcome>, GateError> {
        let mut first = None;
        for manifest in self.resolver.naming(&target.name, blob).await?.iter() {
            match self.judge_recently(target, routed, *manifest).await {
                Ok(outcome) if outcome.admits_blob(blob) => return Ok(outcome),
                // An index names manifests and does not admit blobs.
                Ok(outcome) if outcome.decision.is_ok() => {}
                other => first = first.or(Some(other)),
            }
        }
        if let Some(outcome) = self.judge_unseen_children(target, routed, blob).await? {
            return Ok(outcome);
        }
        first.unwrap_or_else(|| Err(GateError::BlobUnknown { name: target.name.to_string(), digest: blob }))
    }

    /// The outcome for a manifest. All layers of an image are requested at about the same time, so an admission is
    /// reused as long as a repeated request for the manifest would reuse it.
    async fn judge_recently(
        &self,
        target: &Target,
        routed: &Moment,
        manifest: Digest,
    ) -> Result<Arc<JudgementOutcome>, GateError> {
        let key = AdmissionKey::new(target, manifest);
        if let Some(outcome) = self.recent.recall(&key) {
            return Ok(outcome);
        }
        // The upstream of the target may have been replaced since the request was routed.
        let basis = Basis { moment: self.epoch.moment_since(routed, &target.name), time: self.clock.now() };
        let judgement = self.judge.judge(target, &Reference::Digest(manifest)).await?;
        let outcome = Arc::new(judgement.outcome());
        self.recent.keep(key, &outcome, basis);
        Ok(outcome)
    }

    /// A client may have obtained the index elsewhere and request a layer first. Before the blob counts as unknown, a
    /// limited number of unfetched children of admitted indexes is loaded.
    async fn judge_unseen_children(
        &self,
        target: &Target,
        routed: &Moment,
        blob: Digest,
    ) -> Result<Option<Arc<JudgementOutcome>>, GateError> {
        let unseen = self.resolver.unseen_children(&target.name, self.max_unseen_children).await?;
        for (index, child) in unseen.iter().copied() {
            let key = (target.name.clone(), child);
            if self.absent.get(&key).is_some() {
                continue;
            }
            match self.judge_recently(target, routed, index).await {
                Ok(outcome) => match &outcome.decision {
                    Ok(_) => {}
                    Err(denial) if denial.kind == DenialKind::Policy => continue,
                    // While the index cannot be judged, the blob may belong to one of its images.
                    Err(_) => return Ok(Some(outcome)),
                },
                Err(error) if error.is_temporary() => return Err(error),
                Err(_) => continue,
            }
            let manifest = match self.resolver.manifest(&target.upstream, &target.name, child).await {
                Ok(manifest) => manifest,
                // While the upstream does not respond, it may know a manifest that names the blob.
                Err(error) if error.is_temporary() => return Err(error.into()),
                Err(ResolveError::NotFound(_) | ResolveError::Refused(_)) => {
                    self.absent.keep(key, (), ABSENCE);
                    continue;
                }
                Err(_) => continue,
            };
            if manifest.names_blob(&blob) {
                return self.judge_recently(target, routed, child).await.map(Some);
            }
        }
        Ok(None)
    }
}
