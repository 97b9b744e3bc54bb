//! Whether an upstream answers, and whether its credentials can be read.

use std::sync::atomic::{AtomicU32, Ordering};

use prometheus_client::metrics::gauge::Gauge;

use crate::oci::Host;
use crate::runtime::Readiness;

/// An upstream is down after this many failures in a row.
const FAILURES: u32 = 3;

/// Counts the failures of one upstream since it answered last, and reports when it is down.
///
/// Any answer of the registry except 5xx is a success, also a refusal. Requests to other hosts (token services, the storage
/// behind redirects) do not count.
pub(super) struct UpstreamHealth {
    topic: String,
    credentials_topic: String,
    failures: AtomicU32,
    up: Gauge,
    readiness: Readiness,
}

impl UpstreamHealth {
    /// An upstream counts as up until requests to it fail.
    pub(super) fn new(host: &Host, up: Gauge, readiness: Readiness) -> Self {
        let (topic, credentials_topic) = (format!("upstream {host}"), format!("credentials {host}"));
        up.set(1);
        readiness.degraded(&topic, None);
        Self { topic, credentials_topic, failures: AtomicU32::new(0), up, readiness }
    }

    /// Whether the last requests failed.
    pub(super) fn is_down(&self) -> bool {
        self.failures.load(Ordering::Relaxed) >= FAILURES
    }

    /// Records the outcome of a request to the registry: why it failed, if it did.
    pub(super) fn observe(&self, outcome: Result<(), String>) {
        let Err(why) = outcome else {
            // Almost always zero: then no other processor core's memory is written.
            if self.failures.load(Ordering::Relaxed) > 0 && self.failures.swap(0, Ordering::Relaxed) >= FAILURES {
                tracing::info!("{} answers again", self.topic);
                self.up.set(1);
                self.readiness.degraded(&self.topic, None);
            }
            return;
        };
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if failures == FAILURES {
            tracing::warn!("{} is down: {why}", self.topic);
            self.up.set(0);
        }
        if failures >= FAILURES {
            self.readiness.degraded(&self.topic, Some(format!("the last requests failed: {why}")));
        }
    }

    /// Reports whether the credentials can be read. An upstream without credentials never reports this.
    pub(super) fn credentials(&self, checked: Result<(), String>) {
        self.readiness.degraded(&self.credentials_topic, checked.err());
    }
}
