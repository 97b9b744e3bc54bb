//! Facts that are not in the store: manifests that nobody was admitted to yet, and what could not be written down.
//!
//! Upstreams say what a manifest names before anybody has judged it, and whoever is denied may ask again and again. So
//! this is kept in bounded memory, and goes to the store when a request is admitted.

use std::collections::VecDeque;
use std::sync::Arc;

use jiff::Timestamp;

use super::weight;
use crate::oci::{Digest, ImageName, Manifest, Tag};
use crate::runtime::budget;

/// How much memory they may take, in bytes.
const MAX_BYTES: usize = budget::RECENT as usize;
/// How many they may be: they are looked through one by one.
const MAX_ENTRIES: usize = 1536;
/// How many tags are remembered of one manifest.
const MAX_TAGS: usize = 100;
/// What an entry and what a tag take beside the manifest, in bytes.
const ENTRY_WEIGHT: usize = 1024;
const TAG_WEIGHT: usize = 256;

/// The facts, those that were learnt last at the end.
#[derive(Default)]
pub(super) struct Recent {
    entries: VecDeque<RecentManifest>,
    bytes: usize,
    changes: u64,
}

/// What is known of one manifest of one repository.
#[derive(Clone)]
pub(super) struct RecentManifest {
    pub(super) name: ImageName,
    pub(super) manifest: Arc<Manifest>,
    pub(super) seen: Timestamp,
    pub(super) tags: Vec<SeenTag>,
    /// When it was served.
    pub(super) pulled: Option<Timestamp>,
    /// Whether it is to be written down.
    pub(super) is_due: bool,
    /// Whether the manifest itself is in the store, and only the rest is not.
    pub(super) is_stored: bool,
    /// Tells whether it changed while it was being written.
    change: u64,
}

/// A tag that was seen to mean the manifest.
#[derive(Clone)]
pub(super) struct SeenTag {
    pub(super) tag: Tag,
    pub(super) at: Timestamp,
    /// Whether it means nothing else since.
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

    /// Notes that a tag means it.
    pub(super) fn tag(&mut self, tag: &Tag, at: Timestamp) {
        self.tags.retain(|known| known.tag != *tag);
        if self.tags.len() == MAX_TAGS {
            self.tags.remove(0);
        }
        self.tags.push(SeenTag { tag: tag.clone(), at, is_current: true });
    }

    fn is(&self, name: &ImageName, digest: Digest) -> bool {
        self.manifest.digest == digest && self.name == *name
    }

    fn weight(&self) -> usize {
        weight(&self.manifest) + ENTRY_WEIGHT + self.tags.len() * TAG_WEIGHT
    }
}

impl Recent {
    /// Changes what is known of a manifest, and gives what is known now. Makes room where that is needed: what is to be
    /// written down goes last, and the oldest first.
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
        }
    }

    /// The oldest of what is to be written down.
    pub(super) fn due(&self) -> Option<RecentManifest> {
        self.entries.iter().find(|entry| entry.is_due).cloned()
    }

    /// Forgets what is in the store now, unless it changed since.
    pub(super) fn written(&mut self, written: &RecentManifest) {
        let is_it = |entry: &RecentManifest| entry.change == written.change;
        if let Some(entry) = self.entries.iter().position(is_it).and_then(|at| self.entries.remove(at)) {
            self.bytes -= entry.weight();
        }
    }

    /// What is known of a manifest.
    pub(super) fn get(&self, name: &ImageName, digest: Digest) -> Option<&RecentManifest> {
        self.entries.iter().find(|entry| entry.is(name, digest))
    }

    /// Manifests of a repository, those that were learnt last first.
    pub(super) fn manifests(&self, name: &ImageName, is_wanted: impl Fn(&Manifest) -> bool) -> Vec<Arc<Manifest>> {
        let newest_first = self.entries.iter().rev();
        let found = newest_first.filter(|entry| entry.name == *name && is_wanted(&entry.manifest));
        found.map(|entry| entry.manifest.clone()).collect()
    }

    /// The tags of a digest, and those of indexes that list it.
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

    /// What a tag means, and when that was seen.
    pub(super) fn tag(&self, name: &ImageName, tag: &Tag) -> Option<(Digest, Timestamp)> {
        let entries = self.entries.iter().filter(|entry| entry.name == *name);
        let mut seen = entries.flat_map(|entry| entry.tags.iter().map(|seen| (entry.manifest.digest, seen)));
        seen.find(|(_, seen)| seen.is_current && seen.tag == *tag).map(|(digest, seen)| (digest, seen.at))
    }

    /// A tag means nothing any more of what is known here.
    pub(super) fn forget_tag(&mut self, name: &ImageName, tag: &Tag) {
        for entry in self.entries.iter_mut().filter(|entry| entry.name == *name) {
            entry.tags.iter_mut().filter(|seen| seen.tag == *tag).for_each(|seen| seen.is_current = false);
        }
    }

    /// What the tags that are known here mean.
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

    /// An index of so many children, which nobody else lists.
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
    fn memory_is_bounded_in_bytes_and_in_number_and_what_must_be_written_goes_last() {
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
        assert_eq!(recent.bytes, recent.entries.iter().map(RecentManifest::weight).sum::<usize>());
    }

    #[test]
    fn the_tags_of_one_manifest_are_bounded_and_a_moved_tag_means_one_thing() {
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
        assert!(recent.tags_of(&name(), one.digest).contains(&tag), "it meant that, and is remembered for it");
        let child = two.children()[0].digest;
        assert_eq!(recent.tags_of(&name(), child), [tag], "by the index that lists it");
    }

    #[test]
    fn what_changed_while_it_was_written_stays() {
        let (mut recent, one) = (Recent::default(), index(1, 1));
        let written = recent.note(&name(), &one, Timestamp::UNIX_EPOCH, |entry| entry.is_due = true);
        recent.note(&name(), &one, Timestamp::UNIX_EPOCH, |entry| entry.pulled = Some(Timestamp::UNIX_EPOCH));
        recent.written(&written);
        let changed = recent.due().unwrap();
        recent.written(&changed);
        assert!(recent.due().is_none() && recent.bytes == 0);
    }
}
