//! Selects the images that decide about an index: those of the relevant platforms.
//!
//! Pulling the image of another platform does not add it; otherwise any client could change the result for an index by
//! a pull.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use crate::gate::{GateError, Target};
use crate::oci::{Content, Descriptor, Digest, Manifest, Platform, media_type};
use crate::resolve::{ResolveError, Resolver};
use crate::upstream;

/// The maximum number of children of an index that one request examines.
const MAX_CHILDREN: usize = 32;
/// The maximum number of manifests that one request reads to resolve an index: nested indexes, and images listed
/// without a platform.
const MAX_OPENED: usize = 32;
/// The maximum nesting depth of indexes.
const MAX_DEPTH: usize = 4;

/// What to fetch of an index for some platforms.
#[derive(Clone, Debug, Default)]
pub struct IndexParts {
    /// The images, and the nested indexes that lead to them: each index before what it lists.
    pub digests: Vec<Digest>,
    /// The platforms of all images that the index lists, chosen or not.
    pub platforms: Vec<Platform>,
}

/// The images that an index lists, directly or in nested indexes.
#[derive(Default)]
struct ListedImages {
    images: Vec<Descriptor>,
    /// What nested indexes list, each with the index that lists it, which comes before those that it lists.
    nested: Vec<(Digest, Digest)>,
    /// Why a part of it cannot be read.
    missing: Option<GateError>,
}

/// Selects the images that decide about an index.
pub(in crate::gate) struct Platforms {
    resolver: Resolver,
    configured: Vec<Platform>,
}

impl Platforms {
    /// `configured` are the configured platforms; if empty, this machine's platform is used.
    pub(in crate::gate) fn new(resolver: Resolver, configured: Vec<Platform>) -> Self {
        Self { resolver, configured }
    }

    /// The platforms that the configuration names.
    pub(in crate::gate) fn configured(&self) -> &[Platform] {
        &self.configured
    }

    /// The image of an index for a client that does not accept indexes: of a configured platform, otherwise of this
    /// machine's. Only the platforms that the index itself states are considered.
    pub(in crate::gate) fn default_child(&self, index: &Manifest) -> Option<Digest> {
        let children = relevant(index.children(), &[], &self.configured);
        let is_image = |child: &&Descriptor| !media_type::is_index(&media_type::essence(&child.media_type));
        children.iter().find(is_image).map(|child| child.digest)
    }

    /// The relevant children of an index; see [`relevant`]. Nested indexes are resolved. An image that is listed
    /// without a platform has the platform of its configuration, as clients interpret it.
    ///
    /// # Errors
    /// If a required manifest or configuration cannot be read now.
    pub(in crate::gate) async fn relevant_children(
        &self,
        target: &Target,
        manifest: &Manifest,
    ) -> Result<Vec<Descriptor>, GateError> {
        if manifest.children().is_empty() {
            return Ok(Vec::new());
        }
        let pulled = self.resolver.pulled_children(&target.name, manifest).await?;
        self.images_of(target, manifest).await?.relevant(&pulled, &self.configured)
    }

    /// The parts of an index for these platforms. For none, its relevant children, with the indexes that lead to them.
    ///
    /// # Errors
    /// If a required manifest or configuration cannot be read now.
    pub(in crate::gate) async fn parts(
        &self,
        target: &Target,
        index: &Manifest,
        wanted: &[Platform],
    ) -> Result<IndexParts, GateError> {
        if index.children().is_empty() {
            return Ok(IndexParts::default());
        }
        let mut listed = self.images_of(target, index).await?;
        let is_wanted = |has: &Platform| wanted.iter().any(|wanted| wanted.includes(has));
        let chosen = match wanted {
            [] => {
                let pulled = self.resolver.pulled_children(&target.name, index).await?;
                listed.relevant(&pulled, &self.configured)?
            }
            _ => {
                let is_chosen = |image: &&Descriptor| image.platform.as_ref().is_some_and(is_wanted);
                let chosen = listed.images.iter().filter(is_chosen).cloned().collect();
                listed.or_missing(chosen)?
            }
        };
        let digests = listed.with_indexes(&chosen);
        Ok(IndexParts { digests, platforms: listed.images.into_iter().filter_map(|image| image.platform).collect() })
    }

    /// The images that an index lists, directly or in nested indexes, with the platforms from its entries or from the
    /// images' configurations.
    async fn images_of(&self, target: &Target, index: &Manifest) -> Result<ListedImages, GateError> {
        let mut open: VecDeque<(Descriptor, usize)> = index.children().iter().map(|child| (child.clone(), 1)).collect();
        let (mut listed, mut opened) = (ListedImages::default(), 0);
        while let Some((mut child, depth)) = open.pop_front() {
            if is_image_of_a_platform(&child) {
                listed.images.push(child);
                continue;
            }
            opened += 1;
            if opened > MAX_OPENED {
                break;
            }
            let manifest = match manifest_if_there(&self.resolver, target, child.digest).await {
                Ok(Some(manifest)) => manifest,
                // Clients cannot pull it, so it does not decide.
                Ok(None) | Err(GateError::Resolve(ResolveError::Refused(_))) => continue,
                // Whether it lists a relevant image is not known: a bundle carries only the parts for some platforms.
                Err(GateError::Resolve(error)) if is_out_of_reach(target, &error) => {
                    listed.missing = Some(error.into());
                    continue;
                }
                Err(error) => return Err(error),
            };
            if let Content::Index(children) = &manifest.content {
                let within = children.iter().filter(|_| depth < MAX_DEPTH);
                // A client follows an index entry that has a platform only for that platform.
                let inherits = |nested: &Descriptor| Descriptor {
                    platform: nested.platform.clone().or_else(|| child.platform.clone()),
                    ..nested.clone()
                };
                listed.nested.extend(children.iter().map(|nested| (nested.digest, child.digest)));
                open.extend(within.map(|nested| (inherits(nested), depth + 1)));
                continue;
            }
            if child.platform.is_none() {
                child.platform = match target.known_only {
                    true => self.resolver.known_platform(&manifest).await,
                    false => self.resolver.platform(&target.upstream, &target.name, &manifest).await?,
                };
            }
            listed.images.push(child);
        }
        Ok(listed)
    }
}

impl ListedImages {
    /// The relevant images.
    fn relevant(&mut self, pulled: &[Digest], platforms: &[Platform]) -> Result<Vec<Descriptor>, GateError> {
        let chosen = relevant(&self.images, pulled, platforms);
        self.or_missing(chosen)
    }

    /// These images. If there are none but a part is missing, the result is unknown rather than empty.
    fn or_missing(&mut self, chosen: Vec<Descriptor>) -> Result<Vec<Descriptor>, GateError> {
        if chosen.is_empty() { self.missing.take().map_or(Ok(chosen), Err) } else { Ok(chosen) }
    }

    /// The digests of these images, after those of the nested indexes that lead to them.
    fn with_indexes(&self, images: &[Descriptor]) -> Vec<Digest> {
        let images: Vec<Digest> = images.iter().map(|image| image.digest).collect();
        let mut needed: BTreeSet<Digest> = images.iter().copied().collect();
        for (listed, index) in self.nested.iter().rev() {
            if needed.contains(listed) {
                needed.insert(*index);
            }
        }
        let indexes = self.nested.iter().map(|(_, index)| *index);
        indexes.chain(images).filter(|digest| needed.remove(digest)).collect()
    }
}

/// The manifest, or `None` if the upstream does not have it. A mirror may hold an index without the images of every
/// platform. An image that the upstream does not have cannot be pulled, so it does not affect the result for the index.
pub(in crate::gate) async fn manifest_if_there(
    resolver: &Resolver,
    target: &Target,
    digest: Digest,
) -> Result<Option<Arc<Manifest>>, GateError> {
    if target.known_only {
        let known = resolver.known_manifest(&target.name, digest).await;
        return known.map(Some).ok_or_else(|| ResolveError::NotKnown.into());
    }
    match resolver.manifest(&target.upstream, &target.name, digest).await {
        Ok(manifest) => Ok(Some(manifest)),
        Err(ResolveError::NotFound(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Whether something is missing that only an import can bring.
pub(super) fn is_out_of_reach(target: &Target, error: &ResolveError) -> bool {
    match error {
        ResolveError::Upstream(upstream::Error::Offline { .. }) => true,
        ResolveError::NotKnown => target.upstream.config().offline,
        _ => false,
    }
}

fn is_image_of_a_platform(child: &Descriptor) -> bool {
    child.platform.is_some() && !media_type::is_index(&media_type::essence(&child.media_type))
}

/// The children that decide about an index: those of the configured platforms; if there are none, those of this
/// machine's platform; if there are none either, those that were pulled through the gate. Each other child is judged
/// when it is pulled.
pub(in crate::gate) fn relevant(children: &[Descriptor], pulled: &[Digest], platforms: &[Platform]) -> Vec<Descriptor> {
    let of = |wanted: &[Platform]| {
        let is_wanted = |has: &Platform| !has.is_unknown() && wanted.iter().any(|wanted| wanted.includes(has));
        choose(children, |child| child.platform.as_ref().is_some_and(is_wanted))
    };
    let mut chosen = of(platforms);
    if chosen.is_empty() {
        chosen = of(&[Platform::here()]);
    }
    if chosen.is_empty() {
        let is_attestation = |child: &Descriptor| child.platform.as_ref().is_some_and(Platform::is_unknown);
        chosen = choose(children, |child| pulled.contains(&child.digest) && !is_attestation(child));
    }
    chosen
}

/// Limits the number of children: one request must not use up a pull quota.
fn choose(children: &[Descriptor], is_wanted: impl Fn(&Descriptor) -> bool) -> Vec<Descriptor> {
    children.iter().filter(|child| is_wanted(child)).take(MAX_CHILDREN).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(platform: &str) -> Descriptor {
        Descriptor {
            media_type: String::new(),
            digest: Digest::sha256(platform.as_bytes()),
            size: 1,
            platform: platform.parse().ok(),
            artifact_type: None,
            urls: Vec::new(),
            has_data: false,
            annotations: Vec::new(),
        }
    }

    fn chosen(children: &[Descriptor], pulled: &[&Descriptor], platforms: &[&str]) -> Vec<String> {
        let pulled: Vec<_> = pulled.iter().map(|child| child.digest).collect();
        let platforms: Vec<_> = platforms.iter().map(|p| p.parse().unwrap()).collect();
        let relevant = relevant(children, &pulled, &platforms);
        relevant.iter().map(|child| child.platform.as_ref().unwrap().to_string()).collect()
    }

    #[test]
    fn relevant_children() {
        let here = Platform::here().to_string();
        let children = [child(&here), child("linux/mips64le"), child("linux/arm/v6"), child("unknown/unknown")];
        let [_, pulled, ..] = &children;
        assert_eq!(chosen(&children, &[], &[]), [&*here], "no configured platform: this machine's");
        assert_eq!(chosen(&children, &[pulled], &[]), [&*here], "a pull changes nothing");
        assert_eq!(chosen(&children, &[], &["linux/arm"]), ["linux/arm/v6"], "the configured platform");
        assert_eq!(
            chosen(&children, &[pulled], &["linux/arm/v7"]),
            ["linux/arm/v6"],
            "a pull changes nothing here either"
        );
        assert_eq!(
            chosen(&children, &[], &["windows/amd64"]),
            [&*here],
            "a configured platform without an image has no effect"
        );
        assert_eq!(chosen(&children, &[], &["unknown/unknown"]), [&*here], "an attestation is not an image");
    }

    #[test]
    fn pulled_images_decide_if_no_platform_matches() {
        let children = [child("linux/mips64le"), child("plan9/386"), child("unknown/unknown")];
        let [pulled, _, attestation] = &children;
        assert_eq!(chosen(&children, &[], &[]), [""; 0]);
        assert_eq!(chosen(&children, &[pulled, attestation], &[]), ["linux/mips64le"]);
    }

    #[test]
    fn nested_indexes_come_before_what_they_list() {
        let [image, other, inner, outer, unrelated] = ["linux/amd64", "linux/arm64", "a", "b", "c"].map(child);
        let nested = [(&inner, &outer), (&other, &unrelated), (&image, &inner), (&image, &outer)];
        let nested = nested.map(|(listed, index)| (listed.digest, index.digest)).to_vec();
        let listed = ListedImages { images: vec![image.clone(), other, image.clone()], nested, missing: None };
        let parts = listed.with_indexes(&[image.clone(), image.clone()]);
        assert_eq!(parts, [outer.digest, inner.digest, image.digest]);
    }

    #[test]
    fn a_request_examines_a_limited_number_of_children() {
        let children = vec![child(&Platform::here().to_string()); 100];
        assert_eq!(chosen(&children, &[], &[]).len(), MAX_CHILDREN);
    }

    #[test]
    fn an_attestation_does_not_stand_for_a_part_that_is_missing() {
        let listed = |image: &str| ListedImages {
            images: vec![child(image)],
            missing: Some(ResolveError::NotKnown.into()),
            ..ListedImages::default()
        };
        assert!(listed("unknown/unknown").relevant(&[], &[]).is_err());
        assert_eq!(listed(&Platform::here().to_string()).relevant(&[], &[]).unwrap().len(), 1);
    }
}
