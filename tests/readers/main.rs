//! No real reader takes for a tar what [`sniff`] does not: the readers themselves, over archives in every form.
//!
//! A proof that something is no archive lets it be served where an image would be denied, so the proof has to hold for
//! whoever unpacks it.

#![allow(clippy::unwrap_used, reason = "a failure of the test itself may panic")]

mod corpus;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};

use pullgate::oci::sniff;

/// Whether each case of the corpus is an archive to one reader.
type Answers = Vec<bool>;

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/readers");

#[test]
fn what_any_reader_takes_for_a_tar_is_one() {
    let cases = corpus::corpus();
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
            None => eprintln!("note: the reader {name} is left out, it is not there"),
        }
    }
    let ours: Vec<bool> =
        cases.iter().map(|case| sniff::is_tar_like(&case[..case.len().min(sniff::SNIFF_LENGTH)])).collect();
    for (name, theirs) in &readers {
        assert_eq!(theirs.len(), cases.len(), "{name} answers for each");
        let read = theirs.iter().filter(|reads| **reads).count();
        assert!(
            read > 100 && read < cases.len() - 100,
            "{name} reads {read} of {}: the corpus shows nothing",
            cases.len()
        );
        for ((case, theirs), ours) in cases.iter().zip(theirs).zip(&ours) {
            assert!(!theirs || *ours, "{name} reads what we take for no tar: {}", case.escape_ascii());
            let is_packed = matches!(sniff::looks_like_archive(case), Some("gzip" | "zstd"));
            assert!(!theirs || is_packed || sniff::holds_archive(case), "{name}: {}", case.escape_ascii());
        }
        println!("{name} reads {read} of {}", cases.len());
    }
    let refused = ours.iter().filter(|is_tar| !**is_tar).count();
    assert!(refused > 200, "only {refused} are no tar to us: a test that says yes to all would pass");
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

/// Builds the program of this folder, which needs the standard library alone.
fn go(cases: &[Vec<u8>], folder: &Path) -> Option<Answers> {
    let program = folder.join("reader");
    let mut build = Command::new("go");
    build.args(["build", "-o"]).arg(&program).arg(".").current_dir(format!("{HERE}/go")).env("GOFLAGS", "-mod=mod");
    let built = build.env("GOPROXY", "off").env("GOTOOLCHAIN", "local").output().ok()?;
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    stream(program.to_str()?, &[], cases)
}

/// One process for all of them.
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

/// One process for each, because these read one archive; what they list on standard output counts, whatever they say of
/// the rest.
fn each(program: &str, arguments: &[&str], cases: &[Vec<u8>], folder: &Path) -> Option<Answers> {
    let file = folder.join("case");
    let reads = |case: &Vec<u8>| {
        std::fs::write(&file, case).unwrap();
        let listed = Command::new(program).args(arguments).arg(&file).stdin(Stdio::null()).output().ok()?;
        Some(!listed.stdout.is_empty())
    };
    cases.iter().map(reads).collect()
}
