//! Records of OSV.

use super::*;

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

/// The identifiers of the records that are found, and how many gaps there are; the same when all is looked up again.
fn found_ids(records: &Records, inventory: &Inventory) -> (Vec<String>, usize) {
    let details = DetailCache::default();
    let ids = || {
        let found = find_in(&Lookups { trivy: None, osv: vec![records], details: Some(&details) }, inventory, now());
        (found.matches.into_iter().map(|matched| matched.id).collect::<Vec<_>>(), found.gaps.len())
    };
    let first = ids();
    assert_eq!(ids(), first);
    first
}

/// An image does not state from which registry or for which releases a package is.
#[test]
fn records_of_registries_and_of_all_releases_are_looked_up() {
    let until_2 = || json!([{"introduced": "0"}, {"fixed": "2"}]);
    for (id, version, package, listed, name, wider) in [
        ("", "", ("composer", "drupal/q"), "Packagist", "drupal/q", "Packagist:https://packages.drupal.org/8"),
        ("", "", ("maven", "org.q:q"), "Maven", "org.q:q", "Maven:https://repo.spring.io/release"),
        ("", "", ("pypi", "torch"), "PyPI", "torch", "PyPI:https://download.pytorch.org/whl"),
        ("", "", ("npm", "q"), "npm", "q", "npm:https://registry.example.test"),
        ("debian", "12.5", ("deb", "q"), "Debian:12", "q", "Debian"),
        ("ubuntu", "22.04", ("deb", "q"), "Ubuntu:22.04:LTS", "q", "Ubuntu"),
        ("ubuntu", "22.04", ("deb", "q"), "Ubuntu:22.04:LTS", "q", "Ubuntu:22.04"),
        ("alpine", "3.19.1", ("apk", "q"), "Alpine:v3.19", "q", "Alpine"),
        ("almalinux", "9.3", ("rpm", "q"), "AlmaLinux:9", "q", "AlmaLinux"),
        ("rocky", "9.3", ("rpm", "q"), "Rocky Linux:9", "q", "Rocky Linux"),
        ("photon", "5.0", ("rpm", "q"), "Photon OS:5.0", "q", "Photon OS"),
        ("opensuse-leap", "15.6", ("rpm", "q"), "openSUSE:Leap 15.6", "q", "openSUSE"),
    ] {
        let vendor = match id {
            "almalinux" => "AlmaLinux",
            "photon" => "VMware, Inc.",
            "opensuse-leap" => "openSUSE",
            _ => "Rocky",
        };
        let mut package = json!({"ecosystem": package.0, "name": package.1, "version": "1"});
        if package["ecosystem"] == "rpm" {
            package["vendor"] = json!(vendor);
        }
        let image = inventory(id, version, &[package]);
        let of = |ecosystem| Records::default().record(ecosystem, name, json!({"id": "WIDER-1"}), until_2());
        let both = of(wider).record(listed, "other", json!({"id": "OTHER-1"}), until_2());
        assert_eq!(found_ids(&both, &image), (vec!["WIDER-1".to_owned()], 0), "{wider}");
        // Those alone do not say that the release, or the ecosystem, is complete.
        let is_release = wider == "Ubuntu:22.04";
        assert_eq!(found_ids(&of(wider), &image).1, usize::from(!is_release), "{wider} alone");
        let used = looked_up(&Lookups { trivy: None, osv: vec![&of(wider)], details: None }, &image, now());
        assert_eq!(used.osv.len(), 1, "its age counts: {wider}");
    }
}

/// Packages of main have the fixes of the regular release with Ubuntu Pro, too. A fix by Ubuntu Pro counts where the
/// regular release has none.
#[test]
fn images_with_ubuntu_pro_have_regular_and_extended_fixes() {
    let (fixed, open) =
        (|version: &str| json!([{"introduced": "0"}, {"fixed": version}]), json!([{"introduced": "0"}]));
    let of = |id: &str| json!({ "id": id });
    let records = Records::default()
        .record("Ubuntu:22.04:LTS", "q", of("USN-1"), fixed("2"))
        .record("Ubuntu:22.04:LTS", "q", of("USN-2"), open.clone())
        .record("Ubuntu:22.04:LTS", "q", of("USN-3"), open.clone())
        .record("Ubuntu:22.04:LTS", "q", of("USN-4"), fixed("3"))
        .record("Ubuntu:22.04:LTS", "q", of("USN-6"), open.clone())
        .record("Ubuntu:Pro:22.04:LTS", "q", of("USN-2"), fixed("1+esm1"))
        .record("Ubuntu:Pro:22.04:LTS", "q", of("USN-3"), open)
        .record("Ubuntu:Pro:22.04:LTS", "q", of("USN-4"), fixed("1"))
        .record("Ubuntu:Pro:22.04:LTS", "q", of("USN-5"), fixed("1+esm2"))
        // The installed version is before the range: it does not have the fix.
        .record("Ubuntu:Pro:22.04:LTS", "q", of("USN-6"), json!([{"introduced": "2"}, {"fixed": "3"}]));
    let package = json!({"ecosystem": "deb", "name": "q", "version": "1+esm1"});
    let mut image = inventory("ubuntu", "22.04", &[package]);
    assert_eq!(found_ids(&records, &image).0, ["USN-1", "USN-2", "USN-3", "USN-4", "USN-6"]);
    image.distribution.as_mut().unwrap().extended_support = true;
    assert_eq!(found_ids(&records, &image).0, ["USN-1", "USN-3", "USN-4", "USN-5", "USN-6"]);
}

/// The author of an image decides how many packages of `linux` it lists, which has thousands of records.
#[test]
fn records_that_ubuntu_pro_has_fixed_do_not_count() {
    const COUNT: usize = 20_000;
    let mut records = Records::default();
    for number in 0..COUNT {
        let of = || json!({ "id": format!("UBUNTU-CVE-{number}") });
        records = records
            .record("Ubuntu:Pro:22.04:LTS", "linux", of(), json!([{"introduced": "0"}, {"fixed": "1"}]))
            .record("Ubuntu:22.04:LTS", "linux", of(), json!([{"introduced": "0"}]));
    }
    let package = json!({"ecosystem": "deb", "name": "linux", "version": "1"});
    let mut image = inventory("ubuntu", "22.04", &[package]);
    image.distribution.as_mut().unwrap().extended_support = true;
    let found = find_in(&Lookups { trivy: None, osv: vec![&records], details: None }, &image, now());
    assert_eq!((found.matches.len(), found.gaps.len()), (0, 0));
}

/// Sources are of different times, and choose their identifiers themselves.
#[test]
fn records_of_several_indexes_with_one_identifier_are_told_apart() {
    let of = |ecosystem: &'static str, word: &str| {
        let detail = json!({"id": "GHSA-1", "severity_word": word});
        Records::default().record(ecosystem, "q", detail, json!([{"introduced": "0"}]))
    };
    let (npm, python) = (of("npm", "LOW"), of("PyPI", "CRITICAL"));
    for order in [["npm", "pypi"], ["pypi", "npm"]] {
        let details = DetailCache::default();
        for kind in order {
            let image = inventory("", "", &[json!({"ecosystem": kind, "name": "q", "version": "1.0.0"})]);
            let lookups = Lookups { trivy: None, osv: vec![&npm, &python], details: Some(&details) };
            let found = find_in(&lookups, &image, now());
            let severities: Vec<Severity> = found.matches.iter().map(|matched| matched.severity).collect();
            let expected = if kind == "npm" { Severity::Low } else { Severity::Critical };
            assert_eq!(severities, [expected], "{kind} of {order:?}");
        }
    }
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

/// Versions of Python have numbers of any length. Those outside of PEP 440 have no place in a range, and are no reason to
/// miss an advisory.
#[test]
fn versions_of_python_without_a_place_in_the_order_are_never_clean() {
    let range = json!([{"introduced": "4.0"}, {"fixed": "5.0"}]);
    let records = ["long", "described"].into_iter().fold(Records::default(), |records, name| {
        records.record("PyPI", name, json!({"id": format!("PYSEC-2024-{name}")}), range.clone())
    });
    let records =
        records.record("PyPI", "described", json!({"id": "PYSEC-2024-all"}), json!([{"introduced": "0"}])).record(
            "PyPI",
            "unfixed",
            json!({"id": "PYSEC-2024-unfixed"}),
            json!([{"introduced": "0"}, {"fixed": "latest"}]),
        );
    let package =
        |name: &str, version: &str| json!({"ecosystem": "pypi", "name": name, "version": version, "path": name});
    let inventory = inventory(
        "",
        "",
        &[
            package("long", "4.2.20240131123456789012"),
            package("described", "4.2.0-15-g1234abc"),
            package("unfixed", "1.0"),
            package("unknown", "4.2-SNAPSHOT"),
        ],
    );
    let found = find_in(&Lookups { trivy: None, osv: vec![&records], details: None }, &inventory, now());
    assert_eq!(
        listed(&found, &inventory),
        ["long PYSEC-2024-long 5.0", "described PYSEC-2024-all Affected", "unfixed PYSEC-2024-unfixed Unknown"]
    );
    let gaps: Vec<_> = found.gaps.iter().map(|gap| (&*gap.place, &*gap.problem)).collect();
    let problem = "the version \"4.2.0-15-g1234abc\" of described cannot be compared with advisories";
    assert_eq!(gaps, [("described", problem)]);
}
