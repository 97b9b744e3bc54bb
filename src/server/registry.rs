//! The registry API over HTTP: a request becomes a [`GateRequest`], an answer becomes a response.

mod accept;
mod errors;
mod headers;
mod hot;
mod range;
mod request_log;
mod response;

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use bytes::Bytes;
use futures_util::future::{Either, Ready, ready};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode, Version};
use hyper::body::Incoming;

use errors::{respond_to, respond_to_route};
use hot::{HotResponse, HotResponses};
use request_log::{RequestLog, RequestMetrics};
pub use response::manifest_response;
use response::{REQUEST_ID, add_common_headers, add_timing, base, respond, with_namespace};

use super::own_error::own_error;
use super::{Body, ClientIdentity, Service};
use crate::cache::Transfer;
use crate::gate::{Gate, GateRequest, ReadMethod, Requester, WarmAnswer, WarmOutcome};
use crate::oci::{ErrorCode, Route, WireError};
use crate::otlp::TraceExporter;
use crate::runtime::{BusyCounter, Metrics, Sharded};

/// Longer targets are not cached, so that invented queries cannot fill the memory.
const MAX_WARM_KEY: usize = 512;
/// One of so many repeated responses is kept by its core, if it was not yet.
const KEPT_EVERY: u32 = 32;

/// The registry service of a gate.
pub struct RegistryService {
    gate: Arc<Gate>,
    metrics: RequestMetrics,
    /// Sends traces, if they are wanted.
    traces: Option<TraceExporter>,
    hot: HotResponses,
    /// How this process's request identifiers begin.
    epoch: String,
    /// How many requests each processor core has numbered.
    numbered: Sharded<AtomicU64>,
}

impl RegistryService {
    /// Creates a service; `epoch` distinguishes this process's request ids from those of others.
    pub fn new(gate: Arc<Gate>, metrics: &Metrics, epoch: u64, traces: Option<TraceExporter>) -> Self {
        let epoch = format!("{:08x}-", epoch & 0xffff_ffff);
        Self {
            gate,
            metrics: RequestMetrics::new(metrics),
            traces,
            hot: HotResponses::default(),
            epoch,
            numbered: Sharded::default(),
        }
    }

    /// Identifies the next request and its sender.
    fn requester(&self, client: &ClientIdentity) -> Requester {
        let request_id = format!("{}{:x}", self.epoch, self.next_number());
        let client_name = client.certificate.as_ref().and_then(|certificate| certificate.common_name.clone());
        Requester { request_id, client: client.address_text.clone(), client_name }
    }

    /// A number that no other request of this process has.
    fn next_number(&self) -> u64 {
        let (index, count) = (self.numbered.my_index() as u64, self.numbered.iter().len() as u64);
        self.numbered.mine().fetch_add(1, Ordering::Relaxed) * count + index
    }

    /// A decision made a moment ago is repeated at once; everything else is decided from the start.
    fn answer(
        &self,
        request: Request<Incoming>,
        client: Arc<ClientIdentity>,
    ) -> Either<Ready<Response<Body>>, impl Future<Output = Response<Body>> + Send> {
        let started = Instant::now();
        let requester = self.requester(&client);
        let key = warm_key(&request, &client);
        if let Some(response) = key.as_ref().and_then(|key| self.repeat(key, &request, &requester, started)) {
            return Either::Left(ready(response));
        }
        // Boxed, so that a repeated answer is a small future.
        Either::Right(Box::pin(self.answer_anew(request, client, requester, key)))
    }

    async fn answer_anew(
        &self,
        request: Request<Incoming>,
        client: Arc<ClientIdentity>,
        requester: Requester,
        key: Option<String>,
    ) -> Response<Body> {
        let request_id = requester.request_id.clone();
        let mut log = RequestLog::new(&self.metrics, &request, &client, &request_id);
        log.join_trace(self.traces.as_ref(), request.headers());
        // TLS must read what it encrypts; a plain connection sends files itself.
        let transfer = if client.tls { Transfer::Copied } else { Transfer::Lent };
        let (mut response, endpoint) = match parse(&request) {
            Ok((_, Route { ns, endpoint: None })) => {
                log.routed(None);
                (with_namespace(base(), ns.as_ref()), None)
            }
            Ok((method, Route { ns, endpoint: Some(endpoint) })) => {
                log.routed(Some(&endpoint));
                let scope = client.scope.clone();
                let asked = GateRequest { ns, endpoint, method, scope, requester, key };
                let response = match log.trace().follow(accept::answer(&self.gate, &asked, request.headers())).await {
                    Ok(answer) => respond(&request, answer, transfer),
                    Err(error) => respond_to(&error, &asked.endpoint),
                };
                (with_namespace(response, asked.ns.as_ref()), Some(asked.endpoint))
            }
            Err(error) => (errors::response(&error), None),
        };
        add_common_headers(response.headers_mut(), &request_id);
        let took = log.answered(endpoint.as_ref(), response.status());
        let phases = || log.trace().learned().server_timing();
        add_timing(request.headers(), response.headers_mut(), phases, took);
        let is_head = request.method() == Method::HEAD;
        response.map(|body| log.follow(if is_head { Body::Empty } else { body }))
    }

    /// Repeats a recent decision, if one exists and is still valid.
    fn repeat(
        &self,
        key: &str,
        request: &Request<Incoming>,
        requester: &Requester,
        started: Instant,
    ) -> Option<Response<Body>> {
        let is_head = request.method() == Method::HEAD;
        let hot = self.hot.with(key, |hot| {
            let requests = if is_head { &hot.heads } else { &hot.gets };
            let holds = self.gate.still_holds(&hot.warm);
            holds.then(|| self.send(&hot.warm, hot.response.clone(), (requests, started), request, requester))
        });
        if let Some(sent) = hot.flatten() {
            return sent;
        }
        let warm = self.gate.recall(key)?;
        let response = self.render(request, &warm)?;
        let requests = |method| self.metrics.requests(&method, response.status());
        // Random, so that a response that is sent often is kept soon, and the others rarely displace it.
        if fastrand::u32(..KEPT_EVERY) == 0 {
            let (gets, heads) = (requests(Method::GET), requests(Method::HEAD));
            self.hot.keep(key, HotResponse { warm: warm.clone(), response: response.clone(), gets, heads });
        }
        let requests = requests(request.method().clone());
        self.send(&warm, response, (&requests, started), request, requester)
    }

    /// Sends a response again, with a record. `None` when the request must be decided again: the client takes no index,
    /// or the record would have to wait.
    fn send(
        &self,
        warm: &WarmAnswer,
        response: Response<Bytes>,
        (requests, started): (&BusyCounter, Instant),
        request: &Request<Incoming>,
        requester: &Requester,
    ) -> Option<Response<Body>> {
        if is_index(warm.outcome()) && accept::takes_images_alone(request.headers()) {
            return None;
        }
        let method = ReadMethod::of(request.method())?;
        if !self.gate.repeat(warm, requester, method) {
            return None;
        }
        let is_head = method == ReadMethod::Head;
        let body = |bytes| if is_head { Body::Empty } else { Body::from(bytes) };
        let mut response = response.map(body);
        if let Ok(id) = HeaderValue::from_str(&requester.request_id) {
            response.headers_mut().insert(REQUEST_ID, id);
        }
        let took = started.elapsed();
        self.metrics.repeated(requests, response.body(), took);
        add_timing(request.headers(), response.headers_mut(), String::new, took);
        Some(response)
    }

    /// The response for all requests that get this outcome. They have no conditions, which is part of their key. `None`
    /// if the manifest is not available without waiting.
    fn render(&self, request: &Request<Incoming>, warm: &WarmAnswer) -> Option<Response<Bytes>> {
        let response = match warm.outcome() {
            WarmOutcome::Admitted { media_type, permit, .. } => {
                let manifest = self.gate.manifest_at_once(warm)?;
                manifest_response((&Method::GET, &HeaderMap::new()), &manifest, media_type, permit, None)
            }
            WarmOutcome::Refused(refusal) => errors::respond_to_manifest(&refusal.error),
        };
        // Only a query names a registry.
        let route = request.uri().query().and_then(|query| Route::parse(request.uri().path(), Some(query)).ok());
        let mut response = with_namespace(response, route.and_then(|route| route.ns).as_ref());
        // Reserves the place of the identifier, which each request replaces with its own.
        add_common_headers(response.headers_mut(), "");
        Some(response.map(|body| match body {
            Body::Full(bytes) => bytes,
            Body::Empty | Body::Stream(_) => Bytes::new(),
        }))
    }
}

fn is_index(outcome: &WarmOutcome) -> bool {
    matches!(outcome, WarmOutcome::Admitted { is_index: true, .. })
}

/// Everything in a request that the answer depends on, as text: a client's certificate and address matter by its scope
/// alone, and GET and HEAD are decided alike. A conditional request has no such text.
fn warm_key(request: &Request<Incoming>, client: &ClientIdentity) -> Option<String> {
    let conditions = [header::RANGE, header::IF_RANGE, header::IF_NONE_MATCH];
    let is_plain = ReadMethod::of(request.method()).is_some()
        && names_its_host(request)
        && conditions.iter().all(|name| !request.headers().contains_key(name));
    let target = request.uri().path_and_query().filter(|target| is_plain && target.as_str().len() <= MAX_WARM_KEY)?;
    // A scope contains no space.
    Some([client.scope.name().unwrap_or_default(), target.as_str()].join(" "))
}

impl Service for RegistryService {
    fn call(
        &self,
        request: Request<Incoming>,
        client: Arc<ClientIdentity>,
    ) -> impl Future<Output = Response<Body>> + Send {
        self.answer(request, client)
    }
}

/// Whether a request has the `Host` that its version requires (RFC 9112, section 3.2). Where it is missing or doubled,
/// proxies disagree about whom the request is for.
fn names_its_host(request: &Request<Incoming>) -> bool {
    let count = request.headers().get_all(header::HOST).iter().take(2).count();
    count == 1 || (count == 0 && request.version() != Version::HTTP_11)
}

/// Parses the method and the raw target, before any other processing.
fn parse(request: &Request<Incoming>) -> Result<(ReadMethod, Route), WireError> {
    if !names_its_host(request) {
        let message = "a request must have exactly one Host header (RFC 9112, section 3.2)";
        return Err(own_error(StatusCode::BAD_REQUEST, ErrorCode::NameInvalid, message));
    }
    let Some(method) = ReadMethod::of(request.method()) else {
        let message = "this registry is pull-only; push to the upstream registry itself";
        return Err(own_error(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::Unsupported, message));
    };
    let route = Route::parse(request.uri().path(), request.uri().query()).map_err(respond_to_route)?;
    Ok((method, route))
}
