//! Layers that are larger than any signature: attestations with provenance or a list of packages. The memory for them is
//! limited for all requests together.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The memory for large layers. One search reserves memory for one layer at a time, and gives it back when the layer was
/// verified, so that searches wait for each other but never for themselves.
#[derive(Clone)]
pub(super) struct LargeLayers {
    /// In KiB.
    memory: Arc<Semaphore>,
    max: usize,
}

/// Reserved memory, given back when it is dropped.
pub(super) struct ReservedMemory(#[expect(dead_code, reason = "held")] OwnedSemaphorePermit);

impl LargeLayers {
    /// Memory for `max` bytes.
    pub(super) fn new(max: usize) -> Self {
        let permits = u32::try_from(max.div_ceil(1024)).unwrap_or(u32::MAX);
        Self { memory: Arc::new(Semaphore::new(permits as usize)), max }
    }

    /// Waits until there is memory for this many bytes, at most for the largest layer.
    pub(super) async fn reserve(&self, bytes: usize) -> Option<ReservedMemory> {
        let permits = u32::try_from(bytes.min(self.max).div_ceil(1024)).ok()?;
        self.memory.clone().acquire_many_owned(permits).await.ok().map(ReservedMemory)
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn memory_is_limited_for_all_together() {
        let large = LargeLayers::new(10 << 20);
        let held = large.reserve(6 << 20).now_or_never().unwrap();
        assert!(large.reserve(5 << 20).now_or_never().is_none(), "too much at once");
        let other = large.reserve(4 << 20).now_or_never().unwrap();
        drop((held, other));
        assert!(large.reserve(usize::MAX).now_or_never().is_some(), "the largest layer always fits");
    }
}
