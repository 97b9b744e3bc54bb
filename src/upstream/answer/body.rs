//! Response bodies, with bounds on their size and duration.

use std::ops::Range;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::Response;
use http::header;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use tokio::time::timeout;

use crate::oci::Host;
use crate::upstream::Error;
use crate::upstream::config::Config;
use crate::upstream::headers::text;
use crate::upstream::limits::Turn;

/// A response body. The request keeps its turn until this is dropped.
pub(in crate::upstream) struct Inbound {
    body: Incoming,
    turn: Option<Turn>,
}

impl Inbound {
    pub(in crate::upstream) fn new(body: Incoming, turn: Option<Turn>) -> Self {
        Self { body, turn }
    }

    /// The next chunk, as soon as the upstream's bandwidth limit allows one more after it.
    pub(in crate::upstream) async fn next_piece(
        &mut self,
        idle: Duration,
        host: &Host,
    ) -> Option<Result<Bytes, Error>> {
        let piece = next_piece(&mut self.body, idle, host).await;
        if let (Some(Ok(bytes)), Some(turn)) = (&piece, &self.turn) {
            turn.pay(bytes.len()).await;
        }
        piece
    }
}

/// Reads a complete body.
pub(in crate::upstream) async fn read_whole(body: Inbound, limit: usize, config: &Config) -> Result<Bytes, Error> {
    let host = &config.host;
    if body.body.size_hint().lower() > limit as u64 {
        return Err(too_large(host, limit));
    }
    match timeout(config.body_timeout, collect(body, limit, config)).await {
        Ok(outcome) => outcome,
        Err(_) => {
            let limit = config.body_timeout.as_secs_f32();
            Err(Error::Unavailable(format!("{host}: the response was not complete within {limit} s")))
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
    Error::TooLarge(format!("{host}: the response is larger than {limit} bytes"))
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
            Err(error) => {
                return Some(Err(Error::Unavailable(format!("{host}: the response was interrupted: {error}"))));
            }
        }
    }
}

/// A blob that is being streamed.
pub struct BlobStream {
    /// The size of the whole blob in bytes, as stated in the response or else in the manifest.
    pub size: u64,
    /// The offset at which this stream starts, in bytes.
    pub from: u64,
    /// The entity tag of the content, if the registry or its storage provides one.
    pub etag: Option<String>,
    /// The claimed content encoding. It is ignored, but may explain why bytes are wrong.
    pub encoding: Option<String>,
    /// The offset of the next chunk, in bytes.
    position: u64,
    /// The end of the announced range, in bytes.
    end: u64,
    /// `None` once nothing more is expected, so that another request may take the turn.
    body: Option<Inbound>,
    idle: Duration,
    host: Host,
}

impl BlobStream {
    pub(in crate::upstream) fn new(size: u64, span: Range<u64>, response: Response<Inbound>, config: &Config) -> Self {
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

    /// The next chunk, or `None` at the announced end, which may be that of a range. Fewer bytes than announced are
    /// [`Error::Unavailable`], after which the rest can be requested; more are [`Error::Protocol`]. Nothing follows an
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
                Some(Err(Error::Unavailable(format!("{}: the response ended {left} bytes early", self.host))))
            }
            end => end,
        };
        self.body = None;
        outcome
    }
}
