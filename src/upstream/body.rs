//! Bodies, read with bounds on their size and on the time that they take; and what headers say of them.

use std::ops::Range;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Response;
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
    /// The size of the whole blob in bytes: as announced, or else as the manifest says.
    pub size: u64,
    /// Where this stream begins, in bytes.
    pub from: u64,
    /// The entity tag of what is streamed, where the registry or its storage gives one.
    pub etag: Option<String>,
    /// How its bytes are said to be encoded. Nobody acts upon that, but it may explain why they are wrong.
    pub encoding: Option<String>,
    /// Where the next piece begins, in bytes.
    position: u64,
    /// Where the part ends that was announced, in bytes.
    end: u64,
    /// `None` when nothing more is to come; then another request may have the turn.
    body: Option<Inbound>,
    idle: Duration,
    host: Host,
}

impl BlobStream {
    pub(super) fn new(size: u64, span: Range<u64>, response: Response<Inbound>, config: &Config) -> Self {
        let header = |name| text(response.headers(), &name);
        Self {
            size,
            from: span.start,
            etag: header(header::ETAG),
            encoding: header(header::CONTENT_ENCODING),
            position: span.start,
            end: span.end,
            body: Some(response.into_body()),
            idle: config.idle_timeout,
            host: config.host.clone(),
        }
    }

    /// The next piece; `None` at the announced end, which may be that of a part. Fewer bytes than announced are
    /// [`Error::Unavailable`], after which the rest can be asked for; more are [`Error::Protocol`]. Nothing follows an
    /// error.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        let piece = self.body.as_mut()?.next_piece(self.idle, &self.host).await;
        let left = self.end - self.position;
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

/// The bytes of `Content-Range: bytes 5-9/10`, and the total size where it is said (RFC 9110 §14.4).
pub(super) fn content_range(headers: &HeaderMap) -> Option<(Range<u64>, Option<u64>)> {
    let range = text(headers, &header::CONTENT_RANGE)?;
    let (unit, range) = range.trim().split_once(' ')?;
    let (span, size) = range.trim().split_once('/')?;
    let (start, last) = span.split_once('-')?;
    let (start, last): (u64, u64) = (start.parse().ok()?, last.parse().ok()?);
    let size: Option<u64> = if size == "*" { None } else { Some(size.parse().ok()?) };
    let end = last.checked_add(1)?;
    let is_sound = unit.eq_ignore_ascii_case("bytes") && start < end && size.is_none_or(|size| end <= size);
    is_sound.then_some((start..end, size))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        for (value, wanted) in [
            ("bytes 5-9/10", Some((5..10, Some(10)))),
            ("bytes 0-9/10", Some((0..10, Some(10)))),
            ("Bytes 5-9/10", Some((5..10, Some(10)))),
            ("bytes 5-8/10", Some((5..9, Some(10)))),
            ("bytes 5-9/*", Some((5..10, None))),
            ("bytes */10", None),
            ("bytes 10-9/10", None),
            ("bytes 5-10/10", None),
            ("bytes 0-18446744073709551615/0", None),
            ("bytes 0-18446744073709551615/*", None),
            ("bytes 5-9", None),
            ("items 5-9/10", None),
            ("", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::CONTENT_RANGE, value.parse().unwrap());
            assert_eq!(content_range(&headers), wanted, "{value}");
        }
    }
}
