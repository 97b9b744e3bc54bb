//! Requests for documents that no registry API of the distribution specification has: extensions of the registry, and
//! auxiliary services such as its notary server.

use bytes::Bytes;
use http::{HeaderMap, Method};
use url::Url;

use super::answer::body::read_whole;
use super::exchange::{Call, TokenUse};
use super::headers::is_web_page;
use super::limits::RequestLane;
use super::{Error, Upstream};
use crate::oci::Repository;

/// Where a document is requested.
#[cfg_attr(not(any(test, feature = "gpg")), expect(dead_code, reason = "only `gpg` reads extensions"))]
#[derive(Clone, Copy, Debug)]
pub enum ServiceAddress<'a> {
    /// A path of the registry itself, below its URL: `/v2/`.
    Registry(&'a str),
    /// An auxiliary service, which the configuration or a policy names. It gets tokens for the resource of this
    /// name: `docker.io/library/alpine`.
    Beside {
        /// The URL of the document.
        url: &'a Url,
        /// The name of the repository in the scope of a token.
        resource: &'a str,
    },
}

/// A document, and the headers that came with it.
#[cfg_attr(not(any(test, feature = "gpg")), expect(dead_code, reason = "only `gpg` reads headers"))]
#[derive(Clone, Debug)]
pub struct ServiceAnswer {
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub bytes: Bytes,
}

/// A repository for which a token is requested when only the registry matters. It need not exist.
const ANY_REPOSITORY: &str = "library/hello-world";

impl Upstream {
    /// Asks the registry whether it is one, with the credentials that it asks for (distribution-spec, "Determining
    /// Support": `GET /v2/`). Returns whether it asked for any.
    ///
    /// # Errors
    /// [`Error::NotFound`] or [`Error::Protocol`] if there is no registry at this URL; see [`Error`].
    pub async fn ping(&self) -> Result<bool, Error> {
        self.ping_by(&self.ping_call()?).await
    }

    /// Tries the credentials: how the registry rejects them, if it does. `None` if that cannot be found out now.
    pub(super) async fn try_credentials(&self) -> Option<Result<(), String>> {
        let call = self.ping_call().ok()?;
        self.exchange.forget_authorization(&call);
        match self.ping_by(&call).await {
            Err(why @ Error::Unauthorized(_)) => Some(Err(why.to_string())),
            // As Amazon's registry answers to a password that has expired. A filter on the way got none.
            Err(why @ Error::Forbidden(_)) if self.exchange.is_authorized(&call) => Some(Err(why.to_string())),
            Err(why) if why.is_temporary() => None,
            Ok(_) | Err(_) => Some(Ok(())),
        }
    }

    /// For a repository that the credentials are known to allow, if there is one: some token services give no token for
    /// any other.
    fn ping_call(&self) -> Result<Call, Error> {
        let mut url = self.exchange.client().base().clone();
        url.set_path(&format!("{}/v2/", url.path().trim_end_matches('/')));
        let repository = match self.exchange.served() {
            Some(repository) => repository,
            None => ANY_REPOSITORY.parse().map_err(|_| Error::NOT_FOUND)?,
        };
        Ok(Call::new(Method::GET, RequestLane::List, url, repository))
    }

    async fn ping_by(&self, call: &Call) -> Result<bool, Error> {
        let answer = self.exchange.send(call).await?;
        if is_web_page(answer.headers()) {
            let what =
                "it answers /v2/ with a web page, like a login page or a portal: it is not the URL of a registry";
            return Err(self.exchange.client().protocol(what));
        }
        Ok(self.exchange.is_authorized(call))
    }

    /// Fetches a document of at most `limit` bytes from the registry or from an auxiliary service. An auxiliary service
    /// gets the registry's credentials only on the host of the registry, of its notary server, or on one that the
    /// operator lists in `realms`; otherwise the request is anonymous.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the service answers 404; see [`Error`].
    pub async fn document(
        &self,
        repository: &Repository,
        address: ServiceAddress<'_>,
        limit: usize,
    ) -> Result<ServiceAnswer, Error> {
        let (url, tokens) = match address {
            ServiceAddress::Registry(path) => {
                let mut url = self.exchange.client().base().clone();
                url.set_path(&format!("{}{path}", url.path().trim_end_matches('/')));
                (url, TokenUse::Registry)
            }
            ServiceAddress::Beside { url, resource } => (url.clone(), TokenUse::Beside { resource: resource.into() }),
        };
        let call = Call::new(Method::GET, RequestLane::List, url, repository.clone());
        let response = self.exchange.send(&Call { tokens, ..call }).await?;
        let headers = response.headers().clone();
        let bytes = read_whole(response.into_body(), limit, self.config()).await?;
        Ok(ServiceAnswer { headers, bytes })
    }
}
