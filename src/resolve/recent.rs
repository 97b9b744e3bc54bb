//! Facts that are not in the store: manifests to which no request was admitted yet, and facts that could not be
//! written.
//!
//! Upstreams report the references of a manifest before it is judged, and a denied client can repeat its request any
//! number of times. Such facts are therefore kept in bounded memory and are written to the store when a request is
//! admitted.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;

use super::memory::manifest_weight;
use crate::oci::{Digest, ImageName, Manifest, Tag};
use crate::runtime::budget;

/// The maximum memory of the entries, in bytes.
const MAX_BYTES: usize = budget::RECENT as usize;
/// The maximum number of entries. It is limited because searches are linear.
const MAX_ENTRIES: usize = 1536;
/// The maximum number of tags that are remembered for one manifest.
const MAX_TAGS: usize = 100;
/// The memory that an entry and a tag take in addition to the manifest, in bytes.
const ENTRY_WEIGHT: usize = 1024;
const TAG_WEIGHT: usize = 256;

/// The facts, the most recently learned ones last.
#[derive(Default)]
pub(super) struct Recent {
    entries: VecDeque<RecentManifest>,
    bytes: usize,
    changes: u64,
    /// The number of entries that had to be written and were removed for lack of room.
    lost: u64,
}

/// The known facts about one manifest in one repository.
#[derive(Clone)]
pub(super) struct RecentManifest {
    pub(super) name: ImageName,
    pub(super) manifest: Arc<Manifest>,
    pub(super) seen: Timestamp,
    pub(super) tags: Vec<SeenTag>,
    /// The time when the manifest was served.
    pub(super) pulled: Option<Timestamp>,
    /// Whether the entry must be written to the store.
    pub(super) is_due: bool,
    /// Whether the manifest itself is in the store, and only the other facts are not.
    pub(super) is_stored: bool,
    /// Changes with every update, to detect an update during a write.
    change: u64,
}

/// A tag that was seen to refer to the manifest.
#[derive(Clone)]
pub(super) struct SeenTag {
    pub(super) tag: Tag,
    pub(super) at: Timestamp,
    /// Whether the tag was not seen to refer to another digest since.
    pub(super) is_current: bool,
}

impl RecentManifest {
    fn new(name: &ImageName, manifest: &Arc<Manifest>, seen: Timestamp) -> Self {
        Self {
            name: name.clone(),
            manifest: manifest.clone(),
            seen,
            tags: Vec::new(),
            pulled: None,
            is_due: false,
            is_stored: false,
            change: 0,
        }
    }

    /// Records that a tag refers to the manifest.
    pub(super) fn tag(&mut self, tag: &Tag, at: Timestamp) {
        self.tags.retain(|known| known.tag != *tag);
        if self.tags.len() == MAX_TAGS {
            self.tags.remove(0);
        }
        self.tags.push(SeenTag { tag: tag.clone(), at, is_current: true });
    }

    /// Records that a tag was signed for the manifest. The registry may say something else about the tag.
    pub(super) fn signed_tag(&mut self, tag: &Tag, at: Timestamp) {
        if !self.tags.iter().any(|known| known.tag == *tag && known.is_current) {
            self.tag(tag, at);
            self.tags.iter_mut().filter(|known| known.tag == *tag).for_each(|known| known.is_current = false);
        }
    }

    fn is(&self, name: &ImageName, digest: Digest) -> bool {
        self.manifest.digest == digest && self.name == *name
    }

    fn weight(&self) -> usize {
        manifest_weight(&self.manifest) + ENTRY_WEIGHT + self.tags.len() * TAG_WEIGHT
    }
}

impl Recent {
    /// Updates the facts about a manifest and returns the new facts. Removes other entries if there is no room, the
    /// oldest first. Entries that must be written are removed only after all others.
    pub(super) fn note(
        &mut self,
        name: &ImageName,
        manifest: &Arc<Manifest>,
        at: Timestamp,
        change: impl FnOnce(&mut RecentManifest),
    ) -> RecentManifest {
        let known = self.entries.iter().position(|entry| entry.is(name, manifest.digest));
        let known = known.and_then(|at| self.entries.remove(at));
        let mut entry = known.map_or_else(
            || RecentManifest::new(name, manifest, at),
            |entry| {
                self.bytes -= entry.weight();
                entry
            },
        );
        change(&mut entry);
        self.changes += 1;
        entry.change = self.changes;
        self.bytes += entry.weight();
        self.entries.push_back(entry.clone());
        self.make_room();
        entry
    }

    fn make_room(&mut self) {
        while self.bytes > MAX_BYTES || self.entries.len() > MAX_ENTRIES {
            let first = self.entries.iter().position(|entry| !entry.is_due).unwrap_or(0);
            let Some(gone) = self.entries.remove(first) else { return };
            self.bytes -= gone.weight();
            self.lost += u64::from(gone.is_due);
        }
    }

    /// The number of entries that had to be written and were removed for lack of room, since the last call.
    pub(super) fn take_lost(&mut self) -> u64 {
        std::mem::take(&mut self.lost)
    }

    /// The oldest entry that must be written.
    pub(super) fn due(&self) -> Option<RecentManifest> {
        self.entries.iter().find(|entry| entry.is_due).cloned()
    }

    /// Removes an entry that is now in the store, unless it has changed since.
    pub(super) fn written(&mut self, written: &RecentManifest) {
        let is_it = |entry: &RecentManifest| entry.change == written.change;
        if let Some(entry) = self.entries.iter().position(is_it).and_then(|at| self.entries.remove(at)) {
            self.bytes -= entry.weight();
        }
    }

    /// Removes what is known about a manifest, unless it must be written. Returns the manifest.
    pub(super) fn withdraw(&mut self, name: &ImageName, digest: Digest) -> Option<Arc<Manifest>> {
        let at = self.entries.iter().position(|entry| entry.is(name, digest) && !entry.is_due)?;
        let gone = self.entries.remove(at)?;
        self.bytes -= gone.weight();
        Some(gone.manifest)
    }

    /// The known facts about a manifest.
    pub(super) fn get(&self, name: &ImageName, digest: Digest) -> Option<&RecentManifest> {
        self.entries.iter().find(|entry| entry.is(name, digest))
    }

    /// The manifests of a repository, the most recently learned first.
    pub(super) fn manifests(&self, name: &ImageName, is_wanted: impl Fn(&Manifest) -> bool) -> Vec<Arc<Manifest>> {
        let newest_first = self.entries.iter().rev();
        let found = newest_first.filter(|entry| entry.name == *name && is_wanted(&entry.manifest));
        found.map(|entry| entry.manifest.clone()).collect()
    }

    /// The tags of a digest, and those of the indexes that list it.
    pub(super) fn tags_of(&self, name: &ImageName, digest: Digest) -> Vec<Tag> {
        let lists = |manifest: &Manifest| manifest.children().iter().any(|child| child.digest == digest);
        let means = |entry: &&RecentManifest| entry.manifest.digest == digest || lists(&entry.manifest);
        let found = self.entries.iter().rev().filter(|entry| entry.name == *name).filter(means);
        let mut tags = Vec::new();
        for seen in found.flat_map(|entry| entry.tags.iter().rev()) {
            if tags.len() < MAX_TAGS && !tags.contains(&seen.tag) {
                tags.push(seen.tag.clone());
            }
        }
        tags
    }

    /// The digest of a tag, and the time when it was seen.
    pub(super) fn tag(&self, name: &ImageName, tag: &Tag) -> Option<(Digest, Timestamp)> {
        let entries = self.entries.iter().filter(|entry| entry.name == *name);
        let mut seen = entries.flat_map(|entry| entry.tags.iter().map(|seen| (entry.manifest.digest, seen)));
        seen.find(|(_, seen)| seen.is_current && seen.tag == *tag).map(|(digest, seen)| (digest, seen.at))
    }

    /// Records that the tag does not refer to any manifest here anymore.
    pub(super) fn forget_tag(&mut self, name: &ImageName, tag: &Tag) {
        for entry in self.entries.iter_mut().filter(|entry| entry.name == *name) {
            entry.tags.iter_mut().filter(|seen| seen.tag == *tag).for_each(|seen| seen.is_current = false);
        }
    }

    /// The current digests of all tags here.
    pub(super) fn current_tags(&self) -> Vec<(ImageName, Tag, Digest)> {
        let of = |entry: &RecentManifest| {
            let current = entry.tags.iter().filter(|seen| seen.is_current);
            current.map(|seen| (entry.name.clone(), seen.tag.clone(), entry.manifest.digest)).collect::<Vec<_>>()
        };
        self.entries.iter().flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> ImageName {
        ImageName { host: "a.io".parse().unwrap(), repository: "x".parse().unwrap() }
    }

    /// An index with this number of children that no other index lists.
    fn index(number: usize, children: usize) -> Arc<Manifest> {
        let child = |n: usize| {
            let digest = Digest::sha256(format!("{number} {n}").as_bytes());
            format!(r#"{{"mediaType":"application/vnd.oci.image.manifest.v1+json","digest":"{digest}","size":1}}"#)
        };
        let children: Vec<_> = (0..children).map(child).collect();
        let text = format!(r#"{{"schemaVersion":2,"manifests":[{}]}}"#, children.join(","));
        Arc::new(Manifest::parse(text.into_bytes().into(), None).unwrap())
    }

    #[test]
    fn memory_and_number_are_bounded_and_entries_to_write_are_removed_last() {
        let (mut recent, due) = (Recent::default(), index(0, 1));
        recent.note(&name(), &due, Timestamp::UNIX_EPOCH, |entry| entry.is_due = true);
        for number in 1..200 {
            recent.note(&name(), &index(number, 900), Timestamp::UNIX_EPOCH, |_| {});
        }
        assert!(recent.bytes <= MAX_BYTES && recent.entries.len() < 199, "{} entries", recent.entries.len());
        assert_eq!(recent.bytes, recent.entries.iter().map(RecentManifest::weight).sum::<usize>());
        for number in 1000..1000 + MAX_ENTRIES {
            recent.note(&name(), &index(number, 1), Timestamp::UNIX_EPOCH, |_| {});
        }
        assert_eq!(recent.entries.len(), MAX_ENTRIES);
        assert_eq!(recent.due().unwrap().manifest.digest, due.digest);
        assert_eq!(recent.take_lost(), 0);
        for number in 1000..1000 + MAX_ENTRIES {
            recent.note(&name(), &index(number, 1), Timestamp::UNIX_EPOCH, |entry| entry.is_due = true);
        }
        assert_eq!((recent.take_lost(), recent.take_lost()), (1, 0), "the first one was lost");
        assert_eq!(recent.bytes, recent.entries.iter().map(RecentManifest::weight).sum::<usize>());
    }

    #[test]
    fn tags_of_a_manifest_are_bounded_and_a_moved_tag_has_one_digest() {
        let (mut recent, one, two) = (Recent::default(), index(1, 1), index(2, 1));
        for number in 0..1000 {
            let tag: Tag = format!("v{number}").parse().unwrap();
            recent.note(&name(), &one, Timestamp::UNIX_EPOCH, |entry| entry.tag(&tag, Timestamp::UNIX_EPOCH));
        }
        assert_eq!(recent.tags_of(&name(), one.digest).len(), MAX_TAGS);
        let tag: Tag = "v999".parse().unwrap();
        recent.forget_tag(&name(), &tag);
        recent.note(&name(), &two, Timestamp::UNIX_EPOCH, |entry| entry.tag(&tag, Timestamp::UNIX_EPOCH));
        assert_eq!(recent.tag(&name(), &tag).map(|(digest, _)| digest), Some(two.digest));
        assert!(recent.tags_of(&name(), one.digest).contains(&tag), "the earlier digest keeps the tag");
        let child = two.children()[0].digest;
        assert_eq!(recent.tags_of(&name(), child), [tag], "through the index that lists it");
    }

    #[test]
    fn entry_changed_during_a_write_is_kept() {
        let (mut recent, one) = (Recent::default(), index(1, 1));
        let written = recent.note(&name(), &one, Timestamp::UNIX_EPOCH, |entry| entry.is_due = true);
        recent.note(&name(), &one, Timestamp::UNIX_EPOCH, |entry| entry.pulled = Some(Timestamp::UNIX_EPOCH));
        recent.written(&written);
        let changed = recent.due().unwrap();
        recent.written(&changed);
        assert!(recent.due().is_none() && recent.bytes == 0);
    }
}
