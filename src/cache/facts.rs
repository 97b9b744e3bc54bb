//! Facts are bounded with the content that they are about: rows of what is gone are forgotten by their age.

use jiff::{SignedDuration, Timestamp};

use super::Inner;
use super::evict::{Freed, percent};
use crate::store::StoreError;

/// To this share of `max_database`, in percent, rows are forgotten once they take more.
const LOW: u64 = 90;
/// Where rows that content needs take too much, this part of the content goes at a time.
const PART: u64 = 16;

impl Inner {
    /// Forgets what was unused for longest while rows take more than they may. Where the rows are those of content that
    /// is here, the content that was used longest ago goes first.
    pub(super) async fn bound_facts(&self, freed: &mut Freed) -> Result<(), StoreError> {
        let max = self.config.max_database;
        if self.store.live_bytes().await? <= max {
            return Ok(());
        }
        let low = percent(max, LOW);
        let mut rows = 0;
        loop {
            rows += self.store.forget_least_used(low, self.clock.now()).await?;
            let before = freed.files;
            if self.store.live_bytes().await? > low {
                let part = self.usage.stored() / PART + 1;
                self.evict(freed.bytes.saturating_add(part), None, freed).await?;
            }
            if freed.files == before {
                break;
            }
        }
        tracing::info!(rows, max_bytes = max, "forgot what was unused for longest: the database had its size");
        Ok(())
    }

    /// Forgets what is too old; gives how many rows went, and by how many bytes the file became smaller.
    pub(super) async fn forget(&self) -> Result<(u64, u64), StoreError> {
        let age = SignedDuration::try_from(self.config.fact_memory).unwrap_or(SignedDuration::MAX);
        let now = self.clock.now();
        let before = now.saturating_sub(age).unwrap_or(Timestamp::MIN);
        let rows = self.store.drop_stale(now, before).await? + self.store.forget_before(before).await?;
        Ok((rows, self.store.shrink().await?))
    }

    pub(super) async fn forget_or_say(&self) {
        match self.forget().await {
            Ok((0, _)) => {}
            Ok((rows, bytes)) => tracing::info!(rows, bytes, "forgot facts of images that are gone"),
            Err(error) => tracing::warn!(%error, "old facts could not be forgotten; it is tried again"),
        }
    }
}
