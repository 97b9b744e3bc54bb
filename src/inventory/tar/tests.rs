use std::io::Write as _;
use std::process::{Command, Stdio};

use super::*;

/// A header with the given fields and a correct checksum.
fn header(kind: u8, name: &[u8], link: &[u8], size: usize, change: impl Fn(&mut [u8; BLOCK])) -> Vec<u8> {
    let mut block = [0; BLOCK];
    block[..name.len()].copy_from_slice(name);
    block[100..107].copy_from_slice(b"0000755");
    block[108..115].copy_from_slice(b"0000000");
    block[116..123].copy_from_slice(b"0000000");
    block[124..135].copy_from_slice(format!("{size:011o}").as_bytes());
    block[136..147].copy_from_slice(b"00000000000");
    block[156] = kind;
    block[157..157 + link.len()].copy_from_slice(link);
    block[257..265].copy_from_slice(b"ustar\x0000");
    change(&mut block);
    seal(&mut block);
    block.to_vec()
}

fn seal(block: &mut [u8]) {
    block[148..156].copy_from_slice(b"        ");
    let sum: u32 = block[..BLOCK].iter().map(|byte| u32::from(*byte)).sum();
    block[148..155].copy_from_slice(format!("{sum:06o}\0").as_bytes());
}

fn member(kind: u8, name: &[u8], link: &[u8], content: &[u8]) -> Vec<u8> {
    let mut bytes = header(kind, name, link, content.len(), |_| {});
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(BLOCK), 0);
    bytes
}

fn pax(records: &[(&str, &str)]) -> Vec<u8> {
    let mut content = Vec::new();
    for (key, value) in records {
        let rest = key.len() + value.len() + 3;
        let length = (rest + 1..).find(|length| length - rest == length.to_string().len()).unwrap();
        content.extend_from_slice(format!("{length} {key}={value}\n").as_bytes());
    }
    member(b'x', b"pax", b"", &content)
}

const END: [u8; 1024] = [0; 1024];

/// The entries, each with its content, and how reading ends.
fn read(bytes: &[u8]) -> (Vec<String>, Result<bool, String>) {
    let (mut archive, mut lines) = (Archive::new(bytes), Vec::new());
    loop {
        match archive.next() {
            Ok(Some(entry)) => {
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let mut content = String::new();
                if let Err(error) = archive.read_to_string(&mut content) {
                    return (lines, Err(error.to_string()));
                }
                let doubt = entry.doubt.map_or("", |_| " ?");
                lines.push(format!("{:?} {} {} {content}{doubt}", entry.kind, text(&entry.path), text(&entry.link)));
            }
            Ok(None) => return (lines, archive.has_more().map_err(|error| error.to_string())),
            Err(error) => return (lines, Err(error.to_string())),
        }
    }
}

#[test]
fn entries_are_read_as_go_reads_them() {
    let file = member(b'0', b"a", b"", b"text");
    let long = |kind, name: &[u8]| member(kind, b"././@LongLink", b"", name);
    for (what, parts, wanted) in [
        ("a file", vec![file.clone()], vec!["File a  text"]),
        (
            "a prefix",
            vec![header(b'0', b"a", b"", 0, |block| block[345..348].copy_from_slice(b"etc"))],
            vec!["File etc/a  "],
        ),
        ("a directory of old archives", vec![member(0, b"a/", b"", b"")], vec!["Directory a/  "]),
        ("a symbolic link", vec![member(b'2', b"a", b"b", b"")], vec!["Symlink a b "]),
        ("a long name", vec![long(b'L', b"long\0"), file.clone()], vec!["File long  text"]),
        ("a long link", vec![long(b'K', b"long\0"), member(b'1', b"a", b"b", b"")], vec!["HardLink a long "]),
        ("a PAX path", vec![pax(&[("path", "long")]), file.clone()], vec!["File long  text"]),
        ("an empty PAX path", vec![pax(&[("path", "")]), file.clone()], vec!["File a  text"]),
        ("two PAX paths", vec![pax(&[("path", "b"), ("path", "c")]), file.clone()], vec!["File c  text"]),
        ("a PAX size", vec![pax(&[("size", "2")]), file.clone()], vec!["File a  te"]),
        (
            "two PAX headers",
            vec![pax(&[("path", "b")]), pax(&[("mtime", "1.5")]), file.clone()],
            vec!["File a  text ?"],
        ),
        ("two long names", vec![long(b'L', b"b"), long(b'L', b"c"), file.clone()], vec!["File c  text ?"]),
        ("both forms", vec![long(b'L', b"b"), pax(&[("path", "c")]), file.clone()], vec!["File b  text ?"]),
        ("a file like a directory", vec![member(b'0', b"a/", b"", b"")], vec!["File a/   ?"]),
        (
            "a global header that is a comment",
            vec![member(b'g', b"g", b"", b"13 comment=x\n"), file.clone()],
            vec!["Global g  ", "File a  text"],
        ),
        (
            "a global header with a path",
            vec![member(b'g', b"g", b"", b"10 path=x\n"), file.clone()],
            vec!["Global g   ?", "File a  text"],
        ),
        (
            "a size in base 256",
            vec![
                header(b'0', b"a", b"", 0, |block| {
                    block[124..136].copy_from_slice(b"\x80\0\0\0\0\0\0\0\0\0\0\x04");
                }),
                b"text".to_vec(),
                vec![0; BLOCK - 4],
            ],
            vec!["File a  text"],
        ),
    ] {
        let whole = [parts.concat(), END.to_vec()].concat();
        assert_eq!(read(&whole), (wanted.iter().map(|line| (*line).to_owned()).collect(), Ok(false)), "{what}");
    }
    assert_eq!(read(&file).1, Ok(false), "the end marker may be missing");
    assert_eq!(read(&[&file[..], &END, &END, &[7; 600]].concat()).1, Ok(false), "what follows is not an archive");
    assert_eq!(read(&[&file[..], &END, &file].concat()).1, Ok(true), "another archive follows");
}

#[test]
fn archives_that_go_rejects_are_errors() {
    let file = member(b'0', b"a", b"", b"text");
    for (what, bytes) in [
        ("an archive that ends within a file", file[..BLOCK + 2].to_vec()),
        ("an archive that ends within a header", [&file[..], &file[..100]].concat()),
        ("a lone zero block", [&file[..], &END[..BLOCK], &file].concat()),
        (
            "a wrong checksum",
            header(b'0', b"a", b"", 0, |_| {})
                .into_iter()
                .enumerate()
                .map(|(at, byte)| if at == 0 { b'b' } else { byte })
                .collect(),
        ),
        ("a PAX path with a NUL", [pax(&[("path", "a\0b")]), file.clone()].concat()),
        ("a PAX size that is not a number", [pax(&[("size", "2x")]), file.clone()].concat()),
        ("a negative PAX size", [pax(&[("size", "-2")]), file.clone()].concat()),
        ("a PAX time that is not a number", [pax(&[("mtime", "today")]), file.clone()].concat()),
        ("a PAX record without end", [member(b'x', b"x", b"", b"99 path=a\n"), file.clone()].concat()),
        ("a sparse file of old GNU tar", member(b'S', b"a", b"", b"")),
        ("a contiguous file", member(b'7', b"a", b"", b"")),
        ("an owner that is not a number", header(b'0', b"a", b"", 0, |block| block[108] = b'x')),
    ] {
        assert!(read(&bytes).1.is_err(), "{what}");
    }
}

#[test]
fn sparse_files_keep_their_name_and_are_marked() {
    let map = pax(&[
        ("GNU.sparse.major", "1"),
        ("GNU.sparse.minor", "0"),
        ("GNU.sparse.name", "real"),
        ("GNU.sparse.realsize", "9"),
    ]);
    let bytes = [map, member(b'0', b"GNUSparseFile.0/real", b"", b"0\n"), END.to_vec()].concat();
    let mut archive = Archive::new(&bytes[..]);
    let entry = archive.next().unwrap().unwrap();
    assert_eq!((&*entry.path, entry.is_sparse), (&b"real"[..], true));
    assert!(archive.next().unwrap().is_none());
}

/// A simple generator of numbers: the same archives in each run.
struct Noise(u64);

impl Noise {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).unwrap() % limit
    }
}

/// Archives in all forms, most of them damaged in one place.
fn archives() -> Vec<Vec<u8>> {
    let mut noise = Noise(1);
    let parts: Vec<Vec<u8>> = vec![
        member(b'0', b"etc/os-release", b"", b"ID=debian\n"),
        member(0, b"usr/", b"", b""),
        member(0, b"usr/x", b"", &[b'x'; 700]),
        member(b'1', b"a", b"etc/os-release", b""),
        member(b'2', b"lib", b"usr/lib", b""),
        member(b'5', b"var/", b"", b""),
        member(b'L', b"././@LongLink", b"", &[b'n'; 150]),
        member(b'K', b"././@LongLink", b"", &[b'l'; 150]),
        member(b'g', b"pax_global_header", b"", b"13 comment=x\n"),
        pax(&[("path", "renamed")]),
        pax(&[("size", "4"), ("linkpath", "there")]),
        pax(&[("mtime", "1.25"), ("uid", "7"), ("SCHILY.xattr.user.x", "y")]),
        pax(&[
            ("GNU.sparse.major", "1"),
            ("GNU.sparse.minor", "0"),
            ("GNU.sparse.name", "s"),
            ("GNU.sparse.realsize", "0"),
        ]),
        member(b'0', b"map", b"", b"0\n"),
        pax(&[("GNU.sparse.numblocks", "0"), ("GNU.sparse.map", ""), ("GNU.sparse.size", "0")]),
        header(b'0', b"gnu", b"", 0, |block| block[257..265].copy_from_slice(b"ustar  \0")),
        header(b'0', b"star", b"", 0, |block| block[508..512].copy_from_slice(b"tar\0")),
        header(b'0', b"v7", b"", 0, |block| block[257..265].fill(0)),
        vec![0; BLOCK],
        END.to_vec(),
    ];
    let mut archives = Vec::new();
    for _ in 0..6000 {
        let count = 1 + noise.below(5);
        let mut bytes: Vec<u8> = (0..count).flat_map(|_| parts[noise.below(parts.len())].clone()).collect();
        for _ in 0..noise.below(3) {
            let at = noise.below(bytes.len());
            // Mostly in fields that have a meaning.
            let block = at / BLOCK * BLOCK;
            let field = [
                at % BLOCK,
                noise.below(BLOCK),
                124 + noise.below(12),
                156,
                257 + noise.below(8),
                345 + noise.below(24),
            ];
            let place = (block + field[noise.below(field.len())]).min(bytes.len() - 1);
            bytes[place] = [0, b' ', b'0', b'7', b'x', b'/', 0x80, 0xff, b'\n', b'='][noise.below(10)];
            if noise.below(4) > 0 && bytes.len() >= block + BLOCK {
                seal(&mut bytes[block..block + BLOCK]);
            }
        }
        if noise.below(8) == 0 {
            bytes.truncate(noise.below(bytes.len() + 1));
        }
        archives.push(bytes);
    }
    archives
}

/// What Go reads from each archive.
fn go(archives: &[Vec<u8>]) -> Option<Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let program = folder.path().join("entries");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/readers/entries");
    let mut build = Command::new("go");
    build
        .args(["build", "-o"])
        .arg(&program)
        .arg(".")
        .current_dir(source)
        .env("GOPROXY", "off")
        .env("GOTOOLCHAIN", "local");
    let built = build.output().ok()?;
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let mut child = Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let output = std::thread::scope(|scope| {
        scope.spawn(move || {
            for archive in archives {
                input.write_all(&u32::try_from(archive.len()).unwrap().to_be_bytes()).unwrap();
                input.write_all(archive).unwrap();
            }
        });
        child.wait_with_output().unwrap()
    });
    let (mut rest, mut answers) = (&output.stdout[..], Vec::new());
    while let Some((length, tail)) = rest.split_first_chunk() {
        let (answer, tail) = tail.split_at(usize::try_from(u32::from_be_bytes(*length)).unwrap());
        answers.push(String::from_utf8(answer.to_vec()).unwrap());
        rest = tail;
    }
    Some(answers)
}

/// The entries in the form of the Go program, whether reading ended well, and whether there is a doubt.
fn ours(bytes: &[u8]) -> (Vec<String>, bool, bool) {
    let (mut archive, mut lines, mut doubt) = (Archive::new(bytes), Vec::new(), false);
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    loop {
        match archive.next() {
            Ok(Some(entry)) => {
                doubt |= entry.doubt.is_some() || entry.is_sparse;
                let kind = match entry.kind {
                    EntryKind::File => '0',
                    EntryKind::HardLink => '1',
                    EntryKind::Symlink => '2',
                    EntryKind::Directory => '5',
                    EntryKind::Device | EntryKind::Pipe => '3',
                    EntryKind::Global => 'g',
                };
                let link = if matches!(kind, '1' | '2') { hex(&entry.link) } else { String::new() };
                lines.push(format!("{kind} {} {link}", hex(&entry.path)));
            }
            Ok(None) => return (lines, true, doubt),
            Err(_) => return (lines, false, doubt),
        }
    }
}

/// On thousands of archives, where Go is installed: the same entries in the same order. Where Go fails, so does this
/// reader, or it has a doubt.
#[test]
fn archives_are_read_exactly_as_by_go() {
    let archives = archives();
    let Some(theirs) = go(&archives) else { return };
    assert_eq!(theirs.len(), archives.len());
    let (mut whole, mut failed) = (0, 0);
    for (archive, answer) in archives.iter().zip(&theirs) {
        let mut answer: Vec<String> = answer.lines().map(without_device_kinds).collect();
        let goes_well = answer.pop().unwrap() == "end";
        let (entries, ends_well, doubt) = ours(archive);
        let shown = || archive.escape_ascii().to_string().replace("\\x00", "");
        let same = entries.iter().zip(&answer).all(|(ours, theirs)| ours == theirs);
        assert!(same, "{entries:?}\n{answer:?}\n{}", shown());
        if goes_well && ends_well {
            assert_eq!(entries.len(), answer.len(), "{}", shown());
            whole += 1;
        } else if goes_well {
            // A kind of file that runtimes do not unpack.
            assert!(entries.len() <= answer.len(), "{}", shown());
        } else {
            assert!(!ends_well || doubt, "Go fails: {}", shown());
            failed += 1;
        }
    }
    assert!(whole > 1000 && failed > 1000, "{whole} are read, {failed} are not: the corpus is useless");
}

/// Devices and pipes are of one kind here.
fn without_device_kinds(line: &str) -> String {
    match line.strip_prefix(['4', '6']) {
        Some(rest) => format!("3{rest}"),
        None => line.to_owned(),
    }
}
