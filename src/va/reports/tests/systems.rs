//! The system in an image: when its support ends, and whether its packages were assessed.

use super::*;

fn trivy_on(os: Value) -> String {
    let mut trivy = value(TRIVY_CLEAN);
    trivy["Metadata"]["OS"] = os;
    trivy["Results"] = json!([{"Target": "x", "Class": "os-pkgs"}]);
    trivy.to_string()
}

fn grype_on(distro: Value) -> String {
    let mut grype = value(GRYPE);
    grype["distro"] = distro;
    grype.to_string()
}

/// A document of this tool with these components besides a package of npm that has an issue.
fn bom(tool: &str, version: &str, components: &[Value]) -> String {
    let mut vdr = value(VDR);
    vdr["metadata"]["tools"] = json!([{"name": tool, "version": version}]);
    vdr["components"] = json!([{"bom-ref": "p", "type": "library", "name": "left-pad", "purl": "pkg:npm/left-pad@1"}]);
    vdr["components"].as_array_mut().unwrap().extend_from_slice(components);
    vdr["vulnerabilities"] = json!([{"id": "CVE-2024-9", "ratings": [{"severity": "low"}], "affects": [{"ref": "p"}]}]);
    vdr.to_string()
}

fn system(name: &str, version: &str) -> Value {
    json!({"bom-ref": "os", "type": "operating-system", "name": name, "version": version})
}

fn package(purl: &str) -> Value {
    json!({"bom-ref": purl, "type": "library", "name": "openssl", "purl": purl})
}

fn last_day(report: &Report) -> String {
    report.image.end_of_life.map(|end| end.to_string().chars().take(10).collect()).unwrap_or_default()
}

#[test]
fn the_end_of_support_is_known_of_every_report_that_names_the_release() {
    let trivy = |name: &str, version: &str| trivy_on(json!({"Family": name, "Name": version}));
    let grype = |name: &str, version: &str| grype_on(json!({"name": name, "version": version}));
    let cyclonedx = |name: &str, version: &str| bom("trivy", "0.72.0", &[system(name, version)]);
    let of_package = |name: &str, version: &str| {
        bom("x", "1", &[package(&format!("pkg:deb/{name}/openssl@3?distro={name}-{version}"))])
    };
    for (name, version, expected) in [
        ("debian", "9", "2022-06-30"),
        ("debian", "12.5", "2028-06-30"),
        ("ubuntu", "16.04", "2021-04-21"),
        ("alpine", "3.10.2", "2021-05-01"),
        ("centos", "7", "2024-06-30"),
        ("fedora", "41", "2025-12-15"),
        ("wolfi", "20230201", ""),
    ] {
        for make in [&trivy as &dyn Fn(&str, &str) -> String, &grype, &cyclonedx, &of_package] {
            let report = lookup(&[&make(name, version)]);
            assert_eq!(last_day(&report), expected, "{name} {version}: {}", report.source);
            assert!(!report.image.has_ended_before && !report.is_only_past_support);
        }
    }
    assert_eq!(last_day(&lookup(&[&bom("x", "1", &[])])), "", "no system is named");
    let of_two = ["debian-12", "debian-9"].map(|name| package(&format!("pkg:deb/debian/a@1?distro={name}")));
    let report = lookup(&[&bom("x", "1", &of_two)]);
    assert_eq!((&*last_day(&report), report.image.distribution.as_deref()), ("2022-06-30", Some("debian 9")));
}

/// A report that says that the support has ended is incomplete; the day is that of the table, if it is earlier.
#[test]
fn what_a_report_says_and_the_table_count_together() {
    let trivy = |version: &str, eosl: bool| trivy_on(json!({"Family": "debian", "Name": version, "EOSL": eosl}));
    for (version, says_ended, expected) in [
        ("9", false, "2022-06-30"),
        ("9", true, "2022-06-30"),
        ("12", false, "2028-06-30"),
        ("12", true, "2026-03-02"),
        ("99", false, ""),
    ] {
        let mut text = value(&trivy(version, says_ended));
        text["CreatedAt"] = "2026-03-02T00:00:00Z".into();
        let report = lookup(&[&text.to_string()]);
        assert_eq!((&*last_day(&report), report.image.has_ended_before), (expected, says_ended), "{version}");
        assert_eq!((report.incomplete.is_some(), report.is_only_past_support), (says_ended, says_ended), "{version}");
    }
    let extended = trivy_on(json!({"Family": "ubuntu", "Name": "18.04", "extended": true}));
    assert_eq!(last_day(&lookup(&[&extended])), "2028-03-31");
    let extended = grype_on(json!({"name": "ubuntu", "version": "18.04", "channels": ["esm"]}));
    assert_eq!(last_day(&lookup(&[&extended])), "2028-03-31");
}

#[test]
fn parts_that_a_tool_of_cyclonedx_assessed() {
    let whole = "whole";
    let fedora = "packages of fedora 41 were not assessed";
    for (tool, components, missing) in [
        (("trivy", "0.72.0"), vec![system("debian", "12.5")], whole),
        (("trivy", "0.72.0"), vec![system("fedora", "41")], fedora),
        (("trivy", "0.72.0"), vec![system("busybox", "1.36")], "packages of busybox 1.36 were not assessed"),
        (("trivy", "0.72.0"), vec![system("debian", "forky/sid")], "knows no issues of this release"),
        (("trivy", "0.72.0"), vec![system("debian", "")], "no version that is known"),
        (("trivy", "0.72.0"), vec![system("none", "")], whole),
        (("trivy", "0.72.0"), vec![system("none", ""), package("pkg:rpm/x/a@1")], "the scanner does not know it"),
        (("grype", "0.100.0"), vec![system("rhel", "9.4")], whole),
        (("grype", "0.100.0"), vec![system("fedora", "41")], "knows no issues of it before Grype 0.109"),
        (("grype", "0.109.1"), vec![system("fedora", "41")], whole),
        (("other", "1"), vec![system("opensuse-leap", "15.6")], whole),
        (("other", "1"), vec![system("rhel", "9.4")], whole),
        (("other", "1"), vec![system("nixos", "23")], "knows no issues of it"),
        (("other", "1"), vec![system("Alpine Linux", "3.22.1")], whole),
        (("other", "1"), vec![system("Fedora Linux", "43")], whole),
        (("other", "1"), vec![system("Oracle Linux Server", "9.4")], whole),
        (("other", "1"), vec![system("openSUSE Leap", "16.0")], whole),
        (("other", "1"), vec![system("SLE Micro", "5.5")], whole),
        (("other", "1"), vec![system("CentOS Stream", "9")], whole),
        (("other", "1"), vec![system("Debian GNU/Linux", "forky/sid")], whole),
        // Without a component for the system, its packages name it.
        (("trivy", "0.72.0"), vec![package("pkg:deb/debian/a@1")], whole),
        (("trivy", "0.72.0"), vec![package("pkg:deb/debian/a@1?distro=debian-12.5")], whole),
        (("trivy", "0.72.0"), vec![package("pkg:deb/debian/a@1?distro=debian-forky%2Fsid")], "issues of this release"),
        (("trivy", "0.72.0"), vec![package("pkg:apk/alpine/a@1?distro=3.19.1")], whole),
        (("trivy", "0.72.0"), vec![package("pkg:rpm/fedora/a@1?distro=fedora-41")], fedora),
        (("trivy", "0.72.0"), vec![package("pkg:rpm/fedora/a@1")], "packages of fedora were not assessed"),
        (("grype", "0.109.1"), vec![package("pkg:rpm/fedora/a@1")], whole),
        (("trivy", "0.72.0"), vec![package("pkg:rpm/rhel/a@1")], whole),
        (("grype", "0.109.1"), vec![package("pkg:rpm/suse/a@1")], "packages of suse were not assessed"),
        (("trivy", "0.72.0"), vec![package("pkg:rpm/suse/a@1")], whole),
        (("other", "1"), vec![package("pkg:deb/debian/a@1?distro=jessie")], whole),
        (("other", "1"), vec![package("pkg:rpm/nixos/a@1")], "packages of nixos were not assessed"),
        (("other", "1"), vec![package("pkg:npm/a@1")], whole),
    ] {
        let found = part(look(&index(&[&bom(tool.0, tool.1, &components)]), MANIFEST, CONFIG));
        assert!(found.contains(missing), "{found}: {tool:?} {components:?}");
    }
    let nested = json!({"bom-ref": "x", "type": "application", "name": "x", "components": [system("fedora", "41")]});
    assert!(part(look(&index(&[&bom("trivy", "0.72.0", &[nested])]), MANIFEST, CONFIG)).contains(fedora));
}

#[test]
fn the_version_of_grype_decides_which_systems_it_knows() {
    for (program, name, is_whole) in [
        (json!("0.108.0"), "fedora", false),
        (json!("0.109.0"), "fedora", true),
        (json!("0.116.0"), "photon", true),
        (json!("1.0.0"), "photon", true),
        (json!("v0.109.0-rc1"), "photon", true),
        (json!("dev"), "fedora", false),
        (json!(null), "fedora", false),
        (json!("0.116.0"), "nixos", false),
    ] {
        let mut grype = value(&grype_on(json!({"name": name, "version": "41"})));
        grype["descriptor"]["version"] = program.clone();
        let found = part(look(&index(&[&grype.to_string()]), MANIFEST, CONFIG));
        assert_eq!(found == "whole", is_whole, "{program} {name}: {found}");
    }
}
