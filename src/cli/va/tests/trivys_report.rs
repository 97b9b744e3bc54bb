//! The report in Trivy's format.

use super::*;

#[test]
fn trivys_report_names_layers_and_the_end_of_support() {
    let (layer, diff_id) = (crate::oci::Digest::sha256(b"layer"), crate::oci::Digest::sha256(b"content"));
    let mut scan = serde_json::to_value(scan()).unwrap();
    scan["layers"] = json!([{"digest": layer, "diff_id": diff_id}]);
    scan["packages"][0]["layer"] = json!(diff_id);
    scan["issues"][0]["packages"][0]["layer"] = json!(diff_id);
    let report = |end: &str| {
        let mut scan = scan.clone();
        scan["end_of_life"] = json!(end);
        trivy::report("app", &serde_json::from_value(scan).unwrap())
    };
    let (over, supported) = (report("2026-11-25T00:00:00Z"), report("2026-11-27T00:00:00Z"));
    assert_eq!((&over["Metadata"]["OS"]["EOSL"], &supported["Metadata"]["OS"]["EOSL"]), (&json!(true), &Value::Null));
    assert_eq!(over["Metadata"]["DiffIDs"], json!([diff_id]));
    let of_layer = json!({"Digest": layer, "DiffID": diff_id});
    assert_eq!(over["Results"][0]["Packages"][0]["Layer"], of_layer);
    assert_eq!(over["Results"][0]["Vulnerabilities"][0]["Layer"], of_layer);
    assert_eq!(over["Results"][0]["Vulnerabilities"][1]["Layer"], Value::Null);
}

/// `zlib1g` and `bash` are in no inventory; a reader of the report must find them nevertheless.
#[test]
fn trivys_report_has_every_issue_and_no_empty_field() {
    let report = trivy::report("us.icr.io/team/app:1", &scan());
    let results = report["Results"].as_array().unwrap();
    let found: Vec<(&str, &str)> = results
        .iter()
        .flat_map(|result| {
            let class = result["Class"].as_str().unwrap();
            let issues = result["Vulnerabilities"].as_array().or(result["Misconfigurations"].as_array());
            let ignored = result["ExperimentalModifiedFindings"].as_array().into_iter().flatten();
            let ignored = ignored.inspect(|ignored| assert_eq!(ignored["Status"], "ignored"));
            issues
                .unwrap()
                .iter()
                .chain(ignored.map(|ignored| &ignored["Finding"]))
                .map(move |issue| (class, issue["VulnerabilityID"].as_str().or(issue["ID"].as_str()).unwrap()))
        })
        .collect();
    assert_eq!(
        found,
        [
            ("os-pkgs", "CVE-2026-1"),
            ("os-pkgs", "CVE-2026-2"),
            ("os-pkgs", "CVE-2026-4"),
            ("lang-pkgs", "CVE-2026-3"),
            ("config", "application_configuration:mysql.ssl-ca"),
        ]
    );
    assert_eq!(
        results[0]["ExperimentalModifiedFindings"][0]["Finding"]["VulnerabilityID"], "CVE-2026-4",
        "it is exempt"
    );
    let first = &results[0]["Vulnerabilities"][0];
    assert_eq!(first["PkgID"], "openssl@3.0.9-1");
    assert_eq!(first["PrimaryURL"], "https://security-tracker.debian.org/tracker/DSA-5000-1");
    assert_eq!(first["CVSS"]["nvd"]["V3Score"], 9.8);
    assert_eq!(first["VendorIDs"], json!(["DSA-5000-1"]));
    assert_eq!(report["Metadata"]["RepoTags"], json!(["us.icr.io/team/app:1"]));
    assert_eq!(report["Metadata"]["OS"], json!({"Family": "debian", "Name": "12"}));
    let text = report.to_string();
    assert!(!text.contains("null") && !text.contains("{}") && !text.contains("[]"), "{text}");
}

/// What was not assessed is not left out, and this gate reads it again.
#[test]
fn trivys_report_lists_unassessed_parts() {
    let mut scan = scan();
    assert_eq!(trivy::report("app", &scan)["NotAssessed"], Value::Null);
    scan.gaps = vec![Gap { place: "app/x.jar".into(), problem: "it is damaged".into() }];
    assert_eq!(trivy::report("app", &scan)["NotAssessed"], json!(["app/x.jar: it is damaged"]));
    scan.assessment.why = Some("the packages of fedora 40 were not assessed".into());
    assert_eq!(trivy::not_assessed(&scan).len(), 2);
}

/// The summary of the gaps is not one more.
#[test]
fn gaps_are_listed_once() {
    let layer = crate::oci::Digest::sha256(b"layer");
    let gap = |place: &str, problem: &str| Gap { place: place.into(), problem: problem.into() };
    for (gaps, why, expected) in [
        (vec![gap("a.jar", "it is damaged")], "a.jar: it is damaged".to_owned(), 1),
        (vec![gap("a", "x"), gap("b.jar", "y")], "b.jar: y; a: x; +3".to_owned(), 2),
        (vec![gap(&layer.to_string(), "x")], format!("layer {}: x. Advice", layer.short()), 1),
        (vec![gap("a.jar", "it is damaged")], "the packages of fedora 40 were not assessed".to_owned(), 2),
        (vec![], "a.jar: it is damaged".to_owned(), 1),
    ] {
        let mut scan = scan();
        (scan.gaps, scan.assessment.why) = (gaps, Some(why));
        assert_eq!(trivy::not_assessed(&scan).len(), expected, "{scan:?}");
        let log = sarif::log([("app", &scan)].into_iter());
        let notes = &log["runs"][0]["invocations"][0]["toolExecutionNotifications"];
        assert_eq!(notes.as_array().map(Vec::len), Some(expected), "{notes}");
    }
}
