//! Notifications to the service manager, by systemd's protocol
//! ([sd_notify(3)](https://www.freedesktop.org/software/systemd/man/latest/sd_notify.html)). Without `NOTIFY_SOCKET`,
//! nothing happens.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::Duration;

use sd_notify::NotifyState;
use tokio::runtime::Handle;

use super::Tasks;

/// Reports that the process is serving, or that a reload has ended, and what the process is doing. `status` is one line
/// for people.
pub fn notify_ready(status: &str) {
    notify(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// Says that a reload has begun.
pub fn notify_reloading() {
    // systemd compares the time with that of its request; without it, the reload is not waited for.
    if let Ok(now) = NotifyState::monotonic_usec_now() {
        notify(&[NotifyState::Reloading, now, NotifyState::Status("reloading")]);
    }
}

/// Reports that the process is stopping. `status` is one line for people.
pub fn notify_stopping(status: &str) {
    notify(&[NotifyState::Stopping, NotifyState::Status(status)]);
}

/// Reports at an interval, until `tasks` stop, that the process is alive, if the service manager asks for it
/// (`WatchdogSec`).
///
/// A separate thread does so, but only while the current runtime and one of `workers` run tasks: a gate whose threads
/// are all stuck answers no requests, and must be restarted.
pub fn keep_watchdog(tasks: &Tasks, workers: Vec<Handle>) {
    let Some(limit) = sd_notify::watchdog_enabled() else { return };
    let interval = (limit / 2).max(Duration::from_millis(10));
    let (running, ended) = mpsc::channel::<()>();
    let stop = tasks.clone();
    tasks.spawn(async move {
        stop.stopping().await;
        drop(running);
    });
    let mut watched = WatchedRuntimes::new(Handle::current(), workers);
    let watch = move || {
        let mut was_alive = true;
        loop {
            let is_alive = watched.are_alive();
            if is_alive {
                notify(&[NotifyState::Watchdog]);
            } else if was_alive {
                let seconds = interval.as_secs_f32();
                tracing::error!(
                    seconds,
                    "no task has run for this long; the service manager is not told that the gate is alive"
                );
            }
            was_alive = is_alive;
            watched.ask();
            // Nothing is sent.
            if ended.recv_timeout(interval) != Err(RecvTimeoutError::Timeout) {
                return;
            }
        }
    };
    if let Err(error) = thread::Builder::new().name("pullgate-alive".into()).spawn(watch) {
        tracing::error!(%error, "the service manager is not told that the gate is alive");
    }
}

/// The runtimes of this process.
struct WatchedRuntimes {
    main: Heartbeat,
    workers: Vec<Heartbeat>,
}

impl WatchedRuntimes {
    fn new(main: Handle, workers: Vec<Handle>) -> Self {
        Self { main: Heartbeat::new(main), workers: workers.into_iter().map(Heartbeat::new).collect() }
    }

    fn ask(&mut self) {
        self.main.ask();
        self.workers.iter_mut().for_each(Heartbeat::ask);
    }

    /// Whether what was asked before has been answered, by one of the workers at least.
    fn are_alive(&self) -> bool {
        self.main.is_answered() && (self.workers.is_empty() || self.workers.iter().any(Heartbeat::is_answered))
    }
}

/// Asks a runtime for a sign of life.
struct Heartbeat {
    runtime: Handle,
    answered: Arc<AtomicBool>,
}

impl Heartbeat {
    fn new(runtime: Handle) -> Self {
        Self { runtime, answered: Arc::new(AtomicBool::new(true)) }
    }

    /// At most one probe is outstanding.
    fn ask(&mut self) {
        if self.answered.swap(false, Ordering::AcqRel) {
            let answered = self.answered.clone();
            self.runtime.spawn(async move { answered.store(true, Ordering::Release) });
        }
    }

    fn is_answered(&self) -> bool {
        self.answered.load(Ordering::Acquire)
    }
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot notify the service manager");
    }
}

#[cfg(test)]
mod tests {
    use tokio::runtime::{Builder, Runtime};

    use super::*;

    /// Runs the tasks that it has only while it is told to.
    fn stuck() -> Runtime {
        Builder::new_current_thread().build().unwrap()
    }

    fn run(runtime: &Runtime) {
        runtime.block_on(tokio::task::yield_now());
    }

    #[test]
    fn a_process_is_alive_while_its_runtime_and_a_worker_run() {
        let (main, one, other) = (stuck(), stuck(), stuck());
        let workers = vec![one.handle().clone(), other.handle().clone()];
        let mut watched = WatchedRuntimes::new(main.handle().clone(), workers);
        assert!(watched.are_alive(), "nothing was asked yet");
        watched.ask();
        assert!(!watched.are_alive());
        run(&main);
        assert!(!watched.are_alive(), "no worker has run");
        run(&other);
        assert!(watched.are_alive(), "one worker is enough");
        watched.ask();
        run(&other);
        assert!(!watched.are_alive(), "the runtime of everything else is stuck");
        run(&main);
        assert!(watched.are_alive());
        run(&one);
        assert_eq!(one.handle().metrics().num_alive_tasks(), 0, "questions do not pile up");
    }
}
