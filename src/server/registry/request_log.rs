//! One log line and one count per registry request, written when the response is complete or the client is gone.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body::{Body as _, Frame, SizeHint};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Unit;

use crate::runtime::{BusyCounter, Metrics};
use crate::server::{Body, ClientIdentity};

/// The metrics of requests.
#[derive(Clone)]
pub(super) struct RequestMetrics {
    requests: Family<RequestLabels, BusyCounter>,
    bytes: BusyCounter,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct RequestLabels {
    method: &'static str,
    status: u16,
}

impl RequestMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let sent = "Bytes of registry content sent to clients";
        Self {
            requests: metrics.register("requests", "Registry requests answered", Family::default()),
            bytes: metrics.register_with_unit("sent", sent, Unit::Bytes, BusyCounter::default()),
        }
    }
}

impl RequestMetrics {
    /// Counts an answer that was given before. It has a record in the audit file and no line here, where the first one
    /// has a line.
    pub(super) fn repeated(&self, requests: &BusyCounter, body: &Body) {
        self.bytes.inc_by(body.size_hint().exact().unwrap_or_default());
        requests.inc();
    }

    /// What counts the requests that are answered so.
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

/// The log line, written when dropped.
pub(super) struct RequestLog {
    metrics: RequestMetrics,
    started: Instant,
    request_id: String,
    client: Arc<str>,
    method: &'static str,
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
            request_id: request_id.to_owned(),
            client: client.address_text.clone(),
            method: method_name(request.method()),
            // The query may contain data that only concerns the client; the path contains only names.
            path: request.uri().path().chars().take(512).collect(),
            status: None,
            bytes: 0,
            is_whole: false,
        }
    }

    pub(super) fn answered(&mut self, status: StatusCode) {
        self.status = Some(status);
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
        self.metrics.requests.get_or_create(&RequestLabels { method: self.method, status }).inc();
        self.metrics.bytes.inc_by(self.bytes);
        tracing::info!(
            request.id = self.request_id,
            client.address = &*self.client,
            http.method = self.method,
            http.path = self.path,
            http.status = status,
            sent_bytes = self.bytes,
            complete = self.is_whole,
            duration_ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "request"
        );
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
