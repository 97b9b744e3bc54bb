//! Accepts and serves connections.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::ServerConfig;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::fault::Closed;
use super::flush::{ConnectionFaults, Flushing, OverTcp};
use super::{Registry, body};
use crate::runtime::Tasks;

/// A registry that is listening. Dropping this has no effect.
#[derive(Clone, Debug)]
pub struct Listening {
    address: SocketAddr,
    tls: bool,
    stop: CancellationToken,
    open: TaskTracker,
}

impl Listening {
    /// The bound address, with the actual port.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// `http://127.0.0.1:1234`, or `https://…`: the URL for an upstream.
    pub fn url(&self) -> String {
        format!("{}://{}", scheme(self.tls), self.address)
    }

    /// Closes the listener and all connections. Once this resolves, nobody can connect.
    pub async fn stop(&self) {
        self.stop.cancel();
        self.open.close();
        self.open.wait().await;
    }
}

/// The delay after a failed accept.
const RETRY_ACCEPT: Duration = Duration::from_millis(10);

fn scheme(tls: bool) -> &'static str {
    if tls { "https" } else { "http" }
}

pub(super) fn listen(
    registry: Registry,
    listener: TcpListener,
    tls: Option<Arc<ServerConfig>>,
    tasks: &Tasks,
) -> io::Result<Listening> {
    let address = listener.local_addr()?;
    let listening = Listening { address, tls: tls.is_some(), stop: CancellationToken::new(), open: TaskTracker::new() };
    let (open, stop, inner) = (listening.open.clone(), listening.stop.clone(), tasks.clone());
    let accept = async move {
        while let Some(accepted) = until_stop(&stop, &inner, listener.accept()).await {
            // Either a connection ended before it was accepted, or there are too many open files.
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(RETRY_ACCEPT).await;
                continue;
            };
            let (registry, tls, stop, tasks) = (registry.clone(), tls.clone(), stop.clone(), inner.clone());
            let connection = async move { until_stop(&stop, &tasks, connection(registry, stream, tls)).await };
            inner.spawn(open.track_future(connection));
        }
    };
    tasks.spawn(listening.open.track_future(accept));
    Ok(listening)
}

/// The future's output, or `None` if it is stopped first.
async fn until_stop<T>(stop: &CancellationToken, tasks: &Tasks, future: impl Future<Output = T>) -> Option<T> {
    tokio::select! {
        biased;
        () = stop.cancelled() => None,
        () = tasks.stopping() => None,
        output = future => Some(output),
    }
}

async fn connection(registry: Registry, stream: TcpStream, tls: Option<Arc<ServerConfig>>) {
    // Avoids delaying small responses until acknowledgements arrive. Ignoring an error loses nothing.
    let _ = stream.set_nodelay(true);
    match tls {
        None => serve(registry, stream, false).await,
        Some(config) => {
            if let Ok(stream) = TlsAcceptor::from(config).accept(stream).await {
                serve(registry, stream, true).await;
            }
        }
    }
}

async fn serve<S: OverTcp>(registry: Registry, stream: S, tls: bool) {
    let wire = Arc::new(ConnectionFaults::new());
    let service = service_fn(|request| respond(&registry, request, tls, wire.clone()));
    let stream = TokioIo::new(Flushing::new(stream, wire.clone()));
    let served = http1::Builder::new().timer(TokioTimer::new()).serve_connection(stream, service).await;
    if let Err(error) = served {
        tracing::debug!(%error, "sample registry: connection ended");
    }
}

async fn respond(
    registry: &Registry,
    mut request: Request<Incoming>,
    tls: bool,
    wire: Arc<ConnectionFaults>,
) -> Result<Response<UnsyncBoxBody<Bytes, Closed>>, Closed> {
    let shared = &registry.0;
    let number = shared.log.arrived(&request);
    let hit = shared.faults.hit(&request);
    hit.before_answer().await;
    if hit.ignores_range() {
        request.headers_mut().remove(header::RANGE);
    }
    let host = request.headers().get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let answer = match hit.answer(request.uri().path())? {
        Some(answer) => answer,
        None => shared.answer(&request, &format!("{}://{host}", scheme(tls))),
    };
    shared.log.answered(number, answer.status());
    let (mut head, content) = answer.into_parts();
    // A 304 would have to give the length of content that it does not send (RFC 9110 §8.6).
    if head.status != StatusCode::NOT_MODIFIED {
        head.headers.insert(header::CONTENT_LENGTH, content.len().into());
    }
    hit.edit_headers(&mut head.headers);
    if let Some(bytes) = hit.reset() {
        wire.reset_after(bytes);
    }
    Ok(Response::from_parts(head, body::send(content, hit, wire)))
}
