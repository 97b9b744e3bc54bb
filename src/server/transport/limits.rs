//! Limits on what clients can use of the process: connections, time and bytes.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::addresses::{AddressCounts, AddressShare, client_of};

/// Limits for clients. They apply to all registry listeners together.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Limits {
    /// The maximum number of connections. Further connections are not accepted: they wait in the kernel's backlog,
    /// which is bounded, and cost nothing here. Responses then ask clients to close, so that idle connections make
    /// room. Answering with 503 would cost a TLS handshake each time, and turn a short burst into failed pulls.
    pub max_connections: usize,
    /// The maximum number of connections of one client; requests on further ones get 503, and from twice as many on,
    /// connections are closed at once. `None`: a client may have all.
    pub max_connections_per_address: Option<usize>,
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
            max_connections_per_address: None,
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
    addresses: AddressCounts,
}

/// How long a connection that is refused may take for the headers of its request.
const REFUSED: Duration = Duration::from_secs(2);

impl Capacity {
    pub(in crate::server) fn new(limits: Limits) -> Self {
        let semaphore = |permits: usize| Arc::new(Semaphore::new(permits.clamp(1, Semaphore::MAX_PERMITS)));
        Self {
            connections: semaphore(limits.max_connections),
            requests: limits.max_requests_in_flight.map(semaphore),
            limits: Arc::new(limits),
            addresses: AddressCounts::default(),
        }
    }

    /// A place for a connection of a client.
    pub(super) fn of_client(&self, address: IpAddr) -> ClientPlace {
        let Some(most) = self.limits.max_connections_per_address else {
            // Counted for the log: who has most if there is no room for others.
            return ClientPlace::Unlimited { _share: self.addresses.take(client_of(address), usize::MAX) };
        };
        match self.addresses.take(client_of(address), most.saturating_mul(2)) {
            None => ClientPlace::Closed,
            Some(share) if share.number > most => ClientPlace::Refused { _share: share },
            Some(share) => ClientPlace::Counted { _share: share },
        }
    }

    /// The limits of a connection that is refused: it must not last.
    pub(super) fn of_refused(&self) -> Self {
        let (header_timeout, idle_timeout) =
            (self.limits.header_timeout.min(REFUSED), self.limits.idle_timeout.min(REFUSED));
        Self {
            limits: Arc::new(Limits { header_timeout, idle_timeout, ..Limits::clone(&self.limits) }),
            ..self.clone()
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

    /// The client with most connections, and how many it has.
    pub(super) fn busiest(&self) -> Option<(IpAddr, usize)> {
        self.addresses.busiest()
    }

    /// Whether clients may be waiting for a connection.
    pub(super) fn is_crowded(&self) -> bool {
        self.connections.available_permits() == 0
    }
}

/// The limits of all listeners, which can be replaced. Cheap to clone.
#[derive(Clone, Debug)]
pub struct SharedLimits(Arc<ArcSwap<Capacity>>);

impl SharedLimits {
    pub(in crate::server) fn new(limits: Limits) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(Capacity::new(limits))))
    }

    /// The limits and the remaining capacity at this moment.
    pub(in crate::server) fn capacity(&self) -> Arc<Capacity> {
        self.0.load_full()
    }

    /// Uses other limits for new connections. Those that are open keep theirs. They count towards a limit on their
    /// number only if that limit did not change.
    pub fn set(&self, limits: &Limits) {
        let old = self.capacity();
        if *old.limits == *limits {
            return;
        }
        let mut new = Capacity { addresses: old.addresses.clone(), ..Capacity::new(limits.clone()) };
        if new.limits.max_requests_in_flight == old.limits.max_requests_in_flight {
            new.requests.clone_from(&old.requests);
        }
        let is_same = new.limits.max_connections == old.limits.max_connections;
        if is_same {
            new.connections = old.connections.clone();
        }
        self.0.store(Arc::new(new));
        if !is_same {
            // A connection that waits for a permit waits for one of the new ones.
            old.connections.close();
        }
    }
}

/// What a client with this many connections may do with one more, which counts while this value exists.
#[derive(Debug)]
pub(super) enum ClientPlace {
    /// The client may have as many as it likes.
    Unlimited { _share: Option<AddressShare> },
    /// It is one of those that the client may have.
    Counted { _share: AddressShare },
    /// Its requests are answered with 503.
    Refused { _share: AddressShare },
    /// It is closed at once.
    Closed,
}

/// A permit for one request.
#[derive(Debug)]
pub(super) struct RequestPermit {
    _permit: Option<OwnedSemaphorePermit>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn changed_limits_apply_to_new_connections_and_unchanged_ones_keep_counting() {
        let limits = Limits { max_connections: 1, max_requests_in_flight: Some(1), ..Limits::default() };
        let shared = SharedLimits::new(limits.clone());
        let first = shared.capacity();
        let (_open, request) = (first.connections.clone().acquire_owned().await.unwrap(), first.request().unwrap());
        shared.set(&Limits { max_header_bytes: 1, ..limits.clone() });
        let second = shared.capacity();
        assert!(second.is_crowded() && second.request().is_none() && second.limits.max_header_bytes == 1);
        let waiting = second.connections.clone().acquire_owned();
        shared.set(&Limits { max_connections: 2, ..limits });
        assert!(waiting.await.is_err(), "a connection that waits is told that there are other limits");
        assert!(!shared.capacity().is_crowded() && shared.capacity().request().is_none());
        drop(request);
        assert!(shared.capacity().request().is_some());
        assert_eq!(first.limits.max_connections, 1, "an open connection keeps its limits");
    }

    #[test]
    fn a_client_has_a_share_and_others_are_not_affected() {
        let limits = Limits { max_connections_per_address: Some(1), ..Limits::default() };
        let shared = SharedLimits::new(limits.clone());
        let of = |last: u8| shared.capacity().of_client(IpAddr::from([192, 0, 2, last]));
        let first = of(1);
        assert!(matches!(first, ClientPlace::Counted { .. }));
        let second = of(1);
        assert!(matches!(second, ClientPlace::Refused { .. }) && matches!(of(1), ClientPlace::Closed));
        assert!(matches!(of(2), ClientPlace::Counted { .. }));
        shared.set(&Limits { max_headers: 1, ..limits.clone() });
        assert!(matches!(of(1), ClientPlace::Closed), "open connections go on counting");
        drop((first, second));
        assert!(matches!(of(1), ClientPlace::Counted { .. }));
        shared.set(&Limits { max_connections_per_address: None, ..limits });
        let _all: Vec<_> = (0..100).map(|_| of(1)).collect();
        assert!(matches!(of(1), ClientPlace::Unlimited { .. }));
        let (busiest, count) = shared.capacity().busiest().unwrap();
        assert_eq!((busiest, count), (IpAddr::from([192, 0, 2, 1]), 100));
    }
}
