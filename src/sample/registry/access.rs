//! Access control: public, with a password, or with a token from the registry's own token endpoint.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::{HeaderMap, Response, StatusCode, header};
use serde_json::json;

use super::answer;
use crate::oci::{ErrorCode, WireError};

/// Who may pull from a repository.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Access {
    /// Everyone.
    #[default]
    Public,
    /// Clients that send a user name and password with every request (RFC 7617).
    Basic(Credentials),
    /// Clients with a token (distribution-spec's "Token Authentication"), which is issued to anyone, as on Docker Hub.
    AnonymousToken,
    /// Clients with a token, which is issued for a user name and password.
    Token(Credentials),
}

/// A user name and password.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Credentials {
    /// The user name.
    pub user: String,
    /// The password.
    pub password: String,
}

impl Credentials {
    /// Creates credentials.
    pub fn new(user: &str, password: &str) -> Self {
        Self { user: user.into(), password: password.into() }
    }
}

/// The rules by repository, and the issued tokens.
#[derive(Debug, Default)]
pub(super) struct AccessRules(Mutex<AccessState>);

#[derive(Debug, Default)]
struct AccessState {
    rules: HashMap<String, Access>,
    realm: Option<String>,
    lifetime: Option<u64>,
    issued: u64,
    /// The repositories that each token grants access to.
    tokens: HashMap<String, Vec<String>>,
}

impl AccessRules {
    pub(super) fn set(&self, repository: &str, access: Access) {
        self.lock().rules.insert(repository.into(), access);
    }

    pub(super) fn set_realm(&self, url: &str) {
        self.lock().realm = Some(url.into());
    }

    pub(super) fn set_lifetime(&self, seconds: u64) {
        self.lock().lifetime = Some(seconds);
    }

    pub(super) fn revoke(&self) {
        self.lock().tokens.clear();
    }

    /// The challenge for a request without sufficient credentials for `repository`, which is empty for `/v2/`; `None`
    /// if access is granted. `origin` is this registry's own URL, for the realm.
    pub(super) fn refusal(&self, repository: &str, headers: &HeaderMap, origin: &str) -> Option<Response<Bytes>> {
        let state = self.lock();
        let token = bearer(headers);
        match state.rule(repository) {
            Access::Public => None,
            Access::Basic(owner) if basic(headers).as_ref() == Some(&owner) => None,
            Access::Basic(_) => Some(unauthorized("Basic realm=\"sample\"")),
            Access::AnonymousToken | Access::Token(_) if state.opens(token.as_deref(), repository) => None,
            Access::AnonymousToken | Access::Token(_) => {
                Some(unauthorized(&state.challenge(repository, origin, token.is_some())))
            }
        }
    }

    /// `GET /token`: issues a token for those requested scopes that the caller may have.
    pub(super) fn token(&self, query: &str, headers: &HeaderMap) -> Response<Bytes> {
        let mut state = self.lock();
        let credentials = basic(headers);
        let wanted = query.split('&').filter_map(|pair| pair.strip_prefix("scope="));
        let names = wanted.flat_map(|scope| {
            let scope = scope.replace('+', " ");
            let scope = percent_encoding::percent_decode_str(&scope).decode_utf8_lossy().into_owned();
            scope.split(' ').filter_map(repository_of_scope).collect::<Vec<_>>()
        });
        let mut granted = Vec::new();
        for name in names {
            match state.rule(&name) {
                Access::Token(owner) if credentials.as_ref() == Some(&owner) => granted.push(name),
                Access::Token(_) if credentials.is_some() => return unauthorized("Basic realm=\"sample\""),
                Access::Token { .. } | Access::Basic(_) => {}
                Access::AnonymousToken | Access::Public => granted.push(name),
            }
        }
        state.issue(granted)
    }

    fn lock(&self) -> MutexGuard<'_, AccessState> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl AccessState {
    fn rule(&self, repository: &str) -> Access {
        self.rules.get(repository).or_else(|| self.rules.get("*")).cloned().unwrap_or_default()
    }

    fn opens(&self, token: Option<&str>, repository: &str) -> bool {
        let granted = token.and_then(|token| self.tokens.get(token));
        granted.is_some_and(|names| repository.is_empty() || names.iter().any(|name| name == repository))
    }

    fn challenge(&self, repository: &str, origin: &str, had_token: bool) -> String {
        let realm = self.realm.clone().unwrap_or_else(|| format!("{origin}/token"));
        let mut challenge = format!("Bearer realm=\"{realm}\",service=\"sample\"");
        if !repository.is_empty() {
            challenge.push_str(&format!(",scope=\"repository:{repository}:pull\""));
        }
        if had_token {
            challenge.push_str(",error=\"insufficient_scope\"");
        }
        challenge
    }

    fn issue(&mut self, repositories: Vec<String>) -> Response<Bytes> {
        self.issued += 1;
        let token = format!("sample-token-{}", self.issued);
        let lifetime = self.lifetime.unwrap_or(300);
        self.tokens.insert(token.clone(), repositories);
        answer::json(&json!({"token": token, "access_token": token, "expires_in": lifetime}))
    }
}

/// Parses `repository:<name>:pull`.
fn repository_of_scope(scope: &str) -> Option<String> {
    let (name, actions) = scope.strip_prefix("repository:")?.rsplit_once(':')?;
    actions.split(',').any(|action| action == "pull").then(|| name.to_owned())
}

fn basic(headers: &HeaderMap) -> Option<Credentials> {
    let packed = headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Basic ")?;
    let text = String::from_utf8(BASE64_STANDARD.decode(packed).ok()?).ok()?;
    text.split_once(':').map(|(user, password)| Credentials::new(user, password))
}

fn bearer(headers: &HeaderMap) -> Option<String> {
    Some(headers.get(header::AUTHORIZATION)?.to_str().ok()?.strip_prefix("Bearer ")?.to_owned())
}

fn unauthorized(challenge: &str) -> Response<Bytes> {
    let error = WireError::new(StatusCode::UNAUTHORIZED, ErrorCode::Unauthorized, "authentication required");
    answer::with_header(answer::error(&error), header::WWW_AUTHENTICATE, challenge)
}
