//! Requests for blobs, whole and in part.

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Response, StatusCode, header};
use tokio::sync::Semaphore;

use super::answer::body::{BlobStream, Inbound, read_whole};
use super::exchange::{Call, RequestedRange};
use super::headers::{content_length, content_range, text};
use super::{Error, Upstream};
use crate::oci::{Digest, Repository};

impl Upstream {
    /// The turns of blobs that are streamed to clients past the cache. Such a download needs one in addition to the
    /// turn of its request, so that clients that read slowly leave connections to others.
    pub fn relay_turns(&self) -> &Arc<Semaphore> {
        self.exchange.relay_turns()
    }

    /// Streams a blob, from an offset if the registry supports that; [`BlobStream::from`] is where it actually starts.
    /// `size` is the size in the manifest, in bytes, which is used if the response states none. The bytes are not
    /// verified here: whoever stores or serves them does that. For the same reason `If-Range` is not needed: the
    /// content of a digest never changes, and parts of different content would not match it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn blob(
        &self,
        repository: &Repository,
        digest: &Digest,
        size: u64,
        from: u64,
    ) -> Result<BlobStream, Error> {
        let whole = self.blob_call(Method::GET, repository, digest);
        if from > 0 {
            let rest = Call { range: Some(RequestedRange { first: from, last: None }), ..whole.clone() };
            match self.exchange.send(&rest).await {
                Ok(response) => {
                    if let Some(stream) = self.rest(response, size, from) {
                        return Ok(stream);
                    }
                }
                // It has already waited for a turn.
                Err(error @ Error::Busy(_)) => return Err(error),
                Err(_) => {}
            }
            // The registry refuses this range, but may still send the whole blob.
            tracing::debug!(upstream = %self.host(), %digest, from, "the range request failed; requesting the whole blob");
        }
        let response = self.exchange.send(&whole).await?;
        self.whole(response, size)
    }

    /// Requests a part of a blob of `size` bytes. It cannot be verified until the whole blob is there.
    ///
    /// # Errors
    /// See [`Error`]; nothing is tried again. [`Error::Protocol`] if the registry sends anything but this part.
    pub async fn blob_part(
        &self,
        repository: &Repository,
        digest: &Digest,
        size: u64,
        part: Range<u64>,
    ) -> Result<Bytes, Error> {
        let range = RequestedRange { first: part.start, last: Some(part.end - 1) };
        let whole = self.blob_call(Method::GET, repository, digest);
        let call = Call { range: Some(range), has_alternative: true, ..whole };
        let response = self.exchange.send(&call).await?;
        let is_partial = response.status() == StatusCode::PARTIAL_CONTENT;
        // Nothing verifies the bytes before they are sent, so they must be the content itself.
        let encoding = text(response.headers(), &header::CONTENT_ENCODING);
        let is_plain = encoding.is_none_or(|encoding| encoding == "identity");
        let sent = content_range(response.headers()).filter(|_| is_partial && is_plain);
        if sent.is_none_or(|(span, total)| span != part || total.is_some_and(|total| total != size)) {
            return Err(self.protocol("a range request with something other than the requested range"));
        }
        let length = usize::try_from(part.end - part.start).unwrap_or(usize::MAX);
        let bytes = read_whole(response.into_body(), length, self.config()).await?;
        if bytes.len() == length { Ok(bytes) } else { Err(self.protocol("a part that is too short")) }
    }

    /// A response with the whole blob.
    fn whole(&self, response: Response<Inbound>, size: u64) -> Result<BlobStream, Error> {
        let stated = content_length(response.headers()).unwrap_or(size);
        let stream = BlobStream::new(stated, 0..stated, response, self.config());
        match &stream.encoding {
            Some(encoding) if stated != size => {
                let what = format!(
                    "a blob of {size} bytes as {stated} bytes with the encoding {encoding:?}, which was not requested"
                );
                Err(self.protocol(&what))
            }
            _ => Ok(stream),
        }
    }

    /// A response with the rest of a blob, or all of it, if valid (RFC 9110 §14.4; the total may be `*`).
    fn rest(&self, response: Response<Inbound>, size: u64, from: u64) -> Option<BlobStream> {
        match response.status() {
            StatusCode::OK | StatusCode::NON_AUTHORITATIVE_INFORMATION => self.whole(response, size).ok(),
            StatusCode::PARTIAL_CONTENT => {
                let (span, total) = content_range(response.headers())?;
                let fits = span.start <= from && from < span.end && span.end <= size;
                let is_of_it = fits && total.is_none_or(|total| total == size);
                is_of_it.then(|| BlobStream::new(size, span, response, self.config()))
            }
            _ => None,
        }
    }
}
