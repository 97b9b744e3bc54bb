//! Programs of .NET in a single file (github.com/dotnet/designs, "Single-file Publish"): the list of packages is in a
//! bundle at the end of the executable.

use memchr::memmem;

use super::super::window::{Integers, read_at, read_up_to};
use super::super::{LanguagePackages, MAX_JSON_BYTES, dotnet, text};
use super::Executable;

/// The bytes that follow the offset of the bundle's header in the data of the program, which runs the bundle there
/// (`bundle_marker.cpp`). A program without a bundle has the offset 0.
const MARKER: [u8; 32] = [
    0x8b, 0x12, 0x02, 0xb9, 0x6a, 0x61, 0x20, 0x38, 0x72, 0x7b, 0x93, 0x02, 0x14, 0xd7, 0xa0, 0x32, 0x13, 0xf5, 0xb9,
    0xe6, 0xef, 0xae, 0x33, 0x18, 0xee, 0x3b, 0x2d, 0xce, 0x24, 0xb3, 0x6a, 0xae,
];
/// The maximum number of bytes of variables that are searched, and how many at a time. The runtime has less than a
/// megabyte.
const MAX_DATA: u64 = 32 << 20;
const PIECE: u64 = 1 << 20;

/// Reads the packages of a program in a single file. Any other program states none.
pub(super) fn read(path: &str, executable: &mut Executable<'_>, found: &mut LanguagePackages) {
    let Some(header_at) = header(executable) else { return };
    let read = list(executable, header_at).ok_or("a single-file .NET program that does not state its packages");
    match read {
        Ok(list) => dotnet::read(path, &text::decode(&list), found),
        Err(problem) => found.problem(problem.to_owned()),
    }
}

/// Where the header of the bundle is.
fn header(executable: &mut Executable<'_>) -> Option<u64> {
    let data: Vec<(u64, u64)> = executable
        .layout
        .segments
        .iter()
        .filter(|segment| segment.is_data)
        .map(|segment| (segment.offset, segment.size.min(MAX_DATA)))
        .take(4)
        .collect();
    for (offset, size) in data {
        let mut at = 0;
        while at < size {
            // Pieces overlap, so that none cuts the mark.
            let length = (PIECE + 64).min(size - at);
            let piece = read_up_to(executable.content, offset.checked_add(at)?, length)?;
            let first = memmem::find(&piece, &MARKER);
            if let Some(place) = first.filter(|place| *place >= 8) {
                let header_at = Integers { bytes: &piece, big_endian: false }.u64(place - 8)?;
                return (header_at != 0).then_some(header_at);
            }
            at += PIECE;
        }
    }
    None
}

/// The content of `deps.json`, which the header names from version 2 on (.NET 5).
fn list(executable: &mut Executable<'_>, header_at: u64) -> Option<Vec<u8>> {
    let header = read_up_to(executable.content, header_at, 1024)?;
    let fields = Integers { bytes: &header, big_endian: false };
    let (major, id_length) = (fields.u32(0)?, usize::from(*header.get(12)?));
    // Versions, the number of files, and the identifier of the bundle after its length.
    let at = 13 + id_length;
    let (offset, size) = (fields.u64(at)?, fields.u64(at + 8)?);
    let is_known = matches!(major, 2..=6) && id_length < 128 && size > 0 && size <= MAX_JSON_BYTES;
    is_known.then(|| read_at(executable.content, offset, size)).flatten()
}
