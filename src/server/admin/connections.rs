//! Limits how many clients the admin server has at the same time.
//!
//! Probes must get an answer whatever others do, or the orchestrator restarts the gate. So no address can take all
//! connections, and some are reserved for `/livez` and `/readyz`: they end soon if nothing is requested.

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use http::StatusCode;
use tokio::sync::OwnedSemaphorePermit;

use super::ApiResponse;
use crate::server::transport::addresses::{AddressCounts, AddressShare};
use crate::server::transport::failures::accept_failed;
use crate::server::transport::limits::{Capacity, Limits};

/// Few clients are expected: operators, probes and dashboards.
const MAX_CONNECTIONS: usize = 256;
/// The maximum number of connections from one address, besides the reserved ones.
const MAX_OF_ADDRESS: usize = 64;
/// The connections that are reserved for probes.
const RESERVED: usize = 32;
/// How long a client on the network may take for the headers of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);
/// The same on a reserved connection, which also stays open no longer without a request.
const RESERVED_TIMEOUT: Duration = Duration::from_secs(2);

/// The delay after a failed accept.
const ACCEPT_PAUSE: Duration = Duration::from_millis(250);

/// The connections of one listener.
pub(super) struct AdminConnections {
    usual: Capacity,
    reserved: Capacity,
    addresses: AddressCounts,
}

impl AdminConnections {
    /// Of the listener on the network.
    pub(super) fn of_network() -> Self {
        Self::new(HEADER_TIMEOUT)
    }

    /// The limit of the socket. It is separate, so that clients on the listener cannot lock out the operator.
    pub(super) fn of_socket() -> Self {
        Self::new(Limits::default().header_timeout)
    }

    fn new(header_timeout: Duration) -> Self {
        let usual = Limits { max_connections: MAX_CONNECTIONS, header_timeout, ..Limits::default() };
        let reserved = Limits {
            max_connections: RESERVED,
            header_timeout: RESERVED_TIMEOUT,
            idle_timeout: RESERVED_TIMEOUT,
            ..Limits::default()
        };
        Self { usual: Capacity::new(usual), reserved: Capacity::new(reserved), addresses: AddressCounts::default() }
    }

    /// Waits for a place for a connection from this address, or on the socket.
    pub(super) async fn place(&self, address: Option<IpAddr>) -> ConnectionPlace {
        let share = address.map(|address| self.addresses.take(address, MAX_OF_ADDRESS));
        let has_too_many = matches!(share, Some(None));
        if !has_too_many && let Ok(permit) = self.usual.connections.clone().try_acquire_owned() {
            let capacity = self.usual.clone();
            return ConnectionPlace { capacity, _permit: Some(permit), _share: share.flatten(), is_usual: true };
        }
        // The semaphore is never closed.
        let permit = self.reserved.connections.clone().acquire_owned().await.ok();
        ConnectionPlace { capacity: self.reserved.clone(), _permit: permit, _share: None, is_usual: false }
    }
}

/// The place of a connection, until it is dropped.
pub(super) struct ConnectionPlace {
    pub(super) capacity: Capacity,
    _permit: Option<OwnedSemaphorePermit>,
    _share: Option<AddressShare>,
    /// Whether it is not a reserved one.
    is_usual: bool,
}

impl ConnectionPlace {
    /// Whether a path is answered on this connection.
    fn answers(&self, path: &str) -> bool {
        self.is_usual || matches!(path, "/livez" | "/readyz")
    }

    /// The answer, if a path is not answered on this connection.
    pub(super) fn refusal(&self, path: &str) -> Option<ApiResponse> {
        let message = "too many connections; only /livez and /readyz are answered";
        (!self.answers(path)).then(|| ApiResponse::error(StatusCode::SERVICE_UNAVAILABLE, message))
    }
}

/// Reports a failed accept, and waits before the next one.
pub(super) async fn pause(error: &io::Error) {
    accept_failed(&"admin", error);
    tokio::time::sleep(ACCEPT_PAUSE).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> Option<IpAddr> {
        Some(IpAddr::from([192, 0, 2, last]))
    }

    #[tokio::test]
    async fn one_address_cannot_take_all_and_probes_have_reserved_places() {
        let connections = AdminConnections::of_network();
        let mut places = Vec::new();
        for last in 0..4 {
            for _ in 0..MAX_OF_ADDRESS {
                places.push(connections.place(address(last)).await);
            }
            assert!(places.last().unwrap().answers("/metrics"));
            let more = connections.place(address(last)).await;
            assert!(!more.answers("/metrics") && more.answers("/livez") && more.answers("/readyz"));
        }
        let other = connections.place(address(9)).await;
        assert!(!other.answers("/api/v1/images") && other.answers("/livez"), "all usual ones are taken");
        places.clear();
        assert!(connections.place(address(0)).await.answers("/metrics"));
        drop(other);
        assert!(connections.addresses.is_empty(), "nothing is kept about clients that left");
    }
}
