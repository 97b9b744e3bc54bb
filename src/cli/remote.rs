//! Asking a running gate over its admin API.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::Where;

/// An answer larger than this, in bytes, is not a gate's.
const MAX_ANSWER: usize = 64 * 1024 * 1024;
/// Longer than the gate itself waits for evidence.
const TIMEOUT: Duration = Duration::from_secs(60);

/// Where the admin API is.
enum Endpoint {
    Tcp(String),
    Unix(PathBuf),
}

/// A query string of these parameters.
pub(super) fn query(parameters: &[(&str, &str)]) -> String {
    let pairs = parameters.iter().map(|(key, value)| format!("{key}={}", utf8_percent_encode(value, NON_ALPHANUMERIC)));
    pairs.collect::<Vec<_>>().join("&")
}

/// Asks the gate and reads its JSON.
pub(super) fn get<T: DeserializeOwned>(place: &Where, path: &str) -> Result<T, String> {
    let endpoint = endpoint(place)?;
    let runtime = super::runtime().map_err(|error| error.to_string())?;
    let asked = async { tokio::time::timeout(TIMEOUT, ask(&endpoint, path)).await };
    let (status, body) = runtime.block_on(asked).map_err(|_| "the gate did not answer within 60 s".to_owned())??;
    if status != StatusCode::OK {
        return Err(message(status, &body));
    }
    serde_json::from_slice(&body)
        .map_err(|error| format!("the gate's answer cannot be read: {error}; is it the same version?"))
}

/// Whether a gate listens on the configuration's socket.
pub(super) fn is_running(place: &Where) -> bool {
    match endpoint(place) {
        Ok(Endpoint::Unix(path)) => std::os::unix::net::UnixStream::connect(path).is_ok(),
        Ok(Endpoint::Tcp(_)) => true,
        Err(_) => false,
    }
}

fn message(status: StatusCode, body: &[u8]) -> String {
    let value: serde_json::Value = serde_json::from_slice(body).unwrap_or_default();
    match value["error"].as_str() {
        Some(error) => error.to_owned(),
        None => format!("the gate answered {status}"),
    }
}

fn endpoint(place: &Where) -> Result<Endpoint, String> {
    match &place.server {
        Some(server) => match (server.strip_prefix("unix:"), server.strip_prefix("http://")) {
            (Some(path), _) => Ok(Endpoint::Unix(path.into())),
            (None, Some(authority)) => Ok(Endpoint::Tcp(authority.trim_end_matches('/').to_owned())),
            (None, None) => Err(format!("{server}: --server takes http://HOST:PORT or unix:PATH")),
        },
        None => {
            let config = super::config::load_or_say(place.config.as_deref())?;
            Ok(Endpoint::Unix(crate::app::admin_socket(&config)))
        }
    }
}

async fn ask(endpoint: &Endpoint, path: &str) -> Result<(StatusCode, Bytes), String> {
    match endpoint {
        Endpoint::Tcp(authority) => {
            let stream = TcpStream::connect(authority).await.map_err(|error| unreachable_gate(authority, &error))?;
            exchange(stream, authority, path).await
        }
        Endpoint::Unix(socket) => {
            let stream = UnixStream::connect(socket).await.map_err(|error| unreachable_socket(socket, &error))?;
            exchange(stream, "localhost", path).await
        }
    }
}

fn unreachable_gate(authority: &str, error: &std::io::Error) -> String {
    format!("no gate answers at {authority}: {error}")
}

fn unreachable_socket(socket: &Path, error: &std::io::Error) -> String {
    format!("no gate answers at {}: {error}; is it running, and may this user talk to it?", socket.display())
}

async fn exchange<S>(stream: S, host: &str, path: &str) -> Result<(StatusCode, Bytes), String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let failed = |error: hyper::Error| format!("the gate's answer broke off: {error}");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let request = Request::builder().method(Method::GET).uri(path).header(http::header::HOST, host);
    let request = request.body(Full::<Bytes>::default()).map_err(|error| error.to_string())?;
    let answer = async {
        let response = sender.send_request(request).await.map_err(failed)?;
        let status = response.status();
        let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
        Ok((status, body.map_err(|error| format!("the gate's answer broke off: {error}"))?.to_bytes()))
    };
    tokio::pin!(connection, answer);
    tokio::select! {
        answered = &mut answer => answered,
        _ = &mut connection => answer.await,
    }
}
