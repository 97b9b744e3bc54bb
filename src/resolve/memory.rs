//! Memory in front of the store, bounded in bytes: what peers name has any length, and lists of it any number.

use std::hash::Hash;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use moka::sync::Cache;

use super::facts::{Known, UnseenChild};
use crate::oci::{Digest, ImageName, Tag};

/// How much memory each kind of fact may take, in bytes.
const MAX_BYTES: u64 = 16 * 1024 * 1024;
/// What an entry takes beside its name and its value, in bytes.
const ENTRY_WEIGHT: usize = 160;
/// How long tags are remembered in memory as names of a digest; the window of `tag_memory` moves on meanwhile.
const TAGS_TTL: Duration = Duration::from_secs(60);
/// How often the pull of one manifest is written down at most.
const PULLS_EVERY: Duration = Duration::from_secs(3600);

/// A member or a manifest of a repository.
pub(super) type Key = (ImageName, Digest);

pub(super) struct Memory {
    /// What tags mean, and when that was looked up.
    pub(super) tags: Cache<(ImageName, Tag), (Digest, Timestamp)>,
    /// Manifests that the repository delivered.
    pub(super) manifests: Cache<Key, Option<Known>>,
    /// The manifests that name a digest.
    pub(super) naming: Cache<Key, Arc<[Digest]>>,
    pub(super) known_tags: Cache<Key, Arc<[Tag]>>,
    /// Whether a manifest was served.
    pub(super) pulled: Cache<Key, bool>,
    /// Children that were never fetched, and how many were asked for.
    pub(super) unseen: Cache<ImageName, (u32, Arc<[UnseenChild]>)>,
    noted: Cache<Key, ()>,
}

impl Memory {
    pub(super) fn new() -> Self {
        let of = |(name, _): &Key| weight(name);
        let texts = |tags: &[Tag]| tags.iter().map(|tag| tag.as_str().len() + 32).sum::<usize>();
        Self {
            tags: bounded(|(name, tag): &(ImageName, Tag), _| weight(name) + tag.as_str().len(), None),
            manifests: bounded(move |key: &Key, _| of(key), None),
            naming: bounded(move |key: &Key, naming: &Arc<[Digest]>| of(key) + size_of_val(&**naming), None),
            known_tags: bounded(move |key: &Key, tags: &Arc<[Tag]>| of(key) + texts(tags), Some(TAGS_TTL)),
            pulled: bounded(move |key: &Key, _| of(key), None),
            unseen: bounded(
                |name: &ImageName, (_, unseen): &(u32, Arc<[_]>)| weight(name) + size_of_val(&**unseen),
                None,
            ),
            noted: bounded(move |key: &Key, ()| of(key), Some(PULLS_EVERY)),
        }
    }

    /// Drops everything that was read from the store.
    pub(super) fn clear(&self) {
        self.tags.invalidate_all();
        self.manifests.invalidate_all();
        self.naming.invalidate_all();
        self.known_tags.invalidate_all();
        self.pulled.invalidate_all();
        self.unseen.invalidate_all();
        self.noted.invalidate_all();
    }

    /// Whether a pull was not noted lately. It counts as noted from now on.
    pub(super) fn is_first_pull(&self, name: &ImageName, digest: Digest) -> bool {
        let key = (name.clone(), digest);
        let is_new = !self.noted.contains_key(&key);
        if is_new {
            self.noted.insert(key, ());
        }
        is_new
    }
}

fn weight(name: &ImageName) -> usize {
    ENTRY_WEIGHT + name.host.as_str().len() + name.repository.as_str().len()
}

fn bounded<K, V>(weigh: impl Fn(&K, &V) -> usize + Send + Sync + 'static, ttl: Option<Duration>) -> Cache<K, V>
where
    K: Eq + Hash + Send + Sync + 'static,
    V: Clone + Send + Sync + 'static,
{
    let weigher = move |key: &K, value: &V| u32::try_from(weigh(key, value)).unwrap_or(u32::MAX);
    let cache = Cache::builder().weigher(weigher).max_capacity(MAX_BYTES);
    match ttl {
        Some(ttl) => cache.time_to_live(ttl).build(),
        None => cache.build(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_count_by_their_length() {
        let memory = Memory::new();
        let name = ImageName { host: "a.io".parse().unwrap(), repository: "x".parse().unwrap() };
        let long: Arc<[Digest]> = vec![Digest::sha256(b"x"); 100].into();
        for number in 0..10_000_u32 {
            memory.naming.insert((name.clone(), Digest::sha256(&number.to_be_bytes())), long.clone());
        }
        memory.naming.run_pending_tasks();
        assert!(memory.naming.weighted_size() <= MAX_BYTES);
        assert!(memory.naming.entry_count() < 3000, "{}", memory.naming.entry_count());
    }
}
