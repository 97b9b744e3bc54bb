//! Tokens: the token service, and who may see the credentials.
//!
//! Distribution specification, "Token Authentication" (distribution/distribution docs, spec/auth/token).

pub(super) mod challenge;
mod credentials;
mod docker_config;
mod site;

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use moka::sync::Cache;
use serde::Deserialize;
use serde_json::Value;
use url::form_urlencoded::Serializer;
use url::{Origin, Url};

use challenge::Challenge;
use credentials::Credentials;
use site::is_same_site;

use super::Error;
use super::answer::body::{Inbound, read_whole};
use super::answer::words::words;
use super::connection::client::{Client, MAX_REDIRECTS, host, is_redirect, secured};
use super::retry::{is_passing, retry_after};
use crate::oci::Repository;
use crate::runtime::{Flights, Tasks};

/// The largest answer of a token service, in bytes.
const MAX_TOKEN: usize = 256 * 1024;
/// What a token lives when its service does not say (the specification's default).
const DEFAULT_LIFE: Duration = Duration::from_secs(60);
/// What a token lives at most, whatever its service says.
const MAX_LIFE: Duration = Duration::from_secs(24 * 3600);
/// A token is renewed so long before its end.
const MARGIN: Duration = Duration::from_secs(10);
/// After so long a password is read again from where it is kept.
const PASSWORD_LIFE: Duration = Duration::from_secs(60);

/// The value of an `Authorization` header, how long it is good, and what it was the answer to.
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

    /// By what it can be obtained once more.
    pub(super) fn challenge(&self) -> Challenge {
        self.challenge.clone()
    }
}

/// Whom an authorization is for, and nobody else: the registry itself or another that it redirects to, and for which
/// repository.
#[derive(Clone, Eq, Hash, PartialEq)]
pub(super) struct Audience {
    origin: Origin,
    host: String,
    repository: Repository,
}

impl Audience {
    pub(super) fn new(url: &Url, repository: &Repository) -> Self {
        Self { origin: url.origin(), host: host(url).to_owned(), repository: repository.clone() }
    }

    /// Whether it is the registry itself. Nobody else ever gets its credentials.
    fn is_own(&self, client: &Client) -> bool {
        self.origin == client.base().origin()
    }
}

/// The authorizations that one upstream needs.
pub(super) struct Tokens {
    known: Cache<Audience, Authorization>,
    flights: Flights<Audience, Result<Authorization, Error>>,
}

impl Tokens {
    pub(super) fn new(tasks: Tasks) -> Self {
        Self { known: Cache::new(10_000), flights: Flights::new(tasks) }
    }

    /// An authorization that was obtained for this audience and has not ended.
    pub(super) fn known(&self, audience: &Audience) -> Option<Authorization> {
        known(&self.known, audience)
    }

    /// Forgets an authorization that was refused, unless there is a newer one.
    pub(super) fn forget(&self, audience: &Audience, refused: &Authorization) {
        if self.known(audience).as_ref() == Some(refused) {
            self.known.invalidate(audience);
        }
    }

    /// An authorization for a challenge, other than the one that was just refused. One request to the helper and to the
    /// token service for everyone who asks for the same at the same time, which goes on when they have left.
    pub(super) async fn obtain(
        &self,
        client: &Arc<Client>,
        audience: &Audience,
        challenge: Challenge,
        refused: Option<Authorization>,
    ) -> Result<Authorization, Error> {
        let (cache, client, key) = (self.known.clone(), client.clone(), audience.clone());
        let interrupted = format!("{}: the token request was interrupted", client.config().host);
        let work = move || async move {
            // Another request may have obtained it since this one was refused.
            if let Some(fresh) = known(&cache, &key).filter(|fresh| Some(fresh) != refused.as_ref()) {
                return Ok(fresh);
            }
            cache.invalidate(&key);
            let fresh = answer(&client, &key, &challenge).await?;
            cache.insert(key, fresh.clone());
            Ok(fresh)
        };
        self.flights.join(audience.clone(), work).await.unwrap_or(Err(Error::Unavailable(interrupted)))
    }
}

fn known(cache: &Cache<Audience, Authorization>, audience: &Audience) -> Option<Authorization> {
    cache.get(audience).filter(|known| Instant::now() < known.until)
}

/// What to send for a challenge: by the credentials where the registry itself asks; a token for anybody where another
/// registry does, to which it redirects.
async fn answer(client: &Client, audience: &Audience, challenge: &Challenge) -> Result<Authorization, Error> {
    let name = &client.config().host;
    let credentials = if audience.is_own(client) { load(client, &audience.repository).await? } else { None };
    match challenge {
        Challenge::Basic if audience.is_own(client) => {
            let header = credentials.as_ref().and_then(basic);
            header.and_then(|header| Authorization::new(&header, PASSWORD_LIFE, challenge)).ok_or_else(|| {
                let wanted = "asks for a user name and a password; configure `auth` for this upstream";
                Error::Unauthorized(format!("{name}, without credentials that it takes, {wanted}"))
            })
        }
        Challenge::Basic => Err(Error::Unauthorized(format!(
            "{name} leads to {}, which asks for a user name and a password; none go there",
            audience.host
        ))),
        Challenge::Bearer { realm, service, scope } => {
            let realm = Url::parse(realm).map_err(|_| client.protocol("the address of its token service is no URL"))?;
            let own_scope = format!("repository:{}:pull", audience.repository);
            let request = TokenRequest {
                client,
                audience,
                credentials: credentials.as_ref(),
                service: service.as_deref(),
                scope: scope.as_deref().unwrap_or(&own_scope),
            };
            let (token, life) = request.send(realm).await?;
            Authorization::new(&format!("Bearer {token}"), life, challenge)
                .ok_or_else(|| client.protocol("its token service sent no token"))
        }
    }
}

async fn load(client: &Client, repository: &Repository) -> Result<Option<Credentials>, Error> {
    let config = client.config();
    let wrong = |error| Error::Unauthorized(format!("{}: {error}", config.host));
    credentials::load(config, repository).await.map_err(wrong)
}

/// A request for a token.
struct TokenRequest<'a> {
    client: &'a Client,
    audience: &'a Audience,
    credentials: Option<&'a Credentials>,
    service: Option<&'a str>,
    scope: &'a str,
}

impl TokenRequest<'_> {
    /// Asks the token service, and follows where it leads. Each place is judged anew.
    async fn send(&self, realm: Url) -> Result<(String, Duration), Error> {
        // A registry that knows nothing of the proxy before it names its token service by http.
        let is_secure = self.client.base().scheme() == "https";
        let mut url = self.permitted(self.with_query(if is_secure { secured(realm) } else { realm }))?;
        for _ in 0..=MAX_REDIRECTS {
            let request = self.build().map_err(|error| self.client.protocol(&error.to_string()))?;
            let response = self.client.send(&url, request).await?;
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

    /// A place, if it may be asked: over TLS, and, where there are credentials, only at the registry's own site or a host
    /// that the operator lists.
    fn permitted(&self, url: Url) -> Result<Url, Error> {
        let (client, config, named) = (self.client, self.client.config(), host(&url));
        client.allow(&url, &format!("its token service at {named}"))?;
        let is_known = is_same_site(host(client.base()), named)
            || config.realms.iter().any(|known| known.eq_ignore_ascii_case(named));
        if is_known || self.credentials.is_none() {
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
        let (status, wait) = (response.status(), retry_after(response.headers()).map(|wait| wait.as_secs()));
        if status == StatusCode::OK {
            // No turn of its own: the request that it is for has one, and waits.
            let body = Inbound::new(response.into_body(), None);
            let body = read_whole(body, MAX_TOKEN, client.config()).await?;
            return token(&body).ok_or_else(|| client.protocol("its token service sent no token"));
        }
        let said = self.without_secrets(words(response.into_body()).await);
        Err(match status {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                Error::Unauthorized(format!("{}{said}", self.refusal()))
            }
            StatusCode::TOO_MANY_REQUESTS => Error::RateLimited { retry_after: wait },
            status if is_passing(status) => {
                Error::Unavailable(format!("{name}: its token service answered {status}{said}"))
            }
            status => client.protocol(&format!("its token service answered {status}{said}")),
        })
    }

    /// Nothing where the words repeat what was sent to prove who asks.
    fn without_secrets(&self, said: String) -> String {
        let is_told = self.credentials.is_some_and(|credentials| match credentials {
            Credentials::IdentityToken(secret) | Credentials::Password { password: secret, .. } => {
                !secret.is_empty() && said.contains(secret)
            }
        });
        if is_told { String::new() } else { said }
    }

    fn refusal(&self) -> String {
        let (name, other) = (&self.client.config().host, &self.audience.host);
        match self.credentials {
            Some(_) => format!("{name}: its token service refuses the credentials that are configured"),
            None if self.audience.is_own(self.client) => {
                format!("{name}: its token service wants credentials; configure `auth` for this upstream")
            }
            None => format!("{name} leads to {other}, whose token service wants credentials; none go there"),
        }
    }

    /// A GET as the specification has it; a refresh token goes in the body of a POST (its "OAuth2 Token"), also when it
    /// is redirected.
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
            Some(Credentials::IdentityToken(refresh)) => Some(refresh),
            _ => None,
        }
    }

    /// What a GET is for stands in its URL.
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

fn basic(credentials: &Credentials) -> Option<String> {
    let Credentials::Password { username, password } = credentials else { return None };
    Some(format!("Basic {}", STANDARD.encode(format!("{username}:{password}"))))
}

#[derive(Deserialize)]
struct TokenAnswer {
    token: Option<String>,
    access_token: Option<String>,
    /// Seconds. Whatever is no whole number counts as not said.
    expires_in: Option<Value>,
}

/// A token and how long it is good.
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
    fn tokens_in_either_field_and_for_how_long() {
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
    fn a_token_that_no_header_can_hold_is_none_and_no_token_is_for_ever() {
        assert!(Authorization::new("Bearer a\r\nX: y", Duration::from_secs(50), &Challenge::Basic).is_none());
        let made = Authorization::new("Bearer a", Duration::from_secs(50), &Challenge::Basic).unwrap();
        assert!(made.value.is_sensitive() && made.until <= Instant::now() + Duration::from_secs(50));
    }
}
