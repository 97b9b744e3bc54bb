//! What is a gap, and never clean.

use super::*;

#[test]
fn an_invalid_alpine_version_as_fix_is_never_clean() {
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
    let problem = |name: &str| format!("no package is from {name}, and its advisories cover only its own packages");
    assert_eq!(gaps(&inventory("debian", "12", std::slice::from_ref(&docker))), [problem("debian 12")]);
    assert_eq!(gaps(&inventory("almalinux", "9", &[key, other])), [problem("almalinux 9")]);
    let rpm = |vendor: &str| json!({"ecosystem": "rpm", "name": "x", "version": "1", "vendor": vendor});
    for vendor in ["Fedora Project", "Red Hat, Inc.", "CentOS", "SUSE LLC"] {
        let image = inventory("almalinux", "9", &[rpm(vendor)]);
        assert_eq!(gaps(&image), [problem("almalinux 9")], "{vendor}");
        assert_eq!(findings(&rows, &image).matches.len(), 1, "it is compared as AlmaLinux's: {vendor}");
    }
    for own in ["AlmaLinux", "CloudLinux"] {
        assert_eq!(gaps(&inventory("almalinux", "9", &[rpm("Fedora Project"), rpm(own)])), [""; 0], "{own}");
    }
    let bash = json!({"ecosystem": "deb", "name": "bash", "version": "5.0"});
    let mut debian = inventory("debian", "12", &[docker, bash]);
    assert_eq!(gaps(&debian), [""; 0]);
    debian.distribution.as_mut().unwrap().derivative = Some("raspbian".to_owned());
    assert_eq!(gaps(&debian), ["raspbian has no advisories; those of debian were used"]);
}

#[test]
fn uncovered_packages_are_gaps() {
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
        (
            inventory("debian", "12", &[]),
            "etc/os-release",
            "the image names debian 12 but contains none of its packages",
        ),
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
