//! The calls that carry images from one gate to another. Content of any size is sent and received unchanged.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{Method, StatusCode};
use http_body_util::{BodyDataStream, BodyExt, Limited};
use hyper::body::Incoming;

use super::{ApiFamily, ApiResponse, BODY_TIMEOUT, Body, Caller, json_response, response};
use crate::api::{
    AdvisoriesRequest, ContentQuery, HoldAnswer, HoldRequest, MissingRequest, ReleaseAnswer, ReleaseRequest,
    ReportsRequest,
};
use crate::cache::{Cache, ImportHold, NotReceived, Transfer};
use crate::gate::{Answer, Gate, GateRequest, NotRecorded, Operations, ReadMethod, Requester};
use crate::oci::{Digest, Endpoint, MAX_MANIFEST, Manifest, Reference};

/// The maximum number of digests in one call.
const MAX_DIGESTS: usize = 5000;

/// A call with content in the request or in the answer.
pub struct TransferCall {
    /// `PUT` sends content to the gate, `POST` asks for content.
    pub method: Method,
    /// The raw query, without the `?`.
    pub query: String,
    /// The body, not read yet.
    pub body: Incoming,
    /// The caller, which may make changes.
    pub caller: Caller,
}

/// Transfers content.
pub(super) struct Transfers {
    gate: Arc<Gate>,
    operations: Arc<Operations>,
    cache: Arc<Cache>,
    /// Numbers requests, to distinguish them in the records.
    next: AtomicU64,
}

impl Transfers {
    pub(super) fn new(gate: Arc<Gate>, operations: Arc<Operations>, cache: Arc<Cache>) -> Self {
        Self { gate, operations, cache, next: AtomicU64::new(0) }
    }

    /// Answers a call to [`BUNDLE_CONTENT`](crate::api::path::BUNDLE_CONTENT).
    pub(super) async fn answer(&self, call: TransferCall) -> http::Response<Body> {
        let refuse = |status, why: &str| json_response(ApiResponse::error(status, why));
        let Some(query) = ContentQuery::from_query(&call.query) else {
            return refuse(StatusCode::BAD_REQUEST, "the query names no content");
        };
        match call.method {
            Method::PUT => match self.receive(&query, call.body).await {
                Ok(()) => response(StatusCode::OK, "application/json", Bytes::from_static(b"{}")),
                Err((status, why)) => refuse(status, &why),
            },
            Method::POST => match self.send(&query, call.caller).await {
                Ok(body) => {
                    let mut sent = http::Response::new(body);
                    sent.headers_mut().insert(http::header::CONTENT_LENGTH, query.size.into());
                    sent
                }
                Err(why) => refuse(StatusCode::CONFLICT, &why),
            },
            _ => json_response(ApiResponse::not_allowed(ApiFamily::Native, "POST, PUT")),
        }
    }

    async fn receive(&self, query: &ContentQuery, body: Incoming) -> Result<(), (StatusCode, String)> {
        let Some(number) = query.hold else {
            return Err((StatusCode::BAD_REQUEST, "the query names no import".into()));
        };
        let hold = self.cache.hold(number, [query.digest]).await;
        let hold = hold.map_err(|error| (StatusCode::CONFLICT, error.to_string()))?;
        if let Some(media_type) = &query.media_type {
            return self.receive_manifest(&hold, query.digest, media_type, body).await;
        }
        let mut pieces = Box::pin(pieces(body));
        let received = self.cache.receive(&hold, (query.digest, query.size), &mut pieces).await;
        if received.is_err() {
            // A client that is still sending would lose the answer with the connection.
            let rest = async { while let Some(Ok(_)) = pieces.next().await {} };
            let _ = tokio::time::timeout(BODY_TIMEOUT, rest).await;
        }
        received.map_err(|error| refusal(&error))
    }

    async fn receive_manifest(
        &self,
        hold: &ImportHold,
        digest: Digest,
        media_type: &str,
        body: Incoming,
    ) -> Result<(), (StatusCode, String)> {
        let wrong = |error: &dyn std::fmt::Display| (StatusCode::UNPROCESSABLE_ENTITY, error.to_string());
        let late = |_| (StatusCode::REQUEST_TIMEOUT, "receiving the body timed out".to_owned());
        let read =
            tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, MAX_MANIFEST).collect()).await.map_err(late)?;
        let bytes = read.map_err(|error| wrong(&error))?.to_bytes();
        let manifest = Manifest::parse(bytes, Some(media_type)).and_then(|manifest| manifest.named(digest));
        let manifest = manifest.map_err(|error| wrong(&error))?;
        self.cache.receive_manifest(hold, &manifest).await.map_err(|error| refusal(&error))
    }

    /// Begins an import.
    pub(super) fn begin(&self, request: &HoldRequest) -> ApiResponse {
        let spared = if request.evict { Vec::new() } else { self.operations.offline_hosts() };
        match self.cache.begin_import(spared) {
            Ok(hold) => ApiResponse::new(StatusCode::OK, &HoldAnswer { hold }),
            Err(error) => ApiResponse::error(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
        }
    }

    /// Ends an import.
    pub(super) fn end(&self, request: &ReleaseRequest) -> ApiResponse {
        match self.cache.end_import(request.hold) {
            Ok(lost) => ApiResponse::new(StatusCode::OK, &ReleaseAnswer { lost }),
            Err(error) => ApiResponse::error(StatusCode::CONFLICT, &error.to_string()),
        }
    }

    /// The digests that are not in the cache. Those that are stay while the import runs.
    pub(super) async fn missing(&self, request: &MissingRequest) -> ApiResponse {
        if request.digests.len() > MAX_DIGESTS {
            return ApiResponse::error(StatusCode::UNPROCESSABLE_ENTITY, "more than 5000 digests");
        }
        if let Some(hold) = request.hold
            && let Err(error) = self.cache.hold(hold, request.digests.iter().copied()).await
        {
            return ApiResponse::error(StatusCode::CONFLICT, &error.to_string());
        }
        ApiResponse::new(StatusCode::OK, &self.cache.missing(&request.digests))
    }

    /// Records that advisory databases are about to be put into use.
    pub(super) async fn advisories(&self, request: &AdvisoriesRequest, caller: Caller) -> ApiResponse {
        recorded(self.operations.record_advisories(&request.databases, &caller.to_string()).await)
    }

    /// Records that reports are about to be put into use.
    pub(super) async fn reports(&self, request: &ReportsRequest, caller: Caller) -> ApiResponse {
        recorded(self.operations.record_reports(&request.reports, &caller.to_string()).await)
    }

    /// Content as a client would get it: it is judged and recorded.
    async fn send(&self, query: &ContentQuery, caller: Caller) -> Result<Body, String> {
        let (name, digest) = (query.name.repository.clone().into(), query.digest);
        let endpoint = match query.media_type {
            Some(_) => Endpoint::Manifest { name, reference: Reference::Digest(digest) },
            None => Endpoint::Blob { name, digest },
        };
        let request_id = format!("bundle-{:x}", self.next.fetch_add(1, Ordering::Relaxed));
        let request = GateRequest {
            ns: Some(query.name.host.clone()),
            endpoint,
            method: ReadMethod::Get,
            scope: query.namespace.parse().map_err(|error| format!("{:?}: {error}", query.namespace))?,
            requester: Requester { request_id, client: caller.to_string().into(), client_name: None },
            key: None,
        };
        match self.gate.handle(&request).await.map_err(|error| error.to_string())? {
            Answer::Manifest { manifest, .. } if manifest.bytes.len() as u64 == query.size => {
                Ok(Body::from(manifest.bytes.clone()))
            }
            Answer::Blob { content, .. } if content.size() == query.size => {
                Ok(Body::stream(content.read(0, query.size, Transfer::Copied).map_err(Into::into)))
            }
            _ => Err(format!("{digest} does not have the size that its manifest states")),
        }
    }
}

/// The answer to what is only recorded.
fn recorded(recorded: Result<(), NotRecorded>) -> ApiResponse {
    match recorded {
        Ok(()) => ApiResponse { status: StatusCode::OK, json: Bytes::from_static(b"{}"), allow: None },
        Err(error) => ApiResponse::error(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    }
}

fn refusal(error: &NotReceived) -> (StatusCode, String) {
    let status = match error {
        NotReceived::Disk(_) | NotReceived::NoRoom(_) => StatusCode::SERVICE_UNAVAILABLE,
        NotReceived::Digest(_) | NotReceived::Sender(_) | NotReceived::Size { .. } => StatusCode::UNPROCESSABLE_ENTITY,
    };
    (status, error.to_string())
}

/// The pieces of a body.
fn pieces(body: Incoming) -> impl Stream<Item = io::Result<Bytes>> + Send {
    BodyDataStream::new(body).map(|piece| piece.map_err(io::Error::other))
}
