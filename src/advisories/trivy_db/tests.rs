use std::fs;

use super::super::bolt::sample::SampleTree;
use super::*;

fn open(tree: &SampleTree) -> TrivyDb {
    let directory = tempfile::tempdir().unwrap();
    sample::write(directory.path(), tree, "2026-01-01T00:00:00Z");
    TrivyDb::open(directory.path()).unwrap()
}

#[test]
fn rows_details_and_sources_are_read_as_types() {
    let database = open(&sample::rows());
    let rows = database.rows("debian 12", "openssl").unwrap();
    assert_eq!(rows[0].0, "CVE-2024-0001");
    assert_eq!((&*rows[0].1.fixed_version, rows[0].1.severity), ("3.0.11-1~deb12u2", 3));
    assert_eq!((rows[1].1.status, &rows[1].1.vendor_ids[..]), (2, &["DSA-1".to_owned()][..]));
    assert!(database.rows("debian 12", "none").unwrap().is_empty());
    assert!(database.rows("debian 13", "openssl").unwrap().is_empty());
    let red_hat = &database.rows("Red Hat", "openssl").unwrap()[0].1.entries[0];
    assert_eq!((&red_hat.cpes[..], &*red_hat.cves[0].id, red_hat.cves[0].severity), (&[3, 4][..], "CVE-2024-0001", 3));
    assert_eq!(database.buckets("npm::").unwrap(), ["npm::GitHub Security Advisory npm", "npm::Other"]);
    assert_eq!(database.buckets("").unwrap().len(), 7);
    assert!(database.buckets("zzz").unwrap().is_empty());
    assert_eq!(database.source("debian 12").unwrap().unwrap().id, "debian");
    assert_eq!(database.source("Red Hat").unwrap(), None);
    assert_eq!(database.repository_cpes("rhel-9-for-x86_64-baseos-rpms").unwrap(), [3, 5]);
    assert_eq!(database.build_cpes("ubi9-container-9.4-1").unwrap(), [4]);
    assert!(database.build_cpes("none").unwrap().is_empty());
    let detail = database.detail("CVE-2024-0001").unwrap().unwrap();
    assert_eq!((&*detail.title, detail.vendor_severity["nvd"], detail.cvss["nvd"].v3_score), ("A flaw", 4, 9.8));
    assert_eq!(detail.published_date, Some("2024-01-02T03:04:05Z".parse().unwrap()));
    assert_eq!(database.detail("CVE-2024-0002").unwrap(), None);
    assert_eq!(database.check().unwrap(), TrivyContents { rows: 5, details: 1 });
}

#[test]
fn a_row_that_is_not_json_is_an_error_and_never_missing() {
    let mut tree = sample::rows();
    tree.put(&["debian 12", "openssl"], "CVE-2024-0009", "{\"FixedVersion\": 7}");
    let database = open(&tree);
    let error = database.rows("debian 12", "openssl").unwrap_err().to_string();
    assert!(error.contains("CVE-2024-0009"), "{error}");
    let error = database.check().unwrap_err().to_string();
    assert!(error.contains("debian 12/openssl/CVE-2024-0009"), "{error}");
}

#[test]
fn other_schemas_and_missing_files_are_refused() {
    let directory = tempfile::tempdir().unwrap();
    let open = || TrivyDb::open(directory.path()).unwrap_err().to_string();
    assert!(open().contains("metadata.json"));
    sample::write(directory.path(), &sample::rows(), "2026-01-01T00:00:00Z");
    for (text, expected) in [
        (sample::metadata("2026-01-01T00:00:00Z").replace("\"Version\":2", "\"Version\":3"), "schema 3"),
        (sample::metadata("2026-01-01T00:00:00Z").replace("\"Version\":2", "\"Version\":1"), "schema 1"),
        ("{}".to_owned(), "UpdatedAt"),
        ("not JSON".to_owned(), "metadata.json"),
    ] {
        fs::write(directory.path().join(METADATA), text).unwrap();
        assert!(open().contains(expected), "{}", open());
    }
    sample::write(directory.path(), &sample::rows(), "2026-01-01T00:00:00Z");
    fs::remove_file(directory.path().join(DATABASE)).unwrap();
    assert!(open().contains("trivy.db"));
}

#[test]
fn rows_with_a_fixed_version_alone_are_read_without_a_parser() {
    for (value, expected) in [
        (r#"{"FixedVersion":"1:3.0.11-1~deb12u2"}"#, Some("1:3.0.11-1~deb12u2")),
        (r#"{"FixedVersion":""}"#, Some("")),
        (r#"{"FixedVersion":"1","Severity":3}"#, None),
        (r#"{"FixedVersion":"a\u0062"}"#, None),
        ("{\"FixedVersion\":\"a\nb\"}", None),
        (r#"{"FixedVersion": "1"}"#, None),
        ("{}", None),
    ] {
        assert_eq!(only_fixed_version(value.as_bytes()), expected, "{value}");
        if let Some(fixed) = expected {
            assert_eq!(parse::<TrivyRow>(value.as_bytes(), "x").unwrap().fixed_version, fixed);
        }
    }
}
