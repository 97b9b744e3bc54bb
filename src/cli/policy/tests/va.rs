//! A table for each condition of `va`: cases that it admits, that it denies, and that cannot be decided.

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
pub(super) type Row = (u32, &'static str, &'static str, &'static str, Expected);

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

pub(super) fn check_all(rows: &[Row]) {
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

#[test]
fn exploited_and_likely_to_be_exploited() {
    let exploited = r#"{"issues":[{"id":"CVE-1","severity":"low","exploited":true,"epss":0.97}]}"#;
    let quiet = r#"{"issues":[{"id":"CVE-1","severity":"low","epss":0.4999}]}"#;
    let unscored = r#"{"issues":[{"id":"CVE-1","severity":"low"}]}"#;
    let without = r#"{"issues":[],"feeds":null}"#;
    let kev_alone = r#"{"issues":[],"feeds":{"kev":"2026-11-25"}}"#;
    let partial = r#"{"issues":[],"incomplete":"x","feeds":null}"#;
    // Each condition that is not met is named, also beside a report that is not complete.
    check_all(&[
        (line!(), "{epss: 0.5}", partial, "", Deny("INCOMPLETE: x")),
        (line!(), "{epss: 0.5}", partial, "", Deny("epss: FIRST's probabilities (EPSS)")),
        (line!(), "{exploited: deny}", partial, "", Deny("exploited: ")),
    ]);
    let old = r#"{"issues":[],"feeds":{"epss":"2026-11-20","kev":"2026-11-20"}}"#;
    check_all(&[
        (line!(), "{severity: high}", exploited, "", Deny("exploited: 1 issue is known to be exploited (CVE-1 low")),
        (line!(), "{severity: high, fixableOnly: true, grace: 30d}", exploited, "", Deny("exploited: 1 issue")),
        (line!(), "{severity: high, exploited: allow}", exploited, "", Admit),
        (line!(), "{severity: high, exploited: deny}", quiet, "", Admit),
        (line!(), "{severity: high}", without, "", Admit),
        (
            line!(),
            "{severity: high, exploited: deny}",
            without,
            "",
            Deny("exploited: CISA's catalogue (KEV) is not known"),
        ),
        (line!(), "{severity: high, exploited: deny}", kev_alone, "", Admit),
        (
            line!(),
            "{severity: high, epss: 0.5}",
            kev_alone,
            "",
            Deny("epss: FIRST's probabilities (EPSS) is not known"),
        ),
        (
            line!(),
            "{severity: high, exploited: allow, epss: 0.5}",
            exploited,
            "",
            Deny("the probability is 0.97, the limit 0.5"),
        ),
        (line!(), "{severity: high, epss: 0.5}", quiet, "", Admit),
        (line!(), "{severity: high, epss: 0.5}", unscored, "", Admit),
        (line!(), "{severity: high, epss: 1}", quiet, "", Admit),
        (
            line!(),
            "{epss: 0.5, maxDatabaseAge: 3d}",
            old,
            "",
            Deny("epss: FIRST's probabilities (EPSS) is of 2026-11-20"),
        ),
        (line!(), "{epss: 0.5, maxDatabaseAge: 7d}", old, "", AdmitUntil("2026-11-27T00:00:00Z")),
        (line!(), "{exploited: deny, maxDatabaseAge: 3d}", old, "", Deny("exploited: CISA's catalogue")),
        (
            line!(),
            "{epss: 0.5, maxDatabaseAge: 3d}",
            r#"{"issues":[],"feeds":{"epss":"2027-01-01"}}"#,
            "",
            Deny("is of 2027-01-01T00:00:00Z, which is in the future"),
        ),
    ]);
}

#[test]
fn malware() {
    let named = r#"{"issues":[{"id":"MAL-2025-1","severity":"low","package":"event-stream"}]}"#;
    let alias = r#"{"issues":[{"id":"GHSA-1","aliases":["MAL-2025-1"],"severity":"low","package":"x"}]}"#;
    let exempt = r#"{"issues":[{"id":"MAL-2025-1","severity":"low","package":"x","exempt":true}]}"#;
    let two = r#"{"issues":[{"id":"MAL-1","aliases":["MAL-2"],"severity":"low","package":"x"}]}"#;
    let lenient = "{severity: critical, fixableOnly: true, grace: 90d}";
    check_all(&[
        (line!(), lenient, named, "", Deny("malicious: MAL-2025-1 low event-stream is malware; remove the package")),
        (line!(), lenient, alias, "", Deny("malicious: GHSA-1")),
        (line!(), lenient, exempt, "", Deny("malicious: ")),
        (line!(), lenient, r#"{"issues":[{"id":"X-1","severity":"low","malicious":true}]}"#, "", Deny("malicious: ")),
        (line!(), "{malicious: allow}", named, "", Admit),
        (line!(), "{malicious: allow, alwaysBlock: [MAL-2025-1]}", named, "", Deny("alwaysBlock: ")),
        (line!(), lenient, alias, r#""exemptions":[{"package":"x"}]"#, Deny("malicious: ")),
        (line!(), lenient, alias, r#""exemptions":["GHSA-1"]"#, Deny("malicious: ")),
        (line!(), lenient, alias, r#""exemptions":["MAL-2025-1"]"#, Admit),
        (line!(), "{ignore: [MAL-2025-1]}", named, "", Admit),
        (line!(), "{ignore: [{id: MAL-2025-1, package: event-stream}]}", named, "", Admit),
        (line!(), "{ignore: [{id: MAL-2025-1, package: other}]}", named, "", Deny("or exempt MAL-2025-1")),
        (line!(), lenient, two, r#""exemptions":["MAL-1"]"#, Deny("malicious: ")),
        (line!(), lenient, two, r#""exemptions":["MAL-1","MAL-2"]"#, Admit),
    ]);
}

fn package_with(licences: &str) -> &'static str {
    let text = format!(r#"{{"issues":[],"packages":[{{"name":"x","version":"1","licences":{licences}}}]}}"#);
    Box::leak(text.into_boxed_str())
}

#[test]
fn licences_as_package_managers_write_them() {
    check_all(&[
        (
            line!(),
            "{licences: {deny: ['AGPL-*']}}",
            package_with(r#""released under the Affero GPL""#),
            "",
            Deny("licences: x 1 is licensed released under the Affero GPL, which the policy denies (\"AGPL-*\")"),
        ),
        (line!(), "{licences: {deny: ['AGPL-*']}}", package_with(r#""see the file COPYING""#), "", Admit),
        (
            line!(),
            "{licences: {deny: ['AGPL-*'], unknown: deny}}",
            package_with(r#""see the file COPYING""#),
            "",
            Deny("is not an SPDX expression (unknown: deny)"),
        ),
        (
            line!(),
            "{licences: {allow: [MIT]}}",
            package_with(r#""LicenseRef-acme""#),
            "",
            Deny("\"LicenseRef-acme\", which refers to a text that this gate does not have (unknown: deny)"),
        ),
        (
            line!(),
            "{licences: {deny: [GPL-2.0-only]}}",
            package_with(r#"["Expat", "GPL-2"]"#),
            "",
            Deny("licences: x 1 is licensed GPL-2, which the policy denies"),
        ),
        (
            line!(),
            "{licences: {allow: [MIT, BSD-3-Clause]}}",
            package_with(r#"["MIT License", "BSD License"]"#),
            "",
            Deny("licences: x 1 is licensed BSD License, which the policy does not allow"),
        ),
    ]);
}

#[test]
fn licences() {
    let of = package_with;
    let unlisted = r#"{"issues":[]}"#;
    check_all(&[
        (line!(), "{licences: {deny: ['AGPL-*']}}", of(r#""MIT""#), "", Admit),
        (
            line!(),
            "{licences: {deny: ['AGPL-*']}}",
            of(r#"["AGPL-3.0-only"]"#),
            "",
            Deny("licences: x 1 is licensed AGPL-3.0-only, which the policy denies (\"AGPL-*\")"),
        ),
        (line!(), "{licences: {deny: ['AGPL-*']}}", of(r#""MIT OR AGPL-3.0-only""#), "", Admit),
        (line!(), "{licences: {deny: ['AGPL-*']}}", of("[]"), "", Admit),
        (
            line!(),
            "{licences: {deny: ['AGPL-*'], unknown: deny}}",
            of("[]"),
            "",
            Deny("licences: x 1 states no licence (unknown: deny)"),
        ),
        (line!(), "{licences: {allow: [MIT]}}", of("[]"), "", Deny("licences: x 1 states no licence")),
        (line!(), "{licences: {allow: [MIT], unknown: allow}}", of("[]"), "", Admit),
        (
            line!(),
            "{licences: {allow: [MIT]}}",
            of(r#""our own""#),
            "",
            Deny("\"our own\", which is not an SPDX expression"),
        ),
        (
            line!(),
            "{licences: {allow: [MIT]}}",
            of(r#""MIT AND BSD-3-Clause""#),
            "",
            Deny("which the policy does not allow"),
        ),
        (
            line!(),
            "{licences: {deny: ['AGPL-*']}}",
            unlisted,
            "",
            Deny("licences: the source of the report lists no packages"),
        ),
        (line!(), "{licences: {allow: [MIT]}}", r#"{"issues":[],"packages":[]}"#, "", Admit),
    ]);
}

#[test]
fn cool_down() {
    let made = |created: &str| {
        let text = format!(r#"{{"issues":[],"image":{{"created":"{created}"}}}}"#);
        &*Box::leak(text.into_boxed_str())
    };
    let old = made("2026-01-01");
    let known = r#""history":{"known_since":"2026-11-20"}"#;
    let new = r#""history":{"known_since":"2026-11-25"}"#;
    let young =
        r#"{"issues":[],"packages":[{"name":"left-pad","version":"1.3.0","published":"2026-11-25"},{"name":"y"}]}"#;
    check_all(&[
        (line!(), "{coolDown: 3d}", old, known, Admit),
        (
            line!(),
            "{coolDown: 3d}",
            old,
            new,
            Deny("coolDown: the image is 1 day old, and the policy demands 3 days; admitted from 2026-11-28T00:00:00Z"),
        ),
        (line!(), "{coolDown: 3d}", made("2026-11-24"), known, Deny("coolDown: the image is 2 days old")),
        (line!(), "{coolDown: 3d}", made("2027-11-24"), known, Deny("not created yet")),
        (line!(), "{coolDown: 3d}", old, "", Deny("coolDown: this gate has not seen the image before")),
        (line!(), "{coolDown: 3d}", r#"{"issues":[]}"#, known, Admit),
        (line!(), "{coolDown: 3d, unscanned: allow}", "null", new, Deny("coolDown: the image is 1 day old")),
        (line!(), "{coolDown: 3d, unscanned: allow}", "null", known, Admit),
        (
            line!(),
            "{coolDown: 3d}",
            young,
            known,
            Deny(
                "coolDown: left-pad 1.3.0 was published 1 day ago; the policy demands 3 days; admitted from 2026-11-28",
            ),
        ),
        (line!(), "{coolDown: {image: 3d}}", young, known, Admit),
        (line!(), "{coolDown: {packages: 3d}}", young, "", Deny("coolDown: left-pad")),
        (line!(), "{coolDown: {packages: 1d}}", young, "", Admit),
        (line!(), "{coolDown: {packages: 3d}}", old, "", Deny("coolDown: the source of the report lists no packages")),
    ]);
}

#[test]
fn banned_packages() {
    let stream = r#"{"issues":[],"packages":[{"purl":"pkg:npm/event-stream@3.3.6"}]}"#;
    let unlisted =
        r#"{"issues":[{"id":"CVE-1","severity":"low","package":"evil","purl":"pkg:npm/evil@1.0.0"}],"packages":[]}"#;
    check_all(&[
        (
            line!(),
            "{severity: high, bannedPackages: ['pkg:npm/evil']}",
            unlisted,
            "",
            Deny("bannedPackages: the image contains evil"),
        ),
        (line!(), "{severity: high, bannedPackages: ['pkg:npm/event-stream']}", unlisted, "", Admit),
        (
            line!(),
            "{bannedPackages: ['pkg:npm/event-stream@3.3.6']}",
            stream,
            "",
            Deny("bannedPackages: the image contains event-stream 3.3.6, which pkg:npm/event-stream@3.3.6 bans"),
        ),
        (line!(), "{bannedPackages: ['pkg:npm/event-stream@>=3.3.0 <3.3.6']}", stream, "", Admit),
        (
            line!(),
            "{bannedPackages: ['pkg:npm/event-stream@vers:npm/>=3.3.0|<=3.3.6']}",
            stream,
            "",
            Deny("bannedPackages: "),
        ),
        (line!(), "{bannedPackages: ['pkg:pypi/event-stream']}", stream, "", Admit),
        (
            line!(),
            "{bannedPackages: ['pkg:npm/x']}",
            r#"{"issues":[]}"#,
            "",
            Deny("bannedPackages: the source of the report"),
        ),
    ]);
}

/// The list knows more about a package than an issue in it does.
#[test]
fn packages_that_issues_affect_are_banned_if_they_are_not_listed() {
    let of = |issue: &str, listed: &str| -> &'static str {
        let text = format!(r#"{{"issues":[{{"id":"CVE-1","severity":"low",{issue}}}],"packages":[{listed}]}}"#);
        Box::leak(text.into_boxed_str())
    };
    let openssl = r#"{"purl":"pkg:deb/debian/openssl@3"}"#;
    let perl = r#"{"purl":"pkg:rpm/fedora/perl-encode@3.19?upstream=perl%405.36"}"#;
    let encode = r#""package":"perl-encode","version":"3.19","purl":"pkg:rpm/fedora/perl-encode@3.19?upstream=perl""#;
    let evil = r#""package":"evil","purl":"pkg:npm/evil@1.0.0""#;
    let exempt = r#""package":"evil","purl":"pkg:npm/evil@1.0.0","exempt":true"#;
    let banned = "{severity: high, bannedPackages: ['pkg:npm/openssl', 'pkg:npm/evil', 'pkg:rpm/fedora/perl@<5.30']}";
    let openssl_4 = r#""package":"openssl","version":"4""#;
    check_all(&[
        (line!(), banned, of(r#""package":"openssl","version":"3""#, openssl), "", Admit),
        (line!(), banned, of(r#""package":"openssl""#, openssl), "", Admit),
        (line!(), banned, of(openssl_4, openssl), "", Deny("bannedPackages: the image contains openssl 4")),
        (line!(), banned, of(r#""package":"openssl""#, ""), "", Deny("bannedPackages: the image contains openssl")),
        (line!(), banned, of(encode, perl), "", Admit),
        (line!(), banned, of(encode, ""), "", Deny("bannedPackages: the image contains perl-encode 3.19")),
        (line!(), banned, of(evil, ""), "", Deny("bannedPackages: the image contains evil 1.0.0")),
        (line!(), banned, of(evil, r#"{"purl":"pkg:pypi/evil@1.0.0"}"#), "", Deny("which pkg:npm/evil bans")),
        (line!(), banned, of(exempt, ""), "", Admit),
    ]);
}

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
        (line!(), "{}", ended, "", Deny("endOfLife: debian 8 is not supported since 2020-06-30T00:00:00Z")),
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
            Deny("no assessment yet: x (unavailable: deny; released once a source responds)"),
        ),
        (line!(), "{unscanned: wait}", "null", "", Deny("(unscanned: wait; released once a report covers it)")),
        (line!(), "{unavailable: allow}", r#"{"status":"UNAVAILABLE"}"#, "", Admit),
    ]);
    assert_eq!(answer("{unscanned: wait}", "null", "")["retry"], true);
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

/// The IBM dialects know none of these conditions: every issue that is not exempt denies, and configuration issues that the
/// gate itself finds do not count.
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

#[test]
fn a_case_that_expects_another_decision_fails() {
    let case = |expect: &str| {
        let (code, answers) = evaluate(TUTORIAL, &format!(r#"{{"id":1,"image":"icr.io/a/b:v1","expect":{expect}}}"#));
        (code, answers[0]["decision"].as_str().unwrap().to_owned(), answers[0]["failed"] == true)
    };
    let (_, answers) = evaluate(TUTORIAL, r#"{"id":1,"image":"icr.io/a/b:v1"}"#);
    let decision = answers[0]["decision"].as_str().unwrap().to_owned();
    let other = if decision == "admit" { "deny" } else { "admit" };
    assert_eq!(case(&format!("{decision:?}")), (EXIT_OK, decision.clone(), false));
    assert_eq!(case(&format!("{other:?}")), (EXIT_FINDINGS, decision.clone(), true));
    for odd in ["null", "\"Deny\"", "\"denied\"", "\"\"", "true", r#"{"decision":"deny"}"#] {
        assert_eq!(case(odd), (EXIT_FAILURE, "deny".to_owned(), false), "{odd}");
    }
    for key in ["expected", "Expect", "expext", "EXPECT", "Now", "VA", "Id", "images"] {
        let (code, answers) = evaluate(TUTORIAL, &format!(r#"{{"id":1,"image":"icr.io/a/b:v1","{key}":"deny"}}"#));
        let error = answers[0]["error"].as_str().unwrap_or_default();
        assert!(code == EXIT_FAILURE && error.contains("did you mean"), "{key}: {answers:?}");
    }
    let noted = r#"{"id":1,"image":"icr.io/a/b:v1","note":"x","why":"y","comment":"z"}"#;
    assert_eq!(evaluate(TUTORIAL, noted).0, EXIT_OK);
}

/// A key that is not known may be meant to limit something.
#[test]
fn unknown_keys_of_cases_are_errors() {
    let policy = TUTORIAL.replace("va:\n          enabled: false", "va:\n          enabled: true");
    for (more, expected) in [
        (r#""exemptions":[{"id":"CVE-1","scop":"other/x"}]"#, "unknown key \"scop\" in an exemption"),
        (r#""exemptions":[{"id":"CVE-1","expire":"2020-01-01"}]"#, "unknown key \"expire\" in an exemption"),
        (r#""exemption":["CVE-1"]"#, "unknown key \"exemption\"; did you mean \"exemptions\"?"),
        (r#""va":{"isues":[]}"#, "unknown key \"isues\" in va"),
        (r#""va":{"issues":[{"id":"CVE-1","fixed_in":"2"}]}"#, "unknown key \"fixed_in\" in an issue"),
        (r#""va":{"issues":[{"id":"CVE-1","packages":[{"nam":"x"}]}]}"#, "unknown key \"nam\" in a package"),
        (r#""va":{"packages":[{"licens":"MIT"}]}"#, "unknown key \"licens\" in a package"),
        (r#""va":{"image":{"create":"2026-01-01"}}"#, "unknown key \"create\" in image"),
        (r#""history":{"known":"2026-01-01"}"#, "unknown key \"known\" in history"),
        (r#""trust":{"signer":[]}"#, "unknown key \"signer\" in trust"),
    ] {
        let (code, answers) = evaluate(&policy, &format!(r#"{{"id":1,"image":"icr.io/a/b:v1",{more}}}"#));
        let error = answers[0]["error"].as_str().unwrap_or_default();
        assert!(code == EXIT_FAILURE && error.contains(expected), "{more}: {}", answers[0]);
    }
    let fine = r#"{"id":1,"image":"icr.io/a/b:v1","note":"x","va":{"issues":[],"generatedAt":"2026-01-01"}}"#;
    assert_eq!(evaluate(&policy, fine).0, EXIT_OK);
    let native = |status: &str| format!(r#"{{"status":"{status}","issues":[{{"id":"CVE-1","severity":"critical"}}]}}"#);
    let policy = "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {name: p}\nspec: {repositories: [{name: '*', \
                  policy: {va: {unsupported: allow}}}]}\n";
    for status in ["PENDING", "UNAVAILABLE", "UNSCANNED", "UNSUPPORTED"] {
        let case = format!(r#"{{"id":1,"image":"icr.io/a/b:v1","va":{}}}"#, native(status));
        let (_, answers) = evaluate(policy, &case);
        let error = answers[0]["error"].as_str().unwrap_or_default();
        assert!(error.contains(&format!("{status} with issues")), "{answers:?}");
    }
}

/// Denials say whose severity counts, and what releases the image.
#[test]
fn reasons_say_what_counts() {
    let unfixed = r#"{"issues":[{"id":"CVE-1","severity":"high"}]}"#;
    let rated =
        r#"{"issues":[{"id":"CVE-1","severity":"low","severity_source":"debian","ratings":{"nvd":"critical"}}]}"#;
    let unrated = r#"{"issues":[{"id":"CVE-1","severity":"low","severity_source":"debian"}]}"#;
    let young = r#"{"issues":[],"packages":[{"name":"x","version":"1","published":"2026-12-25"}]}"#;
    check_all(&[
        (line!(), "{}", unfixed, "", Deny("no fix is published; released by an exemption")),
        (
            line!(),
            "{severitySource: nvd}",
            rated,
            "",
            Deny("(CVE-1 critical); the policy denies from low (severitySource: nvd)"),
        ),
        (line!(), "{severitySource: nvd}", unrated, "", Deny("(severitySource: nvd, which has not rated this)")),
        (
            line!(),
            "{ignoreUnfixedFor: 14d}",
            unfixed,
            "",
            Deny("the time at which ignoreUnfixedFor begins is not known"),
        ),
        (line!(), "{coolDown: {packages: 3d}}", young, "", Deny("has a date of publication in the future, 2026-12-25")),
    ]);
}

/// All conditions of one rule together.
#[test]
fn every_failed_condition_is_named() {
    let rule = r#"{severity: high, fixableOnly: false, ignoreUnfixedFor: 14d, unscanned: wait, incomplete: deny, unsupported: deny, endOfLife: deny, maxDatabaseAge: 3d, maxReportAge: 7d, alwaysBlock: [CVE-2021-44228], exploited: deny, epss: 0.5, malicious: deny, licences: {deny: ["AGPL-*"]}, coolDown: 3d, bannedPackages: ["pkg:npm/event-stream@3.3.6"], when: 'issues.exists(i, i.severity == "critical" && i.fixable)', admittedGrace: 7d}"#;
    let known = r#""history":{"known_since":"2026-11-01"}"#;
    let clean = r#"{"issues":[],"packages":[{"name":"x","licences":["MIT"]}]}"#;
    check_all(&[(line!(), rule, clean, known, AdmitUntil("2026-11-29T00:00:00Z"))]);
    let bad = r#"{"issues":[{"id":"CVE-2021-44228","severity":"critical","fixed":"2"},{"id":"MAL-1"},{"id":"CVE-3","exploited":true},
        {"id":"CVE-4","epss":0.9,"severity":"low"},{"id":"CVE-5","severity":"high"}],"image":{"end_of_life":"2020-01-01"},
        "packages":[{"purl":"pkg:npm/event-stream@3.3.6","licences":["AGPL-3.0-only"]}]}"#;
    let message = answer(rule, &bad.replace('\n', ""), "")["message"].as_str().unwrap().to_owned();
    for key in [
        "coolDown",
        "malicious",
        "alwaysBlock",
        "exploited",
        "epss",
        "severity",
        "endOfLife",
        "licences",
        "bannedPackages",
        "when",
    ] {
        assert!(message.contains(&format!("{key}: ")), "{key}: {message}");
    }
}

/// Each rule has a mistake, and the message that is expected of `policy check`.
fn expect_mistakes(cases: &[(&str, &str)]) {
    for (rule, expected) in cases {
        let policy = format!(
            "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {{name: p}}\nspec:\n  repositories:\n  \
             - name: '*'\n    policy:\n      va: {rule}\n"
        );
        let (code, lines, _) = run(&[("p.yaml", &policy)], |dir, streams| {
            check(dir, &Settings::default(), Output::Json, streams).unwrap()
        });
        let said: Vec<&str> = lines.iter().filter_map(|line| line["message"].as_str()).collect();
        assert!(code == EXIT_FINDINGS && said.iter().any(|said| said.contains(expected)), "{rule}: {said:?}");
    }
}

#[test]
fn mistakes_in_rules_are_errors() {
    expect_mistakes(&[
        ("{licenses: {deny: [MIT]}}", "unknown key \"licenses\" in va"),
        ("{epss: 2}", "epss of va must be a number from 0 to 1"),
        ("{epss: high}", "epss of va must be a number from 0 to 1, not text"),
        ("{exploited: wait}", "must be one of allow, deny"),
        ("{unscanned: maybe}", "must be one of allow, deny, wait"),
        ("{grace: {hihg: 3d}}", "unknown key \"hihg\" in grace"),
        ("{grace: 0s}", "grace must be longer than 0s"),
        ("{coolDown: soon}", "\"soon\""),
        ("{licences: {}}", "licences needs allow or deny"),
        ("{coolDown: {}}", "coolDown needs image or packages"),
        ("{grace: {}}", "grace names no severity"),
        ("{grace: {from: firstSeen}}", "grace names no severity"),
        ("{baseImages: {deny: ['https://docker.io/library/centos']}}", "can match nothing"),
        ("{baseImages: {deny: ['docker.io/library/Centos']}}", "can match nothing"),
        ("{baseImages: {deny: ['docker.io/library/centos ']}}", "can match nothing"),
        ("{baseImages: {deny: ['docker.io']}}", "can match nothing: it is a host alone"),
        ("{baseImages: {allow: ['docker.io']}}", "can match nothing: it is a host alone"),
        ("{alwaysBlock: [\"CVE-2021-44228\u{200b}\"]}", "is not the identifier of an issue, so it blocks nothing"),
        ("{alwaysBlock: [CVE-]}", "is not the identifier of an issue, so it blocks nothing"),
        ("{ignore: ['CVE-2021-44228;CVE-2021-45046']}", "of ASCII letters, digits"),
        ("{baseImages: {}}", "baseImages needs allow or deny"),
        ("{bannedPackages: [event-stream]}", "is not a package URL"),
        ("{bannedPackages: ['pkg:npm/x@>=1 <<2']}", "is not a range"),
        ("{ignore: [{until: 2026-12-01T00:00:00Z}]}", "needs an id or a package"),
        (
            "{baseImages: {allow: ['registry.acme.com*']}}",
            "it matches hosts that others can own: registry.acme.com.evil.io",
        ),
        ("{ignore: ['CVE-2026-*']}", "one word of at most 256 bytes and no pattern"),
        ("{alwaysBlock: ['CVE-2026-1 ']}", "is not the identifier of an issue, so it blocks nothing"),
        ("{alwaysBlock: ['CVE-2026-*']}", "is not the identifier of an issue, so it blocks nothing"),
        ("{alwaysBlock: [CVE_2026_1]}", "is not the identifier of an issue, so it blocks nothing"),
        ("{alwaysBlock: ['']}", "is not the identifier of an issue, so it blocks nothing"),
        ("{ignore: [{id: CVE-1, until: tomorrow}]}", "until \"tomorrow\" is not a time"),
    ]);
}

#[test]
fn mistakes_in_conditions_are_errors() {
    expect_mistakes(&[
        ("{when: 'now - now > duration(\"30d\")'}", "\"30d\" is not a duration"),
        ("{when: 'issues.exists(i, i.id.matches(\"(\"))'}", "is not a regular expression"),
        ("{when: 'issue.exists(i, true)'}", "when: line 1, column 1: there is no variable \"issue\""),
        ("{when: 'issues.exists(i, i.sevrity == \"high\")'}", "no issue has a field \"sevrity\"; known: id, aliases"),
        ("{when: 'issues.filter(i, i.fixable).exists(j, j.sevrity == \"x\")'}", "no issue has a field \"sevrity\""),
        ("{when: 'issues[0].packages[0].nam == \"x\"'}", "no affected package has a field \"nam\""),
        ("{when: 'image.base.nam == \"x\"'}", "no base image has a field \"nam\""),
        ("{when: 'issues.exists(i, i.severity > 3)'}", "> cannot be applied to string and int"),
        ("{when: 'issues.exists(i, i.fixable == \"yes\")'}", "== cannot be applied to bool and string"),
        ("{when: 'size(issues)'}", "the result is a int"),
        ("{when: 'issues.exists(i, i.severity == \"hihg\")'}", "no severity is \"hihg\"; known: negligible, low"),
        ("{when: '\"HIGH\" in issues.map(i, i.severity)'}", "no severity is \"HIGH\""),
        ("{when: 'issues.map(i, i.fixable, i.severity).exists(s, s == \"HIGH\")'}", "no severity is \"HIGH\""),
        ("{when: 'issues.map(i, i.severity)[0] == \"HIGH\"'}", "no severity is \"HIGH\""),
        ("{when: 'issues.map(i, i.severity).filter(s, s >= \"high\") == []'}", "words are compared by their letters"),
        ("{when: 'issues.map(i, i).exists(i, i.severity == \"HIGH\")'}", "no severity is \"HIGH\""),
        ("{when: 'issues.exists(i, i.severity >= \"high\")'}", "compared by their letters; compare severity_level"),
    ]);
}

#[test]
fn malformed_evidence_is_an_error() {
    for (part, expected) in [
        (r#""va":{"issues":[{"severity":"high"}]}"#, "missing field `id`"),
        (r#""va":{"issues":[{"id":"CVE-1","epss":2}]}"#, "not a probability"),
        (r#""va":{"issues":[{"id":"CVE-1","kind":"x"}]}"#, "neither"),
        (r#""va":{"issues":[{"id":"CVE-1","package":"a","packages":[{"name":"b"}]}]}"#, "either \"packages\" or"),
        (r#""va":{"issues":[],"packages":[{"purl":"x"}]}"#, "is not a package URL"),
        (r#""now":"yesterday""#, "is not a time"),
        (r#""exemptions":[{}]"#, "needs an id or a package"),
        (r#""exemptions":[{"id":"CVE-1","scope":null}]"#, "the scope of an exemption is null"),
        (r#""va":{"status":"OPAQUE","packages":[{"name":"x"}]}"#, "OPAQUE with packages"),
        (r#""va":{"issues":[],"packages":[{"version":"1"}]}"#, "neither a name nor a package URL"),
    ] {
        let policy = TUTORIAL.replace("va:\n          enabled: false", "va:\n          enabled: true");
        let (code, answers) = evaluate(&policy, &format!(r#"{{"id":1,"image":"nginx",{part}}}"#));
        let error = answers[0]["error"].as_str().unwrap_or_default();
        assert!(code == EXIT_FAILURE && error.contains(expected), "{part}: {error}");
    }
}
