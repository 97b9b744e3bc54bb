//! The headers and body of a response.

use std::time::Duration;

use bytes::Bytes;
use futures_util::StreamExt;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;

use super::errors;
use super::headers::insert;
use super::range::{Ranged, requested};
use crate::cache::Transfer;
use crate::gate::{Answer, ListBody, ListPage};
use crate::oci::{Digest, ErrorCode, Host};
use crate::policy::Permit;
use crate::server::Body;
use crate::server::own_error::{own_error, own_message};

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
const NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// The request header with which a client asks for [`SERVER_TIMING`].
const TIMING: HeaderName = HeaderName::from_static("x-pullgate-timing");
/// How many headers a response with content has, at most. A map that grows is rebuilt.
const HEADERS: usize = 12;
/// Server Timing, W3C.
const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

/// Names the original registry in the response, if the request named one.
pub(super) fn with_namespace(mut response: Response<Body>, namespace: Option<&Host>) -> Response<Body> {
    if let Some(value) = namespace.and_then(|ns| HeaderValue::from_str(ns.as_str()).ok()) {
        response.headers_mut().insert(NAMESPACE, value);
    }
    response
}

pub(super) fn add_common_headers(headers: &mut HeaderMap, request_id: &str) {
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, value);
    }
}

/// The duration of each phase in milliseconds, for clients that request it: `select;dur=0.1, resolve;dur=23.5`.
pub(super) fn add_timing(asked: &HeaderMap, headers: &mut HeaderMap, phases: impl FnOnce() -> String, total: Duration) {
    if !asked.contains_key(TIMING) {
        return;
    }
    let phases = phases();
    let separator = if phases.is_empty() { "" } else { ", " };
    let text = format!("{phases}{separator}total;dur={:.1}", total.as_secs_f64() * 1000.0);
    insert(headers, SERVER_TIMING, &text);
}

pub(super) fn respond(request: &Request<Incoming>, answer: Answer, transfer: Transfer) -> Response<Body> {
    match answer {
        Answer::Manifest { manifest, permit, stale } => {
            let asked = (request.method(), request.headers());
            manifest_response(asked, &manifest.bytes, &manifest.media_type, &permit, stale)
        }
        Answer::Blob { content, permit } => respond_blob(request, &permit, content.size(), |start, end| {
            Body::stream(content.read(start, end, transfer).map_err(Into::into))
        }),
        Answer::BlobSize { size, permit } => respond_blob(request, &permit, size, |_, _| Body::Empty),
        Answer::List(list) => respond_list(request, list),
    }
}

fn respond_blob(
    request: &Request<Incoming>,
    permit: &Permit,
    size: u64,
    body: impl FnOnce(u64, u64) -> Body,
) -> Response<Body> {
    let asked = (request.method(), request.headers());
    let mut response = ranged(asked, (size, "application/octet-stream"), permit.digest(), body);
    warn(response.headers_mut(), permit, None);
    response
}

/// The response with a manifest: 200, 206, 304 or 416 as the method and the headers request, with the digest, the media
/// type and any warnings.
pub fn manifest_response(
    asked: (&Method, &HeaderMap),
    manifest: &Bytes,
    media_type: &str,
    permit: &Permit,
    stale: Option<String>,
) -> Response<Body> {
    let size = manifest.len() as u64;
    let mut response = ranged(asked, (size, media_type), permit.digest(), |start, end| {
        // Both are within a length that is a usize.
        Body::from(manifest.slice(start as usize..end as usize))
    });
    warn(response.headers_mut(), permit, stale);
    response
}

/// 200, 206, 304 or 416 for content of this size and media type with a known digest (RFC 9110 §13, §14).
fn ranged(
    (method, headers): (&Method, &HeaderMap),
    (size, media_type): (u64, &str),
    digest: Digest,
    body: impl FnOnce(u64, u64) -> Body,
) -> Response<Body> {
    let text = digest.to_string();
    let etag = ["\"", &text, "\""].concat();
    let mut response = if matches_etag(headers, &etag) {
        status(StatusCode::NOT_MODIFIED, Body::Empty)
    } else {
        // A range is defined for GET alone (RFC 9110 §14.2).
        let part = if *method == Method::GET { requested(headers, size, &etag) } else { Ranged::Whole };
        match part {
            Ranged::Whole => with_length(status(StatusCode::OK, body(0, size)), size),
            Ranged::Part { start, end } => {
                let mut part = with_length(status(StatusCode::PARTIAL_CONTENT, body(start, end)), end - start);
                insert(part.headers_mut(), header::CONTENT_RANGE, &format!("bytes {start}-{}/{size}", end - 1));
                part
            }
            Ranged::Unsatisfiable => {
                let message = format!("the range is outside the {size} bytes of {digest}");
                let error = own_error(StatusCode::RANGE_NOT_SATISFIABLE, ErrorCode::RangeInvalid, message);
                let mut response = errors::response(&error);
                insert(response.headers_mut(), header::CONTENT_RANGE, &format!("bytes */{size}"));
                return response;
            }
        }
    };
    let headers = response.headers_mut();
    headers.reserve(HEADERS);
    insert(headers, header::CONTENT_TYPE, media_type);
    insert(headers, header::ETAG, &etag);
    insert(headers, CONTENT_DIGEST, &text);
    insert(headers, header::ACCEPT_RANGES, "bytes");
    response
}

/// `If-None-Match` (RFC 9110 §13.1.2), with weak comparison.
fn matches_etag(headers: &HeaderMap, etag: &str) -> bool {
    let candidates = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    candidates
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == etag)
}

/// The next page is requested from this gate, never from the upstream.
fn respond_list(request: &Request<Incoming>, list: ListPage) -> Response<Body> {
    let mut response = json(match list.body {
        ListBody::Whole(bytes) => Body::from(bytes),
        ListBody::Tags(writer) => {
            let frames = writer.into_stream().map(|piece| piece.map(Frame::data).map_err(Into::into));
            Body::stream(StreamBody::new(frames))
        }
    });
    let headers = response.headers_mut();
    insert(headers, header::CONTENT_TYPE, list.media_type);
    // Users who push choose the names in it; browsers must not interpret it as a web page.
    insert(headers, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
    if list.is_filtered {
        insert(headers, FILTERS_APPLIED, "artifactType");
    }
    if let Some(next) = list.next {
        let ns = request.uri().query().unwrap_or_default().split('&').find(|pair| pair.starts_with("ns="));
        let query: Vec<String> = ns.map(str::to_owned).into_iter().chain(next.to_query()).collect();
        let link = format!("<{}?{}>; rel=\"next\"", request.uri().path(), query.join("&"));
        insert(headers, header::LINK, &link);
    }
    response
}

/// Adds `Warning` headers, as in the distribution specification, for denials that were not enforced, for
/// images that are admitted only for now, and for stale content.
fn warn(headers: &mut HeaderMap, permit: &Permit, stale: Option<String>) {
    let would_deny =
        permit.would_deny().iter().map(|denial| format!("audit mode, would be denied: {}", own_message(denial)));
    let warnings = permit.warnings().iter().map(|warning| format!("admitted temporarily: {warning}"));
    for text in would_deny.chain(warnings).chain(stale.map(|why| format!("the tag could not be checked: {why}"))) {
        let quoted: String = text
            .chars()
            .take(1000)
            .map(|c| {
                if c == '"' || c == '\\' {
                    '\''
                } else if c.is_ascii_graphic() || c == ' ' {
                    c
                } else {
                    '?'
                }
            })
            .collect();
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{quoted}\"")) {
            headers.append(header::WARNING, value);
        }
    }
}

/// The answer to `/v2/`, which shows that this is a registry.
pub(super) fn base() -> Response<Body> {
    json(Body::from(Bytes::from_static(b"{}")))
}

fn json(body: Body) -> Response<Body> {
    let mut response = status(StatusCode::OK, body);
    insert(response.headers_mut(), header::CONTENT_TYPE, "application/json");
    if let Some(length) = http_body::Body::size_hint(response.body()).exact() {
        response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    }
    response
}

fn status(status: StatusCode, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response
}

fn with_length(mut response: Response<Body>, length: u64) -> Response<Body> {
    response.headers_mut().insert(header::CONTENT_LENGTH, length.into());
    response
}
