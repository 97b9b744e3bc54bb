//! Content that an operator sends, instead of a download.

use std::io;
use std::path::Path;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::disk::{Partial, VerifyingWriter, WrongContent};
use super::{Cache, CacheError, ImportHold};
use crate::oci::{Digest, ImageName, MAX_MANIFEST, Manifest};
use crate::store::{NewContent, NewFacts};

/// The number of chunks queued between the network and the disk.
const QUEUE: usize = 16;
/// How long a sender may send nothing.
const STALL: Duration = Duration::from_secs(60);

/// Why received content is not kept.
#[derive(Debug, thiserror::Error)]
pub enum NotReceived {
    /// The bytes are not those of the digest.
    #[error("the bytes do not have the digest {0}")]
    Digest(Digest),
    /// The disk or the database cannot be written.
    #[error("{}", CacheError::Disk(.0.to_string()))]
    Disk(io::Error),
    /// There is no room.
    #[error("there is no room in the cache: {0}")]
    NoRoom(String),
    /// The sender went away.
    #[error("the content is incomplete: {0}")]
    Sender(io::Error),
    /// Not as many bytes as announced.
    #[error("{received} bytes arrived instead of {size}")]
    Size {
        /// How many bytes arrived, at least.
        received: u64,
        /// How many were announced.
        size: u64,
    },
}

impl Cache {
    /// Which of these contents are not on disk.
    pub fn missing(&self, digests: &[Digest]) -> Vec<Digest> {
        digests.iter().copied().filter(|digest| !self.inner.disk.has(*digest)).collect()
    }

    /// Stores a blob of `size` bytes as it arrives. It is verified, and no client can get it before a manifest of some
    /// repository that was admitted names it and the repository has it.
    ///
    /// Content that is complete and verified is kept, even if the sender has left.
    ///
    /// # Errors
    /// See [`NotReceived`].
    pub async fn receive<S>(
        &self,
        hold: &ImportHold,
        (digest, size): (Digest, u64),
        mut pieces: S,
    ) -> Result<(), NotReceived>
    where
        S: Stream<Item = io::Result<Bytes>> + Send + Unpin,
    {
        let inner = self.inner.clone();
        let reserved = inner.reserve_for_import(size, &hold.spared).await;
        let reserved = reserved.map_err(|error| NotReceived::NoRoom(error.to_string()))?;
        let partial = inner.disk.partial(digest, size).await.map_err(NotReceived::Disk)?;
        let (sender, receiver) = mpsc::channel(QUEUE);
        // A task of its own: the file gets its name and its row, or neither, whatever happens to the request.
        let kept = self.inner.tasks.spawn(async move {
            let path = inner.disk.path(digest);
            let writer = inner.tasks.spawn_blocking(move || write(partial, receiver, (digest, size), &path));
            writer.await.unwrap_or_else(|error| Err(NotReceived::Disk(io::Error::other(error))))?;
            inner.stored(NewContent::blob(digest, size, inner.clock.now()), Some(reserved)).await;
            Ok(())
        });
        let mut received = 0;
        while let Some(piece) = next(&mut pieces).await? {
            received += piece.len() as u64;
            if received > size {
                return Err(NotReceived::Size { received, size });
            }
            // The writer's own error says why it does not take more.
            if sender.send(piece).await.is_err() {
                break;
            }
        }
        drop(sender);
        kept.await.unwrap_or_else(|error| Err(NotReceived::Disk(io::Error::other(error))))
    }

    /// Records that the repository has the blobs of a manifest, because an operator imported them for it.
    ///
    /// # Errors
    /// The database cannot be written.
    pub async fn link_blobs(&self, name: &ImageName, manifest: &Manifest) -> Result<(), CacheError> {
        if !manifest.children().is_empty() {
            return Ok(());
        }
        let now = self.inner.clock.now();
        let link = |facts: NewFacts, blob: &crate::oci::Descriptor| facts.link(name, blob.digest, blob.size, now);
        let links = manifest.descriptors().fold(NewFacts::new(now), link);
        self.inner.store.facts.record(links).await.map_err(CacheError::store)
    }

    /// Stores a manifest that was read and verified completely, for a running import.
    ///
    /// # Errors
    /// [`NotReceived::NoRoom`] and [`NotReceived::Disk`].
    pub async fn receive_manifest(&self, hold: &ImportHold, manifest: &Manifest) -> Result<(), NotReceived> {
        let (inner, Manifest { digest, bytes, .. }) = (&self.inner, manifest);
        if inner.disk.has(*digest) && self.peek(*digest, MAX_MANIFEST).await.is_some() {
            return Ok(());
        }
        let reserved = inner.reserve_for_import(bytes.len() as u64, &hold.spared).await;
        let reserved = reserved.map_err(|error| NotReceived::NoRoom(error.to_string()))?;
        inner.disk.write(*digest, bytes.clone()).await.map_err(NotReceived::Disk)?;
        inner.stored(NewContent::manifest(manifest, inner.clock.now()), Some(reserved)).await;
        Ok(())
    }

    /// The size of content on disk in bytes; `None` if it is not there.
    pub fn size_on_disk(&self, digest: Digest) -> Option<u64> {
        self.inner.disk.size(digest)
    }
}

/// The next piece; `None` at the end. A sender that sends nothing for a while has failed.
async fn next<S>(pieces: &mut S) -> Result<Option<Bytes>, NotReceived>
where
    S: Stream<Item = io::Result<Bytes>> + Unpin,
{
    let late = |_| NotReceived::Sender(io::Error::new(io::ErrorKind::TimedOut, "nothing arrived for 60 seconds"));
    let piece = timeout(STALL, pieces.next()).await.map_err(late)?;
    piece.transpose().map_err(NotReceived::Sender)
}

/// Writes and hashes on a dedicated thread.
fn write(
    partial: Partial,
    mut pieces: mpsc::Receiver<Bytes>,
    (digest, size): (Digest, u64),
    path: &Path,
) -> Result<(), NotReceived> {
    let mut writer = VerifyingWriter::new(partial, digest, size);
    while let Some(piece) = pieces.blocking_recv() {
        writer.append(&piece).map_err(NotReceived::Disk)?;
    }
    let file = writer.verify().map_err(|wrong| match wrong {
        WrongContent::Digest(_) => NotReceived::Digest(digest),
        WrongContent::Size(received) => NotReceived::Size { received, size },
    })?;
    file.publish(path).map_err(NotReceived::Disk)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_sender_that_sends_nothing_has_failed() {
        let mut pieces = futures_util::stream::pending::<io::Result<Bytes>>();
        let failed = next(&mut pieces).await;
        assert!(matches!(failed, Err(NotReceived::Sender(error)) if error.kind() == io::ErrorKind::TimedOut));
    }
}
