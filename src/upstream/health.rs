//! Whether an upstream answers, and whether the gate has its credentials.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use super::metrics::UpFamily;
use crate::oci::Host;
use crate::runtime::Readiness;

/// An upstream is down after this many failures in a row.
const FAILURES: u32 = 3;

/// Counts the failures of one upstream since it answered last, and reports when it is down.
///
/// Any answer of the registry except 5xx is a success, even a refusal. Requests to other hosts (token services, the
/// storage behind redirects) do not count.
pub(super) struct UpstreamHealth {
    host: String,
    topic: String,
    credentials_topic: String,
    failures: AtomicU32,
    /// Whether it is reported: the state of a prepared or replaced upstream says nothing about the one in use.
    is_reported: AtomicBool,
    up: UpFamily,
    readiness: Readiness,
}

impl UpstreamHealth {
    pub(super) fn new(host: &Host, up: UpFamily, readiness: Readiness) -> Self {
        Self {
            host: host.to_string(),
            topic: format!("upstream {host}"),
            credentials_topic: format!("credentials {host}"),
            failures: AtomicU32::new(0),
            is_reported: AtomicBool::new(false),
            up,
            readiness,
        }
    }

    /// Reports it from now on. An upstream counts as up until requests to it fail.
    pub(super) fn begin(&self) {
        self.up.set(&self.host, true);
        self.readiness.degraded(&self.topic, None);
        self.is_reported.store(true, Ordering::Release);
    }

    /// Stops reporting it.
    pub(super) fn retire(&self) {
        if self.is_reported.swap(false, Ordering::AcqRel) {
            self.up.remove(&self.host);
            self.readiness.forget(&self.topic);
            self.readiness.forget(&self.credentials_topic);
        }
    }

    fn is_reported(&self) -> bool {
        self.is_reported.load(Ordering::Acquire)
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
                self.report(None);
            }
            return;
        };
        let failures = self.failures.fetch_add(1, Ordering::Relaxed).saturating_add(1);
        if failures == FAILURES {
            tracing::warn!("{} is down: {why}", self.topic);
        }
        if failures >= FAILURES {
            self.report(Some(format!("the last requests failed: {why}")));
        }
    }

    fn report(&self, why: Option<String>) {
        if self.is_reported() {
            self.up.set(&self.host, why.is_none());
            self.readiness.degraded(&self.topic, why);
        }
    }

    /// Reports whether there are credentials. An upstream without credentials never reports this.
    pub(super) fn credentials(&self, checked: Result<(), String>) {
        if self.is_reported() {
            self.readiness.degraded(&self.credentials_topic, checked.err());
        }
    }
}
