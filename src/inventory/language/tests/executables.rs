//! Executables: written here section by section, with every kind of damage.

mod segments;

use std::io::Write;

use super::*;

/// An ELF program with the given sections, all loaded at 0x400000 plus their offset in the file.
pub(super) struct Elf<'a> {
    pub(super) wide: bool,
    pub(super) big_endian: bool,
    pub(super) sections: &'a [(&'a str, Vec<u8>)],
}

impl Elf<'_> {
    pub(super) const BASE: u64 = 0x40_0000;
    /// The offset of the first section in the file.
    pub(super) const FIRST: usize = 256;

    fn bytes(&self, value: u64, length: usize) -> Vec<u8> {
        let bytes = value.to_be_bytes()[8 - length..].to_vec();
        if self.big_endian { bytes } else { bytes.into_iter().rev().collect() }
    }

    pub(super) fn build(&self) -> Vec<u8> {
        let word = if self.wide { 8 } else { 4 };
        let mut file = vec![0; Self::FIRST];
        let mut names = vec![0];
        let mut rows = vec![(0, 0, 0)];
        for (name, content) in self.sections {
            file.resize(file.len().next_multiple_of(16), 0);
            rows.push((names.len(), file.len(), content.len()));
            file.extend(content);
            names.extend(name.bytes().chain([0]));
        }
        rows.push((0, file.len(), names.len()));
        file.extend(&names);
        let loaded = file.len();
        file.resize(file.len().next_multiple_of(16), 0);
        let table = file.len();
        for (name, offset, size) in &rows {
            let mut row = [self.bytes(*name as u64, 4), self.bytes(1, 4), self.bytes(0, word)].concat();
            row.extend(self.bytes(Self::BASE + *offset as u64, word));
            row.extend(self.bytes(*offset as u64, word));
            row.extend(self.bytes(*size as u64, word));
            row.resize(if self.wide { 64 } else { 40 }, 0);
            file.extend(row);
        }
        let mut header = b"\x7fELF".to_vec();
        header.extend([1 + u8::from(self.wide), 1 + u8::from(self.big_endian), 1]);
        header.resize(16, 0);
        header.extend([self.bytes(2, 2), self.bytes(62, 2), self.bytes(1, 4), self.bytes(0, word)].concat());
        let segments_at = if self.wide { 64 } else { 52 };
        header.extend([self.bytes(segments_at, word), self.bytes(table as u64, word), self.bytes(0, 4)].concat());
        let (segment, section) = if self.wide { (56, 64) } else { (32, 40) };
        for half in [segments_at, segment, 1, section, rows.len() as u64, rows.len() as u64 - 1] {
            header.extend(self.bytes(half, 2));
        }
        let flags = self.bytes(6, 4);
        let place = [0, Self::BASE, Self::BASE, loaded as u64, loaded as u64].map(|value| self.bytes(value, word));
        let kind = self.bytes(1, 4);
        header.extend(if self.wide {
            [kind, flags, place.concat(), self.bytes(0, word)].concat()
        } else {
            [kind, place.concat(), flags, self.bytes(0, word)].concat()
        });
        file[..header.len()].copy_from_slice(&header);
        file
    }
}

const MODULES: &str = "path\texample.com/a/cmd/a\nmod\texample.com/a\t(devel)\t\n\
    dep\tgolang.org/x/net\tv0.1.0\th1:x=\ndep\texample.com/old\tv1.0.0\n=>\texample.com/new\tv1.2.0\th1:y=\n\
    dep\texample.com/local\tv0.0.0\n=>\t./local\t(devel)\t\ndep\t\tv1\n\
    build\t-ldflags=\"-s -w -X main.version=1.5.0 -X 'main.commit=abc def'\"\nbuild\tCGO_ENABLED=0\n";

const PACKAGES: [&str; 5] =
    ["stdlib v1.22.1", "golang.org/x/net v0.1.0", "example.com/new v1.2.0", "./local ", "example.com/a 1.5.0"];

fn framed(modules: &str) -> Vec<u8> {
    let frame = [0xf9; 16];
    [frame.as_slice(), modules.as_bytes(), &frame].concat()
}

fn counted(text: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut length = text.len();
    while length > 0x7f {
        bytes.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    bytes.push(length as u8);
    bytes.extend(text);
    bytes
}

/// Build information as Go writes it since 1.18.
fn inline_info(version: &str, modules: &str) -> Vec<u8> {
    let mut info = b"\xff Go buildinf:\x08\x02".to_vec();
    info.resize(32, 0);
    info.extend(counted(version.as_bytes()));
    info.extend(counted(&framed(modules)));
    info
}

/// Build information as Go wrote it before, for a section that is the first of an [`Elf`].
fn info_with_pointers(elf: &Elf<'_>, version: &str, modules: &str) -> Vec<u8> {
    let word = if elf.wide { 8 } else { 4 };
    let start = Elf::BASE + Elf::FIRST as u64;
    let modules = framed(modules);
    let mut info = b"\xff Go buildinf:".to_vec();
    info.extend([word as u8, u8::from(elf.big_endian)]);
    let headers = start + 32;
    let texts = headers + 4 * word as u64;
    info.extend(elf.bytes(headers, word));
    info.extend(elf.bytes(headers + 2 * word as u64, word));
    info.resize(32, 0);
    info.extend(elf.bytes(texts, word));
    info.extend(elf.bytes(version.len() as u64, word));
    info.extend(elf.bytes(texts + version.len() as u64, word));
    info.extend(elf.bytes(modules.len() as u64, word));
    info.extend(version.bytes().chain(modules));
    info
}

fn zlib(content: &[u8]) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
    encoder.write_all(content).expect("memory");
    encoder.finish().expect("memory")
}

pub(super) fn elf(sections: &[(&str, Vec<u8>)]) -> Vec<u8> {
    Elf { wide: true, big_endian: false, sections }.build()
}

#[test]
fn modules_of_go_programs_are_read_in_every_word_size_and_byte_order() {
    for (wide, big_endian) in [(false, false), (false, true), (true, false), (true, true)] {
        let empty = Elf { wide, big_endian, sections: &[] };
        for info in [inline_info("go1.22.1", MODULES), info_with_pointers(&empty, "go1.22.1", MODULES)] {
            let file = Elf { sections: &[(".go.buildinfo", info)], ..empty }.build();
            let found = read("usr/bin/a", &file);
            assert_eq!(names(&found), PACKAGES, "wide: {wide}, big endian: {big_endian}");
            assert_eq!(found.packages[0].path.as_deref(), Some("usr/bin/a"));
        }
    }
}

#[test]
fn build_information_is_found_without_section_headers() {
    let mut file = elf(&[("data", vec![0; 3 << 20]), ("more", inline_info("go1.22.1", MODULES))]);
    assert_eq!(names(&read("a", &file)), PACKAGES);
    // e_shoff and e_shnum
    file[40..48].fill(0);
    file[60..62].fill(0);
    assert_eq!(names(&read("a", &file)), PACKAGES);
}

#[test]
fn a_go_program_without_readable_build_information_is_a_problem() {
    let removed = elf(&[(".note.go.buildid", vec![1; 64])]);
    assert_eq!(names(&read("a", &removed)), ["!"]);
    let overwritten = elf(&[(".go.buildinfo", vec![0; 64])]);
    assert_eq!(names(&read("a", &overwritten)), ["!"]);
    let mut too_long = inline_info("go1.22.1", MODULES);
    too_long[32] = 0xff;
    assert_eq!(names(&read("a", &elf(&[(".go.buildinfo", too_long)]))), ["!"]);
    let mut unframed = inline_info("go1.22.1", MODULES);
    unframed.truncate(unframed.len() - 1);
    let length = unframed.len();
    unframed[32 + 9] -= 1;
    assert_eq!(names(&read("a", &elf(&[(".go.buildinfo", unframed[..length].to_vec())]))), ["!"]);
    // Programs that were built without modules state the toolchain alone, and may contain any.
    let mut without_modules = inline_info("go1.22.1", "");
    without_modules.truncate(32 + 9);
    without_modules.push(0);
    assert_eq!(names(&read("a", &elf(&[(".go.buildinfo", without_modules)]))), ["stdlib v1.22.1", "!"]);
}

/// Debian, Bazel and Docker build without modules: the program contains what was in the source directory.
#[test]
fn a_go_program_that_lists_no_modules_is_a_problem_unless_it_is_a_tool_of_go() {
    for (modules, expected) in [
        ("path\tgithub.com/docker/cli/cmd/docker\nbuild\t-compiler=gc\n", &["stdlib v1.22.1", "!"][..]),
        ("path\tcommand-line-arguments\nbuild\tCGO_ENABLED=0\n", &["stdlib v1.22.1", "!"]),
        ("build\t-compiler=gc\n", &["stdlib v1.22.1", "!"]),
        ("path\tcmd/go\nbuild\t-compiler=gc\n", &["stdlib v1.22.1"]),
        ("path\texample.com/a\nmod\texample.com/a\tv1.0.0\t\n", &["stdlib v1.22.1", "example.com/a v1.0.0"]),
    ] {
        let found = read("app", &elf(&[(".go.buildinfo", inline_info("go1.22.1", modules))]));
        assert_eq!(names(&found), expected, "{modules}");
    }
}

#[test]
fn a_program_is_read_whatever_its_name() {
    let program = elf(&[(".go.buildinfo", inline_info("go1.22.1", MODULES))]);
    for path in [
        "opt/x/package.json",
        "vendor/composer/installed.json",
        "x.egg-info",
        "x-1.dist-info/METADATA",
        "x.jar",
        "x.pyz",
        "specifications/x-1.gemspec",
        "x.deps.json",
    ] {
        let found = names(&read(path, &program));
        for package in PACKAGES {
            assert!(found.iter().any(|name| name == package), "{path}: {found:?}");
        }
    }
    // A text that starts as a program for Windows does is read as a text, too.
    let metadata = b"MZ: x\nName: six\nVersion: 1.16.0\n";
    assert_eq!(names(&read("six-1.16.0.dist-info/METADATA", metadata)), ["six 1.16.0"]);
}

#[test]
fn versions_of_the_toolchain_and_of_main_modules() {
    for (toolchain, module, flags, expected) in [
        ("go1.26.1-X:jsonv2", "(devel)", "", ["stdlib v1.26.1", "a.com/a "]),
        ("go1.22.1 X:boringcrypto", "v1.2.3", "-X main.version=v9.9.9", ["stdlib v1.22.1", "a.com/a v1.2.3"]),
        ("go1.22.1 (Red Hat 1.22.1-1.el9)", "(devel)", "-X a.com/a/cmd/x.ver=v2", ["stdlib v1.22.1", "a.com/a v2"]),
        (
            "devel go1.23-0123456789 Mon",
            "v0.0.0-20240101000000-0123456789ab",
            "-X=main.Version=1.0",
            ["stdlib vdevel", "a.com/a 1.0"],
        ),
        (
            "go1.20",
            "v0.0.0-20240101000000-0123456789ab",
            "",
            ["stdlib v1.20", "a.com/a v0.0.0-20240101000000-0123456789ab"],
        ),
        // Two versions of the same rank: none counts.
        ("go1.20", "(devel)", "-X main.version=1.0.0 -X b.com/version.Version=2.0.0", ["stdlib v1.20", "a.com/a "]),
        (
            "go1.20",
            "(devel)",
            "-X main.version=abc -X b.com/c.version=2.0.0-rc.1",
            ["stdlib v1.20", "a.com/a 2.0.0-rc.1"],
        ),
    ] {
        let modules = format!("path\ta.com/a\nmod\ta.com/a\t{module}\t\nbuild\t-ldflags={flags:?}\n");
        let file = elf(&[(".go.buildinfo", inline_info(toolchain, &modules))]);
        assert_eq!(names(&read("a", &file)), expected, "{toolchain} {module} {flags}");
    }
}

const CRATES: &str = r#"{"packages": [
    {"name": "a", "version": "0.1.0", "source": "local", "root": true, "dependencies": [1]},
    {"name": "b", "version": "1.0.0", "source": "crates.io", "kind": "runtime"},
    {"name": "c", "version": "2.0.0", "source": "crates.io", "kind": "build"}]}"#;

#[test]
fn crates_of_auditable_rust_programs_are_read() {
    let found = read("a", &elf(&[(".dep-v0", zlib(CRATES.as_bytes()))]));
    assert_eq!(names(&found), ["a 0.1.0", "b 1.0.0"]);
    assert_eq!(found.packages[0].ecosystem, Ecosystem::Cargo);
    for damaged in
        [zlib(b"{"), b"no zlib".to_vec(), zlib(&vec![b' '; 17 << 20]), zlib(CRATES.as_bytes())[..99].to_vec()]
    {
        assert_eq!(names(&read("a", &elf(&[(".dep-v0", damaged)]))), ["!"]);
    }
    let both = elf(&[(".dep-v0", zlib(b"{")), (".go.buildinfo", inline_info("go1.22.1", MODULES))]);
    assert_eq!(names(&read("a", &both)), [PACKAGES.as_slice(), &["!"]].concat(), "one does not hide the other");
}

#[test]
fn executables_are_recognised_by_their_bytes() {
    let program = elf(&[]);
    assert_eq!(language_file("lib/libx.so", &program), Some(LanguageFile::Executable));
    let mut object = program.clone();
    object[16] = 1;
    assert_eq!(language_file("a.o", &object), None);
    let class = b"\xca\xfe\xba\xbe\x00\x00\x00\x34";
    assert_eq!(language_file("A.class", class), None);
    assert_eq!(language_file("a", b"\xca\xfe\xba\xbe\x00\x00\x00\x02"), Some(LanguageFile::Executable));
    assert_eq!(language_file("run", b"#!/bin/sh"), Some(LanguageFile::Archive), "an archive may follow");
}

#[test]
fn a_packed_executable_is_a_problem() {
    let mut packed = elf(&[]);
    packed[40..48].fill(0);
    packed[60..62].fill(0);
    packed[200..204].copy_from_slice(b"UPX!");
    assert_eq!(names(&read("a", &packed)), ["!"]);
}

#[test]
fn programs_that_unpack_themselves_are_problems() {
    let program = elf(&[]);
    let mut image = program.clone();
    image[8..11].copy_from_slice(b"AI\x02");
    let archive = [&program[..], &[b'x'; 500], b"MEI\x0c\x0b\x0a\x0b\x0e", &[0; 80]].concat();
    for (path, content) in
        [("app", &image[..]), ("app", &archive), ("usr/bin/tool", b"#!/bin/sh\nskip=44\nset -e\n\x1f\x8b\x08")]
    {
        assert_eq!(names(&read(path, content)), ["!"], "{content:?}");
    }
    assert_eq!(names(&read("app", &program)), [""; 0]);
    assert_eq!(names(&read("usr/bin/tool", b"#!/bin/sh\nexit 0\n")), [""; 0]);
}

#[test]
fn headers_that_lie_about_sizes_and_offsets_are_problems() {
    let file = elf(&[(".dep-v0", zlib(CRATES.as_bytes()))]);
    let table = usize::try_from(u64::from_le_bytes(file[40..48].try_into().expect("8 bytes"))).expect("small");
    for (what, at, value) in [
        ("section headers outside of the file", 40, u64::MAX - 8),
        ("a section that goes on after the end", table + 64 + 32, 1 << 20),
        ("a section of almost 2^64 bytes", table + 64 + 32, u64::MAX - 10),
        ("a section at almost 2^64", table + 64 + 24, u64::MAX - 10),
        ("names outside of the file", table + 128 + 24, u64::MAX - 10),
        ("names of almost 2^64 bytes", table + 128 + 32, u64::MAX - 10),
    ] {
        let mut damaged = file.clone();
        damaged[at..at + 8].copy_from_slice(&value.to_le_bytes());
        assert_eq!(names(&read("a", &damaged)), ["!"], "{what}");
    }
    let mut many = file.clone();
    many[60..62].fill(0);
    many[table + 32..table + 40].copy_from_slice(&(1u64 << 40).to_le_bytes());
    assert_eq!(names(&read("a", &many)), ["!"], "2^40 sections");
}

/// Flips every byte, and cuts the file at every length: nothing panics, and what is found stays bounded.
#[test]
fn no_damage_panics() {
    let sections = [
        (".go.buildinfo", inline_info("go1.22.1", MODULES)),
        (".dep-v0", zlib(CRATES.as_bytes())),
        (".note.go.buildid", vec![0; 8]),
    ];
    for (wide, big_endian) in [(true, false), (false, true)] {
        let file = Elf { wide, big_endian, sections: &sections }.build();
        for at in 0..file.len() {
            for mask in [0xff, 0x80, 0x01] {
                let mut damaged = file.clone();
                damaged[at] ^= mask;
                let found = read_as(LanguageFile::Executable, "a", &damaged, Path::new("/"));
                assert!(found.packages.len() <= 16);
            }
            read_as(LanguageFile::Executable, "a", &file[..at], Path::new("/"));
        }
    }
}

/// Linux runs such a program.
#[test]
fn the_stated_width_and_byte_order_of_a_program_do_not_matter() {
    for (wide, big_endian) in [(true, false), (false, false), (true, true)] {
        let sections = [(".go.buildinfo", inline_info("go1.22.1", MODULES))];
        let program = Elf { wide, big_endian, sections: &sections }.build();
        for (at, value) in [(4, 0), (4, 1), (4, 2), (5, 0), (5, 1), (5, 2)] {
            let mut changed = program.clone();
            changed[at] = value;
            assert_eq!(names(&read("a", &changed)), PACKAGES, "byte {at} is {value}");
        }
    }
    let mut double = Elf { wide: true, big_endian: false, sections: &[] }.build();
    double[42..46].copy_from_slice(&[32, 0, 1, 0]);
    assert_eq!(names(&read("a", &double)), ["!"], "a header for two widths");
}
