//! The scanner against Trivy, with a database of the same rows: both list the same packages, and the same vulnerabilities
//! with the same fix, status and severity.
//!
//! Scripts make the images and the rows, most of them at random, and run both programs. A difference that is not expected
//! fails the test. `docs/va.md` explains the expected ones ("Differences from Trivy"); the scripts name them, or leave out
//! what would cause them and say so.

use std::path::Path;

use crate::harness::{Program, program};

/// Runs a script, and returns how many packages and vulnerabilities are the same.
#[track_caller]
fn compare(script: &str, seed: Option<u32>) -> (usize, usize) {
    let project = Path::new(env!("CARGO_MANIFEST_DIR"));
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = format!("{}:{}", project.join(".tools/bin").display(), std::env::var("PATH").unwrap_or_default());
    let script = project.join("tests/interop/trivy").join(script);
    let output = Program::new("python3", dir.path())
        .env("HOME", std::env::var("HOME").unwrap_or_default())
        .env("PATH", path)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .args([script.as_os_str(), dir.path().join("work").as_os_str(), program().as_ref()])
        .args(seed.map(|seed| seed.to_string()))
        .run()
        .text();
    let counts: Vec<usize> = output.split(' ').filter_map(|word| word.parse().ok()).collect();
    let [packages, vulnerabilities] = counts[..] else { panic!("{output}") };
    (packages, vulnerabilities)
}

/// The seeds of random images; more with `--long`.
fn seeds(count: u32) -> std::ops::RangeInclusive<u32> {
    let times = if std::env::var_os("PULLGATE_LONG").is_some() { 5 } else { 1 };
    1..=count * times
}

#[test]
fn packages_are_those_of_trivy() {
    let (packages, _) = compare("packages.py", None);
    assert!(packages > 100, "{packages}");
}

#[test]
fn vulnerabilities_of_distributions_are_those_of_trivy() {
    for seed in seeds(2) {
        let (packages, vulnerabilities) = compare("distributions.py", Some(seed));
        assert!(packages > 1500 && vulnerabilities > 500, "seed {seed}: {packages}, {vulnerabilities}");
    }
}

#[test]
fn vulnerabilities_of_languages_are_those_of_trivy() {
    for seed in seeds(5) {
        let (packages, vulnerabilities) = compare("languages.py", Some(seed));
        assert!(packages > 500 && vulnerabilities > 200, "seed {seed}: {packages}, {vulnerabilities}");
    }
}
