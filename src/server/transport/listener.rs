//! Listeners: all are bound before any serves, and each connection gets an identity before its first request.

use std::future::{Future, ready};
use std::io;
use std::net::{self, IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::{Request, Response};
use hyper::body::Incoming;
use ipnet::IpNet;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::bind_error::BindError;
use super::body::Body;
use super::certificates::Certificates;
use super::connection;
use super::counters::ConnectionCounters;
use super::failures::{accept_failed, handshake_failed};
use super::identity::{ClientCertificate, ClientIdentity, Proxies, ProxyHeader};
use super::limits::{Capacity, Limits, SharedLimits};
use super::plain_http::refuse_plain_http;
use super::proxy_protocol;
use super::send_file::SendFile;
use super::stream::WriteStall;
use super::tls::{Tls, TlsConfig, TlsState};
use super::workers::Workers;
use crate::runtime::{Clock, FileWindows, Metrics, Readiness, Tasks};
use crate::scope::Scope;

/// The maximum number of unsent bytes per connection in the kernel; more would only make large responses delay small
/// ones.
const NOT_SENT_LOW_WATER: u32 = 256 * 1024;
/// How many bytes of a response rustls buffers before it waits for the socket: one chunk of a blob.
const TLS_BUFFER: usize = 256 * 1024;
/// The delay after a failed accept (for example without free file descriptors), which would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);

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

/// Binds all listeners before any serves, so that an error in one prevents all from serving. Slices of `windows` are
/// sent from their files.
///
/// # Errors
/// The error of the first listener whose address or TLS files cannot be used.
pub async fn bind(
    configs: Vec<Config>,
    limits: Limits,
    clock: &Clock,
    metrics: &Metrics,
    readiness: &Readiness,
    windows: FileWindows,
) -> Result<BoundListeners, BindError> {
    let mut certificates = Certificates::new(clock, metrics, readiness);
    let mut listeners = Vec::new();
    for config in configs {
        listeners.push(Arc::new(Listener::bind(config, &mut certificates).await?));
    }
    let workers = Arc::new(Workers::start().map_err(|source| BindError::Workers { source })?);
    Ok(BoundListeners {
        listeners,
        limits: SharedLimits::new(limits),
        certificates,
        counters: ConnectionCounters::new(metrics),
        windows,
        workers,
    })
}

/// Bound listeners that do not serve yet; clients wait in the kernel's backlog.
#[derive(Debug)]
pub struct BoundListeners {
    listeners: Vec<Arc<Listener>>,
    limits: SharedLimits,
    certificates: Certificates,
    counters: ConnectionCounters,
    windows: FileWindows,
    workers: Arc<Workers>,
}

impl BoundListeners {
    /// The addresses as bound, in the order of the configuration.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.iter().map(|listener| listener.bound).collect()
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
    /// which closes the listeners. All work runs in tracked tasks; the caller waits for them with [`Tasks::drain`].
    pub fn run<S: Service>(self, service: &Arc<S>, tasks: &Tasks, front: &Tasks) {
        for listener in self.listeners {
            tracing::info!(address = %listener.bound, tls = listener.tls.is_some(), "listening");
            let shared = ListenerShared {
                listener,
                service: service.clone(),
                limits: self.limits.clone(),
                counters: self.counters.clone(),
                windows: self.windows.clone(),
                tasks: tasks.clone(),
                front: front.clone(),
                workers: self.workers.clone(),
            };
            front.spawn(Arc::new(shared).accept_until_stop());
        }
        tasks.spawn(self.certificates.watch(tasks.clone()));
    }
}

#[derive(Debug)]
struct Listener {
    label: Arc<str>,
    socket: TcpListener,
    bound: SocketAddr,
    tls: Option<Arc<Tls>>,
    scope: Scope,
    proxies: Proxies,
}

impl Listener {
    async fn bind(config: Config, certificates: &mut Certificates) -> Result<Self, BindError> {
        let tls = config.tls.map(|tls| certificates.load(&config.address, tls, config.http2)).transpose();
        let tls = tls.map_err(|source| BindError::Tls { address: config.address.clone(), source })?;
        let error = |source| BindError::Address { address: config.address.clone(), source };
        let socket = TcpListener::bind(&config.address).await.map_err(error)?;
        Ok(Self {
            label: config.address.as_str().into(),
            bound: socket.local_addr().map_err(error)?,
            socket,
            tls,
            scope: config.scope.unwrap_or(Scope::CLUSTER),
            proxies: Proxies { trusted: config.trusted_proxies, header: config.proxy_header },
        })
    }
}

struct ListenerShared<S> {
    listener: Arc<Listener>,
    service: Arc<S>,
    limits: SharedLimits,
    counters: ConnectionCounters,
    windows: FileWindows,
    tasks: Tasks,
    /// Runs the listener itself and the connections that are refused because of shutdown.
    front: Tasks,
    workers: Arc<Workers>,
}

impl<S: Service> ListenerShared<S> {
    async fn accept_until_stop(self: Arc<Self>) {
        loop {
            let (stream, peer, slot) = tokio::select! {
                biased;
                () = self.front.stopping() => break,
                accepted = self.accept() => accepted,
            };
            self.counters.accepted.inc();
            let tasks = if slot.is_refused { &self.front } else { &self.tasks };
            match stream.into_std() {
                Ok(stream) => self.workers.serve(tasks, self.clone().connection(stream, peer, slot)),
                Err(error) => tracing::debug!(%peer, %error, "connection lost before it was served"),
            }
        }
    }

    /// The next connection, once the connection limit allows it.
    async fn accept(&self) -> (TcpStream, SocketAddr, ConnectionSlot) {
        loop {
            let (stream, peer) = match self.listener.socket.accept().await {
                Ok(accepted) => accepted,
                Err(error) => {
                    accept_failed(&self.listener.bound, &error);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            return (stream, peer, self.admit().await);
        }
    }

    /// Waits until the connection limit allows another connection.
    async fn admit(&self) -> ConnectionSlot {
        loop {
            let capacity = self.limits.capacity();
            // Fails if the limits were replaced meanwhile.
            if let Ok(permit) = capacity.connections.clone().acquire_owned().await {
                return ConnectionSlot { capacity, _permit: permit, is_refused: self.tasks.is_stopping() };
            }
        }
    }

    /// Serves a connection. The worker that runs this polls the connection's socket.
    async fn connection(self: Arc<Self>, stream: net::TcpStream, peer: SocketAddr, slot: ConnectionSlot) {
        let _open = self.counters.open();
        let greeted = match TcpStream::from_std(stream) {
            Ok(stream) => self.clone().greet(stream, peer, &slot).await,
            Err(error) => Err(error),
        };
        if let Err(error) = greeted {
            tracing::debug!(%peer, %error, "connection refused");
        }
    }

    /// Handles everything before the first request within one time limit, then serves requests.
    async fn greet(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, slot: &ConnectionSlot) -> io::Result<()> {
        prepare(&stream)?;
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let limits = &slot.capacity.limits;
        let mut stream = WriteStall::new(SendFile::new(stream, self.windows.clone()), limits.write_stall_timeout);
        // Known before the TLS handshake, whose failures name it.
        let mut address = peer.ip();
        let handshake = async {
            address = self.client_behind_proxy(&mut stream, peer).await?;
            match &self.listener.tls {
                None => Ok(Connection::Plain(stream)),
                Some(tls) => self.tls_handshake(stream, tls).await,
            }
        };
        let greeted = tokio::time::timeout(limits.tls_handshake_timeout, handshake)
            .await
            .unwrap_or_else(|_| Err(io::Error::new(io::ErrorKind::TimedOut, "the handshake takes too long")));
        let wire = greeted.inspect_err(|error| {
            if self.listener.tls.is_some() {
                handshake_failed(&self.listener.label, address, error);
            }
        })?;
        let client = |tls, certificate, scope| ClientIdentity {
            address,
            address_text: address.to_string().into(),
            peer,
            scope,
            listener: self.listener.label.clone(),
            certificate,
            tls,
        };
        match wire {
            Connection::Plain(stream) => {
                let client = client(false, None, self.listener.scope.clone());
                self.requests(stream, false, client, slot).await;
            }
            Connection::Tls(stream, certificate, scope) => {
                let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let client = client(true, certificate, scope);
                self.requests(*stream, http2, client, slot).await;
            }
        }
        Ok(())
    }

    /// The address of the client. With the PROXY protocol, this is not the address of the peer.
    async fn client_behind_proxy(&self, stream: &mut WriteStall<SendFile>, peer: SocketAddr) -> io::Result<IpAddr> {
        let proxies = &self.listener.proxies;
        if proxies.header != ProxyHeader::ProxyProtocol || !proxies.trusts(peer.ip()) {
            return Ok(peer.ip());
        }
        let source = proxy_protocol::read(stream).await?;
        Ok(source.map_or(peer.ip(), |source| source.ip().to_canonical()))
    }

    async fn tls_handshake(&self, stream: WriteStall<SendFile>, tls: &Tls) -> io::Result<Connection> {
        let tls = tls.current();
        let handshake = async {
            let stream = refuse_plain_http(stream).await?;
            TlsAcceptor::from(tls.server.clone()).accept(stream).await
        };
        let mut stream = handshake.await.inspect_err(|_| {
            self.counters.tls_failures.inc();
        })?;
        stream.get_mut().1.set_buffer_limit(Some(TLS_BUFFER));
        let (certificate, scope) = self.certificate(&stream, &tls)?;
        Ok(Connection::Tls(Box::new(stream), certificate, scope))
    }

    fn certificate(
        &self,
        stream: &TlsStream<WriteStall<SendFile>>,
        tls: &TlsState,
    ) -> io::Result<(Option<Arc<ClientCertificate>>, Scope)> {
        let Some(der) = stream.get_ref().1.peer_certificates().and_then(|chain| chain.first()) else {
            return Ok((None, self.listener.scope.clone()));
        };
        let refuse = |why| io::Error::new(io::ErrorKind::InvalidData, why);
        let certificate = ClientCertificate::parse(der).ok_or_else(|| refuse("cannot parse the client certificate"))?;
        let scope = certificate.scope(&tls.config.client_names, &self.listener.scope);
        let scope = scope.ok_or_else(|| refuse("the names in the client certificate map to several scopes"))?;
        Ok((Some(Arc::new(certificate)), scope))
    }

    async fn requests<IO>(self: Arc<Self>, stream: IO, http2: bool, client: ClientIdentity, slot: &ConnectionSlot)
    where
        IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let capacity = &slot.capacity;
        if slot.is_refused {
            let refuse = move |_| ready(connection::draining(http2));
            return connection::serve(stream, http2, capacity, &self.front, refuse).await;
        }
        // A count of references that only this connection changes: the service itself is shared by all cores.
        let service = Arc::new(self.service.clone());
        let (shared, client) = (self.clone(), Arc::new(client));
        let handle = move |request: Request<Incoming>| {
            let address = shared.listener.proxies.client_address(client.address, request.headers());
            let client = if address == client.address {
                client.clone()
            } else {
                Arc::new(ClientIdentity {
                    address,
                    address_text: address.to_string().into(),
                    ..ClientIdentity::clone(&client)
                })
            };
            let service = service.clone();
            async move { service.call(request, client).await }
        };
        connection::serve(stream, http2, capacity, &self.tasks, handle).await;
    }
}

/// What an accepted connection may use, and whether its requests are answered.
struct ConnectionSlot {
    capacity: Arc<Capacity>,
    _permit: OwnedSemaphorePermit,
    /// Whether it was accepted after shutdown had started.
    is_refused: bool,
}

enum Connection {
    Plain(WriteStall<SendFile>),
    Tls(Box<TlsStream<WriteStall<SendFile>>>, Option<Arc<ClientCertificate>>, Scope),
}

fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_notsent_lowat(NOT_SENT_LOW_WATER)
}

#[cfg(test)]
mod tests;
