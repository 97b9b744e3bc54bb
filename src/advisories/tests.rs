mod distributions;
mod gaps;
mod languages;
mod osv_records;
mod rebuilt;
mod records;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use serde::Deserialize as _;
use serde_json::{Value, json};

use super::details::DetailCache;
use super::find::{Lookups, find_in};
use super::looked_up::looked_up;
use super::*;
use crate::inventory::{Inventory, LinuxDistribution};
use languages::language_rows;

/// A trivy-db in memory: values by bucket, package and key.
#[derive(Default)]
struct Rows {
    buckets: BTreeMap<&'static str, BTreeMap<&'static str, BTreeMap<String, Value>>>,
    sources: BTreeMap<&'static str, Value>,
    details: BTreeMap<&'static str, Value>,
    cpes: BTreeMap<&'static str, Vec<u64>>,
    is_damaged: bool,
    /// How often the rows of a package were read.
    reads: AtomicUsize,
}

impl Rows {
    fn row(mut self, bucket: &'static str, package: &'static str, id: &str, value: Value) -> Self {
        self.buckets.entry(bucket).or_default().entry(package).or_default().insert(id.to_owned(), value);
        self
    }

    fn source(mut self, bucket: &'static str, id: &str) -> Self {
        self.sources.insert(bucket, json!({"ID": id, "Name": bucket}));
        self
    }

    fn detail(mut self, id: &'static str, value: Value) -> Self {
        self.details.insert(id, value);
        self
    }

    fn checked<T>(&self, value: T) -> Result<T, DamagedDatabase> {
        if self.is_damaged { Err(DamagedDatabase("page 7 is outside of the file".to_owned())) } else { Ok(value) }
    }
}

fn typed<T: serde::de::DeserializeOwned>(value: &Value) -> T {
    serde_json::from_value(value.clone()).unwrap()
}

impl TrivyRows for Rows {
    fn buckets(&self, prefix: &str) -> Result<Vec<String>, DamagedDatabase> {
        self.checked(
            self.buckets.keys().filter(|name| name.starts_with(prefix)).map(|name| (*name).to_owned()).collect(),
        )
    }

    fn covers(&self, bucket: &str) -> Result<bool, DamagedDatabase> {
        self.checked(self.buckets.get(bucket).is_some_and(|bucket| !bucket.is_empty()))
    }

    fn rows(&self, bucket: &str, package: &str) -> Result<Vec<(String, TrivyRow)>, DamagedDatabase> {
        self.reads.fetch_add(1, Ordering::Relaxed);
        let rows = self.buckets.get(bucket).and_then(|bucket| bucket.get(package));
        self.checked(rows.into_iter().flatten().map(|(id, value)| (id.clone(), typed(value))).collect())
    }

    fn source(&self, bucket: &str) -> Result<Option<Arc<TrivySource>>, DamagedDatabase> {
        self.checked(self.sources.get(bucket).map(|value| Arc::new(typed(value))))
    }

    fn detail(&self, id: &str) -> Result<Option<Arc<TrivyDetail>>, DamagedDatabase> {
        self.checked(self.details.get(id).map(|value| Arc::new(typed(value))))
    }

    fn repository_cpes(&self, repository: &str) -> Result<Vec<u64>, DamagedDatabase> {
        self.checked(self.cpes.get(repository).cloned().unwrap_or_default())
    }

    fn build_cpes(&self, nvr: &str) -> Result<Vec<u64>, DamagedDatabase> {
        self.repository_cpes(nvr)
    }
}

/// OSV records in memory, by ecosystem and package: the events of one range, and the rest.
#[derive(Default)]
struct Records(BTreeMap<(&'static str, &'static str), Vec<(OsvDetail, Value)>>);

impl Records {
    fn record(mut self, ecosystem: &'static str, package: &'static str, detail: Value, events: Value) -> Self {
        let detail = serde_json::from_value(detail).unwrap();
        self.0.entry((ecosystem, package)).or_default().push((detail, events));
        self
    }
}

impl OsvRows for Records {
    fn covers(&self, ecosystem: &str) -> Result<bool, DamagedDatabase> {
        Ok(self.0.keys().any(|(known, _)| *known == ecosystem))
    }

    fn ecosystems(&self, prefix: &str) -> Vec<String> {
        let mut names: Vec<_> = self.0.keys().map(|(name, _)| (*name).to_owned()).collect();
        names.retain(|name| name.starts_with(prefix));
        names
    }

    fn each_row(
        &self,
        ecosystem: &str,
        package: &str,
        _: Option<KnownRows<'_>>,
        visit: &mut dyn FnMut(&OsvRow<&str>),
    ) -> Result<(), DamagedDatabase> {
        let found = self.0.iter().find(|((known, name), _)| (*known, *name) == (ecosystem, package));
        for (detail, events) in found.iter().flat_map(|(_, records)| *records) {
            let range = OsvRange { kind: "ECOSYSTEM", events: Vec::deserialize(events).unwrap() };
            let affected = vec![OsvAffected { ranges: vec![range], ..OsvAffected::default() }];
            visit(&OsvRow { id: &detail.id, affected, ..OsvRow::default() });
        }
        Ok(())
    }

    fn detail(&self, row: &OsvRow<&str>) -> Result<Arc<OsvDetail>, DamagedDatabase> {
        let found = self.0.values().flatten().find(|(detail, _)| detail.id == row.id);
        Ok(Arc::new(found.unwrap().0.clone()))
    }
}

/// An inventory of packages, each in JSON.
fn inventory(id: &str, version: &str, packages: &[Value]) -> Inventory {
    let mut complete = packages.to_vec();
    for package in &mut complete {
        if package["ecosystem"] == "rpm" && package.get("vendor").is_none() {
            package["vendor"] = json!(match id {
                "fedora" => "Fedora Project",
                "ol" => "Oracle America",
                "rocky" => "Rocky Enterprise Software Foundation",
                _ => "Red Hat, Inc.",
            });
        }
    }
    let distribution =
        LinuxDistribution { id: id.to_owned(), version: version.to_owned(), ..LinuxDistribution::default() };
    Inventory {
        distribution: Some(distribution).filter(|distribution| !distribution.id.is_empty()),
        packages: serde_json::from_value(json!(complete)).unwrap(),
        ..Inventory::default()
    }
}

fn now() -> Timestamp {
    "2026-01-01T00:00:00Z".parse().unwrap()
}

/// Only databases that list packages of a kind that is in the image say how old what is known about it is.
#[test]
fn packages_are_looked_up_in_the_databases_that_list_their_kind() {
    let rows = Rows::default().row("debian 12", "bash", "CVE-1", json!({})).row("npm::GHSA", "x", "CVE-2", json!({}));
    let record =
        |ecosystem| Records::default().record(ecosystem, "x", json!({"id": "y"}), json!([{"introduced": "0"}]));
    let (npm, debian, go) = (record("npm"), record("Debian:12"), record("Go"));
    let package = |ecosystem: &str| json!({"ecosystem": ecosystem, "name": "x", "version": "1"});
    for (id, packages, trivy, osv) in [
        ("debian", &["deb"][..], true, &[1][..]),
        ("debian", &["deb", "npm"], true, &[0, 1]),
        ("debian", &["npm"], true, &[0]),
        ("debian", &["go"], false, &[2]),
        ("", &["go"], false, &[2]),
        ("fedora", &["rpm"], false, &[]),
        ("debian", &["rpm", "pypi"], false, &[]),
        ("debian", &[], false, &[]),
    ] {
        let packages: Vec<Value> = packages.iter().map(|kind| package(kind)).collect();
        let inventory = inventory(id, "12", &packages);
        let databases = Lookups { trivy: Some(&rows), osv: vec![&npm, &debian, &go], details: None };
        let found = looked_up(&databases, &inventory, now());
        assert_eq!((found.trivy, found.osv), (trivy, osv.iter().copied().collect()), "{id} {packages:?}");
    }
}

fn findings(rows: &Rows, inventory: &Inventory) -> ImageFindings {
    find_in(&Lookups { trivy: Some(rows), osv: Vec::new(), details: None }, inventory, now())
}

/// The findings in one line each: package, identifier, fixed version or status.
fn listed(findings: &ImageFindings, inventory: &Inventory) -> Vec<String> {
    let line = |matched: &MatchedAdvisory| {
        let package = &inventory.packages[matched.package].name;
        let fixed = matched.fixed.clone().unwrap_or_else(|| format!("{:?}", matched.status));
        format!("{package} {} {fixed}", matched.id)
    };
    findings.matches.iter().map(line).collect()
}

fn expect(rows: &Rows, inventory: &Inventory, expected: &[&str]) {
    let found = findings(rows, inventory);
    assert_eq!(listed(&found, inventory), expected);
    assert_eq!(found.gaps, []);
}

/// A system of Debian 12 and a database with its advisories.
fn debian() -> (Rows, Inventory) {
    let rows = Rows::default()
        .source("debian 12", "debian")
        .row(
            "debian 12",
            "openssl",
            "CVE-2024-1",
            json!({"FixedVersion": "3.0.13-1~deb12u1", "VendorIDs": ["DSA-1-1"]}),
        )
        .row("debian 12", "openssl", "CVE-2024-2", json!({"FixedVersion": "3.0.11-1"}))
        .row("debian 12", "openssl", "CVE-2024-3", json!({"Severity": 1, "Status": 5}))
        .row("debian 12", "openssl", "CVE-2024-4", json!({"Status": 2}))
        .row("debian 12", "libssl3", "CVE-2024-5", json!({}))
        .row("debian 12", "docker-ce", "CVE-2024-6", json!({}))
        .detail(
            "CVE-2024-1",
            json!({
            "Title": "openssl: overflow", "Severity": "HIGH", "VendorSeverity": {"nvd": 3, "redhat": 2},
            "CVSS": {"nvd": {"V3Vector": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:N/I:N/A:H", "V3Score": 7.5}},
            "References": ["https://example.test/1"], "PublishedDate": "2024-01-02T03:04:05Z"}),
        )
        .detail("CVE-2024-3", json!({"Severity": "CRITICAL", "VendorSeverity": {"nvd": 4}}));
    let inventory = inventory(
        "debian",
        "12.5",
        &[
            json!({"ecosystem": "deb", "name": "libssl3", "version": "3.0.11-1~deb12u2", "architecture": "amd64",
            "source": {"name": "openssl", "version": "3.0.11-1~deb12u2"}}),
            json!({"ecosystem": "deb", "name": "docker-ce", "version": "5:24.0", "vendor": "Docker <support@docker.com>"}),
            json!({"ecosystem": "deb", "name": "bash", "version": "5.2"}),
        ],
    );
    (rows, inventory)
}

#[test]
fn debian_compares_source_packages_and_keeps_what_is_not_fixed() {
    let (rows, inventory) = debian();
    expect(
        &rows,
        &inventory,
        &[
            "libssl3 CVE-2024-1 3.0.13-1~deb12u1",
            "libssl3 CVE-2024-2 3.0.11-1",
            "libssl3 CVE-2024-3 WillNotFix",
            "libssl3 CVE-2024-4 Affected",
        ],
    );
}

#[test]
fn findings_for_a_package_count_for_all_images() {
    let (rows, image) = debian();
    let details = DetailCache::default();
    let find = |image: &Inventory| {
        find_in(&Lookups { trivy: Some(&rows), osv: Vec::new(), details: Some(&details) }, image, now())
    };
    let sorted = |found: &ImageFindings, image: &Inventory| {
        let mut lines = listed(found, image);
        lines.sort();
        lines
    };
    let first = find(&image);
    let read = rows.reads.load(Ordering::Relaxed);
    assert_eq!((listed(&first, &image).len(), read), (4, 2), "the two packages of Debian");
    let mut other = image.clone();
    other.packages.reverse();
    assert_eq!(sorted(&find(&other), &other), sorted(&first, &image));
    assert_eq!(rows.reads.load(Ordering::Relaxed), read, "they are known");
    assert_eq!(find(&other), findings(&rows, &other), "as without memory");
    let read = rows.reads.load(Ordering::Relaxed);
    for change in [
        |image: &mut Inventory| image.packages[0].source.as_mut().unwrap().version = "3.0.13-2".to_owned(),
        |image: &mut Inventory| image.distribution.as_mut().unwrap().version = "13.1".to_owned(),
        |image: &mut Inventory| image.packages[1].vendor = None,
    ] {
        let mut other = image.clone();
        change(&mut other);
        assert_eq!(find(&other), findings(&rows, &other), "another package or release");
    }
    assert!(rows.reads.load(Ordering::Relaxed) > read);
}

#[test]
fn findings_that_did_not_fit_are_found_in_the_next_image() {
    let mut rows = Rows::default().row("debian 12", "small", "CVE-2024-0", json!({}));
    for number in 0..1000 {
        rows = rows.row("debian 12", "linux", &format!("CVE-2025-{number:04}"), json!({}));
    }
    let small = json!({"ecosystem": "deb", "name": "small", "version": "1"});
    let module = |number: usize| json!({"ecosystem": "deb", "name": format!("module-{number}"), "version": "1", "source": {"name": "linux", "version": "1"}});
    let all: Vec<Value> = (0..101).map(module).chain([small.clone()]).collect();
    let details = DetailCache::default();
    let lookups = || Lookups { trivy: Some(&rows), osv: Vec::new(), details: Some(&details) };
    let full = find_in(&lookups(), &inventory("debian", "12", &all), now());
    assert_eq!((full.matches.len(), full.gaps.len()), (100_000, 1), "it is too much");
    let image = inventory("debian", "12", &[small]);
    assert_eq!(listed(&find_in(&lookups(), &image, now()), &image), ["small CVE-2024-0 Affected"]);
}

/// A gap names the place in the image, so it is found again for each.
#[test]
fn gaps_are_those_of_each_image() {
    let rows = Rows::default().row("npm::GitHub", "x", "CVE-2024-1", json!({"VulnerableVersions": ["<2"]}));
    let details = DetailCache::default();
    let lookups = || Lookups { trivy: Some(&rows), osv: Vec::new(), details: Some(&details) };
    for place in ["a/package.json", "b/package.json"] {
        let package = json!({"ecosystem": "npm", "name": "x", "version": "latest", "path": place});
        let found = find_in(&lookups(), &inventory("", "", &[package]), now());
        assert_eq!(found.gaps.iter().map(|gap| &*gap.place).collect::<Vec<_>>(), [place]);
    }
}

#[test]
fn advisories_have_the_details_of_their_vulnerability() {
    let (rows, inventory) = debian();
    let found = findings(&rows, &inventory);
    let first = &found.matches[0];
    assert_eq!(
        (first.status, first.severity, first.severity_source.as_deref()),
        (FixStatus::Fixed, Severity::High, Some("nvd"))
    );
    assert!(first.ratings.contains(&("nvd".to_owned(), Severity::High)), "{:?}", first.ratings);
    assert_eq!((&*first.source, &first.aliases[..]), ("debian", &["DSA-1-1".to_owned()][..]));
    assert_eq!(
        (first.title.as_deref(), first.score.as_ref().map(CvssScore::value)),
        (Some("openssl: overflow"), Some(7.5))
    );
    assert_eq!(first.published.unwrap().to_string(), "2024-01-02T03:04:05Z");
    let third = &found.matches[2];
    assert_eq!(
        (third.severity, third.severity_source.as_deref()),
        (Severity::Low, Some("debian")),
        "the package's own"
    );
    assert_eq!(found.matches[3].severity, Severity::Unknown);
    assert_eq!(found.end_of_life.unwrap().to_string(), "2028-06-30T23:59:59Z");
}

#[test]
fn support_of_a_release_ends() {
    let rows = Rows::default().row("debian 10", "bash", "CVE-2024-1", json!({}));
    let found = findings(&rows, &inventory("debian", "10.13", &[]));
    assert_eq!(found.end_of_life.unwrap().to_string(), "2024-06-30T23:59:59Z");
}

#[test]
fn copies_of_a_package_are_matched_once() {
    let rows = language_rows();
    let copy = |path: String| json!({"ecosystem": "npm", "name": "lodash", "version": "4.17.19", "path": path});
    let mut packages: Vec<_> = (0..100).map(|number| copy(format!("{number:03}/package.json"))).collect();
    packages.push(json!({"ecosystem": "npm", "name": "lodash", "version": "4.17.20", "path": "z"}));
    let found = findings(&rows, &inventory("", "", &packages));
    assert_eq!(found.matches.iter().map(|matched| matched.package).collect::<Vec<_>>(), [0, 0, 100]);
    assert_eq!(found.copies, std::collections::HashMap::from([(0, (1..100).collect())]));
}
