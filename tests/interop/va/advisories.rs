//! Vulnerabilities of real packages, by the real records of OSV in `../shared/advisories`.

use std::fs;
use std::path::Path;

use super::{Lab, languages, system};

/// A script decides which records apply, with the versions ordered by pip's own library and by rpm: all of them are found,
/// each with all its identifiers, and no others.
#[test]
fn vulnerabilities_are_exactly_those_of_the_records() {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let records = project.join("../shared/advisories");
    if !records.is_dir() {
        eprintln!("note: no vulnerabilities compared, there is no ../shared/advisories");
        return;
    }
    let lab = Lab::new();
    for source in ["AlmaLinux", "Go", "PyPI"] {
        let zip = records.join(format!("{source}.zip"));
        lab.pullgate(&["db", "import", zip.to_str().expect("a path in UTF-8")]).bytes();
    }
    let (rpm, python, go) = (system::almalinux(&lab), languages::python(&lab), languages::go(&lab));
    let scan = lab.scan("vulnerable", &[&rpm, &python, &go]);
    scan.assert_complete();
    assert_eq!(scan.0["status"], "FAIL", "{}", scan.0["why"]);
    let answer = lab.dir.path().join("scan.json");
    fs::write(&answer, scan.0.to_string()).expect("the answer's file");
    let script = project.join("tests/interop/va/expected.py");
    let run = format!("python3 '{}' '{}' '{}'", script.display(), answer.display(), records.display());
    let compared = lab.shell(lab.dir.path(), &run);
    let counts: Vec<usize> = compared.split(' ').filter_map(|count| count.parse().ok()).collect();
    assert!(counts.len() == 3 && counts.iter().all(|count| *count > 10), "{compared}");
}
