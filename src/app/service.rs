//! A gate as a service: it may take over from a running gate, and another process may take over from it.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use futures_util::Stream;
use tokio::signal::unix::Signal;
use tokio::task::JoinHandle;

use super::succession::{Predecessor, Succession, Successor};
use super::{BoundFronts, BoundGate, BuildError, Ended, InheritedSockets, assemble, bind, shutdown};
use crate::config::Config;
use crate::runtime::{Clock, Tasks};
use crate::store::{StateDir, check_schema};

/// How much longer than its `shutdown_grace` a running gate may take to release the state directory, even if a disk
/// hangs.
const MARGIN: Duration = Duration::from_secs(45);

/// How long a gate that should take over waits for the lock of one that has released it, or has ended without passing
/// its sockets.
const ENDING: Duration = Duration::from_secs(10);

/// How long a start waits for the lock: `config check` holds it for a moment.
const BRIEF: Duration = Duration::from_millis(100);

/// How long the process that takes over may leave the state directory unused, and how often it is reported that it does
/// not serve yet. It usually needs a few milliseconds. Clients wait for this in addition to `MOST_WAITING`
/// (`shutdown.rs`).
const CLAIM: Duration = Duration::from_secs(5);

/// A gate whose listeners are bound, and that can pass them on.
pub(crate) struct GateService {
    gate: BoundGate,
    /// `None` if no other process can take over.
    succession: Option<Succession>,
    /// The gate that this one takes over from.
    predecessor: Option<Predecessor>,
}

/// How a service starts.
#[derive(Debug)]
pub(crate) enum ServiceStart {
    /// No other process may use the state directory.
    Alone,
    /// A running gate passes its listeners and its state directory, if there is one.
    TakeOver,
    /// The process that took over from this one has ended, or has not used the state directory, which this one then
    /// has.
    Again(Option<StateDir>),
}

/// How a service ended.
pub(crate) enum ServiceEnd {
    /// The gate was told to stop, or another process serves.
    Ended(Ended),
    /// The process that took over does not serve, so this one must serve again: with this configuration, these sockets,
    /// and the state directory, unless the other one has used it.
    Returned(Box<Config>, InheritedSockets, Option<StateDir>),
}

/// Who has the state directory while a service starts.
enum StateHolder {
    /// This process.
    Own(StateDir),
    /// The gate that this one takes over from.
    Running(Predecessor),
}

impl GateService {
    /// Builds every component, and binds every listener that was not passed to this process.
    ///
    /// # Errors
    /// As [`build`](super::build). The gate that this process should replace then keeps running.
    pub(crate) async fn build(
        config: Config,
        mut sockets: InheritedSockets,
        start: ServiceStart,
    ) -> Result<Self, BuildError> {
        // Without a running gate, the state directory comes first: a second process must touch nothing.
        let state = &config.state_dir;
        let holder = match start {
            ServiceStart::Alone => StateHolder::Own(StateDir::open_within(state, BRIEF).await?),
            ServiceStart::TakeOver => {
                let path = state.clone();
                match blocking(move || Predecessor::find(&path)).await.map_err(BuildError::TakeOver)? {
                    Some((running, passed)) => {
                        sockets.take_over(passed)?;
                        StateHolder::Running(running)
                    }
                    // The other process may be about to end.
                    None => StateHolder::Own(StateDir::open_within(state, ENDING).await?),
                }
            }
            ServiceStart::Again(Some(state)) => StateHolder::Own(state),
            // The process that has ended may not have closed all its files yet.
            ServiceStart::Again(None) => StateHolder::Own(StateDir::open_within(state, MARGIN).await?),
        };
        let listeners: Vec<&str> = config.listeners.iter().map(|listener| listener.address.as_str()).collect();
        sockets.check(&listeners, (config.admin.address.as_str(), config.admin.socket.as_path()))?;
        let fronts = bind(&config, Clock::system(), &mut sockets).await?;
        let BoundFronts { registry, admin, .. } = &fronts;
        let succession = Succession::new(&config.state_dir, registry, admin, &mut sockets);
        sockets.finish()?;
        let (state, predecessor) = match holder {
            StateHolder::Own(state) => (state, None),
            StateHolder::Running(running) => {
                let (state, running) = take_over(&config, running).await?;
                (state, Some(running))
            }
        };
        let gate = assemble(config, state, fronts).await?;
        Ok(Self { gate, succession, predecessor })
    }

    /// The addresses of the registry listeners, in the order of the configuration.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        self.gate.addresses()
    }

    /// The address of the admin listener.
    pub(crate) fn admin_address(&self) -> SocketAddr {
        self.gate.admin_address()
    }

    /// Serves until `stops` yields an item, or another process takes over. Reloads at each of the `hangups`.
    pub(crate) async fn run(self, hangups: Signal, mut stops: impl Stream<Item = ()> + Unpin) -> ServiceEnd {
        let Self { gate, succession, predecessor } = self;
        let running = gate.start(Ok(hangups)).await;
        if let Some(predecessor) = predecessor {
            predecessor.serving();
        }
        succession.iter().for_each(Succession::own_files);
        let shared = running.shutdown.clone();
        let mut successor = tokio::select! {
            () = shutdown::next(&mut stops) => return ServiceEnd::Ended(shared.get().stop(running, &mut stops).await),
            successor = requested(succession.as_ref()) => successor,
        };
        tracing::info!("another process is taking over: no longer accepting connections");
        let config = running.reload.used().await;
        let transfers = shared.get().release(running, &mut stops).await;
        successor.released().await;
        let process = successor.process();
        let (serves, state) = tokio::select! {
            serves = successor.serves() => (serves, None),
            // The other process may hang.
            () = shutdown::next(&mut stops) => return ServiceEnd::Ended(Ended::Cut),
            state = unclaimed(&config.state_dir, process) => (false, Some(state)),
        };
        if serves {
            drop(succession);
            tracing::info!(
                transfers = transfers.running(),
                "handover complete: the new process is serving; waiting for running transfers"
            );
            return ServiceEnd::Ended(shared.get().finish(&transfers, &mut stops).await);
        }
        let why = if state.is_some() { "does not go on" } else { "has ended before it served" };
        tracing::error!(process, "the process that took over {why}; this one is serving again");
        successor.serves_again().await;
        match succession.map(Succession::into_sockets) {
            Some(Ok(sockets)) => ServiceEnd::Returned(Box::new(config), sockets, state),
            _ => ServiceEnd::Ended(Ended::Cut),
        }
    }
}

/// Takes the state directory back if the process that received it does not use it because it is stopped or hangs. If
/// that process continues later, it is told so and exits. Warns at intervals while the process has the directory and
/// does not serve.
async fn unclaimed(state: &Path, process: Option<i32>) -> StateDir {
    let mut waited = Duration::ZERO;
    loop {
        tokio::time::sleep(CLAIM).await;
        waited += CLAIM;
        let state = state.to_owned();
        // The disk may hang.
        if let Ok(state) = blocking(move || StateDir::open(&state).map_err(io::Error::other)).await {
            return state;
        }
        tracing::warn!(
            seconds = waited.as_secs(),
            process,
            "nothing is serving: the new process has claimed the state directory but is not ready; if it exits, this process \
             resumes"
        );
    }
}

/// Waits until another process can take over; forever if none can.
async fn requested(succession: Option<&Succession>) -> Successor {
    match succession {
        Some(succession) => succession.requested().await,
        None => std::future::pending().await,
    }
}

/// Waits until the running gate has released the state directory.
async fn take_over(config: &Config, running: Predecessor) -> Result<(StateDir, Predecessor), BuildError> {
    // Once the running gate has released its state, it is late to find that this process cannot use it.
    check_schema(&config.state_dir).await?;
    config.audit.check_disk().await?;
    let limit = config.shutdown_grace + MARGIN;
    let taken = blocking(move || running.take_over(limit)).await.map_err(BuildError::TakeOver)?;
    open_released(config, taken).await
}

/// Opens the state directory of a gate that has released it, or was told to stop.
async fn open_released(
    config: &Config,
    (mut running, is_released): (Predecessor, bool),
) -> Result<(StateDir, Predecessor), BuildError> {
    running.check_waits().map_err(BuildError::TakeOver)?;
    // Once it is released, only a child process that is being started may have the lock for a moment longer.
    let patience = if is_released { ENDING } else { config.shutdown_grace + MARGIN };
    let state = StateDir::open_within(&config.state_dir, patience).await?;
    // This process may have been stopped until here, and the other one may have served, and ended, meanwhile.
    running.check_waits().map_err(BuildError::TakeOver)?;
    Ok((state, running))
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> io::Result<T> {
    let work: JoinHandle<io::Result<T>> = Tasks::new().spawn_blocking(work);
    work.await.unwrap_or_else(|error| Err(io::Error::other(error)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::app::tests::configured;

    /// `config check` has the lock of the state directory for a moment to find out whether it is free.
    #[tokio::test]
    async fn a_start_waits_for_a_lock_that_is_held_for_a_moment() {
        let folder = tempfile::tempdir().unwrap();
        let config = configured(folder.path(), "");
        let held = StateDir::open(&config.state_dir).unwrap();
        let mut building = Box::pin(GateService::build(config, InheritedSockets::default(), ServiceStart::Alone));
        assert!(futures_util::poll!(&mut building).is_pending(), "it waits");
        drop(held);
        let GateService { gate, .. } = building.await.unwrap();
        gate.parts.tasks.drain(Duration::ZERO).await;
        gate.parts.close().await;
    }
}
