//! What bytes are, whatever their media type says: archives that a container runtime would unpack.

use std::io::Read;

use flate2::read::MultiGzDecoder;
use ruzstd::decoding::StreamingDecoder;

/// How much of a layer [`is_tar_like`] wants, in bytes.
pub const SNIFF_LENGTH: usize = 64 * 1024;

/// A tar block, in bytes (POSIX.1-1988, ustar).
const BLOCK: usize = 512;

/// The largest zstd window that is allocated for a look inside, in bytes.
const MAX_WINDOW: u64 = 8 * 1024 * 1024;

/// Which archive or compression format some content begins as; `None` when it is none that is known.
///
/// `first_bytes` should be at least 512 bytes, or all there is.
pub fn looks_like_archive(first_bytes: &[u8]) -> Option<&'static str> {
    const MAGIC: &[(&[u8], &str)] = &[
        (b"\x1f\x8b", "gzip"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
        (b"BZh", "bzip2"),
        (b"\xfd7zXZ\0", "xz"),
        (b"\x04\x22\x4d\x18", "lz4"),
        (b"PK\x03\x04", "zip"),
        (b"PK\x05\x06", "zip"),
    ];
    let by_magic = MAGIC.iter().find(|(magic, _)| first_bytes.starts_with(magic)).map(|(_, name)| *name);
    by_magic.or_else(|| is_skippable_frame(first_bytes).then_some("zstd")).or_else(|| {
        let block = first_bytes.first_chunk()?;
        (is_tar_header(block) || is_empty_tar(block)).then_some("tar")
    })
}

/// Whether a layer is a tar, compressed or not, or may be one: runtimes unpack such layers whatever their media type.
///
/// `prefix` is the first [`SNIFF_LENGTH`] bytes, or all of it when it is shorter. What cannot be looked into (bzip2, xz,
/// lz4, or a stream that yields too little) counts as a tar, because not knowing is no reason to serve.
pub fn is_tar_like(prefix: &[u8]) -> bool {
    match looks_like_archive(prefix) {
        None | Some("zip") => false,
        Some("gzip") => inflates_to_tar(MultiGzDecoder::new(prefix), prefix),
        Some("zstd") => StreamingDecoder::new_with_max_window_size(prefix, MAX_WINDOW)
            .map_or(true, |decoder| inflates_to_tar(decoder, prefix)),
        Some(_) => true,
    }
}

/// Whether any block of the content is a tar header. Readers differ in how they treat what stands before the first
/// header (GNU tar skips it), so every block counts.
pub fn holds_tar_header(content: &[u8]) -> bool {
    content.as_chunks().0.iter().any(is_tar_header)
}

/// Whether what a decoder yields begins as a tar, or ends too early to tell.
fn inflates_to_tar(decoder: impl Read, prefix: &[u8]) -> bool {
    let mut first = Vec::with_capacity(BLOCK);
    let read = decoder.take(BLOCK as u64).read_to_end(&mut first);
    match first.first_chunk() {
        Some(block) => is_tar_header(block) || is_empty_tar(block),
        // Shorter than a tar block: no tar, if this is really all of it. ruzstd stops after one frame.
        None => read.is_err() || prefix.len() >= SNIFF_LENGTH || looks_like_archive(prefix) == Some("zstd"),
    }
}

/// Zstandard's skippable frames (RFC 8878, section 3.1.2), which may stand before any frame.
fn is_skippable_frame(bytes: &[u8]) -> bool {
    matches!(bytes, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

/// An archive with no member is zero blocks.
fn is_empty_tar(block: &[u8; BLOCK]) -> bool {
    block.iter().all(|byte| *byte == 0)
}

/// A tar header says so at offset 257 (POSIX, GNU), or, in the format of Unix v7, only by its checksum.
fn is_tar_header(block: &[u8; BLOCK]) -> bool {
    block[257..].starts_with(b"ustar") || has_tar_checksum(block)
}

/// The checksum is the sum of all bytes, the checksum's own field taken as spaces; some old writers summed signed bytes.
fn has_tar_checksum(block: &[u8; BLOCK]) -> bool {
    let field = &block[148..156];
    let Some(said) = octal(field) else { return false };
    let outside = || block[..148].iter().chain(&block[156..]);
    let spaces = 8 * i64::from(b' ');
    let unsigned: i64 = outside().map(|byte| i64::from(*byte)).sum();
    let signed: i64 = outside().map(|byte| i64::from(byte.cast_signed())).sum();
    said == unsigned + spaces || said == signed + spaces
}

/// Octal digits within spaces and NULs, as the most lenient readers take them.
fn octal(field: &[u8]) -> Option<i64> {
    let is_padding = |byte: &u8| matches!(byte, b' ' | 0);
    let start = field.iter().position(|byte| !is_padding(byte))?;
    let digits = field[start..].split(is_padding).next()?;
    i64::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok()
}

#[cfg(test)]
mod tests;
