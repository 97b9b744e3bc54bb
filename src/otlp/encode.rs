//! The JSON encoding of OTLP: `ExportTraceServiceRequest` (opentelemetry-proto, `trace_service.proto`).

use std::time::{Duration, Instant, SystemTime};

use serde_json::{Value, json};

use super::RequestSpan;
use crate::runtime::{ContentSource, SpanContext};

const INTERNAL: u8 = 1;
const SERVER: u8 = 2;
const CLIENT: u8 = 3;
const ERROR: u8 = 2;

/// All spans of these requests, of a resource with these attributes.
pub(super) fn encode(batch: &[RequestSpan], resource: &[(String, String)]) -> Value {
    let resource: Vec<Value> = resource.iter().map(|(key, value)| attribute(key, value)).collect();
    let spans: Vec<Value> = batch.iter().flat_map(spans).collect();
    let scope = json!({"name": "pullgate", "version": env!("CARGO_PKG_VERSION")});
    json!({"resourceSpans": [{
        "resource": {"attributes": resource},
        "scopeSpans": [{"scope": scope, "spans": spans}],
    }]})
}

/// The span of the request, and one for each phase and each request to an upstream.
fn spans(request: &RequestSpan) -> Vec<Value> {
    let RequestSpan { learned, parent, name, started, took, status, attributes } = request;
    let Some(own) = learned.span else { return Vec::new() };
    let at = |instant: Instant| started.0 + instant.saturating_duration_since(started.1);
    let mut attributes: Vec<Value> = attributes.iter().map(|(key, value)| attribute(key, value)).collect();
    if *status > 0 {
        attributes.push(status_attribute(*status));
    }
    let source = learned.source.map_or("", ContentSource::as_str);
    for (key, value) in [
        ("pullgate.image", &*learned.image),
        ("pullgate.upstream", &*learned.upstream),
        ("pullgate.decision", learned.decision),
        ("pullgate.reason", &*learned.reason),
        ("pullgate.cache", source),
    ] {
        if !value.is_empty() {
            attributes.push(attribute(key, value));
        }
    }
    let mut whole = span(own, parent.as_ref(), name, SERVER, (started.0, *took));
    whole["attributes"] = attributes.into();
    if *status == 0 || *status >= 500 {
        whole["status"] = json!({"code": ERROR, "message": learned.reason});
    }
    let phases = learned.phases.iter();
    let phases =
        phases.map(|time| span(own.child(), Some(&own), time.phase.as_str(), INTERNAL, (at(time.started), time.took)));
    let calls = learned.calls.iter().map(|call| {
        let (host, method) = &call.target;
        let mut span = span(call.span, Some(&own), method, CLIENT, (at(call.started), call.took));
        let mut attributes = vec![attribute("server.address", host), attribute("http.request.method", method)];
        attributes.extend(call.status.map(status_attribute));
        span["attributes"] = attributes.into();
        if call.status.is_none_or(|status| status >= 400) {
            span["status"] = json!({"code": ERROR});
        }
        span
    });
    std::iter::once(whole).chain(phases).chain(calls).collect()
}

fn span(
    own: SpanContext,
    parent: Option<&SpanContext>,
    name: &str,
    kind: u8,
    (start, took): (SystemTime, Duration),
) -> Value {
    json!({
        "traceId": format!("{:032x}", own.trace_id),
        "spanId": format!("{:016x}", own.span_id),
        "parentSpanId": parent.map_or_else(String::new, |parent| format!("{:016x}", parent.span_id)),
        "name": name,
        "kind": kind,
        "startTimeUnixNano": nanoseconds(start),
        "endTimeUnixNano": nanoseconds(start + took),
    })
}

/// 64-bit integers are strings in JSON (protobuf's JSON mapping).
fn nanoseconds(time: SystemTime) -> String {
    time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_nanos().to_string()
}

fn attribute(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

fn status_attribute(status: u16) -> Value {
    json!({"key": "http.response.status_code", "value": {"intValue": status.to_string()}})
}
