//! Metrics of upstream requests.

use std::time::Instant;

use http::{Method, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Unit;

use super::health::UpstreamHealth;
use crate::oci::Host;
use crate::runtime::{Metrics, Readiness};

/// The bounds of the histogram of response times, in seconds.
const SECONDS: [f64; 12] = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0];

/// The request metrics of all upstreams. Every exchange counts, including redirects, token requests and retries.
#[derive(Clone)]
pub(super) struct UpstreamMetrics {
    requests: Family<UpstreamRequestLabels, Counter>,
    seconds: Family<UpstreamLabels, Histogram, fn() -> Histogram>,
    up: UpFamily,
    readiness: Readiness,
}

/// Whether upstreams answer. Those that are offline have no series.
#[derive(Clone)]
pub(super) struct UpFamily(Family<UpstreamLabels, Gauge>);

impl UpFamily {
    pub(super) fn set(&self, host: &str, is_up: bool) {
        self.0.get_or_create(&UpstreamLabels { upstream: host.to_owned() }).set(is_up.into());
    }

    pub(super) fn remove(&self, host: &str) {
        self.0.remove(&UpstreamLabels { upstream: host.to_owned() });
    }
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct UpstreamRequestLabels {
    upstream: String,
    method: String,
    status: String,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct UpstreamLabels {
    upstream: String,
}

impl UpstreamMetrics {
    pub(super) fn new(metrics: &Metrics, readiness: &Readiness) -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(SECONDS);
        let seconds = Family::new_with_constructor(histogram);
        let requests = "Requests to upstreams by status; `none` means no response";
        Self {
            requests: metrics.register("upstream_requests", requests, Family::default()),
            seconds: metrics.register_with_unit(
                "upstream_request",
                "Time to the response headers",
                Unit::Seconds,
                seconds,
            ),
            up: UpFamily(metrics.register(
                "upstream_up",
                "Whether an upstream answers (1), or its last requests failed (0)",
                Family::default(),
            )),
            readiness: readiness.clone(),
        }
    }

    /// The health of one upstream.
    pub(super) fn health(&self, host: &Host) -> UpstreamHealth {
        UpstreamHealth::new(host, self.up.clone(), self.readiness.clone())
    }

    pub(super) fn observe(&self, upstream: &str, method: &Method, status: Option<StatusCode>, started: Instant) {
        let upstream = upstream.to_owned();
        let labels =
            UpstreamRequestLabels { upstream: upstream.clone(), method: method.to_string(), status: label(status) };
        self.requests.get_or_create(&labels).inc();
        self.seconds.get_or_create(&UpstreamLabels { upstream }).observe(started.elapsed().as_secs_f64());
    }
}

/// The limit metrics of all upstreams.
#[derive(Clone)]
pub(super) struct LimitMetrics {
    in_flight: Family<UpstreamLabels, Gauge>,
    held: Family<UpstreamLabels, Counter>,
    pulls_remaining: Family<UpstreamLabels, Gauge>,
    pulls_limit: Family<UpstreamLabels, Gauge>,
    received: Family<UpstreamLabels, Counter>,
}

impl LimitMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let gauge = |name, help| metrics.register(name, help, Family::<UpstreamLabels, Gauge>::default());
        Self {
            in_flight: gauge("upstream_requests_in_flight", "Requests to upstreams in flight"),
            held: metrics.register(
                "upstream_requests_held",
                "Requests to upstreams that were refused by a limit",
                Family::default(),
            ),
            pulls_remaining: gauge("upstream_pulls_remaining", "Remaining pulls, as reported by the registry"),
            pulls_limit: gauge("upstream_pulls_limit", "Allowed pulls, as reported by the registry"),
            received: metrics.register_with_unit(
                "upstream_received",
                "Bytes of bodies received from upstreams",
                Unit::Bytes,
                Family::default(),
            ),
        }
    }

    /// Counts what an upstream refuses from 0 on: the increase of a series that begins with its first event does not
    /// count that event.
    pub(super) fn begin(&self, upstream: &str) {
        drop(self.held.get_or_create(&UpstreamLabels { upstream: upstream.to_owned() }));
    }

    /// What counts the bytes that an upstream sends.
    pub(super) fn received(&self, upstream: &str) -> Counter {
        self.received.get_or_create(&UpstreamLabels { upstream: upstream.to_owned() }).clone()
    }

    pub(super) fn in_flight(&self, upstream: &str, change: i64) {
        self.in_flight.get_or_create(&UpstreamLabels { upstream: upstream.to_owned() }).inc_by(change);
    }

    pub(super) fn held(&self, upstream: &str) {
        self.held.get_or_create(&UpstreamLabels { upstream: upstream.to_owned() }).inc();
    }

    /// Registries that do not report a quota have no series.
    pub(super) fn quota(&self, upstream: &str, remaining: Option<u32>, limit: Option<u32>) {
        for (family, count) in [(&self.pulls_remaining, remaining), (&self.pulls_limit, limit)] {
            if let Some(count) = count {
                family.get_or_create(&UpstreamLabels { upstream: upstream.to_owned() }).set(count.into());
            }
        }
    }
}

/// Only registered status codes become labels: the peer must not control the number of series.
fn label(status: Option<StatusCode>) -> String {
    match status {
        Some(status) if status.canonical_reason().is_some() => status.as_str().to_owned(),
        Some(_) => "other".to_owned(),
        None => "none".to_owned(),
    }
}
