//! What layers for lazy pulling have after their content: eStargz (containerd/stargz-snapshotter, docs/estargz.md) and
//! zstd:chunked (containers/storage, docs/containers-storage-zstd-chunked.md).
//!
//! Readers that do not know these formats, and all readers if the manifest has no annotation about them, ignore it.

use std::io::{self, BufRead, BufReader, Read};

use super::{invalid, retry};

/// The magic numbers of skippable frames of zstd (RFC 8878, section 3.1.2), without their last four bits.
const SKIPPABLE: u32 = 0x184D_2A50;
/// The end of the last frame of zstd:chunked.
const CHUNKED_END: &[u8; 8] = b"GnUlInUx";
/// The end of the extra field of the last member of eStargz, after the offset of the table in 16 hexadecimal digits.
const STARGZ_END: &[u8; 6] = b"STARGZ";

/// Whether the extra field of a gzip header is that of the footer of eStargz: in a subfield `SG`, or alone in older files.
pub(super) fn is_footer(extra: &[u8]) -> bool {
    let text = extra.strip_prefix(b"SG\x16\0").unwrap_or(extra);
    let offset = text.strip_suffix(STARGZ_END);
    offset.is_some_and(|offset| offset.len() == 16 && offset.iter().all(u8::is_ascii_hexdigit))
}

/// Reads the skippable frames of zstd:chunked, to the end of the layer.
///
/// # Errors
/// Something else follows, the last frame is not that of zstd:chunked, or the layer cannot be read.
pub(super) fn skip_frames<R: Read>(layer: &mut PeekReader<R>) -> io::Result<()> {
    let mut end = Vec::new();
    while layer.is_skippable()? {
        let mut header = [0; 8];
        layer.read_exact(&mut header)?;
        let [_, _, _, _, length @ ..] = header;
        let length = u64::from(u32::from_le_bytes(length));
        let kept = length.min(CHUNKED_END.len() as u64);
        end.clear();
        let skipped = io::copy(&mut layer.by_ref().take(length - kept), &mut io::sink())?;
        layer.by_ref().take(kept).read_to_end(&mut end)?;
        if skipped + end.len() as u64 != length {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    match end == CHUNKED_END && retry(|| layer.fill_buf().map(<[u8]>::is_empty))? {
        true => Ok(()),
        false => Err(invalid("the layer has skippable frames of zstd that are not those of zstd:chunked")),
    }
}

/// A reader whose next bytes can be looked at.
pub(super) struct PeekReader<R: Read> {
    ahead: Vec<u8>,
    rest: BufReader<R>,
}

impl<R: Read> PeekReader<R> {
    pub(super) fn new(rest: BufReader<R>) -> Self {
        Self { ahead: Vec::new(), rest }
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
            return self.rest.read(out);
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
        match self.ahead.is_empty() {
            true => self.rest.consume(count),
            false => drop(self.ahead.drain(..count)),
        }
    }
}
