//! Crafted reports: what was assessed, which image a report is about, and which times and suppressions count.

mod statements;
mod subjects;

use super::*;
use subjects::{NEW, OLD, made};

fn trivy_of(os: Value, results: Value) -> String {
    let mut trivy = value(TRIVY_CLEAN);
    trivy["Metadata"]["OS"] = os;
    trivy["Results"] = results;
    trivy.to_string()
}

/// A report is clean only for the parts that were assessed.
#[test]
fn parts_that_trivy_assessed() {
    let debian = || json!({"Family": "debian", "Name": "12.5"});
    let eosl = |eosl: Value| json!({"Family": "debian", "Name": "8", "EOSL": eosl});
    let none = || json!({"Family": "none", "Name": ""});
    let system = || json!({"Target": "x", "Class": "os-pkgs"});
    let of = |kind: &str| json!({"Target": "x", "Class": "os-pkgs", "Type": kind});
    let binary = || json!({"Target": "app", "Class": "lang-pkgs", "Type": "gobinary"});
    let listing = |mut result: Value, packages: Value| {
        result["Packages"] = packages;
        result
    };
    for (os, results, missing) in [
        (debian(), json!([system()]), "whole"),
        (debian(), json!([listing(system(), json!([{"Name": "x"}]))]), "whole"),
        (debian(), json!([listing(system(), json!([]))]), "packages of debian 12.5 were not assessed"),
        (debian(), json!([system(), listing(binary(), json!([{"Name": "x"}]))]), "packages of debian 12.5"),
        (debian(), json!(null), "packages of debian 12.5"),
        (debian(), json!([]), "packages of debian 12.5"),
        (debian(), json!([{"Target": "x", "Class": "secret"}]), "packages of debian 12.5"),
        (debian(), json!([binary()]), "packages of debian 12.5"),
        (eosl(json!(true)), json!([system()]), "debian 8 is past its end of support"),
        (eosl(json!(null)), json!([system()]), "whole"),
        (none(), json!([binary()]), "whole"),
        (json!({"Family": " None ", "Name": "x"}), json!([binary()]), "whole"),
        (json!({"Family": "Unknown", "Name": "1"}), json!([system()]), "scanner does not know it"),
        (json!({"Family": "", "Name": "12"}), json!([system()]), "scanner does not know it"),
        (json!({"Family": " ", "Name": ""}), json!([system(), binary()]), "does not know it"),
        (json!({"Family": " Debian", "Name": "12"}), json!([system()]), "whole"),
        (json!({"Family": "debian", "Name": ""}), json!([system()]), "no version that is known"),
        (json!({"Family": "debian"}), json!([system()]), "no version that is known"),
        (json!({"Family": "debian", "Name": "unknown"}), json!([system()]), "no version that is known"),
        (json!({"Family": "debian", "Name": "forky/sid"}), json!([system()]), "debian forky/sid were not assessed"),
        (json!({"Family": "debian", "Name": "kali-rolling"}), json!([system()]), "knows no issues of this release"),
        (json!({"Family": "ubuntu", "Name": "noble"}), json!([system()]), "knows no issues of this release"),
        (json!({"Family": "debian", "Name": "edge"}), json!([system()]), "knows no issues of this release"),
        (json!({"Family": "alpine", "Name": "edge"}), json!([system()]), "whole"),
        (json!({"Family": "amazon", "Name": "AMI release 2018.03"}), json!([system()]), "whole"),
        (json!({"Family": "amazon", "Name": "2 (Karoo)"}), json!([system()]), "whole"),
        (json!({"Family": "wolfi"}), json!([system()]), "whole"),
        (json!({"Family": "opensuse.tumbleweed"}), json!([of("opensuse-tumbleweed")]), "whole"),
        (json!({"Family": "fedora", "Name": "39"}), json!([system()]), "fedora 39 were not assessed"),
        (json!({"Family": "nixos", "Name": "23"}), json!([system()]), "knows no issues of it"),
        (json!({"Family": "busybox", "Name": "1.36"}), json!([system()]), "knows no issues of it"),
        (debian(), json!([of("debian")]), "whole"),
        (debian(), json!([of("alpine")]), "of alpine, but the system is debian 12.5"),
        (debian(), json!([of("debian"), of("alpine")]), "of alpine, but the system is debian 12.5"),
        (json!(null), json!([binary()]), "whole"),
        (json!(null), json!([listing(binary(), json!([]))]), "nothing was assessed"),
        (json!(null), json!(null), "nothing was assessed"),
        (none(), json!([]), "nothing was assessed"),
        (none(), json!([{"Class": "secret"}, {"Class": "config"}, {"Class": "license"}]), "nothing was assessed"),
    ] {
        let text = trivy_of(os, results);
        let found = part(look(&index(&[&text]), '0', CONFIG));
        assert!(found.contains(missing), "{found}: {text}");
    }
}

/// The format has no field for what the gate's own scanner did not assess, so `pullgate va --output trivy` adds one.
#[test]
fn a_report_with_unassessed_parts_is_incomplete() {
    let mut trivy = value(TRIVY_CLEAN);
    trivy["NotAssessed"] = json!([]);
    assert_eq!(part(look(&index(&[&trivy.to_string()]), '0', CONFIG)), "whole");
    trivy["NotAssessed"] = json!(["app/x.jar: it is damaged"]);
    let found = part(look(&index(&[&trivy.to_string()]), '0', CONFIG));
    assert!(found.contains("not all was assessed: app/x.jar: it is damaged"), "{found}");
}

/// An identifier that `alwaysBlock` or an exemption names is found whatever is around it.
#[test]
fn identifiers_are_compared_without_spaces() {
    let mut trivy = value(TRIVY_CLEAN);
    trivy["Results"][0]["Vulnerabilities"] = json!([
        {"VulnerabilityID": " CVE-2026-1", "Severity": "LOW"},
        {"VulnerabilityID": "GHSA-1\n", "VendorIDs": ["CVE-2026-2 ", " "], "Severity": "LOW"},
    ]);
    let report = lookup(&[&trivy.to_string()]);
    assert!(find(&report, "CVE-2026-1").is_called("CVE-2026-1"));
    assert_eq!(find(&report, "GHSA-1").aliases, ["CVE-2026-2"]);
    let mut grype = value(GRYPE);
    grype["matches"] = json!([{
        "vulnerability": {"id": " GHSA-2", "severity": "Low"}, "artifact": {"name": "x"},
        "relatedVulnerabilities": [{"id": "CVE-2026-3 ", "severity": "High"}],
    }]);
    let found = lookup(&[&grype.to_string()]);
    assert_eq!(find(&found, "CVE-2026-3").aliases, ["GHSA-2"]);
    let mut vdr = value(VDR);
    vdr["vulnerabilities"] = json!([{"id": "CVE-2026-4 ", "references": [{"id": " GHSA-4"}]}]);
    assert_eq!(find(&lookup(&[&vdr.to_string()]), "CVE-2026-4").aliases, ["GHSA-4"]);
}

/// Where only issues with a fix count, what is odd about a fix must not mean that there is none.
#[test]
fn what_trivy_states_about_a_fix() {
    for (change, fixed) in [
        (json!({}), None),
        (json!({"FixedVersion": null, "Status": "affected"}), None),
        (json!({"FixedVersion": " ", "Status": "will_not_fix"}), None),
        (json!({"FixedVersion": "4", "Status": "fixed"}), Some("4")),
        (json!({"FixedVersion": 4}), Some("a later version")),
        (json!({"FixedVersion": ["4.0"]}), Some("a later version")),
        (json!({"FixedVersion": {"v": "4"}}), Some("a later version")),
        (json!({"Status": "fixed"}), Some("a later version")),
        (json!({"FixedVersion": "4", "PkgName": null}), Some("4")),
    ] {
        let mut finding = json!({"VulnerabilityID": "CVE-2026-1", "PkgName": "openssl", "Severity": "HIGH"});
        finding.as_object_mut().unwrap().extend(change.as_object().unwrap().clone());
        let mut trivy = value(TRIVY_CLEAN);
        trivy["Results"][0]["Vulnerabilities"] = json!([finding]);
        let report = lookup(&[&trivy.to_string()]);
        let issue = find(&report, "CVE-2026-1");
        assert_eq!(issue.packages[0].fixed.as_deref(), fixed, "{change}");
        assert_eq!(issue.is_fixable(), fixed.is_some(), "{change}");
    }
}

#[test]
fn parts_that_grype_assessed() {
    let matched = |kind: &str| json!([{"vulnerability": {"id": "CVE-1"}, "artifact": {"name": "x", "type": kind}}]);
    let eol = json!([{"package": {}, "alerts": [{"type": "distro-eol", "message": "m"}]}]);
    for (changes, missing) in [
        (json!({}), "whole"),
        (json!({"distro": {"name": "wolfi", "version": ""}}), "whole"),
        (json!({"distro": {"name": "arch"}}), "whole"),
        (json!({"distro": {"name": " Wolfi "}}), "whole"),
        (json!({"distro": {"name": "redhat", "version": "9.4"}}), "whole"),
        (json!({"distro": {"name": "debian", "version": "Unknown"}}), "it has no version that is known"),
        (json!({"distro": {"name": "unknown", "version": "1"}}), "knows no issues of it"),
        (json!({"distro": {"name": "fedora", "version": "39"}}), "knows no issues of it"),
        (json!({"distro": {"name": "busybox", "version": "1.36.1"}}), "knows no issues of it"),
        (json!({"distro": {"name": "nixos", "version": "23"}, "matches": matched("npm")}), "knows no issues of it"),
        (json!({"distro": null}), "nothing was assessed"),
        (json!({"distro": {"name": "", "version": "", "idLike": null}}), "nothing was assessed"),
        (json!({"distro": {"name": null, "version": null}}), "nothing was assessed"),
        (json!({"distro": {"name": "debian", "version": ""}}), "packages of debian were not assessed"),
        (json!({"distro": {"name": "debian"}, "matches": matched("npm")}), "packages of debian were not assessed"),
        (json!({"distro": null, "matches": matched("go-module")}), "whole"),
        (json!({"distro": null, "ignoredMatches": matched("go-module")}), "whole"),
        (json!({"distro": null, "matches": matched("deb")}), "packages of the system were not assessed"),
        (json!({"alertsByPackage": eol}), "debian 12 is past its end of support"),
        (json!({"alertsByPackage": null}), "whole"),
        (json!({"descriptor": {"configuration": {"exclude": ["/usr/**"]}}}), "told to leave out /usr/**"),
        (json!({"descriptor": {"configuration": {"exclude": [], "only-fixed": true}}}), "whole"),
        (json!({"descriptor": {"db": {"status": {"valid": false}}}}), "database was not valid"),
        (json!({"descriptor": {"db": {"status": {"valid": "false"}}}}), "database was not valid"),
        (json!({"descriptor": {"db": {"valid": false}}}), "database was not valid"),
        (json!({"descriptor": {"db": {"error": "no database"}}}), "database was not valid"),
        (json!({"descriptor": {"db": {"status": {"valid": true}}}}), "whole"),
    ] {
        let mut grype = value(GRYPE);
        grype["matches"] = json!([]);
        grype["ignoredMatches"] = json!(null);
        grype.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        let found = part(look(&index(&[&grype.to_string()]), MANIFEST, CONFIG));
        assert!(found.contains(missing), "{found}: {changes}");
    }
}

/// A suppression exempts if it makes a statement about the image, not if someone only excluded the finding.
#[test]
fn only_suppressions_about_the_image_exempt() {
    let kernel = json!({"match-type": "exact-indirect-match", "package": {"upstream-name": "linux"}});
    for (rules, exempt) in [
        (json!([{"namespace": "vex", "vex-status": "not_affected"}]), true),
        (json!([{"namespace": "vex", "vex-status": "fixed"}]), true),
        (json!([{"fix-state": "not-fixed"}, {"vex-status": "fixed"}]), true),
        (json!([{"vulnerability": "CVE-2024-0013", "reason": "Distro Not Vulnerable"}]), true),
        (json!([kernel]), true),
        (json!([{"vex-status": "under_investigation"}]), false),
        (json!([{"namespace": "", "fix-state": "not-fixed"}]), false),
        (json!([{"vulnerability": "CVE-2024-0013", "reason": "accepted"}]), false),
        (json!([]), false),
        (json!(null), false),
    ] {
        let mut grype = value(GRYPE);
        grype["ignoredMatches"][0]["appliedIgnoreRules"] = rules.clone();
        let index = index(&[&grype.to_string()]);
        assert_eq!(find(&report(look(&index, MANIFEST, CONFIG)), "CVE-2024-0013").exempt, exempt, "{rules}");
        let honoured = report(index.lookup(&subject(MANIFEST, CONFIG), true).unwrap());
        assert!(find(&honoured, "CVE-2024-0013").exempt, "{rules}");
    }
    for (status, exempt) in [("ignored", false), ("not_affected", true), ("fixed", true), ("affected", false)] {
        let text = TRIVY.replace(r#""Status": "ignored""#, &format!(r#""Status": "{status}""#));
        let index = index(&[&text]);
        assert_eq!(find(&report(look(&index, '0', CONFIG)), "CVE-2024-0006").exempt, exempt, "{status}");
        let honoured = report(index.lookup(&subject('0', CONFIG), true).unwrap());
        assert_eq!(find(&honoured, "CVE-2024-0006").exempt, status != "affected", "{status}");
    }
    for kind in [json!("Vulnerability"), json!("vuln"), json!(null)] {
        let mut trivy = value(TRIVY_CLEAN);
        let finding = json!({"VulnerabilityID": "CVE-2024-0006", "Severity": "HIGH"});
        trivy["Results"][0]["ExperimentalModifiedFindings"] =
            json!([{"Type": kind, "Status": "ignored", "Finding": finding}]);
        assert_eq!(lines(&lookup(&[&trivy.to_string()])), ["CVE-2024-0006 high: "], "{kind}");
    }
}

#[test]
fn unusual_but_valid_cyclonedx_documents() {
    let of = |vulnerabilities: Value| {
        let mut vdr = value(VDR);
        vdr["components"] = json!([{"bom-ref": "p", "name": "openssl", "version": "1", "purl": null}]);
        vdr["vulnerabilities"] = vulnerabilities;
        lines(&lookup(&[&vdr.to_string()]))
    };
    for (rating, severity) in [
        (json!({"severity": "none", "score": 9.8}), "critical"),
        (json!({"severity": "info", "score": 7.1}), "high"),
        (json!({"severity": "Unknown", "score": 9.8}), "critical"),
        (json!({"severity": "none", "score": 0.0}), "negligible"),
        (json!({"severity": "none", "score": null}), "negligible"),
        (json!({"severity": "low", "score": 9.8}), "low"),
        (json!({"severity": null, "score": null}), "unknown"),
        (json!({"vector": "CVSS:3.1/AV:N"}), "unknown"),
        (json!({"severity": "none", "vector": "CVSS:3.1/AV:N"}), "unknown"),
        (json!({"severity": "low", "vector": "CVSS:3.1/AV:N"}), "low"),
    ] {
        let found = of(json!([{"id": "X", "ratings": [rating], "affects": null}]));
        assert_eq!(found, [format!("X {severity}: ")], "{rating}");
    }
    for (other, severity) in [("unknown", "unknown"), ("none", "negligible"), ("low", "low")] {
        let ratings = json!([{"severity": "none"}, {"severity": other}]);
        assert_eq!(of(json!([{"id": "X", "ratings": ratings}])), [format!("X {severity}: ")], "{other}");
    }
    let low = json!([{"severity": "low"}]);
    for (vulnerability, name) in [
        (json!({"ratings": low}), "unnamed"),
        (json!({"id": null, "bom-ref": "v1", "ratings": low, "description": 5}), "v1"),
        (json!({"id": "", "ratings": low, "references": [{"id": null}], "analysis": null}), "unnamed"),
    ] {
        assert_eq!(of(json!([vulnerability])), [format!("{name} low: ")]);
    }
    for (versions, counts) in [
        (json!([{"version": "1", "status": "unaffected"}]), false),
        (json!([{"version": "1", "status": "affected"}]), true),
        (json!([{"version": "1"}]), true),
        (json!([{"version": "1", "status": "unknown"}]), true),
        (json!([{"version": "2", "status": "unaffected"}]), true),
        (json!([{"version": "1", "status": "unaffected"}, {"version": "1", "status": "affected"}]), true),
        (json!([{"version": "1", "status": "unaffected"}, {"range": "vers:deb/<3", "status": "affected"}]), true),
        (json!([{"range": "vers:deb/>=2", "status": "unaffected"}]), true),
        (json!(null), true),
    ] {
        let found = of(json!([
            {"id": "A", "ratings": low, "affects": [{"ref": "p", "versions": versions}]},
            {"id": "Z", "ratings": low, "affects": [{"ref": "p"}]},
        ]));
        assert_eq!(found.len() == 2, counts, "{versions}");
    }
}

/// No report is lost because of its encoding or a malformed title.
#[test]
fn other_encodings() {
    let wanted = lines(&lookup(&[TRIVY]));
    let surrogate = TRIVY.replace("bash: something is wrong", r"bad \ud83d");
    assert!(surrogate.contains(r"bad \ud83d"));
    assert_eq!(lines(&lookup(&[&surrogate])), wanted);
    let wide: Vec<u8> = [0xFF, 0xFE].into_iter().chain(TRIVY.encode_utf16().flat_map(u16::to_le_bytes)).collect();
    assert_eq!(parse(&wide), parse(TRIVY.as_bytes()));
    let mut trivy = value(TRIVY);
    trivy["Results"][0]["Vulnerabilities"][0]["Title"] = json!({"not": "a title"});
    assert_eq!(lines(&lookup(&[&trivy.to_string()])), wanted);
}

#[test]
fn a_suppression_with_a_future_time_has_no_effect() {
    for (at, exempt) in [("2099-01-01T00:00:00Z", false), ("2026-04-01T00:05:01Z", false), (OLD, true)] {
        let statement = vex(None, at, "not_affected", &[&format!("pkg:oci/x@{}", digest(CONFIG))]);
        assert_eq!(find(&lookup(&[TRIVY, &statement]), "CVE-2024-0002").exempt, exempt, "{at}");
    }
}

/// A newer report on a part adds its findings and makes the result incomplete.
#[test]
fn an_incomplete_report_never_replaces_a_complete_one() {
    let partial = |time: &str| {
        let mut value = value(&made(TRIVY_CLEAN, time, CONFIG, &[]));
        value["Results"] = json!([{"Target": "k", "Class": "secret", "Secrets": [{"RuleID": "K"}]}]);
        value.to_string()
    };
    let whole = |text, time| made(text, time, CONFIG, &[]);
    for (files, issues, at, is_whole) in [
        ([whole(TRIVY, OLD), partial(NEW)], 11, OLD, false),
        ([whole(TRIVY, NEW), partial(NEW)], 11, NEW, false),
        ([whole(TRIVY, NEW), partial(OLD)], 10, NEW, true),
        ([partial(OLD), partial(NEW)], 1, NEW, false),
    ] {
        let found = lookup(&[&files[0], &files[1]]);
        let seen = (found.issues.len(), found.generated_at, found.incomplete.is_none());
        assert_eq!(seen, (issues, at.parse().ok(), is_whole));
    }
}

/// A report is as old as the data that the scanner used.
#[test]
fn a_report_is_as_old_as_its_database() {
    for (db, at) in [
        (json!({"status": {"built": OLD}}), OLD),
        (json!({"built": OLD}), OLD),
        (json!({"status": {"built": "2026-03-09T00:00:00Z"}}), NEW),
        (json!(null), NEW),
    ] {
        let mut grype = value(GRYPE);
        grype["descriptor"] = json!({"timestamp": NEW, "db": db});
        assert_eq!(lookup(&[&grype.to_string()]).generated_at, at.parse().ok(), "{db}");
    }
}

#[test]
fn a_cyclonedx_document_states_what_is_missing() {
    let subject = value(VDR)["metadata"]["component"]["bom-ref"].clone();
    for (composition, missing) in [
        (json!({"aggregate": "incomplete", "assemblies": [subject]}), "incomplete"),
        (json!({"aggregate": "incomplete_third_party_only", "dependencies": [subject]}), "incomplete_third_party_only"),
        (json!({"aggregate": "unknown", "vulnerabilities": ["x"]}), "unknown"),
        (json!({"aggregate": "unknown"}), "unknown"),
        (json!({"aggregate": "incomplete", "assemblies": ["nested"]}), "whole"),
        (json!({"aggregate": "not_specified", "assemblies": [subject]}), "whole"),
        (json!({"aggregate": "complete", "assemblies": [subject]}), "whole"),
    ] {
        let mut vdr = value(VDR);
        vdr["compositions"] = json!([composition]);
        assert!(part(look(&index(&[&vdr.to_string()]), MANIFEST, CONFIG)).contains(missing), "{composition}");
    }
}

/// What a gate itself has found stays that when another gate reads its report.
#[test]
fn checks_of_another_gate_are_known() {
    for (id, namespace, is_own) in [
        ("application_configuration:image.user", json!("pullgate"), true),
        ("application_configuration:image.user", json!(null), false),
        ("application_configuration:image.user", json!("builtin.dockerfile.DS002"), false),
        ("DS002", json!("pullgate"), false),
    ] {
        let mut trivy = value(TRIVY_CLEAN);
        let found = json!({"ID": id, "Namespace": namespace, "Severity": "MEDIUM", "Status": "FAIL"});
        trivy["Results"][0]["Misconfigurations"] = json!([found]);
        assert_eq!(find(&lookup(&[&trivy.to_string()]), id).is_own_check(), is_own, "{found}");
    }
}

#[test]
fn all_lines_of_what_trivy_advises_are_kept() {
    let mut trivy = value(TRIVY);
    let action = |trivy: &Value| find(&lookup(&[&trivy.to_string()]), "DS002").corrective_action.clone();
    assert_eq!(action(&trivy), None);
    for (resolution, expected) in [(json!("Add a user\n\n- by USER"), Some("Add a user\n- by USER")), (json!(1), None)]
    {
        trivy["Results"][2]["Misconfigurations"][0]["Resolution"] = resolution;
        assert_eq!(action(&trivy).as_deref(), expected);
    }
}
