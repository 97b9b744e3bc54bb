//! A table for each condition of `va`: cases that it admits, that it denies, and that cannot be decided.

mod exploited;
mod images;
mod licences;
mod mistakes;
mod packages;
mod unmet;

use super::*;
use Expected::{Admit, AdmitUntil, Deny};

const NOW: &str = "2026-11-26T00:00:00Z";

pub(super) enum Expected {
    /// Admitted, and nothing changes by itself.
    Admit,
    /// Admitted until a time.
    AdmitUntil(&'static str),
    /// Denied, with these words.
    Deny(&'static str),
}

/// A line number, the condition, the case's `va`, and other fields of the case.
pub(super) type Row<'a> = (u32, &'a str, &'a str, &'a str, Expected);

fn answer(rule: &str, va: &str, more: &str) -> Value {
    answer_of("r.io/app:v1", rule, va, more)
}

/// The answer for an image.
pub(super) fn answer_of(image: &str, rule: &str, va: &str, more: &str) -> Value {
    let policy = format!(
        "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {{name: p}}\nspec:\n  repositories:\n  \
         - name: '*'\n    policy:\n      va: {rule}\n"
    );
    let more = if more.is_empty() { String::new() } else { format!(",{more}") };
    let case = format!(r#"{{"id":1,"image":"{image}","now":"{NOW}","va":{va}{more}}}"#);
    let (code, mut answers) = evaluate(&policy, &case);
    assert_eq!((code, answers.len()), (EXIT_OK, 1), "{rule} {case}: {answers:?}");
    answers.remove(0)
}

pub(super) fn check_all(rows: &[Row<'_>]) {
    for (line, rule, va, more, expected) in rows {
        let answer = answer(rule, va, more);
        let (decision, message) = (answer["decision"].as_str().unwrap(), answer["message"].as_str().unwrap());
        let until = answer["until"].as_str();
        match expected {
            Admit => assert_eq!((decision, until), ("admit", None), "line {line}: {message}"),
            AdmitUntil(end) => assert_eq!((decision, until), ("admit", Some(*end)), "line {line}: {message}"),
            Deny(words) => {
                assert!(decision == "deny" && message.contains(words), "line {line}: {decision} {message}");
                assert_eq!(answer["stage"], "va", "line {line}");
            }
        }
    }
}

#[test]
fn severity_and_its_source() {
    let high = r#"{"issues":[{"id":"CVE-1","severity":"high","severity_source":"nvd","package":"ssl","fixed":"2"}]}"#;
    let rated = r#"{"issues":[{"id":"CVE-1","severity":"high","severity_source":"nvd","ratings":{"debian":"low"}}]}"#;
    check_all(&[
        (line!(), "{}", r#"{"issues":[]}"#, "", Admit),
        (line!(), "{}", r#"{"issues":[{"id":"CVE-1","severity":"negligible"}]}"#, "", Admit),
        (
            line!(),
            "{}",
            r#"{"issues":[{"id":"CVE-1","severity":"low"}]}"#,
            "",
            Deny("severity: 1 issue not exempt (CVE-1 low"),
        ),
        (line!(), "{severity: critical}", high, "", Admit),
        (line!(), "{severity: high}", high, "", Deny("CVE-1 high ssl fixed in 2); the policy denies from high")),
        (line!(), "{severity: critical}", r#"{"issues":[{"id":"CVE-1"}]}"#, "", Deny("CVE-1 unknown")),
        (line!(), "{severity: high, severitySource: nvd}", high, "", Deny("severity: 1 issue")),
        (line!(), "{severity: critical, severitySource: [debian, NVD]}", high, "", Admit),
        (line!(), "{severity: critical, severitySource: debian}", high, "", Deny("severity: 1 issue")),
        (line!(), "{severity: high, severitySource: [debian, nvd]}", rated, "", Admit),
        (line!(), "{severity: high, severitySource: [nvd, debian]}", rated, "", Deny("severity: 1 issue")),
    ]);
}

#[test]
fn fixes() {
    let unfixed = r#"{"issues":[{"id":"CVE-1","severity":"high","published":"2026-11-20"}]}"#;
    let undated = r#"{"issues":[{"id":"CVE-1","severity":"high"}]}"#;
    let future = r#"{"issues":[{"id":"CVE-1","severity":"high","published":"2027-11-20"}]}"#;
    let fixed = r#"{"issues":[{"id":"CVE-1","severity":"high","published":"2026-11-20","fixed":"2"}]}"#;
    let seen = r#""history":{"first_seen":{"CVE-1":"2026-11-01"}}"#;
    check_all(&[
        (line!(), "{fixableOnly: true}", unfixed, "", Admit),
        (line!(), "{fixableOnly: true}", fixed, "", Deny("severity: 1 issue")),
        // A fix is published, in a version that the report does not state.
        (
            line!(),
            "{fixableOnly: true}",
            r#"{"issues":[{"id":"CVE-1","severity":"high","status":"fixed"}]}"#,
            "",
            Deny("severity: 1 issue"),
        ),
        (line!(), "{ignoreUnfixedFor: 14d}", unfixed, "", AdmitUntil("2026-12-04T00:00:00Z")),
        (line!(), "{ignoreUnfixedFor: 6d}", unfixed, "", Deny("after ignoreUnfixedFor of 6 days")),
        (line!(), "{ignoreUnfixedFor: 14d}", unfixed, seen, Deny("after ignoreUnfixedFor of 14 days")),
        (line!(), "{ignoreUnfixedFor: 14d}", fixed, "", Deny("severity: 1 issue")),
        (line!(), "{ignoreUnfixedFor: 14d}", undated, "", Deny("severity: 1 issue")),
        (line!(), "{ignoreUnfixedFor: 14d}", future, "", Deny("severity: 1 issue")),
    ]);
}

#[test]
fn grace() {
    let issue = r#"{"issues":[{"id":"CVE-1","severity":"high","published":"2026-11-20","first_seen":"2026-11-25"}]}"#;
    let unseen = r#"{"issues":[{"id":"CVE-1","severity":"high","published":"2026-11-20"}]}"#;
    let seen = r#""history":{"first_seen":{"CVE-1":"2026-11-24"}}"#;
    let rebuilt = r#""history":{"seen_in_repository":{"CVE-1":"2026-11-20"}}"#;
    let renamed = r#"{"issues":[{"id":"GHSA-1","aliases":["CVE-1"],"severity":"high","first_seen":"2026-11-25"}]}"#;
    check_all(&[
        (line!(), "{grace: 7d}", issue, "", AdmitUntil("2026-11-27T00:00:00Z")),
        (line!(), "{grace: 6d}", issue, "", Deny("after grace of 6 days")),
        (line!(), "{grace: {from: firstSeen, high: 7d}}", issue, "", AdmitUntil("2026-12-02T00:00:00Z")),
        (line!(), "{grace: {from: firstSeen, high: 7d}}", issue, seen, AdmitUntil("2026-12-01T00:00:00Z")),
        (line!(), "{grace: {from: firstSeen, high: 7d}}", unseen, "", Deny("severity: 1 issue")),
        // Another build in the repository had the issue before.
        (line!(), "{grace: {from: firstSeen, high: 7d}}", issue, rebuilt, AdmitUntil("2026-11-27T00:00:00Z")),
        (line!(), "{grace: {from: firstSeen, high: 6d}}", issue, rebuilt, Deny("after grace of 6 days")),
        (line!(), "{grace: {from: firstSeen, high: 6d}}", renamed, rebuilt, Deny("after grace of 6 days")),
        (line!(), "{grace: {from: published, high: 7d}}", unseen, "", AdmitUntil("2026-11-27T00:00:00Z")),
        (line!(), "{grace: {critical: 30d, medium: 30d}}", issue, "", Deny("severity: 1 issue")),
        (line!(), "{grace: 30d, alwaysBlock: [CVE-1]}", issue, "", Deny("alwaysBlock: 1 issue that the policy always")),
        (line!(), "{grace: 7d}", r#"{"issues":[{"id":"CVE-1","severity":"high"}]}"#, "", Deny("severity: 1 issue")),
    ]);
}

/// An image that was admitted before keeps being served for some time after a new finding, with a warning.
#[test]
fn admitted_grace() {
    let new = r#"{"issues":[{"id":"CVE-1","severity":"critical","package":"ssl"}]}"#;
    let exploited = r#"{"issues":[{"id":"CVE-1","severity":"low","exploited":true}]}"#;
    let malware = r#"{"issues":[{"id":"MAL-1","severity":"critical"}]}"#;
    let history =
        r#""history":{"admitted_since":"2026-11-01","first_seen":{"CVE-1":"2026-11-25","MAL-1":"2026-11-25"}}"#;
    let earlier = r#""history":{"admitted_since":"2026-11-01","first_seen":{"CVE-1":"2026-10-25"}}"#;
    let never = r#""history":{"first_seen":{"CVE-1":"2026-11-25"}}"#;
    let unseen = r#""history":{"admitted_since":"2026-11-01"}"#;
    // New in this image, though an earlier build had it.
    let rebuilt = r#""history":{"admitted_since":"2026-11-01","first_seen":{"CVE-1":"2026-11-25"},"seen_in_repository":{"CVE-1":"2026-10-01"}}"#;
    let rule = "{severity: high, admittedGrace: 7d}";
    check_all(&[
        (line!(), rule, new, history, AdmitUntil("2026-12-02T00:00:00Z")),
        (line!(), "{severity: high, admittedGrace: 1d}", new, history, Deny("from high after admittedGrace of 1 day;")),
        (line!(), "{severity: high}", new, history, Deny("severity: 1 issue")),
        (line!(), rule, new, rebuilt, AdmitUntil("2026-12-02T00:00:00Z")),
        (line!(), rule, new, earlier, Deny("severity: 1 issue")),
        (line!(), rule, new, never, Deny("severity: 1 issue")),
        (line!(), rule, new, unseen, Deny("severity: 1 issue")),
        (line!(), rule, new, "", Deny("severity: 1 issue")),
        (line!(), rule, exploited, history, AdmitUntil("2026-12-02T00:00:00Z")),
        (line!(), rule, malware, history, Deny("malicious: MAL-1")),
        (line!(), "{admittedGrace: 7d, alwaysBlock: [CVE-1]}", new, history, Deny("alwaysBlock: ")),
        // Another grace ends first: the image is judged again at its end, so that it is not served without a warning.
        (line!(), "{admittedGrace: 7d, ignoreUnfixedFor: 2d}", new, history, AdmitUntil("2026-11-27T00:00:00Z")),
        (line!(), "{admittedGrace: 7d, ignoreUnfixedFor: 9d}", new, history, AdmitUntil("2026-12-04T00:00:00Z")),
        (line!(), "{admittedGrace: 7d, ignoreUnfixedFor: 1d}", new, history, AdmitUntil("2026-12-02T00:00:00Z")),
    ]);
    assert_eq!(answer("{admittedGrace: 7d, ignoreUnfixedFor: 2d}", new, history)["warnings"], Value::Null);
    let warned = answer("{admittedGrace: 7d, ignoreUnfixedFor: 1d}", new, history);
    assert!(warned["warnings"][0].as_str().unwrap().starts_with("admittedGrace: CVE-1 critical ssl was found"));
    let warnings = answer(rule, new, history)["warnings"].clone();
    let expected = "admittedGrace: CVE-1 critical ssl was found at 2026-11-25T00:00:00Z, after the image was admitted; \
                    denied from 2026-12-02T00:00:00Z";
    assert_eq!(warnings, json!([expected]));
}

#[test]
fn listed_issues_and_exemptions() {
    let issue = r#"{"issues":[{"id":"GHSA-1","aliases":["CVE-1"],"severity":"low","package":"ssl","installed":"1"}]}"#;
    let minor = r#"{"issues":[{"id":"CVE-1","severity":"negligible"}]}"#;
    check_all(&[
        (line!(), "{severity: high, alwaysBlock: [CVE-1]}", issue, "", Deny("alwaysBlock: 1 issue")),
        (line!(), "{severity: high, alwaysBlock: [cve-1]}", minor, "", Deny("alwaysBlock: 1 issue")),
        (line!(), "{severity: high, alwaysBlock: [CVE-2]}", issue, "", Admit),
        (line!(), "{ignore: [CVE-1]}", issue, "", Admit),
        (line!(), "{ignore: [CVE-2]}", issue, "", Deny("severity: 1 issue")),
        (
            line!(),
            "{ignore: [{id: CVE-1, until: 2026-12-01T00:00:00Z}]}",
            issue,
            "",
            AdmitUntil("2026-12-01T00:00:00Z"),
        ),
        (line!(), "{ignore: [{id: CVE-1, until: 2026-11-27}]}", issue, "", AdmitUntil("2026-11-27T00:00:00Z")),
        (line!(), "{ignore: [{id: CVE-1, until: 2026-11-26}]}", issue, "", Deny("severity: 1 issue")),
        (line!(), "{ignore: [{id: CVE-1, until: 2026-11-26T00:00:00Z}]}", issue, "", Deny("severity: 1 issue")),
        (line!(), "{ignore: [{id: CVE-1, package: ssl}]}", issue, "", Admit),
        (line!(), "{ignore: [{id: CVE-1, package: tls}]}", issue, "", Deny("severity: 1 issue")),
        (line!(), "{ignore: [{package: ssl}]}", issue, "", Admit),
        (line!(), "{}", issue, r#""exemptions":["CVE-1"]"#, Admit),
        (
            line!(),
            "{}",
            issue,
            r#""exemptions":[{"issueId":"CVE-1","expires":"2026-11-30"}]"#,
            AdmitUntil("2026-11-30T00:00:00Z"),
        ),
        (line!(), "{}", issue, r#""exemptions":[{"id":"CVE-1","expires":"2026-11-26"}]"#, Deny("severity: 1 issue")),
        (line!(), "{}", issue, r#""exemptions":[{"package":"tls"}]"#, Deny("severity: 1 issue")),
    ]);
}

/// The IBM dialects know none of these conditions: every issue that is not exempt denies, and configuration issues that
/// the gate itself finds do not count.
#[test]
fn ibm_dialects_keep_their_meaning() {
    let policy = TUTORIAL.replace("va:\n          enabled: false", "va:\n          enabled: true");
    for (va, decision) in [
        (r#"{"issues":[{"id":"CVE-1","severity":"negligible"}]}"#, "deny"),
        (r#"{"issues":[{"id":"CVE-1","exempt":true}]}"#, "admit"),
        (r#"{"issues":[{"id":"MAL-1","exempt":true}]}"#, "admit"),
        (
            r#"{"issues":[{"id":"application_configuration:ssh.private_key","kind":"configuration","severity":"high"}]}"#,
            "admit",
        ),
        (r#"{"issues":[],"image":{"end_of_life":"2020-01-01"},"feeds":null}"#, "admit"),
        (r#"{"status":"OK","issues":[{"id":"CVE-1"}]}"#, "admit"),
    ] {
        let case = format!(r#"{{"id":"x","image":"icr.io/a/b:v1","now":"{NOW}","va":{va}}}"#);
        let (code, answers) = evaluate(&policy, &case);
        assert_eq!((code, &answers[0]["decision"]), (0, &json!(decision)), "{va}: {}", answers[0]);
    }
    let own = r#"{"issues":[{"id":"c","kind":"configuration","severity":"high"}]}"#;
    check_all(&[
        (line!(), "{}", own, "", Deny("severity: 1 issue")),
        (line!(), "{configuration: allow}", own, "", Admit),
    ]);
}

/// Configuration issues that the gate itself finds count from their own severity, besides that of the rule.
#[test]
fn configuration_issues_count_from_a_severity() {
    let high = r#"{"issues":[{"id":"c","kind":"configuration","severity":"high"}]}"#;
    let medium = r#"{"issues":[{"id":"c","kind":"configuration","severity":"medium"}]}"#;
    let opaque = r#"{"status":"OPAQUE","issues":[{"id":"c","kind":"configuration","severity":"high"}]}"#;
    let denied = || Deny("severity: 1 issue");
    check_all(&[
        (line!(), "{}", medium, "", Admit),
        (line!(), "{configuration: deny}", medium, "", denied()),
        (line!(), "{configuration: medium}", medium, "", denied()),
        (line!(), "{}", high, "", Deny("released by a corrected image or an exemption")),
        (line!(), "{configuration: critical}", high, "", Admit),
        (line!(), "{configuration: deny, severity: high}", medium, "", Admit),
        // Nobody else rates what the gate itself finds.
        (line!(), "{configuration: deny, severity: high, severitySource: nvd}", medium, "", Admit),
        (line!(), "{configuration: deny, severitySource: nvd}", medium, "", denied()),
        (line!(), "{configuration: allow, alwaysBlock: [c]}", medium, "", Deny("alwaysBlock: 1 issue")),
        (line!(), "{opaque: allow}", opaque, "", denied()),
        (line!(), "{opaque: allow, configuration: allow}", opaque, "", Admit),
    ]);
}

/// An image in which nothing was recognised is judged by all that is known about it.
#[test]
fn conditions_on_images_apply_to_opaque_ones() {
    let of = |image: &str| -> &'static str {
        Box::leak(format!(r#"{{"status":"OPAQUE","image":{image}}}"#).into_boxed_str())
    };
    let known = r#""history":{"known_since":"2026-11-01"}"#;
    let alpine = of(r#"{"base":"docker.io/library/alpine:3"}"#);
    check_all(&[
        (line!(), "{opaque: allow}", alpine, "", Admit),
        (
            line!(),
            "{opaque: allow, baseImages: {deny: ['docker.io/library/alpine:*']}}",
            alpine,
            "",
            Deny("baseImages: "),
        ),
        (line!(), "{opaque: allow, baseImages: {allow: ['docker.io/*']}}", of("{}"), "", Deny("baseImages: ")),
        (line!(), "{opaque: allow, when: 'true'}", of("{}"), "", Deny("when: ")),
        (line!(), "{opaque: allow, when: 'packages.size() > 0'}", of("{}"), "", Admit),
        (line!(), "{opaque: allow, bannedPackages: ['pkg:npm/x']}", of("{}"), "", Admit),
        (line!(), "{opaque: allow, coolDown: 3d}", of(r#"{"created":"2026-11-25"}"#), known, Deny("coolDown: ")),
        (line!(), "{opaque: allow}", of(r#"{"end_of_life":"2020-01-01"}"#), "", Deny("endOfLife: ")),
    ]);
}

/// What is always blocked is not ignored, and an issue may be exempt in each of its packages for another reason.
#[test]
fn ignored_and_exempt_issues() {
    let one = r#"{"issues":[{"id":"CVE-1","severity":"high","package":"ssl"}]}"#;
    let two = r#"{"issues":[{"id":"CVE-1","severity":"high","packages":[{"name":"a"},{"name":"b"}]}]}"#;
    let osv = r#"{"issues":[{"id":"CVE-1","aliases":["DSA-1","DEBIAN-CVE-1"],"severity":"high"}]}"#;
    let two_notices = r#"{"issues":[{"id":"CVE-1","aliases":["DSA-1","DLA-2"],"severity":"high"}]}"#;
    let libssl = r#"{"issues":[{"id":"CVE-1","severity":"high","purl":"pkg:deb/debian/libssl3@3?upstream=openssl"}]}"#;
    let of_source = r#""exemptions":[{"issueType":"package","package":"pkg:deb/debian/openssl?arch=source"}]"#;
    let of_other_source = r#""exemptions":[{"issueType":"package","package":"pkg:deb/debian/gnutls28?arch=source"}]"#;
    let of_notice = r#""exemptions":[{"issueType":"sn","id":"DSA-1"}]"#;
    let ids = r#"{"issues":["CVE-1"]}"#;
    let exempt = r#""exemptions":["CVE-1"]"#;
    let in_a = r#""exemptions":[{"id":"CVE-1","package":"a"}]"#;
    check_all(&[
        (line!(), "{ignore: [CVE-1]}", one, "", Admit),
        (line!(), "{ignore: [CVE-1], alwaysBlock: [CVE-1]}", one, "", Deny("released by an exemption")),
        (line!(), "{ignore: [{package: ssl}], alwaysBlock: [CVE-1]}", one, "", Deny("alwaysBlock: ")),
        (line!(), "{ignore: [CVE-1], alwaysBlock: [CVE-1]}", one, exempt, Admit),
        (line!(), "{ignore: [{id: CVE-1, package: b}]}", two, "", Deny("severity: ")),
        (line!(), "{ignore: [{id: CVE-1, package: b}]}", two, in_a, Admit),
        // A name that a database gives it is not a notice.
        (line!(), "{}", osv, of_notice, Admit),
        (line!(), "{}", two_notices, of_notice, Deny("; CVE-1 is partially exempt: exempt DLA-2, too")),
        // The package URL names the source package.
        (line!(), "{}", libssl, of_source, Admit),
        (line!(), "{}", libssl, of_other_source, Deny("severity: ")),
        // Only the identifier is known.
        (line!(), "{severity: critical, fixableOnly: true}", ids, "", Deny("severity: ")),
        (line!(), "{severity: critical}", ids, exempt, Admit),
        (line!(), "{ignore: [CVE-1]}", ids, "", Admit),
        (line!(), "{}", r#"{"issues":["application_configuration:x"]}"#, exempt, Deny("severity: ")),
        (line!(), "{}", r#"{"issues":["GHSA-1"]}"#, r#""exemptions":[{"issueType":"sn","id":"GHSA-1"}]"#, Admit),
    ]);
}
