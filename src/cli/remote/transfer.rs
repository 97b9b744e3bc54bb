//! Content from and to a gate, piece by piece.

use std::io::{self, Read};

use bytes::Bytes;
use futures_util::stream;
use http::{Method, Response};
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Incoming;

use super::{AdminAddress, AdminCall, CommandError, GateArgs, ask, broken_off, endpoint, message, whole};
use crate::api::{ContentQuery, path};

/// The size of a piece that is sent, in bytes.
const PIECE: usize = 256 * 1024;

/// Sends and receives content.
pub(in crate::cli) struct ContentClient {
    endpoint: AdminAddress,
    token: Option<String>,
    runtime: tokio::runtime::Runtime,
}

impl ContentClient {
    /// A client of the gate that the arguments name.
    pub(in crate::cli) fn new(gate: &GateArgs) -> Result<Self, CommandError> {
        let runtime = crate::cli::runtime().map_err(|error| error.to_string())?;
        Ok(Self { endpoint: endpoint(gate)?, token: gate.token()?, runtime })
    }

    /// Passes each piece of some content to `take`.
    pub(in crate::cli) fn receive(
        &self,
        query: &ContentQuery,
        take: &mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> Result<(), String> {
        let path = path_of(query);
        let empty = http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync();
        let call = AdminCall { method: Method::POST, path: &path, token: self.token.clone(), body: empty };
        let read = async |response: Response<Incoming>| {
            if !response.status().is_success() {
                let (status, body) = whole(response).await?;
                return Err(message(status, &body));
            }
            let mut body = response.into_body();
            while let Some(frame) = body.frame().await {
                let frame = frame.map_err(|error| broken_off(&error))?;
                if let Some(piece) = frame.data_ref() {
                    take(piece).map_err(|error| error.to_string())?;
                }
            }
            Ok(())
        };
        self.runtime.block_on(ask(&self.endpoint, call, read))
    }

    /// Sends content, which the gate verifies. Calls `tell` with the number of bytes sent.
    pub(in crate::cli) fn send(
        &self,
        query: &ContentQuery,
        source: impl Read + Send + 'static,
        tell: impl Fn(u64) + Send + 'static,
    ) -> Result<(), String> {
        let path = path_of(query);
        let pieces = stream::try_unfold(source, move |mut source| {
            let read = read_piece(&mut source).map(|piece| {
                tell(piece.len() as u64);
                (!piece.is_empty()).then(|| (Frame::data(piece), source))
            });
            async move { read }
        });
        let body = StreamBody::new(pieces).boxed_unsync();
        let call = AdminCall { method: Method::PUT, path: &path, token: self.token.clone(), body };
        let (status, body) = self.runtime.block_on(ask(&self.endpoint, call, whole))?;
        if status.is_success() { Ok(()) } else { Err(message(status, &body)) }
    }
}

fn path_of(query: &ContentQuery) -> String {
    format!("{}{}?{}", path::PREFIX, path::BUNDLE_CONTENT, query.to_query())
}

fn read_piece(source: &mut impl Read) -> io::Result<Bytes> {
    let mut piece = Vec::with_capacity(PIECE);
    source.take(PIECE as u64).read_to_end(&mut piece)?;
    Ok(piece.into())
}
