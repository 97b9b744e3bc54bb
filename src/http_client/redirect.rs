//! Rules for the URLs that may be requested and the redirects that may be followed.

use http::header::{self, HeaderMap};
use http::{StatusCode, Uri};
use url::Url;

use crate::oci::may_get_credentials;

/// The maximum number of redirects that are followed for one request.
pub(crate) const MAX_REDIRECTS: usize = 5;

/// Whether the status is a redirect that a client follows.
pub(crate) fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// Checks a URL from a response before anything is sent to it. `allow_http` permits URLs without TLS.
///
/// # Errors
/// If the URL has no host, contains credentials, or is neither `https` nor an allowed `http`.
pub(crate) fn check_url(url: &Url, allow_http: bool) -> Result<(), UnsafeUrl> {
    match url.scheme() {
        _ if url.host().is_none() => Err(UnsafeUrl::NoHost),
        _ if !url.username().is_empty() || url.password().is_some() => Err(UnsafeUrl::Credentials),
        "https" => Ok(()),
        "http" if allow_http => Ok(()),
        _ => Err(UnsafeUrl::NotHttps),
    }
}

/// The target of a redirect. It never switches from `https` to `http`. A server behind a TLS-terminating proxy may
/// redirect to its own host with `http`; such a redirect is followed with `https`.
///
/// # Errors
/// If the `Location` header is unusable, or the redirect must not be followed.
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

/// The same URL with `https` instead of `http`.
pub(crate) fn with_https(mut url: Url) -> Url {
    if url.scheme() == "http" {
        // Fails only for schemes other than `http` and `https`.
        let _ = url.set_scheme("https");
    }
    url
}

/// Whether credentials may be sent to this address: over TLS, or within this machine.
pub(crate) fn is_confidential(uri: &Uri) -> bool {
    uri.scheme_str().zip(uri.host()).is_some_and(|(scheme, host)| may_get_credentials(scheme, host))
}

/// Why a URL must not be requested. The text completes a sentence whose subject is the URL.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum UnsafeUrl {
    /// The URL contains a user name or a password.
    #[error("contains credentials")]
    Credentials,
    /// The URL has no host.
    #[error("names no host")]
    NoHost,
    /// The URL does not use TLS.
    #[error("is not https")]
    NotHttps,
}

/// Why a redirect is not followed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub(crate) enum RedirectError {
    /// The redirect leads from `https` to `http`.
    #[error("a redirect to {} leaves https", to.host_str().unwrap_or_default())]
    LeavesHttps {
        /// The redirect target.
        to: Url,
    },
    /// The response has no usable `Location` header.
    #[error("a redirect without a Location")]
    NoLocation,
    /// The location is not a URL.
    #[error("a redirect to an invalid URL")]
    NoUrl,
    /// The location must not be requested.
    #[error("a redirect to {} {problem}", to.host_str().unwrap_or_default())]
    Unsafe {
        /// The redirect target.
        to: Url,
        /// The problem with the target.
        problem: UnsafeUrl,
    },
}
