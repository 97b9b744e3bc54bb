//! The threads that serve connections.
//!
//! Each thread has a separate runtime with its sockets, timers and task queue. A connection stays on the thread that it
//! was assigned to, so repeating a response touches no memory that other cores write. Work that outlives a request
//! (downloads, lookups) runs on the runtime of [`Tasks`].

use std::future::Future;
use std::io;
use std::num::NonZero;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;

use crate::runtime::{Tasks, number_this_thread};

/// How many tasks a worker polls before it checks its sockets again. Under TLS, a body encrypts 64 KiB in one poll,
/// and small responses must not wait for many such polls.
const EVENT_INTERVAL: u32 = 4;
/// The maximum number of concurrent blocking reads for the connections of one worker.
const MAX_BLOCKING: usize = 64;

/// The threads that serve connections. They end when this value is dropped.
#[derive(Debug)]
pub(super) struct Workers(Vec<Worker>);

#[derive(Debug)]
struct Worker {
    runtime: Handle,
    /// The number of connections that it serves.
    connections: Arc<AtomicUsize>,
    /// Dropping it ends the thread.
    _running: oneshot::Sender<()>,
}

impl Workers {
    /// Starts one worker per processor core.
    ///
    /// # Errors
    /// If the system cannot provide a thread or a file descriptor.
    pub(super) fn start() -> io::Result<Self> {
        let count = thread::available_parallelism().map_or(1, NonZero::get);
        (0..count).map(Worker::start).collect::<io::Result<_>>().map(Self)
    }

    /// The runtime of each worker.
    pub(super) fn runtimes(&self) -> Vec<Handle> {
        self.0.iter().map(|worker| worker.runtime.clone()).collect()
    }

    /// Runs a connection as a tracked task on the worker with the fewest connections.
    pub(super) fn serve<F>(&self, tasks: &Tasks, connection: F)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let fewest = self.0.iter().min_by_key(|worker| worker.connections.load(Ordering::Relaxed));
        // There is always at least one worker.
        let Some(worker) = fewest else { return };
        let served = Served::new(&worker.connections);
        let connection = async move {
            let _served = served;
            connection.await;
        };
        tasks.spawn_transfer_on(connection, &worker.runtime);
    }
}

impl Worker {
    fn start(number: usize) -> io::Result<Self> {
        let mut runtime = Builder::new_current_thread();
        runtime.enable_all().event_interval(EVENT_INTERVAL).max_blocking_threads(MAX_BLOCKING);
        let runtime = runtime.build()?;
        let handle = runtime.handle().clone();
        let (running, ended) = oneshot::channel::<()>();
        let work = move || {
            // No two workers may add to the same counters and batches.
            number_this_thread(number);
            // Nothing is ever sent; dropping the sender ends the runtime.
            _ = runtime.block_on(ended);
            runtime.shutdown_background();
        };
        thread::Builder::new().name("pullgate-serve".into()).spawn(work)?;
        Ok(Self { runtime: handle, connections: Arc::default(), _running: running })
    }
}

/// Counts a connection for as long as it is served.
struct Served(Arc<AtomicUsize>);

impl Served {
    fn new(connections: &Arc<AtomicUsize>) -> Self {
        connections.fetch_add(1, Ordering::Relaxed);
        Self(connections.clone())
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[tokio::test]
    async fn connections_are_spread_evenly_and_shutdown_waits_for_them() {
        let tasks = Tasks::new();
        let workers = Workers((0..3).map(|number| Worker::start(number).unwrap()).collect());
        let (mut ends, mut threads) = (Vec::new(), HashSet::new());
        for _ in 0..3 {
            let (end, ended) = oneshot::channel::<()>();
            let (tell, told) = oneshot::channel();
            workers.serve(&tasks, async move {
                tell.send(thread::current().id()).unwrap();
                let _ = ended.await;
            });
            threads.insert(told.await.unwrap());
            ends.push(end);
        }
        assert_eq!(threads.len(), 3);
        assert_eq!(tasks.running(), 3);
        drop(ends);
        assert!(tasks.drain(std::time::Duration::from_secs(20)).await);
    }
}
