//! The registries behind: one client for each, with its own credentials, trust and limits.
//!
//! URLs are built from parsed parts alone. Credentials go to the registry itself and to a token service that belongs to
//! it, and to nobody that an answer names; redirects lose them at the first other host. Every read has a bound.

mod answer;
mod auth;
mod config;
mod connection;
mod error;
mod exchange;
mod headers;
mod limits;
mod metrics;
mod retry;
mod upstreams;

use bytes::Bytes;
use http::header::{self, HeaderName};
use http::{Method, Response, StatusCode};
use url::Url;

pub use answer::body::BlobStream;
use answer::body::{Inbound, read_whole};
use answer::encoding::{gunzipped, is_gzip};
use answer::link::next_page;
pub use answer::tags::TagList;
pub use config::{Auth, Config, ConfigError, Secret};
use connection::connect::Network;
pub use error::Error;
use exchange::{Call, Exchange};
use headers::{content_length, content_range, text};
use limits::Lane;
use metrics::{LimitMetrics, RequestMetrics};
pub use upstreams::Upstreams;

use crate::oci::{Descriptor, Digest, Host, MAX_MANIFEST, Page, Reference, Repository, media_type, parse_referrers};
use crate::runtime::Tasks;
use crate::scope::Scope;

/// The largest list of referrers that is read, in bytes (distribution-spec, "Listing Referrers": registries should stay
/// below 4 MiB).
const MAX_LIST: usize = 4 * 1024 * 1024;

/// What registries without the referrers API answer beside 404: to them it is a malformed name, a method that some other
/// endpoint does not have, a type that they do not make, something that they gave up or never had. A refusal (401, 403)
/// and trouble (429, 5xx) are no such answers.
const NO_REFERRERS_API: &[StatusCode] = &[
    StatusCode::BAD_REQUEST,
    StatusCode::METHOD_NOT_ALLOWED,
    StatusCode::NOT_ACCEPTABLE,
    StatusCode::GONE,
    StatusCode::NOT_IMPLEMENTED,
];

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("docker-content-digest");

/// One registry.
pub struct Upstream {
    exchange: Exchange,
}

impl Upstream {
    fn new(
        config: Config,
        tasks: &Tasks,
        metrics: (RequestMetrics, LimitMetrics),
        network: &Network,
    ) -> Result<Self, ConfigError> {
        Ok(Self { exchange: Exchange::new(config, tasks, metrics, network)? })
    }

    /// Its canonical name.
    pub fn host(&self) -> &Host {
        &self.config().host
    }

    /// How it is configured.
    pub fn config(&self) -> &Config {
        self.exchange.config()
    }

    /// Whether clients of this scope may pull from it. A client without a scope ([`Scope::CLUSTER`]) may only where
    /// everyone may.
    pub fn serves(&self, scope: &Scope) -> bool {
        match &self.config().serve_to {
            None => true,
            Some(scopes) => *scope != Scope::CLUSTER && scopes.contains(scope),
        }
    }

    /// A manifest, whole. By digest, its bytes have that digest; by tag, they say themselves which they have. The header
    /// that claims one is a label, which fronts get wrong or write twice.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn manifest(&self, repository: &Repository, reference: &Reference) -> Result<FetchedManifest, Error> {
        let response = self.exchange.send(&self.manifest_call(Method::GET, repository, reference)).await?;
        let (content_type, etag) = (content_types(&response), header_text(&response, &header::ETAG));
        let bytes = self.read(response, MAX_MANIFEST).await?;
        match reference {
            Reference::Digest(digest) if Digest::of(digest.algorithm(), &bytes) != *digest => {
                Err(self.wrong("manifest", digest))
            }
            _ => Ok(FetchedManifest { bytes, content_type, etag }),
        }
    }

    /// What a reference means, without its bytes. Never counts as a pull at Docker Hub. Some registries, and fronts of
    /// them, answer HEAD with any error and GET with the manifest, so trouble is told at once and the caller uses GET.
    ///
    /// # Errors
    /// See [`Error`]; none but [`Error::Busy`] is the last word on the reference.
    pub async fn head_manifest(&self, repository: &Repository, reference: &Reference) -> Result<ManifestHead, Error> {
        let call = Call { has_alternative: true, ..self.manifest_call(Method::HEAD, repository, reference) };
        let response = self.exchange.send(&call).await?;
        Ok(ManifestHead {
            digest: claimed_digest(&response),
            content_type: header_text(&response, &header::CONTENT_TYPE),
            size: content_length(response.headers()),
        })
    }

    /// A blob as a stream, from an offset where the registry supports that; [`BlobStream::from`] says where it begins.
    /// `size` is what the manifest that names it says, in bytes: it counts where the answer does not state another.
    /// The bytes are not verified: whoever keeps or serves them does that. So no `If-Range` is needed either: what a
    /// digest names does not change, and parts of two contents do not have it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        size: u64,
        from: u64,
    ) -> Result<BlobStream, Error> {
        let whole = self.blob_call(Method::GET, repository, digest);
        if from > 0 {
            let rest = Call { range_from: Some(from), ..whole.clone() };
            match self.exchange.send(&rest).await {
                Ok(response) => {
                    if let Some(stream) = self.rest(response, size, from) {
                        return Ok(stream);
                    }
                }
                // It has waited for a turn already.
                Err(error @ Error::Busy(_)) => return Err(error),
                Err(_) => {}
            }
            // It does not give this part; the whole it may give all the same.
            tracing::debug!(upstream = %self.host(), %digest, from, "no part is to be had; from the beginning");
        }
        let response = self.exchange.send(&whole).await?;
        self.whole(response, size)
    }

    /// A blob from its beginning.
    fn whole(&self, response: Response<Inbound>, size: u64) -> Result<BlobStream, Error> {
        let stated = content_length(response.headers()).unwrap_or(size);
        let stream = BlobStream::new(stated, 0..stated, response, self.config());
        match &stream.encoding {
            Some(encoding) if stated != size => {
                let what = format!("a blob of {size} bytes as {stated} bytes of {encoding:?}, which was not asked for");
                Err(self.protocol(&what))
            }
            _ => Ok(stream),
        }
    }

    /// The rest of a blob, or all of it, where that is the answer (RFC 9110 §14.4; the total may be `*`).
    fn rest(&self, response: Response<Inbound>, size: u64, from: u64) -> Option<BlobStream> {
        match response.status() {
            StatusCode::OK | StatusCode::NON_AUTHORITATIVE_INFORMATION => self.whole(response, size).ok(),
            StatusCode::PARTIAL_CONTENT => {
                let (span, total) = content_range(response.headers())?;
                let fits = span.start <= from && from < span.end && span.end <= size;
                let is_of_it = fits && total.is_none_or(|total| total == size);
                is_of_it.then(|| BlobStream::new(size, span, response, self.config()))
            }
            _ => None,
        }
    }

    /// The size in bytes of a blob that the repository has: `size`, which the manifest says, unless it states another.
    ///
    /// A HEAD may only say yes. Registries refuse it, do not know by it what they would fetch for a GET, or lead to
    /// storage whose URL is signed for GET; so anything else is asked again by a GET whose body is not read.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it has it not; see [`Error`].
    pub async fn head_blob(&self, repository: &Repository, digest: &Digest, size: u64) -> Result<u64, Error> {
        let head = Call { has_alternative: true, ..self.blob_call(Method::HEAD, repository, digest) };
        match self.exchange.send(&head).await {
            Ok(response) if content_length(response.headers()) == Some(size) => return Ok(size),
            // It has waited for a turn already.
            Err(error @ Error::Busy(_)) => return Err(error),
            Ok(_) | Err(_) => {}
        }
        Ok(self.blob(repository, digest, size, 0).await?.size)
    }

    /// A blob, whole and verified, at most `limit` bytes.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn blob_bytes(&self, repository: &Repository, digest: &Digest, limit: usize) -> Result<Bytes, Error> {
        let response = self.exchange.send(&self.blob_call(Method::GET, repository, digest)).await?;
        let bytes = read_whole(response.into_body(), limit, self.config()).await?;
        let is_right = |bytes: &Bytes| Digest::of(digest.algorithm(), bytes) == *digest;
        let plain = if is_right(&bytes) { Some(bytes) } else { gunzipped(&bytes, limit).filter(is_right) };
        plain.ok_or_else(|| self.wrong("blob", digest))
    }

    /// A page of a repository's tags, which come as they are read.
    ///
    /// # Errors
    /// See [`Error`]. A page whose next one cannot be followed is [`Error::Protocol`], never the last one.
    pub async fn tags(&self, repository: &Repository, page: &Page) -> Result<TagList, Error> {
        let page = Page { artifact_type: None, ..page.clone() };
        let call = self.call(Method::GET, Lane::List, repository, "tags/list");
        let (response, next) = self.list(call, &page).await?;
        Ok(TagList::new(next, response.into_body(), self.config()))
    }

    /// A page of what refers to a manifest. A registry without the referrers API is [`Error::NotFound`]; callers then
    /// use the fallback tag (distribution-spec, "Unavailable Referrers API"). So is an answer that neither is JSON nor
    /// says that it is an index: a page for people, of a web server that knows no such path.
    ///
    /// # Errors
    /// See [`Error`]. [`Error::Unauthorized`] and [`Error::Forbidden`] are refusals; [`Error::Protocol`] is an answer
    /// that is no list, or a list whose next page cannot be followed. None of them says that there are no referrers.
    pub async fn referrers(&self, repository: &Repository, digest: &Digest, page: &Page) -> Result<List, Error> {
        let call = self.call(Method::GET, Lane::List, repository, &format!("referrers/{digest}"));
        let (response, next) = self.list(Call { absent: NO_REFERRERS_API, ..call }, page).await?;
        let label = header_text(&response, &header::CONTENT_TYPE);
        let bytes = self.read(response, MAX_LIST).await?;
        match parse_referrers(&bytes) {
            Ok(entries) => Ok(List { bytes, entries, next }),
            Err(refused) if is_meant_as_list(&bytes, label.as_deref()) => {
                Err(self.protocol(&format!("an answer that is no list of referrers: {refused}")))
            }
            Err(_) => Err(Error::NotFound),
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
        let call = self.call(method, Lane::Pull, repository, &format!("manifests/{reference}"));
        Call { accept: Some(media_type::ACCEPT_MANIFESTS), ..call }
    }

    fn blob_call(&self, method: Method, repository: &Repository, digest: &Digest) -> Call {
        self.call(method, Lane::Blob, repository, &format!("blobs/{digest}"))
    }

    fn call(&self, method: Method, lane: Lane, repository: &Repository, rest: &str) -> Call {
        let mut url: Url = self.exchange.client().base().clone();
        // The grammar of repositories, tags and digests leaves nothing to encode and nothing to normalise.
        let path = format!("{}/v2/{repository}/{rest}", url.path().trim_end_matches('/'));
        url.set_path(&path);
        Call::new(method, lane, url, repository.clone())
    }

    /// Reads a JSON document. No JSON begins as gzip does, so one that does was packed on the way, which was not asked
    /// for and is no harm: what is inside is judged.
    async fn read(&self, response: Response<Inbound>, limit: usize) -> Result<Bytes, Error> {
        let bytes = read_whole(response.into_body(), limit, self.config()).await?;
        if !is_gzip(&bytes) {
            return Ok(bytes);
        }
        gunzipped(&bytes, limit).ok_or_else(|| self.protocol("an encoded answer that cannot be decoded"))
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

/// All that is said of the type: a front may add a header of its own to the registry's.
fn content_types(response: &Response<Inbound>) -> Option<String> {
    let values = response.headers().get_all(header::CONTENT_TYPE).iter();
    let types: Vec<&str> = values.filter_map(|value| value.to_str().ok()).collect();
    (!types.is_empty()).then(|| types.join(", "))
}

/// Whether an answer claims or tries to be a list of referrers.
fn is_meant_as_list(bytes: &[u8], label: Option<&str>) -> bool {
    label.map(media_type::essence).as_deref() == Some(media_type::OCI_INDEX)
        || serde_json::from_slice::<serde::de::IgnoredAny>(bytes).is_ok()
}

fn claimed_digest(response: &Response<Inbound>) -> Option<Digest> {
    header_text(response, &CONTENT_DIGEST)?.parse().ok()
}

/// A manifest as it came.
#[derive(Clone, Debug)]
pub struct FetchedManifest {
    /// The bytes.
    pub bytes: Bytes,
    /// What the headers said, with commas between them.
    pub content_type: Option<String>,
    /// The entity tag, where there is one.
    pub etag: Option<String>,
}

/// What a HEAD of a manifest says.
#[derive(Clone, Debug)]
pub struct ManifestHead {
    /// The digest that the registry claims; verified when the bytes are fetched by it.
    pub digest: Option<Digest>,
    /// What the header said.
    pub content_type: Option<String>,
    /// The size in bytes that the registry claims.
    pub size: Option<u64>,
}

/// A page of referrers.
#[derive(Clone, Debug)]
pub struct List {
    /// The JSON, as it came.
    pub bytes: Bytes,
    /// What it lists: see [`parse_referrers`].
    pub entries: Vec<Descriptor>,
    /// How to ask for the next page.
    pub next: Option<Page>,
}

#[cfg(test)]
mod tests;
