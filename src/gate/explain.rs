//! What the gate knows about images, without serving them. Used by `pullgate check`, `va` and `images`.

use std::sync::Arc;

use jiff::Timestamp;

use super::judgement::EntryFinding;
use super::{Gate, GateError, Target};
use crate::oci::{Content, Digest, ImageName, Manifest, Reference, Tag};
use crate::policy::{Denial, Kind, Observed, Opinion, TrustFindings, VaEvidence, VaExemptions, VaFindings};
use crate::scope::Scope;
use crate::store::KnownImage;
use crate::va::VaSubject;

/// A judgement of one image with all findings.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// Upstream, repository and reference, with the upstream's own host name.
    pub image: String,
    /// The scope whose rules apply.
    pub scope: Scope,
    /// The digest that was judged; `None` if nothing was resolved.
    pub digest: Option<Digest>,
    /// What the manifest is.
    pub kind: Option<Kind>,
    /// The checks that the deciding entry requires but that were skipped because of the kind.
    pub skipped: Vec<&'static str>,
    /// The decision.
    pub decision: ExplainedDecision,
    /// Denials that are not enforced: those of a gate in audit mode, and those of audited documents.
    pub would_deny: Vec<Denial>,
    /// Every entry that applies to the image: the enforced entries, then the audited ones.
    pub entries: Vec<ExplainedEntry>,
    /// When the decision was made.
    pub at: Timestamp,
}

/// The decision of an [`Explanation`].
#[derive(Clone, Debug)]
pub enum ExplainedDecision {
    /// The image is served.
    Admitted,
    /// The image is served; the denial is only reported, because the gate is in audit mode.
    OnlyReported(Denial),
    /// The image is not served.
    Denied(Denial),
}

/// One entry and the findings for it.
#[derive(Clone, Debug)]
pub struct ExplainedEntry {
    /// The entry, and whether it admits the image.
    pub opinion: Opinion,
    /// Whether the entry is in audit mode.
    pub is_audited: bool,
    /// The findings about signatures.
    pub trust: TrustFindings,
    /// The findings about vulnerabilities; `None` if they were not checked.
    pub va: Option<VaFindings>,
    /// The exemptions that apply.
    pub exemptions: VaExemptions,
}

/// One known tag.
#[derive(Clone, Debug)]
pub struct KnownTag {
    /// Upstream and repository.
    pub name: ImageName,
    /// The tag.
    pub tag: Tag,
    /// The digest that the tag resolves to.
    pub digest: Digest,
    /// When the image was created according to its configuration (RFC 3339); `None` if unknown.
    pub created: Option<String>,
    /// The total size of all layers in bytes; `None` if unknown.
    pub size: Option<u64>,
    /// What is known about the image's vulnerabilities; `None` if the image that the tag resolves to is not known.
    pub assessment: Option<Arc<Observed<VaEvidence>>>,
}

impl Gate {
    /// Judges an image for a scope and returns all findings.
    ///
    /// # Errors
    /// If the image cannot be judged: the upstream or the image is unknown, or the upstream does not respond.
    pub async fn explain(&self, target: &Target, reference: &Reference) -> Result<Explanation, GateError> {
        let judgement = self.judge.judge(target, reference).await?;
        let judged = judgement.judged.as_ref();
        let decision = match &judgement.decision {
            Ok(permit) => match permit.would_deny().first() {
                Some(denial) if permit.is_only_reported() => ExplainedDecision::OnlyReported(denial.clone()),
                _ => ExplainedDecision::Admitted,
            },
            Err(denial) => ExplainedDecision::Denied(denial.clone()),
        };
        let (digest, kind) = (judged.map(|judged| judged.manifest.digest), judged.map(|judged| judged.kind.kind));
        let (skipped, would_deny) = (judgement.skipped(), judgement.would_deny().into_iter().cloned().collect());
        let explain = |is_audited| move |finding| ExplainedEntry::new(finding, is_audited);
        let enforced = judgement.enforced.into_iter().map(explain(false));
        Ok(Explanation {
            image: target.describe(reference),
            scope: target.scope.clone(),
            digest,
            kind,
            skipped,
            decision,
            would_deny,
            entries: enforced.chain(judgement.audited.into_iter().map(explain(true))).collect(),
            at: judgement.at,
        })
    }

    /// All known tags and what is known about each. Sends no upstream requests.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn images(&self) -> Result<Vec<KnownTag>, GateError> {
        let mut listed = Vec::new();
        for KnownImage { name, tag, digest } in self.resolver.images().await? {
            let image = self.known_image(&name, digest).await;
            let assessment = match &image {
                Some((manifest, _)) => self.known_assessment(&name, manifest).await,
                None => None,
            };
            let size = image.as_ref().map(|(manifest, _)| size_of(manifest));
            let created = image.and_then(|(_, created)| created);
            listed.push(KnownTag { name, tag, digest, created, size, assessment });
        }
        Ok(listed)
    }

    /// The image with this digest, or the first relevant child of an index, with its creation date. Reads only local
    /// data.
    async fn known_image(&self, name: &ImageName, digest: Digest) -> Option<(Arc<Manifest>, Option<String>)> {
        let mut manifest = self.resolver.known_manifest(name, digest).await?;
        if !manifest.children().is_empty() {
            let pulled = self.resolver.pulled_children(name, &manifest).await.unwrap_or_default();
            let children = super::platforms::relevant(manifest.children(), &pulled, self.platforms());
            manifest = self.resolver.known_manifest(name, children.first()?.digest).await?;
        }
        let Content::Image { config, .. } = &manifest.content else { return None };
        let bytes = self.cache.peek(config.digest, 1024 * 1024).await;
        let created = bytes.and_then(|bytes| oci_spec::image::ImageConfiguration::from_reader(&*bytes).ok());
        let created = created.and_then(|configuration| configuration.created().clone());
        Some((manifest, created))
    }

    /// What is currently known about an image's vulnerabilities. Reads no layers.
    async fn known_assessment(&self, name: &ImageName, manifest: &Arc<Manifest>) -> Option<Arc<Observed<VaEvidence>>> {
        let subject = VaSubject::new(name.clone(), manifest.clone())?;
        Some(self.judge.evidence.va.evidence(&subject).await)
    }
}

impl ExplainedEntry {
    fn new(finding: EntryFinding, is_audited: bool) -> Self {
        let EntryFinding { opinion, evidence } = finding;
        Self { opinion, is_audited, trust: evidence.trust, va: evidence.va, exemptions: evidence.exemptions }
    }
}

fn size_of(manifest: &Manifest) -> u64 {
    match &manifest.content {
        Content::Image { layers, .. } => layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add),
        Content::Index(_) => 0,
    }
}
