//! One request and its answer: retries, redirects, authorization.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioExecutor;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::Unit;

use super::auth::Tokens;
use super::config::{Auth, Config, ConfigError};
use super::connect::{Connector, PrivateAddress, Reach, Resolver, host_of, is_private};
use super::{Error, text};
use crate::runtime::{Metrics, Tasks};

/// How many redirects are followed.
const MAX_REDIRECTS: usize = 5;
/// A `Retry-After` longer than this is not waited for, but passed on to the client.
const MAX_WAIT: Duration = Duration::from_secs(5);
/// The first pause between two tries; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);

/// A request, before anybody's credentials are on it.
#[derive(Clone, Debug)]
pub(super) struct Call {
    pub(super) method: Method,
    pub(super) uri: Uri,
    pub(super) accept: Option<&'static str>,
    pub(super) range_from: Option<u64>,
    /// What a token must allow: `repository:library/nginx:pull`.
    pub(super) scope: String,
}

impl Call {
    pub(super) fn new(method: Method, uri: Uri, scope: String) -> Self {
        Self { method, uri, accept: None, range_from: None, scope }
    }
}

type Body = Full<Bytes>;
type HttpClient = Client<HttpsConnector<Connector>, Body>;

/// The HTTP side of one upstream.
pub(super) struct Exchange {
    sender: Arc<Sender>,
    tokens: Tokens,
}

/// Sends single requests; shared with token requests that outlive who asked.
pub(super) struct Sender {
    config: Config,
    base: Uri,
    own: HttpClient,
    foreign: HttpClient,
    resolver: Resolver,
    metrics: ExchangeMetrics,
}

impl Exchange {
    pub(super) fn new(config: Config, tasks: &Tasks, metrics: ExchangeMetrics) -> Result<Self, ConfigError> {
        Self::with_resolver(config, tasks, metrics, Resolver::default())
    }

    pub(super) fn with_resolver(
        config: Config,
        tasks: &Tasks,
        metrics: ExchangeMetrics,
        resolver: Resolver,
    ) -> Result<Self, ConfigError> {
        let base: Uri = config.url.parse().map_err(|_| ConfigError::Url(config.url.clone()))?;
        if !matches!(base.scheme_str(), Some("http" | "https")) || base.host().is_none() {
            return Err(ConfigError::Url(config.url.clone()));
        }
        let tls = super::tls::client_config(&config)?;
        let proxies = Arc::new(proxies(&config)?);
        let client = |reach| {
            let connector = Connector {
                reach,
                resolver: resolver.clone(),
                proxies: proxies.clone(),
                timeout: config.connect_timeout,
            };
            let https = HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_or_http().enable_http1();
            Client::builder(TokioExecutor::new())
                .pool_idle_timeout(Duration::from_secs(60))
                .pool_timer(hyper_util::rt::TokioTimer::new())
                .pool_max_idle_per_host(16)
                .build(https.wrap_connector(connector))
        };
        let (own, foreign) = (client(Reach::Any), client(Reach::Public));
        let sender = Arc::new(Sender { own, foreign, base, resolver, metrics, config });
        Ok(Self { sender, tokens: Tokens::new(tasks.clone()) })
    }

    pub(super) fn config(&self) -> &Config {
        &self.sender.config
    }

    pub(super) fn base(&self) -> &Uri {
        &self.sender.base
    }

    pub(super) fn sender(&self) -> Arc<Sender> {
        self.sender.clone()
    }

    /// Sends a request, again where that may help, and follows where it leads. Answers are 200 or 206.
    pub(super) async fn send(&self, call: Call) -> Result<Response<Incoming>, Error> {
        let mut pause = FIRST_PAUSE;
        let mut attempt = 1;
        loop {
            let outcome = self.authorized(&call).await;
            let (error, wait) = match outcome {
                Ok(response) if matches!(response.status(), StatusCode::OK | StatusCode::PARTIAL_CONTENT) => {
                    return self.identity(response);
                }
                Ok(response) => self.failure(&response),
                Err(error) => (error, None),
            };
            let wait = match (&error, wait) {
                (Error::RateLimited { .. }, Some(wait)) if wait > MAX_WAIT => return Err(error),
                (error, _) if attempt >= self.config().attempts || !error.is_temporary() => return Err(error.clone()),
                (_, Some(wait)) => wait,
                (_, None) => jittered(pause),
            };
            tracing::debug!(upstream = %self.config().host, attempt, %error, "trying again");
            tokio::time::sleep(wait).await;
            attempt += 1;
            pause *= 2;
        }
    }

    /// One try, with a token where the registry asks for one.
    async fn authorized(&self, call: &Call) -> Result<Response<Incoming>, Error> {
        let known = self.tokens.known(&call.scope);
        let response = self.follow(call, known.clone()).await?;
        if response.status() != StatusCode::UNAUTHORIZED {
            return Ok(response);
        }
        // The token may have ended early, or there was none.
        let challenges = response.headers().get_all(header::WWW_AUTHENTICATE);
        let challenges: Vec<String> =
            challenges.iter().filter_map(|value| value.to_str().ok()).map(str::to_owned).collect();
        let fresh = self.tokens.obtain(self, &call.scope, &challenges, known.as_ref()).await?;
        match fresh {
            Some(authorization) => self.follow(call, Some(authorization)).await,
            None => Ok(response),
        }
    }

    /// Follows redirects; the authorization stays with the registry's own host.
    async fn follow(&self, call: &Call, authorization: Option<HeaderValue>) -> Result<Response<Incoming>, Error> {
        let mut uri = call.uri.clone();
        for _ in 0..=MAX_REDIRECTS {
            let is_own = self.sender.is_own(&uri);
            let response = self.once(call, &uri, authorization.as_ref().filter(|_| is_own)).await?;
            if !response.status().is_redirection() || response.status() == StatusCode::NOT_MODIFIED {
                return Ok(response);
            }
            uri = self.next(&uri, &response)?;
        }
        Err(self.protocol("more than five redirects"))
    }

    fn next(&self, from: &Uri, response: &Response<Incoming>) -> Result<Uri, Error> {
        let location =
            text(response.headers(), &header::LOCATION).ok_or_else(|| self.protocol("a redirect to nowhere"))?;
        let to: Uri = location.parse().map_err(|_| self.protocol("a redirect to something that is no URL"))?;
        let to = match to.scheme() {
            Some(_) => to,
            None => {
                let (scheme, authority) =
                    (from.scheme_str().unwrap_or("https"), from.authority().map_or("", |a| a.as_str()));
                let absolute = format!("{scheme}://{authority}{location}");
                absolute.parse().map_err(|_| self.protocol("a redirect to something that is no URL"))?
            }
        };
        match (from.scheme_str(), to.scheme_str()) {
            (_, Some("https")) | (Some("http"), Some("http")) => Ok(to),
            _ => Err(Error::Refused(format!("{}: a redirect from https to {to} is not followed", self.config().host))),
        }
    }

    async fn once(
        &self,
        call: &Call,
        uri: &Uri,
        authorization: Option<&HeaderValue>,
    ) -> Result<Response<Incoming>, Error> {
        let mut request = Request::builder().method(call.method.clone()).uri(uri.clone());
        if let Some(accept) = call.accept {
            request = request.header(header::ACCEPT, accept);
        }
        if let Some(from) = call.range_from {
            request = request.header(header::RANGE, format!("bytes={from}-"));
        }
        if let Some(authorization) = authorization {
            request = request.header(header::AUTHORIZATION, authorization);
        }
        let request = request.body(Body::default()).map_err(|error| self.protocol(&error.to_string()))?;
        self.sender.request(request).await
    }

    fn identity(&self, response: Response<Incoming>) -> Result<Response<Incoming>, Error> {
        match text(response.headers(), &header::CONTENT_ENCODING).as_deref() {
            None | Some("identity") => Ok(response),
            Some(encoding) => Err(self.protocol(&format!("an answer encoded as {encoding}, which was not asked for"))),
        }
    }

    fn failure(&self, response: &Response<Incoming>) -> (Error, Option<Duration>) {
        let host = &self.config().host;
        let retry_after = text(response.headers(), &header::RETRY_AFTER).and_then(|value| retry_after(&value));
        let error = match response.status() {
            StatusCode::NOT_FOUND => Error::NotFound,
            StatusCode::UNAUTHORIZED => {
                let with = if matches!(self.config().auth, Auth::Anonymous) {
                    "without credentials; configure `auth` for this upstream if the image is private"
                } else {
                    "with the credentials that are configured"
                };
                Error::Unauthorized(format!("{host} does not give this {with}"))
            }
            StatusCode::FORBIDDEN => Error::Forbidden(format!("{host} refuses this (403)")),
            StatusCode::TOO_MANY_REQUESTS => Error::RateLimited { retry_after: retry_after.map(|wait| wait.as_secs()) },
            status if status.is_server_error() => Error::Unavailable(format!("{host} answered {status}")),
            status => Error::Protocol(format!("{host} answered {status}")),
        };
        (error, retry_after)
    }

    pub(super) fn protocol(&self, what: &str) -> Error {
        Error::Protocol(format!("{}: {what}", self.config().host))
    }
}

impl Sender {
    /// Sends one request to wherever it says, by the client that its host calls for.
    pub(super) async fn request(&self, mut request: Request<Body>) -> Result<Response<Incoming>, Error> {
        let headers = request.headers_mut();
        headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("pullgate/", env!("CARGO_PKG_VERSION"))));
        // Bytes are named by their digest, so nobody may encode them on the way.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let client =
            if self.is_own(request.uri()) || self.is_in_private_network().await { &self.own } else { &self.foreign };
        let (method, host, started) =
            (request.method().clone(), request.uri().host().unwrap_or_default().to_owned(), Instant::now());
        let answered = tokio::time::timeout(self.config.header_timeout, client.request(request)).await;
        let outcome = match answered {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(self.connection_error(&host, &error)),
            Err(_) => Err(Error::Unavailable(format!(
                "{host}: no answer within {} s",
                self.config.header_timeout.as_secs_f32()
            ))),
        };
        self.metrics.observe(self.config.host.as_str(), &method, outcome.as_ref().ok().map(Response::status), started);
        outcome
    }

    fn is_own(&self, uri: &Uri) -> bool {
        uri.scheme() == self.base.scheme() && uri.authority() == self.base.authority()
    }

    /// A registry on a private network may well have its token service and its storage there too.
    async fn is_in_private_network(&self) -> bool {
        let Some(host) = host_of(&self.base) else { return false };
        if let Ok(address) = host.parse() {
            return is_private(address);
        }
        let found = tokio::time::timeout(self.config.connect_timeout, self.resolver.resolve(host, 443)).await;
        found.is_ok_and(|found| found.is_ok_and(|found| !found.is_empty() && found.iter().all(|a| is_private(a.ip()))))
    }

    fn connection_error(&self, host: &str, error: &hyper_util::client::legacy::Error) -> Error {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        let mut words = Vec::new();
        while let Some(current) = cause {
            let inner = current.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
            if current.is::<PrivateAddress>()
                || inner.is_some_and(<dyn std::error::Error + Send + Sync>::is::<PrivateAddress>)
            {
                return Error::Refused(format!(
                    "{}: it sends pullgate to {host}, which is, or resolves to, a private address; that is not followed",
                    self.config.host
                ));
            }
            words.push(current.to_string());
            cause = current.source();
        }
        words.dedup();
        Error::Unavailable(format!("{host}: {}", words.join(": ")))
    }
}

/// Seconds; the date form of RFC 9110 §10.2.3 is rare and counts as "long".
fn retry_after(value: &str) -> Option<Duration> {
    match value.trim().parse() {
        Ok(seconds) => Some(Duration::from_secs(seconds)),
        Err(_) => (!value.trim().is_empty()).then_some(Duration::from_secs(60)),
    }
}

/// Up to half as long again, so that those who failed together do not come back together.
fn jittered(pause: Duration) -> Duration {
    let nanos = Instant::now().elapsed().subsec_nanos() ^ std::process::id();
    pause + pause.mul_f64(f64::from(nanos % 512) / 1024.0)
}

fn proxies(config: &Config) -> Result<Matcher, ConfigError> {
    match &config.proxy {
        None => Ok(Matcher::from_env()),
        Some(proxy) if proxy.is_empty() => Ok(Matcher::builder().build()),
        Some(proxy) => {
            let uri: Uri = proxy.parse().map_err(|_| ConfigError::Proxy(proxy.clone()))?;
            uri.host().ok_or_else(|| ConfigError::Proxy(proxy.clone()))?;
            Ok(Matcher::builder().all(proxy.clone()).build())
        }
    }
}

/// What is counted of requests to upstreams.
#[derive(Clone)]
pub(super) struct ExchangeMetrics {
    requests: Family<RequestLabels, Counter>,
    seconds: Family<UpstreamLabels, Histogram, fn() -> Histogram>,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct RequestLabels {
    upstream: String,
    method: String,
    status: u16,
}

#[derive(Clone, Debug, EncodeLabelSet, Eq, Hash, PartialEq)]
struct UpstreamLabels {
    upstream: String,
}

impl ExchangeMetrics {
    pub(super) fn new(metrics: &Metrics) -> Self {
        let histogram: fn() -> Histogram = || Histogram::new(exponential_buckets(0.001, 3.0, 10));
        let seconds = Family::new_with_constructor(histogram);
        let help = "Requests to upstreams; status 0 is no answer";
        Self {
            requests: metrics.register("upstream_requests", help, Family::default()),
            seconds: metrics.register_with_unit(
                "upstream_request",
                "Until the answer's headers",
                Unit::Seconds,
                seconds,
            ),
        }
    }

    fn observe(&self, upstream: &str, method: &Method, status: Option<StatusCode>, started: Instant) {
        let status = status.map_or(0, |status| status.as_u16());
        let labels = RequestLabels { upstream: upstream.to_owned(), method: method.to_string(), status };
        self.requests.get_or_create(&labels).inc();
        let labels = UpstreamLabels { upstream: upstream.to_owned() };
        self.seconds.get_or_create(&labels).observe(started.elapsed().as_secs_f64());
    }
}
