use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::Mutex;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{self, EcdsaKeyPair, EcdsaSigningAlgorithm, Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use futures_util::future::BoxFuture;
use serde_json::{Value, json};
use sha2::{Digest as _, Sha512};

use super::gather::{GatherRequest, GatheredResult, gather};
use super::scheme::{AuthorityResult, Sought};
use super::source::{RegistryServices, SourceError, UnparsedManifest};
use super::*;
use crate::oci::payload::pae;
use crate::oci::{Algorithm, Content, Page, Repository, is_attachment, media_type};
use crate::policy::{
    CosignAuthority, CosignSigners, Keyless, NotaryTrust, PublicKey, Scheme, Signatory, SignatureFinding,
    SignatureResult, SignedIdentity, SimpleSigner, TextPattern, TrustOutcome,
};
use crate::store::Store;
use crate::upstream::{ServiceAddress, ServiceAnswer};
use bounds::{invented, strange_bundles, strangers};
use double::{Api, Registry};
use signatures::image_text;

mod ahead;
mod attacks;
mod attestations;
mod bounds;
mod double;
mod findings;
mod keyless;
mod memory;
#[path = "../../tests/support/mutate.rs"]
mod mutate;
mod roots;
mod schemes;
mod signatures;
#[path = "../../tests/support/sigstore.rs"]
pub(super) mod sigstore;
mod validity;

const BUNDLE_V03: &str = "application/vnd.dev.sigstore.bundle.v0.3+json";
const SIMPLE_SIGNING: &str = "application/vnd.dev.cosign.simplesigning.v1+json";

/// A key pair of some kind.
#[expect(clippy::type_complexity, reason = "a boxed closure, once")]
struct Signer {
    kind: &'static str,
    spki: Vec<u8>,
    sign: Box<dyn Fn(&[u8]) -> Vec<u8>>,
}

impl Signer {
    fn ecdsa(kind: &'static str, algorithm: &'static EcdsaSigningAlgorithm) -> Self {
        let pair = EcdsaKeyPair::generate(algorithm).unwrap();
        let spki = pair.public_key().as_der().unwrap().as_ref().to_vec();
        Self { kind, spki, sign: Box::new(move |m| pair.sign(&SystemRandom::new(), m).unwrap().as_ref().to_vec()) }
    }

    fn p256() -> Self {
        Self::ecdsa("ECDSA P-256", &signature::ECDSA_P256_SHA256_ASN1_SIGNING)
    }

    fn rsa() -> Self {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let spki = pair.public_key().as_der().unwrap().as_ref().to_vec();
        let sign = move |m: &[u8]| {
            let mut out = vec![0; pair.public_modulus_len()];
            pair.sign(&signature::RSA_PKCS1_SHA256, &SystemRandom::new(), m, &mut out).unwrap();
            out
        };
        Self { kind: "RSA", spki, sign: Box::new(sign) }
    }

    fn ed25519() -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let spki = pair.public_key().as_der().unwrap().as_ref().to_vec();
        Self { kind: "Ed25519", spki, sign: Box::new(move |m| pair.sign(m).as_ref().to_vec()) }
    }

    fn ed25519ph() -> Self {
        let pair = Ed25519KeyPair::generate().unwrap();
        let spki = pair.public_key().as_der().unwrap().as_ref().to_vec();
        let seed = aws_lc_rs::encoding::AsBigEndian::as_be_bytes(&pair.seed().unwrap()).unwrap();
        let seed: &aws_lc_rs::encoding::Curve25519SeedBin<'_> = &seed;
        let pair = ed25519_dalek::SigningKey::from_bytes(seed.as_ref().try_into().unwrap());
        let sign = move |m: &[u8]| pair.sign_prehashed(Sha512::new_with_prefix(m), None).unwrap().to_bytes().to_vec();
        Self { kind: "Ed25519", spki, sign: Box::new(sign) }
    }

    fn all() -> Vec<Self> {
        vec![
            Self::p256(),
            Self::ecdsa("ECDSA P-384", &signature::ECDSA_P384_SHA384_ASN1_SIGNING),
            Self::ecdsa("ECDSA P-521", &signature::ECDSA_P521_SHA512_ASN1_SIGNING),
            Self::ecdsa("ECDSA P-521", &signature::ECDSA_P521_SHA256_ASN1_SIGNING),
            Self::rsa(),
            Self::ed25519(),
            Self::ed25519ph(),
        ]
    }

    fn pem(&self) -> String {
        format!("-----BEGIN PUBLIC KEY-----\n{}\n-----END PUBLIC KEY-----\n", STANDARD.encode(&self.spki))
    }

    fn authority(&self) -> Arc<Authority> {
        self.authority_called("release")
    }

    fn authority_called(&self, name: &str) -> Arc<Authority> {
        Arc::new(Authority::new(name, Scheme::cosign_keys(vec![self.key()])))
    }

    fn key(&self) -> PublicKey {
        PublicKey::from_pem(&self.pem()).unwrap()
    }

    /// A classic signature: payload, annotation.
    fn classic(&self, payload: &Value) -> (Vec<u8>, Option<String>) {
        self.classic_text(payload.to_string().into())
    }

    fn classic_text(&self, payload: Vec<u8>) -> (Vec<u8>, Option<String>) {
        let signature = STANDARD.encode((self.sign)(&payload));
        (payload, Some(signature))
    }

    fn bundle(&self, statement: &Value) -> Value {
        let payload = statement.to_string();
        let sig = STANDARD.encode((self.sign)(&pae("application/vnd.in-toto+json", payload.as_bytes())));
        json!({
            "mediaType": BUNDLE_V03,
            "verificationMaterial": {"publicKey": {"hint": "not to be believed"}, "tlogEntries": []},
            "dsseEnvelope": {
                "payload": STANDARD.encode(payload), "payloadType": "application/vnd.in-toto+json",
                "signatures": [{"sig": sig}]
            }
        })
    }

    fn message_bundle(&self, message: &[u8]) -> Value {
        let digest = STANDARD.encode(Digest::sha256(message).as_bytes());
        json!({
            "mediaType": BUNDLE_V03,
            "verificationMaterial": {"publicKey": {"hint": ""}},
            "messageSignature": {
                "messageDigest": {"algorithm": "SHA2_256", "digest": digest},
                "signature": STANDARD.encode((self.sign)(message))
            }
        })
    }
}

fn payload(digest: &Digest) -> Value {
    json!({
        "critical": {
            "identity": {"docker-reference": "registry.acme.com/app"},
            "image": {"docker-manifest-digest": digest},
            "type": "cosign container image signature"
        },
        "optional": null
    })
}

fn statement(digest: &Digest) -> Value {
    json!({
        "_type": "https://in-toto.io/Statement/v1",
        "subject": [{"digest": {"sha256": digest.hex()}}],
        "predicateType": "https://sigstore.dev/cosign/sign/v1",
        "predicate": {}
    })
}

fn manifest_json(layers: &Value, subject: Option<&Digest>) -> Value {
    let empty = json!({"mediaType": media_type::OCI_EMPTY, "digest": Digest::sha256(b"{}"), "size": 2});
    let mut manifest = json!({
        "schemaVersion": 2, "mediaType": media_type::OCI_MANIFEST, "config": empty, "layers": layers
    });
    if let Some(digest) = subject {
        manifest["subject"] = json!({"mediaType": media_type::OCI_MANIFEST, "digest": digest, "size": 1});
    }
    manifest
}

fn image() -> Manifest {
    let layer = json!({"mediaType": media_type::OCI_LAYER_GZIP, "digest": Digest::sha256(b"layer"), "size": 5});
    parse(&manifest_json(&json!([layer]), None))
}

fn parse(manifest: &Value) -> Manifest {
    Manifest::parse(manifest.to_string().into(), None).unwrap()
}

fn index_json(manifests: &[Value]) -> Bytes {
    json!({"schemaVersion": 2, "mediaType": media_type::OCI_INDEX, "manifests": manifests}).to_string().into()
}

/// Every scheme, over a store that nothing is kept in.
async fn schemes() -> Schemes {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path()).await.unwrap();
    Schemes::new(&Config::default(), &services(&store, &Clock::system()))
}

/// One search for all of these authorities.
async fn verify(
    source: &impl SignatureSource,
    schemes: &Schemes,
    tasks: &Tasks,
    name: &ImageName,
    image: &Manifest,
    authorities: &[Arc<Authority>],
) -> Vec<(AuthorityId, TrustOutcome)> {
    let sought = |authority: &Arc<Authority>| Sought { authority: authority.clone(), known: Vec::new() };
    let request = GatherRequest {
        name: name.clone(),
        reference: Reference::Digest(image.digest),
        image: Arc::new(image.clone()),
        place: name.clone(),
        sought: authorities.iter().map(sought).collect(),
        others: Vec::new(),
        same: SameSigner::among(authorities),
        ahead: None,
        now: Timestamp::UNIX_EPOCH,
    };
    let results = gather(source, tasks, schemes, request, &Config::default(), &|_, _| {}).await;
    let ids = authorities.iter().map(|authority| authority.id().clone());
    ids.zip(results).map(|(id, gathered)| (id, gathered.result.outcome)).collect()
}

/// What trust uses, over a store. It reaches no other upstream, and asks nobody about revocation.
pub(super) fn services(store: &Store, clock: &Clock) -> TrustServices {
    let tasks = Tasks::new();
    TrustServices {
        store: store.facts.clone(),
        clock: clock.clone(),
        revocation: offline(&tasks),
        tasks,
        upstreams: Arc::new(|_| None),
    }
}

/// A checker that asks nobody.
fn offline(tasks: &Tasks) -> RevocationChecker {
    let config = RevocationConfig { online: false, ..RevocationConfig::default() };
    RevocationChecker::new(&config, Clock::system(), tasks).unwrap()
}

/// The image as it is asked for by digest.
fn by_digest() -> Reference {
    Reference::Digest(image().digest)
}

fn name() -> ImageName {
    ImageName { host: "registry.acme.com".parse().unwrap(), repository: "team/app".parse().unwrap() }
}

#[track_caller]
fn assert_verified(outcome: &TrustOutcome, part: &str) {
    let TrustOutcome::Verified { by, .. } = outcome else { panic!("{part}: {outcome:?}") };
    assert!(by.iter().any(|signatory| signatory.description.contains(part)), "{part}: {outcome:?}");
}

#[track_caller]
fn assert_refused(outcome: &TrustOutcome, part: &str) {
    let TrustOutcome::Unverified { found } = outcome else { panic!("{part}: {outcome:?}") };
    assert!(found.len() == 1 && found[0].to_string().contains(part), "{part}: {found:?}");
}

#[track_caller]
fn assert_unknown(outcome: &TrustOutcome, part: &str, as_temporary: bool) {
    let TrustOutcome::Unknown { why, temporary, .. } = outcome else { panic!("{part}: {outcome:?}") };
    assert!(why.contains(part) && *temporary == as_temporary, "{part}: {outcome:?}");
}

/// A registry that never answers.
pub(super) struct Silent;

impl RegistryServices for Silent {
    fn document<'a>(
        &'a self,
        _: &'a Repository,
        _: ServiceAddress<'a>,
        _: usize,
    ) -> BoxFuture<'a, Result<Option<ServiceAnswer>, SourceError>> {
        Box::pin(std::future::pending())
    }
}

impl SignatureSource for Silent {
    async fn manifest(&self, _: &Repository, _: &Reference) -> Result<Option<UnparsedManifest>, SourceError> {
        std::future::pending().await
    }

    async fn blob(&self, _: &Repository, _: &Digest, _: usize) -> Result<Option<Bytes>, SourceError> {
        std::future::pending().await
    }

    async fn referrers(
        &self,
        _: &Repository,
        _: &Digest,
        _: &Page,
    ) -> Result<Option<(Bytes, Option<Page>)>, SourceError> {
        std::future::pending().await
    }
}

/// A registry that never answers does not hold a search forever. Time passes only where everything waits for it.
#[tokio::test]
async fn a_search_has_a_time_limit() {
    let name = ImageName { host: "registry.acme.com".parse().unwrap(), repository: "team/app".parse().unwrap() };
    let schemes = schemes().await;
    tokio::time::pause();
    let outcomes = verify(&Silent, &schemes, &Tasks::new(), &name, &image(), &[Signer::p256().authority()]).await;
    assert_unknown(&outcomes[0].1, "the search stopped after 60 s", true);
}
