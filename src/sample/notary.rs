//! A notary repository with real signatures: the documents that a notary server has for signed images.
//!
//! Format: github.com/theupdateframework/notary, `tuf/data`.

use std::collections::BTreeMap;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use rcgen::{CertificateParams, DnType, KeyPair, PublicKeyData as _};
use serde_json::{Map, Value, json};

use super::Registry;
use super::signing::SigningError;
use crate::oci::{Algorithm, Digest};
use crate::tuf;

/// When documents expire.
const EXPIRES: &str = "2099-01-01T00:00:00Z";

/// A key of a notary repository: ECDSA P-256, as a certificate for root keys.
pub struct NotaryKey {
    pair: EcdsaKeyPair,
    pem: String,
    value: Value,
    id: String,
}

impl NotaryKey {
    /// Generates a key.
    ///
    /// # Errors
    /// The system cannot provide random numbers.
    pub fn generate() -> Result<Self, SigningError> {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        Self::new(&pair, "ecdsa", &pair.subject_public_key_info())
    }

    /// Generates a key with a certificate for this common name.
    ///
    /// # Errors
    /// The system cannot provide random numbers.
    pub fn certificate(common_name: &str) -> Result<Self, SigningError> {
        Self::certificate_until(common_name, 4096)
    }

    /// The same with a certificate that expires at the beginning of a year.
    ///
    /// # Errors
    /// The system cannot provide random numbers.
    pub fn certificate_until(common_name: &str, year: i32) -> Result<Self, SigningError> {
        let pair = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256)?;
        let mut parameters = CertificateParams::new(Vec::new())?;
        parameters.distinguished_name.push(DnType::CommonName, common_name);
        parameters.not_before = rcgen::date_time_ymd(2000, 1, 1);
        parameters.not_after = rcgen::date_time_ymd(year, 1, 1);
        let certificate = parameters.self_signed(&pair)?;
        Self::new(&pair, "ecdsa-x509", certificate.pem().as_bytes())
    }

    fn new(pair: &KeyPair, kind: &str, public: &[u8]) -> Result<Self, SigningError> {
        let value = json!({"keytype": kind, "keyval": {"private": null, "public": STANDARD.encode(public)}});
        let id = Digest::sha256(&canonical(&value)).hex();
        let signing = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &pair.serialize_der());
        let signing = signing.map_err(|_| SigningError::from(rcgen::Error::CouldNotParseKeyPair))?;
        Ok(Self { pair: signing, pem: pair.public_key_pem(), value, id })
    }

    /// The public key, as a PEM `PUBLIC KEY` block.
    pub fn public_pem(&self) -> &str {
        &self.pem
    }

    /// The ID of the key.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The key as it is in documents.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// A signature of what is signed, as it is in documents.
    pub fn sign(&self, signed: &Value) -> Value {
        let signature = self.pair.sign(&SystemRandom::new(), &canonical(signed));
        let signature = signature.map(|signature| STANDARD.encode(signature)).unwrap_or_default();
        json!({"keyid": self.id, "method": "ecdsa", "sig": signature})
    }
}

/// A role below `targets`.
pub struct SampleDelegation {
    /// Its name: `targets/releases`.
    pub name: String,
    /// Its keys.
    pub keys: Vec<NotaryKey>,
    /// How many of them must sign.
    pub threshold: usize,
    /// The prefixes of the tags that it may sign.
    pub paths: Vec<String>,
    /// The roles that it delegates to.
    pub below: Vec<Self>,
}

impl SampleDelegation {
    /// A role with one new key that may sign all tags.
    ///
    /// # Errors
    /// The system cannot provide random numbers.
    pub fn new(name: &str) -> Result<Self, SigningError> {
        let keys = vec![NotaryKey::generate()?];
        Ok(Self { name: name.into(), keys, threshold: 1, paths: vec![String::new()], below: Vec::new() })
    }
}

/// Changes a document: what is signed before it is signed, or the whole of it afterwards.
pub type Edit<'a> = &'a dyn Fn(&str, &mut Value);

/// A repository on a notary server, with its keys.
pub struct NotaryRepository {
    /// The name: host and repository.
    pub gun: String,
    /// The root keys. All of them sign.
    pub root: Vec<NotaryKey>,
    /// Root keys before a rotation, which sign too.
    pub old_root: Vec<NotaryKey>,
    /// The key of the timestamp.
    pub timestamp: NotaryKey,
    /// The key of the snapshot.
    pub snapshot: NotaryKey,
    /// The key of the targets.
    pub targets: NotaryKey,
    /// The roles below `targets`.
    pub delegations: Vec<SampleDelegation>,
    /// The signed tags by role, with digest and size.
    pub tags: BTreeMap<String, BTreeMap<String, (Digest, u64)>>,
    /// The version of the root.
    pub root_version: u64,
    /// The version of every other document.
    pub version: u64,
    /// When documents expire, by role, where it is not far in the future.
    pub expires: BTreeMap<String, String>,
    /// The documents by file name, without `.json`.
    pub documents: BTreeMap<String, Bytes>,
}

impl NotaryRepository {
    /// A repository with new keys that has signed nothing.
    ///
    /// # Errors
    /// The system cannot provide random numbers.
    pub fn new(gun: &str) -> Result<Self, SigningError> {
        Ok(Self {
            gun: gun.into(),
            root: vec![NotaryKey::certificate(gun)?],
            old_root: Vec::new(),
            timestamp: NotaryKey::generate()?,
            snapshot: NotaryKey::generate()?,
            targets: NotaryKey::generate()?,
            delegations: Vec::new(),
            tags: BTreeMap::new(),
            root_version: 1,
            version: 0,
            expires: BTreeMap::new(),
            documents: BTreeMap::new(),
        })
    }

    /// Signs a tag in a role.
    pub fn sign(&mut self, role: &str, tag: &str, digest: Digest, size: u64) {
        self.tags.entry(role.into()).or_default().insert(tag.into(), (digest, size));
    }

    /// Makes new versions of all documents.
    pub fn publish(&mut self) {
        self.publish_with(&|_, _| {}, &|_, _| {});
    }

    /// The same, with changes of what is signed before it is signed, and of documents afterwards. For attacks.
    pub fn publish_with(&mut self, before: Edit<'_>, after: Edit<'_>) {
        self.version += 1;
        let mut meta = Map::new();
        let root_keys: Vec<&NotaryKey> = self.root.iter().chain(&self.old_root).collect();
        let root = document("root", self.root_value(), &root_keys, before, after);
        meta.insert("root".into(), file_meta(&root));
        let mut new = vec![(format!("{}.root", self.root_version), root.clone()), ("root".into(), root)];
        let targets = self.targets_value("targets", &self.delegations);
        new.push(("targets".into(), document("targets", targets, &[&self.targets], before, after)));
        self.publish_below(&self.delegations, before, after, &mut new);
        for (role, bytes) in &new[2..] {
            meta.insert(role.clone(), file_meta(bytes));
        }
        let snapshot = self.value("Snapshot", "snapshot", &json!({"meta": meta}));
        let snapshot = document("snapshot", snapshot, &[&self.snapshot], before, after);
        let timestamp = self.value("Timestamp", "timestamp", &json!({"meta": {"snapshot": file_meta(&snapshot)}}));
        let timestamp = document("timestamp", timestamp, &[&self.timestamp], before, after);
        new.extend([("snapshot".into(), snapshot), ("timestamp".into(), timestamp)]);
        for (name, bytes) in new {
            self.documents.insert(format!("{name}.{}", Digest::sha256(&bytes).hex()), bytes.clone());
            self.documents.insert(name, bytes);
        }
    }

    fn publish_below(
        &self,
        roles: &[SampleDelegation],
        before: Edit<'_>,
        after: Edit<'_>,
        new: &mut Vec<(String, Bytes)>,
    ) {
        for role in roles {
            let keys: Vec<&NotaryKey> = role.keys.iter().collect();
            let value = self.targets_value(&role.name, &role.below);
            new.push((role.name.clone(), document(&role.name, value, &keys, before, after)));
            self.publish_below(&role.below, before, after, new);
        }
    }

    /// Puts the documents into a registry, which then is a notary server too.
    pub fn put(&self, registry: &Registry) {
        for (name, bytes) in &self.documents {
            registry.put_document(&format!("/v2/{}/_trust/tuf/{name}.json", self.gun), bytes.clone());
        }
    }

    fn root_value(&self) -> Value {
        let mut keys = Map::new();
        for key in self.root.iter().chain([&self.timestamp, &self.snapshot, &self.targets]) {
            keys.insert(key.id.clone(), key.value.clone());
        }
        let role = |key: &NotaryKey| json!({"keyids": [key.id], "threshold": 1});
        let root: Vec<_> = self.root.iter().map(|key| &key.id).collect();
        let roles = json!({
            "root": {"keyids": root, "threshold": 1}, "timestamp": role(&self.timestamp),
            "snapshot": role(&self.snapshot), "targets": role(&self.targets),
        });
        let mut value =
            self.value("Root", "root", &json!({"consistent_snapshot": false, "keys": keys, "roles": roles}));
        value["version"] = self.root_version.into();
        value
    }

    fn targets_value(&self, role: &str, below: &[SampleDelegation]) -> Value {
        let target = |(tag, (digest, size)): (&String, &(Digest, u64))| {
            let hashes = json!({"sha256": STANDARD.encode(digest.as_bytes())});
            (tag.clone(), json!({"hashes": hashes, "length": size}))
        };
        let targets: Map<String, Value> = self.tags.get(role).into_iter().flatten().map(target).collect();
        let keys = below.iter().flat_map(|role| &role.keys).map(|key| (key.id.clone(), key.value.clone()));
        let keys: Map<String, Value> = keys.collect();
        let delegation = |one: &SampleDelegation| {
            let ids: Vec<_> = one.keys.iter().map(|key| &key.id).collect();
            json!({"name": one.name, "keyids": ids, "threshold": one.threshold, "paths": one.paths})
        };
        let roles: Vec<_> = below.iter().map(delegation).collect();
        self.value("Targets", role, &json!({"targets": targets, "delegations": {"keys": keys, "roles": roles}}))
    }

    fn value(&self, kind: &str, role: &str, rest: &Value) -> Value {
        let expires = self.expires.get(role).map_or(EXPIRES, String::as_str);
        let mut value = json!({"_type": kind, "version": self.version, "expires": expires});
        if let (Some(value), Some(rest)) = (value.as_object_mut(), rest.as_object()) {
            value.extend(rest.clone());
        }
        value
    }
}

fn document(role: &str, mut signed: Value, keys: &[&NotaryKey], before: Edit<'_>, after: Edit<'_>) -> Bytes {
    before(role, &mut signed);
    let signatures: Vec<_> = keys.iter().map(|key| key.sign(&signed)).collect();
    let mut document = json!({"signed": signed, "signatures": signatures});
    after(role, &mut document);
    document.to_string().into()
}

fn file_meta(bytes: &[u8]) -> Value {
    let (sha256, sha512) = (Digest::sha256(bytes), Digest::of(Algorithm::Sha512, bytes));
    let hashes = json!({"sha256": STANDARD.encode(sha256.as_bytes()), "sha512": STANDARD.encode(sha512.as_bytes())});
    json!({"hashes": hashes, "length": bytes.len()})
}

/// The canonical form. Values of this module have integers only.
fn canonical(value: &Value) -> Vec<u8> {
    tuf::canonical(value).unwrap_or_default()
}
