//! Mistakes in cases, rules and evidence.

use super::*;

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
    for status in ["PENDING", "UNAVAILABLE", "UNSCANNED"] {
        let case = format!(r#"{{"id":1,"image":"icr.io/a/b:v1","va":{}}}"#, native(status));
        let (_, answers) = evaluate(policy, &case);
        let error = answers[0]["error"].as_str().unwrap_or_default();
        assert!(error.contains(&format!("{status} with issues")), "{answers:?}");
    }
}

/// Denials say whose severity counts, and what releases the image.
#[test]
fn reasons_name_the_issues_that_count() {
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
        (line!(), "{ignoreUnfixedFor: 14d}", unfixed, "", Deny("the start of ignoreUnfixedFor is unknown")),
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
            check(dir, &Settings::default(), None, Output::Json, streams).unwrap()
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
        ("{when: 'issues.exists(i, i.severity > 3)'}", "compare severity_level"),
        ("{when: 'issues.exists(i, i.fixable == \"yes\")'}", "== cannot be applied to bool and string"),
        ("{when: 'size(issues)'}", "the result is a int"),
        ("{when: 'issues.exists(i, i.severity == \"hihg\")'}", "no severity is \"hihg\"; known: negligible, low"),
        ("{when: '\"HIGH\" in issues.map(i, i.severity)'}", "no severity is \"HIGH\""),
        ("{when: 'issues.map(i, i.fixable, i.severity).exists(s, s == \"HIGH\")'}", "no severity is \"HIGH\""),
        ("{when: 'issues.map(i, i.severity)[0] == \"HIGH\"'}", "no severity is \"HIGH\""),
        ("{when: 'issues.map(i, i.severity).filter(s, s >= \"high\") == []'}", "words are compared alphabetically"),
        ("{when: 'issues.map(i, i).exists(i, i.severity == \"HIGH\")'}", "no severity is \"HIGH\""),
        ("{when: 'issues.exists(i, i.severity >= \"high\")'}", "compared alphabetically; compare severity_level"),
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
