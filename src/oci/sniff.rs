//! Detects content that a container runtime would unpack as an archive, whatever its media type.
//!
//! Content that is not an archive here is served without trust or vulnerability checks. These tests therefore accept
//! more as an archive than any single reader does, and content that cannot be inspected counts as an archive.
//! `tests/readers` compares them with the real readers on thousands of archives.
//!
//! | reader | formats detected by the first bytes |
//! |---|---|
//! | containers/image, containers/storage (podman, CRI-O, skopeo): pkg/compression | gzip, bzip2, xz, zstd |
//! | moby: archive/compression | gzip, bzip2, xz, zstd, also after skippable frames |
//! | containerd: pkg/archive/compression, and by media type its stream processors | gzip, zstd, also after skippable frames |
//! | GNU tar (enroot, udocker): buffer.c | gzip, compress, bzip2, lzip, lzma, lzop, xz, zstd; it skips blocks up to a header |
//! | libarchive (flatpak): archive_read_support_filter_all | all of these, lz4, lrzip, grzip, rpm, uuencode |
//! | Python tarfile (Charliecloud) | gzip, bzip2, xz, lzma, zstd |
//! | erofs snapshotter of containerd, Apptainer | mount EROFS, SquashFS and SIF without unpacking |

use std::io::{ErrorKind, Read};

use flate2::read::MultiGzDecoder;
use ruzstd::decoding::StreamingDecoder;

mod header;

/// How many bytes of a layer [`is_tar_like`] needs.
pub const SNIFF_LENGTH: usize = 64 * 1024;

/// The size of a tar block, in bytes (POSIX.1-1988, ustar).
const BLOCK: usize = 512;

/// The maximum zstd window allocated for inspection, in bytes.
const MAX_WINDOW: u64 = 8 * 1024 * 1024;

/// How much of a compressed layer is unpacked for inspection, in bytes. Some readers skip everything before the first
/// header, so the first block alone does not decide.
const MAX_UNPACKED: u64 = 1024 * 1024;

/// Magic bytes at the start, and the format that they indicate.
const MAGIC: &[(&[u8], &str)] = &[
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\0", "xz"),
    (b"\x04\x22\x4d\x18", "lz4"),
    (b"\x02\x21\x4c\x18", "lz4"),
    (b"\x1f\x9d", "compress"),
    (b"\x1f\xa0", "compress"),
    (b"\x1f\x1e", "pack"),
    (b"\x5d\0\0", "lzma"),
    (b"\xffLZMA", "lzma"),
    (b"LZIP", "lzip"),
    (b"LRZI", "lrzip"),
    (b"\x89LZO\0", "lzop"),
    (b"GRZipII\0", "grzip"),
    (b"\xed\xab\xee\xdb", "rpm"),
    (b"begin ", "uuencode"),
    (b"begin-base64 ", "uuencode"),
    (b"hsqs", "squashfs"),
    (b"PK\x03\x04", ZIP),
    (b"PK\x05\x06", ZIP),
];

/// Magic bytes at other offsets, and the file system that they indicate.
const MAGIC_WITHIN: &[(usize, &[u8], &str)] =
    &[(1024, b"\xe2\xe1\xf5\xe0", "erofs"), (32, b"SIF_MAGIC", "sif"), (32769, b"CD001", "iso9660")];

/// No container runtime unpacks a zip, so it is an archive but not tar-like.
const ZIP: &str = "zip";

/// The archive or compression format that the content starts with, or `None` if it is not a known one.
///
/// `first_bytes` should be [`SNIFF_LENGTH`] bytes long, or the whole content if that is shorter.
pub fn looks_like_archive(first_bytes: &[u8]) -> Option<&'static str> {
    let by_magic = MAGIC.iter().find(|(magic, _)| first_bytes.starts_with(magic)).map(|(_, name)| *name);
    let stands_at = |(at, magic, _): &&(usize, &[u8], _)| first_bytes.get(*at..).is_some_and(|b| b.starts_with(magic));
    by_magic
        .or_else(|| is_skippable_frame(first_bytes).then_some("zstd"))
        .or_else(|| MAGIC_WITHIN.iter().find(stands_at).map(|(_, _, name)| *name))
        .or_else(|| {
            let block = first_bytes.first_chunk()?;
            (header::may_be_header(block) || is_empty_tar(block)).then_some("tar")
        })
}

/// Whether a layer is, or may be, a tar, compressed or not: runtimes unpack such layers whatever their media type.
///
/// `prefix` is the first [`SNIFF_LENGTH`] bytes, or the whole layer if that is shorter. Content that cannot be
/// inspected (bzip2, xz, lz4, or a stream that is broken or yields too little) counts as a tar: the gate must not serve
/// what it does not know.
pub fn is_tar_like(prefix: &[u8]) -> bool {
    match looks_like_archive(prefix) {
        // The first name in a tar may look like any magic bytes, and readers that do not check for these accept the
        // tar.
        _ if starts_with_header(prefix) => true,
        // GNU tar skips to a header further on, except in what it unpacks.
        None | Some(ZIP) => begins_as_tar(prefix),
        Some("zstd") if is_skippable_frame(prefix) && begins_as_tar(prefix) => true,
        Some("gzip") => unpacks_to_tar(&gunzip(prefix), prefix),
        Some("zstd") => unpacks_to_tar(&unzstd(prefix), prefix),
        Some(_) => true,
    }
}

/// Whether any block of the content can be a tar header to any reader, wherever the reader starts, or the content
/// contains the end of a zip, which may be preceded by anything (APPNOTE.TXT, 4.3.16).
pub fn holds_archive(content: &[u8]) -> bool {
    blocks(content).any(|block| header::may_be_header(&block)) || content.windows(4).any(|four| four == b"PK\x05\x06")
}

/// The first block counts if any reader accepts it. Later blocks are reached only by GNU tar, which skips to the first
/// header.
fn begins_as_tar(content: &[u8]) -> bool {
    starts_with_header(content) || blocks(content).skip(1).any(|block| header::may_be_skipped_to(&block))
}

/// Whether any reader accepts the first block as the start of a tar. This alone decides about content that GNU tar
/// unpacks (buffer.c, `check_compressed_archive`): it skips no blocks there, and no other reader does.
pub(super) fn starts_with_header(content: &[u8]) -> bool {
    blocks(content).next().is_some_and(|block| header::may_be_header(&block) || is_empty_tar(&block))
}

/// Pads the last block with zeros, as a reader may do.
fn blocks(content: &[u8]) -> impl Iterator<Item = [u8; BLOCK]> {
    content.chunks(BLOCK).map(|chunk| {
        let mut block = [0; BLOCK];
        block[..chunk.len()].copy_from_slice(chunk);
        block
    })
}

/// The unpacked content of a compressed stream, at most [`MAX_UNPACKED`] bytes.
struct Unpacked {
    content: Vec<u8>,
    end: End,
}

/// How unpacking ended.
#[derive(Clone, Copy, Eq, PartialEq)]
enum End {
    /// At the end of a member or frame, or at [`MAX_UNPACKED`].
    Good,
    /// In the middle of a member or frame.
    Cut,
    /// At data that this decoder cannot read. Another decoder may.
    Unreadable,
}

fn unpacks_to_tar(Unpacked { content, end }: &Unpacked, prefix: &[u8]) -> bool {
    let is_whole = prefix.len() < SNIFF_LENGTH;
    let tells_too_little = match end {
        End::Good => !is_whole && content.len() < BLOCK,
        End::Cut => is_whole || content.len() < BLOCK,
        End::Unreadable => true,
    };
    tells_too_little || begins_as_tar(content)
}

/// Unpacks all members in sequence (RFC 1952, section 2.2).
fn gunzip(prefix: &[u8]) -> Unpacked {
    let mut content = Vec::new();
    let end = match MultiGzDecoder::new(prefix).take(MAX_UNPACKED).read_to_end(&mut content) {
        Ok(_) => End::Good,
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => End::Cut,
        Err(_) => End::Unreadable,
    };
    Unpacked { content, end }
}

/// Unpacks all frames in sequence (RFC 8878, section 3); ruzstd reads one at a time.
fn unzstd(prefix: &[u8]) -> Unpacked {
    let (mut content, mut rest) = (Vec::new(), prefix);
    while !rest.is_empty() && (content.len() as u64) < MAX_UNPACKED {
        if is_skippable_frame(rest) {
            match skip_frame(rest) {
                Some(after) => rest = after,
                None => return Unpacked { content, end: End::Cut },
            }
            continue;
        }
        let room = MAX_UNPACKED - content.len() as u64;
        let decoder = StreamingDecoder::new_with_max_window_size(&mut rest, MAX_WINDOW);
        let read = decoder.map(|decoder| decoder.take(room).read_to_end(&mut content));
        if !matches!(read, Ok(Ok(_))) {
            let end = if rest.is_empty() { End::Cut } else { End::Unreadable };
            return Unpacked { content, end };
        }
    }
    Unpacked { content, end: End::Good }
}

/// Zstandard's skippable frames (RFC 8878, section 3.1.2), which may precede any frame.
fn is_skippable_frame(bytes: &[u8]) -> bool {
    matches!(bytes, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

/// The content after a skippable frame; `None` if the frame is truncated.
fn skip_frame(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.get(4..)?.split_first_chunk()?;
    rest.get(usize::try_from(u32::from_le_bytes(*length)).ok()?..)
}

/// An archive without members consists of zero blocks.
fn is_empty_tar(block: &[u8; BLOCK]) -> bool {
    block.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests;
