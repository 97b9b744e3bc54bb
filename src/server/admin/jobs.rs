//! Jobs for work that takes too long for one call: one call starts it, others query it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::Value;

use crate::api::JobState;
use crate::runtime::Tasks;

/// The maximum number of jobs kept; the oldest finished jobs are removed first.
const MAX_JOBS: usize = 64;

/// All jobs of a gate.
pub(super) struct Jobs {
    all: Mutex<BTreeMap<u64, Arc<Job>>>,
    next: AtomicU64,
    tasks: Tasks,
}

/// A running job.
#[derive(Debug, Default)]
pub(super) struct Job(Mutex<JobState>);

impl Job {
    pub(super) fn state(&self) -> JobState {
        self.lock().clone()
    }

    /// Reports progress.
    pub(super) fn tell(&self, done_bytes: u64, total_bytes: u64) {
        let mut state = self.lock();
        (state.done_bytes, state.total_bytes) = (done_bytes, total_bytes);
    }

    /// Reports the current step.
    pub(super) fn at(&self, what: &str) {
        what.clone_into(&mut self.lock().at);
    }

    fn end(&self, outcome: Result<Value, String>) {
        let mut state = self.lock();
        match outcome {
            Ok(result) => state.result = Some(result),
            Err(error) => state.error = Some(error),
        }
    }

    fn lock(&self) -> MutexGuard<'_, JobState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Jobs {
    pub(super) fn new(tasks: Tasks) -> Self {
        Self { all: Mutex::default(), next: AtomicU64::new(1), tasks }
    }

    /// Starts a job; `None` if too many are running.
    pub(super) fn start<F>(&self, work: impl FnOnce(Arc<Job>) -> F) -> Option<JobState>
    where
        F: Future<Output = Result<Value, String>> + Send + 'static,
    {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        if all.len() >= MAX_JOBS {
            let ended = all.iter().find(|(_, job)| job.state().has_ended()).map(|(id, _)| *id)?;
            all.remove(&ended);
        }
        let id = self.next.fetch_add(1, Ordering::Relaxed);
        let job = Arc::new(Job(Mutex::new(JobState { id, ..JobState::default() })));
        all.insert(id, job.clone());
        let (work, started, tasks) = (work(job.clone()), job.state(), self.tasks.clone());
        self.tasks.spawn(async move {
            let outcome = tokio::select! {
                outcome = work => outcome,
                () = tasks.stopping() => Err("the gate is shutting down".into()),
            };
            job.end(outcome);
        });
        Some(started)
    }

    pub(super) fn get(&self, id: u64) -> Option<JobState> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        all.get(&id).map(|job| job.state())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn jobs_can_be_started_and_queried_and_are_bounded() {
        let jobs = Jobs::new(Tasks::new());
        let (open, gate) = tokio::sync::oneshot::channel::<()>();
        let first = jobs
            .start(|job| async move {
                job.tell(1, 2);
                drop(gate.await);
                Ok(Value::Null)
            })
            .unwrap();
        assert!(!jobs.get(first.id).unwrap().has_ended());
        for _ in 1..MAX_JOBS {
            jobs.start(|_| std::future::pending()).unwrap();
        }
        assert!(jobs.start(|_| std::future::pending()).is_none(), "all of them are running");
        open.send(()).unwrap();
        while !jobs.get(first.id).unwrap().has_ended() {
            tokio::task::yield_now().await;
        }
        assert_eq!(jobs.get(first.id).unwrap().done_bytes, 1);
        jobs.start(|_| async { Err("why".into()) }).unwrap();
        assert!(jobs.get(first.id).is_none(), "the finished job was removed");
    }
}
