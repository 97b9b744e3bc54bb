//! Imports an image that was carried here: the same judgement as for a pull, and facts as if the repository had delivered
//! it. Its content was received and verified before.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{BundledImage, BundledManifest};
use crate::gate::judgement::Judgement;
use crate::gate::operator::OperatorAct;
use crate::gate::{Gate, GateError, Target};
use crate::oci::{Digest, MAX_MANIFEST, Manifest, Reference, Refused};
use crate::policy::{Denial, DenialKind};
use crate::resolve::TagImport;
use crate::scope::Scope;
use crate::va::DatabaseNews;

/// The most manifests of one image.
const MAX_MANIFESTS: usize = 2000;
/// How often a judgement that is pending is repeated, and how often one that lacks evidence is.
const PENDING_TRIES: u32 = 150;
const UNAVAILABLE_TRIES: u32 = 1;
/// The pause between them. It is longer than a failure to find evidence is remembered.
const PAUSE: Duration = Duration::from_millis(2200);

/// How long an import waits for advisory databases that were imported with it.
const ADVISORIES_WAIT: Duration = Duration::from_secs(60);

type Manifests = BTreeMap<Digest, Arc<Manifest>>;

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

/// What became of an image.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ImportOutcome {
    /// It would be imported.
    Admitted,
    /// The policy denies it: nothing was made available.
    Denied,
    /// It is available.
    Imported,
    /// It is available by digest. The tag refers to another digest, which was seen later.
    TagKept,
    /// It cannot be judged now: nothing was made available.
    Undecided,
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
    #[error("the request cannot be recorded in the audit file")]
    Audit,
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
    /// There are too many manifests.
    #[error("more than {MAX_MANIFESTS} manifests")]
    TooMany,
    /// A manifest belongs to nothing.
    #[error("the manifest {0} is neither part of the image nor listed as attached to it")]
    Unrelated(Digest),
}

impl Gate {
    /// Imports an image whose content was received. Nothing about a denied image is stored. `caller` is for the audit
    /// record.
    ///
    /// What is attached to it, and the lists of that, are imported in any case: they are needed to judge.
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
        let (own, attached) = self.received(image).await?;
        let at = image.seen.min(self.clock.now());
        let reference = image.tag.clone().map_or(Reference::Digest(image.digest), Reference::Tag);
        let name = target.describe(&reference);
        let mut notes = image.notes.clone();
        notes.extend(self.import_attached(&target, image, &attached, at).await?);
        for manifest in own.values() {
            self.resolver.deliver(&target.name, manifest).await;
        }
        let judged = self.judge_patiently(&target, &reference, image.digest).await;
        let (mut outcome, reasons) = conclude(&judged, image.digest);
        self.record_import(&name, image, (outcome, how.dry_run), &reasons, caller).await?;
        if outcome == ImportOutcome::Imported && how.dry_run {
            outcome = ImportOutcome::Admitted;
            if let Some(tag) = &image.tag {
                let tag = self.resolver.would_import_tag(&target.name, tag, (image.digest, at)).await;
                notes.extend(kept_note(tag.map_err(GateError::from)?).filter(|_| !how.force));
            }
        } else if outcome == ImportOutcome::Imported {
            let root = &own[&image.digest];
            self.make_available(&target, root).await?;
            if let Some(tag) = &image.tag {
                let tag = self.resolver.import_tag(&target.name, tag, root, (at, how.force)).await;
                let tag = tag.map_err(GateError::from)?;
                outcome = if tag == TagImport::Set { outcome } else { ImportOutcome::TagKept };
                notes.extend(kept_note(tag));
            }
            notes.extend(self.import_parts(&target, image.digest, &own).await?);
        }
        tracing::info!(image = name, digest = %image.digest, ?outcome, caller, "import");
        Ok(ImportedImage { image: name, digest: image.digest, outcome, reasons, notes })
    }

    /// Waits for a limited time until advisory databases are in use that sources built at these times, or newer ones, so that
    /// images are judged by databases that were imported with them.
    pub async fn await_advisories(&self, wanted: &[(String, Timestamp)]) {
        let mut news = self.judge.evidence.va.scanner().databases().news();
        let is_used = |(source, built): &(String, Timestamp), news: &DatabaseNews| {
            news.sources.iter().any(|(known, at)| known == source && at >= built)
        };
        let all = news.wait_for(|news| wanted.iter().all(|one| is_used(one, news)));
        // Images are judged again when they are in use.
        let _ = tokio::time::timeout(ADVISORIES_WAIT, all).await;
    }

    /// The manifests of the image, and those that are attached to it, if all of their content is here.
    async fn received(&self, image: &BundledImage) -> Result<(Manifests, Manifests), ImportFailure> {
        if image.manifests.len() > MAX_MANIFESTS {
            return Err(ImportFailure::TooMany);
        }
        let (mut own, mut attached) = (Manifests::new(), Manifests::new());
        for described in &image.manifests {
            let manifest = Arc::new(self.received_manifest(described).await?);
            for blob in manifest.descriptors().filter(|_| manifest.children().is_empty()) {
                if self.cache.size_on_disk(blob.digest) != Some(blob.size) {
                    return Err(ImportFailure::Content(blob.digest));
                }
            }
            let group = if described.is_attached { &mut attached } else { &mut own };
            group.insert(described.digest, manifest);
        }
        let reached = reached(image.digest, &own);
        if let Some(digest) = own.keys().find(|digest| !reached.contains(digest)) {
            return Err(ImportFailure::Unrelated(*digest));
        }
        if !own.contains_key(&image.digest) {
            return Err(ImportFailure::Content(image.digest));
        }
        if let Some(list) = image.attached.iter().find(|list| !own.contains_key(&list.subject)) {
            return Err(ImportFailure::Unrelated(list.subject));
        }
        let listed: BTreeSet<Digest> = image.attached.iter().flat_map(|one| one.list.digests()).collect();
        match attached.keys().find(|digest| !listed.contains(digest)) {
            Some(digest) => Err(ImportFailure::Unrelated(*digest)),
            None => Ok((own, attached)),
        }
    }

    async fn received_manifest(&self, described: &BundledManifest) -> Result<Manifest, ImportFailure> {
        let digest = described.digest;
        let bytes = self.cache.peek(digest, MAX_MANIFEST).await.ok_or(ImportFailure::Content(digest))?;
        if bytes.len() as u64 != described.size {
            return Err(ImportFailure::Content(digest));
        }
        let manifest = Manifest::parse(bytes, Some(&described.media_type));
        manifest.and_then(|manifest| manifest.named(digest)).map_err(|why| ImportFailure::Manifest { digest, why })
    }

    /// Imports what is attached to an image, and then the lists of it. Each attached manifest is judged as if it was pulled.
    async fn import_attached(
        &self,
        target: &Target,
        image: &BundledImage,
        attached: &Manifests,
        at: Timestamp,
    ) -> Result<Vec<String>, ImportFailure> {
        let mut notes = Vec::new();
        for (digest, manifest) in attached {
            self.resolver.deliver(&target.name, manifest).await;
            let judged = self.judge_patiently(target, &Reference::Digest(*digest), *digest).await;
            match conclude(&judged, *digest) {
                (ImportOutcome::Imported, _) => self.make_available(target, manifest).await?,
                (_, reasons) => notes.push(format!("attached manifest {digest}: {}", reasons.join("; "))),
            }
        }
        for one in &image.attached {
            let imported = self.resolver.import_attached(&target.name, one.subject, &one.list, at).await;
            imported.map_err(GateError::from)?;
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
            (_, true) => "import-dry-run",
            (ImportOutcome::Imported, false) => "import",
            (_, false) => "import-denied",
        };
        let seen = format!("{} as of {}", image.digest, image.seen);
        let reasons = [seen].into_iter().chain(reasons.iter().cloned()).collect();
        let act = OperatorAct { endpoint: "bundle/import", method: "POST", decision, image: name.to_owned(), reasons };
        if act.record(&self.audit, caller, self.clock.now()).await { Ok(()) } else { Err(ImportFailure::Audit) }
    }
}

/// What a judgement means for an import, with the reasons if it is no admission.
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

fn kept_note(tag: TagImport) -> Option<String> {
    match tag {
        TagImport::Set => None,
        TagImport::Newer(digest) => {
            Some(format!("the tag was seen later than in the bundle to refer to {digest}; --force replaces that"))
        }
    }
}

/// The manifests that lead from this one to others, directly or through indexes.
fn reached(root: Digest, manifests: &Manifests) -> BTreeSet<Digest> {
    let (mut reached, mut open) = (BTreeSet::new(), vec![root]);
    while let Some(digest) = open.pop() {
        if reached.insert(digest)
            && let Some(manifest) = manifests.get(&digest)
        {
            open.extend(manifest.children().iter().map(|child| child.digest));
        }
    }
    reached
}
