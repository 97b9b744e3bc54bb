//! Fetches databases from registries and web servers, over a transport that the caller provides.

use std::io::Read;

use bytes::Bytes;
use jiff::Timestamp;

use super::super::generations::{DatabaseKind, GenerationManifest, check_digest};
use super::super::meter::{Meter, OnProgress};
use super::super::{AdvisoryStore, DatabaseError, InstalledGeneration};
use super::trivy::source_of;
use super::{ImportJob, ImportOptions};
use crate::oci::{Digest, MAX_MANIFEST};
use crate::runtime::shown_url;

/// How databases are fetched. It is called on a thread that may block.
///
/// The transport is responsible for time limits. Sizes and digests are verified by the functions that use it.
pub trait DatabaseTransport {
    /// The bytes of a manifest, with the `Content-Type` of the response. `reference` is as configured:
    /// `ghcr.io/aquasecurity/trivy-db:2`.
    ///
    /// # Errors
    /// [`DatabaseError::Transport`] if the registry does not deliver it.
    fn manifest(&self, reference: &str) -> Result<(Bytes, Option<String>), DatabaseError>;

    /// The content of a blob of the same repository. `size` is its size in bytes according to the manifest.
    ///
    /// # Errors
    /// As for [`manifest`](Self::manifest).
    fn blob(&self, reference: &str, digest: Digest, size: u64) -> Result<Box<dyn Read + '_>, DatabaseError>;

    /// A file of a web server. `etag` is that of the version which is known (RFC 9110, section 13.1.2).
    ///
    /// # Errors
    /// As for [`manifest`](Self::manifest).
    fn get(&self, url: &str, etag: Option<&str>) -> Result<WebAnswer<'_>, DatabaseError>;
}

/// The answer of a web server.
pub enum WebAnswer<'a> {
    /// The file.
    File(FetchedFile<'a>),
    /// The file is the one that is known.
    Unchanged,
}

/// A file of a web server.
pub struct FetchedFile<'a> {
    /// The content.
    pub content: Box<dyn Read + 'a>,
    /// The size in bytes, if the server states it (`Content-Length`). A content of another size is refused.
    pub size: Option<u64>,
    /// The entity tag, if the server states one.
    pub etag: Option<String>,
    /// When the file was made, if the server states it (`Last-Modified`). Otherwise, the time of the newest record
    /// counts, which may be long before.
    pub modified: Option<Timestamp>,
}

/// Fetches trivy-db, or the database of Java archives, from a registry and puts it into use: a manifest, whose digest
/// is recorded, and one layer. If the reference ends with a digest, the manifest must have it. If that generation is in
/// use already, only the manifest is fetched.
///
/// # Errors
/// The registry does not deliver, the manifest is not that of such a database, a digest or size is wrong, the database
/// is damaged, of another schema, too large, or older than the one in use. Then nothing is changed.
pub fn fetch_image(
    store: &AdvisoryStore,
    transport: &dyn DatabaseTransport,
    (kind, reference): (DatabaseKind, &str),
    options: &ImportOptions,
    progress: &mut OnProgress<'_>,
) -> Result<InstalledGeneration, DatabaseError> {
    let mut meter = Meter::new(options.limits, progress);
    let (bytes, content_type) = transport.manifest(reference)?;
    if bytes.len() > MAX_MANIFEST {
        return Err(DatabaseError::TooLarge { what: "the manifest", limit: MAX_MANIFEST as u64 });
    }
    let (name, pinned) = match reference.rsplit_once('@') {
        Some((name, digest)) => (name, Some(digest)),
        None => (reference, None),
    };
    let mut digest = Digest::sha256(&bytes);
    if let Some(pinned) = pinned {
        let invalid = |error| DatabaseError::unrecognised(reference, format!("{error}"));
        let pinned: Digest = pinned.parse().map_err(|error: crate::oci::InvalidDigest| invalid(error))?;
        digest = Digest::of(pinned.algorithm(), &bytes);
        check_digest("the manifest", pinned, digest)?;
    }
    let job = ImportJob { store, options, from: format!("{name}@{digest}") };
    if let Some(manifest) =
        in_use(store, source_of(kind), |manifest| manifest.kind == kind && manifest.from == job.from)?
    {
        return Ok(InstalledGeneration { manifest, was_current: true });
    }
    let layer = job.database_layer(kind, &job.manifest(bytes, content_type.as_deref())?)?;
    let mut blob = transport.blob(reference, layer.digest, layer.size)?;
    let staged = job.database(kind, &mut blob, &layer, &mut meter)?;
    store.install(staged, options.force, options.now)
}

/// The generation of a source in use, if it is from there and whole.
fn in_use(
    store: &AdvisoryStore,
    source: &str,
    is_from: impl Fn(&GenerationManifest) -> bool,
) -> Result<Option<GenerationManifest>, DatabaseError> {
    let _lock = store.lock(rustix::fs::FlockOperation::LockShared)?;
    let Some(kept) = store.current(source).ok().flatten() else { return Ok(None) };
    if !store.manifest(source, &kept.current).is_ok_and(|manifest| is_from(&manifest)) {
        return Ok(None);
    }
    let is_readable = |manifest: &GenerationManifest| {
        super::super::databases::open(&store.folder(source, &kept.current), manifest.kind).is_ok()
    };
    Ok(store.verify(source, &kept.current).ok().filter(is_readable))
}

/// The generation in use that is from this address, whichever source it is of.
fn in_use_from(store: &AdvisoryStore, url: &str) -> Result<Option<GenerationManifest>, DatabaseError> {
    for source in store.sources()? {
        if let Some(manifest) = in_use(store, &source, |manifest| manifest.from == shown_url(url))? {
            return Ok(Some(manifest));
        }
    }
    Ok(None)
}

/// What a file of a web server contains.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WebSource {
    /// EPSS scores: `https://epss.empiricalsecurity.com/epss_scores-current.csv.gz`.
    Epss,
    /// The catalog of known exploited vulnerabilities:
    /// `https://www.cisa.gov/sites/default/files/feeds/known_exploited_vulnerabilities.json`.
    Kev,
    /// A zip archive of OSV records: `https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip`.
    Osv,
}

/// Fetches a file of a web server, compiles it and puts it into use. A file that is in use already is not fetched, if
/// the server recognises it by its entity tag.
///
/// # Errors
/// The server does not deliver, the file or a record is damaged, it is too large, or older than what is in use. Nothing
/// is changed then.
pub fn fetch_file(
    store: &AdvisoryStore,
    transport: &dyn DatabaseTransport,
    (kind, url): (WebSource, &str),
    options: &ImportOptions,
    progress: &mut OnProgress<'_>,
) -> Result<InstalledGeneration, DatabaseError> {
    let mut meter = Meter::new(options.limits, progress);
    let job = ImportJob { store, options, from: shown_url(url) };
    let known = if options.force { None } else { in_use_from(store, url)?.filter(|known| known.etag.is_some()) };
    let file = match (transport.get(url, known.as_ref().and_then(|known| known.etag.as_deref()))?, known) {
        (WebAnswer::File(file), _) => file,
        (WebAnswer::Unchanged, Some(manifest)) => return Ok(InstalledGeneration { manifest, was_current: true }),
        (WebAnswer::Unchanged, None) => return Err(job.wrong("unexpected 304 Not Modified")),
    };
    let staging = store.stage()?;
    let FetchedFile { mut content, size, etag, modified } = file;
    if let Some(size) = size {
        meter.expect(size)?;
    }
    let fetched = staging.write(FETCHED, &mut content, &mut |bytes| meter.read(bytes))?;
    if let Some(size) = size.filter(|size| *size != fetched.size) {
        return Err(job.wrong(&format!("{} bytes arrived instead of {size}", fetched.size)));
    }
    let (path, origin) = (staging.path().join(FETCHED), WebOrigin { built: modified, etag });
    let staged = match kind {
        WebSource::Osv => job.osv_in(staging, &path, origin, &mut meter)?,
        WebSource::Epss => job.feed_in(staging, DatabaseKind::Epss, &path, origin, &mut meter)?,
        WebSource::Kev => job.feed_in(staging, DatabaseKind::Kev, &path, origin, &mut meter)?,
    };
    store.install(staged, options.force, options.now)
}

/// The name of the fetched file until it is compiled.
const FETCHED: &str = "fetched";

/// What a web server states about a file.
#[derive(Debug, Default)]
pub(super) struct WebOrigin {
    /// When it was made.
    pub(super) built: Option<Timestamp>,
    /// Its entity tag.
    pub(super) etag: Option<String>,
}
