//! The client of the admin API: plain HTTP over the gate's Unix socket, or over TCP if `--server` says so.
//!
//! It is separate from `http_client` because it needs neither proxies nor TLS, and connects to a socket.

mod transfer;

use std::io;
use std::os::unix::net::UnixStream as StdUnixStream;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use http::uri::Authority;
use http::{Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use hyper_util::rt::TokioIo;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};

use super::{CommandError, GateArgs};
use crate::api::{ErrorAnswer, JobState, path};
use crate::config::Config;
use crate::markup::{Problem, ProblemKey, ProblemSeverity};
use crate::runtime::printable;
pub(super) use transfer::ContentClient;

/// The largest answer that is read, in bytes.
const MAX_ANSWER: usize = 64 * 1024 * 1024;
/// Longer than the gate itself waits for evidence.
const TIMEOUT: Duration = Duration::from_secs(60);
/// How often the progress of a job is read.
const LOOK: Duration = Duration::from_millis(150);

/// The address of the admin API.
#[derive(Clone, Debug)]
pub(super) enum AdminAddress {
    /// A host and a port.
    Tcp(String),
    Unix(PathBuf),
}

impl FromStr for AdminAddress {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, &'static str> {
        let wrong = "write http://HOST:PORT or unix:PATH";
        if let Some(path) = text.strip_prefix("unix:").filter(|path| !path.is_empty()) {
            return Ok(Self::Unix(path.into()));
        }
        let authority = text.strip_prefix("http://").ok_or(wrong)?.trim_end_matches('/');
        let parsed: Authority = authority.parse().map_err(|_| wrong)?;
        let has_port = parsed.port_u16().is_some() && !authority.contains('@');
        if has_port { Ok(Self::Tcp(authority.to_owned())) } else { Err(wrong) }
    }
}

/// Sends a GET to a path of [`path`] and reads the JSON of the answer.
pub(super) fn get<T: DeserializeOwned>(gate: &GateArgs, path: &str) -> Result<T, CommandError> {
    call(gate, Method::GET, path, Bytes::new())
}

/// Sends a POST to a path of [`path`] and reads the JSON of the answer.
pub(super) fn post<T: DeserializeOwned>(gate: &GateArgs, path: &str, body: &impl Serialize) -> Result<T, CommandError> {
    let body = serde_json::to_vec(body).map_err(|error| error.to_string())?;
    call(gate, Method::POST, path, body.into())
}

/// Sends a DELETE to a path of [`path`] and reads the JSON of the answer.
pub(super) fn delete<T: DeserializeOwned>(gate: &GateArgs, path: &str) -> Result<T, CommandError> {
    call(gate, Method::DELETE, path, Bytes::new())
}

/// Starts a job, shows its progress on a terminal, and returns its result.
pub(super) fn run_job<T: DeserializeOwned>(
    gate: &GateArgs,
    path: &str,
    body: &impl Serialize,
) -> Result<T, CommandError> {
    let mut job: JobState = post(gate, path, body)?;
    let bar = progress_bar();
    while !job.has_ended() {
        std::thread::sleep(LOOK);
        job = get(gate, &format!("{}{}", path::JOBS, job.id))?;
        bar.set_length(job.total_bytes);
        bar.set_position(job.done_bytes);
        bar.set_message(printable(&job.at).into_owned());
    }
    bar.finish_and_clear();
    match (job.result, job.error) {
        (Some(result), _) => serde_json::from_value(result).map_err(|error| unreadable(&error).into()),
        (None, error) => Err(error.unwrap_or_default().into()),
    }
}

/// A bar for bytes. It draws nothing if standard error is not a terminal.
pub(super) fn progress_bar() -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:30} {bytes}/{total_bytes} {bytes_per_sec} {msg}");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn call<T: DeserializeOwned>(gate: &GateArgs, method: Method, path: &str, body: Bytes) -> Result<T, CommandError> {
    answer(gate, &endpoint(gate)?, method, path, body)?.map_err(|refusal| refusal.message().into())
}

/// An answer that is not a success.
pub(super) struct RefusedAnswer {
    /// Not a success.
    pub(super) status: StatusCode,
    /// Usually an [`ErrorAnswer`].
    pub(super) body: Bytes,
}

impl RefusedAnswer {
    /// What is wrong, in words.
    pub(super) fn message(&self) -> String {
        message(self.status, &self.body)
    }
}

/// Makes a call of a path of [`path`]. The inner error is a refusal.
pub(super) fn answer<T: DeserializeOwned>(
    gate: &GateArgs,
    endpoint: &AdminAddress,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<Result<T, RefusedAnswer>, CommandError> {
    let (status, body) = send(gate, endpoint, method, &format!("{}{path}", path::PREFIX), body)?;
    if !status.is_success() {
        return Ok(Err(RefusedAnswer { status, body }));
    }
    serde_json::from_slice(&body).map(Ok).map_err(|error| unreadable(&error).into())
}

/// Whether the gate should receive requests, and the body of its answer, in the format selected by the query of
/// `/readyz`.
pub(super) fn readiness(gate: &GateArgs, query: &str) -> Result<(bool, Bytes), CommandError> {
    let path = format!("/readyz{query}");
    match send(gate, &endpoint(gate)?, Method::GET, &path, Bytes::new())? {
        (StatusCode::OK, report) => Ok((true, report)),
        (StatusCode::SERVICE_UNAVAILABLE, report) => Ok((false, report)),
        (status, body) => Err(message(status, &body).into()),
    }
}

fn send(
    gate: &GateArgs,
    endpoint: &AdminAddress,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<(StatusCode, Bytes), CommandError> {
    let token = gate.token()?;
    let call = AdminCall { method, path, token, body: Full::new(body).map_err(|never| match never {}).boxed_unsync() };
    let runtime = super::runtime().map_err(|error| error.to_string())?;
    let asked = async { tokio::time::timeout(TIMEOUT, ask(endpoint, call, whole)).await };
    let late = |_| {
        "the gate did not answer within 60 s: it hangs, or is stopped; look at its log and its disk, and restart it if it \
         does not recover"
            .to_owned()
    };
    let answered = runtime.block_on(asked).map_err(late)?;
    answered.map_err(Into::into)
}

fn unreadable(error: &serde_json::Error) -> String {
    format!("the gate's answer cannot be read: {error}; is it the same version?")
}

/// One call of the API.
struct AdminCall<'a> {
    method: Method,
    path: &'a str,
    token: Option<String>,
    body: UnsyncBoxBody<Bytes, io::Error>,
}

/// Whether a gate listens on the configuration's socket.
///
/// # Errors
/// A message, if this user may not use the socket: this process would judge without what the gate knows.
pub(super) fn is_running(gate: &GateArgs) -> Result<bool, CommandError> {
    match endpoint(gate) {
        Ok(AdminAddress::Unix(path)) => has_gate(&path, StdUnixStream::connect(&path)).map_err(Into::into),
        Ok(AdminAddress::Tcp(_)) => Ok(true),
        Err(_) => Ok(false),
    }
}

fn has_gate<T>(socket: &Path, connected: io::Result<T>) -> Result<bool, String> {
    match connected {
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Err(format!(
            "{}. With --offline, this process judges without the gate's exemptions, tags and cache",
            not_allowed(socket, &error)
        )),
        connected => Ok(connected.is_ok()),
    }
}

/// Where the gate is reached, for people: `http://127.0.0.1:5001` or the path of the socket.
///
/// # Errors
/// A message, if the configuration cannot be read or the address is not one.
pub(super) fn address(gate: &GateArgs) -> Result<String, CommandError> {
    endpoint(gate).map(|endpoint| match endpoint {
        AdminAddress::Tcp(authority) => format!("http://{authority}"),
        AdminAddress::Unix(socket) => socket.display().to_string(),
    })
}

fn message(status: StatusCode, body: &[u8]) -> String {
    match serde_json::from_slice::<ErrorAnswer>(body) {
        Ok(answer) => answer.error,
        // What a registry listener says to these calls.
        Err(_) if matches!(status, StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED) => format!(
            "the gate answered {status}; is that its admin listener, which has port 5001 by default, and not the registry's?"
        ),
        Err(_) => format!("the gate answered {status}"),
    }
}

/// Where the arguments or the configuration say that the gate is.
pub(super) fn endpoint(gate: &GateArgs) -> Result<AdminAddress, CommandError> {
    match &gate.server {
        Some(server) => Ok(server.clone()),
        None => {
            let (socket, problems) = configured_socket(gate).map_err(CommandError::Config)?;
            let is_wrong = problems.iter().any(|problem| problem.severity == ProblemSeverity::Error);
            // A running gate keeps its previous configuration. If none is running, the mistakes matter.
            if is_wrong && StdUnixStream::connect(&socket).is_err() {
                return Err(CommandError::Config(problems));
            }
            Ok(AdminAddress::Unix(socket))
        }
    }
}

/// The socket that the configuration names, and what is wrong elsewhere in it.
///
/// # Errors
/// The mistakes, if they hide which socket is meant.
pub(super) fn configured_socket(gate: &GateArgs) -> Result<(PathBuf, Vec<Problem>), Vec<Problem>> {
    match Config::examine(gate.config.as_deref(), std::env::vars_os()) {
        (Some(config), problems) if !problems.iter().any(|problem| hides_socket(problem, &config)) => {
            Ok((crate::app::admin_socket(&config), problems))
        }
        (_, problems) => Err(problems),
    }
}

/// Whether a mistake is one of `state_dir` or `admin.socket`, or may be meant as one of them. The default is in its
/// place, which may be of another gate. Below a `state_dir` that is written, it is not.
fn hides_socket(problem: &Problem, config: &Config) -> bool {
    let Some(ProblemKey { path, is_unknown, meant }) = problem.key.as_deref() else { return false };
    let is_own = path == "admin" || matches!(path.rsplit('.').next(), Some("state_dir" | "socket"));
    let is_top = !path.contains('.') && !config.places.is_written("state_dir");
    let is_wrong = *is_unknown && (is_top || path.starts_with("admin."));
    let is_meant = matches!(meant.as_deref(), Some("state_dir" | "socket" | "admin"));
    problem.severity == ProblemSeverity::Error && (is_own || is_wrong || is_meant)
}

/// Why an answer is not whole.
fn broken_off(error: &dyn std::error::Error) -> String {
    format!("the gate's answer was cut off: {error}")
}

/// The status and the body of an answer.
async fn whole(response: Response<Incoming>) -> Result<(StatusCode, Bytes), String> {
    let status = response.status();
    let body = Limited::new(response.into_body(), MAX_ANSWER).collect().await;
    Ok((status, body.map_err(|error| broken_off(&*error))?.to_bytes()))
}

/// Makes a call, and reads the answer with `read`.
async fn ask<T>(
    endpoint: &AdminAddress,
    call: AdminCall<'_>,
    read: impl AsyncFnOnce(Response<Incoming>) -> Result<T, String>,
) -> Result<T, String> {
    match endpoint {
        AdminAddress::Tcp(authority) => {
            let stream = TcpStream::connect(authority).await.map_err(|error| unreachable_gate(authority, &error))?;
            exchange(stream, authority, call, read).await
        }
        AdminAddress::Unix(socket) => {
            let stream = UnixStream::connect(socket).await.map_err(|error| unreachable_socket(socket, &error))?;
            exchange(stream, "localhost", call, read).await
        }
    }
}

fn unreachable_gate(authority: &str, error: &io::Error) -> String {
    format!("no gate answers at {authority}: {error}")
}

fn not_allowed(socket: &Path, error: &io::Error) -> String {
    let what = "this user may not ask the gate; run the command as the gate's user or as root, or use --server";
    format!("{}: {error}: {what}", socket.display())
}

fn unreachable_socket(socket: &Path, error: &io::Error) -> String {
    if error.kind() == io::ErrorKind::PermissionDenied {
        return not_allowed(socket, error);
    }
    format!(
        "no gate answers at {}: {error}; is it running, may this user talk to it, and was it started with this `state_dir` and \
         `admin.socket`? --server unix:PATH names another socket",
        socket.display()
    )
}

async fn exchange<S, T>(
    stream: S,
    host: &str,
    call: AdminCall<'_>,
    read: impl AsyncFnOnce(Response<Incoming>) -> Result<T, String>,
) -> Result<T, String>
where
    S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let failed = |error: hyper::Error| broken_off(&error);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(failed)?;
    let mut request = Request::builder().method(call.method).uri(call.path).header(http::header::HOST, host);
    if let Some(token) = call.token {
        request = request.header(http::header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let request = request.body(call.body).map_err(|error| error.to_string())?;
    let answer = async { read(sender.send_request(request).await.map_err(failed)?).await };
    tokio::pin!(connection, answer);
    tokio::select! {
        answered = &mut answer => answered,
        _ = &mut connection => answer.await,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_name_a_socket_or_a_host_with_a_port() {
        for (text, wanted) in [
            ("unix:/run/admin.sock", Some("/run/admin.sock")),
            ("http://127.0.0.1:5001", Some("127.0.0.1:5001")),
            ("http://[::1]:5001/", Some("[::1]:5001")),
            ("http://gate:5001", Some("gate:5001")),
            ("http://gate", None),
            ("http://gate:5001/api", None),
            ("http://u:p@gate:5001", None),
            ("https://gate:5001", None),
            ("gate:5001", None),
            ("unix:", None),
            ("", None),
        ] {
            let parsed: Option<AdminAddress> = text.parse().ok();
            let found = parsed.map(|address| match address {
                AdminAddress::Tcp(authority) => authority,
                AdminAddress::Unix(path) => path.display().to_string(),
            });
            assert_eq!(found.as_deref(), wanted, "{text}");
        }
    }

    #[test]
    fn a_key_that_may_be_meant_as_the_place_of_the_socket_hides_it() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("pullgate.toml");
        let upstream = "[[upstream]]\nhost = \"a.test\"\nurl = \"https://a.test\"\n";
        for (text, is_hidden) in [
            ("state_directory = \"x\"\n", true),
            ("[state]\ndir = \"x\"\n", true),
            ("[admin]\nsocket_path = \"x\"\n", true),
            ("state_dir = 3\n", true),
            ("[limits]\nmax_conections = 1\n", false),
            ("[gaet]\nmode = \"audit\"\n", true),
            ("state_dir = \"x\"\n[gaet]\nmode = \"audit\"\n", false),
            ("state_dir = \"x\"\n[other]\nkey = 1\n", false),
            ("state_dir = \"x\"\n[admn]\nsocket = \"y\"\n", true),
            ("state_dir = \"x\"\n[admin]\nsocket_path = \"y\"\n", true),
            ("", false),
        ] {
            std::fs::write(&file, format!("{text}{upstream}")).unwrap();
            let (config, problems) = Config::examine(Some(&file), std::iter::empty());
            let is_found = config.is_some_and(|config| !problems.iter().any(|problem| hides_socket(problem, &config)));
            assert_eq!(!is_found, is_hidden, "{text} {problems:?}");
        }
    }

    #[test]
    fn an_answer_of_the_registry_has_a_hint() {
        let said = |status, body: &str| message(status, body.as_bytes());
        assert_eq!(said(StatusCode::NOT_FOUND, "{\"error\": \"no such image\"}"), "no such image");
        let registry = said(StatusCode::NOT_FOUND, "{\"errors\": []}");
        assert!(registry.contains("404") && registry.contains("5001"), "{registry}");
        assert!(!said(StatusCode::BAD_GATEWAY, "").contains("5001"));
    }

    /// A process that judges by itself decides without the exemptions and the memory of a gate that may well run.
    #[test]
    fn a_socket_that_may_not_be_used_is_not_an_absent_gate() {
        let found = |kind: io::ErrorKind| has_gate::<()>(Path::new("s"), Err(kind.into()));
        assert_eq!(found(io::ErrorKind::NotFound), Ok(false));
        assert_eq!(found(io::ErrorKind::ConnectionRefused), Ok(false));
        assert_eq!(has_gate(Path::new("s"), Ok(())), Ok(true));
        let asked = |kind: io::ErrorKind| unreachable_socket(Path::new("s"), &kind.into());
        assert!(asked(io::ErrorKind::NotFound).contains("is it running"));
        assert!(asked(io::ErrorKind::PermissionDenied).ends_with("as root, or use --server"));
        let refused = found(io::ErrorKind::PermissionDenied).unwrap_err();
        assert!(refused.starts_with("s: permission denied: ") && refused.contains("--offline"), "{refused}");
    }
}
