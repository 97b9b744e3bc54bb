//! Caches in front of slower storage, bounded in bytes, because peers can cause any number of names of any length.

use std::fmt;
use std::hash::Hash;

use quick_cache::sync::Cache;
use quick_cache::{DefaultHashBuilder, Equivalent, OptionsBuilder, Weighter};

/// The memory of an entry in addition to its key and its value, in bytes.
const ENTRY: usize = 24;
/// The table of entries doubles when it is full, so on average about the same amount of memory is unused.
const TABLE: usize = 2;
/// The minimum size of a part with a separate lock, in bytes. An entry is kept only if it fits into one part.
const PART: u64 = 512 * 1024;
/// The maximum number of parts of a map.
const MAX_PARTS: u64 = 32;
/// The fraction of a map that is reserved for the keys of evicted entries, which is how their return is detected.
const GHOSTS: f64 = 0.1;

/// The memory of an allocation in addition to its content, in bytes: the counts of an `Arc` and the overhead of the
/// allocator.
pub const ALLOCATION: usize = 32;

/// Entries by key. When they exceed the memory limit, the least useful ones are removed.
pub struct Bounded<K, V>(Cache<K, V, Outside<K, V>>);

/// Computes the number of bytes that an entry takes outside of its key and its value.
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
    /// Creates a map with this memory limit. `outside` returns the memory that the key and the value point to.
    pub fn new(bytes: u64, outside: fn(&K, &V) -> usize) -> Self {
        let smallest = (TABLE * (ENTRY + size_of::<(K, V)>())) as u64;
        let parts = usize::try_from((bytes / PART).clamp(1, MAX_PARTS)).unwrap_or(1);
        let options = OptionsBuilder::new()
            .shards(parts)
            .ghost_allocation(GHOSTS)
            // Tables grow with their entries. An estimate that is too large would allocate memory in advance.
            .estimated_items_capacity(usize::try_from(bytes / smallest / 16).unwrap_or(usize::MAX).max(32 * parts))
            .weight_capacity(bytes)
            .build()
            // All required options are given above and are in range.
            .unwrap_or_else(|_| unreachable!("the options are complete"));
        Self(Cache::with_options(options, Weigher(outside), DefaultHashBuilder::default(), Default::default()))
    }

    /// Returns the value of a key.
    pub fn get<Q: Equivalent<K> + Hash + ?Sized>(&self, key: &Q) -> Option<V> {
        self.0.get(key)
    }

    /// Adds a value or replaces the earlier one. A value that is larger than a part of the map is not kept.
    pub fn insert(&self, key: K, value: V) {
        self.0.insert(key, value);
    }

    /// Removes a value.
    pub fn remove<Q: Equivalent<K> + Hash + ?Sized>(&self, key: &Q) {
        self.0.remove(key);
    }

    /// Removes all values.
    pub fn clear(&self) {
        self.0.clear();
    }

    /// The approximate memory of the entries, in bytes.
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
    fn size_of_entries_includes_the_data_they_point_to() {
        const ROOM: u64 = 1024 * 1024;
        let map: Bounded<u32, Vec<u8>> = Bounded::new(ROOM, |_, bytes| bytes.capacity() + ALLOCATION);
        for number in 0..10_000 {
            map.insert(number, vec![0; 1000]);
        }
        assert!(map.bytes() <= ROOM);
        let kept = (0..10_000).filter(|number| map.get(number).is_some()).count();
        assert!((700..1000).contains(&kept), "{kept}");
        map.insert(1, vec![0; ROOM as usize]);
        assert_eq!(map.get(&1), None, "the new value is too large, and the earlier value is outdated");
        map.clear();
        assert_eq!(map.bytes(), 0);
    }
}
