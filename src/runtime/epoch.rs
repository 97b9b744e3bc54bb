//! A counter of changes to all data that decisions depend on.

use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::sync::watch;

/// The number of counters that the parts share. If two parts share a counter, a change of one only causes decisions
/// about the other to be made again.
const PARTS: usize = 4096;

/// Detects whether any data that a decision depends on has changed since the decision.
///
/// Each owner of such data (rules, facts, reports, trust roots) first changes the data and then advances the epoch:
/// with [`advance`](Self::advance) if the change may affect any image, or with [`advance_part`](Self::advance_part) if
/// it affects one repository. A decision takes its [`Moment`] before it reads any data, and can be reused as long as
/// [`is_now`](Self::is_now) returns true.
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
/// Cheap to clone. All clones share the same counters.
#[derive(Clone, Debug)]
pub struct Epoch(Arc<Counters>);

#[derive(Debug)]
struct Counters {
    all: AtomicU64,
    parts: Box<[AtomicU64]>,
    /// Sent after every change that may affect any image.
    changed: watch::Sender<()>,
    /// Randomly seeded, so that an attacker cannot choose names that share a counter.
    hasher: RandomState,
}

/// A point in time for one part, as counted by an [`Epoch`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Moment {
    all: u64,
    part: u64,
    index: usize,
}

impl Default for Epoch {
    fn default() -> Self {
        let parts = std::iter::repeat_with(AtomicU64::default).take(PARTS).collect();
        let changed = watch::Sender::new(());
        Self(Arc::new(Counters { all: AtomicU64::default(), parts, changed, hasher: RandomState::new() }))
    }
}

impl Epoch {
    /// Creates an epoch without any changes.
    pub fn new() -> Self {
        Self::default()
    }

    /// The current moment for a part, such as a repository.
    pub fn moment(&self, part: impl Hash) -> Moment {
        let index = self.index(part);
        Moment { all: self.0.all.load(Ordering::Acquire), part: self.0.parts[index].load(Ordering::Acquire), index }
    }

    /// Whether nothing that affects the moment's part has changed since.
    pub fn is_now(&self, moment: &Moment) -> bool {
        self.0.all.load(Ordering::Acquire) == moment.all
            && self.0.parts[moment.index].load(Ordering::Acquire) == moment.part
    }

    /// Must be called after a change that may affect any image.
    pub fn advance(&self) {
        self.0.all.fetch_add(1, Ordering::AcqRel);
        self.0.changed.send_replace(());
    }

    /// Whether nothing that may affect any image has changed between two moments, whatever happened to single parts.
    pub fn are_alike(one: &Moment, other: &Moment) -> bool {
        one.all == other.all
    }

    /// Notified after every change that may affect any image. Several changes may cause one notification.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.0.changed.subscribe()
    }

    /// The moment of a part for work that already relies on something that was read after `before`: the current one, or
    /// `before` itself, which is over, if anything that may affect any image has changed in between.
    pub fn moment_since(&self, before: &Moment, part: impl Hash) -> Moment {
        let now = self.moment(part);
        if Self::are_alike(before, &now) { now } else { *before }
    }

    /// Must be called after a change that affects only one part.
    pub fn advance_part(&self, part: impl Hash) {
        self.0.parts[self.index(part)].fetch_add(1, Ordering::AcqRel);
    }

    fn index(&self, part: impl Hash) -> usize {
        // A remainder modulo `PARTS` always fits into a `usize`.
        (self.0.hasher.hash_one(part) % PARTS as u64) as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn change_of_one_part_does_not_affect_others() {
        let epoch = Epoch::new();
        let (one, other) = ("a", (0..).map(|n| n.to_string()).find(|n| epoch.index(n) != epoch.index("a")).unwrap());
        let (before, beside) = (epoch.moment(one), epoch.moment(&other));
        epoch.advance_part(one);
        assert!(!epoch.is_now(&before) && epoch.is_now(&beside));
        assert!(epoch.is_now(&epoch.moment(one)));
        epoch.clone().advance();
        assert!(!epoch.is_now(&beside), "clones share one epoch");
    }

    #[test]
    fn a_moment_does_not_begin_after_its_data_was_read() {
        let epoch = Epoch::new();
        let before = epoch.moment(());
        epoch.advance_part("a");
        assert!(epoch.is_now(&epoch.moment_since(&before, "a")));
        epoch.advance();
        assert!(!epoch.is_now(&epoch.moment_since(&before, "a")), "it relies on what was read before the change");
    }

    #[test]
    fn a_change_of_everything_is_notified() {
        let epoch = Epoch::new();
        let (mut changes, before) = (epoch.changes(), epoch.moment("a"));
        epoch.advance_part("a");
        assert!(!changes.has_changed().unwrap() && Epoch::are_alike(&before, &epoch.moment("b")));
        epoch.advance();
        assert!(changes.has_changed().unwrap() && !Epoch::are_alike(&before, &epoch.moment("b")));
        changes.mark_unchanged();
        assert!(!changes.has_changed().unwrap());
    }
}
