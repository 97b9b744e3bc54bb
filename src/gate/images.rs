//! The images that the gate knows, without asking any registry. Used by `pullgate images` and the account's reports.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{StreamExt, stream};

use super::{Gate, GateError, ScannedImage};
use crate::oci::{Content, Digest, ImageName, Manifest, Tag};
use crate::policy::{Observed, VaEvidence};
use crate::store::KnownImage;
use crate::va::VaSubject;

/// How many images are looked up at the same time.
const AT_ONCE: usize = 8;

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
    /// What is known about the image's vulnerabilities; `None` if the image that the tag resolves to is not known, or
    /// was not asked for.
    pub assessment: Option<Arc<Observed<VaEvidence>>>,
}

/// Which known tags are listed, in the order of repositories and tags.
#[derive(Clone, Debug, Default)]
pub struct ImageQuery {
    /// Only repositories that [match](matches_restriction) this.
    pub restrict: Option<String>,
    /// Only tags after this repository (with its registry) and tag.
    pub after: Option<(String, String)>,
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
    /// The tags, ordered by repository and tag.
    pub tags: Vec<KnownTag>,
    /// Whether more tags follow.
    pub has_more: bool,
}

/// Whether a repository is selected: its name with the registry starts with the text, or its path in the registry is
/// this namespace or repository, or is below it. `acme` selects `icr.io/acme/app` and not `icr.io/acme-test/app`.
///
/// ```text
/// icr.io/acme/app   selected by: icr.io, icr.io/acme/a, acme, acme/app
/// ```
pub(super) fn matches_restriction(name: &ImageName, restrict: &str) -> bool {
    let path = name.repository.as_str();
    let is_below = path.strip_prefix(restrict.trim_end_matches('/'));
    name.to_string().starts_with(restrict) || is_below.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

impl Gate {
    /// The known tags and what is known about each. Sends no requests to upstreams and reads no layers.
    ///
    /// # Errors
    /// If the database cannot be read.
    pub async fn images(&self, query: &ImageQuery) -> Result<KnownTags, GateError> {
        let is_wanted = |image: &KnownImage| {
            query.restrict.as_ref().is_none_or(|restrict| matches_restriction(&image.name, restrict))
        };
        let mut images = self.resolver.images().await?;
        if let Some((repository, tag)) = &query.after {
            let is_listed = |image: &KnownImage| {
                (image.name.to_string().as_str(), image.tag.as_str()) <= (repository.as_str(), tag.as_str())
            };
            images.drain(..images.partition_point(is_listed));
        }
        images.retain(is_wanted);
        let (matching, limit) = (images.len(), query.limit.unwrap_or(usize::MAX));
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

    async fn known_tag(&self, image: KnownImage, without_va: bool) -> KnownTag {
        let KnownImage { name, tag, digest } = image;
        let image = self.known_image(&name, digest).await;
        let assessment = match &image {
            Some((manifest, _)) if !without_va => self.known_assessment(&name, manifest).await,
            _ => None,
        };
        let size = image.as_ref().map(|(manifest, _)| size_of(manifest));
        let created = image.and_then(|(_, created)| created);
        KnownTag { name, tag, digest, created, size, assessment }
    }

    /// The image of a known tag as far as it is known: its vulnerabilities and what is installed in it. Reads no layers.
    pub async fn known_scan(&self, name: &ImageName, digest: Digest) -> Option<ScannedImage> {
        let (manifest, _) = self.known_image(name, digest).await?;
        let subject = VaSubject::new(name.clone(), manifest.clone())?;
        Some(self.scan_subject(&subject, None).await)
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

fn size_of(manifest: &Manifest) -> u64 {
    match &manifest.content {
        Content::Image { layers, .. } => layers.iter().map(|layer| layer.size).fold(0, u64::saturating_add),
        Content::Index(_) => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn repositories_are_selected_by_prefix_or_by_namespace() {
        let name = ImageName { host: "icr.io".parse().unwrap(), repository: "acme/app".parse().unwrap() };
        for (restrict, is_selected) in [
            ("", true),
            ("icr.io", true),
            ("icr.io/acme/a", true),
            ("acme", true),
            ("acme/", true),
            ("acme/app", true),
            ("acm", false),
            ("acme/ap", false),
            ("app", false),
            ("quay.io", false),
        ] {
            assert_eq!(matches_restriction(&name, restrict), is_selected, "{restrict:?}");
        }
    }
}
