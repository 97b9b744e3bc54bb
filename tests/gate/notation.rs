//! Notary Project signatures through the whole gate, with notation's own files and the reasons that clients read.

use std::time::{Duration, Instant};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use pullgate::oci::media_type;
use pullgate::sample::image::{Built, Layer, attachment_tag, referrer};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose};
use serde_json::{Value, json};

use crate::harness::{HOST, TestGate};
use crate::pull::simple;
use crate::support::TestRegistry;

const SIGNATURE: &str = "application/vnd.cncf.notary.signature";

/// A root, and a signer whose certificate it issued.
pub(crate) struct Notary {
    root: Vec<u8>,
    leaf: Vec<u8>,
    key: KeyPair,
}

impl Notary {
    pub(crate) fn new() -> Self {
        let params = |name: &str| {
            let mut params = CertificateParams::default();
            let name = [
                (DnType::CountryName, "US"),
                (DnType::StateOrProvinceName, "WA"),
                (DnType::OrganizationName, "Acme"),
                (DnType::CommonName, name),
            ];
            params.distinguished_name = rcgen::DistinguishedName::new();
            name.into_iter().for_each(|(attribute, value)| params.distinguished_name.push(attribute, value));
            params
        };
        let (mut root, mut leaf) = (params("root"), params("signer"));
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let (root_key, key) = (KeyPair::generate().expect("a key"), KeyPair::generate().expect("a key"));
        let issuer = Issuer::from_params(&root, &root_key);
        let leaf = leaf.signed_by(&key, &issuer).expect("a certificate").der().to_vec();
        Self { root: root.self_signed(&root_key).expect("a certificate").der().to_vec(), leaf, key }
    }

    /// The trusted certificate in PEM.
    fn pem(&self) -> String {
        format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", STANDARD.encode(&self.root))
    }

    /// A signature of an image in JWS, as a referrer.
    pub(crate) fn sign(&self, image: &Built, expiry: Option<&str>) -> Built {
        referrer(image, SIGNATURE, &[self.envelope(image, expiry)], &[])
    }

    /// A signature of an image in JWS.
    fn envelope(&self, image: &Built, expiry: Option<&str>) -> Layer {
        let mut header = json!({
            "alg": "ES256",
            "cty": "application/vnd.cncf.notary.payload.v1+json",
            "io.cncf.notary.signingScheme": "notary.x509",
            "io.cncf.notary.signingTime": "2020-01-01T00:00:00Z",
            "crit": ["io.cncf.notary.signingScheme"]
        });
        if let Some(expiry) = expiry {
            header["io.cncf.notary.expiry"] = json!(expiry);
            header["crit"].as_array_mut().expect("a list").push(json!("io.cncf.notary.expiry"));
        }
        let manifest = image.manifest();
        let target = json!({
            "mediaType": manifest.media_type, "digest": image.root.to_string(), "size": manifest.bytes.len()
        });
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let (protected, payload) = (encode(&header), encode(&json!({"targetArtifact": target})));
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.key.serialize_der()).expect("a key pair");
        let signature =
            pair.sign(&SystemRandom::new(), format!("{protected}.{payload}").as_bytes()).expect("a signature");
        let envelope = json!({
            "payload": payload,
            "protected": protected,
            "header": {"x5c": [STANDARD.encode(&self.leaf), STANDARD.encode(&self.root)]},
            "signature": URL_SAFE_NO_PAD.encode(signature)
        });
        Layer::of("application/jose+json", envelope.to_string().into_bytes())
    }
}

/// A gate whose only authority has these statements, with `notary` in its trust store.
pub(crate) fn gate(registry: &TestRegistry, notary: &Notary, statements: &Value, trust: &str) -> TestGate {
    let policy = format!(
        "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {{name: default}}\nspec:\n  authorities:\n  \
         - name: release\n    cosign: {{key: {{file: release.pub}}}}\n  - name: notary-project\n    notation: \
         {{trustPolicy: {{file: notation/trustpolicy.json}}, trustStore: notation/truststore}}\n  repositories:\n  \
         - name: \"*\"\n    policy: {{trust: {trust}}}\n"
    );
    let made = TestGate::new(registry, &policy);
    let notation = made.path().join("policies/notation");
    std::fs::create_dir_all(notation.join("truststore/x509/ca/acme")).expect("a folder");
    std::fs::write(notation.join("truststore/x509/ca/acme/root.crt"), notary.pem()).expect("a file");
    let document = json!({"version": "1.0", "trustPolicies": statements});
    std::fs::write(notation.join("trustpolicy.json"), document.to_string()).expect("a file");
    made
}

pub(crate) fn statement(level: &str) -> Value {
    json!([{
        "name": "acme", "registryScopes": ["*"], "signatureVerification": {"level": level},
        "trustStores": ["ca:acme"], "trustedIdentities": ["x509.subject: C=US, ST=WA, O=Acme"]
    }])
}

#[tokio::test]
async fn signed_images_are_admitted_and_others_are_denied_with_the_reason() {
    for api in [true, false] {
        let (registry, notary, other) = (TestRegistry::start().await, Notary::new(), Notary::new());
        registry.set_referrers_api(api);
        let images = ["signed", "expired", "stranger", "unsigned"].map(simple);
        let signatures = [
            Some(notary.sign(&images[0], None)),
            Some(notary.sign(&images[1], Some("2021-01-01T00:00:00Z"))),
            Some(other.sign(&images[2], None)),
            None,
        ];
        for (index, (image, signature)) in images.iter().zip(&signatures).enumerate() {
            registry.push("library/app", Some(&index.to_string()), image);
            if let Some(signature) = signature {
                registry.push("library/app", None, signature);
                if !api {
                    registry.push_referrers_tag("library/app", &image.root);
                }
            }
        }
        let gate = gate(&registry, &notary, &statement("strict"), "notary-project").start().await;
        for (tag, status, part) in [
            ("0", 200, ""),
            ("1", 403, "expired at 2021-01-01T00:00:00Z"),
            ("2", 403, "is in a ca trust store"),
            ("3", 403, "notary-project: not signed"),
        ] {
            let answer = gate.get(&format!("/library/app/manifests/{tag}")).await;
            assert!(answer.status == status && answer.text().contains(part), "{api} {tag}: {}", answer.text());
        }
        gate.stop().await;
    }
}

/// Level `skip` requires nothing, and never takes the place of another authority's signature.
#[tokio::test]
async fn level_skip_is_left_out_of_combinations() {
    let (registry, notary) = (TestRegistry::start().await, Notary::new());
    registry.push("library/app", Some("1"), &simple("unsigned"));
    let skip = json!([{
        "name": "acme", "registryScopes": [format!("{HOST}/library/app")], "signatureVerification": {"level": "skip"}
    }]);
    for (trust, status) in [
        ("notary-project", 200),
        ("{allOf: [notary-project]}", 200),
        ("{anyOf: [notary-project, release]}", 403),
        ("{allOf: [notary-project, release]}", 403),
        ("{atLeast: {count: 1, of: [notary-project, release]}}", 403),
    ] {
        let gate = gate(&registry, &notary, &skip, trust).start().await;
        let answer = gate.get("/library/app/manifests/1").await;
        assert_eq!(answer.status, status, "{trust}: {}", answer.text());
        gate.stop().await;
    }
    // Another repository has no statement.
    registry.push("library/other", Some("1"), &simple("other"));
    let gate = gate(&registry, &notary, &skip, "notary-project").start().await;
    let answer = gate.get("/library/other/manifests/1").await;
    assert!(
        answer.status == 403 && answer.text().contains("no statement of the trust policy applies"),
        "{}",
        answer.text()
    );
}

/// An image with ten thousand signatures by a stranger, in the referrers API and in the referrers tag. The work is bounded; a
/// good signature among the first is found, and without one it is unknown whether the image is signed.
#[tokio::test]
async fn ten_thousand_signatures_on_one_image() {
    let (notary, stranger) = (Notary::new(), Notary::new());
    let image = simple("flooded");
    let strange = stranger.envelope(&image, None);
    let flood =
        |number: usize| referrer(&image, SIGNATURE, std::slice::from_ref(&strange), &[("n", &number.to_string())]);
    let good = notary.sign(&image, None);
    // By its position in the list; registries list in an order of their own.
    for (position, api, status) in
        [(Some(150), false, 200), (Some(9_999), false, 403), (None, false, 403), (None, true, 403)]
    {
        let registry = TestRegistry::start().await;
        registry.set_referrers_api(api);
        registry.set_referrers_page(1000);
        registry.push("library/app", Some("1"), &image);
        let mut listed = Vec::new();
        for number in 0..10_000 {
            let built = if position == Some(number) { good.clone() } else { flood(number) };
            registry.push("library/app", None, &built);
            listed.push(built.descriptor());
        }
        if !api {
            let tag = attachment_tag(&image.root, "");
            let list = json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": listed});
            registry.put_manifest("library/app", Some(&tag), media_type::OCI_INDEX, list.to_string());
        }
        let gate = gate(&registry, &notary, &statement("strict"), "notary-project").start().await;
        registry.clear_log();
        let begun = Instant::now();
        let answer = gate.get("/library/app/manifests/1").await;
        assert_eq!(answer.status, status, "{position:?} {api}: {}", answer.text());
        if status == 403 {
            assert!(answer.text().contains("only 200 of 10000 referrers"), "{}", answer.text());
            assert!(!answer.text().contains("not signed"), "{}", answer.text());
        }
        let asked = registry.count(|_| true);
        assert!(asked < 500, "{asked} requests");
        assert!(begun.elapsed() < Duration::from_secs(20), "{:?}", begun.elapsed());
        gate.stop().await;
    }
}
