//! A fill: one download that many readers follow.
//!
//! The upstream's data is written to a file in `partial`. The fill publishes how much has been written, and readers
//! read the file up to that mark at their own speed. The last byte is held back until the digest is verified, so a
//! reader of the whole can never complete wrong content; parts far ahead are compared afterwards (`ahead.rs`). A
//! limited number of fills continue after all their readers have left.

use std::io;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::ahead::PartsAhead;
use super::content_file::ContentFile;
use super::disk::{Disk, Partial, VerifyingWriter, WrongContent};
use super::download::{BlobSource, Broken, download};
use super::reading::Reading;
use super::relay::Relay;
use crate::oci::{Digest, Host, ImageName};
use crate::upstream::BlobStream;

/// The number of chunks queued between the network and the disk; with the upstream's frame size this bounds the memory
/// per fill.
const QUEUE: usize = 16;
/// How many bytes are written before readers are told of them, while more are waiting to be written.
const PUBLISHED_AT_ONCE: u64 = 512 * 1024;
/// The maximum number of repositories that are recorded because they confirmed the blob during its download. Others are
/// asked again.
const MAX_CONFIRMED: usize = 64;
/// How long a write may stall before the disk counts as failing.
const DISK_TIMEOUT: Duration = Duration::from_secs(10);

/// The key of a fill. It includes the host, so that a slow registry does not delay pulls from another, and the size in
/// bytes, so that a manifest with a wrong size does not affect other manifests.
pub(super) type FillKey = (Host, Digest, u64);

/// A download in progress.
pub(super) struct Fill {
    source: BlobSource,
    file: Arc<ContentFile>,
    progress: watch::Sender<FillProgress>,
    readers: Mutex<Readers>,
    /// Limits the number of fills without readers.
    orphans: Arc<Semaphore>,
    abandoned: CancellationToken,
    relay: Arc<Relay>,
    parts_ahead: PartsAhead,
    /// The repositories that confirmed that they have the blob, until it is verified.
    confirmed: Mutex<Option<Vec<ImageName>>>,
    /// The complete file, which counts as being read while followers still read it.
    reading: OnceLock<Arc<Reading>>,
}

#[derive(Default)]
struct Readers {
    count: usize,
    /// Held while there are no readers.
    orphan: Option<OwnedSemaphorePermit>,
}

/// The progress of a fill.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum FillProgress {
    /// Complete and verified.
    Complete,
    /// The disk failed, but the upstream did not.
    DiskFailed,
    /// Failed; nothing is kept. The kind is [`io::ErrorKind::InvalidData`] if the upstream sent different content.
    Failed(io::ErrorKind, String),
    /// This many bytes can be read.
    Readable(u64),
}

impl Fill {
    pub(super) fn new(
        source: BlobSource,
        file: ContentFile,
        orphans: Arc<Semaphore>,
        relay: Arc<Relay>,
        parts_ahead: PartsAhead,
    ) -> Self {
        Self {
            source,
            file: Arc::new(file),
            progress: watch::channel(FillProgress::Readable(0)).0,
            readers: Mutex::default(),
            orphans,
            abandoned: CancellationToken::new(),
            relay,
            parts_ahead,
            confirmed: Mutex::new(Some(Vec::new())),
            reading: OnceLock::new(),
        }
    }

    pub(super) fn key(&self) -> FillKey {
        (self.source.name.host.clone(), self.source.digest, self.source.size)
    }

    /// The repository that delivers the blob.
    pub(super) fn name(&self) -> &ImageName {
        &self.source.name
    }

    pub(super) fn source(&self) -> &BlobSource {
        &self.source
    }

    /// Adds a reader; `None` if the fill was already cancelled because it had none.
    pub(super) fn follow(self: &Arc<Self>) -> Option<Follower> {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if self.abandoned.is_cancelled() {
            return None;
        }
        readers.count += 1;
        readers.orphan = None;
        Some(Follower(self.clone()))
    }

    /// Makes followers count as readers of the complete file.
    pub(super) fn completed(&self, reading: Arc<Reading>) {
        // A fill completes only once.
        let _ = self.reading.set(reading);
    }

    /// The repositories that have the blob, now that it is verified. Later ones find it on disk.
    pub(super) fn repositories(&self) -> Vec<ImageName> {
        let confirmed = self.confirmed.lock().unwrap_or_else(PoisonError::into_inner).take();
        [self.source.name.clone()].into_iter().chain(confirmed.into_iter().flatten()).collect()
    }

    /// Resolves if the fill has no readers, and too many other fills have none either.
    pub(super) async fn abandoned(&self) {
        self.abandoned.cancelled().await;
    }

    fn leave(&self) {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        readers.count -= 1;
        if readers.count > 0 || !matches!(*self.progress.borrow(), FillProgress::Readable(_)) {
            return;
        }
        match self.orphans.clone().try_acquire_owned() {
            Ok(permit) => readers.orphan = Some(permit),
            Err(_) => self.abandoned.cancel(),
        }
    }

    /// Publishes the outcome to all readers, unless there is one already.
    fn finish(&self, end: FillProgress) {
        tell(&self.progress, end);
    }

    /// Publishes progress. The last byte stays hidden until the digest is verified.
    fn publish(&self, written: u64) {
        tell(&self.progress, FillProgress::Readable(written.min(self.source.size.saturating_sub(1))));
    }
}

/// Publishes news. The first outcome is final: a reader that sees progress after it would wait for bytes that never
/// come.
fn tell(progress: &watch::Sender<FillProgress>, news: FillProgress) {
    progress.send_if_modified(|now| {
        let is_open = matches!(now, FillProgress::Readable(_));
        if is_open {
            *now = news;
        }
        is_open
    });
}

/// A reader of a fill, counted by the fill.
pub struct Follower(Arc<Fill>);

impl Follower {
    /// The size of the content in bytes, from the admitted manifest.
    pub fn size(&self) -> u64 {
        self.0.source.size
    }

    /// Waits until the content is verified and on disk, and reports progress in bytes to `tell`.
    ///
    /// # Errors
    /// Why the fill failed.
    pub async fn finished(&self, mut tell: impl FnMut(u64)) -> Result<(), String> {
        let mut progress = self.progress();
        loop {
            match progress.borrow_and_update().clone() {
                FillProgress::Complete => return Ok(()),
                FillProgress::DiskFailed => return Err("the cache's disk failed".into()),
                FillProgress::Failed(_, why) => return Err(why),
                FillProgress::Readable(mark) => tell(mark),
            }
            if progress.changed().await.is_err() {
                return Err("the download was interrupted".into());
            }
        }
    }

    /// Notes that another repository of the registry confirms that it has the blob. That counts only once the blob is
    /// verified: until then, nothing shows that the registry has it. Returns false if it is, so that the caller can
    /// record it.
    pub(super) fn confirmed_by(&self, name: &ImageName) -> bool {
        let mut confirmed = self.0.confirmed.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(names) = confirmed.as_mut() else { return false };
        if names.len() < MAX_CONFIRMED && !names.contains(name) {
            names.push(name.clone());
        }
        true
    }

    /// The file; its mapping also covers bytes that are not written yet.
    pub(super) fn file(&self) -> &Arc<ContentFile> {
        &self.0.file
    }

    pub(super) fn progress(&self) -> watch::Receiver<FillProgress> {
        self.0.progress.subscribe()
    }

    /// A part that the download will not reach soon, if it can be requested separately.
    pub(super) async fn part_ahead(&self, part: Range<u64>) -> Option<Bytes> {
        self.0.parts_ahead.request(&self.0.source, part).await
    }

    /// The same content, streamed from the upstream without using the disk.
    pub(super) fn relay(&self) -> &Arc<Relay> {
        &self.0.relay
    }
}

impl Clone for Follower {
    fn clone(&self) -> Self {
        self.0.readers.lock().unwrap_or_else(PoisonError::into_inner).count += 1;
        Self(self.0.clone())
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.0.leave();
    }
}

/// Downloads, writes, verifies and publishes the content.
pub(super) async fn pump(disk: &Disk, fill: &Arc<Fill>, partial: Partial, stream: BlobStream) -> Result<(), FillError> {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let (writer_fill, path) = (fill.clone(), disk.path(fill.source.digest));
    let writer = tokio::task::spawn_blocking(move || write(&writer_fill, partial, receiver, &path));
    let feed = |piece| feed(&sender, piece);
    let encoding = stream.encoding.clone();
    let downloaded = tokio::select! {
        downloaded = download(&fill.source, stream, feed) => downloaded.map_err(FillError::Download),
        () = fill.abandoned() => Err(FillError::Abandoned),
    };
    let is_stuck = matches!(downloaded, Err(FillError::Download(Broken::Stuck)));
    drop(sender);
    if is_stuck {
        // The writer is abandoned. It may still write what is queued when the disk recovers, but nobody is told.
        let error = FillError::Disk(io::Error::new(io::ErrorKind::TimedOut, "writing to disk timed out"));
        fill.finish(FillProgress::DiskFailed);
        return Err(error);
    }
    let written = writer.await.unwrap_or_else(|error| Err(FillError::Disk(io::Error::other(error))));
    let outcome = match (downloaded, written) {
        // The writer's own error explains why the download lost its receiver.
        (_, Err(error @ (FillError::Disk(_) | FillError::Digest(_)))) => Err(error),
        (Err(error), _) | (Ok(()), Err(error)) => Err(error),
        (Ok(()), Ok(())) => Ok(()),
    };
    if let (Err(FillError::Digest(_)), Some(encoding)) = (&outcome, encoding) {
        tracing::warn!(blob.digest = %fill.source.digest, encoding, "the wrong content has a Content-Encoding that was not requested");
    }
    match &outcome {
        Ok(()) => {}
        // Readers that already have all bytes keep that outcome if the disk then fails to keep them.
        Err(FillError::Disk(_)) => fill.finish(FillProgress::DiskFailed),
        Err(error) => fill.finish(FillProgress::Failed(error.kind(), error.to_string())),
    }
    outcome
}

async fn feed(writer: &mpsc::Sender<Bytes>, piece: Bytes) -> Result<(), Broken> {
    match tokio::time::timeout(DISK_TIMEOUT, writer.send(piece)).await {
        Ok(sent) => sent.map_err(|_| Broken::Unwanted),
        Err(_) => Err(Broken::Stuck),
    }
}

/// Writes and hashes on a dedicated thread. Readers receive the last byte as soon as the digest is verified; the file
/// is named after that.
fn write(fill: &Fill, partial: Partial, mut pieces: mpsc::Receiver<Bytes>, path: &Path) -> Result<(), FillError> {
    let BlobSource { digest, size, .. } = fill.source;
    let mut writer = VerifyingWriter::new(partial, digest, size);
    let mut published = 0;
    while let Some(piece) = pieces.blocking_recv() {
        let written = writer.append(&piece).map_err(FillError::Disk)?;
        // To wake readers costs more than to write a piece, so it is done for many where many wait.
        if pieces.is_empty() || written - published >= PUBLISHED_AT_ONCE {
            fill.publish(written);
            published = written;
        }
    }
    let file = writer.verify().map_err(|wrong| match wrong {
        WrongContent::Digest(found) => FillError::Digest(found),
        WrongContent::Size(received) => FillError::Download(Broken::Short { received, size }),
    })?;
    fill.finish(FillProgress::Complete);
    let named = file.publish(path).map_err(FillError::Disk);
    fill.parts_ahead.compare(&fill.file, &fill.source);
    named
}

/// Why a fill failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum FillError {
    #[error("its readers left, and the limit on downloads without readers is reached")]
    Abandoned,
    #[error("the upstream sent content with digest {0}")]
    Digest(Digest),
    #[error("cannot write to the cache: {0}")]
    Disk(io::Error),
    #[error(transparent)]
    Download(Broken),
}

impl FillError {
    fn kind(&self) -> io::ErrorKind {
        match self {
            Self::Digest(_) => io::ErrorKind::InvalidData,
            Self::Abandoned | Self::Disk(_) | Self::Download(_) => io::ErrorKind::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The writer of a fill whose disk stalled goes on when the disk recovers.
    #[test]
    fn progress_after_the_outcome_is_not_published() {
        for outcome in [
            FillProgress::Complete,
            FillProgress::DiskFailed,
            FillProgress::Failed(io::ErrorKind::Other, "x".to_owned()),
        ] {
            let progress = watch::Sender::new(FillProgress::Readable(0));
            tell(&progress, FillProgress::Readable(7));
            assert_eq!(*progress.borrow(), FillProgress::Readable(7));
            tell(&progress, outcome.clone());
            let mut late = progress.subscribe();
            for news in [FillProgress::Readable(8), FillProgress::DiskFailed] {
                tell(&progress, news);
                assert_eq!(*late.borrow_and_update(), outcome);
            }
        }
    }
}
