//! The registries behind: one client for each, with its own credentials, trust and limits.
//!
//! URLs are built from parsed parts alone. Credentials go to the registry itself and to a token service that belongs to
//! it, and to nobody that an answer names; redirects lose them at the first other host. Every read has a bound.

mod auth;
mod config;
mod connect;
mod credentials;
mod exchange;
mod tls;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap};
use http::{Method, StatusCode, Uri};
use http_body_util::BodyExt;
use hyper::body::Incoming;

pub use config::{Auth, Config, ConfigError, Secret};
use exchange::{Call, Exchange};

use crate::oci::{Digest, Hasher, Host, MAX_MANIFEST, Page, Reference, Repository, media_type};
use crate::runtime::{Metrics, Tasks};

/// The largest list of tags or referrers that is read at once, in bytes.
const MAX_LIST: usize = 4 * 1024 * 1024;

/// All upstreams, by the names that requests use.
pub struct Upstreams {
    all: Vec<Arc<Upstream>>,
    by_host: HashMap<Host, usize>,
    by_path: HashMap<String, usize>,
    default: Option<usize>,
}

impl Upstreams {
    /// Builds a client for each.
    ///
    /// # Errors
    /// When two claim the same name, a CA file cannot be read, or a URL is none.
    pub fn new(
        configs: Vec<Config>,
        default: Option<&Host>,
        tasks: &Tasks,
        metrics: &Metrics,
    ) -> Result<Self, ConfigError> {
        let exchange_metrics = exchange::ExchangeMetrics::new(metrics);
        let mut upstreams = Self { all: Vec::new(), by_host: HashMap::new(), by_path: HashMap::new(), default: None };
        for config in configs {
            let index = upstreams.all.len();
            for host in [&config.host].into_iter().chain(&config.aliases) {
                if upstreams.by_host.insert(host.clone(), index).is_some() {
                    return Err(ConfigError::Twice(host.to_string()));
                }
            }
            let paths = config.path.iter().cloned().chain([config.host.to_string()]);
            for path in paths.chain(config.aliases.iter().map(ToString::to_string)) {
                if upstreams.by_path.insert(path.clone(), index).is_some_and(|other| other != index) {
                    return Err(ConfigError::Twice(path));
                }
            }
            upstreams.all.push(Arc::new(Upstream::new(config, tasks, exchange_metrics.clone())?));
        }
        upstreams.default = match default {
            Some(host) => Some(*upstreams.by_host.get(host).ok_or_else(|| ConfigError::Default(host.to_string()))?),
            None => None,
        };
        Ok(upstreams)
    }

    /// The upstream of this host or alias.
    pub fn by_host(&self, host: &Host) -> Option<&Arc<Upstream>> {
        self.by_host.get(host).map(|index| &self.all[*index])
    }

    /// The upstream that a request's first path component names: by host, alias or `path`.
    pub fn by_path(&self, component: &str) -> Option<&Arc<Upstream>> {
        self.by_path.get(component).map(|index| &self.all[*index])
    }

    /// Where requests go that name none.
    pub fn default_upstream(&self) -> Option<&Arc<Upstream>> {
        self.default.map(|index| &self.all[index])
    }

    /// All of them, in the configuration's order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Upstream>> {
        self.all.iter()
    }

    /// Their hosts, for messages.
    pub fn names(&self) -> Vec<String> {
        self.all.iter().map(|upstream| upstream.host().to_string()).collect()
    }
}

/// One registry.
pub struct Upstream {
    exchange: Exchange,
}

impl Upstream {
    fn new(config: Config, tasks: &Tasks, metrics: exchange::ExchangeMetrics) -> Result<Self, ConfigError> {
        Ok(Self { exchange: Exchange::new(config, tasks, metrics)? })
    }

    /// Its canonical name.
    pub fn host(&self) -> &Host {
        &self.config().host
    }

    /// How it is configured.
    pub fn config(&self) -> &Config {
        self.exchange.config()
    }

    /// Whether clients of this scope may use its credentials' reach; `None` is a client without a scope.
    pub fn serves(&self, scope: Option<&str>) -> bool {
        match &self.config().serve_to {
            None => true,
            Some(scopes) => scope.is_some_and(|scope| scopes.iter().any(|known| known == scope)),
        }
    }

    /// A manifest, whole; by digest, its bytes have that digest.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn manifest(&self, repository: &Repository, reference: &Reference) -> Result<FetchedManifest, Error> {
        let call = self.manifest_call(Method::GET, repository, reference)?;
        let response = self.exchange.send(call).await?;
        let content_type = text(response.headers(), &header::CONTENT_TYPE);
        let bytes = self.read(response.into_body(), MAX_MANIFEST).await?;
        if let Reference::Digest(digest) = reference
            && Digest::of(digest.algorithm(), &bytes) != *digest
        {
            return Err(Error::Digest(format!(
                "{}: the manifest's bytes do not have the digest {digest}",
                self.host()
            )));
        }
        Ok(FetchedManifest { bytes, content_type })
    }

    /// What a reference means, without its bytes. Never counts as a pull at Docker Hub.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn head_manifest(&self, repository: &Repository, reference: &Reference) -> Result<ManifestHead, Error> {
        let call = self.manifest_call(Method::HEAD, repository, reference)?;
        let response = self.exchange.send(call).await?;
        let digest = text(response.headers(), &"docker-content-digest".parse().map_err(protocol)?);
        Ok(ManifestHead { digest: digest.and_then(|digest| digest.parse().ok()) })
    }

    /// A blob as a stream, from an offset where the registry supports that; [`BlobStream::from`] says where it begins.
    /// The bytes are not verified: whoever keeps or serves them does that.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn blob(&self, repository: &Repository, digest: &Digest, from: u64) -> Result<BlobStream, Error> {
        let mut call = self.blob_call(Method::GET, repository, digest)?;
        call.range_from = (from > 0).then_some(from);
        let response = self.exchange.send(call).await?;
        let (status, headers) = (response.status(), response.headers());
        let (size, start) = match status {
            StatusCode::PARTIAL_CONTENT => content_range(headers).filter(|(_, start)| *start == from),
            _ => content_length(headers).map(|size| (size, 0)),
        }
        .ok_or_else(|| self.protocol("the answer to a blob request does not say how long the blob is"))?;
        let idle = self.config().idle_timeout;
        Ok(BlobStream { size, from: start, body: response.into_body(), idle, host: self.host().clone() })
    }

    /// The size in bytes of a blob that the repository has.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it has it not; see [`Error`].
    pub async fn head_blob(&self, repository: &Repository, digest: &Digest) -> Result<u64, Error> {
        let response = self.exchange.send(self.blob_call(Method::HEAD, repository, digest)?).await?;
        content_length(response.headers()).ok_or_else(|| self.protocol("a HEAD of a blob has no Content-Length"))
    }

    /// A blob, whole and verified, at most `limit` bytes.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn blob_bytes(&self, repository: &Repository, digest: &Digest, limit: usize) -> Result<Bytes, Error> {
        let response = self.exchange.send(self.blob_call(Method::GET, repository, digest)?).await?;
        let bytes = self.read(response.into_body(), limit).await?;
        let mut hasher = Hasher::new(digest.algorithm());
        hasher.update(&bytes);
        if hasher.finish() != *digest {
            return Err(Error::Digest(format!("{}: the blob's bytes do not have the digest {digest}", self.host())));
        }
        Ok(bytes)
    }

    /// A page of a repository's tags.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn tags(&self, repository: &Repository, page: &Page) -> Result<List, Error> {
        let page = Page { artifact_type: None, ..page.clone() };
        self.list(repository, &format!("/v2/{repository}/tags/list"), &page).await
    }

    /// A page of what refers to a manifest. A registry without the referrers API is [`Error::NotFound`]; callers then
    /// use the fallback tag (distribution-spec, "Unavailable Referrers API").
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn referrers(&self, repository: &Repository, digest: &Digest, page: &Page) -> Result<List, Error> {
        let list = self.list(repository, &format!("/v2/{repository}/referrers/{digest}"), page).await;
        match list {
            Ok(list)
                if list.content_type.as_deref().map(media_type::essence).as_deref() != Some(media_type::OCI_INDEX) =>
            {
                Err(Error::NotFound)
            }
            // Registries that never heard of the endpoint answer in these ways.
            Err(Error::Protocol(_)) => Err(Error::NotFound),
            other => other,
        }
    }

    async fn list(&self, repository: &Repository, path: &str, page: &Page) -> Result<List, Error> {
        let query = page.to_query();
        let target = if query.is_empty() { path.to_owned() } else { format!("{path}?{}", query.join("&")) };
        let response = self.exchange.send(Call::new(Method::GET, self.uri(&target)?, pull_scope(repository))).await?;
        let content_type = text(response.headers(), &header::CONTENT_TYPE);
        let next = text(response.headers(), &header::LINK).and_then(|link| next_page(&link));
        let bytes = self.read(response.into_body(), MAX_LIST).await?;
        Ok(List { bytes, content_type, next })
    }

    fn manifest_call(&self, method: Method, repository: &Repository, reference: &Reference) -> Result<Call, Error> {
        let uri = self.uri(&format!("/v2/{repository}/manifests/{reference}"))?;
        Ok(Call { accept: Some(media_type::ACCEPT_MANIFESTS), ..Call::new(method, uri, pull_scope(repository)) })
    }

    fn blob_call(&self, method: Method, repository: &Repository, digest: &Digest) -> Result<Call, Error> {
        let uri = self.uri(&format!("/v2/{repository}/blobs/{digest}"))?;
        Ok(Call::new(method, uri, pull_scope(repository)))
    }

    fn uri(&self, target: &str) -> Result<Uri, Error> {
        format!("{}{target}", self.config().url.trim_end_matches('/')).parse().map_err(protocol)
    }

    async fn read(&self, body: Incoming, limit: usize) -> Result<Bytes, Error> {
        read_bounded(body, limit, self.config().idle_timeout, self.host()).await
    }

    fn protocol(&self, what: &str) -> Error {
        Error::Protocol(format!("{}: {what}", self.host()))
    }
}

fn pull_scope(repository: &Repository) -> String {
    format!("repository:{repository}:pull")
}

fn protocol(error: impl std::fmt::Display) -> Error {
    Error::Protocol(error.to_string())
}

/// Reads a body whole, with a bound on its size and on how long it may be silent.
async fn read_bounded(mut body: Incoming, limit: usize, idle: Duration, host: &Host) -> Result<Bytes, Error> {
    let mut bytes = BytesMut::new();
    while let Some(frame) = next_frame(&mut body, idle, host).await {
        let chunk = frame?;
        if bytes.len() + chunk.len() > limit {
            return Err(Error::TooLarge(format!("{host}: the answer is larger than {limit} bytes")));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes.freeze())
}

async fn next_frame(body: &mut Incoming, idle: Duration, host: &Host) -> Option<Result<Bytes, Error>> {
    loop {
        let Ok(frame) = tokio::time::timeout(idle, body.frame()).await else {
            return Some(Err(Error::Unavailable(format!("{host}: no byte came for {} s", idle.as_secs_f32()))));
        };
        match frame? {
            Ok(frame) => {
                if let Ok(data) = frame.into_data() {
                    return Some(Ok(data));
                }
            }
            Err(error) => return Some(Err(Error::Unavailable(format!("{host}: the answer broke off: {error}")))),
        }
    }
}

fn text(headers: &HeaderMap, name: &header::HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

fn content_length(headers: &HeaderMap) -> Option<u64> {
    text(headers, &header::CONTENT_LENGTH)?.parse().ok()
}

/// Total size and start of `Content-Range: bytes 5-9/10`, for a range that reaches the end.
fn content_range(headers: &HeaderMap) -> Option<(u64, u64)> {
    let range = text(headers, &header::CONTENT_RANGE)?;
    let (span, size) = range.strip_prefix("bytes ")?.split_once('/')?;
    let (start, end) = span.split_once('-')?;
    let (size, start, end): (u64, u64, u64) = (size.parse().ok()?, start.parse().ok()?, end.parse().ok()?);
    (end.checked_add(1) == Some(size)).then_some((size, start))
}

/// The query of `Link: <…?last=x>; rel="next"` (RFC 8288); whatever host it names is not looked at.
fn next_page(link: &str) -> Option<Page> {
    let (target, parameters) = link.strip_prefix('<')?.split_once('>')?;
    if !parameters.contains("rel=\"next\"") && !parameters.contains("rel=next") {
        return None;
    }
    let (_, query) = target.split_once('?')?;
    Page::from_query(query).ok()
}

/// A manifest as it came.
#[derive(Clone, Debug)]
pub struct FetchedManifest {
    /// The bytes.
    pub bytes: Bytes,
    /// What the header said.
    pub content_type: Option<String>,
}

/// What a HEAD of a manifest says.
#[derive(Clone, Debug)]
pub struct ManifestHead {
    /// The digest that the registry claims; verified when the bytes are fetched by it.
    pub digest: Option<Digest>,
}

/// A page of tags or referrers.
#[derive(Clone, Debug)]
pub struct List {
    /// The JSON, as it came.
    pub bytes: Bytes,
    /// What the header said.
    pub content_type: Option<String>,
    /// How to ask for the next page.
    pub next: Option<Page>,
}

/// A blob on its way.
pub struct BlobStream {
    /// The size of the whole blob in bytes, as announced.
    pub size: u64,
    /// Where this stream begins, in bytes.
    pub from: u64,
    body: Incoming,
    idle: Duration,
    host: Host,
}

impl BlobStream {
    /// The next piece; `None` at the end, which may be earlier than announced.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        next_frame(&mut self.body, self.idle, &self.host).await
    }
}

/// Why an upstream did not deliver. The text names it, and says what to do where something can be done.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Error {
    /// Bytes that do not have their digest.
    #[error("{0}")]
    Digest(String),
    /// 403.
    #[error("{0}")]
    Forbidden(String),
    /// 404.
    #[error("not found")]
    NotFound,
    /// An answer that a registry does not give.
    #[error("{0}")]
    Protocol(String),
    /// 429, for longer than a request may wait.
    #[error("the registry's rate limit is reached")]
    RateLimited {
        /// After how many seconds it may be asked again, where it says so.
        retry_after: Option<u64>,
    },
    /// What this client refuses to do: a private address, a token service of another site, a downgrade.
    #[error("{0}")]
    Refused(String),
    /// More bytes than are read.
    #[error("{0}")]
    TooLarge(String),
    /// 401, with the credentials that are configured or without any.
    #[error("{0}")]
    Unauthorized(String),
    /// No connection, no answer, 5xx.
    #[error("{0}")]
    Unavailable(String),
}

impl Error {
    /// Whether asking again later may help.
    pub fn is_temporary(&self) -> bool {
        matches!(self, Self::RateLimited { .. } | Self::Unavailable(_))
    }
}

#[cfg(test)]
mod tests;
