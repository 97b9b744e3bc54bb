//! Which URLs may be requested, and where a redirect may lead.

use std::net::IpAddr;

use http::header::{self, HeaderMap};
use http::{StatusCode, Uri};
use url::Url;

/// How many redirects of one request are followed.
pub(crate) const MAX_REDIRECTS: usize = 5;

/// Whether the status is a redirect that a client follows.
pub(crate) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Checks a URL that an answer named, before anything is sent there. `allow_http` is whether TLS may be left out.
///
/// # Errors
/// If the URL names no host, holds credentials, or is neither `https` nor an allowed `http`.
pub(crate) fn check_url(url: &Url, allow_http: bool) -> Result<(), UnsafeUrl> {
    match url.scheme() {
        _ if url.host().is_none() => Err(UnsafeUrl::NoHost),
        _ if !url.username().is_empty() || url.password().is_some() => Err(UnsafeUrl::Credentials),
        "https" => Ok(()),
        "http" if allow_http => Ok(()),
        _ => Err(UnsafeUrl::NotHttps),
    }
}

/// Where a redirect leads. It never leaves TLS. A proxy that ends TLS in front of a server makes that server name itself
/// by `http`; the same host is then asked by `https`.
///
/// # Errors
/// If the `Location` header cannot be used, or leads where this client does not go.
pub(crate) fn redirect_target(from: &Url, headers: &HeaderMap, allow_http: bool) -> Result<Url, RedirectError> {
    let location = headers.get(header::LOCATION).and_then(|value| value.to_str().ok());
    let location = location.ok_or(RedirectError::NoLocation)?;
    let mut to = from.join(location).map_err(|_| RedirectError::NoUrl)?;
    if from.scheme() == "https" && from.host() == to.host() {
        to = with_https(to);
    }
    if let Err(problem) = check_url(&to, allow_http) {
        return Err(RedirectError::Unsafe { to, problem });
    }
    if from.scheme() == "https" && to.scheme() != "https" {
        return Err(RedirectError::LeavesHttps { to });
    }
    Ok(to)
}

/// The same URL with `https` in place of `http`.
pub(crate) fn with_https(mut url: Url) -> Url {
    if url.scheme() == "http" {
        // Fails only for schemes of another kind.
        let _ = url.set_scheme("https");
    }
    url
}

/// Whether credentials may be sent to this address: over TLS, or within this machine.
pub(crate) fn is_confidential(uri: &Uri) -> bool {
    let is_local = |host: &str| {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    };
    match uri.scheme_str() {
        Some("https") => uri.host().is_some(),
        Some("http") => uri.host().is_some_and(is_local),
        _ => false,
    }
}

/// Why a URL is not requested. The text continues a sentence whose subject is the URL.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum UnsafeUrl {
    /// It holds a user name or a password.
    #[error("contains credentials")]
    Credentials,
    /// It has no host.
    #[error("names no host")]
    NoHost,
    /// It does not use TLS.
    #[error("is not https")]
    NotHttps,
}

/// Why a redirect is not followed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum RedirectError {
    /// It leads from `https` to `http`.
    #[error("a redirect to {} leaves https", to.host_str().unwrap_or_default())]
    LeavesHttps {
        /// Where it leads.
        to: Url,
    },
    /// The answer has no usable `Location` header.
    #[error("a redirect without a Location")]
    NoLocation,
    /// The location is not a URL.
    #[error("a redirect to an invalid URL")]
    NoUrl,
    /// The location must not be requested.
    #[error("a redirect to {} {problem}", to.host_str().unwrap_or_default())]
    Unsafe {
        /// Where it leads.
        to: Url,
        /// What is wrong with it.
        problem: UnsafeUrl,
    },
}
