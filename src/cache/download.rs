//! Downloads a blob from its upstream once, in order, and resumes after interruptions.

use std::future::Future;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Semaphore;

use super::CacheError;
use crate::oci::{Digest, ImageName};
use crate::policy::Permit;
use crate::upstream::{self, BlobStream, Upstream};

/// How many times a download is resumed without making progress.
const RESUMES: u32 = 4;
/// This many bytes between two interruptions count as progress, so that a large blob arrives even over an unreliable
/// connection.
const PROGRESS: u64 = 1024 * 1024;

/// The blob to download, and its upstream.
#[derive(Clone)]
pub(super) struct BlobSource {
    pub(super) upstream: Arc<Upstream>,
    pub(super) name: ImageName,
    pub(super) digest: Digest,
    /// The size in bytes, from the admitted manifest.
    pub(super) size: u64,
}

/// The key of a source, including its size: if two manifests state different sizes, a wrong one must not affect the
/// other.
pub(super) type BlobSourceKey = (ImageName, Digest, u64);

impl BlobSource {
    /// The source that a permit allows.
    pub(super) fn of(permit: &Permit, upstream: &Arc<Upstream>) -> Result<Self, CacheError> {
        let (name, size) = (permit.name().clone(), said_size(permit)?);
        Ok(Self { upstream: upstream.clone(), name, digest: permit.digest(), size })
    }

    pub(super) fn key(&self) -> BlobSourceKey {
        (self.name.clone(), self.digest, self.size)
    }

    /// Asks the repository whether it has the blob; returns the size in bytes that the repository states.
    pub(super) async fn confirm(&self) -> Result<u64, upstream::Error> {
        self.upstream.head_blob(&self.name.repository, &self.digest, self.size).await
    }

    /// Requests the blob from an offset.
    pub(super) async fn open(&self, from: u64) -> Result<BlobStream, upstream::Error> {
        self.upstream.blob(&self.name.repository, &self.digest, self.size, from).await
    }

    /// The turns of blobs of this registry that are streamed through. They last as long as their clients read, so they
    /// must not use up the connections of downloads that do not wait for clients.
    pub(super) fn relay_turns(&self) -> Arc<Semaphore> {
        self.upstream.relay_turns().clone()
    }

    /// Requests only this part of the blob.
    pub(super) async fn part(&self, part: Range<u64>) -> Result<Bytes, upstream::Error> {
        self.upstream.blob_part(&self.name.repository, &self.digest, self.size, part).await
    }
}

/// The size in bytes from the admitted manifest. Only permits that are not for a blob have none.
pub(super) fn said_size(permit: &Permit) -> Result<u64, CacheError> {
    permit.size().ok_or(CacheError::NotFound)
}

/// Downloads the whole blob, and passes each chunk to `take`.
pub(super) async fn download<F>(
    source: &BlobSource,
    mut stream: BlobStream,
    mut take: impl FnMut(Bytes) -> F,
) -> Result<(), Broken>
where
    F: Future<Output = Result<(), Broken>>,
{
    let (mut received, mut resumes) = (0, 0);
    loop {
        let before = received;
        let error = match pass_on(source, &mut stream, &mut received, &mut take).await {
            Ok(()) if received == source.size => return Ok(()),
            // Everything has arrived, so there is nothing to resume; the digest decides whether it is correct.
            Err(Broken::Upstream(_)) if received == source.size => return Ok(()),
            Ok(()) => Broken::Short { received, size: source.size },
            Err(error @ (Broken::Changed | Broken::Upstream(_))) => error,
            Err(error) => return Err(error),
        };
        if received - before >= PROGRESS {
            resumes = 0;
        }
        if resumes == RESUMES {
            return Err(error);
        }
        resumes += 1;
        // It occupies one of the upstream's turns, which the next request needs.
        drop(stream);
        tokio::time::sleep(Duration::from_millis(100 << resumes)).await;
        tracing::info!(blob.digest = %source.digest, received, %error, "resuming an interrupted download");
        stream = source.open(received).await.map_err(Broken::Upstream)?;
    }
}

/// Passes on the data of a stream, skipping what was already received.
async fn pass_on<F>(
    source: &BlobSource,
    stream: &mut BlobStream,
    received: &mut u64,
    take: &mut impl FnMut(Bytes) -> F,
) -> Result<(), Broken>
where
    F: Future<Output = Result<(), Broken>>,
{
    let mut position = stream.from;
    if position > *received || stream.size != source.size {
        return Err(Broken::Changed);
    }
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(Broken::Upstream)?;
        let known = usize::try_from(*received - position).unwrap_or(usize::MAX).min(chunk.len());
        position += chunk.len() as u64;
        let new = chunk.slice(known..);
        if new.is_empty() {
            continue;
        }
        *received += new.len() as u64;
        if *received > source.size {
            return Err(Broken::Long);
        }
        take(new).await?;
    }
    Ok(())
}

/// Why a download ended early.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("the upstream's copy changed during the download")]
    Changed,
    #[error("the upstream sent more bytes than it announced")]
    Long,
    #[error("too many blobs are being streamed; retry later")]
    NoTurn,
    #[error("the upstream sent {received} of {size} bytes")]
    Short { received: u64, size: u64 },
    /// The receiver has stalled.
    #[error("the receiver accepts no data")]
    Stuck,
    /// The receiver is gone.
    #[error("the receiver is gone")]
    Unwanted,
    #[error(transparent)]
    Upstream(upstream::Error),
}
