//! Signatures in a lookaside store: a directory or a web server with one file for each signature (containers/image,
//! `docs/signature-protocols.md`, "separate storage").

use std::io::{ErrorKind, Read};
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::StreamExt;
use futures_util::stream::{self, BoxStream};
use http::{Request, StatusCode, Uri, header};
use http_body_util::Full;
use url::Url;

use super::message::{MAX_MESSAGE, too_large};
use super::{Found, MAX_SIGNATURES, RefusedSignature};
use crate::http_client::{
    HttpClient, HttpError, HttpSettings, MAX_REDIRECTS, Network, Reach, ReceivedBody, is_redirect, read_whole,
    redirect_target,
};
use crate::oci::{Digest, Repository};
use crate::policy::{SignatureStore, StoreCredentials};
use crate::runtime::{Tasks, open_plain_file};
use crate::trust::source::SourceError;

/// The limit for a connection without TLS, and for the TLS handshake.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The limit for one signature.
const FETCH_TIMEOUT: Duration = Duration::from_secs(15);

/// Reads lookaside stores.
pub(super) struct LookasideReader {
    tasks: Tasks,
    http: Result<HttpClient, String>,
}

/// A position in a store.
struct Cursor<'a> {
    reader: &'a LookasideReader,
    store: &'a SignatureStore,
    /// The directory of the image, without the file name.
    base: Url,
    /// The number of the next signature, from 1.
    number: usize,
}

/// A file of a store: its content, or why it is not a signature.
type StoredFile = Result<Bytes, RefusedSignature>;

impl LookasideReader {
    pub(super) fn new(tasks: Tasks) -> Self {
        let settings = HttpSettings::within(CONNECT_TIMEOUT, FETCH_TIMEOUT);
        Self { tasks, http: HttpClient::new(&settings, &Network::default()).map_err(|error| error.to_string()) }
    }

    /// The signatures of an image, numbered from 1, until one does not exist. A file that is too large, or equal to the
    /// one before, does not hide those after it.
    pub(super) fn signatures<'a>(
        &'a self,
        store: &'a SignatureStore,
        repository: &Repository,
        digest: Digest,
    ) -> BoxStream<'a, Result<Found, SourceError>> {
        let base = image_url(&store.base, repository, digest);
        let first = Cursor { reader: self, store, base, number: 1 };
        stream::unfold(Some(first), |cursor| async { cursor?.next().await }).boxed()
    }

    /// A signature; `None` if it does not exist.
    async fn read(&self, store: &SignatureStore, url: Url) -> Result<Option<StoredFile>, SourceError> {
        if url.scheme() != "file" {
            return self.fetch(url, store.credentials.as_ref()).await;
        }
        let base = store.base.clone();
        let read = self.tasks.spawn_blocking(move || read_file(&base, &url));
        read.await.unwrap_or_else(|_| Err(SourceError::new("reading the store was interrupted", true)))
    }

    /// Follows redirects. Credentials are sent only to the store itself, and only the store itself may have a private
    /// address.
    async fn fetch(&self, url: Url, credentials: Option<&StoreCredentials>) -> Result<Option<StoredFile>, SourceError> {
        let failed = |url: &Url, why: String, temporary| {
            SourceError::new(format!("the signature store at {}: {why}", url.host_str().unwrap_or_default()), temporary)
        };
        let http = self.http.as_ref().map_err(|why| failed(&url, why.clone(), false))?;
        let mut at = url.clone();
        for _ in 0..=MAX_REDIRECTS {
            let is_own = at.origin() == url.origin();
            let request = request(&at, credentials.filter(|_| is_own)).map_err(|why| failed(&at, why, false))?;
            let reach = if at.host() == url.host() { Reach::Auxiliary } else { Reach::Named };
            let answer = http.send(reach, request).await.map_err(|error| failed(&at, error.to_string(), true))?;
            match answer.status() {
                StatusCode::OK => {
                    let body = ReceivedBody::new(answer.into_body(), FETCH_TIMEOUT);
                    return match read_whole(body, MAX_MESSAGE, FETCH_TIMEOUT).await {
                        Ok(bytes) => Ok(Some(Ok(bytes))),
                        Err(HttpError::TooLarge(_)) => Ok(Some(Err(too_large()))),
                        Err(error) => Err(failed(&at, error.to_string(), true)),
                    };
                }
                StatusCode::NOT_FOUND => return Ok(None),
                status if is_redirect(status) => {
                    let target = redirect_target(&at, answer.headers(), url.scheme() == "http");
                    at = target.map_err(|error| failed(&at, error.to_string(), false))?;
                }
                status => {
                    let temporary = status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS;
                    return Err(failed(&at, format!("it answered {status}"), temporary));
                }
            }
        }
        Err(failed(&at, "it redirects too often".into(), false))
    }
}

impl<'a> Cursor<'a> {
    /// The next signature, or why it is not known; `None` after the last one.
    async fn next(mut self) -> Option<(Result<Found, SourceError>, Option<Self>)> {
        if self.number > MAX_SIGNATURES {
            let why = format!("the store has more than {MAX_SIGNATURES} signatures; the others were not examined");
            return Some((Err(SourceError::new(why, false)), None));
        }
        let url = signature_url(&self.base, self.number);
        let signature = match self.reader.read(self.store, url.clone()).await {
            Ok(Some(signature)) => signature,
            Ok(None) => return None,
            Err(error) => return Some((Err(error), None)),
        };
        let found = Found { place: url.to_string(), form: format!("signature-{}", self.number), signature };
        self.number += 1;
        Some((Ok(found), Some(self)))
    }
}

fn request(url: &Url, credentials: Option<&StoreCredentials>) -> Result<Request<Full<Bytes>>, String> {
    let uri = Uri::try_from(url.as_str()).map_err(|error| error.to_string())?;
    let mut request = Request::builder().uri(uri);
    if let Some(StoreCredentials { username, password }) = credentials {
        let encoded = STANDARD.encode(format!("{username}:{password}"));
        request = request.header(header::AUTHORIZATION, format!("Basic {encoded}"));
    }
    request.body(Full::default()).map_err(|error| error.to_string())
}

/// `BASE/NAMESPACE/NAME@ALGORITHM=HEX`. Neither part contains a character that has a meaning in URLs or in paths.
fn image_url(base: &Url, repository: &Repository, digest: Digest) -> Url {
    let mut url = base.clone();
    let base = base.path().trim_end_matches('/');
    url.set_path(&format!("{base}/{repository}@{}={}", digest.algorithm().name(), digest.hex()));
    url
}

fn signature_url(base: &Url, number: usize) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/signature-{number}", base.path()));
    url
}

/// Reads a signature from a directory. A missing directory, for example one that is not mounted, is an error.
fn read_file(base: &Url, url: &Url) -> Result<Option<StoredFile>, SourceError> {
    let failed =
        |path: &Path, why: String| SourceError::new(format!("the signature store: {}: {why}", path.display()), true);
    let path = |url: &Url| url.to_file_path().map_err(|()| SourceError::new("the store is not a folder", false));
    let (base, path) = (path(base)?, path(url)?);
    match std::fs::metadata(&path) {
        Ok(status) if status.is_file() => {}
        Ok(_) => return Err(failed(&path, "is not a file".into())),
        Err(error) if error.kind() == ErrorKind::NotFound => {
            return match std::fs::metadata(&base) {
                Ok(status) if status.is_dir() => Ok(None),
                Ok(_) => Err(failed(&base, "is not a folder".into())),
                Err(error) => Err(failed(&base, error.to_string())),
            };
        }
        Err(error) => return Err(failed(&path, error.to_string())),
    }
    let mut bytes = Vec::new();
    let read = open_plain_file(&path).and_then(|file| file.take(MAX_MESSAGE as u64 + 1).read_to_end(&mut bytes));
    read.map_err(|error| failed(&path, error.to_string()))?;
    Ok(Some(if bytes.len() > MAX_MESSAGE { Err(too_large()) } else { Ok(bytes.into()) }))
}

#[cfg(test)]
mod tests;
