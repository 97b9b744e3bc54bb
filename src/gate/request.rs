//! What a client of the registry asks for.

use std::sync::Arc;

use http::Method;
use jiff::Timestamp;

use crate::audit::{DecisionParts, Record, RecordedMethod};
use crate::oci::{Endpoint, Host};
use crate::scope::Scope;

/// A request for content or for a list.
#[derive(Clone, Debug)]
pub struct GateRequest {
    /// The `ns` query parameter, in which containerd names the registry.
    pub ns: Option<Host>,
    /// The requested endpoint.
    pub endpoint: Endpoint,
    /// Whether the content itself is requested.
    pub method: ReadMethod,
    /// The scope whose rules apply.
    pub scope: Scope,
    /// The sender of the request.
    pub requester: Requester,
    /// Everything in the request that the answer depends on, as text. The answer may be reused for requests with the
    /// same text; with `None`, every request is decided separately.
    pub key: Option<String>,
}

/// The sender of a request.
#[derive(Clone, Debug)]
pub struct Requester {
    /// Identifies the request in all logs.
    pub request_id: String,
    /// The client's address.
    pub client: Arc<str>,
    /// The common name of the client's certificate.
    pub client_name: Option<Arc<str>>,
}

impl Requester {
    /// The record of a decision on a request of this sender.
    pub(super) fn record<'a>(
        &'a self,
        what: DecisionParts<'a>,
        method: RecordedMethod,
        time: Timestamp,
        duration_ms: u64,
    ) -> Record<'a> {
        let Self { request_id, client, client_name } = self;
        Record { what, method, time, request_id, client, client_name: client_name.as_deref(), duration_ms }
    }
}

/// The methods of a registry that only serves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ReadMethod {
    /// The content and its headers.
    Get,
    /// Only the headers.
    Head,
}

impl ReadMethod {
    /// The method of a request; `None` for one that changes something.
    pub fn of(method: &Method) -> Option<Self> {
        match *method {
            Method::GET => Some(Self::Get),
            Method::HEAD => Some(Self::Head),
            _ => None,
        }
    }
}

impl From<ReadMethod> for RecordedMethod {
    fn from(method: ReadMethod) -> Self {
        match method {
            ReadMethod::Get => Self::Get,
            ReadMethod::Head => Self::Head,
        }
    }
}
