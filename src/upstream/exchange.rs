//! One request and its answer: retries, redirects, authorization.

use std::sync::Arc;

use bytes::Bytes;
use http::header;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use tokio::time::sleep;
use url::Url;

use super::Error;
use super::answer::body::Inbound;
use super::answer::words::words;
use super::auth::challenge::Challenge;
use super::auth::{Audience, Authorization, Tokens};
use super::config::{Auth, Config, ConfigError};
use super::connection::client::{Client, MAX_REDIRECTS, host, is_redirect};
use super::connection::connect::Network;
use super::headers::content_range;
use super::limits::{Lane, Limits};
use super::metrics::{LimitMetrics, RequestMetrics};
use super::retry::{Failure, Retries, is_passing, retry_after};
use crate::oci::Repository;
use crate::runtime::Tasks;

/// 4xx about how this client speaks to the registry, or to a proxy before it: no client of the gate can change that.
const ABOUT_THE_CONNECTION: &[StatusCode] = &[
    StatusCode::PROXY_AUTHENTICATION_REQUIRED,
    StatusCode::LENGTH_REQUIRED,
    StatusCode::PRECONDITION_FAILED,
    StatusCode::RANGE_NOT_SATISFIABLE,
    StatusCode::EXPECTATION_FAILED,
    StatusCode::MISDIRECTED_REQUEST,
    StatusCode::UPGRADE_REQUIRED,
];

/// A request, before anybody's credentials are on it.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) url: Url,
    pub(super) accept: Option<&'static str>,
    pub(super) range_from: Option<u64>,
    /// Whose content is asked for, which is what a token must allow.
    pub(super) repository: Repository,
    /// Which answers beside 404 say that there is no such thing.
    pub(super) absent: &'static [StatusCode],
    pub(super) lane: Lane,
    /// Whether the caller asks another way when this fails: any trouble is then told at once, and not tried again.
    pub(super) has_alternative: bool,
}

impl Call {
    pub(super) fn new(method: Method, lane: Lane, url: Url, repository: Repository) -> Self {
        let lane = if method == Method::HEAD { Lane::Look } else { lane };
        Self { method, url, accept: None, range_from: None, repository, absent: &[], lane, has_alternative: false }
    }

    fn request(&self, authorization: Option<&Authorization>) -> Result<Request<Full<Bytes>>, http::Error> {
        let mut request = Request::builder().method(self.method.clone());
        if let Some(accept) = self.accept {
            request = request.header(header::ACCEPT, accept);
        }
        if let Some(from) = self.range_from {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, &authorization.value);
        }
        request.body(Full::default())
    }

    /// Whether this says that the registry wants to be left alone. Some do not serve HEAD or parts and say 503, or 429
    /// of parts; the caller then asks for all of it, and that answer counts.
    fn is_refused_by(&self, status: StatusCode) -> bool {
        match status {
            StatusCode::TOO_MANY_REQUESTS => self.range_from.is_none(),
            StatusCode::SERVICE_UNAVAILABLE => self.range_from.is_none() && self.method != Method::HEAD,
            _ => false,
        }
    }

    /// A part, or that there is none, is an answer only to those who asked for one; a part that is the whole is one to
    /// anybody, and so is what a front changed by its own account (RFC 9110 §15.3.4), since the digest decides.
    fn is_answered_by<B>(&self, response: &Response<B>) -> bool {
        let whole = || {
            content_range(response.headers()).is_some_and(|(span, total)| span.start == 0 && total == Some(span.end))
        };
        match response.status() {
            StatusCode::OK | StatusCode::NON_AUTHORITATIVE_INFORMATION => true,
            StatusCode::PARTIAL_CONTENT => self.range_from.is_some() || whole(),
            StatusCode::RANGE_NOT_SATISFIABLE => self.range_from.is_some(),
            _ => false,
        }
    }
}

/// The HTTP side of one upstream.
pub(super) struct Exchange {
    client: Arc<Client>,
    tokens: Tokens,
    limits: Arc<Limits>,
}

impl Exchange {
    pub(super) fn new(
        config: Config,
        tasks: &Tasks,
        (metrics, limit_metrics): (RequestMetrics, LimitMetrics),
        network: &Network,
    ) -> Result<Self, ConfigError> {
        let limits = Limits::new(&config, limit_metrics);
        let client = Arc::new(Client::new(config, metrics, network)?);
        Ok(Self { client, tokens: Tokens::new(tasks.clone()), limits })
    }

    pub(super) fn config(&self) -> &Config {
        self.client.config()
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Sends a request, again where that may help, and follows where it leads. Answers are 200, or 206 and 416
    /// to a range. What `Content-Encoding` says is not looked at: the bytes have their digest or they do not.
    pub(super) async fn send(&self, call: &Call) -> Result<Response<Inbound>, Error> {
        let mut retries = Retries::new(self.config());
        loop {
            let failure = match self.attempt(call).await {
                Ok(response) => return Ok(response),
                Err(failure) => failure,
            };
            if call.has_alternative {
                return Err(failure.error);
            }
            let Some(pause) = retries.next(&failure) else { return Err(failure.error) };
            tracing::debug!(upstream = %self.config().host, ?pause, error = %failure.error, "trying again");
            sleep(pause).await;
        }
    }

    /// One try within the limits of the upstream. The answer keeps the turn; nobody has one between two tries.
    async fn attempt(&self, call: &Call) -> Result<Response<Inbound>, Failure> {
        let turn = self.limits.turn(call.lane).await?;
        let (response, url) = self.follow(call).await?;
        let is_own = self.client.is_own(&url);
        if is_own {
            self.limits.note_quota(response.headers());
        }
        if call.is_answered_by(&response) {
            self.limits.lift(call.lane);
            return Ok(response.map(|body| Inbound::new(body, Some(turn))));
        }
        // What the storage behind a redirect wants is not the registry's word.
        let is_refusal = call.is_refused_by(response.status());
        let failure = self.failure(call, response, &url).await;
        if let Some(wait) = failure.wait.filter(|_| is_own && is_refusal) {
            self.limits.hold(call.lane, wait);
        }
        Err(failure)
    }

    /// Follows redirects, with the authorization that each place has for itself. Also says who answered.
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

    /// Asks one place, with an authorization where it wants one. One that was obtained before and is refused in any way
    /// is obtained once more; then the refusal counts. Registries say 400 and 403 of a dead token as well as 401, and
    /// not all of them say again where to get another.
    async fn authorized(&self, call: &Call, url: &Url) -> Result<Response<Incoming>, Error> {
        let audience = Audience::new(url, &call.repository);
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
        self.client.send(url, request).await
    }

    async fn failure(&self, call: &Call, response: Response<Incoming>, from: &Url) -> Failure {
        let (host, status) = (&self.config().host, response.status());
        let wait = retry_after(response.headers());
        let is_absent = status == StatusCode::NOT_FOUND || call.absent.contains(&status);
        let said = if is_absent { String::new() } else { words(response.into_body()).await };
        let error = match status {
            _ if is_absent => Error::NotFound,
            StatusCode::UNAUTHORIZED => Error::Unauthorized(format!("{}{said}", self.unauthorized(from))),
            StatusCode::FORBIDDEN => Error::Forbidden(format!("{host} refuses this (403){said}")),
            StatusCode::TOO_MANY_REQUESTS => Error::RateLimited { retry_after: wait.map(|wait| wait.as_secs()) },
            status if is_passing(status) => Error::Unavailable(format!("{host} answered {status}{said}")),
            status
                if status == StatusCode::NOT_IMPLEMENTED
                    || status.is_client_error() && !ABOUT_THE_CONNECTION.contains(&status) =>
            {
                Error::Rejected { status, message: format!("{host} answered {status}{said}") }
            }
            status => Error::Protocol(format!("{host} answered {status}{said}")),
        };
        Failure { error, wait }
    }

    /// What to do about a 401.
    fn unauthorized(&self, from: &Url) -> String {
        let name = &self.config().host;
        if !self.client.is_own(from) {
            return format!(
                "{name} leads to {}, which does not give this without credentials; none go there",
                host(from)
            );
        }
        let with = if matches!(self.config().auth, Auth::Anonymous) {
            "without credentials; configure `auth` for this upstream if the image is private"
        } else {
            "with the credentials that are configured"
        };
        format!("{name} does not give this {with}")
    }
}
