//! Executables and shared libraries: ELF, PE (Windows) and Mach-O (macOS), including universal binaries.
//!
//! Only headers and the parts that are asked for are read. The readers of the crates `object` and `goblin` are not
//! used: they hold the whole file, or tables as large as the file claims, in memory.
//!
//! Files that start like an executable count, with or without an executable bit. The bit can be
//! set when the container starts, and the loader `ld.so` runs and loads files without it. Object files (`*.o`, `*.ko`)
//! and core dumps do not count: they are not run as they are.

use crate::inventory::ReadSeek;

use super::LanguagePackages;
use super::window::{Integers, Window, read_at};
use super::{go, rust};

mod elf;
mod macho;
mod pe;
mod single_file;

/// Sections that are used: Go's build information and build identifier, and the list of crates of `cargo auditable`.
const USED_SECTIONS: [&str; 4] = [GO_BUILD_INFO, GO_BUILD_ID, "__go_buildinfo", RUST_CRATES];
const GO_BUILD_INFO: &str = ".go.buildinfo";
const GO_BUILD_ID: &str = ".note.go.buildid";
const RUST_CRATES: &str = ".dep-v0";

/// What the record at the end of a program of PyInstaller starts with.
const PYINSTALLER: &[u8] = b"MEI\x0c\x0b\x0a\x0b\x0e";

/// The magic numbers of Mach-O, of 32 and 64 bits, in both byte orders.
const MACHO: [[u8; 4]; 4] = [*b"\xfe\xed\xfa\xce", *b"\xfe\xed\xfa\xcf", *b"\xce\xfa\xed\xfe", *b"\xcf\xfa\xed\xfe"];

/// The number of programs in a universal binary. A Java class starts with the same bytes, and then has its version
/// there, which is at least 45.
const MAX_PROGRAMS: u32 = 20;

/// Whether a file with these first bytes may be an executable.
pub(super) fn is_executable(first_bytes: &[u8]) -> bool {
    if first_bytes.starts_with(b"\x7fELF") {
        return elf::is_program(first_bytes);
    }
    first_bytes.starts_with(b"MZ")
        || MACHO.iter().any(|magic| first_bytes.starts_with(magic))
        || universal(first_bytes).is_some()
}

/// The number of programs in a universal binary, and whether it has offsets of 64 bits.
fn universal(first_bytes: &[u8]) -> Option<(u32, bool)> {
    let wide = match first_bytes.get(..4)? {
        b"\xca\xfe\xba\xbe" => false,
        b"\xca\xfe\xba\xbf" => true,
        _ => return None,
    };
    let count = Integers { bytes: first_bytes, big_endian: true }.u32(4)?;
    (1..=MAX_PROGRAMS).contains(&count).then_some((count, wide))
}

/// Reads the packages that were compiled into an executable.
pub(super) fn read(path: &str, content: &mut dyn ReadSeek, size: u64, found: &mut LanguagePackages) {
    let Some(first_bytes) = super::window::read_up_to(content, 0, 4096) else {
        found.problem("the executable cannot be read".to_owned());
        return;
    };
    if let Some(bundle) = bundle(&first_bytes, content, size) {
        found.problem(format!("a program bundled by {bundle}; its contents are not read"));
    }
    let Some((count, wide)) = universal(&first_bytes) else {
        read_program(path, content, size, found);
        return;
    };
    let table = Integers { bytes: &first_bytes, big_endian: true };
    for index in 0..count as usize {
        let (entry, offset_at, size_at) = if wide { (32, 8, 16) } else { (20, 8, 12) };
        let at = 8 + index * entry;
        let part = table.word(wide, at + offset_at).zip(table.word(wide, at + size_at));
        let window = part.and_then(|(start, length)| Window::new(content, size, start, length).map(|w| (w, length)));
        match window {
            Some((mut window, length)) => read_program(path, &mut window, length, found),
            None => found.problem("a program of the universal binary extends beyond the file".to_owned()),
        }
    }
}

/// The tool that put the files of a program into its executable, if it left a mark.
fn bundle(first_bytes: &[u8], content: &mut dyn ReadSeek, size: u64) -> Option<&'static str> {
    // The specification of AppImage: `AI` and the type at offset 8.
    if matches!(first_bytes.get(8..11), Some([b'A', b'I', 1 | 2])) {
        return Some("AppImage");
    }
    // PyInstaller's `CArchive` ends with a record of 88 bytes; a signature may follow.
    let tail_at = size.saturating_sub(4096);
    let tail = super::window::read_up_to(content, tail_at, size - tail_at)?;
    tail.windows(PYINSTALLER.len()).any(|bytes| bytes == PYINSTALLER).then_some("PyInstaller")
}

/// Reads one program.
fn read_program(path: &str, content: &mut dyn ReadSeek, size: u64, found: &mut LanguagePackages) {
    let layout = match ExecutableLayout::read(content, size) {
        Ok(Some(layout)) => layout,
        Ok(None) => return,
        Err(problem) => {
            found.problem(problem);
            return;
        }
    };
    if layout.is_packed {
        found.problem("the executable was compressed by a packer, so its contents cannot be read".to_owned());
    }
    let mut executable = Executable { content, size, layout };
    go::read(path, &mut executable, found);
    rust::read(path, &mut executable, found);
    single_file::read(path, &mut executable, found);
}

/// Where the parts of an executable are.
#[derive(Default)]
struct ExecutableLayout {
    /// The sections with a name in [`USED_SECTIONS`].
    sections: Vec<Section>,
    segments: Vec<Segment>,
    /// Whether it has no section headers: no system needs them to run it.
    lacks_sections: bool,
    /// Whether a packer such as UPX compressed it.
    is_packed: bool,
}

impl ExecutableLayout {
    /// Reads the headers. `None` if this is not an executable.
    fn read(content: &mut dyn ReadSeek, size: u64) -> Result<Option<Self>, String> {
        let Some(start) = read_at(content, 0, 64) else { return Ok(None) };
        if start.starts_with(b"\x7fELF") {
            elf::layout(content, size, &start)
        } else if start.starts_with(b"MZ") {
            pe::layout(content, &start)
        } else if MACHO.iter().any(|magic| start.starts_with(magic)) {
            macho::layout(content, &start)
        } else {
            Ok(None)
        }
    }
}

/// A section: a named part of the file.
struct Section {
    name: &'static str,
    /// The offset in the file, in bytes.
    offset: u64,
    /// The number of its bytes in the file.
    size: u64,
    /// The address in memory.
    address: u64,
}

impl Section {
    /// A section, if its name is one of those that are used.
    fn used(name: &[u8], offset: u64, size: u64, address: u64) -> Option<Self> {
        let name = name.split(|byte| *byte == 0).next()?;
        let name = USED_SECTIONS.into_iter().find(|used| used.as_bytes() == name)?;
        Some(Self { name, offset, size, address })
    }
}

/// A part of the file that is loaded into memory.
struct Segment {
    /// The offset in the file, in bytes.
    offset: u64,
    /// The number of its bytes in the file.
    size: u64,
    /// The address in memory.
    address: u64,
    /// Whether it may contain initialised variables: it can be written.
    is_data: bool,
}

/// A part of an executable that is searched.
#[derive(Clone, Copy)]
pub(super) struct ExecutablePart {
    /// The address in memory.
    pub(super) address: u64,
    /// The number of its bytes.
    pub(super) size: u64,
    /// The offset of a segment in the file, in bytes: another segment may have the same addresses.
    offset: Option<u64>,
}

/// An executable whose headers were read.
pub(super) struct Executable<'a> {
    content: &'a mut dyn ReadSeek,
    size: u64,
    layout: ExecutableLayout,
}

impl Executable<'_> {
    /// Whether Go's linker wrote it.
    pub(super) fn is_from_go(&self) -> bool {
        self.layout.sections.iter().any(|section| section.name != RUST_CRATES)
    }

    /// The parts that may contain Go's build information: the sections for it, then the segments with variables, then,
    /// without section headers, all other segments. `debug/buildinfo` of Go looks only into the first segment with
    /// variables, which need not be the one of Go's linker.
    ///
    /// # Errors
    /// These parts overlap, so that searching them would take too long.
    pub(super) fn go_build_info(&self) -> Result<Vec<ExecutablePart>, String> {
        let ExecutableLayout { sections, segments, lacks_sections, .. } = &self.layout;
        let is_info = |section: &&Section| matches!(section.name, GO_BUILD_INFO | "__go_buildinfo");
        let place = |section: &Section| {
            let size = section.size.min(self.size);
            ExecutablePart { address: section.address, size, offset: None }
        };
        let data = segments.iter().filter(|segment| segment.is_data);
        let others = segments.iter().filter(|segment| *lacks_sections && !segment.is_data);
        let segments = data.chain(others).map(|segment| self.part(segment));
        let parts = sections.iter().filter(is_info).map(place).chain(segments);
        let parts: Vec<ExecutablePart> = parts.filter(|part| part.size > 0).collect();
        // The section is in a segment, and linkers let the file's pages at the borders of segments be in two of them.
        let total = parts.iter().fold(0u64, |total, part| total.saturating_add(part.size));
        if total > self.size.saturating_mul(2) {
            return Err("the sections or segments of the executable overlap".to_owned());
        }
        Ok(parts)
    }

    /// The segments of an executable without section headers. Empty if it has section headers.
    pub(super) fn segments_without_sections(&self) -> Vec<ExecutablePart> {
        let ExecutableLayout { segments, lacks_sections, .. } = &self.layout;
        segments.iter().filter(|_| *lacks_sections).map(|segment| self.part(segment)).collect()
    }

    fn part(&self, segment: &Segment) -> ExecutablePart {
        let size = segment.size.min(self.size);
        ExecutablePart { address: segment.address, size, offset: Some(segment.offset) }
    }

    /// Reads up to `length` bytes of a part, `inside` bytes after its start.
    pub(super) fn read_part(&mut self, part: ExecutablePart, inside: u64, length: u64) -> Option<Vec<u8>> {
        let length = length.min(part.size.saturating_sub(inside));
        match part.offset {
            Some(offset) => super::window::read_up_to(self.content, offset.checked_add(inside)?, length),
            None => self.read_at_address(part.address.checked_add(inside)?, length),
        }
    }

    /// The contents of the sections with the list of crates, each not longer than `max` bytes.
    pub(super) fn rust_crates(&mut self, max: u64) -> Vec<Result<Vec<u8>, String>> {
        let sections = self.layout.sections.iter().filter(|section| section.name == RUST_CRATES);
        let mut contents = Vec::new();
        // Linkers write one. More than a few are an attempt to make this slow.
        for Section { offset, size, .. } in sections.take(4) {
            contents.push(if *size > max {
                Err(format!("the list of crates has more than {max} bytes"))
            } else {
                let inside = offset.checked_add(*size).is_some_and(|end| end <= self.size);
                let content = inside.then(|| read_at(self.content, *offset, *size)).flatten();
                content.ok_or_else(|| "the list of crates extends beyond the file".to_owned())
            });
        }
        contents
    }

    /// Reads up to `length` bytes at an address in memory, to the end of the segment at most. `None` if nothing of the
    /// file is loaded there.
    pub(super) fn read_at_address(&mut self, address: u64, length: u64) -> Option<Vec<u8>> {
        // A segment is loaded over those before it.
        let (segment, inside) = self.layout.segments.iter().rev().find_map(|segment| {
            let inside = address.checked_sub(segment.address)?;
            (inside < segment.size).then_some((segment, inside))
        })?;
        let offset = segment.offset.checked_add(inside)?;
        super::window::read_up_to(self.content, offset, length.min(segment.size - inside))
    }
}
