//! Keys and authorities: conditions without effect, thresholds, the configuration.

use super::*;

/// A document whose authorities `a`, `b` and `c` hold these keys.
fn with_keys(keys: &[(&str, &[&str])], trust: &str) -> String {
    let authority = |(name, keys): &(&str, &[&str])| {
        let keys: Vec<_> = keys.iter().map(|key| format!("{{data: \"{key}\"}}")).collect();
        format!("  - {{name: {name}, cosign: {{keys: [{}]}}}}\n", keys.join(", "))
    };
    let authorities: String = keys.iter().map(authority).collect();
    format!(
        "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {{name: p}}\nspec:\n  authorities:\n\
         {authorities}  repositories:\n  - {{name: '*', policy: {{trust: {trust}}}}}\n"
    )
}

/// What is accepted and probably not meant is a warning, as elsewhere.
#[test]
fn conditions_without_the_effect_that_they_seem_to_have_are_warnings() {
    let settings = Settings { now: "2026-11-26T00:00:00Z".parse().ok(), ..Settings::default() };
    let said = |va: &str| {
        let text = policy("pullgate", &format!("{{name: 'a.io/*', policy: {{va: {va}}}}}"));
        let parsed = RuleSet::parse(&[Document { path: "p.yaml".into(), text }], &NoMaterials, &settings);
        parsed.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    };
    for (va, expected) in [
        (
            "{ignore: [{id: CVE-1, until: 2020-01-01}]}",
            "warning: an entry of ignore has no effect: it ended on 2020-01-01",
        ),
        ("{ignore: [{id: CVE-1, until: 2027-01-01}]}", ""),
        ("{severity: High}", "warning: severity: \"High\" is read as high"),
        ("{severity: moderate}", "warning: severity: \"moderate\" is read as medium"),
        ("{severity: high}", ""),
        ("{baseImages: {allow: ['b.io/*', 'a.io/base/*']}}", ""),
        (
            "{baseImages: {allow: ['b.io/*', 'a.io/*']}}",
            "warning: baseImages.allow: \"a.io/*\" matches every image of this entry",
        ),
        ("{baseImages: {allow: ['A.io/*']}}", "\"A.io/*\" matches every image of this entry"),
        ("{baseImages: {allow: ['*']}}", "each is its own base image: nothing is checked"),
        ("{grace: {critical: 0d, high: 14d}}", "leave critical out"),
        ("{maxReportAge: 0d}", "error: maxReportAge must be longer than 0s"),
        ("{bannedPackages: ['pkg:nuget/A@[1.0,2.0)', 'pkg:composer/a/b@^1.0']}", ""),
        ("{bannedPackages: ['pkg:nuget/A@[1.0']}", "is not a range of versions"),
    ] {
        let said = said(va);
        assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{va}: {said}");
    }
    assert!(!said("{maxReportAge: 0d}").contains("leave"), "without a limit any age counts");
}

/// `docker.io/nginx` is how people write the official image, and a namespace here.
#[test]
fn a_namespace_of_docker_hub_is_a_note() {
    for (scope, is_noted) in
        [("docker.io/nginx", true), ("docker.io/library", false), ("docker.io/library/nginx", false)]
    {
        let text = format!(
            "apiVersion: pullgate.io/v1\nkind: Exemption\nmetadata: {{name: e}}\nspec: {{scope: {scope}, issueType: cve, \
             issueId: CVE-2024-1}}\n"
        );
        let said = said(&text);
        assert_eq!(said.contains("note: scope docker.io/nginx is the namespace nginx"), is_noted, "{said}");
        assert!(!said.contains("error") && !said.contains("warning"), "{said}");
    }
}

#[test]
fn thresholds_count_keys_and_not_names() {
    let respaced = PEM.replace("\\n", "\\r\\n  ");
    let (shared, never) = ("share a key: a signature by it counts once", "signatures by different keys can never");
    for (b, trust, expected) in [
        (&[PEM][..], "{atLeast: {count: 2, of: [a, b]}}", &[shared, never][..]),
        (&[&*respaced][..], "{atLeast: {count: 2, of: [a, b]}}", &[shared, never]),
        (&[PEM], "{allOf: [a, b]}", &[shared, never]),
        (&[PEM, OTHER_PEM], "{allOf: [a, b]}", &[shared]),
        (&[OTHER_PEM], "{allOf: [a, b]}", &[]),
        (&[PEM], "{anyOf: [a, b]}", &[]),
        (&[PEM], "{atLeast: {count: 2, of: [a, {anyOf: [b, c]}]}}", &[shared]),
        // The same name twice is meant: a and one more.
        (&[OTHER_PEM], "{allOf: [a, {atLeast: {count: 2, of: [a, b, c]}}]}", &[]),
        (&[PEM, &respaced], "b", &["duplicate key in keys"]),
    ] {
        let text = with_keys(&[("a", &[PEM]), ("b", b), ("c", &[THIRD_PEM])], trust);
        let parsed = parse(&[&text]);
        assert!(parsed.rules.is_some(), "{:?}", parsed.problems);
        let said: Vec<_> = parsed.problems.iter().map(ToString::to_string).collect();
        let as_expected = said.iter().zip(expected).all(|(said, part)| said.contains("warning") && said.contains(part));
        assert!(said.len() == expected.len() && as_expected, "{trust} {b:?}: {said:#?}");
    }
    let many: Vec<_> = (0..101).map(|number| format!("n{number}")).collect();
    assert!(said(&with_keys(&[], &format!("{{anyOf: [{}]}}", many.join(", ")))).contains("more than 100 parts"));
}

/// An authority of the configuration, written as JSON; else the problems.
fn of_configuration(name: &str, json: &str) -> Result<Authority, Vec<Problem>> {
    let problems = Problems::default();
    let trees = read_yaml(json, problems.file("pullgate.toml"), &problems);
    let fields = Fields::of(&trees[0], "an authority", &problems);
    let authority =
        fields.and_then(|fields| Authority::of_configuration(name, &fields, &NoMaterials, &NotaryTrust::default()));
    authority.filter(|_| !problems.any_error()).ok_or_else(|| problems.into_sorted())
}

/// Each kind of mapping that has one of several keys.
#[test]
fn a_mapping_without_any_of_its_keys_lists_them() {
    let expected = |keys: &str| format!("exactly one of {keys} is needed here");
    for (json, keys) in [
        ("{}", "cosign, notation, notary, gpg"),
        (r#"{"cosign":{}}"#, "key, keys, keyless"),
        (r#"{"cosign":{"keyless":{"issuer":{},"identity":"x"}}}"#, "glob, regex"),
        (r#"{"gpg":{}}"#, "keyring, keyrings"),
        (r#"{"cosign":{"key":{}}}"#, "file, data"),
    ] {
        let problems = of_configuration("a", json).unwrap_err();
        assert!(problems.iter().any(|problem| problem.to_string().contains(&expected(keys))), "{json}: {problems:?}");
    }
    let problems = said(&with_keys(&[("a", &[PEM])], "{}"));
    assert!(problems.contains(&expected("anyOf, allOf, every, atLeast")), "{problems}");
    let problems = said(&with_keys(&[("a", &[PEM])], "a").replace(&format!("{{data: \"{PEM}\"}}"), "{}"));
    assert!(problems.contains(&expected("file, data, secret")), "{problems}");
}

#[test]
fn an_authority_is_its_keys_however_they_are_written() {
    let id = |pem: &str| {
        let json = format!(r#"{{"cosign":{{"key":{{"data":"{pem}"}}}}}}"#);
        of_configuration("a", &json).unwrap().id().clone()
    };
    assert_eq!(id(PEM), id(&PEM.replace("\\n", "\\r\\n")));
    assert_ne!(id(PEM), id(OTHER_PEM));
}

#[test]
fn authorities_of_the_configuration() {
    let key = format!(r#"{{"cosign":{{"key":{{"data":"{PEM}"}}}}}}"#);
    assert!(
        matches!(of_configuration("release", &key).unwrap().scheme(), Scheme::Cosign(cosign) if cosign.keys().len() == 1)
    );
    for (name, json) in [("notary", &*key), ("a b", &key), ("a", "[]"), ("a", "{}"), ("a", r#"{"cosign":{}, "x":1}"#)] {
        assert!(!of_configuration(name, json).unwrap_err().is_empty(), "{name} {json}");
    }
}
