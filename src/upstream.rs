//! Upstream registries: one client for each, with its own credentials, certificates and limits.
//!
//! URLs are built only from parsed parts. Credentials are sent to the registry itself and to a token service that
//! belongs to it, never to another host named in a response; a redirect to another host drops them. Every read is
//! bounded.

mod answer;
mod auth;
mod blobs;
mod client;
mod config;
mod error;
mod exchange;
mod headers;
mod health;
mod limits;
mod metrics;
mod notary;
mod offline;
mod retry;
mod service;
mod upstreams;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{Method, Response, StatusCode};
use url::Url;

pub use answer::body::BlobStream;
use answer::body::{Inbound, read_whole};
use answer::encoding::{gunzipped, is_gzip};
use answer::link::next_page;
pub use answer::tags::TagList;
pub use config::{Auth, Config, ConfigError};
pub use error::Error;
pub(crate) use error::WEB_PAGE;
use exchange::{Call, Exchange};
use headers::{content_length, text};
use limits::RequestLane;
use metrics::{LimitMetrics, UpstreamMetrics};
pub use offline::{OfflineAnswer, OfflineContent};
pub use service::{ServiceAddress, ServiceAnswer};
pub use upstreams::Upstreams;

use crate::http_client::Network;
use crate::oci::{
    Descriptor, Digest, Host, MAX_MANIFEST, Page, Reference, Refused, Repository, media_type, parse_referrers,
};
use crate::runtime::{Clock, Tasks};
use crate::scope::Scope;

/// The maximum size of a list of referrers, in bytes (distribution-spec, "Listing Referrers": registries should stay
/// below 4 MiB).
const MAX_LIST: usize = 4 * 1024 * 1024;

/// Responses besides 404 from registries without the referrers API. They treat the request as a malformed name, an
/// unsupported method, an unsupported type, or something that is gone. Refusals (401, 403) and failures (429, 5xx) do
/// not mean that the API is missing.
const NO_REFERRERS_API: &[StatusCode] = &[
    StatusCode::BAD_REQUEST,
    StatusCode::METHOD_NOT_ALLOWED,
    StatusCode::NOT_ACCEPTABLE,
    StatusCode::GONE,
    StatusCode::NOT_IMPLEMENTED,
];

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// The program of a credential helper, by the name in the configuration.
///
/// # Errors
/// There is no such program.
pub fn find_helper(name: &str) -> Result<PathBuf, String> {
    auth::credentials::find_helper(name)
}

/// The client of one registry.
pub struct Upstream {
    exchange: Exchange,
    /// Who answers if it is offline.
    offline: OnceLock<Arc<dyn OfflineContent>>,
}

impl Upstream {
    fn new(
        config: Config,
        services: (&Tasks, &Clock),
        metrics: (UpstreamMetrics, LimitMetrics),
        network: &Network,
    ) -> Result<Self, ConfigError> {
        Ok(Self { exchange: Exchange::new(config, services, metrics, network)?, offline: OnceLock::new() })
    }

    /// The canonical name of the registry.
    pub fn host(&self) -> &Host {
        &self.config().host
    }

    /// The configuration.
    pub fn config(&self) -> &Config {
        self.exchange.config()
    }

    /// Reports its health from now on.
    fn begin(&self) {
        self.exchange.client().begin();
    }

    /// Stops reporting its health: another client has replaced it, or it was removed.
    fn retire(&self) {
        self.exchange.client().retire();
    }

    /// Reports whether required credentials are available. Returns the problem with them.
    async fn check_credentials(&self) -> Option<String> {
        self.exchange.client().check_credentials().await
    }

    /// Reports whether there are credentials and, after failures, whether the registry answers again; after a refusal,
    /// whether it accepts the credentials; and until when it asked to wait.
    async fn check(&self) {
        let health = self.exchange.client().health();
        if self.exchange.client().check().await && health.take_doubt() {
            match self.try_credentials().await {
                Some(tried) => health.rejected(tried.err()),
                None => health.doubt(),
            }
        }
        self.exchange.report_hold();
    }

    /// Whether clients with this scope may pull from the registry. A client without a scope ([`Scope::CLUSTER`]) may
    /// only if everyone may.
    pub fn serves(&self, scope: &Scope) -> bool {
        match &self.config().serve_to {
            None => true,
            Some(scopes) => *scope != Scope::CLUSTER && scopes.contains(scope),
        }
    }

    /// Fetches a complete manifest. If it was requested by digest, its bytes have that digest; if by tag, the digest is
    /// computed from them. The header that claims a digest is ignored, because proxies change or duplicate it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn manifest(&self, repository: &Repository, reference: &Reference) -> Result<RawManifest, Error> {
        if let Some(answer) = self.offline_manifest(repository, reference).await {
            return answer;
        }
        let response = self.exchange.send(&self.manifest_call(Method::GET, repository, reference)).await?;
        let content_type = content_types(&response);
        let bytes = self.read(response, MAX_MANIFEST).await?;
        match reference {
            Reference::Digest(digest) if Digest::of(digest.algorithm(), &bytes) != *digest => {
                Err(self.wrong("manifest", digest))
            }
            _ => Ok(RawManifest { bytes, content_type }),
        }
    }

    /// The digest that the registry claims for a reference, if any, without fetching the manifest. Docker Hub never
    /// counts this as a pull. Some registries and proxies answer HEAD with an error although GET works, so errors are
    /// returned immediately and the caller uses GET.
    ///
    /// # Errors
    /// See [`Error`]; only [`Error::Busy`] is final.
    pub async fn head_manifest(&self, repository: &Repository, reference: &Reference) -> Result<Option<Digest>, Error> {
        let call = Call { has_alternative: true, ..self.manifest_call(Method::HEAD, repository, reference) };
        Ok(claimed_digest(&self.exchange.send(&call).await?))
    }

    /// The size, in bytes, of a blob that the repository has: `size`, from the manifest, unless the registry states
    /// another.
    ///
    /// Only a successful HEAD response counts. Registries may reject HEAD, not know a blob that they would fetch for a
    /// GET, or redirect to storage whose URL is signed for GET. Any other response is therefore retried with a GET
    /// whose body is not read.
    ///
    /// # Errors
    /// [`Error::NotFound`] if the repository does not have the blob; see [`Error`].
    pub async fn head_blob(&self, repository: &Repository, digest: &Digest, size: u64) -> Result<u64, Error> {
        let head = Call { has_alternative: true, ..self.blob_call(Method::HEAD, repository, digest) };
        match self.exchange.send(&head).await {
            Ok(response) if content_length(response.headers()) == Some(size) => return Ok(size),
            // It has already waited for a turn.
            Err(error @ Error::Busy(_)) => return Err(error),
            Ok(_) | Err(_) => {}
        }
        Ok(self.blob(repository, digest, size, 0).await?.size)
    }

    /// Fetches a complete, verified blob of at most `limit` bytes.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn blob_bytes(&self, repository: &Repository, digest: &Digest, limit: usize) -> Result<Bytes, Error> {
        if let Some(answer) = self.offline_blob(repository, digest, limit).await {
            return answer;
        }
        let response = self.exchange.send(&self.blob_call(Method::GET, repository, digest)).await?;
        let bytes = read_whole(response.into_body(), limit, self.config()).await?;
        let is_right = |bytes: &Bytes| Digest::of(digest.algorithm(), bytes) == *digest;
        let plain = if is_right(&bytes) { Some(bytes) } else { gunzipped(&bytes, limit).filter(is_right) };
        plain.ok_or_else(|| self.wrong("blob", digest))
    }

    /// Streams a page of a repository's tags.
    ///
    /// # Errors
    /// See [`Error`]. If the next page cannot be followed, the error is [`Error::Protocol`]; the page never counts as
    /// the last one.
    pub async fn tags(&self, repository: &Repository, page: &Page) -> Result<TagList, Error> {
        let page = Page { artifact_type: None, ..page.clone() };
        let call = self.call(Method::GET, RequestLane::List, repository, "tags/list");
        let (response, next) = self.list(call, &page).await?;
        Ok(TagList::new(next, response.into_body(), self.config()))
    }

    /// Fetches a page of the referrers of a manifest. [`Error::NotFound`] means that the registry has no referrers API;
    /// callers then use the referrers tag (distribution-spec, "Unavailable Referrers API"). A response that is neither
    /// JSON nor declared as an index counts as that too: it is a web page from a server that does not know the path.
    ///
    /// # Errors
    /// See [`Error`]. [`Error::Unauthorized`] and [`Error::Forbidden`] are refusals. [`Error::Protocol`] means that the
    /// response is not a list, or that its next page cannot be followed. None of these means that there are no
    /// referrers.
    pub async fn referrers(&self, repository: &Repository, digest: &Digest, page: &Page) -> Result<List, Error> {
        if let Some(answer) = self.offline_referrers(repository, digest).await {
            let bytes = answer?;
            let invalid = |refused: Refused| self.protocol(&format!("an imported list that is invalid: {refused}"));
            return Ok(List { entries: parse_referrers(&bytes).map_err(invalid)?, bytes, next: None });
        }
        let call = self.call(Method::GET, RequestLane::List, repository, &format!("referrers/{digest}"));
        let (response, next) = self.list(Call { absent: NO_REFERRERS_API, ..call }, page).await?;
        let label = header_text(&response, &header::CONTENT_TYPE);
        let bytes = self.read(response, MAX_LIST).await?;
        match parse_referrers(&bytes) {
            Ok(entries) => Ok(List { bytes, entries, next }),
            Err(refused) if is_meant_as_list(&bytes, label.as_deref()) => {
                Err(self.protocol(&format!("an answer that is not a list of referrers: {refused}")))
            }
            Err(_) => Err(Error::NOT_FOUND),
        }
    }

    async fn list(&self, mut call: Call, page: &Page) -> Result<(Response<Inbound>, Option<Page>), Error> {
        let query = page.to_query();
        call.url.set_query((!query.is_empty()).then(|| query.join("&")).as_deref());
        let response = self.exchange.send(&call).await?;
        let next =
            next_page(response.headers(), &call.url).map_err(|why| self.protocol(&format!("a list with {why}")))?;
        if next.as_ref() == Some(page) {
            return Err(self.protocol("a list whose next page is the page itself"));
        }
        Ok((response, next))
    }

    fn manifest_call(&self, method: Method, repository: &Repository, reference: &Reference) -> Call {
        let call = self.call(method, RequestLane::Pull, repository, &format!("manifests/{reference}"));
        Call { accept: Some(media_type::ACCEPT_MANIFESTS), ..call }
    }

    fn blob_call(&self, method: Method, repository: &Repository, digest: &Digest) -> Call {
        self.call(method, RequestLane::Blob, repository, &format!("blobs/{digest}"))
    }

    fn call(&self, method: Method, lane: RequestLane, repository: &Repository, rest: &str) -> Call {
        let mut url: Url = self.exchange.client().base().clone();
        // Repositories, tags and digests contain no characters that need encoding or normalisation.
        let path = format!("{}/v2/{repository}/{rest}", url.path().trim_end_matches('/'));
        url.set_path(&path);
        Call::new(method, lane, url, repository.clone())
    }

    /// Reads a JSON document. JSON never starts like gzip, so a body that does was compressed in transit without a
    /// request. That is harmless: the decompressed content is judged.
    async fn read(&self, response: Response<Inbound>, limit: usize) -> Result<Bytes, Error> {
        let bytes = read_whole(response.into_body(), limit, self.config()).await?;
        if !is_gzip(&bytes) {
            return Ok(bytes);
        }
        gunzipped(&bytes, limit).ok_or_else(|| self.protocol("a compressed response that cannot be decompressed"))
    }

    fn wrong(&self, what: &str, digest: &Digest) -> Error {
        Error::Digest(format!("{}: the {what}'s bytes do not have the digest {digest}", self.host()))
    }

    fn protocol(&self, what: &str) -> Error {
        self.exchange.client().protocol(what)
    }
}

fn header_text(response: &Response<Inbound>, name: &HeaderName) -> Option<String> {
    text(response.headers(), name)
}

/// All values of `Content-Type`: a proxy may add its own header to the registry's.
fn content_types(response: &Response<Inbound>) -> Option<String> {
    let values = response.headers().get_all(header::CONTENT_TYPE).iter();
    let types: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
    (!types.is_empty()).then(|| types.join(", "))
}

/// Whether a response is, or claims to be, a list of referrers.
fn is_meant_as_list(bytes: &[u8], label: Option<&str>) -> bool {
    label.map(media_type::essence).as_deref() == Some(media_type::OCI_INDEX)
        || serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok()
}

fn claimed_digest(response: &Response<Inbound>) -> Option<Digest> {
    header_text(response, &CONTENT_DIGEST)?.parse().ok()
}

/// A fetched manifest.
#[derive(Clone, Debug)]
pub struct RawManifest {
    /// The bytes.
    pub bytes: Bytes,
    /// The values of `Content-Type`, joined with commas.
    pub content_type: Option<String>,
}

/// A page of referrers.
#[derive(Clone, Debug)]
pub struct List {
    /// The JSON, unchanged.
    pub bytes: Bytes,
    /// The referrers: see [`parse_referrers`].
    pub entries: Vec<Descriptor>,
    /// The query for the next page.
    pub next: Option<Page>,
}

#[cfg(test)]
mod tests;
