//! Memory in front of slower places, bounded in bytes: what peers name has any length, and there is any number of it.

use std::fmt;
use std::hash::Hash;

use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Equivalent, OptionsBuilder, Weighter};

/// What an entry takes beside its key and its value, in bytes.
const ENTRY: usize = 24;
/// The table of entries doubles when it is full, so on average about as much again is unused.
const TABLE: usize = 2;
/// The smallest part that is locked by itself, in bytes. An entry is kept only where it fits one part.
const PART: u64 = 512 * 1024;
/// How many parts a map has at most.
const MAX_PARTS: u64 = 8;
/// How much of a map is set aside for the keys of what was evicted, by which their return is noticed.
const GHOSTS: f64 = 0.1;

/// What a piece of allocated memory takes beside its content, in bytes: the counts of an `Arc`, and the allocator's part.
pub const ALLOCATION: usize = 32;

/// Entries by key, the least useful of which go when they take more memory than they may.
pub struct Bounded<K, V>(Cache<K, V, Outside<K, V>>);

/// How many bytes an entry takes outside of its key and its value.
type Outside<K, V> = Weigher<fn(&K, &V) -> usize>;

#[derive(Clone, Copy)]
struct Weigher<F>(F);

impl<K, V> Weighter<K, V> for Weigher<fn(&K, &V) -> usize> {
    fn weight(&self, key: &K, value: &V) -> u64 {
        (TABLE * (ENTRY + size_of::<(K, V)>()) + (self.0)(key, value)) as u64
    }
}

impl<K, V> Bounded<K, V>
where
    K: Clone + Eq + Hash,
    V: Clone,
{
    /// Room for so many bytes. `outside` gives what an entry takes outside of its key and its value: what they point to.
    pub fn new(bytes: u64, outside: fn(&K, &V) -> usize) -> Self {
        let smallest = (TABLE * (ENTRY + size_of::<(K, V)>())) as u64;
        let parts = usize::try_from((bytes / PART).clamp(1, MAX_PARTS)).unwrap_or(1);
        let options = OptionsBuilder::new()
            .shards(parts)
            .ghost_allocation(GHOSTS)
            // Tables grow with their entries; a guess that is too large would allocate them in advance.
            .estimated_items_capacity(usize::try_from(bytes / smallest / 16).unwrap_or(usize::MAX).max(32 * parts))
            .weight_capacity(bytes)
            .build()
            // All that may be missing or out of range is given above.
            .unwrap_or_else(|_| unreachable!("the options are complete"));
        Self(Cache::with_options(options, Weigher(outside), DefaultHashBuilder::default(), Default::default()))
    }

    /// The value of a key.
    pub fn get<Q: Equivalent<K> + Hash + ?Sized>(&self, key: &Q) -> Option<V> {
        self.0.get(key)
    }

    /// Keeps a value, in place of an earlier one. One that is larger than a part of the map is not kept.
    pub fn insert(&self, key: K, value: V) {
        self.0.insert(key, value);
    }

    /// Drops a value.
    pub fn remove<Q: Equivalent<K> + Hash + ?Sized>(&self, key: &Q) {
        self.0.remove(key);
    }

    /// Drops everything.
    pub fn clear(&self) {
        self.0.clear();
    }

    /// About how many bytes the entries take.
    pub fn bytes(&self) -> u64 {
        self.0.weight()
    }
}

impl<K, V> fmt::Debug for Bounded<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Bounded")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_count_with_all_that_they_point_to() {
        const ROOM: u64 = 1024 * 1024;
        let map: Bounded<u32, Vec<u8>> = Bounded::new(ROOM, |_, bytes| bytes.capacity() + ALLOCATION);
        for number in 0..10_000 {
            map.insert(number, vec![0; 1000]);
        }
        assert!(map.bytes() <= ROOM);
        let kept = (0..10_000).filter(|number| map.get(number).is_some()).count();
        assert!((700..1000).contains(&kept), "{kept}");
        map.insert(1, vec![0; ROOM as usize]);
        assert_eq!(map.get(&1), None, "too large, and the earlier one is not the current one");
        map.clear();
        assert_eq!(map.bytes(), 0);
    }
}
