//! What layers for lazy pulling have after their content: eStargz (containerd/stargz-snapshotter, docs/estargz.md) and
//! zstd:chunked (containers/storage, docs/containers-storage-zstd-chunked.md).
//!
//! Readers that do not know these formats, and all readers if the manifest has no annotation about them, ignore it.

use std::io::{self, BufRead, BufReader, Read, Take};

use ruzstd::decoding::StreamingDecoder;

use super::super::digest::{Algorithm, Digest, Hasher};
use super::{USUAL_WINDOW, invalid, limit, retry};

/// The magic numbers of skippable frames of zstd (RFC 8878, section 3.1.2), without their last four bits.
const SKIPPABLE: u32 = 0x184D_2A50;
/// The ends of the last frame of zstd:chunked, as containers/storage and stargz-snapshotter write them, and how many
/// bytes at the end of a layer these take for the whole frame.
const CHUNKED_ENDS: [(&[u8; 8], usize); 2] = [(b"GNUlInUx", MAX_FOOTER), (b"GnUlInUx", 40)];
/// How much of the last frame of zstd:chunked is kept.
const MAX_FOOTER: usize = 64;
/// The end of the extra field of the last member of eStargz, after the offset of the table in 16 hexadecimal digits.
const STARGZ_END: &[u8; 6] = b"STARGZ";

/// Gets the unpacked table of contents of a layer.
pub type SeeTable<'a> = dyn FnMut(&mut dyn Read) + 'a;

/// Where the end of a layer for lazy pulling says that its table of contents is, and where it is.
#[derive(Clone, Copy, Debug, Default)]
pub struct TableFooter {
    /// The offset that the footer names.
    pub named_at: u64,
    /// The length that the footer of zstd:chunked names, in bytes.
    pub named_length: Option<u64>,
    /// Where the last gzip member with content begins, or the content of the first skippable frame.
    pub begins_at: u64,
    /// How many bytes that member unpacks to, or how long that content is.
    pub length: u64,
    /// The digest of that content, if the table was read.
    pub packed: Option<Digest>,
    /// Whether something follows the table in its frame.
    pub has_more: bool,
}

/// The offset of the table in the extra field of a gzip header, if that is the footer of eStargz: in a subfield `SG`,
/// or alone in older files.
pub(super) fn offset_in_footer(extra: &[u8]) -> Option<u64> {
    let text = extra.strip_prefix(b"SG\x16\0").unwrap_or(extra);
    let offset = text.strip_suffix(STARGZ_END)?;
    let is_hex = offset.len() == 16 && offset.iter().all(u8::is_ascii_hexdigit);
    u64::from_str_radix(std::str::from_utf8(offset).ok().filter(|_| is_hex)?, 16).ok()
}

/// Reads the skippable frames of zstd:chunked, to the end of the layer. `see` gets what the first one unpacks to: the
/// table of contents.
///
/// # Errors
/// Something else follows, the last frame is not that of zstd:chunked, or the layer cannot be read.
pub(super) fn read_frames<R: Read>(
    layer: &mut PeekReader<R>,
    mut see: Option<&mut SeeTable<'_>>,
) -> io::Result<TableFooter> {
    let (mut table, mut footer) = (None, Vec::new());
    while layer.is_skippable()? {
        let mut header = [0; 8];
        layer.read_exact(&mut header)?;
        let [_, _, _, _, length @ ..] = header;
        let length = u64::from(u32::from_le_bytes(length));
        let begins_at = layer.position();
        let see = see.take();
        let mut content = FrameContent::new(layer.by_ref().take(length), see.is_some());
        if let Some(see) = see {
            unpack_table(&mut content, length, see);
        }
        let has_more = io::copy(&mut content, &mut io::sink())? > 0;
        if content.source.limit() > 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let packed = content.hasher.map(Hasher::finish);
        table.get_or_insert(TableFooter { begins_at, length, packed, has_more, ..TableFooter::default() });
        footer = content.tail;
    }
    let length = CHUNKED_ENDS.iter().find_map(|(end, length)| footer.ends_with(*end).then_some(*length));
    let is_end = length.is_some_and(|length| footer.len() >= length);
    let footer = footer.split_off(footer.len().saturating_sub(length.unwrap_or_default()));
    let mut numbers = footer.as_chunks().0.iter().map(|number| u64::from_le_bytes(*number));
    let (named_at, named_length) = (numbers.next().unwrap_or_default(), numbers.next());
    match table {
        Some(table) if is_end && retry(|| layer.fill_buf().map(<[u8]>::is_empty))? => {
            Ok(TableFooter { named_at, named_length, ..table })
        }
        _ => Err(invalid("the layer has skippable frames of zstd that are not those of zstd:chunked")),
    }
}

/// Unpacks the one frame in which a table is stored. A table that cannot be unpacked is seen as an empty one.
fn unpack_table(content: &mut dyn Read, length: u64, see: &mut SeeTable<'_>) {
    match StreamingDecoder::new_with_max_window_size(content, USUAL_WINDOW) {
        Ok(frame) => see(&mut frame.take(limit(length))),
        Err(_) => see(&mut io::empty()),
    }
}

/// The content of a skippable frame: keeps its end, and computes its digest if it may be the table.
struct FrameContent<R> {
    source: Take<R>,
    hasher: Option<Hasher>,
    tail: Vec<u8>,
}

impl<R: Read> FrameContent<R> {
    fn new(source: Take<R>, is_hashed: bool) -> Self {
        let hasher = is_hashed.then(|| Hasher::new(Algorithm::Sha256));
        Self { source, hasher, tail: Vec::new() }
    }
}

impl<R: Read> Read for FrameContent<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self.source.read(out)?;
        let bytes = &out[..read];
        self.hasher.iter_mut().for_each(|hasher| hasher.update(bytes));
        self.tail.extend_from_slice(&bytes[read.saturating_sub(MAX_FOOTER)..]);
        self.tail.drain(..self.tail.len().saturating_sub(MAX_FOOTER));
        Ok(read)
    }
}

/// A reader whose next bytes can be looked at.
pub(super) struct PeekReader<R: Read> {
    ahead: Vec<u8>,
    rest: BufReader<R>,
    position: u64,
}

impl<R: Read> PeekReader<R> {
    pub(super) fn new(rest: BufReader<R>) -> Self {
        Self { ahead: Vec::new(), rest, position: 0 }
    }

    /// How many bytes were read.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// Whether a skippable frame follows.
    pub(super) fn is_skippable(&mut self) -> io::Result<bool> {
        let mut magic = std::mem::take(&mut self.ahead);
        let missing = 4_usize.saturating_sub(magic.len());
        let read = self.rest.by_ref().take(missing as u64).read_to_end(&mut magic);
        let start = magic.first_chunk().map(|start| u32::from_le_bytes(*start));
        self.ahead = magic;
        read.map(|_| start.is_some_and(|start| start & !0xf == SKIPPABLE))
    }
}

impl<R: Read> Read for PeekReader<R> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        if self.ahead.is_empty() {
            let read = self.rest.read(out)?;
            self.position += read as u64;
            return Ok(read);
        }
        let count = out.len().min(self.ahead.len());
        out[..count].copy_from_slice(&self.ahead[..count]);
        self.consume(count);
        Ok(count)
    }
}

impl<R: Read> BufRead for PeekReader<R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.ahead.is_empty() { self.rest.fill_buf() } else { Ok(&self.ahead) }
    }

    fn consume(&mut self, count: usize) {
        self.position += count as u64;
        match self.ahead.is_empty() {
            true => self.rest.consume(count),
            false => drop(self.ahead.drain(..count)),
        }
    }
}
