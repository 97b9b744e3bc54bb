//! Accepting connections: each gets an identity before its first request.

use std::future::ready;
use std::io;
use std::net::{self, IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use http::Request;
use hyper::body::Incoming;
use socket2::SockRef;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::connection;
use super::counters::ConnectionCounters;
use super::failures::{accept_failed, handshake_failed, no_room, too_many_connections, unexpected_tls};
use super::identity::{ClientCertificate, ClientIdentity, ProxyHeader};
use super::limits::{Capacity, ClientPlace, SharedLimits};
use super::listener::{Listener, Service};
use super::plain_http::refuse_plain_http;
use super::proxy_protocol;
use super::send_file::SendFile;
use super::stream::WriteStall;
use super::tls::{Tls, TlsState};
use super::workers::Workers;
use crate::runtime::{FileWindows, Tasks};
use crate::scope::Scope;

/// The maximum number of bytes that wait in the kernel to be sent on a connection. When half of them are sent, the
/// connection is written to again. Most are pages of files, not copies, so a lower limit would only wake the worker
/// more often.
const MAX_UNSENT: u32 = 1024 * 1024;
/// The same under TLS: here they are copies.
const MAX_UNSENT_TLS: u32 = 256 * 1024;
/// How many bytes of a response rustls buffers before it waits for the socket: one chunk of a blob.
const TLS_BUFFER: usize = 256 * 1024;
/// The delay after a failed accept (for example without free file descriptors), which would fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);
/// How long a handshake may take after shutdown has started.
const LAST_HANDSHAKE: Duration = Duration::from_secs(1);

/// State shared by the connections of one listener.
pub(super) struct ListenerShared<S> {
    pub(super) listener: Arc<Listener>,
    pub(super) service: Arc<S>,
    pub(super) limits: SharedLimits,
    pub(super) counters: ConnectionCounters,
    pub(super) windows: FileWindows,
    pub(super) tasks: Tasks,
    /// Stops when no more connections are to be accepted, and those that were are to be answered.
    pub(super) accepting: Tasks,
    /// Runs the connections that are refused because of shutdown.
    pub(super) front: Tasks,
    pub(super) workers: Arc<Workers>,
}

impl<S: Service> ListenerShared<S> {
    /// Accepts connections until `accepting` or `front` stop.
    pub(super) async fn accept_until_stop(self: Arc<Self>) {
        // Shutdown waits until the last connection that was accepted is served.
        let _accepting = self.listener.is_kept.then(|| self.tasks.request());
        let mut front_stops = std::pin::pin!(self.front.stopping());
        // The next process answers those who wait.
        let mut accepting_stops = std::pin::pin!(self.accepting.stopping());
        let mut tasks_stop = std::pin::pin!(self.tasks.stopping());
        loop {
            let (stream, peer) = tokio::select! {
                biased;
                () = &mut front_stops => break,
                () = &mut accepting_stops => break,
                () = &mut tasks_stop, if self.listener.is_kept => break,
                accepted = self.accept() => accepted,
            };
            let slot = tokio::select! {
                biased;
                slot = self.admit() => slot,
                () = &mut front_stops => break,
            };
            self.counters.accepted.inc();
            let tasks = if slot.is_refused { &self.front } else { &self.tasks };
            match stream.into_std() {
                Ok(stream) => self.workers.serve(tasks, self.clone().connection(stream, peer, slot)),
                Err(error) => tracing::debug!(%peer, %error, "connection lost before it was served"),
            }
        }
    }

    /// The next connection. Cancel safe.
    async fn accept(&self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.socket.accept().await {
                Ok(accepted) => return accepted,
                Err(error) => {
                    accept_failed(&self.listener.bound, &error);
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    /// Waits until the connection limit allows another connection.
    async fn admit(&self) -> ConnectionSlot {
        loop {
            let capacity = self.limits.capacity();
            self.counters.allow(capacity.limits.max_connections);
            if capacity.is_crowded() {
                no_room(&self.listener.label, &capacity);
            }
            // Fails if the limits were replaced meanwhile.
            if let Ok(permit) = capacity.connections.clone().acquire_owned().await {
                // Where clients can wait for the next process, what was accepted before shutdown is answered.
                let can_wait = self.listener.is_kept || self.accepting.is_stopping();
                let is_refused = self.tasks.is_stopping() && !can_wait;
                let unanswered = if is_refused { &self.front } else { &self.tasks }.request();
                return ConnectionSlot { capacity, _permit: permit, unanswered, is_refused };
            }
        }
    }

    /// Serves a connection. The worker that runs this polls the connection's socket.
    async fn connection(self: Arc<Self>, stream: net::TcpStream, peer: SocketAddr, slot: ConnectionSlot) {
        let _open = self.counters.open();
        let greeted = match TcpStream::from_std(stream) {
            Ok(stream) => self.clone().greet(stream, peer, slot).await,
            Err(error) => Err(error),
        };
        if let Err(error) = greeted {
            tracing::debug!(%peer, %error, "connection refused");
        }
    }

    /// Handles everything before the first request within one time limit, then serves requests.
    async fn greet(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, slot: ConnectionSlot) -> io::Result<()> {
        prepare(&stream, self.listener.tls.is_some())?;
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let limits = slot.capacity.limits.clone();
        let mut stream = WriteStall::new(SendFile::new(stream, self.windows.clone()), limits.write_stall_timeout);
        // Known before the TLS handshake, whose failures name it.
        let mut address = peer.ip();
        let mut place = ClientPlace::Unlimited { _share: None };
        let handshake = async {
            address = self.client_behind_proxy(&mut stream, peer).await?;
            place = self.place_of(address, &slot.capacity);
            if matches!(place, ClientPlace::Closed) {
                return Err(io::Error::other("its address has too many connections"));
            }
            match &self.listener.tls {
                None => Ok(Connection::Plain(stream)),
                Some(tls) => self.tls_handshake(stream, tls).await,
            }
        };
        let too_late = async {
            let end = tokio::time::sleep(limits.tls_handshake_timeout);
            let last = async {
                self.tasks.stopping().await;
                tokio::time::sleep(LAST_HANDSHAKE).await;
            };
            tokio::select! { () = end => {}, () = last => {} }
        };
        let greeted = tokio::select! {
            biased;
            greeted = handshake => greeted,
            () = too_late => Err(io::Error::new(io::ErrorKind::TimedOut, "the handshake takes too long")),
        };
        let wire = greeted.inspect_err(|error| {
            if self.listener.tls.is_some() && !matches!(place, ClientPlace::Closed) {
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
                self.requests(stream, false, client, (slot, place)).await;
            }
            Connection::Tls(stream, certificate, scope) => {
                let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
                let client = client(true, certificate, scope);
                self.requests(*stream, http2, client, (slot, place)).await;
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

    /// The place of a connection among those of its client. A proxy has the connections of many clients, so its address
    /// does not count.
    fn place_of(&self, address: IpAddr, capacity: &Capacity) -> ClientPlace {
        if self.listener.proxies.trusts(address) {
            return ClientPlace::Unlimited { _share: None };
        }
        let place = capacity.of_client(address);
        if matches!(place, ClientPlace::Refused { .. } | ClientPlace::Closed) {
            self.counters.refused.inc();
            too_many_connections(&self.listener.label, address);
        }
        place
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

    async fn requests<IO>(
        self: Arc<Self>,
        stream: IO,
        http2: bool,
        client: ClientIdentity,
        (slot, place): (ConnectionSlot, ClientPlace),
    ) where
        IO: tokio::io::AsyncRead + tokio::io::AsyncWrite + Send + Unpin + 'static,
    {
        let ConnectionSlot { capacity, _permit, unanswered, is_refused } = slot;
        if is_refused {
            let refuse = move |_| ready(connection::draining(http2));
            connection::serve(stream, http2, &capacity, &self.front, unanswered, refuse).await;
            return;
        }
        if matches!(place, ClientPlace::Refused { .. }) {
            let refuse = move |_| ready(connection::crowded(http2));
            connection::serve(stream, http2, &capacity.of_refused(), &self.tasks, unanswered, refuse).await;
            return;
        }
        // A count of references that only this connection changes: the service itself is shared by all cores.
        let service = Arc::new(self.service.clone());
        let address = client.address;
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
        let is_tls = connection::serve(stream, http2, &capacity, &self.tasks, unanswered, handle).await;
        if is_tls && self.listener.tls.is_none() {
            let hint = "use http:// in the client, or configure TLS for this listener (tls)";
            unexpected_tls(&self.listener.label, address, hint);
        }
    }
}

/// The resources of an accepted connection, and whether its requests are answered.
struct ConnectionSlot {
    capacity: Arc<Capacity>,
    _permit: OwnedSemaphorePermit,
    /// Counts the connection until its responses have begun.
    unanswered: TaskTrackerToken,
    /// Whether it was accepted after shutdown had started.
    is_refused: bool,
}

enum Connection {
    Plain(WriteStall<SendFile>),
    Tls(Box<TlsStream<WriteStall<SendFile>>>, Option<Arc<ClientCertificate>>, Scope),
}

fn prepare(stream: &TcpStream, tls: bool) -> io::Result<()> {
    stream.set_nodelay(true)?;
    SockRef::from(stream).set_tcp_notsent_lowat(if tls { MAX_UNSENT_TLS } else { MAX_UNSENT })
}
