use std::collections::BTreeMap;
use std::ffi::OsString;

use serde_json::{Value, json};

use super::*;
use crate::policy::documents::Materials;
use crate::policy::{Document, Parsed, Requirement, RuleSet, Selection, Settings, Subject};
use crate::x509::tests::{MadeCertificate, end_entity, key, revocation_list, signed_list};

/// Files in memory.
#[derive(Default)]
struct Files(BTreeMap<String, Vec<u8>>);

impl Materials for Files {
    fn file(&self, _: &str, path: &str) -> Result<Vec<u8>, String> {
        self.0.get(path).cloned().ok_or_else(|| "no such file".into())
    }

    fn folder(&self, _: &str, path: &str) -> Result<Vec<OsString>, String> {
        let inside = self.0.keys().filter_map(|name| name.strip_prefix(&format!("{path}/")));
        let names: Vec<_> = inside.map(OsString::from).collect();
        if names.is_empty() { Err("no such folder".into()) } else { Ok(names) }
    }

    fn secret(&self, _: &str, _: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        None
    }

    fn secret_namespaces(&self) -> Vec<String> {
        Vec::new()
    }
}

fn pem(made: &MadeCertificate) -> Vec<u8> {
    use base64::Engine as _;
    let body = base64::engine::general_purpose::STANDARD.encode(made.certificate.der());
    format!("-----BEGIN CERTIFICATE-----\n{body}\n-----END CERTIFICATE-----\n").into_bytes()
}

/// notation's configuration directory, with one trust store of each type.
fn folder() -> Files {
    let [ca, sa, tsa] = ["O=ca", "O=sa", "O=tsa"].map(MadeCertificate::root);
    let files = [
        ("truststore/x509/ca/acme/root.crt", pem(&ca)),
        ("truststore/x509/ca/acme/second.cer", MadeCertificate::root("O=second").certificate.der().to_vec()),
        ("truststore/x509/signingAuthority/acme/sa.pem", pem(&sa)),
        ("truststore/x509/tsa/acme/tsa.pem", pem(&tsa)),
    ];
    Files(files.into_iter().map(|(path, bytes)| (path.to_owned(), bytes)).collect())
}

fn statement() -> Value {
    json!({
        "name": "acme",
        "registryScopes": ["registry.acme.com/app", "docker.io/library/nginx"],
        "signatureVerification": {"level": "strict"},
        "trustStores": ["ca:acme", "signingAuthority:acme", "tsa:acme"],
        "trustedIdentities": ["x509.subject: C=US, ST=WA, O=Acme\\, Inc."]
    })
}

/// The statement with other values at JSON pointers; null removes a key.
fn with(changes: &[(&str, Value)]) -> Value {
    let mut statement = statement();
    for (pointer, value) in changes {
        let (parent, key) = pointer.rsplit_once('/').unwrap();
        let parent = statement.pointer_mut(parent).unwrap().as_object_mut().unwrap();
        match value {
            Value::Null => drop(parent.remove(key)),
            value => drop(parent.insert(key.to_owned(), value.clone())),
        }
    }
    statement
}

fn parse(files: &mut Files, statements: &[Value]) -> Parsed {
    // Tabs, as some editors indent JSON.
    let policy = json!({"version": "1.0", "trustPolicies": statements});
    let text = serde_json::to_string_pretty(&policy).unwrap().replace("  ", "\t");
    files.0.insert("trustpolicy.json".into(), text.into_bytes());
    document(files, "{trustPolicy: {file: trustpolicy.json}, trustStore: truststore}")
}

fn document(files: &Files, notation: &str) -> Parsed {
    let text = format!(
        "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {{name: p}}\nspec:\n  authorities:\n  - \
         name: a\n    notation: {notation}\n  repositories: [{{name: '*', policy: {{trust: a}}}}]\n"
    );
    RuleSet::parse(&[Document { path: "p.yaml".into(), text }], files, &Settings::default())
}

fn trust(parsed: &Parsed) -> NotationTrust {
    let image: crate::oci::ImageReference = "registry.acme.com/app:v1".parse().unwrap();
    let subject = Subject::new(image.name.clone(), image.reference(), crate::scope::Scope::CLUSTER);
    let rules = parsed.rules.as_ref().unwrap_or_else(|| panic!("{:#?}", parsed.problems));
    let Selection::Entries { enforced, .. } = rules.select(&subject) else { panic!() };
    let rule = enforced[0].rule.clone().unwrap();
    let Some(Requirement::Authority(authority)) = &rule.trust else { panic!("{rule:?}") };
    let Scheme::Notation(trust) = authority.scheme() else { panic!() };
    NotationTrust::clone(trust)
}

fn said(parsed: &Parsed) -> String {
    parsed.problems.iter().map(|problem| format!("{problem}\n")).collect()
}

#[test]
fn notations_own_files_are_read() {
    let mut files = folder();
    let all = with(&[("/name", json!("all")), ("/registryScopes", json!(["*"])), ("/trustedIdentities", json!(["*"]))]);
    let parsed = parse(&mut files, &[all, statement()]);
    let trust = trust(&parsed);
    assert_eq!(said(&parsed), "");
    let of = |name: &str| {
        let statement = trust.statement(&name.parse::<crate::oci::ImageReference>().unwrap().name).unwrap();
        (statement.name.clone(), statement.checks.clone().unwrap())
    };
    assert_eq!(of("nginx").0, "acme", "scopes name the upstream, whatever the client wrote");
    assert_eq!(of("registry.acme.com/app/child").0, "all", "scopes are exact");
    let (name, checks) = of("registry.acme.com/app");
    assert_eq!((&*name, &*checks.level), ("acme", "strict"));
    let stores = |stored: &[StoredCertificate]| -> Vec<String> {
        stored.iter().map(|one| format!("{} {}", one.store, one.certificate)).collect()
    };
    assert_eq!(stores(&checks.authorities), ["ca:acme O=ca", "ca:acme O=second"]);
    assert_eq!(stores(&checks.signing_authorities), ["signingAuthority:acme O=sa"]);
    assert_eq!(stores(&checks.timestamp_authorities), ["tsa:acme O=tsa"]);
    assert_eq!(checks.timestamps, TimestampRule::Always);
    let expected = DistinguishedName::parse("C=US,ST=WA,O=Acme\\, Inc.").unwrap();
    assert_eq!(checks.identities, [CertificateSubject::Named(expected)]);
}

#[test]
fn levels_and_their_overrides() {
    use CheckAction::{Enforce, Log, Skip};
    for (verification, expected, level) in [
        (json!({"level": "strict"}), [Enforce, Enforce, Enforce, Enforce], "strict"),
        (json!({"level": "permissive"}), [Enforce, Log, Log, Log], "permissive"),
        (json!({"level": "audit"}), [Log, Log, Log, Log], "audit"),
        (
            json!({"level": "strict", "override": {"revocation": "skip", "expiry": "log"}}),
            [Enforce, Enforce, Log, Skip],
            "strict with expiry: log, revocation: skip",
        ),
        (
            json!({"level": "audit", "override": {"authenticity": "enforce", "authenticTimestamp": "enforce"}}),
            [Enforce, Enforce, Log, Log],
            "audit with authenticity: enforce, authenticTimestamp: enforce",
        ),
    ] {
        let changed = with(&[("/signatureVerification", verification.clone())]);
        let parsed = parse(&mut folder(), &[changed]);
        let checks = trust(&parsed).statements[0].checks.clone().unwrap();
        let actions = [checks.authenticity, checks.authentic_timestamp, checks.expiry, checks.revocation];
        assert_eq!((actions, &*checks.level), (expected, level), "{verification}");
        assert_eq!(said(&parsed).contains("signatures by anyone count"), expected[0] == Log, "{verification}");
    }
    let after = with(&[("/signatureVerification/verifyTimestamp", json!("afterCertExpiry"))]);
    let parsed = parse(&mut folder(), &[after]);
    let checks = trust(&parsed).statements[0].checks.clone().unwrap();
    assert_eq!(checks.timestamps, TimestampRule::AfterCertificateExpiry);
    let skip = with(&[
        ("/signatureVerification/level", json!("skip")),
        ("/trustStores", Value::Null),
        ("/trustedIdentities", Value::Null),
    ]);
    let parsed = parse(&mut folder(), &[skip]);
    assert_eq!(trust(&parsed).statements[0].checks, None);
    assert!(said(&parsed).contains("need no signature"), "{}", said(&parsed));
}

#[test]
fn mistakes_in_a_trust_policy_are_reported_with_their_place() {
    let same = |name: &str| with(&[("/name", json!(name))]);
    let skip = |scopes: Value| {
        with(&[
            ("/signatureVerification/level", json!("skip")),
            ("/registryScopes", scopes),
            ("/trustStores", Value::Null),
            ("/trustedIdentities", Value::Null),
        ])
    };
    let subject = |name: &str| json!([format!("x509.subject:{name}")]);
    for (statements, part) in [
        (vec![], "trustPolicies must have 1 to"),
        (vec![with(&[("/name", json!(""))])], "name of a trust policy statement is empty"),
        (vec![with(&[("/name", Value::Null)])], "name of a trust policy statement is missing"),
        (vec![same("a"), same("a")], "two statements are called \"a\""),
        (vec![same("a"), same("b")], "share the scope registry.acme.com/app"),
        (vec![with(&[("/registryScope", json!([]))])], "did you mean \"registryScopes\"?"),
        (vec![with(&[("/registryScopes", json!([]))])], "registryScopes is missing or empty"),
        (vec![with(&[("/registryScopes", json!(["*", "a.io/b"]))])], "must be the only registry scope"),
        (vec![with(&[("/registryScopes", json!(["a.io/*"]))])], "is not a registry scope"),
        (vec![with(&[("/registryScopes", json!(["https://a.io/b"]))])], "is not a registry scope"),
        (vec![with(&[("/registryScopes", json!(["a.io/b:v1"]))])], "is not a registry scope"),
        (vec![with(&[("/registryScopes", json!(["nginx"]))])], "is not a registry scope"),
        (vec![with(&[("/signatureVerification", Value::Null)])], "signatureVerification of a trust policy statement"),
        (vec![with(&[("/signatureVerification/level", json!("Strict"))])], "level must be one of"),
        (vec![with(&[("/signatureVerification/overide", json!({}))])], "did you mean \"override\"?"),
        (vec![with(&[("/signatureVerification/override", json!({"integrity": "log"}))])], "unknown key \"integrity\""),
        (vec![with(&[("/signatureVerification/override", json!({"expiry": "skip"}))])], "expiry cannot be skipped"),
        (vec![with(&[("/signatureVerification/override", json!({"expiry": "warn"}))])], "must be one of enforce"),
        (vec![with(&[("/signatureVerification/verifyTimestamp", json!("never"))])], "must be one of always"),
        (vec![skip(json!(["*"]))], "the level skip cannot be used with the scope *"),
        (vec![with(&[("/signatureVerification/level", json!("skip"))])], "uses no trustStores"),
        (vec![with(&[("/trustStores", json!([]))])], "names no certificates of signers"),
        (vec![with(&[("/trustStores", json!(["tsa:acme"]))])], "names no certificates of signers"),
        (vec![with(&[("/trustStores", json!(["acme"]))])], "is not TYPE:NAME"),
        (vec![with(&[("/trustStores", json!(["root:acme"]))])], "must be one of ca, signingAuthority, tsa"),
        (vec![with(&[("/trustStores", json!(["ca:../acme"]))])], "a name has letters"),
        (vec![with(&[("/trustStores", json!(["ca:.."]))])], "a name has letters"),
        (vec![with(&[("/trustStores", json!(["ca:other"]))])], "no such folder"),
        (vec![with(&[("/trustedIdentities", json!([]))])], "trustedIdentities is missing or empty"),
        (vec![with(&[("/trustedIdentities", json!(["*", "*"]))])], "must be the only identity"),
        (vec![with(&[("/trustedIdentities", json!(["CN=x"]))])], "must begin with x509.subject:"),
        (vec![with(&[("/trustedIdentities", subject("C=US,ST=WA"))])], "has no O"),
        (vec![with(&[("/trustedIdentities", subject("CN=x"))])], "has no C, ST, O"),
        (vec![with(&[("/trustedIdentities", subject("C=US,ST=WA,O=x+OU=y"))])], "joins attributes with +"),
        (vec![with(&[("/trustedIdentities", subject("C=US,ST=WA,O=x,O=y"))])], "O more than once"),
        (
            vec![with(&[(
                "/trustedIdentities",
                json!(["x509.subject: C=US,ST=WA,O=x", "x509.subject: OU=y,C=US,S=WA,O=x"]),
            )])],
            "overlap",
        ),
    ] {
        let parsed = parse(&mut folder(), &statements);
        let said = said(&parsed);
        assert!(parsed.rules.is_none() && said.contains(part), "{statements:#?}\n{said}");
        let place = said.lines().find(|line| line.contains(part)).unwrap();
        assert!(place.starts_with("trustpolicy.json:"), "{said}");
    }
}

#[test]
fn trust_stores_hold_nothing_but_certificates_that_can_be_trusted() {
    let root = MadeCertificate::root("O=root");
    let leaf = root.issue(end_entity("O=leaf"), key(&rcgen::PKCS_ECDSA_P256_SHA256));
    let own = MadeCertificate::self_signed(end_entity("O=own"), key(&rcgen::PKCS_ECDSA_P256_SHA256));
    let private = b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".to_vec();
    for (path, bytes, part) in [
        ("ca/acme/leaf.crt", pem(&leaf), "O=leaf: is neither a certificate authority nor self-signed"),
        ("tsa/acme/own.crt", pem(&own), "O=own: is not a root certificate"),
        ("ca/acme/key.pem", private, "contains a private key"),
        ("ca/acme/README", b"see the wiki".to_vec(), "no CERTIFICATE block in it"),
        ("ca/acme/broken.crt", vec![0x30, 0x00], "not an X.509 certificate in DER"),
    ] {
        let mut files = folder();
        files.0.insert(format!("truststore/x509/{path}"), bytes);
        let said = said(&parse(&mut files, &[statement()]));
        assert!(said.contains(part) && said.contains(path), "{path}: {said}");
    }
    // A signing certificate that signed itself may be trusted, as `notation cert generate-test` makes it.
    let mut files = folder();
    files.0.insert("truststore/x509/ca/acme/own.crt".into(), pem(&own));
    assert_eq!(said(&parse(&mut files, &[statement()])), "");
}

#[test]
fn the_shape_of_the_authority() {
    let mut files = folder();
    files.0.insert("root.pem".into(), pem(&MadeCertificate::root("O=root")));
    files.0.insert("leaf.pem".into(), {
        let root = MadeCertificate::root("O=root");
        pem(&root.issue(end_entity("O=leaf"), key(&rcgen::PKCS_ECDSA_P256_SHA256)))
    });
    let list = signed_list(&MadeCertificate::root("O=root"), &revocation_list(1, &[]));
    files.0.insert("crls/a.crl".into(), list.clone());
    files.0.insert("broken/a.crl".into(), vec![0x30, 0]);
    let subject = "\"x509.subject: C=US, ST=WA, O=x\"";
    let short = |more: &str| format!("{{certificates: [{{file: root.pem}}], identities: [{subject}]{more}}}");
    let parsed = document(&files, &short(", revocationLists: crls"));
    let read = trust(&parsed);
    let checks = read.statements[0].checks.clone().unwrap();
    assert_eq!((&*checks.level, checks.revocation), ("strict", CheckAction::Enforce));
    assert_eq!((&*read.revocation_lists[0].path, read.revocation_lists[0].list.der()), ("crls/a.crl", &*list));
    for (notation, part) in [
        ("{}".to_owned(), "certificates is missing or empty"),
        ("{certificates: [{file: root.pem}]}".to_owned(), "identities of notation is missing"),
        ("{certificates: [{file: leaf.pem}], identities: [\"*\"]}".to_owned(), "is neither a certificate authority"),
        (short(", trustStore: truststore"), "unknown key \"certificates\""),
        (short(", revocationLists: broken"), "broken/a.crl: not a certificate revocation list"),
        (short(", revocationLists: none"), "revocationLists: folder \"none\": no such folder"),
        ("{trustStore: truststore}".to_owned(), "trustPolicy of notation is missing"),
        ("{trustPolicy: {file: absent.json}, trustStore: truststore}".to_owned(), "no such file"),
        (
            "{trustPolicy: {data: \"[1\"}, trustStore: truststore}".to_owned(),
            "p.yaml: trustPolicy:2:1: error: not YAML",
        ),
        ("{trustPolicy: {data: \"{}\"}, trustStore: truststore}".to_owned(), "version of the trust policy is missing"),
        ("{trustPolicy: {data: \"{version: '2.0'}\"}, trustStore: x}".to_owned(), "is not supported"),
        ("{trustPolicy: {data: \"{a: 1, a: 2}\"}, trustStore: x}".to_owned(), "duplicate key"),
        ("{trustPolicy: {data: \"{}\"}}".to_owned(), "trustStore of notation is missing"),
    ] {
        let parsed = document(&files, &notation);
        assert!(parsed.rules.is_none() && said(&parsed).contains(part), "{notation}: {}", said(&parsed));
    }
}
