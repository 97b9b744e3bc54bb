//! No real reader accepts as a tar what [`sniff`] does not: runs the readers themselves over archives in every form.
//!
//! Content that is proven not to be an archive is served where an image would be denied, so the proof must hold for
//! every reader that might unpack it.

#![allow(clippy::unwrap_used, reason = "a failure of the test itself may panic")]

mod corpus;

use std::io::Write as _;
use std::ops::Range;
use std::path::Path;
use std::process::{Command, Stdio};

use pullgate::oci::sniff;

/// For each case of the corpus, whether one reader accepts it as an archive.
type Answers = Vec<bool>;

/// Formats that the gate does not inspect, by the programs that write them.
const PACKERS: [&str; 3] = ["bzip2", "xz", "lz4"];
/// The number of archives compressed by each.
const PACKED: usize = 20;

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/readers");

#[test]
fn archives_accepted_by_any_reader_are_detected() {
    let mut cases = corpus::corpus();
    let packed: Vec<_> = PACKERS.iter().map(|packer| (*packer, pack(packer, &mut cases))).collect();
    let folder = tempfile::tempdir().unwrap();
    let mut readers: Vec<(&str, Answers)> =
        vec![("the tar crate", cases.iter().map(|case| crate_reads(case)).collect())];
    for (name, answers) in [
        ("go", go(&cases, folder.path())),
        ("python3", stream("python3", &[&format!("{HERE}/reader.py")], &cases)),
        ("tar", each("tar", &["--list", "--file"], &cases, folder.path())),
        ("bsdtar", each("bsdtar", &["-t", "-f"], &cases, folder.path())),
    ] {
        match answers {
            Some(answers) => readers.push((name, answers)),
            None => eprintln!("note: skipped the reader {name}, which is not installed"),
        }
    }
    let ours: Vec<bool> =
        cases.iter().map(|case| sniff::is_tar_like(&case[..case.len().min(sniff::SNIFF_LENGTH)])).collect();
    for (name, theirs) in &readers {
        assert_eq!(theirs.len(), cases.len(), "{name} did not judge every case");
        let read = theirs.iter().filter(|reads| **reads).count();
        assert!(
            read > 100 && read < cases.len() - 100,
            "{name} reads {read} of {}: the corpus is useless",
            cases.len()
        );
        for ((case, theirs), ours) in cases.iter().zip(theirs).zip(&ours) {
            assert!(!theirs || *ours, "{name} reads what the gate does not accept as a tar: {}", case.escape_ascii());
            let is_packed = !matches!(sniff::looks_like_archive(case), None | Some("tar"));
            assert!(!theirs || is_packed || sniff::holds_archive(case), "{name}: {}", case.escape_ascii());
        }
        println!("{name} reads {read} of {}", cases.len());
    }
    for (packer, range) in packed {
        let read = |answers: &Answers| answers[range.clone()].iter().any(|reads| *reads);
        assert!(readers.iter().any(|(_, answers)| read(answers)), "no reader reads archives compressed by {packer}");
    }
    let refused = ours.iter().filter(|is_tar| !**is_tar).count();
    assert!(refused > 200, "the gate rejects only {refused}: a check that accepts everything would pass");
}

/// Adds some of the archives, compressed by a program, and returns their range.
fn pack(program: &str, cases: &mut Vec<Vec<u8>>) -> Range<usize> {
    let start = cases.len();
    let archives: Vec<_> = cases.iter().filter(|case| crate_reads(case)).take(PACKED).cloned().collect();
    for archive in archives {
        let mut child = Command::new(program).arg("-c").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(&archive).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{program}");
        cases.push(output.stdout);
    }
    start..cases.len()
}

fn crate_reads(case: &[u8]) -> bool {
    let mut content = Vec::new();
    let read = match sniff::looks_like_archive(case) {
        Some("gzip") => std::io::Read::read_to_end(&mut flate2::read::MultiGzDecoder::new(case), &mut content).is_ok(),
        _ => false,
    };
    let content = if read { &content } else { case };
    tar::Archive::new(content).entries().unwrap().next().is_some_and(|entry| entry.is_ok())
}

/// Builds the Go program in this directory, which needs only the standard library.
fn go(cases: &[Vec<u8>], folder: &Path) -> Option<Answers> {
    let program = folder.join("reader");
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(&program).arg(".").current_dir(format!("{HERE}/go")).env("GOFLAGS", "-mod=mod");
    let built = build.env("GOPROXY", "off").env("GOTOOLCHAIN", "local").output().ok()?;
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    stream(program.to_str()?, &[], cases)
}

/// Runs one process for all cases.
fn stream(program: &str, arguments: &[&str], cases: &[Vec<u8>]) -> Option<Answers> {
    let mut child = Command::new(program).args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().ok()?;
    let mut input = child.stdin.take().unwrap();
    let answers = std::thread::scope(|scope| {
        scope.spawn(move || {
            for case in cases {
                input.write_all(&u32::try_from(case.len()).unwrap().to_be_bytes()).unwrap();
                input.write_all(case).unwrap();
            }
        });
        child.wait_with_output().unwrap()
    });
    assert!(answers.status.success(), "{program}");
    Some(answers.stdout.iter().map(|answer| *answer == 1).collect())
}

/// Runs one process per case, for programs that read one archive. Entries listed on standard output count, whatever
/// errors follow.
fn each(program: &str, arguments: &[&str], cases: &[Vec<u8>], folder: &Path) -> Option<Answers> {
    let file = folder.join("case");
    let reads = |case: &Vec<u8>| {
        std::fs::write(&file, case).unwrap();
        let listed = Command::new(program).args(arguments).arg(&file).stdin(Stdio::null()).output().ok()?;
        Some(!listed.stdout.is_empty())
    };
    cases.iter().map(reads).collect()
}
