//! Streams content through without using the disk, with one download per reader.
//!
//! The data is hashed as it passes, and the last chunk is held back until the digest is verified, as in a fill.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{OwnedSemaphorePermit, mpsc};

use super::download::{BlobSource, Broken, download};
use crate::oci::Hasher;
use crate::runtime::Tasks;
use crate::upstream::BlobStream;

/// The number of chunks queued between the upstream and the reader.
const QUEUE: usize = 2;
/// How long a reader may stall; longer than the server's limit for stalled clients.
const READER_TIMEOUT: Duration = Duration::from_secs(600);
/// How long a reader that has its headers waits for its turn. Its client then retries, and is told that it has to wait.
const TURN_TIMEOUT: Duration = Duration::from_secs(30);

/// A blob that is streamed through.
pub struct Relay {
    source: BlobSource,
    tasks: Tasks,
    /// The response that stated the size, for use by the first reader.
    first: Mutex<Option<(BlobStream, OwnedSemaphorePermit)>>,
    /// Counts the readers.
    relayed: Counter,
}

impl Relay {
    pub(super) fn new(source: BlobSource, tasks: Tasks, relayed: Counter) -> Self {
        Self { source, tasks, first: Mutex::default(), relayed }
    }

    /// Supplies a response that has already started.
    pub(super) fn begun(self, stream: BlobStream, turn: OwnedSemaphorePermit) -> Self {
        Self { first: Mutex::new(Some((stream, turn))), ..self }
    }

    /// The size in bytes that the upstream stated.
    pub(super) fn size(&self) -> u64 {
        self.source.size
    }

    /// Streams a range of the content. It is downloaded from the first byte, because only the whole content has a
    /// digest.
    pub(super) fn stream(self: &Arc<Self>, start: u64, end: u64) -> RelayStream {
        self.relayed.inc();
        let (sender, pieces) = mpsc::channel(QUEUE);
        let relay = self.clone();
        self.tasks.spawn_transfer(async move {
            if let Err(error) = relay.run(&sender).await {
                tracing::info!(blob.digest = %relay.source.digest, %error, "streaming a blob through failed");
                // The reader may already be gone.
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
                let turn = tokio::time::timeout(TURN_TIMEOUT, self.source.relay_turns().acquire_owned()).await;
                let turn = turn.map_err(|_| Broken::NoTurn)?.map_err(|_| Broken::Unwanted)?;
                (self.source.open(0).await.map_err(Broken::Upstream)?, turn)
            }
        };
        let take = |piece| async move {
            match tokio::time::timeout(READER_TIMEOUT, sender.send(Ok(piece))).await {
                Ok(sent) => sent.map_err(|_| Broken::Unwanted),
                Err(_) => Err(Broken::Stuck),
            }
        };
        match download(&self.source, stream, take).await {
            // The reader has everything it wanted, or is gone.
            Err(Broken::Unwanted) => Ok(()),
            other => other,
        }
    }
}

/// The reader's end of a relay.
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
    /// The next chunk of the range.
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

    /// Withholds the chunk that completes the content unless the digest matches.
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
        tracing::warn!(blob.digest = %source.digest, image.name = %source.name, %found, "the upstream sent content with a different digest");
        Err(io::Error::new(io::ErrorKind::InvalidData, format!("the upstream sent content with digest {found}")))
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;

    use super::*;
    use crate::oci::{Digest, ImageName};
    use crate::runtime::{Clock, Metrics, Readiness};
    use crate::upstream::{Config, Upstreams};

    /// Its client already has the status 200, so the only way to report the failure is to end the connection.
    #[tokio::test(start_paused = true)]
    async fn readers_do_not_wait_for_a_turn_forever() {
        let (tasks, host) = (Tasks::new(), "a.test".parse().unwrap());
        let config = Config { max_connections: 1, ..Config::new(host, "http://a.test") };
        let services = (&tasks, &Clock::system());
        let upstreams = Upstreams::new(vec![config], None, services, &Metrics::default(), &Readiness::new()).unwrap();
        let upstream = upstreams.by_path("a.test").unwrap();
        let name = ImageName { host: upstream.host().clone(), repository: "app".parse().unwrap() };
        let source = BlobSource { upstream, name, digest: Digest::sha256(b"x"), size: 1 };
        let relayed = Counter::default();
        let _held = source.relay_turns().try_acquire_owned().unwrap();
        let relay = Arc::new(Relay::new(source, tasks, relayed.clone()));
        let began = tokio::time::Instant::now();
        let mut stream = relay.stream(0, 1);
        let error = poll_fn(|cx| stream.poll_piece(cx)).await.unwrap_err();
        assert_eq!(began.elapsed(), TURN_TIMEOUT);
        assert!(error.to_string().contains("too many blobs"), "{error}");
        assert_eq!(relayed.get(), 1);
    }
}
