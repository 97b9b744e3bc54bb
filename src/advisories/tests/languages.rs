//! Packages of languages.

use super::*;

/// Advisories of several ecosystems.
pub(super) fn language_rows() -> Rows {
    Rows::default()
        .source("npm::GitHub Security Advisory Npm", "ghsa")
        .source("go::The Go Vulnerability Database", "govulndb")
        .row(
            "npm::GitHub Security Advisory Npm",
            "lodash",
            "CVE-2021-1",
            json!({"VulnerableVersions": ["<4.17.21"], "PatchedVersions": ["4.17.21"], "VendorIDs": ["GHSA-1"]}),
        )
        .row("npm::other", "lodash", "GHSA-1", json!({"VulnerableVersions": ["<4.17.20"]}))
        .row("npm::other", "lodash", "CVE-2021-2", json!({"VulnerableVersions": ["<1.0"]}))
        .source("npm::other", "other")
        .row("npm::GitHub Security Advisory Npm", "lodash", "CVE-2021-9", json!({"VulnerableVersions": ["<4.17.20"]}))
        .row("npm::other", "lodash", "CVE-2021-9", json!({"PatchedVersions": [">= 4.17.20"]}))
        .detail("CVE-2021-9", json!({"VendorSeverity": {"ghsa": 3, "other": 1}}))
        .row("pip::GitHub Security Advisory Pip", "ruamel.yaml", "CVE-2021-3", json!({"VulnerableVersions": ["<0.17"]}))
        .row(
            "go::The Go Vulnerability Database",
            "stdlib",
            "CVE-2024-4",
            json!({"VulnerableVersions": [">=1.22.0-0, <1.22.2", "<1.21.9"], "PatchedVersions": ["1.21.9", "1.22.2"]}),
        )
        .row(
            "go::The Go Vulnerability Database",
            "example.com/Main",
            "CVE-2024-5",
            json!({"VulnerableVersions": ["<1.0.0"]}),
        )
        .row("cargo::RustSec", "smallvec", "CVE-2021-6", json!({"PatchedVersions": [">=0.6.14, <1.0.0", ">=1.6.1"]}))
        .row(
            "rubygems::GitHub Security Advisory RubyGems",
            "rails",
            "CVE-2021-7",
            json!({"PatchedVersions": ["~> 5.2.4", ">= 6.0.3.1"], "UnaffectedVersions": ["< 5.0"]}),
        )
        .row(
            "maven::GLAD",
            "org.apache.commons:commons-text",
            "CVE-2022-8",
            json!({"VulnerableVersions": ["[1.5,1.10.0)"], "PatchedVersions": ["1.10.0"]}),
        )
        .detail("CVE-2021-1", json!({"Severity": "CRITICAL", "VendorSeverity": {"ghsa": 3, "nvd": 4}}))
}

/// Trivy names no source of such a bucket, and then takes no source's rating first.
#[test]
fn a_bucket_whose_source_the_database_does_not_state_has_none() {
    let rows = Rows::default()
        .row("npm::x", "x", "CVE-2024-1", json!({"VulnerableVersions": ["<2"]}))
        .row("wolfi", "y", "CVE-2024-2", json!({"FixedVersion": "2-r0"}))
        .detail("CVE-2024-2", json!({"VendorSeverity": {"nvd": 2, "wolfi": 4}}));
    let package =
        |ecosystem: &str, name: &str, version: &str| json!({"ecosystem": ecosystem, "name": name, "version": version});
    let found = findings(&rows, &inventory("wolfi", "1", &[package("npm", "x", "1.0.0"), package("apk", "y", "1-r0")]));
    assert_eq!(found.matches.iter().map(|matched| &*matched.source).collect::<Vec<_>>(), ["", ""]);
    assert_eq!(found.matches[1].severity_source.as_deref(), Some("nvd"));
}

#[test]
fn packages_of_languages_are_looked_up_in_all_buckets_of_the_ecosystem() {
    let rows = language_rows();
    let package = |ecosystem: &str, name: &str, version: &str| json!({"ecosystem": ecosystem, "name": name, "version": version, "path": name});
    let inventory = inventory(
        "",
        "",
        &[
            package("npm", "lodash", "4.17.19"),
            package("pypi", "ruamel-yaml", "0.16.5"),
            package("pypi", "ruamel._yaml", "0.16.5"),
            package("go", "stdlib", "1.22.1"),
            package("go", "stdlib", "1.22.2"),
            package("cargo", "smallvec", "1.6.0"),
            package("cargo", "smallvec", "0.6.14"),
            package("gem", "rails", "6.0.0"),
            package("gem", "rails", "5.2.5"),
            package("maven", "org.apache.commons:commons-text", "1.9"),
            package("go", "example.com/unknown", "(devel)"),
        ],
    );
    expect(
        &rows,
        &inventory,
        &[
            "lodash CVE-2021-1 4.17.21",
            "lodash CVE-2021-9 >= 4.17.20",
            "ruamel-yaml CVE-2021-3 0.17",
            "ruamel._yaml CVE-2021-3 0.17",
            "stdlib CVE-2024-4 1.21.9, 1.22.2",
            "smallvec CVE-2021-6 >=0.6.14, <1.0.0, >=1.6.1",
            "rails CVE-2021-7 ~> 5.2.4, >= 6.0.3.1",
            "org.apache.commons:commons-text CVE-2022-8 1.10.0",
        ],
    );
    let first = &findings(&rows, &inventory).matches[0];
    assert_eq!(first.aliases, ["GHSA-1"], "both sources have it, one by the alias");
    assert_eq!(
        (first.severity, first.severity_source.as_deref(), &*first.source),
        (Severity::High, Some("ghsa"), "ghsa")
    );
    let second = &findings(&rows, &inventory).matches[1];
    assert_eq!((second.severity, &*second.source), (Severity::Low, "other"), "both buckets have it, the last decides");
}

#[test]
fn incomparable_versions_are_never_clean() {
    let rows = Rows::default()
        .row("debian 12", "a", "CVE-2024-1", json!({"FixedVersion": "x:1"}))
        .row("debian 12", "b", "CVE-2024-2", json!({"FixedVersion": "2"}))
        .row("go::source", "example.com/c", "CVE-2024-3", json!({"VulnerableVersions": ["<1.0.0"]}))
        .row("npm::source", "d", "CVE-2024-4", json!({"VulnerableVersions": ["<< 2"]}));
    let inventory = inventory(
        "debian",
        "12",
        &[
            json!({"ecosystem": "deb", "name": "a", "version": "1"}),
            json!({"ecosystem": "deb", "name": "b", "version": "y:1"}),
            json!({"ecosystem": "go", "name": "example.com/c", "version": "(devel)", "path": "usr/bin/c"}),
            json!({"ecosystem": "npm", "name": "d", "version": "3.0.0", "path": "d/package.json"}),
        ],
    );
    let found = findings(&rows, &inventory);
    assert_eq!(
        listed(&found, &inventory),
        ["a CVE-2024-1 Unknown", "d CVE-2024-4 Unknown"],
        "affected, with nothing known about a fix"
    );
    let gaps: Vec<_> = found.gaps.iter().map(|gap| (&*gap.place, &*gap.problem)).collect();
    assert_eq!(
        gaps,
        [
            ("b", "the version \"y:1\" of b cannot be compared with advisories"),
            ("usr/bin/c", "the version \"(devel)\" of example.com/c cannot be compared with advisories"),
        ]
    );
}
