//! Authorization: token services, and who may receive credentials.
//!
//! Distribution specification, "Token Authentication" (distribution/distribution docs, spec/auth/token).

pub(super) mod challenge;
pub(super) mod credentials;
mod docker_config;
mod site;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use serde::Deserialize;
use serde_json::Value;
use url::form_urlencoded::Serializer;
use url::{Origin, Url};

use challenge::Challenge;
use credentials::RegistryCredentials;
use site::is_same_site;

use super::answer::words::words;
use super::client::{UpstreamClient, host};
use super::error::{Error, WEB_PAGE};
use super::headers::is_foreign_page;
use super::retry::{is_passing, retry_after};
use crate::http_client::{MAX_REDIRECTS, ReceivedBody, is_redirect, read_whole, with_https};
use crate::oci::Repository;
use crate::runtime::{ALLOCATION, Bounded, Flights, Tasks, budget};

/// The maximum size of a token service's response, in bytes.
const MAX_TOKEN: usize = 256 * 1024;
/// The lifetime of a token if the service does not state one (the specification's default).
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// The maximum lifetime of a token, whatever the service states.
const MAX_LIFE: Duration = Duration::from_secs(24 * 3600);
/// How long before its expiry a token is renewed.
const MARGIN: Duration = Duration::from_secs(10);
/// How long a password is cached before it is read from its source again.
const PASSWORD_LIFE: Duration = Duration::from_secs(60);

/// The value of an `Authorization` header, its lifetime, and the challenge that it answers.
#[derive(Clone, Eq, PartialEq)]
pub(super) struct Authorization {
    pub(super) value: HeaderValue,
    until: Instant,
    challenge: Challenge,
}

impl Authorization {
    fn new(text: &str, life: Duration, challenge: &Challenge) -> Option<Self> {
        let mut value = HeaderValue::from_str(text).ok()?;
        value.set_sensitive(true);
        Some(Self { value, until: Instant::now() + life, challenge: challenge.clone() })
    }

    /// The challenge for obtaining it again.
    pub(super) fn challenge(&self) -> Challenge {
        self.challenge.clone()
    }
}

/// The only recipient of an authorization: the registry itself, another one that it redirects to, or an auxiliary
/// service, and the repository.
#[derive(Clone, Eq, Hash, PartialEq)]
pub(super) struct Audience {
    origin: Origin,
    host: String,
    repository: Repository,
    /// The name of the repository in an auxiliary service; `None` for a registry.
    beside: Option<Box<str>>,
}

impl Audience {
    pub(super) fn new(url: &Url, repository: &Repository) -> Self {
        Self { origin: url.origin(), host: host(url).to_owned(), repository: repository.clone(), beside: None }
    }

    /// An auxiliary service, which the operator named.
    pub(super) fn beside(url: &Url, repository: &Repository, resource: &str) -> Self {
        Self { beside: Some(resource.into()), ..Self::new(url, repository) }
    }

    /// The host of the auxiliary service.
    fn service(&self) -> Option<&str> {
        self.beside.is_some().then_some(&*self.host)
    }

    /// Whether the credentials of the registry are for it: it is the registry itself, or an auxiliary service on a host
    /// that the operator has named for that. A policy may name a service on any other host, even of the same site. A
    /// request of that service for a password or a token is not honoured.
    fn is_own(&self, client: &UpstreamClient) -> bool {
        let scheme = |origin: &Origin| matches!(origin, Origin::Tuple(scheme, ..) if scheme == client.base().scheme());
        let is_service = || self.beside.is_some() && is_service_host(client, &self.host) && scheme(&self.origin);
        self.origin == client.base().origin() || is_service()
    }

    /// The scope of a token, where the challenge decides nothing. An auxiliary service does not choose the
    /// scope: it could obtain a token for the registry itself.
    fn scope<'a>(&self, challenge: Option<&'a str>) -> Cow<'a, str> {
        match (&self.beside, challenge) {
            (Some(resource), _) => format!("repository:{resource}:pull").into(),
            (None, Some(scope)) => scope.into(),
            (None, None) => format!("repository:{}:pull", self.repository).into(),
        }
    }
}

/// The authorizations of one upstream.
pub(super) struct RegistryTokens {
    known: Arc<Bounded<Audience, Authorization>>,
    flights: Flights<Audience, Result<Authorization, Error>>,
}

impl RegistryTokens {
    pub(super) fn new(tasks: Tasks) -> Self {
        Self { known: Arc::new(Bounded::new(budget::AUTHORIZATIONS, weight)), flights: Flights::new(tasks) }
    }

    /// A cached authorization for this audience that has not expired.
    pub(super) fn known(&self, audience: &Audience) -> Option<Authorization> {
        known(&self.known, audience)
    }

    /// Removes a rejected authorization, unless there is a newer one.
    pub(super) fn forget(&self, audience: &Audience, refused: &Authorization) {
        if self.known(audience).as_ref() == Some(refused) {
            self.known.remove(audience);
        }
    }

    /// Obtains an authorization for a challenge, other than the one that was just rejected. Concurrent callers share
    /// one request to the credential helper and the token service, which continues if they leave.
    pub(super) async fn obtain(
        &self,
        client: &Arc<UpstreamClient>,
        audience: &Audience,
        challenge: Challenge,
        refused: Option<Authorization>,
    ) -> Result<Authorization, Error> {
        let (cache, client, key) = (self.known.clone(), client.clone(), audience.clone());
        let interrupted = format!("{}: the token request was interrupted", client.config().host);
        let work = move || async move {
            // Another request may have obtained it since this one was rejected.
            if let Some(fresh) = known(&cache, &key).filter(|fresh| Some(fresh) != refused.as_ref()) {
                return Ok(fresh);
            }
            cache.remove(&key);
            let fresh = answer(&client, &key, &challenge).await?;
            cache.insert(key, fresh.clone());
            Ok(fresh)
        };
        self.flights.join(audience.clone(), work).await.unwrap_or(Err(Error::Unavailable(interrupted)))
    }
}

/// The heap memory of an authorization, in bytes. The challenge is text that the registry sent, as is
/// the token that answers it.
fn weight(audience: &Audience, authorization: &Authorization) -> usize {
    let beside = audience.beside.as_ref().map_or(0, |resource| resource.len());
    let texts = audience.host.len() + audience.repository.as_str().len() + beside + authorization.challenge.bytes();
    authorization.value.len() + texts + 6 * ALLOCATION
}

fn known(cache: &Bounded<Audience, Authorization>, audience: &Audience) -> Option<Authorization> {
    cache.get(audience).filter(|known| Instant::now() < known.until)
}

/// Answers a challenge: with the credentials if the registry itself asks, with an anonymous token for another registry
/// that it redirects to.
async fn answer(client: &UpstreamClient, audience: &Audience, challenge: &Challenge) -> Result<Authorization, Error> {
    let name = &client.config().host;
    let credentials = if audience.is_own(client) { load(client, &audience.repository).await? } else { None };
    match challenge {
        Challenge::Basic if audience.is_own(client) => {
            let header = credentials.as_ref().and_then(basic);
            header.and_then(|header| Authorization::new(&header, PASSWORD_LIFE, challenge)).ok_or_else(|| {
                let wanted = "asks for a user name and a password; configure `auth` for this upstream";
                Error::Unauthorized(format!("{name}, without credentials that it accepts, {wanted}"))
            })
        }
        Challenge::Basic => Err(Error::Unauthorized(format!(
            "{name} leads to {}, which asks for a user name and a password; none go there",
            audience.host
        ))),
        Challenge::Bearer { realm, service, scope } => {
            let realm =
                Url::parse(realm).map_err(|_| client.protocol("the address of its token service is not a URL"))?;
            let request = TokenRequest {
                client,
                audience,
                credentials: credentials.as_ref(),
                service: service.as_deref(),
                scope: &audience.scope(scope.as_deref()),
            };
            let (token, life) = request.send(realm).await?;
            Authorization::new(&format!("Bearer {token}"), life, challenge)
                .ok_or_else(|| client.protocol("its token service sent no token"))
        }
    }
}

async fn load(client: &UpstreamClient, repository: &Repository) -> Result<Option<RegistryCredentials>, Error> {
    let config = client.config();
    let wrong = |error| Error::Unauthorized(format!("{}: {error}", config.host));
    credentials::load(config, repository).await.map_err(wrong)
}

/// Whether a token service that a registry names may get its credentials: its host is on the registry's own site, or
/// listed by the operator.
fn is_known_host(client: &UpstreamClient, named: &str) -> bool {
    is_same_site(host(client.base()), named) || is_listed(client, named)
}

/// Whether an auxiliary service may get the registry's credentials: its host is exactly that of the registry or of its
/// notary server, or listed by the operator.
fn is_service_host(client: &UpstreamClient, named: &str) -> bool {
    let notary = || client.config().notary_server().and_then(|server| Url::parse(&server).ok());
    host(client.base()) == named || notary().is_some_and(|notary| host(&notary) == named) || is_listed(client, named)
}

fn is_listed(client: &UpstreamClient, named: &str) -> bool {
    client.config().realms.iter().any(|known| known.eq_ignore_ascii_case(named))
}

/// A request for a token.
struct TokenRequest<'a> {
    client: &'a UpstreamClient,
    audience: &'a Audience,
    credentials: Option<&'a RegistryCredentials>,
    service: Option<&'a str>,
    scope: &'a str,
}

impl TokenRequest<'_> {
    /// Sends the request to the token service, and follows redirects. Each location is checked.
    async fn send(&self, realm: Url) -> Result<(String, Duration), Error> {
        // A registry that is unaware of the proxy in front of it names its token service with http.
        let is_secure = self.client.base().scheme() == "https";
        let mut url = self.permitted(self.with_query(if is_secure { with_https(realm) } else { realm }))?;
        for _ in 0..=MAX_REDIRECTS {
            let request = self.build().map_err(|error| self.client.protocol(&error.to_string()))?;
            let response = self.client.send(&url, self.audience.service(), request).await?;
            match response.status() {
                StatusCode::SEE_OTHER if self.refresh_token().is_some() => return self.read(response).await,
                status if is_redirect(status) => {
                    url = self.permitted(self.client.redirect(&url, response.headers())?)?;
                }
                _ => return self.read(response).await,
            }
        }
        Err(self.client.protocol("its token service redirects more than five times"))
    }

    /// A location, if it may be contacted: over TLS and, if credentials are sent, only on the registry's own site or a
    /// host listed by the operator.
    fn permitted(&self, url: Url) -> Result<Url, Error> {
        let (client, config, named) = (self.client, self.client.config(), host(&url));
        client.allow(&url, &format!("its token service at {named}"))?;
        if is_known_host(client, named) || self.credentials.is_none() {
            return Ok(url);
        }
        Err(Error::Refused(format!(
            "{}: its token service is at {named}, which is not the registry's own site, so it gets no credentials; \
             add {named:?} to `realms` of this upstream if that is right",
            config.host
        )))
    }

    async fn read(&self, response: Response<Incoming>) -> Result<(String, Duration), Error> {
        let (client, name) = (self.client, &self.client.config().host);
        let wait = retry_after(response.headers(), client.clock()).map(|wait| wait.as_secs());
        let status = response.status();
        if status == StatusCode::OK {
            // It needs no turn: the request that waits for the token has one.
            let body = ReceivedBody::new(response.into_body(), client.config().idle_timeout);
            let body = read_whole(body, MAX_TOKEN, client.config().body_timeout).await;
            let body = body.map_err(|error| Error::unread(name, &error))?;
            return token(&body).ok_or_else(|| client.protocol("its token service sent no token"));
        }
        let page = if is_foreign_page(status, response.headers()) { WEB_PAGE } else { "" };
        let said = self.without_secrets(words(response.into_body()).await) + page;
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Error::Unauthorized(format!("{}{said}", self.refusal()))
            }
            StatusCode::TOO_MANY_REQUESTS => Error::RateLimited {
                host: format!("{name}: its token service answered {status}{said}"),
                retry_after: wait,
            },
            status if is_passing(status) => {
                Error::Unavailable(format!("{name}: its token service answered {status}{said}"))
            }
            status => client.protocol(&format!("its token service answered {status}{said}")),
        })
    }

    /// Empty if the message repeats secrets that were sent.
    fn without_secrets(&self, said: String) -> String {
        let is_told = self.credentials.is_some_and(|credentials| match credentials {
            RegistryCredentials::IdentityToken(secret) | RegistryCredentials::Password { password: secret, .. } => {
                !secret.is_empty() && said.contains(secret)
            }
        });
        if is_told { String::new() } else { said }
    }

    fn refusal(&self) -> String {
        let (name, other) = (&self.client.config().host, &self.audience.host);
        match self.credentials {
            Some(_) => format!("{name}: its token service rejects the configured credentials"),
            None if self.audience.is_own(self.client) => {
                format!("{name}: its token service requires credentials; configure `auth` for this upstream")
            }
            None => format!("{name} leads to {other}, whose token service requires credentials; none are sent there"),
        }
    }

    /// A GET as in the specification. A refresh token is sent in the body of a POST (the specification's "OAuth2
    /// Token"), even after a redirect.
    fn build(&self) -> Result<Request<Full<Bytes>>, http::Error> {
        if let Some(refresh) = self.refresh_token() {
            let mut form = self.form();
            form.append_pair("grant_type", "refresh_token");
            form.append_pair("client_id", "pullgate").append_pair("refresh_token", refresh);
            let request = Request::post("/").header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
            return request.body(form.finish().into());
        }
        let mut request = Request::get("/");
        if let Some(header) = self.credentials.and_then(basic) {
            request = request.header(header::AUTHORIZATION, header);
        }
        request.body(Full::default())
    }

    fn refresh_token(&self) -> Option<&str> {
        match self.credentials {
            Some(RegistryCredentials::IdentityToken(refresh)) => Some(refresh),
            _ => None,
        }
    }

    /// The parameters of a GET are in its URL.
    fn with_query(&self, mut url: Url) -> Url {
        if self.refresh_token().is_none() {
            let own = url.query().filter(|query| !query.is_empty()).map(|query| format!("{query}&"));
            url.set_query(Some(&format!("{}{}", own.unwrap_or_default(), self.form().finish())));
        }
        url
    }

    fn form(&self) -> Serializer<'static, String> {
        let mut form = Serializer::new(String::new());
        form.extend_pairs(self.service.map(|service| ("service", service)));
        form.append_pair("scope", self.scope);
        form
    }
}

fn basic(credentials: &RegistryCredentials) -> Option<String> {
    let RegistryCredentials::Password { username, password } = credentials else { return None };
    Some(format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    /// In seconds. Anything but an integer is ignored.
    expires_in: Option<Value>,
}

/// The token and its lifetime.
fn token(body: &[u8]) -> Option<(String, Duration)> {
    let answer: TokenAnswer = serde_json::from_slice(body).ok()?;
    let token = [answer.token, answer.access_token].into_iter().flatten().find(|token| !token.is_empty())?;
    let life = answer.expires_in.and_then(|seconds| seconds.as_u64()).map_or(DEFAULT_LIFE, Duration::from_secs);
    let life = life.min(MAX_LIFE);
    Some((token, life.saturating_sub(MARGIN).max(life / 2)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_read_from_either_field_with_their_lifetime() {
        for (body, wanted) in [
            (r#"{"token":"a"}"#, Some(("a", 50))),
            (r#"{"access_token":"b","expires_in":300}"#, Some(("b", 290))),
            (r#"{"token":"","access_token":"b","expires_in":10}"#, Some(("b", 5))),
            (r#"{"token":"a","expires_in":"300"}"#, Some(("a", 50))),
            (r#"{"token":"a","expires_in":-1}"#, Some(("a", 50))),
            (r#"{"token":"a","expires_in":99999999999999}"#, Some(("a", 24 * 3600 - 10))),
            (r#"{"token":""}"#, None),
            ("{}", None),
            ("<html>", None),
        ] {
            let wanted = wanted.map(|(token, seconds)| (token.to_owned(), Duration::from_secs(seconds)));
            assert_eq!(token(body.as_bytes()), wanted, "{body}");
        }
    }

    #[test]
    fn invalid_tokens_are_rejected_and_lifetimes_are_bounded() {
        assert!(Authorization::new("Bearer a\r\nX: y", Duration::from_secs(50), &Challenge::Basic).is_none());
        let made = Authorization::new("Bearer a", Duration::from_secs(50), &Challenge::Basic).unwrap();
        assert!(made.value.is_sensitive() && made.until <= Instant::now() + Duration::from_secs(50));
    }
}
