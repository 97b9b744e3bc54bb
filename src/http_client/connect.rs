//! Connections. The addresses that are checked are exactly the addresses that are connected to.
//!
//! A host named by a response is resolved here, once, and only its public addresses are tried. A name that resolves to
//! one address for the check and to another for the connection (DNS rebinding) therefore cannot bypass the check.

use std::error::Error;
use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use http::Uri;
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};
use tower_service::Service;

use super::address::is_private;
use super::failure::causes;
use crate::runtime::shown_origin;

/// The delay after which the next address of a name is tried in parallel (RFC 8305 §5).
const STAGGER: Duration = Duration::from_millis(250);
/// The maximum number of addresses of a name that are tried.
const MAX_ADDRESSES: usize = 8;

/// The origin of a request's host name, which determines the addresses that may be connected to.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Reach<'a> {
    /// The operator configured it. Any address may be connected to.
    Configured,
    /// The operator configured it as an auxiliary service, such as a signature store or a notary server. Any address
    /// may be connected to.
    Auxiliary,
    /// A response of the [service](Self::Auxiliary) on this host named it. As [`Named`](Self::Named), but the address
    /// of this service decides whether a private address may be connected to, and not that of the configured host or of
    /// another service.
    NamedByAuxiliary(&'a str),
    /// A response or a document named it. Only public addresses may be connected to, so that a response cannot direct
    /// requests into the gate's own network.
    Named,
}

/// Opens TCP connections, through an egress proxy if one is configured.
#[derive(Clone)]
pub(super) struct Connector {
    /// Whether the operator configured the hosts, so that they may have any address.
    pub(super) is_configured: bool,
    pub(super) network: Network,
    pub(super) proxies: Arc<Matcher>,
    /// The time limit for a connection without TLS: name resolution, TCP and the proxy's response.
    pub(super) timeout: Duration,
    /// Whether the configured host or the service had a private address at the last connection. Its token service and
    /// storage may be in the same network, so hosts that its responses name may then have private addresses too.
    pub(super) at_home: Arc<AtomicBool>,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let connector = self.clone();
        Box::pin(async move {
            match timeout(connector.timeout, connector.connect(&uri)).await {
                Ok(outcome) => outcome,
                Err(_) => Err(format!("no connection within {} s", connector.timeout.as_secs_f32()).into()),
            }
        })
    }
}

impl Connector {
    /// The connector to a configured service.
    pub(super) fn for_service(&self) -> Self {
        Self { is_configured: true, at_home: Arc::default(), ..self.clone() }
    }

    /// The connector to the hosts that responses of this connector's host name.
    pub(super) fn for_named_hosts(&self) -> Self {
        Self { is_configured: false, ..self.clone() }
    }

    async fn connect(&self, uri: &Uri) -> Result<TokioIo<TcpStream>, Box<dyn Error + Send + Sync>> {
        if let Some(proxy) = self.proxies.intercept(uri) {
            return self.tunnel(uri, &proxy).await;
        }
        let found = self.network.resolve(uri).await?;
        let is_home = !found.is_empty() && found.iter().all(|address| is_private(address.ip()));
        if self.is_configured {
            self.at_home.store(is_home, Ordering::Relaxed);
        }
        let allowed: Vec<_> = found.iter().filter(|address| self.may_reach(address.ip())).copied().collect();
        if allowed.is_empty() && !found.is_empty() {
            return Err(PrivateAddress.into());
        }
        Ok(self.network.connect(&allowed).await?)
    }

    /// The proxy resolves names, so only an address literal can be checked here.
    async fn tunnel(&self, uri: &Uri, proxy: &Intercept) -> Result<TokioIo<TcpStream>, Box<dyn Error + Send + Sync>> {
        let address = literal(uri);
        if self.is_configured {
            self.at_home.store(address.is_some_and(is_private), Ordering::Relaxed);
        }
        if address.is_some_and(|address| !self.may_reach(address)) {
            return Err(PrivateAddress.into());
        }
        if proxy.uri().scheme_str() != Some("http") {
            return Err("only http:// egress proxies are supported".into());
        }
        let mut tunnel = Tunnel::new(proxy.uri().clone(), Direct(self.network.clone()));
        if let Some(credentials) = proxy.basic_auth() {
            tunnel = tunnel.with_auth(credentials.clone());
        }
        // Without its user and password.
        let at = shown_origin(&proxy.uri().to_string());
        let failed = |why: String| {
            format!(
                "egress proxy {at}: {why}; it is set as `proxy`, or by HTTPS_PROXY, HTTP_PROXY or ALL_PROXY in the environment"
            )
        };
        tunnel.call(with_port(uri)?).await.map_err(|error| failed(causes(&error)).into())
    }

    fn may_reach(&self, address: IpAddr) -> bool {
        self.is_configured || self.at_home.load(Ordering::Relaxed) || !is_private(address)
    }
}

/// The error for a private address. The client finds it in the chain of causes.
#[derive(Debug, thiserror::Error)]
#[error("a private address")]
pub(super) struct PrivateAddress;

/// The error for a name without an address, with what the system said. The client finds it in the chain of causes.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct UnresolvedName(String);

/// The connection to the proxy. The operator configured it, so it may have any address.
#[derive(Clone)]
struct Direct(Network);

impl Service<Uri> for Direct {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let network = self.0.clone();
        Box::pin(async move { network.connect(&network.resolve(&uri).await?).await })
    }
}

/// Name resolution and TCP. By default, the system's.
///
/// Tests define their own names. Their addresses are checked like any other, but the connection then goes to loopback,
/// so that a test can have a registry with a public address.
#[derive(Clone, Debug, Default)]
pub(crate) struct Network(Option<Arc<Vec<(String, IpAddr)>>>);

impl Network {
    #[cfg(test)]
    pub(crate) fn fixed(names: &[(&str, &str)]) -> Self {
        let parse = |(name, address): &(&str, &str)| (String::from(*name), address.parse().unwrap());
        Self(Some(Arc::new(names.iter().map(parse).collect())))
    }

    async fn resolve(&self, uri: &Uri) -> io::Result<Vec<SocketAddr>> {
        let host = host_of(uri).ok_or_else(|| io::Error::other("the URL has no host"))?;
        let port = port_of(uri);
        if let Some(address) = literal(uri) {
            return Ok(vec![SocketAddr::new(address, port)]);
        }
        if let Some(names) = &self.0 {
            let found = names.iter().filter(|(name, _)| name == host);
            return Ok(found.map(|(_, address)| SocketAddr::new(*address, port)).collect());
        }
        let found = tokio::net::lookup_host((host, port)).await;
        let found = found.map_err(|error| io::Error::new(error.kind(), UnresolvedName(error.to_string())))?;
        Ok(found.take(MAX_ADDRESSES).collect())
    }

    /// Returns the first connection that succeeds. Each address gets a head start over the next.
    async fn connect(&self, addresses: &[SocketAddr]) -> io::Result<TokioIo<TcpStream>> {
        let attempt = |(place, address): (u32, &SocketAddr)| {
            let address = self.place(*address);
            async move {
                sleep(STAGGER * place).await;
                TcpStream::connect(address).await
            }
        };
        let mut attempts: FuturesUnordered<_> = (0..).zip(addresses).map(attempt).collect();
        let mut failed = io::Error::other(UnresolvedName("the name has no address".to_owned()));
        while let Some(outcome) = attempts.next().await {
            match outcome {
                Ok(stream) => {
                    stream.set_nodelay(true)?;
                    return Ok(TokioIo::new(stream));
                }
                Err(error) => failed = error,
            }
        }
        Err(failed)
    }

    fn place(&self, address: SocketAddr) -> SocketAddr {
        if self.0.is_some() { (Ipv4Addr::LOCALHOST, address.port()).into() } else { address }
    }
}

/// The host, without the brackets of an IPv6 address.
fn host_of(uri: &Uri) -> Option<&str> {
    let host = uri.host()?;
    Some(host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host))
}

fn port_of(uri: &Uri) -> u16 {
    uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 })
}

fn literal(uri: &Uri) -> Option<IpAddr> {
    host_of(uri)?.parse().ok()
}

/// The tunnel uses 443 if the port is missing, so the port is always written.
fn with_port(uri: &Uri) -> Result<Uri, http::Error> {
    let authority = format!("{}:{}", uri.host().unwrap_or_default(), port_of(uri));
    Uri::builder().scheme("https").authority(authority).path_and_query("/").build()
}

/// TLS on top of [`Connector`], with a separate time limit, so that a peer that accepts a connection and sends nothing
/// does not block it.
#[derive(Clone)]
pub(super) struct TlsBound {
    pub(super) https: HttpsConnector<Connector>,
    /// The time limit for the whole connection, TLS included.
    pub(super) timeout: Duration,
}

impl Service<Uri> for TlsBound {
    type Response = MaybeHttpsStream<TokioIo<TcpStream>>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.https.poll_ready(context)
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let (connection, limit) = (self.https.call(uri), self.timeout);
        Box::pin(async move {
            match timeout(limit, connection).await {
                Ok(outcome) => outcome,
                Err(_) => Err(format!("no TLS connection within {} s", limit.as_secs_f32()).into()),
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_proxy_request_has_the_default_port_of_the_scheme() {
        for (url, authority) in [
            ("http://a.test/v2/", "a.test:80"),
            ("https://a.test", "a.test:443"),
            ("http://a.test:5000", "a.test:5000"),
            ("http://[::1]/", "[::1]:80"),
        ] {
            assert_eq!(with_port(&url.parse().unwrap()).unwrap().authority().unwrap(), authority);
        }
    }

    #[tokio::test]
    async fn a_private_address_literal_does_not_go_through_the_proxy() {
        let mut connector = Connector {
            is_configured: false,
            network: Network::default(),
            proxies: Arc::new(Matcher::builder().all("http://127.0.0.1:9").build()),
            timeout: Duration::from_secs(5),
            at_home: Arc::default(),
        };
        let error = connector.call("http://169.254.169.254/".parse().unwrap()).await.unwrap_err();
        assert!(error.is::<PrivateAddress>(), "{error}");
        connector.proxies = Arc::new(Matcher::builder().all("https://127.0.0.1:9").build());
        let error = connector.call("http://a.test/".parse().unwrap()).await.unwrap_err();
        assert!(error.to_string().contains("only http://"), "plain text to a TLS port: {error}");
    }
}
