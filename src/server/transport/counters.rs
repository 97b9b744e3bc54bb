//! How many connections there are and were.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;

use crate::runtime::Metrics;

/// The connections of all listeners.
#[derive(Clone, Debug)]
pub(super) struct ConnectionCounters {
    pub(super) accepted: Counter,
    pub(super) refused: Counter,
    pub(super) tls_failures: Counter,
    open: Gauge,
    most: Gauge,
}

impl ConnectionCounters {
    pub(super) fn new(metrics: &Metrics) -> Self {
        Self {
            accepted: metrics.register("connections_accepted", "Accepted connections", Counter::default()),
            refused: metrics.register(
                "connections_refused",
                "Connections beyond limits.max_connections_per_address of an address",
                Counter::default(),
            ),
            open: metrics.register("connections_open", "Open connections", Gauge::default()),
            most: metrics.register("connections_max", "The maximum number of connections", Gauge::default()),
            tls_failures: metrics.register("tls_handshake_failures", "Failed TLS handshakes", Counter::default()),
        }
    }

    /// Shows how many connections there may be.
    pub(super) fn allow(&self, most: usize) {
        self.most.set(i64::try_from(most).unwrap_or(i64::MAX));
    }

    /// Counts a connection as open until the returned value is dropped.
    pub(super) fn open(&self) -> OpenConnection {
        self.open.inc();
        OpenConnection(self.open.clone())
    }
}

/// A connection that counts as open.
pub(super) struct OpenConnection(Gauge);

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.0.dec();
    }
}
