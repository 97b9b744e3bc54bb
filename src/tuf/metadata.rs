//! The roles' documents as types.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Deserializer};

use super::envelope::{InvalidDocument, SignedDocument};
use super::key::{TufKey, WireKey};
use crate::oci::{Algorithm, Digest, Tag};

/// The maximum number of keys in one document, and of roles that it delegates to.
const MAX_KEYS: usize = 256;
/// The highest version of a document. Notary counts with 64-bit signed numbers.
const MAX_VERSION: u64 = i64::MAX as u64;

/// The keys that may sign for a role, and how many of them must.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RoleKeys {
    /// The IDs of the keys.
    pub key_ids: BTreeSet<String>,
    /// How many of them must have signed. At least one.
    pub threshold: usize,
}

/// The root of trust of a repository.
#[derive(Clone, Debug)]
pub struct Root {
    /// The number of this version.
    pub version: u64,
    /// When it ends.
    pub expires: jiff::Timestamp,
    /// All keys by their IDs.
    pub keys: BTreeMap<String, TufKey>,
    /// The roles `root`, `timestamp`, `snapshot` and `targets`.
    roles: BTreeMap<String, RoleKeys>,
}

/// Names the snapshot that counts.
#[derive(Clone, Debug)]
pub struct Timestamp {
    /// The number of this version.
    pub version: u64,
    /// When it ends.
    pub expires: jiff::Timestamp,
    /// The snapshot.
    pub snapshot: FileMeta,
}

/// Names the documents that count together.
#[derive(Clone, Debug)]
pub struct TufSnapshot {
    /// The number of this version.
    pub version: u64,
    /// When it ends.
    pub expires: jiff::Timestamp,
    /// The documents by role: `root`, `targets`, `targets/releases`.
    pub meta: BTreeMap<String, FileMeta>,
}

/// Names the targets (tags) of a role, and the roles that it delegates to.
#[derive(Clone, Debug)]
pub struct Targets {
    /// The number of this version.
    pub version: u64,
    /// When it ends.
    pub expires: jiff::Timestamp,
    /// The targets by name. A target whose name cannot be a tag is left out, because no image can be pulled by it.
    pub targets: BTreeMap<Tag, TufTarget>,
    /// The keys of the roles that it delegates to, by their IDs.
    pub keys: BTreeMap<String, TufKey>,
    /// The roles that it delegates to.
    pub delegations: Vec<Delegation>,
}

/// A target: a manifest.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TufTarget {
    /// Its digest.
    pub digest: Digest,
    /// Its size in bytes.
    pub length: u64,
}

/// A role that another role delegates to.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Delegation {
    /// Its name: `targets/releases`.
    pub name: String,
    /// Its keys.
    pub keys: RoleKeys,
    /// The prefixes of the tags that it may sign. An empty prefix allows all; without any prefix it may sign none.
    pub paths: Vec<String>,
}

/// The size and the hashes of a document.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct FileMeta {
    hashes: BTreeMap<String, String>,
    /// Its size in bytes.
    pub length: u64,
}

impl FileMeta {
    /// The SHA-256 digest.
    ///
    /// # Errors
    /// It has none.
    pub fn sha256(&self) -> Result<Digest, InvalidDocument> {
        let bytes = self.hashes.get("sha256").and_then(|text| STANDARD.decode(text).ok()).filter(|b| b.len() == 32);
        let hex = bytes.map(|bytes| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>());
        hex.and_then(|hex| format!("sha256:{hex}").parse().ok())
            .ok_or_else(|| InvalidDocument::new("a SHA-256 hash is missing or has a wrong length"))
    }

    /// Checks the size and all hashes of a document.
    ///
    /// # Errors
    /// They differ.
    pub fn check(&self, bytes: &[u8]) -> Result<(), InvalidDocument> {
        let is_512 = |text: &String| {
            STANDARD.decode(text).is_ok_and(|hash| hash == Digest::of(Algorithm::Sha512, bytes).as_bytes())
        };
        let has_length = bytes.len() as u64 == self.length;
        if has_length && Digest::sha256(bytes) == self.sha256()? && self.hashes.get("sha512").is_none_or(is_512) {
            return Ok(());
        }
        Err(InvalidDocument::new("its size or hash does not match the signed one"))
    }
}

#[derive(Deserialize)]
struct WireRoot {
    _type: String,
    version: u64,
    expires: jiff::Timestamp,
    keys: BTreeMap<String, WireKey>,
    roles: BTreeMap<String, WireRole>,
}

#[derive(Deserialize)]
struct WireRole {
    keyids: Vec<String>,
    threshold: usize,
}

#[derive(Deserialize)]
struct WireMeta {
    _type: String,
    version: u64,
    expires: jiff::Timestamp,
    meta: BTreeMap<String, FileMeta>,
}

#[derive(Deserialize)]
struct WireTargets {
    _type: String,
    version: u64,
    expires: jiff::Timestamp,
    #[serde(default, deserialize_with = "null_as_default")]
    targets: BTreeMap<String, FileMeta>,
    #[serde(default, deserialize_with = "null_as_default")]
    delegations: WireDelegations,
}

#[derive(Default, Deserialize)]
struct WireDelegations {
    #[serde(default, deserialize_with = "null_as_default")]
    keys: BTreeMap<String, WireKey>,
    #[serde(default, deserialize_with = "null_as_default")]
    roles: Vec<WireDelegation>,
}

#[derive(Deserialize)]
struct WireDelegation {
    name: String,
    keyids: Vec<String>,
    threshold: usize,
    #[serde(default, deserialize_with = "null_as_default")]
    paths: Vec<String>,
}

/// Go writes an empty list or map as null.
fn null_as_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

impl Root {
    /// Reads a root document. Its signatures are not verified.
    ///
    /// # Errors
    /// What is wrong with it: a role is missing, or a key does not have its ID.
    pub fn read(envelope: &SignedDocument) -> Result<Self, InvalidDocument> {
        let wire: WireRoot = envelope.signed()?;
        expect_type(&wire._type, "Root")?;
        let keys = keys(&wire.keys)?;
        let mut roles = BTreeMap::new();
        for name in ["root", "timestamp", "snapshot", "targets"] {
            let role = wire.roles.get(name).ok_or_else(|| InvalidDocument::new(format!("it has no role {name}")))?;
            roles.insert(name.to_owned(), role_keys(&role.keyids, role.threshold)?);
        }
        Ok(Self { version: version(wire.version)?, expires: wire.expires, keys, roles })
    }

    /// The keys of one of the four roles.
    pub fn role(&self, name: &str) -> &RoleKeys {
        &self.roles[name]
    }

    /// Whether no key of a role in this root is a key of the same role in another root, so that nothing that was signed
    /// under the one verifies under the other.
    pub fn has_replaced_keys(&self, name: &str, other: &Self) -> bool {
        let keys = |root: &Self| -> BTreeSet<Digest> {
            root.role(name).key_ids.iter().filter_map(|id| root.keys.get(id)).map(TufKey::fingerprint).collect()
        };
        keys(self).is_disjoint(&keys(other))
    }

    /// The keys of the role `root` that are in this document.
    pub fn root_keys(&self) -> impl Iterator<Item = &TufKey> {
        self.role("root").key_ids.iter().filter_map(|id| self.keys.get(id))
    }
}

impl Timestamp {
    /// Reads a timestamp document.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(envelope: &SignedDocument) -> Result<Self, InvalidDocument> {
        let mut wire: WireMeta = envelope.signed()?;
        expect_type(&wire._type, "Timestamp")?;
        let snapshot = wire.meta.remove("snapshot").ok_or_else(|| InvalidDocument::new("it names no snapshot"))?;
        Ok(Self { version: version(wire.version)?, expires: wire.expires, snapshot })
    }
}

impl TufSnapshot {
    /// Reads a snapshot document.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn read(envelope: &SignedDocument) -> Result<Self, InvalidDocument> {
        let wire: WireMeta = envelope.signed()?;
        expect_type(&wire._type, "Snapshot")?;
        Ok(Self { version: version(wire.version)?, expires: wire.expires, meta: wire.meta })
    }
}

impl Targets {
    /// Reads a targets document of the role with this name.
    ///
    /// # Errors
    /// What is wrong with it: a delegated role is not one level below this one, or is listed twice.
    pub fn read(envelope: &SignedDocument, role: &str) -> Result<Self, InvalidDocument> {
        let wire: WireTargets = envelope.signed()?;
        expect_type(&wire._type, "Targets")?;
        let keys = keys(&wire.delegations.keys)?;
        if wire.delegations.roles.len() > MAX_KEYS {
            return Err(InvalidDocument::new(format!("it delegates to more than {MAX_KEYS} roles")));
        }
        let mut names = BTreeSet::new();
        let mut delegations = Vec::new();
        for WireDelegation { name, keyids, threshold, paths } in wire.delegations.roles {
            let child = name.strip_prefix(role).and_then(|rest| rest.strip_prefix('/'));
            let is_plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit() || matches!(c, b'-' | b'_');
            if !child.is_some_and(|child| !child.is_empty() && child.bytes().all(is_plain)) {
                return Err(InvalidDocument::new(format!(
                    "it delegates to {name:?}, which is not a role below {role}"
                )));
            }
            if !names.insert(name.clone()) {
                return Err(InvalidDocument::new(format!("it delegates to {name} twice")));
            }
            delegations.push(Delegation { name, keys: role_keys(&keyids, threshold)?, paths });
        }
        let target =
            |(tag, meta): (Tag, FileMeta)| Ok((tag, TufTarget { digest: meta.sha256()?, length: meta.length }));
        let tags = wire.targets.into_iter().filter_map(|(name, meta)| Some((name.parse().ok()?, meta)));
        let targets = tags.map(target).collect::<Result<_, InvalidDocument>>()?;
        Ok(Self { version: version(wire.version)?, expires: wire.expires, targets, keys, delegations })
    }
}

impl Delegation {
    /// Whether it may sign a tag.
    pub fn allows(&self, tag: &Tag) -> bool {
        self.paths.iter().any(|prefix| tag.as_str().starts_with(prefix.as_str()))
    }
}

/// Versions begin with 1. A version that cannot be stored could not be compared with later ones.
fn version(number: u64) -> Result<u64, InvalidDocument> {
    if (1..=MAX_VERSION).contains(&number) {
        return Ok(number);
    }
    Err(InvalidDocument::new(format!("its version is {number}; versions are from 1 to {MAX_VERSION}")))
}

fn expect_type(found: &str, wanted: &str) -> Result<(), InvalidDocument> {
    // Notary compares without regard to case.
    if found.eq_ignore_ascii_case(wanted) {
        return Ok(());
    }
    Err(InvalidDocument::new(format!("its type is {found:?}, not {wanted:?}")))
}

/// The keys by their IDs, each of which must be the one that is computed.
fn keys(wire: &BTreeMap<String, WireKey>) -> Result<BTreeMap<String, TufKey>, InvalidDocument> {
    if wire.len() > MAX_KEYS {
        return Err(InvalidDocument::new(format!("it has more than {MAX_KEYS} keys")));
    }
    let read = |(id, wire): (&String, &WireKey)| {
        let key = TufKey::read(wire)?;
        if key.id() == id {
            return Ok((id.clone(), key));
        }
        Err(InvalidDocument::new(format!("the key {id} has the ID {}", key.id())))
    };
    wire.iter().map(read).collect()
}

fn role_keys(ids: &[String], threshold: usize) -> Result<RoleKeys, InvalidDocument> {
    if threshold == 0 {
        return Err(InvalidDocument::new("a role has a threshold of 0"));
    }
    Ok(RoleKeys { key_ids: ids.iter().cloned().collect(), threshold })
}
