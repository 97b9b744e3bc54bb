//! What the evidence of a case means, and what a denial says about the way out.

use super::va::Expected::{Admit, AdmitUntil, Deny};
use super::va::{answer_of, check_all};
use super::*;

/// An issue that a database renames is not a new one, so that no grace begins again.
#[test]
fn a_renamed_issue_was_seen_under_each_of_its_names() {
    let renamed = r#"{"issues":[{"id":"CVE-1","aliases":["GHSA-1"],"severity":"high"}]}"#;
    let other_case = r#"{"issues":[{"id":"ghsa-1","severity":"high"}]}"#;
    let seen = r#""history":{"admitted_since":"2026-11-01","first_seen":{"GHSA-1":"2026-11-10","CVE-1":"2026-11-25"}}"#;
    let repository = r#""history":{"seen_in_repository":{"GHSA-1":"2026-11-10"}}"#;
    let rule = "{severity: high, admittedGrace: 7d}";
    check_all(&[
        (line!(), rule, renamed, seen, Deny("after admittedGrace of 7 days")),
        (line!(), rule, other_case, seen, Deny("after admittedGrace of 7 days")),
        (line!(), "{severity: high, admittedGrace: 20d}", renamed, seen, AdmitUntil("2026-11-30T00:00:00Z")),
        (line!(), "{grace: {from: firstSeen, high: 7d}}", renamed, seen, Deny("after grace of 7 days")),
        (line!(), "{grace: {from: firstSeen, high: 7d}}", other_case, repository, Deny("after grace of 7 days")),
    ]);
}

/// Conditions on base images know the image by its own name.
#[test]
fn base_images_include_the_image_itself() {
    let deny = "{opaque: allow, baseImages: {deny: ['docker.io/library/centos:*']}}";
    let allow = "{baseImages: {allow: ['docker.io/library/debian:12']}}";
    for (rule, image, va, expected) in [
        (deny, "centos:7", r#"{"issues":[]}"#, "deny"),
        (deny, "docker.io/library/centos", r#"{"issues":[],"image":{}}"#, "deny"),
        (deny, "centos:7", r#"{"status":"OPAQUE"}"#, "deny"),
        (deny, "debian:12", r#"{"issues":[]}"#, "admit"),
        (allow, "debian:12", r#"{"issues":[]}"#, "admit"),
        (allow, "debian:11", r#"{"issues":[]}"#, "deny"),
    ] {
        assert_eq!(answer_of(image, rule, va, "")["decision"], expected, "{rule} {image} {va}");
    }
}

#[test]
fn words_and_blank_texts_of_cases() {
    let unfixed = r#"{"issues":[{"id":"CVE-1","severity":"high","package":"ssl","fixed":""}]}"#;
    check_all(&[
        // As Trivy writes that there is no fix.
        (line!(), "{fixableOnly: true}", unfixed, "", Admit),
        (line!(), "{}", unfixed, "", Deny("CVE-1 high ssl); the policy denies from low; no fix is published")),
        // What is listed with FAIL is judged; with an unknown word some issue counts.
        (line!(), "{severity: high}", r#"{"status":"FAIL","issues":[{"id":"CVE-1","severity":"low"}]}"#, "", Admit),
        (line!(), "{severity: high}", r#"{"status":"FAIL"}"#, "", Deny("status FAIL")),
        (
            line!(),
            "{severity: high}",
            r#"{"status":"ERROR","issues":[{"id":"CVE-1","severity":"low"}]}"#,
            "",
            Deny("status ERROR"),
        ),
        (line!(), "{unscanned: allow}", r#"{"incomplete":"no database"}"#, "", Deny("INCOMPLETE: no database")),
        (line!(), "{}", r#"{"status":"INCOMPLETE","incomplete":"no database"}"#, "", Deny("INCOMPLETE: no database")),
        (line!(), "{opaque: allow, exploited: deny}", r#"{"status":"OPAQUE","feeds":null}"#, "", Deny("exploited: ")),
        (line!(), "{opaque: allow, epss: 0.1}", r#"{"status":"OPAQUE","feeds":null}"#, "", Deny("epss: ")),
    ]);
}

/// What is fixed in a package that is exempt does not help, and is not what denies.
#[test]
fn only_packages_that_are_not_exempt_are_judged() {
    let two = r#"{"issues":[{"id":"CVE-1","severity":"high","packages":[{"name":"a","installed":"1","fixed":"2"},{"name":"b","installed":"1"}]}]}"#;
    let exempt_a = r#""exemptions":[{"id":"CVE-1","package":"a"}]"#;
    let exempt_b = r#""exemptions":[{"id":"CVE-1","package":"b"}]"#;
    let for_now = r#""exemptions":[{"id":"CVE-1","package":"a","expires":"2026-12-01"}]"#;
    let malware = r#"{"issues":[{"id":"MAL-1","severity":"high","packages":[{"name":"a","fixed":"2"},{"name":"b"}]}]}"#;
    let package_a = r#""exemptions":[{"package":"a"}]"#;
    check_all(&[
        (line!(), "{}", malware, package_a, Deny("malicious: MAL-1 high a fixed in 2 is malware")),
        (line!(), "{fixableOnly: true}", two, "", Deny("CVE-1 high a fixed in 2")),
        (line!(), "{fixableOnly: true}", two, exempt_a, Admit),
        (line!(), "{fixableOnly: true}", two, for_now, AdmitUntil("2026-12-01T00:00:00Z")),
        (line!(), "{fixableOnly: true}", two, exempt_b, Deny("CVE-1 high a fixed in 2")),
        (line!(), "{fixableOnly: true, ignore: [{id: CVE-1, package: a}]}", two, "", Admit),
        (line!(), "{severity: critical, when: 'issues.exists(i, i.fixable)'}", two, exempt_a, Admit),
        (
            line!(),
            "{severity: critical, when: 'issues.exists(i, i.fixable)'}",
            two,
            for_now,
            AdmitUntil("2026-12-01T00:00:00Z"),
        ),
        (line!(), "{severity: critical, when: 'issues.exists(i, i.fixable)'}", two, exempt_b, Deny("when: ")),
        (line!(), "{ignoreUnfixedFor: 7d}", two, exempt_a, Deny("(CVE-1 high b)")),
        (line!(), "{}", two, exempt_a, Deny("(CVE-1 high b); the policy denies from low; no fix is published")),
    ]);
}

#[test]
fn exemptions_in_the_shape_of_ibm() {
    let issue = r#"{"issues":[{"id":"CVE-1","severity":"high"}]}"#;
    let exemption = |scope: &str| {
        format!(r#""exemptions":[{{"account_id":"a","issue_type":"cve","issue_id":"CVE-1","scope":{scope}}}]"#)
    };
    for (scope, expected) in [
        (r#"{"scope_type":"account"}"#, "admit"),
        (r#"{"scope_type":"namespace","namespace":"birds"}"#, "admit"),
        (r#"{"scope_type":"namespace","namespace":"fish"}"#, "deny"),
        (r#"{"scope_type":"repository","namespace":"birds","repository":"blue"}"#, "admit"),
        (r#"{"scope_type":"image","namespace":"birds","repository":"blue","tag":"v1"}"#, "admit"),
        (r#"{"scope_type":"image","namespace":"birds","repository":"blue","tag":"v2"}"#, "deny"),
    ] {
        assert_eq!(answer_of("icr.io/birds/blue:v1", "{}", issue, &exemption(scope))["decision"], expected, "{scope}");
    }
    for (more, expected) in [
        (exemption(r#"{"scope_type":"namespace"}"#), "needs namespace"),
        (exemption(r#"{"scope_type":"account","namespace":"x"}"#), "has no namespace"),
        (exemption(r#"{"scope_type":"region"}"#), "scope_type \"region\" is not account"),
        (exemption(r#"{"scope_type":"account","acount":"x"}"#), "unknown key \"acount\" in a scope"),
        (r#""exemptions":[{"issueType":"CVE","id":"CVE-1"}]"#.to_owned(), "unknown variant `CVE`"),
        (r#""exemptions":[{"id":"CVE-1","expires":"soon"}]"#.to_owned(), "\"soon\" is not a time"),
        (r#""exemptions":[5]"#.to_owned(), "an exemption: "),
    ] {
        let case = format!(r#"{{"id":1,"image":"icr.io/birds/blue:v1","va":{issue},{more}}}"#);
        let (code, answers) = evaluate(TUTORIAL, &case);
        let error = answers[0]["error"].as_str().unwrap_or_default();
        assert!(code == EXIT_FAILURE && error.contains(expected), "{more}: {error}");
    }
}

#[test]
fn a_key_that_occurs_twice_is_an_error() {
    for (case, places) in [
        (
            r#"{"id":7,"expect":"deny","image":"a.io/x:1","expect":"admit"}"#,
            "\"expect\" occurs twice: at characters 9 and 44",
        ),
        (
            r#"{"id":7,"image":"a.io/x:1","va":{"status":"FAIL","status":"OK"}}"#,
            "\"status\" occurs twice: at characters 34 and 50",
        ),
    ] {
        let (code, answers) = evaluate(TUTORIAL, case);
        let error = answers[0]["error"].as_str().unwrap_or_default();
        assert!(code == EXIT_FAILURE && error.contains(places) && answers[0]["id"] == 7, "{case}: {}", answers[0]);
    }
}

#[test]
fn keys_without_effect_are_reported() {
    for (rule, expected) in [
        ("{alwaysBlock: [CVE-2026-1], ignore: [cve-2026-1]}", Some("ignore: cve-2026-1 has no effect")),
        (
            "{alwaysBlock: [CVE-2026-1], ignore: [{id: CVE-2026-1, package: x}]}",
            Some("ignore: CVE-2026-1 has no effect"),
        ),
        ("{alwaysBlock: [CVE-2026-1], ignore: [CVE-2026-2]}", None),
        ("{severity: high, configuration: low}", Some("configuration: low has no effect below severity: high")),
        ("{severity: high, configuration: deny}", None),
        ("{severity: low, configuration: high}", None),
    ] {
        let policy = format!(
            "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {{name: p}}\nspec:\n  repositories:\n  \
             - name: '*'\n    policy:\n      va: {rule}\n"
        );
        let (_, lines, _) = run(&[("p.yaml", &policy)], |dir, streams| {
            check(dir, &Settings::default(), Output::Json, streams).unwrap()
        });
        let said: Vec<_> = lines.iter().filter(|line| line["severity"] == "warning").collect();
        let is_said = |expected: &str| said.iter().any(|line| line["message"].as_str().unwrap().contains(expected));
        assert!(expected.map_or(said.is_empty(), is_said), "{rule}: {said:?}");
    }
}

/// A denial says what releases the image.
#[test]
fn denials_name_the_way_out() {
    let malware = r#"{"issues":[{"id":"GHSA-1","aliases":["MAL-7","MAL-8"],"severity":"high"}]}"#;
    let one_exempt = r#""exemptions":["MAL-7"]"#;
    let issue = r#"{"issues":[{"id":"CVE-1","severity":"low"}]}"#;
    check_all(&[
        (line!(), "{}", malware, "", Deny("is malware; remove the package, or exempt MAL-7 and MAL-8")),
        (line!(), "{}", malware, one_exempt, Deny("is malware; remove the package, or exempt MAL-8")),
        (line!(), "{}", malware, r#""exemptions":["MAL-7","MAL-8"]"#, Admit),
        (line!(), "{severity: high, when: 'size(issues) > 0'}", issue, "", Deny("; released when that is false")),
        (line!(), "{severity: high, when: 'issues[0].epss > 0.5'}", issue, "", Deny("ask with has(….epss) first")),
    ]);
}
