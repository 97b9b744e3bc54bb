//! Tasks that deliberately outlive a request, and their orderly shutdown.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tokio_util::task::task_tracker::TaskTrackerToken;

/// Spawns tasks, tells them to stop, and waits for them. Cheap to clone.
///
/// Tasks run on the runtime in which the value was created, even if they are spawned from another runtime. Work that
/// outlives a request must not depend on the thread that served it.
///
/// Futures and work are boxed first: tokio's code for a task is compiled once for each type of task, and there are
/// hundreds.
#[derive(Clone, Debug, Default)]
pub struct Tasks {
    tracker: TaskTracker,
    /// Requests that are not answered yet.
    requests: TaskTracker,
    /// Tasks that can finish without the state directory.
    transfers: TaskTracker,
    stop: CancellationToken,
    /// Whether the process will stop soon. Not a token, because every response reads it.
    leaving: Arc<AtomicBool>,
    /// The runtime in which the value was created. If there was none, tasks run on the runtime of the caller.
    home: Option<Handle>,
}

impl Tasks {
    /// Creates a value without tasks. Tasks will run on the current runtime.
    pub fn new() -> Self {
        Self { home: Handle::try_current().ok(), ..Self::default() }
    }

    /// The same tasks, for a part that can be stopped alone: it stops with everything else, or when
    /// [`stop`](Self::stop) is called on the returned value.
    pub fn part(&self) -> Self {
        Self { stop: self.stop.child_token(), leaving: Arc::default(), ..self.clone() }
    }

    /// Runs a task that shutdown waits for.
    pub fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.spawn_among(&self.tracker, future)
    }

    /// Runs a transfer: a task that shutdown waits for, and that can finish without the state directory.
    pub fn spawn_transfer<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.spawn_among(&self.transfers, future)
    }

    /// Runs a transfer on the runtime of the caller.
    pub fn spawn_transfer_here<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.transfers.spawn(future.boxed())
    }

    /// Runs a transfer on this runtime.
    pub fn spawn_transfer_on<F>(&self, future: F, runtime: &Handle) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        self.transfers.spawn_on(future.boxed(), runtime)
    }

    fn spawn_among<F>(&self, tracker: &TaskTracker, future: F) -> JoinHandle<F::Output>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let future = future.boxed();
        match &self.home {
            Some(home) => tracker.spawn_on(future, home),
            None => tracker.spawn(future),
        }
    }

    /// Counts as a request that is not answered yet, until it is dropped.
    pub fn request(&self) -> TaskTrackerToken {
        self.requests.token()
    }

    /// Spawns blocking work that shutdown waits for.
    pub fn spawn_blocking<F, T>(&self, work: F) -> JoinHandle<T>
    where
        F: FnOnce() -> T + Send + 'static,
        T: Send + 'static,
    {
        let work: Box<dyn FnOnce() -> T + Send> = Box::new(work);
        match &self.home {
            Some(home) => self.tracker.spawn_blocking_on(work, home),
            None => self.tracker.spawn_blocking(work),
        }
    }

    /// Resolves when shutdown starts. Long-running loops select on it.
    pub async fn stopping(&self) {
        // Every connection polls this with each of its requests, and each poll of the token takes two locks of the
        // process. The set polls the token only when it was woken.
        let mut stopping = FuturesUnordered::from_iter([self.stop.cancelled()]);
        stopping.next().await;
    }

    /// Whether shutdown has started.
    pub fn is_stopping(&self) -> bool {
        self.stop.is_cancelled()
    }

    /// Announces that shutdown starts soon. Work continues, but clients should not keep their connections.
    pub fn announce_stop(&self) {
        self.leaving.store(true, Ordering::Release);
    }

    /// Whether shutdown has been announced or has started.
    pub fn is_leaving(&self) -> bool {
        self.leaving.load(Ordering::Acquire)
    }

    /// Starts shutdown.
    pub fn stop(&self) {
        self.announce_stop();
        self.stop.cancel();
    }

    /// Starts shutdown and waits for all tasks, at most for `grace`. Returns true if all tasks have ended.
    pub async fn drain(&self, grace: Duration) -> bool {
        self.stop();
        let all = async {
            for tracker in [&self.requests, &self.transfers, &self.tracker] {
                tracker.close();
                tracker.wait().await;
            }
        };
        tokio::time::timeout(grace, all).await.is_ok()
    }

    /// Starts shutdown and waits until all requests are answered, at most for `grace`, and then for all other tasks
    /// except transfers, at most for `others`. Returns true if all requests were answered.
    pub async fn settle(&self, grace: Duration, others: Duration) -> bool {
        self.stop();
        self.requests.close();
        let is_answered = tokio::time::timeout(grace, self.requests.wait()).await.is_ok();
        self.tracker.close();
        // The next process repeats their work.
        let _ = tokio::time::timeout(others, self.tracker.wait()).await;
        is_answered
    }

    /// The number of running tasks.
    pub fn running(&self) -> usize {
        self.tracker.len() + self.transfers.len()
    }
}

/// Runs the tasks of a library on the runtime in which the value was created, even if the library is called from
/// another runtime. Shutdown does not wait for these tasks. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Untracked(Option<Handle>);

impl Untracked {
    /// Creates a value that runs tasks on the current runtime.
    pub fn new() -> Self {
        Self(Handle::try_current().ok())
    }

    /// Runs a task that no stop waits for.
    #[expect(clippy::disallowed_methods, reason = "made outside of a runtime, it spawns on the caller's")]
    pub fn spawn<F>(&self, future: F)
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        let future = future.boxed();
        match &self.0 {
            Some(runtime) => drop(runtime.spawn(future)),
            None => drop(tokio::spawn(future)),
        }
    }
}

impl Default for Untracked {
    fn default() -> Self {
        Self::new()
    }
}

impl<F> hyper::rt::Executor<F> for Untracked
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.spawn(future);
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    const LONG: Duration = Duration::from_secs(20);

    #[tokio::test]
    async fn shutdown_wakes_the_last_poller() {
        let tasks = Tasks::new();
        let part = tasks.part();
        let mut stopping = Box::pin(async move { part.stopping().await });
        assert!(stopping.as_mut().now_or_never().is_none(), "polled without a task");
        let (tell, polls) = oneshot::channel();
        let other = tasks.spawn(async move {
            tell.send(()).unwrap();
            stopping.await;
        });
        polls.await.unwrap();
        assert!(tasks.drain(LONG).await);
        other.await.unwrap();
    }

    #[tokio::test]
    async fn settling_waits_for_requests_and_other_tasks_but_not_for_transfers() {
        let tasks = Tasks::new();
        let (request, (end, ended)) = (tasks.request(), oneshot::channel::<()>());
        tasks.spawn_transfer(ended);
        let stopping = tasks.clone();
        let other = tasks.spawn(async move { stopping.stopping().await });
        assert!(!tasks.settle(Duration::ZERO, LONG).await, "a request is not answered");
        assert!(other.is_finished());
        drop(request);
        assert!(tasks.settle(LONG, LONG).await);
        assert_eq!(tasks.running(), 1);
        assert!(!tasks.drain(Duration::ZERO).await, "the transfer is under way");
        drop(end);
        assert!(tasks.drain(LONG).await);
    }
}
