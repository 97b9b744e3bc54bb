//! Content past the disk: while nothing can be written, every reader has a download of its own.
//!
//! The bytes are hashed as they pass, and the last piece is held back until the digest is verified, as in a fill.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};

use super::download::{Broken, Source, download};
use crate::oci::Hasher;
use crate::runtime::Tasks;
use crate::upstream::BlobStream;

/// Pieces between the upstream and the reader.
const QUEUE: usize = 2;
/// How long a reader may take none of them: longer than the server lets a client take no byte.
const READER_PATIENCE: Duration = Duration::from_secs(600);

/// A blob that is streamed through.
pub struct Relay {
    source: Source,
    tasks: Tasks,
    /// The same turns as those of fills.
    turns: Arc<Semaphore>,
    /// The answer that told the size, for the first reader.
    first: Mutex<Option<(BlobStream, OwnedSemaphorePermit)>>,
}

impl Relay {
    pub(super) fn new(source: Source, tasks: Tasks, turns: Arc<Semaphore>) -> Self {
        Self { source, tasks, turns, first: Mutex::default() }
    }

    /// With an answer that has begun already.
    pub(super) fn begun(self, stream: BlobStream, turn: OwnedSemaphorePermit) -> Self {
        Self { first: Mutex::new(Some((stream, turn))), ..self }
    }

    /// The size in bytes, as the upstream announced it.
    pub(super) fn size(&self) -> u64 {
        self.source.size
    }

    /// A part of the content. It is downloaded from the first byte, because only the whole has a digest.
    pub(super) fn stream(self: &Arc<Self>, start: u64, end: u64) -> RelayStream {
        let (sender, pieces) = mpsc::channel(QUEUE);
        let relay = self.clone();
        self.tasks.spawn(async move {
            if let Err(error) = relay.run(&sender).await {
                tracing::info!(blob.digest = %relay.source.digest, %error, "a blob that is streamed through broke off");
                // A reader that has left needs no reason.
                let _ = sender.send(Err(error.to_string())).await;
            }
        });
        let hasher = Hasher::new(self.source.digest.algorithm());
        RelayStream { relay: self.clone(), pieces, hasher: Some(hasher), received: 0, position: start, end }
    }

    async fn run(&self, sender: &mpsc::Sender<Result<Bytes, String>>) -> Result<(), Broken> {
        let first = self.first.lock().unwrap_or_else(PoisonError::into_inner).take();
        let (stream, _turn) = match first {
            Some(first) => first,
            None => {
                let turn = self.turns.clone().acquire_owned().await.map_err(|_| Broken::Unwanted)?;
                (self.source.open(0).await.map_err(Broken::Upstream)?, turn)
            }
        };
        let take = |piece| async move {
            match tokio::time::timeout(READER_PATIENCE, sender.send(Ok(piece))).await {
                Ok(sent) => sent.map_err(|_| Broken::Unwanted),
                Err(_) => Err(Broken::Stuck),
            }
        };
        match download(&self.source, stream, take).await {
            // The reader has what it wanted, or left.
            Err(Broken::Unwanted) => Ok(()),
            other => other,
        }
    }
}

/// The reader's end.
pub(super) struct RelayStream {
    relay: Arc<Relay>,
    pieces: mpsc::Receiver<Result<Bytes, String>>,
    /// `None` once the digest is verified.
    hasher: Option<Hasher>,
    received: u64,
    position: u64,
    end: u64,
}

impl RelayStream {
    /// The next piece of the part.
    pub(super) fn poll_piece(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<Bytes>> {
        loop {
            let piece = match ready!(self.pieces.poll_recv(cx)) {
                Some(Ok(piece)) => piece,
                Some(Err(why)) => return Poll::Ready(Err(io::Error::other(why))),
                None => return Poll::Ready(Err(io::Error::other("the download was interrupted"))),
            };
            let before = self.received;
            self.received += piece.len() as u64;
            self.verify(&piece)?;
            let skipped = usize::try_from(self.position.saturating_sub(before)).unwrap_or(usize::MAX);
            let wanted = usize::try_from(self.end.saturating_sub(before)).unwrap_or(usize::MAX).min(piece.len());
            if skipped < wanted {
                self.position = before + wanted as u64;
                return Poll::Ready(Ok(piece.slice(skipped..wanted)));
            }
        }
    }

    /// A piece that completes the content is given on only when the digest is right.
    fn verify(&mut self, piece: &[u8]) -> io::Result<()> {
        let source = &self.relay.source;
        let Some(mut hasher) = self.hasher.take() else { return Ok(()) };
        hasher.update(piece);
        if self.received < source.size {
            self.hasher = Some(hasher);
            return Ok(());
        }
        let found = hasher.finish();
        if found == source.digest {
            return Ok(());
        }
        tracing::warn!(blob.digest = %source.digest, image.name = %source.name, %found, "the upstream sent other content");
        Err(io::Error::new(io::ErrorKind::InvalidData, format!("the upstream sent content with digest {found}")))
    }
}
