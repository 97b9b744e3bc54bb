//! Fetches advisory databases: from registries through pullgate's own upstreams, and from web servers.

use std::io::{self, Read};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Buf, Bytes};
use http::{Request, StatusCode, header};
use http_body_util::Full;
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimeParser;
use tokio::runtime::Handle;
use tokio::time::{Instant, timeout_at};
use url::Url;

use super::databases::{AdvisoryDatabases, DatabaseConfig};
use crate::advisories::{
    AdvisoryStore, DatabaseError, DatabaseKind, DatabaseLimits, DatabaseProgress, DatabaseTransport, FetchedFile,
    ImportOptions, InstalledGeneration, WebAnswer, WebSource, fetch_file, fetch_image,
};
use crate::http_client::{
    HttpClient, HttpSettings, MAX_REDIRECTS, Network, PieceSource, Reach, ReceivedBody, check_url, is_redirect,
    redirect_target,
};
use crate::oci::{Digest, ImageReference};
use crate::runtime::{Clock, Tasks, shown_url};
use crate::upstream::{BlobStream, Upstream, Upstreams};

/// For the head of an answer, the connection included.
const HEADER_TIMEOUT: Duration = Duration::from_secs(30);
/// For a connection, and for TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);
/// The longest pause within a body.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);
/// A body must arrive at this rate on average, in bytes a second, after [`IDLE_TIMEOUT`]. The limit for sizes thus also
/// limits the time.
const MIN_RATE: u64 = 32 * 1024;
/// The longest entity tag that is kept, in bytes.
const MAX_ETAG: usize = 256;

/// Where advisory databases come from.
#[derive(Clone, Debug, Default)]
pub struct DatabaseSources {
    /// trivy-db as an image reference, whose registry is an upstream: `ghcr.io/aquasecurity/trivy-db:2`.
    pub trivy: Option<ImageReference>,
    /// The names of published Java archives, in the same way: `ghcr.io/aquasecurity/trivy-java-db:1`.
    pub java: Option<ImageReference>,
    /// Zip archives with OSV records: `https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip`.
    pub osv: Vec<String>,
    /// The catalog of known exploited vulnerabilities (KEV), as JSON.
    pub kev: Option<String>,
    /// EPSS scores, as CSV, compressed with gzip or not.
    pub epss: Option<String>,
    /// How often a running gate looks for newer ones. `None`: never.
    pub update: Option<Duration>,
    /// The limits for their sizes.
    pub limits: DatabaseLimits,
    /// The egress proxy for web servers. `None` uses the proxies of the environment, and an empty text uses no proxy.
    pub proxy: Option<String>,
    /// A PEM file with certificate authorities to trust for web servers besides those of the system.
    pub ca: Option<PathBuf>,
}

impl DatabaseSources {
    /// The names of all sources, in the order in which they are fetched.
    pub fn names(&self) -> Vec<String> {
        self.images().map(|(.., image)| image.to_string()).chain(self.urls().map(|(_, url)| shown_url(url))).collect()
    }

    /// The sources of advisories, whose databases must exist before any image is clean. URLs are as they are shown.
    pub(super) fn advisories(&self) -> Vec<(DatabaseKind, String)> {
        let trivy = self.trivy.iter().map(|trivy| (DatabaseKind::TrivyDb, trivy.to_string()));
        trivy.chain(self.osv.iter().map(|url| (DatabaseKind::Osv, shown_url(url)))).collect()
    }

    /// The sources in registries, whose hosts are upstreams, each with its kind and its key in `[va.database]`.
    pub fn images(&self) -> impl Iterator<Item = (DatabaseKind, &'static str, &ImageReference)> {
        let images = [(DatabaseKind::TrivyDb, "trivy", &self.trivy), (DatabaseKind::JavaDb, "java", &self.java)];
        images.into_iter().filter_map(|(kind, key, image)| Some((kind, key, image.as_ref()?)))
    }

    /// The sources on web servers.
    fn urls(&self) -> impl Iterator<Item = (WebSource, &str)> {
        let feeds = [(WebSource::Kev, &self.kev), (WebSource::Epss, &self.epss)];
        let feeds = feeds.into_iter().filter_map(|(kind, url)| Some((kind, url.as_deref()?)));
        self.osv.iter().map(|url| (WebSource::Osv, &**url)).chain(feeds)
    }
}

/// What one source delivered.
#[derive(Debug)]
pub struct FetchedDatabase {
    /// The image reference or URL, as it is shown.
    pub source: String,
    /// The generation that is in use now, or why it was not fetched.
    pub outcome: Result<InstalledGeneration, DatabaseError>,
}

/// Fetches all sources, one after the other, and puts them into use. A source that fails does not keep others from
/// being fetched. Call it on a thread that may block, of a Tokio runtime.
///
/// `progress` is called with the source and how far it is.
///
/// # Errors
/// If the settings for web servers cannot be used.
pub fn fetch_databases(
    sources: &DatabaseSources,
    store: &AdvisoryStore,
    upstreams: &Arc<Upstreams>,
    options: &ImportOptions,
    progress: &mut dyn FnMut(&str, DatabaseProgress) -> ControlFlow<()>,
) -> Result<Vec<FetchedDatabase>, String> {
    let transport = Transport::new(sources, upstreams.clone())?;
    let mut fetched = Vec::new();
    for (kind, _, image) in sources.images() {
        let source = image.to_string();
        let outcome = fetch_image(store, &transport, (kind, &source), options, &mut |done| progress(&source, done));
        fetched.push(FetchedDatabase { source, outcome });
    }
    for (kind, url) in sources.urls() {
        let source = shown_url(url);
        let outcome = fetch_file(store, &transport, (kind, url), options, &mut |done| progress(&source, done));
        fetched.push(FetchedDatabase { source, outcome });
    }
    Ok(fetched)
}

/// Fetches all sources at start and at the configured interval, until shutdown. Failed sources are tried again at the
/// next interval; the databases in use stay in use.
pub async fn keep_updated(
    config: Option<DatabaseConfig>,
    upstreams: Arc<Upstreams>,
    clock: Clock,
    databases: AdvisoryDatabases,
    tasks: Tasks,
) {
    let Some((config, interval)) = config.and_then(|config| Some((config.clone(), config.sources.update?))) else {
        return;
    };
    loop {
        let (config, upstreams, clock) = (config.clone(), upstreams.clone(), clock.clone());
        let fetched = tasks.spawn_blocking(move || update_once(&config, &upstreams, &clock)).await;
        databases.updated(fetched.unwrap_or_else(|error| Some(error.to_string())));
        tokio::select! {
            () = tasks.stopping() => return,
            () = tokio::time::sleep(interval) => {}
        }
    }
}

/// Fetches all sources once, and returns what failed.
fn update_once(config: &DatabaseConfig, upstreams: &Arc<Upstreams>, clock: &Clock) -> Option<String> {
    let fetch = || {
        let store = AdvisoryStore::open(&config.state_dir).map_err(|error| error.to_string())?;
        let options = ImportOptions { limits: config.sources.limits, ..ImportOptions::at(clock.now()) };
        fetch_databases(&config.sources, &store, upstreams, &options, &mut |_, _| ControlFlow::Continue(()))
    };
    let fetched = match fetch() {
        Ok(fetched) => fetched,
        Err(why) => {
            tracing::error!(why, "the advisory databases cannot be updated");
            return Some(why);
        }
    };
    let mut failed = Vec::new();
    for FetchedDatabase { source, outcome } in fetched {
        match outcome {
            Ok(InstalledGeneration { manifest, was_current: false }) => {
                tracing::info!(source, built = %manifest.built, rows = manifest.rows, "a new advisory database is in use");
            }
            Ok(_) => tracing::debug!(source, "the advisory database is current"),
            Err(error) => {
                tracing::error!(source, %error, "an advisory database cannot be fetched; an existing one stays in use");
                failed.push(error.to_string());
            }
        }
    }
    (!failed.is_empty()).then(|| failed.join("; "))
}

/// Registries are reached as upstreams, web servers by a client of their own.
struct Transport {
    upstreams: Arc<Upstreams>,
    client: HttpClient,
    runtime: Handle,
}

impl Transport {
    fn new(sources: &DatabaseSources, upstreams: Arc<Upstreams>) -> Result<Self, String> {
        let settings = HttpSettings {
            proxy: sources.proxy.clone(),
            ca: sources.ca.clone(),
            needs_roots: sources.urls().any(|(_, url)| url.starts_with("https:")),
            ..HttpSettings::within(CONNECT_TIMEOUT, HEADER_TIMEOUT)
        };
        let client = HttpClient::new(&settings, &Network::default()).map_err(|error| error.to_string())?;
        Ok(Self { upstreams, client, runtime: Handle::current() })
    }

    async fn manifest_of(&self, reference: &str) -> Result<(Bytes, Option<String>), DatabaseError> {
        let (image, upstream) = self.upstream(reference)?;
        let manifest = upstream.manifest(&image.name.repository, &image.reference()).await;
        let manifest = manifest.map_err(|error| failed(reference, &error))?;
        Ok((manifest.bytes, manifest.content_type))
    }

    fn upstream(&self, reference: &str) -> Result<(ImageReference, Arc<Upstream>), DatabaseError> {
        let image: ImageReference = reference.parse().map_err(|error| failed(reference, &error))?;
        let upstream = self.upstreams.by_host(&image.name.host).ok_or_else(|| {
            let host = &image.name.host;
            failed(reference, &format!("{host} is not the host of an [[upstream]]: add one to the configuration"))
        })?;
        Ok((image, upstream.clone()))
    }

    /// Follows redirects, as object stores answer. `None` if the file is still the one with this entity tag.
    async fn open(
        &self,
        url: &str,
        etag: Option<&str>,
    ) -> Result<Option<http::Response<hyper::body::Incoming>>, DatabaseError> {
        let parsed = Url::parse(url);
        let url = &*shown_url(url);
        let mut address = parsed.map_err(|error| failed(url, &error))?;
        check_url(&address, true).map_err(|why| failed(url, &why))?;
        let mut reach = Reach::Configured;
        for _ in 0..=MAX_REDIRECTS {
            let mut request = Request::get(address.as_str());
            if let Some(etag) = etag {
                request = request.header(header::IF_NONE_MATCH, etag);
            }
            let request = request.body(Full::default()).map_err(|error| failed(url, &error))?;
            let response = self.client.send(reach, request).await.map_err(|error| failed(url, &error))?;
            if !is_redirect(response.status()) {
                return match response.status() {
                    StatusCode::OK => Ok(Some(response)),
                    StatusCode::NOT_MODIFIED if etag.is_some() => Ok(None),
                    status => Err(failed(url, &format!("the server answered {status}"))),
                };
            }
            let target = redirect_target(&address, response.headers(), address.scheme() == "http")
                .map_err(|error| failed(url, &error))?;
            if target.origin() != address.origin() {
                reach = Reach::Named;
            }
            address = target;
        }
        Err(failed(url, &"too many redirects"))
    }
}

fn failed(source: &str, why: &dyn std::fmt::Display) -> DatabaseError {
    DatabaseError::Transport(format!("{source}: {why}"))
}

impl DatabaseTransport for Transport {
    fn manifest(&self, reference: &str) -> Result<(Bytes, Option<String>), DatabaseError> {
        self.runtime.block_on(self.manifest_of(reference))
    }

    fn blob(&self, reference: &str, digest: Digest, size: u64) -> Result<Box<dyn Read + '_>, DatabaseError> {
        let (image, upstream) = self.upstream(reference)?;
        let stream = self.runtime.block_on(upstream.blob(&image.name.repository, &digest, size, 0));
        let stream = stream.map_err(|error| failed(reference, &error))?;
        Ok(Box::new(BlockingBody::new(&self.runtime, FetchBody::Blob(stream))))
    }

    fn get(&self, url: &str, etag: Option<&str>) -> Result<WebAnswer<'_>, DatabaseError> {
        let Some(response) = self.runtime.block_on(self.open(url, etag))? else { return Ok(WebAnswer::Unchanged) };
        let text = |name: header::HeaderName| response.headers().get(name).and_then(|value| value.to_str().ok());
        let size = text(header::CONTENT_LENGTH).and_then(|text| text.parse().ok());
        let etag = text(header::ETAG).filter(|etag| etag.len() <= MAX_ETAG).map(str::to_owned);
        let modified = text(header::LAST_MODIFIED).and_then(http_date);
        let body = ReceivedBody::new(response.into_body(), IDLE_TIMEOUT);
        let content = Box::new(BlockingBody::new(&self.runtime, FetchBody::File(body)));
        Ok(WebAnswer::File(FetchedFile { content, size, etag, modified }))
    }
}

/// A date of HTTP (RFC 9110, section 5.6.7).
fn http_date(text: &str) -> Option<Timestamp> {
    static PARSER: DateTimeParser = DateTimeParser::new();
    PARSER.parse_timestamp(text).ok()
}

/// A body that is read on a thread that may block.
struct BlockingBody<'a> {
    runtime: &'a Handle,
    body: FetchBody,
    piece: Bytes,
    pace: BodyPace,
}

enum FetchBody {
    Blob(BlobStream),
    File(ReceivedBody),
}

impl FetchBody {
    async fn next(&mut self) -> Option<io::Result<Bytes>> {
        match self {
            Self::Blob(stream) => stream.next().await.map(|piece| piece.map_err(io::Error::other)),
            Self::File(body) => body.next_piece().await.map(|piece| piece.map_err(io::Error::other)),
        }
    }
}

/// How fast a body arrives.
struct BodyPace {
    began: Instant,
    received: u64,
}

impl BodyPace {
    /// When the next piece must have arrived.
    fn end(&self) -> Instant {
        self.began + IDLE_TIMEOUT + Duration::from_secs(self.received / MIN_RATE)
    }
}

impl<'a> BlockingBody<'a> {
    fn new(runtime: &'a Handle, body: FetchBody) -> Self {
        Self { runtime, body, piece: Bytes::new(), pace: BodyPace { began: Instant::now(), received: 0 } }
    }
}

impl Read for BlockingBody<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            let (end, body) = (self.pace.end(), &mut self.body);
            let next = self.runtime.block_on(async { timeout_at(end, body.next()).await });
            let slow =
                |_| io::Error::new(io::ErrorKind::TimedOut, format!("fewer than {MIN_RATE} bytes a second arrive"));
            match next.map_err(slow)? {
                Some(piece) => self.piece = piece?,
                None => return Ok(0),
            }
            self.pace.received += self.piece.len() as u64;
        }
        let length = self.piece.len().min(buffer.len());
        self.piece.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_for_a_body_grows_with_what_has_arrived() {
        let began = Instant::now();
        let end = |received| BodyPace { began, received }.end() - began;
        assert_eq!(end(0), Duration::from_secs(60));
        assert_eq!(end(MIN_RATE * 100), Duration::from_secs(160));
    }
}
