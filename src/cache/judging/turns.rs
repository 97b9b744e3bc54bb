//! Turns for reading blobs. Each read holds some of a blob in memory, and may wait for a registry.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::oci::{Host, ImageName};

/// The maximum number of concurrent reads of one kind, for the content of one registry that is on disk.
const ON_DISK: usize = 4;
/// The same, for content that is read from one registry.
const AT_REGISTRY: usize = 12;
/// The maximum number of these for one repository, so that the slow layers of one image leave turns to other images.
const OF_REPOSITORY: usize = 4;
/// The number of semaphores above which unused ones are removed.
const MANY: usize = 64;

/// The turns, by kind of read. Content on disk has separate turns: it never waits for a registry.
#[derive(Clone, Default)]
pub(super) struct Turns(Arc<Mutex<HashMap<TurnKey, Weak<Semaphore>>>>);

#[derive(Eq, Hash, PartialEq)]
enum TurnKey {
    OnDisk(&'static str, Host),
    AtRegistry(&'static str, Host),
    OfRepository(&'static str, ImageName),
}

/// The turn of one read, until it is dropped.
pub struct ReadTurn {
    _permits: [Option<OwnedSemaphorePermit>; 2],
}

impl Turns {
    pub(super) async fn on_disk(&self, kind: &'static str, host: &Host) -> ReadTurn {
        ReadTurn { _permits: [self.take(TurnKey::OnDisk(kind, host.clone()), ON_DISK).await, None] }
    }

    /// The repository's turn is taken first: whoever waits for it holds no turn of the registry.
    pub(super) async fn at_registry(&self, kind: &'static str, name: &ImageName) -> ReadTurn {
        let of_repository = self.take(TurnKey::OfRepository(kind, name.clone()), OF_REPOSITORY).await;
        let at_registry = self.take(TurnKey::AtRegistry(kind, name.host.clone()), AT_REGISTRY).await;
        ReadTurn { _permits: [of_repository, at_registry] }
    }

    async fn take(&self, key: TurnKey, count: usize) -> Option<OwnedSemaphorePermit> {
        // The semaphore is never closed.
        self.semaphore(key, count).acquire_owned().await.ok()
    }

    /// Permits and those who wait keep a semaphore.
    fn semaphore(&self, key: TurnKey, count: usize) -> Arc<Semaphore> {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = all.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        if all.len() >= MANY {
            all.retain(|_, semaphore| semaphore.strong_count() > 0);
        }
        let new = Arc::new(Semaphore::new(count));
        all.insert(key, Arc::downgrade(&new));
        new
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_util::FutureExt;

    use super::*;

    fn name(repository: &str) -> ImageName {
        ImageName { host: "a.test".parse().unwrap(), repository: repository.parse().unwrap() }
    }

    fn has_turn(turn: impl Future<Output = ReadTurn>) -> Option<ReadTurn> {
        pin!(turn).now_or_never()
    }

    #[test]
    fn a_slow_repository_leaves_turns_to_others_and_to_the_disk() {
        let turns = Turns::default();
        let at_registry = |path: &str| has_turn(turns.at_registry("layer", &name(path)));
        let slow: Vec<_> = (0..OF_REPOSITORY).map(|_| at_registry("slow").unwrap()).collect();
        assert!(at_registry("slow").is_none());
        assert!(has_turn(turns.at_registry("config", &name("slow"))).is_some(), "of another kind");
        let others: Vec<_> = (OF_REPOSITORY..AT_REGISTRY).map(|n| at_registry(&format!("n{n}")).unwrap()).collect();
        assert!(at_registry("last").is_none());
        assert!(has_turn(turns.on_disk("layer", &name("slow").host)).is_some());
        drop((slow, others));
        assert!(at_registry("slow").is_some() && at_registry("last").is_some());
    }

    #[test]
    fn unused_semaphores_are_removed() {
        let turns = Turns::default();
        let held = has_turn(turns.at_registry("layer", &name("held")));
        for number in 0..10 * MANY {
            let name = name(&format!("n{number}"));
            assert!(has_turn(turns.at_registry("layer", &name)).is_some());
        }
        let all = turns.0.lock().unwrap();
        assert!(held.is_some() && all.len() <= MANY + 1);
        assert!(all.contains_key(&TurnKey::OfRepository("layer", name("held"))));
    }
}
