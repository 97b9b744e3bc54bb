//! Programs with other segments than those that Go's linker writes.

use super::*;

/// A program with these segments in addition, in front of its own: flags, address, and size from the start of the file.
fn with_segments(mut program: Vec<u8>, own_flags: u32, segments: &[(u32, u64, u64)]) -> Vec<u8> {
    program.resize(program.len().next_multiple_of(8), 0);
    let table = program.len() as u64;
    program[68..72].copy_from_slice(&own_flags.to_le_bytes());
    let own = program[64..120].to_vec();
    for (flags, address, size) in segments {
        let place = [0, *address, *address, *size, *size, 1].map(u64::to_le_bytes).concat();
        program.extend([&1u32.to_le_bytes()[..], &flags.to_le_bytes(), &place].concat());
    }
    program.extend(own);
    program[32..40].copy_from_slice(&table.to_le_bytes());
    program[56..58].copy_from_slice(&(segments.len() as u16 + 1).to_le_bytes());
    program
}

/// The loader and `runtime/debug` find the build information in any segment.
#[test]
fn build_information_is_found_in_every_segment() {
    let program = elf(&[("data", inline_info("go1.22.1", MODULES))]);
    let mut stripped = program.clone();
    stripped[40..48].fill(0);
    stripped[60..62].fill(0);
    let (small, empty) = ((6, 0x30_0000, 1), (6, 0x31_0000, 0));
    for (what, program, flags, segments, expected) in [
        ("a small data segment in front", &stripped, 6, &[small, empty][..], &PACKAGES[..]),
        ("the same with sections of other names", &program, 6, &[small], &PACKAGES),
        ("no data segment", &stripped, 5, &[], &PACKAGES),
        ("a segment for everything", &stripped, 7, &[small], &PACKAGES),
        ("a segment that can be written and executed", &program, 7, &[small], &PACKAGES),
        ("a segment that is not data", &program, 5, &[small], &[]),
        (
            "segments that overlap",
            &stripped,
            6,
            &[(6, 0x30_0000, u64::MAX), (6, 0x31_0000, u64::MAX), (6, 0x32_0000, u64::MAX)],
            &["!"],
        ),
    ] {
        let found = names(&read("a", &with_segments(program.clone(), flags, segments)));
        assert_eq!(found, expected, "{what}");
    }
}

/// Each section would be searched up to the end of its segment.
#[test]
fn sections_that_overlap_are_a_problem() {
    let empty = (".go.buildinfo", vec![0; 16]);
    let mut program = elf(&[empty.clone(), empty, ("data", inline_info("go1.22.1", MODULES))]);
    assert_eq!(names(&read("a", &program)), PACKAGES);
    let table = u64::from_le_bytes(program[40..48].try_into().unwrap()) as usize;
    for row in [1, 2] {
        let size = table + 64 * row + 32;
        program[size..size + 8].fill(0xff);
    }
    assert_eq!(names(&read("a", &program)), ["!"]);
}

/// The loader maps segments in order, so that the last one of those with the same addresses counts.
#[test]
fn a_segment_with_the_same_addresses_hides_no_build_information() {
    let program = elf(&[("empty", vec![0; 4096]), ("data", inline_info("go1.22.1", MODULES))]);
    let own = u64::from_le_bytes(program[96..104].try_into().unwrap());
    // The addresses of the program's own segment, with other bytes of the file, where nothing is aligned.
    let mut covered = with_segments(program, 6, &[(6, Elf::BASE, own)]);
    let table = u64::from_le_bytes(covered[32..40].try_into().unwrap()) as usize;
    covered[table + 8..table + 16].copy_from_slice(&8u64.to_le_bytes());
    assert_eq!(names(&read("a", &covered)), PACKAGES);
}

/// Go's runtime does not start without its table of functions, but without the build information.
#[test]
fn a_go_program_without_section_headers_and_build_information_is_a_problem() {
    let table = |magic: [u8; 4], rest: [u8; 4]| [&[0; 40][..], &magic, &rest, &[0; 40]].concat();
    for (what, content, has_sections, expected) in [
        ("Go 1.20", table([0xf1, 0xff, 0xff, 0xff], [0, 0, 1, 8]), false, &["!"][..]),
        ("Go 1.18, another order", table([0xff, 0xff, 0xff, 0xf0], [0, 0, 4, 8]), false, &["!"]),
        ("Go 1.2 with 32 bits", table([0xfb, 0xff, 0xff, 0xff], [0, 0, 1, 4]), false, &["!"]),
        ("another number", table([0xf2, 0xff, 0xff, 0xff], [0, 0, 1, 8]), false, &[]),
        ("no sizes", table([0xf1, 0xff, 0xff, 0xff], [0, 0, 0, 0]), false, &[]),
        ("section headers", table([0xf1, 0xff, 0xff, 0xff], [0, 0, 1, 8]), true, &[]),
        (
            "between two pieces",
            [vec![0; (1 << 20) - 300], table([0xf1, 0xff, 0xff, 0xff], [0, 0, 1, 8])].concat(),
            false,
            &["!"],
        ),
    ] {
        let mut program = elf(&[("data", content)]);
        if !has_sections {
            program[40..48].fill(0);
            program[60..62].fill(0);
        }
        assert_eq!(names(&read("a", &with_segments(program, 5, &[]))), expected, "{what}");
    }
}
