//! One counter of changes for everything that decisions are made from.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many counters the parts share. Two parts that share one only cause a decision to be made again.
const PARTS: usize = 4096;

/// Tells whether anything that a decision was made from has changed since.
///
/// Each owner of such data (rules, facts, reports, trust roots) changes the data first and moves the epoch on after that:
/// by [`advance`](Self::advance) when the change may concern any image, by [`advance_part`](Self::advance_part) when it
/// concerns one repository. A decision takes its [`Moment`] before it reads anything, and may be repeated as long as
/// [`is_now`](Self::is_now) says that nothing has changed.
///
/// ```
/// use pullgate::runtime::Epoch;
/// let epoch = Epoch::new();
/// let moment = epoch.moment("registry.example/app");
/// assert!(epoch.is_now(&moment));
/// epoch.advance();
/// assert!(!epoch.is_now(&moment));
/// ```
///
/// Cheap to clone; all clones are one epoch.
#[derive(Clone, Debug)]
pub struct Epoch(Arc<Counters>);

#[derive(Debug)]
struct Counters {
    all: AtomicU64,
    parts: Box<[AtomicU64]>,
    /// Random, so that nobody can choose names that share a counter.
    hasher: RandomState,
}

/// A point in time, as an [`Epoch`] counts it for one part.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Moment {
    all: u64,
    part: u64,
    index: usize,
}

impl Default for Epoch {
    fn default() -> Self {
        let parts = std::iter::repeat_with(AtomicU64::default).take(PARTS).collect();
        Self(Arc::new(Counters { all: AtomicU64::default(), parts, hasher: RandomState::new() }))
    }
}

impl Epoch {
    /// An epoch that has seen no change.
    pub fn new() -> Self {
        Self::default()
    }

    /// The present moment for a part, such as a repository.
    pub fn moment(&self, part: impl Hash) -> Moment {
        let index = self.index(part);
        Moment { all: self.0.all.load(Ordering::Acquire), part: self.0.parts[index].load(Ordering::Acquire), index }
    }

    /// Whether nothing that concerns the moment's part has changed since.
    pub fn is_now(&self, moment: &Moment) -> bool {
        self.0.all.load(Ordering::Acquire) == moment.all
            && self.0.parts[moment.index].load(Ordering::Acquire) == moment.part
    }

    /// Call this after a change that may concern any image.
    pub fn advance(&self) {
        self.0.all.fetch_add(1, Ordering::AcqRel);
    }

    /// Call this after a change that concerns one part alone.
    pub fn advance_part(&self, part: impl Hash) {
        self.0.parts[self.index(part)].fetch_add(1, Ordering::AcqRel);
    }

    fn index(&self, part: impl Hash) -> usize {
        // A remainder of PARTS is a usize.
        (self.0.hasher.hash_one(part) % PARTS as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_one_part_leaves_the_others_alone() {
        let epoch = Epoch::new();
        let (one, other) = ("a", (0..).map(|n| n.to_string()).find(|n| epoch.index(n) != epoch.index("a")).unwrap());
        let (before, beside) = (epoch.moment(one), epoch.moment(&other));
        epoch.advance_part(one);
        assert!(!epoch.is_now(&before) && epoch.is_now(&beside));
        assert!(epoch.is_now(&epoch.moment(one)));
        epoch.clone().advance();
        assert!(!epoch.is_now(&beside), "clones are one epoch");
    }
}
