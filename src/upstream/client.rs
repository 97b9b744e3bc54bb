//! Single requests to one upstream: the URLs that they may use, and their error messages.

use std::time::Instant;

use bytes::Bytes;
use http::header::HeaderMap;
use http::{Request, Response, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use url::Url;

use super::Error;
use super::auth::credentials;
use super::config::{Auth, Config, ConfigError};
use super::exchange::{Call, TokenUse};
use super::health::UpstreamHealth;
use super::metrics::UpstreamMetrics;
use crate::http_client::{
    HttpClient, HttpError, HttpSettings, InvalidSettings, Network, Reach, RedirectError, check_url, redirect_target,
};
use crate::runtime::{Clock, RequestTrace, SpanContext};

/// Sends single requests for one upstream.
pub(super) struct UpstreamClient {
    config: Config,
    base: Url,
    http: HttpClient,
    metrics: UpstreamMetrics,
    health: UpstreamHealth,
    clock: Clock,
}

impl UpstreamClient {
    pub(super) fn new(
        config: Config,
        clock: &Clock,
        metrics: UpstreamMetrics,
        network: &Network,
    ) -> Result<Self, ConfigError> {
        let base = config.base_url()?;
        let settings = HttpSettings {
            proxy: config.proxy.clone(),
            ca: config.ca.clone(),
            insecure: config.insecure,
            needs_roots: base.scheme() == "https" && !config.offline,
            connect_timeout: config.connect_timeout,
            tls_timeout: config.tls_timeout,
            header_timeout: config.header_timeout,
        };
        let http = HttpClient::new(&settings, network).map_err(|error| match error {
            InvalidSettings::Ca { path, error } => ConfigError::Ca { path, error },
            InvalidSettings::NoRoots(why) => ConfigError::NoRoots(why),
            InvalidSettings::Proxy => ConfigError::Proxy(config.host.to_string()),
        })?;
        let health = metrics.health(&config.host);
        Ok(Self { http, base, metrics, health, config, clock: clock.clone() })
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    /// The time by which answers are understood.
    pub(super) fn clock(&self) -> &Clock {
        &self.clock
    }

    pub(super) fn base(&self) -> &Url {
        &self.base
    }

    /// Whether this is the registry itself: scheme, host and port.
    pub(super) fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    /// Checks a URL that an answer named, before anything is sent there. Only a registry that is itself asked without
    /// TLS may name a URL without TLS.
    pub(super) fn allow(&self, url: &Url, what: &str) -> Result<(), Error> {
        check_url(url, self.allows_http()).map_err(|problem| self.refused(&format!("{what} {problem}")))
    }

    /// Where a redirect leads, if it may be followed.
    pub(super) fn redirect(&self, from: &Url, headers: &HeaderMap) -> Result<Url, Error> {
        redirect_target(from, headers, self.allows_http()).map_err(|error| match &error {
            RedirectError::NoLocation | RedirectError::NoUrl => self.protocol(&error.to_string()),
            RedirectError::LeavesHttps { to } => {
                self.refused(&format!("a redirect from {} to {} leaves https", host(from), host(to)))
            }
            RedirectError::Unsafe { to, problem } => {
                self.refused(&format!("a redirect from {} to {} {problem}", host(from), host(to)))
            }
        })
    }

    /// Notes an attempt that nothing answered in time: [`send`](Self::send) was dropped, and could not.
    pub(super) fn gave_up(&self, call: &Call, started: Instant) {
        self.metrics.observe(self.config.host.as_str(), &call.method, None, started);
        if call.tokens == TokenUse::Registry {
            self.health.observe(Err("it has not answered in time".to_owned()));
        }
    }

    /// Sends one request to a URL. `service` is the host of the auxiliary service that the request is for; the
    /// configuration or a policy names it.
    pub(super) async fn send(
        &self,
        url: &Url,
        service: Option<&str>,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Error> {
        let is_registry = url.host() == self.base.host();
        let reach = match service {
            None if is_registry => Reach::Configured,
            None => Reach::Named,
            Some(service) if is_registry || host(url) == service => Reach::Auxiliary,
            Some(service) => Reach::NamedByAuxiliary(service),
        };
        *request.uri_mut() = Uri::try_from(url.as_str()).map_err(|error| self.protocol(&error.to_string()))?;
        let call = RequestTrace::call(host(url), request.method().as_str());
        // Not to other hosts, whose addresses an answer names.
        if let Some(call) = call.as_ref().filter(|_| self.is_own(url)) {
            request.headers_mut().extend(call.traceparent().map(|value| (SpanContext::HEADER, value)));
        }
        let (method, started) = (request.method().clone(), Instant::now());
        let outcome = self.http.send(reach, request).await.map_err(|error| self.no_answer(url, &error));
        let status = outcome.as_ref().ok().map(Response::status);
        self.metrics.observe(self.config.host.as_str(), &method, status, started);
        if let Some(call) = call {
            call.answered(status.map(|status| status.as_u16()));
        }
        if service.is_none() && self.is_own(url) {
            self.health.observe(match (&outcome, status) {
                (Err(error), _) => Err(error.to_string()),
                (Ok(_), Some(status)) if status.is_server_error() => Err(format!("it answered {status}")),
                (Ok(_), _) => Ok(()),
            });
        }
        outcome
    }

    /// What is known and reported about the registry.
    pub(super) fn health(&self) -> &UpstreamHealth {
        &self.health
    }

    /// Reports its health from now on, unless it is offline: then nothing is known about the registry.
    pub(super) fn begin(&self) {
        if !self.config.offline {
            self.health.begin();
        }
    }

    /// Stops reporting its health.
    pub(super) fn retire(&self) {
        self.health.retire();
    }

    /// Reports whether required credentials are available. Returns the problem with them.
    pub(super) async fn check_credentials(&self) -> Option<String> {
        if matches!(self.config.auth, Auth::Anonymous) {
            return None;
        }
        let checked = credentials::check(&self.config).await;
        self.health.credentials(checked.clone());
        checked.err()
    }

    /// Reports whether there are credentials where they should be, and returns it. If the registry is down, asks whether
    /// it answers again, so that this is known without a pull.
    pub(super) async fn check(&self) -> bool {
        let has_credentials = self.check_credentials().await.is_none();
        if self.health.is_down() {
            let mut version = self.base.clone();
            version.set_path(&format!("{}/v2/", self.base.path().trim_end_matches('/')));
            // Its outcome is observed.
            let _ = self.send(&version, None, Request::new(Full::default())).await;
        }
        has_credentials
    }

    pub(super) fn protocol(&self, what: &str) -> Error {
        Error::Protocol(format!("{}: {what}", self.config.host))
    }

    fn refused(&self, what: &str) -> Error {
        Error::Refused(format!("{}: {what}", self.config.host))
    }

    fn allows_http(&self) -> bool {
        self.base.scheme() == "http"
    }

    fn no_answer(&self, url: &Url, error: &HttpError) -> Error {
        match error {
            HttpError::PrivateAddress => self.refused(&format!(
                "it sends pullgate to {}, which is, or resolves to, a private address; that is not followed",
                host(url)
            )),
            HttpError::PlainHttp(_) if self.is_own(url) => Error::Unavailable(format!(
                "the registry at {} answers in plain HTTP, not TLS; if that is intended, set `url` of {} to http://{}",
                authority(url),
                self.config.host,
                authority(url)
            )),
            HttpError::NotHttp(_) if self.is_own(url) && url.scheme() == "http" => Error::Unavailable(format!(
                "the registry at {} does not answer in HTTP; if it expects TLS, set `url` of {} to https://{}",
                authority(url),
                self.config.host,
                authority(url)
            )),
            HttpError::HungUp(_) if self.is_own(url) && url.scheme() == "http" => Error::Unavailable(format!(
                "{} at {}: {error}; if it expects TLS, set `url` to https://{}",
                self.config.host,
                origin(url),
                authority(url)
            )),
            error => Error::Unavailable(format!("{} at {}: {error}", self.config.host, origin(url))),
        }
    }
}

/// The host of a URL, for messages. The rest may hold signatures that grant access.
pub(super) fn host(url: &Url) -> &str {
    url.host_str().unwrap_or_default()
}

/// The host of a URL, and its port if it is not the default.
fn authority(url: &Url) -> String {
    url.port().map_or_else(|| host(url).to_owned(), |port| format!("{}:{port}", host(url)))
}

/// Scheme, host and port of a URL, for messages.
pub(super) fn origin(url: &Url) -> String {
    url.origin().ascii_serialization()
}
