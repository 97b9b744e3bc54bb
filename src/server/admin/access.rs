//! Access control for the admin server.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use http::uri::Authority;
use http::{HeaderMap, Request, StatusCode, header};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::{AdminError, ApiFamily, Caller, Config, is_mutating};
use crate::runtime::{LogLimit, read_token};

/// Shorter tokens could be guessed.
const MIN_TOKEN: usize = 16;

/// Why a call is not answered.
#[derive(Clone, Copy, Debug)]
pub(super) struct AccessRefusal {
    pub(super) status: StatusCode,
    pub(super) why: &'static str,
}

impl AccessRefusal {
    fn new(status: StatusCode, why: &'static str) -> Self {
        Self { status, why }
    }
}

pub(super) fn check_token(config: &Config) -> Result<(), AdminError> {
    config.token_file.clone().map_or(Ok(()), |path| AdminToken::new(path).map(drop))
}

/// The access rules of the listener.
#[derive(Debug)]
pub(super) struct AdminAccess {
    bound: IpAddr,
    hosts: Vec<String>,
    token: Option<AdminToken>,
}

impl AdminAccess {
    pub(super) fn new(config: &Config, bound: SocketAddr) -> Result<Self, AdminError> {
        let token = config.token_file.clone().map(AdminToken::new).transpose()?;
        Ok(Self { bound: bound.ip().to_canonical(), hosts: config.hosts.clone(), token })
    }

    /// Rejects requests that a web page made a browser send: a foreign `Host` (DNS rebinding), `Origin` or
    /// `Sec-Fetch-Site` (W3C Fetch Metadata, section 2.3), which images and links of other sites have without an
    /// `Origin`.
    pub(super) fn check_browser<B>(&self, caller: Caller, request: &Request<B>) -> Result<(), AccessRefusal> {
        if matches!(caller, Caller::Socket { .. }) {
            return Ok(());
        }
        let refuse = |why| Err(AccessRefusal::new(StatusCode::FORBIDDEN, why));
        // Health checks of load balancers use HTTP/1.0, which has no Host. Browsers do not.
        if request.version() == http::Version::HTTP_10 && !request.headers().contains_key(header::HOST) {
            return Ok(());
        }
        let Some(host) = single(request.headers(), header::HOST) else {
            return refuse("exactly one Host header is required");
        };
        let named = [host.parse().ok(), request.uri().authority().cloned().or_else(|| host.parse().ok())];
        if !named.iter().all(|name| name.as_ref().is_some_and(|name| self.is_ours(name))) {
            return refuse("this Host is not a name of the admin listener; add it to admin.hosts");
        }
        let origin = request.headers().get(header::ORIGIN).map(http::HeaderValue::as_bytes);
        if origin.is_some_and(|origin| !is_same_origin(origin, host)) {
            return refuse("requests from other origins are refused");
        }
        let mut sites = request.headers().get_all("sec-fetch-site").iter();
        if !sites.all(|site| ["same-origin", "none"].iter().any(|ours| site == ours)) {
            return refuse("requests from other sites are refused");
        }
        Ok(())
    }

    /// Identifies the caller, and checks whether it may make this call. On loopback, every user of the machine may
    /// read; if a token is configured, only facts that the gate already has. In IBM's API, the token may also be the
    /// password of basic authentication, which Portieris uses.
    pub(super) fn authorize<B>(
        &self,
        caller: Caller,
        request: &Request<B>,
        family: ApiFamily,
    ) -> Result<Caller, AccessRefusal> {
        let Caller::Network(peer) = caller else { return Ok(caller) };
        if let Some(presented) = request.headers().get(header::AUTHORIZATION) {
            let presented = presented_token(presented.as_bytes(), family);
            let good = match (&self.token, presented) {
                (Some(token), Some(presented)) => token.matches(&presented),
                _ => false,
            };
            let refusal = || AccessRefusal::new(StatusCode::UNAUTHORIZED, "the token is missing or wrong");
            return if good { Ok(Caller::Token(peer)) } else { Err(refusal()) };
        }
        let is_open = (self.token.is_none() || !family.may_fetch(request.uri().path())) && !self.is_relayed(request);
        if self.bound.is_loopback() && !is_mutating(request.method()) && is_open {
            return Ok(caller);
        }
        let how = "this call requires the Unix socket in the state directory or the token of admin.token_file (calls that \
                   modify, that fetch images, or that are not local)";
        let status = if self.token.is_some() { StatusCode::UNAUTHORIZED } else { StatusCode::FORBIDDEN };
        Err(AccessRefusal::new(status, how))
    }

    /// Whether a proxy on this machine forwards a call from elsewhere: it uses a name of `admin.hosts` for the
    /// listener, or states for whom it forwards (RFC 7239, section 4).
    fn is_relayed<B>(&self, request: &Request<B>) -> bool {
        let is_forwarded = ["forwarded", "via", "x-forwarded-for", "x-real-ip"];
        let named = single(request.headers(), header::HOST).and_then(|host| host.parse::<Authority>().ok());
        let is_listed = |name: Authority| self.hosts.iter().any(|ours| ours.eq_ignore_ascii_case(name.host()));
        is_forwarded.iter().any(|header| request.headers().contains_key(*header)) || named.is_some_and(is_listed)
    }

    /// Whether a `Host` belongs to this listener. An address cannot be rebound, so a listener on all addresses accepts
    /// any; the port is ignored, because port forwarding changes it.
    fn is_ours(&self, name: &Authority) -> bool {
        // A Host has no user part (RFC 9110, section 7.2); such a value may be intended to be parsed differently
        // elsewhere.
        if name.as_str().contains('@') {
            return false;
        }
        let host = name.host();
        let bare = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse::<IpAddr>() {
            let address = address.to_canonical();
            return address.is_loopback() || address == self.bound || self.bound.is_unspecified();
        }
        host.eq_ignore_ascii_case("localhost") || self.hosts.iter().any(|ours| ours.eq_ignore_ascii_case(host))
    }
}

/// The bearer token, read from its file each time, so that it can be changed at any time.
#[derive(Debug)]
struct AdminToken {
    path: PathBuf,
    /// How often a file that cannot be used is logged: clients choose how often it is read.
    failures: LogLimit,
}

impl AdminToken {
    fn new(path: PathBuf) -> Result<Self, AdminError> {
        let token = Self { path, failures: LogLimit::new(1, Duration::from_secs(60)) };
        match token.read() {
            Ok(_) => Ok(token),
            Err(what) => Err(AdminError::Token { path: token.path, what }),
        }
    }

    fn read(&self) -> Result<String, String> {
        // What cannot be sent, no client could present.
        match read_token(&self.path)? {
            token if token.len() < MIN_TOKEN => Err(format!("the token must have at least {MIN_TOKEN} characters")),
            token => Ok(token),
        }
    }

    /// Compares digests, so that neither timing nor length reveals anything.
    fn matches(&self, presented: &[u8]) -> bool {
        match self.read() {
            Ok(token) => Sha256::digest(presented).as_slice().ct_eq(Sha256::digest(token).as_slice()).into(),
            Err(why) => {
                if let Some(omitted) = self.failures.admit() {
                    let path = self.path.display();
                    tracing::error!(%path, why, omitted, "admin: cannot use the token file; calls with a token are rejected");
                }
                false
            }
        }
    }
}

/// The token in an `Authorization` header.
fn presented_token(authorization: &[u8], family: ApiFamily) -> Option<Vec<u8>> {
    let after = |scheme: &[u8]| {
        let has = authorization.get(..scheme.len()).is_some_and(|start| start.eq_ignore_ascii_case(scheme));
        has.then(|| authorization[scheme.len()..].trim_ascii())
    };
    if let Some(token) = after(b"Bearer ") {
        return Some(token.to_vec());
    }
    let credentials = after(b"Basic ").filter(|_| family == ApiFamily::Ibm)?;
    let decoded = BASE64_STANDARD.decode(credentials).ok()?;
    let colon = decoded.iter().position(|byte| *byte == b':')?;
    Some(decoded[colon + 1..].to_vec())
}

fn single(headers: &HeaderMap, name: header::HeaderName) -> Option<&str> {
    let mut values = headers.get_all(name).iter();
    let value = values.next()?;
    if values.next().is_some() { None } else { value.to_str().ok() }
}

fn is_same_origin(origin: &[u8], host: &str) -> bool {
    let rest = origin.strip_prefix(b"http://").or_else(|| origin.strip_prefix(b"https://"));
    rest.is_some_and(|rest| rest.eq_ignore_ascii_case(host.as_bytes()))
}
