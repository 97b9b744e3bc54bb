//! Go programs: the linker writes the version of the toolchain and the modules into the program (Go's `debug/buildinfo`
//! and `runtime/debug.ParseBuildInfo`).

use memchr::memmem;

use crate::inventory::Ecosystem;

use super::LanguagePackages;
use super::executable::{Executable, ExecutablePart};
use super::text::decode;
use super::window::Integers;

mod version;

/// The magic bytes of the build information, which starts at a multiple of 16.
const MAGIC: &[u8] = b"\xff Go buildinf:";
const ALIGNMENT: u64 = 16;
const HEADER: u64 = 32;

/// How many bytes are searched for it at a time.
const CHUNK: u64 = 1 << 20;

/// The magic numbers of the table of functions of Go 1.2, 1.16, 1.18 and 1.20 (`internal/abi/symtab.go`), and the length
/// of its header, in bytes.
const TABLES: [u32; 4] = [0xffff_fffb, 0xffff_fffa, 0xffff_fff0, 0xffff_fff1];
const TABLE_HEADER: u64 = 8;

/// Why a Go program may contain modules that are not listed.
const WITHOUT_MODULES: &str = "a Go program that does not state its modules";

/// The longest text in it, in bytes. A thousand modules are 100 KiB.
const MAX_TEXT: u64 = 16 << 20;

/// The version of the toolchain, and the list of modules.
type PackagedTexts = (Vec<u8>, Vec<u8>);

/// Reads the modules that were compiled in, the main module, and the standard library as `stdlib`.
pub(super) fn read(path: &str, executable: &mut Executable<'_>, found: &mut LanguagePackages) {
    match build_info(executable) {
        Ok(Some((version, modules))) => {
            add_modules(path, &version, &modules, found);
            if !states_modules(&modules) {
                found.problem(WITHOUT_MODULES.to_owned());
            }
        }
        Ok(None) if executable.is_from_go() || has_functions(executable) => found.problem(WITHOUT_MODULES.to_owned()),
        Ok(None) => {}
        Err(problem) => found.problem(problem),
    }
}

/// The version of the toolchain, and the text with the modules. `None` if there is no build information.
fn build_info(executable: &mut Executable<'_>) -> Result<Option<(String, String)>, String> {
    for part in executable.go_build_info()? {
        let Some(address) = find(executable, part) else { continue };
        let info = inline(executable, address).or_else(|| by_pointers(executable, address));
        let (version, modules) = info.ok_or("the build information of the Go program cannot be read")?;
        let modules = unframed(&modules).ok_or("the list of modules of the Go program is damaged")?;
        return Ok(Some((decode(&version), decode(modules))));
    }
    Ok(None)
}

/// The address of the build information in a part.
fn find(executable: &mut Executable<'_>, part: ExecutablePart) -> Option<u64> {
    let mut at = part.address.checked_next_multiple_of(ALIGNMENT)? - part.address;
    // The magic number is aligned, so it is never split between chunks.
    while at < part.size {
        let chunk = executable.read_part(part, at, CHUNK)?;
        let mut blocks = chunk.chunks(16).enumerate();
        if let Some((index, _)) = blocks.find(|(_, block)| block.starts_with(MAGIC)) {
            return part.address.checked_add(at + 16 * index as u64);
        }
        if (chunk.len() as u64) < CHUNK {
            return None;
        }
        at += CHUNK;
    }
    None
}

/// Whether there is Go's table of functions in a program without section headers. The runtime does not start without it
/// (`runtime/symtab.go`, `moduledataverify1`), while it does without the build information.
fn has_functions(executable: &mut Executable<'_>) -> bool {
    executable.segments_without_sections().into_iter().any(|part| {
        let mut at = 0;
        // Pieces overlap, so that the header of the table is whole in one of them.
        while let Some(piece) = executable.read_part(part, at, CHUNK + TABLE_HEADER) {
            if has_table_header(&piece) {
                return true;
            }
            if (piece.len() as u64) < CHUNK {
                return false;
            }
            at += CHUNK;
        }
        false
    })
}

/// Whether the header of a table of functions is in these bytes: a magic number, two zeros, the smallest size of an
/// instruction, and the size of a pointer.
fn has_table_header(bytes: &[u8]) -> bool {
    let is_header = |at: usize| matches!(bytes.get(at + 4..at + 8), Some([0, 0, 1 | 2 | 4, 4 | 8]));
    TABLES.iter().flat_map(|magic| [magic.to_le_bytes(), magic.to_be_bytes()]).any(|magic| {
        let magic = [&magic[..], &[0, 0]].concat();
        memmem::find_iter(bytes, &magic).any(is_header)
    })
}

/// The texts that follow the header, as Go writes them since 1.18: a length in a variable number of bytes, then the
/// text.
fn inline(executable: &mut Executable<'_>, address: u64) -> Option<PackagedTexts> {
    let header = executable.read_at_address(address, HEADER)?;
    if header.get(15)? & 2 == 0 {
        return None;
    }
    let (version, next) = counted_text(executable, address.checked_add(HEADER)?)?;
    let (modules, _) = counted_text(executable, next)?;
    (!version.is_empty()).then_some((version, modules))
}

/// The text at an address, and the address after it.
fn counted_text(executable: &mut Executable<'_>, address: u64) -> Option<(Vec<u8>, u64)> {
    let bytes = executable.read_at_address(address, 10)?;
    let (mut length, mut used) = (0u64, 0u64);
    for byte in bytes {
        length |= u64::from(byte & 0x7f).checked_shl(7 * u32::try_from(used).ok()?)?;
        used += 1;
        if byte & 0x80 == 0 {
            let start = address.checked_add(used)?;
            return Some((text(executable, start, length)?, start.checked_add(length)?));
        }
    }
    None
}

/// The texts to which the header points, as Go wrote them before 1.18.
fn by_pointers(executable: &mut Executable<'_>, address: u64) -> Option<PackagedTexts> {
    let header = executable.read_at_address(address, HEADER)?;
    let wide = match header.get(14)? {
        4 => false,
        8 => true,
        _ => return None,
    };
    let flags = header.get(15)?;
    if flags & 2 != 0 {
        return None;
    }
    let big_endian = flags & 1 != 0;
    let word = if wide { 8 } else { 4 };
    let mut pointed = |at: usize| {
        let pointer = Integers { bytes: &header, big_endian }.word(wide, at)?;
        let text_header = executable.read_at_address(pointer, 2 * word)?;
        let place = Integers { bytes: &text_header, big_endian };
        let word = usize::try_from(word).ok()?;
        text(executable, place.word(wide, 0)?, place.word(wide, word)?)
    };
    let version = pointed(16).filter(|version| !version.is_empty())?;
    // Programs that were built without modules have a null pointer here.
    let modules = pointed(16 + usize::try_from(word).ok()?).unwrap_or_default();
    Some((version, modules))
}

/// The text of `length` bytes at an address.
fn text(executable: &mut Executable<'_>, address: u64, length: u64) -> Option<Vec<u8>> {
    if length == 0 {
        return Some(Vec::new());
    }
    let bytes = executable.read_at_address(address, length.min(MAX_TEXT + 1))?;
    (bytes.len() as u64 == length).then_some(bytes)
}

/// The list of modules, without the 16 bytes before and after it by which Go finds it in memory. Programs that were
/// built without modules have no list.
fn unframed(modules: &[u8]) -> Option<&[u8]> {
    match modules {
        [] => Some(modules),
        _ if modules.len() < 33 || modules[modules.len() - 17] != b'\n' => None,
        _ => Some(&modules[16..modules.len() - 16]),
    }
}

/// Whether the text lists the modules that were compiled in. Builds without modules (`GO111MODULE=off`, as Debian
/// builds its packages and Docker its programs, and Bazel) contain those that were in the source directory, and list
/// none. Only the programs of the toolchain (`cmd/…`) are known to consist of the standard library.
fn states_modules(text: &str) -> bool {
    text.lines().any(|line| ["mod\t", "dep\t", "path\tcmd/"].iter().any(|start| line.starts_with(start)))
}

/// Adds the modules.
fn add_modules(path: &str, toolchain: &str, text: &str, found: &mut LanguagePackages) {
    let mut add = |module: &str, version: &str| found.add(Ecosystem::Go, module, version, &[], path);
    add("stdlib", &version::of_standard_library(toolchain));
    let mut main = None;
    let mut flags = "";
    // A replacement follows the module that it replaces.
    let mut pending: Option<(&str, &str)> = None;
    for line in text.lines() {
        let Some((kind, rest)) = line.split_once('\t') else { continue };
        let mut columns = rest.split('\t');
        let module = (columns.next().unwrap_or_default(), columns.next().unwrap_or_default());
        if kind != "=>"
            && let Some((module, version)) = pending.take()
        {
            add(module, version::released(version));
        }
        match kind {
            "mod" => main = Some(module),
            // Old versions of Go list the main module again, without a path.
            "dep" if !module.0.is_empty() => pending = Some(module),
            "=>" if pending.take().is_some() => add(module.0, version::released(module.1)),
            "build" => flags = rest.strip_prefix("-ldflags=").unwrap_or(flags),
            _ => {}
        }
    }
    if let Some((module, version)) = pending {
        add(module, version::released(version));
    }
    if let Some((module, version)) = main.filter(|(module, _)| !module.is_empty()) {
        add(module, &version::of_main_module(module, version::released(version), flags));
    }
}
