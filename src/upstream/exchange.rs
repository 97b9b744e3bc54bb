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
use super::auth::{Authorization, Tokens};
use super::body::{Inbound, text};
use super::challenge::Challenge;
use super::client::{Client, host};
use super::config::{Auth, Config, ConfigError};
use super::connect::Network;
use super::limits::{Lane, Limits};
use super::metrics::{LimitMetrics, RequestMetrics};
use super::retry::{Failure, Retries, retry_after};
use super::words::words;
use crate::runtime::Tasks;

/// How many redirects are followed.
const MAX_REDIRECTS: usize = 5;

/// 4xx after which the same request may well succeed.
const TOO_EARLY: &[StatusCode] = &[StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_EARLY];
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
    /// What a token must allow: `repository:library/nginx:pull`.
    pub(super) scope: String,
    /// Which answers beside 404 say that there is no such thing.
    pub(super) absent: &'static [StatusCode],
    pub(super) lane: Lane,
    /// Whether another request waits for this one, and has a turn for both.
    pub(super) shares_turn: bool,
    /// Whether the caller asks another way when this fails: trouble is then told at once, and not tried again.
    pub(super) has_alternative: bool,
}

impl Call {
    pub(super) fn new(method: Method, lane: Lane, url: Url, scope: String) -> Self {
        let lane = if method == Method::HEAD { Lane::Look } else { lane };
        Self {
            method,
            url,
            accept: None,
            range_from: None,
            scope,
            absent: &[],
            lane,
            shares_turn: false,
            has_alternative: false,
        }
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

    /// A part is an answer only to those who asked for one.
    fn is_answered_by(&self, status: StatusCode) -> bool {
        status == StatusCode::OK || (status == StatusCode::PARTIAL_CONTENT && self.range_from.is_some())
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

    /// Sends a request, again where that may help, and follows where it leads. Answers are 200, or 206 to a range.
    pub(super) async fn send(&self, call: &Call) -> Result<Response<Inbound>, Error> {
        let mut retries = Retries::new(self.config());
        loop {
            let failure = match self.attempt(call).await {
                Ok(response) => return self.identity(response),
                Err(failure) => failure,
            };
            if call.has_alternative && !failure.error.is_limit() {
                return Err(failure.error);
            }
            let Some(pause) = retries.next(&failure) else { return Err(failure.error) };
            tracing::debug!(upstream = %self.config().host, ?pause, error = %failure.error, "trying again");
            sleep(pause).await;
        }
    }

    /// One try within the limits of the upstream. The answer keeps the turn; nobody has one between two tries.
    async fn attempt(&self, call: &Call) -> Result<Response<Inbound>, Failure> {
        let turn = if call.shares_turn {
            self.limits.refuse_held(call.lane)?;
            None
        } else {
            Some(self.limits.turn(call.lane).await?)
        };
        let (response, is_own) = self.authorized(call).await?;
        if is_own {
            self.limits.note_quota(response.headers());
        }
        if call.is_answered_by(response.status()) {
            self.limits.lift(call.lane);
            return Ok(response.map(|body| Inbound::new(body, turn)));
        }
        // What the storage behind a redirect wants is not the registry's word.
        let is_refusal = matches!(response.status(), StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE);
        let failure = self.failure(call, response).await;
        if let Some(wait) = failure.wait.filter(|_| is_own && is_refusal) {
            self.limits.hold(call.lane, wait);
        }
        Err(failure)
    }

    /// One try, with an authorization where the registry asks for one. Also says whether it was the registry that
    /// answered.
    async fn authorized(&self, call: &Call) -> Result<(Response<Incoming>, bool), Error> {
        let known = self.tokens.known(&call.scope);
        let (response, is_own) = self.follow(call, known.as_ref()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok((response, is_own));
        }
        // What another host asks for, to which the registry has sent us, is not for the registry's credentials.
        let challenge = Challenge::from_headers(response.headers()).filter(|_| is_own);
        let Some(challenge) = challenge else { return Ok((response, is_own)) };
        let fresh = self.tokens.obtain(&self.client, &call.scope, challenge, known).await?;
        let (response, is_own) = self.follow(call, Some(&fresh)).await?;
        if response.status() == StatusCode::UNAUTHORIZED {
            self.tokens.forget(&call.scope, &fresh);
        }
        Ok((response, is_own))
    }

    /// Follows redirects; the authorization stays with the registry itself. Also says whether it was the registry that
    /// answered.
    async fn follow(
        &self,
        call: &Call,
        authorization: Option<&Authorization>,
    ) -> Result<(Response<Incoming>, bool), Error> {
        let mut url = call.url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let is_own = self.client.is_own(&url);
            let request = call.request(authorization.filter(|_| is_own));
            let request = request.map_err(|error| self.client.protocol(&error.to_string()))?;
            let response = self.client.send(&url, request).await?;
            if !is_redirect(response.status()) {
                return Ok((response, is_own));
            }
            url = self.next(&url, &response)?;
        }
        Err(self.client.protocol("more than five redirects"))
    }

    fn next(&self, from: &Url, response: &Response<Incoming>) -> Result<Url, Error> {
        let location = text(response.headers(), &header::LOCATION);
        let location = location.ok_or_else(|| self.client.protocol("a redirect to nowhere"))?;
        let to = from.join(&location).map_err(|_| self.client.protocol("a redirect to something that is no URL"))?;
        self.client.allow(&to, &format!("a redirect from {} to {}", host(from), host(&to)))?;
        if from.scheme() == "https" && to.scheme() != "https" {
            let (host, from, to) = (&self.config().host, host(from), host(&to));
            return Err(Error::Refused(format!("{host}: a redirect from {from} to {to} leaves https")));
        }
        Ok(to)
    }

    fn identity(&self, response: Response<Inbound>) -> Result<Response<Inbound>, Error> {
        match text(response.headers(), &header::CONTENT_ENCODING) {
            Some(encoding) if !encoding.eq_ignore_ascii_case("identity") => {
                Err(self.client.protocol("an encoded answer, which was not asked for"))
            }
            _ => Ok(response),
        }
    }

    async fn failure(&self, call: &Call, response: Response<Incoming>) -> Failure {
        let (host, status) = (&self.config().host, response.status());
        let wait = retry_after(response.headers());
        let is_absent = status == StatusCode::NOT_FOUND || call.absent.contains(&status);
        let said = if is_absent { String::new() } else { words(status, response.into_body()).await };
        let error = match status {
            _ if is_absent => Error::NotFound,
            StatusCode::UNAUTHORIZED => {
                let with = if matches!(self.config().auth, Auth::Anonymous) {
                    "without credentials; configure `auth` for this upstream if the image is private"
                } else {
                    "with the credentials that are configured"
                };
                Error::Unauthorized(format!("{host} does not give this {with}{said}"))
            }
            StatusCode::FORBIDDEN => Error::Forbidden(format!("{host} refuses this (403){said}")),
            StatusCode::TOO_MANY_REQUESTS => Error::RateLimited { retry_after: wait.map(|wait| wait.as_secs()) },
            status if status.is_server_error() || TOO_EARLY.contains(&status) => {
                Error::Unavailable(format!("{host} answered {status}"))
            }
            status if status.is_client_error() && !ABOUT_THE_CONNECTION.contains(&status) => {
                Error::Rejected { status, message: format!("{host} answered {status}{said}") }
            }
            status => Error::Protocol(format!("{host} answered {status}")),
        };
        Failure { error, wait }
    }
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}
