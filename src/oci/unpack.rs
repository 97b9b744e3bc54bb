//! Layers as runtimes unpack them: what a compressed layer holds, as far as its digest.

use std::io::{self, BufRead, BufReader, Read};

use flate2::bufread::MultiGzDecoder;
use ruzstd::decoding::StreamingDecoder;
use ruzstd::decoding::errors::{FrameDecoderError, ReadFrameHeaderError};

use super::digest::{Algorithm, Digest, Hasher};

/// The most bytes that one layer may unpack to.
pub const MAX_UNPACKED: u64 = 64 * 1024 * 1024 * 1024;
/// The largest zstd window that is allocated, in bytes: that of `zstd -19`, and what decoders take by default.
const MAX_WINDOW: u64 = 8 * 1024 * 1024;
/// How much is unpacked at once, in bytes.
const PIECE: usize = 128 * 1024;

/// The digest of a layer's unpacked content: its `diff_id` (image-spec, config.md, "Layer DiffID"). Reads gzip of
/// several members, zstd of several frames, and plain tars, all to the end.
///
/// # Errors
/// When the layer is damaged or of another compression, ends early, or unpacks to more than `limit` bytes.
pub fn diff_id(layer: impl Read, algorithm: Algorithm, limit: u64) -> io::Result<Digest> {
    let mut layer = BufReader::with_capacity(PIECE, layer);
    let mut sink = Sink { hasher: Hasher::new(algorithm), left: limit };
    match layer.fill_buf()? {
        [0x1f, 0x8b, ..] => sink.take_all(MultiGzDecoder::new(layer))?,
        start if is_zstd(start) => sink.take_frames(layer)?,
        _ => sink.take_all(layer)?,
    }
    Ok(sink.hasher.finish())
}

/// A frame, or a skippable frame (RFC 8878, sections 3.1.1 and 3.1.2).
fn is_zstd(start: &[u8]) -> bool {
    matches!(start, [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

/// What unpacked bytes go into.
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

    fn take_frames(&mut self, mut layer: impl BufRead) -> io::Result<()> {
        while !layer.fill_buf()?.is_empty() {
            match StreamingDecoder::new_with_max_window_size(&mut layer, MAX_WINDOW) {
                Ok(frame) => self.take_all(frame)?,
                Err(FrameDecoderError::ReadFrameHeaderError(ReadFrameHeaderError::SkipFrame { length, .. })) => {
                    let length = u64::from(length);
                    if io::copy(&mut (&mut layer).take(length), &mut io::sink())? < length {
                        return Err(io::ErrorKind::UnexpectedEof.into());
                    }
                }
                Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error)),
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use flate2::Compression;
    use flate2::write::GzEncoder;
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        compress_to_vec(bytes, CompressionLevel::Fastest)
    }

    fn skippable(bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).unwrap().to_le_bytes();
        [&[0x5a, 0x2a, 0x4d, 0x18][..], &length, bytes].concat()
    }

    #[test]
    fn every_form_of_a_layer_has_the_digest_of_what_it_unpacks_to() {
        let (one, two) = (vec![7; 300_000], b"the second part".repeat(1000));
        let both = [&one[..], &two].concat();
        let wanted = Digest::sha256(&both);
        for (form, layer) in [
            ("plain", both.clone()),
            ("gzip", gzip(&both)),
            ("gzip of two members", [gzip(&one), gzip(&two)].concat()),
            ("zstd", zstd(&both)),
            ("zstd of two frames", [zstd(&one), zstd(&two)].concat()),
            (
                "zstd:chunked",
                [skippable(b"toc"), zstd(&one), skippable(&[0; 9000]), zstd(&two), skippable(b"")].concat(),
            ),
        ] {
            let found = diff_id(&layer[..], Algorithm::Sha256, MAX_UNPACKED);
            assert_eq!(found.unwrap(), wanted, "{form}");
            assert!(diff_id(&layer[..], Algorithm::Sha256, 1000).is_err(), "{form}: a limit holds");
        }
        assert_eq!(diff_id(&b""[..], Algorithm::Sha256, 1).unwrap(), Digest::sha256(b""));
    }

    /// A layer that a reader could take for longer or shorter proves nothing.
    #[test]
    fn damaged_layers_have_no_digest() {
        let content = b"content".repeat(5000);
        for (damage, layer) in [
            ("gzip that ends early", gzip(&content)[..40].to_vec()),
            ("gzip with something after it", [gzip(&content), b"after it".to_vec()].concat()),
            ("zstd that ends early", zstd(&content)[..20].to_vec()),
            ("zstd with something after it", [zstd(&content), b"after it".to_vec()].concat()),
            ("a skippable frame that ends early", skippable(b"12345")[..10].to_vec()),
        ] {
            assert!(diff_id(&layer[..], Algorithm::Sha256, MAX_UNPACKED).is_err(), "{damage}");
        }
    }
}
