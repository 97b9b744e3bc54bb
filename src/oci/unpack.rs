//! Unpacks layers as container runtimes do, to compute the digest of their uncompressed content.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::GzDecoder;
use ruzstd::decoding::StreamingDecoder;

use super::digest::{Algorithm, Digest, Hasher};
use super::sniff;

/// The maximum unpacked size of a layer, in bytes.
const MAX_UNPACKED: u64 = 64 * 1024 * 1024 * 1024;
/// How many bytes each byte of a layer may unpack to, beyond [`FREE_UNPACKED`]. File systems stay far below this;
/// decompression bombs reach a thousand.
const MAX_RATIO: u64 = 100;
/// The number of bytes that any layer may unpack to, whatever its size.
const FREE_UNPACKED: u64 = 64 * 1024 * 1024;
/// The number of bytes used to detect the compression.
const FIRST: usize = sniff::SNIFF_LENGTH;
/// The maximum zstd window that is allocated, in bytes: that of `zstd -19`, and the default limit of decoders.
const MAX_WINDOW: u64 = 8 * 1024 * 1024;
/// The size of the unpack buffer, in bytes.
const PIECE: usize = 128 * 1024;

/// How many bytes a layer of this size may unpack to before unpacking is aborted.
pub fn limit(size: u64) -> u64 {
    size.saturating_mul(MAX_RATIO).saturating_add(FREE_UNPACKED).min(MAX_UNPACKED)
}

/// Computes the digest of a layer's uncompressed content, its `diff_id` (image-spec, config.md, "Layer DiffID").
/// Supports gzip with several members, zstd with several frames, and uncompressed tars, each read to the end.
///
/// Layers that readers interpret differently have no `diff_id` here: a compressed layer that is also an uncompressed
/// tar, and layers with zstd skippable frames or gzip extra fields, in which lazy pullers keep a table of contents and
/// podman may see an uncompressed tar.
///
/// # Errors
/// The layer is damaged, uses another compression, ends early, is interpreted differently by different readers, or
/// unpacks to more than `limit` bytes.
pub fn diff_id(layer: impl Read, algorithm: Algorithm, limit: u64) -> io::Result<Digest> {
    let mut layer = BufReader::with_capacity(PIECE, layer);
    let mut first = Vec::with_capacity(FIRST);
    layer.by_ref().take(FIRST as u64).read_to_end(&mut first)?;
    let mut sink = Sink { hasher: Hasher::new(algorithm), left: limit };
    let format = sniff::looks_like_archive(&first);
    let is_packed = !matches!(format, None | Some("tar"));
    if is_packed && sniff::begins_as_tar(&first) {
        return Err(invalid("the layer is both compressed and an uncompressed tar"));
    }
    let layer = BufReader::with_capacity(PIECE, io::Cursor::new(first).chain(layer));
    match format {
        Some("gzip") => sink.take_members(layer)?,
        Some("zstd") => sink.take_frames(layer)?,
        None | Some("tar") => sink.take_all(layer)?,
        Some(other) => return Err(invalid(&format!("{other} is not supported"))),
    }
    Ok(sink.hasher.finish())
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// Receives the unpacked bytes.
struct Sink {
    hasher: Hasher,
    left: u64,
}

impl Sink {
    fn take_all(&mut self, mut unpacked: impl Read) -> io::Result<()> {
        let mut piece = vec![0; PIECE];
        loop {
            let read = match unpacked.read(&mut piece) {
                Ok(0) => return Ok(()),
                Ok(read) => read,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) => return Err(error),
            };
            let too_much = || io::Error::new(io::ErrorKind::FileTooLarge, "the layer unpacks to too many bytes");
            self.left = self.left.checked_sub(read as u64).ok_or_else(too_much)?;
            self.hasher.update(&piece[..read]);
        }
    }

    /// Reads gzip members in sequence (RFC 1952, section 2.2).
    fn take_members(&mut self, mut layer: impl BufRead) -> io::Result<()> {
        while !layer.fill_buf()?.is_empty() {
            let mut member = GzDecoder::new(&mut layer);
            self.take_all(&mut member)?;
            if member.header().is_none_or(|header| header.extra().is_some()) {
                return Err(invalid("the layer has extra fields in a gzip header"));
            }
        }
        Ok(())
    }

    /// Reads zstd frames in sequence (RFC 8878, section 3.1). The decoder rejects skippable frames.
    fn take_frames(&mut self, mut layer: impl BufRead) -> io::Result<()> {
        while !layer.fill_buf()?.is_empty() {
            let frame = StreamingDecoder::new_with_max_window_size(&mut layer, MAX_WINDOW);
            self.take_all(frame.map_err(|error| invalid(&error.to_string()))?)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use flate2::{Compression, GzBuilder};
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;
    use crate::sample::image::Layer;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        Layer::gzip_of(bytes).bytes.to_vec()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        compress_to_vec(bytes, CompressionLevel::Fastest)
    }

    fn skippable(bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).unwrap().to_le_bytes();
        [&[0x5a, 0x2a, 0x4d, 0x18][..], &length, bytes].concat()
    }

    #[test]
    fn every_encoding_of_a_layer_has_the_digest_of_its_content() {
        let (one, two) = (vec![7; 300_000], b"the second part".repeat(1000));
        let both = [&one[..], &two].concat();
        let wanted = Digest::sha256(&both);
        for (form, layer) in [
            ("plain", both.clone()),
            ("gzip", gzip(&both)),
            ("gzip of two members", [gzip(&one), gzip(&two)].concat()),
            ("zstd", zstd(&both)),
            ("zstd of two frames", [zstd(&one), zstd(&two)].concat()),
        ] {
            let found = diff_id(&layer[..], Algorithm::Sha256, MAX_UNPACKED);
            assert_eq!(found.unwrap(), wanted, "{form}");
            assert!(diff_id(&layer[..], Algorithm::Sha256, 1000).is_err(), "{form}: the limit applies");
        }
        assert_eq!((limit(0), limit(10), limit(u64::MAX)), (FREE_UNPACKED, FREE_UNPACKED + 1000, MAX_UNPACKED));
        assert_eq!(diff_id(&b""[..], Algorithm::Sha256, 1).unwrap(), Digest::sha256(b""));
    }

    /// A layer that readers could truncate or extend differently proves nothing.
    #[test]
    fn damaged_layers_have_no_digest() {
        let content = b"content".repeat(5000);
        for (damage, layer) in [
            ("gzip that ends early", gzip(&content)[..40].to_vec()),
            ("gzip with trailing data", [gzip(&content), b"after it".to_vec()].concat()),
            ("zstd that ends early", zstd(&content)[..20].to_vec()),
            ("zstd with trailing data", [zstd(&content), b"after it".to_vec()].concat()),
            ("zstd after a skippable frame", [skippable(b"toc"), zstd(&content)].concat()),
            ("zstd before a skippable frame", [zstd(&content), skippable(b"toc")].concat()),
            (
                "gzip with an extra field",
                GzBuilder::new().extra(*b"toc").write(Vec::new(), Compression::fast()).finish().unwrap(),
            ),
            ("gzip with an empty member with an extra field", {
                let member = GzBuilder::new().extra(*b"toc").write(Vec::new(), Compression::fast()).finish().unwrap();
                [gzip(&content), member].concat()
            }),
            ("bzip2", b"BZh91AY&SY".repeat(100)),
            ("xz", b"\xfd7zXZ\0".repeat(100)),
        ] {
            assert!(diff_id(&layer[..], Algorithm::Sha256, MAX_UNPACKED).is_err(), "{damage}");
        }
    }
}
