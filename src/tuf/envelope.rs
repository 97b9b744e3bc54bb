//! A signed document: what is signed, and the signatures.

use std::collections::{BTreeMap, BTreeSet};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::canonical::canonical;
use super::key::TufKey;
use super::metadata::RoleKeys;
use crate::oci::{Digest, json};

/// The maximum number of signatures of one document that are looked at.
const MAX_SIGNATURES: usize = 64;

/// The memory in bytes that the values of a document may take: enough for 40,000 tags with one hash each.
const MAX_PARSED: usize = 64 * 1024 * 1024;

/// The keys of the format, so that no other key folds to one of them.
const KNOWN: &[&str] = &[
    "_type",
    "consistent_snapshot",
    "delegations",
    "expires",
    "hashes",
    "keyid",
    "keyids",
    "keys",
    "keytype",
    "keyval",
    "length",
    "meta",
    "method",
    "name",
    "paths",
    "public",
    "roles",
    "sig",
    "signatures",
    "signed",
    "targets",
    "threshold",
    "version",
];
/// The objects whose keys are data.
const FREE_FORM: &[&str] = &["custom", "hashes", "keys", "meta", "roles", "targets"];

/// Why a document is not acceptable. The text is complete and names no document.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidDocument(String);

impl InvalidDocument {
    pub(super) fn new(why: impl Into<String>) -> Self {
        Self(why.into())
    }
}

/// A document that was parsed and whose signatures were not verified yet.
#[derive(Clone, Debug)]
pub struct SignedDocument {
    /// What is signed, in canonical form.
    message: Vec<u8>,
    signed: Value,
    signatures: Vec<Signature>,
}

#[derive(Clone, Debug)]
struct Signature {
    key_id: String,
    method: String,
    bytes: Vec<u8>,
}

#[derive(Deserialize)]
struct WireDocument {
    signed: Value,
    #[serde(default)]
    signatures: Vec<WireSignature>,
}

#[derive(Deserialize)]
struct WireSignature {
    keyid: String,
    method: String,
    sig: String,
}

impl SignedDocument {
    /// Parses a document strictly: one meaning for every reader, integers only.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(bytes: &[u8]) -> Result<Self, InvalidDocument> {
        let value = json::parse_dense(bytes, KNOWN, FREE_FORM, MAX_PARSED)
            .map_err(|error| InvalidDocument::new(error.to_string()))?;
        let WireDocument { signed, signatures } = typed(value)?;
        if signatures.len() > MAX_SIGNATURES {
            return Err(InvalidDocument::new(format!("it has more than {MAX_SIGNATURES} signatures")));
        }
        let signature = |wire: WireSignature| {
            let bytes = STANDARD.decode(&wire.sig).map_err(|_| InvalidDocument::new("a signature is not base64"))?;
            Ok(Signature { key_id: wire.keyid, method: wire.method, bytes })
        };
        let signatures = signatures.into_iter().map(signature).collect::<Result<_, InvalidDocument>>()?;
        Ok(Self { message: canonical(&signed)?, signed, signatures })
    }

    /// The canonical form of what is signed.
    pub fn message(&self) -> &[u8] {
        &self.message
    }

    /// What is signed, as a type.
    ///
    /// # Errors
    /// It is not of this type.
    pub(super) fn signed<T: DeserializeOwned>(&self) -> Result<T, InvalidDocument> {
        T::deserialize(&self.signed).map_err(|error| InvalidDocument::new(error.to_string()))
    }

    /// The fingerprints of the keys of a role that have signed. A key that is listed twice counts once.
    ///
    /// # Errors
    /// Fewer keys than the threshold have signed. The text says why each signature does not count.
    pub fn verify(
        &self,
        keys: &BTreeMap<String, TufKey>,
        role: &RoleKeys,
    ) -> Result<BTreeSet<Digest>, InvalidDocument> {
        let (mut signed, mut refused) = (BTreeSet::new(), Vec::new());
        for signature in &self.signatures {
            let id = short(&signature.key_id);
            match role.key_ids.contains(&signature.key_id).then(|| keys.get(&signature.key_id)).flatten() {
                None => refused.push(format!("key {id} is not a key of the role")),
                Some(key) => match key.verify(&signature.method, &self.message, &signature.bytes) {
                    Ok(()) => drop(signed.insert(key.fingerprint())),
                    Err(why) => refused.push(format!("key {id}: {why}")),
                },
            }
        }
        if signed.len() >= role.threshold {
            return Ok(signed);
        }
        let why = if refused.is_empty() { "it has no signature".into() } else { refused.join("; ") };
        let count = format!("valid signatures by different keys: {} of {} required", signed.len(), role.threshold);
        Err(InvalidDocument::new(format!("{count}: {why}")))
    }
}

/// The beginning of an ID of a key, without control characters: it is not verified text.
fn short(key_id: &str) -> String {
    key_id.chars().take(12).flat_map(char::escape_debug).collect()
}

fn typed<T: DeserializeOwned>(value: Value) -> Result<T, InvalidDocument> {
    serde_json::from_value(value).map_err(|error| InvalidDocument::new(error.to_string()))
}
