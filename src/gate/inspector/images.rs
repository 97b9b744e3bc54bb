//! The images that the gate knows, without asking any registry. Used by `pullgate images` and the account's reports.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};
use jiff::Timestamp;

use super::Inspector;
use crate::gate::judge::platforms::relevant;
use crate::gate::{AppliedVaRule, GateError};
use crate::inventory::LinuxDistribution;
use crate::oci::{Content, Digest, ImageName, Manifest, Tag};
use crate::policy::{Observed, VaEvidence};
use crate::scope::Scope;
use crate::store::{KnownImage, TagPosition};
use crate::va::VaSubject;

/// How many images are looked up at the same time.
const AT_ONCE: usize = 8;
/// How many looked-up images wait for their answer. The facts about one may take megabytes, so those of a whole page
/// are never in memory.
const WAITING: usize = 2;
/// How many known tags are read from the database at once.
const READ_AT_ONCE: usize = 1000;

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
    /// What is known about the vulnerabilities of the image, or of each relevant image of an index. Empty if the image
    /// that the tag resolves to is not known, or was not asked for.
    pub assessments: Vec<KnownAssessment>,
}

/// What is known about the vulnerabilities of an image, and what they mean for a pull by a known tag.
#[derive(Clone, Debug)]
pub struct KnownAssessment {
    /// The digest of the image; of an image of an index, its own.
    pub digest: Digest,
    /// What is known.
    pub evidence: Arc<Observed<VaEvidence>>,
    /// The rule and the exemptions that apply.
    pub applied: AppliedVaRule,
    /// The distribution that the gate has read in the image. Only looked up if it was asked for.
    pub distribution: Option<LinuxDistribution>,
}

impl KnownAssessment {
    /// When the image was scanned: when the report was made, or when the gate's own scanner looked vulnerabilities up.
    pub fn scanned_at(&self) -> Timestamp {
        let made =
            self.evidence.value.report().filter(|report| !report.is_own()).and_then(|report| report.generated_at);
        made.unwrap_or(self.evidence.at)
    }
}

/// Which known tags are listed, in the order of registries, repositories and tags.
#[derive(Clone, Debug, Default)]
pub struct ImageQuery {
    /// Only repositories that are [selected](ImageName::is_selected_by) by this.
    pub restrict: Option<String>,
    /// Only tags after this one.
    pub after: Option<TagPosition>,
    /// The maximum number of tags; `None` for all.
    pub limit: Option<usize>,
    /// The time after which the list ends early, but not before its first tag; `None` for no limit.
    pub within: Option<Duration>,
    /// Leave out what is known about vulnerabilities, which takes most of the time.
    pub without_va: bool,
    /// Also look up the distribution of each image.
    pub with_distribution: bool,
}

/// Answers about a part of the list of known tags.
#[derive(Clone, Debug)]
pub struct KnownTags<T> {
    /// An answer about each tag, ordered by registry, repository and tag.
    pub answers: Vec<T>,
    /// The place of the last tag, if more follow.
    pub next: Option<TagPosition>,
}

impl<T> Default for KnownTags<T> {
    fn default() -> Self {
        Self { answers: Vec::new(), next: None }
    }
}

impl Inspector {
    /// What `answer` says about each known tag that a query selects. Sends no requests to upstreams and reads no
    /// layers.
    ///
    /// Each tag is answered as soon as it is looked up, away from the threads that serve requests: what is known about
    /// all of them may not fit into memory.
    ///
    /// # Errors
    /// If the database cannot be read, or an answer ended abnormally.
    pub async fn images<T: Send + 'static>(
        &self,
        query: &ImageQuery,
        answer: impl Fn(&KnownTag) -> T + Send + Sync + 'static,
    ) -> Result<KnownTags<T>, GateError> {
        let limit = query.limit.unwrap_or(usize::MAX);
        let images = self.selected(query, limit.saturating_add(1)).await?;
        let (matching, answer) = (images.len(), Arc::new(answer));
        let positions: Vec<TagPosition> = images.iter().map(KnownImage::position).collect();
        let look_up = images.into_iter().take(limit).map(|image| self.known_tag(image, query));
        let answered = stream::iter(look_up).buffered(AT_ONCE).map(|tag| self.answered(tag, answer.clone()));
        let (mut answered, mut answers) = (std::pin::pin!(answered.buffered(WAITING)), Vec::new());
        let end = query.within.map(|within| Instant::now() + within);
        while let Some(answer) = answered.next().await {
            answers.push(answer?);
            if end.is_some_and(|end| Instant::now() >= end) {
                break;
            }
        }
        let has_more = answers.len() < matching;
        let last = answers.len().checked_sub(1).filter(|_| has_more);
        Ok(KnownTags { next: last.and_then(|last| positions.into_iter().nth(last)), answers })
    }

    /// The answer about a tag. Only one about vulnerabilities may take long.
    async fn answered<T: Send + 'static>(
        &self,
        tag: KnownTag,
        answer: Arc<impl Fn(&KnownTag) -> T + Send + Sync + 'static>,
    ) -> Result<T, GateError> {
        if tag.assessments.is_empty() {
            return Ok(answer(&tag));
        }
        let answered = self.answer_aside(move || answer(&tag)).await;
        answered.ok_or_else(|| GateError::Store("an assessment ended abnormally; see the log".to_owned()))
    }

    /// The first known tags that a query selects, at most `most`.
    async fn selected(&self, query: &ImageQuery, most: usize) -> Result<Vec<KnownImage>, GateError> {
        let (mut after, mut images) = (query.after.clone(), Vec::new());
        let restrict = query.restrict.as_deref().map(|restrict| self.router.without_alias(restrict));
        // In a restricted list, most of the tags that are read may be unwanted.
        let at_once = if restrict.is_some() { READ_AT_ONCE } else { READ_AT_ONCE.min(most) };
        while images.len() < most {
            let read = self.resolver.images(after.as_ref(), at_once).await?;
            let Some(last) = read.last() else { break };
            after = Some(last.position());
            let is_wanted =
                |image: &KnownImage| restrict.as_ref().is_none_or(|restrict| image.name.is_selected_by(restrict));
            images.extend(read.into_iter().filter(is_wanted));
        }
        images.truncate(most);
        Ok(images)
    }

    async fn known_tag(&self, image: KnownImage, query: &ImageQuery) -> KnownTag {
        let images = self.known_images(&image.name, image.digest).await;
        let created = match images.first() {
            Some(first) => self.created(first).await,
            None => None,
        };
        let mut assessments = Vec::new();
        for manifest in images.iter().filter(|_| !query.without_va) {
            assessments.extend(self.known_assessment(&image, manifest, query.with_distribution).await);
        }
        let size = images.first().map(|manifest| size_of(manifest));
        let KnownImage { name, tag, digest } = image;
        KnownTag { name, tag, digest, created, size, assessments }
    }

    /// The image with this digest, or the relevant children of an index. Reads only local data.
    async fn known_images(&self, name: &ImageName, digest: Digest) -> Vec<Arc<Manifest>> {
        let Some(manifest) = self.resolver.known_manifest(name, digest).await else { return Vec::new() };
        if let Content::Image { .. } = &manifest.content {
            return vec![manifest];
        }
        let pulled = self.resolver.pulled_children(name, &manifest).await.unwrap_or_default();
        let mut images = Vec::new();
        for child in relevant(manifest.children(), &pulled, self.platforms()) {
            let image = self.resolver.known_manifest(name, child.digest).await;
            images.extend(image.filter(|image| matches!(image.content, Content::Image { .. })));
        }
        images
    }

    /// When an image was created, as its configuration says.
    async fn created(&self, manifest: &Manifest) -> Option<String> {
        let Content::Image { config, .. } = &manifest.content else { return None };
        let bytes = self.cache.peek(config.digest, 1024 * 1024).await?;
        oci_spec::image::ImageConfiguration::from_reader(&*bytes).ok()?.created().clone()
    }

    /// The result of a pull by this tag, as far as it is known. Reads no layers.
    async fn known_assessment(
        &self,
        tag: &KnownImage,
        manifest: &Arc<Manifest>,
        with_distribution: bool,
    ) -> Option<KnownAssessment> {
        let target = self.router.known_target(&tag.name, &Scope::default())?;
        let (subject, rule) = self.known_rule(&tag.name, &tag.tag);
        let known = self.evidence.known(&target, &subject, &rule, tag.digest, manifest).await;
        let (evidence, exemptions, history) = known
            .inspect_err(
                |error| tracing::warn!(%error, image = %subject, "the stored facts about an image cannot be read"),
            )
            .ok()?;
        let applied = AppliedVaRule { rule, exemptions, history, at: self.clock.now() };
        let distribution = match VaSubject::new(tag.name.clone(), manifest.clone()).filter(|_| with_distribution) {
            Some(image) => self.va.scanner().distribution(&image).await,
            None => None,
        };
        Some(KnownAssessment { digest: manifest.digest, evidence, applied, distribution })
    }
}

fn size_of(manifest: &Manifest) -> u64 {
    match &manifest.content {
        Content::Image { layers, .. } => layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add),
        Content::Index(_) => 0,
    }
}
