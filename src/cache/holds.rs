//! Content that a running import needs. It is not evicted until the import ends.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::{SignedDuration, Timestamp};

use super::{Cache, CacheInner};
use crate::oci::{Digest, Host};

/// The maximum number of concurrent imports.
const MAX_HOLDS: usize = 16;
/// The maximum number of digests in one import: a bundle has at most as many files.
const MAX_DIGESTS: usize = 200_000;
/// How long an import may be idle before its content can be evicted: its client may have died.
const LEASE: SignedDuration = SignedDuration::from_mins(10);

/// Why content is not kept for an import.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum NotHeld {
    /// Too many imports are running.
    #[error("{MAX_HOLDS} imports are already running; retry when one has finished")]
    TooMany,
    /// The import has more content than a bundle can have.
    #[error("the import has more than {MAX_DIGESTS} files")]
    TooLarge,
    /// The import is not known: it was idle for too long, or the gate was restarted.
    #[error("the import was idle for more than 10 minutes, or the gate was restarted; repeat it")]
    Unknown,
}

/// The content of all running imports.
#[derive(Default)]
pub(super) struct Holds(Mutex<BTreeMap<u64, HeldDigests>>);

struct HeldDigests {
    digests: HashSet<Digest>,
    /// The registries whose images are not evicted to make room for the import.
    spared: Arc<[Host]>,
    /// When it was used last.
    used: Timestamp,
    /// How many calls use it now.
    users: usize,
}

impl HeldDigests {
    fn is_alive(&self, now: Timestamp) -> bool {
        self.users > 0 || now.duration_since(self.used) < LEASE
    }
}

impl Holds {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<u64, HeldDigests>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin(&self, spared: Arc<[Host]>, now: Timestamp) -> Result<u64, NotHeld> {
        let mut all = self.lock();
        all.retain(|_, held| held.is_alive(now));
        if all.len() >= MAX_HOLDS {
            return Err(NotHeld::TooMany);
        }
        // Random, so that after a restart, an import does not continue under the number of another one.
        let number = fastrand::u64(..);
        all.insert(number, HeldDigests { digests: HashSet::new(), spared, used: now, users: 0 });
        Ok(number)
    }

    /// Keeps more content, and the import itself until as many calls of [`leave`](Self::leave).
    fn enter(
        &self,
        number: u64,
        digests: impl IntoIterator<Item = Digest>,
        now: Timestamp,
    ) -> Result<Arc<[Host]>, NotHeld> {
        let mut all = self.lock();
        let held = all.get_mut(&number).filter(|held| held.is_alive(now)).ok_or(NotHeld::Unknown)?;
        let new: HashSet<Digest> = digests.into_iter().filter(|digest| !held.digests.contains(digest)).collect();
        if held.digests.len() + new.len() > MAX_DIGESTS {
            return Err(NotHeld::TooLarge);
        }
        held.digests.extend(new);
        held.users += 1;
        Ok(held.spared.clone())
    }

    fn leave(&self, number: u64, now: Timestamp) {
        if let Some(held) = self.lock().get_mut(&number) {
            held.users = held.users.saturating_sub(1);
            held.used = now;
        }
    }

    fn end(&self, number: u64, now: Timestamp) -> Option<HashSet<Digest>> {
        self.lock().remove(&number).filter(|held| held.is_alive(now)).map(|held| held.digests)
    }

    /// Whether a running import needs this content.
    pub(super) fn is_held(&self, digest: Digest, now: Timestamp) -> bool {
        self.lock().values().any(|held| held.digests.contains(&digest) && held.is_alive(now))
    }
}

/// A call of a running import. The import does not expire while this exists.
pub struct ImportHold {
    inner: Arc<CacheInner>,
    number: u64,
    pub(super) spared: Arc<[Host]>,
}

impl Drop for ImportHold {
    fn drop(&mut self) {
        self.inner.holds.leave(self.number, self.inner.clock.now());
    }
}

impl Cache {
    /// Begins an import. Its content is not evicted until it [ends](Self::end_import). Images of `spared` registries
    /// are not evicted to make room for it. Returns its number.
    ///
    /// # Errors
    /// [`NotHeld::TooMany`].
    pub fn begin_import(&self, spared: Vec<Host>) -> Result<u64, NotHeld> {
        self.inner.holds.begin(spared.into(), self.inner.clock.now())
    }

    /// Keeps content for a running import, whether it is in the cache already or comes later.
    ///
    /// # Errors
    /// See [`NotHeld`].
    pub async fn hold(&self, number: u64, digests: impl IntoIterator<Item = Digest>) -> Result<ImportHold, NotHeld> {
        let digests: Vec<Digest> = digests.into_iter().collect();
        // An eviction that is running has looked already.
        let _turn = self.inner.evicting.lock().await;
        let spared = self.inner.holds.enter(number, digests, self.inner.clock.now())?;
        Ok(ImportHold { inner: self.inner.clone(), number, spared })
    }

    /// Ends an import. Returns the contents that it needed and that are not on disk.
    ///
    /// # Errors
    /// [`NotHeld::Unknown`]: it may be that content was evicted.
    pub fn end_import(&self, number: u64) -> Result<Vec<Digest>, NotHeld> {
        let held = self.inner.holds.end(number, self.inner.clock.now()).ok_or(NotHeld::Unknown)?;
        let lost = held.into_iter().filter(|digest| !self.inner.disk.has(*digest)).collect();
        self.inner.evict_soon();
        Ok(lost)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn content_is_held_until_the_import_ends_or_is_idle_for_too_long() {
        let (holds, digest) = (Holds::default(), Digest::sha256(b"x"));
        let number = holds.begin([].into(), at(0)).unwrap();
        assert!(!holds.is_held(digest, at(0)));
        holds.enter(number, [digest], at(0)).unwrap();
        assert!(holds.is_held(digest, at(100_000)), "a call of the import is running");
        holds.leave(number, at(100_000));
        assert!(holds.is_held(digest, at(100_599)) && !holds.is_held(digest, at(100_600)));
        assert_eq!(holds.enter(number, [digest], at(100_600)), Err(NotHeld::Unknown));
        assert_eq!(holds.end(number, at(100_600)), None);
        let number = holds.begin([].into(), at(0)).unwrap();
        holds.enter(number, [digest], at(0)).unwrap();
        assert_eq!(holds.end(number, at(0)), Some(HashSet::from([digest])));
        assert!(!holds.is_held(digest, at(0)));
    }

    #[test]
    fn the_number_of_imports_and_of_their_digests_is_bounded() {
        let holds = Holds::default();
        let numbers: Vec<u64> = (0..MAX_HOLDS).map(|_| holds.begin([].into(), at(0)).unwrap()).collect();
        assert_eq!(holds.begin([].into(), at(0)), Err(NotHeld::TooMany));
        let digests = (0..=MAX_DIGESTS).map(|number| Digest::sha256(&number.to_le_bytes()));
        assert_eq!(holds.enter(numbers[0], digests, at(0)), Err(NotHeld::TooLarge));
        assert!(!holds.is_held(Digest::sha256(&0_usize.to_le_bytes()), at(0)), "nothing of it is kept");
        holds.begin([].into(), at(600)).expect("those that were idle do not count");
    }
}
