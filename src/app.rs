//! Wiring: every part is built here, every listener bound, and then it runs until it is told to stop.

mod parts;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::signal::unix::{SignalKind, signal};

use crate::audit::{Audit, AuditError};
use crate::cache::CacheError;
use crate::config::Config;
use crate::gate::{Explanation, Gate};
use crate::rulebook::{Rulebook, RulebookError};
use crate::runtime::{Clock, Tasks};
use crate::server::BindError;
use crate::server::admin::AdminError;
use crate::server::{self, AdminApi, Registry};
use crate::store::{StateDir, StateDirError, StoreError};
use crate::{prefetch, upstream, va};
use parts::Parts;

/// A gate whose listeners are bound, with the addresses that they really have.
pub struct Bound {
    registry: server::Bound,
    admin: server::admin::Bound,
    service: Registry,
    api: AdminApi,
    parts: Parts,
    prefetch: prefetch::Config,
    shutdown_grace: Duration,
}

/// Builds every part and binds every listener.
///
/// # Errors
/// Everything that keeps a gate from starting, each with what to do about it.
pub async fn build(config: Config) -> Result<Bound, BuildError> {
    build_with_clock(config, Clock::system()).await
}

/// The same, by another clock than the system's. For tests.
///
/// # Errors
/// As [`build`].
pub async fn build_with_clock(config: Config, clock: Clock) -> Result<Bound, BuildError> {
    let state = StateDir::open(&config.state_dir)?;
    let parts = Parts::build(&config, state, clock.clone()).await?;
    let (listeners, limits) = (config.listeners, config.limits);
    let registry = server::bind(listeners, limits, &clock, &parts.metrics, &parts.readiness).await?;
    let admin = server::admin::bind(config.admin, &parts.metrics, &parts.readiness).await?;
    let epoch = u64::try_from(clock.now().as_millisecond()).unwrap_or_default();
    let service = Registry::new(parts.gate.clone(), &parts.metrics, epoch);
    let reload = parts.reload(registry.certificates());
    let (gate, cache, prefetcher) = (parts.gate.clone(), parts.cache.clone(), parts.prefetcher.clone());
    let api = AdminApi::new(gate, cache, prefetcher, parts.tasks.clone(), move || reload.all());
    let Config { shutdown_grace, prefetch, .. } = config;
    Ok(Bound { registry, admin, service, api, parts, prefetch, shutdown_grace })
}

impl Bound {
    /// The registry listeners' addresses, in the configuration's order.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.registry.addresses()
    }

    /// The admin listener's address.
    pub fn admin_address(&self) -> SocketAddr {
        self.admin.address()
    }

    /// The gate itself, for those who run it in their own process.
    pub fn gate(&self) -> &Arc<Gate> {
        &self.parts.gate
    }

    /// What tells a running gate to read everything again that changes without a restart.
    pub fn reloader(&self) -> Reload {
        self.parts.reload(self.registry.certificates())
    }

    /// Serves until `stop` resolves; then takes no more connections, lets streams finish within the grace, and closes.
    pub async fn run(self, stop: impl Future<Output = ()>) {
        let Self { registry, admin, service, api, parts, prefetch, shutdown_grace } = self;
        let tasks = parts.tasks.clone();
        let reload = parts.reload(registry.certificates());
        parts.rulebook.watch(&tasks);
        tasks.spawn(on_hangup(reload, tasks.clone()));
        let addresses = registry.addresses();
        registry.run(&Arc::new(service), &tasks);
        admin.run(&Arc::new(api), &tasks);
        tasks.spawn(parts.prefetcher.clone().run(prefetch, tasks.clone()));
        tracing::info!(listeners = ?addresses, "pullgate is ready");
        stop.await;
        tracing::info!(grace_seconds = shutdown_grace.as_secs(), "stopping: no new connections, streams may finish");
        parts.close(shutdown_grace).await;
    }
}

/// Reads again what changes without a restart: policies, certificates, the audit file. Cheap to clone.
#[derive(Clone)]
pub struct Reload {
    rulebook: Arc<Rulebook>,
    certificates: server::Certificates,
    audit: Audit,
}

impl Reload {
    /// Reads all of it again; what is broken keeps its last good version. Reads files, so it blocks.
    pub fn all(&self) {
        self.rulebook.reload();
        // Each certificate that cannot be read says so itself, and stays as it was.
        let _ = self.certificates.reload();
        self.audit.reopen();
    }
}

async fn on_hangup(reload: Reload, tasks: Tasks) {
    let Ok(mut hangups) = signal(SignalKind::hangup()) else { return };
    loop {
        tokio::select! {
            _ = hangups.recv() => {
                tracing::info!("SIGHUP: reading policies and certificates again, opening the audit file anew");
                let reload = reload.clone();
                // A panic is told by the part that it happened in, which stays as it was.
                let _ = tasks.spawn_blocking(move || reload.all()).await;
            }
            () = tasks.stopping() => return,
        }
    }
}

/// Resolves on SIGTERM or SIGINT.
pub async fn signals() {
    let (Ok(mut terminate), Ok(mut interrupt)) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
    else {
        tracing::error!("signals cannot be caught; stop the process by SIGKILL");
        return std::future::pending().await;
    };
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// Where the admin socket of a configuration is.
pub fn admin_socket(config: &Config) -> PathBuf {
    config.admin.socket.clone()
}

/// Judges an image by a configuration, with no gate running: its own state, in a folder that goes when it is done.
///
/// # Errors
/// What keeps the gate from being built, or the image from being judged.
pub async fn check_offline(mut config: Config, image: &str, namespace: &str) -> Result<Explanation, String> {
    let scratch = tempfile::Builder::new().prefix("pullgate-check-").tempdir();
    let scratch = scratch.map_err(|error| format!("no scratch folder: {error}"))?;
    config.state_dir = scratch.path().to_owned();
    config.audit.file = scratch.path().join("audit.jsonl");
    let state = StateDir::open(&config.state_dir).map_err(|error| error.to_string())?;
    let parts = Parts::build(&config, state, Clock::system()).await.map_err(|error| error.to_string())?;
    let explained = server::check(&parts.gate, image, namespace).await;
    parts.close(Duration::from_secs(5)).await;
    explained
}

/// Why a gate does not start.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// The audit file.
    #[error(transparent)]
    Audit(#[from] AuditError),
    /// The cache.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// The policies.
    #[error(transparent)]
    Policy(#[from] RulebookError),
    /// The admin side.
    #[error(transparent)]
    Admin(#[from] AdminError),
    /// A listener.
    #[error(transparent)]
    Listener(#[from] BindError),
    /// The state directory.
    #[error(transparent)]
    State(#[from] StateDirError),
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An upstream.
    #[error(transparent)]
    Upstream(#[from] upstream::ConfigError),
    /// A source of vulnerability reports.
    #[error("va: {0}")]
    Va(#[from] va::InvalidConfig),
}

impl BuildError {
    /// Whether the configuration or what it names is at fault, rather than the machine.
    pub fn is_configuration(&self) -> bool {
        match self {
            Self::Policy(_) | Self::Upstream(_) | Self::Va(_) => true,
            Self::Admin(error) => matches!(error, AdminError::Exposed { .. } | AdminError::Token { .. }),
            Self::Listener(error) => matches!(error, BindError::Tls { .. }),
            Self::Audit(_) | Self::Cache(_) | Self::State(_) | Self::Store(_) => false,
        }
    }
}
