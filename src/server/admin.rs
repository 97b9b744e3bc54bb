//! The admin side: health, metrics and the API, on its own TCP listener and on a Unix socket.
//!
//! Health and metrics change nothing and are open to whoever reaches the listener. What changes something needs the
//! socket, which only the same user and root can use, or a token. It never serves registry content.

mod access;
mod api;
mod jobs;
mod socket;

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use hyper::body::Incoming;
use serde::Serialize;
use serde_json::json;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;

use self::access::Access;
pub use self::api::{AdminApi, PrefetchRequest, PrefetchedImage, check};
pub use self::jobs::JobState;
use self::socket::Socket;
use super::transport::limits::{Capacity, Limits};
use super::transport::stream::WriteStall;
use super::transport::{Body, connection};

use crate::runtime::{Metrics, Readiness, Tasks};

/// What the body of an API call may have.
const MAX_BODY: usize = 1024 * 1024;
/// How long that body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);
/// Operators, probes and dashboards: few.
const MAX_CONNECTIONS: usize = 256;
/// After a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Where the admin side listens.
#[derive(Clone, Debug)]
pub struct Config {
    /// `address:port` or `host:port`, plain HTTP. Beyond loopback a token file is required, and the API, reads too, is
    /// then open only with the token.
    pub address: String,
    /// Names by which the listener is reached besides `localhost` and its own address: a Kubernetes service, say.
    pub hosts: Vec<String>,
    /// A file with the bearer token: at least 16 characters, white space around it ignored; read again for each call.
    pub token_file: Option<PathBuf>,
    /// The Unix socket, `STATE/admin.sock`; made with mode 0600.
    pub socket: PathBuf,
}

/// The API behind `/api/v1/`.
pub trait Api: Send + Sync + 'static {
    /// Answers one call, which is allowed to do what it asks for. Dropped when the caller goes away.
    fn call(&self, request: ApiRequest) -> impl Future<Output = ApiResponse> + Send;
}

/// One API call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApiRequest {
    /// The method. GET and HEAD change nothing.
    pub method: Method,
    /// The raw path after `/api/v1/`, undecoded.
    pub path: String,
    /// The raw query, without its `?`.
    pub query: Option<String>,
    /// The whole body, at most 1 MiB.
    pub body: Bytes,
    /// Who asks.
    pub caller: Caller,
}

impl ApiRequest {
    /// Whether the call changes something: all but GET and HEAD do.
    pub fn is_mutating(&self) -> bool {
        is_mutating(&self.method)
    }
}

/// Who calls the API.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Caller {
    /// Someone who reaches the listener: may read, and that only where it is a loopback listener.
    Network(SocketAddr),
    /// A process of the same user, or of root, over the Unix socket.
    Socket {
        /// Its user.
        uid: u32,
    },
    /// Someone with the token.
    Token(SocketAddr),
}

/// The answer to an API call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApiResponse {
    /// HTTP status.
    pub status: StatusCode,
    /// JSON; empty for no body.
    pub json: Bytes,
}

impl ApiResponse {
    /// An answer with a value. One that cannot be written as JSON becomes 500.
    pub fn new(status: StatusCode, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(json) => Self { status, json: json.into() },
            Err(error) => {
                tracing::error!(%error, "an API answer cannot be written as JSON");
                Self { status: StatusCode::INTERNAL_SERVER_ERROR, json: Bytes::new() }
            }
        }
    }

    /// An answer that says what is wrong: `{"error": message}`.
    pub fn error(status: StatusCode, message: &str) -> Self {
        Self::new(status, &json!({ "error": message }))
    }
}

/// Why the admin side cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// The address cannot be bound.
    #[error("admin: cannot listen on {address}: {source}")]
    Address {
        /// As configured.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The listener can be reached from elsewhere and has no token: a mistake of configuration.
    #[error("admin: {address} can be reached from other machines; set admin.token_file, or listen on 127.0.0.1")]
    Exposed {
        /// As configured.
        address: String,
    },
    /// The Unix socket cannot be made.
    #[error("admin: {}: {source}", path.display())]
    Socket {
        /// The socket.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The token file cannot be used: a mistake of configuration.
    #[error("admin: token_file {}: {what}", path.display())]
    Token {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
}

/// Binds the listener and the socket.
///
/// # Errors
/// When either cannot be bound, or the listener is open to others and has no token.
pub async fn bind(config: Config, metrics: &Metrics, readiness: &Readiness) -> Result<Bound, AdminError> {
    let error = |source| AdminError::Address { address: config.address.clone(), source };
    let listener = TcpListener::bind(&config.address).await.map_err(error)?;
    let address = listener.local_addr().map_err(error)?;
    if !address.ip().to_canonical().is_loopback() && config.token_file.is_none() {
        return Err(AdminError::Exposed { address: config.address });
    }
    let access = Access::new(&config, address)?;
    let socket =
        Socket::bind(&config.socket).map_err(|source| AdminError::Socket { path: config.socket.clone(), source })?;
    Ok(Bound { listener, address, socket, access, metrics: metrics.clone(), readiness: readiness.clone() })
}

/// The admin side, bound and not serving yet.
#[derive(Debug)]
pub struct Bound {
    listener: TcpListener,
    address: SocketAddr,
    socket: Socket,
    access: Access,
    metrics: Metrics,
    readiness: Readiness,
}

impl Bound {
    /// The address as bound.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Serves until shutdown begins. All of it runs as tracked tasks, so the caller waits by [`Tasks::drain`].
    pub fn run<A: Api>(self, api: &Arc<A>, tasks: &Tasks) {
        let Self { listener, address, socket, access, metrics, readiness } = self;
        let admin = Admin { api: api.clone(), access, metrics, readiness, tasks: tasks.clone() };
        let admin = Arc::new(admin);
        tracing::info!(%address, socket = %socket.path().display(), "admin listening");
        tasks.spawn(admin.clone().accept_network(listener));
        tasks.spawn(admin.accept_socket(socket));
    }
}

struct Admin<A> {
    api: Arc<A>,
    access: Access,
    metrics: Metrics,
    readiness: Readiness,
    tasks: Tasks,
}

impl<A: Api> Admin<A> {
    async fn accept_network(self: Arc<Self>, listener: TcpListener) {
        let capacity = capacity();
        while let Some(accepted) = self.unless_stopping(listener.accept()).await {
            match accepted {
                Ok((stream, peer)) => self.serve(stream, Caller::Network(peer), &capacity).await,
                Err(error) => pause(&error).await,
            }
        }
    }

    async fn accept_socket(self: Arc<Self>, socket: Socket) {
        let capacity = capacity();
        while let Some(accepted) = self.unless_stopping(socket.accept()).await {
            match accepted {
                Ok((stream, uid)) => self.serve(stream, Caller::Socket { uid }, &capacity).await,
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

    async fn serve<IO>(self: &Arc<Self>, stream: IO, caller: Caller, capacity: &Capacity)
    where
        IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let permit = tokio::select! {
            permit = capacity.connections.clone().acquire_owned() => permit,
            () = self.tasks.stopping() => return,
        };
        let stream = WriteStall::new(stream, capacity.limits.write_stall_timeout);
        let (admin, capacity) = (self.clone(), capacity.clone());
        self.tasks.spawn(async move {
            let _permit = permit;
            let handler = admin.clone();
            let handle = move |request| {
                let admin = handler.clone();
                async move { admin.answer(request, caller).await }
            };
            connection::serve(stream, false, &capacity, &admin.tasks, handle).await;
        });
    }

    async fn answer(&self, request: Request<Incoming>, caller: Caller) -> Response<Body> {
        if let Err(refusal) = self.access.check_browser(caller, &request) {
            return json_response(refusal);
        }
        let Some(path) = request.uri().path().strip_prefix("/api/v1/") else {
            return self.health(&request);
        };
        let path = path.to_owned();
        match self.access.authorize(caller, &request).await {
            Err(refusal) => json_response(refusal),
            Ok(caller) => json_response(self.api_call(request, path, caller).await),
        }
    }

    fn health(&self, request: &Request<Incoming>) -> Response<Body> {
        if is_mutating(request.method()) {
            return json_response(ApiResponse::error(StatusCode::METHOD_NOT_ALLOWED, "only GET and HEAD"));
        }
        match request.uri().path() {
            "/livez" => response(StatusCode::OK, "text/plain; charset=utf-8", Bytes::from_static(b"ok\n")),
            "/metrics" => response(StatusCode::OK, OPEN_METRICS, self.metrics.render().into()),
            "/readyz" => json_response(self.ready()),
            _ => json_response(ApiResponse::error(StatusCode::NOT_FOUND, "no such path")),
        }
    }

    /// Something degraded stays 200: a broken policy file reaches the whole fleet at once, and to take all of it out
    /// of service would make an outage of what the last good policy still decides well.
    fn ready(&self) -> ApiResponse {
        let mut report = self.readiness.report();
        report.ready &= !self.tasks.is_stopping();
        let status = if report.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
        ApiResponse::new(status, &report)
    }

    async fn api_call(&self, request: Request<Incoming>, path: String, caller: Caller) -> ApiResponse {
        let (parts, body) = request.into_parts();
        let body = match tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_BODY).collect()).await {
            Ok(Ok(body)) => body.to_bytes(),
            Ok(Err(error)) if error.is::<LengthLimitError>() => {
                return ApiResponse::error(StatusCode::PAYLOAD_TOO_LARGE, "the body is larger than 1 MiB");
            }
            Ok(Err(_)) => return ApiResponse::error(StatusCode::BAD_REQUEST, "the body cannot be read"),
            Err(_) => return ApiResponse::error(StatusCode::REQUEST_TIMEOUT, "the body takes too long"),
        };
        let query = parts.uri.query().map(str::to_owned);
        self.api.call(ApiRequest { method: parts.method, path, query, body, caller }).await
    }
}

/// The socket has its own, so that whoever fills the listener does not keep the operator out.
fn capacity() -> Capacity {
    Capacity::new(Limits { max_connections: MAX_CONNECTIONS, ..Limits::default() })
}

fn is_mutating(method: &Method) -> bool {
    method != Method::GET && method != Method::HEAD
}

async fn pause(error: &io::Error) {
    tracing::warn!(%error, "admin: cannot accept a connection");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

fn json_response(answer: ApiResponse) -> Response<Body> {
    let mut response = response(answer.status, "application/json", answer.json);
    if answer.status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
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
