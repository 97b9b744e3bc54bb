//! The registry's HTTP: a request becomes an [`Ask`], an answer becomes a response (design.md §4).

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::future::{Either, Ready, ready};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::BodyExt;
use hyper::body::Incoming;

use super::errors::{self, respond_to, respond_to_route};
use super::range::{Ranged, requested};
use super::request_log::{RequestLog, RequestMetrics};
use super::{Body, Client, Service};
use crate::cache::Transfer;
use crate::gate::{Answer, Ask, Gate, GateError, Prepared, Warm, Who};
use crate::oci::{Digest, ErrorCode, Host, Manifest, Page, Route, WireError, media_type};
use crate::policy::Permit;
use crate::runtime::Metrics;

const API_VERSION: HeaderName = HeaderName::from_static("docker-distribution-api-version");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const NAMESPACE: HeaderName = HeaderName::from_static("oci-namespace");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Values that many answers have: unlike others they are shared by all cores without being counted.
const CONSTANT: [&str; 7] = [
    media_type::OCI_MANIFEST,
    media_type::OCI_INDEX,
    media_type::DOCKER_MANIFEST,
    media_type::DOCKER_LIST,
    "application/json",
    "application/octet-stream",
    "bytes",
];

/// A longer target is answered anew each time, so that nobody fills the memory with made-up queries.
const MAX_WARM_KEY: usize = 512;

/// The registry service of a gate.
pub struct Registry {
    gate: Arc<Gate>,
    metrics: RequestMetrics,
    /// How this process's request identifiers begin.
    epoch: String,
    next: AtomicU64,
}

impl Registry {
    /// A service; `epoch` distinguishes this process's request identifiers from those of others.
    pub fn new(gate: Arc<Gate>, metrics: &Metrics, epoch: u64) -> Self {
        let epoch = format!("{:08x}-", epoch & 0xffff_ffff);
        Self { gate, metrics: RequestMetrics::new(metrics), epoch, next: AtomicU64::new(0) }
    }

    /// Whom the next request comes from.
    fn who(&self, client: &Client) -> Who {
        let request_id = format!("{}{:x}", self.epoch, self.next.fetch_add(1, Ordering::Relaxed));
        let client_name = client.certificate.as_ref().and_then(|certificate| certificate.common_name.clone());
        Who { request_id, client: client.address_text.clone(), client_name }
    }

    /// An answer that is at hand is given at once; every other one is work.
    fn answer(
        &self,
        request: Request<Incoming>,
        client: Arc<Client>,
    ) -> Either<Ready<Response<Body>>, impl Future<Output = Response<Body>> + Send> {
        let who = self.who(&client);
        let key = warm_key(&request, &client);
        let warm = key.as_ref().and_then(|key| self.gate.recall(key));
        if let Some(response) = warm.and_then(|warm| self.repeat(&warm, &request, &who)) {
            return Either::Left(ready(response));
        }
        // Boxed, so that a request whose answer is at hand is a small future.
        Either::Right(Box::pin(self.answer_anew(request, client, who, key)))
    }

    async fn answer_anew(
        &self,
        request: Request<Incoming>,
        client: Arc<Client>,
        who: Who,
        key: Option<String>,
    ) -> Response<Body> {
        let request_id = who.request_id.clone();
        let mut log = RequestLog::new(&self.metrics, &request, &client, &request_id);
        // What TLS encrypts it must read; a plain connection sends files itself.
        let transfer = if client.tls { Transfer::Copied } else { Transfer::Lent };
        let mut response = match parse(&request) {
            Ok(route) => {
                let ask = Ask { route, method: request.method().to_string(), scope: client.scope.clone(), who, key };
                let namespace = ask.route.ns.clone();
                let response = match self.gate.handle(&ask).await {
                    Ok(answer) => respond(&request, answer, transfer),
                    Err(error) => respond_to(&error, &ask.route.endpoint),
                };
                with_namespace(response, namespace.as_ref())
            }
            Err(error) => errors::response(&error),
        };
        add_common_headers(response.headers_mut(), &request_id);
        log.answered(response.status());
        let is_head = request.method() == Method::HEAD;
        response.map(|body| log.follow(if is_head { Body::Empty } else { body }))
    }

    /// Gives an answer again that was decided a moment ago. `None` when its record would have to be waited for.
    fn repeat(&self, warm: &Warm, request: &Request<Incoming>, who: &Who) -> Option<Response<Body>> {
        if !self.gate.repeat(warm, who) {
            return None;
        }
        let Prepared { response, requests } = warm.prepared(|answer| self.prepare(request, answer));
        let is_head = request.method() == Method::HEAD;
        let mut response = response.clone().map(|bytes| if is_head { Body::Empty } else { Body::from(bytes) });
        if let Ok(id) = HeaderValue::from_str(&who.request_id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        self.metrics.repeated(requests, response.body());
        Some(response)
    }

    /// A decision's answer, to be given again.
    fn prepare(&self, request: &Request<Incoming>, answer: &Result<Answer, GateError>) -> Prepared {
        // As for a request without conditions, which is what its key says.
        let response = match answer {
            Ok(Answer::Manifest { manifest, permit, .. }) => {
                respond_manifest(&HeaderMap::new(), manifest, permit, None)
            }
            Ok(_) => Response::new(Body::Empty),
            Err(error) => errors::respond_to_manifest(error),
        };
        let route = Route::parse(request.uri().path(), request.uri().query()).ok();
        let mut response = with_namespace(response, route.and_then(|route| route.ns).as_ref());
        // The identifier's place is taken, so that each copy only puts its own in.
        add_common_headers(response.headers_mut(), "");
        let response = response.map(|body| match body {
            Body::Full(bytes) => bytes,
            Body::Empty | Body::Stream(_) => Bytes::new(),
        });
        let requests = self.metrics.requests(request.method(), response.status());
        Prepared { response, requests }
    }
}

/// What the answer to a request depends on, as text, for requests that are answered alike when these are alike: a client's
/// certificate and address matter by its scope alone. Requests with conditions are not.
fn warm_key(request: &Request<Incoming>, client: &Client) -> Option<String> {
    let conditions = [header::RANGE, header::IF_RANGE, header::IF_NONE_MATCH];
    let is_plain = matches!(*request.method(), Method::GET | Method::HEAD)
        && conditions.iter().all(|name| !request.headers().contains_key(name));
    let target = request.uri().path_and_query().filter(|target| is_plain && target.as_str().len() <= MAX_WARM_KEY)?;
    // None of the first two has a space in it.
    Some([request.method().as_str(), client.scope.name().unwrap_or_default(), target.as_str()].join(" "))
}

/// Says which registry the answer is of, to those who named one.
fn with_namespace(mut response: Response<Body>, namespace: Option<&Host>) -> Response<Body> {
    if let Some(value) = namespace.and_then(|ns| HeaderValue::from_str(ns.as_str()).ok()) {
        response.headers_mut().insert(NAMESPACE, value);
    }
    response
}

fn add_common_headers(headers: &mut HeaderMap, request_id: &str) {
    headers.insert(API_VERSION, HeaderValue::from_static("registry/2.0"));
    if let Ok(value) = HeaderValue::from_str(request_id) {
        headers.insert(REQUEST_ID, value);
    }
}

impl Service for Registry {
    fn call(&self, request: Request<Incoming>, client: Arc<Client>) -> impl Future<Output = Response<Body>> + Send {
        self.answer(request, client)
    }
}

/// The method and the raw target, before anything else looks at them.
fn parse(request: &Request<Incoming>) -> Result<Route, WireError> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let message = "pullgate: this registry is pull-only; push to the upstream registry itself";
        return Err(WireError::new(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::Unsupported, message));
    }
    Route::parse(request.uri().path(), request.uri().query()).map_err(respond_to_route)
}

fn respond(request: &Request<Incoming>, answer: Answer, transfer: Transfer) -> Response<Body> {
    match answer {
        Answer::Base => json(Body::from(Bytes::from_static(b"{}"))),
        Answer::Manifest { manifest, permit, stale } => respond_manifest(request.headers(), &manifest, &permit, stale),
        Answer::Blob { content, permit } => respond_blob(request, &permit, content.size(), |start, end| {
            Body::stream(content.read(start, end, transfer).map_err(Into::into))
        }),
        Answer::BlobSize { size, permit } => respond_blob(request, &permit, size, |_, _| Body::Empty),
        Answer::List { list, .. } => {
            respond_list(request, list.bytes, list.content_type.as_deref(), list.next.as_ref())
        }
    }
}

fn respond_blob(
    request: &Request<Incoming>,
    permit: &Permit,
    size: u64,
    body: impl FnOnce(u64, u64) -> Body,
) -> Response<Body> {
    let mut response = ranged(request.headers(), size, permit.digest(), body);
    insert(response.headers_mut(), header::CONTENT_TYPE, "application/octet-stream");
    warn(response.headers_mut(), permit, None);
    response
}

fn respond_manifest(
    headers: &HeaderMap,
    manifest: &Manifest,
    permit: &Permit,
    stale: Option<String>,
) -> Response<Body> {
    let size = manifest.bytes.len() as u64;
    let mut response = ranged(headers, size, permit.digest(), |start, end| {
        // Both lie within a length that is a usize.
        Body::from(manifest.bytes.slice(start as usize..end as usize))
    });
    insert(response.headers_mut(), header::CONTENT_TYPE, &manifest.media_type);
    warn(response.headers_mut(), permit, stale);
    response
}

/// 200, 206, 304 or 416 for content of a known digest (RFC 9110 §13, §14).
fn ranged(headers: &HeaderMap, size: u64, digest: Digest, body: impl FnOnce(u64, u64) -> Body) -> Response<Body> {
    let etag = format!("\"{digest}\"");
    let mut response = if matches_etag(headers, &etag) {
        status(StatusCode::NOT_MODIFIED, Body::Empty)
    } else {
        match requested(headers, size, &etag) {
            Ranged::Whole => with_length(status(StatusCode::OK, body(0, size)), size),
            Ranged::Part { start, end } => {
                let mut part = with_length(status(StatusCode::PARTIAL_CONTENT, body(start, end)), end - start);
                insert(part.headers_mut(), header::CONTENT_RANGE, &format!("bytes {start}-{}/{size}", end - 1));
                part
            }
            Ranged::Unsatisfiable => {
                let message = format!("the range lies outside of the {size} bytes of {digest}");
                let error = WireError::new(StatusCode::RANGE_NOT_SATISFIABLE, ErrorCode::RangeInvalid, message);
                let mut response = errors::response(&error);
                insert(response.headers_mut(), header::CONTENT_RANGE, &format!("bytes */{size}"));
                return response;
            }
        }
    };
    let headers = response.headers_mut();
    insert(headers, header::ETAG, &etag);
    insert(headers, CONTENT_DIGEST, &digest.to_string());
    insert(headers, header::ACCEPT_RANGES, "bytes");
    response
}

/// `If-None-Match` (RFC 9110 §13.1.2), by weak comparison.
fn matches_etag(headers: &HeaderMap, etag: &str) -> bool {
    let candidates = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    candidates
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == etag)
}

/// The next page is asked for at this gate, never at the upstream.
fn respond_list(
    request: &Request<Incoming>,
    bytes: Bytes,
    content_type: Option<&str>,
    next: Option<&Page>,
) -> Response<Body> {
    let mut response = json(Body::from(bytes));
    if let Some(content_type) = content_type {
        insert(response.headers_mut(), header::CONTENT_TYPE, content_type);
    }
    if let Some(next) = next {
        let ns = request.uri().query().unwrap_or_default().split('&').find(|pair| pair.starts_with("ns="));
        let query: Vec<String> = ns.map(str::to_owned).into_iter().chain(next.to_query()).collect();
        let link = format!("<{}?{}>; rel=\"next\"", request.uri().path(), query.join("&"));
        insert(response.headers_mut(), header::LINK, &link);
    }
    response
}

/// What would have been denied, and what may be out of date, as the distribution specification's `Warning` header.
fn warn(headers: &mut HeaderMap, permit: &Permit, stale: Option<String>) {
    let would_deny = permit.would_deny().map(|denial| format!("audit mode, would be denied: {denial}"));
    for text in would_deny.into_iter().chain(stale.map(|why| format!("the tag could not be checked: {why}"))) {
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

/// Values are built from digests, sizes and validated media types; one that is not a header value is left out.
pub(super) fn insert(headers: &mut HeaderMap, name: HeaderName, value: &str) {
    let constant = CONSTANT.into_iter().find(|constant| *constant == value).map(HeaderValue::from_static);
    if let Some(value) = constant.or_else(|| HeaderValue::from_str(value).ok()) {
        headers.insert(name, value);
    }
}
