use proptest::prelude::*;

use super::*;
use crate::markup::ProblemSeverity;
use crate::oci::ImageReference;
use crate::policy::va_rule::Unscanned;
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
fn what_is_no_policy_is_skipped_with_a_note() {
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

/// In the IBM dialects a check that nothing turns on is none, as upstream. Its author is told.
#[test]
fn checks_that_are_off_are_reported() {
    for (dialect, checks, expected) in [
        ("cise", "{va: }", "va without enabled checks nothing"),
        ("cise", "{va: {}}", "va without enabled checks nothing"),
        ("cise", "{va: {enabled: }}", "va without enabled checks nothing"),
        ("cise", "{trust: }", "trust without enabled checks nothing"),
        ("cise", "{trust: {}}", "trust without enabled checks nothing"),
        ("portieris", "{trust: {signerSecrets: [{name: a}]}}", "trust without enabled checks nothing"),
        ("portieris", "{vulnerability: }", "vulnerability without ICCRVA checks nothing"),
        ("portieris", "{vulnerability: {}}", "vulnerability without ICCRVA checks nothing"),
        ("portieris", "{vulnerability: {ICCRVA: }}", "ICCRVA without enabled checks nothing"),
        ("portieris", "{vulnerability: {ICCRVA: {account: x}}}", "ICCRVA without enabled checks nothing"),
        ("portieris", "{simple: }", "simple without requirements checks nothing"),
        ("portieris", "{simple: {}}", "simple without requirements checks nothing"),
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

/// The validity of keys is read in every scheme that takes keys. What can never count, or no longer counts, is a warning.
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

fn exemption(spec: &str) -> String {
    format!("apiVersion: pullgate.io/v1\nkind: Exemption\nmetadata: {{name: x}}\nspec: {{{spec}}}\n")
}

#[test]
fn exemptions_are_read_with_all_their_fields() {
    let text = exemption(
        "scope: us.icr.io/birds/bluebird, issueType: cve, issueId: CVE-2024-1, package: openssl, \
         expires: 2026-12-31, reason: not reachable, by: ann",
    );
    let parsed = parse(&[&text, &policy("pullgate", "{name: '*'}")]);
    let rules = parsed.rules.unwrap_or_else(|| panic!("{:#?}", parsed.problems));
    let found: Vec<_> = rules.exemptions().iter().collect();
    let [record] = found[..] else { panic!("{found:?}") };
    assert_eq!(record.to_string(), "cve CVE-2024-1 in openssl, scope us.icr.io/birds/bluebird");
    assert_eq!(record.expires, Some("2026-12-31T00:00:00Z".parse().unwrap()));
    let texts = [&record.reason, &record.by].map(|text| text.as_deref());
    assert_eq!((texts, record.document.as_deref()), ([Some("not reachable"), Some("ann")], Some("Exemption/x")));
    assert_eq!(parsed.files.iter().map(|file| file.policies).collect::<Vec<_>>(), [1, 1]);
    let list = format!(
        "apiVersion: pullgate.io/v1\nkind: ExemptionList\nitems:\n- {{metadata: {{name: a}}, spec: {{{}}}}}\n",
        "scope: '*', issueType: package, package: 'pkg:deb/debian/openssl'"
    );
    assert_eq!(parse(&[&list]).rules.unwrap().exemptions().len(), 1);
}

#[test]
fn mistakes_in_exemptions_are_errors_with_places() {
    let good = "scope: birds, issueType: cve, issueId: CVE-2024-1";
    for (spec, message) in [
        ("issueType: cve, issueId: CVE-2024-1", "scope of spec is missing"),
        ("scope: birds, issueId: CVE-2024-1", "issueType of spec is missing"),
        ("scope: birds, issueType: cve", "the issue is missing"),
        ("scope: birds, issueType: package", "needs a package"),
        ("scope: birds, issueType: package, issueId: CVE-2024-1, package: x", "every vulnerability of a package"),
        ("scope: 'birds:v1', issueType: cve, issueId: CVE-2024-1", "NAMESPACE/REPOSITORY:TAG"),
        ("scope: birds, issueType: rpm, issueId: x", "the type is cve"),
        ("scope: birds, issueType: sn, issueId: CVE-2024-1", "a CVE has the type cve"),
        ("scope: birds, issueType: cve, issueId: CVE-2024-1, package: 'pkg:x'", "not a package URL"),
        ("scope: birds, issueType: cve, issueId: CVE-2024-1, expires: 30d", "the end is a date"),
        ("scope: birds, issueType: cve, issueId: CVE-2024-1, expire: 2026-12-31", "did you mean \"expires\""),
        ("scope: birds, issueType: cve, issueId: [CVE-2024-1]", "must be text"),
        ("scope: birds, issueType: cve, issueId: CVE-2024-1, expires: 5", "must be text"),
        ("scope: birds, issueType: cve, issueId: CVE-2024-1, expires: ", "expires is empty"),
        ("scope: birds, issueType: cve, issueId: CVE-2024-1, package: ~", "package is empty"),
        ("scope: birds, issueType: cve, issueId: 'CVE-2024-*'", "no pattern"),
        ("scope: birds, issueType: package, package: 'openssl*'", "a package is not a pattern"),
        ("scope: birds, issueType: package, package: 'pkg:deb/debian/openssl@<3.0.12'", "has no range of versions"),
        ("scope: birds, issueType: configuration, issueId: CVE-2024-1", "have the type cve or sn"),
        ("scope: birds, issueType: sn, issueId: 'application_configuration:x'", "has the type configuration"),
    ] {
        let parsed = parse(&[&exemption(spec)]);
        let said = parsed.problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        assert!(parsed.rules.is_none() && said.contains(message) && said.contains("0.yaml:4:"), "{spec}: {said}");
    }
    let other = |from: &str, to: &str| said(&exemption(good).replace(from, to));
    assert_eq!(said(&exemption(good)), "");
    assert!(other("{name: x}", "{name: x, namespace: prod}").contains("not in a Kubernetes namespace"));
    assert!(other("kind: Exemption", "kind: Exemptions").contains("unknown kind"));
    assert!(other("name: x", "labels: {}").contains("name of metadata is missing"));
    assert!(other("pullgate.io/v1", "portieris.cloud.ibm.com/v1").contains("unknown kind"));
    let twice = parse(&[&exemption(good), &exemption(good).replace("name: x", "name: other")]);
    let problems: Vec<_> = twice.problems.iter().map(ToString::to_string).collect();
    assert!(twice.rules.is_none() && problems[0].contains("exempts the same as Exemption/x"), "{problems:?}");
    let namesakes = parse(&[&exemption(good), &exemption(good).replace("CVE-2024-1", "CVE-2024-2")]);
    let problems: Vec<_> = namesakes.problems.iter().map(ToString::to_string).collect();
    assert!(namesakes.rules.is_some() && problems[0].contains("a cluster keeps only one of them"), "{problems:?}");
    let settings = Settings { now: Some("2027-01-01T00:00:00Z".parse().unwrap()), ..Settings::default() };
    let document = Document { path: "a.yaml".into(), text: exemption(&format!("{good}, expires: 2026-12-31")) };
    let parsed = RuleSet::parse(&[document], &NoMaterials, &settings);
    assert!(parsed.rules.is_some() && parsed.problems[0].to_string().contains("has no effect: it ended on 2026-12-31"));
}

/// Files of the configuration, by their paths.
struct IgnoreFiles(Vec<(&'static str, &'static str)>);

impl Materials for IgnoreFiles {
    fn file(&self, _: &str, path: &str) -> Result<Vec<u8>, String> {
        let found = self.0.iter().find(|(name, _)| *name == path);
        found.map(|(_, text)| text.as_bytes().to_vec()).ok_or_else(|| "no such file".into())
    }

    fn folder(&self, _: &str, _: &str) -> Result<Vec<OsString>, String> {
        Err("no folder".into())
    }

    fn secret(&self, _: &str, _: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        None
    }

    fn secret_namespaces(&self) -> Vec<String> {
        Vec::new()
    }
}

/// The exemptions of one ignore file, sorted, or the problems.
fn ignored(path: &'static str, text: &'static str) -> Result<Vec<String>, String> {
    let settings = Settings { ignore_files: vec![path.into()], ..Settings::default() };
    let parsed = RuleSet::parse(&[], &IgnoreFiles(vec![(path, text)]), &settings);
    let Some(rules) = parsed.rules else {
        return Err(parsed.problems.iter().map(|problem| format!("{problem}\n")).collect());
    };
    let shown = |record: &Arc<crate::policy::ExemptionRecord>| {
        assert_eq!(record.document.as_deref(), Some(path));
        let end = record.expires.map(|end| format!(" until {end}")).unwrap_or_default();
        let reason = record.reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
        format!("{record}{end}{reason}")
    };
    let mut all: Vec<_> = rules.exemptions().iter().map(shown).collect();
    all.sort();
    Ok(all)
}

#[test]
fn ignore_files_of_trivy_are_read() {
    let text = "# accepted\n\nCVE-2024-1\n  CVE-2024-2 exp:2026-12-31 # not reachable\nX-1 # two kinds\n";
    let expected = [
        "configuration X-1, scope * (two kinds)",
        "cve CVE-2024-1, scope *",
        "cve CVE-2024-2, scope * until 2026-12-31T00:00:00Z (not reachable)",
        "sn X-1, scope * (two kinds)",
    ];
    assert_eq!(ignored(".trivyignore", text).unwrap(), expected);
    let text = "vulnerabilities:\n- id: CVE-2024-1\n  paths: [usr/lib/python3/**, 'app/{a,b}/*']\n  purls: ['pkg:pypi/x']\n  \
                expired_at: 2026-12-31\n  statement: not reachable\n- id: GHSA-1\nmisconfigurations:\n- id: AVD-DS-0002\n\
                secrets:\n- id: jwt-token\n";
    let expected = [
        "configuration AVD-DS-0002, scope *",
        "configuration jwt-token, scope *",
        "cve CVE-2024-1 in pkg:pypi/x at app/{a,b}/*, scope * until 2026-12-31T00:00:00Z (not reachable)",
        "cve CVE-2024-1 in pkg:pypi/x at usr/lib/python3/**, scope * until 2026-12-31T00:00:00Z (not reachable)",
        "sn GHSA-1, scope *",
    ];
    assert_eq!(ignored("a/.trivyignore.yaml", text).unwrap(), expected);
    let text = "vulnerabilities:\n- id: CVE-2024-1\n  statement: |\n    not reachable,\n    see the ticket\n";
    assert_eq!(ignored("i.yaml", text).unwrap(), ["cve CVE-2024-1, scope * (not reachable, see the ticket)"]);
    assert_eq!(ignored(".trivyignore", "GHSA-1\n").unwrap(), ["sn GHSA-1, scope *"]);
    // Trivy looks for an end in all words.
    let text = "CVE-2024-1 # until exp:2020-01-01 by ann\n";
    let expected = ["cve CVE-2024-1, scope * until 2020-01-01T00:00:00Z (until exp:2020-01-01 by ann)"];
    assert_eq!(ignored(".trivyignore", text).unwrap(), expected);
    assert_eq!(ignored(".trivyignore", "").unwrap(), Vec::<String>::new());
    assert_eq!(ignored(".trivyignore.yml", "vulnerabilities: []\n").unwrap(), Vec::<String>::new());
}

#[test]
fn a_path_from_the_root_is_no_path_of_trivy() {
    let text = "vulnerabilities:\n- id: CVE-2024-1\n  paths: [/usr/lib/x]\n";
    let settings = Settings { ignore_files: vec!["i.yaml".into()], ..Settings::default() };
    let parsed = RuleSet::parse(&[], &IgnoreFiles(vec![("i.yaml", text)]), &settings);
    let said: Vec<_> = parsed.problems.iter().map(ToString::to_string).collect();
    assert!(parsed.rules.is_some() && said.len() == 1, "{said:?}");
    assert!(
        said[0].contains("warning: \"/usr/lib/x\" matches no path") && said[0].contains("write usr/lib/x"),
        "{said:?}"
    );
}

/// Trivy ignores what it does not know, and then exempts more than the author of the file meant.
#[test]
fn mistakes_in_ignore_files_are_errors_with_places() {
    for (path, text, message) in [
        (".trivyignore", "\nCVE-2024-1 exp:tomorrow\n", ".trivyignore:2:1: error: \"exp:tomorrow\""),
        (".trivyignore", "CVE-2024-1 expires:2026-12-31\n", "only exp:DATE or a comment"),
        (".trivyignore", "CVE-2024-1 CVE-2024-2\n", "only exp:DATE or a comment"),
        (".trivyignore", "CVE-2024-1 exp:2026-12-31 exp:2027-12-31\n", "only exp:DATE or a comment"),
        (".trivyignore", "CVE-2024-1 # exp:soon\n", "\"exp:soon\": "),
        (".trivyignore", "CVE-2024-1#why\n", "error: \"CVE-2024-1#why\""),
        (".trivyignore", "*\n", "an issue is one word"),
        ("i.yaml", "vulnerabilities:\n- id: CVE-2024-1\n  path: [a]\n", "i.yaml:3:3: error: unknown key \"path\""),
        ("i.yaml", "vulnerabilities:\n- {id: CVE-2024-1, paths: []}\n", "at least one"),
        ("i.yaml", "vulnerabilities:\n- {id: CVE-2024-1, paths: ['!a']}\n", "does not start with !"),
        ("i.yaml", "vulnerabilities:\n- {id: CVE-2024-1, paths: ['a{b']}\n", "a path is a pattern"),
        ("i.yaml", "vulnerabilities:\n- {id: CVE-2024-1, purls: [openssl]}\n", "not a package URL"),
        ("i.yaml", "vulnerabilities:\n- {id: CVE-2024-1, purls: [5]}\n", "must be a list of texts"),
        ("i.yaml", "vulnerabilities:\n- {id: CVE-2024-1, expired_at: 5}\n", "must be text"),
        ("i.yaml", "vulnerabilities:\n- {id: CVE-2024-1, expired_at: soon}\n", "the end is a date"),
        ("i.yaml", "vulnerabilities:\n- {statement: x}\n", "id of an entry is missing"),
        ("i.yaml", "vulnerability: []\n", "unknown key"),
        (
            "i.yaml",
            "vulnerabilities: []\n---\nvulnerabilities: []\n",
            "i.yaml:3:1: error: Trivy reads only the first document",
        ),
    ] {
        let problems = ignored(path, text).unwrap_err();
        assert!(problems.contains(message), "{text}: {problems}");
    }
    let settings = Settings { ignore_files: vec!["absent".into()], ..Settings::default() };
    let parsed = RuleSet::parse(&[], &IgnoreFiles(Vec::new()), &settings);
    assert!(parsed.rules.is_none() && parsed.problems[0].to_string().contains("va.ignore_files: no such file"));
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
