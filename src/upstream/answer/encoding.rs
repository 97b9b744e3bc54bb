//! Content that was packed on the way although nobody asked for that.
//!
//! `Content-Encoding` decides nothing: web servers put `x-gzip` on layers, which are gzip themselves, and object stores
//! give back `aws-chunked`, which described the upload. The bytes are right as they came, or unpacked, or not at all, and
//! their digest says which.

use std::io::{Read, Write};

use bytes::Bytes;
use flate2::read::MultiGzDecoder;
use flate2::write;

/// Whether the bytes begin as gzip does (RFC 1952 §2.3.1).
pub(in crate::upstream) fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

/// What is in a gzip file, at most `limit` bytes of it; `None` when it is none, or holds more.
pub(in crate::upstream) fn gunzipped(bytes: &[u8], limit: usize) -> Option<Bytes> {
    if !is_gzip(bytes) {
        return None;
    }
    let mut plain = Vec::new();
    MultiGzDecoder::new(bytes).take(limit as u64 + 1).read_to_end(&mut plain).ok()?;
    (plain.len() <= limit).then(|| plain.into())
}

/// The largest answer that is unpacked piece by piece, in bytes.
const MAX_UNPACKED: usize = 64 * 1024 * 1024;
/// So much is unpacked at once, in bytes: gzip makes at most a thousand times as much of it.
const STEP: usize = 1024;

/// Unpacks JSON that comes piece by piece, where it was packed on the way.
#[derive(Default)]
pub(in crate::upstream) struct Unpacker {
    /// `None` until the first byte has come; then the decoder, where the answer is packed.
    decoder: Option<Option<write::MultiGzDecoder<Vec<u8>>>>,
    unpacked: usize,
}

impl Unpacker {
    /// Takes as much of the piece as may be unpacked at once, and gives what is in it.
    pub(in crate::upstream) fn take(&mut self, piece: &mut Bytes) -> Result<Bytes, &'static str> {
        if piece.is_empty() {
            return Ok(Bytes::new());
        }
        // No JSON begins with the first byte of gzip.
        let is_packed = || piece.starts_with(&[0x1f]).then(|| write::MultiGzDecoder::new(Vec::new()));
        let Some(decoder) = self.decoder.get_or_insert_with(is_packed) else {
            return Ok(std::mem::take(piece));
        };
        let step = piece.split_to(piece.len().min(STEP));
        let outcome = decoder.write_all(&step).and_then(|()| decoder.flush());
        self.drain(outcome)
    }

    /// What is left at the end.
    pub(in crate::upstream) fn finish(&mut self) -> Result<Bytes, &'static str> {
        let outcome = self.decoder.iter_mut().flatten().try_for_each(write::MultiGzDecoder::try_finish);
        self.drain(outcome)
    }

    fn drain(&mut self, outcome: std::io::Result<()>) -> Result<Bytes, &'static str> {
        outcome.map_err(|_| "it is encoded and cannot be decoded")?;
        let plain = self.decoder.iter_mut().flatten().map(|decoder| std::mem::take(decoder.get_mut())).next();
        let plain = plain.unwrap_or_default();
        self.unpacked += plain.len();
        if self.unpacked > MAX_UNPACKED { Err("it is encoded and larger than 64 MiB") } else { Ok(plain.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::image::Layer;

    fn packed(plain: &[u8]) -> Vec<u8> {
        Layer::gzip_of(plain).bytes.to_vec()
    }

    /// What is unpacked when it comes in pieces of this size, and the most at once.
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
    fn pieces_are_unpacked_a_little_at_a_time() {
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
    fn unpacked_within_the_limit() {
        let packed = packed(&[b' '; 1000]);
        assert_eq!(gunzipped(&packed, 1000).unwrap(), [b' '; 1000].as_slice());
        assert_eq!(gunzipped(&packed, 999), None, "a bomb");
        assert_eq!(gunzipped(&packed[..packed.len() - 1], 1000), None, "cut");
        assert_eq!(gunzipped(b"{}", 1000), None);
        assert_eq!(gunzipped(b"", 1000), None);
    }
}
