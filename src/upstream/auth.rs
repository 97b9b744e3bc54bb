//! Tokens: the token service, and who may see the credentials.
//!
//! Distribution specification, "Token Authentication" (distribution/distribution docs, spec/auth/token).

use std::sync::Arc;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::header::{self, HeaderValue};
use http::{Request, StatusCode};
use http_body_util::Full;
use moka::sync::Cache;
use serde::Deserialize;
use serde_json::Value;
use url::Url;
use url::form_urlencoded::Serializer;

use super::Error;
use super::body::{Inbound, read_whole};
use super::challenge::Challenge;
use super::client::{Client, host};
use super::config::Auth;
use super::credentials::{self, Credentials};
use super::retry::retry_after;
use super::site::is_same_site;
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

/// The value of an `Authorization` header, and how long it is good.
#[derive(Clone, Eq, PartialEq)]
pub(super) struct Authorization {
    pub(super) value: HeaderValue,
    until: Instant,
}

impl Authorization {
    fn new(text: &str, life: Duration) -> Option<Self> {
        let mut value = HeaderValue::from_str(text).ok()?;
        value.set_sensitive(true);
        Some(Self { value, until: Instant::now() + life })
    }
}

/// The authorizations of one upstream, by scope.
pub(super) struct Tokens {
    known: Cache<String, Authorization>,
    flights: Flights<String, Result<Authorization, Error>>,
}

impl Tokens {
    pub(super) fn new(tasks: Tasks) -> Self {
        Self { known: Cache::new(10_000), flights: Flights::new(tasks) }
    }

    /// An authorization that was obtained for this scope and has not ended.
    pub(super) fn known(&self, scope: &str) -> Option<Authorization> {
        known(&self.known, scope)
    }

    /// Forgets an authorization that the registry refused, unless there is a newer one.
    pub(super) fn forget(&self, scope: &str, refused: &Authorization) {
        if self.known(scope).as_ref() == Some(refused) {
            self.known.invalidate(scope);
        }
    }

    /// An authorization for a challenge, other than the one that was just refused. One request to the helper and to the
    /// token service for everyone who asks for the same scope at the same time, which goes on when they have left.
    pub(super) async fn obtain(
        &self,
        client: &Arc<Client>,
        scope: &str,
        challenge: Challenge,
        refused: Option<Authorization>,
    ) -> Result<Authorization, Error> {
        let (cache, client, key) = (self.known.clone(), client.clone(), scope.to_owned());
        let interrupted = format!("{}: the token request was interrupted", client.config().host);
        let work = move || async move {
            // Another request may have obtained it since this one was refused.
            if let Some(fresh) = known(&cache, &key).filter(|fresh| Some(fresh) != refused.as_ref()) {
                return Ok(fresh);
            }
            let fresh = answer(&client, &key, &challenge).await?;
            cache.insert(key, fresh.clone());
            Ok(fresh)
        };
        self.flights.join(scope.to_owned(), work).await.unwrap_or(Err(Error::Unavailable(interrupted)))
    }
}

fn known(cache: &Cache<String, Authorization>, scope: &str) -> Option<Authorization> {
    cache.get(scope).filter(|known| Instant::now() < known.until)
}

/// What to send for a challenge of the registry.
async fn answer(client: &Client, scope: &str, challenge: &Challenge) -> Result<Authorization, Error> {
    let host = &client.config().host;
    match challenge {
        Challenge::Basic => {
            let credentials = load(client).await?;
            let header = credentials.as_ref().and_then(basic);
            header.and_then(|header| Authorization::new(&header, PASSWORD_LIFE)).ok_or_else(|| {
                let wanted = "asks for a user name and a password; configure `auth` for this upstream";
                Error::Unauthorized(format!("{host}, without credentials that it takes, {wanted}"))
            })
        }
        Challenge::Bearer { realm, service, scope: asked } => {
            let realm = Url::parse(realm)
                .map_err(|_| client.protocol("the address of its token service is no URL"))
                .and_then(|realm| trusted(client, realm))?;
            let scope = asked.as_deref().unwrap_or(scope);
            let request = TokenRequest { realm, service: service.as_deref(), scope };
            request.send(client, load(client).await?.as_ref()).await
        }
    }
}

async fn load(client: &Client) -> Result<Option<Credentials>, Error> {
    let config = client.config();
    let wrong = |error| Error::Unauthorized(format!("{}: {error}", config.host));
    credentials::load(&config.auth, config).await.map_err(wrong)
}

/// The address of a token service, if it may be asked: over TLS, and, where there are credentials, only at the
/// registry's own site or a host that the operator lists.
fn trusted(client: &Client, realm: Url) -> Result<Url, Error> {
    client.allow(&realm, &format!("its token service at {}", host(&realm)))?;
    let config = client.config();
    let named = host(&realm);
    let is_known =
        is_same_site(host(client.base()), named) || config.realms.iter().any(|known| known.eq_ignore_ascii_case(named));
    if is_known || matches!(config.auth, Auth::Anonymous) {
        return Ok(realm);
    }
    Err(Error::Refused(format!(
        "{}: its token service is at {named}, which is not the registry's own site, so it gets no credentials; \
         add {named:?} to `realms` of this upstream if that is right",
        config.host
    )))
}

struct TokenRequest<'a> {
    realm: Url,
    service: Option<&'a str>,
    scope: &'a str,
}

impl TokenRequest<'_> {
    async fn send(&self, client: &Client, credentials: Option<&Credentials>) -> Result<Authorization, Error> {
        let host = &client.config().host;
        let (url, request) = self.build(credentials).map_err(|error| client.protocol(&error.to_string()))?;
        let response = client.send(&url, request).await?;
        let (status, headers) = (response.status(), response.headers());
        let wait = retry_after(headers).map(|wait| wait.as_secs());
        match status {
            StatusCode::OK => {
                // No turn of its own: the request that it is for has one, and waits.
                let body = Inbound::new(response.into_body(), None);
                let body = read_whole(body, MAX_TOKEN, client.config()).await?;
                token(&body).ok_or_else(|| client.protocol("its token service sent no token"))
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(Error::Unauthorized(match credentials {
                Some(_) => format!("{host}: its token service refuses the credentials that are configured"),
                None => format!("{host}: its token service wants credentials; configure `auth` for this upstream"),
            })),
            StatusCode::TOO_MANY_REQUESTS => Err(Error::RateLimited { retry_after: wait }),
            status if status.is_server_error() || status == StatusCode::REQUEST_TIMEOUT => {
                Err(Error::Unavailable(format!("{host}: its token service answered {status}")))
            }
            // A redirect among them: where credentials go is decided once.
            status => Err(client.protocol(&format!("its token service answered {status}"))),
        }
    }

    /// A GET as the specification has it; a refresh token goes in the body of a POST (its "OAuth2 Token").
    fn build(&self, credentials: Option<&Credentials>) -> Result<(Url, Request<Full<Bytes>>), http::Error> {
        let mut url = self.realm.clone();
        let mut form = Serializer::new(String::new());
        form.extend_pairs(self.service.map(|service| ("service", service)));
        form.append_pair("scope", self.scope);
        if let Some(Credentials::IdentityToken(refresh)) = credentials {
            form.append_pair("grant_type", "refresh_token");
            form.append_pair("client_id", "pullgate").append_pair("refresh_token", refresh);
            let request = Request::post("/").header(header::CONTENT_TYPE, "application/x-www-form-urlencoded");
            return Ok((url, request.body(form.finish().into())?));
        }
        let own = url.query().filter(|query| !query.is_empty()).map(|query| format!("{query}&"));
        url.set_query(Some(&format!("{}{}", own.unwrap_or_default(), form.finish())));
        let mut request = Request::get("/");
        if let Some(header) = credentials.and_then(basic) {
            request = request.header(header::AUTHORIZATION, header);
        }
        Ok((url, request.body(Full::default())?))
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

fn token(body: &[u8]) -> Option<Authorization> {
    let answer: TokenAnswer = serde_json::from_slice(body).ok()?;
    let token = [answer.token, answer.access_token].into_iter().flatten().find(|token| !token.is_empty())?;
    let life = answer.expires_in.and_then(|seconds| seconds.as_u64()).map_or(DEFAULT_LIFE, Duration::from_secs);
    let life = life.min(MAX_LIFE);
    Authorization::new(&format!("Bearer {token}"), life.saturating_sub(MARGIN).max(life / 2))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_in_either_field_and_for_how_long() {
        for (body, value, seconds) in [
            (r#"{"token":"a"}"#, Some("Bearer a"), 50),
            (r#"{"access_token":"b","expires_in":300}"#, Some("Bearer b"), 290),
            (r#"{"token":"","access_token":"b","expires_in":10}"#, Some("Bearer b"), 5),
            (r#"{"token":"a","expires_in":"300"}"#, Some("Bearer a"), 50),
            (r#"{"token":"a","expires_in":-1}"#, Some("Bearer a"), 50),
            (r#"{"token":"a","expires_in":99999999999999}"#, Some("Bearer a"), 24 * 3600 - 10),
            (r#"{"token":"a\r\nX: y"}"#, None, 0),
            (r#"{"token":""}"#, None, 0),
            ("{}", None, 0),
            ("<html>", None, 0),
        ] {
            let found = token(body.as_bytes());
            assert_eq!(found.as_ref().map(|found| found.value.to_str().unwrap()), value, "{body}");
            if let Some(found) = found {
                let left = found.until - Instant::now();
                assert!(
                    left <= Duration::from_secs(seconds)
                        && left + Duration::from_secs(2) > Duration::from_secs(seconds)
                );
            }
        }
    }
}
