//! The registry API over HTTP: a request becomes an [`Ask`], an answer becomes a response.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::future::{Either, Ready, ready};
use http::header::{self, HeaderMap, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;

use super::accept;
use super::errors::{self, respond_to, respond_to_route};
use super::request_log::{RequestLog, RequestMetrics};
use super::response::{REQUEST_ID, add_common_headers, manifest_response, respond, with_namespace};
use super::{Body, Client, Service};
use crate::cache::Transfer;
use crate::gate::{Answer, Ask, Gate, GateError, Prepared, Warm, Who};
use crate::oci::{ErrorCode, Route, WireError};
use crate::runtime::Metrics;

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
                let response = match accept::answer(&self.gate, &ask, request.headers()).await {
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
                manifest_response(&HeaderMap::new(), manifest, permit, None)
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
