//! One download that many readers follow.
//!
//! The upstream's bytes go to a file in `partial`; how far they reach is published, and readers read behind that mark
//! from the file at their own speed. The last byte is held back until the digest is verified, so a reader can never
//! complete content that is wrong. A fill goes on when its readers have left, as long as few do.

use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio_util::sync::CancellationToken;

use super::disk::{Disk, Partial};
use super::download::{Broken, Source, download};
use super::reading::{Reading, window};
use super::relay::Relay;
use crate::oci::{Digest, Hasher, Host, ImageName};
use crate::upstream::BlobStream;

/// Pieces on their way from the network to the disk; with the upstream's frame size this bounds memory per fill.
const QUEUE: usize = 8;
/// How long the disk may take no byte before it counts as failing.
const DISK_PATIENCE: Duration = Duration::from_secs(10);

/// What a fill is known by: a registry that trickles a blob holds up nobody who pulls it from another, and a manifest
/// that says a wrong size, in bytes, nobody who has another manifest.
pub(super) type FillKey = (Host, Digest, u64);

/// A download in progress.
pub(super) struct Fill {
    source: Source,
    file: Arc<File>,
    window: OnceLock<Option<Bytes>>,
    progress: watch::Sender<Progress>,
    readers: Mutex<Readers>,
    /// How many fills may go on for nobody.
    orphans: Arc<Semaphore>,
    abandoned: CancellationToken,
    relay: Arc<Relay>,
    /// The complete file, so that it counts as read while followers read on.
    reading: OnceLock<Arc<Reading>>,
}

#[derive(Default)]
struct Readers {
    count: usize,
    /// Held while nobody reads.
    orphan: Option<OwnedSemaphorePermit>,
}

/// How far a fill has come.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Progress {
    /// Verified.
    Complete,
    /// The disk failed; the upstream did not.
    DiskFailed,
    /// Broken; nothing is kept. The kind is [`io::ErrorKind::InvalidData`] where the upstream sent other content.
    Failed(io::ErrorKind, String),
    /// So many bytes may be read.
    Readable(u64),
}

impl Fill {
    pub(super) fn new(source: Source, file: Arc<File>, orphans: Arc<Semaphore>, relay: Arc<Relay>) -> Self {
        Self {
            source,
            file,
            window: OnceLock::new(),
            progress: watch::channel(Progress::Readable(0)).0,
            readers: Mutex::default(),
            orphans,
            abandoned: CancellationToken::new(),
            relay,
            reading: OnceLock::new(),
        }
    }

    pub(super) fn key(&self) -> FillKey {
        (self.source.name.host.clone(), self.source.digest, self.source.size)
    }

    /// The repository that delivers it.
    pub(super) fn name(&self) -> &ImageName {
        &self.source.name
    }

    pub(super) fn source(&self) -> &Source {
        &self.source
    }

    /// Joins it; `None` when it was given up because nobody read it.
    pub(super) fn follow(self: &Arc<Self>) -> Option<Follower> {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        if self.abandoned.is_cancelled() {
            return None;
        }
        readers.count += 1;
        readers.orphan = None;
        Some(Follower(self.clone()))
    }

    /// Its followers read a complete file from now on.
    pub(super) fn completed(&self, reading: Arc<Reading>) {
        // A fill completes once.
        let _ = self.reading.set(reading);
    }

    /// Resolves when nobody reads it and too many others go on for nobody.
    pub(super) async fn abandoned(&self) {
        self.abandoned.cancelled().await;
    }

    fn leave(&self) {
        let mut readers = self.readers.lock().unwrap_or_else(PoisonError::into_inner);
        readers.count -= 1;
        if readers.count > 0 || !matches!(*self.progress.borrow(), Progress::Readable(_)) {
            return;
        }
        match self.orphans.clone().try_acquire_owned() {
            Ok(permit) => readers.orphan = Some(permit),
            Err(_) => self.abandoned.cancel(),
        }
    }

    /// Tells every reader how it ended.
    fn finish(&self, end: Progress) {
        self.progress.send_replace(end);
    }

    /// All but the last byte may be read before the digest is verified.
    fn publish(&self, written: u64) {
        self.progress.send_replace(Progress::Readable(written.min(self.source.size.saturating_sub(1))));
    }
}

/// A reader of a fill. The fill knows whether it has any.
pub struct Follower(Arc<Fill>);

impl Follower {
    /// The size of the whole content in bytes, as the admitted manifest says.
    pub fn size(&self) -> u64 {
        self.0.source.size
    }

    /// Waits until it is verified and on disk, and tells of its progress in bytes.
    ///
    /// # Errors
    /// Why it is not.
    pub async fn finished(&self, mut tell: impl FnMut(u64)) -> Result<(), String> {
        let mut progress = self.progress();
        loop {
            match progress.borrow_and_update().clone() {
                Progress::Complete => return Ok(()),
                Progress::DiskFailed => return Err("the cache's disk failed".into()),
                Progress::Failed(_, why) => return Err(why),
                Progress::Readable(mark) => tell(mark),
            }
            if progress.changed().await.is_err() {
                return Err("the download was interrupted".into());
            }
        }
    }

    pub(super) fn file(&self) -> Arc<File> {
        self.0.file.clone()
    }

    /// The file as lent bytes, also those that are not there yet; `None` where it cannot be mapped.
    pub(super) fn window(&self) -> Option<Bytes> {
        self.0.window.get_or_init(|| window(&self.0.file, self.0.source.size)).clone()
    }

    pub(super) fn progress(&self) -> watch::Receiver<Progress> {
        self.0.progress.subscribe()
    }

    /// The same content past the disk.
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

/// Downloads, writes, verifies and publishes.
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
        // The writer is left to its disk; it publishes nothing, because bytes are missing.
        let error = FillError::Disk(io::Error::new(io::ErrorKind::TimedOut, "the disk takes no bytes"));
        fill.finish(Progress::DiskFailed);
        return Err(error);
    }
    let written = writer.await.unwrap_or_else(|error| Err(FillError::Disk(io::Error::other(error))));
    let outcome = match (downloaded, written) {
        // The writer's own trouble explains why the download found nobody to take its bytes.
        (_, Err(error @ (FillError::Disk(_) | FillError::Digest(_)))) => Err(error),
        (Err(error), _) | (Ok(()), Err(error)) => Err(error),
        (Ok(()), Ok(())) => Ok(()),
    };
    if let (Err(FillError::Digest(_)), Some(encoding)) = (&outcome, encoding) {
        tracing::warn!(blob.digest = %fill.source.digest, encoding, "the wrong bytes are encoded, which was not asked for");
    }
    match &outcome {
        Ok(()) => {}
        // Readers who have all of it already are not disturbed by a disk that then failed to keep it.
        Err(_) if *fill.progress.borrow() == Progress::Complete => {}
        Err(FillError::Disk(_)) => fill.finish(Progress::DiskFailed),
        Err(error) => fill.finish(Progress::Failed(error.kind(), error.to_string())),
    }
    outcome
}

async fn feed(writer: &mpsc::Sender<Bytes>, piece: Bytes) -> Result<(), Broken> {
    match tokio::time::timeout(DISK_PATIENCE, writer.send(piece)).await {
        Ok(sent) => sent.map_err(|_| Broken::Unwanted),
        Err(_) => Err(Broken::Stuck),
    }
}

/// Writes and hashes on a thread of its own. Readers are let go on to the end as soon as the digest is verified; the
/// content gets its name when it is synced too.
fn write(fill: &Fill, partial: Partial, mut pieces: mpsc::Receiver<Bytes>, path: &Path) -> Result<(), FillError> {
    let Source { digest, size, .. } = fill.source;
    let mut hasher = Hasher::new(digest.algorithm());
    let mut written = 0;
    while let Some(piece) = pieces.blocking_recv() {
        partial.write_at(&piece, written).map_err(FillError::Disk)?;
        hasher.update(&piece);
        written += piece.len() as u64;
        fill.publish(written);
    }
    if written != size {
        return Err(FillError::Download(Broken::Short { received: written, size }));
    }
    let found = hasher.finish();
    if found != digest {
        return Err(FillError::Digest(found));
    }
    fill.finish(Progress::Complete);
    partial.publish(path).map_err(FillError::Disk)
}

/// Why a fill failed.
#[derive(Debug, thiserror::Error)]
pub(super) enum FillError {
    #[error("its readers left, and as many downloads go on for nobody as may")]
    Abandoned,
    #[error("the upstream sent content with digest {0}")]
    Digest(Digest),
    #[error("it cannot be written to the cache: {0}")]
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
