//! Remembers what was noted recently, such as pulls, so that not every request is recorded.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// The minimum time between two notes of the same thing.
const INTERVAL: Duration = Duration::from_secs(3600);
/// The places in a group.
const WAYS: usize = 8;

/// A table of fixed size, four bytes for each thing. If too many share a group, the oldest one is forgotten, and is
/// noted again too early. Two things with the same hash share an entry, so one of them is not noted for an hour.
/// Callers must tolerate both.
pub struct Noted {
    /// A hash in the upper half, and the minute of the note in the lower one; 0 is empty.
    groups: Box<[[AtomicU32; WAYS]]>,
    hasher: RandomState,
    began: Instant,
}

impl Noted {
    /// Creates an empty table of this size in bytes.
    pub fn new(bytes: u64) -> Self {
        let groups = usize::try_from(bytes).unwrap_or(usize::MAX) / size_of::<[AtomicU32; WAYS]>();
        let groups = std::iter::repeat_with(Default::default).take(groups.max(1)).collect();
        Self { groups, hasher: RandomState::new(), began: Instant::now() }
    }

    /// Whether this was not noted recently. From now on, it is noted.
    pub fn is_new(&self, what: &impl Hash) -> bool {
        self.is_new_after(what, self.began.elapsed())
    }

    fn is_new_after(&self, what: &impl Hash, elapsed: Duration) -> bool {
        let hash = self.hasher.hash_one(what);
        // The upper bits choose the group, and others tell the things in it apart.
        let group = &self.groups[((u128::from(hash) * self.groups.len() as u128) >> 64) as usize];
        let name = (hash as u32) << 16;
        // Minutes repeat after 45 days. Starts at 1, so that no place in use is 0.
        let minute = (elapsed.as_secs() / 60 % 0xffff) as u32 + 1;
        let age = |place: u32| (minute + 0xffff - (place & 0xffff)) % 0xffff;
        let places = group.each_ref().map(|place| place.load(Ordering::Relaxed));
        let own = places.iter().position(|place| *place != 0 && place & !0xffff == name);
        if own.is_some_and(|own| u64::from(age(places[own])) < INTERVAL.as_secs() / 60) {
            return false;
        }
        let oldest = || (0..WAYS).max_by_key(|at| if places[*at] == 0 { u32::MAX } else { age(places[*at]) });
        if let Some(at) = own.or_else(oldest) {
            group[at].store(name | minute, Ordering::Relaxed);
        }
        true
    }

    /// Forgets everything.
    pub fn clear(&self) {
        self.groups.iter().flatten().for_each(|place| place.store(0, Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::budget;

    #[test]
    fn a_thing_is_noted_once_in_an_hour() {
        let pulls = Noted::new(budget::NOTED_PULLS);
        let at = |minutes: u64| Duration::from_secs(60 * minutes);
        // Across the point at which minutes repeat, too.
        for start in [0, 1, 0xfffe, 0xffff, 3 * 0xffff - 30] {
            assert!(pulls.is_new_after(&("a", start), at(start)));
            assert!(!pulls.is_new_after(&("a", start), at(start + 59)), "{start}");
            assert!(pulls.is_new_after(&("a", start), at(start + 60)), "{start}");
        }
        pulls.clear();
        assert!(pulls.is_new_after(&("a", 0), at(60)));
    }

    #[test]
    fn a_hundred_thousand_things_are_told_apart() {
        let pulls = Noted::new(budget::NOTED_PULLS);
        let again = |number: &u32| pulls.is_new_after(number, Duration::from_secs(60));
        assert!((0..100_000).filter(again).count() > 99_800);
        let forgotten = (0..100_000).filter(again).count();
        assert!(forgotten < 100, "{forgotten}");
    }
}
