//! Response bodies, read with limits on size and time.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time::timeout;

use super::HttpError;

/// A body that is read piece by piece.
pub(crate) trait PieceSource: Send {
    /// The next piece; `None` at the end.
    fn next_piece(&mut self) -> impl Future<Output = Option<Result<Bytes, HttpError>>> + Send;

    /// The minimum size of the rest in bytes, according to the response headers; 0 if they do not state it.
    fn announced(&self) -> u64;
}

/// The body of a response.
pub(crate) struct ReceivedBody {
    body: Incoming,
    /// The time limit for the next piece.
    idle: Duration,
}

impl ReceivedBody {
    /// A body that fails if no byte arrives for `idle`.
    pub(crate) fn new(body: Incoming, idle: Duration) -> Self {
        Self { body, idle }
    }
}

impl PieceSource for ReceivedBody {
    async fn next_piece(&mut self) -> Option<Result<Bytes, HttpError>> {
        loop {
            let Ok(frame) = timeout(self.idle, self.body.frame()).await else {
                return Some(Err(HttpError::Silent(self.idle)));
            };
            match frame? {
                Ok(frame) => {
                    if let Ok(data) = frame.into_data() {
                        return Some(Ok(data));
                    }
                }
                Err(error) => return Some(Err(HttpError::BrokenOff(error.to_string()))),
            }
        }
    }

    fn announced(&self) -> u64 {
        self.body.size_hint().lower()
    }
}

/// Reads a body completely: at most `limit` bytes within `time`.
///
/// # Errors
/// [`HttpError::TooLarge`], [`HttpError::Slow`], and the errors of the body's pieces.
pub(crate) async fn read_whole(body: impl PieceSource, limit: usize, time: Duration) -> Result<Bytes, HttpError> {
    if body.announced() > limit as u64 {
        return Err(HttpError::TooLarge(limit));
    }
    timeout(time, collect(body, limit)).await.unwrap_or(Err(HttpError::Slow(time)))
}

async fn collect(mut body: impl PieceSource, limit: usize) -> Result<Bytes, HttpError> {
    let mut bytes = BytesMut::new();
    while let Some(piece) = body.next_piece().await {
        let piece = piece?;
        if bytes.len() + piece.len() > limit {
            return Err(HttpError::TooLarge(limit));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.freeze())
}
