//! The admin server: health, metrics and the API, on a separate TCP listener and on a Unix socket.
//!
//! Health and metrics are read-only and open to everyone who can reach the listener. Changes require the socket, which
//! only the same user and root can use, or a token. Registry content is never served here.

mod access;
mod api;
mod bundle;
mod call;
mod connections;
mod contents;
mod error;
mod exemptions;
mod family;
mod ibm;
mod jobs;
mod pins;
mod ready;
mod socket;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

pub use self::api::AdminApi;
pub use self::bundle::TransferCall;
pub use self::call::{ApiRequest, ApiResponse, Caller};
pub use self::error::AdminError;
pub use self::family::ApiFamily;

use self::access::AdminAccess;
use self::connections::{AdminConnections, ConnectionPlace, pause};
use self::ready::ReadyFormat;
pub use self::socket::{OwnerSocket, SocketFile, is_permitted};
use super::sockets::{ADMIN, InheritedSockets, PassedSocket, admin_label};
use super::transport::failures::unexpected_tls;
use super::transport::stream::WriteStall;
use super::transport::{Body, connection};
use crate::api::path::{BUNDLE_CONTENT, BUNDLE_IMPORT};
use crate::gate::MAX_BUNDLED_IMAGE;
use crate::runtime::{Metrics, Readiness, Tasks};

/// The maximum size of a request body, in bytes.
const MAX_BODY: usize = 1024 * 1024;
/// The same for a call that imports an image: its description, and what JSON adds.
const MAX_IMPORT: usize = 2 * MAX_BUNDLED_IMAGE;
/// The time limit for receiving a request body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// The methods of paths that only read, as in the header `Allow`.
const READING: &str = "GET, HEAD";
const TEXT: &str = "text/plain; charset=utf-8";
const PLAIN_METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The addresses of the admin server.
#[derive(Clone, Debug)]
pub struct Config {
    /// `address:port` or `host:port`, plain HTTP. Beyond loopback a token file is required, and the whole API,
    /// including reads, then requires the token.
    pub address: String,
    /// Names of the listener besides `localhost` and its own address, such as a Kubernetes service.
    pub hosts: Vec<String>,
    /// A file with the bearer token, which has at least 16 characters without surrounding white space; read again for
    /// each call.
    pub token_file: Option<PathBuf>,
    /// The path of the Unix socket, `STATE/admin.sock`, created with mode 0600.
    pub socket: PathBuf,
}

/// The API under `/api/v1/`, and IBM's under `/va/api/`.
pub trait Api: Send + Sync + 'static {
    /// Answers one authorized call. Dropped if the caller disconnects.
    fn call(&self, request: ApiRequest) -> impl Future<Output = ApiResponse> + Send;

    /// Answers one authorized call to [`BUNDLE_CONTENT`], whose request or answer is content of any size.
    fn transfer(&self, call: TransferCall) -> impl Future<Output = Response<Body>> + Send;
}

/// Checks the file of the token.
///
/// # Errors
/// [`AdminError::Token`].
pub fn check_token(config: &Config) -> Result<(), AdminError> {
    access::check_token(config)
}

/// Binds the listener and the socket, or takes those that were passed to this process.
///
/// # Errors
/// One of them cannot be bound, or the listener is reachable from other machines without a token.
pub async fn bind(
    config: Config,
    metrics: &Metrics,
    readiness: &Readiness,
    inherited: &mut InheritedSockets,
) -> Result<BoundAdmin, AdminError> {
    let error = |source| AdminError::Address { address: config.address.clone(), source };
    let listener = match inherited.take_tcp(ADMIN, &config.address) {
        Some((listener, _)) => TcpListener::from_std(listener),
        None => TcpListener::bind(&config.address).await,
    };
    let listener = listener.map_err(error)?;
    let address = listener.local_addr().map_err(error)?;
    if !address.ip().to_canonical().is_loopback() && config.token_file.is_none() {
        return Err(AdminError::Exposed { address: config.address });
    }
    let access = AdminAccess::new(&config, address)?;
    let socket = OwnerSocket::bind(&config.socket, ADMIN, inherited)
        .map_err(|source| AdminError::Socket { path: config.socket.clone(), source })?;
    let label = config.address;
    Ok(BoundAdmin { label, listener, address, socket, access, metrics: metrics.clone(), readiness: readiness.clone() })
}

/// The bound admin server, which does not serve yet.
#[derive(Debug)]
pub struct BoundAdmin {
    label: String,
    listener: TcpListener,
    address: SocketAddr,
    socket: OwnerSocket,
    access: AdminAccess,
    metrics: Metrics,
    readiness: Readiness,
}

impl BoundAdmin {
    /// The bound address.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Copies of the sockets, for the process that takes over from this one.
    ///
    /// # Errors
    /// There are no free file descriptors.
    pub fn sockets(&self) -> io::Result<Vec<PassedSocket>> {
        Ok(vec![PassedSocket::copy(&admin_label(&self.label), &self.listener)?, self.socket.passed()?])
    }

    /// Decides whether the file of the socket is kept.
    pub fn socket_file(&self) -> SocketFile {
        self.socket.file()
    }

    /// Serves until `tasks` stop. Everything runs in tracked tasks, so the caller waits with [`Tasks::drain`].
    pub fn run<A: Api>(self, api: &Arc<A>, tasks: &Tasks) {
        let Self { listener, address, socket, access, metrics, readiness, .. } = self;
        let admin = Admin { api: api.clone(), access, metrics, readiness, tasks: tasks.clone() };
        let admin = Arc::new(admin);
        tracing::info!(%address, socket = %socket.path().display(), "admin listening");
        tasks.spawn(admin.clone().accept_network(listener));
        tasks.spawn(admin.accept_socket(socket));
    }
}

struct Admin<A> {
    api: Arc<A>,
    access: AdminAccess,
    metrics: Metrics,
    readiness: Readiness,
    tasks: Tasks,
}

impl<A: Api> Admin<A> {
    async fn accept_network(self: Arc<Self>, listener: TcpListener) {
        let connections = AdminConnections::of_network();
        while let Some(accepted) = self.unless_stopping(listener.accept()).await {
            match accepted {
                Ok((stream, peer)) => match self.unless_stopping(connections.place(Some(peer.ip()))).await {
                    Some(place) => self.serve(stream, Caller::Network(peer), place),
                    None => return,
                },
                Err(error) => pause(&error).await,
            }
        }
    }

    async fn accept_socket(self: Arc<Self>, socket: OwnerSocket) {
        let connections = AdminConnections::of_socket();
        while let Some(accepted) = self.unless_stopping(socket.accept()).await {
            match accepted {
                Ok((stream, uid)) => match self.unless_stopping(connections.place(None)).await {
                    Some(place) => self.serve(stream, Caller::Socket { uid }, place),
                    None => return,
                },
                Err(error) => pause(&error).await,
            }
        }
    }

    async fn unless_stopping<T>(&self, accept: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            () = self.tasks.stopping() => None,
            accepted = accept => Some(accepted),
        }
    }

    fn serve<IO>(self: &Arc<Self>, stream: IO, caller: Caller, place: ConnectionPlace)
    where
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let stream = WriteStall::new(stream, place.capacity.limits.write_stall_timeout);
        let (admin, place) = (self.clone(), Arc::new(place));
        self.tasks.spawn(async move {
            let (handler, at) = (admin.clone(), place.clone());
            let handle = move |request: Request<Incoming>| {
                let (admin, refusal) = (handler.clone(), at.refusal(request.uri().path()));
                async move {
                    match refusal {
                        None => admin.answer(request, caller).await,
                        Some(refusal) => json_response(refusal),
                    }
                }
            };
            let request = admin.tasks.request();
            let is_tls = connection::serve(stream, false, &place.capacity, &admin.tasks, request, handle).await;
            if let (true, Caller::Network(peer)) = (is_tls, caller) {
                unexpected_tls(ADMIN, peer.ip(), "use http:// in the client: the admin listener has no TLS");
            }
        });
    }

    async fn answer(&self, request: Request<Incoming>, caller: Caller) -> Response<Body> {
        let called = ApiFamily::of(request.uri().path()).map(|(family, path)| (family, path.to_owned()));
        let family = called.as_ref().map_or(ApiFamily::Native, |(family, _)| *family);
        if let Err(refusal) = self.access.check_browser(caller, &request) {
            return json_response(family.refusal(refusal));
        }
        let Some((family, path)) = called else { return self.health(&request) };
        match self.access.authorize(caller, &request, family) {
            Err(refusal) => json_response(family.refusal(refusal)),
            Ok(caller) if family == ApiFamily::Native && path == BUNDLE_CONTENT => {
                let (parts, body) = request.into_parts();
                let query = parts.uri.query().unwrap_or_default().to_owned();
                self.api.transfer(TransferCall { method: parts.method, query, body, caller }).await
            }
            Ok(caller) => json_response(self.api_call(request, family, path, caller).await),
        }
    }

    fn health(&self, request: &Request<Incoming>) -> Response<Body> {
        if is_mutating(request.method()) {
            return json_response(ApiResponse::not_allowed(ApiFamily::Native, READING));
        }
        match request.uri().path() {
            "/livez" => response(StatusCode::OK, TEXT, Bytes::from_static(b"ok\n")),
            "/metrics" if wants_plain_metrics(request.headers()) => {
                response(StatusCode::OK, PLAIN_METRICS, self.metrics.render_plain().into())
            }
            "/metrics" => response(StatusCode::OK, OPEN_METRICS, self.metrics.render().into()),
            "/readyz" => self.ready(ReadyFormat::of(request.uri().query())),
            _ => json_response(ApiResponse::error(StatusCode::NOT_FOUND, "no such path")),
        }
    }

    /// Remains 200 while degraded: an invalid policy file reaches all gates at once, and taking them all out of service
    /// would cause an outage although the last valid policy still works.
    fn ready(&self, format: ReadyFormat) -> Response<Body> {
        let mut report = self.readiness.report();
        report.ready &= !self.tasks.is_stopping();
        if format == ReadyFormat::Short {
            report.details.clear();
        }
        let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        match format {
            ReadyFormat::Text => response(status, TEXT, report.text().into()),
            ReadyFormat::Short | ReadyFormat::Detailed => json_response(ApiResponse::new(status, &report)),
        }
    }

    async fn api_call(
        &self,
        request: Request<Incoming>,
        family: ApiFamily,
        path: String,
        caller: Caller,
    ) -> ApiResponse {
        let (parts, body) = request.into_parts();
        let is_import = family == ApiFamily::Native && path == BUNDLE_IMPORT;
        let limit = if is_import { MAX_IMPORT } else { MAX_BODY };
        let body = match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, limit).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                let message = format!("the body is larger than {} MiB", limit >> 20);
                return family.error(StatusCode::PAYLOAD_TOO_LARGE, &message);
            }
            Ok(Err(_)) => return family.error(StatusCode::BAD_REQUEST, "cannot read the body"),
            Err(_) => return family.error(StatusCode::REQUEST_TIMEOUT, "receiving the body timed out"),
        };
        let query = parts.uri.query().map(str::to_owned);
        let method = if parts.method == Method::HEAD { Method::GET } else { parts.method };
        self.api.call(ApiRequest { family, method, path, query, body, caller }).await
    }
}

/// Whether a client asks for the older text format. Prometheus asks for OpenMetrics first.
fn wants_plain_metrics(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    let accepted = accepted.collect::<Vec<_>>().join(",").to_ascii_lowercase();
    accepted.contains("text/plain") && !accepted.contains("application/openmetrics-text")
}

fn is_mutating(method: &Method) -> bool {
    method != Method::GET && method != Method::HEAD
}

fn json_response(answer: ApiResponse) -> Response<Body> {
    let mut response = response(answer.status, "application/json", answer.json);
    if answer.status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    if let Some(allow) = answer.allow {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allow));
    }
    response
}

fn response(status: StatusCode, content_type: &'static str, body: Bytes) -> Response<Body> {
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests;
