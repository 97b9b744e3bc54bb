//! IAM tokens for an API key (cloud.ibm.com/apidocs/iam-identity-token-api, `getTokenApiKey`).

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, StatusCode, Uri, header};
use http_body_util::Full;
use jiff::{SignedDuration, Timestamp};
use moka::future::Cache;
use moka::policy::EvictionPolicy;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Deserialize;

use crate::http_client::{HttpClient, HttpError, Reach};
use crate::runtime::{Clock, Secret};

/// A bearer token. Never printed.
#[derive(Clone)]
pub(super) struct Token {
    text: Arc<str>,
    expires: Timestamp,
    epoch: u64,
}

impl Token {
    pub(super) fn text(&self) -> &str {
        &self.text
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Token").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// The current token. Concurrent requests share one exchange, and the token is kept until shortly before it expires.
#[derive(Debug)]
pub(super) struct Tokens {
    url: Uri,
    key: Secret,
    http: HttpClient,
    clock: Clock,
    /// Tokens are numbered, so that all holders of an old token request the same new one.
    epoch: AtomicU64,
    cache: Cache<u64, Token>,
}

/// How long before its expiry a token is replaced.
const MARGIN: SignedDuration = SignedDuration::from_secs(60);
const MAX_ANSWER: usize = 64 << 10;
/// The time limit for one exchange.
pub(super) const TIMEOUT: Duration = Duration::from_secs(10);

impl Tokens {
    pub(super) fn new(url: Uri, key: Secret, http: HttpClient, clock: Clock) -> Self {
        // moka's default policy may reject a new entry in favour of an old one that is used often.
        let cache = Cache::builder().max_capacity(4).eviction_policy(EvictionPolicy::lru()).build();
        Self { url, key, http, clock, epoch: AtomicU64::new(0), cache }
    }

    /// A token that is currently valid.
    pub(super) async fn current(&self) -> Result<Token, String> {
        let token = self.of(self.epoch.load(Ordering::Acquire)).await?;
        let fresh = self.clock.now() < token.expires;
        if fresh { Ok(token) } else { self.replace(&token).await }
    }

    /// A token other than this one.
    pub(super) async fn replace(&self, old: &Token) -> Result<Token, String> {
        let next = old.epoch + 1;
        let epoch = self.epoch.fetch_max(next, Ordering::AcqRel).max(next);
        self.of(epoch).await
    }

    /// Failures are not cached: the next caller tries again.
    async fn of(&self, epoch: u64) -> Result<Token, String> {
        self.cache.try_get_with(epoch, self.exchange(epoch)).await.map_err(|e| String::clone(&e))
    }

    async fn exchange(&self, epoch: u64) -> Result<Token, String> {
        let key = self.key.read_line().map_err(|why| format!("the API key: {why}"))?;
        let form = format!(
            "grant_type=urn%3Aibm%3Aparams%3Aoauth%3Agrant-type%3Aapikey&apikey={}",
            utf8_percent_encode(&key, NON_ALPHANUMERIC)
        );
        let request = || {
            Request::builder()
                .method(Method::POST)
                .uri(&self.url)
                .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                .header(header::ACCEPT, "application/json")
                .body(Full::new(Bytes::from(form.clone())))
                .map_err(|e| e.to_string())
        };
        // One more attempt, because a pooled connection may have been closed in the meantime.
        let exchange = |request| self.http.fetch(Reach::Configured, request, MAX_ANSWER, TIMEOUT);
        let answer = match exchange(request()?).await {
            Err(HttpError::BrokenOff(_) | HttpError::Connection(_) | HttpError::HungUp(_)) => {
                exchange(request()?).await
            }
            answer => answer,
        };
        match answer {
            Ok((StatusCode::OK, body)) => self.token(&body, epoch),
            Ok((status, _)) => Err(format!("IAM answered {status} to the API key")),
            Err(failed) => Err(format!("IAM: {failed}")),
        }
    }

    fn token(&self, body: &[u8], epoch: u64) -> Result<Token, String> {
        let answer: IbmTokenAnswer = serde_json::from_slice(body).map_err(|_| "IAM's answer is not a token")?;
        let lifetime = SignedDuration::from_secs(answer.expires_in.clamp(0, 24 * 3600));
        let expires = self.clock.now().saturating_add(lifetime - MARGIN);
        let expires = expires.map_err(|e| e.to_string())?;
        Ok(Token { text: answer.access_token.into(), expires, epoch })
    }
}

#[derive(Deserialize)]
struct IbmTokenAnswer {
    access_token: String,
    /// The lifetime in seconds.
    expires_in: i64,
}
