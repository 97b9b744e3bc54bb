//! Single-flight: concurrent requests for the same work share one execution.

use std::collections::HashMap;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::Tasks;

/// Work in progress, by key. The work runs in a tracked task, so it continues even if all callers have left.
pub struct Flights<K, V> {
    running: Arc<Mutex<HashMap<K, watch::Receiver<Option<V>>>>>,
    tasks: Tasks,
}

impl<K, V> Flights<K, V>
where
    K: Clone + Eq + Hash + Send + 'static,
    V: Clone + Send + Sync + 'static,
{
    /// Creates an empty set.
    pub fn new(tasks: Tasks) -> Self {
        Self { running: Arc::default(), tasks }
    }

    /// Waits for the work under `key`, and starts it unless it is already running. `None` if the work panicked or the
    /// process is shutting down; the caller then does not know the result.
    pub async fn join<F>(&self, key: K, work: impl FnOnce() -> F) -> Option<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut result = self.begin(key, work);
        result.wait_for(Option::is_some).await.ok()?.clone()
    }

    fn begin<F>(&self, key: K, work: impl FnOnce() -> F) -> watch::Receiver<Option<V>>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut running = self.running.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(receiver) = running.get(&key) {
            return receiver.clone();
        }
        let (sender, receiver) = watch::channel(None);
        running.insert(key.clone(), receiver.clone());
        let landing = Landing { key, running: self.running.clone() };
        let work = work();
        self.tasks.spawn(async move {
            let value = work.await;
            // Later callers start new work; callers that are already waiting receive this value.
            drop(landing);
            sender.send_replace(Some(value));
        });
        receiver
    }
}

/// Removes the key when the work ends, including by a panic.
struct Landing<K: Eq + Hash, V> {
    key: K,
    running: Arc<Mutex<HashMap<K, watch::Receiver<Option<V>>>>>,
}

impl<K: Eq + Hash, V> Drop for Landing<K, V> {
    fn drop(&mut self) {
        self.running.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.key);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use tokio::sync::Notify;

    use super::*;

    #[tokio::test]
    async fn concurrent_callers_share_one_execution() {
        let flights = Arc::new(Flights::new(Tasks::new()));
        let (runs, gate) = (Arc::new(AtomicUsize::new(0)), Arc::new(Notify::new()));
        let ask = || {
            let (flights, runs, gate) = (flights.clone(), runs.clone(), gate.clone());
            async move {
                let work = || async move {
                    gate.notified().await;
                    runs.fetch_add(1, Ordering::SeqCst)
                };
                flights.join("key", work).await
            }
        };
        let mut all: Vec<_> = (0..10).map(|_| Box::pin(ask())).collect();
        for future in &mut all {
            assert!(futures_util::poll!(future).is_pending());
        }
        gate.notify_one();
        for future in all {
            assert_eq!(future.await, Some(0));
        }
        assert_eq!(runs.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn work_outlives_its_callers_and_a_panic_yields_no_result() {
        let tasks = Tasks::new();
        let flights = Flights::new(tasks.clone());
        let done = Arc::new(Notify::new());
        let signal = done.clone();
        {
            let mut asked = Box::pin(flights.join(1, || async move { signal.notify_one() }));
            assert!(futures_util::poll!(&mut asked).is_pending());
        }
        done.notified().await;
        assert_eq!(flights.join(2, || async { panic!("on purpose") }).await, None::<()>);
        assert_eq!(flights.join(2, || async {}).await, Some(()));
    }
}
