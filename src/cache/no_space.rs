//! Eviction on a disk that is full.

use super::CacheInner;
use super::evict::{Freed, NoRoom};
use crate::oci::Digest;
use crate::runtime::rounded_size;
use crate::store::{StoreError, StoredContent};

impl CacheInner {
    /// Why the disk has no room for this many bytes; `None` if it has.
    pub(super) fn full_disk(&self, bytes: u64) -> Option<NoRoom> {
        let space = self.disk.space().ok()?;
        let kept = self.kept_free(space);
        let message = || {
            let (free, must) = (rounded_size(space.free), rounded_size(kept));
            format!("{free} are free, of which {must} must stay free (cache.min_free)")
        };
        (space.free < bytes.saturating_add(kept)).then(|| NoRoom::Disk(message()))
    }

    /// On a full disk, even a change of the database has no room. So the files are removed first, and then their rows.
    /// A row that stays behind because the process ends in between has no file: it is removed at the next start.
    pub(super) async fn remove_files_first(
        &self,
        parts: &[StoredContent],
        freed: &mut Freed,
    ) -> Result<bool, StoreError> {
        let mut gone = Vec::new();
        for part in parts {
            self.memory.remove(&part.digest);
            match self.readings.remove_unread(&self.disk, part.digest) {
                Ok(true) => gone.push(*part),
                // A reader opened it in the meantime, so it stays.
                Ok(false) => freed.in_use += 1,
                Err(error) => {
                    tracing::warn!(content.digest = %part.digest, %error, "cannot remove evicted content");
                    freed.failed += 1;
                }
            }
        }
        let digests: Vec<Digest> = gone.iter().map(|part| part.digest).collect();
        let bytes: u64 = gone.iter().map(|part| part.size).sum();
        freed.bytes += bytes;
        freed.files += gone.len() as u64;
        if let Err(error) = self.store.node.forget_contents(&digests).await {
            // Removing small files frees too little room for it. The eviction continues, and the next one removes the
            // rows.
            tracing::warn!(%error, "cannot delete the rows of evicted content: the disk is full; will retry");
            return Ok(false);
        }
        self.usage.removed(bytes);
        Ok(gone.len() == parts.len())
    }

    /// Whether the disk has less space than must stay free.
    pub(super) fn is_disk_full(&self) -> bool {
        self.disk.space().is_ok_and(|space| space.free <= self.kept_free(space))
    }
}
