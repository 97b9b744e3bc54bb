//! Signers of every scheme, and what they attach to an image.

use std::path::Path;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use coset::cbor::Value as Cbor;
use coset::iana::Algorithm;
use coset::{
    ContentType, CoseSign1Builder, Header, HeaderBuilder, Label, RegisteredLabelWithPrivate, TaggedCborSerializable,
};
use pullgate::oci::Digest;
use pullgate::oci::payload::{IN_TOTO, pae};
use pullgate::sample::image::{Built, Layer, attachment, attachment_tag, referrer};
use pullgate::sample::{NotaryRepository, Registry};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose, SigningKey as _};
use serde_json::{Value, json};

use crate::sigstore::{BUNDLE_V03, Content, IDENTITY, ISSUER, Instance, Leaf, Subject, Witnessed};

const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
const NOTATION: &str = "application/vnd.cncf.notary.signature";
const PAYLOAD: &str = "application/vnd.cncf.notary.payload.v1+json";

/// How images are signed. Each has a repository, except that content trust has one for each image, because a repository's
/// documents are fetched once.
pub(crate) const SCHEMES: [&str; 8] =
    ["unsigned", "classic", "bundle", "keyless", "jws", "cose", "gpg", "content-trust"];

/// The repository of an image.
pub(crate) fn repository(scheme: &str, number: usize) -> String {
    match scheme {
        "content-trust" => format!("{scheme}/{number}"),
        _ => scheme.to_owned(),
    }
}

/// One signer of each kind.
pub(crate) struct Signers {
    pub(crate) key: KeyPair,
    instance: Instance,
    leaf: Leaf,
    notation: NotationSigner,
    #[cfg(feature = "gpg")]
    ring: sequoia_openpgp::Cert,
}

/// A root, and a signer whose certificate it issued.
struct NotationSigner {
    root: Vec<u8>,
    leaf: Vec<u8>,
    key: KeyPair,
}

impl Signers {
    pub(crate) fn new() -> Self {
        let instance = Instance::new();
        let leaf = instance.issue(&Subject::default());
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        #[cfg(feature = "gpg")]
        let ring = sequoia_openpgp::cert::CertBuilder::new().add_signing_subkey().generate().unwrap().0;
        Self {
            key,
            instance,
            leaf,
            notation: NotationSigner::new(),
            #[cfg(feature = "gpg")]
            ring,
        }
    }

    /// Pushes an image, and what signs it.
    pub(crate) fn push(&self, registry: &Registry, scheme: &str, number: usize, image: &Built, store: &Path) {
        let repository = repository(scheme, number);
        registry.push(&repository, Some(&format!("v{number}")), image);
        let attach = |kind: &str, layer: Layer| registry.push(&repository, None, &referrer(image, kind, &[layer], &[]));
        match scheme {
            "classic" => {
                let payload = simple_signing(&image.root, "cosign container image signature", "up.test/classic");
                let signature = STANDARD.encode(self.key.sign(payload.as_bytes()).unwrap());
                let layer = Layer::of(SIMPLE_SIGNING, payload);
                let layer = layer.annotation("dev.cosignproject.cosign/signature", &signature);
                registry.push(&repository, Some(&attachment_tag(&image.root, ".sig")), &attachment(&[layer]));
            }
            "bundle" => attach(BUNDLE_V03, Layer::of(BUNDLE_V03, self.bundle(image).to_string())),
            "keyless" => {
                let statement = statement(image);
                let content = Content::Statement(&statement);
                let bundle = self.instance.bundle(&self.leaf, content, Witnessed::default());
                attach(BUNDLE_V03, Layer::of(BUNDLE_V03, bundle.to_string()));
            }
            "jws" => attach(NOTATION, Layer::of("application/jose+json", self.notation.jws(image))),
            "cose" => attach(NOTATION, Layer::of("application/cose", self.notation.cose(image))),
            "gpg" => self.store_signature(&format!("v{number}"), image, store),
            "content-trust" => {
                let mut notary = NotaryRepository::new(&format!("up.test/{repository}")).unwrap();
                notary.sign("targets", &format!("v{number}"), image.root, image.manifest().bytes.len() as u64);
                notary.publish();
                notary.put(registry);
            }
            _ => {}
        }
    }

    fn bundle(&self, image: &Built) -> Value {
        let statement = statement(image).to_string();
        let signature = STANDARD.encode(self.key.sign(&pae(IN_TOTO, statement.as_bytes())).unwrap());
        json!({
            "mediaType": BUNDLE_V03, "verificationMaterial": {"publicKey": {"hint": ""}},
            "dsseEnvelope": {
                "payload": STANDARD.encode(&statement), "payloadType": IN_TOTO, "signatures": [{"sig": signature}]
            }
        })
    }

    #[cfg(not(feature = "gpg"))]
    fn store_signature(&self, _: &str, _: &Built, _: &Path) {}

    /// Writes a signature with OpenPGP into a lookaside store.
    #[cfg(feature = "gpg")]
    fn store_signature(&self, tag: &str, image: &Built, store: &Path) {
        use std::io::Write as _;

        use sequoia_openpgp::policy::StandardPolicy;
        use sequoia_openpgp::serialize::stream::{LiteralWriter, Message, Signer};

        let payload = simple_signing(&image.root, "atomic container signature", &format!("up.test/gpg:{tag}"));
        let policy = StandardPolicy::new();
        let mut keys = self.ring.keys().unencrypted_secret().with_policy(&policy, None).for_signing();
        let pair = keys.next().unwrap().key().clone().into_keypair().unwrap();
        let mut out = Vec::new();
        let signer = Signer::new(Message::new(&mut out), pair).unwrap().build().unwrap();
        let mut message = LiteralWriter::new(signer).build().unwrap();
        message.write_all(payload.as_bytes()).unwrap();
        message.finalize().unwrap();
        let folder = store.join(format!("gpg@sha256={}", image.root.hex()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join("signature-1"), out).unwrap();
    }

    /// Writes the authorities' files, and returns a document that names them.
    pub(crate) fn document(&self, policies: &Path, store: &Path) -> String {
        let write = |name: &str, bytes: &[u8]| {
            let path = policies.join(name);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, bytes).unwrap();
        };
        write("release.pub", self.key.public_key_pem().as_bytes());
        write("root.json", self.instance.trusted_root().to_string().as_bytes());
        write("notation/truststore/x509/ca/acme/root.crt", &self.notation.root);
        let policy = json!({"version": "1.0", "trustPolicies": [{
            "name": "acme", "registryScopes": ["*"],
            "signatureVerification": {"level": "strict", "override": {"revocation": "skip"}},
            "trustStores": ["ca:acme"], "trustedIdentities": ["x509.subject: C=US, ST=WA, O=Acme"]
        }]});
        write("notation/trustpolicy.json", policy.to_string().as_bytes());
        let mut authorities = vec![
            "{name: release, cosign: {key: {file: release.pub}}}".to_owned(),
            format!(
                "{{name: ci, cosign: {{keyless: {{issuer: {ISSUER:?}, identity: {IDENTITY:?}, \
                 trustedRoot: {{file: root.json}}}}}}}}"
            ),
            "{name: np, notation: {trustPolicy: {file: notation/trustpolicy.json}, trustStore: notation/truststore}}"
                .to_owned(),
            "{name: dct, notary: {firstUse: remember}}".to_owned(),
        ];
        let mut entries = vec![
            ("unsigned", "{}"),
            ("classic", "{trust: release}"),
            ("bundle", "{trust: release}"),
            ("keyless", "{trust: ci}"),
            ("jws", "{trust: np}"),
            ("cose", "{trust: np}"),
            ("content-trust/*", "{trust: dct}"),
        ];
        #[cfg(feature = "gpg")]
        {
            use sequoia_openpgp::serialize::SerializeInto as _;
            write("ring.gpg", &self.ring.to_vec().unwrap());
            authorities.push(format!(
                "{{name: ring, gpg: {{keyring: {{file: ring.gpg}}, store: \"file://{}\"}}}}",
                store.display()
            ));
            entries.push(("gpg", "{trust: ring}"));
        }
        let authorities: String = authorities.iter().map(|one| format!("  - {one}\n")).collect();
        let entry = |(name, policy): &(&str, &str)| format!("  - {{name: \"up.test/{name}\", policy: {policy}}}\n");
        let entries: String = entries.iter().map(entry).collect();
        format!(
            "apiVersion: pullgate.io/v1\nkind: ClusterImagePolicy\nmetadata: {{name: default}}\nspec:\n  \
             authorities:\n{authorities}  repositories:\n{entries}"
        )
    }
}

impl NotationSigner {
    fn new() -> Self {
        let params = |name: &str| {
            let mut params = CertificateParams::default();
            let attributes = [
                (DnType::CountryName, "US"),
                (DnType::StateOrProvinceName, "WA"),
                (DnType::OrganizationName, "Acme"),
                (DnType::CommonName, name),
            ];
            params.distinguished_name = rcgen::DistinguishedName::new();
            attributes.into_iter().for_each(|(attribute, value)| params.distinguished_name.push(attribute, value));
            params
        };
        let (mut root, mut leaf) = (params("root"), params("signer"));
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        let (root_key, key) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
        let leaf = leaf.signed_by(&key, &Issuer::from_params(&root, &root_key)).unwrap().der().to_vec();
        Self { root: root.self_signed(&root_key).unwrap().der().to_vec(), leaf, key }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &self.key.serialize_der()).unwrap();
        pair.sign(&SystemRandom::new(), message).unwrap().as_ref().to_vec()
    }

    fn jws(&self, image: &Built) -> Vec<u8> {
        let header = json!({
            "alg": "ES256", "cty": PAYLOAD, "io.cncf.notary.signingScheme": "notary.x509",
            "io.cncf.notary.signingTime": "2020-01-01T00:00:00Z", "crit": ["io.cncf.notary.signingScheme"]
        });
        let encode = |text: String| URL_SAFE_NO_PAD.encode(text);
        let (protected, payload) = (encode(header.to_string()), encode(target(image)));
        let signature = URL_SAFE_NO_PAD.encode(self.sign(format!("{protected}.{payload}").as_bytes()));
        let chain = [&self.leaf, &self.root].map(|der| STANDARD.encode(der));
        json!({"payload": payload, "protected": protected, "header": {"x5c": chain}, "signature": signature})
            .to_string()
            .into_bytes()
    }

    fn cose(&self, image: &Built) -> Vec<u8> {
        let scheme = "io.cncf.notary.signingScheme".to_owned();
        let time = Cbor::Tag(1, Box::new(Cbor::Integer(1_577_836_800.into())));
        let mut protected = HeaderBuilder::new()
            .algorithm(Algorithm::ES256)
            .add_critical_label(RegisteredLabelWithPrivate::Text(scheme.clone()))
            .text_value(scheme, Cbor::Text("notary.x509".into()))
            .text_value("io.cncf.notary.signingTime".into(), time)
            .build();
        protected.content_type = Some(ContentType::Text(PAYLOAD.into()));
        let chain = [&self.leaf, &self.root].map(|der| Cbor::Bytes(der.clone())).to_vec();
        let unprotected = Header { rest: vec![(Label::Int(33), Cbor::Array(chain))], ..Header::default() };
        let signed = CoseSign1Builder::new()
            .protected(protected)
            .unprotected(unprotected)
            .payload(target(image).into_bytes())
            .create_signature(&[], |message| self.sign(message));
        signed.build().to_tagged_vec().unwrap()
    }
}

/// What notation signs.
fn target(image: &Built) -> String {
    let manifest = image.manifest();
    let (digest, size) = (image.root.to_string(), manifest.bytes.len());
    json!({"targetArtifact": {"mediaType": manifest.media_type, "digest": digest, "size": size}}).to_string()
}

fn statement(image: &Built) -> Value {
    json!({
        "_type": "https://in-toto.io/Statement/v1", "predicateType": "https://sigstore.dev/cosign/sign/v1",
        "subject": [{"digest": {"sha256": image.root.hex()}}], "predicate": {}
    })
}

/// The payload of a simple signature.
pub(crate) fn simple_signing(image: &Digest, kind: &str, reference: &str) -> String {
    let payload = json!({
        "critical": {
            "identity": {"docker-reference": reference},
            "image": {"docker-manifest-digest": image.to_string()},
            "type": kind,
        },
        "optional": {},
    });
    payload.to_string()
}
