//! One download that many readers follow.
//!
//! The upstream's bytes go to a file in `partial`; how far they reach is published, and readers read behind that mark
//! from the file at their own speed. The last byte is held back until the digest is verified, so a reader can never
//! complete content that is wrong. A fill goes on when its readers have left.

use std::fs::File;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{mpsc, watch};

use super::disk::{Disk, Partial};
use crate::oci::{Digest, Hasher, ImageName, Repository};
use crate::upstream::{self, BlobStream, Upstream};

/// How often a broken download is taken up again where it stopped.
const RESUMES: u32 = 4;
/// Pieces on their way from the network to the disk; with the upstream's frame size this bounds memory per fill.
const QUEUE: usize = 8;

/// A download in progress.
pub struct Fill {
    name: ImageName,
    digest: Digest,
    size: u64,
    file: Arc<File>,
    progress: watch::Sender<Progress>,
}

/// How far a fill has come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Progress {
    /// Verified and published.
    Complete,
    /// Broken; nothing is kept.
    Failed(String),
    /// So many bytes may be read.
    Readable(u64),
}

impl Fill {
    pub(super) fn new(name: ImageName, digest: Digest, size: u64, file: Arc<File>) -> Self {
        Self { name, digest, size, file, progress: watch::channel(Progress::Readable(0)).0 }
    }

    /// The size of the whole content in bytes, as the upstream announced it.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The repository that delivers it.
    pub(super) fn name(&self) -> &ImageName {
        &self.name
    }

    pub(super) fn file(&self) -> Arc<File> {
        self.file.clone()
    }

    pub(super) fn follow(&self) -> watch::Receiver<Progress> {
        self.progress.subscribe()
    }

    /// Tells every reader how it ended.
    pub(super) fn finish(&self, outcome: Result<(), FillError>) {
        self.progress.send_replace(match outcome {
            Ok(()) => Progress::Complete,
            Err(error) => Progress::Failed(error.to_string()),
        });
    }

    /// All but the last byte may be read before the digest is verified.
    fn publish(&self, written: u64) {
        self.progress.send_replace(Progress::Readable(written.min(self.size.saturating_sub(1))));
    }
}

/// Downloads, writes, verifies and publishes.
pub(super) async fn pump(
    disk: &Disk,
    fill: &Arc<Fill>,
    partial: Partial,
    stream: BlobStream,
    upstream: &Upstream,
    repository: &Repository,
) -> Result<(), FillError> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let (writer_fill, path) = (fill.clone(), disk.path(fill.digest));
    let writer = tokio::task::spawn_blocking(move || write(&writer_fill, partial, receiver, &path));
    let download = download(fill, stream, upstream, repository, &sender).await;
    drop(sender);
    let written = writer.await.unwrap_or_else(|error| Err(FillError::Disk(io::Error::other(error))));
    match (download, written) {
        // The writer's own trouble explains why the download found nobody to take its bytes.
        (_, Err(error @ (FillError::Disk(_) | FillError::Digest(_)))) => Err(error),
        (Err(error), _) | (Ok(()), Err(error)) => Err(error),
        (Ok(()), Ok(())) => Ok(()),
    }
}

/// Feeds the writer, and takes a broken download up again by Range.
async fn download(
    fill: &Fill,
    mut stream: BlobStream,
    upstream: &Upstream,
    repository: &Repository,
    writer: &mpsc::Sender<Bytes>,
) -> Result<(), FillError> {
    let mut received = 0;
    let mut resumes = 0;
    loop {
        match feed(fill, &mut stream, &mut received, writer).await {
            Ok(()) if received == fill.size => return Ok(()),
            Err(error @ (FillError::Long | FillError::Stopped)) => return Err(error),
            Ok(()) | Err(_) if resumes < RESUMES => {
                resumes += 1;
                tokio::time::sleep(Duration::from_millis(100 << resumes)).await;
                tracing::info!(blob.digest = %fill.digest, received, "taking a broken download up again");
                stream = upstream.blob(repository, &fill.digest, received).await.map_err(FillError::Upstream)?;
            }
            Ok(()) => return Err(FillError::Short { received, size: fill.size }),
            Err(error) => return Err(error),
        }
    }
}

/// Passes on what a stream brings, without what was received before.
async fn feed(
    fill: &Fill,
    stream: &mut BlobStream,
    received: &mut u64,
    writer: &mpsc::Sender<Bytes>,
) -> Result<(), FillError> {
    let mut position = stream.from;
    if position > *received || stream.size != fill.size {
        return Err(FillError::Changed);
    }
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(FillError::Upstream)?;
        let known = usize::try_from(*received - position).unwrap_or(usize::MAX).min(chunk.len());
        position += chunk.len() as u64;
        let new = chunk.slice(known..);
        if new.is_empty() {
            continue;
        }
        *received += new.len() as u64;
        if *received > fill.size {
            return Err(FillError::Long);
        }
        writer.send(new).await.map_err(|_| FillError::Stopped)?;
    }
    Ok(())
}

/// Writes and hashes on a thread of its own; on the last byte verifies, syncs and gives the content its name.
fn write(
    fill: &Fill,
    partial: Partial,
    mut pieces: mpsc::Receiver<Bytes>,
    path: &std::path::Path,
) -> Result<(), FillError> {
    let mut hasher = Hasher::new(fill.digest.algorithm());
    let mut written = 0;
    while let Some(piece) = pieces.blocking_recv() {
        partial.write_at(&piece, written).map_err(FillError::Disk)?;
        hasher.update(&piece);
        written += piece.len() as u64;
        fill.publish(written);
    }
    if written != fill.size {
        return Err(FillError::Short { received: written, size: fill.size });
    }
    let digest = hasher.finish();
    if digest != fill.digest {
        return Err(FillError::Digest(digest));
    }
    partial.publish(path).map_err(FillError::Disk)
}

/// Why a fill failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum FillError {
    #[error("the upstream's copy changed while it was downloaded")]
    Changed,
    #[error("the upstream sent content with digest {0}")]
    Digest(Digest),
    #[error("it cannot be written to the cache: {0}")]
    Disk(io::Error),
    #[error("the upstream sent more bytes than it announced")]
    Long,
    #[error("the upstream sent {received} of {size} bytes")]
    Short { received: u64, size: u64 },
    #[error("the writer stopped")]
    Stopped,
    #[error(transparent)]
    Upstream(upstream::Error),
}
