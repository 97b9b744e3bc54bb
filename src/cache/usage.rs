//! Tracks how much space the cache uses, and which images were used recently.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;

use crate::oci::Digest;
use crate::runtime::budget;

/// After this many used manifests, their use is recorded immediately.
const MAX_TOUCHED: usize = 2000;
/// The same limit for their size in bytes. At twice this size, further use is ignored until the pending use is
/// recorded.
const MAX_TOUCHED_BYTES: usize = budget::USED as usize / 2;

/// Counts stored and reserved bytes; the rows in the database survive restarts.
#[derive(Default)]
pub(super) struct Usage {
    stored: AtomicU64,
    reserved: AtomicU64,
}

impl Usage {
    /// The number of bytes on disk.
    pub(super) fn stored(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }

    /// The number of bytes reserved for running fills.
    pub(super) fn reserved(&self) -> u64 {
        self.reserved.load(Ordering::Relaxed)
    }

    pub(super) fn added(&self, bytes: u64) {
        self.stored.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(super) fn removed(&self, bytes: u64) {
        let less = |stored: u64| Some(stored.saturating_sub(bytes));
        let _ = self.stored.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }

    /// Reserves space, unless the total would exceed `limit`.
    pub(super) fn reserve(self: &Arc<Self>, bytes: u64, limit: u64) -> Option<Reservation> {
        let room = |reserved: u64| {
            let reserved = reserved.checked_add(bytes)?;
            (reserved.checked_add(self.stored())? <= limit).then_some(reserved)
        };
        self.reserved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).ok()?;
        Some(Reservation { usage: self.clone(), bytes })
    }
}

/// Space reserved for a fill, until it has ended.
pub(super) struct Reservation {
    usage: Arc<Usage>,
    bytes: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.usage.reserved.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// The manifests used since use was last recorded. The blobs of an image have the same last use as its
/// manifest.
#[derive(Default)]
pub(super) struct Touched(Mutex<RecentUse>);

#[derive(Default)]
struct RecentUse {
    manifests: HashMap<Digest, (Timestamp, Bytes)>,
    /// Manifests that were stored, and not used since.
    stored: HashSet<Digest>,
    /// The total size.
    bytes: usize,
}

impl Touched {
    /// Records that a manifest is being stored with the current time as its last use, for a request that will use it.
    pub(super) fn stored(&self, manifest: Digest) {
        let mut touched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Each forgotten entry costs writing an identical row again.
        if touched.stored.len() >= MAX_TOUCHED {
            touched.stored.clear();
        }
        touched.stored.insert(manifest);
    }

    /// Records that a manifest is used now, with its content, so that an image that was evicted in the meantime is
    /// restored with its blobs. Returns true if enough uses are pending that they should be recorded.
    pub(super) fn touch(&self, manifest: Digest, now: Timestamp, bytes: &Bytes) -> bool {
        let mut touched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if touched.stored.remove(&manifest) {
            // The row of its content says so.
        } else if let Some((at, _)) = touched.manifests.get_mut(&manifest) {
            *at = now;
        } else if touched.manifests.len() < 2 * MAX_TOUCHED && touched.bytes < 2 * MAX_TOUCHED_BYTES {
            touched.bytes += bytes.len();
            touched.manifests.insert(manifest, (now, bytes.clone()));
        }
        touched.manifests.len() >= MAX_TOUCHED || touched.bytes >= MAX_TOUCHED_BYTES
    }

    /// When a manifest was used, if that is not recorded yet.
    pub(super) fn pending(&self, manifest: Digest) -> Option<Timestamp> {
        let touched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        touched.manifests.get(&manifest).map(|(at, _)| *at)
    }

    /// Keeps uses that could not be recorded, as long as there is room for them.
    pub(super) fn put_back(&self, used: HashMap<Digest, (Timestamp, Bytes)>) {
        let mut touched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for (manifest, (at, bytes)) in used {
            let has_room = touched.manifests.len() < 2 * MAX_TOUCHED && touched.bytes < 2 * MAX_TOUCHED_BYTES;
            if has_room && !touched.manifests.contains_key(&manifest) {
                touched.bytes += bytes.len();
                touched.manifests.insert(manifest, (at, bytes));
            }
        }
    }

    pub(super) fn take(&self) -> HashMap<Digest, (Timestamp, Bytes)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).manifests
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reservations_count_until_they_are_used_or_dropped() {
        let usage = Arc::new(Usage::default());
        usage.added(40);
        let first = usage.reserve(50, 100).expect("there is space");
        assert!(usage.reserve(11, 100).is_none(), "more than the limit");
        let second = usage.reserve(10, 100).expect("exactly the limit");
        assert_eq!((usage.stored(), usage.reserved()), (40, 60));
        drop((first, second));
        usage.removed(50);
        assert_eq!((usage.stored(), usage.reserved()), (0, 0), "never below zero");
        assert!(usage.reserve(u64::MAX, u64::MAX - 1).is_none());
    }
    #[test]
    fn recorded_use_is_bounded() {
        let (touched, large) = (Touched::default(), Bytes::from(vec![0; MAX_TOUCHED_BYTES / 4]));
        let said: Vec<bool> =
            (0..20_u8).map(|n| touched.touch(Digest::sha256(&[n]), Timestamp::UNIX_EPOCH, &large)).collect();
        assert_eq!(said.iter().position(|many| *many), Some(3));
        assert_eq!(touched.take().len(), 8);
        assert!(!touched.touch(Digest::sha256(b"x"), Timestamp::UNIX_EPOCH, &large), "counting restarts");
    }

    #[test]
    fn use_by_the_request_that_stored_a_manifest_is_not_recorded_twice() {
        let (touched, digest, bytes) = (Touched::default(), Digest::sha256(b"x"), Bytes::from_static(b"x"));
        let touch = || touched.touch(digest, Timestamp::UNIX_EPOCH, &bytes);
        touched.stored(digest);
        touch();
        assert!(touched.take().is_empty());
        touch();
        assert_eq!(touched.take().len(), 1, "the next request records its use");
        touched.stored(digest);
        assert!(touched.take().is_empty());
        touch();
        assert_eq!(touched.take().len(), 1, "its request may be another one by now");
    }
}
