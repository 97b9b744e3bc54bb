//! What a client may take of the process: connections, time and bytes.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bounds on what clients may take. They hold for all registry listeners together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Connections at one time. Beyond it none is accepted: they wait in the kernel's backlog, which is bounded, and
    /// cost nothing here; answers then ask clients to close, so that idle connections make room. Answering 503 would
    /// cost a TLS handshake each and turn a short burst into failed pulls.
    pub max_connections: usize,
    /// Requests at one time, over all connections; beyond it the answer is 503. `None`: no bound but the connections.
    pub max_requests_in_flight: Option<usize>,
    /// From the accepted connection, or a request's first byte, to its complete head.
    pub header_timeout: Duration,
    /// Bytes of a request's head; a longer one is answered 431.
    pub max_header_bytes: usize,
    /// Header fields of a request; more are answered 431.
    pub max_headers: usize,
    /// How long a connection stays open with no request.
    pub idle_timeout: Duration,
    /// How long a client may take not one byte of an answer before the connection is cut.
    pub write_stall_timeout: Duration,
    /// For the whole TLS handshake, and before it for a PROXY protocol header.
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

/// The limits with what is left of them.
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

    /// Room for one more request, while the value lives; `None` when there is none.
    pub(super) fn request(&self) -> Option<RequestPermit> {
        let permit = match &self.requests {
            Some(requests) => Some(requests.clone().try_acquire_owned().ok()?),
            None => None,
        };
        Some(RequestPermit { _permit: permit })
    }

    /// Whether somebody may be waiting for a connection.
    pub(super) fn is_crowded(&self) -> bool {
        self.connections.available_permits() == 0
    }
}

/// Room for one request.
#[derive(Debug)]
pub(super) struct RequestPermit {
    _permit: Option<OwnedSemaphorePermit>,
}
