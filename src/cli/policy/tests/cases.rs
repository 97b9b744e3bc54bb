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

/// The name of a ban may be that of the source package, however the report states it.
#[test]
fn packages_are_banned_by_their_source_packages() {
    let gcc = r#"{"issues":[],"packages":[{"purl":"pkg:deb/debian/gcc@4:12.2.0-3","source":"gcc-defaults","sourceVersion":"1.203"}]}"#;
    let ssl = r#"{"issues":[],"packages":[{"purl":"pkg:rpm/redhat/openssl-libs@3.0.7-27.el9?arch=x86_64&epoch=1&upstream=openssl-3.0.7-27.el9.src.rpm&distro=rhel-9.3"}]}"#;
    check_all(&[
        (line!(), "{bannedPackages: ['pkg:deb/debian/gcc-defaults@<2']}", gcc, "", Deny("bannedPackages: ")),
        (line!(), "{bannedPackages: ['pkg:deb/debian/gcc-defaults@>=4']}", gcc, "", Admit),
        (line!(), "{bannedPackages: ['pkg:rpm/openssl']}", ssl, "", Deny("bannedPackages: ")),
        (line!(), "{bannedPackages: ['pkg:rpm/openssl@<1:3.0.8']}", ssl, "", Deny("bannedPackages: ")),
        (line!(), "{bannedPackages: ['pkg:rpm/openssl@<1:3.0.7']}", ssl, "", Admit),
    ]);
}

/// What conditions and exemptions depend on can be stated, as reports do.
#[test]
fn cases_can_state_all_facts_of_reports() {
    let issue = |more: &str| format!(r#"{{"issues":[{{"id":"CVE-1","severity":"high","package":"ssl"{more}}}]}}"#);
    let at_path = issue(r#","path":"usr/lib/ssl.so""#);
    let built = issue(r#","purl":"pkg:deb/debian/ssl@1","source":"openssl""#);
    let in_list = r#"{"issues":[{"id":"CVE-1","severity":"high","packages":[{"name":"ssl","path":"opt/x","source":"openssl"}]}]}"#;
    let of_source = r#""exemptions":[{"issueType":"package","package":"pkg:deb/debian/openssl?arch=source"}]"#;
    let by_path = "{severity: critical, when: 'issues.exists(i, i.packages.exists(p, p.path.startsWith(\"usr/\")))'}";
    let by_source = "{severity: critical, when: 'issues.exists(i, i.packages.exists(p, p.source == \"openssl\"))'}";
    let bases = r#"{"issues":[],"image":{"base":["r.io/java:21",{"name":"centos:7"}]}}"#;
    let claimed = r#"{"issues":[],"image":{"claimedBase":"centos:7"}}"#;
    let deny = "{baseImages: {deny: ['docker.io/library/centos:*']}}";
    let unchecked = r#"{"issues":[],"source":"trivy","checks_configuration":false}"#;
    let key = "{alwaysBlock: ['application_configuration:ssh.private_key']}";
    let by_id = r#"{when: 'issues.exists(i, i.id == "application_configuration:ssh.private_key")'}"#;
    let by_kind = r#"{when: 'issues.exists(i, "configuration" == i.kind || i.fixable)'}"#;
    let past = r#"{"issues":[],"past_support":true,"image":{"distribution":"debian 9"}}"#;
    check_all(&[
        (line!(), by_path, &at_path, "", Deny("when: ")),
        (line!(), by_path, in_list, "", Admit),
        (line!(), by_source, in_list, "", Deny("when: ")),
        (line!(), "{}", &built, of_source, Admit),
        (line!(), "{}", &at_path, of_source, Deny("severity: 1 issue")),
        (line!(), deny, bases, "", Deny("was built on centos:7")),
        (line!(), deny, claimed, "", Deny("its author says that the image was built on centos:7")),
        (line!(), "{baseImages: {allow: ['docker.io/library/centos:*']}}", claimed, "", Deny("do not prove")),
        (line!(), "{configuration: deny}", unchecked, "", Deny("configuration: the source of the report does not")),
        (line!(), "{configuration: deny}", r#"{"issues":[]}"#, "", Admit),
        (line!(), key, unchecked, "", Deny("alwaysBlock: the source of the report does not check configurations")),
        (line!(), key, r#"{"issues":[]}"#, "", Admit),
        (line!(), by_id, unchecked, "", Deny("when: the source of the report does not check configurations")),
        (line!(), "{when: 'issues.exists(i, i.kind != \"vulnerability\")'}", unchecked, "", Deny("does not check")),
        (line!(), by_kind, unchecked, "", Deny("does not check configurations")),
        (line!(), by_kind, r#"{"issues":[]}"#, "", Admit),
        (line!(), "{when: 'issues.exists(i, i.kind == \"vulnerability\")'}", unchecked, "", Admit),
        (line!(), "{alwaysBlock: [CVE-2021-44228, AVD-DS-0002]}", unchecked, "", Admit),
        (line!(), "{when: 'report.source == \"trivy\"'}", unchecked, "", Deny("when: ")),
        (line!(), "{}", past, "", Deny("the report says that the support of debian 9 has ended")),
        (line!(), "{endOfLife: allow}", past, "", Admit),
    ]);
}

/// `when` sees the configuration issues that do not count, too, and what is known without a report.
#[test]
fn conditions_see_issues_that_do_not_count() {
    let root =
        r#"{"issues":[{"id":"application_configuration:image.user","kind":"configuration","severity":"medium"}]}"#;
    let exempt = r#""exemptions":["application_configuration:image.user"]"#;
    let when = "when: 'issues.exists(i, i.id == \"application_configuration:image.user\")'";
    let of = |more: &str| format!("{{severity: critical, {more}{when}}}");
    let exempted = format!("{{{}}}", when.replace("issues", "exempt_issues"));
    let (default, allow, deny) = (of(""), of("configuration: allow, "), of("configuration: deny, "));
    let unlisted = r#"{"issues":[]}"#;
    let lists = "{when: 'issues.exists(i, i.severity == \"high\") && packages.size() > 0'}";
    let high = r#"{"issues":[{"id":"CVE-1","severity":"high","exempt":true},{"id":"CVE-2","severity":"high"}]}"#;
    check_all(&[
        (line!(), &default, root, "", Deny("when: ")),
        (line!(), &allow, root, "", Deny("when: ")),
        (line!(), &deny, root, "", Deny("when: ")),
        (line!(), &default, root, exempt, Admit),
        (line!(), &allow, root, exempt, Admit),
        (line!(), &exempted, root, exempt, Deny("when: ")),
        (line!(), &exempted, root, "", Admit),
        (line!(), lists, unlisted, "", Admit),
        (line!(), &lists.replace("{when", "{severity: critical, when"), high, "", Deny("lists no packages")),
        (line!(), "{incomplete: allow, when: '!report.complete'}", r#"{"status":"INCOMPLETE"}"#, "", Deny("when: ")),
        (line!(), "{unscanned: allow, when: '!report.complete'}", r#"{"status":"UNSCANNED"}"#, "", Deny("when: ")),
        (line!(), "{unscanned: allow, when: 'size(issues) == 0'}", r#"{"status":"UNSCANNED"}"#, "", Admit),
        (
            line!(),
            "{unscanned: allow, when: 'report.generated_at > report.kev'}",
            r#"{"status":"UNSCANNED"}"#,
            "",
            Admit,
        ),
    ]);
}

/// Base images need no report, so they count where the rule admits images without one.
#[test]
fn base_images_are_judged_without_a_report() {
    let allowing = "unscanned: allow, incomplete: allow, opaque: allow, unsupported: allow, unavailable: allow";
    let deny = format!("{{{allowing}, baseImages: {{deny: ['us.icr.io/birds/*', 'docker.io/library/centos:*']}}}}");
    let allow = format!("{{{allowing}, baseImages: {{allow: ['docker.io/library/debian:*']}}}}");
    let built_on = |name: &str, va: &str| format!(r#"{{{va},"image":{{"base":"{name}"}}}}"#);
    for status in ["UNSCANNED", "INCOMPLETE", "UNSUPPORTED", "OPAQUE", "UNAVAILABLE", "PENDING"] {
        let va = format!(r#""status":"{status}""#);
        let alone = format!("{{{va}}}");
        for (rule, image, va, expected) in [
            (&deny, "us.icr.io/birds/bluebird:v1", alone.clone(), "deny"),
            (&deny, "us.icr.io/fish/carp:v1", alone.clone(), "admit"),
            (&deny, "us.icr.io/fish/carp:v1", built_on("centos:7", &va), "deny"),
            (&deny, "us.icr.io/fish/carp:v1", built_on("debian:12", &va), "admit"),
            (&allow, "us.icr.io/fish/carp:v1", alone.clone(), "deny"),
            (&allow, "us.icr.io/fish/carp:v1", built_on("debian:12", &va), "admit"),
            (&allow, "us.icr.io/fish/carp:v1", built_on("centos:7", &va), "deny"),
            (&allow, "debian:12", alone, "admit"),
        ] {
            let answer = answer_of(image, rule, &va, "");
            assert_eq!(answer["decision"], expected, "{rule} {image} {va}: {answer}");
            assert!(expected == "admit" || answer["message"].as_str().unwrap().contains("baseImages: "), "{answer}");
        }
    }
    let waiting = answer_of(
        "r.io/app:v1",
        "{unscanned: wait, baseImages: {deny: ['docker.io/x/*']}}",
        r#"{"status":"UNSCANNED"}"#,
        "",
    );
    assert_eq!((&waiting["decision"], &waiting["retry"]), (&json!("deny"), &json!(true)), "{waiting}");
}

/// A status says that IBM has assessed the image, and any issue of IBM that is not exempt denies.
#[test]
fn configuration_issues_beside_a_status_are_those_of_ibm() {
    let portieris = "apiVersion: portieris.cloud.ibm.com/v1\nkind: ClusterImagePolicy\nmetadata: {name: p}\nspec: \
                     {repositories: [{name: '*', policy: {vulnerability: {ICCRVA: {enabled: true}}}}]}";
    let cise = TUTORIAL.replace("va:\n          enabled: false", "va:\n          enabled: true");
    let id = "application_configuration:nginx.ssl_protocols";
    let object = format!(r#"{{"id":"{id}","kind":"configuration","severity":"high"}}"#);
    let unkind = format!(r#"{{"id":"{id}"}}"#);
    let of = |source: &str| object.replace('}', &format!(r#","severity_source":"{source}"}}"#));
    let exemption = format!(r#","exemptions":[{{"issue_type":"configuration","issue_id":"{id}"}}]"#);
    for (status, issue, more, expected) in [
        (r#""status":"FAIL","#, object.clone(), "", "deny"),
        (r#""status":"FAIL","#, format!("\"{id}\""), "", "deny"),
        (r#""status":"BLOCK","#, object.clone(), "", "deny"),
        (r#""status":"FAIL","#, object.clone(), exemption.as_str(), "admit"),
        (r#""status":"FAIL","#, format!("\"{id}\""), exemption.as_str(), "admit"),
        (r#""status":"WARN","#, object.clone(), "", "admit"),
        (r#""status":"OK","#, object.clone(), "", "admit"),
        ("", of("ibm"), "", "deny"),
        // An identifier alone does not say who found the issue.
        ("", unkind.clone(), "", "deny"),
        ("", format!("\"{id}\""), "", "deny"),
        ("", unkind.clone(), exemption.as_str(), "admit"),
        (r#""status":"FAIL","#, unkind, "", "deny"),
        // What the gate itself finds does not count, but then something else made the image fail.
        ("", object.clone(), "", "admit"),
        ("", of("pullgate"), "", "admit"),
        (r#""status":"FAIL","#, of("pullgate"), "", "deny"),
    ] {
        for policy in [portieris, cise.as_str()] {
            let va = format!(r#"{{{status}"issues":[{issue}]}}"#);
            let case = format!(r#"{{"id":1,"image":"us.icr.io/birds/bluebird:v1","va":{va}{more}}}"#);
            let (code, answers) = evaluate(policy, &case);
            assert_eq!((code, &answers[0]["decision"]), (EXIT_OK, &json!(expected)), "{case}: {}", answers[0]);
        }
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
        (r#"{"scope_type":"namespace","namespace":"birds","repository":null,"tag":null}"#, "admit"),
        (r#"{"scope_type":"repository","namespace":"birds","repository":"blue"}"#, "admit"),
        (r#"{"scope_type":"image","namespace":"birds","repository":"blue","tag":"v1"}"#, "admit"),
        (r#"{"scope_type":"image","namespace":"birds","repository":"blue","tag":"v2"}"#, "deny"),
    ] {
        assert_eq!(answer_of("icr.io/birds/blue:v1", "{}", issue, &exemption(scope))["decision"], expected, "{scope}");
    }
    // As this gate's own API lists it.
    let listed = r#""exemptions":[{"account_id":"","issue_id":"openssl","issue_type":"package","scope":{"scope_type":"account"}}]"#;
    for (package, expected) in [("openssl", "admit"), ("curl", "deny")] {
        let issue = format!(r#"{{"issues":[{{"id":"CVE-1","severity":"high","package":"{package}"}}]}}"#);
        assert_eq!(answer_of("icr.io/birds/blue:v1", "{}", &issue, listed)["decision"], expected, "{package}");
    }
    for (more, expected) in [
        (exemption(r#"{"scope_type":"namespace"}"#), "needs namespace"),
        (exemption(r#"{"scope_type":"namespace","namespace":null}"#), "needs namespace"),
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

/// A rule may name the account whose exemptions apply.
#[test]
fn exemptions_of_another_account_do_not_apply() {
    let policy = |account: &str| {
        format!(
            "apiVersion: portieris.cloud.ibm.com/v1\nkind: ClusterImagePolicy\nmetadata: {{name: p}}\nspec: {{repositories: \
             [{{name: '*', policy: {{vulnerability: {{ICCRVA: {{enabled: true{account}}}}}}}}}]}}"
        )
    };
    for (rule, account, expected) in [
        (", account: abc", r#""account_id":"xyz","#, "deny"),
        (", account: abc", r#""account_id":"abc","#, "admit"),
        (", account: abc", r#""account_id":"","#, "admit"),
        (", account: abc", "", "admit"),
        ("", r#""account_id":"xyz","#, "admit"),
    ] {
        let case = format!(
            r#"{{"id":1,"image":"icr.io/birds/blue:v1","va":{{"issues":["CVE-1"]}},"exemptions":[{{{account}"issue_type":"cve","issue_id":"CVE-1"}}]}}"#
        );
        let (code, answers) = evaluate(&policy(rule), &case);
        assert_eq!((code, &answers[0]["decision"]), (EXIT_OK, &json!(expected)), "{rule} {case}: {}", answers[0]);
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
            check(dir, &Settings::default(), None, Output::Json, streams).unwrap()
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
        (
            line!(),
            "{severity: high, when: 'issues[0].epss > 0.5'}",
            issue,
            "",
            Deny("test for it with has(….epss) first"),
        ),
    ]);
}
