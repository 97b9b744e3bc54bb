use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use jiff::Timestamp;
use proptest::prelude::*;
use serde_json::{Value, json};

use super::document::{ReportFile, parse};
use super::*;
use crate::policy::{Issue, IssueKind, Report, Severity};
use vex_files::{open_vex, vex};

const TRIVY: &str = include_str!("../../../tests/data/va/trivy.json");
const TRIVY_CLEAN: &str = include_str!("../../../tests/data/va/trivy-clean.json");
const GRYPE: &str = include_str!("../../../tests/data/va/grype.json");
const VDR: &str = include_str!("../../../tests/data/va/cyclonedx-vdr.json");
const VEX: &str = include_str!("../../../tests/data/va/cyclonedx-vex.json");

/// A digest that repeats one hex digit, as in the fixtures.
fn digest(digit: char) -> Digest {
    format!("sha256:{}", digit.to_string().repeat(64)).parse().unwrap()
}

const MANIFEST: char = 'a';
const CONFIG: char = 'c';
const INDEX: char = '1';
const OTHER: char = '7';

fn value(text: &str) -> Value {
    serde_json::from_str(text).unwrap()
}

fn read(value: &Value) -> Result<ReportFile, String> {
    parse(value.to_string().as_bytes()).map_err(|e| e.to_string())
}

/// An index of files with these contents, without using the file system.
fn index(contents: &[&str]) -> Index {
    let file = |text: &&str| index::File {
        fingerprint: scan::Fingerprint::default(),
        unread: false,
        content: parse(text.as_bytes()).map(Arc::new).map_err(|e| e.to_string()),
    };
    let files: BTreeMap<_, _> =
        contents.iter().enumerate().map(|(n, text)| (PathBuf::from(n.to_string()), file(text))).collect();
    Index::new(files, Vec::new(), Vec::new(), now())
}

/// The fixtures are from March 2026.
fn now() -> Timestamp {
    "2026-04-01T00:00:00Z".parse().unwrap()
}

fn subject(manifest: char, config: char) -> ReportQuery<'static> {
    ReportQuery { manifest: digest(manifest), config: ConfigBinding::Proven(digest(config)), parents: &[] }
}

/// What an index says about an image with a proven configuration.
fn look(index: &Index, manifest: char, config: char) -> Option<VaEvidence> {
    index.lookup(&subject(manifest, config), false).unwrap()
}

fn part(evidence: Option<VaEvidence>) -> String {
    report(evidence).incomplete.unwrap_or_else(|| "whole".into())
}

fn report(evidence: Option<VaEvidence>) -> Report {
    match evidence {
        Some(VaEvidence::Report(report)) => report,
        other => panic!("{other:?}"),
    }
}

fn lookup(contents: &[&str]) -> Report {
    report(look(&index(contents), MANIFEST, CONFIG))
}

fn find<'a>(report: &'a Report, id: &str) -> &'a Issue {
    report.issues.iter().find(|issue| issue.id == id).unwrap_or_else(|| panic!("{id} in {report:#?}"))
}

/// `ID severity [exempt] package installed>fixed, …`
fn lines(report: &Report) -> Vec<String> {
    let line = |issue: &Issue| {
        let packages = issue.packages.iter().map(|p| {
            let (installed, fixed) = (p.installed.as_deref().unwrap_or("-"), p.fixed.as_deref().unwrap_or("-"));
            format!("{} {installed}>{fixed}", p.name)
        });
        let exempt = if issue.exempt { " exempt" } else { "" };
        format!("{} {}{exempt}: {}", issue.id, issue.severity.as_str(), packages.collect::<Vec<_>>().join(", "))
    };
    report.issues.iter().map(line).collect()
}

mod added;
mod directories;
mod kinds;
mod letter_case;
mod packages;
mod statements;
mod systems;
mod vex_files;

#[test]
fn trivy() {
    let report = lookup(&[TRIVY]);
    assert_eq!(report.source, "trivy 0.72.0");
    assert_eq!(report.generated_at, "2026-03-01T06:00:00.230231Z".parse().ok());
    assert_eq!(
        lines(&report),
        [
            "CVE-2024-0004 unknown: perl-base 5.36.0-7>-",
            "CVE-2024-0005 unknown: tar 1.34>-",
            "CVE-2024-0001 critical: libssl3 3.0.11-1>3.0.13-1, openssl 3.0.11-1>3.0.13-1",
            "aws-access-key-id critical: app/secrets.env ->-",
            "CVE-2024-0006 high: bash 5.2.15-2>5.2.16",
            "DS002 high: Dockerfile ->-",
            "CVE-2024-0007 medium: bash 5.2.15-2>5.2.16",
            "CVE-2024-0008 medium: thing 1>-",
            "CVE-2024-0002 low: libc6 2.36-9>-",
            "CVE-2024-0003 critical exempt: zlib1g 1:1.2.13>-",
        ]
    );
    assert_eq!(find(&report, "CVE-2024-0001").aliases, ["DSA-5000-1"]);
    assert_eq!(find(&report, "CVE-2024-0001").kind, IssueKind::Vulnerability);
    assert_eq!(find(&report, "DS002").kind, IssueKind::Configuration);
    assert!(find(&report, "DS002").is_called("AVD-DS-0002"));
}

#[test]
fn grype() {
    let report = lookup(&[GRYPE]);
    assert_eq!(report.source, "grype 0.100.0");
    assert_eq!(report.generated_at, "2026-03-01T00:00:00Z".parse().ok(), "when its database was built");
    assert_eq!(
        lines(&report),
        [
            "GHSA-dddd-eeee-ffff unknown: left-pad 1.0.0>-",
            "CVE-2021-44228 critical: log4j-core 2.14.0>2.15.0, 2.12.2, log4j-api 2.14.0>a later version",
            "CVE-2024-0001 high: libssl3 3.0.11-1>3.0.13-1",
            "CVE-2024-0013 high: bash 5.2>-",
            "CVE-2024-0010 medium: kernel 6.1>6.2",
            "CVE-2024-0011 medium: kernel 6.1>6.2",
            "CVE-2024-0012 negligible: tar 1.34>-",
        ]
    );
    assert_eq!(find(&report, "CVE-2021-44228").aliases, ["GHSA-aaaa-bbbb-cccc"]);
    assert_eq!(find(&report, "CVE-2024-0010").aliases, ["ALAS-2024-100"]);
    assert_eq!(find(&report, "CVE-2024-0001").title.as_deref(), Some("What CVE-2024-0001 is."));
}

#[test]
fn cyclonedx() {
    let report = lookup(&[VDR]);
    assert_eq!(report.source, "trivy 0.72.0");
    assert_eq!(report.generated_at, "2026-03-03T09:00:00Z".parse().ok());
    assert_eq!(
        lines(&report),
        [
            "CVE-2024-0021 unknown: left-pad 1.0.0>-",
            "CVE-2024-0023 unknown: ",
            "CVE-2024-0001 critical: libssl3 3.0.11-1>3.0.13-1",
            "GHSA-dddd-eeee-ffff high: left-pad 1.0.0>-",
            "CVE-2024-0022 negligible exempt: left-pad 1.0.0>-",
        ]
    );
    assert!(find(&report, "GHSA-dddd-eeee-ffff").is_called("CVE-2024-0020"));
}

#[test]
fn only_digests_bind_reports() {
    for (text, bound) in [
        // The report also contains the digest of the index, but no image manifest has it.
        (TRIVY, &[CONFIG, INDEX][..]),
        (GRYPE, &[CONFIG, MANIFEST, INDEX]),
        (VDR, &[CONFIG, MANIFEST]),
        (VEX, &[]),
    ] {
        let index = index(&[text]);
        for digit in "123456789abcdef".chars() {
            let found = look(&index, digit, '0').is_some();
            assert_eq!(found, bound.contains(&digit), "{digit}");
            // A digest listed among an image's names is not a configuration.
            assert_eq!(look(&index, '0', digit).is_some(), found && digit != INDEX, "{digit}");
        }
    }
}

#[test]
fn files_that_are_not_reports_on_an_image() {
    let change = |text: &str, change: &dyn Fn(&mut Value)| {
        let mut value = value(text);
        change(&mut value);
        value
    };
    for (value, part) in [
        (json!({}), "known format"),
        (json!({"SchemaVersion": 2}), "known format"),
        (json!([{"Target": "x", "Vulnerabilities": null}]), "not a JSON object"),
        (json!({"schemaVersion": 2, "layers": []}), "known format"),
        (change(TRIVY, &|v| v["SchemaVersion"] = json!(3)), "schema 3"),
        (change(TRIVY, &|v| v["results"] = json!([])), "the key \"results\" differs from \"Results\" in case"),
        (
            change(TRIVY, &|v| v["Results"][0]["vulnerabilities"] = json!([])),
            "differs from \"Vulnerabilities\" in case",
        ),
        (change(TRIVY, &|v| v["ArtifactType"] = json!("filesystem")), "filesystem"),
        (change(TRIVY, &|v| v["ArtifactType"] = json!(null)), "does not say"),
        (change(TRIVY, &|v| v["Metadata"] = json!({"RepoTags": ["a:b"]})), "no image"),
        (change(TRIVY, &|v| v["Results"][0]["Vulnerabilities"] = json!({})), "invalid type"),
        (change(TRIVY, &|v| v["Results"][0]["Vulnerabilities"][0] = json!({"Severity": "LOW"})), "VulnerabilityID"),
        (
            change(TRIVY, &|v| v["Results"][0]["ExperimentalModifiedFindings"][0]["Finding"] = json!({})),
            "VulnerabilityID",
        ),
        (change(GRYPE, &|v| v["source"] = json!({"type": "directory", "target": "/"})), "not of an image"),
        (change(GRYPE, &|v| v["matches"] = json!({})), "invalid type"),
        (change(GRYPE, &|v| v["source"]["target"] = json!({"userInput": "app:1"})), "no digest"),
        (change(VDR, &|v| v["vulnerabilities"] = json!([])), "an inventory alone is not a report"),
        (change(VDR, &|v| v["specVersion"] = json!("2.0")), "CycloneDX 2.0 is not known"),
        (change(VDR, &|v| v["specVersion"] = json!("99")), "CycloneDX 99 is not known"),
        (json!({"@context": "https://openvex.dev/ns/v1.0.0", "statements": []}), "OpenVEX v1.0.0 is not known"),
        (change(VDR, &|v| v["metadata"]["component"]["type"] = json!("application")), ""),
    ] {
        match read(&value) {
            Err(error) => assert!(error.contains(part), "{error}"),
            Ok(document) => assert_eq!((document.assessment, part), (None, "")),
        }
    }
}

/// Statements on some vulnerabilities must not count as a report that found nothing else.
#[test]
fn a_document_with_only_statements_is_not_a_report() {
    let mut vdr = value(VDR);
    vdr["vulnerabilities"].as_array_mut().unwrap().retain(|v| v["analysis"]["state"] == "not_affected");
    let document = read(&vdr).unwrap();
    assert_eq!(document.assessment, None);
    assert_eq!(document.statements.len(), 1);
    vdr["components"] = json!([]);
    assert_eq!(read(&vdr).unwrap().assessment, None);
    let mut vdr = value(VDR);
    assert!(read(&vdr).unwrap().assessment.is_some());
    vdr["components"] = json!([]);
    assert_eq!(read(&vdr).unwrap().assessment, None, "nothing shows what was looked at");
}

#[test]
fn statements_exempt_what_they_name() {
    let report = lookup(&[TRIVY, VEX]);
    // One of the two packages is not affected, so the issue remains for the other.
    let openssl = find(&report, "CVE-2024-0001");
    assert!(!openssl.exempt);
    assert_eq!(openssl.packages.len(), 1);
    assert_eq!(openssl.packages[0].name, "openssl");
    assert!(find(&report, "CVE-2024-0002").exempt);
    assert!(!find(&report, "CVE-2024-0004").exempt, "under investigation is not unaffected");
    assert!(!find(&report, "CVE-2024-0005").exempt, "the statement names nothing that can be told apart");
    assert_eq!(index(&[VEX]).problems.len(), 1);

    // The statement on the image applies only to that image, the one on the package to every image.
    let other = TRIVY.replace(&digest(CONFIG).to_string(), &digest(OTHER).to_string());
    let Some(VaEvidence::Report(report)) = look(&index(&[&other, VEX]), '0', OTHER) else { panic!() };
    assert!(!find(&report, "CVE-2024-0002").exempt);
    assert_eq!(find(&report, "CVE-2024-0001").packages.len(), 1);
}

#[test]
fn the_newest_report_counts() {
    let at = |text: &str, time: Value| {
        let mut value = value(text);
        value["CreatedAt"] = time;
        value.to_string()
    };
    let (old, new) = (json!("2026-01-01T00:00:00Z"), json!("2026-02-01T00:00:00Z"));
    for (findings, clean, issues) in [
        (&old, &new, 0),
        (&new, &old, 10),
        // Equally old: the findings of both count.
        (&new, &new, 10),
        // An unknown time loses, including Go's zero time.
        (&json!(null), &old, 0),
        (&old, &json!("0001-01-01T00:00:00Z"), 10),
        (&old, &json!(1_767_225_600), 10),
        (&json!(null), &json!("yesterday"), 10),
    ] {
        let report = lookup(&[&at(TRIVY, findings.clone()), &at(TRIVY_CLEAN, clean.clone())]);
        assert_eq!(report.issues.len(), issues, "{findings} {clean}");
    }
    let mut partial = value(TRIVY_CLEAN);
    partial["Results"] = json!([]);
    let evidence = look(&index(&[TRIVY, &partial.to_string()]), '0', CONFIG);
    assert!(part(evidence).contains("not assessed"), "of equally old ones the partial one");
    assert_eq!(lookup(&[TRIVY, GRYPE]).source, "grype 0.100.0");
}

#[test]
fn severities() {
    let read = |word: Value| {
        let mut trivy = value(TRIVY);
        trivy["Results"][0]["Vulnerabilities"][2]["Severity"] = word;
        find(&lookup(&[&trivy.to_string()]), "CVE-2024-0002").severity
    };
    for (word, severity) in [
        (json!("LOW"), Severity::Low),
        (json!("High"), Severity::High),
        (json!("Important"), Severity::High),
        (json!("UNKNOWN"), Severity::Unknown),
        (json!(""), Severity::Unknown),
        (json!("NONE"), Severity::Unknown),
        (json!(null), Severity::Unknown),
    ] {
        assert_eq!(read(word.clone()), severity, "{word}");
    }
}

#[test]
fn a_truncated_document_is_never_a_report() {
    for text in [TRIVY, TRIVY_CLEAN, GRYPE, VDR, VEX] {
        let whole = text.trim_end().len();
        for end in 0..whole {
            assert!(parse(&text.as_bytes()[..end]).is_err(), "{end} bytes");
        }
        assert!(parse(format!("{text}{text}").as_bytes()).is_err(), "two documents");
        assert!(parse(format!("\u{feff}{text}").as_bytes()).is_ok());
    }
    let twice = TRIVY.replacen('{', r#"{"Results": [],"#, 1);
    assert!(parse(twice.as_bytes()).unwrap_err().to_string().contains("duplicate field"));
    assert!(parse(format!("{{\"a\":{}", "[".repeat(100_000)).as_bytes()).is_err());
}

proptest! {
    #[test]
    fn arbitrary_bytes_are_not_a_report(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(parse(&bytes).is_err());
    }

    /// A changed byte results in an error or a report, never in a panic.
    #[test]
    fn changed_bytes_never_panic(which in 0usize..5, place in any::<prop::sample::Index>(), byte in any::<u8>()) {
        let mut bytes = [TRIVY, TRIVY_CLEAN, GRYPE, VDR, VEX][which].as_bytes().to_vec();
        let place = place.index(bytes.len());
        bytes[place] = byte;
        let _ = parse(&bytes);
    }
}

#[test]
fn size_and_depth_are_limited() {
    let root = tempfile::tempdir().unwrap();
    let file = fs::File::create(root.path().join("huge.json")).unwrap();
    file.set_len((64 << 20) + 1).unwrap();
    std::os::unix::fs::symlink(".", root.path().join("loop")).unwrap();
    let index = scan::scan(&[root.path().to_owned()], &Index::default(), now());
    assert!(index.problems.iter().any(|problem| problem.contains("larger than 64 MiB")), "{:?}", index.problems);
    assert!(index.problems.iter().any(|problem| problem.contains("nested too deeply")), "{:?}", index.problems);
    let evidence = look(&index, '0', CONFIG);
    assert!(matches!(evidence, Some(VaEvidence::Unavailable { .. })), "{evidence:?}");
}

#[test]
fn values_that_are_no_text_are_read_without_being_kept() {
    #[derive(serde::Deserialize)]
    struct Named {
        #[serde(default, deserialize_with = "super::document::text_or_nothing")]
        name: Option<String>,
    }
    for (json, text) in [
        (r#"{"name":"a"}"#, Some("a")),
        (r#"{"name":"a\u0041"}"#, Some("aA")),
        (r#"{"name":[1,{"a":[]}]}"#, None),
        (r#"{"name":{"a":[1.5]}}"#, None),
        (r#"{"name":-1}"#, None),
        (r#"{"name":true}"#, None),
        (r#"{"name":null}"#, None),
        ("{}", None),
    ] {
        let named: Named = serde_json::from_str(json).unwrap();
        assert_eq!(named.name.as_deref(), text, "{json}");
    }
    let broken = r#"{"name":[1,}"#;
    assert!(serde_json::from_str::<Named>(broken).is_err());
}
