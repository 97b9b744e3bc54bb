//! The calls that carry images from one gate to another. Content is sent and received as it is, whatever its size.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use http::{Method, StatusCode};
use http_body_util::{BodyDataStream, BodyExt, Limited};
use hyper::body::Incoming;

use super::{ApiFamily, ApiResponse, BODY_TIMEOUT, Body, Caller, json_response, response};
use crate::api::ContentQuery;
use crate::cache::{Cache, NotReceived, Transfer};
use crate::gate::{Answer, Gate, GateRequest, Requester};
use crate::oci::{Digest, Endpoint, MAX_MANIFEST, Manifest, Reference};

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
    cache: Arc<Cache>,
    /// Numbers requests, to distinguish them in the records.
    next: AtomicU64,
}

impl Transfers {
    pub(super) fn new(gate: Arc<Gate>, cache: Arc<Cache>) -> Self {
        Self { gate, cache, next: AtomicU64::new(0) }
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
        match &query.media_type {
            Some(media_type) => self.receive_manifest(query.digest, media_type, body).await,
            None => {
                let pieces = Box::pin(pieces(body));
                self.cache.receive(query.digest, query.size, pieces).await.map_err(|error| {
                    let status = match error {
                        NotReceived::Disk(_) | NotReceived::NoRoom(_) => StatusCode::SERVICE_UNAVAILABLE,
                        NotReceived::Digest(_) | NotReceived::Sender(_) | NotReceived::Size { .. } => {
                            StatusCode::UNPROCESSABLE_ENTITY
                        }
                    };
                    (status, error.to_string())
                })
            }
        }
    }

    async fn receive_manifest(
        &self,
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
        self.cache.keep(&manifest.map_err(|error| wrong(&error))?).await;
        Ok(())
    }

    /// Content as a client would get it: it is judged and recorded.
    async fn send(&self, query: &ContentQuery, caller: Caller) -> Result<Body, String> {
        let (name, digest) = (query.name.repository.clone(), query.digest);
        let endpoint = match query.media_type {
            Some(_) => Endpoint::Manifest { name, reference: Reference::Digest(digest) },
            None => Endpoint::Blob { name, digest },
        };
        let request_id = format!("bundle-{:x}", self.next.fetch_add(1, Ordering::Relaxed));
        let request = GateRequest {
            ns: Some(query.name.host.clone()),
            endpoint,
            method: "GET".into(),
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
            _ => Err(format!("{digest} has another size than its manifest states")),
        }
    }
}

/// The pieces of a body.
fn pieces(body: Incoming) -> impl Stream<Item = io::Result<Bytes>> + Send {
    BodyDataStream::new(body).map(|piece| piece.map_err(io::Error::other))
}
