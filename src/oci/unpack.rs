//! Unpacks layers as container runtimes do, to compute the digest of their uncompressed content.

use std::io::{self, BufRead, BufReader, Read};
use std::mem;

use flate2::bufread::GzDecoder;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

use super::digest::{Algorithm, Digest, Hasher};
use super::sniff;

mod lazy;

use lazy::PeekReader;

/// The maximum unpacked size of a layer, in bytes.
const MAX_UNPACKED: u64 = 64 * 1024 * 1024 * 1024;
/// How many bytes each byte of a layer may unpack to, beyond [`FREE_UNPACKED`]. File systems stay far below this;
/// decompression bombs reach a thousand.
const MAX_RATIO: u64 = 100;
/// The number of bytes that any layer may unpack to, whatever its size.
const FREE_UNPACKED: u64 = 64 * 1024 * 1024;
/// The number of bytes used to detect the compression.
const FIRST: usize = sniff::SNIFF_LENGTH;
/// The maximum zstd window that is allocated, in bytes: that of podman's zstd:chunked. `zstd -19` has 8 MiB.
const MAX_WINDOW: u64 = 32 * 1024 * 1024;
/// The size of the unpack buffer, in bytes.
const PIECE: usize = 128 * 1024;

/// How many bytes a layer of this size may unpack to before unpacking is aborted.
pub fn limit(size: u64) -> u64 {
    size.saturating_mul(MAX_RATIO).saturating_add(FREE_UNPACKED).min(MAX_UNPACKED)
}

/// Computes the digest of a layer's uncompressed content, its `diff_id` (image-spec, config.md, "Layer DiffID"), by the
/// rules of [`UnpackedLayer`].
///
/// # Errors
/// Those of [`UnpackedLayer::new`] and of reading it.
pub fn diff_id(layer: impl Read, algorithm: Algorithm, limit: u64) -> io::Result<Digest> {
    UnpackedLayer::new(layer, algorithm, limit)?.finish()
}

/// The uncompressed content of a layer, hashed while it is read.
///
/// Supports gzip with several members, zstd with several frames, and uncompressed tars, each read to the end.
///
/// Layers that readers interpret differently cannot be read to the end: a compressed layer that is also an uncompressed
/// tar, and layers with zstd skippable frames or gzip extra fields, in which podman may see an uncompressed tar. Those at
/// the end of layers for lazy pulling are skipped, eStargz and zstd:chunked: no reader starts there, and none looks for a
/// table of contents unless the manifest tells it to ([`is_read_lazily`](super::layer_types::is_read_lazily)).
pub struct UnpackedLayer<R: Read> {
    state: UnpackState<Packed<R>>,
    hasher: Hasher,
    left: u64,
}

/// The layer from its first byte, which has been inspected.
type Packed<R> = PeekReader<io::Chain<io::Cursor<Vec<u8>>, R>>;

/// What is being read.
enum UnpackState<B: Read> {
    Plain(B),
    /// A gzip member, and whether nothing was read from it so far.
    Member(Box<GzDecoder<B>>, bool),
    Frame(Box<StreamingDecoder<B, FrameDecoder>>),
    /// Between two gzip members.
    Members(B),
    /// Between two zstd frames, and whether there was one.
    Frames(B, bool),
    /// Nothing more: the content is complete.
    Complete,
    /// An error was returned. There is no digest.
    Failed,
}

impl<R: Read> UnpackedLayer<R> {
    /// Detects the compression. At most `limit` bytes can be read; see [`limit`].
    ///
    /// # Errors
    /// The layer is both compressed and an uncompressed tar, or compressed in an unsupported format, or cannot be read.
    pub fn new(mut layer: R, algorithm: Algorithm, limit: u64) -> io::Result<Self> {
        let mut first = Vec::with_capacity(FIRST);
        layer.by_ref().take(FIRST as u64).read_to_end(&mut first)?;
        let format = sniff::looks_like_archive(&first);
        let is_packed = !matches!(format, None | Some("tar"));
        if is_packed && sniff::starts_with_header(&first) {
            return Err(invalid("the layer is both compressed and an uncompressed tar"));
        }
        let layer = PeekReader::new(BufReader::with_capacity(PIECE, io::Cursor::new(first).chain(layer)));
        let state = match format {
            Some("gzip") => UnpackState::Members(layer),
            Some("zstd") => UnpackState::Frames(layer, false),
            None | Some("tar") => UnpackState::Plain(layer),
            Some(other) => return Err(invalid(&format!("{other} is not supported"))),
        };
        Ok(Self { state, hasher: Hasher::new(algorithm), left: limit })
    }

    /// Reads what is left, and returns the digest of the whole content.
    ///
    /// # Errors
    /// The layer is damaged, ends early, is interpreted differently by different readers, or unpacks to too many bytes;
    /// also if reading it has failed before.
    pub fn finish(mut self) -> io::Result<Digest> {
        let mut piece = vec![0; PIECE];
        loop {
            match self.read(&mut piece) {
                Ok(0) => return Ok(self.hasher.finish()),
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// Reads some bytes in the current state, and returns the next state. Zero bytes: ask again in the next state.
    fn step(state: UnpackState<Packed<R>>, out: &mut [u8]) -> io::Result<(usize, UnpackState<Packed<R>>)> {
        Ok(match state {
            UnpackState::Plain(mut layer) => match retry(|| layer.read(out))? {
                0 => (0, UnpackState::Complete),
                read => (read, UnpackState::Plain(layer)),
            },
            // Members follow each other (RFC 1952, section 2.2).
            UnpackState::Members(mut layer) => match retry(|| layer.fill_buf().map(<[u8]>::is_empty))? {
                true => (0, UnpackState::Complete),
                false => (0, UnpackState::Member(Box::new(GzDecoder::new(layer)), true)),
            },
            UnpackState::Member(mut member, is_empty) => match retry(|| member.read(out))? {
                0 => (0, after_member(*member, is_empty)?),
                read => (read, UnpackState::Member(member, false)),
            },
            // Frames follow each other (RFC 8878, section 3.1). The decoder rejects skippable frames.
            UnpackState::Frames(mut layer, is_content) => {
                if retry(|| layer.fill_buf().map(<[u8]>::is_empty))? {
                    return Ok((0, UnpackState::Complete));
                }
                if is_content && retry(|| layer.is_skippable())? {
                    lazy::skip_frames(&mut layer)?;
                    return Ok((0, UnpackState::Complete));
                }
                let frame = StreamingDecoder::new_with_max_window_size(layer, MAX_WINDOW);
                (0, UnpackState::Frame(Box::new(frame.map_err(|error| invalid(&error.to_string()))?)))
            }
            UnpackState::Frame(mut frame) => match retry(|| frame.read(out))? {
                0 => (0, UnpackState::Frames(frame.into_inner(), true)),
                read => (read, UnpackState::Frame(frame)),
            },
            UnpackState::Complete => (0, UnpackState::Complete),
            UnpackState::Failed => return Err(invalid("the layer could not be read before")),
        })
    }
}

impl<R: Read> Read for UnpackedLayer<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if out.is_empty() {
            return Ok(0);
        }
        loop {
            let (read, next) = Self::step(mem::replace(&mut self.state, UnpackState::Failed), out)?;
            let Some(left) = self.left.checked_sub(read as u64) else {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the layer unpacks to too many bytes"));
            };
            self.left = left;
            self.hasher.update(&out[..read]);
            let is_complete = matches!(next, UnpackState::Complete);
            self.state = next;
            if read > 0 || is_complete {
                return Ok(read);
            }
        }
    }
}

/// What follows a gzip member that was read to its end.
fn after_member<B: BufRead>(member: GzDecoder<B>, is_empty: bool) -> io::Result<UnpackState<B>> {
    let Some(header) = member.header() else { return Err(invalid("the layer has a gzip member without a header")) };
    let is_footer = is_empty && header.extra().is_some_and(lazy::is_footer);
    let has_extra = header.extra().is_some();
    let mut layer = member.into_inner();
    match has_extra {
        false => Ok(UnpackState::Members(layer)),
        true if is_footer && retry(|| layer.fill_buf().map(<[u8]>::is_empty))? => Ok(UnpackState::Complete),
        true => Err(invalid("the layer has extra fields in a gzip header")),
    }
}

fn retry<T>(mut read: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match read() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

fn invalid(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use flate2::{Compression, GzBuilder};
    use ruzstd::encoding::{CompressionLevel, compress_to_vec};

    use super::*;
    use crate::sample::image::{Layer, Tree};

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        Layer::gzip_of(bytes).bytes.to_vec()
    }

    fn zstd(bytes: &[u8]) -> Vec<u8> {
        compress_to_vec(bytes, CompressionLevel::Fastest)
    }

    const STARGZ: &[u8] = b"SG\x16\x0000000000000012abSTARGZ";

    fn skippable(bytes: &[u8]) -> Vec<u8> {
        let length = u32::try_from(bytes.len()).unwrap().to_le_bytes();
        [&[0x5a, 0x2a, 0x4d, 0x18][..], &length, bytes].concat()
    }

    /// A gzip member with an extra field.
    fn footer(extra: &[u8], content: &[u8]) -> Vec<u8> {
        let mut member = GzBuilder::new().extra(extra).write(Vec::new(), Compression::fast());
        member.write_all(content).unwrap();
        member.finish().unwrap()
    }

    /// The last frame of zstd:chunked.
    fn chunked_end() -> Vec<u8> {
        skippable(&[&[0; 56][..], b"GnUlInUx"].concat())
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
            ("eStargz", [gzip(&one), gzip(&two), footer(STARGZ, b"")].concat()),
            ("stargz", [gzip(&both), footer(b"00000000000012abSTARGZ", b"")].concat()),
            ("zstd:chunked", [zstd(&one), zstd(&two), skippable(b"toc"), skippable(b""), chunked_end()].concat()),
        ] {
            let found = diff_id(&layer[..], Algorithm::Sha256, MAX_UNPACKED);
            assert_eq!(found.unwrap(), wanted, "{form}");
            assert!(diff_id(&layer[..], Algorithm::Sha256, 1000).is_err(), "{form}: the limit applies");
        }
        assert_eq!((limit(0), limit(10), limit(u64::MAX)), (FREE_UNPACKED, FREE_UNPACKED + 1000, MAX_UNPACKED));
        assert_eq!(diff_id(&b""[..], Algorithm::Sha256, 1).unwrap(), Digest::sha256(b""));
    }

    /// GNU tar looks for a header further on only in what it does not unpack.
    #[test]
    fn a_block_that_is_a_header_by_chance_is_content() {
        let content = [&[7; 512 - 15][..], &Tree::new().file("x", "y").to_tar()].concat();
        let mut stored = GzBuilder::new().write(Vec::new(), Compression::none());
        io::Write::write_all(&mut stored, &content).unwrap();
        let layer = stored.finish().unwrap();
        assert!(layer[512..].starts_with(b"x\0"), "a header at the second block");
        assert_eq!(diff_id(&layer[..], Algorithm::Sha256, MAX_UNPACKED).unwrap(), Digest::sha256(&content));
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
            ("a footer of eStargz with content", [gzip(&content), footer(STARGZ, b"more")].concat()),
            ("a footer of eStargz before content", [footer(STARGZ, b""), gzip(&content)].concat()),
            ("content after the footer of eStargz", [gzip(&content), footer(STARGZ, b""), gzip(b"x")].concat()),
            ("a footer with another end", [gzip(&content), footer(b"SG\x16\x0000000000000012abSTARGX", b"")].concat()),
            ("zstd:chunked before content", [chunked_end(), zstd(&content)].concat()),
            ("content after zstd:chunked", [zstd(&content), chunked_end(), zstd(&content)].concat()),
            ("zstd:chunked with another end", [zstd(&content), chunked_end(), skippable(b"toc")].concat()),
            ("zstd:chunked that ends early", {
                let whole = [zstd(&content), skippable(b"toc"), chunked_end()].concat();
                whole[..whole.len() - 1].to_vec()
            }),
            ("zstd:chunked with trailing data", [zstd(&content), chunked_end(), b"x".to_vec()].concat()),
            ("bzip2", b"BZh91AY&SY".repeat(100)),
            ("xz", b"\xfd7zXZ\0".repeat(100)),
        ] {
            assert!(diff_id(&layer[..], Algorithm::Sha256, MAX_UNPACKED).is_err(), "{damage}");
        }
    }
}
