//! Connections: where they may go is checked on the very addresses that are connected to.

use std::future::Future;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use http::Uri;
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::proxy::matcher::Matcher;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tower_service::Service;

/// What an address must be.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Reach {
    /// The registry's own address, wherever it is.
    Any,
    /// An address that an answer named: only a public one, so that no answer makes the gate ask its own network.
    Public,
}

/// How host names become addresses; tests bring their own.
#[derive(Clone, Debug, Default)]
pub(super) struct Resolver(Option<Arc<Vec<(String, SocketAddr)>>>);

impl Resolver {
    #[cfg(test)]
    pub(super) fn fixed(names: Vec<(String, SocketAddr)>) -> Self {
        Self(Some(Arc::new(names)))
    }

    pub(super) async fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        if let Some(names) = &self.0
            && let Some((_, address)) = names.iter().find(|(name, _)| name == host)
        {
            return Ok(vec![*address]);
        }
        Ok(tokio::net::lookup_host((host, port)).await?.collect())
    }
}

/// Opens TCP connections, through a proxy where one is configured.
#[derive(Clone)]
pub(super) struct Connector {
    pub(super) reach: Reach,
    pub(super) resolver: Resolver,
    pub(super) proxies: Arc<Matcher>,
    pub(super) timeout: Duration,
}

impl Service<Uri> for Connector {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Self { reach, resolver, proxies, timeout } = self.clone();
        Box::pin(async move {
            let Some(proxy) = proxies.intercept(&uri) else {
                return Ok(Direct { reach, resolver, timeout }.connect(&uri).await?);
            };
            // The proxy resolves the name, so only addresses written as such can be checked here.
            if reach == Reach::Public && literal(&uri).is_some_and(is_private) {
                return Err(private(&uri).into());
            }
            let direct = Direct { reach: Reach::Any, resolver, timeout };
            let mut tunnel = Tunnel::new(proxy.uri().clone(), direct);
            if let Some(credentials) = proxy.basic_auth() {
                tunnel = tunnel.with_auth(credentials.clone());
            }
            let tunnelled = tokio::time::timeout(timeout, tunnel.call(uri)).await;
            tunnelled
                .map_err(|_| "the egress proxy did not answer")?
                .map_err(|error| format!("egress proxy: {error}").into())
        })
    }
}

type BoxError = Box<dyn std::error::Error + Send + Sync>;

#[derive(Clone)]
struct Direct {
    reach: Reach,
    resolver: Resolver,
    timeout: Duration,
}

impl Direct {
    async fn connect(&self, uri: &Uri) -> io::Result<TokioIo<TcpStream>> {
        let host = host_of(uri).ok_or_else(|| io::Error::other("the URL has no host"))?;
        let port = uri.port_u16().unwrap_or(if uri.scheme_str() == Some("http") { 80 } else { 443 });
        let found = match literal(uri) {
            Some(address) => vec![SocketAddr::new(address, port)],
            None => tokio::time::timeout(self.timeout, self.resolver.resolve(host, port))
                .await
                .map_err(|_| io::Error::other(format!("{host}: the name was not resolved in time")))??,
        };
        let allowed: Vec<_> =
            found.iter().filter(|address| self.reach == Reach::Any || !is_private(address.ip())).copied().collect();
        if allowed.is_empty() && !found.is_empty() {
            return Err(private(uri));
        }
        let connected = tokio::time::timeout(self.timeout, TcpStream::connect(&*allowed)).await;
        let stream = connected.map_err(|_| io::Error::other(format!("{host}: no connection in time")))??;
        stream.set_nodelay(true)?;
        Ok(TokioIo::new(stream))
    }
}

impl Service<Uri> for Direct {
    type Response = TokioIo<TcpStream>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let direct = self.clone();
        Box::pin(async move { direct.connect(&uri).await })
    }
}

/// What refuses a private address; found again in the chain of causes.
#[derive(Debug, thiserror::Error)]
#[error("{0} is, or resolves to, a private address")]
pub(super) struct PrivateAddress(String);

fn private(uri: &Uri) -> io::Error {
    io::Error::other(PrivateAddress(uri.host().unwrap_or_default().to_owned()))
}

/// The host without the brackets of an IPv6 address.
pub(super) fn host_of(uri: &Uri) -> Option<&str> {
    let host = uri.host()?;
    Some(host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host))
}

fn literal(uri: &Uri) -> Option<IpAddr> {
    host_of(uri)?.parse().ok()
}

/// Whether an address is none of the public internet's: loopback, RFC 1918, link-local, unique local (RFC 4193),
/// carrier-grade NAT (RFC 6598), unspecified, multicast, and the same within IPv6.
pub(super) fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => is_private_v4(v4),
        IpAddr::V6(v6) => {
            let segments = v6.segments();
            // IPv4-mapped, IPv4-compatible, and NAT64 (RFC 6052) carry a v4 address in their last 32 bits.
            let embedded = v6.to_ipv4().or_else(|| {
                let [.., high, low] = segments;
                (segments[..6] == [0x64, 0xff9b, 0, 0, 0, 0])
                    .then(|| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low)))
            });
            v6.is_loopback()
                || v6.is_unspecified()
                || v6.is_multicast()
                || segments[0] & 0xfe00 == 0xfc00
                || segments[0] & 0xffc0 == 0xfe80
                || embedded.is_some_and(is_private_v4)
        }
    }
}

fn is_private_v4(v4: Ipv4Addr) -> bool {
    let [a, b, ..] = v4.octets();
    v4.is_loopback()
        || v4.is_private()
        || v4.is_link_local()
        || v4.is_multicast()
        || v4.is_broadcast()
        || a == 0
        || (a == 100 && b & 0xc0 == 64)
        || (a == 198 && b & 0xfe == 18)
        || a >= 240
}
