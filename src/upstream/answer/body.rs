//! Bodies within the limits of an upstream.

use std::ops::Range;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http::header;
use hyper::body::Incoming;

use crate::http_client::{self, HttpError, PieceSource, ReceivedBody};
use crate::oci::Host;
use crate::runtime::counted;
use crate::upstream::Error;
use crate::upstream::config::Config;
use crate::upstream::headers::text;
use crate::upstream::limits::Turn;

/// The body of an answer. The request keeps its turn until this is dropped.
pub(in crate::upstream) struct Inbound {
    body: ReceivedBody,
    turn: Turn,
}

impl Inbound {
    pub(in crate::upstream) fn new(body: Incoming, turn: Turn, idle: Duration) -> Self {
        Self { body: ReceivedBody::new(body, idle), turn }
    }
}

impl PieceSource for Inbound {
    /// The next piece, as soon as the upstream's bandwidth allows another one after it.
    async fn next_piece(&mut self) -> Option<Result<Bytes, HttpError>> {
        let piece = self.body.next_piece().await;
        if let Some(Ok(bytes)) = &piece {
            self.turn.pay(bytes.len()).await;
        }
        piece
    }

    fn announced(&self) -> u64 {
        self.body.announced()
    }
}

/// Reads a body to its end: at most `limit` bytes, within the upstream's `body_timeout`.
pub(in crate::upstream) async fn read_whole(body: Inbound, limit: usize, config: &Config) -> Result<Bytes, Error> {
    let bytes = http_client::read_whole(body, limit, config.body_timeout).await;
    bytes.map_err(|error| Error::unread(&config.host, &error))
}

/// A blob that is being streamed.
pub struct BlobStream {
    /// The size of the whole blob in bytes, as stated in the response or else in the manifest.
    pub size: u64,
    /// The offset at which this stream starts, in bytes.
    pub from: u64,
    /// The claimed content encoding. It is ignored, but may explain why bytes are wrong.
    pub encoding: Option<String>,
    /// The offset of the next chunk, in bytes.
    position: u64,
    /// The end of the announced range, in bytes.
    end: u64,
    /// `None` once nothing more is expected, so that another request may take the turn.
    body: Option<Inbound>,
    host: Host,
}

impl BlobStream {
    pub(in crate::upstream) fn new(size: u64, span: Range<u64>, response: Response<Inbound>, config: &Config) -> Self {
        Self {
            size,
            from: span.start,
            encoding: text(response.headers(), &header::CONTENT_ENCODING),
            position: span.start,
            end: span.end,
            body: Some(response.into_body()),
            host: config.host.clone(),
        }
    }

    /// The next chunk, or `None` at the announced end, which may be that of a range. Fewer bytes than announced are
    /// [`Error::Unavailable`], after which the rest can be requested; more are [`Error::Protocol`]. Nothing follows an
    /// error.
    pub async fn next(&mut self) -> Option<Result<Bytes, Error>> {
        let piece = self.body.as_mut()?.next_piece().await;
        let left = self.end - self.position;
        let outcome = match piece {
            Some(Ok(bytes)) if bytes.len() as u64 <= left => {
                self.position += bytes.len() as u64;
                return Some(Ok(bytes));
            }
            Some(Ok(_)) => Some(Err(Error::Protocol(format!("{}: more bytes than announced", self.host)))),
            None if left > 0 => {
                let left = counted(left, "byte", "bytes");
                Some(Err(Error::Unavailable(format!("{}: the response ended {left} early", self.host))))
            }
            Some(Err(error)) => Some(Err(Error::unread(&self.host, &error))),
            None => None,
        };
        self.body = None;
        outcome
    }
}
