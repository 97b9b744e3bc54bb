//! One log line and one count per registry request, written when the response is complete or the client is gone.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Unit;
use tracing::Level;

use crate::oci::Endpoint;
use crate::otlp::{RequestSpan, TraceExporter};
use crate::runtime::{
    BusyCounter, BusyHistogram, ContentSource, Learned, LogLimit, Metrics, RequestTrace, SpanContext,
};
use crate::server::{Body, ClientIdentity};

/// The metrics of requests.
#[derive(Clone)]
pub(super) struct RequestMetrics {
    requests: Family<RequestLabels, BusyCounter>,
    bytes: BusyCounter,
    manifest: BusyHistogram,
    blob: BusyHistogram,
    tags: BusyHistogram,
    referrers: BusyHistogram,
    other: BusyHistogram,
    manifests: Family<SourceLabels, BusyCounter>,
    /// The series of `manifests` for repeated decisions.
    repeated: BusyCounter,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct RequestLabels {
    method: &'static str,
    status: u16,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct EndpointLabels {
    endpoint: &'static str,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct SourceLabels {
    source: &'static str,
}

impl RequestMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let sent = "Bytes of registry content sent to clients";
        let help = "From a registry request to the headers of its response";
        let seconds: Family<EndpointLabels, BusyHistogram> =
            metrics.register_with_unit("request", help, Unit::Seconds, Family::default());
        let of = |endpoint| seconds.get_or_create(&EndpointLabels { endpoint }).clone();
        let manifests: Family<SourceLabels, BusyCounter> =
            metrics.register("manifests", "Manifests by where they came from", Family::default());
        let repeated = manifests.get_or_create(&SourceLabels { source: ContentSource::Hit.as_str() }).clone();
        Self {
            repeated,
            manifests,
            manifest: of("manifest"),
            blob: of("blob"),
            tags: of("tags"),
            referrers: of("referrers"),
            other: of("other"),
            requests: metrics.register("requests", "Registry requests answered", Family::default()),
            bytes: metrics.register_with_unit("sent", sent, Unit::Bytes, BusyCounter::default()),
        }
    }
}

impl RequestMetrics {
    /// Counts a manifest that was decided before. It has a record in the audit file and no line here, where the first
    /// one has a line.
    pub(super) fn repeated(&self, requests: &BusyCounter, body: &Body, took: Duration) {
        self.bytes.inc_by(body.size_hint().exact().unwrap_or_default());
        requests.inc();
        self.manifest.observe(took);
        self.repeated.inc();
    }

    /// Counts the manifests from this origin.
    fn manifests(&self, source: ContentSource) -> BusyCounter {
        self.manifests.get_or_create(&SourceLabels { source: source.as_str() }).clone()
    }

    /// Counts the time to the headers of a response. `endpoint` is `None` for `/v2/` and for what is not an endpoint.
    fn answered(&self, endpoint: Option<&Endpoint>, took: Duration) {
        let histogram = match endpoint {
            Some(Endpoint::Manifest { .. }) => &self.manifest,
            Some(Endpoint::Blob { .. }) => &self.blob,
            Some(Endpoint::Tags { .. }) => &self.tags,
            Some(Endpoint::Referrers { .. }) => &self.referrers,
            None => &self.other,
        };
        histogram.observe(took);
    }

    /// Counts the requests with this answer.
    pub(super) fn requests(&self, method: &Method, status: StatusCode) -> BusyCounter {
        let labels = RequestLabels { method: method_name(method), status: status.as_u16() };
        self.requests.get_or_create(&labels).clone()
    }
}

fn method_name(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "HEAD" => "HEAD",
        _ => "other",
    }
}

/// How long a request may take until its headers before its phases are logged.
const SLOW: Duration = Duration::from_secs(1);
/// The longest text of a request in the log, in characters.
const MAX_TEXT: usize = 512;
/// The longest method in the log, in characters.
const MAX_METHOD: usize = 16;
/// How many requests that fail because of an upstream are warnings. The others are logged as information.
static FAILURES: LogLimit = LogLimit::new(5, Duration::from_secs(10));

/// The log line, written when dropped.
pub(super) struct RequestLog {
    metrics: RequestMetrics,
    started: Instant,
    /// The time to the headers of the response.
    waited: Duration,
    trace: RequestTrace,
    export: Option<TraceExport>,
    /// The path of the endpoint with placeholders; `None` if the path is not part of the API.
    route: Option<&'static str>,
    request_id: String,
    client: Arc<str>,
    method: Method,
    path: String,
    status: Option<StatusCode>,
    bytes: u64,
    is_whole: bool,
}

impl RequestLog {
    pub(super) fn new<B>(
        metrics: &RequestMetrics,
        request: &Request<B>,
        client: &ClientIdentity,
        request_id: &str,
    ) -> Self {
        Self {
            metrics: metrics.clone(),
            started: Instant::now(),
            waited: Duration::ZERO,
            trace: RequestTrace::default(),
            export: None,
            route: None,
            request_id: request_id.to_owned(),
            client: client.address_text.clone(),
            method: request.method().clone(),
            // The query may contain data that only concerns the client; the path contains only names.
            path: request.uri().path().chars().take(MAX_TEXT).collect(),
            status: None,
            bytes: 0,
            is_whole: false,
        }
    }

    /// Makes the request a part of a distributed trace: of the client's, if it names one.
    pub(super) fn join_trace(&mut self, exporter: Option<&TraceExporter>, headers: &HeaderMap) {
        let Some(exporter) = exporter.cloned() else { return };
        let (span, parent) = exporter.begin(headers.get(SpanContext::HEADER).and_then(|value| value.to_str().ok()));
        self.trace.learned().span = Some(span);
        self.export = Some(TraceExport { began: exporter.now(), exporter, parent });
    }

    /// Facts about the request that are collected while it is answered.
    pub(super) fn trace(&self) -> RequestTrace {
        self.trace.clone()
    }

    /// Notes which endpoint of the API the path names; `None` for `/v2/` itself.
    pub(super) fn routed(&mut self, endpoint: Option<&Endpoint>) {
        self.route = Some(route(endpoint));
    }

    /// Notes that the headers of the response are known, and returns how long that took.
    pub(super) fn answered(&mut self, endpoint: Option<&Endpoint>, status: StatusCode) -> Duration {
        self.status = Some(status);
        self.waited = self.started.elapsed();
        self.metrics.answered(endpoint, self.waited);
        if let (Some(Endpoint::Manifest { .. }), Some(source)) = (endpoint, self.trace.learned().source) {
            self.metrics.manifests(source).inc();
        }
        self.waited
    }

    /// Wraps the body so that the line is written when it ends.
    pub(super) fn follow(mut self, body: Body) -> Body {
        if !matches!(body, Body::Stream(_)) {
            self.bytes = body.size_hint().exact().unwrap_or_default();
            self.is_whole = true;
            return body;
        }
        Body::stream(Followed { body, log: self })
    }
}

impl Drop for RequestLog {
    fn drop(&mut self) {
        let status = self.status.map_or(0, |status| status.as_u16());
        self.metrics.requests.get_or_create(&RequestLabels { method: method_name(&self.method), status }).inc();
        self.metrics.bytes.inc_by(self.bytes);
        let learned = self.trace.learned().clone();
        self.export(status, &learned);
        let is_failure = status >= 500 && !learned.upstream.is_empty();
        if is_failure && FAILURES.admit().is_some() {
            self.write_line(status, &learned, Level::WARN);
        } else {
            self.write_line(status, &learned, Level::INFO);
        }
    }
}

impl RequestLog {
    fn export(&mut self, status: u16, learned: &Learned) {
        let Some(TraceExport { exporter, parent, began }) = self.export.take() else { return };
        let method = method_name(&self.method);
        exporter.finish(RequestSpan {
            learned: learned.clone(),
            parent,
            name: self.route.map_or_else(|| method.to_owned(), |route| format!("{method} {route}")),
            started: (began, self.started),
            took: self.started.elapsed(),
            status,
            attributes: [
                ("http.request.method", method.to_owned()),
                ("url.path", self.path.clone()),
                ("client.address", self.client.to_string()),
                ("pullgate.request_id", self.request_id.clone()),
            ]
            .into_iter()
            .chain(self.route.map(|route| ("http.route", route.to_owned())))
            .collect(),
        });
    }

    fn write_line(&self, status: u16, learned: &Learned, level: Level) {
        let text = |text: &str| (!text.is_empty()).then(|| text.chars().take(MAX_TEXT).collect::<String>());
        let phases = if self.waited >= SLOW { text(&learned.server_timing()) } else { None };
        macro_rules! line {
            ($level:ident) => {
                tracing::$level!(
                    request.id = self.request_id,
                    client.address = &*self.client,
                    http.method = self.method.as_str().get(..MAX_METHOD).unwrap_or(self.method.as_str()),
                    http.path = self.path,
                    http.status = status,
                    image = text(&learned.image),
                    upstream = text(&learned.upstream),
                    decision = text(learned.decision),
                    reason = text(&learned.reason),
                    cache = learned.source.map(ContentSource::as_str),
                    sent_bytes = self.bytes,
                    complete = self.is_whole,
                    duration_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
                    phases,
                    trace.id = learned.span.map(|span| format!("{:032x}", span.trace_id)),
                    "request"
                )
            };
        }
        if level == Level::WARN { line!(warn) } else { line!(info) }
    }
}

/// Where the trace of a request goes.
struct TraceExport {
    exporter: TraceExporter,
    /// The span of the client.
    parent: Option<SpanContext>,
    began: SystemTime,
}

fn route(endpoint: Option<&Endpoint>) -> &'static str {
    match endpoint {
        Some(Endpoint::Manifest { .. }) => "/v2/{name}/manifests/{reference}",
        Some(Endpoint::Blob { .. }) => "/v2/{name}/blobs/{digest}",
        Some(Endpoint::Tags { .. }) => "/v2/{name}/tags/list",
        Some(Endpoint::Referrers { .. }) => "/v2/{name}/referrers/{digest}",
        None => "/v2/",
    }
}

struct Followed {
    body: Body,
    log: RequestLog,
}

impl http_body::Body for Followed {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => self.log.bytes += frame.data_ref().map_or(0, Bytes::len) as u64,
            Some(Err(error)) => tracing::warn!(request.id = self.log.request_id, %error, "sending the body failed"),
            None => {}
        }
        self.log.is_whole = matches!(frame, Some(Ok(_)) | None) && self.body.is_end_stream();
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
