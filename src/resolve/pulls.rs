//! The manifests whose pulls were recorded recently. A pull is not recorded on every request.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use crate::runtime::budget;

/// The minimum time between two recorded pulls of a manifest.
const INTERVAL: Duration = Duration::from_secs(3600);
/// The places for one manifest.
const WAYS: usize = 8;
/// The number of groups of places.
const GROUPS: usize = budget::NOTED_PULLS as usize / WAYS / size_of::<AtomicU32>();

/// A table of fixed size, four bytes for each pull. If too many manifests share a group, the oldest pull there is
/// forgotten, and the next pull of that manifest is recorded too soon. Two manifests with the same hash share a place, so
/// a pull of one of them is not recorded for an hour. Neither does harm.
pub(super) struct RecordedPulls {
    /// A hash in the upper half, and the minute of the pull in the lower one; 0 is empty.
    groups: Box<[[AtomicU32; WAYS]]>,
    hasher: RandomState,
    began: Instant,
}

impl RecordedPulls {
    pub(super) fn new() -> Self {
        let groups = std::iter::repeat_with(Default::default).take(GROUPS).collect();
        Self { groups, hasher: RandomState::new(), began: Instant::now() }
    }

    /// Whether no pull of this manifest was recorded recently. From now on, one counts as recorded.
    pub(super) fn is_new(&self, manifest: &impl Hash) -> bool {
        self.is_new_after(manifest, self.began.elapsed())
    }

    fn is_new_after(&self, manifest: &impl Hash, elapsed: Duration) -> bool {
        let hash = self.hasher.hash_one(manifest);
        // The upper bits choose the group, and others tell the manifests in it apart.
        let group = &self.groups[((u128::from(hash) * GROUPS as u128) >> 64) as usize];
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

    /// Forgets all pulls.
    pub(super) fn clear(&self) {
        self.groups.iter().flatten().for_each(|place| place.store(0, Ordering::Relaxed));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pull_is_recorded_once_in_an_hour() {
        let pulls = RecordedPulls::new();
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
    fn a_hundred_thousand_manifests_are_told_apart() {
        let pulls = RecordedPulls::new();
        let again = |number: &u32| pulls.is_new_after(number, Duration::from_secs(60));
        assert!((0..100_000).filter(again).count() > 99_800);
        let forgotten = (0..100_000).filter(again).count();
        assert!(forgotten < 100, "{forgotten}");
    }
}
