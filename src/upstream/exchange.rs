//! A request and its response: retries, redirects, authorization.

mod observed;

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::sync::Semaphore;
use tokio::time::{Instant, sleep, timeout_at};
use url::{Origin, Url};

use super::answer::body::Inbound;
use super::answer::words::words;
use super::auth::challenge::Challenge;
use super::auth::{Audience, Authorization, RegistryTokens};
use super::client::{UpstreamClient, host, origin};
use super::config::{Auth, Config, ConfigError};
use super::error::{Error, WEB_PAGE};
use super::headers::{content_range, is_foreign_page};
use super::limits::{RequestLane, UpstreamLimits};
use super::metrics::{LimitMetrics, UpstreamMetrics};
use super::retry::{FIRST_PAUSE, Failure, Retries, alternative_patience, is_passing, retry_after};
use crate::http_client::{MAX_REDIRECTS, Network, is_redirect};
use crate::oci::Repository;
use crate::runtime::{Clock, Tasks};

/// 4xx statuses about the connection between this client and the registry or its proxy, which clients of the gate
/// cannot influence.
const ABOUT_THE_CONNECTION: &[StatusCode] = &[
    StatusCode::PROXY_AUTHENTICATION_REQUIRED,
    StatusCode::LENGTH_REQUIRED,
    StatusCode::PRECONDITION_FAILED,
    StatusCode::RANGE_NOT_SATISFIABLE,
    StatusCode::EXPECTATION_FAILED,
    StatusCode::MISDIRECTED_REQUEST,
    StatusCode::UPGRADE_REQUIRED,
];

/// For whom the tokens of a request are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum TokenUse {
    /// For the registry itself.
    Registry,
    /// For an auxiliary service.
    Beside {
        /// The name of the repository in the scope of a token.
        resource: Box<str>,
    },
}

/// The bytes that a request asks for (RFC 9110 §14.2).
#[derive(Clone, Copy, Debug)]
pub(super) struct RequestedRange {
    pub(super) first: u64,
    /// `None` for all bytes to the end.
    pub(super) last: Option<u64>,
}

impl fmt::Display for RequestedRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "bytes={}-", self.first)?;
        self.last.map_or(Ok(()), |last| write!(f, "{last}"))
    }
}

/// A request, before credentials are added.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) accept: Option<&'static str>,
    pub(super) range: Option<RequestedRange>,
    /// The repository whose content is requested, which a token must allow.
    pub(super) repository: Repository,
    /// Statuses besides 404 that mean that the content does not exist.
    pub(super) absent: &'static [StatusCode],
    pub(super) lane: RequestLane,
    /// Whether the caller has an alternative if this fails: errors are then returned immediately, without retries.
    pub(super) has_alternative: bool,
    pub(super) tokens: TokenUse,
}

impl Call {
    pub(super) fn new(method: Method, lane: RequestLane, url: Url, repository: Repository) -> Self {
        let lane = if method == Method::HEAD { RequestLane::Look } else { lane };
        let (accept, range, absent, has_alternative) = (None, None, &[][..], false);
        let tokens = TokenUse::Registry;
        Self { method, url, accept, range, repository, absent, lane, has_alternative, tokens }
    }

    /// The recipient of an authorization for this URL. Redirects change the recipient. `None` for redirects by an
    /// auxiliary service: that service chose the target, so no credentials are sent, not even to the registry itself.
    fn audience(&self, url: &Url) -> Option<Audience> {
        match &self.tokens {
            TokenUse::Beside { resource } => {
                self.is_beside(url).then(|| Audience::beside(url, &self.repository, resource))
            }
            TokenUse::Registry => Some(Audience::new(url, &self.repository)),
        }
    }

    /// Whether this URL is of the auxiliary service that the request is for.
    fn is_beside(&self, url: &Url) -> bool {
        self.tokens != TokenUse::Registry && url.origin() == self.url.origin()
    }

    fn request(&self, authorization: Option<&Authorization>) -> Result<Request<Full<Bytes>>, http::Error> {
        let mut request = Request::builder().method(self.method.clone());
        if let Some(accept) = self.accept {
            request = request.header(header::ACCEPT, accept);
        }
        if let Some(range) = self.range {
            request = request.header(header::RANGE, range.to_string());
        }
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, &authorization.value);
        }
        request.body(Full::default())
    }

    /// Whether this means that the registry asks clients to back off. Some registries do not support HEAD or ranges and
    /// answer with 503, or 429 for ranges; the caller then requests the whole content, and that response counts.
    fn is_refused_by(&self, status: StatusCode) -> bool {
        match status {
            StatusCode::TOO_MANY_REQUESTS => self.range.is_none(),
            StatusCode::SERVICE_UNAVAILABLE => self.range.is_none() && self.method != Method::HEAD,
            _ => false,
        }
    }

    /// A partial response, or its refusal, is valid only for a range request. A range that covers everything is always
    /// valid, and so is a response that a proxy modified (RFC 9110 §15.3.4), because the digest decides.
    fn is_answered_by<B>(&self, response: &Response<B>) -> bool {
        let whole = || {
            content_range(response.headers()).is_some_and(|(span, total)| span.start == 0 && total == Some(span.end))
        };
        match response.status() {
            StatusCode::OK | StatusCode::NON_AUTHORITATIVE_INFORMATION => true,
            StatusCode::PARTIAL_CONTENT => self.range.is_some() || whole(),
            StatusCode::RANGE_NOT_SATISFIABLE => self.range.is_some(),
            _ => false,
        }
    }
}

/// The HTTP exchange with one upstream.
pub(super) struct Exchange {
    client: Arc<UpstreamClient>,
    tokens: RegistryTokens,
    limits: Arc<UpstreamLimits>,
    /// The limits of auxiliary services, which the configuration and policies name.
    service_limits: Mutex<HashMap<Origin, Arc<UpstreamLimits>>>,
    /// The repository of which the registry sent something last for an authorization.
    served: Mutex<Option<Repository>>,
}

impl Exchange {
    pub(super) fn new(
        config: Config,
        (tasks, clock): (&Tasks, &Clock),
        (metrics, limit_metrics): (UpstreamMetrics, LimitMetrics),
        network: &Network,
    ) -> Result<Self, ConfigError> {
        let limits = UpstreamLimits::new(&config, limit_metrics);
        let client = Arc::new(UpstreamClient::new(config, clock, metrics, network)?);
        let (tokens, service_limits) = (RegistryTokens::new(tasks.clone()), Mutex::default());
        Ok(Self { client, tokens, limits, service_limits, served: Mutex::default() })
    }

    pub(super) fn config(&self) -> &Config {
        self.client.config()
    }

    pub(super) fn client(&self) -> &UpstreamClient {
        &self.client
    }

    /// Sends a request, with retries and redirects. Valid responses are 200, and 206 or 416 to a range request.
    /// `Content-Encoding` is ignored: the content matches its digest or it does not.
    ///
    /// Every request for content is sent here, so that an offline upstream sends none.
    pub(super) async fn send(&self, call: &Call) -> Result<Response<Inbound>, Error> {
        if self.config().offline {
            return Err(Error::Offline { host: self.config().host.clone(), why: self.client.lack(call) });
        }
        let mut retries = Retries::new(self.config());
        loop {
            let failure = match self.attempt(call, &mut retries).await {
                Ok(response) => {
                    self.note_served(call);
                    return Ok(response);
                }
                Err(failure) => failure,
            };
            if call.has_alternative {
                return Err(failure.error);
            }
            self.doubt_credentials(call, &failure.error);
            let Some(pause) = retries.next(&failure) else { return Err(failure.error) };
            tracing::debug!(upstream = %self.config().host, ?pause, error = %failure.error, "trying again");
            sleep(pause).await;
        }
    }

    /// Whether an authorization for a request was obtained before.
    pub(super) fn is_authorized(&self, call: &Call) -> bool {
        call.audience(&call.url).is_some_and(|audience| self.tokens.known(&audience).is_some())
    }

    /// The turns of blobs that are streamed to clients.
    pub(super) fn relay_turns(&self) -> &Arc<Semaphore> {
        self.limits.relay_turns()
    }

    /// The limits that apply to a request.
    fn limits(&self, call: &Call) -> Arc<UpstreamLimits> {
        if call.tokens == TokenUse::Registry {
            return self.limits.clone();
        }
        let mut known = self.service_limits.lock().unwrap_or_else(PoisonError::into_inner);
        known.entry(call.url.origin()).or_insert_with(|| self.limits.of_service()).clone()
    }

    /// One attempt within the limits of the upstream, or of the auxiliary service. The response keeps the turn; it is
    /// released between attempts.
    async fn attempt(&self, call: &Call, retries: &mut Retries) -> Result<Response<Inbound>, Failure> {
        let limits = self.limits(call);
        let asked = Instant::now();
        let turn = limits.turn(call.lane).await?;
        retries.waited(asked.elapsed());
        let end = match call.has_alternative {
            true => Instant::now() + alternative_patience(self.config()),
            false => retries.begin(),
        };
        let started = std::time::Instant::now();
        let Ok(followed) = timeout_at(end, self.follow(call)).await else {
            self.client.gave_up(call, started);
            let asked = self.asked(call, &call.url);
            return Err(Error::Unavailable(format!("{asked}: it has not answered in time")).into());
        };
        if matches!(followed, Err(Error::RateLimited { .. })) {
            // By the token service.
            limits.count_refusal();
        }
        let (response, url) = followed?;
        let is_own = if call.tokens == TokenUse::Registry { self.client.is_own(&url) } else { call.is_beside(&url) };
        if self.client.is_own(&url) {
            self.limits.note_quota(response.headers());
        }
        if call.is_answered_by(&response) {
            if limits.lift(call.lane) {
                self.report_hold();
            }
            return Ok(response.map(|body| Inbound::new(body, turn, self.config().idle_timeout)));
        }
        // A refusal by the storage behind a redirect is not the registry's.
        let is_refusal = call.is_refused_by(response.status());
        if is_own && is_refusal && response.status() == StatusCode::TOO_MANY_REQUESTS {
            limits.count_refusal();
        }
        let mut failure = self.failure(call, response, &url).await;
        // Storage behind a redirect and content networks refuse for moments, often without saying for how long.
        if !is_own && matches!(failure.error, Error::RateLimited { .. }) {
            failure.wait.get_or_insert(FIRST_PAUSE);
        }
        if matches!(failure.error, Error::NotFound { .. }) {
            turn.unspend(call.lane);
        }
        if let Some(wait) = failure.wait.filter(|_| is_own && is_refusal) {
            limits.hold(call.lane, wait);
            self.report_hold();
        }
        Err(failure)
    }

    /// Follows redirects, with separate authorization for each host. Also returns the URL that answered.
    async fn follow(&self, call: &Call) -> Result<(Response<Incoming>, Url), Error> {
        let mut url = call.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let response = self.authorized(call, &url).await?;
            if !is_redirect(response.status()) {
                return Ok((response, url));
            }
            url = self.client.redirect(&url, response.headers())?;
        }
        Err(self.client.protocol("more than five redirects"))
    }

    /// Sends the request to one URL, with authorization if required. An authorization obtained earlier that is rejected
    /// in any way is renewed once; after that the rejection counts. Registries answer an expired token with 400 or 403
    /// as well as 401, and do not always repeat where to get another.
    async fn authorized(&self, call: &Call, url: &Url) -> Result<Response<Incoming>, Error> {
        let Some(audience) = call.audience(url) else { return self.ask(call, url, None).await };
        let known = self.tokens.known(&audience);
        let response = self.ask(call, url, known.as_ref()).await?;
        let status = response.status();
        let is_dead = known.is_some() && matches!(status, StatusCode::BAD_REQUEST | StatusCode::FORBIDDEN);
        if !is_dead && status != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        let challenge = Challenge::from_headers(response.headers()).or(known.as_ref().map(Authorization::challenge));
        let Some(challenge) = challenge else { return Ok(response) };
        let fresh = self.tokens.obtain(&self.client, &audience, challenge, known).await?;
        let response = self.ask(call, url, Some(&fresh)).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            self.tokens.forget(&audience, &fresh);
        }
        Ok(response)
    }

    async fn ask(
        &self,
        call: &Call,
        url: &Url,
        authorization: Option<&Authorization>,
    ) -> Result<Response<Incoming>, Error> {
        let request = call.request(authorization).map_err(|error| self.client.protocol(&error.to_string()))?;
        let service = (call.tokens != TokenUse::Registry).then(|| host(&call.url));
        self.client.send(url, service, request).await
    }

    async fn failure(&self, call: &Call, response: Response<Incoming>, from: &Url) -> Failure {
        let status = response.status();
        let host = self.asked(call, from);
        let wait = retry_after(response.headers(), self.client.clock());
        let is_absent = status == StatusCode::NOT_FOUND || call.absent.contains(&status);
        let is_page = is_foreign_page(status, response.headers());
        let page = if is_page { WEB_PAGE } else { "" };
        let said = if is_absent { String::new() } else { words(response.into_body()).await + page };
        let tls_expected = from.scheme() == "http" && status == StatusCode::BAD_REQUEST && said.contains("HTTPS");
        let hint = if tls_expected { "; it expects TLS: write https:// in its `url`" } else { "" };
        let error = match status {
            _ if is_absent => Error::NotFound { is_page },
            StatusCode::UNAUTHORIZED => Error::Unauthorized(format!("{}{said}", self.unauthorized(call, from))),
            StatusCode::FORBIDDEN => Error::Forbidden(format!("{host} refuses this (403){said}")),
            StatusCode::TOO_MANY_REQUESTS => {
                Error::RateLimited { host: host + &said, retry_after: wait.map(|wait| wait.as_secs()) }
            }
            status if is_passing(status) => Error::Unavailable(format!("{host} answered {status}{said}")),
            status
                if status == StatusCode::NOT_IMPLEMENTED
                    || status.is_client_error() && !ABOUT_THE_CONNECTION.contains(&status) =>
            {
                Error::Rejected { status, message: format!("{host} answered {status}{said}{hint}") }
            }
            status => Error::Protocol(format!("{host} answered {status}{said}")),
        };
        Failure { error, wait }
    }

    /// What was asked, for messages: the registry by its name, unless the request is for a service beside it, and where
    /// it is.
    fn asked(&self, call: &Call, url: &Url) -> String {
        if call.is_beside(url) { origin(url) } else { format!("{} at {}", self.config().host, origin(url)) }
    }

    /// The remedy for a 401.
    fn unauthorized(&self, call: &Call, from: &Url) -> String {
        let name = &self.config().host;
        if call.is_beside(from) {
            return format!(
                "{} does not serve this; it gets the credentials of {name} only if it is `notary` of this upstream or its \
                 host is in `realms`",
                host(from)
            );
        }
        if call.tokens != TokenUse::Registry || !self.client.is_own(from) {
            let name = if call.tokens == TokenUse::Registry { name.as_str() } else { host(&call.url) };
            return format!(
                "{name} leads to {}, which does not serve this without credentials; none are sent there",
                host(from)
            );
        }
        let with = if matches!(self.config().auth, Auth::Anonymous) {
            "without credentials; configure `auth` for this upstream if the image is private"
        } else {
            "with the configured credentials"
        };
        format!("{name} does not serve this {with}")
    }
}
