//! Sends single requests: connections, mandatory headers, time limits.

use std::error::Error as StdError;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderValue};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioTimer;
use rustls::ClientConfig;
use tokio::time::timeout;
use url::Url;

use super::connect::{Connector, Network, PrivateAddress, Reach, TlsBound, causes};
use super::tls;
use crate::runtime::Untracked;
use crate::upstream::Error;
use crate::upstream::config::{Config, ConfigError};
use crate::upstream::headers::text;
use crate::upstream::metrics::RequestMetrics;

/// How long an idle connection is kept.
const POOL_IDLE: Duration = Duration::from_secs(60);
/// The maximum number of idle connections per host.
const POOL_SIZE: usize = 16;
/// How much of a download is read at once, in bytes. The allocator gets larger buffers from the kernel anew each time,
/// which costs a third of what receiving the bytes costs.
const READ_BUFFER: usize = 96 * 1024;
/// The maximum number of redirects.
pub(in crate::upstream) const MAX_REDIRECTS: usize = 5;

/// Sends single requests for one upstream. The registry's own host and all other hosts use separate connection pools,
/// so that a connection that only the former may use is never used for the latter.
pub(in crate::upstream) struct Client {
    config: Config,
    base: Url,
    own: legacy::Client<TlsBound, Full<Bytes>>,
    named: legacy::Client<TlsBound, Full<Bytes>>,
    metrics: RequestMetrics,
}

impl Client {
    pub(in crate::upstream) fn new(
        config: Config,
        metrics: RequestMetrics,
        network: &Network,
    ) -> Result<Self, ConfigError> {
        let base = base(&config)?;
        let connector = Connector {
            reach: Reach::Own,
            network: network.clone(),
            proxies: Arc::new(proxies(&config)?),
            timeout: config.connect_timeout,
            at_home: Arc::new(AtomicBool::new(false)),
        };
        let named = Connector { reach: Reach::Named, ..connector.clone() };
        let client = |connector, tls| {
            let timeout = config.connect_timeout + config.tls_timeout;
            pool(TlsBound { https: https(connector, tls), timeout })
        };
        let (own, named) = (client(connector, tls::own_host(&config)?), client(named, tls::other_hosts(&config)?));
        Ok(Self { own, named, base, metrics, config })
    }

    pub(in crate::upstream) fn config(&self) -> &Config {
        &self.config
    }

    pub(in crate::upstream) fn base(&self) -> &Url {
        &self.base
    }

    /// Whether a URL refers to the registry itself, by scheme, host and port.
    pub(in crate::upstream) fn is_own(&self, url: &Url) -> bool {
        url.origin() == self.base.origin()
    }

    /// Checks a URL from a response before anything is sent there.
    pub(in crate::upstream) fn allow(&self, url: &Url, what: &str) -> Result<(), Error> {
        let refused = |why: &str| Err(Error::Refused(format!("{}: {what} {why}", self.config.host)));
        match url.scheme() {
            _ if url.host().is_none() => refused("names no host"),
            _ if !url.username().is_empty() || url.password().is_some() => refused("contains credentials"),
            "https" => Ok(()),
            "http" if self.base.scheme() == "http" => Ok(()),
            _ => refused("is not https"),
        }
    }

    /// The target of a redirect, if it may be followed: never from https to http. A server behind a TLS-terminating
    /// proxy may name itself with http; the same host is then contacted with https.
    pub(in crate::upstream) fn redirect(&self, from: &Url, headers: &HeaderMap) -> Result<Url, Error> {
        let location =
            text(headers, &header::LOCATION).ok_or_else(|| self.protocol("a redirect without a Location"))?;
        let mut to = from.join(&location).map_err(|_| self.protocol("a redirect to an invalid URL"))?;
        if from.scheme() == "https" && from.host() == to.host() {
            to = secured(to);
        }
        self.allow(&to, &format!("a redirect from {} to {}", host(from), host(&to)))?;
        if from.scheme() == "https" && to.scheme() != "https" {
            let (name, from, to) = (&self.config.host, host(from), host(&to));
            return Err(Error::Refused(format!("{name}: a redirect from {from} to {to} leaves https")));
        }
        Ok(to)
    }

    /// Sends one request to its URL.
    pub(in crate::upstream) async fn send(
        &self,
        url: &Url,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, Error> {
        *request.uri_mut() = Uri::try_from(url.as_str()).map_err(|error| self.protocol(&error.to_string()))?;
        let headers = request.headers_mut();
        headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("pullgate/", env!("CARGO_PKG_VERSION"))));
        // Content is named by its digest, so it must not be encoded in transit.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let client = if url.host() == self.base.host() { &self.own } else { &self.named };
        let (method, started) = (request.method().clone(), Instant::now());
        let outcome = match timeout(self.config.header_timeout, client.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(self.no_answer(url, &error)),
            Err(_) => {
                let limit = self.config.header_timeout.as_secs_f32();
                Err(Error::Unavailable(format!("{}: no answer within {limit} s", host(url))))
            }
        };
        let status = outcome.as_ref().ok().map(Response::status);
        self.metrics.observe(self.config.host.as_str(), &method, status, started);
        outcome
    }

    pub(in crate::upstream) fn protocol(&self, what: &str) -> Error {
        Error::Protocol(format!("{}: {what}", self.config.host))
    }

    fn no_answer(&self, url: &Url, error: &(dyn StdError + 'static)) -> Error {
        let mut chain = std::iter::successors(Some(error), |&error| error.source());
        if chain.any(<dyn StdError>::is::<PrivateAddress>) {
            return Error::Refused(format!(
                "{}: it sends pullgate to {}, which is, or resolves to, a private address; that is not followed",
                self.config.host,
                host(url)
            ));
        }
        Error::Unavailable(format!("{}: {}", host(url), causes(error)))
    }
}

/// The host of a URL, for messages; the rest may contain signatures that grant access.
pub(in crate::upstream) fn host(url: &Url) -> &str {
    url.host_str().unwrap_or_default()
}

pub(in crate::upstream) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// The same URL with https instead of http.
pub(in crate::upstream) fn secured(mut url: Url) -> Url {
    if url.scheme() == "http" {
        // Fails only for other schemes.
        let _ = url.set_scheme("https");
    }
    url
}

fn base(config: &Config) -> Result<Url, ConfigError> {
    let wrong = || ConfigError::Url(config.host.to_string());
    let url = Url::parse(&config.url).map_err(|_| wrong())?;
    let is_plain = url.username().is_empty() && url.password().is_none() && url.query().is_none();
    let is_http = matches!(url.scheme(), "http" | "https") && url.host().is_some();
    if is_http && is_plain && url.fragment().is_none() { Ok(url) } else { Err(wrong()) }
}

/// Uses the environment if nothing is configured. The connection to a proxy is not encrypted, so its scheme must be
/// `http`.
fn proxies(config: &Config) -> Result<Matcher, ConfigError> {
    match &config.proxy {
        None => Ok(Matcher::from_env()),
        Some(proxy) if proxy.is_empty() => Ok(Matcher::builder().build()),
        Some(proxy) => match proxy.parse::<Uri>() {
            Ok(uri) if matches!(uri.scheme_str(), None | Some("http")) && uri.host().is_some() => {
                Ok(Matcher::builder().all(proxy.clone()).build())
            }
            _ => Err(ConfigError::Proxy(config.host.to_string())),
        },
    }
}

fn https(connector: Connector, tls: ClientConfig) -> hyper_rustls::HttpsConnector<Connector> {
    HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1().wrap_connector(connector)
}

/// The pool runs its own connections; they end with it, and hold nothing that shutdown must wait for.
fn pool(connector: TlsBound) -> legacy::Client<TlsBound, Full<Bytes>> {
    legacy::Client::builder(Untracked::new())
        .http1_read_buf_exact_size(READ_BUFFER)
        .pool_idle_timeout(POOL_IDLE)
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(POOL_SIZE)
        .build(connector)
}
