//! Mach-O (Apple, "OS X ABI Mach-O File Format Reference"): macOS.

use crate::inventory::ReadSeek;

use super::super::window::{Integers, read_at};
use super::{ExecutableLayout, Section, Segment};

/// The size of the load commands that are read, in bytes. Real programs have some kilobytes.
const MAX_COMMANDS: u64 = 4 << 20;

/// Readable and writable.
const DATA: u32 = 3;

/// Reads the segments and their sections.
pub(super) fn layout(content: &mut dyn ReadSeek, start: &[u8]) -> Result<Option<ExecutableLayout>, String> {
    let big_endian = start.starts_with(b"\xfe");
    let wide = start.contains(&0xcf) && (start[0] == 0xcf || start[3] == 0xcf);
    let header = Integers { bytes: start, big_endian };
    let Some(size) = header.u32(20).map(u64::from) else { return Ok(None) };
    if size > MAX_COMMANDS {
        return Err("the load commands of the executable are damaged".to_owned());
    }
    let commands =
        read_at(content, if wide { 32 } else { 28 }, size).ok_or("the load commands of the executable are damaged")?;
    let mut layout = ExecutableLayout::default();
    let mut rest = commands.as_slice();
    while let Some((kind, length)) = command(rest, big_endian) {
        let bytes = &rest[..length];
        // LC_SEGMENT and LC_SEGMENT_64.
        if kind == if wide { 0x19 } else { 1 } {
            add_segment(&mut layout, Integers { bytes, big_endian }, wide);
        }
        rest = &rest[length..];
    }
    Ok(Some(layout))
}

/// The kind and length of the first command. `None` at the end, and if the length is impossible.
fn command(rest: &[u8], big_endian: bool) -> Option<(u32, usize)> {
    let integers = Integers { bytes: rest, big_endian };
    let length = usize::try_from(integers.u32(4)?).ok()?;
    (length >= 8 && length <= rest.len()).then_some((integers.u32(0)?, length))
}

/// Adds a segment and its sections. Sections outside the command are left out: no system loads such a file.
fn add_segment(layout: &mut ExecutableLayout, command: Integers<'_>, wide: bool) -> Option<()> {
    let word = if wide { 8 } else { 4 };
    let at = |index: usize| 24 + index * word;
    let (address, offset, size) = (command.word(wide, at(0))?, command.word(wide, at(2))?, command.word(wide, at(3))?);
    let is_data = command.u32(at(4))? == DATA && command.u32(at(4) + 4)? == DATA && address != 0;
    if !command.bytes[8..].starts_with(b"__PAGEZERO\0") {
        layout.segments.push(Segment { offset, size, address, is_data });
    }
    let (first, length) = (at(4) + 16, if wide { 80 } else { 68 });
    for bytes in command.bytes.get(first..)?.chunks_exact(length) {
        let row = Integers { bytes, big_endian: command.big_endian };
        let place = (row.u32(32 + 2 * word), row.word(wide, 32 + word), row.word(wide, 32));
        let (Some(offset), Some(size), Some(address)) = place else { continue };
        layout.sections.extend(Section::used(&bytes[..16], u64::from(offset), size, address));
    }
    Some(())
}
