//! Misbehaviour on demand: what an upstream, or the network before it, may do wrong.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, header};
use tokio::sync::{Semaphore, watch};

use crate::oci::{ErrorCode, WireError};

/// Which requests a fault is for.
#[derive(Clone, Debug)]
pub struct On {
    method: Option<Method>,
    /// The whole path, with stars for any text.
    pattern: String,
    times: Option<u64>,
}

impl On {
    /// Every request, also those for tokens.
    pub fn any() -> Self {
        Self::path("*")
    }

    /// Requests whose whole path is `pattern`, where `*` stands for any text: `/v2/*/blobs/sha256:*`.
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

    /// Only those of one method.
    pub fn method(self, method: Method) -> Self {
        Self { method: Some(method), ..self }
    }

    /// Only the next so many.
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

/// What goes wrong. Several faults may hit one request: the first [`Answer`](Self::Answer) or [`Close`](Self::Close)
/// takes the place of the registry's answer and leaves later ones of these for later requests; the others add up.
///
/// Bytes are counted from the start of the body that is sent, which for a range is not the start of the content. A place
/// at or past its end does nothing.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This answer and no other. A `Location` may have `{path}` in it, which stands for the request's path.
    Answer {
        /// The status.
        status: StatusCode,
        /// The headers, beside `Content-Length`.
        headers: HeaderMap,
        /// The body.
        body: Bytes,
    },
    /// The connection ends with no answer.
    Close,
    /// The connection ends after so many bytes of the body.
    Cut(u64),
    /// The answer begins later.
    Delay(Duration),
    /// The byte at this place of the body is wrong.
    Flip(u64),
    /// The request is held before it is answered, until [`Injected::release`].
    Gate,
    /// A header has this value, or, with none, is missing. `Content-Length` too: more than there is ends the connection
    /// early, less cuts the body.
    Header(HeaderName, Option<HeaderValue>),
    /// `Range` is not looked at.
    IgnoreRange,
    /// The connection is reset after so many bytes of the answer, its head included: less than a head cuts the head.
    Reset(u64),
    /// Nothing comes after so many bytes of the body, until [`Injected::release`].
    Stall(u64),
    /// The body comes in pieces of so many bytes, with a pause before each but the first.
    Trickle {
        /// Bytes a piece.
        piece: usize,
        /// The pause.
        pause: Duration,
    },
}

impl Fault {
    /// An error answer with a body as registries send it.
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

    /// 307 to a URL, in which `{path}` stands for the request's path.
    pub fn redirect(url: &str) -> Self {
        Self::status(StatusCode::TEMPORARY_REDIRECT).with(header::LOCATION, url)
    }

    /// This answer with one more header; other faults stay as they are.
    ///
    /// # Panics
    /// When the value is none that a header can have.
    pub fn with(mut self, name: HeaderName, value: &str) -> Self {
        if let Self::Answer { headers, .. } = &mut self {
            headers.insert(name, HeaderValue::from_str(value).expect("the caller's text is a header value"));
        }
        self
    }

    /// Another value for a header of the answer.
    ///
    /// # Panics
    /// When the value is none that a header can have.
    pub fn header(name: HeaderName, value: &str) -> Self {
        Self::Header(name, Some(HeaderValue::from_str(value).expect("the caller's text is a header value")))
    }

    fn is_answer(&self) -> bool {
        matches!(self, Self::Answer { .. } | Self::Close)
    }
}

/// A fault in place: counts its hits, lets go what it holds, takes it away.
#[derive(Clone, Debug)]
pub struct Injected(Arc<Rule>);

#[derive(Debug)]
pub(super) struct Rule {
    on: On,
    pub(super) fault: Fault,
    removed: AtomicBool,
    hits: watch::Sender<u64>,
    /// A permit for each that may pass; closed when all may.
    passes: Semaphore,
}

impl Injected {
    /// How many requests were hit.
    pub fn hits(&self) -> u64 {
        *self.0.hits.borrow()
    }

    /// Resolves when at least so many requests were hit; the caller bounds the time.
    pub async fn wait_for_hits(&self, hits: u64) {
        // Fails only when the sender is gone, and it is borrowed here.
        let _ = self.0.hits.subscribe().wait_for(|so_far| *so_far >= hits).await;
    }

    /// Lets everything go that is held or stalled, and holds nothing any more.
    pub fn release(&self) {
        self.0.passes.close();
    }

    /// Lets so many go, the longest held first.
    pub fn release_some(&self, requests: usize) {
        self.0.passes.add_permits(requests);
    }

    /// Takes the fault away; what is held goes on.
    pub fn remove(&self) {
        self.0.removed.store(true, Ordering::Relaxed);
        self.release();
    }
}

impl Rule {
    /// Counts a hit if this is a request for it.
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

/// The faults in place, in the order in which they were added.
#[derive(Debug, Default)]
pub(super) struct Faults(Mutex<Vec<Arc<Rule>>>);

impl Faults {
    pub(super) fn add(&self, on: On, fault: Fault) -> Injected {
        let passes = Semaphore::new(0);
        let rule =
            Arc::new(Rule { on, fault, removed: AtomicBool::new(false), hits: watch::Sender::default(), passes });
        self.lock().push(rule.clone());
        Injected(rule)
    }

    pub(super) fn clear(&self) {
        for rule in self.lock().drain(..) {
            Injected(rule).remove();
        }
    }

    /// The faults that hit this request.
    pub(super) fn hit<B>(&self, request: &Request<B>) -> Hit {
        let mut hit = Vec::new();
        let mut answered = false;
        for rule in self.lock().iter() {
            if !(answered && rule.fault.is_answer()) && rule.hit(request) {
                answered |= rule.fault.is_answer();
                hit.push(rule.clone());
            }
        }
        Hit(hit)
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Arc<Rule>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The faults that one request has.
pub(super) struct Hit(pub(super) Vec<Arc<Rule>>);

/// The connection ends here, as a fault demands.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("closed by an injected fault")]
pub(super) struct Closed;

impl Hit {
    /// Waits as long as gates and delays want.
    pub(super) async fn before_answer(&self) {
        for rule in &self.0 {
            match rule.fault {
                Fault::Delay(pause) => tokio::time::sleep(pause).await,
                Fault::Gate => rule.pass().await,
                _ => {}
            }
        }
    }

    /// The answer that takes the place of the registry's.
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

    /// Changes the head of an answer.
    pub(super) fn edit_headers(&self, headers: &mut HeaderMap) {
        for rule in &self.0 {
            match &rule.fault {
                Fault::Header(name, Some(value)) => drop(headers.insert(name, value.clone())),
                Fault::Header(name, None) => drop(headers.remove(name)),
                _ => {}
            }
        }
    }

    /// After how many bytes of the answer the connection is reset.
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
