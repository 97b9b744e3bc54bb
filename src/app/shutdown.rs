//! Stopping a gate in order: readiness ends first, then new requests, then running transfers, then the admin listener.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use futures_util::{Stream, StreamExt as _, stream};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::RunningGate;
use crate::config::Config;
use crate::runtime::{Tasks, notify_stopping};

/// How long tasks that have nothing to finish may take to end if the gate must end at once.
const LAST_MOMENT: Duration = Duration::from_millis(500);
/// How long data is written and admin clients are answered if the gate must end at once.
const AT_ONCE: Duration = Duration::from_secs(5);
/// How long admin clients may take to read their last response.
const ADMIN_GRACE: Duration = Duration::from_secs(1);

/// The maximum time that new clients wait for requests that must be answered before another process takes over. Clients
/// such as containerd give up after 30 seconds.
const MOST_WAITING: Duration = Duration::from_secs(20);
/// How long other work may take to end before another process takes over. That process does it again.
const OTHERS: Duration = Duration::from_secs(2);

/// How a gate ended.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ended {
    /// All transfers finished.
    Complete,
    /// Some transfers were cut: they took longer than `shutdown_grace`, or the gate was told to end at once.
    Cut,
}

/// How a gate stops.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shutdown {
    /// How long requests are still answered while `/readyz` already says that the gate is not ready.
    pub(super) delay: Duration,
    /// How long running transfers may take to finish.
    pub(super) grace: Duration,
}

/// How a gate stops, which a reload can change. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct SharedShutdown(Arc<ArcSwap<Shutdown>>);

impl SharedShutdown {
    pub(super) fn new(config: &Config) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(Shutdown::new(config))))
    }

    pub(super) fn set(&self, config: &Config) {
        self.0.store(Arc::new(Shutdown::new(config)));
    }

    pub(super) fn get(&self) -> Shutdown {
        **self.0.load()
    }
}

impl Shutdown {
    fn new(config: &Config) -> Self {
        Self { delay: config.shutdown_delay, grace: config.shutdown_grace }
    }

    /// Stops a gate in order, or at once when `stops` yields something.
    pub(super) async fn stop(self, gate: RunningGate, stops: &mut (impl Stream<Item = ()> + Unpin)) -> Ended {
        let RunningGate { parts, accepting, front, .. } = gate;
        let tasks = parts.tasks.clone();
        parts.readiness.end("draining");
        notify_stopping("stopping: running transfers may finish");
        tasks.announce_stop();
        let in_order = async {
            if !self.delay.is_zero() {
                let delay_seconds = self.delay.as_secs_f64();
                tracing::info!(delay_seconds, "no longer ready; still answering requests for shutdown_delay");
                tokio::time::sleep(self.delay).await;
            }
            tracing::info!(grace_seconds = self.grace.as_secs(), "shutting down: waiting for running transfers");
            tasks.drain(self.grace).await
        };
        let drained = tokio::select! {
            drained = in_order => Some(drained),
            () = next(stops) => None,
        };
        match drained {
            Some(true) => {}
            Some(false) => {
                tracing::warn!(tasks = tasks.running(), "some transfers did not finish within shutdown_grace");
            }
            None => tracing::warn!(tasks = tasks.running(), "the second signal ends the gate at once"),
        }
        let is_cut = !match drained {
            Some(is_drained) => is_drained,
            None => tasks.drain(LAST_MOMENT).await,
        };
        let cut = if is_cut { tasks.running() } else { 0 };
        let close = async {
            front.drain(ADMIN_GRACE).await;
            accepting.drain(ADMIN_GRACE).await;
            parts.close().await;
        };
        let mut close = pin!(close);
        // What waits for a disk has limits of its own.
        let is_closed = drained.is_some()
            && tokio::select! {
                biased;
                () = &mut close => true,
                () = next(stops) => false,
            };
        if !is_closed && tokio::time::timeout(AT_ONCE, close).await.is_err() {
            tracing::warn!("the disk does not answer; pending data may be lost");
        }
        tracing::info!(cut_tasks = cut, "the gate has stopped");
        if is_cut { Ended::Cut } else { Ended::Complete }
    }

    /// Ends in favour of another process. When this returns, the state directory has been released: all requests are
    /// answered, or their transfers have begun, which need only the files that they have open. Clients that connect
    /// meanwhile wait. Returns the tasks of the transfers.
    pub(super) async fn release(self, gate: RunningGate, stops: &mut (impl Stream<Item = ()> + Unpin)) -> Tasks {
        let RunningGate { parts, accepting, front, .. } = gate;
        let tasks = parts.tasks.clone();
        let answered = async {
            // First: what was accepted before shutdown starts is answered.
            accepting.stop();
            tasks.stop();
            // `shutdown_grace` is for transfers, which go on.
            let end = Instant::now() + MOST_WAITING;
            // Connections that wait for a free place have been accepted.
            accepting.drain(end.saturating_duration_since(Instant::now())).await;
            front.drain(ADMIN_GRACE).await;
            tasks.settle(end.saturating_duration_since(Instant::now()), OTHERS).await
        };
        let answered = tokio::select! {
            answered = answered => answered,
            () = next(stops) => false,
        };
        if !answered {
            tracing::warn!("some requests were cut off: they were not answered before another process took over");
        }
        parts.close().await;
        tasks
    }

    /// Lets transfers finish after another process has taken over.
    pub(super) async fn finish(self, tasks: &Tasks, stops: &mut (impl Stream<Item = ()> + Unpin)) -> Ended {
        let is_drained = tokio::select! {
            is_drained = tasks.drain(self.grace) => is_drained,
            () = next(stops) => tasks.drain(LAST_MOMENT).await,
        };
        let cut = if is_drained { 0 } else { tasks.running() };
        tracing::info!(cut_tasks = cut, "exiting: another process has taken over");
        if is_drained { Ended::Complete } else { Ended::Cut }
    }
}

/// Waits for the next item; forever if there is none.
pub(crate) async fn next(stops: &mut (impl Stream<Item = ()> + Unpin)) {
    if stops.next().await.is_none() {
        std::future::pending::<()>().await;
    }
}

/// The SIGHUPs that arrive from now on, in a Tokio runtime. Those that arrive before somebody waits count as one.
///
/// # Errors
/// If the handler cannot be installed.
pub(crate) fn hangups() -> std::io::Result<Signal> {
    signal(SignalKind::hangup())
}

/// Yields an item for each SIGTERM and SIGINT.
pub(crate) fn signals() -> impl Stream<Item = ()> + Unpin {
    let kinds = [SignalKind::terminate(), SignalKind::interrupt()];
    let mut signals: Vec<_> = kinds.into_iter().filter_map(|kind| signal(kind).ok()).collect();
    if signals.len() < kinds.len() {
        tracing::error!("cannot install signal handlers; use SIGKILL to stop the process");
    }
    stream::poll_fn(move |cx| {
        let is_any = signals.iter_mut().any(|signal| signal.poll_recv(cx).is_ready());
        if is_any { Poll::Ready(Some(())) } else { Poll::Pending }
    })
}
