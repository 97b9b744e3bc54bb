//! Answers requests: the pull endpoints of the OCI distribution specification, with content as shared bytes.

use std::sync::atomic::Ordering::Relaxed;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use serde_json::{Value, json};

use super::RegistryState;
use crate::oci::{Digest, Endpoint, ErrorCode, Page, Reference, Repository, Route, WireError, media_type};

pub(super) const DOCKER_CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");
const OCI_FILTERS_APPLIED: HeaderName = HeaderName::from_static("oci-filters-applied");
const SUPPORTS_SIGNATURES: HeaderName = HeaderName::from_static("x-registry-supports-signatures");

impl RegistryState {
    /// The response without injected faults. `origin` is the registry's URL as the client knows it.
    pub(super) fn answer<B>(&self, request: &Request<B>, origin: &str) -> Response<Bytes> {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            return refuse(StatusCode::METHOD_NOT_ALLOWED, ErrorCode::Unsupported, "this registry is read-only");
        }
        let uri = request.uri();
        if uri.path() == "/token" {
            return self.access.token(uri.query().unwrap_or_default(), request.headers());
        }
        if let Some(path) = uri.path().strip_prefix("/extensions/v2/") {
            return self.signatures(path);
        }
        if let Some(document) = self.content.document(uri.path()) {
            return Response::new(document);
        }
        match Route::parse(uri.path(), uri.query()) {
            Ok(route) => self.endpoint(route.endpoint.as_ref(), uri, request.headers(), origin),
            Err(invalid) => refuse(StatusCode::NOT_FOUND, ErrorCode::NameInvalid, &invalid.to_string()),
        }
    }

    fn endpoint(&self, endpoint: Option<&Endpoint>, uri: &Uri, headers: &HeaderMap, origin: &str) -> Response<Bytes> {
        let repository = endpoint.map_or("", |endpoint| endpoint.name().as_str());
        if let Some(refusal) = self.access.refusal(repository, headers, origin) {
            return refusal;
        }
        let Some(endpoint) = endpoint else {
            let answer = json(&json!({}));
            return match self.content.has_signatures() {
                true => with_header(answer, SUPPORTS_SIGNATURES, "1"),
                false => answer,
            };
        };
        let name = endpoint.name().as_repository();
        match endpoint {
            Endpoint::Blob { digest, .. } => self.blob(name, digest, headers),
            Endpoint::Manifest { reference, .. } => self.manifest(name, reference, headers),
            Endpoint::Referrers { digest, page, .. } => self.referrers(name, digest, page, uri),
            Endpoint::Tags { page, .. } => self.tags(name, page, uri),
        }
    }

    /// `REPOSITORY/signatures/DIGEST` of the extension for OpenPGP signatures.
    fn signatures(&self, path: &str) -> Response<Bytes> {
        let found = path.split_once("/signatures/").and_then(|(name, digest)| Some((name, digest.parse().ok()?)));
        let Some((name, digest)) = found else {
            return refuse(StatusCode::NOT_FOUND, ErrorCode::NameInvalid, "no such endpoint");
        };
        let signature = |bytes: Bytes| json!({"schemaVersion": 2, "type": "atomic", "content": STANDARD.encode(bytes)});
        let list: Vec<_> = self.content.signatures(name, &digest).into_iter().map(signature).collect();
        json(&json!({"signatures": list}))
    }

    fn manifest(&self, name: &Repository, reference: &Reference, headers: &HeaderMap) -> Response<Bytes> {
        match self.content.manifest(name.as_str(), reference) {
            Some((digest, media_type, bytes)) => whole(&digest, &media_type, bytes, headers),
            None => refuse(StatusCode::NOT_FOUND, ErrorCode::ManifestUnknown, "manifest unknown"),
        }
    }

    fn blob(&self, name: &Repository, digest: &Digest, headers: &HeaderMap) -> Response<Bytes> {
        let Some(bytes) = self.content.blob(name.as_str(), digest) else {
            return refuse(StatusCode::NOT_FOUND, ErrorCode::BlobUnknown, "blob unknown");
        };
        let length = bytes.len() as u64;
        let answer = whole(digest, "application/octet-stream", bytes, headers);
        let answer = with_header(answer, header::ACCEPT_RANGES, "bytes");
        let same = headers.get(header::IF_RANGE).is_none_or(|tag| tag.as_bytes() == format!("\"{digest}\"").as_bytes());
        match headers.get(header::RANGE).and_then(|range| range.to_str().ok()) {
            Some(range) if same && answer.status() == StatusCode::OK => part(answer, range, length),
            _ => answer,
        }
    }

    fn tags(&self, name: &Repository, page: &Page, uri: &Uri) -> Response<Bytes> {
        let Some(mut tags) = self.content.tags(name.as_str(), page.last.as_deref()) else {
            return refuse(StatusCode::NOT_FOUND, ErrorCode::NameUnknown, "repository unknown");
        };
        let limit = page.n.map_or(usize::MAX, |n| n as usize);
        let more = tags.len() > limit;
        tags.truncate(limit);
        let answer = json(&json!({"name": name, "tags": tags}));
        match (tags.last(), page.n) {
            (Some(last), Some(n)) if more => with_next(answer, &format!("{}?n={n}&last={last}", uri.path())),
            _ => answer,
        }
    }

    fn referrers(&self, name: &Repository, digest: &Digest, page: &Page, uri: &Uri) -> Response<Bytes> {
        if self.without_referrers.load(Relaxed) {
            return refuse(StatusCode::NOT_FOUND, ErrorCode::Unsupported, "no such endpoint");
        }
        let mut found = self.content.referrers(name.as_str(), digest);
        if let Some(wanted) = &page.artifact_type {
            found.retain(|descriptor| descriptor["artifactType"] == **wanted);
        }
        let start = page.opaque.iter().find(|(key, _)| key == "next").and_then(|(_, value)| value.parse().ok());
        let mut rest = found.split_off(found.len().min(start.unwrap_or(0)));
        let limit = match self.referrers_page.load(Relaxed) {
            0 => usize::MAX,
            entries => entries,
        };
        let next = (rest.len() > limit).then(|| start.unwrap_or(0) + limit);
        rest.truncate(limit);
        referrers_page(&rest, page, next, uri)
    }
}

fn referrers_page(found: &[Value], page: &Page, next: Option<usize>, uri: &Uri) -> Response<Bytes> {
    let body = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": found});
    let mut answer = with_header(json(&body), header::CONTENT_TYPE, media_type::OCI_INDEX);
    let mut filter = String::new();
    if let Some(wanted) = &page.artifact_type {
        answer = with_header(answer, OCI_FILTERS_APPLIED, "artifactType");
        filter = format!(
            "&artifactType={}",
            percent_encoding::utf8_percent_encode(wanted, percent_encoding::NON_ALPHANUMERIC)
        );
    }
    match next {
        Some(next) => with_next(answer, &format!("{}?next={next}{filter}", uri.path())),
        None => answer,
    }
}

/// 200 with all content, or 304 if the client already has it (RFC 9110 §13.1.2).
fn whole(digest: &Digest, media_type: &str, bytes: Bytes, headers: &HeaderMap) -> Response<Bytes> {
    let tag = format!("\"{digest}\"");
    let known = headers.get_all(header::IF_NONE_MATCH).iter().any(|known| {
        known.to_str().is_ok_and(|list| list.split(',').any(|one| matches!(one.trim(), "*") || one.trim() == tag))
    });
    let mut answer = Response::new(if known { Bytes::new() } else { bytes });
    if known {
        *answer.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let answer = with_header(answer, header::CONTENT_TYPE, media_type);
    let answer = with_header(answer, DOCKER_CONTENT_DIGEST, &digest.to_string());
    with_header(answer, header::ETAG, &tag)
}

/// 206 with the requested range, or 416 (RFC 9110 §14). Anything except a single byte range is ignored, as the RFC
/// allows.
fn part(mut answer: Response<Bytes>, range: &str, length: u64) -> Response<Bytes> {
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|range| range.split_once('-')) else {
        return answer;
    };
    let (start, end) = match (first.parse::<u64>(), last.parse::<u64>()) {
        (Ok(first), Ok(last)) if first <= last => (first, last.saturating_add(1).min(length)),
        (Ok(first), Err(_)) if last.is_empty() => (first, length),
        (Err(_), Ok(suffix)) if first.is_empty() => {
            (if suffix == 0 { length } else { length.saturating_sub(suffix) }, length)
        }
        _ => return answer,
    };
    if start >= length {
        let answer = refuse(StatusCode::RANGE_NOT_SATISFIABLE, ErrorCode::RangeInvalid, "no such range");
        return with_header(answer, header::CONTENT_RANGE, &format!("bytes */{length}"));
    }
    *answer.status_mut() = StatusCode::PARTIAL_CONTENT;
    *answer.body_mut() = answer.body().slice(start as usize..end as usize);
    with_header(answer, header::CONTENT_RANGE, &format!("bytes {start}-{}/{length}", end - 1))
}

pub(super) fn json(body: &Value) -> Response<Bytes> {
    with_header(Response::new(Bytes::from(body.to_string())), header::CONTENT_TYPE, "application/json")
}

pub(super) fn error(error: &WireError) -> Response<Bytes> {
    let mut answer = Response::new(Bytes::from(error.body()));
    *answer.status_mut() = error.status;
    with_header(answer, header::CONTENT_TYPE, "application/json")
}

fn refuse(status: StatusCode, code: ErrorCode, message: &str) -> Response<Bytes> {
    error(&WireError::new(status, code, message))
}

/// Sets a header. Values that are not valid in a header, such as a hostile media type with a line feed, are omitted.
pub(super) fn with_header(mut answer: Response<Bytes>, name: HeaderName, value: &str) -> Response<Bytes> {
    if let Ok(value) = HeaderValue::from_str(value) {
        answer.headers_mut().insert(name, value);
    }
    answer
}

fn with_next(answer: Response<Bytes>, target: &str) -> Response<Bytes> {
    with_header(answer, header::LINK, &format!("<{target}>; rel=\"next\""))
}
