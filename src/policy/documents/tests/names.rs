//! Names of entries that match more or less than they seem to.

use super::*;

#[test]
fn names_that_reach_too_far_or_nowhere() {
    for (name, expected) in [
        ("test.com*", "warning: the host of \"test.com*\" ends in *"),
        ("*icr.io/a", "write *.icr.io"),
        ("https://icr.io/*", "can match nothing"),
        ("icr.io/Foo", "lower case"),
        ("icr.io", "it is a host alone"),
        ("icr.io:5000", "it is a host alone"),
        ("localhost", "it is a host alone"),
        ("icr.io/ns/", "it is not the name of an image"),
        ("icr.io//a", "it is not the name of an image"),
        ("icr.io/a:", "it is not the name of an image"),
        ("/a", "it is not the name of an image"),
        ("^icr.io/.*$", "it is not the name of an image"),
        ("icr.io/(a|b)", "it is not the name of an image"),
        ("icr.io/a,icr.io/b", "it is not the name of an image"),
        ("icr.io/a@sha256:abc", "it is not the name of an image"),
        ("Nginx", "it is not the name of an image"),
        ("icr.io/a@md5:*", "it is not the name of an image"),
    ] {
        let text = policy("cise", &format!("{{name: '{name}'}}"));
        assert!(parse(&[&text]).rules.is_some() && said(&text).contains(expected), "{}", said(&text));
        let native = policy("pullgate", &format!("{{name: '{name}'}}"));
        let is_harmless = expected == "write *.icr.io";
        assert_eq!(parse(&[&native]).rules.is_some(), is_harmless, "{}", said(&native));
    }
    let digest = "sha256:".to_owned() + &"a".repeat(64);
    let (by_digest, with_tag) = (format!("icr.io/a@{digest}"), format!("icr.io/a:v1@{digest}"));
    for name in [
        "*",
        "*.icr.io/armada/*",
        "registry*.bluemix.net/*",
        "nginx",
        "nginx:1.27",
        "library/nginx*",
        "a.io:5000/b:V1",
        "a.io:*/b",
        "*/*:v*",
        "*:latest",
        "icr.io/ns/*@sha256:*",
        "icr.io/*-",
        "ICR.io/a",
        &by_digest,
        &with_tag,
    ] {
        assert_eq!(said(&policy("cise", &format!("{{name: '{name}', policy: {{}}}}"))), "", "{name}");
    }
    // Clients ask for the digest alone.
    let with_tag = policy("cise", &format!("{{name: '{with_tag}', policy: {{va: {{enabled: true}}}}}}, {{name: '*'}}"));
    assert!(rule(&parse(&[&with_tag]), &by_digest, "").is_some_and(|rule| rule.va.is_some()));
    assert!(rule(&parse(&[&with_tag]), "icr.io/a:v1", "").is_none());
}

/// An entry that denies less than it seems to leaves the rest to another, such as `*`.
#[test]
fn a_name_with_whitespace_is_reported_once() {
    let said = said(&policy("pullgate", "{name: 'icr.io*/ x', policy: {}}"));
    assert!(said.contains("it has whitespace") && said.matches("icr.io*/ x").count() == 1, "{said}");
}

#[test]
fn names_that_match_less_than_they_seem_to() {
    let of_digest = |name: &str| format!("{name}@sha256:{}", "a".repeat(64));
    let (by_digest, tag_and_digest) = (of_digest("icr.io/*"), of_digest("icr.io/*:v1"));
    for (name, expected) in [
        ("*.icr.io", "write *.icr.io/*"),
        ("*.acme.com", "it is a host alone"),
        ("docker.io/library", "write docker.io/library/*"),
        ("library", "write docker.io/library/*"),
        ("icr.io/ns/app:*", "write icr.io/ns/app for all tags and digests"),
        ("nginx:*", "a pull by digest only while a tag of it is known"),
        ("*.icr.io/*", ""),
        ("docker.io/library/*", ""),
        ("icr.io/ns/app", ""),
        ("icr.io/ns/*:*", ""),
        ("icr.io/ns/app:v*", ""),
        ("icr.io/a@*", ""),
        ("icr.io/a@sha256:*", ""),
        ("icr.io/a@sha*", ""),
        (by_digest.as_str(), ""),
        (tag_and_digest.as_str(), "clients ask for the digest alone"),
    ] {
        let said = said(&policy("pullgate", &format!("{{name: '{name}', policy: {{}}}}")));
        assert!(said.contains(expected) && said.is_empty() == expected.is_empty(), "{name}: {said}");
        assert_eq!(said.contains("error"), name == tag_and_digest, "{name}: {said}");
    }
}

/// A secret that is there and cannot be used denies everything, as a missing one does.
#[test]
fn secrets_that_cannot_be_used_are_warnings() {
    let trust = policy("cise", "{name: '*', policy: {trust: {enabled: true, signerSecrets: [{name: s}]}}}");
    let simple = "{name: '*', policy: {simple: {storeURL: 'https://s', storeSecret: s, requirements: [{type: signedBy, \
                  keySecret: s}]}}}";
    let simple = policy("portieris", simple);
    let (half, ring) = (&PEM[..PEM.len() / 2], serde_json::to_string(RING).unwrap());
    let store = "username: u, password: p";
    for (document, data, wanted) in [
        (&trust, format!("name: al, publicKey: \"{PEM}\""), None),
        (&trust, "name: al, publicKey: '...'".to_owned(), Some("secret \"s\": ")),
        (&trust, "name: al, publicKey: ''".to_owned(), Some("secret \"s\": ")),
        (&trust, format!("name: al, publicKey: \"{half}\""), Some("secret \"s\": ")),
        (&trust, "name: al".to_owned(), Some("secret \"s\" has no \"publicKey\"")),
        (&trust, format!("publicKey: \"{PEM}\""), Some("secret \"s\" has no \"name\"")),
        (&simple, format!("key: {ring}, {store}"), None),
        (&simple, format!("key: x, {store}"), Some("secret \"s\": ")),
        (&simple, store.to_owned(), Some("it has no \"key\"")),
        (&simple, format!("key: {ring}, username: u"), Some("it has no \"password\"")),
    ] {
        let parsed = parse(&[document, &secret("prod", "s", &data)]);
        assert!(parsed.rules.is_some(), "{data}");
        let warnings = parsed.problems.iter().filter(|problem| problem.severity == ProblemSeverity::Warning);
        let said: Vec<String> = warnings.map(ToString::to_string).collect();
        assert_eq!(said.len(), usize::from(wanted.is_some()), "{data}: {said:?}");
        let is_told = |line: &String| {
            let parts =
                ["warning: namespace \"prod\": ", wanted.unwrap(), ": images that this entry selects are denied"];
            parts.iter().all(|part| line.contains(part))
        };
        assert!(said.iter().all(is_told), "{data}: {said:?}");
    }
}
