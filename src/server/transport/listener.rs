//! Listeners: all are bound before any serves.

use std::future::Future;
use std::io;
use std::net::{self, SocketAddr};
use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use ipnet::IpNet;
use tokio::net::TcpListener;
use tokio::runtime::Handle;

use super::accepting::ListenerShared;
use super::bind_error::BindError;
use super::body::Body;
use super::certificates::Certificates;
use super::counters::ConnectionCounters;
use super::identity::{ClientIdentity, Proxies, ProxyHeader};
use super::limits::{Limits, SharedLimits};
use super::tls::{Tls, TlsConfig};
use super::workers::Workers;
use crate::runtime::{Clock, FileWindows, Metrics, Readiness, Tasks};
use crate::scope::Scope;
use crate::server::sockets::{InheritedSockets, PassedSocket, SocketOrigin, listener_name};

/// The configuration of a listener.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// `address:port` or `host:port`; port 0 selects a free port.
    pub address: String,
    /// The TLS configuration; plain HTTP if `None`.
    pub tls: Option<TlsConfig>,
    /// The scope whose rules apply on this listener; cluster-wide rules if `None`.
    pub scope: Option<Scope>,
    /// The proxies that are trusted to report the client.
    pub trusted_proxies: Vec<IpNet>,
    /// How these proxies report the client.
    pub proxy_header: ProxyHeader,
    /// Whether to offer HTTP/2, with lower priority than HTTP/1.1. Requires TLS, because it is negotiated with ALPN.
    pub http2: bool,
}

/// Answers registry requests.
pub trait Service: Send + Sync + 'static {
    /// Answers one request. Dropped if the client disconnects.
    fn call(
        &self,
        request: Request<Incoming>,
        client: Arc<ClientIdentity>,
    ) -> impl Future<Output = Response<Body>> + Send;
}

/// Binds all listeners before any serves, so that an error in one prevents all from serving. A listener takes the
/// socket that was passed to this process for it.
///
/// # Errors
/// The error of the first listener whose address or TLS files cannot be used.
pub async fn bind(
    configs: Vec<Config>,
    limits: Limits,
    clock: &Clock,
    metrics: &Metrics,
    readiness: &Readiness,
    inherited: &mut InheritedSockets,
) -> Result<BoundListeners, BindError> {
    let mut certificates = Certificates::new(clock, metrics, readiness);
    let mut listeners = Vec::new();
    for (index, config) in configs.into_iter().enumerate() {
        let passed = inherited.take_tcp(&listener_name(index), &config.address);
        listeners.push(Arc::new(Listener::bind(config, &mut certificates, passed).await?));
    }
    let counters = ConnectionCounters::new(metrics);
    counters.allow(limits.max_connections);
    let workers = Arc::new(Workers::start().map_err(|source| BindError::Workers { source })?);
    Ok(BoundListeners { listeners, limits: SharedLimits::new(limits), certificates, counters, workers })
}

/// Bound listeners that do not serve yet; clients wait in the kernel's backlog.
#[derive(Debug)]
pub struct BoundListeners {
    listeners: Vec<Arc<Listener>>,
    limits: SharedLimits,
    certificates: Certificates,
    counters: ConnectionCounters,
    workers: Arc<Workers>,
}

/// The tasks of the registry listeners.
#[derive(Clone, Debug)]
pub struct ServerTasks {
    /// Requests, and all work for them.
    pub requests: Tasks,
    /// The listeners themselves.
    pub accepting: Tasks,
    /// Serves until the end: refusals during shutdown.
    pub front: Tasks,
}

impl BoundListeners {
    /// The addresses as bound, in the order of the configuration.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|listener| listener.bound).collect()
    }

    /// Copies of the sockets, for the process that takes over from this one.
    ///
    /// # Errors
    /// There are no free file descriptors.
    pub fn sockets(&self) -> io::Result<Vec<PassedSocket>> {
        self.listeners.iter().map(|listener| PassedSocket::copy(&listener.label, &listener.socket)).collect()
    }

    /// The runtimes of the threads that serve connections.
    pub fn runtimes(&self) -> Vec<Handle> {
        self.workers.runtimes()
    }

    /// The certificates, for reloading them on request (SIGHUP).
    pub fn certificates(&self) -> Certificates {
        self.certificates.clone()
    }

    /// The limits, for replacing them.
    pub fn limits(&self) -> SharedLimits {
        self.limits.clone()
    }

    /// Serves until shutdown starts, then lets running requests finish. New requests then get 503 until `front` stops,
    /// which closes the listeners. If `accepting` stops first, new connections wait in the queues of the sockets, for
    /// the process that takes them over. Slices of `windows` are sent from their files. All work runs in tracked tasks;
    /// the caller waits for them with [`Tasks::drain`].
    pub fn run<S: Service>(self, service: &Arc<S>, windows: &FileWindows, tasks: &ServerTasks) {
        let ServerTasks { requests: tasks, accepting, front } = tasks;
        for listener in self.listeners {
            tracing::info!(address = %listener.bound, tls = listener.tls.is_some(), "listening");
            let shared = ListenerShared {
                listener,
                service: service.clone(),
                limits: self.limits.clone(),
                counters: self.counters.clone(),
                windows: windows.clone(),
                tasks: tasks.clone(),
                accepting: accepting.clone(),
                front: front.clone(),
                workers: self.workers.clone(),
            };
            accepting.spawn(Arc::new(shared).accept_until_stop());
        }
        tasks.spawn(self.certificates.watch(tasks.clone()));
    }
}

/// A bound listener.
#[derive(Debug)]
pub(super) struct Listener {
    pub(super) label: Arc<str>,
    pub(super) socket: TcpListener,
    pub(super) bound: SocketAddr,
    /// Whether the service manager keeps the socket open, so that clients can wait in its queue for the next process.
    pub(super) is_kept: bool,
    pub(super) tls: Option<Arc<Tls>>,
    pub(super) scope: Scope,
    pub(super) proxies: Proxies,
}

impl Listener {
    async fn bind(
        config: Config,
        certificates: &mut Certificates,
        passed: Option<(net::TcpListener, SocketOrigin)>,
    ) -> Result<Self, BindError> {
        let tls = config.tls.map(|tls| certificates.load(&config.address, tls, config.http2)).transpose();
        let tls = tls.map_err(|source| BindError::Tls { address: config.address.clone(), source })?;
        let error = |source| BindError::Address { address: config.address.clone(), source };
        let (socket, is_kept) = match passed {
            Some((socket, origin)) => (TcpListener::from_std(socket), origin == SocketOrigin::ServiceManager),
            None => (TcpListener::bind(&config.address).await, false),
        };
        let socket = socket.map_err(error)?;
        Ok(Self {
            label: config.address.as_str().into(),
            bound: socket.local_addr().map_err(error)?,
            socket,
            is_kept,
            tls,
            scope: config.scope.unwrap_or(Scope::CLUSTER),
            proxies: Proxies { trusted: config.trusted_proxies, header: config.proxy_header },
        })
    }
}

#[cfg(test)]
mod tests;
