//! The log of requests.

use http::{HeaderMap, HeaderName, Method, Request, StatusCode, header};
use tokio::sync::watch;

/// A request as it arrived, and the status of the response.
#[derive(Clone, Debug)]
pub struct LoggedRequest {
    /// The method.
    pub method: Method,
    /// The path, undecoded.
    pub path: String,
    /// The query, undecoded.
    pub query: Option<String>,
    /// The scheme of `Authorization`, `Basic` or `Bearer`. The credentials are not recorded.
    pub authorization: Option<String>,
    /// The `Range` header.
    pub range: Option<String>,
    /// The `User-Agent` header.
    pub user_agent: Option<String>,
    /// The `Accept` headers, joined with commas.
    pub accept: Option<String>,
    /// The `traceparent` header (W3C Trace Context).
    pub traceparent: Option<String>,
    /// The status of the response; `None` while the request is held, or if the connection was closed without a
    /// response.
    pub status: Option<StatusCode>,
    number: u64,
}

impl LoggedRequest {
    /// Whether this is a request with `method` whose path contains `part`.
    pub fn is(&self, method: &str, part: &str) -> bool {
        self.method == method && self.path.contains(part)
    }
}

/// The log. Each change wakes all waiting callers.
#[derive(Debug, Default)]
pub(super) struct RequestJournal(watch::Sender<LogState>);

#[derive(Debug, Default)]
struct LogState {
    requests: Vec<LoggedRequest>,
    arrived: u64,
}

impl RequestJournal {
    /// Records a request, and returns its number for [`answered`](Self::answered).
    pub(super) fn arrived<B>(&self, request: &Request<B>) -> u64 {
        let text = |name| joined(request.headers(), name);
        let scheme = |value: String| value.split(' ').next().unwrap_or_default().to_owned();
        let logged = LoggedRequest {
            method: request.method().clone(),
            path: request.uri().path().to_owned(),
            query: request.uri().query().map(str::to_owned),
            authorization: text(header::AUTHORIZATION).map(scheme),
            range: text(header::RANGE),
            user_agent: text(header::USER_AGENT),
            accept: text(header::ACCEPT),
            traceparent: text(HeaderName::from_static("traceparent")),
            status: None,
            number: 0,
        };
        let mut number = 0;
        self.0.send_modify(|state| {
            state.arrived += 1;
            number = state.arrived;
            state.requests.push(LoggedRequest { number, ..logged });
        });
        number
    }

    /// Records the status of a response.
    pub(super) fn answered(&self, number: u64, status: StatusCode) {
        self.0.send_modify(|state| {
            if let Some(request) = state.requests.iter_mut().rev().find(|request| request.number == number) {
                request.status = Some(status);
            }
        });
    }

    pub(super) fn read<T>(&self, reader: impl FnOnce(&[LoggedRequest]) -> T) -> T {
        reader(&self.0.borrow().requests)
    }

    pub(super) fn clear(&self) {
        self.0.send_modify(|state| state.requests.clear());
    }

    pub(super) async fn wait_for(&self, mut predicate: impl FnMut(&[LoggedRequest]) -> bool) {
        // Fails only if the sender is gone, but it is borrowed here.
        let _ = self.0.subscribe().wait_for(|state| predicate(&state.requests)).await;
    }
}

fn joined(headers: &HeaderMap, name: HeaderName) -> Option<String> {
    let values: Vec<_> = headers.get_all(name).iter().map(|v| String::from_utf8_lossy(v.as_bytes())).collect();
    (!values.is_empty()).then(|| values.join(", "))
}
