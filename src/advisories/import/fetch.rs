//! Fetches databases from registries and web servers, over a transport that the caller provides.

use std::io::Read;

use bytes::Bytes;
use jiff::Timestamp;

use super::super::generations::{DatabaseKind, GenerationManifest, check_digest};
use super::super::meter::{Meter, OnProgress};
use super::super::{AdvisoryStore, DatabaseError, InstalledGeneration};
use super::{ImportOptions, Job, TRIVY};
use crate::oci::{Digest, MAX_MANIFEST};

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

    /// A file of a web server.
    ///
    /// # Errors
    /// As for [`manifest`](Self::manifest).
    fn get(&self, url: &str) -> Result<FetchedFile<'_>, DatabaseError>;
}

/// A file of a web server.
pub struct FetchedFile<'a> {
    /// The content.
    pub content: Box<dyn Read + 'a>,
    /// The size in bytes, if the server states it (`Content-Length`). A content of another size is refused.
    pub size: Option<u64>,
    /// When the file was made, if the server states it (`Last-Modified`). Otherwise, the time of the newest record counts,
    /// which may be long before.
    pub modified: Option<Timestamp>,
}

/// Fetches trivy-db from a registry and puts it into use: a manifest, whose digest is recorded, and one layer. If the
/// reference ends with a digest, the manifest must have it. If that generation is in use already, only the manifest is
/// fetched.
///
/// # Errors
/// The registry does not deliver, the manifest is not that of a trivy-db, a digest or size is wrong, the database is
/// damaged, of another schema, too large, or older than the one in use. Nothing is changed then.
pub fn fetch_trivy_db(
    store: &AdvisoryStore,
    transport: &dyn DatabaseTransport,
    reference: &str,
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
    let job = Job { store, options, from: format!("{name}@{digest}") };
    if let Some(manifest) = in_use(store, &job.from)? {
        return Ok(InstalledGeneration { manifest, was_current: true });
    }
    let layer = job.database_layer(&job.manifest(bytes, content_type.as_deref())?)?;
    let mut blob = transport.blob(reference, layer.digest, layer.size)?;
    let staged = job.database(&mut blob, &layer, &mut meter)?;
    store.install(staged, options.force, options.now)
}

/// The generation of trivy-db in use, if it is from there and whole.
fn in_use(store: &AdvisoryStore, from: &str) -> Result<Option<GenerationManifest>, DatabaseError> {
    let _lock = store.lock(rustix::fs::FlockOperation::LockShared)?;
    let current = store.current(TRIVY).ok().flatten();
    let manifest = current.and_then(|kept| store.verify(TRIVY, &kept.current).ok());
    Ok(manifest.filter(|manifest| manifest.kind == DatabaseKind::TrivyDb && manifest.from == from))
}

/// Fetches a zip archive of OSV records, compiles it and puts it into use:
/// `https://osv-vulnerabilities.storage.googleapis.com/PyPI/all.zip`.
///
/// # Errors
/// The server does not deliver, the archive or a record is damaged, it is too large, or older than what is in use. Nothing
/// is changed then.
pub fn fetch_osv(
    store: &AdvisoryStore,
    transport: &dyn DatabaseTransport,
    url: &str,
    options: &ImportOptions,
    progress: &mut OnProgress<'_>,
) -> Result<InstalledGeneration, DatabaseError> {
    let mut meter = Meter::new(options.limits, progress);
    let job = Job { store, options, from: url.to_owned() };
    let staging = store.stage()?;
    let mut file = transport.get(url)?;
    if let Some(size) = file.size {
        meter.expect(size)?;
    }
    let archive = staging.write("all.zip", &mut file.content, &mut |bytes| meter.read(bytes))?;
    if file.size.is_some_and(|size| size != archive.size) {
        return Err(job.wrong(&format!("{} bytes arrived instead of {}", archive.size, file.size.unwrap_or_default())));
    }
    let path = staging.path().join("all.zip");
    let staged = job.osv_in(staging, &path, file.modified, &mut meter)?;
    store.install(staged, options.force, options.now)
}
