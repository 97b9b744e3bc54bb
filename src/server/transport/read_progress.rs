//! Whether the client of an HTTP/2 connection reads the responses.
//!
//! With HTTP/1.1 a client that reads nothing fills the socket, which [`WriteStall`](super::stream::WriteStall) sees. With
//! HTTP/2 it can close the window of a response and keep the connection busy with other frames, such as answers to pings.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::Instant;

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

    fn elapsed(&self) -> u64 {
        u64::try_from(self.0.start.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn is_stalled(&self) -> bool {
        let since = self.elapsed().saturating_sub(self.0.last.load(Ordering::Relaxed));
        self.0.waiting.load(Ordering::Relaxed) > 0 && u128::from(since) >= self.0.timeout.as_millis()
    }
}

/// Ends when responses have waited for the client for the whole timeout, and it has read none of them. Never ends without
/// HTTP/2.
pub(super) async fn client_reads_nothing(progress: Option<ReadProgress>) {
    let Some(progress) = progress else { return std::future::pending().await };
    while !progress.is_stalled() {
        tokio::time::sleep(progress.0.timeout / 4).await;
    }
}

/// One response of a connection.
#[derive(Debug)]
pub(super) struct BodyReader {
    progress: ReadProgress,
    is_waiting: bool,
}

impl BodyReader {
    pub(super) fn new(progress: ReadProgress) -> Self {
        Self { progress, is_waiting: false }
    }

    /// Notes that the connection has asked for the next part, which it does when the client has made room. `is_ready` says
    /// whether there was one: if not, the client waits for the gate.
    pub(super) fn polled(&mut self, is_ready: bool) {
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
        client_reads_nothing(Some(progress)).await;
        assert_eq!(began.elapsed(), TIMEOUT);
    }
}
