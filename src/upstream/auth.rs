//! Tokens: the registry's challenge, the token service, and who may see the credentials.
//!
//! Distribution specification, "Token Authentication" (distribution/distribution docs, spec/auth/token).

use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Method, Request, StatusCode, Uri};
use http_body_util::Full;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use super::credentials::{self, Credentials};
use super::exchange::Exchange;
use super::{Error, read_bounded};
use crate::runtime::{Flights, Tasks};

/// The largest answer of a token service, in bytes.
const MAX_TOKEN: usize = 256 * 1024;
/// What a token lives when its service does not say (the specification's default).
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// A token is renewed so long before its end.
const MARGIN: Duration = Duration::from_secs(10);

/// The authorizations of one upstream, by scope.
pub(super) struct Tokens {
    known: moka::sync::Cache<String, Authorization>,
    flights: Flights<String, Result<Authorization, Error>>,
}

#[derive(Clone)]
struct Authorization {
    value: HeaderValue,
    until: Option<Instant>,
}

/// The registry's own answer to a request without, or with a wrong, authorization (RFC 9110 §11.6.1).
#[derive(Clone, Debug, Eq, PartialEq)]
enum Challenge {
    Basic,
    Bearer { realm: String, service: Option<String>, scope: Option<String> },
}

impl Tokens {
    pub(super) fn new(tasks: Tasks) -> Self {
        Self { known: moka::sync::Cache::new(10_000), flights: Flights::new(tasks) }
    }

    /// An authorization that was obtained for this scope and has not ended.
    pub(super) fn known(&self, scope: &str) -> Option<HeaderValue> {
        let known = self.known.get(scope)?;
        known.until.is_none_or(|until| Instant::now() < until).then_some(known.value)
    }

    /// An authorization for a challenge; `None` when the registry asks for one that cannot be had.
    pub(super) async fn obtain(
        &self,
        exchange: &Exchange,
        scope: &str,
        challenges: &[String],
        refused: Option<&HeaderValue>,
    ) -> Result<Option<HeaderValue>, Error> {
        let challenge = challenges.iter().find_map(|text| parse(text));
        let Some(challenge) = challenge else { return Ok(None) };
        if let Some(known) = self.known(scope).filter(|known| Some(known) != refused) {
            return Ok(Some(known));
        }
        let credentials =
            credentials::load(&exchange.config().auth, exchange.config()).await.map_err(Error::Unauthorized)?;
        let authorization = match &challenge {
            Challenge::Basic => credentials.as_ref().and_then(basic).map(|value| Authorization { value, until: None }),
            Challenge::Bearer { realm, service, scope: asked } => {
                let asked = asked.as_deref().unwrap_or(scope);
                let request = token_request(exchange, realm, service.as_deref(), asked, credentials.as_ref())?;
                Some(self.ask(exchange, scope, request).await?)
            }
        };
        let Some(authorization) = authorization else { return Ok(None) };
        if Some(&authorization.value) == refused {
            return Ok(None);
        }
        self.known.insert(scope.to_owned(), authorization.clone());
        Ok(Some(authorization.value))
    }

    /// One token request for everyone who asks for the same scope at the same time.
    async fn ask(
        &self,
        exchange: &Exchange,
        scope: &str,
        request: Request<Full<Bytes>>,
    ) -> Result<Authorization, Error> {
        let (host, idle) = (exchange.config().host.clone(), exchange.config().idle_timeout);
        let client = exchange.sender();
        let work = move || async move {
            let response = client.request(request).await?;
            let status = response.status();
            let body = read_bounded(response.into_body(), MAX_TOKEN, idle, &host).await?;
            match status {
                StatusCode::OK => authorization(&body)
                    .ok_or_else(|| Error::Protocol(format!("{host}: the token service sent no token"))),
                StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Error::Unauthorized(format!(
                    "{host}: the token service refuses the credentials that are configured"
                ))),
                StatusCode::TOO_MANY_REQUESTS => Err(Error::RateLimited { retry_after: None }),
                status => Err(Error::Unavailable(format!("{host}: the token service answered {status}"))),
            }
        };
        let broken = || Err(Error::Unavailable("the token request was interrupted".into()));
        self.flights.join(scope.to_owned(), work).await.unwrap_or_else(broken)
    }
}

/// A request to the token service. Credentials go along only to the registry's own site, or a host that is listed.
fn token_request(
    exchange: &Exchange,
    realm: &str,
    service: Option<&str>,
    scope: &str,
    credentials: Option<&Credentials>,
) -> Result<Request<Full<Bytes>>, Error> {
    let config = exchange.config();
    let uri: Uri = realm.parse().map_err(|_| exchange.protocol("the token service's address is no URL"))?;
    let host = uri.host().ok_or_else(|| exchange.protocol("the token service's address has no host"))?.to_owned();
    let is_plain = uri.scheme_str() != Some("https");
    if is_plain && (uri.scheme_str() != Some("http") || exchange.base().scheme_str() != Some("http")) {
        return Err(Error::Refused(format!("{}: its token service {realm} is not https", config.host)));
    }
    let own = exchange.base().host().unwrap_or_default();
    if credentials.is_some() && !is_own_site(own, &host) && !config.realms.contains(&host) {
        return Err(Error::Refused(format!(
            "{}: its token service is at {host}, which is not the registry's own site, so it gets no credentials; \
             add {host:?} to `realms` of this upstream if that is right",
            config.host
        )));
    }
    let encode = |text: &str| utf8_percent_encode(text, NON_ALPHANUMERIC).to_string();
    let mut form = vec![format!("scope={}", encode(scope))];
    form.extend(service.map(|service| format!("service={}", encode(service))));
    let failed = |error: http::Error| exchange.protocol(&error.to_string());
    if let Some(Credentials::IdentityToken(token)) = credentials {
        form.extend([
            "grant_type=refresh_token".to_owned(),
            "client_id=pullgate".to_owned(),
            format!("refresh_token={}", encode(token)),
        ]);
        let request = Request::builder().method(Method::POST).uri(uri);
        let request = request.header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
        return request.body(form.join("&").into()).map_err(failed);
    }
    let separator = if uri.query().is_some() { '&' } else { '?' };
    let mut request = Request::builder().method(Method::GET).uri(format!("{realm}{separator}{}", form.join("&")));
    if let Some(value) = credentials.and_then(basic) {
        request = request.header(header::AUTHORIZATION, value);
    }
    request.body(Full::default()).map_err(failed)
}

fn basic(credentials: &Credentials) -> Option<HeaderValue> {
    let Credentials::Password { username, password } = credentials else { return None };
    let mut value =
        HeaderValue::from_str(&format!("Basic {}", STANDARD.encode(format!("{username}:{password}")))).ok()?;
    value.set_sensitive(true);
    Some(value)
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    expires_in: Option<u64>,
}

fn authorization(body: &[u8]) -> Option<Authorization> {
    let answer: TokenAnswer = serde_json::from_slice(body).ok()?;
    let token = answer.token.or(answer.access_token).filter(|token| !token.is_empty())?;
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    let life = answer.expires_in.map_or(DEFAULT_LIFE, Duration::from_secs).min(Duration::from_secs(24 * 3600));
    let until = Instant::now() + life.saturating_sub(MARGIN).max(life / 2);
    Some(Authorization { value, until: Some(until) })
}

/// Whether two hosts are of one site: the same, one the parent of the other, or siblings under a domain that is not
/// open to registration by anybody. Conservative: what is not sure is listed in `realms` by the operator.
fn is_own_site(registry: &str, realm: &str) -> bool {
    let (registry, realm) = (registry.to_ascii_lowercase(), realm.to_ascii_lowercase());
    if registry == realm {
        return true;
    }
    if registry.parse::<std::net::IpAddr>().is_ok() || realm.parse::<std::net::IpAddr>().is_ok() {
        return false;
    }
    let parent = |host: &str| host.split_once('.').map(|(_, parent)| parent.to_owned()).unwrap_or_default();
    let site = if parent(&registry) == parent(&realm) {
        parent(&registry)
    } else if parent(&registry) == realm {
        realm
    } else if parent(&realm) == registry {
        registry
    } else {
        return false;
    };
    site.contains('.') && !is_shared(&site)
}

/// Domains under which strangers are neighbours: country second levels, and hosting services.
fn is_shared(site: &str) -> bool {
    let labels: Vec<&str> = site.split('.').collect();
    let second_level = ["ac", "co", "com", "edu", "go", "gob", "gov", "ne", "net", "nom", "or", "org"];
    let is_country = matches!(&*labels, [second, country] if country.len() == 2 && second_level.contains(second));
    let hosting = [
        "amazonaws.com",
        "azurecr.io",
        "azurewebsites.net",
        "cloudfront.net",
        "github.io",
        "herokuapp.com",
        "pages.dev",
        "run.app",
        "vercel.app",
        "workers.dev",
        "appspot.com",
        "web.app",
    ];
    is_country || hosting.iter().any(|known| site == *known || site.ends_with(&format!(".{known}")))
}

/// Reads one challenge: a scheme and parameters, some of them quoted.
fn parse(text: &str) -> Option<Challenge> {
    let (scheme, rest) = text.trim().split_once(' ').unwrap_or((text.trim(), ""));
    if scheme.eq_ignore_ascii_case("basic") {
        return Some(Challenge::Basic);
    }
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    let (mut realm, mut service, mut scope) = (None, None, None);
    for (key, value) in parameters(rest) {
        match &*key {
            "realm" => realm = Some(value),
            "service" => service = Some(value),
            "scope" => scope = Some(value).filter(|scope| !scope.is_empty()),
            _ => {}
        }
    }
    Some(Challenge::Bearer { realm: realm?, service, scope })
}

/// `key="value, with commas", key=value`
fn parameters(text: &str) -> Vec<(String, String)> {
    let mut found = Vec::new();
    let mut rest = text.trim_start_matches([' ', ',']);
    while let Some((key, after)) = rest.split_once('=') {
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => unquote(quoted),
            None => {
                let (value, after) = after.split_once(',').unwrap_or((after, ""));
                (value.trim().to_owned(), after)
            }
        };
        found.push((key.trim().to_ascii_lowercase(), value));
        rest = after.trim_start_matches([' ', ',']);
    }
    found
}

fn unquote(text: &str) -> (String, &str) {
    let (mut value, mut escaped) = (String::new(), false);
    for (at, c) in text.char_indices() {
        match c {
            c if escaped => {
                value.push(c);
                escaped = false;
            }
            '\\' => escaped = true,
            '"' => return (value, &text[at + 1..]),
            c => value.push(c),
        }
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges() {
        let bearer = |realm: &str, service: Option<&str>, scope: Option<&str>| {
            let (service, scope) = (service.map(str::to_owned), scope.map(str::to_owned));
            Some(Challenge::Bearer { realm: realm.into(), service, scope })
        };
        for (text, wanted) in [
            ("Basic realm=\"x\"", Some(Challenge::Basic)),
            ("basic", Some(Challenge::Basic)),
            (
                "Bearer realm=\"https://a/t\",service=\"s\",scope=\"repository:a:pull\"",
                bearer("https://a/t", Some("s"), Some("repository:a:pull")),
            ),
            ("bearer realm=https://a/t, service=s", bearer("https://a/t", Some("s"), None)),
            ("Bearer realm=\"a,b\\\"c\"", bearer("a,b\"c", None, None)),
            ("Bearer service=\"s\"", None),
            ("Negotiate", None),
            ("Bearer realm=\"unclosed", bearer("unclosed", None, None)),
            ("", None),
        ] {
            assert_eq!(parse(text), wanted, "{text}");
        }
    }

    #[test]
    fn sites() {
        for (registry, realm, same) in [
            ("registry-1.docker.io", "auth.docker.io", true),
            ("ghcr.io", "ghcr.io", true),
            ("registry.gitlab.com", "gitlab.com", true),
            ("GHCR.io", "ghcr.IO", true),
            ("registry.acme.com", "evil.com", false),
            ("registry.acme.com", "acme.com.evil.io", false),
            ("registry.acme.com", "xacme.com", false),
            ("acme.com", "evil.com", false),
            ("acme.co.uk", "evil.co.uk", false),
            ("one.azurecr.io", "two.azurecr.io", false),
            ("10.0.0.1", "10.0.0.2", false),
            ("127.0.0.1", "127.0.0.1", true),
            ("localhost", "other", false),
        ] {
            assert_eq!(is_own_site(registry, realm), same, "{registry} {realm}");
        }
    }
}
