//! Wiring: builds every component, binds every listener, and runs until shutdown.

mod parts;
mod reload;
mod service;
mod shutdown;
mod succession;
mod summary;

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use futures_util::{Stream, stream};
use tokio::signal::unix::Signal;

use crate::api::{self, CheckAnswer, CheckRequest, ImageScan};
use crate::audit::AuditError;
use crate::cache::CacheError;
use crate::config::Config;
use crate::gate::Inspector;
use crate::otlp::{InvalidTracing, TraceExporter};
use crate::rulebook::{Rulebook, RulebookError};
use crate::runtime::{Clock, Tasks, keep_watchdog};
pub(crate) use crate::server::InheritedSockets;
use crate::server::admin::AdminError;
use crate::server::{self, AdminApi, BindError, RegistryService, ServerTasks, SocketError};
use crate::store::{StateDir, StateDirError, StoreError};
pub(crate) use crate::trust::RememberedRoot;
use crate::{events, prefetch, trust, upstream, va};
use parts::{PreparedParts, RunningParts};
pub use reload::Reload;
pub(crate) use service::{GateService, ServiceEnd, ServiceStart};
pub use shutdown::Ended;
use shutdown::SharedShutdown;
pub(crate) use shutdown::{hangups, next as stopped, signals};
use summary::StartSummary;

/// A gate whose listeners are bound, with their actual addresses.
pub struct BoundGate {
    registry: server::BoundListeners,
    admin: server::admin::BoundAdmin,
    service: RegistryService,
    api: AdminApi,
    parts: RunningParts,
    /// The tasks of the listeners, and of what they use until they end.
    front: Tasks,
    reload: Reload,
    prefetch: prefetch::Config,
    shutdown: SharedShutdown,
}

/// Builds every component and binds every listener.
///
/// # Errors
/// Anything that prevents a gate from starting, with advice on how to fix it.
pub async fn build(config: Config) -> Result<BoundGate, BuildError> {
    build_with_clock(config, Clock::system()).await
}

/// The same with a given clock. For tests.
///
/// # Errors
/// The same as [`build`].
pub async fn build_with_clock(config: Config, clock: Clock) -> Result<BoundGate, BuildError> {
    let state = StateDir::open(&config.state_dir)?;
    let mut sockets = InheritedSockets::default();
    let fronts = bind(&config, clock, &mut sockets).await?;
    assemble(config, state, fronts).await
}

/// What can be prepared while another process uses the state directory.
struct BoundFronts {
    prepared: PreparedParts,
    registry: server::BoundListeners,
    admin: server::admin::BoundAdmin,
}

async fn bind(config: &Config, clock: Clock, sockets: &mut InheritedSockets) -> Result<BoundFronts, BuildError> {
    let prepared = PreparedParts::new(config, clock)?;
    let PreparedParts { metrics, readiness, clock, .. } = &prepared;
    let (listeners, limits) = (config.listeners.clone(), config.limits.clone());
    let registry = server::bind(listeners, limits, clock, metrics, readiness, sockets).await?;
    let admin = server::admin::bind(config.admin.clone(), metrics, readiness, sockets).await?;
    Ok(BoundFronts { prepared, registry, admin })
}

async fn assemble(config: Config, state: StateDir, fronts: BoundFronts) -> Result<BoundGate, BuildError> {
    let BoundFronts { prepared, registry, admin } = fronts;
    let clock = prepared.clock.clone();
    let announce = |rulebook: &Rulebook, used| StartSummary::new(&config, rulebook, used, clock.now()).log();
    let parts = RunningParts::build(&config, state, prepared, announce).await?;
    // Traces end after the listeners have ended: running transfers have traces, too.
    let front = Tasks::new();
    let traces = TraceExporter::start(&config.tracing, &clock, &front, &parts.metrics)?;
    let epoch = u64::try_from(clock.now().as_millisecond()).unwrap_or_default();
    let service = RegistryService::new(parts.services.gate.clone(), &parts.metrics, epoch, traces);
    let (shutdown, prefetch) = (SharedShutdown::new(&config), config.prefetch.clone());
    let reload = Reload::new(parts.reload(&registry, &shutdown, &clock), config, &parts.metrics);
    let on_request = reload.clone();
    let (cache, prefetcher) = (parts.cache.clone(), parts.prefetcher.clone());
    let api = AdminApi::new(&parts.services, cache, prefetcher, parts.tasks.clone(), move || on_request.start());
    Ok(BoundGate { registry, admin, service, api, parts, front, reload, prefetch, shutdown })
}

impl BoundGate {
    /// The addresses of the registry listeners, in the order of the configuration.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.registry.addresses()
    }

    /// The address of the admin listener.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.address()
    }

    /// A handle that makes a running gate reload everything that can change without a restart.
    pub fn reloader(&self) -> Reload {
        self.reload.clone()
    }

    /// Serves until `stop` resolves, and stops in order: see [`run_until`](Self::run_until).
    pub async fn run(self, stop: impl Future<Output = ()>) -> Ended {
        self.run_until(Box::pin(stream::once(stop))).await
    }

    /// Serves until `stops` yields an item. Then says that it is not ready, answers requests for `shutdown_delay`,
    /// refuses new ones, lets transfers finish within `shutdown_grace`, and closes. A second item cuts the transfers.
    pub async fn run_until(self, mut stops: impl Stream<Item = ()> + Unpin) -> Ended {
        let running = self.start(hangups()).await;
        shutdown::next(&mut stops).await;
        running.shutdown.get().stop(running, &mut stops).await
    }

    /// Starts to serve.
    async fn start(self, hangups: io::Result<Signal>) -> RunningGate {
        let Self { registry, admin, service, api, parts, front, reload, prefetch, shutdown } = self;
        let tasks = parts.tasks.clone();
        parts.rulebook.watch(&tasks);
        parts.upstreams.watch(&tasks);
        parts.services.livescan.watch(&tasks);
        parts.courier.start(&tasks).await;
        match hangups {
            Ok(hangups) => drop(tasks.spawn(reload.clone().on_hangup(hangups))),
            Err(error) => tracing::warn!(%error, "cannot reload on SIGHUP"),
        }
        tasks.spawn(reload.clone().watch());
        let (addresses, workers) = (registry.addresses(), registry.runtimes());
        let served = ServerTasks { requests: tasks.clone(), accepting: Tasks::new(), front };
        registry.run(&Arc::new(service), &parts.cache.windows(), &served);
        admin.run(&Arc::new(api), &served.front);
        tasks.spawn(parts.prefetcher.clone().run(prefetch, tasks.clone()));
        let ServerTasks { accepting, front, .. } = served;
        keep_watchdog(&front, workers);
        reload.notify_ready();
        let awaited = parts.readiness.report().awaited;
        if awaited.is_empty() {
            tracing::info!(listeners = ?addresses, "pullgate is ready");
        } else {
            tracing::warn!(listeners = ?addresses, ?awaited, "pullgate is serving, but not ready yet");
        }
        RunningGate { parts, accepting, front, reload, shutdown }
    }
}

/// A gate that serves.
struct RunningGate {
    parts: RunningParts,
    /// The tasks that accept connections.
    accepting: Tasks,
    /// The tasks that serve until the end: the admin listener, and refusals during shutdown.
    front: Tasks,
    reload: Reload,
    shutdown: SharedShutdown,
}

/// The path of the admin socket in a configuration.
pub(crate) fn admin_socket(config: &Config) -> PathBuf {
    config.admin.socket.clone()
}

/// Judges an image with a given configuration, without a running gate. State is kept in a temporary directory.
///
/// # Errors
/// The reason why the gate cannot be built or the image cannot be judged.
pub(crate) async fn check_offline(config: Config, request: &CheckRequest) -> Result<CheckAnswer, String> {
    offline(config, async |inspector| api::check(inspector, request).await).await
}

/// Examines an image with a given configuration, without a running gate. State is kept in a temporary directory; the
/// advisory databases are those of the configured state directory.
///
/// # Errors
/// The reason why the gate cannot be built or the image is unavailable.
pub(crate) async fn scan_offline(config: Config, request: &CheckRequest) -> Result<Vec<ImageScan>, String> {
    offline(config, async |inspector| api::scan(inspector, request).await).await
}

/// Runs a command on a gate that exists only for it.
async fn offline<T>(
    mut config: Config,
    command: impl AsyncFnOnce(&Inspector) -> Result<T, String>,
) -> Result<T, String> {
    let scratch = tempfile::Builder::new().prefix("pullgate-check-").tempdir();
    let scratch = scratch.map_err(|error| format!("cannot create a temporary directory: {error}"))?;
    config.state_dir = scratch.path().to_owned();
    // Opening databases that do not exist would create the state directory of the gate.
    let is_absent = |state: &Path| matches!(state.join("advisories").try_exists(), Ok(false));
    if let Some(databases) = config.va.databases.as_mut().filter(|found| is_absent(&found.state_dir)) {
        databases.state_dir.clone_from(&config.state_dir);
    }
    config.va.scratch = config.state_dir.clone();
    config.audit.file = scratch.path().join("audit.jsonl");
    let state = StateDir::open(&config.state_dir).map_err(|error| error.to_string())?;
    let prepared = PreparedParts::new(&config, Clock::system()).map_err(|error| error.to_string())?;
    let parts = RunningParts::build(&config, state, prepared, |_, _| {}).await;
    let parts = parts.map_err(|error| error.to_string())?;
    let answer = command(&parts.services.inspector).await;
    parts.tasks.drain(Duration::from_secs(5)).await;
    parts.close().await;
    answer
}

/// The roots of Docker Content Trust that a gate with this configuration remembers. The gate may be running.
///
/// # Errors
/// The reason why they cannot be read.
pub(crate) async fn notary_roots(config: &Config) -> Result<Vec<RememberedRoot>, String> {
    trust::remembered_roots(&config.state_dir).await.map_err(|error| error.to_string())
}

/// Why a gate cannot start.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The audit file cannot be opened.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The cache cannot be opened.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The policies cannot be loaded.
    #[error(transparent)]
    Policy(#[from] RulebookError),
    /// The admin API cannot be started.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// A listener cannot be bound.
    #[error(transparent)]
    Listener(#[from] BindError),
    /// Sockets that the service manager passed cannot be used.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateDirError),
    /// The database cannot be opened.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A receiver of events is misconfigured.
    #[error("events: {0}")]
    Events(#[from] events::InvalidReceiver),
    /// Traces cannot be sent as configured.
    #[error(transparent)]
    Tracing(#[from] InvalidTracing),
    /// An upstream is misconfigured.
    #[error(transparent)]
    Upstream(#[from] upstream::ConfigError),
    /// Revocation cannot be checked as configured.
    #[error(transparent)]
    Revocation(#[from] trust::InvalidRevocationConfig),
    /// A running gate does not let this process take over.
    #[error("cannot take over from the running gate: {0}")]
    TakeOver(io::Error),
    /// A source of vulnerability reports is misconfigured.
    #[error("va: {0}")]
    Va(#[from] va::InvalidConfig),
}

impl BuildError {
    /// Whether the cause is the configuration or a file that it names, rather than the machine.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Events(_)
            | Self::Policy(_)
            | Self::Revocation(_)
            | Self::Tracing(_)
            | Self::Upstream(_)
            | Self::Va(_) => true,
            Self::Admin(error) => matches!(error, AdminError::Exposed { .. } | AdminError::Token { .. }),
            Self::Listener(error) => matches!(error, BindError::Tls { .. }),
            Self::Audit(_) | Self::Cache(_) | Self::Socket(_) | Self::State(_) | Self::Store(_) | Self::TakeOver(_) => {
                false
            }
        }
    }
}

#[cfg(test)]
mod tests;
