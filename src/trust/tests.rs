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

mod ahead;
mod attacks;
mod attestations;
mod keyless;
mod memory;
#[path = "../../tests/support/mutate.rs"]
mod mutate;
mod roots;
mod schemes;
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

/// What the referrers API does.
enum Api {
    Absent,
    Pages(Vec<Vec<Value>>),
    Endless,
    /// One page, which names another one that does not exist.
    CutShort,
    Circular,
    Fails(bool),
    Answers(&'static str),
}

/// A registry in memory, with one repository.
struct Registry {
    repository: Repository,
    /// Whose referrers may be asked for.
    subject: Digest,
    manifests: HashMap<String, Bytes>,
    blobs: HashMap<Digest, Bytes>,
    /// What extensions of the registry and auxiliary services have, by path or URL.
    documents: HashMap<String, Bytes>,
    api: Api,
    /// References and digests on which the registry fails.
    failing: Vec<String>,
    /// How many bytes come before each failure.
    received: usize,
    asked: Mutex<Vec<String>>,
}

impl Registry {
    fn new(api: Api) -> Self {
        let (manifests, blobs, documents, failing, received, asked) = Default::default();
        let (repository, subject) = ("team/app".parse().unwrap(), image().digest);
        Self { repository, subject, manifests, blobs, documents, api, failing, received, asked }
    }

    fn push_blob(&mut self, media_type: &str, bytes: Vec<u8>) -> Value {
        let digest = Digest::sha256(&bytes);
        let descriptor = json!({"mediaType": media_type, "digest": digest, "size": bytes.len()});
        self.blobs.insert(digest, bytes.into());
        descriptor
    }

    fn classic_manifest(&mut self, signatures: Vec<(Vec<u8>, Option<String>)>, subject: Option<&Digest>) -> Value {
        let mut layers = Vec::new();
        for (payload, signature) in signatures {
            let mut layer = self.push_blob(SIMPLE_SIGNING, payload);
            if let Some(signature) = signature {
                layer["annotations"] = json!({"dev.cosignproject.cosign/signature": signature});
            }
            layers.push(layer);
        }
        manifest_json(&layers.into(), subject)
    }

    fn with_classic(mut self, digest: &Digest, signatures: Vec<(Vec<u8>, Option<String>)>) -> Self {
        let manifest = self.classic_manifest(signatures, None);
        self.manifests.insert(format!("sha256-{}.sig", digest.hex()), manifest.to_string().into());
        self
    }

    /// Stores a manifest; gives its descriptor, as clients that know no artifact types write it.
    fn push(&mut self, manifest: &Value) -> Value {
        let bytes = Bytes::from(manifest.to_string());
        let digest = Digest::sha256(&bytes);
        let descriptor = json!({
            "mediaType": media_type::OCI_MANIFEST, "digest": digest, "size": bytes.len(),
            "artifactType": media_type::OCI_EMPTY
        });
        self.manifests.insert(digest.to_string(), bytes);
        descriptor
    }

    fn bundle(&mut self, subject: &Digest, bundle: &Value) -> Value {
        let layer = self.push_blob(BUNDLE_V03, bundle.to_string().into());
        self.push(&manifest_json(&json!([layer]), Some(subject)))
    }

    /// One bundle, listed by the API.
    fn with_bundle(bundle: &Value) -> Self {
        Self::with_bundle_of(&image().digest, bundle)
    }

    fn with_bundle_of(subject: &Digest, bundle: &Value) -> Self {
        let mut registry = Self::new(Api::Absent);
        let descriptor = registry.bundle(subject, bundle);
        registry.api = Api::Pages(vec![vec![descriptor]]);
        registry
    }

    fn fails(&self, what: &str) -> Result<(), SourceError> {
        self.asked.lock().unwrap().push(what.to_owned());
        match self.failing.iter().any(|failing| failing == what) {
            true => Err(SourceError { received: self.received, ..SourceError::new("500 Internal Server Error", true) }),
            false => Ok(()),
        }
    }

    async fn judge(&self, authorities: &[Arc<Authority>]) -> Vec<TrustOutcome> {
        let name = ImageName { host: "registry.acme.com".parse().unwrap(), repository: "team/app".parse().unwrap() };
        let outcomes = verify(self, &schemes().await, &Tasks::new(), &name, &image(), authorities).await;
        assert!(outcomes.iter().map(|(id, _)| id).eq(authorities.iter().map(|a| a.id())));
        outcomes.into_iter().map(|(_, outcome)| outcome).collect()
    }

    async fn judge_by(&self, signer: &Signer) -> TrustOutcome {
        self.judge(&[signer.authority()]).await.remove(0)
    }
}

impl RegistryServices for Registry {
    fn document<'a>(
        &'a self,
        _: &'a Repository,
        address: ServiceAddress<'a>,
        limit: usize,
    ) -> BoxFuture<'a, Result<Option<ServiceAnswer>, SourceError>> {
        let path = match address {
            ServiceAddress::Registry(path) => path,
            ServiceAddress::Beside { url, .. } => url.as_str(),
        };
        Box::pin(async move {
            self.fails(path)?;
            let found = self.documents.get(path).filter(|found| found.len() <= limit);
            Ok(found.map(|bytes| ServiceAnswer { headers: http::HeaderMap::new(), bytes: bytes.clone() }))
        })
    }
}

impl SignatureSource for Registry {
    async fn manifest(
        &self,
        repository: &Repository,
        reference: &Reference,
    ) -> Result<Option<UnparsedManifest>, SourceError> {
        self.fails(&reference.to_string())?;
        let found = self.manifests.get(&reference.to_string()).filter(|_| *repository == self.repository);
        Ok(found.map(|bytes| UnparsedManifest { bytes: bytes.clone(), content_type: None }))
    }

    async fn blob(&self, repository: &Repository, digest: &Digest, limit: usize) -> Result<Option<Bytes>, SourceError> {
        self.fails(&digest.to_string())?;
        let found = self.blobs.get(digest).filter(|_| *repository == self.repository);
        match found {
            Some(blob) if blob.len() > limit => {
                Err(SourceError { received: limit, ..SourceError::new("more bytes than are read", false) })
            }
            found => Ok(found.cloned()),
        }
    }

    async fn referrers(
        &self,
        repository: &Repository,
        digest: &Digest,
        page: &Page,
    ) -> Result<Option<(Bytes, Option<Page>)>, SourceError> {
        assert_eq!(*digest, self.subject);
        let at = page.last.as_ref().map_or(0, |last| last.parse::<usize>().unwrap());
        let next = |to: usize| Some(Page { last: Some(to.to_string()), ..Page::default() });
        match &self.api {
            _ if *repository != self.repository => Ok(None),
            Api::Absent => Ok(None),
            Api::Pages(pages) => Ok(Some((index_json(&pages[at]), next(at + 1).filter(|_| at + 1 < pages.len())))),
            Api::CutShort => Ok((at == 0).then(|| (index_json(&[]), next(1)))),
            Api::Endless => Ok(Some((index_json(&[]), next(at + 1)))),
            Api::Circular => Ok(Some((index_json(&[]), Some(Page::default())))),
            Api::Fails(temporary) => Err(SourceError::new("403 Forbidden", *temporary)),
            Api::Answers(body) => Ok(Some((Bytes::from_static(body.as_bytes()), None))),
        }
    }
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

#[tokio::test]
async fn every_kind_of_key_in_both_forms() {
    let (digest, stranger) = (image().digest, Signer::p256());
    for signer in Signer::all() {
        let classic = Registry::new(Api::Absent).with_classic(&digest, vec![signer.classic(&payload(&digest))]);
        assert_verified(&classic.judge_by(&signer).await, signer.kind);
        assert_verified(&classic.judge_by(&signer).await, "(classic, signed as \"registry.acme.com/app\")");
        assert_refused(&classic.judge_by(&stranger).await, "was not made by ECDSA P-256 key");
        for bundle in [signer.bundle(&statement(&digest)), signer.message_bundle(&image().bytes)] {
            let bundle = Registry::with_bundle(&bundle);
            assert_verified(&bundle.judge_by(&signer).await, signer.kind);
            assert_refused(&bundle.judge_by(&stranger).await, "was not made by ECDSA P-256 key");
        }
    }
}

#[tokio::test]
async fn bundles_are_found_by_the_api_and_by_the_tag() {
    let (digest, signer) = (image().digest, Signer::p256());
    let bundle = signer.bundle(&statement(&digest));
    for api in [Api::Absent, Api::Pages(vec![vec![]])] {
        let mut registry = Registry::new(api);
        let descriptor = registry.bundle(&digest, &bundle);
        registry.manifests.insert(format!("sha256-{}", digest.hex()), index_json(&[descriptor]));
        assert_verified(&registry.judge_by(&signer).await, "(bundle)");
    }
    let mut paged = Registry::new(Api::Absent);
    let descriptor = paged.bundle(&digest, &bundle);
    paged.api = Api::Pages(vec![vec![], vec![descriptor]]);
    assert_verified(&paged.judge_by(&signer).await, "(bundle)");
    let mut experimental = Registry::new(Api::Absent);
    let manifest = experimental.classic_manifest(vec![signer.classic(&payload(&digest))], Some(&digest));
    let descriptor = experimental.push(&manifest);
    experimental.api = Api::Pages(vec![vec![descriptor]]);
    assert_verified(&experimental.judge_by(&signer).await, "(classic");
}

#[tokio::test]
async fn both_forms_are_looked_at_for_all_authorities() {
    let (digest, old, new, stranger) = (image().digest, Signer::p256(), Signer::p256(), Signer::p256());
    let both = Registry::with_bundle(&new.bundle(&statement(&digest)))
        .with_classic(&digest, vec![(b"{}".to_vec(), Some("AA==".into())), old.classic(&payload(&digest))]);
    let outcomes = both.judge(&[old.authority(), new.authority(), stranger.authority()]).await;
    assert_verified(&outcomes[0], "(classic");
    assert_verified(&outcomes[1], "(bundle)");
    assert!(matches!(&outcomes[2], TrustOutcome::Unverified { found } if found.len() == 3), "{outcomes:?}");
    let asked = both.asked.lock().unwrap();
    let mut once = asked.clone();
    once.sort();
    once.dedup();
    assert_eq!(once.len(), asked.len(), "everything is fetched once");
}

#[tokio::test]
async fn nothing_found_is_unverified() {
    let signer = Signer::p256();
    for api in [Api::Absent, Api::Pages(vec![vec![]])] {
        assert_eq!(Registry::new(api).judge_by(&signer).await, TrustOutcome::Unverified { found: vec![] });
    }
}

#[tokio::test]
async fn right_digest_in_the_wrong_repository() {
    let (digest, signer) = (image().digest, Signer::p256());
    let mut registry = Registry::with_bundle(&signer.bundle(&statement(&digest)))
        .with_classic(&digest, vec![signer.classic(&payload(&digest))]);
    registry.repository = "team/other".parse().unwrap();
    assert_eq!(registry.judge_by(&signer).await, TrustOutcome::Unverified { found: vec![] });
}

#[tokio::test]
async fn classic_signatures_that_do_not_count() {
    let (digest, signer) = (image().digest, Signer::p256());
    let (good, other) = (payload(&digest), Digest::sha256(b"other"));
    let changed = |pointer: &str, value: Value| {
        let mut payload = good.clone();
        *payload.pointer_mut(pointer).unwrap() = value;
        signer.classic(&payload)
    };
    let mut unknown = good.clone();
    unknown["critical"]["expires"] = "2020-01-01".into();
    let text = good.to_string();
    let duplicate = text.replacen("\"image\"", "\"image\":{\"docker-manifest-digest\":\"\"},\"image\"", 1);
    let folded = text.replacen("\"image\"", "\"Image\":{},\"image\"", 1);
    let (valid, signature) = signer.classic(&good);
    for (signed, part) in [
        (signer.classic(&payload(&other)), "is for another image"),
        (changed("/critical/type", "atomic container signature".into()), "its type is not"),
        (changed("/critical/image", json!({})), "missing or unknown members"),
        (changed("/critical/image/docker-manifest-digest", "sha1:00".into()), "is not a digest"),
        (changed("/critical/identity", json!([])), "is not an object"),
        (changed("/optional", json!("x")), "optional is neither"),
        (signer.classic(&unknown), "missing or unknown members"),
        (signer.classic_text((text.clone() + &" ".repeat(300_000)).into()), "larger than 256 KiB"),
        (signer.classic_text(duplicate.into()), "not a strict JSON object"),
        (signer.classic_text(folded.into()), "not a strict JSON object"),
        ((text.replace("acme", "evil").into(), signature.clone()), "was not made by"),
        ((valid.clone(), None), "annotation with the signature is missing"),
        ((valid.clone(), Some("?".into())), "not base64"),
        ((valid, Some(String::new())), "was not made by"),
    ] {
        let registry = Registry::new(Api::Absent).with_classic(&digest, vec![signed]);
        assert_refused(&registry.judge_by(&signer).await, part);
    }
}

#[tokio::test]
async fn bundles_that_do_not_count() {
    let (digest, signer) = (image().digest, Signer::p256());
    let (good, other) = (statement(&digest), Digest::sha256(b"other"));
    let stated = |key: &str, value: &str| {
        let mut statement = good.clone();
        statement[key] = value.into();
        signer.bundle(&statement)
    };
    let changed = |key: &str, value: Value| {
        let mut bundle = signer.bundle(&good);
        bundle[key] = value;
        bundle
    };
    let mut retyped = signer.bundle(&good);
    retyped["dsseEnvelope"]["payloadType"] = "text/plain".into();
    let mut tampered = signer.bundle(&good);
    tampered["dsseEnvelope"]["payload"] = STANDARD.encode(statement(&digest).to_string() + " ").into();
    let mut two = signer.bundle(&good);
    two["dsseEnvelope"]["signatures"] = json!([{"sig": ""}, two["dsseEnvelope"]["signatures"][0]]);
    let mut lying = signer.message_bundle(&image().bytes);
    lying["messageSignature"]["messageDigest"] =
        signer.message_bundle(b"x")["messageSignature"]["messageDigest"].clone();
    let mut without_type = signer.bundle(&good);
    without_type.as_object_mut().unwrap().remove("mediaType");
    let certificate = json!({"certificate": {"rawBytes": "AAAA"}});
    for (bundle, part) in [
        (signer.bundle(&statement(&other)), "is for another image"),
        (
            stated("predicateType", "https://slsa.dev/provenance/v1"),
            "attestation of \"https://slsa.dev/provenance/v1\"",
        ),
        (stated("predicateType", &"x".repeat(1000)), "x…"),
        (stated("predicateType", &"x".repeat(300_000)), "larger than 256 KiB"),
        (stated("_type", "https://in-toto.io/Statement/v2"), "not an in-toto statement"),
        (changed("mediaType", "application/vnd.dev.sigstore.bundle+json;version=0.1".into()), "of an old version"),
        (changed("mediaType", "application/vnd.dev.sigstore.bundle+json;version=0.2".into()), "of an old version"),
        (changed("mediaType", "application/vnd.dev.sigstore.bundle.v9+json".into()), "not a Sigstore bundle"),
        (without_type, "of an old version"),
        (changed("verificationMaterial", certificate), "keyless"),
        (changed("messageSignature", signer.message_bundle(b"x")["messageSignature"].clone()), "two signatures"),
        (retyped, "not an in-toto statement"),
        (tampered, "was not made by"),
        (two, "exactly one signature"),
        (signer.message_bundle(b"x"), "over other bytes"),
        (lying, "over other bytes"),
    ] {
        assert_refused(&Registry::with_bundle(&bundle).judge_by(&signer).await, part);
    }
    let elsewhere = Registry::with_bundle_of(&other, &signer.bundle(&good));
    assert_refused(&elsewhere.judge_by(&signer).await, "its subject is another image");
}

#[tokio::test]
async fn other_referrers_are_no_signatures() {
    let (digest, signer) = (image().digest, Signer::p256());
    let mut registry = Registry::new(Api::Absent);
    let sbom = registry.push_blob("application/spdx+json", b"{}".to_vec());
    let sbom = registry.push(&manifest_json(&json!([sbom]), Some(&digest)));
    registry.api = Api::Pages(vec![vec![sbom]]);
    assert_eq!(registry.judge_by(&signer).await, TrustOutcome::Unverified { found: vec![] });
    let mut notation = manifest_json(&json!([]), Some(&digest));
    notation["artifactType"] = "application/vnd.cncf.notary.signature".into();
    let notation = registry.push(&notation);
    registry.api = Api::Pages(vec![vec![notation]]);
    assert_refused(&registry.judge_by(&signer).await, "a Notary Project signature");
}

#[tokio::test]
async fn a_registry_that_does_not_answer_is_not_unsigned() {
    let (digest, signer) = (image().digest, Signer::p256());
    for temporary in [true, false] {
        let silent = Registry::new(Api::Fails(temporary));
        assert_unknown(&silent.judge_by(&signer).await, "the referrers cannot be read: 403 Forbidden", temporary);
        let signed = silent.with_classic(&digest, vec![signer.classic(&payload(&digest))]);
        assert_verified(&signed.judge_by(&signer).await, "(classic");
    }
    for body in ["<html>", "{}", "[]", ""] {
        assert_unknown(
            &Registry::new(Api::Answers(body)).judge_by(&signer).await,
            "list of referrers is unusable",
            false,
        );
    }
    for tag in [format!("sha256-{}.sig", digest.hex()), format!("sha256-{}", digest.hex())] {
        let mut registry = Registry::new(Api::Absent);
        registry.failing.push(tag.clone());
        assert_unknown(&registry.judge_by(&signer).await, "500 Internal Server Error", true);
        // What a front says while it is under maintenance.
        for rubbish in ["<html>", "", "{}", r#"{"errors":[]}"#, "[]"] {
            let mut registry = Registry::new(Api::Absent);
            registry.manifests.insert(tag.clone(), Bytes::from_static(rubbish.as_bytes()));
            assert_unknown(&registry.judge_by(&signer).await, "the response is not a manifest", true);
        }
    }
    let registry = Registry::with_bundle(&signer.bundle(&statement(&digest)));
    for failing in registry.manifests.keys().cloned().chain(registry.blobs.keys().map(ToString::to_string)) {
        let mut registry = Registry::with_bundle(&signer.bundle(&statement(&digest)));
        let known = registry.manifests.contains_key(&failing);
        registry.failing.push(failing);
        // The bundle's own digest differs with every signature; the manifest's too.
        registry.failing.extend(registry.manifests.keys().filter(|_| known).cloned().collect::<Vec<_>>());
        registry.failing.extend(registry.blobs.keys().filter(|_| !known).map(ToString::to_string).collect::<Vec<_>>());
        assert_unknown(&registry.judge_by(&signer).await, "500 Internal Server Error", true);
    }
}

fn image_text() -> String {
    String::from_utf8(image().bytes.to_vec()).unwrap()
}

#[tokio::test]
async fn wrong_bytes_and_missing_content_are_said() {
    let (digest, signer) = (image().digest, Signer::p256());
    let bundle = signer.bundle(&statement(&digest));
    let mut swapped = Registry::with_bundle(&bundle);
    swapped.blobs.values_mut().for_each(|blob| *blob = Bytes::from_static(b"{}"));
    assert_refused(&swapped.judge_by(&signer).await, "do not have its digest");
    let mut missing = Registry::with_bundle(&bundle);
    missing.blobs.clear();
    assert_refused(&missing.judge_by(&signer).await, "is not in the repository");
    let mut unlisted = Registry::with_bundle(&bundle);
    unlisted.manifests.clear();
    assert_refused(&unlisted.judge_by(&signer).await, "listed as a referrer but is not in the repository");
    let mut replaced = Registry::with_bundle(&bundle);
    replaced.manifests.values_mut().for_each(|manifest| *manifest = image().bytes);
    assert_refused(&replaced.judge_by(&signer).await, "does not match the requested digest");
}

/// Signatures by a stranger, each over a payload of its own.
fn strangers(digest: &Digest, count: usize) -> Vec<(Vec<u8>, Option<String>)> {
    let stranger = Signer::p256();
    let one = |number| {
        let mut payload = payload(digest);
        payload["optional"] = json!({"number": number});
        stranger.classic(&payload)
    };
    (0..count).map(one).collect()
}

/// Bundles by a stranger, as the list shows them.
fn strange_bundles(registry: &mut Registry, digest: &Digest, count: usize) -> Vec<Value> {
    let mut bundle = Signer::p256().bundle(&statement(digest));
    let mut one = |number: usize| {
        bundle["number"] = number.into();
        registry.bundle(digest, &bundle)
    };
    (0..count).map(&mut one).collect()
}

/// Referrers that do not exist, with what their descriptors claim.
fn invented(count: usize, size: u64, artifact_type: &str) -> Vec<Value> {
    let one = |number: usize| {
        let digest = Digest::sha256(&number.to_be_bytes());
        json!({"mediaType": media_type::OCI_MANIFEST, "digest": digest, "size": size, "artifactType": artifact_type})
    };
    (0..count).map(one).collect()
}

#[tokio::test]
async fn what_others_attach_hides_nothing() {
    let (digest, signer) = (image().digest, Signer::p256());
    let good = |registry: &mut Registry| registry.bundle(&digest, &signer.bundle(&statement(&digest)));
    let classic = || signer.classic(&payload(&digest));
    for size in [4 << 20, 9 << 30, 1] {
        for artifact_type in [BUNDLE_V03, media_type::OCI_EMPTY, "application/spdx+json"] {
            let listed = Registry::new(Api::Pages(vec![invented(16, size, artifact_type)]));
            assert_verified(&listed.with_classic(&digest, vec![classic()]).judge_by(&signer).await, "(classic");
            let mut tagged = Registry::new(Api::Pages(vec![invented(199, size, artifact_type)]));
            let bundle = good(&mut tagged);
            tagged.manifests.insert(format!("sha256-{}", digest.hex()), index_json(&[bundle]));
            assert_verified(&tagged.judge_by(&signer).await, "(bundle)");
        }
    }
    for (before, after) in [(50, 0), (0, 51), (199, 0), (0, 300)] {
        let mut registry = Registry::new(Api::Absent);
        let mut listed = strange_bundles(&mut registry, &digest, before);
        listed.push(good(&mut registry));
        listed.extend(strange_bundles(&mut registry, &digest, after));
        registry.api = Api::Pages(vec![listed]);
        assert_verified(&registry.judge_by(&signer).await, "(bundle)");
    }
    let flooded = Registry::with_bundle(&signer.bundle(&statement(&digest)));
    let flooded = flooded.with_classic(&digest, strangers(&digest, 300));
    assert_verified(&flooded.judge_by(&signer).await, "(bundle)");
    for at in [0, 60] {
        let mut layers = strangers(&digest, 60);
        layers.insert(at, classic());
        let registry = Registry::new(Api::Absent).with_classic(&digest, layers);
        assert_verified(&registry.judge_by(&signer).await, "(classic");
    }
}

#[tokio::test]
async fn the_search_ends_with_the_first_that_satisfies() {
    let (digest, signer) = (image().digest, Signer::p256());
    let mut registry = Registry::new(Api::Absent);
    let mut listed = vec![registry.bundle(&digest, &signer.bundle(&statement(&digest)))];
    listed.extend(strange_bundles(&mut registry, &digest, 100));
    registry.api = Api::Pages(vec![listed]);
    assert_verified(&registry.judge_by(&signer).await, "(bundle)");
    assert!(registry.asked.lock().unwrap().len() < 20, "{:?}", registry.asked);
    // The places take turns, so that a long list keeps nobody from a short one.
    let mut registry = Registry::new(Api::Absent);
    let listed = strange_bundles(&mut registry, &digest, 150);
    registry.api = Api::Pages(vec![listed]);
    let signed = registry.with_classic(&digest, vec![signer.classic(&payload(&digest))]);
    assert_verified(&signed.judge_by(&signer).await, "(classic");
    assert!(signed.asked.lock().unwrap().len() < 40, "{:?}", signed.asked);
}

#[tokio::test]
async fn the_search_goes_on_while_somebody_is_missing() {
    let (digest, signer) = (image().digest, Signer::p256());
    let mut registry = Registry::new(Api::Absent);
    let mut listed = vec![registry.bundle(&digest, &signer.bundle(&statement(&digest)))];
    listed.extend(strange_bundles(&mut registry, &digest, 100));
    registry.api = Api::Pages(vec![listed]);
    // Another authority that nobody satisfies makes it go on to the end.
    registry.judge(&[signer.authority(), Signer::p256().authority()]).await;
    assert!(registry.asked.lock().unwrap().len() > 200);
}

#[tokio::test]
async fn bounds_are_said_and_are_not_unsigned() {
    let (digest, signer) = (image().digest, Signer::p256());
    let mut many = strangers(&digest, 200);
    many.insert(0, signer.classic(&payload(&digest)));
    let oldest = Registry::new(Api::Absent).with_classic(&digest, many);
    assert_unknown(&oldest.judge_by(&signer).await, "of the signatures in the .sig tag only 200 were looked at", false);
    for api in [Api::Endless, Api::Circular] {
        let registry = Registry::new(api);
        assert_unknown(&registry.judge_by(&signer).await, "does not end", false);
        let signed = registry.with_classic(&digest, vec![signer.classic(&payload(&digest))]);
        assert_verified(&signed.judge_by(&signer).await, "(classic");
    }
    let mut referrers = invented(300, 1, "application/x");
    let mut registry = Registry::new(Api::Pages(vec![referrers.clone()]));
    assert_unknown(&registry.judge_by(&signer).await, "of 300 referrers in the referrers API only 200", false);
    assert_eq!(registry.asked.lock().unwrap().len(), 202);
    referrers.push(registry.bundle(&digest, &signer.bundle(&statement(&digest))));
    registry.api = Api::Pages(vec![referrers]);
    assert_verified(&registry.judge_by(&signer).await, "(bundle)");
}

/// A place is given up for what it sent, and not for what a descriptor claims.
#[tokio::test]
async fn bytes_that_arrive_are_counted() {
    let (digest, signer) = (image().digest, Signer::p256());
    let mut registry = Registry::new(Api::Absent);
    let mut referrers = Vec::new();
    for number in 0..100 {
        // Larger than any signature: as much as may be read arrives.
        let layer = registry.push_blob(BUNDLE_V03, vec![number; (1 << 20) + 1]);
        referrers.push(registry.push(&manifest_json(&json!([layer]), Some(&digest))));
    }
    registry.api = Api::Pages(vec![referrers.split_off(99)]);
    assert_refused(&registry.judge_by(&signer).await, "is larger than 1 MiB");
    registry.api = Api::Pages(vec![referrers]);
    assert_unknown(&registry.judge_by(&signer).await, "after 64 MiB from the referrers API", false);
    let asked = registry.asked.lock().unwrap().len();
    assert!(asked < 160, "{asked}");
    let mut signed = registry.with_classic(&digest, vec![signer.classic(&payload(&digest))]);
    assert_verified(&signed.judge_by(&signer).await, "(classic");
    // What one place sent is no reason to give up one that is asked later.
    signed.manifests.remove(&format!("sha256-{}.sig", digest.hex()));
    let bundle = signed.bundle(&digest, &signer.bundle(&statement(&digest)));
    signed.manifests.insert(format!("sha256-{}", digest.hex()), index_json(&[bundle]));
    assert_verified(&signed.judge_by(&signer).await, "(bundle)");
    // A descriptor that claims too much or too little keeps nobody from reading what is there.
    for size in [0, 1, 9 << 30] {
        let mut registry = Registry::new(Api::Absent);
        let mut layer = registry.push_blob(BUNDLE_V03, signer.bundle(&statement(&digest)).to_string().into());
        layer["size"] = size.into();
        let mut referrer = registry.push(&manifest_json(&json!([layer]), Some(&digest)));
        referrer["size"] = size.into();
        registry.api = Api::Pages(vec![vec![referrer.clone(), referrer]]);
        assert_verified(&registry.judge_by(&signer).await, "(bundle)");
    }
}

/// Nor is a place free that breaks off before the end.
#[tokio::test]
async fn bytes_of_answers_that_break_off_are_counted() {
    let (digest, signer) = (image().digest, Signer::p256());
    for (fails, most) in [("referrers", 100), ("blobs", 200)] {
        let mut registry = Registry::new(Api::Absent);
        let listed = strange_bundles(&mut registry, &digest, 150);
        registry.failing = match fails {
            "blobs" => registry.blobs.keys().map(ToString::to_string).collect(),
            _ => listed.iter().map(|referrer| referrer["digest"].as_str().unwrap().to_owned()).collect(),
        };
        registry.received = (1 << 20) - 1;
        registry.api = Api::Pages(vec![listed]);
        assert_unknown(&registry.judge_by(&signer).await, "500", true);
        let asked = registry.asked.lock().unwrap().len();
        assert!(asked < most, "{fails}: {asked}");
    }
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
async fn a_search_takes_no_longer_than_it_may() {
    let name = ImageName { host: "registry.acme.com".parse().unwrap(), repository: "team/app".parse().unwrap() };
    let schemes = schemes().await;
    tokio::time::pause();
    let outcomes = verify(&Silent, &schemes, &Tasks::new(), &name, &image(), &[Signer::p256().authority()]).await;
    assert_unknown(&outcomes[0].1, "after 60 s the rest was not looked at", true);
}

#[tokio::test]
async fn any_key_of_an_authority_suffices() {
    let (digest, old, new) = (image().digest, Signer::p256(), Signer::ed25519());
    let registry = Registry::with_bundle(&old.bundle(&statement(&digest)));
    let by = |keys: Vec<PublicKey>| vec![Arc::new(Authority::new("a", Scheme::cosign_keys(keys)))];
    assert_verified(&registry.judge(&by(vec![new.key(), old.key()])).await[0], "ECDSA P-256");
    assert_unknown(&registry.judge(&by(vec![])).await[0], "the authority has no key", false);
}

/// Who signed is said by key, whatever the names; and everyone who may make a difference is looked for.
#[tokio::test]
async fn signers_are_keys_and_not_names() {
    let (digest, one, two) = (image().digest, Signer::p256(), Signer::ed25519());
    let registry = Registry::with_bundle(&one.bundle(&statement(&digest)))
        .with_classic(&digest, vec![two.classic(&payload(&digest))]);
    let ids = |outcome: &TrustOutcome| match outcome {
        TrustOutcome::Verified { by, unseen: None, .. } => by.iter().map(|signatory| signatory.id.clone()).collect(),
        other => panic!("{other:?}"),
    };
    let id = |signer: &Signer| signer.key().fingerprint().to_string();
    let copies = registry.judge(&[one.authority_called("a"), one.authority_called("b")]).await;
    assert_eq!(copies.iter().map(ids).collect::<Vec<Vec<_>>>(), [[id(&one)], [id(&one)]]);
    let pair = |name: &str, keys: [&Signer; 2]| {
        Arc::new(Authority::new(name, Scheme::cosign_keys(keys.iter().map(|signer| signer.key()).collect())))
    };
    let (a, b) = (pair("a", [&one, &two]), pair("b", [&one, &two]));
    for outcome in registry.judge(&[a.clone(), b]).await {
        assert_eq!(ids(&outcome).len(), 2, "both count, as one alone could not satisfy both");
    }
    // The key that both share signed; whether the others did is not known while a place is silent.
    let (third, fourth) = (Signer::p256(), Signer::p256());
    let (a, b) = (pair("a", [&one, &third]), pair("b", [&one, &fourth]));
    let mut silent = Registry::with_bundle(&one.bundle(&statement(&digest)));
    silent.failing.push(format!("sha256-{}", digest.hex()));
    for outcome in silent.judge(&[a, b]).await {
        let TrustOutcome::Verified { by, unseen: Some(unseen), .. } = &outcome else { panic!("{outcome:?}") };
        assert!(by.len() == 1 && unseen.temporary && unseen.why.contains("500"), "{outcome:?}");
    }
}

/// A signature is one wherever it is, and whatever the other places answer.
#[tokio::test]
async fn the_search_goes_on_after_trouble() {
    let (digest, signer) = (image().digest, Signer::p256());
    let bundle = signer.bundle(&statement(&digest));
    let image = &*Box::leak(image_text().into_boxed_str());
    for body in ["<html>", "{}", "[]", "", "{\"errors\": []}", "{\"manifests\": null}", image] {
        for api in [Api::Answers(body), Api::Fails(true), Api::Fails(false), Api::Endless] {
            let mut registry = Registry::new(api);
            let descriptor = registry.bundle(&digest, &bundle);
            registry.manifests.insert(format!("sha256-{}", digest.hex()), index_json(&[descriptor]));
            assert_verified(&registry.judge_by(&signer).await, "(bundle)");
        }
    }
    let mut registry = Registry::new(Api::Absent);
    let sbom = registry.push_blob("application/spdx+json", b"{}".to_vec());
    let sbom = registry.push(&manifest_json(&json!([sbom]), Some(&digest)));
    let descriptor = registry.bundle(&digest, &bundle);
    let odd = [json!({"digest": format!("blake3:{}", "0".repeat(64))}), json!({}), json!(null), json!({"digest": 1})];
    registry.manifests.insert(format!("sha256-{}", digest.hex()), index_json(std::slice::from_ref(&descriptor)));
    registry.api = Api::Pages(vec![vec![sbom.clone()]]);
    assert_verified(&registry.judge_by(&signer).await, "(bundle)");
    registry.manifests.remove(&format!("sha256-{}", digest.hex()));
    assert_eq!(registry.judge_by(&signer).await, TrustOutcome::Unverified { found: vec![] });
    for odd in odd {
        registry.api = Api::Pages(vec![vec![odd.clone(), descriptor.clone()]]);
        assert_verified(&registry.judge_by(&signer).await, "(bundle)");
        registry.api = Api::Pages(vec![vec![odd, sbom.clone()]]);
        assert_unknown(&registry.judge_by(&signer).await, "1 entries cannot be read", false);
    }
    // A page that cannot be read hides no other.
    registry.api = Api::Pages(vec![vec![json!(null)], vec![descriptor]]);
    assert_verified(&registry.judge_by(&signer).await, "(bundle)");
    registry.api = Api::CutShort;
    assert_unknown(&registry.judge_by(&signer).await, "a page of the list of referrers is missing", true);
}

/// GitLab answers the referrers tag with the image: that is not a list, and no trouble.
#[tokio::test]
async fn a_referrers_tag_that_is_the_image_lists_nothing() {
    let (digest, signer) = (image().digest, Signer::p256());
    let mut registry = Registry::new(Api::Absent);
    registry.manifests.insert(format!("sha256-{}", digest.hex()), image().bytes);
    assert_eq!(registry.judge_by(&signer).await, TrustOutcome::Unverified { found: vec![] });
    let signed = registry.with_classic(&digest, vec![signer.classic(&payload(&digest))]);
    assert_verified(&signed.judge_by(&signer).await, "(classic");
}

#[tokio::test]
async fn reasons_are_bounded() {
    let digest = image().digest;
    let registry = Registry::new(Api::Absent).with_classic(&digest, strangers(&digest, 150));
    let TrustOutcome::Unverified { found } = registry.judge_by(&Signer::p256()).await else { panic!() };
    assert_eq!((found.len(), &*found[20].to_string()), (21, "130 more: do not count"));
}

/// Each signature is listed with its place and its result. Broken ones next to a good one do not fail the image.
#[tokio::test]
async fn each_signature_has_a_finding() {
    let (digest, signer, stranger) = (image().digest, Signer::p256(), Signer::ed25519());
    let mut registry = Registry::new(Api::Absent);
    let broken = registry.bundle(&digest, &json!({"mediaType": "x"}));
    let strange = registry.bundle(&digest, &stranger.bundle(&statement(&digest)));
    let good = registry.bundle(&digest, &signer.bundle(&statement(&digest)));
    let place = |descriptor: &Value| format!("referrer {}", descriptor["digest"].as_str().unwrap());
    registry.api = Api::Pages(vec![vec![broken.clone(), strange.clone(), good.clone()]]);
    let outcome = registry.judge_by(&signer).await;
    assert_verified(&outcome, "(bundle)");
    let [verified, no_bundle, not_ours] = outcome.found() else { panic!("{outcome:?}") };
    assert_eq!(verified.signer(), Some(&*signer.key().fingerprint().to_string()));
    for (finding, descriptor) in [(verified, &good), (no_bundle, &broken), (not_ours, &strange)] {
        assert_eq!(finding.place, place(descriptor));
        assert!(finding.form.starts_with("bundle "), "{finding:?}");
    }
    let SignatureResult::Refused { why, hint: Some(hint) } = &not_ours.result else { panic!("{not_ours:?}") };
    assert!(why.contains("was not made by ECDSA P-256 key") && hint.contains("add the signer's key"), "{not_ours:?}");
    assert!(matches!(&no_bundle.result, SignatureResult::Refused { why, .. } if why.contains("not a Sigstore bundle")));
    // What was read is listed even if the outcome is unknown.
    registry.failing.push(format!("sha256-{}.sig", digest.hex()));
    let unknown = registry.judge_by(&Signer::p256()).await;
    assert_unknown(&unknown, "500 Internal Server Error", true);
    assert_eq!(unknown.found().len(), 3);
}

#[tokio::test]
async fn schemes_of_other_versions_are_unknown() {
    let notary = Scheme::Notary(NotaryTrust::default());
    let gpg = SimpleSigner { keyrings: vec![], identity: SignedIdentity::MatchExact, store: None };
    let [issuer, identity] = ["i", "x"].map(|text| TextPattern::Exact(text.into()));
    let keyless = CosignSigners::Keyless(Keyless { issuer, identity, claims: BTreeMap::new() });
    let keyless = Scheme::Cosign(CosignAuthority { signers: keyless, ..CosignAuthority::of_keys(vec![]) }.into());
    for (scheme, part) in [
        (keyless, "keyless"),
        (Scheme::Gpg(gpg.into()), "OpenPGP"),
        (notary, "no notary server is known for registry.acme.com"),
        (Scheme::Unusable { why: "secret a/b is missing".into() }, "secret a/b is missing"),
    ] {
        let registry = Registry::new(Api::Absent);
        let outcome = registry.judge(&[Arc::new(Authority::new("a", scheme))]).await.remove(0);
        assert_unknown(&outcome, part, false);
        assert!(registry.asked.lock().unwrap().is_empty());
    }
}

#[tokio::test]
async fn a_manifest_named_by_sha512_is_found_by_that_name() {
    let signer = Signer::p256();
    let subject = image().named(Digest::of(Algorithm::Sha512, &image().bytes)).unwrap();
    let mut registry = Registry { subject: subject.digest, ..Registry::new(Api::Absent) };
    let mut statement = statement(&image().digest);
    statement["subject"] = json!([{"digest": {"sha512": subject.digest.hex()}}]);
    let descriptor = registry.bundle(&subject.digest, &signer.bundle(&statement));
    registry.manifests.insert(format!("sha512-{}", &subject.digest.hex()[..64]), index_json(&[descriptor]));
    let name = ImageName { host: "registry.acme.com".parse().unwrap(), repository: "team/app".parse().unwrap() };
    let outcomes = verify(&registry, &schemes().await, &Tasks::new(), &name, &subject, &[signer.authority()]).await;
    assert_verified(&outcomes[0].1, "(bundle)");
}

/// What cosign itself wrote: see tests/data/cosign/README.md.
#[tokio::test]
async fn what_cosign_writes() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/data/cosign");
    let authority = |name: &str| {
        let pem = std::fs::read_to_string(root.join(name).with_extension("pub")).unwrap();
        Arc::new(Authority::new(name, Scheme::cosign_keys(vec![PublicKey::from_pem(&pem).unwrap()])))
    };
    let authorities = ["p256", "p384", "ed25519", "stranger"].map(authority);
    let image = Manifest::parse(std::fs::read(root.join("image.json")).unwrap().into(), None).unwrap();
    for (case, form) in [("classic", "(classic, signed as"), ("bundle", "(bundle)")] {
        let registry = recorded(&root.join(case), image.digest);
        let name = ImageName { host: "registry.acme.com".parse().unwrap(), repository: registry.repository.clone() };
        let outcomes = verify(&registry, &schemes().await, &Tasks::new(), &name, &image, &authorities).await;
        outcomes[..3].iter().for_each(|(_, outcome)| assert_verified(outcome, form));
        assert!(matches!(&outcomes[3].1, TrustOutcome::Unverified { found } if found.len() == 3), "{outcomes:?}");
        for manifest in registry.manifests.values().map(|bytes| Manifest::parse(bytes.clone(), None).unwrap()) {
            let Content::Image { config, layers } = &manifest.content else { continue };
            let layers: Vec<_> = layers.iter().map(|layer| registry.blobs[&layer.digest].clone()).collect();
            assert_eq!(is_attachment(&manifest, &registry.blobs[&config.digest], &layers), Ok(()), "{case}");
        }
    }
}

/// A registry as it was recorded: `tag/NAME`, `manifest/…`, `blob/…`.
fn recorded(folder: &Path, subject: Digest) -> Registry {
    let files = |kind: &str| {
        let entries = std::fs::read_dir(folder.join(kind)).into_iter().flatten().map(|entry| entry.unwrap());
        entries
            .map(|entry| (entry.file_name().into_string().unwrap(), Bytes::from(std::fs::read(entry.path()).unwrap())))
            .collect::<Vec<_>>()
    };
    let mut registry = Registry { subject, ..Registry::new(Api::Absent) };
    registry.manifests.extend(files("tag"));
    registry.manifests.extend(files("manifest").into_iter().map(|(_, b)| (Digest::sha256(&b).to_string(), b)));
    registry.blobs.extend(files("blob").into_iter().map(|(_, bytes)| (Digest::sha256(&bytes), bytes)));
    registry
}
