//! Fault injection: failures of an upstream, or of the network in front of it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use tokio::sync::{Semaphore, watch};

use crate::oci::{ErrorCode, WireError};

/// Selects the requests that a fault applies to.
#[derive(Clone, Debug)]
pub struct On {
    method: Option<Method>,
    /// The whole path, in which `*` matches any text.
    pattern: String,
    times: Option<u64>,
}

impl On {
    /// All requests, including token requests.
    pub fn any() -> Self {
        Self::path("*")
    }

    /// Requests whose whole path matches `pattern`, in which `*` matches any text: `/v2/*/blobs/sha256:*`.
    pub fn path(pattern: &str) -> Self {
        Self { method: None, pattern: pattern.into(), times: None }
    }

    /// Requests for manifests.
    pub fn manifests() -> Self {
        Self::path("/v2/*/manifests/*")
    }

    /// Requests for blobs.
    pub fn blobs() -> Self {
        Self::path("/v2/*/blobs/*")
    }

    /// Restricts to one method.
    pub fn method(self, method: Method) -> Self {
        Self { method: Some(method), ..self }
    }

    /// Restricts to the next `times` requests.
    pub fn times(self, times: u64) -> Self {
        Self { times: Some(times), ..self }
    }

    fn matches<B>(&self, request: &Request<B>) -> bool {
        self.method.as_ref().is_none_or(|method| method == request.method())
            && matches_glob(&self.pattern, request.uri().path())
    }
}

fn matches_glob(pattern: &str, text: &str) -> bool {
    let Some((head, tail)) = pattern.split_once('*') else { return pattern == text };
    let Some(rest) = text.strip_prefix(head) else { return false };
    rest.char_indices().map(|(at, _)| at).chain([rest.len()]).any(|at| matches_glob(tail, &rest[at..]))
}

/// A failure. Several faults may apply to one request: the first [`Answer`](Self::Answer) or [`Close`](Self::Close)
/// replaces the registry's response and leaves later ones of these for later requests; all others are combined.
///
/// Byte positions count from the start of the body that is sent, which for a range is not the start of the content. A
/// position at or beyond its end has no effect.
#[derive(Clone, Debug)]
pub enum Fault {
    /// Sends this response instead. `{path}` in a `Location` is replaced by the path of the request.
    Answer {
        /// The status.
        status: StatusCode,
        /// The headers, in addition to `Content-Length`.
        headers: HeaderMap,
        /// The body.
        body: Bytes,
    },
    /// Closes the connection without a response.
    Close,
    /// Closes the connection after this many bytes of the body.
    Cut(u64),
    /// Delays the response.
    Delay(Duration),
    /// Corrupts the byte at this position of the body.
    Flip(u64),
    /// Holds the request before it is answered, until [`Injected::release`].
    Gate,
    /// Sets a header, or removes it for `None`. Also applies to `Content-Length`: a larger value ends the connection
    /// early, a smaller one truncates the body.
    Header(HeaderName, Option<HeaderValue>),
    /// Ignores `Range`.
    IgnoreRange,
    /// Resets the connection after this many bytes of the response including its headers, which may be truncated too.
    Reset(u64),
    /// Stalls after this many bytes of the body, until [`Injected::release`].
    Stall(u64),
    /// Sends the body in small chunks, with a pause before each except the first.
    Trickle {
        /// Bytes per chunk.
        piece: usize,
        /// The pause.
        pause: Duration,
    },
}

impl Fault {
    /// An error response with a body in the format of registries.
    pub fn status(status: StatusCode) -> Self {
        let body = WireError::new(status, ErrorCode::Unavailable, "injected").body();
        Self::Answer { status, headers: HeaderMap::new(), body: body.into() }
    }

    /// 401 with this challenge.
    pub fn unauthorized(challenge: &str) -> Self {
        Self::status(StatusCode::UNAUTHORIZED).with(header::WWW_AUTHENTICATE, challenge)
    }

    /// 429 with `Retry-After` in seconds.
    pub fn too_many_requests(retry_after: u64) -> Self {
        Self::status(StatusCode::TOO_MANY_REQUESTS).with(header::RETRY_AFTER, &retry_after.to_string())
    }

    /// 307 to a URL, in which `{path}` is replaced by the path of the request.
    pub fn redirect(url: &str) -> Self {
        Self::status(StatusCode::TEMPORARY_REDIRECT).with(header::LOCATION, url)
    }

    /// Adds a header to this response; has no effect on other faults.
    ///
    /// # Panics
    /// The value is not valid in a header.
    pub fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Self::Answer { headers, .. } = &mut self {
            headers.insert(name, HeaderValue::from_str(value).expect("the caller's text is a header value"));
        }
        self
    }

    /// Replaces the value of a header in the response.
    ///
    /// # Panics
    /// The value is not valid in a header.
    pub fn header(name: HeaderName, value: &str) -> Self {
        Self::Header(name, Some(HeaderValue::from_str(value).expect("the caller's text is a header value")))
    }

    fn is_answer(&self) -> bool {
        matches!(self, Self::Answer { .. } | Self::Close)
    }
}

/// Controls an injected fault: counts requests, releases held ones, removes the fault.
#[derive(Clone, Debug)]
pub struct Injected(Arc<FaultRule>);

#[derive(Debug)]
pub(super) struct FaultRule {
    on: On,
    pub(super) fault: Fault,
    removed: AtomicBool,
    hits: watch::Sender<u64>,
    /// One permit for each request that may continue; closed if all may.
    passes: Semaphore,
}

impl Injected {
    /// The number of requests that the fault applied to.
    pub fn hits(&self) -> u64 {
        *self.0.hits.borrow()
    }

    /// Resolves once the fault applied to at least this many requests; the caller sets a time limit.
    pub async fn wait_for_hits(&self, hits: u64) {
        // Fails only if the sender is gone, but it is borrowed here.
        let _ = self.0.hits.subscribe().wait_for(|so_far| *so_far >= hits).await;
    }

    /// Releases all held or stalled requests, and holds no more.
    pub fn release(&self) {
        self.0.passes.close();
    }

    /// Releases this many requests, those held longest first.
    pub fn release_some(&self, requests: usize) {
        self.0.passes.add_permits(requests);
    }

    /// Removes the fault; held requests continue.
    pub fn remove(&self) {
        self.0.removed.store(true, Ordering::Relaxed);
        self.release();
    }
}

impl FaultRule {
    /// Whether the fault applies to this request; counts it if so.
    fn hit<B>(&self, request: &Request<B>) -> bool {
        if self.removed.load(Ordering::Relaxed) || !self.on.matches(request) {
            return false;
        }
        self.hits.send_if_modified(|hits| {
            let hit = self.on.times.is_none_or(|times| *hits < times);
            *hits += u64::from(hit);
            hit
        })
    }

    pub(super) async fn pass(&self) {
        if let Ok(pass) = self.passes.acquire().await {
            pass.forget();
        }
    }
}

/// The active faults, in the order in which they were added.
#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<Vec<Arc<FaultRule>>>);

impl Faults {
    pub(super) fn add(&self, on: On, fault: Fault) -> Injected {
        let passes = Semaphore::new(0);
        let rule =
            Arc::new(FaultRule { on, fault, removed: AtomicBool::new(false), hits: watch::Sender::default(), passes });
        self.lock().push(rule.clone());
        Injected(rule)
    }

    pub(super) fn clear(&self) {
        for rule in self.lock().drain(..) {
            Injected(rule).remove();
        }
    }

    /// The faults that apply to this request.
    pub(super) fn hit<B>(&self, request: &Request<B>) -> FaultHit {
        let mut hit = Vec::new();
        let mut answered = false;
        for rule in self.lock().iter() {
            if !(answered && rule.fault.is_answer()) && rule.hit(request) {
                answered |= rule.fault.is_answer();
                hit.push(rule.clone());
            }
        }
        FaultHit(hit)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<FaultRule>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The faults that apply to one request.
pub(super) struct FaultHit(pub(super) Vec<Arc<FaultRule>>);

/// The connection is closed by a fault.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("closed by an injected fault")]
pub(super) struct Closed;

impl FaultHit {
    /// Waits for all gates and delays.
    pub(super) async fn before_answer(&self) {
        for rule in &self.0 {
            match rule.fault {
                Fault::Delay(pause) => tokio::time::sleep(pause).await,
                Fault::Gate => rule.pass().await,
                _ => {}
            }
        }
    }

    /// The response that replaces the registry's.
    pub(super) fn answer(&self, path: &str) -> Result<Option<Response<Bytes>>, Closed> {
        match self.0.iter().map(|rule| &rule.fault).find(|fault| fault.is_answer()) {
            Some(Fault::Answer { status, headers, body }) => {
                let mut answer = Response::new(body.clone());
                *answer.status_mut() = *status;
                *answer.headers_mut() = headers.clone();
                expand_location(answer.headers_mut(), path);
                Ok(Some(answer))
            }
            Some(_) => Err(Closed),
            None => Ok(None),
        }
    }

    /// Changes the headers of a response.
    pub(super) fn edit_headers(&self, headers: &mut HeaderMap) {
        for rule in &self.0 {
            match &rule.fault {
                Fault::Header(name, Some(value)) => drop(headers.insert(name, value.clone())),
                Fault::Header(name, None) => drop(headers.remove(name)),
                _ => {}
            }
        }
    }

    /// The number of bytes of the response after which the connection is reset.
    pub(super) fn reset(&self) -> Option<u64> {
        let places = self.0.iter().filter_map(|rule| match rule.fault {
            Fault::Reset(at) => Some(at),
            _ => None,
        });
        places.min()
    }

    pub(super) fn ignores_range(&self) -> bool {
        self.0.iter().any(|rule| matches!(rule.fault, Fault::IgnoreRange))
    }
}

fn expand_location(headers: &mut HeaderMap, path: &str) {
    let Some(location) = headers.get(header::LOCATION).and_then(|value| value.to_str().ok()) else { return };
    if let Ok(location) = HeaderValue::from_str(&location.replace("{path}", path)) {
        headers.insert(header::LOCATION, location);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs() {
        for (pattern, text, fits) in [
            ("*", "", true),
            ("/v2/*/blobs/*", "/v2/a/b/blobs/sha256:1", true),
            ("/v2/*/blobs/*", "/v2/a/b/manifests/x", false),
            ("/v2/", "/v2/a", false),
            ("/v2/", "/v2/", true),
            ("*a*b", "xaab", true),
            ("*a*b", "xba", false),
        ] {
            assert_eq!(matches_glob(pattern, text), fits, "{pattern} {text}");
        }
    }
}
