//! The response body: shared bytes, sent in chunks, with injected faults.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::stream;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;

use super::fault::{Closed, Fault, FaultHit, FaultRule};
use super::flush::ConnectionFaults;

/// The number of bytes passed to the connection at a time.
const PIECE: usize = 64 * 1024;

/// Sends `bytes` with the given faults. `wire` reports each flush of the connection.
pub(super) fn send(bytes: Bytes, hit: FaultHit, wire: Arc<ConnectionFaults>) -> UnsyncBoxBody<Bytes, Closed> {
    let mut sender =
        BodySender { rest: bytes, sent: 0, wire, cut: None, flip: None, stall: None, piece: PIECE, pause: None };
    for rule in hit.0 {
        match rule.fault {
            Fault::Cut(at) => sender.cut = Some(at),
            Fault::Flip(at) => sender.flip = Some(at),
            Fault::Stall(at) => sender.stall = Some((at, rule)),
            Fault::Trickle { piece, pause } => (sender.piece, sender.pause) = (piece.max(1), Some(pause)),
            _ => {}
        }
    }
    StreamBody::new(stream::unfold(sender, BodySender::next)).boxed_unsync()
}

struct BodySender {
    rest: Bytes,
    sent: u64,
    wire: Arc<ConnectionFaults>,
    cut: Option<u64>,
    flip: Option<u64>,
    stall: Option<(u64, Arc<FaultRule>)>,
    piece: usize,
    pause: Option<Duration>,
}

impl BodySender {
    async fn next(mut self) -> Option<(Result<Frame<Bytes>, Closed>, Self)> {
        if self.cut.is_some_and(|at| at <= self.sent) {
            self.wire.flushed.notified().await;
            return Some((Err(Closed), self));
        }
        if let Some((_, rule)) = self.stall.take_if(|(at, _)| *at <= self.sent) {
            rule.pass().await;
        }
        if self.rest.is_empty() {
            return None;
        }
        if let Some(pause) = self.pause.filter(|_| self.sent > 0) {
            tokio::time::sleep(pause).await;
        }
        let piece = self.piece();
        self.sent += piece.len() as u64;
        Some((Ok(Frame::data(piece)), self))
    }

    /// The next bytes, up to the position of the next fault.
    fn piece(&mut self) -> Bytes {
        let stops = [self.cut, self.stall.as_ref().map(|(at, _)| *at)];
        let distances = stops.into_iter().flatten().map(|at| usize::try_from(at - self.sent).unwrap_or(usize::MAX));
        let len = distances.fold(self.piece.min(self.rest.len()), usize::min);
        let piece = self.rest.split_to(len);
        match self.flip.map(|at| at.wrapping_sub(self.sent) as usize).filter(|at| *at < len) {
            None => piece,
            Some(at) => {
                let mut wrong = BytesMut::from(&*piece);
                wrong[at] ^= 1;
                wrong.freeze()
            }
        }
    }
}
