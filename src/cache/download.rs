//! A blob from its upstream, in order and once, taken up again where it broke off.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use super::CacheError;
use crate::oci::{Digest, ImageName};
use crate::policy::Permit;
use crate::upstream::{self, BlobStream, Upstream};

/// How often a broken download is taken up again where it stopped, with so little between that it gets nowhere.
const RESUMES: u32 = 4;
/// So many bytes between two breaks are progress: a large blob over a bad line comes in the end.
const PROGRESS: u64 = 1024 * 1024;

/// What is downloaded, and from where.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) upstream: Arc<Upstream>,
    pub(super) name: ImageName,
    pub(super) digest: Digest,
    /// In bytes, as the admitted manifest says.
    pub(super) size: u64,
}

/// What a source is known by, with its size: of two manifests that say different ones, one is wrong, and is none of the
/// other's business.
pub(super) type SourceKey = (ImageName, Digest, u64);

impl Source {
    /// What a permit is for.
    pub(super) fn of(permit: &Permit, upstream: &Arc<Upstream>) -> Result<Self, CacheError> {
        let (name, size) = (permit.name().clone(), said_size(permit)?);
        Ok(Self { upstream: upstream.clone(), name, digest: permit.digest(), size })
    }

    pub(super) fn key(&self) -> SourceKey {
        (self.name.clone(), self.digest, self.size)
    }

    /// Asks the repository whether it has the blob, and gives the size in bytes that it states, if it does.
    pub(super) async fn confirm(&self) -> Result<u64, upstream::Error> {
        self.upstream.head_blob(&self.name.repository, &self.digest, self.size).await
    }

    /// The blob from an offset.
    pub(super) async fn open(&self, from: u64) -> Result<BlobStream, upstream::Error> {
        self.upstream.blob(&self.name.repository, &self.digest, self.size, from).await
    }
}

/// The size in bytes that the admitted manifest says. Only what is no blob has none.
pub(super) fn said_size(permit: &Permit) -> Result<u64, CacheError> {
    permit.size().ok_or(CacheError::NotFound)
}

/// Downloads all of it, and gives each piece to `take`.
pub(super) async fn download<F>(
    source: &Source,
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
            // All of it is here, so nothing is left to ask for; whether it is right, its digest says.
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
        // It holds a turn at the upstream, which the next one needs.
        drop(stream);
        tokio::time::sleep(Duration::from_millis(100 << resumes)).await;
        tracing::info!(blob.digest = %source.digest, received, %error, "taking a broken download up again");
        stream = source.open(received).await.map_err(Broken::Upstream)?;
    }
}

/// Passes on what a stream brings, without what was received before.
async fn pass_on<F>(
    source: &Source,
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

/// Why a download ended before its end.
#[derive(Debug, thiserror::Error)]
pub(super) enum Broken {
    #[error("the upstream's copy changed while it was downloaded")]
    Changed,
    #[error("the upstream sent more bytes than it announced")]
    Long,
    #[error("the upstream sent {received} of {size} bytes")]
    Short { received: u64, size: u64 },
    /// Whoever takes the bytes takes none.
    #[error("nothing takes its bytes")]
    Stuck,
    /// Whoever takes the bytes has gone.
    #[error("nobody wants it any more")]
    Unwanted,
    #[error(transparent)]
    Upstream(upstream::Error),
}
