//! The request pipeline: a request is routed and judged and, if a permit is issued, its content is opened.
//!
//! Start with `Gate::handle`. The gate decides nothing itself: rules come from the rulebook, evidence from `trust` and
//! `va`, and the decision from `policy`. `judge.rs` combines them.
//!
//! Three others use the same judge (`build.rs`): [`Inspector`] answers questions about images, [`Operations`] does what
//! operators ask for, and [`Livescan`] judges again what was served.

mod build;
mod error;
mod inspector;
mod judge;
mod livescan;
mod operations;
mod operator;
mod request;
mod router;
mod serving;

use std::sync::Arc;
use std::time::Duration;

pub use build::{GateParts, GateServices};
pub use error::GateError;
pub use inspector::Inspector;
pub use inspector::explain::{ExplainedDecision, ExplainedEntry, Explanation};
pub use inspector::images::{ImageQuery, KnownAssessment, KnownTag, KnownTags};
pub use inspector::scan::{AppliedVaRule, ScannedImage};
pub use judge::exemptions::{ExemptionBook, ExemptionError};
pub use livescan::{ListedVerdicts, Livescan};
pub use operations::Operations;
pub use operations::bundle::{
    BundleImport, BundledDatabase, BundledImage, BundledManifest, ImportOutcome, ImportedImage, MAX_BUNDLED_IMAGE,
    MAX_BUNDLED_MANIFESTS, report_file_name, report_names,
};
pub use operations::contents::{RemovalFailure, RemovalTarget};
pub use operations::forget::ForgetError;
pub use operations::pins::PinFailure;
pub use operator::NotRecorded;
pub use request::{GateRequest, ReadMethod, Requester};
pub use router::Target;
pub use serving::listing::{ListBody, ListPage};
pub use serving::warm::{WarmAnswer, WarmOutcome};

use crate::audit::Audit;
use crate::cache::{Cache, Opened};
use crate::oci::{Digest, Endpoint, Manifest, Platform, Reference};
use crate::policy::{self, Permit};
use crate::resolve::{ResolveError, Resolver};
use crate::runtime::{Clock, Epoch, Moment, Phase, RequestTrace};
use judge::ManifestJudge;
use judge::judgement::{Judged, JudgementOutcome};
use judge::platforms::Platforms;
use livescan::LiveRecords;
use router::Router;
use serving::blob::BlobJudge;
use serving::listing::Listings;
use serving::metrics::GateMetrics;
use serving::record::RecordDraft;
use serving::warm::{Basis, WarmAnswers};

/// The configuration of the gate.
#[derive(Clone, Debug)]
pub struct Config {
    /// Whether denials are only reported and not enforced, for all documents.
    pub audit: bool,
    /// How long a request waits for evidence before the client is told to retry.
    pub verdict_wait: Duration,
    /// The platforms whose images decide about an index; if empty, this machine's platform.
    pub platforms: Vec<Platform>,
    /// The largest layer of an attachment, in bytes.
    pub attachment_limit: u64,
    /// How long a tag counts as a name of a digest after it was last seen to resolve to that digest.
    pub tag_memory: Duration,
    /// Hosts that the `urls` of descriptors may name.
    pub url_hosts: Vec<String>,
    /// How many child manifests not seen before are loaded from indexes to find the manifest that names a blob.
    pub max_unseen_children: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            audit: false,
            verdict_wait: Duration::from_secs(20),
            platforms: Vec::new(),
            attachment_limit: 8 * 1024 * 1024,
            tag_memory: Duration::from_secs(30 * 24 * 3600),
            url_hosts: Vec::new(),
            max_unseen_children: 16,
        }
    }
}

/// The gate. One instance per process, shared by all requests.
pub struct Gate {
    verdict_wait: Duration,
    router: Router,
    judge: Arc<ManifestJudge>,
    blobs: BlobJudge,
    listings: Listings,
    platforms: Arc<Platforms>,
    resolver: Resolver,
    cache: Arc<Cache>,
    warm: WarmAnswers,
    livescan: Arc<LiveRecords>,
    audit: Audit,
    epoch: Epoch,
    clock: Clock,
    metrics: GateMetrics,
}

/// The answer to a request.
pub enum Answer {
    /// A blob, or a part of one.
    Blob {
        /// The content.
        content: Opened,
        /// The permit that admitted it.
        permit: Permit,
    },
    /// The size of a blob, for HEAD; nothing is downloaded.
    BlobSize {
        /// The size in bytes.
        size: u64,
        /// The permit that admitted it.
        permit: Permit,
    },
    /// Tags or referrers.
    List(ListPage),
    /// A manifest.
    Manifest {
        /// The manifest.
        manifest: Arc<Manifest>,
        /// The permit that admitted it.
        permit: Permit,
        /// Why the tag resolution may be out of date.
        stale: Option<String>,
    },
}

impl Answer {
    /// The manifest, if the answer is one.
    fn manifest(&self) -> Option<&Arc<Manifest>> {
        match self {
            Self::Manifest { manifest, .. } => Some(manifest),
            _ => None,
        }
    }

    /// The permit that admitted the content, if the answer has content.
    pub fn permit(&self) -> Option<&Permit> {
        match self {
            Self::Blob { permit, .. } | Self::BlobSize { permit, .. } | Self::Manifest { permit, .. } => Some(permit),
            Self::List(_) => None,
        }
    }
}

impl Gate {
    /// Answers a request and records the decision even if the client disconnects.
    ///
    /// # Errors
    /// Everything that is not served: denials, refusals, images that cannot be judged, and content that the upstream
    /// does not have.
    pub async fn handle(&self, request: &GateRequest) -> Result<Answer, GateError> {
        let time = self.clock.now();
        let mut record = RecordDraft::new(request, &self.audit, time);
        // Taken before anything that may change is read.
        let before = self.epoch.moment(());
        let target = self.router.target(request);
        // Upstreams may have changed in between.
        let moment = target.as_ref().map_or(before, |target| self.epoch.moment_since(&before, &target.name));
        let answer = self.answer(request, target, &before, &mut record).await;
        let took = record.elapsed_seconds();
        let text = record.finish(&answer).await;
        // A response that cannot be recorded is not served, and does not count as served.
        let answer = if text.is_some() { answer } else { Err(GateError::Unrecorded) };
        let counters = self.metrics.observe(&record, &answer, took);
        let Some(text) = text else { return answer };
        let (kind, has_checked_va, validity) = (record.kind(), record.has_checked_va(), record.validity());
        self.livescan.note(request, kind, has_checked_va, &answer, moment);
        let is_repeatable = matches!(request.endpoint, Endpoint::Manifest { .. });
        if let Some(key) = request.key.as_ref().filter(|_| is_repeatable)
            && let Some(outcome) = WarmOutcome::of(&answer, text.digest)
        {
            let warm = WarmAnswer::new(outcome, text, counters, Basis { moment, time }, validity);
            self.warm.keep(key, warm, answer.as_ref().ok().and_then(Answer::manifest));
        }
        answer
    }

    /// The image of an index for a client that does not accept indexes.
    pub fn default_child(&self, index: &Manifest) -> Option<Digest> {
        self.platforms.default_child(index)
    }

    /// The steps after routing: judge -> open. `routed` is a moment before the routing.
    async fn answer(
        &self,
        request: &GateRequest,
        target: Result<Target, GateError>,
        routed: &Moment,
        record: &mut RecordDraft,
    ) -> Result<Answer, GateError> {
        let target = target?;
        record.about(&target, &request.endpoint);
        match &request.endpoint {
            Endpoint::Manifest { reference, .. } => self.answer_manifest(&target, reference, record).await,
            Endpoint::Blob { digest, .. } => {
                Box::pin(self.answer_blob(request, &target, *digest, routed, record)).await
            }
            Endpoint::Tags { name, page } => Box::pin(self.listings.tags(&target, name, page)).await,
            Endpoint::Referrers { digest, page, .. } => Box::pin(self.listings.referrers(&target, *digest, page)).await,
        }
    }

    async fn answer_manifest(
        &self,
        target: &Target,
        reference: &Reference,
        record: &mut RecordDraft,
    ) -> Result<Answer, GateError> {
        let outcome = self.in_time(target, reference, self.judge.judge(target, reference)).await?.outcome();
        record.judged(&outcome);
        if let (Err(_), Some(judged)) = (&outcome.decision, &outcome.judged) {
            self.livescan.note_asked(&target.name, judged.manifest.digest);
        }
        let Admitted { manifest, permit, stale } = self.admitted(target, &outcome, true).await?;
        Ok(Answer::Manifest { manifest, permit, stale })
    }

    /// Limits how long a request waits. Work that takes longer continues in the background, and the client is told to
    /// retry.
    async fn in_time<T>(
        &self,
        target: &Target,
        reference: &Reference,
        work: impl Future<Output = Result<T, GateError>>,
    ) -> Result<T, GateError> {
        let in_time = tokio::time::timeout(self.verdict_wait, work).await;
        in_time.unwrap_or_else(|_| Err(self.late(target, reference)))
    }

    /// What a timed-out request was waiting for: the upstream, or evidence.
    fn late(&self, target: &Target, reference: &Reference) -> GateError {
        let of_upstream = RequestTrace::current().is_some_and(|trace| trace.learned().was_given_up(Phase::Resolve));
        if of_upstream {
            let (upstream, waited) = (target.upstream.config().shown(), self.verdict_wait);
            return ResolveError::Late { upstream, waited }.into();
        }
        GateError::Pending { subject: target.describe(reference) }
    }

    /// The manifest that a judgement admits, or the denial. `is_pull` is whether the manifest itself is served.
    async fn admitted(
        &self,
        target: &Target,
        outcome: &JudgementOutcome,
        is_pull: bool,
    ) -> Result<Admitted, GateError> {
        let permit = outcome.decision.clone().map_err(GateError::Denied)?;
        let nothing = || GateError::Denied(policy::no_match_in(&target.name, "no rule selects it".into()));
        let Judged { manifest, stale, .. } = outcome.judged.clone().ok_or_else(nothing)?;
        self.cache.touch(&manifest);
        // References are stored only after admission. A denied manifest leaves times: of its first request, and of its
        // issues.
        let written = Box::pin(self.resolver.admitted(&target.name, &manifest, is_pull));
        RequestTrace::phase(Phase::Record, written).await;
        Ok(Admitted { manifest, permit, stale })
    }
}

/// A manifest and the permit that admitted it.
#[derive(Debug)]
struct Admitted {
    manifest: Arc<Manifest>,
    permit: Permit,
    /// Why the tag resolution may be out of date.
    stale: Option<String>,
}
