//! What is given for a bundle by mistake.

use std::fs::File;
use std::io::{self, Read, Seek};
use std::os::unix::fs::FileExt as _;
use std::path::Path;

/// Refuses `-`, with which other programs mean standard input or output.
///
/// # Errors
/// What to do instead.
pub(in crate::cli::bundle) fn refuse_stream(path: &Path) -> Result<(), String> {
    if path == Path::new("-") {
        let why = "a bundle is not read or written from beginning to end, so it must be a file; for a file of this name, \
                   write ./-";
        return Err(format!("-: {why}"));
    }
    Ok(())
}

/// Whether a file has the mark of a tar archive at its beginning (POSIX.1-1988, and later).
pub(super) fn begins_as_tar(file: &File) -> bool {
    let mut mark = [0; 5];
    file.read_exact_at(&mut mark, 257).is_ok() && mark == *b"ustar"
}

/// How a file is compressed, and what decompresses it, if its first bytes say so. It is read from its beginning
/// afterwards.
pub(super) fn compression(file: &mut File) -> io::Result<Option<(&'static str, &'static str)>> {
    let mut start = Vec::new();
    Read::by_ref(file).take(6).read_to_end(&mut start)?;
    file.rewind()?;
    let known: [(&[u8], &str, &str); 4] = [
        (&[0x1f, 0x8b], "gzip", "gunzip"),
        (&[0x28, 0xb5, 0x2f, 0xfd], "zstd", "unzstd"),
        (b"\xfd7zXZ\0", "xz", "unxz"),
        (b"BZh", "bzip2", "bunzip2"),
    ];
    Ok(known.iter().find(|(magic, ..)| start.starts_with(magic)).map(|(_, format, command)| (*format, *command)))
}
