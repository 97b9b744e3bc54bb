//! Bounds the database along with the content: rows about evicted content are removed by age.

use super::CacheInner;
use super::evict::{Freed, percent};
use crate::store::StoreError;

/// If the rows exceed `max_database`, they are reduced to this percentage of it.
const LOW: u64 = 90;
/// If the rows of cached content alone exceed the limit, this fraction of the content is evicted at a time.
const PART: u64 = 16;

impl CacheInner {
    /// Removes the least recently used rows while they exceed their limit. If the remaining rows belong to cached
    /// content, large evidence is removed first, so that images with very many packages do not evict others. Then the
    /// least recently used content is evicted.
    pub(super) async fn bound_facts(&self, freed: &mut Freed) -> Result<(), StoreError> {
        let max = self.config.max_database;
        if self.store.live_bytes().await? <= max {
            return Ok(());
        }
        let low = percent(max, LOW);
        let mut rows = 0;
        loop {
            rows += self.store.forget_least_used(low, self.clock.now()).await?;
            rows += self.store.forget_largest(low).await?;
            let before = freed.files;
            if self.store.live_bytes().await? > low {
                let part = self.usage.stored() / PART + 1;
                self.evict(freed.bytes.saturating_add(part), None, &[], freed).await?;
            }
            if freed.files == before {
                break;
            }
        }
        tracing::info!(
            rows,
            max_bytes = max,
            "removed the least recently used rows: the database had reached its maximum size"
        );
        Ok(())
    }

    /// Removes expired rows; returns their number, and by how many bytes the file shrank.
    pub(super) async fn forget(&self) -> Result<(u64, u64), StoreError> {
        let (now, before) = (self.clock.now(), self.clock.ago(self.config.fact_memory));
        let rows = self.store.facts.drop_stale(now, before).await? + self.store.forget_before(before).await?;
        Ok((rows, self.store.shrink().await?))
    }

    pub(super) async fn forget_or_say(&self) {
        match self.forget().await {
            Ok((0, _)) => {}
            Ok((rows, bytes)) => tracing::info!(rows, bytes, "removed facts about evicted images"),
            Err(error) => tracing::warn!(%error, "cannot remove old facts; will retry"),
        }
    }
}
