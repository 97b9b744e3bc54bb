//! Content that was packed on the way although nobody asked for that.
//!
//! `Content-Encoding` decides nothing: web servers put `x-gzip` on layers, which are gzip themselves, and object stores
//! give back `aws-chunked`, which described the upload. The bytes are right as they came, or unpacked, or not at all, and
//! their digest says which.

use std::io::Read;

use bytes::Bytes;
use flate2::read::MultiGzDecoder;

/// Whether the bytes begin as gzip does (RFC 1952 §2.3.1).
pub(super) fn is_gzip(bytes: &[u8]) -> bool {
    bytes.starts_with(&[0x1f, 0x8b])
}

/// What is in a gzip file, at most `limit` bytes of it; `None` when it is none, or holds more.
pub(super) fn gunzipped(bytes: &[u8], limit: usize) -> Option<Bytes> {
    if !is_gzip(bytes) {
        return None;
    }
    let mut plain = Vec::new();
    MultiGzDecoder::new(bytes).take(limit as u64 + 1).read_to_end(&mut plain).ok()?;
    (plain.len() <= limit).then(|| plain.into())
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;

    use super::*;

    #[test]
    fn unpacked_within_the_limit() {
        let mut packed = GzEncoder::new(Vec::new(), Compression::default());
        packed.write_all(&[b' '; 1000]).unwrap();
        let packed = packed.finish().unwrap();
        assert_eq!(gunzipped(&packed, 1000).unwrap(), [b' '; 1000].as_slice());
        assert_eq!(gunzipped(&packed, 999), None, "a bomb");
        assert_eq!(gunzipped(&packed[..packed.len() - 1], 1000), None, "cut");
        assert_eq!(gunzipped(b"{}", 1000), None);
        assert_eq!(gunzipped(b"", 1000), None);
    }
}
