//! Bodies, read with bounds on their size and on the time that they take; and what headers say of them.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{self, HeaderMap, HeaderName};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time::timeout;

use super::Error;
use super::config::Config;
use super::limits::Turn;
use crate::oci::Host;

/// An answer's body. The request has its turn until this is gone.
pub(super) struct Inbound {
    body: Incoming,
    turn: Option<Turn>,
}

impl Inbound {
    pub(super) fn new(body: Incoming, turn: Option<Turn>) -> Self {
        Self { body, turn }
    }

    /// The next piece, as soon as the upstream's bandwidth allows one more after it.
    pub(super) async fn next_piece(&mut self, idle: Duration, host: &Host) -> Option<Result<Bytes, Error>> {
        let piece = next_piece(&mut self.body, idle, host).await;
        if let (Some(Ok(bytes)), Some(turn)) = (&piece, &self.turn) {
            turn.pay(bytes.len()).await;
        }
        piece
    }
}

/// Reads a body whole.
pub(super) async fn read_whole(body: Inbound, limit: usize, config: &Config) -> Result<Bytes, Error> {
    let host = &config.host;
    if body.body.size_hint().lower() > limit as u64 {
        return Err(too_large(host, limit));
    }
    match timeout(config.body_timeout, collect(body, limit, config)).await {
        Ok(outcome) => outcome,
        Err(_) => {
            let limit = config.body_timeout.as_secs_f32();
            Err(Error::Unavailable(format!("{host}: the answer was not complete within {limit} s")))
        }
    }
}

async fn collect(mut body: Inbound, limit: usize, config: &Config) -> Result<Bytes, Error> {
    let mut bytes = BytesMut::new();
    while let Some(piece) = body.next_piece(config.idle_timeout, &config.host).await {
        let piece = piece?;
        if bytes.len() + piece.len() > limit {
            return Err(too_large(&config.host, limit));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes.freeze())
}

fn too_large(host: &Host, limit: usize) -> Error {
    Error::TooLarge(format!("{host}: the answer is larger than {limit} bytes"))
}

async fn next_piece(body: &mut Incoming, idle: Duration, host: &Host) -> Option<Result<Bytes, Error>> {
    loop {
        let Ok(frame) = timeout(idle, body.frame()).await else {
            return Some(Err(Error::Unavailable(format!("{host}: no byte came for {} s", idle.as_secs_f32()))));
        };
        match frame? {
            Ok(frame) => {
                if let Ok(data) = frame.into_data() {
                    return Some(Ok(data));
                }
            }
            Err(error) => return Some(Err(Error::Unavailable(format!("{host}: the answer broke off: {error}")))),
        }
    }
}

/// A blob on its way.
pub struct BlobStream {
    /// The size of the whole blob in bytes, as announced.
    pub size: u64,
    /// Where this stream begins, in bytes.
    pub from: u64,
    /// The entity tag of what is streamed, where the registry or its storage gives one.
    pub etag: Option<String>,
    /// Where the next piece begins, in bytes.
    position: u64,
    /// `None` when nothing more is to come; then another request may have the turn.
    body: Option<Inbound>,
    idle: Duration,
    host: Host,
}

impl BlobStream {
    pub(super) fn new(size: u64, from: u64, etag: Option<String>, body: Inbound, config: &Config) -> Self {
        let (idle, host) = (config.idle_timeout, config.host.clone());
        Self { size, from, etag, position: from, body: Some(body), idle, host }
    }

    /// The next piece; `None` at the announced end. Fewer bytes than announced are [`Error::Unavailable`], after which
    /// the rest can be asked for; more are [`Error::Protocol`]. Nothing follows an error.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        let piece = self.body.as_mut()?.next_piece(self.idle, &self.host).await;
        let left = self.size - self.position;
        let outcome = match piece {
            Some(Ok(bytes)) if bytes.len() as u64 <= left => {
                self.position += bytes.len() as u64;
                return Some(Ok(bytes));
            }
            Some(Ok(_)) => Some(Err(Error::Protocol(format!("{}: more bytes than announced", self.host)))),
            None if left > 0 => {
                Some(Err(Error::Unavailable(format!("{}: the answer ended {left} bytes early", self.host))))
            }
            end => end,
        };
        self.body = None;
        outcome
    }
}

/// A header's value, where it is text.
pub(super) fn text(headers: &HeaderMap, name: &HeaderName) -> Option<String> {
    headers.get(name)?.to_str().ok().map(str::to_owned)
}

pub(super) fn content_length(headers: &HeaderMap) -> Option<u64> {
    text(headers, &header::CONTENT_LENGTH)?.parse().ok()
}

/// Total size and start of `Content-Range: bytes 5-9/10`, for a range that reaches the end.
pub(super) fn content_range(headers: &HeaderMap) -> Option<(u64, u64)> {
    let range = text(headers, &header::CONTENT_RANGE)?;
    let (span, size) = range.strip_prefix("bytes ")?.split_once('/')?;
    let (start, end) = span.split_once('-')?;
    let (size, start, end): (u64, u64, u64) = (size.parse().ok()?, start.parse().ok()?, end.parse().ok()?);
    (start <= end && end.checked_add(1) == Some(size)).then_some((size, start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_that_reach_the_end() {
        for (value, wanted) in [
            ("bytes 5-9/10", Some((10, 5))),
            ("bytes 0-9/10", Some((10, 0))),
            ("bytes 5-8/10", None),
            ("bytes 5-9/*", None),
            ("bytes */10", None),
            ("bytes 10-9/10", None),
            ("bytes 0-18446744073709551615/0", None),
            ("items 5-9/10", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_RANGE, value.parse().unwrap());
            assert_eq!(content_range(&headers), wanted, "{value}");
        }
    }
}
