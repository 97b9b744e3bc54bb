//! Limits on what clients can use of the process: connections, time and bytes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Limits for clients. They apply to all registry listeners together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// The maximum number of connections. Further connections are not accepted: they wait in the kernel's backlog,
    /// which is bounded, and cost nothing here. Responses then ask clients to close, so that idle connections make
    /// room. Answering with 503 would cost a TLS handshake each time, and turn a short burst into failed pulls.
    pub max_connections: usize,
    /// The maximum number of concurrent requests over all connections; further ones get 503. `None`: limited only by
    /// the connections.
    pub max_requests_in_flight: Option<usize>,
    /// The maximum time from the accepted connection, or the first byte of a request, to its complete headers.
    pub header_timeout: Duration,
    /// The maximum size of request headers, in bytes; larger ones get 431.
    pub max_header_bytes: usize,
    /// The maximum number of header fields; more get 431.
    pub max_headers: usize,
    /// How long a connection stays open without a request.
    pub idle_timeout: Duration,
    /// How long a client may stall while reading a response before the connection is closed.
    pub write_stall_timeout: Duration,
    /// The time limit for the TLS handshake, and for a PROXY protocol header before it.
    pub tls_handshake_timeout: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 10_000,
            max_requests_in_flight: None,
            header_timeout: Duration::from_secs(10),
            max_header_bytes: 32 * 1024,
            max_headers: 100,
            idle_timeout: Duration::from_secs(90),
            write_stall_timeout: Duration::from_secs(60),
            tls_handshake_timeout: Duration::from_secs(10),
        }
    }
}

/// The limits and the remaining capacity.
#[derive(Clone, Debug)]
pub(in crate::server) struct Capacity {
    pub(in crate::server) limits: Arc<Limits>,
    pub(in crate::server) connections: Arc<Semaphore>,
    requests: Option<Arc<Semaphore>>,
}

impl Capacity {
    pub(in crate::server) fn new(limits: Limits) -> Self {
        let semaphore = |permits: usize| Arc::new(Semaphore::new(permits.clamp(1, Semaphore::MAX_PERMITS)));
        Self {
            connections: semaphore(limits.max_connections),
            requests: limits.max_requests_in_flight.map(semaphore),
            limits: Arc::new(limits),
        }
    }

    /// A permit for one more request, valid while it exists; `None` if the limit is reached.
    pub(super) fn request(&self) -> Option<RequestPermit> {
        let permit = match &self.requests {
            Some(requests) => Some(requests.clone().try_acquire_owned().ok()?),
            None => None,
        };
        Some(RequestPermit { _permit: permit })
    }

    /// Whether clients may be waiting for a connection.
    pub(super) fn is_crowded(&self) -> bool {
        self.connections.available_permits() == 0
    }
}

/// A permit for one request.
#[derive(Debug)]
pub(super) struct RequestPermit {
    _permit: Option<OwnedSemaphorePermit>,
}
