mod trivys_report;

use serde_json::json;

use super::*;
use crate::api::{Decision, PackageUpgrade};
use crate::inventory::Gap;

fn digest() -> String {
    format!("sha256:{}", "a".repeat(64))
}

/// A scan with issues of every standing.
pub(super) fn scan() -> ImageScan {
    let package = |name: &str, installed: &str, fixed: Option<&str>, more: Value| {
        let mut package = json!({"name": name, "installed": installed, "fixed": fixed});
        package.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        package
    };
    let issue = |id: &str, severity: &str, packages: Value, more: Value| {
        let mut issue = json!({
            "id": id, "aliases": [], "kind": "Vulnerability", "severity": severity, "packages": packages,
            "exempt": false, "title": null, "blocks": true
        });
        issue.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        issue
    };
    let debian = |name: &str| json!({"purl": format!("pkg:deb/debian/{name}@1"), "database": "debian"});
    serde_json::from_value(json!({
        "id": format!("us.icr.io/team/app@{}", digest()), "image": "us.icr.io/team/app:1",
        "digest": digest(), "platform": null, "status": "FAIL", "source": "pullgate 0.1.0 (trivy-db of 2026-11-25)",
        "security_status": "4 Issues", "why": null,
        "generated_at": "2024-10-10T00:00:00Z", "observed_at": "2026-11-26T00:00:00Z",
        "databases": [
            {"source": "osv-npm", "built": "2024-10-10T00:00:00Z"}, {"source": "trivy-db", "built": "2026-11-25T06:07:08Z"}
        ],
        "distribution": {
            "id": "debian", "like": [], "version": "12", "codename": "bookworm",
            "pretty_name": "Debian GNU/Linux 12 (bookworm)", "repository": null
        },
        "packages": [
            {"ecosystem": "deb", "name": "openssl", "version": "3.0.9-1", "purl": "pkg:deb/debian/openssl@3.0.9-1"},
            {
                "ecosystem": "npm", "name": "minimist", "version": "1.2.0", "purl": "pkg:npm/minimist@1.2.0",
                "path": "app/package.json"
            },
        ],
        "gaps": [],
        "issues": [
            issue("CVE-2026-1", "critical", json!([package("openssl", "3.0.9-1", Some("3.0.11-1"), debian("openssl"))]), json!({
                "aliases": ["DSA-5000-1"], "title": "Out of bounds read", "published": "2026-01-02T03:04:05Z",
                "score": {"source": "nvd", "value": 9.8, "vector": "CVSS:3.1/AV:N/AC:L/PR:N/UI:N/S:U/C:H/I:H/A:H"}
            })),
            issue("CVE-2026-4", "high", json!([package("zlib1g", "1.2.13", None, json!({"status": "will_not_fix"}))]), json!({
                "exempt": true, "blocks": false
            })),
            issue("CVE-2026-3", "medium", json!([package("minimist", "1.2.0", Some("1.2.6"), json!({
                "purl": "pkg:npm/minimist@1.2.0", "path": "app/package.json", "database": "ghsa"
            }))]), json!({"aliases": ["GHSA-vh95-rmgr-6w4m"]})),
            issue("CVE-2026-2", "low", json!([package("bash", "5.2", None, json!({}))]), json!({"blocks": false})),
            issue("application_configuration:mysql.ssl-ca", "unknown", json!([{"name": "etc/mysql/my.cnf", "installed": null, "fixed": null}]), json!({
                "kind": "Configuration",
                "title": "A setting in /etc/mysql/my.cnf that specifies the Certificate Authority (CA) certificate."
            })),
        ]
    }))
    .unwrap()
}

fn asked(scan: ImageScan) -> AskedImage {
    AskedImage { image: "us.icr.io/team/app:1".into(), scans: vec![scan] }
}

fn show() -> Show {
    Show { packages: false, extended: false, only: None, width: None }
}

#[test]
fn the_report_has_the_sections_and_words_of_ibms_tool() {
    let wanted = format!(
        "\
Image 'us.icr.io/team/app:1' was last scanned on Thu Nov 26 00:00:00 UTC 2026
The scan results show that 4 ISSUES were found for the image.
1 of unknown severity, 1 critical, 1 medium, 1 low. 1 of them is not covered by the rule. 1 issue is exempt.

  status         FAIL
  digest         {}
  distribution   Debian GNU/Linux 12 (bookworm)
  packages       2
  judged by      pullgate 0.1.0 (trivy-db of 2026-11-25)
  databases      osv-npm of 2024-10-10 (777 days old), trivy-db of 2026-11-25 (less than a day old)

Configuration Issues Found
==========================

Configuration Issue ID                   Policy Status   Security Practice                                                                       How to Resolve
application_configuration:mysql.ssl-ca   Active          A setting in /etc/mysql/my.cnf that specifies the Certificate Authority (CA) certificate.   Change the configuration

Vulnerable Packages Found
=========================

To resolve all: minimist 1.2.0 -> 1.2.6 (1 issue)
                openssl 3.0.9-1 -> 3.0.11-1 (1 issue)

",
        digest()
    );
    let text = describe(&asked(scan()), &show());
    let squeezed =
        |text: &str| text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect::<Vec<_>>();
    assert_eq!(squeezed(&text)[..squeezed(&wanted).len()], squeezed(&wanted)[..]);
    let rows: Vec<String> = squeezed(&text).split_off(squeezed(&wanted).len());
    assert_eq!(
        rows,
        [
            "Vulnerability ID Policy Status Affected Packages Security Notice How to Resolve",
            "CVE-2026-1 (critical) Active openssl 3.0.9-1 (fixed in 3.0.11-1) DSA-5000-1 \
             https://security-tracker.debian.org/tracker/DSA-5000-1 \
             Upgrade openssl to 3.0.11-1: apt-get install --only-upgrade openssl=3.0.11-1",
            "CVE-2026-3 (medium) Active minimist 1.2.0 (fixed in 1.2.6) GHSA-vh95-rmgr-6w4m \
             https://github.com/advisories/GHSA-vh95-rmgr-6w4m Upgrade minimist to 1.2.6: npm install minimist@1.2.6",
            "CVE-2026-2 (low) Not covered by the rule bash 5.2 https://nvd.nist.gov/vuln/detail/CVE-2026-2 No fix available",
            "CVE-2026-4 (high) Exempt zlib1g 1.2.13 https://nvd.nist.gov/vuln/detail/CVE-2026-4 \
             No fix available: the vendor will not fix it; remove or replace the package",
            "",
            "A newer base image usually has all packages of the distribution upgraded: rebuild the image from it.",
        ]
    );
}

#[test]
fn a_report_can_be_restricted_and_extended_and_fits_a_terminal() {
    let only = |kind| describe(&asked(scan()), &Show { only: Some(kind), ..show() });
    let (configuration, vulnerabilities) = (only(IssueKind::Configuration), only(IssueKind::Vulnerability));
    assert!(configuration.contains("mysql.ssl-ca") && !configuration.contains("CVE-2026-1"), "{configuration}");
    assert!(vulnerabilities.contains("CVE-2026-1") && !vulnerabilities.contains("mysql.ssl-ca"), "{vulnerabilities}");
    for text in [configuration, vulnerabilities] {
        assert!(text.contains("4 ISSUES"), "the result is that of all issues: {text}");
    }
    let extended = describe(&asked(scan()), &Show { extended: true, packages: true, ..show() });
    for part in ["9.8 (nvd)", "2026-01-02", "Out of bounds read", "ghsa", "in app/package.json", "Installed Packages"] {
        assert!(extended.contains(part), "{part}: {extended}");
    }
    let narrow = describe(&asked(scan()), &Show { width: Some(120), ..show() });
    let tables = narrow.lines().skip_while(|line| !line.starts_with("===")).collect::<Vec<_>>();
    assert!(tables.iter().all(|line| line.chars().count() <= 120), "{narrow}");
}

#[test]
fn only_a_complete_scan_without_issues_says_no_issues() {
    let with = |status: &str, issues: bool| {
        let mut scan = serde_json::to_value(scan()).unwrap();
        scan["status"] = json!(status);
        if !issues {
            scan["issues"] = json!([]);
        }
        describe(&asked(serde_json::from_value(scan).unwrap()), &show())
    };
    for (status, says_so) in
        [("OK", true), ("INCOMPLETE", false), ("UNSCANNED", false), ("UNSUPPORTED", false), ("FAIL", true)]
    {
        assert_eq!(with(status, false).contains("NO ISSUES"), says_so, "{status}");
        assert!(!with(status, true).contains("NO ISSUES"), "{status}");
    }
    let unscanned = with("UNSCANNED", false);
    let message = "BXNVA0009E: us.icr.io/team/app:1 has not been scanned. Try again later.\n";
    assert!(unscanned.starts_with(message), "{unscanned}");
    let empty = AskedImage { image: "app".into(), scans: vec![] };
    assert!(empty.no_image().contains("contains no image for any platform"));
}

/// The status is the one that the gate states, as in `pullgate images`.
#[test]
fn several_images_have_an_overview() {
    let with = |status: Option<&str>, platform: &str| {
        let mut scan = scan();
        scan.assessment.issues.clear();
        (scan.assessment.security_status, scan.assessment.platform) = (status.map(Into::into), Some(platform.into()));
        asked(scan)
    };
    let unavailable = with(Some("Unavailable"), "linux/arm64");
    let text = overview(&[asked(scan()), unavailable, with(None, "linux/s390x")], &show());
    assert_eq!(
        text,
        "
Image                              Current       Configuration Issues   Vulnerabilities
us.icr.io/team/app:1               4 Issues      1                      3
us.icr.io/team/app:1 linux/arm64   Unavailable   0                      0
us.icr.io/team/app:1 linux/s390x   -             0                      0
"
    );
}

/// An image that is denied for another reason than an issue is not called clean, and no job goes on with it.
#[test]
fn a_denial_without_an_issue_is_shown_and_fails() {
    let denied = |decision: Decision, reason: &str| {
        let mut scan = scan();
        scan.assessment.issues.clear();
        scan.assessment.decision = Some(decision);
        scan.assessment.reasons = vec![reason.to_owned()];
        scan
    };
    let banned = denied(Decision::Deny, "bannedPackages: evil 1.0.0 is banned");
    let text = describe(&asked(banned.clone()), &show());
    assert!(text.contains("\nNo issue is known, but the policy denies the image.\n"), "{text}");
    let mut exempt = scan();
    exempt.assessment.issues.iter_mut().for_each(|found| found.issue.exempt = true);
    let text_of_exempt = describe(&asked(exempt), &show());
    assert!(text_of_exempt.contains("\nAll issues are exempt, but the policy denies the image.\n"), "{text_of_exempt}");
    assert!(text.contains("  denied         bannedPackages: evil 1.0.0 is banned\n"), "{text}");
    let log = sarif::log([("us.icr.io/team/app:1", &banned)].into_iter());
    let run = &log["runs"][0];
    assert_eq!(run["results"][0]["message"]["text"], "bannedPackages: evil 1.0.0 is banned");
    let rule = &run["tool"]["driver"]["rules"][0];
    assert_eq!(rule["id"], run["results"][0]["ruleId"]);
    assert!(rule["help"]["text"].is_string() && rule["fullDescription"]["text"].is_string(), "{rule}");
    assert_eq!(run["results"][0]["locations"][0]["physicalLocation"]["region"]["startLine"], 1);
    assert_eq!(with_ibm_fields(&banned)["reasons"], json!(["bannedPackages: evil 1.0.0 is banned"]));
    let waiting = denied(Decision::Pending, "no assessment yet");
    assert!(describe(&asked(waiting.clone()), &show()).contains("  denied for now no assessment yet\n"));
    let admitted = ImageScan { assessment: denied(Decision::Admit, "").assessment, ..scan() };
    for (scans, exit) in [
        (vec![&banned], Exit::Denied),
        (vec![&waiting], Exit::Unknown),
        (vec![&waiting, &admitted, &banned], Exit::Denied),
        (vec![&admitted], Exit::Ok),
        (vec![&scan()], Exit::Denied),
    ] {
        assert_eq!(exit_of(scans.into_iter()), exit);
    }
}

/// An image that is admitted only for now says until when, and because of which issue.
#[test]
fn an_issue_that_will_count_has_a_date() {
    let mut scan = scan();
    let end = "2026-12-04T05:06:07Z".parse().ok();
    (scan.assessment.issues[3].counts_from, scan.assessment.until) = (end, end);
    let text = describe(&asked(scan), &show());
    assert!(text.contains("CVE-2026-2 (low)") && text.contains("Counts from 2026-12-04 05:06 UTC"), "{text}");
    assert!(text.contains("1 of them is counted from a later time on."), "{text}");
    assert!(!text.contains("not covered by the rule"), "{text}");
    assert!(text.contains("  until          2026-12-04T05:06:07Z\n"), "{text}");
}

#[test]
fn distributions_are_named_as_far_as_they_state_it() {
    let mut scan = scan();
    let distribution = scan.distribution.as_mut().unwrap();
    distribution.point_release = Some("12.5".to_owned());
    distribution.pretty_name.clear();
    assert!(describe(&asked(scan.clone()), &show()).contains("  distribution   debian 12\n"));
    let report = trivy::report("us.icr.io/team/app:1", &scan);
    assert_eq!(report["Metadata"]["OS"]["Name"], "12.5", "as Trivy does");
    assert_eq!(report["Results"][0]["Target"], "us.icr.io/team/app:1 (debian 12.5)");
}

#[test]
fn nothing_of_a_report_steers_a_terminal() {
    let hostile = "\u{1b}]0;x\u{7}";
    let scan: ImageScan = serde_json::from_value(json!({
        "digest": digest(), "platform": hostile, "status": "FAIL",
        "source": hostile, "why": hostile, "generated_at": null,
        "distribution": {
            "id": hostile, "like": [], "version": hostile, "codename": "", "pretty_name": hostile, "repository": null
        },
        "packages": [{"ecosystem": "deb", "name": hostile, "version": hostile, "purl": hostile, "path": hostile}],
        "gaps": [{"place": hostile, "problem": hostile}],
        "issues": [{
            "id": hostile, "aliases": [hostile], "kind": "Vulnerability", "severity": "high",
            "packages": [{"name": "open\u{9b}ssl", "installed": hostile, "fixed": hostile, "path": hostile}],
            "exempt": false, "title": hostile, "blocks": true
        }, {
            "id": hostile, "aliases": [hostile], "kind": "Configuration", "severity": "high",
            "packages": [{"name": hostile, "installed": hostile, "fixed": hostile}],
            "exempt": false, "title": hostile, "blocks": true
        }]
    }))
    .unwrap();
    for status in ["FAIL", "UNSCANNED"] {
        let mut scan = serde_json::to_value(&scan).unwrap();
        scan["status"] = json!(status);
        let asked = AskedImage { image: hostile.into(), scans: vec![serde_json::from_value(scan).unwrap()] };
        for width in [None, Some(40)] {
            let show = Show { packages: true, extended: true, only: None, width };
            let text = describe(&asked, &show) + &overview(std::slice::from_ref(&asked), &show);
            assert!(!text.replace('\n', "").contains(char::is_control), "{text:?}");
            assert!(width.is_some() || text.contains("Upgrade open\\u{9b}ssl to \\u{1b}]0;x"), "{text:?}");
        }
    }
}

#[test]
fn json_has_the_fields_of_the_scan_and_of_ibms_report() {
    let value = with_ibm_fields(&scan());
    let own = serde_json::to_value(scan()).unwrap();
    for (name, field) in own.as_object().unwrap().iter().filter(|(name, _)| *name != "issues") {
        assert_eq!(&value[name], field, "{name}");
    }
    let (vulnerabilities, configuration) =
        (value["issues"].as_array().unwrap(), value["configuration"].as_array().unwrap());
    assert!(vulnerabilities.iter().all(|issue| issue["kind"] == "Vulnerability"), "{vulnerabilities:?}");
    assert!(configuration.iter().all(|issue| issue["kind"] == "Configuration"), "{configuration:?}");
    assert_eq!(vulnerabilities.len() + configuration.len(), own["issues"].as_array().unwrap().len());
    assert_eq!(configuration.len(), 1);
    assert_eq!(value["scan_time"], 1_795_651_200_i64);
    assert_eq!(value["os_distribution"]["distribution_id"], "debian");
    assert_eq!(value["vulnerabilities"][0]["cve_id"], "CVE-2026-1");
    assert_eq!(value["configuration_issues"][0]["type"], "application_configuration:mysql.ssl-ca");
    let only = with_ibm_fields(&restricted(&scan(), Some(IssueKind::Vulnerability)));
    assert_eq!((&only["configuration_issues"], &only["status"]), (&json!([]), &json!("FAIL")));
}

#[test]
fn sarif_lists_each_issue_in_each_package() {
    let hostile = "a b\u{1b}#?x";
    let mut scan = scan();
    scan.assessment.issues[0].issue.packages[0].path = Some(hostile.into());
    let log = sarif::log([("us.icr.io/team/app:1", &scan)].into_iter());
    let run = &log["runs"][0];
    assert_eq!(log["version"], "2.1.0");
    assert_eq!(run["properties"]["imageName"], "us.icr.io/team/app:1");
    // The category of code scanning, before the last slash, is the same for the next digest of the tag.
    let run_id = |image: &str, scan: &ImageScan| {
        let log = sarif::log([(image, scan)].into_iter());
        log["runs"][0]["automationDetails"]["id"].as_str().unwrap().to_owned()
    };
    let digest = &scan.assessment.digest;
    assert_eq!(run_id("us.icr.io/team/app:1", &scan), format!("pullgate/us.icr.io/team/app:1/{digest}"));
    assert_eq!(run_id(&format!("us.icr.io/team/app@{digest}"), &scan), format!("pullgate/us.icr.io/team/app/{digest}"));
    let mut of_platform = scan.clone();
    of_platform.assessment.platform = Some("linux/arm64".into());
    assert_eq!(run_id("a:1", &of_platform), format!("pullgate/a:1/linux/arm64/{digest}"));
    let rules = run["tool"]["driver"]["rules"].as_array().unwrap();
    assert_eq!((rules.len(), run["results"].as_array().unwrap().len()), (5, 5));
    for result in run["results"].as_array().unwrap() {
        let rule = &rules[usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap()];
        assert_eq!(rule["id"], result["ruleId"]);
        assert!(result["locations"][0]["physicalLocation"]["artifactLocation"]["uri"].is_string());
    }
    let first = &run["results"][0];
    assert_eq!(first["level"], "error");
    let uri = &first["locations"][0]["physicalLocation"]["artifactLocation"]["uri"];
    assert_eq!(uri, "a%20b%1B%23%3Fx");
    assert_eq!(run["results"][1]["suppressions"][0]["status"], "accepted");
    assert_eq!(run["results"][3]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"], "team/app");
    assert_eq!(rules[0]["properties"]["security-severity"], "9.8");
    assert_eq!(rules[0]["helpUri"], "https://security-tracker.debian.org/tracker/DSA-5000-1");
    assert_eq!(run["invocations"][0]["executionSuccessful"], true);
}

#[test]
fn versions_that_cannot_be_compared_are_named_up_to_five() {
    let said = |count: usize| {
        let fixed = (0..count).map(|number| format!("v{number}")).collect();
        text::upgrade(&PackageUpgrade { name: "a".into(), installed: "1".into(), fixed, issues: 2 })
    };
    assert_eq!(said(1), "a 1 -> v0 (2 issues)");
    assert_eq!(said(2), "a 1 -> v0 or v1 (2 issues; it is unknown which of them resolves all)");
    assert!(said(7).starts_with("a 1 -> v0 or v1 or v2 or v3 or v4 or 2 more (2 issues; "), "{}", said(7));
}

#[test]
fn a_corrective_action_of_several_lines_is_shown_whole() {
    let mut scan = serde_json::to_value(scan()).unwrap();
    let issues = scan["issues"].as_array_mut().unwrap();
    let configuration = issues.iter_mut().find(|issue| issue["kind"] == "Configuration").unwrap();
    configuration["corrective_action"] = json!("First do this.\nThen that\n- and this");
    let text = describe(&asked(serde_json::from_value(scan).unwrap()), &show());
    assert!(text.contains("First do this. Then that; - and this\n"), "{text}");
}
