mod authorities;
mod exemptions;
mod keys;
mod names;

use proptest::prelude::*;

use super::*;
use crate::markup::ProblemSeverity;
use crate::oci::ImageReference;
use crate::policy::rules::va_rule::Unscanned;
use crate::policy::{
    Behaviour, NotaryTrust, PublicKey, Requirement, Rule, Scheme, Selection, Severity, SignedIdentity, SimpleSigner,
    Subject, VaRule,
};

const PEM: &str = "-----BEGIN PUBLIC KEY-----\\nMCowBQYDK2VwAyEAgEM2qWKB9QksW74PHPVC+47Yf+x99A8y26pZBs6eDo0=\\n-----END PUBLIC KEY-----";
const THIRD_PEM: &str = "-----BEGIN PUBLIC KEY-----\\nMHYwEAYHKoZIzj0CAQYFK4EEACIDYgAEeWtLkryyJUV84gG/b6IuCzPVkc9A0kP5\\nheEyxqcwKUNtHFW921PPJxxkbN0BSNgOjWSJ9AW2gkg5L6bBvB+MwG7TV9VAG6Xk\\nJiPXtfVqPvp4zLoqQZCuRbGACSXOSdFo\\n-----END PUBLIC KEY-----";
const OTHER_PEM: &str = "-----BEGIN PUBLIC KEY-----\\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAElu+eeDWCef1pACAN3C04B52wGK+U\\nyt+XVa8ntxbQx2rLH99lRiWGGlxP+ZFbl+1LcoBF8iWaF/qex964fnTxQA==\\n-----END PUBLIC KEY-----";
/// An Ed25519 key that `gpg` made.
const RING: &str = include_str!("../../../tests/data/gpg/ring.asc");

fn parse(texts: &[&str]) -> Parsed {
    let sources: Vec<_> = texts
        .iter()
        .enumerate()
        .map(|(i, text)| Document { path: format!("{i}.yaml"), text: (*text).to_owned() })
        .collect();
    RuleSet::parse(&sources, &NoMaterials, &Settings::default())
}

fn said(text: &str) -> String {
    parse(&[text]).problems.iter().map(|problem| format!("{problem}\n")).collect()
}

fn policy(dialect: &str, entry: &str) -> String {
    let api = match dialect {
        "cise" => "securityenforcement.admission.cloud.ibm.com/v1beta1",
        "portieris" => "portieris.cloud.ibm.com/v1",
        _ => "pullgate.io/v1",
    };
    format!("apiVersion: {api}\nkind: ClusterImagePolicy\nmetadata: {{name: p}}\nspec: {{repositories: [{entry}]}}\n")
}

/// The rule for an image, `None` where the entry has no `policy`.
fn rule(parsed: &Parsed, image: &str, namespace: &str) -> Option<Rule> {
    let reference: ImageReference = image.parse().unwrap();
    let asked = reference.reference();
    let subject = Subject::new(reference.name, asked, namespace.parse().unwrap());
    let rules = parsed.rules.as_ref().unwrap_or_else(|| panic!("{:#?}", parsed.problems));
    match rules.select(&subject) {
        Selection::Entries { enforced, audited } => enforced.iter().chain(&audited).next()?.rule.as_deref().cloned(),
        Selection::Deny(why) => panic!("{why}"),
    }
}

fn scheme(requirement: Option<Requirement>) -> Scheme {
    match requirement {
        Some(Requirement::Authority(authority)) => authority.scheme().clone(),
        Some(Requirement::AnyOf(mut parts) | Requirement::AllOf(mut parts)) if parts.len() == 1 => scheme(parts.pop()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn switches_of_the_ibm_dialects() {
    for (dialect, checks, trust, va) in [
        ("cise", "{trust: {enabled: true}, va: {enabled: true}}", true, true),
        ("cise", "{trust: {enabled: false}, va: {enabled: yes}}", false, true),
        ("cise", "{trust: {enabled: on}}", true, false),
        ("cise", "{trust: {}, va: {}}", false, false),
        ("cise", "{vulnerability: {ICCRVA: {enabled: true}}}", false, true),
        ("portieris", "{vulnerability: {ICCRVA: {enabled: true}}, mutateImage: false}", false, true),
        ("portieris", "{trust: {enabled: true}}", true, false),
        ("portieris", "{simple: {requirements: []}}", false, false),
    ] {
        let parsed = parse(&[&policy(dialect, &format!("{{name: '*', policy: {checks}}}"))]);
        let rule = rule(&parsed, "nginx", "").unwrap();
        assert_eq!((rule.trust.is_some(), rule.va.is_some(), rule.simple), (trust, va, None), "{dialect} {checks}");
        assert!(rule.va.is_none_or(|va| va == VaRule::ibm()));
    }
    for entry in ["{name: '*'}", "{name: '*', policy: }", "{name: '*', policy: null}"] {
        assert_eq!(rule(&parse(&[&policy("cise", entry)]), "nginx", ""), None);
    }
    // The one schema that does not allow null.
    assert!(said(&policy("portieris", "{name: '*', policy: null}")).contains("warning: policy is empty"));
    assert_eq!(
        said(
            &policy("portieris", "{name: '*', policy: null}").replace("Cluster", "").replace("p}", "p, namespace: x}")
        ),
        ""
    );
    let account = "{name: '*', policy: {vulnerability: {ICCRVA: {enabled: true, account: abc}}}}";
    let account = rule(&parse(&[&policy("portieris", account)]), "nginx", "").unwrap();
    assert_eq!(account.va.unwrap().account.as_deref(), Some("abc"));
}

#[test]
fn default_authorities_answer_for_bare_trust() {
    let text = policy("cise", "{name: '*', policy: {trust: {enabled: true, trustServer: 'https://n.io'}}}");
    let source = [Document { path: "p".into(), text }];
    let key = Scheme::cosign_keys(vec![PublicKey::for_test("k")]);
    let mut settings = Settings {
        default_authorities: vec!["notary".into(), "release".into()],
        authorities: vec![Arc::new(Authority::new("release", key))],
        ..Settings::default()
    };
    let parsed = RuleSet::parse(&source, &NoMaterials, &settings);
    let Some(Requirement::AnyOf(parts)) = rule(&parsed, "nginx", "").unwrap().trust else { panic!() };
    assert_eq!(parts.len(), 2);
    let notary = Scheme::Notary(NotaryTrust { server: Some("https://n.io".into()), ..NotaryTrust::default() });
    assert_eq!(scheme(Some(parts[0].clone())), notary);
    settings.default_authorities.push("nobody".into());
    assert!(RuleSet::parse(&source, &NoMaterials, &settings).rules.is_none());
}

/// Each must be an error, or a check that somebody believes in would vanish.
#[test]
fn errors() {
    for (dialect, entry, message) in [
        ("cise", "{name: a, policies: {trust: {enabled: true}}}", "\"policies\" is not a key"),
        ("cise", "{name: a, policy: , trust: {enabled: true}}", "is next to policy"),
        ("portieris", "{name: a, policy: , va: {enabled: true}}", "is next to policy"),
        ("portieris", "{name: a, policy: {va: {enabled: true}}}", "not a key of portieris.cloud.ibm.com/v1"),
        ("portieris", "{name: a, policy: {simpleStore: {url: x}}}", "simpleStore"),
        ("portieris", "{name: a, policy: {trusst: {enabled: true}}}", "did you mean \"trust\"?"),
        ("cise", "{name: a, policy: {trust: {enabled: 'true'}}}", "must be true or false, not text"),
        ("cise", "{name: a, policy: {trust: {enabled: True, enabled: False}}}", "duplicate key \"enabled\""),
        ("cise", "{name: a, policy: {trust: {Enabled: true}}}", "unknown key \"Enabled\""),
        ("cise", "{name: 1.5}", "must be text, not a number"),
        ("cise", "{policy: {}}", "name of an entry of repositories is missing"),
        ("cise", "{name: a, policy: {trust: {enabled: true, trustServer: x}}}", "is not an http or https URL"),
        ("portieris", "{name: a, policy: {simple: {requirements: [{type: signedBy}]}}}", "keySecret of"),
        ("portieris", "{name: a, policy: {simple: {requirements: [{type: x}]}}}", "unknown type of requirement"),
        (
            "portieris",
            "{name: a, policy: {simple: {requirements: [{type: signedBy, keySecret: k, signedIdentity: {type: exactReference}}]}}}",
            "calls it matchExactReference",
        ),
        ("pullgate", "{name: 'test.com*', policy: {}}", "ends in *"),
        ("pullgate", "{name: 'a.io/*', policy: {trust: ci}}", "no authority is called \"ci\""),
        ("pullgate", "{name: 'a.io/*', policy: {trust: {anyOf: []}}}", "missing or empty"),
        ("pullgate", "{name: 'a.io/*', policy: {trust: {anyOf: [notary], allOf: [notary]}}}", "exactly one of"),
        ("pullgate", "{name: 'a.io/*', policy: {trust: {atLeast: {count: 2, of: [notary]}}}}", "can never be met"),
        (
            "pullgate",
            "{name: 'a.io/*', policy: {trust: {atLeast: {count: 2, of: [notary, notary]}}}}",
            "duplicate part in of",
        ),
        ("pullgate", "{name: 'a.io/*', policy: {trust: {atLeast: {count: 0, of: [notary]}}}}", "from 1"),
        (
            "pullgate",
            "{name: 'a.io/*', policy: {trust: notary, signed: both}}",
            "must be one of child, either, index, not \"both\"",
        ),
        ("pullgate", "{name: 'a.io/*', policy: {va: {severity: hihg}}}", "severity is"),
        (
            "pullgate",
            "{name: 'a.io/*', policy: {va: {unscanned: maybe}}}",
            "must be one of allow, deny, wait, not \"maybe\"",
        ),
        ("pullgate", "{name: 'a.io/*', policy: {va: {maxReportAge: soon}}}", "\"soon\": a duration is"),
        ("pullgate", "{name: 'a.io/*', policy: {va: {enabled: true}}}", "unknown key \"enabled\""),
        // What belongs to a key may be commented out.
        ("pullgate", "{name: 'a.io/*', policy: {va: }}", "va is empty"),
        ("pullgate", "{name: 'a.io/*', policy: {trust: , va: {severity: high}}}", "trust is empty"),
        ("pullgate", "{name: 'a.io/*', policy: {va: {severity: }}}", "severity is empty"),
        ("pullgate", "{name: 'a.io/*', policy: {va: {alwaysBlock: }}}", "alwaysBlock is empty"),
        ("pullgate", "{name: 'a.io/*', policy: {va: {bannedPackages: ~}}}", "bannedPackages is empty"),
        ("pullgate", "{name: 'a.io/*', policy: {va: {grace: {high: }}}}", "high is empty"),
        ("pullgate", "{name: 'a.io/*', policy: {va: {ignore: [{id: CVE-1, until: }]}}}", "until is empty"),
        ("pullgate", "{name: 'a.io/*', policy: {va: {ignore: [{id: CVE-1, package: }]}}}", "package is empty"),
        ("pullgate", "{name: 'a.io/*', policy: {va: {ignore: [{id: , package: x}]}}}", "id is empty"),
        ("pullgate", "{name: 'a.io/*', policy: {va: {licences: {allow: , deny: [MIT]}}}}", "allow is empty"),
        ("pullgate", "{name: 'a.io/*', policy: {va: {licences: {allow: [], deny: [MIT]}}}}", "allow is empty"),
        ("pullgate", "{name: 'a.io/*', policy: {va: {baseImages: {allow: [], deny: [a/*]}}}}", "allow is empty"),
        ("pullgate", "{name: 'a.io/*', policy: {va: {severitySource: []}}}", "names no source"),
        ("pullgate", "{name: 'a.io/*', policy: {va: {severitySource: ''}}}", "names no source"),
    ] {
        let text = policy(dialect, entry);
        let parsed = parse(&[&text]);
        assert!(parsed.rules.is_none(), "{entry}");
        assert!(said(&text).contains(message), "{entry}: {}", said(&text));
    }
}

#[test]
fn documents_that_may_be_policies_do_not_vanish() {
    let good = policy("portieris", "{name: a}");
    for (from, to, expected) in [
        ("portieris.cloud", "sportieris.cloud", "did you mean \"portieris.cloud.ibm.com/v1\"?"),
        ("ibm.com/v1", "ibm.com/v2", "did you mean"),
        ("kind: ClusterImagePolicy", "kind: ClusterImagePolicies", "unknown kind"),
        ("apiVersion: portieris.cloud.ibm.com/v1", "apiVersion: example.com/v1", "no kind"),
        ("kind: ClusterImagePolicy\n", "", "needs apiVersion and kind"),
        ("metadata: {name: p}", "metadata: {name: p, namspace: x}", "unknown key \"namspace\""),
        ("metadata: {name: p}", "metadata: {}", "name of metadata is missing"),
        ("spec:", "spce:", "did you mean \"spec\"?"),
        ("kind: ClusterImagePolicy", "<<: ClusterImagePolicy", "needs apiVersion and kind"),
        ("spec: {", "spec: {<<: x, ", "merge key (<<): its value must be a mapping or a list of mappings (hint: write"),
    ] {
        let text = good.replace(from, to);
        assert_ne!(text, good);
        assert!(parse(&[&text]).rules.is_none() && said(&text).contains(expected), "{text}{}", said(&text));
    }
    let twice = parse(&[&good, &good]);
    assert!(
        twice.rules.is_none()
            && twice.problems[0].to_string().contains("duplicate ClusterImagePolicy/p: also at 0.yaml:1"),
        "{:?}",
        twice.problems
    );
}

#[test]
fn anchors_and_merge_keys_of_policies() {
    let anchored = "{name: 'a.io/*', policy: &p {vulnerability: {ICCRVA: {enabled: true}}}}";
    let text = policy("portieris", &format!("{anchored}, {{name: 'b.io/*', policy: {{<<: *p, mutateImage: false}}}}"));
    let parsed = parse(&[&text]);
    assert!(rule(&parsed, "b.io/x", "").unwrap().va.is_some());
    let mistaken = text.replace("enabled", "enabld");
    let problems: Vec<_> = parse(&[&mistaken]).problems.iter().map(ToString::to_string).collect();
    let unknown: Vec<_> = problems.iter().filter(|problem| problem.contains("unknown key \"enabld\"")).collect();
    assert!(unknown.len() == 1, "where it is written, and once: {problems:?}");
}

#[test]
fn non_policies_are_skipped_with_a_note() {
    for text in [
        "apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\nspec: {template: {<<: {a: 1}}}\n",
        "resources: [a.yaml]\n",
        "apiVersion: policy.sigstore.dev/v1beta1\nkind: ClusterImagePolicy\nmetadata: {name: x}\n",
    ] {
        let parsed = parse(&[text]);
        assert!(parsed.rules.is_some() && parsed.problems.len() == 1, "{:?}", parsed.problems);
        assert_ne!(parsed.problems[0].severity, ProblemSeverity::Error);
    }
}

#[test]
fn lists_and_what_a_server_adds() {
    let item = "apiVersion: portieris.cloud.ibm.com/v1\n  kind: ImagePolicy\n  metadata:\n    name: a\n    namespace: prod\n    \
                uid: x\n    resourceVersion: '1'\n    managedFields: [{a: b}]\n    creationTimestamp: 2021-01-01T00:00:00Z\n  \
                spec: {repositories: [{name: icr.io/a}]}\n  status: {}\n";
    for head in ["apiVersion: v1\nkind: List\n", "apiVersion: portieris.cloud.ibm.com/v1\nkind: ImagePolicyList\n"] {
        let parsed = parse(&[&format!("{head}metadata: {{resourceVersion: ''}}\nitems:\n- {item}")]);
        assert_eq!(rule(&parsed, "icr.io/a", "prod"), None);
    }
    let bare = item.replace("apiVersion: portieris.cloud.ibm.com/v1\n  kind: ImagePolicy\n  ", "");
    let list = format!("apiVersion: portieris.cloud.ibm.com/v1\nkind: ImagePolicyList\nitems:\n- {bare}");
    assert_eq!(rule(&parse(&[&list]), "icr.io/a", "prod"), None);
    let no_namespace = policy("cise", "{name: icr.io/a}").replace("Cluster", "");
    assert!(said(&no_namespace).contains("note: metadata names no namespace"));
    assert_eq!(rule(&parse(&[&no_namespace]), "icr.io/a", "default"), None);
}

fn secret(namespace: &str, name: &str, data: &str) -> String {
    format!(
        "apiVersion: v1\nkind: Secret\nmetadata: {{name: {name}, namespace: {namespace}}}\nstringData: {{{data}}}\n"
    )
}

#[test]
fn signer_secrets_are_those_of_the_namespace_that_asks() {
    let document = policy("cise", "{name: '*', policy: {trust: {enabled: true, signerSecrets: [{name: alice}]}}}");
    let alice = secret("prod", "alice", &format!("name: al, publicKey: \"{PEM}\""));
    let parsed = parse(&[&document, &alice]);
    let Scheme::Notary(NotaryTrust { signers, .. }) = scheme(rule(&parsed, "nginx", "prod").unwrap().trust) else {
        panic!()
    };
    assert_eq!(signers[0].name, "al");
    for other in ["dev", ""] {
        let Scheme::Unusable { why } = scheme(rule(&parsed, "nginx", other).unwrap().trust) else { panic!() };
        assert!(why.starts_with("could not get signerSecret from your cluster, "), "{why}");
    }
    for data in ["name: al", "name: al, publicKey: x", "publicKey: x"] {
        let parsed = parse(&[&document, &secret("prod", "alice", data)]);
        assert!(matches!(scheme(rule(&parsed, "nginx", "prod").unwrap().trust), Scheme::Unusable { .. }), "{data}");
    }
    let cluster_wide = parse(&[&document, &alice.replace("prod", "default")]);
    assert!(matches!(scheme(rule(&cluster_wide, "nginx", "").unwrap().trust), Scheme::Notary(_)));
}

#[test]
fn simple_requirements() {
    let requirements = "[{type: insecureAcceptAnything}, {type: signedBy, keySecret: k, keySecretNamespace: keys, \
                        signedIdentity: {type: matchExactRepository, dockerRepository: a.io/b}}]";
    let entry = format!("{{name: '*', policy: {{simple: {{storeURL: 'https://s', requirements: {requirements}}}}}}}");
    let parsed = parse(&[&policy("portieris", &entry), &secret("keys", "k", &format!("key: {RING:?}"))]);
    let Some(Requirement::AllOf(parts)) = rule(&parsed, "nginx", "x").unwrap().simple else { panic!() };
    assert_eq!(parts[0], Requirement::Accept);
    let Scheme::Gpg(signer) = scheme(Some(parts[1].clone())) else { panic!() };
    let SimpleSigner { identity, store, .. } = *signer;
    assert_eq!(identity, SignedIdentity::ExactRepository("a.io/b".parse::<ImageReference>().unwrap().name));
    assert_eq!(store.unwrap().base.as_str(), "https://s/");
}

#[test]
fn our_own_dialect() {
    let text = format!(
        r#"
apiVersion: pullgate.io/v1
kind: ClusterImagePolicy
metadata: {{name: default}}
spec:
  mode: audit
  authorities:
  - {{name: release, cosign: {{key: {{data: "{PEM}"}}}}}}
  - {{name: pair, cosign: {{keys: [{{data: "{OTHER_PEM}"}}, {{secret: {{name: s, key: cosign.pub}}}}]}}}}
  - {{name: ci, cosign: {{keyless: {{issuer: "https://i", identity: {{glob: "https://github.com/acme/*"}}}}}}}}
  repositories:
  - {{name: "a.io/*", policy: {{trust: {{anyOf: [release, {{atLeast: {{count: 2, of: [pair, ci, notary]}}}}]}}, va: {{}}}}}}
  - name: "b.io/*"
    policy: {{va: {{severity: high, fixableOnly: true, unscanned: allow, maxReportAge: 1d12h, alwaysBlock: [CVE-1]}}}}
---
{}"#,
        secret("default", "s", &format!("cosign.pub: \"{PEM}\""))
    );
    let parsed = parse(&[&text]);
    let first = rule(&parsed, "a.io/x", "").unwrap();
    assert_eq!(first.authorities().len(), 4);
    let va = first.va.unwrap();
    assert_eq!((va.severity, va.unscanned, va.unsupported), (Severity::Low, Unscanned::Deny, Behaviour::Deny));
    let va = rule(&parsed, "b.io/x", "").unwrap().va.unwrap();
    assert_eq!((va.severity, va.fixable_only, va.unscanned), (Severity::High, true, Unscanned::Allow));
    assert_eq!(va.max_report_age, Some(jiff::SignedDuration::from_hours(36)));
    assert_eq!(va.always_block, ["CVE-1"]);
    for (from, to) in [("PUBLIC KEY", "EC PRIVATE KEY"), ("MCowBQYDK2Vw", "?"), ("name: s, key", "name: t, key")] {
        assert!(parse(&[&text.replace(from, to)]).rules.is_none(), "{to}");
    }
}

/// In the IBM dialects a check that nothing turns on is none, as upstream. Its author is told.
#[test]
fn checks_that_are_off_are_reported() {
    for (dialect, checks, expected) in [
        ("cise", "{va: }", "va has no effect without enabled"),
        ("cise", "{va: {}}", "va has no effect without enabled"),
        ("cise", "{va: {enabled: }}", "va has no effect without enabled"),
        ("cise", "{trust: }", "trust has no effect without enabled"),
        ("cise", "{trust: {}}", "trust has no effect without enabled"),
        ("portieris", "{trust: {signerSecrets: [{name: a}]}}", "trust has no effect without enabled"),
        ("portieris", "{vulnerability: }", "vulnerability has no effect without ICCRVA"),
        ("portieris", "{vulnerability: {}}", "vulnerability has no effect without ICCRVA"),
        ("portieris", "{vulnerability: {ICCRVA: }}", "ICCRVA has no effect without enabled"),
        ("portieris", "{vulnerability: {ICCRVA: {account: x}}}", "ICCRVA has no effect without enabled"),
        ("portieris", "{simple: }", "simple has no effect without requirements"),
        ("portieris", "{simple: {}}", "simple has no effect without requirements"),
    ] {
        let text = policy(dialect, &format!("{{name: '*', policy: {checks}}}"));
        let parsed = parse(&[&text]);
        let off: Vec<_> = parsed.problems.iter().filter(|one| one.message.contains(expected)).collect();
        assert!(off.len() == 1 && parsed.rules.is_some(), "{checks}: {:?}", parsed.problems);
    }
    for checks in ["{va: {enabled: false}, trust: {enabled: false}}", "{vulnerability: {ICCRVA: {enabled: true}}}"] {
        assert_eq!(said(&policy("cise", &format!("{{name: '*', policy: {checks}}}"))), "");
    }
}

#[test]
fn problems_name_their_place() {
    let text = "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {name: a}\nspec:\n  mod: audit\n";
    assert!(said(text).starts_with("0.yaml:5:3: error: unknown key \"mod\" in spec (hint: did you mean \"mode\"?)\n"));
}

proptest! {
    #[test]
    fn never_panics(cut in 0usize..600, junk in "[a-z\\[\\]{}:,*&!'\" \n-]{0,6}", text in any::<String>()) {
        let good = policy("cise", "{name: '*', policy: {trust: {enabled: true, signerSecrets: [{name: a}]}, va: {}}}");
        let at = (0..=cut.min(good.len())).rev().find(|at| good.is_char_boundary(*at)).unwrap_or(0);
        parse(&[&format!("{}{junk}{}", &good[..at], &good[at..])]);
        parse(&[&text]);
    }
}

/// A cluster lists policies by name, so Portieris uses the entry of the first name among equally specific ones.
#[test]
fn the_name_of_a_policy_decides_between_equally_specific_entries() {
    let named = |group: &str, name: &str, entry: &str, checks: &str| {
        let text = policy(group, &format!("{{name: '{entry}', policy: {checks}}}"));
        text.replace("{name: p}", &format!("{{name: {name}}}"))
    };
    let checks = |group| match group {
        "portieris" => "{vulnerability: {ICCRVA: {enabled: true}}}",
        _ => "{va: {}}",
    };
    for group in ["portieris", "pullgate"] {
        for (open, checked, is_checked) in [("z", "a", true), ("a", "z", false), ("b", "aa", true)] {
            let open = named(group, open, "icr.io/n*", "{}");
            let parsed = parse(&[&open, &named(group, checked, "icr.io/*n", checks(group))]);
            let found = rule(&parsed, "icr.io/n:v1", "").is_some_and(|rule| rule.va.is_some());
            assert_eq!(found, is_checked, "{group} {checked}");
        }
    }
}
