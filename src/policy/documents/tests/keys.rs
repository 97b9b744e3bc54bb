//! Limits of keys, and rules for attestations.

use super::*;

/// The validity of keys is read in every scheme that takes keys. What can never count, or no longer counts, is a
/// warning.
#[test]
fn limits_of_keys_are_read_and_checked() {
    let document = |scheme: &str| {
        format!(
            "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {{name: p}}\nspec:\n  authorities:\n  \
             - name: release\n    {scheme}\n  repositories:\n  - {{name: \"a.io/*\", policy: {{trust: release}}}}\n"
        )
    };
    let ring = serde_json::to_string(RING).unwrap();
    let shapes = |limits: &str| {
        [
            format!("cosign: {{key: {{data: \"{PEM}\"{limits}}}}}"),
            format!("cosign: {{keys: [{{data: \"{PEM}\"{limits}}}, {{data: \"{OTHER_PEM}\"}}]}}"),
            format!("gpg: {{keyring: {{data: {ring}{limits}}}}}"),
            format!("gpg: {{keyrings: [{{data: {ring}{limits}}}]}}"),
            format!("notary: {{signers: [{{name: alice, key: {{data: \"{PEM}\"{limits}}}}}]}}"),
        ]
    };
    let settings = Settings { now: Some("2026-06-01T00:00:00Z".parse().unwrap()), ..Settings::default() };
    let said = |text: &str, settings: &Settings| {
        let documents = [Document { path: "0.yaml".into(), text: text.to_owned() }];
        let Parsed { rules, problems, .. } = RuleSet::parse(&documents, &NoMaterials, settings);
        (rules.is_some(), problems.iter().map(ToString::to_string).collect::<Vec<_>>())
    };
    let (ended, empty) = ("ended at 2026-01-01T00:00:00Z", "is never valid");
    for (limits, is_valid, expected) in [
        (", validFrom: 2026-01-01T00:00:00Z", true, None),
        (", validUntil: '2026-12-31T23:59:59+01:00'", true, None),
        (", validUntil: 2026-01-01T00:00:00Z", true, Some(ended)),
        (", validFrom: 2026-02-01T00:00:00Z, validUntil: 2026-01-01T00:00:00Z", true, Some(empty)),
        (", validFrom: 2027-01-01T00:00:00Z, validUntil: 2027-01-01T00:00:00Z", true, Some(empty)),
        (", validUntil: 2026-01-01", false, Some("validUntil \"2026-01-01\" is not a time (hint: write date")),
        (", validUntil: [2026]", false, Some("validUntil")),
        (", validTo: 2026-01-01T00:00:00Z", false, Some("unknown key \"validTo\"")),
    ] {
        for shape in shapes(limits) {
            let (parsed, problems) = said(&document(&shape), &settings);
            let as_expected = match expected {
                Some(part) => problems.len() == 1 && problems[0].contains(part) && problems[0].contains("0.yaml:6"),
                None => problems.is_empty(),
            };
            assert!(
                parsed == is_valid && as_expected || !is_valid && !parsed && problems[0].contains(expected.unwrap()),
                "{shape}: {problems:?}"
            );
            // Without a time, nothing has ended.
            let (_, timeless) = said(&document(&shape), &Settings::default());
            assert!(!timeless.iter().any(|one| one.contains(ended)), "{timeless:?}");
        }
    }
    let twice = |second: &str| {
        let first = format!("{{data: \"{PEM}\", validFrom: 2026-01-01T00:00:00Z}}");
        document(&format!("cosign: {{keys: [{first}, {{data: \"{PEM}\"{second}}}]}}"))
    };
    assert!(said(&twice(""), &settings).1[0].contains("twice, with different validFrom or validUntil"));
    assert!(!said(&twice(""), &settings).0);
    let (parsed, problems) = said(&twice(", validFrom: 2026-01-01T00:00:00Z"), &settings);
    assert!(parsed && problems[0].contains("duplicate key in keys"), "{problems:?}");
}

/// What an attestation must say is checked when the document is read, with the place of each mistake.
#[test]
fn attestation_rules_are_checked_when_documents_are_read() {
    let document = |attestation: &str| {
        format!(
            "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {{name: p}}\nspec:\n  authorities:\n  \
             - name: provenance\n    cosign:\n      key: {{data: \"{PEM}\"}}\n      attestation: {attestation}\n  \
             repositories:\n  - {{name: \"a.io/*\", policy: {{trust: provenance}}}}\n"
        )
    };
    let good = "{predicateType: 'https://slsa.dev/provenance/v1', maxAge: 90d, condition: \"predicate.x == 'y'\"}";
    let parsed = parse(&[&document(good)]);
    assert!(parsed.rules.is_some() && parsed.problems.is_empty(), "{:?}", parsed.problems);
    for (attestation, expected) in [
        ("{maxAge: 90d}", "predicateType of attestation is missing"),
        ("{predicateType: p, maxAge: 0s}", "maxAge must be longer than 0s"),
        ("{predicateType: p, maxage: 1d}", "unknown key \"maxage\""),
        (
            "{predicateType: p, condition: 'predicat.x == 1'}",
            "0.yaml:9:50: error: condition: line 1, column 1: there is no variable \"predicat\"",
        ),
        ("{predicateType: p, condition: 'predicate.x.foo()'}", "foo is not a function here"),
        ("{predicateType: p, condition: '1 + 1'}", "the result is a int, but a condition is true or false"),
        ("{predicateType: p, condition: 'predicate.x =='}", "condition: line 1, column "),
    ] {
        let text = document(attestation);
        assert!(parse(&[&text]).rules.is_none(), "{attestation}");
        assert!(said(&text).contains(expected), "{attestation}: {}", said(&text));
    }
}
