//! PE (Microsoft, "PE Format"): Windows.

use crate::inventory::ReadSeek;

use super::super::window::{Integers, read_at};
use super::{ExecutableLayout, Section, Segment};

/// The flags of a section with initialised variables: initialised data, readable, writable. The alignment does not
/// count.
const DATA: u32 = 0xC000_0040;
const ALIGNMENT: u32 = 0x0060_0000;

/// Reads the sections. `None` if the file is not a PE file: `MZ` also starts programs of MS-DOS.
pub(super) fn layout(content: &mut dyn ReadSeek, start: &[u8]) -> Result<Option<ExecutableLayout>, String> {
    let integers = Integers { bytes: start, big_endian: false };
    let Some(header_at) = integers.u32(0x3c).map(u64::from) else { return Ok(None) };
    // The signature and the COFF header, then the start of the optional header with the base address.
    let Some(header) = read_at(content, header_at, 24 + 32).filter(|header| header.starts_with(b"PE\0\0")) else {
        return Ok(None);
    };
    let header = Integers { bytes: &header, big_endian: false };
    let base = match header.u16(24) {
        Some(0x10b) => header.u32(24 + 28).map(u64::from),
        Some(0x20b) => header.u64(24 + 24),
        _ => None,
    };
    let (Some(base), Some(count), Some(optional)) = (base, header.u16(6), header.u16(20)) else { return Ok(None) };
    let table = read_at(content, header_at + 24 + u64::from(optional), 40 * u64::from(count))
        .ok_or("the section headers of the executable are damaged")?;
    let mut layout = ExecutableLayout::default();
    for bytes in table.chunks_exact(40) {
        let row = Integers { bytes, big_endian: false };
        let (Some(address), Some(size), Some(offset), Some(flags)) =
            (row.u32(12), row.u32(16), row.u32(20), row.u32(36))
        else {
            continue;
        };
        let (address, size, offset) = (base.wrapping_add(u64::from(address)), u64::from(size), u64::from(offset));
        layout.segments.push(Segment { offset, size, address, is_data: flags & !ALIGNMENT == DATA });
        layout.sections.extend(Section::used(&bytes[..8], offset, size, address));
        layout.is_packed |= bytes.starts_with(b"UPX0");
    }
    Ok(Some(layout))
}
