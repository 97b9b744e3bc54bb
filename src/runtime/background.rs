//! Work that may take all of an idle processor core, and little of a busy one.

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use rustix::process::setpriority_process;
use tokio::sync::oneshot;

/// The maximum number of threads.
const THREADS: usize = 2;
/// How long a thread waits for more work before it ends.
const IDLE: Duration = Duration::from_secs(1);
/// A priority at which a thread gets a tenth of what others get of a busy core: at the lowest one (19) it would get a
/// seventieth, and on a machine that is always busy, the work would not be done in hours.
const LOW: i32 = 10;

/// Runs work on at most two threads of a low priority, so that requests come first. The threads exist only while there
/// is work. Cheap to clone.
///
/// Threads of the common pool are not used: a thread without privileges can give up its priority, but cannot get it
/// back.
#[derive(Clone, Default)]
pub struct Background(Arc<WorkQueue>);

type BackgroundJob = Box<dyn FnOnce() + Send>;

#[derive(Default)]
struct WorkQueue {
    state: Mutex<QueueState>,
    added: Condvar,
}

#[derive(Default)]
struct QueueState {
    jobs: VecDeque<BackgroundJob>,
    threads: usize,
    idle: usize,
}

impl Background {
    /// Creates a value without threads.
    pub fn new() -> Self {
        Self::default()
    }

    /// Runs work and waits for its result. `None` if it panicked, or no thread could be started. If the caller is
    /// dropped, the work runs nevertheless.
    pub async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
        let (done, result) = oneshot::channel();
        // The caller may have left.
        self.add(Box::new(move || drop(done.send(work()))));
        result.await.ok()
    }

    fn add(&self, job: BackgroundJob) {
        let mut state = self.0.lock();
        state.jobs.push_back(job);
        if state.idle >= state.jobs.len() || state.threads == THREADS {
            self.0.added.notify_one();
            return;
        }
        let queue = self.0.clone();
        match thread::Builder::new().name("background".into()).spawn(move || queue.work()) {
            Ok(_) => state.threads += 1,
            Err(error) => {
                tracing::warn!(%error, "cannot start a thread for background work");
                if state.threads == 0 {
                    // Nobody would do it. Its caller is told.
                    state.jobs.clear();
                }
            }
        }
    }
}

impl WorkQueue {
    fn lock(&self) -> MutexGuard<'_, QueueState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn work(&self) {
        // The process of number 0 is, on Linux, the calling thread alone. Without a lower priority the work is still
        // right.
        let _ = setpriority_process(None, LOW);
        while let Some(job) = self.next() {
            // A panic affects only its job, whose result is then missing; the thread continues.
            let _ = std::panic::catch_unwind(std::panic::AssertUnwindSafe(job));
        }
    }

    /// The next job; `None` if the thread ends.
    fn next(&self) -> Option<BackgroundJob> {
        let mut state = self.lock();
        if state.jobs.is_empty() {
            state.idle += 1;
            let waited = self.added.wait_timeout_while(state, IDLE, |state| state.jobs.is_empty());
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
            state.idle -= 1;
        }
        let job = state.jobs.pop_front();
        state.threads -= usize::from(job.is_none());
        job
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::getpriority_process;

    use super::*;

    #[tokio::test]
    async fn work_runs_on_few_threads_of_low_priority() {
        let background = Background::new();
        let own = getpriority_process(None).unwrap();
        let work = |number: usize| background.run(move || (number, getpriority_process(None).unwrap()));
        let results = futures_util::future::join_all((0..100).map(work)).await;
        assert!(background.0.lock().threads <= THREADS);
        for (number, result) in results.into_iter().enumerate() {
            assert_eq!(result, Some((number, LOW)));
        }
        assert_eq!(getpriority_process(None).unwrap(), own, "other threads keep their priority");
    }

    #[tokio::test]
    async fn a_panic_yields_no_result_and_other_work_continues() {
        let background = Background::new();
        assert_eq!(background.run(|| panic!("on purpose")).await, None::<()>);
        assert_eq!(background.run(|| 1).await, Some(1));
    }
}
