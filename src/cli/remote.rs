//! Asking a running gate over its admin API.

use std::path::{Path, PathBuf};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::TokioIo;
use indicatif::{ProgressBar, ProgressStyle};
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::GateArgs;
use crate::runtime::printable;
use crate::server::JobState;

/// An answer larger than this, in bytes, is not a gate's.
const MAX_ANSWER: usize = 64 * 1024 * 1024;
/// Longer than the gate itself waits for evidence.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How often a job is looked at.
const LOOK: Duration = Duration::from_millis(150);

/// The address of the admin API.
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
pub(super) fn get<T: DeserializeOwned>(place: &GateArgs, path: &str) -> Result<T, String> {
    call(place, Method::GET, path, Bytes::new())
}

/// Tells the gate to do something, and reads its JSON.
pub(super) fn post<T: DeserializeOwned>(place: &GateArgs, path: &str, body: &impl Serialize) -> Result<T, String> {
    let body = serde_json::to_vec(body).map_err(|error| error.to_string())?;
    call(place, Method::POST, path, body.into())
}

/// Has the gate begin a job, shows its progress on a terminal, and gives its result.
pub(super) fn run_job<T: DeserializeOwned>(place: &GateArgs, path: &str, body: &impl Serialize) -> Result<T, String> {
    let mut job: JobState = post(place, path, body)?;
    let bar = progress_bar();
    while !job.has_ended() {
        std::thread::sleep(LOOK);
        job = get(place, &format!("/api/v1/jobs/{}", job.id))?;
        bar.set_length(job.total_bytes);
        bar.set_position(job.done_bytes);
        bar.set_message(printable(&job.at).into_owned());
    }
    bar.finish_and_clear();
    match (job.result, job.error) {
        (Some(result), _) => serde_json::from_value(result).map_err(|error| unreadable(&error)),
        (None, error) => Err(error.unwrap_or_default()),
    }
}

/// Draws nothing where standard error is no terminal.
fn progress_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {msg}");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn call<T: DeserializeOwned>(place: &GateArgs, method: Method, path: &str, body: Bytes) -> Result<T, String> {
    let (endpoint, token) = (endpoint(place)?, place.token()?);
    let call = Call { method, path, token, body };
    let runtime = super::runtime().map_err(|error| error.to_string())?;
    let asked = async { tokio::time::timeout(TIMEOUT, ask(&endpoint, call)).await };
    let (status, body) = runtime.block_on(asked).map_err(|_| "the gate did not answer within 60 s".to_owned())??;
    if !status.is_success() {
        return Err(message(status, &body));
    }
    serde_json::from_slice(&body).map_err(|error| unreadable(&error))
}

fn unreadable(error: &serde_json::Error) -> String {
    format!("the gate's answer cannot be read: {error}; is it the same version?")
}

/// One call of the API.
struct Call<'a> {
    method: Method,
    path: &'a str,
    token: Option<String>,
    body: Bytes,
}

/// Whether a gate listens on the configuration's socket.
pub(super) fn is_running(place: &GateArgs) -> bool {
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

fn endpoint(place: &GateArgs) -> Result<Endpoint, String> {
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

async fn ask(endpoint: &Endpoint, call: Call<'_>) -> Result<(StatusCode, Bytes), String> {
    match endpoint {
        Endpoint::Tcp(authority) => {
            let stream = TcpStream::connect(authority).await.map_err(|error| unreachable_gate(authority, &error))?;
            exchange(stream, authority, call).await
        }
        Endpoint::Unix(socket) => {
            let stream = UnixStream::connect(socket).await.map_err(|error| unreachable_socket(socket, &error))?;
            exchange(stream, "localhost", call).await
        }
    }
}

fn unreachable_gate(authority: &str, error: &std::io::Error) -> String {
    format!("no gate answers at {authority}: {error}")
}

fn unreachable_socket(socket: &Path, error: &std::io::Error) -> String {
    format!("no gate answers at {}: {error}; is it running, and may this user talk to it?", socket.display())
}

async fn exchange<S>(stream: S, host: &str, call: Call<'_>) -> Result<(StatusCode, Bytes), String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let failed = |error: hyper::Error| format!("the gate's answer broke off: {error}");
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let mut request = Request::builder().method(call.method).uri(call.path).header(http::header::HOST, host);
    if let Some(token) = call.token {
        request = request.header(http::header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(Full::new(call.body)).map_err(|error| error.to_string())?;
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
