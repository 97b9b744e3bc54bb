//! ELF (elf(5); System V ABI, chapter 4): Linux and the BSDs.

use crate::inventory::ReadSeek;

use super::super::window::{Integers, read_at, read_up_to};
use super::{ExecutableLayout, Section, Segment};

/// The number of section headers that are read. Real programs have fewer than a hundred.
const MAX_SECTIONS: u64 = 65_536;
/// The number of program headers that are read. Linux accepts 64 KiB of them.
const MAX_SEGMENTS: u64 = 4096;
/// The size of the table of section names that is read, in bytes.
const MAX_NAMES: u64 = 4 << 20;

const LOADED: u32 = 1;
const WRITABLE: u32 = 2;

/// Whether the header is that of a program or a shared library.
pub(super) fn is_program(start: &[u8]) -> bool {
    !ElfHeader::read(start).is_empty()
}

/// The fields of the header that are used.
struct ElfHeader {
    /// 64 bits.
    wide: bool,
    big_endian: bool,
    segments_at: u64,
    segments: u64,
    sections_at: u64,
    section_bytes: u64,
    sections: u64,
    names_index: u64,
}

impl ElfHeader {
    /// The ways in which the header can be read as that of a program: one, unless it was made for two. Linux does not
    /// look at the bytes that state the width and the byte order (`EI_CLASS`, `EI_DATA`), so they do not count.
    fn read(start: &[u8]) -> Vec<Self> {
        let ways = [(true, false), (false, false), (true, true), (false, true)];
        ways.into_iter().filter_map(|(wide, big_endian)| Self::read_as(start, wide, big_endian)).collect()
    }

    /// `None` if no system would load a file with this header.
    fn read_as(start: &[u8], wide: bool, big_endian: bool) -> Option<Self> {
        let integers = Integers { bytes: start, big_endian };
        let (offsets, counts, segment_bytes) = if wide { (32, 54, 56) } else { (28, 42, 32) };
        let word = if wide { 8 } else { 4 };
        let count = |index: usize| integers.u16(counts + 2 * index).map(u64::from);
        let header = Self {
            wide,
            big_endian,
            segments_at: integers.word(wide, offsets)?,
            sections_at: integers.word(wide, offsets + word)?,
            segments: count(1)?,
            section_bytes: count(2)?,
            sections: count(3)?,
            names_index: count(4)?,
        };
        // `e_type`: a program or a shared library.
        let is_program = matches!(integers.u16(16)?, 2 | 3) && count(0)? == segment_bytes;
        (is_program && (1..=MAX_SEGMENTS).contains(&header.segments)).then_some(header)
    }
}

/// Reads the segments, and the sections that are used.
pub(super) fn layout(content: &mut dyn ReadSeek, size: u64, start: &[u8]) -> Result<Option<ExecutableLayout>, String> {
    let mut headers = ElfHeader::read(start);
    let Some(header) = headers.pop() else { return Ok(None) };
    if !headers.is_empty() {
        return Err("the header of the executable is ambiguous".to_owned());
    }
    let Some(segments) = segments(content, &header) else {
        // Without readable program headers, no system loads it.
        return Ok(None);
    };
    let sections = sections(content, size, header)?;
    let (lacks_sections, sections) = (sections.is_none(), sections.unwrap_or_default());
    // Linux ignores sections, and UPX leaves those of shared libraries.
    let is_packed = sections.is_empty() && read_up_to(content, 0, 4096).is_some_and(|start| contains(&start, b"UPX!"));
    Ok(Some(ExecutableLayout { sections, segments, lacks_sections, is_packed }))
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// The segments that are loaded. `None` if the headers cannot be read.
fn segments(content: &mut dyn ReadSeek, header: &ElfHeader) -> Option<Vec<Segment>> {
    let (wide, entry) = (header.wide, if header.wide { 56 } else { 32 });
    let table = read_at(content, header.segments_at, entry * header.segments)?;
    let segment = |bytes: &[u8]| {
        let integers = Integers { bytes, big_endian: header.big_endian };
        let flags = integers.u32(if wide { 4 } else { 24 })?;
        let word = |narrow_at: usize, wide_at: usize| integers.word(wide, if wide { wide_at } else { narrow_at });
        let segment =
            Segment { offset: word(4, 8)?, size: word(16, 32)?, address: word(8, 16)?, is_data: flags & WRITABLE != 0 };
        (integers.u32(0)? == LOADED).then_some(segment)
    };
    Some(table.chunks_exact(usize::try_from(entry).ok()?).filter_map(segment).collect())
}

/// The sections that are used. `None` if the file has no section headers, which are not needed to run it.
fn sections(content: &mut dyn ReadSeek, size: u64, mut header: ElfHeader) -> Result<Option<Vec<Section>>, String> {
    if header.sections_at == 0 {
        return Ok(None);
    }
    let damaged = || "the section headers of the executable are damaged".to_owned();
    let (wide, big_endian) = (header.wide, header.big_endian);
    let entry: usize = if wide { 64 } else { 40 };
    if header.section_bytes != entry as u64 {
        return Err(damaged());
    }
    let first = read_at(content, header.sections_at, entry as u64).ok_or_else(damaged)?;
    let first = Integers { bytes: &first, big_endian };
    // Counts that do not fit into the header are in the first section.
    if header.sections == 0 {
        header.sections = first.word(wide, if wide { 32 } else { 20 }).ok_or_else(damaged)?;
    }
    if header.names_index == 0xffff {
        header.names_index = first.u32(if wide { 40 } else { 24 }).map(u64::from).ok_or_else(damaged)?;
    }
    if header.sections > MAX_SECTIONS {
        return Err(format!("the executable has more than {MAX_SECTIONS} sections"));
    }
    let table = read_at(content, header.sections_at, entry as u64 * header.sections).ok_or_else(damaged)?;
    let rows = || table.chunks_exact(entry).map(|bytes| Integers { bytes, big_endian });
    let place = |row: Integers<'_>| {
        let at: [usize; 3] = if wide { [24, 32, 16] } else { [16, 20, 12] };
        Some((row.word(wide, at[0])?, row.word(wide, at[1])?, row.word(wide, at[2])?))
    };
    let names_row = usize::try_from(header.names_index).ok().and_then(|index| rows().nth(index));
    let (names_at, names_size, _) = names_row.and_then(place).ok_or_else(damaged)?;
    if names_size > MAX_NAMES || names_at.checked_add(names_size).is_none_or(|end| end > size) {
        return Err(damaged());
    }
    let names = read_at(content, names_at, names_size).ok_or_else(damaged)?;
    let used = rows().filter_map(|row| {
        let (offset, size, address) = place(row)?;
        let name = names.get(usize::try_from(row.u32(0)?).ok()?..)?;
        Section::used(name, offset, size, address)
    });
    Ok(Some(used.collect()))
}
