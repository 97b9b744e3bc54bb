//! What releases an image, and that a denial names all of it.

use super::*;

const FIXED: &str = r#"{"id":"CVE-1","severity":"high","package":"openssl","fixed":"3"}"#;
const UNFIXED: &str = r#"{"id":"CVE-2","severity":"high","package":"zlib"}"#;
const PARTLY: &str = r#"{"id":"CVE-3","severity":"high","packages":[{"name":"a","fixed":"2"},{"name":"b"}]}"#;
const CHECK: &str = r#"{"id":"user","kind":"configuration","severity":"high"}"#;
const ODD_CHECK: &str = r#"{"id":"my rule","kind":"configuration","severity":"high"}"#;

fn message(rule: &str, va: &str, more: &str) -> String {
    let answer = answer(rule, va, more);
    assert_eq!(answer["decision"], "deny", "{answer}");
    answer["message"].as_str().unwrap().to_owned()
}

#[test]
fn an_update_is_named_only_for_what_it_resolves() {
    for (issues, expected) in [
        (&[FIXED][..], "; released by an update or an exemption"),
        (&[UNFIXED], "; no fix is published; released by an exemption"),
        (&[PARTLY], "; a fix is published for a part of the packages; released by an exemption"),
        (&[FIXED, UNFIXED], "; released by an update and an exemption of CVE-2, which an update does not resolve"),
        (
            &[FIXED, UNFIXED, PARTLY],
            "; released by an update and an exemption of CVE-2, CVE-3, which an update does not resolve",
        ),
        (&[CHECK], "; released by a corrected image or an exemption"),
        (&[CHECK, FIXED], "; released by a corrected image or an exemption"),
        (&[ODD_CHECK], "; released by a corrected image"),
        (
            &[CHECK, UNFIXED],
            "; released by a corrected image and an exemption of CVE-2, which an update does not resolve",
        ),
    ] {
        let va = format!(r#"{{"issues":[{}]}}"#, issues.join(","));
        let message = message("{}", &va, "");
        assert!(message.ends_with(expected), "{va}: {message}");
    }
    let many: Vec<String> = (4..9).map(|id| UNFIXED.replace("CVE-2", &format!("CVE-{id}"))).collect();
    let message = message("{}", &format!(r#"{{"issues":[{FIXED},{}]}}"#, many.join(",")), "");
    assert!(message.contains("an exemption of CVE-4, CVE-5, CVE-6, +2 more, which"), "{message}");
}

/// What is named must release: the issue in the remaining package counts after the update.
#[test]
fn an_exempt_package_needs_no_fix() {
    let va = format!(r#"{{"issues":[{PARTLY}]}}"#);
    let in_b = r#""exemptions":[{"id":"CVE-3","package":"b"}]"#;
    assert!(message("{}", &va, in_b).ends_with("released by an update or an exemption"));
}

/// Without a fix, an issue does not count because of its severity, but it does for another reason.
#[test]
fn with_fixable_only_an_update_of_what_has_a_fix_is_enough() {
    let updated = r#"{"issues":[{"id":"CVE-3","severity":"high","package":"b"}]}"#;
    assert_eq!(answer("{fixableOnly: true}", updated, "")["decision"], "admit");
    let both = "; released by an update or an exemption";
    let exemption = "; a fix is published for a part of the packages; released by an exemption";
    for (rule, issues, expected) in [
        ("{fixableOnly: true}", &[PARTLY][..], both),
        ("{fixableOnly: true}", &[FIXED, PARTLY], both),
        ("{fixableOnly: true, alwaysBlock: [CVE-3]}", &[PARTLY], exemption),
    ] {
        let message = message(rule, &format!(r#"{{"issues":[{}]}}"#, issues.join(",")), "");
        assert!(message.ends_with(expected), "{rule}: {message}");
    }
}

#[test]
fn what_a_report_lacks_is_named_beside_its_issues() {
    let exempt = r#""exemptions":["CVE-1"]"#;
    let old = r#""generated_at":"2026-01-01","database_built":"2026-01-01""#;
    for (rule, more, parts) in [
        ("{maxReportAge: 7d}", old, &["UNSCANNED: the report is older than the policy allows (maxReportAge"][..]),
        ("{maxDatabaseAge: 7d}", old, &["advisory database is older than the policy allows (maxDatabaseAge"]),
        ("{maxReportAge: 7d, maxDatabaseAge: 7d}", old, &["(maxReportAge of 7 days", "(maxDatabaseAge of 7 days"]),
        (
            "{}",
            r#""incomplete":"layer 3 is encrypted""#,
            &["INCOMPLETE: layer 3 is encrypted (incomplete: deny; released"],
        ),
        (
            "{maxReportAge: 7d}",
            r#""generated_at":"2026-01-01","incomplete":"layer 3 is encrypted""#,
            &["(maxReportAge of 7 days", "INCOMPLETE: layer 3 is encrypted"],
        ),
        ("{}", r#""status":"OPAQUE""#, &["INCOMPLETE", "(opaque: deny; released once something is recognised in it)"]),
    ] {
        let issues = format!(r#"{{"issues":[{FIXED}],{more}}}"#);
        let with_issue = message(rule, &issues, "");
        assert!(with_issue.contains("severity: 1 issue not exempt"), "{with_issue}");
        let alone = message(rule, &issues, exempt);
        for part in parts {
            assert!(with_issue.contains(part) && alone.contains(part), "{part}: {with_issue}; {alone}");
        }
    }
    let allowed = format!(r#"{{"issues":[{FIXED}],"incomplete":"layer 3 is encrypted"}}"#);
    assert!(!message("{incomplete: allow}", &allowed, "").contains("INCOMPLETE"));
    // The end of support is one fact.
    let ended = format!(r#"{{"issues":[{FIXED}],"past_support":true}}"#);
    let ended = message("{}", &ended, "");
    assert!(ended.contains("endOfLife: ") && !ended.contains("INCOMPLETE"), "{ended}");
}
