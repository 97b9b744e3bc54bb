//! Prefetching: loads images into the cache in advance, on command or from a configured list at an interval.
//!
//! Each manifest and blob is requested through the gate, as a client would. It is therefore judged, recorded and cached
//! like any pull, and nothing is cached that would not be served.

mod bundle;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{FutureExt as _, StreamExt, stream};

pub use bundle::PlannedBundle;

use crate::cache::Opened;
use crate::gate::{Answer, Gate, GateError, GateRequest, Inspector, ReadMethod, Requester};
use crate::oci::{Content, Digest, Endpoint, ImageName, ImageReference, Manifest, Platform, Reference};
use crate::runtime::Tasks;
use crate::scope::Scope;

/// The number of blobs of an image that are fetched concurrently.
const BLOBS_AT_ONCE: usize = 4;

/// The configuration of scheduled prefetching.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// The images.
    pub images: Vec<ImageReference>,
    /// The platforms to fetch; if empty, those of the gate, or this machine's.
    pub platforms: Vec<Platform>,
    /// The interval between runs; the first is at startup.
    pub interval: Duration,
    /// The scope whose rules apply.
    pub scope: Scope,
}

/// Fetches images through a gate.
pub struct Prefetcher {
    gate: Arc<Gate>,
    inspector: Arc<Inspector>,
    /// Numbers requests, to distinguish them in the records.
    next: AtomicU64,
}

/// The progress of a fetch, in bytes of blobs. Readable while it runs.
#[derive(Debug, Default)]
pub struct Progress {
    done: AtomicU64,
    total: AtomicU64,
}

impl Progress {
    /// The number of bytes that are cached.
    pub fn done(&self) -> u64 {
        self.done.load(Ordering::Relaxed)
    }

    /// The total number of bytes found so far.
    pub fn total(&self) -> u64 {
        self.total.load(Ordering::Relaxed)
    }
}

/// The result of a fetch.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Fetched {
    /// The number of manifests, including indexes.
    pub manifests: u64,
    /// The number of blobs.
    pub blobs: u64,
    /// Their size in bytes, including blobs that were already cached.
    pub bytes: u64,
}

impl Prefetcher {
    /// Creates a prefetcher for a gate.
    pub fn new(gate: Arc<Gate>, inspector: Arc<Inspector>) -> Self {
        Self { gate, inspector, next: AtomicU64::new(0) }
    }

    /// Fetches an image. For an index, fetches its parts for these platforms, or those that the gate would judge.
    ///
    /// # Errors
    /// The denial, or any other reason why a client could not pull it.
    pub async fn fetch(
        &self,
        image: &ImageReference,
        platforms: &[Platform],
        scope: &Scope,
        progress: &Progress,
    ) -> Result<Fetched, String> {
        let name = &image.name;
        let fetch = async {
            let root = self.manifest(name, image.reference(), scope).await?;
            let mut fetched = Fetched { manifests: 1, ..Fetched::default() };
            let mut blobs = blobs_of(&root);
            for part in self.parts(image, &root, platforms, scope).await? {
                let part = self.manifest(name, Reference::Digest(part), scope).await?;
                fetched.manifests += 1;
                blobs.extend(blobs_of(&part));
            }
            blobs.sort_unstable();
            blobs.dedup();
            progress.total.fetch_add(blobs.iter().map(|(_, size)| size).sum(), Ordering::Relaxed);
            let mut fetches = Vec::new();
            for (digest, size) in blobs {
                fetches.push(self.blob(name, digest, size, scope, progress));
            }
            let mut running = stream::iter(fetches).buffer_unordered(BLOBS_AT_ONCE);
            while let Some(outcome) = running.next().await {
                fetched.bytes += outcome?;
                fetched.blobs += 1;
            }
            Ok(fetched)
        };
        fetch.await.map_err(|error: FetchError| about(&image.to_string(), &error.to_string()))
    }

    /// What to fetch of an index: the images for the requested platforms, or else those by which the gate judges the
    /// index, and the nested indexes that lead to them.
    async fn parts(
        &self,
        image: &ImageReference,
        root: &Manifest,
        platforms: &[Platform],
        scope: &Scope,
    ) -> Result<Vec<Digest>, FetchError> {
        let parts = self.inspector.index_parts(image, scope, root, platforms).await?;
        if parts.digests.is_empty() && !root.children().is_empty() {
            let here = [Platform::here()];
            let wanted = [platforms, self.inspector.platforms(), &here].into_iter().find(|wanted| !wanted.is_empty());
            return Err(no_platform(&parts.platforms, wanted.unwrap_or_default()));
        }
        Ok(parts.digests)
    }

    /// Fetches the configured images at each interval, until shutdown.
    pub async fn run(self: Arc<Self>, config: Config, tasks: Tasks) {
        while !config.images.is_empty() {
            for image in &config.images {
                let progress = Progress::default();
                let fetched = self.fetch(image, &config.platforms, &config.scope, &progress);
                match tokio::select! { fetched = fetched => fetched, () = tasks.stopping() => return } {
                    Ok(fetched) => tracing::info!(%image, blobs = fetched.blobs, bytes = fetched.bytes, "prefetched"),
                    Err(error) => tracing::warn!(%error, "prefetch failed; it will be retried at the next interval"),
                }
            }
            tokio::select! {
                () = tokio::time::sleep(config.interval) => {}
                () = tasks.stopping() => return,
            }
        }
    }

    async fn manifest(
        &self,
        name: &ImageName,
        reference: Reference,
        scope: &Scope,
    ) -> Result<Arc<Manifest>, FetchError> {
        let endpoint = Endpoint::Manifest { name: name.repository.clone().into(), reference };
        match self.ask(name, endpoint, scope).await? {
            Answer::Manifest { manifest, .. } => Ok(manifest),
            _ => Err(FetchError::Answer),
        }
    }

    async fn blob(
        &self,
        name: &ImageName,
        digest: Digest,
        size: u64,
        scope: &Scope,
        progress: &Progress,
    ) -> Result<u64, FetchError> {
        let endpoint = Endpoint::Blob { name: name.repository.clone().into(), digest };
        let Answer::Blob { content, .. } = self.ask(name, endpoint, scope).await? else {
            return Err(FetchError::Answer);
        };
        let mut told = 0;
        let mut tell = |mark: u64| {
            progress.done.fetch_add(mark.saturating_sub(told), Ordering::Relaxed);
            told = told.max(mark);
        };
        match &content {
            Opened::Filling(fill) => fill.finished(&mut tell).await.map_err(FetchError::Broken)?,
            Opened::Relayed(_) => return Err(FetchError::NotCached),
            Opened::File(_) | Opened::Memory(_) => {}
        }
        tell(size);
        Ok(size)
    }

    async fn ask(&self, name: &ImageName, endpoint: Endpoint, scope: &Scope) -> Result<Answer, GateError> {
        let request_id = format!("prefetch-{:x}", self.next.fetch_add(1, Ordering::Relaxed));
        let request = GateRequest {
            ns: Some(name.host.clone()),
            endpoint,
            method: ReadMethod::Get,
            scope: scope.clone(),
            requester: Requester { request_id, client: "prefetch".into(), client_name: None },
            key: None,
        };
        // Its type is hidden, because the compiler gives up on futures that are nested too deeply.
        self.gate.handle(&request).boxed().await
    }
}

fn blobs_of(manifest: &Manifest) -> Vec<(Digest, u64)> {
    match &manifest.content {
        Content::Image { config, layers } => {
            [config].into_iter().chain(layers).map(|blob| (blob.digest, blob.size)).collect()
        }
        Content::Index(_) => Vec::new(),
    }
}

fn no_platform(has: &[Platform], wanted: &[Platform]) -> FetchError {
    let text = |platforms: &[Platform]| platforms.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    FetchError::Platform { wanted: text(wanted), has: text(has) }
}

/// An error that names the image once. Denials name it themselves.
fn about(image: &str, error: &str) -> String {
    if error.starts_with(image) { error.to_owned() } else { format!("{image}: {error}") }
}

/// Why something could not be fetched.
#[derive(Debug, thiserror::Error)]
enum FetchError {
    #[error("the gate returned an unexpected response")]
    Answer,
    #[error("the download failed: {0}")]
    Broken(String),
    #[error(transparent)]
    Gate(#[from] GateError),
    #[error("the cache cannot store anything at the moment; see `pullgate cache status`")]
    NotCached,
    #[error("the index has no {wanted}, only {has}")]
    Platform { wanted: String, has: String },
}
