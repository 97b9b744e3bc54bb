mod stores;

use std::fs;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use proptest::prelude::*;

use super::*;
use crate::oci::{ImageReference, Reference};
use crate::policy::{Authority, Document, NoMaterials, Requirement, RuleSet, Scheme, Selection, Settings, Subject};
use crate::scope::Scope;

const KEY: &str = "-----BEGIN PUBLIC KEY-----\nMCowBQYDK2VwAyEAgEM2qWKB9QksW74PHPVC+47Yf+x99A8y26pZBs6eDo0=\n-----END PUBLIC KEY-----\n";
/// An Ed25519 key that `gpg` made.
const RING: &str = include_str!("../../../../tests/data/gpg/ring.asc");

/// The document and the notes of an import.
fn imported(policy: &Value, registries: &[&str]) -> (String, String) {
    try_import(policy.to_string().as_bytes(), registries).unwrap()
}

fn try_import(policy: &[u8], registries: &[&str]) -> Result<(String, String), String> {
    let dir = tempfile::tempdir().unwrap();
    let (file, folder) = (dir.path().join("policy.json"), dir.path().join("registries.d"));
    fs::write(&file, policy).unwrap();
    fs::create_dir(&folder).unwrap();
    for (index, text) in registries.iter().enumerate() {
        fs::write(folder.join(format!("{index}.yaml")), text).unwrap();
    }
    let (mut out, mut err) = (Vec::new(), Vec::new());
    let code = import(&file, Some(&folder), &mut Streams { out: &mut out, err: &mut err }).unwrap();
    let (out, err) = (String::from_utf8(out).unwrap(), String::from_utf8(err).unwrap());
    if code == EXIT_OK { Ok((out, err)) } else { Err(err) }
}

/// The rules of a document, which has no problems at all.
fn rules(text: &str) -> RuleSet {
    let document = Document { path: "imported.yaml".into(), text: text.to_owned() };
    let parsed = RuleSet::parse(&[document], &NoMaterials, &Settings::default());
    assert!(parsed.problems.is_empty(), "{:?}\n{text}", parsed.problems);
    parsed.rules.unwrap()
}

/// What is required for an image; `None` if nothing is.
fn required(rules: &RuleSet, image: &str) -> Option<Requirement> {
    let image: ImageReference = image.parse().unwrap();
    let reference = image.reference();
    let subject = Subject::new(image.name, reference, Scope::CLUSTER);
    let Selection::Entries { enforced, .. } = rules.select(&subject) else { panic!("{subject} matches nothing") };
    enforced[0].rule.as_ref().and_then(|rule| rule.trust.clone())
}

fn authority(requirement: Option<Requirement>) -> std::sync::Arc<Authority> {
    match requirement {
        Some(Requirement::Authority(authority)) => authority,
        other => panic!("{other:?}"),
    }
}

fn store_of(rules: &RuleSet, image: &str) -> Option<String> {
    match authority(required(rules, image)).scheme() {
        Scheme::Gpg(signer) => signer.store.as_ref().map(|store| store.base.to_string()),
        other => panic!("{other:?}"),
    }
}

fn signed_by() -> Value {
    json!({"type": "signedBy", "keyType": "GPGKeys", "keyData": STANDARD.encode(RING)})
}

const ACCEPT: &str = "insecureAcceptAnything";

/// A policy whose scopes accept or reject everything.
fn policy_of(default: &str, docker: &[(&str, &str)]) -> Value {
    let list = |kind: &str| json!([{"type": kind}]);
    let scopes: serde_json::Map<_, _> = docker.iter().map(|(scope, kind)| ((*scope).to_owned(), list(kind))).collect();
    json!({"default": list(default), "transports": {"docker": scopes}})
}

/// The scopes of an image as containers/image tries them (`docker/policyconfiguration/naming.go`).
fn scopes_of(image: &ImageReference) -> Vec<String> {
    let name = image.name.to_string();
    let mut all = vec![match image.reference() {
        Reference::Tag(tag) => format!("{name}:{tag}"),
        Reference::Digest(digest) => format!("{name}@{digest}"),
    }];
    let mut name = &*name;
    loop {
        all.push(name.to_owned());
        match name.rfind('/') {
            Some(slash) => name = &name[..slash],
            None => break,
        }
    }
    let mut host = name.split(':').next().unwrap();
    while let Some(dot) = host.find('.') {
        host = &host[dot + 1..];
        all.push(format!("*.{host}"));
    }
    all
}

/// What containers/image requires: the list of the first scope that is in the policy.
fn reference_answer<'a>(default: &'a str, docker: &'a [(&'a str, &'a str)], image: &str) -> &'a str {
    let image: ImageReference = image.parse().unwrap();
    let of = |scope: &str| docker.iter().find(|(known, _)| *known == scope).map(|(_, kind)| *kind);
    scopes_of(&image).iter().find_map(|scope| of(scope)).or(of("")).unwrap_or(default)
}

fn assert_same_answers(default: &str, docker: &[(&str, &str)], images: &[String]) {
    let (text, _) = imported(&policy_of(default, docker), &[]);
    let rules = rules(&text);
    for image in images {
        let here = if required(&rules, image).is_none() { ACCEPT } else { "reject" };
        assert_eq!(here, reference_answer(default, docker, image), "{image} in {docker:?}\n{text}");
    }
}

fn images() -> Vec<String> {
    let digest = format!("@sha256:{}", "a".repeat(64));
    let names = [
        "busybox",
        "library/other",
        "docker.io/a/b",
        "docker.io/busybox/c",
        "docker.io/a/b/c",
        "example.com/a",
        "example.com/a/b",
        "example.com/ab",
        "example.com:5000/a",
        "sub.example.com/a",
        "deep.sub.example.com/a",
        "sub.example.com:5000/a/b",
        "badexample.com/a",
        "com/a",
        "localhost/a",
        "localhost:5000/a",
        "other.org/a",
        "docker.io/example.com/a",
    ];
    let with = |suffix: &str| names.iter().map(|name| format!("{name}{suffix}")).collect::<Vec<_>>();
    [with(""), with(":latest"), with(":v1"), with(&digest)].concat()
}

#[test]
fn the_most_specific_scope_decides_as_in_containers_image() {
    let digest = format!("example.com/a@sha256:{}", "a".repeat(64));
    let scopes = [
        "",
        "docker.io",
        "docker.io/library",
        "docker.io/library/busybox",
        "docker.io/library/busybox:latest",
        "docker.io/library/busybox:v1",
        "docker.io/a",
        "docker.io/a/b",
        "docker.io/busybox",
        "example.com",
        "example.com/a",
        "example.com/a/b",
        "example.com/a:v1",
        "example.com:5000",
        "example.com:5000/a",
        "sub.example.com",
        "sub.example.com:5000",
        "*.example.com",
        "*.sub.example.com",
        "*.com",
        "localhost",
        "localhost:5000/a",
        &digest,
    ];
    let images = images();
    for (index, one) in scopes.iter().enumerate() {
        assert_same_answers("reject", &[(one, ACCEPT)], &images);
        assert_same_answers(ACCEPT, &[(one, "reject")], &images);
        for other in &scopes[index + 1..] {
            assert_same_answers(ACCEPT, &[(one, "reject"), (other, ACCEPT)], &images);
            assert_same_answers("reject", &[(one, ACCEPT), (other, "reject")], &images);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_scopes_decide_as_in_containers_image(
        scopes in prop::collection::btree_map(
            "((example|sub[.]example)[.]com(:5000)?|docker[.]io|[*][.](example[.])?com)|(example[.]com|docker[.]io/library)(:5000)?(/[ab]){1,3}(:v1)?",
            any::<bool>(), 0..6),
        default in any::<bool>(),
        names in prop::collection::vec("((sub[.])?example[.]com(:5000)?(/[ab]){1,4}|[ab](/[ab])?)(:v1|:latest)?", 1..8),
    ) {
        let kind = |accepted: bool| if accepted { ACCEPT } else { "reject" };
        let scopes: Vec<_> = scopes.iter().map(|(scope, accepted)| (&**scope, kind(*accepted))).collect();
        assert_same_answers(kind(default), &scopes, &names);
    }

    #[test]
    fn no_policy_makes_the_import_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), text in "[{}\"a-z:,\\[\\] ]{0,80}") {
        drop(ContainersPolicy::parse(&bytes));
        drop(ContainersPolicy::parse(text.as_bytes()));
        drop(SignatureStores::default().add("f.yaml", &text));
        drop(DockerScope::parse(&text));
    }
}

/// Scopes that match nothing in containers/image match nothing here, although they would as patterns.
#[test]
fn scopes_that_match_nothing_are_left_out() {
    for scope in [
        "*",
        "*foo.com",
        "a*.example.com",
        "*.example.com/a",
        "*.*.com",
        "*.",
        "example.com/*",
        "busybox",
        "library/busybox",
        "index.docker.io/library/busybox",
        "registry-1.docker.io",
        "docker.io/busybox:latest",
        "user@example.com",
        "",
    ] {
        let docker = [(scope, ACCEPT)];
        let (text, notes) = imported(&policy_of("reject", &docker[..usize::from(!scope.is_empty())]), &[]);
        assert_eq!(text.matches("{name: ").count(), 2, "{scope}: {text}");
        assert!(scope.is_empty() || notes.contains("it is ignored"), "{scope}: {notes}");
    }
}

#[test]
fn every_requirement_has_its_form_here() {
    let by_repository = json!({"type": "matchRepository"});
    let sigstore =
        |key: &str, value: Value| json!({"type": "sigstoreSigned", key: value, "signedIdentity": by_repository});
    let encoded = STANDARD.encode(KEY);
    let with_identity = |identity: Value| {
        let mut signed = signed_by();
        signed["signedIdentity"] = identity;
        signed
    };
    let policy = json!({
        "default": [{"type": "reject"}],
        "transports": {
            "docker-daemon": {"": [{"type": ACCEPT}]},
            "docker": {
                "a.io/accepted": [{"type": ACCEPT}],
                "a.io/signed": [signed_by()],
                "a.io/also": [{"type": ACCEPT}, signed_by()],
                "a.io/never": [signed_by(), {"type": "reject"}],
                "a.io/both": [signed_by(), with_identity(json!({"type": "matchRepository"}))],
                "a.io/exact": [with_identity(json!({"type": "exactReference", "dockerReference": "b.io/c:v1"}))],
                "a.io/remap": [with_identity(json!({"type": "remapIdentity", "prefix": "a.io", "signedPrefix": "b.io"}))],
                "a.io/base": [{"type": "signedBaseLayer", "baseLayerIdentity": {}}],
                "a.io/fulcio": [{"type": "sigstoreSigned", "fulcio": {"caPath": "/ca", "oidcIssuer": "i", "subjectEmail": "e"},
                                 "rekorPublicKeyPath": "/k"}],
                "a.io/pki": [{"type": "sigstoreSigned", "pki": {"caRootsPath": "/r", "subjectEmail": "e"}}],
                "a.io/cosign": [sigstore("keyData", json!(encoded))],
                "a.io/tag": [{"type": "sigstoreSigned", "keyData": encoded}],
                "a.io/log": [{"type": "sigstoreSigned", "keyData": encoded, "rekorPublicKeyData": encoded}],
            }
        }
    });
    let (text, notes) = imported(&policy, &[]);
    let rules = rules(&text);
    let of = |name: &str| required(&rules, &format!("a.io/{name}:v1"));
    assert_eq!(
        (of("accepted"), of("never"), of("unknown")),
        (None, Some(Requirement::Reject), Some(Requirement::Reject))
    );
    assert_eq!(authority(of("signed")).scheme(), authority(of("also")).scheme());
    let Some(Requirement::AllOf(both)) = of("both") else { panic!("{text}") };
    assert!(both.contains(&of("signed").unwrap()));
    let identity = |name: &str| match authority(of(name)).scheme() {
        Scheme::Gpg(signer) => signer.identity.to_string(),
        other => panic!("{other:?}"),
    };
    assert_eq!(identity("signed"), "matchRepoDigestOrExact");
    assert_eq!(identity("exact"), "exactReference b.io/c:v1");
    assert_eq!(identity("remap"), "remapIdentity a.io to b.io");
    assert!(matches!(authority(of("cosign")).scheme(), Scheme::Cosign(_)), "{text}");
    for denied in ["base", "fulcio", "pki", "log", "tag"] {
        assert_eq!(of(denied), Some(Requirement::Reject), "{denied}");
        assert!(notes.contains(&format!("a.io/{denied}: ")), "{notes}");
    }
    assert!(notes.contains("transports.docker-daemon is not a registry transport"), "{notes}");
}

/// The paths of key files stay as they are.
#[test]
fn key_files_keep_their_paths() {
    let identity = json!({"type": "matchRepository"});
    let sigstore = |key: &str, value: Value| json!({"type": "sigstoreSigned", key: value, "signedIdentity": identity});
    for (key, value) in [("keyPath", json!("/k")), ("keyPaths", json!(["/k"]))] {
        let mut signed = json!({"type": "signedBy", "keyType": "GPGKeys"});
        signed[key] = value.clone();
        for requirement in [signed, sigstore(key, value)] {
            let (text, _) = imported(&json!({"default": [requirement]}), &[]);
            assert!(text.contains("[{\"file\":\"/k\"}]"), "{text}");
        }
    }
}

/// A binary ring in `keyData` becomes text.
#[test]
fn binary_rings_are_armoured() {
    let body: String = RING.lines().filter(|line| !line.starts_with(['-', '=']) && !line.is_empty()).collect();
    let mut requirement = signed_by();
    requirement["keyData"] = json!(body);
    let binary = imported(&json!({"default": [requirement]}), &[]).0;
    let text = imported(&json!({"default": [signed_by()]}), &[]).0;
    let signers = |text: &str| authority(required(&rules(text), "a.io/b:v1")).signers();
    assert_eq!(signers(&binary), signers(&text));
}

#[test]
fn files_that_containers_image_does_not_use_are_not_imported() {
    let signed = |key: &str, value: Value| {
        let mut signed = signed_by();
        signed[key] = value;
        json!({"default": [signed]}).to_string()
    };
    for (policy, reason) in [
        ("{}".to_owned(), "default is missing"),
        ("[]".to_owned(), "is not an object"),
        ("{\"default\": []}".to_owned(), "default is empty"),
        ("{\"default\": [{\"type\": \"reject\"}], \"default\": [{\"type\": \"reject\"}]}".to_owned(), "duplicate"),
        ("{\"default\": [{\"type\": \"reject\"}], \"Transports\": {}}".to_owned(), "unknown key"),
        ("{\"default\": [{\"type\": \"Reject\"}]}".to_owned(), "no known type"),
        ("{\"default\": [{\"type\": \"reject\", \"why\": 1}]}".to_owned(), "unknown key"),
        (signed("keyType", json!("X509")), "keyType"),
        (signed("keyPath", json!("/k")), "exactly one of"),
        (signed("keyData", json!("?")), "is not base64"),
        (signed("keyData", json!(["a"])), "must be a text"),
        (signed("signedIdentity", json!({"type": "matchNothing"})), "no known type"),
        (signed("signedIdentity", json!({"type": "exactReference"})), "dockerReference is missing"),
        (signed("signedIdentity", json!({"type": "matchExact", "prefix": "a"})), "unknown key"),
    ] {
        let error = try_import(policy.as_bytes(), &[]).unwrap_err();
        assert!(error.contains(reason), "{error} does not contain {reason}");
    }
    let accept = policy_of(ACCEPT, &[]).to_string();
    for (registries, reason) in [
        (vec!["docker: {a.io: {lookasides: x}}"], "unknown key"),
        (vec!["dockers: {}"], "unknown key"),
        (vec!["docker: {a.io: {lookaside: 'https://s'}}", "docker: {a.io: {lookaside: 'https://t'}}"], "twice"),
        (vec!["default-docker: {lookaside: 'https://s'}", "default-docker: {lookaside: 'https://t'}"], "twice"),
    ] {
        let error = try_import(accept.as_bytes(), &registries).unwrap_err();
        assert!(error.contains(reason), "{error} does not contain {reason}");
    }
}
