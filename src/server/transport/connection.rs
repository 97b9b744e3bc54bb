//! One connection: HTTP/1.1 or HTTP/2 over a stream, until it ends or shutdown has let it finish.

use std::convert::Infallible;
use std::error::Error;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::task::task_tracker::TaskTrackerToken;

use super::body::Body;
use super::limits::{Capacity, Limits, RequestPermit};
use super::read_progress::{BodyReader, ReadProgress};
use super::stream::HeadDeadline;
use crate::oci::ErrorCode;
use crate::runtime::Tasks;
use crate::server::own_error::own_error;

/// The minimum that hyper accepts.
const MIN_BUFFER: usize = 8192;
/// A larger buffer only costs memory: large chunks of a body bypass it.
const BUFFER: usize = 64 * 1024;
/// Sufficient for a client that requests all layers at once. Each can hold one chunk of a blob in memory.
const HTTP2_STREAMS: u32 = 32;
/// The bytes of a response that wait until an HTTP/2 client accepts them. One chunk of a blob is as large.
const HTTP2_SEND_BUFFER: usize = 64 * 1024;

/// How long a connection without a request is kept open after shutdown has started. A client that has just connected,
/// or has just sent a request on a connection that it kept open, would otherwise see the connection end without a
/// response.
const LINGER: Duration = Duration::from_millis(250);

/// How long a connection is kept open after shutdown has started if it has had no request yet: its client may be slow,
/// and would see a connection that ends without a response.
const FIRST_REQUEST: Duration = Duration::from_secs(2);
/// How often it is checked, after shutdown has started, whether all responses have begun.
const CHECK_INTERVAL: Duration = Duration::from_millis(20);

/// Serves requests until the client closes or exceeds a limit, or until shutdown starts and running requests are
/// answered. `unanswered` is dropped when shutdown has started and all responses have begun. Returns whether the client
/// spoke TLS where HTTP is expected.
pub(in crate::server) async fn serve<IO, H, F>(
    io: IO,
    http2: bool,
    capacity: &Capacity,
    tasks: &Tasks,
    unanswered: TaskTrackerToken,
    handle: H,
) -> bool
where
    IO: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    H: Fn(Request<Incoming>) -> F + Send + Sync + 'static,
    F: Future<Output = Response<Body>> + Send + 'static,
{
    let limits = &*capacity.limits;
    let waiting = Unanswered { token: unanswered, count: Arc::default(), is_fresh: Arc::new(AtomicBool::new(true)) };
    let requests = Requests {
        handle,
        in_flight: Arc::default(),
        unanswered: waiting.count.clone(),
        is_fresh: waiting.is_fresh.clone(),
        reading: http2.then(|| ReadProgress::new(limits.write_stall_timeout)),
        capacity: capacity.clone(),
        tasks: tasks.clone(),
    };
    let reading = requests.reading.clone();
    let is_tls = Arc::new(AtomicBool::new(false));
    let in_flight = requests.in_flight.clone();
    let io = HeadDeadline::new(io, in_flight, is_tls.clone(), http2, limits.header_timeout, limits.idle_timeout);
    let (io, service) = (TokioIo::new(io), service_fn(move |request| requests.answer(request)));
    let ended = match reading {
        Some(reading) => {
            let connection = std::pin::pin!(http2_builder(limits, tasks).serve_connection(io, service));
            // The protocol itself tells clients which requests will not be answered.
            let served = finish(connection, tasks, waiting, Duration::ZERO, http2::Connection::graceful_shutdown);
            reading.until_stalled(served).await
        }
        None => {
            let connection = std::pin::pin!(http1_builder(limits).serve_connection(io, service));
            Some(finish(connection, tasks, waiting, LINGER, http1::Connection::graceful_shutdown).await)
        }
    };
    match ended {
        Some(Ok(())) => {}
        Some(Err(error)) => tracing::debug!(error = &error as &dyn Error, "connection ended early"),
        None => tracing::debug!("connection closed: the client is not reading the response"),
    }
    is_tls.load(Ordering::Acquire)
}

/// The requests of one connection: how they are answered, and what is counted about them.
struct Requests<H> {
    handle: H,
    /// The number of requests whose response has not been passed on completely.
    in_flight: Arc<AtomicUsize>,
    /// The number of requests whose response has not begun.
    unanswered: Arc<AtomicUsize>,
    /// Whether the connection has had no request yet.
    is_fresh: Arc<AtomicBool>,
    /// Only with HTTP/2.
    reading: Option<ReadProgress>,
    capacity: Capacity,
    tasks: Tasks,
}

impl<H, F> Requests<H>
where
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Body>>,
{
    fn answer(
        &self,
        request: Request<Incoming>,
    ) -> impl Future<Output = Result<Response<GuardedBody>, Infallible>> + use<H, F> {
        let (guard, unanswered) = (InFlight::new(self.in_flight.clone()), InFlight::new(self.unanswered.clone()));
        self.is_fresh.store(false, Ordering::Release);
        let permit = self.capacity.request();
        let answer = permit.map(|permit| (permit, AssertUnwindSafe((self.handle)(request)).catch_unwind()));
        let reader = self.reading.clone();
        let closes = reader.is_none() && (self.capacity.is_crowded() || self.tasks.is_leaving());
        async move {
            let (permit, mut response) = match answer {
                Some((permit, answer)) => (Some(permit), answer.await.unwrap_or_else(|_| panicked())),
                None => (None, busy()),
            };
            drop(unanswered);
            if closes {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            let reader = reader.map(BodyReader::new);
            Ok(response.map(|body| GuardedBody { body, reader, _guard: guard, _permit: permit }))
        }
    }
}

/// Runs a connection to its end. After shutdown has started and `linger` has passed, it ends with the running requests.
async fn finish<C: Future>(
    mut connection: Pin<&mut C>,
    tasks: &Tasks,
    waiting: Unanswered,
    linger: Duration,
    shut_down: impl FnOnce(Pin<&mut C>),
) -> C::Output {
    tokio::select! {
        ended = connection.as_mut() => return ended,
        () = tasks.stopping() => {}
    }
    let fresh_until = Instant::now() + FIRST_REQUEST.max(linger);
    if let Ok(ended) = tokio::time::timeout(linger, connection.as_mut()).await {
        return ended;
    }
    while waiting.is_fresh.load(Ordering::Acquire) && Instant::now() < fresh_until {
        if let Ok(ended) = tokio::time::timeout(CHECK_INTERVAL, connection.as_mut()).await {
            return ended;
        }
    }
    shut_down(connection.as_mut());
    loop {
        if let Ok(ended) = tokio::time::timeout(CHECK_INTERVAL, connection.as_mut()).await {
            return ended;
        }
        if waiting.count.load(Ordering::Acquire) == 0 {
            break;
        }
    }
    drop(waiting.token);
    connection.await
}

/// The requests of a connection whose responses have not begun.
struct Unanswered {
    token: TaskTrackerToken,
    count: Arc<AtomicUsize>,
    /// Whether the connection has had no request yet.
    is_fresh: Arc<AtomicBool>,
}

fn http1_builder(limits: &Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .timer(NoTimer)
        // The stream enforces the deadlines; hyper keeps reading after a response only if this timeout is set.
        .header_read_timeout(limits.idle_timeout)
        .max_header_size(limits.max_header_bytes)
        .max_headers(limits.max_headers)
        .max_buf_size(limits.max_header_bytes.max(BUFFER).max(MIN_BUFFER));
    builder
}

fn http2_builder(limits: &Limits, tasks: &Tasks) -> http2::Builder<Spawner> {
    let mut builder = http2::Builder::new(Spawner(tasks.clone()));
    builder
        .timer(TokioTimer::new())
        .max_header_list_size(u32::try_from(limits.max_header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(HTTP2_STREAMS)
        .max_send_buf_size(HTTP2_SEND_BUFFER)
        .keep_alive_interval(limits.idle_timeout)
        .keep_alive_timeout(limits.write_stall_timeout);
    builder
}

/// A panic in a handler is a bug: this request fails, others continue. The panic itself is in the log.
fn panicked() -> Response<Body> {
    tracing::error!("a request handler panicked; answered 500");
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = StatusCode::INTERNAL_SERVER_ERROR;
    response
}

/// The response when the maximum number of requests is in flight.
fn busy() -> Response<Body> {
    unavailable("too many requests are in flight (max_requests_in_flight)")
}

/// The response on a connection that its client has beyond its share.
pub(super) fn crowded(http2: bool) -> Response<Body> {
    closing("this address has too many connections (max_connections_per_address)", http2)
}

/// The response to new requests after shutdown has started.
pub(super) fn draining(http2: bool) -> Response<Body> {
    closing("the gate is shutting down", http2)
}

fn closing(why: &str, http2: bool) -> Response<Body> {
    let mut response = unavailable(why);
    if !http2 {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn unavailable(why: &str) -> Response<Body> {
    let text = own_error(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable, why);
    let mut response = Response::new(Body::from(text.body()));
    *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    response
}

/// A timer that does nothing, because hyper would otherwise set up a timer for each request.
#[derive(Clone, Copy, Debug)]
struct NoTimer;

struct Never;

impl hyper::rt::Timer for NoTimer {
    fn sleep(&self, _: Duration) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Never)
    }

    fn sleep_until(&self, _: Instant) -> Pin<Box<dyn hyper::rt::Sleep>> {
        Box::pin(Never)
    }
}

impl hyper::rt::Sleep for Never {}

impl Future for Never {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        Poll::Pending
    }
}

/// Counts a request from its headers until the last byte of the response is passed on, or the request is abandoned.
struct InFlight(Arc<AtomicUsize>);

impl InFlight {
    fn new(count: Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(count)
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

struct GuardedBody {
    body: Body,
    reader: Option<BodyReader>,
    _guard: InFlight,
    _permit: Option<RequestPermit>,
}

impl http_body::Body for GuardedBody {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let Self { body, reader, .. } = &mut *self;
        match reader {
            Some(reader) => reader.poll_frame(Pin::new(body), cx),
            None => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream() && self.reader.as_ref().is_none_or(|reader| reader.rest() == 0)
    }

    fn size_hint(&self) -> SizeHint {
        let (body, rest) = (self.body.size_hint(), self.reader.as_ref().map_or(0, BodyReader::rest));
        let mut hint = SizeHint::new();
        hint.set_lower(body.lower() + rest);
        if let Some(upper) = body.upper() {
            hint.set_upper(upper + rest);
        }
        hint
    }
}

/// Runs HTTP/2 streams as tracked tasks, on the worker of their connection.
#[derive(Clone)]
struct Spawner(Tasks);

impl<F> hyper::rt::Executor<F> for Spawner
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    fn execute(&self, future: F) {
        self.0.spawn_transfer_here(future);
    }
}
