use super::*;
use crate::oci::{ImageName, Tag};
use crate::policy::{Purl, Severity};

const NOW: Timestamp = Timestamp::UNIX_EPOCH;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// An exemption of an issue in every image, whose type follows from its identifier.
pub(in crate::policy) fn of_issue(id: &str) -> ExemptionRecord {
    let kind = if is_cve(id) { IssueType::Cve } else { IssueType::SecurityNotice };
    ExemptionRecord::new(ExemptionScope::EVERYTHING, kind, Some(id), None).unwrap()
}

/// An exemption of a package in every image.
pub(in crate::policy) fn of_package(package: ExemptPackage) -> ExemptionRecord {
    ExemptionRecord::new(ExemptionScope::EVERYTHING, IssueType::Package, None, Some(package)).unwrap()
}

pub(in crate::policy) fn until(record: ExemptionRecord, expires: Timestamp) -> ExemptionRecord {
    ExemptionRecord { expires: Some(expires), ..record }
}

/// Exemptions of every image.
pub(in crate::policy) fn all(records: impl IntoIterator<Item = ExemptionRecord>) -> VaExemptions {
    records.into_iter().collect()
}

fn in_package(record: ExemptionRecord, package: ExemptPackage) -> ExemptionRecord {
    ExemptionRecord { package: Some(package), ..record }
}

fn issue(id: &str, aliases: &[&str], packages: &[&str]) -> Issue {
    let package = |name: &&str| AffectedPackage {
        name: (*name).into(),
        purl: Purl::parse(&format!("pkg:deb/debian/{name}@1?arch=amd64")),
        ..AffectedPackage::default()
    };
    Issue {
        aliases: aliases.iter().map(|alias| (*alias).to_owned()).collect(),
        packages: packages.iter().map(package).collect(),
        ..Issue::new(id, IssueKind::Vulnerability, Severity::High)
    }
}

fn named(name: &str) -> ExemptPackage {
    ExemptPackage::Named(name.into())
}

fn purl(text: &str) -> ExemptPackage {
    ExemptPackage::Purl(Purl::parse(text).unwrap())
}

/// Those of two origins together, and those that name an issue.
#[test]
fn exemptions_are_combined_and_those_of_packages_told_apart() {
    let two = issue("CVE-1", &[], &["ssl", "tls"]);
    let (ssl, tls) = (all([in_package(of_issue("CVE-1"), named("ssl"))]), all([of_package(named("tls"))]));
    assert_eq!([&ssl, &tls, &ssl.with(&tls)].map(|exemptions| exemptions.cover(&two, NOW)), [false, false, true]);
    let named_until = |exemptions: &VaExemptions| exemptions.cover_named_until(&two, NOW);
    assert_eq!(named_until(&ssl.with(&tls)), None);
    assert_eq!(named_until(&ssl.with(&all([of_issue("CVE-1")]))), Some(Timestamp::MAX));
}

#[test]
fn exemptions_apply_to_the_issues_and_packages_they_name() {
    let one = || issue("CVE-1", &["DSA-1"], &["ssl"]);
    let two = || issue("CVE-1", &["DSA-1"], &["ssl", "tls"]);
    let advisory = || issue("ALAS-1", &["CVE-1", "CVE-2"], &["ssl"]);
    let bare = || issue("CVE-1", &[], &[]);
    let of = |ids: &[&str]| ids.iter().map(|id| of_issue(id)).collect::<Vec<_>>();
    let package = |package| vec![of_package(package)];
    for (line, issue, exemptions, covered) in [
        (line!(), one(), vec![], false),
        (line!(), one(), of(&["cve-1"]), true),
        (line!(), one(), of(&["CVE-2"]), false),
        (line!(), one(), of(&["dsa-1"]), true),
        (line!(), issue("CVE-1", &["CVE-2"], &[]), of(&["CVE-2"]), false),
        (line!(), advisory(), of(&["CVE-1"]), false),
        (line!(), advisory(), of(&["CVE-1", "CVE-2"]), true),
        (line!(), advisory(), of(&["ALAS-1"]), true),
        (line!(), one(), package(named("ssl")), true),
        (line!(), one(), package(named("SSL")), false),
        (line!(), two(), package(named("ssl")), false),
        (line!(), two(), [package(named("ssl")), package(named("tls"))].concat(), true),
        (line!(), two(), [package(named("ssl")), of(&["CVE-1"])].concat(), true),
        (line!(), bare(), package(named("ssl")), false),
        (line!(), bare(), of(&["CVE-1"]), true),
        (line!(), one(), package(purl("pkg:deb/debian/ssl")), true),
        (line!(), one(), package(purl("pkg:deb/debian/ssl@1?arch=amd64")), true),
        (line!(), one(), package(purl("pkg:deb/debian/ssl@2")), false),
        (line!(), one(), package(purl("pkg:deb/ubuntu/ssl")), false),
        (line!(), one(), vec![in_package(of_issue("CVE-1"), named("ssl"))], true),
        (line!(), one(), vec![in_package(of_issue("CVE-1"), named("tls"))], false),
        (line!(), one(), vec![in_package(of_issue("CVE-2"), named("ssl"))], false),
    ] {
        assert_eq!(all(exemptions).cover(&issue, NOW), covered, "line {line}");
    }
    let unsafe_configuration = Issue { kind: IssueKind::Configuration, ..issue("DS002", &[], &["Dockerfile"]) };
    let cover = |exemption| all([exemption]).cover(&unsafe_configuration, NOW);
    let of_configuration =
        |id| ExemptionRecord::new(ExemptionScope::EVERYTHING, IssueType::Configuration, Some(id), None).unwrap();
    assert!(cover(of_configuration("ds002")));
    let of_trivy = Issue { aliases: vec!["AVD-DS-0002".into()], ..unsafe_configuration.clone() };
    for (id, covered) in [("DS002", true), ("AVD-DS-0002", true), ("avd-ds-0002", true), ("AVD-DS-0003", false)] {
        assert_eq!(all([of_configuration(id)]).cover(&of_trivy, NOW), covered, "{id}");
    }
    assert!(!cover(of_configuration("DS003")));
    assert!(!cover(of_issue("DS002")), "a configuration issue is not a security notice");
    let of_vulnerability =
        ExemptionRecord::new(ExemptionScope::EVERYTHING, IssueType::Configuration, Some("CVE-1"), None);
    assert!(of_vulnerability.is_err(), "a vulnerability is not a configuration issue");
    assert!(!cover(of_package(named("Dockerfile"))), "a configuration issue is not a vulnerability");
    assert!(
        !all([of_package(purl("pkg:deb/debian/ssl"))]).cover(
            &Issue { packages: vec![AffectedPackage { name: "ssl".into(), ..Default::default() }], ..one() },
            NOW
        )
    );
}

/// As their registries compare them. Elsewhere names that differ by case may be two packages.
#[test]
fn spellings_of_one_package_are_exempt() {
    let of = |name: &str, package: &str, purl: Option<&str>, ecosystem: Option<&str>| {
        let package = AffectedPackage {
            name: package.into(),
            purl: purl.and_then(Purl::parse),
            ecosystem: ecosystem.map(str::to_owned),
            ..AffectedPackage::default()
        };
        let found = Issue { packages: vec![package], ..issue("CVE-1", &[], &[]) };
        let covers = |record| all([record]).cover(&found, NOW);
        let (whole, one) = (covers(of_package(named(name))), covers(in_package(of_issue("CVE-1"), named(name))));
        assert_eq!(whole, one, "{name}");
        whole
    };
    assert!(of("pyyaml", "PyYAML", Some("pkg:pypi/pyyaml@5.3"), None));
    assert!(of("PyYAML", "pyyaml", None, Some("pypi")));
    assert!(of("ruamel-yaml", "ruamel.yaml", Some("pkg:pypi/ruamel.yaml@1"), None));
    assert!(of("serde_json", "serde-json", Some("pkg:cargo/serde-json@1"), None));
    assert!(of("newtonsoft.json", "Newtonsoft.Json", Some("pkg:nuget/Newtonsoft.Json@1"), None));
    assert!(!of("jsonstream", "JSONStream", Some("pkg:npm/JSONStream@1"), None));
    assert!(!of("pyyaml", "PyYAML", None, None) && !of("yaml", "PyYAML", Some("pkg:pypi/pyyaml@5.3"), None));
}

#[test]
fn exemptions_that_have_ended_are_known() {
    let found = issue("CVE-1", &["DSA-1"], &["ssl"]);
    let ended = |exemptions: Vec<ExemptionRecord>, now| {
        all(exemptions).ended(&found, now).iter().map(ToString::to_string).collect::<Vec<_>>()
    };
    let of_cve = || until(of_issue("CVE-1"), at(9));
    assert_eq!(ended(vec![of_cve()], at(9)), ["cve CVE-1, scope *"]);
    assert!(ended(vec![of_cve()], at(8)).is_empty(), "it holds");
    assert!(ended(vec![of_cve(), of_issue("DSA-1")], at(9)).is_empty(), "another one holds");
    assert!(ended(vec![until(of_issue("CVE-2"), at(9))], at(9)).is_empty(), "it is about something else");
}

#[test]
fn exemption_ends_exactly_at_its_end_time() {
    let two = issue("CVE-1", &[], &["ssl", "tls"]);
    let end = |exemptions: &[ExemptionRecord], now| all(exemptions.to_vec()).cover_until(&two, now);
    let of_cve = || of_issue("CVE-1");
    assert_eq!(end(&[of_cve()], NOW), Some(Timestamp::MAX));
    assert_eq!(end(&[until(of_cve(), at(9))], at(8)), Some(at(9)));
    assert_eq!(end(&[until(of_cve(), at(9))], at(9)), None);
    let (ssl, tls) = (of_package(named("ssl")), of_package(named("tls")));
    let both = [until(ssl, at(5)), until(tls, at(7))];
    assert_eq!(end(&both, NOW), Some(at(5)), "the first package that is no longer exempt");
    assert_eq!(end(&both, at(5)), None);
    let longer = [&both[..], &[until(of_cve(), at(6))]].concat();
    assert_eq!(end(&longer, NOW), Some(at(6)), "the longest exemption of each package");
}

/// IBM: a CVE is exempt if it is exempt itself or if all its notices are, and `partial` if some are.
#[test]
fn status_is_that_of_the_cve_or_of_all_its_notices() {
    use ExemptStatus::{Active, Exempt, Partial};
    let cve = || issue("CVE-1", &["DSA-1", "DLA-2"], &["ssl", "tls"]);
    let advisory = || issue("ALAS-1", &["CVE-1", "CVE-2"], &["ssl"]);
    let other_name = || issue("GHSA-1", &["PYSEC-2"], &["ssl"]);
    let ssl = || of_package(named("ssl"));
    for (line, issue, exemptions, status, used) in [
        (line!(), cve(), vec![], Active, 0),
        (line!(), cve(), vec![of_issue("CVE-2")], Active, 0),
        (line!(), cve(), vec![of_issue("CVE-1")], Exempt, 1),
        (line!(), cve(), vec![of_issue("DSA-1")], Partial, 1),
        (line!(), cve(), vec![of_issue("DSA-1"), of_issue("dla-2")], Exempt, 2),
        (line!(), cve(), vec![of_issue("DSA-1"), of_issue("DLA-2"), of_issue("CVE-1")], Exempt, 1),
        (line!(), cve(), vec![in_package(of_issue("CVE-1"), named("ssl"))], Partial, 1),
        (line!(), cve(), vec![ssl()], Partial, 1),
        (line!(), cve(), vec![ssl(), in_package(of_issue("DSA-1"), named("tls"))], Partial, 2),
        (line!(), cve(), vec![ssl(), of_issue("DSA-1"), of_issue("DLA-2")], Exempt, 3),
        (line!(), cve(), vec![until(of_issue("CVE-1"), NOW)], Active, 0),
        (line!(), advisory(), vec![of_issue("CVE-2")], Partial, 1),
        (line!(), advisory(), vec![of_issue("ALAS-1")], Exempt, 1),
        (line!(), other_name(), vec![of_issue("GHSA-1")], Exempt, 1),
        (line!(), other_name(), vec![of_issue("PYSEC-2")], Exempt, 1),
    ] {
        let coverage = all(exemptions).coverage(&issue, NOW);
        assert_eq!((coverage.status, coverage.used.len()), (status, used), "line {line}: {coverage:?}");
    }
}

/// What OSV lists besides the notice changes nothing: with trivy-db, only the notice is there.
#[test]
fn database_names_of_vulnerabilities_are_not_notices() {
    use ExemptStatus::{Active, Exempt, Partial};
    let debian = |aliases: &[&str]| issue("CVE-1", aliases, &["ssl"]);
    let of_type = |kind: &str, aliases: &[&str]| {
        let packages = vec![AffectedPackage { name: "x".into(), ecosystem: Some(kind.into()), ..Default::default() }];
        Issue { packages, ..issue("CVE-1", aliases, &[]) }
    };
    let untyped = |aliases: &[&str]| {
        let packages = vec![AffectedPackage { name: "x".into(), ..Default::default() }];
        Issue { packages, ..issue("CVE-1", aliases, &[]) }
    };
    let both = |aliases: &[&str]| {
        let packages = [debian(&[]).packages, of_type("npm", &[]).packages].concat();
        Issue { packages, ..issue("CVE-1", aliases, &[]) }
    };
    for (line, issue, exempt, status, missing) in [
        (line!(), debian(&["DSA-1", "DEBIAN-CVE-1"]), &["DSA-1"][..], Exempt, &[][..]),
        (line!(), debian(&["DSA-1", "DEBIAN-CVE-1"]), &["DEBIAN-CVE-1"], Exempt, &[]),
        (line!(), debian(&["DSA-1", "DLA-2", "DEBIAN-CVE-1"]), &["DSA-1"], Partial, &["DLA-2"]),
        (line!(), debian(&["DSA-1", "DLA-2", "DEBIAN-CVE-1"]), &["DSA-1", "DLA-2"], Exempt, &[]),
        (line!(), of_type("pypi", &["PYSEC-2", "GHSA-1"]), &["GHSA-1"], Exempt, &[]),
        (line!(), of_type("pypi", &["PYSEC-2", "GHSA-1"]), &["PYSEC-2"], Exempt, &[]),
        (line!(), of_type("pypi", &["PYSEC-2", "GHSA-1"]), &["DSA-1"], Active, &[]),
        (line!(), of_type("npm", &["GHSA-1", "GHSA-2"]), &["GHSA-1"], Partial, &["GHSA-2"]),
        // Without a package URL, the type is what the scanner calls it.
        (line!(), of_type("debian", &["DSA-1", "GHSA-1"]), &["DSA-1"], Exempt, &[]),
        (line!(), of_type("debian", &["DSA-1", "GHSA-1"]), &["GHSA-1"], Partial, &[]),
        (line!(), of_type("redhat", &["RHSA-1", "GHSA-1"]), &["GHSA-1"], Partial, &[]),
        (line!(), of_type("python-pkg", &["PYSEC-2", "GHSA-1"]), &["GHSA-1"], Exempt, &[]),
        (line!(), of_type("something", &["VENDOR-1", "GHSA-1"]), &["GHSA-1"], Partial, &[]),
        (line!(), untyped(&["DSA-1", "GHSA-1"]), &["GHSA-1"], Partial, &[]),
        (line!(), untyped(&["DSA-1", "GHSA-1"]), &["DSA-1"], Exempt, &[]),
        (line!(), untyped(&["GHSA-1"]), &["GHSA-1"], Exempt, &[]),
        // One of a distribution says nothing about the packages of a language, and the other way round.
        (line!(), both(&["DSA-1", "GHSA-1"]), &["DSA-1"], Partial, &[]),
        (line!(), both(&["DSA-1", "GHSA-1"]), &["GHSA-1"], Partial, &[]),
        (line!(), both(&["DSA-1", "GHSA-1"]), &["DSA-1", "GHSA-1"], Exempt, &[]),
        // All other identifiers together always were enough.
        (line!(), debian(&["GHSA-1"]), &["GHSA-1"], Exempt, &[]),
        (line!(), of_type("npm", &["DSA-1"]), &["DSA-1"], Exempt, &[]),
        // A name of one of several vulnerabilities is not a name of all.
        (line!(), issue("ALAS-1", &["CVE-1", "CVE-2", "GHSA-1", "X-1"], &[]), &["GHSA-1"], Partial, &[]),
        (line!(), issue("ALAS-1", &["CVE-1", "CVE-2"], &[]), &["CVE-1"], Partial, &["CVE-2"]),
        (line!(), issue("MAL-1", &["GHSA-1", "GHSA-2"], &[]), &["GHSA-1"], Partial, &[]),
    ] {
        let exemptions = all(exempt.iter().map(|id| of_issue(id)));
        assert_eq!(exemptions.coverage(&issue, NOW).status, status, "line {line}");
        assert_eq!(exemptions.missing_identifiers(&issue, NOW), missing, "line {line}");
    }
}

#[test]
fn every_scope_applies_exactly_to_its_images() {
    let digest = |seed: &str| Digest::sha256(seed.as_bytes());
    let (image, index, other) = (digest("image"), digest("index"), digest("other"));
    let name = ImageName { host: "us.icr.io".parse().unwrap(), repository: "birds/bluebird".parse().unwrap() };
    let tags: [Tag; 1] = ["v1".parse().unwrap()];
    let asked = ExemptedImage { name: &name, tags: &tags, digests: vec![image, index], children: vec![other] };
    let issue = issue("CVE-1", &[], &[]);
    for (scope, applies, to_child) in [
        ("*".to_owned(), true, true),
        ("us.icr.io/*".into(), true, true),
        ("icr.io/*".into(), false, false),
        ("birds".into(), true, true),
        ("us.icr.io/birds".into(), true, true),
        ("docker.io/birds".into(), false, false),
        ("bird".into(), false, false),
        ("bluebird".into(), false, false),
        ("birds/bluebird".into(), true, true),
        ("us.icr.io/birds/bluebird".into(), true, true),
        ("birds/blue".into(), false, false),
        ("birds/bluebird/x".into(), false, false),
        ("birds/bluebird:v1".into(), true, true),
        ("us.icr.io/birds/bluebird:v1".into(), true, true),
        ("birds/bluebird:v2".into(), false, false),
        ("birds/other:v1".into(), false, false),
        (format!("birds/bluebird@{image}"), true, true),
        (format!("us.icr.io/birds/bluebird@{index}"), true, true),
        (format!("birds/bluebird@{other}"), false, true),
        (format!("us.icr.io/birds/bluebird@{other}"), false, true),
        (format!("birds/other@{image}"), false, false),
        (format!("docker.io/birds/bluebird@{image}"), false, false),
    ] {
        for (kind, id, package) in [
            (IssueType::Cve, Some("CVE-1"), None),
            (IssueType::SecurityNotice, Some("DSA-1"), None),
            (IssueType::Package, None, Some("ssl")),
        ] {
            let package = package.map(|name: &str| name.parse().unwrap());
            let record = ExemptionRecord::new(scope.parse().unwrap(), kind, id, package).unwrap();
            let issue = Issue {
                aliases: vec!["DSA-1".into()],
                packages: vec![AffectedPackage { name: "ssl".into(), ..AffectedPackage::default() }],
                ..issue.clone()
            };
            let set: ExemptionSet = [record].into_iter().collect();
            let found = VaExemptions::for_image(&[&ExemptionSet::default(), &set], &asked);
            assert_eq!(found.cover(&issue, NOW), applies, "{scope} {kind:?}");
            assert_eq!(found.for_child(other).cover(&issue, NOW), to_child, "{scope} {kind:?}");
            assert_eq!(found.for_child(image).cover(&issue, NOW), applies, "{scope} {kind:?}: another child");
        }
    }
}

/// Selecting and applying must not depend on how many exemptions of other images and issues there are.
#[test]
fn ten_thousand_exemptions_do_not_slow_down_an_image() {
    let record = |n: usize| {
        let scope = match n % 3 {
            0 => ExemptionScope::EVERYTHING,
            1 => format!("birds/repository{n}").parse().unwrap(),
            _ => format!("namespace{n}").parse().unwrap(),
        };
        ExemptionRecord::new(scope, IssueType::Cve, Some(&format!("CVE-2024-{n}")), None).unwrap()
    };
    let set: ExemptionSet = (0..10_000).map(record).collect();
    assert_eq!((set.len(), set.iter().count(), set.has_digests()), (10_000, 10_000, false));
    let name = ImageName { host: "icr.io".parse().unwrap(), repository: "birds/repository1".parse().unwrap() };
    let image = ExemptedImage { name: &name, tags: &[], digests: vec![Digest::sha256(b"")], children: Vec::new() };
    let issues: Vec<Issue> = (0..1000).map(|n| issue(&format!("CVE-2024-{n}"), &[], &["ssl"])).collect();
    let started = std::time::Instant::now();
    let mut covered = 0;
    for _ in 0..10 {
        let found = VaExemptions::for_image(&[&set], &image);
        covered += issues.iter().filter(|issue| found.cover(issue, NOW)).count();
    }
    assert_eq!(covered, 3350, "a third of the issues everywhere, and one in this repository");
    // A search through all exemptions for each issue would take 100 million comparisons.
    assert!(started.elapsed() < std::time::Duration::from_secs(2), "{:?}", started.elapsed());
}

#[test]
fn an_exemption_of_paths_applies_to_packages_there() {
    let at_path = |path: Option<&str>| {
        let package = AffectedPackage { name: "x".into(), path: path.map(str::to_owned), ..AffectedPackage::default() };
        Issue { packages: vec![package], ..issue("CVE-1", &[], &[]) }
    };
    for (pattern, path, applies) in [
        ("usr/lib/python3/**", Some("usr/lib/python3/x/METADATA"), true),
        ("usr/lib/python3/**", Some("/usr/lib/python3/x/METADATA"), true),
        ("/usr/lib/python3/**", Some("/usr/lib/python3/x/METADATA"), false),
        ("/usr/lib/python3/**", Some("usr/lib/python3/x/METADATA"), false),
        ("usr/lib/*", Some("usr/lib/python3/x/METADATA"), false),
        ("app/{a,b}/*.jar", Some("app/b/x.jar"), true),
        ("app/{a,b}/*.jar", Some("app/c/x.jar"), false),
        ("app/x.jar", Some("app/x.jar"), true),
        ("app", Some("app/x.jar"), false),
        ("**", None, false),
    ] {
        let record = of_issue("CVE-1").at_path(pattern.parse().unwrap());
        assert_eq!(all([record]).cover(&at_path(path), NOW), applies, "{pattern} {path:?}");
    }
    assert!(!all([of_issue("CVE-1").at_path("**".parse().unwrap())]).cover(&issue("CVE-1", &[], &[]), NOW));
}
