//! Caches in front of the store, bounded in bytes, because peers can cause names and lists of any length.

use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::Timestamp;

use super::facts::{Known, TagFilter, UnseenChild};
use crate::oci::{Digest, ImageName, Manifest, Tag};
use crate::runtime::{ALLOCATION, Bounded, Noted, budget};

/// The time for which the tags of a digest are cached. It is limited because the window of `tag_memory` advances.
const TAGS_TTL: Duration = Duration::from_secs(60);
/// The memory that one parsed descriptor takes with its strings, in bytes, measured on indexes of ten platforms.
const DESCRIPTOR_WEIGHT: usize = 400;
/// A digest in a repository: a manifest or content that a manifest references.
pub(super) type MemberKey = (ImageName, Digest);

pub(super) struct Memory {
    /// The digests of tags, and the times of their lookups.
    pub(super) tags: Bounded<(ImageName, Tag), (Digest, Timestamp)>,
    /// The tags that may be in the store. It is not updated when the store forgets tags.
    pub(super) tag_filter: TagFilter,
    /// Manifests that the repository delivered.
    pub(super) manifests: Bounded<MemberKey, Option<Known>>,
    /// The manifests that reference a digest.
    pub(super) naming: Bounded<MemberKey, Arc<[Digest]>>,
    /// The tags of a digest, and the time when they were read.
    pub(super) known_tags: Bounded<MemberKey, (Arc<[Tag]>, Instant)>,
    /// Whether a manifest was served.
    pub(super) pulled: Bounded<MemberKey, bool>,
    /// Children that were never fetched, and the requested limit.
    pub(super) unseen: Bounded<ImageName, (u32, Arc<[UnseenChild]>)>,
    /// The pulls that were recorded recently.
    pub(super) pulls: Noted,
}

impl Memory {
    pub(super) fn new() -> Self {
        Self {
            tag_filter: TagFilter::new(),
            tags: Bounded::new(budget::TAGS, |(name, tag), _| name_weight(name) + ALLOCATION + tag.as_str().len()),
            manifests: Bounded::new(budget::DELIVERED, |(name, _), _| name_weight(name)),
            naming: Bounded::new(budget::NAMING, |(name, _), naming| {
                name_weight(name) + ALLOCATION + size_of_val(&**naming)
            }),
            known_tags: Bounded::new(budget::KNOWN_TAGS, |(name, _), (tags, _)| {
                let text = |tag: &Tag| size_of::<Tag>() + ALLOCATION + tag.as_str().len();
                name_weight(name) + ALLOCATION + tags.iter().map(text).sum::<usize>()
            }),
            pulled: Bounded::new(budget::PULLED, |(name, _), _| name_weight(name)),
            unseen: Bounded::new(budget::UNSEEN, |name, (_, unseen)| {
                name_weight(name) + ALLOCATION + size_of_val(&**unseen)
            }),
            pulls: Noted::new(budget::NOTED_PULLS),
        }
    }

    /// Drops everything that was read from the store.
    pub(super) fn clear(&self) {
        self.tags.clear();
        self.manifests.clear();
        self.naming.clear();
        self.known_tags.clear();
        self.pulled.clear();
        self.unseen.clear();
        self.pulls.clear();
    }

    /// The tags of a digest, if they were read recently.
    pub(super) fn known_tags(&self, key: &MemberKey) -> Option<Arc<[Tag]>> {
        let (tags, read) = self.known_tags.get(key)?;
        (read.elapsed() < TAGS_TTL).then_some(tags)
    }
}

/// The memory that a name takes outside of a key, in bytes.
pub(crate) fn name_weight(name: &ImageName) -> usize {
    2 * ALLOCATION + name.host.as_str().len() + name.repository.as_str().len()
}

/// The approximate memory of a manifest: its bytes and the parsed data.
pub(crate) fn manifest_weight(manifest: &Manifest) -> usize {
    size_of::<Manifest>() + manifest.bytes.len() + manifest.descriptors().count() * DESCRIPTOR_WEIGHT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn size_of_lists_is_counted() {
        let memory = Memory::new();
        let name = ImageName { host: "a.io".parse().unwrap(), repository: "x".parse().unwrap() };
        let long: Arc<[Digest]> = vec![Digest::sha256(b"x"); 100].into();
        let key = |number: u32| (name.clone(), Digest::sha256(&number.to_be_bytes()));
        for number in 0..10_000 {
            memory.naming.insert(key(number), long.clone());
        }
        assert!(memory.naming.bytes() <= budget::NAMING);
        let kept = (0..10_000).filter(|number| memory.naming.get(&key(*number)).is_some()).count();
        assert!(kept < 1000, "{kept}");
    }
}
