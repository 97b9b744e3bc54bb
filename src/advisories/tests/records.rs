//! Real OSV records against packages with known vulnerabilities. The expected identifiers were computed from the
//! records by another program (Python's `packaging` for PyPI).

use std::ops::ControlFlow;
use std::path::PathBuf;

use super::super::meter::{DatabaseLimits, Meter};
use super::super::osv::{INDEX, OsvIndex, compile};
use super::*;

fn index(archive: &str) -> OsvIndex {
    let source: PathBuf = [env!("CARGO_MANIFEST_DIR"), "..", "shared", "advisories", archive].iter().collect();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(INDEX);
    let mut progress = |_| ControlFlow::Continue(());
    let mut meter = Meter::new(DatabaseLimits::default(), &mut progress);
    compile(&source, &path, &[], "2026-11-01T00:00:00Z".parse().unwrap(), &mut meter).unwrap();
    OsvIndex::open(&path).unwrap()
}

/// The records that affect each package, by their own identifiers.
fn records(index: &OsvIndex, inventory: &Inventory, prefix: &str) -> Vec<Vec<String>> {
    let found = find_in(&Lookups { trivy: None, osv: vec![index], details: None }, inventory, now());
    assert_eq!(found.gaps, []);
    let mut records = vec![std::collections::BTreeSet::new(); inventory.packages.len()];
    for matched in &found.matches {
        assert_ne!(matched.status, FixStatus::Unknown, "{matched:?}");
        let names = std::iter::once(&matched.id).chain(&matched.aliases);
        records[matched.package].extend(names.filter(|name| name.starts_with(prefix)).cloned());
    }
    records.into_iter().map(|names| names.into_iter().collect()).collect()
}

fn languages(ecosystem: &str, packages: &[(&str, &str)]) -> Inventory {
    let package =
        |(name, version): &(&str, &str)| json!({"ecosystem": ecosystem, "name": name, "version": version, "path": "x"});
    inventory("", "", &packages.iter().map(package).collect::<Vec<_>>())
}

#[test]
#[ignore = "reads ../shared"]
fn python_packages_have_exactly_the_expected_records() {
    let inventory = languages(
        "pypi",
        &[
            ("jinja2", "2.10"),
            ("requests", "2.19.0"),
            ("urllib3", "1.24.1"),
            ("pyyaml", "5.3"),
            ("pyyaml", "6.0.1"),
            ("django", "3.2.0"),
        ],
    );
    let found = records(&index("PyPI.zip"), &inventory, "PYSEC-");
    assert_eq!(found[0], ["PYSEC-2019-217", "PYSEC-2021-66"]);
    assert_eq!(found[1], ["PYSEC-2018-28", "PYSEC-2023-74"]);
    assert_eq!(
        found[2],
        [
            "PYSEC-2019-132",
            "PYSEC-2019-133",
            "PYSEC-2020-148",
            "PYSEC-2021-108",
            "PYSEC-2023-192",
            "PYSEC-2023-207",
            "PYSEC-2023-212"
        ]
    );
    assert_eq!(found[3], ["PYSEC-2020-96", "PYSEC-2021-142"]);
    assert!(found[4].is_empty());
    assert_eq!(found[5].len(), 25);
}

#[test]
#[ignore = "reads ../shared"]
fn go_modules_have_exactly_the_expected_records() {
    let inventory = languages(
        "go",
        &[
            ("golang.org/x/net", "v0.7.0"),
            ("golang.org/x/crypto", "v0.0.0-20200622213623-75b288015ac9"),
            ("stdlib", "1.20.5"),
            ("github.com/gin-gonic/gin", "v1.6.0"),
        ],
    );
    let found = records(&index("Go.zip"), &inventory, "GO-");
    assert_eq!(
        found[0],
        [
            "GO-2023-1988",
            "GO-2023-2102",
            "GO-2024-2687",
            "GO-2024-3333",
            "GO-2025-3503",
            "GO-2025-3595",
            "GO-2026-4440",
            "GO-2026-4441",
            "GO-2026-4918",
            "GO-2026-5025",
            "GO-2026-5026",
            "GO-2026-5027",
            "GO-2026-5028",
            "GO-2026-5029",
            "GO-2026-5030",
            "GO-2026-5942"
        ]
    );
    assert_eq!((found[1].len(), found[2].len()), (24, 75));
    assert_eq!(found[3], ["GO-2021-0052", "GO-2023-1737"]);
}

#[test]
#[ignore = "reads ../shared"]
fn almalinux_packages_have_exactly_the_expected_records() {
    let openssl =
        |version: &str| json!({"ecosystem": "rpm", "name": "openssl-libs", "version": version, "vendor": "AlmaLinux"});
    let inventory = inventory(
        "almalinux",
        "9.4",
        &[openssl("1:3.2.2-6.el9_5.1"), openssl("1:3.5.5-3.el9_8"), openssl("1:3.5.5-9.el9_8")],
    );
    let index = index("AlmaLinux.zip");
    let found = records(&index, &inventory, "ALSA-");
    assert_eq!(
        found[0],
        ["ALSA-2025:21255", "ALSA-2026:1473", "ALSA-2026:19218", "ALSA-2026:22312", "ALSA-2026:25239"]
    );
    assert_eq!(found[1], ["ALSA-2026:25239"]);
    assert!(found[2].is_empty());
    let all = find_in(&Lookups { trivy: None, osv: vec![&index], details: None }, &inventory, now());
    let one = all.matches.iter().find(|matched| matched.id == "CVE-2025-9230").unwrap();
    assert_eq!(
        (&one.aliases[..], one.fixed.as_deref()),
        (&["ALSA-2025:21255".to_owned()][..], Some("1:3.5.1-4.el9_7"))
    );
    assert_ne!(one.severity, Severity::Unknown, "the word in the summary");
}
