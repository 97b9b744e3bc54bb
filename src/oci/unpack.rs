//! Unpacks layers as container runtimes do, to compute the digest of their uncompressed content.

use std::io::{self, BufRead, BufReader, Read};
use std::mem;

use flate2::bufread::GzDecoder;
use ruzstd::decoding::errors::FrameDecoderError;
use ruzstd::decoding::{FrameDecoder, StreamingDecoder};

use super::digest::{Algorithm, Digest, Hasher};
use super::sniff;

mod lazy;

use lazy::PeekReader;
pub use lazy::{SeeTable, TableFooter};

/// The maximum unpacked size of a layer, in bytes.
const MAX_UNPACKED: u64 = 64 * 1024 * 1024 * 1024;
/// How many bytes each byte of a layer may unpack to, beyond [`FREE_UNPACKED`]. File systems stay far below this;
/// decompression bombs reach a thousand.
const MAX_RATIO: u64 = 100;
/// The number of bytes that any layer may unpack to, whatever its size.
const FREE_UNPACKED: u64 = 64 * 1024 * 1024;
/// The number of bytes used to detect the compression.
const FIRST: usize = sniff::SNIFF_LENGTH;
/// The maximum zstd window that is usually allocated, in bytes: that of podman's zstd:chunked. `zstd -19` has 8 MiB.
pub const USUAL_WINDOW: u64 = 32 * 1024 * 1024;
/// The maximum zstd window that is ever allocated, in bytes: that of `zstd --ultra -22` and `zstd --long`, and the
/// largest that `zstd` itself reads without an option. containerd, docker and podman read up to 512 MiB, the default of
/// klauspost/compress.
pub const LARGE_WINDOW: u64 = 128 * 1024 * 1024;
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
/// tar, and layers with zstd skippable frames or gzip extra fields, in which podman may see an uncompressed tar. Those
/// at the end of layers for lazy pulling are skipped, eStargz and zstd:chunked: no reader starts there, and none looks
/// for a table of contents unless the manifest tells it to ([`is_read_lazily`](super::layer_types::is_read_lazily)).
pub struct UnpackedLayer<R: Read> {
    state: UnpackState<Packed<R>>,
    hasher: Hasher,
    left: u64,
    max_window: u64,
    needs_window: bool,
}

/// The layer from its first byte, which has been inspected.
type Packed<R> = PeekReader<io::Chain<io::Cursor<Vec<u8>>, R>>;

/// What is being read.
enum UnpackState<B: Read> {
    Plain(B),
    /// A gzip member, and what was read of it so far.
    Member(Box<GzDecoder<B>>, MemberSpan),
    Frame(Box<StreamingDecoder<B, FrameDecoder>>),
    /// Between two gzip members, and the one before.
    Members(B, MemberSpan),
    /// Between two zstd frames, and whether there was one.
    Frames(B, bool),
    /// The content is complete; the skippable frames of zstd:chunked follow.
    Tables(B),
    /// Nothing more: the content is complete. With the footer of eStargz.
    Complete(Option<TableFooter>),
    /// An error was returned. There is no digest.
    Failed,
}

/// A gzip member.
#[derive(Clone, Copy, Default)]
struct MemberSpan {
    /// Where it begins in the layer.
    at: u64,
    /// How many bytes it unpacked to so far.
    length: u64,
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
            Some("gzip") => UnpackState::Members(layer, MemberSpan::default()),
            Some("zstd") => UnpackState::Frames(layer, false),
            None | Some("tar") => UnpackState::Plain(layer),
            Some(other) => return Err(invalid(&format!("{other} is not supported"))),
        };
        let hasher = Hasher::new(algorithm);
        Ok(Self { state, hasher, left: limit, max_window: USUAL_WINDOW, needs_window: false })
    }

    /// The same layer, with zstd windows up to this size, in bytes, instead of [`USUAL_WINDOW`].
    pub fn with_max_window(self, max_window: u64) -> Self {
        Self { max_window, ..self }
    }

    /// Whether reading failed because a zstd frame needs a larger window, which [`LARGE_WINDOW`] would allow.
    pub fn needs_window(&self) -> bool {
        self.needs_window
    }

    /// Reads what is left, and returns the digest of the whole content.
    ///
    /// # Errors
    /// The layer is damaged, ends early, is interpreted differently by different readers, or unpacks to too many bytes;
    /// also if reading it has failed before.
    pub fn finish(self) -> io::Result<Digest> {
        self.finish_with(None).map(|(digest, _)| digest)
    }

    /// The same, also with the footer of a layer for lazy pulling. `see` gets the unpacked table of zstd:chunked.
    ///
    /// # Errors
    /// Those of [`UnpackedLayer::finish`].
    pub fn finish_with(mut self, see: Option<&mut SeeTable<'_>>) -> io::Result<(Digest, Option<TableFooter>)> {
        let mut piece = vec![0; PIECE];
        while self.read(&mut piece)? > 0 {}
        let footer = match self.state {
            UnpackState::Tables(mut layer) => Some(lazy::read_frames(&mut layer, see)?),
            UnpackState::Complete(footer) => footer,
            _ => None,
        };
        Ok((self.hasher.finish(), footer))
    }

    /// Reads some bytes in the current state, and returns the next state. Zero bytes: ask again in the next state.
    fn step(
        state: UnpackState<Packed<R>>,
        max_window: u64,
        out: &mut [u8],
    ) -> io::Result<(usize, UnpackState<Packed<R>>)> {
        Ok(match state {
            UnpackState::Plain(mut layer) => match retry(|| layer.read(out))? {
                0 => (0, UnpackState::Complete(None)),
                read => (read, UnpackState::Plain(layer)),
            },
            // Members follow each other (RFC 1952, section 2.2).
            UnpackState::Members(mut layer, before) => match retry(|| layer.fill_buf().map(<[u8]>::is_empty))? {
                true => (0, UnpackState::Complete(None)),
                false => {
                    let span = MemberSpan { at: layer.position(), length: 0 };
                    member(Box::new(GzDecoder::new(layer)), span, before, out)?
                }
            },
            UnpackState::Member(reader, span) => member(reader, span, span, out)?,
            // Frames follow each other (RFC 8878, section 3.1). The decoder rejects skippable frames.
            UnpackState::Frames(mut layer, is_content) => {
                if retry(|| layer.fill_buf().map(<[u8]>::is_empty))? {
                    return Ok((0, UnpackState::Complete(None)));
                }
                if is_content && retry(|| layer.is_skippable())? {
                    return Ok((0, UnpackState::Tables(layer)));
                }
                let frame = StreamingDecoder::new_with_max_window_size(layer, max_window);
                (0, UnpackState::Frame(Box::new(frame.map_err(|error| bad_frame(&error))?)))
            }
            UnpackState::Frame(mut frame) => match retry(|| frame.read(out))? {
                0 => (0, UnpackState::Frames(frame.into_inner(), true)),
                read => (read, UnpackState::Frame(frame)),
            },
            state @ (UnpackState::Tables(_) | UnpackState::Complete(_)) => (0, state),
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
            let state = mem::replace(&mut self.state, UnpackState::Failed);
            let (read, next) = Self::step(state, self.max_window, out).inspect_err(|error| {
                self.needs_window |= error.kind() == io::ErrorKind::OutOfMemory;
            })?;
            let Some(left) = self.left.checked_sub(read as u64) else {
                return Err(io::Error::new(io::ErrorKind::FileTooLarge, "the layer unpacks to too many bytes"));
            };
            self.left = left;
            self.hasher.update(&out[..read]);
            let is_complete = matches!(next, UnpackState::Complete(_) | UnpackState::Tables(_));
            self.state = next;
            if read > 0 || is_complete {
                return Ok(read);
            }
        }
    }
}

/// Reads some bytes of a gzip member, or ends it. `before` is the last member that has content.
fn member<R: Read>(
    mut reader: Box<GzDecoder<Packed<R>>>,
    span: MemberSpan,
    before: MemberSpan,
    out: &mut [u8],
) -> io::Result<(usize, UnpackState<Packed<R>>)> {
    let read = retry(|| reader.read(out))?;
    if read > 0 {
        let span = MemberSpan { length: span.length + read as u64, ..span };
        return Ok((read, UnpackState::Member(reader, span)));
    }
    let Some(header) = reader.header() else { return Err(invalid("the layer has a gzip member without a header")) };
    let has_extra = header.extra().is_some();
    let footer = header.extra().filter(|_| span.length == 0).and_then(lazy::offset_in_footer);
    let mut layer = reader.into_inner();
    if !has_extra {
        return Ok((0, UnpackState::Members(layer, before)));
    }
    match footer {
        Some(named_at) if retry(|| layer.fill_buf().map(<[u8]>::is_empty))? => {
            let MemberSpan { at, length } = before;
            let footer = TableFooter { named_at, begins_at: at, length, ..TableFooter::default() };
            Ok((0, UnpackState::Complete(Some(footer))))
        }
        _ => Err(invalid("the layer has extra fields in a gzip header")),
    }
}

/// A window that is too large is marked by the kind of the error.
fn bad_frame(error: &FrameDecoderError) -> io::Error {
    match error {
        FrameDecoderError::WindowSizeTooBig { requested, max } if *requested <= LARGE_WINDOW && *max < LARGE_WINDOW => {
            io::Error::new(io::ErrorKind::OutOfMemory, error.to_string())
        }
        _ => invalid(&error.to_string()),
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
        skippable(&[&[0; 56][..], b"GNUlInUx"].concat())
    }

    /// That of stargz-snapshotter.
    fn stargz_end() -> Vec<u8> {
        skippable(&[&[0; 32][..], b"GnUlInUx"].concat())
    }

    /// A frame of zstd with three bytes, uncompressed, for a window of this power of two.
    fn with_window(power: u8) -> Vec<u8> {
        [&[0x28, 0xb5, 0x2f, 0xfd, 0, (power - 10) << 3, 3 << 3 | 1, 0, 0][..], b"abc"].concat()
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
            ("zstd:chunked of stargz-snapshotter", [zstd(&both), skippable(b"toc"), stargz_end()].concat()),
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

    /// As much as `zstd` reads without an option. More is read only if the caller allows it.
    #[test]
    fn windows_are_limited() {
        for (power, usual, large) in
            [(23, true, true), (25, true, true), (26, false, true), (27, false, true), (28, false, false)]
        {
            let layer = [with_window(power), with_window(10)].concat();
            for (window, is_read) in [(USUAL_WINDOW, usual), (LARGE_WINDOW, large)] {
                let unpacked = UnpackedLayer::new(&layer[..], Algorithm::Sha256, MAX_UNPACKED).unwrap();
                let mut unpacked = unpacked.with_max_window(window);
                let mut content = Vec::new();
                assert_eq!(unpacked.read_to_end(&mut content).is_ok(), is_read, "{power} {window}");
                assert_eq!(content.len(), if is_read { 6 } else { 0 }, "{power} {window}");
                assert_eq!(unpacked.needs_window(), large && !is_read, "{power} {window}");
                assert_eq!(unpacked.finish().is_ok(), is_read, "{power} {window}");
            }
        }
    }

    #[test]
    fn the_place_of_a_table_is_known() {
        let (content, table) = (b"content".repeat(100), b"the table".repeat(10));
        let finish = |layer: &[u8]| {
            let mut seen = Vec::new();
            let unpacked = UnpackedLayer::new(layer, Algorithm::Sha256, MAX_UNPACKED).unwrap();
            let mut see = |table: &mut dyn Read| drop(table.read_to_end(&mut seen));
            let (digest, footer) = unpacked.finish_with(Some(&mut see)).unwrap();
            (digest, footer.map(|footer| (footer.named_at, footer.begins_at, footer.length, footer.packed)), seen)
        };
        let members = [gzip(&content), gzip(&table), gzip(b""), footer(STARGZ, b"")].concat();
        let place = (0x12ab, gzip(&content).len() as u64, table.len() as u64, None);
        let whole = Digest::sha256(&[&content[..], &table].concat());
        assert_eq!(finish(&members), (whole, Some(place), Vec::new()));
        assert_eq!(finish(&gzip(&content)).1, None);
        let (frame, packed) = (zstd(&content), zstd(&table));
        let end = skippable(&[&9_u64.to_le_bytes()[..], &[0; 24], b"GnUlInUx"].concat());
        let layer = [&frame[..], &skippable(&packed), &skippable(b"split"), &end].concat();
        let place = (9, frame.len() as u64 + 8, packed.len() as u64, Some(Digest::sha256(&packed)));
        assert_eq!(finish(&layer), (Digest::sha256(&content), Some(place), table.clone()));
        // stargz-snapshotter reads the last 40 bytes, whatever is before them.
        let long = skippable(&[&[7; 24][..], &9_u64.to_le_bytes(), &[0; 24], b"GnUlInUx"].concat());
        let layer = [&frame[..], &skippable(&packed), &skippable(b"split"), &long].concat();
        assert_eq!(finish(&layer), (Digest::sha256(&content), Some(place), table.clone()));
        let mixed = [&packed[..], &packed].concat();
        let layer = [&frame[..], &skippable(&mixed), &end].concat();
        let (_, footer, seen) = finish(&layer);
        assert_eq!((footer.unwrap().3, seen), (Some(Digest::sha256(&mixed)), table), "only the first frame");
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
            ("zstd:chunked with a short end", [zstd(&content), skippable(b"GNUlInUx")].concat()),
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
