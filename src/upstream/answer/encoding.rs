//! Content that was compressed in transit without being requested.
//!
//! `Content-Encoding` is ignored: web servers declare `x-gzip` for layers, which are gzip files themselves, and object
//! stores return `aws-chunked`, which described the upload. The content is correct either as received, or decompressed,
//! or not at all, and its digest decides.

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use flate2::write;

/// Whether the bytes start like gzip (RFC 1952 §2.3.1).
pub(in crate::upstream) fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

/// The content of a gzip file, if it is valid and has at most `limit` bytes.
pub(in crate::upstream) fn gunzipped(bytes: &[u8], limit: usize) -> Option<Bytes> {
    if !is_gzip(bytes) {
        return None;
    }
    let mut plain = Vec::new();
    MultiGzDecoder::new(bytes).take(limit as u64 + 1).read_to_end(&mut plain).ok()?;
    (plain.len() <= limit).then(|| plain.into())
}

/// The maximum decompressed size of a streamed response, in bytes.
const MAX_UNPACKED: usize = 64 * 1024 * 1024;
/// The number of bytes decompressed at a time; gzip expands them at most a thousandfold.
const STEP: usize = 1024;

/// Decompresses streamed JSON if it was compressed in transit.
#[derive(Default)]
pub(in crate::upstream) struct Unpacker {
    /// `None` until the first byte has arrived; then the decoder, if the response is compressed.
    decoder: Option<Option<write::MultiGzDecoder<Vec<u8>>>>,
    unpacked: usize,
}

impl Unpacker {
    /// Consumes as much of the chunk as may be decompressed at a time, and returns the result.
    pub(in crate::upstream) fn take(&mut self, piece: &mut Bytes) -> Result<Bytes, &'static str> {
        if piece.is_empty() {
            return Ok(Bytes::new());
        }
        // JSON never starts with the first byte of gzip.
        let is_packed = || piece.starts_with(&[0x1f]).then(|| write::MultiGzDecoder::new(Vec::new()));
        let Some(decoder) = self.decoder.get_or_insert_with(is_packed) else {
            return Ok(std::mem::take(piece));
        };
        let step = piece.split_to(piece.len().min(STEP));
        let outcome = decoder.write_all(&step).and_then(|()| decoder.flush());
        self.drain(outcome)
    }

    /// The remaining content at the end.
    pub(in crate::upstream) fn finish(&mut self) -> Result<Bytes, &'static str> {
        let outcome = self.decoder.iter_mut().flatten().try_for_each(write::MultiGzDecoder::try_finish);
        self.drain(outcome)
    }

    fn drain(&mut self, outcome: std::io::Result<()>) -> Result<Bytes, &'static str> {
        outcome.map_err(|_| "it is compressed and cannot be decompressed")?;
        let plain = self.decoder.iter_mut().flatten().map(|decoder| std::mem::take(decoder.get_mut())).next();
        let plain = plain.unwrap_or_default();
        self.unpacked += plain.len();
        if self.unpacked > MAX_UNPACKED { Err("it decompresses to more than 64 MiB") } else { Ok(plain.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::image::Layer;

    fn packed(plain: &[u8]) -> Vec<u8> {
        Layer::gzip_of(plain).bytes.to_vec()
    }

    /// The decompressed content of chunks of this size, and the largest result of one step.
    fn piece_by_piece(bytes: &[u8], size: usize) -> Result<(Vec<u8>, usize), &'static str> {
        let (mut unpacker, mut all, mut most) = (Unpacker::default(), Vec::new(), 0);
        for piece in bytes.chunks(size) {
            let mut piece = Bytes::copy_from_slice(piece);
            while !piece.is_empty() {
                let plain = unpacker.take(&mut piece)?;
                most = most.max(plain.len());
                all.extend_from_slice(&plain);
            }
        }
        all.extend_from_slice(&unpacker.finish()?);
        Ok((all, most))
    }

    #[test]
    fn chunks_are_decompressed_in_small_steps() {
        let plain: Vec<u8> = (0..50_000u32).flat_map(u32::to_le_bytes).collect();
        for size in [1, 700, 1_000_000] {
            assert_eq!(piece_by_piece(&packed(&plain), size).unwrap().0, plain);
            assert_eq!(piece_by_piece(b"{\"tags\":[]}", size).unwrap().0, b"{\"tags\":[]}");
        }
        let (all, most) = piece_by_piece(&packed(&vec![0; 8 << 20]), 1_000_000).unwrap();
        assert!(all.len() == 8 << 20 && most <= 2 << 20, "{most}");
        assert!(piece_by_piece(&packed(&vec![0; MAX_UNPACKED + 1]), 1_000_000).is_err(), "a bomb");
        let cut = packed(&plain);
        assert!(piece_by_piece(&cut[..cut.len() - 1], 700).is_err(), "cut");
    }

    #[test]
    fn decompression_respects_the_limit() {
        let packed = packed(&[b' '; 1000]);
        assert_eq!(gunzipped(&packed, 1000).unwrap(), [b' '; 1000].as_slice());
        assert_eq!(gunzipped(&packed, 999), None, "a bomb");
        assert_eq!(gunzipped(&packed[..packed.len() - 1], 1000), None, "cut");
        assert_eq!(gunzipped(b"{}", 1000), None);
        assert_eq!(gunzipped(b"", 1000), None);
    }
}
