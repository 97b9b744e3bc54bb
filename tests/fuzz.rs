//! Arbitrary bytes and mutated valid documents: no parser panics, and every accepted document is interpreted as Go
//! clients would.

#![allow(clippy::unwrap_used, reason = "a failure of the test itself may panic")]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use bytes::Bytes;
use proptest::prelude::*;
use pullgate::oci::payload::{Envelope, IN_TOTO, Jws, SimpleSigning, Statement, StatementBody};
use pullgate::oci::{Content, Digest, Endpoint, Manifest, Route};
use pullgate::policy::{Certificate, Document, KeyRing, Materials, RuleSet, Settings, SignerKey, TrustedRoot};
use pullgate::x509::{DistinguishedName, RevocationList, X509Certificate};
use rcgen::{CertificateParams, CertificateRevocationListParams, Issuer, KeyPair, KeyUsagePurpose, RevokedCertParams};
use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Value, json};

#[path = "fuzz/deep.rs"]
mod deep;
#[path = "fuzz/go.rs"]
mod go;
#[path = "support/mutate.rs"]
mod mutate;

use go::Go;
use mutate::{Step, mutated, mutated_json};

fn valid() -> Vec<String> {
    let descriptor = |n: u8, extra: &str| {
        format!(
            r#"{{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip","digest":"{}","size":{n}{extra}}}"#,
            Digest::sha256(&[n])
        )
    };
    let platform = r#","platform":{"os":"linux","architecture":"amd64"},"annotations":{"a":"b"}"#;
    vec![
        format!(
            r#"{{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{},"layers":[{},{}],"annotations":{{"k":"v"}}}}"#,
            descriptor(1, ""),
            descriptor(2, ""),
            descriptor(3, platform)
        ),
        format!(
            r#"{{"schemaVersion":2,"manifests":[{},{}],"subject":{}}}"#,
            descriptor(4, platform),
            descriptor(5, ""),
            descriptor(6, "")
        ),
    ]
}

/// Mutations that an attacker might try, on the text, so that duplicates and spellings survive.
fn mutate(text: &str, kind: u8, at: usize, other: usize) -> String {
    let keys = [
        "schemaVersion",
        "mediaType",
        "config",
        "layers",
        "manifests",
        "digest",
        "size",
        "platform",
        "subject",
        "annotations",
    ];
    let key = keys[at % keys.len()];
    let quoted = format!("\"{key}\"");
    let layer = format!(r#"{{"digest":"{}","size":9}}"#, Digest::sha256(b"evil"));
    let value =
        ["null", "[]", "{}", "7", "1.5", "-1", "\"x\"", "true", &format!("[{layer}]"), &layer][other % 10].to_owned();
    let folded = match other % 4 {
        0 => key.to_uppercase(),
        1 => key.replacen('s', "\u{17f}", 1),
        2 => key.replacen('k', "\u{212a}", 1),
        _ => format!("{}{}", key[..1].to_uppercase(), &key[1..]),
    };
    let end = text.rfind('}').unwrap_or_default();
    match kind % 8 {
        0 => format!("{},{quoted}:{value}}}", &text[..end]),
        1 => format!("{},\"{folded}\":{value}}}", &text[..end]),
        2 => text.replacen(&quoted, &format!("\"{folded}\""), 1 + other % 3),
        3 => text.replacen(&quoted, &format!("{quoted}:{value},{quoted}"), 1),
        4 => text.replacen("\"size\":", &format!("\"size\":{value},\"size\":"), 1),
        5 => text.replacen(&format!("{quoted}:"), &format!("{quoted}:{value},\"x\":"), 1),
        6 => text.chars().take(text.chars().count() * (other % 100) / 100).collect(),
        _ => format!("{text}{value}"),
    }
}

fn agrees_with_go(bytes: &[u8]) {
    let Ok(manifest) = Manifest::parse(Bytes::copy_from_slice(bytes), None) else { return };
    let go: Go = serde_json::from_slice(bytes).expect("accepted documents are JSON");
    let own = |d: &pullgate::oci::Descriptor| (Some(d.digest.to_string()), i64::try_from(d.size).ok());
    let theirs = |list: Vec<(Option<&str>, Option<i64>)>| {
        list.into_iter().map(|(d, s)| (d.map(str::to_owned), s)).collect::<Vec<_>>()
    };
    match &manifest.content {
        Content::Index(children) => {
            assert_eq!(children.iter().map(own).collect::<Vec<_>>(), theirs(go.list("manifests")));
            assert!(go.field("layers").is_none() && go.field("config").is_none(), "a client would see an image too");
        }
        Content::Image { config, layers } => {
            assert_eq!(layers.iter().map(own).collect::<Vec<_>>(), theirs(go.list("layers")));
            let theirs = go.field("config").map(|config| (config.digest().map(str::to_owned), config.size()));
            assert_eq!(Some(own(config)), theirs);
            assert!(go.field("manifests").is_none(), "a client would see an index too");
        }
    }
    assert_eq!(manifest.digest, Digest::sha256(bytes));
}

#[test]
fn the_model_detects_attacks() {
    let text = valid().remove(0);
    agrees_with_go(text.as_bytes());
    let attacked: Go = serde_json::from_str(&mutate(&text, 1, 3, 8)).unwrap();
    assert_ne!(attacked.list("layers").len(), 2, "Go takes the layers of the folded key");
    assert!(Manifest::parse(Bytes::from(mutate(&text, 1, 3, 8)), None).is_err());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, ..ProptestConfig::default() })]

    #[test]
    fn mutated_manifests_are_refused_or_interpreted_as_in_go(
        which in 0usize..2,
        steps in prop::collection::vec((any::<u8>(), any::<usize>(), any::<usize>()), 1..4),
        flip in prop::option::of((any::<usize>(), any::<u8>())),
    ) {
        let mut text = valid().remove(which);
        for (kind, at, other) in steps {
            text = mutate(&text, kind, at, other);
        }
        let mut bytes = text.into_bytes();
        if let Some((at, byte)) = flip.filter(|_| !bytes.is_empty()) {
            let at = at % bytes.len();
            bytes[at] = byte;
        }
        agrees_with_go(&bytes);
    }

    #[test]
    fn arbitrary_bytes_cause_no_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        agrees_with_go(&bytes);
        let text = String::from_utf8_lossy(&bytes);
        let _ = Route::parse(&text, Some(&text));
        let _ = Route::parse(&format!("/v2/{text}"), None);
    }

    /// An accepted path consists of the parsed parts and nothing else.
    #[test]
    fn accepted_routes_round_trip(path in "/v2/[a-z0-9._/%:A-Z-]{1,60}(/manifests/|/blobs/|/tags/)[a-z0-9:._-]{1,80}") {
        if let Ok(route) = Route::parse(&path, None) {
            let printed = match &route.endpoint {
                None => "/v2/".to_owned(),
                Some(Endpoint::Blob { name, digest }) => format!("/v2/{name}/blobs/{digest}"),
                Some(Endpoint::Manifest { name, reference }) => format!("/v2/{name}/manifests/{reference}"),
                Some(Endpoint::Referrers { name, digest, .. }) => format!("/v2/{name}/referrers/{digest}"),
                Some(Endpoint::Tags { name, .. }) => format!("/v2/{name}/tags/list"),
            };
            prop_assert_eq!(printed, path);
        }
    }
}

proptest! {
    /// Certificates, revocation lists and names come from signatures and from trust stores.
    #[test]
    fn certificates_and_names_never_make_their_readers_panic(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let sequence = [&[0x30, 0x82, 0x01, 0x00][..], &bytes].concat();
        for bytes in [&bytes[..], &sequence] {
            prop_assert!(X509Certificate::from_der(bytes).is_err());
            prop_assert!(RevocationList::from_der(bytes).is_err());
        }
        if let Ok(name) = DistinguishedName::parse(&String::from_utf8_lossy(&bytes)) {
            prop_assert_eq!(DistinguishedName::parse(&name.to_string()), Ok(name));
        }
    }
}

/// The longest time for reading one document, generous for a busy machine.
const MAX_TIME: Duration = Duration::from_secs(10);

fn steps() -> impl Strategy<Value = Vec<Step>> {
    prop::collection::vec(any::<Step>(), 1..5)
}

/// The payloads of signatures, each as a valid document.
fn payloads() -> Vec<Value> {
    let simple = |kind: &str| {
        json!({
            "critical": {
                "identity": {"docker-reference": "a.io/b:v1"},
                "image": {"docker-manifest-digest": Digest::sha256(b"image")},
                "type": kind
            },
            "optional": {"creator": "x", "timestamp": 1}
        })
    };
    let statement = json!({
        "_type": "https://in-toto.io/Statement/v1", "predicateType": "https://slsa.dev/provenance/v1",
        "subject": [{"digest": {"sha256": Digest::sha256(b"image").hex()}, "annotations": {"a": "b"}}],
        "predicate": {"buildDefinition": {"buildType": "x", "parameters": [1, {"deep": null}]}}
    });
    let envelope = json!({
        "payload": STANDARD.encode(statement.to_string()), "payloadType": IN_TOTO,
        "signatures": [{"sig": STANDARD.encode("signature"), "keyid": "k"}]
    });
    let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let jws = json!({
        "payload": part(&json!({"targetArtifact": {"digest": "d", "size": 1}})),
        "protected": part(&json!({"alg": "ES256", "crit": ["a"]})),
        "header": {"x5c": ["AA=="]}, "signature": "AAAA"
    });
    vec![simple("cosign container image signature"), simple("atomic container signature"), statement, envelope, jws]
}

/// Reads bytes as the payload of every kind of signature.
fn read_payload(bytes: &[u8]) {
    let image = Digest::sha256(b"image");
    for read in [SimpleSigning::parse(bytes), SimpleSigning::parse_openpgp(bytes)].into_iter().flatten() {
        // What Go reads, which does not mind duplicates and other cases of keys.
        let go: Go = serde_json::from_slice(bytes).unwrap();
        let critical = go.field("critical").unwrap();
        let text = |value: Option<&Go>| match value {
            Some(Go::Text(text)) => text.clone(),
            other => panic!("{other:?}"),
        };
        let digest = critical.field("image").unwrap().field("docker-manifest-digest");
        assert_eq!(text(digest), read.digest.to_string());
        assert_eq!(text(critical.field("identity").unwrap().field("docker-reference")), read.reference);
    }
    if let Ok(body) = StatementBody::parse(bytes, &[image]) {
        assert!(Statement::parse(bytes).is_ok() && body.subject.is_object());
    }
    let _ = (Envelope::parse(bytes), Statement::parse(bytes), Jws::parse(bytes));
}

/// A trust policy of notation, and a trust store.
struct NotationFolder(Vec<u8>);

impl Materials for NotationFolder {
    fn file(&self, _: &str, path: &str) -> Result<Vec<u8>, String> {
        match path {
            "trustpolicy.json" => Ok(self.0.clone()),
            _ => Ok(CERTIFICATES[0].clone()),
        }
    }

    fn folder(&self, _: &str, _: &str) -> Result<Vec<OsString>, String> {
        Ok(vec!["root.crt".into()])
    }

    fn secret(&self, _: &str, _: &str) -> Option<BTreeMap<String, Vec<u8>>> {
        None
    }

    fn secret_namespaces(&self) -> Vec<String> {
        Vec::new()
    }
}

fn trust_policy() -> Value {
    json!({
        "version": "1.0",
        "trustPolicies": [
            {
                "name": "a", "registryScopes": ["a.io/b", "a.io/c"],
                "signatureVerification": {
                    "level": "strict", "override": {"expiry": "log"}, "verifyTimestamp": "afterCertExpiry"
                },
                "trustStores": ["ca:acme", "tsa:acme"],
                "trustedIdentities": ["x509.subject: C=US, ST=WA, O=Acme"]
            },
            {"name": "b", "registryScopes": ["a.io/d"], "signatureVerification": {"level": "skip"}},
            {
                "name": "c", "registryScopes": ["*"], "signatureVerification": {"level": "audit"},
                "trustStores": ["ca:acme"], "trustedIdentities": ["*"]
            }
        ]
    })
}

/// The number of problems with a trust policy. If there is none, there are rules.
fn read_trust_policy(bytes: Vec<u8>) -> usize {
    let text = "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {name: p}\nspec:\n  authorities:\n  - \
                name: a\n    notation: {trustPolicy: {file: trustpolicy.json}, trustStore: truststore}\n  \
                repositories: [{name: '*', policy: {trust: a}}]\n";
    let document = Document { path: "p.yaml".into(), text: text.into() };
    let parsed = RuleSet::parse(&[document], &NotationFolder(bytes), &Settings::default());
    assert!(parsed.rules.is_some() || !parsed.problems.is_empty());
    parsed.problems.len()
}

/// A certificate of an authority in DER, and a list of what it revoked.
static CERTIFICATES: LazyLock<[Vec<u8>; 2]> = LazyLock::new(|| {
    let (mut params, key) = (CertificateParams::default(), KeyPair::generate().unwrap());
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let certificate = params.self_signed(&key).unwrap().der().to_vec();
    let issuer = Issuer::from_params(&params, &key);
    let revoked = RevokedCertParams {
        serial_number: 7u64.into(),
        revocation_time: rcgen::date_time_ymd(2024, 1, 1),
        reason_code: None,
        invalidity_date: None,
    };
    let list = CertificateRevocationListParams {
        this_update: rcgen::date_time_ymd(2024, 1, 1),
        next_update: rcgen::date_time_ymd(2025, 1, 1),
        crl_number: 1u64.into(),
        issuing_distribution_point: None,
        revoked_certs: vec![revoked],
        key_identifier_method: rcgen::KeyIdMethod::Sha256,
    };
    [certificate, list.signed_by(&issuer).unwrap().der().to_vec()]
});

/// An Ed25519 key that `gpg` made.
const RING: &str = include_str!("data/gpg/ring.asc");

fn pem(label: &str, der: &[u8]) -> String {
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
}

#[test]
fn the_documents_that_are_mutated_are_valid() {
    assert!(payloads().iter().all(|payload| {
        let bytes = payload.to_string().into_bytes();
        SimpleSigning::parse(&bytes).is_ok()
            || SimpleSigning::parse_openpgp(&bytes).is_ok()
            || Statement::parse(&bytes).is_ok()
            || Envelope::parse(&bytes).is_ok()
            || Jws::parse(&bytes).is_ok()
    }));
    assert!(X509Certificate::from_der(&CERTIFICATES[0]).is_ok());
    assert!(RevocationList::from_der(&CERTIFICATES[1]).is_ok());
    assert!(KeyRing::from_bytes(RING.as_bytes()).is_ok());
    assert_eq!(read_trust_policy(trust_policy().to_string().into()), 2, "warnings about audit and skip");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, ..ProptestConfig::default() })]

    /// The payloads of signatures: simple signing, DSSE envelopes with in-toto statements, JWS.
    #[test]
    fn mutated_payloads_are_refused_or_interpreted_as_in_go(which in 0usize..5, steps in steps()) {
        let valid = &payloads()[which];
        read_payload(&mutated(valid.to_string().as_bytes(), &steps));
        read_payload(mutated_json(valid, &steps).to_string().as_bytes());
    }

    #[test]
    fn mutated_key_rings_never_make_their_reader_panic(steps in steps()) {
        let _ = KeyRing::from_bytes(&mutated(RING.as_bytes(), &steps));
        let lines = RING.lines().filter(|line| !line.starts_with(['-', '=']) && !line.is_empty());
        let binary = STANDARD.decode(lines.collect::<String>()).unwrap();
        let _ = KeyRing::from_bytes(&mutated(&binary, &steps));
    }

    /// Whatever a changed certificate or list says, it was not signed by the same key.
    #[test]
    fn mutated_certificates_and_lists_are_not_signed(steps in steps()) {
        let issuer = X509Certificate::from_der(&CERTIFICATES[0]).unwrap();
        let [certificate, list] = [0, 1].map(|which| mutated(&CERTIFICATES[which], &steps));
        if let Ok(read) = X509Certificate::from_der(&certificate) {
            prop_assert!(read.der() == &*CERTIFICATES[0] || !read.is_issued_by(&issuer));
        }
        if let Ok(read) = RevocationList::from_der(&list) {
            prop_assert!(read.der() == &*CERTIFICATES[1] || !read.is_issued_by(&issuer));
        }
        for text in [pem("CERTIFICATE", &certificate), pem("PUBLIC KEY", &certificate)] {
            let _ = (Certificate::all_from_pem(&text), SignerKey::all_from_pem(&text));
            let text = String::from_utf8_lossy(&mutated(text.as_bytes(), &steps)).into_owned();
            let _ = (Certificate::all_from_pem(&text), SignerKey::all_from_pem(&text));
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn mutated_trust_policies_never_make_their_reader_panic(steps in steps()) {
        read_trust_policy(mutated(trust_policy().to_string().as_bytes(), &steps));
        read_trust_policy(mutated_json(&trust_policy(), &steps).to_string().into());
    }
}
