//! Statements: what they apply to.

use super::*;

/// A document of analyses is a list of statements: it does not prove a scan, and replaces no report. Its findings are
/// added, unless it says that the image is not affected.
#[test]
fn an_analysis_is_not_a_finding_of_a_scanner() {
    for (states, is_report) in [
        (&[json!("in_triage")][..], false),
        (&[json!("exploitable")], false),
        (&[json!("not_affected"), json!("exploitable")], false),
        (&[json!(null)], false),
        (&[json!("NOT_AFFECTED")], false),
        (&[], true),
    ] {
        let issue = |analysis: Value| {
            let affects = [json!({"ref": "nested"})];
            json!({"id": "CVE-2024-0099", "ratings": [{"severity": "none"}], "affects": affects, "analysis": analysis})
        };
        let mut issues: Vec<_> = states.iter().map(|state| issue(json!({"state": state}))).collect();
        if is_report {
            issues.push(issue(json!(null)));
        }
        let mut vdr = value(VDR);
        vdr["vulnerabilities"] = json!(issues);
        let text = vdr.to_string();
        let is_found = matches!(look(&index(&[&text]), MANIFEST, CONFIG), Some(VaEvidence::Report(_)));
        assert_eq!(is_found, is_report, "{states:?}");
        let newest = lookup(&[TRIVY, &text]).issues.len();
        assert_eq!(newest, if is_report { 1 } else { 11 }, "it is newer: {states:?}");
    }
    let image = format!("pkg:oci/x@{}", digest(CONFIG));
    let exempt = vex(None, OLD, "not_affected", &[&image]);
    let mut vdr = value(VDR);
    vdr["vulnerabilities"] = json!([{"id": "CVE-2024-0002", "analysis": {"state": "exploitable"}}]);
    assert!(!find(&lookup(&[TRIVY, &exempt, &vdr.to_string()]), "CVE-2024-0002").exempt, "it still counts");
}

/// A digest with a platform may be that of an index, and then names one of its images.
#[test]
fn a_statement_about_a_platform_does_not_apply_to_a_whole_index() {
    let open = |purl: String| open_vex(&json!({"products": [{"@id": purl}], "status": "fixed"}));
    let cyclone = |purl: String| vex(None, OLD, "not_affected", &[&purl]);
    let product = |purl: String| {
        let mut text = value(&vex(Some("app"), OLD, "not_affected", &["pkg:deb/debian/libc6"]));
        text["metadata"]["component"]["purl"] = purl.into();
        text.to_string()
    };
    for (qualifiers, of_index) in [
        ("", true),
        ("?repository_url=r.io%2Fapp", true),
        ("?arch=arm64", false),
        ("?platform=linux%2Farm64", false),
        ("?repository_url=r.io&os=linux", false),
    ] {
        for make in [&open as &dyn Fn(String) -> String, &cyclone, &product] {
            for (named, exempt) in [(INDEX, of_index), (MANIFEST, true)] {
                let text = make(format!("pkg:oci/app@{}{qualifiers}", digest(named)));
                let subject = ReportQuery { parents: &[digest(INDEX)], ..subject(MANIFEST, CONFIG) };
                let found = report(index(&[TRIVY, &text]).lookup(&subject, false).unwrap());
                assert_eq!(find(&found, "CVE-2024-0002").exempt, exempt, "{text}");
            }
        }
    }
}

#[test]
fn statements_apply_to_the_versions_that_they_list() {
    let is = |version: &str, status: &str| json!({"version": version, "status": status});
    for (versions, exempt) in [
        (json!(null), true),
        (json!([]), true),
        (json!([is("2.36-9", "unaffected")]), true),
        (json!([is("2.36-9", "unaffected"), is("1", "affected")]), true),
        (json!([is("2.37", "unaffected")]), false),
        (json!([is("2.37", "unaffected"), is("2.36-9", "affected")]), false),
        (json!([is("2.36-9", "unknown")]), false),
        (json!([{"version": "2.36-9"}]), false),
        (json!([{"range": "vers:deb/<3", "status": "unaffected"}]), false),
        (json!([is("2.36-9", "unaffected"), {"range": "vers:deb/<3", "status": "affected"}]), false),
    ] {
        let with = |at, state, reference: &str| {
            let mut text = value(&vex(None, at, state, &[reference]));
            text["vulnerabilities"][0]["affects"][0]["versions"] = versions.clone();
            text.to_string()
        };
        let package = "pkg:deb/debian/libc6";
        let found = lookup(&[TRIVY, &with(OLD, "resolved", package)]);
        assert_eq!(find(&found, "CVE-2024-0002").exempt, exempt, "{versions}");
        let image = with(OLD, "resolved", &format!("pkg:oci/x@{}", digest(CONFIG)));
        let by_image = find(&lookup(&[TRIVY, &image]), "CVE-2024-0002").exempt;
        assert_eq!(by_image, versions.as_array().is_none_or(Vec::is_empty), "an image is no such version: {versions}");
    }
    let of = |state, version: &str, status| {
        let mut text = value(&vex(None, OLD, state, &["pkg:deb/debian/libc6"]));
        text["vulnerabilities"][0]["affects"][0]["versions"] = json!([is(version, status)]);
        text.to_string()
    };
    let files = [TRIVY, &of("resolved", "2.36-9", "unaffected"), &of("exploitable", "2.35", "affected")];
    assert!(find(&lookup(&files), "CVE-2024-0002").exempt, "another version is exploitable");
    let files = [TRIVY, &of("resolved", "2.36-9", "unaffected"), &of("exploitable", "2.36-9", "affected")];
    assert!(!find(&lookup(&files), "CVE-2024-0002").exempt);
}

#[test]
fn statements_cover_only_their_own_products() {
    let image = |digit| format!("pkg:oci/app@{}", digest(digit));
    let hash = |digit: char| json!({"SHA-256": digit.to_string().repeat(64)});
    for (product, exempt) in [
        (json!({"@id": "pkg:deb/debian/libc6#doc"}), false),
        (json!({"@id": image(CONFIG) + "#usr/bin"}), false),
        (json!({"@id": image(CONFIG), "subcomponents": [{"@id": "pkg:deb/debian/libc6#doc"}]}), false),
        (json!({"@id": image(CONFIG), "identifiers": {"purl": image(OTHER)}}), false),
        (json!({"@id": image(OTHER), "identifiers": {"purl": image(CONFIG)}}), false),
        (json!({"@id": format!("r.io/app@{}", digest(OTHER)), "identifiers": {"purl": image(CONFIG)}}), false),
        (json!({"@id": image(CONFIG), "identifiers": {"purl": image(CONFIG) + "?repository_url=r.io"}}), true),
        (json!({"@id": image(CONFIG), "hashes": hash(OTHER)}), false),
        (json!({"@id": image(CONFIG), "hashes": hash(CONFIG)}), true),
        (json!({"@id": "pkg:deb/debian/zlib1g", "identifiers": {"purl": "pkg:deb/debian/libc6"}}), false),
        (json!({"@id": "pkg:deb/debian/libc6", "identifiers": {"purl": "pkg:deb/debian/libc6@1"}}), false),
    ] {
        let text = open_vex(&json!({"products": [product], "status": "fixed"}));
        let found = index(&[TRIVY, &text]);
        assert_eq!(find(&report(look(&found, '0', CONFIG)), "CVE-2024-0002").exempt, exempt, "{text}");
    }
    let contradiction = json!({"@id": image(CONFIG), "identifiers": {"purl": image(OTHER)}});
    assert_eq!(index(&[&open_vex(&json!({"products": [contradiction], "status": "fixed"}))]).problems.len(), 1);
    for (justification, impact, exempt) in [
        ("inline_mitigations_already_exist", "", true),
        ("because", "", false),
        ("because", "It is not reached.", false),
        ("", "It is not reached.", true),
        (" ", " ", false),
    ] {
        let text = open_vex(&json!({
            "products": [{"@id": image(CONFIG)}], "status": "not_affected",
            "justification": justification, "impact_statement": impact,
        }));
        assert_eq!(find(&lookup(&[TRIVY, &text]), "CVE-2024-0002").exempt, exempt, "{text}");
    }
}

/// Several CVEs may share an advisory. A statement on one of them does not apply to another.
#[test]
fn statements_on_cves_match_cves() {
    let of = |id: &str, aliases: Value, state: &str| {
        let mut text = value(&vex(None, OLD, state, &[&format!("pkg:oci/x@{}", digest(CONFIG))]));
        text["vulnerabilities"][0]["id"] = id.into();
        text["vulnerabilities"][0]["references"] = aliases;
        text.to_string()
    };
    let mut trivy = value(TRIVY_CLEAN);
    let found = |id: &str, vendor: Value| json!({"VulnerabilityID": id, "VendorIDs": vendor, "Severity": "HIGH"});
    trivy["Results"][0]["Vulnerabilities"] = json!([
        found("CVE-2024-1", json!(["DSA-1"])),
        found("CVE-2024-2", json!(["DSA-1"])),
        found("GHSA-1", json!(["CVE-2024-3", "CVE-2024-4"])),
        found("ALAS-1", json!(["GHSA-2"])),
    ]);
    let dsa = || json!([{"id": "DSA-1"}]);
    for (id, aliases, exempt) in [
        ("CVE-2024-1", dsa(), &["CVE-2024-1"][..]),
        ("DSA-1", json!(null), &["CVE-2024-1", "CVE-2024-2"]),
        ("CVE-2024-3", json!([{"id": "GHSA-1"}]), &[]),
        ("CVE-2024-3", json!([{"id": "cve-2024-4"}]), &["GHSA-1"]),
        ("GHSA-1", json!(null), &["GHSA-1"]),
        ("GHSA-2", json!([{"id": "CVE-2024-9"}]), &["ALAS-1"]),
    ] {
        let found = lookup(&[&trivy.to_string(), &of(id, aliases, "not_affected")]);
        let mut names: Vec<_> = found.issues.iter().filter(|issue| issue.exempt).map(|issue| &*issue.id).collect();
        names.sort_unstable();
        assert_eq!(names, exempt, "{id}");
    }
    let both = of("CVE-2024-3", json!([{"id": "CVE-2024-4"}]), "resolved");
    let found = lookup(&[&trivy.to_string(), &both, &of("CVE-2024-4", json!(null), "exploitable")]);
    assert!(!find(&found, "GHSA-1").exempt, "one of its CVEs is enough");
}
