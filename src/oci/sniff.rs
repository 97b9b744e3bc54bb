//! What bytes are, whatever their media type says: archives that a container runtime would unpack.
//!
//! What is no archive here is served without trust or vulnerabilities being asked for, so these tests take more for an
//! archive than any single reader does, and what cannot be looked into counts as one. `tests/readers` runs the readers
//! themselves over some thousands of archives and holds these tests to what they say.
//!
//! | who unpacks | what it detects by its first bytes |
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

/// How much of a layer [`is_tar_like`] wants, in bytes.
pub const SNIFF_LENGTH: usize = 64 * 1024;

/// A tar block, in bytes (POSIX.1-1988, ustar).
const BLOCK: usize = 512;

/// The largest zstd window that is allocated for a look inside, in bytes.
const MAX_WINDOW: u64 = 8 * 1024 * 1024;

/// How much of a compressed layer is unpacked for a look inside, in bytes. Some readers skip what stands before the first
/// header, so the first block does not decide.
const MAX_UNPACKED: u64 = 1024 * 1024;

/// First bytes, and the format that they begin.
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

/// Bytes somewhere else than at the start, and the file system that they stand for.
const MAGIC_WITHIN: &[(usize, &[u8], &str)] =
    &[(1024, b"\xe2\xe1\xf5\xe0", "erofs"), (32, b"SIF_MAGIC", "sif"), (32769, b"CD001", "iso9660")];

/// No container runtime unpacks a zip, so it is an archive and not like a tar.
const ZIP: &str = "zip";

/// Which archive or compression format some content begins as; `None` when it is none that is known.
///
/// `first_bytes` should be [`SNIFF_LENGTH`] bytes, or all there is.
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

/// Whether a layer is a tar, compressed or not, or may be one: runtimes unpack such layers whatever their media type.
///
/// `prefix` is the first [`SNIFF_LENGTH`] bytes, or all of it when it is shorter. What cannot be looked into (bzip2, xz,
/// lz4, or a stream that is broken or yields too little) counts as a tar, because not knowing is no reason to serve.
pub fn is_tar_like(prefix: &[u8]) -> bool {
    match looks_like_archive(prefix) {
        // The first name of a tar may be any magic: readers that do not look for it take the tar as it stands.
        _ if begins_as_tar(prefix) => true,
        None | Some(ZIP) => false,
        Some("gzip") => unpacks_to_tar(&gunzip(prefix), prefix),
        Some("zstd") => unpacks_to_tar(&unzstd(prefix), prefix),
        Some(_) => true,
    }
}

/// Whether any block of the content can be a tar header to any reader, wherever it begins to read, or the content holds
/// the end of a zip, which may have anything before it (APPNOTE.TXT, 4.3.16).
pub fn holds_archive(content: &[u8]) -> bool {
    blocks(content).any(|block| header::may_be_header(&block)) || content.windows(4).any(|four| four == b"PK\x05\x06")
}

/// The first block counts as soon as one reader may take it. What follows another block is reached by GNU tar alone, which
/// skips to the first header.
pub(super) fn begins_as_tar(content: &[u8]) -> bool {
    let mut blocks = blocks(content);
    let first = blocks.next().is_some_and(|block| header::may_be_header(&block) || is_empty_tar(&block));
    first || blocks.any(|block| header::may_be_skipped_to(&block))
}

/// The last one is filled up with zeros, as a reader may do.
fn blocks(content: &[u8]) -> impl Iterator<Item = [u8; BLOCK]> {
    content.chunks(BLOCK).map(|chunk| {
        let mut block = [0; BLOCK];
        block[..chunk.len()].copy_from_slice(chunk);
        block
    })
}

/// What a compressed stream yields, at most [`MAX_UNPACKED`] bytes.
struct Unpacked {
    content: Vec<u8>,
    end: End,
}

/// How unpacking ended.
#[derive(Clone, Copy, Eq, PartialEq)]
enum End {
    /// Where a member or frame ends, or at [`MAX_UNPACKED`].
    Good,
    /// In the middle.
    Cut,
    /// By something that this decoder does not read. Another may.
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

/// All members, one after the other (RFC 1952, section 2.2).
fn gunzip(prefix: &[u8]) -> Unpacked {
    let mut content = Vec::new();
    let end = match MultiGzDecoder::new(prefix).take(MAX_UNPACKED).read_to_end(&mut content) {
        Ok(_) => End::Good,
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => End::Cut,
        Err(_) => End::Unreadable,
    };
    Unpacked { content, end }
}

/// All frames, one after the other (RFC 8878, section 3); ruzstd reads one.
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

/// Zstandard's skippable frames (RFC 8878, section 3.1.2), which may stand before any frame.
fn is_skippable_frame(bytes: &[u8]) -> bool {
    matches!(bytes, [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..])
}

/// What follows a skippable frame; `None` when it is cut.
fn skip_frame(bytes: &[u8]) -> Option<&[u8]> {
    let (length, rest) = bytes.get(4..)?.split_first_chunk()?;
    rest.get(usize::try_from(u32::from_le_bytes(*length)).ok()?..)
}

/// An archive with no member is zero blocks.
fn is_empty_tar(block: &[u8; BLOCK]) -> bool {
    block.iter().all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests;
