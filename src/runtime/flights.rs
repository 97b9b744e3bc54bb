//! Single-flight: concurrent requests for the same work share one execution.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::future::Future;
use std::hash::Hash;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::watch;

use super::Tasks;
use super::trace::carried;

/// Work in progress, by key. The work runs in a tracked task, so it continues even if all callers have left.
pub struct Flights<K, V> {
    running: Arc<Mutex<HashMap<K, watch::Receiver<FlightState<V>>>>>,
    tasks: Tasks,
}

/// What work has reported.
struct FlightState<V> {
    value: Option<V>,
    has_landed: bool,
}

/// Reports values that are known before the work ends.
pub struct FlightReporter<V>(watch::Sender<FlightState<V>>);

impl<V> FlightReporter<V> {
    /// Replaces the value that was reported before.
    pub fn report(&self, value: V) {
        self.0.send_replace(FlightState { value: Some(value), has_landed: false });
    }
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
        self.join_until(key, |_| work(), |_| false).await
    }

    /// The same for work that reports values before it ends: waits until it ends or a value `is_enough` for this
    /// caller.
    pub async fn join_until<F>(
        &self,
        key: K,
        work: impl FnOnce(FlightReporter<V>) -> F,
        is_enough: impl Fn(&V) -> bool,
    ) -> Option<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let mut state = self.begin(key, work);
        let is_over = |state: &FlightState<V>| state.has_landed || state.value.as_ref().is_some_and(&is_enough);
        state.wait_for(is_over).await.ok()?.value.clone()
    }

    fn begin<F>(&self, key: K, work: impl FnOnce(FlightReporter<V>) -> F) -> watch::Receiver<FlightState<V>>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let (sender, receiver) = watch::channel(FlightState { value: None, has_landed: false });
        let landing = match self.running.lock().unwrap_or_else(PoisonError::into_inner).entry(key.clone()) {
            Entry::Occupied(running) => return running.get().clone(),
            Entry::Vacant(free) => {
                free.insert(receiver.clone());
                FlightGuard { key, running: self.running.clone() }
            }
        };
        // The lock is released: a runtime that is shutting down drops the task at once, and the landing takes the lock.
        let work = carried(work(FlightReporter(sender.clone())));
        self.tasks.spawn(async move {
            let value = work.await;
            // Later callers start new work; callers that are already waiting receive this value.
            drop(landing);
            sender.send_replace(FlightState { value: Some(value), has_landed: true });
        });
        receiver
    }
}

/// Removes the key when the work ends, including by a panic.
struct FlightGuard<K: Eq + Hash, V> {
    key: K,
    running: Arc<Mutex<HashMap<K, watch::Receiver<FlightState<V>>>>>,
}

impl<K: Eq + Hash, V> Drop for FlightGuard<K, V> {
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

    /// Each caller waits only for the part that it needs, and the work continues.
    #[tokio::test]
    async fn a_caller_leaves_when_it_knows_enough() {
        let flights = Arc::new(Flights::new(Tasks::new()));
        let gate = Arc::new(Notify::new());
        let (opened, other) = (gate.clone(), flights.clone());
        let work = |reporter: FlightReporter<u8>| async move {
            reporter.report(1);
            opened.notified().await;
            2
        };
        assert_eq!(flights.join_until("key", work, |value| *value == 1).await, Some(1));
        let mut patient = Box::pin(other.join("key", || async { 3 }));
        assert!(futures_util::poll!(&mut patient).is_pending(), "the first value is not the result");
        gate.notify_one();
        assert_eq!(patient.await, Some(2));
        let panics = |reporter: FlightReporter<u8>| async move {
            reporter.report(1);
            panic!("on purpose")
        };
        assert_eq!(flights.join_until("panic", panics, |_| false).await, None);
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

    /// Such a runtime drops new tasks at once, in the thread that spawns them.
    #[test]
    fn work_for_a_runtime_that_was_shut_down_yields_no_result() {
        let runtime = || tokio::runtime::Builder::new_current_thread().build().unwrap();
        let home = runtime();
        let flights = Flights::new(home.block_on(async { Tasks::new() }));
        drop(home);
        let other = runtime();
        for _ in 0..2 {
            assert_eq!(other.block_on(flights.join("key", || async {})), None);
        }
    }
}
