//! A set that knows for certain what is not in it.

use std::fmt;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicU64, Ordering};

/// The bits that a member sets, all in one word, so that each question reads memory once.
const BITS: u32 = 4;

/// A set of fixed size in memory: a Bloom filter. Members cannot be removed. Some things that were never added seem to
/// be members, and the more members there are, the more of them: with two bytes for each member, one in two hundred.
pub struct BloomFilter {
    words: Box<[AtomicU64]>,
    hasher: RandomState,
}

impl BloomFilter {
    /// Creates an empty set of this size in bytes.
    pub fn new(bytes: u64) -> Self {
        let words = usize::try_from(bytes).unwrap_or(usize::MAX) / size_of::<AtomicU64>();
        Self {
            words: std::iter::repeat_with(AtomicU64::default).take(words.max(1)).collect(),
            hasher: RandomState::new(),
        }
    }

    /// Adds a member.
    pub fn add(&self, member: &impl Hash) {
        let (word, bits) = self.place(member);
        word.fetch_or(bits, Ordering::Relaxed);
    }

    /// Whether this may be a member. False is certain.
    pub fn may_have(&self, what: &impl Hash) -> bool {
        let (word, bits) = self.place(what);
        word.load(Ordering::Relaxed) & bits == bits
    }

    fn place(&self, what: &impl Hash) -> (&AtomicU64, u64) {
        let hash = self.hasher.hash_one(what);
        // The upper bits choose the word, and the lower ones the bits in it.
        let word = ((u128::from(hash) * self.words.len() as u128) >> 64) as usize;
        let bits = (0..BITS).fold(0, |bits, number| bits | 1 << (hash >> (6 * number) & 63));
        (&self.words[word], bits)
    }
}

impl fmt::Debug for BloomFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("BloomFilter")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_are_always_found_and_others_seldom() {
        const MEMBERS: u64 = 100_000;
        let set = BloomFilter::new(2 * MEMBERS);
        assert!(!set.may_have(&0_u64), "it is empty");
        (0..MEMBERS).for_each(|member| set.add(&member));
        assert!((0..MEMBERS).all(|member| set.may_have(&member)));
        let wrong = (MEMBERS..2 * MEMBERS).filter(|other| set.may_have(other)).count();
        assert!(wrong < 1000, "{wrong}");
    }
}
