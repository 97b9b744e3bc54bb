//! Small databases for tests.

use std::fs;
use std::path::Path;

use serde_json::{Value, json};

use super::super::bolt::sample::SampleTree;
use super::{DATABASE, METADATA};

/// Rows of every kind.
pub(in super::super) fn rows() -> SampleTree {
    let mut tree = SampleTree::default();
    let mut put = |path: &[&str], key: &str, value: Value| tree.put(path, key, value.to_string());
    put(&["debian 12", "openssl"], "CVE-2024-0001", json!({"FixedVersion": "3.0.11-1~deb12u2", "Severity": 3}));
    put(&["debian 12", "openssl"], "CVE-2024-0002", json!({"Status": 2, "VendorIDs": ["DSA-1"], "Arches": null}));
    put(
        &["npm::GitHub Security Advisory npm", "lodash"],
        "GHSA-1",
        json!({"VulnerableVersions": ["<4.17.21"], "PatchedVersions": ["4.17.21"]}),
    );
    put(&["npm::Other", "lodash"], "CVE-2024-0003", json!({"VulnerableVersions": [""]}));
    put(
        &["Red Hat", "openssl"],
        "RHSA-2024:0001",
        json!({"Entries": [{"FixedVersion": "1:3.0.7-2.el9", "Affected": [3, 4],
            "Cves": [{"ID": "CVE-2024-0001", "Severity": 3}]}]}),
    );
    put(&["Red Hat CPE", "repository"], "rhel-9-for-x86_64-baseos-rpms", json!([3, 5]));
    put(&["Red Hat CPE", "nvr"], "ubi9-container-9.4-1", json!([4]));
    put(&["Red Hat CPE", "cpe"], "3", json!("cpe:/o:redhat:enterprise_linux:9::baseos"));
    put(&["data-source"], "debian 12", json!({"ID": "debian", "Name": "Debian Security Tracker", "URL": "https://x"}));
    put(
        &["vulnerability"],
        "CVE-2024-0001",
        json!({"Title": "A flaw", "Severity": "HIGH", "VendorSeverity": {"nvd": 4, "debian": 1},
            "CVSS": {"nvd": {"V3Vector": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H", "V3Score": 9.8}},
            "References": ["https://example.com"], "PublishedDate": "2024-01-02T03:04:05Z",
            "LastModifiedDate": "2024-01-03T00:00:00.123Z"}),
    );
    tree
}

/// The text of `metadata.json` for a database that was built at this time.
pub(in super::super) fn metadata(built: &str) -> String {
    json!({"Version": 2, "UpdatedAt": built, "NextUpdate": "2030-01-01T00:00:00Z", "DownloadedAt": "0001-01-01T00:00:00Z"})
        .to_string()
}

/// Writes a database to a directory.
pub(in super::super) fn write(directory: &Path, tree: &SampleTree, built: &str) {
    fs::create_dir_all(directory).unwrap();
    fs::write(directory.join(DATABASE), tree.write(4096)).unwrap();
    fs::write(directory.join(METADATA), metadata(built)).unwrap();
}
