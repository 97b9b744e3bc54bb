use serde_json::json;

use super::*;

fn answered(image: &str, decision: &str, message: &str) -> CheckedImage {
    let answer = json!({
        "image": image, "namespace": "", "digest": null, "kind": null, "decision": decision, "message": message,
        "would_deny": if decision == "would-deny" { vec![message] } else { Vec::new() }, "rules": []
    });
    CheckedImage { image: image.to_owned(), answer: Ok(serde_json::from_value(answer).unwrap()) }
}

fn failed(image: &str) -> CheckedImage {
    CheckedImage { image: image.to_owned(), answer: Err("no such upstream".to_owned()) }
}

#[test]
fn the_exit_code_reports_the_outcome() {
    let (admitted, denied) = (|| answered("a", "admit", ""), || answered("b", "deny", "no"));
    let (pending, unavailable) = (|| answered("c", "pending", "wait"), || answered("d", "unavailable", "down"));
    let reported = || answered("e", "would-deny", "no");
    for (checked, expected) in [
        (vec![admitted()], Exit::Ok),
        (vec![admitted(), reported()], Exit::WouldDeny),
        (vec![reported(), pending()], Exit::Unknown),
        (vec![unavailable()], Exit::Unknown),
        (vec![pending(), denied(), admitted()], Exit::Denied),
        (vec![denied(), failed("f")], Exit::Failure),
    ] {
        assert_eq!(exit(&checked), expected);
    }
}

#[test]
fn junit_has_a_case_for_each_image() {
    let hostile = "a<&\"\u{1b}]\u{0}]]>\n::error::b\r\t";
    let suite = junit::suite(
        &[
            answered("ok", "admit", ""),
            answered(hostile, "deny", hostile),
            answered("later", "pending", "wait"),
            answered("audit", "would-deny", "unsigned"),
            failed("gone"),
        ],
        "the gate at \"x\"",
    );
    assert!(suite.contains("<property name=\"judged_by\" value=\"the gate at &quot;x&quot;\"/>"), "{suite}");
    assert!(suite.contains("<testsuite name=\"pullgate check\" tests=\"5\" failures=\"1\" errors=\"2\">"), "{suite}");
    let text = "a&lt;&amp;&quot;\\u{1b}]\\u{0}]]&gt;&#10;::error::b&#13;&#9;";
    let case = format!("name=\"{text}\"><failure type=\"deny\" message=\"{text}\">{text}</failure></testcase>");
    assert!(suite.contains(&case), "{suite}");
    assert!(suite.contains("<testcase classname=\"pullgate.check\" name=\"ok\"></testcase>"), "{suite}");
    assert!(suite.contains("<system-out>would be denied: unsigned</system-out>"), "{suite}");
    assert!(suite.contains("name=\"later\"><error type=\"pending\""), "{suite}");
    assert!(suite.contains("<error type=\"error\" message=\"no such upstream\"/>"), "{suite}");
    assert!(!suite.replace('\n', "").contains(char::is_control));
}

#[test]
fn sarif_has_a_result_for_each_reason() {
    let log = sarif::log(
        &[
            answered("ok", "admit", ""),
            answered("registry.test/a b@sha256:1", "deny", "unsigned"),
            answered("audit", "would-deny", "unsigned"),
            answered("later", "unavailable", "down"),
            failed("gone"),
        ],
        "the gate at x",
    );
    assert_eq!(log["runs"][0]["properties"]["judgedBy"], "the gate at x");
    let results = log["runs"][0]["results"].as_array().unwrap();
    let found: Vec<_> =
        results.iter().map(|one| (one["ruleId"].as_str().unwrap(), one["level"].as_str().unwrap())).collect();
    let expected = [("denied", "error"), ("would-deny", "warning"), ("not-judged", "error"), ("not-checked", "error")];
    assert_eq!(found, expected);
    let rules = log["runs"][0]["tool"]["driver"]["rules"].as_array().unwrap();
    for result in results {
        let index = usize::try_from(result["ruleIndex"].as_u64().unwrap()).unwrap();
        assert_eq!(rules[index]["id"], result["ruleId"]);
        assert_eq!(rules[index]["defaultConfiguration"]["level"], result["level"]);
        // What code scanning of GitHub requires.
        for text in ["shortDescription", "fullDescription", "help"] {
            assert!(rules[index][text]["text"].as_str().is_some_and(|text| !text.is_empty()), "{text}: {result}");
        }
        assert_eq!(result["locations"][0]["physicalLocation"]["region"]["startLine"], 1);
    }
    assert_eq!(results[1]["message"]["text"], "served, because this is not enforced: unsigned");
    let place = &results[0]["locations"][0]["physicalLocation"]["artifactLocation"]["uri"];
    assert_eq!(place, "registry.test/a%20b");
}

#[test]
fn an_answer_about_another_image_is_ignored() {
    let digest = format!("sha256:{}", "0".repeat(64));
    let pinned = format!("a.test/b@{digest}");
    for (asked, about, expected) in [
        ("nginx:1", "docker.io/library/nginx:1", true),
        ("mirror.test/nginx:1", "docker.io/library/nginx:1", true),
        ("a.test/b", "a.test/b:latest", true),
        (&*pinned, &*pinned, true),
        (&*format!("a.test/b:1@{digest}"), &*pinned, true),
        ("a.test/b:1", "a.test/b:2", false),
        ("a.test/b:1", "a.test/c:1", false),
        ("a.test/b:1", &*pinned, false),
        ("a.test/b:1", "", false),
    ] {
        let CheckedImage { answer: Ok(answer), .. } = answered(about, "admit", "") else { panic!() };
        let request = |namespace: &str| CheckRequest { image: asked.to_owned(), namespace: namespace.to_owned() };
        assert_eq!(is_about(&answer, &request("")), expected, "{asked} {about}");
        assert!(!is_about(&answer, &request("team")), "another namespace");
    }
}
