//! Layers that are larger than any signature: attestations with provenance or a list of packages. The memory for them
//! is limited: for each registry, so that one that sends slowly does not delay the others, and for all registries
//! together. A layer that takes long to arrive loses its memory when another registry needs it, so that a few slow
//! registries do not delay the others either.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::sleep;

use crate::oci::Host;

/// How many registries can use all of their memory at the same time.
const REGISTRIES: usize = 4;
/// How long a layer may take to arrive while another registry waits for memory. It is well below the time of one
/// search.
const TURN: Duration = Duration::from_secs(15);

/// The memory for large layers.
#[derive(Clone)]
pub(super) struct LargeLayersMemory {
    shared: Arc<SharedMemory>,
}

/// All semaphores count KiB.
struct SharedMemory {
    /// The largest layer, in bytes.
    max: usize,
    /// For layers that are being received and verified.
    all: Arc<Semaphore>,
    /// For layers that are being verified: parsed JSON takes several times the memory of its text.
    verifying: Arc<Semaphore>,
    /// What each registry may use of `all`.
    registries: Mutex<HashMap<Host, Arc<Semaphore>>>,
    /// How many searches wait for a part of `all`.
    waiting: watch::Sender<usize>,
}

/// The memory for large layers of one registry. One search reserves memory for one layer at a time, and gives it back
/// when the layer was verified, so that searches wait for each other but never for themselves.
#[derive(Clone)]
pub(super) struct LargeLayers {
    shared: Arc<SharedMemory>,
    own: Arc<Semaphore>,
}

/// Reserved memory, given back when it is dropped.
pub(super) struct ReservedMemory {
    kib: u32,
    shared: Arc<SharedMemory>,
    /// The limits of the registry, of all registries, and of the layers that are being verified.
    permits: (OwnedSemaphorePermit, OwnedSemaphorePermit, Option<OwnedSemaphorePermit>),
}

impl LargeLayersMemory {
    /// Memory for `max` bytes of each registry, and for four times as many of all registries.
    pub(super) fn new(max: usize) -> Self {
        let semaphore = |bytes| Arc::new(Semaphore::new(kib(bytes) as usize));
        let all = semaphore(max.saturating_mul(REGISTRIES));
        let shared = SharedMemory {
            max,
            all,
            verifying: semaphore(max),
            registries: Mutex::default(),
            waiting: watch::Sender::default(),
        };
        Self { shared: Arc::new(shared) }
    }

    /// The memory for layers of this registry, which is one of the configured ones.
    pub(super) fn of(&self, registry: &Host) -> LargeLayers {
        let mut registries = self.shared.registries.lock().unwrap_or_else(PoisonError::into_inner);
        let own = registries.entry(registry.clone());
        let own = own.or_insert_with(|| Arc::new(Semaphore::new(kib(self.shared.max) as usize))).clone();
        LargeLayers { shared: self.shared.clone(), own }
    }
}

impl LargeLayers {
    /// Waits until there is memory for this many bytes, at most for the largest layer.
    pub(super) async fn reserve(&self, bytes: usize) -> Option<ReservedMemory> {
        let kib = kib(bytes.min(self.shared.max));
        let own = self.own.clone().acquire_many_owned(kib).await.ok()?;
        let all = match self.shared.all.clone().try_acquire_many_owned(kib) {
            Ok(all) => all,
            Err(_) => {
                let _waiting = WaitingSearch::new(&self.shared.waiting);
                self.shared.all.clone().acquire_many_owned(kib).await.ok()?
            }
        };
        Some(ReservedMemory { kib, shared: self.shared.clone(), permits: (own, all, None) })
    }
}

impl ReservedMemory {
    /// Waits for what arrives in this memory; `None` if that takes longer than [`TURN`] and another registry waits for
    /// memory.
    pub(super) async fn receive<T>(&self, arriving: impl Future<Output = T>) -> Option<T> {
        let mut waiting = self.shared.waiting.subscribe();
        tokio::select! {
            biased;
            arrived = arriving => Some(arrived),
            () = async {
                sleep(TURN).await;
                // The sender is borrowed here, so it is not gone.
                let _ = waiting.wait_for(|count| *count > 0).await;
            } => None,
        }
    }

    /// Waits until the layer, which has arrived, may be verified. So no caller waits for a registry here.
    pub(super) async fn for_verification(mut self) -> Self {
        self.permits.2 = self.shared.verifying.clone().acquire_many_owned(self.kib).await.ok();
        self
    }
}

/// Counts a search as waiting while it lives.
struct WaitingSearch<'a>(&'a watch::Sender<usize>);

impl<'a> WaitingSearch<'a> {
    fn new(count: &'a watch::Sender<usize>) -> Self {
        count.send_modify(|count| *count += 1);
        Self(count)
    }
}

impl Drop for WaitingSearch<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;
    use futures_util::future::join_all;

    use super::*;

    const MIB: usize = 1 << 20;

    fn host(number: usize) -> Host {
        format!("r{number}.example.com").parse().unwrap()
    }

    #[test]
    fn memory_is_limited_for_each_registry_and_for_all_together() {
        let memory = LargeLayersMemory::new(10 * MIB);
        let large = memory.of(&host(0));
        let held = large.reserve(6 * MIB).now_or_never().unwrap();
        assert!(memory.of(&host(0)).reserve(5 * MIB).now_or_never().is_none(), "too much of one registry");
        let other = large.reserve(4 * MIB).now_or_never().unwrap();
        drop((held, other));
        let reserve = |number| memory.of(&host(number)).reserve(usize::MAX).now_or_never();
        let full: Vec<_> = (0..4).map(|number| reserve(number).expect("the largest layer of each registry")).collect();
        assert!(reserve(4).is_none(), "too much of all registries");
        drop(full);
        assert!(reserve(4).is_some());
    }

    /// Registries that send nothing for as long as a search may take hold all of the memory for no longer than a turn.
    #[tokio::test(start_paused = true)]
    async fn slow_layers_give_their_memory_to_other_registries() {
        let memory = LargeLayersMemory::new(10 * MIB);
        let slow = |number| {
            let large = memory.of(&host(number));
            async move {
                let memory = large.reserve(usize::MAX).await.unwrap();
                memory.receive(std::future::pending::<()>()).await
            }
        };
        let mut slow = std::pin::pin!(join_all((0..REGISTRIES).map(slow)));
        tokio::select! {
            _ = &mut slow => panic!("nobody else needs the memory"),
            () = sleep(2 * TURN) => {}
        }
        let other = async {
            let reserved = memory.of(&host(REGISTRIES)).reserve(6 * MIB).await.unwrap();
            reserved.receive(sleep(TURN / 2)).await
        };
        let (slow, other) = tokio::join!(slow, other);
        assert!(slow.iter().any(Option::is_none) && other.is_some());
    }

    #[test]
    fn memory_for_parsed_layers_is_limited() {
        let memory = LargeLayersMemory::new(10 * MIB);
        let reserve = |number| memory.of(&host(number)).reserve(6 * MIB).now_or_never().unwrap().unwrap();
        let verifying = reserve(0).for_verification().now_or_never().unwrap();
        assert!(reserve(1).for_verification().now_or_never().is_none());
        drop(verifying);
        assert!(reserve(1).for_verification().now_or_never().is_some());
    }
}
