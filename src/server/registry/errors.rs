//! The only mapping from errors to responses.

use std::fmt::Display;

use http::{Response, StatusCode, header};
use hyper::ext::ReasonPhrase;

use super::headers::insert;
use crate::cache::CacheError;
use crate::gate::GateError;
use crate::oci::{Endpoint, ErrorCode, InvalidRoute, WireError};
use crate::policy::{Denial, DenialKind};
use crate::resolve::ResolveError;
use crate::server::Body;
use crate::server::own_error::own_error;
use crate::upstream;

/// The `Retry-After` for pending evidence, in seconds; the kubelet's own back-off starts at ten.
const PENDING_RETRY: u64 = 5;
/// The `Retry-After` while the gate cannot decide, in seconds.
const UNAVAILABLE_RETRY: u64 = 10;

/// The response to a request that the gate did not admit.
pub(super) fn respond_to(error: &GateError, endpoint: &Endpoint) -> Response<Body> {
    let absent = match endpoint {
        Endpoint::Manifest { .. } | Endpoint::Referrers { .. } => ErrorCode::ManifestUnknown,
        Endpoint::Blob { .. } => ErrorCode::BlobUnknown,
        Endpoint::Tags { .. } => ErrorCode::NameUnknown,
    };
    response(&wire_error(error, absent))
}

/// The response to a manifest request that the gate did not admit.
pub(super) fn respond_to_manifest(error: &GateError) -> Response<Body> {
    response(&wire_error(error, ErrorCode::ManifestUnknown))
}

/// The error for a target that is not an endpoint.
pub(super) fn respond_to_route(error: InvalidRoute) -> WireError {
    let (status, code) = match error {
        InvalidRoute::Digest(_) => (StatusCode::BAD_REQUEST, ErrorCode::DigestInvalid),
        InvalidRoute::Encoded | InvalidRoute::Name(_) | InvalidRoute::Namespace(_) | InvalidRoute::Query(_) => {
            (StatusCode::BAD_REQUEST, ErrorCode::NameInvalid)
        }
        InvalidRoute::Path => (StatusCode::NOT_FOUND, ErrorCode::NameUnknown),
        InvalidRoute::Reference(_) => (StatusCode::BAD_REQUEST, ErrorCode::ManifestInvalid),
        InvalidRoute::Upload => (StatusCode::METHOD_NOT_ALLOWED, ErrorCode::Unsupported),
    };
    own_error(status, code, error)
}

/// A JSON body, with the reason also in the HTTP/1.1 reason phrase, which containerd shows for a HEAD without a body.
pub(super) fn response(error: &WireError) -> Response<Body> {
    let body = error.body();
    let mut response = Response::new(Body::Empty);
    *response.status_mut() = error.status;
    if let Ok(phrase) = ReasonPhrase::try_from(error.reason_phrase().into_bytes()) {
        response.extensions_mut().insert(phrase);
    }
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_LENGTH, body.len().into());
    insert(headers, header::CONTENT_TYPE, "application/json");
    // A denial depends on the current policy, so no intermediary may cache it.
    insert(headers, header::CACHE_CONTROL, "no-store");
    if error.status == StatusCode::METHOD_NOT_ALLOWED {
        insert(headers, header::ALLOW, "GET, HEAD");
    }
    if let Some(seconds) = error.retry_after {
        headers.insert(header::RETRY_AFTER, seconds.into());
    }
    *response.body_mut() = Body::from(body);
    response
}

fn wire_error(error: &GateError, absent: ErrorCode) -> WireError {
    match error {
        GateError::Denied(denial) => denied(denial),
        GateError::Pending { .. } => pending(error),
        GateError::BlobUnknown { .. } => own_error(StatusCode::NOT_FOUND, ErrorCode::BlobUnknown, error),
        GateError::Name(_) => own_error(StatusCode::BAD_REQUEST, ErrorCode::NameInvalid, error),
        GateError::ForeignUrl { .. }
        | GateError::NoUpstream { .. }
        | GateError::NotServed { .. }
        | GateError::UnclearName { .. }
        | GateError::UnknownUpstream { .. } => own_error(StatusCode::FORBIDDEN, ErrorCode::Denied, error),
        GateError::Store(_) | GateError::Unrecorded => unavailable(error),
        GateError::Resolve(error) => resolve(error, absent),
        GateError::Cache(error) => cache(error, absent),
        GateError::Upstream(error) => upstream(error, absent),
    }
}

fn denied(denial: &Denial) -> WireError {
    match denial.kind {
        DenialKind::Policy => own_error(StatusCode::FORBIDDEN, ErrorCode::Denied, denial),
        DenialKind::Pending => pending(denial),
        DenialKind::Unavailable => unavailable(denial),
    }
}

fn pending(message: impl Display) -> WireError {
    own_error(StatusCode::TOO_MANY_REQUESTS, ErrorCode::TooManyRequests, message).retry_after(PENDING_RETRY)
}

/// The gate cannot answer now, and a retry may succeed.
fn unavailable(message: impl Display) -> WireError {
    own_error(StatusCode::SERVICE_UNAVAILABLE, ErrorCode::Unavailable, message).retry_after(UNAVAILABLE_RETRY)
}

fn resolve(error: &ResolveError, absent: ErrorCode) -> WireError {
    match error {
        ResolveError::NotFound(_) => not_found(absent, error),
        // Bytes that no policy can make right: final, and 403 so that clients do not look for them elsewhere here.
        ResolveError::Refused(_) | ResolveError::Pin { temporary: false, .. } => {
            own_error(StatusCode::FORBIDDEN, ErrorCode::Denied, format!("refused: {error}"))
        }
        ResolveError::Interrupted
        | ResolveError::NotKnown
        | ResolveError::Pin { temporary: true, .. }
        | ResolveError::Silent { .. }
        | ResolveError::Store(_) => unavailable(error),
        ResolveError::Late { .. } => unavailable(format!("upstream: {error}")),
        ResolveError::Upstream(error) => upstream(error, absent),
    }
}

fn cache(error: &CacheError, absent: ErrorCode) -> WireError {
    match error {
        CacheError::NotFound => not_found(absent, error),
        CacheError::Upstream(error) => upstream(error, absent),
        // The registry contradicts its own manifest. No policy denies the image, and a retry would not help.
        CacheError::Size { .. } => {
            own_error(StatusCode::BAD_GATEWAY, ErrorCode::Unavailable, format!("upstream: {error}"))
        }
        CacheError::Busy | CacheError::Disk(_) => unavailable(error),
        CacheError::Part { error, .. } => cache(error, absent),
    }
}

/// The message names the upstream as the cause, so that the policy is not suspected.
fn upstream(error: &upstream::Error, absent: ErrorCode) -> WireError {
    use upstream::Error;
    let message = format!("upstream: {error}");
    match error {
        Error::NotFound { .. } => not_found(absent, message),
        // This gate is the only registry here, so its answer is final.
        Error::Offline { .. } => not_found(absent, error),
        // Not 401: the credentials that are wrong are the gate's. A client would ask its user for others, or forget its
        // own.
        Error::Unauthorized(_) | Error::Forbidden(_) | Error::Refused(_) => {
            own_error(StatusCode::FORBIDDEN, ErrorCode::Denied, message)
        }
        Error::RateLimited { retry_after, .. } => {
            own_error(StatusCode::TOO_MANY_REQUESTS, ErrorCode::TooManyRequests, message)
                .retry_after(retry_after.unwrap_or(UNAVAILABLE_RETRY))
        }
        Error::Rejected { status, .. } => own_error(*status, rejected(*status, absent), message),
        Error::Busy(_) | Error::Unavailable(_) => unavailable(message),
        // The registry responds incorrectly, so a retry is not advised.
        Error::Digest(_) | Error::Protocol(_) | Error::TooLarge(_) => {
            own_error(StatusCode::BAD_GATEWAY, ErrorCode::Unavailable, message)
        }
    }
}

/// The closest code that clients know for an upstream's 4xx; the message contains the upstream's own code.
fn rejected(status: StatusCode, absent: ErrorCode) -> ErrorCode {
    match status {
        StatusCode::GONE => absent,
        StatusCode::PAYMENT_REQUIRED | StatusCode::UNAVAILABLE_FOR_LEGAL_REASONS => ErrorCode::Denied,
        _ => ErrorCode::Unsupported,
    }
}

fn not_found(absent: ErrorCode, message: impl Display) -> WireError {
    own_error(StatusCode::NOT_FOUND, absent, message)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use regex::Regex;

    use super::{ErrorCode, GateError, InvalidRoute, StatusCode, respond_to_route, wire_error};
    use crate::cache::CacheError;
    use crate::oci::ImageReference;
    use crate::policy::no_match_in;
    use crate::resolve::ResolveError;
    use crate::upstream;

    /// The rows of the table in docs/api.md, as `403 DENIED`.
    fn documented() -> BTreeSet<String> {
        let row = Regex::new(r"^\| ([45]\d\d) \| `([A-Z_]+)` \|").unwrap();
        let page = include_str!("../../../docs/api.md");
        page.lines().filter_map(|line| row.captures(line)).map(|row| format!("{} {}", &row[1], &row[2])).collect()
    }

    /// The server's answers, taken from the source: each error consists of a status and a code.
    fn made() -> BTreeSet<String> {
        let source = [
            include_str!("errors.rs").split("#[cfg(test)]").next().unwrap(),
            include_str!("response.rs").split("#[cfg(test)]").next().unwrap(),
            include_str!("../registry.rs"),
            include_str!("../transport/connection.rs"),
        ];
        let source = source.concat().split_whitespace().collect::<Vec<_>>().join(" ");
        let made = Regex::new(r"\(?StatusCode::([A-Z_]+), ErrorCode::([A-Za-z]+)").unwrap();
        let upper = Regex::new(r"([a-z])([A-Z])").unwrap();
        let code = |name: &str| match name {
            "TooManyRequests" => "TOOMANYREQUESTS".to_owned(),
            name => upper.replace_all(name, "${1}_$2").to_uppercase(),
        };
        let status = |name: &str| {
            let all = (400..600).filter_map(|number| StatusCode::from_u16(number).ok());
            let is_it = |status: &StatusCode| {
                let reason = status.canonical_reason().unwrap_or_default();
                reason.to_uppercase().replace([' ', '-'], "_") == name
            };
            all.into_iter().find(is_it).unwrap_or_else(|| panic!("no status is called {name}")).as_u16()
        };
        let found = made.captures_iter(&source).map(|pair| format!("{} {}", status(&pair[1]), code(&pair[2])));
        // `not_found` gets its code from the endpoint.
        let absent = ["BLOB_UNKNOWN", "MANIFEST_UNKNOWN", "NAME_UNKNOWN"].map(|code| format!("404 {code}"));
        found.chain(absent).collect()
    }

    /// People see the message among those of the client and of registries.
    #[test]
    fn every_message_begins_with_the_name_of_the_gate() {
        let image: ImageReference = "a.test/app:1".parse().unwrap();
        let subject = || "a.test/app:1".to_owned();
        let errors = [
            GateError::BlobUnknown { name: subject(), digest: format!("sha256:{}", "a".repeat(64)).parse().unwrap() },
            GateError::Cache(CacheError::Busy),
            GateError::Cache(CacheError::NotFound),
            GateError::Denied(no_match_in(&image.name, "no rule selects it".into())),
            GateError::ForeignUrl { subject: subject(), url: "https://b.test".into() },
            GateError::NoUpstream { near: Vec::new() },
            GateError::Pending { subject: subject() },
            GateError::Resolve(ResolveError::NotFound(subject())),
            GateError::Resolve(ResolveError::Silent { upstream: "a.test".into() }),
            GateError::Store("disk full".into()),
            GateError::Unrecorded,
            GateError::Upstream(upstream::Error::NOT_FOUND),
        ];
        let wire = errors.iter().map(|error| wire_error(error, ErrorCode::NameUnknown));
        for error in wire.chain([respond_to_route(InvalidRoute::Path)]) {
            let message = &error.message;
            assert!(message.starts_with("pullgate: ") && message.matches("pullgate: ").count() == 1, "{message}");
        }
    }

    #[test]
    fn the_documented_errors_are_those_that_clients_get() {
        assert_eq!(documented(), made(), "docs/api.md lists exactly the errors of the registry");
    }
}
