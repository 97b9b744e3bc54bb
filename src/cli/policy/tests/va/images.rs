//! Base images, ages, conditions, and images without a complete report.

use super::*;

#[test]
fn base_images_and_end_of_life() {
    let debian = r#"{"issues":[],"image":{"base":"docker.io/library/debian:12"}}"#;
    let unlabelled = r#"{"issues":[]}"#;
    let ended = r#"{"issues":[],"image":{"distribution":"debian 8","end_of_life":"2020-06-30"}}"#;
    let supported = r#"{"issues":[],"image":{"distribution":"debian 12","end_of_life":"2028-06-30"}}"#;
    check_all(&[
        (line!(), "{baseImages: {allow: ['debian:*']}}", debian, "", Admit),
        (
            line!(),
            "{baseImages: {allow: ['other.io/*']}}",
            debian,
            "",
            Deny("debian:12, which is not among the base images"),
        ),
        (line!(), "{baseImages: {deny: ['debian:*']}}", debian, "", Deny("debian:12, which the policy denies")),
        (line!(), "{baseImages: {deny: ['debian:*']}}", unlabelled, "", Admit),
        (
            line!(),
            "{baseImages: {allow: ['debian:*']}}",
            unlabelled,
            "",
            Deny("baseImages: this gate knows no image whose layers are the lowest of this one; pull the base image"),
        ),
        (line!(), "{}", ended, "", Deny("endOfLife: debian 8 has not been supported since 2020-06-30T00:00:00Z")),
        (line!(), "{endOfLife: allow}", ended, "", Admit),
        (line!(), "{}", supported, "", AdmitUntil("2028-06-30T00:00:00Z")),
        (line!(), "{endOfLife: deny}", unlabelled, "", Admit),
    ]);
}

#[test]
fn conditions() {
    let bad = r#"{"issues":[{"id":"CVE-1","severity":"critical","fixed":"2","package":"ssl"}]}"#;
    let unscored = r#"{"issues":[{"id":"CVE-1","severity":"low"}]}"#;
    let contract = r#"{severity: critical, fixableOnly: true, ignore: [CVE-9], when: 'issues.exists(i, i.severity == "critical" && i.fixable)'}"#;
    let exempt = r#""exemptions":[{"id":"CVE-1","expires":"2026-11-30"}]"#;
    check_all(&[
        (line!(), contract, bad, "", Deny("when: the image is denied because issues.exists(")),
        (line!(), contract, unscored, "", Admit),
        (line!(), contract, bad, exempt, AdmitUntil("2026-11-30T00:00:00Z")),
        (
            line!(),
            r"{severity: high, when: 'issues.exists(i, i.epss > 0.5)'}",
            unscored,
            "",
            Deny("cannot be evaluated: there is no \"epss\""),
        ),
        (line!(), r"{severity: high, when: 'issues.exists(i, has(i.epss) && i.epss > 0.5)'}", unscored, "", Admit),
        (
            line!(),
            r#"{when: 'packages.exists(p, p.name == "x")'}"#,
            r#"{"issues":[]}"#,
            "",
            Deny("when: the source of the report lists no packages"),
        ),
        (
            line!(),
            r#"{when: 'packages.exists(p, p.name == "x" && "MIT" in p.licences)'}"#,
            r#"{"packages":[{"name":"x","licence":"MIT"}]}"#,
            "",
            Deny("when: the image is denied"),
        ),
        (
            line!(),
            r#"{when: 'now - image.created > duration("720h")'}"#,
            r#"{"issues":[],"image":{"created":"2026-11-20"}}"#,
            "",
            AdmitUntil("2026-11-26T01:00:00Z"),
        ),
        (line!(), r"{when: 'exempt_issues.size() > 0'}", bad, exempt, Deny("when: ")),
    ]);
}

/// Of a source that does not know the system, but lists an issue.
const UNSUPPORTED: &str = r#"{"status":"UNSUPPORTED","why":"no Plan 9","issues":[{"id":"CVE-1","severity":"high"}]}"#;

/// What a report of an unsupported system found denies, even where the system itself is allowed.
#[test]
fn findings_of_unsupported_systems() {
    check_all(&[
        (line!(), "{unsupported: allow}", UNSUPPORTED, "", Deny("severity: 1 issue")),
        (line!(), "{unsupported: deny}", UNSUPPORTED, "", Deny("UNSUPPORTED: no Plan 9 (unsupported: deny")),
        (line!(), "{unsupported: allow, severity: critical}", UNSUPPORTED, "", Admit),
        (line!(), "{unsupported: allow, ignore: [CVE-1]}", UNSUPPORTED, "", Admit),
        (
            line!(),
            "{unsupported: allow, severity: critical, alwaysBlock: [CVE-1]}",
            UNSUPPORTED,
            "",
            Deny("alwaysBlock: "),
        ),
        (
            line!(),
            "{unsupported: allow, severity: critical, when: 'issues.exists(i, i.id == \"CVE-1\")'}",
            UNSUPPORTED,
            "",
            Deny("when: "),
        ),
        (line!(), "{unsupported: allow, severity: critical, when: 'packages.size() > 0'}", UNSUPPORTED, "", Admit),
    ]);
}

#[test]
fn images_without_a_complete_report() {
    check_all(&[
        (line!(), "{}", "null", "", Deny("UNSCANNED: no report covers this image (unscanned: deny; released once")),
        (line!(), "{unscanned: wait}", "null", "", Deny("is being verified")),
        (line!(), "{unscanned: allow}", "null", "", Admit),
        (line!(), "{}", r#"{"status":"PENDING"}"#, "", Deny("is being verified")),
        (line!(), "{unavailable: allow}", r#"{"status":"PENDING"}"#, "", Admit),
        (line!(), "{}", r#"{"status":"UNAVAILABLE"}"#, "", Deny("cannot be judged now")),
        (line!(), "{}", r#"{"status":"OPAQUE"}"#, "", Deny("opaque: deny")),
        (line!(), "{incomplete: allow}", r#"{"status":"OPAQUE"}"#, "", Deny("opaque: deny")),
        (line!(), "{opaque: allow}", r#"{"status":"OPAQUE"}"#, "", Admit),
        (line!(), "{}", r#"{"status":"INCOMPLETE","why":"x"}"#, "", Deny("INCOMPLETE: x (incomplete: deny")),
        (line!(), "{incomplete: allow}", r#"{"status":"INCOMPLETE"}"#, "", Admit),
        (
            line!(),
            "{incomplete: allow}",
            r#"{"status":"INCOMPLETE","issues":[{"id":"CVE-1","severity":"high"}]}"#,
            "",
            Deny("severity: 1 issue"),
        ),
        (line!(), "{}", r#"{"status":"UNSUPPORTED"}"#, "", Deny("unsupported: deny")),
        (line!(), "{unsupported: allow}", r#"{"status":"UNSUPPORTED"}"#, "", Admit),
        (
            line!(),
            "{}",
            r#"{"status":"PENDING"}"#,
            "",
            Deny("no assessment yet (unavailable: deny; released once the assessment has ended)"),
        ),
        (
            line!(),
            "{}",
            r#"{"status":"UNAVAILABLE","why":"x"}"#,
            "",
            Deny("no assessment yet: x (unavailable: deny; released once a source can assess it)"),
        ),
        (line!(), "{unscanned: wait}", "null", "", Deny("(unscanned: wait; released once a report covers it)")),
        (line!(), "{unavailable: allow}", r#"{"status":"UNAVAILABLE"}"#, "", Admit),
    ]);
    assert_eq!(answer("{unscanned: wait}", "null", "")["retry"], true);
    // A condition on what is not known yet does not make a denial final.
    let unknown = "when: '!report.complete'";
    for (behaviour, va, decision, retry) in [
        ("unscanned: wait", "null", "deny", true),
        ("unscanned: allow", "null", "deny", false),
        ("unavailable: deny", r#"{"status":"PENDING"}"#, "deny", true),
        ("unavailable: deny", r#"{"status":"UNAVAILABLE"}"#, "deny", true),
        ("unavailable: allow", r#"{"status":"UNAVAILABLE"}"#, "deny", false),
    ] {
        let answer = answer(&format!("{{{behaviour}, {unknown}}}"), va, "");
        assert_eq!((&answer["decision"], answer["retry"] == true), (&json!(decision), retry), "{behaviour} {answer}");
    }
    assert_eq!(answer("{unscanned: deny}", "null", "")["retry"], Value::Null);
}

#[test]
fn ages() {
    let report = r#"{"issues":[],"generated_at":"2026-11-20","database_built":"2026-11-25"}"#;
    let bad = r#"{"issues":[{"id":"CVE-1","severity":"high"}],"generated_at":"2026-11-20"}"#;
    let partial = r#"{"status":"INCOMPLETE","issues":[],"generated_at":"2026-11-01"}"#;
    let undated = r#"{"issues":[],"generated_at":null,"database_built":null}"#;
    check_all(&[
        (line!(), "{maxReportAge: 7d}", report, "", AdmitUntil("2026-11-27T00:00:00Z")),
        (line!(), "{maxReportAge: 6d}", report, "", Deny("older than the policy allows (maxReportAge of 6 days")),
        (line!(), "{maxReportAge: 6d, unscanned: allow}", report, "", Admit),
        (line!(), "{maxReportAge: 6d, unscanned: allow}", bad, "", Deny("severity: 1 issue")),
        // A limit admits nothing that is denied without it.
        (line!(), "{unscanned: allow}", partial, "", Deny("INCOMPLETE")),
        (line!(), "{maxReportAge: 6d, unscanned: allow}", partial, "", Deny("INCOMPLETE")),
        (line!(), "{maxReportAge: 36h}", report, "", Deny("maxReportAge of 36 hours")),
        (line!(), "{maxReportAge: 90m}", report, "", Deny("maxReportAge of 90 minutes")),
        (line!(), "{maxReportAge: 7d}", undated, "", Deny("has no date, and the policy limits its age (maxReportAge)")),
        (line!(), "{maxDatabaseAge: 3d}", report, "", AdmitUntil("2026-11-28T00:00:00Z")),
        (line!(), "{maxDatabaseAge: 12h}", report, "", Deny("(maxDatabaseAge of 12 hours")),
        (line!(), "{maxDatabaseAge: 12h}", report, "", Deny("released by a newer report that is made with current")),
        (
            line!(),
            "{maxDatabaseAge: 3d}",
            undated,
            "",
            Deny("has no date, and the policy limits its age (maxDatabaseAge)"),
        ),
        (line!(), "{}", undated, "", Admit),
    ]);
}

/// An identifier says what kind of issue it names, unless the case does.
#[test]
fn the_kind_of_an_issue_is_that_of_its_identifier() {
    let issue = |more: &str| format!(r#"{{"issues":[{{"id":"application_configuration:ssh.private_key"{more}}}]}}"#);
    let (high, medium) = (issue(r#","severity":"high""#), issue(r#","severity":"medium""#));
    let written = issue(r#","severity":"medium","kind":"vulnerability""#);
    let when = "{severity: critical, when: 'issues.exists(i, i.kind == \"configuration\")'}";
    let exempt =
        r#""exemptions":[{"issue_type":"configuration","issue_id":"application_configuration:ssh.private_key"}]"#;
    check_all(&[
        (line!(), when, &high, "", Deny("when: ")),
        (line!(), "{}", &high, "", Deny("application_configuration:ssh.private_key")),
        (line!(), "{}", &high, exempt, Admit),
        (line!(), "{configuration: allow}", &high, "", Admit),
        (line!(), "{}", &medium, "", Admit),
        (line!(), "{}", &written, "", Deny("severity: ")),
    ]);
}
