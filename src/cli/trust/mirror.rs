//! Fetches the documents of a TUF repository over HTTP, as files of a static web site.

use std::path::PathBuf;
use std::time::Duration;

use http::{Request, StatusCode};
use http_body_util::Full;
use sigstore_tuf::Error;
use sigstore_tuf::transport::{FetchFuture, Repository};
use url::Url;

use crate::http_client::{HttpClient, HttpSettings, Network, Reach, check_url};
use crate::oci::json;

/// For one document, the connection included.
const TIMEOUT: Duration = Duration::from_secs(60);
/// For a connection, and for TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(20);

/// The keys of TUF documents (TUF 1.0.33, section 4), so that no other key folds to one of them.
const KNOWN: &[&str] = &[
    "_type",
    "consistent_snapshot",
    "custom",
    "delegations",
    "expires",
    "hashes",
    "keyid",
    "keyids",
    "keys",
    "keytype",
    "keyval",
    "length",
    "meta",
    "name",
    "path_hash_prefixes",
    "paths",
    "public",
    "roles",
    "scheme",
    "sig",
    "signatures",
    "signed",
    "spec_version",
    "targets",
    "terminating",
    "threshold",
    "version",
];
/// The objects whose keys are data.
const FREE_FORM: &[&str] = &["custom", "hashes", "keys", "meta", "roles", "targets"];

/// Checks that a document has one meaning for every reader.
///
/// # Errors
/// It is not JSON, or a key occurs twice.
pub(super) fn check_json(bytes: &[u8]) -> Result<(), String> {
    json::parse_members(bytes, KNOWN, FREE_FORM, &[]).map(drop).map_err(|error| format!("is not strict JSON: {error}"))
}

/// How a mirror is reached.
#[derive(Clone, Debug, Default)]
pub(super) struct MirrorAccess {
    /// The egress proxy; `None` for that of the environment.
    pub(super) proxy: Option<String>,
    /// A file with certificate authorities in PEM, besides those of the system.
    pub(super) ca: Option<PathBuf>,
}

/// A repository at a URL.
pub(super) struct HttpMirror {
    client: HttpClient,
    base: Url,
    /// Called with each document that was fetched, and its size in bytes.
    progress: fn(&str, usize),
}

impl HttpMirror {
    /// A repository at this URL. Plain HTTP is allowed, because documents are signed.
    ///
    /// # Errors
    /// The URL, the proxy or the file with certificate authorities cannot be used.
    pub(super) fn new(url: &str, access: &MirrorAccess, progress: fn(&str, usize)) -> Result<Self, String> {
        let directory = format!("{}/", url.trim_end_matches('/'));
        let base = Url::parse(&directory).map_err(|error| format!("the mirror {url:?} is not a URL: {error}"))?;
        check_url(&base, true).map_err(|unsafe_url| format!("the mirror {url:?} {unsafe_url}"))?;
        let settings = HttpSettings {
            proxy: access.proxy.clone(),
            ca: access.ca.clone(),
            needs_roots: base.scheme() == "https",
            ..HttpSettings::within(CONNECT_TIMEOUT, TIMEOUT)
        };
        let client = HttpClient::new(&settings, &Network::default()).map_err(|error| error.to_string())?;
        Ok(Self { client, base, progress })
    }

    /// The document at a path; `None` if there is none. Object stores answer 403 for what does not exist.
    async fn get(&self, path: &str, limit: u64) -> Result<Option<Vec<u8>>, Error> {
        let failed = |why: String| Error::transport(format!("{}{path}: {why}", self.base));
        let url = self.base.join(path).map_err(|error| failed(error.to_string()))?;
        if !url.as_str().starts_with(self.base.as_str()) {
            return Err(failed("is not below the mirror".into()));
        }
        let request = Request::get(url.as_str()).body(Full::default()).map_err(|error| failed(error.to_string()))?;
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let fetched = self.client.fetch(Reach::Configured, request, limit, TIMEOUT).await;
        match fetched.map_err(|error| failed(error.to_string()))? {
            (StatusCode::OK, bytes) => {
                (self.progress)(path, bytes.len());
                Ok(Some(bytes.to_vec()))
            }
            (StatusCode::NOT_FOUND | StatusCode::FORBIDDEN, _) => Ok(None),
            (status, _) => Err(failed(format!("the mirror answered {status}"))),
        }
    }
}

impl Repository for HttpMirror {
    fn fetch_metadata<'a>(&'a self, name: &'a str, max_length: u64) -> FetchFuture<'a> {
        Box::pin(self.get(name, max_length))
    }

    fn fetch_target<'a>(&'a self, path: &'a str, max_length: u64) -> FetchFuture<'a> {
        Box::pin(async move { self.get(&format!("targets/{path}"), max_length).await })
    }
}
