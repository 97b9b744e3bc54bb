//! What reports of the service list.

use super::*;

/// Exemptions and `alwaysBlock` name any of the notices. One that IBM exempts need not be exempt here, too.
#[tokio::test]
async fn all_notices_that_are_not_exempt_are_aliases() {
    let notice = |id: &str, exempt: Value| json!({"notice_id": id, "notice_exempt": exempt, "notice": format!("https://x/{id}")});
    for (notices, expected) in [
        (json!([notice("USN-1", json!(false)), notice("USN-2", json!(null))]), vec!["USN-1", "USN-2"]),
        (json!([notice("USN-1", json!(true)), notice("USN-2", json!(false))]), vec!["USN-2"]),
        (json!([notice("USN-1", json!(true)), notice("USN-2", json!(true))]), vec!["USN-1", "USN-2"]),
        // An exemption of one must not exempt the other, which has no name.
        (json!([notice("USN-1", json!(false)), {"notice": "https://x"}]), vec![]),
        (json!([notice("USN-1", json!(true)), {"notice": "https://x"}]), vec![]),
        (json!([{"notice": "https://x", "notice_exempt": true}, notice("USN-1", json!(false))]), vec!["USN-1"]),
        (json!([notice("USN-1", json!(false)), notice(" ", json!(false))]), vec![]),
        (json!([{"notice": "https://x"}]), vec![]),
        (json!([]), vec![]),
    ] {
        let issue = json!({"cve_id": "CVE-1", "exempt_status": "active", "security_notices": notices});
        let body = json!({"status": "FAIL", "vulnerabilities": [issue]}).to_string();
        let report = report(scripted(&[(200, &body)]).await.fetch().await);
        assert_eq!(report.issues[0].aliases, expected, "{notices}");
        assert_eq!(report.issues[0].references.len(), notices.as_array().unwrap().len(), "{notices}");
    }
}

/// The service finds nothing in releases that are no longer supported. The gate's own dates say when their support ended.
#[tokio::test]
async fn the_end_of_support_follows_from_the_distribution() {
    for (distribution, name, end) in [
        (json!({"distribution_id": "debian", "version_id": "9"}), Some("debian 9"), Some("2022-06-30T23:59:59Z")),
        (
            json!({"distribution_id": "ubuntu", "version_id": "24.04"}),
            Some("ubuntu 24.04"),
            Some("2029-05-31T23:59:59Z"),
        ),
        (json!({"distribution_id": "wolfi", "version_id": ""}), Some("wolfi"), None),
        (json!({"distribution_id": "debian", "version_id": null}), Some("debian"), None),
        (json!(null), None, None),
    ] {
        let body = json!({"status": "OK", "os_distribution": distribution}).to_string();
        let report = report(scripted(&[(200, &body)]).await.fetch().await);
        assert_eq!(report.image.distribution.as_deref(), name, "{distribution}");
        assert_eq!(report.image.end_of_life.map(|at| at.to_string()).as_deref(), end, "{distribution}");
        assert!(report.incomplete.is_none() && !report.image.has_ended_before, "the report does not say it");
    }
}

/// What was found in a part of an image denies, also where a rule admits what was not assessed whole.
#[tokio::test]
async fn the_findings_of_an_incomplete_report_count() {
    let vulnerability = json!({"cve_id": "CVE-1", "exempt_status": "active"});
    let configuration = json!({"type": "application_configuration:nginx.tls", "corrective_action": "Turn it on", "meta": {"file": "a"}});
    for (vulnerabilities, configurations, found) in [
        (json!([vulnerability]), json!(null), 1),
        (json!([vulnerability]), json!([configuration]), 2),
        (json!([]), json!([configuration]), 1),
        (json!([]), json!([]), 0),
        (json!(null), json!(null), 0),
    ] {
        let body =
            json!({"status": "INCOMPLETE", "vulnerabilities": vulnerabilities, "configuration_issues": configurations});
        let observed = scripted(&[(200, &body.to_string())]).await.observe().await;
        // IBM may have assessed the rest soon.
        assert_eq!(observed.until.unwrap().duration_since(observed.at).as_secs(), 300, "{body}");
        match observed.value {
            VaEvidence::Report(report) => {
                assert_eq!((report.issues.len(), report.incomplete.is_some()), (found, true), "{body}");
                let last = report.issues.last().unwrap();
                let is_configuration = last.kind == IssueKind::Configuration;
                assert_eq!(last.corrective_action.as_deref(), is_configuration.then_some("Turn it on"));
                assert_eq!(last.packages.first().map(|place| &*place.name), is_configuration.then_some("a"));
            }
            other => assert!(found == 0 && matches!(other, VaEvidence::Incomplete { .. }), "{body}: {other:?}"),
        }
    }
}

/// Other rules than IBM's weigh what is listed.
#[tokio::test]
async fn the_findings_of_an_unsupported_image_are_kept() {
    for (vulnerabilities, found) in [(json!([{"cve_id": "CVE-1"}]), 1), (json!([]), 0), (json!(null), 0)] {
        let body = json!({"status": "UNSUPPORTED", "vulnerabilities": vulnerabilities}).to_string();
        let evidence = scripted(&[(200, &body)]).await.fetch().await;
        assert!(matches!(evidence, VaEvidence::Unsupported { .. }), "{evidence:?}");
        assert_eq!(evidence.issues().len(), found, "{evidence:?}");
    }
}

/// How to resolve a configuration issue may be a list.
#[tokio::test]
async fn all_lines_of_a_corrective_action_are_kept() {
    let long = "a".repeat(5000);
    let (cut, short) = (format!("{}…", &long[..4000]), "Turn it on".to_owned());
    for (action, expected) in [
        (json!(short), Some(short)),
        (json!("\nFirst this.\r\n\n  Then:\n- that\n"), Some("First this.\nThen:\n- that".to_owned())),
        (json!(long), Some(cut)),
        (json!(" \n "), None),
        (json!(7), None),
    ] {
        let issue = json!({"type": "application_configuration:nginx.tls", "corrective_action": action});
        let body = json!({"status": "FAIL", "configuration_issues": [issue]}).to_string();
        let report = report(scripted(&[(200, &body)]).await.fetch().await);
        assert_eq!(report.issues[0].corrective_action, expected, "{action}");
    }
}
