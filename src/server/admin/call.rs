//! Calls of the API and their responses.

use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;
use http::{Method, StatusCode};
use serde::Serialize;

use super::ApiFamily;
use crate::api::ErrorAnswer;

/// An API call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApiRequest {
    /// Which API is called.
    pub family: ApiFamily,
    /// The method. GET changes nothing; HEAD is passed on as GET, and the body of the answer is not sent.
    pub method: Method,
    /// The raw path after that of the API, undecoded.
    pub path: String,
    /// The raw query, without the `?`.
    pub query: Option<String>,
    /// The complete body, at most 1 MiB; more for a call that imports an image.
    pub body: Bytes,
    /// The caller.
    pub caller: Caller,
}

/// The caller of the API.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Caller {
    /// A client on the network: may only read, and only on a loopback listener.
    Network(SocketAddr),
    /// A process of the same user, or of root, on the Unix socket.
    Socket {
        /// Its user id.
        uid: u32,
    },
    /// A client with the token.
    Token(SocketAddr),
}

impl fmt::Display for Caller {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Network(address) => write!(f, "{address}"),
            Self::Socket { uid } => write!(f, "admin socket, user {uid}"),
            Self::Token(address) => write!(f, "{address} with the admin token"),
        }
    }
}

/// The response to an API call.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ApiResponse {
    /// The HTTP status.
    pub status: StatusCode,
    /// The JSON body, or empty for none.
    pub json: Bytes,
    /// The methods that the path supports, if the call used another one.
    pub allow: Option<&'static str>,
}

impl ApiResponse {
    /// A response with a value. If it cannot be serialized, the response is a 500.
    pub fn new(status: StatusCode, value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(json) => Self { status, json: json.into(), allow: None },
            Err(error) => {
                tracing::error!(%error, "cannot serialize an API response");
                Self { status: StatusCode::INTERNAL_SERVER_ERROR, json: Bytes::new(), allow: None }
            }
        }
    }

    /// An error response: `{"error": message}`.
    pub fn error(status: StatusCode, message: &str) -> Self {
        Self::new(status, &ErrorAnswer { error: message.to_owned() })
    }

    /// The error response to a method that the path does not support.
    pub(super) fn not_allowed(family: ApiFamily, allow: &'static str) -> Self {
        let error = family.error(StatusCode::METHOD_NOT_ALLOWED, &format!("this path supports only {allow}"));
        Self { allow: Some(allow), ..error }
    }
}
