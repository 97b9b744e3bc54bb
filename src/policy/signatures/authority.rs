//! Authorities: the parties whose signatures count, and the material that verifies these signatures.

pub mod gpg;
mod notary;
mod notation;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;

use crate::oci::{Digest, ImageName};
use crate::policy::keys::key::PublicKey;
use crate::policy::keys::trusted_root::TrustedRoot;
use gpg::SimpleSigner;
pub use notary::{FirstUse, NotaryRoot, NotaryTrust, PinnedRoot, Signer};
pub use notation::{
    CertificateSubject, CheckAction, NotationChecks, NotationStatement, NotationTrust, RegistryScope, RevocationFile,
    StoredCertificate, TimestampRule,
};

mod cosign;
mod text;
mod validity;

pub use cosign::{CosignAuthority, CosignSigners, Keyless, TransparencyLog};
pub use text::{AnchoredRegex, TextPattern};
pub use validity::{KeyValidity, PinnedKey};

/// A party whose signatures count: a name and the means to verify them.
#[derive(Clone, Debug, PartialEq)]
pub struct Authority {
    name: String,
    scheme: Scheme,
    id: AuthorityId,
}

impl Authority {
    /// Creates an authority. Its ID covers the name, the scheme, and all keys and trust roots, so evidence for an old
    /// key never counts for a new key of the same name. The encoding of a key does not affect the ID.
    pub fn new(name: impl Into<String>, scheme: Scheme) -> Self {
        let name = name.into();
        let encoding = Canonical::default().field("name", &name).field("scheme", scheme.encode());
        Self { id: AuthorityId(Digest::sha256(&encoding.0).hex()[..32].into()), name, scheme }
    }

    /// As above, with the configuration's settings for Docker Content Trust.
    pub(in crate::policy) fn with_notary_defaults(self, configured: &NotaryTrust) -> Self {
        match self.scheme {
            Scheme::Notary(trust) => Self::new(self.name, Scheme::Notary(trust.with_defaults(configured))),
            Scheme::Cosign(_) | Scheme::Gpg(_) | Scheme::Notation(_) | Scheme::Unusable { .. } => self,
        }
    }

    /// The name that documents and messages use.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How its signatures are verified.
    pub fn scheme(&self) -> &Scheme {
        &self.scheme
    }

    /// The identifiers of all possible signers. A signer with a long-lived key is identified by the
    /// [fingerprint](crate::policy::keys::key::fingerprint) of the key, in every scheme and in every form, so that one
    /// key is one signer. For cosign with keys, Docker Content Trust with signers, and OpenPGP, these are the keys of
    /// the policy. For every other scheme, the signers are unknown until a signature is found, so one identifier
    /// represents all of them. A keyless signature is identified by the issuer with the identity, because its key is
    /// not kept.
    pub fn signers(&self) -> BTreeSet<String> {
        match &self.scheme {
            Scheme::Cosign(cosign) if matches!(cosign.signers, CosignSigners::Keys(_)) => {
                let id = |pinned: &PinnedKey<PublicKey>| pinned.key.fingerprint().to_string();
                let ids = cosign.keys().iter().map(id);
                match &cosign.attestation {
                    Some(rule) => ids.map(|id| rule.signer(&id)).collect(),
                    None => ids.collect(),
                }
            }
            Scheme::Gpg(signer) => signer.signers(),
            Scheme::Notary(NotaryTrust { signers, .. }) if !signers.is_empty() => {
                signers.iter().map(|signer| signer.key.key_fingerprint().to_string()).collect()
            }
            Scheme::Unusable { .. } => [format!("authority {}", self.id)].into(),
            Scheme::Cosign(_) | Scheme::Notation(_) | Scheme::Notary(_) => {
                [format!("scheme {}", Digest::sha256(&self.scheme.encode()))].into()
            }
        }
    }

    /// The repository that holds its signatures; `None` for the image's own.
    pub fn signature_repository(&self) -> Option<&ImageName> {
        match &self.scheme {
            Scheme::Cosign(cosign) => cosign.repository.as_ref(),
            Scheme::Gpg(_) | Scheme::Notation(_) | Scheme::Notary(_) | Scheme::Unusable { .. } => None,
        }
    }

    /// Sets of keys that one signer has, in the form of [`signers`](Self::signers): an OpenPGP key and its subkeys.
    pub(in crate::policy) fn key_sets(&self) -> Vec<BTreeSet<String>> {
        match &self.scheme {
            Scheme::Gpg(signer) => signer.keyrings.iter().flat_map(|ring| ring.key.key_sets()).collect(),
            Scheme::Cosign(_) | Scheme::Notation(_) | Scheme::Notary(_) | Scheme::Unusable { .. } => Vec::new(),
        }
    }

    /// Its keys whose validity is limited, each as messages refer to it.
    pub fn limited_keys(&self) -> Vec<(String, KeyValidity)> {
        let all: Vec<_> = match &self.scheme {
            Scheme::Cosign(cosign) => cosign.keys().iter().map(|one| (one.key.to_string(), one.validity)).collect(),
            Scheme::Gpg(signer) => {
                signer.keyrings.iter().map(|one| (format!("key ring {}", one.key), one.validity)).collect()
            }
            Scheme::Notary(trust) => {
                trust.signers.iter().map(|one| (format!("key of signer {}", one.name), one.validity)).collect()
            }
            Scheme::Notation(_) | Scheme::Unusable { .. } => Vec::new(),
        };
        all.into_iter().filter(|(_, validity)| validity.is_limited()).collect()
    }

    /// Whether every key of the authority is outside its validity at this time. It decides about signatures whose
    /// signing time no third party confirms.
    pub fn is_out_of_validity(&self, now: Timestamp) -> bool {
        let limited = self.limited_keys();
        let is_every_key_limited = limited.len() >= self.key_count() && !limited.is_empty();
        is_every_key_limited && limited.iter().all(|(_, validity)| validity.check(None, now).is_err())
    }

    /// The number of keys, or rings of keys, that can have a validity.
    fn key_count(&self) -> usize {
        match &self.scheme {
            Scheme::Cosign(cosign) => cosign.keys().len(),
            Scheme::Gpg(signer) => signer.keyrings.len(),
            Scheme::Notary(trust) => trust.signers.len(),
            Scheme::Notation(_) | Scheme::Unusable { .. } => 0,
        }
    }

    /// The ID under which its evidence is stored.
    pub fn id(&self) -> &AuthorityId {
        &self.id
    }
}

/// Identifies an authority together with its keys and trust roots: 32 hexadecimal digits.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct AuthorityId(Arc<str>);

impl fmt::Display for AuthorityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// How signatures are made, and the material that verifies them. What other modules ask about any scheme is a method
/// here or of [`Authority`]. None of their matches has a wildcard, so that the compiler names the questions that a new
/// scheme must answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Scheme {
    /// cosign: classic `.sig` tags and Sigstore bundles.
    Cosign(Box<CosignAuthority>),
    /// Simple signing with OpenPGP (containers/image).
    Gpg(Box<SimpleSigner>),
    /// Notary Project signatures.
    Notation(Box<NotationTrust>),
    /// Docker Content Trust.
    Notary(NotaryTrust),
    /// An authority whose material is missing. It never verifies anything.
    Unusable {
        /// What is missing.
        why: String,
    },
}

impl Scheme {
    /// The name in explanations.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Cosign(cosign) => match cosign.signers {
                CosignSigners::Keys(_) => "cosign with a key",
                CosignSigners::Keyless(_) => "cosign keyless",
            },
            Self::Gpg { .. } => "OpenPGP simple signing",
            Self::Notation { .. } => "notation",
            Self::Notary { .. } => "Docker Content Trust",
            Self::Unusable { .. } => "none",
        }
    }

    /// The trusted roots of Sigstore that its signatures are verified with.
    pub fn trusted_roots(&self) -> &[TrustedRoot] {
        match self {
            Self::Cosign(cosign) => &cosign.roots,
            Self::Gpg(_) | Self::Notation(_) | Self::Notary(_) | Self::Unusable { .. } => &[],
        }
    }

    /// Whether nothing can be verified without a trusted root of Sigstore.
    pub(in crate::policy) fn needs_trusted_root(&self) -> bool {
        match self {
            Self::Cosign(cosign) => cosign.needs_root(),
            Self::Gpg(_) | Self::Notation(_) | Self::Notary(_) | Self::Unusable { .. } => false,
        }
    }

    /// The same with these trusted roots; `None` if it uses no roots, or has its own.
    pub(in crate::policy) fn with_trusted_roots(&self, roots: &[TrustedRoot]) -> Option<Self> {
        match self {
            Self::Cosign(cosign) if cosign.uses_roots() && cosign.roots.is_empty() => {
                let mut cosign = cosign.clone();
                cosign.roots = roots.to_vec();
                Some(Self::Cosign(cosign))
            }
            Self::Cosign(_) | Self::Gpg(_) | Self::Notation(_) | Self::Notary(_) | Self::Unusable { .. } => None,
        }
    }

    /// Whether its evidence is on the notary server that belongs to the registry of the image.
    pub(in crate::policy) fn needs_notary_of_registry(&self) -> bool {
        match self {
            Self::Notary(trust) => trust.server.is_none(),
            Self::Cosign(_) | Self::Gpg(_) | Self::Notation(_) | Self::Unusable { .. } => false,
        }
    }

    /// cosign with public keys, with the defaults for everything else.
    #[cfg(test)]
    pub(crate) fn cosign_keys(keys: Vec<PublicKey>) -> Self {
        Self::Cosign(Box::new(CosignAuthority::of_keys(keys)))
    }

    /// The canonical encoding: equal schemes have equal encodings, and different schemes have different encodings.
    /// Lists are encoded as sets, because the order and repetition of keys do not affect verification.
    ///
    /// The patterns do not use `..`, so the compiler reports a new field that is not encoded.
    fn encode(&self) -> Vec<u8> {
        let of = |kind: &str| Canonical::default().field("kind", kind);
        let encoding = match self {
            Self::Cosign(cosign) => cosign.encode(),
            Self::Gpg(signer) => signer.encode(),
            Self::Notation(trust) => return trust.encode(),
            Self::Notary(trust) => trust.encode(),
            Self::Unusable { why } => of("unusable").field("why", why),
        };
        encoding.0
    }
}

fn fingerprint(digest: Digest) -> String {
    digest.to_string()
}

/// An unambiguous encoding: every name and value is preceded by its length, every set is preceded by its size, and the
/// members of a set are sorted and unique.
#[derive(Default)]
pub(in crate::policy) struct Canonical(pub(in crate::policy) Vec<u8>);

impl Canonical {
    pub(in crate::policy) fn field(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.set(name, [value])
    }

    /// Encodes a set of values. An optional value is a set with at most one member.
    pub(in crate::policy) fn set<T: AsRef<[u8]>>(mut self, name: &str, values: impl IntoIterator<Item = T>) -> Self {
        let values: BTreeSet<Vec<u8>> = values.into_iter().map(|value| value.as_ref().to_vec()).collect();
        self.bytes(name.as_bytes());
        self.0.extend((values.len() as u64).to_be_bytes());
        values.iter().for_each(|value| self.bytes(value));
        self
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.0.extend((bytes.len() as u64).to_be_bytes());
        self.0.extend(bytes);
    }
}

#[cfg(test)]
mod tests;
