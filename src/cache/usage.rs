//! How much of the disk the cache takes, and what was used lately.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use jiff::Timestamp;

use crate::oci::Digest;

/// After so many manifests their use is written down without waiting for the next time.
const MAX_TOUCHED: usize = 2000;
/// The same for their bytes. At twice as much, use is noted no more until it was written down.
const MAX_TOUCHED_BYTES: usize = 16 * 1024 * 1024;

/// Bytes on disk and bytes promised, counted as they come and go; the rows in the store are what survives a restart.
#[derive(Default)]
pub(super) struct Usage {
    stored: AtomicU64,
    reserved: AtomicU64,
}

impl Usage {
    /// Bytes on disk.
    pub(super) fn stored(&self) -> u64 {
        self.stored.load(Ordering::Relaxed)
    }

    /// Bytes that running fills have been promised.
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

    /// Promises so many bytes, unless that is more than `limit` with all that is here.
    pub(super) fn reserve(self: &Arc<Self>, bytes: u64, limit: u64) -> Option<Reservation> {
        let room = |reserved: u64| {
            let reserved = reserved.checked_add(bytes)?;
            (reserved.checked_add(self.stored())? <= limit).then_some(reserved)
        };
        self.reserved.fetch_update(Ordering::Relaxed, Ordering::Relaxed, room).ok()?;
        Some(Reservation { usage: self.clone(), bytes })
    }
}

/// Bytes that a fill was promised, until it has ended.
pub(super) struct Reservation {
    usage: Arc<Usage>,
    bytes: u64,
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.usage.reserved.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// Which manifests were used since that was written down last. An image's blobs are as young as its manifest.
#[derive(Default)]
pub(super) struct Touched(Mutex<Uses>);

#[derive(Default)]
struct Uses {
    manifests: HashMap<Digest, (Timestamp, Bytes)>,
    /// Of all of them.
    bytes: usize,
}

impl Touched {
    /// A manifest is used now. Its bytes go along, so that one that was evicted meanwhile comes back with its blobs.
    /// True when so many are noted that they should be written down.
    pub(super) fn touch(&self, manifest: Digest, now: Timestamp, bytes: &Bytes) -> bool {
        let mut touched = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((at, _)) = touched.manifests.get_mut(&manifest) {
            *at = now;
        } else if touched.manifests.len() < 2 * MAX_TOUCHED && touched.bytes < 2 * MAX_TOUCHED_BYTES {
            touched.bytes += bytes.len();
            touched.manifests.insert(manifest, (now, bytes.clone()));
        }
        touched.manifests.len() >= MAX_TOUCHED || touched.bytes >= MAX_TOUCHED_BYTES
    }

    pub(super) fn take(&self) -> HashMap<Digest, (Timestamp, Bytes)> {
        std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner)).manifests
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn promises_count_until_they_are_kept_or_dropped() {
        let usage = Arc::new(Usage::default());
        usage.added(40);
        let first = usage.reserve(50, 100).expect("there is room");
        assert!(usage.reserve(11, 100).is_none(), "more than all");
        let second = usage.reserve(10, 100).expect("exactly full");
        assert_eq!((usage.stored(), usage.reserved()), (40, 60));
        drop((first, second));
        usage.removed(50);
        assert_eq!((usage.stored(), usage.reserved()), (0, 0), "never below nothing");
        assert!(usage.reserve(u64::MAX, u64::MAX - 1).is_none());
    }
    #[test]
    fn what_was_used_is_remembered_within_bounds() {
        let (touched, large) = (Touched::default(), Bytes::from(vec![0; 4 * 1024 * 1024]));
        let said: Vec<bool> =
            (0..20_u8).map(|n| touched.touch(Digest::sha256(&[n]), Timestamp::UNIX_EPOCH, &large)).collect();
        assert_eq!(said.iter().position(|many| *many), Some(3));
        assert_eq!(touched.take().len(), 8);
        assert!(!touched.touch(Digest::sha256(b"x"), Timestamp::UNIX_EPOCH, &large), "it begins anew");
    }
}
