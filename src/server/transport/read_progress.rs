//! Whether the client of an HTTP/2 connection reads the responses.
//!
//! With HTTP/1.1 a client that reads nothing fills the socket, which [`WriteStall`](super::stream::WriteStall) sees.
//! With HTTP/2 it can close the window of a response and keep the connection busy with other frames, such as answers to
//! pings.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time::Instant;

/// The maximum number of bytes that a response passes on at a time. A connection asks for the next ones when it has
/// sent these, so a client with all its responses under way must read a megabyte within the timeout.
const PART: usize = 32 * 1024;

/// The responses of a connection that wait for the client to read. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct ReadProgress(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    timeout: Duration,
    start: Instant,
    /// When the client last made room for a part of a response, in milliseconds after `start`.
    last: AtomicU64,
    /// The number of responses of which a part was passed on, and no other was asked for since.
    waiting: AtomicUsize,
}

impl ReadProgress {
    pub(super) fn new(timeout: Duration) -> Self {
        let (last, waiting) = (AtomicU64::new(0), AtomicUsize::new(0));
        Self(Arc::new(Shared { timeout, start: Instant::now(), last, waiting }))
    }

    /// Runs the connection until it ends. `None`: until responses have waited for the client for the whole timeout, and
    /// it has read none of them.
    pub(super) async fn until_stalled<C: Future>(self, connection: C) -> Option<C::Output> {
        let stalled = async {
            while !self.is_stalled() {
                tokio::time::sleep(self.0.timeout / 4).await;
            }
        };
        tokio::select! {
            ended = connection => Some(ended),
            () = stalled => None,
        }
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.0.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn is_stalled(&self) -> bool {
        let since = self.elapsed().saturating_sub(self.0.last.load(Ordering::Relaxed));
        self.0.waiting.load(Ordering::Relaxed) > 0 && u128::from(since) >= self.0.timeout.as_millis()
    }
}

/// Passes on one response, in small parts.
#[derive(Debug)]
pub(super) struct BodyReader {
    progress: ReadProgress,
    /// What is left of the chunk that the body gave last.
    rest: Bytes,
    is_waiting: bool,
}

impl BodyReader {
    pub(super) fn new(progress: ReadProgress) -> Self {
        Self { progress, rest: Bytes::new(), is_waiting: false }
    }

    /// How many bytes the body has given that were not passed on.
    pub(super) fn rest(&self) -> u64 {
        self.rest.len() as u64
    }

    /// The next part of the body. The connection asks for it when the client has made room.
    pub(super) fn poll_frame<B>(
        &mut self,
        body: Pin<&mut B>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, B::Error>>>
    where
        B: Body<Data = Bytes>,
    {
        let part = if self.rest.is_empty() {
            body.poll_frame(cx).map_ok(|frame| match frame.into_data() {
                Ok(data) => self.part_of(data),
                Err(trailers) => trailers,
            })
        } else {
            let rest = std::mem::take(&mut self.rest);
            Poll::Ready(Some(Ok(self.part_of(rest))))
        };
        self.polled(part.is_ready());
        part
    }

    fn part_of(&mut self, mut data: Bytes) -> Frame<Bytes> {
        let part = data.split_to(data.len().min(PART));
        self.rest = data;
        Frame::data(part)
    }

    /// Notes that the connection has asked for the next part. `is_ready` says whether there was one: if not, the client
    /// waits for the gate.
    fn polled(&mut self, is_ready: bool) {
        let shared = &self.progress.0;
        shared.last.store(self.progress.elapsed(), Ordering::Relaxed);
        match (self.is_waiting, is_ready) {
            (false, true) => _ = shared.waiting.fetch_add(1, Ordering::Relaxed),
            (true, false) => _ = shared.waiting.fetch_sub(1, Ordering::Relaxed),
            _ => {}
        }
        self.is_waiting = is_ready;
    }
}

impl Drop for BodyReader {
    fn drop(&mut self) {
        if self.is_waiting {
            self.progress.0.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(60);

    #[tokio::test(start_paused = true)]
    async fn only_a_client_that_reads_no_response_at_all_is_stalled() {
        let progress = ReadProgress::new(TIMEOUT);
        let (mut one, mut other) = (BodyReader::new(progress.clone()), BodyReader::new(progress.clone()));
        tokio::time::advance(2 * TIMEOUT).await;
        assert!(!progress.is_stalled(), "there is no response");
        one.polled(false);
        tokio::time::advance(2 * TIMEOUT).await;
        assert!(!progress.is_stalled(), "the client waits for the gate");
        one.polled(true);
        tokio::time::advance(TIMEOUT / 2).await;
        other.polled(true);
        tokio::time::advance(TIMEOUT / 2).await;
        assert!(!progress.is_stalled(), "it reads another response");
        tokio::time::advance(TIMEOUT / 2).await;
        assert!(progress.is_stalled());
        drop((one, other));
        assert!(!progress.is_stalled(), "both responses have ended");
    }

    #[tokio::test(start_paused = true)]
    async fn the_wait_ends_with_the_timeout() {
        let progress = ReadProgress::new(TIMEOUT);
        let mut body = BodyReader::new(progress.clone());
        body.polled(true);
        let began = Instant::now();
        assert_eq!(progress.until_stalled(std::future::pending::<()>()).await, None);
        assert_eq!(began.elapsed(), TIMEOUT);
    }

    #[tokio::test]
    async fn a_body_is_passed_on_in_parts() {
        let mut reader = BodyReader::new(ReadProgress::new(TIMEOUT));
        let content = Bytes::from(vec![7; 2 * PART + 1]);
        let mut body = http_body_util::Full::new(content.clone());
        let mut parts = Vec::new();
        while let Some(frame) = std::future::poll_fn(|cx| reader.poll_frame(Pin::new(&mut body), cx)).await {
            parts.push(frame.unwrap().into_data().unwrap());
            assert_eq!(parts.iter().map(Bytes::len).sum::<usize>() + reader.rest.len(), content.len());
        }
        assert_eq!(parts.iter().map(Bytes::len).collect::<Vec<_>>(), [PART, PART, 1]);
        assert_eq!(parts.concat(), content);
    }
}
