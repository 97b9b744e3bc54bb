//! Findings of documents that do not show a scan. They are added to what scanners report.

use super::*;

const EARLY: &str = "2026-01-15T00:00:00Z";
const LATE: &str = "2026-03-20T00:00:00Z";

/// A document of this tool about the image, with vulnerabilities in these states of analysis.
fn bom(tool: &str, version: &str, at: &str, states: &[Value]) -> Value {
    let mut vdr = value(VDR);
    vdr["metadata"]["timestamp"] = at.into();
    vdr["metadata"]["tools"] = json!([{"vendor": "x", "name": tool, "version": version}]);
    let one = |(number, state): (usize, &Value)| {
        let id = format!("CVE-2026-{number}");
        let found = json!({"id": id, "ratings": [{"severity": "critical"}], "affects": [{"ref": "nested"}]});
        match state {
            Value::Null => found,
            state => {
                let mut found = found;
                found["analysis"] = json!({"state": state});
                found
            }
        }
    };
    vdr["vulnerabilities"] = states.iter().enumerate().map(one).collect();
    vdr
}

/// The identifiers of the issues that are not exempt.
fn open(report: &Report) -> Vec<&str> {
    let of_bom = report.issues.iter().filter(|issue| issue.id.starts_with("CVE-2026-") && !issue.exempt);
    of_bom.map(|issue| &*issue.id).collect()
}

#[test]
fn an_analysis_that_does_not_exempt_is_a_finding() {
    for (states, found) in [
        (json!(["exploitable"]), &["CVE-2026-0"][..]),
        (json!(["in_triage", "in_triage"]), &["CVE-2026-0", "CVE-2026-1"]),
        (json!(["not_affected", "exploitable"]), &["CVE-2026-1"]),
        (json!(["not_affected", "false_positive", "resolved", "resolved_with_pedigree"]), &[]),
        (json!(["NOT_AFFECTED", "other"]), &["CVE-2026-0", "CVE-2026-1"]),
    ] {
        let text = bom("x", "1", LATE, states.as_array().unwrap()).to_string();
        let report = lookup(&[TRIVY_CLEAN, &text]);
        assert_eq!(open(&report), found, "{states}");
        assert_eq!(report.incomplete, None, "it is not a gap: {states}");
        assert_eq!(look(&index(&[&text]), MANIFEST, CONFIG), None, "another source is asked: {states}");
        // A source that knows the image otherwise.
        let image = ImageDigests { own: &[digest(MANIFEST)], parents: &[] };
        let added = index(&[&text]).with_statements_of(&[], &image, false).unwrap_or_default();
        assert_eq!(added.iter().map(|issue| &*issue.id).collect::<Vec<_>>(), found, "{states}");
        let other = ImageDigests { own: &[digest(OTHER)], parents: &[] };
        assert_eq!(index(&[&text]).with_statements_of(&[], &other, false), None, "it is about another image");
    }
}

/// The earlier versions of Grype wrote a state for every vulnerability.
#[test]
fn a_state_that_a_scanner_fills_in_is_no_analysis() {
    for (tool, version, state, is_report) in [
        ("grype", "0.36.0", "in_triage", true),
        ("grype", "0.41.0", "in_triage", true),
        ("grype", "v0.54.0", "in_triage", true),
        ("grype", "0.41.0", "exploitable", false),
        ("grype", "0.35.0", "in_triage", false),
        ("grype", "0.55.0", "in_triage", false),
        ("grype", "1.41.0", "in_triage", false),
        ("trivy", "0.41.0", "in_triage", false),
    ] {
        let text = bom(tool, version, LATE, &[json!(state)]).to_string();
        let found = look(&index(&[&text]), MANIFEST, CONFIG);
        assert_eq!(matches!(found, Some(VaEvidence::Report(_))), is_report, "{tool} {version} {state}");
        assert_eq!(parse(text.as_bytes()).unwrap().statements.is_empty(), is_report, "{tool} {version} {state}");
    }
}

#[test]
fn a_list_without_components_adds_its_findings() {
    let mut text = bom("x", "1", LATE, &[Value::Null, json!("in_triage")]);
    text["components"] = json!([]);
    assert_eq!(open(&lookup(&[TRIVY_CLEAN, &text.to_string()])), ["CVE-2026-0"], "the other is only a statement");
    text["metadata"]["component"]["purl"] = "pkg:oci/app".into();
    text["metadata"]["component"]["bom-ref"] = "app".into();
    text["metadata"]["component"]["properties"] = json!([]);
    text["vulnerabilities"].as_array_mut().unwrap().truncate(1);
    assert!(read(&text).unwrap_err().contains("for an image known by digest"));
}

/// As for reports: what is older than the newest complete report has been replaced by it.
#[test]
fn an_older_document_adds_nothing_to_a_report() {
    let mut trivy = value(TRIVY_CLEAN);
    trivy["CreatedAt"] = "2026-03-01T00:00:00Z".into();
    for (at, count) in [(EARLY, 0), ("2026-03-01T00:00:00Z", 1), (LATE, 1)] {
        let text = bom("x", "1", at, &[json!("exploitable")]).to_string();
        assert_eq!(open(&lookup(&[&trivy.to_string(), &text])).len(), count, "{at}");
    }
}

/// The scanner rates what both report, and a statement applies to what is added, too.
#[test]
fn what_a_scanner_reports_is_not_added_again() {
    let of = |severity: Value, name: &str| {
        let mut trivy = value(TRIVY_CLEAN);
        trivy["Results"][0]["Vulnerabilities"] =
            json!([{"VulnerabilityID": "CVE-2026-0", "PkgName": name, "Severity": severity}]);
        trivy["CreatedAt"] = "2026-03-01T00:00:00Z".into();
        trivy.to_string()
    };
    let text = bom("x", "1", LATE, &[json!("in_triage")]).to_string();
    for (package, severity) in [("left-pad", Severity::Low), ("other", Severity::Critical)] {
        let report = lookup(&[&of(json!("LOW"), package), &text]);
        assert_eq!(find(&report, "CVE-2026-0").severity, severity, "{package}");
    }
    let statement = open_vex(&json!({
        "products": [{"@id": format!("pkg:oci/app@{}", digest(CONFIG))}], "status": "fixed",
        "vulnerability": {"name": "CVE-2026-0"}, "timestamp": "2026-03-25T00:00:00Z",
    }));
    assert!(find(&lookup(&[TRIVY_CLEAN, &text, &statement]), "CVE-2026-0").exempt);
}

#[test]
fn the_recommended_version_is_found_with_the_group_of_the_component() {
    for (group, name, advice, fixed) in [
        (json!(null), "libssl3", "Upgrade libssl3 to version 3.0.13", "3.0.13"),
        (json!("com.example"), "databind", "Upgrade com.example:databind to version 2.9.10", "2.9.10"),
        (json!("@babel"), "core", "Upgrade @babel/core to version 7.1", "7.1"),
        (json!("com.example"), "databind", "Upgrade databind to version 2", "2"),
        (json!("com.example"), "a", "Upgrade b to version 1; Upgrade com.example:a to version 2", "2"),
        (json!("com"), "a", "Upgrade com.b:a to version 2", "Upgrade com.b:a to version 2"),
        (json!(null), "a", "Remove it", "Remove it"),
    ] {
        let mut text = bom("trivy", "0.72.0", LATE, &[Value::Null]);
        let component = &mut text["components"][1]["components"][0];
        component["name"] = name.into();
        component["group"] = group.clone();
        text["vulnerabilities"][0]["recommendation"] = advice.into();
        let report = lookup(&[&text.to_string()]);
        assert_eq!(find(&report, "CVE-2026-0").packages[0].fixed.as_deref(), Some(fixed), "{advice}");
    }
}
