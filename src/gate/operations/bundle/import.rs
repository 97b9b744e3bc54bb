//! Imports an image that was carried here: the same judgement as for a pull, and facts as if the repository had
//! delivered it. Its content was received and verified before.

use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::received::{MAX_MANIFESTS, Manifests};
use super::{BundledDatabase, BundledImage, ImportOutcome};
use crate::audit::{RecordedDecision, RecordedEndpoint, RecordedMethod};
use crate::gate::judge::judgement::Judgement;
use crate::gate::operations::Operations;
use crate::gate::operator::{NotRecorded, OperatorAct};
use crate::gate::{GateError, Target};
use crate::oci::{Digest, Host, Manifest, Reference, Refused, Tag};
use crate::policy::{Denial, DenialKind, Kind};
use crate::resolve::TagImport;
use crate::scope::Scope;
use crate::va::DatabaseNews;

/// How many times a pending judgement is repeated, and one that lacks evidence.
const PENDING_TRIES: u32 = 150;
const UNAVAILABLE_TRIES: u32 = 1;
/// The pause between them. It is longer than the time for which failures to find evidence are remembered.
const PAUSE: Duration = Duration::from_millis(2200);

/// By how much clocks of two gates may differ without a note.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_secs(5 * 60);

/// How long an import waits for advisory databases that were imported with it.
const ADVISORIES_WAIT: Duration = Duration::from_secs(60);

/// How to import.
#[derive(Clone, Debug, Default)]
pub struct BundleImport {
    /// Whether the image is only judged.
    pub dry_run: bool,
    /// Whether a tag is set even if it was seen later to refer to another digest.
    pub force: bool,
    /// The scope whose rules apply.
    pub scope: Scope,
}

/// The result for one image.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ImportedImage {
    /// The image with its tag or digest.
    pub image: String,
    /// Its digest.
    pub digest: Digest,
    /// What became of it.
    pub outcome: ImportOutcome,
    /// Why.
    pub reasons: Vec<String>,
    /// What else is worth knowing: platforms that are denied, attachments that are not available.
    pub notes: Vec<String>,
}

/// Why an image cannot be imported at all.
#[derive(Debug, thiserror::Error)]
pub enum ImportFailure {
    /// The audit record cannot be written, and the configuration requires it.
    #[error(transparent)]
    Audit(#[from] NotRecorded),
    /// Content is missing or has another size.
    #[error("{0} is not in the cache with the size that its manifest states; repeat the import")]
    Content(Digest),
    /// The upstream is unknown, or the database failed.
    #[error(transparent)]
    Gate(#[from] GateError),
    /// A manifest is unacceptable.
    #[error("the manifest {digest} is unacceptable: {why}")]
    Manifest {
        /// The manifest.
        digest: Digest,
        /// Why.
        why: Refused,
    },
    /// A list of what is attached cannot be read.
    #[error("the list of what is attached to {subject} is unacceptable: {why}")]
    List {
        /// The manifest.
        subject: Digest,
        /// Why.
        why: Refused,
    },
    /// There are too many manifests.
    #[error("more than {MAX_MANIFESTS} manifests")]
    TooMany,
    /// A manifest belongs to nothing.
    #[error("the manifest {0} is neither part of the image nor listed as attached to it")]
    Unrelated(Digest),
}

impl Operations {
    /// Imports an image whose content was received. Nothing about a denied image is stored. `caller` is for the audit
    /// record.
    ///
    /// The lists of what is attached to it, and facts about that, are stored in any case: they are needed to judge. Its
    /// blobs become available only together with the image. The caller keeps the content from being evicted
    /// (`Cache::hold`).
    ///
    /// # Errors
    /// See [`ImportFailure`].
    pub async fn import(
        &self,
        image: &BundledImage,
        how: &BundleImport,
        caller: &str,
    ) -> Result<ImportedImage, ImportFailure> {
        let target = Target { scope: how.scope.clone(), ..self.router.operator_target(&image.reference())? };
        let (own, mut attached) = self.received(image).await?;
        let left_out = self.leave_foreign(image, &mut attached);
        for manifest in own.values().chain(attached.values()) {
            self.resolver.deliver(&target.name, manifest);
        }
        let mut imported = self.import_delivered(&target, (image, (&own, &attached)), how, caller).await;
        imported.iter_mut().for_each(|result| result.notes.extend_from_slice(&left_out));
        if !imported.as_ref().is_ok_and(|result| result.outcome.is_available()) {
            own.keys().for_each(|digest| self.resolver.withdraw(&target.name, *digest));
        }
        imported
    }

    async fn import_delivered(
        &self,
        target: &Target,
        (image, (own, attached)): (&BundledImage, (&Manifests, &Manifests)),
        how: &BundleImport,
        caller: &str,
    ) -> Result<ImportedImage, ImportFailure> {
        let now = self.clock.now();
        let at = image.seen.min(now);
        let reference = image.tag.clone().map_or(Reference::Digest(image.digest), Reference::Tag);
        let name = target.describe(&reference);
        self.import_evidence(target, image, attached, at).await?;
        let judged = self.judge_patiently(target, &reference, image.digest).await;
        let (outcome, reasons) = conclude(&judged, image.digest);
        let (outcome, kept) = self.foresee(target, image, (outcome, how), at).await?;
        let mut notes = image.notes.clone();
        notes.extend(image.tag.as_ref().and_then(|tag| ahead_note(tag, image.seen, now)));
        notes.extend(kept);
        self.record_import(&name, image, (outcome, how.dry_run), &reasons, caller).await?;
        if outcome.is_available() {
            let root = &own[&image.digest];
            self.make_available(target, root).await?;
            if outcome == ImportOutcome::Imported
                && let Some(tag) = &image.tag
            {
                let set = self.resolver.import_tag(&target.name, tag, root, (at, how.force)).await;
                set.map_err(GateError::from)?;
            }
            notes.extend(self.import_parts(target, image.digest, own).await?);
            notes.extend(self.import_attached(target, attached, caller).await?);
        }
        let became = outcome.words();
        tracing::info!(image = name, digest = %image.digest, outcome = became, caller, "image import finished");
        Ok(ImportedImage { image: name, digest: image.digest, outcome, reasons, notes })
    }

    /// The outcome for an image with this conclusion, with a note if its tag keeps another digest.
    async fn foresee(
        &self,
        target: &Target,
        image: &BundledImage,
        (outcome, how): (ImportOutcome, &BundleImport),
        at: Timestamp,
    ) -> Result<(ImportOutcome, Option<String>), ImportFailure> {
        if outcome != ImportOutcome::Imported {
            return Ok((outcome, None));
        }
        let kept = match &image.tag {
            Some(tag) if !how.force => {
                let tag = self.resolver.would_import_tag(&target.name, tag, (image.digest, at)).await;
                kept_note(tag.map_err(GateError::from)?)
            }
            _ => None,
        };
        let outcome = match (how.dry_run, &kept) {
            (true, _) => ImportOutcome::Admitted,
            (false, Some(_)) => ImportOutcome::TagKept,
            (false, None) => ImportOutcome::Imported,
        };
        Ok((outcome, kept))
    }

    /// Records that advisory databases of a bundle are about to be put into use.
    ///
    /// # Errors
    /// The record cannot be written, and the configuration requires it: they must not be put into use.
    pub async fn record_advisories(&self, databases: &[BundledDatabase], caller: &str) -> Result<(), NotRecorded> {
        let act = OperatorAct {
            endpoint: RecordedEndpoint::BundleAdvisories,
            method: RecordedMethod::Post,
            decision: RecordedDecision::ImportAdvisories,
            image: String::new(),
            reasons: databases.iter().map(ToString::to_string).collect(),
        };
        act.record(&self.audit, caller, self.clock.now()).await
    }

    /// The registries of upstreams that are offline: what is evicted of them can only be imported again.
    pub fn offline_hosts(&self) -> Vec<Host> {
        self.router.offline_hosts()
    }

    /// Waits for a limited time until advisory databases are in use that sources built at these times, or newer ones,
    /// so that images are judged by databases that were imported with them.
    ///
    /// # Errors
    /// They are not in use, and nothing says why.
    pub async fn await_advisories(&self, wanted: &[(String, Timestamp)]) -> Result<(), String> {
        let mut news = self.va.scanner().databases().news();
        let is_used = |(source, built): &(String, Timestamp), news: &DatabaseNews| {
            news.sources.iter().any(|(known, at)| known == source && at >= built)
        };
        let all = news.wait_for(|news| wanted.iter().all(|one| is_used(one, news)));
        let waited = tokio::time::timeout(ADVISORIES_WAIT, all).await.is_err();
        // If databases have a problem, the judgement itself reports it: no image is clean.
        if waited && news.borrow().problem.is_none() {
            return Err("the advisory databases of the bundle are not in use yet; repeat the import".to_owned());
        }
        Ok(())
    }

    /// Stores what is needed to judge an image: which manifests are attached to it, and the facts about those that were
    /// carried. No client can get their blobs through that.
    async fn import_evidence(
        &self,
        target: &Target,
        image: &BundledImage,
        attached: &Manifests,
        at: Timestamp,
    ) -> Result<(), ImportFailure> {
        for manifest in attached.values() {
            self.resolver.admitted(&target.name, manifest, false).await;
        }
        for one in &image.attached {
            let imported = self.resolver.import_attached(&target.name, one.subject, &one.list, at).await;
            imported.map_err(GateError::from)?;
        }
        Ok(())
    }

    /// Makes what is attached to an imported image available, if it is an attachment or an artifact and is admitted
    /// itself.
    async fn import_attached(
        &self,
        target: &Target,
        attached: &Manifests,
        caller: &str,
    ) -> Result<Vec<String>, ImportFailure> {
        let mut notes = Vec::new();
        for (digest, manifest) in attached {
            let reference = Reference::Digest(*digest);
            let judged = self.judge_patiently(target, &reference, *digest).await;
            let is_image = judged.as_ref().is_ok_and(|judged| !may_be_attached(judged));
            match conclude(&judged, *digest) {
                (ImportOutcome::Imported, _) if is_image => {
                    // Without an entry that matches, in audit mode, the bytes were not examined at all.
                    let why = "it may be an image, and is judged when it is pulled";
                    notes.push(format!("attached manifest {digest}: {why}"));
                }
                (ImportOutcome::Imported, _) => {
                    let act = OperatorAct {
                        endpoint: RecordedEndpoint::BundleImport,
                        method: RecordedMethod::Post,
                        decision: RecordedDecision::ImportAttached,
                        image: target.describe(&reference),
                        reasons: Vec::new(),
                    };
                    act.record(&self.audit, caller, self.clock.now()).await?;
                    self.make_available(target, manifest).await?;
                }
                (_, reasons) => notes.push(format!("attached manifest {digest}: {}", reasons.join("; "))),
            }
        }
        Ok(notes)
    }

    /// Imports the platforms of an index that was admitted, each judged as if it was pulled by digest.
    async fn import_parts(&self, target: &Target, root: Digest, own: &Manifests) -> Result<Vec<String>, ImportFailure> {
        let mut notes = Vec::new();
        for (digest, manifest) in own.iter().filter(|(digest, _)| **digest != root) {
            let judged = self.judge_patiently(target, &Reference::Digest(*digest), *digest).await;
            match conclude(&judged, *digest) {
                (ImportOutcome::Imported, _) => self.make_available(target, manifest).await?,
                (_, reasons) => notes.push(format!("part {digest} is not available: {}", reasons.join("; "))),
            }
        }
        Ok(notes)
    }

    /// Stores that the repository has an admitted manifest and its blobs.
    async fn make_available(&self, target: &Target, manifest: &Arc<Manifest>) -> Result<(), ImportFailure> {
        self.cache.link_blobs(&target.name, manifest).await.map_err(GateError::from)?;
        self.resolver.admitted(&target.name, manifest, false).await;
        self.cache.touch(manifest);
        Ok(())
    }

    /// Judges, and waits for evidence that is on its way.
    async fn judge_patiently(
        &self,
        target: &Target,
        reference: &Reference,
        digest: Digest,
    ) -> Result<Judgement, GateError> {
        let mut tries = 0;
        loop {
            let judged = self.judge.judge_as(target, reference, Some(digest)).await?;
            let most = match judged.decision.as_ref().err().map(|denial| denial.kind) {
                Some(DenialKind::Pending) => PENDING_TRIES,
                Some(DenialKind::Unavailable) => UNAVAILABLE_TRIES,
                Some(DenialKind::Policy) | None => return Ok(judged),
            };
            if tries >= most {
                return Ok(judged);
            }
            tries += 1;
            tokio::time::sleep(PAUSE).await;
        }
    }

    async fn record_import(
        &self,
        name: &str,
        image: &BundledImage,
        (outcome, is_dry_run): (ImportOutcome, bool),
        reasons: &[String],
        caller: &str,
    ) -> Result<(), ImportFailure> {
        let decision = match (outcome, is_dry_run) {
            (_, true) => RecordedDecision::ImportDryRun,
            (ImportOutcome::Imported, false) => RecordedDecision::Import,
            (ImportOutcome::TagKept, false) => RecordedDecision::ImportByDigest,
            (_, false) => RecordedDecision::ImportDenied,
        };
        let seen = format!("{} as of {}", image.digest, image.seen);
        let reasons = [seen].into_iter().chain(reasons.iter().cloned()).collect();
        let (endpoint, method) = (RecordedEndpoint::BundleImport, RecordedMethod::Post);
        let act = OperatorAct { endpoint, method, decision, image: name.to_owned(), reasons };
        Ok(act.record(&self.audit, caller, self.clock.now()).await?)
    }
}

/// What a judgement means for an import, with the reasons if it is not an admission.
fn conclude(judged: &Result<Judgement, GateError>, digest: Digest) -> (ImportOutcome, Vec<String>) {
    let text = |denial: &Denial| vec![denial.to_string()];
    match judged {
        Err(error) if error.is_temporary() => (ImportOutcome::Undecided, vec![error.to_string()]),
        Err(error) => (ImportOutcome::Denied, vec![error.to_string()]),
        Ok(judged) => match &judged.decision {
            Ok(_) if judged.judged.as_ref().is_none_or(|judged| judged.manifest.digest != digest) => {
                (ImportOutcome::Denied, vec!["another digest is signed for this tag".to_owned()])
            }
            Ok(_) => (ImportOutcome::Imported, Vec::new()),
            Err(denial) if denial.kind == DenialKind::Policy => (ImportOutcome::Denied, text(denial)),
            Err(denial) => (ImportOutcome::Undecided, text(denial)),
        },
    }
}

/// Whether the bytes of a manifest prove that it is not an image.
fn may_be_attached(judged: &Judgement) -> bool {
    let kind = judged.judged.as_ref().map(|judged| judged.kind.kind);
    matches!(kind, Some(Kind::Attachment | Kind::Artifact))
}

/// Other bundles that were exported before this import do not move the tag then.
fn ahead_note(tag: &Tag, seen: Timestamp, now: Timestamp) -> Option<String> {
    (seen.duration_since(now) > CLOCKS_DIFFER).then(|| {
        format!(
            "the bundle says that the tag {tag} was seen on {seen}, which is in the future: a clock is wrong, here or on the \
             other side, and it counts as seen now"
        )
    })
}

fn kept_note(tag: TagImport) -> Option<String> {
    match tag {
        TagImport::Set => None,
        TagImport::Newer(digest) => {
            Some(format!("the tag was seen later than in the bundle to refer to {digest}; --force replaces that"))
        }
    }
}
