use super::*;
use crate::policy::{Purl, Severity};

fn package(purl: &str, name: &str, installed: &str, fixed: &str) -> AffectedPackage {
    AffectedPackage {
        name: name.into(),
        installed: Some(installed.into()),
        fixed: Some(fixed.into()),
        purl: Purl::parse(purl),
        ..AffectedPackage::default()
    }
}

fn issue(id: &str, aliases: &[&str], packages: Vec<AffectedPackage>) -> Issue {
    let aliases = aliases.iter().map(|alias| (*alias).to_owned()).collect();
    Issue { aliases, packages, ..Issue::new(id, IssueKind::Vulnerability, Severity::High) }
}

/// Package URL, name, installed and fixed version, and what to do.
const COMMANDS: &[(&str, &str, &str, &str, &str)] = &[
    (
        "pkg:deb/debian/openssl@3.0.9-1",
        "openssl",
        "3.0.9-1",
        "3.0.11-1~deb12u2",
        "Upgrade openssl to 3.0.11-1~deb12u2: apt-get install --only-upgrade openssl=3.0.11-1~deb12u2",
    ),
    ("pkg:apk/alpine/busybox@1-r0", "busybox", "1-r0", "1-r2", "Upgrade busybox to 1-r2: apk add 'busybox>=1-r2'"),
    (
        "pkg:rpm/redhat/openssl-libs@3.0.7?distro=redhat-9.4",
        "openssl-libs",
        "3.0.7-1",
        "1:3.0.7-27.el9",
        "Upgrade openssl-libs to 1:3.0.7-27.el9: dnf upgrade openssl-libs",
    ),
    ("pkg:rpm/centos/curl@7?distro=centos-7.9", "curl", "7", "8", "Upgrade curl to 8: yum update curl"),
    ("pkg:rpm/amazon/curl@7?distro=amazon-2", "curl", "7", "8", "Upgrade curl to 8: yum update curl"),
    ("pkg:rpm/amazon/curl@7?distro=amazon-2023", "curl", "7", "8", "Upgrade curl to 8: dnf upgrade curl"),
    ("pkg:rpm/suse/curl@7?distro=sles-15.5", "curl", "7", "8", "Upgrade curl to 8: zypper update curl"),
    ("pkg:rpm/photon/curl@7?distro=photon-5.0", "curl", "7", "8", "Upgrade curl to 8: tdnf update curl"),
    (
        "pkg:npm/%40babel/traverse@7.1.0",
        "@babel/traverse",
        "7.1.0",
        "7.23.2",
        "Upgrade @babel/traverse to 7.23.2: npm install @babel/traverse@7.23.2",
    ),
    (
        "pkg:pypi/django@3.2.1",
        "Django",
        "3.2.1",
        "2.2.28, 3.2.13, 4.0.4",
        "Upgrade Django to 2.2.28, 3.2.13, 4.0.4: pip install Django==3.2.13",
    ),
    ("pkg:pypi/django@5.0", "Django", "5.0", "2.2.28, 3.2.13", "Upgrade Django to 2.2.28, 3.2.13"),
    ("pkg:gem/rack@2", "rack", "2", "2.2.3", "Upgrade rack to 2.2.3: gem install rack --version 2.2.3"),
    ("pkg:gem/rack@2", "rack", "2", "~> 2.1.4, >= 2.2.3", "Upgrade rack to ~> 2.1.4, >= 2.2.3"),
    (
        "pkg:cargo/time@0.1",
        "time",
        "0.1",
        "0.2.23",
        "Upgrade time to 0.2.23 and rebuild the program: cargo update time --precise 0.2.23",
    ),
    (
        "pkg:golang/golang.org/x/net@0.1",
        "golang.org/x/net",
        "v0.1",
        "0.17.0",
        "Upgrade golang.org/x/net to 0.17.0 and rebuild the program: go get golang.org/x/net@v0.17.0",
    ),
    (
        "pkg:golang/stdlib@1.20",
        "stdlib",
        "1.20",
        "1.20.12, 1.21.5",
        "Upgrade stdlib to 1.20.12, 1.21.5 and rebuild the program: use Go 1.20.12 or later",
    ),
    ("pkg:maven/a.b/c@1", "a.b:c", "1", "2", "Upgrade a.b:c to 2"),
];

#[test]
fn each_package_manager_has_its_command() {
    for (purl, name, installed, fixed, wanted) in COMMANDS {
        assert_eq!(remedy(&package(purl, name, installed, fixed)), *wanted);
    }
    let binary = AffectedPackage {
        source: Some("openssl".into()),
        ..package("pkg:deb/debian/libssl3@3.0.9", "libssl3", "3.0.9", "3.0.11")
    };
    assert_eq!(remedy(&binary), "Upgrade libssl3 to 3.0.11: apt-get install --only-upgrade libssl3");
}

/// Whoever builds an image chooses the names of its packages.
#[test]
fn commands_contain_no_shell_metacharacters() {
    for (name, fixed) in [
        ("a;reboot", "1"),
        ("$(reboot)", "1"),
        ("`reboot`", "1"),
        ("--unsafe", "1"),
        ("a b", "1"),
        ("a'b", "1"),
        ("a", "1;reboot"),
        ("a", "-1"),
        ("a", "1\nreboot"),
        ("a", "1'x"),
        ("a", "1|x"),
        ("a", ""),
        ("", "1"),
    ] {
        for kind in ["deb", "apk", "npm", "pypi", "gem", "cargo", "golang"] {
            let package = AffectedPackage {
                name: name.into(),
                fixed: Some(fixed.into()),
                ecosystem: Some(kind.into()),
                ..AffectedPackage::default()
            };
            assert_eq!(remedy(&package), format!("Upgrade {name} to {fixed}"), "{kind}");
        }
    }
}

#[test]
fn issues_without_a_fix_say_why() {
    let with = |status| AffectedPackage { name: "a".into(), status, ..AffectedPackage::default() };
    for (status, part) in [
        (None, "No fix available"),
        (Some(FixStatus::Affected), "No fix available"),
        (Some(FixStatus::EndOfLife), "rebuild from a supported base image"),
        (Some(FixStatus::WillNotFix), "will not fix it"),
        (Some(FixStatus::FixDeferred), "deferred"),
        (Some(FixStatus::UnderInvestigation), "investigating"),
    ] {
        assert!(remedy(&with(status)).contains(part), "{status:?}");
    }
    assert_eq!(remedies(&issue("CVE-1", &[], vec![])), ["No fix available"]);
    let fixed = package("pkg:maven/a/b@1", "a:b", "1", "2");
    let mixed = issue("CVE-1", &[], vec![with(None), fixed.clone(), fixed]);
    assert_eq!(remedies(&mixed), ["Upgrade a:b to 2"], "what can be upgraded, once");
    let configuration = Issue { kind: IssueKind::Configuration, ..issue("a", &[], vec![with(None)]) };
    assert_eq!(remedies(&configuration), ["Change the configuration"]);
    let of_lines = Issue { corrective_action: Some("First.\nThen".into()), ..configuration };
    assert_eq!(remedies(&of_lines), ["First.", "Then"]);
}

#[test]
fn links_lead_to_the_notice_or_to_the_vendor() {
    let debian = || vec![package("pkg:deb/debian/openssl@3", "openssl", "3", "4")];
    for (id, aliases, packages, link) in [
        ("CVE-2024-1", &["DSA-5000-1"][..], debian(), "https://security-tracker.debian.org/tracker/DSA-5000-1"),
        ("CVE-2024-1", &[], debian(), "https://security-tracker.debian.org/tracker/CVE-2024-1"),
        ("CVE-2024-1", &[], vec![], "https://nvd.nist.gov/vuln/detail/CVE-2024-1"),
        ("CVE-2024-1", &["GHSA-aaaa-bbbb-cccc"], vec![], "https://github.com/advisories/GHSA-aaaa-bbbb-cccc"),
        ("RHSA-2024:1234", &["CVE-2024-1"], vec![], "https://access.redhat.com/errata/RHSA-2024:1234"),
        ("CVE-2024-1", &["TEMP-1-2"], debian(), "https://security-tracker.debian.org/tracker/CVE-2024-1"),
    ] {
        assert_eq!(vendor_link(&issue(id, aliases, packages)).as_deref(), Some(link));
    }
    assert_eq!(vendor_link(&issue("CVE-1/../x", &["GHSA-1/x?y"], vec![])), None);
    let several = issue("CVE-1", &["DEBIAN-CVE-1", "DSA-1", "CVE-2", "GHSA-1"], vec![]);
    assert_eq!(notices(&several), ["DSA-1"]);
    assert_eq!(other_identifiers(&several), ["DEBIAN-CVE-1", "DSA-1", "GHSA-1"]);
}
