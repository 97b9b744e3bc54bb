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
fn what_was_found_for_a_package_counts_for_all_images() {
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
fn what_did_not_fit_in_one_image_is_found_in_the_next() {
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
    assert_eq!(found.end_of_life.unwrap().to_string(), "2028-06-10T23:59:59Z");
}

#[test]
fn alpine_and_its_descendants_compare_origins() {
    let rows = Rows::default()
        .row("alpine 3.19", "openssl", "CVE-2024-1", json!({"FixedVersion": "3.1.4-r6"}))
        .row("alpine 3.19", "openssl", "CVE-2024-2", json!({"FixedVersion": "0"}))
        .row("alpine 3.19", "openssl", "CVE-2024-3", json!({"FixedVersion": "3.1.4-r6", "AffectedVersion": "3.1.4-r6"}))
        .row("alpine edge", "openssl", "CVE-2024-4", json!({"FixedVersion": "3.2.0-r0"}))
        .row("wolfi", "openssl", "CVE-2024-5", json!({"FixedVersion": "3.1.4-r6"}))
        .row("chainguard", "openssl", "CVE-2024-6", json!({"FixedVersion": "3.1.4-r4"}));
    let package = json!({"ecosystem": "apk", "name": "libssl3", "version": "3.1.4-r5", "source": {"name": "openssl", "version": "3.1.4-r5"}});
    let packages = std::slice::from_ref(&package);
    expect(&rows, &inventory("alpine", "3.19.1", packages), &["libssl3 CVE-2024-1 3.1.4-r6"]);
    expect(&rows, &inventory("wolfi", "20230201", packages), &["libssl3 CVE-2024-5 3.1.4-r6"]);
    expect(&rows, &inventory("chainguard", "20230214", packages), &[]);
    let mut edge = inventory("alpine", "3.19.1", packages);
    edge.distribution.as_mut().unwrap().repository = Some("edge".to_owned());
    // From which release a package is, is not known if os-release and the repositories differ.
    expect(&rows, &edge, &["libssl3 CVE-2024-1 3.1.4-r6", "libssl3 CVE-2024-4 3.2.0-r0"]);
    edge.distribution.as_mut().unwrap().version = "3.18.4".to_owned();
    let gaps: Vec<_> = findings(&rows, &edge).gaps.into_iter().map(|gap| gap.problem).collect();
    assert_eq!(gaps, ["no database has advisories for alpine 3.18"]);
    let mut newer = edge.clone();
    newer.distribution.as_mut().unwrap().repository = Some("3.23".to_owned());
    newer.distribution.as_mut().unwrap().version = "3.19.1".to_owned();
    let gaps: Vec<_> = findings(&rows, &newer).gaps.into_iter().map(|gap| gap.problem).collect();
    assert_eq!(gaps, ["no database has advisories for alpine 3.23"]);
    for snapshot in ["3.23_alpha20250612", "3.23.0_alpha20251016"] {
        edge.distribution.as_mut().unwrap().version = snapshot.to_owned();
        expect(&rows, &edge, &["libssl3 CVE-2024-4 3.2.0-r0"]);
        assert!(findings(&rows, &edge).gaps.is_empty(), "it names a release that does not exist yet");
    }
    let records = Records::default()
        .record("Alpine:edge", "openssl", json!({"id": "EDGE-1"}), json!([{"introduced": "0"}]))
        .record("Alpine:v3.18", "openssl", json!({"id": "OLD-1"}), json!([{"introduced": "0"}]));
    edge.distribution.as_mut().unwrap().version = "3.18.4".to_owned();
    let found = find_in(&Lookups { trivy: None, osv: vec![&records], details: None }, &edge, now());
    let ids: Vec<_> = found.matches.iter().map(|matched| &*matched.id).collect();
    assert_eq!((&ids[..], found.gaps.len()), (&["EDGE-1", "OLD-1"][..], 0));
}

#[test]
fn ubuntu_and_amazon_and_suse_have_their_buckets() {
    let rows = Rows::default()
        .row("ubuntu 22.04", "curl", "CVE-2024-1", json!({"FixedVersion": "7.81.0-1ubuntu1.16"}))
        .row("amazon linux 2023", "curl", "CVE-2024-2", json!({"FixedVersion": "8.5.0-1.amzn2023.0.1"}))
        .row("SUSE Linux Enterprise 15.5", "curl", "SUSE-SU-2024:1-1", json!({"FixedVersion": "8.0.1-150400.5.41.1"}))
        .row("openSUSE Tumbleweed", "curl", "CVE-2024-3", json!({"FixedVersion": "8.0.1-150400.5.41.1"}));
    let deb = json!({"ecosystem": "deb", "name": "curl", "version": "7.81.0-1ubuntu1.15"});
    expect(&rows, &inventory("ubuntu", "22.04", &[deb]), &["curl CVE-2024-1 7.81.0-1ubuntu1.16"]);
    let amazon =
        json!({"ecosystem": "rpm", "name": "curl", "version": "8.3.0-1.amzn2023.0.2", "vendor": "Amazon Linux"});
    expect(&rows, &inventory("amzn", "2023", &[amazon]), &["curl CVE-2024-2 8.5.0-1.amzn2023.0.1"]);
    let suse = json!({"ecosystem": "rpm", "name": "curl", "version": "8.0.1-150400.5.36.1", "vendor": "SUSE LLC <https://www.suse.com/>"});
    expect(
        &rows,
        &inventory("sles", "15.5", std::slice::from_ref(&suse)),
        &["curl SUSE-SU-2024:1-1 8.0.1-150400.5.41.1"],
    );
    expect(&rows, &inventory("opensuse-tumbleweed", "20240301", &[suse]), &["curl CVE-2024-3 8.0.1-150400.5.41.1"]);
}

#[test]
fn photon_and_azure_name_source_packages() {
    let rows = Rows::default()
        .row("Photon OS 5.0", "curl", "CVE-2024-1", json!({"FixedVersion": "8.1.2-3.ph5"}))
        .row("Azure Linux 3.0", "curl", "CVE-2024-2", json!({"FixedVersion": "0:8.8.0-2.azl3"}))
        .row("Azure Linux 3.0", "curl", "CVE-2024-3", json!({}));
    let package = |version: &str, vendor: &str| json!({"ecosystem": "rpm", "name": "curl-libs", "version": version, "vendor": vendor, "source": {"name": "curl", "version": version}});
    let photon = inventory("photon", "5.0", &[package("8.1.2-2.ph5", "VMware, Inc.")]);
    expect(&rows, &photon, &["curl-libs CVE-2024-1 8.1.2-3.ph5"]);
    let azure = inventory("azurelinux", "3.0", &[package("8.8.0-1.azl3", "Microsoft Corporation")]);
    expect(&rows, &azure, &["curl-libs CVE-2024-2 8.8.0-2.azl3", "curl-libs CVE-2024-3 Affected"]);
}

#[test]
fn rebuilds_of_red_hat_compare_modules_architectures_and_flavours() {
    let entry = |fixed: &str, arches: &[&str]| json!({"FixedVersion": fixed, "Arches": arches, "VendorIDs": ["ADV-1"]});
    let rows = Rows::default()
        .row("alma 8", "nodejs:18::npm", "CVE-2024-1", json!({"FixedVersion": "1:9.5.0-1.module_el8"}))
        .row("alma 8", "npm", "CVE-2024-2", json!({"FixedVersion": "1:99"}))
        .row(
            "rocky 9",
            "curl",
            "CVE-2024-3",
            json!({"FixedVersion": "0.0.0", "Entries": [
            entry("7.76.1-29.el9", &["x86_64"]), entry("0:7.76.1-31.el9", &["x86_64"]), entry("7.76.1-30.el9", &["x86_64"])]}),
        )
        .row("rocky 9", "curl", "CVE-2024-4", json!({"FixedVersion": "9", "Entries": [entry("9", &["aarch64"])]}))
        .row("rocky 9", "curl", "CVE-2024-5", json!({"FixedVersion": "9"}))
        .row(
            "Oracle Linux 8",
            "curl",
            "CVE-2024-6",
            json!({"Entries": [
            entry("10:7.61.1-40.0.1.el8_fips", &["x86_64"]), entry("7.61.1-34.el8", &["x86_64"])]}),
        )
        .row(
            "Oracle Linux 8",
            "curl",
            "CVE-2024-7",
            json!({"Entries": [entry("2:7.61.1-40.ksplice1.el8", &["x86_64"])]}),
        );
    let npm = json!({"ecosystem": "rpm", "name": "npm", "version": "1:8.19.4-1.module_el8", "module": "nodejs:18:8060020230523:ad008a3a", "vendor": "AlmaLinux"});
    expect(&rows, &inventory("almalinux", "8.9", &[npm]), &["npm CVE-2024-1 1:9.5.0-1.module_el8"]);
    let curl =
        |version: &str| json!({"ecosystem": "rpm", "name": "curl", "version": version, "architecture": "x86_64"});
    let rocky = inventory("rocky", "9.3", &[curl("7.76.1-26.el9")]);
    expect(&rows, &rocky, &["curl CVE-2024-3 7.76.1-31.el9", "curl CVE-2024-5 9"]);
    assert_eq!(findings(&rows, &rocky).matches[0].aliases, ["ADV-1"]);
    expect(&rows, &inventory("ol", "8.9", &[curl("7.61.1-33.el8")]), &["curl CVE-2024-6 7.61.1-34.el8"]);
    let mut everywhere = inventory("ol", "8.9", &[curl("7.61.1-33.el8")]);
    everywhere.packages[0].architecture = "noarch".to_owned();
    expect(&rows, &everywhere, &["curl CVE-2024-6 7.61.1-34.el8"]);
    let unlabelled = inventory(
        "almalinux",
        "8.9",
        &[json!({"ecosystem": "rpm", "name": "npm", "version": "1:8-1.module_el8", "vendor": "AlmaLinux"})],
    );
    let found = findings(&rows, &unlabelled);
    assert_eq!((found.matches.len(), &*found.gaps[0].place), (0, "npm"), "the stream is not known");
}

#[test]
fn red_hat_s_advisories_hold_for_products() {
    let entry = |cpes: &[u64], fixed: &str, cves: Value| json!({"Affected": cpes, "FixedVersion": fixed, "Cves": cves});
    let mut rows = Rows::default()
        .source("Red Hat", "redhat")
        .row("Red Hat", "openssl-libs", "RHSA-2024:1", json!({"Entries": [
            entry(&[1, 2], "1:3.0.7-25.el9", json!([{"ID": "CVE-2024-1", "Severity": 3}, {"ID": "CVE-2024-2", "Severity": 2}]))]}))
        .row("Red Hat", "openssl-libs", "RHSA-2024:2", json!({"Entries": [
            entry(&[1], "1:3.0.7-27.el9", json!([{"ID": "CVE-2024-1", "Severity": 3}]))]}))
        .row("Red Hat", "openssl-libs", "RHSA-2024:3", json!({"Entries": [entry(&[99], "9:1", json!([{"ID": "CVE-2024-3"}]))]}))
        .row("Red Hat", "openssl-libs", "RHSA-2024:4", json!({"Entries": [
            {"Affected": [1], "FixedVersion": "9:1", "Arches": ["aarch64"], "Cves": [{"ID": "CVE-2024-4"}]}]}))
        .row("Red Hat", "openssl-libs", "CVE-2024-5", json!({"Entries": [{"Affected": [1], "Status": 7, "Cves": [{"Severity": 1}]}]}))
        .row("Red Hat", "nodejs:18::npm", "CVE-2024-6", json!({"Entries": [{"Affected": [3], "Status": 5, "Cves": [{"Severity": 1}]}]}))
        .detail("CVE-2024-1", json!({"VendorSeverity": {"nvd": 4, "redhat": 2}}));
    rows.cpes = BTreeMap::from([
        ("rhel-9-for-x86_64-baseos-rpms", vec![1]),
        ("rhel-9-for-x86_64-appstream-rpms", vec![2]),
        ("custom-rpms", vec![99]),
        ("ubi9-container-9.4-1-x86_64", vec![3]),
    ]);
    let openssl =
        json!({"ecosystem": "rpm", "name": "openssl-libs", "version": "1:3.0.7-24.el9", "architecture": "x86_64"});
    let default = inventory("rhel", "9.4", std::slice::from_ref(&openssl));
    expect(
        &rows,
        &default,
        &[
            "openssl-libs CVE-2024-1 1:3.0.7-27.el9",
            "openssl-libs CVE-2024-2 1:3.0.7-25.el9",
            "openssl-libs CVE-2024-5 EndOfLife",
        ],
    );
    let first = findings(&rows, &default).matches.remove(0);
    assert_eq!(
        (first.severity, first.severity_source.as_deref()),
        (Severity::High, Some("redhat")),
        "the advisory's own"
    );
    assert_eq!(first.aliases, ["RHSA-2024:2"], "the advisory with the latest fix");

    let layer = crate::oci::Digest::sha256(b"layer");
    let mut npm = json!({"ecosystem": "rpm", "name": "npm", "version": "1:8", "module": "nodejs:18:1:2", "architecture": "x86_64"});
    let mut built = openssl;
    (npm["layer"], built["layer"]) = (json!(layer), json!(layer));
    let mut custom = inventory("rhel", "9.4", &[npm, built]);
    let build = json!({"content_sets": ["custom-rpms__9"], "nvr": "ubi9-container-9.4-1", "architecture": "x86_64"});
    custom.red_hat_builds.insert(layer, serde_json::from_value(build).unwrap());
    expect(&rows, &custom, &["npm CVE-2024-6 WillNotFix", "openssl-libs CVE-2024-3 9:1"]);

    let mut partly = custom.clone();
    partly.red_hat_builds.get_mut(&layer).unwrap().content_sets.push("private-rpms".to_owned());
    let found = findings(&rows, &partly);
    assert_eq!(listed(&found, &partly).len(), 2);
    assert_eq!(found.gaps[0].problem, "trivy-db does not know the repository private-rpms");

    let found = findings(&rows, &inventory("rhel", "10.0", &[json!(default.packages[0])]));
    assert_eq!((found.matches.len(), &*found.gaps[0].place), (0, "root/buildinfo"), "the repositories are not known");
}

/// Advisories of several ecosystems.
fn language_rows() -> Rows {
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
fn what_cannot_be_compared_is_never_clean() {
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

#[test]
fn a_fix_that_is_no_version_of_alpine_is_never_clean() {
    let rows = Rows::default().row("minimos", "a", "CVE-2024-1", json!({"FixedVersion": "999:9-r9"})).row(
        "minimos",
        "a",
        "CVE-2024-2",
        json!({"FixedVersion": "none"}),
    );
    let inventory = inventory("minimos", "1", &[json!({"ecosystem": "apk", "name": "a", "version": "1.0-r0"})]);
    expect(&rows, &inventory, &["a CVE-2024-1 Unknown", "a CVE-2024-2 Unknown"]);
}

#[test]
fn a_distribution_whose_packages_are_all_from_others_is_a_gap() {
    let rows =
        Rows::default().row("debian 12", "x", "CVE-2024-1", json!({})).row("alma 9", "x", "CVE-2024-1", json!({}));
    let gaps =
        |inventory: &Inventory| findings(&rows, inventory).gaps.into_iter().map(|gap| gap.problem).collect::<Vec<_>>();
    let docker =
        json!({"ecosystem": "deb", "name": "docker-ce", "version": "1", "vendor": "Docker <support@docker.com>"});
    let key = json!({"ecosystem": "rpm", "name": "gpg-pubkey", "version": "1", "vendor": "AlmaLinux"});
    let other = json!({"ecosystem": "rpm", "name": "x", "version": "1", "vendor": "Somebody"});
    let problem = |name: &str| format!("no package is from {name}, so none was compared with its advisories");
    assert_eq!(gaps(&inventory("debian", "12", std::slice::from_ref(&docker))), [problem("debian 12")]);
    assert_eq!(gaps(&inventory("almalinux", "9", &[key, other])), [problem("almalinux 9")]);
    let of_fedora = json!({"ecosystem": "rpm", "name": "x", "version": "1", "vendor": "Fedora Project"});
    assert_eq!(gaps(&inventory("almalinux", "9", &[of_fedora])), [""; 0], "it is compared as AlmaLinux's");
    let bash = json!({"ecosystem": "deb", "name": "bash", "version": "5.0"});
    let mut debian = inventory("debian", "12", &[docker, bash]);
    assert_eq!(gaps(&debian), [""; 0]);
    debian.distribution.as_mut().unwrap().derivative = Some("raspbian".to_owned());
    assert_eq!(gaps(&debian), ["raspbian has no advisories of its own: those of debian were used"]);
}

#[test]
fn what_the_databases_do_not_cover_is_a_gap() {
    let mut rows = Rows::default().row("debian 12", "bash", "CVE-2024-1", json!({}));
    rows.buckets.insert("debian 11", BTreeMap::new());
    let bash = |ecosystem: &str| json!({"ecosystem": ecosystem, "name": "bash", "version": "5.0"});
    for (inventory, place, problem) in [
        (inventory("fedora", "40", &[bash("rpm")]), "etc/os-release", "no database has advisories for fedora 40"),
        (inventory("debian", "99", &[bash("deb")]), "etc/os-release", "no database has advisories for debian 99"),
        (inventory("debian", "11", &[bash("deb")]), "etc/os-release", "no database has advisories for debian 11"),
        (inventory("debian", "", &[bash("deb")]), "etc/os-release", "no database has advisories for debian "),
        (inventory("", "", &[bash("deb")]), "etc/os-release", "the packages belong to an unknown distribution"),
        (
            inventory("debian", "12", &[bash("rpm")]),
            "etc/os-release",
            "debian 12 has no advisories for packages of this kind: bash",
        ),
        (inventory("debian", "12", &[]), "etc/os-release", "the image names debian 12 but states no packages of it"),
    ] {
        let found = findings(&rows, &inventory);
        let gaps: Vec<_> = found.gaps.iter().map(|gap| (&*gap.place, &*gap.problem)).collect();
        assert_eq!((found.matches.len(), gaps), (0, vec![(place, problem)]));
    }
    let records = Records::default().record("Debian:12", "bash", json!({"id": "x"}), json!([{"introduced": "0"}]));
    let lookups = Lookups { trivy: None, osv: vec![&records], details: None };
    let found = find_in(&lookups, &inventory("debian", "12", &[bash("rpm")]), now());
    assert_eq!(found.gaps[0].problem, "debian 12 has no advisories for packages of this kind: bash");
    assert_eq!(find_in(&lookups, &inventory("debian", "12", &[bash("deb")]), now()).gaps, []);
    let debian = inventory("debian", "12", &[bash("deb")]);
    assert_eq!(find_in(&Lookups::default(), &debian, now()).gaps.len(), 1, "there is no database");
    rows.is_damaged = true;
    let found = findings(&rows, &debian);
    assert!(found.gaps.iter().any(|gap| gap.place == "trivy-db" && gap.problem.contains("page 7")), "{found:?}");
}

#[test]
fn an_image_with_more_vulnerabilities_than_can_be_listed_has_a_gap() {
    let mut rows = Rows::default();
    for number in 0..1_000 {
        rows = rows.row("npm::x", "lodash", &format!("CVE-2024-{number}"), json!({"VulnerableVersions": ["<9"]}));
    }
    let package = |path| json!({"ecosystem": "npm", "name": "lodash", "version": format!("4.0.{path}"), "path": "x"});
    let found = findings(&rows, &inventory("", "", &(0..101).map(package).collect::<Vec<_>>()));
    assert_eq!(found.matches.len(), 100_000);
    assert!(found.gaps.iter().any(|gap| gap.problem.contains("may be more")), "{:?}", found.gaps);
}

/// Advisories name Java packages by group and artifact, so none is found for an archive that states no group.
#[test]
fn a_java_archive_without_a_group_is_a_gap() {
    let rows = Rows::default().row("maven::x", "org.springframework:spring-core", "CVE-2024-1", json!({}));
    let jar = |name: &str| json!({"ecosystem": "maven", "name": name, "version": "5.3.10", "path": "app/a.jar"});
    let gaps = |name: &str| findings(&rows, &inventory("", "", &[jar(name)])).gaps;
    assert_eq!(gaps("org.springframework:spring-core"), []);
    let found = gaps("spring-core");
    assert_eq!((&*found[0].place, found.len()), ("app/a.jar", 1));
    assert_eq!(found[0].problem, "spring-core states no group, by which advisories name it");
}

#[test]
fn languages_without_a_database_are_a_gap() {
    let npm = inventory("", "", &[json!({"ecosystem": "npm", "name": "lodash", "version": "4.17.19", "path": "x"})]);
    let rows = Rows::default().row("debian 12", "bash", "CVE-2024-1", json!({}));
    for databases in [Lookups::default(), Lookups { trivy: Some(&rows), osv: Vec::new(), details: None }] {
        let gaps = find_in(&databases, &npm, now()).gaps;
        assert_eq!(
            gaps.iter().map(|gap| &*gap.problem).collect::<Vec<_>>(),
            ["no database has advisories for packages of npm"]
        );
    }
    let records = Records::default().record("npm", "other", json!({"id": "GHSA-1"}), json!([{"introduced": "0"}]));
    assert_eq!(find_in(&Lookups { trivy: None, osv: vec![&records], details: None }, &npm, now()).gaps, []);
}

#[test]
fn support_of_a_release_ends() {
    let rows = Rows::default().row("debian 10", "bash", "CVE-2024-1", json!({}));
    let found = findings(&rows, &inventory("debian", "10.13", &[]));
    assert_eq!(found.end_of_life.unwrap().to_string(), "2024-06-30T23:59:59Z");
}

#[test]
fn osv_records_are_joined_with_each_other_and_with_trivy_db() {
    let fixed = |version: &str| json!([{"introduced": "0"}, {"fixed": version}]);
    let records = Records::default()
        .record("AlmaLinux:9", "openssl-libs", json!({"id": "ALSA-2024:1", "summary": "Important: openssl security update", "related": ["CVE-2024-2", "CVE-2024-1"]}), fixed("1:3.0.7-25.el9"))
        .record("AlmaLinux:9", "openssl-libs", json!({"id": "ALSA-2024:2", "related": ["CVE-2024-3"]}), fixed("1:3.0.7-20.el9"))
        .record("PyPI", "jinja2", json!({"id": "PYSEC-2024-1", "aliases": ["CVE-2024-4", "GHSA-4"]}), fixed("3.1.3"))
        .record("PyPI", "jinja2", json!({"id": "GHSA-4", "aliases": ["CVE-2024-4"], "severity_word": "MODERATE"}), fixed("3.1.3"))
        .record("PyPI", "jinja2", json!({"id": "PYSEC-2024-9"}), fixed("3.1.9"));
    let inventory = inventory(
        "almalinux",
        "9.3",
        &[
            json!({"ecosystem": "rpm", "name": "openssl-libs", "version": "1:3.0.7-24.el9", "vendor": "AlmaLinux"}),
            json!({"ecosystem": "pypi", "name": "jinja2", "version": "3.1.2", "path": "x"}),
        ],
    );
    let rows = Rows::default()
        .source("alma 9", "alma")
        .row("alma 9", "openssl-libs", "CVE-2024-1", json!({"FixedVersion": "1:3.0.7-26.el9"}))
        .row("pip::GitHub", "jinja2", "CVE-2024-4", json!({"VulnerableVersions": ["< 3.1.3"], "VendorIDs": ["GHSA-4"]}))
        .detail("CVE-2024-1", json!({"VendorSeverity": {"alma": 2}}));

    let alone = find_in(&Lookups { trivy: None, osv: vec![&records], details: None }, &inventory, now());
    assert_eq!(
        listed(&alone, &inventory),
        [
            "openssl-libs CVE-2024-1 1:3.0.7-25.el9",
            "openssl-libs CVE-2024-2 1:3.0.7-25.el9",
            "jinja2 CVE-2024-4 3.1.3",
            "jinja2 PYSEC-2024-9 3.1.9",
        ]
    );
    assert_eq!(alone.gaps, []);
    assert_eq!(
        (&alone.matches[0].aliases[..], alone.matches[0].severity),
        (&["ALSA-2024:1".to_owned()][..], Severity::High)
    );
    assert_eq!(alone.matches[2].aliases, ["GHSA-4", "PYSEC-2024-1"]);
    assert_eq!((alone.matches[2].severity, &*alone.matches[2].source), (Severity::Medium, "osv"));

    let both = find_in(&Lookups { trivy: Some(&rows), osv: vec![&records], details: None }, &inventory, now());
    assert_eq!(
        listed(&both, &inventory),
        [
            "openssl-libs CVE-2024-1 1:3.0.7-26.el9",
            "openssl-libs CVE-2024-2 1:3.0.7-25.el9",
            "jinja2 CVE-2024-4 3.1.3",
            "jinja2 PYSEC-2024-9 3.1.9",
        ]
    );
    let first = &both.matches[0];
    assert_eq!(
        (&*first.source, first.severity, &first.aliases[..]),
        ("alma", Severity::Medium, &["ALSA-2024:1".to_owned()][..])
    );
    let rated = |source: &str, severity| (source.to_owned(), severity);
    let ratings = [rated("alma", Severity::Medium), rated("osv", Severity::High)];
    assert!(ratings.iter().all(|rated| first.ratings.contains(rated)), "each keeps its own: {:?}", first.ratings);
}

/// The names of ecosystems are those of the schema; which package the records name differs.
#[test]
fn osv_records_are_looked_up_as_each_distribution_publishes_them() {
    let fixed = |version: &str| json!([{"introduced": "0"}, {"fixed": version}]);
    let of = |id: &str| json!({ "id": id });
    let records = Records::default()
        .record("Rocky Linux:9", "openssl", of("RLSA-1"), fixed("1:3.0.7-25.el9"))
        .record("Rocky Linux:9", "openssl-libs", of("RLSA-2"), fixed("1:3.0.7-25.el9"))
        .record("SUSE:Linux Enterprise Module for Basesystem 15 SP5", "openssl", of("SUSE-1"), fixed("1:3.0.7-25.el9"))
        .record("SUSE:Linux Enterprise Server 15 SP5-LTSS", "openssl", of("SUSE-2"), fixed("1:3.0.7-25.el9"))
        .record("SUSE:Linux Enterprise Server 15 SP4", "openssl", of("SUSE-3"), fixed("1:3.0.7-25.el9"))
        .record("SUSE:Linux Enterprise Server 15 SP50", "openssl", of("SUSE-4"), fixed("1:3.0.7-25.el9"))
        .record("openSUSE:Leap 15.6", "openssl", of("openSUSE-1"), fixed("1:3.0.7-25.el9"))
        .record("Photon OS:5.0", "openssl", of("PHSA-1"), fixed("1:3.0.7-25.el9"))
        .record("Azure Linux:3", "openssl", of("AZL-1"), fixed("1:3.0.7-25.el9"))
        .record("Ubuntu:22.04:LTS", "openssl", of("USN-1"), fixed("1:3.0.7-25"))
        .record("Ubuntu:Pro:18.04:LTS", "openssl", of("USN-2"), fixed("1:3.0.7-25"))
        .record("Wolfi", "openssl", of("CGA-1"), fixed("3.0.7-r25"))
        .record("Wolfi", "openssl-libs", of("CGA-2"), fixed("3.0.7-r25"));
    let rpm = |vendor: &str| json!({"ecosystem": "rpm", "name": "openssl-libs", "version": "1:3.0.7-24.el9", "vendor": vendor, "source": {"name": "openssl", "version": "1:3.0.7-24.el9"}});
    let deb = || json!({"ecosystem": "deb", "name": "openssl-libs", "version": "1:3.0.7-24", "source": {"name": "openssl", "version": "1:3.0.7-24"}});
    let apk = || json!({"ecosystem": "apk", "name": "openssl-libs", "version": "3.0.7-r24", "source": {"name": "openssl", "version": "3.0.7-r24"}});
    for (id, version, package, expected) in [
        ("rocky", "9.3", rpm("Rocky"), &["RLSA-1", "RLSA-2"][..]),
        ("sles", "15.5", rpm("SUSE LLC"), &["SUSE-1", "SUSE-2"]),
        ("opensuse-leap", "15.6", rpm("openSUSE"), &["openSUSE-1"]),
        ("photon", "5.0", rpm("VMware, Inc."), &["PHSA-1"]),
        ("azurelinux", "3.0", rpm("Microsoft Corporation"), &["AZL-1"]),
        ("ubuntu", "22.04", deb(), &["USN-1"]),
        ("wolfi", "20230201", apk(), &["CGA-1", "CGA-2"]),
    ] {
        let found = find_in(
            &Lookups { trivy: None, osv: vec![&records], details: None },
            &inventory(id, version, &[package]),
            now(),
        );
        let ids: Vec<_> = found.matches.iter().map(|matched| &*matched.id).collect();
        assert_eq!((&ids[..], found.gaps.len()), (expected, 0), "{id}: {:?}", found.gaps);
    }
    let sles = inventory("sles", "15.3", &[rpm("SUSE LLC")]);
    assert_eq!(
        find_in(&Lookups { trivy: None, osv: vec![&records], details: None }, &sles, now()).gaps.len(),
        1,
        "no such release"
    );
}

/// Records of module streams name the stream in their summary alone.
#[test]
fn osv_records_of_other_module_streams_do_not_count() {
    let fixed = |version: &str| json!([{"introduced": "0"}, {"fixed": version}]);
    let of = |id: &str, summary: &str| json!({"id": id, "summary": summary});
    let records = Records::default()
        .record(
            "AlmaLinux:8",
            "npm",
            of("ALSA-18", "Moderate: nodejs:18 security update"),
            fixed("1:9.5.0-1.module_el8.9"),
        )
        .record(
            "AlmaLinux:8",
            "npm",
            of("ALSA-20", "Moderate: nodejs:20 security update"),
            fixed("1:10.1.0-1.module_el8.9"),
        )
        .record("AlmaLinux:8", "npm", of("ALSA-X", "Moderate: security update"), fixed("1:9.9.0-1.module+el8.9"))
        .record("AlmaLinux:8", "npm", of("ALSA-0", "Moderate: npm security update"), fixed("1:9.9.0-1.el8"));
    let npm = |version: &str, module: Option<&str>| json!({"ecosystem": "rpm", "name": "npm", "version": version, "module": module, "vendor": "AlmaLinux"});
    for (package, expected) in [
        (npm("1:9.4.0-1.module_el8", Some("nodejs:18:806:ad00")), &["ALSA-0", "ALSA-18", "ALSA-X"][..]),
        (npm("1:9.4.0-1.module_el8", Some("nodejs:20:806:ad00")), &["ALSA-0", "ALSA-20", "ALSA-X"]),
        (npm("1:9.4.0-1.module_el8", None), &["ALSA-0", "ALSA-18", "ALSA-20", "ALSA-X"]),
        (npm("1:9.4.0-1.el8", None), &["ALSA-0"]),
    ] {
        let inventory = inventory("almalinux", "8.9", std::slice::from_ref(&package));
        let found = find_in(&Lookups { trivy: None, osv: vec![&records], details: None }, &inventory, now());
        let ids: Vec<_> = found.matches.iter().map(|matched| &*matched.id).collect();
        assert_eq!(ids, expected, "{package}");
    }
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
