use std::fs;
use std::ops::ControlFlow;
use std::path::Path;

use serde_json::{Value, json};

use super::super::bolt::sample::SampleTree;
use super::super::trivy_db::sample;
use super::super::{AdvisoryStore, ImportOptions, import};
use super::*;

/// An OSV record about a package of PyPI, with references, whose place differs in each compilation.
fn record(id: &str, package: &str, fixed: &str) -> Value {
    json!({
        "id": id, "modified": "2026-01-02T03:04:05Z", "summary": "A flaw",
        "severity": [{"type": "CVSS_V3", "score": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}],
        "affected": [{
            "package": {"ecosystem": "PyPI", "name": package},
            "ranges": [{"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": fixed}]}]
        }],
        "references": [{"type": "WEB", "url": format!("https://example.com/{id}")}]
    })
}

fn imported(store: &AdvisoryStore, source: &Path) {
    let options = ImportOptions { force: true, ..ImportOptions::at("2026-06-01T00:00:00Z".parse().unwrap()) };
    import(store, source, &options, &mut |_| ControlFlow::Continue(())).unwrap();
}

/// Databases with these records.
fn osv(records: &[Value]) -> Databases {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("records");
    fs::create_dir(&source).unwrap();
    for record in records {
        fs::write(source.join(format!("{}.json", record["id"].as_str().unwrap())), record.to_string()).unwrap();
    }
    let store = AdvisoryStore::open(&folder.path().join("state")).unwrap();
    imported(&store, &source);
    store.load().unwrap()
}

fn trivy(tree: &SampleTree) -> Databases {
    let folder = tempfile::tempdir().unwrap();
    let source = folder.path().join("trivy-db");
    sample::write(&source, tree, "2026-05-01T00:00:00Z");
    let store = AdvisoryStore::open(&folder.path().join("state")).unwrap();
    imported(&store, &source);
    store.load().unwrap()
}

/// Whether exactly these names differ.
fn differ(before: &Databases, now: &Databases, names: &[&str]) {
    for (before, now) in [(before, now), (now, before)] {
        let changed = changed_names(before, now, &|| true).unwrap();
        assert_eq!(changed.0, ChangedNames::of(names).0, "{names:?}");
    }
}

/// Enough records that the rows are in several parts of the table.
fn records() -> Vec<Value> {
    (0..200).map(|number| record(&format!("PYSEC-{number}"), &format!("package-{number}"), "1.2")).collect()
}

#[test]
fn osv_records_that_are_added_removed_or_changed_are_found_by_the_names_of_their_packages() {
    let before = osv(&records());
    let changed = |change: &dyn Fn(&mut Vec<Value>)| {
        let mut records = records();
        change(&mut records);
        osv(&records)
    };
    differ(&before, &before, &[]);
    // A record that is compiled first moves all others.
    let first = record("A-1", "new-package", "2");
    differ(&before, &changed(&|records| records.push(first.clone())), &["new-package"]);
    let known = record("A-1", "package-7", "2");
    differ(&before, &changed(&|records| records.push(known.clone())), &["package-7"]);
    differ(&before, &changed(&|records| drop(records.remove(3))), &["package-3"]);
    differ(&before, &changed(&|records| records[5] = record("PYSEC-5", "package-5", "1.3")), &["package-5"]);
    let low = json!([{"type": "CVSS_V3", "score": "CVSS:3.1/AV:L/AC:H/PR:H/UI:R/S:U/C:L/I:N/A:N"}]);
    differ(&before, &changed(&|records| records[9]["severity"] = low.clone()), &["package-9"]);
    // What is said about when and where decides nothing.
    let later = changed(&|records| {
        records[9]["modified"] = json!("2026-02-02T03:04:05Z");
        records[9]["references"] = json!([]);
    });
    differ(&before, &later, &[]);
}

#[test]
fn a_source_that_is_added_or_removed_differs_in_all_its_names() {
    let both = osv(&[record("A-1", "one", "1"), record("A-2", "two", "1")]);
    differ(&Databases::default(), &both, &["one", "two"]);
    let names = ["openssl", "lodash"];
    differ(&Databases::default(), &trivy(&sample::rows()), &names);
}

#[test]
fn rows_of_trivy_db_that_differ_are_found_by_the_names_of_their_packages() {
    let mut base = sample::rows();
    for number in 0..500 {
        let value = json!({"FixedVersion": "1.2"}).to_string();
        base.put(&["debian 12", &format!("package{number}")], "CVE-2024-0005", value);
    }
    let before = trivy(&base);
    let changed = |path: &[&str], key: &str, value: Value| {
        let mut tree = base.clone();
        tree.put(path, key, value.to_string());
        trivy(&tree)
    };
    differ(&before, &before, &[]);
    let fixed = json!({"FixedVersion": "1.3"});
    differ(&before, &changed(&["debian 12", "package7"], "CVE-2024-0005", fixed.clone()), &["package7"]);
    differ(&before, &changed(&["debian 12", "package8"], "CVE-2024-0006", fixed.clone()), &["package8"]);
    differ(&before, &changed(&["debian 13", "bash"], "CVE-2024-0006", fixed.clone()), &["bash"]);
    let stream = changed(&["rocky 9", "nodejs:18::npm"], "CVE-2024-0006", fixed);
    differ(&before, &stream, &["nodejs:18::npm", "npm"]);
    // The rows of Debian and of Red Hat about this one are both of `openssl`.
    let low = json!({"Title": "A flaw", "Severity": "LOW", "VendorSeverity": {"nvd": 1}});
    differ(&before, &changed(&["vulnerability"], "CVE-2024-0001", low.clone()), &["openssl"]);
    differ(&before, &changed(&["vulnerability"], "CVE-2024-0003", low.clone()), &["lodash"]);
    differ(&before, &changed(&["vulnerability"], "CVE-2024-9999", low), &[]);
}

#[test]
fn names_and_dates_of_vulnerabilities_do_not_matter() {
    let detail = |title: &str, changed: &str| {
        let mut tree = SampleTree::default();
        tree.put(&["debian 12", "openssl"], "CVE-1", json!({"FixedVersion": "1"}).to_string());
        let value = json!({"Title": title, "Severity": "HIGH", "References": [title], "LastModifiedDate": changed});
        tree.put(&["vulnerability"], "CVE-1", value.to_string());
        trivy(&tree)
    };
    differ(&detail("a", "2026-01-01T00:00:00Z"), &detail("b", "2026-02-01T00:00:00Z"), &[]);
}

#[test]
fn a_comparison_ends_when_its_result_is_not_needed() {
    let (before, now) = (osv(&records()), osv(&[record("A-1", "one", "1")]));
    assert!(changed_names(&before, &now, &|| false).is_none());
}

#[test]
fn too_many_names_give_no_result() {
    let mut names = ChangedNames::default();
    // Some have the same hash.
    let all = (0..MAX_NAMES + 1000).try_for_each(|number| names.add(&format!("package{number}")));
    assert!(all.is_err() && names.len() == MAX_NAMES + 1);
}

#[test]
fn names_are_the_same_however_they_are_written_and_survive_being_stored() {
    let package = |name: &str, source: Option<&str>| {
        let source = source.map(|name| json!({"name": name, "version": "1"}));
        let mut package = json!({"ecosystem": "deb", "name": name, "version": "1"});
        if let Some(source) = source {
            package["source"] = source;
        }
        package
    };
    let packages = [package("libssl3", Some("openssl")), package("Zope.Interface", None), package("@babel/core", None)];
    let inventory: Inventory = serde_json::from_value(json!({"packages": packages, "gaps": []})).unwrap();
    let names = PackageNames::of(&inventory);
    assert_eq!(PackageNames::parse(&names.to_string()), Some(names.clone()));
    for name in ["libssl3", "openssl", "zope-interface", "zope_interface", "@babel/core"] {
        assert!(ChangedNames::of(&["other", name]).concern(&names), "{name}");
    }
    assert!(!ChangedNames::of(&["libssl", "zope"]).concern(&names));
    assert_eq!((PackageNames::parse("AAA"), PackageNames::parse("?")), (None, None));
    assert_eq!(PackageNames::parse(""), Some(PackageNames::default()));
}

#[test]
fn keys_of_both_lists_are_visited_in_order() {
    let list = |keys: &'static [u8]| keys.iter().map(|key| Ok((*key, ())));
    let mut seen = Vec::new();
    merge(list(&[1, 2, 4]), list(&[2, 3, 4, 5]), &mut |key, own, other| {
        seen.push((*key, own.is_some(), other.is_some()));
        Ok(())
    })
    .unwrap();
    let both = [(1, true, false), (2, true, true), (3, false, true), (4, true, true), (5, false, true)];
    assert_eq!(seen, both);
    let damaged = [Ok((1, ())), Err(DamagedDatabase("x".to_owned()))];
    assert!(merge(damaged.into_iter(), std::iter::empty(), &mut |_, _, _| Ok(())).is_err());
}
