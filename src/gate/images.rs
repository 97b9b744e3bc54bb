//! The images that the gate knows, without asking any registry. Used by `pullgate images` and the account's reports.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};

use super::{AppliedVaRule, Gate, GateError, ScannedImage};
use crate::oci::{Content, Digest, ImageName, Manifest, Tag};
use crate::policy::{Observed, VaEvidence};
use crate::scope::Scope;
use crate::store::{KnownImage, TagPosition};
use crate::va::VaSubject;

/// How many images are looked up at the same time.
const AT_ONCE: usize = 8;
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
}

/// Which known tags are listed, in the order of registries, repositories and tags.
#[derive(Clone, Debug, Default)]
pub struct ImageQuery {
    /// Only repositories that are [selected](ImageName::is_selected_by) by this.
    pub restrict: Option<String>,
    /// Only tags after this one.
    pub after: Option<TagPosition>,
    /// The most tags; `None` for all.
    pub limit: Option<usize>,
    /// The time after which the list ends early, but not before its first tag; `None` for no limit.
    pub within: Option<Duration>,
    /// Leave out what is known about vulnerabilities, which takes most of the time.
    pub without_va: bool,
}

/// A part of the list of known tags.
#[derive(Clone, Debug)]
pub struct KnownTags {
    /// The tags, ordered by registry, repository and tag.
    pub tags: Vec<KnownTag>,
    /// Whether more tags follow.
    pub has_more: bool,
}

impl KnownTags {
    /// What `answer` says about each tag, which may take long, until a time, but at least about the first. Then the list
    /// ends there, and more tags follow.
    pub fn answered<T>(mut self, until: Option<Instant>, answer: impl Fn(&KnownTag) -> T) -> (Self, Vec<T>) {
        let mut answers = Vec::with_capacity(self.tags.len());
        for tag in &self.tags {
            answers.push(answer(tag));
            if until.is_some_and(|until| Instant::now() >= until) {
                break;
            }
        }
        self.has_more |= answers.len() < self.tags.len();
        self.tags.truncate(answers.len());
        (self, answers)
    }
}

impl Gate {
    /// The known tags and what is known about each. Sends no requests to upstreams and reads no layers.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn images(&self, query: &ImageQuery) -> Result<KnownTags, GateError> {
        let limit = query.limit.unwrap_or(usize::MAX);
        let images = self.selected(query, limit.saturating_add(1)).await?;
        let matching = images.len();
        let look_up = images.into_iter().take(limit).map(|image| self.known_tag(image, query.without_va));
        let (mut look_up, mut tags) = (stream::iter(look_up).buffered(AT_ONCE), Vec::new());
        let end = query.within.map(|within| Instant::now() + within);
        while let Some(tag) = look_up.next().await {
            tags.push(tag);
            if end.is_some_and(|end| Instant::now() >= end) {
                break;
            }
        }
        Ok(KnownTags { has_more: tags.len() < matching, tags })
    }

    /// The first known tags that a query selects, at most `most`.
    async fn selected(&self, query: &ImageQuery, most: usize) -> Result<Vec<KnownImage>, GateError> {
        let (mut after, mut images) = (query.after.clone(), Vec::new());
        // Of a restricted list, most tags that are read may not be wanted.
        let at_once = if query.restrict.is_some() { READ_AT_ONCE } else { READ_AT_ONCE.min(most) };
        while images.len() < most {
            let read = self.resolver.images(after.as_ref(), at_once).await?;
            let Some(last) = read.last() else { break };
            after = Some(last.position());
            let is_wanted =
                |image: &KnownImage| query.restrict.as_ref().is_none_or(|restrict| image.name.is_selected_by(restrict));
            images.extend(read.into_iter().filter(is_wanted));
        }
        images.truncate(most);
        Ok(images)
    }

    async fn known_tag(&self, image: KnownImage, without_va: bool) -> KnownTag {
        let images = self.known_images(&image.name, image.digest).await;
        let created = match images.first() {
            Some(first) => self.created(first).await,
            None => None,
        };
        let mut assessments = Vec::new();
        for manifest in images.iter().filter(|_| !without_va) {
            assessments.extend(self.known_assessment(&image, manifest).await);
        }
        let size = images.first().map(|manifest| size_of(manifest));
        let KnownImage { name, tag, digest } = image;
        KnownTag { name, tag, digest, created, size, assessments }
    }

    /// An assessed image of a known tag, with what is installed in it as far as that is known. Reads no layers.
    pub async fn known_scan(&self, name: &ImageName, known: &KnownAssessment) -> ScannedImage {
        let unknown = || "the layers were not read".to_owned();
        let inventory = match self.resolver.known_manifest(name, known.digest).await {
            Some(manifest) => match VaSubject::new(name.clone(), manifest) {
                Some(subject) => self.judge.evidence.va.scanner().inventory(&subject).await,
                None => Ok(None),
            },
            None => Ok(None),
        };
        let inventory = inventory.map_err(|error| error.to_string()).and_then(|found| found.ok_or_else(unknown));
        ScannedImage { digest: known.digest, platform: None, evidence: known.evidence.clone(), inventory }
    }

    /// The image with this digest, or the relevant children of an index. Reads only local data.
    async fn known_images(&self, name: &ImageName, digest: Digest) -> Vec<Arc<Manifest>> {
        let Some(manifest) = self.resolver.known_manifest(name, digest).await else { return Vec::new() };
        if let Content::Image { .. } = &manifest.content {
            return vec![manifest];
        }
        let pulled = self.resolver.pulled_children(name, &manifest).await.unwrap_or_default();
        let mut images = Vec::new();
        for child in super::platforms::relevant(manifest.children(), &pulled, self.platforms()) {
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

    /// What a pull by the tag would find, as far as that is known. Reads no layers.
    async fn known_assessment(&self, tag: &KnownImage, manifest: &Arc<Manifest>) -> Option<KnownAssessment> {
        let target = self.router.known_target(&tag.name, &Scope::default())?;
        let (subject, rule) = self.known_rule(&tag.name, &tag.tag);
        let known = self.judge.evidence.known(&target, &subject, &rule, tag.digest, manifest).await;
        let (evidence, exemptions, history) = known
            .inspect_err(
                |error| tracing::warn!(%error, image = %subject, "what is known about an image cannot be read"),
            )
            .ok()?;
        let applied = AppliedVaRule { rule, exemptions, history, at: self.clock.now() };
        Some(KnownAssessment { digest: manifest.digest, evidence, applied })
    }
}

fn size_of(manifest: &Manifest) -> u64 {
    match &manifest.content {
        Content::Image { layers, .. } => layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add),
        Content::Index(_) => 0,
    }
}
