//! The HTTP client for every request that pullgate sends to other services.
//!
//! One connector serves them all: egress proxies, TLS with the system's certificate authorities and configured ones, a
//! time limit for each step, bodies with a bound in bytes, and no connection to a private address that an answer names.
//! It sends single requests; retries, tokens and turns belong to the module that needs them.

mod address;
mod body;
mod connect;
mod environment;
mod failure;
mod redirect;
mod services;
mod tls;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Request, Response, StatusCode, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper_rustls::HttpsConnectorBuilder;
use hyper_util::client::legacy;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioTimer;
use rustls::ClientConfig;
use tokio::time::timeout;

use crate::runtime::Untracked;
pub(crate) use body::{PieceSource, ReceivedBody, read_whole};
use connect::{Connector, TlsBound};
pub(crate) use connect::{Network, Reach};
pub(crate) use environment::{NamedProxy, environment_proxy};
pub(crate) use failure::HttpError;
use failure::no_connection;
pub(crate) use redirect::{
    MAX_REDIRECTS, RedirectError, check_url, is_confidential, is_redirect, redirect_target, with_https,
};
use services::AuxiliaryServices;
pub(crate) use tls::{check_ca, check_system_roots};

/// How long an unused connection is kept.
const POOL_IDLE: Duration = Duration::from_secs(60);
/// How many unused connections are kept for each host: as many as an upstream may have by default (`max_connections`).
/// With fewer, requests that come in waves would open new connections for each wave.
const POOL_SIZE: usize = 32;
/// How much of a download is read at once, in bytes. The allocator requests larger buffers from the kernel each time,
/// which costs a third as much as receiving the bytes.
const READ_BUFFER: usize = 96 * 1024;

/// How a client connects, and its time limits.
#[derive(Clone)]
pub(crate) struct HttpSettings {
    /// The egress proxy, an `http://` URL. `None` uses the proxies of the environment (`HTTPS_PROXY`, `HTTP_PROXY`,
    /// `NO_PROXY`), and an empty text uses no proxy.
    pub(crate) proxy: Option<String>,
    /// A PEM file with certificate authorities to trust besides those of the system.
    pub(crate) ca: Option<PathBuf>,
    /// Whether certificates of configured hosts ([`Reach::Configured`]) are not verified. Those of other hosts always
    /// are.
    pub(crate) insecure: bool,
    /// Whether it is an error if no certificate authority is known.
    pub(crate) needs_roots: bool,
    /// For a connection without TLS: name resolution, TCP and the answer of the egress proxy.
    pub(crate) connect_timeout: Duration,
    /// For the TLS handshake.
    pub(crate) tls_timeout: Duration,
    /// For the head of an answer, the connection included.
    pub(crate) header_timeout: Duration,
}

impl HttpSettings {
    /// Settings with these time limits, the system's certificate authorities, if there are any, and the proxies of the
    /// environment. `connect` limits the connection and, separately, the TLS handshake.
    pub(crate) fn within(connect: Duration, header: Duration) -> Self {
        Self {
            proxy: None,
            ca: None,
            insecure: false,
            needs_roots: false,
            connect_timeout: connect,
            tls_timeout: connect,
            header_timeout: header,
        }
    }
}

/// Sends requests. Cheap to clone.
///
/// Configured hosts, each auxiliary service, and hosts that an answer named have separate connections, so that a
/// connection that only the former may have is never used for the latter.
#[derive(Clone, Debug)]
pub(crate) struct HttpClient {
    configured: ConnectionPool,
    services: Arc<AuxiliaryServices>,
    named: ConnectionPool,
    header_timeout: Duration,
}

type ConnectionPool = legacy::Client<TlsBound, Full<Bytes>>;

impl HttpClient {
    /// # Errors
    /// If the proxy or the CA file cannot be used, or no certificate authority is known and one is needed.
    pub(crate) fn new(settings: &HttpSettings, network: &Network) -> Result<Self, InvalidSettings> {
        let proxies = Arc::new(proxies(settings.proxy.as_deref())?);
        let connector = Connector {
            is_configured: true,
            network: network.clone(),
            proxies,
            timeout: settings.connect_timeout,
            at_home: Arc::default(),
        };
        let named = connector.for_named_hosts();
        let tls = tls::named_hosts(settings)?;
        let limit = settings.connect_timeout + settings.tls_timeout;
        Ok(Self {
            services: Arc::new(AuxiliaryServices::new(connector.clone(), tls.clone(), limit)),
            configured: pool(connector, tls::configured_hosts(settings)?, limit),
            named: pool(named, tls, limit),
            header_timeout: settings.header_timeout,
        })
    }

    /// Sends one request to its absolute URI and waits for the head of the answer. Redirects are answers like any
    /// other; see [`redirect_target`].
    ///
    /// # Errors
    /// [`HttpError::PrivateAddress`], [`HttpError::NoAnswer`], and what prevents a connection.
    pub(crate) async fn send(
        &self,
        reach: Reach<'_>,
        mut request: Request<Full<Bytes>>,
    ) -> Result<Response<Incoming>, HttpError> {
        let headers = request.headers_mut();
        headers.insert(header::USER_AGENT, HeaderValue::from_static(concat!("pullgate/", env!("CARGO_PKG_VERSION"))));
        // Digests and signatures cover the exact bytes, so they must not be encoded in transit.
        headers.insert(header::ACCEPT_ENCODING, HeaderValue::from_static("identity"));
        let service;
        let pool = match reach {
            Reach::Configured => &self.configured,
            Reach::Auxiliary => {
                service = self.services.of(request.uri().host().unwrap_or_default());
                &service.own
            }
            Reach::NamedByAuxiliary(host) => {
                service = self.services.of(host);
                &service.named
            }
            Reach::Named => &self.named,
        };
        match timeout(self.header_timeout, pool.request(request)).await {
            Ok(Ok(response)) => Ok(response),
            Ok(Err(error)) => Err(no_connection(&error)),
            Err(_) => Err(HttpError::NoAnswer(self.header_timeout)),
        }
    }

    /// Sends one request and reads the whole answer, whatever its status: at most `limit` bytes, within `time` in
    /// total. It follows no redirects, so credentials in the request go nowhere else.
    ///
    /// # Errors
    /// See [`HttpError`].
    pub(crate) async fn fetch(
        &self,
        reach: Reach<'_>,
        request: Request<Full<Bytes>>,
        limit: usize,
        time: Duration,
    ) -> Result<(StatusCode, Bytes), HttpError> {
        let exchange = async {
            let response = self.send(reach, request).await?;
            let (head, body) = response.into_parts();
            // One limit covers the exchange, so that none within it decides by chance which error is reported.
            let body = ReceivedBody::new(body, Duration::MAX);
            Ok((head.status, read_whole(body, limit, Duration::MAX).await?))
        };
        timeout(time, exchange).await.unwrap_or(Err(HttpError::NoAnswer(time)))
    }
}

/// The configured proxy, or those of the environment. The connection to a proxy has no TLS, so its URL must be `http`.
fn proxies(configured: Option<&str>) -> Result<Matcher, InvalidSettings> {
    match configured {
        None => Ok(Matcher::from_env()),
        Some("") => Ok(Matcher::builder().build()),
        Some(proxy) => match proxy.parse::<Uri>() {
            Ok(uri) if matches!(uri.scheme_str(), None | Some("http")) && uri.host().is_some() => {
                Ok(Matcher::builder().all(proxy.to_owned()).build())
            }
            _ => Err(InvalidSettings::Proxy),
        },
    }
}

/// Checks a setting for the egress proxy.
///
/// # Errors
/// [`InvalidSettings::Proxy`].
pub(crate) fn check_proxy(configured: Option<&str>) -> Result<(), InvalidSettings> {
    proxies(configured).map(drop)
}

/// The pool drives its own connections. They end with it, and shutdown need not wait for them.
fn pool(connector: Connector, tls: ClientConfig, timeout: Duration) -> ConnectionPool {
    let https = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http().enable_http1();
    legacy::Client::builder(Untracked::new())
        .http1_read_buf_exact_size(READ_BUFFER)
        .pool_idle_timeout(POOL_IDLE)
        .pool_timer(TokioTimer::new())
        .pool_max_idle_per_host(POOL_SIZE)
        .build(TlsBound { https: https.wrap_connector(connector), timeout })
}

/// Why a client cannot be made as configured.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum InvalidSettings {
    /// The CA file.
    #[error("{path}: no certificate authorities can be read: {error}")]
    Ca {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        error: String,
    },
    /// No certificate authority is known.
    #[error("no certificate authorities are installed: {0}; install ca-certificates, or set `ca`")]
    NoRoots(String),
    /// The proxy. Its URL is not repeated, because it may hold a password.
    #[error("the egress proxy must be an http:// URL with a host")]
    Proxy,
}

#[cfg(test)]
pub(crate) mod tests;
